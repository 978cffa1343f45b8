"""Due times: persisted, driven by the clock, tried again after a failure, picked up at the start."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from nf.af.v1.provisioning_pb2 import ProvisioningSession
from nf.common.clock import ManualClock
from nf.common.due import DueDriver
from nf.common.errors import Unavailable
from nf.common.store import Store

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
async def store(store_url: str, clock: ManualClock) -> AsyncIterator[Store]:
    opened = Store.open(store_url, clock=clock)
    yield opened
    await opened.close()


class Work:
    """Handles by clearing the due time; tells each handling to whoever awaits ``next``."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.failures = 0
        self.done: asyncio.Queue[str] = asyncio.Queue()

    async def handle(self, name: str, message: ProvisioningSession) -> None:
        if self.failures:
            self.failures -= 1
            self.done.put_nowait(f"{name} failed")
            raise Unavailable("the peer is away")
        await self.store.write(lambda tx: tx.update(message, name, due=None))
        self.done.put_nowait(name)

    async def next(self) -> str:
        return await self.done.get()


async def schedule(store: Store, name: str, due: datetime) -> None:
    await store.write(lambda tx: tx.put(ProvisioningSession(app_id=name), name, due=due))


async def test_what_was_due_while_nobody_looked_is_done_at_the_start(store: Store) -> None:
    await schedule(store, "late", START - HOUR)
    work = Work(store)
    driver = DueDriver(store, ProvisioningSession, work.handle)
    await driver.start()
    assert await work.next() == "late"
    await driver.stop()


async def test_work_is_done_when_its_time_has_come_and_not_before(store: Store, clock: ManualClock) -> None:
    await schedule(store, "b", START + 2 * HOUR)
    await schedule(store, "a", START + HOUR)
    work = Work(store)
    driver = DueDriver(store, ProvisioningSession, work.handle)
    await driver.start()
    await clock.until_asleep()
    clock.advance(HOUR - timedelta(seconds=1))
    await clock.until_asleep()
    assert work.done.empty()
    clock.advance(timedelta(seconds=1))
    assert await work.next() == "a"
    await clock.until_asleep()
    clock.advance(HOUR)
    assert await work.next() == "b"
    assert work.done.empty()
    await driver.stop()


async def test_a_nearer_time_that_is_committed_meanwhile_wakes_the_driver(store: Store, clock: ManualClock) -> None:
    await schedule(store, "far", START + 9 * HOUR)
    work = Work(store)
    driver = DueDriver(store, ProvisioningSession, work.handle)
    await driver.start()
    await clock.until_asleep()
    await schedule(store, "now", START)
    assert await work.next() == "now"
    await driver.stop()


async def test_a_failure_is_tried_again_later_and_holds_up_nothing_else(store: Store, clock: ManualClock) -> None:
    work = Work(store)
    work.failures = 1
    await schedule(store, "bad", START)
    driver = DueDriver(store, ProvisioningSession, work.handle, retry=timedelta(seconds=30))
    await driver.start()
    assert await work.next() == "bad failed"
    await schedule(store, "good", START)
    assert await work.next() == "good"
    await clock.until_asleep()
    clock.advance(timedelta(seconds=30))
    assert await work.next() == "bad"
    await driver.stop()
