"""What the passed packets of a sequence may not do, computed from their times and lengths alone, in exact integers.

Nothing here knows of buckets: a window is any two passed packets and what passed between them, both included.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

SECOND_NS: Final = 1_000_000_000
# One byte in bit-nanoseconds, the unit in which rate (bit/s) by time (ns) needs no division.
BYTE: Final = 8 * SECOND_NS


class Passed(NamedTuple):
    """A packet that passed: when, and how many bytes."""

    ts_ns: int
    length: int


def worst_excess(passed: Iterable[Passed], rate_bps: int) -> int:
    """The most that any window let pass beyond ``rate_bps`` by its duration, in bit-nanoseconds: what a burst it took.

    Times must not decrease. One pass suffices: with P the bytes passed before a packet, a window from i to j exceeds by
    (P(j) + L(j) - r·t(j)) - (P(i) - r·t(i)), so only the least of the second term up to j matters.
    """
    worst, before, least = 0, 0, None
    latest_ns = None
    for ts_ns, length in passed:
        assert latest_ns is None or ts_ns >= latest_ns, "the times of a window must not decrease"
        latest_ns = ts_ns
        begins = before - rate_bps * ts_ns
        least = begins if least is None else min(least, begins)
        before += length * BYTE
        worst = max(worst, before - rate_bps * ts_ns - least)
    return worst


def worst_excess_of_all_pairs(passed: Sequence[Passed], rate_bps: int) -> int:
    """The same by looking at every pair of packets: for short sequences, and to hold the above to."""
    return max(
        (
            sum(length for _, length in passed[i : j + 1]) * BYTE - rate_bps * (passed[j].ts_ns - passed[i].ts_ns)
            for i in range(len(passed))
            for j in range(i, len(passed))
        ),
        default=0,
    )


def in_earned_time(times_ns: Iterable[int]) -> list[int]:
    """When each packet comes by the time that has been earned: what a clock has moved on by, not counting repeats.

    A packet up to 10 s earlier than the latest comes at the latest; one yet earlier shows that the clock has been set
    back: the time earned stays, and goes on from there.
    """
    earned_ns, latest_ns, found = 0, None, []
    for ts_ns in times_ns:
        if latest_ns is None or latest_ns - ts_ns > 10 * SECOND_NS:
            latest_ns = ts_ns
        elif ts_ns > latest_ns:
            earned_ns += ts_ns - latest_ns
            latest_ns = ts_ns
        found.append(earned_ns)
    return found
