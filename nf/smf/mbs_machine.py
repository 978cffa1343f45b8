"""The life of an MBS session (TS 23.247 §7.1.1, TS 29.532 §5.3) as a table.

ABSENT stands for a session that the SMF does not keep: not yet, or no longer.
"""

from __future__ import annotations

from enum import Enum, auto

from nf.common.machine import Machine, Transition
from nf.smf.v1.mbs_session_pb2 import MbsSession


class State(Enum):
    """MbsSession.State, and ABSENT for STATE_UNSPECIFIED."""

    ABSENT = MbsSession.STATE_UNSPECIFIED
    CREATING = MbsSession.STATE_CREATING
    ACTIVE = MbsSession.STATE_ACTIVE
    UPDATING = MbsSession.STATE_UPDATING
    RELEASING = MbsSession.STATE_RELEASING


class Event(Enum):
    """What happens to a session."""

    # The MBSF asks for it.
    REQUESTED = auto()
    # MBS policy and N4mb session stand.
    ESTABLISHED = auto()
    # The PCF or the UPF has refused or has not answered.
    REFUSED = auto()
    # The MBSF asks for a change that concerns the PCF or the UPF.
    CHANGE_REQUESTED = auto()
    # The change is in force.
    CHANGED = auto()
    # What was in force before the change is so again.
    RESTORED = auto()
    # The MBSF ends it.
    RELEASE_REQUESTED = auto()
    # Its TMGI has expired.
    TMGI_EXPIRED = auto()
    # N4mb session and MBS policy have gone.
    RELEASED = auto()
    # The SMF has started and finds the session in its store.
    RESTARTED = auto()


class Effect(Enum):
    """What has to be done because of a transition."""

    # Open the MBS policy, then the N4mb session.
    ESTABLISH = auto()
    # Change the MBS policy, then the N4mb session.
    CHANGE = auto()
    # Make both what the store says again.
    RESTORE = auto()
    # Delete the N4mb session, then the MBS policy.
    RELEASE = auto()
    # Drop the row, and the TMGI that was allocated for it.
    FORGET = auto()
    # Of a broadcast session: BROADCAST_DELIVERY_STATUS.
    NOTIFY_DELIVERY_STARTED = auto()
    # Likewise, if it was told that it has started.
    NOTIFY_DELIVERY_TERMINATED = auto()
    # MBS_REL_TMGI_EXPIRY.
    NOTIFY_TMGI_EXPIRY = auto()


MBS_SESSION: Machine[State, Event] = Machine(
    "MBS session",
    {
        (State.ABSENT, Event.REQUESTED): Transition(State.CREATING, (Effect.ESTABLISH,)),
        (State.ABSENT, Event.RELEASE_REQUESTED): Transition(State.ABSENT),
        (State.CREATING, Event.ESTABLISHED): Transition(State.ACTIVE, (Effect.NOTIFY_DELIVERY_STARTED,)),
        # Never acknowledged: what may stand of it at the PCF and the UPF is taken down.
        (State.CREATING, Event.REFUSED): Transition(State.RELEASING, (Effect.RELEASE,)),
        (State.CREATING, Event.TMGI_EXPIRED): Transition(State.CREATING),
        (State.CREATING, Event.RESTARTED): Transition(State.RELEASING, (Effect.RELEASE,)),
        (State.ACTIVE, Event.CHANGE_REQUESTED): Transition(State.UPDATING, (Effect.CHANGE,)),
        (State.ACTIVE, Event.RELEASE_REQUESTED): Transition(State.RELEASING, (Effect.RELEASE,)),
        (State.ACTIVE, Event.TMGI_EXPIRED): Transition(State.RELEASING, (Effect.RELEASE, Effect.NOTIFY_TMGI_EXPIRY)),
        (State.ACTIVE, Event.RESTARTED): Transition(State.ACTIVE),
        # The store keeps what was in force until the change is.
        (State.UPDATING, Event.CHANGED): Transition(State.ACTIVE),
        (State.UPDATING, Event.REFUSED): Transition(State.UPDATING, (Effect.RESTORE,)),
        (State.UPDATING, Event.RESTORED): Transition(State.ACTIVE),
        (State.UPDATING, Event.RELEASE_REQUESTED): Transition(State.RELEASING, (Effect.RELEASE,)),
        (State.UPDATING, Event.TMGI_EXPIRED): Transition(State.RELEASING, (Effect.RELEASE, Effect.NOTIFY_TMGI_EXPIRY)),
        (State.UPDATING, Event.RESTARTED): Transition(State.UPDATING, (Effect.RESTORE,)),
        (State.RELEASING, Event.RELEASE_REQUESTED): Transition(State.RELEASING, (Effect.RELEASE,)),
        (State.RELEASING, Event.TMGI_EXPIRED): Transition(State.RELEASING),
        (State.RELEASING, Event.RELEASED): Transition(State.ABSENT, (Effect.FORGET, Effect.NOTIFY_DELIVERY_TERMINATED)),
        (State.RELEASING, Event.RESTARTED): Transition(State.RELEASING, (Effect.RELEASE,)),
    },
    initial=State.ABSENT,
)

# In these states the UPF has the session as the store says it, or is to have it so again.
STANDING = frozenset({State.ACTIVE, State.UPDATING})
