"""Live segmented audio as packets, what competes with it, and the player that listens; packet time is the media clock.

A station sends a segment's packets evenly over the segment's time. Each packet says which edition of the programme it
is of, which segment, which packet of how many. A player has an audio buffer of some segments: a segment of which a
packet is missing when its time comes is silence.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from socket import inet_ntoa
from typing import Final, NamedTuple

from upf.capture import write_header

ETHERNET: Final = 1
# The station, and a server from which something else is loaded.
STATION: Final = "198.51.100.7"
STATION_PORT: Final = 5004
OTHER: Final = "203.0.113.80"
_UE_PORT: Final = 5004
_OTHER_PORTS: Final = 443, 50_443

SEGMENT_NS: Final = 500_000_000
PACKETS_PER_SEGMENT: Final = 16
# What a player holds before it begins to play.
BUFFER_NS: Final = 2 * SEGMENT_NS
_OTHER_PAYLOAD_BYTES: Final = 1_372
_S: Final = 10**9
_UDP: Final = 17
_IP_UDP_BYTES: Final = 28
_FRAME: Final = bytes.fromhex("020000000002 020000000001 0800")
_RECORD: Final = struct.Struct("=IIII")
# Edition, segment, packet of the segment, packets of a segment.
_TAG: Final = struct.Struct("!4sIHH")


class Encoding(NamedTuple):
    """How the station encodes: the size of a packet's payload says the bit rate."""

    payload_bytes: int

    @property
    def packet_bytes(self) -> int:
        """The IP packet."""
        return self.payload_bytes + _IP_UDP_BYTES

    @property
    def rate_bps(self) -> int:
        """Of its IP packets."""
        return self.packet_bytes * 8 * PACKETS_PER_SEGMENT * _S // SEGMENT_NS


@dataclass(frozen=True, slots=True)
class Listener:
    """What is sent to one UE for a while: an edition of the programme, ``copies`` times over, and what competes."""

    ue: str
    edition: str
    encoding: Encoding
    # An encoder that is out of hand sends everything several times.
    copies: int = 1
    other_bps: int = 0


class Heard(NamedTuple):
    """A packet that has come through."""

    ue: str
    ts_ns: int
    ip_bytes: int
    # Empty: it is not the station's.
    edition: str
    segment: int
    number: int


def capture_of(listeners: Sequence[Listener], begin_ns: int, segments: int) -> bytes:
    """The packets of so many segments to these UEs, as a capture (pcap, nanoseconds, Ethernet) in the order of time.

    ``begin_ns`` is a multiple of SEGMENT_NS: the segment that begins then has this number.
    """
    packets = [packet for each in listeners for packet in _packets(each, begin_ns, segments)]
    packets.sort(key=lambda packet: packet[0])
    capture = io.BytesIO()
    write_header(capture, link_type=ETHERNET, nanoseconds=True)
    for ts_ns, head, payload in packets:
        size = len(head) + len(payload)
        capture.write(_RECORD.pack(*divmod(ts_ns, _S), size, size))
        capture.write(head)
        capture.write(payload)
    return capture.getvalue()


def packets_in(capture: bytes) -> Iterator[Heard]:
    """What a capture as above holds, after it went through the UPF."""
    stations = IPv4Address(STATION).packed
    at = 24
    while at < len(capture):
        seconds, nanos, size, _ = _RECORD.unpack_from(capture, at)
        at += _RECORD.size
        ip = at + len(_FRAME)
        ip_bytes = int.from_bytes(capture[ip + 2 : ip + 4], "big")
        ue = inet_ntoa(capture[ip + 16 : ip + 20])
        if capture[ip + 12 : ip + 16] == stations:
            edition, segment, number, _ = _TAG.unpack_from(capture, ip + _IP_UDP_BYTES)
            yield Heard(ue, seconds * _S + nanos, ip_bytes, edition.rstrip(b"\0").decode(), segment, number)
        else:
            yield Heard(ue, seconds * _S + nanos, ip_bytes, "", 0, 0)
        at += size


def _packets(listener: Listener, begin_ns: int, segments: int) -> Iterator[tuple[int, bytes, bytes]]:
    """Time, headers, payload."""
    gap_ns = SEGMENT_NS // PACKETS_PER_SEGMENT
    edition = listener.edition.encode()[:4]
    size = listener.encoding.payload_bytes
    filler = bytes(size - _TAG.size)
    head = _headers(STATION, STATION_PORT, listener.ue, _UE_PORT, size)
    first = begin_ns // SEGMENT_NS
    for segment in range(first, first + segments):
        for number in range(PACKETS_PER_SEGMENT):
            payload = _TAG.pack(edition, segment, number, PACKETS_PER_SEGMENT) + filler
            ts_ns = segment * SEGMENT_NS + number * gap_ns
            for copy in range(listener.copies):
                yield ts_ns + copy * gap_ns // listener.copies, head, payload
    if listener.other_bps:
        head = _headers(OTHER, _OTHER_PORTS[0], listener.ue, _OTHER_PORTS[1], _OTHER_PAYLOAD_BYTES)
        payload = bytes(_OTHER_PAYLOAD_BYTES)
        other_ns = (_OTHER_PAYLOAD_BYTES + _IP_UDP_BYTES) * 8 * _S // listener.other_bps
        for ts_ns in range(begin_ns + other_ns // 2, begin_ns + segments * SEGMENT_NS, other_ns):
            yield ts_ns, head, payload


def _headers(source: str, source_port: int, target: str, target_port: int, payload_bytes: int) -> bytes:
    """Of a frame. UDP has no checksum, which IPv4 allows."""
    length = _IP_UDP_BYTES + payload_bytes
    addresses = IPv4Address(source).packed + IPv4Address(target).packed
    begin = struct.pack("!BBHHHBB", 0x45, 0, length, 1, 0, 57, _UDP)
    checksum = -int.from_bytes(begin + addresses, "big") % 0xFFFF
    udp = struct.pack("!HHHH", source_port, target_port, length - 20, 0)
    return _FRAME + begin + struct.pack("!H", checksum) + addresses + udp


@dataclass(slots=True)
class Programme:
    """What a listener has heard of a stretch of the programme."""

    segments: int = 0
    silent_segments: int = 0
    # Runs of silent segments.
    interruptions: int = 0
    editions: list[str] = field(default_factory=list)

    @property
    def silent_ns(self) -> int:
        """How long nothing could be played."""
        return self.silent_segments * SEGMENT_NS


class Player:
    """A listener's audio buffer. A segment is played ``BUFFER_NS`` after it has been sent, if all of it is there."""

    def __init__(self) -> None:
        self._held: dict[int, dict[int, str]] = {}
        self._silent = False

    def receive(self, packet: Heard) -> None:
        """Takes a packet of the programme, however often it comes; one that comes too late is of no use."""
        if packet.ts_ns <= (packet.segment + 1) * SEGMENT_NS + BUFFER_NS:
            self._held.setdefault(packet.segment, {})[packet.number] = packet.edition

    def play(self, first: int, segments: int) -> Programme:
        """Plays the segments from ``first`` on."""
        told = Programme()
        for segment in range(first, first + segments):
            packets = self._held.pop(segment, {})
            told.segments += 1
            if len(packets) < PACKETS_PER_SEGMENT:
                told.silent_segments += 1
                told.interruptions += not self._silent
                self._silent = True
                continue
            self._silent = False
            edition = packets[0]
            if not told.editions or told.editions[-1] != edition:
                told.editions.append(edition)
        return told
