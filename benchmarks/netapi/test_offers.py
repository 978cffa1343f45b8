"""How long does an offer take with 10,000 bookings over 1,000 areas? Beside a call that does nothing.

Before it is timed, every offer is compared with what hours and devices alone say is left of each area.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles

import grpc
import pytest
from running_core import castcore

from benchmarks.conftest import Results, interquartile_range
from benchmarks.control.bare_chain import METHOD
from benchmarks.processes import serving
from nf.common.channels import Channels
from nf.common.clock import SystemClock
from nf.common.resources import new_id
from nf.common.store import Store, Transaction, url_for
from nf.netapi import capacity, network_access_ids
from nf.netapi.compose import TABLES
from nf.netapi.offers import parts_of
from nf.netapi.transitions import due_of
from nf.netapi.v1 import agreement_pb2, coverage_pb2
from nf.netapi.v1 import booking_pb2 as v1
from nf.netapi.v1.agreement_pb2_grpc import AgreementsServiceStub
from nf.netapi.v1.booking_pb2_grpc import BookingsServiceStub
from nf.netapi.v1.coverage_pb2_grpc import CoverageServiceStub

pytestmark = pytest.mark.timeout(300)

CHAIN = Path(__file__).parents[1] / "control" / "bare_chain.py"
BOOKINGS, AREAS, DAYS = 10_000, 1_000, 28
FITS = 40
DEVICE_BPS = 128_000
OFFERS, WARM = 200, 20
DEVICES = 10
# Capabilities of areas in a request, and how often its period repeats.
PARTS = {"one area, once": (1, 1), "ten areas, five days": (10, 5)}
GOAL_MS = 20.0

AGREEMENT = agreement_pb2.Agreement(agreement_id="radio", offer_validity_s=3600)
PROFILE = coverage_pb2.CapabilityProfile(
    profile_id="audio",
    capability=coverage_pb2.CAPABILITY_QUALITY_ON_DEMAND,
    qos=coverage_pb2.QosProfile(five_qi=2, guaranteed_downlink_bps=DEVICE_BPS),
    price_units_per_device_hour=1,
)


@dataclass(frozen=True)
class Slot:
    """The same hours on several days, from a day on."""

    day: int
    hour: int
    hours: int
    days: int

    def spans(self) -> list[tuple[int, int]]:
        """The hours that it takes, counted from the first day."""
        first = [(self.day + each) * 24 + self.hour for each in range(self.days)]
        return [(start, start + self.hours) for start in first]


class Hours:
    """How many devices each area has in each hour: what offers are compared with."""

    def __init__(self) -> None:
        self._taken = [[0] * (DAYS * 24) for _ in range(AREAS)]

    def left(self, area: int, span: tuple[int, int]) -> int:
        return FITS - max(self._taken[area][slice(*span)])

    def take(self, area: int, span: tuple[int, int], devices: int) -> None:
        for hour in range(*span):
            self._taken[area][hour] += devices


def name_of(area: int) -> str:
    return f"area-{area:04}"


def some_slot(chance: random.Random, days: int) -> Slot:
    return Slot(chance.randrange(DAYS - days), chance.randrange(20), chance.randint(1, 4), days)


def request_of(areas: list[int], slot: Slot, first_day: datetime) -> v1.BookingRequest:
    start = first_day + timedelta(days=slot.day, hours=slot.hour)
    period = v1.BookingPeriod(repetition_rule=f"FREQ=DAILY;COUNT={slot.days}" if slot.days > 1 else "")
    period.start_time.FromDatetime(start)
    period.stop_time.FromDatetime(start + timedelta(hours=slot.hours))
    return v1.BookingRequest(
        population=v1.Population(application_id="player", devices=DEVICES),
        traffic=v1.BookedTraffic(domain_names=["*.radio.example"]),
        periods=[period],
        area_capabilities=[v1.AreaCapability(area_id=name_of(each), profile_id="audio") for each in areas],
    )


def load(transaction: Transaction, hours: Hours, first_day: datetime, chance: random.Random) -> int:
    """Bookings as the platform has them when they are accepted; how many rows they take."""
    now, rows = transaction.clock.now(), 0
    for _ in range(BOOKINGS):
        areas, slot = chance.sample(range(AREAS), 2), some_slot(chance, chance.choice((1, 4, 7)))
        offer = v1.Offer(revision=1, capability_profiles=[PROFILE])
        for area in areas:
            for span in slot.spans():
                devices = min(DEVICES, hours.left(area, span))
                hours.take(area, span, devices)
                line = offer.lines.add(
                    area_id=name_of(area), profile_id="audio", requested_devices=DEVICES, offered_devices=devices
                )
                line.start_time.FromDatetime(first_day + timedelta(hours=span[0]))
                line.stop_time.FromDatetime(first_day + timedelta(hours=span[1]))
        booking = v1.Booking(
            booking_id=new_id(),
            agreement_id="radio",
            state=v1.Booking.STATE_BOOKED,
            request=request_of(areas, slot, first_day),
            accepted_offer=offer,
            last_revision=1,
        )
        booking.current_period.start_time.CopyFrom(offer.lines[0].start_time)
        booking.current_period.stop_time.CopyFrom(offer.lines[0].stop_time)
        network_access_ids.issue(transaction, booking)
        parts = parts_of(offer, now)
        capacity.stand(transaction, booking.booking_id, "radio")
        capacity.book(transaction, booking.booking_id, parts)
        transaction.insert(booking, booking.booking_id, parent="radio", due=due_of(booking))
        rows += len(parts)
    return rows


async def furnish(channels: Channels) -> str:
    """Agreement, areas and profile; the token of the provider."""
    channel = channels.get("netapi")
    areas = CoverageServiceStub(channel)
    for area in range(AREAS):
        wanted = coverage_pb2.ServiceArea(
            area_id=name_of(area),
            everywhere=True,
            capacity=coverage_pb2.AreaCapacity(downlink_bps=FITS * DEVICE_BPS),
        )
        await areas.PutServiceArea(coverage_pb2.PutServiceAreaRequest(service_area=wanted))
    await areas.PutCapabilityProfile(coverage_pb2.PutCapabilityProfileRequest(capability_profile=PROFILE))
    agreements = AgreementsServiceStub(channel)
    await agreements.CreateAgreement(agreement_pb2.CreateAgreementRequest(agreement=AGREEMENT))
    wanted_credential = agreement_pb2.Credential(agreement_id="radio")
    made = await agreements.CreateCredential(agreement_pb2.CreateCredentialRequest(credential=wanted_credential))
    return made.credential.token


def check(offer: v1.Offer, areas: list[int], slot: Slot, hours: Hours) -> None:
    """What is offered is what is left, hour by hour; from now on it is taken."""
    found = [(line.area_id, line.offered_devices) for line in offer.lines]
    expected = []
    for area in areas:
        for span in slot.spans():
            devices = min(DEVICES, hours.left(area, span))
            hours.take(area, span, devices)
            expected.append((name_of(area), devices))
    assert found == expected


@dataclass(frozen=True)
class Loaded:
    """A platform's state with all that is booked, and what a provider needs to know of it."""

    words: tuple[str, ...]
    token: str
    first_day: datetime
    hours: Hours
    rows: int


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return asyncio.run(made(tmp_path_factory.mktemp("netapi")))


