"""Consumption reports at the AF: sessions, reports and what is read of them (TS 26.501 §5.6, TS 26.512 §11.3).

What gRPC services and HTTP doors call alike. Reports that come while others are being committed are committed together,
in one write of the store: an answer means that the report is stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from nf.af import (
    consumption_export,
    consumption_queries,
    consumption_records,
    consumption_reporting,
    consumption_reports,
    consumption_sessions,
)
from nf.af.config import AfSection
from nf.af.consumption_records import Incoming
from nf.af.providers import UNRESTRICTED, Provider
from nf.af.provisioning import require_session
from nf.af.v1 import consumption_reporting_pb2 as messages
from nf.af.v1.provisioning_pb2 import ConsumptionReportingConfiguration
from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.store import Reader, Store, Transaction

MAX_BATCH: Final = 10_000
# One write keeps others from the store no longer than these take.
_GROUP: Final = 2_000
_EXPORT_PAGE: Final = 5_000


class ConsumptionReports:
    """Consumption reporting sessions, reports and queries.

    ``server_addresses`` says where clients reach M5, for configurations that name no server.
    """

    def __init__(self, store: Store, config: AfSection, server_addresses: Callable[[], Sequence[str]]) -> None:
        self._store = store
        self._config = config
        self._server_addresses = server_addresses
        self._intake = _Intake(store, config.consumption_session_idle_s)

    async def create_session(
        self, asp_id: str, provisioning_session_id: str = ""
    ) -> tuple[messages.ConsumptionReportingSession, ConsumptionReportingConfiguration]:
        """A new session, and the configuration in force.

        It is bound to the provider's provisioning session that has a configuration; an id chooses among several. Raises
        NotFound where there is none, ProvisioningSessionAmbiguous where there are several and none is chosen.
        """

        def create(
            transaction: Transaction,
        ) -> tuple[consumption_sessions.Session, ConsumptionReportingConfiguration]:
            configuration = consumption_sessions.bound_to(transaction, asp_id, provisioning_session_id)
            idle_s = self._config.consumption_session_idle_s
            return consumption_sessions.create(transaction, asp_id, configuration, idle_s), configuration

        session, configuration = await self._store.write(create)
        return session.resource(), self._effective(configuration)

    async def acquire(self, asp_id: str, session_id: str) -> ConsumptionReportingConfiguration:
        """The configuration in force for a session. Raises NotFound, also when the session has expired."""

        def look(
            reader: Reader,
        ) -> tuple[consumption_sessions.Session, ConsumptionReportingConfiguration]:
            session = consumption_sessions.require(reader, asp_id, session_id)
            return session, consumption_records.configuration_of(reader, session.provisioning_session_id)

        session, configuration = await self._store.read(look)
        idle = consumption_sessions.idle_ns(configuration, self._config.consumption_session_idle_s)
        now_ns = self._store.clock.now_ns()
        if consumption_sessions.needs_touch(session, now_ns, idle):
            await self._store.write(lambda tx: consumption_sessions.touch(tx, {session_id: now_ns + idle}))
        return self._effective(configuration)

    async def report(self, provisioning_session_id: str, report: messages.ConsumptionReport) -> None:
        """Keeps a report to a provisioning session; returns when it is stored durably.

        Raises InvalidArgument, naming every property at fault, and NotFound for a session without a configuration.
        """
        checked = consumption_reports.check(report)
        await self._intake.keep((Incoming(checked, provisioning_session_id=provisioning_session_id),))

    async def report_in_session(self, asp_id: str, session_id: str, report: messages.ConsumptionReport) -> None:
        """Keeps a report in a reporting session; returns when it is stored durably.

        Raises InvalidArgument, naming every property at fault, and NotFound for a session that is not there any more.
        """
        checked = consumption_reports.check(report)
        await self._intake.keep((Incoming(checked, asp_id=asp_id, session_id=session_id),))

    async def report_batch(self, requests: Sequence[messages.ReportConsumptionRequest]) -> None:
        """Keeps many reports, all or none; returns when they are stored durably. Raises what the others raise."""
        if len(requests) > MAX_BATCH:
            raise InvalidArgument.of("reports", f"expected at most {MAX_BATCH}, found {len(requests)}")
        incoming, violations = [], list[FieldViolation]()
        for index, request in enumerate(requests):
            try:
                incoming.append(_incoming(request))
            except InvalidArgument as error:
                violations += [
                    FieldViolation(f"reports[{index}].{each.field}", each.description) for each in error.violations
                ]
        if violations:
            raise InvalidArgument(
                "; ".join(f"{each.field}: {each.description}" for each in violations[:10]), violations=violations[:100]
            )
        if incoming:
            await self._intake.keep(incoming)

    async def list_units(
        self, request: messages.ListConsumptionReportingUnitsRequest, provider: Provider = UNRESTRICTED
    ) -> messages.ListConsumptionReportingUnitsResponse:
        """One page of records in the order of first receipt. Raises InvalidArgument, NotFound, OperatorOnly."""

        def look(reader: Reader) -> tuple[Sequence[messages.ConsumptionRecord], str]:
            _check_reader(reader, request.filter.provisioning_session_id, provider)
            return consumption_queries.list_records(
                reader, request.filter, page_size=request.page_size, page_token=request.page_token
            )

        records, token = await self._store.read(look)
        return messages.ListConsumptionReportingUnitsResponse(consumption_records=records, next_page_token=token)

    async def aggregate(
        self, request: messages.AggregateConsumptionRequest, provider: Provider = UNRESTRICTED
    ) -> messages.AggregateConsumptionResponse:
        """Clients and time per medium and period. Raises InvalidArgument, NotFound, OperatorOnly."""

        def look(reader: Reader) -> list[messages.ConsumptionAggregate]:
            _check_reader(reader, request.filter.provisioning_session_id, provider)
            return consumption_queries.aggregate(reader, request)

        return messages.AggregateConsumptionResponse(consumption_aggregates=await self._store.read(look))

    async def export(
        self, request: messages.ExportConsumptionRequest, provider: Provider = UNRESTRICTED
    ) -> AsyncIterator[bytes]:
        """Records as a file, piece by piece: those that there are when it begins.

        Raises InvalidArgument, NotFound, OperatorOnly, and FailedPrecondition where the AF cannot write the format: all
        of them before the first piece.
        """
        writer = consumption_export.writer_of(request.format)
        consumption_queries.check_filter(request.filter)
        session_id = request.filter.provisioning_session_id
        await self._store.read(lambda reader: _check_reader(reader, session_id, provider))
        until = await self._store.read(consumption_queries.last_record)
        after = 0
        begun = writer.begin()
        if begun:
            yield begun
        while True:
            after, piece = await self._store.read(partial(_next_piece, request.filter, writer, after, until))
            if piece:
                yield piece
            if not after:
                break
        ended = writer.end()
        if ended:
            yield ended

    async def statistics(
        self, provisioning_session_id: str, provider: Provider = UNRESTRICTED
    ) -> messages.ConsumptionStatistics:
        """Counts of what is kept of a provisioning session, be it still provisioned or not. Raises NotFound."""

        def look(reader: Reader) -> messages.ConsumptionStatistics:
            _check_reader(reader, provisioning_session_id, provider)
            return consumption_queries.statistics(reader, provisioning_session_id)

        return await self._store.read(look)

    async def list_sessions(
        self, request: messages.ListConsumptionReportingSessionsRequest, provider: Provider = UNRESTRICTED
    ) -> messages.ListConsumptionReportingSessionsResponse:
        """One page of reporting sessions in the order of their creation. Raises InvalidArgument, OperatorOnly."""

        def look(reader: Reader) -> tuple[Sequence[messages.ConsumptionReportingSession], str]:
            _check_reader(reader, request.provisioning_session_id, provider)
            return consumption_sessions.list_page(
                reader,
                provisioning_session_id=request.provisioning_session_id,
                page_size=request.page_size,
                page_token=request.page_token,
            )

        told, token = await self._store.read(look)
        return messages.ListConsumptionReportingSessionsResponse(
            consumption_reporting_sessions=told, next_page_token=token
        )

    def _effective(self, configuration: ConsumptionReportingConfiguration) -> ConsumptionReportingConfiguration:
        return consumption_reporting.in_force(
            configuration, self._server_addresses(), self._config.consumption_reporting_interval_s
        )


def _check_reader(reader: Reader, provisioning_session_id: str, provider: Provider) -> None:
    """Raises NotFound for what another provider has provisioned, OperatorOnly where one asks for everything."""
    if provider.sees is None:
        return
    if not provisioning_session_id:
        provider.check_operator("read what is reported to all provisioning sessions")
    require_session(reader, provisioning_session_id, provider)


def _next_piece(
    wanted: messages.ConsumptionFilter, writer: consumption_export.Writer, after: int, until: int, reader: Reader
) -> tuple[int, bytes]:
    """The next piece of a file, and the number of its last record; 0: it is the last piece."""
    found = consumption_queries.records_after(reader, wanted, after, _EXPORT_PAGE, until)
    piece = writer.write([record for _, record in found]) if found else b""
    return found[-1][0] if len(found) == _EXPORT_PAGE else 0, piece


def _incoming(request: messages.ReportConsumptionRequest) -> Incoming:
    if bool(request.provisioning_session_id) == bool(request.session_id):
        raise InvalidArgument.of(
            "provisioning_session_id", "expected either a provisioning session, or a provider and its reporting session"
        )
    return Incoming(
        consumption_reports.check(request.consumption_report),
        provisioning_session_id=request.provisioning_session_id,
        asp_id=request.asp_id,
        session_id=request.session_id,
    )


@dataclass(frozen=True, slots=True)
class _Submission:
    reports: Sequence[Incoming]
    kept: asyncio.Future[None]


class _Intake:
    """Gathers what comes while a write is under way, for the next one."""

    def __init__(self, store: Store, idle_s: int) -> None:
        self._store = store
        self._idle_s = idle_s
        self._waiting: list[_Submission] = []
        self._task: asyncio.Task[None] | None = None

    async def keep(self, reports: Sequence[Incoming]) -> None:
        """Returns when the reports are stored, all of them. Raises, and then none is."""
        submission = _Submission(reports, asyncio.get_running_loop().create_future())
        self._waiting.append(submission)
        if self._task is None:
            self._task = asyncio.create_task(self._write_all(), name="consumption reports")
        await submission.kept

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                await self._write_group(self._next_group())
        finally:
            self._task = None

    def _next_group(self) -> list[_Submission]:
        group, size = list[_Submission](), 0
        for submission in self._waiting:
            size += len(submission.reports)
            if group and size > _GROUP:
                break
            group.append(submission)
        del self._waiting[: len(group)]
        return group

    async def _write_group(self, group: list[_Submission]) -> None:
        reports = [submission.reports for submission in group]
        try:
            outcomes = await self._store.write(lambda tx: consumption_records.record(tx, reports, self._idle_s))
        except Exception as error:
            for submission in group:
                if not submission.kept.done():
                    submission.kept.set_exception(error)
            return
        for submission, refused in zip(group, outcomes, strict=True):
            if submission.kept.done():
                continue
            if refused is None:
                submission.kept.set_result(None)
            else:
                submission.kept.set_exception(refused)
