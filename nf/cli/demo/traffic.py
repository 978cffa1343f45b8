"""A media session as scapy would capture it: video over TCP and QUIC, audio over UDP, and a query that is none of it.

It begins within a threshold of 2 Mbps, exceeds it while a second video connection is open, and comes back to it.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from upf.capture import write_header

ETHERNET: Final = 1
UE: Final = "10.45.0.2"
SERVER: Final = "198.51.100.7"
START_NS: Final = 1_760_000_000 * 10**9
SEGMENT_BYTES: Final = 1_360
_S: Final = 10**9


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
    tcp = stream.protocol == 6
    sequence, number = 1_000, 0
    first_ns, last_ns = START_NS, START_NS
    if tcp:
        opening_ns = START_NS + int(stream.periods[0][0] * _S)
        yield opening_ns, _uplink(stream, flags="S", ack=0)
        yield opening_ns + 10_000_000, _downlink(stream, b"", flags="SA", seq=sequence)
        sequence += 1
        first_ns = opening_ns + 20_000_000
    for begin_s, end_s, rate_bps in stream.periods:
        now_ns = max(first_ns, START_NS + int(begin_s * _S))
        while now_ns < START_NS + int(end_s * _S):
            payload = bytes(random.randint(stream.payload_bytes // 2, stream.payload_bytes))
            data = _downlink(stream, payload, flags="A", seq=sequence)
            yield now_ns, data
            last_ns = now_ns
            sequence += len(payload)
            number += 1
            if tcp and number % 2 == 0:
                yield now_ns + 200_000, _uplink(stream, flags="A", ack=sequence)
            # The gap that the packet's own IP length takes at the rate, a little early or late.
            now_ns += int((len(data) - 14) * 8 * _S / rate_bps * random.uniform(0.7, 1.3))
    if tcp:
        yield last_ns + 1_000_000, _downlink(stream, b"", flags="FA", seq=sequence)
        yield last_ns + 2_000_000, _uplink(stream, flags="FA", ack=sequence + 1)


def _downlink(stream: Stream, payload: bytes, *, flags: str, seq: int) -> bytes:
    ip = IP(src=SERVER, dst=UE, ttl=57)
    if stream.protocol == 6:
        transport: Packet = TCP(sport=stream.server_port, dport=stream.ue_port, seq=seq, flags=flags, window=502)
    else:
        transport = UDP(sport=stream.server_port, dport=stream.ue_port)
    return bytes(_frame() / ip / transport / Raw(payload))


def _uplink(stream: Stream, *, flags: str, ack: int) -> bytes:
    transport = TCP(sport=stream.ue_port, dport=stream.server_port, seq=500, ack=ack, flags=flags, window=2_000)
    return bytes(_frame() / IP(src=UE, dst=SERVER, ttl=64) / transport)


def _query(second: int) -> bytes:
    """Traffic of the UE that is not part of the media session."""
    name = DNS(rd=1, id=second, qd=DNSQR(qname="media.example"))
    return bytes(_frame() / IP(src=UE, dst="198.51.100.53") / UDP(sport=5_353 + second, dport=53) / name)


def _frame() -> Packet:
    return Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
