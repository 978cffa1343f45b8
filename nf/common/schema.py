"""The tables that every function's store has; typed tables of a function come beside them.

On SQLite, each table or index that a row is in costs a commit a page. A database keeps the tables it was made with.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, String, Table, UniqueConstraint

VERSION = "1"

EVENT_COUNTER = "events"
COMMIT_COUNTER = "commits"

# On SQLite the number of the row itself.
_Serial = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData()

# One row per resource. "id" gives the order of creation and is never used again.
resources = Table(
    "resources",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("kind", String, nullable=False),
    Column("name", String, nullable=False),
    Column("parent", String, nullable=False),
    Column("etag", String, nullable=False),
    Column("due_ns", BigInteger),
    Column("body", LargeBinary, nullable=False),
    UniqueConstraint("kind", "name"),
    Index("resources_by_parent", "kind", "parent", "id"),
    sqlite_autoincrement=True,
)
# Of what is due at some time: most never is.
_has_due_time = resources.c.due_ns.is_not(None)
Index(
    "resources_by_due",
    resources.c.kind,
    resources.c.due_ns,
    sqlite_where=_has_due_time,
)

# By what else a resource is found: (kind, field, value) → name.
lookups = Table(
    "lookups",
    metadata,
    Column("kind", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("field", String, primary_key=True),
    Column("value", String, nullable=False),
    Index("lookups_by_value", "kind", "field", "value"),
    sqlite_with_rowid=False,
)

# The outbox and event log. The sequence goes on from that of the last event, in the transaction that writes the next.
events = Table(
    "events",
    metadata,
    Column("sequence", _Serial, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
)

# Numbers handed out in commit order: that of the last event, and how many commits there were. Where several processes
# write, the rows are locked until the commit; where one does, that of the last event is kept when events are removed.
counters = Table(
    "counters",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# Which process does what only one may do, and until when if it does not say so again.
leases = Table(
    "leases",
    metadata,
    Column("name", String, primary_key=True),
    Column("holder", String, nullable=False),
    Column("expires_ns", BigInteger, nullable=False),
)

# How far the events of other functions have been dealt with.
cursors = Table(
    "cursors",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

# Answers to requests that carried a request_id; kept for REQUESTS_KEPT of the transaction module.
requests = Table(
    "requests",
    metadata,
    Column("request_id", String, primary_key=True),
    Column("method", String, primary_key=True),
    Column("digest", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Index("requests_by_age", "created_ns"),
)

# What the store knows of itself: schema version, instance identifier.
properties = Table(
    "properties",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", String, nullable=False),
)
