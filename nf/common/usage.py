"""Arithmetic on cumulative usage counters (TS 29.244 §7.5.8.3): sums, the later of two reports, what came on top.

Counters only rise, so of two reports of one counter the larger is the later one, in whatever order they arrive.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal

from nf.common.v1.types_pb2 import Usage, Volume

Direction = Literal["downlink", "uplink"]
Share = Literal["offered", "conforming", "exceeding", "dropped"]
Unit = Literal["packets", "bytes"]

DIRECTIONS: Final[tuple[Direction, ...]] = ("downlink", "uplink")
SHARES: Final[tuple[Share, ...]] = ("offered", "conforming", "exceeding", "dropped")
UNITS: Final[tuple[Unit, ...]] = ("packets", "bytes")

# The order in which ``counters_of`` gives them; also the names of typed tables' columns.
COUNTER_NAMES: Final = tuple(
    f"{direction}_{share}_{unit}" for direction in DIRECTIONS for share in SHARES for unit in UNITS
)

Counters = tuple[int, ...]

NOTHING: Final[Counters] = (0,) * len(COUNTER_NAMES)


def _volumes(usage: Usage) -> tuple[Volume, ...]:
    """The eight volumes of a usage, by direction and share."""
    down, up = usage.downlink, usage.uplink
    return (
        *(down.offered, down.conforming, down.exceeding, down.dropped),
        *(up.offered, up.conforming, up.exceeding, up.dropped),
    )


def counters_of(usage: Usage) -> Counters:
    """The sixteen counters of a usage in the order of COUNTER_NAMES; what is not set is 0."""
    counters: list[int] = []
    for volume in _volumes(usage):
        counters += (volume.packets, volume.bytes)
    return tuple(counters)


def usage_of(counters: Sequence[int]) -> Usage:
    """The usage that has these counters. Raises ValueError unless there are sixteen."""
    if len(counters) != len(COUNTER_NAMES):
        raise ValueError(f"expected {len(COUNTER_NAMES)} counters, got {len(counters)}")
    usage = Usage()
    for volume, packets, octets in zip(_volumes(usage), counters[::2], counters[1::2], strict=True):
        # Nothing counted is said, too.
        volume.SetInParent()
        volume.packets, volume.bytes = packets, octets
    return usage


def total(parts: Iterable[Counters]) -> Counters:
    """The sum of counters that count apart from each other."""
    return tuple(map(sum, zip(NOTHING, *parts, strict=True)))


def latest(one: Counters, other: Counters) -> Counters:
    """The later of two reports of the same counters: of each, the larger."""
    return tuple(map(max, one, other))


def increment(before: Counters, after: Counters) -> Counters:
    """What came on top of ``before``; nothing where ``after`` is the older report."""
    return tuple(max(0, late - early) for early, late in zip(before, after, strict=True))


def counter_bytes(counters: Counters, share: Share) -> int:
    """Bytes of one share, both directions together."""
    return sum(counters[COUNTER_NAMES.index(f"{direction}_{share}_bytes")] for direction in DIRECTIONS)
