"""The flow table: open addressing, one cache line per IPv4 flow (two per IPv6 flow) with key, bucket and counters.

An entry's ``endpoints`` carries in its low 16 bits the generation of the rule set that classified it, so one comparison
tells "known and current". Removal shifts the run behind it back: no tombstones, so look-ups never grow slower.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy, memset

from bucket cimport bucket_t
from intrinsics cimport cc_fold, cc_likely, cc_prefetch_write, cc_table_alloc
from packet cimport packet_t

cdef enum:
    # Slots looked at, at the most, to make room in a full table; also the bound on the work that one packet can cause.
    EVICTION_SAMPLE = 64


ctypedef struct flow_t:
    uint64_t addresses
    uint64_t endpoints              # 0: the slot is free
    bucket_t bucket                 # latest_ns is kept for every flow, tokens where the rule polices per flow
    uint64_t conforming_bytes
    uint64_t excess_bytes           # exceeding or dropped, as the rule's mode says
    uint32_t conforming_packets
    uint32_t excess_packets
    uint16_t conforming_packets_high
    uint16_t excess_packets_high
    uint32_t rule


ctypedef struct flow6_t:
    flow_t flow
    uint8_t addresses6[32]
    uint8_t unused[32]


ctypedef struct table_t:
    uint8_t *slots
    int64_t *first_ns               # packet time of each flow's first packet; NULL where nobody asked
    uint64_t mask
    uint64_t count
    uint64_t bound                  # flows at the most
    uint64_t hand                   # where the next search for room begins
    uint64_t created
    uint64_t aged
    uint64_t evicted
    uint64_t seed
    int64_t idle_timeout_ns
    int shift                       # 6: IPv4, 7: IPv6
    bint keep_first


cdef inline flow_t *flow_at(table_t *table, uint64_t slot) noexcept nogil:
    return <flow_t *>(table.slots + (slot << table.shift))


cdef inline void prefetch_flow(table_t *table, uint64_t hash) noexcept nogil:
    cc_prefetch_write(table.slots + ((hash & table.mask) << table.shift))


cdef inline bint same_flow(table_t *table, flow_t *flow, packet_t *packet) noexcept nogil:
    return (
        flow.addresses == packet.addresses
        and (flow.endpoints & ~<uint64_t>0xFFFF) == packet.endpoints
        and (table.shift == 6 or memcmp((<flow6_t *>flow).addresses6, packet.addresses6, 32) == 0)
    )


cdef inline flow_t *find_flow(table_t *table, packet_t *packet) noexcept nogil:
    """The flow of the packet, whatever rule set classified it; NULL where it is new."""
    cdef uint64_t slot = packet.hash & table.mask
    cdef flow_t *flow
    while True:
        flow = flow_at(table, slot)
        if same_flow(table, flow, packet):
            return flow
        if flow.endpoints == 0:
            return NULL
        slot = (slot + 1) & table.mask


cdef inline uint64_t flow_hash(table_t *table, flow_t *flow) noexcept nogil:
    return cc_fold(flow.addresses ^ table.seed, (flow.endpoints & ~<uint64_t>0xFFFF) ^ 0xA0761D6478BD642FULL)


cdef inline void move_flow(table_t *source, uint64_t from_slot, table_t *target, uint64_t to_slot) noexcept nogil:
    memcpy(flow_at(target, to_slot), flow_at(source, from_slot), <size_t>1 << source.shift)
    if source.keep_first:
        target.first_ns[to_slot] = source.first_ns[from_slot]


cdef inline void remove_flow(table_t *table, uint64_t slot) noexcept nogil:
    cdef uint64_t hole = slot, home
    cdef flow_t *flow
    while True:
        slot = (slot + 1) & table.mask
        flow = flow_at(table, slot)
        if flow.endpoints == 0:
            break
        home = flow_hash(table, flow) & table.mask
        # The entry may fill the hole only if the hole does not stand before its home.
        if ((slot - home) & table.mask) >= ((slot - hole) & table.mask):
            move_flow(table, slot, table, hole)
            hole = slot
    memset(flow_at(table, hole), 0, <size_t>1 << table.shift)
    table.count -= 1


cdef inline bint allocate_slots(table_t *table, uint64_t slots) noexcept nogil:
    """False when there is no memory; the table is then as before."""
    cdef uint8_t *memory = <uint8_t *>cc_table_alloc(slots << table.shift)
    cdef int64_t *first_ns = NULL
    if memory == NULL:
        return False
    if table.keep_first:
        first_ns = <int64_t *>cc_table_alloc(slots * sizeof(int64_t))
        if first_ns == NULL:
            free(memory)
            return False
    table.slots = memory
    table.first_ns = first_ns
    table.mask = slots - 1
    return True


cdef inline bint grow(table_t *table) noexcept nogil:
    cdef table_t old = table[0]
    cdef uint64_t slot, target
    cdef flow_t *flow
    if not allocate_slots(table, (old.mask + 1) * 2):
        return False
    table.hand = 0
    for slot in range(old.mask + 1):
        flow = flow_at(&old, slot)
        if flow.endpoints != 0:
            target = flow_hash(table, flow) & table.mask
            while flow_at(table, target).endpoints != 0:
                target = (target + 1) & table.mask
            move_flow(&old, slot, table, target)
    free(old.slots)
    free(old.first_ns)
    return True


cdef inline void make_room(table_t *table, int64_t now_ns) noexcept nogil:
    """Removes the first flow that has aged, or else the longest idle of a sample; both are counted."""
    cdef uint64_t oldest = 0, looked_at, seen = 0
    cdef int64_t oldest_ns = 0
    cdef flow_t *flow
    for looked_at in range(table.mask + 1):
        table.hand = (table.hand + 1) & table.mask
        flow = flow_at(table, table.hand)
        if flow.endpoints == 0:
            continue
        if now_ns - flow.bucket.latest_ns > table.idle_timeout_ns:
            table.aged += 1
            remove_flow(table, table.hand)
            return
        if seen == 0 or flow.bucket.latest_ns < oldest_ns:
            oldest = table.hand
            oldest_ns = flow.bucket.latest_ns
        seen += 1
        if seen == EVICTION_SAMPLE:
            break
    table.evicted += 1
    remove_flow(table, oldest)


cdef inline flow_t *insert_flow(table_t *table, packet_t *packet) noexcept nogil:
    """A zeroed entry for a packet whose flow is not in the table."""
    cdef uint64_t slot
    cdef flow_t *flow
    if table.count >= table.bound:
        make_room(table, packet.ts_ns)
    elif table.count * 2 >= table.mask + 1 and not grow(table):
        make_room(table, packet.ts_ns)
    slot = packet.hash & table.mask
    while flow_at(table, slot).endpoints != 0:
        slot = (slot + 1) & table.mask
    flow = flow_at(table, slot)
    flow.addresses = packet.addresses
    flow.endpoints = packet.endpoints
    if table.shift == 7:
        memcpy((<flow6_t *>flow).addresses6, packet.addresses6, 32)
    if table.keep_first:
        table.first_ns[slot] = packet.ts_ns
    table.count += 1
    table.created += 1
    return flow


cdef inline void count_flow(flow_t *flow, uint64_t length, bint conforming) noexcept nogil:
    if cc_likely(conforming):
        flow.conforming_bytes += length
        flow.conforming_packets += 1
        flow.conforming_packets_high += flow.conforming_packets == 0
    else:
        flow.excess_bytes += length
        flow.excess_packets += 1
        flow.excess_packets_high += flow.excess_packets == 0
