"""Statements that are compiled once per kind of database, and the connection that they are run on.

The toolkit spends several times as long on a statement as the database does; the store's own go past it. What is asked
seldom may use ``Session.connection``, which is the toolkit's, on the same connection and in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from operator import itemgetter
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, cast

from sqlalchemy import Connection, Dialect
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.dml import UpdateBase

Value: TypeAlias = str | bytes | int | float | bool | None
Values: TypeAlias = Mapping[str, Value]
# As the driver takes them: by name, or in the order of the statement.
Given: TypeAlias = Values | tuple[Value, ...]
# The columns, in the order of the statement: of the types that the schema gives them.
Row: TypeAlias = tuple[Any, ...]


@cache
def _dialect(name: str) -> Dialect:
    """How a kind of database is spoken to: SQLite takes the values of a statement in their order."""
    if name == "sqlite":
        return SQLiteDialect_pysqlite()
    # Much to import, for whoever has another database.
    from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

    return PGDialect_psycopg()  # type: ignore[no-untyped-call]


class DriverCursor(Protocol):
    """What the store needs of a driver's cursor."""

    @property
    def rowcount(self) -> int:
        """How many rows the statement has changed."""
        ...

    def execute(self, sql: str, values: Given = ..., /) -> object:
        """Runs a statement."""
        ...

    def fetchall(self) -> list[Row]:
        """The rows that are left."""
        ...

    def fetchmany(self, size: int, /) -> list[Row]:
        """So many of them, or as many as there are."""
        ...

    def executemany(self, sql: str, values: Sequence[Given], /) -> object:
        """Runs a statement for each of these."""
        ...

    def __iter__(self) -> Iterator[Row]: ...


class DriverConnection(Protocol):
    """What the store needs of a driver's connection."""

    def execute(self, sql: str, values: Given = ..., /) -> DriverCursor:
        """Runs a statement."""
        ...

    def cursor(self) -> DriverCursor:
        """A new cursor."""
        ...

    def close(self) -> None:
        """Ends the connection."""
        ...


# A row takes some ten microseconds.
_FEW: Final = 32


class Statement:
    """An expression with named values, as the drivers take it. An INSERT names its columns (all of them by default)."""

    def __init__(self, expression: ClauseElement, columns: Sequence[str] | None = None) -> None:
        if isinstance(expression, UpdateBase) and expression.is_insert:
            # No number of the new row is asked for.
            expression = expression.inline()  # type: ignore[attr-defined]
        self._expression = expression
        self._columns = columns

    def compiled(self, dialect: Dialect) -> Compiled:
        """The statement for that kind of database."""
        compiled = self._expression.compile(dialect=dialect, column_keys=self._columns)
        # Values that are still to be given have a mark of the toolkit's.
        fixed = {name: value for name, value in compiled.params.items() if isinstance(value, str | bytes | int | float)}
        return Compiled(str(compiled), _arrangement(compiled.positiontup, fixed))  # type: ignore[attr-defined]


class Compiled(NamedTuple):
    """The SQL of a statement, and what makes of its values, by name, those that the driver takes with it."""

    sql: str
    arrange: Callable[[Values], Given]


class _Compilations(dict[Statement, Compiled]):
    """The statements that one kind of database has been asked, each compiled once."""

    def __init__(self, dialect: Dialect) -> None:
        super().__init__()
        self._dialect = dialect

    def __missing__(self, statement: Statement) -> Compiled:
        compiled = self[statement] = statement.compiled(self._dialect)
        return compiled


@cache
def _compilations(dialect: str) -> _Compilations:
    return _Compilations(_dialect(dialect))


def _arrangement(order: Sequence[str] | None, fixed: Values) -> Callable[[Values], Given]:
    """``order``: that of the values in the statement, None where they go by name; ``fixed`` stand in it already."""
    arrange = _by_name if order is None else _in_order(order)
    return (lambda values: arrange({**fixed, **values})) if fixed else arrange


def _by_name(values: Values) -> Given:
    return values


def _in_order(names: Sequence[str]) -> Callable[[Values], Given]:
    match names:
        case []:
            return lambda _: ()
        case [name]:
            return lambda values: (values[name],)
    return itemgetter(*names)


class Session:
    """One connection and what is run on it. Belongs to one thread at a time."""

    def __init__(self, connection: Connection) -> None:
        self.driver = cast(DriverConnection, connection.connection.dbapi_connection)
        self._connection = connection
        self._compilations = _compilations(connection.dialect.name)
        # What is read to its end at once needs no cursor of its own.
        self._cursor = self.driver.cursor()
        # When answers to requests were last looked through for old ones.
        self.requests_pruned_ns = 0

    @property
    def connection(self) -> Connection:
        """The toolkit's face of it."""
        return self._connection

    def rows(self, statement: Statement, values: Values) -> list[Row]:
        """All rows of a query."""
        return self._query(self._cursor, statement, values).fetchall()

    def each(self, statement: Statement, values: Values) -> Iterator[Row]:
        """The rows of a query that may have more than are wanted."""
        return iter(self._query(self.driver.cursor(), statement, values))

    def value(self, statement: Statement, values: Values) -> Any:
        """The first column of the only row of a query; None: there is none."""
        rows = self._query(self._cursor, statement, values).fetchall()
        return rows[0][0] if rows else None

    def change(self, statement: Statement, values: Values) -> int:
        """Runs a statement that writes: how many rows it has changed."""
        return self._query(self._cursor, statement, values).rowcount

    def change_all(self, statement: Statement, values: Sequence[Values]) -> None:
        """Runs a statement that writes for each of these values."""
        if len(values) == 1:
            self._query(self._cursor, statement, values[0])
            return
        sql, arrange = self._compilations[statement]
        self._cursor.executemany(sql, [arrange(each) for each in values])

    def run(self, sql: str) -> None:
        """Runs SQL as it stands."""
        self._cursor.execute(sql)

    def end(self, sql: str) -> None:
        """Runs the SQL that ends the transaction."""
        self._cursor.execute(sql)
        if self._connection.in_transaction():
            # The toolkit has begun one too, in its books.
            self._connection.rollback()

    def _query(self, cursor: DriverCursor, statement: Statement, values: Values) -> DriverCursor:
        sql, arrange = self._compilations[statement]
        cursor.execute(sql, arrange(values))
        return cursor

    def close(self) -> None:
        """Gives the connection up, whatever state it is in."""
        with suppress(Exception):
            self.driver.close()
        self._connection.invalidate()
        self._connection.close()


class TooLong(BaseException):
    """What was asked of a BriefSession may take long. It passes through whatever handles errors on the way."""


class BriefSession(Session):
    """A connection for reads that are over before another thread would have begun them: of few rows."""

    @property
    def connection(self) -> Connection:
        """Who knows what will be asked of it. Raises TooLong."""
        raise TooLong

    def rows(self, statement: Statement, values: Values) -> list[Row]:
        """All rows of a query. Raises TooLong when there are many."""
        rows = self._query(self.driver.cursor(), statement, values).fetchmany(_FEW + 1)
        if len(rows) > _FEW:
            raise TooLong
        return rows

    def each(self, statement: Statement, values: Values) -> Iterator[Row]:
        """The rows of a query. Raises TooLong when there are many."""
        return iter(self.rows(statement, values))
