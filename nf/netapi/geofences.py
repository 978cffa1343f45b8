"""Geofences: who is told when devices enter or leave an area (live media distribution workflow, phase B step 1b).

What is told of a position is written in the transaction that takes it: each crossing is told once, whatever is killed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, TypeAlias

from google.protobuf.message import Message

from nf.common.due import DueDriver
from nf.common.errors import CastcoreError, InvalidArgument, NotFound
from nf.common.resources import copy_of, new_id
from nf.common.store import Page, Reader, Store, Transaction
from nf.common.telemetry import logger
from nf.netapi import geometry
from nf.netapi.attachments import device_key, names_of
from nf.netapi.callers import Caller, audience_of
from nf.netapi.devices import for_providers
from nf.netapi.errors import GeofencedDevicesExhausted, TooManyGeofences
from nf.netapi.geofence_requests import checked_request, expiry_of
from nf.netapi.location_rights import (
    Access,
    Right,
    access_of,
    check_agreement,
    check_covered,
    check_part_of,
    require_access,
)
from nf.netapi.membership import MEMBERSHIP, Presence, Tell, sighting_of
from nf.netapi.positions import position_of
from nf.netapi.v1.access_pb2 import Device, DeviceAccess
from nf.netapi.v1.booking_pb2 import Booking
from nf.netapi.v1.coverage_pb2 import ServiceArea
from nf.netapi.v1.location_pb2 import (
    AttachedUe,
    DevicePosition,
    Geofence,
    GeofenceCrossed,
    GeofenceEnded,
    GeofenceMember,
    GeofenceStarted,
)

SOURCE: Final = "netapi"
ENTERED: Final = "AREA_ENTERED"
LEFT: Final = "AREA_LEFT"
STARTED: Final = "GEOFENCE_STARTED"
ENDED: Final = "GEOFENCE_ENDED"

MAX_EVENTS_REACHED: Final = "MAX_EVENTS_REACHED"
BOOKING_ENDED: Final = "BOOKING_ENDED"
DELETED: Final = "DELETED"
SINK_ENDED: Final = "SINK_ENDED"

# What is done in the transaction that ends a geofence, after that has been told.
GeofenceEndFollower: TypeAlias = Callable[[Transaction, Geofence], None]

_BY_ID: Final = "network_access_id"
_BY_BOOKING: Final = "booking"
_BY_DEVICE: Final = "device"
_BY_AREA: Final = "area"
_BY_AGREEMENT: Final = "agreement"
# Who has no agreement.
_OPERATOR: Final = "the operator"
_CREATE: Final = "netapi.CreateGeofence"

_log = logger(SOURCE)


def subject_of(geofence_id: str) -> str:
    """How events name a geofence."""
    return f"geofences/{geofence_id}"


class Geofences:
    """The geofences of all providers. ``start`` ends those whose time has come, until ``stop``."""

    def __init__(self, store: Store, *, most: int) -> None:
        self._store = store
        self._most = most
        self.end_followers: list[GeofenceEndFollower] = []
        self._driver = DueDriver(store, Geofence, self._expire)

    async def start(self) -> None:
        """Begins to end geofences when they expire, with those that have expired already."""
        await self._driver.start()

    async def stop(self) -> None:
        """Ends that."""
        await self._driver.stop()

    async def create(self, caller: Caller, requested: Geofence, request_id: str = "") -> Geofence:
        """Begins to tell who enters or leaves; a repeat with the same ``request_id`` gets the same geofence.

        Raises InvalidArgument, NotFound, LocationNotBooked, AreaNotCovered, GeofencedDevicesExhausted,
        TooManyGeofences.
        """

        def work(transaction: Transaction) -> Geofence:
            return transaction.once(
                request_id, caller.scoped(_CREATE), requested, partial(self.create_in, transaction, caller, requested)
            )

        return await self._store.write(work)

    def create_in(
        self,
        transaction: Transaction,
        caller: Caller,
        requested: Geofence,
        *,
        made_at: str = "",
        geofence_id: str = "",
    ) -> Geofence:
        """As ``create``, in a transaction, under ``geofence_id`` if that is given.

        ``made_at`` is the door: there no network access ID is demanded, its beginning is told, and
        ``device_of_token`` and ``token_expire_time`` count.
        """
        checked = checked_request(requested, transaction.clock.now())
        if made_at:
            checked.device_of_token = requested.device_of_token
            if requested.HasField("token_expire_time"):
                checked.token_expire_time.CopyFrom(requested.token_expire_time)
        access = None
        if checked.network_access_id:
            field = "geofence.network_access_id"
            access = require_access(transaction, caller, checked.network_access_id, Right.NOTIFY, field)
            if access.is_over:
                raise InvalidArgument.of(
                    field, f"expected one of a booking that stands, found {checked.network_access_id!r}"
                )
            if checked.HasField("area"):
                check_part_of(access, checked.area, "geofence.area")
        elif made_at or caller.operator:
            check_agreement(transaction, caller, Right.NOTIFY)
            check_covered(transaction, caller, checked.area)
        else:
            raise InvalidArgument.of("geofence.network_access_id", "expected a geofencing ID, found none")
        agreement_id = access.booking.agreement_id if access is not None else caller.agreement_id
        self._check_room(transaction, agreement_id)
        checked.geofence_id = geofence_id or new_id()
        checked.agreement_id = agreement_id
        checked.made_at = made_at
        checked.create_time.FromDatetime(transaction.clock.now())
        if access is not None:
            checked.booking_id = access.booking.booking_id
        geofence = transaction.insert(
            checked,
            checked.geofence_id,
            parent=agreement_id,
            lookups={
                _BY_AGREEMENT: agreement_id or _OPERATOR,
                _BY_ID: checked.network_access_id,
                _BY_BOOKING: checked.booking_id,
                _BY_AREA: access.area.area_id if access is not None and not checked.HasField("area") else "",
            },
            due=expiry_of(checked)[0],
        )
        if made_at:
            _emit(transaction, STARTED, geofence, GeofenceStarted(geofence=geofence))
        if geofence.HasField("device"):
            if access is not None:
                _check_devices(transaction, access, geofence.device)
            watched = [(device_key(transaction, geofence.device), geofence.device)]
        else:
            watched = _users(transaction, geofence.network_access_id)
        for key, device in watched:
            self._watch(transaction, geofence.geofence_id, key, device)
        # It may have ended with what was told of the devices that are there.
        return transaction.get(Geofence, geofence.geofence_id) or geofence

    async def get(self, caller: Caller, geofence_id: str) -> Geofence:
        """A geofence of the caller. Raises NotFound."""
        return await self._store.read(lambda reader: require_geofence(reader, caller, geofence_id))

    async def page(self, caller: Caller, page_size: int, page_token: str) -> Page[Geofence]:
        """One page of the caller's geofences in the order of their creation."""
        return await self._store.read(
            lambda reader: reader.list(Geofence, parent=caller.sees, page_size=page_size, page_token=page_token)
        )

    async def delete(self, caller: Caller, geofence_id: str) -> None:
        """Ends a geofence; one that is not there has ended before."""

        def work(transaction: Transaction) -> None:
            geofence = transaction.get(Geofence, geofence_id)
            if geofence is not None and caller.may_see(geofence.agreement_id):
                self.end(transaction, geofence, DELETED)

        await self._store.write(work)

    def end(self, transaction: Transaction, geofence: Geofence, cause: str) -> None:
        """Ends a geofence, in a transaction, and tells so."""
        for member in transaction.all(GeofenceMember, parent=geofence.geofence_id):
            transaction.delete(GeofenceMember, _name(member.geofence_id, member.device_key))
        transaction.delete(Geofence, geofence.geofence_id)
        _emit(transaction, ENDED, geofence, GeofenceEnded(geofence=geofence, cause=cause))
        for follower in self.end_followers:
            follower(transaction, geofence)

    def on_agreement_end(self, transaction: Transaction, agreement_id: str) -> None:
        """Ends the geofences of an agreement."""
        for geofence in transaction.all(Geofence, parent=agreement_id):
            self.end(transaction, geofence, DELETED)

    def on_position(self, transaction: Transaction, key: str, position: DevicePosition) -> None:
        """A device is there now."""
        for member in transaction.find(GeofenceMember, _BY_DEVICE, key):
            self._see(transaction, member, position)

    def on_access(self, transaction: Transaction, access: DeviceAccess, previous: DeviceAccess.State.ValueType) -> None:
        """A device has begun to use a network access ID, or does so no longer."""
        begins = previous == DeviceAccess.STATE_UNSPECIFIED
        if not begins and access.state != DeviceAccess.STATE_ENDED:
            return
        for geofence in _geofences_of(transaction, access.network_access_id):
            if geofence.HasField("device"):
                continue
            if access.state != DeviceAccess.STATE_ENDED:
                self._watch(transaction, geofence.geofence_id, device_key(transaction, access.device), access.device)
                continue
            # By the name that it has used: what that means may have changed.
            for member in transaction.all(GeofenceMember, parent=geofence.geofence_id):
                if member.device == for_providers(access.device):
                    transaction.delete(GeofenceMember, _name(member.geofence_id, member.device_key))

    def on_booking(self, transaction: Transaction, booking: Booking, _: Sequence[object]) -> None:
        """A booking has changed: its geofences tell again, or have ended with it."""
        for geofence in transaction.find(Geofence, _BY_BOOKING, booking.booking_id):
            access = access_of(transaction, geofence.network_access_id)
            if access is None or access.is_over:
                self.end(transaction, geofence, BOOKING_ENDED)
            elif access.is_in_force:
                for member in transaction.all(GeofenceMember, parent=geofence.geofence_id):
                    self._look(transaction, member)

    def on_area(self, transaction: Transaction, area: ServiceArea) -> None:
        """A service area is another one: who was inside may be outside."""
        for geofence in transaction.find(Geofence, _BY_AREA, area.area_id):
            for member in transaction.all(GeofenceMember, parent=geofence.geofence_id):
                self._look(transaction, member)

    def on_attachment(self, transaction: Transaction, ue: AttachedUe, attached: bool) -> None:
        """What was watched by another name of a UE is watched by its SUPI from now on."""
        if not attached:
            return
        for name in names_of(ue):
            for member in transaction.find(GeofenceMember, _BY_DEVICE, name):
                transaction.delete(GeofenceMember, _name(member.geofence_id, name))
                if transaction.get(GeofenceMember, _name(member.geofence_id, ue.supi)) is None:
                    moved = copy_of(member)
                    moved.device_key = ue.supi
                    _put(transaction, moved)
                    self._look(transaction, moved)

    def _check_room(self, reader: Reader, agreement_id: str) -> None:
        if reader.count(Geofence, _BY_AGREEMENT, agreement_id or _OPERATOR) >= self._most:
            raise TooManyGeofences(
                f"agreement {agreement_id!r} has {self._most} geofences, as many as are kept for one"
            )

    def _watch(self, transaction: Transaction, geofence_id: str, key: str, device: Device) -> None:
        if transaction.get(GeofenceMember, _name(geofence_id, key)) is not None:
            return
        member = GeofenceMember(geofence_id=geofence_id, device_key=key, device=for_providers(device))
        _put(transaction, member)
        self._look(transaction, member)

    def _look(self, transaction: Transaction, member: GeofenceMember) -> None:
        position = position_of(transaction, member.device_key)
        if position is None:
            # Nobody knows where: that is inside of an area that is everywhere.
            position = DevicePosition()
            position.position_time.FromDatetime(transaction.clock.now())
        self._see(transaction, member, position)

    def _see(self, transaction: Transaction, member: GeofenceMember, position: DevicePosition) -> None:
        geofence = transaction.get(Geofence, member.geofence_id)
        if geofence is None:
            return
        access = access_of(transaction, geofence.network_access_id) if geofence.network_access_id else None
        if geofence.network_access_id and (access is None or not access.is_in_force):
            return
        expiry, _ = expiry_of(geofence)
        if expiry is not None and expiry <= transaction.clock.now():
            return
        area = geofence.area if geofence.HasField("area") or access is None else access.area
        fit, _ = geometry.fit(area, position)
        before = Presence(member.presence)
        step = MEMBERSHIP.step(before, sighting_of(fit))
        if step.state is before:
            return
        changed = copy_of(member)
        changed.presence = GeofenceMember.Presence.ValueType(step.state.value)
        transaction.update(changed, _name(member.geofence_id, member.device_key))
        event_type = _told(geofence, step.effects)
        if event_type is None:
            return
        told = copy_of(geofence)
        told.told_events += 1
        told = transaction.update(told, told.geofence_id)
        where = (
            position if access is not None and access.network_access_id.geofencing.retrieve else _only_time(position)
        )
        shown = DevicePosition()
        shown.CopyFrom(where)
        shown.device.CopyFrom(member.device)
        crossed = GeofenceCrossed(geofence=told, device=member.device, position=shown)
        _emit(transaction, event_type, told, crossed)
        if told.max_events and told.told_events >= told.max_events:
            self.end(transaction, told, MAX_EVENTS_REACHED)

    async def _expire(self, geofence_id: str, _: Geofence) -> None:
        def work(transaction: Transaction) -> None:
            geofence = transaction.get(Geofence, geofence_id)
            if geofence is None:
                return
            expiry, cause = expiry_of(geofence)
            if expiry is not None and expiry <= transaction.clock.now():
                self.end(transaction, geofence, cause)

        await self._store.write(work)


