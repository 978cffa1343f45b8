from __future__ import annotations

import itertools

import pytest

from nf.common.machine import InvalidTransition
from nf.mbsf.machine import AT_REST, DISTRIBUTION_SESSION, SHOWN, STARTING, WORK, Effect, Event, State
from nf.mbsf.v1.life_cycle_pb2 import DistributionSession

# Every pair that is possible, with where it leads and what it brings about; all others are refused.
EXPECTED = {
    "PROVISIONING DONE": "INACTIVE",
    "PROVISIONING FAILED": "REMOVING DELETE_REPLICA",
    "PROVISIONING EXPIRED": "REMOVING DELETE_REPLICA",
    "INACTIVE PERIOD_NEARS": "ALLOCATING TELL_STARTING ALLOCATE_TMGI",
    "INACTIVE EXPIRED": "REMOVING DELETE_REPLICA",
    "INACTIVE UPDATED": "INACTIVE",
    "ALLOCATING DONE": "AUTHORISING AUTHORISE",
    "ALLOCATING FAILED": "UNDOING_ALLOCATION TELL_FAILURE FREE_TMGI",
    "ALLOCATING SEVERE_ERROR": "UNDOING_ALLOCATION TELL_FAILURE FREE_TMGI",
    "ALLOCATING PERIOD_OVER": "UNDOING_ALLOCATION FREE_TMGI",
    "AUTHORISING DONE": "RESERVING RESERVE",
    "AUTHORISING FAILED": "UNDOING_AUTHORISATION TELL_FAILURE FREE_AUTHORISATION",
    "AUTHORISING SEVERE_ERROR": "UNDOING_AUTHORISATION TELL_FAILURE FREE_AUTHORISATION",
    "AUTHORISING PERIOD_OVER": "UNDOING_AUTHORISATION FREE_AUTHORISATION",
    "RESERVING DONE": "ESTABLISHING TELL_SESSION_STARTED ESTABLISH",
    "RESERVING FAILED": "UNDOING_RESERVATION TELL_FAILURE FREE_SESSION",
    "RESERVING SEVERE_ERROR": "UNDOING_RESERVATION TELL_FAILURE FREE_SESSION",
    "RESERVING PERIOD_OVER": "UNDOING_RESERVATION FREE_SESSION",
    "ESTABLISHING DONE": "ESTABLISHED ANNOUNCE TELL_STARTED",
    "ESTABLISHING FAILED": "UNDOING_ESTABLISHMENT TELL_FAILURE RELEASE",
    "ESTABLISHING SEVERE_ERROR": "UNDOING_ESTABLISHMENT TELL_FAILURE RELEASE",
    "ESTABLISHING PERIOD_OVER": "UNDOING_ESTABLISHMENT RELEASE",
    "UNDOING_ESTABLISHMENT DONE": "UNDOING_RESERVATION FREE_SESSION",
    "UNDOING_ESTABLISHMENT SEVERE_ERROR": "UNDOING_ESTABLISHMENT",
    "UNDOING_RESERVATION DONE": "UNDOING_AUTHORISATION TELL_SESSION_RELEASED FREE_AUTHORISATION",
    "UNDOING_RESERVATION SEVERE_ERROR": "UNDOING_RESERVATION",
    "UNDOING_AUTHORISATION DONE": "UNDOING_ALLOCATION FREE_TMGI",
    "UNDOING_AUTHORISATION SEVERE_ERROR": "UNDOING_AUTHORISATION",
    "UNDOING_ALLOCATION DONE": "INACTIVE",
    "UNDOING_ALLOCATION SEVERE_ERROR": "UNDOING_ALLOCATION",
    "ESTABLISHED START": "ESTABLISHED ACTIVATE",
    "ESTABLISHED DONE": "ACTIVE TELL_ACTIVATED",
    "ESTABLISHED FAILED": "DEACTIVATING TELL_FAILURE WITHDRAW CEASE",
    "ESTABLISHED SEVERE_ERROR": "RELEASING TELL_FAILURE WITHDRAW RELEASE",
    "ESTABLISHED PERIOD_OVER": "RELEASING WITHDRAW RELEASE",
    "ACTIVE SEVERE_ERROR": "DEACTIVATING TELL_FAILURE WITHDRAW CEASE",
    "ACTIVE PERIOD_OVER": "DEACTIVATING WITHDRAW CEASE",
    "DEACTIVATING DONE": "RELEASING TELL_TERMINATED RELEASE",
    "DEACTIVATING SEVERE_ERROR": "DEACTIVATING",
    "RELEASING DONE": "FREEING_SESSION TELL_TERMINATED FREE_SESSION",
    "RELEASING SEVERE_ERROR": "RELEASING",
    "FREEING_SESSION DONE": "FREEING_AUTHORISATION TELL_SESSION_RELEASED FREE_AUTHORISATION",
    "FREEING_SESSION SEVERE_ERROR": "FREEING_SESSION",
    "FREEING_AUTHORISATION DONE": "FREEING_TMGI FREE_TMGI",
    "FREEING_AUTHORISATION SEVERE_ERROR": "FREEING_AUTHORISATION",
    "FREEING_TMGI DONE": "INACTIVE",
    "FREEING_TMGI SEVERE_ERROR": "FREEING_TMGI",
    "REMOVING DONE": "GONE FORGET",
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
@pytest.mark.clause("TS 26.502 §4.6.1")
def test_every_state_knows_what_to_do_with_every_event(state: State, event: Event) -> None:
    expected = EXPECTED.get(f"{state.name} {event.name}")
    if expected is None:
        with pytest.raises(InvalidTransition, match=f"{event.name} is not possible in state {state.name}"):
            DISTRIBUTION_SESSION.step(state, event)
    else:
        transition = DISTRIBUTION_SESSION.step(state, event)
        assert [transition.state.name, *(each.name for each in transition.effects)] == expected.split()


def test_every_stage_of_a_record_is_a_state_that_is_shown_as_one_of_the_clauses_four() -> None:
    assert {state.value for state in State} == set(DistributionSession.Stage.values())
    assert set(SHOWN) == set(State)


@pytest.mark.clause("TS 26.502 §4.6.1 step 4")
def test_what_a_state_has_to_do_is_what_led_into_it_and_nothing_that_is_reserved_is_forgotten() -> None:
    entered: dict[State, set[Effect]] = {}
    for (source, _), transition in DISTRIBUTION_SESSION.table.items():
        if transition.state is not source:
            calls = {each for each in transition.effects if isinstance(each, Effect) and each in WORK.values()}
            entered.setdefault(transition.state, set()).update(calls)
    assert {state: {work} for state, work in WORK.items()} == {state: each for state, each in entered.items() if each}
    # Once begun, there is no way back to rest but through the release of everything.
    for (source, _), transition in DISTRIBUTION_SESSION.table.items():
        if source not in AT_REST and transition.state in AT_REST:
            assert source in (State.UNDOING_ALLOCATION, State.FREEING_TMGI)
    assert all(SHOWN[state] == SHOWN[State.INACTIVE] for state in STARTING)
