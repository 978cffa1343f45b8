"""N3: what comes out of tunnels and what goes into them. A local socket stands in place of the tun device."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

import pytest
from gnb import (
    ECHO_REQUEST,
    ECHO_RESPONSE,
    END_MARKER,
    ERROR_INDICATION,
    PATIENCE_S,
    Gnb,
    Received,
    g_pdu,
    gnb,
    read_g_pdu,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.contrib.gtp import IE_TEIDI, GTP_U_Header, IE_GSNAddress, IE_Recovery
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw

from upf.counters import WireCounters
from upf.engine import Engine
from upf.errors import UpfError
from upf.gtpu import Tunnel as ReadTunnel
from upf.gtpu import parse_gtpu
from upf.live.n3 import N3Bump, N3Place, N3Socket, open_n3
from upf.rules import Mode, Policer, Rule
from upf.sdf import parse_filter
from upf.tunnels import OuterHeader, Tunnel

UE, UE6 = "10.45.0.2", "2001:db8:45::2"
SERVER, SERVER6 = "198.51.100.7", "2001:db8:a::7"
GNB = "127.0.0.2"
TEID, GNB_TEID, QFI = 7, 0x1001, 9
PLAIN = bytes(10)
NEEDS_CHECKSUM, NONE, TCP4, TCP6, UDP_L4 = 1, 0, 1, 4, 5


@dataclass
class Core:
    """The tun device of the core, as whoever is behind it sees it."""

    place: str
    fd: int
    host: socket.socket

    def receive(self) -> bytes:
        """The next packet, with its virtio-net header."""
        return self.host.recv(70_000)

    def send(self, packet: bytes | Packet, header: bytes = PLAIN) -> None:
        self.host.send(header + bytes(packet))


@dataclass
class N3:
    """Both wires, running."""

    bump: N3Bump
    core: Core
    n3: N3Socket
    gnb: Gnb
    uplink: Engine
    downlink: Engine

    def ended(self) -> tuple[WireCounters, WireCounters]:
        """The counters when all that has come has been dealt with."""
        # What comes last is through when the first of it is: each direction is one thread.
        self.gnb.send_message(GTP_U_Header(gtp_type=ECHO_REQUEST, S=1, seq=0xFFFF))
        while (message := self.gnb.receive_message()).gtp_type != ECHO_RESPONSE or message.seq != 0xFFFF:
            pass
        self.bump.stop()
        counters = self.bump.counters()
        for each in counters.values():
            assert each.packets == (
                each.passed_packets + each.dropped_packets + each.malformed_packets + each.held_off_packets
                + each.queued_packets + each.error_packets
            )  # fmt: skip
        return counters["uplink"], counters["downlink"]


def tunnel(outer_header: OuterHeader | None, *ues: str, teid: int = TEID, name: str = "1") -> Tunnel:
    return Tunnel(name, tuple(ip_network(ue) for ue in ues), teid, outer_header)


def rule(name: str, text: str, policer: Policer | None = None, mode: Mode = Mode.POLICE) -> Rule:
    return Rule(name, 10, (parse_filter(text),), policer, mode)


@contextmanager
def one_n3(upf: str = "127.0.0.1", ran: str = GNB, qfi: int | None = QFI) -> Iterator[N3]:
    """N3 between the core and a gNB, with the session of a UE."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    theirs.settimeout(PATIENCE_S)
    place = N3Place.parse(f"[{upf}]:1" if ":" in upf else f"{upf}:1")
    # Over IPv6 the loopback has one address only, so that the gNB has to have a port of its own.
    with (
        open_n3(N3Place(place.address, 0)) as bound,
        gnb(ran, (upf, bound.place.port), port=0 if upf == ran else None) as peer,
    ):
        uplink, downlink = Engine(), Engine()
        core = Core("core", ours.fileno(), theirs)
        bump = N3Bump(bound, core, uplink=uplink, downlink=downlink)
        outer_header = OuterHeader(ip_address(ran), GNB_TEID, qfi, peer.address[1])
        bump.change_tunnels([tunnel(outer_header, UE, "2001:db8:45::/64")])
        bump.start()
        try:
            yield N3(bump, core, bound, peer, uplink, downlink)
        finally:
            bump.stop()
            ours.close()
            theirs.close()


