"""Makes the UPF enforce what the SMF's store says, by comparing and correcting (TS 23.527 §4.2, TS 29.244 §5.22).

After a restart of the UPF that establishes every session; after a lost answer it corrects the one concerned. What stays
keeps its buckets and counters.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Final

from nf.common.errors import FailedPrecondition, InvalidArgument, ResourceExhausted
from nf.common.store import Reader, Store, Transaction
from nf.common.telemetry import logger
from nf.smf.n4_rules import IdAllocation, changes_nothing, modification, n4_session
from nf.smf.supervision import AT_ONCE, NO_ASSOCIATION, UserPlane
from nf.smf.usage_log import (
    SOURCE,
    allocation_of,
    counted_urrs,
    keep_allocation,
    record_usage,
    reset_compliance,
)
from nf.smf.v1.pdu_session_pb2 import PduSession
from upf.n4.v1.n4_pb2 import DeleteSessionRequest, EstablishSessionRequest, ListSessionsRequest, Session

_REFUSALS: Final = (InvalidArgument, FailedPrecondition, ResourceExhausted)

_log = logger(SOURCE)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A session as the store has it. ``counted``: its URRs that have counted since the UPF's start."""

    session: PduSession
    ids: IdAllocation
    counted: frozenset[int]


def _wanted(reader: Reader, recovery_ns: int) -> tuple[list[_Wanted], set[int]]:
    """The ACTIVE sessions, and the identifiers of all."""
    sessions = reader.all(PduSession)
    wanted = [
        _Wanted(
            session,
            allocation_of(reader, session.cp_seid),
            frozenset(counted_urrs(reader, session.cp_seid, recovery_ns)),
        )
        for session in sessions
        if session.state == PduSession.STATE_ACTIVE
    ]
    return wanted, {session.cp_seid for session in sessions}


class Aligner:
    """Aligns one UPF with one store; while it does, nobody else may use N4 (UserPlane sees to that)."""

    def __init__(self, store: Store, user_plane: UserPlane, *, measurement_period_ms: int) -> None:
        self._store = store
        self._user_plane = user_plane
        self._measurement_period_ms = measurement_period_ms

    async def align(self, recovery_ns: int, *, anew: bool) -> None:
        """Returns when the UPF of that start has every session as it should be, and no other.

        ``anew``: the association is new, and the UPF drops what is not established again (what stays of a session
        keeps its buckets and counters). A session that the UPF refuses is logged and left out. Raises CastcoreError
        when the UPF does not answer.
        """
        actual = await self._actual()
        wanted, known = await self._store.read(lambda reader: _wanted(reader, recovery_ns))
        work = [self._align(each, actual.get(each.session.cp_seid), recovery_ns, anew=anew) for each in wanted]
        # Those being set up or released are in the hands of whoever does that.
        work += [self._delete(cp_seid) for cp_seid in actual if cp_seid not in known]
        await gently(work)
        _log.info("upf.aligned", sessions=len(wanted), found=len(actual))

    async def _actual(self) -> dict[int, Session]:
        found: dict[int, Session] = {}
        page_token = ""
        while True:
            page = await self._user_plane.n4.ListSessions(ListSessionsRequest(page_token=page_token))
            found |= {session.cp_seid: session for session in page.sessions}
            page_token = page.next_page_token
            if not page_token:
                return found

    async def _align(self, wanted: _Wanted, actual: Session | None, recovery_ns: int, *, anew: bool) -> None:
        session = wanted.session
        # A URR made anew counts from 0: under its old identifier that would look like an old report.
        lost = wanted.counted - {urr.urr_id for urr in (actual.urrs if actual else ())}
        renamed = [key for key, number in wanted.ids.ids.items() if number in lost and key.startswith("urr/")]
        n4, ids = n4_session(
            session,
            session.decision,
            wanted.ids.without(renamed),
            measurement_period_ms=self._measurement_period_ms,
        )

        def keep(transaction: Transaction) -> None:
            reset_compliance(transaction, session, wanted.ids, ids, all_anew=actual is None)
            keep_allocation(transaction, session.cp_seid, ids)

        try:
            if actual is None or anew:
                await self._store.write(keep)
                await self._user_plane.n4.EstablishSession(EstablishSessionRequest(session=n4))
            elif not changes_nothing(request := modification(actual, n4)):
                await self._store.write(keep)
                answer = await self._user_plane.n4.ModifySession(request)
                await self._store.write(lambda tx: record_usage(tx, session, ids, recovery_ns, answer.usage_reports))
        except _REFUSALS as error:
            if error.reason == NO_ASSOCIATION:
                raise
            _log.error("upf.session_refused", sm_context_ref=session.sm_context_ref, error=str(error))

    async def _delete(self, cp_seid: int) -> None:
        await self._user_plane.n4.DeleteSession(DeleteSessionRequest(cp_seid=cp_seid))


async def gently(work: Sequence[Coroutine[None, None, None]]) -> None:
    """All of it, some at a time; raises the first failure when the rest has ended."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(each: Coroutine[None, None, None]) -> None:
        async with gate:
            await each

    outcomes = await asyncio.gather(*(one(each) for each in work), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
