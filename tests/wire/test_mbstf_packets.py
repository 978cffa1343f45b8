"""The packet distribution method: from a provider's socket to inner packets in the tunnel; ingest that dries up."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mbstf_stack import (
    ACTIVE,
    ESTABLISHED,
    GROUP,
    INACTIVE,
    PORT,
    Mbstf,
    Tunnel,
    inner_of,
    running,
    tunnel,
)

from nf.common.clock import ManualClock
from nf.common.errors import AlreadyExists, DeadlineExceeded, InvalidArgument
from nf.common.v1 import mbs_distribution_pb2 as shared
from nf.common.v1.mbs_pb2 import IpAddr, Ssm, TunnelAddress
from nf.mbstf.v1 import dist_session_pb2 as nmb2

PROXY = shared.PKT_DISTRIBUTION_OPERATING_MODE_PACKET_PROXY
FORWARD_ONLY = shared.PKT_DISTRIBUTION_OPERATING_MODE_PACKET_FORWARD_ONLY
MULTICAST, UNICAST = shared.PKT_INGEST_METHOD_MULTICAST, shared.PKT_INGEST_METHOD_UNICAST


@pytest.fixture
async def nmb9() -> AsyncIterator[Tunnel]:
    async with tunnel() as end:
        yield end


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 3, 1, 12, tzinfo=UTC))


@pytest.fixture
async def mbstf(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Mbstf]:
    async with running(tmp_path, clock) as running_mbstf:
        yield running_mbstf


@pytest.fixture
def provider() -> socket.socket:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        opened.bind(("127.0.0.1", 0))
        yield opened


def packet_session(tun: TunnelAddress, **data: object) -> nmb2.DistSession:
    return nmb2.DistSession(
        dist_session_id="p",
        mb_upf_tun_addr=tun,
        mbr_bps=10_000_000,
        dscp_marking="AF41",
        up_traffic_flow_info=shared.UpTrafficFlowInfo(dest_ip_addr=IpAddr(ipv4_addr=GROUP), port_number=PORT),
        pkt_distribution_data=nmb2.PktDistributionData(**data),
    )


async def established(mbstf: Mbstf, provider: socket.socket, to: tuple[str, int], first: bytes = b"first") -> None:
    """Establishes the session: what comes in before that begins is not read, so the first packet is sent till it is."""
    going = asyncio.create_task(mbstf.go("p", ESTABLISHED))
    while not going.done():
        provider.sendto(first, to)
        await asyncio.wait([going], timeout=0.01)
    assert (await going).dist_session_state == ESTABLISHED


def address_of(tun: TunnelAddress) -> tuple[str, int]:
    return tun.ipv4_addr, tun.port_number


@pytest.mark.clause("TS 26.502 §4.6.1 step 2b", "TS 29.581 §6.1.6.2.7")
async def test_payloads_are_put_into_packets_of_the_session(
    mbstf: Mbstf, nmb9: Tunnel, provider: socket.socket
) -> None:
    created = await mbstf.create(
        packet_session(nmb9.address, pkt_distribution_operating_mode=PROXY, pkt_ingest_method=UNICAST)
    )
    listen = address_of(created.pkt_distribution_data.mb_stf_ingest_addr.mb_stf_listen_addr)
    await established(mbstf, provider, listen)
    await mbstf.go("p", ACTIVE)
    assert nmb9.received == []
    for number in range(50):
        provider.sendto(b"payload %d" % number, listen)
    received = await nmb9.until(lambda packets: len(packets) == 50)
    assert [each.payload for each in received] == [b"payload %d" % number for number in range(50)]
    assert {(each.source, each.group, each.port, each.dscp) for each in received} == {("127.0.0.1", GROUP, PORT, 34)}
    progress = (await mbstf.get("p")).progress
    assert progress.packets_sent == 50
    assert progress.bytes_sent == sum(len(each.packet) for each in received)


async def test_a_multicast_group_is_joined_with_its_source(mbstf: Mbstf, nmb9: Tunnel, provider: socket.socket) -> None:
    group = Ssm(source_ip_addr=IpAddr(ipv4_addr="127.0.0.1"), dest_ip_addr=IpAddr(ipv4_addr="232.9.9.9"))
    ingest = shared.MbStfIngestAddr(af_ssm=shared.ExtSsm(ssm=group, port_number=_free_port()))
    created = await mbstf.create(
        packet_session(
            nmb9.address,
            pkt_distribution_operating_mode=PROXY,
            pkt_ingest_method=MULTICAST,
            mb_stf_ingest_addr=ingest,
        )
    )
    to = address_of(created.pkt_distribution_data.mb_stf_ingest_addr.mb_stf_listen_addr)
    assert to == ("232.9.9.9", ingest.af_ssm.port_number)
    await established(mbstf, provider, to)
    await mbstf.go("p", ACTIVE)
    provider.sendto(b"by multicast", to)
    received = await nmb9.until(lambda packets: any(each.payload == b"by multicast" for each in packets))
    assert received[-1].group == GROUP


async def test_packets_are_forwarded_out_of_a_tunnel_as_they_are_and_what_is_none_is_not(
    mbstf: Mbstf, nmb9: Tunnel, provider: socket.socket
) -> None:
    egress = TunnelAddress(ipv4_addr="127.0.0.1", port_number=provider.getsockname()[1])
    wanted = packet_session(
        nmb9.address,
        pkt_distribution_operating_mode=FORWARD_ONLY,
        mb_stf_ingest_addr=shared.MbStfIngestAddr(af_egress_tun_addr=egress),
    )
    wanted.ClearField("up_traffic_flow_info")
    created = await mbstf.create(wanted)
    to = address_of(created.pkt_distribution_data.mb_stf_ingest_addr.mb_stf_ingress_tun_addr)
    await established(mbstf, provider, to, first=udp_packet(b"first"))
    await mbstf.go("p", ACTIVE)
    packets = [udp_packet(b"%d" % number) for number in range(20)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(udp_packet(b"stranger"), to)
    provider.sendto(b"no packet", to)
    for packet in packets:
        provider.sendto(packet, to)
    received = await nmb9.until(lambda found: len(found) == 20)
    assert [each.packet for each in received] == packets
    assert (await mbstf.get("p")).progress.ingest_failures == 2


async def test_what_comes_faster_than_the_bit_rate_is_dropped_and_counted(
    mbstf: Mbstf, nmb9: Tunnel, provider: socket.socket
) -> None:
    wanted = packet_session(nmb9.address, pkt_distribution_operating_mode=PROXY)
    wanted.mbr_bps = 1_000_000
    created = await mbstf.create(wanted)
    listen = address_of(created.pkt_distribution_data.mb_stf_ingest_addr.mb_stf_listen_addr)
    await established(mbstf, provider, listen)
    await mbstf.go("p", ACTIVE)
    before = (await mbstf.get("p")).progress
    for _ in range(500):
        provider.sendto(bytes(1000), listen)
    progress = before
    async with asyncio.timeout(20):
        while progress.ingested - before.ingested < 500:
            progress = (await mbstf.get("p")).progress
        # Some leave while they come; so much as waits at the most, and what the sender has made, leaves in the end.
        while (progress := (await mbstf.get("p")).progress).packets_sent + progress.packets_dropped < 500:
            await asyncio.wait([asyncio.ensure_future(nmb9.until(lambda packets: len(packets) > 0))])
    assert progress.packets_sent + progress.packets_dropped == 500
    assert progress.packets_dropped > 300


@pytest.mark.clause("TS 26.502 §4.6.2", "TS 29.581 §6.1.6.3.7")
async def test_ingest_that_dries_up_while_active_is_told_once_and_its_recovery_too(
    mbstf: Mbstf, nmb9: Tunnel, provider: socket.socket, clock: ManualClock
) -> None:
    wanted = packet_session(nmb9.address, pkt_distribution_operating_mode=PROXY)
    wanted.ingest_timeout_ms = 5000
    created = await mbstf.create(wanted)
    listen = address_of(created.pkt_distribution_data.mb_stf_ingest_addr.mb_stf_listen_addr)
    await established(mbstf, provider, listen)
    # Only an ACTIVE session is expected to be fed.
    clock.advance(timedelta(hours=1))
    await mbstf.go("p", ACTIVE)
    for _ in range(3):
        clock.advance(timedelta(seconds=4))
        ingested = (await mbstf.get("p")).progress.ingested
        provider.sendto(b"fed", listen)
        while (await mbstf.get("p")).progress.ingested == ingested:
            pass
    clock.advance(timedelta(seconds=5))
    events = await mbstf.events("SESSION_ACTIVATED", "DATA_INGEST_FAILURE")
    report = nmb2.DistSessionEventReport()
    events[-1].payload.Unpack(report)
    assert report.problem.detail == "nothing was ingested for 5 s"
    assert (await mbstf.get("p")).ingest_failed
    clock.advance(timedelta(hours=1))
    provider.sendto(b"fed again", listen)
    events = await mbstf.events("DATA_INGEST_FAILURE", "DATA_INGEST_SESSION_ESTABLISHED")
    assert not (await mbstf.get("p")).ingest_failed
    assert [each.type for each in events] == [
        "DATA_INGEST_SESSION_ESTABLISHED",
        "SESSION_ACTIVATED",
        "DATA_INGEST_FAILURE",
        "DATA_INGEST_SESSION_ESTABLISHED",
    ]


async def test_after_a_restart_the_session_listens_and_sends_where_it_did(
    mbstf: Mbstf, nmb9: Tunnel, provider: socket.socket
) -> None:
    created = await mbstf.create(packet_session(nmb9.address, pkt_distribution_operating_mode=PROXY))
    listen = address_of(created.pkt_distribution_data.mb_stf_ingest_addr.mb_stf_listen_addr)
    await established(mbstf, provider, listen)
    await mbstf.go("p", ACTIVE)
    await mbstf.stop()
    await mbstf.start()
    provider.sendto(b"after", listen)
    received = await nmb9.until(lambda packets: any(each.payload == b"after" for each in packets))
    assert received[-1].group == GROUP
    assert (await mbstf.go("p", INACTIVE)).dist_session_state == INACTIVE


async def test_without_a_first_packet_the_session_is_established_only_where_none_is_required(
    mbstf: Mbstf, nmb9: Tunnel, clock: ManualClock
) -> None:
    await mbstf.create(packet_session(nmb9.address, pkt_distribution_operating_mode=PROXY))
    going = asyncio.create_task(mbstf.go("p", ESTABLISHED))
    await asyncio.wait([going], timeout=0.2)
    clock.advance(timedelta(seconds=10))
    with pytest.raises(DeadlineExceeded, match="nothing was ingested within 10 s"):
        await going
    data = nmb2.PktDistributionData(pkt_distribution_operating_mode=PROXY, ingest_required=False)
    await mbstf.update("p", pkt_distribution_data=data)
    assert (await mbstf.go("p", ESTABLISHED)).dist_session_state == ESTABLISHED


async def test_what_no_session_can_be_is_refused_property_by_property(mbstf: Mbstf, nmb9: Tunnel) -> None:
    wanted = packet_session(
        TunnelAddress(ipv4_addr="232.0.0.1", port_number=70_000),
        pkt_distribution_operating_mode=FORWARD_ONLY,
        pkt_ingest_method=MULTICAST,
    )
    wanted.mbr_bps, wanted.dscp_marking = 1, "AF9"
    wanted.fec_information.fec_scheme = "urn:ietf:rmt:fec:encoding:6"
    with pytest.raises(InvalidArgument) as raised:
        await mbstf.create(wanted)
    assert [each.field.removeprefix("dist_session.") for each in raised.value.violations] == [
        "mbr_bps",
        "dscp_marking",
        "mb_upf_tun_addr.ipv4_addr",
        "mb_upf_tun_addr.port_number",
        "fec_information",
        "pkt_distribution_data.pkt_ingest_method",
        "pkt_distribution_data.mb_stf_ingest_addr.af_ssm",
        "fec_information.fec_scheme",
    ]
    session = packet_session(nmb9.address, pkt_distribution_operating_mode=PROXY)
    first = await mbstf.create(session)
    # A repeat is answered with what there is.
    assert await mbstf.create(session) == first
    session.mbr_bps += 1
    with pytest.raises(AlreadyExists, match="exists with other content"):
        await mbstf.create(session)


def udp_packet(payload: bytes) -> bytes:
    """A whole IPv4 packet of another source to another group."""
    length = 28 + len(payload)
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, length, 0, 0, 9, 17, 0, b"\xc6\x33\x64\x01", b"\xe8\x05\x05\x05")
    packet = ip + struct.pack("!HHHH", 1, 2, length - 20, 0) + payload
    assert inner_of(packet).payload == payload
    return packet


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]
