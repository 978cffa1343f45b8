"""The one thread that writes a function's database, with group commit.

Whatever waits while a commit is being synced to disk forms the next group. Each job has its savepoint: one that fails
is undone alone. Results are handed out after the commit, so that what is acknowledged is durable.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, bindparam, insert, select, update

from nf.common.clock import Clock
from nf.common.errors import Unavailable
from nf.common.schema import counters, events
from nf.common.transaction import EVENT_COUNTER, Transaction

MAX_GROUP = 256

_counter = counters.c.name == EVENT_COUNTER
_LOCK_COUNTER = select(counters.c.value).where(_counter).with_for_update()
_MOVE_COUNTER = update(counters).where(_counter).values(value=bindparam("v"))
_INSERT_EVENTS = insert(events)


@dataclass(frozen=True, slots=True)
class Committed:
    """What a group has changed that somebody may be waiting for."""

    sequence: int
    due_changed: bool


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
    """The thread and its queue. ``committed`` is called in the event loop, before the results of the group."""

    def __init__(self, name: str, engine: Engine, clock: Clock, committed: Callable[[Committed], None]) -> None:
        self._engine = engine
        self._clock = clock
        self._committed = committed
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"store-writer-{name}", daemon=True)
        self.groups = 0

    def start(self) -> None:
        """Begins to work."""
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queues a job; jobs are done in the order of their submission."""
        self._jobs.put(job)

    def stop(self) -> None:
        """Returns when everything that was submitted is done."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        with self._engine.connect() as connection:
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
                    self._commit(connection, group)

    def _commit(self, connection: Connection, group: list[Job]) -> None:
        committed = Committed(0, False)
        try:
            with connection.begin():
                committed = self._work(connection, group)
        except Exception as error:
            # Neither begun nor committed: nothing of the group has happened. A commit that fails may leave its
            # transaction open; with a connection of its own the next group cannot fall into it.
            connection.invalidate()
            for job in group:
                job.error = job.error or Unavailable(f"store: the write could not be committed: {error}")
        self.groups += 1
        loop = group[0].future.get_loop()
        try:
            loop.call_soon_threadsafe(self._resolve, group, committed)
        except RuntimeError:
            # The loop has been closed: nobody waits any more.
            return

    def _work(self, connection: Connection, group: list[Job]) -> Committed:
        """Does the jobs, then writes their events. The counter's row stays locked until the commit."""
        first = last = int(connection.execute(_LOCK_COUNTER).scalar_one())
        due_changed = False
        rows: list[dict[str, int | bytes]] = []
        for job in group:
            transaction = Transaction(connection, self._clock, last)
            if self._attempt(connection, job, transaction):
                due_changed = due_changed or transaction.due_changed
                last += len(transaction.emitted)
                rows += [{"sequence": each.sequence, "body": each.SerializeToString()} for each in transaction.emitted]
        if rows:
            connection.execute(_INSERT_EVENTS, rows)
            connection.execute(_MOVE_COUNTER, {"v": last})
        return Committed(last if last > first else 0, due_changed)

    def _resolve(self, group: list[Job], committed: Committed) -> None:
        self._committed(committed)
        for job in group:
            job.resolve()

    def _attempt(self, connection: Connection, job: Job, transaction: Transaction) -> bool:
        # The statements go to the driver as they are (every database spells them so): the toolkit would compile them
        # anew each time, which costs as much as a write.
        cursor = connection.connection.cursor()
        try:
            cursor.execute("SAVEPOINT job")
            try:
                job.result = job.context.run(job.work, transaction)
            except BaseException as error:
                job.error = error
                cursor.execute("ROLLBACK TO SAVEPOINT job")
            cursor.execute("RELEASE SAVEPOINT job")
        finally:
            cursor.close()
        return job.error is None
