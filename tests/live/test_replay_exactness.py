"""`castcore replay` lets pass what an integer bucket written here lets pass: packets, bytes and output, exactly."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations
from pathlib import Path

import captures
import pytest
from captures import SECOND_NS, Captured
from command import replayed
from known_traffic import FEATURES, SERVERS4, SERVERS6, UES4, UES6, Flow, Known, Seen, at_rate, known_traffic, seen

NATIVE = "<" if sys.byteorder == "little" else ">"
# Rate, its bit/s, burst as given, its bytes, the same at half the rate.
RATES = {
    "64 Kbps": (64_000, "1500 B", 1500, 1500),
    "5 Mbps": (5_000_000, "15000 B", 15_000, 15_000),
    "1.5 Gbps": (1_500_000_000, "0.1 ms", 18_750, 9_375),
    "40 Gbps": (40_000_000_000, "4 us", 20_000, 10_000),
}
HALVES = {"64 Kbps": "32 Kbps", "5 Mbps": "2.5 Mbps", "1.5 Gbps": "750 Mbps", "40 Gbps": "20000 Mbps"}
ARRANGEMENTS = ("shared", "per flow", "rules file")


# --- an integer bucket and a classifier that share nothing with castcore ---------------------------------------------


class LeakyBucket:
    """The token bucket's twin: what has been poured in and not leaked out yet, in bit-nanoseconds. Empty at first."""

    def __init__(self, rate_bps: int, burst_bytes: int) -> None:
        self.rate_bps, self.depth = rate_bps, burst_bytes * 8 * SECOND_NS
        self.level, self.latest_ns, self.set_back = 0, -1, 0

    def takes(self, now_ns: int, length: int) -> bool:
        if self.latest_ns < 0:
            self.latest_ns = now_ns
        elif now_ns > self.latest_ns:
            self.level = max(0, self.level - (now_ns - self.latest_ns) * self.rate_bps)
            self.latest_ns = now_ns
        elif self.latest_ns - now_ns > 10 * SECOND_NS:
            self.latest_ns = now_ns
            self.set_back += 1
        poured = self.level + length * 8 * SECOND_NS
        if poured <= self.depth:
            self.level = poured
        return poured <= self.depth


@dataclass
class Expected:
    """A rule as the test understands it, and what it should count."""

    name: str
    wants: Callable[[Flow], bool]
    limits: tuple[int, int] | None = None
    police: bool = True
    per_flow: bool = False
    buckets: dict[Flow | None, LeakyBucket] = field(default_factory=dict)
    conforming: list[int] = field(default_factory=list)
    exceeding: list[int] = field(default_factory=list)

    def passes(self, now_ns: int, flow: Flow, length: int) -> bool:
        bucket = self.limits and self.buckets.setdefault(flow if self.per_flow else None, LeakyBucket(*self.limits))
        if not bucket or bucket.takes(now_ns, length):
            self.conforming.append(length)
            return True
        self.exceeding.append(length)
        return not self.police

    def report(self) -> dict[str, object]:
        conforming = (len(self.conforming), sum(self.conforming))
        above = (len(self.exceeding), sum(self.exceeding))
        exceeding, dropped = ((0, 0), above) if self.police else (above, (0, 0))
        passed = (conforming[0] + exceeding[0], conforming[1] + exceeding[1])
        columns = {
            "": (conforming[0] + above[0], conforming[1] + above[1]),
            "passed_": passed,
            "dropped_": dropped,
            "conforming_": conforming,
            "exceeding_": exceeding,
            "yellow_": (0, 0),
        }
        counted = {f"{column}{what}": columns[column][i] for column in columns for i, what in enumerate(COUNTED)}
        untouched = {"gated_packets": 0, "delayed_packets": 0, "delay_max_ns": 0, "delay_sum_ns": 0}
        return {"name": self.name} | counted | untouched


COUNTED = ("packets", "bytes")


def expect(
    rules: Sequence[Expected], packets: Sequence[Seen], sent: Sequence[Captured], snaplen: int
) -> tuple[dict[str, object], list[Captured]]:
    """The report, and the packets of the output capture."""
    passed: list[Captured] = []
    unmatched: list[int] = []
    for packet in packets:
        captured = sent[packet.number]._replace(ts_ns=packet.at_ns)
        if packet.malformed:
            continue
        flow = packet.flow
        rule = next((rule for rule in rules if flow and rule.wants(flow)), None)
        if rule is None:
            unmatched.append(packet.ip_length)
        if rule is None or rule.passes(captured.ts_ns, flow, packet.ip_length):
            passed.append(captured._replace(data=captured.data[:snaplen]))
    reports = [rule.report() for rule in rules]
    return {
        "packets": len(packets),
        "bytes": sum(packet.ip_length for packet in packets),
        "malformed": sum(packet.malformed for packet in packets),
        "unmatched": {"packets": len(unmatched), "bytes": sum(unmatched)},
        "flows": len({packet.flow for packet in packets if packet.flow}),
        "rules": reports,
        "time_steps_back": sum(bucket.set_back for rule in rules for bucket in rule.buckets.values()),
    }, passed


def is_between(flow: Flow, servers: int, ues: int, *, bits: int, ue_bits: int) -> bool:
    return flow.source >> bits == servers >> bits and flow.destination >> ue_bits == ues >> ue_bits


ONE_RULE = ("permit out 17 from 198.51.100.0/28 443,8000-8099 to any", "permit out ip from 2001:db8:a::/125 to any")


def wanted_by_one_rule(flow: Flow) -> bool:
    if flow.family == 4:
        port = flow.source_port
        served = flow.ports_known and (port == 443 or 8000 <= port <= 8099)
        return flow.protocol == 17 and served and flow.source >> 4 == SERVERS4 >> 4
    return flow.source >> 3 == SERVERS6 >> 3


