"""The reference policers in exact integers: a token bucket, and the markers of RFC 2697, RFC 2698 and RFC 4115.

(The bit rates of TS 29.244: MBR §8.2.8 is one bucket; GBR §8.2.9 and MBR are the two of RFC 2698.)

Tokens are counted in *bit-nanoseconds*: one bit is 10⁹ of them, and a rate of r bit/s makes r of them each nanosecond.
Multiplying the time by the rate is all there is to refilling; nothing is divided, so nothing is rounded and nothing
drifts, at whatever rate and however long a capture runs.

    capacity = burst_bytes · 8 · 10⁹        tokens += rate_bps · Δt_ns, up to capacity        cost = length · 8 · 10⁹

The compiled engine does the same in signed 64-bit integers. What it must keep to stay within 63 bits:

- capacity: bursts are at most 512 MiB = 2²⁹ bytes, and 2²⁹ · 8 · 10⁹ ≈ 4.3 · 10¹⁸ < 2⁶² ≈ 4.6 · 10¹⁸. A queue may owe
  as much, so tokens stand between -2⁶² and 2⁶², and what is missing to a full bucket is below 2⁶³.
- refill: Δt is clamped to what fills the bucket, ceil(capacity / rate), before it is multiplied. Then rate · Δt <
  capacity + rate, with a rate of at most 10¹³, and tokens + rate · Δt < 2 · 4.3 · 10¹⁸ + 10¹³ < 2⁶³ ≈ 9.2 · 10¹⁸.
  The one rate of RFC 2697 fills two buckets: Δt is clamped to ceil((CBS + EBS) / CIR), rate · Δt < 8.6 · 10¹⁸ + 10¹³ <
  2⁶³, and what overflows is a difference before it is added. Where tokens may be negative, Δt is compared with
  ceil((capacity - tokens) / rate): a shorter one leaves the bucket below its capacity.
- cost: a length beyond the burst never conforms; one beyond 2²⁹ is told before it is multiplied (a jumbogram of 2³²
  bytes costs more than 2⁶³).
- Δt: time stamps of a capture are below 2³² s ≈ 4.3 · 10¹⁸ ns, so differences of two are within 63 bits.
"""

from __future__ import annotations

from typing import Final

from upf.rules import Colour, Marker, Policer
from upf.units import BIT_NS_PER_BYTE

# A step back beyond this is a clock that was set, not packets out of order.
REANCHOR_NS: Final = 10 * 1_000_000_000
# AFx1, AFx2 and AFx3 (RFC 2597): the drop precedence is the colour; classes 1 to 4.
_ASSURED: Final = {8 * af_class + 2 * drop: Colour(drop - 1) for af_class in (1, 2, 3, 4) for drop in (1, 2, 3)}


def colour_of_dscp(dscp: int) -> Colour:
    """The colour that a packet brings: that of its AF drop precedence; green where it has none."""
    return _ASSURED.get(dscp, Colour.GREEN)


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
        self.advance(now_ns)
        cost = length_bytes * BIT_NS_PER_BYTE
        if self.tokens < cost:
            return False
        self.tokens -= cost
        return True

    def advance(self, now_ns: int) -> None:
        """Adds what the time since the latest packet has earned."""
        self.earn(self.elapsed_ns(now_ns))

    def elapsed_ns(self, now_ns: int) -> int:
        """The time that has passed at the bucket, which is then ``now_ns``."""
        if self.last_ns is None or now_ns < self.last_ns - REANCHOR_NS:
            self.time_steps_back += self.last_ns is not None
            self.last_ns = now_ns
        elapsed_ns = max(now_ns - self.last_ns, 0)
        self.last_ns += elapsed_ns
        return elapsed_ns

    def earn(self, elapsed_ns: int) -> int:
        """Adds the tokens of that time; returns those that had no room."""
        earned = self.tokens + self.rate_bps * elapsed_ns
        self.tokens = min(self.capacity, earned)
        return earned - self.tokens

    def limit(self, rate_bps: int, burst_bytes: int) -> None:
        """Changes rate and depth; the tokens earned stay, as far as there is room."""
        self.rate_bps, self.capacity = rate_bps, burst_bytes * BIT_NS_PER_BYTE
        self.tokens = min(self.tokens, self.capacity)


