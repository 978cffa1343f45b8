"""How long events are kept: for a time, up to a number, and for subscribers that lag behind up to that number."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from nf.common.background import Background
from nf.common.errors import CastcoreError
from nf.common.store import Reader, Store, Transaction
from nf.common.telemetry import logger
from nf.common.v1.notifications_pb2 import NotificationDelivery

PERIOD: Final = timedelta(seconds=60)
# How many go in one transaction: others want to write too.
_CHUNK: Final = 2_000


@dataclass(frozen=True, slots=True)
class EventLimits:
    """What is kept: events younger than ``kept_s``, and never more than the last ``kept``."""

    kept_s: float
    kept: int


def removable(reader: Reader, limits: EventLimits) -> int:
    """The last sequence that need not be kept; 0: every event has to be.

    Age alone takes nothing away that a subscriber by callback has still to be told.
    """
    first, last = reader.first_sequence(), reader.last_sequence()
    too_many = last - limits.kept
    if first > last:
        return 0
    told = [each.delivered_sequence for each in reader.all(NotificationDelivery)]
    too_old = min([_last_before(reader, first, last, limits.kept_s), *told])
    cut = max(too_many, too_old)
    return cut if cut >= first else 0


def prune(transaction: Transaction, limits: EventLimits) -> tuple[int, bool]:
    """Removes some of the events that need not be kept: how many, and whether more of them are left."""
    cut = removable(transaction, limits)
    if not cut:
        return 0, False
    upto = min(cut, transaction.first_sequence() + _CHUNK - 1)
    return transaction.prune_events(upto), upto < cut


def _last_before(reader: Reader, first: int, last: int, age_s: float) -> int:
    """The last of the events that are older; ``first - 1``: none is. Times rise with the sequence, or nearly so."""
    before_ns = reader.clock.now_ns() - int(age_s * 1e9)
    low, high = first - 1, last
    while low < high:
        middle = (low + high + 1) // 2
        (event,) = reader.events(middle - 1, 1)
        if event.event_time.ToNanoseconds() < before_ns:
            low = middle
        else:
            high = middle - 1
    return low


class EventRetention:
    """Prunes the event log of a store, between ``start`` and ``stop``."""

    def __init__(self, store: Store, limits: EventLimits, *, function: str, period: timedelta = PERIOD) -> None:
        self._store = store
        self._limits = limits
        self._period = period
        self._log = logger(function)
        self._background = Background(f"event retention {function}")

    async def start(self) -> None:
        """Begins, with what is too old already."""
        self._background.begin(self._run)

    async def stop(self) -> None:
        """Ends."""
        await self._background.end()

    async def prune(self) -> int:
        """Removes what need not be kept, and returns how many events those were."""
        removed, more = 0, True
        while more:
            now, more = await self._store.write(lambda transaction: prune(transaction, self._limits), apart=True)
            removed += now
        return removed

    async def _run(self) -> None:
        while True:
            await self._store.on_duty()
            try:
                removed = await self.prune()
                if removed:
                    self._log.info("events.pruned", events=removed)
            except CastcoreError as error:
                self._log.warning("events.not_pruned", error=str(error))
            clock = self._store.clock
            await clock.sleep_until(clock.now() + self._period)
