"""A network API platform that is killed (SIGKILL) at any step: nothing acknowledged is lost, no capacity leaks."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from booking_stack import AREAS, KBPS, PROFILES, Platform, period, request, state_of
from google.protobuf.field_mask_pb2 import FieldMask
from live.booking_server import OPERATOR_TOKEN

from nf.common.channels import Channels
from nf.common.clock import SystemClock
from nf.common.errors import Cancelled, Unavailable
from nf.common.store import Store, url_for
from nf.common.telemetry import Telemetry
from nf.netapi.callers import OPERATOR
from nf.netapi.compose import TABLES
from nf.netapi.v1 import agreement_pb2, coverage_pb2
from nf.netapi.v1 import booking_pb2 as v1
from nf.netapi.v1.agreement_pb2_grpc import AgreementsServiceStub
from nf.netapi.v1.booking_pb2_grpc import BookingsServiceStub
from nf.netapi.v1.coverage_pb2_grpc import CoverageServiceStub

_VICTIM = Path(__file__).with_name("booking_victim.py")
_SERVER = Path(__file__).with_name("booking_server.py")
HOUR = timedelta(hours=1)
# The city has 1,000 kbps, a device takes 100.
FITS = 10
CLIENTS = 16


@pytest.mark.clause(
    "5G-MAG live media distribution B.1", "5G-MAG live media distribution B.3", "5G-MAG live media distribution D.1"
)
async def test_killed_at_any_statement_a_deed_is_done_or_not_and_can_be_repeated(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(_VICTIM), str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    lines = [json.loads(line) for line in output.splitlines()]
    whole = {line["deed"]: line for line in lines if line["step"] == 0}
    assert list(whole) == ["request", "accept", "reconfigure", "accept the change", "release"]
    assert whole["release"]["after"]["rows"] == []
    outcomes: Counter[tuple[str, bool, bool]] = Counter()
    for line in lines:
        if line["step"] == 0:
            continue
        before, after = whole[line["deed"]]["before"], whole[line["deed"]]["after"]
        stands, repeated = line["stands"]
        assert stands in (before, after), line
        done = stands == after
        # What was answered is done, and what was done twice is done once.
        assert done or not line["answered"], line
        assert repeated == after, line
        outcomes[line["deed"], done, line["answered"]] += 1
    for deed in whole:
        # Killed at many statements before the commit, once after it, and at last not at all.
        assert outcomes[deed, False, False] >= 4
        assert outcomes[deed, True, False] == 1
        assert outcomes[deed, True, True] == 1


# --- whole processes --------------------------------------------------------------------------------------------------


@asynccontextmanager
async def served(url: str, *arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(_SERVER), url, *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield process, (await process.stdout.readline()).decode().strip()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def channels_to(address: str, token: str = OPERATOR_TOKEN) -> Channels:
    return Channels({"netapi": address}, function="test", telemetry=Telemetry(), token=token)


async def furnish(address: str) -> str:
    """Puts what can be booked; the token of a provider."""
    channels = channels_to(address)
    coverage = CoverageServiceStub(channels.get("netapi"))
    for area in AREAS:
        await coverage.PutServiceArea(coverage_pb2.PutServiceAreaRequest(service_area=area))
    for profile in PROFILES:
        await coverage.PutCapabilityProfile(coverage_pb2.PutCapabilityProfileRequest(capability_profile=profile))
    agreements = AgreementsServiceStub(channels.get("netapi"))
    agreement = agreement_pb2.Agreement(agreement_id="radio")
    await agreements.CreateAgreement(agreement_pb2.CreateAgreementRequest(agreement=agreement))
    asked = agreement_pb2.Credential(agreement_id="radio")
    made = await agreements.CreateCredential(agreement_pb2.CreateCredentialRequest(credential=asked))
    await channels.close()
    return made.credential.token


def soon(devices: int) -> v1.BookingRequest:
    start = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + 48 * HOUR
    return request(period(start, start + HOUR), devices=devices)


class Client:
    """Books, changes and gives back, again and again, until the platform is gone; knows what it was told last."""

    def __init__(self, channels: Channels) -> None:
        self._bookings = BookingsServiceStub(channels.get("netapi"))
        self.last: dict[str, v1.Booking] = {}
        self.answers = 0

    def _note(self, booking: v1.Booking) -> v1.Booking:
        self.last[booking.booking_id] = booking
        self.answers += 1
        return booking

    async def work(self) -> None:
        try:
            while True:
                made = self._note(
                    (await self._bookings.RequestBooking(v1.RequestBookingRequest(request=soon(1)))).booking
                )
                if state_of(made) != "OFFERED":
                    continue
                name = made.booking_id
                self._note((await self._bookings.AcceptOffer(v1.AcceptOfferRequest(booking_id=name))).booking)
                change = v1.ReconfigureBookingRequest(booking_id=name, request=soon(3), update_mask=FieldMask())
                self._note((await self._bookings.ReconfigureBooking(change)).booking)
                self._note((await self._bookings.AcceptOffer(v1.AcceptOfferRequest(booking_id=name))).booking)
                self._note((await self._bookings.ReleaseBooking(v1.ReleaseBookingRequest(booking_id=name))).booking)
        except (Unavailable, Cancelled):
            return


async def test_killed_under_load_it_knows_what_it_has_acknowledged_and_leaks_nothing(tmp_path: Path) -> None:
    url = url_for(tmp_path, "netapi")
    async with served(url) as (process, address):
        channels = channels_to(address, await furnish(address))
        clients = [Client(channels) for _ in range(CLIENTS)]
        working = [asyncio.create_task(each.work()) for each in clients]
        while sum(each.answers for each in clients) < 400:
            await asyncio.wait(working, timeout=0.01)
        process.send_signal(signal.SIGKILL)
        await asyncio.gather(*working)
        await channels.close()
    store = Store.open(url, clock=SystemClock(), tables=TABLES)
    try:
        p = Platform(store)
        order = ["OFFERED", "BOOKED", "DECLINED", "RELEASED"]
        for client in clients:
            for name, told in client.last.items():
                found = await p.bookings.get(OPERATOR, name)
                # As it was told, or one deed further.
                assert order.index(state_of(found)) >= order.index(state_of(told))
                assert found.last_revision >= told.last_revision
                told_ids = [each.network_access_id for each in told.network_access_ids]
                assert [each.network_access_id for each in found.network_access_ids][: len(told_ids)] == told_ids
        standing = [
            each
            for each in (await p.bookings.page(OPERATOR, page_size=1000)).items
            if state_of(each) in ("OFFERED", "BOOKED")
        ]
        claimed = sum(
            max(each.offer.lines or each.accepted_offer.lines, key=lambda line: line.offered_devices).offered_devices
            if not each.HasField("reconfiguration")
            else max(each.accepted_offer.lines[0].offered_devices, each.reconfiguration.offer.lines[0].offered_devices)
            for each in standing
        )
        rows = await p.rows()
        assert sum(row.devices for row in rows) == claimed <= FITS
        assert sum(row.downlink_bps for row in rows) == claimed * 100 * KBPS
        for each in standing:
            await p.bookings.release(OPERATOR, each.booking_id)
        assert await p.rows() == []
    finally:
        await store.close()


@pytest.mark.clause("5G-MAG live media distribution B.2")
async def test_two_processes_on_one_database_never_oversell_together(postgresql_url: str) -> None:
    async with served(postgresql_url, "shared") as (_, one):
        token = await furnish(one)
        async with served(postgresql_url, "shared") as (_, other):
            channels = [channels_to(address, token) for address in (one, other)]
            stubs = [BookingsServiceStub(each.get("netapi")) for each in channels]
            answers = await asyncio.gather(
                *(
                    stubs[each % 2].RequestBooking(v1.RequestBookingRequest(request=soon(1 + each % 3)))
                    for each in range(50)
                )
            )
            offers = [answer.booking for answer in answers if state_of(answer.booking) == "OFFERED"]
            assert sum(each.offer.lines[0].offered_devices for each in offers) == FITS
            # Whichever process is asked to book it.
            accepted = await asyncio.gather(
                *(
                    stubs[(index + 1) % 2].AcceptOffer(v1.AcceptOfferRequest(booking_id=each.booking_id))
                    for index, each in enumerate(offers)
                )
            )
            assert {state_of(each.booking) for each in accepted} == {"BOOKED"}
            for stub in stubs:
                listed = await stub.ListBookings(v1.ListBookingsRequest(states=[v1.Booking.STATE_BOOKED]))
                assert sum(each.accepted_offer.lines[0].offered_devices for each in listed.bookings) == FITS
            for each in channels:
                await each.close()
