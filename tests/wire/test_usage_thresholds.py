"""Usage thresholds over N5: told once when volume or time has come to them, and counted anew when they are set anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from control_plane import PATIENCE_S, ControlPlane, running

from nf.common.errors import InvalidArgument
from nf.pcf.v1 import policy_authorization_pb2 as n5


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with running(tmp_path) as plane:
        await plane.attach()
        yield plane


async def set_threshold(plane: ControlPlane, **threshold: int) -> None:
    data = n5.AppSessionContextReqData(usg_thres=n5.UsageThreshold(**threshold))
    request = n5.UpdateAppSessionRequest(app_session_id="s", asc_req_data=data)
    request.update_mask.paths.append("usg_thres")
    await plane.n5.UpdateAppSession(request)


async def monitoring(plane: ControlPlane) -> n5.UsageMonitoring:
    answer = await plane.n5.GetAppSession(n5.GetAppSessionRequest(app_session_id="s"))
    return answer.app_session.usage_monitoring


async def in_the_ledger(plane: ControlPlane, offered_bytes: int) -> None:
    """Returns when the PCF has recorded so much, whether or not it tells it."""
    async with asyncio.timeout(PATIENCE_S):
        while [entry.usage.downlink.offered.bytes for entry in await plane.ledger("s")] != [offered_bytes]:
            continue


@pytest.mark.clause("TS 29.514 §4.2.5.6")
async def test_a_volume_is_told_once_when_it_is_reached(plane: ControlPlane) -> None:
    await plane.authorize("s", usg_thres=n5.UsageThreshold(downlink_volume_bytes=10_000))
    # What is dropped is not used.
    await plane.upf.count(downlink_offered_bytes=20_000, downlink_conforming_bytes=9_999, downlink_dropped_bytes=10_001)
    await in_the_ledger(plane, 20_000)
    assert not (await monitoring(plane)).reached
    await plane.upf.count(downlink_offered_bytes=1, downlink_conforming_bytes=1)
    _, told = await plane.notification("USAGE_REPORT")
    assert told.usage_threshold_reached
    assert told.usage.downlink.conforming.bytes == 10_000
    assert (await monitoring(plane)).reached
    await plane.upf.count(downlink_offered_bytes=60_000, downlink_exceeding_bytes=60_000)
    await in_the_ledger(plane, 80_001)
    # Set anew it counts from now on, and over a restart.
    await set_threshold(plane, total_volume_bytes=5_000)
    assert (await monitoring(plane)) == n5.UsageMonitoring(from_downlink_bytes=70_000)
    await plane.lay_down("pcf")
    await plane.take_up("pcf")
    await plane.upf.count(downlink_offered_bytes=5_000, downlink_conforming_bytes=5_000)
    _, told = await plane.notification("USAGE_REPORT", number=2)
    assert told.usage.downlink.conforming.bytes == 15_000


@pytest.mark.clause("TS 29.514 §4.2.5.6")
async def test_time_that_is_over_is_told_though_nothing_was_used(plane: ControlPlane) -> None:
    await plane.authorize("s", usg_thres=n5.UsageThreshold(duration_s=1, total_volume_bytes=10**9))
    _, told = await plane.notification("USAGE_REPORT")
    assert told.usage_threshold_reached
    assert (await monitoring(plane)).reached


async def test_a_threshold_that_says_nothing_is_refused(plane: ControlPlane) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        await plane.authorize("s", usg_thres=n5.UsageThreshold())
    assert [each.field for each in refusal.value.violations] == ["asc_req_data.usg_thres"]
    await plane.authorize("s")
    with pytest.raises(InvalidArgument, match=r"usg_thres\.duration_s"):
        await set_threshold(plane, duration_s=10**12)
