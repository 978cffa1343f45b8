"""Geofences: what is told of devices that enter and leave, by whom, when, and how they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from netapi_places import (
    NAI,
    OTHER,
    PHONE,
    RADIO,
    START,
    SUPI,
    UE_ADDRESS,
    access,
    after,
    book,
    circle,
    keep_access,
    keep_ue,
    seen,
    ue,
)

from nf.common.clock import ManualClock
from nf.common.errors import CastcoreError, InvalidArgument, NotFound
from nf.common.store import Store, Transaction, url_for
from nf.common.v1.events_pb2 import Event
from nf.netapi.callers import OPERATOR
from nf.netapi.errors import (
    AreaNotCovered,
    GeofencedDevicesExhausted,
    LocationNotBooked,
    TooManyGeofences,
)
from nf.netapi.geofences import Geofences
from nf.netapi.geometry import Fit
from nf.netapi.locating import Locating
from nf.netapi.positions import Positions
from nf.netapi.v1.access_pb2 import Device, DeviceAccess
from nf.netapi.v1.booking_pb2 import Booking
from nf.netapi.v1.coverage_pb2 import Capability, GeofencingProfile, ServiceArea
from nf.netapi.v1.location_pb2 import Geofence, GeofenceCrossed, GeofenceEnded, GeofenceMember

CAR = Device(phone_number=PHONE)
B1 = pytest.mark.clause("5G-MAG live media distribution B.1 b geofencing")


class Stand:
    """Geofences and positions on a store that a new process may open again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock(START)
        self.open()

    def open(self) -> None:
        self.store = Store.open(url_for(self.folder, "netapi"), clock=self.clock)
        self.geofences = Geofences(self.store, most=3)
        self.positions = Positions(self.store, [self.geofences.on_position])

    async def see(self, metres: float, at_s: float, *, device: Device = CAR, uncertainty_m: float = 10.0) -> None:
        self.clock.advance(max(after(at_s) - self.clock.now(), timedelta()))
        await self.positions.report([seen(metres, after(at_s), device=device, uncertainty_m=uncertainty_m)])

    async def begin(self, device: Device = CAR, access_id: str = "access") -> None:
        made = access(device, access_id=access_id)

        def work(tx: Transaction) -> None:
            keep_access(tx, made)
            self.geofences.on_access(tx, made, DeviceAccess.STATE_UNSPECIFIED)

        await self.store.write(work)

    async def finish(self, device: Device = CAR, access_id: str = "access") -> None:
        made = access(device, access_id=access_id, ended=True)

        def work(tx: Transaction) -> None:
            keep_access(tx, made)
            self.geofences.on_access(tx, made, DeviceAccess.STATE_WAITING)

        await self.store.write(work)

    async def becomes(self, state: Booking.State.ValueType) -> None:
        def work(tx: Transaction) -> None:
            booking = book(tx, state=state)
            self.geofences.on_booking(tx, booking, ())

        await self.store.write(work)

    async def events(self) -> list[Event]:
        return await self.store.read(lambda reader: reader.events(0))

    async def told(self) -> list[str]:
        return [event.type for event in await self.events()]

    async def fence(self, **content: object) -> Geofence:
        wanted = {"network_access_id": NAI, "entered": True, "left": True, **content}
        return await self.geofences.create(RADIO, Geofence(**wanted))


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    made = Stand(tmp_path)
    await made.store.write(book)
    yield made
    await made.geofences.stop()
    await made.store.close()


@B1
@pytest.mark.clause("5G-MAG live media distribution notifications")
async def test_a_device_that_enters_and_leaves_is_told_of_once_each(stand: Stand) -> None:
    fence = await stand.fence(device=CAR)
    for at_s, metres in enumerate((5000, 500, 400, -400, -5000, -6000)):
        await stand.see(metres, at_s)
    events = await stand.events()
    assert [event.type for event in events] == ["AREA_ENTERED", "AREA_LEFT"]
    assert {event.subject for event in events} == {f"geofences/{fence.geofence_id}"}
    assert {tuple(event.audience) for event in events} == {("agreement/radio",)}
    crossed = GeofenceCrossed()
    events[0].payload.Unpack(crossed)
    assert (crossed.device, crossed.position.position_time.ToDatetime(START.tzinfo)) == (CAR, after(1))
    assert (crossed.geofence.told_events, crossed.geofence.agreement_id) == (1, "radio")