async def made(folder: Path) -> Loaded:
    configuration = folder / "castcore.toml"
    # Nobody listens there: offers need neither.
    configuration.write_text('[pcf]\ngrpc_address = "127.0.0.1:9"\n[smf]\ngrpc_address = "127.0.0.1:9"\n')
    words = ("run", "netapi", "--dir", str(folder), "--config", str(configuration))
    with castcore(*words) as (process, ready):
        channels = Channels(ready["grpc"])
        token = await furnish(channels)
        await channels.close()
        process.send_signal(signal.SIGTERM)
        process.wait()
    hours, chance = Hours(), random.Random(7)
    first_day = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=2)
    store = Store.open(url_for(folder, "netapi"), clock=SystemClock(), tables=TABLES)
    rows = await store.write(lambda transaction: load(transaction, hours, first_day, chance), apart=True)
    await store.close()
    return Loaded(words, token, first_day, hours, rows)


@pytest.mark.parametrize("part", PARTS)
async def test_an_offer_beside_a_call_that_does_nothing(
    part: str, loaded: Loaded, results_of: Callable[..., Results]
) -> None:
    results = results_of(
        "offers",
        about=f"An offer with {BOOKINGS:,} bookings over {AREAS:,} areas, beside a call that does nothing",
        parts=tuple(PARTS),
    )
    count, days = PARTS[part]
    chance = random.Random(part)
    with ExitStack() as running:
        _, ready = running.enter_context(castcore(*loaded.words))
        channels = Channels(ready["grpc"], token=loaded.token)
        bookings = BookingsServiceStub(channels.get("netapi"))
        seconds: dict[str, list[float]] = {"castcore": [], "one call": []}

        def asked(areas: list[int], slot: Slot) -> v1.RequestBookingRequest:
            return v1.RequestBookingRequest(request=request_of(areas, slot, loaded.first_day), request_id=new_id())

        async def offer() -> tuple[v1.RequestBookingRequest, v1.Booking, float]:
            """One more; with how long it has taken."""
            areas, slot = chance.sample(range(AREAS), count), some_slot(chance, days)
            request = asked(areas, slot)
            begun = time.perf_counter()
            answer = await bookings.RequestBooking(request)
            taken_s = time.perf_counter() - begun
            check(answer.booking.offer, areas, slot, loaded.hours)
            return request, answer.booking, taken_s

        request, answer, _ = await offer()
        asked_bytes = request.ByteSize()
        bare_address = running.enter_context(serving(CHAIN, f"{asked_bytes}:{answer.ByteSize()}"))
        async with grpc.aio.insecure_channel(bare_address) as channel:
            ask = channel.unary_unary(METHOD)
            for number in range(WARM + OFFERS):
                _, _, taken_s = await offer()
                begun = time.perf_counter()
                await ask(bytes(asked_bytes))
                floor_s = time.perf_counter() - begun
                if number >= WARM:
                    seconds["castcore"].append(taken_s)
                    seconds["one call"].append(floor_s)
        await channels.close()
    nothing_s = median(seconds["one call"])
    results.add(
        part,
        [
            {
                "subject": subject,
                "what": part,
                "bookings": BOOKINGS,
                "reservations": loaded.rows,
                "measurements": len(each),
                "median_ms": round(median(each) * 1e3, 3),
                "95_of_100_ms": round(quantiles(each, n=20)[-1] * 1e3, 3),
                "spread": round(interquartile_range(each) / median(each), 3),
                "times_the_call": round(median(each) / nothing_s, 2),
            }
            for subject, each in seconds.items()
        ],
    )
    assert median(seconds["castcore"]) * 1e3 < GOAL_MS
