"""The engine: batches of captured packets through parse, flow table, classification and token buckets, without the GIL.

Two passes over every batch: the first parses and prefetches each packet's slot of its flow table, the second looks the
flows up and polices. Rules keep their counters by name and their buckets by ``bucket_id`` when a new rule set is installed.
"""

import os
import sys
from ipaddress import IPv4Address, IPv6Address

from cpython.buffer cimport PyBUF_READ, PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset

from bucket cimport bucket_t, fill_bucket, limits_t
from filter_index cimport (
    SIDES, SUBTABLES, classify, close_index, filter_index_t, hash_on, link_filter, reserve_chains, reserve_filters,
    return_place, take_place, unlink_filter,
)
from filters cimport filter_t, names_t, port_range_t
from flowtable cimport (
    AWAITS_NAME, STATE_RULE, close_table, count_flow, find_flow, finish_growing, flow_at, flow_hash, flow_t, flow_to_evict,
    generation_of, insert_flow, look_ahead, must_make_room, open_table, prefetch_flow, remove_flow, table_t, wide_flow_t,
)
from intrinsics cimport cc_enter, cc_leave, cc_likely, cc_prefetch_read, cc_unlikely
from journal cimport forget_flow, journal_t, note_packet, record_place
from marker cimport (
    COLOUR_GREEN, COLOUR_RED, COLOUR_YELLOW, GATED, MARKER_DIFFSERV_TRTCM, MARKER_SRTCM, MARKER_TOKEN_BUCKET, MARKER_TRTCM,
    colour_of_dscp, colour_t, count_delay, departure_ns, enforce, limit_bucket, shared_t, treatment_t,
)
from marking cimport dscp_of, write_dscp
from fragments cimport (
    close_fragments, free_let_go, held_t, let_all_go, next_let_go, open_fragments,
)
from gtpu cimport GTPU_PORT, MESSAGE_COUNT, NO_PORT
from link cimport parse_link
from network cimport MEASURE_L2, MEASURE_L3, MEASURE_L4, choose_way, finish_held, parser_t
from output cimport (
    MOST_OUTPUT_INTERFACES, REFUSED_LINK_TYPE, REFUSED_MEMORY, REFUSED_NOTHING, keep_as_it_stands, keep_packet, output_t,
)
from packet cimport (
    ATTRIBUTE_FLOW_LABEL_BITS, ATTRIBUTE_QFI_KNOWN, ATTRIBUTE_QFI_SHIFT, ATTRIBUTE_TEID_SHIFT, ATTRIBUTE_TOS_SHIFT,
    ATTRIBUTE_TUNNELLED, FLAG_IPV6, FLAG_PORTS_UNKNOWN, OUTCOME_COUNT, OUTCOME_HELD, OUTCOME_LINK_HEADER,
    OUTCOME_NARROW, OUTCOME_NOT_IP, OUTCOME_WIDE, has_ports, has_spi, outcome_t, packet_t,
)
from queue cimport close_queue, hold_back, next_due, queue_t
from records cimport next_record
from transport cimport transport_of, transport_t
from rules cimport (
    FATE_CONFORMING, FATE_DROPPED, FATE_EXCEEDING, FATE_YELLOW, FATES, NO_RULE, count_gated, count_rule, judge_simply,
    rule_t, rule_table_t, touch_rule,
)
from walk cimport interface_t, record_t, walk_t

from upf.counters import AVERAGING_WINDOW_NS, FlowCounters, Measure, RuleCounters, Totals
from upf.errors import OutputError, UpfError
from upf.names.patterns import places_wanting
from upf.rules import Marker, Mode, RulesError, in_order, shared_buckets

# In the order of outcome_t in packet.pxd.
MALFORMED_REASONS = (
    "link_header", "ip_header", "ip_version", "ip_header_length", "ip_total_length", "ip_extension_header",
    "transport_header", "gtpu_header",
)

# In the order of message_t in gtpu.pxd.
GTPU_MESSAGES = (
    "echo_request", "echo_response", "error_indication", "supported_extension_headers_notification", "tunnel_status",
    "end_marker", "g_pdu", "other",
)

cdef enum:
    BATCH = 32
    # From so many slots on, a look-up is likely to wait for memory.
    FAR_SLOTS = 1 << 17
    FIRST_SLOTS = 4096
    LAST_GENERATION = 0x7FFF

