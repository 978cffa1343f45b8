"""What the PCF tells, as the AF passes it on: states, usage, compliance; and Watch streams that resume."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from af_stack import PATIENCE_S, AfStack, flow, payload_of, state_name

from nf.af.v1 import media_session_pb2 as m5
from nf.common.v1 import types_pb2 as types
from nf.common.v1.events_pb2 import Event
from nf.pcf.v1 import policy_authorization_pb2 as n5

QOS_NOTIF, USAGE_REPORT = n5.AF_EVENT_QOS_NOTIF, n5.AF_EVENT_USAGE_REPORT
USAGE = types.Usage(
    downlink=types.PolicedVolume(
        offered=types.Volume(packets=10, bytes=15_000),
        conforming=types.Volume(packets=8, bytes=12_000),
        exceeding=types.Volume(packets=2, bytes=3_000),
    )
)


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[AfStack]:
    async with AfStack(tmp_path) as started:
        yield started


async def of_type(stack: AfStack, event_type: str, after: int = 0) -> Event:
    return await stack.event(lambda event: event.type == event_type, after)


@pytest.mark.clause("TS 26.512 A.3.1")
async def test_a_media_session_that_leaves_the_threshold_is_exceeded_until_it_keeps_it_again(stack: AfStack):
    policy = await stack.activate(await stack.provision())
    policy_id = policy.dynamic_policy_id
    await stack.pcf.tell(policy_id, QOS_NOTIF, compliant=False, since_ns=7, usage=USAGE)

    told = await of_type(stack, "QOS_NOTIF")
    assert (told.source, told.path, told.subject) == ("pcf", "N4>N7>N5", f"dynamic-policies/{policy_id}")
    assert payload_of(told, m5.DynamicPolicyUsage) == m5.DynamicPolicyUsage(
        dynamic_policy_id=policy_id, usage=USAGE, compliant=False
    )
    event = await stack.policy_state(policy_id, "EXCEEDED")
    changed = payload_of(event, m5.DynamicPolicyStateChanged)
    assert (event.source, event.path) == ("af", "N4>N7>N5")
    assert changed.previous_state == m5.DynamicPolicy.STATE_ACTIVE
    assert changed.dynamic_policy.state_reason.detail == "its flows together exceed 5000000 bps: the excess passes"
    assert changed.dynamic_policy.etag != policy.etag

    await stack.pcf.tell(policy_id, USAGE_REPORT, usage=USAGE, zero_rated_bytes=12_000, charged_bytes=3_000)
    report = payload_of(await of_type(stack, "USAGE_REPORT"), m5.DynamicPolicyUsage)
    assert (report.zero_rated_bytes, report.charged_bytes, report.compliant) == (12_000, 3_000, False)

    await stack.pcf.tell(policy_id, QOS_NOTIF, compliant=True)
    event = await stack.policy_state(policy_id, "ACTIVE", after=event.sequence)
    active = payload_of(event, m5.DynamicPolicyStateChanged).dynamic_policy
    assert not active.HasField("state_reason")
    assert await stack.policy(policy_id) == active
    await stack.pcf.tell(policy_id, USAGE_REPORT, usage=USAGE)
    report = payload_of(await of_type(stack, "USAGE_REPORT", after=event.sequence), m5.DynamicPolicyUsage)
    assert report.compliant


@pytest.mark.parametrize(
    ("news", "problem", "cause"),
    [
        (n5.AF_EVENT_PDU_SESSION_STATUS, None, "PDU_SESSION_NOT_AVAILABLE"),
        (n5.AF_EVENT_FAILED_RESOURCES_ALLOCATION, None, "FAILED_RESOURCES_ALLOCATION"),
        (
            n5.AF_EVENT_FAILED_RESOURCES_ALLOCATION,
            types.ProblemDetails(title="no more", cause="WITHDRAWN"),
            "WITHDRAWN",
        ),
    ],
    ids=["PDU session gone", "resources gone", "with a reason"],
)
async def test_a_policy_whose_pdu_session_or_resources_go_is_terminated(stack: AfStack, news, problem, cause):
    policy = await stack.activate(await stack.provision())
    await stack.pcf.tell(policy.dynamic_policy_id, news, path="N7", problem=problem)
    event = await stack.policy_state(policy.dynamic_policy_id, "TERMINATED")
    terminated = payload_of(event, m5.DynamicPolicyStateChanged).dynamic_policy
    assert (event.path, terminated.state_reason.cause) == ("N7>N5", cause)
    # The PCF is asked to end what is left; the policy can be read until the Media Session Handler deletes it.
    await stack.pcf.until(lambda: "DeleteAppSession" in stack.pcf.names())
    assert await stack.policy(policy.dynamic_policy_id) == terminated
    await stack.policies.DeleteDynamicPolicy(m5.DeleteDynamicPolicyRequest(dynamic_policy_id=policy.dynamic_policy_id))
    assert await stack.all_policies() == []


async def test_what_the_network_comes_to_enforce_by_itself_is_passed_on(stack: AfStack):
    policy = await stack.activate(await stack.provision())
    policy_id = policy.dynamic_policy_id
    enforcement = stack.pcf.sessions[policy_id].asc_resp_data.enforcement
    enforcement.enforcement_bit_rate_dl_bps = 2_000_000
    enforcement.enforcement_method = types.ENFORCEMENT_METHOD_POLICE
    stack.pcf.sessions[policy_id].asc_resp_data.revision += 1
    last = (await stack.history())[-1].sequence
    await stack.pcf.tell(policy_id, n5.AF_EVENT_SUCCESSFUL_RESOURCES_ALLOCATION, path="")
    event = await stack.policy_state(policy_id, "ACTIVE", after=last)
    changed = payload_of(event, m5.DynamicPolicyStateChanged)
    assert changed.previous_state == m5.DynamicPolicy.STATE_ACTIVE
    assert changed.dynamic_policy.service_descriptor_filter.operating_bandwidth_max_bps == 2_000_000
    assert changed.dynamic_policy.enforcement_method == types.ENFORCEMENT_METHOD_POLICE
    assert await stack.policy(policy_id) == changed.dynamic_policy


async def test_news_of_a_policy_waits_until_its_activation_is_acknowledged(stack: AfStack):
    template = await stack.provision()
    stack.pcf.hold["CreateAppSession"] = asyncio.Event()
    activation = asyncio.create_task(stack.activate(template))
    await stack.pcf.until(lambda: len(stack.pcf.sessions) == 1)
    policy_id = next(iter(stack.pcf.sessions))
    await stack.pcf.tell(policy_id, QOS_NOTIF, compliant=False)
    stack.pcf.hold["CreateAppSession"].set()
    assert state_name(await activation) == "ACTIVE"
    await stack.policy_state(policy_id, "EXCEEDED")


async def test_sessions_of_others_at_the_same_pcf_are_none_of_this_afs_business(stack: AfStack):
    policy = await stack.activate(await stack.provision())
    await stack.pcf.tell("of-another-af", QOS_NOTIF, compliant=False)
    await stack.pcf.tell(policy.dynamic_policy_id, QOS_NOTIF, compliant=False)
    event = await of_type(stack, "QOS_NOTIF")
    assert payload_of(event, m5.DynamicPolicyUsage).dynamic_policy_id == policy.dynamic_policy_id


async def test_a_watch_resumes_after_a_sequence_and_keeps_to_its_subject(stack: AfStack):
    template = await stack.provision()
    first = await stack.activate(template)
    second = await stack.activate(template, flow(50001))
    for policy in (first, second):
        await stack.pcf.tell(policy.dynamic_policy_id, USAGE_REPORT, usage=USAGE)
    last = await stack.event(
        lambda event: event.type == "USAGE_REPORT" and event.subject.endswith(second.dynamic_policy_id)
    )
    everything = await stack.history()
    assert [event.sequence for event in everything] == list(range(1, last.sequence + 1))
    resumed = [event async for event in stack.watch(after=2, no_follow=True)]
    assert resumed == everything[2:]
    about_first = await stack.history(f"dynamic-policies/{first.dynamic_policy_id}")
    assert [event.type for event in about_first] == ["DYNAMIC_POLICY_STATE", "USAGE_REPORT"]

    async def next_after(sequence: int) -> Event:
        async with asyncio.timeout(PATIENCE_S):
            return await anext(stack.watch(after=sequence))

    waiting = asyncio.create_task(next_after(last.sequence))
    await stack.pcf.tell(first.dynamic_policy_id, USAGE_REPORT, usage=USAGE)
    assert (await waiting).sequence == last.sequence + 1


async def test_an_event_takes_effect_once_however_often_the_af_is_started(stack: AfStack):
    policy = await stack.activate(await stack.provision())
    await stack.pcf.tell(policy.dynamic_policy_id, USAGE_REPORT, usage=USAGE)
    await of_type(stack, "USAGE_REPORT")
    await stack.stop()
    await stack.pcf.tell(policy.dynamic_policy_id, QOS_NOTIF, compliant=False)
    await stack.start()
    await stack.policy_state(policy.dynamic_policy_id, "EXCEEDED")
    types_told = [event.type for event in await stack.history(f"dynamic-policies/{policy.dynamic_policy_id}")]
    assert types_told == ["DYNAMIC_POLICY_STATE", "USAGE_REPORT", "QOS_NOTIF", "DYNAMIC_POLICY_STATE"]
