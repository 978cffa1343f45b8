"""SDF filters as the packet path compares them: against what a packet's key says, in the order of their rules."""

from libc.stdint cimport int16_t, uint8_t, uint16_t, uint32_t, uint64_t

from intrinsics cimport cc_network64
from packet cimport FLAG_IPV6, FLAG_PORTS_UNKNOWN, OUTCOME_WIDE, PROTOCOL_UNKNOWN, has_ports, packet_t

cdef enum:
    PROTOCOL_ESP = 50
    PROTOCOL_AH = 51


ctypedef struct port_range_t:
    uint16_t low
    uint16_t high


# 128 bytes. An IPv4 address is the top of 128 bits, so that a prefix is as many bits from the top in either family.
ctypedef struct filter_t:
    uint64_t network[4]             # source high, low, destination high, low
    uint64_t attributes[2]          # placed as in packet_t.attributes
    uint64_t attributes_mask[2]
    uint64_t sequence               # of its rule among those of its precedence
    uint32_t precedence
    uint32_t rule
    port_range_t *ports             # the source's, then the destination's
    uint32_t source_port_count      # 0: any
    uint32_t destination_port_count
    uint32_t spi
    uint32_t domain                 # identifier of the name or pattern that is asked for; 0: none
    uint32_t next                   # in its chain or among the free places; 0: the last
    uint32_t next_of_rule           # 0: the last
    int16_t protocol                # -1: any
    uint8_t family                  # 0 any, 4, 6
    uint8_t source_bits             # prefix lengths
    uint8_t destination_bits
    uint8_t side                    # by which it is indexed: see filter_index.pxd
    bint asks_spi


# What is known of the names of a packet's flow: the identifiers of what they match, and whether more may become known.
ctypedef struct names_t:
    const uint32_t *domains
    uint32_t count
    bint settled


# What filters ask about a packet.
ctypedef struct sought_t:
    uint64_t address[4]
    uint64_t attributes[2]
    uint32_t spi
    uint16_t source_port
    uint16_t destination_port
    uint8_t family
    uint8_t protocol
    bint has_ports
    bint has_spi
    bint protocol_unknown


cdef inline uint64_t high_mask(uint8_t bits) noexcept nogil:
    """The upper 64 of 128 bits of which as many as ``bits`` are set from the top."""
    return ~<uint64_t>0 if bits >= 64 else ~(~<uint64_t>0 >> bits)


cdef inline uint64_t low_mask(uint8_t bits) noexcept nogil:
    if bits <= 64:
        return 0
    return ~<uint64_t>0 if bits >= 128 else ~(~<uint64_t>0 >> (bits - 64))


cdef inline void seek(sought_t *sought, const packet_t *packet) noexcept nogil:
    cdef uint8_t flags = <uint8_t>(packet.endpoints >> 16)
    cdef uint8_t protocol = <uint8_t>(packet.endpoints >> 24)
    cdef bint unknown = (flags & FLAG_PORTS_UNKNOWN) != 0
    cdef int i
    sought.protocol = protocol
    sought.source_port = <uint16_t>(packet.endpoints >> 48)
    sought.destination_port = <uint16_t>(packet.endpoints >> 32)
    sought.spi = <uint32_t>(packet.endpoints >> 32)
    sought.has_ports = has_ports(protocol) and not unknown
    sought.has_spi = (protocol == PROTOCOL_ESP or protocol == PROTOCOL_AH) and not unknown
    sought.protocol_unknown = protocol == PROTOCOL_UNKNOWN and unknown
    if flags & FLAG_IPV6:
        sought.family = 6
        for i in range(4):
            sought.address[i] = cc_network64(packet.addresses6 + 8 * i)
    else:
        sought.family = 4
        sought.address[0] = packet.addresses & 0xFFFFFFFF00000000ULL
        sought.address[2] = packet.addresses << 32
        sought.address[1] = sought.address[3] = 0
    # A narrow key has no attributes.
    sought.attributes[0] = packet.attributes[0] if packet.outcome == OUTCOME_WIDE else 0
    sought.attributes[1] = packet.attributes[1] if packet.outcome == OUTCOME_WIDE else 0


cdef inline bint in_ranges(const port_range_t *ranges, uint32_t count, uint16_t port) noexcept nogil:
    cdef uint32_t i
    for i in range(count):
        if ranges[i].low <= port <= ranges[i].high:
            return True
    return False


cdef inline bint matches(const filter_t *f, const sought_t *sought) noexcept nogil:
    """Whether the filter wants a packet of this key, whatever the name of its flow."""
    cdef uint64_t differs
    if f.family != 0 and f.family != sought.family:
        return False
    differs = (
        ((sought.address[0] ^ f.network[0]) & high_mask(f.source_bits))
        | ((sought.address[1] ^ f.network[1]) & low_mask(f.source_bits))
        | ((sought.address[2] ^ f.network[2]) & high_mask(f.destination_bits))
        | ((sought.address[3] ^ f.network[3]) & low_mask(f.destination_bits))
        | ((sought.attributes[0] ^ f.attributes[0]) & f.attributes_mask[0])
        | ((sought.attributes[1] ^ f.attributes[1]) & f.attributes_mask[1])
    )
    if differs != 0:
        return False
    if f.protocol >= 0 and (sought.protocol_unknown or f.protocol != sought.protocol):
        return False
    if f.asks_spi and not (sought.has_spi and sought.spi == f.spi):
        return False
    if f.source_port_count and not (
        sought.has_ports and in_ranges(f.ports, f.source_port_count, sought.source_port)
    ):
        return False
    if f.destination_port_count and not (
        sought.has_ports
        and in_ranges(f.ports + f.source_port_count, f.destination_port_count, sought.destination_port)
    ):
        return False
    return True


cdef inline bint precedes(const filter_t *f, uint32_t precedence, uint64_t sequence) noexcept nogil:
    """Whether the filter is tried before a rule of this precedence and sequence."""
    return f.precedence < precedence or (f.precedence == precedence and f.sequence < sequence)


cdef inline bint names_match(const names_t *names, uint32_t domain) noexcept nogil:
    cdef uint32_t i
    for i in range(names.count):
        if names.domains[i] == domain:
            return True
    return False
