"""`castcore tun` lets the rate pass: UDP at twice the rate and just below it, TCP that finds the rate by itself.

Rates are those of IP packets. What a bucket lets pass in a time is its burst once and its rate all the time. What the
machine does besides (or the host of a virtual machine) can hold the sender or the wire up for longer than the bucket
takes to fill; then less passes, never more. So no measurement may show too much, and the best of three not too little.

LIVE_MATRIX=1 measures every rate with every length, for five minutes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from live.live_traffic import FlowArrived, Sent, Traffic, iperf3, kept_up
from live.live_tun import ACCESS, CORE, SERVER, UE, rules_file, tun_between
from live.networks import Network, required

from upf.units import LIVE_BURST_MS

pytestmark = pytest.mark.alone

MBPS = 1_000_000
PORT = 5000
BURST_BYTES = 20_000
TOLERANCE = 0.01
WHOLE_MATRIX = os.environ.get("LIVE_MATRIX") == "1"
# What may be lost below the rate: what had to wait for the wire's thread comes to the bucket all at once.
STRAY = 0.005
MEASUREMENTS = 3
SECONDS = 5
BELOW_SECONDS = SECONDS if WHOLE_MATRIX else 3


@dataclass(frozen=True)
class Case:
    """A rate and a length of packets; each case of a measurement has a rule and a source port of its own."""

    rate_bps: int
    length: int

    @property
    def name(self) -> str:
        return f"{self.rate_bps // MBPS} Mbps of {self.length} B"

    @property
    def port(self) -> int:
        """Tells the flows of cases apart, and is none of those that the kernel gives away."""
        return 20_000 + self.length + self.rate_bps.bit_length() * 100

    def rule(self, direction: str) -> str:
        ports = f"from any {self.port} to any" if direction == "down" else f"from any to any {self.port}"
        return f"""
            name = "{self.name}"
            flows = ["permit out 17 {ports}"]
            direction = "{direction}"
            rate = "{self.rate_bps // MBPS} Mbps"
            burst = "{BURST_BYTES} B"
        """


@dataclass(frozen=True)
class Measured:
    sent: Sent
    arrived: FlowArrived

    def passed_of_rate(self, rate_bps: int) -> float:
        """What passed after the burst, by what the rate makes room for in that time."""
        return (self.arrived.bytes - BURST_BYTES) * 8 / (rate_bps * self.sent.seconds)

    @property
    def passed_of_offered(self) -> float:
        return self.arrived.bytes / self.sent.bytes


def cases(rates_mbps: Sequence[int], lengths: Sequence[int]) -> list[Case]:
    return [Case(rate * MBPS, length) for rate in rates_mbps for length in lengths]


TOGETHER = cases([1, 10, 100], [64, 1400])
ALL_LENGTHS = [64, 128, 256, 512, 1024, 1400]
# Those that leave the machine no time for others are alone.
GROUPS = [pytest.param(TOGETHER, "down", id="1, 10 and 100 Mbit/s side by side")] + [
    pytest.param([case], direction, id=case.name)
    for case, direction in zip(cases([1000], [64, 1400]), ("up", "down"), strict=True)
]
if WHOLE_MATRIX:
    GROUPS = [
        pytest.param([case], ("up", "down")[number % 2], id=case.name)
        for number, case in enumerate(cases([1, 10, 100, 1000], ALL_LENGTHS))
    ]


@pytest.mark.parametrize(("group", "direction"), GROUPS)
def test_of_twice_the_rate_the_rate_passes(
    hosts: tuple[Network, Network], traffic: Traffic, tmp_path: Path, group: list[Case], direction: str
) -> None:
    best = dict.fromkeys(group, 0.0)
    for _ in range(MEASUREMENTS):
        for case, measured in measure(hosts, traffic, tmp_path, group, direction, 2, SECONDS).items():
            passed = measured.passed_of_rate(case.rate_bps)
            kept_up(measured.sent.bytes * 8 > 1.5 * case.rate_bps * measured.sent.seconds, f"{case.name}: not offered")
            assert passed <= 1 + TOLERANCE, f"{case.name}: {passed:.4f} of the rate"
            best[case] = max(best[case], passed)
        if min(best.values()) >= 1 - TOLERANCE:
            break
    show("of the rate", best)
    kept_up(min(best.values()) >= 1 - TOLERANCE, str(best))


@pytest.mark.parametrize(("group", "direction"), GROUPS)
def test_just_below_the_rate_next_to_nothing_is_lost(
    hosts: tuple[Network, Network], traffic: Traffic, tmp_path: Path, group: list[Case], direction: str
) -> None:
    best = dict.fromkeys(group, 0.0)
    for _ in range(MEASUREMENTS):
        for case, measured in measure(hosts, traffic, tmp_path, group, direction, 0.97, BELOW_SECONDS).items():
            best[case] = max(best[case], measured.passed_of_offered)
        if min(best.values()) >= 1 - STRAY:
            break
    show("of what was offered at 0.97 times the rate", best)
    kept_up(min(best.values()) >= 1 - STRAY, str(best))


@pytest.mark.parametrize("rate_mbps", [10, 100])
@pytest.mark.parametrize("reverse", [False, True] if WHOLE_MATRIX else [True], ids=lambda way: "down" if way else "up")
def test_tcp_reaches_nine_tenths_of_the_rate(hosts: tuple[Network, Network], rate_mbps: int, reverse: bool) -> None:
    required("iperf3")
    rule = ("--flow", "permit out 6 from any to any", "--rate", f"{rate_mbps} Mbps")
    with tun_between(*hosts, *rule) as tun:
        # The first second, with the burst of a full bucket, is left out.
        options = ("-O", 1, *(["-R"] if reverse else []))
        report = iperf3(*hosts, SERVER, *options, seconds=SECONDS)["end"]
        final = tun.final()
    reached_bps = report["sum_received"]["bits_per_second"]
    print(f"TCP at {rate_mbps} Mbit/s: {reached_bps / rate_mbps / MBPS:.4f} of the rate")
    # Of what the bucket has saved up while TCP waited for its timer, the seconds that count may begin with all.
    assert 0.9 <= reached_bps / (rate_mbps * MBPS) <= 1 + LIVE_BURST_MS / 1000 / SECONDS
    counted = {rule["direction"]: rule for rule in final["rules"]}
    assert counted["downlink" if reverse else "uplink"]["dropped_packets"] > 0, "it was the rule that held it back"


def measure(
    hosts: tuple[Network, Network],
    traffic: Traffic,
    directory: Path,
    group: Sequence[Case],
    direction: str,
    times_the_rate: float,
    seconds: float,
) -> dict[Case, Measured]:
    """Sends all cases side by side; nothing when the machine could not keep up.

    What castcore counted is compared with what was sent and what arrived, exactly.
    """
    access, core = hosts
    source, destination, address = (core, access, UE) if direction == "down" else (access, core, SERVER)
    rules = rules_file(directory, *(case.rule(direction) for case in group))
    with tun_between(access, core, "--rules", rules) as tun, traffic.sink(destination, PORT) as sink:
        sent = traffic.send_side_by_side(
            source,
            address,
            PORT,
            [(case.port, times_the_rate * case.rate_bps, case.length) for case in group],
            seconds=seconds,
        )
        arrived = sink.arrived()
        not_queued = source.device_counters(CORE if direction == "down" else ACCESS)["tx_dropped"]
        final = tun.final()
    assert arrived.intact
    counters = final["downlink" if direction == "down" else "uplink"]
    if not_queued:
        # The wire was held up for so long that the device's queue ran over: this measures the machine.
        return {}
    assert counters["packets"] == sum(each.datagrams for each in sent)
    assert counters["passed_bytes"] == arrived.bytes
    counted = {rule["name"]: rule for rule in final["rules"]}
    measured = {}
    for case, each in zip(group, sent, strict=True):
        rule, came = counted[case.name], arrived.flows[case.port]
        assert (rule["packets"], rule["bytes"]) == (each.datagrams, each.bytes)
        assert (rule["passed_packets"], rule["passed_bytes"]) == (came.datagrams, came.bytes)
        assert rule["dropped_packets"] == each.datagrams - came.datagrams
        measured[case] = Measured(each, came)
    return measured


def show(of_what: str, figures: dict[Case, float]) -> None:
    for case, figure in figures.items():
        print(f"{case.name}: {figure:.5f} {of_what}")
