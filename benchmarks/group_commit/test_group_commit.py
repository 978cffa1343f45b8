"""What do durable writes cost, and what does group commit bring? A lone caller and 256 at once, on each database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest
import uvloop

from benchmarks.conftest import Results
from nf.common import writer
from nf.common.clock import SystemClock
from nf.common.database import Durability
from nf.common.dialect import schema_url, url_for
from nf.common.resources import new_id
from nf.common.store import Store, Transaction
from nf.pcf.v1.operator_policies_pb2 import OperatorPolicy

WRITES, CALLERS, ROUNDS = 1000, 256, 3
DATABASES: dict[str, Durability] = {
    "SQLite, survives processes": "process",
    "SQLite, survives power": "power",
    "PostgreSQL": "process",
}
PARTS = tuple((database, grouped) for database in DATABASES for grouped in (True, False))


def create(tx: Transaction, name: str) -> None:
    policy = tx.insert(OperatorPolicy(operator_policy_id=name, dnn="internet"), name)
    tx.emit("MADE", f"operator-policies/{name}", policy, source="pcf")


async def write_all(store: Store) -> dict[str, float]:
    """Seconds per write and per read of a lone caller, and of all writes of many callers; nothing of it is missing."""
    callers = asyncio.Semaphore(CALLERS)
    before = store.sequence
    names = [new_id() for _ in range(WRITES)]
    lone = [new_id() for _ in range(WRITES // 4)]

    async def one(name: str) -> None:
        async with callers:
            await store.write(lambda tx: create(tx, name))

    async def timed(work: Callable[[str], object], name: str) -> float:
        begun = time.perf_counter()
        await work(name)  # type: ignore[misc]
        return time.perf_counter() - begun

    writes = [await timed(lambda name: store.write(lambda tx: create(tx, name)), name) for name in lone]
    reads = [
        await timed(lambda name: store.read(lambda reader: reader.require(OperatorPolicy, name)), name) for name in lone
    ]
    begun = time.perf_counter()
    await asyncio.gather(*(one(name) for name in names))
    all_of_them = time.perf_counter() - begun
    events = await store.read(lambda reader: [each.sequence for each in reader.events(before, 2 * WRITES)])
    kept = {each.operator_policy_id for each in await store.read(lambda reader: reader.all(OperatorPolicy))}
    assert events == list(range(before + 1, before + len(lone) + WRITES + 1))
    assert kept >= {*names, *lone}
    return {"write": median(writes), "read": median(reads), "all": all_of_them}


@pytest.mark.parametrize(("database", "grouped"), PARTS)
def test_durable_writes(
    database: str,
    grouped: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    postgresql_url: str,
    results_of: Callable[..., Results],
) -> None:
    if not grouped:
        monkeypatch.setattr(writer, "MAX_GROUP", 1)
        monkeypatch.setattr(writer, "MAX_BRIEF_GROUP", 1)
    url = schema_url(postgresql_url, "pcf") if database == "PostgreSQL" else url_for(tmp_path, "pcf")

    async def run() -> list[dict[str, float]]:
        store = Store.open(url, clock=SystemClock(), durability=DATABASES[database])
        try:
            return [await write_all(store) for _ in range(ROUNDS)]
        finally:
            await store.close()

    rounds = uvloop.run(run())
    results_of(
        "group_commit", about="Durable writes, each of a resource and an event, and reads of a resource", parts=PARTS
    ).add(
        (database, grouped),
        [
            {
                "subject": database,
                "what": "group commit" if grouped else "a commit per write",
                "writes_per_s_of_256_callers": round(WRITES / median(each["all"] for each in rounds)),
                "lone_write_ms": round(median(each["write"] for each in rounds) * 1e3, 3),
                "lone_read_ms": round(median(each["read"] for each in rounds) * 1e3, 3),
            }
        ],
    )
