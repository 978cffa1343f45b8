"""Live traffic in one direction: from a tun device through the engine to a tun device, super-packets and all."""

cdef enum:
    # Bytes of one packet, with the virtio-net header in front; IPv6 has its header beyond 64 KiB.
    ARRIVAL_BYTES = 65664           # a multiple of 64
    # No more is read before it is judged and sent on, so that it is still in the cache when it is copied again ...
    ARRIVALS = 64
    ARRIVALS_BYTES = 32768
    # ... except for what has come while the wire had to wait.
    BACKLOG = 2048
    BACKLOG_BYTES = 1 << 21
    # Pieces that a batch may fall into before it is sent on.
    LEAVING = 4096
    MOST_SEGMENTS = 2048
    # What shaping holds back, all rules together.
    MOST_QUEUED_BYTES = 1 << 26

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

# Why a packet that should have passed did not, and its name in WireCounters.errors.
cdef enum loss_t:
    LOST_NO_ROOM                # the kernel had no memory for it
    LOST_REFUSED                # the kernel does not take it
    LOST_SINK_DOWN              # the device that it leaves by is down
    LOST_QUEUE_FULL             # more than MOST_QUEUED_BYTES would be held back
    LOST_NO_SUPER_PACKET        # it says to be one, and its headers do not fit
    LOST_UNKNOWN_TEID           # N3: no session has the tunnel that it came in
    LOST_SPOOFED_SOURCE         # N3: its source is not the UE of the tunnel that it came in
    LOST_NO_TUNNEL              # N3: its destination is no UE that can be reached
    LOSSES

WIRE_ERRORS = (
    "no_room", "refused", "sink_down", "queue_full", "super_packet", "unknown_teid", "spoofed_source", "no_tunnel",
)


ctypedef struct volume_t:
    uint64_t packets
    uint64_t bytes


ctypedef struct wire_counters_t:
    volume_t came
    volume_t passed
    volume_t dropped
    volume_t malformed
    volume_t held_off
    volume_t queued             # now
    volume_t lost[LOSSES]
    uint64_t reads
    uint64_t writes


# Neighbouring segments of a packet that leave together.
ctypedef struct leaving_t:
    const packet_t *packet
    uint32_t first
    uint32_t count
    int64_t departs_ns          # 0: at once
    int dscp


cdef inline void count(volume_t *volume, uint64_t packets, uint64_t length) noexcept nogil:
    volume.packets += packets
    volume.bytes += length


cdef inline const vnet_t *vnet_of(const packet_t *packet) noexcept nogil:
    """Stands in front of every packet's data."""
    return <const vnet_t *>(packet.data - VNET_BYTES)


