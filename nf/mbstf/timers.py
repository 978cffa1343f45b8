"""Calls at moments of a clock: one task for as many as there are, however many sessions wait for something."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from datetime import datetime

from nf.common.background import Background
from nf.common.clock import Clock
from nf.common.telemetry import logger

_log = logger("mbstf")


class Timer:
    """A call that is to come; ``cancel`` it."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """It does not come; harmless when it has come."""
        self._call = None

    @property
    def is_cancelled(self) -> bool:
        """Whether it does not come, or has come."""
        return self._call is None

    def fire(self) -> None:
        """Makes the call, once."""
        call, self._call = self._call, None
        if call is not None:
            call()


class Timers:
    """``at(moment, call)`` between ``start`` and ``stop``."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._order = itertools.count()
        self._heap: list[tuple[datetime, int, Timer]] = []
        self._earlier = asyncio.Event()
        self._background = Background("mbstf timers")

    def start(self) -> None:
        """Begins to make calls."""
        self._background.begin(self._run)

    async def stop(self) -> None:
        """Makes no call any more."""
        await self._background.end()

    def at(self, moment: datetime, call: Callable[[], None]) -> Timer:
        """Makes the call when ``moment`` has come, soon if it has passed."""
        timer = Timer(call)
        if not self._heap or moment < self._heap[0][0]:
            self._earlier.set()
        heapq.heappush(self._heap, (moment, next(self._order), timer))
        return timer

    async def sleep_until(self, moment: datetime) -> None:
        """Returns when ``moment`` has come."""
        if moment <= self.clock.now():
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not woken.done():
                woken.set_result(None)

        timer = self.at(moment, wake)
        try:
            await woken
        finally:
            timer.cancel()

    async def _run(self) -> None:
        while True:
            self._fire_due()
            self._earlier.clear()
            waits: list[asyncio.Task[object]] = [asyncio.create_task(self._earlier.wait())]
            if self._heap:
                waits.append(asyncio.create_task(self.clock.sleep_until(self._heap[0][0])))
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in waits:
                    each.cancel()

    def _fire_due(self) -> None:
        now = self.clock.now()
        while self._heap and (self._heap[0][2].is_cancelled or self._heap[0][0] <= now):
            _, _, timer = heapq.heappop(self._heap)
            try:
                timer.fire()
            except Exception:
                _log.exception("timer.failed")