@pytest.fixture
def n3(request: pytest.FixtureRequest) -> Iterator[N3]:
    """``request.param``: the UPF's and the gNB's address, and the QFI."""
    with one_n3(*getattr(request, "param", ())) as made:
        yield made


def uplink_packet(number: int = 0, **ip: object) -> Packet:
    return IP(**{"src": UE, "dst": SERVER, **ip}) / UDP(sport=1000, dport=2000) / Raw(struct.pack(">I", number))


def partial(packet: Packet, kind: int, segment_bytes: int) -> tuple[bytes, bytes]:
    """The packet as the kernel hands it over: virtio-net header, packet with the sum of its pseudo-header alone."""
    data = bytearray(bytes(packet))
    v4 = data[0] >> 4 == 4
    transport = 20 if v4 else 40
    addresses = data[12:20] if v4 else data[8:40]
    protocol = data[9] if v4 else data[6]
    pseudo = bytes(addresses) + struct.pack(">HH", protocol, len(data) - transport)
    total = sum(struct.unpack(f">{len(pseudo) // 2}H", pseudo))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    offset = 16 if protocol == 6 else 6
    struct.pack_into(">H", data, transport + offset, total)
    headers = transport + (data[transport + 12] >> 4) * 4 if protocol == 6 else transport + 8
    header = struct.pack("=BBHHHH", NEEDS_CHECKSUM, kind, headers, segment_bytes, transport, offset)
    return header, bytes(data)


def again(packet: bytes) -> bytes:
    """The packet with lengths and checksums as scapy makes them."""
    read = IP(packet) if packet[0] >> 4 == 4 else IPv6(packet)
    for layer, fields in ((IP, ("len", "chksum")), (IPv6, ("plen",)), (TCP, ("chksum",)), (UDP, ("len", "chksum"))):
        if layer in read:
            for field in fields:
                delattr(read[layer], field)
    return bytes(read)


# --- uplink -----------------------------------------------------------------------------------------------------------


@pytest.mark.clause("TS 29.281 §5.2 G-PDU")
@pytest.mark.parametrize("qfi", [None, 0, 9, 63])
def test_what_a_ue_sends_comes_out_as_it_was(n3: N3, qfi: int | None) -> None:
    packets = [bytes(uplink_packet()), bytes(IPv6(src=UE6, dst=SERVER6) / UDP(sport=1, dport=2) / Raw(b"six"))]
    for packet in packets:
        n3.gnb.send(TEID, packet, qfi)
        assert n3.core.receive() == PLAIN + packet
    uplink, downlink = n3.ended()
    assert (uplink.packets, uplink.bytes) == (2, sum(map(len, packets)))
    assert (uplink.passed_packets, uplink.passed_bytes) == (2, sum(map(len, packets)))
    assert downlink.packets == 0
    assert {(flow.teid, flow.qfi) for flow in n3.uplink.flows()} == {(TEID, qfi)}


def test_many_datagrams_that_the_kernel_hands_over_as_one_come_out_one_by_one(n3: N3) -> None:
    packets = [bytes(uplink_packet(number)) for number in range(64)]
    datagrams = [g_pdu(TEID, packet, 9 if number % 2 else 8) for number, packet in enumerate(packets)]
    n3.gnb.socket.setsockopt(socket.IPPROTO_UDP, 103, len(datagrams[0]))
    n3.gnb.send_message(b"".join(datagrams))
    assert [n3.core.receive() for _ in packets] == [PLAIN + packet for packet in packets]
    n3.gnb.socket.setsockopt(socket.IPPROTO_UDP, 103, 0)
    uplink, _ = n3.ended()
    assert uplink.packets == 64
    assert uplink.reads < 64


def test_headers_too_short_for_that_of_the_device_spare_the_packets_before_them(n3: N3) -> None:
    packets = [bytes(uplink_packet(number)) for number in range(20)]
    datagrams = [g_pdu(TEID, packet, None) for packet in packets]
    n3.gnb.socket.setsockopt(socket.IPPROTO_UDP, 103, len(datagrams[0]))
    n3.gnb.send_message(b"".join(datagrams))
    assert [n3.core.receive() for _ in packets] == [PLAIN + packet for packet in packets]


