/* What Cython cannot say: unaligned loads in network byte order, a wide multiplication, prefetch, huge pages. */
#ifndef CASTCORE_INTRINSICS_H
#define CASTCORE_INTRINSICS_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define cc_likely(x) __builtin_expect(!!(x), 1)
#define cc_unlikely(x) __builtin_expect(!!(x), 0)
#define cc_prefetch_write(address) __builtin_prefetch((const void *)(address), 1, 3)
#define cc_prefetch_read(address) __builtin_prefetch((const void *)(address), 0, 3)

static inline uint16_t cc_native16(const uint8_t *p) { uint16_t v; memcpy(&v, p, sizeof v); return v; }
static inline uint32_t cc_native32(const uint8_t *p) { uint32_t v; memcpy(&v, p, sizeof v); return v; }
static inline uint64_t cc_native64(const uint8_t *p) { uint64_t v; memcpy(&v, p, sizeof v); return v; }
static inline uint16_t cc_swapped16(uint16_t v) { return __builtin_bswap16(v); }
static inline uint64_t cc_swapped64(uint64_t v) { return __builtin_bswap64(v); }
static inline uint32_t cc_swapped32(uint32_t v) { return __builtin_bswap32(v); }

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
static inline uint16_t cc_network16(const uint8_t *p) { return __builtin_bswap16(cc_native16(p)); }
static inline uint32_t cc_network32(const uint8_t *p) { return __builtin_bswap32(cc_native32(p)); }
static inline uint64_t cc_network64(const uint8_t *p) { return __builtin_bswap64(cc_native64(p)); }
#else
static inline uint16_t cc_network16(const uint8_t *p) { return cc_native16(p); }
static inline uint32_t cc_network32(const uint8_t *p) { return cc_native32(p); }
static inline uint64_t cc_network64(const uint8_t *p) { return cc_native64(p); }
#endif

/* Both halves of the 128-bit product, folded: a keyed mixing step that costs one multiplication. */
static inline uint64_t cc_fold(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* (a * b) >> shift, and so many seconds more, in nanoseconds; -1 where that is not from 0 to below 2^62. */
static inline int64_t cc_time_ns(uint64_t a, uint64_t b, unsigned shift, int64_t seconds)
{
    __int128 ns = (__int128)(((unsigned __int128)a * b) >> shift) + (__int128)seconds * 1000000000;
    return ns < 0 || ns >> 62 ? -1 : (int64_t)ns;
}

/* A counter that moves on steadily: the time-stamp counter, or the clock where there is none that is as cheap. */
#if defined(__x86_64__)
#include <x86intrin.h>
static inline uint64_t cc_ticks(void) { unsigned int processor; return __rdtscp(&processor); }
#else
#include <time.h>
static inline uint64_t cc_ticks(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
#endif

#define CC_HUGE_PAGE ((size_t)2 << 20)

/* Zeroed memory, aligned to a huge page where it is that large; nothing of it is touched yet. NULL: there is none. */
static inline void *cc_table_map(size_t bytes)
{
    size_t slack = bytes >= CC_HUGE_PAGE ? CC_HUGE_PAGE : 0;
    uint8_t *block = mmap(NULL, bytes + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (block == MAP_FAILED)
        return NULL;
    if (slack != 0) {
        /* Cut off what stands before and behind the aligned part. */
        size_t before = -(uintptr_t)block & (CC_HUGE_PAGE - 1);
        if (before != 0)
            munmap(block, before);
        munmap(block + before + bytes, slack - before);
        block += before;
#ifdef MADV_HUGEPAGE
        (void)madvise(block, bytes, MADV_HUGEPAGE);
#endif
    }
    return block;
}

/* Has the system provide the page. */
static inline void cc_touch(void *address) { *(volatile uint8_t *)address = 0; }

static inline void cc_table_unmap(void *block, size_t bytes) { if (block != NULL && bytes != 0) munmap(block, bytes); }

#endif
