"""M1 over HTTP: metrics reporting configurations (TS 26.512 §7.8)."""

from __future__ import annotations

from nf.af import metrics_reporting
from nf.af.providers import Provider
from nf.af.rest_m1_answers import Call, answer, check
from nf.af.v1 import metrics_reporting_pb2 as m1
from nf.common.rest import Answer, Door
from nf.common.store import Store, Transaction

Configuration = m1.MetricsReportingConfiguration

_ALL = "/provisioning-sessions/{provisioningSessionId}/metrics-reporting-configurations"
_ONE = f"{_ALL}/{{metricsReportingConfigurationId}}"


class M1Metrics:
    """The metrics reporting configurations of a session."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def create(self, call: Call) -> Answer:
        """A new configuration."""
        request = m1.CreateMetricsReportingConfigurationRequest(
            provisioning_session_id=call.path["provisioningSessionId"],
            metrics_reporting_configuration=call.message(Configuration),
        )
        made = await self._store.write(lambda tx: metrics_reporting.create(tx, request, call.caller))
        return answer(201, made, location=f"{call.url}/{made.metrics_reporting_configuration_id}")

    async def read(self, call: Call) -> Answer:
        """The configuration."""
        session, name = call.path["provisioningSessionId"], call.path["metricsReportingConfigurationId"]
        found = await self._store.read(lambda tx: metrics_reporting.require(tx, session, name, call.caller))
        return answer(200, found)

    async def replace(self, call: Call) -> Answer:
        """PUT: what is not set is cleared."""
        changed = await self._store.write(lambda tx: self._change(tx, call, call.message(Configuration)))
        return answer(204, changed, body=False)

    async def patch(self, call: Call) -> Answer:
        """PATCH."""
        changed = await self._store.write(lambda tx: self._change(tx, call, call.patched(self._current(tx, call))))
        return answer(200, changed)

    async def delete(self, call: Call) -> Answer:
        """Removes the configuration; what was reported by it stays."""

        def delete(transaction: Transaction) -> None:
            current = self._current(transaction, call)
            request = m1.DeleteMetricsReportingConfigurationRequest(
                provisioning_session_id=current.provisioning_session_id,
                metrics_reporting_configuration_id=current.metrics_reporting_configuration_id,
            )
            metrics_reporting.delete(transaction, request, call.caller)

        await self._store.write(delete)
        return Answer(204)

    def _current(self, transaction: Transaction, call: Call) -> Configuration:
        session, name = call.path["provisioningSessionId"], call.path["metricsReportingConfigurationId"]
        current = metrics_reporting.require(transaction, session, name, call.caller)
        check(call, current, f"metrics reporting configuration {name!r}")
        return current

    def _change(self, transaction: Transaction, call: Call, wanted: Configuration) -> Configuration:
        current = self._current(transaction, call)
        request = m1.UpdateMetricsReportingConfigurationRequest(metrics_reporting_configuration=wanted)
        changes = request.metrics_reporting_configuration
        changes.provisioning_session_id = current.provisioning_session_id
        changes.metrics_reporting_configuration_id = current.metrics_reporting_configuration_id
        changes.etag = ""
        return metrics_reporting.update(transaction, request, call.caller)


def tell_metrics(door: Door[Provider], store: Store) -> None:
    """Tells the door of M1 the operations on metrics reporting configurations."""
    metrics = M1Metrics(store)
    door.operation(
        "POST",
        _ALL,
        metrics.create,
        operation_id="activateMetricsReporting",
        summary="Adds a metrics reporting configuration to a provisioning session",
        request=Configuration,
        answers={201: Configuration},
    )
    door.operation(
        "GET",
        _ONE,
        metrics.read,
        operation_id="retrieveMetricsReportingConfiguration",
        summary="Reads a metrics reporting configuration",
        answers={200: Configuration},
    )
    door.operation(
        "PUT",
        _ONE,
        metrics.replace,
        operation_id="updateMetricsReportingConfiguration",
        summary="Replaces a metrics reporting configuration",
        request=Configuration,
        answers={204: None},
    )
    door.operation(
        "PATCH",
        _ONE,
        metrics.patch,
        operation_id="patchMetricsReportingConfiguration",
        summary="Changes a metrics reporting configuration",
        request=Configuration,
        answers={200: Configuration},
    )
    door.operation(
        "DELETE",
        _ONE,
        metrics.delete,
        operation_id="destroyMetricsReportingConfiguration",
        summary="Removes a metrics reporting configuration; what was reported by it stays",
        answers={204: None},
    )
