"""A folder of files through the whole MBS chain, from a provider's web server to what a client received.

Provisioning at Nmb10, the life of the distribution session (TS 26.502 §4.6.1, steps 1 to 5), FLUTE over Nmb9 and the
MB-UPF to a multicast group on the loopback interface, the announcement at MBS-5, reception at MBS-4-MC, and repair at
MBS-4-UC of what was lost.
"""

from __future__ import annotations

import asyncio
import filecmp
import random
import socket
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from nf.cli.demo.content_server import serving
from nf.cli.demo.mbs_content import Piece
from nf.client.mbs.mbsf_client import MbsfClient
from nf.client.mbs.mbstf_client import MbstfClient
from nf.client.mbs.multicast import MulticastSocket, PacketSource
from nf.client.mbs.reception import ReceivedFile
from nf.client.mbs.reception_report import ReceptionReport
from nf.client.mbs.repair import HttpRepair
from nf.client.mbs.sink import DirectorySink
from nf.common.channels import Channels
from nf.common.clock import Clock
from nf.common.errors import DeadlineExceeded, FailedPrecondition, NotFound
from nf.common.v1 import mbs_distribution_pb2 as distribution
from nf.common.v1 import mbs_pb2 as mbs
from nf.common.v1.events_pb2 import Event, WatchEventsRequest, WatchEventsResponse
from nf.mbsf.v1 import user_data_ingest_pb2 as ingest
from nf.mbsf.v1 import user_service_pb2 as service
from nf.mbsf.v1.user_data_ingest_pb2_grpc import MbsfEventsServiceStub, MbsUserDataIngestSessionsServiceStub
from nf.mbsf.v1.user_service_pb2_grpc import MbsUserServicesServiceStub
from nf.mbstf.v1.dist_session_pb2 import DistSessionEventReport
from nf.mbstf.v1.dist_session_pb2_grpc import MbstfEventsServiceStub
from nf.smf.v1.mbs_session_pb2 import BroadcastDeliveryStatus, MbsSessionEventReport
from nf.smf.v1.pdu_session_pb2_grpc import SmfEventsServiceStub
from upf.units import format_bit_rate

SERVICE_ID: Final = "urn:castcore:demo:mbs"
SERVICE_CLASS: Final = "urn:oma:bcast:oma_bsc:st:1.0"
KEY: Final = "files"
# What clients know the objects by: not where the provider has them.
BASE_URL: Final = "http://media.example.com/live/"
_REED_SOLOMON: Final = "urn:ietf:rmt:fec:encoding:5"
# How long before its start the session is established, and how long before that it is provisioned.
LEAD_S: Final = 3.0
_HEAD_S: Final = LEAD_S + 0.5
# How long, beyond what the bit rate makes of it, the period lasts.
_MARGIN_S: Final = 3.0
# Headers, the FDT and what the pacing leaves unused.
_OVERHEAD: Final = 1.15
# How long what follows the end of the period may take.
_AFTER_S: Final = 20.0
_LOSS_SEED: Final = 26517
_REFERENCE_POINTS: Final = {"mbsf": "Nmb10", "mbstf": "Nmb2", "smf": "Nmb1"}


@dataclass(frozen=True, slots=True)
class Terms:
    """What is distributed and how; ``loss`` is the share of packets that the client does not get to see."""

    source: Path
    output: Path
    pieces: Sequence[Piece]
    bit_rate_bps: int
    fec_overhead_percent: int
    loss: float = 0.0

    @property
    def duration_s(self) -> float:
        """How long sending everything once takes at the bit rate."""
        size = sum(each.size_bytes for each in self.pieces) * (1 + self.fec_overhead_percent / 100)
        return size * 8 * _OVERHEAD / self.bit_rate_bps


@dataclass(frozen=True, slots=True)
class Happening:
    """An event as a function told it, found by ``source``, with the reference points that it has crossed."""

    at_s: float
    told_by: str
    source: str
    path: str
    type: str
    state: str
    detail: str = ""


@dataclass(slots=True)
class Story:
    """All that happened."""

    terms: Terms
    happenings: list[Happening] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    tmgi: str = ""
    flow: str = ""
    received: dict[Path, bool] = field(default_factory=dict)
    reception: ReceptionReport | None = None
    elapsed_s: float = 0.0

    @property
    def identical(self) -> bool:
        """Whether every file arrived as it was."""
        return all(self.received.get(each.path, False) for each in self.terms.pieces)


