/* Inner IP packets on their way to the MB-UPF, each stream at its rate: rings that one side fills, and the thread that empties
 * them. That thread never needs the interpreter. One lock guards everything but the bytes of packets, which lie still while
 * they are between head and tail of their ring.
 */
#ifndef CASTCORE_PACING_H
#define CASTCORE_PACING_H

#include "datagrams.h"
#include "system.h"
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

/* Messages and packets of one system call. */
#define CC_ROUND_MESSAGES 64
#define CC_ROUND_PACKETS 512
/* What UDP_SEGMENT takes in one message. */
#define CC_TRAIN_PACKETS 60
#define CC_TRAIN_BYTES 64000
/* A stream that could not send for longer does not catch up: in no second may it exceed its rate by one per cent. */
#define CC_DEBT_NS 6000000
/* What is due so soon leaves with what is due now. */
#define CC_AHEAD_NS 250000
/* Of a stream that catches up, what leaves at once. */
#define CC_TRAIN_NS 1000000

typedef struct cc_stream {
    uint8_t *slots;
    uint16_t *lengths;
    uint32_t limit, stride, capacity;
    /* Packets ever put and taken; packet n lies in slot n % capacity. */
    uint64_t put, taken;
    uint64_t rate_bps;   /* 0: as fast as it goes. */
    int64_t due_ns;      /* When the next packet is to leave, */
    uint64_t rest;       /* and what that leaves out, in nanoseconds / rate_bps. */
    int64_t place;       /* In the heap; -1: nothing to send. */
    int on, busy, wanted, gone;
    /* Its source had nothing when it was asked last; how often it was woken. */
    int dry;
    uint64_t wakes;
    /* Its source is told once that all of it has left. */
    int emptied;
    struct cc_stream *next_wanted;
    uint8_t peer[CC_PEER_BYTES];
    uint32_t peer_bytes;
    /* What each packet begins with, where payloads are put; header_bytes 0: packets are put as they are. */
    uint8_t header[48];
    uint32_t header_bytes;
    uint16_t identification;
    uint64_t packets, bytes, refused, forgiven_ns;
} cc_stream_t;

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t work, refill, idle;
    pthread_t thread;
    int running, stopping, segmenting, sockets[2];
    cc_stream_t **heap;
    size_t waiting, room;
    cc_stream_t *first_wanted, *last_wanted;
    /* One round. */
    struct mmsghdr messages[CC_ROUND_MESSAGES];
    struct iovec parts[CC_ROUND_PACKETS];
    uint8_t peers[CC_ROUND_MESSAGES][CC_PEER_BYTES];
    char control[CC_ROUND_MESSAGES][CMSG_SPACE(sizeof(uint16_t))];
    cc_stream_t *owners[CC_ROUND_MESSAGES];
} cc_pacer_t;

/* The moment after which the next packet is due once this one has left, exactly: no rounding adds up. */
static inline int64_t cc_pace(int64_t due_ns, uint64_t *rest, uint32_t bytes, uint64_t rate_bps)
{
    uint64_t total = (uint64_t)bytes * 8 * 1000000000 + *rest;
    *rest = total % rate_bps;
    return due_ns + (int64_t)(total / rate_bps);
}

/* --- the heap of streams that have something to send, by when it is due --- */

static inline void cc_heap_set(cc_pacer_t *pacer, size_t at, cc_stream_t *stream)
{
    pacer->heap[at] = stream;
    stream->place = (int64_t)at;
}

static inline void cc_heap_up(cc_pacer_t *pacer, size_t at)
{
    cc_stream_t *stream = pacer->heap[at];
    while (at > 0 && pacer->heap[(at - 1) / 2]->due_ns > stream->due_ns) {
        cc_heap_set(pacer, at, pacer->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    cc_heap_set(pacer, at, stream);
}

static inline void cc_heap_down(cc_pacer_t *pacer, size_t at)
{
    cc_stream_t *stream = pacer->heap[at];
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= pacer->waiting)
            break;
        if (child + 1 < pacer->waiting && pacer->heap[child + 1]->due_ns < pacer->heap[child]->due_ns)
            child++;
        if (pacer->heap[child]->due_ns >= stream->due_ns)
            break;
        cc_heap_set(pacer, at, pacer->heap[child]);
        at = child;
    }
    cc_heap_set(pacer, at, stream);
}

