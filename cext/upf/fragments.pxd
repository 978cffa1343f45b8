"""Fragments (RFC 791, RFC 8200 §4.5): first ones whose ports the others follow, and later ones that came before their first.

Those are held until it comes, for HOLD_NS at the most. Both tables have a bound, beyond which the oldest goes first.
Places in them are numbered from 1: 0 ends a chain, and place 0 holds the two ends of a list by age, so that zeroed memory
is an empty list.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy

from intrinsics cimport cc_fold
from packet cimport packet_t

cdef enum:
    # First fragments remembered at the most.
    FRAGMENTS = 8192
    FRAGMENT_CHAINS = 8192
    # Later fragments held at the most. Those that are let go keep their places until the batch has been judged, and no
    # batch has more packets than there are places beyond the bound.
    HELD = 1024
    HELD_PLACES = HELD + 256
    HELD_BYTES = 4 << 20
    HELD_CHAINS = 1024


# Which datagram a fragment is of, together with its addresses.
ctypedef struct datagram_t:
    uint64_t identification     # with family and, for IPv4, protocol
    uint64_t tunnel             # TEID of the tunnel that it came out of, with a bit that says so; 0: none


ctypedef struct fragment_t:
    uint64_t addresses
    datagram_t datagram
    uint8_t addresses6[32]
    int64_t ts_ns
    uint64_t ports              # placed as in packet_t.endpoints
    uint16_t next               # in the chain of its hash
    uint16_t older
    uint16_t newer
    uint8_t protocol


ctypedef struct held_t:
    packet_t packet             # its data is a copy of its own
    datagram_t datagram
    const packet_t *after       # let go: the packet of the batch after which it is judged
    bint with_first
    uint64_t flags              # of its key
    uint64_t ports              # its first's, where that has come
    uint8_t protocol
    uint16_t older
    uint16_t newer              # while it waits, while its place is free, and when it has been let go
    uint16_t older_in_chain
    uint16_t newer_in_chain


# Those that wait whose datagrams have the same hash, by age.
ctypedef struct waiting_t:
    uint16_t oldest
    uint16_t newest


ctypedef struct fragments_t:
    fragment_t *firsts          # 1 + FRAGMENTS
    uint16_t *chains            # FRAGMENT_CHAINS: the first place of each
    held_t *held                # 1 + HELD_PLACES
    waiting_t *waiting          # HELD_CHAINS
    uint64_t seed
    uint64_t without_first
    uint64_t held_bytes
    uint16_t first_count
    uint16_t held_count
    uint16_t places_used
    uint16_t free_place
    uint16_t let_go             # those to be judged, in order
    uint16_t last_let_go


cdef inline bint open_fragments(fragments_t *fragments, uint64_t seed) noexcept nogil:
    """Empty tables; False when there is no memory."""
    fragments.seed = seed
    fragments.firsts = <fragment_t *>calloc(1 + FRAGMENTS, sizeof(fragment_t))
    fragments.chains = <uint16_t *>calloc(FRAGMENT_CHAINS, sizeof(uint16_t))
    fragments.held = <held_t *>calloc(1 + HELD_PLACES, sizeof(held_t))
    fragments.waiting = <waiting_t *>calloc(HELD_CHAINS, sizeof(waiting_t))
    return (
        fragments.firsts != NULL and fragments.chains != NULL and fragments.held != NULL and fragments.waiting != NULL
    )


cdef inline void close_fragments(fragments_t *fragments) noexcept nogil:
    cdef uint16_t at
    if fragments.held != NULL:
        for at in range(1, fragments.places_used + 1):
            free(<void *>fragments.held[at].packet.data)
    free(fragments.firsts)
    free(fragments.chains)
    free(fragments.held)
    free(fragments.waiting)


# --- first fragments --------------------------------------------------------------------------------------------------

cdef inline uint64_t datagram_hash(
    const fragments_t *fragments, uint64_t addresses, const datagram_t *datagram
) noexcept nogil:
    return cc_fold(addresses ^ fragments.seed ^ datagram.tunnel, datagram.identification ^ 0x9E3779B97F4A7C15ULL)


cdef inline uint16_t *chain_of(fragments_t *fragments, uint64_t addresses, const datagram_t *datagram) noexcept nogil:
    return fragments.chains + (datagram_hash(fragments, addresses, datagram) & (FRAGMENT_CHAINS - 1))


cdef inline bint same_datagram(const datagram_t *a, const datagram_t *b) noexcept nogil:
    return a.identification == b.identification and a.tunnel == b.tunnel


cdef inline uint16_t find_first(
    fragments_t *fragments, const packet_t *packet, const datagram_t *datagram
) noexcept nogil:
    """The place of the packet's first fragment; 0 where it is not remembered."""
    cdef uint16_t at = chain_of(fragments, packet.addresses, datagram)[0]
    cdef fragment_t *known
    while at != 0:
        known = &fragments.firsts[at]
        if (
            same_datagram(&known.datagram, datagram)
            and known.addresses == packet.addresses
            and (packet.addresses6 == NULL or memcmp(known.addresses6, packet.addresses6, 32) == 0)
        ):
            return at
        at = known.next
    return 0


