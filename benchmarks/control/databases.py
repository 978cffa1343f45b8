"""Where a core keeps its state while it is measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from postgresql import postgresql

DATABASES = ("SQLite", "PostgreSQL")


@contextmanager
def state(database: str) -> Iterator[str]:
    """The lines of the configuration that say so; none for SQLite, whose directory is an option of the command.

    PostgreSQL is as it is configured when it is installed: what it has committed outlives a power cut.
    """
    if database == "SQLite":
        yield ""
        return
    with postgresql() as server:
        yield f'[state]\nurl = "{server.url}"\n'
