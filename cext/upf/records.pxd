"""The records of a pcap in memory: one step of the walk, in either byte order."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from intrinsics cimport cc_native32, cc_swapped32, cc_unlikely

cdef enum:
    RECORD_HEADER_BYTES = 16
    # The most that libpcap itself lets a record claim.
    LARGEST_RECORD = 262_144


# A walk over the records; ``at`` is the byte at which the next one begins.
ctypedef struct walk_t:
    const uint8_t *data
    uint64_t size
    uint64_t at
    int64_t fraction_ns         # what a unit of the fraction of a second is worth
    bint swapped                # headers are not in this machine's byte order


ctypedef struct record_t:
    const uint8_t *data
    int64_t ts_ns
    uint32_t captured
    uint32_t wire_length


cdef inline bint next_record(walk_t *walk, record_t *record) noexcept nogil:
    """Takes the next record; False where no whole one stands, and the walk then stays where it is."""
    cdef const uint8_t *header = walk.data + walk.at
    cdef uint32_t seconds, fraction
    if cc_unlikely(walk.at + RECORD_HEADER_BYTES > walk.size):
        return False
    seconds = cc_native32(header)
    fraction = cc_native32(header + 4)
    record.captured = cc_native32(header + 8)
    record.wire_length = cc_native32(header + 12)
    if walk.swapped:
        seconds, fraction = cc_swapped32(seconds), cc_swapped32(fraction)
        record.captured, record.wire_length = cc_swapped32(record.captured), cc_swapped32(record.wire_length)
    if cc_unlikely(
        record.captured > LARGEST_RECORD or walk.at + RECORD_HEADER_BYTES + record.captured > walk.size
    ):
        return False
    record.data = header + RECORD_HEADER_BYTES
    record.ts_ns = <int64_t>seconds * 1000000000LL + fraction * walk.fraction_ns
    walk.at += RECORD_HEADER_BYTES + record.captured
    return True
