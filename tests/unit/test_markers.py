"""The markers of RFC 2697, RFC 2698 and RFC 4115, against each RFC's own words: tokens added one by one."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upf.policing import Shaper, colour_of_dscp, marker_of
from upf.rules import Colour, Marker, Policer

SECOND = 1_000_000_000
GREEN, YELLOW, RED = Colour.GREEN, Colour.YELLOW, Colour.RED
# 8,000 bit/s are a byte each millisecond.
BYTE_NS = 1_000_000


def colours(policer: Policer, *packets: tuple[int, int] | tuple[int, int, Colour]) -> list[Colour]:
    marker = marker_of(policer)
    return [marker.take(ms * BYTE_NS, *rest) for ms, *rest in packets]


def test_rfc_2697_fills_the_excess_bucket_with_what_the_committed_one_has_no_room_for() -> None:
    policer = Policer(8_000, 1_000, Marker.SRTCM, excess_burst_bytes=500)
    # Both are full: the burst is green, the excess burst yellow, the rest red.
    assert colours(policer, (0, 1_000), (0, 500), (0, 1)) == [GREEN, YELLOW, RED]
    # In 1,200 ms 1,000 bytes go to the committed bucket, and only then 200 to the excess one.
    assert colours(policer, (0, 1_000), (0, 500), (1_200, 1_000), (1_200, 201), (1_200, 200)) == [
        GREEN, YELLOW, GREEN, RED, YELLOW,
    ]  # fmt: skip
    # As long as the committed bucket has room, the excess one gets nothing.
    assert colours(policer, (0, 1_000), (0, 500), (999, 1_000), (999, 999), (1_000, 1_000)) == [
        GREEN, YELLOW, RED, GREEN, RED,
    ]  # fmt: skip


def test_rfc_2698_charges_green_to_both_buckets_and_yellow_to_the_peak_one() -> None:
    policer = Policer(8_000, 1_000, Marker.TRTCM, excess_rate_bps=16_000, excess_burst_bytes=1_500)
    assert colours(policer, (0, 1_000), (0, 501), (0, 500), (0, 1)) == [GREEN, RED, YELLOW, RED]
    # 100 ms make 100 bytes for the committed bucket, 200 for the peak one; the green packet leaves the latter 100.
    assert colours(policer, (0, 1_000), (0, 500), (100, 100), (100, 101), (100, 100)) == [
        GREEN, YELLOW, GREEN, RED, YELLOW,
    ]  # fmt: skip
    # What the peak bucket lacks is red, be the committed one as full as it likes.
    small_peak = Policer(8_000, 1_000, Marker.TRTCM, excess_rate_bps=8_000, excess_burst_bytes=500)
    assert colours(small_peak, (0, 501), (0, 500), (0, 1)) == [RED, GREEN, RED]


def test_rfc_4115_charges_green_to_the_committed_bucket_alone_and_yellow_to_the_excess_one() -> None:
    policer = Policer(8_000, 1_000, Marker.DIFFSERV_TRTCM, excess_rate_bps=16_000, excess_burst_bytes=1_500)
    # The excess bucket is as full as before the green packet.
    assert colours(policer, (0, 1_000), (0, 1_500), (0, 1)) == [GREEN, YELLOW, RED]
    # What overflows the committed bucket is lost, and the excess rate does not contain the committed one.
    assert colours(policer, (0, 1_500), (500, 1_000), (500, 1_001), (500, 1_000)) == [YELLOW, GREEN, RED, YELLOW]
    # Its excess rate may be below the committed one: 100 ms make 100 bytes and 10.
    slow = Policer(8_000, 1_000, Marker.DIFFSERV_TRTCM, excess_rate_bps=800, excess_burst_bytes=100)
    assert colours(slow, (0, 1_000), (0, 100), (100, 100), (100, 11), (100, 10)) == [GREEN, YELLOW, GREEN, RED, YELLOW]


@pytest.mark.parametrize("marker", [Marker.SRTCM, Marker.TRTCM, Marker.DIFFSERV_TRTCM])
def test_a_colour_blind_marker_does_not_look_at_the_incoming_colour(marker: Marker) -> None:
    rate_bps = 0 if marker is Marker.SRTCM else 16_000
    policer = Policer(8_000, 1_000, marker, rate_bps, 1_500)
    assert colours(policer, (0, 900, RED), (0, 900, RED)) == [GREEN, RED if marker is Marker.TRTCM else YELLOW]


def test_a_colour_aware_marker_never_makes_a_packet_better_and_charges_it_as_what_it_becomes() -> None:
    srtcm = Policer(8_000, 1_000, Marker.SRTCM, 0, 500, colour_aware=True)
    assert colours(srtcm, (0, 10, RED), (0, 500, YELLOW), (0, 1, YELLOW), (0, 1_000)) == [RED, YELLOW, RED, GREEN]
    trtcm = Policer(8_000, 1_000, Marker.TRTCM, 8_000, 1_500, colour_aware=True)
    # The yellow packet leaves the committed bucket full, but the peak one at 500.
    assert colours(trtcm, (0, 10, RED), (0, 1_000, YELLOW), (0, 501), (0, 500)) == [RED, YELLOW, RED, GREEN]
    both = Policer(8_000, 1_000, Marker.DIFFSERV_TRTCM, 8_000, 500, colour_aware=True)
    assert colours(both, (0, 10, RED), (0, 501, YELLOW), (0, 500, YELLOW), (0, 1_000)) == [RED, RED, YELLOW, GREEN]
    two = Policer(8_000, 1_000, colour_aware=True)
    assert colours(two, (0, 10, RED), (0, 600, YELLOW), (0, 401), (0, 400)) == [RED, YELLOW, RED, GREEN]


def test_the_colour_that_a_packet_brings_is_its_af_drop_precedence() -> None:
    # AF11 to AF43, and what looks like them but is not: CS1 to CS7, EF (46), VOICE-ADMIT (44).
    assert [colour_of_dscp(dscp) for dscp in (10, 18, 26, 34)] == [GREEN] * 4
    assert [colour_of_dscp(dscp) for dscp in (12, 20, 28, 36)] == [YELLOW] * 4
    assert [colour_of_dscp(dscp) for dscp in (14, 22, 30, 38)] == [RED] * 4
    assert {colour_of_dscp(dscp) for dscp in range(64) if dscp % 2 or dscp % 8 == 0 or dscp > 38 or dscp < 8} == {GREEN}


BYTE_EACH_NS_BPS = 8 * 10**9


def by_the_letter(policer: Policer, packets: list[tuple[int, int, Colour]]) -> list[Colour]:
    """The RFCs as they stand, at a rate of one byte each nanosecond: tokens are bytes, added one by one."""
    tc, te = policer.burst_bytes, policer.excess_burst_bytes
    time_ns, found = packets[0][0] if packets else 0, []
    for now_ns, length, brought in packets:
        for _ in range(now_ns - time_ns):
            if policer.marker is Marker.SRTCM:
                if tc < policer.burst_bytes:
                    tc += 1
                elif te < policer.excess_burst_bytes:
                    te += 1
            else:
                tc = min(tc + 1, policer.burst_bytes)
                te = min(te + policer.excess_rate_bps // BYTE_EACH_NS_BPS, policer.excess_burst_bytes)
        time_ns = now_ns
        incoming = brought if policer.colour_aware else GREEN
        if policer.marker is Marker.TRTCM:
            if incoming is RED or te - length < 0:
                found.append(RED)
            elif incoming is YELLOW or tc - length < 0:
                found.append(YELLOW)
                te -= length
            else:
                found.append(GREEN)
                te -= length
                tc -= length
        elif incoming is GREEN and tc - length >= 0:
            found.append(GREEN)
            tc -= length
        elif incoming is not RED and te - length >= 0:
            found.append(YELLOW)
            te -= length
        else:
            found.append(RED)
    return found


@given(
    st.sampled_from([Marker.SRTCM, Marker.TRTCM, Marker.DIFFSERV_TRTCM]),
    st.booleans(),
    st.integers(64, 200),
    st.integers(64, 200),
    st.lists(st.tuples(st.integers(0, 150), st.integers(1, 210), st.sampled_from(list(Colour))), max_size=40),
)
def test_every_marker_follows_its_rfc_token_by_token(
    marker: Marker, colour_aware: bool, burst: int, excess_burst: int, steps: list[tuple[int, int, Colour]]
) -> None:
    excess_rate_bps = 0 if marker is Marker.SRTCM else 2 * BYTE_EACH_NS_BPS
    policer = Policer(BYTE_EACH_NS_BPS, burst, marker, excess_rate_bps, excess_burst, colour_aware)
    now_ns, packets = 1_600_000_000 * SECOND, []
    for gap_ns, length, incoming in steps:
        now_ns += gap_ns
        packets.append((now_ns, length, incoming))
    at_work = marker_of(policer)
    assert [at_work.take(*packet) for packet in packets] == by_the_letter(policer, packets)


@st.composite
def two_buckets(draw: st.DrawFn) -> Policer:
    marker = draw(st.sampled_from([Marker.SRTCM, Marker.TRTCM, Marker.DIFFSERV_TRTCM]))
    rate_bps = draw(st.integers(1_000, 400 * 10**9))
    least_bps = rate_bps if marker is Marker.TRTCM else 1_000
    excess_rate_bps = 0 if marker is Marker.SRTCM else draw(st.integers(least_bps, 800 * 10**9))
    return Policer(
        rate_bps,
        draw(st.integers(64, 3_000)),
        marker,
        excess_rate_bps,
        draw(st.integers(64, 3_000)),
        draw(st.booleans()),
    )


@given(two_buckets(), st.data())
def test_in_every_window_green_and_yellow_keep_to_their_rates(policer: Policer, data: st.DataObject) -> None:
    packet_ns = 8 * SECOND * 500 // policer.rate_bps
    step = st.tuples(st.integers(0, 3 * packet_ns), st.integers(20, 1_500), st.sampled_from(list(Colour)))
    now_ns, packets, at_work = 0, [], marker_of(policer)
    for gap_ns, length, incoming in data.draw(st.lists(step, max_size=25)):
        now_ns += gap_ns
        packets.append((now_ns, length, at_work.take(now_ns, length, incoming)))
    for first in range(len(packets)):
        green = passed = 0
        for ts_ns, length, colour in packets[first:]:
            time_ns = ts_ns - packets[first][0]
            green += length * (colour is GREEN)
            passed += length * (colour is not RED)
            committed = policer.burst_bytes + Fraction(policer.rate_bps * time_ns, 8 * SECOND)
            excess = policer.excess_burst_bytes + Fraction(policer.excess_rate_bps * time_ns, 8 * SECOND)
            assert green <= committed
            # The peak rate of RFC 2698 contains the committed one, the excess of the others comes on top.
            assert passed <= (excess if policer.marker is Marker.TRTCM else committed + excess)


def test_a_change_of_rate_keeps_the_tokens_of_both_buckets_up_to_their_new_depths() -> None:
    marker = marker_of(Policer(8_000, 1_000, Marker.TRTCM, 16_000, 2_000))
    assert marker.take(0, 900) is GREEN
    marker.limit(Policer(80_000, 500, Marker.TRTCM, 160_000, 1_000))
    # 100 of 1,000 are left in the committed bucket; 1,100 of 2,000 in the peak one, which holds 1,000 now.
    assert [marker.take(0, 101), marker.take(0, 100), marker.take(0, 800), marker.take(0, 799)] == [
        YELLOW, GREEN, RED, YELLOW,
    ]  # fmt: skip
    assert [marker.take(BYTE_NS, 11), marker.take(BYTE_NS, 9)] == [YELLOW, GREEN]


def test_a_shaper_lets_a_packet_go_when_its_last_bit_is_earned() -> None:
    shaper = Shaper(Policer(3, 64), queue_bit_ns=100 * 8 * SECOND)
    assert [shaper.take(0, 64), shaper.departure_ns()] == [GREEN, 0]
    # One byte at 3 bit/s: 2.67 s, and not a nanosecond too soon.
    assert [shaper.take(0, 1), shaper.departure_ns()] == [GREEN, 2_666_666_667]
    assert [shaper.take(SECOND, 1), shaper.departure_ns()] == [GREEN, 5_333_333_334]
    # 16 bits less 3 are owed; 100 bytes of queue take 98 more, but not a longer packet than the bucket is deep.
    assert shaper.take(SECOND, 65) is RED
    assert [shaper.take(SECOND, 64), shaper.take(SECOND, 35), shaper.take(SECOND, 34)] == [GREEN, RED, GREEN]


@given(
    st.integers(1_000, 400 * 10**9),
    st.integers(64, 3_000),
    st.integers(0, 20_000),
    st.lists(st.tuples(st.integers(0, 3_000), st.integers(20, 1_500)), max_size=30),
)
def test_what_a_shaper_lets_go_keeps_its_order_and_the_rate_in_every_window(
    rate_bps: int, burst_bytes: int, queue_bytes: int, steps: list[tuple[int, int]]
) -> None:
    shaper = Shaper(Policer(rate_bps, burst_bytes), queue_bytes * 8 * SECOND)
    now_ns, left = 0, []
    for gap, length in steps:
        now_ns += gap * 8 * SECOND // rate_bps
        if shaper.take(now_ns, length) is GREEN:
            left.append((shaper.departure_ns(), length))
            # No longer than the queue takes to drain.
            assert now_ns <= left[-1][0] <= now_ns + -(-queue_bytes * 8 * SECOND // rate_bps)
    assert left == sorted(left, key=lambda packet: packet[0])
    for first in range(len(left)):
        volume = 0
        for departure_ns, length in left[first:]:
            volume += length
            assert volume <= burst_bytes + Fraction(rate_bps * (departure_ns - left[first][0]), 8 * SECOND)
