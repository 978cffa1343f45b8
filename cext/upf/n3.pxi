"""N3: live traffic whose access side is a UDP socket that speaks GTP-U (TS 29.281) instead of a tun device.

Here is the way up: every datagram is taken out of its tunnel, and what it carries goes to a tun device. The way down is in
n3_downlink.pxi.
"""

cdef enum:
    # What a batch may hold: no more than the parser lets wait between two of its packets. See HELD_PLACES.
    N3_ARRIVALS = 256
    # A message of the socket, with room for a virtio-net header in front.
    MESSAGE_BYTES = 65536
    MESSAGE_ROOM = MESSAGE_BYTES + 64
    # What leaves in one system call, and in one of its messages: UDP, IPv6 and 64 datagrams set the bound.
    OUTGOING_BYTES = 1 << 19
    RUN_BYTES = 65000
    RUN_DATAGRAMS = 64
    # Of one batch: a flood is not answered by a flood.
    ERROR_INDICATIONS = 8
    REPLY_BYTES = 64


# Says nothing: what stands in front of a packet that is whole and has its checksums.
cdef vnet_t PLAIN


cdef read_tunnel(tunnel, tunnel_end_t *end, bint uplink):
    """The tunnel_end_t of an `upf.tunnels.Tunnel`."""
    cdef const uint8_t *address
    cdef int at = 0
    memset(end, 0, sizeof(tunnel_end_t))
    end.teid = tunnel.teid
    for ue in tunnel.ues:
        packed = ue.network_address.packed
        address = packed
        end.ues[at] = key_of_ipv4(cc_network32(address)) if ue.version == 4 else cc_network64(address)
        at += 1
    outer_header = tunnel.outer_header
    if outer_header is not None:
        packed = outer_header.address.packed
        end.peer_bytes = cc_make_peer(end.peer, packed, len(packed), outer_header.port)
        qfi = -1 if outer_header.qfi is None else outer_header.qfi
        end.outer_bytes = write_outer(end.outer, outer_header.teid, qfi, uplink)


cdef change_tunnels(tunnel_table_t *table, cc_door_t *changing, going, coming, bint uplink):
    """Removes tunnels, then adds others, between two batches. uplink: what is put into them goes up."""
    cdef tunnel_end_t end
    cdef tunnel_end_t *ends
    cdef uint64_t *teids
    cdef uint32_t gone = 0, came = 0, i
    cdef bint there_is_room
    removed, added = list(going), list(coming)
    for tunnel in added:
        if len(tunnel.ues) > 2:
            raise UpfError(f"session {tunnel.name}: found {len(tunnel.ues)} addresses, expected 2 at most")
    teids = <uint64_t *>calloc(len(removed) + 1, sizeof(uint64_t))
    ends = <tunnel_end_t *>calloc(len(added) + 1, sizeof(tunnel_end_t))
    try:
        if teids == NULL or ends == NULL:
            raise MemoryError
        for tunnel in removed:
            teids[gone] = tunnel.teid
            gone += 1
        for tunnel in added:
            read_tunnel(tunnel, &end, uplink)
            ends[came] = end
            came += 1
        with nogil:
            cc_enter_when_free(changing)
            there_is_room = reserve_keys(table, 3 * <uint64_t>came) and reserve_ends(table, came)
            if there_is_room:
                for i in range(gone):
                    remove_tunnel(table, teids[i])
                for i in range(came):
                    add_tunnel(table, &ends[i])
            cc_leave(changing)
        if not there_is_room:
            raise MemoryError
    finally:
        free(teids)
        free(ends)


