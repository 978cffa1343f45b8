"""Parsing: from captured bytes to the key and length by which a packet is judged.

A packet is measured by its IP total length, never by what was captured of it. Links: LINKTYPE numbers of the pcap registry.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from intrinsics cimport (
    cc_fold, cc_likely, cc_native64, cc_network16, cc_network32, cc_network64, cc_swapped32, cc_unlikely,
)


cdef enum outcome_t:
    # The first two say in which flow table the packet's flow is kept: see flowtable.pxd.
    OUTCOME_NARROW
    OUTCOME_WIDE
    OUTCOME_NOT_IP
    # From here on malformed, by reason; the order is that of MALFORMED_REASONS in _engine.pyx.
    OUTCOME_LINK_HEADER
    OUTCOME_IP_HEADER
    OUTCOME_IP_VERSION
    OUTCOME_IP_HEADER_LENGTH
    OUTCOME_IP_TOTAL_LENGTH
    OUTCOME_IP_EXTENSION_HEADER
    OUTCOME_TRANSPORT_HEADER
    OUTCOME_COUNT

cdef enum:
    # Bits 16 to 23 of a key's second word. FLAG_VALID keeps that word from ever being 0.
    FLAG_VALID = 1
    FLAG_IPV6 = 2
    FLAG_PORTS_UNKNOWN = 4

    # Stands in a key for the protocol behind extension headers that were not captured; ports are then unknown too.
    PROTOCOL_UNKNOWN = 255

    LINK_NULL = 0
    LINK_ETHERNET = 1
    LINK_RAW_BSD = 12
    LINK_RAW_OPENBSD = 14
    LINK_RAW = 101
    LINK_LOOP = 108
    LINK_SLL = 113
    LINK_IPV4 = 228
    LINK_IPV6 = 229
    LINK_SLL2 = 276

    # First fragments remembered at the most; the oldest goes first.
    FRAGMENTS = 8192
    FRAGMENT_CHAINS = 8192


ctypedef struct packet_t:
    uint64_t addresses          # IPv4: source, destination; IPv6: hash of both
    uint64_t endpoints          # source port, destination port, protocol, flags; the low 16 bits are 0
    uint64_t hash
    uint64_t probable_slot      # narrow: the hash, or one more where another flow stands at home; see look_ahead()
    uint64_t ip_length          # by which the packet is measured
    int64_t ts_ns
    const uint8_t *data
    uint32_t captured
    uint32_t wire_length
    outcome_t outcome
    # Set where the packet went the long way; see parse_link().
    uint32_t network_offset     # where the IP header that was classified begins in the data
    # Of a wide key only.
    const uint8_t *addresses6   # IPv6: source and destination within the captured bytes; IPv4: zeros
    uint64_t attributes[2]      # what else the key holds; see attribute_t


# The attributes of a wide key: which bits of its two words hold what. Absent is 0.
cdef enum attribute_t:
    ATTRIBUTE_TEID_SHIFT = 32       # word 0: TEID in the high half
    ATTRIBUTE_TUNNELLED = 1 << 31   # word 0: the packet came out of a GTP-U tunnel
    ATTRIBUTE_QFI_KNOWN = 1 << 30   # word 0
    ATTRIBUTE_QFI_SHIFT = 24        # word 0: six bits
    ATTRIBUTE_TOS_SHIFT = 16        # word 0: ToS or traffic class, masked to what the rules look at
    ATTRIBUTE_FLOW_LABEL_BITS = 20  # word 1: IPv6 flow label, where the rules look at it


# What a first fragment tells those that follow it (RFC 791, RFC 8200 §4.5). Places are numbered from 1: 0 ends a chain,
# and place 0 holds the two ends of the list by age, so that zeroed memory is an empty list.
ctypedef struct fragment_t:
    uint64_t addresses
    uint64_t identification     # with family and, for IPv4, protocol
    uint8_t addresses6[32]
    int64_t ts_ns
    uint64_t ports              # placed as in packet_t.endpoints
    uint16_t next               # in the chain of its hash
    uint16_t older
    uint16_t newer
    uint8_t protocol


ctypedef struct parser_t:
    uint64_t seed
    uint64_t fragments_without_first
    fragment_t *fragments       # 1 + FRAGMENTS
    uint16_t *chains            # FRAGMENT_CHAINS: the first place of each
    uint32_t fragment_count
    # What the installed rules look at beyond the 5-tuple; set by the rule book.
    bint wide                   # every key is wide
    bint flow_label
    uint8_t tos_mask
    bint located                # network_offset is needed of narrow keys too
    bint long_way               # one of these: parse_any() alone tells it; see choose_way()


cdef inline void choose_way(parser_t *parser) noexcept nogil:
    """After every change of what the rules look at."""
    parser.long_way = parser.wide or parser.tos_mask != 0 or parser.located


cdef extern from *:
    """static const unsigned char castcore_no_addresses[32] = {0};"""
    const uint8_t NO_ADDRESSES "castcore_no_addresses"[32]


cdef inline bint has_ports(uint8_t protocol) noexcept nogil:
    # TCP, UDP, DCCP, SCTP, UDP-Lite.
    return protocol == 6 or protocol == 17 or protocol == 132 or protocol == 136 or protocol == 33


cdef inline bint is_extension_header(uint8_t protocol) noexcept nogil:
    # Hop-by-hop, routing, fragment, AH, destination options, mobility, HIP, shim6.
    return (
        protocol == 0 or protocol == 43 or protocol == 44 or protocol == 51 or protocol == 60
        or protocol == 135 or protocol == 139 or protocol == 140
    )


cdef inline uint16_t *fragment_chain(parser_t *parser, uint64_t addresses, uint64_t identification) noexcept nogil:
    cdef uint64_t mixed = cc_fold(addresses ^ parser.seed, identification ^ 0x9E3779B97F4A7C15ULL)
    return parser.chains + (mixed & (FRAGMENT_CHAINS - 1))


cdef inline uint16_t find_fragment(parser_t *parser, packet_t *packet, uint64_t identification) noexcept nogil:
    """The place of the packet's first fragment; 0 where it is not remembered."""
    cdef uint16_t at = fragment_chain(parser, packet.addresses, identification)[0]
    cdef fragment_t *known
    while at != 0:
        known = &parser.fragments[at]
        if (
            known.identification == identification
            and known.addresses == packet.addresses
            and (packet.addresses6 == NULL or memcmp(known.addresses6, packet.addresses6, 32) == 0)
        ):
            return at
        at = known.next
    return 0


