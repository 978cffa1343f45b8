# What copies of packets leave through, whole batches of them at a time; included by _mbs.pyx.

cdef class Copier:
    """The sending half of a `Replicator`. A copy is a packet's bytes where they came, behind a header of its own."""

    cdef cc_copies_t *copies
    cdef branch_t *of[CC_COPIES]
    cdef uint32_t copied[CC_COPIES]
    cdef int leaving            # copies that wait for flush()
    cdef int leaving_by         # their descriptor
    cdef int room_ms            # that the batch may still wait
    cdef sender_t senders[SENDERS]
    cdef int sender_count
    cdef int next_sender        # its place

    def __cinit__(self, *_, **__):
        self.leaving_by = -1
        self.copies = <cc_copies_t *>calloc(1, sizeof(cc_copies_t))
        if self.copies == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.copies)
        self.close_senders()

    cdef void send(self, branch_t *branch, const inner_t *inner, int64_t now_ns) noexcept nogil:
        cdef uint8_t *head
        cdef uint32_t length
        if cc_likely(branch.sending == SENDING_GTP_U):
            self.make_room(branch.fd)
            head = cc_copies_head(self.copies, self.leaving)
            length = branch.outer_bytes - 8 + inner.length
            memcpy(head, branch.outer, 16)
            head[2], head[3] = <uint8_t>(length >> 8), <uint8_t>length
            self.add(branch, inner, branch.peer, branch.peer_bytes, branch.outer_bytes, inner.data, inner.length)
        elif branch.sending == SENDING_TUN:
            self.count_sent(branch, cc_write_behind(branch.fd, PLAIN, VNET_BYTES, inner.data, inner.length), inner.length)
        elif branch.sending == SENDING_UDP:
            self.send_udp(branch, inner, now_ns)
        else:
            self.make_room(branch.fd)
            self.add(branch, inner, branch.peer, branch.peer_bytes, 0, inner.data, inner.length)

    cdef void send_udp(self, branch_t *branch, const inner_t *inner, int64_t now_ns) noexcept nogil:
        """The payload of a UDP packet, from a socket that has the packet's source, ToS and TTL."""
        cdef const uint8_t *udp = inner.data + inner.transport
        cdef const uint8_t *group = inner.data + (16 if inner.version == 4 else 24)
        cdef shape_t shape = shape_of(inner)
        cdef sender_t *sender
        cdef uint8_t *peer
        cdef uint32_t peer_bytes
        cdef int tos, hops
        if shape != SHAPE_UDP:
            branch.mishaps[<int>mishap_of_shape(shape)] += 1
            return
        sender = self.sender_for(branch, inner, cc_network16(udp), now_ns)
        if sender.fd <= 0:
            branch.mishaps[<int>sender.mishap] += 1
            return
        if inner.version == 4:
            tos, hops = inner.data[1], inner.data[8]
        else:
            tos, hops = cc_network16(inner.data) >> 4 & 0xFF, inner.data[7]
        if tos != sender.tos or hops != sender.hops:
            self.flush()
            if not cc_set_marks(sender.fd, inner.version, tos, hops):
                branch.mishaps[<int>MISHAP_REFUSED] += 1
                return
            sender.tos, sender.hops = tos, hops
        self.make_room(sender.fd)
        peer = cc_copies_peer(self.copies, self.leaving)
        peer_bytes = cc_make_peer(peer, group, 4 if inner.version == 4 else 16, cc_network16(udp + 2))
        self.add(branch, inner, peer, peer_bytes, 0, udp + 8, inner.length - inner.transport - 8)

    cdef sender_t *sender_for(
        self, branch_t *branch, const inner_t *inner, uint16_t port, int64_t now_ns
    ) noexcept nogil:
        """The socket with the packet's source, opened where there is none; one without a descriptor says why not."""
        cdef int i, place = branch.sender
        if not is_sender_of(&self.senders[place], inner, port, branch.interface):
            place = -1
            for i in range(self.sender_count):
                if is_sender_of(&self.senders[i], inner, port, branch.interface):
                    place = i
                    break
        if place < 0:
            place = self.next_sender
            self.next_sender = (place + 1) % SENDERS
            if self.sender_count < SENDERS:
                self.sender_count += 1
            # One that is given up may still be written to.
            self.flush()
            close_sender(&self.senders[place])
            open_sender(&self.senders[place], inner, port, branch.interface, now_ns)
        elif self.senders[place].fd <= 0 and self.senders[place].again_ns <= now_ns:
            open_sender(&self.senders[place], inner, port, branch.interface, now_ns)
        branch.sender = place
        return &self.senders[place]

    cdef void close_senders(self) noexcept nogil:
        cdef int i
        for i in range(self.sender_count):
            close_sender(&self.senders[i])
        memset(self.senders, 0, sizeof(self.senders))
        self.sender_count = self.next_sender = 0

    cdef inline void make_room(self, int fd) noexcept nogil:
        """The next copy leaves by this descriptor."""
        if fd != self.leaving_by or self.leaving == CC_COPIES:
            self.flush()
            self.leaving_by = fd

    cdef inline void add(
        self, branch_t *branch, const inner_t *inner, const uint8_t *peer, uint32_t peer_bytes, uint32_t head_bytes,
        const uint8_t *data, size_t length,
    ) noexcept nogil:
        cc_copies_set(self.copies, self.leaving, peer, peer_bytes, head_bytes, data, length)
        self.of[self.leaving], self.copied[self.leaving] = branch, inner.length
        self.leaving += 1

    cdef void flush(self) noexcept nogil:
        cdef int first = 0, taken, i
        while first < self.leaving:
            taken = cc_copies_send(self.copies, self.leaving_by, first, self.leaving)
            if taken > 0:
                for i in range(first, first + taken):
                    count(&self.of[i].sent, self.copied[i])
                first += taken
            elif errno == EAGAIN and self.room_ms > 0:
                # A link is slower than the copies are made: they take turns, for a while.
                self.room_ms -= 1
                cc_await_room(self.leaving_by, 1)
            elif errno != EINTR:
                self.of[first].mishaps[<int>mishap_of(errno)] += 1
                first += 1
        self.leaving, self.leaving_by = 0, -1

    cdef inline void count_sent(self, branch_t *branch, ssize_t written, uint32_t length) noexcept nogil:
        if written >= 0:
            count(&branch.sent, length)
        else:
            branch.mishaps[<int>mishap_of(errno)] += 1
