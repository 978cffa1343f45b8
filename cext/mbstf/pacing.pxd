"""The C header beside this file, as Cython sees it."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "pacing.h" nogil:
    ctypedef struct cc_stream_t:
        uint8_t *slots
        uint16_t *lengths
        uint32_t limit
        uint32_t stride
        uint32_t capacity
        uint64_t put
        uint64_t taken
        uint64_t rate_bps
        uint8_t *peer
        uint32_t peer_bytes
        uint8_t *header
        uint32_t header_bytes
        uint16_t identification
        uint64_t packets
        uint64_t bytes
        uint64_t refused
        uint64_t forgiven_ns
    ctypedef struct cc_pacer_t:
        pass
    int64_t cc_pace(int64_t due_ns, uint64_t *rest, uint32_t bytes, uint64_t rate_bps)
    int cc_pacer_begin(cc_pacer_t *pacer, int fd_v4, int fd_v6)
    void cc_pacer_end(cc_pacer_t *pacer)
    void cc_pacer_free(cc_pacer_t *pacer)
    cc_stream_t *cc_stream_new(uint32_t capacity, uint32_t limit)
    void cc_stream_free(cc_stream_t *stream)
    bint cc_stream_open(cc_pacer_t *pacer, cc_stream_t *stream, size_t streams)
    void cc_stream_close(cc_pacer_t *pacer, cc_stream_t *stream)
    void cc_stream_wake(cc_pacer_t *pacer, cc_stream_t *stream)
    void cc_stream_dry(cc_pacer_t *pacer, cc_stream_t *stream, uint64_t wakes)
    uint64_t cc_stream_wakes(cc_pacer_t *pacer, cc_stream_t *stream)
    void cc_stream_retarget(cc_pacer_t *pacer, cc_stream_t *stream, const uint8_t *peer, uint32_t peer_bytes)
    void cc_stream_set_rate(cc_pacer_t *pacer, cc_stream_t *stream, uint64_t rate_bps)
    uint32_t cc_stream_room(cc_pacer_t *pacer, cc_stream_t *stream)
    void cc_stream_publish(cc_pacer_t *pacer, cc_stream_t *stream, uint32_t count)
    cc_stream_t *cc_next_wanted(cc_pacer_t *pacer)
    void cc_pacer_lock(cc_pacer_t *pacer)
    void cc_pacer_unlock(cc_pacer_t *pacer)
    uint32_t cc_write_packet(cc_stream_t *stream, uint8_t *packet, const uint8_t *payload, uint32_t length)
