"""The engine: batches of captured packets through parse, flow table, classification and token buckets, without the GIL.

Two passes over every batch: the first parses and prefetches each packet's slot of its flow table, the second looks the
flows up and polices. Rules keep their counters by name and their buckets by ``bucket_id`` when a new rule set is installed.
"""

import os
import socket
import sys
from ipaddress import IPv4Address, IPv6Address
from threading import Lock

from cpython.buffer cimport PyBUF_READ, PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.errno cimport (
    EAGAIN, EBADF, EBADFD, EINTR, EINVAL, EIO, EMSGSIZE, ENOBUFS, ENOMEM, ENOTSOCK, errno,
)
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset
from posix.uio cimport writev
from posix.unistd cimport read, write

from bucket cimport bucket_t, fill_bucket, limits_t
from datagrams cimport (
    CC_INBOX, CC_OUTBOX, CC_PEER_BYTES, cc_checksum, cc_inbox_age, cc_inbox_length, cc_inbox_peer, cc_inbox_peer_bytes,
    cc_inbox_receive, cc_inbox_segment, cc_inbox_t, cc_make_peer, cc_outbox_data, cc_outbox_length, cc_outbox_send,
    cc_outbox_send_part, cc_outbox_set, cc_outbox_t, cc_send_to, cc_set_port,
)
from door cimport cc_door_t, cc_enter, cc_enter_when_free, cc_leave, cc_open_door
from filter_index cimport (
    SIDES, SUBTABLES, classify, close_index, filter_index_t, hash_on, link_filter, reserve_chains, reserve_filters,
    return_place, take_place, unlink_filter,
)
from filters cimport filter_t, names_t, port_range_t
from flowtable cimport (
    AWAITS_NAME, SLOT_MOVED, STATE_RULE, close_table, count_flow, find_flow, finish_growing, flow_at, flow_hash, flow_in,
    flow_t, flow_to_evict, generation_of, hinted_slot, insert_flow, must_make_room, open_table, prefetch_flow, remove_flow,
    slots_t, table_t, wide_flow_t,
)
from intrinsics cimport (
    cc_likely, cc_network16, cc_network32, cc_network64, cc_prefetch_read, cc_prefetch_write, cc_ticks, cc_unlikely,
)
from journal cimport forget_flow, journal_t, name_t, note_packet, record_place
from marker cimport (
    COLOUR_GREEN, COLOUR_RED, COLOUR_YELLOW, GATED, MARKER_DIFFSERV_TRTCM, MARKER_SRTCM, MARKER_TOKEN_BUCKET, MARKER_TRTCM,
    colour_of_dscp, colour_t, count_delay, departure_ns, enforce, limit_bucket, shared_t, treatment_t,
)
from marking cimport dscp_of, write_dscp
from fragments cimport (
    close_fragments, free_let_go, held_t, let_all_go, let_expired_go, next_let_go, open_fragments,
)
from gtpu cimport (
    GTPU_PORT, MESSAGE_COUNT, MESSAGE_ECHO_REQUEST, MESSAGE_ECHO_RESPONSE, MESSAGE_ERROR_INDICATION, MESSAGE_G_PDU, NO_PORT,
    message_t, read_gtpu, tunnel_t,
)
from link cimport LINK_RAW, attribute_of, parse_inner, parse_link
from network cimport MEASURE_L2, MEASURE_L3, MEASURE_L4, choose_way, finish_held, parser_t
from output cimport (
    MOST_OUTPUT_INTERFACES, REFUSED_LINK_TYPE, REFUSED_MEMORY, REFUSED_NOTHING, keep_as_it_stands, keep_packet, output_t,
)
from packet cimport (
    ATTRIBUTE_FLOW_LABEL_BITS, ATTRIBUTE_QFI_KNOWN, ATTRIBUTE_QFI_SHIFT, ATTRIBUTE_TEID_SHIFT, ATTRIBUTE_TOS_SHIFT,
    ATTRIBUTE_TUNNELLED, FLAG_IPV6, FLAG_PORTS_UNKNOWN, OUTCOME_COUNT, OUTCOME_GTPU_HEADER, OUTCOME_HELD,
    OUTCOME_IP_HEADER, OUTCOME_IP_TOTAL_LENGTH, OUTCOME_IP_VERSION, OUTCOME_LINK_HEADER, OUTCOME_NARROW, OUTCOME_NOT_IP,
    OUTCOME_TUNNEL, OUTCOME_WIDE, has_ports, has_spi, outcome_t, packet_t,
)
from queue cimport close_queue, hold_back, next_due, queue_t
from records cimport next_record
from superpacket cimport (
    MOST_HEADER_BYTES, VNET_BYTES, VNET_NEEDS_CHECKSUM, payload_of, piece, pieces_length, put16, read_super,
    segment_length, super_t, vnet_t, wire_length,
)
from system cimport aligned_alloc, cc_hasten, cc_monotonic_ns, cc_utc_ns, cc_wait, cc_waited_ns, cc_write_both
from train cimport car_t, couple, follows, hang_on, read_car, train_t
from transport cimport transport_of, transport_t
from tunnels cimport (
    MOST_OUTER_BYTES, add_tunnel, close_tunnels, encapsulate, find_tunnel, key_of_ipv4, key_of_ue, remove_tunnel,
    reserve_ends, reserve_keys, tunnel_end_t, tunnel_table_t, write_outer,
)
from rules cimport (
    FATE_CONFORMING, FATE_DROPPED, FATE_EXCEEDING, FATE_YELLOW, FATES, NO_RULE, count_gated, count_rule, judge_simply,
    rule_t, rule_table_t, touch_rule,
)
from walk cimport interface_t, record_t, walk_t

