"""Rates and losses from cumulative counters that are reported now and then; pure.

A series holds what had been counted at some times. Between two of them what was used is taken to be spread evenly; what
comes after a silence is taken to have been used within the lag before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from nf.common.usage import COUNTER_NAMES, DIRECTIONS, Counters

# A series has so many samples to an interval at the most, and a few before it.
_PER_INTERVAL: Final = 32
_BITS_NS: Final = 8 * 1_000_000_000
_MILLION: Final = 1_000_000


class Sample(NamedTuple):
    """What had been counted at a time: bytes that had passed, packets of both directions."""

    at_ns: int
    downlink_bytes: int
    uplink_bytes: int
    offered_packets: int
    dropped_packets: int


Series = Sequence[Sample]


@dataclass(frozen=True, slots=True)
class Window:
    """Over how long means are taken, and how long after the last sample use is taken to go on as it was."""

    interval_ns: int
    lag_ns: int


@dataclass(frozen=True, slots=True)
class Measured:
    """Means over an interval. ``loss_ppm`` None: nothing was offered."""

    downlink_bps: int
    uplink_bps: int
    loss_ppm: int | None
    interval_ns: int
    until_ns: int


def sample_of(at_ns: int, counters: Counters) -> Sample:
    """What the sixteen counters (``nf.common.usage``) say of passing and loss."""
    value = dict(zip(COUNTER_NAMES, counters, strict=True))

    def passed(direction: str) -> int:
        return value[f"{direction}_conforming_bytes"] + value[f"{direction}_exceeding_bytes"]

    offered = sum(value[f"{direction}_offered_packets"] for direction in DIRECTIONS)
    dropped = sum(value[f"{direction}_dropped_packets"] for direction in DIRECTIONS)
    return Sample(at_ns, passed("downlink"), passed("uplink"), offered, dropped)


def extended(series: Series, sample: Sample, window: Window) -> list[Sample]:
    """The series with one more sample, without what no measurement from now on needs.

    A sample that is not later than the last takes its place, at the last one's time.
    """
    kept = list(series)
    if kept and sample.at_ns <= kept[-1].at_ns:
        kept[-1] = sample._replace(at_ns=kept[-1].at_ns)
        return kept
    if kept:
        silent_until_ns = sample.at_ns - window.lag_ns
        if silent_until_ns > kept[-1].at_ns:
            kept.append(kept[-1]._replace(at_ns=silent_until_ns))
        if len(kept) > 1 and kept[-1].at_ns - kept[-2].at_ns < window.interval_ns // _PER_INTERVAL:
            kept.pop()
    kept.append(sample)
    oldest_ns = sample.at_ns - window.interval_ns - window.lag_ns
    first = max((place for place, each in enumerate(kept) if each.at_ns <= oldest_ns), default=0)
    return kept[first:]


def end_of(series: Series, now_ns: int, window: Window) -> int:
    """Until when a series of one sample at least can say what was used: its last sample, or ``now`` but for the lag."""
    return max(series[-1].at_ns, now_ns - window.lag_ns)


def measure(series: Series, now_ns: int, window: Window) -> Measured | None:
    """What was used in the last interval, or since the first sample where that is less; None: nothing can be said."""
    if not series:
        return None
    until_ns = end_of(series, now_ns, window)
    from_ns = max(until_ns - window.interval_ns, series[0].at_ns)
    taken_ns = until_ns - from_ns
    if taken_ns <= 0:
        return None
    before, after = _at(series, from_ns), _at(series, until_ns)
    downlink, uplink, offered, dropped = (late - early for early, late in zip(before, after, strict=True))
    return Measured(
        downlink_bps=round(downlink * _BITS_NS / taken_ns),
        uplink_bps=round(uplink * _BITS_NS / taken_ns),
        loss_ppm=min(_MILLION, round(dropped * _MILLION / offered)) if offered > 0 else None,
        interval_ns=taken_ns,
        until_ns=until_ns,
    )


def is_settled(series: Series, now_ns: int, window: Window) -> bool:
    """Whether a measurement will be the same from now on if nothing is reported."""
    return not series or end_of(series, now_ns, window) - window.interval_ns >= series[-1].at_ns


def _at(series: Series, at_ns: int) -> tuple[int, ...]:
    """The counters at a time that is not before the first sample, rounded down."""
    later = next((place for place, each in enumerate(series) if each.at_ns > at_ns), len(series))
    early = series[later - 1]
    if later == len(series):
        return early[1:]
    late = series[later]
    since_ns, taken_ns = at_ns - early.at_ns, late.at_ns - early.at_ns
    return tuple(one + (other - one) * since_ns // taken_ns for one, other in zip(early[1:], late[1:], strict=True))
