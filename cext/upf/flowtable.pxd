"""The flow tables: open addressing, one cache line per plain IPv4 flow, two for every other, with key, bucket and counters.

An entry's ``endpoints`` carries in its low 16 bits the generation of the rule set that classified it, so one comparison
tells "known and current". Removal shifts the run behind it back: no tombstones, so look-ups never grow slower.

No packet waits for the table to grow: before it is half full the next one, twice as large, is mapped and its pages are
touched a few with each new flow; then flows move over, some slots with each new flow, and a look-up that misses in the
new table tries the old one.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from bucket cimport bucket_t
from intrinsics cimport cc_fold, cc_prefetch_write, cc_table_map, cc_table_unmap, cc_touch
from packet cimport packet_t

cdef enum:
    # Flows looked at, at the most, to make room in a full table; also the bound on the work that one packet can cause.
    EVICTION_SAMPLE = 16
    # Slots of the next table between two that are touched, one with each new flow.
    TOUCHED_SLOTS = 32
    # Slots of the old table that move over with each new flow; at least 4, or the new one is full before the old is empty.
    MOVED_SLOTS = 16
    # Smaller tables are filled to a quarter only.
    SPARSE_SLOTS = 1 << 19
    # What is unmapped of an old table at a time.
    RETURNED_BYTES = 2 << 20

    # The state word of a flow: the place of its rule, and flags.
    STATE_RULE = 0x00FFFFFF

    # Beside the generation in the endpoints of a flow: its names may still change. So it is like no generation, and the
    # flow is classified anew with every packet.
    AWAITS_NAME = 0x8000

cdef enum slot_mark_t:
    # In the old table: the flow that stood here has moved. No flow looks like it, and a search goes on behind it.
    SLOT_MOVED = 1


ctypedef struct flow_t:
    uint64_t addresses
    uint64_t endpoints              # 0: the slot is free
    bucket_t bucket                 # latest_ns is kept for every flow, tokens where the rule polices per flow
    uint64_t bytes[2]               # [1]: conforming, [0]: exceeding or dropped, as the rule's mode says
    uint32_t packets[2]
    uint16_t packets_high[2]
    uint32_t state


ctypedef struct wide_flow_t:
    flow_t flow
    uint8_t addresses6[32]          # IPv4: zeros
    uint64_t attributes[2]
    int64_t excess_tokens           # the second bucket of a three-colour marker
    uint64_t unused


# One piece of slots. ``first_ns`` is the packet time of each flow's first packet or, where there is a journal, the place of
# its open record; NULL where nobody asked.
ctypedef struct slots_t:
    uint8_t *flows
    uint8_t *hints                  # of the narrow table: see hint_at()
    int64_t *first_ns
    uint64_t mask


ctypedef struct table_t:
    uint8_t *flows                  # of ``now``: what every look-up needs
    uint64_t mask
    slots_t now
    slots_t old                     # flows NULL unless the table is growing
    slots_t next                    # flows NULL unless it will grow soon
    uint64_t moved                  # slots of the old table that are done with
    uint64_t returned_bytes         # of the old table, to the system
    uint64_t touched                # slots of the next table, as far as they have been touched
    uint64_t count
    uint64_t bound                  # flows at the most
    uint64_t hand                   # where the next search for room begins
    uint64_t created
    uint64_t aged
    uint64_t evicted
    uint64_t seed
    int64_t idle_timeout_ns
    int shift                       # 6: narrow, 7: wide
    bint keep_first


cdef inline flow_t *flow_in(const table_t *table, const slots_t *slots, uint64_t slot) noexcept nogil:
    return <flow_t *>(slots.flows + (slot << table.shift))


cdef inline uint16_t generation_of(const flow_t *flow) noexcept nogil:
    """Of the rule set that classified the flow, from 1 to 0x7FFF."""
    return <uint16_t>flow.endpoints & 0x7FFF


cdef inline flow_t *flow_at(const table_t *table, uint64_t slot) noexcept nogil:
    return <flow_t *>(table.flows + (slot << table.shift))


cdef inline void prefetch_flow(const table_t *table, uint64_t hash) noexcept nogil:
    cc_prefetch_write(table.flows + ((hash & table.mask) << table.shift))


cdef inline bint same_flow(const table_t *table, const flow_t *flow, const packet_t *packet) noexcept nogil:
    return (
        flow.addresses == packet.addresses
        and (flow.endpoints & ~<uint64_t>0xFFFF) == packet.endpoints
        and (
            table.shift == 6
            or (
                (<const wide_flow_t *>flow).attributes[0] == packet.attributes[0]
                and (<const wide_flow_t *>flow).attributes[1] == packet.attributes[1]
                and memcmp((<const wide_flow_t *>flow).addresses6, packet.addresses6, 32) == 0
            )
        )
    )


cdef inline uint64_t flow_hash(const table_t *table, const flow_t *flow) noexcept nogil:
    """The hash of the flow's packets, as the parser computes it."""
    cdef uint64_t hash = cc_fold(
        flow.addresses ^ table.seed, (flow.endpoints & ~<uint64_t>0xFFFF) ^ 0xA0761D6478BD642FULL
    )
    if table.shift == 6:
        return hash
    return hash ^ cc_fold(
        (<const wide_flow_t *>flow).attributes[0] ^ 0xE7037ED1A0B428DBULL,
        (<const wide_flow_t *>flow).attributes[1] ^ 0x8EBC6AF09C88C6E3ULL,
    )


