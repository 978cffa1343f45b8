"""What the flow tables hold, as Python sees it."""


cdef list flows_in(table_t *table, RuleBook book, bint first_times):
    """FlowCounters of every flow in the table; first_ns is 0 unless ``first_times`` says that the table keeps them."""
    cdef flow_t *flow
    cdef uint64_t slot
    cdef uint8_t protocol
    cdef bint with_spi, tunnelled
    flows = []
    finish_growing(table)
    for slot in range(table.mask + 1):
        flow = flow_at(table, slot)
        if flow.endpoints == 0:
            continue
        if not (flow.endpoints >> 16) & FLAG_IPV6:
            source = IPv4Address(flow.addresses >> 32)
            destination = IPv4Address(flow.addresses & 0xFFFFFFFF)
        else:
            source = IPv6Address((<wide_flow_t *>flow).addresses6[:16])
            destination = IPv6Address((<wide_flow_t *>flow).addresses6[16:32])
        protocol = <uint8_t>(flow.endpoints >> 24)
        with_spi, tunnelled = has_spi(protocol), is_tunnelled(table, flow)
        flows.append(FlowCounters(
            source=source,
            destination=destination,
            protocol=protocol,
            source_port=0 if with_spi else flow.endpoints >> 48,
            destination_port=0 if with_spi else <uint16_t>(flow.endpoints >> 32),
            ports_known=not (flow.endpoints >> 16) & FLAG_PORTS_UNKNOWN,
            rule=book.name_of(flow),
            conforming_packets=flow.packets[1] + (<uint64_t>flow.packets_high[1] << 32),
            conforming_bytes=flow.bytes[1],
            excess_packets=flow.packets[0] + (<uint64_t>flow.packets_high[0] << 32),
            excess_bytes=flow.bytes[0],
            first_ns=table.now.first_ns[slot] if first_times else 0,
            last_ns=flow.bucket.latest_ns,
            spi=spi_of(flow),
            teid=(<wide_flow_t *>flow).attributes[0] >> ATTRIBUTE_TEID_SHIFT if tunnelled else None,
            qfi=qfi_of(<wide_flow_t *>flow) if tunnelled else None,
        ))
    return flows


cdef object spi_of(flow_t *flow):
    if not has_spi(<uint8_t>(flow.endpoints >> 24)) or (flow.endpoints >> 16) & FLAG_PORTS_UNKNOWN:
        return None
    return flow.endpoints >> 32


cdef bint is_tunnelled(const table_t *table, const flow_t *flow) noexcept:
    return table.shift == 7 and (<const wide_flow_t *>flow).attributes[0] >> 31 & 1


cdef object qfi_of(wide_flow_t *flow):
    return flow.attributes[0] >> ATTRIBUTE_QFI_SHIFT & 0x3F if flow.attributes[0] >> 30 & 1 else None


# --- the flows with most bytes --------------------------------------------------------------------------------------------

cdef enum:
    # Of a table, between two moments at which whoever else wants the engine may have it: some ten microseconds.
    SLICE_BYTES = 512 << 10


ctypedef struct top_flow_t:
    name_t name
    uint64_t packets[2]             # all, passed
    uint64_t bytes[2]
    int64_t first_ns
    int64_t last_ns


