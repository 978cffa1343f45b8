"""The UPF's reports, as they arise, into the usage log and the SMF's events (TS 29.244 §5.2.2.2, §7.5.8).

How far the report log of which start of the UPF has been read is kept in the transaction that takes a report's effects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from nf.common.background import Background, follow_for_ever
from nf.common.store import Store, Transaction
from nf.common.telemetry import logger
from nf.smf.sessions import by_cp_seid
from nf.smf.supervision import UserPlane
from nf.smf.usage_log import SOURCE, allocation_of, record_compliance, record_usage
from upf.n4.v1.n4_pb2 import SessionReport, WatchReportsRequest

_SEQUENCE: Final = "n4 report sequence"
_RECOVERY: Final = "n4 report recovery"
_FIRST_BACKOFF_S: Final = 0.05
_MAX_BACKOFF_S: Final = 2.0

_log = logger(SOURCE)


def take_report(transaction: Transaction, report: SessionReport) -> None:
    """The effects of one report; none for one that was taken before, or about what is no longer there."""
    recovery_ns = report.recovery_time_stamp.ToNanoseconds()
    if recovery_ns != transaction.cursor(_RECOVERY):
        transaction.set_cursor(_RECOVERY, recovery_ns)
    elif report.sequence <= transaction.cursor(_SEQUENCE):
        return
    transaction.set_cursor(_SEQUENCE, report.sequence)
    session = by_cp_seid(transaction, report.cp_seid)
    if session is None:
        return
    ids = allocation_of(transaction, report.cp_seid)
    # What happened before how much there was: who waits for the usage has heard of the rest by then.
    record_compliance(transaction, session, ids, report.compliance_reports)
    record_usage(transaction, session, ids, recovery_ns, report.usage_reports)


class ReportConsumer:
    """Follows the UPF's reports between ``start`` and ``stop``, whatever becomes of the connection."""

    def __init__(self, store: Store, user_plane: UserPlane, lock: Callable[[str], asyncio.Lock]) -> None:
        self._store = store
        self._user_plane = user_plane
        self._lock = lock
        self._background = Background("smf reports")

    async def start(self) -> None:
        """Begins to follow."""
        self._background.begin(self._run)

    async def stop(self) -> None:
        """Ends following."""
        await self._background.end()

    async def _run(self) -> None:
        await follow_for_ever(
            self._follow, _log, "upf.reports", first_backoff_s=_FIRST_BACKOFF_S, max_backoff_s=_MAX_BACKOFF_S
        )

    async def _follow(self) -> bool:
        """Takes reports until the stream ends; whether there was any."""
        request = await self._store.read(lambda reader: _request(reader.cursor(_SEQUENCE), reader.cursor(_RECOVERY)))
        followed = False
        async for response in self._user_plane.n4.WatchReports(request):
            await self._take(response.report)
            followed = True
        return followed

    async def _take(self, report: SessionReport) -> None:
        session = await self._store.read(lambda reader: by_cp_seid(reader, report.cp_seid))
        if session is None:
            await self._store.write(lambda tx: take_report(tx, report))
            return
        # The rules that the report is about may be on their way into the store.
        async with self._lock(session.sm_context_ref):
            await self._store.write(lambda tx: take_report(tx, report))


def _request(sequence: int, recovery_ns: int) -> WatchReportsRequest:
    request = WatchReportsRequest(after_sequence=sequence)
    if recovery_ns:
        request.recovery_time_stamp.FromNanoseconds(recovery_ns)
    return request
