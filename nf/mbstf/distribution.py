"""The distribution sessions of an MBSTF: what the MBSF asks for is done, kept, told, and taken up after a restart."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask

from nf.common import call
from nf.common.clock import Clock
from nf.common.errors import CastcoreError
from nf.common.resources import check_etag
from nf.common.store import Page, Store, Transaction
from nf.common.telemetry import logger
from nf.common.v1 import mbs_distribution_pb2 as shared
from nf.mbstf.changes import STATE_ALONE, changed_session, check_repeat
from nf.mbstf.config import MbstfSection
from nf.mbstf.delivery import Delivery, Watch
from nf.mbstf.errors import (
    EstablishingEnded,
    IngestFailed,
    IngestTimedOut,
    NotIngesting,
    TunnelUnknown,
)
from nf.mbstf.machine import Event, State, way
from nf.mbstf.requests import requested_session
from nf.mbstf.sessions import SOURCE, insert_session, required, state_of, step
from nf.mbstf.timers import Timers
from nf.mbstf.v1.dist_session_pb2 import DistSession

# What is left of a caller's deadline for the answer.
_FOR_THE_ANSWER_S: Final = 0.25
# Of so many sessions, many may change at once.
_MANY: Final = 32

_log = logger(SOURCE)

MakeDelivery = Callable[[DistSession, Watch], Delivery]


class DistSessions:
    """``start`` carries on where an earlier run has stopped; ``stop`` ends what runs, and leaves it to the next one.

    ``make`` makes what runs of a session, ``reserve`` gives a session what is its own as long as it exists, ``shown``
    adds what answers show beyond what is kept, ``check_fec`` refuses what cannot be sent.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        config: MbstfSection,
        timers: Timers,
        *,
        make: MakeDelivery,
        check_fec: Callable[[shared.FecConfig], None],
        reserve: Callable[[DistSession], DistSession],
        give_back: Callable[[str], None],
        shown: Callable[[DistSession], DistSession],
    ) -> None:
        self._store = store
        self._clock = clock
        self._config = config
        self._timers = timers
        self._make = make
        self._check_fec = check_fec
        self._reserve = reserve
        self._give_back = give_back
        self._shown = shown
        self._deliveries: dict[str, Delivery] = {}
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Takes up every session where it was: ingests again, sends again."""

        def restart(transaction: Transaction) -> list[DistSession]:
            return [step(transaction, each.dist_session_id, Event.RESTARTED) for each in transaction.all(DistSession)]

        for session in await self._store.write(restart, apart=True):
            self._reserve(session)
            if state_of(session) not in (State.ESTABLISHED, State.ACTIVE):
                continue
            delivery = self._begin(session)
            try:
                await delivery.load()
                delivery.begin_ingest(resumed=True)
            except CastcoreError as error:
                _log.error("dist_session.not_resumed", dist_session_id=session.dist_session_id, error=str(error))
                self._later(session.dist_session_id, Event.INGEST_DRIED_UP, error)
            if state_of(session) is State.ACTIVE:
                try:
                    self._send(delivery, session)
                except CastcoreError as error:
                    self._later(session.dist_session_id, Event.SENDING_FAILED, error)

    async def stop(self) -> None:
        """Ends ingest and sending; the sessions stay what they are."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for delivery in self._deliveries.values():
            delivery.watch.end()
            delivery.end_sending()
            delivery.fail_first(NotIngesting("the MBSTF is stopping"))
        await asyncio.gather(*(each.end_ingest() for each in self._deliveries.values()), return_exceptions=True)
        self._deliveries.clear()

    def delivery(self, dist_session_id: str) -> Delivery | None:
        """What runs of a session; None while nothing does."""
        return self._deliveries.get(dist_session_id)

    async def create(self, request: DistSession) -> DistSession:
        """A new session in the state that is asked for; a repeat with the same content gets the same answer.

        Raises InvalidArgument, DistSessionExists, and what ``update`` raises; there is no session then.
        """
        requested = requested_session(request, self._check_fec)
        wanted, dist_session_id = state_of(requested), requested.dist_session_id
        events = way(State.INACTIVE, wanted)
        self._check_tunnel(requested, events)
        async with self._lock(dist_session_id):
            known = await self._store.read(lambda reader: reader.get(DistSession, dist_session_id))
            if known is not None:
                return self._shown(check_repeat(known, requested))
            reserved = self._reserve(requested)
            try:
                session = await self._store.write(lambda tx: insert_session(tx, reserved))
                session = await self._walk(session, events)
            except BaseException:
                self._give_back(dist_session_id)
                await self._store.write(lambda tx: tx.delete(DistSession, dist_session_id))
                raise
        return self._shown(session)

    async def get(self, dist_session_id: str) -> DistSession:
        """The session, with what it has done. Raises DistSessionNotFound."""
        session = self._shown(await self._store.read(lambda reader: required(reader, dist_session_id)))
        delivery = self._deliveries.get(dist_session_id)
        if delivery is not None:
            session.progress.CopyFrom(delivery.progress())
        return session

    async def page(self, page_size: int, page_token: str) -> Page[DistSession]:
        """One page of sessions in the order of their creation."""
        found = await self._store.read(
            lambda reader: reader.list(DistSession, page_size=page_size, page_token=page_token)
        )
        return Page([self._shown(each) for each in found.items], found.next_page_token)

    async def update(self, changes: DistSession, mask: FieldMask) -> DistSession:
        """Changes a session, all or nothing; a change of its state walks through those in between.

        Raises DistSessionNotFound, EtagMismatch, InvalidArgument, StateNotReachable, TunnelUnknown, and where nothing
        was ingested IngestFailed or IngestTimedOut.
        """
        dist_session_id = changes.dist_session_id
        mask = mask if mask.paths else FieldMask(paths=STATE_ALONE)
        if "dist_session_state" in mask.paths and changes.dist_session_state == State.INACTIVE.value:
            self._interrupt(dist_session_id)
        async with self._lock(dist_session_id):
            known = await self._store.read(lambda reader: required(reader, dist_session_id))
            check_etag(known.etag, changes.etag, f"distribution session {dist_session_id!r}")
            state = state_of(known)
            wanted = changed_session(known, changes, mask, self._check_fec, self._reserve)
            events = way(state, state_of(wanted))
            self._check_tunnel(wanted, events)
            wanted.dist_session_state = known.dist_session_state
            if events and events[0] is Event.ESTABLISH:
                # Nothing of it is kept unless the session comes to stand.
                session = await self._walk(known, events, wanted)
            else:
                session = await self._keep(known, wanted)
                session = await self._walk(session, events)
        return self._shown(session)

    async def delete(self, dist_session_id: str) -> None:
        """Ends and removes a session; one that is not there was removed before."""
        self._interrupt(dist_session_id)
        async with self._lock(dist_session_id):
            known = await self._store.read(lambda reader: reader.get(DistSession, dist_session_id))
            if known is None:
                return
            await self._end(dist_session_id)
            await self._store.write(lambda tx: step(tx, dist_session_id, Event.DELETED))
            self._give_back(dist_session_id)

    def _lock(self, dist_session_id: str) -> asyncio.Lock:
        return self._locks.setdefault(dist_session_id, asyncio.Lock())

    def _interrupt(self, dist_session_id: str) -> None:
        """Whoever waits for the session to be established waits no longer."""
        delivery = self._deliveries.get(dist_session_id)
        if delivery is not None:
            delivery.fail_first(EstablishingEnded(f"distribution session {dist_session_id!r} is wanted INACTIVE"))

    def _check_tunnel(self, session: DistSession, events: tuple[Event, ...]) -> None:
        if Event.ACTIVATE in events and not session.HasField("mb_upf_tun_addr"):
            raise TunnelUnknown(
                f"distribution session {session.dist_session_id!r}: expected mb_upf_tun_addr before it is ACTIVE"
            )

    async def _keep(self, known: DistSession, wanted: DistSession) -> DistSession:
        if wanted == known:
            return known
        kept = await self._store.write(lambda tx: tx.update(wanted, wanted.dist_session_id))
        delivery = self._deliveries.get(kept.dist_session_id)
        if delivery is not None:
            delivery.change(kept)
            if state_of(kept) is State.ACTIVE:
                delivery.watch.begin(self._ingest_timeout(kept), failed=delivery.watch.failed)
        return kept

    async def _walk(
        self, session: DistSession, events: tuple[Event, ...], wanted: DistSession | None = None
    ) -> DistSession:
        """Takes the session through ``events``.

        Established on the way, it is as it was before where a later one fails.
        """
        before = session
        for event in events:
            if event is Event.ESTABLISH:
                session = await self._establish(session, wanted)
            elif event is Event.ACTIVATE:
                try:
                    session = await self._activate(session)
                except BaseException:
                    if Event.ESTABLISH in events:
                        await self._end(before.dist_session_id)
                        await self._store.write(lambda tx: _restore(tx, before))
                    raise
            elif event is Event.DEACTIVATE:
                delivery = self._deliveries.get(session.dist_session_id)
                if delivery is not None:
                    delivery.watch.end()
                    delivery.end_sending()
                session = await self._step(session, event)
            else:
                await self._end(session.dist_session_id)
                session = await self._step(session, event)
        return session

    async def _step(self, session: DistSession, event: Event) -> DistSession:
        # Where very many do at once, they are stored by the dozen.
        return await self._store.write(
            lambda tx: step(tx, session.dist_session_id, event), patient=len(self._deliveries) >= _MANY
        )

    async def _establish(self, known: DistSession, wanted: DistSession | None) -> DistSession:
        session = known if wanted is None else wanted
        dist_session_id = session.dist_session_id
        delivery = self._begin(session)
        try:
            await delivery.load()
            delivery.begin_ingest(resumed=False)
            await self._first(delivery)

            def established(transaction: Transaction) -> DistSession:
                if session is not known and session != known:
                    transaction.update(session, dist_session_id)
                return step(transaction, dist_session_id, Event.INGESTED)

            return await self._store.write(established, patient=len(self._deliveries) >= _MANY)
        except BaseException as error:
            await self._end(dist_session_id)
            if isinstance(error, IngestFailed | IngestTimedOut):
                problem: CastcoreError = error
                await self._store.write(lambda tx: step(tx, dist_session_id, Event.NOT_INGESTED, problem))
            raise

    async def _first(self, delivery: Delivery) -> None:
        session = delivery.session
        timeout_s = session.establish_timeout_ms / 1000 or self._config.establish_timeout_s
        left_s = call.remaining_s()
        if left_s is not None:
            timeout_s = min(timeout_s, max(left_s - _FOR_THE_ANSWER_S, left_s / 2))

        def give_up() -> None:
            delivery.fail_first(
                IngestTimedOut(
                    f"distribution session {session.dist_session_id!r}: nothing was ingested within {timeout_s:g} s"
                    + (f": {delivery.watch.last_problem}" if delivery.watch.last_problem else "")
                )
            )

        timer = self._timers.at(self._clock.now() + timedelta(seconds=timeout_s), give_up)
        try:
            await delivery.wait_first()
        finally:
            timer.cancel()

    async def _activate(self, session: DistSession) -> DistSession:
        dist_session_id = session.dist_session_id
        delivery = self._deliveries.get(dist_session_id)
        if delivery is None:
            # It could not be taken up after a restart.
            delivery = self._begin(session)
            delivery.begin_ingest(resumed=True)
        delivery.change(session)
        try:
            self._send(delivery, session)
            return await self._step(session, Event.ACTIVATE)
        except BaseException:
            delivery.watch.end()
            delivery.end_sending()
            raise

    def _send(self, delivery: Delivery, session: DistSession) -> None:
        delivery.begin_sending()
        delivery.watch.begin(self._ingest_timeout(session), failed=session.ingest_failed)

    def _ingest_timeout(self, session: DistSession) -> timedelta | None:
        timeout_s = self._config.ingest_timeout_s
        if session.HasField("ingest_timeout_ms"):
            timeout_s = session.ingest_timeout_ms / 1000
        return timedelta(seconds=timeout_s) if timeout_s else None

    def _begin(self, session: DistSession) -> Delivery:
        dist_session_id = session.dist_session_id
        watch = Watch(
            self._timers,
            lambda error: self._later(dist_session_id, Event.INGEST_DRIED_UP, error),
            lambda: self._later(dist_session_id, Event.INGEST_RECOVERED, None),
        )
        self._deliveries[dist_session_id] = delivery = self._make(session, watch)
        delivery.on_sending_failed = lambda error: self._later(dist_session_id, Event.SENDING_FAILED, error)
        return delivery

    async def _end(self, dist_session_id: str) -> None:
        delivery = self._deliveries.pop(dist_session_id, None)
        if delivery is not None:
            delivery.watch.end()
            delivery.end_sending()
            await delivery.end_ingest()

    def _later(self, dist_session_id: str, event: Event, problem: CastcoreError | None) -> None:
        task = asyncio.create_task(self._note(dist_session_id, event, problem), name=f"mbstf-{dist_session_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _note(self, dist_session_id: str, event: Event, problem: CastcoreError | None) -> None:
        """Tells what has become of ingest or sending, unless the session is no longer ACTIVE or that is known."""

        def noted(transaction: Transaction) -> None:
            session = transaction.get(DistSession, dist_session_id)
            if session is None or state_of(session) is not State.ACTIVE:
                return
            if event is Event.SENDING_FAILED or session.ingest_failed != (event is Event.INGEST_DRIED_UP):
                step(transaction, dist_session_id, event, problem)

        call.set_correlation_id("")
        async with self._lock(dist_session_id):
            try:
                await self._store.write(noted)
            except CastcoreError as error:
                _log.error("dist_session.not_told", dist_session_id=dist_session_id, told=event.name, error=str(error))


def _restore(transaction: Transaction, before: DistSession) -> None:
    """A session that was established, and could not be sent, is what it was before."""
    step(transaction, before.dist_session_id, Event.RELEASE)
    transaction.update(before, before.dist_session_id)
