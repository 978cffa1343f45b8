from __future__ import annotations

import itertools

import pytest

from nf.common.machine import InvalidTransition
from nf.netapi.access_machine import DEVICE_ACCESS, Effect, Event, State

ASK, TELL, KEEP, FORGET = Effect.ASK, Effect.TELL, Effect.KEEP, Effect.FORGET
LIVE = (State.WAITING, State.INSTALLING, State.IN_USE, State.WITHDRAWING, State.INTERRUPTED)

# Every pair that is possible, with where it leads and what it brings about; all others are refused.
EXPECTED: dict[tuple[State, Event], tuple[State, tuple[Effect, ...]]] = {
    (State.ABSENT, Event.PRESENTED): (State.WAITING, (TELL,)),
    **{(state, Event.WANTED): (State.INSTALLING, (ASK, TELL)) for state in LIVE},
    (State.INSTALLING, Event.WANTED): (State.INSTALLING, (ASK,)),
    (State.IN_USE, Event.WANTED): (State.IN_USE, (ASK,)),
    **{(state, Event.INSTALLED): (State.IN_USE, (TELL,)) for state in LIVE},
    (State.IN_USE, Event.INSTALLED): (State.IN_USE, ()),
    **{(state, Event.FAILED): (State.INTERRUPTED, (ASK, TELL)) for state in LIVE},
    (State.INTERRUPTED, Event.FAILED): (State.INTERRUPTED, (ASK,)),
    **{(state, Event.UNWANTED): (State.WITHDRAWING, (ASK, TELL)) for state in LIVE},
    (State.WAITING, Event.UNWANTED): (State.WAITING, (ASK,)),
    (State.WITHDRAWING, Event.UNWANTED): (State.WITHDRAWING, (ASK,)),
    **{(state, Event.CLEARED): (State.WAITING, (TELL,)) for state in LIVE},
    (State.WAITING, Event.CLEARED): (State.WAITING, ()),
    **{(state, Event.OVER): (State.WITHDRAWING, (ASK, TELL)) for state in LIVE},
    (State.WITHDRAWING, Event.OVER): (State.WITHDRAWING, (ASK,)),
    **{(state, Event.GIVEN_BACK): (State.ENDED, (TELL, KEEP)) for state in LIVE},
    (State.ENDED, Event.OVER): (State.ENDED, ()),
    (State.ENDED, Event.GIVEN_BACK): (State.ENDED, ()),
    (State.ENDED, Event.FORGOTTEN): (State.ABSENT, (FORGET,)),
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
@pytest.mark.clause("5G-MAG live media distribution C")
def test_every_state_of_a_device_access_knows_what_to_do_with_every_event(state: State, event: Event) -> None:
    expected = EXPECTED.get((state, event))
    if expected is None:
        with pytest.raises(InvalidTransition, match=f"{event.name} is not possible in state {state.name}"):
            DEVICE_ACCESS.step(state, event)
    else:
        transition = DEVICE_ACCESS.step(state, event)
        assert (transition.state, transition.effects) == expected