cdef int64_t END_OF_TIME_NS = 0x7FFFFFFFFFFFFFFF

cdef enum verdict_t:
    VERDICT_MALFORMED
    VERDICT_UNMATCHED
    VERDICT_CONFORMING
    VERDICT_EXCEEDING
    VERDICT_DROPPED
    VERDICT_YELLOW
    VERDICT_HELD                # of a fragment whose first has not come yet: judged later

# What run() says about each packet, in the order of verdict_t.
MALFORMED, UNMATCHED, CONFORMING, EXCEEDING, DROPPED, YELLOW, HELD = range(7)

include "filter_book.pxi"
include "treatment_book.pxi"
include "rule_book.pxi"
include "names.pxi"
include "journal.pxi"
include "walk.pxi"


cdef class Engine:
    """One share-nothing instance of the packet path.

    max_flows: bound on the flow table, for IPv4 and IPv6 each. flow_idle_timeout_ns: packet time after which a full table
    may forget an idle flow. flow_times: keep each flow's first packet time (8 bytes a slot). pass_unmatched: whether packets
    that no rule wants are passed, or only counted. measure: what counts as a packet's bytes. gtpu: whether the packet in a
    G-PDU counts in place of that which carries it. journal: JournalOptions; what it asks for is noted until end_journal(),
    and must be taken between runs. It does not go with flow_times.
    """

    cdef parser_t parser
    cdef table_t tables[2]
    cdef RuleBook book
    cdef rule_table_t *rule_table   # the book's
    cdef NameSeeker seeker
    cdef readonly uint64_t packets  # judged; those that are held are not yet
    cdef uint64_t malformed[OUTCOME_COUNT]
    cdef uint64_t time_steps_back
    cdef int64_t latest_ns      # of the last packet processed
    cdef output_t output
    cdef queue_t queue          # what passes but leaves later
    cdef uint8_t *marked        # a packet's bytes as they leave
    cdef size_t marked_room
    cdef uint32_t passing       # of the verdicts, a bit each: which packets go on
    cdef int busy               # run() or whatever else must have the engine for itself is under way
    cdef int64_t idle_timeout_ns
    cdef Journal journal        # None where nothing is noted ...
    cdef journal_t *noted       # ... and NULL also where nothing is noted any more

    def __cinit__(
        self, *, uint64_t max_flows=1_048_576, int64_t flow_idle_timeout_ns=300_000_000_000, bint flow_times=False,
        bint pass_unmatched=True, measure=Measure.L3, bint gtpu=True, journal=None,
    ):
        cdef int i
        if max_flows < 1:
            raise UpfError(f"max_flows: expected at least 1, got {max_flows}")
        if journal is not None and flow_times:
            raise ValueError("flow_times: the journal's records have them")
        if journal is not None:
            self.journal = Journal(journal)
            self.noted = &self.journal.noted
        self.parser.seed = int.from_bytes(os.urandom(8), "little") | 1
        self.parser.gtpu_port = GTPU_PORT if gtpu else NO_PORT
        self.parser.measure = {
            Measure.L2: MEASURE_L2, Measure.L3: MEASURE_L3, Measure.L4: MEASURE_L4
        }[Measure(measure)]
        choose_way(&self.parser)
        if not open_fragments(&self.parser.fragments, self.parser.seed):
            raise MemoryError
        self.idle_timeout_ns = flow_idle_timeout_ns
        self.passing = (1 << VERDICT_CONFORMING) | (1 << VERDICT_YELLOW) | (1 << VERDICT_EXCEEDING)
        if pass_unmatched:
            self.passing |= 1 << VERDICT_UNMATCHED
        for i in range(2):
            self.tables[i].shift = 6 + i
            self.tables[i].bound = max_flows
            self.tables[i].seed = self.parser.seed
            self.tables[i].idle_timeout_ns = flow_idle_timeout_ns
            self.tables[i].keep_first = flow_times or journal is not None
            if not open_table(&self.tables[i], FIRST_SLOTS):
                raise MemoryError
        self.book = RuleBook()
        self.rule_table = &self.book.table
        self.seeker = NameSeeker()
        self.seeker.rules_changed(self.book.filters)
        self.rule_table.averaging_window_ns = AVERAGING_WINDOW_NS

    def __dealloc__(self):
        cdef int i
        close_fragments(&self.parser.fragments)
        for i in range(2):
            close_table(&self.tables[i])
        free(self.output.data)
        free(self.marked)
        close_queue(&self.queue)

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
        given = list(rules)
        in_order(given)
        self.enter("install()")
        try:
            self.book.install(given)
            self.rules_changed()
        finally:
            cc_leave(&self.busy)

    def update(self, *, add=(), remove=()):
        """Adds rules, in place of those of the same names, and removes those named: all of it or, on an error, nothing.

        What is kept is as with install(). A rule that replaces another keeps its turn among those of equal precedence, a
        new one follows them. The cost is that of the change, however many rules there are.

        Raises RulesError where a name to be removed is unknown, or rules contradict each other or those that stay;
        RuntimeError while run() is under way.
        """
        added, removed = list(add), list(remove)
        in_order(added)
        self.enter("update()")
        try:
            self.book.update(added, removed)
            self.rules_changed()
        finally:
            cc_leave(&self.busy)

    cdef rules_changed(self):
        # A flow that has its own bucket is not forgotten before that bucket would be full anyway.
        self.tables[0].idle_timeout_ns = max(self.idle_timeout_ns, self.book.longest_filling_ns())
        self.tables[1].idle_timeout_ns = self.tables[0].idle_timeout_ns
        self.parser.tos_mask = self.book.filters.tos_mask()
        self.parser.flow_label = self.book.filters.flow_labels != 0
        self.parser.located = self.book.treatments.locating != 0
        if self.book.treatments.widening != 0 and not self.parser.wide:
            self.widen()
        choose_way(&self.parser)
        self.seeker.rules_changed(self.book.filters)
        self.next_generation()

    cdef widen(self):
        """From now on every flow has a wide entry, with room for a second bucket; those that there are move over.

        What has been widened stays so: no flow comes back to a place that it has left.
        """
        cdef table_t *narrow = &self.tables[<int>OUTCOME_NARROW]
        cdef table_t *wide = &self.tables[<int>OUTCOME_WIDE]
        cdef wide_flow_t moving
        cdef packet_t packet
        cdef flow_t *flow
        cdef uint64_t slot
        finish_growing(narrow)
        memset(&moving, 0, sizeof(wide_flow_t))
        packet.addresses6 = moving.addresses6
        packet.attributes[0] = packet.attributes[1] = 0
        for slot in range(narrow.mask + 1):
            flow = flow_at(narrow, slot)
            if flow.endpoints == 0:
                continue
            moving.flow = flow[0]
            packet.addresses = flow.addresses
            packet.endpoints = flow.endpoints & ~<uint64_t>0xFFFF
            packet.hash = flow_hash(wide, &moving.flow)
            packet.ts_ns = narrow.now.first_ns[slot] if narrow.keep_first else 0
            if must_make_room(wide):
                self.evict(wide, flow.bucket.latest_ns)
            insert_flow(wide, &packet)[0] = moving.flow
            wide.created -= 1
            memset(flow, 0, sizeof(flow_t))
        narrow.count = 0
        self.parser.wide = True

    cdef next_generation(self):
        """From now on every flow is classified anew with its next packet."""
        cdef uint64_t slot
        cdef flow_t *flow
        cdef uint32_t place
        cdef int i
        if self.rule_table.generation < LAST_GENERATION:
            self.rule_table.generation += 1
            return
        # The 15 bits are used up: every flow becomes one of generation 0, and every rule one that was there already.
        for i in range(2):
            finish_growing(&self.tables[i])
            for slot in range(self.tables[i].mask + 1):
                flow = flow_at(&self.tables[i], slot)
                if flow.endpoints != 0:
                    if generation_of(flow) < self.rule_table.rules[flow.state & STATE_RULE].born:
                        flow.state = NO_RULE
                    flow.endpoints &= ~<uint64_t>0xFFFF
        for place in range(<uint32_t>len(self.book.rule_names)):
            self.rule_table.rules[place].born = 0
        self.rule_table.generation = 1

    # --- packets --------------------------------------------------------------------------------------------------

    def run(
        self, capture, capture_format, *, uint64_t offset, uint64_t max_packets, int64_t time_offset_ns=0,
        emit=None, verdicts=None,
    ):
        """Processes the packets of ``capture`` from byte ``offset`` on, at most ``max_packets`` of them.

        capture: contiguous bytes. capture_format: a CaptureFormat of a pcap or the Walk through a pcapng. time_offset_ns: added
        to every timestamp. emit: called, before this returns, with what passed, as begin_output() has said: one memoryview or
        more, which are valid during the call only. verdicts: a writable buffer of at least ``max_packets`` bytes that gets one
        verdict a packet.

        A fragment that comes before its first is HELD, and judged right after that or when its time is over.

        Returns (offset after the last whole record, packets processed, whether the walk is over: nothing is left, or no whole
        record stands at the offset). Raises ValueError where the offset lies outside of the capture or the verdicts have no
        room, RuntimeError while another call has the engine, OutputError where a packet has no place in the output (those
        before it have been emitted), and whatever ``emit`` raises.
        """
        cdef Py_buffer view, verdict_view
        cdef uint64_t processed = 0
        cdef bint over, judged = False
        cdef uint8_t *verdict = NULL
        cdef walk_t walk
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
            try:
                if self.noted != NULL:
                    self.journal.make_room(len(self.book.rule_names))
                if emit is not None and time_offset_ns == 0 and self.is_laid_out_alike(&walk):
                    self.output.input, self.output.input_length = walk.data, walk.size
                with nogil:
                    over = self.run_records(
                        &walk, max_packets, time_offset_ns, emit is not None, verdict, &processed
                    )
                leave_walk(&walk, capture_format)
                self.output.input_length = 0
                if emit is not None:
                    self.hand_over(emit)
            finally:
                cc_leave(&self.busy)
        finally:
            if judged:
                PyBuffer_Release(&verdict_view)
            PyBuffer_Release(&view)
        self.seeker.raise_failure()
        if self.noted != NULL:
            self.journal.check()
        return walk.at, processed, over

    cdef bint run_records(
        self, walk_t *walk, uint64_t max_packets, int64_t time_offset_ns, bint emit, uint8_t *verdicts,
        uint64_t *processed,
    ) noexcept nogil:
        cdef packet_t batch[BATCH]
        cdef uint8_t judged[BATCH]
        cdef bint over = False
        cdef uint64_t done = 0
        cdef int wanted, count, i
        while not over and done < max_packets:
            wanted = BATCH if max_packets - done >= BATCH else <int>(max_packets - done)
            count = self.read_batch(walk, time_offset_ns, batch, wanted)
            over = count < wanted
            if cc_unlikely(self.parser.fragments.let_go != 0 or self.noted != NULL):
                self.judge_one_by_one(batch, count, judged, emit)
            else:
                self.judge_batch(batch, count, judged)
                if emit:
                    for i in range(count):
                        if self.passing >> judged[i] & 1:
                            self.emit_packet(&batch[i])
            if verdicts != NULL:
                memcpy(verdicts + done, judged, count)
            if cc_likely(count != 0):
                self.latest_ns = batch[count - 1].ts_ns
            done += count
            self.packets += count
        processed[0] = done
        return over

    cdef int read_batch(
        self, walk_t *walk, int64_t time_offset_ns, packet_t *batch, int wanted
    ) noexcept nogil:
        """Parses the next records and has their flows fetched; fewer than wanted where the walk is over."""
        cdef walk_t at = walk[0]
        cdef record_t record
        cdef packet_t *packet
        cdef outcome_t outcome
        cdef int count = 0
        while count < wanted and cc_likely(next_record(&at, &record)):
            packet = &batch[count]
            # The processor's own fetching ahead stops at the end of each page.
            cc_prefetch_read(record.data + 1024)
            packet.data = record.data
            packet.captured = record.captured
            packet.wire_length = record.wire_length
            packet.ts_ns = record.ts_ns + time_offset_ns
            packet.link_type = record.link_type
            outcome = parse_link(&self.parser, packet, <int>record.link_type)
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

    def finish(self, *, emit=None):
        """The input is over: fragments still held are judged without their first, at the time of the last packet.

        What shaping still holds back leaves now. ``emit`` is called, and errors are raised, as by run().
        """
        cdef bint emits = emit is not None
        self.enter("finish()")
        try:
            with nogil:
                let_all_go(&self.parser.fragments, self.latest_ns)
                self.parser.holding = False
                choose_way(&self.parser)
                self.judge_let_go(NULL, emits)
                self.release_all()
            if emits:
                self.hand_over(emit)
        finally:
            cc_leave(&self.busy)
        self.seeker.raise_failure()

    cdef void judge_one_by_one(self, packet_t *batch, int count, uint8_t *verdicts, bint emit) noexcept nogil:
        """A batch of which each packet is noted, or between whose packets fragments stand that are held no longer."""
        cdef transport_t transport
        cdef int i
        for i in range(count):
            self.judge_let_go(&batch[i], emit)
            self.judge_batch(&batch[i], 1, &verdicts[i])
            if self.noted != NULL and batch[i].outcome < OUTCOME_NOT_IP:
                transport.tcp_flags = 0
                if self.noted.records_flows and <uint8_t>(batch[i].endpoints >> 24) == 6:
                    transport_of(&batch[i], <int>batch[i].link_type, self.parser.gtpu_port, &transport)
                self.note(&batch[i], verdicts[i], transport.tcp_flags)
            if emit and self.passing >> verdicts[i] & 1:
                self.emit_packet(&batch[i])
        self.judge_let_go(NULL, emit)

    cdef void judge_let_go(self, const packet_t *before, bint emit) noexcept nogil:
        """Judges the fragments that are held no longer and stand before a packet of the batch (NULL: all of them)."""
        cdef held_t *held = next_let_go(&self.parser.fragments, before)
        cdef uint8_t verdict
        while held != NULL:
            self.packets += 1
            finish_held(&self.parser, held)
            verdict = self.judge(&held.packet)
            if self.noted != NULL:
                self.note(&held.packet, verdict, 0)
            if emit and self.passing >> verdict & 1:
                self.emit_packet(&held.packet)
            free_let_go(&self.parser.fragments)
            held = next_let_go(&self.parser.fragments, before)

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
            touch_rule(self.rule_table, rule)
        if cc_likely(rule.simple):
            return judge_simply(
                rule, self.rule_table.buckets, flow, packet.ts_ns, packet.ip_length,
                self.rule_table.averaging_window_ns, &self.time_steps_back,
            )
        return self.judge_fully(table, flow, rule, packet)

    cdef uint8_t judge_keyless(self, const packet_t *packet) noexcept nogil:
        """A packet that has no flow: not IP, or malformed, or a fragment that has none yet."""
        if packet.outcome == OUTCOME_NOT_IP:
            self.rule_table.rules[NO_RULE].packets[FATE_CONFORMING] += 1
            return VERDICT_UNMATCHED
        if packet.outcome == OUTCOME_HELD:
            self.packets -= 1
            return VERDICT_HELD
        self.malformed[<int>packet.outcome] += 1
        return VERDICT_MALFORMED

    cdef uint8_t judge_fully(self, table_t *table, flow_t *flow, rule_t *rule, packet_t *packet) noexcept nogil:
        """Under a rule that is more than one token bucket."""
        cdef treatment_t *treatment = &self.rule_table.treatments[rule.treatment]
        cdef bucket_t *bucket = NULL
        cdef int64_t no_tokens = 0
        cdef int64_t *excess_tokens = &no_tokens
        cdef int64_t ts_ns = packet.ts_ns
        cdef colour_t colour = COLOUR_GREEN
        cdef uint64_t fate
        if rule.limits.cost_of_byte != 0:
            if rule.own_bucket:
                bucket = &flow.bucket
                if table.shift == 7:
                    excess_tokens = &(<wide_flow_t *>flow).excess_tokens
            else:
                bucket = &self.rule_table.buckets[rule.bucket]
                excess_tokens = &self.rule_table.shared[rule.bucket].excess_tokens
        if treatment.colour_aware:
            colour = colour_of_dscp(dscp_of(packet.data + packet.network_offset))
        colour = enforce(
            treatment, &rule.limits, bucket, excess_tokens, self.rule_table.buckets, self.rule_table.shared, ts_ns,
            packet.ip_length, colour, &self.time_steps_back,
        )
        if bucket != &flow.bucket and ts_ns > flow.bucket.latest_ns:
            flow.bucket.latest_ns = ts_ns
        count_flow(flow, packet.ip_length, colour < COLOUR_RED)
        if colour == GATED:
            treatment.gated_packets += 1
            count_gated(rule, ts_ns, packet.ip_length)
            return rule.verdicts[FATE_DROPPED]
        fate = FATE_CONFORMING if colour == COLOUR_GREEN else FATE_YELLOW if colour == COLOUR_YELLOW else rule.above
        count_rule(
            rule, ts_ns, packet.ip_length, fate, -<int64_t>(colour == COLOUR_RED), self.rule_table.averaging_window_ns
        )
        if treatment.marks:
            packet.dscp = treatment.dscp[<int>colour]
        if treatment.shapes and colour != COLOUR_RED:
            packet.departs_ns = departure_ns(bucket, &rule.limits)
            count_delay(treatment, packet.departs_ns - ts_ns)
        return rule.verdicts[fate]

    cdef void note(self, packet_t *packet, uint8_t verdict, uint8_t tcp_flags) noexcept nogil:
        """The journal's part of a packet that has been judged, before the next one can evict its flow."""
        cdef table_t *table = &self.tables[<int>packet.outcome]
        cdef flow_t *flow = find_flow(table, packet)
        cdef rule_t *rule = &self.rule_table.rules[flow.state & STATE_RULE]
        # What a closed gate stops was not above any rate.
        cdef bint excess = (
            (verdict == VERDICT_EXCEEDING or verdict == VERDICT_DROPPED)
            and self.rule_table.treatments[rule.treatment].gate_open
        )
        cdef int64_t passes_ns = packet.ts_ns
        if self.parser.located and packet.departs_ns > packet.ts_ns:
            passes_ns = packet.departs_ns
        note_packet(self.noted, table, flow, packet, passes_ns, tcp_flags, self.passing >> verdict & 1, excess)

    cdef flow_t *assign_rule(self, table_t *table, flow_t *flow, packet_t *packet) noexcept nogil:
        """Classifies a flow that is new (NULL) or was classified under another rule set."""
        cdef rule_table_t *installed = self.rule_table
        cdef const names_t *names = self.seeker.names_of(packet, <int>packet.link_type, self.parser.gtpu_port)
        cdef uint32_t place
        cdef rule_t *rule
        cdef bint stays = False, awaits_name
        place = classify(installed.index, packet, names, &awaits_name)
        rule = &installed.rules[place]
        if flow == NULL:
            if must_make_room(table):
                self.evict(table, packet.ts_ns)
            flow = insert_flow(table, packet)
            if self.noted != NULL:
                record_place(table, flow)[0] = 0
        else:
            stays = flow.state & STATE_RULE == place and generation_of(flow) >= rule.born
        flow.state = place
        flow.endpoints = packet.endpoints | installed.generation | (0 if names.settled else AWAITS_NAME)
        if rule.packets[FATE_CONFORMING] + rule.packets[FATE_YELLOW] + (
            rule.packets[FATE_EXCEEDING] + rule.packets[FATE_DROPPED]
        ) == 0:
            rule.first_ns = packet.ts_ns
        if rule.per_flow:
            self.limit_flow(table, flow, rule, stays)
        elif rule.own_bucket:
            flow.bucket.tokens = 0
        return flow

    cdef void limit_flow(self, table_t *table, flow_t *flow, rule_t *rule, bint stays) noexcept nogil:
        """The limits of a flow's own bucket, which is a new one unless the flow stays under its rule."""
        cdef treatment_t *treatment = &self.rule_table.treatments[rule.treatment]
        cdef int64_t no_tokens = 0
        cdef int64_t *excess_tokens = &(<wide_flow_t *>flow).excess_tokens if table.shift == 7 else &no_tokens
        if stays:
            limit_bucket(
                &flow.bucket, excess_tokens, &rule.limits, &treatment.excess, treatment.owed_at_most
            )
        else:
            fill_bucket(&flow.bucket, &rule.limits)
            excess_tokens[0] = treatment.excess.capacity

    cdef void evict(self, table_t *table, int64_t now_ns) noexcept nogil:
        cdef uint64_t slot = flow_to_evict(table, now_ns)
        if now_ns - flow_at(table, slot).bucket.latest_ns > table.idle_timeout_ns:
            table.aged += 1
        else:
            table.evicted += 1
        if self.noted != NULL:
            forget_flow(self.noted, &table.now.first_ns[slot], now_ns)
        remove_flow(table, slot)

    cdef inline void emit_packet(self, packet_t *packet) noexcept nogil:
        """Keeps a packet that passes."""
        if cc_unlikely(self.parser.located or self.queue.count != 0):
            self.emit_treated(packet)
        else:
            keep_as_it_stands(&self.output, packet)

    cdef void emit_treated(self, packet_t *packet) noexcept nogil:
        """One that may have been marked or delayed; those that leave before it go before it."""
        self.release(packet.ts_ns)
        if packet.dscp < 0 and packet.departs_ns <= packet.ts_ns:
            keep_as_it_stands(&self.output, packet)
            return
        if packet.dscp >= 0:
            self.mark(packet)
        if packet.departs_ns > packet.ts_ns:
            # Rounded up to what the output can say: nothing leaves before it may.
            packet.ts_ns = packet.departs_ns
            if not self.output.nanoseconds:
                packet.ts_ns = (packet.ts_ns + 999) // 1000 * 1000
            if packet.ts_ns > self.queue.latest_ns:
                if not hold_back(&self.queue, packet, packet.ts_ns):
                    self.output.refusal = REFUSED_MEMORY
                return
        keep_packet(&self.output, packet)

    cdef void mark(self, packet_t *packet) noexcept nogil:
        """Writes the DSCP into a copy of the bytes, which is good until the next."""
        cdef uint8_t *larger
        if packet.captured > self.marked_room:
            larger = <uint8_t *>realloc(self.marked, 2 * <size_t>packet.captured)
            if larger == NULL:
                self.output.refusal = REFUSED_MEMORY
                return
            self.marked, self.marked_room = larger, 2 * <size_t>packet.captured
        memcpy(self.marked, packet.data, packet.captured)
        packet.data = self.marked
        write_dscp(self.marked, packet.network_offset, packet.udp_offset, packet.dscp)

    cdef void release(self, int64_t now_ns) noexcept nogil:
        """Packet time has come to ``now_ns``: what leaves by then has left."""
        cdef packet_t *packet
        if now_ns < self.queue.latest_ns - 10000000000LL:
            # The clock was set back: what was held has no time in common with what comes.
            self.release_all()
            self.queue.latest_ns = now_ns
        elif now_ns > self.queue.latest_ns:
            self.queue.latest_ns = now_ns
        packet = next_due(&self.queue, self.queue.latest_ns)
        while packet != NULL:
            keep_packet(&self.output, packet)
            free(packet)
            packet = next_due(&self.queue, self.queue.latest_ns)

    cdef void release_all(self) noexcept nogil:
        cdef packet_t *packet = next_due(&self.queue, END_OF_TIME_NS)
        while packet != NULL:
            keep_packet(&self.output, packet)
            free(packet)
            packet = next_due(&self.queue, END_OF_TIME_NS)

    # --- the packets that passed ----------------------------------------------------------------------------------

    def begin_output(self, output_format):
        """How run() is to lay out what it emits: an `upf.captures.writing.OutputFormat`. What was kept is dropped.

        Link types that a pcapng has no interface for are described when their first packet comes.
        """
        link_types = list(output_format.link_types)[:MOST_OUTPUT_INTERFACES]
        self.enter("begin_output()")
        self.output.pcapng, self.output.nanoseconds = output_format.pcapng, output_format.nanoseconds
        self.output.length = self.output.run_length = 0
        self.output.refusal = REFUSED_NOTHING
        self.output.interface_count = <uint32_t>len(link_types)
        for place, link_type in enumerate(link_types):
            self.output.link_types[<int>place] = link_type
        cc_leave(&self.busy)

    cdef bint is_laid_out_alike(self, const walk_t *walk):
        """Whether the records of the walk are laid out as those of the output."""
        return (
            not self.output.pcapng and not walk.blocks and not walk.swapped
            and self.output.nanoseconds == (walk.fraction_ns == 1) and self.output.link_types[0] == walk.link_type
        )

    cdef hand_over(self, emit):
        """Emits what is kept. The run still stands in the input."""
        cdef size_t kept = self.output.length, run = self.output.run_length
        self.output.length = self.output.run_length = 0
        if kept:
            with PyMemoryView_FromMemory(<char *>self.output.data, kept, PyBUF_READ) as view:
                emit(view)
        if run:
            with PyMemoryView_FromMemory(<char *>self.output.run, run, PyBUF_READ) as view:
                emit(view)
        if self.output.refusal == REFUSED_NOTHING:
            return
        if self.output.refusal == REFUSED_MEMORY:
            raise MemoryError("no memory for the packets that passed")
        if self.output.refusal == REFUSED_LINK_TYPE:
            raise OutputError(
                f"a packet of link type {self.output.refused_link_type} has no place in a pcap of link type "
                f"{self.output.link_types[0]}, but has in a pcapng"
            )
        raise OutputError("a packet later than the year 2105 has no place in a pcap, but has in a pcapng")

    # --- what the journal noted -----------------------------------------------------------------------------------

    def take_flow_records(self):
        """The FlowRecords that have ended since the last call, in the order in which they did."""
        return self.taken("take_flow_records()", Journal.take_records)

    def take_slots(self):
        """The TimeSlots since the last call; one slot of a rule may come in pieces."""
        return self.taken("take_slots()", Journal.take_slots)

    def take_violations(self):
        """The Violations that are over since the last call."""
        return self.taken("take_violations()", Journal.take_violations)

    def end_journal(self, *, uint64_t max_records):
        """Nothing is noted any more. Ends at most so many of the records that are open; whether none is open any more."""
        if self.journal is None:
            return True
        self.enter("end_journal()")
        try:
            self.noted = NULL
            return self.journal.end(max_records)
        finally:
            cc_leave(&self.busy)

    cdef list taken(self, str what, list (*take)(Journal, RuleBook)):
        if self.journal is None:
            return []
        self.enter(what)
        try:
            return take(self.journal, self.book)
        finally:
            cc_leave(&self.busy)

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
        return Totals(
            packets=self.packets,
            bytes=unmatched.bytes[FATE_CONFORMING] + self.book.matched_bytes(),
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
            fragments_without_first=self.parser.fragments.without_first,
            gtpu={
                message: self.parser.messages[i] for i, message in enumerate(GTPU_MESSAGES) if self.parser.messages[i]
            },
        )

    def rule_counters(self):
        """Counters of every installed rule, by name, in the order in which they are tried."""
        return self.book.counters()

    def harvest(self):
        """Counters of the rules that have counted something since the last harvest, by name; cumulative, as all are."""
        self.enter("harvest()")
        try:
            return self.book.harvest()
        finally:
            cc_leave(&self.busy)

    def inspection(self):
        """What looking into packets for names has done, as InspectorCounters; None where no rule has asked for a name."""
        return None if self.seeker.inspector is None else self.seeker.inspector.counters()

    def lookups(self):
        """What classification has cost since the last install(): (look-ups, chains sought, filters compared)."""
        cdef filter_index_t *index = self.rule_table.index
        return index.lookups, index.probes, index.comparisons

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
                    source_port=0 if has_spi(<uint8_t>(flow.endpoints >> 24)) else flow.endpoints >> 48,
                    destination_port=(
                        0 if has_spi(<uint8_t>(flow.endpoints >> 24)) else <uint16_t>(flow.endpoints >> 32)
                    ),
                    ports_known=not (flow.endpoints >> 16) & FLAG_PORTS_UNKNOWN,
                    rule=self.book.name_of(flow),
                    conforming_packets=flow.packets[1] + (<uint64_t>flow.packets_high[1] << 32),
                    conforming_bytes=flow.bytes[1],
                    excess_packets=flow.packets[0] + (<uint64_t>flow.packets_high[0] << 32),
                    excess_bytes=flow.bytes[0],
                    first_ns=table.now.first_ns[slot] if table.keep_first and self.journal is None else 0,
                    last_ns=flow.bucket.latest_ns,
                    spi=spi_of(flow),
                    teid=(<wide_flow_t *>flow).attributes[0] >> ATTRIBUTE_TEID_SHIFT if is_tunnelled(table, flow) else None,
                    qfi=qfi_of(<wide_flow_t *>flow) if is_tunnelled(table, flow) else None,
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


def dissect(link_type, const uint8_t[::1] data, wire_length, *, bint gtpu=True):
    """Where things stand in the captured bytes of an IP packet, or None where it is not one; 0 is nowhere.

    Returns (IP header, transport header, payload, end of the packet, TCP flags, ToS, flow label).
    """
    cdef packet_t packet
    cdef transport_t transport
    packet.data = &data[0] if data.shape[0] else NULL
    packet.captured, packet.wire_length = data.shape[0], wire_length
    if not transport_of(&packet, link_type, GTPU_PORT if gtpu else NO_PORT, &transport):
        return None
    return (
        transport.network, transport.offset, transport.payload, transport.end, transport.tcp_flags, transport.tos,
        transport.flow_label,
    )
