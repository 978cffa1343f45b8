/* UDP in batches: what came in one piece though it was many datagrams (UDP_GRO), and what is to leave so (UDP_SEGMENT). */
#ifndef CASTCORE_DATAGRAMS_H
#define CASTCORE_DATAGRAMS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

/* Messages of one system call. */
#define CC_INBOX 4
#define CC_OUTBOX 64
/* What the address of a peer takes: a sockaddr_in6. */
#define CC_PEER_BYTES 28

typedef struct {
    struct mmsghdr messages[CC_INBOX];
    struct iovec parts[CC_INBOX];
    uint8_t peers[CC_INBOX][CC_PEER_BYTES];
    char control[CC_INBOX][CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct timespec))];
} cc_inbox_t;

typedef struct {
    struct mmsghdr messages[CC_OUTBOX];
    struct iovec parts[CC_OUTBOX];
    uint8_t peers[CC_OUTBOX][CC_PEER_BYTES];
    char control[CC_OUTBOX][CMSG_SPACE(sizeof(uint16_t))];
} cc_outbox_t;

/* Up to CC_INBOX messages of up to ``room`` bytes, each ``stride`` behind the one before; -1: errno says why there is none. */
static inline int cc_inbox_receive(cc_inbox_t *inbox, int fd, uint8_t *data, size_t stride, size_t room)
{
    for (int i = 0; i < CC_INBOX; i++) {
        struct msghdr *header = &inbox->messages[i].msg_hdr;
        inbox->parts[i] = (struct iovec){data + i * stride, room};
        memset(header, 0, sizeof *header);
        header->msg_name = inbox->peers[i];
        header->msg_namelen = CC_PEER_BYTES;
        header->msg_iov = &inbox->parts[i];
        header->msg_iovlen = 1;
        header->msg_control = inbox->control[i];
        header->msg_controllen = sizeof inbox->control[i];
    }
    return recvmmsg(fd, inbox->messages, CC_INBOX, MSG_DONTWAIT, 0);
}

static inline uint32_t cc_inbox_length(const cc_inbox_t *inbox, int i) { return inbox->messages[i].msg_len; }
static inline const uint8_t *cc_inbox_peer(const cc_inbox_t *inbox, int i) { return inbox->peers[i]; }
static inline uint32_t cc_inbox_peer_bytes(const cc_inbox_t *inbox, int i) { return inbox->messages[i].msg_hdr.msg_namelen; }

/* Bytes of each datagram in a message but the last; 0: it is one datagram. */
static inline uint32_t cc_inbox_segment(cc_inbox_t *inbox, int i)
{
    struct msghdr *header = &inbox->messages[i].msg_hdr;
    for (struct cmsghdr *at = CMSG_FIRSTHDR(header); at != NULL; at = CMSG_NXTHDR(header, at)) {
        int bytes = 0;
        if (at->cmsg_level == IPPROTO_UDP && at->cmsg_type == UDP_GRO) {
            memcpy(&bytes, CMSG_DATA(at), sizeof bytes);
            return bytes > 0 ? (uint32_t)bytes : 0;
        }
    }
    return 0;
}

/* How long ago a message came; 0 where the kernel does not say (SO_TIMESTAMPNS). ``now_ns`` is of the clock on the wall. */
static inline int64_t cc_message_age(struct msghdr *header, int64_t now_ns)
{
    for (struct cmsghdr *at = CMSG_FIRSTHDR(header); at != NULL; at = CMSG_NXTHDR(header, at)) {
        struct timespec came;
        if (at->cmsg_level == SOL_SOCKET && at->cmsg_type == SCM_TIMESTAMPNS) {
            memcpy(&came, CMSG_DATA(at), sizeof came);
            now_ns -= (int64_t)came.tv_sec * 1000000000 + came.tv_nsec;
            return now_ns > 0 ? now_ns : 0;
        }
    }
    return 0;
}

static inline int64_t cc_inbox_age(cc_inbox_t *inbox, int i, int64_t now_ns)
{
    return cc_message_age(&inbox->messages[i].msg_hdr, now_ns);
}

