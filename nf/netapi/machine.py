"""The life of a booking as a table (5G-MAG live media distribution workflow, phases B and D).

ABSENT stands for a booking that is not there yet.
"""

from __future__ import annotations

from enum import Enum, auto

from nf.common.machine import Machine, Transition
from nf.netapi.v1.booking_pb2 import Booking


class State(Enum):
    """Booking.State, and ABSENT for STATE_UNSPECIFIED."""

    ABSENT = Booking.STATE_UNSPECIFIED
    REQUESTED = Booking.STATE_REQUESTED
    OFFERED = Booking.STATE_OFFERED
    DECLINED = Booking.STATE_DECLINED
    LAPSED = Booking.STATE_LAPSED
    BOOKED = Booking.STATE_BOOKED
    ACTIVE = Booking.STATE_ACTIVE
    SUSPENDED = Booking.STATE_SUSPENDED
    RELEASED = Booking.STATE_RELEASED
    EXPIRED = Booking.STATE_EXPIRED


class Event(Enum):
    """What happens to a booking."""

    # B.1: the provider asks for network capabilities.
    REQUEST = auto()
    # B.2: there is something to offer, and it is held.
    OFFER = auto()
    # There is nothing to offer.
    NO_OFFER = auto()
    # The provider does not want the offer.
    DECLINE = auto()
    # The offer's validity is over.
    LAPSE = auto()
    # B.3: the provider accepts the offer.
    ACCEPT = auto()
    # One of its periods begins.
    PERIOD_BEGINS = auto()
    # One of its periods is over, and it was not the last.
    PERIOD_ENDS = auto()
    # The last of its periods is over.
    LAST_PERIOD_ENDS = auto()
    # The operator withholds it, or the network cannot provide it.
    SUSPEND = auto()
    # It can be provided again, between its periods or within one.
    RESUME_BOOKED = auto()
    RESUME_ACTIVE = auto()
    # A reconfiguration is accepted: after it, it is between its periods or within one.
    RECONFIGURE_BOOKED = auto()
    RECONFIGURE_ACTIVE = auto()
    # D: the provider gives it back.
    RELEASE = auto()


class Effect(Enum):
    """What has to be done because of a transition."""

    # The capacity of the offer is held until it lapses.
    HOLD_CAPACITY = auto()
    # What was held is booked.
    BOOK_CAPACITY = auto()
    # What was held or booked is free again.
    RETURN_CAPACITY = auto()
    # B.4: one network access ID per area and capability.
    ISSUE_NETWORK_ACCESS_IDS = auto()
    # Devices that use it get what is booked.
    INSTALL_QOS = auto()
    # They no longer do.
    WITHDRAW_QOS = auto()
    # The last usage record is drawn up.
    RECORD_USAGE = auto()
    NOTIFY = auto()


_END = (Effect.RETURN_CAPACITY, Effect.RECORD_USAGE, Effect.NOTIFY)
_END_OF_USE = (Effect.WITHDRAW_QOS, *_END)

BOOKING: Machine[State, Event] = Machine(
    "booking",
    {
        (State.ABSENT, Event.REQUEST): Transition(State.REQUESTED, (Effect.NOTIFY,)),
        (State.REQUESTED, Event.OFFER): Transition(State.OFFERED, (Effect.HOLD_CAPACITY, Effect.NOTIFY)),
        (State.REQUESTED, Event.NO_OFFER): Transition(State.DECLINED, (Effect.NOTIFY,)),
        (State.REQUESTED, Event.RELEASE): Transition(State.RELEASED, (Effect.NOTIFY,)),
        (State.OFFERED, Event.ACCEPT): Transition(
            State.BOOKED, (Effect.BOOK_CAPACITY, Effect.ISSUE_NETWORK_ACCESS_IDS, Effect.NOTIFY)
        ),
        (State.OFFERED, Event.DECLINE): Transition(State.DECLINED, (Effect.RETURN_CAPACITY, Effect.NOTIFY)),
        (State.OFFERED, Event.LAPSE): Transition(State.LAPSED, (Effect.RETURN_CAPACITY, Effect.NOTIFY)),
        (State.OFFERED, Event.RELEASE): Transition(State.RELEASED, (Effect.RETURN_CAPACITY, Effect.NOTIFY)),
        (State.BOOKED, Event.PERIOD_BEGINS): Transition(State.ACTIVE, (Effect.INSTALL_QOS, Effect.NOTIFY)),
        (State.BOOKED, Event.SUSPEND): Transition(State.SUSPENDED, (Effect.NOTIFY,)),
        (State.BOOKED, Event.RECONFIGURE_BOOKED): Transition(
            State.BOOKED, (Effect.BOOK_CAPACITY, Effect.ISSUE_NETWORK_ACCESS_IDS, Effect.NOTIFY)
        ),
        (State.BOOKED, Event.RECONFIGURE_ACTIVE): Transition(
            State.ACTIVE, (Effect.BOOK_CAPACITY, Effect.ISSUE_NETWORK_ACCESS_IDS, Effect.INSTALL_QOS, Effect.NOTIFY)
        ),
        (State.BOOKED, Event.RELEASE): Transition(State.RELEASED, _END),
        (State.BOOKED, Event.LAST_PERIOD_ENDS): Transition(State.EXPIRED, _END),
        (State.ACTIVE, Event.PERIOD_ENDS): Transition(State.BOOKED, (Effect.WITHDRAW_QOS, Effect.NOTIFY)),
        (State.ACTIVE, Event.LAST_PERIOD_ENDS): Transition(State.EXPIRED, _END_OF_USE),
        (State.ACTIVE, Event.SUSPEND): Transition(State.SUSPENDED, (Effect.WITHDRAW_QOS, Effect.NOTIFY)),
        (State.ACTIVE, Event.RECONFIGURE_ACTIVE): Transition(
            State.ACTIVE, (Effect.BOOK_CAPACITY, Effect.ISSUE_NETWORK_ACCESS_IDS, Effect.INSTALL_QOS, Effect.NOTIFY)
        ),
        (State.ACTIVE, Event.RECONFIGURE_BOOKED): Transition(
            State.BOOKED, (Effect.BOOK_CAPACITY, Effect.ISSUE_NETWORK_ACCESS_IDS, Effect.WITHDRAW_QOS, Effect.NOTIFY)
        ),
        (State.ACTIVE, Event.RELEASE): Transition(State.RELEASED, _END_OF_USE),
        (State.SUSPENDED, Event.RESUME_BOOKED): Transition(State.BOOKED, (Effect.NOTIFY,)),
        (State.SUSPENDED, Event.RESUME_ACTIVE): Transition(State.ACTIVE, (Effect.INSTALL_QOS, Effect.NOTIFY)),
        # Time goes on meanwhile: what period it is matters when it is resumed.
        (State.SUSPENDED, Event.PERIOD_BEGINS): Transition(State.SUSPENDED),
        (State.SUSPENDED, Event.PERIOD_ENDS): Transition(State.SUSPENDED),
        (State.SUSPENDED, Event.LAST_PERIOD_ENDS): Transition(State.EXPIRED, _END),
        (State.SUSPENDED, Event.RELEASE): Transition(State.RELEASED, _END),
    },
    initial=State.ABSENT,
)
