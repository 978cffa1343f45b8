"""Live media distribution from end to end: the 5G-MAG workflow, phases A to D, on real packets.

A radio station books Quality on Demand and geofencing in two regions, hands network access IDs to its application, and
plays live to three listeners. Two stay, one in each region; the third drives through both. Everybody loads something
else meanwhile, more than the session allows: where nothing is booked the programme breaks off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Final

from nf.cli.demo import booking_places as places
from nf.cli.demo.booking_events import Events, Happening, name_of
from nf.cli.demo.booking_media import STATION, STATION_PORT
from nf.cli.demo.booking_network import Network, Ue
from nf.cli.demo.booking_story import CAR, KITCHEN, UES, WORKSHOP, Story, Verified
from nf.cli.demo.booking_studio import SESSION_AMBR_BPS, WARM_UP_SEGMENTS, Studio
from nf.cli.figures import rate
from nf.client.netapi import Platform
from nf.client.netapi_use import NetworkAccess
from nf.common.channels import Channels
from nf.common.clock import Clock
from nf.common.errors import FailedPrecondition, ResourceExhausted
from nf.netapi.v1 import agreement_pb2 as agreements
from nf.netapi.v1 import booking_pb2 as bookings
from nf.netapi.v1.access_pb2 import DeviceAccess
from nf.netapi.v1.coverage_pb2 import CAPABILITY_QUALITY_ON_DEMAND, Capability
from nf.netapi.v1.location_pb2 import DevicePosition, Geofence, VerificationResult
from nf.netapi.v1.monitoring_pb2 import METRIC_DEVICES, METRIC_LOSS, Threshold

AGREEMENT: Final = "demo-radio"
APPLICATION: Final = "demo-player"
FLOW: Final = f"permit out 17 from {STATION} {STATION_PORT} to assigned"

_S: Final = 10**9
_ACCURACY_M: Final = 20.0
_LOSS_PPM: Final = 100_000


async def tell_story(
    channels: Channels, credentialed: Callable[[str], Channels], clock: Clock, tell: Callable[[str], None]
) -> Story:
    """The whole story. ``credentialed`` makes channels that show a credential. Raises CastcoreError."""
    begun = clock.now()
    operator, network = Platform(channels.get("netapi")), Network(channels)
    story = Story()
    credential = await _agree(operator, tell)
    provider_channels = credentialed(credential)
    try:
        provider = Platform(provider_channels.get("netapi"))
        use = NetworkAccess(provider_channels.get("netapi"))
        names = {ue.phone: ue.name for ue in UES}
        async with Events(provider, clock, lambda each: tell(_line(each, names))) as events:
            application = NetworkAccess(channels.get("netapi"))
            told = _Telling(network, provider, use, application, events, clock, story, tell, names)
            await told.play()
            story.happenings = events.happenings
    finally:
        await provider_channels.close()
    story.elapsed_s = (clock.now() - begun).total_seconds()
    return story


async def _agree(operator: Platform, tell: Callable[[str], None]) -> str:
    """Preconditions: what there is to book, and an agreement. The provider's credential."""
    for area in places.areas():
        await operator.put_area(area)
    for profile in places.profiles():
        await operator.put_profile(profile)
    limits = agreements.AgreementLimits(bookings=5, devices=50, advance_days=30)
    agreement = agreements.Agreement(
        agreement_id=AGREEMENT, provider_name="Demo Radio", limits=limits, price_percent=80
    )
    await operator.create_agreement(agreement)
    credential = await operator.create_credential(agreements.Credential(agreement_id=AGREEMENT))
    tell(
        f"agreement   {AGREEMENT}: {len(places.areas())} areas, {len(places.profiles())} profiles, 80 % of list prices"
    )
    return credential.token


