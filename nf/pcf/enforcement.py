"""Puts decisions in force at the SMF, one at a time per policy association (TS 29.512 §4.2.3, UpdateNotify).

The latest revision sent and the latest whose fate is known are both kept. While they differ (the SMF has not answered,
or the process has ended meanwhile) the association is decided anew and sent until the SMF has confirmed it.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final, Generic, TypeVar, cast

from nf.common.call import adopt_deadline, deadline, own_deadline
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
from nf.pcf.v1.sm_policy_control_pb2 import PccRule, SmPolicy
from nf.smf.v1.pdu_session_pb2 import PccRuleUsage, UpdateNotifyRequest, UpdateNotifyResponse

T = TypeVar("T")
T2 = TypeVar("T2")

UpdateNotify = Callable[[UpdateNotifyRequest], Awaitable[UpdateNotifyResponse]]
# What an association's rules are to be, given those that the changes before have decided on.
Begin = Callable[[Transaction, SmPolicy, Sequence[PccRule]], Sequence[PccRule]]

# After these nobody knows whether the SMF enforces what was sent.
_FATE_UNKNOWN: Final = (Unavailable, DeadlineExceeded, Cancelled, Internal)
_FIRST_PAUSE: Final = timedelta(milliseconds=200)
_LONGEST_PAUSE: Final = timedelta(seconds=10)
_AT_ONCE: Final = 8
_MOST_TOGETHER: Final = 32

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


@dataclass(slots=True)
class _Change(Generic[T]):
    """A change of an association's rules, its caller's context and deadline (monotonic), and what came of it."""

    begin: Begin
    done: Callable[[Transaction], T]
    refused: Callable[[Transaction], None]
    until_done: bool
    alone: bool
    context: Context
    deadline: float | None
    result: T | None = None
    error: BaseException | None = None
    over: bool = False

    def end(self, result: T) -> None:
        """It is in force."""
        self.result, self.over = result, True

    def fail(self, error: BaseException) -> None:
        """It is not."""
        self.error, self.over = error, True

    def outcome(self) -> T:
        """What ``done`` has returned. Raises what it has failed by."""
        if self.error is not None:
            raise self.error
        return cast(T, self.result)

    def attempt(self, transaction: Transaction, work: Callable[[], T2]) -> T2 | None:
        """``work`` in the caller's context; where it raises, what it did is undone alone, and the change is over."""
        try:
            return transaction.apart(lambda: self.context.run(work))
        except Exception as error:
            self.fail(error)
            return None


