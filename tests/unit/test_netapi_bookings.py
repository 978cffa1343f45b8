"""Bookings step by step: what is offered, accepted, changed, withheld and given back, with time moved by hand."""

from __future__ import annotations

import re

import pytest
from booking_stack import (
    HOUR,
    KBPS,
    MINUTE,
    OTHER,
    PROVIDER,
    START,
    VALIDITY,
    ids_of,
    offered,
    period,
    platform,
    request,
    state_of,
)
from google.protobuf.field_mask_pb2 import FieldMask

from nf.common.clock import ManualClock
from nf.common.errors import AlreadyExists, EtagMismatch, InvalidArgument, NotFound
from nf.common.machine import InvalidTransition
from nf.netapi.calendar import Load
from nf.netapi.callers import OPERATOR
from nf.netapi.errors import (
    AgreementLimitExceeded,
    AgreementNeeded,
    BookingQuotaExceeded,
    BookingUnchangeable,
    NothingToOffer,
    OfferLapsed,
    OfferSuperseded,
    OperatorOnly,
)
from nf.netapi.v1.booking_pb2 import AreaCapability, BookedTraffic, BookingRequest, Population
from nf.netapi.v1.coverage_pb2 import AreaCapacity, CapabilityProfile, QosProfile, ServiceArea

ALL = FieldMask()


@pytest.mark.clause("5G-MAG live media distribution B.1", "5G-MAG live media distribution B.2")
async def test_a_request_is_answered_with_an_offer_that_is_held_and_priced() -> None:
    async with platform() as p:
        made = await p.bookings.request(
            PROVIDER, request(areas=(("city", "audio"), ("valley", "editorial")), devices=4)
        )
        assert state_of(made) == "OFFERED"
        assert made.offer.revision == 1
        assert not made.offer.counter_offer
        assert [(line.area_id, line.offered_devices, line.price_units) for line in made.offer.lines] == [
            ("city", 4, 28),
            ("valley", 4, 4),
        ]
        assert made.offer.total_price_units == 32
        assert made.offer.valid_until.ToDatetime(START.tzinfo) == START + VALIDITY
        assert await p.taken("city", START + HOUR) == Load(400 * KBPS, 0, 4)
        assert await p.taken("city", START + 2 * HOUR) == Load()
        assert await p.walked(made.booking_id) == ["REQUESTED", "OFFERED"]


@pytest.mark.clause("5G-MAG live media distribution B.2")
async def test_where_a_request_does_not_fit_fewer_devices_are_offered_by_area_and_period_and_why() -> None:
    async with platform() as p:
        first = period(START + HOUR, START + 2 * HOUR)
        await p.bookings.request(OTHER, request(first, devices=8))
        later = period(START + 3 * HOUR, START + 4 * HOUR)
        made = await p.bookings.request(
            PROVIDER, request(first, later, areas=(("city", "audio"), ("sea", "audio")), devices=5)
        )
        lines = [
            (each.area_id, each.requested_devices, each.offered_devices, each.limited_by) for each in made.offer.lines
        ]
        assert lines == [
            ("city", 5, 2, "CAPACITY_DOWNLINK"),
            ("city", 5, 5, ""),
            ("sea", 5, 5, ""),
            ("sea", 5, 5, ""),
        ]
        assert made.offer.counter_offer
        assert [each.price_units for each in made.offer.lines] == [14, 35, 35, 35]
        accepted = await p.bookings.accept(PROVIDER, made.booking_id)
        assert {each.area_id: each.devices for each in accepted.network_access_ids} == {"city": 2, "sea": 5}


async def test_a_price_or_bit_rate_that_nobody_can_count_is_refused() -> None:
    async with platform() as p:
        dear = CapabilityProfile(profile_id="dear", price_units_per_device_hour=2**63)
        wide = CapabilityProfile(profile_id="wide", qos=QosProfile(five_qi=2, guaranteed_downlink_bps=10**12))
        await p.furnish((), (dear, wide), ())
        for name, expected in (("dear", "a price of less than 2^63 units"), ("wide", "at most 1000000000000000 bps")):
            with pytest.raises(InvalidArgument, match=rf"area_capabilities\[0\]: expected {re.escape(expected)}"):
                await p.bookings.request(PROVIDER, request(areas=(("sea", name),), devices=2000))


