"""The C header beside this file, as Cython sees it."""

from libc.stdint cimport int64_t


cdef extern from "system.h" nogil:
    void *aligned_alloc(size_t alignment, size_t size)
    int64_t cc_monotonic_ns()
    int64_t cc_utc_ns()
    bint cc_hasten(bint before_all)
    int cc_wait(int first, int second, int64_t timeout_ns)
    int64_t cc_waited_ns(int schedstat)
    ssize_t cc_write_both(int fd, const void *head, size_t head_bytes, const void *rest, size_t rest_bytes)
