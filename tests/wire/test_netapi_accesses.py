"""What is booked, on packets: platform, PCF, SMF and the real UPF, inside area and period and outside."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from control_plane import UE
from netapi_core import (
    AMBR_BPS,
    CAR,
    ELSEWHERE,
    ENDED,
    GFBR_BPS,
    HOUR,
    IN_USE,
    MFBR_BPS,
    RADIO,
    SIZE,
    WAITING,
    Core,
    conforming,
    netapi_core,
    of,
)

from nf.common.errors import FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from nf.netapi.v1 import access_pb2 as access
from nf.netapi.v1 import booking_pb2 as booking

C = pytest.mark.clause("5G-MAG live media distribution C")


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[Core]:
    async with netapi_core(tmp_path) as made:
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


@C
async def test_what_the_network_loses_meanwhile_is_in_force_again_when_it_is_back(core: Core) -> None:
    made = await core.book()
    await core.move(0)
    used = await core.use(made)
    for function in ("upf", "pcf"):
        await core.plane.lay_down(function)
        if function == "upf":
            lost = await core.until(lambda each: each.state == access.DeviceAccess.STATE_INTERRUPTED)
            assert (lost.reason, lost.max_downlink_bps) == (access.DeviceAccess.REASON_NETWORK, 0)
        await core.plane.take_up(function)
        restored = await core.until(lambda each: each.state == IN_USE)
        assert (restored.app_session_id, restored.max_downlink_bps) == (used.app_session_id, MFBR_BPS)
        packets = core.traffic(radio_bps=2 * MFBR_BPS, elsewhere_bps=AMBR_BPS)
        assert (await core.drive(packets))[RADIO] == conforming(of(packets, RADIO), MFBR_BPS)[RADIO]


@C
async def test_a_device_that_detaches_leaves_nothing_and_gets_it_anew_when_it_attaches(core: Core) -> None:
    made = await core.book()
    await core.move(0)
    used = await core.use(made)
    await core.plane.detach()
    away = await core.until(lambda each: each.state == WAITING and each.app_session_id == "")
    assert away.reason == access.DeviceAccess.REASON_NOT_ATTACHED
    assert await core.plane.app_sessions() == {}
    await core.plane.attach(sm_context_ref="ue-2", ue_ipv4_address="10.45.0.7")
    back = await core.until(lambda each: each.state == IN_USE and each.app_session_id != used.app_session_id)
    assert (back.access_id, back.max_downlink_bps) == (used.access_id, MFBR_BPS)
    assert {pdr.pdi.ue_ip_address for pdr in (await core.rules()).pdrs} == {"10.45.0.7"}
