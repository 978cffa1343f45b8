"""The rules as the packet path sees them: limits and counters by place, shared buckets, the index of the filters."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from bucket cimport bucket_t, limits_t, take_tokens
from filter_index cimport filter_index_t
from flowtable cimport count_flow, flow_t
from intrinsics cimport cc_unlikely
from marker cimport shared_t, treatment_t

cdef enum:
    # The place that counts what no rule wants.
    NO_RULE = 0


# What became of a packet of a rule, and the index of what counts it. From FATE_EXCEEDING on, it was above the rate.
cdef enum:
    FATE_CONFORMING
    FATE_YELLOW             # within the excess of a three-colour marker
    FATE_EXCEEDING          # above the rate, passed
    FATE_DROPPED
    FATES


ctypedef struct rule_t:
    # What the packet path reads of every packet's rule ...
    limits_t limits
    uint32_t bucket             # place of the shared bucket
    bint quick                  # simple and touched: the short way
    bint own_bucket             # the bucket is the flow's own
    uint8_t above               # fate of what exceeds the rate
    uint8_t verdicts[FATES]     # verdict_t, by fate
    bint touched                # stands in the table's list of those that have counted since the last harvest
    bint simple                 # one token bucket or none, and nothing else
    # ... and what it writes.
    uint64_t packets[FATES]
    uint64_t bytes[FATES]
    int64_t last_ns
    int64_t last_excess_ns      # 1 - averaging_window_ns, which nothing is within a window of, before there was one
    int64_t excess_since_ns
    int64_t first_ns
    bint per_flow
    uint32_t born               # generation in which this place was given to this rule
    uint32_t kept_from          # generation from which on a flow that stays under it keeps its bucket; born or later
    uint32_t first_filter       # 0: it has none
    uint32_t precedence
    uint64_t sequence
    uint32_t treatment          # place of what it does beyond one token bucket
    uint8_t kind                # of its bucket; see kind_of() in treatment_book.pxi
    int64_t filling_ns          # in which every bucket of its own is full


ctypedef struct rule_table_t:
    rule_t *rules
    bucket_t *buckets
    shared_t *shared            # what each of the buckets has beside tokens and time
    treatment_t *treatments
    filter_index_t *index
    uint32_t *touched           # places of the rules that have counted something since the last harvest, each once
    uint32_t touched_count
    uint16_t generation         # of the rule set; flows bear the one that classified them
    int64_t averaging_window_ns


cdef inline void touch_rule(rule_table_t *table, rule_t *rule) noexcept nogil:
    """The next harvest asks for the rule's counters."""
    rule.touched = True
    rule.quick = rule.simple
    table.touched[table.touched_count] = <uint32_t>(rule - table.rules)
    table.touched_count += 1


cdef inline void count_gated(rule_t *rule, int64_t ts_ns, uint64_t length) noexcept nogil:
    """A packet that a closed gate stops: it says nothing about the rate."""
    rule.packets[FATE_DROPPED] += 1
    rule.bytes[FATE_DROPPED] += length
    rule.last_ns = ts_ns if rule.last_ns < ts_ns else rule.last_ns


cdef inline void count_rule(
    rule_t *rule, int64_t ts_ns, uint64_t length, uint64_t fate, int64_t above, int64_t averaging_window_ns
) noexcept nogil:
    """``above``: -1 for a packet above the rate, else 0. No branch depends on it alone: no processor foresees it."""
    cdef int64_t excess_ns = ts_ns & above
    rule.packets[fate] += 1
    rule.bytes[fate] += length
    rule.last_ns = ts_ns if rule.last_ns < ts_ns else rule.last_ns
    if cc_unlikely(excess_ns - rule.last_excess_ns >= averaging_window_ns):
        rule.excess_since_ns = excess_ns
    rule.last_excess_ns = excess_ns if rule.last_excess_ns < excess_ns else rule.last_excess_ns


cdef inline uint8_t judge_simply(
    rule_t *rule, bucket_t *buckets, flow_t *flow, int64_t ts_ns, uint64_t length, int64_t averaging_window_ns,
    uint64_t *time_steps_back,
) noexcept nogil:
    """The verdict of a rule that is one token bucket, or none; everything is counted."""
    cdef bucket_t *bucket = &flow.bucket
    cdef int64_t conforming, above
    cdef uint64_t fate
    if not rule.own_bucket:
        bucket = &buckets[rule.bucket]
        flow.bucket.latest_ns = ts_ns if ts_ns > flow.bucket.latest_ns else flow.bucket.latest_ns
    conforming = take_tokens(bucket, &rule.limits, ts_ns, length, time_steps_back)
    above = conforming - 1
    fate = rule.above & <uint64_t>above
    count_flow(flow, length, conforming)
    count_rule(rule, ts_ns, length, fate, above, averaging_window_ns)
    return rule.verdicts[fate]
