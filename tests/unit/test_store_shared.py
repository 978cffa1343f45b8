"""Several stores on one PostgreSQL database, as several processes have them: one order of commits, one at the work."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from postgresql import Postgresql, postgresql

from nf.af.v1.provisioning_pb2 import ProvisioningSession
from nf.common.clock import ManualClock
from nf.common.database import Group, News
from nf.common.dialect import schema_url
from nf.common.due import DueDriver
from nf.common.duty import TERM
from nf.common.errors import AlreadyExists, EtagMismatch, FailedPrecondition, InvalidArgument, Unavailable
from nf.common.events import Watch
from nf.common.postgresql import PostgresqlDatabase
from nf.common.statements import Session
from nf.common.store import Store, Transaction
from nf.common.subscribe import Subscriber
from nf.common.v1.events_pb2 import Event
from nf.common.v1.types_pb2 import Volume

START = datetime(2026, 1, 1, tzinfo=UTC)
PATIENCE_S = 20.0


class Processes:
    """Opens stores on one schema, and closes those that are left."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.clock = ManualClock(START)
        self.lease_clock = ManualClock(START)
        self._opened: list[Store] = []

    def open(self) -> Store:
        store = Store.open(self.url, clock=self.clock, shared=True, lease_clock=self.lease_clock)
        self._opened.append(store)
        return store

    async def close(self) -> None:
        for store in self._opened:
            await store.close()


@pytest.fixture
async def processes(postgresql_url: str) -> AsyncIterator[Processes]:
    opened = Processes(postgresql_url)
    yield opened
    await opened.close()


@pytest.fixture
def own_server() -> Iterator[Postgresql]:
    """A server that this test may stop."""
    with postgresql("fsync=off", "shared_buffers=16MB") as server:
        yield server


def session(app_id: str = "") -> ProvisioningSession:
    return ProvisioningSession(app_id=app_id)


def emit(store: Store, subject: str) -> asyncio.Future[int]:
    return asyncio.ensure_future(store.write(lambda tx: tx.emit("HAPPENED", subject, Volume(), source="af")))


async def until(satisfied: Callable[[], bool], look: Callable[[], object] = lambda: None) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not satisfied():
            look()
            await asyncio.sleep(0.005)


async def test_what_one_commits_the_other_reads_and_may_change(processes: Processes) -> None:
    one, other = processes.open(), processes.open()
    assert (one.alone, other.alone) == (True, False)
    assert one.instance_id == other.instance_id
    stored = await one.write(lambda tx: tx.insert(session("a"), "s1"))
    assert await other.read(lambda reader: reader.require(ProvisioningSession, "s1")) == stored
    with pytest.raises(AlreadyExists):
        await other.write(lambda tx: tx.insert(session("b"), "s1"))
    changed = await other.write(lambda tx: tx.update(session("b"), "s1", expect_etag=stored.etag))
    with pytest.raises(EtagMismatch):
        await one.write(lambda tx: tx.update(session("c"), "s1", expect_etag=stored.etag))
    assert await one.read(lambda reader: reader.require(ProvisioningSession, "s1")) == changed


async def test_of_many_at_both_who_read_and_write_none_is_lost(processes: Processes) -> None:
    stores = processes.open(), processes.open()
    await stores[0].write(lambda tx: tx.insert(ProvisioningSession(app_id="0"), "count"))

    def count(tx: Transaction) -> None:
        known = tx.require(ProvisioningSession, "count")
        tx.update(session(str(int(known.app_id) + 1)), "count", expect_etag=known.etag)

    await asyncio.gather(*(store.write(count) for _ in range(100) for store in stores))
    assert (await stores[1].read(lambda reader: reader.require(ProvisioningSession, "count"))).app_id == "200"


async def test_watchers_of_both_see_every_event_in_commit_order(processes: Processes) -> None:
    stores = processes.open(), processes.open()
    chance = random.Random(5)

    async def watch(store: Store) -> list[tuple[int, str]]:
        seen: list[tuple[int, str]] = []
        async for event in Watch(store).follow(0):
            seen.append((event.sequence, event.subject))
            if len(seen) == 300:
                break
        return seen

    watching = [asyncio.create_task(watch(store)) for store in stores]
    made: dict[int, str] = {}

    async def make(store: Store, subject: str) -> None:
        made[await emit(store, subject)] = subject

    subjects = [f"s{index}" for index in range(300)]
    for begin in range(0, 300, 20):
        await asyncio.gather(*(make(chance.choice(stores), subject) for subject in subjects[begin : begin + 20]))
    expected = [(sequence, made[sequence]) for sequence in range(1, 301)]
    async with asyncio.timeout(PATIENCE_S):
        assert await asyncio.gather(*watching) == [expected, expected]


