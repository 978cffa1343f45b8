"""Rates and times, rounded for eyes."""

from __future__ import annotations


def mean_rate(volume_bytes: int, span_ns: int) -> str:
    """Mean bit rate over the time between a rule's first and last packet."""
    if span_ns <= 0:
        return "-"
    return rate(volume_bytes * 8 * 10**9 / span_ns)


def rate(rate_bps: float) -> str:
    """A bit rate in the unit that suits it."""
    for unit in ("bps", "Kbps", "Mbps"):
        if rate_bps < 1000:
            return f"{rate_bps:.3g} {unit}"
        rate_bps /= 1000
    return f"{rate_bps:,.3f} Gbps"


def duration(duration_ns: int) -> str:
    """A time in the unit that suits it."""
    for unit, scale in (("s", 10**9), ("ms", 10**6), ("µs", 10**3)):
        if duration_ns >= scale:
            return f"{duration_ns / scale:.6g} {unit}"
    return f"{duration_ns} ns"
