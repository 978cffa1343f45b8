"""The engine: batches of captured packets through parse, flow table, classification and token buckets, without the GIL.

Two passes over every batch: the first parses and prefetches each packet's slot of the flow table, the second looks the
flows up and polices. Rules keep their counters by name and their buckets by ``bucket_id`` when a new rule set is installed.
"""

import os
from ipaddress import IPv4Address, IPv6Address

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset

from bucket cimport bucket_t, conforms, fill_bucket, limits_t
from filters cimport classify, filter_t, port_range_t
from flowtable cimport (
    allocate_slots, count_flow, find_flow, flow6_t, flow_at, flow_t, insert_flow, prefetch_flow, table_t,
)
from intrinsics cimport cc_enter, cc_leave, cc_likely, cc_native32, cc_swapped32, cc_unlikely
from packet cimport (
    FLAG_PORTS_UNKNOWN, FRAGMENT_CHAINS, FRAGMENTS, OUTCOME_COUNT, OUTCOME_LINK_HEADER, OUTCOME_NOT_IP, fragment_t,
    packet_t, parse_link, parser_t,
)

from upf.counters import AVERAGING_WINDOW_NS, FlowCounters, RuleCounters, Totals
from upf.errors import UpfError
from upf.rules import Mode, in_order

# In the order of outcome_t in packet.pxd.
MALFORMED_REASONS = (
    "link_header", "ip_header", "ip_version", "ip_header_length", "ip_total_length", "ip_extension_header",
    "transport_header",
)

cdef enum:
    BATCH = 32
    RECORD_HEADER_BYTES = 16
    # The most that libpcap itself lets a record claim.
    LARGEST_RECORD = 262_144
    FIRST_SLOTS = 4096
    LAST_GENERATION = 0xFFFF
    NO_RULE = 0

cdef enum verdict_t:
    VERDICT_MALFORMED
    VERDICT_UNMATCHED
    VERDICT_CONFORMING
    VERDICT_EXCEEDING
    VERDICT_DROPPED

# What run() says about each packet, in the order of verdict_t.
MALFORMED, UNMATCHED, CONFORMING, EXCEEDING, DROPPED = range(5)


ctypedef struct rule_t:
    limits_t limits
    uint64_t conforming_packets
    uint64_t conforming_bytes
    uint64_t exceeding_packets
    uint64_t exceeding_bytes
    uint64_t dropped_packets
    uint64_t dropped_bytes
    int64_t first_ns
    int64_t last_ns
    int64_t excess_since_ns
    int64_t last_excess_ns
    uint32_t bucket             # index of the shared bucket
    uint32_t born               # generation in which this place was given to this rule
    bint policed
    bint per_flow
    bint drops


ctypedef struct output_t:
    uint8_t *data
    size_t length
    size_t room
    bint nanoseconds
    bint failed


