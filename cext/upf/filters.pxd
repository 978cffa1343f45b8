"""Classification: SDF filters in the order of their precedence; it runs once per flow and rule set."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from intrinsics cimport cc_network64
from packet cimport FLAG_IPV6, FLAG_PORTS_UNKNOWN, PROTOCOL_UNKNOWN, has_ports, packet_t


ctypedef struct port_range_t:
    uint16_t low
    uint16_t high


ctypedef struct filter_t:
    uint64_t network[4]         # source high, low, destination high, low; IPv4: low 32 bits of the lows
    uint64_t mask[4]
    uint32_t rule
    uint32_t source_ports       # index of the first range
    uint32_t source_port_count  # 0: any
    uint32_t destination_ports
    uint32_t destination_port_count
    int family                  # 0 any, 4, 6
    int protocol                # -1 any


cdef inline bint in_ranges(const port_range_t *ranges, uint32_t count, uint16_t port) noexcept nogil:
    cdef uint32_t i
    for i in range(count):
        if ranges[i].low <= port <= ranges[i].high:
            return True
    return False


cdef inline uint32_t classify(
    const filter_t *filters, uint32_t count, const port_range_t *ranges, const packet_t *packet
) noexcept nogil:
    """The rule of the first filter that matches; 0, the rule of what no rule wants, when none does."""
    cdef uint64_t address[4]
    cdef uint8_t flags = <uint8_t>(packet.endpoints >> 16)
    cdef uint8_t protocol = <uint8_t>(packet.endpoints >> 24)
    cdef uint16_t source_port = <uint16_t>(packet.endpoints >> 48)
    cdef uint16_t destination_port = <uint16_t>(packet.endpoints >> 32)
    cdef int family = 6 if flags & FLAG_IPV6 else 4
    cdef bint ports = has_ports(protocol) and not flags & FLAG_PORTS_UNKNOWN
    cdef bint unknown = protocol == PROTOCOL_UNKNOWN and flags & FLAG_PORTS_UNKNOWN
    cdef uint32_t i
    cdef const filter_t *f
    if family == 6:
        for i in range(4):
            address[i] = cc_network64(packet.addresses6 + 8 * i)
    else:
        address[0] = address[2] = 0
        address[1] = packet.addresses >> 32
        address[3] = packet.addresses & 0xFFFFFFFFULL
    for i in range(count):
        f = &filters[i]
        if f.family != 0 and f.family != family:
            continue
        if f.protocol >= 0 and (unknown or f.protocol != protocol):
            continue
        if f.family != 0 and (
            (address[0] & f.mask[0]) != f.network[0] or (address[1] & f.mask[1]) != f.network[1]
            or (address[2] & f.mask[2]) != f.network[2] or (address[3] & f.mask[3]) != f.network[3]
        ):
            continue
        if f.source_port_count and not (
            ports and in_ranges(ranges + f.source_ports, f.source_port_count, source_port)
        ):
            continue
        if f.destination_port_count and not (
            ports and in_ranges(ranges + f.destination_ports, f.destination_port_count, destination_port)
        ):
            continue
        return f.rule
    return 0