async def test_two_capabilities_of_one_area_share_what_there_is() -> None:
    async with platform() as p:
        made = await p.bookings.request(PROVIDER, request(areas=(("city", "audio", 6), ("city", "audio-hd", 3))))
        assert offered(made) == [6, 1]
        limited = await p.bookings.request(OTHER, request(areas=(("city", "editorial", 200),)))
        assert [(line.offered_devices, line.limited_by) for line in limited.offer.lines] == [(93, "CAPACITY_DEVICES")]


@pytest.mark.clause("5G-MAG live media distribution B.2")
async def test_where_nothing_fits_the_booking_is_declined_and_says_why() -> None:
    async with platform() as p:
        await p.bookings.request(OTHER, request(devices=10))
        made = await p.bookings.request(PROVIDER, request(devices=1))
        assert state_of(made) == "DECLINED"
        assert made.problem.cause == "CAPACITY_DOWNLINK"
        assert made.problem.detail == (
            "area 'city' has no room for a device of 'audio' from 2026-06-01T09:00:00Z to 2026-06-01T10:00:00Z"
            " (CAPACITY_DOWNLINK)"
        )
        assert await p.walked(made.booking_id) == ["REQUESTED", "DECLINED"]
        with pytest.raises(InvalidTransition, match="ACCEPT is not possible in state DECLINED"):
            await p.bookings.accept(PROVIDER, made.booking_id)


@pytest.mark.clause("5G-MAG live media distribution B.3", "5G-MAG live media distribution B.4")
async def test_an_acceptance_issues_one_opaque_id_for_each_area_and_capability() -> None:
    async with platform() as p:
        made = await p.bookings.request(
            PROVIDER, request(areas=(("city", "audio"), ("city", "editorial"), ("sea", "audio")))
        )
        accepted = await p.bookings.accept(PROVIDER, made.booking_id, 1)
        assert state_of(accepted) == "BOOKED"
        assert accepted.accepted_offer == made.offer
        assert not accepted.HasField("offer")
        ids = accepted.network_access_ids
        assert [(each.area_id, each.profile_id, each.active, each.devices) for each in ids] == [
            ("city", "audio", True, 3),
            ("city", "editorial", True, 3),
            ("sea", "audio", True, 3),
        ]
        assert all(len(each.network_access_id) == 32 and made.booking_id not in each.network_access_id for each in ids)
        assert len({each.network_access_id for each in ids}) == 3
        assert (ids[0].dnn, ids[0].qos.guaranteed_downlink_bps) == ("internet", 100 * KBPS)
        assert ids[1].geofencing.notify
        # Again: the same.
        assert await p.bookings.accept(PROVIDER, made.booking_id) == accepted
        assert await p.walked(made.booking_id) == ["REQUESTED", "OFFERED", "BOOKED"]


async def test_an_offer_that_is_not_accepted_in_time_lapses_and_its_capacity_is_free() -> None:
    clock = ManualClock(START)
    async with platform(clock) as p:
        made = await p.bookings.request(PROVIDER, request(devices=10))
        clock.advance(VALIDITY)
        await p.settle()
        assert state_of(await p.bookings.get(PROVIDER, made.booking_id)) == "LAPSED"
        assert await p.rows() == []
        with pytest.raises(OfferLapsed, match="offer 1 could be accepted until 2026-06-01T08:05:00Z"):
            await p.bookings.accept(PROVIDER, made.booking_id)
        assert offered(await p.bookings.request(PROVIDER, request(devices=10))) == [10]


async def test_an_offer_is_not_accepted_late_even_if_its_lapse_was_not_noted() -> None:
    clock = ManualClock(START)
    async with platform(clock, running=False) as p:
        made = await p.bookings.request(PROVIDER, request())
        clock.advance(VALIDITY)
        with pytest.raises(OfferLapsed):
            await p.bookings.accept(PROVIDER, made.booking_id)
        assert state_of(await p.bookings.get(PROVIDER, made.booking_id)) == "OFFERED"


