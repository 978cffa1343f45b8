"""The MBSF's peers, MB-SMF, PCF and MBSTF, which count what is reserved: called directly or served by gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from google.protobuf.message import Message

from nf.common.clock import Clock, SystemClock
from nf.common.errors import CastcoreError, FailedPrecondition, NotFound
from nf.common.resources import apply_mask, copy_of
from nf.common.server import GrpcServer, servicer
from nf.common.telemetry import Telemetry
from nf.common.v1 import mbs_distribution_pb2 as distribution
from nf.common.v1.events_pb2 import Event, WatchEventsResponse
from nf.common.v1.mbs_pb2 import PlmnId, Tmgi, TunnelAddress
from nf.mbstf.v1 import dist_session_pb2 as nmb2
from nf.mbstf.v1 import dist_session_pb2_grpc as nmb2_grpc
from nf.pcf.v1 import mbs_policy_authorization_pb2 as nmb12
from nf.pcf.v1 import mbs_policy_authorization_pb2_grpc as nmb12_grpc
from nf.pcf.v1 import policy_authorization_pb2_grpc as n5_grpc
from nf.smf.v1 import mbs_session_pb2 as nmb1
from nf.smf.v1 import mbs_session_pb2_grpc as nmb1_grpc
from nf.smf.v1 import pdu_session_pb2_grpc as smf_grpc
from nf.smf.v1 import tmgi_pb2 as tmgis
from nf.smf.v1 import tmgi_pb2_grpc as tmgis_grpc

PATIENCE_S = 20.0
INACTIVE = distribution.DIST_SESSION_STATE_INACTIVE
ESTABLISHED = distribution.DIST_SESSION_STATE_ESTABLISHED
ACTIVE = distribution.DIST_SESSION_STATE_ACTIVE
DEACTIVATING = distribution.DIST_SESSION_STATE_DEACTIVATING
_REACHED_FROM = {
    INACTIVE: (INACTIVE, ESTABLISHED, ACTIVE, DEACTIVATING),
    ESTABLISHED: (INACTIVE, ESTABLISHED),
    ACTIVE: (ESTABLISHED, ACTIVE),
    DEACTIVATING: (ACTIVE, DEACTIVATING),
}


class EventLog:
    """A peer's events, watched as its own would be."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._more = asyncio.Condition()

    async def tell(self, event_type: str, subject: str, payload: Message, source: str) -> Event:
        event = Event(sequence=len(self.events) + 1, type=event_type, subject=subject, source=source)
        event.payload.Pack(payload)
        async with self._more:
            self.events.append(event)
            self._more.notify_all()
        return event

    async def watch(self, after: int) -> AsyncIterator[WatchEventsResponse]:
        position = after
        while True:
            async with self._more:
                while len(self.events) <= position:
                    await self._more.wait()
            while position < len(self.events):
                yield WatchEventsResponse(event=self.events[position])
                position += 1


