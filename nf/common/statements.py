"""Statements that are compiled once per kind of database, and the connection that they are run on.

The toolkit spends several times as long on a statement as the database does; the store's own go past it. What is asked
seldom may use ``Session.connection``, which is the toolkit's, on the same connection and in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Final, Protocol, TypeAlias, cast

from sqlalchemy import Connection, Dialect
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.dml import UpdateBase

Value: TypeAlias = str | bytes | int | float | bool | None
Values: TypeAlias = Mapping[str, Value]
# The columns, in the order of the statement: of the types that the schema gives them.
Row: TypeAlias = tuple[Any, ...]


@cache
def _dialect(name: str) -> Dialect:
    """How a kind of database is spoken to; both take the values of a statement by name."""
    if name == "sqlite":
        return SQLiteDialect_pysqlite(paramstyle="named")
    # Much to import, for whoever has another database.
    from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

    return PGDialect_psycopg()  # type: ignore[no-untyped-call]


class DriverCursor(Protocol):
    """What the store needs of a driver's cursor."""

    @property
    def rowcount(self) -> int:
        """How many rows the statement has changed."""
        ...

    def fetchall(self) -> list[Row]:
        """The rows that are left."""
        ...

    def fetchmany(self, size: int, /) -> list[Row]:
        """So many of them, or as many as there are."""
        ...

    def fetchone(self) -> Row | None:
        """The next row; None: there is none."""
        ...

    def executemany(self, sql: str, values: Sequence[Values], /) -> object:
        """Runs a statement for each of these."""
        ...

    def __iter__(self) -> Iterator[Row]: ...


class DriverConnection(Protocol):
    """What the store needs of a driver's connection."""

    def execute(self, sql: str, values: Values = ..., /) -> DriverCursor:
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
        self._compiled: dict[str, tuple[str, dict[str, Value]]] = {}

    def on(self, dialect: str) -> tuple[str, dict[str, Value]]:
        """The SQL for that kind of database, and the values that stand in the expression itself."""
        known = self._compiled.get(dialect)
        if known is None:
            compiled = self._expression.compile(dialect=_dialect(dialect), column_keys=self._columns)
            # Values that are still to be given have a mark of the toolkit's.
            fixed: dict[str, Value] = {
                name: value for name, value in compiled.params.items() if isinstance(value, str | bytes | int | float)
            }
            known = self._compiled[dialect] = str(compiled), fixed
        return known


class Session:
    """One connection and what is run on it. Belongs to one thread at a time."""

    def __init__(self, connection: Connection) -> None:
        self.driver = cast(DriverConnection, connection.connection.dbapi_connection)
        self._connection = connection
        self._dialect = connection.dialect.name
        # When answers to requests were last looked through for old ones.
        self.requests_pruned_ns = 0

    @property
    def connection(self) -> Connection:
        """The toolkit's face of it."""
        return self._connection

    def query(self, statement: Statement, values: Values) -> DriverCursor:
        """Runs a statement; its cursor has the rows."""
        sql, fixed = statement.on(self._dialect)
        return self.driver.execute(sql, {**fixed, **values} if fixed else values)

    def rows(self, statement: Statement, values: Values) -> list[Row]:
        """All rows of a query."""
        return self.query(statement, values).fetchall()

    def each(self, statement: Statement, values: Values) -> Iterator[Row]:
        """The rows of a query that may have more than are wanted."""
        return iter(self.query(statement, values))

    def value(self, statement: Statement, values: Values) -> Any:
        """The first column of the only row of a query; None: there is none."""
        row = self.query(statement, values).fetchone()
        return None if row is None else row[0]

    def change(self, statement: Statement, values: Values) -> int:
        """Runs a statement that writes: how many rows it has changed."""
        return self.query(statement, values).rowcount

    def change_all(self, statement: Statement, values: Sequence[Values]) -> None:
        """Runs a statement that writes for each of these values."""
        if len(values) == 1:
            self.query(statement, values[0])
            return
        sql, fixed = statement.on(self._dialect)
        self.driver.cursor().executemany(sql, [{**fixed, **each} for each in values] if fixed else values)

    def run(self, sql: str) -> None:
        """Runs SQL as it stands."""
        self.driver.execute(sql)

    def end(self, sql: str) -> None:
        """Runs the SQL that ends the transaction."""
        self.driver.execute(sql)
        if self._connection.in_transaction():
            # The toolkit has begun one too, in its books.
            self._connection.rollback()

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
        rows = self.query(statement, values).fetchmany(_FEW + 1)
        if len(rows) > _FEW:
            raise TooLong
        return rows

    def each(self, statement: Statement, values: Values) -> Iterator[Row]:
        """The rows of a query. Raises TooLong when there are many."""
        return iter(self.rows(statement, values))
