"""pcapng files made block by block, for tests."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

SECTION, INTERFACE, OBSOLETE, SIMPLE, NAMES, ENHANCED, CUSTOM = 0x0A0D0D0A, 1, 2, 3, 4, 6, 0xBAD


def block(order: str, kind: int, content: bytes, *, length: int | None = None) -> bytes:
    """A block around content, which is filled up to four bytes; ``length`` if it is to lie."""
    content += bytes(-len(content) % 4)
    length = len(content) + 12 if length is None else length
    return struct.pack(order + "II", kind, length) + content + struct.pack(order + "I", length)


def option(order: str, code: int, value: bytes) -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def section(order: str = "<", *, version: tuple[int, int] = (1, 0), length: int = -1) -> bytes:
    return block(order, SECTION, struct.pack(order + "IHHq", 0x1A2B3C4D, *version, length))


@dataclass
class Port:
    """An interface, and its packets' times."""

    link_type: int = 1
    resolution: int | None = None
    offset_s: int | None = None
    snaplen: int = 0
    more_options: list[tuple[int, bytes]] = field(default_factory=list)

    def description(self, order: str = "<") -> bytes:
        options = b"".join(option(order, code, value) for code, value in self.more_options)
        if self.resolution is not None:
            options += option(order, 9, bytes([self.resolution]))
        if self.offset_s is not None:
            options += option(order, 14, struct.pack(order + "q", self.offset_s))
        if options:
            options += option(order, 0, b"")
        return block(order, INTERFACE, struct.pack(order + "HHI", self.link_type, 0, self.snaplen) + options)

    def units(self, ts_ns: int) -> int:
        """The latest time that is not after ``ts_ns``."""
        resolution = 6 if self.resolution is None else self.resolution
        per_second = 2 ** (resolution & 0x7F) if resolution & 0x80 else 10**resolution
        return (ts_ns - (self.offset_s or 0) * 10**9) * per_second // 10**9

    def time_ns(self, units: int) -> int:
        resolution = 6 if self.resolution is None else self.resolution
        per_second = 2 ** (resolution & 0x7F) if resolution & 0x80 else 10**resolution
        return units * 10**9 // per_second + (self.offset_s or 0) * 10**9


def enhanced(order: str, number: int, units: int, data: bytes, wire_length: int, *, options: bytes = b"") -> bytes:
    header = struct.pack(order + "IIIII", number, units >> 32, units & 0xFFFF_FFFF, len(data), wire_length)
    return block(order, ENHANCED, header + data + bytes(-len(data) % 4) + options)


def obsolete(order: str, number: int, units: int, data: bytes, wire_length: int) -> bytes:
    header = struct.pack(order + "HHIIII", number, 7, units >> 32, units & 0xFFFF_FFFF, len(data), wire_length)
    return block(order, OBSOLETE, header + data)


def simple(order: str, data: bytes, wire_length: int) -> bytes:
    return block(order, SIMPLE, struct.pack(order + "I", wire_length) + data)
