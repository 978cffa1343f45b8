from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upf.policing import TokenBucket

SECOND = 1_000_000_000
RATES_BPS = [1_000, 64_000, 5_000_000, 1_500_000_000, 40_000_000_000, 400_000_000_000]


def passed_bytes(bucket: TokenBucket, packets: list[tuple[int, int]]) -> list[int]:
    return [length if bucket.take(ts_ns, length) else 0 for ts_ns, length in packets]


def test_the_bucket_is_full_at_its_first_packet_whenever_that_is() -> None:
    bucket = TokenBucket(1_000, 1_500)
    assert bucket.take(1_700_000_000 * SECOND, 1_500)
    assert not bucket.take(1_700_000_000 * SECOND, 1)


def test_a_packet_conforms_where_tokens_are_just_enough_and_not_one_bit_nanosecond_less() -> None:
    # 1,000 bit/s make one byte in 8 ms.
    bucket = TokenBucket(1_000, 100)
    assert bucket.take(0, 100)
    assert not bucket.take(8_000_000 - 1, 1)
    assert bucket.take(8_000_000, 1)
    assert bucket.tokens == 0


def test_a_packet_that_exceeds_costs_nothing() -> None:
    bucket = TokenBucket(1_000, 100)
    assert bucket.take(0, 60)
    assert not bucket.take(0, 41)
    assert bucket.take(0, 40)


def test_the_bucket_never_holds_more_than_its_burst() -> None:
    bucket = TokenBucket(400_000_000_000, 1_500)
    assert bucket.take(0, 1_500)
    assert not bucket.take(86_400 * SECOND, 1_501)
    assert bucket.take(86_400 * SECOND, 1_500)


def test_a_packet_earlier_than_the_latest_adds_nothing() -> None:
    bucket = TokenBucket(8_000, 1_000)
    assert bucket.take(20 * SECOND, 1_000)
    assert not bucket.take(10 * SECOND, 1)
    assert bucket.last_ns == 20 * SECOND
    # The second from 20 s to 21 s counts once, whatever came in between.
    assert not bucket.take(21 * SECOND, 1_001)
    assert bucket.take(21 * SECOND, 1_000)
    assert bucket.time_steps_back == 0


def test_a_step_back_of_more_than_10_s_anchors_the_bucket_there_and_keeps_its_tokens() -> None:
    bucket = TokenBucket(8_000, 1_000)
    assert bucket.take(20 * SECOND, 600)
    assert not bucket.take(10 * SECOND - 1, 401)
    assert (bucket.last_ns, bucket.time_steps_back) == (10 * SECOND - 1, 1)
    assert bucket.take(10 * SECOND - 1, 400)
    assert bucket.take(10 * SECOND - 1 + SECOND // 2, 500)
    assert not bucket.take(10 * SECOND - 1 + SECOND // 2, 1)


@pytest.mark.parametrize("rate_bps", RATES_BPS)
def test_over_the_long_run_passed_bytes_are_burst_plus_rate_times_time_exactly(rate_bps: int) -> None:
    # One-byte packets, always one more than the bucket has: after T, r·T/8 + b bytes have passed, no more and no less.
    burst_bytes = 64
    byte_time_ns = Fraction(8 * SECOND, rate_bps)
    bucket = TokenBucket(rate_bps, burst_bytes)
    passed = 0
    for count in range(5_000):
        # Never so late that the bucket overflows, and at no whole number of bytes.
        now_ns = int(count * byte_time_ns * Fraction(7, 3))
        while bucket.take(now_ns, 1):
            passed += 1
        assert passed == burst_bytes + now_ns * rate_bps // (8 * SECOND)


@st.composite
def offered(draw: st.DrawFn) -> tuple[int, int, list[tuple[int, int]]]:
    rate_bps = draw(st.sampled_from(RATES_BPS) | st.integers(1_000, 400_000_000_000))
    burst_bytes = draw(st.integers(64, 3_000))
    # Gaps about as long as a packet takes at the rate, so that some conform and some do not.
    packet_ns = 8 * SECOND * 500 // rate_bps
    gaps_and_lengths = draw(st.lists(st.tuples(st.integers(0, 3 * packet_ns), st.integers(20, 1_500)), max_size=40))
    now_ns, packets = 1_600_000_000 * SECOND, []
    for gap_ns, length in gaps_and_lengths:
        now_ns += gap_ns
        packets.append((now_ns, length))
    return rate_bps, burst_bytes, packets


@given(offered())
def test_in_every_window_passed_bytes_are_at_most_rate_times_time_plus_burst(
    case: tuple[int, int, list[tuple[int, int]]],
) -> None:
    rate_bps, burst_bytes, packets = case
    passed = passed_bytes(TokenBucket(rate_bps, burst_bytes), packets)
    for first in range(len(packets)):
        in_window = 0
        for last in range(first, len(packets)):
            in_window += passed[last]
            window_ns = packets[last][0] - packets[first][0]
            assert in_window <= burst_bytes + Fraction(rate_bps * window_ns, 8 * SECOND)


@given(offered())
def test_a_packet_that_exceeds_would_break_the_bound_of_some_window(
    case: tuple[int, int, list[tuple[int, int]]],
) -> None:
    rate_bps, burst_bytes, packets = case
    passed = passed_bytes(TokenBucket(rate_bps, burst_bytes), packets)
    for last, (now_ns, length) in enumerate(packets):
        if passed[last]:
            continue
        assert any(
            sum(passed[first:last]) + length
            > burst_bytes + Fraction(rate_bps * (now_ns - packets[first][0]), 8 * SECOND)
            for first in range(last + 1)
        )


@given(offered(), st.integers(0, 2**62))
def test_the_verdicts_do_not_depend_on_when_the_capture_began(
    case: tuple[int, int, list[tuple[int, int]]], shift_ns: int
) -> None:
    rate_bps, burst_bytes, packets = case
    shifted = [(ts_ns + shift_ns, length) for ts_ns, length in packets]
    assert passed_bytes(TokenBucket(rate_bps, burst_bytes), packets) == passed_bytes(
        TokenBucket(rate_bps, burst_bytes), shifted
    )


@pytest.mark.parametrize("rate_bps", RATES_BPS)
def test_the_largest_bucket_stays_within_63_bits(rate_bps: int) -> None:
    bucket = TokenBucket(rate_bps, 512 * 1024**2)
    assert bucket.capacity + rate_bps < 2**63
