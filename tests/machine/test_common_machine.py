"""A life cycle as a table."""

from __future__ import annotations

from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nf.common.errors import FailedPrecondition
from nf.common.machine import InvalidTransition, Machine, Transition
from nf.pcf.v1.policy_authorization_pb2 import AppSession


class Door(Enum):
    SHUT = 1
    OPEN = 2
    GONE = 3


class Deed(Enum):
    PUSH = 1
    PULL = 2
    SMASH = 3


class Effect(Enum):
    CREAK = 1
    DUST = 2


DOOR = Machine(
    "door",
    {
        (Door.SHUT, Deed.PUSH): Transition(Door.OPEN, (Effect.CREAK,)),
        (Door.OPEN, Deed.PULL): Transition(Door.SHUT),
        (Door.OPEN, Deed.SMASH): Transition(Door.GONE, (Effect.CREAK, Effect.DUST)),
    },
)


def test_a_step_gives_the_next_state_and_its_effects() -> None:
    assert DOOR.step(Door.SHUT, Deed.PUSH) == Transition(Door.OPEN, (Effect.CREAK,))
    assert DOOR.states == (Door.SHUT, Door.OPEN, Door.GONE)
    assert DOOR.events == (Deed.PUSH, Deed.PULL, Deed.SMASH)


@given(st.sampled_from(Door), st.sampled_from(Deed))
def test_every_pair_is_in_the_table_or_refused(state: Door, event: Deed) -> None:
    if (state, event) in DOOR.table:
        assert DOOR.step(state, event) is DOOR.table[state, event]
    else:
        with pytest.raises(InvalidTransition):
            DOOR.step(state, event)


def test_a_refusal_names_machine_event_state_and_what_is_possible() -> None:
    with pytest.raises(FailedPrecondition, match="door: PUSH is not possible in state OPEN") as caught:
        DOOR.step(Door.OPEN, Deed.PUSH)
    assert "(possible: PULL, SMASH)" in str(caught.value)
    assert caught.value.reason == "INVALID_TRANSITION"
    assert caught.value.metadata == {"machine": "door", "state": "OPEN", "event": "PUSH"}
    with pytest.raises(FailedPrecondition, match=r"\(possible: nothing\)"):
        DOOR.step(Door.GONE, Deed.PUSH)


def test_the_drawing_is_the_table() -> None:
    assert DOOR.mermaid() == (
        "stateDiagram-v2\n"
        "    [*] --> SHUT\n"
        "    SHUT --> OPEN: PUSH / CREAK\n"
        "    OPEN --> SHUT: PULL\n"
        "    OPEN --> GONE: SMASH / CREAK, DUST\n"
        "    GONE --> [*]\n"
    )


def test_proto_states_are_written_by_their_names() -> None:
    machine = Machine(
        "app session",
        {(AppSession.STATE_AUTHORIZING, Deed.PUSH): Transition(AppSession.STATE_ACTIVE)},
        title=lambda state: AppSession.State.Name(state).removeprefix("STATE_"),
    )
    assert "AUTHORIZING --> ACTIVE: PUSH" in machine.mermaid()
    with pytest.raises(InvalidTransition, match="in state ACTIVE"):
        machine.step(AppSession.STATE_ACTIVE, Deed.PUSH)