@B1
async def test_uncertainty_at_the_edge_is_no_crossing(stand: Stand) -> None:
    await stand.fence(device=CAR)
    # Outside, then to and fro over the edge with 100 m of uncertainty, then all inside, and to and fro again.
    for at_s, metres in enumerate((1200, 1050, 950, 1050, 901, 899, 950, 1050, 1099, 1101, 950, 1200)):
        await stand.see(metres, at_s, uncertainty_m=100)
    assert await stand.told() == ["AREA_ENTERED", "AREA_LEFT"]


@B1
async def test_only_what_is_wanted_is_told(stand: Stand) -> None:
    await stand.fence(device=CAR, left=False)
    for at_s, metres in enumerate((5000, 0, 5000, 0)):
        await stand.see(metres, at_s)
    assert await stand.told() == ["AREA_ENTERED", "AREA_ENTERED"]


@B1
async def test_who_is_there_already_is_told_of_where_that_is_wished(stand: Stand) -> None:
    await stand.see(0, 1)
    await stand.fence(device=CAR)
    assert await stand.told() == []
    await stand.fence(device=CAR, initial_event=True)
    assert await stand.told() == ["AREA_ENTERED"]
    await stand.fence(device=CAR, initial_event=True, entered=False)
    assert await stand.told() == ["AREA_ENTERED"]
    await stand.see(5000, 2)
    assert await stand.told() == ["AREA_ENTERED", "AREA_LEFT", "AREA_LEFT", "AREA_LEFT"]


@B1
async def test_all_devices_that_use_the_id_are_watched_as_long_as_they_do(stand: Stand) -> None:
    lorry = Device(phone_number="+436649999999")
    await stand.see(5000, 0)
    await stand.begin()
    await stand.fence()
    await stand.begin(lorry, "access2")
    await stand.see(5000, 1, device=lorry)
    await stand.see(0, 2)
    await stand.see(0, 3, device=lorry)
    await stand.finish()
    await stand.see(5000, 4)
    await stand.see(5000, 5, device=lorry)
    crossings = []
    for event in await stand.events():
        crossed = GeofenceCrossed()
        event.payload.Unpack(crossed)
        crossings.append((event.type, crossed.device))
    assert crossings == [("AREA_ENTERED", CAR), ("AREA_ENTERED", lorry), ("AREA_LEFT", lorry)]


@B1
async def test_without_the_right_to_retrieve_only_the_time_is_told(stand: Stand) -> None:
    await stand.store.write(lambda tx: book(tx, rights=GeofencingProfile(notify=True)))
    await stand.fence(device=CAR, initial_event=True)
    await stand.see(0, 1)
    crossed = GeofenceCrossed()
    (await stand.events())[0].payload.Unpack(crossed)
    assert not crossed.position.HasField("point")
    assert crossed.position.position_time.ToDatetime(START.tzinfo) == after(1)


@B1
async def test_it_ends_after_so_many_events(stand: Stand) -> None:
    fence = await stand.fence(device=CAR, max_events=2)
    for at_s, metres in enumerate((5000, 0, 5000, 0)):
        await stand.see(metres, at_s)
    assert await stand.told() == ["AREA_ENTERED", "AREA_LEFT", "GEOFENCE_ENDED"]
    ended = GeofenceEnded()
    (await stand.events())[-1].payload.Unpack(ended)
    assert (ended.cause, ended.geofence.told_events) == ("MAX_EVENTS_REACHED", 2)
    with pytest.raises(NotFound):
        await stand.geofences.get(RADIO, fence.geofence_id)


@B1
async def test_an_initial_event_may_be_its_last(stand: Stand) -> None:
    await stand.see(0, 1)
    fence = await stand.fence(device=CAR, max_events=1, initial_event=True)
    assert fence.geofence_id
    assert await stand.told() == ["AREA_ENTERED", "GEOFENCE_ENDED"]


