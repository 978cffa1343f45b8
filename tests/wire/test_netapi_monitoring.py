"""What a provider watches, over gRPC, and its events at a real HTTP receiver that checks who has signed them."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp
from netapi_platform import START, Face, Platform
from receiver import Receiver

from nf.common.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from nf.netapi.v1 import booking_pb2 as v1
from nf.netapi.v1 import coverage_pb2 as coverage
from nf.netapi.v1 import monitoring_pb2 as api

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.clause("5G-MAG live media distribution monitor"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    async with Platform(tmp_path_factory.mktemp("netapi")) as running:
        await running.area(coverage.ServiceArea(area_id="north", everywhere=True))
        qos = coverage.QosProfile(five_qi=3, guaranteed_downlink_bps=1_000_000)
        profile = coverage.CapabilityProfile(
            profile_id="radio", capability=coverage.CAPABILITY_QUALITY_ON_DEMAND, qos=qos
        )
        await running.profile(profile)
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def receiver() -> AsyncIterator[Receiver]:
    running = Receiver(sequence=lambda body, _: int(body["sequence"]))
    await running.start()
    yield running
    await running.stop()


def at(seconds: float) -> Timestamp:
    moment = Timestamp()
    moment.FromDatetime(START + timedelta(seconds=seconds))
    return moment


async def book(face: Face) -> v1.Booking:
    request = v1.BookingRequest(
        population=v1.Population(application_id="radio-player", devices=3),
        periods=[v1.BookingPeriod(start_time=at(60), stop_time=at(3600))],
        area_capabilities=[v1.AreaCapability(area_id="north", profile_id="radio")],
    )
    made = (await face.bookings.RequestBooking(v1.RequestBookingRequest(request=request))).booking
    accepted = await face.bookings.AcceptOffer(v1.AcceptOfferRequest(booking_id=made.booking_id))
    return accepted.booking


async def sink(face: Face, url: str, **wanted: object) -> api.EventSink:
    asked = api.EventSink(url=url, **wanted)  # type: ignore[arg-type]
    return (await face.sinks.CreateEventSink(api.CreateEventSinkRequest(event_sink=asked))).event_sink


@pytest.mark.clause("5G-MAG live media distribution notifications")
async def test_a_provider_is_sent_its_events_signed_in_order_and_knows_who_sends_them(
    lab: Platform, receiver: Receiver
):
    radio, rival = await lab.provider("radio"), await lab.provider("rival")
    receiver.answers = [503]
    made = await sink(radio, receiver.url, access_token="let-me-in", event_types=["BOOKING_STATE"])
    assert len(made.secret) >= 32
    assert made.access_token == ""
    await book(rival)
    booking = await book(radio)
    await receiver.until(lambda it: len(it.attempts) == 1)
    await lab.clock.until_asleep()
    lab.clock.advance(timedelta(seconds=1))
    await receiver.until(lambda it: len(it.received) == 3)
    told = [(each["type"], each["subject"], each["data"]["booking"]["state"]) for each in receiver.received]
    subject = f"bookings/{booking.booking_id}"
    assert told == [("org.castcore.netapi.booking-state", subject, s) for s in ("REQUESTED", "OFFERED", "BOOKED")]
    assert len(receiver.attempts) == 4
    for each, body in zip(receiver.received, receiver.bodies, strict=True):
        headers = each["headers"]
        expected = hmac.new(made.secret.encode(), body, hashlib.sha256).hexdigest()
        assert headers["castcore-signature"] == f"sha256={expected}"
        assert headers["content-type"] == "application/cloudevents+json"
        assert headers["authorization"] == "Bearer let-me-in"
    read = (await radio.sinks.GetEventSink(api.GetEventSinkRequest(sink_id=made.sink_id))).event_sink
    assert (read.secret, read.access_token, read.delivery.delivered_events) == ("", "", 3)
    listed = (await radio.sinks.ListEventSinks(api.ListEventSinksRequest())).event_sinks
    assert list(listed) == [read]
    with pytest.raises(NotFound, match=made.sink_id):
        await rival.sinks.GetEventSink(api.GetEventSinkRequest(sink_id=made.sink_id))
    assert not (await rival.sinks.ListEventSinks(api.ListEventSinksRequest())).event_sinks
    await rival.sinks.DeleteEventSink(api.DeleteEventSinkRequest(sink_id=made.sink_id))
    assert len((await lab.face().sinks.ListEventSinks(api.ListEventSinksRequest())).event_sinks) == 1
    await radio.sinks.DeleteEventSink(api.DeleteEventSinkRequest(sink_id=made.sink_id))
    await radio.sinks.DeleteEventSink(api.DeleteEventSinkRequest(sink_id=made.sink_id))
    assert not (await radio.sinks.ListEventSinks(api.ListEventSinksRequest())).event_sinks
    await radio.bookings.ReleaseBooking(v1.ReleaseBookingRequest(booking_id=booking.booking_id))
    assert len(receiver.received) == 3


async def test_a_sink_that_is_made_again_by_the_same_request_is_the_same(lab: Platform, receiver: Receiver):
    radio = await lab.provider("radio")
    request = api.CreateEventSinkRequest(event_sink=api.EventSink(url=receiver.url), request_id="once")
    first = (await radio.sinks.CreateEventSink(request)).event_sink
    assert (await radio.sinks.CreateEventSink(request)).event_sink == first
    with pytest.raises(PermissionDenied, match=r"192\.0\.2\.7: netapi\.callback_hosts"):
        await sink(radio, "http://192.0.2.7/hook")
    with pytest.raises(InvalidArgument, match=r"event_sink\.url"):
        await sink(radio, "gopher://127.0.0.1/")
    await radio.sinks.DeleteEventSink(api.DeleteEventSinkRequest(sink_id=first.sink_id))


async def test_usage_records_and_thresholds_are_the_providers_own(lab: Platform):
    radio, rival = await lab.provider("radio"), await lab.provider("rival")
    booking = await book(radio)
    (issued,) = booking.network_access_ids
    asked = api.GetBookingUsageRequest(booking_id=booking.booking_id)
    (usage,) = (await radio.monitoring.GetBookingUsage(asked)).usages
    assert (usage.network_access_id, usage.booked_devices, usage.used) == (issued.network_access_id, 3, False)
    assert not usage.HasField("downlink_bps")
    by_id = api.GetBookingUsageRequest(network_access_id=issued.network_access_id)
    assert list((await radio.monitoring.GetBookingUsage(by_id)).usages) == [usage]
    for refused in (asked, by_id, api.GetBookingUsageRequest(booking_id="none")):
        with pytest.raises(NotFound):
            await rival.monitoring.GetBookingUsage(refused)
    records = api.GetUsageRecordsRequest(booking_id=booking.booking_id)
    with pytest.raises(NotFound):
        await rival.monitoring.GetUsageRecords(records)
    wanted = api.Threshold(network_access_id=issued.network_access_id, metric=api.METRIC_DEVICES, below=1, for_ms=0)
    request = api.CreateThresholdRequest(threshold=wanted, request_id="t")
    made = (await radio.monitoring.CreateThreshold(request)).threshold
    assert (await radio.monitoring.CreateThreshold(request)).threshold == made
    with pytest.raises(NotFound):
        await rival.monitoring.CreateThreshold(api.CreateThresholdRequest(threshold=wanted))
    wanted.metric = api.METRIC_DELAY
    with pytest.raises(FailedPrecondition, match="delay"):
        await radio.monitoring.CreateThreshold(api.CreateThresholdRequest(threshold=wanted))
    listed = (await radio.monitoring.ListThresholds(api.ListThresholdsRequest())).thresholds
    assert [each.threshold_id for each in listed] == [made.threshold_id]
    await rival.monitoring.DeleteThreshold(api.DeleteThresholdRequest(threshold_id=made.threshold_id))
    assert len((await radio.monitoring.ListThresholds(api.ListThresholdsRequest())).thresholds) == 1
    await radio.monitoring.DeleteThreshold(api.DeleteThresholdRequest(threshold_id=made.threshold_id))
    assert not (await radio.monitoring.ListThresholds(api.ListThresholdsRequest())).thresholds
    await radio.bookings.ReleaseBooking(v1.ReleaseBookingRequest(booking_id=booking.booking_id))
    (record,) = (await radio.monitoring.GetUsageRecords(records)).usage_records
    assert (record.area_id, record.profile_id, record.final, record.devices) == ("north", "radio", True, 0)
