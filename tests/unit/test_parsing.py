from __future__ import annotations

import random
import struct
from ipaddress import ip_address

import captures as make
import pytest
from captures import ETHERNET, IPV4, IPV6, LOOP, NULL, RAW, SLL, SLL2
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_RR
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    Jumbo,
    PadN,
)
from scapy.layers.ipsec import AH, ESP
from scapy.layers.l2 import ARP, CookedLinux, CookedLinuxV2, Dot1AD, Dot1Q, Ether, Loopback
from scapy.layers.sctp import SCTP, SCTPChunkData
from scapy.packet import Packet as Layer
from scapy.packet import Raw

from upf.malformation import Malformation
from upf.parsing import FlowKey, Fragment, Packet, parse_packet

SERVER4, UE4 = "198.51.100.7", "10.45.0.2"
SERVER6, UE6 = "2001:db8:a::7", "2001:db8:45::2"
MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}
UDP4 = make.ipv4(SERVER4, UE4, 17, make.ports(443, 5000, 100))
UDP6 = make.ipv6(SERVER6, UE6, 17, make.ports(443, 5000, 100))


def parsed(
    link_type: int, data: bytes | Layer, *, captured: int | None = None, wire_length: int | None = None
) -> object:
    content = bytes(data)
    return parse_packet(link_type, content[:captured], len(content) if wire_length is None else wire_length)


def spi4(protocol: int, spi: int | None) -> FlowKey:
    return flow4(protocol, 0, 0, known=spi is not None)._replace(spi=spi)


def flow4(protocol: int = 17, source_port: int = 443, destination_port: int = 5000, known: bool = True) -> FlowKey:
    return FlowKey(4, int(ip_address(SERVER4)), int(ip_address(UE4)), protocol, source_port, destination_port, known)


def flow6(protocol: int = 17, source_port: int = 443, destination_port: int = 5000, known: bool = True) -> FlowKey:
    return FlowKey(6, int(ip_address(SERVER6)), int(ip_address(UE6)), protocol, source_port, destination_port, known)


@pytest.mark.parametrize(
    "tags", [[], [Dot1Q(vlan=5)], [Dot1AD(vlan=7), Dot1Q(vlan=5)], [Dot1Q(vlan=n) for n in range(9)]]
)
@pytest.mark.parametrize("family", [4, 6])
def test_any_number_of_vlan_tags_is_skipped(tags: list[Layer], family: int) -> None:
    frame: Layer = Ether(**MACS)
    for tag in tags:
        frame = frame / tag.copy()
    network = IP(src=SERVER4, dst=UE4) if family == 4 else IPv6(src=SERVER6, dst=UE6)
    frame = frame / network / UDP(sport=443, dport=5000) / Raw(bytes(100))
    expected = Packet(flow4(), 128) if family == 4 else Packet(flow6(), 148)
    assert parsed(ETHERNET, frame) == expected


def test_a_tag_of_the_old_qinq_type_is_skipped() -> None:
    assert parsed(ETHERNET, make.framed(UDP4, ETHERNET, vlans=[0x9100, 0x8100])) == Packet(flow4(), 120)


@pytest.mark.parametrize(
    ("link_type", "layer"),
    [
        (SLL, CookedLinux()),
        (SLL, CookedLinux() / Dot1Q(vlan=5)),
        (SLL2, CookedLinuxV2()),
        (NULL, Loopback()),
    ],
)
def test_cooked_and_loopback_headers_are_skipped(link_type: int, layer: Layer) -> None:
    assert parsed(link_type, layer / IP(src=SERVER4, dst=UE4) / UDP(sport=443, dport=5000)) == Packet(flow4(), 28)


@pytest.mark.parametrize(("link_type", "family"), [(RAW, 4), (12, 4), (14, 6), (RAW, 6), (IPV4, 4), (IPV6, 6)])
def test_raw_ip_needs_no_link_header(link_type: int, family: int) -> None:
    expected = Packet(flow4(), 120) if family == 4 else Packet(flow6(), 140)
    assert parsed(link_type, UDP4 if family == 4 else UDP6) == expected


@pytest.mark.parametrize(("number", "packet"), [(2, UDP4), (24, UDP6), (28, UDP6), (30, UDP6)])
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_address_family_of_a_null_header_is_read_in_either_byte_order(
    number: int, packet: bytes, order: str
) -> None:
    found = parsed(NULL, struct.pack(order + "I", number) + packet)
    assert isinstance(found, Packet)
    assert found.flow.family == packet[0] >> 4


