/*
 * UDP at an exact rate, and what arrives of it, counted as it stood on the wire: bytes are IP total lengths.
 *
 * traffic send ADDRESS PORT SOURCE_PORT IP_LENGTH RATE_BPS DURATION_NS BYTES_PER_CALL
 *     A call hands over one super-packet (UDP_SEGMENT) of at most BYTES_PER_CALL at the moment at which the rate has
 *     made room for it. What a delay keeps back follows at once up to CATCH_UP bytes; what is beyond is never sent, so
 *     that no bucket takes a late sender for a fast one.
 * traffic sink PORT
 *     Counts what arrives (IPv4 and IPv6) until SIGTERM has come and nothing arrives any more; looks at every byte.
 *
 * Either prints a line of JSON at its end, the sink one when it is bound, too.
 */
#define _GNU_SOURCE

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#define UDP_GRO 104
#endif
#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif
#define MEMINFO_DROPS 8 /* linux/sock_diag.h */

#define SECOND 1000000000LL
#define UDP_HEADER 8
#define MAX_SEGMENTS 128 /* UDP_MAX_SEGMENTS of the kernel, 64 before 6.7 */
#define LONGEST 65536
#define CATCH_UP 6000
#define BATCH 32
#define BUFFER_BYTES (256 << 20)
#define IDLE_US 100000

