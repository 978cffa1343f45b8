"""Consuming another function's events: each takes effect exactly once, whatever is restarted.

The effects of an event and the advance of the cursor are one transaction of the consumer's store.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Final

from nf.common import call
from nf.common.errors import CastcoreError
from nf.common.store import Store, Transaction
from nf.common.telemetry import logger
from nf.common.v1.events_pb2 import Event

FIRST_BACKOFF_S: Final = 0.05
MAX_BACKOFF_S: Final = 5.0


class Subscriber:
    """Follows a stream of events from the persisted cursor ``name`` on, for ever, until ``stop``.

    ``open_stream(after)`` gives the peer's events after that sequence. ``prepare`` (optional) may call out before the
    write; it has to be harmless when repeated. ``handle`` runs in the transaction that advances the cursor. When the
    stream ends or anything fails, the stream is opened again after a pause that doubles up to five seconds.
    """

    def __init__(
        self,
        name: str,
        store: Store,
        open_stream: Callable[[int], AsyncIterator[Event]],
        handle: Callable[[Transaction, Event], None],
        *,
        prepare: Callable[[Event], Awaitable[None]] | None = None,
        first_backoff_s: float = FIRST_BACKOFF_S,
        max_backoff_s: float = MAX_BACKOFF_S,
    ) -> None:
        self.name = name
        self._store = store
        self._open_stream = open_stream
        self._handle = handle
        self._prepare = prepare
        self._first_backoff_s = first_backoff_s
        self._max_backoff_s = max_backoff_s
        self._log = logger(name)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to follow."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"subscriber {self.name}")

    async def stop(self) -> None:
        """Ends following; an event whose write has begun is finished by the store."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        # What has started the function is not what causes the events.
        call.adopt_deadline(None)
        call.set_correlation_id("")
        backoff_s = self._first_backoff_s
        while True:
            try:
                if await self._follow():
                    backoff_s = self._first_backoff_s
            except CastcoreError as error:
                self._log.debug("subscriber.interrupted", subscriber=self.name, code=error.code, error=str(error))
            except Exception:
                self._log.exception("subscriber.failed", subscriber=self.name)
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))
            backoff_s = min(2 * backoff_s, self._max_backoff_s)

    async def _follow(self) -> bool:
        """Handles events until the stream ends; whether any was handled."""
        position = await self._store.read(lambda reader: reader.cursor(self.name))
        handled = False
        stream = self._open_stream(position)
        try:
            async for event in stream:
                if event.sequence <= position:
                    continue
                call.set_correlation_id(event.correlation_id)
                if self._prepare is not None:
                    await self._prepare(event)
                await self._store.write(self._effects(event))
                position, handled = event.sequence, True
        finally:
            # A handler that failed must not leave the call to the peer open.
            if isinstance(stream, AsyncGenerator):
                await stream.aclose()
        return handled

    def _effects(self, event: Event) -> Callable[[Transaction], None]:
        def work(transaction: Transaction) -> None:
            # A write of a run before may have been committed after this one read the cursor.
            if transaction.cursor(self.name) < event.sequence:
                self._handle(transaction, event)
                transaction.set_cursor(self.name, event.sequence)

        return work
