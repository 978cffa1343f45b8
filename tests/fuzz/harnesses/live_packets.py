"""Any bytes out of a tun device, virtio-net header and all: the wire loses nothing, and what leaves is what it counted.

An input is a byte for the rules, and messages, each with its length before it (two bytes, little-endian). They stand in
the device when the wire begins, which ends when it has taken them.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import captures

from fuzz.harnesses.packets import RULE_SETS
from upf.counters import WireCounters
from upf.engine import Engine, Wire, cut

HEADER: Final = struct.Struct("=BBHHHH")
# One reading of the wire.
MOST_MESSAGES: Final = 64
MOST_BYTES: Final = 16_384


def check(data: bytes) -> None:
    if not data:
        return
    messages = list(read(data[1:]))
    engine = Engine(max_flows=64)
    engine.install(RULE_SETS[data[0] % len(RULE_SETS)])
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) for _ in range(2)]
    (sender, source), (sink, receiver) = pairs
    try:
        for end in (sender, sink):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        for message in messages:
            sender.send(message)
        wire = Wire(engine, source.fileno(), sink.fileno())
        wire.stop()
        wire.run()
        left = list(received(receiver))
    finally:
        for end in (*pairs[0], *pairs[1]):
            end.close()
    counters = wire.counters()
    adds_up(counters)
    if not counters.queued_packets:
        # A fragment that is held counts as one packet, whatever it says to be.
        assert (counters.packets, counters.bytes) == total(messages), f"{counters}: came {total(messages)}"
    if not counters.errors and not counters.queued_packets:
        assert (counters.passed_packets, counters.passed_bytes) == total(left), f"{counters}: left {total(left)}"
    assert engine.packets <= counters.packets


def read(data: bytes) -> Iterator[bytes]:
    """The messages of an input: those that a device gives have their header whole."""
    at = count = taken = 0
    while at + 2 <= len(data) and count < MOST_MESSAGES and taken < MOST_BYTES:
        length = int.from_bytes(data[at : at + 2], "little")
        message = data[at + 2 : at + 2 + length]
        if len(message) >= HEADER.size:
            yield message
            taken += len(message)
            count += 1
        at += 2 + length


def received(receiver: socket.socket) -> Iterator[bytes]:
    with suppress(BlockingIOError):
        while True:
            yield receiver.recv(1 << 17)


def adds_up(counters: WireCounters) -> None:
    assert not counters.queued_packets or counters.queued_bytes
    packets = counters.passed_packets + counters.dropped_packets + counters.malformed_packets + counters.queued_packets
    volume = counters.passed_bytes + counters.dropped_bytes + counters.malformed_bytes + counters.queued_bytes
    assert (packets + counters.error_packets, volume + counters.error_bytes) == (counters.packets, counters.bytes), (
        counters
    )


def total(messages: list[bytes]) -> tuple[int, int]:
    """Packets as they go on a wire, and their bytes."""
    packets = volume = 0
    for message in messages:
        segments = segments_of(message)
        packets += len(segments)
        volume += sum(segments)
    return packets, volume


def segments_of(message: bytes) -> list[int]:
    """Lengths of the packets that a message stands for; every one of them can be cut out of it."""
    _, kind, _, segment_bytes, _, _ = HEADER.unpack_from(message)
    length = len(message) - HEADER.size
    if not kind & 0x7F:
        return [length]
    lengths: list[int] = []
    while True:
        try:
            piece = cut(message, len(lengths), 1)
        except ValueError:
            break
        lengths.append(len(piece) - HEADER.size)
    if not lengths:
        # It is no super-packet, or one of a single segment.
        return [length]
    headers = lengths[0] - segment_bytes
    assert sum(lengths) == length + (len(lengths) - 1) * headers
    assert len(cut(message, 0, len(lengths))) == len(message)
    return lengths


def written(rules: int, messages: list[bytes]) -> bytes:
    return bytes((rules,)) + b"".join(len(message).to_bytes(2, "little") + message for message in messages)


def seeds() -> Iterator[bytes]:
    tcp = struct.pack("!HHIIBBHHH", 443, 5000, 1, 2, 0x50, 0x19, 1000, 0, 0)
    udp = struct.pack("!HHHH", 443, 5000, 0, 0)
    ends, ends6 = ("198.51.100.1", "10.45.0.2"), ("2001:db8::1", "2001:db8:45::2")
    for rules in range(len(RULE_SETS)):
        traffic = captures.Traffic(seed=rules, packets=20, flows=3, link_type=captures.RAW)
        plain = [bytes(HEADER.size) + packet.data[:200] for packet in captures.generate(traffic)[:6]]
        supers = [
            HEADER.pack(1, 1, 40, 50, 20, 16) + captures.ipv4(*ends, captures.TCP, tcp + bytes(220)),
            HEADER.pack(1, 0x81, 40, 100, 20, 16) + captures.ipv4(*ends, captures.TCP, tcp + bytes(300)),
            HEADER.pack(1, 5, 28, 20, 20, 6) + captures.ipv4(*ends, captures.UDP, udp + bytes(130)),
            HEADER.pack(1, 4, 60, 90, 40, 16) + captures.ipv6(*ends6, captures.TCP, tcp + bytes(200)),
            HEADER.pack(1, 5, 48, 64, 40, 6) + captures.ipv6(*ends6, captures.UDP, udp + bytes(200)),
        ]
        yield written(rules, plain + supers)
        yield written(rules, supers)
