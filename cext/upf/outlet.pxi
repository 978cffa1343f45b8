"""Where live packets leave: whole or in pieces, marked, held back by shaping, counted."""

cdef enum:
    # Bytes of one packet, with the virtio-net header in front; IPv6 has its header beyond 64 KiB. A multiple of 64.
    ARRIVAL_BYTES = 65664
    # Pieces that a batch may fall into before it is sent on.
    LEAVING = 4096
    MOST_SEGMENTS = 2048
    # What shaping holds back, all rules together.
    MOST_QUEUED_BYTES = 1 << 26

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


cdef class Outlet:
    """The sending half of a wire. ``sink``: file descriptor of a tun device; what it cannot take is counted by reason."""

    cdef int sink
    cdef int failure            # errno
    cdef leaving_t *leaving
    cdef int leaving_count
    cdef uint8_t *piece         # room to put one together
    cdef queue_t queue
    cdef wire_counters_t counted

    def __cinit__(self, *_, **__):
        self.leaving = <leaving_t *>calloc(LEAVING, sizeof(leaving_t))
        self.piece = <uint8_t *>malloc(ARRIVAL_BYTES + MOST_HEADER_BYTES)
        if self.leaving == NULL or self.piece == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.leaving)
        free(self.piece)
        close_queue(&self.queue)

    cdef bint has_no_room(self) noexcept nogil:
        """Whether another packet may fall into more pieces than can be noted before send_on()."""
        return self.leaving_count > LEAVING - MOST_SEGMENTS

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
