"""CAMARA dedicated networks: bookings of several devices in one area and period, requested and accepted at once."""

from __future__ import annotations

from datetime import UTC
from functools import partial
from typing import Final

from nf.common.errors import InvalidArgument
from nf.common.reader import not_found
from nf.common.resources import copy_of
from nf.common.store import Reader, Store, Transaction
from nf.netapi import agreements, coverage, qos_profiles
from nf.netapi.bookings import Bookings
from nf.netapi.callers import Caller
from nf.netapi.camara_sinks import credential_of
from nf.netapi.camara_words import in_words
from nf.netapi.config import NetapiSection
from nf.netapi.dedicated_network_views import (
    DOOR,
    EVENTS,
    area_uuid,
    booking_request,
    info_of,
    most_devices,
    status_of,
    subject_of,
)
from nf.netapi.named_uuids import PROFILE, uuid_of
from nf.netapi.network_accesses import NetworkAccesses
from nf.netapi.sinks import Sinks
from nf.netapi.v1.agreement_pb2 import Agreement
from nf.netapi.v1.booking_pb2 import Booking
from nf.netapi.v1.camara_dedicated_network_pb2 import (
    NETWORK_STATUS_TERMINATED,
    CreateDedicatedNetwork,
    DedicatedNetwork,
    DedicatedNetworkInfo,
)
from nf.netapi.v1.coverage_pb2 import CapabilityProfile

# What of a booking's request is what here.
_WORDS: Final = {
    "periods[0].start_time": "serviceTime.start",
    "periods[0].stop_time": "serviceTime.end",
    "periods[0]": "serviceTime",
    "area_capabilities[0].area_id": "serviceAreaId",
    "area_capabilities[0].profile_id": "networkProfileId",
    "area_capabilities[0].devices": "networkProfileId",
    "area_capabilities[0]": "networkProfileId",
}


