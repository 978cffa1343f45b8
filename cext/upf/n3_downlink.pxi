"""N3 on the way down: every segment of what comes from a tun device is put into the tunnel of its UE. See n3.pxi."""

cdef class N3Downlink(Wire):
    """Packets to UEs, from a tun device to a UDP socket: ``sink`` is a socket, not blocking.

    What is for no UE that can be reached is let fall and counted (``no_tunnel``).

    mirrored: the wire is that of a gNB, which puts packets of UEs into tunnels.
    """

    cdef public bint mirrored

    cdef tunnel_table_t tunnels
    cdef cc_door_t changing     # the tunnels are being changed, or looked up
    cdef cc_outbox_t outbox
    cdef int runs               # messages in the outbox, the last of which may still grow
    cdef uint8_t *outgoing
    cdef size_t used            # of it
    cdef size_t run_at
    cdef uint32_t run_datagrams
    cdef uint32_t run_segment   # bytes of each datagram of the run but the last
    cdef bint run_over          # that was shorter
    cdef uint8_t run_peer[CC_PEER_BYTES]
    cdef uint32_t run_peer_bytes
    cdef volume_t sizes[CC_OUTBOX]

    def __cinit__(self, Engine engine, int source, int sink, *, bint forwarding=True):
        self.outgoing = <uint8_t *>malloc(OUTGOING_BYTES)
        if cc_open_door(&self.changing) or self.outgoing == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.outgoing)
        close_tunnels(&self.tunnels)

    def change(self, going, coming):
        """As N3Uplink.change()."""
        change_tunnels(&self.tunnels, &self.changing, going, coming, self.mirrored)

    cdef void put(
        self, const uint8_t *head, size_t head_bytes, const uint8_t *rest, size_t rest_bytes, uint64_t segments,
        uint64_t length,
    ) noexcept nogil:
        cdef const vnet_t *vnet = <const vnet_t *>head
        cdef const uint8_t *ip = head + VNET_BYTES
        cdef tunnel_end_t *found
        cdef tunnel_end_t end
        cdef super_t whole
        cdef uint32_t i
        cc_enter_when_free(&self.changing)
        found = find_tunnel(&self.tunnels, key_of_ue(ip, not self.mirrored))
        if found != NULL:
            end = found[0]
        cc_leave(&self.changing)
        if found == NULL or end.peer_bytes == 0:
            count(&self.counted.lost[<int>LOST_NO_TUNNEL], segments, length)
            return
        read_super(&whole, vnet, ip, <uint32_t>(head_bytes - VNET_BYTES + rest_bytes))
        if whole.count == 1:
            self.put_packet(&end, vnet, ip, <uint32_t>(head_bytes - VNET_BYTES), rest, <uint32_t>rest_bytes)
            return
        for i in range(whole.count):
            self.put_segment(&end, &whole, vnet, i, rest if rest_bytes != 0 else ip + whole.headers)

    cdef void put_packet(
        self, const tunnel_end_t *end, const vnet_t *vnet, const uint8_t *ip, uint32_t head_bytes, const uint8_t *rest,
        uint32_t rest_bytes,
    ) noexcept nogil:
        """One that is whole, but for its checksum."""
        cdef uint32_t length = head_bytes + rest_bytes
        cdef uint8_t *data = self.room_for(end, length)
        memcpy(data, ip, head_bytes)
        if rest_bytes != 0:
            memcpy(data + head_bytes, rest, rest_bytes)
        if vnet.flags & VNET_NEEDS_CHECKSUM:
            finish_checksum(data, vnet.checksum_start, vnet.checksum_start + vnet.checksum_offset, length)
        encapsulate(data - end.outer_bytes, end, length)
        self.add_to_run(end, data - end.outer_bytes, end.outer_bytes + length, length)

    cdef void put_segment(
        self, const tunnel_end_t *end, const super_t *whole, const vnet_t *vnet, uint32_t at, const uint8_t *payload
    ) noexcept nogil:
        cdef uint32_t length = segment_length(whole, at)
        cdef uint8_t *data = self.room_for(end, length)
        cdef uint8_t before[VNET_BYTES]
        # The virtio-net header falls where the tunnel's will stand, which may be shorter.
        memcpy(before, data - VNET_BYTES, VNET_BYTES)
        piece(whole, vnet, at, 1, -1, data - VNET_BYTES)
        memcpy(data - VNET_BYTES, before, VNET_BYTES)
        memcpy(data + whole.headers, payload + at * whole.segment_bytes, length - whole.headers)
        finish_checksum(data, whole.transport, whole.transport + vnet.checksum_offset, length)
        encapsulate(data - end.outer_bytes, end, length)
        self.add_to_run(end, data - end.outer_bytes, end.outer_bytes + length, length)

    cdef uint8_t *room_for(self, const tunnel_end_t *end, uint32_t length) noexcept nogil:
        """Where a packet is to be written, with room in front: for the header of its tunnel, right behind the one before."""
        if self.used + length + 2 * MOST_OUTER_BYTES > OUTGOING_BYTES:
            self.flush()
        if self.runs == 0:
            self.used = MOST_OUTER_BYTES
        return self.outgoing + self.used + end.outer_bytes

    cdef void add_to_run(
        self, const tunnel_end_t *end, const uint8_t *datagram, uint32_t length, uint64_t inner_bytes
    ) noexcept nogil:
        """Datagrams of one length to one peer leave as one; only the last may be shorter."""
        if (
            self.runs == 0 or self.run_over or length > self.run_segment or self.run_datagrams == RUN_DATAGRAMS
            or self.used - self.run_at + length > RUN_BYTES or end.peer_bytes != self.run_peer_bytes
            or memcmp(end.peer, self.run_peer, end.peer_bytes) != 0
        ):
            if self.runs == CC_OUTBOX:
                self.end_run()
                self.send_runs()
            elif self.runs != 0:
                self.end_run()
            self.runs += 1
            self.run_at = <size_t>(datagram - self.outgoing)
            self.run_datagrams, self.run_segment, self.run_over = 0, length, False
            self.run_peer_bytes = end.peer_bytes
            memcpy(self.run_peer, end.peer, CC_PEER_BYTES)
            self.sizes[self.runs - 1].packets = self.sizes[self.runs - 1].bytes = 0
        self.run_datagrams += 1
        self.run_over = length < self.run_segment
        count(&self.sizes[self.runs - 1], 1, inner_bytes)
        self.used = <size_t>(datagram - self.outgoing) + length

    cdef void end_run(self) noexcept nogil:
        cc_outbox_set(
            &self.outbox, self.runs - 1, self.run_peer, self.run_peer_bytes, self.outgoing + self.run_at,
            self.used - self.run_at, <uint16_t>self.run_segment if self.run_datagrams > 1 else 0,
        )

    cdef void flush(self) noexcept nogil:
        if self.runs != 0:
            self.end_run()
            self.send_runs()

    cdef void send_runs(self) noexcept nogil:
        cdef int first = 0, taken, i
        while first < self.runs:
            taken = cc_outbox_send(&self.outbox, self.sink, first, self.runs)
            self.counted.writes += 1
            for i in range(taken):
                self.sent(0, self.sizes[first + i].packets, self.sizes[first + i].bytes)
            if taken > 0:
                first += taken
            elif (errno == EMSGSIZE or errno == EINVAL) and self.sizes[first].packets > 1:
                self.send_singly(first)
                first += 1
            elif errno != EINTR:
                self.sent(-1, self.sizes[first].packets, self.sizes[first].bytes)
                first += 1
        self.runs = 0

    cdef void send_singly(self, int run) noexcept nogil:
        """Datagrams that are longer than the path lets pass, which the kernel fragments, but not where they are many."""
        cdef const uint8_t *data = cc_outbox_data(&self.outbox, run)
        cdef uint32_t left = <uint32_t>cc_outbox_length(&self.outbox, run), length
        while left != 0:
            length = 8 + <uint32_t>cc_network16(data + 2)
            self.counted.writes += 1
            self.sent(
                cc_outbox_send_part(&self.outbox, self.sink, run, data, length), 1,
                length - (MOST_OUTER_BYTES if data[0] & 4 else 8),
            )
            data += length
            left -= length


cdef inline void finish_checksum(uint8_t *ip, uint32_t start, uint32_t at, uint32_t end) noexcept nogil:
    """The checksum of a transport header in whose place the sum of the pseudo-header stands."""
    cdef uint32_t checksum
    if at + 2 > end or start >= end:
        return
    checksum = ~<uint32_t>cc_checksum(ip + start, end - start) & 0xFFFF
    # To UDP a sum of 0 would say that there is none; to TCP both mean the same.
    put16(ip + at, checksum if checksum != 0 else 0xFFFF)