cdef inline void unlink_by_age(fragment_t *fragments, uint16_t at) noexcept nogil:
    fragments[fragments[at].older].newer = fragments[at].newer
    fragments[fragments[at].newer].older = fragments[at].older


cdef inline uint16_t free_fragment(parser_t *parser) noexcept nogil:
    """A place that nothing refers to: one never used or, in a full table, that of the oldest."""
    cdef fragment_t *fragments = parser.fragments
    cdef uint16_t at
    cdef uint16_t *link
    if parser.fragment_count < FRAGMENTS:
        parser.fragment_count += 1
        return <uint16_t>parser.fragment_count
    at = fragments[0].newer
    unlink_by_age(fragments, at)
    link = fragment_chain(parser, fragments[at].addresses, fragments[at].identification)
    while link[0] != at:
        link = &fragments[link[0]].next
    link[0] = fragments[at].next
    return at


cdef inline void remember_fragment(
    parser_t *parser, packet_t *packet, uint64_t identification, uint8_t protocol, uint64_t ports
) noexcept nogil:
    cdef fragment_t *fragments = parser.fragments
    cdef uint16_t at = find_fragment(parser, packet, identification)
    cdef uint16_t *chain
    if at != 0:
        unlink_by_age(fragments, at)
    else:
        at = free_fragment(parser)
        fragments[at].addresses = packet.addresses
        fragments[at].identification = identification
        if packet.addresses6 != NULL:
            memcpy(fragments[at].addresses6, packet.addresses6, 32)
        chain = fragment_chain(parser, packet.addresses, identification)
        fragments[at].next = chain[0]
        chain[0] = at
    fragments[at].ts_ns = packet.ts_ns
    fragments[at].ports = ports
    fragments[at].protocol = protocol
    fragments[at].newer = 0
    fragments[at].older = fragments[0].older
    fragments[fragments[0].older].newer = at
    fragments[0].older = at


