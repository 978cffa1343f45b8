"""Super-packets: what the kernel hands over in one piece and means as many segments (TSO, USO), and pieces of them.

The header in front is that of virtio-net (OASIS virtio 1.2, 5.1.6), in the byte order of the machine. Every segment has the
headers of the whole with its own lengths, IPv4 identification and sequence number; transport checksums are left to the
kernel, which finds the sum of the pseudo-header in their place.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from intrinsics cimport cc_network16, cc_network32
from marking cimport write_dscp

cdef enum:
    VNET_BYTES = 10
    VNET_NEEDS_CHECKSUM = 1
    VNET_NOT_SEGMENTED = 0
    VNET_TCP4 = 1
    VNET_TCP6 = 4
    VNET_UDP = 5
    VNET_ECN = 0x80
    # IP headers with all that may stand between them and the transport header, and that.
    MOST_HEADER_BYTES = 512
    TCP_FIN_PSH = 0x09
    TCP_CWR = 0x80


ctypedef struct vnet_t:
    uint8_t flags
    uint8_t kind
    uint16_t header_bytes       # a hint, which is not relied upon
    uint16_t segment_bytes
    uint16_t checksum_start     # the transport header
    uint16_t checksum_offset


ctypedef struct super_t:
    const uint8_t *data         # from the IP header on
    uint32_t length
    uint32_t transport          # where its header begins
    uint32_t headers            # bytes in front of the payload
    uint32_t segment_bytes      # payload of every segment but the last
    uint32_t count              # of segments; 1 where it is an ordinary packet
    bint tcp


cdef inline bint read_super(super_t *whole, const vnet_t *vnet, const uint8_t *data, uint32_t length) noexcept nogil:
    """False where it says to be a super-packet and cannot be one."""
    cdef uint8_t kind = vnet.kind & ~VNET_ECN
    whole.data, whole.length, whole.count = data, length, 1
    whole.transport = whole.headers = whole.segment_bytes = 0
    whole.tcp = kind != VNET_UDP
    if kind == VNET_NOT_SEGMENTED:
        return True
    if kind != VNET_TCP4 and kind != VNET_TCP6 and kind != VNET_UDP:
        return False
    whole.transport = vnet.checksum_start
    whole.headers = whole.transport + 8
    whole.segment_bytes = vnet.segment_bytes
    if not vnet.flags & VNET_NEEDS_CHECKSUM or whole.segment_bytes == 0 or whole.transport < 20:
        return False
    if whole.tcp:
        if length < whole.transport + 20:
            return False
        whole.headers = whole.transport + (data[whole.transport + 12] >> 4) * 4
    if whole.headers > MOST_HEADER_BYTES or length <= whole.headers or (data[0] >> 4 == 6 and whole.transport < 40):
        return False
    if whole.transport + vnet.checksum_offset + 2 > whole.headers:
        return False
    if data[0] >> 4 == 4 and cc_network16(data + 6) & 0x3FFF != 0:
        # No fragment is one.
        return False
    whole.count = (length - whole.headers + whole.segment_bytes - 1) // whole.segment_bytes
    return True


cdef inline uint32_t segment_length(const super_t *whole, uint32_t at) noexcept nogil:
    """Bytes of a segment from its IP header on, as it goes on a wire."""
    if at + 1 < whole.count:
        return whole.headers + whole.segment_bytes
    return whole.length - at * whole.segment_bytes


cdef inline uint64_t pieces_length(const super_t *whole, uint32_t first, uint32_t count) noexcept nogil:
    """Bytes of neighbouring segments, the headers of each counted."""
    return <uint64_t>(count - 1) * (whole.headers + whole.segment_bytes) + segment_length(whole, first + count - 1)


cdef inline uint64_t wire_length(const super_t *whole) noexcept nogil:
    """Bytes of all segments, the headers of each counted."""
    return whole.length + <uint64_t>(whole.count - 1) * whole.headers


cdef inline const uint8_t *payload_of(const super_t *whole, uint32_t first) noexcept nogil:
    return whole.data + whole.headers + first * whole.segment_bytes


cdef inline void put16(uint8_t *data, uint32_t value) noexcept nogil:
    data[0], data[1] = <uint8_t>(value >> 8), <uint8_t>value


cdef inline uint32_t sum_of(const uint8_t *data, uint32_t length, uint32_t total) noexcept nogil:
    """The ones' complement sum of an even number of bytes, folded to 16 bits."""
    cdef uint32_t at
    for at in range(0, length, 2):
        total += cc_network16(data + at)
    total = (total & 0xFFFF) + (total >> 16)
    return (total & 0xFFFF) + (total >> 16)


cdef inline uint32_t piece(
    const super_t *whole, const vnet_t *vnet, uint32_t first, uint32_t count, int dscp, uint8_t *head,
) noexcept nogil:
    """The virtio-net header and the headers of ``count`` segments from ``first`` on, written to ``head``; their length.

    head: VNET_BYTES + MOST_HEADER_BYTES. dscp: that they are to bear; -1: as they came. What follows the headers are the
    bytes of the whole's payload from ``first * segment_bytes`` on.
    """
    cdef vnet_t front = vnet[0]
    cdef uint8_t *ip = head + VNET_BYTES
    cdef uint8_t *transport = ip + whole.transport
    cdef bint last = first + count >= whole.count
    cdef uint32_t length = whole.length - first * whole.segment_bytes, transport_length, sequence, total
    if not last:
        length = whole.headers + count * whole.segment_bytes
    transport_length = length - whole.transport
    front.header_bytes = <uint16_t>whole.headers
    if count == 1:
        front.kind = VNET_NOT_SEGMENTED
        front.header_bytes = front.segment_bytes = 0
    memcpy(head, &front, VNET_BYTES)
    memcpy(ip, whole.data, whole.headers)
    if dscp >= 0:
        write_dscp(ip, 0, 0xFFFFFFFF, <uint8_t>dscp)
    if ip[0] >> 4 == 4:
        put16(ip + 2, length)
        put16(ip + 4, cc_network16(ip + 4) + first)
        put16(ip + 10, 0)
        put16(ip + 10, ~sum_of(ip, (ip[0] & 15) * 4, 0))
        total = sum_of(ip + 12, 8, 0) + ip[9]
    else:
        put16(ip + 4, length - 40)
        total = sum_of(ip + 8, 32, 0) + (6 if whole.tcp else 17)
    if whole.tcp:
        sequence = cc_network32(transport + 4) + first * whole.segment_bytes
        put16(transport + 4, sequence >> 16)
        put16(transport + 6, sequence)
        if not last:
            transport[13] &= ~<uint8_t>TCP_FIN_PSH
        if first != 0:
            transport[13] &= ~<uint8_t>TCP_CWR
    else:
        put16(transport + 4, transport_length)
    put16(transport + vnet.checksum_offset, sum_of(ip, 0, total + transport_length))
    return VNET_BYTES + whole.headers
