"""Where devices are, as far as that has been told (5G-MAG live media distribution workflow, phase B step 1b).

Of each device the latest position is kept, and no history. A UE that is attached in a cell is there now; a point
that was reported of it stays the latest point, with its time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.resources import copy_of
from nf.common.store import Reader, Store, Transaction
from nf.netapi.attachments import attached_ues, device_key, device_of, names_of, resolve
from nf.netapi.devices import check_device
from nf.netapi.v1.access_pb2 import Device
from nf.netapi.v1.location_pb2 import AttachedUe, DevicePosition

# What is done in the transaction that takes a position, with the device's key.
PositionFollower: TypeAlias = Callable[[Transaction, str, DevicePosition], None]

MAX_POSITIONS: Final = 1000
# Clocks differ; a position of later would keep out those that come until then.
MAX_AHEAD: Final = timedelta(minutes=1)
# Half of the way around the earth.
_MAX_UNCERTAINTY_M: Final = 20_037_509.0
_CELL_IDENTITY: Final = re.compile(r"[A-Fa-f0-9]{9}")


def position_of(reader: Reader, key: str) -> DevicePosition | None:
    """Where the device with this key is; None: nothing is known."""
    position = reader.get(DevicePosition, key)
    if position is None or position.HasField("point"):
        return position
    if any(ue.cell == position.cell for ue in attached_ues(reader, key)):
        # The network knows it now.
        position.position_time.FromDatetime(reader.clock.now())
    return position


def time_of(position: DevicePosition) -> datetime:
    """When a device was there."""
    return position.position_time.ToDatetime(UTC)


def _violations(position: DevicePosition, now: datetime) -> Iterator[FieldViolation]:
    if not position.HasField("point") and not position.HasField("cell"):
        yield FieldViolation("point", "expected a point or a cell, found neither")
    if position.HasField("point"):
        for name, value, most in (
            ("latitude", position.point.latitude, 90),
            ("longitude", position.point.longitude, 180),
        ):
            if not -most <= value <= most:
                yield FieldViolation(f"point.{name}", f"expected -{most} to {most}, found {value}")
    if not 0 <= position.uncertainty_m <= _MAX_UNCERTAINTY_M or math.isnan(position.uncertainty_m):
        yield FieldViolation("uncertainty_m", f"expected 0 to {_MAX_UNCERTAINTY_M:.0f}, found {position.uncertainty_m}")
    if position.HasField("cell") and not _CELL_IDENTITY.fullmatch(position.cell.nr_cell_id):
        found = repr(position.cell.nr_cell_id)
        yield FieldViolation("cell.nr_cell_id", f"expected nine hexadecimal digits, found {found}")
    if position.HasField("position_time"):
        try:
            moment = time_of(position)
        except (ValueError, OverflowError):
            yield FieldViolation("position_time", f"expected a time, found {position.position_time.seconds} s")
            return
        if moment > now + MAX_AHEAD:
            yield FieldViolation("position_time", f"expected {now.isoformat()} or before, found {moment.isoformat()}")


def _checked(position: DevicePosition, now: datetime, field: str) -> DevicePosition:
    found = [FieldViolation(f"{field}.{each.field}", each.description) for each in _violations(position, now)]
    if found:
        raise InvalidArgument.of_all(found)
    checked = copy_of(position)
    checked.device.CopyFrom(check_device(position.device, f"{field}.device"))
    if not checked.HasField("position_time"):
        checked.position_time.FromDatetime(now)
    return checked


class Positions:
    """The latest positions; ``followers`` are told of each in the transaction that takes it."""

    def __init__(self, store: Store, followers: Sequence[PositionFollower] = ()) -> None:
        self._store = store
        self.followers = list(followers)

    async def report(self, positions: Sequence[DevicePosition]) -> int:
        """Takes positions, all or none: how many were newer than what was known.

        Raises InvalidArgument naming what is wrong, and what ``resolve`` raises of a device.
        """
        if len(positions) > MAX_POSITIONS:
            raise InvalidArgument.of("positions", f"expected at most {MAX_POSITIONS}, found {len(positions)}")
        now = self._store.clock.now()
        checked = [_checked(each, now, f"positions[{at}]") for at, each in enumerate(positions)]
        # In the order of their times, so that each crossing is seen.
        checked.sort(key=time_of)
        return await self._store.write(lambda tx: sum(self.take(tx, each) for each in checked))

    def position_of(self, reader: Reader, key: str) -> DevicePosition | None:
        """Where the device with this key is; None: nothing is known."""
        return position_of(reader, key)

    def take(self, transaction: Transaction, position: DevicePosition) -> bool:
        """Takes one position that has been checked: whether it was newer than what was known."""
        ue = resolve(transaction, position.device)
        key = ue.supi if ue is not None else device_key(transaction, position.device)
        known = transaction.get(DevicePosition, key)
        if known is not None and time_of(position) <= time_of(known):
            return False
        taken = copy_of(position)
        taken.device.CopyFrom(_all_names(ue, position.device))
        if ue is not None and ue.HasField("cell") and not taken.HasField("cell"):
            # The cell is known now, whatever the point.
            taken.cell.CopyFrom(ue.cell)
        self._put(transaction, key, taken)
        return True

    def on_attachment(self, transaction: Transaction, ue: AttachedUe, attached: bool) -> None:
        """A UE is where it is attached; what was reported of it by another name is its own."""
        if not attached:
            return
        known = transaction.get(DevicePosition, ue.supi)
        latest = known
        for name in names_of(ue):
            other = transaction.get(DevicePosition, name)
            if other is None:
                continue
            transaction.delete(DevicePosition, name)
            if latest is None or time_of(other) > time_of(latest):
                latest = other
        position = DevicePosition() if latest is None else copy_of(latest)
        position.device.CopyFrom(device_of(ue))
        if ue.HasField("cell"):
            position.cell.CopyFrom(ue.cell)
            if not position.HasField("point"):
                position.position_time.FromDatetime(transaction.clock.now())
        if not position.HasField("point") and not position.HasField("cell"):
            return
        if known is None or position.cell != known.cell or position.point != known.point:
            self._put(transaction, ue.supi, position)

    def _put(self, transaction: Transaction, key: str, position: DevicePosition) -> None:
        transaction.put(position, key)
        for follower in self.followers:
            follower(transaction, key, copy_of(position))


def _all_names(ue: AttachedUe | None, given: Device) -> Device:
    return given if ue is None else device_of(ue)
