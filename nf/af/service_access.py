"""Service access information: what a client needs to use a provisioned service (TS 26.512 §11.2.3, table A.3.3-2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nf.af import consumption_reporting, metrics_reporting, provisioning
from nf.af.config import AfSection
from nf.af.flow_descriptions import SDF_METHODS
from nf.af.providers import UNRESTRICTED
from nf.af.v1 import media_session_pb2 as m5
from nf.af.v1.metrics_reporting_pb2 import MetricsReportingConfiguration
from nf.af.v1.provisioning_pb2 import ConsumptionReportingConfiguration, PolicyTemplate, ProvisioningSession
from nf.common.resources import etag_of
from nf.common.store import Reader

# TS 26.512 table A.3.3-2, in the words of the M5 API.
MANDATORY_REQUEST_INFORMATION = ("policyTemplateId", "serviceDataFlowDescriptions")
RESPONSE_INFORMATION = ("enforcementMethod", "enforcementBitRate", "serviceDescriptorFilter")


def service_access_information(
    session: ProvisioningSession,
    templates: Iterable[PolicyTemplate],
    consumption: ConsumptionReportingConfiguration | None,
    *,
    server_addresses: Sequence[str],
    max_age_s: int,
    reporting_interval_s: int | None = None,
    metrics: Iterable[MetricsReportingConfiguration] = (),
) -> m5.ServiceAccessInformation:
    """What is announced of a session, READY templates only; ``server_addresses`` are the AF's own at M5.

    ``reporting_interval_s`` is how often consumption is reported where the provider leaves it to the AF.
    """
    information = m5.ServiceAccessInformation(
        provisioning_session_id=session.provisioning_session_id,
        provisioning_session_type=session.provisioning_session_type,
        max_age_s=max_age_s,
    )
    if session.entry_points:
        information.streaming_access.entry_points.extend(session.entry_points)
    if consumption is not None:
        information.client_consumption_reporting_configuration.CopyFrom(
            consumption_reporting.effective(consumption, server_addresses, reporting_interval_s)
        )
    bindings = [_binding(each) for each in templates if each.state == PolicyTemplate.STATE_READY]
    if bindings:
        information.dynamic_policy_invocation_configuration.CopyFrom(
            m5.DynamicPolicyInvocationConfiguration(
                server_addresses=server_addresses, policy_template_bindings=bindings, sdf_methods=SDF_METHODS
            )
        )
    information.client_metrics_reporting_configurations.extend(metrics_reporting.announced(metrics, server_addresses))
    information.etag = etag_of(information)
    return information


def announced(
    reader: Reader, provisioning_session_id: str, config: AfSection, server_addresses: Sequence[str]
) -> m5.ServiceAccessInformation:
    """What is announced of a stored session. Raises NotFound."""
    session = provisioning.require_session(reader, provisioning_session_id, UNRESTRICTED)
    return service_access_information(
        session,
        reader.all(PolicyTemplate, parent=session.provisioning_session_id),
        reader.get(ConsumptionReportingConfiguration, session.provisioning_session_id),
        server_addresses=server_addresses,
        max_age_s=config.service_access_max_age_s,
        reporting_interval_s=config.consumption_reporting_interval_s,
        metrics=reader.all(MetricsReportingConfiguration, parent=session.provisioning_session_id),
    )


def _binding(template: PolicyTemplate) -> m5.PolicyTemplateBinding:
    return m5.PolicyTemplateBinding(
        external_reference=template.external_reference,
        policy_template_id=template.policy_template_id,
        mandatory_request_information=MANDATORY_REQUEST_INFORMATION,
        response_information=RESPONSE_INFORMATION,
    )
