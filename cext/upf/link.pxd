"""Link headers, by the LINKTYPE numbers of the pcap registry, and from there everything: IP, and the packet in a tunnel."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fragments cimport let_expired_go
from gtpu cimport MESSAGE_BROKEN, MESSAGE_COUNT, MESSAGE_G_PDU, MESSAGE_NONE, NO_PORT, message_t, read_gtpu, tunnel_t
from intrinsics cimport cc_fold, cc_likely, cc_network16, cc_network32, cc_network64, cc_swapped32, cc_unlikely
from network cimport choose_way, ip_t, parse_ip, parser_t
from packet cimport (
    ATTRIBUTE_QFI_SHIFT, ATTRIBUTE_TEID_SHIFT, FLAG_VALID, OUTCOME_GTPU_HEADER, OUTCOME_HELD, OUTCOME_LINK_HEADER,
    OUTCOME_NARROW, OUTCOME_NOT_IP, OUTCOME_TUNNEL, outcome_t, packet_t,
)

cdef enum:
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

# What stands behind a link header, beside families 4 and 6.
cdef enum:
    FAMILY_NONE = 0             # something other than IP
    FAMILY_OF_VERSION = 1       # IP; its version field tells which
    FAMILY_BROKEN = -1          # the link header was not captured whole


cdef inline int family_of_address(uint32_t address_family) noexcept nogil:
    """AF_INET is 2 everywhere; AF_INET6 is 24, 28 or 30 on the systems that write these links."""
    if address_family == 2:
        return 4
    return 6 if address_family == 24 or address_family == 28 or address_family == 30 else FAMILY_NONE


cdef inline int skip_tags(const packet_t *packet, uint16_t ethertype, uint32_t *offset) noexcept nogil:
    """From the header's EtherType over any number of tags (IEEE 802.1Q, 802.1ad, and 0x9100 that came before it)."""
    while ethertype == 0x8100 or ethertype == 0x88A8 or ethertype == 0x9100:
        if packet.captured < offset[0] + 4:
            return FAMILY_BROKEN
        ethertype = cc_network16(packet.data + offset[0] + 2)
        offset[0] += 4
    if ethertype == 0x0800:
        return 4
    return 6 if ethertype == 0x86DD else FAMILY_NONE


cdef inline int skip_link(const packet_t *packet, int link_type, uint32_t *offset) noexcept nogil:
    """The family of what the link carries, and where it begins. A link type that is not known here is taken as raw IP."""
    cdef uint32_t address_family
    cdef int family
    offset[0] = 0
    if link_type == LINK_ETHERNET:
        offset[0] = 14
        return skip_tags(packet, cc_network16(packet.data + 12), offset) if packet.captured >= 14 else FAMILY_BROKEN
    if link_type == LINK_SLL:
        offset[0] = 16
        return skip_tags(packet, cc_network16(packet.data + 14), offset) if packet.captured >= 16 else FAMILY_BROKEN
    if link_type == LINK_SLL2:
        offset[0] = 20
        return skip_tags(packet, cc_network16(packet.data), offset) if packet.captured >= 20 else FAMILY_BROKEN
    if link_type == LINK_IPV4:
        return 4
    if link_type == LINK_IPV6:
        return 6
    if link_type != LINK_NULL and link_type != LINK_LOOP:
        return FAMILY_OF_VERSION
    if packet.captured < 4:
        return FAMILY_BROKEN
    offset[0] = 4
    address_family = cc_network32(packet.data)
    family = family_of_address(address_family)
    if family == FAMILY_NONE and link_type == LINK_NULL:
        # That of LOOP is in network byte order, that of NULL in the order of whoever captured.
        family = family_of_address(cc_swapped32(address_family))
    return family


cdef inline ip_t ip_of(const packet_t *packet, uint32_t offset) noexcept nogil:
    """What stands behind a link header of ``offset`` bytes."""
    cdef ip_t ip
    ip.header = packet.data + offset
    ip.captured = packet.captured - offset
    ip.wire_length = packet.wire_length - offset if packet.wire_length > offset else 0
    ip.gtpu_port = NO_PORT
    return ip


cdef inline message_t enter_tunnel(ip_t *ip, tunnel_t *tunnel, uint64_t udp, uint64_t ip_length) noexcept nogil:
    """From a packet to the port of GTP-U, whose UDP header stands ``udp`` bytes behind its IP header, into its G-PDU.

    ``ip`` stays as it is where the message is another or its header is broken.
    """
    cdef uint64_t before = udp + 8, captured_end
    cdef message_t message
    if before == ip_length:
        return MESSAGE_NONE
    if before > ip_length or before > ip.captured:
        return MESSAGE_BROKEN
    message = read_gtpu(tunnel, ip.header + before, ip.captured - before, ip_length - before)
    if message == MESSAGE_G_PDU:
        # Nothing behind the G-PDU is the packet's, and what it carries is the length that stands in where that says none.
        captured_end = tunnel.end if tunnel.end < ip.captured - before else ip.captured - before
        ip.wire_length = tunnel.end - tunnel.start
        ip.captured = captured_end - tunnel.start
        ip.header += before + tunnel.start
    return message


