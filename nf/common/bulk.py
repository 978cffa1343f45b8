"""Many rows in few calls of the driver, past the toolkit's work on every single row."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, TypeAlias

from sqlalchemy import Connection

# The values of one row, all of types that every driver takes as they are.
Row: TypeAlias = "tuple[str | int | bytes, ...]"

# PostgreSQL bounds the number of values in one statement, to 65,535.
_ROWS: Final = 512


def insert_rows(
    connection: Connection, table: str, columns: Sequence[str], rows: Sequence[Row], on_conflict: str = "DO NOTHING"
) -> None:
    """Inserts ``rows``, whose values are in the order of ``columns``; ``on_conflict`` is SQL that follows ON CONFLICT.

    With "DO UPDATE" no two of the rows may be in conflict with each other.
    """
    if not rows:
        return
    names = tuple(columns)
    cursor = connection.connection.cursor()
    try:
        if connection.dialect.paramstyle == "qmark":
            # SQLite is within the process: it takes row after row faster than a statement that has many of them.
            cursor.executemany(_insert("?", table, names, 1, on_conflict), rows)
            return
        first = 0
        while first < len(rows):
            # Powers of two keep the number of different statements small: drivers keep those that they have prepared.
            count = min(_ROWS, 1 << ((len(rows) - first).bit_length() - 1))
            values = [value for row in rows[first : first + count] for value in row]
            cursor.execute(_insert("%s", table, names, count, on_conflict), values)
            first += count
    finally:
        cursor.close()


@lru_cache
def _insert(mark: str, table: str, columns: tuple[str, ...], count: int, on_conflict: str) -> str:
    names = ", ".join(f'"{name}"' for name in columns)
    group = f"({', '.join([mark] * len(columns))})"
    return f'INSERT INTO "{table}" ({names}) VALUES {", ".join([group] * count)} ON CONFLICT {on_conflict}'
