"""The MB-SMF's end of N4mb, and the way back in step: supervision as of N4, alignment of its own (TS 23.527 §4.2).

Rules of MBS sessions are only in the UPF's memory. After its restart every session is established again before anything
is forwarded; that a session's ingress tunnel is another then is told (INGRESS_TUNNEL_ADD_CHANGE).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import grpc

from nf.common.clock import Clock
from nf.common.errors import FailedPrecondition, InvalidArgument, ResourceExhausted
from nf.common.store import Reader, Store, Transaction
from nf.common.telemetry import logger
from nf.common.v1.mbs_pb2 import TunnelAddress
from nf.smf.alignment import gently
from nf.smf.config import GnbSection, SmfSection
from nf.smf.mbs_machine import STANDING, State
from nf.smf.mbs_rules import is_enforced, n4mb_session
from nf.smf.mbs_sessions import move_ingress
from nf.smf.supervision import NO_ASSOCIATION, Supervised
from nf.smf.usage_log import SOURCE
from nf.smf.v1.mbs_session_pb2 import MbsSession
from upf.n4.v1.n4mb_pb2 import (
    DeleteMbsSessionRequest,
    EstablishedMbsSession,
    EstablishMbsSessionRequest,
    ListMbsSessionsRequest,
)
from upf.n4.v1.n4mb_pb2_grpc import N4mbServiceStub

if TYPE_CHECKING:
    from upf.n4.v1.n4mb_pb2_grpc import N4mbServiceAsyncStub

_REFUSALS: Final = (InvalidArgument, FailedPrecondition, ResourceExhausted)

_log = logger(SOURCE)


class _Silent:
    """Nobody is told of a UPF's absence as such: of MBS sessions there is no event for it."""

    async def lost(self, cause: str, detail: str) -> None:
        """Kept in the log."""
        _log.info("mbs_user_plane.lost", cause=cause, detail=detail)

    async def restored(self) -> None:
        """Needs no word."""


class MbsUserPlane(Supervised["N4mbServiceAsyncStub"]):
    """The user plane of MBS sessions: the same UPF, in an association of its own."""

    def __init__(self, channel: Callable[[], grpc.aio.Channel], config: SmfSection, clock: Clock, node_id: str) -> None:
        def stub() -> N4mbServiceAsyncStub:
            return N4mbServiceStub(channel())

        super().__init__(stub, config, clock, node_id, _Silent(), name="smf mbs supervision")


class MbsAligner:
    """Aligns one UPF with one store; while it does, nobody else may use N4mb (MbsUserPlane sees to that)."""

    def __init__(self, store: Store, user_plane: MbsUserPlane, gnbs: Sequence[GnbSection]) -> None:
        self._store = store
        self._user_plane = user_plane
        self._gnbs = gnbs

    async def align(self, recovery_ns: int, *, anew: bool) -> None:
        """Returns when the UPF has every MBS session as it should be, and no other.

        ``anew``: the association is new, and the UPF drops what is not established again. A session that the UPF
        refuses is logged and left out. Raises CastcoreError when the UPF does not answer.
        """
        actual = await self._actual()
        wanted, known = await self._store.read(_wanted)
        work = [self._align(each, actual.get(each.cp_seid), anew=anew) for each in wanted]
        # Those being set up or released are in the hands of whoever does that.
        work += [self._delete(cp_seid) for cp_seid in actual if cp_seid not in known]
        await gently(work)
        _log.info("mbs_user_plane.aligned", sessions=len(wanted), found=len(actual), recovery_ns=recovery_ns)

    async def _actual(self) -> dict[int, EstablishedMbsSession]:
        found: dict[int, EstablishedMbsSession] = {}
        page_token = ""
        while True:
            page = await self._user_plane.n4.ListMbsSessions(ListMbsSessionsRequest(page_token=page_token))
            found |= {each.mbs_session.cp_seid: each for each in page.mbs_sessions}
            page_token = page.next_page_token
            if not page_token:
                return found

    async def _align(self, session: MbsSession, actual: EstablishedMbsSession | None, *, anew: bool) -> None:
        wanted = n4mb_session(session, self._gnbs)
        try:
            if actual is not None and not anew and is_enforced(actual.mbs_session, wanted):
                ingress = actual.ingress_tun_addr
            else:
                request = EstablishMbsSessionRequest(mbs_session=wanted)
                ingress = (await self._user_plane.n4.EstablishMbsSession(request)).ingress_tun_addr
        except _REFUSALS as error:
            if error.reason == NO_ASSOCIATION:
                raise
            _log.error("upf.mbs_session_refused", mbs_session_ref=session.mbs_session_ref, error=str(error))
            return
        if list(session.ingress_tun_addr) != [ingress]:
            await self._store.write(lambda tx: _move(tx, session.mbs_session_ref, ingress))

    async def _delete(self, cp_seid: int) -> None:
        await self._user_plane.n4.DeleteMbsSession(DeleteMbsSessionRequest(cp_seid=cp_seid))


def _wanted(reader: Reader) -> tuple[list[MbsSession], set[int]]:
    """The sessions that stand, and the identifiers of all."""
    sessions = reader.all(MbsSession)
    return [each for each in sessions if State(each.state) in STANDING], {each.cp_seid for each in sessions}


def _move(transaction: Transaction, mbs_session_ref: str, ingress: TunnelAddress) -> None:
    session = transaction.get(MbsSession, mbs_session_ref)
    if session is not None and State(session.state) in STANDING:
        move_ingress(transaction, session, ingress)
