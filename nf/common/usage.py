"""Arithmetic on cumulative usage counters (TS 29.244 §7.5.8.3): sums, the later of two reports, what came on top.

Counters only rise, so of two reports of one counter the larger is the later one, in whatever order they arrive.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal

from nf.common.v1.types_pb2 import PolicedVolume, Usage, Volume

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


def _volumes(usage: Usage) -> Iterable[Volume]:
    for directed in (usage.downlink, usage.uplink):
        yield from (directed.offered, directed.conforming, directed.exceeding, directed.dropped)


def counters_of(usage: Usage) -> Counters:
    """The sixteen counters of a usage in the order of COUNTER_NAMES; what is not set is 0."""
    return tuple(counter for volume in _volumes(usage) for counter in (volume.packets, volume.bytes))


def usage_of(counters: Sequence[int]) -> Usage:
    """The usage that has these counters. Raises ValueError unless there are sixteen."""
    if len(counters) != len(COUNTER_NAMES):
        raise ValueError(f"expected {len(COUNTER_NAMES)} counters, got {len(counters)}")
    volumes = [Volume(packets=counters[at], bytes=counters[at + 1]) for at in range(0, len(counters), 2)]
    downlink, uplink = (
        PolicedVolume(offered=offered, conforming=conforming, exceeding=exceeding, dropped=dropped)
        for offered, conforming, exceeding, dropped in (volumes[:4], volumes[4:])
    )
    return Usage(downlink=downlink, uplink=uplink)


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
