"""The journal: what reports need beyond counters, noted packet by packet where it is wanted, and taken between chunks.

Three things: the life of every flow (its record, kept open until something ends it), what each rule saw in slots of time,
and violations, times in which a rule's packets exceeded its rate. What is over stands in vectors until it is taken; one
packet adds two entries to a vector at the most, so they are bounded by the packets of a chunk.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from flowtable cimport STATE_RULE, flow_t, table_t
from intrinsics cimport cc_likely, cc_unlikely
from packet cimport NO_ADDRESSES, OUTCOME_WIDE, packet_t

cdef enum:
    TCP_FIN = 1
    TCP_SYN = 2
    TCP_RST = 4

# What a record began with, and what it ended by.
cdef enum:
    BEGAN_PACKET
    BEGAN_SYN

cdef enum:
    ENDED_NOT
    ENDED_FIN
    ENDED_RST
    ENDED_IDLE
    ENDED_EVICTED
    ENDED_END_OF_INPUT


# Whose flow it is: its key, and the rule that classified it with the generation in which it did.
ctypedef struct name_t:
    uint64_t addresses
    uint64_t endpoints
    uint8_t addresses6[32]
    uint64_t attributes[2]
    uint32_t state


ctypedef struct flow_record_t:
    name_t name
    int64_t first_ns
    int64_t latest_ns
    uint64_t packets
    uint64_t bytes
    uint64_t passed_packets
    uint64_t passed_bytes
    uint64_t excess_packets
    uint64_t excess_bytes
    uint32_t next_free          # of the open records: the next place that nobody has
    uint8_t began
    uint8_t ended               # while it is open: ENDED_FIN or ENDED_RST once one has been seen


ctypedef struct slot_t:
    int64_t number
    uint64_t offered_bytes
    uint64_t passed_bytes
    uint64_t exceeding_bytes
    uint32_t rule


ctypedef struct violation_t:
    name_t name
    int64_t first_ns
    int64_t latest_ns
    uint64_t packets            # 0: there is none
    uint64_t bytes
    uint32_t rule


ctypedef struct rule_journal_t:
    violation_t violation       # the one that is not over
    int64_t slot_start_ns
    uint64_t slot               # its place among the slots ...
    uint64_t taken              # ... if nothing has been taken since: see journal_t.taken


# Elements of one size, and how many there are.
ctypedef struct vector_t:
    uint8_t *data
    uint64_t count
    uint64_t room


ctypedef struct journal_t:
    bint records_flows
    int64_t flow_timeout_ns
    int64_t slot_ns             # 0: no slots
    int64_t window_ns
    int64_t latest_ns           # of all packets that were noted
    uint64_t taken              # how often the slots have been taken, and one
    uint32_t free_record        # the first place that nobody has; 0: none
    vector_t open_records       # place 0 stays unused
    vector_t records
    vector_t slots
    vector_t violations
    vector_t rules              # rule_journal_t by the rule's place
    bint failed                 # for want of memory


cdef inline uint8_t *append(journal_t *journal, vector_t *vector, size_t element_bytes) noexcept nogil:
    """A zeroed element at the end; NULL where there is no memory."""
    cdef uint64_t room
    cdef uint8_t *data
    if cc_unlikely(vector.count == vector.room):
        room = vector.room * 2 if vector.room else 1024
        data = <uint8_t *>realloc(vector.data, room * element_bytes)
        if data == NULL:
            journal.failed = True
            return NULL
        vector.data = data
        vector.room = room
    data = vector.data + vector.count * element_bytes
    memset(data, 0, element_bytes)
    vector.count += 1
    return data


cdef inline void close_journal(journal_t *journal) noexcept nogil:
    """Gives all of its memory back."""
    cdef vector_t *vectors[5]
    cdef int i
    vectors[:] = [
        &journal.open_records, &journal.records, &journal.slots, &journal.violations, &journal.rules,
    ]
    for i in range(5):
        free(vectors[i].data)
        memset(vectors[i], 0, sizeof(vector_t))


cdef inline void set_name(name_t *name, const flow_t *flow, const packet_t *packet) noexcept nogil:
    name.addresses = flow.addresses
    name.endpoints = flow.endpoints
    name.state = flow.state
    if packet.outcome == OUTCOME_WIDE:
        memcpy(name.addresses6, packet.addresses6, 32)
        name.attributes[0] = packet.attributes[0]
        name.attributes[1] = packet.attributes[1]
    else:
        memset(name.addresses6, 0, 32)
        name.attributes[0] = name.attributes[1] = 0


# --- flows ------------------------------------------------------------------------------------------------------------

cdef inline flow_record_t *open_record_at(journal_t *journal, uint32_t place) noexcept nogil:
    return <flow_record_t *>journal.open_records.data + place


cdef inline int64_t *record_place(table_t *table, const flow_t *flow) noexcept nogil:
    """Where the table keeps the place of the flow's open record."""
    return &table.now.first_ns[(<const uint8_t *>flow - table.flows) >> table.shift]