def test_that_of_a_loop_header_is_read_in_network_order_only() -> None:
    assert parsed(LOOP, struct.pack(">I", 24) + UDP6) == Packet(flow6(), 140)
    assert parsed(LOOP, struct.pack("<I", 24) + UDP6) is None


@pytest.mark.parametrize(
    ("link_type", "data"),
    [
        (ETHERNET, bytes(Ether(**MACS) / ARP())),
        (ETHERNET, make.linked(bytes(46), ETHERNET, 0x0026)),
        (ETHERNET, make.linked(bytes(46), ETHERNET, 0x8847, vlans=[0x8100])),
        (SLL, make.linked(bytes(46), SLL, 0x0806)),
        (SLL2, make.linked(bytes(46), SLL2, 0x0806)),
        (NULL, struct.pack("<I", 7) + bytes(46)),
    ],
)
def test_what_is_not_ip_is_not_malformed_either(link_type: int, data: bytes) -> None:
    assert parsed(link_type, data) is None


@pytest.mark.parametrize(
    ("link_type", "vlans", "length"),
    [
        *((ETHERNET, (), 14), (ETHERNET, (0x8100,), 18), (ETHERNET, (0x88A8, 0x8100), 22)),
        *((SLL, (), 16), (SLL, (0x8100,), 20), (SLL2, (), 20), (NULL, (), 4), (LOOP, (), 4)),
    ],
)
def test_a_link_header_must_be_captured_whole(link_type: int, vlans: tuple[int, ...], length: int) -> None:
    frame = make.framed(UDP4, link_type, vlans=vlans)
    assert parsed(link_type, frame, captured=length - 1) is Malformation.LINK_HEADER
    assert parsed(link_type, frame, captured=length) is Malformation.IP_HEADER


def test_an_ip_header_must_be_captured_whole() -> None:
    for captured in range(20):
        assert parsed(RAW, UDP4, captured=captured) is Malformation.IP_HEADER
        assert parsed(IPV4, UDP4, captured=captured) is Malformation.IP_HEADER
    for captured in range(40):
        assert parsed(RAW, UDP6, captured=captured) is Malformation.IP_HEADER
        assert parsed(IPV6, UDP6, captured=captured) is Malformation.IP_HEADER


@pytest.mark.parametrize(
    ("link_type", "data"),
    [
        (RAW, b"\x50" + UDP4[1:]),
        (RAW, b"\x00"),
        (IPV4, UDP6),
        (IPV6, UDP4),
        (ETHERNET, make.framed(UDP6, ETHERNET, family=4)),
        (ETHERNET, make.framed(UDP4, ETHERNET, family=6)),
        (NULL, struct.pack("<I", 2) + UDP6),
    ],
)
def test_the_version_must_be_what_the_link_says(link_type: int, data: bytes) -> None:
    assert parsed(link_type, data) is Malformation.IP_VERSION


@pytest.mark.parametrize("words", range(5))
def test_an_ipv4_header_has_at_least_20_bytes(words: int) -> None:
    assert parsed(RAW, bytes([0x40 | words]) + UDP4[1:]) is Malformation.IP_HEADER_LENGTH


@pytest.mark.parametrize(
    ("options", "total_length", "malformed"),
    [(b"", 1, True), (b"", 19, True), (b"", 20, False), (b"\x01" * 40, 59, True), (b"\x01" * 40, 60, False)],
)
def test_a_total_length_covers_the_header_or_the_packet_is_malformed(
    options: bytes, total_length: int, malformed: bool
) -> None:
    packet = make.ipv4(SERVER4, UE4, 1, bytes(100), options=options, total_length=total_length)
    expected = Malformation.IP_TOTAL_LENGTH if malformed else Packet(flow4(1, 0, 0), total_length)
    assert parsed(RAW, packet) == expected


def test_a_packet_is_measured_by_its_total_length_not_by_what_was_captured_or_sent() -> None:
    frame = make.framed(make.ipv4(SERVER4, UE4, 17, make.ports(443, 5000), total_length=9000), ETHERNET)
    assert parsed(ETHERNET, frame.ljust(60, b"\0")) == Packet(flow4(), 9000)
    assert parsed(ETHERNET, make.framed(UDP6, ETHERNET), captured=62, wire_length=9999) == Packet(flow6(), 140)


