"""Random schedules, requests, reconfigurations and restarts of a platform, with time moved by hand.

What ought to be is worked out minute by minute from what bookings say of themselves, and compared with what the
platform offers, with the states it tells and with its table of what is taken: no moment of any area is oversold, what
ended bookings had is free, and network access IDs never change.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from booking_stack import (
    AREAS,
    OTHER,
    PROFILES,
    PROVIDER,
    START,
    VALIDITY,
    Platform,
    period,
    request,
    state_of,
)
from google.protobuf.field_mask_pb2 import FieldMask
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nf.common.clock import ManualClock
from nf.common.errors import CastcoreError, FailedPrecondition, InvalidArgument
from nf.common.store import Store, url_for
from nf.netapi.callers import OPERATOR, Caller
from nf.netapi.compose import TABLES
from nf.netapi.network_access_ids import of_booking
from nf.netapi.v1.booking_pb2 import Booking, BookingPeriod, BookingRequest, Offer

T = TypeVar("T")
MINUTE = timedelta(minutes=1)
DAY = 24 * 60
STANDING = ("OFFERED", "BOOKED", "ACTIVE", "SUSPENDED")
ACCEPTED = STANDING[1:]
# What an area has, and what one device takes: kbps down, kbps up, devices.
HAS = {
    each.area_id: (
        each.capacity.downlink_bps if each.capacity.HasField("downlink_bps") else None,
        each.capacity.uplink_bps if each.capacity.HasField("uplink_bps") else None,
        each.capacity.devices if each.capacity.HasField("devices") else None,
    )
    for each in AREAS
}
TAKES = {each.profile_id: (each.qos.guaranteed_downlink_bps, each.qos.guaranteed_uplink_bps, 1) for each in PROFILES}
# One Quality-on-Demand profile in each area at the most, and geofencing beside it.
PLACES = st.dictionaries(
    st.sampled_from(["city", "valley", "sea"]),
    st.lists(st.sampled_from(["audio", "audio-hd", "editorial"]), min_size=1, max_size=2, unique=True).filter(
        lambda each: set(each) != {"audio", "audio-hd"}
    ),
    min_size=1,
    max_size=2,
)
SCHEDULES = st.tuples(st.integers(-30, 90), st.integers(1, 200), st.integers(1, 3), st.booleans())


def minute_of(moment: datetime) -> int:
    return int((moment - START) / MINUTE)


def lines_of(offer: Offer) -> Iterator[tuple[str, str, int, int, int]]:
    for line in offer.lines:
        start, stop = (minute_of(each.ToDatetime(UTC)) for each in (line.start_time, line.stop_time))
        yield line.area_id, line.profile_id, start, stop, line.offered_devices


def taken_by(offer: Offer, area_id: str, minute: int) -> tuple[int, ...]:
    total = [0, 0, 0]
    for area, profile, start, stop, devices in lines_of(offer):
        if area == area_id and start <= minute < stop:
            total = [had + devices * share for had, share in zip(total, TAKES[profile], strict=True)]
    return tuple(total)


def added(loads: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(sum(each) for each in zip((0, 0, 0), *loads, strict=True))


def claims_of(booking: Booking, area_id: str, minute: int) -> tuple[int, ...]:
    """What a booking may come to take at that minute: what is accepted, or what it would be changed to."""
    if state_of(booking) == "OFFERED":
        return taken_by(booking.offer, area_id, minute)
    if state_of(booking) not in ACCEPTED:
        return 0, 0, 0
    accepted = taken_by(booking.accepted_offer, area_id, minute)
    changed = taken_by(booking.reconfiguration.offer, area_id, minute)
    return tuple(max(each) for each in zip(accepted, changed, strict=True))


def bare(booking: Booking) -> Booking:
    """A booking without what an offer to change it brings."""
    unchanged = Booking()
    unchanged.CopyFrom(booking)
    for field in ("reconfiguration", "last_revision", "etag", "update_time"):
        unchanged.ClearField(field)
    return unchanged


class Schedules(RuleBasedStateMachine):
    """One platform, two providers, and what happens to their bookings."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = Path(tempfile.mkdtemp())
        self.clock = ManualClock(START)
        self.owners: dict[str, Caller] = {}
        # By booking: the minutes at which its windows begin and end, accepted or asked for.
        self.windows: dict[str, list[tuple[int, int]]] = {}
        self.open_windows: dict[str, list[tuple[int, int]]] = {}
        self.suspended: set[str] = set()
        self.ids: dict[tuple[str, str, int], str] = {}

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(asyncio.wait_for(work, 30))

    @initialize()
    def begin(self) -> None:
        async def begin() -> None:
            await self._open()
            await self.platform.furnish()

        self.run(begin())

    def teardown(self) -> None:
        async def end() -> None:
            self.clock.advance(5 * DAY * MINUTE)
            await self.platform.settle()
            assert await self.platform.rows() == []
            for each in await self._all():
                assert state_of(each) not in STANDING
            await self._close()

        if hasattr(self, "platform"):
            self.run(end())
        self.runner.close()
        shutil.rmtree(self.directory)

    async def _open(self) -> None:
        store = Store.open(url_for(self.directory, "netapi"), clock=self.clock, tables=TABLES)
        self.platform = Platform(store)
        await self.platform.life_cycle.start()

    async def _close(self) -> None:
        await self.platform.life_cycle.stop()
        await self.platform.store.close()

    async def _all(self) -> list[Booking]:
        return (await self.platform.bookings.page(OPERATOR, page_size=1000)).items

    # --- what happens -------------------------------------------------------------------------------------------------

    def _periods(self, schedule: tuple[int, int, int, bool]) -> tuple[list[BookingPeriod], list[tuple[int, int]]]:
        start, lasts, days, by_rule = schedule
        first = minute_of(self.clock.now()) + start
        windows = [(first + day * DAY, first + day * DAY + lasts) for day in range(days)]
        if by_rule:
            begin = START + first * MINUTE
            return [period(begin, begin + lasts * MINUTE, f"FREQ=DAILY;COUNT={days}")], windows
        return [period(START + begin * MINUTE, START + end * MINUTE) for begin, end in windows], windows

    def _request(
        self, places: dict[str, list[str]], devices: int, schedule: tuple[int, int, int, bool]
    ) -> tuple[BookingRequest, list[tuple[int, int]]]:
        periods, windows = self._periods(schedule)
        wanted = [(area, profile) for area, profiles in places.items() for profile in profiles]
        return request(*periods, areas=wanted, devices=devices), windows

    @rule(
        places=PLACES,
        devices=st.integers(1, 12),
        schedule=SCHEDULES,
        caller=st.sampled_from([PROVIDER, OTHER]),
        accepted=st.booleans(),
    )
    def ask(
        self,
        places: dict[str, list[str]],
        devices: int,
        schedule: tuple[int, int, int, bool],
        caller: Caller,
        accepted: bool,
    ) -> None:
        asked, windows = self._request(places, devices, schedule)

        async def ask() -> None:
            before = await self._all()
            try:
                made = await self.platform.bookings.request(caller, asked)
            except InvalidArgument:
                assert all(stop <= minute_of(self.clock.now()) for _, stop in windows)
                return
            self.owners[made.booking_id] = caller
            self.windows[made.booking_id] = windows
            self._check_offer(made.offer, devices, before)
            assert (state_of(made) == "DECLINED") == (not any(each[-1] for each in lines_of(made.offer)))
            if accepted and state_of(made) == "OFFERED":
                await self.platform.bookings.accept(caller, made.booking_id)

        self.run(ask())

    def _check_offer(self, offer: Offer, devices: int, others: list[Booking]) -> None:
        """What is offered fits beside the others, and one device more would not, or was not asked for."""
        now = minute_of(self.clock.now())
        offered: list[tuple[str, str, int, int, int]] = []
        for area, profile, start, stop, count in lines_of(offer):
            fits = devices
            for minute in self._moments(others, max(start, now), stop):
                taken = added(claims_of(each, area, minute) for each in others)
                for index, most in enumerate(HAS[area]):
                    share = TAKES[profile][index]
                    if most is None or share == 0:
                        continue
                    earlier = sum(n * TAKES[p][index] for a, p, b, e, n in offered if a == area and b <= minute < e)
                    fits = min(fits, (most - taken[index] - earlier) // share)
            assert count == fits, (area, profile, start, stop)
            offered.append((area, profile, start, stop, count))

    def _moments(self, bookings: list[Booking], start: int, stop: int) -> set[int]:
        """The minutes at which what is taken may change, those in between are like them."""
        found = {start}
        for each in bookings:
            for offer in (each.offer, each.accepted_offer, each.reconfiguration.offer):
                found |= {minute for line in lines_of(offer) for minute in line[2:4]}
        return {minute for minute in found if start <= minute < stop}

    @precondition(lambda self: self.owners)
    @rule(data=st.data(), deed=st.sampled_from(["accept", "accept", "decline", "release", "suspend", "resume"]))
    def answer(self, data: st.DataObject, deed: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.owners)))

        async def answer() -> None:
            bookings, caller = self.platform.bookings, self.owners[name]
            before = await bookings.get(OPERATOR, name)
            try:
                if deed in ("suspend", "resume"):
                    after = await getattr(bookings, deed)(OPERATOR, name)
                else:
                    after = await getattr(bookings, deed)(caller, name)
            except FailedPrecondition:
                assert await bookings.get(OPERATOR, name) == before
                return
            if deed == "accept" and before.HasField("reconfiguration") and not after.HasField("reconfiguration"):
                self.windows[name] = self.open_windows[name]
            if deed == "suspend":
                self.suspended.add(name)
            elif deed == "resume":
                self.suspended.discard(name)

        self.run(answer())

    @precondition(lambda self: self._changeable())
    @rule(
        data=st.data(),
        places=PLACES,
        devices=st.integers(1, 12),
        schedule=SCHEDULES,
        mask=st.lists(st.sampled_from(["periods", "area_capabilities", "population"]), unique=True),
        then=st.sampled_from(["nothing", "accept", "decline"]),
    )
    def reconfigure(
        self,
        data: st.DataObject,
        places: dict[str, list[str]],
        devices: int,
        schedule: tuple[int, int, int, bool],
        mask: list[str],
        then: str,
    ) -> None:
        name = data.draw(st.sampled_from(self._changeable()))
        asked, windows = self._request(places, devices, schedule)

        async def reconfigure() -> None:
            bookings, caller = self.platform.bookings, self.owners[name]
            before = await bookings.get(OPERATOR, name)
            rows = await self.platform.rows()
            try:
                after = await bookings.reconfigure(caller, name, asked, FieldMask(paths=mask))
            except CastcoreError:
                assert await bookings.get(OPERATOR, name) == before
                assert await self.platform.rows() == rows
                return
            assert bare(after) == bare(before)
            self.open_windows[name] = windows if "periods" in mask or not mask else self.windows[name]
            if then == "decline":
                assert bare(await bookings.decline(caller, name)) == bare(before)
            elif then == "accept":
                # What was offered is held: it is to be had.
                changed = await bookings.accept(caller, name)
                assert changed.accepted_offer == after.reconfiguration.offer
                self.windows[name] = self.open_windows[name]

        self.run(reconfigure())

    def _changeable(self) -> list[str]:
        """The bookings that can be reconfigured."""
        return [each.booking_id for each in self.run(self._all()) if state_of(each) in ("BOOKED", "ACTIVE")]

    @rule(minutes=st.one_of(st.integers(1, 8), st.integers(1, 300), st.integers(1, 3).map(lambda days: days * DAY)))
    def let_time_pass(self, minutes: int) -> None:
        async def wait() -> None:
            self.clock.advance(minutes * MINUTE)
            await self.platform.settle()

        self.run(wait())

    @rule(minutes=st.integers(0, DAY))
    def restart(self, minutes: int) -> None:
        async def restart() -> None:
            await self._close()
            self.clock.advance(minutes * MINUTE)
            await self._open()
            await self.platform.settle()

        self.run(restart())

    # --- what holds ---------------------------------------------------------------------------------------------------

    @invariant()
    def nothing_is_oversold_and_nothing_leaks(self) -> None:
        if not hasattr(self, "platform"):
            return

        async def check() -> None:
            bookings, rows = await self._all(), await self.platform.rows()
            now = minute_of(self.clock.now())
            standing = {each.booking_id for each in bookings if state_of(each) in STANDING}
            assert {row.booking_id for row in rows} <= standing
            for area, has in HAS.items():
                for minute in self._moments(bookings, now, now + 5 * DAY):
                    moment_ns = int((START + minute * MINUTE).timestamp()) * 1_000_000_000
                    total = added(claims_of(each, area, minute) for each in bookings)
                    covering = [
                        (row.downlink_bps, row.uplink_bps, row.devices)
                        for row in rows
                        if row.area_id == area and row.start_ns <= moment_ns < row.stop_ns
                    ]
                    assert total == added(covering)
                    assert all(most is None or taken <= most for taken, most in zip(total, has, strict=True))

        self.run(check())

    @invariant()
    def states_are_those_of_the_hour(self) -> None:
        if not hasattr(self, "platform"):
            return
        now = minute_of(self.clock.now())
        for booking in self.run(self._all()):
            state, name = state_of(booking), booking.booking_id
            assert state != "REQUESTED"
            if state == "OFFERED":
                assert booking.offer.valid_until.ToDatetime(UTC) > self.clock.now()
                assert booking.offer.valid_until.ToDatetime(UTC) <= self.clock.now() + VALIDITY
            elif state in (*ACCEPTED, "EXPIRED"):
                on = any(start <= now < stop for start, stop in self.windows[name])
                over = all(stop <= now for _, stop in self.windows[name])
                within = "ACTIVE" if on else "EXPIRED" if over else "BOOKED"
                assert state == ("SUSPENDED" if name in self.suspended and not over else within)
                if booking.HasField("reconfiguration"):
                    assert booking.reconfiguration.offer.valid_until.ToDatetime(UTC) > self.clock.now()

    @invariant()
    def network_access_ids_never_change(self) -> None:
        if not hasattr(self, "platform"):
            return

        async def check() -> None:
            seen: set[str] = set()
            for booking in await self._all():
                name = booking.booking_id
                stored = await self.platform.store.read(partial(of_booking, booking_id=name))
                assert list(booking.network_access_ids) == stored
                for each in stored:
                    seen.add(each.network_access_id)
                    key = (each.booking_id, each.area_id, each.capability)
                    assert self.ids.setdefault(key, each.network_access_id) == each.network_access_id
                if state_of(booking) in ACCEPTED:
                    booked = {(line.area_id, line.profile_id) for line in booking.accepted_offer.lines}
                    assert {(each.area_id, each.profile_id) for each in stored if each.active} == booked
                else:
                    assert not any(each.active for each in stored)
            assert seen == set(self.ids.values())

        self.run(check())


Schedules.TestCase.settings = settings(
    max_examples=10, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.clause("5G-MAG live media distribution B.1 schedule", "5G-MAG live media distribution reconfiguration")
class TestSchedules(Schedules.TestCase):
    """Run by hypothesis."""
