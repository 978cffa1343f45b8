"""How long events are kept, and what those are told who ask for more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from google.protobuf.wrappers_pb2 import Int64Value

from nf.common.clock import ManualClock
from nf.common.events import EventsPruned, Watch
from nf.common.retention import EventLimits, EventRetention
from nf.common.store import Store, Transaction, url_for
from nf.common.subscribe import Subscriber
from nf.common.v1.events_pb2 import Event
from nf.common.v1.notifications_pb2 import NotificationDelivery

BEGIN = datetime(2026, 11, 23, tzinfo=UTC)
FOR_EVER = EventLimits(kept_s=1e9, kept=1_000_000)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(BEGIN)


@pytest.fixture
async def store(store_url: str, clock: ManualClock) -> AsyncIterator[Store]:
    opened = Store.open(store_url, clock=clock)
    yield opened
    await opened.close()


def emit(transaction: Transaction, count: int = 1) -> None:
    for _ in range(count):
        transaction.emit("T", "s/1", Int64Value(value=1), source="af")


async def kept(store: Store, after: int = 0) -> list[int]:
    return [event.sequence async for event in Watch(store).follow(after, no_follow=True)]


async def prune(store: Store, limits: EventLimits) -> int:
    return await EventRetention(store, limits, function="af").prune()


async def test_the_last_events_are_kept_up_to_a_number(store: Store):
    assert await prune(store, EventLimits(1e9, 3)) == 0
    await store.write(lambda tx: emit(tx, 10))
    assert await prune(store, FOR_EVER) == 0
    assert await prune(store, EventLimits(1e9, 3)) == 7
    assert await kept(store) == [8, 9, 10]
    assert await prune(store, EventLimits(1e9, 3)) == 0
    await store.write(emit)
    assert await kept(store) == [8, 9, 10, 11]


async def test_events_are_kept_for_a_time(store: Store, clock: ManualClock):
    for _ in range(10):
        await store.write(emit)
        clock.advance(timedelta(seconds=10))
    # They are 100, 90, … 10 seconds old.
    for kept_s, first in ((1000, 1), (100, 1), (99, 2), (55, 6), (50, 6), (49, 7), (10, 10)):
        await prune(store, EventLimits(kept_s, 100))
        assert await kept(store) == list(range(first, 11))
    assert await prune(store, EventLimits(9, 100)) == 1
    assert await kept(store) == []
    assert await prune(store, EventLimits(9, 100)) == 0
    await store.write(emit)
    assert await kept(store) == [11]


async def test_more_than_one_transaction_takes_go_in_several(store: Store):
    await store.write(lambda tx: emit(tx, 4_999))
    assert await prune(store, EventLimits(1e9, 10)) == 4_989
    assert await kept(store) == list(range(4_990, 5_000))


async def test_age_takes_nothing_away_that_a_callback_has_still_to_be_told_but_number_does(
    store: Store, clock: ManualClock
):
    await store.write(lambda tx: emit(tx, 10))
    for name, sequence in (("slow", 4), ("fast", 10)):
        delivery = NotificationDelivery(subscription_id=name, delivered_sequence=sequence)
        await store.write(lambda tx, name=name, delivery=delivery: tx.insert(delivery, name))
    clock.advance(timedelta(days=30))
    assert await prune(store, EventLimits(60, 100)) == 4
    assert await kept(store) == [5, 6, 7, 8, 9, 10]
    assert await prune(store, EventLimits(60, 2)) == 4
    assert await kept(store) == [9, 10]


async def test_a_watcher_that_asks_for_what_is_gone_is_told_where_the_log_begins(store: Store):
    await store.write(lambda tx: emit(tx, 10))
    await prune(store, EventLimits(1e9, 3))
    with pytest.raises(EventsPruned, match="expected 0 or at least 7, found 6: older events are not kept") as refused:
        await kept(store, after=6)
    assert refused.value.metadata == {"first_sequence": "8"}
    assert [each.field for each in refused.value.violations] == ["after_sequence"]
    assert await kept(store, after=7) == [8, 9, 10]
    assert await kept(store, after=0) == [8, 9, 10]
    assert await kept(store, after=10) == []
    assert await kept(store, after=999) == []
    await store.write(lambda tx: tx.prune_events(10))
    with pytest.raises(EventsPruned, match="at least 10, found 9"):
        await kept(store, after=9)
    assert await kept(store, after=10) == []


async def test_a_watcher_whose_next_events_go_while_it_reads_is_told(store: Store):
    await store.write(lambda tx: emit(tx, 600))
    stream = Watch(store).follow(0)
    assert (await anext(stream)).sequence == 1
    await store.write(lambda tx: tx.prune_events(550))
    assert [(await anext(stream)).sequence for _ in range(499)] == list(range(2, 501))
    with pytest.raises(EventsPruned, match="at least 550, found 500"):
        await anext(stream)


async def test_a_function_that_was_away_for_too_long_goes_on_where_its_peer_s_log_begins(
    store: Store, tmp_path: Path, clock: ManualClock
):
    consumer = Store.open(url_for(tmp_path, "consumer"), clock=clock)
    handled: list[int] = []
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def handle(_: Transaction, event: Event) -> None:
        handled.append(event.sequence)
        if event.sequence == 10:
            loop.call_soon_threadsafe(done.set)

    await consumer.write(lambda tx: tx.set_cursor("peer", 2))
    await store.write(lambda tx: emit(tx, 10))
    await prune(store, EventLimits(1e9, 3))
    subscriber = Subscriber("peer", consumer, lambda after: Watch(store).follow(after), handle, first_backoff_s=0.001)
    await subscriber.start()
    async with asyncio.timeout(20):
        await done.wait()
    await subscriber.stop()
    await consumer.close()
    assert handled == [8, 9, 10]