class Enforcer:
    """Sends decisions, and settles in the background those whose fate is unknown, between ``start`` and ``stop``."""

    def __init__(
        self, store: Store, update_notify: UpdateNotify, clock: Clock, arranged: Mapping[str, QosReference]
    ) -> None:
        self._store = store
        self._update_notify = update_notify
        self._clock = clock
        self._arranged = arranged
        # By association: changes that wait for the decision on its way.
        self._gathered: dict[str, list[_Change[Any]]] = {}
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
        begin: Begin,
        done: Callable[[Transaction], T],
        refused: Callable[[Transaction], None],
        until_done: bool = False,
        alone: bool = False,
    ) -> T:
        """Puts the rules that ``begin`` decides on in force, then does ``done``; each in one transaction.

        Changes of one association that come while a decision is on its way make the next one together, unless one is
        to be decided ``alone``; each starts from the rules that those before it have decided on.
        Rules that are in force already are not sent again. When the SMF does not enforce them, ``refused`` is done, the
        rules before stay in force and the SMF's error is raised; ``until_done``: it goes on trying in the background.
        Raises PduSessionNotAvailable when the association has gone, and what ``begin`` raises.
        """
        change = _Change(begin, done, refused, until_done, alone, copy_context(), deadline())
        gathered = self._gathered.setdefault(sm_policy_id, [])
        gathered.append(change)
        async with self.lock(sm_policy_id):
            if not change.over:
                await self._put_in_force(sm_policy_id, change, gathered)
        if not gathered and self._gathered.get(sm_policy_id) is gathered:
            del self._gathered[sm_policy_id]
        return change.outcome()

    async def _put_in_force(self, sm_policy_id: str, change: _Change[T], gathered: list[_Change[Any]]) -> None:
        """Puts the change in force, and with it the others that wait: what has gathered makes one decision.

        Where the SMF refuses what they make together, each is tried alone.
        """
        together: list[_Change[Any]] = [change]
        gathered.remove(change)
        if not change.alone:
            together += [each for each in gathered if not each.alone][: _MOST_TOGETHER - 1]
            gathered[:] = [each for each in gathered if each not in together]
        try:
            if await self._decide(sm_policy_id, together):
                return
            for each in together:
                await self._decide(sm_policy_id, [each])
        finally:
            for each in together:
                if not each.over:
                    each.fail(Unavailable(f"the decision of policy association {sm_policy_id!r} was given up"))

    async def _decide(self, sm_policy_id: str, together: Sequence[_Change[Any]]) -> bool:
        """Decides on these changes and puts that in force; False: the SMF has refused, and it is not known which."""
        going = [each for each in together if not each.over]
        try:
            sending = await self._store.write(lambda tx: self._prepare(tx, sm_policy_id, going))
            if sending is None:
                return True
            going = [each for each in going if not each.over]
            try:
                with own_deadline(_latest_s(going)):
                    answer = await self._update_notify(sending.request)
            except CastcoreError as error:
                return await self._not_enforced(sending, error, going)
            await self._store.write(lambda tx: self._enforced(tx, sending.request, answer, going))
        except Exception as error:
            for each in going:
                if not each.over or each.error is None:
                    each.fail(error)
        return True

    async def decide_anew(self, sm_policy_id: str) -> None:
        """Decides every session of an association by the policies of now, and puts that in force.

        A session that is no longer granted is TERMINATED; those being released are gone afterwards. Raises like
        ``change``, and goes on in the background then.
        """
        changed: dict[str, Enforcement] = {}

        def begin(transaction: Transaction, policy: SmPolicy, _: Sequence[PccRule]) -> list[PccRule]:
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

        await self.change(sm_policy_id, begin=begin, done=done, refused=lambda _: None, until_done=True, alone=True)

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
        self, transaction: Transaction, sm_policy_id: str, together: Sequence[_Change[Any]]
    ) -> _Sending | None:
        """What is to be sent; None: nothing, all is over."""
        policy = transaction.get(SmPolicy, sm_policy_id)
        if policy is None:
            raise PduSessionNotAvailable(f"policy association {sm_policy_id!r} has been closed")
        in_force = list(policy.decision.pcc_rules)
        settled = confirmed_revision(transaction, sm_policy_id) == policy.decision.revision
        rules = in_force
        if len(together) == 1:
            # What it raises undoes all there is.
            rules = list(together[0].context.run(together[0].begin, transaction, policy, rules))
        else:
            for each in together:
                decided = each.attempt(transaction, partial(each.begin, transaction, policy, rules))
                if decided is not None:
                    rules = list(decided)
        if all(each.over for each in together):
            return None
        if settled and rules == in_force:
            _finish(transaction, [each for each in together if not each.over])
            return None
        policy.decision.revision += 1
        transaction.update(policy, sm_policy_id)
        request = UpdateNotifyRequest(sm_policy_id=sm_policy_id)
        request.decision.revision = policy.decision.revision
        request.decision.pcc_rules.extend(rules)
        return _Sending(request, settled)

    def _enforced(
        self,
        transaction: Transaction,
        request: UpdateNotifyRequest,
        answer: UpdateNotifyResponse,
        together: Sequence[_Change[Any]],
    ) -> None:
        policy = transaction.get(SmPolicy, request.sm_policy_id)
        if policy is None:
            raise PduSessionNotAvailable(f"policy association {request.sm_policy_id!r} was closed meanwhile")
        for usage in answer.usage:
            # Measured before the change, hence rated by the terms before it.
            take_usage(transaction, usage, path="N4>N7")
        before = {rule.pcc_rule_id: rule.charging for rule in policy.decision.pcc_rules}
        for rule in request.decision.pcc_rules:
            charging = before.get(rule.pcc_rule_id)
            if charging is None or charging == rule.charging:
                # The account of a new rule was opened with its terms.
                continue
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
        _finish(transaction, together)

    async def _not_enforced(self, sending: _Sending, error: CastcoreError, together: Sequence[_Change[Any]]) -> bool:
        """What comes of the changes that the SMF does not enforce; False: each may be tried alone."""
        sm_policy_id, revision = sending.request.sm_policy_id, sending.request.decision.revision
        if error.reason == PolicyAssociationNotFound.reason:
            await self._store.write(lambda tx: close_association(tx, sm_policy_id))
            gone = PduSessionNotAvailable(f"the SMF knows no policy association {sm_policy_id!r}")
            gone.__cause__ = error
            raise gone
        unknown = isinstance(error, _FATE_UNKNOWN) or not sending.settled

        def undo(transaction: Transaction) -> None:
            if transaction.get(SmPolicy, sm_policy_id) is None:
                return
            for each in together:
                each.context.run(each.refused, transaction)
            if not unknown:
                confirm(transaction, sm_policy_id, revision)

        await self._store.write(undo)
        if len(together) > 1 and not unknown:
            return False
        _log.warning("decision.not_enforced", sm_policy_id=sm_policy_id, revision=revision, error=str(error))
        if unknown or any(each.until_done for each in together):
            self._settle_later(sm_policy_id)
        raise error

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


def _finish(transaction: Transaction, together: Sequence[_Change[Any]]) -> None:
    """Does what is to be done for changes that are in force."""
    if len(together) == 1:
        (only,) = together
        only.end(only.context.run(only.done, transaction))
        return
    for each in together:
        each.attempt(transaction, partial(_end, transaction, each))


def _end(transaction: Transaction, change: _Change[Any]) -> None:
    change.end(change.done(transaction))


def _latest_s(changes: Sequence[_Change[Any]]) -> float | None:
    """Seconds left of the latest of their deadlines; None: one has none."""
    deadlines = [each.deadline for each in changes if each.deadline is not None]
    return max(deadlines) - time.monotonic() if len(deadlines) == len(changes) else None


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
