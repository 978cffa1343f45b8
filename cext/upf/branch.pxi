# One way out of a session, and how copies leave by it; included by _mbs.pyx.

# In the order of sending_t in replication.pxd.
SENDINGS = ("gtp_u", "raw", "udp", "tun")

# In the order of mishap_t in replication.pxd.
BRANCH_ERRORS = (
    "no_room", "too_long", "down", "unreachable", "refused", "fragment", "options", "not_udp", "checksum",
    "source_not_local", "source_taken",
)

cdef:
    # How long a source that could not be bound to is not tried again.
    int64_t AGAIN_NS = 1000000000
    # How long a batch waits for room in a socket, all in all.
    int ROOM_MS = 20

# Says nothing: what stands in front of a packet for a tun device that is whole and has its checksums.
cdef uint8_t PLAIN[VNET_BYTES]


cdef class Branch:
    """One way out.

    sending: one of SENDINGS. fd: the socket or device that it leaves by, which stays the caller's and open as long as a
    session has the branch; -1 for "udp", for which sockets are opened as packets come. address, port: where GTP-U goes to, or the group of packets from a raw socket. teid, qfi: of GTP-U; no
    QFI is -1. interface: index of the one that "udp" sends groups by.
    """

    cdef branch_t state

    def __cinit__(
        self, str sending, int fd, *, bytes address=b"", uint16_t port=0, uint32_t teid=0, int qfi=-1, int interface=0
    ):
        cdef const uint8_t *packed = address
        self.state.sending = <sending_t><int>SENDINGS.index(sending)
        self.state.fd, self.state.interface = fd, interface
        if address:
            self.state.peer_bytes = cc_make_peer(self.state.peer, packed, len(address), port)
        if self.state.sending == SENDING_GTP_U:
            self.state.outer_bytes = write_outer(self.state.outer, teid, qfi, False)

    @property
    def sending(self):
        """How packets leave."""
        return SENDINGS[<int>self.state.sending]


cdef inline mishap_t mishap_of(int error) noexcept nogil:
    if error == EAGAIN or error == ENOMEM or error == ENOBUFS:
        return MISHAP_NO_ROOM
    if error == EMSGSIZE:
        return MISHAP_TOO_LONG
    if error == ENETDOWN or error == EIO or error == ENODEV or error == ENXIO:
        return MISHAP_DOWN
    if error == ENETUNREACH or error == EHOSTUNREACH:
        return MISHAP_UNREACHABLE
    if error == EADDRNOTAVAIL:
        return MISHAP_SOURCE_NOT_LOCAL
    if error == EADDRINUSE:
        return MISHAP_SOURCE_TAKEN
    return MISHAP_REFUSED


cdef inline mishap_t mishap_of_shape(shape_t shape) noexcept nogil:
    if shape == SHAPE_FRAGMENT:
        return MISHAP_FRAGMENT
    if shape == SHAPE_OPTIONS:
        return MISHAP_OPTIONS
    return MISHAP_CHECKSUM if shape == SHAPE_CHECKSUM else MISHAP_NOT_UDP


cdef inline bint is_sender_of(
    const sender_t *sender, const inner_t *inner, uint16_t port, int interface
) noexcept nogil:
    # The source stands in the first half of the key.
    return (
        sender.port == port and sender.version == inner.version and sender.interface == interface
        and sender.source[0] == inner.key.words[0] and sender.source[1] == inner.key.words[1]
    )


cdef void open_sender(sender_t *sender, const inner_t *inner, uint16_t port, int interface, int64_t now_ns) noexcept nogil:
    """Opens the socket, or notes why there is none and when that is tried again."""
    cdef size_t address_bytes = 4 if inner.version == 4 else 16
    memset(sender, 0, sizeof(sender_t))
    sender.version, sender.interface, sender.port = inner.version, interface, port
    sender.source[0], sender.source[1] = inner.key.words[0], inner.key.words[1]
    sender.tos = sender.hops = -1
    sender.fd = cc_open_sender(<const uint8_t *>&sender.source, address_bytes, port, interface)
    if sender.fd <= 0:
        sender.fd, sender.mishap, sender.again_ns = 0, mishap_of(errno), now_ns + AGAIN_NS


cdef void close_sender(sender_t *sender) noexcept nogil:
    if sender.fd > 0:
        close(sender.fd)
    sender.fd = 0
