"""TS 26.512 A.3.2 from step 1 to step 9 with a DASH player: real segments over HTTP, which cross the UPF.

The title is played twice: by a player that keeps to the service descriptor filter, and by one that ignores it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from nf.af.v1.media_session_pb2 import DynamicPolicy, DynamicPolicyUsage, ServiceDescriptorFilter
from nf.af.v1.provisioning_pb2 import (
    ApplicationSessionContext,
    ChargingSpecification,
    M1QosSpecification,
    MediaEntryPoint,
    PolicyTemplate,
)
from nf.cli.demo import dash_content, dash_network
from nf.cli.demo.dash_client import ToldM5, ToldPlayer
from nf.cli.demo.dash_content import Title
from nf.client import m8
from nf.client.c1 import MediaClient
from nf.client.dash import annotation
from nf.client.dash.player import PACED_BUFFER_BYTES
from nf.client.dash.results import Results
from nf.client.dash.settings import Settings
from nf.client.m5_connect import connect
from nf.client.m8 import M8
from nf.client.provider import Provider
from nf.common.channels import Channels
from nf.common.clock import Clock
from nf.common.dash.parsing import parse
from nf.common.errors import FailedPrecondition
from nf.common.v1.types_pb2 import (
    ENFORCEMENT_METHOD_MONITOR,
    ENFORCEMENT_METHOD_POLICE,
    SPONSORING_STATUS_SPONSOR_ENABLED,
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


async def tell_story(channels: Channels, http: str, clock: Clock, terms: Terms, tell: Callable[[str], None]) -> Story:
    """The whole story, within the network that has been made before. Raises CastcoreError.

    ``channels`` lead to the functions, ``http`` is where their HTTP doors are.
    """
    title = dash_content.synthesise(dash_network.STATE / "media", terms.seconds)
    story = Story(terms.mode, title)
    narrator = _Narrator(story, tell)
    provisioning_session_id = await _provision(channels, terms, narrator)
    _annotate(title.directory / dash_content.MPD, terms.rate_bps, narrator)
    await _attach(channels)
    async with dash_network.content_server(title.directory) as url:
        document = _m8(url, http, provisioning_session_id)
        narrator.step(
            3,
            f"the 5GMS-Aware Application is configured via M8: catalogue {document.catalogue[0].title_id}, Network "
            f"Policy Id {NETWORK_POLICY_ID!r} with its Service Access Information URL",
        )
        for ignore_filter in (False, True):
            play = Play(ignore_filter)
            story.plays.append(play)
            tell("")
            await _play(clock, document, play, narrator)
            await _account(Provider(channels.get("af")), play)
    return story


def _m8(url: str, http: str, provisioning_session_id: str) -> M8:
    """What the application has from the provider (step 3), as a document of its own."""
    document = {
        "catalogue": [{"titleId": "Title1", "entryPoints": [{"locator": f"{url}/{dash_content.MPD}"}]}],
        "policyDescriptions": [
            {
                "networkPolicyId": NETWORK_POLICY_ID,
                "serviceAccessInformationUrl": (
                    f"{http}/3gpp-m5/v2/service-access-information/{provisioning_session_id}"
                ),
            }
        ],
    }
    return m8.parse(json.dumps(document))


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


async def _play(clock: Clock, document: M8, play: Play, narrator: _Narrator) -> None:
    title = document.catalogue[0]
    kind = "ignores the filter" if play.ignore_filter else "keeps to the filter"
    narrator.step(4, f"the user selects {title.title_id!r}; this player {kind}")
    narrator.step(
        5, f"the 5GMS-Aware Application hands over (C1) {title.entry} and the Network Policy Id {NETWORK_POLICY_ID!r}"
    )
    settings = Settings(buffer_s=_BUFFER_S, resume_s=_RESUME_S, ignore_filter=play.ignore_filter)
    opener = dash_network.opener(None if play.ignore_filter else PACED_BUFFER_BYTES)
    player = ToldPlayer(clock, settings, opener, narrator.step)
    async with MediaClient(
        document,
        client_id="msisdn-15550100",
        player=lambda: player,
        clock=clock,
        connect_m5=lambda url: ToldM5(connect(url, ue_address=dash_network.UE), NETWORK_POLICY_ID, narrator.step),
    ) as client:
        playback = await client.play(title, network_policy_id=NETWORK_POLICY_ID)
        if playback.policy is None:
            raise playback.policy_error or FailedPrecondition("the AF has activated no dynamic policy")
        play.policy = playback.policy
        await playback.ended()
        await playback.stop()
        if playback.error is not None:
            raise playback.error
    play.results, play.descriptor_filter, play.compliant = player.results, player.told, player.compliant


async def _account(provider: Provider, play: Play) -> None:
    """The last that the AF has told of the policy, which has ended."""
    subject = f"dynamic-policies/{play.policy.dynamic_policy_id}"
    async for event in provider.watch(subject=subject, no_follow=True):
        usage = DynamicPolicyUsage()
        if event.payload.Unpack(usage):
            play.usage = usage
            play.exceeded = play.exceeded or not usage.compliant
