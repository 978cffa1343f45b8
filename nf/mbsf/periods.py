"""When a user data ingest session is on: its active periods with their repetitions (TS 29.580 actPeriods). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from google.protobuf.timestamp_pb2 import Timestamp

from nf.common import repetition
from nf.common.errors import FieldViolation
from nf.mbsf.v1.user_data_ingest_pb2 import ActivePeriod

if TYPE_CHECKING:
    from dateutil.rrule import rrule

FIELD: Final = "mbs_user_data_ing_session.act_periods"
MAX_PERIODS: Final = 100
FAR: Final = datetime(9999, 12, 31, tzinfo=UTC)
# So many repetitions of a rule are looked at to see that one ends before the next begins.
_LOOKED_AT: Final = 500


@dataclass(frozen=True, slots=True)
class Window:
    """From ``start`` until before ``stop``; a stop of FAR stands for none."""

    start: datetime
    stop: datetime


@dataclass(frozen=True, slots=True)
class _Repeating:
    first: Window
    rule: rrule | None

    def after(self, now: datetime) -> Window | None:
        """The first window that has not stopped at ``now``."""
        length = self.first.stop - self.first.start
        if self.rule is None:
            return self.first if self.first.stop > now else None
        try:
            start = self.rule.after(_naive(now - length))
        except (OverflowError, ValueError):
            start = None
        return None if start is None else _window(start.replace(tzinfo=UTC), length)


class Periods:
    """The windows of an ingest session, of which there may be endlessly many."""

    def __init__(self, periods: Sequence[ActivePeriod], created: datetime) -> None:
        """Without a period there is one window, from ``created`` on for ever. ``check`` must have found nothing."""
        self._repeating = [_repeating(each) for each in periods]
        if not periods:
            self._repeating = [_Repeating(Window(created, FAR), None)]

    def next(self, now: datetime, *, not_before: datetime | None = None) -> Window | None:
        """The window that ``now`` is in, the one that lasts longest if there are several, or else the next one.

        ``not_before`` leaves out windows that have started earlier. None: there is none any more.
        """
        found = [each for each in self._after(now, not_before) if each is not None]
        on = [each for each in found if each.start <= now]
        if on:
            return max(on, key=lambda each: each.stop)
        return min(found, key=lambda each: each.start, default=None)

    def upcoming(self, now: datetime, limit: int) -> tuple[Window, ...]:
        """The window that ``now`` is in and those that follow, ``limit`` at most, in the order of their starts."""
        found: list[Window] = []
        for each in self._repeating:
            window, count = each.after(now), 0
            while window is not None and count < limit:
                found.append(window)
                window, count = each.after(window.stop), count + 1
        return tuple(sorted(found, key=lambda each: (each.start, each.stop))[:limit])

    def is_over(self, now: datetime) -> bool:
        """Whether there is no window any more."""
        return self.next(now) is None

    def _after(self, now: datetime, not_before: datetime | None) -> Iterable[Window | None]:
        for each in self._repeating:
            window = each.after(now)
            while window is not None and not_before is not None and window.start < not_before:
                window = each.after(window.stop)
            yield window


def check(periods: Sequence[ActivePeriod]) -> list[FieldViolation]:
    """What is wrong with periods that a provider asks for."""
    if len(periods) > MAX_PERIODS:
        return [FieldViolation(FIELD, f"expected at most {MAX_PERIODS} periods, found {len(periods)}")]
    return [violation for index, each in enumerate(periods) for violation in _check(each, f"{FIELD}[{index}]")]


def _check(period: ActivePeriod, path: str) -> list[FieldViolation]:
    missing = [
        FieldViolation(f"{path}.{name}", "expected a time, found none")
        for name in ("start_time", "stop_time")
        if not period.HasField(name)
    ]
    if missing:
        return missing
    try:
        start, stop = _moment(period.start_time), _moment(period.stop_time)
    except ValueError:
        return [FieldViolation(path, "expected times in the years 1 to 9999")]
    if stop <= start:
        found = f"found {period.stop_time.ToJsonString()}, the start is {period.start_time.ToJsonString()}"
        return [FieldViolation(f"{path}.stop_time", f"expected a time after the start, {found}")]
    if not period.repetition_rule:
        return []
    found_wrong = _check_rule(period.repetition_rule, Window(start, stop))
    return [FieldViolation(f"{path}.repetition_rule", found_wrong)] if found_wrong else []


def _check_rule(text: str, first: Window) -> str:
    if first.start.microsecond:
        return "expected a period that starts at a whole second, since it repeats"
    try:
        repetition.check_first(repetition.parts_of(text), _naive(first.start))
    except ValueError as error:
        return str(error)
    try:
        rule = _rule(text, first.start)
        starts: list[datetime] = []
        # Years without a single match are not looked through for ever: dateutil ends at the year 9999.
        for start in rule:
            starts.append(start)
            if len(starts) == _LOOKED_AT:
                break
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        return f"{repetition.EXPECTED}, found {text[:64]!r} ({error})"
    if not starts or starts[0] != _naive(first.start):
        return f"expected a rule whose first start is that of the period, found {text[:64]!r}"
    length = first.stop - first.start
    gap = min((later - earlier for earlier, later in pairwise(starts)), default=None)
    if gap is not None and gap <= length:
        return f"expected repetitions that begin after the one before has stopped: one lasts {length}, found {gap}"
    return ""


def _repeating(period: ActivePeriod) -> _Repeating:
    first = Window(_moment(period.start_time), _moment(period.stop_time))
    return _Repeating(first, _rule(period.repetition_rule, first.start) if period.repetition_rule else None)


def _rule(text: str, start: datetime) -> rrule:
    # Loaded when there is a rule.
    from dateutil.rrule import rrule, rrulestr

    # UTC throughout, and naive: a rule's UNTIL may be written with or without its Z.
    made = rrulestr(text.upper().replace("Z", ""), dtstart=_naive(start), cache=False)
    if not isinstance(made, rrule):
        raise ValueError("one rule")
    return made


def _window(start: datetime, length: timedelta) -> Window:
    try:
        return Window(start, start + length)
    except OverflowError:
        return Window(start, FAR)


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


def _moment(moment: Timestamp) -> datetime:
    return moment.ToDatetime(UTC)
