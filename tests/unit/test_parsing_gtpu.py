"""GTP-U: which packet of a G-PDU counts, what is known of its tunnel, and what a broken header is."""

from __future__ import annotations

import random
from ipaddress import ip_address

import captures as make
import pytest
from captures import ETHERNET, RAW
from scapy.contrib.gtp import GTP_U_Header, GTPPDUSessionContainer
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw

from upf.counters import Measure
from upf.malformation import Malformation
from upf.parsing import FlowKey, Fragment, Packet, parse_packet, transport_of

GNB, N3 = "192.0.2.1", "192.0.2.2"
SERVER, UE = "198.51.100.7", "10.45.0.2"
SERVER6, UE6 = "2001:db8:a::7", "2001:db8:45::2"
INNER4 = make.ipv4(SERVER, UE, 17, make.ports(443, 5000, 100))
INNER6 = make.ipv6(SERVER6, UE6, 6, make.ports(443, 5000, 100))


def outer(message: bytes, **fields: object) -> bytes:
    """A GTP-U message in UDP in IPv4, as a raw IP packet."""
    return make.ipv4(GNB, N3, 17, make.udp(2152, 2152, message), **fields)  # type: ignore[arg-type]


def parsed(data: bytes, *, captured: int | None = None, link_type: int = RAW, **options: object) -> object:
    return parse_packet(link_type, data[:captured], len(data), **options)  # type: ignore[arg-type]


def inner4(teid: int | None = 1, qfi: int | None = None, **fields: object) -> FlowKey:
    flow = FlowKey(4, int(ip_address(SERVER)), int(ip_address(UE)), 17, 443, 5000, True, None, teid, qfi)
    return flow._replace(**fields)  # type: ignore[arg-type]


def inner6(teid: int = 1, qfi: int | None = None) -> FlowKey:
    return FlowKey(6, int(ip_address(SERVER6)), int(ip_address(UE6)), 6, 443, 5000, True, None, teid, qfi)


OUTER_FLOW = FlowKey(4, int(ip_address(GNB)), int(ip_address(N3)), 17, 2152, 2152, True)


@pytest.mark.clause("TS 29.281 §5.1 GTP-U header")
def test_the_packet_in_a_g_pdu_is_classified_and_measured() -> None:
    assert parsed(outer(make.gtpu(INNER4, teid=0xDEADBEEF))) == Packet(inner4(0xDEADBEEF), 120, gtpu="g_pdu")
    assert parsed(outer(make.gtpu(INNER6, teid=0))) == Packet(inner6(0), 140, gtpu="g_pdu")
    over_ipv6 = make.ipv6("2001:db8::1", "2001:db8::2", 17, make.udp(1, 2152, make.gtpu(INNER4)))
    assert parsed(over_ipv6) == Packet(inner4(), 120, gtpu="g_pdu")
    tagged = make.framed(outer(make.gtpu(INNER4)), ETHERNET, vlans=(0x88A8, 0x8100))
    assert parsed(tagged.ljust(300, b"\0"), link_type=ETHERNET) == Packet(inner4(), 120, gtpu="g_pdu")


@pytest.mark.parametrize("sequence", [None, 0, 65535])
@pytest.mark.parametrize("n_pdu", [None, 0, 255])
@pytest.mark.parametrize("extended", [False, True])
def test_each_of_the_three_flags_brings_all_the_optional_fields(
    sequence: int | None, n_pdu: int | None, extended: bool
) -> None:
    extensions = [make.pdu_session(9)] if extended else []
    message = make.gtpu(INNER4, sequence=sequence, n_pdu=n_pdu, extensions=extensions)
    assert parsed(outer(message)) == Packet(inner4(1, 9 if extended else None), 120, gtpu="g_pdu")


def test_a_next_extension_header_type_counts_only_where_its_flag_is_set() -> None:
    message = bytearray(make.gtpu(INNER4, sequence=1))
    message[11] = make.PDU_SESSION_CONTAINER
    assert parsed(outer(bytes(message))) == Packet(inner4(), 120, gtpu="g_pdu")


