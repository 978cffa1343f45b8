"""A packet as the engine sees it: the key by which it is judged, the length by which it is measured, and where it stands."""

from libc.stdint cimport int8_t, int64_t, uint8_t, uint32_t, uint64_t


cdef enum outcome_t:
    # The first two say in which flow table the packet's flow is kept: see flowtable.pxd.
    OUTCOME_NARROW
    OUTCOME_WIDE
    OUTCOME_NOT_IP
    OUTCOME_HELD                # a fragment that waits for its first
    # From here on malformed, by reason; the order is that of MALFORMED_REASONS in engine.pxi.
    OUTCOME_LINK_HEADER
    OUTCOME_IP_HEADER
    OUTCOME_IP_VERSION
    OUTCOME_IP_HEADER_LENGTH
    OUTCOME_IP_TOTAL_LENGTH
    OUTCOME_IP_EXTENSION_HEADER
    OUTCOME_TRANSPORT_HEADER
    OUTCOME_GTPU_HEADER
    OUTCOME_COUNT
    # Never outside of the parser: a whole UDP packet to the port of GTP-U.
    OUTCOME_TUNNEL

cdef enum:
    # Bits 16 to 23 of a key's second word. FLAG_VALID keeps that word from ever being 0.
    FLAG_VALID = 1
    FLAG_IPV6 = 2
    FLAG_PORTS_UNKNOWN = 4      # ports or SPI

    # Stands in a key for the protocol behind extension headers that were not captured; ports are then unknown too.
    PROTOCOL_UNKNOWN = 255


ctypedef struct packet_t:
    uint64_t addresses          # IPv4: source, destination; IPv6: hash of both
    uint64_t endpoints          # source port, destination port (or SPI), protocol, flags; the low 16 bits are 0
    uint64_t hash
    uint64_t probable_slot      # narrow: the hash, or a little more where the flow probably stands beyond; see hinted_slot()
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
    # What becomes of it; set where the packet went the long way.
    int64_t departs_ns          # 0: when it came
    int8_t dscp                 # that it is to bear; -1: as it came
    # Set where the packet went the long way: the UDP header that tunnels it, if that stands before the network_offset.
    uint32_t udp_offset
    uint32_t link_type


# The attributes of a wide key: which bits of its two words hold what. Absent is 0.
cdef enum attribute_t:
    ATTRIBUTE_TEID_SHIFT = 32       # word 0: TEID in the high half
    ATTRIBUTE_TUNNELLED = 1 << 31   # word 0: the packet came out of a GTP-U tunnel
    ATTRIBUTE_QFI_KNOWN = 1 << 30   # word 0
    ATTRIBUTE_QFI_SHIFT = 24        # word 0: six bits
    ATTRIBUTE_TOS_SHIFT = 16        # word 0: ToS or traffic class, masked to what the rules look at
    ATTRIBUTE_FLOW_LABEL_BITS = 20  # word 1: IPv6 flow label, where the rules look at it


cdef extern from *:
    """static const unsigned char castcore_no_addresses[32] = {0};"""
    const uint8_t NO_ADDRESSES "castcore_no_addresses"[32]


cdef inline bint has_ports(uint8_t protocol) noexcept nogil:
    # TCP, UDP, DCCP, SCTP, UDP-Lite.
    return protocol == 6 or protocol == 17 or protocol == 132 or protocol == 136 or protocol == 33


cdef inline bint has_spi(uint8_t protocol) noexcept nogil:
    # ESP, AH.
    return protocol == 50 or protocol == 51
