"""MBS sessions set up, changed and released (TS 23.247 §7.1.1, TS 29.532 §5.3).

A session is set up with the PCF first (N7mb), then with the UPF (N4mb), and taken down the other way round. What was
refused half-way is taken down again; a change that was refused half-way is taken back. Both are persisted before they
are begun, and carried on after a restart.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from nf.common.call import adopt_deadline, own_deadline
from nf.common.clock import Clock
from nf.common.errors import CastcoreError, InvalidArgument, NotFound, PermissionDenied, Unavailable
from nf.common.mbs_session_ids import tmgi_key
from nf.common.resources import apply_mask, check_etag, copy_of
from nf.common.store import Page, Reader, Store, Transaction
from nf.common.telemetry import logger
from nf.common.v1.mbs_pb2 import TunnelAddress
from nf.pcf.v1.mbs_policy_control_pb2 import (
    CreateMbsPolicyRequest,
    DeleteMbsPolicyRequest,
    MbsPolicy,
    MbsPolicyDecision,
    UpdateMbsPolicyRequest,
)
from nf.pcf.v1.mbs_policy_control_pb2_grpc import MbsPolicyControlServiceStub
from nf.smf.config import GnbSection
from nf.smf.errors import MbsSessionExists, MbsSessionNotFound
from nf.smf.mbs_machine import Event
from nf.smf.mbs_requests import MAY_CHANGE, check_changed, requested_part, requested_session
from nf.smf.mbs_rules import n4mb_session
from nf.smf.mbs_sessions import (
    check_area,
    insert_session,
    move_ingress,
    policy_context_of,
    step,
    tell_ingress,
)
from nf.smf.mbs_user_plane import MbsUserPlane
from nf.smf.supervision import OutOfStep
from nf.smf.tmgi import TmgiRange
from nf.smf.tmgi_expiry import TmgiExpiry
from nf.smf.usage_log import SOURCE
from nf.smf.v1.mbs_session_pb2 import MbsSession
from nf.smf.v1.tmgi_pb2 import AllocatedTmgi
from upf.n4.v1.n4mb_pb2 import DeleteMbsSessionRequest, EstablishMbsSessionRequest

if TYPE_CHECKING:
    from nf.pcf.v1.mbs_policy_control_pb2_grpc import MbsPolicyControlServiceAsyncStub

T = TypeVar("T")

_FIRST_PAUSE: Final = timedelta(milliseconds=200)
_LONGEST_PAUSE: Final = timedelta(seconds=10)
# In these states something is to be done before a session can be used.
_UNFINISHED: Final = (MbsSession.STATE_UPDATING, MbsSession.STATE_RELEASING)

_log = logger(SOURCE)


class MbsSessions:
    """The MBS sessions of one SMF. ``start`` carries on where an earlier run has stopped; ``stop`` ends that work."""

    def __init__(
        self,
        store: Store,
        user_plane: MbsUserPlane,
        pcf: Callable[[], grpc.aio.Channel],
        clock: Clock,
        tmgis: TmgiRange,
        gnbs: Sequence[GnbSection],
    ) -> None:
        self._store = store
        self._user_plane = user_plane
        self._pcf_channel = pcf
        self._clock = clock
        self._tmgis = tmgis
        self._gnbs = gnbs
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._expiry = TmgiExpiry(store, self._lock, self._finish_later)

    async def start(self) -> None:
        """Takes up, in the background, what was never acknowledged, was being changed or was being released."""

        def restart(transaction: Transaction) -> list[str]:
            after = [step(transaction, session, Event.RESTARTED) for session in transaction.all(MbsSession)]
            return [each.mbs_session_ref for each in after if each.state in _UNFINISHED]

        for mbs_session_ref in await self._store.write(restart):
            self._finish_later(mbs_session_ref)
        await self._expiry.start()

    async def stop(self) -> None:
        """Ends the work in the background; it is taken up at the next start."""
        await self._expiry.stop()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()

    async def create(self, request: MbsSession) -> MbsSession:
        """Sets a session up; a repeat with the same reference and content gets the same answer.

        Raises InvalidArgument, MbsSessionExists, UnknownTmgi, NoTmgiLeft, MbsSessionAlreadyCreated,
        OverlappingMbsServiceArea, MbsServiceAreaNotSupported, UserPlaneUnavailable, and what the PCF or the UPF refuses
        with; nothing is left behind then.
        """
        requested = requested_session(request)
        mbs_session_ref = requested.mbs_session_ref

        def begin(transaction: Transaction) -> tuple[MbsSession, bool]:
            """The session that the reference has, and whether it is new."""
            known = transaction.get(MbsSession, mbs_session_ref)
            if known is not None:
                return known, False
            return insert_session(transaction, requested, self._tmgis, self._gnbs), True

        async with self._lock(mbs_session_ref):
            session, is_new = await self._store.write(begin)
            if not is_new and session.state not in _UNFINISHED:
                return await self._shown(_check_repeat(session, requested))
            refusal: Exception | None = None
            if is_new:
                try:
                    return await self._establish(session)
                except Exception as error:
                    refusal = error
                    await self._store.write(lambda tx: step(tx, session, Event.REFUSED))
        if refusal is not None:
            await self._finish_after(mbs_session_ref)
            raise refusal
        # A repeat after a failure comes when that has been undone.
        await self._finish(mbs_session_ref)
        return await self.create(request)

    async def get(self, mbs_session_ref: str) -> MbsSession:
        """The session. Raises MbsSessionNotFound."""
        return await self._store.read(lambda reader: _show(reader, _require(reader, mbs_session_ref)))

    async def page(self, page_size: int, page_token: str) -> Page[MbsSession]:
        """One page of sessions in the order of their creation."""

        def read(reader: Reader) -> Page[MbsSession]:
            page = reader.list(MbsSession, page_size=page_size, page_token=page_token)
            return Page([_show(reader, each) for each in page.items], page.next_page_token)

        return await self._store.read(read)

    async def update(self, changes: MbsSession, mask: FieldMask) -> MbsSession:
        """Changes a session. All or nothing: refused, or without an answer, it stays as it was.

        Raises InvalidArgument, MbsSessionNotFound, EtagMismatch, OverlappingMbsServiceArea, MbsServiceAreaNotSupported,
        UserPlaneUnavailable, and what the PCF or the UPF refuses with.
        """
        mbs_session_ref = changes.mbs_session_ref
        # What a change before has left undone is finished first.
        await self._finish(mbs_session_ref)
        async with self._lock(mbs_session_ref):
            known = await self._store.read(lambda reader: _require(reader, mbs_session_ref))
            check_etag(known.etag, changes.etag, f"MBS session {mbs_session_ref!r}")
            if known.state != MbsSession.STATE_ACTIVE:
                raise Unavailable(f"MBS session {mbs_session_ref!r} is being released")
            wanted = apply_mask(known, changes, mask, MAY_CHANGE)
            check_changed(wanted)
            await self._store.read(lambda reader: check_area(reader, wanted, self._gnbs))
            if _in_force(wanted) == _in_force(known):
                return await self._shown(await self._store.write(lambda tx: tx.update(wanted, mbs_session_ref)))
            updating = await self._store.write(lambda tx: step(tx, known, Event.CHANGE_REQUESTED))
            try:
                return await self._shown(await self._change(updating, wanted))
            except Exception as error:
                refusal = error
                await self._store.write(lambda tx: step(tx, updating, Event.REFUSED))
        await self._finish_after(mbs_session_ref)
        raise refusal

    async def release(self, mbs_session_ref: str) -> None:
        """Releases a session; one that is not there was released before.

        While the UPF or the PCF does not answer, the error is raised and the session is taken down in the background.
        """
        async with self._lock(mbs_session_ref):
            known = await self._store.read(lambda reader: reader.get(MbsSession, mbs_session_ref))
            if known is None:
                return
            await self._store.write(lambda tx: step(tx, known, Event.RELEASE_REQUESTED))
        try:
            await self._finish(mbs_session_ref)
        except CastcoreError:
            self._finish_later(mbs_session_ref)
            raise

    def _lock(self, mbs_session_ref: str) -> asyncio.Lock:
        return self._locks.setdefault(mbs_session_ref, asyncio.Lock())

    async def _shown(self, session: MbsSession) -> MbsSession:
        return await self._store.read(lambda reader: _show(reader, session))

    @property
    def _pcf(self) -> MbsPolicyControlServiceAsyncStub:
        return MbsPolicyControlServiceStub(self._pcf_channel())

    async def _in_step(self, work: Callable[[], Awaitable[T]]) -> T:
        """``work`` while the UPF is in step; once more when it turns out that it was not."""
        try:
            async with self._user_plane.in_step():
                return await work()
        except OutOfStep as error:
            _log.info("upf.out_of_step", error=str(error))
        async with self._user_plane.in_step():
            return await work()

    async def _enforce(self, session: MbsSession) -> TunnelAddress:
        """Has the UPF enforce the session, whatever it had of it before; where its packets have to go."""
        request = EstablishMbsSessionRequest(mbs_session=n4mb_session(session, self._gnbs))
        answer = await self._user_plane.n4.EstablishMbsSession(request)
        return answer.ingress_tun_addr

    async def _establish(self, session: MbsSession) -> MbsSession:
        policy = MbsPolicy(mbs_policy_id=session.mbs_policy_id, mbs_policy_ctxt_data=policy_context_of(session))
        opened = await self._pcf.CreateMbsPolicy(CreateMbsPolicyRequest(mbs_policy=policy))
        decided = copy_of(session)
        decided.decision.CopyFrom(opened.mbs_policy.mbs_policies)

        async def establish() -> MbsSession:
            ingress = await self._enforce(decided)
            decided.ingress_tun_addr.append(ingress)
            # Within: should the UPF start anew meanwhile, the session is in the store when all are established again.
            return await self._store.write(lambda tx: _show(tx, step(tx, decided, Event.ESTABLISHED)))

        return await self._in_step(establish)

    async def _change(self, updating: MbsSession, wanted: MbsSession) -> MbsSession:
        changed = copy_of(wanted)
        changed.state = updating.state
        if changed.mbs_serv_info != updating.mbs_serv_info:
            changed.decision.CopyFrom(await self._decided_anew(changed))

        async def change() -> MbsSession:
            ingress = await self._enforce(changed)

            def commit(transaction: Transaction) -> MbsSession:
                # Another session may have come to have the area meanwhile.
                check_area(transaction, changed, self._gnbs)
                moved = list(changed.ingress_tun_addr) != [ingress]
                del changed.ingress_tun_addr[:]
                changed.ingress_tun_addr.append(ingress)
                after = step(transaction, changed, Event.CHANGED)
                if moved:
                    tell_ingress(transaction, after)
                return after

            return await self._store.write(commit)

        return await self._in_step(change)

    async def _decided_anew(self, session: MbsSession) -> MbsPolicyDecision:
        """The PCF's decision for the service information that the session has."""
        request = UpdateMbsPolicyRequest(
            mbs_policy_id=session.mbs_policy_id,
            mbs_policy_ctxt_data=policy_context_of(session),
            update_mask=FieldMask(paths=["mbs_serv_info"]),
        )
        return (await self._pcf.UpdateMbsPolicy(request)).mbs_policy.mbs_policies

    async def _finish(self, mbs_session_ref: str) -> None:
        """Takes a RELEASING session down, and an UPDATING one back. May be repeated at any point."""
        async with self._lock(mbs_session_ref):
            session = await self._store.read(lambda reader: reader.get(MbsSession, mbs_session_ref))
            if session is None:
                return
            if session.state == MbsSession.STATE_RELEASING:
                await self._take_down(session)
            elif session.state == MbsSession.STATE_UPDATING:
                await self._restore(session)

    async def _take_down(self, session: MbsSession) -> None:
        async def delete() -> None:
            await self._user_plane.n4.DeleteMbsSession(DeleteMbsSessionRequest(cp_seid=session.cp_seid))

        await self._in_step(delete)
        await self._pcf.DeleteMbsPolicy(DeleteMbsPolicyRequest(mbs_policy_id=session.mbs_policy_id))
        await self._store.write(lambda tx: step(tx, session, Event.RELEASED))

    async def _restore(self, session: MbsSession) -> None:
        """Makes PCF and UPF again what the store says: the session as it was before a change."""
        restored = copy_of(session)
        try:
            restored.decision.CopyFrom(await self._decided_anew(session))
        except (InvalidArgument, NotFound, PermissionDenied) as error:
            # What was decided before holds until the MBSF, who is told by the PCF, releases the session.
            _log.warning("mbs_session.decision_kept", mbs_session_ref=session.mbs_session_ref, error=str(error))

        async def restore() -> None:
            ingress = await self._enforce(restored)

            def commit(transaction: Transaction) -> None:
                after = step(transaction, restored, Event.RESTORED)
                if list(after.ingress_tun_addr) != [ingress]:
                    move_ingress(transaction, after, ingress)

            await self._store.write(commit)

        await self._in_step(restore)

    async def _finish_after(self, mbs_session_ref: str) -> None:
        """Undoes what has failed: now if that goes, else in the background."""
        with own_deadline(None):
            try:
                await self._finish(mbs_session_ref)
            except CastcoreError as error:
                _log.warning("mbs_session.not_undone", mbs_session_ref=mbs_session_ref, error=str(error))
                self._finish_later(mbs_session_ref)

    def _finish_later(self, mbs_session_ref: str) -> None:
        if mbs_session_ref not in self._tasks:
            work = self._keep_finishing(mbs_session_ref)
            self._tasks[mbs_session_ref] = asyncio.create_task(work, name=f"smf-mbs-{mbs_session_ref}")

    async def _keep_finishing(self, mbs_session_ref: str) -> None:
        adopt_deadline(None)
        pause = _FIRST_PAUSE
        try:
            while True:
                try:
                    await self._finish(mbs_session_ref)
                    return
                except CastcoreError as error:
                    _log.debug("mbs_session.finish_failed", mbs_session_ref=mbs_session_ref, error=str(error))
                await self._clock.sleep_until(self._clock.now() + pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
        finally:
            self._tasks.pop(mbs_session_ref, None)


def _in_force(session: MbsSession) -> MbsSession:
    """Without what neither the PCF nor the UPF has to know of."""
    rest = copy_of(session)
    rest.ClearField("start_time")
    rest.ClearField("termination_time")
    rest.ClearField("mbs_fsa_id_list")
    return rest


def _require(reader: Reader, mbs_session_ref: str) -> MbsSession:
    session = reader.get(MbsSession, mbs_session_ref)
    if session is None:
        raise MbsSessionNotFound(f"MBS session {mbs_session_ref!r} does not exist")
    return session


def _show(reader: Reader, session: MbsSession) -> MbsSession:
    """The session as it is shown: with the expiration time that its TMGI has now."""
    shown = copy_of(session)
    allocated = reader.get(AllocatedTmgi, tmgi_key(session.tmgi))
    if allocated is not None:
        shown.expiration_time.CopyFrom(allocated.expiration_time)
    return shown


def _check_repeat(known: MbsSession, requested: MbsSession) -> MbsSession:
    if requested_part(known) != requested:
        raise MbsSessionExists(f"MBS session {known.mbs_session_ref!r} exists with other content")
    if known.state != MbsSession.STATE_ACTIVE:
        raise Unavailable(f"MBS session {known.mbs_session_ref!r} is being released")
    return known
