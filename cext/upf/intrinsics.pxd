"""The C header beside this file, as Cython sees it."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "intrinsics.h" nogil:
    bint cc_likely(bint condition)
    bint cc_unlikely(bint condition)
    void cc_prefetch_write(const void *address)
    void cc_prefetch_read(const void *address)
    uint16_t cc_native16(const uint8_t *p)
    uint32_t cc_native32(const uint8_t *p)
    uint64_t cc_native64(const uint8_t *p)
    uint16_t cc_swapped16(uint16_t v)
    uint32_t cc_swapped32(uint32_t v)
    uint64_t cc_swapped64(uint64_t v)
    uint16_t cc_network16(const uint8_t *p)
    uint32_t cc_network32(const uint8_t *p)
    uint64_t cc_network64(const uint8_t *p)
    uint64_t cc_fold(uint64_t a, uint64_t b)
    void *cc_table_map(size_t size)
    void cc_touch(void *address)
    void cc_table_unmap(void *block, size_t size)
    int64_t cc_time_ns(uint64_t a, uint64_t b, unsigned int shift, int64_t seconds)
    uint64_t cc_ticks()
