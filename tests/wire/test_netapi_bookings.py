"""Bookings over gRPC, from the request to the release, as a provider, another one and the operator have them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio
from booking_stack import AREAS, PROFILES, period, state_of
from booking_stack import request as asked
from google.protobuf.field_mask_pb2 import FieldMask
from netapi_platform import START, Face, Platform

from nf.common.clock import ManualClock
from nf.common.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, Unauthenticated
from nf.common.v1.events_pb2 import Event, WatchEventsRequest
from nf.netapi.v1 import booking_pb2 as v1
from nf.netapi.v1 import coverage_pb2 as coverage

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOUR = timedelta(hours=1)
WHEN = period(START + HOUR, START + 2 * HOUR)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    async with Platform(tmp_path_factory.mktemp("netapi")) as running:
        for area in AREAS:
            await running.area(area)
        for profile in PROFILES:
            await running.profile(profile)
        yield running


async def book(face: Face, wanted: v1.BookingRequest) -> v1.Booking:
    """Requested and accepted."""
    made = (await face.bookings.RequestBooking(v1.RequestBookingRequest(request=wanted))).booking
    accepted = await face.bookings.AcceptOffer(v1.AcceptOfferRequest(booking_id=made.booking_id, revision=1))
    return accepted.booking


async def told(face: Face, subject: str = "") -> list[Event]:
    """All that the caller may know of what has happened."""
    request = WatchEventsRequest(subject=subject, no_follow=True)
    return [answer.event async for answer in face.bookings.WatchEvents(request)]


@pytest.mark.clause(
    "5G-MAG live media distribution Preconditions",
    "5G-MAG live media distribution B.1 a QoD",
    "5G-MAG live media distribution B.1 b geofencing",
    "5G-MAG live media distribution B.1 geographical location",
    "5G-MAG live media distribution B.1 schedule",
    "5G-MAG live media distribution B.2",
    "5G-MAG live media distribution B.3",
    "5G-MAG live media distribution B.4",
    "5G-MAG live media distribution notifications",
    "5G-MAG live media distribution reconfiguration",
    "5G-MAG live media distribution D.1",
)
async def test_a_booking_goes_from_the_request_to_the_release(lab: Platform) -> None:
    radio = await lab.provider("life", price_percent=50, offer_validity_s=60)
    wanted = asked(WHEN, areas=(("city", "audio"), ("valley", "editorial")), devices=3)
    offered = (await radio.bookings.RequestBooking(v1.RequestBookingRequest(request=wanted, request_id="1"))).booking
    assert state_of(offered) == "OFFERED"
    # Half of 7 and of 1 units for each of three devices and an hour, rounded up.
    assert [line.price_units for line in offered.offer.lines] == [11, 2]
    assert offered.offer.valid_until.ToDatetime(START.tzinfo) == START + timedelta(seconds=60)
    again = await radio.bookings.RequestBooking(v1.RequestBookingRequest(request=wanted, request_id="1"))
    assert again.booking == offered
    name = offered.booking_id
    accepted = (await radio.bookings.AcceptOffer(v1.AcceptOfferRequest(booking_id=name))).booking
    capabilities = {each.area_id: each.capability for each in accepted.network_access_ids}
    assert capabilities == {
        "city": coverage.CAPABILITY_QUALITY_ON_DEMAND,
        "valley": coverage.CAPABILITY_GEOFENCING,
    }
    change = v1.ReconfigureBookingRequest(
        booking_id=name,
        request=v1.BookingRequest(population=v1.Population(application_id="player", devices=4)),
        update_mask=FieldMask(paths=["population"]),
        etag=accepted.etag,
    )
    open_ = (await radio.bookings.ReconfigureBooking(change)).booking
    assert [line.offered_devices for line in open_.reconfiguration.offer.lines] == [4, 4]
    changed = (await radio.bookings.AcceptOffer(v1.AcceptOfferRequest(booking_id=name, revision=2))).booking
    assert [each.network_access_id for each in changed.network_access_ids] == [
        each.network_access_id for each in accepted.network_access_ids
    ]
    assert {each.devices for each in changed.network_access_ids} == {4}
    assert (await radio.bookings.GetBooking(v1.GetBookingRequest(booking_id=name))).booking == changed
    listed = await radio.bookings.ListBookings(v1.ListBookingsRequest(states=[v1.Booking.STATE_BOOKED]))
    assert list(listed.bookings) == [changed]
    released = (await radio.bookings.ReleaseBooking(v1.ReleaseBookingRequest(booking_id=name))).booking
    assert state_of(released) == "RELEASED"
    assert [event.type for event in await told(radio, f"bookings/{name}")] == [
        "BOOKING_STATE",
        "BOOKING_STATE",
        "BOOKING_STATE",
        "RECONFIGURATION_OFFERED",
        "BOOKING_RECONFIGURED",
        "BOOKING_STATE",
        "USAGE_RECORDED",
    ]


@pytest.mark.clause("5G-MAG live media distribution B.1 schedule", "5G-MAG live media distribution notifications")
async def test_a_watcher_is_told_when_a_period_begins_and_ends(lab: Platform) -> None:
    assert isinstance(lab.clock, ManualClock)
    radio = await lab.provider("clockwork")
    soon = lab.clock.now() + HOUR
    made = await book(radio, asked(period(soon, soon + HOUR), areas=(("sea", "audio"),)))
    call = radio.bookings.WatchEvents(WatchEventsRequest(subject=f"bookings/{made.booking_id}"))
    states = []
    async with asyncio.timeout(10):
        async for answer in call:
            changed = v1.BookingChanged()
            if not answer.event.payload.Unpack(changed):
                # That nobody has used it.
                continue
            states.append(state_of(changed.booking))
            if states[-1] in ("BOOKED", "ACTIVE"):
                lab.clock.advance(HOUR)
            elif states[-1] == "EXPIRED":
                call.cancel()
                break
    assert states == ["REQUESTED", "OFFERED", "BOOKED", "ACTIVE", "EXPIRED"]


@pytest.mark.clause("5G-MAG live media distribution Preconditions")
async def test_another_provider_neither_sees_nor_hears_of_it(lab: Platform) -> None:
    radio, rival = await lab.provider("radio"), await lab.provider("rival")
    when = period(lab.clock.now() + HOUR, lab.clock.now() + 2 * HOUR)
    made = await book(radio, asked(when, areas=(("sea", "audio"),)))
    name = made.booking_id
    for call in (
        rival.bookings.GetBooking(v1.GetBookingRequest(booking_id=name)),
        rival.bookings.AcceptOffer(v1.AcceptOfferRequest(booking_id=name)),
        rival.bookings.DeclineOffer(v1.DeclineOfferRequest(booking_id=name)),
        rival.bookings.ReleaseBooking(v1.ReleaseBookingRequest(booking_id=name)),
        rival.bookings.ReconfigureBooking(v1.ReconfigureBookingRequest(booking_id=name, request=made.request)),
    ):
        with pytest.raises(NotFound, match=name):
            await call
    assert list((await rival.bookings.ListBookings(v1.ListBookingsRequest())).bookings) == []
    assert await told(rival) == []
    assert {event.subject for event in await told(radio)} == {f"bookings/{name}"}
    operator = lab.face()
    assert (await operator.bookings.GetBooking(v1.GetBookingRequest(booking_id=name))).booking == made
    assert {event.subject for event in await told(operator)} >= {f"bookings/{name}"}
    with pytest.raises(PermissionDenied, match="only the operator may"):
        await radio.bookings.SuspendBooking(v1.SuspendBookingRequest(booking_id=name))
    with pytest.raises(PermissionDenied, match="expected a credential"):
        await operator.bookings.RequestBooking(v1.RequestBookingRequest(request=made.request))
    with pytest.raises(Unauthenticated):
        await lab.face("").bookings.ListBookings(v1.ListBookingsRequest())
    suspended = (await operator.bookings.SuspendBooking(v1.SuspendBookingRequest(booking_id=name, detail="x"))).booking
    assert (state_of(suspended), suspended.problem.detail) == ("SUSPENDED", "x")
    resumed = (await operator.bookings.ResumeBooking(v1.ResumeBookingRequest(booking_id=name))).booking
    assert state_of(resumed) == "BOOKED"


async def test_refusals_name_the_fields_and_what_stands(lab: Platform) -> None:
    radio = await lab.provider("careless")
    wanted = asked(period(START, START), areas=(("moon", "audio"),), devices=0)
    with pytest.raises(InvalidArgument) as refused:
        await radio.bookings.RequestBooking(v1.RequestBookingRequest(request=wanted))
    assert [each.field for each in refused.value.violations] == ["population.devices"]
    wanted.population.devices = 1
    with pytest.raises(InvalidArgument) as refused:
        await radio.bookings.RequestBooking(v1.RequestBookingRequest(request=wanted))
    assert [each.field for each in refused.value.violations] == ["periods[0].stop_time"]
    when = period(lab.clock.now() + HOUR, lab.clock.now() + 2 * HOUR)
    with pytest.raises(InvalidArgument) as refused:
        await radio.bookings.RequestBooking(
            v1.RequestBookingRequest(request=asked(when, areas=(("moon", "audio"), ("sea", "video"))))
        )
    assert [each.field for each in refused.value.violations] == [
        "area_capabilities[0].area_id",
        "area_capabilities[1].profile_id",
    ]
    made = await book(radio, asked(when, areas=(("sea", "audio"),)))
    with pytest.raises(FailedPrecondition, match="expected 1, the offer that stands, found 7") as superseded:
        await radio.bookings.AcceptOffer(v1.AcceptOfferRequest(booking_id=made.booking_id, revision=7))
    assert (superseded.value.reason, superseded.value.metadata["revision"]) == ("OFFER_SUPERSEDED", "1")
    with pytest.raises(InvalidArgument, match="update_mask"):
        await radio.bookings.ReconfigureBooking(
            v1.ReconfigureBookingRequest(booking_id=made.booking_id, update_mask=FieldMask(paths=["price"]))
        )


@pytest.mark.clause("5G-MAG live media distribution B.2")
async def test_a_declined_offer_makes_room_for_another(lab: Platform) -> None:
    radio = await lab.provider("modest")
    when = period(lab.clock.now() + 5 * HOUR, lab.clock.now() + 6 * HOUR)
    full = v1.RequestBookingRequest(request=asked(when, devices=10))
    first = (await radio.bookings.RequestBooking(full)).booking
    second = (await radio.bookings.RequestBooking(full)).booking
    assert (state_of(first), state_of(second), second.problem.cause) == ("OFFERED", "DECLINED", "CAPACITY_DOWNLINK")
    await radio.bookings.DeclineOffer(v1.DeclineOfferRequest(booking_id=first.booking_id, revision=1))
    assert state_of((await radio.bookings.RequestBooking(full)).booking) == "OFFERED"
