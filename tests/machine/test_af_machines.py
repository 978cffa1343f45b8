"""The AF's life cycles, pair by pair: what each event does in each state, and that everything else is refused."""

from __future__ import annotations

import itertools

import pytest

from nf.af.machine import (
    DYNAMIC_POLICY,
    POLICY_TEMPLATE,
    RUNNING,
    DynamicPolicyEffect,
    DynamicPolicyEvent,
    DynamicPolicyState,
    TemplateEffect,
    TemplateEvent,
    TemplateState,
)
from nf.common.machine import InvalidTransition

TEMPLATE_STEPS = {
    ("PENDING", "VALIDATED"): ("READY", "TELL REAUTHORISE"),
    ("PENDING", "REFUSED"): ("INVALID", "TELL TERMINATE"),
    ("PENDING", "UPDATED"): ("PENDING", "VALIDATE"),
    ("PENDING", "DELETED"): ("GONE", "DESTROY"),
    ("INVALID", "UPDATED"): ("PENDING", "TELL VALIDATE"),
    ("INVALID", "DELETED"): ("GONE", "DESTROY"),
    ("READY", "UPDATED"): ("PENDING", "TELL VALIDATE"),
    ("READY", "WITHDRAWN"): ("SUSPENDED", "TELL TERMINATE"),
    ("READY", "DELETED"): ("GONE", "DESTROY"),
    ("SUSPENDED", "UPDATED"): ("SUSPENDED", ""),
    ("SUSPENDED", "RESUMED"): ("PENDING", "TELL VALIDATE"),
    ("SUSPENDED", "DELETED"): ("GONE", "DESTROY"),
}

POLICY_STEPS = {
    ("ACTIVATING", "AUTHORISED"): ("ACTIVE", "TELL"),
    ("ACTIVATING", "REFUSED"): ("GONE", "FORGET"),
    ("ACTIVATING", "ABANDONED"): ("DEACTIVATING", "RELEASE"),
    ("ACTIVATING", "LEFT_THRESHOLD"): ("ACTIVATING", ""),
    ("ACTIVATING", "KEPT_THRESHOLD"): ("ACTIVATING", ""),
    ("ACTIVATING", "TEMPLATE_CHANGED"): ("ACTIVATING", "REAUTHORISE"),
    ("ACTIVATING", "WITHDRAWN"): ("DEACTIVATING", "RELEASE"),
    ("ACTIVATING", "LOST"): ("DEACTIVATING", "RELEASE"),
    ("ACTIVATING", "DELETED"): ("DEACTIVATING", "RELEASE"),
    ("ACTIVE", "UPDATED"): ("ACTIVE", ""),
    ("ACTIVE", "LEFT_THRESHOLD"): ("EXCEEDED", "TELL"),
    ("ACTIVE", "KEPT_THRESHOLD"): ("ACTIVE", ""),
    ("ACTIVE", "TEMPLATE_CHANGED"): ("ACTIVE", "REAUTHORISE"),
    ("ACTIVE", "WITHDRAWN"): ("TERMINATED", "TELL RELEASE"),
    ("ACTIVE", "LOST"): ("TERMINATED", "TELL RELEASE"),
    ("ACTIVE", "DELETED"): ("DEACTIVATING", "TELL RELEASE"),
    ("EXCEEDED", "UPDATED"): ("EXCEEDED", ""),
    ("EXCEEDED", "LEFT_THRESHOLD"): ("EXCEEDED", ""),
    ("EXCEEDED", "KEPT_THRESHOLD"): ("ACTIVE", "TELL"),
    ("EXCEEDED", "TEMPLATE_CHANGED"): ("EXCEEDED", "REAUTHORISE"),
    ("EXCEEDED", "WITHDRAWN"): ("TERMINATED", "TELL RELEASE"),
    ("EXCEEDED", "LOST"): ("TERMINATED", "TELL RELEASE"),
    ("EXCEEDED", "DELETED"): ("DEACTIVATING", "TELL RELEASE"),
    ("ACTIVE", "UNENFORCED"): ("INTERRUPTED", "TELL"),
    ("EXCEEDED", "UNENFORCED"): ("INTERRUPTED", "TELL"),
    ("INTERRUPTED", "ENFORCED"): ("ACTIVE", "TELL"),
    ("INTERRUPTED", "UPDATED"): ("INTERRUPTED", ""),
    ("INTERRUPTED", "LEFT_THRESHOLD"): ("INTERRUPTED", ""),
    ("INTERRUPTED", "KEPT_THRESHOLD"): ("INTERRUPTED", ""),
    ("INTERRUPTED", "UNENFORCED"): ("INTERRUPTED", ""),
    ("INTERRUPTED", "TEMPLATE_CHANGED"): ("INTERRUPTED", "REAUTHORISE"),
    ("INTERRUPTED", "WITHDRAWN"): ("TERMINATED", "TELL RELEASE"),
    ("INTERRUPTED", "LOST"): ("TERMINATED", "TELL RELEASE"),
    ("INTERRUPTED", "DELETED"): ("DEACTIVATING", "TELL RELEASE"),
    ("ACTIVE", "ENFORCED"): ("ACTIVE", ""),
    ("EXCEEDED", "ENFORCED"): ("EXCEEDED", ""),
    ("ACTIVATING", "UNENFORCED"): ("ACTIVATING", ""),
    ("ACTIVATING", "ENFORCED"): ("ACTIVATING", ""),
    ("TERMINATED", "UNENFORCED"): ("TERMINATED", ""),
    ("TERMINATED", "ENFORCED"): ("TERMINATED", ""),
    ("DEACTIVATING", "UNENFORCED"): ("DEACTIVATING", ""),
    ("DEACTIVATING", "ENFORCED"): ("DEACTIVATING", ""),
    ("TERMINATED", "LEFT_THRESHOLD"): ("TERMINATED", ""),
    ("TERMINATED", "KEPT_THRESHOLD"): ("TERMINATED", ""),
    ("TERMINATED", "TEMPLATE_CHANGED"): ("TERMINATED", ""),
    ("TERMINATED", "WITHDRAWN"): ("TERMINATED", ""),
    ("TERMINATED", "LOST"): ("TERMINATED", ""),
    ("TERMINATED", "RELEASED"): ("TERMINATED", ""),
    ("TERMINATED", "DELETED"): ("DEACTIVATING", "TELL RELEASE"),
    ("DEACTIVATING", "LEFT_THRESHOLD"): ("DEACTIVATING", ""),
    ("DEACTIVATING", "KEPT_THRESHOLD"): ("DEACTIVATING", ""),
    ("DEACTIVATING", "TEMPLATE_CHANGED"): ("DEACTIVATING", ""),
    ("DEACTIVATING", "WITHDRAWN"): ("DEACTIVATING", ""),
    ("DEACTIVATING", "LOST"): ("DEACTIVATING", ""),
    ("DEACTIVATING", "DELETED"): ("DEACTIVATING", "RELEASE"),
    ("DEACTIVATING", "RELEASED"): ("GONE", "FORGET"),
}


