"""A media presentation description as data (ISO/IEC 23009-1 §5).

What an element inherits is in it already: a representation has its base URLs resolved and its segment addressing
merged from all levels above. Times are exact seconds as fractions, on the timeline that a name says.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import TypeAlias

from nf.common.dash.service_descriptions import ServiceDescription


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes ``first`` to ``last`` of a resource, both included; ``last`` None: to its end."""

    first: int
    last: int | None

    @property
    def header(self) -> str:
        """As the value of an HTTP ``Range`` header."""
        return f"bytes={self.first}-{'' if self.last is None else self.last}"


@dataclass(frozen=True, slots=True)
class Resource:
    """What is fetched at once: the reference as it is in the MPD (empty: the base URL itself), whole or in part."""

    reference: str
    byte_range: ByteRange | None = None


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """An ``S`` of a SegmentTimeline: ``repeat`` further segments like it; -1: up to the next one or the end."""

    start: int | None
    duration: int
    repeat: int = 0


@dataclass(frozen=True, slots=True)
class SegmentTemplate:
    """Segments whose addresses are made from a template (§5.3.9.4). ``duration`` is None where a timeline says."""

    media: str
    initialization: str | None
    timescale: int
    duration: int | None
    timeline: tuple[TimelineEntry, ...]
    start_number: int
    end_number: int | None
    presentation_time_offset: int
    availability_time_offset_s: Fraction


@dataclass(frozen=True, slots=True)
class SegmentList:
    """Segments that are listed one by one (§5.3.9.3)."""

    segments: tuple[Resource, ...]
    initialization: Resource | None
    timescale: int
    duration: int | None
    timeline: tuple[TimelineEntry, ...]
    start_number: int
    presentation_time_offset: int


@dataclass(frozen=True, slots=True)
class SegmentBase:
    """A single file (§5.3.9.2): one segment, or those of the index at ``index_range``."""

    initialization: Resource | None
    index_range: ByteRange | None
    timescale: int
    presentation_time_offset: int


Addressing: TypeAlias = SegmentTemplate | SegmentList | SegmentBase


@dataclass(frozen=True, slots=True)
class Representation:
    """One encoding of one medium (§5.3.5). ``base_urls`` are alternatives, absolute where the MPD's own address is."""

    id: str
    bandwidth_bps: int
    media_type: str
    mime_type: str
    codecs: str
    width: int | None
    height: int | None
    base_urls: tuple[str, ...]
    addressing: Addressing
    quality_ranking: int | None = None


@dataclass(frozen=True, slots=True)
class AdaptationSet:
    """Encodings of one medium that may be exchanged for each other (§5.3.3)."""

    id: str
    media_type: str
    language: str
    roles: tuple[str, ...]
    # Schemes that a client must know to use the set (§5.8.4.8).
    essential_properties: tuple[str, ...]
    representations: tuple[Representation, ...]


@dataclass(frozen=True, slots=True)
class Period:
    """A stretch of the presentation (§5.3.2). ``duration_s`` is None while a live one is open-ended."""

    id: str
    start_s: Fraction
    duration_s: Fraction | None
    adaptation_sets: tuple[AdaptationSet, ...]

    @property
    def end_s(self) -> Fraction | None:
        """On the timeline of the presentation."""
        return None if self.duration_s is None else self.start_s + self.duration_s


@dataclass(frozen=True, slots=True)
class Presentation:
    """An MPD (§5.3.1), static or ``dynamic``."""

    url: str
    dynamic: bool
    profiles: tuple[str, ...]
    duration_s: Fraction | None
    min_buffer_time_s: Fraction
    max_segment_duration_s: Fraction | None
    availability_start_time: datetime | None
    availability_end_time: datetime | None
    publish_time: datetime | None
    minimum_update_period_s: Fraction | None
    time_shift_buffer_depth_s: Fraction | None
    suggested_presentation_delay_s: Fraction | None
    # Where a newer MPD is; empty: where this one came from.
    locations: tuple[str, ...]
    service_descriptions: tuple[ServiceDescription, ...]
    periods: tuple[Period, ...]

    @property
    def end_s(self) -> Fraction | None:
        """Where the presentation ends on its timeline; None while a live one is open-ended."""
        return self.periods[-1].end_s if self.periods else self.duration_s