cdef class TopFlows:
    """The flows with most bytes that have been seen since a time: copies, gathered slice by slice of the tables.

    Between two slices flows may come, go and move. One that stands in the old table moves to the new one only, so the old
    one is walked first; a table that has grown is walked again from its beginning. A flow found twice is kept once. One
    that moves back when another is forgotten may be missed.
    """

    cdef top_flow_t *found
    cdef uint32_t wanted
    cdef uint32_t count
    cdef uint32_t least             # place of the one with fewest bytes, once there are as many as are wanted
    cdef int64_t since_ns
    cdef uint64_t mask              # of the table that is walked
    cdef uint64_t slot
    cdef bint in_old

    def __cinit__(self, uint32_t wanted, int64_t since_ns):
        self.wanted, self.since_ns = wanted, since_ns
        self.found = <top_flow_t *>calloc(max(wanted, 1), sizeof(top_flow_t))
        if self.found == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.found)

    cdef void begin_table(self) noexcept nogil:
        self.mask = 0

    cdef bint walk_slice(
        self, const table_t *table, const rule_table_t *rules, uint32_t passing, bint first_times
    ) noexcept nogil:
        """Whether the table has been walked to its end."""
        cdef const slots_t *slots
        cdef const flow_t *flow
        cdef uint64_t end
        if table.mask != self.mask:
            self.mask, self.slot, self.in_old = table.mask, 0, True
        if self.in_old and table.old.flows == NULL:
            self.slot, self.in_old = 0, False
        slots = &table.old if self.in_old else &table.now
        if self.in_old and self.slot < table.moved:
            self.slot = table.moved
        end = min(self.slot + (<uint64_t>SLICE_BYTES >> table.shift), slots.mask + 1)
        while self.slot < end:
            flow = flow_in(table, slots, self.slot)
            if flow.endpoints > SLOT_MOVED and flow.bucket.latest_ns >= self.since_ns:
                self.consider(
                    flow, table.shift == 7, rules, passing, slots.first_ns[self.slot] if first_times else 0
                )
            self.slot += 1
        if self.slot <= slots.mask:
            return False
        if not self.in_old:
            return True
        self.slot, self.in_old = 0, False
        return False

    cdef void consider(
        self, const flow_t *flow, bint wide, const rule_table_t *rules, uint32_t passing, int64_t first_ns
    ) noexcept nogil:
        cdef uint64_t offered_bytes = flow.bytes[0] + flow.bytes[1]
        cdef top_flow_t *place
        cdef name_t name
        cdef uint32_t i
        if self.count == self.wanted and (
            self.wanted == 0 or offered_bytes <= self.found[self.least].bytes[0]
        ):
            return
        memset(&name, 0, sizeof(name_t))
        name.addresses, name.endpoints, name.state = flow.addresses, flow.endpoints, flow.state
        if wide:
            memcpy(name.addresses6, (<const wide_flow_t *>flow).addresses6, 32)
            memcpy(name.attributes, (<const wide_flow_t *>flow).attributes, sizeof(name.attributes))
        place = NULL
        for i in range(self.count):
            if same_name(&self.found[i].name, &name):
                place = &self.found[i]
                break
        if place == NULL and self.count < self.wanted:
            place = &self.found[self.count]
            self.count += 1
        elif place == NULL:
            place = &self.found[self.least]
        place.name = name
        place.first_ns, place.last_ns = first_ns, flow.bucket.latest_ns
        place.bytes[0] = offered_bytes
        place.packets[0] = packets_of(flow, 0) + packets_of(flow, 1)
        count_passed(place, flow, rules, passing)
        for i in range(self.count):
            if self.found[i].bytes[0] < self.found[self.least].bytes[0]:
                self.least = i

    cdef list flows(self, RuleBook book):
        """ActiveFlows, those with most bytes first."""
        cdef top_flow_t *top
        cdef uint32_t i
        flows = []
        for i in range(self.count):
            top = &self.found[i]
            flows.append(ActiveFlow(
                name=flow_name(&top.name), rule=rule_of(book, &top.name),
                packets=top.packets[0], bytes=top.bytes[0], passed_packets=top.packets[1], passed_bytes=top.bytes[1],
                first_ns=top.first_ns, last_ns=top.last_ns,
            ))
        flows.sort(key=lambda flow: -flow.bytes)
        return flows


cdef inline uint64_t packets_of(const flow_t *flow, int conforming) noexcept nogil:
    return flow.packets[conforming] + (<uint64_t>flow.packets_high[conforming] << 32)


cdef inline bint same_name(const name_t *one, const name_t *other) noexcept nogil:
    """Whether they are of one flow, whatever rule set classified it."""
    return (
        one.addresses == other.addresses
        and (one.endpoints ^ other.endpoints) <= 0xFFFF
        and memcmp(one.addresses6, other.addresses6, 32) == 0
        and memcmp(one.attributes, other.attributes, sizeof(one.attributes)) == 0
    )


cdef inline void count_passed(
    top_flow_t *top, const flow_t *flow, const rule_table_t *rules, uint32_t passing
) noexcept nogil:
    """What of the flow went on, as its rule's mode and gate are now."""
    cdef const rule_t *rule = &rules.rules[flow.state & STATE_RULE]
    cdef uint64_t conforming = passing >> rule.verdicts[FATE_CONFORMING] & 1
    cdef uint64_t excess = passing >> rule.verdicts[rule.above] & 1
    if not rules.treatments[rule.treatment].gate_open:
        excess = 0
    top.packets[1] = conforming * packets_of(flow, 1) + excess * packets_of(flow, 0)
    top.bytes[1] = conforming * flow.bytes[1] + excess * flow.bytes[0]
