"""An MBSTF that is killed goes on where each of its sessions was, and tells nothing twice."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from dash_server import DashServer
from mbstf_stack import ACTIVE, DEACTIVATING, ESTABLISHED, INACTIVE, Files, object_session, tunnel
from running_core import castcore

from nf.common.channels import Channels
from nf.common.errors import Cancelled, Unavailable
from nf.common.v1 import mbs_distribution_pb2 as shared
from nf.common.v1.events_pb2 import WatchEventsRequest
from nf.mbstf.v1 import dist_session_pb2 as nmb2
from nf.mbstf.v1.dist_session_pb2_grpc import DistSessionServiceStub, MbstfEventsServiceStub

STATES = {"established": ESTABLISHED, "active": ACTIVE, "deactivating": DEACTIVATING}
TOLD = {
    "establishing": [],
    "established": ["DATA_INGEST_SESSION_ESTABLISHED"],
    "active": ["DATA_INGEST_SESSION_ESTABLISHED", "SESSION_ACTIVATED"],
    "deactivating": ["DATA_INGEST_SESSION_ESTABLISHED", "SESSION_ACTIVATED", "SESSION_DEACTIVATED"],
}


@asynccontextmanager
async def killable(directory: Path) -> AsyncIterator[tuple[subprocess.Popen[str], Channels]]:
    """An MBSTF in a process of its own, killed at the end."""
    with castcore("run", "mbstf", "--dir", str(directory)) as (process, said):
        channels = Channels({"mbstf": said["grpc"]["mbstf"]}, deadline_s=20.0)
        try:
            yield process, channels
        finally:
            await channels.close()


async def go(nmb2_stub: DistSessionServiceStub, name: str, state: int) -> nmb2.DistSession:
    session = nmb2.DistSession(dist_session_id=name, dist_session_state=state)
    return (await nmb2_stub.UpdateDistSession(nmb2.UpdateDistSessionRequest(dist_session=session))).dist_session


@pytest.mark.clause("TS 26.502 §4.6.1")
async def test_a_killed_mbstf_takes_its_sessions_up_where_they_were(tmp_path: Path) -> None:
    async with DashServer({"/o": b"o" * 5000}) as origin, tunnel() as nmb9:
        pulled = {
            "obj_distribution_operating_mode": shared.OBJ_DISTRIBUTION_OPERATING_MODE_SINGLE,
            "obj_acquisition_method": shared.OBJ_ACQUISITION_METHOD_PULL,
            "obj_ingest_base_url": f"{origin.url}/",
            "obj_acquisition_ids_pull": ["o"],
        }
        pushed = {
            "obj_distribution_operating_mode": shared.OBJ_DISTRIBUTION_OPERATING_MODE_SINGLE,
            "obj_acquisition_method": shared.OBJ_ACQUISITION_METHOD_PUSH,
        }
        async with killable(tmp_path) as (process, channels):
            stub = DistSessionServiceStub(channels.get("mbstf"))
            sessions = {}
            for name in TOLD:
                wanted = object_session(name, nmb9.address, **(pushed if name == "establishing" else pulled))
                request = nmb2.CreateDistSessionRequest(dist_session=wanted)
                sessions[name] = (await stub.CreateDistSession(request)).dist_session
            await go(stub, "established", ESTABLISHED)
            await go(stub, "active", ACTIVE)
            await go(stub, "deactivating", ACTIVE)
            await go(stub, "deactivating", DEACTIVATING)
            # Nobody pushes anything: it is being established when the process is killed.
            lost = asyncio.ensure_future(go(stub, "establishing", ESTABLISHED))
            await asyncio.wait([lost], timeout=0.1)
            process.kill()
            with pytest.raises((Unavailable, Cancelled)):
                await lost
        packets, asked = len(nmb9.received), len(origin.asked)
        async with killable(tmp_path) as (_, channels):
            stub = DistSessionServiceStub(channels.get("mbstf"))
            for name, told in TOLD.items():
                request = nmb2.GetDistSessionRequest(dist_session_id=name)
                found = (await stub.GetDistSession(request)).dist_session
                assert found.dist_session_state == STATES.get(name, INACTIVE)
                assert found.flute_tsi == sessions[name].flute_tsi
                watch = WatchEventsRequest(subject=f"dist-sessions/{name}", no_follow=True)
                events = MbstfEventsServiceStub(channels.get("mbstf")).WatchEvents(watch)
                assert [each.event.type async for each in events] == told
            files = Files(tmp_path / "received", sessions["active"].flute_tsi)
            await nmb9.until(lambda received: files.take(received[packets:]) == {"o": b"o" * 5000})
            # The two that ingest have fetched again, though perhaps together; the one that ends has not.
            assert 1 <= len(origin.asked[asked:]) <= 2
            assert (await go(stub, "established", ACTIVE)).dist_session_state == ACTIVE
            assert (await go(stub, "deactivating", INACTIVE)).dist_session_state == INACTIVE