cdef inline message_t unwrap(packet_t *packet, ip_t *ip) noexcept nogil:
    """Of a UDP packet to the port of GTP-U whose UDP header stands at packet.network_offset: what is to be parsed.

    That is the packet that it carries or, once more, itself where it is another message.
    """
    cdef tunnel_t tunnel
    cdef uint64_t udp = <uint64_t>(packet.data + packet.network_offset - ip.header)
    cdef message_t message = enter_tunnel(ip, &tunnel, udp, packet.ip_length)
    ip.gtpu_port = NO_PORT
    packet.attributes[0] = packet.attributes[1] = 0
    if message == MESSAGE_G_PDU:
        packet.attributes[0] = attribute_of(&tunnel)
    return message


cdef inline uint64_t attribute_of(const tunnel_t *tunnel) noexcept nogil:
    """What the first attribute of a packet says of the tunnel that it came out of."""
    return (
        (<uint64_t>tunnel.teid << ATTRIBUTE_TEID_SHIFT) | (<uint64_t>1 << 31)
        | (<uint64_t>tunnel.qfi_known << 30) | (<uint64_t>tunnel.qfi << ATTRIBUTE_QFI_SHIFT)
    )


cdef inline void begin_parsing(parser_t *parser, packet_t *packet) noexcept nogil:
    packet.departs_ns, packet.dscp, packet.udp_offset = 0, -1, 0xFFFFFFFF
    if cc_unlikely(parser.holding):
        let_expired_go(&parser.fragments, packet.ts_ns, packet - 1)
        parser.holding = parser.fragments.held_count != 0
        choose_way(parser)


cdef inline outcome_t parse_inner(parser_t *parser, packet_t *packet, uint64_t attribute) noexcept nogil:
    """A packet that has been taken out of its tunnel, which attribute_of() has described. No other is looked for in it."""
    cdef ip_t ip
    begin_parsing(parser, packet)
    packet.attributes[0], packet.attributes[1] = attribute, 0
    ip = ip_of(packet, 0)
    return parse_ip(parser, packet, &ip, FAMILY_OF_VERSION)


cdef inline outcome_t parse_any(parser_t *parser, packet_t *packet, int link_type) noexcept nogil:
    """Every kind of packet."""
    cdef uint32_t offset
    cdef int family = skip_link(packet, link_type, &offset)
    cdef ip_t ip
    cdef outcome_t outcome
    cdef message_t message = MESSAGE_NONE
    cdef uint32_t udp_offset
    begin_parsing(parser, packet)
    if family == FAMILY_BROKEN:
        return OUTCOME_LINK_HEADER
    if family == FAMILY_NONE:
        return OUTCOME_NOT_IP
    packet.attributes[0] = packet.attributes[1] = 0
    ip = ip_of(packet, offset)
    ip.gtpu_port = parser.gtpu_port
    while True:
        outcome = parse_ip(parser, packet, &ip, family)
        if cc_likely(outcome != OUTCOME_TUNNEL):
            break
        udp_offset = packet.network_offset
        message = unwrap(packet, &ip)
        if message == MESSAGE_BROKEN:
            return OUTCOME_GTPU_HEADER
        if message == MESSAGE_G_PDU:
            packet.udp_offset = udp_offset
            family = FAMILY_OF_VERSION
    if cc_unlikely(message < MESSAGE_COUNT) and outcome <= OUTCOME_HELD:
        parser.messages[<int>message] += 1
    return outcome


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
        ports = cc_network32(data + 34)
        if cc_likely(
            ip_length >= 24 and cc_network16(data + 20) & 0x3FFF == 0 and (protocol == 17 or protocol == 6)
            and ports & 0xFFFF != parser.gtpu_port
        ):
            ports <<= 32
            packet.ip_length = ip_length
            packet.addresses = cc_network64(data + 26)
            packet.endpoints = ports | (<uint64_t>protocol << 24) | (<uint64_t>FLAG_VALID << 16)
            packet.probable_slot = packet.hash = cc_fold(
                packet.addresses ^ parser.seed, packet.endpoints ^ 0xA0761D6478BD642FULL
            )
            return OUTCOME_NARROW
    return parse_any(parser, packet, link_type)
