"""The bookkeeping of the filters: from SdfFilter to their places in the index, and what packets must be asked for them."""


cdef class FilterBook:
    """The filters of a rule set, chained by rule. They are prepared first, all or none, and linked when nothing can fail."""

    cdef filter_index_t *index
    cdef dict domain_ids            # name or pattern -> identifier, from 1 on
    cdef list domains               # identifier -> name or pattern
    cdef list domain_users          # identifier -> how many filters ask for it
    cdef list free_domain_ids
    cdef uint32_t tos_bits[8]       # how many filters look at each bit
    cdef uint32_t flow_labels       # how many look at the flow label
    cdef uint32_t named             # how many ask for a name
    cdef uint32_t named_with_attributes

    def __cinit__(self):
        self.index = <filter_index_t *>calloc(1, sizeof(filter_index_t))
        if self.index == NULL:
            raise MemoryError
        self.index.seed = int.from_bytes(os.urandom(8), "little")
        self.domain_ids = {}
        self.domains = [""]
        self.domain_users = [0]
        self.free_domain_ids = []

    def __dealloc__(self):
        if self.index != NULL:
            close_index(self.index)
            free(self.index)

    cdef uint8_t tos_mask(self) noexcept:
        """The bits of the ToS that filters look at."""
        cdef int bit
        cdef uint8_t mask = 0
        for bit in range(8):
            mask |= (self.tos_bits[bit] != 0) << bit
        return mask

    cdef list prepare(self, list rules):
        """The first filter of each rule, 0 where it has none; room is made for linking them. On an error nothing is left."""
        cdef uint32_t needed[SUBTABLES]
        cdef uint32_t place
        cdef list firsts = []
        cdef int i
        if not reserve_filters(self.index, sum([len(rule.filters) for rule in rules])):
            raise MemoryError
        try:
            for rule in rules:
                firsts.append(self.prepare_rule(rule))
            memset(needed, 0, sizeof(needed))
            for place in firsts:
                while place != 0:
                    for i in range(SIDES):
                        needed[hash_on(self.index, &self.index.filters[place], i) >> 56] += 1
                    place = self.index.filters[place].next_of_rule
            for i in range(SUBTABLES):
                if needed[i] and not reserve_chains(&self.index.subtables[i], needed[i]):
                    raise MemoryError
        except BaseException:
            for place in firsts:
                self.release(place)
            raise
        return firsts

    cdef uint32_t prepare_rule(self, rule) except? 0:
        cdef uint32_t first = 0, place
        try:
            for sdf in rule.filters:
                place = take_place(self.index)
                self.index.filters[place].next_of_rule = first
                first = place
                self.fill(&self.index.filters[place], sdf, rule)
        except BaseException:
            self.release(first)
            raise
        return first

    cdef int fill(self, filter_t *f, sdf, rule) except -1:
        cdef uint32_t at = 0
        cdef uint8_t most_bits
        # Only IPv6 has flow labels.
        f.family = 6 if sdf.family == 0 and sdf.flow_label is not None else sdf.family
        f.protocol = sdf.protocol
        f.source_bits, f.destination_bits = sdf.src_prefix_length, sdf.dst_prefix_length
        most_bits = 32 if f.family == 4 else 128 if sdf.family == 6 else 0
        if f.family not in (0, 4, 6) or f.source_bits > most_bits or f.destination_bits > most_bits:
            raise UpfError(
                f"rule {rule.name!r}: family {sdf.family} with prefixes of {f.source_bits} and {f.destination_bits} bits: "
                "expected 0 without any, 4 with 32 at the most, or 6 with 128"
            )
        set_network(f.network, f.family, sdf.src_network)
        set_network(f.network + 2, f.family, sdf.dst_network)
        if sdf.src_ports or sdf.dst_ports:
            f.ports = <port_range_t *>calloc(len(sdf.src_ports) + len(sdf.dst_ports), sizeof(port_range_t))
            if f.ports == NULL:
                raise MemoryError
            for ports in (sdf.src_ports, sdf.dst_ports):
                for low, high in ports:
                    f.ports[at].low, f.ports[at].high = low, high
                    at += 1
            f.source_port_count, f.destination_port_count = len(sdf.src_ports), len(sdf.dst_ports)
        if sdf.spi is not None:
            f.asks_spi = True
            f.spi = sdf.spi
        self.fill_attributes(f, sdf)
        return 0

    cdef int fill_attributes(self, filter_t *f, sdf) except -1:
        cdef uint8_t tos_mask = sdf.tos_mask, tos = sdf.tos
        cdef uint64_t mask = <uint64_t>tos_mask << ATTRIBUTE_TOS_SHIFT
        cdef uint64_t value = <uint64_t>(tos & tos_mask) << ATTRIBUTE_TOS_SHIFT
        cdef uint64_t label_mask = 0, label = 0
        cdef uint32_t number
        if sdf.teid is not None:
            number = sdf.teid
            mask |= (<uint64_t>0xFFFFFFFF << ATTRIBUTE_TEID_SHIFT) | <uint32_t>ATTRIBUTE_TUNNELLED
            value |= (<uint64_t>number << ATTRIBUTE_TEID_SHIFT) | <uint32_t>ATTRIBUTE_TUNNELLED
        if sdf.qfi is not None:
            number = sdf.qfi
            mask |= (<uint64_t>63 << ATTRIBUTE_QFI_SHIFT) | <uint32_t>ATTRIBUTE_QFI_KNOWN
            value |= (<uint64_t>(number & 63) << ATTRIBUTE_QFI_SHIFT) | <uint32_t>ATTRIBUTE_QFI_KNOWN
        if sdf.flow_label is not None:
            label = sdf.flow_label
            label_mask = (1 << ATTRIBUTE_FLOW_LABEL_BITS) - 1
        if sdf.domain:
            f.domain = self.domain_id(sdf.domain)
        # From here on nothing fails: what is counted is what release() will count back.
        f.attributes_mask[0], f.attributes[0] = mask, value
        f.attributes_mask[1], f.attributes[1] = label_mask, label
        self.count_asked(f, 1)
        return 0

    cdef uint32_t domain_id(self, str domain) except 0:
        cdef uint32_t number
        if domain in self.domain_ids:
            return self.domain_ids[domain]
        if self.free_domain_ids:
            number = self.free_domain_ids.pop()
            self.domains[number] = domain
        else:
            number = len(self.domains)
            self.domains.append(domain)
            self.domain_users.append(0)
        self.domain_ids[domain] = number
        return number

    cdef count_asked(self, const filter_t *f, int change):
        cdef int bit
        for bit in range(8):
            if f.attributes_mask[0] >> (ATTRIBUTE_TOS_SHIFT + bit) & 1:
                self.tos_bits[bit] += change
        if f.attributes_mask[1] != 0:
            self.flow_labels += change
        if f.domain != 0:
            self.named += change
            if f.attributes_mask[0] != 0 or f.attributes_mask[1] != 0 or f.asks_spi:
                self.named_with_attributes += change
            self.domain_users[f.domain] += change
            if self.domain_users[f.domain] == 0:
                del self.domain_ids[self.domains[f.domain]]
                self.free_domain_ids.append(f.domain)

    cdef link(self, uint32_t first, uint32_t rule, uint32_t precedence, uint64_t sequence):
        """Look-ups find the filters of a rule from now on."""
        cdef filter_t *f
        while first != 0:
            f = &self.index.filters[first]
            f.rule, f.precedence, f.sequence = rule, precedence, sequence
            link_filter(self.index, first)
            first = f.next_of_rule

    cdef unlink(self, uint32_t first):
        """Look-ups do not find them any more, and their places are free."""
        cdef uint32_t at = first
        while at != 0:
            unlink_filter(self.index, at)
            at = self.index.filters[at].next_of_rule
        self.release(first)

    cdef release(self, uint32_t at):
        cdef uint32_t following
        while at != 0:
            following = self.index.filters[at].next_of_rule
            self.count_asked(&self.index.filters[at], -1)
            return_place(self.index, at)
            at = following


cdef int set_network(uint64_t *network, uint8_t family, network_number) except -1:
    if family == 4:
        network[0] = <uint64_t><uint32_t>network_number << 32
    elif family == 6:
        # 128 bits do not fit into any of C's integers.
        network[0], network[1] = network_number >> 64, network_number & 0xFFFFFFFFFFFFFFFF
    return 0
