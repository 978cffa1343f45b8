"""Distribution sessions on their way: each is brought from step to step as its time comes (TS 26.502 §4.6.1).

Every step is stored before its call is made, and when it is done: what was under way when the MBSF died is due when it
starts again. Operations on one session follow each other, those on different ones run side by side.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from nf.common.background import Background
from nf.common.errors import CastcoreError
from nf.common.reader import MAX_INTEGER
from nf.common.store import Reader, Store, Transaction
from nf.common.telemetry import logger
from nf.mbsf import failures
from nf.mbsf.failures import Failure
from nf.mbsf.gate import Gate
from nf.mbsf.machine import DISTRIBUTION_SESSION, STARTING, Effect, Event, State
from nf.mbsf.peers import Change
from nf.mbsf.planning import NEVER_DUE, Plan
from nf.mbsf.schedule import Schedule
from nf.mbsf.steps import ReplicaLost, Steps
from nf.mbsf.transitions import Kept, Transitions
from nf.mbsf.v1.life_cycle_pb2 import DistributionSession

_FIRST_PAUSE_S: Final = 0.5
_MANY: Final = 32


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds the calls.

    So many at a time of those that reserve, and of the others; the longest pause before one is repeated that has to
    succeed.
    """

    concurrent_calls: int
    longest_pause_s: float