# --- memory -----------------------------------------------------------------------------------------------------------

cdef inline bint map_slots(const table_t *table, slots_t *slots, uint64_t count) noexcept nogil:
    """False when there is no memory."""
    slots.flows = <uint8_t *>cc_table_map(count << table.shift)
    slots.first_ns = NULL
    slots.hints = NULL
    slots.mask = count - 1
    if slots.flows == NULL:
        return False
    if table.shift == 6:
        # Not having them only costs time.
        slots.hints = <uint8_t *>cc_table_map(count)
    if table.keep_first:
        slots.first_ns = <int64_t *>cc_table_map(count * sizeof(int64_t))
        if slots.first_ns == NULL:
            cc_table_unmap(slots.flows, count << table.shift)
            cc_table_unmap(slots.hints, count)
            slots.flows = NULL
            return False
    return True


cdef inline void unmap_slots(const table_t *table, slots_t *slots, uint64_t returned_bytes) noexcept nogil:
    """``returned_bytes`` of the flows have been unmapped already."""
    if slots.flows == NULL:
        return
    cc_table_unmap(slots.flows + returned_bytes, ((slots.mask + 1) << table.shift) - returned_bytes)
    cc_table_unmap(slots.first_ns, (slots.mask + 1) * sizeof(int64_t))
    cc_table_unmap(slots.hints, slots.mask + 1)
    slots.flows = NULL
    slots.first_ns = NULL
    slots.hints = NULL


cdef inline bint open_table(table_t *table, uint64_t slots) noexcept nogil:
    """An empty table; False when there is no memory."""
    if not map_slots(table, &table.now, slots):
        return False
    table.flows = table.now.flows
    table.mask = table.now.mask
    return True


cdef inline void close_table(table_t *table) noexcept nogil:
    unmap_slots(table, &table.now, 0)
    unmap_slots(table, &table.old, table.returned_bytes)
    unmap_slots(table, &table.next, 0)


# --- hints ------------------------------------------------------------------------------------------------------------
# In a table that is half full every fourth flow stands beyond its home slot, and memory that was not fetched ahead is
# waited for. So a byte says how far beyond (low 4 bits), for the flow that these 4 bits of its hash tell from most others.
# It is only where a look-up begins: a stale or overwritten hint costs time, nothing else.

cdef inline uint64_t hinted_slot(const uint8_t *hints, uint64_t mask, uint64_t hash) noexcept nogil:
    """Where a flow of this hash probably stands; still to be masked."""
    cdef uint64_t hint = hints[(hash >> 32) & mask]
    return hash + (hint & 15 if ((hint ^ (hash >> 24)) & 0xF0) == 0 else 0)


cdef inline void leave_hint(const table_t *table, uint64_t hash, uint64_t slot) noexcept nogil:
    cdef uint64_t beyond = (slot - hash) & table.mask
    if beyond != 0 and beyond < 16 and table.now.hints != NULL:
        table.now.hints[(hash >> 32) & table.mask] = (hash >> 24) & 0xF0 | beyond


# --- moving -----------------------------------------------------------------------------------------------------------

