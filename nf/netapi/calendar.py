"""The capacity of an area over time: what is taken of it when, and how much of a request still fits.

A reservation takes bit rates and devices from its start to just before its stop. What is taken at a moment is the sum
of the reservations that cover it; it never exceeds the area's capacity.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from typing import Final


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
        return {
            Resource.DOWNLINK: self.downlink_bps,
            Resource.UPLINK: self.uplink_bps,
            Resource.DEVICES: self.devices,
        }[resource]


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


def peak(reservations: Iterable[Reservation], start_ns: int, stop_ns: int) -> Load:
    """The most that is taken of each resource at any moment from ``start_ns`` to just before ``stop_ns``.

    The moments may be different ones for different resources.
    """
    changes: list[tuple[int, Load]] = []
    for each in reservations:
        begin, end = max(each.start_ns, start_ns), min(each.stop_ns, stop_ns)
        if begin < end:
            changes += ((begin, each.load), (end, NOTHING - each.load))
    changes.sort(key=lambda change: change[0])
    taken = most = NOTHING
    for _, together in groupby(changes, key=lambda change: change[0]):
        # What ends at a moment has made room for what begins then.
        for _, change in together:
            taken += change
        most = Load(
            max(most.downlink_bps, taken.downlink_bps),
            max(most.uplink_bps, taken.uplink_bps),
            max(most.devices, taken.devices),
        )
    return most


def room(capacity: Capacity, taken: Load, each_device: Load, wanted_devices: int) -> Room:
    """How many of the devices that are wanted fit beside what is taken, each with its own load."""
    found = Room(wanted_devices, None)
    for resource, most in capacity.bounds():
        share = each_device.of(resource)
        if share == 0:
            continue
        fitting = max(0, (most - taken.of(resource)) // share)
        if fitting < found.devices:
            found = Room(fitting, resource)
    return found