class _Watcher:
    """Follows the events of the functions that take part, tells them, and knows what has come."""

    def __init__(self, channels: Channels, clock: Clock, story: Story, tell: Callable[[str], None]) -> None:
        self._channels = channels
        self._clock = clock
        self._begun = clock.now()
        self._story = story
        self._tell = tell
        self._come = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> _Watcher:
        request = WatchEventsRequest()
        streams = {
            "mbsf": MbsfEventsServiceStub(self._channels.get("mbsf")).WatchEvents(request),
            "mbstf": MbstfEventsServiceStub(self._channels.get("mbstf")).WatchEvents(request),
            "smf": SmfEventsServiceStub(self._channels.get("smf")).WatchEvents(request),
        }
        self._tasks = [asyncio.create_task(self._follow(told_by, stream)) for told_by, stream in streams.items()]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def until(self, come: Callable[[Happening], bool], what: str, within_s: float) -> Happening:
        """The first of the events, past ones among them, that is meant. Raises DeadlineExceeded."""
        at = 0
        try:
            async with asyncio.timeout(within_s), self._come:
                while True:
                    for happening in self._story.happenings[at:]:
                        if come(happening):
                            return happening
                    at = len(self._story.happenings)
                    await self._come.wait()
        except TimeoutError:
            raise DeadlineExceeded(f"{what} did not come within {within_s:.0f} s") from None

    async def _follow(self, told_by: str, stream: AsyncIterable[WatchEventsResponse]) -> None:
        async for response in stream:
            happening = self._read(told_by, response.event)
            async with self._come:
                self._story.happenings.append(happening)
                if happening.told_by == "mbsf" and happening.type == "DIST_SESS_STATE":
                    self._story.states.append(happening.state)
                self._come.notify_all()
            self._tell(_line(happening))

    def _read(self, told_by: str, event: Event) -> Happening:
        at_s = (self._clock.now() - self._begun).total_seconds()
        told, replica, network = ingest.EventNotification(), DistSessionEventReport(), MbsSessionEventReport()
        state, detail = "", ""
        if event.payload.Unpack(told):
            state, detail = _state(told.mbs_dist_sess_state), told.status_add_info
        elif event.payload.Unpack(replica):
            state, detail = _state(replica.dist_session_state), replica.problem.detail
        elif event.payload.Unpack(network) and network.broadcast_del_status:
            detail = BroadcastDeliveryStatus.Name(network.broadcast_del_status).removeprefix(
                "BROADCAST_DELIVERY_STATUS_"
            )
        path = event.path or _REFERENCE_POINTS[told_by]
        return Happening(at_s, told_by, event.source, path, event.type, state, detail)


async def tell_story(channels: Channels, http: str, clock: Clock, terms: Terms, tell: Callable[[str], None]) -> Story:
    """The whole story. ``http`` is where the HTTP doors of the functions are. Raises CastcoreError."""
    story = Story(terms)
    begun = clock.now()
    async with _web_server(terms.source) as url, _Watcher(channels, clock, story, tell) as watcher:
        size_bytes = sum(each.size_bytes for each in terms.pieces)
        tell(f"provider    {url} has {len(terms.pieces)} objects, {size_bytes:,} bytes")
        session = await _provision(channels, url, clock.now(), terms, tell)
        await watcher.until(_is("DIST_SESS_STARTED"), "DIST_SESS_STARTED", _HEAD_S + _AFTER_S)
        story.reception = await _receive(http, clock, story, watcher, tell)
        await _gone(channels, watcher, session.mbs_ing_session_id, terms)
    story.received = {each.path: _same(terms.source / each.path, terms.output / each.path) for each in terms.pieces}
    story.elapsed_s = (clock.now() - begun).total_seconds()
    return story


async def _provision(
    channels: Channels, url: str, now: datetime, terms: Terms, tell: Callable[[str], None]
) -> ingest.MbsUserDataIngSession:
    """Nmb10: the service, and a user data ingest session with one distribution session."""
    offered = service.MbsUserService(
        ext_service_ids=[SERVICE_ID],
        serv_type=mbs.MBS_SERVICE_TYPE_BROADCAST,
        serv_class=SERVICE_CLASS,
        serv_ann_modes=[service.SERVICE_ANNOUNCEMENT_MODE_VIA_MBS_5],
        serv_name_descs=[service.ServiceNameDescription(serv_name="castcore demo", language="en")],
    )
    services = MbsUserServicesServiceStub(channels.get("mbsf"))
    made = (
        await services.CreateMbsUserService(service.CreateMbsUserServiceRequest(mbs_user_service=offered))
    ).mbs_user_service
    tell(f"Nmb10       MBS user service {made.mbs_user_serv_id}: {SERVICE_ID}")

    start = now + timedelta(seconds=_HEAD_S)
    stop = start + timedelta(seconds=terms.duration_s + _MARGIN_S)
    info = ingest.MbsDistributionSessionInfo(
        max_cont_bit_rate_bps=terms.bit_rate_bps,
        distr_method=distribution.DISTRIBUTION_METHOD_OBJECT,
        obj_distr_info=ingest.ObjectDistrMethInfo(
            operating_mode=distribution.OBJ_DISTRIBUTION_OPERATING_MODE_COLLECTION,
            obj_acq_method=distribution.OBJ_ACQUISITION_METHOD_PULL,
            obj_acq_ids=[each.url_path for each in terms.pieces],
            obj_ing_uri=url,
            obj_distr_uri=BASE_URL,
            obj_repair_uri=url,
        ),
    )
    if terms.fec_overhead_percent:
        info.fec_config.fec_scheme = _REED_SOLOMON
        info.fec_config.fec_over_head = terms.fec_overhead_percent
    wanted = ingest.MbsUserDataIngSession(mbs_user_serv_id=made.mbs_user_serv_id, mbs_dis_sess_infos={KEY: info})
    period = wanted.act_periods.add()
    period.start_time.FromDatetime(start)
    period.stop_time.FromDatetime(stop)
    sessions = MbsUserDataIngestSessionsServiceStub(channels.get("mbsf"))
    request = ingest.CreateMbsUserDataIngSessionRequest(mbs_user_data_ing_session=wanted)
    session = (await sessions.CreateMbsUserDataIngSession(request)).mbs_user_data_ing_session
    state = _state(session.mbs_dis_sess_infos[KEY].mbs_dist_sess_state)
    tell(
        f"Nmb10       user data ingest session {session.mbs_ing_session_id}, {start:%H:%M:%S} to {stop:%H:%M:%S} UTC"
        f" at {format_bit_rate(terms.bit_rate_bps)}: its distribution session is {state}"
    )
    return session