async def test_the_generation_of_each_tells_the_commits_of_all(processes: Processes) -> None:
    one, other = processes.open(), processes.open()
    before = other.generation
    await one.write(lambda tx: tx.insert(session(), "a"))
    await until(lambda: other.generation == one.generation)
    assert other.generation > before


async def test_a_commit_whose_notification_is_lost_is_found_all_the_same(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deaf(database: PostgresqlDatabase, told: object, look: Callable[[], None]) -> object:
        return follow(database, lambda news: None, look)

    follow = PostgresqlDatabase.follow
    monkeypatch.setattr(PostgresqlDatabase, "follow", deaf)
    one, other = processes.open(), processes.open()
    waiting = asyncio.create_task(other.wait_sequence(0))
    await emit(one, "s1")
    async with asyncio.timeout(PATIENCE_S):
        await waiting
    assert other.sequence == 1


async def test_a_due_time_that_one_sets_wakes_the_driver_of_the_other(processes: Processes) -> None:
    one, other = processes.open(), processes.open()
    done: asyncio.Queue[str] = asyncio.Queue()

    async def handle(name: str, message: ProvisioningSession) -> None:
        await one.write(lambda tx: tx.update(message, name, due=None))
        done.put_nowait(name)

    driver = DueDriver(one, ProvisioningSession, handle)
    await driver.start()
    await one.on_duty()
    await other.write(lambda tx: tx.insert(session(), "a", due=START))
    async with asyncio.timeout(PATIENCE_S):
        assert await done.get() == "a"
    await driver.stop()


async def test_one_is_on_duty_and_another_takes_over_when_it_dies(processes: Processes) -> None:
    one, other = processes.open(), processes.open()
    await one.on_duty()
    waiting = asyncio.create_task(other.on_duty())
    await processes.lease_clock.until_asleep()
    assert (one.is_on_duty, other.is_on_duty, waiting.done()) == (True, False, False)
    # It no longer renews: the first of the two is stopped in its tracks.
    assert one._duty is not None
    await one._duty._background.end()
    processes.lease_clock.advance(TERM - timedelta(seconds=1))
    assert one.is_on_duty
    await until(waiting.done, lambda: processes.lease_clock.advance(timedelta(seconds=1)))
    assert (one.is_on_duty, other.is_on_duty) == (False, True)


async def test_who_is_closed_hands_the_duty_over_at_once(processes: Processes) -> None:
    one, other = processes.open(), processes.open()
    await one.on_duty()
    waiting = asyncio.create_task(other.on_duty())
    await one.close()
    await until(waiting.done, lambda: processes.lease_clock.advance(TERM / 4))
    assert other.is_on_duty


async def test_a_subscriber_goes_on_where_that_of_a_dead_process_has_ended(processes: Processes) -> None:
    one, other = processes.open(), processes.open()
    source = [Event(sequence=number, subject=f"s{number}") for number in range(1, 41)]
    more = asyncio.Event()

    async def stream(after: int) -> AsyncIterator[Event]:
        for event in source:
            if event.sequence > 20:
                await more.wait()
            if event.sequence > after:
                yield event

    def handle(tx: Transaction, event: Event) -> None:
        tx.emit("SEEN", event.subject, Volume(), source="af")

    subscribers = [Subscriber("peer", store, stream, handle) for store in (one, other)]
    for each in subscribers:
        await each.start()
    await until(lambda: one.sequence == 20, lambda: processes.lease_clock.advance(TERM / 8))
    holder, heir = (0, 1) if one.is_on_duty else (1, 0)
    await subscribers[holder].stop()
    await (one, other)[holder].close()
    more.set()
    left = (one, other)[heir]
    await until(lambda: left.sequence == 40, lambda: processes.lease_clock.advance(TERM / 8))
    events = await left.read(lambda reader: reader.events(0))
    assert [each.subject for each in events] == [f"s{number}" for number in range(1, 41)]
    await subscribers[heir].stop()


async def test_what_is_exclusive_is_so_across_processes_until_its_holder_goes(processes: Processes) -> None:
    one, other = processes.open(), processes.open()
    entered = asyncio.Event()

    async def enter(store: Store, name: str) -> None:
        async with store.exclusive(name):
            entered.set()

    async with one.exclusive("policy 1"):
        waiting = asyncio.create_task(enter(other, "policy 1"))
        await enter(other, "policy 2")
        entered.clear()
        assert not waiting.done()
    async with asyncio.timeout(PATIENCE_S):
        await entered.wait()
        await waiting
    entered.clear()
    holding = one.exclusive("policy 3")
    await holding.__aenter__()
    waiting = asyncio.create_task(enter(other, "policy 3"))
    await one.close()
    async with asyncio.timeout(PATIENCE_S):
        await waiting
    assert entered.is_set()


async def test_who_wants_a_database_alone_does_not_get_one_that_is_shared(processes: Processes) -> None:
    one = processes.open()
    with pytest.raises(FailedPrecondition, match="in use by another process"):
        Store.open(processes.url, clock=processes.clock)
    await one.close()
    alone = Store.open(processes.url, clock=processes.clock)
    assert alone.alone
    await alone.close()


async def test_text_that_the_database_cannot_keep_is_refused(processes: Processes) -> None:
    one = processes.open()
    with pytest.raises(InvalidArgument, match="NUL"):
        await one.read(lambda reader: reader.get(ProvisioningSession, "a\0b"))
    with pytest.raises(InvalidArgument, match="NUL"):
        await one.write(lambda tx: tx.insert(session(), "a\0b"))
    with pytest.raises(InvalidArgument):
        await one.write(lambda tx: tx.insert(session(), "".join(random.Random(1).choices("abcdefgh", k=20_000))))
    await one.write(lambda tx: tx.insert(session(), "a"))


async def test_a_commit_whose_answer_is_lost_is_not_acknowledged(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = processes.open(), processes.open()
    commit = one._database.commit

    def cut_off(session: Session, group: Group) -> News:
        pid = session.driver.execute("SELECT pg_backend_pid()").fetchall()[0][0]
        news = commit(session, group)
        with psycopg.connect(processes.url.partition("&schema")[0]) as connection:
            connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        session.run("SELECT 1")
        return news

    with monkeypatch.context() as patched:
        patched.setattr(one._database, "commit", cut_off)
        with pytest.raises(Unavailable):
            await emit(one, "s1")
    # It has happened, and is known everywhere; the next number is the next one.
    assert await emit(one, "s2") == 2
    await until(lambda: other.sequence == 2)
    assert one.sequence == 2


async def test_connections_that_are_cut_are_made_again(own_server: Postgresql) -> None:
    processes = Processes(schema_url(own_server.url, "af"))
    one, other = processes.open(), processes.open()
    await emit(one, "s1")
    await one.read(lambda reader: reader.last_sequence())
    own_server.cut()
    assert await one.read(lambda reader: reader.last_sequence()) == 1
    assert await emit(one, "s2") == 2
    async with asyncio.timeout(PATIENCE_S):
        await other.wait_sequence(1)
    async with one.exclusive("a"):
        assert await emit(other, "s3") == 3
    await processes.close()


async def test_while_the_server_is_away_callers_are_told_and_afterwards_all_goes_on(own_server: Postgresql) -> None:
    processes = Processes(schema_url(own_server.url, "af"))
    one, other = processes.open(), processes.open()
    await emit(one, "s1")
    own_server.stop()
    with pytest.raises(Unavailable, match="schema af of database postgres"):
        await emit(one, "s2")
    with pytest.raises(Unavailable, match="schema af of database postgres"):
        await one.read(lambda reader: reader.last_sequence())
    with pytest.raises(Unavailable):
        async with one.exclusive("a"):
            raise AssertionError
    own_server.start()
    assert await emit(one, "s3") == 2
    async with asyncio.timeout(PATIENCE_S):
        await other.wait_sequence(1)
    assert [each.subject for each in await other.read(lambda reader: reader.events(0))] == ["s1", "s3"]
    await processes.close()
    own_server.stop()


def test_a_server_that_is_not_there_is_named_in_one_line() -> None:
    url = "postgresql://castcore:secret@127.0.0.1:1/lab?schema=af"
    with pytest.raises(Unavailable) as caught:
        Store.open(url, clock=ManualClock(START))
    message = str(caught.value)
    assert message.startswith("store: schema af of database lab at 127.0.0.1:1 cannot be reached: ")
    assert "\n" not in message
    assert "secret" not in message


def test_without_the_driver_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nf.common.postgresql", None)
    with pytest.raises(FailedPrecondition, match=r"needs psycopg, as in pip install 'castcore\[postgresql\]'"):
        Store.open("postgresql://castcore@localhost/lab", clock=ManualClock(START))


def test_a_schema_is_a_plain_name() -> None:
    with pytest.raises(InvalidArgument, match="expected a schema of lower-case letters"):
        Store.open("postgresql://castcore@localhost/lab?schema=a;drop", clock=ManualClock(START))
    assert schema_url("postgresql://u:p@h/d", "af") == "postgresql://u:p@h/d?schema=af"
    assert schema_url("postgresql://u@h/d?schema=lab", "af") == "postgresql://u@h/d?schema=lab_af"
    with pytest.raises(InvalidArgument, match="expected 'postgresql://USER@HOST/DATABASE'"):
        schema_url("sqlite:///x", "af")


async def test_who_gives_up_while_it_connects_leaves_no_connection_behind(processes: Processes) -> None:
    for _ in range(5):
        one = processes.open()
        # It begins to listen.
        await asyncio.sleep(0)
        await one.close()
    # One that nobody has closed would be warned of here, which is an error.
    gc.collect()
