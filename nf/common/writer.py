"""The one writer of a function's database, with group commit.

Whatever waits while a commit is under way forms the next group. Each job has its savepoint: one that fails is undone
alone. Results are handed out after the commit, so that what is acknowledged is durable.

The writer is a thread. Where a commit takes less than to wake one (``Database.brief``), groups are done in the event
loop, in place of the thread and never beside it; each is what one turn of the loop has brought.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass

from nf.common.clock import Clock
from nf.common.database import Database, Group, News
from nf.common.errors import CastcoreError, Unavailable
from nf.common.known import Changes, Known
from nf.common.statements import Session, Value
from nf.common.transaction import Transaction

MAX_GROUP = 256
# So that the event loop turns in between.
MAX_BRIEF_GROUP = 64
# Where more patient jobs than these have come in so short a time, the next waits so long for others: until a job comes
# that does not wait, or the group is as large as that.
_CROWD = 3
_CROWDED_S = 0.1
PATIENCE_S = 0.02
PATIENT_GROUP = 32


@dataclass(slots=True)
class Job:
    """One piece of work, in the context of its caller; ``resolve`` is called in the event loop."""

    work: Callable[[Transaction], object]
    context: Context
    future: asyncio.Future[object]
    result: object = None
    error: BaseException | None = None

    def resolve(self) -> None:
        """Hands the outcome to the caller, if it still waits."""
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        elif isinstance(self.error, StopIteration):
            self.future.set_exception(RuntimeError("a job of the store raised StopIteration"))
        else:
            self.future.set_exception(self.error)


class Writer:
    """The writer and its queue. ``committed`` is called in the event loop, before the results of the group."""

    def __init__(
        self,
        name: str,
        database: Database,
        clock: Clock,
        committed: Callable[[News], None],
        known: Known | None = None,
    ) -> None:
        self._database = database
        # What the event loop knows by heart; on the thread it is not looked at.
        self._known = known
        self._clock = clock
        self._committed = committed
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"store-writer-{name}", daemon=True)
        self._session: Session | None = None
        # Of the event loop: jobs for its next turn, and how many the thread has not finished.
        self._gathered: list[Job] = []
        self._turning = False
        self._patience: asyncio.TimerHandle | None = None
        # When the last patient jobs have come.
        self._came: deque[float] = deque(maxlen=_CROWD + 1)
        self._apart = 0
        self.groups = 0

    def start(self) -> None:
        """Begins to work."""
        self._thread.start()

    def submit(self, job: Job, *, apart: bool = False, patient: bool = False) -> None:
        """Queues a job; jobs are done in the order of their submission.

        ``apart``: on the thread in any case. ``patient``: it may wait a little for others to share its commit.
        """
        if self._database.brief and not apart and not self._apart:
            self._gathered.append(job)
            if self._turning:
                return
            loop = job.future.get_loop()
            if not (patient and self._is_crowded(loop.time())) or len(self._gathered) >= PATIENT_GROUP:
                self._turning = True
                loop.call_soon(self._turn)
            elif self._patience is None:
                self._patience = loop.call_later(PATIENCE_S, self._turn)
            return
        self.flush()
        self._apart += 1
        self._jobs.put(job)

    def _is_crowded(self, now_s: float) -> bool:
        self._came.append(now_s)
        return len(self._came) > _CROWD and now_s - self._came[0] < _CROWDED_S

    @property
    def is_apart(self) -> bool:
        """Whether the thread may be at it: what the event loop reads may then change meanwhile."""
        return self._apart > 0

    def flush(self) -> None:
        """Does what was gathered for the event loop to do."""
        while self._gathered:
            self._brief_group()

    def stop(self) -> None:
        """Returns when everything that was submitted, and flushed, is done."""
        self._jobs.put(None)
        self._thread.join()

    def _turn(self) -> None:
        self._turning = False
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if self._gathered:
            loop = self._gathered[0].future.get_loop()
            self._brief_group()
            if self._gathered and not self._turning:
                self._turning = True
                loop.call_soon(self._turn)

    def _brief_group(self) -> None:
        group, self._gathered = self._gathered[:MAX_BRIEF_GROUP], self._gathered[MAX_BRIEF_GROUP:]
        changes = Changes()
        news = self._commit(group, self._known, changes)
        if news is not None and self._known is not None:
            self._known.apply(changes)
        self._hand_out(group, news)

    def _run(self) -> None:
        going = True
        while going:
            job = self._jobs.get()
            group: list[Job] = []
            while job is not None:
                group.append(job)
                if len(group) == MAX_GROUP:
                    break
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
            going = job is not None
            if group:
                changes = Changes()
                news = self._commit(group, None, changes)
                try:
                    group[0].future.get_loop().call_soon_threadsafe(self._resolve, group, news, changes)
                except RuntimeError:
                    # The loop has been closed: nobody waits any more.
                    continue
        self._disconnect()

    def _commit(self, group: list[Job], known: Known | None, changes: Changes) -> News | None:
        self.groups += 1
        try:
            return self._work(group, known, changes)
        except Exception as error:
            # Not begun, or undone; or the connection was lost during the commit, and nobody knows. A connection of its
            # own keeps the next group from falling into a transaction that was left open.
            self._disconnect()
            for job in group:
                if not isinstance(job.error, CastcoreError):
                    job.error = self._not_committed(error)
            return None

    def _not_committed(self, error: Exception) -> CastcoreError:
        told = self._database.explain(error) or error
        if isinstance(told, Unavailable):
            return Unavailable(told.message)
        return Unavailable(f"store: the write could not be committed: {error}")

    def _work(self, group: list[Job], known: Known | None, changes: Changes) -> News | None:
        """Does the jobs, then writes their events; None: nothing was done. ``changes`` are filled in."""
        session, last = self._begin()
        earliest_due_ns: int | None = None
        rows: list[dict[str, Value]] = []
        # The only job of a group needs no savepoint: all there is to undo is its own.
        attempt = self._attempt if len(group) > 1 else self._attempt_alone
        succeeded = False
        for job in group:
            transaction = Transaction(session, self._clock, last, known, changes)
            if attempt(session, job, transaction):
                succeeded = True
                changes.add(transaction.changes)
                due_ns = transaction.earliest_due_ns
                if due_ns is not None and (earliest_due_ns is None or due_ns < earliest_due_ns):
                    earliest_due_ns = due_ns
                last += len(transaction.emitted)
                rows += [{"sequence": each.sequence, "body": each.SerializeToString()} for each in transaction.emitted]
        if not succeeded:
            session.end("ROLLBACK")
            return None
        return self._database.commit(session, Group(rows, last, earliest_due_ns))

    def _begin(self) -> tuple[Session, int]:
        if self._session is not None:
            try:
                return self._session, self._database.begin_write(self._session)
            except Exception:
                if not self._database.is_lost(self._session):
                    raise
                # It was lost while nobody wrote.
                self._disconnect()
        self._session = self._database.writer()
        return self._session, self._database.begin_write(self._session)

    def _disconnect(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _resolve(self, group: list[Job], news: News | None, changes: Changes) -> None:
        if self._known is not None:
            # Even where nobody knows whether it was committed.
            self._known.forget(changes)
        self._apart -= len(group)
        self._hand_out(group, news)

    def _hand_out(self, group: list[Job], news: News | None) -> None:
        if news is not None:
            self._committed(news)
        for job in group:
            job.resolve()

    def _attempt(self, session: Session, job: Job, transaction: Transaction) -> bool:
        session.run("SAVEPOINT job")
        if not self._attempt_alone(session, job, transaction):
            session.run("ROLLBACK TO SAVEPOINT job")
        session.run("RELEASE SAVEPOINT job")
        return job.error is None

    def _attempt_alone(self, session: Session, job: Job, transaction: Transaction) -> bool:
        try:
            job.result = job.context.run(job.work, transaction)
        except BaseException as error:
            if self._database.is_lost(session):
                # With the connection, all of the group is lost.
                raise Unavailable(f"store: {self._database.name}: the connection was lost") from error
            job.error = self._database.explain(error) or error
        return job.error is None
