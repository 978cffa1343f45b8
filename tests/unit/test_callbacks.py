"""The deliveries of callbacks, on a store of each kind, with a receiver that is told what to answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from google.protobuf.wrappers_pb2 import Int64Value

from nf.common.callback_hosts import CallbackHosts
from nf.common.callbacks import Backoff, Callbacks, body_of
from nf.common.clock import SystemClock
from nf.common.events import everything
from nf.common.json_text import decode
from nf.common.notification_subscriptions import create, require
from nf.common.outgoing_http import Answered, NotSent
from nf.common.store import Store, Transaction
from nf.common.v1.events_pb2 import Event
from nf.common.v1.notifications_pb2 import NotificationFilter, NotificationSubscription


class Told:
    """Takes every event, unless the next answer is another; keeps the sequences of those it has taken."""

    def __init__(self) -> None:
        self.answers: list[Answered | NotSent] = []
        self.sequences: list[int] = []
        self._changed = asyncio.Condition()

    async def post(self, url: str, content: bytes, headers: dict[str, str]) -> Answered:
        answer = self.answers.pop(0) if self.answers else Answered(204)
        if isinstance(answer, NotSent):
            raise answer
        if answer.is_success:
            body = decode(content)
            assert isinstance(body, dict)
            async with self._changed:
                self.sequences.append(body["event"]["sequence"])
                self._changed.notify_all()
        return answer

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(lambda: len(self.sequences) >= count)


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    opened = Store.open(store_url, clock=SystemClock())
    yield opened
    await opened.close()


def deliveries(store: Store, receiver: Told) -> Callbacks:
    return Callbacks(
        store,
        receiver,
        function="af",
        visible=lambda _: everything,
        audience=lambda _: (),
        backoff=Backoff(first_s=0.001, longest_s=0.002),
    )


def emit(transaction: Transaction, count: int = 1, event_type: str = "T") -> None:
    for _ in range(count):
        transaction.emit(event_type, "s/1", Int64Value(value=1), source="af")


async def subscribe(store: Store, **wanted: object) -> str:
    subscription = NotificationSubscription(callback_url="http://127.0.0.1:9/", **wanted)
    made = await store.write(lambda tx: create(tx, subscription, None, CallbackHosts()))
    return made.subscription_id


async def told(store: Store, name: str) -> int:
    """How far the subscriber has been told, as is stored."""
    found = await store.read(lambda reader: require(reader, name, None))
    return found.delivery.delivered_sequence


async def test_what_happens_is_told_in_order_over_restarts_and_failures(store: Store):
    receiver = Told()
    name = await subscribe(store)
    await store.write(lambda tx: emit(tx, 250))
    for number in range(3):
        receiver.answers = [Answered(204), Answered(500), NotSent("no connection"), Answered(429, 0.0)]
        callbacks = deliveries(store, receiver)
        await callbacks.start()
        await receiver.until(10 * (number + 1))
        await callbacks.stop()
    callbacks = deliveries(store, receiver)
    await callbacks.start()
    async with asyncio.timeout(20):
        while 250 not in receiver.sequences:
            await receiver.until(len(receiver.sequences) + 1)
        while await told(store, name) < 250:  # noqa: ASYNC110
            await asyncio.sleep(0)
    await callbacks.stop()
    assert list(dict.fromkeys(receiver.sequences)) == list(range(1, 251))
    assert receiver.sequences == sorted(receiver.sequences)


async def test_what_is_passed_over_is_noted_now_and_then(store: Store):
    receiver = Told()
    name = await subscribe(store, event_types=["WANTED"])
    await store.write(lambda tx: emit(tx, 700))
    callbacks = deliveries(store, receiver)
    await callbacks.start()
    async with asyncio.timeout(20):
        while await told(store, name) < 500:  # noqa: ASYNC110
            await asyncio.sleep(0)
    await store.write(lambda tx: emit(tx, 1, "WANTED"))
    await receiver.until(1)
    await callbacks.stop()
    assert receiver.sequences == [701]


async def test_filters_let_types_through_by_what_they_are_about_and_the_body_is_the_functions_own(store: Store):
    receiver = Told()
    filters = [NotificationFilter(event_type="A", subject="s/1"), NotificationFilter(event_type="B")]
    await subscribe(store, filters=filters, notify_correlation_id="mine")
    callbacks = deliveries(store, receiver)
    bodies = []

    def body(subscription: NotificationSubscription, event: Event) -> bytes:
        bodies.append((subscription.notify_correlation_id, event.type, event.subject))
        return body_of(subscription.subscription_id, event)

    callbacks.body = body
    await callbacks.start()

    def work(transaction: Transaction) -> None:
        for event_type in ("A", "B", "C"):
            for subject in ("s/1", "s/1/d/2", "s/2"):
                transaction.emit(event_type, subject, Int64Value(value=1), source="af")

    await store.write(work)
    await receiver.until(5)
    await callbacks.stop()
    assert receiver.sequences == [1, 2, 4, 5, 6]
    assert bodies == [
        ("mine", "A", "s/1"),
        ("mine", "A", "s/1/d/2"),
        ("mine", "B", "s/1"),
        ("mine", "B", "s/1/d/2"),
        ("mine", "B", "s/2"),
    ]


async def test_a_subscription_made_while_it_runs_is_told_once_it_is_woken(store: Store):
    receiver = Told()
    callbacks = deliveries(store, receiver)
    await callbacks.start()
    await subscribe(store)
    callbacks.wake()
    await store.write(emit)
    await receiver.until(1)
    await callbacks.stop()
    assert receiver.sequences == [1]
