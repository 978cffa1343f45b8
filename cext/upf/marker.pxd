"""The markers of RFC 2697, RFC 2698 and RFC 4115, shaping, gates and aggregates: what a rule does beyond one token bucket.

Exact like the token bucket, in bit-nanoseconds; the bounds are proved in upf/policing.py. Two capacities are below 2**63
together, and so is what a bucket that may owe lacks to be full.
"""

from libc.stdint cimport int8_t, int64_t, uint8_t, uint32_t, uint64_t

from bucket cimport LONGEST_BYTES, bucket_t, limits_t


# In the order of upf.rules.Marker.
cdef enum marker_t:
    MARKER_TOKEN_BUCKET
    MARKER_SRTCM
    MARKER_TRTCM
    MARKER_DIFFSERV_TRTCM

cdef enum colour_t:
    COLOUR_GREEN
    COLOUR_YELLOW
    COLOUR_RED
    GATED                       # no colour: the gate was closed

cdef enum:
    MOST_AGGREGATES = 4


# What a rule does beyond one token bucket, and what only then is counted. Zeros but for the gate: nothing more.
ctypedef struct treatment_t:
    limits_t excess             # of RFC 2697: no rate, and the time that fills both buckets
    int64_t owed_at_most        # bit-nanoseconds; where it shapes
    uint64_t gated_packets
    uint64_t delayed_packets
    uint64_t delay_max_ns
    uint64_t delay_sum_ns[2]    # low half, high half
    uint32_t aggregates[MOST_AGGREGATES]    # places of buckets
    uint8_t aggregate_count
    uint8_t marker
    bint colour_aware
    bint gate_open
    bint marks
    bint shapes
    bint wide                   # the bucket is the flow's own and has a second one
    int8_t dscp[3]              # by colour; -1: as it came


# What a shared bucket has beside its tokens and time.
ctypedef struct shared_t:
    limits_t limits
    int64_t excess_tokens
    uint8_t kind                # of bucket; see kind_of() in treatment_book.pxi


cdef inline void limit_bucket(
    bucket_t *bucket, int64_t *excess_tokens, const limits_t *limits, const limits_t *excess, int64_t owed_at_most
) noexcept nogil:
    """New limits: what has been earned stays as far as there is room, what is owed as far as that is allowed."""
    if bucket.tokens > limits.capacity:
        bucket.tokens = limits.capacity
    if bucket.tokens < -owed_at_most:
        bucket.tokens = -owed_at_most
    if excess_tokens[0] > excess.capacity:
        excess_tokens[0] = excess.capacity


cdef inline colour_t colour_of_dscp(uint8_t dscp) noexcept nogil:
    """AFx1 is green, AFx2 yellow, AFx3 red (RFC 2597); so is nothing else but green."""
    cdef uint8_t drop = (dscp >> 1) & 3
    if dscp & 1 or drop == 0 or dscp < 8 or dscp >= 40:
        return COLOUR_GREEN
    return <colour_t>(drop - 1)


cdef inline int64_t pass_time(bucket_t *bucket, int64_t ts_ns, uint64_t *time_steps_back) noexcept nogil:
    """The time that has passed at the bucket, which is then that of the packet unless it was later already."""
    cdef int64_t elapsed_ns = ts_ns - bucket.latest_ns
    if elapsed_ns < -10000000000LL:
        # More than 10 s back is a clock that was set, not packets out of order.
        time_steps_back[0] += 1
        bucket.latest_ns = ts_ns
        return 0
    if elapsed_ns <= 0:
        return 0
    bucket.latest_ns = ts_ns
    return elapsed_ns


cdef inline void refill(int64_t *tokens, const limits_t *limits, int64_t elapsed_ns) noexcept nogil:
    if elapsed_ns > limits.filling_ns:
        elapsed_ns = limits.filling_ns
    tokens[0] += limits.rate_bps * elapsed_ns
    if tokens[0] > limits.capacity:
        tokens[0] = limits.capacity


cdef inline void refill_both(
    int64_t *tokens, const limits_t *limits, int64_t *excess_tokens, const limits_t *excess, int64_t elapsed_ns
) noexcept nogil:
    """RFC 2697: one rate, and what the first bucket has no room for goes to the second."""
    cdef int64_t room = limits.capacity - tokens[0], earned
    if elapsed_ns > excess.filling_ns:
        elapsed_ns = excess.filling_ns
    earned = limits.rate_bps * elapsed_ns
    if earned <= room:
        tokens[0] += earned
        return
    tokens[0] = limits.capacity
    earned -= room
    room = excess.capacity - excess_tokens[0]
    excess_tokens[0] += earned if earned < room else room


cdef inline void pay_back(int64_t *tokens, const limits_t *limits, int64_t elapsed_ns) noexcept nogil:
    """Where tokens may be owed, what is missing decides which time fills the bucket."""
    cdef int64_t missing = limits.capacity - tokens[0]
    if elapsed_ns >= (missing + limits.rate_bps - 1) // limits.rate_bps:
        tokens[0] = limits.capacity
    else:
        tokens[0] += limits.rate_bps * elapsed_ns


