"""The engine: batches of captured packets through parse, flow table, classification and token buckets, without the GIL.

Two passes over every batch: the first parses and prefetches each packet's slot of its flow table, the second looks the
flows up and polices. Rules keep their counters by name and their buckets by ``bucket_id`` when a new rule set is installed.
"""

import os
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset

from bucket cimport bucket_t, fill_bucket, limits_t
from filters cimport classify, filter_t, port_range_t
from flowtable cimport (
    STATE_RULE, close_table, find_flow, finish_growing, flow_at, flow_t, flow_to_evict, insert_flow, look_ahead,
    must_make_room, open_table, prefetch_flow, remove_flow, table_t, wide_flow_t,
)
from intrinsics cimport cc_enter, cc_leave, cc_likely, cc_unlikely
from output cimport keep_packet, output_t
from packet cimport (
    FLAG_IPV6, FLAG_PORTS_UNKNOWN, FRAGMENT_CHAINS, FRAGMENTS, OUTCOME_COUNT, OUTCOME_LINK_HEADER, OUTCOME_NARROW,
    OUTCOME_NOT_IP, choose_way, fragment_t, outcome_t, packet_t, parse_link, parser_t,
)
from records cimport next_record, record_t, walk_t
from rules cimport (
    FATE_CONFORMING, FATE_DROPPED, FATE_EXCEEDING, FATE_YELLOW, FATES, NO_RULE, judge_simply, rule_t, rule_table_t,
)

from upf.counters import AVERAGING_WINDOW_NS, FlowCounters, RuleCounters, Totals
from upf.errors import UpfError
from upf.rules import Mode, in_order, refuse_beyond_token_buckets

# In the order of outcome_t in packet.pxd.
MALFORMED_REASONS = (
    "link_header", "ip_header", "ip_version", "ip_header_length", "ip_total_length", "ip_extension_header",
    "transport_header",
)

cdef enum:
    BATCH = 64
    # From so many slots on, a look-up is likely to wait for memory.
    FAR_SLOTS = 1 << 17
    FIRST_SLOTS = 4096
    LAST_GENERATION = 0xFFFF

cdef enum verdict_t:
    VERDICT_MALFORMED
    VERDICT_UNMATCHED
    VERDICT_CONFORMING
    VERDICT_EXCEEDING
    VERDICT_DROPPED
    VERDICT_YELLOW

# What run() says about each packet, in the order of verdict_t.
MALFORMED, UNMATCHED, CONFORMING, EXCEEDING, DROPPED, YELLOW = range(6)

include "rule_book.pxi"


