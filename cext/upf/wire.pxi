"""Live traffic in one direction: from a tun device through the engine to a tun device, super-packets and all."""

cdef enum:
    # No more is read before it is judged and sent on, so that it is still in the cache when it is copied again ...
    ARRIVALS = 64
    ARRIVALS_BYTES = 32768
    # ... except for what has come while the wire had to wait.
    BACKLOG = 2048
    BACKLOG_BYTES = 1 << 21

cdef:
    # A wire that has not looked for so long has kept packets waiting, for no longer than the second of these.
    int64_t LATE_NS = 100000
    int64_t LATEST_NS = 50000000
    # For so long after a bucket was found empty a wire goes before other work of the machine, where it may: packets are judged
    # when they come. As long as no bucket is, it leaves the hosts the more of the processors.
    int64_t TIGHT_NS = 10000000000
    # How long the time that a thread has waited for a processor may go unasked before it sleeps.
    int64_t ASK_NS = 1000000
    # What departs is looked after no more often: nothing leaves early, and no more than this late.
    int64_t DEPARTURE_GRAIN_NS = 50000
    int64_t FRAGMENT_GRAIN_NS = 100000000

cdef class Wire(Outlet):
    """One direction of live traffic: packets of a tun device, judged by an engine, to a tun device.

    engine: that of this direction alone. source, sink: file descriptors of tun devices, not blocking, with virtio-net
    headers of 10 bytes; they stay the caller's. forwarding: while it is false, packets are taken and let fall (``held_off``).

    Packets are judged at the time at which they came, UTC as it was when the wire was made, from where it never steps. The
    kernel does not tell it; those that came while the wire was kept from reading are taken to have come evenly spread over
    that time, so that no bucket overflows because of it.
    """

    cdef readonly Engine engine
    cdef int source
    cdef int ending             # an eventfd, readable when the wire is to end
    cdef bint source_failed
    cdef bint passes            # see ``forwarding``
    cdef cc_door_t telling      # the published counters are being written or read
    cdef int64_t utc_ns         # at the origin of the monotonic clock
    cdef int schedstat          # of the thread that has called run()
    cdef int64_t looked_ns      # when the source was last read
    cdef bint drained           # there was nothing left then
    cdef int64_t waited_ns      # for a processor, all in all
    cdef int64_t asked_ns       # when waited_ns was
    cdef int64_t tight_ns       # when a bucket was found empty last
    cdef bint hastens           # goes before other work
    cdef uint8_t *arena
    cdef size_t lead            # how far behind a boundary of 64 bytes packets are read
    cdef packet_t *arrivals
    cdef wire_counters_t published

    def __cinit__(self, Engine engine, int source, int sink, *, bint forwarding=True):
        self.engine, self.source, self.sink, self.passes = engine, source, sink, forwarding
        self.ending = self.schedstat = -1
        if cc_open_door(&self.telling):
            raise MemoryError
        self.utc_ns = cc_utc_ns() - cc_monotonic_ns()
        self.arena = <uint8_t *>aligned_alloc(64, BACKLOG_BYTES + ARRIVAL_BYTES + 128)
        self.arrivals = <packet_t *>calloc(BACKLOG, sizeof(packet_t))
        if self.arena == NULL or self.arrivals == NULL:
            raise MemoryError
        self.ending = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        engine.live = True

    def __dealloc__(self):
        free(self.arena)
        free(self.arrivals)
        if self.ending >= 0:
            os.close(self.ending)

    @property
    def forwarding(self):
        """Whether packets go on at all."""
        return self.passes

    @forwarding.setter
    def forwarding(self, bint forwarding):
        self.passes = forwarding

    def run(self):
        """Forwards until stop(); a thread of its own calls it. What shaping still holds back leaves at the end.

        Raises OSError when the device that packets come from can be read no more, or the one they go to is gone.
        """
        try:
            self.schedstat = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self.schedstat = -1
        with nogil:
            self.forward()
            self.depart(END_OF_TIME_NS)
            self.publish()
        if self.schedstat >= 0:
            os.close(self.schedstat)
        self.engine.seeker.raise_failure()
        if self.failure:
            raise OSError(self.failure, os.strerror(self.failure), "source" if self.source_failed else "sink")

    def stop(self):
        """Ends run(), from any thread."""
        os.eventfd_write(self.ending, 1)

    def counters(self):
        """What came and what became of it, as WireCounters."""
        cdef wire_counters_t now
        cdef int i
        with nogil:
            cc_enter_when_free(&self.telling)
            now = self.published
            cc_leave(&self.telling)
        return WireCounters(
            packets=now.came.packets, bytes=now.came.bytes,
            passed_packets=now.passed.packets, passed_bytes=now.passed.bytes,
            dropped_packets=now.dropped.packets, dropped_bytes=now.dropped.bytes,
            malformed_packets=now.malformed.packets, malformed_bytes=now.malformed.bytes,
            held_off_packets=now.held_off.packets, held_off_bytes=now.held_off.bytes,
            queued_packets=now.queued.packets, queued_bytes=now.queued.bytes,
            errors={reason: now.lost[i].packets for i, reason in enumerate(WIRE_ERRORS) if now.lost[i].packets},
            error_bytes=sum([now.lost[i].bytes for i in range(<int>LOSSES)]),
            reads=now.reads, writes=now.writes,
        )

    # --- the loop -------------------------------------------------------------------------------------------------

    cdef void forward(self) noexcept nogil:
        cdef int arrived, ready
        cdef bint hastens
        self.looked_ns = cc_monotonic_ns() + self.utc_ns
        while self.failure == 0:
            arrived = self.receive()
            if arrived != 0:
                self.treat(arrived)
            if self.queue.count != 0:
                self.depart(cc_monotonic_ns() + self.utc_ns)
            hastens = self.queue.count != 0 or self.looked_ns - self.tight_ns < TIGHT_NS
            if hastens != self.hastens:
                self.hastens = hastens
                cc_hasten(hastens)
            self.publish()
            if self.drained and self.looked_ns - self.asked_ns > ASK_NS:
                self.ask_for_waiting(self.looked_ns)
            # Where something has come meanwhile, this costs no more than reading in vain would.
            ready = cc_wait(self.source, self.ending, self.timeout_ns())
            if ready & 2:
                return
            if ready == 0 and self.engine.parser.holding:
                self.release_fragments()

    cdef int64_t timeout_ns(self) noexcept nogil:
        """How long nothing has to be done unless a packet comes; negative: for ever."""
        cdef int64_t due_ns = -1
        if self.queue.count != 0:
            due_ns = self.queue.heap[0].departs_ns - cc_monotonic_ns() - self.utc_ns
            if due_ns < DEPARTURE_GRAIN_NS:
                due_ns = DEPARTURE_GRAIN_NS
        if self.engine.parser.holding and (due_ns < 0 or due_ns > FRAGMENT_GRAIN_NS):
            due_ns = FRAGMENT_GRAIN_NS
        return due_ns

    cdef void publish(self) noexcept nogil:
        cdef volume_t fragments
        fragments.packets = self.engine.parser.fragments.held_count
        fragments.bytes = self.engine.parser.fragments.held_bytes
        cc_enter_when_free(&self.telling)
        self.published = self.counted
        count(&self.published.queued, fragments.packets, fragments.bytes)
        cc_leave(&self.telling)

    cdef int receive(self) noexcept nogil:
        """Reads what has come, up to a batch; how many packets that are."""
        cdef int arrived = 0, most = ARRIVALS, error
        cdef size_t at = 0, most_bytes = ARRIVALS_BYTES
        cdef ssize_t got
        cdef int64_t late_ns = 0, now_ns
        cdef bint was_drained = self.drained
        cdef packet_t *packet
        while arrived < most and at < most_bytes:
            at = ((at + 63) & ~<size_t>63) + self.lead
            got = read(self.source, self.arena + at, ARRIVAL_BYTES)
            error = errno
            now_ns = cc_monotonic_ns() + self.utc_ns
            self.counted.reads += 1
            self.drained = got < VNET_BYTES
            if arrived == 0:
                late_ns = now_ns - self.looked_ns
                if late_ns > LATE_NS:
                    most, most_bytes = BACKLOG, BACKLOG_BYTES
            elif arrived == 1 and late_ns > LATE_NS and not self.drained:
                late_ns = self.lateness(late_ns, was_drained, now_ns)
                if late_ns <= LATE_NS:
                    most, most_bytes = ARRIVALS, ARRIVALS_BYTES
            self.looked_ns = now_ns
            if self.drained:
                if got < 0 and error != EAGAIN and error != EINTR:
                    self.failure, self.source_failed = error, True
                break
            packet = &self.arrivals[arrived]
            packet.data = self.arena + at + VNET_BYTES
            packet.captured = packet.wire_length = <uint32_t>got - VNET_BYTES
            packet.ts_ns = now_ns
            packet.link_type = LINK_RAW
            arrived += 1
            at += <size_t>got
        if late_ns > LATE_NS and arrived > 1:
            self.spread(arrived, late_ns)
        return arrived

    cdef int64_t lateness(self, int64_t away_ns, bint slept, int64_t now_ns) noexcept nogil:
        """For how long of the time that the wire was away from the source it has kept packets waiting."""
        cdef int64_t waited_ns = self.waited_ns
        if slept:
            # Until a packet came; then it may have waited for a processor.
            self.ask_for_waiting(now_ns)
            waited_ns = self.waited_ns - waited_ns
            away_ns = waited_ns if waited_ns < away_ns else away_ns
        return away_ns if away_ns < LATEST_NS else LATEST_NS

    cdef void ask_for_waiting(self, int64_t now_ns) noexcept nogil:
        self.waited_ns = cc_waited_ns(self.schedstat)
        self.asked_ns = now_ns

    cdef void spread(self, int arrived, int64_t late_ns) noexcept nogil:
        """Packets that have waited came evenly, byte by byte, until the last one was read."""
        cdef int64_t last_ns = self.arrivals[arrived - 1].ts_ns, first_ns = last_ns - late_ns
        cdef uint64_t total = 0, come = 0
        cdef int i
        if first_ns < self.engine.latest_ns:
            first_ns = self.engine.latest_ns
        for i in range(arrived):
            total += self.arrivals[i].captured
        for i in range(arrived):
            come += self.arrivals[i].captured
            # Below 2**22 bytes and 2**26 ns.
            self.arrivals[i].ts_ns = first_ns + <int64_t>(<uint64_t>(last_ns - first_ns) * come // total)

    cdef void treat(self, int arrived) noexcept nogil:
        cdef int at = 0, batch
        if not self.passes:
            self.hold_off(arrived)
            return
        while at < arrived:
            batch = arrived - at if arrived - at < BATCH else BATCH
            self.treat_batch(&self.arrivals[at], batch)
            at += batch

    cdef void treat_batch(self, packet_t *batch, int arrived) noexcept nogil:
        cdef int i
        cc_enter_when_free(&self.engine.busy)
        self.parse(batch, arrived)
        for i in range(arrived):
            self.judge_fragments(&batch[i])
            if self.has_no_room():
                self.send_on()
            self.judge(&batch[i])
        self.judge_fragments(NULL)
        self.engine.latest_ns = batch[arrived - 1].ts_ns
        cc_leave(&self.engine.busy)
        self.send_on()

    cdef void parse(self, packet_t *batch, int arrived) noexcept nogil:
        cdef super_t whole
        cdef int i
        for i in range(arrived):
            if not read_super(&whole, vnet_of(&batch[i]), batch[i].data, batch[i].captured):
                # None of the parser's.
                batch[i].outcome = OUTCOME_COUNT
                continue
            batch[i].outcome = parse_link(&self.engine.parser, &batch[i], LINK_RAW)
            if batch[i].outcome < OUTCOME_NOT_IP:
                prefetch_flow(&self.engine.tables[<int>batch[i].outcome], batch[i].hash)

    cdef void hold_off(self, int arrived) noexcept nogil:
        cdef super_t whole
        cdef packet_t *packet
        cdef int i
        for i in range(arrived):
            packet = &self.arrivals[i]
            read_super(&whole, vnet_of(packet), packet.data, packet.captured)
            count(&self.counted.came, whole.count, wire_length(&whole))
            count(&self.counted.held_off, whole.count, wire_length(&whole))

    # --- verdicts -------------------------------------------------------------------------------------------------

    cdef void judge(self, packet_t *packet) noexcept nogil:
        """What leaves of a packet, and when; a super-packet is judged as the segments that it stands for."""
        cdef super_t whole
        if packet.outcome == OUTCOME_COUNT:
            count(&self.counted.came, 1, packet.captured)
            count(&self.counted.lost[<int>LOST_NO_SUPER_PACKET], 1, packet.captured)
            return
        read_super(&whole, vnet_of(packet), packet.data, packet.captured)
        if packet.outcome == OUTCOME_HELD:
            # A fragment, whatever the header in front of it says: it is held as one packet.
            count(&self.counted.came, 1, packet.captured)
            self.judge_segment(packet, 0, 1, packet.captured)
            return
        count(&self.counted.came, whole.count, wire_length(&whole))
        if whole.count == 1 or packet.outcome >= OUTCOME_NOT_IP:
            self.judge_segment(packet, 0, whole.count, wire_length(&whole))
            return
        # Copying is faster where the payload stands on a boundary, for which the next one's is likely to be as far away.
        self.lead = -(VNET_BYTES + <size_t>whole.headers) & 63
        self.judge_segments(packet, &whole)

    cdef void judge_segments(self, packet_t *packet, const super_t *whole) noexcept nogil:
        cdef rule_table_t *table = self.engine.rule_table
        cdef flow_t *flow = find_flow(&self.engine.tables[<int>packet.outcome], packet)
        cdef rule_t *rule = NULL
        # What is measured may be another length than that from the IP header on.
        cdef uint64_t measured_beside = packet.ip_length - whole.length
        cdef uint32_t i, length
        cdef uint8_t verdict
        if flow != NULL and <uint16_t>flow.endpoints == table.generation:
            rule = &table.rules[flow.state & STATE_RULE]
        if rule != NULL and rule.quick:
            for i in range(whole.count):
                length = segment_length(whole, i)
                verdict = judge_simply(
                    rule, table.buckets, flow, packet.ts_ns, measured_beside + length, table.averaging_window_ns,
                    &self.engine.time_steps_back,
                )
                self.settle(packet, verdict, i, 1, length)
            return
        for i in range(whole.count):
            length = segment_length(whole, i)
            packet.ip_length = measured_beside + length
            packet.departs_ns, packet.dscp = 0, -1
            self.judge_segment(packet, i, 1, length)

    cdef void judge_segment(self, packet_t *packet, uint32_t first, uint32_t segments, uint64_t length) noexcept nogil:
        self.settle(packet, self.engine.judge(packet), first, segments, length)

    cdef void settle(
        self, const packet_t *packet, uint8_t verdict, uint32_t first, uint32_t segments, uint64_t length
    ) noexcept nogil:
        """What leaves, as the verdict says."""
        cdef leaving_t *last
        self.engine.packets += 1
        if verdict == VERDICT_DROPPED or verdict == VERDICT_EXCEEDING:
            self.tight_ns = packet.ts_ns
        if not self.engine.passing >> verdict & 1:
            # A fragment that is held is counted where it is held.
            if verdict == VERDICT_MALFORMED:
                count(&self.counted.malformed, segments, length)
            elif verdict != VERDICT_HELD:
                count(&self.counted.dropped, segments, length)
            return
        if self.leaving_count != 0:
            last = &self.leaving[self.leaving_count - 1]
            if (
                last.packet == packet and last.first + last.count == first
                and last.departs_ns == packet.departs_ns and last.dscp == packet.dscp
            ):
                last.count += segments
                return
        last = &self.leaving[self.leaving_count]
        self.leaving_count += 1
        last.packet, last.first, last.count = packet, first, segments
        last.departs_ns, last.dscp = packet.departs_ns, packet.dscp

    cdef void judge_fragments(self, const packet_t *before) noexcept nogil:
        """Fragments that are held no longer and stand before a packet of the batch (NULL: all of them)."""
        cdef held_t *held = next_let_go(&self.engine.parser.fragments, before)
        cdef packet_t fragment
        while held != NULL:
            self.send_on()
            finish_held(&self.engine.parser, held)
            # As it came, it had a virtio-net header in front, which has not been held with it.
            fragment = held.packet
            memset(self.piece, 0, VNET_BYTES)
            memcpy(self.piece + VNET_BYTES, fragment.data, fragment.captured)
            # That of an IPv4 packet with a wide key does not stand in its data.
            if held.flags & FLAG_IPV6:
                fragment.addresses6 = self.piece + VNET_BYTES + (fragment.addresses6 - fragment.data)
            fragment.data = self.piece + VNET_BYTES
            free_let_go(&self.engine.parser.fragments)
            self.judge_segment(&fragment, 0, 1, fragment.captured)
            self.send_on()
            held = next_let_go(&self.engine.parser.fragments, before)

    cdef void release_fragments(self) noexcept nogil:
        """Those whose time is over, though no packet comes."""
        cc_enter_when_free(&self.engine.busy)
        let_expired_go(&self.engine.parser.fragments, cc_monotonic_ns() + self.utc_ns, NULL)
        self.engine.parser.holding = self.engine.parser.fragments.held_count != 0
        choose_way(&self.engine.parser)
        self.judge_fragments(NULL)
        cc_leave(&self.engine.busy)
        self.send_on()
