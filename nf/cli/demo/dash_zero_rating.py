"""TS 26.512 A.3.2 from step 1 to step 9 with a DASH player: real segments over HTTP, which cross the UPF.

The title is played twice: by a player that keeps to the service descriptor filter, and by one that ignores it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urljoin

from nf.af.v1.media_session_pb2 import DynamicPolicy, DynamicPolicyUsage, ServiceDescriptorFilter
from nf.af.v1.provisioning_pb2 import (
    ApplicationSessionContext,
    ChargingSpecification,
    M1QosSpecification,
    MediaEntryPoint,
    PolicyTemplate,
)
from nf.cli.demo import dash_content, dash_network
from nf.cli.demo.dash_content import Title
from nf.client.dash import annotation
from nf.client.dash.combinations import adaptation_sets, allowed, bounds_of, combinations
from nf.client.dash.descriptor_filters import from_message, from_policy
from nf.client.dash.parsing import parse
from nf.client.dash.player import PACED_BUFFER_BYTES, DashPlayer
from nf.client.dash.results import Results
from nf.client.dash.settings import Settings
from nf.client.dynamic_policy import DynamicPolicyHandler, Flow
from nf.client.m5_grpc import GrpcM5
from nf.client.m7 import Connection, Preferences
from nf.client.provider import Provider
from nf.client.service_access import ServiceAccess
from nf.common.channels import Channels
from nf.common.clock import Clock
from nf.common.v1.types_pb2 import (
    ENFORCEMENT_METHOD_MONITOR,
    ENFORCEMENT_METHOD_POLICE,
    SPONSORING_STATUS_SPONSOR_ENABLED,
    EnforcementMethod,
    Snssai,
)
from nf.pcf.v1.operator_policies_pb2 import CreateOperatorPolicyRequest, OperatorPolicy
from nf.pcf.v1.operator_policies_pb2_grpc import OperatorPoliciesServiceStub
from nf.smf.v1.pdu_session_pb2 import CreatePduSessionRequest, PduSession
from nf.smf.v1.pdu_session_pb2_grpc import PduSessionsServiceStub
from upf.units import LIVE_BURST_MS, default_burst_bytes, format_bit_rate

NETWORK_POLICY_ID: Final = "conditional-zero-rating"
SERVICE_DESCRIPTION: Final = 1
_DNN: Final = "internet"
_SPONSOR: Final = "media-provider"
_METHODS: Final = {"monitor": ENFORCEMENT_METHOD_MONITOR, "police": ENFORCEMENT_METHOD_POLICE}
_BUFFER_S: Final = 6.0
_RESUME_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Step:
    """A step of A.3.2 as it was taken; ``play`` is the number of the play, 0 before the first."""

    number: int
    play: int
    text: str


@dataclass(slots=True)
class Play:
    """One play of the title: what the player did, what the network says of it."""

    ignore_filter: bool
    results: Results = field(default_factory=Results)
    policy: DynamicPolicy = field(default_factory=DynamicPolicy)
    descriptor_filter: ServiceDescriptorFilter = field(default_factory=ServiceDescriptorFilter)
    compliant: tuple[str, ...] = ()
    usage: DynamicPolicyUsage = field(default_factory=DynamicPolicyUsage)
    exceeded: bool = False
    flows: int = 0


@dataclass(slots=True)
class Story:
    """All that happened."""

    mode: str
    title: Title
    steps: list[Step] = field(default_factory=list)
    plays: list[Play] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Terms:
    """What the operator lays down, and how long the title is."""

    rate_bps: int
    mode: str
    seconds: int
    burst_bytes: int | None = None


class _Narrator:
    """Keeps the steps, and tells each."""

    def __init__(self, story: Story, tell: Callable[[str], None]) -> None:
        self._story = story
        self._tell = tell

    def step(self, number: int, text: str) -> None:
        self._story.steps.append(Step(number, len(self._story.plays), text))
        self._tell(f"step {number}   {text}")

    def line(self, text: str) -> None:
        self._tell(f"         {text}")


async def tell_story(channels: Channels, clock: Clock, terms: Terms, tell: Callable[[str], None]) -> Story:
    """The whole story, within the network that has been made before. Raises CastcoreError."""
    title = dash_content.synthesise(dash_network.STATE / "media", terms.seconds)
    story = Story(terms.mode, title)
    narrator = _Narrator(story, tell)
    provisioning_session_id = await _provision(channels, terms, narrator)
    _annotate(title.directory / dash_content.MPD, terms.rate_bps, narrator)
    await _attach(channels)
    async with dash_network.content_server(title.directory) as url:
        m8 = _m8(url, provisioning_session_id)
        narrator.step(
            3,
            f"the 5GMS-Aware Application is configured via M8: catalogue {', '.join(m8.catalogue)}, "
            f"Network Policy Id {m8.network_policy_id!r}",
        )
        for ignore_filter in (False, True):
            play = Play(ignore_filter)
            story.plays.append(play)
            tell("")
            await _play(channels, clock, m8, play, narrator)
    return story


@dataclass(frozen=True, slots=True)
class _M8:
    """What the application has from the provider (step 3)."""

    catalogue: dict[str, str]
    network_policy_id: str
    provisioning_session_id: str


def _m8(url: str, provisioning_session_id: str) -> _M8:
    return _M8({"Title1": urljoin(f"{url}/", dash_content.MPD)}, NETWORK_POLICY_ID, provisioning_session_id)


async def _provision(channels: Channels, terms: Terms, narrator: _Narrator) -> str:
    burst_bytes = terms.burst_bytes or default_burst_bytes(terms.rate_bps, LIVE_BURST_MS)
    await OperatorPoliciesServiceStub(channels.get("pcf")).CreateOperatorPolicy(
        CreateOperatorPolicyRequest(
            operator_policy=OperatorPolicy(
                operator_policy_id="demo-dash",
                dnn=_DNN,
                sponsor_id=_SPONSOR,
                threshold_dl_bps=terms.rate_bps,
                enforcement_method=_METHODS[terms.mode],
                burst_bytes=burst_bytes,
            )
        )
    )
    narrator.line(
        f"the operator's policy: {terms.mode.upper()} at {format_bit_rate(terms.rate_bps)}, burst {burst_bytes:,} bytes"
    )
    provider = Provider(channels.get("af"))
    session = await provider.provision_session(
        "demo-player",
        asp_id="demo-provider",
        entry_points=[
            MediaEntryPoint(
                locator=f"http://{dash_network.SERVER}/{dash_content.MPD}", content_type="application/dash+xml"
            )
        ],
    )
    template = PolicyTemplate(
        external_reference=NETWORK_POLICY_ID,
        qos_specification=M1QosSpecification(max_btr_dl_bps=terms.rate_bps, max_auth_btr_dl_bps=terms.rate_bps),
        application_session_context=ApplicationSessionContext(dnn=_DNN, slice_info=Snssai(sst=1)),
        charging_specification=ChargingSpecification(spon_id=_SPONSOR, spon_status=SPONSORING_STATUS_SPONSOR_ENABLED),
        service_description_id=str(SERVICE_DESCRIPTION),
    )
    ready = await provider.ready(await provider.create_template(session.provisioning_session_id, template))
    narrator.step(
        1,
        f"the 5GMS Application Provider sets up Policy Template {ready.policy_template_id[:8]} at the 5GMS AF (M1): "
        f"READY, external reference {NETWORK_POLICY_ID!r}",
    )
    return session.provisioning_session_id


def _annotate(path: Path, rate_bps: int, narrator: _Narrator) -> None:
    document = path.read_bytes()
    plan = annotation.plan(parse(document, name=path.name), [rate_bps], [SERVICE_DESCRIPTION])
    path.write_bytes(annotation.annotate(document, plan, name=path.name))
    target_bps = plan[0].target_bps
    best = "no combination complies" if target_bps is None else f"the best that complies {format_bit_rate(target_bps)}"
    narrator.step(
        2,
        f"the DASH MPD is annotated with Service Description {SERVICE_DESCRIPTION}: OperatingBandwidth at most "
        f"{format_bit_rate(rate_bps)}, {best}",
    )


async def _attach(channels: Channels) -> None:
    session = PduSession(
        sm_context_ref="demo-dash",
        supi="imsi-001010000000001",
        pdu_session_id=1,
        dnn=_DNN,
        s_nssai=Snssai(sst=1),
        ue_ipv4_address=dash_network.UE,
    )
    await PduSessionsServiceStub(channels.get("smf")).CreatePduSession(CreatePduSessionRequest(pdu_session=session))


class _MediaSession:
    """The Media Session Handler's side of one play: it listens to the player, and keeps the network told (M7, M5)."""

    def __init__(self, handler: DynamicPolicyHandler, access: ServiceAccess, m8: _M8, narrator: _Narrator) -> None:
        self._handler = handler
        self._access = access
        self._m8 = m8
        self._narrator = narrator
        self._open: list[Flow] = []
        self._updates: set[asyncio.Task[object]] = set()
        self.opened = 0

    def media_changed(self, medium: str, media_consumed: str | None, connection: Connection | None = None) -> None:
        """Told as the player goes."""
        if media_consumed is not None and medium == "video":
            self._narrator.line(f"the DASH Player plays {media_consumed}")

    async def connection_opened(self, connection: Connection) -> None:
        """The first one activates the policy; every one is under it before it carries anything."""
        self._open.append(Flow.of(connection))
        self.opened += 1
        client, server = connection.client, connection.server
        told = f"{server.address}:{server.port} > {client.address}:{client.port}"
        if self._handler.policy is None:
            await self._activate(told)
        else:
            await self._handler.set_flows(self._open)
            self._narrator.step(
                7, f"the Dynamic Policy is updated with a newly opened TCP connection: {told}, {len(self._open)} in all"
            )

    def connection_closed(self, connection: Connection) -> None:
        """The rest stay under the policy; it goes with the last one, when it is deactivated."""
        closed = Flow.of(connection)
        self._open = [each for each in self._open if each != closed]
        if self._open and self._handler.policy is not None:
            self._updates.add(task := asyncio.ensure_future(self._handler.set_flows(self._open)))
            task.add_done_callback(self._updates.discard)

    def preferences_changed(self, preferences: Preferences) -> None:
        """Nothing is reported in this demo."""

    def stopped(self) -> None:
        """The end is awaited elsewhere."""

    def failed(self, error: Exception) -> None:
        """The failure is raised elsewhere."""

    async def settled(self) -> None:
        """Returns when the network knows what is open."""
        if self._updates:
            await asyncio.wait(self._updates)

    async def _activate(self, told: str) -> None:
        m8, handler = self._m8, self._handler
        binding = await self._access.policy_description(m8.provisioning_session_id, m8.network_policy_id)
        self._narrator.step(
            6,
            f"the Media Session Handler finds the Policy Description by {m8.network_policy_id!r} in the Service Access "
            f"Information (M5): Policy Template {binding.policy_template_id[:8]}",
        )
        policy = await handler.activate(m8.provisioning_session_id, m8.network_policy_id, self._open)
        method = EnforcementMethod.Name(policy.enforcement_method).removeprefix("ENFORCEMENT_METHOD_")
        found = from_policy(policy)
        assert found is not None
        wanted, way = found
        self._narrator.step(
            7,
            f"the Media Session Handler activates Dynamic Policy {policy.dynamic_policy_id[:8]} on M5 for {told}: "
            f"{method} at {format_bit_rate(policy.enforcement_bit_rate_bps)}",
        )
        most = (
            "any" if wanted.operating_bandwidth_max_bps is None else format_bit_rate(wanted.operating_bandwidth_max_bps)
        )
        self._narrator.step(
            7,
            f"it notifies the DASH Player of the Service Descriptor Filter ({way.value}): Service Description "
            f"{wanted.service_description_id or 'any'}, at most {most}",
        )