cdef inline void move_flow(
    const table_t *table, const slots_t *source, uint64_t from_slot, const slots_t *target, uint64_t to_slot
) noexcept nogil:
    memcpy(flow_in(table, target, to_slot), flow_in(table, source, from_slot), <size_t>1 << table.shift)
    if table.keep_first:
        target.first_ns[to_slot] = source.first_ns[from_slot]


cdef inline flow_t *take_over(table_t *table, uint64_t old_slot) noexcept nogil:
    """Moves a flow of the old table to the current one."""
    cdef uint64_t hash = flow_hash(table, flow_in(table, &table.old, old_slot))
    cdef uint64_t slot = hash & table.mask
    while flow_at(table, slot).endpoints != 0:
        slot = (slot + 1) & table.mask
    leave_hint(table, hash, slot)
    move_flow(table, &table.old, old_slot, &table.now, slot)
    flow_in(table, &table.old, old_slot).endpoints = SLOT_MOVED
    return flow_at(table, slot)


cdef inline void move_slots(table_t *table, uint64_t slots) noexcept nogil:
    """Takes over the next slots of the old table; gives it back to the system when it is done with."""
    cdef uint64_t end = table.moved + slots
    if end > table.old.mask + 1:
        end = table.old.mask + 1
    while table.moved < end:
        if flow_in(table, &table.old, table.moved).endpoints > SLOT_MOVED:
            take_over(table, table.moved)
        table.moved += 1
    if table.moved > table.old.mask:
        unmap_slots(table, &table.old, table.returned_bytes)
    elif (table.moved << table.shift) - table.returned_bytes >= 2 * RETURNED_BYTES:
        cc_table_unmap(table.old.flows + table.returned_bytes, RETURNED_BYTES)
        table.returned_bytes += RETURNED_BYTES


cdef inline void finish_growing(table_t *table) noexcept nogil:
    """For those who look at every flow: all of them are in the current table then."""
    while table.old.flows != NULL:
        move_slots(table, 1 << 16)


cdef inline void touch_next(table_t *table) noexcept nogil:
    """Touches the next table a little further: all of its pages have been by the time that it is needed.

    It is mapped when three quarters of this one's room are taken; the last, of a sixteenth of its slots, is the shortest.
    """
    if table.touched <= table.next.mask:
        cc_touch(flow_in(table, &table.next, table.touched))
        if table.keep_first:
            cc_touch(&table.next.first_ns[table.touched])
        if table.next.hints != NULL:
            cc_touch(&table.next.hints[table.touched])
        table.touched += TOUCHED_SLOTS


cdef inline bint grow(table_t *table) noexcept nogil:
    """Begins to move to a table twice as large; False when there is no memory for one."""
    if table.next.flows == NULL and not map_slots(table, &table.next, (table.mask + 1) * 2):
        return False
    # The last growth has ended long since: each of the new flows that made this one due has moved several slots.
    finish_growing(table)
    table.old, table.now = table.now, table.next
    table.next.flows = NULL
    table.next.first_ns = NULL
    table.next.hints = NULL
    table.flows = table.now.flows
    table.mask = table.now.mask
    table.moved = table.returned_bytes = table.touched = table.hand = 0
    return True


cdef inline uint64_t room(const table_t *table) noexcept nogil:
    """Flows that the table holds before it grows: half its slots, and of a small table, whose slots cost nothing, a quarter."""
    return (table.mask + 1) // (4 if table.mask < SPARSE_SLOTS else 2)


cdef inline void prepare(table_t *table) noexcept nogil:
    """With each new flow: what keeps the growth of the table from being felt."""
    if table.old.flows != NULL:
        move_slots(table, MOVED_SLOTS)
    elif table.next.flows != NULL:
        touch_next(table)
    elif table.count >= room(table) // 4 * 3 and table.bound > room(table):
        map_slots(table, &table.next, (table.mask + 1) * 2)


# --- flows ------------------------------------------------------------------------------------------------------------

