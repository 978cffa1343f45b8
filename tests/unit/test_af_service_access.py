"""What the service access information announces of a provisioning session."""

from __future__ import annotations

import pytest

from nf.af.service_access import service_access_information
from nf.af.v1 import media_session_pb2 as m5
from nf.af.v1 import provisioning_pb2 as m1

OWN = ["http://127.0.0.1:5000"]
SESSION = m1.ProvisioningSession(
    provisioning_session_id="ps", provisioning_session_type=m1.PROVISIONING_SESSION_TYPE_DOWNLINK, app_id="app"
)


def template(name: str, state: m1.PolicyTemplate.State.ValueType) -> m1.PolicyTemplate:
    return m1.PolicyTemplate(policy_template_id=f"id-{name}", external_reference=name, state=state)


def announce(*templates, session=SESSION, consumption=None):
    return service_access_information(session, templates, consumption, server_addresses=OWN, max_age_s=60)


@pytest.mark.clause("TS 26.512 A.3.3 table A.3.3-2")
def test_ready_templates_are_bound_to_their_network_policy_ids():
    invocation = announce(
        template("zero-rating", m1.PolicyTemplate.STATE_READY),
        template("pending", m1.PolicyTemplate.STATE_PENDING),
        template("invalid", m1.PolicyTemplate.STATE_INVALID),
        template("suspended", m1.PolicyTemplate.STATE_SUSPENDED),
        template("premium", m1.PolicyTemplate.STATE_READY),
    ).dynamic_policy_invocation_configuration
    assert [(each.external_reference, each.policy_template_id) for each in invocation.policy_template_bindings] == [
        ("zero-rating", "id-zero-rating"),
        ("premium", "id-premium"),
    ]
    binding = invocation.policy_template_bindings[0]
    assert list(binding.mandatory_request_information) == ["policyTemplateId", "serviceDataFlowDescriptions"]
    assert "enforcementBitRate" in binding.response_information
    assert list(invocation.server_addresses) == OWN
    assert set(invocation.sdf_methods) == set(m5.SdfMethod.values()) - {m5.SDF_METHOD_UNSPECIFIED}


def test_what_is_not_provisioned_is_absent():
    information = announce(template("pending", m1.PolicyTemplate.STATE_PENDING))
    assert not information.HasField("dynamic_policy_invocation_configuration")
    assert not information.HasField("client_consumption_reporting_configuration")
    assert not information.HasField("streaming_access")
    assert (information.provisioning_session_id, information.max_age_s) == ("ps", 60)
    assert information.provisioning_session_type == m1.PROVISIONING_SESSION_TYPE_DOWNLINK


def test_consumption_reporting_and_entry_points_are_announced_when_configured():
    entry = m1.MediaEntryPoint(locator="https://cdn.example.com/live.mpd", content_type="application/dash+xml")
    session = m1.ProvisioningSession(entry_points=[entry])
    session.MergeFrom(SESSION)
    information = announce(session=session, consumption=m1.ConsumptionReportingConfiguration(reporting_interval_s=10))
    assert list(information.streaming_access.entry_points) == [entry]
    assert information.client_consumption_reporting_configuration.reporting_interval_s == 10
    assert list(information.client_consumption_reporting_configuration.server_addresses) == OWN


def test_the_etag_changes_with_the_content_and_only_with_it():
    ready = template("zero-rating", m1.PolicyTemplate.STATE_READY)
    assert announce(ready).etag == announce(ready).etag != announce().etag
