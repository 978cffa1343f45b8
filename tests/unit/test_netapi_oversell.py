"""Concurrent requesters never oversell an area: with one store, and with two on one PostgreSQL database."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from booking_stack import OTHER, PROVIDER, START, Platform, ids_of, platform, request, state_of
from google.protobuf.field_mask_pb2 import FieldMask

from nf.common.clock import ManualClock
from nf.common.store import Store
from nf.netapi.callers import OPERATOR
from nf.netapi.compose import TABLES
from nf.netapi.v1.booking_pb2 import Booking

# The city has 1,000 kbps; a device takes 100.
FITS = 10


def booked_devices(bookings: Sequence[Booking]) -> int:
    """What stands in the city in the first hour."""
    return sum(
        line.offered_devices
        for booking in bookings
        for line in (booking.offer.lines if state_of(booking) == "OFFERED" else booking.accepted_offer.lines)
        if line.area_id == "city" and state_of(booking) in ("OFFERED", "BOOKED", "ACTIVE")
    )


@pytest.mark.clause("5G-MAG live media distribution B.2")
async def test_fifty_requesters_at_once_get_what_there_is_and_no_more() -> None:
    async with platform() as p:
        made = await asyncio.gather(
            *(p.bookings.request((PROVIDER, OTHER)[each % 2], request(devices=1 + each % 3)) for each in range(50))
        )
        assert booked_devices(made) == FITS
        assert {state_of(each) for each in made} == {"OFFERED", "DECLINED"}
        offers = [each for each in made if state_of(each) == "OFFERED"]
        accepted = await asyncio.gather(*(p.bookings.accept(OPERATOR, each.booking_id) for each in offers))
        assert booked_devices(accepted) == FITS
        # All change at once: whoever gets more gets what is left, and that is nothing.
        changed = await asyncio.gather(
            *(p.bookings.reconfigure(OPERATOR, each.booking_id, request(devices=9), FieldMask()) for each in accepted)
        )
        assert [each.reconfiguration.offer.lines[0].offered_devices for each in changed] == [
            each.accepted_offer.lines[0].offered_devices for each in accepted
        ]
        await asyncio.gather(*(p.bookings.release(OPERATOR, each.booking_id) for each in accepted))
        assert await p.rows() == []


@pytest.mark.clause("5G-MAG live media distribution B.2")
async def test_two_stores_on_one_database_get_what_there_is_together_and_no_more(postgresql_url: str) -> None:
    clock = ManualClock(START)
    stores = [Store.open(postgresql_url, clock=clock, tables=TABLES, shared=True) for _ in range(2)]
    try:
        one, other = (Platform(store) for store in stores)
        await one.furnish()
        made = await asyncio.gather(
            *((one, other)[each % 2].bookings.request(PROVIDER, request(devices=1 + each % 3)) for each in range(50))
        )
        offers = [each for each in made if state_of(each) == "OFFERED"]
        assert booked_devices(made) == FITS
        # Whichever of them is asked: both know all of it.
        accepted = await asyncio.gather(
            *((other, one)[index % 2].bookings.accept(PROVIDER, each.booking_id) for index, each in enumerate(offers))
        )
        assert booked_devices(accepted) == FITS
        assert len({ids_of(each)["city", "audio"] for each in accepted}) == len(accepted)
        # An acceptance that both are asked for at once is one.
        changes = await asyncio.gather(
            *(one.bookings.reconfigure(PROVIDER, each.booking_id, request(devices=9), FieldMask()) for each in accepted)
        )
        twice = await asyncio.gather(*(p.bookings.accept(PROVIDER, changes[0].booking_id, 2) for p in (one, other)))
        assert twice[0] == twice[1]
        assert booked_devices((await other.bookings.page(PROVIDER)).items) == FITS
    finally:
        for store in stores:
            await store.close()
