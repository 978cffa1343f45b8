"""An MBSF on its fake peers, as a function of its own or taken apart for tests that move the time by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mbs_peers import PATIENCE_S, Direct, MbsPeers, served

from nf.common.channels import Channels
from nf.common.clock import Clock, ManualClock, SystemClock
from nf.common.function import Context
from nf.common.server import GrpcServer
from nf.common.store import Store, url_for
from nf.common.telemetry import Telemetry
from nf.common.v1 import mbs_distribution_pb2 as distribution
from nf.common.v1.events_pb2 import Event, WatchEventsRequest
from nf.common.v1.mbs_pb2 import MBS_SERVICE_TYPE_BROADCAST
from nf.mbsf.compose import TABLES, build
from nf.mbsf.config import MbsfSection
from nf.mbsf.groups import MulticastGroups
from nf.mbsf.life_cycle import LifeCycle, Limits
from nf.mbsf.notifications import Notifications
from nf.mbsf.peers import Peers
from nf.mbsf.provisioning import Provisioning, Settings
from nf.mbsf.steps import Steps
from nf.mbsf.transitions import Transitions
from nf.mbsf.v1 import user_data_ingest_pb2 as ingest
from nf.mbsf.v1 import user_service_pb2 as services
from nf.mbsf.v1.life_cycle_pb2 import DistributionSession
from nf.mbsf.v1.user_data_ingest_pb2_grpc import MbsfEventsServiceStub, MbsUserDataIngestSessionsServiceStub
from nf.mbsf.v1.user_service_pb2_grpc import MbsUserServicesServiceStub

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def user_service(
    *modes: services.ServiceAnnouncementMode.ValueType, name: str = "http://example.com/services/news"
) -> services.MbsUserService:
    return services.MbsUserService(
        ext_service_ids=[name],
        serv_type=MBS_SERVICE_TYPE_BROADCAST,
        serv_class="urn:oma:bcast:oma_bsc:st:1.0",
        serv_ann_modes=modes or [services.SERVICE_ANNOUNCEMENT_MODE_VIA_MBS_5],
        serv_name_descs=[services.ServiceNameDescription(serv_name="News", language="en")],
    )


def objects(*urls: str, rate_bps: int = 1_000_000) -> ingest.MbsDistributionSessionInfo:
    """A distribution session that pulls a collection."""
    return ingest.MbsDistributionSessionInfo(
        max_cont_bit_rate_bps=rate_bps,
        distr_method=distribution.DISTRIBUTION_METHOD_OBJECT,
        obj_distr_info=ingest.ObjectDistrMethInfo(
            operating_mode=distribution.OBJ_DISTRIBUTION_OPERATING_MODE_COLLECTION,
            obj_acq_method=distribution.OBJ_ACQUISITION_METHOD_PULL,
            obj_acq_ids=urls or ["http://127.0.0.1:9/object"],
        ),
    )


def period(start: datetime, stop: datetime, rule: str = "") -> ingest.ActivePeriod:
    made = ingest.ActivePeriod(repetition_rule=rule)
    made.start_time.FromDatetime(start)
    made.stop_time.FromDatetime(stop)
    return made


def ingest_session(
    service: services.MbsUserService,
    *periods: ingest.ActivePeriod,
    **infos: ingest.MbsDistributionSessionInfo,
) -> ingest.MbsUserDataIngSession:
    return ingest.MbsUserDataIngSession(
        mbs_user_serv_id=service.mbs_user_serv_id,
        act_periods=periods,
        mbs_dis_sess_infos=infos or {"main": objects()},
    )


def name_of(event: Event) -> str:
    return event.type


def told(events: Sequence[Event]) -> list[str]:
    """The names of what providers are told, castcore's own left out."""
    return [each.type for each in events if each.type != "DIST_SESS_STATE"]


def state_of(info: ingest.MbsDistributionSessionInfo) -> str:
    return distribution.DistSessionState.Name(info.mbs_dist_sess_state).removeprefix("DIST_SESSION_STATE_")


