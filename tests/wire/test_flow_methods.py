"""AF, PCF, SMF and the real UPF: each way to describe a flow polices the packets that it describes, and no other."""

from __future__ import annotations

import random
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import captures
import pytest
from captures import Captured, ipv4, ipv6, ports
from control_plane import UE, ControlPlane, running
from media_sessions import RATE_BPS, Media, filters
from named_traffic import client_hello, tcp

from nf.af.v1 import media_session_pb2 as m5
from nf.common.v1.types_pb2 import EnforcementMethod, PolicedVolume
from nf.pcf.v1 import operator_policies_pb2 as op
from upf.policing import TokenBucket
from upf.traffic.v1.traffic_pb2 import ReplayRequest, ReplayResponse
from upf.traffic.v1.traffic_pb2_grpc import TrafficServiceStub

UE6, SERVER, OTHER = "2001:db8:1::5", "198.51.100.7", "198.51.100.8"
SERVER6 = "2001:db8:ff::7"
BURST_BYTES = 15_000
DOWNLINK, UPLINK, BOTH = m5.FLOW_DIRECTION_DOWNLINK, m5.FLOW_DIRECTION_UPLINK, m5.FLOW_DIRECTION_BIDIRECTIONAL
ESP = 50

Make = Callable[[int], bytes]


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with running(tmp_path, real_upf=True, with_af=True) as plane:
        policy = op.OperatorPolicy(
            operator_policy_id="p",
            threshold_dl_bps=RATE_BPS,
            threshold_ul_bps=RATE_BPS,
            burst_bytes=BURST_BYTES,
            enforcement_method=EnforcementMethod.ENFORCEMENT_METHOD_POLICE,
        )
        await plane.operator.CreateOperatorPolicy(op.CreateOperatorPolicyRequest(operator_policy=policy))
        await plane.attach(ue_ipv6_prefix="2001:db8:1::/64")
        yield plane


def down(length: int, *, server: str = SERVER, server_port: int = 443, ue_port: int = 40_000) -> bytes:
    return ipv4(server, UE, captures.UDP, ports(server_port, ue_port, length))


def up(length: int, *, server: str = SERVER, server_port: int = 443, ue_port: int = 40_000) -> bytes:
    return ipv4(UE, server, captures.UDP, ports(ue_port, server_port, length))


def with_tos(packet: bytes, tos: int) -> bytes:
    return packet[:1] + bytes((tos,)) + packet[2:]


def labelled(length: int, label: int, *, uplink: bool = False) -> bytes:
    ends = (UE6, SERVER6) if uplink else (SERVER6, UE6)
    packet = ipv6(*ends, captures.UDP, ports(443, 40_000, length))
    return struct.pack("!I", 6 << 28 | label) + packet[4:]


def esp(length: int, spi: int) -> bytes:
    return ipv4(SERVER, UE, ESP, struct.pack("!II", spi, 1) + bytes(length))


def hello(name: str, ue_port: int) -> bytes:
    return ipv4(UE, SERVER, captures.TCP, tcp(ue_port, 443, 1, client_hello(name)))


def answer(length: int, ue_port: int) -> bytes:
    return ipv4(SERVER, UE, captures.TCP, tcp(443, ue_port, 1, bytes(length)))


def timed(makers: Sequence[Make], number: int, *, seed: int, before: Sequence[bytes] = ()) -> list[Captured]:
    """So many packets of each maker, mixed, faster than the threshold."""
    draw = random.Random(seed)
    now_ns = captures.START_NS + seed * 3600 * captures.SECOND_NS
    made = []
    order = [each for each in makers for _ in range(number)]
    draw.shuffle(order)
    for packet in [*before, *(make(draw.randrange(64, 1300)) for make in order)]:
        now_ns += draw.randrange(1_000_000, 5_000_000)
        made.append(Captured(now_ns, packet, len(packet)))
    return made


async def send(plane: ControlPlane, packets: Sequence[Captured]) -> ReplayResponse:
    async def pieces() -> AsyncIterator[ReplayRequest]:
        yield ReplayRequest(capture=captures.pcap(packets, link_type=captures.RAW, nanoseconds=True))

    return await TrafficServiceStub(plane.channel("upf")).Replay(pieces())