@pytest.mark.parametrize("vlans", [(), (0x8100,), (0x88A8, 0x8100)])
def test_a_total_length_of_zero_is_the_wire_length_less_the_link_header(vlans: tuple[int, ...]) -> None:
    link_header = 14 + 4 * len(vlans)
    packet = make.ipv4(SERVER4, UE4, 6, make.ports(443, 5000, 20), total_length=0)
    frame = make.framed(packet, ETHERNET, vlans=vlans)
    assert parsed(ETHERNET, frame, wire_length=65_000) == Packet(flow4(6), 65_000 - link_header)
    assert parsed(ETHERNET, frame, wire_length=link_header + 19) is Malformation.IP_TOTAL_LENGTH
    packet = make.ipv6(SERVER6, UE6, 6, make.ports(443, 5000, 20), payload_length=0)
    frame = make.framed(packet, ETHERNET, vlans=vlans)
    assert parsed(ETHERNET, frame, wire_length=65_000) == Packet(flow6(6), 65_000 - link_header)
    assert parsed(ETHERNET, frame, wire_length=link_header + 39) is Malformation.IP_TOTAL_LENGTH


def test_ipv4_options_are_skipped() -> None:
    options = [IPOption_RR(routers=["1.2.3.4", "5.6.7.8"]), IPOption_NOP()]
    packet = IP(src=SERVER4, dst=UE4, options=options) / UDP(sport=443, dport=5000) / Raw(bytes(10))
    assert parsed(RAW, packet) == Packet(flow4(), 32 + 8 + 10)
    packet = make.ipv4(SERVER4, UE4, 17, make.ports(443, 5000), options=b"\x01" * 40)
    assert parsed(RAW, packet) == Packet(flow4(), 68)
    assert parsed(RAW, packet, captured=63) == Packet(flow4(17, 0, 0, known=False), 68)
    assert parsed(RAW, packet, captured=20) == Packet(flow4(17, 0, 0, known=False), 68)


@pytest.mark.parametrize("protocol", [6, 17, 33, 132, 136])
def test_ports_are_the_first_four_bytes_of_the_transports_that_have_them(protocol: int) -> None:
    packet = make.ipv4(SERVER4, UE4, protocol, make.ports(443, 5000, 4))
    assert parsed(RAW, packet) == Packet(flow4(protocol), 24)
    assert parsed(RAW, packet, captured=23) == Packet(flow4(protocol, 0, 0, known=False), 24)
    assert parsed(RAW, make.ipv4(SERVER4, UE4, protocol, bytes(3))) is Malformation.TRANSPORT_HEADER
    # The room for them is what the IP header says, not what lies behind it.
    packet = make.ipv4(SERVER4, UE4, protocol, make.ports(443, 5000), total_length=23)
    assert parsed(RAW, packet) is Malformation.TRANSPORT_HEADER
    packet = make.ipv6(SERVER6, UE6, protocol, make.ports(443, 5000, 4))
    assert parsed(RAW, packet) == Packet(flow6(protocol), 44)
    assert parsed(RAW, packet, captured=43) == Packet(flow6(protocol, 0, 0, known=False), 44)
    assert parsed(RAW, make.ipv6(SERVER6, UE6, protocol, bytes(3))) is Malformation.TRANSPORT_HEADER


@pytest.mark.parametrize("protocol", [1, 2, 4, 41, 47, 58, 89, 103, 255])
def test_other_protocols_have_no_ports_and_that_is_known(protocol: int) -> None:
    assert parsed(RAW, make.ipv4(SERVER4, UE4, protocol, b"")) == Packet(flow4(protocol, 0, 0), 20)
    assert parsed(RAW, make.ipv6(SERVER6, UE6, protocol, b"")) == Packet(flow6(protocol, 0, 0), 40)


def test_ipv6_extension_headers_are_walked_to_the_transport() -> None:
    packet = (
        IPv6(src=SERVER6, dst=UE6)
        / IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(4))])
        / IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(12))])
        / IPv6ExtHdrRouting(addresses=["2001:db8::1", "2001:db8::2"])
        / UDP(sport=443, dport=5000)
        / Raw(bytes(9))
    )
    assert parsed(RAW, packet) == Packet(flow6(), 40 + 8 + 16 + 40 + 8 + 9)


