"""A PCF and an SMF on real sockets, an AF if wanted, and a UPF that records what it is asked and reports as told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from starlette.routing import BaseRoute

from nf.af import compose as af_compose
from nf.af.config import AfSection
from nf.common import call
from nf.common.channels import Channels
from nf.common.clock import Clock, SystemClock
from nf.common.errors import CastcoreError, DeadlineExceeded, InvalidArgument, NotFound
from nf.common.function import Context
from nf.common.hosting import Host
from nf.common.resources import copy_of
from nf.common.server import servicer
from nf.common.store import Store, url_for
from nf.common.telemetry import Telemetry
from nf.common.usage import COUNTER_NAMES, counters_of, total, usage_of
from nf.common.v1.events_pb2 import Event, WatchEventsRequest
from nf.common.v1.types_pb2 import Snssai, Usage
from nf.pcf import compose as pcf_compose
from nf.pcf.config import PcfSection
from nf.pcf.v1 import operator_policies_pb2 as op
from nf.pcf.v1 import policy_authorization_pb2 as n5
from nf.pcf.v1 import sm_policy_control_pb2 as n7
from nf.pcf.v1.operator_policies_pb2_grpc import LedgerServiceStub, OperatorPoliciesServiceStub
from nf.pcf.v1.policy_authorization_pb2_grpc import PcfEventsServiceStub, PolicyAuthorizationServiceStub
from nf.pcf.v1.sm_policy_control_pb2_grpc import SmPolicyControlServiceStub
from nf.smf import compose as smf_compose
from nf.smf.config import SmfSection
from nf.smf.v1 import pdu_session_pb2 as pdu
from nf.smf.v1.pdu_session_pb2_grpc import PduSessionsServiceStub, SmfEventsServiceStub, SmPolicyNotifyServiceStub
from upf import compose as upf_compose
from upf.config import UpfSection
from upf.n4.v1 import n4_pb2 as n4
from upf.n4.v1.n4_pb2_grpc import N4ServiceServicer, add_N4ServiceServicer_to_server
from upf.n4.v1.n4mb_pb2_grpc import N4mbServiceServicer, add_N4mbServiceServicer_to_server

UE = "10.45.0.2"
SUPI = "imsi-001010000000001"
GPSI = "msisdn-491700000001"
VIDEO = f"permit out 17 from 198.51.100.7 443 to {UE}"
AUDIO = f"permit out 17 from 198.51.100.8 443 to {UE}"
MBPS = 1_000_000
PATIENCE_S = 20.0


def usage(**counters: int) -> Usage:
    """A usage from counters by name, e.g. ``downlink_conforming_bytes=1500``."""
    assert set(counters) <= set(COUNTER_NAMES)
    return usage_of([counters.get(name, 0) for name in COUNTER_NAMES])


class RecordingUserPlane(N4ServiceServicer):
    """The contract of N4 without packets.

    ``refuse["ModifySession"]`` is raised instead of an effect, and a change that names one of ``no_flows`` is refused;
    ``lose["ModifySession"]`` is how many answers are lost after the effect; ``hold["ModifySession"]`` delays the answer
    until it is set, after the effect.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.refuse: dict[str, CastcoreError] = {}
        self.no_flows: set[str] = set()
        self.lose: dict[str, int] = {}
        self.hold: dict[str, asyncio.Event] = {}
        self.changed = asyncio.Condition()
        self.recovery_s = 1_700_000_000
        self.n3: n4.UserPlaneIpResourceInformation | None = n4.UserPlaneIpResourceInformation(
            ipv4_address="192.0.2.1", port=2152
        )
        self.heartbeats = 0
        self.forwarding = False
        self.sessions: dict[int, n4.Session] = {}
        self.usages: dict[tuple[int, int], Usage] = {}
        self._stale: set[int] = set()
        self._reports: list[n4.SessionReport] = []
        self._reported = asyncio.Event()

    async def restart(self) -> None:
        """Begins anew: rules, counters and reports are gone, and nothing is forwarded."""
        self.recovery_s += 1
        self.forwarding = False
        self.sessions, self.usages, self._stale, self._reports = {}, {}, set(), []
        await self._wake_readers()

    def session_of(self, ue_address: str = UE) -> n4.Session:
        """The session whose PDRs detect this UE."""
        return next(
            session
            for session in self.sessions.values()
            if any(pdr.pdi.ue_ip_address == ue_address for pdr in session.pdrs)
        )

    def flows(self, ue_address: str = UE) -> list[tuple[str, int]]:
        """Description and source interface of every PDR but those of the default rule."""
        return [
            (pdr.pdi.sdf_filters[0].flow_description, pdr.pdi.source_interface)
            for pdr in self.session_of(ue_address).pdrs
            if pdr.precedence >> 8 < 255
        ]

    def urr_of(self, precedence: int = 100, ue_address: str = UE) -> int:
        """The URR that counts what PDRs of this precedence detect."""
        return next(pdr.urr_id for pdr in self.session_of(ue_address).pdrs if pdr.precedence >> 8 == precedence)

    async def count(self, *, report: bool = True, precedence: int = 100, **counters: int) -> n4.SessionReport:
        """Adds to the counters of the URR of these PDRs, and reports that unless told otherwise."""
        session, urr_id = self.session_of(), self.urr_of(precedence)
        before = self.usages.get((session.cp_seid, urr_id), Usage())
        after = usage_of(total([counters_of(before), counters_of(usage(**counters))]))
        self.usages[session.cp_seid, urr_id] = after
        made = self.report(session.cp_seid, usage_reports=[n4.UsageReport(urr_id=urr_id, usage=after)])
        if report:
            await self.send(made)
        return made

    async def comply(self, compliant: bool, *, since_ns: int, interface: n4.SourceInterface.ValueType) -> None:
        """Reports that traffic of the session's QER has left its bit rate in a direction, or come back to it."""
        session = self.session_of()
        report = n4.ComplianceReport(
            qer_id=session.qers[0].qer_id, compliant=compliant, since_ns=since_ns, source_interface=interface
        )
        await self.send(self.report(session.cp_seid, compliance_reports=[report]))

    def report(self, cp_seid: int, **content) -> n4.SessionReport:
        """A report that has not been sent."""
        made = n4.SessionReport(cp_seid=cp_seid, **content)
        made.recovery_time_stamp.FromSeconds(self.recovery_s)
        return made

    async def send(self, report: n4.SessionReport) -> None:
        """Puts a report into the log, also one that was in it before."""
        numbered = copy_of(report)
        numbered.sequence = len(self._reports) + 1
        self._reports.append(numbered)
        await self._wake_readers()

    async def until(self, satisfied: Callable[[], bool]) -> None:
        """Returns when a call has made ``satisfied`` true."""
        async with asyncio.timeout(PATIENCE_S), self.changed:
            await self.changed.wait_for(satisfied)

    async def SetUpAssociation(self, request, context):
        await self._enter("SetUpAssociation")
        self.forwarding = False
        self._stale = set(self.sessions)
        answer = n4.SetUpAssociationResponse(node_id="upf", user_plane_ip_resource_information=self.n3)
        answer.recovery_time_stamp.FromSeconds(self.recovery_s)
        return await self._leave("SetUpAssociation", answer)

    async def Heartbeat(self, request, context):
        self.heartbeats += 1
        await self._wake()
        if "Heartbeat" in self.refuse:
            raise self.refuse["Heartbeat"]
        answer = n4.HeartbeatResponse(forwarding=self.forwarding)
        answer.recovery_time_stamp.FromSeconds(self.recovery_s)
        return answer

    async def CompleteResynchronisation(self, request, context):
        await self._enter("CompleteResynchronisation")
        self.sessions = {key: session for key, session in self.sessions.items() if key not in self._stale}
        self._stale, self.forwarding = set(), True
        return await self._leave("CompleteResynchronisation", n4.CompleteResynchronisationResponse())

    async def EstablishSession(self, request, context):
        await self._enter("EstablishSession")
        session = request.session
        self.sessions[session.cp_seid] = copy_of(session)
        self._stale.discard(session.cp_seid)
        self._forget_urrs(session.cp_seid)
        return await self._leave("EstablishSession", n4.EstablishSessionResponse(up_seid=session.cp_seid))

    async def ModifySession(self, request, context):
        await self._enter("ModifySession")
        session = self.sessions.get(request.cp_seid)
        if session is None:
            raise NotFound(f"no session {request.cp_seid}", reason="SESSION_CONTEXT_NOT_FOUND")
        for pdr in request.create_or_update_pdrs:
            if pdr.pdi.sdf_filters[0].flow_description in self.no_flows:
                raise InvalidArgument(f"no filter {pdr.pdi.sdf_filters[0].flow_description!r}")
        pdrs = {pdr.pdr_id: pdr for pdr in session.pdrs}
        qers = {qer.qer_id: qer for qer in session.qers}
        urrs = {urr.urr_id: urr for urr in session.urrs}
        for known, removed in (
            (pdrs, request.remove_pdr_ids),
            (qers, request.remove_qer_ids),
            (urrs, request.remove_urr_ids),
        ):
            if not set(removed) <= set(known):
                raise InvalidArgument(f"session {request.cp_seid}: rules that are not there: {removed}")
        pdrs |= {pdr.pdr_id: pdr for pdr in request.create_or_update_pdrs}
        qers |= {qer.qer_id: qer for qer in request.create_or_update_qers}
        urrs |= {urr.urr_id: urr for urr in request.create_or_update_urrs}
        fars = {far.far_id: far for far in (*session.fars, *request.create_or_update_fars)}
        asked = [*request.remove_urr_ids, *request.query_urr_ids]
        reports = [
            n4.UsageReport(urr_id=urr_id, usage=self.usages.get((request.cp_seid, urr_id), Usage())) for urr_id in asked
        ]
        self.sessions[request.cp_seid] = n4.Session(
            cp_seid=request.cp_seid,
            pdrs=[pdr for number, pdr in pdrs.items() if number not in request.remove_pdr_ids],
            qers=[qer for number, qer in qers.items() if number not in request.remove_qer_ids],
            urrs=[urr for number, urr in urrs.items() if number not in request.remove_urr_ids],
            fars=[far for number, far in fars.items() if number not in request.remove_far_ids],
        )
        self._forget_urrs(request.cp_seid)
        return await self._leave("ModifySession", n4.ModifySessionResponse(usage_reports=reports))

    async def DeleteSession(self, request, context):
        await self._enter("DeleteSession")
        session = self.sessions.pop(request.cp_seid, n4.Session())
        reports = [
            n4.UsageReport(urr_id=urr.urr_id, usage=self.usages.pop((request.cp_seid, urr.urr_id), Usage()))
            for urr in session.urrs
        ]
        return await self._leave("DeleteSession", n4.DeleteSessionResponse(usage_reports=reports))

    async def ListSessions(self, request, context):
        return n4.ListSessionsResponse(sessions=self.sessions.values())

    async def WatchReports(self, request, context) -> AsyncIterator[n4.WatchReportsResponse]:
        recovery_s = self.recovery_s
        position = request.after_sequence if request.recovery_time_stamp.ToSeconds() == recovery_s else 0
        stopping = call.stopping()
        while recovery_s == self.recovery_s and not stopping.is_set():
            reported = self._reported
            while position < len(self._reports):
                position += 1
                yield n4.WatchReportsResponse(report=self._reports[position - 1])
            waits = [asyncio.ensure_future(event.wait()) for event in (reported, stopping)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()

    def _forget_urrs(self, cp_seid: int) -> None:
        left = {(cp_seid, urr.urr_id) for urr in self.sessions[cp_seid].urrs}
        self.usages = {key: each for key, each in self.usages.items() if key[0] != cp_seid or key in left}

    async def _enter(self, name: str) -> None:
        self.calls.append(name)
        if name in self.refuse:
            await self._wake()
            raise self.refuse[name]

    async def _leave(self, name: str, answer):
        await self._wake()
        if self.lose.get(name, 0) > 0:
            self.lose[name] -= 1
            raise DeadlineExceeded(f"the answer to {name} is lost")
        if name in self.hold:
            await self.hold[name].wait()
        return answer

    async def _wake_readers(self) -> None:
        self._reported.set()
        self._reported = asyncio.Event()
        await self._wake()

    async def _wake(self) -> None:
        async with self.changed:
            self.changed.notify_all()


class ControlPlane:
    """PCF, SMF and the recording UPF (or the real one), and an AF if wanted.

    Each can be stopped, and started again on its state.
    """

    def __init__(
        self,
        directory: Path,
        *,
        real_upf: bool = False,
        with_af: bool = False,
        pcf: Mapping[str, object] | None = None,
        **smf: object,
    ) -> None:
        self.directory = directory
        self._names = ("upf", "smf", "pcf", *(("af",) if with_af else ()))
        self._pcf = PcfSection(**(pcf or {}))
        self._real_upf = real_upf
        self.upf = RecordingUserPlane()
        self.mbs_upf: N4mbServiceServicer | None = None
        # The SMF's and the PCF's.
        self.clock: Clock = SystemClock()
        self._telemetry = Telemetry()
        self._hosts: dict[str, Host] = {}
        self._smf = SmfSection(**{"heartbeat_interval_s": 0.02, **smf})
        self._addresses: dict[str, str] = {}
        self._client: Channels | None = None

    async def start(self) -> None:
        """Takes ports and starts everything."""
        for name in self._names:
            self._bind(name)
        self._client = Channels(self._addresses, telemetry=Telemetry(), deadline_s=PATIENCE_S)
        for name in ("upf", "pcf", "smf", "af"):
            if name in self._names:
                await self._serve(name)

    async def stop(self) -> None:
        """Ends everything."""
        if self._client is not None:
            await self._client.close()
        for name in reversed(self._names):
            await self.lay_down(name)

    def routes(self, name: str) -> Sequence[BaseRoute]:
        """The HTTP doors of a function that runs."""
        return self._hosts[name].routes

    async def lay_down(self, name: str) -> None:
        """Stops one function; what it is doing is cut off, as when its process is killed."""
        if name in self._hosts:
            await self._hosts.pop(name).stop()

    async def take_up(self, name: str) -> None:
        """Starts one function again, on its state, where it was."""
        self._bind(name)
        await self._serve(name)

    def _bind(self, name: str) -> None:
        host = Host(name, self._telemetry, grace_s=0.0)
        self._addresses[name] = host.bind(self._addresses.get(name, "127.0.0.1:0"))
        self._hosts[name] = host

    async def _serve(self, name: str) -> None:
        if name == "upf" and self._real_upf:
            function = upf_compose.build(UpfSection(measurement_interval_ms=5), SystemClock(), self._telemetry.registry)
            await self._hosts[name].start(lambda _: function, {})
            return
        if name == "upf":
            servicers = [servicer(add_N4ServiceServicer_to_server, self.upf)]
            if self.mbs_upf is not None:
                servicers.append(servicer(add_N4mbServiceServicer_to_server, self.mbs_upf))
            function = pcf_compose.Function("upf", servicers)
            await self._hosts[name].start(lambda _: function, {})
            return
        clock = self.clock
        module = {"pcf": pcf_compose, "smf": smf_compose, "af": af_compose}[name]
        config = {"pcf": self._pcf, "smf": self._smf, "af": AfSection(grpc_address=self._addresses[name])}[name]
        store = Store.open(url_for(self.directory, name), clock=clock, tables=getattr(module, "TABLES", ()))

        def compose(channels: Channels):
            return module.build(Context(name, config, clock, store, channels, self._telemetry))

        await self._hosts[name].start(compose, self._addresses, store)

    def channel(self, name: str) -> grpc.aio.Channel:
        """A client's channel to a function."""
        return self._client.get(name)

    def address(self, name: str) -> str:
        """Where a function is."""
        return self._addresses[name]

    def open_calls(self, function: str, service: str) -> float:
        """How many calls of a service the function is serving."""
        gauge = "castcore_rpc_server_open_calls"
        samples = [sample for metric in self._telemetry.registry.collect() for sample in metric.samples]
        return sum(
            sample.value
            for sample in samples
            if sample.name == gauge and sample.labels["function"] == function and service in sample.labels["method"]
        )

    async def attach(self, **changes: object) -> pdu.PduSession:
        """Attaches the UE, or another one."""
        asked = {
            "sm_context_ref": "ue-1",
            "supi": SUPI,
            "gpsi": GPSI,
            "pdu_session_id": 1,
            "dnn": "internet",
            "s_nssai": Snssai(sst=1),
            "ue_ipv4_address": UE,
        }
        request = pdu.CreatePduSessionRequest(pdu_session=pdu.PduSession(**{**asked, **changes}))
        return (await PduSessionsServiceStub(self.channel("smf")).CreatePduSession(request)).pdu_session

    async def pdu_sessions(self) -> list[pdu.PduSession]:
        """All PDU sessions."""
        stub = PduSessionsServiceStub(self.channel("smf"))
        return list((await stub.ListPduSessions(pdu.ListPduSessionsRequest())).pdu_sessions)

    async def detach(self, sm_context_ref: str = "ue-1") -> None:
        """Detaches a UE."""
        request = pdu.ReleasePduSessionRequest(sm_context_ref=sm_context_ref)
        await PduSessionsServiceStub(self.channel("smf")).ReleasePduSession(request)

    async def update_notify(self, request: pdu.UpdateNotifyRequest) -> list[pdu.PccRuleUsage]:
        """Puts a decision in force, past the PCF."""
        return list((await SmPolicyNotifyServiceStub(self.channel("smf")).UpdateNotify(request)).usage)

    @property
    def n5(self) -> PolicyAuthorizationServiceStub:
        """Application sessions."""
        return PolicyAuthorizationServiceStub(self.channel("pcf"))

    @property
    def n7(self) -> SmPolicyControlServiceStub:
        """Policy associations."""
        return SmPolicyControlServiceStub(self.channel("pcf"))

    @property
    def operator(self) -> OperatorPoliciesServiceStub:
        """Operator policies."""
        return OperatorPoliciesServiceStub(self.channel("pcf"))

    async def authorize(self, app_session_id: str = "s", *flows: str, **changes: object) -> n5.AppSession:
        """Authorises an application session of the UE at 5 Mbit/s."""
        session = app_session(app_session_id, *flows, **changes)
        answer = await self.n5.CreateAppSession(n5.CreateAppSessionRequest(app_session=session))
        return answer.app_session

    async def app_sessions(self) -> dict[str, n5.AppSession.State.ValueType]:
        """The states of all application sessions."""
        listed = await self.n5.ListAppSessions(n5.ListAppSessionsRequest())
        return {session.app_session_id: session.state for session in listed.app_sessions}

    async def sm_policies(self) -> list[n7.SmPolicy]:
        """All policy associations."""
        return list((await self.n7.ListSmPolicies(n7.ListSmPoliciesRequest())).sm_policies)

    async def ledger(self, app_session_id: str = "") -> list[op.LedgerEntry]:
        """The ledger's entries."""
        stub = LedgerServiceStub(self.channel("pcf"))
        request = op.ListLedgerEntriesRequest(app_session_id=app_session_id)
        return list((await stub.ListLedgerEntries(request)).ledger_entries)

    async def ledger_of(self, *, zero_rated: int) -> list[op.LedgerEntry]:
        """The ledger's entries, once an event has come after which so much is zero-rated."""

        def rated(event: Event) -> bool:
            notification = n5.EventNotification()
            event.payload.Unpack(notification)
            return event.type == "USAGE_REPORT" and notification.zero_rated_bytes == zero_rated

        await self.events("pcf", lambda seen: rated(seen[-1]))
        return await self.ledger()

    async def events(self, function: str, satisfied: Callable[[list[Event]], bool]) -> list[Event]:
        """The function's events from the first one on, as soon as they are what is waited for."""
        stub = {"pcf": PcfEventsServiceStub, "smf": SmfEventsServiceStub}[function](self.channel(function))
        seen: list[Event] = []
        async with asyncio.timeout(PATIENCE_S):
            async for response in stub.WatchEvents(WatchEventsRequest(), wait_for_ready=True):
                seen.append(response.event)
                if satisfied(seen):
                    break
        return seen

    async def notification(self, event_type: str, number: int = 1) -> tuple[Event, n5.EventNotification]:
        """The so-manieth event of that type at N5, and its payload."""

        def of_type(events: list[Event]) -> list[Event]:
            return [event for event in events if event.type == event_type]

        events = await self.events("pcf", lambda seen: len(of_type(seen)) >= number)
        notification = n5.EventNotification()
        assert of_type(events)[-1].payload.Unpack(notification)
        return of_type(events)[-1], notification

    async def accounted(self, *, zero_rated: int, charged: int, app_session_id: str = "s") -> n5.EventNotification:
        """The usage report in which so much is rated; earlier ones may say less."""

        def rated(event: Event) -> n5.EventNotification | None:
            notification = n5.EventNotification()
            event.payload.Unpack(notification)
            wanted = (app_session_id, zero_rated, charged)
            found = (notification.app_session_id, notification.zero_rated_bytes, notification.charged_bytes)
            return notification if event.type == "USAGE_REPORT" and found == wanted else None

        events = await self.events("pcf", lambda seen: rated(seen[-1]) is not None)
        return rated(events[-1])


@asynccontextmanager
async def running(directory: Path, **options: object) -> AsyncIterator[ControlPlane]:
    """A control plane that runs meanwhile."""
    plane = ControlPlane(directory, **options)
    await plane.start()
    try:
        yield plane
    finally:
        await plane.stop()


def app_session(app_session_id: str = "s", *flows: str, **changes: object) -> n5.AppSession:
    """An application session of the UE that asks for 5 Mbit/s for the video flow, or for other flows."""
    component = n5.MediaComponent(med_comp_n=1, mar_bw_dl_bps=5 * MBPS)
    for number, description in enumerate(flows or (VIDEO,), start=1):
        component.med_sub_comps.add(f_num=number, f_descs=[description])
    asked: dict[str, object] = {"ue_ipv4": UE, "spon_id": "acme", "med_components": [component]}
    data = n5.AppSessionContextReqData(**{**asked, **changes})
    return n5.AppSession(app_session_id=app_session_id, asc_req_data=data)
