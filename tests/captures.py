"""Captures made for tests: packets built byte by byte, and long random mixtures of them, always the same for a seed."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import NamedTuple

ETHERNET, RAW, NULL, LOOP, SLL, SLL2, IPV4, IPV6 = 1, 101, 0, 108, 113, 276, 228, 229
SECOND_NS = 1_000_000_000
START_NS = 1_600_000_000 * SECOND_NS

TCP, UDP, DCCP, SCTP, UDPLITE, ICMP, ICMPV6, GRE, ESP = 6, 17, 33, 132, 136, 1, 58, 47, 50
GTPU_PORT, G_PDU, PDU_SESSION_CONTAINER = 2152, 255, 0x85
HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, NO_NEXT_HEADER, DESTINATION_OPTIONS = 0, 43, 44, 51, 59, 60

# Where random traffic comes from and goes to; the rules of a test choose among these.
IPV4_SERVERS, IPV6_SERVERS = "198.51.100.0/28", "2001:db8:a::/124"
IPV4_UES, IPV6_UES = "10.45.0.0/30", "2001:db8:45::/126"
SERVER_PORTS = (80, 443, 5004, 8000, 8050, 8099)

_NOISE = random.Random(0).randbytes(1 << 16)
_ETHERTYPES = {4: 0x0800, 6: 0x86DD}


class Captured(NamedTuple):
    """One packet of a capture: time, all its bytes, and its length on the wire."""

    ts_ns: int
    data: bytes
    wire_length: int


def pcap(
    packets: Iterable[Captured],
    *,
    link_type: int = ETHERNET,
    nanoseconds: bool = False,
    order: str = "<",
    snaplen: int = 262_144,
) -> bytes:
    """A whole capture file; packets are cut to ``snaplen`` and their times to the resolution of the file."""
    magic, ns_per_unit = (0xA1B23C4D, 1) if nanoseconds else (0xA1B2C3D4, 1000)
    pieces = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snaplen, link_type)]
    layout = struct.Struct(order + "IIII")
    for ts_ns, data, wire_length in packets:
        seconds, fraction = divmod(ts_ns, SECOND_NS)
        captured = data[:snaplen]
        pieces += (layout.pack(seconds, fraction // ns_per_unit, len(captured), wire_length), captured)
    return b"".join(pieces)


def payload(length: int) -> bytes:
    """So many arbitrary bytes."""
    return (
        _NOISE[:length] if length <= len(_NOISE) else _NOISE * (length // len(_NOISE)) + payload(length % len(_NOISE))
    )


def ports(source: int, destination: int, length: int = 8) -> bytes:
    """A transport header that begins with ports, and what follows it: ``length`` bytes in all."""
    return struct.pack("!HH", source, destination) + payload(length - 4)


def ipv4(
    source: str | int,
    destination: str | int,
    protocol: int,
    content: bytes,
    *,
    options: bytes = b"",
    identification: int = 0,
    fragment_offset: int = 0,
    more_fragments: bool = False,
    total_length: int | None = None,
) -> bytes:
    """An IPv4 packet; ``fragment_offset`` in bytes, ``total_length`` if it is to lie."""
    header_length = 20 + len(options)
    return (
        struct.pack(
            "!BBHHHBBHII",
            0x40 | header_length // 4,
            0,
            header_length + len(content) if total_length is None else total_length,
            identification,
            more_fragments << 13 | fragment_offset // 8,
            64,
            protocol,
            0,
            _number(source),
            _number(destination),
        )
        + options
        + content
    )


def ipv6(
    source: str | int, destination: str | int, next_header: int, content: bytes, *, payload_length: int | None = None
) -> bytes:
    """An IPv6 packet whose ``content`` begins with a header of ``next_header``."""
    length = len(content) if payload_length is None else payload_length
    start = struct.pack("!IHBB", 6 << 28, length, next_header, 64)
    return start + _number(source).to_bytes(16, "big") + _number(destination).to_bytes(16, "big") + content


def extension(kind: int, next_header: int, length: int = 8) -> bytes:
    """An IPv6 extension header of ``length`` bytes; zeros are padding where it holds options."""
    units = length // 4 - 2 if kind == AUTHENTICATION else length // 8 - 1
    return bytes((next_header, units)) + bytes(length - 2)


def chain(kinds: Sequence[int], protocol: int, *, length: int = 8) -> tuple[int, bytes]:
    """Extension headers of ``kinds``, the last before ``protocol``: the first next header, and their bytes."""
    following = [*kinds[1:], protocol] if kinds else []
    headers = b"".join(extension(kind, after, length) for kind, after in zip(kinds, following, strict=True))
    return (kinds[0] if kinds else protocol), headers


def fragment_header(next_header: int, identification: int, offset: int, *, more: bool) -> bytes:
    """The IPv6 fragment header; ``offset`` in bytes."""
    return struct.pack("!BBHI", next_header, 0, offset | more, identification)


def udp(source: int, destination: int, content: bytes) -> bytes:
    """A UDP header and what it carries."""
    return struct.pack("!HHHH", source, destination, (8 + len(content)) & 0xFFFF, 0) + content


def gtpu(
    content: bytes,
    *,
    kind: int = G_PDU,
    teid: int = 1,
    sequence: int | None = None,
    n_pdu: int | None = None,
    extensions: Sequence[tuple[int, bytes]] = (),
    length: int | None = None,
) -> bytes:
    """A GTP-U message (TS 29.281 §5); ``extensions`` are types and contents, ``length`` if it is to lie."""
    flags = (bool(extensions) << 2) | ((sequence is not None) << 1) | (n_pdu is not None)
    optional = b""
    if flags:
        optional = struct.pack("!HBB", sequence or 0, n_pdu or 0, extensions[0][0] if extensions else 0)
    for number, (_, each) in enumerate(extensions):
        following = extensions[number + 1][0] if number + 1 < len(extensions) else 0
        optional += bytes(((len(each) + 2) // 4,)) + each + bytes((following,))
    body = optional + content
    return struct.pack("!BBHI", 0x30 | flags, kind, len(body) if length is None else length, teid) + body


def pdu_session(qfi: int, *, pdu_type: int = 0) -> tuple[int, bytes]:
    """The PDU Session Container (TS 38.415 §5.5.2) as an extension header."""
    return PDU_SESSION_CONTAINER, bytes((pdu_type << 4, qfi))


def framed(packet: bytes, link_type: int, *, vlans: Sequence[int] = (), family: int = 0) -> bytes:
    """An IP packet behind the header of a link type; ``vlans`` are the EtherTypes of the tags before it.

    ``family`` is what the link header says, if that is not the packet's version.
    """
    family = family or packet[0] >> 4
    if link_type in (RAW, 12, 14, IPV4, IPV6):
        return packet
    if link_type == NULL:
        return struct.pack("<I", 2 if family == 4 else 30) + packet
    if link_type == LOOP:
        return struct.pack(">I", 2 if family == 4 else 24) + packet
    return linked(packet, link_type, _ETHERTYPES[family], vlans=vlans)


def linked(content: bytes, link_type: int, ethertype: int, *, vlans: Sequence[int] = ()) -> bytes:
    """Anything with an EtherType behind Ethernet, SLL or SLL2."""
    types = [*vlans, ethertype]
    tags = b"".join(struct.pack("!HH", 0x2000 + number, each) for number, each in enumerate(types[1:]))
    if link_type == ETHERNET:
        return b"\x02\0\0\0\0\x01\x02\0\0\0\0\x02" + struct.pack("!H", types[0]) + tags + content
    if link_type == SLL:
        return struct.pack("!HHH8sH", 0, 1, 6, b"\x02\0\0\0\0\x01\0\0", types[0]) + tags + content
    if link_type == SLL2:
        return struct.pack("!HHIHBB8s", types[0], 0, 1, 1, 0, 6, b"\x02\0\0\0\0\x01\0\0") + tags + content
    raise ValueError(f"link type {link_type} has no EtherType")


@dataclass(frozen=True, slots=True)
class Traffic:
    """A random mixture of packets. ``offered_bps`` sets the gaps: about so much IP traffic on average.

    Sizes, gaps (none, usual, long), flows and protocols are always mixed; the rest can be left out.
    """

    packets: int = 20_000
    seed: int = 0
    offered_bps: int = 5_000_000
    flows: int = 64
    link_type: int = ETHERNET
    vlan: bool = True
    ip_options: bool = True
    ipv6: bool = True
    fragments: bool = True
    steps_back: bool = True
    zero_lengths: bool = True
    malformed: bool = True
    gtpu: bool = False


def generate(traffic: Traffic) -> list[Captured]:
    """The packets of a mixture, in the order of their capture."""
    draw = random.Random(traffic.seed)
    flows = [_random_flow(draw, traffic) for _ in range(traffic.flows)]
    captured: list[Captured] = []
    now_ns = START_NS
    waiting: list[bytes] = []
    while len(captured) < traffic.packets:
        # Fragments of one datagram wait, so that packets of others come between them.
        if waiting and draw.random() < 0.6:
            packet = waiting.pop(0)
        else:
            pieces = list(_random_packets(draw, traffic, draw.choice(flows)))
            packet, waiting = pieces[0], waiting + pieces[1:]
        data, wire_length = _on_the_link(draw, traffic, packet)
        now_ns = _next_time(draw, traffic, now_ns, wire_length)
        captured.append(Captured(now_ns, data, wire_length))
    return captured


@dataclass(frozen=True, slots=True)
class _Flow:
    family: int
    source: int
    destination: int
    protocol: int
    source_port: int
    destination_port: int
    options: bytes
    extensions: tuple[int, ...]


def _random_flow(draw: random.Random, traffic: Traffic) -> _Flow:
    family = 6 if traffic.ipv6 and draw.random() < 0.4 else 4
    servers, ues = (IPV4_SERVERS, IPV4_UES) if family == 4 else (IPV6_SERVERS, IPV6_UES)
    options = b""
    if traffic.ip_options and draw.random() < 0.3:
        options = b"\x01" * (4 * draw.randint(1, 10))
    extensions: tuple[int, ...] = ()
    if draw.random() < 0.5:
        extensions = tuple(
            draw.choices((ROUTING, DESTINATION_OPTIONS, AUTHENTICATION, 135, 139, 140), k=draw.randint(1, 3))
        )
        if draw.random() < 0.5:
            extensions = (HOP_BY_HOP, *extensions)
    return _Flow(
        family=family,
        source=_number(servers.partition("/")[0]) + draw.randrange(16),
        destination=_number(ues.partition("/")[0]) + draw.randrange(4),
        protocol=draw.choices(
            (UDP, TCP, SCTP, UDPLITE, DCCP, ICMP if family == 4 else ICMPV6, GRE, ESP), (40, 30, 5, 5, 5, 5, 5, 5)
        )[0],
        source_port=draw.choice(SERVER_PORTS),
        destination_port=draw.randint(1024, 65535),
        options=options,
        extensions=extensions,
    )


def _random_packets(draw: random.Random, traffic: Traffic, flow: _Flow) -> Iterator[bytes]:
    """One packet of a flow, or the fragments of one."""
    length = draw.choice((8, 40, draw.randint(8, 1400), draw.randint(8, 1400), 1372))
    content = ports(flow.source_port, flow.destination_port, length)
    if traffic.fragments and draw.random() < 0.15:
        pieces = list(_fragments(draw, flow, content + payload(draw.randint(0, 1400))))
        fate = draw.random()
        if fate < 0.15 and len(pieces) > 1:
            del pieces[0]
        elif fate < 0.3:
            pieces.reverse()
        yield from pieces
    elif flow.family == 4:
        total_length = 0 if traffic.zero_lengths and draw.random() < 0.02 else None
        yield ipv4(
            flow.source,
            flow.destination,
            flow.protocol,
            content,
            options=flow.options,
            identification=draw.randrange(65536),
            total_length=total_length,
        )
    else:
        first, headers = chain(flow.extensions, flow.protocol, length=draw.choice((8, 16, 24)))
        payload_length = 0 if traffic.zero_lengths and draw.random() < 0.02 else None
        yield ipv6(flow.source, flow.destination, first, headers + content, payload_length=payload_length)


def _fragments(draw: random.Random, flow: _Flow, content: bytes) -> Iterator[bytes]:
    if flow.family == 6:
        # What comes before the fragment header is in every fragment, what comes after it is fragmented too.
        split = draw.randint(0, len(flow.extensions))
        inner, inner_headers = chain(flow.extensions[split:], flow.protocol)
        content = inner_headers + content
        identification = draw.randrange(1 << 32)
    else:
        identification = draw.randrange(65536)
    # Often small enough that the transport header is cut off by nothing, never so small that it is in two fragments.
    size = max(64, draw.randrange(64, 1400)) // 8 * 8
    for offset in range(0, len(content), size):
        piece, more = content[offset : offset + size], offset + size < len(content)
        if flow.family == 4:
            yield ipv4(
                flow.source,
                flow.destination,
                flow.protocol,
                piece,
                options=flow.options,
                identification=identification,
                fragment_offset=offset,
                more_fragments=more,
            )
        else:
            first, headers = chain(flow.extensions[:split], FRAGMENT)
            header = fragment_header(inner, identification, offset, more=more)
            yield ipv6(flow.source, flow.destination, first, headers + header + piece)


def _on_the_link(draw: random.Random, traffic: Traffic, packet: bytes) -> tuple[bytes, int]:
    """The packet behind its link header, spoilt at times, and its length on the wire."""
    family = packet[0] >> 4
    if traffic.gtpu and draw.random() < 0.4:
        packet = _tunnelled(draw, traffic, packet)
    if traffic.malformed and draw.random() < 0.02:
        packet = _spoilt(draw, packet)
    if traffic.malformed and traffic.link_type in (ETHERNET, SLL, SLL2) and draw.random() < 0.01:
        data = linked(payload(46), traffic.link_type, draw.choice((0x0806, 0x88CC, 0x0026)))
    else:
        vlans: tuple[int, ...] = ()
        if traffic.vlan and traffic.link_type in (ETHERNET, SLL) and draw.random() < 0.4:
            vlans = draw.choice(((0x8100,), (0x88A8, 0x8100), (0x9100, 0x8100, 0x8100)))
        data = framed(packet, traffic.link_type, vlans=vlans, family=family)
    wire_length = len(data)
    if traffic.link_type == ETHERNET and wire_length < 60:
        data, wire_length = data.ljust(60, b"\0"), 60
    if traffic.malformed and draw.random() < 0.01:
        data = data[: draw.randrange(len(data))]
    return data, wire_length


def _tunnelled(draw: random.Random, traffic: Traffic, packet: bytes) -> bytes:
    """The packet in a G-PDU between two addresses of its own family, or another message of GTP-U."""
    if traffic.malformed and draw.random() < 0.05:
        packet = _spoilt(draw, packet)
    extensions = draw.choice(
        ((), (pdu_session(draw.randrange(64)),), ((0x40, bytes(6)), pdu_session(9, pdu_type=draw.randrange(3))))
    )
    message = gtpu(
        packet,
        kind=draw.choice((G_PDU,) * 9 + (1, 2, 26, 31, 254)),
        teid=draw.randrange(4),
        sequence=draw.choice((None, 1)),
        extensions=extensions,
    )
    if traffic.malformed and draw.random() < 0.05:
        at = draw.randrange(12)
        message = message[:at] + draw.randbytes(1) + message[at + 1 :]
    if packet[0] >> 4 == 4:
        return ipv4("192.0.2.1", "192.0.2.2", UDP, udp(GTPU_PORT, GTPU_PORT, message))
    return ipv6("2001:db8:ff::1", "2001:db8:ff::2", UDP, udp(GTPU_PORT, GTPU_PORT, message))


def _spoilt(draw: random.Random, packet: bytes) -> bytes:
    """A packet with a header that cannot be right."""
    spoilt = bytearray(packet)
    kind = draw.randrange(4)
    if kind == 3:
        spoilt[0] ^= 0x90
    elif kind == 0 and packet[0] >> 4 == 4:
        spoilt[0] = 0x40 | draw.randrange(5)
    elif kind == 1 and packet[0] >> 4 == 4:
        spoilt[2:4] = draw.randrange(1, 30).to_bytes(2, "big")
    else:
        at = 2 if packet[0] >> 4 == 4 else 4
        spoilt[at : at + 2] = draw.randrange(1, 24).to_bytes(2, "big")
    return bytes(spoilt)


def _next_time(draw: random.Random, traffic: Traffic, now_ns: int, length: int) -> int:
    usual_ns = length * 8 * SECOND_NS // traffic.offered_bps
    if traffic.steps_back:
        fate = draw.random()
        if fate < 0.01:
            return now_ns - draw.randrange(1, 20 * usual_ns + 2)
        if fate < 0.011:
            # Around the 10 s at which a bucket is re-anchored.
            return now_ns - draw.choice((9, 10, 11, 30)) * SECOND_NS + draw.randrange(-1, 2)
        if fate < 0.012:
            return now_ns + draw.choice((1, 9, 59, 61)) * SECOND_NS
    kind = draw.random()
    if kind < 0.2:
        return now_ns
    if kind < 0.95:
        return now_ns + draw.randrange(2 * usual_ns + 2)
    return now_ns + draw.randrange(10 * usual_ns + 2)


def _number(address: str | int) -> int:
    return address if isinstance(address, int) else int(ip_address(address))