static int64_t now_ns(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* Every datagram begins with its number in its flow; this follows. */
static void fill(uint8_t *bytes, size_t length)
{
    for (size_t at = 0; at < length; at++)
        bytes[at] = at * 7 + 1;
}

/* ---- the sender ------------------------------------------------------------------------------------------------- */

static int connected(const char *address, int port, int source_port, int payload_length)
{
    struct sockaddr_in6 to6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    struct sockaddr_in to4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    int is_ipv6 = inet_pton(AF_INET6, address, &to6.sin6_addr) == 1, handle, bytes = BUFFER_BYTES;
    struct sockaddr_in6 from6 = {.sin6_family = AF_INET6, .sin6_port = htons(source_port)};
    struct sockaddr_in from4 = {.sin_family = AF_INET, .sin_port = htons(source_port)};

    if (!is_ipv6 && inet_pton(AF_INET, address, &to4.sin_addr) != 1) {
        fprintf(stderr, "traffic: expected an address, got %s\n", address);
        exit(2);
    }
    if ((handle = socket(is_ipv6 ? AF_INET6 : AF_INET, SOCK_DGRAM, 0)) < 0)
        fail("socket");
    if (bind(handle, is_ipv6 ? (void *)&from6 : (void *)&from4, is_ipv6 ? sizeof from6 : sizeof from4) != 0)
        fail("bind");
    if (connect(handle, is_ipv6 ? (void *)&to6 : (void *)&to4, is_ipv6 ? sizeof to6 : sizeof to4) != 0)
        fail("connect");
    setsockopt(handle, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes);
    if (setsockopt(handle, IPPROTO_UDP, UDP_SEGMENT, &payload_length, sizeof payload_length) != 0)
        fail("UDP_SEGMENT");
    return handle;
}

static int sender(int count, char **words)
{
    static uint8_t datagrams[LONGEST];
    int64_t rate_bps, duration_ns, began_ns, due_ns, at_ns, previous_ns, catch_up_ns;
    int64_t skipped_ns = 0, longest_gap_ns = 0, calls = 0, refused = 0;
    uint64_t due_bytes = 0, sent_datagrams = 0;
    int handle, ip_length, payload_length, segments;
    struct sched_param priority = {.sched_priority = 1};

    if (count != 7) {
        fprintf(stderr, "usage: see the head of traffic.c\n");
        return 2;
    }
    ip_length = atoi(words[3]);
    rate_bps = atoll(words[4]), duration_ns = atoll(words[5]);
    payload_length = ip_length - UDP_HEADER - (strchr(words[0], ':') ? 40 : 20);
    segments = atoi(words[6]) / ip_length;
    segments = segments < 1 ? 1 : segments > MAX_SEGMENTS ? MAX_SEGMENTS : segments;
    if (payload_length < (int)sizeof(uint64_t) || segments * ip_length >= LONGEST) {
        fprintf(stderr, "traffic: out of range\n");
        return 2;
    }
    handle = connected(words[0], atoi(words[1]), atoi(words[2]), payload_length);
    for (int segment = 0; segment < segments; segment++)
        fill(datagrams + segment * payload_length + sizeof(uint64_t), payload_length - sizeof(uint64_t));
    /* A late call is a pause in which the policer's bucket runs over. */
    prctl(PR_SET_TIMERSLACK, 1);
    sched_setscheduler(0, SCHED_FIFO, &priority);

    catch_up_ns = (int64_t)CATCH_UP * 8 * SECOND / rate_bps;
    began_ns = previous_ns = now_ns();
    for (;;) {
        ssize_t taken;

        due_ns = began_ns + skipped_ns + (int64_t)((__int128)due_bytes * 8 * SECOND / rate_bps);
        if (due_ns - began_ns >= duration_ns)
            break;
        while ((at_ns = now_ns()) < due_ns) {
            struct timespec until = {.tv_sec = due_ns / SECOND, .tv_nsec = due_ns % SECOND};
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        }
        if (at_ns - due_ns > catch_up_ns)
            skipped_ns += at_ns - due_ns - catch_up_ns;
        for (int segment = 0; segment < segments; segment++) {
            uint64_t number = sent_datagrams + segment;
            memcpy(datagrams + segment * payload_length, &number, sizeof number);
        }
        taken = send(handle, datagrams, (size_t)segments * payload_length, 0);
        if (taken < 0 && errno == ECONNREFUSED)
            refused++; /* what an earlier datagram was answered with: this one has not been sent */
        else if (taken != (ssize_t)segments * payload_length)
            fail("send");
        else
            sent_datagrams += segments;
        due_bytes += (uint64_t)segments * ip_length;
        calls++;
        at_ns = now_ns();
        if (at_ns - previous_ns > longest_gap_ns)
            longest_gap_ns = at_ns - previous_ns;
        previous_ns = at_ns;
    }
    printf("{\"datagrams\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"calls\": %" PRId64 ", \"segments\": %d, "
           "\"refused_calls\": %" PRId64 ", \"began_ns\": %" PRId64 ", \"ended_ns\": %" PRId64 ", "
           "\"longest_gap_ns\": %" PRId64 ", \"skipped_ns\": %" PRId64 "}\n",
           sent_datagrams, sent_datagrams * ip_length, calls, segments, refused, began_ns, previous_ns, longest_gap_ns,
           skipped_ns);
    return 0;
}

/* ---- the sink --------------------------------------------------------------------------------------------------- */

struct counted {
    uint64_t datagrams, bytes, next_number, gaps, out_of_order;
};

static struct counted ports[65536];
static uint64_t damaged;
static uint8_t expected[LONGEST];
static volatile sig_atomic_t ending;

static void end(int number)
{
    (void)number;
    ending = 1;
}

static void take(const uint8_t *datagram, int length, int ip_header, int port)
{
    struct counted *counted = &ports[port];
    uint64_t number;

    counted->datagrams++;
    counted->bytes += length + UDP_HEADER + ip_header;
    if (length < (int)sizeof number || memcmp(datagram + sizeof number, expected, length - sizeof number) != 0) {
        damaged++;
        return;
    }
    memcpy(&number, datagram, sizeof number);
    if (number < counted->next_number)
        counted->out_of_order++;
    else {
        counted->gaps += number > counted->next_number;
        counted->next_number = number + 1;
    }
}

static void take_message(const struct mmsghdr *message, const uint8_t *bytes)
{
    const struct sockaddr_in6 *from = message->msg_hdr.msg_name;
    int length = message->msg_len, segment = length, ip_header = IN6_IS_ADDR_V4MAPPED(&from->sin6_addr) ? 20 : 40;
    struct msghdr *header = (struct msghdr *)&message->msg_hdr;

    for (struct cmsghdr *each = CMSG_FIRSTHDR(header); each != NULL; each = CMSG_NXTHDR(header, each))
        if (each->cmsg_level == IPPROTO_UDP && each->cmsg_type == UDP_GRO)
            memcpy(&segment, CMSG_DATA(each), sizeof segment);
    for (int at = 0; at < length; at += segment)
        take(bytes + at, length - at < segment ? length - at : segment, ip_header, ntohs(from->sin6_port));
}

static int bound(int port)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    struct timeval idle = {.tv_usec = IDLE_US};
    int handle = socket(AF_INET6, SOCK_DGRAM, 0), off = 0, on = 1, bytes = BUFFER_BYTES;

    if (handle < 0 || setsockopt(handle, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) != 0)
        fail("socket");
    if (setsockopt(handle, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) != 0)
        fail("SO_RCVBUFFORCE");
    if (setsockopt(handle, IPPROTO_UDP, UDP_GRO, &on, sizeof on) != 0)
        fail("UDP_GRO");
    if (setsockopt(handle, SOL_SOCKET, SO_RCVTIMEO, &idle, sizeof idle) != 0)
        fail("SO_RCVTIMEO");
    if (bind(handle, (void *)&address, sizeof address) != 0)
        fail("bind");
    return handle;
}

