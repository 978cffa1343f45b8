"""A gNB attached to a running core: the SMF tells both ends of a session's tunnel of each other."""

from __future__ import annotations

import asyncio
import socket
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from gnb import ERROR_INDICATION, Gnb
from live.networks import Network, networks, required
from running_core import castcore
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from nf.common.channels import Channels
from nf.common.errors import FailedPrecondition, InvalidArgument
from nf.common.v1.types_pb2 import Snssai
from nf.smf.v1.pdu_session_pb2 import CreatePduSessionRequest, PduSession, ReleasePduSessionRequest, TunnelInfo
from nf.smf.v1.pdu_session_pb2_grpc import PduSessionsServiceStub
from upf.n4.v1 import n4_pb2 as n4
from upf.n4.v1.n4_pb2_grpc import N4ServiceStub

UPF, GNB, OTHER_GNB, PORT = "127.0.0.1", "127.0.0.2", "127.0.0.3", 2152
UE, SERVER = "10.45.0.2", "198.51.100.2"
UPLINK = IP(src=UE, dst=SERVER) / UDP(sport=4000, dport=5000) / Raw(b"up")


@dataclass
class Lab:
    """A network of the gNBs and of the UPF's N3, and that of the server."""

    ran: Network
    net: Network

    def gnb(self, host: str) -> Gnb:
        bound = self.ran.socket(socket.AF_INET, socket.SOCK_DGRAM)
        bound.bind((host, PORT))
        return Gnb(bound, (UPF, PORT))


@pytest.fixture
def lab() -> Iterator[Lab]:
    required()
    with networks("ran", "net") as (ran, net):
        yield Lab(ran, net)


@asynccontextmanager
async def core(lab: Lab, directory: Path, *access: str) -> AsyncIterator[tuple[Channels, str]]:
    """The whole core in one process; channels to it, and its HTTP address."""
    device = ("--core", f"core0@{lab.net.name}", "--address", f"core={SERVER}/32", "--route", "core=10.45.0.0/16")
    with castcore("up", "--dir", str(directory / "state"), *access, *device) as (_, ready):
        channels = Channels(ready["grpc"])
        try:
            yield channels, ready["http"]
        finally:
            await channels.close()


async def until_dropped(http: str, packets: int) -> None:
    """Returns when so many downlink packets have been dropped."""
    wanted = f'castcore_live_dropped_packets_total{{direction="downlink"}} {packets:.1f}'
    async with asyncio.timeout(20):
        # There is nothing to subscribe to.
        while wanted not in await asyncio.to_thread(metrics, http):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def metrics(http: str) -> list[str]:
    """What the core counts, a line each."""
    with urllib.request.urlopen(f"{http}/metrics") as answer:
        lines: list[str] = answer.read().decode().splitlines()
    return lines


def sessions(channels: Channels):
    return PduSessionsServiceStub(channels.get("smf"))


def attached(reference: str = "ue-1", *, gnb: str = GNB) -> CreatePduSessionRequest:
    session = PduSession(
        sm_context_ref=reference,
        supi="imsi-001010000000001",
        pdu_session_id=1,
        dnn="internet",
        s_nssai=Snssai(sst=1),
        ue_ipv4_address=UE,
        an_tunnel_info=TunnelInfo(ipv4_addr=gnb, gtp_teid=0x1001),
        qfi=9,
    )
    return CreatePduSessionRequest(pdu_session=session)


