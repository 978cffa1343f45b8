"""The store: resources, lookups, events, cursors, request identifiers; all of a write or nothing."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import BigInteger, Column, MetaData, String, Table, func, insert, select

from nf.af.v1.provisioning_pb2 import PolicyTemplate, ProvisioningSession
from nf.common import call
from nf.common.clock import ManualClock
from nf.common.database import Durability, Group, News
from nf.common.errors import (
    AlreadyExists,
    EtagMismatch,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from nf.common.schema import requests
from nf.common.statements import Session
from nf.common.store import Reader, RequestIdReused, Store, Transaction, url_for
from nf.common.v1.types_pb2 import Volume

START = datetime(2026, 1, 1, tzinfo=UTC)

ledger = Table("ledger", MetaData(), Column("who", String, primary_key=True), Column("bytes", BigInteger))


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    opened = Store.open(store_url, clock=ManualClock(START), tables=[ledger])
    yield opened
    await opened.close()


def session(app_id: str = "") -> ProvisioningSession:
    return ProvisioningSession(app_id=app_id)


async def test_a_resource_is_read_as_it_was_written_with_an_etag(store: Store) -> None:
    given = session("app")
    written = await store.write(lambda tx: tx.insert(given, "s1"))
    read = await store.read(lambda reader: reader.require(ProvisioningSession, "s1"))
    assert read == written
    assert read.app_id == "app"
    assert len(read.etag) == 16
    assert given.etag == ""


async def test_what_is_not_there_is_none_or_not_found_by_kind_and_name(store: Store) -> None:
    assert await store.read(lambda reader: reader.get(ProvisioningSession, "s1")) is None
    with pytest.raises(NotFound, match="ProvisioningSession 's1' does not exist"):
        await store.read(lambda reader: reader.require(ProvisioningSession, "s1"))


@pytest.mark.parametrize(("durability", "synchronous"), [("process", 1), ("power", 2)])
async def test_a_commit_waits_for_the_disk_where_it_is_to_survive_a_power_cut(
    tmp_path: Path, durability: Durability, synchronous: int
) -> None:
    opened = Store.open(url_for(tmp_path, "af"), clock=ManualClock(START), durability=durability)
    try:
        asked = await opened.write(lambda tx: tx.connection.exec_driver_sql("PRAGMA synchronous").scalar_one())
        assert asked == synchronous
    finally:
        await opened.close()


async def test_kinds_do_not_share_names(store: Store) -> None:
    await store.write(lambda tx: (tx.insert(session(), "x"), tx.insert(PolicyTemplate(), "x")))
    assert await store.read(lambda reader: len(reader.all(ProvisioningSession))) == 1


async def test_a_second_insert_is_refused_and_changes_nothing(store: Store) -> None:
    await store.write(lambda tx: tx.insert(session("first"), "s1"))
    with pytest.raises(AlreadyExists, match="ProvisioningSession 's1' already exists"):
        await store.write(lambda tx: tx.insert(session("second"), "s1"))
    assert (await store.read(lambda reader: reader.require(ProvisioningSession, "s1"))).app_id == "first"


async def test_the_etag_changes_with_the_content_and_comes_back_with_it(store: Store) -> None:
    first = await store.write(lambda tx: tx.insert(session("a"), "s1"))
    second = await store.write(lambda tx: tx.update(session("b"), "s1"))
    third = await store.write(lambda tx: tx.update(session("a"), "s1"))
    assert first.etag == third.etag != second.etag


async def test_an_update_that_expects_another_etag_is_refused_whole(store: Store) -> None:
    first = await store.write(lambda tx: tx.insert(session("a"), "s1"))
    await store.write(lambda tx: tx.update(session("b"), "s1", expect_etag=first.etag))
    with pytest.raises(EtagMismatch) as caught:
        await store.write(lambda tx: tx.update(session("c"), "s1", expect_etag=first.etag))
    assert caught.value.code == "ABORTED"
    with pytest.raises(EtagMismatch):
        await store.write(lambda tx: tx.delete(ProvisioningSession, "s1", expect_etag=first.etag))
    assert (await store.read(lambda reader: reader.require(ProvisioningSession, "s1"))).app_id == "b"


async def test_an_update_of_what_is_not_there_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound):
        await store.write(lambda tx: tx.update(session(), "s1"))
    with pytest.raises(NotFound):
        await store.write(lambda tx: tx.update(session(), "s1", expect_etag="x"))


async def test_put_makes_and_then_replaces(store: Store) -> None:
    await store.write(lambda tx: tx.put(session("a"), "s1", lookups={"app": "a"}))
    await store.write(lambda tx: tx.put(session("b"), "s1", parent="p", lookups={"app": "b"}))
    assert await store.read(lambda reader: reader.find(ProvisioningSession, "app", "a")) == []
    assert [each.app_id for each in await store.read(lambda r: r.all(ProvisioningSession, parent="p"))] == ["b"]


async def test_delete_tells_whether_there_was_anything_and_takes_the_lookups_along(store: Store) -> None:
    await store.write(lambda tx: tx.insert(session(), "s1", lookups={"app": "a"}))
    assert await store.write(lambda tx: tx.delete(ProvisioningSession, "s1")) is True
    assert await store.write(lambda tx: tx.delete(ProvisioningSession, "s1")) is False
    await store.write(lambda tx: tx.insert(session(), "s1"))
    assert await store.read(lambda reader: reader.find(ProvisioningSession, "app", "a")) == []


async def test_lookups_find_in_order_of_creation_and_follow_an_update(store: Store) -> None:
    def make(tx: Transaction) -> None:
        for index in range(3):
            tx.insert(session(str(index)), f"s{index}", lookups={"ue": "10.45.0.2", "empty": ""})

    await store.write(make)
    found = await store.read(lambda reader: reader.find(ProvisioningSession, "ue", "10.45.0.2"))
    assert [each.app_id for each in found] == ["0", "1", "2"]
    await store.write(lambda tx: tx.update(session("0"), "s0"))
    await store.write(lambda tx: tx.update(session("1"), "s1", lookups={"ue": "10.45.0.3"}))
    found = await store.read(lambda reader: reader.find(ProvisioningSession, "ue", "10.45.0.2"))
    assert [each.app_id for each in found] == ["0", "2"]
    assert await store.read(lambda reader: reader.count(ProvisioningSession, "ue", "10.45.0.2")) == 2
    assert await store.read(lambda reader: reader.find(ProvisioningSession, "empty", "")) == []
    assert await store.read(lambda reader: reader.count(ProvisioningSession, "empty", "")) == 0


async def test_pages_go_through_everything_once_in_order_of_creation(store: Store) -> None:
    def make(tx: Transaction) -> None:
        for index in range(250):
            tx.insert(session(str(index)), f"s{index:03}", parent="even" if index % 2 == 0 else "odd")

    await store.write(make)
    seen: list[str] = []
    token, pages = "", 0
    while pages == 0 or token:
        page = await store.read(lambda r, t=token: r.list(ProvisioningSession, page_token=t))
        seen += [each.app_id for each in page.items]
        token, pages = page.next_page_token, pages + 1
    assert seen == [str(index) for index in range(250)]
    assert pages == 3
    page = await store.read(lambda reader: reader.list(ProvisioningSession, parent="odd", page_size=5000))
    assert (len(page.items), page.next_page_token) == (125, "")


async def test_a_page_goes_on_where_it_ended_although_resources_come_and_go(store: Store) -> None:
    await store.write(lambda tx: [tx.insert(session(name), name) for name in "abcd"])
    first = await store.read(lambda reader: reader.list(ProvisioningSession, page_size=2))
    await store.write(lambda tx: (tx.delete(ProvisioningSession, "b"), tx.insert(session("e"), "e")))
    second = await store.read(
        lambda reader: reader.list(ProvisioningSession, page_size=9, page_token=first.next_page_token)
    )
    assert [each.app_id for each in second.items] == ["c", "d", "e"]


async def test_a_page_of_large_resources_is_shorter_so_that_it_fits_into_a_message(store: Store) -> None:
    for number in range(5):
        large = session("x" * (7 * 1024 * 1024))
        await store.write(lambda tx, name=f"s{number}", large=large: tx.insert(large, name))
    sizes, token = [], ""
    while True:
        page = await store.read(lambda reader, token=token: reader.list(ProvisioningSession, page_token=token))
        sizes.append(len(page.items))
        token = page.next_page_token
        if not token:
            break
    assert sizes == [2, 2, 1]


async def test_a_token_of_another_list_or_of_nobody_is_refused(store: Store) -> None:
    await store.write(lambda tx: [tx.insert(session(name), name) for name in "ab"])
    token = (await store.read(lambda reader: reader.list(ProvisioningSession, page_size=1))).next_page_token
    with pytest.raises(InvalidArgument, match="page_token"):
        await store.read(lambda reader: reader.list(PolicyTemplate, page_token=token))
    with pytest.raises(InvalidArgument, match="page_token"):
        await store.read(lambda reader: reader.list(ProvisioningSession, parent="p", page_token=token))
    for bad in ("x", "é", "AAAAAAAAMQ", token + "A"):
        with pytest.raises(InvalidArgument, match="page_token"):
            await store.read(lambda reader, bad=bad: reader.list(ProvisioningSession, page_token=bad))


async def test_an_event_carries_sequence_time_and_the_correlation_id_of_the_writer(store: Store) -> None:
    call.adopt_correlation_id("corr-1")
    sequence = await store.write(
        lambda tx: tx.emit("USAGE_REPORT", "dynamic-policies/7", Volume(bytes=5), source="af", path="N4>N7>N5")
    )
    (told,) = await store.read(lambda reader: reader.events(0))
    payload = Volume()
    assert told.payload.Unpack(payload)
    assert (sequence, told.sequence, payload.bytes) == (1, 1, 5)
    assert (told.type, told.subject, told.source) == ("USAGE_REPORT", "dynamic-policies/7", "af")
    assert (told.path, told.correlation_id) == ("N4>N7>N5", "corr-1")
    assert told.event_time.ToDatetime(UTC) == START


async def test_a_failed_job_leaves_no_trace_and_no_gap_among_its_group(store: Store) -> None:
    def good(tx: Transaction, name: str) -> int:
        tx.insert(session(), name)
        return tx.emit("MADE", name, Volume(), source="af")

    def bad(tx: Transaction) -> None:
        tx.insert(session(), "bad")
        tx.emit("MADE", "bad", Volume(), source="af")
        raise ValueError("no")

    outcomes = await asyncio.gather(
        store.write(lambda tx: good(tx, "a")),
        store.write(bad),
        store.write(lambda tx: good(tx, "b")),
        return_exceptions=True,
    )
    assert (outcomes[0], outcomes[2]) == (1, 2)
    assert isinstance(outcomes[1], ValueError)
    assert [each.subject for each in await store.read(lambda reader: reader.events(0))] == ["a", "b"]
    assert await store.read(lambda reader: reader.get(ProvisioningSession, "bad")) is None


async def test_many_concurrent_writes_are_all_accounted_for(store: Store, store_url: str) -> None:
    chance = random.Random(7)
    fates = [chance.random() < 0.25 for _ in range(2000 if store_url.startswith("sqlite") else 500)]
    committed: list[int] = []

    async def one(index: int, fails: bool) -> int | None:
        def work(tx: Transaction) -> int:
            name = f"s{index}"
            tx.insert(session(str(index)), name, lookups={"index": str(index)})
            total = tx.connection.execute(select(func.count()).select_from(ledger)).scalar_one()
            tx.connection.execute(insert(ledger).values(who=name, bytes=total))
            sequence = tx.emit("MADE", name, Volume(packets=index), source="af")
            if fails:
                raise FailedPrecondition(f"{index} fails")
            return sequence

        try:
            sequence = await store.write(work)
        except FailedPrecondition:
            return None
        committed.append(sequence)
        # What is acknowledged is what a new reader sees.
        seen = await store.read(lambda reader: reader.last_sequence())
        assert seen >= sequence
        return sequence

    outcomes = await asyncio.gather(*(one(index, fails) for index, fails in enumerate(fates)))

    successes = fates.count(False)
    assert [outcome is None for outcome in outcomes] == fates
    # The numbers are those of the commits, without a gap.
    assert sorted(committed) == list(range(1, successes + 1))
    assert committed == sorted(committed)
    events = await store.read(lambda reader: reader.events(0, 5000))
    assert [each.sequence for each in events] == list(range(1, successes + 1))
    by_sequence = {outcome: index for index, outcome in enumerate(outcomes) if outcome is not None}
    assert [each.subject for each in events] == [f"s{by_sequence[each.sequence]}" for each in events]
    names = {each.app_id for each in await store.read(lambda reader: reader.all(ProvisioningSession))}
    assert names == {str(index) for index, fails in enumerate(fates) if not fails}
    # Each job saw the work of all before it, and of none that failed.
    totals = await store.read(lambda reader: reader.connection.execute(select(ledger.c.bytes)).scalars().all())
    assert sorted(totals) == list(range(successes))
    assert store.sequence == successes


async def test_a_reader_sees_one_commit(store: Store) -> None:
    await store.write(lambda tx: tx.insert(session("a"), "s1"))
    loop = asyncio.get_running_loop()
    begun, go_on = asyncio.Event(), asyncio.Event()

    def look(reader: Reader) -> tuple[str, str]:
        before = reader.require(ProvisioningSession, "s1").app_id
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(timeout=10)
        return before, reader.require(ProvisioningSession, "s1").app_id

    # On a thread of its own: it waits for what the event loop does meanwhile.
    reading = asyncio.create_task(asyncio.to_thread(store._read, look))
    await begun.wait()
    await store.write(lambda tx: tx.update(session("b"), "s1"))
    go_on.set()
    assert await reading == ("a", "a")
    assert (await store.read(lambda reader: reader.require(ProvisioningSession, "s1"))).app_id == "b"


async def test_a_reader_cannot_write(store: Store) -> None:
    with pytest.raises(Exception, match=r"readonly|read-only"):
        await store.read(lambda reader: reader.connection.execute(insert(ledger).values(who="x", bytes=1)))


async def test_cursors_start_at_zero_and_stay_where_they_are_set(store: Store) -> None:
    assert await store.read(lambda reader: reader.cursor("pcf")) == 0
    await store.write(lambda tx: tx.set_cursor("pcf", 5))
    await store.write(lambda tx: tx.set_cursor("pcf", 9))
    assert await store.read(lambda reader: (reader.cursor("pcf"), reader.cursor("smf"))) == (9, 0)


async def test_due_resources_come_in_the_order_of_their_times(store: Store) -> None:
    def make(tx: Transaction) -> None:
        for minutes in (30, 10, 20):
            tx.insert(session(str(minutes)), f"s{minutes}", due=START + timedelta(minutes=minutes))
        tx.insert(session("never"), "never")

    await store.write(make)
    now = START + timedelta(minutes=20)
    due = await store.read(lambda reader: reader.due(ProvisioningSession, now))
    assert [(each.name, each.message.app_id) for each in due] == [("s10", "10"), ("s20", "20")]
    assert due[0].due == START + timedelta(minutes=10)
    assert await store.read(lambda r: r.next_due(ProvisioningSession, now)) == START + timedelta(minutes=30)
    await store.write(lambda tx: tx.update(session("10"), "s10"))
    await store.write(lambda tx: tx.update(session("20"), "s20", due=None))
    await store.write(lambda tx: tx.update(session("30"), "s30", due=now))
    due = await store.read(lambda reader: reader.due(ProvisioningSession, now))
    assert [each.name for each in due] == ["s10", "s30"]


async def test_a_repeated_request_is_answered_with_what_it_made(store: Store) -> None:
    made: list[str] = []

    def create(name: str, request: ProvisioningSession) -> ProvisioningSession:
        made.append(name)
        return ProvisioningSession(provisioning_session_id=name, app_id=request.app_id)

    async def ask(request_id: str, request: ProvisioningSession, name: str) -> str:
        answer = await store.write(lambda tx: tx.once(request_id, "Create", request, lambda: create(name, request)))
        return answer.provisioning_session_id

    assert await ask("r1", session("a"), "one") == "one"
    assert await ask("r1", session("a"), "two") == "one"
    with pytest.raises(RequestIdReused, match="request_id 'r1' was used for another content") as caught:
        await ask("r1", session("b"), "three")
    assert (caught.value.code, caught.value.reason) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
    with pytest.raises(InvalidArgument, match="request_id: expected at most 128 characters, found 129"):
        await ask("r" * 129, session("a"), "nothing")
    assert await ask("", session("a"), "four") == "four"
    assert await ask("", session("a"), "five") == "five"
    await store.write(lambda tx: tx.forget("r1", "Create"))
    assert await ask("r1", session("b"), "six") == "six"
    assert made == ["one", "four", "five", "six"]


async def test_a_repeat_may_be_answered_otherwise_than_the_first_time(store: Store) -> None:
    def ask(transaction: Transaction) -> str:
        return transaction.once("r1", "Create", session("a"), lambda: session("first")).app_id

    assert await store.write(ask) == "first"
    await store.write(lambda tx: tx.answer_otherwise("r1", "Create", session("later")))
    assert await store.write(ask) == "later"
    await store.write(lambda tx: tx.answer_otherwise("", "Create", session("nobody's")))
    assert await store.write(ask) == "later"


async def test_what_is_known_by_heart_is_what_was_committed(store: Store) -> None:
    async def seen() -> tuple[str, list[str], list[str]]:
        def look(reader: Reader) -> tuple[str, list[str], list[str]]:
            one = reader.get(ProvisioningSession, "s1")
            every = [each.app_id for each in reader.all(ProvisioningSession)]
            return (
                one.app_id if one else "",
                every,
                [each.app_id for each in reader.find(ProvisioningSession, "f", "v")],
            )

        # What a transaction sees is the same.
        assert await store.write(look) == await store.read(look)
        return await store.read(look)

    def fails(transaction: Transaction) -> None:
        transaction.update(session("lost"), "s1")
        transaction.insert(session("lost"), "s3", lookups={"f": "v"})
        assert [each.app_id for each in transaction.find(ProvisioningSession, "f", "v")] == ["b", "lost"]
        assert transaction.require(ProvisioningSession, "s1").app_id == "lost"
        raise InvalidArgument("no")

    assert await seen() == ("", [], [])
    await store.write(lambda tx: tx.insert(session("a"), "s1"))
    assert await seen() == ("a", ["a"], [])
    await store.write(lambda tx: tx.insert(session("b"), "s2", lookups={"f": "v"}), apart=True)
    assert await seen() == ("a", ["a", "b"], ["b"])
    with pytest.raises(InvalidArgument, match="no"):
        await store.write(fails)
    assert await seen() == ("a", ["a", "b"], ["b"])
    # In one group: the first is undone alone.
    done = await asyncio.gather(
        store.write(fails), store.write(lambda tx: tx.update(session("c"), "s1")), return_exceptions=True
    )
    assert isinstance(done[0], InvalidArgument)
    assert await seen() == ("c", ["c", "b"], ["b"])
    await store.write(lambda tx: tx.update(session("d"), "s1", lookups={"f": "v"}), apart=True)
    assert await seen() == ("d", ["d", "b"], ["d", "b"])
    await store.write(lambda tx: tx.delete(ProvisioningSession, "s1"))
    assert await seen() == ("", ["b"], ["b"])


async def test_answers_to_requests_are_kept_for_a_day(store_url: str) -> None:
    clock = ManualClock(START)
    store = Store.open(store_url, clock=clock)

    async def ask(request_id: str, app_id: str) -> str:
        answer = await store.write(lambda tx: tx.once(request_id, "Create", session("a"), lambda: session(app_id)))
        return answer.app_id

    async def kept() -> int:
        return await store.read(
            lambda reader: reader.connection.execute(select(func.count()).select_from(requests)).scalar_one()
        )

    for number in range(10):
        await ask(f"r{number}", "first")
    clock.advance(timedelta(days=1))
    assert await ask("r0", "again") == "first"
    clock.advance(timedelta(microseconds=1))
    assert await ask("r0", "again") == "again"
    # What is too old for an answer is removed within a minute.
    clock.advance(timedelta(minutes=1))
    assert await ask("r0", "once more") == "again"
    assert await kept() == 1
    await store.close()


async def test_everything_is_there_when_the_store_is_opened_again(store_url: str) -> None:
    first = Store.open(store_url, clock=ManualClock(START))
    await first.write(lambda tx: (tx.insert(session("a"), "s1"), tx.emit("MADE", "s1", Volume(), source="pcf")))
    await first.close()
    second = Store.open(store_url, clock=ManualClock(START), tables=[ledger])
    assert second.instance_id == first.instance_id
    assert second.sequence == 1
    assert (await second.read(lambda reader: reader.require(ProvisioningSession, "s1"))).app_id == "a"
    assert await second.write(lambda tx: tx.emit("MADE", "s2", Volume(), source="pcf")) == 2
    await second.close()


async def test_the_sequence_goes_on_when_the_store_is_opened_again_and_no_event_is_kept(store_url: str) -> None:
    def emit(tx: Transaction) -> int:
        return tx.emit("MADE", "s1", Volume(), source="pcf")

    first = Store.open(store_url, clock=ManualClock(START))
    assert [await first.write(emit) for _ in range(3)] == [1, 2, 3]
    assert await first.write(lambda tx: (emit(tx), tx.prune_events(3))) == (4, 3)
    assert await first.write(lambda tx: tx.prune_events(4)) == 1
    assert await first.read(lambda reader: (reader.first_sequence(), reader.last_sequence())) == (5, 4)
    await first.close()
    second = Store.open(store_url, clock=ManualClock(START))
    assert second.sequence == 4
    assert await second.write(emit) == 5
    await second.close()


# As they were made at first.
_EARLIER_TABLES = """
CREATE TABLE counters (name VARCHAR NOT NULL, value BIGINT NOT NULL, PRIMARY KEY (name));
CREATE TABLE events (sequence BIGINT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (sequence));
CREATE TABLE lookups (
    kind VARCHAR NOT NULL, name VARCHAR NOT NULL, field VARCHAR NOT NULL, value VARCHAR NOT NULL,
    PRIMARY KEY (kind, name, field)
);
CREATE TABLE resources (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, kind VARCHAR NOT NULL, name VARCHAR NOT NULL,
    parent VARCHAR NOT NULL, etag VARCHAR NOT NULL, due_ns BIGINT, body BLOB NOT NULL, UNIQUE (kind, name)
);
CREATE INDEX resources_by_due ON resources (kind, due_ns);
INSERT INTO counters VALUES ('events', 2), ('commits', 0);
"""


async def test_a_database_that_an_earlier_version_has_made_goes_on_with_its_tables(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "af.sqlite3")) as earlier:
        earlier.executescript(_EARLIER_TABLES)

    def write(tx: Transaction) -> None:
        tx.insert(session("a"), "s1", lookups={"app_id": "a"}, due=START)
        tx.emit("made", "s1", session(), source="af")

    store = Store.open(url_for(tmp_path, "af"), clock=ManualClock(START))
    await store.write(write)
    assert await store.read(lambda reader: [each.sequence for each in reader.events(0)]) == [3]
    assert await store.read(lambda reader: [each.name for each in reader.due(ProvisioningSession, START)]) == ["s1"]
    assert await store.read(lambda reader: reader.count(ProvisioningSession, "app_id", "a")) == 1
    assert await store.write(lambda tx: tx.delete(ProvisioningSession, "s1"))
    assert await store.read(lambda reader: reader.count(ProvisioningSession, "app_id", "a")) == 0
    await store.close()


async def test_two_processes_do_not_share_what_one_has_for_itself(store: Store, store_url: str) -> None:
    with pytest.raises(
        FailedPrecondition, match=r"(store\.sqlite3|schema test_\d+ of database .*) is in use by another"
    ):
        Store.open(store_url, clock=ManualClock(START))


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://", "sqlite:///:memory:", "nonsense"])
def test_a_url_that_is_of_no_known_database_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgument, match="store: expected"):
        Store.open(url, clock=ManualClock(START))


async def test_a_closed_store_says_so_to_callers_and_waiters(store_url: str) -> None:
    opened = Store.open(store_url, clock=ManualClock(START))
    waiting = asyncio.create_task(opened.wait_sequence(0))
    accepted = [asyncio.create_task(opened.write(lambda tx, i=i: tx.insert(session(), f"s{i}"))) for i in range(20)]
    await asyncio.sleep(0)
    await opened.close()
    await opened.close()
    assert len(await asyncio.gather(*accepted)) == 20
    with pytest.raises(Unavailable, match="closed"):
        await waiting
    with pytest.raises(Unavailable, match="closed"):
        await opened.write(lambda tx: None)


async def test_a_caller_that_is_cancelled_leaves_the_write_to_happen(store: Store) -> None:
    writing = asyncio.create_task(store.write(lambda tx: tx.insert(session(), "s1")))
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await store.write(lambda tx: None)
    assert await store.read(lambda reader: reader.get(ProvisioningSession, "s1")) is not None


async def test_a_group_that_cannot_be_committed_is_refused_whole_and_the_next_one_works(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(session: Session, group: Group) -> News:
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(store._database, "commit", fail)
        outcomes = await asyncio.gather(
            *(store.write(lambda tx, name=name: tx.insert(session(), name)) for name in "ab"), return_exceptions=True
        )
    assert [type(each) for each in outcomes] == [Unavailable, Unavailable]
    assert "disk full" in str(outcomes[0])
    assert await store.read(lambda reader: reader.all(ProvisioningSession)) == []
    await store.write(lambda tx: tx.insert(session(), "a"))
    assert len(await store.read(lambda reader: reader.all(ProvisioningSession))) == 1


async def test_a_job_that_fails_alone_leaves_nothing_and_the_next_one_works(store: Store) -> None:
    def fail(tx: Transaction) -> None:
        tx.insert(session(), "a")
        tx.emit("MADE", "a", Volume(), source="af")
        raise NotFound("what it needed")

    with pytest.raises(NotFound, match="what it needed"):
        await store.write(fail)
    await store.write(lambda tx: (tx.insert(session(), "b"), tx.emit("MADE", "b", Volume(), source="af")))
    assert await store.read(lambda reader: reader.get(ProvisioningSession, "a")) is None
    events = await store.read(lambda reader: reader.events(0))
    assert [(each.sequence, each.subject) for each in events] == [(1, "b")]


async def test_a_statement_that_fails_leaves_the_other_jobs_of_its_group_alone(store: Store) -> None:
    await store.write(lambda tx: tx.connection.execute(insert(ledger).values(who="known", bytes=1)))

    def collide(tx: Transaction) -> None:
        tx.connection.execute(insert(ledger).values(who="known", bytes=2))

    jobs = [store.write(lambda tx, name=name: tx.insert(session(), name)) for name in "ab"]
    outcomes = await asyncio.gather(jobs[0], store.write(collide), jobs[1], return_exceptions=True)
    assert [isinstance(each, Exception) for each in outcomes] == [False, True, False]
    assert len(await store.read(lambda reader: reader.all(ProvisioningSession))) == 2


async def test_the_generation_rises_with_every_commit(store: Store) -> None:
    before = store.generation
    await store.write(lambda tx: tx.insert(session(), "a"))
    assert store.generation == before + 1
    with pytest.raises(AlreadyExists):
        await store.write(lambda tx: tx.insert(session(), "a"))
    assert store.generation == before + 1


async def test_a_due_time_beyond_what_a_database_counts_is_kept_as_the_last_one_that_it_does(store: Store) -> None:
    far = datetime(2999, 1, 1, tzinfo=UTC)
    await store.write(lambda tx: tx.insert(session("far"), "far", due=far))
    assert await store.read(lambda reader: reader.due(ProvisioningSession, datetime(2262, 1, 1, tzinfo=UTC))) == []
    found = await store.read(lambda reader: reader.next_due(ProvisioningSession, START))
    assert found is not None
    assert found.year == 2262


async def test_a_due_time_wakes_only_who_waits_for_a_later_one(store: Store) -> None:
    noon = START + timedelta(hours=12)
    generation = store.due_generation
    anyone = asyncio.create_task(store.wait_due(generation))
    at_noon = asyncio.create_task(store.wait_due(generation, noon))
    await asyncio.sleep(0)
    await store.write(lambda tx: tx.insert(session(), "late", due=noon + timedelta(hours=1)))
    await anyone
    assert not at_noon.done()
    await store.write(lambda tx: tx.insert(session(), "early", due=noon - timedelta(hours=1)))
    await at_noon


async def test_what_is_exclusive_is_so_by_name(store: Store) -> None:
    order: list[str] = []

    async def work(name: str, tag: str, entered: asyncio.Event, go_on: asyncio.Event) -> None:
        async with store.exclusive(name):
            order.append(tag)
            entered.set()
            await go_on.wait()

    events = [asyncio.Event() for _ in range(6)]
    first = asyncio.create_task(work("a", "first", events[0], events[1]))
    await events[0].wait()
    second = asyncio.create_task(work("a", "second", events[2], events[3]))
    other = asyncio.create_task(work("b", "other", events[4], events[5]))
    await events[4].wait()
    assert order == ["first", "other"]
    for event in events:
        event.set()
    await asyncio.gather(first, second, other)
    assert order == ["first", "other", "second"]


async def test_a_read_of_many_rows_answers_as_one_of_few_does(store: Store) -> None:
    def make(tx: Transaction) -> None:
        for index in range(100):
            tx.insert(session(str(index)), f"s{index}", lookups={"kind": "many"})

    await store.write(make)
    expected = [str(index) for index in range(100)]
    assert [each.app_id for each in await store.read(lambda reader: reader.all(ProvisioningSession))] == expected
    found = await store.read(lambda reader: reader.find(ProvisioningSession, "kind", "many"))
    assert [each.app_id for each in found] == expected
    page = await store.read(lambda reader: reader.list(ProvisioningSession, page_size=20))
    assert [each.app_id for each in page.items] == expected[:20]


async def test_writes_are_done_in_their_order_wherever_they_run(store: Store) -> None:
    chance = random.Random(11)
    writes = [
        store.write(
            lambda tx, name=f"s{index}": tx.emit("MADE", name, Volume(), source="af"), apart=chance.random() < 0.3
        )
        for index in range(200)
    ]
    assert await asyncio.gather(*writes) == list(range(1, 201))
    events = await store.read(lambda reader: reader.events(0))
    assert [each.subject for each in events] == [f"s{index}" for index in range(200)]


async def test_patient_writes_that_come_in_a_crowd_share_commits_and_one_that_is_not_takes_them_along(
    store: Store,
) -> None:
    await asyncio.gather(*(store.write(partial(_insert, f"first {each}"), patient=True) for each in range(8)))
    generation = store.generation
    waiting = [asyncio.create_task(store.write(partial(_insert, f"then {each}"), patient=True)) for each in range(3)]
    await asyncio.sleep(0)
    await store.write(partial(_insert, "last"))
    await asyncio.gather(*waiting)
    assert generation < store.generation <= generation + 4
    assert len(await store.read(lambda reader: reader.all(ProvisioningSession))) == 12


async def test_a_patient_write_in_a_crowd_is_committed_though_nothing_follows(store: Store) -> None:
    async with asyncio.timeout(30):
        for each in range(8):
            await store.write(partial(_insert, f"s{each}"), patient=True)
    assert len(await store.read(lambda reader: reader.all(ProvisioningSession))) == 8


def _insert(name: str, transaction: Transaction) -> ProvisioningSession:
    return transaction.insert(session("app"), name)
