"""The classic pcap format (draft-ietf-opsawg-pcap): its header, a walk over its records in plain Python, its errors.

Microsecond and nanosecond files in either byte order. The compiled engine walks records itself; `read_records` is the
same walk, by which it is tested.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, Final

from upf.captures.formats import (
    HEADER_BYTES,
    LINK_TYPES,
    MAX_CAPTURED_LENGTH,
    NATIVE_ORDER,
    CaptureError,
    CaptureFormat,
    CutError,
    Record,
    supported_link_types,
)

RECORD_HEADER_BYTES: Final = 16

_MAGIC_MICROSECONDS: Final = 0xA1B2C3D4
_MAGIC_NANOSECONDS: Final = 0xA1B23C4D
# Bytes of the magic number as they stand in the file: (byte order, nanoseconds).
_MAGICS: Final = {
    struct.pack(order + "I", magic): (order, magic == _MAGIC_NANOSECONDS)
    for order in "<>"
    for magic in (_MAGIC_MICROSECONDS, _MAGIC_NANOSECONDS)
}
_OTHER_FORMATS: Final = (
    (b"\x1f\x8b", "gzip within another compression; unpack it with 'gunzip'"),
    (b"\x28\xb5\x2f\xfd", "zstd within another compression; unpack it with 'unzstd'"),
    (b"\xfd7zX", "xz; unpack it with 'unxz'"),
    (b"BZh", "bzip2; unpack it with 'bunzip2'"),
    (b"\x34\xcd\xb2\xa1", "modified pcap; convert it with 'editcap -F pcap'"),
    (b"\xa1\xb2\xcd\x34", "modified pcap; convert it with 'editcap -F pcap'"),
)
_NATIVE_RECORD: Final = struct.Struct("=IIII")
_SWAPPED_RECORD: Final = struct.Struct((">" if NATIVE_ORDER == "<" else "<") + "IIII")


def parse_header(header: bytes, *, source: str) -> CaptureFormat:
    """Read the first 24 bytes of a pcap; ``source`` names it in errors. Raises CaptureError."""
    magic = _MAGICS.get(header[:4])
    if magic is None and len(header) >= 4:
        known = next((f": it is {what}" for start, what in _OTHER_FORMATS if header.startswith(start)), "")
        raise CaptureError(f"{source}: is not a pcap or pcapng{known} (it begins with {header[:4].hex(' ')})")
    if magic is None or len(header) < HEADER_BYTES:
        raise CutError(
            f"{source}: is shorter than the header of a pcap: {len(header)} of {HEADER_BYTES} bytes",
            offset=None,
            needed_bytes=HEADER_BYTES,
        )
    order, nanoseconds = magic
    major, minor, snaplen, link = struct.unpack_from(order + "HH8xII", header, 4)
    if major != 2:
        raise CaptureError(f"{source}: is pcap version {major}.{minor}, expected 2.4")
    # The upper bits tell whether, and how long, a frame check sequence follows each packet.
    link_type = link & 0xFFFF
    if link_type not in LINK_TYPES:
        raise CaptureError(
            f"{source}: link type {link_type} is not supported, expected one of {supported_link_types()}"
        )
    return CaptureFormat(swapped=order != NATIVE_ORDER, nanoseconds=nanoseconds, link_type=link_type, snaplen=snaplen)


def read_records(view: memoryview, capture_format: CaptureFormat, *, source: str) -> Iterator[Record]:
    """The packets of a pcap that stands wholly in ``view``, in order.

    Raises CaptureError with the byte offset at the first record that is cut or implausible, after all before it.
    """
    layout = _record_header(capture_format)
    ns_per_unit = 1 if capture_format.nanoseconds else 1000
    offset = capture_format.header_bytes
    while offset < len(view):
        if not is_whole(view, capture_format, offset):
            raise record_error(view, capture_format, offset, source=source)
        seconds, fraction, captured, wire_length = layout.unpack_from(view, offset)
        start = offset + RECORD_HEADER_BYTES
        ts_ns = seconds * 1_000_000_000 + fraction * ns_per_unit
        yield Record(ts_ns, bytes(view[start : start + captured]), wire_length, offset, capture_format.link_type)
        offset = start + captured


def is_whole(view: memoryview, capture_format: CaptureFormat, offset: int) -> bool:
    """Whether a plausible record stands wholly at ``offset``."""
    left = len(view) - offset - RECORD_HEADER_BYTES
    if left < 0:
        return False
    captured: int = _record_header(capture_format).unpack_from(view, offset)[2]
    return captured <= min(left, MAX_CAPTURED_LENGTH)


def record_error(
    view: memoryview, capture_format: CaptureFormat, offset: int, *, source: str, position: int = 0
) -> CaptureError:
    """What is wrong with the record at ``offset``, where no whole one stands; ``position``: the view's first byte."""
    left, at = len(view) - offset, position + offset
    needed_bytes = RECORD_HEADER_BYTES
    if left < RECORD_HEADER_BYTES:
        what = f"is cut: {left} of the {RECORD_HEADER_BYTES} bytes of its header are there"
    else:
        captured = _record_header(capture_format).unpack_from(view, offset)[2]
        needed_bytes += captured
        if captured > MAX_CAPTURED_LENGTH:
            what = f"is implausible: it claims {captured} captured bytes, expected at most {MAX_CAPTURED_LENGTH}"
            return CaptureError(f"{source}: the record at byte {at} {what}", offset=at)
        what = f"is cut: {left - RECORD_HEADER_BYTES} of its {captured} captured bytes are there"
    return CutError(f"{source}: the record at byte {at} {what}", offset=at, needed_bytes=needed_bytes)


def beginning(*, link_type: int, nanoseconds: bool, snaplen: int = MAX_CAPTURED_LENGTH) -> bytes:
    """The header of a pcap in this machine's byte order."""
    magic = _MAGIC_NANOSECONDS if nanoseconds else _MAGIC_MICROSECONDS
    return struct.pack("=IHHiIII", magic, 2, 4, 0, 0, snaplen, link_type)


def write_header(
    stream: BinaryIO, *, link_type: int, nanoseconds: bool, snaplen: int = MAX_CAPTURED_LENGTH
) -> CaptureFormat:
    """Begin a pcap, in this machine's byte order; returns the format of the records that belong into it."""
    stream.write(beginning(link_type=link_type, nanoseconds=nanoseconds, snaplen=snaplen))
    return CaptureFormat(swapped=False, nanoseconds=nanoseconds, link_type=link_type, snaplen=snaplen)


def _record_header(capture_format: CaptureFormat) -> struct.Struct:
    return _SWAPPED_RECORD if capture_format.swapped else _NATIVE_RECORD
