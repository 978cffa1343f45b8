"""What is booked, on packets: platform, PCF, SMF and the real UPF, inside area and period and outside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import timedelta
from pathlib import Path

import captures
import pytest
from captures import START_NS, UDP, Captured, ipv4, ports
from control_plane import GPSI, UE, ControlPlane, running
from netapi_places import circle, north_of
from netapi_platform import OPERATOR_TOKEN, START, Face, Platform

from nf.common.clock import ManualClock
from nf.common.errors import FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from nf.common.v1.events_pb2 import Event, WatchEventsRequest
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

C = pytest.mark.clause("5G-MAG live media distribution C")
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
                told: Event = answer.event
                if told.type == "DEVICE_ACCESS_STATE" and told.payload.Unpack(changed):
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


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[Core]:
    clock = ManualClock(START)
    async with running(tmp_path, real_upf=True) as plane:
        targets = {name: plane.address(name) for name in ("pcf", "smf")}
        config = NetapiSection(operator_token=OPERATOR_TOKEN, access_retry_s=0.1)
        async with Platform(tmp_path, clock=clock, targets=targets, config=config) as platform:
            made = Core(tmp_path, plane, platform, clock)
            await made.furnish()
            yield made


@C
@pytest.mark.clause(
    "5G-MAG live media distribution B.1 a QoD", "5G-MAG live media distribution B.1 geographical location"
)
@pytest.mark.clause("TS 23.501 §5.7.1.8")
async def test_inside_the_mfbr_is_policed_and_the_gfbr_kept_outside_all_share_the_session_ambr(core: Core) -> None:
    made = await core.book()
    await core.move(0)
    used = await core.use(made)
    assert (used.state, used.max_downlink_bps, used.guaranteed_downlink_bps) == (IN_USE, MFBR_BPS, GFBR_BPS)

    # Best-effort traffic has exhausted the session-AMBR; what is booked passes all the same, to the last byte.
    packets = core.traffic(radio_bps=GFBR_BPS, elsewhere_bps=4 * AMBR_BPS)
    best_effort = conforming(of(packets, ELSEWHERE), AMBR_BPS)[ELSEWHERE]
    assert best_effort < sum(packet.wire_length for packet in of(packets, ELSEWHERE)) // 3
    assert await core.drive(packets) == {RADIO: len(of(packets, RADIO)) * SIZE, ELSEWHERE: best_effort}

    # More than is booked is dropped.
    packets = core.traffic(radio_bps=2 * MFBR_BPS, elsewhere_bps=4 * AMBR_BPS)
    policed = conforming(of(packets, RADIO), MFBR_BPS)[RADIO]
    assert policed < len(of(packets, RADIO)) * SIZE * 6 // 10
    best_effort = conforming(of(packets, ELSEWHERE), AMBR_BPS)[ELSEWHERE]
    assert await core.drive(packets) == {RADIO: policed, ELSEWHERE: best_effort}

    await core.move(5_000)
    left = await core.until(lambda each: each.state == WAITING and each.app_session_id == "")
    assert left.reason == access.DeviceAccess.REASON_OUTSIDE_AREA
    packets = core.traffic(radio_bps=GFBR_BPS, elsewhere_bps=4 * AMBR_BPS)
    shared = conforming(packets, AMBR_BPS)
    assert shared[RADIO] < len(of(packets, RADIO)) * SIZE // 2
    assert await core.drive(packets) == shared


@C
async def test_where_it_is_booked_so_the_traffic_of_a_device_outside_is_stopped(core: Core) -> None:
    made = await core.book(refused=True)
    await core.move(5_000)
    used = await core.use(made)
    assert (used.state, used.reason) == (WAITING, access.DeviceAccess.REASON_OUTSIDE_AREA)
    packets = core.traffic(radio_bps=GFBR_BPS, elsewhere_bps=AMBR_BPS // 2)
    assert await core.drive(packets) == {RADIO: 0, ELSEWHERE: len(of(packets, ELSEWHERE)) * SIZE}
    await core.move(0)
    await core.until(lambda each: each.state == IN_USE)
    packets = core.traffic(radio_bps=GFBR_BPS, elsewhere_bps=AMBR_BPS // 2)
    assert (await core.drive(packets))[RADIO] == len(of(packets, RADIO)) * SIZE


@C
@pytest.mark.clause("5G-MAG live media distribution reconfiguration")
async def test_a_running_session_changes_to_the_new_rates_without_a_gap(core: Core) -> None:
    made = await core.book()
    await core.move(0)
    used = await core.use(made)
    before = await core.rules()
    wanted = booking.BookingRequest(area_capabilities=[booking.AreaCapability(area_id="vienna", profile_id="radio-hd")])
    request = booking.ReconfigureBookingRequest(booking_id=made.booking_id, request=wanted)
    request.update_mask.paths.append("area_capabilities")
    await core.provider.bookings.ReconfigureBooking(request)
    accepted = await core.provider.bookings.AcceptOffer(booking.AcceptOfferRequest(booking_id=made.booking_id))
    assert accepted.booking.network_access_ids[0].network_access_id == made.network_access_ids[0].network_access_id
    changed = await core.until(lambda each: each.max_downlink_bps == 2 * MFBR_BPS)
    assert (changed.state, changed.app_session_id) == (IN_USE, used.app_session_id)
    after = await core.rules()
    # The same rules count on; only the bit rate is another one.
    assert (after.pdrs, after.urrs) == (before.pdrs, before.urrs)
    packets = core.traffic(radio_bps=4 * MFBR_BPS, elsewhere_bps=AMBR_BPS)
    assert (await core.drive(packets))[RADIO] == conforming(of(packets, RADIO), 2 * MFBR_BPS)[RADIO]


@C
@pytest.mark.clause("5G-MAG live media distribution B.1 schedule", "5G-MAG live media distribution D.1")
async def test_when_the_booking_is_over_nothing_stays_in_the_upf(core: Core) -> None:
    plain = await core.rules()
    for ends in ("period", "release"):
        made = await core.book()
        await core.move(0)
        assert (await core.use(made)).state == IN_USE
        assert len((await core.rules()).pdrs) > len(plain.pdrs)
        if ends == "period":
            core.clock.advance(HOUR)
        else:
            released = booking.ReleaseBookingRequest(booking_id=made.booking_id)
            await core.provider.bookings.ReleaseBooking(released)
        over = await core.until(lambda each, made=made: each.state == ENDED and each.booking_id == made.booking_id)
        assert over.reason == access.DeviceAccess.REASON_BOOKING_ENDED
        assert await core.rules() == plain
        assert await core.plane.app_sessions() == {}


@C
@pytest.mark.clause("5G-MAG live media distribution B.4")
async def test_devices_show_their_network_access_id_and_providers_their_credential(core: Core) -> None:
    made = await core.book(devices=1)
    (issued,) = made.network_access_ids
    shown = issued.network_access_id
    resolved = await core.client.accesses.ResolveNetworkAccessId(
        access.ResolveNetworkAccessIdRequest(network_access_id=shown)
    )
    assert (resolved.network_access_id.dnn, resolved.network_access_id.qos.max_downlink_bps) == ("internet", MFBR_BPS)
    assert resolved.state == booking.Booking.STATE_ACTIVE
    assert resolved.current_period.stop_time.ToDatetime() - resolved.current_period.start_time.ToDatetime() == HOUR
    used = await core.use(made)
    # By whichever name, it is the same device.
    assert await core.use(made, access.Device(ipv4_address=UE)) == used
    with pytest.raises(ResourceExhausted, match="1 devices are booked, 1 use it") as refusal:
        await core.use(made, access.Device(ipv4_address="10.45.0.99"))
    assert refusal.value.reason == "NETWORK_ACCESS_DEVICES_EXHAUSTED"
    assert refusal.value.metadata["booked_devices"] == "1"
    for network_access_id in ("none", ""):
        request = access.CreateDeviceAccessRequest(network_access_id=network_access_id, device=CAR)
        with pytest.raises(NotFound):
            await core.client.accesses.CreateDeviceAccess(request)

    own = access.GetDeviceAccessRequest(access_id=used.access_id, network_access_id=shown)
    assert (await core.client.accesses.GetDeviceAccess(own)).device_access == used
    plain = access.GetDeviceAccessRequest(access_id=used.access_id)
    assert (await core.provider.accesses.GetDeviceAccess(plain)).device_access == used
    rival = await core.platform.provider("rival")
    for face, request in (
        (rival, plain),
        (core.client, access.GetDeviceAccessRequest(access_id=used.access_id, network_access_id="other")),
    ):
        with pytest.raises(NotFound):
            await face.accesses.GetDeviceAccess(request)
    listing = access.ListDeviceAccessesRequest(booking_id=made.booking_id)
    assert list((await core.provider.accesses.ListDeviceAccesses(listing)).device_accesses) == [used]
    by_id = access.ListDeviceAccessesRequest(network_access_id=shown)
    assert list((await core.provider.accesses.ListDeviceAccesses(by_id)).device_accesses) == [used]
    with pytest.raises(NotFound):
        await rival.accesses.ListDeviceAccesses(listing)
    with pytest.raises(InvalidArgument, match="expected a booking_id or a network_access_id, found neither"):
        await core.provider.accesses.ListDeviceAccesses(access.ListDeviceAccessesRequest())

    ended = access.DeleteDeviceAccessRequest(access_id=used.access_id, network_access_id=shown)
    assert (await core.client.accesses.DeleteDeviceAccess(ended)).device_access.state == ENDED
    assert await core.plane.app_sessions() == {}
    # Without a device it is the one that calls.
    caller = await core.client.accesses.CreateDeviceAccess(access.CreateDeviceAccessRequest(network_access_id=shown))
    assert caller.device_access.device.ipv4_address == "127.0.0.1"
    await core.provider.bookings.ReleaseBooking(booking.ReleaseBookingRequest(booking_id=made.booking_id))
    with pytest.raises(FailedPrecondition, match="its booking is RELEASED"):
        await core.use(made)
