"""Where devices are, over gRPC and from the shell: who may report, verify, retrieve and be told."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from command import CASTCORE
from netapi_places import PHONE, circle, north_of
from netapi_platform import OPERATOR_TOKEN, Face, Platform

from nf.client.netapi import Platform as Booking
from nf.client.netapi_use import NetworkAccess
from nf.common.clock import SystemClock
from nf.common.errors import CastcoreError, InvalidArgument, NotFound, PermissionDenied
from nf.netapi.v1 import booking_pb2 as booking
from nf.netapi.v1 import location_pb2 as v1
from nf.netapi.v1.access_pb2 import Device
from nf.netapi.v1.coverage_pb2 import CAPABILITY_GEOFENCING, CapabilityProfile, GeofencingProfile, ServiceArea
from nf.netapi.v1.location_pb2_grpc import LocationServiceStub

pytestmark = pytest.mark.asyncio(loop_scope="module")

CAR = Device(phone_number=PHONE)
PATIENCE_S = 30.0


class Lab:
    """A platform, its operator, and a provider that has booked geofencing in the area "vienna" for an hour."""

    def __init__(self, platform: Platform, provider: Face) -> None:
        self.platform = platform
        self.operator = NetworkAccess(platform.face().channels.get("netapi"))
        self.use = NetworkAccess(provider.channels.get("netapi"))
        self.location = LocationServiceStub(provider.channels.get("netapi"))
        self.bookings = Booking(provider.channels.get("netapi"))

    async def book(self, profile: str = "fence") -> tuple[str, str]:
        """The booking, and the ID that was issued."""
        now = datetime.now(UTC)
        period = booking.BookingPeriod()
        period.start_time.FromDatetime(now - timedelta(seconds=1))
        period.stop_time.FromDatetime(now + timedelta(hours=1))
        wanted = booking.BookingRequest(
            population=booking.Population(application_id="radio", devices=3),
            periods=[period],
            area_capabilities=[booking.AreaCapability(area_id="vienna", profile_id=profile)],
        )
        made = await self.bookings.request(wanted)
        accepted = await self.bookings.accept(made.booking_id)
        return accepted.booking_id, accepted.network_access_ids[0].network_access_id

    async def see(self, metres: float, uncertainty_m: float = 10.0) -> None:
        position = v1.DevicePosition(device=CAR, point=north_of(metres), uncertainty_m=uncertainty_m)
        assert await self.operator.report_positions([position]) == 1


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    async with Platform(tmp_path_factory.mktemp("netapi"), clock=SystemClock()) as platform:
        await platform.area(ServiceArea(area_id="vienna", geometry=circle()))
        for name, rights in (
            ("fence", GeofencingProfile(verify=True, retrieve=True, notify=True)),
            ("mute", GeofencingProfile(notify=True)),
        ):
            await platform.profile(
                CapabilityProfile(profile_id=name, capability=CAPABILITY_GEOFENCING, geofencing=rights)
            )
        yield Lab(platform, await platform.provider("radio"))


@pytest.mark.clause("5G-MAG live media distribution B.1 b geofencing")
@pytest.mark.clause("5G-MAG live media distribution notifications")
@pytest.mark.clause("5G-MAG live media distribution B.4")
async def test_a_client_with_a_geofencing_id_is_told_of_verified_and_retrieved(lab: Lab) -> None:
    booking_id, access_id = await lab.book()
    fence = await lab.use.create_geofence(v1.Geofence(network_access_id=access_id, entered=True, left=True))
    await lab.see(5000)
    await lab.use.begin(access_id, CAR)
    for metres in (0, 5000):
        await lab.see(metres)
    crossings: list[tuple[str, str]] = []
    async with asyncio.timeout(PATIENCE_S):
        async for event in lab.bookings.watch():
            crossed = v1.GeofenceCrossed()
            if event.payload.Unpack(crossed):
                assert crossed.geofence.geofence_id == fence.geofence_id
                crossings.append((event.type, crossed.device.phone_number))
            if len(crossings) == 2:
                break
    assert crossings == [("AREA_ENTERED", PHONE), ("AREA_LEFT", PHONE)]
    await lab.see(1000, uncertainty_m=100)
    told = await lab.use.verify(CAR, access_id)
    assert (told.result, told.match_rate_percent) == (v1.VERIFICATION_RESULT_PARTIAL, 49)
    position = await lab.use.position(CAR, access_id, max_age_s=60)
    assert (position.device, position.point) == (CAR, north_of(1000))
    listed = [each.geofence_id async for each in lab.use.geofences()]
    assert listed == [fence.geofence_id]
    await lab.bookings.release(booking_id)
    assert [each async for each in lab.use.geofences()] == []
    with pytest.raises(CastcoreError, match="its booking"):
        await lab.use.verify(CAR, access_id)


@pytest.mark.clause("5G-MAG live media distribution B.1 b geofencing")
async def test_only_what_is_booked_may_be_known(lab: Lab) -> None:
    booking_id, access_id = await lab.book("mute")
    await lab.see(0)
    for call in (lab.use.verify(CAR, access_id), lab.use.position(CAR, access_id)):
        with pytest.raises(PermissionDenied, match="does not include"):
            await call
    with pytest.raises(NotFound):
        await lab.use.position(CAR, "")
    rival = NetworkAccess((await lab.platform.provider("rival")).channels.get("netapi"))
    with pytest.raises(NotFound):
        await rival.verify(CAR, access_id)
    with pytest.raises(PermissionDenied, match="report positions"):
        await lab.use.report_positions([v1.DevicePosition(device=CAR, point=north_of(0))])
    await lab.bookings.release(booking_id)


async def test_what_is_not_known_is_unknown_and_what_is_old_is_too(lab: Lab) -> None:
    booking_id, access_id = await lab.book()
    nobody = Device(phone_number="+4311111111")
    assert (await lab.use.verify(nobody, access_id)).result == v1.VERIFICATION_RESULT_UNKNOWN
    with pytest.raises(CastcoreError, match="nothing is known"):
        await lab.use.position(nobody, access_id)
    old = v1.DevicePosition(device=Device(phone_number="+4322222222"), point=north_of(0))
    moment = datetime.now(UTC) - timedelta(minutes=10)
    old.position_time.FromDatetime(moment)
    await lab.operator.report_positions([old])
    told = await lab.use.verify(old.device, access_id, max_age_s=60)
    assert (told.result, told.position_time.ToDatetime(UTC)) == (v1.VERIFICATION_RESULT_UNKNOWN, moment)
    with pytest.raises(CastcoreError, match="s old, expected at most 60 s"):
        await lab.use.position(old.device, access_id, max_age_s=60)
    assert (await lab.use.verify(old.device, access_id)).result == v1.VERIFICATION_RESULT_TRUE
    await lab.bookings.release(booking_id)


async def test_an_area_of_one_s_own_is_verified_where_it_touches_the_booked_one(lab: Lab) -> None:
    booking_id, access_id = await lab.book()
    await lab.see(0)
    request = v1.VerifyPositionRequest(device=CAR, network_access_id=access_id, area=circle(100, at_m=500))
    assert (await lab.location.VerifyPosition(request)).result == v1.VERIFICATION_RESULT_FALSE
    request.area.CopyFrom(circle(100, at_m=5000))
    with pytest.raises(CastcoreError, match="touches the booked one"):
        await lab.location.VerifyPosition(request)
    request.area.CopyFrom(circle(0.5))
    with pytest.raises(InvalidArgument, match=r"area\.circle\.radius_m"):
        await lab.location.VerifyPosition(request)
    await lab.bookings.release(booking_id)


class Command:
    """``castcore ue track`` as a process of its own."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    async def begin(self, *arguments: str | Path) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        platform = ("--platform", f"grpc://{self._lab.platform.grpc_address}", "--credential", OPERATOR_TOKEN)
        return await asyncio.create_subprocess_exec(
            CASTCORE, "ue", "track", *map(str, arguments), *platform, stdout=pipe, stderr=pipe
        )

    async def run(self, *arguments: str | Path) -> tuple[int, str, str]:
        process = await self.begin(*arguments)
        async with asyncio.timeout(PATIENCE_S):
            out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


