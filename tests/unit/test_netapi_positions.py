"""Where devices are: the latest position counts, whatever the name by which it was reported."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from netapi_places import PHONE, START, SUPI, UE_ADDRESS, after, cell, keep_ue, north_of, seen, ue

from nf.common.clock import ManualClock
from nf.common.errors import InvalidArgument
from nf.common.store import Store, Transaction, url_for
from nf.common.v1.mbs_pb2 import Ncgi
from nf.netapi.positions import Positions, position_of, time_of
from nf.netapi.v1.access_pb2 import Device
from nf.netapi.v1.coverage_pb2 import Point
from nf.netapi.v1.location_pb2 import DevicePosition


class Stand:
    """Positions on a store, and what was told of them."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(START)
        self.store = Store.open(url_for(folder, "netapi"), clock=self.clock)
        self.told: list[tuple[str, DevicePosition]] = []
        self.positions = Positions(self.store, [self._note])

    def _note(self, _: Transaction, key: str, position: DevicePosition) -> None:
        self.told.append((key, position))

    async def of(self, key: str) -> DevicePosition | None:
        return await self.store.read(lambda reader: position_of(reader, key))


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    made = Stand(tmp_path)
    yield made
    await made.store.close()


async def test_the_latest_position_counts_and_an_older_one_changes_nothing(stand: Stand) -> None:
    stand.clock.advance(timedelta(seconds=30))
    assert await stand.positions.report([seen(100, after(20)), seen(50, after(10))]) == 2
    assert [north for _, p in stand.told for north in [p.point]] == [north_of(50), north_of(100)]
    assert await stand.positions.report([seen(70, after(15)), seen(100, after(20))]) == 0
    kept = await stand.of("msisdn-436641234567")
    assert kept is not None
    assert kept.point == north_of(100)
    assert time_of(kept) == after(20)
    assert len(stand.told) == 2


async def test_a_position_without_a_time_is_now(stand: Stand) -> None:
    await stand.positions.report([DevicePosition(device=Device(phone_number=PHONE), point=north_of(0))])
    assert time_of(stand.told[0][1]) == START


def _wrong(**content: object) -> DevicePosition:
    made = DevicePosition(device=Device(phone_number=PHONE), point=north_of(0))
    made.MergeFrom(DevicePosition(**content))
    return made


@pytest.mark.parametrize(
    ("position", "field"),
    [
        (DevicePosition(device=Device(phone_number=PHONE)), "positions[1].point"),
        (_wrong(point=Point(latitude=91, longitude=0)), "positions[1].point.latitude"),
        (_wrong(point=Point(latitude=float("nan"))), "positions[1].point.latitude"),
        (_wrong(uncertainty_m=-1.0), "positions[1].uncertainty_m"),
        (_wrong(uncertainty_m=float("inf")), "positions[1].uncertainty_m"),
        (_wrong(cell=Ncgi(nr_cell_id="A1")), "positions[1].cell.nr_cell_id"),
        (seen(0, after(61)), "positions[1].position_time"),
        (seen(0, START, device=Device(phone_number="1")), "positions[1].device.phone_number"),
    ],
)
async def test_one_wrong_position_and_none_is_taken(stand: Stand, position: DevicePosition, field: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        await stand.positions.report([seen(0, START), position])
    assert [each.field for each in refusal.value.violations] == [field]
    assert stand.told == []


async def test_all_names_of_a_ue_have_one_position(stand: Stand) -> None:
    await stand.store.write(lambda tx: keep_ue(tx, ue(cell=cell())))
    assert await stand.positions.report([seen(10, START, device=Device(ipv4_address=UE_ADDRESS))]) == 1
    stand.clock.advance(timedelta(seconds=1))
    assert await stand.positions.report([seen(20, after(1), device=Device(phone_number=PHONE))]) == 1
    assert [key for key, _ in stand.told] == [SUPI, SUPI]
    kept = await stand.of(SUPI)
    assert kept is not None
    assert kept.device == Device(supi=SUPI, phone_number=PHONE, ipv4_address=UE_ADDRESS)
    # The network knows the cell, whatever was reported.
    assert (kept.point, kept.cell) == (north_of(20), cell())


async def test_a_ue_attached_in_a_cell_is_there_now(stand: Stand) -> None:
    attached = ue(cell=cell())

    def attach(tx: Transaction) -> None:
        keep_ue(tx, attached)
        stand.positions.on_attachment(tx, attached, True)

    await stand.store.write(attach)
    stand.clock.advance(timedelta(hours=1))
    kept = await stand.of(SUPI)
    assert kept is not None
    assert kept.cell == cell()
    assert time_of(kept) == START + timedelta(hours=1)
    assert [(key, position.cell) for key, position in stand.told] == [(SUPI, cell())]
    # Told once: the same attachment again is no other position.
    await stand.store.write(attach)
    assert len(stand.told) == 1


async def test_another_cell_leaves_the_point_that_was_reported_with_its_time(stand: Stand) -> None:
    await stand.store.write(lambda tx: keep_ue(tx, ue(cell=cell())))
    await stand.positions.report([seen(10, START)])
    stand.clock.advance(timedelta(seconds=5))
    moved = ue(cell=cell("0000000B2"))

    def move(tx: Transaction) -> None:
        keep_ue(tx, moved)
        stand.positions.on_attachment(tx, moved, True)

    await stand.store.write(move)
    kept = await stand.of(SUPI)
    assert kept is not None
    assert (kept.point, kept.cell, time_of(kept)) == (north_of(10), cell("0000000B2"), START)
    assert len(stand.told) == 2


async def test_what_was_reported_by_phone_number_is_the_ue_s_once_it_attaches(stand: Stand) -> None:
    await stand.positions.report([seen(10, START)])

    def attach(tx: Transaction) -> None:
        keep_ue(tx, ue())
        stand.positions.on_attachment(tx, ue(), True)

    await stand.store.write(attach)
    assert await stand.of("msisdn-436641234567") is None
    kept = await stand.of(SUPI)
    assert kept is not None
    assert kept.point == north_of(10)
    assert [key for key, _ in stand.told] == ["msisdn-436641234567", SUPI]