def test_a_rule_may_ask_for_a_qos_flow(n3: N3) -> None:
    n3.uplink.install(
        [
            rule("nine", "permit out ip from any to any qfi 9"),
            rule("tunnel", f"permit out ip from any to any teid {TEID}"),
        ]
    )
    for qfi in (9, 8, 9):
        n3.gnb.send(TEID, uplink_packet(), qfi)
        n3.core.receive()
    n3.ended()
    assert {name: each.packets for name, each in n3.uplink.rule_counters().items()} == {"nine": 2, "tunnel": 1}


def test_the_packet_in_the_tunnel_is_policed_by_its_own_length(n3: N3) -> None:
    n3.uplink.install([rule("slow", "permit out ip from any to any", Policer(8, 64))])
    for number in range(10):
        n3.gnb.send(TEID, uplink_packet(number))
    uplink, _ = n3.ended()
    # 32 bytes each, and as good as no refill.
    assert (uplink.passed_packets, uplink.dropped_packets) == (2, 8)
    assert uplink.dropped_bytes == 8 * 32


def test_a_fragment_that_comes_before_its_first_goes_right_behind_it(n3: N3) -> None:
    whole = IP(src=UE, dst=SERVER, id=7) / UDP(sport=1000, dport=2000) / Raw(bytes(range(64)))
    payload = bytes(whole)[20:]
    first = bytes(IP(src=UE, dst=SERVER, id=7, flags="MF", proto=17) / Raw(payload[:32]))
    last = bytes(IP(src=UE, dst=SERVER, id=7, frag=4, proto=17) / Raw(payload[32:]))
    for packet in (last, first):
        n3.gnb.send(TEID, packet)
    assert [n3.core.receive() for _ in range(2)] == [PLAIN + first, PLAIN + last]
    uplink, _ = n3.ended()
    assert uplink.passed_packets == 2


# --- what is let fall -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "packet",
    [
        uplink_packet(src="10.45.0.3"),
        IPv6(src="2001:db8:46::2", dst=SERVER6) / UDP() / Raw(b"x"),
        IPv6(src="fe80::1", dst="ff02::2") / UDP() / Raw(b"x"),
    ],
)
def test_another_than_the_ue_of_the_tunnel_may_not_send(n3: N3, packet: Packet) -> None:
    n3.gnb.send(TEID, packet)
    uplink, _ = n3.ended()
    assert uplink.errors == {"spoofed_source": 1}
    assert uplink.error_bytes == len(bytes(packet))


@pytest.mark.clause("TS 29.281 §7.3.1 Error Indication")
def test_an_unknown_teid_is_told_to_the_peer_with_the_address_that_it_came_to(n3: N3) -> None:
    n3.gnb.send(0xDEADBEEF, uplink_packet())
    message = n3.gnb.receive_message()
    assert (message.gtp_type, message.teid, message.seq) == (ERROR_INDICATION, 0, 0)
    assert message[IE_TEIDI].TEIDI == 0xDEADBEEF
    assert message[IE_GSNAddress].ipv4_address == "127.0.0.1"
    uplink, _ = n3.ended()
    assert uplink.errors == {"unknown_teid": 1}
    assert n3.bump.messages() == {
        "received": {"echo_request": 1, "g_pdu": 1},
        "sent": {"echo_response": 1, "error_indication": 1},
    }


def test_what_comes_in_a_tunnel_that_has_been_removed_is_unknown(n3: N3) -> None:
    n3.bump.change_tunnels([], ["1"])
    n3.gnb.send(TEID, uplink_packet())
    assert n3.gnb.receive_message().gtp_type == ERROR_INDICATION
    n3.bump.change_tunnels([tunnel(None, UE)])
    n3.gnb.send(TEID, uplink_packet())
    assert n3.core.receive() == PLAIN + bytes(uplink_packet())