class Judge:
    """What a bucket of its own makes of the packets that are described."""

    def __init__(self) -> None:
        self.bucket = TokenBucket(RATE_BPS, BURST_BYTES)
        self.passed_bytes = self.dropped_bytes = 0

    def see(self, packets: Sequence[Captured], is_described: Callable[[bytes], bool]) -> None:
        for packet in packets:
            if not is_described(packet.data):
                continue
            if self.bucket.take(packet.ts_ns, packet.wire_length):
                self.passed_bytes += packet.wire_length
            else:
                self.dropped_bytes += packet.wire_length


def total(response: ReplayResponse, *, downlink: bool = True) -> PolicedVolume:
    volume = PolicedVolume()
    for flow in response.flows:
        if flow.downlink == downlink:
            volume.offered.bytes += flow.volume.offered.bytes
            volume.dropped.bytes += flow.volume.dropped.bytes
    return volume


METHODS = {
    "5_TUPLE": (
        filters(src_ip=SERVER, dst_ip=UE, protocol=17, src_port=443, dst_port=40_000),
        [down],
        [lambda n: down(n, ue_port=40_001), lambda n: down(n, server=OTHER)],
    ),
    "2_TUPLE": (
        filters(src_ip=SERVER, dst_ip=UE),
        [down, lambda n: down(n, server_port=80, ue_port=9)],
        [lambda n: down(n, server=OTHER)],
    ),
    "TYPE_OF_SERVICE_MARKING": (
        filters(to_s_tc="b8fc", direction=DOWNLINK),
        [lambda n: with_tos(down(n), 0xB8), lambda n: with_tos(down(n, server=OTHER), 0xBB)],
        [down, lambda n: with_tos(down(n), 0x28)],
    ),
    "FLOW_LABEL": (
        filters(src_ip=SERVER6, flow_label=0xABCDE, direction=DOWNLINK),
        [lambda n: labelled(n, 0xABCDE)],
        [lambda n: labelled(n, 0xABCDF), lambda n: labelled(n, 0)],
    ),
    "SPI": (
        filters(src_ip=SERVER, spi=0x1234, protocol=ESP, direction=DOWNLINK),
        [lambda n: esp(n, 0x1234)],
        [lambda n: esp(n, 0x1235), down],
    ),
    "DOMAIN_NAME": (
        m5.ServiceDataFlowDescription(domain_name="*.example.com"),
        [lambda n: answer(n, 50_001)],
        [lambda n: answer(n, 50_002), down],
    ),
}  # fmt: skip
NAMES = [hello("media.example.com", 50_001), hello("example.com", 50_002)]