cdef class N3Uplink(Wire):
    """Packets of UEs, from a UDP socket to a tun device. ``source`` is a socket, not blocking, with UDP_GRO and SO_TIMESTAMPNS.

    What no session knows, or another than the UE of its tunnel has sent, is let fall and counted (``unknown_teid``,
    ``spoofed_source``). An Echo Request is answered, an unknown TEID told by an Error Indication. Neighbouring segments of
    a TCP stream leave in one piece.

    mirrored: the wire is that of a gNB, where packets for UEs come out of tunnels.
    """

    cdef public bint mirrored

    cdef tunnel_table_t tunnels
    cdef cc_door_t changing     # the tunnels are being changed, or looked up
    cdef cc_inbox_t inbox
    cdef int messages           # in the inbox
    cdef int at_message
    cdef uint32_t at_byte       # of it
    cdef int64_t wall_ns        # when it was read, by the clock that the kernel stamps packets with
    cdef uint8_t *copies        # of packets that have no room for a header in front of them
    cdef size_t copied
    cdef train_t train          # what put() has kept
    cdef car_t last_car
    cdef uint64_t train_bytes
    cdef uint64_t seen[MESSAGE_COUNT]
    cdef uint64_t told[MESSAGE_COUNT]
    cdef int indications        # of the batch
    cdef uint8_t own_address[16]
    cdef size_t own_address_bytes
    cdef uint16_t own_port

    def __cinit__(self, Engine engine, int source, int sink, *, bint forwarding=True):
        cdef const uint8_t *address
        free(self.arena)
        free(self.arrivals)
        self.arena = <uint8_t *>malloc(CC_INBOX * MESSAGE_ROOM)
        self.copies = <uint8_t *>malloc(CC_INBOX * MESSAGE_ROOM + N3_ARRIVALS * VNET_BYTES)
        self.arrivals = <packet_t *>calloc(N3_ARRIVALS, sizeof(packet_t))
        if cc_open_door(&self.changing) or self.arena == NULL or self.copies == NULL or self.arrivals == NULL:
            raise MemoryError
        with socket.socket(fileno=os.dup(source)) as bound:
            host, port = bound.getsockname()[:2]
            packed = socket.inet_pton(bound.family, host)
        address = packed
        self.own_address_bytes, self.own_port = len(packed), port
        memcpy(self.own_address, address, self.own_address_bytes)

    def __dealloc__(self):
        free(self.copies)
        close_tunnels(&self.tunnels)

    def change(self, going, coming):
        """Removes tunnels (`upf.tunnels.Tunnel`) and adds others, at any time. `TunnelBook` says which: no two alike."""
        change_tunnels(&self.tunnels, &self.changing, going, coming, self.mirrored)

    def messages_seen(self):
        """Messages of GTP-U that came, by type; those that were not whole are among the malformed packets."""
        return {message: self.seen[i] for i, message in enumerate(GTPU_MESSAGES) if self.seen[i]}

    def messages_sent(self):
        """What the messages and packets that came were answered by, by type."""
        return {message: self.told[i] for i, message in enumerate(GTPU_MESSAGES) if self.told[i]}

    cdef int receive(self) noexcept nogil:
        cdef int arrived = 0
        cdef uint32_t length, segment
        cdef uint8_t *data
        cdef int64_t age_ns
        if self.at_message == self.messages:
            self.messages = cc_inbox_receive(&self.inbox, self.source, self.arena + 64, MESSAGE_ROOM, MESSAGE_BYTES)
            self.at_message = self.at_byte = 0
            self.counted.reads += 1
            if self.messages < 0:
                self.messages = 0
                # Whatever else a socket may say is about a datagram that was sent.
                if errno == EBADF or errno == ENOTSOCK:
                    self.failure, self.source_failed = errno, True
                return 0
            self.looked_ns = cc_monotonic_ns() + self.utc_ns
            self.wall_ns = cc_utc_ns()
        self.copied = self.indications = 0
        cc_enter_when_free(&self.changing)
        while self.at_message < self.messages and arrived < N3_ARRIVALS:
            data = self.arena + 64 + self.at_message * <size_t>MESSAGE_ROOM
            length = cc_inbox_length(&self.inbox, self.at_message)
            segment = cc_inbox_segment(&self.inbox, self.at_message)
            age_ns = cc_inbox_age(&self.inbox, self.at_message, self.wall_ns)
            if age_ns > LATEST_NS:
                age_ns = LATEST_NS
            while arrived < N3_ARRIVALS:
                if segment == 0 or segment > length - self.at_byte:
                    segment = length - self.at_byte
                self.arrivals[arrived].ts_ns = self.looked_ns - age_ns
                arrived += self.take(data + self.at_byte, segment, self.at_byte == 0, &self.arrivals[arrived])
                self.at_byte += segment
                if self.at_byte >= length:
                    self.at_message += 1
                    self.at_byte = 0
                    break
        cc_leave(&self.changing)
        return arrived

    cdef int64_t timeout_ns(self) noexcept nogil:
        return 0 if self.at_message < self.messages else Wire.timeout_ns(self)

    cdef bint take(self, uint8_t *data, uint32_t length, bint has_room, packet_t *packet) noexcept nogil:
        """Whether the datagram brings a packet, or is malformed, which is told of as one."""
        cdef tunnel_t tunnel
        cdef tunnel_end_t *end
        cdef message_t message = read_gtpu(&tunnel, data, length, length)
        packet.link_type = LINK_RAW
        if message >= MESSAGE_COUNT:
            self.take_malformed(packet, length, OUTCOME_GTPU_HEADER)
            return True
        self.seen[<int>message] += 1
        if message != MESSAGE_G_PDU:
            if message == MESSAGE_ECHO_REQUEST:
                self.answer_echo(data, length)
            return False
        data += tunnel.start
        length = <uint32_t>(tunnel.end - tunnel.start)
        end = find_tunnel(&self.tunnels, tunnel.teid)
        if end == NULL:
            count(&self.counted.came, 1, length)
            count(&self.counted.lost[<int>LOST_UNKNOWN_TEID], 1, length)
            self.indicate_error(tunnel.teid)
            return False
        if not self.is_whole(packet, data, length):
            return True
        if not self.is_of_ue(end, key_of_ue(data, self.mirrored)):
            count(&self.counted.came, 1, length)
            count(&self.counted.lost[<int>LOST_SPOOFED_SOURCE], 1, length)
            return False
        if tunnel.start < VNET_BYTES and not has_room:
            memcpy(self.copies + self.copied + VNET_BYTES, data, length)
            data = self.copies + self.copied + VNET_BYTES
            self.copied += VNET_BYTES + length
        memset(data - VNET_BYTES, 0, VNET_BYTES)
        packet.data = data
        packet.captured = packet.wire_length = length
        packet.attributes[0] = attribute_of(&tunnel)
        packet.outcome = OUTCOME_TUNNEL
        return True

    cdef inline bint is_of_ue(self, const tunnel_end_t *end, uint64_t source) noexcept nogil:
        return source == end.ues[0] or source == end.ues[1]

    cdef bint is_whole(self, packet_t *packet, const uint8_t *data, uint32_t length) noexcept nogil:
        """Whether the IP packet is all there; if not, it is taken as malformed."""
        cdef uint32_t stated
        if length < 20 or (data[0] >> 4 == 6 and length < 40):
            self.take_malformed(packet, length, OUTCOME_IP_HEADER)
            return False
        if data[0] >> 4 != 4 and data[0] >> 4 != 6:
            self.take_malformed(packet, length, OUTCOME_IP_VERSION)
            return False
        stated = cc_network16(data + 2) if data[0] >> 4 == 4 else 40 + <uint32_t>cc_network16(data + 4)
        if stated < 20 or stated > length:
            self.take_malformed(packet, length, OUTCOME_IP_TOTAL_LENGTH)
            return False
        return True

    cdef void take_malformed(self, packet_t *packet, uint32_t length, outcome_t outcome) noexcept nogil:
        packet.data = <const uint8_t *>&PLAIN + VNET_BYTES
        packet.captured = packet.wire_length = length
        packet.outcome = outcome

    cdef void treat(self, int arrived) noexcept nogil:
        """All at once, so that a stream's segments are not parted where a batch ends."""
        if self.passes:
            self.treat_batch(self.arrivals, arrived)
        else:
            self.hold_off(arrived)

    cdef void parse(self, packet_t *batch, int arrived) noexcept nogil:
        cdef int i
        cdef packet_t *packet
        for i in range(arrived):
            packet = &batch[i]
            if packet.outcome != OUTCOME_TUNNEL:
                continue
            packet.outcome = parse_inner(&self.engine.parser, packet, packet.attributes[0])
            if packet.outcome < OUTCOME_NOT_IP:
                prefetch_flow(&self.engine.tables[<int>packet.outcome], packet.hash)

    # --- on its way -----------------------------------------------------------------------------------------------

    cdef void put(
        self, const uint8_t *head, size_t head_bytes, const uint8_t *rest, size_t rest_bytes, uint64_t segments,
        uint64_t length,
    ) noexcept nogil:
        cdef car_t car
        # What shaping has held back is given up after it has been put.
        if not (
            self.keeps(head) and rest_bytes == 0
            and read_car(&car, head + VNET_BYTES, <uint32_t>(head_bytes - VNET_BYTES))
        ):
            self.flush()
            Wire.put(self, head, head_bytes, rest, rest_bytes, segments, length)
            return
        if self.train.count != 0 and not follows(&self.train, &car):
            self.flush()
        hang_on(&self.train, &car)
        self.last_car = car
        self.train_bytes += length

    cdef inline bint keeps(self, const uint8_t *data) noexcept nogil:
        """Whether what stands there stays as it is until the batch has left."""
        return (
            <size_t>(data - self.arena) < CC_INBOX * <size_t>MESSAGE_ROOM
            or <size_t>(data - self.copies) < CC_INBOX * <size_t>MESSAGE_ROOM + N3_ARRIVALS * VNET_BYTES
        )

    cdef void flush(self) noexcept nogil:
        cdef ssize_t written
        if self.train.count == 0:
            return
        if self.train.count == 1:
            written = write(self.sink, self.train.first.ip - VNET_BYTES, VNET_BYTES + self.train.first.length)
        else:
            couple(&self.train, &self.last_car)
            written = writev(self.sink, self.train.parts, <int>self.train.count + 1)
        self.counted.writes += 1
        self.sent(written, self.train.count, self.train_bytes)
        self.train.count = 0
        self.train_bytes = 0

    # --- what is answered -----------------------------------------------------------------------------------------

    cdef void answer_echo(self, const uint8_t *request, uint32_t length) noexcept nogil:
        """Where it came from (TS 29.281 §7.2.2), with its sequence number and a restart counter that means nothing."""
        cdef uint8_t reply[14]
        memset(reply, 0, 14)
        reply[0], reply[1], reply[3] = 0x32, 2, 6
        if request[0] & 2 and length >= 12:
            memcpy(reply + 8, request + 8, 2)
        reply[12] = 14
        self.reply(reply, 14, MESSAGE_ECHO_RESPONSE, False)

    cdef void indicate_error(self, uint32_t teid) noexcept nogil:
        """To the port of GTP-U (TS 29.281 §7.3.1): the TEID, and the address that it came to."""
        cdef uint8_t reply[REPLY_BYTES]
        cdef uint32_t length = 20 + <uint32_t>self.own_address_bytes
        if self.indications == ERROR_INDICATIONS:
            return
        self.indications += 1
        memset(reply, 0, 20)
        reply[0], reply[1], reply[3] = 0x32, 26, <uint8_t>(length - 8)
        reply[12] = 16
        put16(reply + 13, teid >> 16)
        put16(reply + 15, teid & 0xFFFF)
        reply[17], reply[19] = 133, <uint8_t>self.own_address_bytes
        memcpy(reply + 20, self.own_address, self.own_address_bytes)
        self.reply(reply, length, MESSAGE_ERROR_INDICATION, True)

    cdef void reply(self, const uint8_t *reply, uint32_t length, message_t message, bint to_gtpu_port) noexcept nogil:
        cdef uint8_t peer[CC_PEER_BYTES]
        memcpy(peer, cc_inbox_peer(&self.inbox, self.at_message), CC_PEER_BYTES)
        if to_gtpu_port:
            cc_set_port(peer, self.own_port)
        if cc_send_to(self.source, reply, length, peer, cc_inbox_peer_bytes(&self.inbox, self.at_message)) >= 0:
            self.told[<int>message] += 1
