"""An AF that is killed: what it acknowledged is there and in force, what it did not is undone at the PCF."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from af_stack import AfStack, flow, rule, state_name
from live.killable_af import killable

from nf.af.v1 import media_session_pb2 as m5
from nf.af.v1.media_session_pb2_grpc import DynamicPoliciesServiceStub
from nf.af.v1.provisioning_pb2 import PolicyTemplate
from nf.common.errors import Cancelled, CastcoreError, Unavailable


def create(template: PolicyTemplate, port: int) -> m5.CreateDynamicPolicyRequest:
    return m5.CreateDynamicPolicyRequest(
        dynamic_policy=m5.DynamicPolicy(
            provisioning_session_id=template.provisioning_session_id,
            policy_template_id=template.policy_template_id,
            service_data_flow_descriptions=[flow(port)],
        ),
        request_id=f"r-{port}",
    )


async def test_a_killed_af_keeps_what_it_acknowledged_and_undoes_what_it_did_not(tmp_path: Path) -> None:
    async with AfStack(tmp_path) as stack:
        template = await stack.provision()
        await stack.stop()

        async with killable(tmp_path, stack.pcf_address) as (process, channels):
            policies = DynamicPoliciesServiceStub(channels.get("af"))
            kept = (await policies.CreateDynamicPolicy(create(template, 50000))).dynamic_policy
            stack.pcf.hold["CreateAppSession"] = asyncio.Event()
            lost = asyncio.ensure_future(_outcome(policies, create(template, 50001)))
            await stack.pcf.until(lambda: len(stack.pcf.sessions) == 2)
            process.kill()
            assert isinstance(await lost, Unavailable | Cancelled)
            stack.pcf.hold.pop("CreateAppSession").set()

        async with killable(tmp_path, stack.pcf_address) as (_, channels):
            policies = DynamicPoliciesServiceStub(channels.get("af"))
            await stack.pcf.until(lambda: set(stack.pcf.sessions) == {kept.dynamic_policy_id})
            got = await policies.GetDynamicPolicy(m5.GetDynamicPolicyRequest(dynamic_policy_id=kept.dynamic_policy_id))
            assert got.dynamic_policy == kept
            assert stack.pcf.rules(kept.dynamic_policy_id) == [rule(50000)]
            # The client that got no answer asks again.
            again = (await policies.CreateDynamicPolicy(create(template, 50001))).dynamic_policy
            assert state_name(again) == "ACTIVE"
            assert set(stack.pcf.sessions) == {kept.dynamic_policy_id, again.dynamic_policy_id}
        await stack.start()


async def _outcome(policies: DynamicPoliciesServiceStub, request: m5.CreateDynamicPolicyRequest) -> CastcoreError:
    with pytest.raises(CastcoreError) as failed:
        await policies.CreateDynamicPolicy(request)
    return failed.value
