"""Marking: a DSCP written into a packet whose checksums stay as right, or as wrong, as they were (RFC 1624)."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from intrinsics cimport cc_network16


cdef inline uint8_t dscp_of(const uint8_t *ip) noexcept nogil:
    """Of an IPv4 or IPv6 header."""
    if ip[0] >> 4 == 4:
        return ip[1] >> 2
    return <uint8_t>((cc_network16(ip) >> 6) & 0x3F)


cdef inline void correct_checksum(uint8_t *checksum, uint16_t before, uint16_t after) noexcept nogil:
    """One of the words that it covers has changed: RFC 1624 §3, equation 3."""
    cdef uint32_t total = (~cc_network16(checksum) & 0xFFFF) + (~before & 0xFFFF) + <uint32_t>after
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    checksum[0] = <uint8_t>((~total >> 8) & 0xFF)
    checksum[1] = <uint8_t>(~total & 0xFF)


cdef inline void write_dscp(uint8_t *data, uint32_t network_offset, uint32_t udp_offset, uint8_t dscp) noexcept nogil:
    """ECN and everything else stays. ``udp_offset`` is that of a tunnel's UDP header where it stands before the IP header.

    Its checksum covers the IP header: that of IPv4 as a whole sums up to the same as before, that of IPv6 does not.
    """
    cdef uint8_t *ip = data + network_offset
    cdef uint8_t *udp_checksum
    cdef uint16_t before = cc_network16(ip), after
    if ip[0] >> 4 == 4:
        ip[1] = <uint8_t>(dscp << 2) | (ip[1] & 3)
        after = cc_network16(ip)
        if before != after:
            correct_checksum(ip + 10, before, after)
        return
    ip[0] = (ip[0] & 0xF0) | (dscp >> 2)
    ip[1] = (ip[1] & 0x3F) | <uint8_t>((dscp & 3) << 6)
    after = cc_network16(ip)
    if udp_offset >= network_offset or before == after:
        return
    udp_checksum = data + udp_offset + 6
    # 0 says that there is none (RFC 768), and is written as its complement where it is the sum.
    if cc_network16(udp_checksum) != 0:
        correct_checksum(udp_checksum, before, after)
        if cc_network16(udp_checksum) == 0:
            udp_checksum[0] = udp_checksum[1] = 0xFF
