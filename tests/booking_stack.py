"""A platform's bookings on a store, with time moved by hand; and what a booking's tests ask for, in few words."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from nf.common.clock import Clock, ManualClock
from nf.common.store import Store, Transaction, url_for
from nf.common.v1.events_pb2 import Event
from nf.netapi.bookings import Bookings
from nf.netapi.calendar import Load
from nf.netapi.callers import Caller
from nf.netapi.capacity import TABLES, reservations
from nf.netapi.life_cycle import LifeCycle
from nf.netapi.machine import Effect
from nf.netapi.transitions import Follower, Transitions
from nf.netapi.v1.agreement_pb2 import Agreement, AgreementLimits
from nf.netapi.v1.booking_pb2 import (
    AreaCapability,
    BookedTraffic,
    Booking,
    BookingChanged,
    BookingPeriod,
    BookingRequest,
    Population,
)
from nf.netapi.v1.coverage_pb2 import (
    CAPABILITY_GEOFENCING,
    CAPABILITY_QUALITY_ON_DEMAND,
    AreaCapacity,
    CapabilityProfile,
    GeofencingProfile,
    QosProfile,
    ServiceArea,
)

START = datetime(2026, 6, 1, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
VALIDITY = timedelta(seconds=300)
KBPS = 1000
PROVIDER = Caller("radio")
OTHER = Caller("rival")


AGREEMENTS = (
    Agreement(agreement_id="radio", provider_name="Radio"),
    Agreement(agreement_id="rival", provider_name="Rival"),
)
AREAS = (
    ServiceArea(area_id="city", everywhere=True, capacity=AreaCapacity(downlink_bps=1000 * KBPS, devices=100)),
    ServiceArea(area_id="valley", everywhere=True, capacity=AreaCapacity(downlink_bps=500 * KBPS, uplink_bps=0)),
    ServiceArea(area_id="sea", everywhere=True),
)
PROFILES = (
    CapabilityProfile(
        profile_id="audio",
        capability=CAPABILITY_QUALITY_ON_DEMAND,
        qos=QosProfile(five_qi=2, guaranteed_downlink_bps=100 * KBPS),
        price_units_per_device_hour=7,
        dnn="internet",
    ),
    CapabilityProfile(
        profile_id="audio-hd",
        capability=CAPABILITY_QUALITY_ON_DEMAND,
        qos=QosProfile(five_qi=2, guaranteed_downlink_bps=250 * KBPS),
        price_units_per_device_hour=20,
        dnn="internet",
    ),
    CapabilityProfile(
        profile_id="editorial",
        capability=CAPABILITY_GEOFENCING,
        geofencing=GeofencingProfile(verify=True, retrieve=True, notify=True),
        price_units_per_device_hour=1,
    ),
)


def period(start: datetime, stop: datetime, rule: str = "", zone: str = "") -> BookingPeriod:
    made = BookingPeriod(repetition_rule=rule, time_zone=zone)
    made.start_time.FromDatetime(start)
    made.stop_time.FromDatetime(stop)
    return made


def request(
    *periods: BookingPeriod,
    areas: Sequence[tuple[str, str] | tuple[str, str, int]] = (("city", "audio"),),
    devices: int = 3,
) -> BookingRequest:
    """A booking of capabilities (area, profile, devices) for an application that ``devices`` use."""
    wanted = [
        AreaCapability(area_id=each[0], profile_id=each[1], devices=each[2] if len(each) > 2 else 0) for each in areas
    ]
    return BookingRequest(
        population=Population(application_id="player", devices=devices),
        traffic=BookedTraffic(flow_descriptions=["permit out 17 from 198.51.100.0/24 to assigned"]),
        periods=periods or (period(START + HOUR, START + 2 * HOUR),),
        area_capabilities=wanted,
    )


def state_of(booking: Booking) -> str:
    return Booking.State.Name(booking.state).removeprefix("STATE_")


def offered(booking: Booking) -> list[int]:
    return [line.offered_devices for line in booking.offer.lines]


class Platform:
    """The bookings of one store, and what was told of them."""

    def __init__(self, store: Store, followers: Sequence[Follower] = ()) -> None:
        self.store = store
        self.told: list[tuple[str, tuple[str, ...]]] = []
        self.transitions = Transitions((self._note, *followers))
        self.bookings = Bookings(store, self.transitions, VALIDITY)
        self.life_cycle = LifeCycle(store, self.transitions)

    def _note(self, _: Transaction, booking: Booking, effects: Sequence[Effect]) -> None:
        self.told.append((state_of(booking), tuple(each.name for each in effects)))

    async def furnish(
        self,
        areas: Sequence[ServiceArea] = AREAS,
        profiles: Sequence[CapabilityProfile] = PROFILES,
        agreements: Sequence[Agreement] = AGREEMENTS,
    ) -> None:
        """Puts what can be booked, and who may."""

        def work(transaction: Transaction) -> None:
            for area in areas:
                transaction.put(area, area.area_id)
            for profile in profiles:
                transaction.put(profile, profile.profile_id)
            for agreement in agreements:
                transaction.put(agreement, agreement.agreement_id)

        await self.store.write(work)

    async def limit(self, **limits: int) -> None:
        """Bounds what the provider may book."""
        await self.furnish((), (), (Agreement(agreement_id="radio", limits=AgreementLimits(**limits)),))

    async def taken(self, area_id: str, moment: datetime) -> Load:
        """What the table says is taken of an area at a moment."""
        moment_ns = int(moment.timestamp()) * 1_000_000_000
        total = Load()
        for row in await self.rows():
            if row.area_id == area_id and row.start_ns <= moment_ns < row.stop_ns:
                total += Load(row.downlink_bps, row.uplink_bps, row.devices)
        return total

    async def rows(self) -> list:
        """All reservations."""
        return await self.store.read(lambda reader: list(reader.connection.execute(reservations.select())))

    async def settle(self) -> None:
        """Returns when everything that is due has been done."""
        # Not every step is an event: nobody is told of the periods of what is suspended.
        while await self.store.read(lambda reader: reader.due(Booking, reader.clock.now(), 1)):  # noqa: ASYNC110
            await asyncio.sleep(0)

    async def events(self) -> list[Event]:
        return await self.store.read(lambda reader: reader.events(0))

    async def walked(self, booking_id: str) -> list[str]:
        """What was told of a booking: its states, and how its reconfigurations went."""
        found = []
        for event in await self.events():
            if event.subject == f"bookings/{booking_id}":
                changed = BookingChanged()
                event.payload.Unpack(changed)
                found.append(state_of(changed.booking) if event.type == "BOOKING_STATE" else event.type)
        return found


@asynccontextmanager
async def platform(
    clock: Clock | None = None, directory: Path | None = None, *, running: bool = True
) -> AsyncIterator[Platform]:
    """A furnished platform; ``running``: as time goes on, what comes due is done."""
    with tempfile.TemporaryDirectory() as own:
        store = Store.open(url_for(directory or Path(own), "netapi"), clock=clock or ManualClock(START), tables=TABLES)
        made = Platform(store)
        await made.furnish()
        if running:
            await made.life_cycle.start()
        try:
            yield made
        finally:
            if running:
                await made.life_cycle.stop()
            await store.close()


def ids_of(booking: Booking) -> dict[tuple[str, str], str]:
    """The network access IDs in force by area and profile."""
    return {
        (each.area_id, each.profile_id): each.network_access_id for each in booking.network_access_ids if each.active
    }
