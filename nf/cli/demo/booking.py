"""Live media distribution from end to end: the 5G-MAG workflow, phases A to D, on real packets.

A radio station books Quality on Demand and geofencing in two regions, hands network access IDs to its application, and
plays live to three listeners. Two stay, one in each region; the third drives through both. Everybody loads something
else meanwhile, more than the session allows: where nothing is booked the programme breaks off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Final

from nf.cli.demo import booking_places as places
from nf.cli.demo.booking_events import Events, Happening, name_of
from nf.cli.demo.booking_media import SEGMENT_NS, STATION, STATION_PORT, Heard, Listener, Player, Programme
from nf.cli.demo.booking_media import capture_of as capture
from nf.cli.demo.booking_network import NOTHING, Installed, Network, Ue
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
from nf.netapi.v1.monitoring_pb2 import METRIC_DEVICES, METRIC_LOSS, NetworkAccessUsage, Threshold, UsageRecord

AGREEMENT: Final = "demo-radio"
APPLICATION: Final = "demo-player"
FLOW: Final = f"permit out 17 from {STATION} {STATION_PORT} to assigned"

CAR: Final = Ue("car", "+436640000001", "imsi-001010000000001", "10.45.0.2")
KITCHEN: Final = Ue("kitchen", "+436640000002", "imsi-001010000000002", "10.45.0.3")
WORKSHOP: Final = Ue("workshop", "+436640000003", "imsi-001010000000003", "10.45.0.4")
UES: Final = (CAR, KITCHEN, WORKSHOP)

# Of each UE's session, for all that has no guarantee, and what everybody loads beside the programme.
SESSION_AMBR_BPS: Final = 1_000_000
OTHER_BPS: Final = 2_400_000
# What an encoder that is out of hand sends of everything.
_COPIES: Final = 4
# Buckets are empty after these, and then it is measured.
_WARM_UP_SEGMENTS: Final = 4
_MEASURED_SEGMENTS: Final = 8
_S: Final = 10**9
_ACCURACY_M: Final = 20.0
_LOSS_PPM: Final = 100_000


@dataclass(frozen=True, slots=True)
class Measurement:
    """A bit rate of IP packets that came through to a UE, over some seconds of packet time."""

    device: str
    stretch: str
    # Whether what is booked is in force for the device.
    inside: bool
    what: str
    offered_bps: int
    expected_bps: int
    passed_bps: int
    # How far a token bucket of whole packets may be off over this time.
    tolerance_bps: int

    @property
    def as_expected(self) -> bool:
        """Whether it is within the exact bound."""
        return abs(self.passed_bps - self.expected_bps) <= self.tolerance_bps


@dataclass(frozen=True, slots=True)
class Listening:
    """What a listener has heard on a stretch."""

    device: str
    stretch: str
    inside: bool
    programme: Programme


@dataclass(frozen=True, slots=True)
class Verified:
    """What the location function has told of a device under a geofencing ID."""

    device: str
    area_id: str
    result: str
    latitude: float
    longitude: float


@dataclass(slots=True)
class Story:
    """All that happened."""

    booking_id: str = ""
    network_access_ids: list[bookings.NetworkAccessId] = field(default_factory=list)
    network_access_ids_after: list[bookings.NetworkAccessId] = field(default_factory=list)
    happenings: list[Happening] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    listening: list[Listening] = field(default_factory=list)
    verified: list[Verified] = field(default_factory=list)
    refusal: ResourceExhausted | None = None
    segments_while_reconfigured: int = 0
    usages: Sequence[NetworkAccessUsage] = ()
    records: Sequence[UsageRecord] = ()
    # Bytes of the programme that came through while what was booked was in force, by network access ID.
    passed_bytes: dict[str, int] = field(default_factory=dict)
    before: Installed = NOTHING
    during: Installed = NOTHING
    after: Installed = NOTHING
    elapsed_s: float = 0.0

    @property
    def problems(self) -> list[str]:
        """What is not as it should be."""
        found = [
            f"{each.device}, {each.stretch}: {each.what}: {each.passed_bps:,} bit/s, expected {each.expected_bps:,}"
            for each in self.measurements
            if not each.as_expected
        ]
        found += [
            f"{each.device}, {each.stretch}: {each.programme.silent_segments} silent segments"
            for each in self.listening
            if each.inside == bool(each.programme.silent_segments)
        ]
        if self.after != self.before:
            found.append(f"something is left in the network: {self.after}")
        for each in self.records:
            counted = each.usage.downlink.conforming.bytes + each.usage.downlink.exceeding.bytes
            if counted != self.passed_bytes.get(each.network_access_id, 0):
                found.append(f"usage record of {each.area_id} {each.profile_id}: {counted:,} bytes")
        return found


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
        self._players = {ue.name: Player() for ue in UES}
        self._encodings = {ue.name: places.STANDARD for ue in UES}
        begin_s = int(clock.now().timestamp()) + 1
        self._next_ns = begin_s * _S

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
        east = self._quality_id(places.EAST)
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
            await self._listen(stretch, where)
            if area:
                await self._verify(CAR)
            if area == places.EAST:
                await self._overload(CAR, "overload", where, places.RADIO_BPS)
                self._story.during = await self._network.installed()
                self._story.usages = await self._provider.usage(self._story.booking_id)
            if area == places.WEST:
                await self._reconfigure(where)
                self._encodings |= {CAR.name: places.HIGH, WORKSHOP.name: places.HIGH}
                await self._listen(f"in {area}, HD", where)
                await self._overload(CAR, "overload, HD", where, places.RADIO_HD_BPS)
                self._encodings[CAR.name] = places.STANDARD
            if previous == places.EAST:
                # The car has left, and nobody exceeds what is booked.
                await self._events.until_told("THRESHOLD_RESTORED", self._quality_id(places.EAST), times=2)
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
        first = self._next_ns // SEGMENT_NS
        while not changing.done() or self._next_ns // SEGMENT_NS < first + _WARM_UP_SEGMENTS:
            await self._send(where, 1)
        self._story.segments_while_reconfigured = self._next_ns // SEGMENT_NS - first
        await changing
        self._hear("while it is reconfigured", where, first)
        await self._begin(WORKSHOP, self._quality_id(places.EAST))
        self._tell(f"phase C     {WORKSHOP.name} may use {places.EAST} now")

    async def _change(self, booking: bookings.Booking, wanted: bookings.BookingRequest) -> None:
        changed = await self._provider.reconfigure(
            booking.booking_id, wanted, "population", "area_capabilities", etag=booking.etag
        )
        revision = changed.reconfiguration.offer.revision
        self._tell(f"change      offer {revision}: 3 devices, {places.RADIO_HD} in {places.WEST}")
        accepted = await self._provider.accept(booking.booking_id, revision)
        self._story.network_access_ids_after = [each for each in accepted.network_access_ids if each.active]
        west = self._quality_id(places.WEST)
        for ue in (CAR, WORKSHOP):
            await self._events.until_state(
                self._accesses[ue.name, west], DeviceAccess.STATE_IN_USE, places.RADIO_HD_BPS
            )

    # --- Packets ------------------------------------------------------------------------------------------------

    async def _listen(self, stretch: str, where: Mapping[Ue, str]) -> None:
        """Some seconds of the programme for everybody, measured."""
        first = self._next_ns // SEGMENT_NS
        await self._send(where, _WARM_UP_SEGMENTS)
        heard = await self._send(where, _MEASURED_SEGMENTS)
        self._hear(stretch, where, first)
        for ue, area in where.items():
            encoding = self._encodings[ue.name]
            offered_bps = encoding.rate_bps + OTHER_BPS
            if area:
                self._measure(heard, ue, stretch, True, "programme", encoding.rate_bps, encoding.rate_bps, 0)
                other = "best effort (AMBR)"
                self._measure(heard, ue, stretch, True, other, OTHER_BPS, SESSION_AMBR_BPS, None)
            else:
                self._measure(heard, ue, stretch, False, "everything", offered_bps, SESSION_AMBR_BPS, None)

    async def _overload(self, ue: Ue, stretch: str, where: Mapping[Ue, str], max_bps: int) -> None:
        """The station sends everything several times: what is booked is policed to the bit."""
        first = self._next_ns // SEGMENT_NS
        await self._send(where, _WARM_UP_SEGMENTS, copies={ue.name: _COPIES})
        heard = await self._send(where, _MEASURED_SEGMENTS, copies={ue.name: _COPIES})
        offered_bps = self._encodings[ue.name].rate_bps * _COPIES
        self._measure(heard, ue, stretch, True, "programme", offered_bps, max_bps, None)
        self._hear("", where, first)
        if where[ue] == places.EAST:
            await self._events.until_told("THRESHOLD_CROSSED", self._quality_id(places.EAST))

    async def _send(
        self, where: Mapping[Ue, str], segments: int, copies: Mapping[str, int] | None = None
    ) -> Sequence[Heard]:
        """The next segments of the programme, in the edition of the region that each device is told to be in."""
        listeners = [
            Listener(ue.address, self._edition(ue), self._encodings[ue.name], (copies or {}).get(ue.name, 1), OTHER_BPS)
            for ue in where
        ]
        heard = await self._network.send(capture(listeners, self._next_ns, segments))
        self._next_ns += segments * SEGMENT_NS
        by_address = {ue.address: (ue, area) for ue, area in where.items()}
        for packet in heard:
            ue, area = by_address[packet.ue]
            if packet.edition:
                self._players[ue.name].receive(packet)
                if area:
                    name = self._quality_id(area)
                    self._story.passed_bytes[name] = self._story.passed_bytes.get(name, 0) + packet.ip_bytes
        return heard

    def _hear(self, stretch: str, where: Mapping[Ue, str], first: int) -> None:
        """What has been sent since ``first`` is played."""
        for ue, area in where.items():
            programme = self._players[ue.name].play(first, self._next_ns // SEGMENT_NS - first)
            if not stretch:
                continue
            self._story.listening.append(Listening(ue.name, stretch, bool(area), programme))
            self._tell(
                f"{ue.name:<11} {'/'.join(programme.editions) or 'nothing'}: {programme.segments} segments,"
                f" {programme.interruptions} interruptions, {programme.silent_ns / _S:.1f} s silent"
            )

    def _measure(
        self, heard: Sequence[Heard], ue: Ue, stretch: str, inside: bool, what: str, offered_bps: int,
        expected_bps: int, tolerance_bytes: int | None,
    ) -> None:  # fmt: skip
        span_ns = _MEASURED_SEGMENTS * SEGMENT_NS
        wanted = {"programme": {True}, "everything": {True, False}}.get(what, {False})
        mine = [each for each in heard if each.ue == ue.address and bool(each.edition) in wanted]
        passed_bps = sum(each.ip_bytes for each in mine) * 8 * _S // span_ns
        # A bucket may begin and end with less than a packet in it.
        off_bytes = 2 * max((each.ip_bytes for each in mine), default=0) if tolerance_bytes is None else tolerance_bytes
        measured = Measurement(
            ue.name, stretch, inside, what, offered_bps, expected_bps, passed_bps, off_bytes * 8 * _S // span_ns
        )
        self._story.measurements.append(measured)
        self._tell(
            f"{ue.name:<11} {'inside' if inside else 'outside'}, {what}: {rate(offered_bps)} offered,"
            f" {rate(passed_bps)} passed, {rate(expected_bps)} expected"
        )

    # --- Where they are -----------------------------------------------------------------------------------------

    async def _at(self, ue: Ue, place: tuple[float, float]) -> None:
        position = DevicePosition(device=ue.device, point=places.point(place), uncertainty_m=_ACCURACY_M)
        await self._application.report_positions([position])

    async def _settle(self, where: Mapping[Ue, str]) -> None:
        """Returns when everybody has what is booked where they are, and only there, and the station knows."""
        for ue, area in where.items():
            for there in places.EDITIONS:
                access_id = self._accesses.get((ue.name, self._quality_id(there)))
                if access_id is None:
                    continue
                if there == area:
                    await self._events.until_state(access_id, DeviceAccess.STATE_IN_USE, self._rate_bps(there))
                else:
                    await self._events.until_state(access_id, DeviceAccess.STATE_WAITING)
            edition = places.EDITIONS.get(area, places.NATIONAL)
            await self._events.until(partial(self._plays, ue, edition), f"{ue.name} in {area or 'no area'}")

    def _plays(self, ue: Ue, edition: str) -> bool:
        return self._edition(ue) == edition

    def _edition(self, ue: Ue) -> str:
        """What is played to the device: the edition of the region that the geofences have told it to be in."""
        inside = self._events.inside.get(name_of(ue.device), [])
        areas = {network_access_id: area for (area, _), network_access_id in self._ids.items()}
        return places.EDITIONS[areas[inside[-1]]] if inside else places.NATIONAL

    def _quality_id(self, area: str) -> str:
        return self._ids[area, CAPABILITY_QUALITY_ON_DEMAND]

    def _rate_bps(self, area: str) -> int:
        changed = self._story.network_access_ids_after or self._story.network_access_ids
        return next(each.qos.max_downlink_bps for each in changed if each.network_access_id == self._quality_id(area))

    # --- Phase D ------------------------------------------------------------------------------------------------

    async def _release(self) -> None:
        booking_id = self._story.booking_id
        await self._provider.release(booking_id)
        await self._events.until(
            lambda: all(
                self._events.accesses[each].state == DeviceAccess.STATE_ENDED for each in self._accesses.values()
            ),
            "the end of all accesses",
        )
        self._tell(f"\nphase D     booking {booking_id} is released")
        await self._events.until(lambda: booking_id in self._events.records, "the usage records")
        self._story.records = await self._provider.usage_records(booking_id)
        self._story.after = await self._network.installed()
        if not all(each.final for each in self._story.records):
            raise FailedPrecondition(f"booking {booking_id} is released, but its usage records are not final")
        # What was booked is there no more.
        await self._listen("after the release", dict.fromkeys(UES, ""))


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
