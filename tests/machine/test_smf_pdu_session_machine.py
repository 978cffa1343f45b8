from __future__ import annotations

import itertools

import pytest

from nf.common.machine import InvalidTransition
from nf.smf.machine import PDU_SESSION, Effect, Event, State
from nf.smf.v1.pdu_session_pb2 import PduSession

# Every pair that is possible, with where it leads and what it brings about; all others are refused.
EXPECTED: dict[tuple[State, Event], tuple[State, tuple[Effect, ...]]] = {
    (State.ABSENT, Event.REQUESTED): (State.ACTIVATING, (Effect.ESTABLISH,)),
    (State.ABSENT, Event.RELEASE_REQUESTED): (State.ABSENT, ()),
    (State.ACTIVATING, Event.ESTABLISHED): (State.ACTIVE, (Effect.NOTIFY_PDU_SESSION_STATUS,)),
    (State.ACTIVATING, Event.REFUSED): (State.RELEASING, (Effect.RELEASE,)),
    (State.ACTIVATING, Event.RESTARTED): (State.RELEASING, (Effect.RELEASE,)),
    (State.ACTIVE, Event.RELEASE_REQUESTED): (State.RELEASING, (Effect.RELEASE,)),
    (State.ACTIVE, Event.RESTARTED): (State.ACTIVE, ()),
    (State.RELEASING, Event.RELEASE_REQUESTED): (State.RELEASING, (Effect.RELEASE,)),
    (State.RELEASING, Event.RELEASED): (State.ABSENT, (Effect.FORGET, Effect.NOTIFY_PDU_SESSION_STATUS)),
    (State.RELEASING, Event.RESTARTED): (State.RELEASING, (Effect.RELEASE,)),
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
@pytest.mark.clause("TS 23.502 §4.3.2")
@pytest.mark.clause("TS 23.502 §4.3.4")
def test_every_state_knows_what_to_do_with_every_event(state: State, event: Event) -> None:
    expected = EXPECTED.get((state, event))
    if expected is None:
        with pytest.raises(InvalidTransition, match=f"{event.name} is not possible in state {state.name}"):
            PDU_SESSION.step(state, event)
    else:
        transition = PDU_SESSION.step(state, event)
        assert (transition.state, transition.effects) == expected


def test_the_states_are_those_of_the_contract() -> None:
    assert {state.value: f"STATE_{state.name}" for state in State if state is not State.ABSENT} == {
        value: name for name, value in PduSession.State.items() if value
    }
    assert State.ABSENT.value == PduSession.STATE_UNSPECIFIED