cdef class Wire:
    """One direction of live traffic: packets of a tun device, judged by an engine, to a tun device.

    engine: that of this direction alone. source, sink: file descriptors of tun devices, not blocking, with virtio-net
    headers of 10 bytes; they stay the caller's. forwarding: while it is false, packets are taken and let fall (``held_off``).

    Packets are judged at the time at which they came, UTC as it was when the wire was made, from where it never steps. The
    kernel does not tell it; those that came while the wire was kept from reading are taken to have come evenly spread over
    that time, so that no bucket overflows because of it.
    """

    cdef readonly Engine engine
    cdef int source
    cdef int sink
    cdef int ending             # an eventfd, readable when the wire is to end
    cdef int failure            # errno
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
    cdef leaving_t *leaving
    cdef int leaving_count
    cdef uint8_t *piece         # room to put one together
    cdef queue_t queue
    cdef wire_counters_t counted
    cdef wire_counters_t published

    def __cinit__(self, Engine engine, int source, int sink, *, bint forwarding=True):
        self.engine, self.source, self.sink, self.passes = engine, source, sink, forwarding
        self.ending = self.schedstat = -1
        if cc_open_door(&self.telling):
            raise MemoryError
        self.utc_ns = cc_utc_ns() - cc_monotonic_ns()
        self.arena = <uint8_t *>aligned_alloc(64, BACKLOG_BYTES + ARRIVAL_BYTES + 128)
        self.arrivals = <packet_t *>calloc(BACKLOG, sizeof(packet_t))
        self.leaving = <leaving_t *>calloc(LEAVING, sizeof(leaving_t))
        self.piece = <uint8_t *>malloc(ARRIVAL_BYTES + MOST_HEADER_BYTES)
        if self.piece == NULL or self.arena == NULL or self.arrivals == NULL or self.leaving == NULL:
            raise MemoryError
        self.ending = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        engine.live = True

    def __dealloc__(self):
        free(self.arena)
        free(self.arrivals)
        free(self.leaving)
        free(self.piece)
        close_queue(&self.queue)
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
            if self.leaving_count > LEAVING - MOST_SEGMENTS:
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

    # --- on its way ---------------------------------------------------------------------------------------------------

    cdef void send_on(self) noexcept nogil:
        """Everything that leaves of the batch so far."""
        cdef leaving_t *leaving
        cdef super_t whole
        cdef uint64_t length
        cdef int i
        for i in range(self.leaving_count):
            leaving = &self.leaving[i]
            read_super(&whole, vnet_of(leaving.packet), leaving.packet.data, leaving.packet.captured)
            length = wire_length(&whole)
            if leaving.count != whole.count:
                length = pieces_length(&whole, leaving.first, leaving.count)
            if leaving.departs_ns > leaving.packet.ts_ns:
                self.hold_back(leaving, &whole, length)
            elif leaving.count == whole.count:
                self.mark(leaving)
                self.put(leaving.packet.data - VNET_BYTES, VNET_BYTES + whole.length, NULL, 0, leaving.count, length)
            else:
                self.send_piece(leaving, &whole, length)
        self.leaving_count = 0
        self.flush()

    cdef void put(
        self, const uint8_t *head, size_t head_bytes, const uint8_t *rest, size_t rest_bytes, uint64_t segments,
        uint64_t length,
    ) noexcept nogil:
        """Sends one packet, in two parts, with its virtio-net header in front: so many segments, so many bytes of them."""
        cdef ssize_t written
        if rest_bytes == 0:
            written = write(self.sink, head, head_bytes)
        else:
            written = cc_write_both(self.sink, head, head_bytes, rest, rest_bytes)
        self.counted.writes += 1
        self.sent(written, segments, length)

    cdef void flush(self) noexcept nogil:
        """What put() has kept, for a sink that takes several packets at once, is sent."""

    cdef void mark(self, const leaving_t *leaving) noexcept nogil:
        """Writes the DSCP into a packet that is whole."""
        cdef const packet_t *packet = leaving.packet
        cdef uint32_t udp_offset = packet.udp_offset
        if leaving.dscp < 0:
            return
        if vnet_of(packet).flags & VNET_NEEDS_CHECKSUM:
            # What stands there is the sum of the pseudo-header alone; the kernel has the rest to come.
            udp_offset = 0xFFFFFFFF
        write_dscp(<uint8_t *>packet.data, packet.network_offset, udp_offset, <uint8_t>leaving.dscp)

    cdef void send_piece(self, const leaving_t *leaving, const super_t *whole, uint64_t length) noexcept nogil:
        cdef uint8_t head[VNET_BYTES + MOST_HEADER_BYTES]
        cdef uint32_t head_bytes = piece(
            whole, vnet_of(leaving.packet), leaving.first, leaving.count, leaving.dscp, head
        )
        self.put(
            head, head_bytes, payload_of(whole, leaving.first), <size_t>(length - leaving.count * whole.headers),
            leaving.count, length,
        )

    cdef void sent(self, ssize_t written, uint64_t segments, uint64_t length) noexcept nogil:
        """Counts what the kernel has made of a write."""
        cdef loss_t loss
        if written >= 0:
            count(&self.counted.passed, segments, length)
            return
        if errno == EIO:
            loss = LOST_SINK_DOWN
        elif errno == EAGAIN or errno == ENOMEM or errno == ENOBUFS:
            loss = LOST_NO_ROOM
        else:
            loss = LOST_REFUSED
            if errno == EBADFD or errno == EBADF:
                self.failure = errno
        count(&self.counted.lost[<int>loss], segments, length)

    # --- shaping --------------------------------------------------------------------------------------------------

    cdef void hold_back(self, const leaving_t *leaving, const super_t *whole, uint64_t length) noexcept nogil:
        """Keeps a copy until its time has come."""
        cdef packet_t held = leaving.packet[0]
        cdef uint32_t head_bytes
        cdef size_t payload_bytes
        if self.counted.queued.bytes + length > MOST_QUEUED_BYTES:
            count(&self.counted.lost[<int>LOST_QUEUE_FULL], leaving.count, length)
            return
        if leaving.count == whole.count:
            self.mark(leaving)
            held.data = leaving.packet.data - VNET_BYTES
            held.captured = VNET_BYTES + whole.length
        else:
            head_bytes = piece(whole, vnet_of(leaving.packet), leaving.first, leaving.count, leaving.dscp, self.piece)
            payload_bytes = <size_t>(length - leaving.count * whole.headers)
            memcpy(self.piece + head_bytes, payload_of(whole, leaving.first), payload_bytes)
            held.data = self.piece
            held.captured = <uint32_t>(head_bytes + payload_bytes)
        # What it counts as when it leaves.
        held.wire_length, held.ip_length = leaving.count, length
        if hold_back(&self.queue, &held, leaving.departs_ns):
            count(&self.counted.queued, leaving.count, length)
        else:
            count(&self.counted.lost[<int>LOST_NO_ROOM], leaving.count, length)

    cdef void depart(self, int64_t now_ns) noexcept nogil:
        """What shaping has held back until now leaves."""
        cdef packet_t *packet = next_due(&self.queue, now_ns)
        while packet != NULL:
            self.counted.queued.packets -= packet.wire_length
            self.counted.queued.bytes -= packet.ip_length
            self.put(packet.data, packet.captured, NULL, 0, packet.wire_length, packet.ip_length)
            free(packet)
            packet = next_due(&self.queue, now_ns)
        self.flush()


def cut(bytes packet, uint32_t first, uint32_t count, int dscp=-1):
    """Segments of a super-packet (virtio-net header and IP packet) from the first on, as they leave in one piece.

    Raises ValueError where it is no super-packet or has not so many.
    """
    cdef super_t whole
    cdef uint8_t head[VNET_BYTES + MOST_HEADER_BYTES]
    cdef const uint8_t *data = packet
    cdef uint32_t head_bytes
    if (
        len(packet) < VNET_BYTES + 20
        or not read_super(&whole, <const vnet_t *>data, data + VNET_BYTES, <uint32_t>len(packet) - VNET_BYTES)
        or whole.count == 1 or count == 0 or count > whole.count or first > whole.count - count
    ):
        raise ValueError(f"packet: expected a super-packet of {first + count} segments or more")
    head_bytes = piece(&whole, <const vnet_t *>data, first, count, dscp, head)
    payload_bytes = pieces_length(&whole, first, count) - count * whole.headers
    return head[:head_bytes] + payload_of(&whole, first)[:payload_bytes]
