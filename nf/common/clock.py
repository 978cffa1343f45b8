"""Time as a dependency: the system's clock, and one that tests move by hand."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_ns(moment: datetime) -> int:
    """Nanoseconds since 1970 UTC of an aware datetime, exactly. Raises ValueError for a naive one."""
    if moment.tzinfo is None:
        raise ValueError(f"expected an aware datetime, got {moment!r}")
    since = moment - _EPOCH
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1000


def from_ns(moment_ns: int) -> datetime:
    """The aware UTC datetime of nanoseconds since 1970 UTC, microseconds rounded down."""
    return _EPOCH + timedelta(microseconds=moment_ns // 1000)


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> datetime:
        """The time, aware, UTC."""
        ...

    def now_ns(self) -> int:
        """The time in nanoseconds since 1970 UTC."""
        ...

    async def sleep_until(self, moment: datetime) -> None:
        """Returns when ``moment`` (aware) has come; at once if it has passed."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The time, aware, UTC."""
        return datetime.now(UTC)

    def now_ns(self) -> int:
        """The time in nanoseconds since 1970 UTC."""
        return time.time_ns()

    async def sleep_until(self, moment: datetime) -> None:
        """Returns when ``moment`` has come, also if the machine's clock is set meanwhile (looks once a minute)."""
        while (left_s := (moment - self.now()).total_seconds()) > 0:  # noqa: ASYNC110 (time passing is what it waits for)
            await asyncio.sleep(min(left_s, 60.0))


class ManualClock:
    """A clock that stands still until ``advance``; days pass in microseconds."""

    def __init__(self, start: datetime) -> None:
        to_ns(start)
        self._now = start.astimezone(UTC)
        self._order = itertools.count()
        self._sleepers: list[tuple[datetime, int, asyncio.Future[None]]] = []
        self._observers: list[asyncio.Future[None]] = []

    def now(self) -> datetime:
        """The time, aware, UTC."""
        return self._now

    def now_ns(self) -> int:
        """The time in nanoseconds since 1970 UTC."""
        return to_ns(self._now)

    async def sleep_until(self, moment: datetime) -> None:
        """Returns when ``advance`` has reached ``moment``."""
        if moment <= self._now:
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (moment, next(self._order), woken))
        _release(self._observers)
        await woken

    async def until_asleep(self) -> None:
        """Returns when somebody sleeps on this clock: whoever tests moves it then."""
        while all(woken.done() for _, _, woken in self._sleepers):
            noticed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._observers.append(noticed)
            await noticed

    def advance(self, by: timedelta) -> None:
        """Moves the time on and wakes, in the order of their moments, who slept until then."""
        self._now += by
        while self._sleepers and self._sleepers[0][0] <= self._now:
            _, _, woken = heapq.heappop(self._sleepers)
            _release([woken])


def _release(waiting: list[asyncio.Future[None]]) -> None:
    for each in waiting:
        if not each.done():
            each.set_result(None)
    waiting.clear()
