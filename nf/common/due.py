"""Driving life cycles by persisted due times: what was due while the function was down is done when it starts.

Of several processes on one database the one on duty does it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Generic, TypeVar

from google.protobuf.message import Message

from nf.common.background import Background
from nf.common.errors import CastcoreError
from nf.common.store import Due, DueNews, Reader, Store
from nf.common.telemetry import logger

M = TypeVar("M", bound=Message)

RETRY: Final = timedelta(seconds=5)
_BATCH: Final = 100


class DueDriver(Generic[M]):
    """Hands every resource of a type to ``handle(name, message)`` when its due time has come.

    ``handle`` moves the due time on or clears it (``update(..., due=…)``), in the write that does the work. One that
    raises, or leaves the due time as it was, is tried again after ``retry``; the others do not wait for it.
    """

    def __init__(
        self,
        store: Store,
        message_type: type[M],
        handle: Callable[[str, M], Awaitable[None]],
        *,
        retry: timedelta = RETRY,
    ) -> None:
        self._store = store
        self._type = message_type
        self._handle = handle
        self._retry = retry
        self._log = logger("due")
        self._background = Background(f"due {message_type.DESCRIPTOR.name}")
        # By name: the due time that was tried in vain, and when to try it again.
        self._held: dict[str, tuple[datetime, datetime]] = {}

    async def start(self) -> None:
        """Begins, with what is due already."""
        self._background.begin(self._run)

    async def stop(self) -> None:
        """Ends; what was not finished is due at the next start."""
        await self._background.end()

    async def _run(self) -> None:
        while True:
            await self._store.on_duty()
            generation = self._store.due_generation
            now = self._store.clock.now()
            # What is held is read as well: it may have been given another due time, or have gone.
            limit = _BATCH + len(self._held)
            due, upcoming = await self._store.read(partial(self._look, now, limit))
            self._held = {each.name: self._held[each.name] for each in due if self._is_held(each)}
            ready = [each for each in due if not self._is_held(each) or self._held[each.name][1] <= now]
            if ready:
                await asyncio.gather(*(self._attempt(each) for each in ready))
            else:
                moments = [again for _, again in self._held.values()] + ([upcoming] if upcoming is not None else [])
                await self._pause(min(moments, default=None), generation)

    def _look(self, now: datetime, limit: int, reader: Reader) -> tuple[list[Due[M]], datetime | None]:
        return reader.due(self._type, now, limit), reader.next_due(self._type, now)

    def _is_held(self, due: Due[M]) -> bool:
        held = self._held.get(due.name)
        return held is not None and held[0] == due.due

    async def _attempt(self, due: Due[M]) -> None:
        self._held[due.name] = (due.due, self._store.clock.now() + self._retry)
        try:
            await self._handle(due.name, due.message)
        except CastcoreError as error:
            self._log.warning("due.postponed", kind=self._type.DESCRIPTOR.name, name=due.name, error=str(error))
        except Exception:
            self._log.exception("due.failed", kind=self._type.DESCRIPTOR.name, name=due.name)

    async def _pause(self, until: datetime | None, generation: int) -> None:
        """Returns when ``until`` has come or an earlier due time may have been set, and has come if it is known."""
        while True:
            waits: list[asyncio.Future[DueNews | None]] = [
                asyncio.ensure_future(self._store.wait_due(generation, until))
            ]
            if until is not None:
                waits.append(asyncio.ensure_future(self._store.clock.sleep_until(until)))
            try:
                done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
            news = [wait.result() for wait in done]
            if len(news) > 1 or news[0] is None or news[0].earliest is None:
                return
            # Nothing has to be read before that: it may be moved on before it comes.
            generation, until = news[0]
