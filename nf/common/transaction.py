"""What can be done within one transaction of the store: resources, lookups, events, cursors, request identifiers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import Final, TypeVar, cast

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import bindparam, delete, insert, select, update

from nf.common.call import correlation_id
from nf.common.clock import Clock, to_ns
from nf.common.database import MOVE_SEQUENCE
from nf.common.dialect import insert_if_absent
from nf.common.errors import AlreadyExists, InvalidArgument
from nf.common.known import Changes, Key, Known
from nf.common.reader import MAX_INTEGER, Items, Reader, kind_of, not_found, noun_of
from nf.common.resources import (
    ETAG_DIGITS,
    check_etag,
    copy_of,
    digest_of,
)
from nf.common.schema import cursors, events, leases, lookups, requests, resources
from nf.common.statements import Session, Statement, Value, Values
from nf.common.v1.events_pb2 import Event

T = TypeVar("T")
M = TypeVar("M", bound=Message)

MAX_REQUEST_ID_LENGTH: Final = 128
# Who repeats a request does so soon; without an end the answers would outnumber all that they were about.
REQUESTS_KEPT: Final = timedelta(days=1)
_REQUESTS_KEPT_NS: Final = REQUESTS_KEPT // timedelta(microseconds=1) * 1000
_PRUNE_REQUESTS_EVERY_NS: Final = 60 * 1_000_000_000


class Keep(Enum):
    """The wish to leave a property as it is, where None means to clear it."""

    KEEP = "KEEP"


KEEP: Final = Keep.KEEP


class RequestIdReused(AlreadyExists):
    """The request_id has answered another content."""

    reason = "REQUEST_ID_REUSED"


_SHAPES: Final[dict[type[Message], tuple[bool, bool]]] = {}

_kind, _name = resources.c.kind == bindparam("k"), resources.c.name == bindparam("n")
_COLUMNS: Final = ("kind", "name", "parent", "etag", "due_ns", "body")
_GET_ETAG = Statement(select(resources.c.etag).where(_kind, _name))
_INSERT = Statement(insert_if_absent(resources), _COLUMNS)
_change = update(resources).where(_kind, _name)
_UPDATE = Statement(_change.values(etag=bindparam("e"), body=bindparam("b")))
_UPDATE_DUE = Statement(_change.values(etag=bindparam("e"), body=bindparam("b"), due_ns=bindparam("d")))
_PUT = Statement(_change.values(etag=bindparam("e"), body=bindparam("b"), due_ns=bindparam("d"), parent=bindparam("p")))
_DELETE = Statement(delete(resources).where(_kind, _name))
_DELETE_LOOKUPS = Statement(delete(lookups).where(lookups.c.kind == bindparam("k"), lookups.c.name == bindparam("n")))
_INSERT_LOOKUPS = Statement(insert(lookups))
_PRUNE_EVENTS = Statement(delete(events).where(events.c.sequence <= bindparam("upto")))
_MOVE_CURSOR = Statement(update(cursors).where(cursors.c.name == bindparam("n")).values(value=bindparam("v")))
_INSERT_CURSOR = Statement(insert(cursors))
_MOVE_LEASE = Statement(
    update(leases).where(leases.c.name == bindparam("n")).values(holder=bindparam("h"), expires_ns=bindparam("x"))
)
_INSERT_LEASE = Statement(insert(leases))
_END_LEASE = Statement(delete(leases).where(leases.c.name == bindparam("n"), leases.c.holder == bindparam("h")))
_request = (requests.c.request_id == bindparam("r"), requests.c.method == bindparam("m"))
_GET_REQUEST = Statement(
    select(requests.c.digest, requests.c.kind, requests.c.body, requests.c.created_ns).where(*_request)
)
_ANSWER_REQUEST = Statement(update(requests).where(*_request).values(body=bindparam("b")))
_DELETE_REQUEST = Statement(delete(requests).where(*_request))
_INSERT_REQUEST = Statement(insert(requests))
_DELETE_OLD_REQUESTS = Statement(delete(requests).where(requests.c.created_ns < bindparam("before")))


class Transaction(Reader):
    """Reads and writes that take effect together, or not at all.

    Messages returned are the stored ones, with the ``etag`` that the store has given; those passed in stay untouched.
    Events emitted are written when the job has succeeded, numbered from ``base_sequence`` on: the writer holds the lock
    on the counter that it comes from.
    """

    def __init__(
        self,
        session: Session,
        clock: Clock,
        base_sequence: int,
        known: Known | None = None,
        before: Changes | None = None,
    ) -> None:
        super().__init__(session, clock, known)
        # What the jobs before it in the group have changed, and what this one has.
        self._before = before if before is not None else Changes()
        self.changes = Changes()
        self.emitted: list[Event] = []
        # The earliest due time that was set; None: none was.
        self.earliest_due_ns: int | None = None
        self._base_sequence = base_sequence

    def change(self, statement: Statement, values: Values) -> int:
        """Runs a statement that writes: how many rows it has changed."""
        return self.session.change(statement, values)

    def change_all(self, statement: Statement, values: Sequence[Values]) -> None:
        """Runs a statement that writes for each of these values."""
        self.session.change_all(statement, values)

    def insert(
        self,
        message: M,
        name: str,
        *,
        parent: str = "",
        lookups: Mapping[str, str] | None = None,
        due: datetime | None = None,
    ) -> M:
        """A new resource. Raises AlreadyExists, naming kind and name.

        ``lookups`` are fields by which ``find`` finds it (empty values are left out), ``due`` when the DueDriver hands
        it over.
        """
        (stored, etag, body), kind = _sealed(message, self.clock), kind_of(type(message))
        row = self._row(body, etag, kind, name, parent, due)
        if self.change(_INSERT, row) == 0:
            raise AlreadyExists(f"{noun_of(kind)} {name!r} already exists", metadata={"kind": kind, "name": name})
        self._note(kind, name, row["body"], listed=True)
        self._index(kind, name, lookups or {}, replace=False)
        return stored

    def put(
        self,
        message: M,
        name: str,
        *,
        parent: str = "",
        lookups: Mapping[str, str] | None = None,
        due: datetime | None = None,
    ) -> M:
        """Makes or replaces a resource, with all that belongs to it."""
        (stored, etag, body), kind = _sealed(message, self.clock), kind_of(type(message))
        row = self._row(body, etag, kind, name, parent, due)
        changed = {"k": kind, "n": name, "e": etag, "b": row["body"], "d": row["due_ns"], "p": parent}
        if self.change(_PUT, changed) == 0:
            self.change(_INSERT, row)
        self._note(kind, name, row["body"], listed=True)
        self._index(kind, name, lookups or {}, replace=True)
        return stored

    def update(
        self,
        message: M,
        name: str,
        *,
        expect_etag: str = "",
        lookups: Mapping[str, str] | None = None,
        due: datetime | Keep | None = KEEP,
    ) -> M:
        """Replaces the content of a resource; lookups and due time stay unless given (``due=None`` clears it).

        Raises NotFound, and EtagMismatch when ``expect_etag`` is neither empty nor the resource's.
        """
        (stored, etag, body), kind = _sealed(message, self.clock), kind_of(type(message))
        self._check(type(message), name, expect_etag)
        changed: Values = {"k": kind, "n": name, "e": etag, "b": body}
        if isinstance(due, Keep):
            found = self.change(_UPDATE, changed)
        else:
            found = self.change(_UPDATE_DUE, {**changed, "d": self._due_ns(due)})
        if found == 0:
            raise not_found(type(message), name)
        self._note(kind, name, body, listed=lookups is not None)
        if lookups is not None:
            self._index(kind, name, lookups, replace=True)
        return stored

    def delete(self, message_type: type[Message], name: str, *, expect_etag: str = "") -> bool:
        """Removes a resource; False: there was none. Raises EtagMismatch, and NotFound where an etag is expected."""
        self._check(message_type, name, expect_etag)
        kind = kind_of(message_type)
        which = {"k": kind, "n": name}
        if self.change(_DELETE, which) == 0:
            return False
        self._note(kind, name, None, listed=True)
        self.change(_DELETE_LOOKUPS, which)
        return True

    def emit(
        self,
        event_type: str,
        subject: str,
        payload: Message,
        *,
        source: str,
        path: str = "",
        audience: Sequence[str] = (),
    ) -> int:
        """Writes an event and returns its sequence; subscribers see it once this transaction is committed."""
        event = Event(
            sequence=self._base_sequence + len(self.emitted) + 1,
            source=source,
            type=event_type,
            subject=subject,
            path=path,
            correlation_id=correlation_id(),
            audience=audience,
        )
        event.event_time.seconds, event.event_time.nanos = divmod(self.clock.now_ns(), 1_000_000_000)
        event.payload.Pack(payload)
        self.emitted.append(event)
        return event.sequence

    def apart(self, work: Callable[[], T]) -> T:
        """``work`` as a part that is undone alone where it raises; what it raises is raised here."""
        emitted, due_ns, changes = len(self.emitted), self.earliest_due_ns, self.changes
        self.changes = Changes()
        self.changes.add(changes)
        self.session.run("SAVEPOINT part")
        try:
            result = work()
        except BaseException:
            self.session.run("ROLLBACK TO SAVEPOINT part")
            self.session.run("RELEASE SAVEPOINT part")
            del self.emitted[emitted:]
            self.earliest_due_ns, self.changes = due_ns, changes
            raise
        self.session.run("RELEASE SAVEPOINT part")
        return result

    def prune_events(self, upto: int) -> int:
        """Removes the events up to that sequence, and returns how many those were."""
        # It may be the last of them that goes.
        self.change(MOVE_SEQUENCE, {"v": self._base_sequence})
        return self.change(_PRUNE_EVENTS, {"upto": upto})

    def set_cursor(self, name: str, position: int) -> None:
        """Keeps how far the events of another function have been dealt with."""
        if self.change(_MOVE_CURSOR, {"n": name, "v": position}) == 0:
            self.change(_INSERT_CURSOR, {"name": name, "value": position})

    def claim(self, name: str, holder: str, now_ns: int, until_ns: int) -> bool:
        """Takes or renews a lease, unless somebody else's has not expired."""
        known, expires_ns = self.lease(name)
        if known and known != holder and expires_ns > now_ns:
            return False
        if self.change(_MOVE_LEASE, {"n": name, "h": holder, "x": until_ns}) == 0:
            self.change(_INSERT_LEASE, {"name": name, "holder": holder, "expires_ns": until_ns})
        return True

    def give_back(self, name: str, holder: str) -> None:
        """Ends a lease, if this holder has it."""
        self.change(_END_LEASE, {"n": name, "h": holder})

    def once(self, request_id: str, method: str, request: Message, answer: Callable[[], M]) -> M:
        """``answer()`` for the first request of this id and method; its stored result for a repeat.

        An empty ``request_id`` asks for nothing of the kind; a repeat after a day is a first request again. Raises
        RequestIdReused for another content, and InvalidArgument for an id of more than 128 characters.
        """
        if not request_id:
            return answer()
        if len(request_id) > MAX_REQUEST_ID_LENGTH:
            raise InvalidArgument.of(
                "request_id", f"expected at most {MAX_REQUEST_ID_LENGTH} characters, found {len(request_id)}"
            )
        now_ns = _now_ns(self.clock)
        oldest_ns = now_ns - _REQUESTS_KEPT_NS
        self._remove_old_requests(now_ns, oldest_ns)
        which = {"r": request_id, "m": method}
        content = digest_of(request)
        known = self.rows(_GET_REQUEST, which)
        if known and known[0][3] < oldest_ns:
            self.change(_DELETE_REQUEST, which)
        elif known:
            digest, kind, body, _ = known[0]
            if digest != content:
                raise RequestIdReused(f"{method}: request_id {request_id!r} was used for another content")
            descriptor = descriptor_pool.Default().FindMessageTypeByName(kind)
            return cast(M, message_factory.GetMessageClass(descriptor).FromString(body))
        result = answer()
        row: Values = {
            "request_id": request_id,
            "method": method,
            "digest": content,
            "kind": kind_of(type(result)),
            "body": result.SerializeToString(),
            "created_ns": now_ns,
        }
        self.change(_INSERT_REQUEST, row)
        return result

    def answer_otherwise(self, request_id: str, method: str, answer: Message) -> None:
        """What a repeat is answered from now on, in place of what ``once`` has kept of the same type."""
        if request_id:
            self.change(_ANSWER_REQUEST, {"r": request_id, "m": method, "b": answer.SerializeToString()})

    def _remove_old_requests(self, now_ns: int, oldest_ns: int) -> None:
        """Now and then: one that is too old is not looked at, whether or not it is still there."""
        if not 0 <= now_ns - self.session.requests_pruned_ns < _PRUNE_REQUESTS_EVERY_NS:
            self.session.requests_pruned_ns = now_ns
            self.change(_DELETE_OLD_REQUESTS, {"before": oldest_ns})

    def forget(self, request_id: str, method: str) -> None:
        """Takes back what ``once`` has kept, so that a repeat is a new try (after a refusal by a peer)."""
        self.change(_DELETE_REQUEST, {"r": request_id, "m": method})

    def _note(self, kind: str, name: str, body: Value, *, listed: bool) -> None:
        """Of what is stored now; ``listed``: lists of its kind may be others."""
        self.changes.bodies[kind, name] = cast("bytes | None", body)
        if listed:
            self.changes.kinds.add(kind)

    def _body(self, key: Key) -> bytes | None:
        if key in self.changes.bodies:
            return self.changes.bodies[key]
        if key in self._before.bodies:
            return self._before.bodies[key]
        return super()._body(key)

    def _lists_are_known(self, kind: str) -> bool:
        return kind not in self.changes.kinds and kind not in self._before.kinds

    def _row(self, body: bytes, etag: str, kind: str, name: str, parent: str, due: datetime | None) -> dict[str, Value]:
        return {
            "kind": kind,
            "name": name,
            "parent": parent,
            "etag": etag,
            "body": body,
            "due_ns": self._due_ns(due),
        }

    def _due_ns(self, due: datetime | None) -> int | None:
        if due is None:
            return None
        # What is due after 2262 is due then: no database counts so many nanoseconds.
        due_ns = min(to_ns(due), MAX_INTEGER)
        if self.earliest_due_ns is None or due_ns < self.earliest_due_ns:
            self.earliest_due_ns = due_ns
        return due_ns

    def _check(self, message_type: type[Message], name: str, expect_etag: str) -> None:
        if not expect_etag:
            return
        kind = kind_of(message_type)
        current = self.value(_GET_ETAG, {"k": kind, "n": name})
        if current is None:
            raise not_found(message_type, name)
        check_etag(current, expect_etag, f"{noun_of(kind)} {name!r}")

    def _index(self, kind: str, name: str, lookups: Mapping[str, str], *, replace: bool) -> None:
        if replace:
            self.change(_DELETE_LOOKUPS, {"k": kind, "n": name})
        rows: Items[Values] = [
            {"kind": kind, "name": name, "field": field, "value": value} for field, value in lookups.items() if value
        ]
        if rows:
            self.change_all(_INSERT_LOOKUPS, rows)