async def test_a_declined_offer_is_let_go_and_declining_again_is_harmless() -> None:
    async with platform() as p:
        made = await p.bookings.request(PROVIDER, request())
        declined = await p.bookings.decline(PROVIDER, made.booking_id)
        assert (state_of(declined), declined.problem.cause) == ("DECLINED", "DECLINED_BY_PROVIDER")
        assert await p.rows() == []
        assert await p.bookings.decline(PROVIDER, made.booking_id) == declined


@pytest.mark.clause("5G-MAG live media distribution B.1 schedule")
async def test_periods_begin_and_end_and_the_last_one_ends_the_booking() -> None:
    clock = ManualClock(START)
    async with platform(clock) as p:
        daily = period(START + HOUR, START + 2 * HOUR, "FREQ=DAILY;COUNT=2")
        made = await p.bookings.accept(PROVIDER, (await p.bookings.request(PROVIDER, request(daily))).booking_id)
        assert made.current_period.start_time.ToDatetime(START.tzinfo) == START + HOUR
        for hours, expected in ((1, "ACTIVE"), (1, "BOOKED"), (22, "BOOKED"), (1, "ACTIVE"), (1, "EXPIRED")):
            if (hours, expected) == (22, "BOOKED"):
                clock.advance(22 * HOUR)
                await p.settle()
                assert len(await p.rows()) == 1
                continue
            clock.advance(hours * HOUR)
            await p.settle()
            assert state_of(await p.bookings.get(PROVIDER, made.booking_id)) == expected
        assert await p.rows() == []
        assert not any(each.active for each in (await p.bookings.get(PROVIDER, made.booking_id)).network_access_ids)
        assert [effects for state, effects in p.told if state in ("ACTIVE", "EXPIRED")] == [
            ("INSTALL_QOS", "NOTIFY"),
            ("INSTALL_QOS", "NOTIFY"),
            ("WITHDRAW_QOS", "RETURN_CAPACITY", "RECORD_USAGE", "NOTIFY"),
        ]


async def test_who_was_down_walks_through_what_was_missed() -> None:
    clock = ManualClock(START)
    async with platform(clock, running=False) as p:
        made = await p.bookings.request(
            PROVIDER, request(period(START + HOUR, START + 2 * HOUR, "FREQ=DAILY;COUNT=30"))
        )
        await p.bookings.accept(PROVIDER, made.booking_id)
        lapsing = await p.bookings.request(PROVIDER, request())
        clock.advance(31 * 24 * HOUR)
        await p.life_cycle.start()
        await p.settle()
        expected = ["REQUESTED", "OFFERED", *["BOOKED", "ACTIVE"] * 30, "EXPIRED"]
        assert await p.walked(made.booking_id) == expected
        assert await p.walked(lapsing.booking_id) == ["REQUESTED", "OFFERED", "LAPSED"]
        assert await p.rows() == []
        await p.life_cycle.stop()


async def test_a_booking_is_asked_as_it_is_now_though_nobody_has_noted_what_came_due() -> None:
    clock = ManualClock(START)
    async with platform(clock, running=False) as p:
        made = await p.bookings.request(PROVIDER, request())
        await p.bookings.accept(PROVIDER, made.booking_id)
        clock.advance(HOUR)
        assert state_of(await p.bookings.release(PROVIDER, made.booking_id)) == "RELEASED"
        assert await p.walked(made.booking_id) == ["REQUESTED", "OFFERED", "BOOKED", "ACTIVE", "RELEASED"]


async def test_a_period_that_has_begun_is_booked_from_now_on_at_the_price_of_what_is_left() -> None:
    async with platform() as p:
        made = await p.bookings.request(PROVIDER, request(period(START - HOUR, START + HOUR / 2), devices=4))
        assert made.offer.total_price_units == 14
        accepted = await p.bookings.accept(PROVIDER, made.booking_id)
        assert state_of(accepted) == "ACTIVE"
        assert accepted.current_period.start_time.ToDatetime(START.tzinfo) == START - HOUR
        assert await p.taken("city", START - MINUTE) == Load()
        assert await p.taken("city", START) == Load(400 * KBPS, 0, 4)


