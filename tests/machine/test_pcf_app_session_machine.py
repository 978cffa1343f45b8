from __future__ import annotations

import itertools

import pytest

from nf.common.machine import InvalidTransition
from nf.pcf.machine import APP_SESSION, Effect, Event, State
from nf.pcf.v1.policy_authorization_pb2 import AppSession

# Every pair that is possible, with where it leads and what it brings about; all others are refused.
EXPECTED: dict[tuple[State, Event], tuple[State, tuple[Effect, ...]]] = {
    (State.ABSENT, Event.AUTHORIZED): (State.AUTHORIZING, (Effect.INSTALL,)),
    (State.ABSENT, Event.DELETED): (State.ABSENT, ()),
    (State.AUTHORIZING, Event.INSTALLED): (State.ACTIVE, (Effect.NOTIFY_SUCCESSFUL_RESOURCES_ALLOCATION,)),
    (State.AUTHORIZING, Event.REFUSED): (State.ABSENT, (Effect.FORGET,)),
    (State.AUTHORIZING, Event.PDU_SESSION_GONE): (State.ABSENT, (Effect.FORGET,)),
    (State.AUTHORIZING, Event.RESTARTED): (State.ABSENT, (Effect.FORGET, Effect.INSTALL)),
    (State.ACTIVE, Event.INSTALLED): (State.ACTIVE, (Effect.NOTIFY_SUCCESSFUL_RESOURCES_ALLOCATION,)),
    (State.ACTIVE, Event.REFUSED): (State.ACTIVE, ()),
    (State.ACTIVE, Event.WITHDRAWN): (State.TERMINATED, (Effect.NOTIFY_FAILED_RESOURCES_ALLOCATION,)),
    (State.ACTIVE, Event.PDU_SESSION_GONE): (State.TERMINATED, (Effect.NOTIFY_PDU_SESSION_STATUS,)),
    (State.ACTIVE, Event.DELETED): (State.RELEASING, (Effect.INSTALL,)),
    (State.ACTIVE, Event.RESTARTED): (State.ACTIVE, ()),
    (State.ACTIVE, Event.USER_PLANE_LOST): (State.INTERRUPTED, (Effect.NOTIFY_FAILED_RESOURCES_ALLOCATION,)),
    (State.INTERRUPTED, Event.USER_PLANE_RESTORED): (State.ACTIVE, (Effect.NOTIFY_SUCCESSFUL_RESOURCES_ALLOCATION,)),
    (State.INTERRUPTED, Event.WITHDRAWN): (State.TERMINATED, (Effect.NOTIFY_FAILED_RESOURCES_ALLOCATION,)),
    (State.INTERRUPTED, Event.PDU_SESSION_GONE): (State.TERMINATED, (Effect.NOTIFY_PDU_SESSION_STATUS,)),
    (State.INTERRUPTED, Event.DELETED): (State.RELEASING, (Effect.INSTALL,)),
    **{
        (State.INTERRUPTED, event): (State.INTERRUPTED, ())
        for event in (Event.INSTALLED, Event.REFUSED, Event.USER_PLANE_LOST, Event.RESTARTED)
    },
    (State.ACTIVE, Event.USER_PLANE_RESTORED): (State.ACTIVE, ()),
    **{
        (state, event): (state, ())
        for state in (State.AUTHORIZING, State.TERMINATED, State.RELEASING)
        for event in (Event.USER_PLANE_LOST, Event.USER_PLANE_RESTORED)
    },
    (State.TERMINATED, Event.DELETED): (State.ABSENT, (Effect.FORGET,)),
    (State.TERMINATED, Event.RESTARTED): (State.TERMINATED, ()),
    (State.RELEASING, Event.DELETED): (State.RELEASING, (Effect.INSTALL,)),
    (State.RELEASING, Event.INSTALLED): (State.ABSENT, (Effect.FORGET,)),
    (State.RELEASING, Event.REFUSED): (State.RELEASING, ()),
    (State.RELEASING, Event.PDU_SESSION_GONE): (State.ABSENT, (Effect.FORGET,)),
    (State.RELEASING, Event.RESTARTED): (State.RELEASING, (Effect.INSTALL,)),
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
@pytest.mark.clause("TS 29.514 §4.2.2")
@pytest.mark.clause("TS 29.514 §4.2.4")
def test_every_state_knows_what_to_do_with_every_event(state: State, event: Event) -> None:
    expected = EXPECTED.get((state, event))
    if expected is None:
        with pytest.raises(InvalidTransition, match=f"{event.name} is not possible in state {state.name}"):
            APP_SESSION.step(state, event)
    else:
        transition = APP_SESSION.step(state, event)
        assert (transition.state, transition.effects) == expected


def test_the_states_are_those_of_the_contract() -> None:
    assert {state.value: f"STATE_{state.name}" for state in State if state is not State.ABSENT} == {
        value: name for name, value in AppSession.State.items() if value
    }
    assert State.ABSENT.value == AppSession.STATE_UNSPECIFIED