class MbsPeers:
    """What they keep, and every call.

    ``refuse[METHOD]`` is raised instead of an answer, ``lose[METHOD]`` after the work was done; ``hold[METHOD]`` keeps
    the answer back until it is set. METHOD is that of the call, "UpdateDistSession:ACTIVE" for one of a state.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock if clock is not None else SystemClock()
        self.tmgis: dict[str, datetime] = {}
        self.allocations: dict[str, str] = {}
        self.contexts: dict[str, nmb12.MbsAppSessionContext] = {}
        self.sessions: dict[str, nmb1.MbsSession] = {}
        self.replicas: dict[str, nmb2.DistSession] = {}
        self.calls: list[tuple[str, str]] = []
        self.refuse: dict[str, CastcoreError] = {}
        self.lose: dict[str, CastcoreError] = {}
        self.hold: dict[str, asyncio.Event] = {}
        # Calls that are held.
        self.waiting = 0
        self.tmgi_lifetime = timedelta(hours=1)
        self.ingress_port = 20_000
        self.smf, self.pcf, self.mbstf = EventLog(), EventLog(), EventLog()
        self._called = asyncio.Condition()
        self._next_tmgi = 0

    # --- what tests ask -----------------------------------------------------------------------------------------------

    @property
    def reserved(self) -> tuple[int, int, int]:
        """How many TMGIs, authorisations and MBS sessions there are."""
        return len(self.tmgis), len(self.contexts), len(self.sessions)

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def state(self, dist_session_id: str) -> str:
        replica = self.replicas.get(dist_session_id)
        if replica is None:
            return "ABSENT"
        return distribution.DistSessionState.Name(replica.dist_session_state).removeprefix("DIST_SESSION_STATE_")

    async def until(self, satisfied: Callable[[], bool]) -> None:
        """Returns when a call has made ``satisfied`` true."""
        async with asyncio.timeout(PATIENCE_S), self._called:
            await self._called.wait_for(satisfied)

    # --- Nmb1 ---------------------------------------------------------------------------------------------------------

    async def AllocateTmgi(self, request, context=None):
        await self._enter("AllocateTmgi", request.request_id)
        expiry = self.clock.now() + self.tmgi_lifetime
        answer = tmgis.AllocateTmgiResponse()
        answer.expiration_time.FromDatetime(expiry)
        for known in request.tmgi_list:
            if known.mbs_service_id not in self.tmgis:
                raise NotFound("UNKNOWN_TMGI")
            self.tmgis[known.mbs_service_id] = expiry
            answer.tmgi_list.append(known)
        if request.tmgi_number:
            name = self.allocations.get(request.request_id, "")
            if not name:
                self._next_tmgi += 1
                name = f"{self._next_tmgi:06X}"
                self.allocations[request.request_id] = name
                self.tmgis[name] = expiry
            answer.tmgi_list.append(Tmgi(mbs_service_id=name, plmn_id=PlmnId(mcc="001", mnc="01")))
        await self._leave("AllocateTmgi")
        return answer

    async def ReleaseTmgi(self, request, context=None):
        await self._enter("ReleaseTmgi", request.tmgi_list[0].mbs_service_id)
        for each in request.tmgi_list:
            if any(s.mbs_session_id.tmgi.mbs_service_id == each.mbs_service_id for s in self.sessions.values()):
                raise FailedPrecondition("TMGI_IN_USE")
            self.tmgis.pop(each.mbs_service_id, None)
        await self._leave("ReleaseTmgi")
        return tmgis.ReleaseTmgiResponse()

    async def CreateMbsSession(self, request, context=None):
        session = copy_of(request.mbs_session)
        await self._enter("CreateMbsSession", session.mbs_session_ref)
        if session.mbs_session_id.tmgi.mbs_service_id not in self.tmgis:
            raise NotFound("UNKNOWN_TMGI")
        if session.mbs_policy_auth_ref not in self.contexts:
            raise NotFound("no such context")
        known = self.sessions.get(session.mbs_session_ref)
        if known is None:
            address = TunnelAddress(ipv4_addr="127.0.0.1", port_number=self.ingress_port)
            session.ingress_tun_addr.append(address)
            known = self.sessions[session.mbs_session_ref] = session
        await self._leave("CreateMbsSession")
        return nmb1.CreateMbsSessionResponse(mbs_session=known)

    async def ReleaseMbsSession(self, request, context=None):
        await self._enter("ReleaseMbsSession", request.mbs_session_ref)
        self.sessions.pop(request.mbs_session_ref, None)
        await self._leave("ReleaseMbsSession")
        return nmb1.ReleaseMbsSessionResponse()

    # --- Nmb12 --------------------------------------------------------------------------------------------------------

    async def CreateMbsAppSessionContext(self, request, context=None):
        await self._enter("CreateMbsAppSessionContext", request.context.context_id)
        self.contexts[request.context.context_id] = request.context
        await self._leave("CreateMbsAppSessionContext")
        return nmb12.CreateMbsAppSessionContextResponse(context=request.context)

    async def DeleteMbsAppSessionContext(self, request, context=None):
        await self._enter("DeleteMbsAppSessionContext", request.context_id)
        self.contexts.pop(request.context_id, None)
        await self._leave("DeleteMbsAppSessionContext")
        return nmb12.DeleteMbsAppSessionContextResponse()

    # --- Nmb2 ---------------------------------------------------------------------------------------------------------

    async def CreateDistSession(self, request, context=None):
        session = copy_of(request.dist_session)
        await self._enter("CreateDistSession", session.dist_session_id)
        session.flute_tsi = len(self.replicas) + 1
        if not session.HasField("source_ip_addr"):
            session.source_ip_addr.ipv4_addr = "127.0.0.1"
        self.replicas.setdefault(session.dist_session_id, session)
        await self._leave("CreateDistSession")
        return nmb2.CreateDistSessionResponse(dist_session=self.replicas[session.dist_session_id])

    async def GetDistSession(self, request, context=None):
        await self._enter("GetDistSession", request.dist_session_id)
        return nmb2.GetDistSessionResponse(dist_session=self._replica(request.dist_session_id))

    async def UpdateDistSession(self, request, context=None):
        wanted, name = request.dist_session.dist_session_state, request.dist_session.dist_session_id
        method = "UpdateDistSession"
        if "dist_session_state" in request.update_mask.paths:
            method += ":" + distribution.DistSessionState.Name(wanted).removeprefix("DIST_SESSION_STATE_")
        await self._enter(method, name)
        replica = self._replica(name)
        if wanted and replica.dist_session_state not in _REACHED_FROM[wanted]:
            raise FailedPrecondition(f"{self.state(name)} is not followed by {wanted}")
        paths = list(request.update_mask.paths)
        self.replicas[name] = apply_mask(replica, request.dist_session, request.update_mask, paths)
        await self._leave(method)
        return nmb2.UpdateDistSessionResponse(dist_session=self.replicas[name])

    async def DeleteDistSession(self, request, context=None):
        await self._enter("DeleteDistSession", request.dist_session_id)
        self.replicas.pop(request.dist_session_id, None)
        await self._leave("DeleteDistSession")
        return nmb2.DeleteDistSessionResponse()

    # --- events -------------------------------------------------------------------------------------------------------

    async def tell_smf(self, event_type: nmb1.MbsSessionEventType.ValueType, ref: str, **told) -> Event:
        report = nmb1.MbsSessionEventReport(event_type=event_type, mbs_session_ref=ref, **told)
        name = nmb1.MbsSessionEventType.Name(event_type).removeprefix("MBS_SESSION_EVENT_TYPE_")
        return await self.smf.tell(name, f"mbs-sessions/{ref}", report, "smf")

    async def tell_pcf(self, context_id: str, cause: str) -> Event:
        revoked = nmb12.MbsPolicyControlFailure(context_id=context_id)
        revoked.problem.cause = cause
        return await self.pcf.tell("MBS_POLICY_CONTROL_FAILURE", f"mbs-contexts/{context_id}", revoked, "pcf")

    async def tell_mbstf(self, event_type: str, dist_session_id: str) -> Event:
        report = nmb2.DistSessionEventReport(event_type=event_type, dist_session_id=dist_session_id)
        report.time_stamp.FromDatetime(self.clock.now().astimezone(UTC))
        return await self.mbstf.tell(event_type, f"dist-sessions/{dist_session_id}", report, "mbstf")

    # --- how ----------------------------------------------------------------------------------------------------------

    def _replica(self, name: str) -> nmb2.DistSession:
        if name not in self.replicas:
            raise NotFound(f"no distribution session {name!r}")
        return self.replicas[name]

    async def _enter(self, method: str, name: str) -> None:
        self.calls.append((method, name))
        async with self._called:
            self._called.notify_all()
        if method in self.refuse:
            raise self.refuse[method]

    async def _leave(self, method: str) -> None:
        async with self._called:
            self._called.notify_all()
        if method in self.hold:
            self.waiting += 1
            try:
                await self.hold[method].wait()
            finally:
                self.waiting -= 1
        if method in self.lose:
            raise self.lose[method]


class _Watch:
    def __init__(self, log: EventLog) -> None:
        self._log = log

    def WatchEvents(self, request, context):
        return self._log.watch(request.after_sequence)


class Direct:
    """The peers as the stubs of a client, without a socket between."""

    def __init__(self, peers: MbsPeers) -> None:
        self._peers = peers

    def __getattr__(self, name: str):
        method = getattr(self._peers, name)
        return lambda request, timeout=None: method(request)


@asynccontextmanager
async def served(peers: MbsPeers) -> AsyncIterator[dict[str, str]]:
    """The peers on real sockets: their addresses by name."""
    watches = {
        "smf": (smf_grpc.add_SmfEventsServiceServicer_to_server, _Watch(peers.smf)),
        "pcf": (n5_grpc.add_PcfEventsServiceServicer_to_server, _Watch(peers.pcf)),
        "mbstf": (nmb2_grpc.add_MbstfEventsServiceServicer_to_server, _Watch(peers.mbstf)),
    }
    services = {
        "smf": (tmgis_grpc.add_TmgiServiceServicer_to_server, nmb1_grpc.add_MbsSessionServiceServicer_to_server),
        "pcf": (nmb12_grpc.add_MbsPolicyAuthorizationServiceServicer_to_server,),
        "mbstf": (nmb2_grpc.add_DistSessionServiceServicer_to_server,),
    }
    bases = {
        tmgis_grpc.add_TmgiServiceServicer_to_server: tmgis_grpc.TmgiServiceServicer,
        nmb1_grpc.add_MbsSessionServiceServicer_to_server: nmb1_grpc.MbsSessionServiceServicer,
        nmb12_grpc.add_MbsPolicyAuthorizationServiceServicer_to_server: (
            nmb12_grpc.MbsPolicyAuthorizationServiceServicer
        ),
        nmb2_grpc.add_DistSessionServiceServicer_to_server: nmb2_grpc.DistSessionServiceServicer,
    }
    servers = {}
    for name in ("smf", "pcf", "mbstf"):
        server = GrpcServer(name, Telemetry())
        server.bind("127.0.0.1:0")
        adder, watch = watches[name]
        server.add(servicer(adder, watch))
        for add in services[name]:
            server.add(servicer(add, _Complete(peers, bases[add])))
        await server.start()
        servers[name] = server
    try:
        yield {name: server.address for name, server in servers.items()}
    finally:
        for server in servers.values():
            await server.stop(0)


class _Complete:
    """One service: the methods that the peers have, and of the others those that say so."""

    def __init__(self, peers: MbsPeers, base: type) -> None:
        self._peers = peers
        self._base = base()

    def __getattr__(self, name: str):
        return getattr(self._peers, name, None) or getattr(self._base, name)
