"""`castcore tun --n3`: UEs behind a gNB, a server in the network, real UDP and TCP between them through GTP-U."""

from __future__ import annotations

import hashlib
import socket
import struct
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from command import CASTCORE, castcore
from gnb import ECHO_REQUEST, ECHO_RESPONSE, ERROR_INDICATION, Gnb, g_pdu
from live.live_traffic import iperf3
from live.live_tun import Tun
from live.networks import Network, networks, required, started
from scapy.contrib.gtp import GTP_U_Header
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

ROOT = Path(__file__).parents[2]
UPF, GNB, OTHER_GNB = "127.0.0.1", "127.0.0.2", "127.0.0.3"
UE, UE6, SECOND_UE = "10.45.0.2", "2001:db8:45::2", "10.45.0.3"
SERVER, SERVER6 = "198.51.100.2", "2001:db8:a::2"
MTU = 1400
PORT = 2152
PATIENCE_S = 30.0

SESSIONS = f"""
[[session]]
ue = ["{UE}", "2001:db8:45::/64"]
teid = 7
gnb = "{GNB}"
gnb_teid = 4097
qfi = 9

[[session]]
ue = "{SECOND_UE}"
teid = 8
gnb = "{OTHER_GNB}"
gnb_teid = 4098
qfi = 5
"""


@dataclass
class Lab:
    """The networks of the UEs, of the gNBs and the UPF's N3, and of the server."""

    ues: Network
    ran: Network
    net: Network
    rules: Path

    @contextmanager
    def tun(self, rules: str = "") -> Iterator[Tun]:
        """``castcore tun --n3``, with the sessions above and these rules."""
        self.rules.write_text(SESSIONS + rules)
        core = (
            "--core",
            f"core0@{self.net.name}",
            "--address",
            f"core={SERVER}/32",
            "--address",
            f"core={SERVER6}/128",
        )
        routes = ("--route", "core=10.45.0.0/16", "--route", "core=2001:db8:45::/48")
        n3 = ("--n3", f"{UPF}@{self.ran.name}")
        with started(CASTCORE, "tun", *n3, *core, *routes, "--rules", self.rules, "--json") as process:
            tun = Tun(process)
            tun.ready = tun.line()
            yield tun

    @contextmanager
    def gnb(self) -> Iterator[None]:
        """The gNB of the first session, with its UE behind it."""
        words = ("--at", f"{GNB}@{self.ran.name}", "--upf", UPF, "--ue", f"ue0@{self.ues.name}")
        addresses = ("--address", f"{UE}/32", "--address", f"{UE6}/128", "--route", "default")
        rules = ("--sessions", self.rules)
        with started(sys.executable, ROOT / "examples" / "gnb.py", *words, *addresses, *rules) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("2 sessions")
            yield

    def simulated(self, stack: ExitStack, host: str) -> Gnb:
        """A gNB of which the test itself is the UEs."""
        bound = self.ran.socket(socket.AF_INET, socket.SOCK_DGRAM)
        stack.callback(bound.close)
        bound.bind((host, PORT))
        return Gnb(bound, (UPF, PORT))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    required()
    with networks("ue", "ran", "net") as (ues, ran, net):
        yield Lab(ues, ran, net, tmp_path_factory.mktemp("n3") / "rules.toml")


def adds_up(final: dict[str, Any]) -> None:
    for direction in ("uplink", "downlink"):
        told = final[direction]
        what = ("passed", "dropped", "malformed", "held_off", "queued")
        assert told["packets"] == sum(told[f"{each}_packets"] for each in what) + sum(told["errors"].values())


def received_bytes(server: socket.socket, into: list[bytes]) -> None:
    connection, _ = server.accept()
    with connection:
        while data := connection.recv(1 << 16):
            into.append(data)


def carried(client: Network, server: Network, family: socket.AddressFamily, address: str, payload: bytes) -> bytes:
    """What a server receives of the payload that a client sends it over TCP."""
    with server.socket(family, socket.SOCK_STREAM) as listening, client.socket(family, socket.SOCK_STREAM) as sending:
        listening.bind((address, 0))
        listening.listen()
        into: list[bytes] = []
        receiving = threading.Thread(target=received_bytes, args=(listening, into))
        receiving.start()
        sending.settimeout(PATIENCE_S)
        sending.connect(listening.getsockname()[:2])
        sending.sendall(payload)
        sending.shutdown(socket.SHUT_WR)
        receiving.join(timeout=PATIENCE_S)
        assert not receiving.is_alive()
    return b"".join(into)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_tcp_comes_through_n3_byte_for_byte_both_ways(lab: Lab, family: socket.AddressFamily) -> None:
    ue, server = (UE, SERVER) if family == socket.AF_INET else (UE6, SERVER6)
    payload = b"".join(hashlib.sha256(struct.pack(">I", number)).digest() for number in range(1 << 17))
    with lab.tun() as tun, lab.gnb():
        assert carried(lab.ues, lab.net, family, server, payload) == payload
        assert carried(lab.net, lab.ues, family, ue, payload) == payload
        final = tun.final()
    adds_up(final)
    for direction in ("uplink", "downlink"):
        assert final[direction]["errors"] == {}
        # No packet was longer than the device's MTU, however long those are that the kernel hands over.
        assert final[direction]["packets"] > len(payload) // MTU
        assert final[direction]["writes"] < final[direction]["packets"] / 2


