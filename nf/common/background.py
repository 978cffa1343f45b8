"""Work of a function that goes on between its start and its stop, on its own account: no request is behind it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING

from nf.common import call
from nf.common.errors import CastcoreError

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


class Background:
    """One task; ``begin`` it once, ``end`` it, and it may begin again."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._task: asyncio.Task[None] | None = None

    def begin(self, work: Callable[[], Coroutine[object, object, None]]) -> None:
        """Begins ``work``, unless it is under way. What has started the function is not what causes the work."""
        if self._task is None:
            self._task = asyncio.create_task(_on_its_own_account(work), name=self._name)

    async def end(self) -> None:
        """Returns when the work has been cancelled and has ended."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])


async def _on_its_own_account(work: Callable[[], Coroutine[object, object, None]]) -> None:
    call.adopt_deadline(None)
    call.set_correlation_id("")
    await work()


async def follow_for_ever(
    follow: Callable[[], Awaitable[bool]],
    log: FilteringBoundLogger,
    what: str,
    *,
    first_backoff_s: float,
    max_backoff_s: float,
) -> None:
    """Follows a peer's stream again and again, whatever ends it, pausing longer as long as nothing comes.

    ``follow`` returns when the stream ends: whether anything came. Failures are logged as "interrupted" or "failed".
    """
    backoff_s = first_backoff_s
    while True:
        try:
            if await follow():
                backoff_s = first_backoff_s
        except CastcoreError as error:
            log.debug(f"{what}.interrupted", code=error.code, error=str(error))
        except Exception:
            log.exception(f"{what}.failed")
        await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))
        backoff_s = min(2 * backoff_s, max_backoff_s)
