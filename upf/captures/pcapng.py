"""The pcapng format (draft-ietf-opsawg-pcapng): a walk over its blocks in plain Python, its errors, the blocks written.

The compiled engine walks blocks itself (`upf.engine.Walk`); this walk is the one by which it is tested, and it tells
what is wrong where the compiled one stops.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from upf.captures.formats import (
    LINK_TYPES,
    MAX_CAPTURED_LENGTH,
    NATIVE_ORDER,
    CaptureError,
    CutError,
    Record,
    supported_link_types,
)

MAGIC: Final = b"\x0a\x0d\x0d\x0a"
SECTION_HEADER, INTERFACE, OBSOLETE_PACKET, SIMPLE_PACKET, ENHANCED_PACKET = 0x0A0D0D0A, 1, 2, 3, 6
# What libpcap and Wireshark take as the longest block.
MAX_BLOCK_LENGTH: Final = 16 << 20
MAX_INTERFACES: Final = 1 << 16
# Packet time ends here, in the year 2116.
LATEST_NS: Final = 1 << 62

_NAMES: Final = {
    SECTION_HEADER: "section header",
    INTERFACE: "interface",
    OBSOLETE_PACKET: "packet",
    SIMPLE_PACKET: "simple packet",
    ENHANCED_PACKET: "enhanced packet",
}
_LEAST_LENGTHS: Final = {
    SECTION_HEADER: 28,
    INTERFACE: 20,
    OBSOLETE_PACKET: 32,
    SIMPLE_PACKET: 16,
    ENHANCED_PACKET: 32,
}
_ORDERS: Final = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_END_OF_OPTIONS, _SHB_USERAPPL, _IF_TSRESOL, _IF_TSOFFSET = 0, 4, 9, 14


@dataclass(frozen=True, slots=True)
class Interface:
    """What an interface description block says.

    ``resolution``: the byte of if_tsresol, a negative power of 10 or, with its highest bit, of 2. ``offset_s``: seconds
    to add to its times. ``snaplen``: 0 is none.
    """

    link_type: int
    snaplen: int = 0
    resolution: int = 6
    offset_s: int = 0

    def time_ns(self, units: int) -> int:
        """Nanoseconds since 1970, rounded down."""
        power = self.resolution & 0x7F
        per_second = 1 << power if self.resolution & 0x80 else 10**power
        return units * 1_000_000_000 // per_second + self.offset_s * 1_000_000_000


@dataclass(slots=True)
class Section:
    """Where a walk stands: byte order and interfaces of the section it is in, and the latest time it has read."""

    order: str = NATIVE_ORDER
    interfaces: list[Interface] = field(default_factory=list)
    latest_ns: int = 0


def read_records(view: memoryview, *, source: str) -> Iterator[Record]:
    """The packets of a pcapng that stands wholly in ``view``, in order.

    A simple packet bears no time: it is taken to come with the packet before it. Raises CaptureError with the byte
    offset at the first block that is cut or cannot be, after all packets before it.
    """
    section, offset = Section(), 0
    while offset < len(view):
        offset, record = read_block(view, section, offset, source=source)
        if record is not None:
            yield record


def link_types_ahead(view: memoryview, *, source: str) -> list[int]:
    """The link types of the interfaces that are described before the first packet, or before ``view`` ends."""
    section, offset, record = Section(), 0, None
    try:
        while offset < len(view) and record is None:
            offset, record = read_block(view, section, offset, source=source)
    except CaptureError:
        pass
    return list(dict.fromkeys(interface.link_type for interface in section.interfaces))


def read_block(
    view: memoryview, section: Section, offset: int, *, source: str, position: int = 0
) -> tuple[int, Record | None]:
    """The offset behind the block at ``offset``, and its packet if it has one; ``section`` becomes what holds there.

    position: where in the capture ``view`` begins. Raises CutError where the block is not all there, CaptureError where
    it cannot be.
    """
    block = _Block(view, offset, position, source)
    kind, order = block.kind_and_order(section)
    length = block.length(order)
    if kind == SECTION_HEADER:
        major, minor = struct.unpack_from(order + "HH", view, offset + 12)
        if major != 1:
            raise block.error(f"has version {major}.{minor}, expected 1.0")
        section.order, section.interfaces = order, []
    elif kind == INTERFACE:
        if len(section.interfaces) == MAX_INTERFACES:
            raise block.error(f"is one too many: {MAX_INTERFACES} interfaces are before it")
        section.interfaces.append(_interface(block, order, length))
    elif kind in (OBSOLETE_PACKET, SIMPLE_PACKET, ENHANCED_PACKET):
        return offset + length, _packet(block, section, length)
    return offset + length, None


@dataclass(slots=True)
class _Block:
    """A block that is being read, and how its errors are worded."""

    view: memoryview
    offset: int
    position: int
    source: str
    name: str = "block"

    def kind_and_order(self, section: Section) -> tuple[int, str]:
        """Its type, and the byte order of it and what follows."""
        self._must_have(12)
        (kind,) = struct.unpack_from(section.order + "I", self.view, self.offset)
        self.name = f"{_NAMES[kind]} block" if kind in _NAMES else f"block of type {kind}"
        if kind != SECTION_HEADER:
            return kind, section.order
        magic = bytes(self.view[self.offset + 8 : self.offset + 12])
        if magic not in _ORDERS:
            raise self.error(f"has the byte-order magic {magic.hex(' ')}, expected 1a 2b 3c 4d or 4d 3c 2b 1a")
        return kind, _ORDERS[magic]

    def length(self, order: str) -> int:
        """Its length, which it states before and behind its content."""
        kind, length = struct.unpack_from(order + "II", self.view, self.offset)
        least = _LEAST_LENGTHS.get(kind, 12)
        if length < least or length > MAX_BLOCK_LENGTH or length % 4:
            raise self.error(
                f"is implausible: it claims {length} bytes, expected a multiple of 4 from {least} to {MAX_BLOCK_LENGTH}"
            )
        self._must_have(length)
        (repeated,) = struct.unpack_from(order + "I", self.view, self.offset + length - 4)
        if repeated != length:
            raise self.error(f"is implausible: it claims {length} bytes at its beginning and {repeated} at its end")
        return int(length)

    def error(self, what: str) -> CaptureError:
        at = self.position + self.offset
        return CaptureError(f"{self.source}: the {self.name} at byte {at} {what}", offset=at)

    def _must_have(self, length: int) -> None:
        left = len(self.view) - self.offset
        if left < length:
            at = self.position + self.offset
            raise CutError(
                f"{self.source}: the {self.name} at byte {at} is cut: {left} of its "
                f"{'first ' if length == 12 else ''}{length} bytes are there",
                offset=at,
                needed_bytes=length,
            )


def _interface(block: _Block, order: str, length: int) -> Interface:
    link_type, snaplen = struct.unpack_from(order + "H2xI", block.view, block.offset + 8)
    resolution, offset_s = 6, 0
    at, end = block.offset + 16, block.offset + length - 4
    while at < end:
        # What is left is a multiple of 4 throughout.
        code, size = struct.unpack_from(order + "HH", block.view, at)
        if code == _END_OF_OPTIONS:
            break
        if at + 4 + size > end:
            raise block.error(f"has an option {code} of {size} bytes where {end - at - 4} are left")
        expected = {_IF_TSRESOL: 1, _IF_TSOFFSET: 8}.get(code, size)
        if size != expected:
            name = "if_tsresol" if code == _IF_TSRESOL else "if_tsoffset"
            raise block.error(f"has an option {name} of length {size}, expected {expected}")
        if code == _IF_TSRESOL:
            resolution = block.view[at + 4]
        elif code == _IF_TSOFFSET:
            (offset_s,) = struct.unpack_from(order + "q", block.view, at + 4)
        at += 4 + (size + 3) // 4 * 4
    return Interface(link_type, snaplen, resolution, offset_s)


def _packet(block: _Block, section: Section, length: int) -> Record:
    view, start, order = block.view, block.offset + 28, section.order
    (kind,) = struct.unpack_from(order + "I", view, block.offset)
    number, high, low, captured, wire_length = 0, 0, 0, 0, 0
    if kind == ENHANCED_PACKET:
        number, high, low, captured, wire_length = struct.unpack_from(order + "IIIII", view, block.offset + 8)
    elif kind == OBSOLETE_PACKET:
        number, high, low, captured, wire_length = struct.unpack_from(order + "H2xIIII", view, block.offset + 8)
    if number >= len(section.interfaces):
        raise block.error(f"is of interface {number}, where {len(section.interfaces)} are described before it")
    interface = section.interfaces[number]
    if kind == SIMPLE_PACKET:
        (wire_length,) = struct.unpack_from(order + "I", view, block.offset + 8)
        start = block.offset + 12
        captured = min(wire_length, interface.snaplen or wire_length)
    room = block.offset + length - 4 - start
    if captured > min(room, MAX_CAPTURED_LENGTH):
        raise block.error(
            f"is implausible: it claims {captured} captured bytes, expected at most {min(room, MAX_CAPTURED_LENGTH)}"
        )
    if interface.link_type not in LINK_TYPES:
        raise block.error(
            f"is of interface {number} with link type {interface.link_type}, which is not supported, expected one of "
            f"{supported_link_types()}"
        )
    ts_ns = section.latest_ns if kind == SIMPLE_PACKET else interface.time_ns(high << 32 | low)
    if not 0 <= ts_ns < LATEST_NS:
        raise block.error("bears a time outside of the years 1970 to 2116")
    section.latest_ns = ts_ns
    data = bytes(view[start : start + captured])
    return Record(ts_ns, data, wire_length, block.position + block.offset, interface.link_type)


# --- what is written --------------------------------------------------------------------------------------------------


def beginning(section: Section) -> bytes:
    """The header of such a section, and the descriptions of its interfaces."""
    order, application = section.order, b"castcore"
    content = struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1)
    content += struct.pack(order + "HH", _SHB_USERAPPL, len(application)) + application + bytes(4)
    blocks = [_block(order, SECTION_HEADER, content)]
    for interface in section.interfaces:
        content = struct.pack(order + "HHI", interface.link_type, 0, interface.snaplen)
        content += struct.pack(order + "HHB3x", _IF_TSRESOL, 1, interface.resolution)
        if interface.offset_s:
            content += struct.pack(order + "HHq", _IF_TSOFFSET, 8, interface.offset_s)
        blocks.append(_block(order, INTERFACE, content + bytes(4)))
    return b"".join(blocks)


def _block(order: str, kind: int, content: bytes) -> bytes:
    length = len(content) + 12
    return struct.pack(order + "II", kind, length) + content + struct.pack(order + "I", length)
