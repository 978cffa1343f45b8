/* A capture in memory: classic pcap of this machine's byte order, with nanoseconds, of Ethernet frames that carry IPv4. */
#ifndef CAPTURE_H
#define CAPTURE_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define HUGE_PAGE ((size_t)2 << 20)
#define FILE_HEADER 24
#define RECORD_HEADER 16
#define AHEAD 1024 /* bytes of the capture that are asked for before they are needed */
#define NANOSECONDS 1000000000ULL

struct record_header {
    uint32_t seconds, nanoseconds, captured, wire_length;
};

struct capture {
    const uint8_t *begin, *end; /* its records */
};

static void fail(const char *what, const char *about)
{
    fprintf(stderr, "%s: %s\n", what, about);
    exit(1);
}

/* Zeroed memory for which huge pages have been asked. */
static void *huge_alloc(size_t bytes)
{
    size_t whole = (bytes + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
    uint8_t *block = mmap(NULL, whole + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (block == MAP_FAILED)
        fail("memory", "there is not enough");
    block = (uint8_t *)(((uintptr_t)block + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
    madvise(block, whole, MADV_HUGEPAGE);
    memset(block, 0, whole);
    return block;
}

static struct capture read_capture(const char *path)
{
    struct capture capture;
    struct stat state;
    uint32_t magic;
    uint8_t *bytes;
    size_t had = 0;
    int file = open(path, O_RDONLY);

    if (file < 0 || fstat(file, &state) < 0)
        fail(path, "cannot be read");
    bytes = huge_alloc((size_t)state.st_size + HUGE_PAGE);
    while (had < (size_t)state.st_size) {
        ssize_t more = read(file, bytes + had, (size_t)state.st_size - had);
        if (more <= 0)
            fail(path, "cannot be read");
        had += (size_t)more;
    }
    close(file);
    memcpy(&magic, bytes, sizeof magic);
    if (had < FILE_HEADER || magic != 0xa1b23c4d)
        fail(path, "expected a pcap with nanoseconds in this machine's byte order");
    capture.begin = bytes + FILE_HEADER;
    capture.end = bytes + had;
    return capture;
}

static inline uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * NANOSECONDS + (uint64_t)now.tv_nsec;
}

/* What one pass took: on the wall's clock and on the core's. */
struct stopwatch {
    uint64_t wall_ns, core_ns;
};

static inline struct stopwatch start_stopwatch(void)
{
    return (struct stopwatch){clock_ns(CLOCK_MONOTONIC), clock_ns(CLOCK_THREAD_CPUTIME_ID)};
}

static inline struct stopwatch stop_stopwatch(struct stopwatch started)
{
    struct stopwatch now = {0, clock_ns(CLOCK_THREAD_CPUTIME_ID)};

    now.wall_ns = clock_ns(CLOCK_MONOTONIC) - started.wall_ns;
    now.core_ns -= started.core_ns;
    return now;
}

/* Whether another pass is wanted: a line of standard input is one. What a pass has found goes out as a line of JSON. */
static inline int pass_wanted(void)
{
    char line[16];

    fflush(stdout);
    return fgets(line, sizeof line, stdin) != NULL;
}

#endif