async def test_the_operator_withholds_a_booking_and_lets_it_go_on() -> None:
    clock = ManualClock(START)
    async with platform(clock) as p:
        made = await p.bookings.accept(PROVIDER, (await p.bookings.request(PROVIDER, request())).booking_id)
        with pytest.raises(OperatorOnly):
            await p.bookings.suspend(PROVIDER, made.booking_id)
        suspended = await p.bookings.suspend(OPERATOR, made.booking_id, "works on a mast")
        assert (state_of(suspended), suspended.problem.detail) == ("SUSPENDED", "works on a mast")
        assert await p.bookings.suspend(OPERATOR, made.booking_id) == suspended
        # What is booked stays booked, and time goes on.
        assert await p.taken("city", START + HOUR) == Load(300 * KBPS, 0, 3)
        clock.advance(HOUR)
        resumed = await p.bookings.resume(OPERATOR, made.booking_id)
        assert state_of(resumed) == "ACTIVE"
        assert not resumed.HasField("problem")
        assert await p.bookings.resume(OPERATOR, made.booking_id) == resumed
        await p.bookings.suspend(OPERATOR, made.booking_id)
        clock.advance(HOUR)
        await p.settle()
        assert state_of(await p.bookings.get(OPERATOR, made.booking_id)) == "EXPIRED"
        with pytest.raises(InvalidTransition):
            await p.bookings.resume(OPERATOR, made.booking_id)


@pytest.mark.clause("5G-MAG live media distribution D.1")
async def test_a_release_gives_the_capacity_back_and_a_repeat_is_harmless() -> None:
    async with platform() as p:
        for accepted in (False, True):
            made = await p.bookings.request(PROVIDER, request(devices=10))
            if accepted:
                made = await p.bookings.accept(PROVIDER, made.booking_id)
            released = await p.bookings.release(PROVIDER, made.booking_id)
            assert state_of(released) == "RELEASED"
            assert not any(each.active for each in released.network_access_ids)
            assert await p.rows() == []
            assert await p.bookings.release(PROVIDER, made.booking_id) == released
        assert p.told[-1] == ("RELEASED", ("RETURN_CAPACITY", "RECORD_USAGE", "NOTIFY"))


# --- reconfiguration --------------------------------------------------------------------------------------------------


@pytest.mark.clause("5G-MAG live media distribution reconfiguration")
async def test_a_reconfiguration_is_a_new_offer_on_the_same_booking_and_ids_stay() -> None:
    async with platform() as p:
        made = await p.bookings.request(PROVIDER, request(areas=(("city", "audio"), ("sea", "audio"))))
        before = await p.bookings.accept(PROVIDER, made.booking_id)
        change = BookingRequest(
            area_capabilities=[
                AreaCapability(area_id="city", profile_id="audio-hd", devices=4),
                AreaCapability(area_id="valley", profile_id="audio"),
            ]
        )
        open_ = await p.bookings.reconfigure(PROVIDER, made.booking_id, change, FieldMask(paths=["area_capabilities"]))
        assert state_of(open_) == "BOOKED"
        assert (open_.request, open_.accepted_offer, open_.network_access_ids) == (
            before.request,
            before.accepted_offer,
            before.network_access_ids,
        )
        assert open_.reconfiguration.offer.revision == 2
        assert open_.reconfiguration.request.population.devices == 3
        # Held is what is needed more than what is booked: 1,000 instead of 300 kbps, one device more.
        assert await p.taken("city", START + HOUR) == Load(1000 * KBPS, 0, 4)
        assert await p.taken("sea", START + HOUR) == Load(300 * KBPS, 0, 3)
        after = await p.bookings.accept(PROVIDER, made.booking_id, 2)
        assert not after.HasField("reconfiguration")
        assert after.request.area_capabilities[1].area_id == "valley"
        # Another profile of the same capability in the same area keeps the ID; what is not booked any more is kept too.
        assert ids_of(after)["city", "audio-hd"] == ids_of(before)["city", "audio"]
        assert [each.active for each in after.network_access_ids] == [True, False, True]
        assert after.network_access_ids[0].qos.guaranteed_downlink_bps == 250 * KBPS
        assert await p.taken("city", START + HOUR) == Load(1000 * KBPS, 0, 4)
        assert await p.taken("sea", START + HOUR) == Load()
        # And back.
        back = await p.bookings.reconfigure(PROVIDER, made.booking_id, before.request, ALL)
        assert back.reconfiguration.offer.revision == 3
        again = await p.bookings.accept(PROVIDER, made.booking_id)
        assert ids_of(again) == ids_of(before)
        assert await p.walked(made.booking_id) == [
            "REQUESTED",
            "OFFERED",
            "BOOKED",
            "RECONFIGURATION_OFFERED",
            "BOOKING_RECONFIGURED",
            "RECONFIGURATION_OFFERED",
            "BOOKING_RECONFIGURED",
        ]