async def _play(channels: Channels, clock: Clock, m8: _M8, play: Play, narrator: _Narrator) -> None:
    title, entry = next(iter(m8.catalogue.items()))
    kind = "ignores the filter" if play.ignore_filter else "keeps to the filter"
    narrator.step(4, f"the user selects {title!r}; this player {kind}")
    narrator.step(
        5, f"the 5GMS-Aware Application hands over (C1) {entry} and Network Policy Id {m8.network_policy_id!r}"
    )
    settings = Settings(buffer_s=_BUFFER_S, resume_s=_RESUME_S, ignore_filter=play.ignore_filter)
    buffer_bytes = None if play.ignore_filter else PACED_BUFFER_BYTES
    player = DashPlayer(clock, settings, opener=dash_network.opener(buffer_bytes))
    m5 = GrpcM5(channels.get("af"), ue_address=dash_network.UE)
    access = ServiceAccess(m5, clock)

    def on_filter(told: ServiceDescriptorFilter | None) -> None:
        if told is not None:
            play.descriptor_filter = told
        player.set_filter(told)

    handler = DynamicPolicyHandler(m5, clock, on_filter=on_filter, access=access)
    session = _MediaSession(handler, access, m8, narrator)
    try:
        await player.start(entry, session)
        _tell_choice(player, play, narrator)
        play.policy = handler.policy or DynamicPolicy()
        await player.finished()
    finally:
        await player.stop()
        await session.settled()
        play.results, play.flows = player.results, session.opened
        if handler.policy is not None:
            await handler.deactivate()
    await _account(Provider(channels.get("af")), play)