@pytest.mark.clause("TS 38.415 §5.5.2 PDU Session Container")
@pytest.mark.parametrize(
    ("extensions", "qfi"),
    [
        ([make.pdu_session(63)], 63),
        ([make.pdu_session(0)], 0),
        ([make.pdu_session(5, pdu_type=1)], 5),
        ([make.pdu_session(5, pdu_type=2)], None),
        ([make.pdu_session(5, pdu_type=2), make.pdu_session(6)], 6),
        ([make.pdu_session(5), make.pdu_session(6)], 5),
        ([(0xC0, bytes(2)), (0x40, bytes(1018)), make.pdu_session(7), (0x20, bytes(2))], 7),
        # PPP and RQI stand beside the QFI; PPI, time stamps and padding behind it.
        ([(0x85, b"\x0f\xc9" + bytes(16))], 9),
        ([(0x40, bytes(2))] * 300, None),
    ],
)
def test_the_qfi_is_that_of_the_first_container_anywhere_in_the_chain(
    extensions: list[tuple[int, bytes]], qfi: int | None
) -> None:
    message = make.gtpu(INNER6, teid=7, extensions=extensions)
    assert parsed(outer(message)) == Packet(inner6(7, qfi), 140, gtpu="g_pdu")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (1, "echo_request"),
        (2, "echo_response"),
        (26, "error_indication"),
        (31, "supported_extension_headers_notification"),
        (253, "tunnel_status"),
        (254, "end_marker"),
        (0, "other"),
        (252, "other"),
    ],
)
def test_other_messages_are_packets_of_their_own(kind: int, name: str) -> None:
    message = make.gtpu(bytes(6), kind=kind, sequence=3)
    assert parsed(outer(message)) == Packet(OUTER_FLOW, 28 + 18, gtpu=name)
    # Their extension headers are nobody's business here.
    message = make.gtpu(b"", kind=kind, extensions=[(0x40, bytes(2))])[:-4]
    assert parsed(outer(message[:2] + b"\0\4" + message[4:])) == Packet(OUTER_FLOW, 28 + 12, gtpu=name)


@pytest.mark.parametrize(
    "message",
    [
        make.gtpu(INNER4)[:1],
        make.gtpu(INNER4)[:7],
        make.gtpu(INNER4, length=121),
        make.gtpu(b"", sequence=1, length=3),
        make.gtpu(b"", sequence=1)[:-1],
        make.gtpu(INNER4, extensions=[(0x40, bytes(2))])[:12] + b"\0" + bytes(100),
        make.gtpu(INNER4, extensions=[(0x40, bytes(2))])[:12] + b"\xff" + INNER4,
        make.gtpu(b"", extensions=[(0x40, bytes(2))], length=7),
        make.gtpu(b"", extensions=[(0x40, bytes(2))], length=4),
        make.gtpu(b"", kind=1, length=1),
    ],
    ids=range(10),
)
def test_a_header_that_cannot_be_right_is_malformed(message: bytes) -> None:
    assert parsed(outer(message)) is Malformation.GTPU_HEADER


@pytest.mark.parametrize(
    "payload", [b"", b"\x50" + make.gtpu(INNER4)[1:], b"\x20" + make.gtpu(INNER4)[1:], b"\0", b"GET / HTTP/1.1"]
)
def test_what_only_happens_to_come_to_the_port_of_gtpu_is_what_it_is(payload: bytes) -> None:
    assert parsed(outer(payload)) == parsed(outer(payload), gtpu=False)
    assert parsed(outer(payload)).flow == OUTER_FLOW


