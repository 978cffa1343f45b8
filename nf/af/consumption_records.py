"""The records that consumption reports leave behind: their tables, and what is written to them (TS 26.501 §5.6).

Every write is a repeatable one: a report that comes twice, and units that come again, leave one row each. Works within
the store's transactions, many reports at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    bindparam,
    delete,
    select,
)

from nf.af import consumption_sessions
from nf.af.consumption_reporting import LOCATION_TYPES, location_is_on
from nf.af.consumption_reports import Report
from nf.af.consumption_sessions import Session
from nf.af.v1.provisioning_pb2 import ConsumptionReportingConfiguration, ProvisioningSession
from nf.common.bulk import Row, insert_rows
from nf.common.errors import CastcoreError, NotFound
from nf.common.store import Reader, Transaction

metadata = MetaData()

_Serial = BigInteger().with_variant(Integer, "sqlite")
_SWEEP_ROWS: Final = 500

# One row per report: what tells a repeat, and what was left out of it.
reports = Table(
    "consumption_reports",
    metadata,
    Column("provisioning_session_id", String, primary_key=True),
    Column("key", LargeBinary, primary_key=True),
    Column("received_ns", BigInteger, nullable=False, index=True),
    Column("unsolicited_locations", Integer, nullable=False),
    Column("unsolicited_endpoints", Integer, nullable=False),
    sqlite_with_rowid=False,
)

# One row per unit, in the order of first receipt. "key" is what tells it from others.
units = Table(
    "consumption_units",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("key", LargeBinary, nullable=False, unique=True),
    Column("provisioning_session_id", String, nullable=False),
    Column("session_id", String, nullable=False),
    Column("media_player_entry", String, nullable=False),
    Column("reporting_client_id", String, nullable=False),
    Column("media_consumed", String, nullable=False),
    Column("start_ns", BigInteger, nullable=False),
    Column("end_ns", BigInteger, nullable=False),
    Column("received_ns", BigInteger, nullable=False),
    Column("client_endpoint", LargeBinary, nullable=False),
    Column("server_endpoint", LargeBinary, nullable=False),
    Index("consumption_units_by_time", "provisioning_session_id", "start_ns"),
    Index("consumption_units_by_client", "reporting_client_id", "start_ns"),
    sqlite_autoincrement=True,
)

# The cells of a unit.
locations = Table(
    "consumption_locations",
    metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("location_type", Integer, primary_key=True, autoincrement=False),
    Column("location", String, primary_key=True),
    Index("consumption_locations_by_cell", "location"),
    sqlite_with_rowid=False,
)

TABLES: Final = (consumption_sessions.sessions, reports, units, locations)

# The order in which the rows below have their values.
_REPORT = [column.name for column in reports.c]
_UNIT = [column.name for column in units.c if column.name != "id"]
_LOCATION = [column.name for column in locations.c]
_LONGER = '("key") DO UPDATE SET end_ns = excluded.end_ns WHERE excluded.end_ns > consumption_units.end_ns'

_OLDEST = select(units.c.id, units.c.key, units.c.received_ns).order_by(units.c.id).limit(_SWEEP_ROWS)
_DELETE_UNITS = delete(units).where(units.c.id.in_(bindparam("ids", expanding=True)))
_DELETE_LOCATIONS = delete(locations).where(locations.c.key.in_(bindparam("keys", expanding=True)))
_OLD_REPORTS = (
    select(reports.c.provisioning_session_id, reports.c.key)
    .where(reports.c.received_ns < bindparam("before"))
    .limit(_SWEEP_ROWS)
)
_DELETE_REPORT = delete(reports).where(
    reports.c.provisioning_session_id == bindparam("session"), reports.c.key == bindparam("which")
)


class Incoming(NamedTuple):
    """A checked report and where it goes: to a reporting session of a provider, or right to a provisioning session."""

    report: Report
    provisioning_session_id: str = ""
    asp_id: str = ""
    session_id: str = ""


@dataclass(slots=True)
class _Rows:
    """What is to be written."""

    reports: list[Row] = field(default_factory=list)
    # By their keys, each with the end of its unit.
    units: dict[bytes, tuple[int, Row]] = field(default_factory=dict)
    locations: list[Row] = field(default_factory=list)
    touched: dict[str, int] = field(default_factory=dict)


class _Target(NamedTuple):
    """Where a report goes, and what is kept of it."""

    provisioning_session_id: str
    configuration: ConsumptionReportingConfiguration
    # Of locations; of the ends of connections.
    wanted_types: Sequence[int]
    wants_endpoints: bool
    session: Session | None = None


def record(
    transaction: Transaction, submissions: Sequence[Sequence[Incoming]], idle_s: int
) -> list[CastcoreError | None]:
    """Keeps every submission whole or, where one of its reports has nowhere to go, not at all; says which, and why."""
    wanted = {each.session_id for submission in submissions for each in submission if each.session_id}
    sessions = consumption_sessions.find(transaction, wanted) if wanted else {}
    known: dict[str, _Target] = {}
    rows, outcomes, now_ns = _Rows(), list[CastcoreError | None](), transaction.clock.now_ns()
    for submission in submissions:
        try:
            targets = [_target(transaction, each, sessions, known) for each in submission]
        except CastcoreError as error:
            outcomes.append(error)
            continue
        for incoming, target in zip(submission, targets, strict=True):
            _add(rows, incoming, target, now_ns)
            if target.session is not None:
                idle = consumption_sessions.idle_ns(target.configuration, idle_s)
                if consumption_sessions.needs_touch(target.session, now_ns, idle):
                    rows.touched[incoming.session_id] = now_ns + idle
        outcomes.append(None)
    _write(transaction, rows)
    return outcomes


def configuration_of(reader: Reader, provisioning_session_id: str) -> ConsumptionReportingConfiguration:
    """The configuration that a session is reported to by. Raises NotFound, saying which of the two is missing."""
    configuration = reader.get(ConsumptionReportingConfiguration, provisioning_session_id)
    if configuration is None:
        reader.require(ProvisioningSession, provisioning_session_id)
        raise NotFound(f"provisioning session {provisioning_session_id!r} has no consumption reporting configuration")
    return configuration


def sweep(transaction: Transaction, before_ns: int) -> int:
    """Removes some of what was received before then; how much it was, 0: nothing is left to remove."""
    execute = transaction.connection.execute
    old = [row for row in execute(_OLDEST) if row.received_ns < before_ns]
    if old:
        execute(_DELETE_LOCATIONS, {"keys": [row.key for row in old]})
        execute(_DELETE_UNITS, {"ids": [row.id for row in old]})
    told = [
        {"session": row.provisioning_session_id, "which": row.key}
        for row in execute(_OLD_REPORTS, {"before": before_ns})
    ]
    if told:
        execute(_DELETE_REPORT, told)
    return len(old) + len(told)


def _target(reader: Reader, incoming: Incoming, sessions: dict[str, Session], known: dict[str, _Target]) -> _Target:
    to, session = incoming.provisioning_session_id, None
    if incoming.session_id:
        session = consumption_sessions.belonging(sessions, incoming.asp_id, incoming.session_id)
        to = session.provisioning_session_id
    target = known.get(to)
    if target is None:
        configuration = configuration_of(reader, to)
        types = _wanted_types(configuration)
        target = known[to] = _Target(to, configuration, types, configuration.access_reporting)
    return target if session is None else target._replace(session=session)


def _add(rows: _Rows, incoming: Incoming, target: _Target, now_ns: int) -> None:
    report, session_id = incoming.report, incoming.session_id
    to, wanted, units = target.provisioning_session_id, target.wanted_types, rows.units
    unsolicited_locations = unsolicited_endpoints = 0
    for unit in report.units:
        media, start_ns, end_ns, cells, client_endpoint, server_endpoint = unit
        key = report.key_of(unit, to)
        for kind, cell in cells:
            if kind in wanted:
                rows.locations.append((key, kind, cell))
            else:
                unsolicited_locations += 1
        if (client_endpoint or server_endpoint) and not target.wants_endpoints:
            unsolicited_endpoints += bool(client_endpoint) + bool(server_endpoint)
            client_endpoint = server_endpoint = b""
        known = units.get(key)
        if known is None or known[0] < end_ns:
            row: Row = (
                key,
                to,
                session_id,
                report.media_player_entry,
                report.reporting_client_id,
                media,
                start_ns,
                end_ns,
                now_ns,
                client_endpoint,
                server_endpoint,
            )
            units[key] = (end_ns, row)
    rows.reports.append((to, report.key_in(session_id or to), now_ns, unsolicited_locations, unsolicited_endpoints))


def _wanted_types(configuration: ConsumptionReportingConfiguration) -> Sequence[int]:
    if not location_is_on(configuration):
        return ()
    return (configuration.location_type,) if configuration.HasField("location_type") else LOCATION_TYPES


def _write(transaction: Transaction, rows: _Rows) -> None:
    connection = transaction.connection
    insert_rows(connection, reports.name, _REPORT, rows.reports)
    # Of units that are there already, the longer duration wins.
    insert_rows(connection, units.name, _UNIT, [row for _, row in rows.units.values()], _LONGER)
    insert_rows(connection, locations.name, _LOCATION, rows.locations)
    consumption_sessions.touch(transaction, rows.touched)
