"""Rates and losses from reported counters: exact where use is even, nothing where nothing is reported."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nf.common.usage import COUNTER_NAMES, NOTHING
from nf.netapi.usage import Sample, Window, extended, is_settled, measure, sample_of

MS = 1_000_000
S = 1000 * MS
WINDOW = Window(interval_ns=10 * S, lag_ns=2 * S)
# A moment of today, so that what is small beside it would be lost in floating point.
T0 = 1_780_000_000 * S


def steady(bytes_per_report: int, reports: int, every_ns: int, *, start: Sample | None = None) -> list[Sample]:
    series: list[Sample] = [start or Sample(T0, 0, 0, 0, 0)]
    for number in range(1, reports + 1):
        last = series[0] if number == 1 else series[-1]
        packets = last.offered_packets + 10
        series = extended(
            series,
            Sample(T0 + number * every_ns, bytes_per_report * number, 7 * number, packets, number),
            WINDOW,
        )
    return series


@given(st.integers(0, 10**9), st.integers(1, 400), st.integers(20, 900))
def test_an_even_rate_is_measured_exactly_however_long_it_lasts_and_often_it_is_reported(
    bytes_per_report: int, reports: int, every_ms: int
):
    series = steady(bytes_per_report, reports, every_ms * MS)
    measured = measure(series, T0 + reports * every_ms * MS, WINDOW)
    assert measured is not None
    expected = bytes_per_report * 8000 / every_ms
    # Counters are whole bytes at the ends of the interval.
    assert abs(measured.downlink_bps - expected) <= 8 * S / measured.interval_ns + 1
    assert measured.interval_ns == min(10 * S, reports * every_ms * MS)
    assert measured.until_ns == T0 + reports * every_ms * MS
    # Of a packet that is counted, a part may lie outside the interval.
    packets = max(1, measured.interval_ns * 10 // (every_ms * MS))
    assert measured.loss_ppm is None or abs(measured.loss_ppm - 100_000) <= 1_000_000 / packets + 1


@given(st.lists(st.tuples(st.integers(1, 15_000), st.integers(0, 10**7), st.integers(0, 100)), max_size=60))
def test_a_series_is_short_in_order_and_ends_with_what_was_counted(steps: list[tuple[int, int, int]]):
    series: list[Sample] = []
    at_ns = T0
    sample = Sample(T0, 0, 0, 0, 0)
    for pause_ms, grown, packets in steps:
        at_ns += pause_ms * MS
        sample = Sample(
            at_ns, sample.downlink_bytes + grown, 0, sample.offered_packets + packets, sample.dropped_packets
        )
        series = extended(series, sample, WINDOW)
        assert series[-1] == sample
        assert len(series) <= 32 * 12 // 10 + 8
        times = [each.at_ns for each in series]
        assert times == sorted(set(times))
        counted = [each.downlink_bytes for each in series]
        assert counted == sorted(counted)


@given(st.lists(st.tuples(st.integers(1, 3000), st.integers(0, 10**6)), min_size=1, max_size=40), st.integers(0, 30))
def test_rates_never_tell_of_more_than_was_counted_and_fall_to_nothing(steps: list[tuple[int, int]], later_s: int):
    series = [Sample(T0, 0, 0, 0, 0)]
    for pause_ms, grown in steps:
        last = series[-1]
        sample = Sample(last.at_ns + pause_ms * MS, last.downlink_bytes + grown, 0, 0, 0)
        series = extended(series, sample, WINDOW)
    now_ns = series[-1].at_ns + later_s * S
    measured = measure(series, now_ns, WINDOW)
    assert measured is not None
    counted_bits = 8 * sum(grown for _, grown in steps)
    assert measured.downlink_bps * measured.interval_ns <= (counted_bits + 8) * S + measured.interval_ns
    if later_s >= 12:
        assert measured.downlink_bps == 0
        assert is_settled(series, now_ns, WINDOW)


def test_what_comes_after_a_silence_was_used_within_the_lag_before_it():
    series = extended([Sample(T0, 0, 0, 0, 0)], Sample(T0 + 60 * S, 2_000_000, 0, 0, 0), WINDOW)
    assert series[-2:] == [Sample(T0 + 58 * S, 0, 0, 0, 0), Sample(T0 + 60 * S, 2_000_000, 0, 0, 0)]
    measured = measure(series, T0 + 60 * S, WINDOW)
    assert measured is not None
    assert (measured.downlink_bps, measured.interval_ns) == (1_600_000, 10 * S)


def test_loss_is_of_the_packets_of_the_interval_alone():
    first = Sample(T0, 0, 0, 1000, 500)
    series = extended([first], Sample(T0 + 2 * S, 0, 0, 1400, 501), WINDOW)
    measured = measure(series, T0 + 2 * S, WINDOW)
    assert measured is not None
    assert measured.loss_ppm == 2500
    quiet = measure(extended([first], first._replace(at_ns=T0 + S), WINDOW), T0 + S, WINDOW)
    assert quiet is not None
    assert quiet.loss_ppm is None


def test_of_one_report_and_of_none_nothing_can_be_said():
    assert measure([], T0, WINDOW) is None
    assert measure([Sample(T0, 5, 5, 5, 5)], T0, WINDOW) is None


def test_a_report_that_is_not_later_than_the_last_takes_its_place():
    series = [Sample(T0, 0, 0, 0, 0), Sample(T0 + S, 10, 0, 0, 0)]
    assert extended(series, Sample(T0 + S // 2, 30, 0, 0, 0), WINDOW)[-1] == Sample(T0 + S, 30, 0, 0, 0)


def test_what_passed_is_what_conformed_and_what_exceeded():
    counters = dict(zip(COUNTER_NAMES, NOTHING, strict=True))
    counters |= {"downlink_conforming_bytes": 5, "downlink_exceeding_bytes": 6, "downlink_dropped_bytes": 9}
    counters |= {"uplink_conforming_bytes": 1, "uplink_offered_packets": 3, "downlink_dropped_packets": 2}
    assert sample_of(4, tuple(counters[name] for name in COUNTER_NAMES)) == Sample(4, 11, 1, 3, 2)
