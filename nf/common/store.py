"""A function's state: resources as proto messages, events in commit order, one writer thread with group commit.

``write`` returns after the commit: what was acknowledged survives ``kill -9``, and a power cut where that is asked for.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import datetime
from functools import partial
from typing import NamedTuple, Self, TypeVar, cast

from sqlalchemy import Table, insert, select

from nf.common.background import Background
from nf.common.clock import Clock, SystemClock, from_ns, to_ns
from nf.common.database import LAST_COMMIT, LAST_SEQUENCE, Database, Durability, News, make
from nf.common.dialect import insert_if_absent, open_database, url_for
from nf.common.duty import Duty
from nf.common.errors import CastcoreError, FailedPrecondition, Unavailable
from nf.common.known import Known
from nf.common.reader import Due, Page, Reader
from nf.common.resources import new_id
from nf.common.schema import COMMIT_COUNTER, EVENT_COUNTER, VERSION, counters, metadata, properties
from nf.common.statements import Session, Statement, TooLong
from nf.common.transaction import KEEP, Keep, RequestIdReused, Transaction
from nf.common.writer import Job, Writer

__all__ = ["KEEP", "Due", "DueNews", "Keep", "Page", "Reader", "RequestIdReused", "Store", "Transaction", "url_for"]

T = TypeVar("T")

_READERS = 4
_PROPERTIES = Statement(select(properties.c.name, properties.c.value))
_INSERT_PROPERTY = Statement(insert(properties))
_INSERT_COUNTER = Statement(insert_if_absent(counters))


class DueNews(NamedTuple):
    """A due time may have been set; which is the earliest, where that is known, and the generation that had it."""

    generation: int
    earliest: datetime | None


class Store:
    """One function's database. Belongs to one event loop; open it with ``Store.open``, end it with ``close``.

    ``alone``: no other process had the database when it was opened, so what was under way in it is nobody's.
    ``opened`` is when that was.
    """

    def __init__(self, database: Database, clock: Clock, instance_id: str, known: News, lease_clock: Clock) -> None:
        self.clock = clock
        self.instance_id = instance_id
        self.name = database.name
        self.alone = database.alone
        self.opened = clock.now()
        self.sequence = known.sequence
        # Rises with every commit of the database, of this process or another; of others as soon as it is known.
        self.generation = known.generation
        self._database = database
        self._brief = database.brief_reader() if database.brief else None
        self._sessions: set[Session] = {self._brief} if self._brief is not None else set()
        self._local = threading.local()
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="store-reader")
        self._known = Known() if self._brief is not None and not database.shared else None
        self._writer = Writer(instance_id[:8], database, clock, self._note, self._known)
        self._closed = False
        self._sequence_waiters: set[asyncio.Future[None]] = set()
        self._due_generation = 0
        self._due_waiters: dict[asyncio.Future[DueNews], int | None] = {}
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._duty = Duty(self, lease_clock) if database.shared else None
        self._following = Background("store: commits of others")

    @classmethod
    def open(
        cls,
        url: str,
        *,
        clock: Clock,
        tables: Sequence[Table] = (),
        durability: Durability = "process",
        shared: bool = False,
        lease_clock: Clock | None = None,
    ) -> Self:
        """Opens the database of ``url`` (``url_for``), making what is missing, ``tables`` of the function included.

        ``shared``: other processes may have it too, if it is one of PostgreSQL; ``lease_clock`` is then what their
        leases go by. Raises InvalidArgument for a URL it does not know, FailedPrecondition for a database that another
        process has or that was written by another version, Unavailable when there is no server.
        """
        database = open_database(url, durability, shared=shared)
        known: dict[str, str] = {}
        counted: list[int] = []

        def set_up(session: Session) -> None:
            make(session, [*metadata.sorted_tables, *tables])
            known.update((name, value) for name, value in session.rows(_PROPERTIES, {}))
            if not known:
                known.update({"schema_version": VERSION, "instance_id": new_id()})
                session.change_all(_INSERT_PROPERTY, [{"name": n, "value": v} for n, v in known.items()])
            for counter in (EVENT_COUNTER, COMMIT_COUNTER):
                session.change(_INSERT_COUNTER, {"name": counter, "value": 0})
            counted.extend((session.value(LAST_SEQUENCE, {}), session.value(LAST_COMMIT, {})))

        try:
            database.set_up(set_up)
            if known["schema_version"] != VERSION:
                raise FailedPrecondition(
                    f"store: {database.name} has schema version {known['schema_version']}, expected {VERSION}"
                )
        except BaseException:
            database.close()
            raise
        news = News(counted[0], counted[1], None)
        store = cls(database, clock, known["instance_id"], news, lease_clock or SystemClock())
        store._writer.start()
        if database.shared:
            store._following.begin(store._follow)
        return store

    async def write(self, work: Callable[[Transaction], T], *, apart: bool = False, patient: bool = False) -> T:
        """Runs ``work`` in a transaction, after those before it, and returns its result once that is committed.

        On SQLite it runs in the event loop, unless it is told to run ``apart``, on the writer's thread: what takes more
        than some milliseconds should. On PostgreSQL it always does. ``patient``: the commit may wait some milliseconds
        for other writes to share it, as is right for one of very many.

        An exception of ``work`` undoes all it has done and is raised here. Raises Unavailable when the store is closed
        or cannot commit (a connection that is lost during a commit leaves it open whether it has), InvalidArgument for
        what the database cannot keep. A caller that is cancelled leaves the write to happen.
        """
        self._check_open()
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._writer.submit(Job(work, contextvars.copy_context(), future), apart=apart, patient=patient)
        return cast(T, await future)

    async def read(self, work: Callable[[Reader], T]) -> T:
        """Runs ``work``, which may do nothing but read; it sees one commit, the last one or a later.

        On SQLite it runs in the event loop, and once more from its beginning on another thread when it asks for many
        rows. Raises Unavailable when the store is closed or its database is away.
        """
        self._check_open()
        if self._brief is not None:
            try:
                if self._known is None or self._writer.is_apart:
                    return self._read_with(self._brief, work)
                # Nobody else writes, and nothing is written before this is over: each statement sees the same commit.
                return work(Reader(self._brief, self.clock, self._known))
            except TooLong:
                pass
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._readers, context.run, self._read, work)

    def exclusive(self, name: str) -> AbstractAsyncContextManager[None]:
        """Keeps out, as long as it is open, whoever else asks for the same name: in this process or another.

        A process that dies lets go. Raises Unavailable when the database is away.
        """
        lock = self._locks.setdefault(name, asyncio.Lock())
        return self._exclusive(name, lock) if self._database.shared else lock

    @asynccontextmanager
    async def _exclusive(self, name: str, lock: asyncio.Lock) -> AsyncIterator[None]:
        async with lock, self._database.exclusive(name):
            yield

    @property
    def is_on_duty(self) -> bool:
        """Whether this process does the background work of the database now."""
        return self._duty is None or self._duty.is_on

    async def on_duty(self) -> None:
        """Returns when this process is the one that does the background work of the database.

        A process may lose the duty without having noticed, for as long as its clock goes wrong or it was stopped: the
        work has to be harmless when two do it. Raises Unavailable at the close.
        """
        self._check_open()
        if self._duty is not None and not self._duty.is_on:
            await self._duty.wait()

    async def wait_sequence(self, after: int, until: asyncio.Future[T] | None = None) -> None:
        """Returns when an event with a higher sequence than ``after`` is committed, or ``until`` is done.

        Raises Unavailable at the close.
        """
        while self.sequence <= after and (until is None or not until.done()):
            self._check_open()
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._sequence_waiters.add(waiter)
            wake = partial(_wake, waiter)
            if until is not None:
                until.add_done_callback(wake)
            try:
                await waiter
            finally:
                self._sequence_waiters.discard(waiter)
                if until is not None:
                    until.remove_done_callback(wake)

    @property
    def due_generation(self) -> int:
        """Rises with every commit that may have set a due time."""
        return self._due_generation

    async def wait_due(self, generation: int, before: datetime | None = None) -> DueNews:
        """Returns when a due time earlier than ``before`` (None: any) may have been set since ``due_generation``.

        Raises Unavailable at the close.
        """
        self._check_open()
        if self._due_generation != generation:
            return DueNews(self._due_generation, None)
        waiter: asyncio.Future[DueNews] = asyncio.get_running_loop().create_future()
        self._due_waiters[waiter] = None if before is None else to_ns(before)
        try:
            news = await waiter
        finally:
            self._due_waiters.pop(waiter, None)
        self._check_open()
        return news

    async def close(self) -> None:
        """Ends the store when everything that was submitted is committed; waiters are woken and told."""
        if self._closed:
            return
        if self._duty is not None:
            # Where the database is away, the lease expires.
            with suppress(CastcoreError):
                await self._duty.end()
        self._closed = True
        self._wake_sequence_waiters()
        for waiter in self._due_waiters:
            if not waiter.done():
                waiter.set_result(DueNews(self._due_generation, None))
        if self._duty is not None:
            self._duty.fail(_closed)
        await self._following.end()
        self._writer.flush()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._writer.stop)
        await loop.run_in_executor(None, self._readers.shutdown)
        for session in self._sessions:
            session.close()
        await loop.run_in_executor(None, self._database.close)

    def _read(self, work: Callable[[Reader], T]) -> T:
        try:
            return self._read_once(work)
        except _Lost:
            # Nothing can have come of it, and there may be a server again.
            try:
                return self._read_once(work)
            except _Lost as lost:
                raise Unavailable(f"store: {self.name}: the connection was lost") from lost

    def _read_once(self, work: Callable[[Reader], T]) -> T:
        session: Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = self._database.reader()
            self._sessions.add(session)
        try:
            return self._read_with(session, work)
        except BaseException as error:
            if self._database.is_lost(session):
                self._local.session = None
                self._sessions.discard(session)
                session.close()
                raise _Lost from error
            explained = self._database.explain(error)
            if explained is None:
                raise
            raise explained from error

    def _read_with(self, session: Session, work: Callable[[Reader], T]) -> T:
        self._database.begin_read(session)
        try:
            return work(Reader(session, self.clock))
        finally:
            if not self._database.is_lost(session):
                session.end("COMMIT")

    async def _follow(self) -> None:
        look = asyncio.Event()

        async def look_for_ever() -> None:
            while True:
                await look.wait()
                look.clear()
                try:
                    await self._look()
                except CastcoreError:
                    # The database is away; whoever follows tells so.
                    continue

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(look_for_ever())
            tasks.create_task(self._database.follow(self._note, look.set))

    async def _look(self) -> None:
        """Finds out by itself what others have committed."""
        sequence, generation = await self.read(
            lambda reader: (reader.last_sequence(), int(reader.value(LAST_COMMIT, {})))
        )
        if generation > self.generation:
            self._note(News(sequence, generation, 0))

    def _check_open(self) -> None:
        if self._closed:
            raise _closed()

    def _note(self, news: News) -> None:
        if news.generation <= self.generation:
            return
        missed = news.generation > self.generation + 1
        self.generation = news.generation
        if news.sequence > self.sequence:
            self.sequence = news.sequence
            self._wake_sequence_waiters()
        earliest_due_ns = 0 if missed else news.earliest_due_ns
        if earliest_due_ns is not None:
            self._due_generation += 1
            for waiter, before_ns in list(self._due_waiters.items()):
                if (before_ns is None or earliest_due_ns < before_ns) and not waiter.done():
                    known = from_ns(earliest_due_ns) if earliest_due_ns else None
                    waiter.set_result(DueNews(self._due_generation, known))

    def _wake_sequence_waiters(self) -> None:
        for waiter in self._sequence_waiters:
            _wake(waiter)
        self._sequence_waiters.clear()


def _wake(waiter: asyncio.Future[None], _: object = None) -> None:
    if not waiter.done():
        waiter.set_result(None)


class _Lost(Exception):
    """The connection of a reader was lost."""


def _closed() -> Unavailable:
    return Unavailable("store: closed")