GOOD = g_pdu(TEID, uplink_packet(), 9)


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (b"", "gtpu_header"),
        (b"\x30", "gtpu_header"),
        (b"\x50" + GOOD[1:], "gtpu_header"),
        (GOOD[:2] + b"\xff\xff" + GOOD[4:], "gtpu_header"),
        (GOOD[:12] + b"\0" + GOOD[13:], "gtpu_header"),
        (g_pdu(TEID, b""), "ip_header"),
        (g_pdu(TEID, bytes(uplink_packet())[:19]), "ip_header"),
        (g_pdu(TEID, bytes(IPv6(src=UE6, dst=SERVER6))[:39]), "ip_header"),
        (g_pdu(TEID, b"\x50" + bytes(uplink_packet())[1:]), "ip_version"),
        (g_pdu(TEID, bytes(uplink_packet())[:-1]), "ip_total_length"),
        (g_pdu(TEID, bytes(uplink_packet(len=0))), "ip_total_length"),
        (g_pdu(TEID, b"\x44" + bytes(uplink_packet())[1:]), "ip_header_length"),
        (g_pdu(TEID, bytes(IPv6(src=UE6, dst=SERVER6) / UDP())[:-1]), "ip_total_length"),
    ],
)
def test_what_is_malformed_is_counted_by_its_reason(n3: N3, datagram: bytes, reason: str) -> None:
    n3.gnb.send_message(datagram)
    n3.gnb.send(TEID, uplink_packet())
    assert n3.core.receive() == PLAIN + bytes(uplink_packet())
    uplink, _ = n3.ended()
    assert (uplink.packets, uplink.malformed_packets, uplink.passed_packets) == (2, 1, 1)
    assert n3.uplink.totals().malformed == {reason: 1}


def test_while_nothing_is_forwarded_packets_are_held_off(n3: N3) -> None:
    n3.bump.forwarding = False
    n3.gnb.send(TEID, uplink_packet())
    uplink, _ = n3.ended()
    assert (uplink.packets, uplink.held_off_packets) == (1, 1)


# --- messages ---------------------------------------------------------------------------------------------------------


@pytest.mark.clause("TS 29.281 §7.2.2 Echo Response")
def test_an_echo_request_is_answered_with_its_sequence_number(n3: N3) -> None:
    n3.gnb.send_message(GTP_U_Header(gtp_type=ECHO_REQUEST, S=1, seq=0x1234))
    answer = n3.gnb.receive_message()
    assert (answer.gtp_type, answer.teid, answer.S, answer.seq) == (ECHO_RESPONSE, 0, 1, 0x1234)
    assert answer[IE_Recovery].restart_counter == 0


@pytest.mark.clause("TS 29.281 §7.3.2 End Marker")
def test_an_end_marker_is_counted_and_is_no_packet(n3: N3) -> None:
    n3.gnb.send_message(GTP_U_Header(gtp_type=END_MARKER, teid=TEID))
    uplink, _ = n3.ended()
    assert uplink.packets == 0
    assert n3.bump.messages()["received"] == {"end_marker": 1, "echo_request": 1}


# --- downlink ---------------------------------------------------------------------------------------------------------


@pytest.mark.clause("TS 38.415 §5.5.2.1 DL PDU SESSION INFORMATION")
def test_what_is_for_a_ue_goes_into_its_tunnel_in_its_qos_flow(n3: N3) -> None:
    packets = [
        bytes(IP(src=SERVER, dst=UE) / UDP(sport=1, dport=2) / Raw(b"four")),
        bytes(IPv6(src=SERVER6, dst=UE6) / UDP(sport=1, dport=2) / Raw(b"six")),
    ]
    for packet in packets:
        n3.core.send(packet)
        datagram = n3.gnb.socket.recv(65_536)
        assert read_g_pdu(datagram) == Received(GNB_TEID, QFI, packet)
        assert parse_gtpu(datagram, len(datagram)) == ReadTunnel("g_pdu", GNB_TEID, QFI, 16, len(datagram))
    _, downlink = n3.ended()
    assert (downlink.passed_packets, downlink.passed_bytes) == (2, sum(map(len, packets)))


@pytest.mark.parametrize("n3", [("::1", "::1", QFI), ("127.0.0.1", GNB, None)], indirect=True)
def test_the_outer_header_is_of_ipv6_too_and_a_tunnel_may_have_no_qos_flow(n3: N3) -> None:
    n3.gnb.send(TEID, uplink_packet())
    assert n3.core.receive() == PLAIN + bytes(uplink_packet())
    packet = IP(src=SERVER, dst=UE) / TCP(sport=80, dport=99, seq=5, flags="A") / Raw(bytes(range(250)) * 12)
    header, data = partial(packet, TCP4, 1000)
    n3.core.send(data, header)
    received = [n3.gnb.receive() for _ in range(3)]
    assert {each.qfi for each in received} == {QFI if n3.gnb.upf[0] == "::1" else None}
    assert b"".join(bytes(IP(each.packet)[TCP].payload) for each in received) == bytes(packet[TCP].payload)
    assert [each.packet for each in received] == [again(each.packet) for each in received]


