"""PCF and MB-SMF on real sockets, with an MB-UPF that records what it is asked; and what MBS tests ask for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from control_plane import PATIENCE_S, ControlPlane

from nf.common.clock import Clock
from nf.common.errors import CastcoreError, DeadlineExceeded, FailedPrecondition
from nf.common.mbs_session_ids import ssm_key
from nf.common.resources import copy_of
from nf.common.v1.events_pb2 import Event, WatchEventsRequest
from nf.common.v1.mbs_pb2 import (
    IpAddr,
    MbsMediaComp,
    MbsMediaInfo,
    MbsServiceArea,
    MbsServiceInfo,
    MbsServiceType,
    MbsSessionId,
    Ncgi,
    NcgiTai,
    PlmnId,
    Ssm,
    Tai,
    TunnelAddress,
)
from nf.pcf.v1 import mbs_policy_authorization_pb2 as nmb12
from nf.pcf.v1 import mbs_policy_control_pb2 as n7mb
from nf.pcf.v1.mbs_policy_authorization_pb2_grpc import MbsPolicyAuthorizationServiceStub
from nf.pcf.v1.mbs_policy_control_pb2_grpc import MbsPolicyControlServiceStub
from nf.smf.v1 import mbs_session_pb2 as nmb1
from nf.smf.v1 import tmgi_pb2 as tmgi
from nf.smf.v1.mbs_session_pb2_grpc import MbsSessionServiceStub
from nf.smf.v1.pdu_session_pb2_grpc import SmfEventsServiceStub
from nf.smf.v1.tmgi_pb2_grpc import TmgiServiceStub
from upf.n4.v1 import n4_pb2 as n4
from upf.n4.v1 import n4mb_pb2 as n4mb
from upf.n4.v1.n4mb_pb2_grpc import N4mbServiceServicer

MULTICAST = MbsServiceType.MBS_SERVICE_TYPE_MULTICAST
BROADCAST = MbsServiceType.MBS_SERVICE_TYPE_BROADCAST
PLMN = PlmnId(mcc="001", mnc="01")
SOURCE = "198.51.100.7"


class RecordingMbsUserPlane(N4mbServiceServicer):
    """The contract of N4mb without packets; ``refuse``, ``lose`` and ``hold`` as in RecordingUserPlane."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.refuse: dict[str, CastcoreError] = {}
        self.lose: dict[str, int] = {}
        self.hold: dict[str, asyncio.Event] = {}
        self.changed = asyncio.Condition()
        self.recovery_s = 1_700_000_000
        self.first_port = 40_000
        self.associated = False
        self.forwarding = False
        self.sessions: dict[int, n4mb.EstablishedMbsSession] = {}
        self._ports: dict[str, int] = {}
        self._stale: set[int] = set()

    async def restart(self, *, first_port: int = 40_000) -> None:
        """Begins anew, without a session; ingress tunnels have ports from another one on if it is told so."""
        self.recovery_s += 1
        self.first_port = first_port
        self.associated = self.forwarding = False
        self.sessions, self._stale, self._ports = {}, set(), {}
        await self._wake()

    async def until(self, satisfied: Callable[[], bool]) -> None:
        """Returns when a call has made ``satisfied`` true."""
        async with asyncio.timeout(PATIENCE_S), self.changed:
            await self.changed.wait_for(satisfied)

    @property
    def enforced(self) -> list[n4mb.MbsSession]:
        """The sessions, in the order of their identifiers."""
        return [self.sessions[key].mbs_session for key in sorted(self.sessions)]

    async def SetUpAssociation(self, request, context):
        await self._enter("SetUpAssociation")
        self.associated, self.forwarding = True, False
        self._stale = set(self.sessions)
        answer = n4.SetUpAssociationResponse(node_id="upf")
        answer.recovery_time_stamp.FromSeconds(self.recovery_s)
        return await self._leave("SetUpAssociation", answer)

    async def Heartbeat(self, request, context):
        answer = n4.HeartbeatResponse(forwarding=self.forwarding)
        answer.recovery_time_stamp.FromSeconds(self.recovery_s)
        return answer

    async def CompleteResynchronisation(self, request, context):
        await self._enter("CompleteResynchronisation")
        self.sessions = {key: each for key, each in self.sessions.items() if key not in self._stale}
        self._stale, self.forwarding = set(), True
        return await self._leave("CompleteResynchronisation", n4.CompleteResynchronisationResponse())

    async def EstablishMbsSession(self, request, context):
        await self._enter("EstablishMbsSession")
        session = copy_of(request.mbs_session)
        if not session.branches:
            session.branches.add(branch_id=1).multicast.interface = "lo"
        # One port for a source and a group.
        port = self._ports.setdefault(ssm_key(session.ssm), self.first_port + session.cp_seid)
        ingress = TunnelAddress(ipv4_addr="127.0.0.1", port_number=port)
        self.sessions[session.cp_seid] = n4mb.EstablishedMbsSession(mbs_session=session, ingress_tun_addr=ingress)
        self._stale.discard(session.cp_seid)
        answer = n4mb.EstablishMbsSessionResponse(
            up_seid=session.cp_seid, ingress_tun_addr=ingress, mbs_session=session
        )
        return await self._leave("EstablishMbsSession", answer)

    async def DeleteMbsSession(self, request, context):
        await self._enter("DeleteMbsSession")
        self.sessions.pop(request.cp_seid, None)
        return await self._leave("DeleteMbsSession", n4mb.DeleteMbsSessionResponse())

    async def ListMbsSessions(self, request, context):
        return n4mb.ListMbsSessionsResponse(mbs_sessions=self.sessions.values())

    async def _enter(self, name: str) -> None:
        self.calls.append(name)
        if name in self.refuse:
            await self._wake()
            raise self.refuse[name]
        if not self.associated and name != "SetUpAssociation":
            raise FailedPrecondition("no association", reason="NO_ESTABLISHED_PFCP_ASSOCIATION")

    async def _leave(self, name: str, answer):
        await self._wake()
        if self.lose.get(name, 0) > 0:
            self.lose[name] -= 1
            raise DeadlineExceeded(f"the answer to {name} is lost")
        if name in self.hold:
            await self.hold[name].wait()
        return answer

    async def _wake(self) -> None:
        async with self.changed:
            self.changed.notify_all()


