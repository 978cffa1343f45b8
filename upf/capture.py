"""Captures in the classic pcap format (draft-ietf-opsawg-pcap): opening, reading records, writing.

Microsecond and nanosecond files in either byte order. A file is mapped, not read: the compiled engine walks the mapping
itself, `read_records` is the same walk in plain Python.
"""

from __future__ import annotations

import mmap
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from types import TracebackType
from typing import BinaryIO, Final, NamedTuple, Self

from upf.errors import UpfError

HEADER_BYTES: Final = 24
RECORD_HEADER_BYTES: Final = 16
# What libpcap takes as the longest packet; a longer one means that the walk has lost its place.
MAX_CAPTURED_LENGTH: Final = 262_144
LINK_TYPES: Final = {
    0: "NULL",
    1: "Ethernet",
    12: "raw IP",
    14: "raw IP",
    101: "raw IP",
    108: "LOOP",
    113: "Linux SLL",
    228: "IPv4",
    229: "IPv6",
    276: "Linux SLL2",
}

_MAGIC_MICROSECONDS: Final = 0xA1B2C3D4
_MAGIC_NANOSECONDS: Final = 0xA1B23C4D
# Bytes of the magic number as they stand in the file: (byte order, nanoseconds).
_MAGICS: Final = {
    struct.pack(order + "I", magic): (order, magic == _MAGIC_NANOSECONDS)
    for order in "<>"
    for magic in (_MAGIC_MICROSECONDS, _MAGIC_NANOSECONDS)
}
_OTHER_FORMATS: Final = (
    (b"\x0a\x0d\x0d\x0a", "pcapng; convert it with 'editcap -F pcap' or 'tcpdump -r IN -w OUT'"),
    (b"\x1f\x8b", "gzip; unpack it with 'gunzip'"),
    (b"\x28\xb5\x2f\xfd", "zstd; unpack it with 'unzstd'"),
    (b"\xfd7zX", "xz; unpack it with 'unxz'"),
    (b"\x34\xcd\xb2\xa1", "modified pcap; convert it with 'editcap -F pcap'"),
    (b"\xa1\xb2\xcd\x34", "modified pcap; convert it with 'editcap -F pcap'"),
)
_NATIVE: Final = "<" if sys.byteorder == "little" else ">"


class CaptureError(UpfError):
    """A capture that cannot be used, or not beyond ``offset`` (bytes; None where it cannot be used at all)."""

    def __init__(self, message: str, *, offset: int | None = None) -> None:
        self.offset = offset
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class CaptureFormat:
    """How the records of a capture are laid out.

    ``swapped``: in the byte order that is not this machine's. ``nanoseconds``: resolution of time stamps, else
    microseconds. ``snaplen``: as the file states it; not checked.
    """

    swapped: bool
    nanoseconds: bool
    link_type: int
    snaplen: int
    header_bytes: int = HEADER_BYTES


class Record(NamedTuple):
    """One packet: its time (ns since 1970 UTC), the bytes captured, its length on the wire, where its record begins."""

    ts_ns: int
    data: bytes
    wire_length: int
    offset: int


class Capture:
    """An open capture; a context manager. ``view`` is the whole file, header included."""

    def __init__(self, path: Path, mapping: mmap.mmap, capture_format: CaptureFormat) -> None:
        self.path = path
        self.format = capture_format
        self._mapping = mapping
        self.view = memoryview(mapping)

    def records(self) -> Iterator[Record]:
        """Its packets in order; see `read_records`."""
        return read_records(self.view, self.format, source=str(self.path))

    def close(self) -> None:
        """Give the mapping back."""
        self.view.release()
        self._mapping.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_capture(path: Path) -> Capture:
    """Map a capture and read its header.

    Raises CaptureError, one line that names the file: missing, unreadable, a directory, empty, shorter than its header,
    not a pcap, or of a link type that is not supported.
    """
    try:
        # Looked at before it is opened, since opening a pipe would wait for its writer.
        state = path.stat()
        if S_ISDIR(state.st_mode):
            raise CaptureError(f"{path}: is a directory")
        if not S_ISREG(state.st_mode):
            raise CaptureError(f"{path}: is not a regular file, which a capture must be to be mapped")
        if state.st_size == 0:
            raise CaptureError(f"{path}: is empty")
        with path.open("rb") as stream:
            mapping = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise CaptureError(f"{path}: no such file") from None
    except OSError as error:
        raise CaptureError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        capture_format = parse_header(mapping[:HEADER_BYTES], source=str(path))
    except CaptureError:
        mapping.close()
        raise
    return Capture(path, mapping, capture_format)


