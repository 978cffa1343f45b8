"""A UPF that is lost or starts anew: the dynamic policy says that it is not enforced, and that it is again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from control_plane import PATIENCE_S, UE, ControlPlane, running
from media_sessions import Media, filters

from nf.af.v1 import media_session_pb2 as m5
from nf.af.v1.media_session_pb2_grpc import AfEventsServiceStub
from nf.common.errors import DeadlineExceeded, Unavailable
from nf.common.v1.events_pb2 import WatchEventsRequest
from nf.pcf.v1 import policy_authorization_pb2 as n5

VIDEO = filters(src_ip="198.51.100.7", dst_ip=UE, protocol=17, src_port=443)
AUDIO = filters(src_ip="198.51.100.8", dst_ip=UE)
NAMED = m5.ServiceDataFlowDescription(domain_name="*.example.com")


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with running(tmp_path, real_upf=True, with_af=True, upf_wait_s=0.1) as plane:
        await plane.attach()
        yield plane


async def told(plane: ControlPlane, *states: str) -> list[m5.DynamicPolicyStateChanged]:
    """What the AF has told of its dynamic policy, once its states have been these."""
    changes: list[m5.DynamicPolicyStateChanged] = []
    async with asyncio.timeout(PATIENCE_S):
        stream = AfEventsServiceStub(plane.channel("af")).WatchEvents(WatchEventsRequest(), wait_for_ready=True)
        async for response in stream:
            change = m5.DynamicPolicyStateChanged()
            if response.event.type == "DYNAMIC_POLICY_STATE" and response.event.payload.Unpack(change):
                changes.append(change)
            names = [m5.DynamicPolicy.State.Name(each.dynamic_policy.state).removeprefix("STATE_") for each in changes]
            if names == list(states):
                break
    return changes


@pytest.mark.clause("TS 29.514 §4.2.5.4")
@pytest.mark.clause("TS 23.527 §4.2")
async def test_a_lost_upf_interrupts_the_policy_until_it_is_back(plane: ControlPlane) -> None:
    media = await Media.provisioned(plane)
    await media.activate(VIDEO)
    await plane.lay_down("upf")
    interrupted = (await told(plane, "ACTIVE", "INTERRUPTED"))[-1].dynamic_policy
    assert interrupted.state_reason.cause == "UPF_NOT_RESPONDING"
    assert "N4:" in interrupted.state_reason.detail
    assert await plane.app_sessions() == {interrupted.dynamic_policy_id: n5.AppSession.STATE_INTERRUPTED}
    # Nothing can be put in force meanwhile, and what was asked for stays asked for.
    with pytest.raises((Unavailable, DeadlineExceeded)):
        await media.change(VIDEO, AUDIO)
    # Neither forgets it when it starts anew.
    for function in ("pcf", "smf", "af"):
        await plane.lay_down(function)
        await plane.take_up(function)
    await plane.take_up("upf")
    enforced = (await told(plane, "ACTIVE", "INTERRUPTED", "ACTIVE"))[-1].dynamic_policy
    assert not enforced.HasField("state_reason")
    assert await plane.app_sessions() == {enforced.dynamic_policy_id: n5.AppSession.STATE_ACTIVE}
    await media.change(VIDEO, AUDIO)


@pytest.mark.clause("TS 23.527 §4.2")
async def test_a_upf_that_starts_anew_interrupts_what_it_had(plane: ControlPlane) -> None:
    media = await Media.provisioned(plane)
    await media.activate(NAMED)
    await plane.lay_down("upf")
    await plane.take_up("upf")
    changes = await told(plane, "ACTIVE", "INTERRUPTED", "ACTIVE")
    assert changes[1].dynamic_policy.state_reason.cause in ("UPF_RESTARTED", "UPF_NOT_RESPONDING")
    assert changes[2].previous_state == m5.DynamicPolicy.STATE_INTERRUPTED
