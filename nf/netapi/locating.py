"""Where a device is and whether that is in an area, for those who may know (live media distribution, phase B)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from nf.common.reader import Reader
from nf.common.store import Store
from nf.netapi import coverage, geometry
from nf.netapi.attachments import attached_ues, device_key
from nf.netapi.callers import Caller
from nf.netapi.camara_devices import Name
from nf.netapi.devices import check_device
from nf.netapi.errors import AmbiguousDevice, IdentifierNotFound, PositionTooOld, PositionUnknown
from nf.netapi.geometry import Fit
from nf.netapi.location_rights import (
    Right,
    check_agreement,
    check_covered,
    check_in_force,
    check_part_of,
    require_access,
)
from nf.netapi.positions import position_of, time_of
from nf.netapi.v1.access_pb2 import Device
from nf.netapi.v1.coverage_pb2 import Geometry, ServiceArea
from nf.netapi.v1.location_pb2 import DevicePosition, SubscriberNames


@dataclass(frozen=True, slots=True)
class Verified:
    """Whether a device is in an area: with PARTIAL by how many percent, and when it was where it is known to be."""

    fit: Fit
    percent: int
    position_time: datetime | None


@dataclass(frozen=True, slots=True)
class Located:
    """Where a device is, by the name by which it is known; ``covered`` are the service areas that have its cell."""

    name: Name
    position: DevicePosition
    covered: Sequence[ServiceArea]


def located(reader: Reader, device: Device, max_age: timedelta | None) -> DevicePosition:
    """Where a device is. Raises PositionUnknown and PositionTooOld, and what ``device_key`` raises."""
    position = position_of(reader, device_key(reader, device))
    if position is None:
        raise PositionUnknown("device: nothing is known of where it is")
    age = reader.clock.now() - time_of(position)
    if max_age is not None and age > max_age:
        age_s, most_s = age.total_seconds(), max_age.total_seconds()
        raise PositionTooOld(
            f"device: its position is {age_s:.1f} s old, expected at most {most_s:.0f} s",
            metadata={"age_s": f"{age_s:.1f}"},
        )
    return position


def verified(reader: Reader, device: Device, area: Geometry | ServiceArea, max_age: timedelta | None) -> Verified:
    """Whether a device is in an area. Raises as ``located`` does."""
    position = located(reader, device, max_age)
    fit, percent = geometry.fit(area, position)
    return Verified(fit, percent, time_of(position))


def known_name(reader: Reader, names: Sequence[Name]) -> Name | None:
    """The first of these names that the network knows: of an attached UE, a subscriber, or a device with a position."""
    for name in names:
        try:
            key = device_key(reader, name.device)
        except AmbiguousDevice:
            continue
        if (
            reader.get(SubscriberNames, key) is not None
            or attached_ues(reader, key)
            or reader.get(DevicePosition, key) is not None
        ):
            return name
    return None


class Locating:
    """What callers ask of positions."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(
        self, caller: Caller, device: Device, network_access_id: str, max_age: timedelta | None
    ) -> DevicePosition:
        """Where a device is, named as the caller does.

        Raises InvalidArgument, NotFound, LocationNotBooked, NotWithinPeriod, PositionUnknown, PositionTooOld.
        """

        def look(reader: Reader) -> DevicePosition:
            named = check_device(device, "device")
            if network_access_id or not caller.operator:
                check_in_force(require_access(reader, caller, network_access_id, Right.RETRIEVE, "network_access_id"))
            position = located(reader, named, max_age)
            if not caller.operator:
                position.device.CopyFrom(named)
            return position

        return await self._store.read(look)

    async def verify(
        self, caller: Caller, device: Device, network_access_id: str, area: Geometry | None, max_age: timedelta | None
    ) -> Verified:
        """Whether a device is in ``area`` (None: that of the network access ID); UNKNOWN where it cannot be said.

        Raises InvalidArgument, NotFound, LocationNotBooked, NotWithinPeriod, AreaNotCovered.
        """

        def look(reader: Reader) -> Verified:
            named = check_device(device, "device")
            if area is not None:
                geometry.check(area, "area")
            within: Geometry | ServiceArea | None = area
            if network_access_id or not caller.operator or area is None:
                access = require_access(reader, caller, network_access_id, Right.VERIFY, "network_access_id")
                check_in_force(access)
                if area is None:
                    within = access.area
                else:
                    check_part_of(access, area, "area")
            assert within is not None
            try:
                return verified(reader, named, within, max_age)
            except PositionUnknown:
                # An area that is everywhere has it all the same.
                return Verified(*geometry.fit(within, None), None)
            except PositionTooOld:
                position = located(reader, named, None)
                return Verified(Fit.UNKNOWN, 0, time_of(position))

        return await self._store.read(look)

    async def by_agreement(
        self,
        caller: Caller,
        names: Sequence[Name],
        right: Right,
        max_age: timedelta | None,
        area: Geometry | None = None,
    ) -> Located:
        """Where a device is, for a caller whose agreement has the right; ``area`` has to be where it may book.

        Raises LocationNotBooked, IdentifierNotFound, AreaNotCovered, PositionUnknown, PositionTooOld.
        """

        def look(reader: Reader) -> Located:
            check_agreement(reader, caller, right)
            name = _require_name(reader, names)
            if area is not None:
                check_covered(reader, caller, area)
            position = located(reader, name.device, max_age)
            covered = [
                each
                for each in (coverage.areas(reader) if position.HasField("cell") else ())
                if any(geometry.same_cell(cell, position.cell) for cell in each.cells)
            ]
            return Located(name, position, covered)

        return await self._store.read(look)


def _require_name(reader: Reader, names: Sequence[Name]) -> Name:
    found = known_name(reader, names)
    if found is None:
        raise IdentifierNotFound("device: the network knows none by the given identifiers")
    return found
