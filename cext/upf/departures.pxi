"""What passes, on its way out: marked, held back by shaping, laid out as records, handed over."""


cdef class Departures:
    """Packets that leave, in the order of their times."""

    cdef output_t output
    cdef queue_t queue          # what passes but leaves later
    cdef uint8_t *marked        # a packet's bytes as they leave
    cdef size_t marked_room

    def __dealloc__(self):
        free(self.output.data)
        free(self.marked)
        close_queue(&self.queue)

    cdef begin(self, output_format):
        """How packets are laid out from now on; what was kept is dropped."""
        link_types = list(output_format.link_types)[:MOST_OUTPUT_INTERFACES]
        self.output.pcapng, self.output.nanoseconds = output_format.pcapng, output_format.nanoseconds
        self.output.length = self.output.run_length = 0
        self.output.refusal = REFUSED_NOTHING
        self.output.interface_count = <uint32_t>len(link_types)
        for place, link_type in enumerate(link_types):
            self.output.link_types[<int>place] = link_type

    cdef inline void emit_packet(self, packet_t *packet, bint treated) noexcept nogil:
        """Keeps a packet that passes; ``treated``: it may have been marked or delayed."""
        if cc_unlikely(treated or self.queue.count != 0):
            self.emit_treated(packet)
        else:
            keep_as_it_stands(&self.output, packet)

    cdef void emit_treated(self, packet_t *packet) noexcept nogil:
        """Those that leave before it go before it."""
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
