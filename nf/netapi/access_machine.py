"""A device's use of a network access ID as a table (5G-MAG live media distribution workflow, phase C).

What a device is to have is decided from the booking, its period, the device's position and attachment; what it has, the
PCF says. Each event tells how the two compare. ABSENT stands for an access that is not there, or not any more.
"""

from __future__ import annotations

from enum import Enum, auto

from nf.common.machine import Machine, Transition
from nf.netapi.v1.access_pb2 import DeviceAccess


class State(Enum):
    """DeviceAccess.State, and ABSENT for STATE_UNSPECIFIED."""

    ABSENT = DeviceAccess.STATE_UNSPECIFIED
    WAITING = DeviceAccess.STATE_WAITING
    INSTALLING = DeviceAccess.STATE_INSTALLING
    IN_USE = DeviceAccess.STATE_IN_USE
    WITHDRAWING = DeviceAccess.STATE_WITHDRAWING
    INTERRUPTED = DeviceAccess.STATE_INTERRUPTED
    ENDED = DeviceAccess.STATE_ENDED


class Event(Enum):
    """What is found of a device access."""

    # The device presents the network access ID.
    PRESENTED = auto()
    # It is to have the quality, and the network has to be asked for it, for the first time or otherwise than before.
    WANTED = auto()
    # It is to have the quality, and has it.
    INSTALLED = auto()
    # It is to have the quality, and the network does not provide it.
    FAILED = auto()
    # It is not to have the quality (any more), and the network has to be asked to end it, or to stop the traffic.
    UNWANTED = auto()
    # It is not to have the quality, and has not.
    CLEARED = auto()
    # It is over, and the network has something to give back; and nothing (any more).
    OVER = auto()
    GIVEN_BACK = auto()
    # It has been over for long.
    FORGOTTEN = auto()


class Effect(Enum):
    """What follows."""

    # The PCF is owed a call: durable, and repeated until it is answered.
    ASK = auto()
    # The provider is told: event DEVICE_ACCESS_STATE.
    TELL = auto()
    # It is kept for a while, for its state to be read; then it goes.
    KEEP = auto()
    FORGET = auto()


_WAIT = Transition(State.WAITING, (Effect.TELL,))
_INSTALL = Transition(State.INSTALLING, (Effect.ASK, Effect.TELL))
_USE = Transition(State.IN_USE, (Effect.TELL,))
_INTERRUPT = Transition(State.INTERRUPTED, (Effect.ASK, Effect.TELL))
_WITHDRAW = Transition(State.WITHDRAWING, (Effect.ASK, Effect.TELL))
_END = Transition(State.ENDED, (Effect.TELL, Effect.KEEP))

DEVICE_ACCESS: Machine[State, Event] = Machine(
    "device access",
    {
        (State.ABSENT, Event.PRESENTED): _WAIT,
        (State.WAITING, Event.WANTED): _INSTALL,
        # A geofencing ID asks the network for nothing.
        (State.WAITING, Event.INSTALLED): _USE,
        (State.WAITING, Event.FAILED): _INTERRUPT,
        # Its traffic is to be stopped.
        (State.WAITING, Event.UNWANTED): Transition(State.WAITING, (Effect.ASK,)),
        (State.WAITING, Event.CLEARED): Transition(State.WAITING),
        (State.WAITING, Event.OVER): _WITHDRAW,
        (State.WAITING, Event.GIVEN_BACK): _END,
        (State.INSTALLING, Event.WANTED): Transition(State.INSTALLING, (Effect.ASK,)),
        (State.INSTALLING, Event.INSTALLED): _USE,
        (State.INSTALLING, Event.FAILED): _INTERRUPT,
        (State.INSTALLING, Event.UNWANTED): _WITHDRAW,
        # Nothing had been asked for yet.
        (State.INSTALLING, Event.CLEARED): _WAIT,
        (State.INSTALLING, Event.OVER): _WITHDRAW,
        (State.INSTALLING, Event.GIVEN_BACK): _END,
        # A reconfiguration changes what is in force; it stays in force until then.
        (State.IN_USE, Event.WANTED): Transition(State.IN_USE, (Effect.ASK,)),
        (State.IN_USE, Event.INSTALLED): Transition(State.IN_USE),
        (State.IN_USE, Event.FAILED): _INTERRUPT,
        (State.IN_USE, Event.UNWANTED): _WITHDRAW,
        (State.IN_USE, Event.CLEARED): _WAIT,
        (State.IN_USE, Event.OVER): _WITHDRAW,
        (State.IN_USE, Event.GIVEN_BACK): _END,
        (State.WITHDRAWING, Event.WANTED): _INSTALL,
        # Wanted again before the network was asked.
        (State.WITHDRAWING, Event.INSTALLED): _USE,
        (State.WITHDRAWING, Event.FAILED): _INTERRUPT,
        (State.WITHDRAWING, Event.UNWANTED): Transition(State.WITHDRAWING, (Effect.ASK,)),
        (State.WITHDRAWING, Event.CLEARED): _WAIT,
        (State.WITHDRAWING, Event.OVER): Transition(State.WITHDRAWING, (Effect.ASK,)),
        (State.WITHDRAWING, Event.GIVEN_BACK): _END,
        (State.INTERRUPTED, Event.WANTED): _INSTALL,
        (State.INTERRUPTED, Event.INSTALLED): _USE,
        (State.INTERRUPTED, Event.FAILED): Transition(State.INTERRUPTED, (Effect.ASK,)),
        (State.INTERRUPTED, Event.UNWANTED): _WITHDRAW,
        (State.INTERRUPTED, Event.CLEARED): _WAIT,
        (State.INTERRUPTED, Event.OVER): _WITHDRAW,
        (State.INTERRUPTED, Event.GIVEN_BACK): _END,
        # Ending again is harmless.
        (State.ENDED, Event.OVER): Transition(State.ENDED),
        (State.ENDED, Event.GIVEN_BACK): Transition(State.ENDED),
        (State.ENDED, Event.FORGOTTEN): Transition(State.ABSENT, (Effect.FORGET,)),
    },
    initial=State.ABSENT,
)