def require_geofence(reader: Reader, caller: Caller, geofence_id: str) -> Geofence:
    """A geofence that the caller may see. Raises NotFound."""
    geofence = reader.get(Geofence, geofence_id)
    if geofence is None or not caller.may_see(geofence.agreement_id):
        raise NotFound(f"geofence {geofence_id!r} does not exist")
    return geofence


def _geofences_of(reader: Reader, network_access_id: str) -> list[Geofence]:
    return reader.find(Geofence, _BY_ID, network_access_id)


def _users(reader: Reader, network_access_id: str) -> list[tuple[str, Device]]:
    """The devices that use a network access ID, by their keys."""
    return [
        (device_key(reader, access.device), access.device)
        for access in reader.find(DeviceAccess, _BY_ID, network_access_id)
        if access.state != DeviceAccess.STATE_ENDED
    ]


def _check_devices(reader: Reader, access: Access, device: Device) -> None:
    """Raises GeofencedDevicesExhausted where one device more than booked would be watched under the ID."""
    name, booked = access.network_access_id.network_access_id, access.network_access_id.devices
    named = [each.device for each in _geofences_of(reader, name) if each.HasField("device")]
    watched = set(_keys(reader, named)) | {key for key, _ in _users(reader, name)} | {device_key(reader, device)}
    if len(watched) > booked:
        raise GeofencedDevicesExhausted(
            f"network access ID {name!r}: {booked} devices are booked, and as many use it or are watched under it",
            metadata={"booked_devices": str(booked)},
        )


