/* UDP in large batches: what comes in tunnels, and its copies, which share one payload in memory. */
#ifndef CASTCORE_COPIES_H
#define CASTCORE_COPIES_H

#include "datagrams.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <unistd.h>

/* Messages of one system call. */
#define CC_INTAKE 64
#define CC_COPIES 1024
#define CC_DATAGRAM_BYTES 65536
/* From one datagram to the next; not a power of two, so that their headers do not fall into the same lines of the cache. */
#define CC_DATAGRAM_STRIDE (CC_DATAGRAM_BYTES + 17 * 64)
/* Of a copy's GTP-U header. */
#define CC_HEAD_BYTES 16
#define CC_READY 64

typedef struct {
    struct mmsghdr messages[CC_INTAKE];
    struct iovec parts[CC_INTAKE];
    char control[CC_INTAKE][CMSG_SPACE(sizeof(struct timespec))];
    struct epoll_event ready[CC_READY];
} cc_intake_t;

typedef struct {
    struct mmsghdr messages[CC_COPIES];
    struct iovec parts[CC_COPIES][2];
    uint8_t heads[CC_COPIES][CC_HEAD_BYTES];
    uint8_t peers[CC_COPIES][CC_PEER_BYTES];
} cc_copies_t;

/* arena: CC_INTAKE times CC_DATAGRAM_STRIDE bytes. */
static inline void cc_intake_open(cc_intake_t *intake, uint8_t *arena)
{
    for (int i = 0; i < CC_INTAKE; i++) {
        struct msghdr *header = &intake->messages[i].msg_hdr;
        intake->parts[i] = (struct iovec){arena + (size_t)i * CC_DATAGRAM_STRIDE, CC_DATAGRAM_BYTES};
        header->msg_iov = &intake->parts[i];
        header->msg_iovlen = 1;
        header->msg_control = intake->control[i];
    }
}

/* How many descriptors of the epoll instance are ready. */
static inline int cc_intake_wait(cc_intake_t *intake, int epoll)
{
    return epoll_wait(epoll, intake->ready, CC_READY, -1);
}

/* The number that the descriptor was given by cc_tell_of(). */
static inline int cc_intake_ready(const cc_intake_t *intake, int i) { return intake->ready[i].data.fd; }

/* Makes an epoll instance; -1: errno says why not. */
static inline int cc_open_epoll(void) { return epoll_create1(EPOLL_CLOEXEC); }

/* An epoll instance tells, under this number, when a descriptor can be read; 0: it does. */
static inline int cc_tell_of(int epoll, int fd, int number)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = number};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static inline void cc_tell_no_more_of(int epoll, int fd) { epoll_ctl(epoll, EPOLL_CTL_DEL, fd, 0); }

/* How many datagrams came, CC_INTAKE at most; -1: errno says why there is none. */
static inline int cc_intake_receive(cc_intake_t *intake, int fd)
{
    for (int i = 0; i < CC_INTAKE; i++)
        intake->messages[i].msg_hdr.msg_controllen = sizeof intake->control[i];
    return recvmmsg(fd, intake->messages, CC_INTAKE, MSG_DONTWAIT, 0);
}

static inline uint32_t cc_intake_length(const cc_intake_t *intake, int i) { return intake->messages[i].msg_len; }

static inline int64_t cc_intake_age(cc_intake_t *intake, int i, int64_t now_ns)
{
    return cc_message_age(&intake->messages[i].msg_hdr, now_ns);
}

/* Copy ``i`` is to leave for ``peer``, which stays where it is, as these bytes behind ``head_bytes`` of cc_copies_head(). */
static inline void cc_copies_set(
    cc_copies_t *copies, int i, const uint8_t *peer, uint32_t peer_bytes, uint32_t head_bytes, const uint8_t *data,
    size_t length)
{
    struct msghdr *header = &copies->messages[i].msg_hdr;
    struct iovec *parts = copies->parts[i];
    parts[0] = (struct iovec){copies->heads[i], head_bytes};
    parts[1] = (struct iovec){(void *)data, length};
    header->msg_name = (void *)peer;
    header->msg_namelen = peer_bytes;
    header->msg_iov = head_bytes != 0 ? parts : parts + 1;
    header->msg_iovlen = head_bytes != 0 ? 2 : 1;
}

static inline uint8_t *cc_copies_head(cc_copies_t *copies, int i) { return copies->heads[i]; }
static inline uint8_t *cc_copies_peer(cc_copies_t *copies, int i) { return copies->peers[i]; }

/* How many copies from ``first`` on have been taken; -1: errno says why the first was not. */
static inline int cc_copies_send(cc_copies_t *copies, int fd, int first, int count)
{
    return sendmmsg(fd, copies->messages + first, count - first, MSG_DONTWAIT);
}

/* Until a descriptor takes something again, for so long at most; whether it does. */
static inline int cc_await_room(int fd, int timeout_ms)
{
    struct pollfd room = {fd, POLLOUT, 0};
    return poll(&room, 1, timeout_ms) > 0;
}

/* A socket whose packets come from this address and port, and go out to groups by this interface; -1: errno says why not. */
static inline int cc_open_sender(const uint8_t *address, size_t address_bytes, uint16_t port, int interface)
{
    _Alignas(struct sockaddr_in6) uint8_t own[CC_PEER_BYTES];
    uint32_t own_bytes = cc_make_peer(own, address, address_bytes, port);
    int yes = 1, no = 0, failed, fd = socket(address_bytes == 4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    failed = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (address_bytes == 4) {
        struct ip_mreqn by = {.imr_ifindex = interface};
        failed |= setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &by, sizeof by);
        failed |= setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &no, sizeof no);
    } else {
        failed |= setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, &interface, sizeof interface);
        failed |= setsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &no, sizeof no);
    }
    if (address_bytes == 16 && address[0] == 0xfe && (address[1] & 0xc0) == 0x80)
        ((struct sockaddr_in6 *)own)->sin6_scope_id = (uint32_t)interface;
    if (failed || bind(fd, (const struct sockaddr *)own, own_bytes)) {
        failed = errno;
        close(fd);
        errno = failed;
        return -1;
    }
    return fd;
}

/* What the packets of a sender bear from now on; whether the kernel takes it. */
static inline int cc_set_marks(int fd, int version, int tos, int hops)
{
    if (version == 4)
        return !setsockopt(fd, IPPROTO_IP, IP_TOS, &tos, sizeof tos)
            && !setsockopt(fd, IPPROTO_IP, IP_MULTICAST_TTL, &hops, sizeof hops);
    return !setsockopt(fd, IPPROTO_IPV6, IPV6_TCLASS, &tos, sizeof tos)
        && !setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &hops, sizeof hops);
}

static inline ssize_t cc_write_behind(int fd, const void *head, size_t head_bytes, const void *rest, size_t rest_bytes)
{
    struct iovec parts[2] = {{(void *)head, head_bytes}, {(void *)rest, rest_bytes}};
    return writev(fd, parts, 2);
}

#endif
