"""The bookkeeping of the rule set: which name and which bucket has which place in the tables of the packet path."""


cdef class RuleBook:
    """The rules that are installed. Places are kept by name, buckets by id, across changes.

    A change is checked and its memory made ready first; from then on nothing fails, so it is made whole or not at all.
    """

    cdef rule_table_t table
    cdef FilterBook filters
    cdef TreatmentBook treatments
    cdef uint32_t rule_room
    cdef uint32_t bucket_room
    cdef uint64_t next_sequence     # rules of one precedence are tried in the order of their sequences
    cdef uint64_t forgotten_bytes   # of rules that have gone
    cdef dict rule_places           # name -> place
    cdef list rule_names            # place -> name
    cdef dict bucket_places         # bucket_key() -> place
    cdef list bucket_keys           # place -> key
    cdef list bucket_terms          # place -> what the rules that share the bucket agree about
    cdef list bucket_users          # place -> how many rules use it
    cdef dict fillings              # filling time of buckets that flows have of their own -> how many rules
    cdef list free_rules
    cdef list free_buckets

    def __cinit__(self):
        self.rule_room = self.bucket_room = 16
        self.table.rules = <rule_t *>calloc(self.rule_room, sizeof(rule_t))
        self.table.touched = <uint32_t *>calloc(self.rule_room, sizeof(uint32_t))
        self.table.buckets = <bucket_t *>calloc(self.bucket_room, sizeof(bucket_t))
        self.table.shared = <shared_t *>calloc(self.bucket_room, sizeof(shared_t))
        if (
            self.table.rules == NULL or self.table.touched == NULL or self.table.buckets == NULL
            or self.table.shared == NULL
        ):
            raise MemoryError
        self.treatments = TreatmentBook()
        self.table.treatments = self.treatments.treatments
        self.filters = FilterBook()
        self.table.index = self.filters.index
        self.table.generation = 1
        # What no rule wants is not policed, and no harvest asks for it.
        self.table.rules[NO_RULE].simple = self.table.rules[NO_RULE].own_bucket = True
        self.table.rules[NO_RULE].touched = self.table.rules[NO_RULE].quick = True
        set_verdicts(&self.table.rules[NO_RULE], VERDICT_UNMATCHED)
        self.rule_places = {}
        self.rule_names = [""]
        self.bucket_places = {}
        self.bucket_keys = []
        self.bucket_terms = []
        self.bucket_users = []
        self.fillings = {}
        self.free_rules = []
        self.free_buckets = []

    def __dealloc__(self):
        free(self.table.rules)
        free(self.table.touched)
        free(self.table.buckets)
        free(self.table.shared)

    cdef rule_t *rule(self, str name) except NULL:
        return &self.table.rules[<uint32_t>self.rule_places[name]]

    cdef int64_t longest_filling_ns(self) except? -1:
        """Of the buckets that flows have of their own."""
        return max(self.fillings, default=0)

    # --- changes: the caller changes the generation ---------------------------------------------------------------

    cdef install(self, list rules):
        """Replaces the rule set by these rules; those of one precedence are tried as they stand."""
        names = {rule.name for rule in rules}
        self.change(FilterBook(), rules, [name for name in self.rule_places if name not in names])

    cdef update(self, list added, list removed):
        """Adds rules, replacing those of the same names, and removes others; the cost is that of the change alone.

        A rule that is replaced keeps its turn among those of its precedence, a new one follows them.
        """
        self.check_names(added, removed)
        self.check_buckets(added, removed)
        self.change(self.filters, added, removed)

    cdef change(self, FilterBook filters, list added, list removed):
        """``filters``: the book's own, or a new one that is to replace it."""
        cdef bint anew = filters is not self.filters
        cdef list gone = removed + [rule.name for rule in added if rule.name in self.rule_places]
        cdef list firsts, left_buckets, places = []
        cdef uint32_t place
        cdef rule_t *r
        self.make_room(added)
        firsts = filters.prepare(added)
        left_buckets = [self.leave(name, anew) for name in gone]
        if anew:
            self.filters = filters
            self.table.index = filters.index
        for rule, first in zip(added, firsts):
            place = self.place_of_rule(rule.name)
            places.append(place)
            r = &self.table.rules[place]
            if anew or r.sequence == 0:
                self.next_sequence += 1
                r.sequence = self.next_sequence
            r.precedence = rule.precedence
            r.first_filter = first
            self.place_rule(r, rule)
        # The last first: each then stands at the head of its chain without a search.
        places.sort(key=self.turn_of, reverse=True)
        for place in places:
            r = &self.table.rules[place]
            filters.link(r.first_filter, place, r.precedence, r.sequence)
        for buckets in left_buckets:
            self.leave_buckets(buckets)
        for name in removed:
            self.forget(name)

    def turn_of(self, uint32_t place):
        """By what the rules are put in the order in which they are tried."""
        return self.table.rules[place].precedence, self.table.rules[place].sequence

    cdef check_names(self, list added, list removed):
        names = {rule.name for rule in added}
        problems = [
            f"rule {name!r}: cannot be removed, it is not installed" for name in removed if name not in self.rule_places
        ]
        problems += [f"rule {name!r}: cannot be both added and removed" for name in removed if name in names]
        if len(set(removed)) < len(removed):
            problems.append("rules to remove: found a name twice, expected each once")
        if problems:
            raise RulesError(problems)

    cdef check_buckets(self, list added, list removed):
        """in_order() has held the rules that come to one another; here they are held to those that stay."""
        terms = {}
        for rule in added:
            for bucket_id, terms_of_bucket in shared_buckets(rule):
                terms.setdefault(bucket_id, (terms_of_bucket, rule.name))
        coming = [key for key in terms if key in self.bucket_places]
        if not coming:
            return
        leaving = {}
        for name in [*removed, *(rule.name for rule in added if rule.name in self.rule_places)]:
            for place in self.buckets_of(self.rule(name)):
                leaving[place] = leaving.get(place, 0) + 1
        problems = []
        for key in coming:
            place = self.bucket_places[key]
            terms_of_bucket, name = terms[key]
            if self.bucket_users[place] > leaving.get(place, 0) and self.bucket_terms[place] != terms_of_bucket:
                problems.append(f"rule {name!r}: bucket {key!r} has other parameters in a rule that stays")
        if problems:
            raise RulesError(problems)

    cdef make_room(self, list added):
        """For as many rules and buckets more as there could be."""
        cdef uint64_t rules = len(self.rule_names) + len(added)
        cdef uint64_t buckets = len(self.bucket_keys) + sum([bucket_count(rule) for rule in added])
        if rules > STATE_RULE:
            raise UpfError(f"rules: found {rules - 1}, expected at most {STATE_RULE}")
        self.treatments.make_room(len(added))
        self.table.treatments = self.treatments.treatments
        if rules > self.rule_room:
            rules = max(rules, 2 * <uint64_t>self.rule_room)
            self.table.rules = <rule_t *>grown(self.table.rules, rules, sizeof(rule_t))
            self.table.touched = <uint32_t *>grown(self.table.touched, rules, sizeof(uint32_t))
            self.rule_room = rules
        if buckets > self.bucket_room:
            buckets = max(buckets, 2 * <uint64_t>self.bucket_room)
            self.table.buckets = <bucket_t *>grown(self.table.buckets, buckets, sizeof(bucket_t))
            self.table.shared = <shared_t *>grown(self.table.shared, buckets, sizeof(shared_t))
            self.bucket_room = buckets

    cdef tuple leave(self, str name, bint anew):
        """A rule is about to go or to be replaced: the buckets that it leaves."""
        cdef rule_t *r = self.rule(name)
        cdef int64_t filling_ns = r.filling_ns
        if not anew:
            self.filters.unlink(r.first_filter)
        r.first_filter = 0
        if r.per_flow:
            self.fillings[filling_ns] -= 1
            if not self.fillings[filling_ns]:
                del self.fillings[filling_ns]
        return self.buckets_of(r)

    cdef tuple buckets_of(self, const rule_t *r):
        """The places of the buckets that the rule uses."""
        cdef const treatment_t *t = &self.table.treatments[r.treatment]
        above = tuple([t.aggregates[i] for i in range(t.aggregate_count)])
        return above if r.own_bucket else (r.bucket, *above)

    cdef leave_buckets(self, tuple places):
        for place in places:
            self.bucket_users[place] -= 1
            if not self.bucket_users[place]:
                del self.bucket_places[self.bucket_keys[place]]
                self.free_buckets.append(place)

    cdef uint32_t place_of_rule(self, str name) except? 0:
        cdef uint32_t place
        cdef bint touched = False
        if name in self.rule_places:
            return self.rule_places[name]
        if self.free_rules:
            place = self.free_rules.pop()
            self.rule_names[place] = name
            # Its place may still stand in the list of the next harvest.
            touched = self.table.rules[place].touched
        else:
            place = len(self.rule_names)
            self.rule_names.append(name)
        self.rule_places[name] = place
        memset(&self.table.rules[place], 0, sizeof(rule_t))
        self.table.rules[place].last_excess_ns = 1 - AVERAGING_WINDOW_NS
        self.table.rules[place].touched = touched
        self.table.rules[place].born = self.table.rules[place].kept_from = <uint32_t>self.table.generation + 1
        return place

    cdef uint32_t place_of_bucket(self, key, policer, uint8_t kind, int64_t owed_at_most, terms) except? 0:
        """The place of a bucket that the rule is to use; ``terms``: see shared_buckets().

        A bucket that there was keeps its tokens, as far as its new limits allow, unless it is of another kind.
        """
        cdef uint32_t place
        cdef shared_t *shared
        cdef limits_t limits, excess
        cdef bint stays = key in self.bucket_places
        set_limits(&limits, policer.rate_bps, policer.burst_bytes)
        set_excess_limits(&excess, policer)
        if stays:
            place = self.bucket_places[key]
        else:
            if self.free_buckets:
                place = self.free_buckets.pop()
                self.bucket_keys[place] = key
            else:
                place = len(self.bucket_keys)
                self.bucket_keys.append(key)
                self.bucket_terms.append(None)
                self.bucket_users.append(0)
            self.bucket_places[key] = place
        shared = &self.table.shared[place]
        shared.limits = limits
        if stays and shared.kind == kind:
            limit_bucket(&self.table.buckets[place], &shared.excess_tokens, &limits, &excess, owed_at_most)
        else:
            shared.kind = kind
            shared.excess_tokens = excess.capacity
            fill_bucket(&self.table.buckets[place], &limits)
        self.bucket_terms[place] = terms
        self.bucket_users[place] += 1
        return place

    cdef place_rule(self, rule_t *r, rule):
        """What the packet path does with the packets of the rule."""
        cdef bint per_flow = rule.per_flow and rule.policer is not None
        cdef uint8_t kind = kind_of(rule) if rule.policer is not None else 0
        cdef dict terms = dict(shared_buckets(rule)) if rule.bucket_id or rule.aggregates else {}
        if per_flow != r.per_flow or kind != r.kind:
            # Its flows have no bucket of their own to keep, or need none any more: they begin anew.
            r.kept_from = <uint32_t>self.table.generation + 1
        r.per_flow = per_flow
        r.kind = kind
        r.own_bucket = True
        r.above = FATE_EXCEEDING if rule.mode is Mode.MONITOR or rule.mode is Mode.MARK else FATE_DROPPED
        self.treatments.treat(r, rule, [
            self.place_of_bucket(above.bucket_id, above.policer, MARKER_TOKEN_BUCKET, 0, terms[above.bucket_id])
            for above in rule.aggregates
        ])
        r.quick = r.touched and r.simple
        set_verdicts(r, VERDICT_CONFORMING)
        if rule.policer is None:
            memset(&r.limits, 0, sizeof(limits_t))
            return
        set_limits(&r.limits, rule.policer.rate_bps, rule.policer.burst_bytes)
        if per_flow:
            r.filling_ns = rule.filling_ns
            self.fillings[r.filling_ns] = self.fillings.get(r.filling_ns, 0) + 1
        else:
            r.own_bucket = False
            r.bucket = self.place_of_bucket(
                bucket_key(rule), rule.policer, kind, rule.queue_bit_ns, terms.get(rule.bucket_id)
            )

    cdef forget(self, str name):
        cdef uint32_t place = self.rule_places.pop(name)
        cdef rule_t *r = &self.table.rules[place]
        self.free_rules.append(place)
        self.treatments.forget(r)
        self.forgotten_bytes += rule_bytes(r)
        memset(r.packets, 0, sizeof(r.packets))
        memset(r.bytes, 0, sizeof(r.bytes))

    # --- what was counted -----------------------------------------------------------------------------------------

    cdef counters(self):
        """Counters of every installed rule, by name, in the order in which they are tried."""
        order = sorted(self.rule_places.items(), key=lambda item: self.turn_of(item[1]))
        return {name: self.counters_at(place) for name, place in order}

    cdef counters_at(self, uint32_t place):
        return counters_of(&self.table.rules[place], &self.table.treatments[self.table.rules[place].treatment])

    cdef list take_touched(self):
        """Places of the rules that have counted something since the last time."""
        cdef uint32_t i, place
        places = []
        for i in range(self.table.touched_count):
            place = self.table.touched[i]
            self.table.rules[place].touched = self.table.rules[place].quick = False
            places.append(place)
        self.table.touched_count = 0
        return places

    cdef dict counters_at_places(self, list places):
        """By name, where the place is still a rule's: one that is free bears its last name."""
        counters = {}
        for place in places:
            name = self.rule_names[place]
            if self.rule_places.get(name) == place:
                counters[name] = self.counters_at(place)
        return counters

    cdef uint64_t matched_bytes(self) noexcept:
        """Of all rules that there are or were."""
        cdef uint64_t total = self.forgotten_bytes
        cdef uint32_t place
        for place in range(1, <uint32_t>len(self.rule_names)):
            total += rule_bytes(&self.table.rules[place])
        return total

    cdef str name_of(self, flow_t *flow):
        """The rule that classified the flow; empty where another rule has been given its place since."""
        if generation_of(flow) < self.table.rules[flow.state & STATE_RULE].born:
            return ""
        return self.rule_names[flow.state & STATE_RULE]