def test_what_is_for_nobody_is_counted(n3: N3) -> None:
    n3.bump.change_tunnels([tunnel(None, "10.45.0.9", teid=8, name="2")])
    for ue in ("10.45.0.3", "10.45.0.9"):
        n3.core.send(IP(src=SERVER, dst=ue) / UDP() / Raw(b"x"))
    n3.core.send(IP(src=SERVER, dst=UE) / UDP() / Raw(b"x"))
    n3.gnb.receive()
    _, downlink = n3.ended()
    assert (downlink.packets, downlink.passed_packets, downlink.errors) == (3, 1, {"no_tunnel": 2})


def test_each_session_has_its_own_tunnel_and_may_move_to_another_gnb(n3: N3) -> None:
    with gnb("127.0.0.3", n3.gnb.upf) as other:
        here = OuterHeader(ip_address(GNB), 0x2002, 5, n3.gnb.address[1])
        there = OuterHeader(ip_address("127.0.0.3"), 0x3003, 6, other.address[1])
        n3.bump.change_tunnels([tunnel(here, "10.45.0.3", teid=8, name="2")])
        packet = bytes(IP(src=SERVER, dst="10.45.0.3") / UDP() / Raw(b"x"))
        n3.core.send(packet)
        assert n3.gnb.receive() == Received(0x2002, 5, packet)
        n3.bump.change_tunnels([tunnel(there, "10.45.0.3", teid=8, name="2")])
        n3.core.send(packet)
        assert other.receive() == Received(0x3003, 6, packet)
        assert len(n3.bump.tunnels) == 2


