"""Repetition rules by their parts: what never matches is known without looking for it."""

from __future__ import annotations

from datetime import datetime

import pytest
from dateutil.rrule import rrulestr
from hypothesis import given
from hypothesis import strategies as st

from nf.common.repetition import check_first, parts_of

MONDAY = datetime(2026, 6, 1, 8, 30)


def numbers(least: int, most: int) -> st.SearchStrategy[str]:
    found = st.integers(least, most).filter(bool)
    return st.lists(found, min_size=1, max_size=4, unique=True).map(lambda each: ",".join(map(str, each)))


PARTS = st.fixed_dictionaries(
    {"FREQ": st.sampled_from(["MONTHLY", "WEEKLY", "DAILY"])},
    optional={
        "BYMONTH": numbers(1, 12),
        "BYMONTHDAY": numbers(-28, 28),
        "BYDAY": st.lists(st.sampled_from(["MO", "TU", "SU"]), min_size=1, unique=True).map(",".join),
        "BYHOUR": numbers(0, 23),
        "BYMINUTE": numbers(0, 59),
        "INTERVAL": st.integers(1, 3).map(str),
    },
)


@given(PARTS, st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)).map(lambda each: each.replace(microsecond=0)))
def test_what_is_refused_does_not_have_that_start(parts: dict[str, str], first: datetime) -> None:
    try:
        check_first(parts_of(";".join(f"{name}={value}" for name, value in parts.items())), first)
    except ValueError:
        # From well before, at every time of day, and without leaving any out: all starts that it could have.
        every = {
            "FREQ": "DAILY",
            "BYHOUR": f"{first.hour}",
            "BYMINUTE": f"{first.minute}",
            "BYSECOND": f"{first.second}",
        }
        every |= {name: value for name, value in parts.items() if name not in ("FREQ", "INTERVAL")}
        rule = rrulestr(";".join(f"{name}={value}" for name, value in every.items()), dtstart=datetime(2025, 1, 1))
        assert first not in rule.between(first, first, inc=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "expected a rule of RFC 5545 such as .*, found '' in it"),
        ("FREQ=MINUTELY", "with FREQ as any of YEARLY, MONTHLY, WEEKLY, DAILY, HOURLY, found 'FREQ=MINUTELY'"),
        ("FREQ=DAILY;FREQ=DAILY", "found 'FREQ=DAILY' in it"),
        ("FREQ=DAILY;DTSTART=20260101T000000", "found 'DTSTART=20260101T000000' in it"),
        ("FREQ=DAILY\nRRULE:FREQ=DAILY", "expected a rule of RFC 5545"),
        ("FREQ=DAILY;COUNT=2;UNTIL=20270101", "expected COUNT or UNTIL, found both"),
        ("FREQ=DAILY;COUNT=-1", "expected COUNT=1 to 1000000, found '-1'"),
        ("FREQ=DAILY;INTERVAL=0", "expected INTERVAL=1 to 1000000, found '0'"),
        ("FREQ=HOURLY;BYSETPOS=2", "expected BYSETPOS with FREQ=YEARLY or MONTHLY only"),
        ("FREQ=MONTHLY;BYWEEKNO=2", "expected BYWEEKNO with FREQ=YEARLY only"),
    ],
)
def test_what_is_no_rule_is_told(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        parts_of(text)


@pytest.mark.parametrize(
    "text",
    [
        "FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=DAILY;BYDAY=TU",
        "FREQ=YEARLY;BYYEARDAY=153",
        "FREQ=DAILY;BYHOUR=9",
        "FREQ=HOURLY;BYMINUTE=0",
        "FREQ=HOURLY;BYSECOND=1",
    ],
)
def test_a_rule_without_that_start_is_refused_by_the_part_that_does_not_have_it(text: str) -> None:
    with pytest.raises(ValueError, match="expected a rule whose first start is that of the period, found BY"):
        check_first(parts_of(text), MONDAY)


@pytest.mark.parametrize(
    "text",
    [
        "FREQ=DAILY",
        "freq=weekly;byday=mo,fr",
        "FREQ=MONTHLY;BYDAY=1MO",
        "FREQ=DAILY;BYMONTHDAY=-30",
        "FREQ=YEARLY;BYYEARDAY=152,-1;BYMONTH=6;BYHOUR=8;BYMINUTE=30;BYSECOND=0",
        "FREQ=MONTHLY;BYDAY=MO,TU;BYSETPOS=1",
    ],
)
def test_a_rule_with_that_start_passes(text: str) -> None:
    check_first(parts_of(text), MONDAY)
    assert next(iter(rrulestr(text.upper(), dtstart=MONDAY))) == MONDAY


def test_a_number_that_is_none_is_told() -> None:
    with pytest.raises(ValueError, match="found BYMONTHDAY='X' in it"):
        check_first(parts_of("FREQ=DAILY;BYMONTHDAY=x"), MONDAY)