static inline void cc_heap_remove(cc_pacer_t *pacer, cc_stream_t *stream)
{
    if (stream->place < 0)
        return;
    size_t at = (size_t)stream->place;
    cc_stream_t *moved = pacer->heap[--pacer->waiting];
    stream->place = -1;
    if (moved == stream)
        return;
    cc_heap_set(pacer, at, moved);
    cc_heap_up(pacer, at);
    cc_heap_down(pacer, (size_t)moved->place);
}

/* Into the heap, if it has something to send and is not in it or being sent. */
static inline void cc_heap_offer(cc_pacer_t *pacer, cc_stream_t *stream)
{
    if (!stream->on || stream->busy || stream->place >= 0 || stream->put == stream->taken)
        return;
    cc_heap_set(pacer, pacer->waiting++, stream);
    cc_heap_up(pacer, pacer->waiting - 1);
}

/* --- asking for more --- */

static inline void cc_want(cc_pacer_t *pacer, cc_stream_t *stream)
{
    if (stream->wanted || stream->gone)
        return;
    stream->wanted = 1;
    stream->next_wanted = NULL;
    if (pacer->last_wanted != NULL)
        pacer->last_wanted->next_wanted = stream;
    else
        pacer->first_wanted = stream;
    pacer->last_wanted = stream;
    pthread_cond_signal(&pacer->refill);
}

/* Whoever waits for the last packet of a stream to leave is asked, though the source has nothing. */
static inline void cc_tell_empty(cc_pacer_t *pacer, cc_stream_t *stream)
{
    if (stream->dry && stream->put == stream->taken && !stream->emptied) {
        stream->emptied = 1;
        cc_want(pacer, stream);
    }
}

static inline void cc_unwant(cc_pacer_t *pacer, cc_stream_t *stream)
{
    if (!stream->wanted)
        return;
    cc_stream_t *before = NULL;
    for (cc_stream_t *at = pacer->first_wanted; at != stream; at = at->next_wanted)
        before = at;
    if (before != NULL)
        before->next_wanted = stream->next_wanted;
    else
        pacer->first_wanted = stream->next_wanted;
    if (pacer->last_wanted == stream)
        pacer->last_wanted = before;
    stream->wanted = 0;
}

/* The next stream that has room and asked for packets; waits for one. NULL: the pacer stops. */
static inline cc_stream_t *cc_next_wanted(cc_pacer_t *pacer)
{
    pthread_mutex_lock(&pacer->lock);
    while (pacer->first_wanted == NULL && !pacer->stopping)
        pthread_cond_wait(&pacer->refill, &pacer->lock);
    cc_stream_t *stream = pacer->stopping ? NULL : pacer->first_wanted;
    if (stream != NULL)
        cc_unwant(pacer, stream);
    pthread_mutex_unlock(&pacer->lock);
    return stream;
}

/* --- one round: what is due leaves --- */

