"""IPv4 (RFC 791) and IPv6 (RFC 8200): the key and the length of a packet, from its IP header to its ports or its SPI.

A packet is measured by its IP total length unless asked otherwise, never by what was captured of it.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from fragments cimport fragment_t, fragments_t, datagram_t, held_t, hold, recall_first, remember_first
from gtpu cimport MESSAGE_COUNT
from intrinsics cimport (
    cc_fold, cc_likely, cc_native64, cc_network16, cc_network32, cc_network64, cc_unlikely,
)
from packet cimport (
    ATTRIBUTE_TOS_SHIFT, FLAG_IPV6, FLAG_PORTS_UNKNOWN, FLAG_VALID, NO_ADDRESSES, OUTCOME_HELD,
    OUTCOME_IP_EXTENSION_HEADER, OUTCOME_IP_HEADER, OUTCOME_IP_HEADER_LENGTH, OUTCOME_IP_TOTAL_LENGTH,
    OUTCOME_IP_VERSION, OUTCOME_NARROW, OUTCOME_TRANSPORT_HEADER, OUTCOME_TUNNEL, OUTCOME_WIDE, PROTOCOL_UNKNOWN,
    has_ports, has_spi, outcome_t, packet_t,
)

cdef enum:
    # The bits of a wide key's first word that say out of which tunnel a packet came.
    TUNNEL_SHIFT = 31


# What is a packet's length: upf.counters.Measure, by name.
cdef enum measure_t:
    MEASURE_L3
    MEASURE_L2
    MEASURE_L4


ctypedef struct parser_t:
    uint64_t seed
    fragments_t fragments
    uint64_t messages[MESSAGE_COUNT]    # of GTP-U
    measure_t measure
    uint32_t gtpu_port          # NO_PORT: packets stay in their tunnels
    # What the installed rules look at beyond the 5-tuple; set by the rule book.
    bint wide                   # every key is wide
    bint flow_label
    uint8_t tos_mask
    bint located                # network_offset is needed of narrow keys too
    bint holding                # fragments are held, and every packet may end the time of one
    bint long_way               # one of these, or a measure of its own: parse_any() alone tells it; see choose_way()


cdef inline void choose_way(parser_t *parser) noexcept nogil:
    """After every change of what the rules look at, or of whether fragments are held."""
    parser.long_way = (
        parser.wide or parser.tos_mask != 0 or parser.located or parser.holding or parser.measure != MEASURE_L3
    )


# An IP header and what was captured behind it; the length on the wire is what stands in where the header says none.
ctypedef struct ip_t:
    const uint8_t *header
    uint64_t captured
    uint64_t wire_length
    uint32_t gtpu_port          # the UDP port behind which a tunnel is looked for


cdef inline outcome_t finish_key(
    parser_t *parser, packet_t *packet, uint64_t ports, uint8_t protocol, uint64_t flags
) noexcept nogil:
    """Completes the key; a narrow one if that says everything."""
    cdef uint64_t hash
    packet.endpoints = ports | (<uint64_t>protocol << 24) | ((flags | FLAG_VALID) << 16)
    hash = cc_fold(packet.addresses ^ parser.seed, packet.endpoints ^ 0xA0761D6478BD642FULL)
    if packet.addresses6 == NULL:
        if cc_likely(not parser.wide and packet.attributes[0] == 0):
            packet.hash = hash
            packet.probable_slot = hash
            return OUTCOME_NARROW
        packet.addresses6 = NO_ADDRESSES
    packet.hash = hash ^ cc_fold(
        packet.attributes[0] ^ 0xE7037ED1A0B428DBULL, packet.attributes[1] ^ 0x8EBC6AF09C88C6E3ULL
    )
    return OUTCOME_WIDE


cdef inline void look_at_ipv4(parser_t *parser, packet_t *packet, const uint8_t *ip) noexcept nogil:
    """Puts into the key what the rules look at in the header; the rest of the attributes is the tunnel's."""
    packet.network_offset = <uint32_t>(ip - packet.data)
    packet.attributes[0] |= <uint64_t>(ip[1] & parser.tos_mask) << ATTRIBUTE_TOS_SHIFT


