"""Reports that wait for the AF: in order, bounded, tried again with growing pauses, and the same bytes every time.

Pure logic over an optional journal, so that what waits survives the application too.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from nf.af.v1.consumption_reporting_pb2 import ConsumptionReport
from nf.client.journal import Journal, Kept
from nf.common.errors import (
    Cancelled,
    CastcoreError,
    DeadlineExceeded,
    Internal,
    ResourceExhausted,
    Unavailable,
)

DEFAULT_LIMIT: Final = 1000
FIRST_BACKOFF_S: Final = 1.0
MAX_BACKOFF_S: Final = 60.0
# Anything else is said about the report itself, and would be said again.
_PASSING: Final = (Unavailable, DeadlineExceeded, ResourceExhausted, Cancelled, Internal)


@dataclass(slots=True)
class Waiting:
    """A report on its way; ``body`` is its canonical encoding, which no retry changes."""

    number: int
    provisioning_session_id: str
    body: bytes
    server_addresses: tuple[str, ...]

    @property
    def report(self) -> ConsumptionReport:
        """The report."""
        return ConsumptionReport.FromString(self.body)


@dataclass(slots=True)
class Counts:
    """What became of reports."""

    sent: int = 0
    retried: int = 0
    refused: int = 0
    overflowed: int = 0
    withdrawn: int = 0


@dataclass(slots=True)
class Outbox:
    """The reports of one Media Session Handler. The oldest goes first, and the oldest goes when there are too many.

    That loses least: what a later report says of a unit that went on includes what an earlier one did.
    """

    limit: int = DEFAULT_LIMIT
    journal: Journal | None = None
    seed: int | str | None = None
    counts: Counts = field(default_factory=Counts)
    _waiting: dict[int, Waiting] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _not_before: datetime | None = None
    _failures: int = 0
    _last_error: CastcoreError | None = None
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        for kept in self.journal.recover() if self.journal is not None else ():
            number = next(self._numbers)
            self._waiting[number] = Waiting(number, kept.provisioning_session_id, kept.body, kept.server_addresses)
        self._rewrite()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def last_error(self) -> CastcoreError | None:
        """Why the last attempt failed; None: it did not."""
        return self._last_error

    def add(
        self, provisioning_session_id: str, report: ConsumptionReport, server_addresses: Sequence[str] = ()
    ) -> Waiting:
        """Takes a report in; the oldest is given up where there are more than ``limit`` then."""
        body = report.SerializeToString(deterministic=True)
        added = Waiting(next(self._numbers), provisioning_session_id, body, tuple(server_addresses))
        self._waiting[added.number] = added
        if self.journal is not None:
            self.journal.added(added.number, _kept(added))
        while len(self._waiting) > self.limit:
            self._remove(next(iter(self._waiting)))
            self.counts.overflowed += 1
        return added

    def due(self, now: datetime) -> datetime | None:
        """When the next attempt is to be made; None: nothing waits."""
        if not self._waiting:
            return None
        return now if self._not_before is None else max(now, self._not_before)

    def next(self) -> Waiting | None:
        """The report whose turn it is."""
        return next(iter(self._waiting.values()), None)

    def sent(self, waiting: Waiting) -> None:
        """The AF has it."""
        if self._remove(waiting.number):
            self.counts.sent += 1
        self._failures, self._not_before, self._last_error = 0, None, None

    def failed(self, waiting: Waiting, error: CastcoreError, now: datetime) -> None:
        """The AF does not have it: it waits, or is given up where the AF would refuse it again."""
        self._last_error = error
        if not isinstance(error, _PASSING):
            if self._remove(waiting.number):
                self.counts.refused += 1
            self._failures, self._not_before = 0, None
            return
        self.counts.retried += 1
        pause_s = min(FIRST_BACKOFF_S * 2.0 ** min(self._failures, 16), MAX_BACKOFF_S)
        self._failures += 1
        # Thousands of clients whose AF comes back must not come back all at once.
        self._not_before = now + timedelta(seconds=pause_s * self._random.uniform(0.5, 1.0))

    def hurry(self) -> None:
        """Whatever waits may be tried at once."""
        self._not_before = None

    def withdraw(self, provisioning_session_id: str = "") -> None:
        """The user forbids reports: none that waits (of this provisioning session, where one is named) is sent."""
        for number, waiting in list(self._waiting.items()):
            if provisioning_session_id in ("", waiting.provisioning_session_id):
                self._remove(number)
                self.counts.withdrawn += 1

    def withdraw_locations(self) -> None:
        """The user forbids locations: what waits goes without them."""
        for waiting in self._waiting.values():
            report = waiting.report
            report.ClearField("location")
            report.ClearField("location_type")
            for unit in report.consumption_reporting_units:
                unit.ClearField("locations")
            waiting.body = report.SerializeToString(deterministic=True)
        self._rewrite()

    def close(self) -> None:
        """Lets the journal go; what waits stays in it."""
        if self.journal is not None:
            self.journal.close()

    def _remove(self, number: int) -> bool:
        if self._waiting.pop(number, None) is None:
            return False
        if self.journal is not None:
            self.journal.removed(number)
            if self.journal.worn(len(self._waiting)):
                self._rewrite()
        return True

    def _rewrite(self) -> None:
        if self.journal is not None:
            self.journal.rewrite({number: _kept(waiting) for number, waiting in self._waiting.items()})


def _kept(waiting: Waiting) -> Kept:
    return Kept(waiting.provisioning_session_id, waiting.body, waiting.server_addresses)
