"""A walk over the packets of a capture in memory: where it stands, and what it has learnt on its way."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef enum:
    # The most that libpcap itself lets a record claim.
    LARGEST_RECORD = 262_144


# What an interface description block of a pcapng says. Its times are (units // divisor * multiplier) >> shift nanoseconds.
ctypedef struct interface_t:
    int64_t offset_s            # to be added to its times
    uint64_t divisor
    uint64_t multiplier
    uint32_t shift
    uint32_t snaplen            # 0: none
    uint32_t link_type
    uint8_t resolution          # as the block states it


# ``at`` is the byte at which the next record, or block, begins.
ctypedef struct walk_t:
    const uint8_t *data
    uint64_t size
    uint64_t at
    int64_t fraction_ns         # pcap: what a unit of the fraction of a second is worth
    uint32_t link_type          # pcap: of all packets
    bint swapped                # headers are not in this machine's byte order
    bint blocks                 # it is a pcapng
    interface_t *interfaces     # of the section that the walk is in
    uint32_t interface_count
    uint32_t interface_room
    int64_t latest_ns           # of the packet before


ctypedef struct record_t:
    const uint8_t *data
    int64_t ts_ns
    uint32_t captured
    uint32_t wire_length
    uint32_t link_type