/* Adds what ``stream`` may send now as messages; how many. */
static inline int cc_gather(cc_pacer_t *pacer, cc_stream_t *stream, int64_t now_ns, int message, int *part)
{
    int first = message;
    if (stream->rate_bps == 0) {
        stream->due_ns = now_ns;
    } else if (stream->due_ns < now_ns - CC_DEBT_NS) {
        stream->forgiven_ns += (uint64_t)(now_ns - CC_DEBT_NS - stream->due_ns);
        stream->due_ns = now_ns - CC_DEBT_NS;
    }
    int64_t until_ns = now_ns + CC_AHEAD_NS;
    if (until_ns > stream->due_ns + CC_TRAIN_NS)
        until_ns = stream->due_ns + CC_TRAIN_NS;
    uint64_t next = stream->taken;
    while (message < CC_ROUND_MESSAGES && *part < CC_ROUND_PACKETS && next != stream->put && stream->due_ns <= until_ns) {
        struct msghdr *header = &pacer->messages[message].msg_hdr;
        uint16_t segment = stream->lengths[next % stream->capacity];
        uint32_t total = 0;
        int count = 0;
        memset(header, 0, sizeof *header);
        header->msg_iov = &pacer->parts[*part];
        /* A train: datagrams of one length, of which only the last may be shorter. */
        while (count < (pacer->segmenting ? CC_TRAIN_PACKETS : 1) && *part < CC_ROUND_PACKETS && next != stream->put
               && stream->due_ns <= until_ns) {
            uint16_t length = stream->lengths[next % stream->capacity];
            if (length > segment || total + length > CC_TRAIN_BYTES + (count == 0) * 0x10000)
                break;
            pacer->parts[(*part)++] =
                (struct iovec){stream->slots + (size_t)(next % stream->capacity) * stream->stride, length};
            total += length;
            count++;
            next++;
            if (stream->rate_bps != 0)
                stream->due_ns = cc_pace(stream->due_ns, &stream->rest, length, stream->rate_bps);
            if (length < segment)
                break;
        }
        header->msg_iovlen = (size_t)count;
        memcpy(pacer->peers[message], stream->peer, stream->peer_bytes);
        header->msg_name = pacer->peers[message];
        header->msg_namelen = stream->peer_bytes;
        if (count > 1) {
            header->msg_control = pacer->control[message];
            header->msg_controllen = sizeof pacer->control[message];
            struct cmsghdr *control = CMSG_FIRSTHDR(header);
            control->cmsg_level = IPPROTO_UDP;
            control->cmsg_type = UDP_SEGMENT;
            control->cmsg_len = CMSG_LEN(sizeof segment);
            memcpy(CMSG_DATA(control), &segment, sizeof segment);
        }
        pacer->owners[message++] = stream;
    }
    return message - first;
}

static inline int cc_socket_of(cc_pacer_t *pacer, int message)
{
    return pacer->sockets[((const struct sockaddr *)pacer->peers[message])->sa_family == AF_INET6];
}

/* One message after the other, where it did not go in one train. */
static inline void cc_send_singly(cc_pacer_t *pacer, int fd, int message)
{
    struct msghdr *header = &pacer->messages[message].msg_hdr;
    for (size_t i = 0; i < header->msg_iovlen; i++) {
        const struct iovec *part = &header->msg_iov[i];
        if (sendto(fd, part->iov_base, part->iov_len, 0, header->msg_name, header->msg_namelen) < 0)
            __atomic_fetch_add(&pacer->owners[message]->refused, 1, __ATOMIC_RELAXED);
    }
}

/* Sends messages 0..count-1; those that the system refuses are counted, and are gone. */
static inline void cc_send_round(cc_pacer_t *pacer, int count)
{
    for (int at = 0; at < count;) {
        int fd = cc_socket_of(pacer, at), end = at + 1;
        while (end < count && cc_socket_of(pacer, end) == fd)
            end++;
        int sent = sendmmsg(fd, pacer->messages + at, (unsigned)(end - at), 0);
        if (sent > 0) {
            at += sent;
            continue;
        }
        if (errno == EINTR)
            continue;
        if (pacer->messages[at].msg_hdr.msg_iovlen > 1) {
            /* A device, or a kernel, that does not cut trains. */
            pacer->segmenting = 0;
            cc_send_singly(pacer, fd, at);
        } else {
            __atomic_fetch_add(&pacer->owners[at]->refused, 1, __ATOMIC_RELAXED);
        }
        at++;
    }
}

/* Streams that are due and what they send; how many messages. With the lock. */
static inline int cc_gather_round(cc_pacer_t *pacer, int64_t now_ns, int *streams, cc_stream_t **taking)
{
    int messages = 0, parts = 0;
    *streams = 0;
    while (pacer->waiting > 0 && messages < CC_ROUND_MESSAGES && parts < CC_ROUND_PACKETS) {
        cc_stream_t *stream = pacer->heap[0];
        if (stream->due_ns > now_ns + CC_AHEAD_NS)
            break;
        cc_heap_remove(pacer, stream);
        int first = messages;
        messages += cc_gather(pacer, stream, now_ns, messages, &parts);
        if (messages == first) {
            cc_heap_offer(pacer, stream);
            break;
        }
        stream->busy = 1;
        taking[(*streams)++] = stream;
    }
    return messages;
}