def _keys(reader: Reader, devices: Iterable[Device]) -> Iterable[str]:
    for device in devices:
        try:
            yield device_key(reader, device)
        except CastcoreError as error:
            _log.warning("geofence.device_not_one", error=str(error))


def _told(geofence: Geofence, effects: Sequence[object]) -> str | None:
    """Which event the geofence tells of a transition."""
    if (Tell.AREA_ENTERED in effects or (Tell.IS_INSIDE in effects and geofence.initial_event)) and geofence.entered:
        return ENTERED
    if (Tell.AREA_LEFT in effects or (Tell.IS_OUTSIDE in effects and geofence.initial_event)) and geofence.left:
        return LEFT
    return None


def _only_time(position: DevicePosition) -> DevicePosition:
    return DevicePosition(position_time=position.position_time)


def _name(geofence_id: str, key: str) -> str:
    return f"{geofence_id}/{key}"


def _put(transaction: Transaction, member: GeofenceMember) -> None:
    name = _name(member.geofence_id, member.device_key)
    transaction.put(member, name, parent=member.geofence_id, lookups={_BY_DEVICE: member.device_key})


def _emit(transaction: Transaction, event_type: str, geofence: Geofence, payload: Message) -> None:
    audience = (audience_of(geofence.agreement_id),) if geofence.agreement_id else ()
    transaction.emit(event_type, subject_of(geofence.geofence_id), payload, source=SOURCE, audience=audience)
