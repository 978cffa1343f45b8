"""Watch: a function's events as a stream that resumes after a sequence number, without gap or repeat."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

from nf.common import call
from nf.common.store import Reader, Store
from nf.common.v1.events_pb2 import Event, WatchEventsRequest, WatchEventsResponse

_BATCH = 500


def concerns(event: Event, subject: str) -> bool:
    """Whether the event is about ``subject`` or what stands below it; an empty subject is everything."""
    return not subject or event.subject == subject or event.subject.startswith(subject + "/")


def _events_after(position: int, reader: Reader) -> list[Event]:
    return reader.events(position, _BATCH)


class Watch:
    """The event log of a store, as streams."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def follow(
        self,
        after_sequence: int,
        subject: str = "",
        no_follow: bool = False,
        *,
        until: asyncio.Event | None = None,
    ) -> AsyncIterator[Event]:
        """The events after ``after_sequence`` in sequence, as they are committed.

        Ends when ``until`` is set; with ``no_follow``, after what is committed. Raises Unavailable when the store is
        closed.
        """
        position = after_sequence
        while until is None or not until.is_set():
            batch = await self._store.read(partial(_events_after, position))
            for event in batch:
                position = event.sequence
                if concerns(event, subject):
                    yield event
            if len(batch) == _BATCH:
                continue
            if no_follow:
                return
            await self._more(position, until)

    async def _more(self, position: int, until: asyncio.Event | None) -> None:
        if until is None:
            await self._store.wait_sequence(position)
            return
        waits = [asyncio.ensure_future(self._store.wait_sequence(position)), asyncio.ensure_future(until.wait())]
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if waits[0] in done:
            waits[0].result()


async def serve_watch(store: Store, request: WatchEventsRequest) -> AsyncIterator[WatchEventsResponse]:
    """What a service's WatchEvents answers; ends, with status OK, when the server begins to stop."""
    events = Watch(store).follow(request.after_sequence, request.subject, request.no_follow, until=call.stopping())
    async for event in events:
        yield WatchEventsResponse(event=event)