static inline void cc_round_done(cc_pacer_t *pacer, int messages, int streams, cc_stream_t **taking)
{
    for (int i = 0; i < messages; i++) {
        cc_stream_t *stream = pacer->owners[i];
        const struct msghdr *header = &pacer->messages[i].msg_hdr;
        stream->taken += header->msg_iovlen;
        stream->packets += header->msg_iovlen;
        for (size_t part = 0; part < header->msg_iovlen; part++)
            stream->bytes += header->msg_iov[part].iov_len;
    }
    for (int i = 0; i < streams; i++) {
        taking[i]->busy = 0;
        cc_heap_offer(pacer, taking[i]);
        if (!taking[i]->dry && taking[i]->put - taking[i]->taken <= taking[i]->capacity / 2)
            cc_want(pacer, taking[i]);
        cc_tell_empty(pacer, taking[i]);
    }
    pthread_cond_broadcast(&pacer->idle);
}

static inline void *cc_pacer_run(void *argument)
{
    cc_pacer_t *pacer = argument;
    cc_stream_t *taking[CC_ROUND_MESSAGES];
    /* Timers as precise as they can be: by default the kernel lets them be 50 microseconds late. */
    prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
    int hastened = 0, may = 1;
    pthread_mutex_lock(&pacer->lock);
    while (!pacer->stopping) {
        int64_t now_ns = cc_monotonic_ns();
        /* What has its time goes before other work where the system allows it; what goes as fast as it can does not. */
        int paced = pacer->waiting == 0 || pacer->heap[0]->rate_bps != 0;
        if (paced != hastened && may) {
            may = cc_hasten(paced);
            hastened = paced;
        }
        if (pacer->waiting == 0) {
            pthread_cond_wait(&pacer->work, &pacer->lock);
            continue;
        }
        int64_t due_ns = pacer->heap[0]->due_ns;
        if (due_ns > now_ns + CC_AHEAD_NS) {
            struct timespec until = {due_ns / 1000000000, due_ns % 1000000000};
            pthread_cond_timedwait(&pacer->work, &pacer->lock, &until);
            continue;
        }
        int streams = 0;
        int messages = cc_gather_round(pacer, now_ns, &streams, taking);
        pthread_mutex_unlock(&pacer->lock);
        cc_send_round(pacer, messages);
        pthread_mutex_lock(&pacer->lock);
        cc_round_done(pacer, messages, streams, taking);
        /* A stream that catches up leaves a gap between its trains, in which others have their turn. */
        if (pacer->waiting > 0 && pacer->heap[0]->rate_bps != 0 && pacer->heap[0]->due_ns < now_ns) {
            int64_t pause_ns = cc_monotonic_ns() + CC_TRAIN_NS / 2;
            struct timespec until = {pause_ns / 1000000000, pause_ns % 1000000000};
            if (!pacer->stopping)
                pthread_cond_timedwait(&pacer->work, &pacer->lock, &until);
        }
    }
    pthread_mutex_unlock(&pacer->lock);
    return NULL;
}

/* --- the life of the pacer and its streams --- */

/* 0, or an errno. The sockets are the caller's. */
static inline int cc_pacer_begin(cc_pacer_t *pacer, int fd_v4, int fd_v6)
{
    pthread_condattr_t attributes;
    memset(pacer, 0, sizeof *pacer);
    pacer->sockets[0] = fd_v4;
    pacer->sockets[1] = fd_v6;
    pacer->segmenting = 1;
    pthread_mutexattr_t inheriting;
    pthread_mutexattr_init(&inheriting);
    /* Whoever holds it hurries while the sending thread waits for it. */
    pthread_mutexattr_setprotocol(&inheriting, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(&pacer->lock, &inheriting);
    pthread_mutexattr_destroy(&inheriting);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&pacer->work, &attributes);
    pthread_cond_init(&pacer->refill, &attributes);
    pthread_cond_init(&pacer->idle, &attributes);
    pthread_condattr_destroy(&attributes);
    int failure = pthread_create(&pacer->thread, NULL, cc_pacer_run, pacer);
    pacer->running = failure == 0;
    return failure;
}