@B1
async def test_it_ends_when_its_time_has_come_also_while_nobody_looked(stand: Stand) -> None:
    wanted = Geofence(network_access_id=NAI, entered=True, device=CAR)
    wanted.expire_time.FromDatetime(after(60))
    await stand.geofences.create(RADIO, wanted)
    await stand.see(5000, 1)
    # Past its time and not ended yet, it tells nothing more.
    await stand.see(0, 61)
    assert await stand.told() == []
    await stand.geofences.start()
    await asyncio.wait_for(stand.store.wait_sequence(0), 10)
    ended = GeofenceEnded()
    (await stand.events())[-1].payload.Unpack(ended)
    assert ended.cause == "EXPIRED"
    assert await stand.store.read(lambda reader: reader.all(GeofenceMember)) == []


@pytest.mark.parametrize("state", [Booking.STATE_RELEASED, Booking.STATE_EXPIRED])
@pytest.mark.clause("5G-MAG live media distribution D.1")
async def test_it_ends_with_its_booking(stand: Stand, state: Booking.State.ValueType) -> None:
    await stand.fence(device=CAR)
    await stand.becomes(state)
    ended = GeofenceEnded()
    (await stand.events())[-1].payload.Unpack(ended)
    assert ended.cause == "BOOKING_ENDED"
    await stand.see(0, 1)
    assert await stand.told() == ["GEOFENCE_ENDED"]


@pytest.mark.clause("5G-MAG live media distribution B.1 schedule")
async def test_between_periods_nothing_is_told_and_then_what_has_changed(stand: Stand) -> None:
    await stand.fence(device=CAR)
    await stand.see(0, 0)
    for state in (Booking.STATE_BOOKED, Booking.STATE_SUSPENDED):
        await stand.becomes(state)
        await stand.see(5000, 1)
        assert await stand.told() == []
    await stand.becomes(Booking.STATE_ACTIVE)
    assert await stand.told() == ["AREA_LEFT"]


@B1
async def test_a_crossing_is_told_once_across_a_restart(stand: Stand) -> None:
    await stand.fence(device=CAR)
    await stand.see(5000, 0)
    await stand.see(0, 1)
    assert await stand.told() == ["AREA_ENTERED"]
    # The reporter did not see the answer before the restart, and reports again.
    await stand.store.close()
    stand.open()
    await stand.see(0, 1)
    await stand.see(1, 2)
    assert await stand.told() == ["AREA_ENTERED"]
    await stand.see(5000, 3)
    assert await stand.told() == ["AREA_ENTERED", "AREA_LEFT"]


@B1
async def test_what_is_watched_by_phone_number_is_watched_by_supi_once_it_is_known(stand: Stand) -> None:
    await stand.see(5000, 0)
    await stand.fence(device=CAR)

    def attach(tx: Transaction) -> None:
        keep_ue(tx, ue())
        stand.positions.on_attachment(tx, ue(), True)
        stand.geofences.on_attachment(tx, ue(), True)

    await stand.store.write(attach)
    await stand.see(0, 1, device=Device(ipv4_address=UE_ADDRESS))
    assert await stand.told() == ["AREA_ENTERED"]
    members = await stand.store.read(lambda reader: reader.all(GeofenceMember))
    assert [(member.device_key, member.device) for member in members] == [(SUPI, CAR)]


@pytest.mark.parametrize(
    ("content", "error", "field"),
    [
        ({"entered": False, "left": False}, InvalidArgument, "geofence.entered"),
        ({"network_access_id": ""}, InvalidArgument, "geofence.device"),
        ({"network_access_id": "", "device": CAR, "area": circle()}, InvalidArgument, "geofence.network_access_id"),
        ({"network_access_id": "none"}, NotFound, ""),
        ({"device": Device(phone_number="1")}, InvalidArgument, "geofence.device.phone_number"),
        ({"area": circle(0.5)}, InvalidArgument, "geofence.area.circle.radius_m"),
        ({"area": circle(100, at_m=2000)}, AreaNotCovered, ""),
    ],
)
@B1
async def test_what_is_wrong_is_refused_and_nothing_is_made(
    stand: Stand, content: dict[str, object], error: type[CastcoreError], field: str
) -> None:
    with pytest.raises(error) as refusal:
        await stand.fence(**content)
    assert ([each.field for each in refusal.value.violations] or [""])[0] == field
    assert await stand.store.read(lambda reader: reader.all(Geofence)) == []


