"""Any segments of a few connections and of DNS servers: names that are names, and no more kept than the limits say.

An input is segments, each behind four bytes: who sends to whom, the ports, how much later, and how long it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from upf.names.inspector import Inspector, Limits
from upf.names.patterns import read_name

LIMITS: Final = Limits(packets=6, pending=3, pending_bytes=3_000, connections=6, addresses=4)
STEPS_NS: Final = (0, 1_000, 10**9, 21 * 10**9, -(10**9))
PORTS: Final = (53, 443, 80, 40_000)
MOST_SEGMENTS: Final = 40


def check(data: bytes) -> None:
    inspector, at, now_ns, count = Inspector(LIMITS), 0, 10**18, 0
    while at + 4 <= len(data) and count < MOST_SEGMENTS:
        who, ports, step, length = data[at : at + 4]
        count += 1
        now_ns += STEPS_NS[step % len(STEPS_NS)]
        segment = None if length == 255 else data[at + 4 : at + 4 + 4 * length]
        at += 4 + 4 * length * (length != 255)
        names, _ = inspector.inspect(
            now_ns,
            4 if who & 1 else 6,
            1 + (who >> 1 & 3),
            1 + (who >> 3 & 3),
            17 if who & 0x20 else 6,
            PORTS[ports & 3],
            PORTS[ports >> 2 & 3],
            segment,
        )
        for name in names:
            assert read_name(name.encode()) == name, name
        counters = inspector.counters()
        assert counters.inspected <= count
        assert counters.named + counters.given_up <= 2 * count
    assert len(inspector._addresses) <= LIMITS.addresses
    assert len(inspector._connections) <= LIMITS.connections
    assert len(inspector._pending) <= LIMITS.pending
    held_bytes = {key: inspector._connections[key].held_bytes for key in inspector._pending}
    assert held_bytes == inspector._pending
    assert sum(held_bytes.values()) == inspector._pending_bytes <= LIMITS.pending_bytes


def seeds() -> Iterator[bytes]:
    from named_traffic import SYN, client_hello, dns_answer, http_request, tcp, udp

    hello, request = client_hello("video.example.com"), http_request("www.example.com")
    answer = dns_answer("www.example.com", [("www.example.com.", "A", 20, "0.0.0.2")])
    connection = [
        written(0b0001001, 0b0111, tcp(40_000, 443, 1, flags=SYN)),
        written(0b0001001, 0b0111, tcp(40_000, 443, 2, hello[:200])),
        written(0b0001001, 0b0111, tcp(40_000, 443, 202, hello[200:])),
    ]
    yield b"".join(connection)
    yield b"".join(reversed(connection))
    yield written(0b0101001, 0b1100, udp(53, 40_000, answer)) + written(0b0001001, 0b1011, tcp(40_000, 80, 9, request))
    yield b"".join(written(0b0001001 | n << 3, 0b1011, tcp(40_000, 80, 9, request[:50])) for n in range(4))


def written(who: int, ports: int, segment: bytes) -> bytes:
    padded = segment[:1016].ljust(-(-len(segment) // 4) * 4, b"\0")[:1016]
    return bytes((who, ports, 1, len(padded) // 4)) + padded
