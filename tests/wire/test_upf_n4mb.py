"""The MB-UPF under N4mb, over a real channel: sessions, their tunnels, what is delivered and counted."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from gnb import read_g_pdu
from multicast import heard, listener, receiver, udp_packet
from prometheus_client import CollectorRegistry

from nf.common.channels import Channels
from nf.common.clock import SystemClock
from nf.common.errors import FailedPrecondition, InvalidArgument, NotFound
from nf.common.server import GrpcServer
from nf.common.telemetry import Telemetry
from nf.common.v1.mbs_pb2 import IpAddr, PlmnId, Ssm, Tmgi, TunnelAddress
from upf.compose import build
from upf.config import MbsSection, UpfSection
from upf.n4.v1 import n4_pb2 as n4
from upf.n4.v1 import n4mb_pb2 as n4mb
from upf.n4.v1.n4_pb2_grpc import N4ServiceStub
from upf.n4.v1.n4mb_pb2_grpc import N4mbServiceStub

SOURCE, GROUP = "127.0.0.9", "232.45.0.1"
GTP_U, UDP, RAW = n4mb.SENDING_GTP_U, n4mb.SENDING_UDP, n4mb.SENDING_RAW
PACKET = udp_packet(SOURCE, GROUP, b"first")


@dataclass
class Upf:
    n4mb: N4mbServiceStub
    n4: N4ServiceStub
    registry: CollectorRegistry

    async def associate(self) -> None:
        await self.n4mb.SetUpAssociation(n4.SetUpAssociationRequest(node_id="smf"))
        await self.n4mb.CompleteResynchronisation(n4.CompleteResynchronisationRequest(node_id="smf"))

    async def establish(self, session: n4mb.MbsSession) -> tuple[str, int]:
        answer = await self.n4mb.EstablishMbsSession(n4mb.EstablishMbsSessionRequest(mbs_session=session))
        return endpoint(answer.ingress_tun_addr)

    async def usage(self, cp_seid: int = 1) -> n4mb.MbsUsage:
        answer = await self.n4mb.GetMbsUsage(n4mb.GetMbsUsageRequest(cp_seid=cp_seid))
        (usage,) = answer.mbs_usages
        return usage

    async def ingress(self) -> n4mb.IngressUsage:
        return (await self.n4mb.GetMbsUsage(n4mb.GetMbsUsageRequest())).ingress_usage

    async def received(self, packets: int, cp_seid: int = 1) -> n4mb.MbsUsage:
        """The usage when so many packets have come."""
        while (usage := await self.usage(cp_seid)).received.packets < packets:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        return usage


@asynccontextmanager
async def running_upf(section: MbsSection | None = None) -> AsyncIterator[Upf]:
    telemetry = Telemetry()
    function = build(UpfSection(mbs=section or MbsSection()), SystemClock(), telemetry.registry)
    server = GrpcServer("upf", telemetry)
    server.add(*function.servicers)
    await function.prepare()
    address = await server.start("127.0.0.1:0")
    await function.start()
    channels = Channels({"upf": address}, function="test", telemetry=telemetry)
    try:
        channel = channels.get("upf")
        yield Upf(N4mbServiceStub(channel), N4ServiceStub(channel), telemetry.registry)
    finally:
        await channels.close()
        await server.stop(0.1)
        await function.stop()


@pytest.fixture
async def upf() -> AsyncIterator[Upf]:
    async with running_upf() as running:
        await running.associate()
        yield running


def endpoint(address: TunnelAddress) -> tuple[str, int]:
    return address.ipv4_addr or address.ipv6_addr, address.port_number


def ssm(source: str = SOURCE, group: str = GROUP) -> Ssm:
    if ":" in source:
        return Ssm(source_ip_addr=IpAddr(ipv6_addr=source), dest_ip_addr=IpAddr(ipv6_addr=group))
    return Ssm(source_ip_addr=IpAddr(ipv4_addr=source), dest_ip_addr=IpAddr(ipv4_addr=group))


def session(
    *branches: n4mb.Branch, cp_seid: int = 1, group: str = GROUP, mbr_bps: int | None = None
) -> n4mb.MbsSession:
    return n4mb.MbsSession(
        cp_seid=cp_seid,
        tmgi=Tmgi(mbs_service_id=f"{cp_seid:06x}", plmn_id=PlmnId(mcc="001", mnc="01")),
        ssm=ssm(group=group),
        mbr_bps=mbr_bps,
        branches=branches,
    )


def unicast(branch_id: int, to: socket.socket, teid: int) -> n4mb.Branch:
    host, port = to.getsockname()[:2]
    return n4mb.Branch(branch_id=branch_id, unicast=n4.OuterHeaderCreation(teid=teid, ipv4_address=host, port=port))


def multicast(branch_id: int, interface: str = "lo") -> n4mb.Branch:
    return n4mb.Branch(branch_id=branch_id, multicast=n4mb.MulticastDelivery(interface=interface))


def shared(branch_id: int, group: str, teid: int) -> n4mb.Branch:
    header = n4.OuterHeaderCreation(teid=teid, ipv4_address=group)
    delivery = n4mb.LowLayerSsmDelivery(outer_header_creation=header, interface="127.0.0.1", source_address="127.0.0.3")
    return n4mb.Branch(branch_id=branch_id, low_layer_ssm=delivery)


def send(to: tuple[str, int], *packets: bytes) -> None:
    with socket.socket(socket.AF_INET6 if ":" in to[0] else socket.AF_INET, socket.SOCK_DGRAM) as mbstf:
        for packet in packets:
            mbstf.sendto(packet, to)


@pytest.mark.clause("TS 23.247 §5.3.2.5", "TS 29.244 §8.2.209", "TS 29.244 §8.2.210")
async def test_what_comes_in_the_tunnel_leaves_by_every_branch_each_with_its_own_teid(upf: Upf) -> None:
    with receiver() as one, receiver() as other, listener(SOURCE, GROUP) as joined:
        wanted = session(unicast(1, one, 0x101), unicast(2, other, 0x102), multicast(3))
        wanted.qfi = 9
        to = await upf.establish(wanted)
        send(to, PACKET)
        first, second = read_g_pdu(one.recv(2000)), read_g_pdu(other.recv(2000))
        assert (first.teid, first.qfi, first.packet) == (0x101, 9, PACKET)
        assert (second.teid, second.qfi, second.packet) == (0x102, 9, PACKET)
        assert heard(joined) == (b"first", SOURCE, 4000, 5, 0x28)
        usage = await upf.usage()
        assert usage.received == usage.forwarded
        assert (usage.forwarded.packets, usage.forwarded.bytes) == (1, len(PACKET))
        assert [(each.branch_id, each.sent.packets, each.sent.bytes) for each in usage.branches] == [
            (1, 1, len(PACKET)), (2, 1, len(PACKET)), (3, 1, len(PACKET)),
        ]  # fmt: skip
        assert usage.time_of_first_packet_ns == usage.time_of_last_packet_ns > 10**18


@pytest.mark.parametrize("how", ["udp", "auto"])
async def test_multicast_leaves_from_raw_sockets_where_it_may_and_else_from_udp_sockets(
    how: Literal["udp", "auto"],
) -> None:
    async with running_upf(MbsSection(multicast=how)) as upf:
        await upf.associate()
        with listener(SOURCE, GROUP) as joined:
            send(await upf.establish(session(multicast(1))), PACKET)
            assert heard(joined) == (b"first", SOURCE, 4000, 5, 0x28)
        sending = RAW if how == "auto" and may_send_raw() else UDP
        assert [each.sending for each in (await upf.usage()).branches] == [sending]


def may_send_raw() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW).close()
    except PermissionError:
        return False
    return True


@pytest.mark.clause("TS 29.244 §6.2.6")
async def test_nothing_is_forwarded_until_the_mb_smf_has_established_its_sessions() -> None:
    async with running_upf() as upf:
        with pytest.raises(FailedPrecondition) as refused:
            await upf.establish(session())
        assert refused.value.reason == "NO_ESTABLISHED_PFCP_ASSOCIATION"
        assert not (await upf.n4mb.Heartbeat(n4.HeartbeatRequest())).forwarding
        await upf.n4mb.SetUpAssociation(n4.SetUpAssociationRequest(node_id="smf"))
        with receiver() as gnb:
            to = await upf.establish(session(unicast(1, gnb, 7)))
            send(to, PACKET)
            while (held := (await upf.ingress()).held_off).packets == 0:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            assert (held.packets, held.bytes) == (1, len(PACKET))
            await upf.n4mb.CompleteResynchronisation(n4.CompleteResynchronisationRequest(node_id="smf"))
            assert (await upf.n4mb.Heartbeat(n4.HeartbeatRequest())).forwarding
            send(to, PACKET)
            assert read_g_pdu(gnb.recv(2000)).packet == PACKET
            assert (await upf.usage()).received.packets == 1


async def test_both_associations_tell_of_one_start_and_neither_holds_the_other_off(upf: Upf) -> None:
    ours = await upf.n4mb.Heartbeat(n4.HeartbeatRequest())
    n4s = await upf.n4.Heartbeat(n4.HeartbeatRequest())
    assert ours.recovery_time_stamp == n4s.recovery_time_stamp
    assert (ours.forwarding, n4s.forwarding) == (True, False)


async def test_a_new_association_drops_what_is_not_established_again_and_keeps_tunnels(upf: Upf) -> None:
    kept = await upf.establish(session(cp_seid=1))
    await upf.establish(session(cp_seid=2, group="232.45.0.2"))
    await upf.n4mb.SetUpAssociation(n4.SetUpAssociationRequest(node_id="smf"))
    assert await upf.establish(session(cp_seid=1)) == kept
    await upf.n4mb.CompleteResynchronisation(n4.CompleteResynchronisationRequest(node_id="smf"))
    listed = await upf.n4mb.ListMbsSessions(n4mb.ListMbsSessionsRequest())
    assert [each.mbs_session.cp_seid for each in listed.mbs_sessions] == [1]


async def test_a_session_without_branches_has_the_configured_default_and_forwards_to_its_group(upf: Upf) -> None:
    answer = await upf.n4mb.EstablishMbsSession(n4mb.EstablishMbsSessionRequest(mbs_session=session()))
    assert list(answer.mbs_session.branches) == [multicast(1, interface="")]
    assert answer.up_seid == 1
    with listener(SOURCE, GROUP) as joined:
        send(endpoint(answer.ingress_tun_addr), PACKET)
        assert heard(joined)[0] == b"first"


async def test_where_no_default_is_configured_such_a_session_forwards_nothing_and_counts() -> None:
    async with running_upf(MbsSection(default_branches="none")) as upf:
        await upf.associate()
        send(await upf.establish(session()), PACKET)
        usage = await upf.received(1)
        assert usage.not_forwarded == usage.received
        assert usage.forwarded.packets == 0


async def test_sessions_share_a_tunnel_unless_they_have_one_source_and_group(upf: Upf) -> None:
    with receiver() as one, receiver() as other:
        first = await upf.establish(session(unicast(1, one, 1), cp_seid=1))
        assert await upf.establish(session(cp_seid=2, group="232.45.0.2")) == first
        second = await upf.establish(session(unicast(1, other, 2), cp_seid=3))
        assert second != first
        send(second, udp_packet(SOURCE, GROUP, b"for three"))
        send(first, udp_packet(SOURCE, GROUP, b"for one"))
        assert read_g_pdu(one.recv(2000)).packet.endswith(b"for one")
        assert read_g_pdu(other.recv(2000)).packet.endswith(b"for three")


async def test_a_packet_of_another_source_or_group_is_nobodys(upf: Upf) -> None:
    to = await upf.establish(session())
    strangers = [udp_packet("127.0.0.10", GROUP, b""), udp_packet(SOURCE, "232.45.0.9", b"12")]
    send(to, *strangers, b"\x45", b"", PACKET)
    usage = await upf.received(1)
    assert usage.received.packets == 1
    ingress = await upf.ingress()
    assert (ingress.unmatched.packets, ingress.unmatched.bytes) == (2, sum(map(len, strangers)))
    assert dict(ingress.malformed_packets) == {"ip_header": 2}


async def test_a_modification_changes_what_it_names_and_keeps_counters_and_branches(upf: Upf) -> None:
    with receiver() as one, receiver() as other:
        to = await upf.establish(session(unicast(1, one, 1)))
        send(to, PACKET)
        await upf.received(1)
        changes = n4mb.ModifyMbsSessionRequest(
            mbs_session=n4mb.MbsSession(cp_seid=1, mbr_bps=5_000_000, qfi=5),
            create_or_update_branches=[unicast(2, other, 2)],
        )
        changes.update_mask.paths.extend(["mbr_bps", "qfi"])
        answer = await upf.n4mb.ModifyMbsSession(changes)
        assert endpoint(answer.ingress_tun_addr) == to
        assert answer.mbs_session.mbr_bps == 5_000_000
        send(to, PACKET)
        one.recv(2000)
        assert [read_g_pdu(each.recv(2000)).qfi for each in (one, other)] == [5, 5]
        usage = await upf.usage()
        assert [(each.branch_id, each.sent.packets) for each in usage.branches] == [(1, 2), (2, 1)]
        removal = n4mb.ModifyMbsSessionRequest(mbs_session=n4mb.MbsSession(cp_seid=1), remove_branch_ids=[1, 2])
        assert not (await upf.n4mb.ModifyMbsSession(removal)).mbs_session.branches
        send(to, PACKET)
        assert (await upf.received(3)).not_forwarded.packets == 1


async def test_another_group_is_heard_from_the_moment_of_the_change_and_the_old_one_no_more(upf: Upf) -> None:
    to = await upf.establish(session(multicast(1)))
    changes = n4mb.ModifyMbsSessionRequest(mbs_session=n4mb.MbsSession(cp_seid=1, ssm=ssm("127.0.0.8", "232.45.0.3")))
    changes.update_mask.paths.append("ssm.dest_ip_addr")
    assert endpoint((await upf.n4mb.ModifyMbsSession(changes)).ingress_tun_addr) == to
    with listener("127.0.0.8", "232.45.0.3") as joined:
        send(to, PACKET, udp_packet("127.0.0.8", "232.45.0.3", b"moved"))
        assert heard(joined)[:2] == (b"moved", "127.0.0.8")
    assert (await upf.ingress()).unmatched.packets == 1


async def test_a_session_whose_action_is_drop_counts_and_forwards_nothing(upf: Upf) -> None:
    wanted = session()
    wanted.apply_action = n4.APPLY_ACTION_DROP
    send(await upf.establish(wanted), PACKET)
    usage = await upf.received(1)
    assert (usage.not_forwarded.packets, usage.not_forwarded.bytes) == (1, len(PACKET))


async def test_a_deletion_answers_with_the_last_counters_and_a_second_one_succeeds(upf: Upf) -> None:
    to = await upf.establish(session())
    send(to, PACKET)
    await upf.received(1)
    gone = await upf.n4mb.DeleteMbsSession(n4mb.DeleteMbsSessionRequest(cp_seid=1))
    assert gone.mbs_usage.received.packets == 1
    again = await upf.n4mb.DeleteMbsSession(n4mb.DeleteMbsSessionRequest(cp_seid=1))
    assert not again.HasField("mbs_usage")
    with pytest.raises(NotFound):
        await upf.usage()
    # The tunnel of nobody is closed: its port can be had.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reuse:
        reuse.bind(to)


async def test_establishing_again_changes_nothing_and_keeps_the_tunnel(upf: Upf) -> None:
    to = await upf.establish(session(mbr_bps=1000))
    send(to, PACKET)
    await upf.received(1)
    assert await upf.establish(session(mbr_bps=1000)) == to
    assert (await upf.usage()).received.packets == 1


async def test_what_cannot_be_enforced_is_refused_by_field_and_changes_nothing(upf: Upf) -> None:
    await upf.establish(session(mbr_bps=7000))
    wrong = session(
        n4mb.Branch(branch_id=1, unicast=n4.OuterHeaderCreation(teid=0, ipv4_address="192.0.2.1")),
        shared(1, "192.0.2.1", 1),
        n4mb.Branch(),
        n4mb.Branch(branch_id=4, unicast=n4.OuterHeaderCreation(teid=1, ipv4_address="232.0.0.1")),
        mbr_bps=0,
    )  # fmt: skip
    wrong.tmgi.mbs_service_id = "12345g"
    wrong.ssm.CopyFrom(ssm("232.0.0.1", "10.0.0.1"))
    wrong.qfi = 64
    wrong.ingress_ip_version = 5
    with pytest.raises(InvalidArgument) as refused:
        await upf.establish(wrong)
    assert {each.field.removeprefix("mbs_session."): each.description for each in refused.value.violations} == {
        "tmgi.mbs_service_id": "found '12345g', expected six hexadecimal digits",
        "ssm.source_ip_addr": "found 232.0.0.1, expected the address of a sender",
        "ssm.dest_ip_addr": "found 10.0.0.1, expected a multicast group",
        "mbr_bps": "found 0, expected 1 to 10000000000000 bit/s, or none",
        "qfi": "found 64, expected 1 to 63, or 0 for none",
        "ingress_ip_version": "found 5, expected 4, 6, or 0 for either",
        "branches[0].unicast": "teid: found 0, expected 1 to 4294967295",
        "branches[1].branch_id": "found 1 a second time, expected one of its own",
        "branches[1].low_layer_ssm": "found 192.0.2.1, expected a multicast group: unicast delivers to one receiver",
        "branches[2].branch_id": "found 0, expected an identifier from 1 on",
        "branches[2]": "found no delivery, expected multicast, tun, unicast or low_layer_ssm",
        "branches[3].unicast": "found the group 232.0.0.1, expected one receiver: low_layer_ssm delivers to groups",
    }
    with pytest.raises(InvalidArgument, match=r"branch 1: interface: found 'nosuch0', expected one of lo"):
        await upf.establish(session(multicast(1, "nosuch0")))
    listed = await upf.n4mb.ListMbsSessions(n4mb.ListMbsSessionsRequest())
    assert [each.mbs_session.mbr_bps for each in listed.mbs_sessions] == [7000]


async def test_a_modification_of_what_is_not_there_is_refused(upf: Upf) -> None:
    with pytest.raises(NotFound) as unknown:
        await upf.n4mb.ModifyMbsSession(n4mb.ModifyMbsSessionRequest(mbs_session=n4mb.MbsSession(cp_seid=5)))
    assert unknown.value.cause == "SESSION_CONTEXT_NOT_FOUND"
    await upf.establish(session())
    wrong = n4mb.ModifyMbsSessionRequest(mbs_session=n4mb.MbsSession(cp_seid=1), remove_branch_ids=[4])
    wrong.update_mask.paths.append("cp_seid")
    with pytest.raises(InvalidArgument) as refused:
        await upf.n4mb.ModifyMbsSession(wrong)
    assert [each.field for each in refused.value.violations] == ["update_mask", "remove_branch_ids[0]"]


async def test_sessions_and_usages_come_in_pages(upf: Upf) -> None:
    for number in range(1, 6):
        await upf.establish(session(cp_seid=number, group=f"232.45.0.{number}"))
    listed, counted, token, usage_token = [], [], "", ""
    for _ in range(3):
        page = await upf.n4mb.ListMbsSessions(n4mb.ListMbsSessionsRequest(page_size=2, page_token=token))
        listed += [each.mbs_session.cp_seid for each in page.mbs_sessions]
        token = page.next_page_token
        usages = await upf.n4mb.GetMbsUsage(n4mb.GetMbsUsageRequest(page_size=2, page_token=usage_token))
        counted += [each.cp_seid for each in usages.mbs_usages]
        usage_token = usages.next_page_token
    assert listed == counted == [1, 2, 3, 4, 5]
    assert token == usage_token == ""


async def test_shared_delivery_is_one_gtp_u_packet_to_a_group_with_the_common_teid(upf: Upf) -> None:
    with listener("127.0.0.3", "232.46.0.1", 2152) as gnb:
        send(await upf.establish(session(shared(1, "232.46.0.1", 0xC0FFEE))), PACKET)
        got = read_g_pdu(heard(gnb)[0])
        assert (got.teid, got.qfi, got.packet) == (0xC0FFEE, None, PACKET)
    assert (await upf.usage()).branches[0].sending == GTP_U


async def test_ipv6_comes_in_an_ipv6_tunnel_and_leaves_by_both_versions_of_gtp_u() -> None:
    source, group = "::1", "ff3e::8000:1"
    packet = udp_packet(source, group, b"six")
    async with running_upf(MbsSection(ingress=("127.0.0.1", "::1"))) as upf:
        await upf.associate()
        with receiver() as four, receiver("::1") as six:
            host, port = six.getsockname()[:2]
            wanted = session(
                unicast(1, four, 4),
                n4mb.Branch(branch_id=2, unicast=n4.OuterHeaderCreation(teid=6, ipv6_address=host, port=port)),
            )
            wanted.ssm.CopyFrom(ssm(source, group))
            wanted.ingress_ip_version = 6
            to = await upf.establish(wanted)
            assert to[0] == "::1"
            send(to, packet)
            assert read_g_pdu(four.recv(2000)).packet == packet
            assert read_g_pdu(six.recv(2000)).packet == packet
            assert [each.sending for each in (await upf.usage()).branches] == [GTP_U, GTP_U]


async def test_metrics_tell_of_all_sessions_those_that_have_gone_included(upf: Upf) -> None:
    with receiver() as gnb:
        to = await upf.establish(session(unicast(1, gnb, 1)))
        send(to, PACKET, b"\x00")
        await upf.received(1)
        await upf.n4mb.DeleteMbsSession(n4mb.DeleteMbsSessionRequest(cp_seid=1))
        await upf.establish(session())
    value = upf.registry.get_sample_value
    assert value("castcore_mbs_received_packets_total") == 1
    assert value("castcore_mbs_forwarded_bytes_total") == len(PACKET)
    assert value("castcore_mbs_sent_packets_total", {"sending": "gtp_u"}) == 1
    assert value("castcore_mbs_malformed_packets_total", {"reason": "ip_version"}) == 1
    assert value("castcore_mbs_sessions") == 1


async def test_when_the_upf_ends_no_socket_is_left() -> None:
    before = open_sockets()
    async with running_upf() as upf:
        await upf.associate()
        with receiver() as gnb:
            to = await upf.establish(session(unicast(1, gnb, 1), multicast(2)))
            send(to, PACKET)
            await upf.received(1)
    # What polls goes with the packet path, when nothing refers to that any more.
    gc.collect()
    assert open_sockets() <= before


def open_sockets() -> int:
    found = 0
    for each in Path("/proc/self/fd").iterdir():
        try:
            found += str(each.readlink()).startswith(("socket", "anon_inode:[event"))
        except OSError:
            continue
    return found
