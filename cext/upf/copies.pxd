"""The C header beside this file, as Cython sees it."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t


cdef extern from "copies.h" nogil:
    enum:
        CC_INTAKE
        CC_COPIES
        CC_DATAGRAM_BYTES
        CC_DATAGRAM_STRIDE
    ctypedef struct cc_intake_t:
        pass
    ctypedef struct cc_copies_t:
        pass
    void cc_intake_open(cc_intake_t *intake, uint8_t *arena)
    int cc_intake_wait(cc_intake_t *intake, int epoll)
    int cc_intake_ready(const cc_intake_t *intake, int i)
    int cc_open_epoll()
    int cc_tell_of(int epoll, int fd, int number)
    void cc_tell_no_more_of(int epoll, int fd)
    int cc_intake_receive(cc_intake_t *intake, int fd)
    uint32_t cc_intake_length(const cc_intake_t *intake, int i)
    int64_t cc_intake_age(cc_intake_t *intake, int i, int64_t now_ns)
    void cc_copies_set(
        cc_copies_t *copies, int i, const uint8_t *peer, uint32_t peer_bytes, uint32_t head_bytes, const uint8_t *data,
        size_t length,
    )
    uint8_t *cc_copies_head(cc_copies_t *copies, int i)
    uint8_t *cc_copies_peer(cc_copies_t *copies, int i)
    int cc_copies_send(cc_copies_t *copies, int fd, int first, int count)
    bint cc_await_room(int fd, int timeout_ms)
    int cc_open_sender(const uint8_t *address, size_t address_bytes, uint16_t port, int interface)
    bint cc_set_marks(int fd, int version, int tos, int hops)
    ssize_t cc_write_behind(int fd, const void *head, size_t head_bytes, const void *rest, size_t rest_bytes)
