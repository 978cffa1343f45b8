"""The token bucket, exact: tokens are bit-nanoseconds, so a rate in bit/s times a time in ns needs no division.

capacity = burst_bytes * 8e9, cost = length * 8e9, refill = rate_bps * elapsed_ns. With burst_bytes <= 2**29 the capacity is
below 2**62; the elapsed time is clamped to what fills the bucket before it is multiplied, so nothing exceeds 63 bits.
"""

from libc.stdint cimport int64_t, uint64_t

from intrinsics cimport cc_unlikely


cdef enum bucket_bound_t:
    # A packet this long conforms to no bucket; what a longer one costs would not fit.
    LONGEST_BYTES = 1 << 30


# What a bucket may do; shared by the flows of a rule or copied by none.
ctypedef struct limits_t:
    int64_t rate_bps
    int64_t capacity            # bit-nanoseconds
    int64_t filling_ns          # time in which an empty bucket is full, rounded up
    int64_t cost_of_byte        # 8e9, or 0 where nothing is policed and every packet conforms


ctypedef struct bucket_t:
    int64_t tokens              # bit-nanoseconds
    int64_t latest_ns           # latest packet time seen


cdef inline void fill_bucket(bucket_t *bucket, const limits_t *limits) noexcept nogil:
    """A bucket that has seen nothing: full at the first packet, whenever that comes."""
    bucket.tokens = limits.capacity
    bucket.latest_ns = -(<int64_t>1 << 62)


cdef inline int64_t take_tokens(
    bucket_t *bucket, const limits_t *limits, int64_t ts_ns, uint64_t length, uint64_t *time_steps_back
) noexcept nogil:
    """1 where a packet of ``length`` bytes finds its tokens, which it then takes; else 0. No branch on the outcome."""
    cdef int64_t elapsed_ns = ts_ns - bucket.latest_ns
    cdef int64_t cost, tokens, conforming
    if cc_unlikely(elapsed_ns < -10000000000LL):
        # More than 10 s back is a clock that was set, not packets out of order.
        if limits.cost_of_byte != 0:
            bucket.latest_ns = ts_ns
            time_steps_back[0] += 1
    elapsed_ns = elapsed_ns if elapsed_ns > 0 else 0
    bucket.latest_ns += elapsed_ns
    elapsed_ns = elapsed_ns if elapsed_ns < limits.filling_ns else limits.filling_ns
    tokens = bucket.tokens + limits.rate_bps * elapsed_ns
    tokens = tokens if tokens < limits.capacity else limits.capacity
    cost = <int64_t>(length if length < LONGEST_BYTES else LONGEST_BYTES) * limits.cost_of_byte
    conforming = tokens >= cost
    bucket.tokens = tokens - (cost & -conforming)
    return conforming
