"""The journal as Python sees it: records, slots and violations that are over, taken between chunks."""

from journal cimport (
    ENDED_END_OF_INPUT, append, close_journal, end_record, end_violation, flow_record_t, idle_or, journal_t, name_t,
    open_record_at, rule_journal_t, slot_t, violation_t,
)
from packet cimport (
    ATTRIBUTE_QFI_KNOWN, ATTRIBUTE_QFI_SHIFT, ATTRIBUTE_TEID_SHIFT, ATTRIBUTE_TUNNELLED, FLAG_IPV6, FLAG_PORTS_UNKNOWN,
    has_ports, has_spi,
)

from upf.compliance import FlowName, TimeSlot, Violation
from upf.flow_records import Beginning, Ending, FlowRecord

# In the order of the codes in journal.pxd.
cdef tuple BEGINNINGS = (Beginning.PACKET, Beginning.SYN)
cdef tuple ENDINGS = (
    None, Ending.FIN, Ending.RST, Ending.IDLE, Ending.EVICTED, Ending.END_OF_INPUT,
)


cdef class Journal:
    """What is noted, and what has not been taken yet."""

    cdef journal_t noted
    cdef uint32_t ending        # of the open records, those before this place have been ended by end()

    def __cinit__(self, options):
        self.noted.flow_timeout_ns = options.flow_timeout_ns
        self.noted.records_flows = options.flow_timeout_ns > 0
        self.noted.slot_ns = options.slot_ns
        self.noted.window_ns = options.window_ns
        self.noted.taken = 1
        self.noted.latest_ns = -(<int64_t>1 << 62)
        self.ending = 1

    def __dealloc__(self):
        close_journal(&self.noted)

    cdef int make_room(self, uint64_t rules) except -1:
        """For as many rules; before packets are judged."""
        while self.noted.rules.count < rules:
            append(&self.noted, &self.noted.rules, sizeof(rule_journal_t))
            self.check()
        return 0

    cdef int check(self) except -1:
        if self.noted.failed:
            raise MemoryError("no memory for the journal")
        return 0

    cdef bint end(self, uint64_t max_records) except -1:
        """Ends at most so many open records, and every violation; whether none is open any more."""
        cdef uint64_t ended = 0
        cdef uint64_t rule
        while self.ending < self.noted.open_records.count and ended < max_records:
            if open_record_at(&self.noted, self.ending).packets != 0:
                end_record(
                    &self.noted, self.ending,
                    idle_or(&self.noted, self.ending, self.noted.latest_ns, ENDED_END_OF_INPUT),
                )
                ended += 1
            self.ending += 1
        if self.ending < self.noted.open_records.count:
            return False
        for rule in range(self.noted.rules.count):
            end_violation(&self.noted, &(<rule_journal_t *>self.noted.rules.data + rule).violation)
        self.check()
        return True

    cdef list take_records(self, RuleBook book):
        cdef flow_record_t *record
        cdef uint64_t i
        taken = []
        for i in range(self.noted.records.count):
            record = <flow_record_t *>self.noted.records.data + i
            name = flow_name(&record.name)
            taken.append(FlowRecord(
                source=name.source, destination=name.destination, protocol=name.protocol,
                source_port=name.source_port, destination_port=name.destination_port,
                spi=name.spi, teid=name.teid, qfi=name.qfi,
                rule=rule_of(book, &record.name),
                start_ns=record.first_ns, end_ns=record.latest_ns,
                packets=record.packets, bytes=record.bytes,
                passed_packets=record.passed_packets, passed_bytes=record.passed_bytes,
                excess_packets=record.excess_packets, excess_bytes=record.excess_bytes,
                began=BEGINNINGS[record.began], ended=ENDINGS[record.ended],
            ))
        self.noted.records.count = 0
        return taken

    cdef list take_slots(self, RuleBook book):
        cdef slot_t *slot
        cdef uint64_t i
        taken = []
        for i in range(self.noted.slots.count):
            slot = <slot_t *>self.noted.slots.data + i
            taken.append(TimeSlot(
                book.rule_names[slot.rule], slot.number, slot.offered_bytes, slot.passed_bytes, slot.exceeding_bytes
            ))
        self.noted.slots.count = 0
        # The place in the slots that a rule has is one of those that have been taken.
        self.noted.taken += 1
        return taken

    cdef list take_violations(self, RuleBook book):
        cdef violation_t *violation
        cdef uint64_t i
        taken = []
        for i in range(self.noted.violations.count):
            violation = <violation_t *>self.noted.violations.data + i
            taken.append(Violation(
                rule=book.rule_names[violation.rule], began_by=flow_name(&violation.name),
                start_ns=violation.first_ns, end_ns=violation.latest_ns,
                excess_packets=violation.packets, excess_bytes=violation.bytes,
            ))
        self.noted.violations.count = 0
        return taken


cdef str rule_of(RuleBook book, const name_t *name):
    cdef flow_t flow
    flow.endpoints, flow.state = name.endpoints, name.state
    return book.name_of(&flow)


cdef object flow_name(const name_t *name):
    cdef uint8_t protocol = <uint8_t>(name.endpoints >> 24)
    cdef bint known = not (name.endpoints >> 16) & FLAG_PORTS_UNKNOWN
    cdef bint ported = known and has_ports(protocol)
    cdef bint indexed = known and has_spi(protocol)
    if (name.endpoints >> 16) & FLAG_IPV6:
        source = IPv6Address((<const uint8_t *>name.addresses6)[:16])
        destination = IPv6Address((<const uint8_t *>name.addresses6)[16:32])
    else:
        source = IPv4Address(name.addresses >> 32)
        destination = IPv4Address(name.addresses & 0xFFFFFFFF)
    return FlowName(
        source, destination, protocol,
        name.endpoints >> 48 if ported else None,
        <uint16_t>(name.endpoints >> 32) if ported else None,
        name.endpoints >> 32 if indexed else None,
        name.attributes[0] >> ATTRIBUTE_TEID_SHIFT if name.attributes[0] & ATTRIBUTE_TUNNELLED else None,
        name.attributes[0] >> ATTRIBUTE_QFI_SHIFT & 63 if name.attributes[0] & ATTRIBUTE_QFI_KNOWN else None,
    )
