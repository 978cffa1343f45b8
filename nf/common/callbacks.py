"""Events told by HTTP: for every subscription one after the other from the event log, each at least once.

How far a subscriber has been told is stored after each event, so nothing is lost with the process; what was sent and
not yet noted is sent again. A receiver that fails is tried again, ever more seldom; the events wait in the log.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Final, Protocol

from nf.common.background import Background
from nf.common.call import CORRELATION_KEY
from nf.common.codec import to_json
from nf.common.due import DueDriver
from nf.common.errors import CastcoreError
from nf.common.events import Visible, concerns
from nf.common.json_text import encode
from nf.common.notification_subscriptions import end
from nf.common.outgoing_http import Answered, NotSent
from nf.common.store import Reader, Store, Transaction
from nf.common.telemetry import logger
from nf.common.v1.events_pb2 import Event
from nf.common.v1.notifications_pb2 import NotificationDelivery, NotificationSubscription

_BATCH: Final = 100
# So many events that a subscriber did not ask for are passed over before that is noted.
_NOTED_EVERY: Final = 500
# How often subscriptions are looked at that another process may have changed.
_LOOK_S: Final = 5.0
_MAX_ERROR: Final = 256


class Sender(Protocol):
    """What sends a request; raises NotSent."""

    def post(self, url: str, content: bytes, headers: dict[str, str]) -> Awaitable[Answered]:
        """The answer of the receiver."""
        ...


@dataclass(frozen=True, slots=True)
class Backoff:
    """The pauses between tries: the first, doubled up to the longest, each shortened by up to a half by chance."""

    first_s: float = 0.5
    longest_s: float = 60.0

    def pause_s(self, attempts: int, asked_s: float | None) -> float:
        """The pause after so many tries in vain; a longer one that the receiver asks for, within the bound."""
        doubled_s = min(self.longest_s, self.first_s * 2.0 ** min(attempts - 1, 32))
        return max(doubled_s * random.uniform(0.5, 1.0), min(asked_s or 0.0, self.longest_s))


def body_of(subscription_id: str, event: Event) -> bytes:
    """What is sent: {"subscriptionId": …, "event": {"sequence": …, "type": …, "payload": {"@type": …}}}."""
    return encode({"subscriptionId": subscription_id, "event": to_json(event)})


def own_body(subscription: NotificationSubscription, event: Event) -> bytes:
    """What is sent where no specification says it."""
    return body_of(subscription.subscription_id, event)


class Telling(Protocol):
    """How one subscriber is told."""

    def is_own(self, event: Event) -> bool:
        """Whether the event is about the subscription itself: it is told whatever was asked for, and not counted."""
        ...

    def body(self, event: Event) -> bytes | None:
        """What is sent of an event; None: nothing."""
        ...

    def headers(self, event: Event, content: bytes) -> Mapping[str, str]:
        """Header fields that go with it, in the place of castcore's own of the same name."""
        ...


@dataclass(frozen=True, slots=True)
class PlainTelling:
    """A body, and no more than castcore's own header fields."""

    subscription: NotificationSubscription
    make: Callable[[NotificationSubscription, Event], bytes] = own_body

    def is_own(self, event: Event) -> bool:
        """Never: what is about a subscription is not told to itself."""
        del event
        return False

    def body(self, event: Event) -> bytes | None:
        """What the function makes of the event."""
        return self.make(self.subscription, event)

    def headers(self, event: Event, content: bytes) -> Mapping[str, str]:
        """None."""
        del event, content
        return {}