def test_a_udp_header_without_room_or_capture_leaves_no_gtpu_header() -> None:
    packet = make.ipv4(GNB, N3, 17, make.ports(2152, 2152, 7))
    assert parsed(packet) is Malformation.GTPU_HEADER
    whole = outer(make.gtpu(INNER4, extensions=[make.pdu_session(9)]))
    for captured in range(24, 28 + 16):
        assert parsed(whole, captured=captured) is Malformation.GTPU_HEADER
    # Without ports nobody knows that it is one.
    assert parsed(whole, captured=23) == Packet(OUTER_FLOW._replace(src_port=0, dst_port=0, ports_known=False), 164)


def test_what_is_wrong_with_the_packet_within_is_named_as_ever() -> None:
    for content, reason in (
        (b"", Malformation.IP_HEADER),
        (INNER4[:19], Malformation.IP_HEADER),
        (b"\x02\0\0\0\0\1" + bytes(40), Malformation.IP_VERSION),
        (b"\x44" + INNER4[1:], Malformation.IP_HEADER_LENGTH),
        (make.ipv4(SERVER, UE, 17, b"", total_length=19), Malformation.IP_TOTAL_LENGTH),
        (make.ipv6(SERVER6, UE6, 60, make.extension(60, 17), payload_length=7), Malformation.IP_EXTENSION_HEADER),
        (make.ipv4(SERVER, UE, 17, b"abc"), Malformation.TRANSPORT_HEADER),
    ):
        # Padding behind the G-PDU is none of it.
        assert parsed(outer(make.gtpu(content) + bytes(60))) is reason


def test_a_length_of_zero_within_is_the_rest_of_the_g_pdu() -> None:
    inner = make.ipv4(SERVER, UE, 17, make.ports(443, 5000, 100), total_length=0)
    packet = outer(make.gtpu(inner, extensions=[make.pdu_session(1)]) + bytes(50))
    assert parsed(packet) == Packet(inner4(1, 1), 120, gtpu="g_pdu")


def test_a_packet_within_is_measured_by_its_own_length_whatever_was_captured() -> None:
    inner = make.ipv4(SERVER, UE, 17, make.ports(443, 5000), total_length=1400)
    packet = outer(make.gtpu(inner))
    assert parsed(packet) == Packet(inner4(), 1400, gtpu="g_pdu")
    assert parsed(packet, captured=56) == Packet(inner4(src_port=0, dst_port=0, ports_known=False), 1400, gtpu="g_pdu")


def test_a_tunnel_within_a_tunnel_is_not_entered() -> None:
    nested = make.ipv4(SERVER, UE, 17, make.udp(443, 2152, make.gtpu(INNER6, teid=9)))
    assert parsed(outer(make.gtpu(nested, teid=3))) == Packet(inner4(3, dst_port=2152), len(nested), gtpu="g_pdu")


def test_fragments_of_a_g_pdu_are_ordinary_ones_and_a_fragment_within_knows_its_tunnel() -> None:
    first = outer(make.gtpu(INNER4), identification=5, more_fragments=True)
    key = (4, int(ip_address(GNB)), int(ip_address(N3)), 5, 17)
    assert parsed(first) == Packet(OUTER_FLOW, 28 + 128, Fragment(key, first=True))
    inner = make.ipv4(SERVER, UE, 17, make.ports(443, 5000, 64), identification=5, more_fragments=True)
    key = (4, int(ip_address(SERVER)), int(ip_address(UE)), 5, 17, 77)
    assert parsed(outer(make.gtpu(inner, teid=77))) == Packet(inner4(77), 84, Fragment(key, first=True), "g_pdu")


def test_only_the_destination_port_of_udp_leads_into_a_tunnel() -> None:
    message = make.gtpu(INNER4)
    for protocol, source, destination in ((17, 2152, 2153), (6, 2152, 2152), (136, 2152, 2152)):
        packet = make.ipv4(GNB, N3, protocol, make.udp(source, destination, message))
        flow = OUTER_FLOW._replace(protocol=protocol, src_port=source, dst_port=destination)
        assert parsed(packet) == Packet(flow, len(packet))