@pytest.mark.clause("5G-MAG live media distribution reconfiguration")
async def test_a_reconfiguration_that_is_declined_lapses_or_finds_nothing_leaves_everything_as_it_was() -> None:
    clock = ManualClock(START)
    async with platform(clock) as p:
        made = await p.bookings.request(PROVIDER, request())
        before = await p.bookings.accept(PROVIDER, made.booking_id)
        rows = await p.rows()
        await p.bookings.reconfigure(PROVIDER, made.booking_id, request(devices=8), ALL)
        assert await p.taken("city", START + HOUR) == Load(800 * KBPS, 0, 8)
        declined = await p.bookings.decline(PROVIDER, made.booking_id, 2)
        assert await p.rows() == rows
        assert await p.bookings.decline(PROVIDER, made.booking_id, 2) == declined
        await p.bookings.reconfigure(PROVIDER, made.booking_id, request(devices=9), ALL)
        clock.advance(VALIDITY)
        await p.settle()
        assert await p.rows() == rows
        # Who means the one that has lapsed is told so, by its revision or without one.
        for revision in (0, 3):
            with pytest.raises(OfferSuperseded, match="expected 1, the offer that stands, found 3"):
                await p.bookings.accept(PROVIDER, made.booking_id, revision)
        full = request(areas=(("valley", "audio-hd"),))
        await p.bookings.request(OTHER, request(areas=(("valley", "audio"),), devices=5))
        with pytest.raises(NothingToOffer, match="area 'valley' has no room"):
            await p.bookings.reconfigure(PROVIDER, made.booking_id, full, ALL)
        now = await p.bookings.get(PROVIDER, made.booking_id)
        for each in (now, before):
            each.ClearField("etag")
            each.ClearField("update_time")
            each.last_revision = 0
        assert now == before
        assert (await p.walked(made.booking_id))[3:] == [
            "RECONFIGURATION_OFFERED",
            "RECONFIGURATION_DECLINED",
            "RECONFIGURATION_OFFERED",
            "RECONFIGURATION_LAPSED",
        ]


@pytest.mark.clause("5G-MAG live media distribution reconfiguration")
async def test_a_reconfiguration_within_a_period_goes_on_without_its_end() -> None:
    clock = ManualClock(START)
    async with platform(clock) as p:
        made = await p.bookings.accept(PROVIDER, (await p.bookings.request(PROVIDER, request())).booking_id)
        clock.advance(HOUR + 30 * MINUTE)
        await p.settle()
        await p.bookings.reconfigure(PROVIDER, made.booking_id, request(devices=5), FieldMask(paths=["population"]))
        open_ = await p.bookings.get(PROVIDER, made.booking_id)
        # For the half hour that is left.
        assert open_.reconfiguration.offer.total_price_units == 18
        after = await p.bookings.accept(PROVIDER, made.booking_id)
        assert state_of(after) == "ACTIVE"
        assert p.told[-1] == ("ACTIVE", ("BOOK_CAPACITY", "ISSUE_NETWORK_ACCESS_IDS", "INSTALL_QOS", "NOTIFY"))
        later = request(period(START + 3 * HOUR, START + 4 * HOUR))
        await p.bookings.reconfigure(PROVIDER, made.booking_id, later, FieldMask(paths=["periods"]))
        after = await p.bookings.accept(PROVIDER, made.booking_id)
        assert state_of(after) == "BOOKED"
        assert p.told[-1] == ("BOOKED", ("BOOK_CAPACITY", "ISSUE_NETWORK_ACCESS_IDS", "WITHDRAW_QOS", "NOTIFY"))
        assert await p.taken("city", clock.now()) == Load()
        now = request(period(clock.now(), START + 4 * HOUR))
        await p.bookings.reconfigure(PROVIDER, made.booking_id, now, FieldMask(paths=["periods"]))
        assert state_of(await p.bookings.accept(PROVIDER, made.booking_id)) == "ACTIVE"


