"""The rules as the packet path sees them: limits and counters by place, shared buckets, filters in order."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from bucket cimport bucket_t, limits_t, take_tokens
from filters cimport filter_t, port_range_t
from flowtable cimport count_flow, flow_t
from intrinsics cimport cc_unlikely

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
    bint touched                # has counted something since the last harvest
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


ctypedef struct rule_table_t:
    rule_t *rules
    bucket_t *buckets
    filter_t *filters
    port_range_t *port_ranges
    uint32_t filter_count
    uint16_t generation         # of the rule set; flows bear the one that classified them
    int64_t averaging_window_ns


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
