"""Stateless test traffic of RFC 7640 §5.1 as captures, and what an egress port would see of it.

Packets bear a sequence number. A capture holds their headers alone (36 bytes); their lengths are those of their IP
headers, by which they are policed. Times are those of a link of the given rate, rounded to nanoseconds.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import cycle
from pathlib import Path
from typing import Final, NamedTuple

SECOND_NS: Final = 1_000_000_000
START_NS: Final = 1_700_000_000 * SECOND_NS
# IP lengths, 7 : 4 : 1, as testers mix them.
IMIX: Final = (40, 576, 40, 40, 576, 40, 1_500, 40, 576, 40, 40, 576)
HEADERS_BYTES: Final = 36
_FILE_HEADER: Final = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65_535, 101)


class Packet(NamedTuple):
    """A packet on the ingress or egress port."""

    ts_ns: int
    length: int
    flow: int
    sequence: int
    dscp: int = 0


def write(path: Path, packets: Iterable[Packet]) -> None:
    """A capture of raw IP; a flow is a UDP destination port and a part of the source address."""
    with path.open("wb") as stream:
        stream.write(_FILE_HEADER)
        for ts_ns, length, flow, sequence, dscp in packets:
            seconds, fraction = divmod(ts_ns, SECOND_NS)
            stream.write(struct.pack("<IIII", seconds, fraction, HEADERS_BYTES, length))
            stream.write(
                struct.pack(
                    "!BBHHHBBHIIHHHHQ",
                    *(0x45, dscp << 2, length, sequence & 0xFFFF, 0x4000, 64, 17, 0),
                    *(0xC6120000 + (flow >> 14), 0x0A2D0002, 5004, 1024 + (flow & 0x3FFF), length - 20, 0, sequence),
                )
            )


def read(path: Path) -> Iterator[Packet]:
    """The packets of an egress capture, by nothing of castcore's."""
    content = path.read_bytes()
    order = "<" if content[:4] == _FILE_HEADER[:4] else ">"
    header = struct.Struct(order + "II8x")
    for at in range(24, len(content), 16 + HEADERS_BYTES):
        seconds, fraction = header.unpack_from(content, at)
        tos, length, source, port, sequence = struct.unpack_from("!xBH8xI6xH4xQ", content, at + 16)
        flow = (source - 0xC6120000) << 14 | (port - 1024)
        yield Packet(seconds * SECOND_NS + fraction, length, flow, sequence, tos >> 2)


def burst(lengths: Sequence[int], start_ns: Fraction | int, line_bps: int) -> list[tuple[int, int]]:
    """(time, length) of packets back to back on a link; each comes when its last bit has come."""
    found, bits = [], 0
    for length in lengths:
        bits += length * 8
        found.append((int(start_ns + Fraction(bits * SECOND_NS, line_bps)), length))
    return found


def lengths_of(kind: int | str, volume_bytes: int, *, more: bool = False) -> list[int]:
    """As many packets as the volume holds, or ``more`` than it by the fewest; ``kind`` is a length or "IMIX"."""
    mix = cycle(IMIX if isinstance(kind, str) else (kind,))
    found: list[int] = []
    total = 0
    while total < volume_bytes:
        length = next(mix)
        if total + length > volume_bytes and not more:
            break
        found.append(length)
        total += length
    return found


@dataclass(frozen=True)
class Egress:
    """What was measured at the egress port (RFC 7640 §4.1), of the packets of one policer."""

    passed_packets: int
    passed_bytes: int
    lost_packets: int
    out_of_sequence: int
    delay_ns: float
    delay_variation_ns: int


def measured(sent: Sequence[Packet], received: Sequence[Packet]) -> Egress:
    """Lost and out-of-sequence packets, delay and its variation between the ports."""
    sent_at = {packet.sequence: packet.ts_ns for packet in sent}
    delays = [packet.ts_ns - sent_at[packet.sequence] for packet in received]
    last: dict[int, int] = {}
    disordered = 0
    for packet in received:
        disordered += packet.sequence < last.get(packet.flow, -1)
        last[packet.flow] = max(packet.sequence, last.get(packet.flow, -1))
    return Egress(
        passed_packets=len(received),
        passed_bytes=sum(packet.length for packet in received),
        lost_packets=len(sent) - len(received),
        out_of_sequence=disordered,
        delay_ns=sum(delays) / len(delays) if delays else 0.0,
        delay_variation_ns=max(delays) - min(delays) if delays else 0,
    )
