"""A platform on a core: PCF, SMF and the real UPF, a provider with an agreement, and one UE that drives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import captures
from captures import START_NS, UDP, Captured, ipv4, ports
from control_plane import GPSI, UE, ControlPlane, running
from netapi_places import circle, north_of
from netapi_platform import OPERATOR_TOKEN, START, Face, Platform

from nf.common.clock import ManualClock
from nf.common.v1.events_pb2 import WatchEventsRequest
from nf.netapi.config import NetapiSection
from nf.netapi.v1 import access_pb2 as access
from nf.netapi.v1 import booking_pb2 as booking
from nf.netapi.v1.coverage_pb2 import CAPABILITY_QUALITY_ON_DEMAND, CapabilityProfile, QosProfile, ServiceArea
from nf.netapi.v1.location_pb2 import DevicePosition, ReportPositionsRequest
from upf.capture import parse_header, read_records
from upf.n4.v1 import n4_pb2 as n4
from upf.n4.v1.n4_pb2_grpc import N4ServiceStub
from upf.policing import TokenBucket
from upf.traffic.v1.traffic_pb2 import ReplayRequest
from upf.traffic.v1.traffic_pb2_grpc import TrafficServiceStub

RADIO, ELSEWHERE = "198.51.100.7", "203.0.113.9"
FLOW = f"permit out 17 from {RADIO} 443 to assigned"
PHONE = "+" + GPSI.removeprefix("msisdn-")
CAR = access.Device(phone_number=PHONE)
GFBR_BPS, MFBR_BPS, AMBR_BPS = 800_000, 1_600_000, 1_000_000
# 100 ms at the rate, at least 15,000 bytes.
BURST_BYTES = {MFBR_BPS: 20_000, AMBR_BPS: 15_000, 3_200_000: 40_000}
SIZE = 1000
HOUR = timedelta(hours=1)
IN_USE, WAITING, ENDED = (
    access.DeviceAccess.STATE_IN_USE,
    access.DeviceAccess.STATE_WAITING,
    access.DeviceAccess.STATE_ENDED,
)


class Core:
    """The platform on a core with a UPF, a provider with an agreement, and one UE with a session-AMBR."""

    def __init__(self, folder: Path, plane: ControlPlane, platform: Platform, clock: ManualClock) -> None:
        self.folder, self.plane, self.platform, self.clock = folder, plane, platform, clock
        self.hours = 0
        self.provider: Face
        # One that shows no credential.
        self.client = platform.face("")

    async def furnish(self) -> None:
        """What can be booked, by whom, and the UE."""
        qos = {"five_qi": 3, "guaranteed_downlink_bps": GFBR_BPS}
        for name, most_bps in (("radio", MFBR_BPS), ("radio-hd", 2 * MFBR_BPS)):
            await self.platform.profile(
                CapabilityProfile(
                    profile_id=name,
                    capability=CAPABILITY_QUALITY_ON_DEMAND,
                    qos=QosProfile(max_downlink_bps=most_bps, **qos),
                    dnn="internet",
                )
            )
        await self.platform.area(ServiceArea(area_id="vienna", geometry=circle()))
        self.provider = await self.platform.provider("radio")
        await self.plane.attach(session_ambr_dl_bps=AMBR_BPS)

    async def book(self, *, devices: int = 2, refused: bool = False) -> booking.Booking:
        """A booking that is in its period."""
        period = booking.BookingPeriod()
        period.start_time.FromDatetime(self.clock.now())
        period.stop_time.FromDatetime(self.clock.now() + HOUR)
        asked = booking.BookingRequest(
            population=booking.Population(application_id="player", devices=devices),
            traffic=booking.BookedTraffic(flow_descriptions=[FLOW]),
            periods=[period],
            area_capabilities=[booking.AreaCapability(area_id="vienna", profile_id="radio")],
            outside=booking.OUTSIDE_POLICY_REFUSED if refused else booking.OUTSIDE_POLICY_BEST_EFFORT,
        )
        offered = await self.provider.bookings.RequestBooking(booking.RequestBookingRequest(request=asked))
        accepted = booking.AcceptOfferRequest(booking_id=offered.booking.booking_id)
        return (await self.provider.bookings.AcceptOffer(accepted)).booking

    async def move(self, metres: float) -> None:
        """The car is seen so far from the middle of the area."""
        self.clock.advance(timedelta(seconds=1))
        position = DevicePosition(device=CAR, point=north_of(metres), uncertainty_m=10)
        await self.platform.face().location.ReportPositions(ReportPositionsRequest(positions=[position]))

    async def use(self, made: booking.Booking, device: access.Device = CAR) -> access.DeviceAccess:
        """The car presents the network access ID of a booking."""
        (issued,) = made.network_access_ids
        request = access.CreateDeviceAccessRequest(network_access_id=issued.network_access_id, device=device)
        return (await self.client.accesses.CreateDeviceAccess(request)).device_access

    async def until(self, satisfied: Callable[[access.DeviceAccess], bool]) -> access.DeviceAccess:
        """What an access has become, as soon as that is what is waited for."""
        async with asyncio.timeout(20):
            async for answer in self.provider.bookings.WatchEvents(WatchEventsRequest()):
                changed = access.DeviceAccessChanged()
                if answer.event.type != "DEVICE_ACCESS_STATE" or not answer.event.payload.Unpack(changed):
                    continue
                if satisfied(changed.device_access) and await self._stands(changed.device_access):
                    return changed.device_access
        raise AssertionError

    async def _stands(self, seen: access.DeviceAccess) -> bool:
        request = access.GetDeviceAccessRequest(access_id=seen.access_id)
        return (await self.provider.accesses.GetDeviceAccess(request)).device_access.etag == seen.etag

    async def drive(self, packets: list[Captured]) -> dict[str, int]:
        """Bytes that have passed the UPF, by the server that they come from."""
        capture = captures.pcap(packets, link_type=captures.RAW, nanoseconds=True)

        async def pieces() -> AsyncIterator[ReplayRequest]:
            yield ReplayRequest(capture=capture, return_passed=True)

        response = await TrafficServiceStub(self.plane.channel("upf")).Replay(pieces())
        passed = dict.fromkeys((RADIO, ELSEWHERE), 0)
        capture_format = parse_header(response.passed[:24], source="passed")
        for record in read_records(memoryview(response.passed), capture_format, source="passed"):
            passed[".".join(str(each) for each in bytes(record.data)[12:16])] += len(record.data)
        return passed

    def traffic(self, *, radio_bps: int, elsewhere_bps: int, seconds: int = 5) -> list[Captured]:
        """What two servers send to the car at once, at constant rates, in an hour of its own."""
        self.hours += 1
        made = []
        for server, rate_bps in ((RADIO, radio_bps), (ELSEWHERE, elsewhere_bps)):
            gap_ns = SIZE * 8 * captures.SECOND_NS // rate_bps
            content = ipv4(server, UE, UDP, ports(443, 40_000, SIZE - 20))
            begin_ns = START_NS + self.hours * 3600 * captures.SECOND_NS
            made += [
                Captured(begin_ns + number * gap_ns, content, SIZE)
                for number in range(seconds * captures.SECOND_NS // gap_ns)
            ]
        return sorted(made, key=lambda packet: packet.ts_ns)

    async def rules(self) -> n4.Session:
        """What the UPF has of the car."""
        (session,) = (await N4ServiceStub(self.plane.channel("upf")).ListSessions(n4.ListSessionsRequest())).sessions
        return session


def source(packet: Captured) -> str:
    """The server that a packet comes from."""
    return ".".join(str(each) for each in packet.data[12:16])


def conforming(packets: Iterable[Captured], rate_bps: int) -> dict[str, int]:
    """What an independent bucket lets pass, by server."""
    bucket, passed = TokenBucket(rate_bps, BURST_BYTES[rate_bps]), dict.fromkeys((RADIO, ELSEWHERE), 0)
    for packet in packets:
        if bucket.take(packet.ts_ns, packet.wire_length):
            passed[source(packet)] += packet.wire_length
    return passed


def of(packets: Iterable[Captured], server: str) -> list[Captured]:
    """The packets of one server."""
    return [packet for packet in packets if source(packet) == server]


@asynccontextmanager
async def netapi_core(folder: Path, **settings: object) -> AsyncIterator[Core]:
    """All of it, the platform's clock being moved by hand; ``settings`` are further ones of its configuration."""
    clock = ManualClock(START)
    async with running(folder, real_upf=True) as plane:
        targets = {name: plane.address(name) for name in ("pcf", "smf")}
        config = NetapiSection(operator_token=OPERATOR_TOKEN, access_retry_s=0.1, **settings)  # type: ignore[arg-type]
        async with Platform(folder, clock=clock, targets=targets, config=config) as platform:
            made = Core(folder, plane, platform, clock)
            await made.furnish()
            yield made