class LifeCycle:
    """All distribution sessions of one MBSF, between ``start`` and ``stop``; ``wake`` one whose record has changed."""

    def __init__(self, store: Store, transitions: Transitions, steps: Steps, limits: Limits) -> None:
        self._store = store
        self._transitions = transitions
        self._steps = steps
        self._limits = limits
        self._log = logger("mbsf")
        self._schedule = Schedule(store.clock)
        self._background = Background("distribution sessions")
        # A start does not wait for what is being reserved, nor an end.
        self._reserving = Gate(limits.concurrent_calls)
        self._calls = Gate(limits.concurrent_calls)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        # Looked at once more when the present look has ended.
        self._again: set[str] = set()
        # Those that the MBSTF lets wait for their first data.
        self._ingesting: dict[str, asyncio.Task[Change]] = {}
        self._attempts: dict[str, int] = {}

    def lock(self, name: str) -> AbstractAsyncContextManager[None]:
        """Keeps the steps of a session out while something else is done with it."""
        return self._store.exclusive(f"distribution session {name}")

    async def start(self) -> None:
        """Begins, with what is due already."""
        await self._store.write(self._adopt, apart=True)
        for each in await self._store.read(lambda reader: reader.due(DistributionSession, NEVER_DUE, MAX_INTEGER)):
            self._schedule.put(each.name, each.due)
        self._background.begin(self._run)

    async def stop(self) -> None:
        """Ends; what is under way is due at the next start."""
        await self._background.end()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    @property
    def under_way(self) -> int:
        """How many sessions something is being done for."""
        return len(self._tasks)

    @property
    def next_due(self) -> datetime | None:
        """When something is to be done for another; None: when it is woken."""
        return self._schedule.next_due

    def wake(self, name: str) -> None:
        """Has a session looked at now: its record, its periods or its service has changed.

        Whatever waits for data is asked for anew if it is still wanted.
        """
        waiting = self._ingesting.get(name)
        if waiting is not None:
            waiting.cancel()
        if name in self._tasks:
            self._again.add(name)
        else:
            self._schedule.put(name, self._store.clock.now())

    def _adopt(self, transaction: Transaction) -> None:
        """What was being provisioned when the MBSF was stopped was never acknowledged."""
        for record in transaction.all(DistributionSession):
            if record.stage == DistributionSession.STAGE_PROVISIONING:
                self._transitions.step(transaction, record, Event.FAILED)

    async def _run(self) -> None:
        await self._store.on_duty()
        while True:
            for name in await self._schedule.take():
                if name in self._tasks:
                    self._again.add(name)
                else:
                    self._begin(name)

    def _begin(self, name: str) -> None:
        task = asyncio.create_task(self._advance(name), name=f"distribution session {name}")
        self._tasks[name] = task
        task.add_done_callback(lambda _: self._ended(name))

    def _ended(self, name: str) -> None:
        del self._tasks[name]
        if name in self._again:
            self._again.discard(name)
            self._schedule.put(name, self._store.clock.now())

    async def _advance(self, name: str) -> None:
        try:
            async with self.lock(name):
                kept = await self._store.read(lambda reader: self._look(reader, name))
                while kept is not None:
                    again = await self._next(kept)
                    if again is kept:
                        break
                    kept = again
        except CastcoreError as error:
            self._log.warning("distribution_session.postponed", session=name, error=str(error))
            self._pause(name)
        except Exception:
            self._log.exception("distribution_session.failed", session=name)
            self._pause(name)

    def _look(self, reader: Reader, name: str) -> Kept | None:
        record = reader.get(DistributionSession, name)
        return None if record is None else Kept(record, self._transitions.plan(reader, record))

    async def _next(self, kept: Kept) -> Kept | None:
        """One step: what there is to do afterwards. The same ``kept`` again: nothing, before it is due or woken."""
        record, plan = kept.record, kept.plan
        name = record.mbs_dist_session_id
        if plan.event is not None:
            return await self._write(lambda tx: self._happen(tx, record, plan))
        if plan.tell_replica or plan.refresh_tmgi:
            return await self._side_step(kept)
        if plan.work is None:
            self._schedule.put(name, plan.due)
            return kept
        try:
            change = await self._do(record, plan)
        except CastcoreError as error:
            return await self._failed(kept, error)
        self._attempts.pop(name, None)
        return await self._write(lambda tx: self._done(tx, record, change))

    async def _do(self, record: DistributionSession, plan: Plan) -> Change:
        if plan.work is not Effect.ESTABLISH:
            async with self._reserving if State(record.stage) in STARTING else self._calls:
                return await self._steps.do(record, plan)
        # It may take as long as there is time, and then others must not wait for it.
        name = record.mbs_dist_session_id
        waiting = asyncio.ensure_future(self._steps.do(record, plan))
        self._ingesting[name] = waiting
        try:
            await asyncio.wait([waiting])
        finally:
            self._ingesting.pop(name, None)
            waiting.cancel()
        if waiting.cancelled():
            # Woken. What the MBSTF makes of it is asked again, or undone.
            return _no_change
        return waiting.result()

    async def _failed(self, kept: Kept, error: CastcoreError) -> Kept | None:
        record, name = kept.record, kept.record.mbs_dist_session_id
        state = State(record.stage)
        log = self._log.bind(session=name, state=state.name, code=error.code, error=str(error))
        if state in STARTING or state is State.ESTABLISHED:
            log.warning("distribution_session.failed")
            failure = failures.of_call(state, error)
            return await self._write(lambda tx: self._fail(tx, record, failure))
        # 4b to 4d and what undoes 2a: never skipped.
        log.warning("distribution_session.not_released")
        self._pause(name)
        return kept

    async def _side_step(self, kept: Kept) -> Kept | None:
        """What a session needs beside its steps; it does not wait for it."""
        record, name = kept.record, kept.record.mbs_dist_session_id
        try:
            async with self._calls:
                change = await self._steps.aside(record, kept.plan)
        except ReplicaLost:
            failure = failures.of_news(
                failures.SERVICE_MANAGEMENT, failures.NMB2, "The distribution session was lost where it is sent from"
            )
            return await self._write(lambda tx: self.severe(tx, name, failure, run=record.run))
        except CastcoreError as error:
            self._log.warning("distribution_session.not_told", session=name, error=str(error))
            without = self._transitions.plan_without(record)
            plan = await self._store.read(without)
            if plan.event is None and plan.work is None:
                self._pause(name, plan.due)
                return kept
            return Kept(record, plan)
        self._attempts.pop(name, None)
        return await self._write(lambda tx: self._changed(tx, record, change))

    async def _write(self, work: Callable[[Transaction], Kept | None]) -> Kept | None:
        # Where very many are on their way at once, what they come to is stored by the dozen.
        return await self._store.write(work, patient=len(self._tasks) >= _MANY)

    def _pause(self, name: str, due: datetime | None = None) -> None:
        """Has a session looked at again after a while, when it is ``due`` at the latest."""
        attempts = self._attempts[name] = self._attempts.get(name, 0) + 1
        pause_s = min(self._limits.longest_pause_s, _FIRST_PAUSE_S * 2.0 ** min(attempts - 1, 16))
        again = self._store.clock.now() + timedelta(seconds=pause_s)
        self._schedule.put(name, again if due is None else min(again, due))

    def _current(self, transaction: Transaction, record: DistributionSession) -> DistributionSession | None:
        """The record as it is; None when it has gone to another step than the call was made for."""
        current = transaction.get(DistributionSession, record.mbs_dist_session_id)
        if current is None or (current.stage, current.run) != (record.stage, record.run):
            return None
        return current

    def _happen(self, transaction: Transaction, record: DistributionSession, _: Plan) -> Kept | None:
        """An event whose time has come, if it still has."""
        current = transaction.get(DistributionSession, record.mbs_dist_session_id)
        if current is None:
            return None
        plan = self._transitions.plan(transaction, current)
        if plan.event is None:
            return Kept(current, plan)
        failure = failures.of_dry_ingest() if plan.ingest_failed else None
        return self._transitions.step(transaction, current, plan.event, window=plan.window, failure=failure)

    def _done(self, transaction: Transaction, record: DistributionSession, change: Change) -> Kept | None:
        current = self._current(transaction, record)
        if current is None or change is _no_change:
            return self._look(transaction, record.mbs_dist_session_id)
        change(current)
        return self._transitions.step(transaction, current, Event.DONE)

    def _fail(self, transaction: Transaction, record: DistributionSession, failure: Failure) -> Kept | None:
        current = self._current(transaction, record)
        if current is None:
            return self._look(transaction, record.mbs_dist_session_id)
        return self._transitions.step(transaction, current, Event.FAILED, failure=failure)

    def _changed(self, transaction: Transaction, record: DistributionSession, change: Change) -> Kept | None:
        current = self._current(transaction, record)
        if current is None:
            return self._look(transaction, record.mbs_dist_session_id)
        change(current)
        return self._transitions.keep(transaction, current)

    def severe(self, transaction: Transaction, name: str, failure: Failure, *, run: int) -> Kept | None:
        """A session cannot go on in this run; one that is being taken down, or has been, is not concerned."""
        current = transaction.get(DistributionSession, name)
        if current is None:
            return None
        if current.run == run and (State(current.stage), Event.SEVERE_ERROR) in DISTRIBUTION_SESSION.table:
            return self._transitions.step(transaction, current, Event.SEVERE_ERROR, failure=failure)
        return Kept(current, self._transitions.plan(transaction, current))


def _no_change(_: DistributionSession) -> None:
    return
