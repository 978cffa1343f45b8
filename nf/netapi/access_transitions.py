"""Device accesses at work: one step of the machine with all that belongs to it, within one transaction of the store.

What decides is read anew each time, so it does not matter what has caused the look, nor how often there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, TypeAlias

from nf.common.errors import CastcoreError
from nf.common.resources import copy_of
from nf.common.store import KEEP, Keep, Reader, Transaction
from nf.netapi import devices
from nf.netapi.access_decision import Decision, Situation, Whereabouts, decide, deed, finding
from nf.netapi.access_machine import DEVICE_ACCESS, Effect, Event, State
from nf.netapi.attachments import attached_ues, resolve
from nf.netapi.callers import audience_of
from nf.netapi.geometry import Fit, fit
from nf.netapi.positions import position_of
from nf.netapi.v1.access_pb2 import AccessInstallation, Device, DeviceAccess, DeviceAccessChanged
from nf.netapi.v1.booking_pb2 import Booking, NetworkAccessId
from nf.netapi.v1.coverage_pb2 import CAPABILITY_QUALITY_ON_DEMAND, ServiceArea
from nf.netapi.v1.location_pb2 import AttachedUe

SOURCE: Final = "netapi"
# Accesses that are not over, by the ID that they use; all by device; those that are not over by both.
BY_ID: Final = "network_access_id"
BY_DEVICE: Final = "device"
BY_BOTH: Final = "use"

# Called in the transaction of a change, with the access as it is stored then and the state before.
AccessFollower: TypeAlias = Callable[[Transaction, DeviceAccess, DeviceAccess.State.ValueType], None]

# What subscribers are told of.
_TOLD: Final = (
    "state",
    "reason",
    "problem",
    "max_downlink_bps",
    "max_uplink_bps",
    "guaranteed_downlink_bps",
    "guaranteed_uplink_bps",
)


class Settled(NamedTuple):
    """An access with what belongs to it, as stored, and what it is to have."""

    access: DeviceAccess
    installed: AccessInstallation
    decision: Decision


def subject_of(access: DeviceAccess) -> str:
    """What events of an access are about."""
    return f"bookings/{access.booking_id}/accesses/{access.access_id}"


def use_of(network_access_id: str, device_key: str) -> str:
    """By which the access of a device to an ID is found."""
    return f"{network_access_id}/{device_key}"


def lookups_of(access: DeviceAccess, installed: AccessInstallation) -> dict[str, str]:
    """By what an access is found. One that is over takes nobody's place."""
    over = bool(installed.over) or access.state == DeviceAccess.STATE_ENDED
    return {
        BY_DEVICE: "" if access.state == DeviceAccess.STATE_ENDED else installed.device_key,
        BY_ID: "" if over else access.network_access_id,
        BY_BOTH: "" if over else use_of(access.network_access_id, installed.device_key),
    }


def shown(access: DeviceAccess) -> DeviceAccess:
    """The access as a provider and its clients may see it: without the SUPI of the device."""
    plain = copy_of(access)
    plain.device.CopyFrom(devices.for_providers(access.device))
    return plain


def situation_of(reader: Reader, access: DeviceAccess, installed: AccessInstallation) -> Situation:
    """What decides on an access at this moment."""
    network_access_id = reader.get(NetworkAccessId, access.network_access_id)
    known = network_access_id or NetworkAccessId(network_access_id=access.network_access_id)
    area = reader.get(ServiceArea, known.area_id)
    found = (Fit.UNKNOWN, 0) if area is None else fit(area, position_of(reader, installed.device_key))
    return Situation(
        booking=reader.get(Booking, access.booking_id),
        network_access_id=known,
        whereabouts=Whereabouts(*found),
        was_inside=access.inside_area if access.position_known else None,
        ue=_attached(reader, access.device, installed.device_key, known),
        beyond=installed.beyond,
        over=installed.over,
    )


