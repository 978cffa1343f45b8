from __future__ import annotations

import itertools

import pytest

from nf.common.machine import InvalidTransition
from nf.smf.mbs_machine import MBS_SESSION, STANDING, Effect, Event, State
from nf.smf.v1.mbs_session_pb2 import MbsSession

EXPIRED = (State.RELEASING, (Effect.RELEASE, Effect.NOTIFY_TMGI_EXPIRY))
RELEASE = (State.RELEASING, (Effect.RELEASE,))
# Every pair that is possible, with where it leads and what it brings about; all others are refused.
EXPECTED: dict[tuple[State, Event], tuple[State, tuple[Effect, ...]]] = {
    (State.ABSENT, Event.REQUESTED): (State.CREATING, (Effect.ESTABLISH,)),
    (State.ABSENT, Event.RELEASE_REQUESTED): (State.ABSENT, ()),
    (State.CREATING, Event.ESTABLISHED): (State.ACTIVE, (Effect.NOTIFY_DELIVERY_STARTED,)),
    (State.CREATING, Event.REFUSED): RELEASE,
    (State.CREATING, Event.TMGI_EXPIRED): (State.CREATING, ()),
    (State.CREATING, Event.RESTARTED): RELEASE,
    (State.ACTIVE, Event.CHANGE_REQUESTED): (State.UPDATING, (Effect.CHANGE,)),
    (State.ACTIVE, Event.RELEASE_REQUESTED): RELEASE,
    (State.ACTIVE, Event.TMGI_EXPIRED): EXPIRED,
    (State.ACTIVE, Event.RESTARTED): (State.ACTIVE, ()),
    (State.UPDATING, Event.CHANGED): (State.ACTIVE, ()),
    (State.UPDATING, Event.REFUSED): (State.UPDATING, (Effect.RESTORE,)),
    (State.UPDATING, Event.RESTORED): (State.ACTIVE, ()),
    (State.UPDATING, Event.RELEASE_REQUESTED): RELEASE,
    (State.UPDATING, Event.TMGI_EXPIRED): EXPIRED,
    (State.UPDATING, Event.RESTARTED): (State.UPDATING, (Effect.RESTORE,)),
    (State.RELEASING, Event.RELEASE_REQUESTED): RELEASE,
    (State.RELEASING, Event.TMGI_EXPIRED): (State.RELEASING, ()),
    (State.RELEASING, Event.RELEASED): (State.ABSENT, (Effect.FORGET, Effect.NOTIFY_DELIVERY_TERMINATED)),
    (State.RELEASING, Event.RESTARTED): RELEASE,
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
@pytest.mark.clause("TS 23.247 §7.1.1", "TS 29.532 §5.3")
def test_every_state_knows_what_to_do_with_every_event(state: State, event: Event) -> None:
    expected = EXPECTED.get((state, event))
    if expected is None:
        with pytest.raises(InvalidTransition, match=f"{event.name} is not possible in state {state.name}"):
            MBS_SESSION.step(state, event)
    else:
        transition = MBS_SESSION.step(state, event)
        assert (transition.state, transition.effects) == expected


def test_the_states_are_those_of_the_contract() -> None:
    assert {state.value: f"STATE_{state.name}" for state in State if state is not State.ABSENT} == {
        value: name for name, value in MbsSession.State.items() if value
    }
    assert State.ABSENT.value == MbsSession.STATE_UNSPECIFIED


def test_a_restart_leaves_every_session_either_standing_or_on_its_way_out() -> None:
    for state in State:
        if state is not State.ABSENT:
            after = MBS_SESSION.step(state, Event.RESTARTED)
            assert after.state in STANDING or (after.state is State.RELEASING and Effect.RELEASE in after.effects)
