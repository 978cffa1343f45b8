"""A platform that is killed (SIGKILL) at each step of what it asks the network for: nothing stays, nothing is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from control_plane import GPSI, ControlPlane, running
from netapi_places import circle, north_of

from nf.common.channels import Channels
from nf.common.errors import CastcoreError
from nf.common.server import GrpcServer, servicer
from nf.common.telemetry import Telemetry
from nf.common.v1.events_pb2 import WatchEventsRequest, WatchEventsResponse
from nf.netapi.v1 import access_pb2 as access
from nf.netapi.v1 import agreement_pb2 as agreement
from nf.netapi.v1 import booking_pb2 as booking
from nf.netapi.v1 import coverage_pb2 as coverage
from nf.netapi.v1 import location_pb2 as location
from nf.netapi.v1.access_pb2_grpc import DeviceAccessesServiceStub
from nf.netapi.v1.agreement_pb2_grpc import AgreementsServiceStub
from nf.netapi.v1.booking_pb2_grpc import BookingsServiceStub
from nf.netapi.v1.coverage_pb2_grpc import CoverageServiceStub
from nf.netapi.v1.location_pb2_grpc import LocationServiceStub
from nf.pcf.v1.policy_authorization_pb2_grpc import (
    PcfEventsServiceServicer,
    PcfEventsServiceStub,
    PolicyAuthorizationServiceServicer,
    PolicyAuthorizationServiceStub,
    add_PcfEventsServiceServicer_to_server,
    add_PolicyAuthorizationServiceServicer_to_server,
)

_SERVER = Path(__file__).with_name("netapi_server.py")
MBPS = 1_000_000
CAR = access.Device(phone_number="+" + GPSI.removeprefix("msisdn-"))


class Held(PolicyAuthorizationServiceServicer, PcfEventsServiceServicer):
    """Stands before the PCF, and holds a call back before its effect or after it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._pcf = PolicyAuthorizationServiceStub(channel)
        self._events = PcfEventsServiceStub(channel)
        self.hold: tuple[str, str] | None = None
        self.reached = asyncio.Event()

    async def _pass(self, name: str, call: Callable[[object], Awaitable[object]], request: object) -> object:
        await self._stop_at(name, "before")
        answer = await call(request)
        await self._stop_at(name, "after")
        return answer

    async def _stop_at(self, name: str, when: str) -> None:
        if self.hold == (name, when):
            self.reached.set()
            await asyncio.Event().wait()

    async def CreateAppSession(self, request, context):
        return await self._pass("CreateAppSession", self._pcf.CreateAppSession, request)

    async def UpdateAppSession(self, request, context):
        return await self._pass("UpdateAppSession", self._pcf.UpdateAppSession, request)

    async def DeleteAppSession(self, request, context):
        return await self._pass("DeleteAppSession", self._pcf.DeleteAppSession, request)

    async def WatchEvents(self, request, context) -> AsyncIterator[WatchEventsResponse]:
        async for each in self._events.WatchEvents(request):
            yield each


class Faces:
    """The platform's services in one process of it, without credentials: the operator's, but for bookings."""

    def __init__(self, address: str, token: str) -> None:
        self._address = address
        self.operator = Channels({"netapi": address})
        self._provider: list[Channels] = []
        self.accesses = DeviceAccessesServiceStub(self.operator.get("netapi"))
        self.location = LocationServiceStub(self.operator.get("netapi"))
        self.sign_in(token)

    def sign_in(self, token: str) -> None:
        """Bookings are the provider's from now on."""
        self._provider.append(Channels({"netapi": self._address}, token=token))
        self.bookings = BookingsServiceStub(self._provider[-1].get("netapi"))

    async def until(self, state: access.DeviceAccess.State.ValueType, *, downlink_bps: int = 0) -> access.DeviceAccess:
        """The access as soon as it is in a state, with a bit rate."""
        async for answer in self.bookings.WatchEvents(WatchEventsRequest()):
            changed = access.DeviceAccessChanged()
            if not answer.event.payload.Unpack(changed):
                continue
            request = access.GetDeviceAccessRequest(access_id=changed.device_access.access_id)
            found = (await self.accesses.GetDeviceAccess(request)).device_access
            if (found.state, found.max_downlink_bps) == (state, downlink_bps):
                return found
        raise AssertionError

    async def move(self, metres: float) -> None:
        position = location.DevicePosition(device=CAR, point=north_of(metres), uncertainty_m=10)
        await self.location.ReportPositions(location.ReportPositionsRequest(positions=[position]))

    async def close(self) -> None:
        for each in (self.operator, *self._provider):
            await each.close()