class MbsPlane(ControlPlane):
    """A control plane whose UPF is an MB-UPF too."""

    mbs_upf: RecordingMbsUserPlane

    def __init__(self, directory: Path, *, clock: Clock | None = None, **options: object) -> None:
        super().__init__(directory, **options)
        self.mbs_upf = RecordingMbsUserPlane()
        if clock is not None:
            self.clock = clock

    @property
    def tmgis(self) -> TmgiServiceStub:
        """TMGIs."""
        return TmgiServiceStub(self.channel("smf"))

    @property
    def nmb1(self) -> MbsSessionServiceStub:
        """MBS sessions."""
        return MbsSessionServiceStub(self.channel("smf"))

    @property
    def nmb12(self) -> MbsPolicyAuthorizationServiceStub:
        """What MBS sessions are authorised."""
        return MbsPolicyAuthorizationServiceStub(self.channel("pcf"))

    @property
    def n7mb(self) -> MbsPolicyControlServiceStub:
        """The policies of MBS sessions."""
        return MbsPolicyControlServiceStub(self.channel("pcf"))

    async def create(self, mbs_session_ref: str = "m", **changes: object) -> nmb1.MbsSession:
        """Sets a broadcast session up, or another one."""
        request = nmb1.CreateMbsSessionRequest(mbs_session=mbs_session(mbs_session_ref, **changes))
        return (await self.nmb1.CreateMbsSession(request)).mbs_session

    async def change(self, mbs_session_ref: str, *mask: str, **changes: object) -> nmb1.MbsSession:
        """Changes what is named of a session."""
        request = nmb1.UpdateMbsSessionRequest(
            mbs_session=nmb1.MbsSession(mbs_session_ref=mbs_session_ref, **changes), update_mask={"paths": mask}
        )
        return (await self.nmb1.UpdateMbsSession(request)).mbs_session

    async def release(self, mbs_session_ref: str = "m") -> None:
        """Releases a session."""
        await self.nmb1.ReleaseMbsSession(nmb1.ReleaseMbsSessionRequest(mbs_session_ref=mbs_session_ref))

    async def sessions(self) -> list[nmb1.MbsSession]:
        """All MBS sessions."""
        return list((await self.nmb1.ListMbsSessions(nmb1.ListMbsSessionsRequest())).mbs_sessions)

    async def policies(self) -> list[n7mb.MbsPolicy]:
        """All MBS policies."""
        return list((await self.n7mb.ListMbsPolicies(n7mb.ListMbsPoliciesRequest())).mbs_policies)

    async def allocated(self) -> list[str]:
        """The service identifiers of all TMGIs."""
        listed = await self.tmgis.ListTmgis(tmgi.ListTmgisRequest())
        return [each.tmgi.mbs_service_id for each in listed.tmgis]

    async def is_clean(self) -> bool:
        """Whether nothing is left anywhere."""
        left = (await self.sessions(), await self.policies(), await self.allocated(), self.mbs_upf.enforced)
        return not any(left)

    async def reports(self, satisfied: Callable[[list[nmb1.MbsSessionEventReport]], bool]):
        """What the SMF has told of MBS sessions, as soon as it is what is waited for."""
        seen: list[nmb1.MbsSessionEventReport] = []
        stub = SmfEventsServiceStub(self.channel("smf"))
        async with asyncio.timeout(PATIENCE_S):
            async for response in stub.WatchEvents(WatchEventsRequest(), wait_for_ready=True):
                if (report := report_of(response.event)) is not None:
                    seen.append(report)
                    if satisfied(seen):
                        break
        return seen

    async def authorise(self, context_id: str = "c", **changes: object) -> nmb12.MbsAppSessionContext:
        """Asks at Nmb12."""
        context = nmb12.MbsAppSessionContext(context_id=context_id, service_type=BROADCAST, **changes)
        request = nmb12.CreateMbsAppSessionContextRequest(context=context)
        return (await self.nmb12.CreateMbsAppSessionContext(request)).context


