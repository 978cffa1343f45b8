"""The rules as the packet path sees them: limits and counters by place, shared buckets, filters in order."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from bucket cimport bucket_t, limits_t
from filters cimport filter_t, port_range_t
from intrinsics cimport cc_unlikely

cdef enum:
    # The place that counts what no rule wants.
    NO_RULE = 0


# What became of a packet of a rule, and the index of what counts it.
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
    bint simple                 # one token bucket or none, and nothing else: the short way through judge()
    bint own_bucket             # the bucket is the flow's own
    uint8_t above               # fate of what exceeds the rate
    uint8_t verdicts[FATES]     # verdict_t, by fate
    bint touched                # has counted something since the last harvest
    # ... and what it writes.
    uint64_t packets[FATES]
    uint64_t bytes[FATES]
    int64_t last_ns
    int64_t last_excess_ns
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


cdef inline void count_rule(
    rule_t *rule, int64_t ts_ns, uint64_t length, uint64_t fate, int64_t averaging_window_ns
) noexcept nogil:
    cdef bint excess = fate >= FATE_EXCEEDING
    rule.packets[fate] += 1
    rule.bytes[fate] += length
    rule.last_ns = ts_ns if rule.last_ns < ts_ns else rule.last_ns
    if cc_unlikely(excess and (rule.last_excess_ns == 0 or ts_ns - rule.last_excess_ns >= averaging_window_ns)):
        rule.excess_since_ns = ts_ns
    rule.last_excess_ns = ts_ns if excess and rule.last_excess_ns < ts_ns else rule.last_excess_ns
