"""What is decided of device accesses, brought about at the PCF, and what the PCF tells of it (TS 29.514 §4.2).

The intention is stored before the PCF is asked, under an identifier of the platform's choice, and so is the answer:
each call may be repeated, and one whose answer was lost is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Final, NamedTuple, TypeAlias

from nf.common.errors import AlreadyExists, CastcoreError, NotFound
from nf.common.resources import copy_of
from nf.common.store import Store, Transaction
from nf.common.telemetry import logger
from nf.common.v1.types_pb2 import InvalidParam, ProblemDetails
from nf.netapi.access_decision import Deed, deed
from nf.netapi.access_transitions import Transitions
from nf.netapi.peers import Answer, Network
from nf.netapi.v1.access_pb2 import AccessInstallation, DeviceAccess
from nf.pcf.v1 import policy_authorization_pb2 as n5

# Called with what the PCF tells of an access's usage, and when it was told.
UsageFollower: TypeAlias = Callable[[Transaction, DeviceAccess, n5.EventNotification, datetime], None]

# An end, a new session, and a change of it; more is wanted only where something changes meanwhile.
_MOST_CALLS: Final = 8


class _Call(NamedTuple):
    deed: Deed
    app_session_id: str
    asked: n5.AppSessionContextReqData


class Installing:
    """The application sessions of one platform's device accesses. Calls about one access follow each other."""

    def __init__(
        self,
        store: Store,
        pcf: Network,
        transitions: Transitions,
        retry: timedelta,
        usage_followers: Sequence[UsageFollower] = (),
    ) -> None:
        self._store = store
        self._pcf = pcf
        self._transitions = transitions
        self._retry = retry
        self._usage_followers = list(usage_followers)
        self._log = logger("netapi")

    def on_notification(self, transaction: Transaction, told: n5.EventNotification, at: datetime) -> None:
        """The PCF tells of an application session; those that are none of ours have no effect."""
        access_id = told.app_session_id.partition(".")[0]
        access = transaction.get(DeviceAccess, access_id)
        if access is None:
            return
        if told.event in (n5.AF_EVENT_USAGE_REPORT, n5.AF_EVENT_QOS_NOTIF):
            for follower in self._usage_followers:
                follower(transaction, access, told, at)
            return
        installed = transaction.get(AccessInstallation, access_id)
        if installed is None or installed.app_session_id != told.app_session_id:
            return
        if told.event == n5.AF_EVENT_SUCCESSFUL_RESOURCES_ALLOCATION:
            if told.state != n5.AppSession.STATE_ACTIVE or told.revision < installed.revision:
                # An answer has told of something later already.
                return
            installed.enforced = True
            installed.revision = told.revision
            installed.enforcement.CopyFrom(told.enforcement)
            installed.ClearField("problem")
        else:
            installed.enforced = False
            # The PCF brings one back that is INTERRUPTED; a terminated one is in the way of the next.
            installed.lost = told.state == n5.AppSession.STATE_TERMINATED
            installed.problem.CopyFrom(_problem_told(told))
        self._transitions.settle(transaction, access, installed, again=transaction.clock.now())

    async def align(self) -> None:
        """Finds out what the PCF has lost, ended or brought back while nobody listened."""
        states = await self._pcf.states()
        for each in await self._store.read(lambda reader: reader.all(AccessInstallation)):
            if not each.created or each.lost:
                continue
            state = states.get(each.app_session_id)
            if state is None or each.enforced != (state == n5.AppSession.STATE_ACTIVE):
                await self._ask_for(each.access_id, each.app_session_id)

    async def _ask_for(self, access_id: str, app_session_id: str) -> None:
        """Takes note of what has become of an application session, as if the PCF had told it."""
        async with self._lock(access_id):
            session = await self._pcf.session(app_session_id)
            told = n5.EventNotification(
                app_session_id=app_session_id,
                event=n5.AF_EVENT_FAILED_RESOURCES_ALLOCATION,
                state=n5.AppSession.STATE_TERMINATED if session is None else session.state,
            )
            if session is not None and session.state == n5.AppSession.STATE_ACTIVE:
                told.event = n5.AF_EVENT_SUCCESSFUL_RESOURCES_ALLOCATION
                told.enforcement.CopyFrom(session.asc_resp_data.enforcement)
                told.revision = session.asc_resp_data.revision
            now = self._store.clock.now()
            await self._store.write(lambda tx: self.on_notification(tx, told, now))

    async def settled(self, access_id: str) -> None:
        """Returns when no call about the access is under way: what the PCF tells of it has something to meet."""
        async with self._lock(access_id):
            return

    def _lock(self, access_id: str) -> AbstractAsyncContextManager[None]:
        return self._store.exclusive(f"device access {access_id}")

    async def converge(self, access_id: str) -> None:
        """Asks the PCF until it has what it is to have; what fails is due again after a while."""
        async with self._lock(access_id):
            for _ in range(_MOST_CALLS):
                call = await self._store.write(lambda tx: self._next(tx, access_id))
                if call is None:
                    return
                try:
                    answer = await self._pcf.ask(*call)
                except CastcoreError as error:
                    if not await self._failed(access_id, call, error):
                        return
                else:
                    await self._done(access_id, call, answer)

    def _next(self, transaction: Transaction, access_id: str) -> _Call | None:
        """What to ask now. The intention is stored before it is asked for."""
        access = transaction.get(DeviceAccess, access_id)
        installed = transaction.get(AccessInstallation, access_id)
        if access is None or installed is None:
            return None
        if access.state == DeviceAccess.STATE_ENDED:
            now = transaction.clock.now()
            kept_until = access.update_time.ToDatetime(now.tzinfo) + self._transitions.kept
            if kept_until <= now:
                self._transitions.forget(transaction, access)
            else:
                transaction.update(access, access_id, due=kept_until)
            return None
        if self._transitions.has_waited(access, transaction.clock.now()):
            installed.over = installed.over or DeviceAccess.REASON_NOT_ATTACHED
        decision = self._transitions.settle(transaction, access, installed, due=True).decision
        todo = deed(decision, installed)
        if todo is None:
            return None
        if todo is Deed.DELETE:
            return _Call(todo, installed.app_session_id, n5.AppSessionContextReqData())
        assert decision.request is not None
        if not installed.app_session_id:
            installed.run += 1
            installed.app_session_id = f"{access_id}.{installed.run}"
        installed.asked.CopyFrom(decision.request)
        installed.confirmed = False
        transaction.put(installed, access_id)
        return _Call(todo, installed.app_session_id, decision.request)

    async def _done(self, access_id: str, call: _Call, answer: Answer) -> None:
        def note(transaction: Transaction) -> None:
            access = transaction.get(DeviceAccess, access_id)
            installed = transaction.get(AccessInstallation, access_id)
            if access is None or installed is None or installed.app_session_id != call.app_session_id:
                return
            installed.ClearField("problem")
            if isinstance(answer, n5.EventNotification):
                _clear(installed)
                for follower in self._usage_followers:
                    follower(transaction, access, answer, transaction.clock.now())
            else:
                installed.confirmed = installed.created = True
                installed.enforced = answer.state == n5.AppSession.STATE_ACTIVE
                # A repeat may meet a session that has ended meanwhile.
                installed.lost = answer.state == n5.AppSession.STATE_TERMINATED
                installed.enforcement.CopyFrom(answer.asc_resp_data.enforcement)
                installed.revision = answer.asc_resp_data.revision
                if not installed.enforced:
                    installed.problem.CopyFrom(_NOT_ENFORCED)
            self._transitions.settle(transaction, access, installed)

        await self._store.write(note)

    async def _failed(self, access_id: str, call: _Call, error: CastcoreError) -> bool:
        """Takes note of what the PCF could not do; whether something else can be asked at once."""
        gone = call.deed is Deed.UPDATE and isinstance(error, NotFound)
        known = call.deed is Deed.CREATE and isinstance(error, AlreadyExists)

        def note(transaction: Transaction) -> None:
            access = transaction.get(DeviceAccess, access_id)
            installed = transaction.get(AccessInstallation, access_id)
            if access is None or installed is None or installed.app_session_id != call.app_session_id:
                return
            installed.lost = installed.lost or gone
            installed.created = installed.created or known
            if not gone and not known:
                installed.problem.CopyFrom(_problem(error))
            again = transaction.clock.now() + (timedelta() if gone or known else self._retry)
            self._transitions.settle(transaction, access, installed, again=again)

        await self._store.write(note)
        if not gone and not known:
            self._log.warning(
                "device_access.postponed", access_id=access_id, deed=call.deed.name, code=error.code, error=str(error)
            )
        return gone or known


def _clear(installed: AccessInstallation) -> None:
    """The PCF has nothing for the access any more."""
    for field in ("app_session_id", "asked", "confirmed", "created", "lost", "enforced", "enforcement", "revision"):
        installed.ClearField(field)


_NOT_ENFORCED: Final = ProblemDetails(
    title="The network does not enforce it at present", cause="FAILED_RESOURCES_ALLOCATION"
)


def _problem(error: CastcoreError) -> ProblemDetails:
    return ProblemDetails(
        title="The network does not provide it",
        status=error.http_status,
        detail=error.message,
        cause=error.cause or error.reason,
        invalid_params=[InvalidParam(param=each.field, reason=each.description) for each in error.violations],
    )


def _problem_told(told: n5.EventNotification) -> ProblemDetails:
    if told.HasField("problem"):
        return copy_of(told.problem)
    gone = told.event == n5.AF_EVENT_PDU_SESSION_STATUS
    return ProblemDetails(
        title="The PDU session of the device has gone" if gone else "The network no longer provides it",
        cause="PDU_SESSION_NOT_AVAILABLE" if gone else "FAILED_RESOURCES_ALLOCATION",
    )