cdef class Engine:
    """One share-nothing instance of the packet path.

    max_flows: bound on the flow table, for IPv4 and IPv6 each. flow_idle_timeout_ns: packet time after which a full table
    may forget an idle flow. flow_times: keep each flow's first packet time (8 bytes a slot). pass_unmatched: whether packets
    that no rule wants are passed, or only counted.
    """

    cdef parser_t parser
    cdef table_t tables[2]
    cdef rule_t *rules
    cdef uint32_t rule_room
    cdef bucket_t *buckets
    cdef uint32_t bucket_room
    cdef filter_t *filters
    cdef uint32_t filter_count
    cdef port_range_t *port_ranges
    cdef uint16_t generation
    cdef uint64_t packets
    cdef uint64_t forgotten_bytes   # of rules that have gone
    cdef uint64_t malformed[OUTCOME_COUNT]
    cdef uint64_t time_steps_back
    cdef output_t output
    cdef int busy               # run() or whatever else must have the engine for itself is under way
    cdef int64_t idle_timeout_ns
    cdef int64_t averaging_window_ns
    cdef bint pass_unmatched
    cdef dict rule_places       # name -> index into rules
    cdef list rule_names        # index -> name
    cdef dict bucket_places     # bucket_key() -> index into buckets
    cdef list free_rules
    cdef list free_buckets
    cdef tuple installed

    def __cinit__(
        self, *, uint64_t max_flows=1_048_576, int64_t flow_idle_timeout_ns=300_000_000_000, bint flow_times=False,
        bint pass_unmatched=True,
    ):
        cdef int i
        if max_flows < 1:
            raise UpfError(f"max_flows: expected at least 1, got {max_flows}")
        self.parser.seed = int.from_bytes(os.urandom(8), "little") | 1
        self.parser.fragments = <fragment_t *>calloc(1 + FRAGMENTS, sizeof(fragment_t))
        self.parser.chains = <uint16_t *>calloc(FRAGMENT_CHAINS, sizeof(uint16_t))
        self.idle_timeout_ns = flow_idle_timeout_ns
        self.pass_unmatched = pass_unmatched
        for i in range(2):
            self.tables[i].shift = 6 + i
            self.tables[i].bound = max_flows
            self.tables[i].seed = self.parser.seed
            self.tables[i].idle_timeout_ns = flow_idle_timeout_ns
            self.tables[i].keep_first = flow_times
            if not allocate_slots(&self.tables[i], FIRST_SLOTS):
                raise MemoryError
        self.rule_room = self.bucket_room = 16
        self.rules = <rule_t *>calloc(self.rule_room, sizeof(rule_t))
        self.buckets = <bucket_t *>calloc(self.bucket_room, sizeof(bucket_t))
        if self.parser.fragments == NULL or self.parser.chains == NULL or self.rules == NULL or self.buckets == NULL:
            raise MemoryError
        self.averaging_window_ns = AVERAGING_WINDOW_NS
        self.generation = 1
        # The place NO_RULE counts what no rule wants.
        self.rule_places = {}
        self.rule_names = [""]
        self.bucket_places = {}
        self.free_rules = []
        self.free_buckets = []
        self.installed = ()

    def __dealloc__(self):
        cdef int i
        free(self.parser.fragments)
        free(self.parser.chains)
        for i in range(2):
            free(self.tables[i].slots)
            free(self.tables[i].first_ns)
        free(self.rules)
        free(self.buckets)
        free(self.filters)
        free(self.port_ranges)
        free(self.output.data)

    cdef int enter(self, str what) except -1:
        if not cc_enter(&self.busy):
            raise RuntimeError(f"{what} while another call has the engine: one at a time")
        return 0

    # --- the rule set ---------------------------------------------------------------------------------------------

    def install(self, rules):
        """Replaces the rule set: all of it or, on an error, nothing.

        A rule that keeps its name keeps its counters, a bucket that keeps its id keeps its tokens (up to its new depth), and
        a flow that stays under its rule keeps its own bucket.

        Raises RulesError where two rules have one name or share a bucket with different limits, RuntimeError while run()
        is under way.
        """
        ordered = list(in_order(rules))
        self.enter("install()")
        try:
            self.compile_filters(ordered)
            self.place_rules(ordered)
            self.forget_unused(ordered)
            self.installed = tuple(ordered)
            self.next_generation()
        finally:
            cc_leave(&self.busy)

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
        free(self.filters)
        free(self.port_ranges)
        self.filters, self.filter_count, self.port_ranges = filters, filter_count, ranges

    cdef fill_filters(self, filter_t *filters, port_range_t *ranges, list ordered):
        cdef uint32_t at = 0, range_at = 0
        cdef filter_t *f
        for rule in ordered:
            place = self.place_of_rule(rule.name)
            for sdf in rule.filters:
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
                self.rules = <rule_t *>grown(self.rules, self.rule_room, sizeof(rule_t))
                self.rule_room *= 2
            self.rule_names.append(name)
        self.rule_places[name] = place
        memset(&self.rules[place], 0, sizeof(rule_t))
        self.rules[place].born = <uint32_t>self.generation + 1
        return place

    cdef uint32_t place_of_bucket(self, tuple key, limits_t *limits) except? 0:
        cdef uint32_t place
        if key in self.bucket_places:
            place = self.bucket_places[key]
            if self.buckets[place].tokens > limits.capacity:
                self.buckets[place].tokens = limits.capacity
            return place
        if self.free_buckets:
            place = self.free_buckets.pop()
        else:
            place = len(self.bucket_places)
            if place >= self.bucket_room:
                self.buckets = <bucket_t *>grown(self.buckets, self.bucket_room, sizeof(bucket_t))
                self.bucket_room *= 2
        self.bucket_places[key] = place
        fill_bucket(&self.buckets[place], limits)
        return place

    cdef place_rules(self, list ordered):
        cdef rule_t *r
        cdef int64_t longest_filling_ns = self.idle_timeout_ns
        for rule in ordered:
            r = &self.rules[<uint32_t>self.rule_places[rule.name]]
            per_flow = rule.per_flow and rule.policer is not None
            if per_flow != r.per_flow:
                # Its flows have no bucket of their own to keep, or need none any more: they begin anew.
                r.born = <uint32_t>self.generation + 1
            r.policed = rule.policer is not None
            r.per_flow = per_flow
            r.drops = rule.mode is Mode.POLICE
            if not r.policed:
                continue
            set_limits(&r.limits, rule.policer.rate_bps, rule.policer.burst_bytes)
            if r.per_flow:
                longest_filling_ns = max(longest_filling_ns, r.limits.filling_ns)
            else:
                r.bucket = self.place_of_bucket(bucket_key(rule), &r.limits)
        # A flow that has its own bucket is not forgotten before that bucket would be full anyway.
        self.tables[0].idle_timeout_ns = self.tables[1].idle_timeout_ns = longest_filling_ns

    cdef forget_unused(self, list ordered):
        cdef uint32_t place
        names = {rule.name for rule in ordered}
        for name in [name for name in self.rule_places if name not in names]:
            place = self.rule_places.pop(name)
            self.free_rules.append(place)
            self.forgotten_bytes += (
                self.rules[place].conforming_bytes + self.rules[place].exceeding_bytes + self.rules[place].dropped_bytes
            )
        keys = {bucket_key(rule) for rule in ordered if rule.policer is not None and not rule.per_flow}
        for key in [key for key in self.bucket_places if key not in keys]:
            self.free_buckets.append(self.bucket_places.pop(key))

    cdef next_generation(self):
        """From now on every flow is classified anew with its next packet."""
        cdef uint64_t slot
        cdef flow_t *flow
        cdef uint32_t place
        cdef int i
        if self.generation < LAST_GENERATION:
            self.generation += 1
            return
        # The 16 bits are used up: every flow becomes one of generation 0, and every rule one that was there already.
        for i in range(2):
            for slot in range(self.tables[i].mask + 1):
                flow = flow_at(&self.tables[i], slot)
                if flow.endpoints != 0:
                    if <uint16_t>flow.endpoints < self.rules[flow.rule].born:
                        flow.rule = NO_RULE
                    flow.endpoints &= ~<uint64_t>0xFFFF
        for place in range(<uint32_t>len(self.rule_names)):
            self.rules[place].born = 0
        self.generation = 1

    # --- packets --------------------------------------------------------------------------------------------------

    def run(
        self, capture, capture_format, *, uint64_t offset, uint64_t max_packets, int64_t time_offset_ns=0,
        bint emit=False, verdicts=None,
    ):
        """Processes the pcap records of ``capture`` from byte ``offset`` on, at most ``max_packets`` of them.

        capture: contiguous bytes. capture_format: a CaptureFormat. time_offset_ns: added to every timestamp. emit: keep what
        passes for take_output(). verdicts: a writable buffer of at least ``max_packets`` bytes that gets one verdict a packet.

        Returns (offset after the last whole record, packets processed, whether the walk is over: nothing is left, or no whole
        record stands at the offset). Raises ValueError where the offset lies outside of the capture or the verdicts have no
        room, RuntimeError while another call has the engine.
        """
        cdef Py_buffer view, verdict_view
        cdef uint64_t processed = 0
        cdef bint over, judged = False
        cdef uint8_t *verdict = NULL
        cdef bint swapped = capture_format.swapped
        cdef bint nanoseconds = capture_format.nanoseconds
        cdef int link_type = capture_format.link_type
        PyObject_GetBuffer(capture, &view, PyBUF_SIMPLE)
        try:
            if offset > <uint64_t>view.len:
                raise ValueError(f"offset: expected at most {view.len}, the capture's size, got {offset}")
            if verdicts is not None:
                PyObject_GetBuffer(verdicts, &verdict_view, PyBUF_WRITABLE)
                judged = True
                verdict = <uint8_t *>verdict_view.buf
                if <uint64_t>verdict_view.len < max_packets:
                    raise ValueError(f"verdicts: expected room for {max_packets} packets, got {verdict_view.len}")
            self.enter("run()")
            with nogil:
                over = self.run_records(
                    <const uint8_t *>view.buf, view.len, swapped, nanoseconds, link_type, &offset, max_packets,
                    time_offset_ns, emit, verdict, &processed,
                )
            cc_leave(&self.busy)
        finally:
            if judged:
                PyBuffer_Release(&verdict_view)
            PyBuffer_Release(&view)
        if self.output.failed:
            raise MemoryError("no memory for the packets that passed")
        return offset, processed, over

    cdef bint run_records(
        self, const uint8_t *data, uint64_t size, bint swapped, bint nanoseconds, int link_type, uint64_t *offset,
        uint64_t max_packets, int64_t time_offset_ns, bint emit, uint8_t *verdicts, uint64_t *processed,
    ) noexcept nogil:
        cdef packet_t batch[BATCH]
        cdef bint over = False
        cdef uint64_t at = offset[0], done = 0
        cdef uint32_t seconds, fraction, captured, wire_length
        cdef int count, i
        cdef verdict_t verdict
        cdef int64_t fraction_ns = 1 if nanoseconds else 1000
        while not over and done < max_packets:
            count = 0
            while count < BATCH and done + count < max_packets:
                if cc_unlikely(at + RECORD_HEADER_BYTES > size):
                    over = True
                    break
                seconds = cc_native32(data + at)
                fraction = cc_native32(data + at + 4)
                captured = cc_native32(data + at + 8)
                wire_length = cc_native32(data + at + 12)
                if swapped:
                    seconds, fraction = cc_swapped32(seconds), cc_swapped32(fraction)
                    captured, wire_length = cc_swapped32(captured), cc_swapped32(wire_length)
                if cc_unlikely(captured > LARGEST_RECORD or at + RECORD_HEADER_BYTES + captured > size):
                    over = True
                    break
                batch[count].data = data + at + RECORD_HEADER_BYTES
                batch[count].captured = captured
                batch[count].wire_length = wire_length
                batch[count].ts_ns = <int64_t>seconds * 1000000000LL + fraction * fraction_ns + time_offset_ns
                batch[count].outcome = parse_link(&self.parser, &batch[count], link_type)
                if cc_likely(batch[count].outcome < OUTCOME_NOT_IP):
                    prefetch_flow(&self.tables[<int>batch[count].outcome], batch[count].hash)
                at += RECORD_HEADER_BYTES + captured
                count += 1
            for i in range(count):
                verdict = self.judge(&batch[i])
                if verdicts != NULL:
                    verdicts[done + i] = <uint8_t>verdict
                if emit and (
                    verdict == VERDICT_CONFORMING or verdict == VERDICT_EXCEEDING
                    or (verdict == VERDICT_UNMATCHED and self.pass_unmatched)
                ):
                    self.keep(&batch[i])
            done += count
            self.packets += count
        offset[0] = at
        processed[0] = done
        return over

    cdef inline verdict_t judge(self, packet_t *packet) noexcept nogil:
        cdef table_t *table
        cdef flow_t *flow
        cdef rule_t *rule
        cdef bint conforming = True
        cdef int64_t ts_ns = packet.ts_ns
        cdef uint64_t length = packet.ip_length
        if cc_unlikely(packet.outcome >= OUTCOME_NOT_IP):
            if packet.outcome == OUTCOME_NOT_IP:
                self.rules[NO_RULE].conforming_packets += 1
                return VERDICT_UNMATCHED
            self.malformed[<int>packet.outcome] += 1
            return VERDICT_MALFORMED
        table = &self.tables[<int>packet.outcome]
        flow = find_flow(table, packet)
        if cc_unlikely(flow == NULL or <uint16_t>flow.endpoints != self.generation):
            flow = self.assign_rule(table, flow, packet)
        rule = &self.rules[flow.rule]
        if rule.policed:
            if rule.per_flow:
                conforming = conforms(&flow.bucket, &rule.limits, ts_ns, length, &self.time_steps_back)
            else:
                conforming = conforms(&self.buckets[rule.bucket], &rule.limits, ts_ns, length, &self.time_steps_back)
        if ts_ns > flow.bucket.latest_ns:
            flow.bucket.latest_ns = ts_ns
        count_flow(flow, length, conforming)
        if rule.last_ns < ts_ns:
            rule.last_ns = ts_ns
        if cc_likely(conforming):
            rule.conforming_packets += 1
            rule.conforming_bytes += length
            return VERDICT_CONFORMING if flow.rule != NO_RULE else VERDICT_UNMATCHED
        if rule.last_excess_ns == 0 or ts_ns - rule.last_excess_ns >= self.averaging_window_ns:
            rule.excess_since_ns = ts_ns
        if rule.last_excess_ns < ts_ns:
            rule.last_excess_ns = ts_ns
        if rule.drops:
            rule.dropped_packets += 1
            rule.dropped_bytes += length
            return VERDICT_DROPPED
        rule.exceeding_packets += 1
        rule.exceeding_bytes += length
        return VERDICT_EXCEEDING

    cdef flow_t *assign_rule(self, table_t *table, flow_t *flow, packet_t *packet) noexcept nogil:
        """Classifies a flow that is new or was classified under another rule set."""
        cdef uint32_t place = classify(self.filters, self.filter_count, self.port_ranges, packet)
        cdef rule_t *rule = &self.rules[place]
        cdef bint stays = False
        if flow == NULL:
            flow = insert_flow(table, packet)
        else:
            stays = flow.rule == place and <uint16_t>flow.endpoints >= rule.born
        flow.rule = place
        flow.endpoints = packet.endpoints | self.generation
        if rule.conforming_packets + rule.exceeding_packets + rule.dropped_packets == 0:
            rule.first_ns = packet.ts_ns
        if rule.per_flow:
            if not stays:
                fill_bucket(&flow.bucket, &rule.limits)
            elif flow.bucket.tokens > rule.limits.capacity:
                flow.bucket.tokens = rule.limits.capacity
        return flow

    cdef void keep(self, packet_t *packet) noexcept nogil:
        """Appends a record in this machine's byte order."""
        cdef output_t *output = &self.output
        cdef size_t needed = output.length + RECORD_HEADER_BYTES + packet.captured
        cdef uint32_t header[4]
        cdef uint8_t *data
        if needed > output.room:
            data = <uint8_t *>realloc(output.data, needed * 2)
            if data == NULL:
                output.failed = True
                return
            output.data = data
            output.room = needed * 2
        header[0] = <uint32_t>(packet.ts_ns // 1000000000LL)
        header[1] = <uint32_t>(packet.ts_ns % 1000000000LL)
        if not output.nanoseconds:
            header[1] //= 1000
        header[2] = packet.captured
        header[3] = packet.wire_length
        memcpy(output.data + output.length, header, RECORD_HEADER_BYTES)
        memcpy(output.data + output.length + RECORD_HEADER_BYTES, packet.data, packet.captured)
        output.length = needed

    @property
    def output_nanoseconds(self):
        """Whether take_output() writes fractions of a second in nanoseconds; microseconds otherwise."""
        return self.output.nanoseconds

    @output_nanoseconds.setter
    def output_nanoseconds(self, bint nanoseconds):
        self.output.nanoseconds = nanoseconds

    def take_output(self):
        """The pcap records kept since the last call, as bytes."""
        self.enter("take_output()")
        try:
            records = PyBytes_FromStringAndSize(<char *>self.output.data, self.output.length)
            self.output.length = 0
        finally:
            cc_leave(&self.busy)
        return records

    # --- what was counted -----------------------------------------------------------------------------------------

    def reset_flow_counters(self):
        """Sets the packets and bytes of every flow to 0; buckets, rules' counters and totals stay."""
        cdef uint64_t slot
        cdef flow_t *flow
        cdef int i
        self.enter("reset_flow_counters()")
        for i in range(2):
            for slot in range(self.tables[i].mask + 1):
                flow = flow_at(&self.tables[i], slot)
                flow.conforming_bytes = flow.excess_bytes = 0
                flow.conforming_packets = flow.excess_packets = 0
                flow.conforming_packets_high = flow.excess_packets_high = 0
        cc_leave(&self.busy)

    def totals(self):
        """Counters of everything that came in."""
        cdef int i
        counters = self.rule_counters().values()
        return Totals(
            packets=self.packets,
            bytes=(
                self.rules[NO_RULE].conforming_bytes + self.forgotten_bytes + sum(counter.bytes for counter in counters)
            ),
            malformed={
                reason: self.malformed[OUTCOME_LINK_HEADER + i]
                for i, reason in enumerate(MALFORMED_REASONS) if self.malformed[OUTCOME_LINK_HEADER + i]
            },
            unmatched_packets=self.rules[NO_RULE].conforming_packets,
            unmatched_bytes=self.rules[NO_RULE].conforming_bytes,
            flows=self.tables[0].created + self.tables[1].created,
            aged_flows=self.tables[0].aged + self.tables[1].aged,
            evicted_flows=self.tables[0].evicted + self.tables[1].evicted,
            time_steps_back=self.time_steps_back,
            fragments_without_first=self.parser.fragments_without_first,
        )

    def rule_counters(self):
        """Counters of every installed rule, by name, in the order in which they are tried."""
        cdef rule_t *r
        counters = {}
        for rule in self.installed:
            r = &self.rules[<uint32_t>self.rule_places[rule.name]]
            counters[rule.name] = RuleCounters(
                conforming_packets=r.conforming_packets, conforming_bytes=r.conforming_bytes,
                exceeding_packets=r.exceeding_packets, exceeding_bytes=r.exceeding_bytes,
                dropped_packets=r.dropped_packets, dropped_bytes=r.dropped_bytes,
                first_ns=r.first_ns, last_ns=r.last_ns,
                excess_since_ns=r.excess_since_ns, last_excess_ns=r.last_excess_ns,
            )
        return counters

    def flows(self):
        """Counters of every flow in the table, in no particular order; first_ns is 0 without ``flow_times``.

        Raises RuntimeError while run() is under way, which may move the table.
        """
        self.enter("flows()")
        try:
            return self.flow_counters()
        finally:
            cc_leave(&self.busy)

    cdef list flow_counters(self):
        cdef table_t *table
        cdef flow_t *flow
        cdef uint64_t slot
        cdef int i
        flows = []
        for i in range(2):
            table = &self.tables[i]
            for slot in range(table.mask + 1):
                flow = flow_at(table, slot)
                if flow.endpoints == 0:
                    continue
                if i == 0:
                    source = IPv4Address(flow.addresses >> 32)
                    destination = IPv4Address(flow.addresses & 0xFFFFFFFF)
                else:
                    source = IPv6Address((<flow6_t *>flow).addresses6[:16])
                    destination = IPv6Address((<flow6_t *>flow).addresses6[16:32])
                flows.append(FlowCounters(
                    source=source,
                    destination=destination,
                    protocol=<uint8_t>(flow.endpoints >> 24),
                    source_port=flow.endpoints >> 48,
                    destination_port=<uint16_t>(flow.endpoints >> 32),
                    ports_known=not (flow.endpoints >> 16) & FLAG_PORTS_UNKNOWN,
                    # Where another rule has been given the place since, the flow's own has gone.
                    rule=self.rule_names[flow.rule] if <uint16_t>flow.endpoints >= self.rules[flow.rule].born else "",
                    conforming_packets=flow.conforming_packets + (<uint64_t>flow.conforming_packets_high << 32),
                    conforming_bytes=flow.conforming_bytes,
                    excess_packets=flow.excess_packets + (<uint64_t>flow.excess_packets_high << 32),
                    excess_bytes=flow.excess_bytes,
                    first_ns=table.first_ns[slot] if table.keep_first else 0,
                    last_ns=flow.bucket.latest_ns,
                ))
        return flows


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
    limits.burst_bytes = burst_bytes
    limits.capacity = capacity
    limits.filling_ns = -(-capacity // rate_bps)


def time_span_ns(capture, capture_format, *, uint64_t offset):
    """(earliest, latest) packet time of the whole records from byte ``offset`` on; (0, 0) where there are none."""
    cdef const uint8_t[::1] data = capture
    cdef bint swapped = capture_format.swapped
    cdef int64_t fraction_ns = 1 if capture_format.nanoseconds else 1000
    cdef int64_t ts_ns, earliest_ns = 0, latest_ns = 0
    cdef uint64_t size = data.shape[0]
    cdef uint32_t seconds, fraction, captured
    cdef bint first = True
    with nogil:
        while offset + RECORD_HEADER_BYTES <= size:
            seconds = cc_native32(&data[offset])
            fraction = cc_native32(&data[offset + 4])
            captured = cc_native32(&data[offset + 8])
            if swapped:
                seconds, fraction, captured = cc_swapped32(seconds), cc_swapped32(fraction), cc_swapped32(captured)
            offset += RECORD_HEADER_BYTES + captured
            if captured > LARGEST_RECORD or offset > size:
                break
            ts_ns = <int64_t>seconds * 1000000000LL + fraction * fraction_ns
            earliest_ns = ts_ns if first or ts_ns < earliest_ns else earliest_ns
            latest_ns = ts_ns if first or ts_ns > latest_ns else latest_ns
            first = False
    return earliest_ns, latest_ns