cdef inline void look_at_ipv6(parser_t *parser, packet_t *packet, const uint8_t *ip) noexcept nogil:
    packet.network_offset = <uint32_t>(ip - packet.data)
    packet.attributes[0] |= <uint64_t>((cc_network16(ip) >> 4) & parser.tos_mask) << ATTRIBUTE_TOS_SHIFT
    if parser.flow_label:
        packet.attributes[1] = cc_network32(ip) & 0xFFFFF


cdef inline void measure_packet(parser_t *parser, packet_t *packet, uint64_t payload) noexcept nogil:
    """``payload``: how far the IP payload stands from the beginning of the IP packet."""
    if cc_unlikely(parser.measure != MEASURE_L3):
        packet.ip_length = packet.wire_length if parser.measure == MEASURE_L2 else packet.ip_length - payload


cdef inline datagram_t datagram_of(const packet_t *packet, uint64_t identification) noexcept nogil:
    """Addresses and identifications mean something within their tunnel only."""
    cdef datagram_t datagram
    datagram.identification = identification
    datagram.tunnel = packet.attributes[0] >> TUNNEL_SHIFT
    return datagram


cdef inline outcome_t parse_transport(
    parser_t *parser, packet_t *packet, const ip_t *ip, uint64_t offset, uint8_t protocol, uint64_t flags,
    uint64_t identification,
) noexcept nogil:
    """Ports or SPI of a packet that is whole or a first fragment; ``identification`` is 0 where nothing follows it."""
    cdef uint64_t ports = 0, at = offset
    cdef uint32_t word
    cdef datagram_t datagram
    cdef bint ported = has_ports(protocol)
    if ported or has_spi(protocol):
        if protocol == 51:
            at += 4
        if cc_unlikely(at + 4 > packet.ip_length):
            return OUTCOME_TRANSPORT_HEADER
        if cc_likely(at + 4 <= ip.captured):
            word = cc_network32(ip.header + at)
            if cc_unlikely(protocol == 17 and word & 0xFFFF == ip.gtpu_port and identification == 0):
                packet.network_offset = <uint32_t>(ip.header - packet.data + offset)
                return OUTCOME_TUNNEL
            ports = <uint64_t>word << 32
        else:
            flags |= FLAG_PORTS_UNKNOWN
    if cc_unlikely(identification != 0) and not flags & FLAG_PORTS_UNKNOWN:
        datagram = datagram_of(packet, identification)
        remember_first(&parser.fragments, packet, &datagram, protocol, ports)
    measure_packet(parser, packet, offset)
    return finish_key(parser, packet, ports, protocol, flags)


cdef inline outcome_t parse_later_fragment(
    parser_t *parser, packet_t *packet, uint64_t offset, uint8_t protocol, uint64_t flags, uint64_t identification
) noexcept nogil:
    """A fragment other than the first has no ports of its own: it takes those of its first, or waits for that."""
    cdef datagram_t datagram = datagram_of(packet, identification)
    cdef fragment_t *first = recall_first(&parser.fragments, packet, &datagram)
    measure_packet(parser, packet, offset)
    if first != NULL:
        return finish_key(parser, packet, first.ports, first.protocol, flags)
    if hold(&parser.fragments, packet, &datagram, protocol, flags):
        parser.holding = True
        choose_way(parser)
        return OUTCOME_HELD
    parser.fragments.without_first += 1
    return finish_key(parser, packet, 0, protocol, flags | FLAG_PORTS_UNKNOWN)