@pytest.mark.clause("RFC 4303 §2.1 and RFC 4302 §2.4 SPI")
@pytest.mark.parametrize(("protocol", "at"), [(50, 0), (51, 4)])
def test_esp_and_ah_are_told_by_their_spi(protocol: int, at: int) -> None:
    packet = make.ipv4(SERVER4, UE4, protocol, bytes(at) + b"\xde\xad\xbe\xef")
    assert parsed(RAW, packet) == Packet(spi4(protocol, 0xDEADBEEF), 24 + at)
    assert parsed(RAW, packet, captured=23 + at) == Packet(spi4(protocol, None), 24 + at)
    assert parsed(RAW, make.ipv4(SERVER4, UE4, protocol, bytes(at + 3))) is Malformation.TRANSPORT_HEADER
    packet = make.ipv6(SERVER6, UE6, protocol, bytes(at) + b"\xde\xad\xbe\xef")
    assert parsed(RAW, packet) == Packet(flow6(protocol, 0, 0)._replace(spi=0xDEADBEEF), 44 + at)
    assert parsed(RAW, make.ipv6(SERVER6, UE6, protocol, bytes(at + 3))) is Malformation.TRANSPORT_HEADER


@pytest.mark.parametrize("kind", [0, 43, 60, 135, 139, 140])
@pytest.mark.parametrize("length", [8, 16, 1024])
def test_every_kind_of_extension_header_is_walked(kind: int, length: int) -> None:
    first, headers = make.chain([kind, kind], 6, length=length)
    packet = make.ipv6(SERVER6, UE6, first, headers + make.ports(443, 5000))
    assert parsed(RAW, packet) == Packet(flow6(6), 48 + 2 * length)


def test_an_authentication_header_ends_the_chain_in_either_family() -> None:
    header = AH(nh=17, payloadlen=4, spi=7, icv=bytes(12)) / UDP(sport=443, dport=5000)
    assert parsed(RAW, IPv6(src=SERVER6, dst=UE6, nh=51) / header) == Packet(flow6(51, 0, 0)._replace(spi=7), 72)
    assert parsed(RAW, IP(src=SERVER4, dst=UE4, proto=51) / header) == Packet(spi4(51, 7), 52)


def test_esp_and_no_next_header_end_the_chain() -> None:
    first, headers = make.chain([0, 60], 50)
    packet = make.ipv6(SERVER6, UE6, first, headers + bytes(20))
    assert parsed(RAW, packet) == Packet(flow6(50, 0, 0)._replace(spi=0), 76)
    first, headers = make.chain([60], 59)
    assert parsed(RAW, make.ipv6(SERVER6, UE6, first, headers)) == Packet(flow6(59, 0, 0), 48)
    assert parsed(RAW, make.ipv6(SERVER6, UE6, 59, b""), wire_length=60) == Packet(flow6(59, 0, 0), 40)


def test_an_extension_header_that_does_not_fit_the_packet_is_malformed() -> None:
    header = make.extension(60, 17, 16)
    packet = make.ipv6(SERVER6, UE6, 60, header + make.ports(443, 5000), payload_length=16)
    assert parsed(RAW, packet) is Malformation.TRANSPORT_HEADER
    packet = make.ipv6(SERVER6, UE6, 60, header + make.ports(443, 5000), payload_length=15)
    assert parsed(RAW, packet) is Malformation.IP_EXTENSION_HEADER
    for kind in (0, 43, 44, 60, 135, 139, 140):
        packet = make.ipv6(SERVER6, UE6, kind, bytes(16), payload_length=7)
        assert parsed(RAW, packet) is Malformation.IP_EXTENSION_HEADER
        assert parsed(RAW, packet, captured=40) is Malformation.IP_EXTENSION_HEADER


def test_a_transport_behind_headers_that_were_not_captured_is_unknown() -> None:
    first, headers = make.chain([0, 60, 43], 17)
    packet = make.ipv6(SERVER6, UE6, first, headers + make.ports(443, 5000))
    unknown = Packet(flow6(255, 0, 0, known=False), 72)
    assert parsed(RAW, packet, captured=40) == unknown
    assert parsed(RAW, packet, captured=48) == unknown
    assert parsed(RAW, packet, captured=56) == unknown
    assert parsed(RAW, packet, captured=64) == Packet(flow6(17, 0, 0, known=False), 72)
    assert parsed(RAW, packet, captured=68) == Packet(flow6(), 72)


