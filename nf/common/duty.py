"""Which of several processes on a database does what only one may do: a lease, taken over when its holder dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from nf.common.background import Background
from nf.common.clock import Clock, from_ns, to_ns
from nf.common.errors import CastcoreError
from nf.common.resources import new_id
from nf.common.telemetry import logger

if TYPE_CHECKING:
    from nf.common.store import Store

TERM: Final = timedelta(seconds=5)
_NAME: Final = "background work"


class Duty:
    """The duty to do the background work of a database.

    Its holder renews the lease four times a term; another process that finds it expired takes it. Clocks that differ by
    more than a term let two have it at a time, which must harm nothing.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._holder = new_id()
        self._until_ns = 0
        self._waiters: set[asyncio.Future[None]] = set()
        self._background = Background("duty")

    @property
    def is_on(self) -> bool:
        """Whether this process has the duty now."""
        return self._clock.now_ns() < self._until_ns

    async def wait(self) -> None:
        """Returns when this process has the duty. Raises Unavailable when the store is closed."""
        self._background.begin(self._run)
        while not self.is_on:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)

    async def end(self) -> None:
        """Gives the duty back, for another process to take at once."""
        await self._background.end()
        if self._until_ns:
            self._until_ns = 0
            await self._store.write(lambda tx: tx.give_back(_NAME, self._holder))

    def fail(self, error: Callable[[], CastcoreError]) -> None:
        """Tells those who wait that there is nothing to wait for."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(error())
        self._waiters.clear()

    async def _run(self) -> None:
        log = logger("duty")
        while True:
            try:
                was_on = self.is_on
                await self._renew()
                if self.is_on and not was_on:
                    log.info("duty.taken", store=self._store.name)
            except CastcoreError as error:
                log.warning("duty.not_renewed", store=self._store.name, error=str(error))
            if self.is_on:
                for waiter in self._waiters:
                    if not waiter.done():
                        waiter.set_result(None)
            await self._clock.sleep_until(self._clock.now() + TERM / 4)

    async def _renew(self) -> None:
        holder, expires_ns = await self._store.read(lambda reader: reader.lease(_NAME))
        now_ns = self._clock.now_ns()
        if holder not in ("", self._holder) and expires_ns > now_ns:
            self._until_ns = 0
            return
        until_ns = to_ns(from_ns(now_ns) + TERM)
        if await self._store.write(lambda tx: tx.claim(_NAME, self._holder, now_ns, until_ns)):
            self._until_ns = until_ns
        else:
            self._until_ns = 0
