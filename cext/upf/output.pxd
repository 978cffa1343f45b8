"""The packets that passed, as records of a pcap or blocks of a pcapng, in memory until they are taken.

Records of the input that are laid out as the output's are, and stand one behind the other, are taken as they stand: a
run of them is one copy, and the last run is none.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport realloc
from libc.string cimport memcpy, memset

from blocks cimport BLOCK_ENHANCED_PACKET, BLOCK_INTERFACE, OPTION_TSRESOL
from packet cimport packet_t
from records cimport RECORD_HEADER_BYTES

cdef enum:
    MOST_OUTPUT_INTERFACES = 16
    INTERFACE_BLOCK_BYTES = 32
    PACKET_BLOCK_BYTES = 32     # without the packet

# Why a packet could not be written.
cdef enum refusal_t:
    REFUSED_NOTHING
    REFUSED_MEMORY
    REFUSED_LINK_TYPE           # a pcap holds one
    REFUSED_TIME                # a pcap's seconds end in 2106


ctypedef struct output_t:
    uint8_t *data
    size_t length
    size_t room
    bint pcapng
    bint nanoseconds            # pcap
    const uint8_t *input        # whose records are laid out as those of the output
    size_t input_length         # 0: they are not
    const uint8_t *run          # of the input, to be written as it stands, behind ``data``
    size_t run_length
    uint32_t link_types[MOST_OUTPUT_INTERFACES]     # of the interfaces described; pcap: there is one
    uint32_t interface_count
    refusal_t refusal           # the first
    uint32_t refused_link_type


cdef inline uint8_t *room_for(output_t *output, size_t length) noexcept nogil:
    """Where so many bytes more may be written; NULL where there is no memory."""
    cdef size_t needed = output.length + length
    cdef uint8_t *data
    if needed > output.room:
        data = <uint8_t *>realloc(output.data, needed * 2)
        if data == NULL:
            output.refusal = REFUSED_MEMORY
            return NULL
        output.data, output.room = data, needed * 2
    data = output.data + output.length
    output.length = needed
    return data


cdef inline void end_run(output_t *output) noexcept nogil:
    """Copies the run, so that it outlives the input and something else can come behind it."""
    cdef uint8_t *data
    if output.run_length != 0:
        data = room_for(output, output.run_length)
        if data != NULL:
            memcpy(data, output.run, output.run_length)
    output.run_length = 0


cdef inline void keep_record(output_t *output, const packet_t *packet) noexcept nogil:
    """Appends a pcap record in this machine's byte order."""
    cdef uint32_t header[4]
    cdef uint64_t seconds = <uint64_t>packet.ts_ns // 1000000000
    cdef uint8_t *data
    if packet.link_type != output.link_types[0]:
        output.refusal, output.refused_link_type = REFUSED_LINK_TYPE, packet.link_type
        return
    if seconds >> 32:
        output.refusal = REFUSED_TIME
        return
    data = room_for(output, RECORD_HEADER_BYTES + packet.captured)
    if data == NULL:
        return
    header[0] = <uint32_t>seconds
    header[1] = <uint32_t>(<uint64_t>packet.ts_ns % 1000000000)
    if not output.nanoseconds:
        header[1] //= 1000
    header[2] = packet.captured
    header[3] = packet.wire_length
    memcpy(data, header, RECORD_HEADER_BYTES)
    memcpy(data + RECORD_HEADER_BYTES, packet.data, packet.captured)


cdef inline uint32_t interface_of(output_t *output, uint32_t link_type) noexcept nogil:
    """The number of the interface with this link type; it is described when its first packet comes."""
    cdef uint32_t number = 0
    cdef uint32_t block[8]
    cdef uint16_t half[2]
    cdef uint8_t *data
    while number < output.interface_count:
        if output.link_types[number] == link_type:
            return number
        number += 1
    data = room_for(output, INTERFACE_BLOCK_BYTES)
    if data == NULL:
        return 0
    memset(block, 0, INTERFACE_BLOCK_BYTES)
    block[0], block[1], block[7] = BLOCK_INTERFACE, INTERFACE_BLOCK_BYTES, INTERFACE_BLOCK_BYTES
    half[0], half[1] = <uint16_t>link_type, 0
    memcpy(&block[2], half, 4)
    # Times in nanoseconds.
    half[0], half[1] = OPTION_TSRESOL, 1
    memcpy(&block[4], half, 4)
    (<uint8_t *>&block[5])[0] = 9
    memcpy(data, block, INTERFACE_BLOCK_BYTES)
    output.link_types[number] = link_type
    output.interface_count += 1
    return number


cdef inline void keep_block(output_t *output, const packet_t *packet) noexcept nogil:
    """Appends an enhanced packet block in this machine's byte order."""
    cdef uint32_t number = interface_of(output, packet.link_type)
    cdef uint32_t padding = -packet.captured & 3
    cdef uint32_t length = PACKET_BLOCK_BYTES + packet.captured + padding
    cdef uint32_t header[7]
    cdef uint8_t *data = room_for(output, length)
    if data == NULL:
        return
    header[0], header[1], header[2] = BLOCK_ENHANCED_PACKET, length, number
    header[3], header[4] = <uint32_t>(<uint64_t>packet.ts_ns >> 32), <uint32_t>packet.ts_ns
    header[5], header[6] = packet.captured, packet.wire_length
    memcpy(data, header, 28)
    memcpy(data + 28, packet.data, packet.captured)
    memset(data + 28 + packet.captured, 0, padding)
    memcpy(data + length - 4, &length, 4)


cdef inline void keep_packet(output_t *output, const packet_t *packet) noexcept nogil:
    """Appends a packet, with the time and the bytes that it has in ``packet``: changed or not."""
    end_run(output)
    if output.pcapng:
        keep_block(output, packet)
    else:
        keep_record(output, packet)


cdef inline void keep_as_it_stands(output_t *output, const packet_t *packet) noexcept nogil:
    """Appends a packet that nothing has changed: of an input that is laid out alike, its record as it stands there."""
    cdef const uint8_t *record = packet.data - RECORD_HEADER_BYTES
    cdef size_t length = RECORD_HEADER_BYTES + packet.captured
    if <size_t>(packet.data - output.input) >= output.input_length:
        keep_packet(output, packet)
        return
    if output.run_length == 0 or record != output.run + output.run_length:
        end_run(output)
        output.run = record
    output.run_length += length
