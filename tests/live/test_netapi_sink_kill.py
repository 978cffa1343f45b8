"""A platform that is killed (SIGKILL) while it tells a sink: every event arrives, signed, in order, at least once."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from receiver import Receiver

from nf.common.channels import Channels
from nf.common.v1.events_pb2 import WatchEventsRequest
from nf.netapi.v1 import agreement_pb2 as agreement
from nf.netapi.v1 import booking_pb2 as booking
from nf.netapi.v1 import coverage_pb2 as coverage
from nf.netapi.v1 import monitoring_pb2 as monitoring
from nf.netapi.v1.agreement_pb2_grpc import AgreementsServiceStub
from nf.netapi.v1.booking_pb2_grpc import BookingsServiceStub
from nf.netapi.v1.coverage_pb2_grpc import CoverageServiceStub
from nf.netapi.v1.monitoring_pb2_grpc import EventSinksServiceStub

_SERVER = Path(__file__).with_name("netapi_server.py")
_ROUNDS, _EACH = 3, 8
# Nobody listens there.
_UNREACHABLE = "127.0.0.1:1"


async def furnish(address: str) -> str:
    """What can be booked, and a provider's credential."""
    channels = Channels({"netapi": address})
    channel = channels.get("netapi")
    area = coverage.ServiceArea(area_id="city", everywhere=True)
    await CoverageServiceStub(channel).PutServiceArea(coverage.PutServiceAreaRequest(service_area=area))
    profile = coverage.CapabilityProfile(
        profile_id="audio", capability=coverage.CAPABILITY_QUALITY_ON_DEMAND, qos=coverage.QosProfile(five_qi=2)
    )
    await CoverageServiceStub(channel).PutCapabilityProfile(
        coverage.PutCapabilityProfileRequest(capability_profile=profile)
    )
    agreements = AgreementsServiceStub(channel)
    terms = agreement.Agreement(agreement_id="radio")
    await agreements.CreateAgreement(agreement.CreateAgreementRequest(agreement=terms))
    asked = agreement.CreateCredentialRequest(credential=agreement.Credential(agreement_id="radio"))
    token = (await agreements.CreateCredential(asked)).credential.token
    await channels.close()
    return token


async def make_events(channels: Channels) -> None:
    """Each request makes two events: it is asked for, and offered."""
    start = datetime.now(UTC) + timedelta(hours=1)
    period = booking.BookingPeriod()
    period.start_time.FromDatetime(start)
    period.stop_time.FromDatetime(start + timedelta(hours=1))
    wanted = booking.BookingRequest(
        population=booking.Population(application_id="player", devices=1),
        periods=[period],
        area_capabilities=[booking.AreaCapability(area_id="city", profile_id="audio")],
    )
    bookings = BookingsServiceStub(channels.get("netapi"))
    for _ in range(_EACH):
        made = await bookings.RequestBooking(booking.RequestBookingRequest(request=wanted))
        assert made.booking.state == booking.Booking.STATE_OFFERED


@pytest.mark.clause("5G-MAG live media distribution notifications")
async def test_a_sink_is_told_everything_over_kills_of_the_platform(tmp_path: Path) -> None:
    receiver = Receiver(sequence=lambda body, _: int(body["sequence"]))
    await receiver.start()
    server = await asyncio.create_subprocess_exec(
        sys.executable, str(_SERVER), str(tmp_path), _UNREACHABLE, _UNREACHABLE,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert server.stdin is not None
    assert server.stdout is not None
    running, token, secret, logged = 0, "", "", []
    try:
        for number in range(_ROUNDS):
            last = number == _ROUNDS - 1
            server.stdin.write(b"\n")
            process, address = (await server.stdout.readline()).decode().split()
            running = int(process)
            if number == 0:
                token = await furnish(address)
            channels = Channels({"netapi": address}, token=token)
            if number == 0:
                wanted = monitoring.EventSink(url=receiver.url, access_token="come-in", after_sequence=0)
                request = monitoring.CreateEventSinkRequest(event_sink=wanted)
                secret = (
                    await EventSinksServiceStub(channels.get("netapi")).CreateEventSink(request)
                ).event_sink.secret
            # Some are refused, so that others wait behind them when it is killed.
            receiver.answers = [] if last else [204, 500, 204, 204, 500]
            before = len(receiver.received)
            await make_events(channels)
            if last:
                watched = BookingsServiceStub(channels.get("netapi")).WatchEvents(WatchEventsRequest(no_follow=True))
                logged = [answer.event.sequence async for answer in watched]
                final = str(logged[-1])
                await receiver.until(lambda r, final=final: final in {e["sequence"] for e in r.received})  # type: ignore[misc]
            else:
                await receiver.until(lambda r, before=before: len(r.received) > before + 2)  # type: ignore[misc]
            os.kill(running, signal.SIGKILL)
            running = 0
            await channels.close()
    finally:
        if running:
            os.kill(running, signal.SIGKILL)
        server.stdin.close()
        await server.wait()
        await receiver.stop()
    told = [int(each["sequence"]) for each in receiver.received]
    assert len(logged) == 2 * _ROUNDS * _EACH
    assert list(dict.fromkeys(told)) == logged
    assert told == sorted(told)
    # An event is told again only where the platform died before it had noted that it was told.
    assert len(told) - len(logged) < _ROUNDS
    for each, body in zip(receiver.received, receiver.bodies, strict=True):
        expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        assert each["headers"]["castcore-signature"] == f"sha256={expected}"
        assert each["headers"]["authorization"] == "Bearer come-in"
