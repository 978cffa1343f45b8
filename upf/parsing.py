"""The reference packet parser: link header, IP header, extension headers, GTP-U, fragments, ports, SPI.

RFC 791, RFC 8200, RFC 4302, RFC 4303, TS 29.281 §5. A packet is measured by its IP total length unless asked otherwise,
never by what was captured of it: that may be less, down to its IP header.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from upf.counters import Measure
from upf.gtpu import G_PDU, GTPU_PORT, Tunnel, parse_gtpu
from upf.malformation import Malformation
from upf.sdf import PORT_PROTOCOLS, UNKNOWN_PROTOCOL

_VLAN_TYPES: Final = frozenset({0x8100, 0x88A8, 0x9100})
_FAMILY_OF_ETHERTYPE: Final = {0x0800: 4, 0x86DD: 6}
_FAMILY_OF_AF: Final = {2: 4, 24: 6, 28: 6, 30: 6}
_FAMILY_OF_RAW: Final = {12: None, 14: None, 101: None, 228: 4, 229: 6}

_HOP_BY_HOP: Final = 0
_TCP: Final = 6
_UDP: Final = 17
_DCCP: Final = 33
_FRAGMENT: Final = 44
_NO_NEXT_HEADER: Final = 59
# Hop-by-hop, routing, destination options, mobility, HIP, shim6: length in units of 8 bytes, the first not counted.
_OPTION_HEADERS: Final = frozenset({_HOP_BY_HOP, 43, 60, 135, 139, 140})
_JUMBO_PAYLOAD: Final = 0xC2
# Where the security parameters index stands in ESP and in the authentication header.
_SPI_AT: Final = {50: 0, 51: 4}
# Bytes of the transport headers that are always as long.
_TRANSPORT_BYTES: Final = {_UDP: 8, 132: 12, 136: 8}


class FlowKey(NamedTuple):
    """What makes a flow. Addresses are integers; ports are 0 where the protocol has none or they are not known.

    ``spi`` is that of ESP and AH; where it is not known, ``ports_known`` is false as it is without ports. ``teid`` and
    ``qfi`` are those of the GTP-U tunnel out of which the packet was taken.
    """

    family: int
    src: int
    dst: int
    protocol: int
    src_port: int
    dst_port: int
    ports_known: bool
    spi: int | None = None
    teid: int | None = None
    qfi: int | None = None


class Fragment(NamedTuple):
    """A packet's place in its datagram: ``first`` has the ports, the others are told apart by ``key`` alone."""

    key: tuple[int, ...]
    first: bool


class Transport(NamedTuple):
    """Where things stand within the captured bytes; 0 is nowhere. ``end`` is that of the IP packet, without padding."""

    network: int
    offset: int
    payload: int
    end: int
    tcp_flags: int


@dataclass(frozen=True, slots=True)
class Packet:
    """An IP packet. ``length`` is what it is measured by in bytes, its IP total length unless asked otherwise.

    ``gtpu`` is the message of TS 29.281 that it is or in which it came, empty where there is none. ``tos`` is the
    traffic class of IPv6, ``flow_label`` None in IPv4. ``network`` and ``transport`` are where its headers begin in the
    captured bytes; a later fragment has no ``transport`` (0), nor has one behind headers that were not captured.
    """

    flow: FlowKey
    length: int
    fragment: Fragment | None = None
    gtpu: str = ""
    tos: int = field(default=0, compare=False)
    flow_label: int | None = field(default=None, compare=False)
    network: int = field(default=0, compare=False)
    transport: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class _Datagram:
    """An IP packet by itself: ``payload`` is how far its IP payload stands from its beginning."""

    flow: FlowKey
    ip_length: int
    payload: int
    tos: int
    flow_label: int | None = None
    fragment: Fragment | None = None
    has_transport: bool = True


def parse_packet(
    link_type: int, data: bytes, wire_length: int, *, measure: Measure = Measure.L3, gtpu: bool = True
) -> Packet | Malformation | None:
    """Read a captured packet; None is a packet of something other than IP.

    ``gtpu``: whether the packet in a G-PDU counts in place of that which carries it.
    """
    found = _skip_link_header(link_type, data)
    if found is None or isinstance(found, Malformation):
        return found
    family, start = found
    datagram = _parse_ip(data[start:], family, wire_length - start)
    if isinstance(datagram, Malformation):
        return datagram
    message = ""
    if gtpu and _is_gtpu(datagram):
        udp_end = min(start + datagram.ip_length, len(data))
        after_udp = start + datagram.payload + 8
        tunnel = parse_gtpu(data[after_udp:udp_end], start + datagram.ip_length - after_udp)
        if isinstance(tunnel, Malformation):
            return tunnel
        message = tunnel.message if tunnel is not None else ""
        if tunnel is not None and message == G_PDU:
            start, data = after_udp + tunnel.start, data[: after_udp + tunnel.end]
            inner = _parse_ip(data[start:], None, tunnel.end - tunnel.start)
            if isinstance(inner, Malformation):
                return inner
            datagram = _tunnelled(inner, tunnel)
    length = {
        Measure.L2: wire_length,
        Measure.L3: datagram.ip_length,
        Measure.L4: datagram.ip_length - datagram.payload,
    }[measure]
    return Packet(
        datagram.flow,
        length,
        datagram.fragment,
        message,
        datagram.tos,
        datagram.flow_label,
        network=start,
        transport=start + datagram.payload if datagram.has_transport else 0,
    )


