"""What can be read within one transaction of the store: resources, lookups, due times, events, cursors, leases."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, TypeAlias, TypeVar

from google.protobuf.message import Message
from sqlalchemy import Connection, bindparam, func, select

from nf.common.clock import Clock, from_ns, to_ns
from nf.common.database import LAST_SEQUENCE
from nf.common.errors import NotFound
from nf.common.known import Key, Known, Wanted
from nf.common.resources import decode_page_token, encode_page_token, page_limit
from nf.common.schema import cursors, events, leases, lookups, resources
from nf.common.statements import Row, Session, Statement, Values
from nf.common.v1.events_pb2 import Event

T = TypeVar("T")
M = TypeVar("M", bound=Message)

# Within Reader the name "list" is its method's.
Items: TypeAlias = list[T]

# A page has to fit into a message of gRPC, with room to spare.
PAGE_BYTES: Final = 16 * 1024 * 1024
# The database counts with 63 bits.
MAX_INTEGER: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Page(Generic[M]):
    """Some resources in the order of their creation, and the token that goes on; empty on the last page."""

    items: list[M]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class Due(Generic[M]):
    """A resource whose time has come, and which time that was."""

    name: str
    message: M
    due: datetime


# A descriptor makes its name anew each time.
_KINDS: Final[dict[type[Message], str]] = {}

_kind, _name = resources.c.kind == bindparam("k"), resources.c.name == bindparam("n")
_GET = Statement(select(resources.c.body).where(_kind, _name))
_list = (
    select(resources.c.id, resources.c.body)
    .where(_kind, resources.c.id > bindparam("after"))
    .order_by(resources.c.id)
    .limit(bindparam("limit"))
)
_LIST = Statement(_list)
_LIST_CHILDREN = Statement(_list.where(resources.c.parent == bindparam("p")))
_all = select(resources.c.name, resources.c.body).where(_kind).order_by(resources.c.id)
_ALL = Statement(_all)
_ALL_CHILDREN = Statement(_all.where(resources.c.parent == bindparam("p")))
_FIND = Statement(
    select(resources.c.name, resources.c.body)
    .join(lookups, (lookups.c.kind == resources.c.kind) & (lookups.c.name == resources.c.name))
    .where(lookups.c.kind == bindparam("k"), lookups.c.field == bindparam("f"), lookups.c.value == bindparam("v"))
    .order_by(resources.c.id)
)
_COUNT = Statement(
    select(func.count())
    .select_from(lookups)
    .where(lookups.c.kind == bindparam("k"), lookups.c.field == bindparam("f"), lookups.c.value == bindparam("v"))
)
_DUE = Statement(
    select(resources.c.name, resources.c.body, resources.c.due_ns)
    .where(_kind, resources.c.due_ns <= bindparam("now"))
    .order_by(resources.c.due_ns, resources.c.id)
    .limit(bindparam("limit"))
)
_NEXT_DUE = Statement(
    select(resources.c.due_ns)
    .where(_kind, resources.c.due_ns > bindparam("after"))
    .order_by(resources.c.due_ns)
    .limit(1)
)
_EVENTS = Statement(
    select(events.c.body)
    .where(events.c.sequence > bindparam("after"))
    .order_by(events.c.sequence)
    .limit(bindparam("limit"))
)
_FIRST_SEQUENCE = Statement(select(func.min(events.c.sequence)))
_CURSOR = Statement(select(cursors.c.value).where(cursors.c.name == bindparam("n")))
_LEASE = Statement(select(leases.c.holder, leases.c.expires_ns).where(leases.c.name == bindparam("n")))


def kind_of(message_type: type[Message]) -> str:
    """How the store calls a type of resource: the full name of its message."""
    kind = _KINDS.get(message_type)
    if kind is None:
        kind = _KINDS[message_type] = message_type.DESCRIPTOR.full_name
    return kind


class Reader:
    """Reads of one moment: everything seen here belongs to the same commit."""

    def __init__(self, session: Session, clock: Clock, known: Known | None = None) -> None:
        self.session = session
        self.clock = clock
        self._known = known

    @property
    def connection(self) -> Connection:
        """The toolkit's connection, for what is asked seldom."""
        return self.session.connection

    def rows(self, statement: Statement, values: Values) -> Items[Row]:
        """All rows of a query."""
        return self.session.rows(statement, values)

    def value(self, statement: Statement, values: Values) -> Any:
        """The first column of the first row of a query; None: there is none."""
        return self.session.value(statement, values)

    def get(self, message_type: type[M], name: str) -> M | None:
        """The resource of that name, or None."""
        body = self._body((kind_of(message_type), name))
        return None if body is None else message_type.FromString(body)

    def _body(self, key: Key) -> bytes | None:
        return self._look(key) if self._known is None else self._known.body(key, self._look)

    def _look(self, key: Key) -> bytes | None:
        kind, name = key
        body: bytes | None = self.value(_GET, {"k": kind, "n": name})
        return body

    def require(self, message_type: type[M], name: str) -> M:
        """The resource of that name. Raises NotFound, naming kind and name."""
        message = self.get(message_type, name)
        if message is None:
            raise not_found(message_type, name)
        return message

    def list(
        self, message_type: type[M], *, parent: str | None = None, page_size: int = 0, page_token: str = ""
    ) -> Page[M]:
        """One page, in the order of creation; ``parent`` None: whatever the parent.

        ``page_size`` 0: 100 items; at most 1000, and no more than PAGE_BYTES unless the first alone has more. Raises
        InvalidArgument for a token of another list.
        """
        kind = kind_of(message_type)
        scope = kind if parent is None else f"{kind}\0{parent}"
        limit = page_limit(page_size)
        values: Values = {"k": kind, "after": decode_page_token(scope, page_token), "limit": limit + 1}
        rows = (
            self.session.each(_LIST, values)
            if parent is None
            else self.session.each(_LIST_CHILDREN, {**values, "p": parent})
        )
        items: Items[M] = []
        last, room = 0, PAGE_BYTES
        for row, body in rows:
            room -= len(body)
            if len(items) == limit or (items and room < 0):
                return Page(items, encode_page_token(scope, last))
            items.append(message_type.FromString(body))
            last = row
        return Page(items, "")

    def all(self, message_type: type[M], *, parent: str | None = None) -> Items[M]:
        """Every resource of a type, in the order of creation."""
        kind = kind_of(message_type)
        if parent is None:
            return self._listed(message_type, ("", ""), _ALL, {"k": kind})
        return [message_type.FromString(body) for _, body in self.rows(_ALL_CHILDREN, {"k": kind, "p": parent})]

    def find(self, message_type: type[M], field: str, value: str) -> Items[M]:
        """The resources that were written with this lookup, in the order of creation."""
        values = {"k": kind_of(message_type), "f": field, "v": value}
        return self._listed(message_type, (field, value), _FIND, values)

    def count(self, message_type: type[Message], field: str, value: str) -> int:
        """How many resources were written with this lookup."""
        return int(self.value(_COUNT, {"k": kind_of(message_type), "f": field, "v": value}))

    def _listed(self, message_type: type[M], wanted: Wanted, statement: Statement, values: Values) -> Items[M]:
        """The resources of a list that may be known; ``statement`` asks for their names and bodies."""
        kind = kind_of(message_type)
        known = self._known if self._lists_are_known(kind) else None
        names = known.names(kind, wanted) if known is not None else None
        if names is not None:
            bodies = [self._body((kind, name)) for name in names]
            return [message_type.FromString(body) for body in bodies if body is not None]
        rows = self.rows(statement, values)
        if known is not None:
            known.learn(kind, wanted, rows)
        return [message_type.FromString(body) for _, body in rows]

    def _lists_are_known(self, _kind: str) -> bool:
        """Whether what was committed is what is seen here."""
        return True

    def due(self, message_type: type[M], now: datetime, limit: int = 100) -> Items[Due[M]]:
        """The resources whose due time is ``now`` or before, the longest due first."""
        values: Values = {"k": kind_of(message_type), "now": to_ns(now), "limit": limit}
        return [
            Due(name, message_type.FromString(body), from_ns(due_ns)) for name, body, due_ns in self.rows(_DUE, values)
        ]

    def next_due(self, message_type: type[Message], after: datetime) -> datetime | None:
        """The earliest due time of a type that is later than ``after``; None: there is none."""
        values: Values = {"k": kind_of(message_type), "after": to_ns(after)}
        due_ns = self.value(_NEXT_DUE, values)
        return None if due_ns is None else from_ns(due_ns)

    def events(self, after: int, limit: int = 1000) -> Items[Event]:
        """At most ``limit`` events with a higher sequence than ``after``, in sequence."""
        # A sequence may be any 64-bit number to who asks; beyond what the database can count there are no events.
        rows = self.rows(_EVENTS, {"after": min(after, MAX_INTEGER), "limit": limit})
        return [Event.FromString(body) for (body,) in rows]

    def last_sequence(self) -> int:
        """The sequence of the last event; 0: there is none."""
        return int(self.value(LAST_SEQUENCE, {}))

    def first_sequence(self) -> int:
        """The sequence of the first event that is kept, or of the next one where none is."""
        first = self.value(_FIRST_SEQUENCE, {})
        return int(first) if first is not None else self.last_sequence() + 1

    def cursor(self, name: str) -> int:
        """Where ``set_cursor`` left that cursor; 0 at first."""
        return int(self.value(_CURSOR, {"n": name}) or 0)

    def lease(self, name: str) -> tuple[str, int]:
        """Who has a lease, or had it last, and when it expires (nanoseconds); "" and 0 at first."""
        for holder, expires_ns in self.rows(_LEASE, {"n": name}):
            return holder, expires_ns
        return "", 0


def not_found(message_type: type[Message], name: str) -> NotFound:
    """The error that names what is not there."""
    kind = kind_of(message_type)
    return NotFound(f"{noun_of(kind)} {name!r} does not exist", metadata={"kind": kind, "name": name})


def noun_of(kind: str) -> str:
    """How messages call a kind of resource."""
    return kind.rpartition(".")[2]