cdef inline uint32_t begin_record(journal_t *journal, const packet_t *packet, uint8_t tcp_flags) noexcept nogil:
    """The place of a record that is open from now on; 0 where there is no memory."""
    cdef uint32_t place = journal.free_record
    cdef flow_record_t *record
    if place != 0:
        record = open_record_at(journal, place)
        journal.free_record = record.next_free
        memset(record, 0, sizeof(flow_record_t))
    else:
        if journal.open_records.count == 0 and append(journal, &journal.open_records, sizeof(flow_record_t)) == NULL:
            return 0
        record = <flow_record_t *>append(journal, &journal.open_records, sizeof(flow_record_t))
        if record == NULL:
            return 0
        place = <uint32_t>(journal.open_records.count - 1)
    record.first_ns = record.latest_ns = packet.ts_ns
    record.began = BEGAN_SYN if tcp_flags & TCP_SYN else BEGAN_PACKET
    return place


cdef inline void end_record(journal_t *journal, uint32_t place, uint8_t ended) noexcept nogil:
    """``ended``: what ends it, unless a FIN or RST has."""
    cdef flow_record_t *record = open_record_at(journal, place)
    cdef flow_record_t *over = <flow_record_t *>append(journal, &journal.records, sizeof(flow_record_t))
    if over != NULL:
        memcpy(over, record, sizeof(flow_record_t))
        if over.ended == ENDED_NOT:
            over.ended = ended
    record.packets = 0
    record.next_free = journal.free_record
    journal.free_record = place


cdef inline uint8_t idle_or(const journal_t *journal, uint32_t place, int64_t now_ns, uint8_t ended) noexcept nogil:
    """What ends a record whose flow sends nothing any more: that it was idle for too long already, or ``ended``."""
    cdef const flow_record_t *record = <const flow_record_t *>journal.open_records.data + place
    return ENDED_IDLE if now_ns - record.latest_ns > journal.flow_timeout_ns else ended


cdef inline void forget_flow(journal_t *journal, int64_t *place, int64_t now_ns) noexcept nogil:
    """A full table evicts the flow."""
    if place[0] != 0:
        end_record(journal, <uint32_t>place[0], idle_or(journal, <uint32_t>place[0], now_ns, ENDED_EVICTED))
        place[0] = 0


cdef inline void note_flow(
    journal_t *journal, int64_t *place, const flow_t *flow, const packet_t *packet, uint8_t tcp_flags, bint passed,
    bint excess,
) noexcept nogil:
    cdef flow_record_t *record
    if place[0] != 0:
        record = open_record_at(journal, <uint32_t>place[0])
        if packet.ts_ns - record.latest_ns > journal.flow_timeout_ns:
            end_record(journal, <uint32_t>place[0], ENDED_IDLE)
            place[0] = 0
        elif record.ended != ENDED_NOT and tcp_flags & TCP_SYN:
            end_record(journal, <uint32_t>place[0], record.ended)
            place[0] = 0
    if place[0] == 0:
        place[0] = begin_record(journal, packet, tcp_flags)
        if place[0] == 0:
            return
    record = open_record_at(journal, <uint32_t>place[0])
    if record.packets == 0 or record.name.state != flow.state or record.name.endpoints != flow.endpoints:
        set_name(&record.name, flow, packet)
    if packet.ts_ns > record.latest_ns:
        record.latest_ns = packet.ts_ns
    record.packets += 1
    record.bytes += packet.ip_length
    if passed:
        record.passed_packets += 1
        record.passed_bytes += packet.ip_length
    if excess:
        record.excess_packets += 1
        record.excess_bytes += packet.ip_length
    if record.ended == ENDED_NOT and tcp_flags & (TCP_FIN | TCP_RST):
        record.ended = ENDED_RST if tcp_flags & TCP_RST else ENDED_FIN