@given(
    version=st.sampled_from([4, 6]),
    tcp=st.booleans(),
    payload_bytes=st.integers(1, 50_000),
    segment_bytes=st.integers(500, 1460),
    options=st.booleans(),
    seq=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_a_super_packet_leaves_as_the_segments_that_it_stands_for(
    version: int, tcp: bool, payload_bytes: int, segment_bytes: int, options: bool, seq: int
) -> None:
    payload = bytes(number * 7 & 0xFF for number in range(payload_bytes))
    ip = IP(src=SERVER, dst=UE, id=65_530, flags="DF") if version == 4 else IPv6(src=SERVER6, dst=UE6, fl=5)
    timestamps = [("NOP", None), ("NOP", None), ("Timestamp", (1, 2))] if options else []
    transport = TCP(sport=80, dport=99, seq=seq, flags="PA", options=timestamps) if tcp else UDP(sport=80, dport=99)
    header, data = partial(
        ip / transport / Raw(payload), (TCP4 if version == 4 else TCP6) if tcp else UDP_L4, segment_bytes
    )
    count = -(-payload_bytes // segment_bytes)
    if count == 1:
        header = bytes([NEEDS_CHECKSUM, NONE]) + header[2:]
    with one_n3() as n3:
        n3.core.send(data, header)
        received = [n3.gnb.receive() for _ in range(count)]
        n3.core.send(IP(src=SERVER, dst=UE) / UDP() / Raw(b"end"))
        assert bytes(IP(n3.gnb.receive().packet)[UDP].payload) == b"end"
    segments = [each.packet for each in received]
    # Lengths and checksums are those that scapy makes of the same headers and payload.
    assert segments == [again(segment) for segment in segments]
    read = [IP(segment) if version == 4 else IPv6(segment) for segment in segments]
    layer = TCP if tcp else UDP
    assert b"".join(bytes(each[layer].payload) for each in read) == payload
    assert {len(bytes(each[layer].payload)) for each in read[:-1]} <= {segment_bytes}
    if tcp:
        assert [each[TCP].seq for each in read] == [(seq + at * segment_bytes) % 2**32 for at in range(count)]
        assert [str(each[TCP].flags) for each in read] == ["A"] * (count - 1) + ["PA"]
    if version == 4:
        assert [each.id for each in read] == [(65_530 + at) % 65_536 for at in range(count)]


def test_segments_of_many_lengths_and_peers_stay_apart(n3: N3) -> None:
    lengths = [100, 100, 50, 100, 200, 200, 1, 1400, 1400, 3]
    packets = [bytes(IP(src=SERVER, dst=UE, id=at) / UDP() / Raw(bytes(length))) for at, length in enumerate(lengths)]
    for _ in range(10):
        for packet in packets:
            n3.core.send(packet)
        assert [n3.gnb.receive().packet for _ in packets] == packets


# --- sums -------------------------------------------------------------------------------------------------------------


def stream(count: int, *, seq: int = 1000, segment_bytes: int = 1000, last: int = 1000, **tcp: object) -> list[bytes]:
    """Segments of one TCP stream from the UE."""
    lengths = [segment_bytes] * (count - 1) + [last]
    return [
        bytes(
            IP(src=UE, dst=SERVER, id=at, flags="DF")
            / TCP(
                **{"sport": 99, "dport": 80, "seq": (seq + at * segment_bytes) % 2**32, "ack": 7, "flags": "A", **tcp}
            )
            / Raw(bytes([at]) * length)
        )
        for at, length in enumerate(lengths)
    ]


def sent_at_once(n3: N3, packets: Sequence[bytes]) -> None:
    """The G-PDUs of packets of one length (the last may be shorter) in one message."""
    datagrams = [g_pdu(TEID, packet, 9) for packet in packets]
    n3.gnb.socket.setsockopt(socket.IPPROTO_UDP, 103, len(datagrams[0]))
    n3.gnb.send_message(b"".join(datagrams))
    n3.gnb.socket.setsockopt(socket.IPPROTO_UDP, 103, 0)


def segments_of(data: bytes) -> list[bytes]:
    """What a packet that is handed to the kernel stands for, as scapy would write it."""
    flags, kind, _, segment_bytes, start, _ = struct.unpack("=BBHHHH", data[:10])
    packet = data[10:]
    if kind == NONE:
        return [packet]
    assert flags == NEEDS_CHECKSUM
    assert partial(IP(packet) if packet[0] >> 4 == 4 else IPv6(packet), kind, segment_bytes) == (data[:10], packet)
    read = IP(packet) if packet[0] >> 4 == 4 else IPv6(packet)
    payload = bytes(read[TCP].payload)
    made = []
    for at in range(0, len(payload), segment_bytes):
        segment = read.copy()
        segment[TCP].remove_payload()
        segment[TCP].seq = (read[TCP].seq + at) % 2**32
        if at + segment_bytes < len(payload):
            segment[TCP].flags = "A"
        if IP in segment:
            segment[IP].id = read.id + at // segment_bytes
        made.append(again(bytes(segment / Raw(payload[at : at + segment_bytes]))))
    assert start == (20 if packet[0] >> 4 == 4 else 40)
    return made


@pytest.mark.parametrize(
    ("packets", "pieces"),
    [
        (stream(40), 1),
        (stream(40, last=3), 1),
        (stream(40, seq=2**32 - 5000), 1),
        (stream(1), 1),
        (stream(3, ack=8) + stream(3, ack=9, seq=4000), 2),
        (stream(3) + stream(3, seq=5000), 2),
        (stream(3, flags="PA"), 3),
        (stream(2, flags="FA"), 2),
        (stream(3, sport=98) + stream(3), 2),
        (stream(3, window=1) + stream(3, window=2, seq=4000), 2),
        (stream(3, options=[("Timestamp", (1, 1)), ("NOP", 0), ("NOP", 0)]), 1),
    ],
)
def test_neighbouring_segments_of_a_stream_leave_in_one_piece_that_says_the_same(
    n3: N3, packets: list[bytes], pieces: int
) -> None:
    sent_at_once(n3, packets)
    received = [n3.core.receive() for _ in range(pieces)]
    assert [segment for data in received for segment in segments_of(data)] == packets
    uplink, _ = n3.ended()
    assert (uplink.passed_packets, uplink.passed_bytes) == (len(packets), sum(map(len, packets)))
    assert uplink.writes == pieces


def test_a_segment_whose_checksum_is_wrong_stays_alone_and_wrong(n3: N3) -> None:
    packets = stream(3)
    packets[1] = packets[1][:-1] + b"\xff"
    sent_at_once(n3, packets)
    assert [n3.core.receive() for _ in packets] == [PLAIN + packet for packet in packets]


def test_segments_of_ipv6_leave_in_one_piece_too(n3: N3) -> None:
    packets = [
        bytes(IPv6(src=UE6, dst=SERVER6) / TCP(sport=9, dport=80, seq=at * 100, flags="A") / Raw(bytes([at]) * 100))
        for at in range(5)
    ]
    sent_at_once(n3, packets)
    assert segments_of(n3.core.receive()) == packets


def test_only_the_segments_that_pass_leave(n3: N3) -> None:
    n3.uplink.install([rule("slow", "permit out ip from any to any", Policer(8, 5000))])
    sent_at_once(n3, stream(40))
    assert segments_of(n3.core.receive()) == stream(4)
    uplink, _ = n3.ended()
    assert (uplink.passed_packets, uplink.dropped_packets) == (4, 36)


def test_what_shaping_holds_back_leaves_as_it_came(n3: N3) -> None:
    shaped = Rule(
        "shaped",
        10,
        (parse_filter("permit out ip from any to any"),),
        Policer(10_000_000, 1500),
        Mode.SHAPE,
        queue_bytes=100_000,
    )
    n3.uplink.install([shaped])
    n3.downlink.install([shaped])
    packets = stream(20)
    sent_at_once(n3, packets)
    received: list[bytes] = []
    while len(received) < len(packets):
        received += segments_of(n3.core.receive())
    assert received == packets
    header, data = partial(IP(src=SERVER, dst=UE, flags="DF") / TCP(flags="A") / Raw(bytes(20_000)), TCP4, 1000)
    n3.core.send(data, header)
    assert sum(len(IP(n3.gnb.receive().packet)[TCP].payload) for _ in range(20)) == 20_000
    uplink, downlink = n3.ended()
    assert (uplink.passed_packets, downlink.passed_packets) == (20, 20)


# --- threads and places -----------------------------------------------------------------------------------------------


def test_tunnels_change_while_packets_flow(n3: N3) -> None:
    done = threading.Event()

    def change() -> None:
        for number in range(2000):
            others = [tunnel(None, f"10.46.{number % 200}.{at}", teid=1000 + at, name=f"t{at}") for at in range(20)]
            n3.bump.change_tunnels(others)
        n3.bump.change_tunnels([], [f"t{at}" for at in range(20)])
        done.set()

    changing = threading.Thread(target=change)
    changing.start()
    number = 0
    while not done.is_set():
        n3.gnb.send(TEID, uplink_packet(number))
        assert n3.core.receive() == PLAIN + bytes(uplink_packet(number))
        number += 1
    changing.join()
    assert n3.bump.tunnels == (n3.bump.tunnels[0],)
    uplink, _ = n3.ended()
    assert uplink.passed_packets == number


def test_ten_thousand_sessions_are_found_and_forgotten(n3: N3) -> None:
    def of(number: int) -> Tunnel:
        outer_header = OuterHeader(ip_address(GNB), number + 1, None, n3.gnb.address[1])
        ues = (ip_network(f"10.{50 + number // 65_536}.{number // 256 % 256}.{number % 256}/32"),)
        return Tunnel(f"s{number}", ues, 100 + number, outer_header)

    n3.bump.change_tunnels([of(number) for number in range(10_000)])
    n3.bump.change_tunnels([], [f"s{number}" for number in range(10_000) if number % 3])
    for number in range(60):
        ue = str(of(number).ues[0].network_address)
        n3.core.send(IP(src=SERVER, dst=ue) / UDP() / Raw(b"x"))
        n3.gnb.send(100 + number, uplink_packet(src=ue))
        if number % 3 == 0:
            assert bytes(IP(n3.core.receive()[10:])) == bytes(uplink_packet(src=ue))
    known = 0
    while known < 20:
        message = n3.gnb.receive_message()
        known += message.gtp_type == 255
    uplink, downlink = n3.ended()
    assert (uplink.passed_packets, uplink.errors) == (20, {"unknown_teid": 40})
    assert (downlink.passed_packets, downlink.errors) == (20, {"no_tunnel": 40})


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("192.0.2.1", N3Place(ip_address("192.0.2.1"))),
        ("192.0.2.1:21520@ran", N3Place(ip_address("192.0.2.1"), 21_520, "ran")),
        ("[2001:db8::1]:2152", N3Place(ip_address("2001:db8::1"))),
    ],
)
def test_n3_is_at_an_address(text: str, place: N3Place) -> None:
    assert N3Place.parse(text) == place
    assert N3Place.parse(str(place)) == place