class Killable:
    """Platforms on one state, one after the other, each of which is killed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._running = 0

    @asynccontextmanager
    async def begin(self, token: str = "") -> AsyncIterator[Faces]:
        """A platform, when the one before has died."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        number, address = (await self._process.stdout.readline()).decode().split()
        self._running = int(number)
        faces = Faces(address, token)
        try:
            yield faces
        finally:
            await faces.close()
            self.kill()

    def kill(self) -> None:
        """SIGKILL."""
        if self._running:
            os.kill(self._running, signal.SIGKILL)
            self._running = 0


@asynccontextmanager
async def killable(*arguments: str) -> AsyncIterator[Killable]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(_SERVER), *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    made = Killable(process)
    try:
        yield made
    finally:
        made.kill()
        process.stdin.close()
        await process.wait()


async def furnish(faces: Faces) -> str:
    """What can be booked; the token of a provider."""
    channel = faces.operator.get("netapi")
    places = CoverageServiceStub(channel)
    area = coverage.ServiceArea(area_id="vienna", geometry=circle(), capacity=coverage.AreaCapacity(devices=1))
    await places.PutServiceArea(coverage.PutServiceAreaRequest(service_area=area))
    for name, most_bps in (("radio", 2 * MBPS), ("radio-hd", 4 * MBPS)):
        qos = coverage.QosProfile(five_qi=3, guaranteed_downlink_bps=MBPS, max_downlink_bps=most_bps)
        profile = coverage.CapabilityProfile(
            profile_id=name, capability=coverage.CAPABILITY_QUALITY_ON_DEMAND, qos=qos, dnn="internet"
        )
        await places.PutCapabilityProfile(coverage.PutCapabilityProfileRequest(capability_profile=profile))
    agreements = AgreementsServiceStub(channel)
    terms = agreement.Agreement(agreement_id="radio")
    await agreements.CreateAgreement(agreement.CreateAgreementRequest(agreement=terms))
    wanted = agreement.CreateCredentialRequest(credential=agreement.Credential(agreement_id="radio"))
    return (await agreements.CreateCredential(wanted)).credential.token


async def book(faces: Faces) -> booking.Booking:
    """A booking that is in its period."""
    period = booking.BookingPeriod()
    period.start_time.FromDatetime(datetime.now(UTC))
    period.stop_time.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
    asked = booking.BookingRequest(
        population=booking.Population(application_id="player", devices=1),
        periods=[period],
        area_capabilities=[booking.AreaCapability(area_id="vienna", profile_id="radio")],
    )
    offered = await faces.bookings.RequestBooking(booking.RequestBookingRequest(request=asked))
    accepted = booking.AcceptOfferRequest(booking_id=offered.booking.booking_id)
    return (await faces.bookings.AcceptOffer(accepted)).booking


async def reconfigure(faces: Faces, booking_id: str) -> None:
    """The same booking with more bit rate."""
    wanted = booking.BookingRequest(area_capabilities=[booking.AreaCapability(area_id="vienna", profile_id="radio-hd")])
    request = booking.ReconfigureBookingRequest(booking_id=booking_id, request=wanted)
    request.update_mask.paths.append("area_capabilities")
    await faces.bookings.ReconfigureBooking(request)
    await faces.bookings.AcceptOffer(booking.AcceptOfferRequest(booking_id=booking_id))


def rates(plane: ControlPlane) -> list[int]:
    """The bit rates that the UPF polices for the car."""
    return [qer.mbr_dl_bps for qer in plane.upf.session_of().qers]