cdef inline flow_t *find_old_flow(table_t *table, const packet_t *packet) noexcept nogil:
    """A flow that has not moved yet moves now; NULL where there is none."""
    cdef uint64_t slot = packet.hash & table.old.mask
    cdef flow_t *flow
    cdef int side
    # What stood before ``moved`` is in the new table. A flow beyond it whose home is before it is part of a run without
    # gaps, so nothing is missed by beginning there; nor when a run goes on at the table's beginning.
    if slot < table.moved:
        slot = table.moved
    for side in range(2):
        while slot <= table.old.mask:
            flow = flow_in(table, &table.old, slot)
            if flow.endpoints == 0:
                return NULL
            if same_flow(table, flow, packet):
                return take_over(table, slot)
            slot += 1
        slot = table.moved
    return NULL


cdef inline flow_t *find_flow(table_t *table, const packet_t *packet) noexcept nogil:
    """The flow of the packet, whatever rule set classified it; NULL where it is new."""
    cdef uint64_t slot = packet.hash & table.mask
    cdef flow_t *flow
    while True:
        flow = flow_at(table, slot)
        if same_flow(table, flow, packet):
            return flow
        if flow.endpoints == 0:
            return NULL if table.old.flows == NULL else find_old_flow(table, packet)
        slot = (slot + 1) & table.mask


cdef inline void remove_flow(table_t *table, uint64_t slot) noexcept nogil:
    cdef uint64_t hole = slot, hash, home
    cdef flow_t *flow
    while True:
        slot = (slot + 1) & table.mask
        flow = flow_at(table, slot)
        if flow.endpoints == 0:
            break
        hash = flow_hash(table, flow)
        home = hash & table.mask
        # The entry may fill the hole only if the hole does not stand before its home.
        if ((slot - home) & table.mask) >= ((slot - hole) & table.mask):
            move_flow(table, &table.now, slot, &table.now, hole)
            leave_hint(table, hash, hole)
            hole = slot
    memset(flow_at(table, hole), 0, <size_t>1 << table.shift)
    table.count -= 1


cdef inline uint64_t flow_to_evict(table_t *table, int64_t now_ns) noexcept nogil:
    """The slot of the first flow that has aged, or else of the longest idle of a sample."""
    cdef uint64_t oldest = 0, looked_at, seen = 0
    cdef int64_t oldest_ns = 0
    cdef flow_t *flow
    while seen == 0:
        # While flows are moving, all of them may still be in the old table.
        if table.old.flows != NULL:
            move_slots(table, 16 * MOVED_SLOTS)
        for looked_at in range(table.mask + 1):
            table.hand = (table.hand + 1) & table.mask
            flow = flow_at(table, table.hand)
            if flow.endpoints == 0:
                continue
            if now_ns - flow.bucket.latest_ns > table.idle_timeout_ns:
                return table.hand
            if seen == 0 or flow.bucket.latest_ns < oldest_ns:
                oldest = table.hand
                oldest_ns = flow.bucket.latest_ns
            seen += 1
            if seen == EVICTION_SAMPLE:
                break
    return oldest


cdef inline bint must_make_room(table_t *table) noexcept nogil:
    """Whether a flow has to go before one may come: the table is full, or cannot grow."""
    prepare(table)
    return table.count >= table.bound or (table.count >= room(table) and not grow(table))


cdef inline flow_t *insert_flow(table_t *table, const packet_t *packet) noexcept nogil:
    """A zeroed entry for a packet whose flow is not in the table; there must be room."""
    cdef uint64_t slot = packet.hash & table.mask
    cdef flow_t *flow
    while flow_at(table, slot).endpoints != 0:
        slot = (slot + 1) & table.mask
    leave_hint(table, packet.hash, slot)
    flow = flow_at(table, slot)
    flow.addresses = packet.addresses
    flow.endpoints = packet.endpoints
    flow.bucket.latest_ns = packet.ts_ns
    if table.shift == 7:
        memcpy((<wide_flow_t *>flow).addresses6, packet.addresses6, 32)
        (<wide_flow_t *>flow).attributes[0] = packet.attributes[0]
        (<wide_flow_t *>flow).attributes[1] = packet.attributes[1]
    if table.keep_first:
        table.now.first_ns[slot] = packet.ts_ns
    table.count += 1
    table.created += 1
    return flow


cdef inline void count_flow(flow_t *flow, uint64_t length, int64_t conforming) noexcept nogil:
    """``conforming``: 1 or 0."""
    flow.bytes[conforming] += length
    flow.packets[conforming] += 1
    flow.packets_high[conforming] += flow.packets[conforming] == 0
