"""A stream put together from pieces that come in any order, some twice, up to a bound."""

from __future__ import annotations

from heapq import heappop, heappush


class Assembly:
    """The contiguous beginning of a stream; of what overlaps, what could be placed first stays.

    bound_bytes: nothing at or beyond this offset is kept. bound_pieces: pieces kept behind a gap, at the most; whatever
    more comes is let go, and so are the bytes beyond bound.
    """

    def __init__(self, bound_bytes: int, bound_pieces: int) -> None:
        self._bound_bytes = bound_bytes
        self._bound_pieces = bound_pieces
        self._beginning = bytearray()
        self._behind_gap: list[tuple[int, int, bytes]] = []
        self._added = 0
        self._waiting_bytes = 0

    def add(self, offset: int, data: bytes) -> None:
        """Place a piece at its offset (0 or more)."""
        data = data[: max(0, self._bound_bytes - offset)]
        if not data:
            return
        if offset > len(self._beginning):
            room = self._waiting_bytes + len(data) <= self._bound_bytes
            if room and len(self._behind_gap) < self._bound_pieces:
                self._added += 1
                self._waiting_bytes += len(data)
                heappush(self._behind_gap, (offset, self._added, data))
            return
        self._beginning += data[len(self._beginning) - offset :]
        while self._behind_gap and self._behind_gap[0][0] <= len(self._beginning):
            offset, _, data = heappop(self._behind_gap)
            self._waiting_bytes -= len(data)
            self._beginning += data[len(self._beginning) - offset :]

    @property
    def beginning(self) -> bytes:
        """The bytes from offset 0 up to the first gap."""
        return bytes(self._beginning)

    @property
    def held_bytes(self) -> int:
        """Bytes kept, behind gaps too."""
        return len(self._beginning) + self._waiting_bytes