def transport_of(packet: Packet, data: bytes) -> Transport:
    """Transport header, payload and TCP flags of a parsed packet in its captured bytes."""
    network, at, protocol = packet.network, packet.transport, packet.flow.protocol
    # A length of 0 in the IP header leaves the end open.
    ipv4 = packet.flow.family == 4
    stated = _u16(data, network + 2) if ipv4 else _u16(data, network + 4) and _u16(data, network + 4) + 40
    end = min(len(data), network + stated) if stated else len(data)
    if not at or at >= end:
        return Transport(network, 0, 0, end, 0)
    length = _TRANSPORT_BYTES.get(protocol, 0)
    # TCP has its length in the high half of a byte, DCCP in a whole one.
    if protocol == _TCP and at + 12 < end:
        length = _at_least(20, 4 * (data[at + 12] >> 4))
    elif protocol == _DCCP and at + 4 < end:
        length = _at_least(12, 4 * data[at + 4])
    payload = at + length if length and at + length <= end else 0
    flags = data[at + 13] if protocol == _TCP and at + 13 < end else 0
    return Transport(network, at, payload, end, flags)


def segment_of(packet: Packet, data: bytes) -> bytes:
    """What was captured of the transport header and what follows it; nothing of a later fragment."""
    transport = transport_of(packet, data)
    return data[transport.offset : transport.end] if transport.offset else b""


def _at_least(least: int, length: int) -> int:
    return length if length >= least else 0


def _is_gtpu(datagram: _Datagram) -> bool:
    """Whether it is a whole UDP packet to the port of GTP-U: a fragment cannot be unwrapped."""
    flow = datagram.flow
    whole = datagram.fragment is None
    return whole and flow.protocol == _UDP and flow.ports_known and flow.dst_port == GTPU_PORT


def _tunnelled(inner: _Datagram, tunnel: Tunnel) -> _Datagram:
    """Addresses and identifications mean something within their tunnel only."""
    fragment = inner.fragment
    if fragment is not None:
        fragment = Fragment((*fragment.key, tunnel.teid), fragment.first)
    return replace(inner, flow=inner.flow._replace(teid=tunnel.teid, qfi=tunnel.qfi), fragment=fragment)


def _parse_ip(data: bytes, family: int | None, wire_length: int) -> _Datagram | Malformation:
    """``family`` None: the version nibble tells; ``wire_length`` is without whatever stands before the IP header."""
    if family is None:
        if not data:
            return Malformation.IP_HEADER
        family = data[0] >> 4
    if family == 4:
        return _parse_ipv4(data, wire_length)
    if family == 6:
        return _parse_ipv6(data, wire_length)
    return Malformation.IP_VERSION


def _skip_link_header(link_type: int, data: bytes) -> tuple[int | None, int] | Malformation | None:
    """The family (None: the version nibble tells) and where the IP header begins; None is not IP."""
    if link_type in _FAMILY_OF_RAW:
        return _FAMILY_OF_RAW[link_type], 0
    if link_type in (0, 108):
        return _skip_null_header(link_type, data)
    # Where the header ends, and where in it the EtherType stands.
    end, type_at = {1: (14, 12), 113: (16, 14), 276: (20, 0)}[link_type]
    if len(data) < end:
        return Malformation.LINK_HEADER
    ethertype = _u16(data, type_at)
    while ethertype in _VLAN_TYPES:
        # A tag is two bytes of tag control information and the EtherType of what follows.
        end += 4
        if len(data) < end:
            return Malformation.LINK_HEADER
        ethertype = _u16(data, end - 2)
    family = _FAMILY_OF_ETHERTYPE.get(ethertype)
    return None if family is None else (family, end)


def _skip_null_header(link_type: int, data: bytes) -> tuple[int, int] | Malformation | None:
    """The address family of NULL stands in the byte order of whoever captured, that of LOOP in network byte order."""
    if len(data) < 4:
        return Malformation.LINK_HEADER
    family = _FAMILY_OF_AF.get(int.from_bytes(data[:4], "big"))
    if family is None and link_type == 0:
        family = _FAMILY_OF_AF.get(int.from_bytes(data[:4], "little"))
    return None if family is None else (family, 4)


