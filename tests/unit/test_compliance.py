"""Averaging windows and violations: exact numbers."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from random import Random

import pytest

from upf.compliance import (
    KEPT_VIOLATIONS,
    SLOTS_PER_WINDOW,
    Compliance,
    FlowName,
    SlidingWindows,
    TimeSlot,
    Violation,
    Window,
    thresholds_bps,
)
from upf.errors import UpfError
from upf.rules import Marker, Mode, Policer, Rule
from upf.sdf import parse_filter

S = 10**9
# A window of 2 s has slots of 100 ms; 1 Mbit/s are 250,000 bytes in it.
WINDOW_NS, SLOT_NS, RATE_BPS = 2 * S, S // 10, 1_000_000
BASE = 17_000_000_000


def rule(name: str = "video", *, rate_bps: int = RATE_BPS, per_flow: bool = False) -> Rule:
    policer = Policer(rate_bps, 15_000) if rate_bps else None
    return Rule(name, 1, (parse_filter("permit out ip from any to any"),), policer, Mode.MONITOR, per_flow)


def slots(volumes: dict[int, int], name: str = "video") -> list[TimeSlot]:
    return [TimeSlot(name, BASE + number, volume, volume, 0) for number, volume in volumes.items()]


def windows_of(volumes: dict[int, int]) -> SlidingWindows:
    sliding = SlidingWindows(WINDOW_NS, RATE_BPS)
    for _, number, offered, passed, _ in slots(volumes):
        sliding.add(number, offered, passed)
    sliding.finish()
    return sliding


def by_hand(volumes: dict[int, int]) -> tuple[int, int, Window]:
    """Windows, those above the rate, the worst: every window summed by itself."""
    first, last = min(volumes), max(volumes)
    starts = range(first, max(last - SLOTS_PER_WINDOW + 1, first) + 1)
    sums = [sum(volumes.get(start + at, 0) for at in range(SLOTS_PER_WINDOW)) for start in starts]
    worst = max(sums)
    start = starts[sums.index(worst)]
    return len(sums), sum(total > 250_000 for total in sums), Window((BASE + start) * SLOT_NS, WINDOW_NS, worst, worst)


def violation(number: int = 0, name: str = "video") -> Violation:
    flow = FlowName(ip_address("198.51.100.7"), ip_address("10.45.0.2"), 17, 443, 5000)
    return Violation(name, flow, number * S, number * S + 7, 2, 3000)


def test_traffic_shorter_than_a_window_has_one_window_and_its_rate_is_over_the_whole_of_it() -> None:
    sliding = windows_of({0: 1_000, 3: 1_500})
    assert (sliding.windows, sliding.above) == (1, 0)
    assert sliding.worst == Window(BASE * SLOT_NS, WINDOW_NS, 2_500, 2_500)
    assert sliding.worst.offered_bps == 10_000


def test_a_window_is_above_the_rate_from_the_first_byte_over_it() -> None:
    assert windows_of({0: 250_000}).above == 0
    assert windows_of({0: 250_001}).above == 1


def test_a_burst_is_found_wherever_it_stands_and_is_above_in_every_window_that_holds_it() -> None:
    # Two slots that are above the rate together, 19 slots apart: only one window has both.
    sliding = windows_of({0: 1, 30: 200_000, 49: 200_000, 80: 1})
    assert (sliding.windows, sliding.above) == (62, 1)
    assert sliding.worst == Window((BASE + 30) * SLOT_NS, WINDOW_NS, 400_000, 400_000)
    assert sliding.worst.offered_bps == 1_600_000


def test_silence_of_years_is_windows_too_and_takes_no_time() -> None:
    years = 10 * 365 * 86_400 * 10
    sliding = windows_of({0: 300_000, years: 300_000})
    # The first slot is in one window, for none begins before it; the last one in one, for none ends behind it.
    assert (sliding.windows, sliding.above) == (years - 18, 2)


@pytest.mark.parametrize("seed", range(20))
def test_windows_are_those_that_are_summed_by_hand(seed: int) -> None:
    random = Random(seed)
    volumes: dict[int, int] = {}
    at = 0
    for _ in range(200):
        volumes[at] = random.choice([1, 1_500, 20_000, 60_000, 250_000])
        at += random.choice([1, 1, 1, 2, 5, 19, 20, 21, 130, 1_000])
    sliding = windows_of(volumes)
    assert (sliding.windows, sliding.above, sliding.worst) == by_hand(volumes)
    assert sliding.offered_bytes == sum(volumes.values())


@pytest.mark.parametrize("seed", range(20))
def test_slots_in_pieces_and_out_of_order_make_the_same_windows(seed: int) -> None:
    random = Random(seed)
    volumes = {number: random.randrange(1, 40_000) for number in range(0, 600, random.randint(1, 30))}
    pieces = [(number, part) for number, volume in volumes.items() for part in (volume - volume // 3, volume // 3)]
    # Packets may be 10 s, 100 slots, out of order.
    pieces.sort(key=lambda piece: piece[0] + random.randrange(0, 90))
    sliding = SlidingWindows(WINDOW_NS, RATE_BPS)
    for number, volume in pieces:
        sliding.add(BASE + number, volume, volume)
    sliding.finish()
    assert (sliding.windows, sliding.above, sliding.worst) == by_hand(volumes)


def test_a_clock_that_is_set_back_begins_another_stretch_of_time() -> None:
    sliding = SlidingWindows(WINDOW_NS, RATE_BPS)
    for number in (0, 101, 0):
        sliding.add(BASE + number, 200_000, 200_000)
    sliding.finish()
    # 83 windows of the first stretch, one of the second: what was sent twice at one time is not added up.
    assert (sliding.windows, sliding.above) == (84, 0)


def test_what_passes_later_than_it_was_offered_is_in_the_window_in_which_it_passes() -> None:
    sliding = SlidingWindows(WINDOW_NS, RATE_BPS)
    sliding.add(BASE, 100_000, 0)
    sliding.add(BASE + 40, 0, 100_000)
    sliding.add(BASE + 60, 1, 1)
    sliding.finish()
    assert sliding.worst == Window(BASE * SLOT_NS, WINDOW_NS, 100_000, 0)
    assert (sliding.windows, sliding.offered_bytes, sliding.passed_bytes) == (42, 100_001, 100_001)


def test_the_report_of_a_rule_has_its_windows_and_violations() -> None:
    compliance = Compliance([rule()], window_ns=WINDOW_NS)
    compliance.add_slots(slots({0: 300_000, 5: 1_000}))
    compliance.add_slots(slots({0: 9_999}, name="another"))
    compliance.add_violations([violation(3), violation(9), violation(0, "another")])
    report = compliance.report()["video"]
    assert (report.threshold_bps, report.window_ns, report.compliant) == (RATE_BPS, WINDOW_NS, False)
    assert (report.offered_bytes, report.windows, report.windows_above) == (301_000, 1, 1)
    assert (report.violation_count, report.excess_packets, report.excess_bytes) == (2, 4, 6000)
    assert report.violations == (violation(3), violation(9))
    assert [each.duration_ns for each in report.violations] == [7, 7]


def test_the_list_of_violations_is_bounded_and_the_rest_counted() -> None:
    compliance = Compliance([rule()], window_ns=WINDOW_NS)
    compliance.add_violations(violation(number) for number in range(KEPT_VIOLATIONS + 50))
    report = compliance.report()["video"]
    assert (len(report.violations), report.violation_count, report.excess_bytes) == (100, 150, 450_000)
    assert report.violations[-1] == violation(99)


def test_a_rule_without_a_rate_has_windows_but_nothing_to_comply_with() -> None:
    compliance = Compliance([rule(rate_bps=0)], window_ns=WINDOW_NS)
    compliance.add_slots(slots({0: 300_000}))
    report = compliance.report()["video"]
    assert (report.compliant, report.threshold_bps, report.windows, report.windows_above) == (None, None, 1, None)


def test_flows_with_a_bucket_each_are_judged_by_their_violations_not_by_their_sum() -> None:
    compliance = Compliance([rule(per_flow=True)], window_ns=WINDOW_NS)
    compliance.add_slots(slots({0: 300_000}))
    report = compliance.report()["video"]
    assert (report.compliant, report.threshold_bps, report.windows_above) == (True, RATE_BPS, None)


@pytest.mark.parametrize(
    ("policer", "expected"),
    [
        (Policer(RATE_BPS, 15_000, Marker.SRTCM, excess_burst_bytes=30_000), (("threshold", 1_000_000),)),
        (Policer(RATE_BPS, 15_000, Marker.TRTCM, 3_000_000, 30_000), (("committed", 1_000_000), ("peak", 3_000_000))),
        (
            Policer(RATE_BPS, 15_000, Marker.DIFFSERV_TRTCM, 3_000_000, 30_000),
            (("committed", 1_000_000), ("with excess", 4_000_000)),
        ),
    ],
    ids=lambda value: str(value.marker) if isinstance(value, Policer) else "",
)
def test_the_threshold_is_the_rate_above_which_a_packet_is_red(
    policer: Policer, expected: tuple[tuple[str, int], ...]
) -> None:
    coloured = replace(rule(), policer=policer)
    assert thresholds_bps(coloured) == expected
    assert Compliance([coloured]).report()["video"].threshold_bps == expected[-1][1]


def test_a_rule_that_saw_nothing_has_no_window() -> None:
    report = Compliance([rule()]).report()["video"]
    assert (report.windows, report.windows_above, report.worst, report.compliant) == (0, 0, None, True)


@pytest.mark.parametrize("window_ns", [0, 999_999, 2_000_000_500, 3_600_000_001_000])
def test_a_window_that_cannot_be_is_refused(window_ns: int) -> None:
    with pytest.raises(UpfError, match=f"averaging window: found {window_ns} ns, expected 1 ms to 3600 s"):
        Compliance([], window_ns=window_ns)
