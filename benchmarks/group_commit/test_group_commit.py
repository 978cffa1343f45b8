"""What does group commit bring? Durable writes per second of 256 concurrent callers, against one commit per write."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from nf.common import writer
from nf.common.clock import SystemClock
from nf.common.dialect import Durability
from nf.common.resources import new_id
from nf.common.store import Store, Transaction, url_for
from nf.pcf.v1.operator_policies_pb2 import OperatorPolicy

WRITES, CALLERS = 1000, 256


def create(tx: Transaction, name: str) -> None:
    policy = tx.insert(OperatorPolicy(operator_policy_id=name, dnn="internet"), name)
    tx.emit("MADE", f"operator-policies/{name}", policy, source="pcf")


async def write_all(directory: Path, durability: Durability) -> None:
    store = Store.open(url_for(directory, new_id()), clock=SystemClock(), durability=durability)
    callers = asyncio.Semaphore(CALLERS)

    async def one(name: str) -> None:
        async with callers:
            await store.write(lambda tx: create(tx, name))

    await asyncio.gather(*(one(str(index)) for index in range(WRITES)))
    kept = await store.read(lambda reader: len(reader.all(OperatorPolicy)))
    events = await store.read(lambda reader: [each.sequence for each in reader.events(0, 2 * WRITES)])
    await store.close()
    assert kept == WRITES
    assert events == list(range(1, WRITES + 1))


@pytest.mark.benchmark(group="durable writes")
@pytest.mark.parametrize("durability", ["process", "power"])
@pytest.mark.parametrize("group", [writer.MAX_GROUP, 1], ids=["group-commit", "one-commit-per-write"])
def test_durable_writes_per_second(
    benchmark: BenchmarkFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, group: int, durability: Durability
) -> None:
    monkeypatch.setattr(writer, "MAX_GROUP", group)
    benchmark.pedantic(lambda: asyncio.run(write_all(tmp_path, durability)), rounds=3)
    benchmark.extra_info["writes_per_s"] = round(WRITES / benchmark.stats.stats.median)
