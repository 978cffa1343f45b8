"""The compiled engine agrees with the plain-Python reference, packet by packet."""

from __future__ import annotations

import struct
from collections import Counter
from random import Random

import captures
import pytest
from side_by_side import judged_alike

from upf import engine as _engine
from upf.capture import LINK_TYPES
from upf.counters import Measure
from upf.parsing import Packet, parse_packet, transport_of
from upf.rules import Mode, Policer, Rule
from upf.sdf import parse_filter

ADDRESSES4 = [bytes([198, 51, 100, 7]), bytes([198, 51, 100, 8]), bytes([10, 45, 0, 2])]
ADDRESSES6 = [bytes.fromhex("20010db8" + "00" * 11 + end) for end in ("07", "08", "ff")]
PROTOCOLS = [6, 17, 1, 58, 132, 136, 33, 50, 51, 59, 47]
PORTS = [443, 444, 8000, 443, 444, 2152]


def rule(name: str, flow: str, rate_bps: int = 0, burst_bytes: int = 1500, **options: object) -> Rule:
    policer = Policer(rate_bps, burst_bytes) if rate_bps else None
    options = {"precedence": 1, "mode": Mode.POLICE, **options}
    return Rule(name=name, filters=(parse_filter(flow),), policer=policer, **options)  # type: ignore[arg-type]


RULE_SETS = [
    [rule("udp", "permit out 17 from 198.51.100.0/24 443 to any", 8_000, 1500)],
    [rule("each", "permit out ip from any to any", 16_000, 2000, per_flow=True)],
    [
        rule("watched", "permit out 17 from any 443,8000-8100 to any", 64_000, 3000, mode=Mode.MONITOR, precedence=5),
        rule("v6", "permit out ip from 2001:db8::/124 to any", 1_000_000, 64, precedence=2),
        rule("counted", "permit out 6 from any to 10.45.0.2 443", precedence=9),
        rule("rest", "permit out ip from 198.51.100.7 to any", 40_000_000_000, 15_000, precedence=9),
    ],
    [
        rule("a", "permit out 17 from any to any", 5_000, 1500, bucket_id="both"),
        rule("b", "permit out ip from any to any", 5_000, 1500, bucket_id="both", mode=Mode.MONITOR, precedence=2),
    ],
    [],
]


def tunnel(random: Random) -> bytes:
    """A GTP-U message with a packet within, mostly whole."""
    inner = random.choice([ipv4, ipv6])(random) if random.random() < 0.95 else random.randbytes(random.randint(0, 30))
    message = bytearray(
        captures.gtpu(
            inner,
            kind=random.choice([255] * 8 + [1, 2, 26, 31, 253, 254, 7]),
            teid=random.randint(0, 2),
            sequence=random.choice([None, None, 5]),
            n_pdu=random.choice([None, None, 5]),
            extensions=random.choice(
                [
                    [],
                    [captures.pdu_session(random.choice([0, 9]), pdu_type=random.choice([0, 1, 2]))],
                    [(0x40, random.randbytes(2)), captures.pdu_session(7), captures.pdu_session(8)],
                    [(0x20, random.randbytes(10)), (0x85, b"\0\x45" + bytes(8))],
                ]
            ),
        )
    )
    if random.random() < 0.1:
        message[random.randrange(min(20, len(message)))] = random.choice([0, 1, 4, 0x30, 0x34, 0x85, 0xFF])
    return captures.udp(random.choice(PORTS), captures.GTPU_PORT, bytes(message[: random.choice([9999] * 19 + [12])]))


def transport(random: Random) -> bytes:
    if random.random() < 0.1:
        return bytes(random.randint(0, 9))
    if random.random() < 0.15:
        return tunnel(random)
    return struct.pack(">HHI", random.choice(PORTS), random.choice(PORTS), 0) + random.randbytes(random.randint(0, 60))


def ipv4(random: Random) -> bytes:
    options = bytes(4 * random.choice([0, 0, 0, 1, 10]))
    payload = transport(random)
    protocol = 17 if payload[2:4] == b"\x08\x68" and random.random() < 0.9 else random.choice(PROTOCOLS)
    total = 20 + len(options) + len(payload)
    if random.random() < 0.05:
        total = random.choice([0, 19, 21, 1500, 65535])
    header_words = 5 + len(options) // 4 if random.random() < 0.95 else random.randint(0, 15)
    fragment = random.choice([0, 0, 0, 0x4000, 0x2000, 0x2001, 0x0005])
    head = struct.pack(
        ">BBHHHBBH", random.choice([4] * 19 + [6]) << 4 | header_words, random.choice([0, 0x28]), total,
        random.randint(1, 3), fragment, 64, protocol, 0,
    )  # fmt: skip
    return head + random.choice(ADDRESSES4) + random.choice(ADDRESSES4) + options + payload


