"""The life of a CAMARA Quality-On-Demand session as a table (quality-on-demand 1.2.0-rc.3, QosStatus and StatusInfo).

A session is a booking with one device access; what happens to those two is what happens to it. ABSENT stands for a
session that consumers cannot read.
"""

from __future__ import annotations

from enum import Enum, auto

from nf.common.machine import Machine, Transition
from nf.netapi.v1.camara_qod_pb2 import (
    QOS_STATUS_AVAILABLE,
    QOS_STATUS_REQUESTED,
    QOS_STATUS_UNAVAILABLE,
    QOS_STATUS_UNSPECIFIED,
)


class State(Enum):
    """QosStatus, and ABSENT for QOS_STATUS_UNSPECIFIED."""

    ABSENT = QOS_STATUS_UNSPECIFIED
    REQUESTED = QOS_STATUS_REQUESTED
    AVAILABLE = QOS_STATUS_AVAILABLE
    UNAVAILABLE = QOS_STATUS_UNAVAILABLE


class Event(Enum):
    """What happens to a session."""

    # The consumer asks for it, and it is booked; or there is no room for it.
    BOOKED = auto()
    REFUSED = auto()
    # The device has the quality.
    PROVIDED = auto()
    # The network does not provide it, or the operator withholds it.
    TERMINATED = auto()
    # Its time is over.
    EXPIRED = auto()
    # The consumer deletes it.
    DELETED = auto()
    # It has been UNAVAILABLE for long enough to be seen.
    FORGOTTEN = auto()


class Effect(Enum):
    """What follows."""

    # It begins now: startedAt.
    BEGIN = auto()
    # It ends now, and why is kept: NETWORK_TERMINATED, DURATION_EXPIRED, DELETE_REQUESTED.
    END = auto()
    # CloudEvent qos-status-changed.
    NOTIFY = auto()
    # What is booked is given back.
    RELEASE = auto()
    FORGET = auto()


_TERMINATE = Transition(State.UNAVAILABLE, (Effect.END, Effect.NOTIFY, Effect.RELEASE))
_EXPIRE = Transition(State.UNAVAILABLE, (Effect.END, Effect.NOTIFY))
_STAY = Transition(State.UNAVAILABLE)

QOD_SESSION: Machine[State, Event] = Machine(
    "quality-on-demand session",
    {
        (State.ABSENT, Event.BOOKED): Transition(State.REQUESTED),
        (State.ABSENT, Event.REFUSED): Transition(State.UNAVAILABLE, (Effect.END, Effect.NOTIFY)),
        (State.REQUESTED, Event.PROVIDED): Transition(State.AVAILABLE, (Effect.BEGIN, Effect.NOTIFY)),
        (State.REQUESTED, Event.TERMINATED): _TERMINATE,
        (State.REQUESTED, Event.EXPIRED): _EXPIRE,
        # Nobody had been told that it was to be had.
        (State.REQUESTED, Event.DELETED): Transition(State.ABSENT, (Effect.RELEASE, Effect.FORGET)),
        (State.AVAILABLE, Event.PROVIDED): Transition(State.AVAILABLE),
        (State.AVAILABLE, Event.TERMINATED): _TERMINATE,
        (State.AVAILABLE, Event.EXPIRED): _EXPIRE,
        (State.AVAILABLE, Event.DELETED): Transition(
            State.ABSENT, (Effect.END, Effect.NOTIFY, Effect.RELEASE, Effect.FORGET)
        ),
        # What else becomes of booking and device has no meaning any more.
        (State.UNAVAILABLE, Event.PROVIDED): _STAY,
        (State.UNAVAILABLE, Event.TERMINATED): _STAY,
        (State.UNAVAILABLE, Event.EXPIRED): _STAY,
        (State.UNAVAILABLE, Event.DELETED): Transition(State.ABSENT, (Effect.RELEASE, Effect.FORGET)),
        (State.UNAVAILABLE, Event.FORGOTTEN): Transition(State.ABSENT, (Effect.FORGET,)),
    },
    initial=State.ABSENT,
)
