"""The rules as the packet path sees them: limits and counters by place, shared buckets, filters in order."""

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from bucket cimport bucket_t, limits_t
from filters cimport filter_t, port_range_t
from intrinsics cimport cc_likely

cdef enum:
    # The place that counts what no rule wants.
    NO_RULE = 0


ctypedef struct rule_t:
    limits_t limits
    uint64_t conforming_packets
    uint64_t conforming_bytes
    uint64_t exceeding_packets
    uint64_t exceeding_bytes
    uint64_t dropped_packets
    uint64_t dropped_bytes
    int64_t first_ns
    int64_t last_ns
    int64_t excess_since_ns
    int64_t last_excess_ns
    uint32_t bucket             # place of the shared bucket
    uint32_t born               # generation in which this place was given to this rule
    bint policed
    bint per_flow
    bint drops


ctypedef struct rule_table_t:
    rule_t *rules
    bucket_t *buckets
    filter_t *filters
    port_range_t *port_ranges
    uint32_t filter_count
    uint16_t generation         # of the rule set; flows bear the one that classified them


cdef inline void count_rule(
    rule_t *rule, int64_t ts_ns, uint64_t length, bint conforming, int64_t averaging_window_ns
) noexcept nogil:
    if rule.last_ns < ts_ns:
        rule.last_ns = ts_ns
    if cc_likely(conforming):
        rule.conforming_packets += 1
        rule.conforming_bytes += length
        return
    if rule.last_excess_ns == 0 or ts_ns - rule.last_excess_ns >= averaging_window_ns:
        rule.excess_since_ns = ts_ns
    if rule.last_excess_ns < ts_ns:
        rule.last_excess_ns = ts_ns
    if rule.drops:
        rule.dropped_packets += 1
        rule.dropped_bytes += length
    else:
        rule.exceeding_packets += 1
        rule.exceeding_bytes += length