async def test_what_is_booked_can_be_kept_though_the_area_has_less_now() -> None:
    async with platform() as p:
        made = await p.bookings.accept(PROVIDER, (await p.bookings.request(PROVIDER, request(devices=8))).booking_id)
        await p.furnish(
            (ServiceArea(area_id="city", everywhere=True, capacity=AreaCapacity(downlink_bps=200 * KBPS)),), (), ()
        )
        open_ = await p.bookings.reconfigure(PROVIDER, made.booking_id, request(devices=9), ALL)
        assert [line.offered_devices for line in open_.reconfiguration.offer.lines] == [8]
        assert state_of(await p.bookings.request(OTHER, request(devices=1))) == "DECLINED"


async def test_a_new_reconfiguration_takes_the_place_of_one_that_is_open() -> None:
    async with platform() as p:
        made = await p.bookings.accept(PROVIDER, (await p.bookings.request(PROVIDER, request())).booking_id)
        await p.bookings.reconfigure(PROVIDER, made.booking_id, request(devices=10), ALL)
        second = await p.bookings.reconfigure(PROVIDER, made.booking_id, request(devices=4), ALL)
        assert second.reconfiguration.offer.revision == 3
        assert await p.taken("city", START + HOUR) == Load(400 * KBPS, 0, 4)
        with pytest.raises(OfferSuperseded, match="expected 3, the offer that stands, found 2"):
            await p.bookings.accept(PROVIDER, made.booking_id, 2)
        # That of the offer in force is a repeat.
        assert await p.bookings.accept(PROVIDER, made.booking_id, 1) == second


async def test_what_is_no_longer_in_force_cannot_be_reconfigured() -> None:
    async with platform() as p:
        made = await p.bookings.request(PROVIDER, request())
        with pytest.raises(BookingUnchangeable, match="is OFFERED: it can be reconfigured while BOOKED or ACTIVE"):
            await p.bookings.reconfigure(PROVIDER, made.booking_id, request(), ALL)
        booked = await p.bookings.accept(PROVIDER, made.booking_id)
        with pytest.raises(EtagMismatch):
            await p.bookings.reconfigure(PROVIDER, made.booking_id, request(), ALL, made.etag)
        with pytest.raises(InvalidArgument, match="update_mask 'devices': unknown field; expected any of population"):
            await p.bookings.reconfigure(PROVIDER, made.booking_id, request(), FieldMask(paths=["devices"]))
        assert (await p.bookings.get(PROVIDER, made.booking_id)).etag == booked.etag


# --- who may, and what ------------------------------------------------------------------------------------------------


async def test_a_repeated_request_is_answered_by_the_booking_it_made() -> None:
    async with platform() as p:
        made = await p.bookings.request(PROVIDER, request(), "first")
        assert await p.bookings.request(PROVIDER, request(), "first") == made
        with pytest.raises(AlreadyExists, match="'first' was used for another content"):
            await p.bookings.request(PROVIDER, request(devices=9), "first")
        # That of another provider is another.
        assert (await p.bookings.request(OTHER, request(), "first")).booking_id != made.booking_id
        await p.bookings.accept(PROVIDER, made.booking_id)
        changed = await p.bookings.reconfigure(PROVIDER, made.booking_id, request(devices=4), ALL, "", "second")
        assert await p.bookings.reconfigure(PROVIDER, made.booking_id, request(devices=4), ALL, "", "second") == changed


@pytest.mark.clause("5G-MAG live media distribution Preconditions")
async def test_bookings_of_another_agreement_are_not_there_and_the_operator_sees_all() -> None:
    async with platform() as p:
        made = await p.bookings.request(PROVIDER, request())
        theirs = await p.bookings.request(OTHER, request())
        for deed in (p.bookings.get, p.bookings.accept, p.bookings.decline, p.bookings.release):
            with pytest.raises(NotFound):
                await deed(OTHER, made.booking_id)
        assert [each.booking_id for each in (await p.bookings.page(PROVIDER)).items] == [made.booking_id]
        assert len((await p.bookings.page(OPERATOR)).items) == 2
        await p.bookings.accept(OTHER, theirs.booking_id)
        booked = await p.bookings.page(OPERATOR, [theirs.STATE_BOOKED])
        assert [each.booking_id for each in booked.items] == [theirs.booking_id]
        with pytest.raises(AgreementNeeded):
            await p.bookings.request(OPERATOR, request())


