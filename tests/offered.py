"""Packets that are sent to be policed, at adversarial times or evenly, and the engine's verdicts on them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import NamedTuple

import captures
from captures import SECOND_NS, START_NS
from windows import BYTE

from upf.capture import parse_header
from upf.engine import Engine
from upf.rules import Mode, Policer, Rule
from upf.sdf import parse_filter

DAY_NS = 86_400 * SECOND_NS
RATES_BPS = (1_000, 64_000, 1_544_000, 10**7, 10**9, 10**10, 4 * 10**10, 10**11, 4 * 10**11)


class Offered(NamedTuple):
    """A packet that is sent: when, how many bytes of IP, of which flow."""

    ts_ns: int
    length: int
    flow: int = 0


def policed(policer: Policer, *, per_flow: bool = False, mode: Mode = Mode.POLICE) -> Rule:
    return Rule("rule", 1, (parse_filter("permit out ip from any to any"),), policer, mode, per_flow)


def on_the_wire(packet: Offered) -> captures.Captured:
    """The headers of a packet of that length: an IPv4 one, or for more than IPv4 can say a jumbogram (RFC 2675)."""
    transport = struct.pack("!HHHH", 1024 + packet.flow, 443, 0, 0)
    if packet.length <= 65_535:
        data = captures.ipv4("198.51.100.1", "10.45.0.2", captures.UDP, transport, total_length=packet.length)
    else:
        jumbo = struct.pack("!BBBBI", captures.UDP, 0, 0xC2, 4, packet.length - 40)
        data = captures.ipv6("2001:db8::1", "2001:db8::2", captures.HOP_BY_HOP, jumbo + transport, payload_length=0)
    return captures.Captured(packet.ts_ns, data, packet.length)


def judged(packets: Sequence[Offered], rule: Rule, *, nanoseconds: bool = True) -> tuple[list[int], Engine]:
    """The engine's verdict on each packet."""
    capture = captures.pcap(map(on_the_wire, packets), link_type=captures.RAW, nanoseconds=nanoseconds)
    engine, verdicts = Engine(), bytearray(len(packets))
    engine.install([rule])
    engine.run(capture, parse_header(capture[:24], source=""), offset=24, max_packets=len(packets), verdicts=verdicts)
    return list(verdicts), engine


def adversarial(random: Random, rate_bps: int, burst_bytes: int, *, packets: int, flows: int) -> list[Offered]:
    """Arrivals that try to get more than is due: volleys, exact refills, one nanosecond too early, long silences."""
    now_ns, found = START_NS, []
    filling_ns = -(-burst_bytes * BYTE // rate_bps)
    longest = min(65_535, max(64, burst_bytes))
    while len(found) < packets:
        length = random.choice((28, 64, 64, 576, 1_500, 9_000, longest, random.randint(28, 65_535), 100_000))
        refill_ns = -(-length * BYTE // rate_bps)
        volley = random.choice((1, 1, 1, 2, 5, 40))
        now_ns += random.choice((
            0, 1, refill_ns, max(0, refill_ns - 1), refill_ns // 2, 2 * refill_ns, random.randint(0, 3 * refill_ns + 1),
            filling_ns if random.random() < 0.1 else 0, DAY_NS if random.random() < 0.02 else 0,
        ))  # fmt: skip
        found += [Offered(now_ns, length, random.randrange(flows)) for _ in range(volley)]
    return found[:packets]


def limits(random: Random) -> tuple[int, int]:
    """A rate and a burst of any size, often small beside each other."""
    rate_bps = random.choice((*RATES_BPS, random.randint(1, 10_000), int(10 ** random.uniform(3, 11.6))))
    burst_bytes = random.choice((64, 1_500, 15_000, 65_535, 200_000, 1 << 29, int(2 ** random.uniform(6, 29))))
    return rate_bps, burst_bytes


def steady(rate_bps: int, length: int, *, packets: int, start_ns: int = START_NS) -> Iterator[Offered]:
    """Twice the rate, evenly."""
    return (Offered(start_ns + n * length * 4 * SECOND_NS // rate_bps, length) for n in range(packets))


def disordered(random: Random, packets: Iterable[Offered], *, set_back: bool) -> list[Offered]:
    """Packets that bear earlier times than they should, and a clock that is set back (and forward) for good."""
    found, offset_ns = [], 0
    for packet in packets:
        if set_back and random.random() < 0.01:
            offset_ns += random.choice((-1, -1, 1)) * random.choice((11, 60, 3_600, 86_400 * 365)) * SECOND_NS
        earlier_ns = random.choice((0, 0, 0, 1, 1_000, SECOND_NS, 10 * SECOND_NS))
        found.append(packet._replace(ts_ns=max(0, packet.ts_ns + offset_ns - earlier_ns)))
    return found