cdef inline void unlink_first(fragment_t *firsts, uint16_t at) noexcept nogil:
    firsts[firsts[at].older].newer = firsts[at].newer
    firsts[firsts[at].newer].older = firsts[at].older


cdef inline uint16_t place_for_first(fragments_t *fragments) noexcept nogil:
    """A place that nothing refers to: one never used or, in a full table, that of the oldest."""
    cdef fragment_t *firsts = fragments.firsts
    cdef uint16_t at
    cdef uint16_t *link
    if fragments.first_count < FRAGMENTS:
        fragments.first_count += 1
        return fragments.first_count
    at = firsts[0].newer
    unlink_first(firsts, at)
    link = chain_of(fragments, firsts[at].addresses, &firsts[at].datagram)
    while link[0] != at:
        link = &firsts[link[0]].next
    link[0] = firsts[at].next
    return at


cdef inline void remember_first(
    fragments_t *fragments, const packet_t *packet, const datagram_t *datagram, uint8_t protocol, uint64_t ports
) noexcept nogil:
    cdef fragment_t *firsts = fragments.firsts
    cdef uint16_t at = find_first(fragments, packet, datagram)
    cdef uint16_t *chain
    if at != 0:
        unlink_first(firsts, at)
    else:
        at = place_for_first(fragments)
        firsts[at].addresses = packet.addresses
        firsts[at].datagram = datagram[0]
        if packet.addresses6 != NULL:
            memcpy(firsts[at].addresses6, packet.addresses6, 32)
        chain = chain_of(fragments, packet.addresses, datagram)
        firsts[at].next = chain[0]
        chain[0] = at
    firsts[at].ts_ns = packet.ts_ns
    firsts[at].ports = ports
    firsts[at].protocol = protocol
    firsts[at].newer = 0
    firsts[at].older = firsts[0].older
    firsts[firsts[0].older].newer = at
    firsts[0].older = at
    if fragments.held_count != 0:
        let_followers_go(fragments, packet, datagram, protocol, ports)


cdef inline fragment_t *recall_first(
    fragments_t *fragments, const packet_t *packet, const datagram_t *datagram
) noexcept nogil:
    """The first of a later fragment, for 60 s of packet time in either direction; NULL where it is not remembered."""
    cdef uint16_t at = find_first(fragments, packet, datagram)
    cdef int64_t age_ns
    if at == 0:
        return NULL
    age_ns = packet.ts_ns - fragments.firsts[at].ts_ns
    return &fragments.firsts[at] if -60000000000LL <= age_ns <= 60000000000LL else NULL


# --- later fragments that came first ----------------------------------------------------------------------------------

cdef inline waiting_t *waiting_with(
    fragments_t *fragments, const packet_t *packet, const datagram_t *datagram
) noexcept nogil:
    return fragments.waiting + (datagram_hash(fragments, packet.addresses, datagram) & (HELD_CHAINS - 1))


cdef inline void join_chain(fragments_t *fragments, uint16_t at) noexcept nogil:
    cdef held_t *held = fragments.held
    cdef waiting_t *waiting = waiting_with(fragments, &held[at].packet, &held[at].datagram)
    held[at].newer_in_chain = 0
    held[at].older_in_chain = waiting.newest
    if waiting.newest != 0:
        held[waiting.newest].newer_in_chain = at
    else:
        waiting.oldest = at
    waiting.newest = at


cdef inline void leave_chain(fragments_t *fragments, uint16_t at) noexcept nogil:
    cdef held_t *held = fragments.held
    cdef waiting_t *waiting = waiting_with(fragments, &held[at].packet, &held[at].datagram)
    if held[at].older_in_chain != 0:
        held[held[at].older_in_chain].newer_in_chain = held[at].newer_in_chain
    else:
        waiting.oldest = held[at].newer_in_chain
    if held[at].newer_in_chain != 0:
        held[held[at].newer_in_chain].older_in_chain = held[at].older_in_chain
    else:
        waiting.newest = held[at].older_in_chain


