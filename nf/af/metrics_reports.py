"""Metrics reports as they come: kept whole and for a time, told to whom they concern (TS 26.512 §11.4).

What is in a report is the scheme's matter; XML and JSON have to be well-formed. The same report to one configuration is
kept once.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Final
from xml.parsers import expat

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    RowMapping,
    String,
    Table,
    bindparam,
    delete,
    func,
    select,
)

from nf.af import metrics_reporting
from nf.af.providers import Provider
from nf.af.provisioning import require_session
from nf.af.v1 import metrics_reporting_pb2 as messages
from nf.af.v1.metrics_reporting_pb2 import MetricsReport
from nf.common.bulk import insert_rows
from nf.common.errors import InvalidArgument
from nf.common.reader import not_found
from nf.common.resources import decode_page_token, encode_page_token, new_id, page_limit
from nf.common.store import Reader, Transaction

metadata = MetaData()

_Serial = BigInteger().with_variant(Integer, "sqlite")
_SWEEP_ROWS: Final = 500

reports = Table(
    "metrics_reports",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("report_id", String, nullable=False, unique=True),
    Column("provisioning_session_id", String, nullable=False),
    Column("configuration_id", String, nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("content_type", String, nullable=False),
    Column("received_ns", BigInteger, nullable=False, index=True),
    Column("body", LargeBinary, nullable=False),
    Index("metrics_reports_by_session", "provisioning_session_id", "id"),
    sqlite_autoincrement=True,
)

TABLES: Final = (reports,)

# "application/3gpdash-qoe-report+xml; charset=utf-8"
_CONTENT_TYPE = re.compile(r"application/(?P<subtype>[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126})\s*(;[\x20-\x7e]{0,128})?")
_COLUMNS: Final = [column.name for column in reports.c if column.name != "id"]
_TOLD: Final = [column for column in reports.c if column.name != "body"]
_SIZE: Final = func.length(reports.c.body).label("size")
_OLD = select(reports.c.id).where(reports.c.received_ns < bindparam("before")).limit(_SWEEP_ROWS)
_DELETE = delete(reports).where(reports.c.id.in_(bindparam("ids", expanding=True)))


def check(request: messages.ReportMetricsRequest, max_bytes: int) -> None:
    """Raises InvalidArgument for a report that is none, or that has more than ``max_bytes``."""
    match = _CONTENT_TYPE.fullmatch(request.content_type)
    if match is None:
        raise InvalidArgument.of("content_type", f"expected application/…, found {request.content_type[:64]!r}")
    if not 0 < len(request.report) <= max_bytes:
        found = f"{len(request.report)} bytes" if request.report else "nothing"
        raise InvalidArgument.of("report", f"expected 1 to {max_bytes} bytes, found {found}")
    subtype = match["subtype"].lower()
    try:
        if subtype == "xml" or subtype.endswith("+xml"):
            _check_xml(request.report)
        elif subtype == "json" or subtype.endswith("+json"):
            json.loads(request.report)
    except (ValueError, RecursionError, expat.ExpatError) as error:
        raise InvalidArgument.of("report", f"expected well-formed {subtype}: {error}") from None


def keep(transaction: Transaction, request: messages.ReportMetricsRequest) -> None:
    """Keeps a checked report. Raises NotFound for a configuration that the session does not have."""
    session_id, configuration_id = request.provisioning_session_id, request.metrics_reporting_configuration_id
    metrics_reporting.of_session(transaction, session_id, configuration_id)
    told = hashlib.blake2b(f"{configuration_id} {request.content_type}\n".encode() + request.report, digest_size=20)
    row = (
        new_id(),
        session_id,
        configuration_id,
        told.digest(),
        request.content_type,
        transaction.clock.now_ns(),
        request.report,
    )
    insert_rows(transaction.connection, reports.name, _COLUMNS, [row])


def list_page(
    reader: Reader, request: messages.ListMetricsReportsRequest, provider: Provider
) -> messages.ListMetricsReportsResponse:
    """One page in the order of receipt, without the content. Raises InvalidArgument, NotFound, OperatorOnly."""
    if provider.sees is not None:
        if not request.provisioning_session_id:
            provider.check_operator("list the metrics reports of all provisioning sessions")
        require_session(reader, request.provisioning_session_id, provider)
    scope = f"metrics\0{request.provisioning_session_id}\0{request.metrics_reporting_configuration_id}"
    limit = page_limit(request.page_size)
    query = select(*_TOLD, _SIZE).where(reports.c.id > decode_page_token(scope, request.page_token))
    if request.provisioning_session_id:
        query = query.where(reports.c.provisioning_session_id == request.provisioning_session_id)
    if request.metrics_reporting_configuration_id:
        query = query.where(reports.c.configuration_id == request.metrics_reporting_configuration_id)
    rows = reader.connection.execute(query.order_by(reports.c.id).limit(limit + 1)).mappings().all()
    return messages.ListMetricsReportsResponse(
        metrics_reports=[_report(row) for row in rows[:limit]],
        next_page_token=encode_page_token(scope, rows[limit - 1]["id"]) if len(rows) > limit else "",
    )


def get(reader: Reader, metrics_report_id: str, provider: Provider) -> MetricsReport:
    """A report with its content. Raises NotFound."""
    query = select(*_TOLD, _SIZE, reports.c.body).where(reports.c.report_id == metrics_report_id)
    row = reader.connection.execute(query).mappings().one_or_none()
    if row is None:
        raise not_found(MetricsReport, metrics_report_id)
    if provider.sees is not None:
        require_session(reader, row["provisioning_session_id"], provider)
    found = _report(row)
    found.report = row["body"]
    return found


def sweep(transaction: Transaction, before_ns: int) -> int:
    """Removes some of what was received before then; how much it was, 0: nothing is left to remove."""
    old = list(transaction.connection.execute(_OLD, {"before": before_ns}).scalars())
    if old:
        transaction.connection.execute(_DELETE, {"ids": old})
    return len(old)


def _report(row: RowMapping) -> MetricsReport:
    told = MetricsReport(
        metrics_report_id=row["report_id"],
        provisioning_session_id=row["provisioning_session_id"],
        metrics_reporting_configuration_id=row["configuration_id"],
        content_type=row["content_type"],
        report_bytes=row["size"],
    )
    told.receive_time.FromNanoseconds(row["received_ns"])
    return told


def _check_xml(document: bytes) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("a document type declaration")

    parser = expat.ParserCreate()
    # Entities are how a small document becomes a large one.
    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(document, True)