def test_an_extension_header_captured_in_part_hides_what_follows_but_not_that_it_does_not_fit() -> None:
    packet = make.ipv6(SERVER6, UE6, 60, make.extension(60, 17, 16) + make.ports(443, 5000))
    for captured in (41, 42, 48, 55):
        assert parsed(RAW, packet, captured=captured) == Packet(flow6(255, 0, 0, known=False), 64)
    too_long = make.ipv6(SERVER6, UE6, 60, make.extension(60, 17, 16) + make.ports(443, 5000), payload_length=15)
    assert parsed(RAW, too_long, captured=41) == Packet(flow6(255, 0, 0, known=False), 55)
    assert parsed(RAW, too_long, captured=42) is Malformation.IP_EXTENSION_HEADER


@pytest.mark.clause("RFC 2675 §2 Jumbo Payload option")
def test_a_jumbo_payload_option_gives_the_length() -> None:
    hop_by_hop = IPv6ExtHdrHopByHop(nh=17, options=[Jumbo(jumboplen=70_000)])
    packet = IPv6(src=SERVER6, dst=UE6, nh=0, plen=0) / hop_by_hop / make.ports(443, 5000)
    assert parsed(RAW, packet) == Packet(flow6(), 70_040)
    # Behind one-byte and longer padding, in a header of 16 bytes.
    options = b"\x00" + b"\x01\x02\0\0" + b"\xc2\x04" + (2**32 - 1).to_bytes(4, "big") + b"\x01\x01\0"
    packet = make.ipv6(SERVER6, UE6, 0, b"\x11\x01" + options + make.ports(443, 5000), payload_length=0)
    assert parsed(RAW, packet) == Packet(flow6(), 40 + 2**32 - 1)


@pytest.mark.parametrize(
    "options",
    [
        b"\x01\x04\0\0\0\0",
        b"\xc2\x03\0\1\0\0",
        b"\xc3\x04\0\1\0\0",
        b"\x01\x09\xc2\x04\0\1",
        b"\0\0\0\0\xc2\x04",
        b"\0\0\0\0\0\xc2",
    ],
)
def test_without_a_jumbo_option_the_length_is_that_on_the_wire(options: bytes) -> None:
    packet = make.ipv6(SERVER6, UE6, 0, b"\x11\x00" + options + make.ports(443, 5000), payload_length=0)
    assert parsed(RAW, packet, wire_length=66_000) == Packet(flow6(), 66_000)


def test_a_jumbo_option_counts_only_where_the_payload_length_is_zero() -> None:
    content = b"\x11\x00\xc2\x04\0\1\0\0" + make.ports(443, 5000)
    assert parsed(RAW, make.ipv6(SERVER6, UE6, 0, content)) == Packet(flow6(), 56)


def test_ipv4_fragments_of_a_transport_with_ports_name_their_datagram() -> None:
    key = (4, int(ip_address(SERVER4)), int(ip_address(UE4)), 77, 17)
    first = make.ipv4(SERVER4, UE4, 17, make.ports(443, 5000, 64), identification=77, more_fragments=True)
    assert parsed(RAW, first) == Packet(flow4(), 84, Fragment(key, first=True))
    for more in (True, False):
        later = make.ipv4(SERVER4, UE4, 17, bytes(3), identification=77, fragment_offset=64, more_fragments=more)
        assert parsed(RAW, later) == Packet(flow4(17, 0, 0, known=False), 23, Fragment(key, first=False))
    whole = make.ipv4(SERVER4, UE4, 17, make.ports(443, 5000), identification=77)
    assert parsed(RAW, whole) == Packet(flow4(), 28)


def test_a_don_t_fragment_bit_makes_no_fragment() -> None:
    assert parsed(RAW, IP(src=SERVER4, dst=UE4, flags="DF") / UDP(sport=443, dport=5000)) == Packet(flow4(), 28)


def test_ipv4_fragments_of_a_protocol_without_ports_are_whole_flow_keys() -> None:
    for offset, more in ((0, True), (64, False)):
        packet = make.ipv4(SERVER4, UE4, 1, bytes(64), fragment_offset=offset, more_fragments=more)
        assert parsed(RAW, packet) == Packet(flow4(1, 0, 0), 84)


