"""Tunnels of sessions, found by TEID and by the UE's address, and the GTP-U header of what is put into one.

One hash table for both kinds of key, open addressing: a TEID is below 2^32, an IPv4 address stands above that bit, and an
IPv6 prefix is its 64 bits (those that begin with a zero byte are nobody's).
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset

from datagrams cimport CC_PEER_BYTES
from gtpu cimport EXTENSION_PDU_SESSION_CONTAINER
from intrinsics cimport cc_fold, cc_network32, cc_network64

cdef enum:
    NO_TUNNEL = 0
    MOST_OUTER_BYTES = 16
    FIRST_KEYS = 64


ctypedef struct tunnel_end_t:
    uint64_t teid               # this end's
    uint64_t ues[2]             # keys; 0: none
    uint32_t peer_bytes         # 0: the UE cannot be reached
    uint32_t outer_bytes        # of the GTP-U header
    uint8_t peer[CC_PEER_BYTES]
    uint8_t outer[MOST_OUTER_BYTES]


# Places are numbered from 1, as NO_TUNNEL is none.
ctypedef struct tunnel_table_t:
    uint64_t *keys              # 0: free
    uint32_t *places            # beside the keys
    uint64_t mask
    uint64_t count
    tunnel_end_t *ends
    uint32_t used               # places
    uint32_t room
    uint32_t free_place         # the first of those given back; the next stands in its teid


cdef inline uint64_t key_of_ipv4(uint32_t address) noexcept nogil:
    return <uint64_t>1 << 32 | address


cdef inline uint64_t key_of_ue(const uint8_t *ip, bint destination) noexcept nogil:
    """The key of a packet's source or destination; its version is 4 or 6, and its header is whole."""
    if ip[0] >> 4 == 4:
        return key_of_ipv4(cc_network32(ip + (16 if destination else 12)))
    return cc_network64(ip + (24 if destination else 8))


cdef inline uint64_t slot_of(const tunnel_table_t *table, uint64_t key) noexcept nogil:
    """Where the key stands, or the free slot where it would."""
    cdef uint64_t slot = cc_fold(key ^ 0x9E3779B97F4A7C15ULL, 0xA0761D6478BD642FULL) & table.mask
    while table.keys[slot] != 0 and table.keys[slot] != key:
        slot = (slot + 1) & table.mask
    return slot


cdef inline tunnel_end_t *find_tunnel(const tunnel_table_t *table, uint64_t key) noexcept nogil:
    cdef uint64_t slot
    if table.count == 0 or key == 0:
        return NULL
    slot = slot_of(table, key)
    return &table.ends[table.places[slot]] if table.keys[slot] != 0 else NULL


cdef inline bint reserve_keys(tunnel_table_t *table, uint64_t more) noexcept nogil:
    """Room for so many keys more, at most half of the slots taken; False where there is no memory."""
    cdef tunnel_table_t larger = table[0]
    cdef uint64_t slots = table.mask + 1 if table.keys != NULL else FIRST_KEYS, slot, to
    if table.keys != NULL and (table.count + more) * 2 <= slots:
        return True
    while (table.count + more) * 2 > slots:
        slots *= 2
    larger.keys = <uint64_t *>calloc(slots, sizeof(uint64_t))
    larger.places = <uint32_t *>calloc(slots, sizeof(uint32_t))
    if larger.keys == NULL or larger.places == NULL:
        free(larger.keys)
        free(larger.places)
        return False
    larger.mask = slots - 1
    if table.keys != NULL:
        for slot in range(table.mask + 1):
            if table.keys[slot] != 0:
                to = slot_of(&larger, table.keys[slot])
                larger.keys[to], larger.places[to] = table.keys[slot], table.places[slot]
    free(table.keys)
    free(table.places)
    table[0] = larger
    return True


