"""The capacity of an area over time: what is taken of it when, and how much of a request still fits.

A reservation takes bit rates and devices from its start to just before its stop. What is taken at a moment is the sum
of the reservations that cover it; it never exceeds the area's capacity.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Final, Self, TypeAlias


class Resource(Enum):
    """What a reservation takes of an area; the values name what an offer is limited by."""

    DOWNLINK = "CAPACITY_DOWNLINK"
    UPLINK = "CAPACITY_UPLINK"
    DEVICES = "CAPACITY_DEVICES"


@dataclass(frozen=True, slots=True)
class Load:
    """Bit rates of all devices together, and how many devices."""

    downlink_bps: int = 0
    uplink_bps: int = 0
    devices: int = 0

    def __add__(self, other: Load) -> Load:
        return Load(
            self.downlink_bps + other.downlink_bps, self.uplink_bps + other.uplink_bps, self.devices + other.devices
        )

    def __sub__(self, other: Load) -> Load:
        return Load(
            self.downlink_bps - other.downlink_bps, self.uplink_bps - other.uplink_bps, self.devices - other.devices
        )

    def __mul__(self, times: int) -> Load:
        return Load(self.downlink_bps * times, self.uplink_bps * times, self.devices * times)

    def of(self, resource: Resource) -> int:
        """How much of one resource."""
        if resource is Resource.DOWNLINK:
            return self.downlink_bps
        return self.uplink_bps if resource is Resource.UPLINK else self.devices


NOTHING: Final = Load()


@dataclass(frozen=True, slots=True)
class Capacity:
    """What an area has; None: as much as anybody wants."""

    downlink_bps: int | None = None
    uplink_bps: int | None = None
    devices: int | None = None

    def bounds(self) -> Iterator[tuple[Resource, int]]:
        """The resources that are bounded, and by how much."""
        for resource, most in (
            (Resource.DOWNLINK, self.downlink_bps),
            (Resource.UPLINK, self.uplink_bps),
            (Resource.DEVICES, self.devices),
        ):
            if most is not None:
                yield resource, most


@dataclass(frozen=True, slots=True)
class Reservation:
    """A load from ``start_ns`` to just before ``stop_ns``, nanoseconds UTC."""

    start_ns: int
    stop_ns: int
    load: Load


@dataclass(frozen=True, slots=True)
class Room:
    """How many devices fit, and what there is too little of for more; None: all that were asked for fit."""

    devices: int
    limited_by: Resource | None


# A reservation as a table has it: start and stop, bit rates down and up, devices.
Row: TypeAlias = "tuple[int, int, int, int, int]"


class Timeline:
    """What reservations take together, moment by moment."""

    def __init__(self, rows: Iterable[Row]) -> None:
        changes: list[tuple[int, int, int, int]] = []
        for start_ns, stop_ns, downlink_bps, uplink_bps, devices in rows:
            if start_ns < stop_ns:
                changes.append((start_ns, downlink_bps, uplink_bps, devices))
                changes.append((stop_ns, -downlink_bps, -uplink_bps, -devices))
        changes.sort()
        # From each of these moments to the next, so much is taken; before the first, nothing.
        self._moments: list[int] = []
        downlinks: list[int] = []
        uplinks: list[int] = []
        counts: list[int] = []
        self._levels = (downlinks, uplinks, counts)
        downlink = uplink = count = 0
        for moment, together in groupby(changes, key=itemgetter(0)):
            # What ends at a moment has made room for what begins then.
            for _, down, up, more in together:
                downlink, uplink, count = downlink + down, uplink + up, count + more
            self._moments.append(moment)
            downlinks.append(downlink)
            uplinks.append(uplink)
            counts.append(count)

    @classmethod
    def of(cls, reservations: Iterable[Reservation]) -> Self:
        """That of these reservations."""
        return cls(
            (each.start_ns, each.stop_ns, each.load.downlink_bps, each.load.uplink_bps, each.load.devices)
            for each in reservations
        )

    @property
    def moments(self) -> Sequence[int]:
        """When what is taken changes, in order."""
        return self._moments

    def at(self, moment_ns: int) -> Load:
        """What is taken from this moment on, until the next change."""
        index = bisect_right(self._moments, moment_ns) - 1
        return NOTHING if index < 0 else Load(*(levels[index] for levels in self._levels))

    def most(self, start_ns: int, stop_ns: int) -> Load:
        """The most that is taken of each resource at any moment from ``start_ns`` to just before ``stop_ns``.

        The moments may be different ones for different resources.
        """
        return self._of(max, start_ns, stop_ns)

    def least(self, start_ns: int, stop_ns: int) -> Load:
        """The least that is taken of each resource at any moment, likewise."""
        return self._of(min, start_ns, stop_ns)

    def _of(self, chosen: Callable[[Sequence[int]], int], start_ns: int, stop_ns: int) -> Load:
        first = bisect_right(self._moments, start_ns) - 1
        last = bisect_left(self._moments, stop_ns)
        if first < 0:
            return Load(*(chosen([0, *levels[:last]]) for levels in self._levels))
        return Load(*(chosen(levels[first:last]) for levels in self._levels))


def beyond(wanted: Iterable[Reservation], had: Iterable[Reservation]) -> list[Reservation]:
    """What has to be held beside ``had`` so that ``wanted`` can be put in its place: as much more at every moment."""
    after, before = Timeline.of(wanted), Timeline.of(had)
    found: list[Reservation] = []
    for start_ns, stop_ns in pairwise(sorted({*after.moments, *before.moments})):
        missing = after.at(start_ns) - before.at(start_ns)
        load = Load(max(0, missing.downlink_bps), max(0, missing.uplink_bps), max(0, missing.devices))
        if load == NOTHING:
            continue
        if found and found[-1].stop_ns == start_ns and found[-1].load == load:
            found[-1] = Reservation(found[-1].start_ns, stop_ns, load)
        else:
            found.append(Reservation(start_ns, stop_ns, load))
    return found


def room(capacity: Capacity, taken: Load, each_device: Load, wanted_devices: int, own: Load = NOTHING) -> Room:
    """How many of the devices that are wanted fit beside what is taken, each with its own load.

    What was one's ``own`` before fits in any case, be the capacity smaller now.
    """
    found = Room(wanted_devices, None)
    for resource, most in capacity.bounds():
        share = each_device.of(resource)
        if share == 0:
            continue
        fitting = max(0, most - taken.of(resource), own.of(resource)) // share
        if fitting < found.devices:
            found = Room(fitting, resource)
    return found
