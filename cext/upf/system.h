/* System calls of live traffic that Cython cannot say. */
#ifndef CASTCORE_SYSTEM_H
#define CASTCORE_SYSTEM_H

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static inline int64_t cc_monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline int64_t cc_utc_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Whether the calling thread now goes before every ordinary one (or no longer does). */
static inline int cc_hasten(int before_all)
{
    const struct sched_param priority = {before_all ? 2 : 0};
    return !sched_setscheduler(0, before_all ? SCHED_FIFO : SCHED_OTHER, &priority);
}

/* Until one of the two can be read, or the time (negative: none) is over; a bit for each that can be. */
static inline int cc_wait(int first, int second, int64_t timeout_ns)
{
    struct pollfd both[2] = {{first, POLLIN, 0}, {second, POLLIN, 0}};
    struct timespec timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    if (ppoll(both, 2, timeout_ns < 0 ? 0 : &timeout, 0) <= 0)
        return 0;
    return (both[0].revents != 0) | (both[1].revents != 0) << 1;
}

/* How long a thread has waited for a processor, all in all, from its /proc/…/schedstat; 0 where that cannot be told. */
static inline int64_t cc_waited_ns(int schedstat)
{
    char text[96];
    char *end;
    ssize_t got = pread(schedstat, text, sizeof text - 1, 0);
    if (got <= 0)
        return 0;
    text[got] = 0;
    strtoll(text, &end, 10);
    return strtoll(end, 0, 10);
}

static inline ssize_t cc_write_both(int fd, const void *head, size_t head_bytes, const void *rest, size_t rest_bytes)
{
    struct iovec parts[2] = {{(void *)head, head_bytes}, {(void *)rest, rest_bytes}};
    return writev(fd, parts, 2);
}

#endif
