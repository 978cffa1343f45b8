"""The store on SQLite: one file per function, which one process has at a time."""

from __future__ import annotations

import fcntl
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from io import TextIOWrapper
from pathlib import Path
from sqlite3 import Connection as SqliteConnection
from typing import Final, cast

from sqlalchemy import URL, Engine, NullPool, create_engine, event
from sqlalchemy.pool import ConnectionPoolEntry

from nf.common.database import INSERT_EVENTS, LAST_SEQUENCE, Database, Durability, Group, News
from nf.common.errors import FailedPrecondition
from nf.common.statements import BriefSession, Session

_BUSY_TIMEOUT_MS = 5000
# What an index has of pages at its ends, which are written again and again, stays at hand.
_WRITER_CACHE_KIB: Final = 32_768
# So much gathers in the log before it is moved into the file: some megabytes, by the number of commits or of rows.
_CHECKPOINT_COMMITS: Final = 250
_CHECKPOINT_ROWS: Final = 16_384
# NORMAL hands each commit to the operating system, which outlives every process; FULL waits for the disk as well.
_SYNCHRONOUS: Final[dict[Durability, str]] = {"process": "NORMAL", "power": "FULL"}


class SqliteDatabase(Database):
    """A file in WAL mode. Raises FailedPrecondition when another process has it."""

    def __init__(self, url: URL, durability: Durability) -> None:
        assert url.database
        path = Path(url.database)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.name = str(path)
        self.alone, self.shared = True, False
        # Who waits for the disk does so on another thread.
        self.brief = durability == "process"
        self._lock = _lock(path)
        pragmas = {"synchronous": _SYNCHRONOUS[durability]}
        if self.brief:
            # Checkpoints wait for the disk: they are made apart from the commits.
            pragmas["wal_autocheckpoint"] = "0"
        self._writer = _engine(url, pragmas | {"cache_size": f"-{_WRITER_CACHE_KIB}"})
        self._reader = _engine(url, pragmas | {"query_only": "ON"})
        self._generation = 0
        # Of the last event: nobody else writes any.
        self._sequence: int | None = None
        self._checkpoints = ThreadPoolExecutor(1, thread_name_prefix="store-checkpoint") if self.brief else None
        self._checkpoint_at = _CHECKPOINT_COMMITS
        self._rows_at = _CHECKPOINT_ROWS

    def set_up(self, work: Callable[[Session], None]) -> None:
        """Runs ``work`` in a transaction."""
        session = self.writer()
        try:
            session.run("BEGIN IMMEDIATE")
            work(session)
            session.end("COMMIT")
        finally:
            session.close()

    def writer(self) -> Session:
        """A connection that writes."""
        return Session(self._writer.connect())

    def reader(self) -> Session:
        """A connection that cannot write."""
        return Session(self._reader.connect())

    def brief_reader(self) -> BriefSession:
        """A connection of the event loop's own that cannot write."""
        return BriefSession(self._reader.connect())

    def begin_write(self, session: Session) -> int:
        """Begins to write: the sequence of the last event."""
        session.run("BEGIN IMMEDIATE")
        if self._sequence is None:
            self._sequence = int(session.value(LAST_SEQUENCE, {}))
        return self._sequence

    def commit(self, session: Session, group: Group) -> News:
        """Writes the events and commits."""
        if group.events:
            session.change_all(INSERT_EVENTS, group.events)
        session.end("COMMIT")
        self._sequence = group.sequence
        # No other process counts: it need not be kept.
        self._generation += 1
        if self._checkpoints is not None:
            rows = cast(SqliteConnection, session.driver).total_changes
            if self._generation >= self._checkpoint_at or rows >= self._rows_at:
                self._checkpoint_at, self._rows_at = self._generation + _CHECKPOINT_COMMITS, rows + _CHECKPOINT_ROWS
                self._checkpoints.submit(self._checkpoint)
        return News(group.sequence, self._generation, group.earliest_due_ns)

    def begin_read(self, session: Session) -> None:
        """From here on the session sees one commit."""
        session.run("BEGIN")

    @asynccontextmanager
    async def exclusive(self, name: str) -> AsyncIterator[None]:
        """There are no other processes."""
        yield

    async def follow(self, told: Callable[[News], None], look: Callable[[], None]) -> None:
        """There are no other processes."""

    def is_lost(self, session: Session) -> bool:
        """A file is not lost."""
        return False

    def _checkpoint(self) -> None:
        """Moves what was committed into the database file, beside those who read and write."""
        session = self.writer()
        try:
            session.run("PRAGMA wal_checkpoint(PASSIVE)")
        finally:
            session.close()

    def close(self) -> None:
        """Lets go of the file."""
        if self._checkpoints is not None:
            self._checkpoints.shutdown()
        self._reader.dispose()
        self._writer.dispose()
        self._lock.close()


def _lock(path: Path) -> TextIOWrapper:
    """Keeps a second process off: two of them would both drive the same life cycles."""
    handle = path.with_name(path.name + ".lock").open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        raise FailedPrecondition(f"store: {path} is in use by another process") from error
    return handle


def _engine(url: URL, pragmas: Mapping[str, str]) -> Engine:
    # The store's threads hold one connection each, for as long as it lasts.
    engine = create_engine(url, poolclass=NullPool, connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def prepare(connection: SqliteConnection, _: ConnectionPoolEntry) -> None:
        # The module would begin transactions by its own rules; the store begins them.
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA foreign_keys = ON")
        for name, value in pragmas.items():
            connection.execute(f"PRAGMA {name} = {value}")

    return engine
