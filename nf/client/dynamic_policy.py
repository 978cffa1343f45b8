"""Dynamic policies at the Media Session Handler: activates a network policy and tells the player (TS 26.512 A.3.2).

It finds the policy description by the network policy id (step 6), activates the dynamic policy and hands the service
descriptor filter to the player (step 7), and reports every connection opened and closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto

from nf.af.v1 import media_session_pb2 as m5pb
from nf.client.descriptor_filter import NONE_KNOWN, KnownFilters, Way, filter_of
from nf.client.m5 import M5
from nf.client.m7 import Connection
from nf.client.service_access import ServiceAccess
from nf.common.clock import Clock
from nf.common.errors import CastcoreError, FailedPrecondition, NotFound
from nf.common.resources import new_id
from nf.common.v1.types_pb2 import MEDIA_TYPE_UNSPECIFIED, MediaType

# What the player is told: the filter to choose representations by; None: play unfiltered, and charged.
FilterCallback = Callable[[m5pb.ServiceDescriptorFilter | None], None]

# In any other state the policy is in force, or will be again without having been asked for anew.
_OVER = (m5pb.DynamicPolicy.STATE_TERMINATED, m5pb.DynamicPolicy.STATE_DEACTIVATING)


class NoActivePolicy(FailedPrecondition):
    """The media session has no active dynamic policy."""

    reason = "NO_ACTIVE_POLICY"


class PolicyAlreadyActive(FailedPrecondition):
    """The media session has an active dynamic policy already."""

    reason = "POLICY_ALREADY_ACTIVE"


class SdfMethod(Enum):
    """How the handler describes the connections of a player (TS 26.512 §6.4.4.2)."""

    FIVE_TUPLE = auto()
    TWO_TUPLE = auto()
    DOMAIN_NAME = auto()


@dataclass(frozen=True, slots=True)
class Flow:
    """One connection of the media session. An empty ``ue_ip`` leaves the UE to the AF; None: any port or protocol.

    A flow with a ``domain_name`` is every connection to that server, whatever its addresses.
    """

    remote_ip: str = ""
    remote_port: int | None = None
    ue_port: int | None = None
    protocol: int | None = None
    ue_ip: str = ""
    domain_name: str = ""

    @classmethod
    def of(cls, connection: Connection, method: SdfMethod = SdfMethod.FIVE_TUPLE) -> Flow:
        """The connection as the method describes it; by its addresses where its server has no name."""
        if method is SdfMethod.DOMAIN_NAME and connection.server_name:
            return cls(domain_name=connection.server_name)
        # The UE is whoever asks: a player behind an address translation does not know what the network calls it.
        if method is not SdfMethod.FIVE_TUPLE:
            return cls(remote_ip=str(connection.server.address))
        return cls(
            remote_ip=str(connection.server.address),
            remote_port=connection.server.port,
            ue_port=connection.client.port,
            protocol=connection.protocol,
        )

    def description(self) -> m5pb.ServiceDataFlowDescription:
        """The flow as M5 describes it: written for the downlink, meant for both directions."""
        if self.domain_name:
            return m5pb.ServiceDataFlowDescription(domain_name=self.domain_name)
        return m5pb.ServiceDataFlowDescription(
            flow_description=m5pb.IpPacketFilterSet(
                src_ip=self.remote_ip,
                dst_ip=self.ue_ip,
                protocol=self.protocol,
                src_port=self.remote_port,
                dst_port=self.ue_port,
                direction=m5pb.FLOW_DIRECTION_BIDIRECTIONAL,
            )
        )


def best_method(announced: Iterable[m5pb.SdfMethod.ValueType]) -> SdfMethod:
    """The method to describe connections by: the one that says most of them, of those that the AF announces."""
    known = set(announced)
    if m5pb.SDF_METHOD_FIVE_TUPLE in known or not known:
        return SdfMethod.FIVE_TUPLE
    return SdfMethod.TWO_TUPLE if m5pb.SDF_METHOD_TWO_TUPLE in known else SdfMethod.DOMAIN_NAME


class DynamicPolicyHandler:
    """The dynamic policy of one media session: at most one at a time.

    ``on_filter`` is called whenever what the player may choose changes: on activation, when the network comes to
    enforce something else, and with None when it enforces nothing. ``access``: what is known of the service already;
    ``known_filters``: the filters to look up where the answer has none.
    """

    def __init__(
        self,
        m5: M5,
        clock: Clock,
        *,
        on_filter: FilterCallback = lambda _: None,
        access: ServiceAccess | None = None,
        known_filters: KnownFilters = NONE_KNOWN,
    ) -> None:
        self._m5 = m5
        self._known_filters = known_filters
        self._access = access if access is not None else ServiceAccess(m5, clock)
        self._on_filter = on_filter
        # Flows are changed one after the other: each update carries all that are open.
        self._lock = asyncio.Lock()
        self._policy: m5pb.DynamicPolicy | None = None
        self._flows: tuple[Flow, ...] = ()
        self._told: m5pb.ServiceDescriptorFilter | None = None
        self._way: Way | None = None

    @property
    def policy(self) -> m5pb.DynamicPolicy | None:
        """The dynamic policy as last heard of; None: none is active."""
        return self._policy

    @property
    def filter_way(self) -> Way | None:
        """How the filter that the player has was come by; None: it has none."""
        return self._way

    @property
    def is_over(self) -> bool:
        """Whether there is a policy that the network has ended."""
        return self._policy is not None and self._policy.state in _OVER

    @property
    def flows(self) -> tuple[Flow, ...]:
        """The flows that are open under the policy, in the order of their opening."""
        return self._flows

    async def activate(
        self,
        provisioning_session_id: str,
        network_policy_id: str,
        flows: Iterable[Flow],
        *,
        media_type: MediaType.ValueType = MEDIA_TYPE_UNSPECIFIED,
        qos_specification: m5pb.M5QosSpecification | None = None,
    ) -> m5pb.DynamicPolicy:
        """Activates the network policy for the flows, and hands the player its filter (A.3.2 steps 6 and 7).

        Refused, the player is told to play unfiltered, and the refusal is raised. Raises PolicyAlreadyActive,
        PolicyDescriptionNotFound.
        """
        async with self._lock:
            if self._policy is not None:
                raise PolicyAlreadyActive(
                    f"dynamic policy {self._policy.dynamic_policy_id!r} is active: deactivate it first"
                )
            opened = tuple(dict.fromkeys(flows))
            try:
                binding = await self._access.policy_description(provisioning_session_id, network_policy_id)
                wanted = m5pb.DynamicPolicy(
                    provisioning_session_id=provisioning_session_id,
                    policy_template_id=binding.policy_template_id,
                    service_data_flow_descriptions=[flow.description() for flow in opened],
                    media_type=media_type,
                    qos_specification=qos_specification,
                )
                policy = await self._m5.create_dynamic_policy(wanted, request_id=new_id())
            except CastcoreError:
                self._on_filter(None)
                raise
            self._flows = opened
            self._take(policy)
            return policy

    async def open_flow(self, flow: Flow) -> m5pb.DynamicPolicy:
        """Tells the network of a connection opened. Raises NoActivePolicy, and what the AF refuses with."""
        async with self._lock:
            return await self._update((*self._flows, flow))

    async def close_flow(self, flow: Flow) -> m5pb.DynamicPolicy:
        """Tells the network of a connection closed. Raises NoActivePolicy, and what the AF refuses with."""
        async with self._lock:
            return await self._update(each for each in self._flows if each != flow)

    async def set_flows(self, flows: Iterable[Flow]) -> m5pb.DynamicPolicy:
        """Tells the network which connections are open now, in one step. Raises as ``open_flow`` does."""
        async with self._lock:
            return await self._update(flows)

    async def deactivate(self) -> None:
        """Ends the policy; the player is told to play unfiltered. Raises NoActivePolicy."""
        async with self._lock:
            policy_id = self._require().dynamic_policy_id
            # Its template or its session may have taken it along.
            with suppress(NotFound):
                await self._m5.delete_dynamic_policy(policy_id)
            self._forget()

    async def forget(self) -> None:
        """The policy is gone, or nobody can be told of its end: the player is told to play unfiltered."""
        async with self._lock:
            self._forget()

    async def watch(self) -> AsyncIterator[m5pb.DynamicPolicy]:
        """The policy whenever the network has changed it; the handler and the player keep up with what passes here.

        Raises NoActivePolicy.
        """
        policy_id = self._require().dynamic_policy_id
        async for told in self._m5.watch_dynamic_policy(policy_id):
            async with self._lock:
                if self._policy is None or self._policy.dynamic_policy_id != policy_id:
                    return
                if told.state != m5pb.DynamicPolicy.STATE_TERMINATED:
                    # An update of ours may have been answered since.
                    with suppress(NotFound):
                        told = await self._m5.get_dynamic_policy(policy_id)
                self._take(told)
            yield told

    async def _update(self, flows: Iterable[Flow]) -> m5pb.DynamicPolicy:
        opened = tuple(dict.fromkeys(flows))
        current = self._require()
        changed = m5pb.DynamicPolicy(
            dynamic_policy_id=current.dynamic_policy_id,
            provisioning_session_id=current.provisioning_session_id,
            policy_template_id=current.policy_template_id,
            service_data_flow_descriptions=[flow.description() for flow in opened],
        )
        policy = await self._m5.update_dynamic_policy(changed, ["service_data_flow_descriptions"])
        self._flows = opened
        self._take(policy)
        return policy

    def _take(self, policy: m5pb.DynamicPolicy) -> None:
        self._policy = policy
        self._tell(None if policy.state in _OVER else filter_of(policy, self._known_filters))

    def _forget(self) -> None:
        self._policy, self._flows = None, ()
        self._tell(None)

    def _tell(self, found: tuple[m5pb.ServiceDescriptorFilter, Way] | None) -> None:
        service_descriptor_filter, self._way = found if found is not None else (None, None)
        if service_descriptor_filter != self._told:
            self._told = service_descriptor_filter
            self._on_filter(service_descriptor_filter)

    def _require(self) -> m5pb.DynamicPolicy:
        if self._policy is None:
            raise NoActivePolicy("the media session has no active dynamic policy: activate one first")
        return self._policy
