"""The reference token bucket: a single-rate policer in exact integers (the MBR of TS 29.244 §8.2.8).

Tokens are counted in *bit-nanoseconds*: one bit is 10⁹ of them, and a rate of r bit/s makes r of them each nanosecond.
Multiplying the time by the rate is all there is to refilling; nothing is divided, so nothing is rounded and nothing
drifts, at whatever rate and however long a capture runs.

    capacity = burst_bytes · 8 · 10⁹        tokens += rate_bps · Δt_ns, up to capacity        cost = length · 8 · 10⁹

The compiled engine does the same in signed 64-bit integers. What it must keep to stay within 63 bits:

- capacity: bursts are at most 512 MiB = 2²⁹ bytes, and 2²⁹ · 8 · 10⁹ ≈ 4.3 · 10¹⁸ < 2⁶³ ≈ 9.2 · 10¹⁸.
- refill: the product is taken only where Δt < ceil((capacity - tokens) / rate); a longer pause fills the bucket. Then
  tokens + rate · Δt < capacity + rate, with a rate of at most 10¹³.
- cost: a length beyond burst_bytes never conforms, and is compared in bytes before it is multiplied (a jumbogram of
  2³² bytes costs more than 2⁶³).
- Δt: time stamps of a capture are below 2³² s ≈ 4.3 · 10¹⁸ ns, so differences of two are within 63 bits.
"""

from __future__ import annotations

from typing import Final

from upf.units import BIT_NS_PER_BYTE

# A step back beyond this is a clock that was set, not packets out of order.
REANCHOR_NS: Final = 10 * 1_000_000_000


class TokenBucket:
    """One bucket. It is full at its first packet; its time is the latest that it has seen.

    A packet earlier than that adds nothing; one more than 10 s earlier re-anchors the bucket there, tokens kept, and is
    counted in ``time_steps_back``.
    """

    def __init__(self, rate_bps: int, burst_bytes: int) -> None:
        self.rate_bps = rate_bps
        self.capacity = burst_bytes * BIT_NS_PER_BYTE
        self.tokens = self.capacity
        self.last_ns: int | None = None
        self.time_steps_back = 0

    def take(self, now_ns: int, length_bytes: int) -> bool:
        """Whether a packet of ``length_bytes`` at ``now_ns`` conforms; only then is it paid for."""
        self._advance(now_ns)
        cost = length_bytes * BIT_NS_PER_BYTE
        if self.tokens < cost:
            return False
        self.tokens -= cost
        return True

    def _advance(self, now_ns: int) -> None:
        if self.last_ns is None:
            self.last_ns = now_ns
        elif now_ns > self.last_ns:
            self.tokens = min(self.capacity, self.tokens + self.rate_bps * (now_ns - self.last_ns))
            self.last_ns = now_ns
        elif now_ns < self.last_ns - REANCHOR_NS:
            self.last_ns = now_ns
            self.time_steps_back += 1
