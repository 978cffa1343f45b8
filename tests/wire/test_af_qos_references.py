"""Policy templates with a QoS reference: READY when the operator has arranged it, INVALID when not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from af_stack import AfStack, state_name

from nf.af.v1 import provisioning_pb2 as m1
from nf.pcf.v1.operator_policies_pb2 import QosReference


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[AfStack]:
    async with AfStack(tmp_path) as stack:
        yield stack


GOLD = m1.M1QosSpecification(qos_reference="gold")


@pytest.mark.clause("TS 26.512 §7.9.3")
async def test_a_reference_is_what_the_operator_has_arranged(stack: AfStack):
    session = await stack.new_session()
    refused = await stack.new_template(session.provisioning_session_id, wait="INVALID", qos_specification=GOLD)
    assert refused.state_reason.invalid_params[0].param == "qoSSpecification.qosReference"
    assert "arranged with the operator, found 'gold'" in refused.state_reason.detail
    stack.pcf.operator.arranged["gold"] = QosReference(qos_reference="gold", max_br_dl_bps=5_000_000)
    refused.external_reference = "golden"
    request = m1.UpdatePolicyTemplateRequest(policy_template=refused)
    last = (await stack.history())[-1].sequence
    await stack.templates.UpdatePolicyTemplate(request)
    ready = await stack.template_state(refused.policy_template_id, "READY", after=last)
    policy = await stack.activate(ready)
    component = stack.pcf.sessions[policy.dynamic_policy_id].asc_req_data.med_components[0]
    assert component.qos_reference == "gold"


async def test_without_the_pcf_a_template_with_a_reference_stays_pending(stack: AfStack):
    await stack.stop_pcf()
    session = await stack.new_session()
    await stack.new_template(session.provisioning_session_id, external_reference="plain")
    wanted = m1.PolicyTemplate(external_reference="golden", qos_specification=GOLD)
    created = await stack.templates.CreatePolicyTemplate(
        m1.CreatePolicyTemplateRequest(provisioning_session_id=session.provisioning_session_id, policy_template=wanted)
    )
    assert state_name(created.policy_template) == "PENDING"
    stack.pcf.operator.arranged["gold"] = QosReference(qos_reference="gold", max_br_dl_bps=5_000_000)
    await stack.start_pcf()
    # At its start, as five seconds after it has tried in vain, the AF asks again.
    await stack.stop()
    await stack.start()
    await stack.template_state(created.policy_template.policy_template_id, "READY")