cdef inline void earn(
    const treatment_t *treatment, const limits_t *limits, bucket_t *bucket, int64_t *excess_tokens, int64_t elapsed_ns
) noexcept nogil:
    if treatment.shapes:
        pay_back(&bucket.tokens, limits, elapsed_ns)
    elif treatment.marker == MARKER_SRTCM:
        refill_both(&bucket.tokens, limits, excess_tokens, &treatment.excess, elapsed_ns)
    else:
        refill(&bucket.tokens, limits, elapsed_ns)
        if treatment.marker != MARKER_TOKEN_BUCKET:
            refill(excess_tokens, &treatment.excess, elapsed_ns)


cdef inline colour_t colour_of(
    const treatment_t *treatment, const limits_t *limits, int64_t tokens, int64_t excess_tokens, int64_t cost,
    colour_t incoming,
) noexcept nogil:
    if treatment.shapes:
        return (
            COLOUR_GREEN if cost <= limits.capacity and cost - tokens <= treatment.owed_at_most else COLOUR_RED
        )
    if incoming == COLOUR_RED:
        return COLOUR_RED
    if treatment.marker == MARKER_TOKEN_BUCKET:
        return incoming if tokens >= cost else COLOUR_RED
    if treatment.marker == MARKER_TRTCM:
        # The peak bucket contains the committed one.
        if excess_tokens < cost:
            return COLOUR_RED
        return COLOUR_GREEN if incoming == COLOUR_GREEN and tokens >= cost else COLOUR_YELLOW
    if incoming == COLOUR_GREEN and tokens >= cost:
        return COLOUR_GREEN
    return COLOUR_YELLOW if excess_tokens >= cost else COLOUR_RED


cdef inline colour_t enforce(
    const treatment_t *treatment, const limits_t *limits, bucket_t *bucket, int64_t *excess_tokens, bucket_t *buckets,
    const shared_t *shared, int64_t ts_ns, uint64_t length, colour_t incoming, uint64_t *time_steps_back,
) noexcept nogil:
    """What a packet of ``length`` bytes becomes: GATED, or its colour, for which it then has paid.

    Own bucket (NULL where nothing is policed) and aggregates are charged together or not at all; the time of all passes.
    """
    cdef colour_t colour = COLOUR_GREEN
    cdef int64_t cost = 0
    cdef uint32_t place
    cdef int i
    if bucket != NULL:
        earn(treatment, limits, bucket, excess_tokens, pass_time(bucket, ts_ns, time_steps_back))
    for i in range(treatment.aggregate_count):
        place = treatment.aggregates[i]
        refill(
            &buckets[place].tokens, &shared[place].limits, pass_time(&buckets[place], ts_ns, time_steps_back)
        )
    if not treatment.gate_open:
        return GATED
    if length > LONGEST_BYTES:
        # Nothing conforms to a bucket that is longer than any bucket is deep; its cost would not fit.
        return COLOUR_GREEN if bucket == NULL and treatment.aggregate_count == 0 else COLOUR_RED
    cost = <int64_t>length * 8000000000LL
    if bucket != NULL:
        colour = colour_of(treatment, limits, bucket.tokens, excess_tokens[0], cost, incoming)
    for i in range(treatment.aggregate_count):
        if buckets[treatment.aggregates[i]].tokens < cost:
            colour = COLOUR_RED
    if colour == COLOUR_RED:
        return COLOUR_RED
    for i in range(treatment.aggregate_count):
        buckets[treatment.aggregates[i]].tokens -= cost
    if bucket != NULL:
        if colour == COLOUR_GREEN or treatment.marker == MARKER_TOKEN_BUCKET:
            bucket.tokens -= cost
        if treatment.marker == MARKER_TRTCM or (colour == COLOUR_YELLOW and treatment.marker != MARKER_TOKEN_BUCKET):
            excess_tokens[0] -= cost
    return colour


cdef inline int64_t departure_ns(const bucket_t *bucket, const limits_t *limits) noexcept nogil:
    """When the packet that has been charged last leaves: when what is owed has been earned."""
    if bucket.tokens >= 0:
        return bucket.latest_ns
    return bucket.latest_ns + (limits.rate_bps - 1 - bucket.tokens) // limits.rate_bps


cdef inline void count_delay(treatment_t *treatment, uint64_t delay_ns) noexcept nogil:
    if delay_ns == 0:
        return
    treatment.delayed_packets += 1
    if treatment.delay_max_ns < delay_ns:
        treatment.delay_max_ns = delay_ns
    treatment.delay_sum_ns[0] += delay_ns
    treatment.delay_sum_ns[1] += treatment.delay_sum_ns[0] < delay_ns
