"""Time as a dependency."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest

from nf.common.clock import ManualClock, SystemClock, from_ns, to_ns

START = datetime(2026, 1, 1, tzinfo=UTC)


def test_nanoseconds_and_datetimes_are_exact_to_the_microsecond() -> None:
    moment = datetime(2026, 11, 22, 16, 8, 0, 123457, tzinfo=timezone(timedelta(hours=1)))
    assert to_ns(moment) == 1795360080123457000
    assert from_ns(1795360080123457999) == moment
    assert to_ns(datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)) == 253402300799999999000


def test_a_naive_datetime_is_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        to_ns(datetime(2026, 1, 1))
    with pytest.raises(ValueError, match="aware"):
        ManualClock(datetime(2026, 1, 1))


async def test_a_manual_clock_wakes_sleepers_in_the_order_of_their_moments() -> None:
    clock = ManualClock(START)
    woken: list[int] = []

    async def sleep(hours: int) -> None:
        await clock.sleep_until(START + timedelta(hours=hours))
        woken.append(hours)

    sleepers = [asyncio.create_task(sleep(hours)) for hours in (48, 1, 2)]
    await clock.until_asleep()
    clock.advance(timedelta(hours=1))
    await sleepers[1]
    assert woken == [1]
    clock.advance(timedelta(days=2))
    await asyncio.gather(*sleepers)
    assert woken == [1, 2, 48]
    assert clock.now() == START + timedelta(hours=49)
    assert clock.now_ns() == to_ns(clock.now())


async def test_nobody_sleeps_until_what_has_passed() -> None:
    await ManualClock(START).sleep_until(START)
    await SystemClock().sleep_until(START - timedelta(days=1))


async def test_the_system_clock_sleeps_as_long_as_asked() -> None:
    clock = SystemClock()
    before = clock.now_ns()
    await clock.sleep_until(clock.now() + timedelta(milliseconds=5))
    assert clock.now_ns() - before >= 5_000_000