# --- rules ------------------------------------------------------------------------------------------------------------

cdef inline void note_slot(
    journal_t *journal, uint32_t rule, int64_t ts_ns, uint64_t offered_bytes, uint64_t passed_bytes,
    uint64_t exceeding_bytes,
) noexcept nogil:
    cdef rule_journal_t *of_rule = <rule_journal_t *>journal.rules.data + rule
    cdef slot_t *slot
    if cc_unlikely(
        of_rule.taken != journal.taken or ts_ns < of_rule.slot_start_ns
        or ts_ns - of_rule.slot_start_ns >= journal.slot_ns
    ):
        slot = <slot_t *>append(journal, &journal.slots, sizeof(slot_t))
        if slot == NULL:
            return
        slot.number = ts_ns // journal.slot_ns
        if slot.number * journal.slot_ns > ts_ns:
            # C rounds towards zero.
            slot.number -= 1
        slot.rule = rule
        of_rule.slot = journal.slots.count - 1
        of_rule.slot_start_ns = slot.number * journal.slot_ns
        of_rule.taken = journal.taken
    slot = <slot_t *>journal.slots.data + of_rule.slot
    slot.offered_bytes += offered_bytes
    slot.passed_bytes += passed_bytes
    slot.exceeding_bytes += exceeding_bytes


cdef inline void end_violation(journal_t *journal, violation_t *violation) noexcept nogil:
    cdef uint8_t *over
    if violation.packets == 0:
        return
    over = append(journal, &journal.violations, sizeof(violation_t))
    if over != NULL:
        memcpy(over, violation, sizeof(violation_t))
    violation.packets = 0


cdef inline void note_excess(
    journal_t *journal, uint32_t rule, const flow_t *flow, const packet_t *packet
) noexcept nogil:
    cdef violation_t *violation = &(<rule_journal_t *>journal.rules.data + rule).violation
    cdef int64_t since_ns = packet.ts_ns - violation.latest_ns
    # More than 10 s back is another time, as it is to a bucket.
    if violation.packets == 0 or since_ns >= journal.window_ns or since_ns < -10000000000LL:
        end_violation(journal, violation)
        violation.rule = rule
        set_name(&violation.name, flow, packet)
        violation.first_ns = violation.latest_ns = packet.ts_ns
        violation.packets = violation.bytes = 0
    if packet.ts_ns > violation.latest_ns:
        violation.latest_ns = packet.ts_ns
    violation.packets += 1
    violation.bytes += packet.ip_length


cdef inline void note_packet(
    journal_t *journal, table_t *table, const flow_t *flow, const packet_t *packet, int64_t passes_ns, uint8_t tcp_flags,
    bint passed, bint excess,
) noexcept nogil:
    """What became of a packet of a flow; ``passes_ns``: when it passed, if it did."""
    cdef uint32_t rule = flow.state & STATE_RULE
    if packet.ts_ns > journal.latest_ns:
        journal.latest_ns = packet.ts_ns
    if journal.records_flows:
        note_flow(journal, record_place(table, flow), flow, packet, tcp_flags, passed, excess)
    if journal.slot_ns != 0:
        note_slot(journal, rule, packet.ts_ns, packet.ip_length, 0, 0)
        if passed:
            note_slot(journal, rule, passes_ns, 0, packet.ip_length, packet.ip_length if excess else 0)
        if excess:
            note_excess(journal, rule, flow, packet)
