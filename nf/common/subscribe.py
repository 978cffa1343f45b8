"""Consuming another function's events: each takes effect exactly once, whatever is restarted.

The effects of an event and the advance of the cursor are one transaction of the consumer's store. Of several processes
on one database the one on duty follows.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Final

from nf.common import call
from nf.common.background import Background, follow_for_ever
from nf.common.errors import FailedPrecondition
from nf.common.events import EventsPruned
from nf.common.store import Store, Transaction
from nf.common.telemetry import logger
from nf.common.v1.events_pb2 import Event

FIRST_BACKOFF_S: Final = 0.05
MAX_BACKOFF_S: Final = 5.0


class Subscriber:
    """Follows a stream of events from the persisted cursor ``name`` on, for ever, until ``stop``.

    ``open_stream(after)`` gives the peer's events after that sequence. ``prepare`` (optional) may call out before the
    write; it has to be harmless when repeated. Where it returns False, the event has no effect: nothing is written, and
    after a restart it comes again. ``handle`` runs in the transaction that advances the cursor. When the stream ends or
    anything fails, the stream is opened again after a pause that doubles up to five seconds.
    """

    def __init__(
        self,
        name: str,
        store: Store,
        open_stream: Callable[[int], AsyncIterator[Event]],
        handle: Callable[[Transaction, Event], None],
        *,
        prepare: Callable[[Event], Awaitable[bool | None]] | None = None,
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
        self._background = Background(f"subscriber {name}")

    async def start(self) -> None:
        """Begins to follow."""
        self._background.begin(self._run)

    async def stop(self) -> None:
        """Ends following; an event whose write has begun is finished by the store."""
        await self._background.end()

    async def _run(self) -> None:
        await follow_for_ever(
            self._follow,
            self._log,
            "subscriber",
            first_backoff_s=self._first_backoff_s,
            max_backoff_s=self._max_backoff_s,
        )

    async def _follow(self) -> bool:
        """Handles events until the stream ends; whether any was handled."""
        try:
            return await self._follow_from_cursor()
        except FailedPrecondition as error:
            if error.reason != EventsPruned.reason:
                raise
            # This function was away for longer than its peer keeps events.
            first = int(error.metadata["first_sequence"])
            self._log.error("subscriber.events_lost", first_sequence=first, error=str(error))
            await self._store.write(lambda transaction: self._skip_to(transaction, first - 1))
            return True

    def _skip_to(self, transaction: Transaction, position: int) -> None:
        if transaction.cursor(self.name) < position:
            transaction.set_cursor(self.name, position)

    async def _follow_from_cursor(self) -> bool:
        await self._store.on_duty()
        position = await self._store.read(lambda reader: reader.cursor(self.name))
        handled = False
        stream = self._open_stream(position)
        try:
            async for event in stream:
                if event.sequence <= position:
                    continue
                if not self._store.is_on_duty:
                    # Another process follows from here.
                    break
                call.set_correlation_id(event.correlation_id)
                effective = True if self._prepare is None else await self._prepare(event)
                if effective is not False:
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