def test_ipv6_fragments_name_their_datagram_whatever_their_protocol() -> None:
    key = (6, int(ip_address(SERVER6)), int(ip_address(UE6)), 0xDEADBEEF)
    before, headers = make.chain([0], 44)
    inner, inner_headers = make.chain([60], 17)
    fragment = make.fragment_header(inner, 0xDEADBEEF, 0, more=True)
    packet = make.ipv6(SERVER6, UE6, before, headers + fragment + inner_headers + make.ports(443, 5000))
    assert parsed(RAW, packet) == Packet(flow6(), 72, Fragment(key, first=True))
    fragment = make.fragment_header(inner, 0xDEADBEEF, 64, more=False)
    packet = make.ipv6(SERVER6, UE6, before, headers + fragment + bytes(3))
    assert parsed(RAW, packet) == Packet(flow6(60, 0, 0, known=False), 59, Fragment(key, first=False))


@pytest.mark.clause("RFC 6946 Atomic fragments")
def test_an_atomic_ipv6_fragment_is_a_whole_packet() -> None:
    packet = IPv6(src=SERVER6, dst=UE6) / IPv6ExtHdrFragment(id=5, m=0, offset=0) / UDP(sport=443, dport=5000)
    assert parsed(RAW, packet) == Packet(flow6(), 56)


def _random_address(draw: random.Random, length: int) -> str:
    return str(ip_address(draw.randbytes(length)))


def _scapy_packet(draw: random.Random) -> Layer:
    """A valid packet of scapy's making, behind Ethernet."""
    frame: Layer = Ether(**MACS)
    for _ in range(draw.choice((0, 0, 1, 2))):
        frame = frame / draw.choice((Dot1Q, Dot1AD))(vlan=draw.randrange(4096))
    if draw.random() < 0.5:
        options = [IPOption_NOP() for _ in range(draw.choice((0, 0, 3, 4, 8)))]
        frame = frame / IP(src=_random_address(draw, 4), dst=_random_address(draw, 4), options=options)
    else:
        frame = frame / IPv6(src=_random_address(draw, 16), dst=_random_address(draw, 16))
        for _ in range(draw.choice((0, 0, 1, 3))):
            padding = PadN(optdata=bytes(draw.randrange(30)))
            frame = frame / draw.choice(
                (
                    IPv6ExtHdrHopByHop(options=[padding]),
                    IPv6ExtHdrDestOpt(options=[padding]),
                    IPv6ExtHdrRouting(addresses=["2001:db8::1"] * draw.randrange(4)),
                )
            )
    ports = {"sport": draw.randrange(65536), "dport": draw.randrange(65536)}
    transport = draw.choice(
        (
            TCP(**ports, options=[("MSS", 1460)]),
            UDP(**ports),
            UDP(sport=53, dport=ports["dport"]) / DNS(qd=DNSQR(qname="example.com")),
            SCTP(**ports) / SCTPChunkData(data=b"x"),
            ESP(spi=draw.randrange(1 << 32)),
            ICMP() if IP in frame else ICMPv6EchoRequest(),
        )
    )
    return frame / transport / Raw(draw.randbytes(draw.randrange(1200)))


def test_random_packets_are_parsed_as_scapy_dissects_them() -> None:
    draw = random.Random(26512)
    for _ in range(400):
        data = bytes(_scapy_packet(draw))
        frame = Ether(data)
        network = frame[IP] if IP in frame else frame[IPv6]
        transport = next((frame[layer] for layer in (TCP, UDP, SCTP) if layer in frame), None)
        below: Layer = network
        while isinstance(below.payload, IPv6ExtHdrHopByHop | IPv6ExtHdrDestOpt | IPv6ExtHdrRouting):
            below = below.payload
        assert parsed(ETHERNET, data) == Packet(
            FlowKey(
                network.version,
                int(ip_address(network.src)),
                int(ip_address(network.dst)),
                network.proto if IP in frame else below.nh,
                transport.sport if transport else 0,
                transport.dport if transport else 0,
                True,
                spi=frame[ESP].spi if ESP in frame else None,
            ),
            network.len if IP in frame else 40 + network.plen,
        )


def test_no_sequence_of_bytes_brings_the_parser_down() -> None:
    draw = random.Random(1)
    whole = make.generate(make.Traffic(packets=300, seed=3))
    for link_type in (ETHERNET, RAW, NULL, LOOP, SLL, SLL2, IPV4, IPV6):
        for packet in whole:
            spoilt = bytearray(packet.data[14:] if link_type in (RAW, IPV4, IPV6) else packet.data)
            for _ in range(3):
                spoilt[draw.randrange(len(spoilt) or 1) : 1] = draw.randbytes(1)
            found = parsed(link_type, bytes(spoilt), captured=draw.randrange(len(spoilt) + 1))
            assert found is None or isinstance(found, Malformation | Packet)