cdef inline bint reserve_ends(tunnel_table_t *table, uint32_t more) noexcept nogil:
    cdef uint32_t room = table.used + more + 1
    cdef tunnel_end_t *ends
    if room <= table.room:
        return True
    ends = <tunnel_end_t *>realloc(table.ends, 2 * <size_t>room * sizeof(tunnel_end_t))
    if ends == NULL:
        return False
    table.ends, table.room = ends, 2 * room
    return True


cdef inline void add_key(tunnel_table_t *table, uint64_t key, uint32_t place) noexcept nogil:
    cdef uint64_t slot
    if key != 0:
        slot = slot_of(table, key)
        table.count += table.keys[slot] == 0
        table.keys[slot], table.places[slot] = key, place


cdef inline void remove_key(tunnel_table_t *table, uint64_t key) noexcept nogil:
    """What stands behind it moves up, so that no search ends too early."""
    cdef uint64_t slot, other
    if key == 0 or table.count == 0:
        return
    slot = slot_of(table, key)
    if table.keys[slot] == 0:
        return
    table.keys[slot] = 0
    table.count -= 1
    other = (slot + 1) & table.mask
    while table.keys[other] != 0:
        key = table.keys[other]
        table.keys[other] = 0
        slot = slot_of(table, key)
        table.keys[slot], table.places[slot] = key, table.places[other]
        other = (other + 1) & table.mask


cdef inline void add_tunnel(tunnel_table_t *table, const tunnel_end_t *end) noexcept nogil:
    """There must be room: reserve_keys(), reserve_ends()."""
    cdef uint32_t place = table.free_place
    if place != NO_TUNNEL:
        table.free_place = <uint32_t>table.ends[place].teid
    else:
        table.used += 1
        place = table.used
    table.ends[place] = end[0]
    add_key(table, end.teid, place)
    add_key(table, end.ues[0], place)
    add_key(table, end.ues[1], place)


cdef inline void remove_tunnel(tunnel_table_t *table, uint64_t teid) noexcept nogil:
    cdef tunnel_end_t *end = find_tunnel(table, teid)
    cdef uint32_t place
    if end == NULL:
        return
    place = <uint32_t>(end - table.ends)
    remove_key(table, end.ues[0])
    remove_key(table, end.ues[1])
    remove_key(table, teid)
    end.teid = table.free_place
    table.free_place = place


cdef inline void close_tunnels(tunnel_table_t *table) noexcept nogil:
    free(table.keys)
    free(table.places)
    free(table.ends)


cdef inline uint32_t write_outer(uint8_t *outer, uint32_t teid, int qfi, bint uplink) noexcept nogil:
    """The header of a G-PDU but for its length (TS 29.281 §5.1); how long it is.

    Unless ``qfi`` is negative, with a DL or UL PDU SESSION INFORMATION (TS 38.415 §5.5.2).
    """
    memset(outer, 0, MOST_OUTER_BYTES)
    outer[0], outer[1] = 0x30, 255
    outer[4], outer[5] = <uint8_t>(teid >> 24), <uint8_t>(teid >> 16)
    outer[6], outer[7] = <uint8_t>(teid >> 8), <uint8_t>teid
    if qfi < 0:
        return 8
    outer[0] |= 4
    outer[11] = EXTENSION_PDU_SESSION_CONTAINER
    # One unit of four bytes; the PDU type; neither paging policy nor reflective QoS.
    outer[12], outer[13] = 1, 0x10 if uplink else 0
    outer[14] = <uint8_t>(qfi & 0x3F)
    return 16


cdef inline void encapsulate(uint8_t *data, const tunnel_end_t *end, uint32_t inner_bytes) noexcept nogil:
    """Writes the header in front of a packet of ``inner_bytes`` that stands ``end.outer_bytes`` behind ``data``."""
    cdef uint32_t length = end.outer_bytes - 8 + inner_bytes
    memcpy(data, end.outer, end.outer_bytes)
    data[2], data[3] = <uint8_t>(length >> 8), <uint8_t>length