cdef inline void finish_held(parser_t *parser, held_t *held) noexcept nogil:
    """A fragment that has been let go is a packet like any other, by the rules that are installed now."""
    cdef packet_t *packet = &held.packet
    packet.attributes[0] &= ~(<uint64_t>0xFF << ATTRIBUTE_TOS_SHIFT)
    packet.attributes[1] = 0
    if held.flags & FLAG_IPV6:
        look_at_ipv6(parser, packet, packet.data + packet.network_offset)
    else:
        look_at_ipv4(parser, packet, packet.data + packet.network_offset)
    packet.outcome = finish_key(
        parser, packet, held.ports, held.protocol, held.flags | (0 if held.with_first else FLAG_PORTS_UNKNOWN)
    )


cdef inline uint64_t ipv4_length(const ip_t *ip) noexcept nogil:
    cdef uint64_t length = cc_network16(ip.header + 2)
    # Segmentation offload leaves a field of 0 to the network card.
    return length if cc_likely(length != 0) else ip.wire_length


cdef inline outcome_t parse_ipv4(parser_t *parser, packet_t *packet, const ip_t *ip) noexcept nogil:
    cdef const uint8_t *header = ip.header
    cdef uint64_t header_bytes, identification = 0
    cdef uint16_t fragment
    cdef uint8_t protocol
    if ip.captured < 20:
        return OUTCOME_IP_HEADER
    if header[0] >> 4 != 4:
        return OUTCOME_IP_VERSION
    header_bytes = <uint64_t>(header[0] & 15) * 4
    if header_bytes < 20:
        return OUTCOME_IP_HEADER_LENGTH
    packet.ip_length = ipv4_length(ip)
    if packet.ip_length < header_bytes:
        return OUTCOME_IP_TOTAL_LENGTH
    packet.addresses = cc_network64(header + 12)
    packet.addresses6 = NULL
    look_at_ipv4(parser, packet, header)
    protocol = header[9]
    fragment = cc_network16(header + 6)
    if cc_unlikely(fragment & 0x3FFF) and (has_ports(protocol) or has_spi(protocol)):
        identification = (<uint64_t>1 << 63) | (<uint64_t>protocol << 32) | cc_network16(header + 4)
        if fragment & 0x1FFF:
            return parse_later_fragment(parser, packet, header_bytes, protocol, 0, identification)
    elif cc_unlikely(fragment & 0x1FFF):
        measure_packet(parser, packet, header_bytes)
        return finish_key(parser, packet, 0, protocol, 0)
    return parse_transport(parser, packet, ip, header_bytes, protocol, 0, identification)


cdef inline bint is_extension_header(uint8_t protocol) noexcept nogil:
    # Hop-by-hop, routing, fragment, destination options, mobility, HIP, shim6. AH is a protocol with an SPI instead.
    return (
        protocol == 0 or protocol == 43 or protocol == 44 or protocol == 60 or protocol == 135 or protocol == 139
        or protocol == 140
    )


cdef inline uint64_t jumbo_length(const ip_t *ip) noexcept nogil:
    """IP length of a jumbogram (RFC 2675), or 0."""
    cdef const uint8_t *header = ip.header
    cdef uint64_t offset = 42, end
    if ip.captured < 42:
        return 0
    end = 40 + (<uint64_t>header[41] + 1) * 8
    if end > ip.captured:
        end = ip.captured
    while offset + 2 <= end:
        if header[offset] == 0:
            offset += 1
        elif header[offset] == 0xC2 and header[offset + 1] == 4 and offset + 6 <= end:
            return 40 + <uint64_t>cc_network32(header + offset + 2)
        else:
            offset += 2 + <uint64_t>header[offset + 1]
    return 0


cdef inline uint64_t ipv6_length(const ip_t *ip) noexcept nogil:
    cdef uint64_t payload_bytes = cc_network16(ip.header + 4), length = 0
    cdef uint8_t next_header = ip.header[6]
    if cc_likely(payload_bytes != 0 or next_header == 59):
        return 40 + payload_bytes
    if next_header == 0:
        length = jumbo_length(ip)
    # As in IPv4, segmentation offload may have left the field to the network card.
    return length if length != 0 else ip.wire_length