def _tell_choice(player: DashPlayer, play: Play, narrator: _Narrator) -> None:
    presentation = player.presentation
    assert presentation is not None
    narrator.step(8, f"the DASH Player fetches the MPD of the selected content: {presentation.url}")
    candidates = combinations(adaptation_sets(presentation.periods[0]))
    bounds = bounds_of(presentation.service_descriptions, from_message(play.descriptor_filter))
    found = allowed(candidates, bounds)
    compliant = found.combinations if found.compliant else ()
    play.compliant = tuple(each.ids[0] for each in compliant)
    named = f"Service Description {bounds.service_description.id}" if bounds.service_description else "the bit rate"
    chosen = f"{len(compliant)} of {len(candidates)} combinations of representations comply with {named}"
    if play.ignore_filter:
        narrator.step(9, f"{chosen}, and the DASH Player ignores it: it takes whatever the network carries")
    else:
        narrator.step(9, f"{chosen} ({_names(play.compliant)}): the DASH Player selects only these")


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


async def _account(provider: Provider, play: Play) -> None:
    """The last that the AF has told of the policy, which has ended."""
    subject = f"dynamic-policies/{play.policy.dynamic_policy_id}"
    async for event in provider.watch(subject=subject, no_follow=True):
        usage = DynamicPolicyUsage()
        if event.payload.Unpack(usage):
            play.usage = usage
            play.exceeded = play.exceeded or not usage.compliant