def test_each_session_has_its_tunnel_its_qos_flow_and_its_own_rate(lab: Lab) -> None:
    rules = f"""
    [[rule]]
    name = "first"
    flows = ["permit out ip from any to {UE}"]
    rate = "80 Kbps"
    burst = "10000 B"
    """
    with ExitStack() as stack:
        tun = stack.enter_context(lab.tun(rules))
        first, second = lab.simulated(stack, GNB), lab.simulated(stack, OTHER_GNB)
        server = stack.enter_context(lab.net.socket(socket.AF_INET, socket.SOCK_DGRAM))
        server.bind((SERVER, 5000))
        server.settimeout(PATIENCE_S)
        for gnb, teid, ue in ((first, 7, UE), (second, 8, SECOND_UE)):
            gnb.send(teid, IP(src=ue, dst=SERVER) / UDP(sport=4000, dport=5000) / Raw(ue.encode()))
            assert server.recvfrom(100) == (ue.encode(), (ue, 4000))
        for _ in range(100):
            for ue in (UE, SECOND_UE):
                server.sendto(bytes(972), (ue, 4000))
        server.sendto(b"end", (SECOND_UE, 4000))
        got = [second.receive() for _ in range(101)]
        assert {(each.teid, each.qfi) for each in got} == {(4098, 5)}
        # 100,000 bytes at 80 kbps: what fits into the bucket, and little more.
        passed = first.receive()
        assert (passed.teid, passed.qfi) == (4097, 9)
        final = tun.final()
    adds_up(final)
    counted = {(rule["direction"], rule["name"]): rule for rule in final["rules"]}
    rule = counted["downlink", "first"]
    assert rule["packets"] == 100
    assert 10 <= rule["passed_packets"] < 30
    assert rule["dropped_packets"] == 100 - rule["passed_packets"]


def test_strangers_and_impostors_are_counted_and_told(lab: Lab) -> None:
    with ExitStack() as stack:
        tun = stack.enter_context(lab.tun())
        gnb = lab.simulated(stack, GNB)
        packet = IP(src=UE, dst=SERVER) / UDP(sport=4000, dport=5000) / Raw(b"x")
        gnb.send(99, packet)
        assert gnb.receive_message().gtp_type == ERROR_INDICATION
        gnb.send(8, packet)
        gnb.send_message(g_pdu(7, packet)[:-1])
        gnb.send_message(GTP_U_Header(gtp_type=ECHO_REQUEST, S=1, seq=3))
        answer = gnb.receive_message()
        assert (answer.gtp_type, answer.seq) == (ECHO_RESPONSE, 3)
        with lab.net.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind((SERVER, 0))
            server.sendto(b"x", ("10.45.0.99", 4000))
            server.sendto(b"x", (UE, 4000))
            assert gnb.receive().teid == 4097
        final = tun.final()
    adds_up(final)
    assert final["uplink"]["errors"] == {"unknown_teid": 1, "spoofed_source": 1}
    assert final["uplink"]["malformed_reasons"] == {"gtpu_header": 1}
    assert final["downlink"]["errors"] == {"no_tunnel": 1}
    # The datagram that was cut is no message.
    assert final["n3"] == {
        "received": {"echo_request": 1, "g_pdu": 2},
        "sent": {"echo_response": 1, "error_indication": 1},
    }


def test_a_datagram_longer_than_the_mtu_comes_in_fragments_through_the_tunnel(lab: Lab) -> None:
    with lab.tun() as tun, lab.gnb():
        with (
            lab.net.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
            lab.ues.socket(socket.AF_INET, socket.SOCK_DGRAM) as ue,
        ):
            server.bind((SERVER, 5000))
            ue.bind((UE, 4000))
            for each in (server, ue):
                each.settimeout(PATIENCE_S)
            payload = bytes(range(250)) * 20
            ue.sendto(payload, (SERVER, 5000))
            assert server.recvfrom(10_000) == (payload, (UE, 4000))
            server.sendto(payload, (UE, 4000))
            assert ue.recvfrom(10_000) == (payload, (SERVER, 5000))
        adds_up(tun.final())


def test_a_path_too_narrow_for_the_tunnel_carries_its_datagrams_in_fragments(lab: Lab) -> None:
    payload = bytes(range(250)) * 4_000
    lab.ran.ip("link set lo mtu 1300")
    try:
        with lab.tun() as tun, lab.gnb():
            assert carried(lab.net, lab.ues, socket.AF_INET, UE, payload) == payload
            assert carried(lab.ues, lab.net, socket.AF_INET, SERVER, payload) == payload
            final = tun.final()
    finally:
        lab.ran.ip("link set lo mtu 65536")
    adds_up(final)
    assert final["downlink"]["errors"] == {}


def test_a_rate_for_the_session_holds_for_tcp_through_n3(lab: Lab) -> None:
    required("iperf3")
    rules = f"""
    [[rule]]
    name = "session"
    flows = ["permit out ip from any to {UE}"]
    rate = "20 Mbps"
    """
    with lab.tun(rules) as tun, lab.gnb():
        end = iperf3(lab.ues, lab.net, SERVER, "-R", seconds=3)["end"]
        final = tun.final()
    adds_up(final)
    assert 15e6 < end["sum_received"]["bits_per_second"] < 22e6


# --- what the command refuses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--core", "core0"), "option '--access': missing, expected it or --n3"),
        (("--core", "core0", "--n3", UPF, "--access", "ue0"), "option '--n3': goes without --access"),
        (
            ("--core", "core0", "--n3", UPF),
            "option '--n3': no sessions, expected [[session]] in a file given by --rules",
        ),
        (("--core", "core0", "--n3", "0.0.0.0"), "n3: found '0.0.0.0', expected the address of this host"),
        (
            ("--core", "core0", "--n3", UPF, "--address", "access=10.45.0.2/32"),
            "option '--address': found 'access=10.45.0.2/32', expected none: N3 is no device",
        ),
    ],
)
def test_what_does_not_go_together_is_named(options: Sequence[str], problem: str) -> None:
    done = castcore("tun", *options)
    assert done.returncode == 1
    assert problem in done.stderr
