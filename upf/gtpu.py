"""The reference reading of GTP-U headers: TS 29.281 §5, and the PDU Session Container of TS 38.415 §5.5.2."""

from __future__ import annotations

from typing import Final, NamedTuple

from upf.malformation import Malformation

GTPU_PORT: Final = 2152
G_PDU: Final = "g_pdu"

_MESSAGES: Final = {
    1: "echo_request",
    2: "echo_response",
    26: "error_indication",
    31: "supported_extension_headers_notification",
    253: "tunnel_status",
    254: "end_marker",
    255: G_PDU,
}
_PDU_SESSION_CONTAINER: Final = 0x85
# DL and UL PDU SESSION INFORMATION: the PDU types whose second byte ends in the QFI.
_TYPES_WITH_QFI: Final = (0, 1)


class Tunnel(NamedTuple):
    """A message of GTP-U. Of a G-PDU, the packet that it carries stands from ``start`` to ``end``, both in bytes."""

    message: str
    teid: int
    qfi: int | None = None
    start: int = 0
    end: int = 0


def parse_gtpu(data: bytes, room: int) -> Tunnel | Malformation | None:
    """Read what was captured of a UDP payload of ``room`` bytes; None is another protocol that came to this port.

    All of the header must have been captured, like that of a link: the packet behind it is the one to be measured.
    """
    # Version 1, and not GTP'.
    if not room or (data and data[0] >> 4 != 0b0011):
        return None
    if len(data) < 8:
        return Malformation.GTPU_HEADER
    flags, kind = data[0], data[1]
    end = 8 + int.from_bytes(data[2:4], "big")
    if end > room:
        return Malformation.GTPU_HEADER
    teid = int.from_bytes(data[4:8], "big")
    start, following = 8, 0
    if flags & 0b111:
        # With any of the three flags all of sequence number, N-PDU number and next extension header type are there.
        start = 12
        if min(end, len(data)) < start:
            return Malformation.GTPU_HEADER
        following = data[11] if flags & 0b100 else 0
    message = _MESSAGES.get(kind, "other")
    if message != G_PDU:
        return Tunnel(message, teid)
    qfi = None
    while following:
        if start >= min(end, len(data)):
            return Malformation.GTPU_HEADER
        length = 4 * data[start]
        if not length or start + length > min(end, len(data)):
            return Malformation.GTPU_HEADER
        if following == _PDU_SESSION_CONTAINER and qfi is None and data[start + 1] >> 4 in _TYPES_WITH_QFI:
            qfi = data[start + 2] & 0x3F
        start += length
        following = data[start - 1]
    return Tunnel(message, teid, qfi, start, end)
