"""Where things stand in a packet that has been parsed: what slow paths look into, found anew rather than kept for all."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from gtpu cimport MESSAGE_G_PDU, tunnel_t
from intrinsics cimport cc_network16, cc_network32
from link cimport FAMILY_BROKEN, FAMILY_NONE, enter_tunnel, ip_of, skip_link
from network cimport REACH_TRANSPORT, chain_t, ip_t, ipv4_length, ipv6_length, walk_chain
from packet cimport packet_t


# Offsets within the captured bytes; 0 is nowhere.
ctypedef struct transport_t:
    uint32_t network            # IP header
    uint32_t offset             # transport header; a later fragment has none
    uint32_t payload
    uint32_t end                # of what was captured of the IP packet: padding behind it is none of it
    uint32_t flow_label
    uint8_t protocol
    uint8_t tcp_flags
    uint8_t tos


# An IP packet by itself; offsets are from its header on.
ctypedef struct layout_t:
    uint64_t ip_length
    uint64_t stated_length      # 0: the header leaves it open
    uint64_t transport
    uint8_t protocol
    bint whole                  # no fragment


cdef inline bint lay_out(const ip_t *ip, layout_t *layout) noexcept nogil:
    """False where it is no IP packet that could be parsed."""
    cdef chain_t chain
    cdef uint16_t fragment
    if ip.captured < 20:
        return False
    layout.transport = 0
    layout.whole = False
    if ip.header[0] >> 4 == 4:
        fragment = cc_network16(ip.header + 6)
        layout.stated_length = cc_network16(ip.header + 2)
        layout.ip_length = ipv4_length(ip)
        layout.protocol = ip.header[9]
        layout.whole = fragment & 0x3FFF == 0
        if fragment & 0x1FFF == 0:
            layout.transport = <uint64_t>(ip.header[0] & 15) * 4
        return True
    if ip.header[0] >> 4 != 6 or ip.captured < 40:
        return False
    layout.stated_length = cc_network16(ip.header + 4)
    if layout.stated_length != 0:
        layout.stated_length += 40
    layout.ip_length = ipv6_length(ip)
    if walk_chain(ip, layout.ip_length, &chain) == REACH_TRANSPORT:
        layout.transport = chain.offset
        layout.whole = chain.identification == 0
    layout.protocol = chain.protocol
    return True


cdef inline bint leads_into_tunnel(const ip_t *ip, const layout_t *layout, uint32_t gtpu_port) noexcept nogil:
    return (
        layout.protocol == 17 and layout.whole and layout.transport + 4 <= ip.captured
        and cc_network16(ip.header + layout.transport + 2) == gtpu_port
    )


cdef inline uint32_t transport_bytes(uint8_t protocol, const uint8_t *header, uint32_t room) noexcept nogil:
    """Length of a transport header of which ``room`` bytes are there; 0 where it is not known."""
    cdef uint32_t length = 0
    if protocol == 17 or protocol == 136:
        length = 8
    elif protocol == 132:
        length = 12
    elif protocol == 6 and room > 12:
        length = (header[12] >> 4) * 4
        length = length if length >= 20 else 0
    elif protocol == 33 and room > 4:
        length = <uint32_t>header[4] * 4
        length = length if length >= 12 else 0
    return length


cdef inline bint transport_of(
    const packet_t *packet, int link_type, uint32_t gtpu_port, transport_t *transport
) noexcept nogil:
    """Finds the transport of a packet that the parser took; ``gtpu_port`` is the parser's. False where there is no IP."""
    cdef uint32_t offset, room, header_bytes
    cdef int family = skip_link(packet, link_type, &offset)
    cdef const uint8_t *header
    cdef tunnel_t tunnel
    cdef layout_t layout
    cdef ip_t ip
    if family == FAMILY_BROKEN or family == FAMILY_NONE:
        return False
    ip = ip_of(packet, offset)
    if not lay_out(&ip, &layout):
        return False
    if leads_into_tunnel(&ip, &layout, gtpu_port):
        if enter_tunnel(&ip, &tunnel, layout.transport, layout.ip_length) == MESSAGE_G_PDU and not lay_out(&ip, &layout):
            return False
    header = ip.header
    transport.network = <uint32_t>(header - packet.data)
    transport.end = packet.captured
    if layout.stated_length != 0 and transport.network + layout.stated_length < packet.captured:
        transport.end = <uint32_t>(transport.network + layout.stated_length)
    transport.protocol = layout.protocol
    transport.tos = header[1] if header[0] >> 4 == 4 else <uint8_t>(cc_network16(header) >> 4)
    transport.flow_label = 0 if header[0] >> 4 == 4 else cc_network32(header) & 0xFFFFF
    transport.offset = transport.payload = 0
    transport.tcp_flags = 0
    if layout.transport == 0 or transport.network + layout.transport >= transport.end:
        return True
    transport.offset = <uint32_t>(transport.network + layout.transport)
    room = transport.end - transport.offset
    header = packet.data + transport.offset
    header_bytes = transport_bytes(layout.protocol, header, room)
    if header_bytes != 0 and header_bytes <= room:
        transport.payload = transport.offset + header_bytes
    if layout.protocol == 6 and room > 13:
        transport.tcp_flags = header[13]
    return True
