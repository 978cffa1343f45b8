"""An MBSF that is killed (SIGKILL) while a peer works for it: it starts again, and ends where it should."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mbs_peers import MbsPeers, served
from mbsf_stack import ingest_session, period, told, user_service

from nf.common.channels import Channels
from nf.common.v1.events_pb2 import Event, WatchEventsRequest
from nf.mbsf.v1 import user_data_ingest_pb2 as ingest
from nf.mbsf.v1 import user_service_pb2 as services
from nf.mbsf.v1.user_data_ingest_pb2_grpc import MbsfEventsServiceStub, MbsUserDataIngestSessionsServiceStub
from nf.mbsf.v1.user_service_pb2_grpc import MbsUserServicesServiceStub

_SERVER = Path(__file__).with_name("mbsf_server.py")
_ESTABLISHING = (
    "AllocateTmgi",
    "CreateMbsAppSessionContext",
    "CreateMbsSession",
    "UpdateDistSession:ESTABLISHED",
    "UpdateDistSession:ACTIVE",
)
_RELEASING = (
    "UpdateDistSession:DEACTIVATING",
    "UpdateDistSession:INACTIVE",
    "ReleaseMbsSession",
    "DeleteMbsAppSessionContext",
    "ReleaseTmgi",
    "DeleteDistSession",
)


@asynccontextmanager
async def killable(state: Path, peers: dict[str, str]) -> AsyncIterator[tuple[asyncio.subprocess.Process, Channels]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(_SERVER),
        str(state),
        peers["smf"],
        peers["pcf"],
        peers["mbstf"],
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    channels = Channels({"mbsf": (await process.stdout.readline()).decode().strip()})
    try:
        yield process, channels
    finally:
        await channels.close()
        if process.returncode is None:
            process.kill()
        await process.wait()


async def everything_told(channels: Channels, last: str) -> list[Event]:
    seen: list[Event] = []
    async for answer in MbsfEventsServiceStub(channels.get("mbsf")).WatchEvents(WatchEventsRequest()):
        seen.append(answer.event)
        if answer.event.type == last:
            return seen
    raise AssertionError("the stream ended")


@pytest.mark.timeout(300)
@pytest.mark.clause("TS 26.502 §4.6.1 step 2a", "TS 26.502 §4.6.1 step 2b", "TS 26.502 §4.6.1 step 4")
async def test_killed_during_every_call_it_distributes_and_releases_all_the_same(tmp_path: Path) -> None:
    peers = MbsPeers()
    async with served(peers) as targets:
        now = datetime.now(UTC)
        made = None
        for method in (*_ESTABLISHING, *_RELEASING):
            peers.hold[method] = asyncio.Event()
            async with killable(tmp_path, targets) as (process, channels):
                sessions = MbsUserDataIngestSessionsServiceStub(channels.get("mbsf"))
                if made is None:
                    service = await MbsUserServicesServiceStub(channels.get("mbsf")).CreateMbsUserService(
                        services.CreateMbsUserServiceRequest(mbs_user_service=user_service())
                    )
                    when = period(now - timedelta(seconds=1), now + timedelta(hours=1))
                    answer = await sessions.CreateMbsUserDataIngSession(
                        ingest.CreateMbsUserDataIngSessionRequest(
                            mbs_user_data_ing_session=ingest_session(service.mbs_user_service, when)
                        )
                    )
                    made = answer.mbs_user_data_ing_session
                if method == _RELEASING[0]:
                    await everything_told(channels, "DIST_SESS_ACTIVATED")
                    assert peers.reserved == (1, 1, 1)
                    await sessions.DeleteMbsUserDataIngSession(
                        ingest.DeleteMbsUserDataIngSessionRequest(mbs_ing_session_id=made.mbs_ing_session_id)
                    )
                await peers.until(lambda: peers.waiting > 0)
                process.kill()
                await process.wait()
            peers.hold.pop(method).set()
        async with killable(tmp_path, targets) as (_, channels):
            events = await everything_told(channels, "SESSION_TERMINATED")
        assert (peers.reserved, peers.replicas) == ((0, 0, 0), {})
        assert told(events) == [
            "USER_DATA_ING_SESS_STARTING",
            "DIST_SESS_STARTING",
            "SESSION_STARTED",
            "DIST_SESS_STARTED",
            "USER_DATA_ING_SESS_STARTED",
            "DIST_SESS_ACTIVATED",
            "DIST_SESS_TERMINATED",
            "SESSION_RELEASED",
            "USER_DATA_ING_SESS_TERMINATED",
            "SESSION_TERMINATED",
        ]
