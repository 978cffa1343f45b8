"""The life of a PDU session (TS 23.502 §4.3.2, §4.3.4) as a table.

ABSENT stands for a session that the SMF does not keep: not yet, or no longer.
"""

from __future__ import annotations

from enum import Enum, auto

from nf.common.machine import Machine, Transition
from nf.smf.v1.pdu_session_pb2 import PduSession


class State(Enum):
    """PduSession.State, and ABSENT for STATE_UNSPECIFIED."""

    ABSENT = PduSession.STATE_UNSPECIFIED
    ACTIVATING = PduSession.STATE_ACTIVATING
    ACTIVE = PduSession.STATE_ACTIVE
    RELEASING = PduSession.STATE_RELEASING


class Event(Enum):
    """What happens to a session."""

    # A UE is attached.
    REQUESTED = auto()
    # Policy association and N4 session stand.
    ESTABLISHED = auto()
    # The PCF or the UPF has refused or has not answered.
    REFUSED = auto()
    # The UE is detached.
    RELEASE_REQUESTED = auto()
    # N4 session and policy association have gone.
    RELEASED = auto()
    # The SMF has started and finds the session in its store.
    RESTARTED = auto()


class Effect(Enum):
    """What has to be done because of a transition."""

    # Open the policy association, then the N4 session.
    ESTABLISH = auto()
    # Delete the N4 session, then close the policy association.
    RELEASE = auto()
    # Drop the row.
    FORGET = auto()
    NOTIFY_PDU_SESSION_STATUS = auto()


PDU_SESSION: Machine[State, Event] = Machine(
    "PDU session",
    {
        (State.ABSENT, Event.REQUESTED): Transition(State.ACTIVATING, (Effect.ESTABLISH,)),
        (State.ABSENT, Event.RELEASE_REQUESTED): Transition(State.ABSENT),
        (State.ACTIVATING, Event.ESTABLISHED): Transition(State.ACTIVE, (Effect.NOTIFY_PDU_SESSION_STATUS,)),
        # Never acknowledged: what may stand of it at the PCF and the UPF is taken down.
        (State.ACTIVATING, Event.REFUSED): Transition(State.RELEASING, (Effect.RELEASE,)),
        (State.ACTIVATING, Event.RESTARTED): Transition(State.RELEASING, (Effect.RELEASE,)),
        (State.ACTIVE, Event.RELEASE_REQUESTED): Transition(State.RELEASING, (Effect.RELEASE,)),
        (State.ACTIVE, Event.RESTARTED): Transition(State.ACTIVE),
        (State.RELEASING, Event.RELEASE_REQUESTED): Transition(State.RELEASING, (Effect.RELEASE,)),
        (State.RELEASING, Event.RELEASED): Transition(State.ABSENT, (Effect.FORGET, Effect.NOTIFY_PDU_SESSION_STATUS)),
        (State.RELEASING, Event.RESTARTED): Transition(State.RELEASING, (Effect.RELEASE,)),
    },
    initial=State.ABSENT,
)
