"""A function's state: resources as proto messages, events in commit order, one writer thread with group commit.

``write`` returns after the commit: what was acknowledged survives ``kill -9``, and a power cut where that is asked for.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypeVar, cast

from sqlalchemy import Table, insert, select

from nf.common.clock import Clock
from nf.common.dialect import Database, Durability, open_database, url_for
from nf.common.errors import FailedPrecondition, Unavailable
from nf.common.resources import new_id
from nf.common.schema import VERSION, counters, metadata, properties
from nf.common.transaction import EVENT_COUNTER, KEEP, Due, Keep, Page, Reader, RequestIdReused, Transaction
from nf.common.writer import Committed, Job, Writer

__all__ = ["KEEP", "Due", "Keep", "Page", "Reader", "RequestIdReused", "Store", "Transaction", "url_for"]

T = TypeVar("T")

_READERS = 4


class Store:
    """One function's database. Belongs to one event loop; open it with ``Store.open``, end it with ``close``."""

    def __init__(self, database: Database, clock: Clock, instance_id: str, sequence: int) -> None:
        self.clock = clock
        self.instance_id = instance_id
        self.sequence = sequence
        self._database = database
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="store-reader")
        self._writer = Writer(instance_id[:8], database.writer, clock, self._note)
        self._closed = False
        self._sequence_waiters: set[asyncio.Future[None]] = set()
        self._due_generation = 0
        self._due_waiters: set[asyncio.Future[None]] = set()

    @classmethod
    def open(cls, url: str, *, clock: Clock, tables: Sequence[Table] = (), durability: Durability = "process") -> Self:
        """Opens the database of ``url`` (``url_for``), making what is missing, ``tables`` of the function included.

        Raises InvalidArgument for a URL it does not know, FailedPrecondition for a file that another process has open
        or that was written by another version.
        """
        database = open_database(url, _READERS, durability)
        try:
            with database.writer.begin() as connection:
                metadata.create_all(connection)
                for table in tables:
                    table.create(connection, checkfirst=True)
                rows = connection.execute(select(properties.c.name, properties.c.value)).all()
                known = {name: value for name, value in rows}  # noqa: C416 (rows are no pairs to a type checker)
                if not known:
                    known = {"schema_version": VERSION, "instance_id": new_id()}
                    connection.execute(insert(properties), [{"name": n, "value": v} for n, v in known.items()])
                    connection.execute(insert(counters), {"name": EVENT_COUNTER, "value": 0})
                sequence = Reader(connection, clock).last_sequence()
            if known["schema_version"] != VERSION:
                raise FailedPrecondition(
                    f"store: {url} has schema version {known['schema_version']}, expected {VERSION}"
                )
        except BaseException:
            database.close()
            raise
        store = cls(database, clock, known["instance_id"], sequence)
        store._writer.start()
        return store

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Runs ``work`` on the writer thread in a transaction and returns its result once that is committed.

        An exception of ``work`` undoes all it has done and is raised here. Raises Unavailable when the store is closed
        or cannot commit. A caller that is cancelled leaves the write to happen.
        """
        self._check_open()
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._writer.submit(Job(work, contextvars.copy_context(), future))
        return cast(T, await future)

    async def read(self, work: Callable[[Reader], T]) -> T:
        """Runs ``work`` on a reader thread; it sees one commit, the last one or a later."""
        self._check_open()
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._readers, context.run, self._read, work)

    async def wait_sequence(self, after: int) -> None:
        """Returns when an event with a higher sequence than ``after`` is committed; raises Unavailable at the close."""
        while self.sequence <= after:
            self._check_open()
            await self._wait(self._sequence_waiters)

    @property
    def due_generation(self) -> int:
        """Rises with every commit that may have changed a due time."""
        return self._due_generation

    async def wait_due(self, generation: int) -> None:
        """Returns when ``due_generation`` is no longer ``generation``; raises Unavailable at the close."""
        while self._due_generation == generation:
            self._check_open()
            await self._wait(self._due_waiters)

    async def close(self) -> None:
        """Ends the store when everything that was submitted is committed; waiters are woken and told."""
        if self._closed:
            return
        self._closed = True
        self._wake(self._sequence_waiters)
        self._wake(self._due_waiters)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._writer.stop)
        await loop.run_in_executor(None, self._readers.shutdown)
        self._database.close()

    def _read(self, work: Callable[[Reader], T]) -> T:
        with self._database.reader.begin() as connection:
            return work(Reader(connection, self.clock))

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("store: closed")

    def _note(self, committed: Committed) -> None:
        if committed.sequence > self.sequence:
            self.sequence = committed.sequence
            self._wake(self._sequence_waiters)
        if committed.due_changed:
            self._due_generation += 1
            self._wake(self._due_waiters)

    @staticmethod
    def _wake(waiters: set[asyncio.Future[None]]) -> None:
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        waiters.clear()

    @staticmethod
    async def _wait(waiters: set[asyncio.Future[None]]) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters.add(waiter)
        try:
            await waiter
        finally:
            waiters.discard(waiter)