def track(folder: Path) -> Path:
    places = [north_of(metres) for metres in (3000, 0, -3000)]
    line = {"type": "LineString", "coordinates": [[each.longitude, each.latitude] for each in places]}
    path = folder / "through.geojson"
    path.write_text(json.dumps(line))
    return path


async def test_a_device_is_driven_through_the_area_from_the_shell(lab: Lab, tmp_path: Path) -> None:
    booking_id, access_id = await lab.book()
    fence = await lab.use.create_geofence(
        v1.Geofence(network_access_id=access_id, device=CAR, entered=True, left=True, max_events=2)
    )
    code, out, err = await Command(lab).run(
        track(tmp_path), "--ue", PHONE, "--speed", "36 km/h", "--step", "60s", "--at-once", "--json"
    )
    assert (code, err) == (0, "")
    steps = [json.loads(line) for line in out.splitlines()]
    # Six kilometres at 10 m/s.
    assert [step["at_s"] for step in steps[:-1]] == [60.0 * number for number in range(len(steps) - 1)]
    assert steps[-1]["at_s"] == pytest.approx(600, abs=1)
    assert {step["taken"] for step in steps} == {1}
    position = await lab.use.position(CAR, access_id)
    assert position.point.latitude == pytest.approx(north_of(-3000).latitude, abs=1e-6)
    assert fence.geofence_id not in [each.geofence_id async for each in lab.use.geofences()]
    await lab.bookings.release(booking_id)


async def test_ctrl_c_ends_a_drive_with_a_line(lab: Lab, tmp_path: Path) -> None:
    process = await Command(lab).begin(track(tmp_path), "--ue", PHONE, "--speed", "5 m/s", "--repeat", "0")
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE_S):
        first = (await process.stderr.readline()).decode()
        process.send_signal(signal.SIGINT)
        rest = (await process.stderr.read()).decode()
        code = await process.wait()
    assert first.startswith("0:00 of 20:0")
    assert PHONE in first
    assert rest.splitlines()[-1].startswith("stopped after ")
    assert code in (0, 130)
