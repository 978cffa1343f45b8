"""Traffic management in the form of RFC 7640: policers, their capacity, a shaper. Writes results/rfc7640.md too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import pytest

from benchmarks.rfc7640.expectation import GREEN, RED, YELLOW, colours
from benchmarks.rfc7640.traffic import SECOND_NS, START_NS, Packet, burst, lengths_of, measured, read, write
from upf.capture import open_capture
from upf.replay import replay
from upf.rules import Marker, Mode, Policer, Rule
from upf.sdf import parse_filter
from upf.units import format_bit_rate

Rows = list[dict[str, object]]

# The default test duration, and so many packets at the most of each run.
DURATION_NS = 60 * SECOND_NS
MOST_PACKETS = 20_000
EXCESS_BYTES = 1_000
DSCP = {GREEN: 10, YELLOW: 12, RED: 14}
ALL = parse_filter("permit out ip from any to any")

MBPS, GBPS = 10**6, 10**9
# The document's own example: 64 KB at 100 Mbit/s on a link of 1 Gbit/s.
EXAMPLE = {
    "two colours": Policer(100 * MBPS, 64_000),
    "RFC 2697": Policer(100 * MBPS, 64_000, Marker.SRTCM, excess_burst_bytes=64_000),
    "RFC 2698": Policer(100 * MBPS, 64_000, Marker.TRTCM, 200 * MBPS, 128_000),
    "RFC 4115": Policer(100 * MBPS, 64_000, Marker.DIFFSERV_TRTCM, 100 * MBPS, 64_000),
}
OTHERS = [
    (GBPS, Policer(64_000, 15_000)),
    (GBPS, Policer(5 * MBPS, 62_500)),
    (100 * GBPS, Policer(10 * GBPS, 1_000_000)),
    (400 * GBPS, Policer(100 * GBPS, 2_000_000)),
    (GBPS, Policer(64_000, 15_000, Marker.DIFFSERV_TRTCM, 128_000, 30_000)),
    (100 * GBPS, Policer(10 * GBPS, 1_000_000, Marker.DIFFSERV_TRTCM, 5 * GBPS, 500_000)),
]
SIZES: tuple[int | str, ...] = (64, 512, 1_500, 9_000, "IMIX")
POLICERS = [(name, GBPS, policer, size) for name, policer in EXAMPLE.items() for size in SIZES] + [
    ("RFC 4115" if policer.excess_burst_bytes else "two colours", line_bps, policer, 1_500)
    for line_bps, policer in OTHERS
]
SHAPERS = ((MBPS, 15_000, GBPS), (100 * MBPS, 64_000, GBPS), (10 * GBPS, 1_000_000, 100 * GBPS))
CAPACITIES = (1, 10, 100, 1_000, 10_000)
PARTS = ("policers", "capacity", "shaper")
# What of it the end of the run shows.
COLUMNS = (
    *("part", "test", "marker", "what", "policers", "CIR", "shaper", "packet", "expected LP", "LP"),
    *("green/CIR", "yellow/EIR", "SR/rate", "error"),
)


@pytest.fixture(scope="module")
def rows_of(results_of: Callable[..., object]) -> Iterator[dict[str, Rows]]:
    about = "traffic management in the form of RFC 7640; the whole report: results/rfc7640.md"
    results, rows = results_of("rfc7640", about=about, parts=PARTS, columns=COLUMNS), dict[str, Rows]()
    yield rows
    for part in PARTS:
        if part in rows:
            results.add(part, [{"part": part, **row} for row in rows[part]])
    if set(rows) == set(PARTS):
        tables = "\n\n".join(f"### {part.capitalize()}\n\n{table(rows[part])}" for part in PARTS)
        text = (Path(__file__).parent / "report.md.in").read_text().replace("@RESULTS@", tables)
        (Path(__file__).parents[1] / "results" / "rfc7640.md").write_text(text)


def table(rows: Rows) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines += [" | ".join(shown(row.get(column, "")) for column in columns) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}" if isinstance(value, float) else str(value)


def through(scratch: Path, packets: Sequence[Packet], rules: Sequence[Rule]) -> list[Packet]:
    """What the egress port sees."""
    ingress, egress = scratch / "ingress.pcap", scratch / "egress.pcap"
    write(ingress, packets)
    with open_capture(ingress) as capture:
        replay([capture], rules, output=egress)
    return list(read(egress))


def in_bursts(lengths: Sequence[int], line_bps: int, policer: Policer) -> list[list[Packet]]:
    """Bursts for the duration of the test, each when every bucket is full again."""
    duration_ns = burst(lengths, 0, line_bps)[-1][0]
    count = min(DURATION_NS // policer.filling_ns, MOST_PACKETS // len(lengths))
    found, sequence = [], 0
    for number in range(max(3, count)):
        start_ns = START_NS + number * (policer.filling_ns + duration_ns)
        one = []
        for ts_ns, length in burst(lengths, start_ns, line_bps):
            one.append(Packet(ts_ns, length, 0, sequence))
            sequence += 1
        found.append(one)
    return found


def parameters(name: str, policer: Policer, size: int | str) -> dict[str, object]:
    excess = format_bit_rate(policer.excess_rate_bps) if policer.excess_rate_bps else ""
    return {
        "marker": name,
        "CIR": format_bit_rate(policer.rate_bps),
        "CBS": policer.burst_bytes,
        "EIR": excess,
        "EBS": policer.excess_burst_bytes or "",
        "packet": size,
    }


def burst_row(test: str, bursts: list[list[Packet]], received: list[Packet], expected: set[int]) -> dict[str, object]:
    sent = [packet for one in bursts for packet in one]
    egress = measured(sent, received)
    passed = {packet.sequence for packet in received}
    achieved = [sum(packet.length for packet in one if packet.sequence in passed) for one in bursts]
    due = [sum(packet.length for packet in one if packet.sequence in expected) for one in bursts]
    assert egress.out_of_sequence == 0
    return {
        "test": test,
        "bursts": len(bursts),
        "offered bytes": sum(packet.length for packet in bursts[0]),
        "expected BSA": spread(due),
        "BSA": spread(achieved),
        "expected LP": len(sent) - len(expected),
        "LP": egress.lost_packets,
        "OOS": egress.out_of_sequence,
        "PD ns": egress.delay_ns,
        "PDV ns": egress.delay_variation_ns,
        "error": "none" if passed == expected else f"{max(abs(a - b) for a, b in zip(achieved, due, strict=True))} B",
    }


def spread(volumes: Sequence[int]) -> str:
    return f"{min(volumes):,}" if min(volumes) == max(volumes) else f"{min(volumes):,} to {max(volumes):,}"


def test_policers(rows_of: dict[str, Rows], scratch: Path) -> None:
    rows: Rows = []
    for name, line_bps, policer, size in POLICERS:
        known = parameters(name, policer, size)
        police = [Rule("policer", 1, (ALL,), policer, Mode.POLICE)]
        # What each bucket holds in whole packets; the PBS of RFC 2698 contains the CBS.
        if policer.marker is Marker.TRTCM:
            fitting, held_bytes = lengths_of(size, policer.excess_burst_bytes), policer.excess_burst_bytes
        else:
            fitting = lengths_of(size, policer.burst_bytes) + lengths_of(size, policer.excess_burst_bytes)
            held_bytes = policer.burst_bytes + policer.excess_burst_bytes
        compliant = in_bursts(fitting, line_bps, policer)
        earned_bps = policer.rate_bps + policer.excess_rate_bps
        earned_bytes = int(Fraction(held_bytes * earned_bps, line_bps - min(earned_bps, line_bps // 2)))
        excess = in_bursts(lengths_of(size, held_bytes + earned_bytes + EXCESS_BYTES, more=True), line_bps, policer)
        for test, bursts in (("compliant", compliant), ("excess", excess)):
            sent = [packet for one in bursts for packet in one]
            judged = colours(policer, [(packet.ts_ns, packet.length) for packet in sent])
            expected = {packet.sequence for packet, colour in zip(sent, judged, strict=True) if colour != RED}
            row = burst_row(test, bursts, through(scratch, sent, police), expected)
            rows.append(known | row)
            assert row["error"] == "none", row
            assert (row["LP"] == 0) == (test == "compliant"), row
        rows.append(known | steady(scratch, policer, size))
    rows_of["policers"] = rows


def steady(scratch: Path, policer: Policer, size: int | str) -> dict[str, object]:
    """Twice what may pass, without a pause, marked by colour."""
    both_bps = policer.excess_rate_bps if policer.marker is Marker.TRTCM else policer.rate_bps + policer.excess_rate_bps
    average = sum(lengths_of(size, 100_000)) // len(lengths_of(size, 100_000))
    lengths = lengths_of(size, MOST_PACKETS * average)
    sent = [Packet(*each, 0, number) for number, each in enumerate(burst(lengths, START_NS, 2 * both_bps))]
    marked = Rule("policer", 1, (ALL,), policer, Mode.MARK, dscp=(DSCP[GREEN], DSCP[YELLOW], DSCP[RED]))
    received = through(scratch, sent, [marked])
    judged = colours(policer, [(packet.ts_ns, packet.length) for packet in sent])
    assert [packet.dscp for packet in received] == [DSCP[colour] for colour in judged]
    # From the first lost packet on every bucket is empty; the last one only ends the time.
    first = judged.index(RED)
    elapsed_s = (sent[-1].ts_ns - sent[first].ts_ns) / SECOND_NS
    green_bps, yellow_bps = (
        sum(packet.length for packet in received[first:-1] if packet.dscp == DSCP[colour]) * 8 / elapsed_s
        for colour in (GREEN, YELLOW)
    )
    row: dict[str, object] = {
        "test": "steady",
        "green bit/s": round(green_bps),
        "green/CIR": green_bps / policer.rate_bps,
        "error": "none",
    }
    if policer.excess_rate_bps:
        # The PIR contains the CIR, the EIR comes beside it.
        rate_bps = policer.excess_rate_bps - (policer.marker is Marker.TRTCM) * policer.rate_bps
        row |= {"yellow bit/s": round(yellow_bps), "yellow/EIR": yellow_bps / rate_bps}
    return row


def test_capacity(rows_of: dict[str, Rows], scratch: Path) -> None:
    rows: Rows = []
    policer, length, line_bps = Policer(MBPS, 15_000), 1_500, 400 * GBPS
    for count in CAPACITIES:
        ports = [
            f"permit out 17 from 198.18.0.{flow >> 14} to 10.45.0.2 {1024 + (flow & 0x3FFF)}" for flow in range(count)
        ]
        each = [Rule(f"policer {n}", 1, (parse_filter(flow),), policer, Mode.POLICE) for n, flow in enumerate(ports)]
        rows.append(capacity_row("rules with a policer each", count, each, policer, length, line_bps, scratch))
    for count in (100, 10_000, 50_000):
        per_flow = [Rule("policer", 1, (ALL,), policer, Mode.POLICE, per_flow=True)]
        rows.append(capacity_row("flows under a per-flow policer", count, per_flow, policer, length, line_bps, scratch))
    rows_of["capacity"] = rows


def capacity_row(
    what: str, count: int, rules: list[Rule], policer: Policer, length: int, line_bps: int, scratch: Path
) -> dict[str, object]:
    """One excess burst of each, or several where they are few; the packets of all take turns."""
    offered = 12
    lengths = [length] * (offered * count)
    duration_ns = burst(lengths, 0, line_bps)[-1][0]
    sent: list[Packet] = []
    for number in range(1 if count > 1_000 else 5):
        start_ns = START_NS + number * (policer.filling_ns + duration_ns)
        times = burst(lengths, start_ns, line_bps)
        sent += [Packet(ts_ns, length, n % count, len(sent) + n) for n, (ts_ns, _) in enumerate(times)]
    received = through(scratch, sent, rules)
    by_flow: dict[int, list[Packet]] = {}
    for packet in sent:
        by_flow.setdefault(packet.flow, []).append(packet)
    passed = {packet.sequence for packet in received}
    expected, wrong = set[int](), 0
    for own in by_flow.values():
        judged = colours(policer, [(packet.ts_ns, packet.length) for packet in own])
        due = {packet.sequence for packet, colour in zip(own, judged, strict=True) if colour != RED}
        wrong += due != {packet.sequence for packet in own if packet.sequence in passed}
        expected |= due
    egress = measured(sent, received)
    assert wrong == 0
    assert egress.out_of_sequence == 0
    return {
        "policers": count,
        "what": what,
        "CIR": format_bit_rate(policer.rate_bps),
        "CBS": policer.burst_bytes,
        "packets": len(sent),
        "expected LP": len(sent) - len(expected),
        "LP": egress.lost_packets,
        "OOS": egress.out_of_sequence,
        "policers with an error": wrong,
    }


def test_shaper(rows_of: dict[str, Rows], scratch: Path) -> None:
    rows: Rows = []
    for rate_bps, burst_bytes, line_bps in (
        (MBPS, 15_000, GBPS),
        (100 * MBPS, 64_000, GBPS),
        (10 * GBPS, 10**6, 10**11),
    ):
        for size in (64, 1_500):
            # So deep that one packet which finds it full is told from one which does not.
            queue_bytes = 100 * 1_500
            policer = Policer(rate_bps, burst_bytes)
            rule = Rule("shaper", 1, (ALL,), policer, Mode.SHAPE, queue_bytes=queue_bytes)
            for test, volume_bytes in (
                ("fits the queue", burst_bytes + queue_bytes),
                ("exceeds the queue", 2 * (burst_bytes + queue_bytes) + EXCESS_BYTES),
            ):
                lengths = lengths_of(size, volume_bytes)
                times = burst(lengths, START_NS, line_bps)
                sent = [Packet(ts_ns, length, 0, number) for number, (ts_ns, length) in enumerate(times)]
                received = through(scratch, sent, [rule])
                egress = measured(sent, received)
                rows.append(shaper_row(test, policer, queue_bytes, size, sent, received))
                assert egress.out_of_sequence == 0
    rows_of["shaper"] = rows


def shaper_row(
    test: str, policer: Policer, queue_bytes: int, size: int, sent: list[Packet], received: list[Packet]
) -> dict[str, object]:
    egress = measured(sent, received)
    sent_at = {packet.sequence: packet.ts_ns for packet in sent}
    late = [packet for packet in received if packet.ts_ns > sent_at[packet.sequence]]
    at_once = sum(packet.length for packet in received if packet.ts_ns == sent_at[packet.sequence])
    # From the departure of one delayed packet to that of the last: what departed after the first, in that time.
    rate_bps = sum(packet.length for packet in late[1:]) * 8 * SECOND_NS / (late[-1].ts_ns - late[0].ts_ns)
    held = [packet.ts_ns - sent_at[packet.sequence] for packet in late]
    assert abs(rate_bps / policer.rate_bps - 1) <= 0.001, rate_bps
    assert (egress.lost_packets == 0) == (test == "fits the queue")
    assert max(held) <= queue_bytes * 8 * SECOND_NS // policer.rate_bps + 1
    return {
        "test": test,
        "shaper": format_bit_rate(policer.rate_bps),
        "burst": policer.burst_bytes,
        "queue": queue_bytes,
        "packet": size,
        "SR bit/s": round(rate_bps),
        "SR/rate": rate_bps / policer.rate_bps,
        "SBB": at_once,
        "LP": egress.lost_packets,
        "OOS": egress.out_of_sequence,
        "PD ns": egress.delay_ns,
        "PDV ns": egress.delay_variation_ns,
    }
