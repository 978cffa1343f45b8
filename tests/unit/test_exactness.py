"""No window of any length passes more than rate by time and the burst; in the long run nothing is lost either."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from random import Random

import pytest
from captures import SECOND_NS, START_NS
from offered import DAY_NS, RATES_BPS, Offered, adversarial, disordered, judged, limits, policed, steady
from windows import BYTE, Passed, in_earned_time, worst_excess, worst_excess_of_all_pairs

from upf.engine import CONFORMING, DROPPED, EXCEEDING, YELLOW
from upf.rules import Mode, Policer


def passed_by_flow(
    packets: Sequence[Offered], verdicts: Sequence[int], *, per_flow: bool, earned: bool = False
) -> list[list[Passed]]:
    """What passed, for each bucket apart; ``earned``: at the time that the bucket's clock has earned."""
    offered: defaultdict[object, list[tuple[Offered, int]]] = defaultdict(list)
    for packet, verdict in zip(packets, verdicts, strict=True):
        # What is longer than IPv4 can say comes from other addresses.
        offered[(packet.flow, packet.length > 65_535) if per_flow else None].append((packet, verdict))
    found = []
    for own in offered.values():
        times = in_earned_time(packet.ts_ns for packet, _ in own) if earned else [packet.ts_ns for packet, _ in own]
        found.append([
            Passed(ts_ns, packet.length)
            for ts_ns, (packet, verdict) in zip(times, own, strict=True)
            if verdict == CONFORMING
        ])  # fmt: skip
    return found