def _attached(reader: Reader, device: Device, key: str, wanted: NetworkAccessId) -> AttachedUe | None:
    """The device's PDU session in the data network and slice of the ID, preferably that of the address it has named."""
    s_nssai = wanted.s_nssai if wanted.HasField("s_nssai") else None
    if not attached_ues(reader, key):
        return None
    try:
        own = resolve(reader, device, dnn=wanted.dnn, s_nssai=s_nssai)
        if own is not None and own.supi == key:
            return own
    except CastcoreError:
        # Its names no longer mean one device: the address may be another's by now.
        own = None
    return resolve(reader, Device(supi=key), dnn=wanted.dnn, s_nssai=s_nssai)


class Transitions:
    """Steps of device accesses.

    ``kept``: so long one that has ended can still be read. ``waits``: so long one waits for its device to be attached,
    before it ends.
    """

    def __init__(self, kept: timedelta, waits: timedelta, followers: Sequence[AccessFollower] = ()) -> None:
        self.kept = kept
        self._waits = waits
        self.followers = list(followers)

    def present(self, transaction: Transaction, access: DeviceAccess, installed: AccessInstallation) -> DeviceAccess:
        """A device has presented a network access ID: the new access as it is stored."""
        made = copy_of(access)
        step = DEVICE_ACCESS.step(State.ABSENT, Event.PRESENTED)
        made.state = DeviceAccess.State.ValueType(step.state.value)
        decision = decide(situation_of(transaction, made, installed))
        made.reason = decision.reason
        made.create_time.FromDatetime(transaction.clock.now())
        name = access.access_id
        stored = transaction.insert(made, name, parent=made.booking_id, lookups=lookups_of(made, installed))
        transaction.insert(installed, name)
        self._tell(transaction, stored, State.ABSENT)
        return self.settle(transaction, stored, installed, due=True).access

    def has_waited(self, access: DeviceAccess, now: datetime) -> bool:
        """Whether the device has not been attached for so long that its access ends."""
        return access.reason == DeviceAccess.REASON_NOT_ATTACHED and self._waits_until(access) <= now

    def _waits_until(self, access: DeviceAccess) -> datetime:
        return access.update_time.ToDatetime(UTC) + self._waits

    def settle(
        self,
        transaction: Transaction,
        access: DeviceAccess,
        installed: AccessInstallation,
        *,
        again: datetime | None = None,
        due: bool = False,
    ) -> Settled:
        """Decides anew, and takes the step of the machine that follows; ``installed`` is stored with it.

        What the PCF is owed is due now, or at ``again``. ``due``: it was due, and is no more if nothing is owed; else
        what has not changed is not written.
        """
        situation = situation_of(transaction, access, installed)
        decision = decide(situation)
        name, previous = access.access_id, State(access.state)
        if previous is State.ENDED:
            return Settled(access, installed, decision)
        event = finding(decision, installed)
        step = DEVICE_ACCESS.step(previous, event)
        after = copy_of(access)
        after.state = DeviceAccess.State.ValueType(step.state.value)
        after.inside_area, after.position_known = decision.inside, decision.position_known
        _describe(after, installed, decision, event)
        when: datetime | Keep | None = None
        if Effect.KEEP in step.effects:
            when = transaction.clock.now() + self.kept
        elif Effect.ASK in step.effects and deed(decision, installed) is not None:
            # A try that has failed is not repeated because somebody looks.
            when = again or (KEEP if event is Event.FAILED else transaction.clock.now())
        known = transaction.get(AccessInstallation, name)
        if not due and not isinstance(when, datetime) and after == access and known == installed:
            return Settled(access, installed, decision)
        if known != installed:
            transaction.put(installed, name)
        if when is None and after.reason == DeviceAccess.REASON_NOT_ATTACHED:
            same = access.reason == after.reason
            when = self._waits_until(access) if same else transaction.clock.now() + self._waits
        before, lookups = lookups_of(access, known or installed), lookups_of(after, installed)
        stored = transaction.update(after, name, due=when, lookups=lookups if lookups != before else None)
        self._tell_area(transaction, access, stored, situation)
        if any(getattr(stored, field) != getattr(access, field) for field in _TOLD):
            self._tell(transaction, stored, previous)
        if before[BY_ID] and not lookups[BY_ID] and stored.reason != DeviceAccess.REASON_BOOKING_ENDED:
            self._move_up(transaction, stored.network_access_id)
        return Settled(stored, installed, decision)

    def _move_up(self, transaction: Transaction, network_access_id: str) -> None:
        """Those that a reconfiguration has left beyond the booked number take the place of one that has ended."""
        known = transaction.get(NetworkAccessId, network_access_id)
        if known is None or transaction.count(DeviceAccess, BY_ID, network_access_id) < known.devices:
            return
        for access in transaction.find(DeviceAccess, BY_ID, network_access_id)[: known.devices]:
            installed = transaction.get(AccessInstallation, access.access_id)
            if installed is not None and installed.beyond:
                installed.beyond = False
                self.settle(transaction, access, installed)

    def forget(self, transaction: Transaction, access: DeviceAccess) -> None:
        """An access that has been over for long goes."""
        DEVICE_ACCESS.step(State(access.state), Event.FORGOTTEN)
        transaction.delete(DeviceAccess, access.access_id)
        transaction.delete(AccessInstallation, access.access_id)

    def _tell(self, transaction: Transaction, access: DeviceAccess, previous: State) -> None:
        before = DeviceAccess.State.ValueType(previous.value)
        self._emit(transaction, "DEVICE_ACCESS_STATE", access, before)
        for follower in self.followers:
            follower(transaction, access, before)

    def _tell_area(
        self, transaction: Transaction, before: DeviceAccess, after: DeviceAccess, situation: Situation
    ) -> None:
        """That a device has entered or left, while the booking is within a period."""
        booking, known = situation.booking, situation.network_access_id
        if known.capability != CAPABILITY_QUALITY_ON_DEMAND or booking is None:
            return
        if booking.state != Booking.STATE_ACTIVE or before.inside_area == after.inside_area:
            return
        area = transaction.get(ServiceArea, known.area_id)
        if area is None or not area.everywhere:
            self._emit(transaction, "AREA_ENTERED" if after.inside_area else "AREA_LEFT", after, after.state)

    def _emit(
        self, transaction: Transaction, event_type: str, access: DeviceAccess, previous: DeviceAccess.State.ValueType
    ) -> None:
        transaction.emit(
            event_type,
            subject_of(access),
            DeviceAccessChanged(device_access=shown(access), previous_state=previous),
            source=SOURCE,
            audience=(audience_of(access.agreement_id),),
        )


def _describe(access: DeviceAccess, installed: AccessInstallation, decision: Decision, event: Event) -> None:
    """What the access shows of why it is as it is, and of what the network enforces."""
    failed = event is Event.FAILED
    access.reason = DeviceAccess.REASON_NETWORK if failed else decision.reason
    access.ClearField("problem")
    if failed or (event in (Event.UNWANTED, Event.OVER) and installed.HasField("problem")):
        access.problem.CopyFrom(installed.problem)
    access.app_session_id = installed.app_session_id
    # What is stopped, or not known to be in force, has no rates.
    in_force = installed.enforced and not installed.lost
    enforced = installed.enforcement
    access.max_downlink_bps = enforced.enforcement_bit_rate_dl_bps if in_force else 0
    access.max_uplink_bps = enforced.enforcement_bit_rate_ul_bps if in_force else 0
    access.guaranteed_downlink_bps = enforced.guaranteed_bit_rate_dl_bps if in_force else 0
    access.guaranteed_uplink_bps = enforced.guaranteed_bit_rate_ul_bps if in_force else 0