@pytest.mark.parametrize(
    ("state", "event"), list(itertools.product(TemplateState, TemplateEvent)), ids=lambda each: each.name
)
def test_a_policy_template_knows_this_event_in_this_state_or_refuses_it(state: TemplateState, event: TemplateEvent):
    expected = TEMPLATE_STEPS.get((state.name, event.name))
    if expected is None:
        with pytest.raises(InvalidTransition, match=f"{event.name} is not possible in state {state.name}"):
            POLICY_TEMPLATE.step(state, event)
        return
    target, effects = expected
    transition = POLICY_TEMPLATE.step(state, event)
    assert transition.state is TemplateState[target]
    assert transition.effects == tuple(TemplateEffect[each] for each in effects.split())


@pytest.mark.parametrize(
    ("state", "event"), list(itertools.product(DynamicPolicyState, DynamicPolicyEvent)), ids=lambda each: each.name
)
def test_a_dynamic_policy_knows_this_event_in_this_state_or_refuses_it(
    state: DynamicPolicyState, event: DynamicPolicyEvent
):
    expected = POLICY_STEPS.get((state.name, event.name))
    if expected is None:
        with pytest.raises(InvalidTransition, match=f"{event.name} is not possible in state {state.name}"):
            DYNAMIC_POLICY.step(state, event)
        return
    target, effects = expected
    transition = DYNAMIC_POLICY.step(state, event)
    assert transition.state is DynamicPolicyState[target]
    assert transition.effects == tuple(DynamicPolicyEffect[each] for each in effects.split())


def test_whatever_leaves_the_running_states_owes_the_pcf_the_end_of_the_session():
    for (state, _), step in DYNAMIC_POLICY.table.items():
        if state in RUNNING and step.state not in RUNNING:
            assert DynamicPolicyEffect.RELEASE in step.effects


def test_every_state_can_reach_the_end():
    for machine, gone in ((POLICY_TEMPLATE, TemplateState.GONE), (DYNAMIC_POLICY, DynamicPolicyState.GONE)):
        reaching = {gone}
        for _ in machine.states:
            reaching |= {source for (source, _), step in machine.table.items() if step.state in reaching}
        assert reaching == set(machine.states)


def test_the_drawings_begin_with_what_a_create_makes():
    assert POLICY_TEMPLATE.mermaid().splitlines()[:2] == ["stateDiagram-v2", "    [*] --> PENDING"]
    assert DYNAMIC_POLICY.mermaid().splitlines()[:2] == ["stateDiagram-v2", "    [*] --> ACTIVATING"]
    assert "    GONE --> [*]" in DYNAMIC_POLICY.mermaid().splitlines()
