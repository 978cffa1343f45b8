"""PDU sessions set up, changed and released (TS 23.502 §4.3.2 to §4.3.4; TS 29.512 §4.2.2 to §4.2.5).

A session is set up with the PCF first, then with the UPF, and taken down the other way round, so that the UPF's last
counts reach the PCF while it knows the association. What was refused half-way is taken down again.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar

import grpc

from nf.common.call import adopt_deadline, own_deadline
from nf.common.clock import Clock
from nf.common.errors import CastcoreError, InvalidArgument, Unavailable
from nf.common.resources import copy_of
from nf.common.store import Page, Reader, Store, Transaction
from nf.common.telemetry import logger
from nf.common.v1.mbs_pb2 import Ncgi
from nf.pcf.v1.sm_policy_control_pb2 import CreateSmPolicyRequest, DeleteSmPolicyRequest, SmPolicyDecision
from nf.pcf.v1.sm_policy_control_pb2_grpc import SmPolicyControlServiceStub
from nf.smf.errors import (
    PduSessionExists,
    PduSessionNotFound,
    PolicyContextNotFound,
    StaleDecision,
    UserPlaneWithoutN3,
)
from nf.smf.machine import Event
from nf.smf.n4_rules import IdAllocation, changes_nothing, local_teid, n4_change, n4_session
from nf.smf.requests import (
    NO_AMBR,
    SessionAmbr,
    check_decision,
    check_user_location,
    requested_part,
    requested_session,
)
from nf.smf.sessions import by_sm_policy, insert_session, keep_user_location, sm_policy_of, step
from nf.smf.supervision import OutOfStep, UserPlane
from nf.smf.usage_log import (
    SOURCE,
    allocation_of,
    keep_allocation,
    mark_removed,
    record_usage,
    reset_compliance,
    usage_of_rules,
)
from nf.smf.v1.pdu_session_pb2 import PccRuleUsage, PduSession, TunnelInfo
from upf.n4.v1.n4_pb2 import (
    DeleteSessionRequest,
    EstablishSessionRequest,
    ModifySessionResponse,
)

if TYPE_CHECKING:
    from nf.pcf.v1.sm_policy_control_pb2_grpc import SmPolicyControlServiceAsyncStub

T = TypeVar("T")

_FIRST_PAUSE: Final = timedelta(milliseconds=200)
_LONGEST_PAUSE: Final = timedelta(seconds=10)
_TRIES: Final = 2

_log = logger(SOURCE)


class PduSessions:
    """The PDU sessions of one SMF. ``start`` carries on where an earlier run has stopped; ``stop`` ends that work."""

    def __init__(
        self,
        store: Store,
        user_plane: UserPlane,
        pcf: Callable[[], grpc.aio.Channel],
        clock: Clock,
        *,
        measurement_period_ms: int,
        session_ambr: SessionAmbr = NO_AMBR,
    ) -> None:
        self._store = store
        self._user_plane = user_plane
        self._pcf_channel = pcf
        self._clock = clock
        self._measurement_period_ms = measurement_period_ms
        self._session_ambr = session_ambr
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        # By policy association: which session has it.
        self._references: dict[str, str] = {}

    def lock(self, sm_context_ref: str) -> asyncio.Lock:
        """Held while a session is being changed."""
        return self._locks.setdefault(sm_context_ref, asyncio.Lock())

    async def start(self) -> None:
        """Takes down, in the background, what was never acknowledged or was being released."""

        def restart(transaction: Transaction) -> list[str]:
            after = [step(transaction, session, Event.RESTARTED) for session in transaction.all(PduSession)]
            return [each.sm_context_ref for each in after if each.state == PduSession.STATE_RELEASING]

        for sm_context_ref in await self._store.write(restart):
            self._take_down_later(sm_context_ref)

    async def stop(self) -> None:
        """Ends the work in the background; it is taken up at the next start."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()

    async def create(self, request: PduSession) -> PduSession:
        """Attaches a UE; a repeat with the same reference and content gets the same answer.

        Raises InvalidArgument, PduSessionExists, UeAddressInUse, UserPlaneUnavailable, UserPlaneWithoutN3, and what the
        PCF or the UPF refuses with; nothing is left behind then.
        """
        requested = requested_session(request, self._session_ambr)
        sm_context_ref = requested.sm_context_ref
        # A repeat after a failure comes when that has been taken down.
        await self._take_down(sm_context_ref)
        async with self.lock(sm_context_ref):
            known = await self._store.read(lambda reader: reader.get(PduSession, sm_context_ref))
            if known is not None:
                return _check_repeat(known, requested)
            session = await self._store.write(lambda tx: insert_session(tx, requested))
            try:
                return await self._establish(session)
            except Exception as error:
                refusal = error
                await self._store.write(lambda tx: step(tx, session, Event.REFUSED))
        with own_deadline(None):
            await self._try_to_take_down(sm_context_ref)
        raise refusal

    async def get(self, sm_context_ref: str) -> PduSession:
        """The session. Raises PduSessionNotFound."""
        session = await self._store.read(lambda reader: reader.get(PduSession, sm_context_ref))
        if session is None:
            raise PduSessionNotFound(f"PDU session {sm_context_ref!r} does not exist")
        return session

    async def page(self, page_size: int, page_token: str) -> Page[PduSession]:
        """One page of sessions in the order of their creation."""
        return await self._store.read(
            lambda reader: reader.list(PduSession, page_size=page_size, page_token=page_token)
        )

    async def locate(self, sm_context_ref: str, user_location: Ncgi | None) -> PduSession:
        """The UE of a session is in another cell (None: nobody knows). The same cell again changes nothing.

        Raises InvalidArgument, PduSessionNotFound.
        """
        if user_location is not None:
            check_user_location(user_location)
        async with self.lock(sm_context_ref):
            return await self._store.write(lambda tx: keep_user_location(tx, sm_context_ref, user_location))

    async def release(self, sm_context_ref: str) -> None:
        """Detaches a UE; one that is not there was detached before.

        While the UPF or the PCF does not answer, the error is raised and the session is taken down in the background.
        """
        async with self.lock(sm_context_ref):
            known = await self._store.read(lambda reader: reader.get(PduSession, sm_context_ref))
            if known is None:
                return
            await self._store.write(lambda tx: step(tx, known, Event.RELEASE_REQUESTED))
        try:
            await self._take_down(sm_context_ref)
        except CastcoreError:
            self._take_down_later(sm_context_ref)
            raise

    async def update(self, sm_policy_id: str, decision: SmPolicyDecision) -> list[PccRuleUsage]:
        """Puts a decision in force and returns what its rules, and those that it has removed, have used.

        All or nothing: refused, or without an answer of the UPF, the decision before stays. A repeat is harmless.
        Raises InvalidArgument, PolicyContextNotFound, StaleDecision, UserPlaneUnavailable, and the UPF's refusal.
        """
        check_decision(decision)
        async with self.lock(await self._session_with(sm_policy_id)):
            alignments = self._user_plane.alignments
            session, known = await self._store.read(lambda reader: _with_allocation(reader, sm_policy_id))
            if session is None or session.state != PduSession.STATE_ACTIVE:
                self._references.pop(sm_policy_id, None)
                raise PolicyContextNotFound(f"the PDU session of policy association {sm_policy_id!r} is being released")
            if decision.revision < session.decision.revision:
                raise StaleDecision(
                    f"decision {decision.revision} of {sm_policy_id!r} comes after {session.decision.revision}"
                )
            if decision.revision == session.decision.revision and decision != session.decision:
                raise InvalidArgument.of(
                    "decision.revision", f"expected more than {decision.revision}, which was another decision"
                )

            async def modify(recovery_ns: int) -> list[PccRuleUsage]:
                ids = known
                if self._user_plane.alignments != alignments:
                    # To be in step again, the session may have got other identifiers.
                    ids = await self._store.read(lambda reader: allocation_of(reader, session.cp_seid))
                return await self._modify(session, ids, decision, recovery_ns)

            return await self._in_step(modify)

    async def _session_with(self, sm_policy_id: str) -> str:
        """The reference of the session that has this policy association, for ever. Raises PolicyContextNotFound."""
        known = self._references.get(sm_policy_id)
        if known is None:
            found = await self._store.read(lambda reader: by_sm_policy(reader, sm_policy_id))
            if found is None:
                raise PolicyContextNotFound(f"no PDU session has the policy association {sm_policy_id!r}")
            known = self._references[sm_policy_id] = found.sm_context_ref
        return known

    async def _in_step(self, work: Callable[[int], Awaitable[T]]) -> T:
        """``work`` while the UPF is in step; once more when it turns out that it was not."""
        for _ in range(_TRIES - 1):
            try:
                async with self._user_plane.in_step() as recovery_ns:
                    return await work(recovery_ns)
            except OutOfStep as error:
                _log.info("upf.out_of_step", error=str(error))
        async with self._user_plane.in_step() as recovery_ns:
            return await work(recovery_ns)

    @property
    def _pcf(self) -> SmPolicyControlServiceAsyncStub:
        return SmPolicyControlServiceStub(self._pcf_channel())

    async def _establish(self, session: PduSession) -> PduSession:
        opened = await self._pcf.CreateSmPolicy(CreateSmPolicyRequest(sm_policy=sm_policy_of(session)))
        check_decision(opened.sm_policy.decision)
        decided = copy_of(session)
        decided.decision.CopyFrom(opened.sm_policy.decision)
        wanted, ids = n4_session(
            decided, decided.decision, IdAllocation(), measurement_period_ms=self._measurement_period_ms
        )
        # Kept before it is sent: from now on the UPF may know the session.
        await self._store.write(lambda tx: keep_allocation(tx, session.cp_seid, ids))

        async def establish(_: int) -> PduSession:
            if decided.HasField("an_tunnel_info"):
                decided.cn_tunnel_info.CopyFrom(self._cn_tunnel_info(decided))
            await self._user_plane.n4.EstablishSession(EstablishSessionRequest(session=wanted))
            return await self._store.write(lambda tx: step(tx, decided, Event.ESTABLISHED))

        return await self._in_step(establish)

    def _cn_tunnel_info(self, session: PduSession) -> TunnelInfo:
        """The UPF's end of the session's tunnel. Raises UserPlaneWithoutN3."""
        end = self._user_plane.n3
        if end is None:
            raise UserPlaneWithoutN3(f"PDU session {session.sm_context_ref!r} has AN tunnel info, the UPF has no N3")
        return TunnelInfo(
            ipv4_addr=end.ipv4_address, ipv6_addr=end.ipv6_address, gtp_teid=local_teid(session), port=end.port
        )

    async def _modify(
        self, session: PduSession, known: IdAllocation, decision: SmPolicyDecision, recovery_ns: int
    ) -> list[PccRuleUsage]:
        request, ids = n4_change(session, decision, known, measurement_period_ms=self._measurement_period_ms)
        answer = ModifySessionResponse()
        if not changes_nothing(request) or request.query_urr_ids:
            try:
                answer = await self._user_plane.n4.ModifySession(request)
            except CastcoreError:
                # Whatever became of it, its identifiers are not given again.
                spent = IdAllocation(known.ids, ids.highest)
                await self._store.write(lambda tx: keep_allocation(tx, session.cp_seid, spent))
                raise

        def commit(transaction: Transaction) -> list[PccRuleUsage]:
            record_usage(transaction, session, known, recovery_ns, answer.usage_reports)
            reset_compliance(transaction, session, known, ids, all_anew=False)
            keep_allocation(transaction, session.cp_seid, ids)
            changed = copy_of(session)
            changed.decision.CopyFrom(decision)
            transaction.update(changed, session.sm_context_ref)
            if decision.revision != session.decision.revision:
                in_force = [rule.pcc_rule_id for rule in decision.pcc_rules]
                if not mark_removed(transaction, session.cp_seid, in_force, decision.revision):
                    return []
            return usage_of_rules(transaction, session, recovery_ns)

        return await self._store.write(commit)

    async def _take_down(self, sm_context_ref: str) -> None:
        """Takes a RELEASING session down; nothing happens in another state. May be repeated at any point."""
        async with self.lock(sm_context_ref):
            session = await self._store.read(lambda reader: reader.get(PduSession, sm_context_ref))
            if session is None or session.state != PduSession.STATE_RELEASING:
                return
            self._references.pop(session.sm_policy_id, None)
            ids = await self._store.read(lambda reader: allocation_of(reader, session.cp_seid))
            if ids.ids:
                await self._in_step(lambda recovery_ns: self._delete_at_upf(session, ids, recovery_ns))
        # Without the lock: the PCF may be waiting for our answer on this very session.
        await self._pcf.DeleteSmPolicy(DeleteSmPolicyRequest(sm_policy_id=session.sm_policy_id))

        def released(transaction: Transaction) -> None:
            current = transaction.get(PduSession, sm_context_ref)
            if current is not None and current.cp_seid == session.cp_seid:
                step(transaction, current, Event.RELEASED)

        await self._store.write(released)

    async def _delete_at_upf(self, session: PduSession, ids: IdAllocation, recovery_ns: int) -> None:
        answer = await self._user_plane.n4.DeleteSession(DeleteSessionRequest(cp_seid=session.cp_seid))
        await self._store.write(lambda tx: record_usage(tx, session, ids, recovery_ns, answer.usage_reports))

    async def _try_to_take_down(self, sm_context_ref: str) -> None:
        try:
            await self._take_down(sm_context_ref)
        except CastcoreError as error:
            _log.warning("pdu_session.not_taken_down", sm_context_ref=sm_context_ref, error=str(error))
            self._take_down_later(sm_context_ref)

    def _take_down_later(self, sm_context_ref: str) -> None:
        if sm_context_ref not in self._tasks:
            work = self._keep_taking_down(sm_context_ref)
            self._tasks[sm_context_ref] = asyncio.create_task(work, name=f"smf-release-{sm_context_ref}")

    async def _keep_taking_down(self, sm_context_ref: str) -> None:
        adopt_deadline(None)
        pause = _FIRST_PAUSE
        try:
            while True:
                try:
                    await self._take_down(sm_context_ref)
                    return
                except CastcoreError as error:
                    _log.debug("pdu_session.release_failed", sm_context_ref=sm_context_ref, error=str(error))
                await self._clock.sleep_until(self._clock.now() + pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
        finally:
            self._tasks.pop(sm_context_ref, None)


def _with_allocation(reader: Reader, sm_policy_id: str) -> tuple[PduSession | None, IdAllocation]:
    session = by_sm_policy(reader, sm_policy_id)
    return session, IdAllocation() if session is None else allocation_of(reader, session.cp_seid)


def _check_repeat(known: PduSession, requested: PduSession) -> PduSession:
    known_part, requested_again = requested_part(known), copy_of(requested)
    for each in (known_part, requested_again):
        # The UE may have moved since.
        each.ClearField("user_location")
    if known_part != requested_again:
        raise PduSessionExists(f"PDU session {known.sm_context_ref!r} exists with other content")
    if known.state != PduSession.STATE_ACTIVE:
        raise Unavailable(f"PDU session {known.sm_context_ref!r} is being released")
    return known
