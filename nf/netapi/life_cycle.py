"""Bookings as time goes on: offers lapse, periods begin and end, the last one ends the booking.

What is to happen next is the due time of the stored booking. A platform that was down then does it when it starts, one
step after the other.
"""

from __future__ import annotations

from typing import Final

from nf.common.due import DueDriver
from nf.common.store import Store, Transaction
from nf.netapi.transitions import Transitions
from nf.netapi.v1.booking_pb2 import Booking

# In one transaction: others have to come to their turn while a long absence is made up for.
_STEPS: Final = 20
_MANY_LINES: Final = 64


class LifeCycle:
    """Drives the bookings of one store, between ``start`` and ``stop``."""

    def __init__(self, store: Store, transitions: Transitions) -> None:
        self._store = store
        self._transitions = transitions
        self._driver = DueDriver(store, Booking, self._advance)

    async def start(self) -> None:
        """Begins, with what is due already."""
        await self._driver.start()

    async def stop(self) -> None:
        """Ends; what was not done is due at the next start."""
        await self._driver.stop()

    async def _advance(self, name: str, known: Booking) -> None:
        def work(transaction: Transaction) -> None:
            # It may have been changed since it was found to be due.
            booking = transaction.require(Booking, name)
            self._transitions.advance(transaction, booking, transaction.clock.now(), _STEPS)

        await self._store.write(work, apart=len(known.accepted_offer.lines) > _MANY_LINES)
