"""M1 at the AF over gRPC: provisioning sessions, policy templates, consumption reporting."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from af_stack import AfStack, payload_of, state_name
from google.protobuf.field_mask_pb2 import FieldMask

from nf.af.v1 import media_session_pb2 as m5
from nf.af.v1 import provisioning_pb2 as m1
from nf.common.errors import AlreadyExists, CastcoreError, EtagMismatch, FailedPrecondition, InvalidArgument, NotFound
from nf.common.v1 import types_pb2 as types


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[AfStack]:
    async with AfStack(tmp_path) as started:
        yield started


async def access(stack: AfStack, session_id: str) -> m5.ServiceAccessInformation:
    request = m5.GetServiceAccessInformationRequest(provisioning_session_id=session_id)
    return (await stack.access.GetServiceAccessInformation(request)).service_access_information


async def update(
    stack: AfStack, template: m1.PolicyTemplate, *paths: str, etag: str = "", **changes
) -> m1.PolicyTemplate:
    changed = m1.PolicyTemplate(
        provisioning_session_id=template.provisioning_session_id,
        policy_template_id=template.policy_template_id,
        etag=etag,
        **changes,
    )
    request = m1.UpdatePolicyTemplateRequest(policy_template=changed, update_mask=FieldMask(paths=paths))
    return (await stack.templates.UpdatePolicyTemplate(request)).policy_template


def named(template: m1.PolicyTemplate) -> dict[str, str]:
    return {
        "provisioning_session_id": template.provisioning_session_id,
        "policy_template_id": template.policy_template_id,
    }


@pytest.mark.clause("TS 26.512 §7.2")
async def test_a_provisioning_session_is_created_read_listed_and_destroyed(stack: AfStack):
    entry = m1.MediaEntryPoint(locator="https://cdn.example.com/live.mpd", content_type="application/dash+xml")
    first = await stack.new_session(entry_points=[entry], provisioning_session_id="chosen by the provider")
    second = await stack.new_session(provisioning_session_type=m1.PROVISIONING_SESSION_TYPE_UPLINK)
    assert len(first.provisioning_session_id) == 32
    assert (first.app_id, first.asp_id, list(first.entry_points)) == ("app", "asp", [entry])
    assert first.etag
    assert first.HasField("create_time")

    got = await stack.sessions.GetProvisioningSession(
        m1.GetProvisioningSessionRequest(provisioning_session_id=first.provisioning_session_id)
    )
    assert got.provisioning_session == first
    page = await stack.sessions.ListProvisioningSessions(m1.ListProvisioningSessionsRequest(page_size=1))
    assert list(page.provisioning_sessions) == [first]
    page = await stack.sessions.ListProvisioningSessions(
        m1.ListProvisioningSessionsRequest(page_size=1, page_token=page.next_page_token)
    )
    assert (list(page.provisioning_sessions), page.next_page_token) == ([second], "")

    gone = m1.DeleteProvisioningSessionRequest(provisioning_session_id=first.provisioning_session_id, etag="stale")
    with pytest.raises(EtagMismatch):
        await stack.sessions.DeleteProvisioningSession(gone)
    gone.etag = first.etag
    await stack.sessions.DeleteProvisioningSession(gone)
    with pytest.raises(NotFound, match=first.provisioning_session_id):
        await stack.sessions.DeleteProvisioningSession(gone)


async def test_a_wrong_provisioning_session_is_refused_by_its_properties(stack: AfStack):
    wrong = m1.ProvisioningSession(entry_points=[m1.MediaEntryPoint(locator="live.mpd")])
    with pytest.raises(InvalidArgument) as refused:
        await stack.sessions.CreateProvisioningSession(m1.CreateProvisioningSessionRequest(provisioning_session=wrong))
    assert [each.field for each in refused.value.violations] == [
        "provisioning_session.provisioning_session_type",
        "provisioning_session.app_id",
        "provisioning_session.entry_points[0].locator",
        "provisioning_session.entry_points[0].content_type",
    ]


async def test_what_would_be_too_large_to_be_told_again_is_refused(stack: AfStack):
    with pytest.raises(InvalidArgument, match="provisioning_session: expected at most 65536 bytes, found 100"):
        await stack.new_session(app_id="x" * 100_000)
    session = await stack.new_session()
    large = m1.PolicyTemplate(external_reference="zero-rating", service_description_id="7" * 100_000)
    with pytest.raises(InvalidArgument, match="policy_template: expected at most 65536 bytes") as refused:
        await stack.templates.CreatePolicyTemplate(
            m1.CreatePolicyTemplateRequest(
                provisioning_session_id=session.provisioning_session_id, policy_template=large
            )
        )
    assert [each.field for each in refused.value.violations] == ["policy_template"]


async def test_a_repeated_create_makes_one_resource(stack: AfStack):
    session = m1.ProvisioningSession(provisioning_session_type=m1.PROVISIONING_SESSION_TYPE_DOWNLINK, app_id="app")
    request = m1.CreateProvisioningSessionRequest(provisioning_session=session, request_id="r-1")
    first = await stack.sessions.CreateProvisioningSession(request)
    assert await stack.sessions.CreateProvisioningSession(request) == first
    request.provisioning_session.app_id = "another"
    with pytest.raises(AlreadyExists) as refused:
        await stack.sessions.CreateProvisioningSession(request)
    assert refused.value.reason == "REQUEST_ID_REUSED"

    create = m1.CreatePolicyTemplateRequest(
        provisioning_session_id=first.provisioning_session.provisioning_session_id,
        policy_template=m1.PolicyTemplate(external_reference="zero-rating"),
        request_id="r-2",
    )
    template = (await stack.templates.CreatePolicyTemplate(create)).policy_template
    repeated = (await stack.templates.CreatePolicyTemplate(create)).policy_template
    assert repeated.policy_template_id == template.policy_template_id


@pytest.mark.clause("TS 26.512 A.3.2 step 1")
async def test_a_template_is_pending_until_it_has_been_validated_then_ready_and_announced(stack: AfStack):
    session = await stack.new_session()
    created = (
        await stack.templates.CreatePolicyTemplate(
            m1.CreatePolicyTemplateRequest(
                provisioning_session_id=session.provisioning_session_id,
                policy_template=m1.PolicyTemplate(
                    external_reference="zero-rating",
                    qos_specification=m1.M1QosSpecification(max_btr_dl_bps=5_000_000),
                    state=m1.PolicyTemplate.STATE_READY,
                    policy_template_id="chosen by the provider",
                ),
            )
        )
    ).policy_template
    assert state_name(created) == "PENDING"
    assert created.state_reason.title == "The policy template awaits validation"

    ready = await stack.template_state(created.policy_template_id, "READY")
    assert ready.policy_template_id == created.policy_template_id != "chosen by the provider"
    assert ready.etag != created.etag
    told = payload_of((await stack.history())[0], m1.PolicyTemplateStateChanged)
    assert (told.policy_template, told.previous_state) == (ready, m1.PolicyTemplate.STATE_PENDING)

    session = (
        await stack.sessions.GetProvisioningSession(
            m1.GetProvisioningSessionRequest(provisioning_session_id=session.provisioning_session_id)
        )
    ).provisioning_session
    assert list(session.policy_template_ids) == [created.policy_template_id]
    invocation = (await access(stack, session.provisioning_session_id)).dynamic_policy_invocation_configuration
    assert invocation.policy_template_bindings[0].policy_template_id == created.policy_template_id
    assert list(invocation.server_addresses) == [f"http://{stack.address}"]


@pytest.mark.clause("TS 26.512 §7.9.3")
async def test_a_template_that_is_wrong_becomes_invalid_and_says_why(stack: AfStack):
    session = await stack.new_session()
    invalid = await stack.new_template(
        session.provisioning_session_id,
        wait="INVALID",
        external_reference="",
        qos_specification=m1.M1QosSpecification(max_btr_dl_bps=6, max_auth_btr_dl_bps=5),
    )
    assert invalid.state_reason.cause == "POLICY_TEMPLATE_INVALID"
    assert [each.param for each in invalid.state_reason.invalid_params] == [
        "externalReference",
        "qoSSpecification.maxBtrDl",
    ]
    information = await access(stack, session.provisioning_session_id)
    assert not information.HasField("dynamic_policy_invocation_configuration")

    mended = await update(
        stack,
        invalid,
        external_reference="zero-rating",
        qos_specification=m1.M1QosSpecification(max_btr_dl_bps=5, max_auth_btr_dl_bps=5),
    )
    assert state_name(mended) == "PENDING"
    ready = await stack.template_state(invalid.policy_template_id, "READY")
    assert not ready.state_reason.invalid_params


async def test_what_templates_may_name_is_the_operators_to_say(tmp_path: Path):
    config = {"allowed_dnns": ("internet",), "allowed_sponsors": ("sponsor-1",)}
    async with AfStack(tmp_path, config=config) as stack:
        session_id = (await stack.new_session()).provisioning_session_id
        context = m1.ApplicationSessionContext(dnn="internet")
        await stack.new_template(session_id, application_session_context=context)
        invalid = await stack.new_template(
            session_id,
            wait="INVALID",
            external_reference="another",
            application_session_context=context,
            charging_specification=m1.ChargingSpecification(spon_id="sponsor-2"),
        )
        assert invalid.state_reason.invalid_params[0].reason == "expected one of sponsor-1, found sponsor-2"


async def test_an_external_reference_is_unique_within_its_session(stack: AfStack):
    first = await stack.provision()
    with pytest.raises(AlreadyExists) as refused:
        await stack.new_template(first.provisioning_session_id)
    assert (refused.value.reason, refused.value.violations[0].field) == (
        "EXTERNAL_REFERENCE_IN_USE",
        "policy_template.external_reference",
    )
    second = await stack.new_template(first.provisioning_session_id, external_reference="premium")
    with pytest.raises(AlreadyExists):
        await update(stack, second, "external_reference", external_reference="zero-rating")
    assert (await stack.provision()).external_reference == "zero-rating"


async def test_an_update_changes_what_it_names_and_validates_again(stack: AfStack):
    template = await stack.provision(service_description_id="7")
    with pytest.raises(EtagMismatch):
        await update(stack, template, "service_description_id", service_description_id="8", etag="stale")
    with pytest.raises(InvalidArgument, match="'state': may not be changed"):
        await update(stack, template, "state", state=m1.PolicyTemplate.STATE_READY)
    changed = await update(stack, template, "service_description_id", service_description_id="8", etag=template.etag)
    assert (state_name(changed), changed.service_description_id) == ("PENDING", "8")
    assert changed.qos_specification == template.qos_specification
    events = await stack.history(f"policy-templates/{template.policy_template_id}")
    assert state_name(payload_of(events[-1], m1.PolicyTemplateStateChanged).policy_template) in ("PENDING", "READY")


@pytest.mark.clause("TS 26.512 §7.9.3")
async def test_the_operator_suspends_a_ready_template_and_gives_it_back(stack: AfStack):
    template = await stack.provision()
    suspend = m1.SuspendPolicyTemplateRequest(detail="under investigation", **named(template))
    suspended = (await stack.templates.SuspendPolicyTemplate(suspend)).policy_template
    assert (state_name(suspended), suspended.state_reason.detail) == ("SUSPENDED", "under investigation")
    assert suspended.state_reason.cause == "POLICY_TEMPLATE_SUSPENDED"
    information = await access(stack, template.provisioning_session_id)
    assert not information.HasField("dynamic_policy_invocation_configuration")
    with pytest.raises(FailedPrecondition) as refused:
        await stack.templates.SuspendPolicyTemplate(suspend)
    assert refused.value.metadata["state"] == "SUSPENDED"

    # A change by the provider does not lift the suspension.
    changed = await update(stack, template, "service_description_id", service_description_id="8")
    assert (state_name(changed), changed.state_reason) == ("SUSPENDED", suspended.state_reason)

    before = (await stack.history())[-1].sequence
    resume = m1.ResumePolicyTemplateRequest(**named(template))
    assert state_name((await stack.templates.ResumePolicyTemplate(resume)).policy_template) == "PENDING"
    ready = await stack.template_state(template.policy_template_id, "READY", after=before)
    assert ready.service_description_id == "8"


async def test_templates_are_found_in_their_own_session_only(stack: AfStack):
    template = await stack.provision()
    other = await stack.new_session()
    listing = m1.ListPolicyTemplatesRequest(provisioning_session_id=template.provisioning_session_id)
    assert list((await stack.templates.ListPolicyTemplates(listing)).policy_templates) == [template]
    wrong = {**named(template), "provisioning_session_id": other.provisioning_session_id}
    with pytest.raises(NotFound, match=template.policy_template_id):
        await stack.templates.GetPolicyTemplate(m1.GetPolicyTemplateRequest(**wrong))
    for request, call in (
        (m1.DeletePolicyTemplateRequest(**wrong), stack.templates.DeletePolicyTemplate),
        (m1.SuspendPolicyTemplateRequest(**wrong), stack.templates.SuspendPolicyTemplate),
        (m1.ResumePolicyTemplateRequest(**wrong), stack.templates.ResumePolicyTemplate),
        (m1.UpdatePolicyTemplateRequest(policy_template=wrong), stack.templates.UpdatePolicyTemplate),
    ):
        with pytest.raises(NotFound):
            await call(request)
    with pytest.raises(NotFound, match="ProvisioningSession 'nowhere'"):
        await stack.templates.ListPolicyTemplates(m1.ListPolicyTemplatesRequest(provisioning_session_id="nowhere"))


async def test_a_destroyed_template_leaves_its_session(stack: AfStack):
    template = await stack.provision()
    with pytest.raises(EtagMismatch):
        await stack.templates.DeletePolicyTemplate(m1.DeletePolicyTemplateRequest(etag="stale", **named(template)))
    await stack.templates.DeletePolicyTemplate(m1.DeletePolicyTemplateRequest(**named(template)))
    with pytest.raises(NotFound):
        await stack.templates.GetPolicyTemplate(m1.GetPolicyTemplateRequest(**named(template)))
    again = await stack.new_template(template.provisioning_session_id)
    session = await stack.sessions.GetProvisioningSession(
        m1.GetProvisioningSessionRequest(provisioning_session_id=template.provisioning_session_id)
    )
    assert list(session.provisioning_session.policy_template_ids) == [again.policy_template_id]


@pytest.mark.clause("TS 26.512 §7.7")
async def test_consumption_reporting_is_activated_changed_announced_and_ended(stack: AfStack):
    session_id = (await stack.new_session()).provisioning_session_id
    create = m1.CreateConsumptionReportingConfigurationRequest(
        provisioning_session_id=session_id,
        consumption_reporting_configuration=m1.ConsumptionReportingConfiguration(
            reporting_interval_s=30, sample_percentage=50.0, location_type=2
        ),
    )
    created = (
        await stack.consumption.CreateConsumptionReportingConfiguration(create)
    ).consumption_reporting_configuration
    assert (created.provisioning_session_id, created.reporting_interval_s) == (session_id, 30)
    with pytest.raises(AlreadyExists) as refused:
        await stack.consumption.CreateConsumptionReportingConfiguration(create)
    assert refused.value.reason == "CONSUMPTION_REPORTING_ALREADY_ACTIVE"

    announced = (await access(stack, session_id)).client_consumption_reporting_configuration
    assert (announced.reporting_interval_s, announced.sample_percentage, announced.location_reporting) == (
        30,
        50.0,
        True,
    )

    change = m1.UpdateConsumptionReportingConfigurationRequest(
        consumption_reporting_configuration=m1.ConsumptionReportingConfiguration(
            provisioning_session_id=session_id, access_reporting=True, etag="stale"
        ),
        update_mask=FieldMask(paths=["access_reporting", "location_type"]),
    )
    with pytest.raises(EtagMismatch):
        await stack.consumption.UpdateConsumptionReportingConfiguration(change)
    change.consumption_reporting_configuration.etag = created.etag
    changed = (
        await stack.consumption.UpdateConsumptionReportingConfiguration(change)
    ).consumption_reporting_configuration
    assert (changed.reporting_interval_s, changed.access_reporting, changed.HasField("location_type")) == (
        30,
        True,
        False,
    )
    got = await stack.consumption.GetConsumptionReportingConfiguration(
        m1.GetConsumptionReportingConfigurationRequest(provisioning_session_id=session_id)
    )
    assert got.consumption_reporting_configuration == changed

    await stack.consumption.DeleteConsumptionReportingConfiguration(
        m1.DeleteConsumptionReportingConfigurationRequest(provisioning_session_id=session_id)
    )
    assert not (await access(stack, session_id)).HasField("client_consumption_reporting_configuration")
    for missing in (
        stack.consumption.UpdateConsumptionReportingConfiguration(change),
        stack.consumption.DeleteConsumptionReportingConfiguration(
            m1.DeleteConsumptionReportingConfigurationRequest(provisioning_session_id=session_id)
        ),
    ):
        with pytest.raises(NotFound, match="ConsumptionReportingConfiguration"):
            await missing


async def test_a_wrong_consumption_reporting_configuration_is_never_half_applied(stack: AfStack):
    session_id = (await stack.new_session()).provisioning_session_id
    create = m1.CreateConsumptionReportingConfigurationRequest(
        provisioning_session_id=session_id,
        consumption_reporting_configuration=m1.ConsumptionReportingConfiguration(reporting_interval_s=0),
    )
    with pytest.raises(InvalidArgument) as refused:
        await stack.consumption.CreateConsumptionReportingConfiguration(create)
    assert refused.value.violations[0].field == "reporting_interval_s"
    create.consumption_reporting_configuration.reporting_interval_s = 10
    await stack.consumption.CreateConsumptionReportingConfiguration(create)
    with pytest.raises(InvalidArgument):
        await stack.consumption.UpdateConsumptionReportingConfiguration(
            m1.UpdateConsumptionReportingConfigurationRequest(
                consumption_reporting_configuration=m1.ConsumptionReportingConfiguration(
                    provisioning_session_id=session_id, reporting_interval_s=20, sample_percentage=101
                )
            )
        )
    announced = (await access(stack, session_id)).client_consumption_reporting_configuration
    assert announced.reporting_interval_s == 10


async def test_only_trusted_providers_may_ask_for_locations(tmp_path: Path):
    async with AfStack(tmp_path, config={"location_asp_ids": ("trusted",)}) as stack:
        for asp_id, outcome in (("trusted", "OK"), ("other", "PERMISSION_DENIED")):
            session_id = (await stack.new_session(asp_id=asp_id)).provisioning_session_id
            create = m1.CreateConsumptionReportingConfigurationRequest(
                provisioning_session_id=session_id,
                consumption_reporting_configuration=m1.ConsumptionReportingConfiguration(location_reporting=True),
            )
            code = "OK"
            try:
                await stack.consumption.CreateConsumptionReportingConfiguration(create)
            except CastcoreError as refused:
                code = refused.code
            assert code == outcome


async def test_a_session_goes_with_all_that_stands_on_it(stack: AfStack):
    template = await stack.provision()
    session_id = template.provisioning_session_id
    await stack.consumption.CreateConsumptionReportingConfiguration(
        m1.CreateConsumptionReportingConfigurationRequest(provisioning_session_id=session_id)
    )
    policy = await stack.activate(template)
    await stack.sessions.DeleteProvisioningSession(
        m1.DeleteProvisioningSessionRequest(provisioning_session_id=session_id)
    )
    ended = await stack.policy_state(policy.dynamic_policy_id, "TERMINATED")
    reason = payload_of(ended, m5.DynamicPolicyStateChanged).dynamic_policy.state_reason
    assert (reason.cause, reason.detail) == (
        "POLICY_TEMPLATE_DELETED",
        "policy template 'zero-rating' is destroyed",
    )
    await stack.pcf.until(lambda: stack.pcf.sessions == {})
    with pytest.raises(NotFound):
        await access(stack, session_id)


async def test_events_say_what_they_are_about(stack: AfStack):
    template = await stack.provision(
        charging_specification=m1.ChargingSpecification(
            spon_id="s", spon_status=types.SPONSORING_STATUS_SPONSOR_ENABLED
        )
    )
    event = (await stack.history())[0]
    assert (event.sequence, event.source, event.type, event.subject, event.path) == (
        1,
        "af",
        "POLICY_TEMPLATE_STATE",
        f"policy-templates/{template.policy_template_id}",
        "",
    )