@pytest.mark.clause("TS 26.512 §6.4.3.1")
@pytest.mark.clause("TS 26.512 A.3.2 step 6")
@pytest.mark.parametrize("method", METHODS)
async def test_what_a_method_describes_is_policed_and_nothing_else(plane: ControlPlane, method: str) -> None:
    described, matching, others = METHODS[method]
    media = await Media.provisioned(plane)
    await media.activate(described, ue=UE6 if method == "FLOW_LABEL" else UE)
    before = NAMES if method == "DOMAIN_NAME" else []
    own = timed(matching, 300, seed=1, before=before)
    judge = Judge()
    judge.see(own, lambda packet: packet not in NAMES)
    assert min(judge.passed_bytes, judge.dropped_bytes) > 10_000
    assert total(await send(plane, own)).dropped.bytes == judge.dropped_bytes
    foreign = await send(plane, timed(others, 300, seed=2))
    assert total(foreign).offered.bytes > 10 * BURST_BYTES
    assert total(foreign).dropped.bytes == 0
    # Of the flow that is described by name, the hello went up: it is the policy's too.
    (entry,) = await plane.ledger_of(zero_rated=judge.passed_bytes + len(b"".join(NAMES[: len(before) // 2])))
    assert (entry.charged_bytes, entry.dropped_bytes) == (0, judge.dropped_bytes)


@pytest.mark.clause("TS 26.512 A.3.2 step 7")
async def test_descriptions_of_every_method_share_one_threshold_in_each_direction(plane: ControlPlane) -> None:
    media = await Media.provisioned(plane)
    flows = [described for name, (described, _, _) in METHODS.items() if name != "FLOW_LABEL"]
    await media.activate(*flows)
    makers = [make for name, (_, matching, _) in METHODS.items() if name != "FLOW_LABEL" for make in matching]
    packets = timed(makers, 100, seed=3, before=NAMES)
    judge = Judge()
    judge.see(packets, lambda packet: packet not in NAMES)
    assert total(await send(plane, packets)).dropped.bytes == judge.dropped_bytes
    uplink = timed([up], 400, seed=4)
    judge = Judge()
    judge.see(uplink, lambda _: True)
    assert judge.dropped_bytes > 10_000
    assert total(await send(plane, uplink), downlink=False).dropped.bytes == judge.dropped_bytes


@pytest.mark.clause("TS 26.512 §6.4.3.1")
async def test_a_mark_is_looked_for_in_its_direction_alone(plane: ControlPlane) -> None:
    media = await Media.provisioned(plane)
    await media.activate(filters(to_s_tc="b8fc", direction=DOWNLINK))
    uplink = await send(plane, timed([lambda n: with_tos(up(n), 0xB8)], 300, seed=5))
    assert total(uplink, downlink=False).dropped.bytes == 0
    await media.change(filters(to_s_tc="b8fc", direction=UPLINK))
    packets = timed([lambda n: with_tos(up(n), 0xB8)], 300, seed=6)
    judge = Judge()
    judge.see(packets, lambda _: True)
    assert total(await send(plane, packets), downlink=False).dropped.bytes == judge.dropped_bytes > 0


@pytest.mark.clause("TS 26.512 A.3.2 step 7")
async def test_flows_come_and_go_in_one_bucket_without_a_gap(plane: ControlPlane) -> None:
    media = await Media.provisioned(plane)
    tuple5, marked = METHODS["5_TUPLE"][0], METHODS["TYPE_OF_SERVICE_MARKING"][0]
    named = METHODS["DOMAIN_NAME"][0]
    await media.activate(tuple5)
    makers = [down, lambda n: with_tos(down(n, server=OTHER), 0xB8), lambda n: answer(n, 50_001)]
    packets = timed(makers, 200, seed=7)
    # A name is listened for while a rule asks for one.
    packets[240:240] = [Captured(packets[240].ts_ns, name, len(name)) for name in NAMES]
    judge, dropped_bytes, at = Judge(), 0, 0
    steps: list[tuple[list[m5.ServiceDataFlowDescription], Callable[[bytes], bool]]] = [
        ([tuple5], lambda p: p[9] == captures.UDP and p[1] == 0),
        ([tuple5, marked], lambda p: p[9] == captures.UDP),
        ([tuple5, marked, named], lambda _: True),
        ([marked, named], lambda p: p[9] == captures.TCP or p[1] == 0xB8),
        ([named], lambda p: p[9] == captures.TCP),
    ]
    size = 120
    for number, (flows, is_described) in enumerate(steps):
        if number:
            await media.change(*flows)
        assert media.policy.enforcement_bit_rate_bps == RATE_BPS
        some = packets[at : at + size]
        at += size
        judge.see(some, lambda p, described=is_described: p not in NAMES and described(p))
        dropped_bytes += total(await send(plane, some)).dropped.bytes
        assert dropped_bytes == judge.dropped_bytes
    assert dropped_bytes > 10_000


@pytest.mark.clause("TS 26.512 §6.4.4.2")
async def test_the_methods_that_work_are_those_announced(plane: ControlPlane) -> None:
    media = await Media.provisioned(plane)
    policy = await media.activate(METHODS["5_TUPLE"][0])
    request = m5.GetServiceAccessInformationRequest(provisioning_session_id=policy.provisioning_session_id)
    information = (await media.access.GetServiceAccessInformation(request)).service_access_information
    offered = information.dynamic_policy_invocation_configuration.sdf_methods
    names = {m5.SdfMethod.Name(each) for each in offered}
    assert len(names) == 5
    assert {name for name in METHODS if name not in ("5_TUPLE", "2_TUPLE", "SPI")} == {
        name.removeprefix("SDF_METHOD_") for name in names
    } - {"FIVE_TUPLE", "TWO_TUPLE"}
