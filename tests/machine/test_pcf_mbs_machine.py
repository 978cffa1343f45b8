from __future__ import annotations

import itertools

import pytest

from nf.common.machine import InvalidTransition
from nf.pcf.mbs_machine import MBS_GRANT, Effect, Event, State
from nf.pcf.v1.mbs_policy_authorization_pb2 import MbsAppSessionContext
from nf.pcf.v1.mbs_policy_control_pb2 import MbsPolicy

# Every pair that is possible, with where it leads and what it brings about; all others are refused.
EXPECTED: dict[tuple[State, Event], tuple[State, tuple[Effect, ...]]] = {
    (State.ABSENT, Event.GRANT): (State.GRANTED, (Effect.COUNT,)),
    (State.ABSENT, Event.DELETE): (State.ABSENT, ()),
    (State.GRANTED, Event.GRANT): (State.GRANTED, (Effect.COUNT,)),
    (State.GRANTED, Event.WITHDRAW): (
        State.WITHDRAWN,
        (Effect.DISCOUNT, Effect.NOTIFY_MBS_POLICY_CONTROL_FAILURE),
    ),
    (State.GRANTED, Event.DELETE): (State.ABSENT, (Effect.DISCOUNT, Effect.FORGET)),
    (State.WITHDRAWN, Event.GRANT): (State.GRANTED, (Effect.COUNT,)),
    (State.WITHDRAWN, Event.WITHDRAW): (State.WITHDRAWN, ()),
    (State.WITHDRAWN, Event.DELETE): (State.ABSENT, (Effect.FORGET,)),
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
@pytest.mark.clause("TS 29.537 §4.2", "TS 29.537 §4.3")
def test_every_state_knows_what_to_do_with_every_event(state: State, event: Event) -> None:
    expected = EXPECTED.get((state, event))
    if expected is None:
        with pytest.raises(InvalidTransition, match=f"{event.name} is not possible in state {state.name}"):
            MBS_GRANT.step(state, event)
    else:
        transition = MBS_GRANT.step(state, event)
        assert (transition.state, transition.effects) == expected


def test_the_states_are_those_of_the_contracts() -> None:
    for contract in (MbsAppSessionContext, MbsPolicy):
        assert [state.value for state in State] == contract.State.values()
        assert contract.State.Name(contract.State.ValueType(State.WITHDRAWN.value)) == "STATE_WITHDRAWN"