@pytest.mark.parametrize("text", ["", "0.0.0.0", "::", "224.0.0.1", "n3", "192.0.2.1@", "192.0.2.1:x"])
def test_what_is_no_place_for_n3_is_refused(text: str) -> None:
    with pytest.raises(UpfError, match="n3: found"):
        N3Place.parse(text)


def test_an_address_that_is_not_of_this_host_is_named() -> None:
    with pytest.raises(UpfError, match=r"n3 192\.0\.2\.1:2152: .*expected an address of this host"):
        open_n3(N3Place.parse("192.0.2.1"))


# --- whatever comes ---------------------------------------------------------------------------------------------------


def fate_of(datagram: bytes) -> str:
    """What is to become of a datagram, by the reference reading."""
    read = parse_gtpu(datagram, len(datagram))
    if not isinstance(read, ReadTunnel):
        return "malformed"
    if read.message != "g_pdu":
        return "message"
    if read.teid != TEID:
        return "unknown_teid"
    inner = datagram[read.start : read.end]
    version = inner[0] >> 4 if inner else 0
    if len(inner) < {4: 20, 6: 40}.get(version, 1 << 16):
        return "malformed"
    stated = int.from_bytes(inner[2:4], "big") if version == 4 else 40 + int.from_bytes(inner[4:6], "big")
    if not 20 <= stated <= len(inner):
        return "malformed"
    source = inner[12:16] if version == 4 else inner[8:16]
    if source != (ip_address(UE).packed if version == 4 else ip_address(UE6).packed[:8]):
        return "spoofed_source"
    return "judged"


