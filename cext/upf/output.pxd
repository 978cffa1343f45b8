"""The packets that passed, as pcap records in memory until they are taken."""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport realloc
from libc.string cimport memcpy

from packet cimport packet_t
from records cimport RECORD_HEADER_BYTES


ctypedef struct output_t:
    uint8_t *data
    size_t length
    size_t room
    bint nanoseconds
    bint failed


cdef inline void keep_packet(output_t *output, const packet_t *packet) noexcept nogil:
    """Appends a record in this machine's byte order."""
    cdef size_t needed = output.length + RECORD_HEADER_BYTES + packet.captured
    cdef uint32_t header[4]
    cdef uint8_t *data
    if needed > output.room:
        data = <uint8_t *>realloc(output.data, needed * 2)
        if data == NULL:
            output.failed = True
            return
        output.data = data
        output.room = needed * 2
    header[0] = <uint32_t>(packet.ts_ns // 1000000000LL)
    header[1] = <uint32_t>(packet.ts_ns % 1000000000LL)
    if not output.nanoseconds:
        header[1] //= 1000
    header[2] = packet.captured
    header[3] = packet.wire_length
    memcpy(output.data + output.length, header, RECORD_HEADER_BYTES)
    memcpy(output.data + output.length + RECORD_HEADER_BYTES, packet.data, packet.captured)
    output.length = needed
