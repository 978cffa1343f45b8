"""The AF's gRPC services for consumption reports (TS 26.512 §11.3). Requests to the domain, its answers back."""

from __future__ import annotations

from collections.abc import AsyncIterator

from nf.af.providers import Context, Providers
from nf.af.reports import ConsumptionReports
from nf.af.v1 import consumption_reporting_pb2 as messages
from nf.af.v1.consumption_reporting_pb2_grpc import (
    ConsumptionReportingServiceServicer,
    ConsumptionReportsServiceServicer,
)
from nf.common.errors import InvalidArgument


class ConsumptionReportingService(ConsumptionReportingServiceServicer):
    """What Media Session Handlers call at M5."""

    def __init__(self, reports: ConsumptionReports) -> None:
        self._reports = reports

    async def CreateConsumptionReportingSession(
        self, request: messages.CreateConsumptionReportingSessionRequest, context: object
    ) -> messages.CreateConsumptionReportingSessionResponse:
        """Opens a reporting session."""
        session, configuration = await self._reports.create_session(request.asp_id, request.provisioning_session_id)
        return messages.CreateConsumptionReportingSessionResponse(
            consumption_reporting_session=session, consumption_reporting_configuration=configuration
        )

    async def AcquireConsumptionReportingConfiguration(
        self, request: messages.AcquireConsumptionReportingConfigurationRequest, context: object
    ) -> messages.AcquireConsumptionReportingConfigurationResponse:
        """Reads the configuration in force."""
        configuration = await self._reports.acquire(request.asp_id, request.session_id)
        return messages.AcquireConsumptionReportingConfigurationResponse(
            consumption_reporting_configuration=configuration
        )

    async def ReportConsumption(
        self, request: messages.ReportConsumptionRequest, context: object
    ) -> messages.ReportConsumptionResponse:
        """Keeps a report."""
        if bool(request.provisioning_session_id) == bool(request.session_id):
            raise InvalidArgument.of(
                "provisioning_session_id",
                "expected either a provisioning session, or a provider and its reporting session",
            )
        if request.session_id:
            await self._reports.report_in_session(request.asp_id, request.session_id, request.consumption_report)
        else:
            await self._reports.report(request.provisioning_session_id, request.consumption_report)
        return messages.ReportConsumptionResponse()

    async def ReportConsumptionBatch(
        self, request: messages.ReportConsumptionBatchRequest, context: object
    ) -> messages.ReportConsumptionBatchResponse:
        """Keeps many reports, all or none."""
        await self._reports.report_batch(request.reports)
        return messages.ReportConsumptionBatchResponse()


class ConsumptionReportsService(ConsumptionReportsServiceServicer):
    """What operators and providers read."""

    def __init__(self, reports: ConsumptionReports, providers: Providers) -> None:
        self._reports = reports
        self._providers = providers

    async def ListConsumptionReportingUnits(
        self, request: messages.ListConsumptionReportingUnitsRequest, context: Context
    ) -> messages.ListConsumptionReportingUnitsResponse:
        """Lists records."""
        return await self._reports.list_units(request, self._providers.caller(context))

    async def AggregateConsumption(
        self, request: messages.AggregateConsumptionRequest, context: Context
    ) -> messages.AggregateConsumptionResponse:
        """Clients and seconds per medium and period."""
        return await self._reports.aggregate(request, self._providers.caller(context))

    async def ExportConsumption(
        self, request: messages.ExportConsumptionRequest, context: Context
    ) -> AsyncIterator[messages.ExportConsumptionResponse]:
        """Records as a file."""
        async for chunk in self._reports.export(request, self._providers.caller(context)):
            yield messages.ExportConsumptionResponse(chunk=chunk)

    async def GetConsumptionStatistics(
        self, request: messages.GetConsumptionStatisticsRequest, context: Context
    ) -> messages.GetConsumptionStatisticsResponse:
        """Counts what a provisioning session has been told."""
        statistics = await self._reports.statistics(request.provisioning_session_id, self._providers.caller(context))
        return messages.GetConsumptionStatisticsResponse(consumption_statistics=statistics)

    async def ListConsumptionReportingSessions(
        self, request: messages.ListConsumptionReportingSessionsRequest, context: Context
    ) -> messages.ListConsumptionReportingSessionsResponse:
        """Lists reporting sessions."""
        return await self._reports.list_sessions(request, self._providers.caller(context))