cdef class Engine:
    """One share-nothing instance of the packet path.

    max_flows: bound on the flow table, for IPv4 and IPv6 each. flow_idle_timeout_ns: packet time after which a full table
    may forget an idle flow. flow_times: keep each flow's first packet time (8 bytes a slot). pass_unmatched: whether packets
    that no rule wants are passed, or only counted.
    """

    cdef parser_t parser
    cdef table_t tables[2]
    cdef RuleBook book
    cdef rule_table_t *rule_table   # the book's
    cdef readonly uint64_t packets
    cdef uint64_t malformed[OUTCOME_COUNT]
    cdef uint64_t time_steps_back
    cdef output_t output
    cdef uint32_t passing       # of the verdicts, a bit each: which packets go on
    cdef int busy               # run() or whatever else must have the engine for itself is under way
    cdef int64_t idle_timeout_ns

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
        self.passing = (1 << VERDICT_CONFORMING) | (1 << VERDICT_YELLOW) | (1 << VERDICT_EXCEEDING)
        if pass_unmatched:
            self.passing |= 1 << VERDICT_UNMATCHED
        for i in range(2):
            self.tables[i].shift = 6 + i
            self.tables[i].bound = max_flows
            self.tables[i].seed = self.parser.seed
            self.tables[i].idle_timeout_ns = flow_idle_timeout_ns
            self.tables[i].keep_first = flow_times
            if not open_table(&self.tables[i], FIRST_SLOTS):
                raise MemoryError
        if self.parser.fragments == NULL or self.parser.chains == NULL:
            raise MemoryError
        self.book = RuleBook()
        self.rule_table = &self.book.table
        self.rule_table.averaging_window_ns = AVERAGING_WINDOW_NS

    def __dealloc__(self):
        cdef int i
        free(self.parser.fragments)
        free(self.parser.chains)
        for i in range(2):
            close_table(&self.tables[i])
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
        refuse_beyond_token_buckets(ordered)
        self.enter("install()")
        try:
            self.book.install(ordered)
            # A flow that has its own bucket is not forgotten before that bucket would be full anyway.
            self.tables[0].idle_timeout_ns = max(self.idle_timeout_ns, self.book.longest_filling_ns)
            self.tables[1].idle_timeout_ns = self.tables[0].idle_timeout_ns
            choose_way(&self.parser)
            self.next_generation()
        finally:
            cc_leave(&self.busy)

    cdef next_generation(self):
        """From now on every flow is classified anew with its next packet."""
        cdef uint64_t slot
        cdef flow_t *flow
        cdef uint32_t place
        cdef int i
        if self.rule_table.generation < LAST_GENERATION:
            self.rule_table.generation += 1
            return
        # The 16 bits are used up: every flow becomes one of generation 0, and every rule one that was there already.
        for i in range(2):
            finish_growing(&self.tables[i])
            for slot in range(self.tables[i].mask + 1):
                flow = flow_at(&self.tables[i], slot)
                if flow.endpoints != 0:
                    if <uint16_t>flow.endpoints < self.rule_table.rules[flow.state & STATE_RULE].born:
                        flow.state = NO_RULE
                    flow.endpoints &= ~<uint64_t>0xFFFF
        for place in range(<uint32_t>len(self.book.rule_names)):
            self.rule_table.rules[place].born = 0
        self.rule_table.generation = 1

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
        cdef walk_t walk
        cdef int link_type = capture_format.link_type
        PyObject_GetBuffer(capture, &view, PyBUF_SIMPLE)
        try:
            begin_walk(&walk, <const uint8_t *>view.buf, view.len, capture_format, offset)
            if verdicts is not None:
                PyObject_GetBuffer(verdicts, &verdict_view, PyBUF_WRITABLE)
                judged = True
                verdict = <uint8_t *>verdict_view.buf
                if <uint64_t>verdict_view.len < max_packets:
                    raise ValueError(f"verdicts: expected room for {max_packets} packets, got {verdict_view.len}")
            self.enter("run()")
            with nogil:
                over = self.run_records(
                    &walk, link_type, max_packets, time_offset_ns, emit, verdict, &processed
                )
            cc_leave(&self.busy)
        finally:
            if judged:
                PyBuffer_Release(&verdict_view)
            PyBuffer_Release(&view)
        if self.output.failed:
            raise MemoryError("no memory for the packets that passed")
        return walk.at, processed, over

    cdef bint run_records(
        self, walk_t *walk, int link_type, uint64_t max_packets, int64_t time_offset_ns, bint emit, uint8_t *verdicts,
        uint64_t *processed,
    ) noexcept nogil:
        cdef packet_t batch[BATCH]
        cdef uint8_t judged[BATCH]
        cdef bint over = False
        cdef uint64_t done = 0
        cdef int wanted, count, i
        while not over and done < max_packets:
            wanted = BATCH if max_packets - done >= BATCH else <int>(max_packets - done)
            count = self.read_batch(walk, link_type, time_offset_ns, batch, wanted)
            over = count < wanted
            self.judge_batch(batch, count, judged)
            if verdicts != NULL:
                memcpy(verdicts + done, judged, count)
            if emit:
                for i in range(count):
                    if self.passing >> judged[i] & 1:
                        keep_packet(&self.output, &batch[i])
            done += count
            self.packets += count
        processed[0] = done
        return over

    cdef int read_batch(
        self, walk_t *walk, int link_type, int64_t time_offset_ns, packet_t *batch, int wanted
    ) noexcept nogil:
        """Parses the next records and has their flows fetched; fewer than wanted where the walk is over."""
        cdef walk_t at = walk[0]
        cdef record_t record
        cdef packet_t *packet
        cdef outcome_t outcome
        cdef int count = 0
        while count < wanted and cc_likely(next_record(&at, &record)):
            packet = &batch[count]
            packet.data = record.data
            packet.captured = record.captured
            packet.wire_length = record.wire_length
            packet.ts_ns = record.ts_ns + time_offset_ns
            outcome = parse_link(&self.parser, packet, link_type)
            packet.outcome = outcome
            if cc_likely(outcome < OUTCOME_NOT_IP):
                prefetch_flow(&self.tables[<int>outcome], packet.hash)
            count += 1
        walk[0] = at
        return count

    cdef void judge_batch(self, packet_t *batch, int count, uint8_t *verdicts) noexcept nogil:
        """The verdicts, of verdict_t. What is written out here is the short way of known flows under simple rules."""
        cdef rule_table_t table = self.rule_table[0]
        cdef uint8_t *flows = self.tables[<int>OUTCOME_NARROW].flows
        cdef uint64_t mask = self.tables[<int>OUTCOME_NARROW].mask
        cdef packet_t *packet
        cdef flow_t *flow
        cdef rule_t *rule
        cdef uint64_t slot, endpoints
        cdef int i
        if mask >= FAR_SLOTS:
            look_ahead(batch, count, flows, mask)
        for i in range(count):
            packet = &batch[i]
            if cc_likely(packet.outcome == OUTCOME_NARROW):
                endpoints = packet.endpoints | table.generation
                slot = packet.probable_slot & mask
                flow = <flow_t *>(flows + slot * sizeof(flow_t))
                while ((flow.addresses ^ packet.addresses) | (flow.endpoints ^ endpoints)) != 0:
                    if flow.endpoints == 0:
                        break
                    slot = (slot + 1) & mask
                    flow = <flow_t *>(flows + slot * sizeof(flow_t))
                else:
                    rule = &table.rules[flow.state & STATE_RULE]
                    if cc_likely(rule.quick):
                        verdicts[i] = judge_simply(
                            rule, table.buckets, flow, packet.ts_ns, packet.ip_length, table.averaging_window_ns,
                            &self.time_steps_back,
                        )
                        continue
            verdicts[i] = self.judge(packet)
            # The table may have grown.
            flows = self.tables[<int>OUTCOME_NARROW].flows
            mask = self.tables[<int>OUTCOME_NARROW].mask

    cdef uint8_t judge(self, packet_t *packet) noexcept nogil:
        """The verdict on any packet."""
        cdef table_t *table
        cdef flow_t *flow
        cdef rule_t *rule
        if cc_unlikely(packet.outcome >= OUTCOME_NOT_IP):
            return self.judge_keyless(packet)
        table = &self.tables[<int>packet.outcome]
        flow = find_flow(table, packet)
        if cc_unlikely(flow == NULL or <uint16_t>flow.endpoints != self.rule_table.generation):
            flow = self.assign_rule(table, flow, packet)
        rule = &self.rule_table.rules[flow.state & STATE_RULE]
        if not rule.touched:
            rule.touched = True
            rule.quick = rule.simple
        if cc_likely(rule.simple):
            return judge_simply(
                rule, self.rule_table.buckets, flow, packet.ts_ns, packet.ip_length,
                self.rule_table.averaging_window_ns, &self.time_steps_back,
            )
        return self.judge_fully(table, flow, rule, packet)

    cdef uint8_t judge_keyless(self, const packet_t *packet) noexcept nogil:
        """A packet that has no flow: not IP, or malformed."""
        if packet.outcome == OUTCOME_NOT_IP:
            self.rule_table.rules[NO_RULE].packets[FATE_CONFORMING] += 1
            return VERDICT_UNMATCHED
        self.malformed[<int>packet.outcome] += 1
        return VERDICT_MALFORMED

    cdef uint8_t judge_fully(self, table_t *table, flow_t *flow, rule_t *rule, packet_t *packet) noexcept nogil:
        """Under a rule that is more than one token bucket."""
        return VERDICT_UNMATCHED

    cdef flow_t *assign_rule(self, table_t *table, flow_t *flow, packet_t *packet) noexcept nogil:
        """Classifies a flow that is new (NULL) or was classified under another rule set."""
        cdef rule_table_t *installed = self.rule_table
        cdef uint32_t place = classify(
            installed.filters, installed.filter_count, installed.port_ranges, packet
        )
        cdef rule_t *rule = &installed.rules[place]
        cdef bint stays = False
        if flow == NULL:
            if must_make_room(table):
                self.evict(table, packet.ts_ns)
            flow = insert_flow(table, packet)
        else:
            stays = flow.state & STATE_RULE == place and <uint16_t>flow.endpoints >= rule.born
        flow.state = place
        flow.endpoints = packet.endpoints | installed.generation
        if not rule.touched and rule.packets[FATE_CONFORMING] + rule.packets[FATE_YELLOW] + (
            rule.packets[FATE_EXCEEDING] + rule.packets[FATE_DROPPED]
        ) == 0:
            rule.first_ns = packet.ts_ns
        if rule.per_flow:
            if not stays:
                fill_bucket(&flow.bucket, &rule.limits)
            elif flow.bucket.tokens > rule.limits.capacity:
                flow.bucket.tokens = rule.limits.capacity
        elif rule.own_bucket:
            flow.bucket.tokens = 0
        return flow

    cdef void evict(self, table_t *table, int64_t now_ns) noexcept nogil:
        cdef uint64_t slot = flow_to_evict(table, now_ns)
        if now_ns - flow_at(table, slot).bucket.latest_ns > table.idle_timeout_ns:
            table.aged += 1
        else:
            table.evicted += 1
        remove_flow(table, slot)

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
            finish_growing(&self.tables[i])
            for slot in range(self.tables[i].mask + 1):
                flow = flow_at(&self.tables[i], slot)
                flow.bytes[0] = flow.bytes[1] = 0
                flow.packets[0] = flow.packets[1] = 0
                flow.packets_high[0] = flow.packets_high[1] = 0
        cc_leave(&self.busy)

    def totals(self):
        """Counters of everything that came in."""
        cdef int i
        cdef rule_t *unmatched = &self.rule_table.rules[NO_RULE]
        matched_bytes = sum(counter.bytes for counter in self.book.counters().values())
        return Totals(
            packets=self.packets,
            bytes=unmatched.bytes[FATE_CONFORMING] + self.book.forgotten_bytes + matched_bytes,
            malformed={
                reason: self.malformed[OUTCOME_LINK_HEADER + i]
                for i, reason in enumerate(MALFORMED_REASONS) if self.malformed[OUTCOME_LINK_HEADER + i]
            },
            unmatched_packets=unmatched.packets[FATE_CONFORMING],
            unmatched_bytes=unmatched.bytes[FATE_CONFORMING],
            flows=self.tables[0].created + self.tables[1].created,
            aged_flows=self.tables[0].aged + self.tables[1].aged,
            evicted_flows=self.tables[0].evicted + self.tables[1].evicted,
            time_steps_back=self.time_steps_back,
            fragments_without_first=self.parser.fragments_without_first,
        )

    def rule_counters(self):
        """Counters of every installed rule, by name, in the order in which they are tried."""
        return self.book.counters()

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
                flows.append(FlowCounters(
                    source=source,
                    destination=destination,
                    protocol=<uint8_t>(flow.endpoints >> 24),
                    source_port=flow.endpoints >> 48,
                    destination_port=<uint16_t>(flow.endpoints >> 32),
                    ports_known=not (flow.endpoints >> 16) & FLAG_PORTS_UNKNOWN,
                    rule=self.book.name_of(flow),
                    conforming_packets=flow.packets[1] + (<uint64_t>flow.packets_high[1] << 32),
                    conforming_bytes=flow.bytes[1],
                    excess_packets=flow.packets[0] + (<uint64_t>flow.packets_high[0] << 32),
                    excess_bytes=flow.bytes[0],
                    first_ns=table.now.first_ns[slot] if table.keep_first else 0,
                    last_ns=flow.bucket.latest_ns,
                ))
        return flows


cdef int begin_walk(walk_t *walk, const uint8_t *data, uint64_t size, capture_format, uint64_t offset) except -1:
    if offset > size:
        raise ValueError(f"offset: expected at most {size}, the capture's size, got {offset}")
    walk.data, walk.size, walk.at = data, size, offset
    walk.swapped = capture_format.swapped
    walk.fraction_ns = 1 if capture_format.nanoseconds else 1000
    return 0


def time_span_ns(capture, capture_format, *, uint64_t offset):
    """(earliest, latest) packet time of the whole records from byte ``offset`` on; (0, 0) where there are none."""
    cdef const uint8_t[::1] data = capture
    cdef walk_t walk
    cdef record_t record
    cdef int64_t earliest_ns = 0, latest_ns = 0
    cdef bint first = True
    begin_walk(&walk, &data[0] if data.shape[0] else NULL, data.shape[0], capture_format, offset)
    with nogil:
        while next_record(&walk, &record):
            earliest_ns = record.ts_ns if first or record.ts_ns < earliest_ns else earliest_ns
            latest_ns = record.ts_ns if first or record.ts_ns > latest_ns else latest_ns
            first = False
    return earliest_ns, latest_ns
