"""What the store asks of the database that it stands on; ``sqlite`` and ``postgresql`` are the two there are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Literal, NamedTuple, TypeAlias

from sqlalchemy import Table, bindparam, func, insert, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateIndex, CreateTable

from nf.common.errors import CastcoreError
from nf.common.schema import COMMIT_COUNTER, EVENT_COUNTER, counters, events
from nf.common.statements import BriefSession, Session, Statement, Value

# What an acknowledged write survives: the end of any process however it comes, or the loss of power as well.
Durability: TypeAlias = Literal["process", "power"]

_event_counter = select(counters.c.value).where(counters.c.name == EVENT_COUNTER).scalar_subquery()
# Of the last event there is; where none is kept, the counter tells.
LAST_SEQUENCE = Statement(select(func.coalesce(select(func.max(events.c.sequence)).scalar_subquery(), _event_counter)))
LAST_COMMIT = Statement(select(counters.c.value).where(counters.c.name == COMMIT_COUNTER))
MOVE_SEQUENCE = Statement(update(counters).where(counters.c.name == EVENT_COUNTER).values(value=bindparam("v")))
INSERT_EVENTS = Statement(insert(events))


class News(NamedTuple):
    """What a commit has brought that somebody may be waiting for.

    ``generation`` counts the commits of the database. ``earliest_due_ns`` is the earliest due time that was set; None:
    none was.
    """

    sequence: int
    generation: int
    earliest_due_ns: int | None


class Group(NamedTuple):
    """What the writer adds to the jobs of a group before it commits: events, and the sequence they lead to."""

    events: Sequence[dict[str, Value]]
    sequence: int
    earliest_due_ns: int | None


class Database(ABC):
    """One database: what its connections are opened with, and how transactions begin and end on them."""

    # How messages call it; no secret is in it.
    name: str
    # Nobody else had it when it was opened: what was under way in it is nobody's now.
    alone: bool
    # Other processes may write it too.
    shared: bool
    # A commit, or a read of few rows, takes less than to wake another thread: the event loop may do it.
    brief: bool

    @abstractmethod
    def set_up(self, work: Callable[[Session], None]) -> None:
        """Runs ``work``, which makes what is missing, in a transaction that no other process disturbs."""

    @abstractmethod
    def writer(self) -> Session:
        """A connection that writes. Raises Unavailable when there is none to be had."""

    @abstractmethod
    def reader(self) -> Session:
        """A connection that cannot write. Raises Unavailable when there is none to be had."""

    def brief_reader(self) -> BriefSession:
        """A connection of the event loop's own, where the database is ``brief``: only such a one has it."""
        raise NotImplementedError(f"{type(self).__name__} is not brief: its readers wait, and the event loop must not")

    @abstractmethod
    def begin_write(self, session: Session) -> int:
        """Begins to write, when no other process does: the sequence of the last event."""

    @abstractmethod
    def commit(self, session: Session, group: Group) -> News:
        """Writes the events and commits."""

    @abstractmethod
    def begin_read(self, session: Session) -> None:
        """From here on the session sees one commit."""

    @abstractmethod
    def exclusive(self, name: str) -> AbstractAsyncContextManager[None]:
        """Keeps the other processes that ask for the same name out."""

    @abstractmethod
    async def follow(self, told: Callable[[News], None], look: Callable[[], None]) -> None:
        """Tells the commits of other processes for ever; ``look`` is called when some may have been missed."""

    @abstractmethod
    def is_lost(self, session: Session) -> bool:
        """Whether the connection is of no use any more."""

    def explain(self, error: BaseException) -> CastcoreError | None:
        """What a caller is told of an error of the driver's; None: nothing but that it is a fault."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Lets go of the database; connections given out are closed before."""


def cause_of(error: BaseException) -> BaseException:
    """The driver's error in the toolkit's."""
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


# What makes a table, by kind of database: as text, for every function and every store of the process.
_CREATIONS: Final[dict[tuple[str, Table], tuple[str, ...]]] = {}


def make(session: Session, tables: Sequence[Table]) -> None:
    """Makes those of the tables, and of their indexes, that are missing."""
    dialect = session.connection.dialect
    for table in tables:
        known = _CREATIONS.get((dialect.name, table))
        if known is None:
            indexes = sorted(table.indexes, key=lambda index: str(index.name))
            creations: list[CreateTable | CreateIndex] = [CreateTable(table, if_not_exists=True)]
            creations += [CreateIndex(each, if_not_exists=True) for each in indexes]
            known = tuple([str(each.compile(dialect=dialect)) for each in creations])
            _CREATIONS[dialect.name, table] = known
        for sql in known:
            session.run(sql)
