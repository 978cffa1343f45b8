"""Puts decisions in force at the SMF, one at a time per policy association (TS 29.512 §4.2.3, UpdateNotify).

The latest revision sent and the latest whose fate is known are both kept. While they differ (the SMF has not answered,
or the process has ended meanwhile) the association is decided anew and sent until the SMF has confirmed it.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Generic, TypeVar

from nf.common.call import adopt_deadline
from nf.common.clock import Clock
from nf.common.errors import Cancelled, CastcoreError, DeadlineExceeded, Internal, Unavailable
from nf.common.store import Reader, Store, Transaction
from nf.common.telemetry import logger
from nf.pcf.associations import close_association, confirm, confirmed_revision, discard_unused_rule
from nf.pcf.decision import check_subscriber, decide, default_rule
from nf.pcf.errors import PduSessionNotAvailable, PolicyAssociationNotFound
from nf.pcf.ledger import find_rule, record_usage, rule_of_session, set_terms
from nf.pcf.machine import GRANTED, Event, State
from nf.pcf.rating import terms_of
from nf.pcf.sessions import SOURCE, problem_of, step
from nf.pcf.usage_monitoring import tell_usage
from nf.pcf.v1.operator_policies_pb2 import OperatorPolicy, QosReference
from nf.pcf.v1.policy_authorization_pb2 import AppSession, Enforcement
from nf.pcf.v1.sm_policy_control_pb2 import PccRule, SmPolicy, SmPolicyDecision
from nf.smf.v1.pdu_session_pb2 import PccRuleUsage, UpdateNotifyRequest, UpdateNotifyResponse

T = TypeVar("T")

UpdateNotify = Callable[[UpdateNotifyRequest], Awaitable[UpdateNotifyResponse]]

# After these nobody knows whether the SMF enforces what was sent.
_FATE_UNKNOWN: Final = (Unavailable, DeadlineExceeded, Cancelled, Internal)
_FIRST_PAUSE: Final = timedelta(milliseconds=200)
_LONGEST_PAUSE: Final = timedelta(seconds=10)
_AT_ONCE: Final = 8

_log = logger(SOURCE)


def with_rule(rules: Iterable[PccRule], rule: PccRule) -> list[PccRule]:
    """The rules with ``rule`` in the place of the one of its name, or at the end."""
    kept = list(rules)
    for at, known in enumerate(kept):
        if known.pcc_rule_id == rule.pcc_rule_id:
            return [*kept[:at], rule, *kept[at + 1 :]]
    return [*kept, rule]


def without_rule(rules: Iterable[PccRule], pcc_rule_id: str) -> list[PccRule]:
    """The rules but the one of that name."""
    return [rule for rule in rules if rule.pcc_rule_id != pcc_rule_id]


def take_usage(transaction: Transaction, usage: PccRuleUsage, *, path: str) -> None:
    """Records what the SMF reports on a rule of an application session, and tells its AF if it is news."""
    rule = find_rule(transaction, sm_policy_id=usage.sm_policy_id, pcc_rule_id=usage.pcc_rule_id)
    if rule is None or not record_usage(transaction, rule, usage):
        return
    session = transaction.get(AppSession, rule.app_session_id)
    if session is not None:
        tell_usage(transaction, session, rule, path=path)


@dataclass(frozen=True, slots=True)
class _Sending:
    """A decision on its way; ``settled``: the fate of all before it is known."""

    request: UpdateNotifyRequest
    settled: bool


@dataclass(frozen=True, slots=True)
class _Unchanged(Generic[T]):
    """Nothing had to be sent."""

    result: T


class Enforcer:
    """Sends decisions, and settles in the background those whose fate is unknown, between ``start`` and ``stop``."""

    def __init__(
        self, store: Store, update_notify: UpdateNotify, clock: Clock, arranged: Mapping[str, QosReference]
    ) -> None:
        self._store = store
        self._update_notify = update_notify
        self._clock = clock
        self._arranged = arranged
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._starting: asyncio.Task[None] | None = None

    def lock(self, sm_policy_id: str) -> asyncio.Lock:
        """Held while a decision on the association is on its way."""
        return self._locks.setdefault(sm_policy_id, asyncio.Lock())

    async def change(
        self,
        sm_policy_id: str,
        *,
        begin: Callable[[Transaction, SmPolicy], Sequence[PccRule]],
        done: Callable[[Transaction], T],
        refused: Callable[[Transaction], None],
        until_done: bool = False,
    ) -> T:
        """Puts the rules that ``begin`` decides on in force, then does ``done``; each in one transaction.

        Rules that are in force already are not sent again. When the SMF does not enforce them, ``refused`` is done, the
        rules before stay in force and the SMF's error is raised; ``until_done``: it goes on trying in the background.
        Raises PduSessionNotAvailable when the association has gone, and what ``begin`` raises.
        """
        async with self.lock(sm_policy_id):
            sending = await self._store.write(lambda tx: self._prepare(tx, sm_policy_id, begin, done))
            if isinstance(sending, _Unchanged):
                return sending.result
            try:
                answer = await self._update_notify(sending.request)
            except CastcoreError as error:
                await self._not_enforced(sending, error, refused, until_done)
                raise
            return await self._store.write(lambda tx: self._enforced(tx, sending.request, answer, done))

    async def decide_anew(self, sm_policy_id: str) -> None:
        """Decides every session of an association by the policies of now, and puts that in force.

        A session that is no longer granted is TERMINATED; those being released are gone afterwards. Raises like
        ``change``, and goes on in the background then.
        """
        changed: dict[str, Enforcement] = {}

        def begin(transaction: Transaction, policy: SmPolicy) -> list[PccRule]:
            changed.clear()
            operator_policies = transaction.all(OperatorPolicy)
            rules = [default_rule()]
            for session in transaction.all(AppSession, parent=sm_policy_id):
                rule = rule_of_session(transaction, session.app_session_id)
                if State(session.state) not in GRANTED or rule is None:
                    continue
                try:
                    check_subscriber(session.asc_req_data, policy)
                    decision = decide(
                        session.asc_req_data,
                        dnn=policy.dnn,
                        slice_info=policy.slice_info,
                        policies=operator_policies,
                        arranged=self._arranged,
                    )
                except CastcoreError as error:
                    step(transaction, session, Event.WITHDRAWN, problem=problem_of(error))
                    continue
                rules.append(decision.pcc_rule(rule.pcc_rule_id))
                if decision.enforcement != session.asc_resp_data.enforcement:
                    changed[session.app_session_id] = decision.enforcement
            return rules

        def done(transaction: Transaction) -> None:
            for session in transaction.all(AppSession, parent=sm_policy_id):
                if session.state == AppSession.STATE_RELEASING:
                    step(transaction, session, Event.INSTALLED)
                elif session.app_session_id in changed:
                    session.asc_resp_data.enforcement.CopyFrom(changed[session.app_session_id])
                    step(transaction, session, Event.INSTALLED)

        await self.change(sm_policy_id, begin=begin, done=done, refused=lambda _: None, until_done=True)

    async def decide_all_anew(self) -> None:
        """``decide_anew`` for every association with sessions or of unknown fate; failures go on in the background."""
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(sm_policy_id: str) -> None:
            async with gate:
                await self._try(sm_policy_id)

        await asyncio.gather(*(one(each) for each in await self._store.read(_unsettled_or_in_use)))

    async def start(self) -> None:
        """Forgets what was never acknowledged, then settles in the background what was under way."""
        await self._store.write(_restart)
        self._starting = asyncio.create_task(self.decide_all_anew(), name="pcf-settle")

    async def stop(self) -> None:
        """Ends the work in the background; what is unsettled is settled after the next start."""
        tasks = [*self._tasks.values(), *([self._starting] if self._starting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()

    def _prepare(
        self,
        transaction: Transaction,
        sm_policy_id: str,
        begin: Callable[[Transaction, SmPolicy], Sequence[PccRule]],
        done: Callable[[Transaction], T],
    ) -> _Sending | _Unchanged[T]:
        policy = transaction.get(SmPolicy, sm_policy_id)
        if policy is None:
            raise PduSessionNotAvailable(f"policy association {sm_policy_id!r} has been closed")
        in_force = list(policy.decision.pcc_rules)
        settled = confirmed_revision(transaction, sm_policy_id) == policy.decision.revision
        rules = list(begin(transaction, policy))
        if settled and rules == in_force:
            return _Unchanged(done(transaction))
        policy.decision.revision += 1
        transaction.update(policy, sm_policy_id)
        decision = SmPolicyDecision(revision=policy.decision.revision, pcc_rules=rules)
        return _Sending(UpdateNotifyRequest(sm_policy_id=sm_policy_id, decision=decision), settled)

    def _enforced(
        self,
        transaction: Transaction,
        request: UpdateNotifyRequest,
        answer: UpdateNotifyResponse,
        done: Callable[[Transaction], T],
    ) -> T:
        policy = transaction.get(SmPolicy, request.sm_policy_id)
        if policy is None:
            raise PduSessionNotAvailable(f"policy association {request.sm_policy_id!r} was closed meanwhile")
        for usage in answer.usage:
            # Measured before the change, hence rated by the terms before it.
            take_usage(transaction, usage, path="N4>N7")
        for rule in request.decision.pcc_rules:
            set_terms(
                transaction,
                sm_policy_id=request.sm_policy_id,
                pcc_rule_id=rule.pcc_rule_id,
                terms=terms_of(rule.charging),
                sponsor_id=rule.charging.sponsor_id,
            )
        policy.decision.ClearField("pcc_rules")
        policy.decision.pcc_rules.extend(request.decision.pcc_rules)
        transaction.update(policy, request.sm_policy_id)
        confirm(transaction, request.sm_policy_id, request.decision.revision)
        return done(transaction)

    async def _not_enforced(
        self,
        sending: _Sending,
        error: CastcoreError,
        refused: Callable[[Transaction], None],
        until_done: bool,
    ) -> None:
        sm_policy_id, revision = sending.request.sm_policy_id, sending.request.decision.revision
        if error.reason == PolicyAssociationNotFound.reason:
            await self._store.write(lambda tx: close_association(tx, sm_policy_id))
            raise PduSessionNotAvailable(f"the SMF knows no policy association {sm_policy_id!r}") from error
        unknown = isinstance(error, _FATE_UNKNOWN) or not sending.settled

        def undo(transaction: Transaction) -> None:
            if transaction.get(SmPolicy, sm_policy_id) is None:
                return
            refused(transaction)
            if not unknown:
                confirm(transaction, sm_policy_id, revision)

        await self._store.write(undo)
        _log.warning("decision.not_enforced", sm_policy_id=sm_policy_id, revision=revision, error=str(error))
        if unknown or until_done:
            self._settle_later(sm_policy_id)

    async def _try(self, sm_policy_id: str) -> bool:
        """Whether the association is settled, or has gone."""
        try:
            await self.decide_anew(sm_policy_id)
        except PduSessionNotAvailable:
            return True
        except CastcoreError:
            return False
        return True

    def _settle_later(self, sm_policy_id: str) -> None:
        if sm_policy_id not in self._tasks:
            self._tasks[sm_policy_id] = asyncio.create_task(self._settle(sm_policy_id), name=f"pcf-{sm_policy_id}")

    async def _settle(self, sm_policy_id: str) -> None:
        # The request that brought this about has its answer; its deadline is none of ours.
        adopt_deadline(None)
        pause = _FIRST_PAUSE
        try:
            while True:
                await self._clock.sleep_until(self._clock.now() + pause)
                if await self._try(sm_policy_id):
                    return
                pause = min(2 * pause, _LONGEST_PAUSE)
        finally:
            self._tasks.pop(sm_policy_id, None)


def _unsettled_or_in_use(reader: Reader) -> list[str]:
    in_use = {session.sm_policy_id for session in reader.all(AppSession)}
    return [
        policy.sm_policy_id
        for policy in reader.all(SmPolicy)
        if policy.sm_policy_id in in_use or confirmed_revision(reader, policy.sm_policy_id) != policy.decision.revision
    ]


def _restart(transaction: Transaction) -> None:
    for session in transaction.all(AppSession):
        step(transaction, session, Event.RESTARTED)
        if session.state == AppSession.STATE_AUTHORIZING:
            discard_unused_rule(transaction, session.app_session_id)
