"""Distribution sessions in the store: their transitions, their transport session identifiers, what the MBSF is told."""

from __future__ import annotations

from typing import Final

from nf.common.errors import CastcoreError
from nf.common.resources import copy_of
from nf.common.store import Reader, Transaction
from nf.common.v1 import mbs_distribution_pb2 as shared
from nf.common.v1.types_pb2 import ProblemDetails
from nf.mbstf.errors import DistSessionNotFound, NoTransportSessionLeft
from nf.mbstf.machine import DIST_SESSION, Effect, Event, State
from nf.mbstf.v1.dist_session_pb2 import DistSession, DistSessionEventReport, PushedObject

SOURCE: Final = "mbstf"
_LAST_TSI: Final = "last flute_tsi"
_TSI: Final = "flute_tsi"
# 0 is left to whoever configures a session by hand.
_TSIS: Final = range(1, 1 << 16)

_NOTIFICATIONS: Final = {
    Effect.NOTIFY_DATA_INGEST_SESSION_ESTABLISHED: "DATA_INGEST_SESSION_ESTABLISHED",
    Effect.NOTIFY_DATA_INGEST_SESSION_TERMINATED: "DATA_INGEST_SESSION_TERMINATED",
    Effect.NOTIFY_DATA_INGEST_FAILURE: "DATA_INGEST_FAILURE",
    Effect.NOTIFY_SESSION_ACTIVATED: "SESSION_ACTIVATED",
    Effect.NOTIFY_SESSION_DEACTIVATED: "SESSION_DEACTIVATED",
    Effect.NOTIFY_SERVICE_MANAGEMENT_FAILURE: "SERVICE_MANAGEMENT_FAILURE",
}
EVENT_TYPES: Final = tuple(_NOTIFICATIONS.values())


def state_of(session: DistSession) -> State:
    """Where a session is in its life cycle."""
    return State(session.dist_session_state)


def required(reader: Reader, dist_session_id: str) -> DistSession:
    """The session. Raises DistSessionNotFound."""
    session = reader.get(DistSession, dist_session_id)
    if session is None:
        raise DistSessionNotFound(
            f"distribution session {dist_session_id!r} does not exist", metadata={"dist_session_id": dist_session_id}
        )
    return session


def insert_session(transaction: Transaction, requested: DistSession) -> DistSession:
    """A new session, INACTIVE, with a transport session identifier of its own where it sends objects."""
    session = copy_of(requested)
    session.dist_session_state = DIST_SESSION.step(State.ABSENT, Event.CREATED).state.value
    if session.HasField("obj_distribution_data"):
        session.flute_tsi = _free_tsi(transaction)
    session.create_time.FromDatetime(transaction.clock.now())
    lookups = {_TSI: str(session.flute_tsi) if session.flute_tsi else ""}
    return transaction.insert(session, session.dist_session_id, lookups=lookups)


def _free_tsi(transaction: Transaction) -> int:
    last = transaction.cursor(_LAST_TSI)
    for ahead in range(len(_TSIS)):
        tsi = _TSIS[(last + ahead) % len(_TSIS)]
        if not transaction.find(DistSession, _TSI, str(tsi)):
            transaction.set_cursor(_LAST_TSI, tsi)
            return tsi
    raise NoTransportSessionLeft(f"all {len(_TSIS)} FLUTE transport session identifiers are in use")


def step(
    transaction: Transaction, dist_session_id: str, event: Event, problem: CastcoreError | None = None
) -> DistSession:
    """Does in the store what ``event`` brings about, and tells it; returns the session as it is then.

    ``problem`` is why, where something has failed. Raises InvalidTransition, and DistSessionNotFound.
    """
    session = required(transaction, dist_session_id)
    transition = DIST_SESSION.step(state_of(session), event)
    changed = copy_of(session)
    changed.dist_session_state = transition.state.value
    if event is Event.INGEST_DRIED_UP:
        changed.ingest_failed = True
    elif event not in (Event.RESTARTED, Event.NOT_INGESTED, Event.ESTABLISH, Event.SENDING_FAILED):
        # Whatever else happens begins a new chapter, recovery before all.
        changed.ingest_failed = False
    if Effect.FORGET in transition.effects:
        transaction.delete(DistSession, dist_session_id)
    elif changed != session:
        changed = transaction.update(changed, dist_session_id)
    if Effect.END_INGEST in transition.effects:
        forget_pushed(transaction, dist_session_id)
    for effect in transition.effects:
        if effect in _NOTIFICATIONS:
            _tell(transaction, session, changed, _NOTIFICATIONS[effect], problem)
    return changed


def _tell(
    transaction: Transaction, before: DistSession, after: DistSession, event_type: str, problem: CastcoreError | None
) -> None:
    # A session that is deleted is told of as it was.
    state = after.dist_session_state or before.dist_session_state
    report = DistSessionEventReport(
        event_type=event_type, dist_session_id=before.dist_session_id, dist_session_state=state
    )
    report.time_stamp.FromDatetime(transaction.clock.now())
    if problem is not None:
        report.problem.CopyFrom(
            ProblemDetails(
                title=problem.reason.replace("_", " ").capitalize(), detail=problem.message, cause=problem.cause
            )
        )
    path = "Nmb8" if event_type.startswith("DATA_INGEST") else ""
    transaction.emit(event_type, f"dist-sessions/{before.dist_session_id}", report, source=SOURCE, path=path)


def state_name(state: State) -> str:
    """A state as the specification writes it."""
    return shared.DistSessionState.Name(state.value).removeprefix("DIST_SESSION_STATE_")


def pushed_name(dist_session_id: str, path: str) -> str:
    """Under which name the store keeps an object that was sent to the MBSTF."""
    return f"{dist_session_id}/{path}"


def forget_pushed(transaction: Transaction, dist_session_id: str) -> None:
    """Drops the objects that were sent for a session."""
    for each in transaction.all(PushedObject, parent=dist_session_id):
        transaction.delete(PushedObject, pushed_name(dist_session_id, each.path))
