"""Every (state, event) pair of a booking's life (5G-MAG live media distribution workflow, phases B and D)."""

from __future__ import annotations

import itertools

import pytest

from nf.common.machine import InvalidTransition
from nf.netapi.machine import BOOKING, Effect, Event, State
from nf.netapi.v1.booking_pb2 import Booking

# Every pair that is possible, with where it leads and what it brings about; all others are refused.
EXPECTED = {
    "ABSENT REQUEST": "REQUESTED NOTIFY",
    "REQUESTED OFFER": "OFFERED HOLD_CAPACITY NOTIFY",
    "REQUESTED NO_OFFER": "DECLINED NOTIFY",
    "REQUESTED RELEASE": "RELEASED NOTIFY",
    "OFFERED ACCEPT": "BOOKED BOOK_CAPACITY ISSUE_NETWORK_ACCESS_IDS NOTIFY",
    "OFFERED DECLINE": "DECLINED RETURN_CAPACITY NOTIFY",
    "OFFERED LAPSE": "LAPSED RETURN_CAPACITY NOTIFY",
    "OFFERED RELEASE": "RELEASED RETURN_CAPACITY NOTIFY",
    "BOOKED PERIOD_BEGINS": "ACTIVE INSTALL_QOS NOTIFY",
    "BOOKED SUSPEND": "SUSPENDED NOTIFY",
    "BOOKED RECONFIGURE_BOOKED": "BOOKED BOOK_CAPACITY ISSUE_NETWORK_ACCESS_IDS NOTIFY",
    "BOOKED RECONFIGURE_ACTIVE": "ACTIVE BOOK_CAPACITY ISSUE_NETWORK_ACCESS_IDS INSTALL_QOS NOTIFY",
    "BOOKED RELEASE": "RELEASED RETURN_CAPACITY RECORD_USAGE NOTIFY",
    "BOOKED LAST_PERIOD_ENDS": "EXPIRED RETURN_CAPACITY RECORD_USAGE NOTIFY",
    "ACTIVE PERIOD_ENDS": "BOOKED WITHDRAW_QOS NOTIFY",
    "ACTIVE LAST_PERIOD_ENDS": "EXPIRED WITHDRAW_QOS RETURN_CAPACITY RECORD_USAGE NOTIFY",
    "ACTIVE SUSPEND": "SUSPENDED WITHDRAW_QOS NOTIFY",
    "ACTIVE RECONFIGURE_ACTIVE": "ACTIVE BOOK_CAPACITY ISSUE_NETWORK_ACCESS_IDS INSTALL_QOS NOTIFY",
    "ACTIVE RECONFIGURE_BOOKED": "BOOKED BOOK_CAPACITY ISSUE_NETWORK_ACCESS_IDS WITHDRAW_QOS NOTIFY",
    "ACTIVE RELEASE": "RELEASED WITHDRAW_QOS RETURN_CAPACITY RECORD_USAGE NOTIFY",
    "SUSPENDED RESUME_BOOKED": "BOOKED NOTIFY",
    "SUSPENDED RESUME_ACTIVE": "ACTIVE INSTALL_QOS NOTIFY",
    "SUSPENDED PERIOD_BEGINS": "SUSPENDED",
    "SUSPENDED PERIOD_ENDS": "SUSPENDED",
    "SUSPENDED LAST_PERIOD_ENDS": "EXPIRED RETURN_CAPACITY RECORD_USAGE NOTIFY",
    "SUSPENDED RELEASE": "RELEASED RETURN_CAPACITY RECORD_USAGE NOTIFY",
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
@pytest.mark.clause("5G-MAG live media distribution phases B to D")
def test_every_state_knows_what_to_do_with_every_event(state: State, event: Event) -> None:
    expected = EXPECTED.get(f"{state.name} {event.name}")
    if expected is None:
        with pytest.raises(InvalidTransition, match=f"{event.name} is not possible in state {state.name}"):
            BOOKING.step(state, event)
    else:
        transition = BOOKING.step(state, event)
        assert [transition.state.name, *(each.name for each in transition.effects)] == expected.split()


def test_every_state_of_a_booking_is_one_of_the_table() -> None:
    assert {state.value for state in State} == set(Booking.State.values())
    assert set(BOOKING.states) == set(State)
    assert set(BOOKING.events) == set(Event)


def test_whoever_has_capacity_returns_it_where_it_ends() -> None:
    with_capacity = {State.OFFERED, State.BOOKED, State.ACTIVE, State.SUSPENDED}
    for (source, _), transition in BOOKING.table.items():
        returned = Effect.RETURN_CAPACITY in transition.effects
        assert returned == (source in with_capacity and transition.state not in with_capacity)


def test_qos_is_withdrawn_where_a_period_is_left_and_installed_where_one_is_entered() -> None:
    for (source, _), transition in BOOKING.table.items():
        entered = transition.state is State.ACTIVE
        assert (Effect.INSTALL_QOS in transition.effects) == entered
        left = source is State.ACTIVE and transition.state is not State.ACTIVE
        assert (Effect.WITHDRAW_QOS in transition.effects) == left