/* Returns when the thread has ended; nothing leaves from then on. */
static inline void cc_pacer_end(cc_pacer_t *pacer)
{
    if (!pacer->running)
        return;
    pthread_mutex_lock(&pacer->lock);
    pacer->stopping = 1;
    pthread_cond_broadcast(&pacer->work);
    pthread_cond_broadcast(&pacer->refill);
    pthread_mutex_unlock(&pacer->lock);
    pthread_join(pacer->thread, NULL);
    pacer->running = 0;
}

/* Of one that has ended. */
static inline void cc_pacer_free(cc_pacer_t *pacer)
{
    pthread_mutex_destroy(&pacer->lock);
    pthread_cond_destroy(&pacer->work);
    pthread_cond_destroy(&pacer->refill);
    pthread_cond_destroy(&pacer->idle);
    free(pacer->heap);
    free(pacer);
}

/* A stream of packets up to ``limit`` bytes; NULL without memory. */
static inline cc_stream_t *cc_stream_new(uint32_t capacity, uint32_t limit)
{
    uint32_t stride = (limit + 63) / 64 * 64;
    cc_stream_t *stream = calloc(1, sizeof *stream);
    if (stream == NULL)
        return NULL;
    /* Pages that are never used are never there. */
    stream->slots = malloc((size_t)capacity * stride);
    stream->lengths = calloc(capacity, sizeof *stream->lengths);
    stream->capacity = capacity;
    stream->limit = limit;
    stream->stride = stride;
    stream->place = -1;
    if (stream->slots == NULL || stream->lengths == NULL) {
        free(stream->slots);
        free(stream->lengths);
        free(stream);
        return NULL;
    }
    return stream;
}

static inline void cc_stream_free(cc_stream_t *stream)
{
    free(stream->slots);
    free(stream->lengths);
    free(stream);
}

/* Whether the heap holds one stream more; 0 without memory. */
static inline int cc_stream_open(cc_pacer_t *pacer, cc_stream_t *stream, size_t streams)
{
    int done = 1;
    pthread_mutex_lock(&pacer->lock);
    if (streams > pacer->room) {
        size_t room = streams < 64 ? 64 : streams * 2;
        cc_stream_t **heap = realloc(pacer->heap, room * sizeof *heap);
        done = heap != NULL;
        if (done) {
            pacer->heap = heap;
            pacer->room = room;
        }
    }
    if (done) {
        stream->on = 1;
        stream->due_ns = cc_monotonic_ns();
        cc_want(pacer, stream);
    }
    pthread_mutex_unlock(&pacer->lock);
    return done;
}

/* Nothing of the stream leaves after this has returned. */
static inline void cc_stream_close(cc_pacer_t *pacer, cc_stream_t *stream)
{
    pthread_mutex_lock(&pacer->lock);
    stream->on = 0;
    stream->gone = 1;
    cc_heap_remove(pacer, stream);
    cc_unwant(pacer, stream);
    while (stream->busy)
        pthread_cond_wait(&pacer->idle, &pacer->lock);
    pthread_mutex_unlock(&pacer->lock);
}

static inline void cc_stream_wake(cc_pacer_t *pacer, cc_stream_t *stream)
{
    pthread_mutex_lock(&pacer->lock);
    stream->dry = 0;
    stream->wakes++;
    cc_want(pacer, stream);
    pthread_mutex_unlock(&pacer->lock);
}

/* The source had nothing: it is asked again when it is woken, or at once if that was meanwhile. */
static inline void cc_stream_dry(cc_pacer_t *pacer, cc_stream_t *stream, uint64_t wakes)
{
    pthread_mutex_lock(&pacer->lock);
    stream->dry = stream->wakes == wakes;
    cc_tell_empty(pacer, stream);
    pthread_mutex_unlock(&pacer->lock);
}