cdef inline void let_go(fragments_t *fragments, uint16_t at, int64_t ts_ns, const packet_t *after) noexcept nogil:
    """One that waits is to be judged after a packet of this batch (before the first: after the one in front of it)."""
    cdef held_t *held = fragments.held
    held[held[at].older].newer = held[at].newer
    held[held[at].newer].older = held[at].older
    leave_chain(fragments, at)
    fragments.held_count -= 1
    fragments.held_bytes -= held[at].packet.captured
    fragments.without_first += not held[at].with_first
    held[at].packet.ts_ns = ts_ns
    held[at].after = after
    held[at].newer = 0
    if fragments.let_go == 0:
        fragments.let_go = at
    else:
        held[fragments.last_let_go].newer = at
    fragments.last_let_go = at


cdef inline void let_followers_go(
    fragments_t *fragments, const packet_t *first, const datagram_t *datagram, uint8_t protocol, uint64_t ports
) noexcept nogil:
    cdef held_t *held
    cdef uint16_t at = waiting_with(fragments, first, datagram).oldest, newer
    while at != 0:
        held = &fragments.held[at]
        newer = held.newer_in_chain
        if (
            same_datagram(&held.datagram, datagram)
            and held.packet.addresses == first.addresses
            and (first.addresses6 == NULL or memcmp(held.packet.addresses6, first.addresses6, 32) == 0)
        ):
            held.with_first = True
            held.ports = ports
            held.protocol = protocol
            let_go(fragments, at, first.ts_ns, first)
        at = newer


cdef inline void let_expired_go(fragments_t *fragments, int64_t now_ns, const packet_t *after) noexcept nogil:
    """Those whose second is over; an older one that must wait keeps the newer ones behind it waiting."""
    cdef int64_t age_ns
    while fragments.held_count != 0:
        age_ns = now_ns - fragments.held[fragments.held[0].newer].packet.ts_ns
        if -1000000000LL <= age_ns <= 1000000000LL:
            return
        let_go(fragments, fragments.held[0].newer, now_ns, after)


cdef inline void let_all_go(fragments_t *fragments, int64_t now_ns) noexcept nogil:
    while fragments.held_count != 0:
        let_go(fragments, fragments.held[0].newer, now_ns, NULL)


cdef inline bint hold(
    fragments_t *fragments, const packet_t *packet, const datagram_t *datagram, uint8_t protocol, uint64_t flags
) noexcept nogil:
    """Takes a later fragment, and lets older ones go where there is no room; False where it cannot be held."""
    cdef held_t *held = fragments.held
    cdef uint8_t *data
    cdef uint16_t at
    if packet.captured > HELD_BYTES:
        return False
    while fragments.held_count >= HELD or fragments.held_bytes + packet.captured > HELD_BYTES:
        let_go(fragments, held[0].newer, packet.ts_ns, packet)
    at = fragments.free_place
    if at == 0 and fragments.places_used == HELD_PLACES:
        return False
    data = <uint8_t *>malloc(packet.captured)
    if data == NULL:
        return False
    if at != 0:
        fragments.free_place = held[at].newer
    else:
        fragments.places_used += 1
        at = fragments.places_used
    memcpy(data, packet.data, packet.captured)
    held[at].packet = packet[0]
    held[at].packet.data = data
    if packet.addresses6 != NULL:
        held[at].packet.addresses6 = data + (packet.addresses6 - packet.data)
    held[at].datagram = datagram[0]
    held[at].with_first = False
    held[at].ports = 0
    held[at].protocol = protocol
    held[at].flags = flags
    held[at].newer = 0
    held[at].older = held[0].older
    held[held[0].older].newer = at
    held[0].older = at
    join_chain(fragments, at)
    fragments.held_count += 1
    fragments.held_bytes += packet.captured
    return True


cdef inline held_t *next_let_go(fragments_t *fragments, const packet_t *before) noexcept nogil:
    """The next to be judged before a packet of the batch, or (NULL) at all; NULL where there is none."""
    cdef held_t *held
    if fragments.let_go == 0:
        return NULL
    held = &fragments.held[fragments.let_go]
    return held if before == NULL or held.after < before else NULL


cdef inline void free_let_go(fragments_t *fragments) noexcept nogil:
    """The next to be judged has been."""
    cdef uint16_t at = fragments.let_go
    cdef held_t *held = &fragments.held[at]
    fragments.let_go = held.newer
    free(<void *>held.packet.data)
    held.packet.data = NULL
    held.newer = fragments.free_place
    fragments.free_place = at
