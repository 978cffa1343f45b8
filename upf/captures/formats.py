"""What every kind of capture has in common: link types, packets, the layout of a pcap's records, errors."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final, NamedTuple

from upf.errors import UpfError

NATIVE_ORDER: Final = "<" if sys.byteorder == "little" else ">"
# What libpcap takes as the longest packet; a longer one means that the walk has lost its place.
MAX_CAPTURED_LENGTH: Final = 262_144
# Bytes of the header of a classic pcap file.
HEADER_BYTES: Final = 24
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


class CaptureError(UpfError):
    """A capture that cannot be used, or not beyond ``offset`` (bytes; None where it cannot be used at all)."""

    def __init__(self, message: str, *, offset: int | None = None) -> None:
        self.offset = offset
        super().__init__(message)


class CutError(CaptureError):
    """What stands at ``offset`` goes on beyond what is there: ``needed_bytes`` from there on would tell more."""

    def __init__(self, message: str, *, offset: int | None, needed_bytes: int) -> None:
        super().__init__(message, offset=offset)
        self.needed_bytes = needed_bytes


@dataclass(frozen=True, slots=True)
class CaptureFormat:
    """How the records of a classic pcap are laid out.

    ``swapped``: in the byte order that is not this machine's. ``nanoseconds``: resolution of time stamps, else
    microseconds. ``snaplen``: as the file states it; not checked.
    """

    swapped: bool
    nanoseconds: bool
    link_type: int
    snaplen: int
    header_bytes: int = HEADER_BYTES


class Record(NamedTuple):
    """One packet: time (ns since 1970 UTC), captured bytes, length on the wire, where its record begins, link type."""

    ts_ns: int
    data: bytes
    wire_length: int
    offset: int
    link_type: int


def supported_link_types() -> str:
    """The link types, for an error about another one."""
    return ", ".join(f"{number} ({name})" for number, name in LINK_TYPES.items())