static inline uint64_t cc_stream_wakes(cc_pacer_t *pacer, cc_stream_t *stream)
{
    pthread_mutex_lock(&pacer->lock);
    uint64_t wakes = stream->wakes;
    pthread_mutex_unlock(&pacer->lock);
    return wakes;
}

static inline void cc_stream_retarget(cc_pacer_t *pacer, cc_stream_t *stream, const uint8_t *peer, uint32_t peer_bytes)
{
    pthread_mutex_lock(&pacer->lock);
    memcpy(stream->peer, peer, peer_bytes);
    stream->peer_bytes = peer_bytes;
    pthread_mutex_unlock(&pacer->lock);
}

static inline void cc_stream_set_rate(cc_pacer_t *pacer, cc_stream_t *stream, uint64_t rate_bps)
{
    pthread_mutex_lock(&pacer->lock);
    /* What is due is due; the gaps after it are of the new rate. */
    if (stream->rate_bps == 0)
        stream->due_ns = cc_monotonic_ns();
    stream->rate_bps = rate_bps;
    stream->rest = 0;
    pthread_mutex_unlock(&pacer->lock);
}

/* How many packets fit. Of the filling side only. */
static inline uint32_t cc_stream_room(cc_pacer_t *pacer, cc_stream_t *stream)
{
    pthread_mutex_lock(&pacer->lock);
    uint32_t room = stream->capacity - (uint32_t)(stream->put - stream->taken);
    pthread_mutex_unlock(&pacer->lock);
    return room;
}

/* ``count`` packets that were written behind the last are there. */
static inline void cc_stream_publish(cc_pacer_t *pacer, cc_stream_t *stream, uint32_t count)
{
    pthread_mutex_lock(&pacer->lock);
    if (stream->put == stream->taken && !stream->busy) {
        int64_t now_ns = cc_monotonic_ns();
        /* Silence is no credit. */
        if (stream->due_ns < now_ns)
            stream->due_ns = now_ns;
    }
    stream->put += count;
    stream->emptied = stream->emptied && count == 0;
    cc_heap_offer(pacer, stream);
    /* More, after the others have had their turn. */
    if (stream->put - stream->taken <= stream->capacity / 2)
        cc_want(pacer, stream);
    pthread_cond_signal(&pacer->work);
    pthread_mutex_unlock(&pacer->lock);
}

static inline void cc_pacer_lock(cc_pacer_t *pacer) { pthread_mutex_lock(&pacer->lock); }
static inline void cc_pacer_unlock(cc_pacer_t *pacer) { pthread_mutex_unlock(&pacer->lock); }

/* --- the inner packet --- */

static inline void cc_put16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

/* The checksum that makes the ones' complement sum come out. */
static inline uint16_t cc_complement(uint32_t total)
{
    while (total >> 16)
        total = (total & 0xffff) + (total >> 16);
    return (uint16_t)~total;
}

/* An IP and UDP packet with ``length`` bytes of payload, after the stream's header; its total length. */
static inline uint32_t cc_write_packet(cc_stream_t *stream, uint8_t *packet, const uint8_t *payload, uint32_t length)
{
    uint32_t header_bytes = stream->header_bytes, ip_bytes = header_bytes - 8, udp_length = length + 8;
    uint8_t *udp = packet + ip_bytes;
    memcpy(packet, stream->header, header_bytes);
    memcpy(packet + header_bytes, payload, length);
    cc_put16(udp + 4, udp_length);
    uint32_t total;
    if (ip_bytes == 20) {
        cc_put16(packet + 2, 20 + udp_length);
        cc_put16(packet + 4, stream->identification++);
        cc_put16(packet + 10, cc_complement(cc_checksum(packet, 20)));
        total = cc_checksum(packet + 12, 8);
    } else {
        cc_put16(packet + 4, udp_length);
        total = cc_checksum(packet + 8, 32);
    }
    total += 17 + udp_length + cc_checksum(udp, udp_length);
    uint16_t checksum = cc_complement(total);
    cc_put16(udp + 6, checksum == 0 ? 0xffff : checksum);
    return header_bytes + length;
}

#endif