def test_without_gtpu_the_packet_that_carries_counts() -> None:
    packet = outer(make.gtpu(INNER4))
    assert parsed(packet, gtpu=False) == Packet(OUTER_FLOW, len(packet))
    assert parsed(outer(b"\xff"), gtpu=False) == Packet(OUTER_FLOW, 29)


@pytest.mark.parametrize(
    ("measure", "plain", "options", "extended", "later", "tunnelled"),
    [
        (Measure.L2, 138, 146, 174, 102, 182),
        (Measure.L3, 120, 128, 156, 84, 120),
        (Measure.L4, 100, 100, 100, 64, 100),
    ],
)
def test_a_packet_is_measured_as_asked(
    measure: Measure, plain: int, options: int, extended: int, later: int, tunnelled: int
) -> None:
    first, headers = make.chain([0, 60], 17)
    for packet, length in (
        (INNER4, plain),
        (make.ipv4(SERVER, UE, 17, make.ports(443, 5000, 100), options=bytes(8)), options),
        (make.ipv6(SERVER6, UE6, first, headers + make.ports(443, 5000, 100)), extended),
        (make.ipv4(SERVER, UE, 17, bytes(64), fragment_offset=64), later),
        (outer(make.gtpu(INNER4, extensions=[make.pdu_session(1)])), tunnelled),
    ):
        found = parsed(make.framed(packet, ETHERNET, vlans=(0x8100,)), link_type=ETHERNET, measure=measure)
        assert isinstance(found, Packet)
        assert found.length == length


def test_headers_and_payload_are_found_in_the_packet_within() -> None:
    inner = make.ipv4(SERVER, UE, 6, make.ports(443, 5000, 12) + b"\x80\x12" + bytes(18) + b"payload", options=bytes(4))
    frame = make.framed(outer(make.gtpu(inner, extensions=[make.pdu_session(1)])), ETHERNET) + bytes(9)
    packet = parsed(frame, link_type=ETHERNET)
    assert isinstance(packet, Packet)
    found = transport_of(packet, frame)
    assert found.network == 14 + 28 + 16
    assert (found.offset, found.payload) == (found.network + 24, found.network + 24 + 32)
    assert frame[found.payload : found.end] == b"payload"
    assert found.tcp_flags == 0x12


def test_random_tunnels_are_read_as_scapy_dissects_them() -> None:
    draw = random.Random(29281)
    for _ in range(150):
        frame = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
        if draw.random() < 0.5:
            frame /= Dot1Q(vlan=draw.randrange(4096))
        frame /= IP(src=GNB, dst=N3) if draw.random() < 0.5 else IPv6(src="2001:db8::1", dst="2001:db8::2")
        header = GTP_U_Header(teid=draw.randrange(1 << 32), S=draw.randrange(2), PN=draw.randrange(2))
        qfi = draw.randrange(64) if draw.random() < 0.7 else None
        if qfi is not None:
            header = GTP_U_Header(teid=header.teid, E=1, S=header.S, next_ex=0x85)
            header /= GTPPDUSessionContainer(type=draw.randrange(2), QFI=qfi)
        sport, dport = draw.randrange(65536), draw.randrange(65536)
        inner = IP(src=SERVER, dst=UE) if draw.random() < 0.5 else IPv6(src=SERVER6, dst=UE6)
        inner = inner / draw.choice((TCP, UDP))(sport=sport, dport=dport) / Raw(draw.randbytes(draw.randrange(900)))
        data = bytes(frame / UDP(sport=draw.randrange(65536), dport=2152) / header / inner)
        found = parsed(data, link_type=ETHERNET)
        assert isinstance(found, Packet)
        dissected = Ether(data)[GTP_U_Header]
        assert (found.flow.teid, found.flow.qfi) == (dissected.teid, qfi)
        assert (found.flow.src_port, found.flow.dst_port, found.length) == (sport, dport, len(bytes(inner)))
        assert found.flow.family == inner.version
