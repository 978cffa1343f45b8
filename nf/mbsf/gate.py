"""So many at a time, let in by the handful: what begins together is answered, and written, together."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Final

# Nobody waits longer than this for a place that is free.
_LONGEST_WAIT_S: Final = 0.02


class Gate:
    """At most ``places`` hold it; those who wait for it come in once half of the places are free, or soon after.

    A semaphore would let one in for each that leaves: a thousand calls would trickle through, each with a transaction
    of its own at either end.
    """

    def __init__(self, places: int) -> None:
        self._places = self._free = places
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        if self._free and not self._waiting:
            self._free -= 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                # It was given one while it was told to go.
                self._leave()
            raise

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        self._free += 1
        if not self._waiting:
            return
        if 2 * self._free >= self._places:
            self._let_in()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LONGEST_WAIT_S, self._let_in)

    def _let_in(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._free and self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                self._free -= 1
                place.set_result(None)
