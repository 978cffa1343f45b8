"""The flow table grows, fills and forgets without any flow noticing: each keeps its own bucket and its own counts.

The bucket of every flow holds one packet and refills in hours, so a flow's first packet conforms and no other does.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from random import Random

import pytest

from upf.capture import CaptureFormat
from upf.engine import CONFORMING, DROPPED, Engine
from upf.rules import Mode, Policer, Rule
from upf.sdf import parse_filter

ONE_PACKET = Rule(
    "each", 1, (parse_filter("permit out ip from any to any"),), Policer(8, 64), Mode.POLICE, per_flow=True
)
IP_LENGTH = {4: 40, 6: 60}
# The table begins with 4,096 slots, grows at a quarter of them up to 2^19 and at half from there.
GROWTHS = (1_000, 1_024, 1_025, 2_048, 2_100, 5_000, 40_000)


def records(flows: Iterable[int], version: int, start_ns: int = 1_600_000_000 * 10**9) -> bytes:
    """Raw IP packets, a microsecond apart; the flow's number is in its addresses and ports."""
    pieces = []
    for number, flow in enumerate(flows):
        ts_ns = start_ns + number * 1_000
        tail = struct.pack(">HHHH", 1 + flow % 60_000, 443, 20, 0) + bytes(12)
        if version == 4:
            packet = struct.pack(">BBHIBBHII", 0x45, 0, 40, 0, 64, 17, 0, 0x0A00_0000 + flow // 7, 0xC633_6401) + tail
        else:
            packet = struct.pack(">IHBBQQQQ", 6 << 28, 20, 17, 64, 0x2001 << 48, flow // 7, 0x2001 << 48, 1) + tail
        pieces += (struct.pack("=IIII", ts_ns // 10**9, ts_ns % 10**9, len(packet), len(packet)), packet)
    return b"".join(pieces)


def judged(engine: Engine, data: bytes, draw: Random) -> list[int]:
    """The verdicts on the packets, which come in runs of random length."""
    capture_format = CaptureFormat(swapped=False, nanoseconds=True, link_type=101, snaplen=65_535)
    verdicts, offset, over = [], 0, False
    while not over:
        wanted = draw.choice((1, 3, 64, 65, 1_000))
        room = bytearray(wanted)
        offset, count, over = engine.run(data, capture_format, offset=offset, max_packets=wanted, verdicts=room)
        verdicts += room[:count]
    return verdicts


def installed(**options: int | bool) -> Engine:
    engine = Engine(**options)
    engine.install([ONE_PACKET])
    return engine


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("flows", GROWTHS)
def test_every_flow_keeps_its_bucket_while_the_table_grows(flows: int, version: int) -> None:
    draw = Random(flows)
    engine = installed(flow_times=True)
    # New flows and known ones in turn, so that look-ups fall into every moment of a growth.
    numbers: list[int] = []
    for flow in range(flows):
        numbers.append(flow)
        numbers.append(draw.randrange(flow + 1))
    seen: set[int] = set()
    expected = [DROPPED if flow in seen or seen.add(flow) else CONFORMING for flow in numbers]

    assert judged(engine, records(numbers, version), draw) == expected

    counted = engine.flows()
    assert len(counted) == engine.totals().flows == flows
    assert {flow.conforming_packets for flow in counted} == {1}
    assert sum(flow.excess_packets for flow in counted) == flows
    # First times are a microsecond apart for each new flow, whatever table the flow was in since.
    assert len({flow.first_ns for flow in counted}) == flows
    assert engine.totals().evicted_flows == engine.totals().aged_flows == 0


@pytest.mark.parametrize("bound", [1, 1_023, 1_024, 1_025, 1_500, 3_000])
def test_a_bound_holds_at_every_moment_of_a_growth(bound: int) -> None:
    engine = installed(max_flows=bound)
    flows = 3 * bound + 5

    assert judged(engine, records(range(flows), 4), Random(bound)) == [CONFORMING] * flows

    assert len(engine.flows()) == bound
    assert engine.totals().evicted_flows == flows - bound


def test_known_flows_are_policed_in_a_flood_as_without_it() -> None:
    draw = Random(7)
    known, bound = 200, 4_000
    numbers = list(range(known))
    for flow in range(1_000_000, 1_060_000):
        numbers.append(flow)
        if flow % 2:
            numbers.append(flow // 2 % known)
    engine = installed(max_flows=bound)

    verdicts = judged(engine, records(numbers, 4), draw)

    assert [verdict for flow, verdict in zip(numbers, verdicts, strict=True) if flow < known] == (
        [CONFORMING] * known + [DROPPED] * 30_000
    )
    assert engine.totals().evicted_flows == known + 60_000 - bound


def test_a_flow_that_came_back_after_the_flood_begins_anew() -> None:
    engine = installed(max_flows=100)

    verdicts = judged(engine, records([1, *range(1_000, 1_400), 1], 4), Random(1))

    assert (verdicts[0], verdicts[-1]) == (CONFORMING, CONFORMING)


def test_a_new_rule_set_reaches_flows_that_are_still_in_the_old_table() -> None:
    engine = installed()
    numbers = list(range(1_030))
    assert judged(engine, records(numbers, 4), Random(3)) == [CONFORMING] * 1_030
    engine.install([])

    judged(engine, records(numbers, 4), Random(3))

    assert engine.totals().unmatched_packets == 1_030
    assert {flow.rule for flow in engine.flows()} == {""}
    assert engine.totals().flows == 1_030
