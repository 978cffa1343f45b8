"""What passes of a burst or of steady traffic, from the parameters alone: rational numbers, no unit of castcore's.

A bucket is said by what it has given and not got back yet, in bits: empty at first, full at its burst. Each marker of
RFC 2697, 2698 and 4115 is put into that form here; colour-blind.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from upf.rules import Marker, Policer

GREEN, YELLOW, RED = range(3)


@dataclass
class Owed:
    """What a bucket has given away."""

    burst_bits: int
    owed_bits: Fraction = Fraction(0)

    def back(self, bits: Fraction) -> Fraction:
        """Gets bits back; returns those that it has no use for."""
        more = max(Fraction(0), bits - self.owed_bits)
        self.owed_bits = max(Fraction(0), self.owed_bits - bits)
        return more

    def has(self, bits: int) -> bool:
        return self.owed_bits + bits <= self.burst_bits


def colours(policer: Policer, packets: Iterable[tuple[int, int]]) -> list[int]:
    """The colour of each (time in ns, length in bytes)."""
    committed, excess = Owed(policer.burst_bytes * 8), Owed(policer.excess_burst_bytes * 8)
    latest_ns: int | None = None
    found = []
    for ts_ns, length in packets:
        elapsed_s = Fraction(0 if latest_ns is None else ts_ns - latest_ns, 10**9)
        latest_ns = ts_ns
        more = committed.back(elapsed_s * policer.rate_bps)
        excess.back(more if policer.marker is Marker.SRTCM else elapsed_s * policer.excess_rate_bps)
        bits = length * 8
        if policer.marker is Marker.TRTCM:
            colour = RED if not excess.has(bits) else GREEN if committed.has(bits) else YELLOW
            charged = {GREEN: (committed, excess), YELLOW: (excess,), RED: ()}[colour]
        else:
            colour = GREEN if committed.has(bits) else YELLOW if excess.has(bits) else RED
            charged = {GREEN: (committed,), YELLOW: (excess,), RED: ()}[colour]
        for bucket in charged:
            bucket.owed_bits += bits
        found.append(colour)
    return found
