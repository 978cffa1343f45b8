"""The bookkeeping of the rule set: which name and which bucket has which place in the table of the packet path."""


cdef class RuleBook:
    """The rules that are installed. Places are kept by name, buckets by id, across rule sets."""

    cdef rule_table_t table
    cdef uint32_t rule_room
    cdef uint32_t bucket_room
    cdef uint64_t forgotten_bytes   # of rules that have gone
    cdef int64_t longest_filling_ns # of buckets that flows have of their own
    cdef dict rule_places           # name -> place
    cdef list rule_names            # place -> name
    cdef dict bucket_places         # bucket_key() -> place
    cdef list free_rules
    cdef list free_buckets
    cdef tuple installed

    def __cinit__(self):
        self.rule_room = self.bucket_room = 16
        self.table.rules = <rule_t *>calloc(self.rule_room, sizeof(rule_t))
        self.table.buckets = <bucket_t *>calloc(self.bucket_room, sizeof(bucket_t))
        if self.table.rules == NULL or self.table.buckets == NULL:
            raise MemoryError
        self.table.generation = 1
        # What no rule wants is not policed.
        self.table.rules[NO_RULE].simple = self.table.rules[NO_RULE].own_bucket = True
        set_verdicts(&self.table.rules[NO_RULE], VERDICT_UNMATCHED)
        self.rule_places = {}
        self.rule_names = [""]
        self.bucket_places = {}
        self.free_rules = []
        self.free_buckets = []
        self.installed = ()

    def __dealloc__(self):
        free(self.table.rules)
        free(self.table.buckets)
        free(self.table.filters)
        free(self.table.port_ranges)

    cdef install(self, list ordered):
        """Replaces the rule set by these rules, in the order in which they are tried; the caller changes the generation."""
        self.compile_filters(ordered)
        self.place_rules(ordered)
        self.forget_unused(ordered)
        self.installed = tuple(ordered)

    cdef rule_t *rule(self, str name) except NULL:
        return &self.table.rules[<uint32_t>self.rule_places[name]]

    cdef compile_filters(self, list ordered):
        """Builds the filters beside the current ones; rules that are new are given their places here.

        Where that fails, the places given are taken back by the next rule set.
        """
        cdef uint32_t filter_count = sum(len(rule.filters) for rule in ordered)
        cdef uint32_t range_count = sum(
            len(f.src_ports) + len(f.dst_ports) for rule in ordered for f in rule.filters
        )
        cdef filter_t *filters = <filter_t *>calloc(filter_count + 1, sizeof(filter_t))
        cdef port_range_t *ranges = <port_range_t *>calloc(range_count + 1, sizeof(port_range_t))
        if filters == NULL or ranges == NULL:
            free(filters)
            free(ranges)
            raise MemoryError
        try:
            self.fill_filters(filters, ranges, ordered)
        except BaseException:
            free(filters)
            free(ranges)
            raise
        free(self.table.filters)
        free(self.table.port_ranges)
        self.table.filters, self.table.filter_count, self.table.port_ranges = filters, filter_count, ranges

    cdef fill_filters(self, filter_t *filters, port_range_t *ranges, list ordered):
        cdef uint32_t at = 0, range_at = 0
        cdef filter_t *f
        for rule in ordered:
            place = self.place_of_rule(rule.name)
            for sdf in rule.filters:
                if str(replace(sdf.attributes, filter_id=0)):
                    raise UpfError(f"rule {rule.name!r}: filter '{sdf}': the engine matches the 5-tuple alone")
                f = &filters[at]
                at += 1
                f.rule = place
                f.family = sdf.family
                f.protocol = sdf.protocol
                set_network(f.network, f.mask, sdf.family, sdf.src_network, sdf.src_prefix_length)
                set_network(f.network + 2, f.mask + 2, sdf.family, sdf.dst_network, sdf.dst_prefix_length)
                f.source_ports = range_at
                f.source_port_count = len(sdf.src_ports)
                for low, high in sdf.src_ports:
                    ranges[range_at].low, ranges[range_at].high = low, high
                    range_at += 1
                f.destination_ports = range_at
                f.destination_port_count = len(sdf.dst_ports)
                for low, high in sdf.dst_ports:
                    ranges[range_at].low, ranges[range_at].high = low, high
                    range_at += 1

    cdef uint32_t place_of_rule(self, str name) except? 0:
        cdef uint32_t place
        if name in self.rule_places:
            return self.rule_places[name]
        if self.free_rules:
            place = self.free_rules.pop()
            self.rule_names[place] = name
        else:
            place = len(self.rule_names)
            if place >= self.rule_room:
                self.table.rules = <rule_t *>grown(self.table.rules, self.rule_room, sizeof(rule_t))
                self.rule_room *= 2
            self.rule_names.append(name)
        self.rule_places[name] = place
        memset(&self.table.rules[place], 0, sizeof(rule_t))
        self.table.rules[place].last_excess_ns = 1 - AVERAGING_WINDOW_NS
        self.table.rules[place].born = <uint32_t>self.table.generation + 1
        return place

    cdef uint32_t place_of_bucket(self, tuple key, limits_t *limits) except? 0:
        cdef uint32_t place
        if key in self.bucket_places:
            place = self.bucket_places[key]
            if self.table.buckets[place].tokens > limits.capacity:
                self.table.buckets[place].tokens = limits.capacity
            return place
        if self.free_buckets:
            place = self.free_buckets.pop()
        else:
            place = len(self.bucket_places)
            if place >= self.bucket_room:
                self.table.buckets = <bucket_t *>grown(self.table.buckets, self.bucket_room, sizeof(bucket_t))
                self.bucket_room *= 2
        self.bucket_places[key] = place
        fill_bucket(&self.table.buckets[place], limits)
        return place

    cdef place_rules(self, list ordered):
        cdef rule_t *r
        self.longest_filling_ns = 0
        for rule in ordered:
            r = self.rule(rule.name)
            per_flow = rule.per_flow and rule.policer is not None
            if per_flow != r.per_flow:
                # Its flows have no bucket of their own to keep, or need none any more: they begin anew.
                r.born = <uint32_t>self.table.generation + 1
            r.per_flow = per_flow
            r.own_bucket = True
            r.above = FATE_DROPPED if rule.mode is Mode.POLICE else FATE_EXCEEDING
            r.simple = True
            r.quick = r.touched and r.simple
            set_verdicts(r, VERDICT_CONFORMING)
            if rule.policer is None:
                memset(&r.limits, 0, sizeof(limits_t))
                continue
            set_limits(&r.limits, rule.policer.rate_bps, rule.policer.burst_bytes)
            if r.per_flow:
                self.longest_filling_ns = max(self.longest_filling_ns, r.limits.filling_ns)
            else:
                r.own_bucket = False
                r.bucket = self.place_of_bucket(bucket_key(rule), &r.limits)

    cdef forget_unused(self, list ordered):
        cdef uint32_t place
        names = {rule.name for rule in ordered}
        for name in [name for name in self.rule_places if name not in names]:
            place = self.rule_places.pop(name)
            self.free_rules.append(place)
            self.forgotten_bytes += rule_bytes(&self.table.rules[place])
        keys = {bucket_key(rule) for rule in ordered if rule.policer is not None and not rule.per_flow}
        for key in [key for key in self.bucket_places if key not in keys]:
            self.free_buckets.append(self.bucket_places.pop(key))

    cdef counters(self):
        """Counters of every installed rule, by name, in the order in which they are tried."""
        cdef rule_t *r
        counters = {}
        for rule in self.installed:
            r = self.rule(rule.name)
            counters[rule.name] = RuleCounters(
                conforming_packets=r.packets[FATE_CONFORMING], conforming_bytes=r.bytes[FATE_CONFORMING],
                exceeding_packets=r.packets[FATE_EXCEEDING], exceeding_bytes=r.bytes[FATE_EXCEEDING],
                dropped_packets=r.packets[FATE_DROPPED], dropped_bytes=r.bytes[FATE_DROPPED],
                first_ns=r.first_ns, last_ns=r.last_ns,
                excess_since_ns=r.excess_since_ns, last_excess_ns=max(r.last_excess_ns, 0),
            )
        return counters

    cdef str name_of(self, flow_t *flow):
        """The rule that classified the flow; empty where another rule has been given its place since."""
        if <uint16_t>flow.endpoints < self.table.rules[flow.state & STATE_RULE].born:
            return ""
        return self.rule_names[flow.state & STATE_RULE]


