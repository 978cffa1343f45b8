"""The segments of a representation, and when they are to be had (ISO/IEC 23009-1 §5.3.9, A.3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import count
from typing import Final

from nf.common.dash.addresses import resolve
from nf.common.dash.mpd import (
    ByteRange,
    Period,
    Presentation,
    Representation,
    Resource,
    SegmentBase,
    SegmentList,
    SegmentTemplate,
)
from nf.common.dash.templates import expand

# A segment that begins so little before an instant, as rounded timescales have it, is the one at that instant.
_ROUNDING_S: Final = Fraction(1, 1000)
# Further ahead than this nothing is waited for; a date can still say it.
_FAR_S: Final = 1e11


@dataclass(frozen=True, slots=True)
class Segment:
    """A media segment: ``urls`` are alternatives; times are on the timeline of the presentation."""

    number: int
    urls: tuple[str, ...]
    byte_range: ByteRange | None
    start_s: Fraction
    duration_s: Fraction
    availability_time_offset_s: Fraction = Fraction(0)

    @property
    def end_s(self) -> Fraction:
        """Where the next one begins."""
        return self.start_s + self.duration_s


@dataclass(frozen=True, slots=True)
class Initialization:
    """What a decoder wants before the first segment of a representation."""

    urls: tuple[str, ...]
    byte_range: ByteRange | None


def initialization_of(representation: Representation) -> Initialization | None:
    """The initialization of a representation; None: its segments need none, or have it in them."""
    addressing = representation.addressing
    if isinstance(addressing, SegmentTemplate):
        if addressing.initialization is None:
            return None
        reference = expand(
            addressing.initialization,
            representation_id=representation.id,
            bandwidth_bps=representation.bandwidth_bps,
        )
        return Initialization(_absolute(representation, reference), None)
    if isinstance(addressing, SegmentBase) or addressing.initialization is None:
        # That of a SegmentBase is part of the one segment, which is fetched whole.
        return None
    resource = addressing.initialization
    return Initialization(_absolute(representation, resource.reference), resource.byte_range)


def segments(period: Period, representation: Representation, from_s: Fraction = Fraction(0)) -> Iterator[Segment]:
    """The segments in their order, beginning with the one that plays at ``from_s`` of the presentation.

    Without an end where neither the period nor the addressing has one.
    """
    addressing = representation.addressing
    if isinstance(addressing, SegmentBase):
        duration = period.duration_s if period.duration_s is not None else Fraction(0)
        whole = Segment(1, representation.base_urls, None, period.start_s, duration)
        if whole.end_s > from_s + _ROUNDING_S:
            yield whole
        return
    places = _places(addressing, period, from_s + _ROUNDING_S)
    for index, start, length in places:
        begins = period.start_s + Fraction(start - addressing.presentation_time_offset, addressing.timescale)
        ends = begins + Fraction(length, addressing.timescale)
        if period.end_s is not None:
            if begins >= period.end_s - (0 if index == 0 else _ROUNDING_S):
                return
            # The last one may play for less than it holds.
            ends = min(ends, period.end_s)
        if ends <= from_s + _ROUNDING_S or ends <= period.start_s:
            continue
        number = addressing.start_number + index
        if isinstance(addressing, SegmentTemplate):
            if addressing.end_number is not None and number > addressing.end_number:
                return
            reference = expand(
                addressing.media,
                representation_id=representation.id,
                bandwidth_bps=representation.bandwidth_bps,
                number=number,
                time=start,
            )
            resource, offset = Resource(reference), addressing.availability_time_offset_s
        else:
            if index >= len(addressing.segments):
                return
            resource, offset = addressing.segments[index], Fraction(0)
        urls = _absolute(representation, resource.reference)
        yield Segment(number, urls, resource.byte_range, begins, ends - begins, offset)


def _places(
    addressing: SegmentTemplate | SegmentList, period: Period, from_s: Fraction
) -> Iterator[tuple[int, int, int]]:
    """Index, start and duration of segments in units of the timescale."""
    if addressing.timeline:
        yield from _timeline_places(addressing, period, from_s)
        return
    length = addressing.duration
    if length is None:
        # One segment, as long as the period.
        span = period.duration_s if period.duration_s is not None else Fraction(1)
        yield 0, addressing.presentation_time_offset, max(1, int(span * addressing.timescale))
        return
    # Straight to the one that is wanted: a live presentation may have run for years.
    elapsed = (from_s - period.start_s) * addressing.timescale
    first = max(0, int(elapsed // length) - 1)
    for index in count(first):
        yield index, addressing.presentation_time_offset + index * length, length


def _timeline_places(
    addressing: SegmentTemplate | SegmentList, period: Period, from_s: Fraction
) -> Iterator[tuple[int, int, int]]:
    wanted = int((from_s - period.start_s) * addressing.timescale) + addressing.presentation_time_offset
    index, at = 0, 0
    for position, entry in enumerate(addressing.timeline):
        if entry.start is not None:
            at = entry.start
        total = _count(addressing, period, position, at)
        # Straight to the first that may still play at the instant: a long timeline is told in few words.
        skipped = max(0, (wanted - at) // entry.duration - 1)
        skipped = skipped if total is None else min(skipped, total)
        for each in count(skipped) if total is None else range(skipped, total):
            yield index + each, at + each * entry.duration, entry.duration
        if total is not None:
            index, at = index + total, at + total * entry.duration


def _count(addressing: SegmentTemplate | SegmentList, period: Period, position: int, at: int) -> int | None:
    """How many segments an entry of the timeline, which begins at ``at``, stands for; None: without end."""
    entry = addressing.timeline[position]
    if entry.repeat >= 0:
        return entry.repeat + 1
    following = addressing.timeline[position + 1 : position + 2]
    if following and following[0].start is not None:
        end = following[0].start
    elif period.duration_s is not None:
        end = addressing.presentation_time_offset + int(period.duration_s * addressing.timescale)
    else:
        return None
    return max(0, -((at - end) // entry.duration))


def _absolute(representation: Representation, reference: str) -> tuple[str, ...]:
    return tuple(resolve(base, reference) for base in representation.base_urls)


def period_at(presentation: Presentation, at_s: Fraction) -> Period | None:
    """The period that plays at an instant; before the first one: the first one. None: the presentation has ended."""
    for period in presentation.periods:
        if period.end_s is None or at_s < period.end_s - _ROUNDING_S:
            return period
    return None


def available_from(presentation: Presentation, segment: Segment) -> datetime | None:
    """When a segment can be fetched; None: always, as in a static presentation."""
    if not presentation.dynamic or presentation.availability_start_time is None:
        return None
    after_s = segment.end_s - segment.availability_time_offset_s
    return presentation.availability_start_time + timedelta(seconds=min(float(max(after_s, Fraction(0))), _FAR_S))


def live_edge_s(presentation: Presentation, now: datetime) -> Fraction:
    """The instant of a dynamic presentation that is being recorded now."""
    if presentation.availability_start_time is None:
        return Fraction(0)
    elapsed = now - presentation.availability_start_time
    return Fraction(elapsed // timedelta(microseconds=1), 1_000_000)


def earliest_s(presentation: Presentation, now: datetime) -> Fraction:
    """The earliest instant that can still be had: the live edge less the time shift buffer."""
    if not presentation.dynamic or presentation.time_shift_buffer_depth_s is None:
        return Fraction(0)
    return max(Fraction(0), live_edge_s(presentation, now) - presentation.time_shift_buffer_depth_s)
