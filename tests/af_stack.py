"""An AF on real sockets, with a PCF that records what it is asked and answers as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import httpx
from google.protobuf.message import Message
from starlette.routing import BaseRoute

from nf.af.compose import TABLES, build
from nf.af.config import AfSection
from nf.af.v1 import consumption_reporting_pb2_grpc as reporting_grpc
from nf.af.v1 import media_session_pb2 as m5
from nf.af.v1 import media_session_pb2_grpc as m5_grpc
from nf.af.v1 import metrics_reporting_pb2_grpc as metrics_grpc
from nf.af.v1 import provisioning_pb2 as m1
from nf.af.v1 import provisioning_pb2_grpc as m1_grpc
from nf.common.channels import Channels
from nf.common.clock import Clock, SystemClock
from nf.common.errors import CastcoreError, NotFound
from nf.common.events import serve_watch
from nf.common.function import Context, Function
from nf.common.http import HttpServer, application
from nf.common.resources import apply_mask, copy_of
from nf.common.server import GrpcServer, servicer
from nf.common.store import Store, url_for
from nf.common.telemetry import Telemetry
from nf.common.tls import Credentials
from nf.common.v1 import types_pb2 as types
from nf.common.v1.events_pb2 import Event, WatchEventsRequest
from nf.pcf.v1 import policy_authorization_pb2 as n5
from nf.pcf.v1 import policy_authorization_pb2_grpc as n5_grpc
from nf.pcf.v1.operator_policies_pb2 import GetQosReferenceResponse, QosReference
from nf.pcf.v1.operator_policies_pb2_grpc import (
    OperatorPoliciesServiceServicer,
    add_OperatorPoliciesServiceServicer_to_server,
)

M = TypeVar("M", bound=Message)

UE, OTHER_UE = "10.45.0.2", "10.45.0.3"
PATIENCE_S = 10.0


class QosReferences(OperatorPoliciesServiceServicer):
    """What the operator has arranged."""

    def __init__(self) -> None:
        self.arranged: dict[str, QosReference] = {}

    async def GetQosReference(self, request, context):
        if request.qos_reference not in self.arranged:
            raise NotFound(f"QoS reference {request.qos_reference!r} is not arranged")
        return GetQosReferenceResponse(qos_reference=self.arranged[request.qos_reference])


class RecordingPcf(n5_grpc.PolicyAuthorizationServiceServicer, n5_grpc.PcfEventsServiceServicer):
    """Keeps application sessions and every call; grants what is asked for, and monitors it.

    ``refuse["CreateAppSession"]`` is raised instead of an answer; ``hold["CreateAppSession"]`` delays the answer until
    it is set, after the session has been made.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.operator = QosReferences()
        self.sessions: dict[str, n5.AppSession] = {}
        self.calls: list[tuple[str, str]] = []
        self.masks: list[list[str]] = []
        self.refuse: dict[str, CastcoreError] = {}
        self.hold: dict[str, asyncio.Event] = {}
        self.called = asyncio.Condition()
        self.threshold_dl_bps: int | None = None
        self.method: types.EnforcementMethod.ValueType = types.ENFORCEMENT_METHOD_MONITOR
        self.final_usage: n5.EventNotification | None = None

    async def CreateAppSession(self, request, context):
        session = copy_of(request.app_session)
        await self._enter("CreateAppSession", session.app_session_id)
        self._grant(session)
        await self._held("CreateAppSession")
        return n5.CreateAppSessionResponse(app_session=session)

    async def GetAppSession(self, request, context):
        await self._enter("GetAppSession", request.app_session_id)
        return n5.GetAppSessionResponse(app_session=self._require(request.app_session_id))

    async def ListAppSessions(self, request, context):
        return n5.ListAppSessionsResponse(app_sessions=self.sessions.values())

    async def UpdateAppSession(self, request, context):
        await self._enter("UpdateAppSession", request.app_session_id)
        session = copy_of(self._require(request.app_session_id))
        self.masks.append(list(request.update_mask.paths))
        changed = apply_mask(session.asc_req_data, request.asc_req_data, request.update_mask, self.masks[-1])
        session.asc_req_data.CopyFrom(changed)
        self._grant(session)
        await self._held("UpdateAppSession")
        return n5.UpdateAppSessionResponse(app_session=session)

    async def DeleteAppSession(self, request, context):
        await self._enter("DeleteAppSession", request.app_session_id)
        self.sessions.pop(request.app_session_id, None)
        await self._held("DeleteAppSession")
        return n5.DeleteAppSessionResponse(final_usage=self.final_usage)

    def WatchEvents(self, request, context):
        return serve_watch(self.store, request)

    def names(self) -> list[str]:
        """The names of the calls so far."""
        return [name for name, _ in self.calls]

    def rules(self, app_session_id: str) -> list[str]:
        """The flow descriptions in force, in the order of their numbers."""
        subs = self.sessions[app_session_id].asc_req_data.med_components[0].med_sub_comps
        return [sub.f_descs[0] for sub in sorted(subs, key=lambda each: each.f_num)]

    async def until(self, satisfied: Callable[[], bool]) -> None:
        """Returns when a call has made ``satisfied`` true."""
        async with asyncio.timeout(PATIENCE_S), self.called:
            await self.called.wait_for(satisfied)

    async def tell(self, app_session_id: str, event: n5.AfEvent.ValueType, *, path: str = "N4>N7", **told) -> None:
        """Emits an event as the PCF would."""
        notification = n5.EventNotification(app_session_id=app_session_id, event=event, **told)
        if event == n5.AF_EVENT_SUCCESSFUL_RESOURCES_ALLOCATION and app_session_id in self.sessions:
            session = self.sessions[app_session_id]
            notification.state = session.state
            notification.enforcement.CopyFrom(session.asc_resp_data.enforcement)
            notification.revision = session.asc_resp_data.revision
        name = n5.AfEvent.Name(event).removeprefix("AF_EVENT_")
        subject = f"app-sessions/{app_session_id}"
        await self.store.write(lambda tx: tx.emit(name, subject, notification, source="pcf", path=path))

    def _grant(self, session: n5.AppSession) -> None:
        component = session.asc_req_data.med_components[0]
        asked_bps = [rate for rate in (component.mar_bw_dl_bps, component.max_auth_bw_dl_bps) if rate]
        session.state = n5.AppSession.STATE_ACTIVE
        session.asc_resp_data.revision += 1
        session.asc_resp_data.enforcement.CopyFrom(
            n5.Enforcement(
                enforcement_method=self.method,
                enforcement_bit_rate_dl_bps=min(
                    [*asked_bps, *([self.threshold_dl_bps] if self.threshold_dl_bps else [])], default=0
                ),
            )
        )
        self.sessions[session.app_session_id] = session

    def _require(self, app_session_id: str) -> n5.AppSession:
        if app_session_id not in self.sessions:
            raise NotFound(
                f"app session {app_session_id!r} does not exist",
                reason="APPLICATION_SESSION_CONTEXT_NOT_FOUND",
                cause="APPLICATION_SESSION_CONTEXT_NOT_FOUND",
            )
        return self.sessions[app_session_id]

    async def _enter(self, name: str, app_session_id: str) -> None:
        async with self.called:
            self.calls.append((name, app_session_id))
            self.called.notify_all()
        if name in self.refuse:
            raise self.refuse[name]

    async def _held(self, name: str) -> None:
        async with self.called:
            self.called.notify_all()
        if name in self.hold:
            await self.hold[name].wait()


