"""The AF through restarts and outages of the PCF: what was acknowledged stays, what was owed is done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from af_stack import AfStack, flow, rule, state_name

from nf.af.v1 import media_session_pb2 as m5
from nf.af.v1 import provisioning_pb2 as m1
from nf.common.clock import ManualClock
from nf.common.errors import NotFound, Unavailable
from nf.pcf.v1 import policy_authorization_pb2 as n5


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 5, 1, tzinfo=UTC))


@pytest.fixture
async def stack(tmp_path: Path, clock: ManualClock) -> AsyncIterator[AfStack]:
    async with AfStack(tmp_path, clock=clock) as started:
        yield started


async def left_behind(
    stack: AfStack, state: m5.DynamicPolicy.State.ValueType, due: datetime | None
) -> m5.DynamicPolicy:
    """A policy as an AF that was killed leaves it; the PCF knows its session."""
    template = await stack.provision()
    policy = await stack.activate(template)
    policy.state = state
    await stack.store.write(lambda tx: tx.update(policy, policy.dynamic_policy_id, due=due))
    return policy


async def test_what_was_acknowledged_is_there_after_a_restart(stack: AfStack):
    template = await stack.provision()
    policy = await stack.activate(template)
    calls = list(stack.pcf.calls)
    await stack.stop()
    await stack.start()
    assert await stack.all_policies() == [policy]
    assert stack.pcf.calls == calls
    got = await stack.templates.GetPolicyTemplate(
        m1.GetPolicyTemplateRequest(
            provisioning_session_id=template.provisioning_session_id, policy_template_id=template.policy_template_id
        )
    )
    assert got.policy_template == template


async def test_a_template_that_was_pending_is_validated_after_a_restart(stack: AfStack, clock: ManualClock):
    template = await stack.provision()
    await stack.stop()
    await stack.start()
    template.state = m1.PolicyTemplate.STATE_PENDING
    await stack.store.write(
        lambda tx: tx.update(template, template.policy_template_id, due=clock.now() + timedelta(hours=1))
    )
    await stack.stop()
    clock.advance(timedelta(hours=1))
    before = 1
    await stack.start()
    assert state_name(await stack.template_state(template.policy_template_id, "READY", after=before)) == "READY"


async def test_an_activation_that_was_not_acknowledged_is_undone_at_the_start(stack: AfStack):
    policy = await left_behind(stack, m5.DynamicPolicy.STATE_ACTIVATING, None)
    await stack.stop()
    await stack.start()
    await stack.pcf.until(lambda: stack.pcf.sessions == {})
    assert ("DeleteAppSession", policy.dynamic_policy_id) in stack.pcf.calls


async def test_an_activation_that_is_under_way_while_the_af_starts_is_let_through(stack: AfStack):
    template = await stack.provision()
    stack.pcf.hold["CreateAppSession"] = asyncio.Event()
    activation = asyncio.create_task(stack.activate(template))
    await stack.pcf.until(lambda: len(stack.pcf.sessions) == 1)
    await stack.start_background()
    stack.pcf.hold["CreateAppSession"].set()
    policy = await activation
    assert state_name(policy) == "ACTIVE"
    assert set(stack.pcf.sessions) == {policy.dynamic_policy_id}


async def test_a_deletion_that_was_begun_is_finished_at_the_start(stack: AfStack, clock: ManualClock):
    await left_behind(stack, m5.DynamicPolicy.STATE_DEACTIVATING, clock.now() + timedelta(seconds=30))
    await stack.stop()
    # Nobody waits for the lease of a run that has ended.
    await stack.start()
    await stack.pcf.until(lambda: stack.pcf.sessions == {})


async def test_an_update_that_was_not_acknowledged_is_undone_after_a_restart(stack: AfStack, clock: ManualClock):
    policy = await left_behind(stack, m5.DynamicPolicy.STATE_ACTIVE, clock.now() + timedelta(seconds=30))
    policy_id = policy.dynamic_policy_id
    subs = stack.pcf.sessions[policy_id].asc_req_data.med_components[0].med_sub_comps
    subs.append(n5.MediaSubComponent(f_num=2, f_descs=[rule(50009)]))
    await stack.stop()
    assert stack.pcf.rules(policy_id) == [rule(50000), rule(50009)]
    await stack.start()
    await stack.pcf.until(lambda: stack.pcf.rules(policy_id) == [rule(50000)])
    assert list((await stack.policy(policy_id)).service_data_flow_descriptions) == [flow(50000)]


async def test_an_interrupted_create_can_be_repeated_with_its_request_id(stack: AfStack):
    template = await stack.provision()
    stack.pcf.hold["CreateAppSession"] = asyncio.Event()
    interrupted = asyncio.create_task(stack.activate(template, request_id="r-1"))
    await stack.pcf.until(lambda: len(stack.pcf.sessions) == 1)
    (first,) = stack.pcf.sessions
    await stack.stop()
    await asyncio.wait([interrupted])
    assert interrupted.cancelled()
    stack.pcf.hold.pop("CreateAppSession").set()
    await stack.start()
    policy = await stack.activate(template, request_id="r-1")
    assert policy.dynamic_policy_id != first
    await stack.pcf.until(lambda: set(stack.pcf.sessions) == {policy.dynamic_policy_id})


class TestWithoutAPcf:
    async def test_an_activation_is_refused_and_forgotten_when_the_pcf_is_back(
        self, stack: AfStack, clock: ManualClock
    ):
        template = await stack.provision()
        await stack.stop_pcf()
        with pytest.raises(Unavailable, match="pcf"):
            await stack.activate(template)
        assert [state_name(each) for each in await stack.all_policies()] == ["DEACTIVATING"]
        await stack.start_pcf()
        clock.advance(timedelta(minutes=1))
        await stack.pcf.until(lambda: "DeleteAppSession" in stack.pcf.names())

    async def test_a_deletion_says_so_and_is_done_when_the_pcf_is_back(self, stack: AfStack, clock: ManualClock):
        policy = await stack.activate(await stack.provision())
        await stack.stop_pcf()
        delete = m5.DeleteDynamicPolicyRequest(dynamic_policy_id=policy.dynamic_policy_id)
        with pytest.raises(Unavailable):
            await stack.policies.DeleteDynamicPolicy(delete)
        assert state_name(await stack.policy(policy.dynamic_policy_id)) == "DEACTIVATING"
        await stack.start_pcf()
        clock.advance(timedelta(minutes=1))
        await stack.pcf.until(lambda: stack.pcf.sessions == {})
        # Another deletion comes after this one, or finds nothing.
        with suppress(NotFound):
            await stack.policies.DeleteDynamicPolicy(delete)
        assert await stack.all_policies() == []

    async def test_provisioning_and_reading_go_on(self, stack: AfStack):
        template = await stack.provision()
        policy = await stack.activate(template)
        await stack.stop_pcf()
        await stack.new_template(template.provisioning_session_id, external_reference="another")
        assert await stack.all_policies() == [policy]

    async def test_a_changed_template_reaches_running_policies_when_the_pcf_is_back(
        self, stack: AfStack, clock: ManualClock
    ):
        template = await stack.provision()
        policy = await stack.activate(template)
        await stack.stop_pcf()
        template.qos_specification.max_btr_dl_bps = 1_000_000
        template.etag = ""
        await stack.templates.UpdatePolicyTemplate(m1.UpdatePolicyTemplateRequest(policy_template=template))
        await stack.template_state(template.policy_template_id, "READY", after=3)
        assert (await stack.policy(policy.dynamic_policy_id)).enforcement_bit_rate_bps == 5_000_000
        await stack.start_pcf()
        clock.advance(timedelta(minutes=1))
        await stack.event(lambda event: event.type == "DYNAMIC_POLICY_STATE" and event.sequence > 4)
        assert (await stack.policy(policy.dynamic_policy_id)).enforcement_bit_rate_bps == 1_000_000