def report_of(event: Event) -> nmb1.MbsSessionEventReport | None:
    """The payload of an event about MBS."""
    report = nmb1.MbsSessionEventReport()
    return report if event.payload.Unpack(report) else None


@asynccontextmanager
async def running(directory: Path, **options: object) -> AsyncIterator[MbsPlane]:
    """A control plane that runs meanwhile, and is in step with its MB-UPF."""
    plane = MbsPlane(directory, **options)
    await plane.start()
    try:
        await plane.mbs_upf.until(lambda: plane.mbs_upf.forwarding)
        yield plane
    finally:
        await plane.stop()


def ssm(group: str = "232.1.1.1", source: str = SOURCE) -> Ssm:
    """A source and a group."""
    return Ssm(source_ip_addr=IpAddr(ipv4_addr=source), dest_ip_addr=IpAddr(ipv4_addr=group))


def info(*rates_bps: int) -> MbsServiceInfo:
    """Service information with a medium for each rate."""
    made = MbsServiceInfo()
    for number, rate_bps in enumerate(rates_bps, 1):
        media = MbsMediaInfo(max_req_mbs_bw_dl_bps=rate_bps)
        made.mbs_media_comps[str(number)].CopyFrom(MbsMediaComp(mbs_med_comp_num=number, mbs_media_info=media))
    return made


def tai(number: int) -> Tai:
    """A tracking area."""
    return Tai(plmn_id=PLMN, tac=f"{number:06x}")


def area(*tais: int, cells: tuple[tuple[int, int], ...] = ()) -> MbsServiceArea:
    """Tracking areas, and cells each with its tracking area."""
    made = MbsServiceArea(tai_list=[tai(each) for each in tais])
    for number, of in cells:
        cell = Ncgi(plmn_id=PLMN, nr_cell_id=f"{number:09x}")
        made.ncgi_list.append(NcgiTai(tai=tai(of), cell_list=[cell]))
    return made


def mbs_session(mbs_session_ref: str = "m", **changes: object) -> nmb1.MbsSession:
    """A broadcast session at 5 Mbit/s, with a TMGI of its own."""
    asked: dict[str, object] = {
        "mbs_session_ref": mbs_session_ref,
        "service_type": BROADCAST,
        "ssm": ssm(),
        "mbs_serv_info": info(5_000_000),
    }
    if "mbs_session_id" not in changes:
        asked["tmgi_alloc_req"] = True
    return nmb1.MbsSession(**{**asked, **changes})


def by_tmgi(number: int | str) -> MbsSessionId:
    """The MBS session ID of a TMGI."""
    service_id = number if isinstance(number, str) else f"{number:06x}"
    return MbsSessionId(tmgi={"mbs_service_id": service_id, "plmn_id": PLMN})
