"""Device accesses: presented, provided for, changed and ended, with a PCF that answers as told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from netapi_access_stand import CAR, MBPS, QOD, Stand
from netapi_places import PHONE, START, SUPI, UE_ADDRESS

from nf.common.errors import InvalidArgument, NotFound, PermissionDenied, Unavailable
from nf.common.v1.types_pb2 import ProblemDetails
from nf.netapi.access_decision import Deed
from nf.netapi.errors import NetworkAccessDevicesExhausted, NetworkAccessIdInactive, NetworkAccessIdUnknown
from nf.netapi.v1.access_pb2 import AccessInstallation, Device, DeviceAccess, DeviceAccessChanged
from nf.netapi.v1.booking_pb2 import Booking
from nf.pcf.v1 import policy_authorization_pb2 as n5

C = pytest.mark.clause("5G-MAG live media distribution C")
RECONFIGURATION = pytest.mark.clause("5G-MAG live media distribution reconfiguration")
WAITING, IN_USE, ENDED = DeviceAccess.STATE_WAITING, DeviceAccess.STATE_IN_USE, DeviceAccess.STATE_ENDED
INTERRUPTED, WITHDRAWING = DeviceAccess.STATE_INTERRUPTED, DeviceAccess.STATE_WITHDRAWING


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    made = Stand(tmp_path)
    await made.book()
    await made.attach()
    await made.move(0)
    yield made
    await made.accesses.stop()
    await made.store.close()


@C
async def test_a_device_that_presents_the_id_inside_gets_what_is_booked(stand: Stand) -> None:
    access = await stand.accesses.create(QOD, CAR)
    assert access.state == IN_USE
    assert (access.max_downlink_bps, access.guaranteed_downlink_bps) == (2 * MBPS, MBPS)
    assert (access.inside_area, access.position_known, access.booking_id) == (True, True, "booking")
    assert access.app_session_id == f"{access.access_id}.1"
    assert list(stand.pcf.sessions) == [access.app_session_id]
    assert stand.changes == [("UNSPECIFIED", "WAITING"), ("WAITING", "INSTALLING"), ("INSTALLING", "IN_USE")]


@C
async def test_the_same_device_again_has_the_access_that_it_has(stand: Stand) -> None:
    first = await stand.accesses.create(QOD, CAR)
    for again in (CAR, Device(ipv4_address=UE_ADDRESS), Device(supi=SUPI)):
        assert await stand.accesses.create(QOD, again) == first
    assert stand.pcf.what == ["CREATE"]


@C
async def test_a_device_beyond_the_booked_number_is_refused_and_told_both_numbers(stand: Stand) -> None:
    await stand.accesses.create(QOD, CAR)
    waiting = await stand.accesses.create(QOD, Device(ipv4_address="10.45.0.3"))
    assert (waiting.state, waiting.reason) == (WAITING, DeviceAccess.REASON_NOT_ATTACHED)
    third = Device(ipv4_address="10.45.0.4")
    with pytest.raises(NetworkAccessDevicesExhausted, match="2 devices are booked, 2 use it") as refusal:
        await stand.accesses.create(QOD, third)
    assert refusal.value.code == "RESOURCE_EXHAUSTED"
    assert refusal.value.metadata == {"booked_devices": "2", "used_devices": "2"}
    await stand.accesses.delete(waiting.access_id)
    assert (await stand.accesses.create(QOD, third)).state == WAITING


@C
async def test_devices_that_come_at_once_never_get_more_places_than_are_booked(stand: Stand) -> None:
    await stand.book(devices=5)
    devices = [Device(ipv4_address=f"10.46.0.{number}") for number in range(1, 21)]
    outcomes = await asyncio.gather(
        *(stand.accesses.create(QOD, device) for device in (*devices, *devices)), return_exceptions=True
    )
    made = {each.access_id for each in outcomes if isinstance(each, DeviceAccess)}
    refused = [each for each in outcomes if isinstance(each, NetworkAccessDevicesExhausted)]
    # Each of the five has asked twice, and has one access.
    assert (len(made), len(refused)) == (5, 30)


@C
async def test_ids_that_are_unknown_or_no_longer_booked_are_refused(stand: Stand) -> None:
    with pytest.raises(NetworkAccessIdUnknown, match="'none' is unknown"):
        await stand.accesses.create("none", CAR)
    with pytest.raises(InvalidArgument, match="phone_number"):
        await stand.accesses.create(QOD, Device(phone_number="12"))
    await stand.book(active=False)
    with pytest.raises(NetworkAccessIdInactive, match="no longer booked"):
        await stand.accesses.create(QOD, CAR)
    await stand.book(state=Booking.STATE_RELEASED)
    with pytest.raises(NetworkAccessIdInactive, match="its booking is RELEASED"):
        await stand.accesses.create(QOD, CAR)
    assert stand.pcf.deeds == []
    assert await stand.store.read(lambda reader: reader.all(DeviceAccess)) == []


@C
async def test_leaving_the_area_withdraws_it_and_coming_back_installs_it_anew(stand: Stand) -> None:
    access_id = (await stand.accesses.create(QOD, CAR)).access_id
    await stand.move(5_000)
    assert (await stand.access()).state == WITHDRAWING
    await stand.converge()
    away = await stand.access()
    assert (away.state, away.reason, away.max_downlink_bps) == (WAITING, DeviceAccess.REASON_OUTSIDE_AREA, 0)
    assert stand.pcf.sessions == {}
    await stand.move(100)
    await stand.converge()
    assert (await stand.access()).state == IN_USE
    # Every installation has an identifier of its own, by which its usage is told apart.
    assert stand.pcf.deeds == [
        (Deed.CREATE, f"{access_id}.1"),
        (Deed.DELETE, f"{access_id}.1"),
        (Deed.CREATE, f"{access_id}.2"),
    ]
    types = [event.type for event in await stand.events() if event.type.startswith("AREA")]
    assert types == ["AREA_ENTERED", "AREA_LEFT", "AREA_ENTERED"]


@C
@pytest.mark.clause("5G-MAG live media distribution notifications")
async def test_the_provider_is_told_of_every_state_without_the_supi(stand: Stand) -> None:
    access = await stand.accesses.create(QOD, Device(phone_number=PHONE, supi=SUPI))
    await stand.accesses.delete(access.access_id)
    told = [event for event in await stand.events() if event.type == "DEVICE_ACCESS_STATE"]
    states = []
    for event in told:
        assert (event.subject, event.source) == (f"bookings/booking/accesses/{access.access_id}", "netapi")
        assert list(event.audience) == ["agreement/radio"]
        changed = DeviceAccessChanged()
        assert event.payload.Unpack(changed)
        assert changed.device_access.device == CAR
        states.append(DeviceAccess.State.Name(changed.device_access.state)[6:])
    assert states == ["WAITING", "INSTALLING", "IN_USE", "WITHDRAWING", "ENDED"]


@C
async def test_a_booking_between_its_periods_or_suspended_gives_nothing(stand: Stand) -> None:
    await stand.book(state=Booking.STATE_BOOKED)
    early = await stand.accesses.create(QOD, CAR)
    assert (early.state, early.reason) == (WAITING, DeviceAccess.REASON_OUTSIDE_PERIOD)
    await stand.book()
    await stand.converge()
    assert (await stand.access()).state == IN_USE
    await stand.book(state=Booking.STATE_SUSPENDED)
    await stand.converge()
    suspended = await stand.access()
    assert (suspended.state, suspended.reason) == (WAITING, DeviceAccess.REASON_SUSPENDED)
    assert stand.pcf.sessions == {}


@pytest.mark.clause("5G-MAG live media distribution D.1")
async def test_a_booking_that_is_given_back_ends_every_access_and_nothing_stays(stand: Stand) -> None:
    await stand.accesses.create(QOD, CAR)
    await stand.book(state=Booking.STATE_RELEASED)
    await stand.converge()
    ended = await stand.access()
    assert (ended.state, ended.reason) == (ENDED, DeviceAccess.REASON_BOOKING_ENDED)
    assert stand.pcf.sessions == {}
    # What it has used in all goes to who counts, before the access is ended.
    ((access_id, told, at),) = stand.usage
    assert (access_id, told.zero_rated_bytes, at) == (ended.access_id, 1500, START)


@RECONFIGURATION
async def test_a_reconfiguration_changes_what_is_in_force_without_a_gap(stand: Stand) -> None:
    access = await stand.accesses.create(QOD, CAR)
    stand.changes.clear()
    await stand.book(downlink_bps=4 * MBPS)
    await stand.converge()
    after = await stand.access()
    assert (after.state, after.max_downlink_bps) == (IN_USE, 4 * MBPS)
    assert after.app_session_id == access.app_session_id
    assert stand.pcf.what == ["CREATE", "UPDATE"]
    assert stand.changes == [("IN_USE", "IN_USE")]


@RECONFIGURATION
async def test_late_news_of_what_was_in_force_before_change_nothing(stand: Stand) -> None:
    await stand.accesses.create(QOD, CAR)
    await stand.book(downlink_bps=4 * MBPS)
    await stand.converge()
    before = n5.Enforcement(enforcement_bit_rate_dl_bps=2 * MBPS)
    active = n5.AppSession.STATE_ACTIVE
    await stand.told(n5.AF_EVENT_SUCCESSFUL_RESOURCES_ALLOCATION, state=active, enforcement=before, revision=1)
    assert (await stand.access()).max_downlink_bps == 4 * MBPS
    decided_anew = n5.Enforcement(enforcement_bit_rate_dl_bps=3 * MBPS)
    await stand.told(n5.AF_EVENT_SUCCESSFUL_RESOURCES_ALLOCATION, state=active, enforcement=decided_anew, revision=3)
    assert (await stand.access()).max_downlink_bps == 3 * MBPS


@RECONFIGURATION
async def test_after_a_reconfiguration_to_fewer_devices_the_oldest_keep_it(stand: Stand) -> None:
    await stand.attach(ref="ue2", supi="imsi-232010000000002", gpsi="msisdn-431", ipv4_address="10.45.0.3")
    await stand.move(0, key="imsi-232010000000002")
    first = await stand.accesses.create(QOD, CAR)
    second = await stand.accesses.create(QOD, Device(ipv4_address="10.45.0.3"))
    assert second.state == IN_USE
    await stand.book(devices=1)
    await stand.converge()
    assert (await stand.accesses.get(first.access_id)).state == IN_USE
    beyond = await stand.accesses.get(second.access_id)
    assert (beyond.state, beyond.reason) == (WAITING, DeviceAccess.REASON_NO_LONGER_BOOKED)
    await stand.book(devices=2)
    await stand.converge()
    assert (await stand.accesses.get(second.access_id)).state == IN_USE


@C
async def test_the_place_of_a_device_that_ends_goes_to_the_next_one(stand: Stand) -> None:
    await stand.attach(ref="ue2", supi="imsi-232010000000002", gpsi="msisdn-431", ipv4_address="10.45.0.3")
    await stand.move(0, key="imsi-232010000000002")
    first = await stand.accesses.create(QOD, CAR)
    second = await stand.accesses.create(QOD, Device(ipv4_address="10.45.0.3"))
    await stand.book(devices=1)
    await stand.converge()
    await stand.accesses.delete(first.access_id)
    await stand.converge()
    assert (await stand.accesses.get(second.access_id)).state == IN_USE


@C
async def test_where_it_is_booked_so_traffic_outside_is_stopped_and_opened_again(stand: Stand) -> None:
    await stand.book(refused=True)
    await stand.move(5_000)
    access = await stand.accesses.create(QOD, CAR)
    assert (access.state, access.reason) == (WAITING, DeviceAccess.REASON_OUTSIDE_AREA)
    (session,) = stand.pcf.sessions.values()
    assert session.med_components[0].f_status == n5.FLOW_STATUS_DISABLED
    await stand.move(0)
    await stand.converge()
    assert (await stand.access()).state == IN_USE
    (session,) = stand.pcf.sessions.values()
    assert session.med_components[0].f_status == n5.FLOW_STATUS_UNSPECIFIED
    assert stand.pcf.what == ["CREATE", "UPDATE"]


@C
async def test_a_device_is_provided_for_when_it_attaches_and_nothing_stays_when_it_detaches(stand: Stand) -> None:
    await stand.detach()
    access = await stand.accesses.create(QOD, CAR)
    assert (access.state, access.reason) == (WAITING, DeviceAccess.REASON_NOT_ATTACHED)
    await stand.attach()
    await stand.converge()
    assert (await stand.access()).state == IN_USE
    await stand.detach()
    await stand.converge()
    assert (await stand.access()).reason == DeviceAccess.REASON_NOT_ATTACHED
    assert stand.pcf.sessions == {}


@C
async def test_a_device_that_is_away_for_too_long_gives_its_place_to_another(stand: Stand) -> None:
    access = await stand.accesses.create(QOD, CAR)
    await stand.detach()
    await stand.converge()
    stand.clock.advance(timedelta(seconds=3599))
    await stand.converge()
    assert (await stand.access()).state == WAITING
    stand.clock.advance(timedelta(seconds=1))
    await stand.converge()
    ended = await stand.accesses.get(access.access_id)
    assert (ended.state, ended.reason) == (ENDED, DeviceAccess.REASON_NOT_ATTACHED)
    # A place is free at once, and one that was never attached does not keep it either.
    for address in ("10.45.0.3", "10.45.0.4"):
        await stand.accesses.create(QOD, Device(ipv4_address=address))
    stand.clock.advance(timedelta(hours=1))
    await stand.converge()
    assert (await stand.accesses.create(QOD, CAR)).state == WAITING


@C
async def test_a_device_that_comes_back_in_time_keeps_its_place(stand: Stand) -> None:
    await stand.accesses.create(QOD, CAR)
    await stand.detach()
    await stand.converge()
    stand.clock.advance(timedelta(seconds=3599))
    await stand.attach()
    stand.clock.advance(timedelta(seconds=10))
    await stand.converge()
    assert (await stand.access()).state == IN_USE


@C
async def test_an_address_that_another_ue_has_got_is_not_taken_for_the_first_one(stand: Stand) -> None:
    await stand.accesses.create(QOD, Device(ipv4_address=UE_ADDRESS))
    await stand.detach()
    await stand.attach(ref="ue9", supi="imsi-232010000000009", gpsi="msisdn-439")
    await stand.move(0, key="imsi-232010000000009")
    await stand.converge()
    access = await stand.access()
    assert (access.state, access.reason) == (WAITING, DeviceAccess.REASON_NOT_ATTACHED)
    await stand.attach(ref="ue1", ipv4_address="10.45.0.7")
    await stand.converge()
    (session,) = stand.pcf.sessions.values()
    assert (session.supi, session.ue_ipv4) == (SUPI, "10.45.0.7")


@C
async def test_a_device_known_by_its_address_only_is_recognised_when_it_attaches(stand: Stand) -> None:
    second = {"ref": "ue2", "supi": "imsi-232010000000002", "gpsi": "msisdn-431", "ipv4_address": "10.45.0.3"}
    by_address = await stand.accesses.create(QOD, Device(ipv4_address="10.45.0.3"))
    by_number = await stand.accesses.create(QOD, Device(phone_number="+43166"))
    await stand.attach(**{**second, "gpsi": "msisdn-43166"})
    await stand.move(0, key="imsi-232010000000002")
    await stand.converge()
    states = [(await stand.accesses.get(each.access_id)).state for each in (by_address, by_number)]
    # One device has one access.
    assert sorted(states) == sorted([IN_USE, ENDED])


@C
async def test_what_the_network_refuses_is_told_and_asked_again(stand: Stand) -> None:
    stand.pcf.fails = [PermissionDenied("too much", reason="REQUESTED_SERVICE_NOT_AUTHORIZED")]
    access = await stand.accesses.create(QOD, CAR)
    assert (access.state, access.reason) == (INTERRUPTED, DeviceAccess.REASON_NETWORK)
    assert (access.problem.detail, access.problem.status) == ("too much", 403)
    # A position does not hurry it.
    await stand.move(10)
    await stand.converge()
    assert stand.pcf.what == ["CREATE"]
    stand.clock.advance(timedelta(seconds=5))
    await stand.converge()
    after = await stand.access()
    assert (after.state, after.HasField("problem")) == (IN_USE, False)


@RECONFIGURATION
async def test_a_change_that_the_network_refuses_leaves_what_was_in_force(stand: Stand) -> None:
    await stand.accesses.create(QOD, CAR)
    stand.pcf.fails = [PermissionDenied("too much")]
    await stand.book(downlink_bps=4 * MBPS)
    await stand.converge()
    refused = await stand.access()
    assert (refused.state, refused.max_downlink_bps) == (INTERRUPTED, 2 * MBPS)
    await stand.book()
    await stand.converge()
    assert ((await stand.access()).state, stand.pcf.what) == (IN_USE, ["CREATE", "UPDATE", "UPDATE"])


@C
async def test_an_answer_that_is_lost_is_asked_for_again_by_the_same_name(stand: Stand) -> None:
    stand.pcf.loses = [Unavailable("lost")]
    access = await stand.accesses.create(QOD, CAR)
    assert access.state == INTERRUPTED
    stand.clock.advance(timedelta(seconds=5))
    await stand.converge()
    assert (await stand.access()).state == IN_USE
    assert len(stand.pcf.sessions) == 1
    stand.pcf.loses = [Unavailable("lost")]
    assert (await stand.accesses.delete(access.access_id)).state == WITHDRAWING
    stand.clock.advance(timedelta(seconds=5))
    await stand.converge()
    assert ((await stand.access()).state, stand.pcf.sessions) == (ENDED, {})


@C
async def test_what_was_lost_and_is_wanted_otherwise_meanwhile_is_changed(stand: Stand) -> None:
    stand.pcf.loses = [Unavailable("lost")]
    await stand.accesses.create(QOD, CAR)
    await stand.book(downlink_bps=4 * MBPS)
    await stand.converge()
    assert (await stand.access()).max_downlink_bps == 4 * MBPS
    assert stand.pcf.what == ["CREATE", "CREATE", "UPDATE"]


@C
async def test_leaving_while_the_network_is_being_asked_leaves_nothing_behind(stand: Stand) -> None:
    stand.pcf.meanwhile = [lambda: stand.move(5_000)]
    access = await stand.accesses.create(QOD, CAR)
    assert (access.state, access.reason) == (WAITING, DeviceAccess.REASON_OUTSIDE_AREA)
    assert (stand.pcf.what, stand.pcf.sessions) == (["CREATE", "DELETE"], {})


@C
async def test_coming_back_while_it_is_being_withdrawn_installs_it_anew(stand: Stand) -> None:
    await stand.accesses.create(QOD, CAR)
    await stand.move(5_000)
    stand.pcf.meanwhile = [lambda: stand.move(0)]
    await stand.converge()
    assert ((await stand.access()).state, stand.pcf.what) == (IN_USE, ["CREATE", "DELETE", "CREATE"])


@C
async def test_a_user_plane_that_is_away_interrupts_it_until_it_is_back(stand: Stand) -> None:
    await stand.accesses.create(QOD, CAR)
    problem = ProblemDetails(title="user plane away")
    away, active = n5.AppSession.STATE_INTERRUPTED, n5.AppSession.STATE_ACTIVE
    await stand.told(n5.AF_EVENT_FAILED_RESOURCES_ALLOCATION, state=away, problem=problem)
    access = await stand.access()
    assert (access.state, access.problem.title, access.max_downlink_bps) == (INTERRUPTED, "user plane away", 0)
    await stand.converge()
    # The PCF restores it by itself.
    assert stand.pcf.what == ["CREATE"]
    enforcement = n5.Enforcement(enforcement_bit_rate_dl_bps=2 * MBPS)
    await stand.told(n5.AF_EVENT_SUCCESSFUL_RESOURCES_ALLOCATION, state=active, enforcement=enforcement, revision=1)
    access = await stand.access()
    assert (access.state, access.max_downlink_bps) == (IN_USE, 2 * MBPS)


@C
@pytest.mark.parametrize("event", [n5.AF_EVENT_PDU_SESSION_STATUS, n5.AF_EVENT_FAILED_RESOURCES_ALLOCATION])
async def test_a_session_that_the_pcf_has_ended_is_made_anew(stand: Stand, event: n5.AfEvent.ValueType) -> None:
    await stand.accesses.create(QOD, CAR)
    await stand.told(event, state=n5.AppSession.STATE_TERMINATED)
    assert (await stand.access()).state == INTERRUPTED
    await stand.converge()
    access = await stand.access()
    assert (access.state, access.app_session_id[-2:]) == (IN_USE, ".2")
    assert stand.pcf.what == ["CREATE", "DELETE", "CREATE"]


@C
async def test_a_session_that_the_pcf_does_not_know_any_more_is_made_anew(stand: Stand) -> None:
    await stand.accesses.create(QOD, CAR)
    stand.pcf.sessions.clear()
    await stand.book(downlink_bps=4 * MBPS)
    await stand.converge()
    assert ((await stand.access()).state, stand.pcf.what) == (IN_USE, ["CREATE", "UPDATE", "DELETE", "CREATE"])


@C
async def test_what_the_pcf_has_lost_while_nobody_listened_is_made_anew(stand: Stand) -> None:
    await stand.accesses.create(QOD, CAR)
    await stand.accesses.installing.align()
    assert (await stand.access()).state == IN_USE
    stand.pcf.sessions.clear()
    await stand.accesses.installing.align()
    assert (await stand.access()).state == INTERRUPTED
    await stand.converge()
    assert ((await stand.access()).state, stand.pcf.what) == (IN_USE, ["CREATE", "DELETE", "CREATE"])


@C
async def test_what_the_pcf_no_longer_or_again_enforces_is_found_out(stand: Stand) -> None:
    await stand.accesses.create(QOD, CAR)
    for state, found, downlink_bps in (
        (n5.AppSession.STATE_INTERRUPTED, INTERRUPTED, 0),
        (n5.AppSession.STATE_ACTIVE, IN_USE, 2 * MBPS),
    ):
        stand.pcf.state = state
        await stand.accesses.installing.align()
        await stand.accesses.installing.align()
        access = await stand.access()
        assert (access.state, access.max_downlink_bps) == (found, downlink_bps)
    assert stand.pcf.what == ["CREATE"]


@pytest.mark.clause("5G-MAG live media distribution monitor")
async def test_usage_goes_to_who_counts_and_late_news_of_an_older_session_change_nothing(stand: Stand) -> None:
    access = await stand.accesses.create(QOD, CAR)
    await stand.told(n5.AF_EVENT_USAGE_REPORT, zero_rated_bytes=7)
    ((access_id, told, at),) = stand.usage
    assert (access_id, told.zero_rated_bytes, at) == (access.access_id, 7, START)
    late = n5.EventNotification(
        app_session_id=f"{access.access_id}.0",
        event=n5.AF_EVENT_PDU_SESSION_STATUS,
        state=n5.AppSession.STATE_TERMINATED,
    )
    others = n5.EventNotification(app_session_id="of the AF", event=n5.AF_EVENT_USAGE_REPORT)
    for each in (late, others):
        await stand.store.write(lambda tx, each=each: stand.accesses.installing.on_notification(tx, each, START))
    assert ((await stand.access()).state, len(stand.usage)) == (IN_USE, 1)


@C
async def test_an_end_can_be_read_for_a_while_and_ending_again_is_harmless(stand: Stand) -> None:
    access = await stand.accesses.create(QOD, CAR)
    await stand.accesses.start()
    ended = await stand.accesses.delete(access.access_id)
    assert (ended.state, ended.reason) == (ENDED, DeviceAccess.REASON_RELEASED)
    assert await stand.accesses.delete(access.access_id) == ended
    stand.clock.advance(timedelta(seconds=3599))
    assert (await stand.accesses.create(QOD, CAR)).access_id != access.access_id
    await stand.clock.until_asleep()
    stand.clock.advance(timedelta(seconds=1))
    async with asyncio.timeout(5):
        while len(await stand.store.read(lambda reader: reader.all(DeviceAccess))) > 1:  # noqa: ASYNC110
            await asyncio.sleep(0)
    with pytest.raises(NotFound):
        await stand.accesses.get(access.access_id)
    kept = await stand.store.read(lambda reader: reader.all(AccessInstallation))
    assert [each.access_id for each in kept] != [access.access_id]


@C
@pytest.mark.parametrize("lost_before_answer", [True, False])
async def test_a_restart_finds_what_was_under_way(stand: Stand, lost_before_answer: bool) -> None:
    if lost_before_answer:
        stand.pcf.loses = [Unavailable("killed")]
    else:
        stand.pcf.fails = [Unavailable("killed")]
    access = await stand.accesses.create(QOD, CAR)
    await stand.restart(running=True)
    await stand.clock.until_asleep()
    stand.clock.advance(timedelta(seconds=5))
    async with asyncio.timeout(5):
        while (await stand.access()).state != IN_USE:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert list(stand.pcf.sessions) == [f"{access.access_id}.1"]


async def test_accesses_are_listed_by_booking_and_by_id(stand: Stand) -> None:
    first = await stand.accesses.create(QOD, CAR)
    second = await stand.accesses.create(QOD, Device(ipv4_address="10.45.0.3"))
    page = await stand.accesses.page("booking", page_size=1)
    assert [each.access_id for each in page.items] == [first.access_id]
    page = await stand.accesses.page("booking", page_size=1, page_token=page.next_page_token)
    assert ([each.access_id for each in page.items], page.next_page_token) == ([second.access_id], "")
    assert len((await stand.accesses.page("booking", network_access_id=QOD)).items) == 2
    assert (await stand.accesses.page("booking", network_access_id="another")).items == []