async def _receive(
    http: str, clock: Clock, story: Story, watcher: _Watcher, tell: Callable[[str], None]
) -> ReceptionReport:
    """The client: fetches the announcement, joins, receives until the end, repairs what is missing."""
    terms = story.terms
    mbsf = MbsfClient(http, clock=clock)
    try:
        announced = await mbsf.service(SERVICE_ID)
    finally:
        await mbsf.close()
    (session,) = announced.sessions
    described = session.description
    if described.tsi is None or session.repair is None:
        raise FailedPrecondition("the announcement has no FLUTE session with a repair server")
    if described.tmgi is not None:
        plmn = described.tmgi.plmn_id
        story.tmgi = f"{plmn.mcc}-{plmn.mnc}-{described.tmgi.mbs_service_id}"
    story.flow = f"({described.source}, {described.group}):{described.port}"
    tell(f"MBS-5       announced: {story.flow}, TSI {described.tsi}, TMGI {story.tmgi}")

    packets: PacketSource = MulticastSocket(described.source, described.group, described.port)
    if terms.loss:
        packets = _Lossy(packets, terms.loss)
    store = DirectorySink(terms.output, base=BASE_URL)

    async def keep(file: ReceivedFile) -> None:
        await store(file)
        point = "MBS-4-UC" if file.repaired else "MBS-4-MC"
        tell(f"{point:<11} {unquote(file.location.removeprefix(BASE_URL))}: {len(file.content):,} bytes")

    repair = HttpRepair(session.repair, bases=[BASE_URL], clock=clock)
    client = MbstfClient(described.tsi, packets, keep, repair=repair, clock=clock)
    reception = asyncio.create_task(client.run())
    try:
        await watcher.until(_is("DIST_SESS_TERMINATED"), "DIST_SESS_TERMINATED", _HEAD_S + terms.duration_s + _AFTER_S)
        client.stop()
        return await reception
    finally:
        reception.cancel()
        await asyncio.gather(reception, return_exceptions=True)


class _Lossy:
    """Packets of which some never come, as on a bad radio path; which, is the same every time."""

    def __init__(self, packets: PacketSource, loss: float) -> None:
        self._packets = packets
        self._loss = loss
        self._draw = random.Random(_LOSS_SEED)

    async def receive(self) -> list[bytes]:
        """The next packets that come through."""
        while came := await self._packets.receive():
            kept = [each for each in came if self._draw.random() >= self._loss]
            if kept:
                return kept
        return []

    def close(self) -> None:
        """Ends it."""
        self._packets.close()


async def _gone(channels: Channels, watcher: _Watcher, mbs_ing_session_id: str, terms: Terms) -> None:
    """Step 5: once its end has come, the session is INACTIVE and then no longer provisioned."""
    await watcher.until(_is("SESSION_TERMINATED"), "the end of the ingest session", terms.duration_s + _AFTER_S)
    sessions = MbsUserDataIngestSessionsServiceStub(channels.get("mbsf"))
    request = ingest.GetMbsUserDataIngSessionRequest(mbs_ing_session_id=mbs_ing_session_id)
    try:
        await sessions.GetMbsUserDataIngSession(request)
    except NotFound:
        return
    raise FailedPrecondition(f"user data ingest session {mbs_ing_session_id} is still provisioned after its end")


@asynccontextmanager
async def _web_server(source: Path) -> AsyncIterator[str]:
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)
    port = listening.getsockname()[1]
    async with serving(listening, source):
        yield f"http://127.0.0.1:{port}/"


def _is(event_type: str) -> Callable[[Happening], bool]:
    return lambda each: (each.told_by, each.type) == ("mbsf", event_type)


def _same(one: Path, other: Path) -> bool:
    return other.is_file() and filecmp.cmp(one, other, shallow=False)


def _state(state: distribution.DistSessionState.ValueType) -> str:
    """As the specification writes it; empty where it is about no distribution session."""
    return distribution.DistSessionState.Name(state).removeprefix("DIST_SESSION_STATE_") if state else ""


def _line(happening: Happening) -> str:
    what = " ".join(each for each in (happening.type, happening.state, happening.detail) if each)
    return f"{happening.path:<11} {what}"
