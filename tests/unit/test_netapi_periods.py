"""When a booking is on: periods, rules, time zones (5G-MAG live media distribution workflow B.1, schedule)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from booking_stack import HOUR, MINUTE, START, period
from hypothesis import given
from hypothesis import strategies as st

from nf.common.errors import InvalidArgument
from nf.netapi.errors import AgreementLimitExceeded
from nf.netapi.periods import MAX_WINDOWS, Window, windows
from nf.netapi.v1.booking_pb2 import BookingPeriod

DAY = timedelta(days=1)


def starts(*periods: BookingPeriod, now: datetime = START, latest: datetime | None = None) -> list[str]:
    return [f"{each.start:%m-%d %H:%M}" for each in windows(periods, now, latest)]


@pytest.mark.clause("5G-MAG live media distribution B.1 schedule")
def test_a_rule_repeats_the_wall_clock_of_its_time_zone_over_a_change_to_winter_time() -> None:
    start = datetime(2026, 10, 24, 6, tzinfo=UTC)
    weekend = period(start, start + HOUR, "FREQ=DAILY;COUNT=3", "Europe/Vienna")
    assert starts(weekend) == ["10-24 06:00", "10-25 07:00", "10-26 07:00"]
    # Without a zone it is UTC.
    weekend.time_zone = ""
    assert starts(weekend) == ["10-24 06:00", "10-25 06:00", "10-26 06:00"]


def test_a_time_that_the_change_to_summer_time_leaves_out_is_an_hour_later_on_the_wall_and_lasts_as_long() -> None:
    now = datetime(2027, 3, 1, tzinfo=UTC)
    start = datetime(2027, 3, 27, 1, 30, tzinfo=UTC)
    found = windows([period(start, start + HOUR, "FREQ=DAILY;COUNT=3", "Europe/Vienna")], now, None)
    assert [f"{each.start:%d %H:%M}" for each in found] == ["27 01:30", "28 01:30", "29 00:30"]
    assert {each.stop - each.start for each in found} == {HOUR}


def test_a_rule_without_an_end_goes_as_far_as_the_agreement_looks_and_no_further_than_a_thousand_times() -> None:
    endless = period(START, START + HOUR, "FREQ=WEEKLY;BYDAY=MO,WE")
    assert starts(endless, latest=START + 10 * DAY) == ["06-01 08:00", "06-03 08:00", "06-08 08:00", "06-10 08:00"]
    hourly = period(START, START + MINUTE, "FREQ=HOURLY")
    assert len(windows([hourly], START, None)) == MAX_WINDOWS
    # What is over does not count.
    assert starts(endless, now=START + 7 * DAY, latest=START + 10 * DAY) == ["06-08 08:00", "06-10 08:00"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FREQ=MONTHLY;BYDAY=1MO;COUNT=3", ["06-01", "07-06", "08-03"]),
        ("FREQ=MONTHLY;BYDAY=MO,TU;BYSETPOS=1;COUNT=3", ["06-01", "07-06", "08-03"]),
        ("FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,FR;COUNT=4", ["06-01", "06-05", "06-15", "06-19"]),
        ("FREQ=DAILY;BYMONTHDAY=1,-1;COUNT=4", ["06-01", "06-30", "07-01", "07-31"]),
        ("FREQ=YEARLY;BYYEARDAY=152,-1;COUNT=2", ["06-01", "12-31"]),
        ("FREQ=YEARLY;BYWEEKNO=23;BYDAY=MO,TU;COUNT=2", ["06-01", "06-02"]),
        ("FREQ=HOURLY;BYHOUR=8,20;COUNT=3", ["06-01", "06-01", "06-02"]),
    ],
)
def test_rules_repeat_as_rfc_5545_says(text: str, expected: list[str]) -> None:
    assert [each[:5] for each in starts(period(START, START + HOUR, text))] == expected


@pytest.mark.parametrize(
    ("until", "expected"),
    [
        ("20260603", 3),
        ("20260603T080000Z", 3),
        ("20260603T075959Z", 2),
        ("20260603T100000", 3),
        ("20260603T095959", 2),
    ],
)
def test_a_rule_ends_with_the_moment_it_names(until: str, expected: int) -> None:
    # 10:00 in Vienna.
    daily = period(START, START + HOUR, f"FREQ=DAILY;UNTIL={until}", "Europe/Vienna")
    assert len(windows([daily], START, None)) == expected


def test_what_follows_without_a_gap_is_one_window() -> None:
    one, two = period(START, START + HOUR), period(START + HOUR, START + 2 * HOUR)
    assert windows([two, one], START, None) == [Window(START, START + 2 * HOUR)]
    around_the_clock = period(START, START + HOUR, "FREQ=HOURLY;COUNT=24")
    assert windows([around_the_clock], START, None) == [Window(START, START + DAY)]


def test_an_end_beyond_the_agreement_is_refused_by_the_path_that_asks_for_it() -> None:
    latest = START + 2 * DAY
    with pytest.raises(
        AgreementLimitExceeded, match=r"periods\[1\].stop_time: expected an end at 2026-06-03T08:00:00Z"
    ):
        windows([period(START, START + HOUR), period(START + DAY, START + 3 * DAY)], START, latest)
    with pytest.raises(AgreementLimitExceeded, match=r"periods\[0\].repetition_rule"):
        windows([period(START, START + HOUR, "FREQ=DAILY;COUNT=9")], START, latest)
    with pytest.raises(AgreementLimitExceeded, match=r"periods\[0\].repetition_rule"):
        windows([period(START + 3 * DAY, START + 3 * DAY + HOUR, "FREQ=DAILY")], START, latest)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (BookingPeriod(), r"periods\[0\].start_time: expected a time, found none; periods\[0\].stop_time: expected a"),
        (
            period(START + HOUR, START + HOUR),
            r"periods\[0\].stop_time: expected a time after the start 2026-06-01T09:00",
        ),
        (period(START, START + 4000 * DAY), r"periods\[0\].stop_time: expected at most 3653 days from now, found 2037"),
        (period(START - 4000 * DAY, START + DAY), r"periods\[0\].start_time: expected no more than 3653 days ago"),
        (period(START, START + HOUR, "", "Mars/Olympus"), r"periods\[0\].time_zone: expected a time zone such as"),
        (period(START, START + HOUR, "", "../etc/passwd"), r"periods\[0\].time_zone: expected a time zone such as"),
        (
            period(START, START + HOUR, "FREQ=SECONDLY"),
            r"repetition_rule: .* with FREQ as any of YEARLY, .*'FREQ=SECON",
        ),
        (period(START, START + HOUR, "FREQ=DAILY;INTERVAL=0"), "expected INTERVAL=1 to 1000000, found '0'"),
        (period(START, START + HOUR, "FREQ=DAILY;COUNT=2;UNTIL=20270101"), "expected COUNT or UNTIL, found both"),
        (period(START, START + HOUR, "FREQ=DAILY;BYEASTER=0"), "such as .*, found 'BYEASTER=0' in it"),
        (period(START, START + HOUR, "FREQ=DAILY;BYDAY=MO,XX"), "expected a rule of RFC 5545 such as"),
        (period(START, START + HOUR, "FREQ=DAILY;UNTIL=soon"), r"expected a rule of RFC 5545 such as .*UNTIL=SOON"),
        (period(START, START + HOUR, "daily"), "found 'DAILY' in it"),
        (
            period(START, START + HOUR, "FREQ=WEEKLY;BYDAY=SU"),
            "expected a rule whose first start is that of the period",
        ),
        (
            period(START, START + HOUR, "FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=30"),
            "first start is that of the period, found BYMONTH=2",
        ),
        (
            period(START, START + 2 * HOUR, "FREQ=HOURLY;COUNT=2"),
            "expected periods that do not overlap, found one from",
        ),
        (period(START, START + HOUR, "FREQ=YEARLY;COUNT=12"), "expected all repetitions within 3653 days, found 11 of"),
        (period(START, START + HOUR, "FREQ=DAILY;COUNT=1001"), "expected at most 1000 repetitions to come, found more"),
        (period(START - DAY, START), "expected a period that is not over, found the last stop 2026-06-01T08:00:00Z"),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_period_is_said_by_its_path(asked: BookingPeriod, expected: str) -> None:
    with pytest.raises(InvalidArgument, match=expected):
        windows([asked], START, None)


def test_a_start_that_repeats_is_at_a_whole_second() -> None:
    with pytest.raises(InvalidArgument, match=r"periods\[0\].start_time: expected a whole second"):
        windows([period(START + timedelta(microseconds=1), START + HOUR, "FREQ=DAILY;COUNT=2")], START, None)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), min_size=1, max_size=6))
def test_windows_are_in_order_apart_and_cover_what_the_periods_do(spans: list[tuple[int, int]]) -> None:
    periods = [period(START + start * MINUTE, START + (start + length) * MINUTE) for start, length in spans]
    minutes = [minute for start, length in spans for minute in range(start, start + length)]
    if len(set(minutes)) < len(minutes):
        with pytest.raises(InvalidArgument, match="expected periods that do not overlap"):
            windows(periods, START, None)
        return
    found = windows(periods, START, None)
    assert all(earlier.stop < later.start for earlier, later in pairwise(found))
    covered = [
        minute for each in found for minute in range((each.start - START) // MINUTE, (each.stop - START) // MINUTE)
    ]
    assert covered == sorted(minutes)
