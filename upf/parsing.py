"""The reference packet parser: link header, IP header, extension headers, fragments, ports (RFC 791, RFC 8200).

What a packet is measured by is its IP total length; what was captured of it may be less, down to its IP header.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, NamedTuple

from upf.sdf import PORT_PROTOCOLS, UNKNOWN_PROTOCOL

_VLAN_TYPES: Final = frozenset({0x8100, 0x88A8, 0x9100})
_FAMILY_OF_ETHERTYPE: Final = {0x0800: 4, 0x86DD: 6}
_FAMILY_OF_AF: Final = {2: 4, 24: 6, 28: 6, 30: 6}
_FAMILY_OF_RAW: Final = {12: None, 14: None, 101: None, 228: 4, 229: 6}

_HOP_BY_HOP: Final = 0
_FRAGMENT: Final = 44
_AUTHENTICATION: Final = 51
_NO_NEXT_HEADER: Final = 59
# Hop-by-hop, routing, destination options, mobility, HIP, shim6: length in units of 8 bytes, the first not counted.
_OPTION_HEADERS: Final = frozenset({_HOP_BY_HOP, 43, 60, 135, 139, 140})
_JUMBO_PAYLOAD: Final = 0xC2


class Malformation(StrEnum):
    """Why a packet is none that a rule could see."""

    LINK_HEADER = "link_header"
    IP_HEADER = "ip_header"
    IP_VERSION = "ip_version"
    IP_HEADER_LENGTH = "ip_header_length"
    IP_TOTAL_LENGTH = "ip_total_length"
    IP_EXTENSION_HEADER = "ip_extension_header"
    TRANSPORT_HEADER = "transport_header"


class FlowKey(NamedTuple):
    """What makes a flow. Addresses are integers; ports are 0 where the protocol has none or they are not known."""

    family: int
    src: int
    dst: int
    protocol: int
    src_port: int
    dst_port: int
    ports_known: bool


class Fragment(NamedTuple):
    """A packet's place in its datagram: ``first`` has the ports, the others are told apart by ``key`` alone."""

    key: tuple[int, ...]
    first: bool


@dataclass(frozen=True, slots=True)
class Packet:
    """An IP packet. ``ip_length`` is its IP total length in bytes, whatever was captured of it.

    ``tos`` is the traffic class of IPv6.
    """

    flow: FlowKey
    ip_length: int
    fragment: Fragment | None = None
    tos: int = 0


def parse_packet(link_type: int, data: bytes, wire_length: int) -> Packet | Malformation | None:
    """Read a captured packet; None is a packet of something other than IP."""
    found = _skip_link_header(link_type, data)
    if found is None or isinstance(found, Malformation):
        return found
    family, start = found
    ip_data = data[start:]
    if family is None:
        if not ip_data:
            return Malformation.IP_HEADER
        family = ip_data[0] >> 4
    if family not in (4, 6):
        return Malformation.IP_VERSION
    packet = (_parse_ipv4 if family == 4 else _parse_ipv6)(ip_data, wire_length - start)
    if isinstance(packet, Malformation):
        return packet
    # The traffic class of IPv6 stands half a byte further on than the type of service of IPv4.
    return replace(packet, tos=ip_data[1] if family == 4 else _u16(ip_data, 0) >> 4 & 0xFF)


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


def _parse_ipv4(data: bytes, wire_length: int) -> Packet | Malformation:
    """RFC 791; ``wire_length`` is without the link header."""
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
    fragment = None
    if offset_field & 0x3FFF and protocol in PORT_PROTOCOLS:
        key = (4, src, dst, identification, protocol)
        fragment = Fragment(key, first=not offset_field & 0x1FFF)
        if not fragment.first:
            return Packet(FlowKey(4, src, dst, protocol, 0, 0, False), ip_length, fragment)
    ports = _parse_ports(data, protocol, header_length, ip_length)
    if isinstance(ports, Malformation):
        return ports
    return Packet(FlowKey(4, src, dst, protocol, *ports), ip_length, fragment)


def _parse_ipv6(data: bytes, wire_length: int) -> Packet | Malformation:
    """RFC 8200; ``wire_length`` is without the link header."""
    if len(data) < 40:
        return Malformation.IP_HEADER
    if data[0] >> 4 != 6:
        return Malformation.IP_VERSION
    ip_length = _ipv6_length(data, wire_length)
    if ip_length < 40:
        return Malformation.IP_TOTAL_LENGTH
    src, dst = int.from_bytes(data[8:24], "big"), int.from_bytes(data[24:40], "big")
    unknown = FlowKey(6, src, dst, UNKNOWN_PROTOCOL, 0, 0, False)
    fragment = None
    protocol, offset = data[6], 40
    while protocol in _OPTION_HEADERS or protocol in (_FRAGMENT, _AUTHENTICATION):
        # No header is shorter than 8 bytes; how long it is stands in its second byte.
        if offset + 8 > ip_length:
            return Malformation.IP_EXTENSION_HEADER
        if offset + 2 > len(data):
            return Packet(unknown, ip_length)
        header_length = _extension_length(protocol, data[offset + 1])
        if offset + header_length > ip_length:
            return Malformation.IP_EXTENSION_HEADER
        if offset + header_length > len(data):
            return Packet(unknown, ip_length)
        next_header = data[offset]
        if protocol == _FRAGMENT:
            offset_field = _u16(data, offset + 2)
            key = (6, src, dst, int.from_bytes(data[offset + 4 : offset + 8], "big"))
            if offset_field >> 3:
                return Packet(FlowKey(6, src, dst, next_header, 0, 0, False), ip_length, Fragment(key, first=False))
            # A fragment that is the first and the last is a whole packet (RFC 6946).
            fragment = Fragment(key, first=True) if offset_field & 1 else None
        protocol = next_header
        offset += header_length
    ports = _parse_ports(data, protocol, offset, ip_length)
    if isinstance(ports, Malformation):
        return ports
    return Packet(FlowKey(6, src, dst, protocol, *ports), ip_length, fragment)


def _ipv6_length(data: bytes, wire_length: int) -> int:
    """The packet's length: from its header, from a jumbo payload option, or else from the wire."""
    payload_length, next_header = _u16(data, 4), data[6]
    if payload_length or next_header == _NO_NEXT_HEADER:
        return 40 + payload_length
    if next_header == _HOP_BY_HOP and len(data) >= 42:
        options = data[42 : 40 + _extension_length(_HOP_BY_HOP, data[41])]
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


def _extension_length(protocol: int, length_field: int) -> int:
    if protocol == _FRAGMENT:
        return 8
    if protocol == _AUTHENTICATION:
        return (length_field + 2) * 4
    return (length_field + 1) * 8


def _parse_ports(data: bytes, protocol: int, offset: int, ip_length: int) -> tuple[int, int, bool] | Malformation:
    """Source port, destination port, and whether they are known."""
    if protocol not in PORT_PROTOCOLS:
        return 0, 0, True
    if offset + 4 > ip_length:
        return Malformation.TRANSPORT_HEADER
    if offset + 4 > len(data):
        return 0, 0, False
    return _u16(data, offset), _u16(data, offset + 2), True


def _u16(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 2], "big")
