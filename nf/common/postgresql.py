"""The store on PostgreSQL: a schema per function, which several processes may write, one commit after the other.

The writer locks the counters at the beginning of each group, so that the writers of all processes follow each other as
the jobs of one do. NOTIFY tells the others of a commit.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Final, cast

import psycopg
from psycopg import sql
from sqlalchemy import URL, Engine, NullPool, create_engine

from nf.common.database import INSERT_EVENTS, Database, Durability, Group, News, cause_of
from nf.common.errors import CastcoreError, FailedPrecondition, InvalidArgument, Unavailable
from nf.common.statements import Session
from nf.common.telemetry import logger

# How long a commit of another process may stay unknown when its notification has been lost.
POLL_S: Final = 1.0

_SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]{0,47}")
# A process that stops in the middle of a write, with the counters locked, holds up the others no longer than this.
_PATIENCE_MS: Final = 10_000
_PARAMETERS: Final = {
    "application_name": "castcore",
    "connect_timeout": "5",
    # A host that has gone without a word is noticed.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "2",
    "tcp_user_timeout": "20000",
}
# Of the server, for what it has on behalf of a host that has gone: its locks are free then.
_OPTIONS: Final = "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=2"
# Longer than an operation on what is exclusive takes.
_EXCLUSIVE_S: Final = 20
_FIRST_RETRY_S, _LAST_RETRY_S = 0.002, 0.05

_COUNTERS: Final = "SELECT value FROM counters WHERE name IN ('commits', 'events') ORDER BY name"
_BEGIN_WRITE: Final = f"BEGIN ISOLATION LEVEL READ COMMITTED; {_COUNTERS} FOR UPDATE"
_BEGIN_READ: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class PostgresqlDatabase(Database):
    """A schema of a database. ``shared``: other processes may have it too.

    Raises Unavailable when the server does not answer, InvalidArgument and FailedPrecondition for what it refuses, and
    FailedPrecondition for a schema that another process has for itself.
    """

    def __init__(self, url: URL, durability: Durability, *, shared: bool) -> None:
        schema = str(url.query.get("schema", "public"))
        if not _SCHEMA.fullmatch(schema):
            raise InvalidArgument(f"store: expected a schema of lower-case letters, digits and _, got {schema!r}")
        self._schema = schema
        self._channel = f"castcore_{schema}"
        at = url.query.get("host") or f"{url.host or 'localhost'}:{url.port or 5432}"
        self.name = f"schema {schema} of database {url.database or ''} at {at}"
        self.shared, self.brief = shared, False
        given = str(url.query.get("options", ""))
        options = f"{given} {_OPTIONS} -c search_path={schema} -c lock_timeout={_PATIENCE_MS}".strip()
        options += f" -c idle_in_transaction_session_timeout={_PATIENCE_MS}"
        if durability == "power":
            options += " -c synchronous_commit=on"
        self._conninfo = url.difference_update_query(["schema"]).update_query_dict(
            {name: value for name, value in _PARAMETERS.items() if name not in url.query} | {"options": options}
        )
        # The store begins and ends transactions; its threads hold one connection each, for as long as it lasts.
        self._engine: Engine = create_engine(
            self._conninfo, poolclass=NullPool, isolation_level="AUTOCOMMIT", use_native_hstore=False
        )
        self._generation = 0
        self._keeper = _Keeper(self._connect, schema, shared=shared)
        try:
            self.alone = self._keeper.move_in()
        except BaseException:
            self.close()
            raise
        if not (self.alone or shared):
            self.close()
            raise FailedPrecondition(f"store: {self.name} is in use by another process")

    def set_up(self, work: Callable[[Session], None]) -> None:
        """Runs ``work`` in a transaction, after those of other processes that set up."""
        session = self.writer()
        try:
            session.run("BEGIN")
            session.run(f"SELECT pg_advisory_xact_lock({_key(self._schema, 'set up')})")
            # Who may not make schemas may use one that is there.
            session.run(
                f"DO $$BEGIN IF to_regnamespace('{self._schema}') IS NULL"
                f" THEN CREATE SCHEMA {self._schema}; END IF; END$$"
            )
            work(session)
            session.end("COMMIT")
        except Exception as error:
            raise self.explain(error) or error from error
        finally:
            session.close()

    def writer(self) -> Session:
        """A connection that writes. Raises Unavailable when there is none to be had."""
        try:
            return Session(self._engine.connect())
        except Exception as error:
            raise self._unreachable(cause_of(error)) from error

    def reader(self) -> Session:
        """A connection that cannot write. Raises Unavailable when there is none to be had."""
        return self.writer()

    def begin_write(self, session: Session) -> int:
        """Begins to write, when no other process does: the sequence of the last event."""
        cursor = _driver(session).execute(_BEGIN_WRITE)
        cursor.nextset()
        self._generation, sequence = (int(row[0]) for row in cursor.fetchall())
        return sequence

    def commit(self, session: Session, group: Group) -> News:
        """Writes the events and commits."""
        if group.events:
            session.change_all(INSERT_EVENTS, group.events)
        news = News(group.sequence, self._generation + 1, group.earliest_due_ns)
        due = "" if news.earliest_due_ns is None else news.earliest_due_ns
        session.end(
            f"UPDATE counters SET value = CASE name WHEN 'events' THEN {news.sequence} ELSE {news.generation} END"
            " WHERE name IN ('commits', 'events');"
            f"NOTIFY {self._channel}, '{news.generation} {news.sequence} {due}';"
            "COMMIT"
        )
        return news

    def begin_read(self, session: Session) -> None:
        """From here on the session sees one commit."""
        session.run(_BEGIN_READ)

    @asynccontextmanager
    async def exclusive(self, name: str) -> AsyncIterator[None]:
        """Keeps the other processes that ask for the same name out; a process that dies lets go."""
        try:
            await self._keeper.take(name)
            yield
        finally:
            # Also when it is given up while the server is being asked: the answer comes before this does.
            self._keeper.release(name)

    async def follow(self, told: Callable[[News], None], look: Callable[[], None]) -> None:
        """Tells the commits of other processes for ever; ``look`` is called when some may have been missed."""
        loop = asyncio.get_running_loop()
        log = logger("store")
        while True:
            try:
                connection = await self._connect_aside()
                try:
                    await loop.run_in_executor(
                        None, connection.execute, sql.SQL("LISTEN {}").format(self._channel_name)
                    )
                    look()
                    await self._listen(connection, told, look)
                finally:
                    connection.close()
            except (psycopg.Error, CastcoreError) as error:
                log.warning("store.listen_interrupted", store=self.name, error=_first_line(error))
            await asyncio.sleep(POLL_S)

    def is_lost(self, session: Session) -> bool:
        """Whether the connection has been found dead."""
        return _driver(session).closed

    def explain(self, error: BaseException) -> CastcoreError | None:
        """What a caller is told of an error of the driver's; None: nothing but that it is a fault."""
        cause = cause_of(error)
        match cause:
            case psycopg.errors.ReadOnlySqlTransaction():
                return None
            case psycopg.DataError() | psycopg.errors.ProgramLimitExceeded() | UnicodeEncodeError():
                # A NUL character, or a name longer than an index takes.
                return InvalidArgument(f"store: expected text that the database can keep: {_first_line(cause)}")
            case psycopg.errors.InsufficientPrivilege():
                return FailedPrecondition(f"store: {self.name}: {_first_line(cause)}")
            case psycopg.OperationalError() | psycopg.InterfaceError():
                return Unavailable(f"store: {self.name}: {_first_line(cause)}")
        return None

    def close(self) -> None:
        """Lets go of the database."""
        self._keeper.close()
        self._engine.dispose()

    @property
    def _channel_name(self) -> sql.Identifier:
        return sql.Identifier(self._channel)

    def _connect(self) -> psycopg.Connection:
        """A connection beside those of the store."""
        arguments, parameters = self._engine.dialect.create_connect_args(self._conninfo)
        try:
            return psycopg.connect(*arguments, **parameters, autocommit=True)
        except psycopg.Error as error:
            raise self._unreachable(error) from error

    async def _connect_aside(self) -> psycopg.Connection:
        """``_connect`` in another thread; a connection that comes when nobody waits any more is closed."""
        connecting = asyncio.get_running_loop().run_in_executor(None, self._connect)
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            connecting.add_done_callback(_close_late)
            raise

    def _unreachable(self, error: BaseException) -> CastcoreError:
        if isinstance(error, psycopg.ProgrammingError):
            return InvalidArgument(f"store: {self.name}: {_first_line(error)}")
        return Unavailable(f"store: {self.name} cannot be reached: {_first_line(error)}")

    async def _listen(
        self, connection: psycopg.Connection, told: Callable[[News], None], look: Callable[[], None]
    ) -> None:
        """Returns never; raises when the connection is lost."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        descriptor = connection.fileno()
        loop.add_reader(descriptor, readable.set)
        try:
            while True:
                try:
                    async with asyncio.timeout(POLL_S):
                        await readable.wait()
                except TimeoutError:
                    look()
                    continue
                readable.clear()
                connection.pgconn.consume_input()
                while notify := connection.pgconn.notifies():
                    told(_news(notify.extra.decode()))
        finally:
            loop.remove_reader(descriptor)


class _Keeper:
    """A connection that keeps what lasts as long as the process: its presence, and names for which it is alone.

    A connection that is lost loses them; the presence is taken up again with the next one.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection], schema: str, *, shared: bool) -> None:
        self._connect = connect
        self._schema = schema
        self._shared = shared
        self._connection: psycopg.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store-keeper")

    def move_in(self) -> bool:
        """Whether nobody else has the schema; unless ``shared``, nobody else gets it from now on."""
        self._connection = self._connect()
        key = _key(self._schema, "presence")
        alone = self._ask(f"SELECT pg_try_advisory_lock({key})")
        if self._shared:
            self._ask(f"SELECT pg_advisory_lock_shared({key}) IS NULL")
            if alone:
                self._ask(f"SELECT pg_advisory_unlock({key})")
        return alone

    async def take(self, name: str) -> None:
        """Returns when no other process has the name. Raises Unavailable when it keeps it, or the server is away."""
        statement = f"SELECT pg_try_advisory_lock({_key(self._schema, 'name ' + name)})"
        loop, retry_s = asyncio.get_running_loop(), _FIRST_RETRY_S
        latest = loop.time() + _EXCLUSIVE_S
        while not await loop.run_in_executor(self._thread, self._ask_anew, statement):
            if loop.time() > latest:
                raise Unavailable(f"store: another process has had {name!r} for more than {_EXCLUSIVE_S} s")
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, _LAST_RETRY_S)

    def release(self, name: str) -> None:
        """Lets the others have the name; nobody waits for it."""
        self._thread.submit(self._forgo, f"SELECT pg_advisory_unlock({_key(self._schema, 'name ' + name)})")

    def close(self) -> None:
        """Lets go of everything."""
        self._thread.shutdown()
        if self._connection is not None:
            self._connection.close()

    def _ask(self, statement: str) -> bool:
        assert self._connection is not None
        row = self._connection.execute(statement.encode()).fetchone()
        return bool(row and row[0])

    def _ask_anew(self, statement: str) -> bool:
        try:
            if self._connection is None or self._connection.closed:
                self.move_in()
            return self._ask(statement)
        except psycopg.Error:
            # It was lost unnoticed: with it the names, not the process.
            self.move_in()
            return self._ask(statement)

    def _forgo(self, statement: str) -> None:
        with suppress(psycopg.Error):
            self._ask(statement)


def _close_late(connecting: asyncio.Future[psycopg.Connection]) -> None:
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().close()


def _driver(session: Session) -> psycopg.Connection:
    return cast(psycopg.Connection, session.driver)


def _key(schema: str, what: str) -> int:
    """The number of an advisory lock: there are no names for them."""
    return int.from_bytes(hashlib.sha256(f"castcore {schema} {what}".encode()).digest()[:8], signed=True)


def _news(payload: str) -> News:
    generation, sequence, due = payload.split(" ")
    return News(int(sequence), int(generation), int(due) if due else None)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
