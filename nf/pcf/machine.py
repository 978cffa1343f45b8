"""The life of an application session at the PCF (TS 29.514 §4.2.2 to §4.2.4, §4.2.5) as a table.

ABSENT stands for a session that the PCF does not keep: not yet, or no longer.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from nf.common.machine import Machine, Transition
from nf.pcf.v1.policy_authorization_pb2 import AppSession


class State(Enum):
    """AppSession.State, and ABSENT for STATE_UNSPECIFIED."""

    ABSENT = AppSession.STATE_UNSPECIFIED
    AUTHORIZING = AppSession.STATE_AUTHORIZING
    ACTIVE = AppSession.STATE_ACTIVE
    TERMINATED = AppSession.STATE_TERMINATED
    RELEASING = AppSession.STATE_RELEASING
    INTERRUPTED = AppSession.STATE_INTERRUPTED


class Event(Enum):
    """What happens to a session."""

    # The AF asks for it, and the decision grants it.
    AUTHORIZED = auto()
    # The SMF enforces the decision that was sent for this session.
    INSTALLED = auto()
    # The SMF has refused it or has not answered.
    REFUSED = auto()
    # The operator's policies no longer grant it, or the network no longer enforces it.
    WITHDRAWN = auto()
    # The user plane no longer, or again, enforces what the SMF told it.
    USER_PLANE_LOST = auto()
    USER_PLANE_RESTORED = auto()
    # The policy association has gone.
    PDU_SESSION_GONE = auto()
    # The AF ends it.
    DELETED = auto()
    # The PCF has started and finds the session in its store.
    RESTARTED = auto()


class Effect(Enum):
    """What has to be done because of a transition."""

    # Send the association's decision to the SMF.
    INSTALL = auto()
    # Drop the row.
    FORGET = auto()
    NOTIFY_SUCCESSFUL_RESOURCES_ALLOCATION = auto()
    NOTIFY_FAILED_RESOURCES_ALLOCATION = auto()
    NOTIFY_PDU_SESSION_STATUS = auto()


_LOSE: Final = Transition(State.TERMINATED, (Effect.NOTIFY_FAILED_RESOURCES_ALLOCATION,))
_GO: Final = Transition(State.TERMINATED, (Effect.NOTIFY_PDU_SESSION_STATUS,))
_RELEASE: Final = Transition(State.RELEASING, (Effect.INSTALL,))

APP_SESSION: Machine[State, Event] = Machine(
    "app session",
    {
        (State.ABSENT, Event.AUTHORIZED): Transition(State.AUTHORIZING, (Effect.INSTALL,)),
        (State.ABSENT, Event.DELETED): Transition(State.ABSENT),
        (State.AUTHORIZING, Event.INSTALLED): Transition(
            State.ACTIVE, (Effect.NOTIFY_SUCCESSFUL_RESOURCES_ALLOCATION,)
        ),
        # Never acknowledged: nobody knows of it.
        (State.AUTHORIZING, Event.REFUSED): Transition(State.ABSENT, (Effect.FORGET,)),
        (State.AUTHORIZING, Event.USER_PLANE_LOST): Transition(State.AUTHORIZING),
        (State.AUTHORIZING, Event.USER_PLANE_RESTORED): Transition(State.AUTHORIZING),
        (State.AUTHORIZING, Event.PDU_SESSION_GONE): Transition(State.ABSENT, (Effect.FORGET,)),
        (State.AUTHORIZING, Event.RESTARTED): Transition(State.ABSENT, (Effect.FORGET, Effect.INSTALL)),
        # A change of what is asked for keeps the session ACTIVE: with the content before it until it is installed.
        (State.ACTIVE, Event.INSTALLED): Transition(State.ACTIVE, (Effect.NOTIFY_SUCCESSFUL_RESOURCES_ALLOCATION,)),
        (State.ACTIVE, Event.REFUSED): Transition(State.ACTIVE),
        (State.ACTIVE, Event.WITHDRAWN): _LOSE,
        (State.ACTIVE, Event.USER_PLANE_LOST): Transition(
            State.INTERRUPTED, (Effect.NOTIFY_FAILED_RESOURCES_ALLOCATION,)
        ),
        (State.ACTIVE, Event.USER_PLANE_RESTORED): Transition(State.ACTIVE),
        (State.ACTIVE, Event.PDU_SESSION_GONE): _GO,
        (State.ACTIVE, Event.DELETED): _RELEASE,
        (State.ACTIVE, Event.RESTARTED): Transition(State.ACTIVE),
        # What was sent before the loss may be answered after it; the news that ends it comes by itself.
        (State.INTERRUPTED, Event.INSTALLED): Transition(State.INTERRUPTED),
        (State.INTERRUPTED, Event.REFUSED): Transition(State.INTERRUPTED),
        (State.INTERRUPTED, Event.WITHDRAWN): _LOSE,
        (State.INTERRUPTED, Event.USER_PLANE_LOST): Transition(State.INTERRUPTED),
        (State.INTERRUPTED, Event.USER_PLANE_RESTORED): Transition(
            State.ACTIVE, (Effect.NOTIFY_SUCCESSFUL_RESOURCES_ALLOCATION,)
        ),
        (State.INTERRUPTED, Event.PDU_SESSION_GONE): _GO,
        (State.INTERRUPTED, Event.DELETED): _RELEASE,
        (State.INTERRUPTED, Event.RESTARTED): Transition(State.INTERRUPTED),
        (State.TERMINATED, Event.USER_PLANE_LOST): Transition(State.TERMINATED),
        (State.TERMINATED, Event.USER_PLANE_RESTORED): Transition(State.TERMINATED),
        (State.TERMINATED, Event.DELETED): Transition(State.ABSENT, (Effect.FORGET,)),
        (State.TERMINATED, Event.RESTARTED): Transition(State.TERMINATED),
        (State.RELEASING, Event.DELETED): _RELEASE,
        (State.RELEASING, Event.USER_PLANE_LOST): Transition(State.RELEASING),
        (State.RELEASING, Event.USER_PLANE_RESTORED): Transition(State.RELEASING),
        (State.RELEASING, Event.INSTALLED): Transition(State.ABSENT, (Effect.FORGET,)),
        (State.RELEASING, Event.REFUSED): Transition(State.RELEASING),
        (State.RELEASING, Event.PDU_SESSION_GONE): Transition(State.ABSENT, (Effect.FORGET,)),
        (State.RELEASING, Event.RESTARTED): Transition(State.RELEASING, (Effect.INSTALL,)),
    },
    initial=State.ABSENT,
)

# In these states a session is granted, and its rules are part of the decision.
GRANTED: Final = frozenset({State.ACTIVE, State.INTERRUPTED})