class Callbacks:
    """Delivers a function's events to its subscribers, between ``start`` and ``stop``; ``wake`` it after a change.

    ``visible`` says which events the owner of a subscription may be told, ``audience`` whom its end is told, ``body``
    what is sent. In the place of ``body``, ``telling`` may say how each subscriber is told; in the place of the event
    NOTIFICATION_SUBSCRIPTION_ENDED, ``ended`` does what is to be done when a subscription comes to its end, by the
    cause: "EXPIRED" (its time has come), "GONE" (the receiver says so), "MAX_EVENTS" (it had as many as it wanted),
    "TOLD" (it was ending, and was told its final event).
    """

    def __init__(
        self,
        store: Store,
        sender: Sender,
        *,
        function: str,
        visible: Callable[[NotificationSubscription], Visible],
        audience: Callable[[NotificationSubscription], tuple[str, ...]],
        body: Callable[[NotificationSubscription, Event], bytes] = own_body,
        telling: Callable[[Reader, NotificationSubscription], Telling] | None = None,
        ended: Callable[[Transaction, NotificationSubscription, str], None] | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self.store = store
        self.sender = sender
        self.function = function
        self.visible = visible
        self.audience = audience
        self.body = body
        self.telling = telling if telling is not None else lambda _, each: PlainTelling(each, self.body)
        self._ended = ended if ended is not None else self._tell_end
        self.backoff = backoff if backoff is not None else Backoff()
        self.log = logger(function)
        self._changed = asyncio.Event()
        self._deliveries: dict[str, tuple[str, asyncio.Task[None]]] = {}
        self._background = Background(f"callbacks {function}")
        self._expiry = DueDriver(store, NotificationSubscription, self._expire)

    async def start(self) -> None:
        """Begins with what there is to tell."""
        self._background.begin(self._run)
        await self._expiry.start()

    async def stop(self) -> None:
        """Ends; what is being sent is sent again at the next start."""
        await self._expiry.stop()
        await self._background.end()
        for _, task in self._deliveries.values():
            task.cancel()
        if self._deliveries:
            await asyncio.wait([task for _, task in self._deliveries.values()])
        self._deliveries.clear()

    def wake(self) -> None:
        """Has the subscriptions looked at anew."""
        self._changed.set()

    async def finish(self, subscription: NotificationSubscription, cause: str) -> None:
        """Ends a subscription of castcore's own accord."""
        await self.store.write(lambda tx: self._ended(tx, subscription, cause))
        name = subscription.subscription_id
        self.log.info("callback.ended", subscription=name, cause=cause, url=subscription.callback_url)
        self.wake()

    def _tell_end(self, transaction: Transaction, subscription: NotificationSubscription, cause: str) -> None:
        audience = self.audience(subscription)
        end(transaction, subscription.subscription_id, cause, source=self.function, audience=audience)

    async def _expire(self, _: str, subscription: NotificationSubscription) -> None:
        await self.finish(subscription, "EXPIRED")

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            await self.store.on_duty()
            try:
                await self._look()
            except CastcoreError as error:
                self.log.warning("callbacks.interrupted", error=str(error))
            try:
                async with asyncio.timeout(_LOOK_S):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _look(self) -> None:
        """Begins a delivery for every subscription that is new or changed, and ends those that are no more."""
        wanted = {
            each.subscription_id: each
            for each in await self.store.read(lambda reader: reader.all(NotificationSubscription))
        }
        for name, (etag, task) in list(self._deliveries.items()):
            if name not in wanted or wanted[name].etag != etag or task.done():
                del self._deliveries[name]
                task.cancel()
                await asyncio.wait([task])
        for name, subscription in wanted.items():
            if name not in self._deliveries:
                delivery = _Delivery(self, subscription)
                task = asyncio.create_task(delivery.run(), name=f"callback {name}")
                self._deliveries[name] = (subscription.etag, task)


class _Delivery:
    """One subscriber: its position in the log, and the event that it is being told."""

    def __init__(self, callbacks: Callbacks, subscription: NotificationSubscription) -> None:
        self._callbacks = callbacks
        self._store = callbacks.store
        self._subscription = subscription
        self._name = subscription.subscription_id
        self._visible = callbacks.visible(subscription)
        self._types = frozenset(subscription.event_types)
        self._progress = NotificationDelivery()
        self._telling: Telling = PlainTelling(subscription)
        # Events passed over since the position was noted.
        self._passed_over = 0

    async def run(self) -> None:
        """Tells everything, and what comes, until the subscription is no more."""
        while True:
            try:
                if not await self._tell_all():
                    return
            except CastcoreError as error:
                self._callbacks.log.warning("callback.interrupted", subscription=self._name, error=str(error))
            except Exception:
                self._callbacks.log.exception("callback.failed", subscription=self._name)
            await asyncio.sleep(_LOOK_S)

    async def _tell_all(self) -> bool:
        """Goes on for ever; False: the subscription is no more."""
        found = await self._store.read(lambda reader: reader.get(NotificationDelivery, self._name))
        if found is None:
            return False
        self._progress = found
        self._telling = await self._store.read(lambda reader: self._callbacks.telling(reader, self._subscription))
        while True:
            await self._store.on_duty()
            if (cause := self._end_cause()) is not None:
                await self._callbacks.finish(self._subscription, cause)
                return False
            batch, first = await self._store.read(self._look)
            if first - 1 > self._progress.delivered_sequence and not await self._note_loss(first):
                return False
            for event in batch:
                if not self._store.is_on_duty or self._end_cause() is not None:
                    break
                content = self._telling.body(event) if self._is_wanted(event) else None
                if content is not None:
                    if not await self._tell(event, content):
                        return False
                else:
                    self._progress.delivered_sequence = event.sequence
                    self._passed_over += 1
            if self._passed_over >= _NOTED_EVERY and not await self._note():
                return False
            # A store may answer at once: others have to come to their turn while a long log is passed over.
            await asyncio.sleep(0)
            if len(batch) < _BATCH and self._store.is_on_duty and self._end_cause() is None:
                await self._store.wait_sequence(self._progress.delivered_sequence)

    def _look(self, reader: Reader) -> tuple[list[Event], int]:
        position = self._progress.delivered_sequence
        found = reader.events(position, _BATCH)
        has_gap = not found or found[0].sequence > position + 1
        return found, reader.first_sequence() if has_gap else position + 1

    def _end_cause(self) -> str | None:
        """Why the subscription is over; None: it is not."""
        final = self._subscription.final_sequence
        if final:
            return "TOLD" if self._progress.delivered_sequence >= final else None
        return "MAX_EVENTS" if self._is_full() else None

    def _is_full(self) -> bool:
        return 0 < self._subscription.max_events <= self._progress.delivered_events

    def _is_wanted(self, event: Event) -> bool:
        if self._telling.is_own(event):
            return True
        final = self._subscription.final_sequence
        if self._is_full() or (final and event.sequence > final):
            return False
        known = not self._types or event.type in self._types
        return known and concerns(event, self._subscription.subject) and self._passes(event) and self._visible(event)

    def _passes(self, event: Event) -> bool:
        filters = self._subscription.filters
        return not filters or any(each.event_type == event.type and concerns(event, each.subject) for each in filters)

    async def _tell(self, event: Event, content: bytes) -> bool:
        """Sends the event until it is taken, and notes that; False: the subscription is no more."""
        while True:
            asked_s: float | None = None
            try:
                answer = await self._send(event, content)
                if answer.status == HTTPStatus.GONE:
                    await self._callbacks.finish(self._subscription, "GONE")
                    return False
                if answer.is_success:
                    return await self._note_told(event)
                problem, asked_s = f"answered {answer.status}", answer.retry_after_s
            except NotSent as error:
                problem = str(error)
            pause_s = self._callbacks.backoff.pause_s(self._progress.failed_attempts + 1, asked_s)
            clock = self._store.clock
            again = clock.now() + timedelta(seconds=pause_s)
            self._progress.failed_attempts += 1
            self._progress.last_error = problem[:_MAX_ERROR]
            self._progress.next_attempt_time.FromDatetime(again)
            if not await self._note():
                return False
            self._callbacks.log.info(
                "callback.postponed", subscription=self._name, sequence=event.sequence, error=problem,
                attempts=self._progress.failed_attempts, pause_s=round(pause_s, 3),
            )  # fmt: skip
            await clock.sleep_until(again)
            await self._store.on_duty()

    async def _send(self, event: Event, content: bytes) -> Answered:
        headers = {
            "content-type": "application/json",
            "user-agent": "castcore",
            "castcore-subscription": self._name,
            "castcore-sequence": str(event.sequence),
            "castcore-attempt": str(self._progress.failed_attempts + 1),
        }
        if event.correlation_id:
            headers[CORRELATION_KEY] = event.correlation_id
        headers.update(self._telling.headers(event, content))
        return await self._callbacks.sender.post(self._subscription.callback_url, content, headers)

    async def _note_told(self, event: Event) -> bool:
        self._progress.delivered_sequence = event.sequence
        self._progress.delivered_events += not self._telling.is_own(event)
        self._progress.failed_attempts = 0
        self._progress.ClearField("last_error")
        self._progress.ClearField("next_attempt_time")
        return await self._note()

    async def _note_loss(self, first: int) -> bool:
        lost = first - 1 - self._progress.delivered_sequence
        self._callbacks.log.warning("callback.events_lost", subscription=self._name, sequences=lost)
        self._progress.lost_sequences += lost
        self._progress.delivered_sequence = first - 1
        return await self._note()

    async def _note(self) -> bool:
        """Stores how far it is; False: the subscription is no more."""
        progress, name = NotificationDelivery(), self._name
        progress.CopyFrom(self._progress)

        def work(transaction: Transaction) -> bool:
            stored = transaction.get(NotificationDelivery, name)
            if stored is None:
                return False
            # Another process may have taken the duty over, and be ahead.
            if stored.delivered_sequence <= progress.delivered_sequence:
                transaction.update(progress, name)
            return True

        self._passed_over = 0
        return await self._store.write(work)