cdef uint64_t rule_bytes(const rule_t *rule):
    return (
        rule.bytes[FATE_CONFORMING] + rule.bytes[FATE_YELLOW] + rule.bytes[FATE_EXCEEDING] + rule.bytes[FATE_DROPPED]
    )


cdef set_verdicts(rule_t *rule, uint8_t conforming):
    rule.verdicts[FATE_CONFORMING] = conforming
    rule.verdicts[FATE_YELLOW] = VERDICT_YELLOW
    rule.verdicts[FATE_EXCEEDING] = VERDICT_EXCEEDING
    rule.verdicts[FATE_DROPPED] = VERDICT_DROPPED


cdef tuple bucket_key(rule):
    return ("shared", rule.bucket_id) if rule.bucket_id else ("own", rule.name)


cdef void *grown(void *array, uint32_t room, size_t element_bytes) except NULL:
    """The array with twice the room; what is new is zeroed."""
    cdef uint8_t *larger = <uint8_t *>realloc(array, 2 * room * element_bytes)
    if larger == NULL:
        raise MemoryError
    memset(larger + room * element_bytes, 0, room * element_bytes)
    return larger


cdef set_network(uint64_t *network, uint64_t *mask, int family, object address, object prefix_length):
    # Python integers: 128 bits do not fit into any of C's.
    cdef object bits = 32 if family == 4 else 128
    cdef object whole = ((<object>1 << prefix_length) - 1) << (bits - prefix_length)
    cdef object masked = address & whole
    mask[0], mask[1] = whole >> 64, whole & 0xFFFFFFFFFFFFFFFF
    network[0], network[1] = masked >> 64, masked & 0xFFFFFFFFFFFFFFFF


cdef set_limits(limits_t *limits, rate_bps, burst_bytes):
    capacity = burst_bytes * 8_000_000_000
    limits.rate_bps = rate_bps
    limits.cost_of_byte = 8_000_000_000
    limits.capacity = capacity
    limits.filling_ns = -(-capacity // rate_bps)