cdef inline fragment_t *recall_fragment(parser_t *parser, packet_t *packet, uint64_t identification) noexcept nogil:
    cdef uint16_t at = find_fragment(parser, packet, identification)
    cdef int64_t age_ns
    if at != 0:
        age_ns = packet.ts_ns - parser.fragments[at].ts_ns
        if -60000000000LL <= age_ns <= 60000000000LL:
            return &parser.fragments[at]
    parser.fragments_without_first += 1
    return NULL


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


cdef inline outcome_t parse_transport(
    parser_t *parser, packet_t *packet, const uint8_t *ip, uint64_t offset, uint64_t captured, uint8_t protocol,
    uint64_t flags, uint64_t identification,
) noexcept nogil:
    """Ports of a packet that is whole or a first fragment; ``identification`` is 0 where nothing follows it."""
    cdef uint64_t ports = 0
    if has_ports(protocol):
        if cc_unlikely(offset + 4 > packet.ip_length):
            return OUTCOME_TRANSPORT_HEADER
        if cc_likely(offset + 4 <= captured):
            ports = <uint64_t>cc_network32(ip + offset) << 32
        else:
            flags |= FLAG_PORTS_UNKNOWN
    if cc_unlikely(identification != 0) and not flags & FLAG_PORTS_UNKNOWN:
        remember_fragment(parser, packet, identification, protocol, ports)
    return finish_key(parser, packet, ports, protocol, flags)


cdef inline outcome_t parse_later_fragment(
    parser_t *parser, packet_t *packet, uint8_t protocol, uint64_t flags, uint64_t identification
) noexcept nogil:
    """A fragment other than the first has no ports of its own: it takes those of its first."""
    cdef fragment_t *first = recall_fragment(parser, packet, identification)
    if first == NULL:
        return finish_key(parser, packet, 0, protocol, flags | FLAG_PORTS_UNKNOWN)
    return finish_key(parser, packet, first.ports, first.protocol, flags)


cdef inline outcome_t parse_ipv4(
    parser_t *parser, packet_t *packet, const uint8_t *ip, uint64_t captured, uint32_t link_bytes
) noexcept nogil:
    cdef uint64_t header_bytes, identification = 0
    cdef uint16_t fragment
    cdef uint8_t protocol
    if cc_unlikely(captured < 20):
        return OUTCOME_IP_HEADER
    if cc_unlikely(ip[0] >> 4 != 4):
        return OUTCOME_IP_VERSION
    header_bytes = <uint64_t>(ip[0] & 15) * 4
    if cc_unlikely(header_bytes < 20):
        return OUTCOME_IP_HEADER_LENGTH
    packet.ip_length = cc_network16(ip + 2)
    if cc_unlikely(packet.ip_length == 0):
        # Segmentation offload left the field to the network card.
        packet.ip_length = packet.wire_length - link_bytes if packet.wire_length > link_bytes else 0
    if cc_unlikely(packet.ip_length < header_bytes):
        return OUTCOME_IP_TOTAL_LENGTH
    packet.addresses = cc_network64(ip + 12)
    packet.addresses6 = NULL
    packet.network_offset = <uint32_t>(ip - packet.data)
    packet.attributes[0] |= <uint64_t>(ip[1] & parser.tos_mask) << ATTRIBUTE_TOS_SHIFT
    protocol = ip[9]
    fragment = cc_network16(ip + 6)
    if cc_unlikely(fragment & 0x3FFF) and has_ports(protocol):
        identification = (<uint64_t>1 << 63) | (<uint64_t>protocol << 32) | cc_network16(ip + 4)
        if fragment & 0x1FFF:
            return parse_later_fragment(parser, packet, protocol, 0, identification)
    elif cc_unlikely(fragment & 0x1FFF):
        return finish_key(parser, packet, 0, protocol, 0)
    return parse_transport(parser, packet, ip, header_bytes, captured, protocol, 0, identification)


