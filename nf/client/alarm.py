"""Waiting for a moment that may be moved while one waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from nf.common.clock import Clock


class Alarm:
    """Rings at the moment that ``due`` names; None: not at all. Whoever moves the moment says so with ``changed``."""

    def __init__(self, clock: Clock, due: Callable[[], datetime | None]) -> None:
        self._clock = clock
        self._due = due
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """The moment may be another one now."""
        self._changed.set()

    async def ring(self) -> None:
        """Returns when the moment has come."""
        while True:
            self._changed.clear()
            due = self._due()
            if due is None:
                await self._changed.wait()
                continue
            if due <= self._clock.now():
                return
            waits = [
                asyncio.ensure_future(self._changed.wait()),
                asyncio.ensure_future(self._clock.sleep_until(due)),
            ]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in waits:
                    each.cancel()
