"""The seam to upf/names: which packets are looked into for the names of their flows, and what that has found.

Only here, and only for flows that are being classified while a rule asks for a name, the packet path takes the GIL.
"""

cdef enum:
    DNS_PORT = 53
    PROTOCOL_TCP = 6
    PROTOCOL_UDP = 17


cdef class KnownNames:
    """What is known of names, by one engine or by two that see one direction each of the same connections.

    ``inspector`` is None until a rule asks for a name; then it stays, with what it knows. ``asking``: of how many engines
    the rules ask for names.
    """

    cdef object inspector
    cdef object lock                # taken by whoever asks the inspector
    cdef int asking

    def __cinit__(self):
        self.lock = Lock()


cdef class NameSeeker:
    """Asks the inspector.

    ``failure``: what was raised while a packet was looked into, for whoever runs the engine.
    """

    cdef KnownNames known
    cdef bint asks                  # whether our own rules ask for names
    cdef object failure
    cdef FilterBook filters     # of the installed rules
    cdef names_t names
    cdef uint32_t *domains
    cdef uint32_t room

    def __cinit__(self):
        self.known = KnownNames()

    def __dealloc__(self):
        free(self.domains)

    cdef share(self, NameSeeker other):
        """What either finds, both know from now on."""
        self.known.asking -= self.asks
        self.known, self.asks = other.known, False
        self.rules_changed(self.filters)

    cdef rules_changed(self, FilterBook filters):
        self.filters = filters
        self.known.asking += (filters.named != 0) - self.asks
        self.asks = filters.named != 0
        if self.asks and self.known.inspector is None:
            from upf.names.inspector import Inspector

            self.known.inspector = Inspector()

    cdef raise_failure(self):
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure

    cdef const names_t *names_of(self, const packet_t *packet, int link_type, uint32_t gtpu_port) noexcept nogil:
        """What is known of the names of a packet's flow; good until the next call."""
        cdef transport_t transport
        self.names.count, self.names.settled = 0, True
        # Which packets the rules of another engine would be asked about, we do not know: all of them.
        if self.known.asking != 0 and (self.known.asking > self.asks or self.is_of_interest(packet)):
            if not transport_of(packet, link_type, gtpu_port, &transport):
                transport.offset = transport.end = 0
            self.ask(packet, packet.data + transport.offset, transport.end - transport.offset if transport.offset else 0)
        self.names.domains = self.domains
        return &self.names

    cdef bint is_of_interest(self, const packet_t *packet) noexcept nogil:
        """Whether a name could change the rule of this flow or of the other direction, or the packet tells names."""
        cdef uint8_t flags = <uint8_t>(packet.endpoints >> 16)
        cdef uint8_t protocol = <uint8_t>(packet.endpoints >> 24)
        cdef uint64_t ports = packet.endpoints >> 32
        cdef names_t unknown
        cdef packet_t other
        cdef uint8_t other_addresses[32]
        cdef bint awaits_name
        if self.filters.named_with_attributes != 0:
            # Such a filter does not see the other direction, whose attributes are others.
            return True
        if (protocol == PROTOCOL_TCP or protocol == PROTOCOL_UDP) and not flags & FLAG_PORTS_UNKNOWN and (
            ports >> 16 == DNS_PORT or ports & 0xFFFF == DNS_PORT
        ):
            return True
        unknown.domains, unknown.count, unknown.settled = NULL, 0, False
        classify(self.filters.index, packet, &unknown, &awaits_name)
        if awaits_name:
            return True
        other = packet[0]
        other.addresses = (packet.addresses << 32) | (packet.addresses >> 32)
        if flags & FLAG_IPV6:
            memcpy(other_addresses, packet.addresses6 + 16, 16)
            memcpy(other_addresses + 16, packet.addresses6, 16)
            other.addresses6 = other_addresses
        if has_ports(protocol):
            ports = (ports << 16 | ports >> 16) & 0xFFFFFFFFULL
            other.endpoints = (packet.endpoints & 0xFFFFFFFFULL) | (ports << 32)
        classify(self.filters.index, &other, &unknown, &awaits_name)
        return awaits_name

    cdef void ask(self, const packet_t *packet, const uint8_t *segment, uint32_t segment_bytes) noexcept with gil:
        cdef uint8_t flags = <uint8_t>(packet.endpoints >> 16)
        cdef uint32_t *larger
        try:
            if flags & FLAG_IPV6:
                family = 6
                source = int.from_bytes(packet.addresses6[:16], "big")
                destination = int.from_bytes(packet.addresses6[16:32], "big")
            else:
                family, source, destination = 4, packet.addresses >> 32, packet.addresses & 0xFFFFFFFF
            with self.known.lock:
                names, settled = self.known.inspector.inspect(
                    packet.ts_ns, family, source, destination, <uint8_t>(packet.endpoints >> 24),
                    <uint16_t>(packet.endpoints >> 48), <uint16_t>(packet.endpoints >> 32),
                    None if flags & FLAG_PORTS_UNKNOWN else segment[:segment_bytes],
                )
            wanting = places_wanting(self.filters.domain_ids, names)
            if len(wanting) > self.room:
                larger = <uint32_t *>realloc(self.domains, len(wanting) * sizeof(uint32_t))
                if larger == NULL:
                    raise MemoryError
                self.domains, self.room = larger, len(wanting)
            for number in wanting:
                self.domains[self.names.count] = number
                self.names.count += 1
            self.names.settled = settled
        except BaseException as error:
            if self.failure is None:
                self.failure = error
            self.names.count, self.names.settled = 0, False
