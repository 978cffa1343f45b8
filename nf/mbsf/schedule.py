"""Names by the times at which they are due: what the store keeps, at hand."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from datetime import datetime

from nf.common.clock import Clock


class Schedule:
    """At most one time for each name; ``take`` waits for what is due."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._order = itertools.count()
        self._heap: list[tuple[datetime, int, str]] = []
        self._current: dict[str, int] = {}
        self._changed = asyncio.Event()

    def put(self, name: str, due: datetime | None) -> None:
        """The name is due then, and no longer when it was; None: not at all."""
        if due is None:
            self._current.pop(name, None)
            return
        order = next(self._order)
        self._current[name] = order
        heapq.heappush(self._heap, (due, order, name))
        if self._heap[0][1] == order:
            self._changed.set()

    @property
    def next_due(self) -> datetime | None:
        """When the next name is due; None: never."""
        return min((entry[0] for entry in self._heap if not self._is_old(entry)), default=None)

    async def take(self) -> list[str]:
        """What is due, as soon as anything is; it is not in the schedule any more."""
        while True:
            self._changed.clear()
            now = self._clock.now()
            ready: list[str] = []
            while self._heap and (self._heap[0][0] <= now or self._is_old(self._heap[0])):
                entry = heapq.heappop(self._heap)
                if not self._is_old(entry):
                    del self._current[entry[2]]
                    ready.append(entry[2])
            if ready:
                return ready
            await self._pause(self._heap[0][0] if self._heap else None)

    def _is_old(self, entry: tuple[datetime, int, str]) -> bool:
        return self._current.get(entry[2]) != entry[1]

    async def _pause(self, until: datetime | None) -> None:
        if until is None:
            await self._changed.wait()
            return
        waits = [asyncio.ensure_future(self._changed.wait()), asyncio.ensure_future(self._clock.sleep_until(until))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