def _sealed(message: M, clock: Clock) -> tuple[M, str, bytes]:
    """A copy that carries its etag and the time, where it has fields for them, the etag, and the copy's encoding.

    What is stored as it was (only its due time changes, say) keeps the time of its last change.
    """
    has_etag, has_time = _shape(type(message))
    stored = copy_of(message)
    if not has_etag and not has_time:
        body = stored.SerializeToString(deterministic=True)
        return stored, hashlib.sha256(body).hexdigest()[:ETAG_DIGITS], body
    before, changed_at = "", None
    if has_etag:
        before = getattr(stored, "etag")  # noqa: B009 (not every message has the field)
        stored.ClearField("etag")
    if has_time:
        if stored.HasField("update_time"):
            moment = cast(Timestamp, getattr(stored, "update_time"))  # noqa: B009 (likewise)
            changed_at = moment.seconds, moment.nanos
        stored.ClearField("update_time")
    etag = digest_of(stored)[:ETAG_DIGITS]
    if has_etag:
        setattr(stored, "etag", etag)  # noqa: B010 (likewise)
    if has_time:
        if changed_at is None or before != etag:
            changed_at = divmod(_now_ns(clock), 1_000_000_000)
        moment = cast(Timestamp, getattr(stored, "update_time"))  # noqa: B009 (likewise)
        moment.seconds, moment.nanos = changed_at
    return stored, etag, stored.SerializeToString()


def _now_ns(clock: Clock) -> int:
    """The time, to the microsecond: as finely as a datetime has it."""
    return clock.now_ns() // 1000 * 1000


def _shape(message_type: type[Message]) -> tuple[bool, bool]:
    """Whether a message has an etag, and the time of its last change."""
    shape = _SHAPES.get(message_type)
    if shape is None:
        fields = message_type.DESCRIPTOR.fields_by_name
        shape = _SHAPES[message_type] = "etag" in fields, "update_time" in fields
    return shape