class _Telling:
    """The story from the provider's request on."""

    def __init__(
        self,
        network: Network,
        provider: Platform,
        use: NetworkAccess,
        application: NetworkAccess,
        events: Events,
        clock: Clock,
        story: Story,
        tell: Callable[[str], None],
        names: dict[str, str],
    ) -> None:
        self._network = network
        self._provider = provider
        self._use = use
        # Shows no credential but network access IDs; the operator's location function is the same to it.
        self._application = application
        self._events = events
        self._clock = clock
        self._story = story
        self._tell = tell
        # What devices and network access IDs are called.
        self._names = names
        self._ids: dict[tuple[str, Capability.ValueType], str] = {}
        # By (UE, network access ID).
        self._accesses: dict[tuple[str, str], str] = {}
        self._studio = Studio(network, self, story, (int(clock.now().timestamp()) + 1) * _S, tell)

    async def play(self) -> None:
        """Phases A to D."""
        for ue in UES:
            await self._network.attach(ue, SESSION_AMBR_BPS)
        self._story.before = await self._network.installed()
        self._tell(f"phase A     {len(UES)} UEs are attached, each session with {rate(SESSION_AMBR_BPS)}")
        try:
            await self._book()
            await self._configure()
            await self._drive()
            await self._release()
        finally:
            for ue in UES:
                await self._network.detach(ue)

    # --- Phase B ------------------------------------------------------------------------------------------------

    async def _book(self) -> None:
        now = self._clock.now()
        request = bookings.BookingRequest(
            population=bookings.Population(application_id=APPLICATION, devices=2),
            traffic=bookings.BookedTraffic(flow_descriptions=[FLOW]),
            area_capabilities=_area_capabilities(places.RADIO),
            outside=bookings.OUTSIDE_POLICY_BEST_EFFORT,
        )
        period = request.periods.add(time_zone="Europe/Vienna")
        period.start_time.FromDatetime(now)
        period.stop_time.FromDatetime(now + timedelta(hours=1))
        booking = await self._provider.request(request)
        self._story.booking_id = booking.booking_id
        offer = booking.offer
        self._tell(
            f"phase B.2   booking reference {booking.booking_id}: {len(offer.lines)} lines,"
            f" {offer.total_price_units} price units, valid until {offer.valid_until.ToJsonString()}"
        )
        booking = await self._provider.accept(booking.booking_id, offer.revision)
        self._story.network_access_ids = list(booking.network_access_ids)
        for each in booking.network_access_ids:
            self._ids[each.area_id, each.capability] = each.network_access_id
            self._names[each.network_access_id] = f"{each.area_id} {each.profile_id}"
            self._tell(f"phase B.4   network access ID {each.network_access_id}: {each.area_id}, {each.profile_id}")
        active = bookings.Booking.STATE_ACTIVE
        await self._events.until(
            lambda: (
                booking.booking_id in self._events.bookings
                and self._events.bookings[booking.booking_id].state == active
            ),
            "ACTIVE",
        )

    # --- Phase C ------------------------------------------------------------------------------------------------

    async def _configure(self) -> None:
        await self._at(KITCHEN, places.IN_EAST)
        await self._at(WORKSHOP, places.IN_WEST)
        await self._at(CAR, places.TRACK[0][1][0])
        for ue, areas in ((KITCHEN, [places.EAST]), (WORKSHOP, [places.WEST]), (CAR, [places.EAST, places.WEST])):
            for (area, _), network_access_id in self._ids.items():
                if area in areas:
                    await self._begin(ue, network_access_id)
        east = self.quality_id(places.EAST)
        try:
            await self._begin(WORKSHOP, east)
        except ResourceExhausted as refusal:
            self._story.refusal = refusal
            self._tell(f"phase C     {WORKSHOP.name} is one too many in {places.EAST}: {refusal}")
        for (area, capability), network_access_id in self._ids.items():
            if capability != CAPABILITY_QUALITY_ON_DEMAND:
                await self._use.create_geofence(
                    Geofence(network_access_id=network_access_id, entered=True, left=True, initial_event=True)
                )
            elif area == places.EAST:
                await self._provider.create_threshold(
                    Threshold(network_access_id=network_access_id, metric=METRIC_DEVICES, above=1)
                )
                await self._provider.create_threshold(
                    Threshold(network_access_id=network_access_id, metric=METRIC_LOSS, above=_LOSS_PPM)
                )
        await self._settle({KITCHEN: places.EAST, WORKSHOP: places.WEST, CAR: ""})

    async def _begin(self, ue: Ue, network_access_id: str) -> None:
        access = await self._application.begin(network_access_id, ue.device)
        self._accesses[ue.name, network_access_id] = access.access_id

    # --- The drive ----------------------------------------------------------------------------------------------

    async def _drive(self) -> None:
        previous = ""
        for number, (area, points) in enumerate(places.TRACK):
            where = {KITCHEN: places.EAST, WORKSHOP: places.WEST, CAR: area}
            for place in points:
                await self._at(CAR, place)
            await self._settle(where)
            stretch = _stretch(area, previous, number)
            self._tell(f"\n{stretch}")
            await self._studio.listen(stretch, where)
            if area:
                await self._verify(CAR)
            if area == places.EAST:
                await self._studio.overload(CAR, "overload", where, places.RADIO_BPS)
                await self._events.until_told("THRESHOLD_CROSSED", self.quality_id(places.EAST), times=2)
                self._story.during = await self._network.installed()
                self._story.usages = await self._provider.usage(self._story.booking_id)
            if area == places.WEST:
                await self._reconfigure(where)
                self._studio.encodings |= {CAR.name: places.HIGH, WORKSHOP.name: places.HIGH}
                await self._studio.listen(f"in {area}, HD", where)
                await self._studio.overload(CAR, "overload, HD", where, places.RADIO_HD_BPS)
                self._studio.encodings[CAR.name] = places.STANDARD
            if previous == places.EAST:
                # The car has left, and nobody exceeds what is booked.
                await self._events.until_told("THRESHOLD_RESTORED", self.quality_id(places.EAST), times=2)
            previous = area

    async def _verify(self, ue: Ue) -> None:
        """Under each geofencing ID: whether the device is in its area, and where it is."""
        for (area, capability), network_access_id in self._ids.items():
            if capability == CAPABILITY_QUALITY_ON_DEMAND:
                continue
            answer = await self._use.verify(ue.device, network_access_id)
            result = VerificationResult.Name(answer.result).removeprefix("VERIFICATION_RESULT_")
            point = (await self._use.position(ue.device, network_access_id)).point
            self._story.verified.append(Verified(ue.name, area, result, point.latitude, point.longitude))
            self._tell(f"{ue.name:<11} in {area}: {result}, at {point.latitude}, {point.longitude}")

    async def _reconfigure(self, where: Mapping[Ue, str]) -> None:
        """Another profile in the west and one device more; the programme goes on meanwhile."""
        booking = await self._provider.booking(self._story.booking_id)
        wanted = bookings.BookingRequest()
        wanted.CopyFrom(booking.request)
        wanted.population.devices = 3
        del wanted.area_capabilities[:]
        wanted.area_capabilities.extend(_area_capabilities(places.RADIO_HD))
        changing = asyncio.create_task(self._change(booking, wanted))
        studio = self._studio
        first = studio.next_segment
        while not changing.done() or studio.next_segment < first + WARM_UP_SEGMENTS:
            await studio.send(where, 1)
        self._story.segments_while_reconfigured = studio.next_segment - first
        await changing
        studio.hear("while it is reconfigured", where, first)
        await self._begin(WORKSHOP, self.quality_id(places.EAST))
        self._tell(f"phase C     {WORKSHOP.name} may use {places.EAST} now")

    async def _change(self, booking: bookings.Booking, wanted: bookings.BookingRequest) -> None:
        changed = await self._provider.reconfigure(
            booking.booking_id, wanted, "population", "area_capabilities", etag=booking.etag
        )
        revision = changed.reconfiguration.offer.revision
        self._tell(f"change      offer {revision}: 3 devices, {places.RADIO_HD} in {places.WEST}")
        accepted = await self._provider.accept(booking.booking_id, revision)
        self._story.network_access_ids_after = [each for each in accepted.network_access_ids if each.active]
        west = self.quality_id(places.WEST)
        for ue in (CAR, WORKSHOP):
            await self._events.until_state(
                self._accesses[ue.name, west], DeviceAccess.STATE_IN_USE, places.RADIO_HD_BPS
            )

    # --- Where they are -----------------------------------------------------------------------------------------

    async def _at(self, ue: Ue, place: tuple[float, float]) -> None:
        position = DevicePosition(device=ue.device, point=places.point(place), uncertainty_m=_ACCURACY_M)
        await self._application.report_positions([position])

    async def _settle(self, where: Mapping[Ue, str]) -> None:
        """Returns when everybody has what is booked where they are, and only there, and the station knows."""
        for ue, area in where.items():
            for there in places.EDITIONS:
                access_id = self._accesses.get((ue.name, self.quality_id(there)))
                if access_id is None:
                    continue
                if there == area:
                    await self._events.until_state(access_id, DeviceAccess.STATE_IN_USE, self._rate_bps(there))
                else:
                    await self._events.until_state(access_id, DeviceAccess.STATE_WAITING)
            edition = places.EDITIONS.get(area, places.NATIONAL)
            await self._events.until(partial(self._plays, ue, edition), f"{ue.name} in {area or 'no area'}")

    def _plays(self, ue: Ue, edition: str) -> bool:
        return self.edition(ue) == edition

    def edition(self, ue: Ue) -> str:
        """What is played to the device: the edition of the region that the geofences have told it to be in."""
        inside = self._events.inside.get(name_of(ue.device), [])
        areas = {network_access_id: area for (area, _), network_access_id in self._ids.items()}
        return places.EDITIONS[areas[inside[-1]]] if inside else places.NATIONAL

    def quality_id(self, area: str) -> str:
        return self._ids[area, CAPABILITY_QUALITY_ON_DEMAND]

    def _rate_bps(self, area: str) -> int:
        changed = self._story.network_access_ids_after or self._story.network_access_ids
        return next(each.qos.max_downlink_bps for each in changed if each.network_access_id == self.quality_id(area))

    # --- Phase D ------------------------------------------------------------------------------------------------

    async def _release(self) -> None:
        booking_id = self._story.booking_id
        await self._provider.release(booking_id)
        await self._events.until(
            lambda: all(self._events.is_in(each, DeviceAccess.STATE_ENDED) for each in self._accesses.values()),
            "the end of all accesses",
        )
        self._tell(f"\nphase D     booking {booking_id} is released")
        await self._events.until(lambda: booking_id in self._events.records, "the usage records")
        self._story.records = await self._provider.usage_records(booking_id)
        self._story.after = await self._network.installed()
        if not all(each.final for each in self._story.records):
            raise FailedPrecondition(f"booking {booking_id} is released, but its usage records are not final")
        # What was booked is there no more.
        await self._studio.listen("after the release", dict.fromkeys(UES, ""))


def _area_capabilities(west_profile: str) -> list[bookings.AreaCapability]:
    quality = {places.EAST: places.RADIO, places.WEST: west_profile}
    return [
        bookings.AreaCapability(area_id=area, profile_id=profile)
        for area, each in quality.items()
        for profile in (each, places.REGION)
    ]


def _stretch(area: str, previous: str, number: int) -> str:
    if area:
        return f"in {area}"
    return f"after {previous}" if number else "on the road"


def _line(happening: Happening, names: Mapping[str, str]) -> str:
    """An event for eyes."""
    about = (
        names.get(happening.device, happening.device),
        names.get(happening.network_access_id, happening.network_access_id),
        happening.state if happening.type.endswith("_STATE") else "",
        happening.detail,
    )
    return f"event       {happening.type:<20} {' '.join(each for each in about if each)}".rstrip()