@B1
async def test_an_id_without_notifications_or_of_another_capability_makes_no_geofence(stand: Stand) -> None:
    await stand.store.write(lambda tx: book(tx, rights=GeofencingProfile(verify=True, retrieve=True)))
    with pytest.raises(LocationNotBooked, match="notify"):
        await stand.fence(device=CAR)
    await stand.store.write(lambda tx: book(tx, capability=Capability.CAPABILITY_QUALITY_ON_DEMAND))
    with pytest.raises(InvalidArgument, match="geofencing ID"):
        await stand.fence(device=CAR)


@B1
async def test_a_device_beyond_the_booked_number_is_refused(stand: Stand) -> None:
    await stand.store.write(lambda tx: book(tx, devices_booked=2))
    await stand.begin(Device(phone_number="+436640000001"))
    await stand.fence(device=CAR)
    # One that is watched already is no other.
    await stand.fence(device=CAR, left=False)
    with pytest.raises(GeofencedDevicesExhausted, match="2 devices are booked"):
        await stand.fence(device=Device(phone_number="+436640000002"))
    assert len(await stand.store.read(lambda reader: reader.all(Geofence))) == 2


@B1
async def test_an_agreement_has_so_many_geofences_and_a_repeat_is_none_more(stand: Stand) -> None:
    wanted = Geofence(network_access_id=NAI, entered=True)
    made = [await stand.geofences.create(RADIO, wanted, request_id="once") for _ in range(2)]
    assert made[0] == made[1]
    for _ in range(2):
        await stand.fence()
    with pytest.raises(TooManyGeofences, match="3 geofences"):
        await stand.fence()


@pytest.mark.clause("5G-MAG live media distribution Preconditions")
async def test_another_provider_does_not_know_of_it(stand: Stand) -> None:
    fence = await stand.fence(device=CAR)
    with pytest.raises(NotFound):
        await stand.geofences.get(OTHER, fence.geofence_id)
    with pytest.raises(NotFound):
        await stand.geofences.create(OTHER, Geofence(network_access_id=NAI, entered=True))
    await stand.geofences.delete(OTHER, fence.geofence_id)
    assert (await stand.geofences.page(OTHER, 0, "")).items == []
    assert (await stand.geofences.page(RADIO, 0, "")).items == [fence]
    await stand.geofences.delete(RADIO, fence.geofence_id)
    await stand.geofences.delete(RADIO, fence.geofence_id)
    assert await stand.told() == ["GEOFENCE_ENDED"]


@B1
async def test_the_operator_watches_anywhere_that_is_covered(stand: Stand) -> None:
    wanted = Geofence(device=CAR, area=circle(100), entered=True, initial_event=True)
    await stand.geofences.create(OPERATOR, wanted)
    with pytest.raises(AreaNotCovered):
        await stand.geofences.create(OPERATOR, Geofence(device=CAR, area=circle(100, at_m=5000), entered=True))
    await stand.see(0, 1)
    assert [(event.type, list(event.audience)) for event in await stand.events()] == [("AREA_ENTERED", [])]


async def test_a_booking_whose_id_is_withheld_tells_nothing(stand: Stand) -> None:
    await stand.fence(device=CAR, initial_event=True)
    await stand.store.write(lambda tx: book(tx, active=False))
    await stand.see(0, 1)
    assert await stand.told() == []
    await stand.becomes(Booking.STATE_ACTIVE)
    assert await stand.told() == ["AREA_ENTERED"]
    assert stand.clock.now() == START + timedelta(seconds=1)


async def test_an_area_that_becomes_another_one_may_be_left_without_a_step(stand: Stand) -> None:
    await stand.fence(device=CAR)
    await stand.see(900, 1)
    smaller = ServiceArea(area_id="vienna", geometry=circle(500))

    def shrink(tx: Transaction) -> None:
        tx.put(smaller, "vienna")
        stand.geofences.on_area(tx, smaller)

    await stand.store.write(shrink)
    assert await stand.told() == ["AREA_LEFT"]


async def test_who_is_nowhere_known_is_inside_of_what_is_everywhere(stand: Stand) -> None:
    await stand.store.write(lambda tx: tx.put(ServiceArea(area_id="vienna", everywhere=True), "vienna"))
    await stand.fence(device=CAR, initial_event=True)
    assert await stand.told() == ["AREA_ENTERED"]
    nobody = Device(phone_number="+436649999999")
    told = await Locating(stand.store).verify(RADIO, nobody, NAI, None, None)
    assert (told.fit, told.percent, told.position_time) == (Fit.INSIDE, 100, None)