def parse_header(header: bytes, *, source: str) -> CaptureFormat:
    """Read the first 24 bytes of a capture; ``source`` names it in errors. Raises CaptureError."""
    magic = _MAGICS.get(header[:4])
    if magic is None and len(header) >= 4:
        known = next((f": it is {what}" for start, what in _OTHER_FORMATS if header.startswith(start)), "")
        raise CaptureError(f"{source}: is not a pcap{known} (it begins with {header[:4].hex(' ')})")
    if magic is None or len(header) < HEADER_BYTES:
        raise CaptureError(f"{source}: is shorter than the header of a pcap: {len(header)} of {HEADER_BYTES} bytes")
    order, nanoseconds = magic
    major, minor, snaplen, link = struct.unpack_from(order + "HH8xII", header, 4)
    if major != 2:
        raise CaptureError(f"{source}: is pcap version {major}.{minor}, expected 2.4")
    # The upper bits tell whether, and how long, a frame check sequence follows each packet.
    link_type = link & 0xFFFF
    if link_type not in LINK_TYPES:
        supported = ", ".join(f"{number} ({name})" for number, name in LINK_TYPES.items())
        raise CaptureError(f"{source}: link type {link_type} is not supported, expected one of {supported}")
    return CaptureFormat(swapped=order != _NATIVE, nanoseconds=nanoseconds, link_type=link_type, snaplen=snaplen)


def read_records(view: memoryview, capture_format: CaptureFormat, *, source: str) -> Iterator[Record]:
    """The packets of a capture that stands wholly in ``view``, in order.

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
        yield Record(ts_ns, bytes(view[start : start + captured]), wire_length, offset)
        offset = start + captured


def is_whole(view: memoryview, capture_format: CaptureFormat, offset: int) -> bool:
    """Whether a plausible record stands wholly at ``offset``."""
    left = len(view) - offset - RECORD_HEADER_BYTES
    if left < 0:
        return False
    captured: int = _record_header(capture_format).unpack_from(view, offset)[2]
    return captured <= min(left, MAX_CAPTURED_LENGTH)


def record_error(view: memoryview, capture_format: CaptureFormat, offset: int, *, source: str) -> CaptureError:
    """What is wrong with the record at ``offset``, where no whole one stands."""
    left = len(view) - offset
    if left < RECORD_HEADER_BYTES:
        what = f"is cut: {left} of the {RECORD_HEADER_BYTES} bytes of its header are there"
    else:
        captured = _record_header(capture_format).unpack_from(view, offset)[2]
        if captured > MAX_CAPTURED_LENGTH:
            what = f"is implausible: it claims {captured} captured bytes, expected at most {MAX_CAPTURED_LENGTH}"
        else:
            what = f"is cut: {left - RECORD_HEADER_BYTES} of its {captured} captured bytes are there"
    return CaptureError(f"{source}: the record at byte {offset} {what}", offset=offset)


class CaptureWriter:
    """Writes a capture in this machine's byte order; a context manager.

    ``nanoseconds`` where any input has them, so that nothing is lost. Raises CaptureError where the file cannot be
    written, or is one of ``inputs`` (writing would pull the mapping from under its reader).
    """

    def __init__(
        self,
        path: Path,
        *,
        link_type: int,
        nanoseconds: bool,
        snaplen: int = MAX_CAPTURED_LENGTH,
        inputs: Iterable[Path] = (),
    ) -> None:
        self.path = path
        self._ns_per_unit = 1 if nanoseconds else 1000
        if any(path.exists() and given.exists() and path.samefile(given) for given in inputs):
            raise CaptureError(f"{path}: cannot be written: it is an input too")
        try:
            self._stream: BinaryIO = path.open("wb")
            write_header(self._stream, link_type=link_type, nanoseconds=nanoseconds, snaplen=snaplen)
        except OSError as error:
            raise self._failed(error) from None

    def write(self, ts_ns: int, data: bytes | memoryview, wire_length: int) -> None:
        """Append one packet."""
        seconds, fraction = divmod(ts_ns, 1_000_000_000)
        if seconds >> 32:
            raise CaptureError(f"{self.path}: cannot be written: time {ts_ns} ns has no place in a pcap")
        header = _WRITTEN_RECORD.pack(seconds, fraction // self._ns_per_unit, len(data), wire_length)
        self.write_records(header)
        self.write_records(data)

    def write_records(self, records: bytes | bytearray | memoryview) -> None:
        """Append records, or pieces of records, that are already in the layout of this file."""
        try:
            self._stream.write(records)
        except OSError as error:
            raise self._failed(error) from None

    def close(self) -> None:
        """Write out what is buffered."""
        try:
            self._stream.close()
        except OSError as error:
            raise self._failed(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _failed(self, error: OSError) -> CaptureError:
        return CaptureError(f"{self.path}: cannot be written: {error.strerror}")


def write_header(
    stream: BinaryIO, *, link_type: int, nanoseconds: bool, snaplen: int = MAX_CAPTURED_LENGTH
) -> CaptureFormat:
    """Begin a capture, in this machine's byte order; returns the format of the records that belong into it."""
    magic = _MAGIC_NANOSECONDS if nanoseconds else _MAGIC_MICROSECONDS
    stream.write(struct.pack("=IHHiIII", magic, 2, 4, 0, 0, snaplen, link_type))
    return CaptureFormat(swapped=False, nanoseconds=nanoseconds, link_type=link_type, snaplen=snaplen)


_WRITTEN_RECORD: Final = struct.Struct("=IIII")
_SWAPPED_RECORD: Final = struct.Struct((">" if _NATIVE == "<" else "<") + "IIII")


def _record_header(capture_format: CaptureFormat) -> struct.Struct:
    return _SWAPPED_RECORD if capture_format.swapped else _WRITTEN_RECORD
