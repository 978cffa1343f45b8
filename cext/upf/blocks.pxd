"""The packets of a pcapng in memory (draft-ietf-opsawg-pcapng): sections in either byte order, interfaces, packet blocks.

What a block claims is held against its own length, and that against what is there. The walk stands still at the first
block that is cut or cannot be; `upf/captures/pcapng.py` tells what is wrong with it.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport realloc

from intrinsics cimport (
    cc_native16, cc_native32, cc_native64, cc_swapped16, cc_swapped32, cc_swapped64, cc_time_ns,
)
from walk cimport LARGEST_RECORD, interface_t, record_t, walk_t

cdef enum:
    BLOCK_INTERFACE = 1
    BLOCK_OBSOLETE_PACKET = 2
    BLOCK_SIMPLE_PACKET = 3
    BLOCK_ENHANCED_PACKET = 6
    # Reads the same in either byte order.
    BLOCK_SECTION_HEADER = 0x0A0D0D0A

    BYTE_ORDER_MAGIC = 0x1A2B3C4D
    # The most that libpcap and Wireshark let a block claim.
    LARGEST_BLOCK = 16_777_216
    MOST_INTERFACES = 65_536
    FIRST_INTERFACES = 16

    OPTION_END = 0
    OPTION_TSRESOL = 9
    OPTION_TSOFFSET = 14


cdef inline uint32_t word(const uint8_t *at, bint swapped) noexcept nogil:
    return cc_swapped32(cc_native32(at)) if swapped else cc_native32(at)


cdef inline uint16_t half_word(const uint8_t *at, bint swapped) noexcept nogil:
    return cc_swapped16(cc_native16(at)) if swapped else cc_native16(at)


cdef inline bint is_supported(uint32_t link_type) noexcept nogil:
    """Whether the parser knows the link type; the numbers of LINK_TYPES in upf/captures/formats.py."""
    return (
        link_type == 1 or link_type == 0 or link_type == 12 or link_type == 14 or link_type == 101
        or link_type == 108 or link_type == 113 or link_type == 228 or link_type == 229 or link_type == 276
    )


cdef inline void set_resolution(interface_t *interface, uint8_t resolution) noexcept nogil:
    cdef uint32_t power = resolution & 0x7F
    interface.resolution = resolution
    interface.divisor, interface.multiplier, interface.shift = 1, 1, 0
    if resolution & 0x80:
        interface.multiplier, interface.shift = 1000000000, power
    elif power > 28:
        # 64 bits of such units are less than a nanosecond.
        interface.multiplier = 0
    else:
        while power > 9:
            interface.divisor *= 10
            power -= 1
        while power < 9:
            interface.multiplier *= 10
            power += 1


cdef inline bint add_interface(walk_t *walk, const uint8_t *block, uint32_t length) noexcept nogil:
    """Takes an interface description; False where it cannot be."""
    cdef const uint8_t *option = block + 16
    cdef const uint8_t *end = block + length - 4
    cdef interface_t *interface
    cdef void *grown
    cdef uint32_t room, size
    cdef uint16_t code
    cdef uint64_t offset_s
    if walk.interface_count == MOST_INTERFACES:
        return False
    if walk.interface_count == walk.interface_room:
        room = walk.interface_room * 2 if walk.interface_room else FIRST_INTERFACES
        grown = realloc(walk.interfaces, room * sizeof(interface_t))
        if grown == NULL:
            return False
        walk.interfaces, walk.interface_room = <interface_t *>grown, room
    interface = walk.interfaces + walk.interface_count
    interface.link_type = half_word(block + 8, walk.swapped)
    interface.snaplen = word(block + 12, walk.swapped)
    interface.offset_s = 0
    set_resolution(interface, 6)
    # What is left is a multiple of 4 throughout.
    while option < end:
        code, size = half_word(option, walk.swapped), half_word(option + 2, walk.swapped)
        if code == OPTION_END:
            break
        if option + 4 + size > end:
            return False
        if code == OPTION_TSRESOL:
            if size != 1:
                return False
            set_resolution(interface, option[4])
        elif code == OPTION_TSOFFSET:
            if size != 8:
                return False
            offset_s = cc_native64(option + 4)
            interface.offset_s = <int64_t>(cc_swapped64(offset_s) if walk.swapped else offset_s)
        option += 4 + ((size + 3) & ~<uint32_t>3)
    walk.interface_count += 1
    return True


cdef inline bint take_packet(walk_t *walk, record_t *record, uint32_t kind, const uint8_t *block, uint32_t length) noexcept nogil:
    """Fills the record from a packet block; False where it cannot be."""
    cdef bint swapped = walk.swapped
    cdef uint32_t number = 0, room = length - 32
    cdef uint64_t units
    cdef interface_t *interface
    if kind == BLOCK_ENHANCED_PACKET:
        number = word(block + 8, swapped)
    elif kind == BLOCK_OBSOLETE_PACKET:
        number = half_word(block + 8, swapped)
    if number >= walk.interface_count:
        return False
    interface = walk.interfaces + number
    if not is_supported(interface.link_type):
        return False
    record.link_type = interface.link_type
    if kind == BLOCK_SIMPLE_PACKET:
        # It bears no time: it is taken to come with the packet before it.
        record.data = block + 12
        record.wire_length = record.captured = word(block + 8, swapped)
        if interface.snaplen != 0 and record.captured > interface.snaplen:
            record.captured = interface.snaplen
        room = length - 16
        record.ts_ns = walk.latest_ns
    else:
        record.data = block + 28
        record.captured = word(block + 20, swapped)
        record.wire_length = word(block + 24, swapped)
        units = <uint64_t>word(block + 12, swapped) << 32 | word(block + 16, swapped)
        if interface.divisor != 1:
            units //= interface.divisor
        record.ts_ns = cc_time_ns(units, interface.multiplier, interface.shift, interface.offset_s)
    if record.captured > room or record.captured > LARGEST_RECORD or record.ts_ns < 0:
        return False
    walk.latest_ns = record.ts_ns
    return True


cdef inline bint next_packet_block(walk_t *walk, record_t *record) noexcept nogil:
    """Takes the next packet and all blocks before it; False where no whole one stands: the walk stays before that block."""
    cdef const uint8_t *block
    cdef uint64_t left
    cdef uint32_t kind, length, least
    cdef bint swapped
    while True:
        left = walk.size - walk.at
        if left < 12:
            return False
        block = walk.data + walk.at
        swapped = walk.swapped
        kind = word(block, swapped)
        least = 12
        if kind == BLOCK_ENHANCED_PACKET or kind == BLOCK_OBSOLETE_PACKET:
            least = 32
        elif kind == BLOCK_SIMPLE_PACKET:
            least = 16
        elif kind == BLOCK_INTERFACE:
            least = 20
        elif kind == BLOCK_SECTION_HEADER:
            least = 28
            swapped = cc_native32(block + 8) != BYTE_ORDER_MAGIC
            if word(block + 8, swapped) != BYTE_ORDER_MAGIC:
                return False
        length = word(block + 4, swapped)
        if length < least or length > LARGEST_BLOCK or length & 3 or length > left:
            return False
        if word(block + length - 4, swapped) != length:
            return False
        if kind == BLOCK_ENHANCED_PACKET or kind == BLOCK_SIMPLE_PACKET or kind == BLOCK_OBSOLETE_PACKET:
            if not take_packet(walk, record, kind, block, length):
                return False
            walk.at += length
            return True
        if kind == BLOCK_INTERFACE:
            if not add_interface(walk, block, length):
                return False
        elif kind == BLOCK_SECTION_HEADER:
            if half_word(block + 12, swapped) != 1:
                return False
            walk.swapped, walk.interface_count = swapped, 0
        walk.at += length