from upf.active_flow import ActiveFlow
from upf.counters import AVERAGING_WINDOW_NS, FlowCounters, Measure, RuleCounters, Totals, WireCounters
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
    STAGES = 6                  # that run_timed() tells apart
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
include "departures.pxi"
include "flow_counters.pxi"
include "packet_path.pxi"


cdef class Engine(PacketPath):
    """One share-nothing instance of the packet path.

    max_flows: bound on the flow table, for IPv4 and IPv6 each. flow_idle_timeout_ns: packet time after which a full table
    may forget an idle flow. flow_times: keep each flow's first packet time (8 bytes a slot). pass_unmatched: whether packets
    that no rule wants are passed, or only counted. measure: what counts as a packet's bytes. gtpu: whether the packet in a
    G-PDU counts in place of that which carries it. journal: JournalOptions; what it asks for is noted until end_journal(),
    and must be taken between runs. It does not go with flow_times.
    """

    cdef cc_door_t busy         # run() or whatever else must have the engine for itself is under way
    cdef bint live              # a wire has the engine now and then, for less than is worth an error
    cdef int64_t idle_timeout_ns

    def __cinit__(
        self, *, uint64_t max_flows=1_048_576, int64_t flow_idle_timeout_ns=300_000_000_000, bint flow_times=False,
        bint pass_unmatched=True, measure=Measure.L3, bint gtpu=True, journal=None,
    ):
        cdef int i
        if cc_open_door(&self.busy):
            raise MemoryError
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
        self.departures = Departures()
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

    cdef int enter(self, str what) except -1:
        if cc_enter(&self.busy):
            return 0
        if not self.live:
            raise RuntimeError(f"{what} while another call has the engine: one at a time")
        # The wire may be waiting for the interpreter.
        with nogil:
            cc_enter_when_free(&self.busy)
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

    def share_names(self, Engine other not None):
        """Names that either engine finds from now on are known to both: each sees one direction of the same connections.

        A client says its name on the way up, DNS answers come down. While the rules of either ask for names, both look into
        packets for them.
        """
        self.enter("share_names()")
        try:
            self.seeker.share(other.seeker)
        finally:
            cc_leave(&self.busy)

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
                if emit is not None and time_offset_ns == 0 and self.departures.is_laid_out_alike(&walk):
                    self.departures.output.input, self.departures.output.input_length = walk.data, walk.size
                with nogil:
                    over = self.run_records(
                        &walk, max_packets, time_offset_ns, emit is not None, verdict, &processed
                    )
                leave_walk(&walk, capture_format)
                self.departures.output.input_length = 0
                if emit is not None:
                    self.departures.hand_over(emit)
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

    def run_timed(
        self, capture, capture_format, *, uint64_t offset, uint64_t max_packets, int64_t time_offset_ns=0, emit=None
    ):
        """As run(), with a stop-watch around each stage of each batch; slower, and without a journal.

        Returns what run() does, and behind it the ticks spent on reading records, parsing, looking flows up, looking them up
        once more (which judging does too), judging, output, and all in all.
        """
        cdef Py_buffer view
        cdef uint64_t processed = 0
        cdef uint64_t ticks[STAGES + 1]
        cdef bint over
        cdef walk_t walk
        if self.noted != NULL:
            raise RuntimeError("run_timed() while there is a journal")
        memset(ticks, 0, sizeof(ticks))
        PyObject_GetBuffer(capture, &view, PyBUF_SIMPLE)
        try:
            begin_walk(&walk, <const uint8_t *>view.buf, view.len, capture_format, offset)
            self.enter("run_timed()")
            try:
                with nogil:
                    over = self.time_records(&walk, max_packets, time_offset_ns, emit is not None, ticks, &processed)
                leave_walk(&walk, capture_format)
                if emit is not None:
                    self.departures.hand_over(emit)
            finally:
                cc_leave(&self.busy)
        finally:
            PyBuffer_Release(&view)
        self.seeker.raise_failure()
        return walk.at, processed, over, [ticks[i] for i in range(STAGES + 1)]

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
                self.departures.release_all()
            if emits:
                self.departures.hand_over(emit)
        finally:
            cc_leave(&self.busy)
        self.seeker.raise_failure()

    def begin_output(self, output_format):
        """How run() is to lay out what it emits: an `upf.captures.writing.OutputFormat`. What was kept is dropped.

        Link types that a pcapng has no interface for are described when their first packet comes.
        """
        self.enter("begin_output()")
        try:
            self.departures.begin(output_format)
        finally:
            cc_leave(&self.busy)

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
            places = self.book.take_touched()
        finally:
            cc_leave(&self.busy)
        # Packets go on meanwhile. What counts from now on is touched again.
        return self.book.counters_at_places(places)

    def inspection(self):
        """What looking into packets for names has done, as InspectorCounters; None where no rule has asked for a name.

        Engines that share names have done it together.
        """
        return None if self.seeker.known.inspector is None else self.seeker.known.inspector.counters()

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
            keeps_first = self.tables[0].keep_first and self.journal is None
            return flows_in(&self.tables[0], self.book, keeps_first) + flows_in(&self.tables[1], self.book, keeps_first)
        finally:
            cc_leave(&self.busy)

    def top_flows(self, uint32_t n, int64_t since_ns):
        """The ``n`` flows with most bytes among those that have had a packet since ``since_ns``, as ActiveFlows.

        Those with most come first. The tables are walked slice by slice, and between two slices the engine is whose
        that has waited for it.
        """
        cdef TopFlows top = TopFlows(n, since_ns)
        cdef bint first_times = self.tables[0].keep_first and self.journal is None
        cdef bint over
        cdef int i
        for i in range(2):
            top.begin_table()
            over = False
            while not over:
                self.enter("top_flows()")
                with nogil:
                    over = top.walk_slice(&self.tables[i], self.rule_table, self.passing, first_times)
                cc_leave(&self.busy)
        return top.flows(self.book)

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


include "outlet.pxi"
include "wire.pxi"
include "n3.pxi"
include "n3_downlink.pxi"