class DedicatedNetworks:
    """The networks of all agreements; those of another one do not exist for a caller."""

    def __init__(
        self, store: Store, bookings: Bookings, accesses: NetworkAccesses, sinks: Sinks, config: NetapiSection
    ) -> None:
        self._store = store
        self._bookings = bookings
        self._accesses = accesses
        self._sinks = sinks
        self._devices = config.network_devices

    async def create(self, caller: Caller, asked: CreateDedicatedNetwork) -> DedicatedNetworkInfo:
        """Books what is asked for; a network that there is no room for is TERMINATED from the beginning.

        Raises InvalidArgument, and what the agreement does not allow.
        """
        made = await self._store.write(partial(self._create, caller, asked))
        self._sinks.wake()
        return made

    async def get(self, caller: Caller, booking_id: str) -> DedicatedNetworkInfo:
        """The network. Raises NotFound."""
        return await self._store.read(lambda reader: _info(reader, require_network(reader, caller, booking_id)))

    async def all(self, caller: Caller, name: str) -> list[DedicatedNetworkInfo]:
        """The caller's networks in the order of their creation, all or those of a name."""
        owner = caller.require_agreement()

        def look(reader: Reader) -> list[DedicatedNetworkInfo]:
            found = reader.all(DedicatedNetwork, parent=owner)
            return [_info(reader, each) for each in found if not name or each.asked.name == name]

        return await self._store.read(look)

    async def delete(self, caller: Caller, booking_id: str) -> None:
        """Gives back what is booked; with the network its accesses go. Raises NotFound."""
        await self._store.write(partial(self._delete, caller, booking_id))
        self._sinks.wake()

    def on_agreement_end(self, transaction: Transaction, agreement_id: str) -> None:
        """Forgets the networks of an agreement, which are over by then, and their accesses."""
        for network in transaction.all(DedicatedNetwork, parent=agreement_id):
            self._accesses.forget_network(transaction, network.booking_id)
            transaction.delete(DedicatedNetwork, network.booking_id)

    def _create(self, caller: Caller, asked: CreateDedicatedNetwork, transaction: Transaction) -> DedicatedNetworkInfo:
        now = transaction.clock.now()
        agreement = agreements.require(transaction, caller.require_agreement())
        _check_time(asked, transaction)
        area_id = _area_id(transaction, agreement, asked)
        profile, devices = self._profile(transaction, agreement, asked)
        credential = credential_of(asked.sink_credential if asked.HasField("sink_credential") else None, now)
        wanted = booking_request(area_id, profile.profile_id, devices, asked.service_time)
        with in_words(_WORDS):
            booking = self._bookings.request_in(transaction, caller, wanted, made_at=DOOR)
        network = DedicatedNetwork(
            booking_id=booking.booking_id, agreement_id=agreement.agreement_id, asked=copy_of(asked)
        )
        network.asked.ClearField("sink_credential")
        network.create_time.FromDatetime(now)
        if asked.HasField("sink"):
            network.sink_id = self._sinks.create_sink(
                transaction,
                agreement.agreement_id,
                asked.sink,
                credential=credential,
                event_types=EVENTS,
                subject=subject_of(booking.booking_id),
                door=DOOR,
            )
        stored = transaction.insert(network, network.booking_id, parent=agreement.agreement_id)
        if booking.state == Booking.STATE_OFFERED:
            if booking.offer.counter_offer:
                booking = self._bookings.release_in(transaction, caller, booking.booking_id)
            else:
                booking = self._bookings.accept_in(transaction, caller, booking.booking_id)
        return info_of(stored, booking.state)

    def _profile(
        self, reader: Reader, agreement: Agreement, asked: CreateDedicatedNetwork
    ) -> tuple[CapabilityProfile, int]:
        """The profile that is asked for, and for how many devices."""
        if asked.HasField("network_profile_id") == asked.HasField("qos_profile_name"):
            found = "both" if asked.HasField("network_profile_id") else "neither"
            raise InvalidArgument.of("networkProfileId", f"expected it or qosProfileName, found {found}")
        if asked.HasField("qos_profile_name"):
            profile = qos_profiles.find(reader, agreement, asked.qos_profile_name)
            if profile is None:
                raise InvalidArgument.of(
                    "qosProfileName", f"expected one of /qos-profiles, found {asked.qos_profile_name!r}"
                )
            return profile, 1
        for each in qos_profiles.offered(reader, agreement):
            devices = most_devices(each, agreement, self._devices)
            if devices and uuid_of(PROFILE, each.profile_id) == asked.network_profile_id.lower():
                return each, devices
        raise InvalidArgument.of(
            "networkProfileId", f"expected one of /profiles, found {asked.network_profile_id[:64]!r}"
        )

    def _delete(self, caller: Caller, booking_id: str, transaction: Transaction) -> None:
        network = require_network(transaction, caller, booking_id)
        self._accesses.forget_network(transaction, booking_id)
        if status_of(transaction.require(Booking, booking_id).state) != NETWORK_STATUS_TERMINATED:
            self._bookings.release_in(transaction, caller, booking_id)
        if network.sink_id:
            self._sinks.end_sink(transaction, network.sink_id)
        transaction.delete(DedicatedNetwork, booking_id)


def require_network(reader: Reader, caller: Caller, booking_id: str) -> DedicatedNetwork:
    """The caller's network. Raises NotFound."""
    network = reader.get(DedicatedNetwork, booking_id)
    if network is None or network.agreement_id != caller.agreement_id:
        raise not_found(DedicatedNetwork, booking_id)
    return network


def _info(reader: Reader, network: DedicatedNetwork) -> DedicatedNetworkInfo:
    return info_of(network, reader.require(Booking, network.booking_id).state)


def _check_time(asked: CreateDedicatedNetwork, reader: Reader) -> None:
    start, end = asked.service_time.start.ToDatetime(UTC), asked.service_time.end.ToDatetime(UTC)
    if end <= start:
        raise InvalidArgument.of("serviceTime.end", f"expected after {start.isoformat()}, found {end.isoformat()}")
    if end <= reader.clock.now():
        raise InvalidArgument.of("serviceTime.end", f"expected a time to come, found {end.isoformat()}")


def _area_id(reader: Reader, agreement: Agreement, asked: CreateDedicatedNetwork) -> str:
    for each in coverage.areas(reader):
        if area_uuid(each.area_id) == asked.service_area_id.lower() and agreements.allows_area(agreement, each.area_id):
            return each.area_id
    raise InvalidArgument.of("serviceAreaId", f"expected one of /areas, found {asked.service_area_id[:64]!r}")
