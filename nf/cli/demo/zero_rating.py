"""The (Conditional) Zero Rating dynamic policy from end to end, steps 1 to 7 of TS 26.512 A.3.2, on real packets.

An operator lays down the threshold, a provider provisions a template, a UE attaches, its Media Session Handler
activates the policy and reports every connection opened and closed, and the UPF polices what flows; what it measured
comes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv6Network
from typing import TYPE_CHECKING, Final

from nf.af.v1.media_session_pb2 import DynamicPolicy, DynamicPolicyStateChanged, DynamicPolicyUsage
from nf.af.v1.provisioning_pb2 import (
    ApplicationSessionContext,
    ChargingSpecification,
    M1QosSpecification,
    PolicyTemplate,
)
from nf.cli.demo.slices import Slice
from nf.client.dynamic_policy import DynamicPolicyHandler, Flow
from nf.client.m5_grpc import GrpcM5
from nf.client.provider import Provider
from nf.common.channels import Channels
from nf.common.clock import Clock
from nf.common.errors import DeadlineExceeded, Unavailable
from nf.common.v1.events_pb2 import Event
from nf.common.v1.types_pb2 import (
    ENFORCEMENT_METHOD_MONITOR,
    ENFORCEMENT_METHOD_POLICE,
    SPONSORING_STATUS_SPONSOR_ENABLED,
    EnforcementMethod,
    Snssai,
    Usage,
    Volume,
)
from nf.pcf.v1.operator_policies_pb2 import (
    CreateOperatorPolicyRequest,
    DeleteOperatorPolicyRequest,
    OperatorPolicy,
)
from nf.pcf.v1.operator_policies_pb2_grpc import OperatorPoliciesServiceStub
from nf.smf.v1.pdu_session_pb2 import CreatePduSessionRequest, PduSession, ReleasePduSessionRequest
from nf.smf.v1.pdu_session_pb2_grpc import PduSessionsServiceStub
from upf.counters import FlowCounters
from upf.sdf import PORT_PROTOCOLS, UNKNOWN_PROTOCOL
from upf.traffic.v1.traffic_pb2 import Flow as TreatedFlow
from upf.traffic.v1.traffic_pb2 import ReplayRequest
from upf.traffic.v1.traffic_pb2_grpc import TrafficServiceStub

if TYPE_CHECKING:
    from upf.traffic.v1.traffic_pb2_grpc import TrafficServiceAsyncStub

NETWORK_POLICY_ID: Final = "conditional-zero-rating"
DNN: Final = "internet"
SPONSOR: Final = "media-provider"
METHODS: Final[Mapping[str, EnforcementMethod.ValueType]] = {
    "monitor": ENFORCEMENT_METHOD_MONITOR,
    "police": ENFORCEMENT_METHOD_POLICE,
}

_PIECE_BYTES: Final = 1 << 20
# How long the last usage report may take from the UPF to the provider.
_REPORT_WAIT_S: Final = 15.0

FiveTuple = tuple[str, str, int, int, int]
"""(source address, destination address, protocol, source port, destination port)."""


@dataclass(frozen=True, slots=True)
class MediaSession:
    """What is played: the capture in slices, the UE that it goes to, the threshold, the depth of the bucket."""

    pieces: Sequence[Slice]
    ue_address: str
    rate_bps: int
    burst_bytes: int | None


@dataclass(slots=True)
class FlowAccount:
    """One downlink flow of the media session: what it offered and what became of it."""

    five_tuple: FiveTuple
    first_ns: int
    last_ns: int
    offered_bytes: int = 0
    conforming_bytes: int = 0
    exceeding_bytes: int = 0
    dropped_bytes: int = 0

    @property
    def passed_bytes(self) -> int:
        """What went on to the UE."""
        return self.conforming_bytes + self.exceeding_bytes


@dataclass(slots=True)
class Story:
    """What happened, for those who tell it. ``usage`` and the rated bytes are what came back to the provider."""

    mode: str
    ue_address: str
    policy: DynamicPolicy
    flows: list[FlowAccount]
    events: list[Event] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    zero_rated_bytes: int = 0
    charged_bytes: int = 0
    other: Volume = field(default_factory=Volume)
    heard: asyncio.Event = field(default_factory=asyncio.Event)


async def play(
    channels: Channels,
    clock: Clock,
    media: MediaSession,
    *,
    mode: str,
    narrate: Callable[[str], None],
) -> Story:
    """Plays the story once in ``mode`` ("monitor" or "police"); leaves nothing behind. ``narrate`` is told each step.

    Raises CastcoreError when a function refuses, DeadlineExceeded when what was measured does not come back.
    """
    operator = OperatorPoliciesServiceStub(channels.get("pcf"))
    policy_id = f"demo-{mode}"
    await operator.CreateOperatorPolicy(
        CreateOperatorPolicyRequest(
            operator_policy=OperatorPolicy(
                operator_policy_id=policy_id,
                dnn=DNN,
                sponsor_id=SPONSOR,
                threshold_dl_bps=media.rate_bps,
                enforcement_method=METHODS[mode],
                burst_bytes=media.burst_bytes,
            )
        )
    )
    provider = Provider(channels.get("af"))
    session = await provider.provision_session("demo-player", asp_id="demo-provider")
    try:
        template = await provider.ready(
            await provider.create_template(session.provisioning_session_id, _template(media.rate_bps))
        )
        narrate(f"step 1   policy template {template.policy_template_id[:8]} is READY ({NETWORK_POLICY_ID})")
        attached = await _attach(channels, mode, media.ue_address)
        narrate(f"         UE {media.ue_address} is attached to {DNN}")
        try:
            handler = DynamicPolicyHandler(GrpcM5(channels.get("af"), ue_address=media.ue_address), clock)
            return await _media_session(
                channels, provider, handler, session.provisioning_session_id, media, mode, narrate
            )
        finally:
            await _release(channels, attached)
    finally:
        await provider.destroy_session(session.provisioning_session_id)
        await operator.DeleteOperatorPolicy(DeleteOperatorPolicyRequest(operator_policy_id=policy_id))


async def _media_session(
    channels: Channels,
    provider: Provider,
    handler: DynamicPolicyHandler,
    provisioning_session_id: str,
    media: MediaSession,
    mode: str,
    narrate: Callable[[str], None],
) -> Story:
    flows = [[_flow(flow) for flow in piece.flows] for piece in media.pieces]
    policy = await handler.activate(provisioning_session_id, NETWORK_POLICY_ID, flows[0])
    method = EnforcementMethod.Name(policy.enforcement_method).removeprefix("ENFORCEMENT_METHOD_")
    narrate(
        f"step 6-7 dynamic policy {policy.dynamic_policy_id[:8]}: {method} at {policy.enforcement_bit_rate_bps:,} bit/s"
    )
    story = Story(mode, media.ue_address, policy, _accounts(media.pieces))
    listening = asyncio.create_task(_listen(provider, story))
    try:
        await _send(TrafficServiceStub(channels.get("upf")), handler, media.pieces, flows, story, narrate)
        await _await_usage(story, listening)
    finally:
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening
    await handler.deactivate()
    return story


async def _send(
    traffic: TrafficServiceAsyncStub,
    handler: DynamicPolicyHandler,
    pieces: Sequence[Slice],
    flows: Sequence[Sequence[Flow]],
    story: Story,
    narrate: Callable[[str], None],
) -> None:
    """Slice by slice: the connections that are open now are told to the network, then their packets cross the UPF."""
    accounts = {account.five_tuple: account for account in story.flows}
    uplinks = {(dst, src, protocol, dport, sport) for src, dst, protocol, sport, dport in accounts}
    for piece, opened in zip(pieces, flows, strict=True):
        before = handler.flows
        await handler.set_flows(opened)
        _narrate_changes(before, handler.flows, narrate)
        answer = await traffic.Replay(_pieces(piece.capture), timeout=600)
        story.other.packets += answer.unmatched.packets
        story.other.bytes += answer.unmatched.bytes
        for flow in answer.flows:
            account = accounts.get(_five_tuple_of(flow))
            if account is not None:
                account.offered_bytes += flow.volume.offered.bytes
                account.conforming_bytes += flow.volume.conforming.bytes
                account.exceeding_bytes += flow.volume.exceeding.bytes
                account.dropped_bytes += flow.volume.dropped.bytes
            elif _five_tuple_of(flow) not in uplinks:
                story.other.packets += flow.volume.offered.packets
                story.other.bytes += flow.volume.offered.bytes


def _narrate_changes(before: Sequence[Flow], after: Sequence[Flow], narrate: Callable[[str], None]) -> None:
    opened = [flow for flow in after if flow not in before]
    closed = [flow for flow in before if flow not in after]
    if opened or closed:
        narrate(f"step 7   {len(opened)} flows opened, {len(closed)} closed: {len(after)} under the policy")


async def _pieces(capture: bytes) -> AsyncIterator[ReplayRequest]:
    for at in range(0, len(capture), _PIECE_BYTES):
        yield ReplayRequest(capture=capture[at : at + _PIECE_BYTES])


async def _listen(provider: Provider, story: Story) -> None:
    """Keeps up with what the AF tells the provider about the policy."""
    subject = f"dynamic-policies/{story.policy.dynamic_policy_id}"
    async for event in provider.watch(subject=subject):
        story.events.append(event)
        usage, changed = DynamicPolicyUsage(), DynamicPolicyStateChanged()
        if event.type == "USAGE_REPORT" and event.payload.Unpack(usage):
            story.usage, story.zero_rated_bytes = usage.usage, usage.zero_rated_bytes
            story.charged_bytes = usage.charged_bytes
        elif event.payload.Unpack(changed):
            story.policy = changed.dynamic_policy
        story.heard.set()


async def _await_usage(story: Story, listening: asyncio.Task[None]) -> None:
    """Returns when all that the UPF has seen of the media session has been told to the provider."""
    sent_bytes = sum(account.offered_bytes for account in story.flows)
    listening.add_done_callback(lambda _: story.heard.set())
    try:
        async with asyncio.timeout(_REPORT_WAIT_S):
            while story.usage.downlink.offered.bytes < sent_bytes:
                if listening.done():
                    listening.result()
                    raise Unavailable("the AF has stopped telling what it measures")
                story.heard.clear()
                await story.heard.wait()
    except TimeoutError:
        raise DeadlineExceeded(
            f"of {sent_bytes:,} bytes sent, {story.usage.downlink.offered.bytes:,} came back as usage "
            f"within {_REPORT_WAIT_S:.0f} s"
        ) from None


async def _attach(channels: Channels, mode: str, ue_address: str) -> str:
    wanted = PduSession(
        sm_context_ref=f"demo-{mode}", supi="imsi-001010000000001", gpsi="msisdn-15550100", pdu_session_id=1, dnn=DNN,
        s_nssai=Snssai(sst=1),
    )  # fmt: skip
    if ":" in ue_address:
        wanted.ue_ipv6_prefix = str(IPv6Network((ue_address, 64), strict=False))
    else:
        wanted.ue_ipv4_address = ue_address
    answer = await PduSessionsServiceStub(channels.get("smf")).CreatePduSession(
        CreatePduSessionRequest(pdu_session=wanted)
    )
    return answer.pdu_session.sm_context_ref


async def _release(channels: Channels, sm_context_ref: str) -> None:
    await PduSessionsServiceStub(channels.get("smf")).ReleasePduSession(
        ReleasePduSessionRequest(sm_context_ref=sm_context_ref)
    )


def _template(rate_bps: int) -> PolicyTemplate:
    return PolicyTemplate(
        external_reference=NETWORK_POLICY_ID,
        qos_specification=M1QosSpecification(max_btr_dl_bps=rate_bps, max_auth_btr_dl_bps=rate_bps),
        application_session_context=ApplicationSessionContext(dnn=DNN, slice_info=Snssai(sst=1)),
        charging_specification=ChargingSpecification(spon_id=SPONSOR, spon_status=SPONSORING_STATUS_SPONSOR_ENABLED),
        service_description_id="sd-compliant",
    )


def _accounts(pieces: Sequence[Slice]) -> list[FlowAccount]:
    accounts: dict[FiveTuple, FlowAccount] = {}
    for piece in pieces:
        for flow in piece.flows:
            account = accounts.setdefault(
                _five_tuple(flow), FlowAccount(_five_tuple(flow), flow.first_ns, flow.last_ns)
            )
            account.last_ns = max(account.last_ns, flow.last_ns)
    return list(accounts.values())


def _five_tuple(flow: FlowCounters) -> FiveTuple:
    return str(flow.source), str(flow.destination), flow.protocol, flow.source_port, flow.destination_port


def _five_tuple_of(flow: TreatedFlow) -> FiveTuple:
    return flow.src_ip, flow.dst_ip, flow.protocol, flow.src_port, flow.dst_port


def _flow(flow: FlowCounters) -> Flow:
    """The flow as its Media Session Handler describes it; ports only where the protocol has them and they are known."""
    ports = flow.ports_known and flow.protocol in PORT_PROTOCOLS
    known_protocol = flow.ports_known or flow.protocol != UNKNOWN_PROTOCOL
    return Flow(
        remote_ip=str(flow.source),
        remote_port=flow.source_port if ports else None,
        ue_port=flow.destination_port if ports else None,
        protocol=flow.protocol if known_protocol else None,
        ue_ip=str(flow.destination),
    )
