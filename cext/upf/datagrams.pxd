"""The C header beside this file, as Cython sees it."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t


cdef extern from "datagrams.h" nogil:
    enum:
        CC_INBOX
        CC_OUTBOX
        CC_PEER_BYTES
    ctypedef struct cc_inbox_t:
        pass
    ctypedef struct cc_outbox_t:
        pass
    int cc_inbox_receive(cc_inbox_t *inbox, int fd, uint8_t *data, size_t stride, size_t room)
    uint32_t cc_inbox_length(const cc_inbox_t *inbox, int i)
    const uint8_t *cc_inbox_peer(const cc_inbox_t *inbox, int i)
    uint32_t cc_inbox_peer_bytes(const cc_inbox_t *inbox, int i)
    uint32_t cc_inbox_segment(cc_inbox_t *inbox, int i)
    int64_t cc_inbox_age(cc_inbox_t *inbox, int i, int64_t now_ns)
    void cc_outbox_set(
        cc_outbox_t *outbox, int i, const uint8_t *peer, uint32_t peer_bytes, const uint8_t *data, size_t length,
        uint16_t segment,
    )
    int cc_outbox_send(cc_outbox_t *outbox, int fd, int first, int count)
    const uint8_t *cc_outbox_data(const cc_outbox_t *outbox, int i)
    size_t cc_outbox_length(const cc_outbox_t *outbox, int i)
    ssize_t cc_outbox_send_part(const cc_outbox_t *outbox, int fd, int i, const uint8_t *data, size_t length)
    ssize_t cc_send_to(int fd, const uint8_t *data, size_t length, const uint8_t *peer, uint32_t peer_bytes)
    uint32_t cc_make_peer(uint8_t *peer, const uint8_t *address, size_t address_bytes, uint16_t port)
    void cc_set_port(uint8_t *peer, uint16_t port)
    uint16_t cc_checksum(const uint8_t *data, size_t length)
