"""When a booking is on: its periods with their repetitions, as windows of time (5G-MAG workflow B.1, schedule). Pure.

A rule repeats the wall-clock time of the period's start in its time zone; every repetition lasts as long as the first.
One without an end goes as far as the agreement looks ahead, and no further than MAX_WINDOWS repetitions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from google.protobuf.timestamp_pb2 import Timestamp

from nf.common import repetition
from nf.common.errors import FieldViolation, InvalidArgument
from nf.netapi.errors import AgreementLimitExceeded
from nf.netapi.v1.booking_pb2 import BookingPeriod

if TYPE_CHECKING:
    from dateutil.rrule import rrule

MAX_PERIODS: Final = 100
MAX_WINDOWS: Final = 1000
# Ahead of now, and back to the start of a period that still goes on.
FARTHEST: Final = timedelta(days=3653)
# So many repetitions of a rule are looked at, those that are over included.
_LOOKED_AT: Final = 100_000

_UNTIL: Final = re.compile(r"(\d{8})(?:T(\d{6})(Z?))?")


@dataclass(frozen=True, slots=True)
class Window:
    """From ``start`` until before ``stop``."""

    start: datetime
    stop: datetime


@dataclass(frozen=True, slots=True)
class _Rule:
    """A repetition rule: how its starts follow each other on the wall clock, and where they end."""

    starts: rrule
    count: int | None
    until: datetime | None


def windows(
    periods: Sequence[BookingPeriod], now: datetime, latest: datetime | None, field: str = "periods"
) -> list[Window]:
    """The windows that are not over at ``now``, in order; what follows without a gap is one window.

    ``latest``: when the last of them has to have stopped; a rule without an end ends there. Raises InvalidArgument,
    with paths below ``field``, for what is wrong with a period, for periods that overlap, are over or are too many,
    and AgreementLimitExceeded for what ends after ``latest``.
    """
    if not 1 <= len(periods) <= MAX_PERIODS:
        raise InvalidArgument.of(field, f"expected 1 to {MAX_PERIODS} periods, found {len(periods)}")
    found: list[tuple[Window, str]] = []
    violations: list[FieldViolation] = []
    beyond: list[FieldViolation] = []
    for index, period in enumerate(periods):
        path = f"{field}[{index}]"
        try:
            for window, is_open in _occurrences(period, now, path):
                if latest is not None and window.stop > latest:
                    if not is_open or window.start == _moment(period.start_time):
                        beyond.append(_too_late(period, path, latest))
                    break
                if window.stop <= now:
                    continue
                if len(found) == MAX_WINDOWS and is_open:
                    break
                if len(found) == MAX_WINDOWS:
                    raise InvalidArgument.of(path, f"expected at most {MAX_WINDOWS} repetitions to come, found more")
                found.append((window, path))
        except InvalidArgument as error:
            violations += error.violations
    if violations:
        raise InvalidArgument(_told(violations), violations=violations)
    if beyond:
        raise AgreementLimitExceeded(_told(beyond), violations=beyond)
    if not found:
        last = max(_moment(each.stop_time) for each in periods)
        raise InvalidArgument.of(field, f"expected a period that is not over, found the last stop {_text(last)}")
    return _joined(found)


def _joined(found: list[tuple[Window, str]]) -> list[Window]:
    found.sort(key=lambda each: (each[0].start, each[0].stop))
    for (earlier, _), (later, path) in pairwise(found):
        if later.start < earlier.stop:
            why = f"expected periods that do not overlap, found one from {_text(later.start)} to {_text(later.stop)}"
            raise InvalidArgument.of(path, f"{why} beside one from {_text(earlier.start)} to {_text(earlier.stop)}")
    joined: list[Window] = []
    for window, _ in found:
        if joined and joined[-1].stop == window.start:
            joined[-1] = Window(joined[-1].start, window.stop)
        else:
            joined.append(window)
    return joined


def _occurrences(period: BookingPeriod, now: datetime, path: str) -> Iterator[tuple[Window, bool]]:
    """The windows of a period in order, each with whether the rule has no end."""
    first = _first(period, now, path)
    zone = _zone(period.time_zone, path)
    if not period.repetition_rule:
        yield first, False
        return
    field = f"{path}.repetition_rule"
    if first.start.microsecond:
        raise InvalidArgument.of(f"{path}.start_time", "expected a whole second, since the period repeats")
    length, local = first.stop - first.start, first.start.astimezone(zone).replace(tzinfo=None)
    farthest = (now + FARTHEST).astimezone(zone).replace(tzinfo=None)
    rule = _parsed(period.repetition_rule, local, farthest, zone, field)
    is_open = rule.count is None and rule.until is None
    number = 0
    for start in rule.starts:
        if number == 0 and start != local:
            raise InvalidArgument.of(field, f"expected a rule whose first start is that of the period, found {start}")
        if (rule.count is not None and number == rule.count) or (rule.until is not None and start > rule.until):
            return
        if number == _LOOKED_AT:
            raise InvalidArgument.of(field, f"expected a rule of at most {_LOOKED_AT} repetitions, found more")
        number += 1
        begin = start.replace(tzinfo=zone).astimezone(UTC)
        yield Window(begin, begin + length), is_open
    if number == 0:
        raise InvalidArgument.of(field, "expected a rule whose first start is that of the period, found none")
    if rule.count is not None and number < rule.count:
        raise InvalidArgument.of(field, f"expected all repetitions within {FARTHEST.days} days, found {number} of them")


def _first(period: BookingPeriod, now: datetime, path: str) -> Window:
    missing = [
        FieldViolation(f"{path}.{name}", "expected a time, found none")
        for name in ("start_time", "stop_time")
        if not period.HasField(name)
    ]
    if missing:
        raise InvalidArgument(_told(missing), violations=missing)
    try:
        start, stop = _moment(period.start_time), _moment(period.stop_time)
    except (ValueError, OverflowError):
        raise InvalidArgument.of(path, "expected times in the years 1 to 9999") from None
    if stop <= start:
        why = f"expected a time after the start {_text(start)}, found {_text(stop)}"
        raise InvalidArgument.of(f"{path}.stop_time", why)
    if stop > now + FARTHEST:
        why = f"expected at most {FARTHEST.days} days from now, found {_text(stop)}"
        raise InvalidArgument.of(f"{path}.stop_time", why)
    if start < now - FARTHEST:
        why = f"expected no more than {FARTHEST.days} days ago, found {_text(start)}"
        raise InvalidArgument.of(f"{path}.start_time", why)
    return Window(start, stop)


def _zone(name: str, path: str) -> tzinfo:
    if not name:
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise InvalidArgument.of(
            f"{path}.time_zone", f'expected a time zone such as "Europe/Vienna", found {name[:64]!r}'
        ) from None


def _parsed(text: str, first: datetime, farthest: datetime, zone: tzinfo, field: str) -> _Rule:
    """The rule from its ``first`` start on; its starts end at ``farthest`` in any case: some match never again."""
    # Loaded when there is a rule.
    from dateutil.rrule import rrule, rrulestr

    try:
        parts = repetition.parts_of(text)
        repetition.check_first(parts, first)
    except ValueError as error:
        raise InvalidArgument.of(field, str(error)) from None
    count, until = parts.pop("COUNT", None), parts.pop("UNTIL", None)
    try:
        made = rrulestr(";".join(f"{name}={value}" for name, value in parts.items()), dtstart=first, cache=False)
        if not isinstance(made, rrule):
            raise ValueError("expected one rule")
        starts = made.replace(until=farthest)
        last = None if until is None else _until(until, zone)
    except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise InvalidArgument.of(field, f"{repetition.EXPECTED}, found {text[:64]!r} ({error})") from None
    return _Rule(starts, None if count is None else int(count), last)


def _until(text: str, zone: tzinfo) -> datetime:
    """The last moment, on the wall clock of ``zone``. Raises ValueError."""
    match = _UNTIL.fullmatch(text)
    if match is None:
        raise ValueError(f"UNTIL={text[:32]}")
    date, time, utc = match.groups()
    if time is None:
        # All of that day.
        return datetime.strptime(f"{date}235959", "%Y%m%d%H%M%S")
    moment = datetime.strptime(date + time, "%Y%m%d%H%M%S")
    return moment.replace(tzinfo=UTC).astimezone(zone).replace(tzinfo=None) if utc else moment


def _too_late(period: BookingPeriod, path: str, latest: datetime) -> FieldViolation:
    name = "repetition_rule" if period.repetition_rule else "stop_time"
    return FieldViolation(f"{path}.{name}", f"expected an end at {_text(latest)} at the latest, found a later one")


def _moment(moment: Timestamp) -> datetime:
    return moment.ToDatetime(UTC)


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _told(violations: Sequence[FieldViolation]) -> str:
    return "; ".join(f"{each.field}: {each.description}" for each in violations)
