"""The life of a distribution session at the MBSTF (TS 26.502 §4.6.1, TS 29.581 §5.2) as a table.

ABSENT stands for a session that the MBSTF does not keep: not yet, or no longer.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from nf.common.machine import Machine, Transition
from nf.common.v1 import mbs_distribution_pb2 as shared
from nf.mbstf.errors import StateNotReachable


class State(Enum):
    """DistSessionState, and ABSENT for its UNSPECIFIED."""

    ABSENT = shared.DIST_SESSION_STATE_UNSPECIFIED
    INACTIVE = shared.DIST_SESSION_STATE_INACTIVE
    ESTABLISHED = shared.DIST_SESSION_STATE_ESTABLISHED
    ACTIVE = shared.DIST_SESSION_STATE_ACTIVE
    DEACTIVATING = shared.DIST_SESSION_STATE_DEACTIVATING


class Event(Enum):
    """What happens to a session."""

    # The MBSF provisions it (step 1).
    CREATED = auto()
    # The MBSF wants it established (step 2b).
    ESTABLISH = auto()
    # A first object or packet has come in.
    INGESTED = auto()
    # None has come in, in time or at all.
    NOT_INGESTED = auto()
    # The MBSF wants it sent (step 3).
    ACTIVATE = auto()
    # The MBSF wants sending to end (step 4b).
    DEACTIVATE = auto()
    # The MBSF wants ingest to end (step 4c).
    RELEASE = auto()
    # Ingest was expected and has not come for too long.
    INGEST_DRIED_UP = auto()
    # It has come again.
    INGEST_RECOVERED = auto()
    # What makes its packets has failed: nothing more can leave (step 4).
    SENDING_FAILED = auto()
    # The MBSF deletes it.
    DELETED = auto()
    # The MBSTF has started and finds the session in its store.
    RESTARTED = auto()


class Effect(Enum):
    """What has to be done because of a transition."""

    BEGIN_INGEST = auto()
    END_INGEST = auto()
    BEGIN_SENDING = auto()
    END_SENDING = auto()
    # Drop the row.
    FORGET = auto()
    NOTIFY_DATA_INGEST_SESSION_ESTABLISHED = auto()
    NOTIFY_DATA_INGEST_SESSION_TERMINATED = auto()
    NOTIFY_DATA_INGEST_FAILURE = auto()
    NOTIFY_SESSION_ACTIVATED = auto()
    NOTIFY_SESSION_DEACTIVATED = auto()
    NOTIFY_SERVICE_MANAGEMENT_FAILURE = auto()


_INGEST_ENDS: Final = (Effect.END_INGEST, Effect.NOTIFY_DATA_INGEST_SESSION_TERMINATED)
_SENDING_ENDS: Final = (Effect.END_SENDING, Effect.NOTIFY_SESSION_DEACTIVATED)

DIST_SESSION: Machine[State, Event] = Machine(
    "distribution session",
    {
        (State.ABSENT, Event.CREATED): Transition(State.INACTIVE),
        (State.ABSENT, Event.DELETED): Transition(State.ABSENT),
        (State.INACTIVE, Event.ESTABLISH): Transition(State.INACTIVE, (Effect.BEGIN_INGEST,)),
        (State.INACTIVE, Event.INGESTED): Transition(
            State.ESTABLISHED, (Effect.NOTIFY_DATA_INGEST_SESSION_ESTABLISHED,)
        ),
        (State.INACTIVE, Event.NOT_INGESTED): Transition(
            State.INACTIVE, (Effect.END_INGEST, Effect.NOTIFY_SERVICE_MANAGEMENT_FAILURE)
        ),
        (State.INACTIVE, Event.DELETED): Transition(State.ABSENT, (Effect.FORGET,)),
        # Whoever was waiting for it to be established is told by the broken connection, and asks again.
        (State.INACTIVE, Event.RESTARTED): Transition(State.INACTIVE),
        (State.ESTABLISHED, Event.ACTIVATE): Transition(
            State.ACTIVE, (Effect.BEGIN_SENDING, Effect.NOTIFY_SESSION_ACTIVATED)
        ),
        (State.ESTABLISHED, Event.RELEASE): Transition(State.INACTIVE, _INGEST_ENDS),
        (State.ESTABLISHED, Event.DELETED): Transition(State.ABSENT, (*_INGEST_ENDS, Effect.FORGET)),
        (State.ESTABLISHED, Event.RESTARTED): Transition(State.ESTABLISHED, (Effect.BEGIN_INGEST,)),
        (State.ACTIVE, Event.DEACTIVATE): Transition(State.DEACTIVATING, _SENDING_ENDS),
        (State.ACTIVE, Event.INGEST_DRIED_UP): Transition(State.ACTIVE, (Effect.NOTIFY_DATA_INGEST_FAILURE,)),
        (State.ACTIVE, Event.INGEST_RECOVERED): Transition(
            State.ACTIVE, (Effect.NOTIFY_DATA_INGEST_SESSION_ESTABLISHED,)
        ),
        # The MBSF judges whether the session can continue.
        (State.ACTIVE, Event.SENDING_FAILED): Transition(State.ACTIVE, (Effect.NOTIFY_SERVICE_MANAGEMENT_FAILURE,)),
        (State.ACTIVE, Event.DELETED): Transition(State.ABSENT, (*_SENDING_ENDS, *_INGEST_ENDS, Effect.FORGET)),
        (State.ACTIVE, Event.RESTARTED): Transition(State.ACTIVE, (Effect.BEGIN_INGEST, Effect.BEGIN_SENDING)),
        (State.DEACTIVATING, Event.RELEASE): Transition(State.INACTIVE, _INGEST_ENDS),
        (State.DEACTIVATING, Event.DELETED): Transition(State.ABSENT, (*_INGEST_ENDS, Effect.FORGET)),
        # Nothing is sent any more, so nothing need come in.
        (State.DEACTIVATING, Event.RESTARTED): Transition(State.DEACTIVATING),
    },
    initial=State.ABSENT,
)

# The MBSF asks for a state; these events lead to it.
_WAYS: Final[dict[tuple[State, State], tuple[Event, ...]]] = {
    (State.INACTIVE, State.ESTABLISHED): (Event.ESTABLISH,),
    (State.INACTIVE, State.ACTIVE): (Event.ESTABLISH, Event.ACTIVATE),
    (State.ESTABLISHED, State.ACTIVE): (Event.ACTIVATE,),
    (State.ESTABLISHED, State.INACTIVE): (Event.RELEASE,),
    (State.ACTIVE, State.DEACTIVATING): (Event.DEACTIVATE,),
    (State.ACTIVE, State.INACTIVE): (Event.DEACTIVATE, Event.RELEASE),
    (State.DEACTIVATING, State.INACTIVE): (Event.RELEASE,),
}


def way(found: State, wanted: State) -> tuple[Event, ...]:
    """The events that lead from one state to another; none where it is the same. Raises StateNotReachable."""
    if found is wanted:
        return ()
    events = _WAYS.get((found, wanted))
    if events is None:
        allowed = [state.name for source, state in _WAYS if source is found]
        raise StateNotReachable(
            f"dist_session_state: {wanted.name} is not reached from {found.name} (possible: {', '.join(allowed)})",
            metadata={"found": found.name, "wanted": wanted.name, "allowed": ",".join(allowed)},
        )
    return events
