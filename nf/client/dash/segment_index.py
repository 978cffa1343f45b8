"""The segment index of a single-file representation (``sidx``, ISO/IEC 14496-12 §8.16.3) as a list of byte ranges."""

from __future__ import annotations

import struct
from typing import Final

from nf.common.dash.errors import MpdError
from nf.common.dash.mpd import ByteRange, Resource, SegmentBase, SegmentList, TimelineEntry

_HEADER: Final = struct.Struct(">I4s")
_REFERENCE: Final = struct.Struct(">III")


def listed(addressing: SegmentBase, index: bytes, name: str) -> SegmentList:
    """The segments of a SegmentBase whose ``index_range`` has these bytes.

    ``name`` is how messages call the file. Raises MpdError where there is no index, or one of indexes.
    """
    assert addressing.index_range is not None
    first = addressing.index_range.first
    at, size = _find(index, name)
    try:
        version = index[at + 8]
        timescale, *_ = struct.unpack_from(">I", index, at + 16)
        earliest, offset = struct.unpack_from(">QQ" if version else ">II", index, at + 20)
        at_count = at + 20 + (16 if version else 8) + 2
        (count,) = struct.unpack_from(">H", index, at_count)
        references = [_REFERENCE.unpack_from(index, at_count + 2 + 12 * each) for each in range(count)]
    except (struct.error, IndexError):
        raise MpdError(f"{name}: found a segment index that is cut short, expected all of it in @indexRange") from None
    if not timescale or not references:
        raise MpdError(f"{name}: found a segment index without segments")
    position = first + at + size + offset
    resources: list[Resource] = []
    timeline: list[TimelineEntry] = []
    for sized, duration, _ in references:
        if sized >> 31:
            raise MpdError(f"{name}: found a segment index of indexes, expected one of segments")
        if not sized or not duration:
            raise MpdError(f"{name}: found an empty segment in the segment index")
        resources.append(Resource("", ByteRange(position, position + sized - 1)))
        timeline.append(TimelineEntry(None if timeline else earliest, duration))
        position += sized
    initialization = addressing.initialization
    if initialization is None and first > 0:
        # What comes before the index initializes (ISO/IEC 23009-1 §5.3.9.2).
        initialization = Resource("", ByteRange(0, first - 1))
    return SegmentList(
        segments=tuple(resources),
        initialization=initialization,
        timescale=timescale,
        duration=None,
        timeline=tuple(timeline),
        start_number=1,
        presentation_time_offset=addressing.presentation_time_offset * timescale // addressing.timescale,
    )


def _find(index: bytes, name: str) -> tuple[int, int]:
    """Where the sidx box begins, and how long it is."""
    at = 0
    while at + _HEADER.size <= len(index):
        size, kind = _HEADER.unpack_from(index, at)
        if kind == b"sidx":
            return at, size
        if size < _HEADER.size:
            break
        at += size
    raise MpdError(f"{name}: found no segment index (sidx) in @indexRange")