cdef inline uint64_t jumbo_length(const uint8_t *ip, uint64_t captured) noexcept nogil:
    """IP length of a jumbogram (RFC 2675), or 0."""
    cdef uint64_t offset = 42, end
    if captured < 42:
        return 0
    end = 40 + (<uint64_t>ip[41] + 1) * 8
    if end > captured:
        end = captured
    while offset + 2 <= end:
        if ip[offset] == 0:
            offset += 1
        elif ip[offset] == 0xC2 and ip[offset + 1] == 4 and offset + 6 <= end:
            return 40 + <uint64_t>cc_network32(ip + offset + 2)
        else:
            offset += 2 + <uint64_t>ip[offset + 1]
    return 0


cdef inline outcome_t parse_ipv6(
    parser_t *parser, packet_t *packet, const uint8_t *ip, uint64_t captured, uint32_t link_bytes
) noexcept nogil:
    cdef uint64_t payload_bytes, offset = 40, header_bytes, identification = 0
    cdef uint16_t fragment
    cdef uint8_t protocol
    if cc_unlikely(captured < 40):
        return OUTCOME_IP_HEADER
    if cc_unlikely(ip[0] >> 4 != 6):
        return OUTCOME_IP_VERSION
    protocol = ip[6]
    payload_bytes = cc_network16(ip + 4)
    packet.ip_length = 40 + payload_bytes
    if cc_unlikely(payload_bytes == 0) and protocol != 59:
        packet.ip_length = jumbo_length(ip, captured) if protocol == 0 else 0
        if packet.ip_length == 0:
            # As in IPv4, segmentation offload has left the field to the network card.
            packet.ip_length = packet.wire_length - link_bytes if packet.wire_length > link_bytes else 0
        if packet.ip_length < 40:
            return OUTCOME_IP_TOTAL_LENGTH
    packet.addresses6 = ip + 8
    packet.network_offset = <uint32_t>(ip - packet.data)
    packet.attributes[0] |= <uint64_t>((cc_network16(ip) >> 4) & parser.tos_mask) << ATTRIBUTE_TOS_SHIFT
    if parser.flow_label:
        packet.attributes[1] |= cc_network32(ip) & 0xFFFFF
    packet.addresses = (
        cc_fold(cc_native64(ip + 8) ^ parser.seed, cc_native64(ip + 16) ^ 0xE7037ED1A0B428DBULL)
        ^ cc_fold(cc_native64(ip + 24) ^ 0x8EBC6AF09C88C6E3ULL, cc_native64(ip + 32) ^ parser.seed)
    )
    while is_extension_header(protocol):
        # No header is shorter than 8 bytes; how long it is stands in its second byte.
        if offset + 8 > packet.ip_length:
            return OUTCOME_IP_EXTENSION_HEADER
        header_bytes = 8
        if offset + 2 <= captured and protocol != 44:
            header_bytes = (<uint64_t>ip[offset + 1] + 2) * 4 if protocol == 51 else (<uint64_t>ip[offset + 1] + 1) * 8
        if offset + header_bytes > packet.ip_length:
            return OUTCOME_IP_EXTENSION_HEADER
        if offset + header_bytes > captured:
            return finish_key(parser, packet, 0, PROTOCOL_UNKNOWN, FLAG_IPV6 | FLAG_PORTS_UNKNOWN)
        if protocol == 44:
            fragment = cc_network16(ip + offset + 2)
            identification = (<uint64_t>3 << 62) | cc_network32(ip + offset + 4)
            if fragment & 0xFFF8:
                return parse_later_fragment(parser, packet, ip[offset], FLAG_IPV6, identification)
            if not fragment & 1:
                identification = 0
        protocol = ip[offset]
        offset += header_bytes
    return parse_transport(parser, packet, ip, offset, captured, protocol, FLAG_IPV6, identification)


cdef inline outcome_t parse_ip(
    parser_t *parser, packet_t *packet, const uint8_t *ip, uint64_t captured, uint32_t link_bytes
) noexcept nogil:
    """A link that does not say which IP it carries: the version field does."""
    if captured < 1:
        return OUTCOME_IP_HEADER
    if ip[0] >> 4 == 4:
        return parse_ipv4(parser, packet, ip, captured, link_bytes)
    if ip[0] >> 4 == 6:
        return parse_ipv6(parser, packet, ip, captured, link_bytes)
    return OUTCOME_IP_VERSION


