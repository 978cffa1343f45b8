"""The flows with most bytes, as the engine tells them to those who watch it at work."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from random import Random

import pytest

from upf.capture import CaptureFormat
from upf.engine import Engine
from upf.rules import Mode, Policer, Rule
from upf.sdf import parse_filter

START_NS = 1_600_000_000 * 10**9
RAW = CaptureFormat(swapped=False, nanoseconds=True, link_type=101, snaplen=65_535)
EVERYTHING = (parse_filter("permit out ip from any to any"),)
# Holds 100 bytes and refills in hours.
SCANT = Policer(8, 100)


def packet(flow: int, length: int, version: int = 4) -> bytes:
    """Of a flow that its number tells, of so many bytes."""
    tail = struct.pack(">HHHH", 1 + flow % 60_000, 443, 20, 0)
    if version == 4:
        return struct.pack(">BBHIBBHII", 0x45, 0, length, 0, 64, 17, 0, 0x0A00_0000 + flow, 0xC633_6401) + tail
    return struct.pack(">IHBBQQQQ", 6 << 28, length - 40, 17, 64, 0x2001 << 48, flow, 0x2001 << 48, 1) + tail


def run(engine: Engine, packets: Iterable[bytes], start_ns: int = START_NS) -> None:
    """Takes the packets, a microsecond apart."""
    data = b"".join(
        struct.pack("=IIII", *divmod(start_ns + number * 1_000, 10**9), len(each), len(each)) + each
        for number, each in enumerate(packets)
    )
    engine.run(data, RAW, offset=0, max_packets=1 << 30)


def installed(rule: Rule | None = None, **options: bool) -> Engine:
    engine = Engine(flow_times=True, **options)
    engine.install([rule] if rule is not None else [])
    return engine


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("flows", [1, 7, 3_000])
def test_the_flows_with_most_bytes_come_first(flows: int, version: int) -> None:
    draw = Random(flows)
    lengths = draw.sample(range(100, 60_000), flows)
    engine = installed()
    run(engine, (packet(flow, length, version) for flow, length in enumerate(lengths)))

    top = engine.top_flows(5, 0)

    assert [flow.bytes for flow in top] == sorted(lengths, reverse=True)[:5]
    for flow in top:
        number = lengths.index(flow.bytes)
        source = IPv4Address(0x0A00_0000 + number) if version == 4 else IPv6Address(0x2001 << 112 | number)
        assert flow.name.source == source
        assert (flow.name.protocol, flow.name.source_port, flow.name.destination_port) == (17, 1 + number, 443)
        assert (flow.packets, flow.first_ns, flow.last_ns) == (1, START_NS + number * 1_000, START_NS + number * 1_000)


def test_both_families_are_one_list() -> None:
    engine = installed()
    run(engine, [packet(1, 100), packet(1, 300, 6), packet(2, 200)])
    assert [(flow.name.source.version, flow.bytes) for flow in engine.top_flows(9, 0)] == [(6, 300), (4, 200), (4, 100)]


def test_flows_that_had_no_packet_of_late_are_left_out() -> None:
    engine = installed()
    run(engine, [packet(1, 900), packet(2, 100)])
    run(engine, [packet(2, 100), packet(3, 100)], START_NS + 10**9)
    late = engine.top_flows(9, START_NS + 10**9)
    assert [(int(flow.name.source) & 0xFF, flow.bytes, flow.packets) for flow in late] == [(2, 200, 2), (3, 100, 1)]
    assert engine.top_flows(9, START_NS + 2 * 10**9) == []


def test_none_are_told_where_none_are_wanted() -> None:
    engine = installed()
    run(engine, [packet(1, 900)])
    assert engine.top_flows(0, 0) == []


@pytest.mark.parametrize(
    ("mode", "gate_open", "passed"),
    [
        (Mode.POLICE, True, (1, 80)),
        (Mode.MONITOR, True, (3, 240)),
        (Mode.MARK, True, (3, 240)),
        (Mode.MONITOR, False, (0, 0)),
    ],
)
def test_what_passed_of_a_flow_is_told_by_its_rule(mode: Mode, gate_open: bool, passed: tuple[int, int]) -> None:
    engine = installed(Rule("video", 1, EVERYTHING, SCANT, mode, gate_open=gate_open))
    run(engine, [packet(1, 80)] * 3)
    (flow,) = engine.top_flows(1, 0)
    assert (flow.rule, flow.packets, flow.bytes) == ("video", 3, 240)
    assert (flow.passed_packets, flow.passed_bytes) == passed
    (counters,) = engine.rule_counters().values()
    assert (counters.passed_packets, counters.passed_bytes) == passed


@pytest.mark.parametrize("passes", [True, False])
def test_a_flow_that_no_rule_wants_has_no_rule_and_passes_where_the_engine_passes_it(passes: bool) -> None:
    engine = installed(pass_unmatched=passes)
    run(engine, [packet(1, 80)])
    (flow,) = engine.top_flows(1, 0)
    assert (flow.rule, flow.bytes, flow.passed_bytes) == ("", 80, 80 if passes else 0)


def test_no_flow_is_told_twice_or_missed_in_any_moment_of_a_growth() -> None:
    engine = installed()
    known = 0
    # The table grows at a quarter of its 4,096 slots: from 1,024 on flows move, a few with each new one.
    for step in (1_000, *[10] * 20, 900, *[10] * 20):
        run(engine, (packet(flow, 100) for flow in range(known, known + step)))
        known += step
        top = engine.top_flows(1 << 13, 0)
        assert len({flow.name for flow in top}) == len(top) == known
