"""A media session as it would be captured: video over TCP and QUIC, audio over UDP, and a query that is none of it.

It begins within a threshold of 2 Mbps, exceeds it while a second video connection is open, and comes back to it.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from random import Random
from typing import Final

from upf.capture import write_header

ETHERNET: Final = 1
UE: Final = "10.45.0.2"
SERVER: Final = "198.51.100.7"
START_NS: Final = 1_760_000_000 * 10**9
RESOLVER: Final = "198.51.100.53"
SEGMENT_BYTES: Final = 1_360
_S: Final = 10**9
_TCP: Final = 6
_UDP: Final = 17
_FIN, _SYN, _ACK = 0x01, 0x02, 0x10
# From one host to the other; what follows is IPv4.
_FRAME: Final = bytes.fromhex("020000000002 020000000001 0800")


@dataclass(frozen=True, slots=True)
class Stream:
    """One 5-tuple of the session, and the bit rates (IP) at which it sends from second to second."""

    protocol: int
    server_port: int
    ue_port: int
    payload_bytes: int
    # (from second, to second, bit/s)
    periods: tuple[tuple[float, float, int], ...]


# Within 2 Mbps; 3.8 Mbps while the second video connection is open; within again.
STREAMS: Final = (
    Stream(6, 443, 40_001, SEGMENT_BYTES, ((0, 3, 1_400_000), (3, 6, 1_500_000))),
    Stream(6, 443, 40_002, SEGMENT_BYTES, ((3, 6, 2_200_000),)),
    Stream(17, 443, 40_003, 1_200, ((6, 9, 1_300_000),)),
    Stream(17, 5_004, 40_004, 160, ((0, 9, 96_000),)),
)
DURATION_S: Final = 9


def media_session(seed: int = 1) -> bytes:
    """The capture (pcap, nanoseconds, Ethernet) of the session; the same for the same seed."""
    random = Random(seed)
    packets = [packet for stream in STREAMS for packet in _stream(stream, random)]
    packets += [(START_NS + second * _S, _query(second)) for second in range(0, DURATION_S, 3)]
    packets.sort(key=lambda packet: packet[0])
    capture = io.BytesIO()
    write_header(capture, link_type=ETHERNET, nanoseconds=True)
    for ts_ns, data in packets:
        capture.write(struct.pack("=IIII", *divmod(ts_ns, _S), len(data), len(data)) + data)
    return capture.getvalue()


def _stream(stream: Stream, random: Random) -> Iterator[tuple[int, bytes]]:
    """Downlink packets at the rate, and for TCP its handshake, its acknowledgements, and its end."""
    tcp = stream.protocol == _TCP
    sequence, number = 1_000, 0
    first_ns, last_ns = START_NS, START_NS
    if tcp:
        opening_ns = START_NS + int(stream.periods[0][0] * _S)
        yield opening_ns, _uplink(stream, flags=_SYN, ack=0)
        yield opening_ns + 10_000_000, _downlink(stream, b"", flags=_SYN | _ACK, seq=sequence)
        sequence += 1
        first_ns = opening_ns + 20_000_000
    for begin_s, end_s, rate_bps in stream.periods:
        now_ns = max(first_ns, START_NS + int(begin_s * _S))
        while now_ns < START_NS + int(end_s * _S):
            payload = bytes(random.randint(stream.payload_bytes // 2, stream.payload_bytes))
            data = _downlink(stream, payload, flags=_ACK, seq=sequence)
            yield now_ns, data
            last_ns = now_ns
            sequence += len(payload)
            number += 1
            if tcp and number % 2 == 0:
                yield now_ns + 200_000, _uplink(stream, flags=_ACK, ack=sequence)
            # The gap that the packet's own IP length takes at the rate, a little early or late.
            now_ns += int((len(data) - len(_FRAME)) * 8 * _S / rate_bps * random.uniform(0.7, 1.3))
    if tcp:
        yield last_ns + 1_000_000, _downlink(stream, b"", flags=_FIN | _ACK, seq=sequence)
        yield last_ns + 2_000_000, _uplink(stream, flags=_FIN | _ACK, ack=sequence + 1)


def _downlink(stream: Stream, payload: bytes, *, flags: int, seq: int) -> bytes:
    ports = stream.server_port, stream.ue_port
    if stream.protocol == _TCP:
        return _ipv4(SERVER, UE, _TCP, _tcp(*ports, seq, 0, flags, window=502) + payload, ttl=57)
    return _ipv4(SERVER, UE, _UDP, _udp(*ports, payload), ttl=57)


def _uplink(stream: Stream, *, flags: int, ack: int) -> bytes:
    return _ipv4(UE, SERVER, _TCP, _tcp(stream.ue_port, stream.server_port, 500, ack, flags, window=2_000))


def _query(second: int) -> bytes:
    """Traffic of the UE that is not part of the media session: it asks for the address of media.example."""
    header = struct.pack("!6H", second, 0x0100, 1, 0, 0, 0)
    return _ipv4(UE, RESOLVER, _UDP, _udp(5_353 + second, 53, header + b"\5media\7example\0\0\1\0\1"))


def _tcp(source: int, target: int, seq: int, ack: int, flags: int, *, window: int) -> bytes:
    return struct.pack("!HHIIBBHHH", source, target, seq, ack, 5 << 4, flags, window, 0, 0)


def _udp(source: int, target: int, payload: bytes) -> bytes:
    return struct.pack("!HHHH", source, target, 8 + len(payload), 0) + payload


def _ipv4(source: str, target: str, protocol: int, segment: bytes, *, ttl: int = 64) -> bytes:
    """The frame of a packet, with its checksums."""
    addresses = IPv4Address(source).packed + IPv4Address(target).packed
    at = 16 if protocol == _TCP else 6
    # 0 would mean that UDP has none.
    own = _checksum(addresses + struct.pack("!HH", protocol, len(segment)) + segment) or 0xFFFF * (protocol == _UDP)
    begin = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(segment), 1, 0, ttl, protocol)
    header = begin + struct.pack("!H", _checksum(begin + addresses)) + addresses
    return _FRAME + header + segment[:at] + struct.pack("!H", own) + segment[at + 2 :]


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071): what is folded into sixteen bits is a remainder."""
    return -int.from_bytes(data + bytes(len(data) % 2), "big") % 0xFFFF