static void report(int handle)
{
    uint32_t memory[16] = {0};
    socklen_t size = sizeof memory;
    const char *comma = "";

    if (getsockopt(handle, SOL_SOCKET, SO_MEMINFO, memory, &size) != 0)
        fail("SO_MEMINFO");
    printf("{\"overflowed\": %u, \"damaged\": %" PRIu64 ", \"flows\": {", memory[MEMINFO_DROPS], damaged);
    for (int port = 0; port < 65536; port++)
        if (ports[port].datagrams) {
            printf("%s\"%d\": {\"datagrams\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"gaps\": %" PRIu64
                   ", \"out_of_order\": %" PRIu64 "}",
                   comma, port, ports[port].datagrams, ports[port].bytes, ports[port].gaps, ports[port].out_of_order);
            comma = ", ";
        }
    printf("}}\n");
}

static int sink(int port)
{
    static uint8_t bytes[BATCH][LONGEST], controls[BATCH][64];
    static struct mmsghdr messages[BATCH];
    static struct sockaddr_in6 from[BATCH];
    static struct iovec vectors[BATCH];
    struct sigaction action = {.sa_handler = end};
    struct sched_param priority = {.sched_priority = 1};
    int handle = bound(port), got;

    fill(expected, sizeof expected);
    sched_setscheduler(0, SCHED_FIFO, &priority);
    sigaction(SIGTERM, &action, NULL);
    puts("{\"ready\": true}");
    fflush(stdout);
    for (;;) {
        for (int each = 0; each < BATCH; each++) {
            vectors[each] = (struct iovec){bytes[each], LONGEST};
            messages[each].msg_hdr = (struct msghdr){
                .msg_name = &from[each], .msg_namelen = sizeof from[each], .msg_iov = &vectors[each], .msg_iovlen = 1,
                .msg_control = controls[each], .msg_controllen = sizeof controls[each]};
        }
        got = recvmmsg(handle, messages, BATCH, MSG_WAITFORONE, NULL);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && (errno != EAGAIN || ending))
            break;
        for (int each = 0; each < got; each++)
            take_message(&messages[each], bytes[each]);
    }
    if (errno != EAGAIN)
        fail("recvmmsg");
    report(handle);
    return 0;
}

int main(int count, char **words)
{
    if (count > 2 && strcmp(words[1], "send") == 0)
        return sender(count - 2, words + 2);
    if (count == 3 && strcmp(words[1], "sink") == 0)
        return sink(atoi(words[2]));
    fprintf(stderr, "usage: see the head of traffic.c\n");
    return 2;
}
