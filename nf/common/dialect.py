"""Which database a URL means: a file of SQLite, or a schema of PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import URL, Insert, Table, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from nf.common.database import Database, Durability
from nf.common.errors import FailedPrecondition, InvalidArgument
from nf.common.sqlite import SqliteDatabase

__all__ = ["Database", "Durability", "check_url", "insert_if_absent", "open_database", "schema_url", "url_for"]

_POSTGRESQL = ("postgresql", "postgres")


def url_for(directory: Path, function: str) -> str:
    """The URL of a function's own database file below ``directory``."""
    return URL.create("sqlite", database=str(directory / f"{function}.sqlite3")).render_as_string()


def schema_url(url: str, function: str) -> str:
    """The URL of a function's own schema in the database of ``url``, whose name begins with that which this has.

    Raises InvalidArgument for what is no URL of PostgreSQL.
    """
    parsed = check_url(url)
    prefix = str(parsed.query.get("schema", ""))
    own = f"{prefix}_{function}" if prefix else function
    return parsed.update_query_dict({"schema": own}).render_as_string(hide_password=False)


def check_url(url: str) -> URL:
    """The URL of a PostgreSQL database, taken apart. Raises InvalidArgument."""
    parsed = _parse(url)
    if parsed.get_backend_name() not in _POSTGRESQL:
        raise InvalidArgument(f"expected 'postgresql://USER@HOST/DATABASE', got {parsed.render_as_string()!r}")
    return parsed


class _InsertIfAbsent(Insert):
    """What both databases have, and the toolkit only once for each: whoever has the one need not load the other."""

    inherit_cache = True


@compiles(_InsertIfAbsent)
def _insert_if_absent(statement: _InsertIfAbsent, compiler: SQLCompiler, **options: Any) -> str:
    insert = compiler.visit_insert(statement, **options)  # type: ignore[no-untyped-call]
    return f"{insert} ON CONFLICT DO NOTHING"


def insert_if_absent(table: Table) -> Insert:
    """INSERT that leaves a row with the same key alone (its rowcount is 0 then), on every database."""
    return _InsertIfAbsent(table)


def open_database(url: str, durability: Durability, *, shared: bool) -> Database:
    """The database of ``url``; ``shared``: other processes may have it too, where it can be shared.

    Raises InvalidArgument for a URL that is neither sqlite:///FILE nor postgresql://…, FailedPrecondition when another
    process has what is not shared, Unavailable when there is no server.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() in _POSTGRESQL:
        try:
            from nf.common.postgresql import PostgresqlDatabase
        except ImportError as error:
            raise FailedPrecondition(
                f"store: a PostgreSQL database needs psycopg, as in pip install 'castcore[postgresql]' ({error})"
            ) from error
        return PostgresqlDatabase(parsed.set(drivername="postgresql+psycopg"), durability, shared=shared)
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        raise InvalidArgument(
            f"store: expected 'sqlite:///FILE' or 'postgresql://USER@HOST/DATABASE', got {parsed.render_as_string()!r}"
        )
    return SqliteDatabase(parsed, durability)


def _parse(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError as error:
        # The URL itself may have a password in it.
        raise InvalidArgument(
            "store: expected a URL such as 'sqlite:///state/af.sqlite3' or 'postgresql://castcore@localhost/castcore'"
        ) from error
