"""A player that keeps to a bit rate also in its transfers: it reads no faster than a token bucket lets it. Pure.

A segment that keeps to the policy threshold in the mean, but comes at the speed of the line, exceeds it meanwhile, and
the network measures that. TCP holds a sender back whose receiver does not read, so reading is where a player can pace.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from nf.client.dash.combinations import Combination

# Of an IP packet of 1,500 bytes 1,448 are of the stream; some is left for what TCP sends twice, and for HTTP headers.
PAYLOAD_SHARE: Final = 0.95
# What a compliant player may sustain above the bandwidth of what it plays, so that it can get ahead.
_HEADROOM: Final = 1.05
BURST_BYTES: Final = 32_768
# Reading in smaller pieces than this is not worth the while.
_PIECE_BYTES: Final = 4_096


def pace_bps(threshold_bps: int, playable: Sequence[Combination]) -> float:
    """The rate at which a player that keeps to a threshold reads.

    It is never too slow for the lowest combination: where that exceeds the threshold (or comes so near to it that
    headers do), playing on counts for more.
    """
    lowest_bps = playable[0].bandwidth_bps if playable else 0
    return max(threshold_bps * PAYLOAD_SHARE, lowest_bps * _HEADROOM)


class Pacer:
    """A token bucket for the bytes that are read, on all connections of a player together."""

    def __init__(self, rate_bps: float, *, now_ns: int, burst_bytes: int = BURST_BYTES) -> None:
        self.rate_bps = rate_bps
        self._burst_bytes = burst_bytes
        self._tokens_bytes = float(burst_bytes)
        self._then_ns = now_ns

    def grant_bytes(self, now_ns: int) -> int:
        """How much may be read now; 0: ask again after ``wait_ns``."""
        elapsed_ns = max(0, now_ns - self._then_ns)
        self._then_ns = now_ns
        self._tokens_bytes = min(self._burst_bytes, self._tokens_bytes + elapsed_ns * self.rate_bps / 8e9)
        return int(self._tokens_bytes) if self._tokens_bytes >= _PIECE_BYTES else 0

    def wait_ns(self) -> int:
        """How long it takes until something may be read."""
        return max(0, int((_PIECE_BYTES - self._tokens_bytes) * 8e9 / self.rate_bps)) + 1_000

    def take(self, volume_bytes: int) -> None:
        """So much has been read."""
        self._tokens_bytes -= volume_bytes