@pytest.mark.timeout(300)
@pytest.mark.clause("5G-MAG live media distribution C", "5G-MAG live media distribution D.1")
async def test_killed_at_every_step_nothing_acknowledged_is_lost_and_nothing_stays_in_the_upf(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        held = Held(plane.channel("pcf"))
        server = GrpcServer("pcf", Telemetry())
        server.add(
            servicer(add_PolicyAuthorizationServiceServicer_to_server, held),
            servicer(add_PcfEventsServiceServicer_to_server, held),
        )
        peers = server.bind("127.0.0.1:0"), plane.address("smf")
        await server.start()
        await plane.attach()
        try:
            async with killable(str(tmp_path), *peers) as platforms:
                await walk(platforms, plane, held)
        finally:
            await server.stop()


async def walk(platforms: Killable, plane: ControlPlane, held: Held) -> None:
    async def killed() -> None:
        """Kills it when what is held back has been reached."""
        async with asyncio.timeout(20):
            await held.reached.wait()
        held.reached.clear()
        platforms.kill()

    def stop_at(name: str, when: str) -> None:
        held.hold = name, when

    # Nothing is asked for yet; the client gets no answer.
    stop_at("CreateAppSession", "before")
    async with platforms.begin() as faces:
        token = await furnish(faces)
        faces.sign_in(token)
        made = await book(faces)
        await faces.move(0)
        request = access.CreateDeviceAccessRequest(
            network_access_id=made.network_access_ids[0].network_access_id, device=CAR
        )
        asked = asyncio.ensure_future(_refused(faces.accesses.CreateDeviceAccess(request)))
        await killed()
        await asked
        assert await plane.app_sessions() == {}

    # The network has it, and the platform does not know.
    stop_at("CreateAppSession", "after")
    async with platforms.begin(token) as faces:
        await killed()
        assert rates(plane) == [2 * MBPS]

    stop_at("UpdateAppSession", "before")
    async with platforms.begin(token) as faces:
        used = await faces.until(access.DeviceAccess.STATE_IN_USE, downlink_bps=2 * MBPS)
        # Who asks again gets what he has.
        assert (await faces.accesses.CreateDeviceAccess(request)).device_access == used
        await reconfigure(faces, made.booking_id)
        await killed()
        assert rates(plane) == [2 * MBPS]

    stop_at("UpdateAppSession", "after")
    async with platforms.begin(token) as faces:
        await killed()
        assert rates(plane) == [4 * MBPS]

    stop_at("DeleteAppSession", "before")
    async with platforms.begin(token) as faces:
        used = await faces.until(access.DeviceAccess.STATE_IN_USE, downlink_bps=4 * MBPS)
        await faces.move(5_000)
        await killed()
        assert rates(plane) == [4 * MBPS]

    stop_at("DeleteAppSession", "after")
    async with platforms.begin(token) as faces:
        await killed()
        assert rates(plane) == []

    held.hold = None
    async with platforms.begin(token) as faces:
        waiting = await faces.until(access.DeviceAccess.STATE_WAITING)
        assert waiting.reason == access.DeviceAccess.REASON_OUTSIDE_AREA
        assert (rates(plane), await plane.app_sessions()) == ([], {})
        got = await faces.bookings.GetBooking(booking.GetBookingRequest(booking_id=made.booking_id))
        assert got.booking.state == booking.Booking.STATE_ACTIVE
        assert got.booking.request.area_capabilities[0].profile_id == "radio-hd"
        assert got.booking.network_access_ids[0].network_access_id == request.network_access_id
        # What is given back can be booked again: nobody else has it, and it has leaked nowhere.
        await faces.bookings.ReleaseBooking(booking.ReleaseBookingRequest(booking_id=made.booking_id))
        assert (await faces.until(access.DeviceAccess.STATE_ENDED)).access_id == used.access_id
        assert (await book(faces)).state == booking.Booking.STATE_ACTIVE


async def _refused(call: Awaitable[object]) -> None:
    with pytest.raises(CastcoreError):
        await call
