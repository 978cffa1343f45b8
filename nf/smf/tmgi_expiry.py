"""The end of a TMGI's time: it is released, with every MBS session on it (TS 29.532 §5.2.2, TS 29.571 §5.9).

Driven by the persisted due time of what is allocated. A TMGI with sessions stays taken until the last of them has gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from nf.common.due import DueDriver
from nf.common.store import Store, Transaction
from nf.smf.mbs_machine import Event
from nf.smf.mbs_sessions import step, tell_expiry
from nf.smf.tmgi import TMGI, free, has_expired
from nf.smf.v1.mbs_session_pb2 import MbsSession
from nf.smf.v1.tmgi_pb2 import AllocatedTmgi


class TmgiExpiry:
    """Lets TMGIs expire between ``start`` and ``stop``. ``take_down`` sees a session to its end in the background."""

    def __init__(self, store: Store, lock: Callable[[str], asyncio.Lock], take_down: Callable[[str], None]) -> None:
        self._store = store
        self._lock = lock
        self._take_down = take_down
        self._driver = DueDriver(store, AllocatedTmgi, self._expire)

    async def start(self) -> None:
        """Begins, with what has expired already."""
        await self._driver.start()

    async def stop(self) -> None:
        """Ends; what was not finished is due at the next start."""
        await self._driver.stop()

    async def _expire(self, name: str, _: AllocatedTmgi) -> None:
        sessions = await self._store.read(lambda reader: reader.find(MbsSession, TMGI, name))
        for session in sessions:
            await self._expire_session(name, session.mbs_session_ref)
        await self._store.write(lambda tx: _expire_tmgi(tx, name, alone=not sessions))

    async def _expire_session(self, name: str, mbs_session_ref: str) -> None:
        def work(transaction: Transaction) -> None:
            session = transaction.get(MbsSession, mbs_session_ref)
            if session is not None and _expired(transaction, name) is not None:
                step(transaction, session, Event.TMGI_EXPIRED)

        async with self._lock(mbs_session_ref):
            await self._store.write(work)
        self._take_down(mbs_session_ref)


def _expired(transaction: Transaction, name: str) -> AllocatedTmgi | None:
    """What is allocated under the name, if its time is over still: it may have been refreshed meanwhile."""
    allocated = transaction.get(AllocatedTmgi, name)
    return allocated if allocated is not None and has_expired(allocated, transaction.clock.now()) else None


def _expire_tmgi(transaction: Transaction, name: str, *, alone: bool) -> None:
    allocated = _expired(transaction, name)
    if allocated is None:
        return
    if transaction.find(MbsSession, TMGI, name):
        # The last of its sessions takes it away.
        transaction.update(allocated, name, due=None)
        return
    free(transaction, allocated)
    if alone:
        tell_expiry(transaction, allocated.tmgi)