class AfStack:
    """A recording PCF and an AF, each on a port of its own; the AF can be stopped and started on its state."""

    def __init__(
        self, directory: Path, *, clock: Clock | None = None, config: Mapping[str, object] | None = None
    ) -> None:
        self.directory = directory
        self.clock = clock or SystemClock()
        self.config = dict(config or {})
        self.telemetry = Telemetry()
        self.tls: Credentials | None = None
        self._pcf_server = GrpcServer("pcf", self.telemetry)
        self.pcf_address = ""
        self._function: Function | None = None

    async def __aenter__(self) -> AfStack:
        self.pcf = RecordingPcf(Store.open(url_for(self.directory, "pcf"), clock=self.clock))
        self._pcf_server.add(
            servicer(n5_grpc.add_PolicyAuthorizationServiceServicer_to_server, self.pcf),
            servicer(n5_grpc.add_PcfEventsServiceServicer_to_server, self.pcf),
            servicer(add_OperatorPoliciesServiceServicer_to_server, self.pcf.operator),
        )
        self.pcf_address = await self._pcf_server.start("127.0.0.1:0")
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        for held in self.pcf.hold.values():
            held.set()
        await self._pcf_server.stop(0.2)
        await self.pcf.store.close()

    async def start(self) -> None:
        """Starts the AF on what is stored, and connects to it."""
        self.store = Store.open(url_for(self.directory, "af"), clock=self.clock, tables=TABLES)
        self._peers = Channels({"pcf": self.pcf_address}, function="af")
        self._server = GrpcServer("af", self.telemetry)
        self.address = self._server.bind("127.0.0.1:0")
        config = AfSection(**{"grpc_address": self.address, **self.config})
        app = application(self.telemetry, lambda: True)
        self._http_server = HttpServer(app)
        self.http = await self._http_server.start("127.0.0.1:0")
        context = Context("af", config, self.clock, self.store, self._peers, self.telemetry, self.http, self.tls)
        self._function = build(context)
        app.router.routes.extend(self._function.routes)
        # In clear text: no authorities need be read, which takes longer than most tests.
        self.http_client = httpx.AsyncClient(base_url=self.http, verify=False)
        self._server.add(*self._function.servicers)
        await self._function.prepare()
        await self._server.start()
        await self._function.start()
        self._clients = Channels({"af": self.address})
        self.channel = self._clients.get("af")
        self.sessions = m1_grpc.ProvisioningSessionsServiceStub(self.channel)
        self.templates = m1_grpc.PolicyTemplatesServiceStub(self.channel)
        self.consumption = m1_grpc.ConsumptionReportingProvisioningServiceStub(self.channel)
        self.access = m5_grpc.ServiceAccessInformationServiceStub(self.channel)
        self.policies = m5_grpc.DynamicPoliciesServiceStub(self.channel)
        self.reporting = reporting_grpc.ConsumptionReportingServiceStub(self.channel)
        self.reports = reporting_grpc.ConsumptionReportsServiceStub(self.channel)
        self.metrics_provisioning = metrics_grpc.MetricsReportingProvisioningServiceStub(self.channel)
        self.metrics_reporting = metrics_grpc.MetricsReportingServiceStub(self.channel)
        self.metrics_reports = metrics_grpc.MetricsReportsServiceStub(self.channel)
        self.events = m5_grpc.AfEventsServiceStub(self.channel)

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """The AF's HTTP doors."""
        assert self._function is not None
        return self._function.routes

    async def stop(self) -> None:
        """Stops the AF; what it has stored stays."""
        assert self._function is not None
        await self.http_client.aclose()
        await self._http_server.stop()
        await self._clients.close()
        await self._server.stop(0.2)
        await self._function.stop()
        await self._peers.close()
        await self.store.close()

    async def start_background(self) -> None:
        """What the AF does at its start beside serving, once more."""
        assert self._function is not None
        await self._function.start()

    async def stop_pcf(self) -> None:
        """Nobody listens at the PCF's address any more."""
        await self._pcf_server.stop(0)

    async def start_pcf(self) -> None:
        """The PCF listens again at its address."""
        self._pcf_server = GrpcServer("pcf", self.telemetry)
        self._pcf_server.add(
            servicer(n5_grpc.add_PolicyAuthorizationServiceServicer_to_server, self.pcf),
            servicer(n5_grpc.add_PcfEventsServiceServicer_to_server, self.pcf),
            servicer(add_OperatorPoliciesServiceServicer_to_server, self.pcf.operator),
        )
        await self._pcf_server.start(self.pcf_address)

    async def watch(self, after: int = 0, subject: str = "", no_follow: bool = False) -> AsyncIterator[Event]:
        """The AF's events."""
        request = WatchEventsRequest(after_sequence=after, subject=subject, no_follow=no_follow)
        async for response in self.events.WatchEvents(request):
            yield response.event

    async def history(self, subject: str = "") -> list[Event]:
        """The AF's events until now."""
        return [event async for event in self.watch(subject=subject, no_follow=True)]

    async def event(self, matches: Callable[[Event], bool], after: int = 0) -> Event:
        """The first event that matches, waited for."""
        async with asyncio.timeout(PATIENCE_S):
            async for event in self.watch(after):
                if matches(event):
                    return event
        raise AssertionError("the stream has ended")

    async def template_state(self, policy_template_id: str, state: str, after: int = 0) -> m1.PolicyTemplate:
        """The template once it has come to that state, by an event after that sequence."""

        def matches(event: Event) -> bool:
            if event.type != "POLICY_TEMPLATE_STATE":
                return False
            told = payload_of(event, m1.PolicyTemplateStateChanged).policy_template
            return told.policy_template_id == policy_template_id and state_name(told) == state

        return payload_of(await self.event(matches, after), m1.PolicyTemplateStateChanged).policy_template

    async def policy_state(self, dynamic_policy_id: str, state: str, after: int = 0) -> Event:
        """The event by which the policy has come to that state."""

        def matches(event: Event) -> bool:
            if event.type != "DYNAMIC_POLICY_STATE":
                return False
            told = payload_of(event, m5.DynamicPolicyStateChanged).dynamic_policy
            return told.dynamic_policy_id == dynamic_policy_id and state_name(told) == state

        return await self.event(matches, after)

    async def new_session(self, **changes: object) -> m1.ProvisioningSession:
        """A provisioning session."""
        content = {
            "provisioning_session_type": m1.PROVISIONING_SESSION_TYPE_DOWNLINK,
            "app_id": "app",
            "asp_id": "asp",
            **changes,
        }
        request = m1.CreateProvisioningSessionRequest(provisioning_session=m1.ProvisioningSession(**content))
        return (await self.sessions.CreateProvisioningSession(request)).provisioning_session

    async def new_template(self, session_id: str, *, wait: str = "READY", **changes: object) -> m1.PolicyTemplate:
        """A policy template, 5 Mbit/s downlink unless told otherwise, in the state ``wait``."""
        content = {
            "external_reference": "zero-rating",
            "qos_specification": m1.M1QosSpecification(max_btr_dl_bps=5_000_000, max_auth_btr_dl_bps=8_000_000),
            **changes,
        }
        request = m1.CreatePolicyTemplateRequest(
            provisioning_session_id=session_id, policy_template=m1.PolicyTemplate(**content)
        )
        created = (await self.templates.CreatePolicyTemplate(request)).policy_template
        return await self.template_state(created.policy_template_id, wait)

    async def provision(self, **template: object) -> m1.PolicyTemplate:
        """A session with a READY template."""
        return await self.new_template((await self.new_session()).provisioning_session_id, **template)

    async def activate(
        self,
        template: m1.PolicyTemplate,
        *flows: m5.ServiceDataFlowDescription,
        request_id: str = "",
        **changes: object,
    ) -> m5.DynamicPolicy:
        """A dynamic policy of the template, on one flow unless told otherwise."""
        policy = m5.DynamicPolicy(
            provisioning_session_id=template.provisioning_session_id,
            policy_template_id=template.policy_template_id,
            service_data_flow_descriptions=flows or [flow(50000)],
            **changes,
        )
        request = m5.CreateDynamicPolicyRequest(dynamic_policy=policy, request_id=request_id)
        return (await self.policies.CreateDynamicPolicy(request)).dynamic_policy

    async def policy(self, dynamic_policy_id: str) -> m5.DynamicPolicy:
        """The policy as it is."""
        request = m5.GetDynamicPolicyRequest(dynamic_policy_id=dynamic_policy_id)
        return (await self.policies.GetDynamicPolicy(request)).dynamic_policy

    async def all_policies(self) -> list[m5.DynamicPolicy]:
        """Every policy."""
        return list((await self.policies.ListDynamicPolicies(m5.ListDynamicPoliciesRequest())).dynamic_policies)


def flow(port: int, *, ue: str = UE, remote: str = "198.51.100.7") -> m5.ServiceDataFlowDescription:
    """A TCP connection of the UE to port 443 of a media server."""
    return m5.ServiceDataFlowDescription(
        flow_description=m5.IpPacketFilterSet(
            src_ip=remote,
            dst_ip=ue,
            protocol=6,
            src_port=443,
            dst_port=port,
            direction=m5.FLOW_DIRECTION_BIDIRECTIONAL,
        )
    )


def rule(port: int, *, ue: str = UE) -> str:
    """The flow description of ``flow``."""
    return f"permit out 6 from 198.51.100.7 443 to {ue} {port}"


def payload_of(event: Event, message_type: type[M]) -> M:
    """The payload, which has to be of that type."""
    message = message_type()
    assert event.payload.Unpack(message), f"{event.type} carries {event.payload.TypeName()}"
    return message


def state_name(resource: m1.PolicyTemplate | m5.DynamicPolicy) -> str:
    """The state without its prefix."""
    return type(resource).State.Name(resource.state).removeprefix("STATE_")
