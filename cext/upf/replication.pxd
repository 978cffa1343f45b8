"""MBS sessions and their branches as the packet path sees them, and the table in which a packet's session is found."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from bucket cimport bucket_t, limits_t
from datagrams cimport CC_PEER_BYTES
from inner cimport flow_key_t, hash_key, same_key
from tunnels cimport MOST_OUTER_BYTES

cdef enum:
    FIRST_SESSIONS = 64
    # Sources of packets, with their ports, that there are UDP sockets for at a time.
    SENDERS = 256


ctypedef struct volume_t:
    uint64_t packets
    uint64_t bytes


# How packets leave; the numbers are those of SENDINGS in _mbs.pyx.
cdef enum sending_t:
    SENDING_GTP_U
    SENDING_RAW
    SENDING_UDP
    SENDING_TUN
    SENDINGS_COUNT


# Why a copy was not sent; the order is that of BRANCH_ERRORS in _mbs.pyx.
cdef enum mishap_t:
    MISHAP_NO_ROOM
    MISHAP_TOO_LONG
    MISHAP_DOWN
    MISHAP_UNREACHABLE
    MISHAP_REFUSED
    # From here on only where a UDP socket sends.
    MISHAP_FRAGMENT
    MISHAP_OPTIONS
    MISHAP_NOT_UDP
    MISHAP_CHECKSUM
    MISHAP_SOURCE_NOT_LOCAL
    MISHAP_SOURCE_TAKEN
    MISHAPS


# A UDP socket that is bound to the source of packets, whosever sessions they are.
ctypedef struct sender_t:
    int fd                      # 0: none
    int version
    int interface
    uint16_t port
    uint64_t source[2]
    int tos
    int hops
    mishap_t mishap             # why there is no socket ...
    int64_t again_ns            # ... and when it is tried again


ctypedef struct branch_t:
    sending_t sending
    int fd                      # -1: SENDING_UDP
    int interface
    uint32_t peer_bytes
    uint32_t outer_bytes
    uint8_t peer[CC_PEER_BYTES]
    uint8_t outer[MOST_OUTER_BYTES]
    int sender                  # the place of the sender that it had last
    volume_t sent
    uint64_t mishaps[MISHAPS]


ctypedef struct session_t:
    flow_key_t key
    bint forwards               # not where the action is DROP
    limits_t limits
    bucket_t bucket
    uint32_t branch_count
    branch_t **branches         # those of one descriptor stand together
    volume_t received
    volume_t dropped
    volume_t forwarded
    volume_t not_forwarded
    uint64_t time_steps_back
    int64_t first_ns            # 0: none yet
    int64_t last_ns


# Open addressing, at most half of the places taken.
ctypedef struct session_table_t:
    session_t **places
    uint64_t mask
    uint64_t count


cdef inline void count(volume_t *volume, uint64_t length) noexcept nogil:
    volume.packets += 1
    volume.bytes += length


cdef inline uint64_t place_of(const session_table_t *table, const flow_key_t *key) noexcept nogil:
    """Where the key's session stands, or the free place where it would."""
    cdef uint64_t place = hash_key(key) & table.mask
    while table.places[place] != NULL and not same_key(&table.places[place].key, key):
        place = (place + 1) & table.mask
    return place


cdef inline session_t *find_session(const session_table_t *table, const flow_key_t *key) noexcept nogil:
    return table.places[place_of(table, key)] if table.count != 0 else NULL


cdef inline bint reserve_session(session_table_t *table) noexcept nogil:
    """Room for one more; False where there is no memory."""
    cdef session_table_t larger
    cdef uint64_t place, places = table.mask + 1 if table.places != NULL else FIRST_SESSIONS
    if table.places != NULL and (table.count + 1) * 2 <= places:
        return True
    if table.places != NULL:
        places *= 2
    larger.places = <session_t **>calloc(places, sizeof(session_t *))
    if larger.places == NULL:
        return False
    larger.mask, larger.count = places - 1, table.count
    if table.places != NULL:
        for place in range(table.mask + 1):
            if table.places[place] != NULL:
                larger.places[place_of(&larger, &table.places[place].key)] = table.places[place]
    free(table.places)
    table[0] = larger
    return True


cdef inline void add_session(session_table_t *table, session_t *session) noexcept nogil:
    """There must be room, and no other with its key."""
    table.places[place_of(table, &session.key)] = session
    table.count += 1


cdef inline void remove_session(session_table_t *table, const session_t *session) noexcept nogil:
    """What stands behind it moves up, so that no search ends too early."""
    cdef uint64_t place
    cdef session_t *moved
    if table.count == 0:
        return
    place = place_of(table, &session.key)
    if table.places[place] != session:
        return
    table.places[place] = NULL
    table.count -= 1
    place = (place + 1) & table.mask
    while table.places[place] != NULL:
        moved = table.places[place]
        table.places[place] = NULL
        table.places[place_of(table, &moved.key)] = moved
        place = (place + 1) & table.mask
