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

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from nf.common.clock import Clock
from nf.common.errors import Unavailable
from nf.common.transaction import Transaction

MAX_GROUP = 256


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
        sequence, due_changed = 0, False
        try:
            with connection.begin():
                for job in group:
                    transaction = self._attempt(connection, job)
                    if transaction is not None:
                        sequence = transaction.emitted or sequence
                        due_changed = due_changed or transaction.due_changed
        except SQLAlchemyError as error:
            # Neither begun nor committed: nothing of the group has happened.
            sequence, due_changed = 0, False
            for job in group:
                job.error = job.error or Unavailable(f"store: the write could not be committed: {error}")
        self.groups += 1
        loop = group[0].future.get_loop()
        try:
            loop.call_soon_threadsafe(self._resolve, group, Committed(sequence, due_changed))
        except RuntimeError:
            # The loop has been closed: nobody waits any more.
            return

    def _resolve(self, group: list[Job], committed: Committed) -> None:
        self._committed(committed)
        for job in group:
            job.resolve()

    def _attempt(self, connection: Connection, job: Job) -> Transaction | None:
        transaction = Transaction(connection, self._clock)
        savepoint = connection.begin_nested()
        try:
            job.result = job.context.run(job.work, transaction)
        except BaseException as error:
            job.error = error
            savepoint.rollback()
            return None
        savepoint.commit()
        return transaction
