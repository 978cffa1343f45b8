"""How fast does `castcore replay` treat packets? 2,000,000 of 64 bytes, 10,000 flows, beside a floor and the reference.

Before anything is timed, the engine's verdict on each of the first packets is held to the plain-Python reference.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from upf import engine as _engine
from upf.capture import Capture, open_capture
from upf.reference import Reference
from upf.replay import replay
from upf.rules import Mode, Policer, Rule
from upf.sdf import parse_filter

PACKETS, FLOWS, FRAME_BYTES = 2_000_000, 10_000, 64
CHECKED = 10_000
IP_BYTES = FRAME_BYTES - 14
GAP_NS = 100
LATER_PASSES = 7
FLOOR, REFERENCE = "read-only floor", "plain-Python reference"

VIDEO = parse_filter("permit out 17 from 198.51.100.0/24 443,8000-8099 to 10.45.0.0/16")
# About 4 Gbit/s are offered, 400 kbit/s by each flow: half conforms.
RULES = {
    "shared bucket": Rule("video", 100, (VIDEO,), Policer(2_000_000_000, 125_000), Mode.POLICE),
    "a bucket per flow": Rule("video", 100, (VIDEO,), Policer(200_000, 1_500), Mode.POLICE, per_flow=True),
}


@pytest.fixture(scope="session")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Capture]:
    """The packets, in random order of their flows, on disk as a user has them; checked against the reference."""
    path = tmp_path_factory.mktemp("replay") / "packets.pcap"
    write_packets(path)
    with open_capture(path) as opened:
        for rule in RULES.values():
            check(opened, rule)
        yield opened
    path.unlink()


@pytest.fixture(scope="session")
def figures(figures_of: Callable):
    return figures_of("replay", baselines=(FLOOR, REFERENCE))


def write_packets(path: Path) -> None:
    draw = random.Random(1)
    frames = [frame(number) for number in range(FLOWS)]
    now_ns = 0
    with path.open("wb") as stream:
        stream.write(struct.pack("=IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262_144, 1))
        for _ in range(PACKETS // FLOWS):
            # Every flow comes equally often, in an order that no cache foresees.
            draw.shuffle(frames)
            records = []
            for data in frames:
                now_ns += GAP_NS
                header = struct.pack("=IIII", 1_600_000_000 + now_ns // 10**9, now_ns % 10**9, FRAME_BYTES, FRAME_BYTES)
                records += (header, data)
            stream.write(b"".join(records))


def frame(flow: int) -> bytes:
    """The frame of a flow: Ethernet, IPv4, UDP."""
    ip = struct.pack(
        "!BBHHHBBHII", 0x45, 0, IP_BYTES, 0, 0, 64, 17, 0, 0xC6336400 + flow % 250, 0x0A2D0000 + flow // 250
    )
    udp = struct.pack("!HHHH", 443, 4096 + flow, IP_BYTES - 20, 0)
    return (bytes(12) + b"\x08\0" + ip + udp).ljust(FRAME_BYTES, b"\0")


def check(capture: Capture, rule: Rule) -> None:
    """The engine judges the first packets as the reference does, and all of them come to half."""
    engine, reference = _engine.Engine(), Reference([rule])
    engine.install([rule])
    verdicts = bytearray(CHECKED)
    engine.run(capture.view, capture.format, offset=24, max_packets=CHECKED, verdicts=verdicts)
    for number, record in zip(range(CHECKED), capture.records(), strict=False):
        verdict = reference.process(record.ts_ns, record.data, record.wire_length, capture.format.link_type)
        expected = _engine.CONFORMING if verdict.conforms else _engine.DROPPED
        assert verdicts[number] == expected, f"packet {number}: the reference says {verdict}"
    assert engine.rule_counters() == reference.rule_counters()
    counters = replay([capture], [rule]).rules["video"]
    assert counters.packets == PACKETS
    assert PACKETS // 4 < counters.dropped_packets < PACKETS * 3 // 4


def test_the_floor_a_pass_over_the_record_headers(benchmark, capture: Capture, figures) -> None:
    span = benchmark.pedantic(
        lambda: _engine.time_span_ns(capture.view, capture.format, offset=24), rounds=25, warmup_rounds=3
    )
    assert span[1] - span[0] == (PACKETS - 1) * GAP_NS
    figures.add(FLOOR, PACKETS, benchmark.stats.stats.data)


@pytest.mark.parametrize("kind", RULES)
def test_replay_in_its_steady_state(benchmark, capture: Capture, figures, kind: str) -> None:
    rule = RULES[kind]
    # What is recorded is the report's elapsed_s, the median of the later passes, as the command states it.
    reports = []
    benchmark.pedantic(lambda: reports.append(replay([capture], [rule], repeat=1 + LATER_PASSES)), rounds=9)
    assert {report.totals.packets for report in reports} == {PACKETS}
    figures.add(f"castcore replay, {kind}", PACKETS, [report.elapsed_s for report in reports])


def test_the_reference(benchmark, capture: Capture, figures) -> None:
    records = [record for _, record in zip(range(CHECKED), capture.records(), strict=False)]

    def judge() -> None:
        reference = Reference([RULES["shared bucket"]])
        for record in records:
            reference.process(record.ts_ns, record.data, record.wire_length, 1)

    benchmark.pedantic(judge, rounds=3)
    figures.add(REFERENCE, CHECKED, benchmark.stats.stats.data)
