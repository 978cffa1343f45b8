"""The MBSF on the real MB-SMF, PCF, UPF and MBSTF in one process: what it reserves stands there, and goes again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mbsf_stack import ingest_session, objects, period, state_of, told, user_service

from nf.cli.configuration import Configuration, StateSection
from nf.cli.stack import Stack
from nf.common.channels import Channels
from nf.common.errors import InvalidArgument
from nf.common.v1.events_pb2 import Event, WatchEventsRequest
from nf.mbsf.config import MbsfSection
from nf.mbsf.v1 import user_data_ingest_pb2 as ingest
from nf.mbsf.v1 import user_service_pb2 as services
from nf.mbsf.v1.user_data_ingest_pb2_grpc import MbsfEventsServiceStub, MbsUserDataIngestSessionsServiceStub
from nf.mbsf.v1.user_service_pb2_grpc import MbsUserServicesServiceStub
from nf.mbstf.v1.dist_session_pb2 import ListDistSessionsRequest
from nf.mbstf.v1.dist_session_pb2_grpc import DistSessionServiceStub
from nf.pcf.v1.mbs_policy_authorization_pb2 import ListMbsAppSessionContextsRequest
from nf.pcf.v1.mbs_policy_authorization_pb2_grpc import MbsPolicyAuthorizationServiceStub
from nf.smf.v1.mbs_session_pb2 import ListMbsSessionsRequest
from nf.smf.v1.mbs_session_pb2_grpc import MbsSessionServiceStub
from nf.smf.v1.tmgi_pb2 import ListTmgisRequest
from nf.smf.v1.tmgi_pb2_grpc import TmgiServiceStub

CONTENT = b"segment" * 1_000


@asynccontextmanager
async def origin() -> AsyncIterator[str]:
    """A provider's web server: it has /there, and nothing else."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                there = b" /there " in request.partition(b"\r\n")[0]
                body = CONTENT if there else b""
                status = b"200 OK" if there else b"404 Not Found"
                writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@asynccontextmanager
async def chain(directory: Path) -> AsyncIterator[Channels]:
    section = MbsfSection(establishment_timeout_s=1.0)
    stack = Stack(
        Configuration(state=StateSection(directory=str(directory)), mbsf=section),
        functions=("upf", "pcf", "smf", "mbstf", "mbsf"),
    )
    await stack.start()
    channels = Channels(stack.grpc)
    try:
        yield channels
    finally:
        await channels.close()
        await stack.stop()


async def until_told(channels: Channels, subject: str, last: str) -> list[Event]:
    seen: list[Event] = []
    async for answer in MbsfEventsServiceStub(channels.get("mbsf")).WatchEvents(WatchEventsRequest(subject=subject)):
        seen.append(answer.event)
        if answer.event.type == last:
            return seen
    raise AssertionError("the stream ended")


async def reserved(channels: Channels) -> tuple[int, int, int, int]:
    """TMGIs, authorisations, MBS sessions and replicas that there are."""
    tmgis = await TmgiServiceStub(channels.get("smf")).ListTmgis(ListTmgisRequest())
    contexts = await MbsPolicyAuthorizationServiceStub(channels.get("pcf")).ListMbsAppSessionContexts(
        ListMbsAppSessionContextsRequest()
    )
    sessions = await MbsSessionServiceStub(channels.get("smf")).ListMbsSessions(ListMbsSessionsRequest())
    replicas = await DistSessionServiceStub(channels.get("mbstf")).ListDistSessions(ListDistSessionsRequest())
    return len(tmgis.tmgis), len(contexts.contexts), len(sessions.mbs_sessions), len(replicas.dist_sessions)


@pytest.mark.clause("TS 26.502 §4.6.1", "TS 26.502 §4.6.2")
async def test_through_real_functions_it_reserves_distributes_and_releases(tmp_path: Path) -> None:
    async with origin() as base, chain(tmp_path) as channels:
        made = await MbsUserServicesServiceStub(channels.get("mbsf")).CreateMbsUserService(
            services.CreateMbsUserServiceRequest(mbs_user_service=user_service())
        )
        sessions = MbsUserDataIngestSessionsServiceStub(channels.get("mbsf"))

        async def provision(info: ingest.MbsDistributionSessionInfo) -> ingest.MbsUserDataIngSession:
            now = datetime.now(UTC)
            wanted = ingest_session(made.mbs_user_service, period(now, now + timedelta(hours=1)), main=info)
            request = ingest.CreateMbsUserDataIngSessionRequest(mbs_user_data_ing_session=wanted)
            return (await sessions.CreateMbsUserDataIngSession(request)).mbs_user_data_ing_session

        async def state(name: str) -> str:
            request = ingest.GetMbsUserDataIngSessionRequest(mbs_ing_session_id=name)
            found = (await sessions.GetMbsUserDataIngSession(request)).mbs_user_data_ing_session
            return state_of(found.mbs_dis_sess_infos["main"])

        # What the MBSTF refuses is refused to the provider, with nothing left of it.
        unprotected = objects(f"{base}/there")
        unprotected.fec_config.fec_scheme = "urn:ietf:rmt:fec:encoding:6"
        with pytest.raises(InvalidArgument):
            await provision(unprotected)

        # 2b: nothing is there to be ingested.
        empty = (await provision(objects(f"{base}/missing"))).mbs_ing_session_id
        events = await until_told(channels, f"mbs-ing-sessions/{empty}", "USER_DATA_ING_SESS_TERMINATED")
        assert [name for name in told(events) if "FAILURE" in name] == [
            "DIST_SESS_SERV_MNGT_FAILURE",
            "DIST_SESS_EST_FAILURE",
        ]
        assert (await state(empty), await reserved(channels)) == ("INACTIVE", (0, 0, 0, 1))

        there = (await provision(objects(f"{base}/there"))).mbs_ing_session_id
        events = await until_told(channels, f"mbs-ing-sessions/{there}", "DIST_SESS_ACTIVATED")
        assert (await state(there), await reserved(channels)) == ("ACTIVE", (1, 1, 1, 2))

        for name in (empty, there):
            request = ingest.DeleteMbsUserDataIngSessionRequest(mbs_ing_session_id=name)
            await sessions.DeleteMbsUserDataIngSession(request)
            await until_told(channels, f"mbs-ing-sessions/{name}", "SESSION_TERMINATED")
        assert await reserved(channels) == (0, 0, 0, 0)