class Mbsf:
    """An MBSF that serves, with clients of its services."""

    def __init__(
        self, directory: Path, targets: dict[str, str], section: MbsfSection, clock: Clock, http_url: str
    ) -> None:
        self.store = Store.open(url_for(directory, "mbsf"), clock=clock, tables=TABLES)
        self.channels = Channels(targets, function="mbsf")
        self.function = build(
            Context("mbsf", section, clock, self.store, self.channels, Telemetry(), http_url=http_url)
        )
        self._server = GrpcServer("mbsf", Telemetry())
        self._server.bind("127.0.0.1:0")
        self._server.add(*self.function.servicers)

    async def start(self) -> None:
        await self.function.prepare()
        await self._server.start()
        await self.function.start()
        self.client = Channels({"mbsf": self._server.address})
        self.services = MbsUserServicesServiceStub(self.client.get("mbsf"))
        self.sessions = MbsUserDataIngestSessionsServiceStub(self.client.get("mbsf"))
        self.watch = MbsfEventsServiceStub(self.client.get("mbsf"))

    async def stop(self) -> None:
        await self.client.close()
        await self._server.stop(0)
        await self.function.stop()
        await self.channels.close()
        await self.store.close()

    async def provision_service(self, *modes: services.ServiceAnnouncementMode.ValueType) -> services.MbsUserService:
        request = services.CreateMbsUserServiceRequest(mbs_user_service=user_service(*modes))
        return (await self.services.CreateMbsUserService(request)).mbs_user_service

    async def provision(self, session: ingest.MbsUserDataIngSession, **more) -> ingest.MbsUserDataIngSession:
        request = ingest.CreateMbsUserDataIngSessionRequest(mbs_user_data_ing_session=session, **more)
        answer = await self.sessions.CreateMbsUserDataIngSession(request)
        return answer.mbs_user_data_ing_session

    async def get(self, mbs_ing_session_id: str) -> ingest.MbsUserDataIngSession:
        request = ingest.GetMbsUserDataIngSessionRequest(mbs_ing_session_id=mbs_ing_session_id)
        return (await self.sessions.GetMbsUserDataIngSession(request)).mbs_user_data_ing_session

    async def delete(self, mbs_ing_session_id: str) -> None:
        request = ingest.DeleteMbsUserDataIngSessionRequest(mbs_ing_session_id=mbs_ing_session_id)
        await self.sessions.DeleteMbsUserDataIngSession(request)

    async def record(self, mbs_dist_session_id: str) -> DistributionSession | None:
        return await self.store.read(lambda reader: reader.get(DistributionSession, mbs_dist_session_id))

    async def events(self) -> list[Event]:
        return await self.store.read(lambda reader: reader.events(0, 100_000))

    async def until_told(self, event_type: str, count: int = 1) -> list[Event]:
        """Everything told so far, as soon as this has been told so often."""
        seen: list[Event] = []
        async with asyncio.timeout(PATIENCE_S):
            async for answer in self.watch.WatchEvents(WatchEventsRequest()):
                seen.append(answer.event)
                if sum(each.type == event_type for each in seen) == count:
                    return seen
        raise AssertionError("the stream ended")

    async def until(self, satisfied: Callable[[Sequence[Event]], bool]) -> list[Event]:
        seen: list[Event] = []
        async with asyncio.timeout(PATIENCE_S):
            async for answer in self.watch.WatchEvents(WatchEventsRequest()):
                seen.append(answer.event)
                if satisfied(seen):
                    return seen
        raise AssertionError("the stream ended")


@asynccontextmanager
async def mbsf(
    directory: Path,
    peers: MbsPeers,
    *,
    clock: Clock | None = None,
    http_url: str = "http://127.0.0.1:1",
    **section: object,
) -> AsyncIterator[Mbsf]:
    """An MBSF and its peers, all on real sockets."""
    async with served(peers) as targets, on(directory, targets, clock=clock, http_url=http_url, **section) as made:
        yield made


@asynccontextmanager
async def on(
    directory: Path,
    targets: dict[str, str],
    *,
    clock: Clock | None = None,
    http_url: str = "http://127.0.0.1:1",
    **section: object,
) -> AsyncIterator[Mbsf]:
    """An MBSF on peers that are served."""
    made = Mbsf(directory, targets, MbsfSection(**section), clock or SystemClock(), http_url)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


class Assembled:
    """The life cycle and the provisioning of an MBSF on peers that are called directly; ``settle`` when it moves."""

    def __init__(self, directory: Path, peers: MbsPeers, clock: ManualClock, *, lead: timedelta) -> None:
        self.clock = clock
        self.peers = peers
        self.store = Store.open(url_for(directory, "mbsf"), clock=clock, tables=TABLES)
        self.calls = Peers(lambda _: None, 5.0)
        for stub in ("_tmgis", "_sessions", "_policies", "_mbstf"):
            setattr(self.calls, stub, Direct(peers))
        transitions = Transitions(lead, lambda name: f"http://mbsf/{name}")
        steps = Steps(self.store, self.calls, 5.0, lambda name: f"http://mbsf/{name}")
        self.life_cycle = LifeCycle(self.store, transitions, steps, Limits(64, 30.0))
        settings = Settings(
            MulticastGroups("232.0.0.0/20"), 5000, lambda: "http://mbsf", lambda name: f"http://mbsf/{name}"
        )
        self.provisioning = Provisioning(self.store, transitions, self.life_cycle, self.calls, settings)
        self.notifications = Notifications(self.store, self.life_cycle, transitions, self.calls, None)

    async def start(self) -> None:
        await self.life_cycle.start()
        await self.settle()

    async def settle(self) -> None:
        """Returns when nothing goes on before the time moves; calls that are held count as nothing."""
        quiet = 0
        while quiet < 5:
            await asyncio.sleep(0)
            due = self.life_cycle.next_due
            is_due = due is not None and due <= self.clock.now()
            is_still = self.life_cycle.under_way == self.peers.waiting and not is_due
            quiet = quiet + 1 if is_still else 0

    async def stop(self) -> None:
        """As if it were killed: what is under way is cut off, whatever the peers have made of it."""
        await self.life_cycle.stop()
        await self.store.close()

    async def records(self) -> list[DistributionSession]:
        return await self.store.read(lambda reader: reader.all(DistributionSession))

    async def events(self) -> list[Event]:
        return await self.store.read(lambda reader: reader.events(0, 100_000))
