"""The bookkeeping of what rules do beyond one token bucket: a treatment has its place as long as its rule."""

# In the order of marker_t.
MARKERS = (Marker.TOKEN_BUCKET, Marker.SRTCM, Marker.TRTCM, Marker.DIFFSERV_TRTCM)

cdef enum:
    # Beside the marker in the kind of a bucket: it may owe.
    KIND_SHAPES = 8


cdef class TreatmentBook:
    """The treatments by place. Place 0 is that of all rules that are simple: it adds nothing."""

    cdef treatment_t *treatments
    cdef uint32_t room
    cdef uint32_t used
    cdef list free_places
    # How many rules mark or look at colours, shape, or give flows a second bucket.
    cdef uint32_t locating
    cdef uint32_t shaping
    cdef uint32_t widening

    def __cinit__(self):
        self.room, self.used = 4, 1
        self.treatments = <treatment_t *>calloc(self.room, sizeof(treatment_t))
        if self.treatments == NULL:
            raise MemoryError
        self.treatments[0].gate_open = True
        self.free_places = []

    def __dealloc__(self):
        free(self.treatments)

    cdef make_room(self, uint64_t count):
        """For as many treatments more, so that treat() cannot fail."""
        cdef uint64_t wanted = self.used + count
        cdef treatment_t *larger
        if wanted <= self.room:
            return
        wanted = max(wanted, 2 * <uint64_t>self.room)
        larger = <treatment_t *>realloc(self.treatments, wanted * sizeof(treatment_t))
        if larger == NULL:
            raise MemoryError
        self.treatments, self.room = larger, wanted

    cdef treat(self, rule_t *r, rule, aggregate_places):
        """Gives the rule its treatment; one that it had keeps its counters."""
        cdef treatment_t *t
        cdef int i
        r.simple = is_simple(rule)
        if r.simple and r.treatment == 0:
            return
        if r.treatment == 0:
            if self.free_places:
                r.treatment = self.free_places.pop()
            else:
                r.treatment = self.used
                self.used += 1
            memset(&self.treatments[r.treatment], 0, sizeof(treatment_t))
        t = &self.treatments[r.treatment]
        self.count(t, -1)
        t.marker = t.colour_aware = 0
        memset(&t.excess, 0, sizeof(limits_t))
        if rule.policer is not None:
            t.marker = MARKERS.index(rule.policer.marker)
            t.colour_aware = rule.policer.colour_aware
            set_excess_limits(&t.excess, rule.policer)
        t.owed_at_most = rule.queue_bit_ns
        t.gate_open = rule.gate_open
        t.marks = rule.mode is Mode.MARK
        t.shapes = rule.mode is Mode.SHAPE
        t.wide = r.per_flow and t.marker != MARKER_TOKEN_BUCKET
        for i in range(3):
            t.dscp[i] = -1 if rule.dscp[i] is None else rule.dscp[i]
        t.aggregate_count = len(aggregate_places)
        for i in range(t.aggregate_count):
            t.aggregates[i] = aggregate_places[i]
        self.count(t, 1)

    cdef forget(self, rule_t *r):
        """The rule goes."""
        if r.treatment == 0:
            return
        self.count(&self.treatments[r.treatment], -1)
        self.free_places.append(r.treatment)
        r.treatment = 0

    cdef void count(self, const treatment_t *t, int by) noexcept:
        self.locating += by * (t.marks or t.colour_aware or t.shapes)
        self.shaping += by * t.shapes
        self.widening += by * t.wide


cdef bint is_simple(rule) except -1:
    """Whether one token bucket, or none, is all that there is to the rule."""
    return (
        rule.gate_open and not rule.aggregates and (rule.mode is Mode.MONITOR or rule.mode is Mode.POLICE)
        and (
            rule.policer is None
            or (rule.policer.marker is Marker.TOKEN_BUCKET and not rule.policer.colour_aware)
        )
    )


cdef uint8_t kind_of(rule) except? 0xFF:
    """What may not change for a bucket to keep its tokens: its marker, and whether it may owe."""
    return MARKERS.index(rule.policer.marker) | (KIND_SHAPES if rule.mode is Mode.SHAPE else 0)


cdef set_excess_limits(limits_t *limits, policer):
    memset(limits, 0, sizeof(limits_t))
    if policer.marker is Marker.TOKEN_BUCKET:
        return
    limits.capacity = policer.excess_burst_bytes * 8_000_000_000
    limits.rate_bps = policer.excess_rate_bps
    limits.cost_of_byte = 8_000_000_000
    # Of RFC 2697, the time that fills both buckets.
    limits.filling_ns = (
        policer.filling_ns if policer.marker is Marker.SRTCM else -(-limits.capacity // policer.excess_rate_bps)
    )