# How far the extension headers of an IPv6 packet lead.
cdef enum reach_t:
    REACH_TRANSPORT
    REACH_LATER_FRAGMENT
    REACH_NOT_CAPTURED
    REACH_BROKEN


ctypedef struct chain_t:
    uint64_t offset             # of what stands behind the headers walked
    uint64_t identification     # of a fragment, with its family; 0: a whole packet
    uint8_t protocol


cdef inline reach_t walk_chain(const ip_t *ip, uint64_t ip_length, chain_t *chain) noexcept nogil:
    cdef const uint8_t *header
    cdef uint64_t header_bytes
    cdef uint16_t fragment
    chain.offset = 40
    chain.identification = 0
    chain.protocol = ip.header[6]
    while cc_unlikely(is_extension_header(chain.protocol)):
        header = ip.header + chain.offset
        # No header is shorter than 8 bytes; how long it is stands in its second byte.
        if chain.offset + 8 > ip_length:
            return REACH_BROKEN
        header_bytes = 8
        if chain.offset + 2 <= ip.captured and chain.protocol != 44:
            header_bytes = (<uint64_t>header[1] + 1) * 8
        if chain.offset + header_bytes > ip_length:
            return REACH_BROKEN
        if chain.offset + header_bytes > ip.captured:
            return REACH_NOT_CAPTURED
        chain.offset += header_bytes
        if chain.protocol == 44:
            fragment = cc_network16(header + 2)
            # A fragment that is the first and the last is a whole packet (RFC 6946).
            chain.identification = (<uint64_t>3 << 62) | cc_network32(header + 4) if fragment & 0xFFF9 else 0
            if fragment & 0xFFF8:
                chain.protocol = header[0]
                return REACH_LATER_FRAGMENT
        chain.protocol = header[0]
    return REACH_TRANSPORT


cdef inline outcome_t parse_ipv6(parser_t *parser, packet_t *packet, const ip_t *ip) noexcept nogil:
    cdef const uint8_t *header = ip.header
    cdef chain_t chain
    cdef reach_t reach
    if ip.captured < 40:
        return OUTCOME_IP_HEADER
    if header[0] >> 4 != 6:
        return OUTCOME_IP_VERSION
    packet.ip_length = ipv6_length(ip)
    if packet.ip_length < 40:
        return OUTCOME_IP_TOTAL_LENGTH
    packet.addresses6 = header + 8
    packet.addresses = (
        cc_fold(cc_native64(header + 8) ^ parser.seed, cc_native64(header + 16) ^ 0xE7037ED1A0B428DBULL)
        ^ cc_fold(cc_native64(header + 24) ^ 0x8EBC6AF09C88C6E3ULL, cc_native64(header + 32) ^ parser.seed)
    )
    look_at_ipv6(parser, packet, header)
    reach = walk_chain(ip, packet.ip_length, &chain)
    if cc_likely(reach == REACH_TRANSPORT):
        return parse_transport(
            parser, packet, ip, chain.offset, chain.protocol, FLAG_IPV6, chain.identification
        )
    if reach == REACH_BROKEN:
        return OUTCOME_IP_EXTENSION_HEADER
    if reach == REACH_LATER_FRAGMENT:
        return parse_later_fragment(
            parser, packet, chain.offset, chain.protocol, FLAG_IPV6, chain.identification
        )
    measure_packet(parser, packet, chain.offset)
    return finish_key(parser, packet, 0, PROTOCOL_UNKNOWN, FLAG_IPV6 | FLAG_PORTS_UNKNOWN)


cdef inline outcome_t parse_ip(parser_t *parser, packet_t *packet, const ip_t *ip, int family) noexcept nogil:
    """``family``: 4, 6, or another where the link does not say which IP it carries: the version field does."""
    if family != 4 and family != 6:
        if ip.captured < 1:
            return OUTCOME_IP_HEADER
        family = ip.header[0] >> 4
    if family == 4:
        return parse_ipv4(parser, packet, ip)
    if family == 6:
        return parse_ipv6(parser, packet, ip)
    return OUTCOME_IP_VERSION
