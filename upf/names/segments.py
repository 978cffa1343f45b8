"""One direction of a TCP connection as a stream (RFC 9293): segments in any order, some twice, the first maybe lost."""

from __future__ import annotations

from typing import Final

from upf.names import http, tls
from upf.names.answer import Answer, No
from upf.names.assembly import Assembly

MAX_STREAM_BYTES: Final = 20_480
MAX_SEGMENTS: Final = 64
# Without a SYN any segment may turn out to be the one before those that were seen: so many are waited for.
_SEGMENTS_BEFORE_NO: Final = 4

_SYN: Final = 0x02
_SYN_OR_ACK: Final = 0x12
_HALF: Final = 1 << 31
_MODULUS: Final = 1 << 32


def opens(segment: bytes) -> bool:
    """Whether a TCP segment asks for a connection: SYN without ACK."""
    return len(segment) >= 20 and segment[13] & _SYN_OR_ACK == _SYN


class Stream:
    """The beginning of what one side sends.

    ``start_known``: its SYN was seen. ``segments``: how many with data have come. ``full``: no more of them is kept.
    """

    def __init__(self) -> None:
        self.start_known = False
        self.full = False
        self.segments = 0
        self.held_bytes = 0
        self._start = 0
        self._kept: list[tuple[int, bytes]] = []

    def add(self, segment: bytes) -> bool:
        """Take a segment, header and all; whether it has brought data."""
        if len(segment) < 20:
            return False
        sequence = int.from_bytes(segment[4:8], "big")
        if segment[13] & _SYN:
            # The SYN takes a number of its own.
            sequence = (sequence + 1) % _MODULUS
            if not self.start_known or sequence != self._start:
                self.start_known, self._start = True, sequence
                self.full = False
                self.segments = self.held_bytes = 0
                self._kept = []
        # Where the network card cuts segments, one is longer than all that is kept.
        data = segment[max(20, (segment[12] >> 4) * 4) :][:MAX_STREAM_BYTES]
        if not data:
            return False
        self.segments += 1
        if self.full or self.held_bytes + len(data) > 2 * MAX_STREAM_BYTES:
            self.full = True
            return False
        if not self.start_known and (not self._kept or _distance(sequence, self._start) < 0):
            self._start = sequence
        self._kept.append((sequence, data))
        self.held_bytes += len(data)
        self.full = len(self._kept) >= MAX_SEGMENTS
        return True

    def beginning(self) -> bytes:
        """The stream up to the first gap."""
        if len(self._kept) == 1 and self._kept[0][0] == self._start:
            return self._kept[0][1][:MAX_STREAM_BYTES]
        assembly = Assembly(MAX_STREAM_BYTES, MAX_SEGMENTS)
        for sequence, data in self._kept:
            offset = _distance(sequence, self._start)
            if offset < 0:
                offset, data = 0, data[-offset:]
            assembly.add(offset, data)
        return assembly.beginning

    def drop(self, length: int) -> None:
        """Forget the first bytes: the stream begins after them."""
        self._start = (self._start + length) % _MODULUS
        self.start_known = True
        self._kept = [kept for kept in self._kept if _distance(kept[0], self._start) + len(kept[1]) > 0]
        self.held_bytes = sum(len(data) for _, data in self._kept)
        self.full = False


class RequestReader:
    """Looks for a name in what a TCP client sends first: a TLS hello or an HTTP/1 request.

    ``is_client``: this side was seen to open the connection.
    """

    def __init__(self) -> None:
        self.is_client = False
        self._stream = Stream()
        self._answer: Answer = No.MORE_NEEDED

    @property
    def held_bytes(self) -> int:
        """Bytes kept."""
        return self._stream.held_bytes

    def feed(self, segment: bytes) -> Answer:
        """Take the next segment of this direction."""
        self.is_client = self.is_client or opens(segment)
        if not self._stream.add(segment):
            return self._answer
        beginning = self._stream.beginning()
        answer = tls.parse_stream(beginning)
        if answer is No.NAME:
            answer = http.parse_stream(beginning)
        if answer is No.NAME and not self._stream.start_known and self._stream.segments < _SEGMENTS_BEFORE_NO:
            answer = No.MORE_NEEDED
        elif answer is No.MORE_NEEDED and len(beginning) >= MAX_STREAM_BYTES:
            answer = No.NAME
        self._answer = answer
        return answer


def _distance(sequence: int, start: int) -> int:
    """How far a sequence number is beyond another, modulo 2^32; negative: before it."""
    return (sequence - start + _HALF) % _MODULUS - _HALF
