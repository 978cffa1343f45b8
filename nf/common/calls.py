"""Calls that go on when their client leaves: what may change something is not stopped half-way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from types import CoroutineType
from typing import TypeVar, cast

from nf.common.telemetry import logger

T = TypeVar("T")


class Calls:
    """The calls that a server is serving detached from their clients."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()

    async def detached(self, work: Awaitable[T], method: str, function: str) -> T:
        """The result of ``work``, which goes on when the caller is cancelled."""
        task = asyncio.create_task(work) if isinstance(work, CoroutineType) else asyncio.ensure_future(work)
        self._tasks.add(cast("asyncio.Task[object]", task))
        ended = task.get_loop().create_future()

        def end(_: asyncio.Future[T]) -> None:
            self._tasks.discard(cast("asyncio.Task[object]", task))
            if not ended.done():
                ended.set_result(None)

        task.add_done_callback(end)
        try:
            await ended
        except asyncio.CancelledError:
            task.add_done_callback(lambda done: _tell_orphan(done, method, function))
            raise
        return task.result()

    async def finish(self, grace_s: float) -> None:
        """Waits for what is detached, then cancels it."""
        if not self._tasks:
            return
        _, left = await asyncio.wait(self._tasks, timeout=grace_s)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)


def _tell_orphan(task: asyncio.Future[T], method: str, function: str) -> None:
    if task.cancelled():
        return
    error = task.exception()
    if error is not None:
        logger(function).warning("rpc.failed_after_client_left", method=method, error=str(error))