class TwoColour:
    """A policer of one bucket: green or red. Colour-aware, a packet keeps the worse of its colours."""

    def __init__(self, policer: Policer) -> None:
        self.policer = policer
        self.committed = TokenBucket(policer.rate_bps, policer.burst_bytes)

    @property
    def time_steps_back(self) -> int:
        """How often the clock was set back by more than 10 s."""
        return self.committed.time_steps_back

    def advance(self, now_ns: int) -> None:
        """Adds what the time since the latest packet has earned."""
        self._earn(self.committed.elapsed_ns(now_ns))

    def colour(self, length_bytes: int, incoming: Colour = Colour.GREEN) -> Colour:
        """What becomes of a packet of that length; ``incoming`` counts where the policer is colour-aware."""
        cost = length_bytes * BIT_NS_PER_BYTE
        return self._colour(cost, incoming if self.policer.colour_aware else Colour.GREEN)

    def charge(self, length_bytes: int, colour: Colour) -> None:
        """Takes what a packet of that colour costs."""
        self._charge(length_bytes * BIT_NS_PER_BYTE, colour)

    def take(self, now_ns: int, length_bytes: int, incoming: Colour = Colour.GREEN) -> Colour:
        """The colour of a packet at ``now_ns``, which then has been paid for."""
        self.advance(now_ns)
        colour = self.colour(length_bytes, incoming)
        self.charge(length_bytes, colour)
        return colour

    def limit(self, policer: Policer) -> None:
        """Changes the parameters; the tokens earned stay, as far as there is room. The marker stays what it is."""
        self.policer = policer
        self.committed.limit(policer.rate_bps, policer.burst_bytes)

    def _earn(self, elapsed_ns: int) -> None:
        self.committed.earn(elapsed_ns)

    def _colour(self, cost: int, incoming: Colour) -> Colour:
        if incoming is Colour.RED or self.committed.tokens < cost:
            return Colour.RED
        return incoming

    def _charge(self, cost: int, colour: Colour) -> None:
        if colour is not Colour.RED:
            self.committed.tokens -= cost


class _ThreeColour(TwoColour):
    """Two buckets. The excess one has no time of its own: it is advanced with the committed one."""

    def __init__(self, policer: Policer) -> None:
        super().__init__(policer)
        self.excess = TokenBucket(policer.excess_rate_bps, policer.excess_burst_bytes)

    def limit(self, policer: Policer) -> None:
        super().limit(policer)
        self.excess.limit(policer.excess_rate_bps, policer.excess_burst_bytes)


class SingleRate(_ThreeColour):
    """RFC 2697: what the committed bucket has no room for goes to the excess one."""

    def _earn(self, elapsed_ns: int) -> None:
        overflow = self.committed.earn(elapsed_ns)
        self.excess.tokens = min(self.excess.capacity, self.excess.tokens + overflow)

    def _colour(self, cost: int, incoming: Colour) -> Colour:
        if incoming is Colour.GREEN and self.committed.tokens >= cost:
            return Colour.GREEN
        if incoming is not Colour.RED and self.excess.tokens >= cost:
            return Colour.YELLOW
        return Colour.RED

    def _charge(self, cost: int, colour: Colour) -> None:
        if colour is Colour.GREEN:
            self.committed.tokens -= cost
        elif colour is Colour.YELLOW:
            self.excess.tokens -= cost


class TwoRate(_ThreeColour):
    """RFC 2698: the excess bucket is the peak one, which contains the committed; green costs both, yellow the peak."""

    def _earn(self, elapsed_ns: int) -> None:
        self.committed.earn(elapsed_ns)
        self.excess.earn(elapsed_ns)

    def _colour(self, cost: int, incoming: Colour) -> Colour:
        if incoming is Colour.RED or self.excess.tokens < cost:
            return Colour.RED
        if incoming is Colour.YELLOW or self.committed.tokens < cost:
            return Colour.YELLOW
        return Colour.GREEN

    def _charge(self, cost: int, colour: Colour) -> None:
        if colour is not Colour.RED:
            self.excess.tokens -= cost
        if colour is Colour.GREEN:
            self.committed.tokens -= cost


class DifferentiatedTwoRate(SingleRate):
    """RFC 4115: the excess bucket stands beside the committed one, as in RFC 2697, but has a rate of its own."""

    def _earn(self, elapsed_ns: int) -> None:
        self.committed.earn(elapsed_ns)
        self.excess.earn(elapsed_ns)


class Shaper(TwoColour):
    """A bucket that may owe: a packet leaves when what it costs has been earned, or is red where too much is owed."""

    def __init__(self, policer: Policer, queue_bit_ns: int) -> None:
        super().__init__(policer)
        self.queue_bit_ns = queue_bit_ns

    def _colour(self, cost: int, incoming: Colour) -> Colour:
        fits = cost <= self.committed.capacity and cost - self.committed.tokens <= self.queue_bit_ns
        return Colour.GREEN if fits else Colour.RED

    def departure_ns(self) -> int:
        """When the packet that has been charged last leaves: the bucket's time and what it takes to earn the debt.

        The bucket's time is the latest that it has seen, so packets leave in the order in which they came.
        """
        assert self.committed.last_ns is not None
        owed = max(-self.committed.tokens, 0)
        return self.committed.last_ns - -owed // self.committed.rate_bps

    def limit_queue(self, queue_bit_ns: int) -> None:
        """Changes what may be owed; a debt beyond it is forgiven."""
        self.queue_bit_ns = queue_bit_ns
        self.committed.tokens = max(self.committed.tokens, -queue_bit_ns)


_MARKERS: Final = {
    Marker.TOKEN_BUCKET: TwoColour,
    Marker.SRTCM: SingleRate,
    Marker.TRTCM: TwoRate,
    Marker.DIFFSERV_TRTCM: DifferentiatedTwoRate,
}


def marker_of(policer: Policer) -> TwoColour:
    """The policer at work: its buckets are full."""
    return _MARKERS[policer.marker](policer)
