"""How long until 1,000 distribution sessions that begin at one time are all active, with everything told of them?"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import pytest
from mbsf_stack import ingest_session, objects, period, user_service
from running_core import castcore

from benchmarks.conftest import Results
from nf.common.channels import Channels
from nf.common.v1.events_pb2 import Event, WatchEventsRequest
from nf.mbsf.v1 import user_data_ingest_pb2 as ingest
from nf.mbsf.v1 import user_service_pb2 as services
from nf.mbsf.v1.user_data_ingest_pb2_grpc import MbsfEventsServiceStub, MbsUserDataIngestSessionsServiceStub
from nf.mbsf.v1.user_service_pb2_grpc import MbsUserServicesServiceStub

pytestmark = pytest.mark.timeout(600)

SESSIONS = 1_000
RATE_BPS = 100_000
OBJECT = b"x" * 1_000
# Steps 2a and 2b have this long; the second after it is the start.
LEAD = timedelta(seconds=60)
BOUND = timedelta(seconds=5)
PATIENCE_S = 150.0
PARTS = ("one ingest session", "an ingest session each")


@asynccontextmanager
async def origin() -> AsyncIterator[str]:
    """A provider's web server, which has one small object under every name."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(OBJECT), OBJECT))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def told(channels: Channels, event_type: str, count: int) -> list[Event]:
    """Everything told, as soon as this has been told so often."""
    seen: list[Event] = []
    found = 0
    async for answer in MbsfEventsServiceStub(channels.get("mbsf")).WatchEvents(WatchEventsRequest()):
        seen.append(answer.event)
        if "FAILURE" in answer.event.type:
            failure = ingest.EventNotification()
            answer.event.payload.Unpack(failure)
            raise AssertionError(f"{answer.event.type}: {failure.status_add_info}")
        found += answer.event.type == event_type
        if found == count:
            return seen
    raise AssertionError("the stream ended")


def moment(event: Event) -> datetime:
    return event.event_time.ToDatetime(UTC)


@pytest.mark.parametrize("part", PARTS)
async def test_sessions_that_begin_together_are_active_within_five_seconds(
    part: str, tmp_path: Path, results_of: Callable[..., Results]
) -> None:
    results = results_of(
        "mbs_activation", about=f"{SESSIONS:,} distribution sessions that begin at one time", parts=PARTS
    )
    configuration = tmp_path / "castcore.toml"
    lines = f"[mbsf]\nestablishment_lead_s = {LEAD.total_seconds()}\n[log]\nlevel = 'warning'\n"
    configuration.write_text(lines)
    async with origin() as base:
        with castcore("up", "--dir", str(tmp_path), "--config", str(configuration)) as (_, ready):
            channels = Channels(ready["grpc"], deadline_s=120)
            try:
                begun = datetime.now(UTC)
                start = begun + LEAD + timedelta(seconds=15)
                await provision(channels, part, base, start)
                provisioned = datetime.now(UTC)
                assert provisioned < start - LEAD + timedelta(seconds=30)
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + PATIENCE_S):
                    events = await told(channels, "DIST_SESS_ACTIVATED", SESSIONS)
            finally:
                await channels.close()
    counted = Counter(event.type for event in events)
    assert {name: counted[name] for name in ("DIST_SESS_STARTING", "DIST_SESS_STARTED", "DIST_SESS_ACTIVATED")} == {
        "DIST_SESS_STARTING": SESSIONS,
        "DIST_SESS_STARTED": SESSIONS,
        "DIST_SESS_ACTIVATED": SESSIONS,
    }
    assert [name for name in counted if "FAILURE" in name] == []
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    activated = sorted(moment(event) - start for event in events if event.type == "DIST_SESS_ACTIVATED")
    starting = min(moment(event) for event in events if event.type == "DIST_SESS_STARTING")
    established = sorted(moment(event) - starting for event in events if event.type == "DIST_SESS_STARTED")
    assert activated[0] >= timedelta(0)
    assert activated[-1] <= BOUND
    results.add(
        part,
        [
            {
                "subject": part,
                "sessions": SESSIONS,
                "provisioned_s": round((provisioned - begun).total_seconds(), 2),
                "all_established_after_s": round(established[-1].total_seconds(), 2),
                "median_activated_after_start_s": round(median(each.total_seconds() for each in activated), 2),
                "all_activated_after_start_s": round(activated[-1].total_seconds(), 2),
                "events": len(events),
            }
        ],
    )


async def provision(channels: Channels, part: str, base: str, start: datetime) -> None:
    made = await MbsUserServicesServiceStub(channels.get("mbsf")).CreateMbsUserService(
        services.CreateMbsUserServiceRequest(mbs_user_service=user_service())
    )
    when = period(start, start + timedelta(hours=1))
    infos = {f"s{each:04}": objects(f"{base}/{each}", rate_bps=RATE_BPS) for each in range(SESSIONS)}
    groups = [infos] if part == PARTS[0] else [{key: info} for key, info in infos.items()]
    stub = MbsUserDataIngestSessionsServiceStub(channels.get("mbsf"))
    at_a_time = asyncio.Semaphore(32)

    async def create(group: dict[str, ingest.MbsDistributionSessionInfo]) -> None:
        session = ingest_session(made.mbs_user_service, when, **group)
        async with at_a_time:
            await stub.CreateMbsUserDataIngSession(
                ingest.CreateMbsUserDataIngSessionRequest(mbs_user_data_ing_session=session)
            )

    await asyncio.gather(*(create(group) for group in groups))
