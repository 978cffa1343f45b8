"""The life of what an operator grants an MBS session (TS 29.537 §4.2, §4.3) as a table.

One table for both: the context that an MBSF has authorised (Nmb12) and the policy that an MB-SMF is given (N7mb).
ABSENT stands for one that the PCF does not keep: not yet, or no longer.
"""

from __future__ import annotations

from enum import Enum, auto

from nf.common.machine import Machine, Transition


class State(Enum):
    """MbsAppSessionContext.State and MbsPolicy.State alike."""

    ABSENT = 0
    GRANTED = 1
    WITHDRAWN = 2


class Event(Enum):
    """What happens to a grant."""

    # It is asked for, or something else is asked for, and the operator's policies grant it.
    GRANT = auto()
    # They have changed, and no longer grant it.
    WITHDRAW = auto()
    # Who has asked for it ends it.
    DELETE = auto()


class Effect(Enum):
    """What has to be done because of a transition."""

    # Count what is granted against the capacity, in place of what was.
    COUNT = auto()
    # Count it no more.
    DISCOUNT = auto()
    # Drop the row.
    FORGET = auto()
    NOTIFY_MBS_POLICY_CONTROL_FAILURE = auto()


MBS_GRANT: Machine[State, Event] = Machine(
    "MBS grant",
    {
        (State.ABSENT, Event.GRANT): Transition(State.GRANTED, (Effect.COUNT,)),
        (State.ABSENT, Event.DELETE): Transition(State.ABSENT),
        (State.GRANTED, Event.GRANT): Transition(State.GRANTED, (Effect.COUNT,)),
        (State.GRANTED, Event.WITHDRAW): Transition(
            State.WITHDRAWN, (Effect.DISCOUNT, Effect.NOTIFY_MBS_POLICY_CONTROL_FAILURE)
        ),
        (State.GRANTED, Event.DELETE): Transition(State.ABSENT, (Effect.DISCOUNT, Effect.FORGET)),
        # Asked for anew, it may be granted again; nothing else makes it so.
        (State.WITHDRAWN, Event.GRANT): Transition(State.GRANTED, (Effect.COUNT,)),
        (State.WITHDRAWN, Event.WITHDRAW): Transition(State.WITHDRAWN),
        (State.WITHDRAWN, Event.DELETE): Transition(State.ABSENT, (Effect.FORGET,)),
    },
    initial=State.ABSENT,
)
