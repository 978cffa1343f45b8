"""M5 over HTTP: what a Media Session Handler asks of the AF (TS 26.512 §11), on the same resources as over gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from nf.af import intentions
from nf.af.access_cache import AccessCache
from nf.af.activation import Activation
from nf.af.config import AfSection
from nf.af.reports import ConsumptionReports
from nf.af.service_metrics import MetricsReports
from nf.af.ue_address import UE_ADDRESS_METADATA, Caller, identify_http
from nf.af.v1 import media_session_pb2 as m5
from nf.af.v1.consumption_reporting_pb2 import ConsumptionReport
from nf.af.v1.metrics_reporting_pb2 import ReportMetricsRequest
from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.rest import DEFAULT_MAX_BODY_BYTES, Answer, Door, Media, RestCall
from nf.common.store import Store

PREFIX: Final = "/3gpp-m5/v2"

# What names a policy: an update may repeat it, and may not change it.
_IDENTITY: Final = ("dynamic_policy_id", "provisioning_session_id", "policy_template_id")
_PRECONDITIONS: Final = ("if-match", "if-none-match", "if-unmodified-since")

# What a metrics scheme calls for; DASH has XML (TS 26.247 §10.6).
_METRICS: Final = Media(("application/3gpdash-qoe-report+xml", "application/*"))

Call = RestCall[None]


def build_door(
    store: Store,
    config: AfSection,
    activation: Activation,
    reports: ConsumptionReports,
    metrics: MetricsReports,
    access: AccessCache,
) -> Door[None]:
    """The door at ``PREFIX``. It is open to UEs; which of them calls is told by its address."""
    made: Door[None] = Door(
        PREFIX,
        title="M5: media session handling",
        version="2.4.0",
        identify=_anyone,
        description="TS 26.512 §11. Dynamic policies are those of the UE that calls, known by its address or, behind a "
        "trusted proxy, by X-UE-Address.",
        max_body_bytes=max(DEFAULT_MAX_BODY_BYTES, config.metrics_report_max_bytes),
    )
    _ServiceAccess(store, config, access).join(made)
    _DynamicPolicies(store, config, activation).join(made)
    _Reporting(reports, metrics).join(made)
    return made


def own_addresses(config: AfSection, http_url: str) -> tuple[str, ...]:
    """Where clients reach M5: the configured addresses, this door, or where there is none the gRPC server."""
    if config.m5_server_addresses or not http_url:
        return config.server_addresses
    return (f"{http_url}{PREFIX}/",)


def _anyone(_: Mapping[str, str]) -> None:
    return


class _ServiceAccess:
    """Service access information (§11.2)."""

    def __init__(self, store: Store, config: AfSection, access: AccessCache) -> None:
        self._store = store
        self._addresses = config.m5_server_addresses
        # Clients rely on it that they may keep what they get for a while.
        self._max_age_s = max(1, config.service_access_max_age_s)
        self._access = access

    def join(self, door: Door[None]) -> None:
        door.operation(
            "GET",
            "/service-access-information/{provisioningSessionId}",
            self.read,
            operation_id="retrieveServiceAccessInformation",
            summary="What a client needs to use a provisioned service.",
            answers={200: m5.ServiceAccessInformation},
            errors=(404,),
            max_age_s=self._max_age_s,
            generation=lambda: self._store.generation,
        )

    async def read(self, call: Call) -> Answer:
        addresses = self._addresses or (call.url_of(f"{PREFIX}/"),)
        found = await self._access.get(call.path["provisioningSessionId"], addresses)
        return Answer(200, found.body, etag=found.etag, last_modified=found.since)


class _DynamicPolicies:
    """Dynamic policies (§11.5, A.3.2 step 7): an answer means that the UPF enforces it."""

    def __init__(self, store: Store, config: AfSection, activation: Activation) -> None:
        self._store = store
        self._trusted_proxies = config.trusted_networks
        self._activation = activation

    def join(self, door: Door[None]) -> None:
        door.operation(
            "POST",
            "/dynamic-policies",
            self.create,
            operation_id="createDynamicPolicy",
            summary="Activates a policy template for the flows of a media session.",
            request=m5.DynamicPolicy,
            answers={201: m5.DynamicPolicy},
            errors=(403, 404, 409, 503, 504),
        )
        path = "/dynamic-policies/{dynamicPolicyId}"
        door.operation(
            "GET",
            path,
            self.read,
            operation_id="retrieveDynamicPolicy",
            summary="What is enforced for a media session.",
            answers={200: m5.DynamicPolicy},
            errors=(403, 404),
            max_age_s=1,
        )
        door.operation(
            "PUT",
            path,
            self.replace,
            operation_id="updateDynamicPolicy",
            summary="Replaces flows, medium and QoS, without a gap in enforcement.",
            request=m5.DynamicPolicy,
            answers={200: m5.DynamicPolicy},
            errors=(403, 404, 409, 503, 504),
        )
        door.operation(
            "PATCH",
            path,
            self.patch,
            operation_id="patchDynamicPolicy",
            summary="Changes flows, medium and QoS, without a gap in enforcement.",
            request=m5.DynamicPolicy,
            answers={200: m5.DynamicPolicy},
            errors=(403, 404, 409, 503, 504),
        )
        door.operation(
            "DELETE",
            path,
            self.delete,
            operation_id="destroyDynamicPolicy",
            summary="Deactivates a policy.",
            answers={204: None},
            errors=(403, 404, 503, 504),
        )

    async def create(self, call: Call) -> Answer:
        wanted = call.message(m5.DynamicPolicy)
        created = await self._activation.create(
            m5.CreateDynamicPolicyRequest(dynamic_policy=wanted), self._caller(call)
        )
        location = f"{PREFIX}/dynamic-policies/{quote(created.dynamic_policy_id, safe='')}"
        return Answer(201, created, etag=created.etag, location=location)

    async def read(self, call: Call) -> Answer:
        found = await self._own(call)
        return Answer(200, found, etag=found.etag)

    async def replace(self, call: Call) -> Answer:
        current = await self._own(call)
        return await self._change(call, current, call.message(m5.DynamicPolicy))

    async def patch(self, call: Call) -> Answer:
        current = await self._own(call)
        return await self._change(call, current, call.patched(current), patched=True)

    async def delete(self, call: Call) -> Answer:
        current = await self._own(call)
        etag = _expected(call, current)
        request = m5.DeleteDynamicPolicyRequest(dynamic_policy_id=current.dynamic_policy_id, etag=etag)
        await self._activation.delete(request, self._caller(call))
        return Answer(204)

    async def _change(
        self, call: Call, current: m5.DynamicPolicy, wanted: m5.DynamicPolicy, *, patched: bool = False
    ) -> Answer:
        _check_identity(current, wanted)
        wanted.dynamic_policy_id = current.dynamic_policy_id
        # A patch was worked out from what was there: it is not meant for anything else.
        wanted.etag = current.etag if patched else _expected(call, current)
        if patched:
            _expected(call, current)
        changed = await self._activation.change(
            m5.UpdateDynamicPolicyRequest(dynamic_policy=wanted), self._caller(call)
        )
        return Answer(200, changed, etag=changed.etag)

    async def _own(self, call: Call) -> m5.DynamicPolicy:
        caller, policy_id = self._caller(call), call.path["dynamicPolicyId"]
        return await self._store.read(lambda reader: intentions.require_own(reader, policy_id, caller))

    def _caller(self, call: Call) -> Caller:
        return identify_http(call.peer, call.header(UE_ADDRESS_METADATA), self._trusted_proxies)


class _Reporting:
    """Consumption and metrics reports (§11.3, §11.4); answered when they are stored durably."""

    def __init__(self, reports: ConsumptionReports, metrics: MetricsReports) -> None:
        self._reports = reports
        self._metrics = metrics

    def join(self, door: Door[None]) -> None:
        door.operation(
            "POST",
            "/consumption-reporting/{provisioningSessionId}",
            self.report,
            operation_id="submitConsumptionReport",
            summary="Takes a consumption report, and answers when it is stored.",
            request=ConsumptionReport,
            answers={204: None},
            errors=(404,),
            conditional=False,
            # A report that is taken is written, whoever still waits for the answer.
            detached=False,
        )
        door.operation(
            "POST",
            "/metrics-reporting/{provisioningSessionId}/{metricsReportingConfigurationId}",
            self.report_metrics,
            operation_id="submitMetricsReport",
            summary="Takes a metrics report as it is, and answers when it is stored.",
            request=_METRICS,
            answers={204: None},
            errors=(404,),
            conditional=False,
        )

    async def report_metrics(self, call: Call) -> Answer:
        report = ReportMetricsRequest(
            provisioning_session_id=call.path["provisioningSessionId"],
            metrics_reporting_configuration_id=call.path["metricsReportingConfigurationId"],
            content_type=call.header("content-type"),
            report=call.body,
        )
        await self._metrics.report(report)
        return Answer(204)

    async def report(self, call: Call) -> Answer:
        await self._reports.report(call.path["provisioningSessionId"], call.message(ConsumptionReport))
        return Answer(204)


def _expected(call: Call, current: m5.DynamicPolicy) -> str:
    """The entity tag that the policy has to have still when it is changed; empty: any. Raises EtagMismatch."""
    call.check_preconditions(f"DynamicPolicy {current.dynamic_policy_id!r}", current.etag)
    return current.etag if any(name in call.headers for name in _PRECONDITIONS) else ""


def _check_identity(current: m5.DynamicPolicy, wanted: m5.DynamicPolicy) -> None:
    violations = [
        FieldViolation(name, f"expected {getattr(current, name)!r} as it is, found {getattr(wanted, name)!r}")
        for name in _IDENTITY
        if getattr(wanted, name) not in ("", getattr(current, name))
    ]
    if violations:
        raise InvalidArgument.of_all(violations)