# --- every window -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_flow", [False, True], ids=["shared", "per flow"])
@pytest.mark.parametrize("nanoseconds", [True, False], ids=["ns", "us"])
def test_no_window_passes_more_than_rate_by_time_and_burst(per_flow: bool, nanoseconds: bool) -> None:
    tight = 0
    for seed in range(60):
        random = Random(seed)
        rate_bps, burst_bytes = limits(random)
        packets = adversarial(random, rate_bps, burst_bytes, packets=300, flows=5)
        if not nanoseconds:
            packets = [packet._replace(ts_ns=packet.ts_ns // 1000 * 1000) for packet in packets]
        verdicts, _ = judged(
            packets, policed(Policer(rate_bps, burst_bytes), per_flow=per_flow), nanoseconds=nanoseconds
        )
        for passed in passed_by_flow(packets, verdicts, per_flow=per_flow):
            excess = worst_excess(passed, rate_bps)
            assert excess <= burst_bytes * BYTE, f"seed {seed}: {excess / BYTE} bytes above {rate_bps} bit/s"
            tight += excess > burst_bytes * BYTE * 0.99
    assert tight > 10, "the sequences hardly ever empty a bucket"


def test_what_is_refused_would_have_exceeded_the_bound_of_some_window() -> None:
    """The other side: the bucket keeps nothing back. Adding any one dropped packet breaks the bound."""
    for seed in range(60):
        random = Random(seed)
        rate_bps, burst_bytes = limits(random)
        packets = adversarial(random, rate_bps, burst_bytes, packets=120, flows=1)
        verdicts, _ = judged(packets, policed(Policer(rate_bps, burst_bytes)))
        passed: list[Passed] = []
        for packet, verdict in zip(packets, verdicts, strict=True):
            with_it = [*passed, Passed(packet.ts_ns, packet.length)]
            if verdict == CONFORMING:
                passed = with_it
            else:
                assert worst_excess(with_it, rate_bps) > burst_bytes * BYTE, f"seed {seed}"


def test_one_pass_over_the_windows_finds_what_looking_at_every_pair_finds() -> None:
    for seed in range(100):
        random = Random(seed)
        rate_bps, burst_bytes = limits(random)
        packets = adversarial(random, rate_bps, burst_bytes, packets=25, flows=1)
        passed = [Passed(packet.ts_ns, packet.length) for packet in packets]
        assert worst_excess(passed, rate_bps) == worst_excess_of_all_pairs(passed, rate_bps)


# --- the long run -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [64, 1_500, 65_535, 16_000_000])
@pytest.mark.parametrize("nanoseconds", [True, False], ids=["ns", "us"])
def test_the_long_run_keeps_to_the_rate(length: int, nanoseconds: bool) -> None:
    for rate_bps in RATES_BPS:
        # Room for what is earned while a packet waits for its tokens, or within one unit of the capture's time.
        burst_bytes = 2 * length + rate_bps // 8 // 400_000
        # The first packet takes the whole burst: what passes after it is what has been earned since.
        packets = [Offered(START_NS, burst_bytes), *steady(rate_bps, length, packets=4_200)]
        if not nanoseconds:
            packets = [packet._replace(ts_ns=packet.ts_ns // 1000 * 1000) for packet in packets]
        verdicts, engine = judged(packets, policed(Policer(rate_bps, burst_bytes)), nanoseconds=nanoseconds)
        assert verdicts[0] == CONFORMING
        assert engine.rule_counters()["rule"].passed_bytes == burst_bytes + verdicts[1:].count(CONFORMING) * length
        # When a packet was dropped, less than its bytes were left.
        last = max(number for number, verdict in enumerate(verdicts) if verdict == DROPPED)
        passed = verdicts[1:last].count(CONFORMING) * length * BYTE
        earned = rate_bps * (packets[last].ts_ns - START_NS)
        assert earned - length * BYTE < passed <= earned, (rate_bps, length)
        assert abs(passed / earned - 1) <= 0.001, (rate_bps, length)


@pytest.mark.parametrize("rate_bps", RATES_BPS)
def test_idle_days_earn_what_is_due_and_no_more_than_the_burst(rate_bps: int) -> None:
    """A bucket of 512 MiB takes 50 days to fill at 1 kbps: each day earns exactly its part, to the byte."""
    burst_bytes, length = 1 << 29, 1_000
    # It is emptied by one jumbogram, to the last byte.
    packets = [Offered(START_NS, burst_bytes), Offered(START_NS, 28)]
    expected = [CONFORMING, DROPPED]
    now_ns = START_NS
    for days in (1, 7, 400):
        now_ns += days * DAY_NS
        earned_bytes = min(burst_bytes, rate_bps * days * DAY_NS // BYTE)
        packets += [Offered(now_ns, earned_bytes + 1), Offered(now_ns, earned_bytes), Offered(now_ns, length)]
        expected += [DROPPED, CONFORMING, DROPPED]
    assert judged(packets, policed(Policer(rate_bps, burst_bytes)))[0] == expected


# --- clocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_flow", [False, True], ids=["shared", "per flow"])
@pytest.mark.parametrize("set_back", [False, True], ids=["out of order", "clock set back"])
def test_disordered_times_earn_nothing_twice(per_flow: bool, set_back: bool) -> None:
    steps_back = 0
    for seed in range(60):
        random = Random(seed)
        rate_bps, burst_bytes = limits(random)
        ordered = adversarial(random, rate_bps, burst_bytes, packets=300, flows=3)
        packets = disordered(random, ordered, set_back=set_back)
        verdicts, engine = judged(packets, policed(Policer(rate_bps, burst_bytes), per_flow=per_flow))
        for passed in passed_by_flow(packets, verdicts, per_flow=per_flow, earned=True):
            assert worst_excess(passed, rate_bps) <= burst_bytes * BYTE, f"seed {seed}"
        steps_back += engine.totals().time_steps_back
    assert bool(steps_back) == set_back


def test_out_of_order_by_d_passes_at_most_what_d_longer_a_window_would() -> None:
    """By the times that the packets bear, whatever their order in the capture."""
    for seed in range(60):
        random = Random(seed)
        rate_bps, burst_bytes = limits(random)
        packets = disordered(random, adversarial(random, rate_bps, burst_bytes, packets=200, flows=1), set_back=False)
        verdicts, _ = judged(packets, policed(Policer(rate_bps, burst_bytes)))
        (passed,) = passed_by_flow(packets, verdicts, per_flow=False)
        disorder_ns = 10 * SECOND_NS
        assert worst_excess(sorted(passed), rate_bps) <= burst_bytes * BYTE + rate_bps * disorder_ns, f"seed {seed}"


@pytest.mark.parametrize("back_ns", [10 * SECOND_NS + 1, 60 * SECOND_NS, 365 * DAY_NS])
def test_a_clock_set_back_for_good_costs_no_tokens_and_is_counted_once(back_ns: int) -> None:
    # 8 bits a nanosecond: a byte each. 1,000 of 3,000 bytes are left, and 500 ns later 1,500.
    at = START_NS
    packets = [Offered(at, 2_000), Offered(at - back_ns, 1_001), Offered(at - back_ns + 500, 1_500)]
    packets += [Offered(at - back_ns + 500, 28), Offered(at - back_ns + 528, 28)]
    verdicts, engine = judged(packets, policed(Policer(8 * SECOND_NS, 3_000)))
    assert verdicts == [CONFORMING, DROPPED, CONFORMING, DROPPED, CONFORMING]
    assert engine.totals().time_steps_back == 1


@pytest.mark.parametrize("back_ns", [1, SECOND_NS, 10 * SECOND_NS])
def test_a_small_step_back_earns_nothing_until_the_time_it_came_from(back_ns: int) -> None:
    at = START_NS
    packets = [Offered(at, 3_000), Offered(at - back_ns, 28), Offered(at - 1, 28), Offered(at, 28)]
    packets += [Offered(at + 27, 28), Offered(at + 28, 28)]
    verdicts, engine = judged(packets, policed(Policer(8 * SECOND_NS, 3_000)))
    assert verdicts == [CONFORMING, DROPPED, DROPPED, DROPPED, DROPPED, CONFORMING]
    assert engine.totals().time_steps_back == 0


def test_monitor_marks_what_police_drops() -> None:
    random = Random(5)
    packets = adversarial(random, 10**7, 15_000, packets=2_000, flows=3)
    dropped, _ = judged(packets, policed(Policer(10**7, 15_000)))
    marked, _ = judged(packets, policed(Policer(10**7, 15_000), mode=Mode.MONITOR))
    assert [verdict == DROPPED for verdict in dropped] == [verdict == EXCEEDING for verdict in marked]
    assert YELLOW not in dropped + marked
