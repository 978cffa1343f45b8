"""The IP packet in a datagram of Nmb9: whether it is whole, whose it is, and whether a UDP socket can send it again."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from datagrams cimport cc_checksum
from intrinsics cimport cc_fold, cc_network16
from network cimport REACH_LATER_FRAGMENT, REACH_TRANSPORT, chain_t, ip_t, reach_t, walk_chain
from packet cimport (
    OUTCOME_IP_EXTENSION_HEADER, OUTCOME_IP_HEADER, OUTCOME_IP_HEADER_LENGTH, OUTCOME_IP_TOTAL_LENGTH,
    OUTCOME_IP_VERSION, OUTCOME_NARROW, OUTCOME_TRANSPORT_HEADER, has_ports, has_spi, outcome_t,
)


# Source and group, in one tunnel: what names a session. An IPv4 address fills the first half of its place.
ctypedef struct flow_key_t:
    uint64_t tunnel             # and the IP version
    uint64_t words[4]


# Why a UDP socket cannot send a packet as it came.
cdef enum shape_t:
    SHAPE_UDP
    SHAPE_FRAGMENT
    SHAPE_OPTIONS               # of IPv4, or extension headers of IPv6
    SHAPE_NOT_UDP
    SHAPE_CHECKSUM              # it is wrong, and a socket would make it right


ctypedef struct inner_t:
    const uint8_t *data
    uint32_t length             # IP total length
    uint32_t transport          # where that header begins
    int version
    shape_t shape               # but for SHAPE_CHECKSUM
    flow_key_t key


cdef inline uint64_t hash_key(const flow_key_t *key) noexcept nogil:
    return cc_fold(
        cc_fold(key.words[0] ^ 0x9E3779B97F4A7C15ULL, key.words[1] ^ 0xE7037ED1A0B428DBULL) ^ key.tunnel,
        cc_fold(key.words[2] ^ 0x8EBC6AF09C88C6E3ULL, key.words[3] ^ 0xA0761D6478BD642FULL),
    )


cdef inline bint same_key(const flow_key_t *one, const flow_key_t *other) noexcept nogil:
    return (
        one.tunnel == other.tunnel and one.words[0] == other.words[0] and one.words[1] == other.words[1]
        and one.words[2] == other.words[2] and one.words[3] == other.words[3]
    )


cdef inline void make_key(
    flow_key_t *key, int tunnel, int version, const uint8_t *source, const uint8_t *group
) noexcept nogil:
    cdef size_t address_bytes = 4 if version == 4 else 16
    memset(key, 0, sizeof(flow_key_t))
    key.tunnel = <uint64_t>tunnel << 8 | <uint64_t>version
    memcpy(&key.words[0], source, address_bytes)
    memcpy(&key.words[2], group, address_bytes)


cdef inline outcome_t read_inner(inner_t *inner, const uint8_t *data, uint32_t length, int tunnel) noexcept nogil:
    """OUTCOME_NARROW where it is a whole IP packet, or what is wrong with it, by the names of the parser."""
    inner.data = data
    if length < 1:
        return OUTCOME_IP_HEADER
    inner.version = data[0] >> 4
    if inner.version == 4:
        return read_inner4(inner, length, tunnel)
    if inner.version == 6:
        return read_inner6(inner, length, tunnel)
    return OUTCOME_IP_VERSION


cdef inline outcome_t read_inner4(inner_t *inner, uint32_t length, int tunnel) noexcept nogil:
    cdef const uint8_t *ip = inner.data
    cdef uint16_t fragment
    cdef uint32_t header_bytes
    if length < 20:
        return OUTCOME_IP_HEADER
    header_bytes = <uint32_t>(ip[0] & 15) * 4
    if header_bytes < 20:
        return OUTCOME_IP_HEADER_LENGTH
    inner.length = cc_network16(ip + 2)
    # There is no segmentation offload in a tunnel: no total length is none.
    if inner.length < header_bytes or inner.length > length:
        return OUTCOME_IP_TOTAL_LENGTH
    inner.transport = header_bytes
    fragment = cc_network16(ip + 6)
    if fragment & 0x3FFF:
        inner.shape = SHAPE_FRAGMENT
    elif header_bytes > 20:
        inner.shape = SHAPE_OPTIONS
    else:
        inner.shape = SHAPE_UDP if ip[9] == 17 else SHAPE_NOT_UDP
    make_key(&inner.key, tunnel, 4, ip + 12, ip + 16)
    return OUTCOME_TRANSPORT_HEADER if fragment & 0x1FFF == 0 and lacks_transport(inner, ip[9]) else OUTCOME_NARROW


cdef inline outcome_t read_inner6(inner_t *inner, uint32_t length, int tunnel) noexcept nogil:
    cdef const uint8_t *header = inner.data
    cdef ip_t ip
    cdef chain_t chain
    cdef reach_t reach
    if length < 40:
        return OUTCOME_IP_HEADER
    inner.length = 40 + <uint32_t>cc_network16(header + 4)
    # Neither are there jumbograms.
    if inner.length > length or (inner.length == 40 and header[6] != 59):
        return OUTCOME_IP_TOTAL_LENGTH
    ip.header, ip.captured, ip.wire_length = header, inner.length, inner.length
    make_key(&inner.key, tunnel, 6, header + 8, header + 24)
    reach = walk_chain(&ip, inner.length, &chain)
    if reach != REACH_TRANSPORT and reach != REACH_LATER_FRAGMENT:
        return OUTCOME_IP_EXTENSION_HEADER
    inner.transport = <uint32_t>chain.offset
    if chain.identification != 0 or reach == REACH_LATER_FRAGMENT:
        inner.shape = SHAPE_FRAGMENT
    elif chain.offset > 40:
        inner.shape = SHAPE_OPTIONS
    else:
        inner.shape = SHAPE_UDP if chain.protocol == 17 else SHAPE_NOT_UDP
    if reach == REACH_TRANSPORT and lacks_transport(inner, chain.protocol):
        return OUTCOME_TRANSPORT_HEADER
    return OUTCOME_NARROW


cdef inline bint lacks_transport(const inner_t *inner, uint8_t protocol) noexcept nogil:
    """Whether the packet ends before its ports or its SPI does."""
    cdef uint32_t wanted = 0
    if has_ports(protocol):
        wanted = 4
    elif has_spi(protocol):
        wanted = 8 if protocol == 51 else 4
    return inner.transport + wanted > inner.length


cdef inline shape_t shape_of(const inner_t *inner) noexcept nogil:
    """Also what takes a look at all of the packet: whether its UDP header and checksum are right."""
    cdef const uint8_t *udp = inner.data + inner.transport
    cdef const uint8_t *addresses = inner.data + (12 if inner.version == 4 else 8)
    cdef uint32_t length = inner.length - inner.transport, total
    if inner.shape != SHAPE_UDP:
        return inner.shape
    if length < 8 or cc_network16(udp + 4) != length:
        return SHAPE_NOT_UDP
    # None at all is a UDP packet too (RFC 768, RFC 6935).
    if cc_network16(udp + 6) == 0:
        return SHAPE_UDP
    total = <uint32_t>cc_checksum(addresses, 8 if inner.version == 4 else 32) + cc_checksum(udp, length) + 17 + length
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return SHAPE_UDP if total == 0xFFFF else SHAPE_CHECKSUM
