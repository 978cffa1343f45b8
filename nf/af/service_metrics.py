"""The AF's gRPC services for metrics reporting (TS 26.512 §7.8, §11.4), and what HTTP doors call alike."""

from __future__ import annotations

from nf.af import metrics_reporting, metrics_reports
from nf.af.config import AfSection
from nf.af.providers import Context, Provider, Providers
from nf.af.v1 import metrics_reporting_pb2 as messages
from nf.af.v1.metrics_reporting_pb2_grpc import (
    MetricsReportingProvisioningServiceServicer,
    MetricsReportingServiceServicer,
    MetricsReportsServiceServicer,
)
from nf.common.store import Store


class MetricsReports:
    """Metrics reports: kept and read."""

    def __init__(self, store: Store, config: AfSection) -> None:
        self._store = store
        self._config = config

    async def report(self, request: messages.ReportMetricsRequest) -> None:
        """Keeps a report; returns when it is stored durably. Raises InvalidArgument, NotFound."""
        metrics_reports.check(request, self._config.metrics_report_max_bytes)
        await self._store.write(lambda tx: metrics_reports.keep(tx, request))

    async def list_reports(
        self, request: messages.ListMetricsReportsRequest, provider: Provider
    ) -> messages.ListMetricsReportsResponse:
        """One page of reports without their content. Raises InvalidArgument, NotFound, OperatorOnly."""
        return await self._store.read(lambda reader: metrics_reports.list_page(reader, request, provider))

    async def get(self, metrics_report_id: str, provider: Provider) -> messages.MetricsReport:
        """A report with its content. Raises NotFound."""
        return await self._store.read(lambda reader: metrics_reports.get(reader, metrics_report_id, provider))


class MetricsReportingProvisioningService(MetricsReportingProvisioningServiceServicer):
    """What providers set up at M1."""

    def __init__(self, store: Store, providers: Providers) -> None:
        self._store = store
        self._providers = providers

    async def CreateMetricsReportingConfiguration(
        self, request: messages.CreateMetricsReportingConfigurationRequest, context: Context
    ) -> messages.CreateMetricsReportingConfigurationResponse:
        """Adds a configuration."""
        provider = self._providers.caller(context)
        made = await self._store.write(lambda tx: metrics_reporting.create(tx, request, provider))
        return messages.CreateMetricsReportingConfigurationResponse(metrics_reporting_configuration=made)

    async def GetMetricsReportingConfiguration(
        self, request: messages.GetMetricsReportingConfigurationRequest, context: Context
    ) -> messages.GetMetricsReportingConfigurationResponse:
        """Reads a configuration."""
        provider = self._providers.caller(context)
        session_id, name = request.provisioning_session_id, request.metrics_reporting_configuration_id
        found = await self._store.read(lambda reader: metrics_reporting.require(reader, session_id, name, provider))
        return messages.GetMetricsReportingConfigurationResponse(metrics_reporting_configuration=found)

    async def ListMetricsReportingConfigurations(
        self, request: messages.ListMetricsReportingConfigurationsRequest, context: Context
    ) -> messages.ListMetricsReportingConfigurationsResponse:
        """Lists the configurations of a session."""
        provider = self._providers.caller(context)
        page = await self._store.read(lambda reader: metrics_reporting.list_page(reader, request, provider))
        return messages.ListMetricsReportingConfigurationsResponse(
            metrics_reporting_configurations=page.items, next_page_token=page.next_page_token
        )

    async def UpdateMetricsReportingConfiguration(
        self, request: messages.UpdateMetricsReportingConfigurationRequest, context: Context
    ) -> messages.UpdateMetricsReportingConfigurationResponse:
        """Changes a configuration."""
        provider = self._providers.caller(context)
        changed = await self._store.write(lambda tx: metrics_reporting.update(tx, request, provider))
        return messages.UpdateMetricsReportingConfigurationResponse(metrics_reporting_configuration=changed)

    async def DeleteMetricsReportingConfiguration(
        self, request: messages.DeleteMetricsReportingConfigurationRequest, context: Context
    ) -> messages.DeleteMetricsReportingConfigurationResponse:
        """Removes a configuration."""
        provider = self._providers.caller(context)
        await self._store.write(lambda tx: metrics_reporting.delete(tx, request, provider))
        return messages.DeleteMetricsReportingConfigurationResponse()


class MetricsReportingService(MetricsReportingServiceServicer):
    """What clients hand in at M5."""

    def __init__(self, reports: MetricsReports) -> None:
        self._reports = reports

    async def ReportMetrics(
        self, request: messages.ReportMetricsRequest, context: object
    ) -> messages.ReportMetricsResponse:
        """Keeps a report."""
        await self._reports.report(request)
        return messages.ReportMetricsResponse()


class MetricsReportsService(MetricsReportsServiceServicer):
    """What operators and providers read."""

    def __init__(self, reports: MetricsReports, providers: Providers) -> None:
        self._reports = reports
        self._providers = providers

    async def ListMetricsReports(
        self, request: messages.ListMetricsReportsRequest, context: Context
    ) -> messages.ListMetricsReportsResponse:
        """Lists reports without their content."""
        return await self._reports.list_reports(request, self._providers.caller(context))

    async def GetMetricsReport(
        self, request: messages.GetMetricsReportRequest, context: Context
    ) -> messages.GetMetricsReportResponse:
        """Reads a report."""
        found = await self._reports.get(request.metrics_report_id, self._providers.caller(context))
        return messages.GetMetricsReportResponse(metrics_report=found)
