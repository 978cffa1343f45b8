"""The life cycles at work: one step of a machine with its effects, within one transaction of the store.

What the PCF is owed is kept as the due time of the dynamic policy, so that a restart does not forget it.
"""

from __future__ import annotations

from datetime import datetime

from nf.af import policy_templates
from nf.af.machine import (
    DYNAMIC_POLICY,
    POLICY_TEMPLATE,
    DynamicPolicyEffect,
    DynamicPolicyEvent,
    DynamicPolicyState,
    TemplateEffect,
    TemplateEvent,
    TemplateState,
)
from nf.af.v1.media_session_pb2 import DynamicPolicy, DynamicPolicyStateChanged
from nf.af.v1.provisioning_pb2 import PolicyTemplate, PolicyTemplateStateChanged
from nf.af.visibility import audience_of
from nf.common.resources import copy_of
from nf.common.store import KEEP, Keep, Transaction
from nf.common.v1.types_pb2 import InvalidParam, ProblemDetails
from nf.pcf.v1.policy_authorization_pb2 import AppSession

SOURCE = "af"
# The lookup by which the dynamic policies of a template are found.
BY_TEMPLATE = "policy_template_id"


def template_subject(policy_template_id: str) -> str:
    """The subject of a template's events."""
    return f"policy-templates/{policy_template_id}"


def policy_subject(dynamic_policy_id: str) -> str:
    """The subject of a dynamic policy's events."""
    return f"dynamic-policies/{dynamic_policy_id}"


def step_template(
    transaction: Transaction,
    template: PolicyTemplate,
    event: TemplateEvent,
    *,
    detail: str = "",
    invalid_params: tuple[InvalidParam, ...] = (),
) -> PolicyTemplate:
    """Stores ``template``, whose content may have changed, in the state that ``event`` leads to, with all that follows.

    ``detail`` is the operator's word, ``invalid_params`` the validation's. Returns the template as stored; one that is
    destroyed as it was. Raises InvalidTransition.
    """
    previous = TemplateState(template.state)
    step = POLICY_TEMPLATE.step(previous, event)
    if TemplateEffect.DESTROY in step.effects:
        _end_instances(transaction, template, "destroyed", "POLICY_TEMPLATE_DELETED", destroy=True)
        transaction.delete(PolicyTemplate, template.policy_template_id)
        return template
    after = copy_of(template)
    after.state = PolicyTemplate.State.ValueType(step.state)
    if step.state is not previous:
        reason = policy_templates.state_reason(step.state, detail=detail, invalid_params=invalid_params)
        after.state_reason.CopyFrom(reason)
    due = transaction.clock.now() if TemplateEffect.VALIDATE in step.effects else None
    stored = transaction.update(after, after.policy_template_id, due=due)
    if TemplateEffect.TELL in step.effects:
        transaction.emit(
            "POLICY_TEMPLATE_STATE",
            template_subject(stored.policy_template_id),
            PolicyTemplateStateChanged(policy_template=stored, previous_state=template.state),
            source=SOURCE,
            audience=audience_of(transaction, stored),
        )
    if TemplateEffect.TERMINATE in step.effects:
        _end_instances(transaction, stored, step.state.name, stored.state_reason.cause, destroy=False)
    if TemplateEffect.REAUTHORISE in step.effects:
        for policy in transaction.find(DynamicPolicy, BY_TEMPLATE, stored.policy_template_id):
            step_policy(transaction, policy, DynamicPolicyEvent.TEMPLATE_CHANGED)
    return stored


def step_policy(
    transaction: Transaction,
    policy: DynamicPolicy,
    event: DynamicPolicyEvent,
    *,
    reason: ProblemDetails | None = None,
    path: str = "",
    owed_from: datetime | None = None,
    due: datetime | Keep | None = KEEP,
) -> DynamicPolicy | None:
    """Stores ``policy``, whose content may have changed, in the state that ``event`` leads to, with all that follows.

    ``reason`` says why it changed, ``path`` the reference points that the news has crossed. What the PCF is owed by
    this step is due at ``owed_from`` (now); where it is owed nothing, ``due`` says what becomes of the due time.
    Returns the policy as stored, None when it is gone. Raises InvalidTransition.
    """
    previous = DynamicPolicyState(policy.state)
    step = DYNAMIC_POLICY.step(previous, event)
    if DynamicPolicyEffect.FORGET in step.effects:
        transaction.delete(DynamicPolicy, policy.dynamic_policy_id)
        transaction.delete(AppSession, policy.dynamic_policy_id)
        return None
    after = copy_of(policy)
    after.state = DynamicPolicy.State.ValueType(step.state)
    if reason is not None and step.state is not previous:
        after.state_reason.CopyFrom(reason)
    elif step.state is DynamicPolicyState.ACTIVE:
        after.ClearField("state_reason")
    if {DynamicPolicyEffect.RELEASE, DynamicPolicyEffect.REAUTHORISE} & set(step.effects):
        due = owed_from or transaction.clock.now()
    stored = transaction.update(after, after.dynamic_policy_id, due=due)
    if DynamicPolicyEffect.TELL in step.effects:
        tell_policy(transaction, stored, previous, path=path)
    return stored


def tell_policy(
    transaction: Transaction, policy: DynamicPolicy, previous: DynamicPolicyState, *, path: str = ""
) -> None:
    """Tells subscribers what a policy has become, from the state ``previous``."""
    transaction.emit(
        "DYNAMIC_POLICY_STATE",
        policy_subject(policy.dynamic_policy_id),
        DynamicPolicyStateChanged(dynamic_policy=policy, previous_state=DynamicPolicy.State.ValueType(previous)),
        source=SOURCE,
        path=path,
        audience=audience_of(transaction, policy),
    )


def _end_instances(transaction: Transaction, template: PolicyTemplate, how: str, cause: str, *, destroy: bool) -> None:
    reason = ProblemDetails(
        title="The policy template may no longer be used",
        detail=f"policy template {template.external_reference!r} is {how}"
        + (f": {template.state_reason.detail}" if not destroy and template.state_reason.detail else ""),
        cause=cause,
    )
    for policy in transaction.find(DynamicPolicy, BY_TEMPLATE, template.policy_template_id):
        ended = step_policy(transaction, policy, DynamicPolicyEvent.WITHDRAWN, reason=reason)
        if destroy and ended is not None:
            step_policy(transaction, ended, DynamicPolicyEvent.DELETED)
