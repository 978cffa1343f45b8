"""CAMARA Quality-On-Demand sessions: bookings of one device from now on, requested and accepted at once.

What becomes of the booking and of the device's access becomes of the session, in the same transaction; what it owes in
return (giving back what is booked, being forgotten) has a due time.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, timedelta
from functools import partial
from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask

from nf.common.due import DueDriver
from nf.common.errors import CastcoreError, InvalidArgument, PermissionDenied
from nf.common.reader import not_found
from nf.common.resources import copy_of
from nf.common.store import Reader, Store, Transaction
from nf.netapi import agreements, attachments, devices, network_access_ids, qod_flows, qos_profiles
from nf.netapi.accesses import Accesses
from nf.netapi.bookings import Bookings
from nf.netapi.callers import Caller
from nf.netapi.camara_devices import Name, subject_names
from nf.netapi.camara_sinks import credential_of
from nf.netapi.camara_words import in_words
from nf.netapi.config import NetapiSection
from nf.netapi.errors import (
    BookingUnchangeable,
    IdentifierNotFound,
    NothingToOffer,
    QosProfileNotApplicable,
    SessionConflict,
    SessionDurationOutOfRange,
    SessionExtensionNotAllowed,
    Unprocessable,
)
from nf.netapi.qod_machine import Event
from nf.netapi.qod_transitions import BY_DEVICE, QodTransitions
from nf.netapi.qod_views import DOOR, STATUS_EVENT, booking_request, period, subject_of
from nf.netapi.session_area import area_for
from nf.netapi.sinks import Sinks
from nf.netapi.v1.agreement_pb2 import Agreement
from nf.netapi.v1.booking_pb2 import Booking, BookingRequest
from nf.netapi.v1.camara_qod_pb2 import (
    QOS_STATUS_AVAILABLE,
    QOS_STATUS_INFO_DURATION_EXPIRED,
    QOS_STATUS_REQUESTED,
    QOS_STATUS_UNAVAILABLE,
    CreateQodSession,
    QodSession,
    QosStatus,
)
from nf.netapi.v1.camara_qos_profiles_pb2 import QOS_PROFILE_STATUS_ACTIVE
from nf.netapi.v1.coverage_pb2 import CapabilityProfile
from nf.netapi.v1.location_pb2 import AttachedUe

MAX_LISTED: Final = 100
# What of a booking's request is what here.
_WORDS: Final = {
    "periods[0].stop_time": "duration",
    "area_capabilities[0].profile_id": "qosProfile",
    "area_capabilities[0].devices": "device",
    "area_capabilities[0]": "qosProfile",
}
_STANDING: Final = frozenset(
    {
        Booking.STATE_REQUESTED,
        Booking.STATE_OFFERED,
        Booking.STATE_BOOKED,
        Booking.STATE_ACTIVE,
        Booking.STATE_SUSPENDED,
    }
)


class QodSessions:
    """The sessions of all agreements; those of another one do not exist for a caller."""

    def __init__(
        self,
        store: Store,
        transitions: QodTransitions,
        bookings: Bookings,
        accesses: Accesses,
        sinks: Sinks,
        config: NetapiSection,
    ) -> None:
        self._store = store
        self._transitions = transitions
        self._bookings = bookings
        self._accesses = accesses
        self._sinks = sinks
        self._longest_s = config.longest_session_s
        self._kept = timedelta(seconds=config.unavailable_sessions_kept_s)
        self._area_id = config.session_area
        self._driver = DueDriver(store, QodSession, self._due)

    async def start(self) -> None:
        """Begins with what sessions owe."""
        await self._driver.start()

    async def stop(self) -> None:
        """Ends; what is owed is done after the next start."""
        await self._driver.stop()

    async def create(self, caller: Caller, asked: CreateQodSession) -> QodSession:
        """Books what is asked for, for the device of the request or of the access token.

        A session that there is no room for is UNAVAILABLE from the beginning. Raises InvalidArgument,
        SessionDurationOutOfRange, IdentifierNotFound, SessionConflict, Unprocessable and its kind.
        """
        names = subject_names(caller.device, asked.device if asked.HasField("device") else None)
        qod_flows.check(asked)
        session = await self._store.write(partial(self._create, caller, asked, names))
        self._sinks.wake()
        if session.status != QOS_STATUS_REQUESTED:
            return session
        # Presented again, for the network's answer; what does not come in time is told by an event.
        with suppress(CastcoreError):
            access = await self._accesses.get(session.access_id)
            await self._accesses.create(access.network_access_id, access.device)
        return await self._store.read(lambda reader: reader.get(QodSession, session.booking_id)) or session

    async def get(self, caller: Caller, booking_id: str) -> QodSession:
        """The session. Raises NotFound, PermissionDenied for the token of another device's user."""
        return await self._store.read(lambda reader: self._require(reader, caller, booking_id))

    async def of_device(self, caller: Caller, names: Sequence[Name]) -> list[QodSession]:
        """The sessions of a device. Raises IdentifierNotFound."""
        return await self._store.read(lambda reader: self._of_device(reader, caller, names))

    async def extend(self, caller: Caller, booking_id: str, additional_s: int) -> QodSession:
        """Lets the session last longer, up to what is allowed. Raises NotFound, SessionExtensionNotAllowed."""
        return await self._store.write(partial(self._extend, caller, booking_id, additional_s))

    async def delete(self, caller: Caller, booking_id: str) -> None:
        """Gives back what is booked. Raises NotFound."""
        await self._store.write(partial(self._delete, caller, booking_id))
        self._sinks.wake()

    def _create(
        self, caller: Caller, asked: CreateQodSession, names: Sequence[Name], transaction: Transaction
    ) -> QodSession:
        now = transaction.clock.now()
        agreement = agreements.require(transaction, caller.require_agreement())
        profile = self._profile(transaction, agreement, asked)
        credential = credential_of(asked.sink_credential if asked.HasField("sink_credential") else None, now)
        name, ue = _attached(transaction, names, profile)
        kept = copy_of(asked)
        kept.ClearField("sink_credential")
        kept.ClearField("device")
        if name.view is not None:
            kept.device.CopyFrom(name.view)
        self._check_conflict(transaction, agreement.agreement_id, ue.supi, kept)
        area = area_for(transaction, agreement, self._area_id, ue.supi)
        flows = qod_flows.flow_descriptions(asked, _versions_of(ue))
        if not flows:
            raise Unprocessable("applicationServer: expected an address of an IP version that the device has")
        wanted = booking_request(area.area_id, profile.profile_id, flows, now, asked.duration_s)
        with in_words(_WORDS):
            booking = self._bookings.request_in(transaction, caller, wanted, made_at=DOOR)
        session = QodSession(
            booking_id=booking.booking_id,
            agreement_id=agreement.agreement_id,
            device_key=ue.supi,
            asked=kept,
            duration_s=asked.duration_s,
        )
        session.create_time.FromDatetime(now)
        if asked.HasField("sink"):
            session.sink_id = self._sinks.create_sink(
                transaction,
                agreement.agreement_id,
                asked.sink,
                credential=credential,
                event_types=(STATUS_EVENT,),
                subject=subject_of(booking.booking_id),
                door=DOOR,
            )
        if booking.state != Booking.STATE_OFFERED or booking.offer.counter_offer:
            if booking.state == Booking.STATE_OFFERED:
                self._bookings.release_in(transaction, caller, booking.booking_id)
            return self._transitions.step(transaction, session, Event.REFUSED)
        booking = self._bookings.accept_in(transaction, caller, booking.booking_id)
        session.expire_time.CopyFrom(booking.request.periods[0].stop_time)
        stored = self._transitions.step(transaction, session, Event.BOOKED)
        access_id = network_access_ids.of_booking(transaction, booking.booking_id)[0].network_access_id
        access = self._accesses.create_in(transaction, access_id, name.device)
        stored = transaction.get(QodSession, booking.booking_id) or stored
        stored.access_id = access.access_id
        return transaction.update(stored, stored.booking_id)

    def _profile(self, reader: Reader, agreement: Agreement, asked: CreateQodSession) -> CapabilityProfile:
        """The profile that is asked for, if a session of that duration can be made with it."""
        profile = qos_profiles.find(reader, agreement, asked.qos_profile)
        if profile is None:
            raise InvalidArgument.of("qosProfile", f"expected one of /qos-profiles, found {asked.qos_profile!r}")
        if qos_profiles.status_under(agreement) != QOS_PROFILE_STATUS_ACTIVE:
            raise QosProfileNotApplicable(f"qosProfile: {asked.qos_profile!r} cannot be had at present")
        longest_s = qos_profiles.longest_s(agreement, self._longest_s)
        if asked.duration_s > longest_s:
            raise SessionDurationOutOfRange(f"duration: expected at most {longest_s}, found {asked.duration_s}")
        return profile

    def _check_conflict(self, reader: Reader, agreement_id: str, key: str, asked: CreateQodSession) -> None:
        for each in reader.find(QodSession, BY_DEVICE, f"{agreement_id}/{key}"):
            # One that the network has terminated has to be deleted, by the consumer or in time.
            is_over = each.status_info == QOS_STATUS_INFO_DURATION_EXPIRED
            if not is_over and qod_flows.overlap(each.asked, asked):
                raise SessionConflict(
                    "the device has a session for some of this traffic already", metadata={"session": each.booking_id}
                )

    def _extend(self, caller: Caller, booking_id: str, additional_s: int, transaction: Transaction) -> QodSession:
        session = self._require(transaction, caller, booking_id)
        if session.status != QOS_STATUS_AVAILABLE:
            status = QosStatus.Name(session.status).removeprefix("QOS_STATUS_")
            raise SessionExtensionNotAllowed(f"session: expected AVAILABLE, found {status}")
        agreement = agreements.require(transaction, session.agreement_id)
        # What it has already it keeps, whatever is allowed by now.
        longest_s = max(session.duration_s, qos_profiles.longest_s(agreement, self._longest_s))
        duration_s = min(session.duration_s + additional_s, longest_s)
        if duration_s == session.duration_s:
            return session
        booking = transaction.require(Booking, booking_id)
        start = booking.request.periods[0].start_time.ToDatetime(UTC)
        wanted = BookingRequest(periods=[period(start, duration_s)])
        mask = FieldMask(paths=["periods"])
        # Whatever is raised from here on, everything is as it was.
        try:
            changed = self._bookings.reconfigure_in(transaction, caller, booking_id, wanted, mask)
        except (BookingUnchangeable, NothingToOffer) as error:
            raise SessionExtensionNotAllowed(f"session: it cannot last {duration_s} s: {error.message}") from error
        if changed.reconfiguration.offer.counter_offer:
            raise SessionExtensionNotAllowed(f"session: there is no room for it to last {duration_s} s")
        self._bookings.accept_in(transaction, caller, booking_id)
        session = transaction.require(QodSession, booking_id)
        session.duration_s = duration_s
        session.expire_time.FromDatetime(start + timedelta(seconds=duration_s))
        return transaction.update(session, booking_id)

    def _delete(self, caller: Caller, booking_id: str, transaction: Transaction) -> None:
        session = self._require(transaction, caller, booking_id)
        self._transitions.step(transaction, session, Event.DELETED)
        self._release(transaction, session)

    async def _due(self, booking_id: str, _: QodSession) -> None:
        await self._store.write(partial(self._settle, booking_id))
        self._sinks.wake()

    def _settle(self, booking_id: str, transaction: Transaction) -> None:
        """Does what a session that is UNAVAILABLE owes: what is booked is given back; later it is forgotten."""
        session = transaction.get(QodSession, booking_id)
        if session is None or session.status != QOS_STATUS_UNAVAILABLE:
            return
        self._release(transaction, session)
        until = session.expire_time.ToDatetime(UTC) + self._kept
        if until <= transaction.clock.now():
            self._transitions.step(transaction, session, Event.FORGOTTEN)
        else:
            transaction.update(session, booking_id, due=until)

    def _release(self, transaction: Transaction, session: QodSession) -> None:
        booking = transaction.get(Booking, session.booking_id)
        if booking is not None and booking.state in _STANDING:
            self._bookings.release_in(transaction, Caller(session.agreement_id), booking.booking_id)

    def _require(self, reader: Reader, caller: Caller, booking_id: str) -> QodSession:
        session = reader.get(QodSession, booking_id)
        if session is None or session.agreement_id != caller.agreement_id:
            raise not_found(QodSession, booking_id)
        if caller.device is not None and attachments.device_key(reader, caller.device) != session.device_key:
            raise PermissionDenied("the session is of another device than the access token")
        return session

    def _of_device(self, reader: Reader, caller: Caller, names: Sequence[Name]) -> list[QodSession]:
        owner = caller.require_agreement()
        known = False
        for name in names:
            key = attachments.device_key(reader, name.device)
            found = reader.find(QodSession, BY_DEVICE, f"{owner}/{key}")
            if found:
                return list(found[:MAX_LISTED])
            # Who is known has a key that is none of the names that were given.
            given = devices.canonical_names(devices.check_device(name.device, "device"))
            known = known or key not in given
        if not known:
            raise IdentifierNotFound("device: no device of this name is known")
        return []


def _attached(reader: Reader, names: Sequence[Name], profile: CapabilityProfile) -> tuple[Name, AttachedUe]:
    """The name that is used of those of a device, and the device as the network has it."""
    for name in names:
        if attachments.resolve(reader, name.device) is None:
            continue
        s_nssai = profile.s_nssai if profile.HasField("s_nssai") else None
        ue = attachments.resolve(reader, name.device, dnn=profile.dnn, s_nssai=s_nssai)
        if ue is None:
            raise Unprocessable(f"qosProfile: {profile.profile_id!r} is not to be had where the device is connected to")
        return name, ue
    raise IdentifierNotFound("device: no device of this name is known")


def _versions_of(ue: AttachedUe) -> tuple[int, ...]:
    return tuple(version for version, has in ((4, ue.ipv4_address), (6, ue.ipv6_prefix)) if has)
