"""The provider, the operator and the UE of ``live-zero-rating.sh``, which starts the core and the server before.

The player fetches the segments of a DASH presentation one by one, over one connection from the host ``ue``. After some
of them its Media Session Handler activates the policy for that connection (TS 26.512 A.3.2), and plays on.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import socket
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from math import ceil
from urllib.parse import urljoin, urlsplit

from nf.af.v1.media_session_pb2 import DynamicPolicy, DynamicPolicyUsage
from nf.af.v1.provisioning_pb2 import (
    ApplicationSessionContext,
    ChargingSpecification,
    M1QosSpecification,
    PolicyTemplate,
)
from nf.client.dynamic_policy import DynamicPolicyHandler, Flow
from nf.client.m5_grpc import GrpcM5
from nf.client.provider import Provider
from nf.common.channels import Channels
from nf.common.clock import SystemClock
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
from upf.live.namespaces import in_namespace
from upf.units import format_bit_rate, parse_bit_rate

NETWORK_POLICY_ID = "zero-rating"
SPONSOR = "media-provider"
DNN = "internet"
TCP = 6
METHODS = {"police": ENFORCEMENT_METHOD_POLICE, "monitor": ENFORCEMENT_METHOD_MONITOR}
DASH = {"": "urn:mpeg:dash:schema:mpd:2011"}


@dataclass(frozen=True)
class Segment:
    """A segment as the player received it; ``bytes`` are those of its file."""

    number: int
    bytes: int
    elapsed_s: float
    under_policy: bool

    @property
    def rate_bps(self) -> float:
        """As the player sees it: nothing of headers."""
        return self.bytes * 8 / self.elapsed_s


@dataclass(frozen=True)
class Usage:
    """What the provider is told of the policy in the end, in bytes of IP packets of the downlink."""

    offered_bytes: int
    dropped_bytes: int
    zero_rated_bytes: int
    charged_bytes: int


class Player:
    """Fetches what a manifest lists, over one connection of the host ``ue``."""

    def __init__(self, manifest: str) -> None:
        url = urlsplit(manifest)
        assert url.hostname is not None
        self._manifest = manifest
        self._http = http.client.HTTPConnection(url.hostname, url.port or 80)
        # The socket is the UE's, whoever reads from it.
        self._http.sock = in_namespace("ue", socket.create_connection, (url.hostname, url.port or 80), 60)

    def flow(self) -> Flow:
        """The connection as its Media Session Handler describes it."""
        (ue_ip, ue_port), (remote_ip, remote_port) = self._http.sock.getsockname(), self._http.sock.getpeername()
        return Flow(remote_ip, remote_port, ue_port, TCP, ue_ip)

    def segments(self) -> list[str]:
        """The addresses of all segments, in their order."""
        presentation = ET.fromstring(self._fetch(self._manifest))
        template = presentation.find(".//SegmentTemplate", DASH)
        assert template is not None
        length_s = float(presentation.attrib["mediaPresentationDuration"].removeprefix("PT").removesuffix("S"))
        count = ceil(length_s * int(template.attrib["timescale"]) / int(template.attrib["duration"]))
        first = int(template.attrib["startNumber"])
        names = [template.attrib["media"].replace("$Number$", str(first + each)) for each in range(count)]
        return [urljoin(self._manifest, name) for name in names]

    def segment(self, number: int, address: str, *, under_policy: bool) -> Segment:
        """Fetches one, and says how long it took."""
        started = time.monotonic()
        length = len(self._fetch(address))
        return Segment(number, length, time.monotonic() - started, under_policy)

    def close(self) -> None:
        """Ends the connection."""
        self._http.close()

    def _fetch(self, address: str) -> bytes:
        self._http.request("GET", urlsplit(address).path)
        answer = self._http.getresponse()
        assert answer.status == 200, f"{address}: {answer.status} {answer.reason}"
        return answer.read()


async def provisioned(channels: Channels, rate_bps: int, mode: str) -> str:
    """The operator lays down the threshold and how it is enforced, the provider asks for it: a provisioning session."""
    policy = OperatorPolicy(
        operator_policy_id="live",
        dnn=DNN,
        sponsor_id=SPONSOR,
        threshold_dl_bps=rate_bps,
        enforcement_method=METHODS[mode],
    )
    await OperatorPoliciesServiceStub(channels.get("pcf")).CreateOperatorPolicy(
        CreateOperatorPolicyRequest(operator_policy=policy)
    )
    provider = Provider(channels.get("af"))
    session = await provider.provision_session("player", asp_id="provider")
    template = PolicyTemplate(
        external_reference=NETWORK_POLICY_ID,
        qos_specification=M1QosSpecification(max_btr_dl_bps=rate_bps),
        application_session_context=ApplicationSessionContext(dnn=DNN, slice_info=Snssai(sst=1)),
        charging_specification=ChargingSpecification(spon_id=SPONSOR, spon_status=SPONSORING_STATUS_SPONSOR_ENABLED),
    )
    await provider.ready(await provider.create_template(session.provisioning_session_id, template))
    return session.provisioning_session_id


async def attach(channels: Channels, ue: str) -> None:
    """From here on packets of the UE pass."""
    session = PduSession(
        sm_context_ref="ue-1",
        supi="imsi-001010000000001",
        pdu_session_id=1,
        dnn=DNN,
        s_nssai=Snssai(sst=1),
        ue_ipv4_address=ue,
    )
    await PduSessionsServiceStub(channels.get("smf")).CreatePduSession(CreatePduSessionRequest(pdu_session=session))


async def play(
    player: Player, handler: DynamicPolicyHandler, provisioning_session_id: str, segments_before: int
) -> AsyncIterator[Segment | DynamicPolicy]:
    """Every segment as it has come, and the policy where it is activated."""
    addresses = await asyncio.to_thread(player.segments)
    for number, address in enumerate(addresses, start=1):
        if number == segments_before + 1:
            yield await handler.activate(provisioning_session_id, NETWORK_POLICY_ID, [player.flow()])
        under_policy = handler.policy is not None
        yield await asyncio.to_thread(player.segment, number, address, under_policy=under_policy)


async def usage_of(provider: Provider, dynamic_policy_id: str) -> Usage:
    """The last that the AF has told of a policy that has ended."""
    usage = DynamicPolicyUsage()
    async for event in provider.watch(subject=f"dynamic-policies/{dynamic_policy_id}", no_follow=True):
        event.payload.Unpack(usage)
    downlink = usage.usage.downlink
    return Usage(downlink.offered.bytes, downlink.dropped.bytes, usage.zero_rated_bytes, usage.charged_bytes)


def tell(step: Segment | DynamicPolicy) -> None:
    """A line for people."""
    if isinstance(step, DynamicPolicy):
        print(f"the policy is active: {format_bit_rate(step.enforcement_bit_rate_bps)}", flush=True)
        return
    note = "under the policy" if step.under_policy else ""
    print(f"segment {step.number:>3}  {step.bytes:,} bytes  {step.rate_bps / 10**6:8.1f} Mbit/s  {note}", flush=True)


async def main(options: argparse.Namespace) -> None:
    """The whole story, told as it goes, or at the end with ``--json``."""
    rate_bps = parse_bit_rate(options.rate)
    channels = Channels(json.loads(options.core)["grpc"])
    provisioning_session_id = await provisioned(channels, rate_bps, options.mode)
    await attach(channels, options.ue)
    player = Player(options.manifest)
    handler = DynamicPolicyHandler(GrpcM5(channels.get("af"), ue_address=options.ue), SystemClock())
    segments: list[Segment] = []
    policy: DynamicPolicy | None = None
    activated_s = 0.0
    async for step in play(player, handler, provisioning_session_id, options.segments_before):
        if isinstance(step, Segment):
            segments.append(step)
        else:
            policy, activated_s = step, time.monotonic()
        if not options.json:
            tell(step)
    policy_elapsed_s = time.monotonic() - activated_s
    player.close()
    if policy is None:
        sys.exit(f"{options.manifest}: found {len(segments)} segments, expected more than {options.segments_before}")
    await handler.deactivate()
    usage = await usage_of(Provider(channels.get("af")), policy.dynamic_policy_id)
    await channels.close()
    received_bytes = sum(segment.bytes for segment in segments if segment.under_policy)
    if options.json:
        story = {
            "rate_bps": rate_bps,
            "segments": [asdict(segment) | {"rate_bps": segment.rate_bps} for segment in segments],
            "policy_elapsed_s": policy_elapsed_s,
            "received_bytes": received_bytes,
            **asdict(usage),
        }
        print(json.dumps(story))
        return
    print(
        f"under the policy the player received {received_bytes:,} bytes; of {usage.offered_bytes:,} bytes in "
        f"IP packets\n{usage.dropped_bytes:,} were dropped, {usage.zero_rated_bytes:,} zero-rated and "
        f"{usage.charged_bytes:,} charged"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Plays a presentation, and has it zero-rated in mid-stream.")
    parser.add_argument("core", help="what castcore up --json has printed")
    parser.add_argument("manifest", help="address of the MPD")
    parser.add_argument("--ue", required=True, help="address of the UE")
    parser.add_argument("--mode", choices=METHODS, default="police", help="what becomes of the excess")
    parser.add_argument("--rate", default="20 Mbps", help="the threshold")
    parser.add_argument("--segments-before", type=int, default=4, help="how many are played before the policy")
    parser.add_argument("--json", action="store_true", help="one object on standard output")
    asyncio.run(main(parser.parse_args()))
