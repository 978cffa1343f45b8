"""Classification by tuple-space search: a packet looks only at the filters that name its own addresses.

Each filter stands in the chain of the prefix on the more specific of its two sides, a chain being found by a hash of the
masked address. A look-up probes once for every (family, side, prefix length) that any filter uses, 325 of them at the
most, however many filters there are. A chain is in the order in which its filters are tried, so that it is left at the
first that matches, and once what follows comes after a match in another chain.

Where the more specific prefix has many filters already and that of the other side has fewer, a filter goes there: a
hundred thousand UEs with filters for one server do not make one chain of that server.

The hash table is 256 small ones, so that none takes long to grow.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

from filters cimport filter_t, high_mask, low_mask, matches, names_match, names_t, precedes, seek, sought_t
from intrinsics cimport cc_fold, cc_prefetch_read
from packet cimport packet_t

cdef enum:
    SIDE_SOURCE
    SIDE_DESTINATION
    SIDES

    # Any, IPv4, IPv6.
    FAMILIES = 3
    PREFIX_LENGTHS = 129
    SUBTABLES = 256
    # Filters of one prefix from which on the other side is looked at.
    LONG_CHAIN = 8


ctypedef struct chain_t:
    uint64_t hash
    uint32_t first              # 0: the slot is free
    uint32_t length


ctypedef struct subtable_t:
    chain_t *chains             # NULL until there are any
    uint32_t mask
    uint32_t count


ctypedef struct group_t:
    uint8_t family
    uint8_t side
    uint8_t bits


ctypedef struct filter_index_t:
    uint64_t seed
    filter_t *filters           # by place; place 0 is none
    uint32_t room
    uint32_t used               # the highest place that was ever given
    uint32_t first_free
    uint32_t free_count
    uint32_t group_count
    group_t groups[FAMILIES * SIDES * PREFIX_LENGTHS]
    uint32_t filters_of[FAMILIES][SIDES][PREFIX_LENGTHS]
    subtable_t subtables[SUBTABLES]
    # What look-ups have cost.
    uint64_t lookups
    uint64_t probes
    uint64_t comparisons


cdef inline uint64_t hash_of(
    const filter_index_t *index, uint8_t family, uint8_t side, uint8_t bits, const uint64_t *address
) noexcept nogil:
    """Of a chain: two that have the same hash are one chain, which costs comparisons and is no error."""
    cdef uint64_t group = (<uint64_t>family << 16) | (<uint64_t>side << 8) | bits
    return cc_fold(
        (address[0] & high_mask(bits)) ^ index.seed,
        cc_fold((address[1] & low_mask(bits)) ^ 0xE7037ED1A0B428DBULL, (index.seed ^ group) | 1) ^ 0xA0761D6478BD642FULL,
    )


cdef inline uint8_t bits_of(const filter_t *f, uint8_t side) noexcept nogil:
    return f.destination_bits if side == SIDE_DESTINATION else f.source_bits


cdef inline uint64_t hash_on(const filter_index_t *index, const filter_t *f, uint8_t side) noexcept nogil:
    return hash_of(index, f.family, side, bits_of(f, side), f.network + 2 * side)


cdef inline uint8_t more_specific_side(const filter_t *f) noexcept nogil:
    # Without any prefix it is the source, for all of them.
    if f.source_bits == 0 and f.destination_bits == 0:
        return SIDE_SOURCE
    return SIDE_DESTINATION if f.destination_bits >= f.source_bits else SIDE_SOURCE


cdef inline chain_t *find_chain(filter_index_t *index, uint64_t hash) noexcept nogil:
    cdef subtable_t *subtable = &index.subtables[hash >> 56]
    cdef uint32_t slot
    if subtable.count == 0:
        return NULL
    slot = <uint32_t>hash & subtable.mask
    while subtable.chains[slot].first != 0:
        if subtable.chains[slot].hash == hash:
            return &subtable.chains[slot]
        slot = (slot + 1) & subtable.mask
    return NULL


cdef inline chain_t *free_slot(subtable_t *subtable, uint64_t hash) noexcept nogil:
    cdef uint32_t slot = <uint32_t>hash & subtable.mask
    while subtable.chains[slot].first != 0:
        slot = (slot + 1) & subtable.mask
    return &subtable.chains[slot]


cdef inline bint reserve_chains(subtable_t *subtable, uint32_t more) noexcept nogil:
    """Makes room for so many more chains; False where there is no memory, nothing is changed then."""
    cdef uint64_t slots = <uint64_t>subtable.mask + 1 if subtable.chains != NULL else 4
    cdef subtable_t larger
    cdef uint64_t slot
    while (<uint64_t>subtable.count + more) * 2 > slots:
        slots *= 2
    if subtable.chains != NULL and slots == <uint64_t>subtable.mask + 1:
        return True
    larger.chains = <chain_t *>calloc(slots, sizeof(chain_t))
    if larger.chains == NULL:
        return False
    larger.mask = <uint32_t>(slots - 1)
    larger.count = subtable.count
    if subtable.chains != NULL:
        for slot in range(<uint64_t>subtable.mask + 1):
            if subtable.chains[slot].first != 0:
                free_slot(&larger, subtable.chains[slot].hash)[0] = subtable.chains[slot]
        free(subtable.chains)
    subtable[0] = larger
    return True


cdef inline bint reserve_filters(filter_index_t *index, uint32_t more) noexcept nogil:
    """Makes room for so many more filters; False where there is no memory. Moves them: pointers to them are void."""
    cdef uint64_t needed, room
    cdef filter_t *moved
    if more <= index.free_count:
        return True
    needed = <uint64_t>index.used + 1 + more - index.free_count
    if needed <= index.room:
        return True
    room = 2 * <uint64_t>index.room
    room = needed if room < needed else room
    if room > 0xFFFFFFFFULL:
        return False
    moved = <filter_t *>realloc(index.filters, room * sizeof(filter_t))
    if moved == NULL:
        return False
    index.filters = moved
    index.room = <uint32_t>room
    return True


cdef inline uint32_t take_place(filter_index_t *index) noexcept nogil:
    """A place for a filter, zeroed; there must be room."""
    cdef uint32_t place = index.first_free
    if place != 0:
        index.first_free = index.filters[place].next
        index.free_count -= 1
    else:
        index.used += 1
        place = index.used
    memset(&index.filters[place], 0, sizeof(filter_t))
    return place


cdef inline void return_place(filter_index_t *index, uint32_t place) noexcept nogil:
    free(index.filters[place].ports)
    index.filters[place].ports = NULL
    index.filters[place].next = index.first_free
    index.first_free = place
    index.free_count += 1


cdef inline void count_group(filter_index_t *index, const filter_t *f, int change) noexcept nogil:
    """Keeps the list of groups that look-ups go through to those that have filters."""
    cdef uint8_t bits = bits_of(f, f.side)
    cdef uint32_t *count = &index.filters_of[f.family // 2 - 1 if f.family else 0][f.side][bits]
    cdef uint32_t i
    if count[0] == 0:
        index.groups[index.group_count].family = f.family
        index.groups[index.group_count].side = f.side
        index.groups[index.group_count].bits = bits
        index.group_count += 1
    count[0] += change
    if count[0] == 0:
        for i in range(index.group_count):
            if (
                index.groups[i].family == f.family and index.groups[i].side == f.side
                and index.groups[i].bits == bits
            ):
                index.group_count -= 1
                index.groups[i] = index.groups[index.group_count]
                break


cdef inline void link_filter(filter_index_t *index, uint32_t place) noexcept nogil:
    """Puts the filter where look-ups find it; there must be room for its chain on either side."""
    cdef filter_t *f = &index.filters[place]
    cdef uint8_t side = more_specific_side(f)
    cdef uint64_t hash = hash_on(index, f, side), other_hash
    cdef chain_t *chain = find_chain(index, hash)
    cdef chain_t *other
    cdef uint32_t *link
    if chain != NULL and chain.length >= LONG_CHAIN and bits_of(f, 1 - side) > 0:
        other_hash = hash_on(index, f, 1 - side)
        other = find_chain(index, other_hash)
        if other == NULL or other.length < chain.length:
            side, hash, chain = 1 - side, other_hash, other
    if chain == NULL:
        chain = free_slot(&index.subtables[hash >> 56], hash)
        chain.hash = hash
        chain.first = chain.length = 0
        index.subtables[hash >> 56].count += 1
    link = &chain.first
    while link[0] != 0 and precedes(&index.filters[link[0]], f.precedence, f.sequence):
        link = &index.filters[link[0]].next
    f.next = link[0]
    link[0] = place
    chain.length += 1
    f.side = side
    count_group(index, f, 1)


cdef inline void remove_chain(subtable_t *subtable, chain_t *chain) noexcept nogil:
    cdef uint32_t hole = <uint32_t>(chain - subtable.chains), slot = hole, home
    while True:
        slot = (slot + 1) & subtable.mask
        if subtable.chains[slot].first == 0:
            break
        home = <uint32_t>subtable.chains[slot].hash & subtable.mask
        # The entry may fill the hole only if the hole does not stand before its home.
        if ((slot - home) & subtable.mask) >= ((slot - hole) & subtable.mask):
            subtable.chains[hole] = subtable.chains[slot]
            hole = slot
    subtable.chains[hole].first = 0
    subtable.count -= 1


cdef inline void unlink_filter(filter_index_t *index, uint32_t place) noexcept nogil:
    cdef filter_t *f = &index.filters[place]
    cdef uint64_t hash = hash_on(index, f, f.side)
    cdef chain_t *chain = find_chain(index, hash)
    cdef uint32_t *link = &chain.first
    while link[0] != place:
        link = &index.filters[link[0]].next
    link[0] = f.next
    chain.length -= 1
    count_group(index, f, -1)
    if chain.length == 0:
        remove_chain(&index.subtables[hash >> 56], chain)


cdef inline void close_index(filter_index_t *index) noexcept nogil:
    """Frees everything but the index itself. Free places have no ports."""
    cdef uint32_t place
    cdef int i
    if index.filters != NULL:
        for place in range(1, index.used + 1):
            free(index.filters[place].ports)
    for i in range(SUBTABLES):
        free(index.subtables[i].chains)
    free(index.filters)


cdef inline uint32_t classify(
    filter_index_t *index, const packet_t *packet, const names_t *names, bint *awaits_name
) noexcept nogil:
    """The rule of the first filter that wants the packet; 0, the rule of what no rule wants, when none does.

    ``awaits_name``: whether a filter that is tried before it would want the packet if its flow had the right name, which
    may still become known.
    """
    cdef uint64_t hashes[FAMILIES * SIDES * PREFIX_LENGTHS]
    cdef sought_t sought
    cdef const group_t *group
    cdef const chain_t *chain
    cdef const filter_t *f
    cdef subtable_t *subtable
    cdef uint32_t count = 0, i, at, rule = 0
    cdef uint32_t precedence = 0xFFFFFFFFU, awaited_precedence = 0xFFFFFFFFU
    cdef uint64_t sequence = ~<uint64_t>0, awaited_sequence = ~<uint64_t>0
    seek(&sought, packet)
    for i in range(index.group_count):
        group = &index.groups[i]
        if group.family != 0 and group.family != sought.family:
            continue
        hashes[count] = hash_of(index, group.family, group.side, group.bits, sought.address + 2 * group.side)
        index.probes += 1
        subtable = &index.subtables[hashes[count] >> 56]
        if subtable.count != 0:
            cc_prefetch_read(&subtable.chains[<uint32_t>hashes[count] & subtable.mask])
            count += 1
    for i in range(count):
        chain = find_chain(index, hashes[i])
        if chain == NULL:
            continue
        at = chain.first
        while at != 0:
            f = &index.filters[at]
            if not precedes(f, precedence, sequence):
                break
            index.comparisons += 1
            if matches(f, &sought):
                if f.domain == 0 or names_match(names, f.domain):
                    rule, precedence, sequence = f.rule, f.precedence, f.sequence
                    break
                if not names.settled and precedes(f, awaited_precedence, awaited_sequence):
                    awaited_precedence, awaited_sequence = f.precedence, f.sequence
            at = f.next
    index.lookups += 1
    awaits_name[0] = awaited_precedence < precedence or (
        awaited_precedence == precedence and awaited_sequence < sequence
    )
    return rule