@pytest.mark.clause("TS 23.502 §4.3.2.2.1")
async def test_a_ue_attached_with_a_tunnel_reaches_the_network_and_is_reached(lab: Lab, tmp_path: Path) -> None:
    async with core(lab, tmp_path, "--n3", f"{UPF}@{lab.ran.name}") as (channels, _):
        session = (await sessions(channels).CreatePduSession(attached())).pdu_session
        assert session.cn_tunnel_info == TunnelInfo(ipv4_addr=UPF, gtp_teid=session.cp_seid, port=PORT)
        teid = session.cn_tunnel_info.gtp_teid
        gnb = lab.gnb(GNB)
        with lab.net.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, gnb.socket:
            server.bind((SERVER, 5000))
            server.settimeout(20)
            gnb.send(teid, UPLINK)
            assert await asyncio.to_thread(server.recvfrom, 100) == (b"up", (UE, 4000))
            server.sendto(b"down", (UE, 4000))
            received = await asyncio.to_thread(gnb.receive)
            assert (received.teid, received.qfi) == (0x1001, 9)
            assert bytes(IP(received.packet)[UDP].payload) == b"down"
            # Another UE's tunnel does not exist.
            gnb.send(teid + 1, UPLINK)
            assert (await asyncio.to_thread(gnb.receive_message)).gtp_type == ERROR_INDICATION
            await sessions(channels).ReleasePduSession(ReleasePduSessionRequest(sm_context_ref="ue-1"))
            gnb.send(teid, UPLINK)
            assert (await asyncio.to_thread(gnb.receive_message)).gtp_type == ERROR_INDICATION


@pytest.mark.clause("TS 29.244 §7.5.4.3 Update FAR")
async def test_a_far_that_is_changed_moves_the_downlink_to_another_gnb_or_stops_it(lab: Lab, tmp_path: Path) -> None:
    async with core(lab, tmp_path, "--n3", f"{UPF}@{lab.ran.name}") as (channels, http):
        await sessions(channels).CreatePduSession(attached())
        stub = N4ServiceStub(channels.get("upf"))
        (session,) = (await stub.ListSessions(n4.ListSessionsRequest())).sessions
        (far,) = (each for each in session.fars if each.forwarding_parameters.HasField("outer_header_creation"))
        first, second = lab.gnb(GNB), lab.gnb(OTHER_GNB)
        with lab.net.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, first.socket, second.socket:
            server.bind((SERVER, 5000))
            server.sendto(b"here", (UE, 4000))
            assert bytes(IP((await asyncio.to_thread(first.receive)).packet)[UDP].payload) == b"here"
            creation = far.forwarding_parameters.outer_header_creation
            creation.ipv4_address, creation.teid = OTHER_GNB, 0x2002
            await stub.ModifySession(n4.ModifySessionRequest(cp_seid=session.cp_seid, create_or_update_fars=[far]))
            server.sendto(b"there", (UE, 4000))
            received = await asyncio.to_thread(second.receive)
            assert (received.teid, bytes(IP(received.packet)[UDP].payload)) == (0x2002, b"there")
            far.apply_action = n4.APPLY_ACTION_DROP
            await stub.ModifySession(n4.ModifySessionRequest(cp_seid=session.cp_seid, create_or_update_fars=[far]))
            server.sendto(b"nowhere", (UE, 4000))
            far.apply_action = n4.APPLY_ACTION_FORW
            await until_dropped(http, 1)
            await stub.ModifySession(n4.ModifySessionRequest(cp_seid=session.cp_seid, create_or_update_fars=[far]))
            server.sendto(b"there", (UE, 4000))
            received = await asyncio.to_thread(second.receive)
            assert bytes(IP(received.packet)[UDP].payload) == b"there"


async def test_an_upf_without_n3_takes_no_session_with_a_tunnel(lab: Lab, tmp_path: Path) -> None:
    async with core(lab, tmp_path, "--access", f"access0@{lab.ran.name}") as (channels, _):
        with pytest.raises(FailedPrecondition, match="the UPF has no N3") as refused:
            await sessions(channels).CreatePduSession(attached())
        assert refused.value.reason == "UPF_WITHOUT_N3"


async def test_a_tunnel_is_of_one_session_and_what_is_refused_has_no_effect(lab: Lab, tmp_path: Path) -> None:
    async with core(lab, tmp_path, "--n3", f"{UPF}@{lab.ran.name}") as (channels, _):
        await sessions(channels).CreatePduSession(attached())
        stub = N4ServiceStub(channels.get("upf"))
        before = (await stub.ListSessions(n4.ListSessionsRequest())).sessions
        (other,) = (n4.Session.FromString(session.SerializeToString()) for session in before)
        other.cp_seid = 99
        with pytest.raises(InvalidArgument, match="session 99: teid 1 is that of session 1"):
            await stub.EstablishSession(n4.EstablishSessionRequest(session=other))
        assert (await stub.ListSessions(n4.ListSessionsRequest())).sessions == before
