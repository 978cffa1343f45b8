"""The gate of the MBSF's calls: never more than its places, let in together, and nobody left outside."""

from __future__ import annotations

import asyncio

import pytest

from nf.mbsf.gate import Gate


async def test_those_who_wait_come_in_together_once_half_of_the_places_are_free() -> None:
    gate, leave = Gate(4), asyncio.Semaphore(0)
    inside: list[int] = []

    async def visit(each: int) -> None:
        async with gate:
            inside.append(each)
            await leave.acquire()

    tasks = [asyncio.create_task(visit(each)) for each in range(8)]
    await _turn()
    assert inside == [0, 1, 2, 3]
    leave.release()
    await _turn()
    assert inside == [0, 1, 2, 3]
    leave.release()
    await _turn()
    assert inside == [0, 1, 2, 3, 4, 5]
    for _ in range(6):
        leave.release()
    await asyncio.gather(*tasks)
    assert inside == list(range(8))


async def test_a_place_that_stays_free_alone_is_given_as_well() -> None:
    gate, held = Gate(4), asyncio.Event()
    came = asyncio.Event()

    async def hold() -> None:
        async with gate:
            await held.wait()

    async def pass_through() -> None:
        async with gate:
            came.set()

    holding = [asyncio.create_task(hold()) for _ in range(3)]
    await _turn()
    await asyncio.gather(*(pass_through() for _ in range(3)))
    assert came.is_set()
    held.set()
    await asyncio.gather(*holding)


async def test_who_is_cancelled_while_a_place_is_given_to_it_gives_it_back() -> None:
    gate = Gate(1)
    await gate.__aenter__()
    waiting = asyncio.create_task(gate.__aenter__())
    await _turn()
    await gate.__aexit__(None, None, None)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    async with asyncio.timeout(10), gate:
        pass


async def _turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)