@pytest.mark.clause("5G-MAG live media distribution Preconditions")
async def test_the_agreement_bounds_what_stands_and_how_far_ahead() -> None:
    async with platform() as p:
        await p.limit(bookings=1, advance_days=2)
        made = await p.bookings.request(PROVIDER, request())
        with pytest.raises(BookingQuotaExceeded):
            await p.bookings.request(PROVIDER, request())
        # A reconfiguration is no other booking.
        await p.bookings.accept(PROVIDER, made.booking_id)
        await p.bookings.reconfigure(PROVIDER, made.booking_id, request(devices=4), ALL)
        await p.bookings.release(PROVIDER, made.booking_id)
        endless = await p.bookings.request(PROVIDER, request(period(START + HOUR, START + 2 * HOUR, "FREQ=DAILY")))
        assert len(endless.offer.lines) == 2
        await p.bookings.decline(PROVIDER, endless.booking_id)
        with pytest.raises(
            AgreementLimitExceeded, match=r"periods\[0\].repetition_rule: expected an end at 2026-06-03"
        ):
            await p.bookings.request(PROVIDER, request(period(START + HOUR, START + 2 * HOUR, "FREQ=DAILY;COUNT=3")))
        with pytest.raises(AgreementLimitExceeded, match=r"periods\[0\].stop_time"):
            await p.bookings.request(PROVIDER, request(period(START + HOUR, START + 72 * HOUR)))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            BookingRequest(population=Population(devices=0)),
            "population.devices: expected 1 to 100000000 devices, found 0",
        ),
        (
            BookingRequest(traffic=BookedTraffic(flow_descriptions=["permit in ip"])),
            r"traffic.flow_descriptions\[0\]: expected 'permit out PROTOCOL from ADDRESS \[PORTS\] to assigned",
        ),
        (
            BookingRequest(traffic=BookedTraffic(domain_names=["a..b"])),
            r"traffic.domain_names\[0\]: expected a name such as media.example.com",
        ),
        (
            BookingRequest(area_capabilities=[AreaCapability(area_id="moon", profile_id="audio")]),
            r"area_capabilities\[0\].area_id: expected a service area, found 'moon'",
        ),
        (
            BookingRequest(area_capabilities=[AreaCapability(area_id="city", profile_id="video")]),
            r"area_capabilities\[0\].profile_id: expected a capability profile, found 'video'",
        ),
        (
            BookingRequest(area_capabilities=[AreaCapability(area_id="city", profile_id="audio")] * 2),
            r"area_capabilities\[1\]: expected another area or profile than area_capabilities\[0\]",
        ),
        (BookingRequest(area_capabilities=[]), "area_capabilities: expected 1 to 5000 capabilities of areas, found 0"),
        (BookingRequest(periods=[]), "periods: expected 1 to 100 periods, found 0"),
        (
            BookingRequest(periods=[period(START - 2 * HOUR, START - HOUR)]),
            "periods: expected a period that is not over, found the last stop 2026-06-01T07:00:00Z",
        ),
        (
            BookingRequest(periods=[period(START, START + HOUR, "FREQ=HOURLY;COUNT=1001;INTERVAL=2")]),
            r"periods\[0\]: expected at most 1000 repetitions to come, found more",
        ),
    ],
    ids=str,
)
async def test_what_is_wrong_with_a_request_is_said_by_its_path_and_nothing_is_kept(
    change: BookingRequest, expected: str
) -> None:
    async with platform() as p:
        asked = request()
        for field in ("population", "traffic", "periods", "area_capabilities"):
            if change.ListFields() and change.ListFields()[0][0].name == field:
                asked.ClearField(field)
        if not change.ListFields():
            asked.ClearField("area_capabilities" if "area_capabilities" in expected else "periods")
        asked.MergeFrom(change)
        with pytest.raises(InvalidArgument, match=expected):
            await p.bookings.request(PROVIDER, asked)
        assert (await p.bookings.page(OPERATOR)).items == []
        assert await p.events() == []
