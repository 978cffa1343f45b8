"""Changes of a policy template reach the dynamic policies that run on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from af_stack import AfStack, flow, payload_of, rule, state_name
from google.protobuf.field_mask_pb2 import FieldMask

from nf.af.v1 import media_session_pb2 as m5
from nf.af.v1 import provisioning_pb2 as m1
from nf.common.errors import FailedPrecondition, NotFound, PermissionDenied


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[AfStack]:
    async with AfStack(tmp_path) as started:
        yield started


async def update(stack: AfStack, template: m1.PolicyTemplate, *paths: str, **changes) -> None:
    changed = m1.PolicyTemplate(
        provisioning_session_id=template.provisioning_session_id,
        policy_template_id=template.policy_template_id,
        **changes,
    )
    await stack.templates.UpdatePolicyTemplate(
        m1.UpdatePolicyTemplateRequest(policy_template=changed, update_mask=FieldMask(paths=paths))
    )


def rate(bps: int) -> m1.M1QosSpecification:
    return m1.M1QosSpecification(max_btr_dl_bps=bps, max_auth_btr_dl_bps=8_000_000)


async def terminated(stack: AfStack, policy: m5.DynamicPolicy) -> m5.DynamicPolicy:
    event = await stack.policy_state(policy.dynamic_policy_id, "TERMINATED")
    return payload_of(event, m5.DynamicPolicyStateChanged).dynamic_policy


async def last_sequence(stack: AfStack) -> int:
    return (await stack.history())[-1].sequence


async def test_a_changed_threshold_reaches_running_policies_and_their_players(stack: AfStack):
    template = await stack.provision()
    policies = [await stack.activate(template, flow(port)) for port in (50000, 50001)]
    before = await last_sequence(stack)
    await update(
        stack, template, "qos_specification", "service_description_id",
        qos_specification=rate(2_000_000), service_description_id="9",
    )  # fmt: skip
    for policy in policies:
        event = await stack.policy_state(policy.dynamic_policy_id, "ACTIVE", after=before)
        changed = payload_of(event, m5.DynamicPolicyStateChanged).dynamic_policy
        assert changed.enforcement_bit_rate_bps == 2_000_000
        assert changed.service_descriptor_filter.service_description_id == "9"
        assert changed.service_data_flow_descriptions == policy.service_data_flow_descriptions
        component = stack.pcf.sessions[policy.dynamic_policy_id].asc_req_data.med_components[0]
        assert component.mar_bw_dl_bps == 2_000_000
        assert [sub.f_num for sub in component.med_sub_comps] == [1]


@pytest.mark.parametrize("how", ["suspended", "invalid"])
async def test_a_template_that_may_no_longer_be_used_terminates_its_policies(stack: AfStack, how: str):
    template = await stack.provision()
    other = await stack.new_template(template.provisioning_session_id, external_reference="other")
    policy = await stack.activate(template)
    untouched = await stack.activate(other, flow(50001))
    if how == "suspended":
        await stack.templates.SuspendPolicyTemplate(
            m1.SuspendPolicyTemplateRequest(
                provisioning_session_id=template.provisioning_session_id,
                policy_template_id=template.policy_template_id,
                detail="fraud",
            )
        )
    else:
        await update(stack, template, "qos_specification")
    ended = await terminated(stack, policy)
    assert ended.state_reason.cause == f"POLICY_TEMPLATE_{how.upper()}"
    assert ended.state_reason.detail.startswith(f"policy template 'zero-rating' is {how.upper()}: ")
    await stack.pcf.until(lambda: set(stack.pcf.sessions) == {untouched.dynamic_policy_id})
    assert await stack.policy(policy.dynamic_policy_id) == ended
    assert await stack.policy(untouched.dynamic_policy_id) == untouched
    with pytest.raises(FailedPrecondition) as refused:
        await stack.policies.UpdateDynamicPolicy(
            m5.UpdateDynamicPolicyRequest(dynamic_policy=m5.DynamicPolicy(dynamic_policy_id=policy.dynamic_policy_id))
        )
    assert refused.value.cause == f"POLICY_TEMPLATE_{how.upper()}"


async def test_a_destroyed_template_takes_its_policies_along(stack: AfStack):
    template = await stack.provision()
    policy = await stack.activate(template)
    await stack.templates.DeletePolicyTemplate(
        m1.DeletePolicyTemplateRequest(
            provisioning_session_id=template.provisioning_session_id, policy_template_id=template.policy_template_id
        )
    )
    assert (await terminated(stack, policy)).state_reason.cause == "POLICY_TEMPLATE_DELETED"
    await stack.policy_state(policy.dynamic_policy_id, "DEACTIVATING")
    await stack.pcf.until(lambda: stack.pcf.sessions == {})


async def test_policies_that_the_pcf_refuses_under_the_changed_template_are_terminated_with_its_cause(stack: AfStack):
    template = await stack.provision()
    policy = await stack.activate(template)
    stack.pcf.refuse["UpdateAppSession"] = PermissionDenied("no", cause="REQUESTED_SERVICE_NOT_AUTHORIZED")
    await update(stack, template, "qos_specification", qos_specification=rate(1_000_000))
    reason = (await terminated(stack, policy)).state_reason
    assert (reason.status, reason.cause, reason.detail) == (403, "REQUESTED_SERVICE_NOT_AUTHORIZED", "no")
    await stack.pcf.until(lambda: stack.pcf.sessions == {})


async def test_policies_end_when_their_template_moves_to_another_data_network(stack: AfStack):
    internet = m1.ApplicationSessionContext(dnn="internet")
    template = await stack.provision(application_session_context=internet)
    policy = await stack.activate(template)
    await update(
        stack,
        template,
        "application_session_context",
        application_session_context=m1.ApplicationSessionContext(dnn="ims"),
    )
    assert (await terminated(stack, policy)).state_reason.cause == "POLICY_TEMPLATE_MOVED"


async def test_flows_open_and_close_while_a_changed_template_awaits_validation(stack: AfStack):
    template = await stack.provision()
    policy = await stack.activate(template)
    # As if the validation had not come yet.
    template.state = m1.PolicyTemplate.STATE_PENDING
    template.qos_specification.max_btr_dl_bps = 1_000_000
    await stack.store.write(lambda tx: tx.update(template, template.policy_template_id))
    request = m5.UpdateDynamicPolicyRequest(
        dynamic_policy=m5.DynamicPolicy(
            dynamic_policy_id=policy.dynamic_policy_id, service_data_flow_descriptions=[flow(50001)]
        ),
        update_mask=FieldMask(paths=["service_data_flow_descriptions"]),
    )
    changed = (await stack.policies.UpdateDynamicPolicy(request)).dynamic_policy
    assert changed.enforcement_bit_rate_bps == 5_000_000
    assert stack.pcf.rules(policy.dynamic_policy_id) == [rule(50001)]
    request.update_mask.paths[:] = ["qos_specification"]
    request.dynamic_policy.qos_specification.mar_bw_dl_bps = 7
    with pytest.raises(FailedPrecondition) as refused:
        await stack.policies.UpdateDynamicPolicy(request)
    assert refused.value.reason == "POLICY_TEMPLATE_NOT_READY"


async def test_a_template_withdrawn_during_an_activation_ends_it(stack: AfStack):
    template = await stack.provision()
    stack.pcf.hold["CreateAppSession"] = asyncio.Event()
    activation = asyncio.create_task(stack.activate(template))
    await stack.pcf.until(lambda: len(stack.pcf.sessions) == 1)
    await stack.templates.SuspendPolicyTemplate(
        m1.SuspendPolicyTemplateRequest(
            provisioning_session_id=template.provisioning_session_id, policy_template_id=template.policy_template_id
        )
    )
    stack.pcf.hold["CreateAppSession"].set()
    with pytest.raises(FailedPrecondition) as refused:
        await activation
    assert refused.value.reason == "DYNAMIC_POLICY_TERMINATED"
    await stack.pcf.until(lambda: stack.pcf.sessions == {})


async def test_a_template_changed_during_an_activation_is_applied_after_it(stack: AfStack):
    template = await stack.provision()
    before = await last_sequence(stack)
    stack.pcf.hold["CreateAppSession"] = asyncio.Event()
    activation = asyncio.create_task(stack.activate(template))
    await stack.pcf.until(lambda: len(stack.pcf.sessions) == 1)
    await update(stack, template, "qos_specification", qos_specification=rate(2_000_000))
    await stack.template_state(template.policy_template_id, "READY", after=before)
    stack.pcf.hold["CreateAppSession"].set()
    policy_id = (await activation).dynamic_policy_id

    def applied(event) -> bool:
        told = m5.DynamicPolicyStateChanged()
        return event.payload.Unpack(told) and told.dynamic_policy.enforcement_bit_rate_bps == 2_000_000

    await stack.event(applied)
    assert (await stack.policy(policy_id)).enforcement_bit_rate_bps == 2_000_000


async def test_a_policy_of_a_destroyed_session_is_gone_when_the_pcf_has_let_go(stack: AfStack):
    template = await stack.provision()
    policy = await stack.activate(template)
    await stack.sessions.DeleteProvisioningSession(
        m1.DeleteProvisioningSessionRequest(provisioning_session_id=template.provisioning_session_id)
    )
    await stack.pcf.until(lambda: stack.pcf.sessions == {})
    # What comes after the release waits for the same lock.
    with pytest.raises(NotFound):
        await stack.policies.DeleteDynamicPolicy(
            m5.DeleteDynamicPolicyRequest(dynamic_policy_id=policy.dynamic_policy_id)
        )
    assert [state_name(each) for each in await stack.all_policies()] == []
