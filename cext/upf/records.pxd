"""The packets of a capture in memory, one step of the walk after the other: pcap in either byte order, pcapng."""

from libc.stdint cimport int64_t, uint8_t, uint32_t

from blocks cimport next_packet_block
from intrinsics cimport cc_native32, cc_swapped32, cc_unlikely
from walk cimport LARGEST_RECORD, record_t, walk_t

cdef enum:
    RECORD_HEADER_BYTES = 16


cdef inline bint next_record(walk_t *walk, record_t *record) noexcept nogil:
    """Takes the next packet; False where no whole one stands, and the walk then stays where it is."""
    cdef const uint8_t *header = walk.data + walk.at
    cdef uint32_t seconds, fraction
    if cc_unlikely(walk.blocks):
        return next_packet_block(walk, record)
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
    record.link_type = walk.link_type
    walk.at += RECORD_HEADER_BYTES + record.captured
    return True
