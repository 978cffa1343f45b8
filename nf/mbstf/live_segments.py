"""Which segments of a DASH presentation are there by now and not yet taken (ISO/IEC 23009-1 §5.3.9, A.3). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from typing import Final

from nf.common.dash.mpd import Period, Presentation, Representation
from nf.common.dash.segments import (
    Segment,
    available_from,
    earliest_s,
    initialization_of,
    live_edge_s,
    segments,
)

# So many segments before the live edge are taken at the beginning.
_BEHIND: Final = 2
_SEGMENT_S: Final = Fraction(4)
# A presentation without an end is not walked through without one.
_MOST: Final = 20_000


@dataclass(slots=True)
class Positions:
    """How far each representation has been taken: the end of its latest segment."""

    ends: dict[str, Fraction] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DueSegments:
    """Initializations, media segments in the order in which they play, when the next one is there; None: unknown."""

    initializations: tuple[str, ...]
    media: tuple[Segment, ...]
    upcoming: datetime | None
    longest_s: Fraction


def due_segments(presentation: Presentation, positions: Positions, now: datetime) -> DueSegments:
    """What can be fetched by now; ``positions`` moves on past it."""
    initializations: dict[str, None] = {}
    found: list[tuple[Fraction, int, Segment]] = []
    upcoming: list[datetime] = []
    longest = presentation.max_segment_duration_s or Fraction(0)
    for order, (key, period, representation) in enumerate(_representations(presentation)):
        initialization = initialization_of(representation)
        if initialization is not None:
            initializations[initialization.urls[0]] = None
        begin = positions.ends.get(key)
        if begin is None:
            begin = _beginning(presentation, period, representation, now)
        for number, segment in enumerate(segments(period, representation, begin)):
            available = available_from(presentation, segment)
            if available is not None and available > now:
                upcoming.append(available)
                break
            if number >= _MOST:
                break
            longest = max(longest, segment.duration_s)
            found.append((segment.start_s, order, segment))
            positions.ends[key] = segment.end_s
    found.sort(key=lambda each: each[:2])
    return DueSegments(
        tuple(initializations), tuple(each for _, _, each in found), min(upcoming, default=None), longest or _SEGMENT_S
    )


def _representations(presentation: Presentation) -> Iterator[tuple[str, Period, Representation]]:
    for period in presentation.periods:
        for position, each_set in enumerate(period.adaptation_sets):
            for representation in each_set.representations:
                yield f"{period.start_s} {position} {representation.id}", period, representation


def _beginning(presentation: Presentation, period: Period, representation: Representation, now: datetime) -> Fraction:
    if not presentation.dynamic:
        return Fraction(0)
    edge = live_edge_s(presentation, now)
    probe = next(segments(period, representation, max(period.start_s, edge - _SEGMENT_S)), None)
    if probe is None:
        # All of it has been: the last ones there are, of a timeline.
        probe = next(segments(period, representation, period.start_s), None)
    length = probe.duration_s if probe is not None and probe.duration_s > 0 else _SEGMENT_S
    return max(Fraction(0), earliest_s(presentation, now), edge - _BEHIND * length)
