"""Everything about the store that only one database knows: SQLite's engines, pragmas and file lock."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from sqlite3 import Connection as SqliteConnection
from typing import Final, Literal, TypeAlias

from sqlalchemy import URL, Connection, Engine, Insert, Table, create_engine, event, make_url
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry

from nf.common.errors import FailedPrecondition, InvalidArgument

# What an acknowledged write survives: the end of any process however it comes, or the loss of power as well.
Durability: TypeAlias = Literal["process", "power"]

_BUSY_TIMEOUT_MS = 5000
# NORMAL hands each commit to the operating system, which outlives every process; FULL waits for the disk as well.
_SYNCHRONOUS: Final[dict[Durability, str]] = {"process": "NORMAL", "power": "FULL"}


@dataclass(frozen=True, slots=True)
class Database:
    """The engines of one database: one connection that writes, some that read the last commit."""

    writer: Engine
    reader: Engine
    close: Callable[[], None]


def url_for(directory: Path, function: str) -> str:
    """The URL of a function's own database file below ``directory``."""
    return URL.create("sqlite", database=str(directory / f"{function}.sqlite3")).render_as_string()


def insert_if_absent(table: Table) -> Insert:
    """INSERT that leaves a row with the same key alone (its rowcount is 0 then)."""
    return sqlite_insert(table).on_conflict_do_nothing()


def open_database(url: str, readers: int, durability: Durability) -> Database:
    """Opens (and makes) the database of ``url``, with at most ``readers`` connections that read.

    Raises InvalidArgument for a URL that is not sqlite:///FILE, FailedPrecondition when another process has the file.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InvalidArgument(f"store: expected a URL such as 'sqlite:///state/af.sqlite3', got {url!r}") from error
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        raise InvalidArgument(f"store: expected 'sqlite:///FILE', got {parsed.render_as_string()!r}")
    path = Path(parsed.database)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock(path)
    synchronous = _SYNCHRONOUS[durability]
    writer = _engine(parsed, begin="BEGIN IMMEDIATE", pool_size=1, query_only=False, synchronous=synchronous)
    reader = _engine(parsed, begin="BEGIN", pool_size=readers, query_only=True, synchronous=synchronous)

    def close() -> None:
        reader.dispose()
        writer.dispose()
        lock.close()

    return Database(writer, reader, close)


def _lock(path: Path) -> TextIOWrapper:
    """Keeps a second process off: two of them would both drive the same life cycles."""
    handle = path.with_name(path.name + ".lock").open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        raise FailedPrecondition(f"store: {path} is in use by another process") from error
    return handle


def _engine(url: URL, *, begin: str, pool_size: int, query_only: bool, synchronous: str) -> Engine:
    engine = create_engine(url, pool_size=pool_size, max_overflow=0, pool_reset_on_return=None)

    @event.listens_for(engine, "connect")
    def prepare(connection: SqliteConnection, _: ConnectionPoolEntry) -> None:
        # The module would begin transactions by its own rules; they are begun below instead.
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA foreign_keys = ON")
        if query_only:
            connection.execute("PRAGMA query_only = ON")

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
