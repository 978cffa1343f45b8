"""The MBSTF's life cycle of a distribution session: every (state, event) pair, and every way."""

from __future__ import annotations

import itertools

import pytest

from nf.common.machine import InvalidTransition
from nf.mbstf.errors import StateNotReachable
from nf.mbstf.machine import DIST_SESSION, Effect, Event, State, way

ABSENT, INACTIVE, ESTABLISHED, ACTIVE, DEACTIVATING = State

# Where each event leads; what is not here is refused.
LEADS = {
    (ABSENT, Event.CREATED): INACTIVE,
    (ABSENT, Event.DELETED): ABSENT,
    (INACTIVE, Event.ESTABLISH): INACTIVE,
    (INACTIVE, Event.INGESTED): ESTABLISHED,
    (INACTIVE, Event.NOT_INGESTED): INACTIVE,
    (INACTIVE, Event.DELETED): ABSENT,
    (INACTIVE, Event.RESTARTED): INACTIVE,
    (ESTABLISHED, Event.ACTIVATE): ACTIVE,
    (ESTABLISHED, Event.RELEASE): INACTIVE,
    (ESTABLISHED, Event.DELETED): ABSENT,
    (ESTABLISHED, Event.RESTARTED): ESTABLISHED,
    (ACTIVE, Event.DEACTIVATE): DEACTIVATING,
    (ACTIVE, Event.INGEST_DRIED_UP): ACTIVE,
    (ACTIVE, Event.INGEST_RECOVERED): ACTIVE,
    (ACTIVE, Event.SENDING_FAILED): ACTIVE,
    (ACTIVE, Event.DELETED): ABSENT,
    (ACTIVE, Event.RESTARTED): ACTIVE,
    (DEACTIVATING, Event.RELEASE): INACTIVE,
    (DEACTIVATING, Event.DELETED): ABSENT,
    (DEACTIVATING, Event.RESTARTED): DEACTIVATING,
}


@pytest.mark.clause("TS 26.502 §4.6.1")
@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)), ids=lambda each: each.name)
def test_every_event_in_every_state_leads_where_the_specification_says_or_is_refused(
    state: State, event: Event
) -> None:
    if (state, event) in LEADS:
        assert DIST_SESSION.step(state, event).state is LEADS[state, event]
        return
    with pytest.raises(InvalidTransition, match=f"{event.name} is not possible in state {state.name}"):
        DIST_SESSION.step(state, event)


@pytest.mark.clause("TS 26.502 §4.6.1 step 4b", "TS 26.502 §4.6.1 step 4c")
def test_whatever_ends_a_session_ends_sending_before_ingest_and_tells_both() -> None:
    deleted = DIST_SESSION.step(ACTIVE, Event.DELETED).effects
    assert deleted == (
        Effect.END_SENDING,
        Effect.NOTIFY_SESSION_DEACTIVATED,
        Effect.END_INGEST,
        Effect.NOTIFY_DATA_INGEST_SESSION_TERMINATED,
        Effect.FORGET,
    )
    walked = [effect for event in way(ACTIVE, INACTIVE) for effect in _effects_on_the_way(event)]
    assert walked == list(deleted[:-1])


def _effects_on_the_way(event: Event) -> tuple[object, ...]:
    return DIST_SESSION.step({Event.DEACTIVATE: ACTIVE, Event.RELEASE: DEACTIVATING}[event], event).effects


WAYS = {
    (INACTIVE, ESTABLISHED): [Event.ESTABLISH],
    (INACTIVE, ACTIVE): [Event.ESTABLISH, Event.ACTIVATE],
    (ESTABLISHED, ACTIVE): [Event.ACTIVATE],
    (ESTABLISHED, INACTIVE): [Event.RELEASE],
    (ACTIVE, DEACTIVATING): [Event.DEACTIVATE],
    (ACTIVE, INACTIVE): [Event.DEACTIVATE, Event.RELEASE],
    (DEACTIVATING, INACTIVE): [Event.RELEASE],
}


@pytest.mark.clause("TS 29.581 §5.2.2.4")
@pytest.mark.parametrize(
    ("found", "wanted"), list(itertools.product(tuple(State)[1:], repeat=2)), ids=lambda each: each.name
)
def test_every_state_is_reached_through_those_in_between_or_refused_with_what_can_be(
    found: State, wanted: State
) -> None:
    if found is wanted:
        assert way(found, wanted) == ()
    elif (found, wanted) in WAYS:
        assert list(way(found, wanted)) == WAYS[found, wanted]
    else:
        allowed = ", ".join(each.name for source, each in WAYS if source is found)
        expected = rf"{wanted.name} is not reached from {found.name} \(possible: {allowed}\)"
        with pytest.raises(StateNotReachable, match=expected):
            way(found, wanted)