def _parse_ipv4(data: bytes, wire_length: int) -> _Datagram | Malformation:
    """RFC 791."""
    if len(data) < 20:
        return Malformation.IP_HEADER
    if data[0] >> 4 != 4:
        return Malformation.IP_VERSION
    header_length = (data[0] & 0x0F) * 4
    if header_length < 20:
        return Malformation.IP_HEADER_LENGTH
    # A capture before segmentation offload shows a length of 0: then the length on the wire is the packet's.
    ip_length = _u16(data, 2) or wire_length
    if ip_length < header_length:
        return Malformation.IP_TOTAL_LENGTH
    identification, offset_field = _u16(data, 4), _u16(data, 6)
    protocol = data[9]
    src, dst = int.from_bytes(data[12:16], "big"), int.from_bytes(data[16:20], "big")
    datagram = _Datagram(FlowKey(4, src, dst, protocol, 0, 0, True), ip_length, header_length, data[1])
    if offset_field & 0x3FFF:
        later = bool(offset_field & 0x1FFF)
        if protocol in PORT_PROTOCOLS or protocol in _SPI_AT:
            key = (4, src, dst, identification, protocol)
            datagram = replace(datagram, fragment=Fragment(key, first=not later))
        if later:
            # Of a protocol without ports it lacks nothing.
            known = datagram.fragment is None
            return replace(datagram, flow=datagram.flow._replace(ports_known=known), has_transport=False)
    return _with_ports(datagram, data)


def _parse_ipv6(data: bytes, wire_length: int) -> _Datagram | Malformation:
    """RFC 8200."""
    if len(data) < 40:
        return Malformation.IP_HEADER
    if data[0] >> 4 != 6:
        return Malformation.IP_VERSION
    ip_length = _ipv6_length(data, wire_length)
    if ip_length < 40:
        return Malformation.IP_TOTAL_LENGTH
    src, dst = int.from_bytes(data[8:24], "big"), int.from_bytes(data[24:40], "big")
    first_word = int.from_bytes(data[:4], "big")
    tos, flow_label = first_word >> 20 & 0xFF, first_word & 0xFFFFF
    unknown = FlowKey(6, src, dst, UNKNOWN_PROTOCOL, 0, 0, False)
    fragment = None
    protocol, offset = data[6], 40
    while protocol in _OPTION_HEADERS or protocol == _FRAGMENT:
        # No header is shorter than 8 bytes; how long it is stands in its second byte.
        if offset + 8 > ip_length:
            return Malformation.IP_EXTENSION_HEADER
        if offset + 2 > len(data):
            return _Datagram(unknown, ip_length, offset, tos, flow_label, has_transport=False)
        header_length = 8 if protocol == _FRAGMENT else (data[offset + 1] + 1) * 8
        if offset + header_length > ip_length:
            return Malformation.IP_EXTENSION_HEADER
        if offset + header_length > len(data):
            return _Datagram(unknown, ip_length, offset, tos, flow_label, has_transport=False)
        next_header = data[offset]
        if protocol == _FRAGMENT:
            offset_field = _u16(data, offset + 2)
            key = (6, src, dst, int.from_bytes(data[offset + 4 : offset + 8], "big"))
            if offset_field >> 3:
                flow = FlowKey(6, src, dst, next_header, 0, 0, False)
                later = Fragment(key, first=False)
                return _Datagram(flow, ip_length, offset + 8, tos, flow_label, later, has_transport=False)
            # A fragment that is the first and the last is a whole packet (RFC 6946).
            fragment = Fragment(key, first=True) if offset_field & 1 else None
        protocol = next_header
        offset += header_length
    flow = FlowKey(6, src, dst, protocol, 0, 0, True)
    return _with_ports(_Datagram(flow, ip_length, offset, tos, flow_label, fragment), data)


def _ipv6_length(data: bytes, wire_length: int) -> int:
    """The packet's length: from its header, from a jumbo payload option, or else from the wire."""
    payload_length, next_header = _u16(data, 4), data[6]
    if payload_length or next_header == _NO_NEXT_HEADER:
        return 40 + payload_length
    if next_header == _HOP_BY_HOP and len(data) >= 42:
        options = data[42 : 40 + (data[41] + 1) * 8]
        at = 0
        while at + 2 <= len(options):
            kind, length = options[at], options[at + 1]
            if kind == 0:  # Pad1 has no length.
                at += 1
                continue
            if kind == _JUMBO_PAYLOAD and length == 4 and at + 6 <= len(options):
                return 40 + int.from_bytes(options[at + 2 : at + 6], "big")
            at += 2 + length
    return wire_length


def _with_ports(datagram: _Datagram, data: bytes) -> _Datagram | Malformation:
    """The datagram with the ports or the SPI of its transport header."""
    protocol, offset = datagram.flow.protocol, datagram.payload
    spi_at = _SPI_AT.get(protocol)
    if protocol not in PORT_PROTOCOLS and spi_at is None:
        return datagram
    end = offset + 4 + (spi_at or 0)
    if end > datagram.ip_length:
        return Malformation.TRANSPORT_HEADER
    if end > len(data):
        return replace(datagram, flow=datagram.flow._replace(ports_known=False))
    if spi_at is not None:
        return replace(datagram, flow=datagram.flow._replace(spi=int.from_bytes(data[end - 4 : end], "big")))
    return replace(datagram, flow=datagram.flow._replace(src_port=_u16(data, offset), dst_port=_u16(data, offset + 2)))


def _u16(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 2], "big")