def overlapping(rate: str) -> tuple[str, list[Expected]]:
    """A rules file whose rules want the same packets, and the same as the test understands it, as they are tried."""
    rate_bps, burst, burst_bytes, half_burst_bytes = RATES[rate]
    text = f"""
        [[rule]]
        name = "rest"
        precedence = 30
        flows = ["permit out ip from any to 10.45.0.2", "permit out ip from any to 10.45.0.3/32"]
        rate = "{rate}"
        burst = "{burst}"
        [[rule]]
        name = "counted"
        precedence = 200
        flows = ["permit out ip from 2001:db8::/32 to any"]
        [[rule]]
        name = "each"
        precedence = 5
        flows = ["permit out 6 from 2001:db8:a::/124 80-443 to 2001:db8:45::/126 1024-65535"]
        rate = "{HALVES[rate]}"
        burst = "{burst}"
        per_flow = true
        [[rule]]
        name = "watched"
        precedence = 30
        flows = ["permit out 17 from any to any"]
        rate = "{rate}"
        burst = "{burst}"
        mode = "monitor"
        [[rule]]
        name = "live"
        precedence = 10
        flows = ["permit out 17 from 198.51.100.0/29 443 to 10.45.0.0/30", "permit out 17 from any 8000,8050 to any"]
        rate = "{rate}"
        burst = "{burst}"
        mode = "police"
    """

    def each(flow: Flow) -> bool:
        ports = flow.ports_known and 80 <= flow.source_port <= 443 and flow.destination_port >= 1024
        return flow.protocol == 6 and ports and is_between(flow, SERVERS6, UES6, bits=4, ue_bits=2)

    def live(flow: Flow) -> bool:
        if flow.protocol != 17 or not flow.ports_known:
            return False
        near = flow.family == 4 and is_between(flow, SERVERS4, UES4, bits=3, ue_bits=2)
        return (flow.source_port == 443 and near) or flow.source_port in (8000, 8050)

    limits = (rate_bps, burst_bytes)
    return text, [
        Expected("each", each, (rate_bps // 2, half_burst_bytes), per_flow=True),
        Expected("live", live, limits),
        Expected("rest", lambda flow: flow.family == 4 and flow.destination in (UES4 + 2, UES4 + 3), limits),
        Expected("watched", lambda flow: flow.protocol == 17, limits, police=False),
        Expected("counted", lambda flow: flow.family == 6),
    ]


# --- exact packets and bytes ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    rate: str
    feature: str
    nanoseconds: bool
    order: str
    arrangement: str

    def __str__(self) -> str:
        ends = "little" if self.order == "<" else "big"
        unit = "ns" if self.nanoseconds else "us"
        return f"{self.rate}, {self.feature}, {unit}, {ends}-endian, {self.arrangement}"


CASES = [
    Case(rate, feature, (r + f) % 2 == 0, "<>"[(r // 2 + f + f // 3) % 2], ARRANGEMENTS[(2 * r + f) % 3])
    for r, rate in enumerate(RATES)
    for f, feature in enumerate(FEATURES)
]


def test_the_cases_below_bring_every_two_conditions_together() -> None:
    dimensions = [tuple(RATES), FEATURES, (True, False), ("<", ">"), ARRANGEMENTS]
    rows = [(case.rate, case.feature, case.nanoseconds, case.order, case.arrangement) for case in CASES]
    for i, j in combinations(range(5), 2):
        assert {(row[i], row[j]) for row in rows} == {(a, b) for a in dimensions[i] for b in dimensions[j]}, (i, j)


@cache
def traffic(feature: str) -> list[Known]:
    return known_traffic(feature)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_packets_bytes_and_output_are_those_of_an_independent_integer_bucket(case: Case, tmp_path: Path) -> None:
    rate_bps, burst, burst_bytes, _ = RATES[case.rate]
    snaplen = 96 if case.feature == "snaplen 96" else 262_144
    known = traffic(case.feature)
    # So much that each arrangement has to drop a good part: more where every flow has a bucket of its own.
    offered_bps = rate_bps * {"shared": 5, "per flow": 60, "rules file": 8}[case.arrangement]
    sent = at_rate(known, offered_bps, nanoseconds=case.nanoseconds)
    source, target, rules_file = tmp_path / "in.pcap", tmp_path / "out.pcap", tmp_path / "rules.toml"
    source.write_bytes(captures.pcap(sent, nanoseconds=case.nanoseconds, order=case.order, snaplen=snaplen))
    if case.arrangement == "rules file":
        text, rules = overlapping(case.rate)
        rules_file.write_text(text)
        options = ["--rules", rules_file]
    else:
        per_flow = case.arrangement == "per flow"
        rules = [Expected("rule", wanted_by_one_rule, (rate_bps, burst_bytes), per_flow=per_flow)]
        options = ["--flow", ONE_RULE[0], "--flow", ONE_RULE[1], "--rate", case.rate, "--burst", burst]
        options += ["--per-flow"] * per_flow

    report = replayed(source, *options, "-o", target)

    packets = list(seen(known, [packet.ts_ns for packet in sent], snaplen))
    expected, passed = expect(rules, packets, sent, snaplen)
    assert {key: report[key] for key in expected} == expected
    assert target.read_bytes() == captures.pcap(passed, nanoseconds=case.nanoseconds, order=NATIVE)
    # The case is worth something only where much was passed and much was not.
    above = sum(len(rule.exceeding) for rule in rules)
    conforming = sum(len(rule.conforming) for rule in rules if rule.limits)
    assert above > 1_000, "too little above the rate"
    assert conforming > 500, "too little within the rate"
    if case.feature == "steps back":
        assert expected["time_steps_back"]