def ipv6(random: Random) -> bytes:
    payload = transport(random)
    protocol = 17 if payload[2:4] == b"\x08\x68" and random.random() < 0.9 else random.choice(PROTOCOLS)
    for _ in range(random.choice([0, 0, 1, 2, 4])):
        kind = random.choice([0, 43, 44, 44, 51, 60, 135, 139, 140])
        if kind == 44:
            fields = struct.pack(">HI", random.choice([0, 1, 1, 9, 16]), random.randint(1, 3))
            payload = bytes([protocol, 0]) + fields + payload
        else:
            units = random.randint(0, 2)
            size = (units + 2) * 4 if kind == 51 else (units + 1) * 8
            payload = bytes([protocol, units]) + bytes(size - 2) + payload
        protocol = kind
    length = len(payload) if random.random() < 0.95 else random.choice([0, 3, 9, 1400, 65535])
    if random.random() < 0.05:
        # A jumbo payload option, and a payload length that leaves the word to it.
        payload = bytes([protocol, 0, 0xC2, 4]) + struct.pack(">I", random.randint(0, 70_000)) + payload
        protocol, length = 0, 0
    head = struct.pack(
        ">IHBB", random.choice([6] * 19 + [4]) << 28 | random.choice([0, 0x02812345]), length, protocol, 64
    )
    return head + random.choice(ADDRESSES6) + random.choice(ADDRESSES6) + payload


def frame(random: Random, link_type: int) -> bytes:
    kind = {228: 4, 229: 6}.get(link_type) or random.choice([4, 4, 6, 6, 0])
    payload = ipv4(random) if kind == 4 else ipv6(random) if kind == 6 else random.randbytes(random.randint(0, 60))
    ethertype = {4: 0x0800, 6: 0x86DD, 0: random.choice([0x0806, 0x0800, 0x86DD])}[kind]
    tags = [random.choice([0x8100, 0x88A8, 0x9100]) for _ in range(random.choice([0, 0, 1, 2, 3]))]
    # Each tag announces what follows it: the chain of ethertypes, two bytes of tag control before each but the first.
    first, *rest = [*tags, ethertype]
    chain = b"".join(struct.pack(">HH", 5, following) for following in rest)
    if link_type == 1:
        return bytes(12) + struct.pack(">H", first) + chain + payload
    if link_type == 113:
        return bytes(14) + struct.pack(">H", first) + chain + payload
    if link_type == 276:
        return struct.pack(">H", first) + bytes(18) + chain + payload
    if link_type in (0, 108):
        family = random.choice([24, 28, 30]) if kind == 6 else random.choice([2, 2, 7])
        return struct.pack((">" if link_type == 108 else random.choice("<>")) + "I", family) + payload
    return payload


def traffic(random: Random, link_type: int, count: int) -> list[tuple[int, bytes, int]]:
    """Packets good and bad: (time in ns, captured bytes, length on the wire)."""
    now_ns = 1_700_000_000 * 10**9
    packets = []
    for _ in range(count):
        now_ns += random.choice([0, 1, 1_000, 10**6, 10**8, 10**9, -5, -(10**9), -11 * 10**9, 70 * 10**9])
        data = frame(random, link_type)
        packets.append((now_ns, data[: random.choice([262_144] * 8 + [96, 40, 14, 0])], len(data)))
    return packets


@pytest.mark.parametrize(
    ("rules", "measure", "gtpu"),
    [
        pytest.param(rules, measure, gtpu, id="+".join(rule.name for rule in rules) or "none")
        for rules, measure, gtpu in zip(
            RULE_SETS, [Measure.L3, Measure.L3, Measure.L4, Measure.L2, Measure.L3], [True] * 4 + [False], strict=True
        )
    ],
)
@pytest.mark.parametrize("link_type", sorted(LINK_TYPES))
def test_every_verdict_and_counter_is_that_of_the_reference(
    link_type: int, rules: list[Rule], measure: Measure, gtpu: bool
) -> None:
    packets = traffic(Random(link_type), link_type, 1_200)
    judged_alike(packets, rules, link_type, measure=measure, gtpu=gtpu, chunk=500)


@pytest.mark.parametrize("gtpu", [True, False])
@pytest.mark.parametrize("link_type", sorted(LINK_TYPES))
def test_everything_stands_where_the_reference_finds_it(link_type: int, gtpu: bool) -> None:
    found: Counter[str] = Counter()
    for _, data, wire_length in traffic(Random(link_type + gtpu), link_type, 1_000):
        packet = parse_packet(link_type, data, wire_length, gtpu=gtpu)
        if not isinstance(packet, Packet):
            continue
        expected = transport_of(packet, data)
        assert _engine.dissect(link_type, data, wire_length, gtpu=gtpu) == (
            *expected, packet.tos, packet.flow_label or 0,
        ), data.hex()  # fmt: skip
        found.update(name for name, value in zip(expected._fields, expected, strict=True) if value)
    assert min(found[name] for name in ("offset", "payload", "end", "tcp_flags")) > 3
