"""Headers of GTP-U: TS 29.281 §5, and the PDU Session Container of TS 38.415 §5.5.2."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from intrinsics cimport cc_network16, cc_network32

cdef enum:
    GTPU_PORT = 2152
    # No destination port is this one.
    NO_PORT = 1 << 16

    EXTENSION_PDU_SESSION_CONTAINER = 0x85


# Messages, in the order of GTPU_MESSAGES in engine.pxi.
cdef enum message_t:
    MESSAGE_ECHO_REQUEST
    MESSAGE_ECHO_RESPONSE
    MESSAGE_ERROR_INDICATION
    MESSAGE_SUPPORTED_EXTENSION_HEADERS_NOTIFICATION
    MESSAGE_TUNNEL_STATUS
    MESSAGE_END_MARKER
    MESSAGE_G_PDU
    MESSAGE_OTHER
    MESSAGE_COUNT
    MESSAGE_BROKEN
    MESSAGE_NONE                # not GTP-U of version 1 at all


ctypedef struct tunnel_t:
    uint32_t teid
    uint32_t qfi
    bint qfi_known
    uint64_t start              # of the packet that a G-PDU carries, in bytes from the header on
    uint64_t end


cdef inline message_t message_of(uint8_t kind) noexcept nogil:
    if kind == 255:
        return MESSAGE_G_PDU
    if kind == 254:
        return MESSAGE_END_MARKER
    if kind == 253:
        return MESSAGE_TUNNEL_STATUS
    if kind == 1:
        return MESSAGE_ECHO_REQUEST
    if kind == 2:
        return MESSAGE_ECHO_RESPONSE
    if kind == 26:
        return MESSAGE_ERROR_INDICATION
    if kind == 31:
        return MESSAGE_SUPPORTED_EXTENSION_HEADERS_NOTIFICATION
    return MESSAGE_OTHER


cdef inline message_t read_gtpu(
    tunnel_t *tunnel, const uint8_t *header, uint64_t captured, uint64_t room
) noexcept nogil:
    """Reads what was captured of a UDP payload of ``room`` bytes; MESSAGE_BROKEN unless all of the header was.

    Other traffic comes to this port too, from one who happened to use it: what shows another version is none of ours.
    """
    cdef uint64_t at = 8, end, extension_bytes
    cdef message_t message
    cdef uint8_t following = 0
    if captured > room:
        captured = room
    # Version 1, and not GTP'.
    if captured != 0 and header[0] >> 4 != 3:
        return MESSAGE_NONE
    if captured < 8:
        return MESSAGE_BROKEN
    end = 8 + <uint64_t>cc_network16(header + 2)
    if end > room:
        return MESSAGE_BROKEN
    if captured > end:
        captured = end
    if header[0] & 7:
        # With any of the three flags all of sequence number, N-PDU number and next extension header type are there.
        at = 12
        if captured < at:
            return MESSAGE_BROKEN
        if header[0] & 4:
            following = header[11]
    message = message_of(header[1])
    if message != MESSAGE_G_PDU:
        return message
    tunnel.teid = cc_network32(header + 4)
    tunnel.qfi = 0
    tunnel.qfi_known = False
    while following:
        if at >= captured:
            return MESSAGE_BROKEN
        extension_bytes = 4 * <uint64_t>header[at]
        if extension_bytes == 0 or at + extension_bytes > captured:
            return MESSAGE_BROKEN
        # PDU types 0 and 1, DL and UL PDU SESSION INFORMATION: their second byte ends in the QFI.
        if following == EXTENSION_PDU_SESSION_CONTAINER and not tunnel.qfi_known and header[at + 1] >> 4 <= 1:
            tunnel.qfi = header[at + 2] & 0x3F
            tunnel.qfi_known = True
        at += extension_bytes
        following = header[at - 1]
    tunnel.start = at
    tunnel.end = end
    return MESSAGE_G_PDU
