"""Repetition rules (RRULE of RFC 5545 §3.3.10): their parts, and whether a rule has its first start. Pure.

Who works with a rule finds its next start by trying: one that never matches would be looked for until the end of time.
What passes here has a first start, but for rules by week number or by position, which are soon looked through.
"""

from __future__ import annotations

from calendar import isleap, monthrange
from collections.abc import Mapping
from datetime import datetime
from typing import Final

EXPECTED: Final = 'expected a rule of RFC 5545 such as "FREQ=WEEKLY;BYDAY=SA,SU;COUNT=8"'
MOST: Final = 1_000_000

_FREQUENCIES: Final = ("YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY")
_LISTS: Final = (
    "BYMONTH",
    "BYWEEKNO",
    "BYYEARDAY",
    "BYMONTHDAY",
    "BYDAY",
    "BYHOUR",
    "BYMINUTE",
    "BYSECOND",
    "BYSETPOS",
)
_NAMES: Final = ("FREQ", "COUNT", "UNTIL", "INTERVAL", "WKST", *_LISTS)
# Elsewhere they mean nothing, or nothing that is ever found.
_ONLY_WITH: Final = {"BYWEEKNO": ("YEARLY",), "BYSETPOS": ("YEARLY", "MONTHLY")}
_WEEKDAYS: Final = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")


def parts_of(text: str) -> dict[str, str]:
    """The parts of a rule by their names, in capitals. Raises ValueError that says what was expected and what found."""
    parts: dict[str, str] = {}
    for part in text.upper().split(";"):
        name, equals, value = part.partition("=")
        if not equals or name in parts or name not in _NAMES:
            raise ValueError(f"{EXPECTED}, found {part[:64]!r} in it")
        parts[name] = value
    frequency = parts.get("FREQ")
    if frequency not in _FREQUENCIES:
        raise ValueError(f"{EXPECTED}, with FREQ as any of {', '.join(_FREQUENCIES)}, found {text[:64]!r}")
    if "COUNT" in parts and "UNTIL" in parts:
        raise ValueError("expected COUNT or UNTIL, found both")
    for name in ("COUNT", "INTERVAL"):
        number = parts.get(name, "1")
        if not (number.isascii() and number.isdigit() and 1 <= int(number[:9]) <= MOST):
            raise ValueError(f"expected {name}=1 to {MOST}, found {number[:64]!r}")
    for name, frequencies in _ONLY_WITH.items():
        if name in parts and frequency not in frequencies:
            raise ValueError(f"expected {name} with FREQ={' or '.join(frequencies)} only")
    return parts


def check_first(parts: Mapping[str, str], first: datetime) -> None:
    """Raises ValueError for a rule that does not have this start, on its wall clock, as each part for itself tells."""
    month_days = monthrange(first.year, first.month)[1]
    year_day, year_days = first.timetuple().tm_yday, 366 if isleap(first.year) else 365
    has: Mapping[str, tuple[int, ...]] = {
        "BYMONTH": (first.month,),
        "BYMONTHDAY": (first.day, first.day - month_days - 1),
        "BYYEARDAY": (year_day, year_day - year_days - 1),
        "BYHOUR": (first.hour,),
        "BYMINUTE": (first.minute,),
        "BYSECOND": (first.second,),
    }
    for name, value in parts.items():
        listed = value.split(",")
        if name == "BYDAY":
            matches = any(each[-2:] == _WEEKDAYS[first.weekday()] for each in listed)
        elif name in has:
            try:
                matches = bool({int(each) for each in listed} & set(has[name]))
            except ValueError:
                raise ValueError(f"{EXPECTED}, found {name}={value[:64]!r} in it") from None
        else:
            continue
        if not matches:
            raise ValueError(f"expected a rule whose first start is that of the period, found {name}={value[:64]}")
