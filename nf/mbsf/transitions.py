"""The life cycle at work: one step of the machine with all that belongs to it, within one transaction of the store.

What has to be done next is kept as the record's due time, so that a restart does not forget it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Final, TypeAlias

from nf.common.resources import copy_of
from nf.common.store import Reader, Transaction
from nf.mbsf import failures
from nf.mbsf.announcements import document_of, service_of
from nf.mbsf.events import tell, tell_session
from nf.mbsf.failures import Failure
from nf.mbsf.machine import AT_REST, DISTRIBUTION_SESSION, SHOWN, Effect, Event, State
from nf.mbsf.periods import Window
from nf.mbsf.planning import Plan, plan
from nf.mbsf.schedules import periods_of
from nf.mbsf.v1 import user_data_ingest_pb2 as ingest
from nf.mbsf.v1.life_cycle_pb2 import DistributionSession, IngestSessionStatus
from nf.mbsf.v1.user_data_ingest_pb2 import MbsUserDataIngSession
from nf.mbsf.v1.user_service_pb2 import (
    SERVICE_ANNOUNCEMENT_MODE_PASSED_BACK,
    SERVICE_ANNOUNCEMENT_MODE_VIA_MBS_DISTRIBUTION_SESSION,
    MbsUserService,
)

_Apply: TypeAlias = Callable[[Transaction, DistributionSession, Failure | None], None]


@dataclass(frozen=True, slots=True)
class Kept:
    """A record as it is stored, and what it needs next."""

    record: DistributionSession
    plan: Plan


class Transitions:
    """Steps of distribution sessions. ``lead``: so long before its start a session is established."""

    def __init__(self, lead: timedelta, locate: Callable[[str], str]) -> None:
        self._lead = lead
        self._locate = locate
        self._apply: Final[Mapping[Enum, _Apply]] = {
            Effect.ANNOUNCE: self._announce,
            Effect.WITHDRAW: _withdraw,
            Effect.TELL_STARTING: _tell_starting,
            Effect.TELL_SESSION_STARTED: _tell_session_started,
            Effect.TELL_STARTED: _tell_started,
            Effect.TELL_ACTIVATED: _tell_activated,
            Effect.TELL_FAILURE: _tell_failure,
            Effect.TELL_TERMINATED: _tell_terminated,
            Effect.TELL_SESSION_RELEASED: _tell_session_released,
        }

    def plan(self, reader: Reader, record: DistributionSession) -> Plan:
        """What the session needs next."""
        return plan(record, periods_of(reader, record), reader.clock.now(), self._lead)

    def plan_without(self, record: DistributionSession) -> Callable[[Reader], Plan]:
        """What the session needs beside being told of, and keeping its TMGI."""
        bare = copy_of(record)
        bare.replica_stale = bare.tunnel_stale = bare.carried_stale = bare.tmgi_allocated = False
        return lambda reader: self.plan(reader, bare)

    def step(
        self,
        transaction: Transaction,
        record: DistributionSession,
        event: Event,
        *,
        failure: Failure | None = None,
        window: Window | None = None,
    ) -> Kept | None:
        """Stores ``record``, whose content may have changed, in the state that ``event`` leads to, with what follows.

        ``failure`` says why it came to that, ``window`` which period begins. None: it is gone. Raises
        InvalidTransition.
        """
        before = State(record.stage)
        transition = DISTRIBUTION_SESSION.step(before, event)
        if Effect.FORGET in transition.effects:
            forget(transaction, record)
            return None
        after = copy_of(record)
        after.stage = DistributionSession.Stage.ValueType(transition.state)
        after.info.mbs_dist_sess_state = SHOWN[transition.state]
        if event is Event.PERIOD_NEARS and window is not None:
            _begin_run(after, window)
        if failure is not None:
            after.info.problem.CopyFrom(failure.problem)
            failed_in = periods_of(transaction, after).next(transaction.clock.now())
            if failed_in is not None:
                # Not again in this period.
                after.held_until.FromDatetime(failed_in.stop)
        if before in AT_REST and transition.state not in AT_REST:
            _count_running(transaction, after.mbs_ing_session_id, 1)
        if SHOWN[before] != SHOWN[transition.state]:
            tell(transaction, after, ingest.STATUS_EVENT_DIST_SESS_STATE, previous=record)
        for effect in transition.effects:
            apply = self._apply.get(effect)
            if apply is not None:
                apply(transaction, after, failure)
        if transition.state is State.INACTIVE and before not in AT_REST:
            _end_run(after)
            _count_running(transaction, after.mbs_ing_session_id, -1)
        return self.keep(transaction, after)

    def keep(self, transaction: Transaction, record: DistributionSession) -> Kept:
        """Stores a record, due when there is something to do."""
        next_step = self.plan(transaction, record)
        due = transaction.clock.now() if next_step.event is not None else next_step.due
        return Kept(transaction.update(record, record.mbs_dist_session_id, due=due), next_step)

    def _announce(self, transaction: Transaction, record: DistributionSession, _: Failure | None) -> None:
        """The end of step 2: clients may be told (TS 26.502 §4.6.1)."""
        record.info.announced = record.was_announced = True
        self._publish(transaction, service_of(transaction, record), record)

    def announce_again(
        self, transaction: Transaction, service: MbsUserService, record: DistributionSession
    ) -> DistributionSession:
        """Stores a record, which is announced anew, if it is announced: its service or its periods have changed."""
        if record.info.announced:
            self._publish(transaction, service, record)
        return self.keep(transaction, record).record

    def _publish(self, transaction: Transaction, service: MbsUserService, record: DistributionSession) -> None:
        record.announcement_version += 1
        record.carried_stale = SERVICE_ANNOUNCEMENT_MODE_VIA_MBS_DISTRIBUTION_SESSION in service.serv_ann_modes
        if SERVICE_ANNOUNCEMENT_MODE_PASSED_BACK in service.serv_ann_modes:
            document = document_of(transaction, service, record, self._locate)
            tell(transaction, record, ingest.STATUS_EVENT_USER_SER_AD, info=document)


def forget(transaction: Transaction, record: DistributionSession) -> None:
    """A session is no longer provisioned; with the last one its ingest session goes."""
    transaction.delete(DistributionSession, record.mbs_dist_session_id)
    if not record.acknowledged:
        return
    status = _status(transaction, record.mbs_ing_session_id)
    status.provisioned -= 1
    if status.provisioned:
        transaction.update(status, status.mbs_ing_session_id)
        return
    transaction.delete(IngestSessionStatus, status.mbs_ing_session_id)
    transaction.delete(MbsUserDataIngSession, status.mbs_ing_session_id)
    tell_session(transaction, status.mbs_ing_session_id, ingest.STATUS_EVENT_SESSION_TERMINATED)


def count_provisioned(transaction: Transaction, mbs_ing_session_id: str, count: int) -> None:
    """So many more distribution sessions of an ingest session are provisioned."""
    status = _status(transaction, mbs_ing_session_id)
    status.provisioned += count
    transaction.put(status, mbs_ing_session_id)


def _begin_run(record: DistributionSession, window: Window) -> None:
    record.run += 1
    record.period_start.FromDatetime(window.start)
    record.period_stop.FromDatetime(window.stop)
    record.told_activated = record.told_terminated = record.was_announced = False
    record.ClearField("held_until")
    record.info.ClearField("problem")


def _end_run(record: DistributionSession) -> None:
    record.tunnel_stale = record.carried_stale = False
    for field in ("ingress_tun_addr", "tmgi_expiry", "tmgi_refreshed", "ingest_severe_at"):
        record.ClearField(field)
    record.info.ClearField("ingest_failing_since")
    if record.tmgi_allocated:
        record.tmgi_allocated = False
        record.info.mbs_session_id.ClearField("tmgi")
        if not record.info.mbs_session_id.ByteSize():
            record.info.ClearField("mbs_session_id")


def _status(transaction: Transaction, mbs_ing_session_id: str) -> IngestSessionStatus:
    known = transaction.get(IngestSessionStatus, mbs_ing_session_id)
    return known if known is not None else IngestSessionStatus(mbs_ing_session_id=mbs_ing_session_id)


def _count_running(transaction: Transaction, mbs_ing_session_id: str, by: int) -> None:
    status = _status(transaction, mbs_ing_session_id)
    if by > 0 and not status.running:
        tell_session(transaction, mbs_ing_session_id, ingest.STATUS_EVENT_USER_DATA_ING_SESS_STARTING)
    status.running += by
    if by < 0 and not status.running:
        status.started = False
        tell_session(transaction, mbs_ing_session_id, ingest.STATUS_EVENT_USER_DATA_ING_SESS_TERMINATED)
    transaction.update(status, mbs_ing_session_id)


def _withdraw(transaction: Transaction, record: DistributionSession, _: Failure | None) -> None:
    record.info.announced = False
    record.announcement_version += 1
    record.carried_stale = False


def _tell_starting(transaction: Transaction, record: DistributionSession, _: Failure | None) -> None:
    tell(transaction, record, ingest.STATUS_EVENT_DIST_SESS_STARTING)


def _tell_session_started(transaction: Transaction, record: DistributionSession, _: Failure | None) -> None:
    record.told_session_started = True
    tell(transaction, record, ingest.STATUS_EVENT_SESSION_STARTED, source="smf", path=failures.NMB1)


def _tell_session_released(transaction: Transaction, record: DistributionSession, _: Failure | None) -> None:
    if record.told_session_started:
        record.told_session_started = False
        tell(transaction, record, ingest.STATUS_EVENT_SESSION_RELEASED, source="smf", path=failures.NMB1)


def _tell_started(transaction: Transaction, record: DistributionSession, _: Failure | None) -> None:
    tell(transaction, record, ingest.STATUS_EVENT_DIST_SESS_STARTED)
    status = _status(transaction, record.mbs_ing_session_id)
    if not status.started:
        status.started = True
        transaction.update(status, record.mbs_ing_session_id)
        tell_session(transaction, record.mbs_ing_session_id, ingest.STATUS_EVENT_USER_DATA_ING_SESS_STARTED)


def _tell_activated(transaction: Transaction, record: DistributionSession, _: Failure | None) -> None:
    if not record.told_activated:
        record.told_activated = True
        tell(transaction, record, ingest.STATUS_EVENT_DIST_SESS_ACTIVATED, source="mbstf", path=failures.NMB2)


def _tell_terminated(transaction: Transaction, record: DistributionSession, _: Failure | None) -> None:
    if not record.told_terminated:
        record.told_terminated = True
        tell(transaction, record, ingest.STATUS_EVENT_DIST_SESS_TERMINATED, source="mbstf", path=failures.NMB2)


def _tell_failure(transaction: Transaction, record: DistributionSession, failure: Failure | None) -> None:
    if failure is None:
        raise AssertionError("a failure is told with its reason")
    for event in failure.events:
        tell(
            transaction,
            record,
            event,
            source=failure.source,
            path=failure.path,
            info=failures.text(failure.problem),
        )
