from __future__ import annotations

import itertools

import pytest

from nf.common.machine import InvalidTransition
from nf.netapi.qod_machine import QOD_SESSION, Effect, Event, State

BEGIN, END, NOTIFY, RELEASE, FORGET = Effect.BEGIN, Effect.END, Effect.NOTIFY, Effect.RELEASE, Effect.FORGET

# Every pair that is possible, with where it leads and what it brings about; all others are refused.
EXPECTED: dict[tuple[State, Event], tuple[State, tuple[Effect, ...]]] = {
    (State.ABSENT, Event.BOOKED): (State.REQUESTED, ()),
    (State.ABSENT, Event.REFUSED): (State.UNAVAILABLE, (END, NOTIFY)),
    (State.REQUESTED, Event.PROVIDED): (State.AVAILABLE, (BEGIN, NOTIFY)),
    (State.AVAILABLE, Event.PROVIDED): (State.AVAILABLE, ()),
    **{
        (state, Event.TERMINATED): (State.UNAVAILABLE, (END, NOTIFY, RELEASE))
        for state in (State.REQUESTED, State.AVAILABLE)
    },
    **{(state, Event.EXPIRED): (State.UNAVAILABLE, (END, NOTIFY)) for state in (State.REQUESTED, State.AVAILABLE)},
    **{(state, Event.DELETED): (State.ABSENT, (RELEASE, FORGET)) for state in (State.REQUESTED, State.UNAVAILABLE)},
    (State.AVAILABLE, Event.DELETED): (State.ABSENT, (END, NOTIFY, RELEASE, FORGET)),
    **{
        (State.UNAVAILABLE, event): (State.UNAVAILABLE, ())
        for event in (Event.PROVIDED, Event.TERMINATED, Event.EXPIRED)
    },
    (State.UNAVAILABLE, Event.FORGOTTEN): (State.ABSENT, (FORGET,)),
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
@pytest.mark.clause("CAMARA quality-on-demand QosStatus")
def test_every_state_of_a_session_knows_what_to_do_with_every_event(state: State, event: Event) -> None:
    expected = EXPECTED.get((state, event))
    if expected is None:
        with pytest.raises(InvalidTransition, match=f"{event.name} is not possible in state {state.name}"):
            QOD_SESSION.step(state, event)
    else:
        transition = QOD_SESSION.step(state, event)
        assert (transition.state, transition.effects) == expected
