"""Packets that shaping holds back, until the time has come at which they leave: a heap, earliest first."""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

from packet cimport packet_t


# Packets that leave at one time leave in the order in which they came.
ctypedef struct queued_t:
    int64_t departs_ns
    uint64_t sequence
    packet_t *packet            # with its bytes behind it, in one piece


ctypedef struct queue_t:
    queued_t *heap
    size_t count
    size_t room
    uint64_t sequence
    int64_t latest_ns           # packet time that has come


cdef inline bint leaves_before(const queued_t *a, const queued_t *b) noexcept nogil:
    return a.departs_ns < b.departs_ns or (a.departs_ns == b.departs_ns and a.sequence < b.sequence)


cdef inline bint hold_back(queue_t *queue, const packet_t *packet, int64_t departs_ns) noexcept nogil:
    """Takes a copy of the packet and its bytes; False where there is no memory."""
    cdef queued_t come
    cdef queued_t *heap
    cdef size_t at = queue.count, parent
    if at == queue.room:
        heap = <queued_t *>realloc(queue.heap, (queue.room * 2 + 64) * sizeof(queued_t))
        if heap == NULL:
            return False
        queue.heap, queue.room = heap, queue.room * 2 + 64
    come.packet = <packet_t *>malloc(sizeof(packet_t) + packet.captured)
    if come.packet == NULL:
        return False
    memcpy(come.packet, packet, sizeof(packet_t))
    memcpy(come.packet + 1, packet.data, packet.captured)
    come.packet.data = <const uint8_t *>(come.packet + 1)
    come.packet.ts_ns = departs_ns
    come.departs_ns = departs_ns
    come.sequence = queue.sequence
    queue.sequence += 1
    queue.count += 1
    while at > 0:
        parent = (at - 1) // 2
        if leaves_before(&queue.heap[parent], &come):
            break
        queue.heap[at] = queue.heap[parent]
        at = parent
    queue.heap[at] = come
    return True


cdef inline packet_t *next_due(queue_t *queue, int64_t now_ns) noexcept nogil:
    """The first packet that leaves by then, to be given back to free(); NULL where there is none."""
    cdef packet_t *packet
    cdef queued_t last
    cdef size_t at = 0, child = 1
    if queue.count == 0 or queue.heap[0].departs_ns > now_ns:
        return NULL
    packet = queue.heap[0].packet
    queue.count -= 1
    last = queue.heap[queue.count]
    while child < queue.count:
        if child + 1 < queue.count and leaves_before(&queue.heap[child + 1], &queue.heap[child]):
            child += 1
        if leaves_before(&last, &queue.heap[child]):
            break
        queue.heap[at] = queue.heap[child]
        at = child
        child = 2 * at + 1
    queue.heap[at] = last
    return packet


cdef inline void close_queue(queue_t *queue) noexcept nogil:
    cdef size_t at
    for at in range(queue.count):
        free(queue.heap[at].packet)
    free(queue.heap)
