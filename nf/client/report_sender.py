"""Sends the reports that wait in an outbox, one after the other, whenever the AF is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from nf.client.alarm import Alarm
from nf.client.m5 import M5
from nf.client.outbox import Outbox
from nf.common.background import Background
from nf.common.clock import Clock
from nf.common.errors import CastcoreError
from nf.common.telemetry import logger

# What became of an attempt: the error, or None.
Attempted = Callable[[CastcoreError | None], None]


class ReportSender:
    """Between ``begin`` and ``end`` it sends what is in the outbox. ``attempted`` hears of each attempt."""

    def __init__(self, m5: M5, outbox: Outbox, clock: Clock, *, attempted: Attempted = lambda _: None) -> None:
        self._m5 = m5
        self._outbox = outbox
        self._clock = clock
        self._attempted = attempted
        self._alarm = Alarm(clock, lambda: outbox.due(clock.now()))
        self._background = Background("reports")
        self._settled = asyncio.Condition()
        self._failures = 0

    def begin(self) -> None:
        """Begins to send."""
        self._background.begin(self._send_for_ever)

    def changed(self) -> None:
        """There is something in the outbox, or something less."""
        self._alarm.changed()

    async def flush(self) -> bool:
        """Tries everything that waits at once; returns whether all of it has gone. One failure ends it."""
        failures = self._failures
        self._outbox.hurry()
        self._alarm.changed()
        async with self._settled:
            await self._settled.wait_for(lambda: not len(self._outbox) or self._failures != failures)
        return not len(self._outbox)

    async def end(self) -> None:
        """Stops sending; what waits goes on waiting."""
        await self._background.end()

    async def _send_for_ever(self) -> None:
        while True:
            await self._alarm.ring()
            waiting = self._outbox.next()
            if waiting is None:
                continue
            error: CastcoreError | None = None
            try:
                await self._m5.report_consumption(
                    waiting.provisioning_session_id, waiting.report, waiting.server_addresses
                )
            except CastcoreError as failure:
                error = failure
            except Exception as failure:
                # Nobody else would see it, and the reports behind this one would wait for ever.
                logger("client").exception("consumption_report.failed")
                error = CastcoreError(f"the report could not be sent: {failure!r}")
            if error is None:
                self._outbox.sent(waiting)
            else:
                self._outbox.failed(waiting, error, self._clock.now())
                told = logger("client")
                told.info(
                    "consumption_report.not_taken", reason=error.reason, error=str(error), waiting=len(self._outbox)
                )
            self._attempted(error)
            async with self._settled:
                self._failures += error is not None
                self._settled.notify_all()
