"""The sending side of Nmb9, compiled: payloads into inner IP packets, and these to the MB-UPF at each stream's rate.

``Pacer`` has a thread that sends and never takes the interpreter's lock; ``Stream`` is one sequence of packets with its rate.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

cimport cython

cimport pacing
from pacing cimport cc_pacer_t, cc_stream_t


def pace(int64_t due_ns, uint64_t rest, uint32_t size, uint64_t rate_bps):
    """When the next packet is due after one of ``size`` bytes that was due at ``due_ns``, and the rest of the division."""
    cdef int64_t after_ns = pacing.cc_pace(due_ns, &rest, size, rate_bps)
    return after_ns, rest


cdef class Pacer:
    """The thread that sends, over sockets for IPv4 and IPv6 that the caller owns (-1: none)."""

    cdef cc_pacer_t *pacer
    cdef dict streams

    def __cinit__(self, int fd_v4, int fd_v6):
        self.streams = {}
        self.pacer = <cc_pacer_t *>calloc(1, sizeof(cc_pacer_t))
        if self.pacer is NULL:
            raise MemoryError
        cdef int failure = pacing.cc_pacer_begin(self.pacer, fd_v4, fd_v6)
        if failure != 0:
            free(self.pacer)
            self.pacer = NULL
            raise OSError(failure, "the sending thread could not be started")

    def __dealloc__(self):
        if self.pacer is not NULL:
            with nogil:
                pacing.cc_pacer_end(self.pacer)
            pacing.cc_pacer_free(self.pacer)

    def stop(self):
        """Ends the thread, and whoever is in ``next_wanted``; nothing leaves after this has returned."""
        with nogil:
            pacing.cc_pacer_end(self.pacer)

    def next_wanted(self):
        """The next stream that asks for packets; waits for one. None: stopped."""
        cdef cc_stream_t *found
        while True:
            with nogil:
                found = pacing.cc_next_wanted(self.pacer)
            if found is NULL:
                return None
            stream = self.streams.get(<uintptr_t>found)
            if stream is not None:
                return stream

    def open(self, object owner, uint32_t capacity, uint32_t limit, uint64_t rate_bps, bytes peer, bytes header):
        """A stream of up to ``capacity`` packets of up to ``limit`` bytes each, to ``peer`` (a sockaddr) at ``rate_bps``
        (0: as fast as it goes), each beginning with ``header``: IP and UDP with lengths and checksums left zero; empty:
        packets are put whole. It asks for packets at once."""
        cdef Stream stream = Stream.__new__(Stream)
        if len(peer) > 28 or len(header) > 48 or limit > 65535 or capacity == 0:
            raise ValueError("a stream's address, header or size")
        stream.owner = owner
        stream.pacer = self
        stream.stream = pacing.cc_stream_new(capacity, limit)
        if stream.stream is NULL:
            raise MemoryError
        stream.stream.rate_bps = rate_bps
        memcpy(stream.stream.peer, PyBytes_AS_STRING(peer), len(peer))
        stream.stream.peer_bytes = len(peer)
        memcpy(stream.stream.header, PyBytes_AS_STRING(header), len(header))
        stream.stream.header_bytes = len(header)
        self.streams[<uintptr_t>stream.stream] = stream
        if not pacing.cc_stream_open(self.pacer, stream.stream, len(self.streams)):
            del self.streams[<uintptr_t>stream.stream]
            raise MemoryError
        return stream


# Without the pacer it could not be taken out of its thread's hands.
@cython.no_gc_clear
cdef class Stream:
    """One sequence of packets; of ``Pacer.open``."""

    cdef cc_stream_t *stream
    cdef Pacer pacer
    cdef readonly object owner

    def __dealloc__(self):
        if self.stream is not NULL:
            pacing.cc_stream_close(self.pacer.pacer, self.stream)
            pacing.cc_stream_free(self.stream)

    def close(self):
        """Nothing leaves after this has returned; what has not left yet is forgotten."""
        with nogil:
            pacing.cc_stream_close(self.pacer.pacer, self.stream)
        self.pacer.streams.pop(<uintptr_t>self.stream, None)

    def room(self):
        """How many packets fit."""
        return pacing.cc_stream_room(self.pacer.pacer, self.stream)

    def put(self, list payloads):
        """Adds payloads (or whole packets), of which no more come than fit; how many were too long, and are left out."""
        cdef cc_stream_t *stream = self.stream
        cdef uint64_t at = stream.put
        cdef uint32_t count = 0, length, too_long = 0
        cdef uint8_t *slot
        cdef bytes payload
        if <uint32_t>len(payloads) > self.room():
            raise ValueError(f"expected at most {self.room()} packets, got {len(payloads)}")
        for payload in payloads:
            length = <uint32_t>PyBytes_GET_SIZE(payload)
            if length == 0 or length + stream.header_bytes > stream.limit:
                too_long += 1
                continue
            slot = stream.slots + <size_t>(at % stream.capacity) * stream.stride
            if stream.header_bytes == 0:
                memcpy(slot, PyBytes_AS_STRING(payload), length)
            else:
                length = pacing.cc_write_packet(stream, slot, <const uint8_t *>PyBytes_AS_STRING(payload), length)
            stream.lengths[at % stream.capacity] = <unsigned short>length
            at += 1
            count += 1
        pacing.cc_stream_publish(self.pacer.pacer, stream, count)
        return too_long

    def wake(self):
        """Asks for packets again."""
        pacing.cc_stream_wake(self.pacer.pacer, self.stream)

    def wakes(self):
        """How often it was woken; to be given to ``dry``."""
        return pacing.cc_stream_wakes(self.pacer.pacer, self.stream)

    def dry(self, uint64_t wakes):
        """Asks for nothing until it is woken, unless it was since ``wakes`` was read."""
        pacing.cc_stream_dry(self.pacer.pacer, self.stream, wakes)

    def retarget(self, bytes peer):
        """Sends to another address from the next packet on."""
        if len(peer) > 28:
            raise ValueError("a stream's address")
        pacing.cc_stream_retarget(self.pacer.pacer, self.stream, <const uint8_t *>PyBytes_AS_STRING(peer), len(peer))

    def set_rate(self, uint64_t rate_bps):
        """Another rate, from the next packet on; 0: as fast as it goes."""
        pacing.cc_stream_set_rate(self.pacer.pacer, self.stream, rate_bps)

    def counters(self):
        """Packets sent, their bytes, packets that the system refused, nanoseconds given up after stalls, packets waiting."""
        cdef cc_stream_t *stream = self.stream
        pacing.cc_pacer_lock(self.pacer.pacer)
        cdef uint64_t packets = stream.packets, size = stream.bytes, refused = stream.refused
        cdef uint64_t forgiven_ns = stream.forgiven_ns, waiting = stream.put - stream.taken
        pacing.cc_pacer_unlock(self.pacer.pacer)
        return packets, size, refused, forgiven_ns, waiting