cdef inline outcome_t parse_ethertype(
    parser_t *parser, packet_t *packet, uint16_t ethertype, uint32_t offset
) noexcept nogil:
    while ethertype == 0x8100 or ethertype == 0x88A8 or ethertype == 0x9100:
        if packet.captured < offset + 4:
            return OUTCOME_LINK_HEADER
        ethertype = cc_network16(packet.data + offset + 2)
        offset += 4
    if cc_likely(ethertype == 0x0800):
        return parse_ipv4(parser, packet, packet.data + offset, packet.captured - offset, offset)
    if ethertype == 0x86DD:
        return parse_ipv6(parser, packet, packet.data + offset, packet.captured - offset, offset)
    return OUTCOME_NOT_IP


cdef inline int family_of(uint32_t address_family) noexcept nogil:
    """AF_INET is 2 everywhere; AF_INET6 is 24, 28 or 30 on the systems that write these links. 0: neither."""
    if address_family == 2:
        return 4
    return 6 if address_family == 24 or address_family == 28 or address_family == 30 else 0


cdef inline outcome_t parse_null(parser_t *parser, packet_t *packet, bint host_order) noexcept nogil:
    """``host_order``: the address family may stand in the byte order of whoever captured."""
    cdef uint32_t address_family
    cdef int family
    if packet.captured < 4:
        return OUTCOME_LINK_HEADER
    address_family = cc_network32(packet.data)
    family = family_of(address_family)
    if family == 0 and host_order:
        family = family_of(cc_swapped32(address_family))
    if family == 4:
        return parse_ipv4(parser, packet, packet.data + 4, packet.captured - 4, 4)
    if family == 6:
        return parse_ipv6(parser, packet, packet.data + 4, packet.captured - 4, 4)
    return OUTCOME_NOT_IP


cdef inline outcome_t parse_any(parser_t *parser, packet_t *packet, int link_type) noexcept nogil:
    """Every kind of packet. A link type that is not known here is taken as raw IP."""
    packet.attributes[0] = packet.attributes[1] = 0
    if link_type == LINK_ETHERNET:
        if packet.captured < 14:
            return OUTCOME_LINK_HEADER
        return parse_ethertype(parser, packet, cc_network16(packet.data + 12), 14)
    if link_type == LINK_IPV4:
        return parse_ipv4(parser, packet, packet.data, packet.captured, 0)
    if link_type == LINK_IPV6:
        return parse_ipv6(parser, packet, packet.data, packet.captured, 0)
    if link_type == LINK_SLL:
        if packet.captured < 16:
            return OUTCOME_LINK_HEADER
        return parse_ethertype(parser, packet, cc_network16(packet.data + 14), 16)
    if link_type == LINK_SLL2:
        if packet.captured < 20:
            return OUTCOME_LINK_HEADER
        return parse_ethertype(parser, packet, cc_network16(packet.data), 20)
    if link_type == LINK_NULL or link_type == LINK_LOOP:
        return parse_null(parser, packet, link_type == LINK_NULL)
    return parse_ip(parser, packet, packet.data, packet.captured, 0)


cdef inline outcome_t parse_link(parser_t *parser, packet_t *packet, int link_type) noexcept nogil:
    """The outcome; fills the key and length of an IP packet.

    The common case in a straight line: Ethernet, IPv4 without options or fragments, TCP or UDP, a narrow key.
    """
    cdef const uint8_t *data = packet.data
    cdef uint64_t ports
    cdef uint32_t ip_length, protocol
    if cc_likely(
        link_type == LINK_ETHERNET and packet.captured >= 38 and cc_network32(data + 12) >> 8 == 0x080045
        and not parser.long_way
    ):
        ip_length = cc_network16(data + 16)
        protocol = data[23]
        if cc_likely(
            ip_length >= 24 and cc_network16(data + 20) & 0x3FFF == 0 and (protocol == 17 or protocol == 6)
        ):
            ports = <uint64_t>cc_network32(data + 34) << 32
            packet.ip_length = ip_length
            packet.addresses = cc_network64(data + 26)
            packet.endpoints = ports | (<uint64_t>protocol << 24) | (<uint64_t>FLAG_VALID << 16)
            packet.probable_slot = packet.hash = cc_fold(
                packet.addresses ^ parser.seed, packet.endpoints ^ 0xA0761D6478BD642FULL
            )
            return OUTCOME_NARROW
    return parse_any(parser, packet, link_type)