cdef counters_of(const rule_t *r, const treatment_t *t):
    return RuleCounters(
        conforming_packets=r.packets[FATE_CONFORMING], conforming_bytes=r.bytes[FATE_CONFORMING],
        exceeding_packets=r.packets[FATE_EXCEEDING], exceeding_bytes=r.bytes[FATE_EXCEEDING],
        dropped_packets=r.packets[FATE_DROPPED], dropped_bytes=r.bytes[FATE_DROPPED],
        first_ns=r.first_ns, last_ns=r.last_ns,
        excess_since_ns=r.excess_since_ns, last_excess_ns=max(r.last_excess_ns, 0),
        yellow_packets=r.packets[FATE_YELLOW], yellow_bytes=r.bytes[FATE_YELLOW],
        gated_packets=t.gated_packets, delayed_packets=t.delayed_packets, delay_max_ns=t.delay_max_ns,
        delay_sum_ns=t.delay_sum_ns[0] + (<object>t.delay_sum_ns[1] << 64),
    )


cdef Py_ssize_t bucket_count(rule) except -1:
    """How many buckets the rule could need a place for."""
    return (rule.policer is not None) + len(rule.aggregates)


cdef uint64_t rule_bytes(const rule_t *rule):
    return (
        rule.bytes[FATE_CONFORMING] + rule.bytes[FATE_YELLOW] + rule.bytes[FATE_EXCEEDING] + rule.bytes[FATE_DROPPED]
    )


cdef set_verdicts(rule_t *rule, uint8_t conforming):
    rule.verdicts[FATE_CONFORMING] = conforming
    rule.verdicts[FATE_YELLOW] = VERDICT_YELLOW
    rule.verdicts[FATE_EXCEEDING] = VERDICT_EXCEEDING
    rule.verdicts[FATE_DROPPED] = VERDICT_DROPPED


cdef bucket_key(rule):
    """Of the bucket that the rule does not leave to its flows: an identifier is a string, a name the tuple of it."""
    return rule.bucket_id or (rule.name,)


cdef void *grown(void *array, uint64_t room, size_t element_bytes) except NULL:
    """The array with room for so many; what is new is as it comes."""
    cdef void *larger = realloc(array, room * element_bytes)
    if larger == NULL:
        raise MemoryError
    return larger


cdef set_limits(limits_t *limits, rate_bps, burst_bytes):
    capacity = burst_bytes * 8_000_000_000
    limits.rate_bps = rate_bps
    limits.cost_of_byte = 8_000_000_000
    limits.capacity = capacity
    limits.filling_ns = -(-capacity // rate_bps)