/* Message ``i`` is to leave with these bytes, as datagrams of ``segment`` bytes (0: as one). */
static inline void cc_outbox_set(
    cc_outbox_t *outbox, int i, const uint8_t *peer, uint32_t peer_bytes, const uint8_t *data, size_t length,
    uint16_t segment)
{
    struct msghdr *header = &outbox->messages[i].msg_hdr;
    memset(header, 0, sizeof *header);
    memcpy(outbox->peers[i], peer, peer_bytes);
    outbox->parts[i] = (struct iovec){(void *)data, length};
    header->msg_name = outbox->peers[i];
    header->msg_namelen = peer_bytes;
    header->msg_iov = &outbox->parts[i];
    header->msg_iovlen = 1;
    if (segment != 0) {
        header->msg_control = outbox->control[i];
        header->msg_controllen = sizeof outbox->control[i];
        struct cmsghdr *control = CMSG_FIRSTHDR(header);
        control->cmsg_level = IPPROTO_UDP;
        control->cmsg_type = UDP_SEGMENT;
        control->cmsg_len = CMSG_LEN(sizeof segment);
        memcpy(CMSG_DATA(control), &segment, sizeof segment);
    }
}

/* How many messages from ``first`` on have been taken; -1: errno says why the first was not. */
static inline int cc_outbox_send(cc_outbox_t *outbox, int fd, int first, int count)
{
    return sendmmsg(fd, outbox->messages + first, count - first, MSG_DONTWAIT);
}

static inline const uint8_t *cc_outbox_data(const cc_outbox_t *outbox, int i) { return outbox->parts[i].iov_base; }
static inline size_t cc_outbox_length(const cc_outbox_t *outbox, int i) { return outbox->parts[i].iov_len; }

/* One datagram of a message. */
static inline ssize_t cc_outbox_send_part(const cc_outbox_t *outbox, int fd, int i, const uint8_t *data, size_t length)
{
    const struct msghdr *header = &outbox->messages[i].msg_hdr;
    return sendto(fd, data, length, MSG_DONTWAIT, header->msg_name, header->msg_namelen);
}

static inline ssize_t cc_send_to(int fd, const uint8_t *data, size_t length, const uint8_t *peer, uint32_t peer_bytes)
{
    return sendto(fd, data, length, MSG_DONTWAIT, (const struct sockaddr *)peer, peer_bytes);
}

/* A sockaddr from the 4 or 16 bytes of an address; its length. peer: CC_PEER_BYTES. */
static inline uint32_t cc_make_peer(uint8_t *peer, const uint8_t *address, size_t address_bytes, uint16_t port)
{
    if (address_bytes == 4) {
        struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
        memcpy(&v4.sin_addr, address, 4);
        memcpy(peer, &v4, sizeof v4);
        return sizeof v4;
    }
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    memcpy(&v6.sin6_addr, address, 16);
    memcpy(peer, &v6, sizeof v6);
    return sizeof v6;
}

/* The port of a sockaddr of either family stands at the same place. */
static inline void cc_set_port(uint8_t *peer, uint16_t port)
{
    port = htons(port);
    memcpy(peer + 2, &port, sizeof port);
}

/* The ones' complement sum of these bytes (RFC 1071), folded to 16 bits, in network byte order. */
static inline uint16_t cc_checksum(const uint8_t *data, size_t length)
{
    uint64_t total = 0;
    uint32_t word;
    size_t at = 0;
    for (; at + 4 <= length; at += 4) {
        memcpy(&word, data + at, 4);
        total += word;
    }
    if (length & 2) {
        uint16_t half;
        memcpy(&half, data + at, 2);
        total += half;
        at += 2;
    }
    if (length & 1) {
        uint8_t padded[2] = {data[at], 0};
        uint16_t half;
        memcpy(&half, padded, 2);
        total += half;
    }
    total = (total & 0xffffffff) + (total >> 32);
    total = (total & 0xffffffff) + (total >> 32);
    total = (total & 0xffff) + (total >> 16);
    total = (total & 0xffff) + (total >> 16);
    return ntohs((uint16_t)total);
}

#endif
