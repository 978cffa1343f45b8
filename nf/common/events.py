"""Watch: a function's events as a stream that resumes after a sequence number, without gap or repeat."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TypeAlias

from nf.common import call
from nf.common.errors import FailedPrecondition, FieldViolation
from nf.common.store import Reader, Store
from nf.common.v1.events_pb2 import Event, WatchEventsRequest, WatchEventsResponse

_BATCH = 500
# How long events wait for those that follow them: who has committed one is about to answer its caller, which is first,
# and often to commit the next.
_GATHER_S = 0.003

# Which events a subscriber may be told.
Visible: TypeAlias = Callable[[Event], bool]


def everything(_: Event) -> bool:
    """For those who may be told every event."""
    return True


class EventsPruned(FailedPrecondition):
    """The events that were asked for are not kept any more; the metadata says from which sequence on there are some."""

    reason = "EVENTS_PRUNED"


def concerns(event: Event, subject: str) -> bool:
    """Whether the event is about ``subject`` or what stands below it; an empty subject is everything."""
    return not subject or event.subject == subject or event.subject.startswith(subject + "/")


def check_kept(reader: Reader, after: int) -> None:
    """Raises EventsPruned when events after that sequence have been removed; 0 asks for what there is."""
    first = reader.first_sequence()
    if 0 < after < first - 1:
        raise EventsPruned(
            f"after_sequence: expected 0 or at least {first - 1}, found {after}: older events are not kept any more",
            violations=(FieldViolation("after_sequence", f"expected 0 or at least {first - 1}, found {after}"),),
            metadata={"first_sequence": str(first)},
        )


def _events_after(position: int, reader: Reader) -> list[Event]:
    found = reader.events(position, _BATCH)
    # A gap is rare, and looked for only where there may be one.
    if position > 0 and (not found or found[0].sequence > position + 1):
        check_kept(reader, position)
    return found


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
        visible: Visible = everything,
    ) -> AsyncIterator[Event]:
        """The events after ``after_sequence`` in sequence, as they are committed.

        Ends when ``until`` is set; with ``no_follow``, after what is committed. Raises EventsPruned when some of them
        are not kept any more, Unavailable when the store is closed.
        """
        position = after_sequence
        ending = asyncio.ensure_future(until.wait()) if until is not None else None
        try:
            while until is None or not until.is_set():
                batch = await self._store.read(partial(_events_after, position))
                for event in batch:
                    position = event.sequence
                    if concerns(event, subject) and visible(event):
                        yield event
                if len(batch) == _BATCH:
                    # A store may answer at once: others have to come to their turn while a long log is read.
                    await asyncio.sleep(0)
                    continue
                if no_follow:
                    return
                await self._store.wait_sequence(position, ending)
                await asyncio.sleep(_GATHER_S)
        finally:
            if ending is not None:
                ending.cancel()


async def serve_watch(
    store: Store, request: WatchEventsRequest, visible: Visible = everything
) -> AsyncIterator[WatchEventsResponse]:
    """What a service's WatchEvents answers; ends, with status OK, when the server begins to stop."""
    events = Watch(store).follow(
        request.after_sequence, request.subject, request.no_follow, until=call.stopping(), visible=visible
    )
    async for event in events:
        yield WatchEventsResponse(event=event)