SEEDS = [
    g_pdu(TEID, uplink_packet(), 9),
    g_pdu(TEID, uplink_packet(), None),
    g_pdu(TEID, IPv6(src=UE6, dst=SERVER6) / TCP(flags="A") / Raw(b"x" * 30), 9),
    g_pdu(TEID, IP(src=UE, dst=SERVER, flags="MF", frag=0, id=7) / UDP() / Raw(bytes(16)), 9),
    bytes(GTP_U_Header(gtp_type=END_MARKER, teid=TEID)),
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A datagram that somebody may send: a good one with bytes changed, cut or added."""
    datagram = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 3))):
        datagram[draw(st.integers(0, len(datagram) - 1))] = draw(st.integers(0, 255))
    return bytes(datagram[: draw(st.integers(0, len(datagram)))] if draw(st.booleans()) else datagram) + draw(
        st.binary(max_size=3)
    )


@given(datagrams=st.lists(damaged(), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_whatever_comes_is_counted_once_and_nothing_is_passed_that_should_not_be(datagrams: list[bytes]) -> None:
    with one_n3() as n3:
        for datagram in datagrams:
            n3.gnb.send_message(datagram)
        uplink, _ = n3.ended()
    fates = [fate_of(datagram) for datagram in datagrams]
    assert uplink.packets == len(fates) - fates.count("message")
    assert uplink.errors.get("unknown_teid", 0) == fates.count("unknown_teid")
    assert uplink.errors.get("spoofed_source", 0) == fates.count("spoofed_source")
    # What is behind a sound tunnel may be malformed by the rules of IP, which others test.
    assert uplink.malformed_packets >= fates.count("malformed")
    assert uplink.malformed_packets + uplink.passed_packets + uplink.queued_packets == (
        fates.count("malformed") + fates.count("judged")
    )
    assert sum(n3.bump.messages()["received"].values()) - 1 == sum(fate != "malformed" for fate in fates) + sum(
        # A G-PDU is a message whatever it carries.
        fate == "malformed" and isinstance(parse_gtpu(datagram, len(datagram)), ReadTunnel)
        for fate, datagram in zip(fates, datagrams, strict=True)
    )
