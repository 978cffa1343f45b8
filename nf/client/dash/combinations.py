"""Combinations of representations that are played together, and which of them comply with a policy.

TS 26.512 A.3.1 and A.3.2 steps 2, 7 and 9: a combination (audio and video together) at or below the policy threshold
complies. The service descriptor filter names a service description of the MPD, or a bit rate, or both.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

from nf.common.dash.mpd import AdaptationSet, Period, Representation
from nf.common.dash.service_descriptions import ALL, ANY, AUDIO, VIDEO, OperatingBandwidth, ServiceDescription

PLAYED: Final = (VIDEO, AUDIO)


@dataclass(frozen=True, slots=True)
class Combination:
    """Representations that are played together, one for each medium, in the order of PLAYED."""

    representations: tuple[Representation, ...]

    @property
    def bandwidth_bps(self) -> int:
        """Of all together."""
        return sum(each.bandwidth_bps for each in self.representations)

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of its representations."""
        return tuple(each.id for each in self.representations)

    def of(self, media_type: str) -> Representation | None:
        """The representation of a medium; None: it is not played."""
        return next((each for each in self.representations if each.media_type == media_type), None)


@dataclass(frozen=True, slots=True)
class DescriptorFilter:
    """What the Media Session Handler tells the player (A.3.2 step 7).

    service_description_id: of the ServiceDescription to keep to; empty: none is named.
    operating_bandwidth_max_bps: above it nothing complies; None: the service description alone says.
    media_type: the medium that this bound is about; empty: all that is played together.
    """

    service_description_id: str = ""
    operating_bandwidth_max_bps: int | None = None
    media_type: str = ""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a combination must keep to; None: anything. ``of_media`` are bounds of single media.

    service_description: the one that the bounds come from; None: they come from the bit rate of the filter alone.
    """

    max_bps: int | None = None
    of_media: tuple[tuple[str, int], ...] = ()
    target_bps: int | None = None
    service_description: ServiceDescription | None = None

    def admit(self, combination: Combination) -> bool:
        """Whether a combination complies."""
        if self.max_bps is not None and combination.bandwidth_bps > self.max_bps:
            return False
        for media_type, most_bps in self.of_media:
            representation = combination.of(media_type)
            if representation is not None and representation.bandwidth_bps > most_bps:
                return False
        return True


UNBOUNDED: Final = Bounds()


def adaptation_sets(
    period: Period, *, language: str = "", understood: Collection[str] = ()
) -> tuple[AdaptationSet, ...]:
    """The sets that are played: for each medium the one of the language, else with the role main, else the first.

    Sets with an essential property whose scheme is not understood are left out (ISO/IEC 23009-1 §5.8.4.8).
    """
    chosen = []
    for media_type in PLAYED:
        candidates = [
            each
            for each in period.adaptation_sets
            if each.media_type == media_type and all(scheme in understood for scheme in each.essential_properties)
        ]
        if candidates:
            ranked = sorted(
                candidates, key=lambda each: (not language or each.language != language, "main" not in each.roles)
            )
            chosen.append(ranked[0])
    return tuple(chosen)


def combinations(sets: Iterable[AdaptationSet]) -> tuple[Combination, ...]:
    """One representation of each set, in the order of their bandwidth; the better video last where that is equal."""
    choices = [each.representations for each in sets]
    if not choices:
        return ()
    made = [Combination(chosen) for chosen in product(*choices)]
    return tuple(sorted(made, key=_rank))


def _rank(combination: Combination) -> tuple[int, int, tuple[str, ...]]:
    video = combination.of(VIDEO)
    return combination.bandwidth_bps, video.bandwidth_bps if video is not None else 0, combination.ids


def bounds_of(
    descriptions: Sequence[ServiceDescription], wanted: DescriptorFilter | None, *, scopes: Collection[str] = ()
) -> Bounds:
    """What a filter means for an MPD with these service descriptions (step 9). None as filter: no bounds.

    The description that the filter names is taken. Where it names none, or none that is there, it is the one whose
    maximum is the greatest at or below the filter's bit rate. Where there is none of these either, the bit rate alone
    bounds the sum of @bandwidth. Descriptions for other clients (a Scope that is not in ``scopes``) do not count.
    The filter's bit rate bounds in any case: a description that allows more does not lift the policy threshold.
    """
    if wanted is None:
        return UNBOUNDED
    ours = [each for each in descriptions if not each.scopes or any(s.scheme_id_uri in scopes for s in each.scopes)]
    named = [each for each in ours if wanted.service_description_id and each.id == wanted.service_description_id]
    chosen = named[0] if named else _fitting(ours, wanted)
    total, of_media = _policy_bounds(wanted)
    target: int | None = None
    for operating in chosen.operating_bandwidths if chosen is not None else ():
        if operating.media_type == ALL:
            target = operating.target_bps
        if operating.max_bps is None:
            continue
        if operating.media_type == ALL:
            total = _least(total, operating.max_bps)
        for media_type in PLAYED:
            if operating.media_type in (media_type, ANY):
                of_media[media_type] = min(of_media.get(media_type, operating.max_bps), operating.max_bps)
    return Bounds(total, tuple(of_media.items()), target, chosen)


def _policy_bounds(wanted: DescriptorFilter) -> tuple[int | None, dict[str, int]]:
    most_bps = wanted.operating_bandwidth_max_bps
    if most_bps is None or wanted.media_type not in PLAYED:
        return most_bps, {}
    return None, {wanted.media_type: most_bps}


def _fitting(descriptions: Iterable[ServiceDescription], wanted: DescriptorFilter) -> ServiceDescription | None:
    threshold_bps = wanted.operating_bandwidth_max_bps
    if threshold_bps is None:
        return None
    media = (wanted.media_type,) if wanted.media_type in PLAYED else (ALL,)
    fitting = [
        (most_bps, description)
        for description in descriptions
        if (most_bps := _maximum(description.operating_bandwidths, media)) is not None and most_bps <= threshold_bps
    ]
    return max(fitting, key=lambda each: each[0])[1] if fitting else None


def _maximum(bandwidths: Iterable[OperatingBandwidth], media: Collection[str]) -> int | None:
    found = [each.max_bps for each in bandwidths if each.media_type in media and each.max_bps is not None]
    return max(found) if found else None


def _least(one: int | None, other: int) -> int:
    return other if one is None else min(one, other)


@dataclass(frozen=True, slots=True)
class Allowed:
    """What may be played: ``compliant`` says whether it keeps to the bounds. Never empty unless there was nothing."""

    combinations: tuple[Combination, ...]
    compliant: bool


def allowed(candidates: Sequence[Combination], bounds: Bounds) -> Allowed:
    """The combinations that comply. Where none does: the lowest one alone, which is charged the least."""
    compliant = tuple(each for each in candidates if bounds.admit(each))
    if compliant or not candidates:
        return Allowed(compliant, True)
    return Allowed(tuple(candidates[:1]), False)
