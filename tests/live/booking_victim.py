"""Kills itself at every statement of every deed on a booking: ``booking_victim.py DIRECTORY`` prints what came of it.

Each line is JSON: of a deed, what stands before and after it (``step`` 0); then of each statement at which a process
was killed, whether it had answered, what stands after a restart, and what stands when the deed is repeated.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from google.protobuf.field_mask_pb2 import FieldMask

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

from booking_stack import PROVIDER, START, Platform, request, state_of  # noqa: E402 (needs the path)

from nf.common.clock import ManualClock  # noqa: E402
from nf.common.statements import Session  # noqa: E402
from nf.common.store import Store, url_for  # noqa: E402
from nf.netapi.capacity import TABLES  # noqa: E402

Deed = Callable[[Platform], Awaitable[object]]


async def _first(p: Platform) -> str:
    return (await p.bookings.page(PROVIDER)).items[0].booking_id


async def _request(p: Platform) -> None:
    await p.bookings.request(PROVIDER, request(areas=(("city", "audio"), ("valley", "editorial")), devices=3), "one")


async def _accept(p: Platform) -> None:
    await p.bookings.accept(PROVIDER, await _first(p), 1)


async def _reconfigure(p: Platform) -> None:
    wanted = request(areas=(("city", "audio-hd"), ("sea", "audio")), devices=4)
    await p.bookings.reconfigure(PROVIDER, await _first(p), wanted, FieldMask(), "", "two")


async def _accept_change(p: Platform) -> None:
    await p.bookings.accept(PROVIDER, await _first(p), 2)


async def _release(p: Platform) -> None:
    await p.bookings.release(PROVIDER, await _first(p))


DEEDS: dict[str, Deed] = {
    "request": _request,
    "accept": _accept,
    "reconfigure": _reconfigure,
    "accept the change": _accept_change,
    "release": _release,
}


async def _with(folder: Path, work: Callable[[Platform], Awaitable[object]]) -> object:
    store = Store.open(url_for(folder, "netapi"), clock=ManualClock(START), tables=TABLES)
    try:
        return await work(Platform(store))
    finally:
        await store.close()


async def _standing(p: Platform) -> object:
    """What stands, without the names that chance gives."""
    return {
        "bookings": [
            {
                "state": state_of(each),
                "accepted": each.accepted_offer.revision,
                "open": each.reconfiguration.offer.revision,
                "ids": [(ids.area_id, ids.profile_id, ids.active, ids.devices) for ids in each.network_access_ids],
            }
            for each in (await p.bookings.page(PROVIDER)).items
        ],
        "rows": sorted(
            (row.area_id, row.profile_id, row.downlink_bps, row.devices, row.held) for row in await p.rows()
        ),
        "events": [each.type for each in await p.events()],
    }


def _kill_at(step: int) -> None:
    """From now on, the process ends before its statement of that number; the end of the last one counts too."""
    seen = 0

    def count() -> None:
        nonlocal seen
        seen += 1
        if seen == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(name: str) -> None:
        plain = getattr(Session, name)

        def counted(session: Session, *arguments: object) -> object:
            count()
            result = plain(session, *arguments)
            if name == "end":
                count()
            return result

        setattr(Session, name, counted)

    for name in ("change", "change_all", "end"):
        watched(name)


def _forked(work: Callable[[], object]) -> tuple[bool, object]:
    """Runs it in a process of its own: whether that was killed, and what it had to say."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.write(writing, json.dumps(work()).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status) != 0:
        raise RuntimeError("the process has failed")
    return os.WIFSIGNALED(status), json.loads(said) if said else None


def _victim(folder: Path, deed: Deed, step: int) -> object:
    async def work() -> None:
        store = Store.open(url_for(folder, "netapi"), clock=ManualClock(START), tables=TABLES)
        _kill_at(step)
        await deed(Platform(store))
        (folder / "answered").touch()
        # Without its last words: those are none of the deed's.
        os._exit(0)

    asyncio.run(work())
    return None


async def _survivor(folder: Path, deed: Deed) -> object:
    async def work(p: Platform) -> object:
        after_restart = await _standing(p)
        await deed(p)
        return after_restart, await _standing(p)

    return await _with(folder, work)


def main(directory: Path) -> None:
    now = directory / "now"
    now.mkdir()
    _forked(lambda: asyncio.run(_with(now, lambda p: p.furnish())))
    for name, deed in DEEDS.items():
        before = directory / name
        shutil.copytree(now, before)
        _, stands_before = _forked(lambda: asyncio.run(_with(now, _standing)))
        _forked(lambda deed=deed: asyncio.run(_with(now, deed)))
        _, stands_after = _forked(lambda: asyncio.run(_with(now, _standing)))
        print(json.dumps({"deed": name, "step": 0, "before": stands_before, "after": stands_after}), flush=True)
        step, killed = 0, True
        while killed:
            step += 1
            folder = directory / f"{name} {step}"
            shutil.copytree(before, folder)
            killed, _ = _forked(lambda folder=folder, deed=deed, step=step: _victim(folder, deed, step))
            stands = asyncio.run(_survivor(folder, deed))
            answered = (folder / "answered").exists()
            print(json.dumps({"deed": name, "step": step, "answered": answered, "stands": stands}), flush=True)
            shutil.rmtree(folder)


# What children do not touch they share.
gc.disable()
gc.freeze()
main(Path(sys.argv[1]))
