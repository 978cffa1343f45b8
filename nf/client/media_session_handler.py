"""The Media Session Handler: activates a network policy for a media session and tells the player (TS 26.512 A.3.2).

It finds the policy description by the network policy id (step 6), activates the dynamic policy and hands the service
descriptor filter to the player (step 7), and reports every connection opened and closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from nf.af.v1 import media_session_pb2 as m5
from nf.af.v1.media_session_pb2_grpc import (
    AfEventsServiceStub,
    DynamicPoliciesServiceStub,
    ServiceAccessInformationServiceStub,
)
from nf.common.clock import Clock
from nf.common.errors import CastcoreError, FailedPrecondition, NotFound
from nf.common.resources import new_id
from nf.common.v1.events_pb2 import Event, WatchEventsRequest
from nf.common.v1.types_pb2 import MEDIA_TYPE_UNSPECIFIED, MediaType

UE_ADDRESS_METADATA = "x-ue-address"

# What the player is told: the filter to choose representations by; None: play unfiltered, and charged.
FilterCallback = Callable[[m5.ServiceDescriptorFilter | None], None]


class PolicyDescriptionNotFound(NotFound):
    """The service access information has no policy description with this network policy id."""

    reason = "POLICY_DESCRIPTION_NOT_FOUND"


class NoActivePolicy(FailedPrecondition):
    """The media session has no active dynamic policy."""

    reason = "NO_ACTIVE_POLICY"


class PolicyAlreadyActive(FailedPrecondition):
    """The media session has an active dynamic policy already."""

    reason = "POLICY_ALREADY_ACTIVE"


@dataclass(frozen=True, slots=True)
class Flow:
    """One connection of the media session. An empty ``ue_ip`` leaves the UE to the AF; None: any port or protocol."""

    remote_ip: str
    remote_port: int | None = None
    ue_port: int | None = None
    protocol: int | None = None
    ue_ip: str = ""

    def description(self) -> m5.ServiceDataFlowDescription:
        """The flow as M5 describes it: written for the downlink, meant for both directions."""
        return m5.ServiceDataFlowDescription(
            flow_description=m5.IpPacketFilterSet(
                src_ip=self.remote_ip,
                dst_ip=self.ue_ip,
                protocol=self.protocol,
                src_port=self.remote_port,
                dst_port=self.ue_port,
                direction=m5.FLOW_DIRECTION_BIDIRECTIONAL,
            )
        )


@dataclass(frozen=True, slots=True)
class _Cached:
    information: m5.ServiceAccessInformation
    good_until: datetime


class MediaSessionHandler:
    """The handler of one media session: at most one dynamic policy at a time.

    ``channel`` leads to the AF at M5 (``nf.common.channels.Channels``, so that errors come as CastcoreError).
    ``on_filter`` is called whenever what the player may choose changes: on activation, when the network comes to
    enforce something else, and with None when it enforces nothing. ``ue_address`` is sent along: an AF that trusts us
    takes our word for the UE.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        clock: Clock,
        *,
        on_filter: FilterCallback = lambda _: None,
        ue_address: str = "",
    ) -> None:
        self._clock = clock
        self._on_filter = on_filter
        self._metadata = ((UE_ADDRESS_METADATA, ue_address),) if ue_address else ()
        self._access = ServiceAccessInformationServiceStub(channel)
        self._policies = DynamicPoliciesServiceStub(channel)
        self._events = AfEventsServiceStub(channel)
        self._cache: dict[str, _Cached] = {}
        # Flows are changed one after the other: each update carries all that are open.
        self._lock = asyncio.Lock()
        self._policy: m5.DynamicPolicy | None = None
        self._flows: tuple[Flow, ...] = ()
        self._told: m5.ServiceDescriptorFilter | None = None

    @property
    def policy(self) -> m5.DynamicPolicy | None:
        """The dynamic policy as last heard of; None: none is active."""
        return self._policy

    @property
    def flows(self) -> tuple[Flow, ...]:
        """The flows that are open under the policy, in the order of their opening."""
        return self._flows

    async def service_access_information(self, provisioning_session_id: str) -> m5.ServiceAccessInformation:
        """The service access information, fetched again when its max-age has passed.

        What has the same etag as before is the same object. Raises NotFound.
        """
        cached = self._cache.get(provisioning_session_id)
        if cached is not None and self._clock.now() < cached.good_until:
            return cached.information
        request = m5.GetServiceAccessInformationRequest(provisioning_session_id=provisioning_session_id)
        information = (await self._access.GetServiceAccessInformation(request)).service_access_information
        if cached is not None and cached.information.etag == information.etag:
            information = cached.information
        good_until = self._clock.now() + timedelta(seconds=information.max_age_s)
        self._cache[provisioning_session_id] = _Cached(information, good_until)
        return information

    async def policy_description(
        self, provisioning_session_id: str, network_policy_id: str
    ) -> m5.PolicyTemplateBinding:
        """The policy description of a network policy id (A.3.2 step 6).

        One that is not in what was kept is looked for once more at the AF. Raises PolicyDescriptionNotFound.
        """
        kept = provisioning_session_id in self._cache
        known: list[str] = []
        for fresh in (False, True) if kept else (True,):
            if fresh:
                self._expire(provisioning_session_id)
            information = await self.service_access_information(provisioning_session_id)
            bindings = information.dynamic_policy_invocation_configuration.policy_template_bindings
            for binding in bindings:
                if binding.external_reference == network_policy_id:
                    return binding
            known = [binding.external_reference for binding in bindings]
        raise PolicyDescriptionNotFound(
            f"network policy id {network_policy_id!r} is not announced (announced: {', '.join(known) or 'none'})"
        )

    async def activate(
        self,
        provisioning_session_id: str,
        network_policy_id: str,
        flows: Iterable[Flow],
        *,
        media_type: MediaType.ValueType = MEDIA_TYPE_UNSPECIFIED,
        qos_specification: m5.M5QosSpecification | None = None,
    ) -> m5.DynamicPolicy:
        """Activates the network policy for the flows, and hands the player its filter (A.3.2 steps 6 and 7).

        Refused, the player is told to play unfiltered, and the refusal is raised. Raises PolicyAlreadyActive.
        """
        async with self._lock:
            if self._policy is not None:
                raise PolicyAlreadyActive(
                    f"dynamic policy {self._policy.dynamic_policy_id!r} is active: deactivate it first"
                )
            opened = tuple(dict.fromkeys(flows))
            try:
                binding = await self.policy_description(provisioning_session_id, network_policy_id)
                wanted = m5.DynamicPolicy(
                    provisioning_session_id=provisioning_session_id,
                    policy_template_id=binding.policy_template_id,
                    service_data_flow_descriptions=[flow.description() for flow in opened],
                    media_type=media_type,
                    qos_specification=qos_specification,
                )
                request = m5.CreateDynamicPolicyRequest(dynamic_policy=wanted, request_id=new_id())
                answer = await self._policies.CreateDynamicPolicy(request, metadata=self._metadata)
            except CastcoreError:
                self._on_filter(None)
                raise
            self._flows = opened
            self._take(answer.dynamic_policy)
            return answer.dynamic_policy

    async def open_flow(self, flow: Flow) -> m5.DynamicPolicy:
        """Tells the network of a connection opened. Raises NoActivePolicy, and what the AF refuses with."""
        async with self._lock:
            return await self._update((*self._flows, flow))

    async def close_flow(self, flow: Flow) -> m5.DynamicPolicy:
        """Tells the network of a connection closed. Raises NoActivePolicy, and what the AF refuses with."""
        async with self._lock:
            return await self._update(each for each in self._flows if each != flow)

    async def set_flows(self, flows: Iterable[Flow]) -> m5.DynamicPolicy:
        """Tells the network which connections are open now, in one step. Raises as ``open_flow`` does."""
        async with self._lock:
            return await self._update(flows)

    async def deactivate(self) -> None:
        """Ends the policy; the player is told to play unfiltered. Raises NoActivePolicy."""
        async with self._lock:
            request = m5.DeleteDynamicPolicyRequest(dynamic_policy_id=self._require().dynamic_policy_id)
            # Its template or its session may have taken it along.
            with suppress(NotFound):
                await self._policies.DeleteDynamicPolicy(request, metadata=self._metadata)
            self._policy, self._flows = None, ()
            self._tell(None)

    async def watch(self, after_sequence: int = 0) -> AsyncIterator[Event]:
        """The events of the policy after a sequence; the handler and the player keep up with those that pass here.

        Begins with the events since the policy's activation. Raises NoActivePolicy.
        """
        policy_id = self._require().dynamic_policy_id
        request = WatchEventsRequest(after_sequence=after_sequence, subject=f"dynamic-policies/{policy_id}")
        async for response in self._events.WatchEvents(request):
            changed = m5.DynamicPolicyStateChanged()
            if response.event.payload.Unpack(changed):
                await self._catch_up(changed.dynamic_policy)
            yield response.event

    async def _catch_up(self, told: m5.DynamicPolicy) -> None:
        """Takes over what the policy is now: an event may tell of a time before the last update."""
        async with self._lock:
            if self._policy is None or self._policy.dynamic_policy_id != told.dynamic_policy_id:
                return
            request = m5.GetDynamicPolicyRequest(dynamic_policy_id=told.dynamic_policy_id)
            try:
                current = (await self._policies.GetDynamicPolicy(request, metadata=self._metadata)).dynamic_policy
            except NotFound:
                # It went with its template: nothing is enforced, whatever the event still says.
                current = told
                current.state = m5.DynamicPolicy.STATE_TERMINATED
            self._take(current)

    async def _update(self, flows: Iterable[Flow]) -> m5.DynamicPolicy:
        opened = tuple(dict.fromkeys(flows))
        changed = m5.DynamicPolicy(
            dynamic_policy_id=self._require().dynamic_policy_id,
            service_data_flow_descriptions=[flow.description() for flow in opened],
        )
        mask = FieldMask(paths=["service_data_flow_descriptions"])
        request = m5.UpdateDynamicPolicyRequest(dynamic_policy=changed, update_mask=mask)
        answer = await self._policies.UpdateDynamicPolicy(request, metadata=self._metadata)
        self._flows = opened
        self._take(answer.dynamic_policy)
        return answer.dynamic_policy

    def _take(self, policy: m5.DynamicPolicy) -> None:
        self._policy = policy
        in_force = policy.state in (m5.DynamicPolicy.STATE_ACTIVE, m5.DynamicPolicy.STATE_EXCEEDED)
        self._tell(policy.service_descriptor_filter if in_force else None)

    def _tell(self, service_descriptor_filter: m5.ServiceDescriptorFilter | None) -> None:
        if service_descriptor_filter != self._told:
            self._told = service_descriptor_filter
            self._on_filter(service_descriptor_filter)

    def _require(self) -> m5.DynamicPolicy:
        if self._policy is None:
            raise NoActivePolicy("the media session has no active dynamic policy: activate one first")
        return self._policy

    def _expire(self, provisioning_session_id: str) -> None:
        cached = self._cache.get(provisioning_session_id)
        if cached is not None:
            self._cache[provisioning_session_id] = _Cached(cached.information, self._clock.now())
