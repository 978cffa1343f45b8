"""What the player decides, as pure logic: adaptation, throughput, pacing, the buffer (TS 26.512 A.3.2 step 9)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nf.af.v1.media_session_pb2 import ServiceDescriptorFilter
from nf.client.dash.adaptation import choose
from nf.client.dash.combinations import Bounds, Combination, DescriptorFilter, allowed
from nf.client.dash.descriptor_filters import from_message
from nf.client.dash.pacing import Pacer, pace_bps
from nf.client.dash.playback import Playback, Stall, State
from nf.client.dash.throughput import Estimator, HarmonicMean, MovingAverage
from nf.common.dash.mpd import Representation, SegmentBase
from nf.common.v1.types_pb2 import MEDIA_TYPE_AUDIO, MEDIA_TYPE_DATA

S = 1_000_000_000
WHOLE = SegmentBase(None, None, 1, 0)
RATES = st.lists(st.integers(1, 100_000), min_size=1, max_size=8, unique=True)


def ladder(*rates_bps: int) -> tuple[Combination, ...]:
    """Combinations of one representation each, in the order of their bandwidth."""
    return tuple(
        Combination(
            (Representation(str(rate), rate, "video", "", "", None, None, ("",), SegmentBase(None, None, 1, 0)),)
        )
        for rate in sorted(rates_bps)
    )


@pytest.mark.clause("TS 26.512 A.3.2 step 9")
@settings(deadline=None)
@given(rates=RATES, threshold=st.integers(1, 100_000), throughput=st.one_of(st.none(), st.floats(0, 1e6)))
def test_the_choice_never_exceeds_the_threshold_and_is_the_best_that_the_throughput_allows(
    rates: list[int], threshold: int, throughput: float | None
) -> None:
    candidates = ladder(*rates)
    playable = allowed(candidates, Bounds(threshold))
    chosen = choose(playable.combinations, throughput, safety=1.0).bandwidth_bps
    compliant = [rate for rate in rates if rate <= threshold]
    if not compliant:
        assert (chosen, playable.compliant) == (min(rates), False)
        return
    assert chosen <= threshold
    carried = [rate for rate in compliant if throughput is not None and rate <= throughput]
    assert chosen == max(carried, default=min(compliant))


@pytest.mark.parametrize(
    ("throughput_bps", "ceiling_bps", "safety", "expected"),
    [
        (None, None, 0.9, 10),
        (1000.0, None, 0.9, 40),
        (40.0, None, 1.0, 40),
        (40.0, None, 0.9, 20),
        (1000.0, 39.9, 1.0, 20),
        (5.0, None, 1.0, 10),
    ],
)
def test_safety_and_ceiling_bound_the_choice(
    throughput_bps: float | None, ceiling_bps: float | None, safety: float, expected: int
) -> None:
    chosen = choose(ladder(10, 20, 40), throughput_bps, ceiling_bps=ceiling_bps, safety=safety)
    assert chosen.bandwidth_bps == expected


@pytest.mark.parametrize("estimator", [HarmonicMean(), MovingAverage()])
def test_nothing_is_known_before_the_first_transfer_and_a_steady_network_is_told_as_it_is(
    estimator: Estimator,
) -> None:
    assert estimator.bps is None
    estimator.add(0, 1.0)
    assert estimator.bps is None
    for _ in range(10):
        estimator.add(125_000, 0.5)
        assert estimator.bps == pytest.approx(2_000_000)


def test_the_harmonic_mean_is_of_the_last_transfers_and_not_fooled_by_a_fast_one() -> None:
    estimator = HarmonicMean(last=2)
    estimator.add(1_000_000, 100.0)
    estimator.add(125_000, 1.0)
    estimator.add(125_000, 0.01)
    assert estimator.bps == pytest.approx(2_000_000 / 1.01)


def test_the_moving_average_follows_down_at_once_and_up_with_care() -> None:
    estimator = MovingAverage()
    for _ in range(20):
        estimator.add(1_250_000, 1.0)
    estimator.add(125_000, 3.0)
    # Half of the fast mean is forgotten in three seconds.
    assert estimator.bps == pytest.approx((10_000_000 + 333_333) / 2, rel=0.05)
    for _ in range(3):
        estimator.add(12_500_000, 1.0)
    assert estimator.bps is not None
    assert estimator.bps < 50_000_000


@settings(deadline=None)
@given(
    rate_bps=st.integers(100_000, 100_000_000),
    pauses_ms=st.lists(st.integers(0, 200), min_size=1, max_size=60),
)
def test_what_a_pacer_lets_through_stays_within_rate_and_burst(rate_bps: int, pauses_ms: list[int]) -> None:
    pacer = Pacer(rate_bps, now_ns=0, burst_bytes=32_768)
    now_ns, taken = 0, 0
    for pause_ms in pauses_ms:
        now_ns += pause_ms * 1_000_000
        granted = pacer.grant_bytes(now_ns)
        pacer.take(granted)
        taken += granted
        assert taken <= rate_bps * now_ns / 8e9 + 32_768 + 1


def test_who_waits_as_long_as_a_pacer_says_may_read() -> None:
    pacer = Pacer(1_000_000, now_ns=0, burst_bytes=10_000)
    pacer.take(pacer.grant_bytes(0))
    assert pacer.grant_bytes(1) == 0
    wait_ns = pacer.wait_ns()
    assert 0.032 * S < wait_ns < 0.034 * S
    assert pacer.grant_bytes(1 + wait_ns) == 4_096


def test_the_pace_leaves_room_for_headers_and_is_never_too_slow_to_play() -> None:
    assert pace_bps(5_000_000, ladder(1_000_000, 4_000_000)) == 4_750_000
    assert pace_bps(5_000_000, ladder(4_900_000)) == pytest.approx(5_145_000)
    assert pace_bps(500_000, ladder(1_000_000)) == 1_050_000


def test_it_plays_once_enough_is_buffered_and_ends_when_all_has_been_played() -> None:
    playback = Playback(0.0, ("video", "audio"), resume_s=2.0, now_ns=0)
    playback.received("video", 4.0, 1 * S)
    assert (playback.state, playback.buffered_s) == (State.STARTING, 0.0)
    playback.received("audio", 2.0, 2 * S)
    assert (playback.state, playback.started_ns) == (State.PLAYING, 2 * S)
    playback.received("audio", 4.0, 3 * S)
    assert (playback.position_s, playback.buffered_s) == (1.0, 3.0)
    playback.completed(4 * S)
    playback.advance(5 * S)
    assert (playback.state, playback.position_s) == (State.PLAYING, 3.0)
    playback.advance(6 * S)
    assert (playback.state, playback.position_s, playback.stalls) == (State.ENDED, 4.0, [])


def test_an_empty_buffer_is_a_stall_that_lasts_until_enough_has_come() -> None:
    playback = Playback(10.0, ("video",), resume_s=1.0, now_ns=0)
    playback.received("video", 12.0, 0)
    playback.advance(5 * S)
    assert (playback.state, playback.position_s, playback.stalled_s(5 * S)) == (State.STALLED, 12.0, 3.0)
    playback.received("video", 12.5, 6 * S)
    assert playback.state is State.STALLED
    playback.received("video", 14.0, 7 * S)
    assert (playback.state, playback.stalls) == (State.PLAYING, [Stall(12.0, 5.0)])
    assert playback.stalled_s(8 * S) == 5.0


def test_a_short_presentation_is_played_although_it_never_fills_the_buffer() -> None:
    playback = Playback(0.0, ("video",), resume_s=5.0, now_ns=0)
    playback.received("video", 1.0, 0)
    playback.completed(0)
    assert playback.state is State.PLAYING
    playback.advance(1 * S)
    assert playback.state is State.ENDED


@pytest.mark.clause("TS 26.512 A.3.2 step 7")
def test_a_filter_about_one_medium_keeps_it() -> None:
    message = ServiceDescriptorFilter(operating_bandwidth_max_bps=5, media_type=MEDIA_TYPE_AUDIO)
    assert from_message(message) == DescriptorFilter("", 5, "audio")
    message.media_type = MEDIA_TYPE_DATA
    assert from_message(message) == DescriptorFilter("", 5, "")
    assert from_message(ServiceDescriptorFilter()) is None
    assert from_message(None) is None
