"""What runs of a distribution session while it is ESTABLISHED or ACTIVE: ingest at Nmb8, sending at Nmb9.

The object and the packet method each have a Delivery of their own; what they have in common is here: the wait for the
first thing ingested, and the watch over ingest that dries up.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import datetime, timedelta

from nf.common.errors import CastcoreError, Internal
from nf.mbstf.errors import IngestTimedOut
from nf.mbstf.timers import Timer, Timers
from nf.mbstf.v1.dist_session_pb2 import DistSession, DistSessionProgress


class Watch:
    """Tells when ingest that is expected has not come for ``timeout``, once, and when it has come again."""

    def __init__(
        self, timers: Timers, on_dried_up: Callable[[CastcoreError], None], on_recovered: Callable[[], None]
    ) -> None:
        self._timers = timers
        self._on_dried_up = on_dried_up
        self._on_recovered = on_recovered
        self._timeout: timedelta | None = None
        self._timer: Timer | None = None
        self._latest: datetime | None = None
        self._expected = False
        self._slack = timedelta(0)
        self.last_problem = ""
        self.failed = False

    def begin(self, timeout: timedelta | None, *, failed: bool) -> None:
        """Begins to watch, or goes on with another timeout; None: ingest may stay away for ever."""
        self._timeout = timeout
        self.failed = failed
        self._latest = self._timers.clock.now()
        self._set()

    def end(self) -> None:
        """Watches no more."""
        self._timeout = None
        self._cancel()

    def expect(self, expected: bool, slack: timedelta = timedelta(0)) -> None:
        """Whether something has to come from now on, and how long after the timeout at the latest."""
        if expected == self._expected and slack == self._slack:
            return
        began = expected and not self._expected
        self._expected, self._slack = expected, slack
        if began:
            self._latest = self._timers.clock.now()
        if not expected:
            self._recover()
        self._set()

    def touch(self) -> None:
        """Something has come, though not all that is missing. Cheap: the timer finds out when it is due."""
        self._latest = self._timers.clock.now()

    def ingested(self) -> None:
        """What was expected has come."""
        self._latest = self._timers.clock.now()
        self.last_problem = ""
        if self.failed:
            self._recover()
            self._set()

    def _recover(self) -> None:
        if self.failed and self._timeout is not None:
            self.failed = False
            self._on_recovered()

    def problem(self, text: str) -> None:
        """Why nothing comes, for whoever is told."""
        self.last_problem = text

    def _set(self) -> None:
        self._cancel()
        if self._timeout is not None and self._expected and not self.failed and self._latest is not None:
            self._timer = self._timers.at(self._latest + self._timeout + self._slack, self._look)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._timeout is None or self._latest is None:
            return
        if self._timers.clock.now() < self._latest + self._timeout + self._slack:
            self._set()
            return
        self.failed = True
        why = f": {self.last_problem}" if self.last_problem else ""
        waited_s = (self._timeout + self._slack).total_seconds()
        self._on_dried_up(IngestTimedOut(f"nothing was ingested for {waited_s:g} s{why}", reason="DATA_INGEST_FAILURE"))


class Delivery(ABC):
    """Begins with ingest; sending begins and ends in between. Belongs to the event loop."""

    def __init__(self, session: DistSession, watch: Watch) -> None:
        self.session = session
        self.watch = watch
        # Told, in the event loop, when nothing more can leave.
        self.on_sending_failed: Callable[[CastcoreError], None] = lambda _: None
        self.counted = DistSessionProgress()
        self._loop = asyncio.get_running_loop()
        self._first: asyncio.Future[None] = self._loop.create_future()

    @abstractmethod
    async def load(self) -> None:
        """Loads what only running sessions need, apart from the event loop: others go on meanwhile."""

    @abstractmethod
    def begin_ingest(self, *, resumed: bool) -> None:
        """Begins to ingest. ``resumed``: after a restart, where what fails is tried again for ever.

        Raises IngestAddressTaken.
        """

    @abstractmethod
    async def end_ingest(self) -> None:
        """Ingests nothing any more and lets go of all that was ingested."""

    @abstractmethod
    def begin_sending(self) -> None:
        """Begins to send what there is and what comes, to the session's tunnel."""

    @abstractmethod
    def end_sending(self) -> None:
        """Nothing leaves any more when this returns."""

    @abstractmethod
    def change(self, session: DistSession) -> None:
        """Goes on with another tunnel, bit rate or timeout, without a gap."""

    @abstractmethod
    def progress(self) -> DistSessionProgress:
        """What has come in and gone out so far."""

    def sending_failed(self, error: Exception) -> None:
        """What makes the packets has failed; called on its thread."""
        told = Internal(f"sending has ended: {error!r}")
        try:
            self._loop.call_soon_threadsafe(lambda: self.on_sending_failed(told))
        except RuntimeError:
            # The loop has gone meanwhile.
            return

    async def wait_first(self) -> None:
        """Returns when something has been ingested. Raises what has made that impossible."""
        await asyncio.shield(self._first)

    def note_first(self) -> None:
        """Something has been ingested: the session is established."""
        if not self._first.done():
            self._first.set_result(None)

    def fail_first(self, error: CastcoreError) -> None:
        """Nothing will be ingested; heard while the session is being established."""
        if not self._first.done():
            self._first.set_exception(error)
            # Nobody may be waiting for it any more.
            self._first.exception()

    @property
    def is_established(self) -> bool:
        """Whether something has been ingested."""
        return self._first.done() and self._first.exception() is None
