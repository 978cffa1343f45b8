"""What a dynamic policy is to become, worked out and kept before the PCF is asked, and what is stored of its answer.

Each function works within one transaction of the store; ``activation`` calls the PCF between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from google.protobuf.field_mask_pb2 import FieldMask

from nf.af import dynamic_policies, flow_descriptions, provisioning
from nf.af.errors import DynamicPolicyTerminated, PolicyTemplateNotReady
from nf.af.flow_descriptions import FlowDescription
from nf.af.machine import DYNAMIC_POLICY, RUNNING, DynamicPolicyEvent, DynamicPolicyState
from nf.af.providers import UNRESTRICTED
from nf.af.transitions import BY_TEMPLATE, policy_subject, step_policy, tell_policy
from nf.af.ue_address import Caller
from nf.af.v1 import media_session_pb2 as m5
from nf.af.v1.provisioning_pb2 import PolicyTemplate, ProvisioningSession
from nf.af.visibility import audience_of
from nf.common.clock import to_ns
from nf.common.errors import FailedPrecondition, InvalidArgument
from nf.common.reader import MAX_INTEGER
from nf.common.resources import apply_mask, check_etag, copy_of
from nf.common.store import KEEP, Keep, Reader, Transaction
from nf.common.v1.types_pb2 import ProblemDetails
from nf.pcf.v1 import policy_authorization_pb2 as n5

CREATE_METHOD = "CreateDynamicPolicy"
FLOWS_FIELD = "dynamic_policy.service_data_flow_descriptions"
# A call to the PCF has ended by then; if its outcome is not stored, nobody will store it.
LEASE = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Desired:
    """What is about to be asked of the PCF, and what it was worked out from."""

    policy: m5.DynamicPolicy
    template: PolicyTemplate
    session: ProvisioningSession
    request: n5.AppSessionContextReqData


def require_own(reader: Reader, policy_id: str, caller: Caller) -> m5.DynamicPolicy:
    """The policy. Raises NotFound, and UeAddressMismatch when it is for another UE than the caller."""
    policy = reader.require(m5.DynamicPolicy, policy_id)
    caller.check_owner(flow_descriptions.network(policy.ue_address))
    return policy


def admit(
    transaction: Transaction,
    request: m5.CreateDynamicPolicyRequest,
    policy: m5.DynamicPolicy,
    flows: Sequence[FlowDescription],
) -> Desired | m5.DynamicPolicy:
    """Stores the intention to activate; for a request_id that is known, the policy that it made or was to make."""
    admitted: list[Desired] = []

    def intend() -> m5.DynamicPolicy:
        session = provisioning.require_session(transaction, policy.provisioning_session_id, UNRESTRICTED)
        template = provisioning.require_template(
            transaction, policy.provisioning_session_id, policy.policy_template_id, UNRESTRICTED
        )
        _require_ready(template)
        dynamic_policies.check_granted(policy.qos_specification, template)
        created = copy_of(policy)
        created.create_time.FromNanoseconds(to_ns(transaction.clock.now()))
        asked = dynamic_policies.app_session_request(created, flows, template, session)
        stored = transaction.insert(
            created,
            created.dynamic_policy_id,
            parent=session.provisioning_session_id,
            lookups={BY_TEMPLATE: template.policy_template_id},
            # If this AF dies meanwhile, it or another one settles it.
            due=transaction.clock.now() + LEASE,
        )
        admitted.append(Desired(stored, template, session, asked))
        return stored

    known = transaction.once(request.request_id, CREATE_METHOD, request, intend)
    return admitted[0] if admitted else known


def intend(transaction: Transaction, request: m5.UpdateDynamicPolicyRequest, caller: Caller) -> Desired:
    """What an update comes to; from here on the PCF is owed what the policy is now, until the update is stored."""
    changes = request.dynamic_policy
    policy = require_own(transaction, changes.dynamic_policy_id, caller)
    check_etag(policy.etag, changes.etag, f"DynamicPolicy {policy.dynamic_policy_id!r}")
    if policy.state == m5.DynamicPolicy.STATE_TERMINATED:
        raise ended(policy.dynamic_policy_id, policy)
    DYNAMIC_POLICY.step(DynamicPolicyState(policy.state), DynamicPolicyEvent.UPDATED)
    changed = apply_mask(policy, changes, request.update_mask, dynamic_policies.SETTABLE)
    dynamic_policies.check(changed)
    flows = flow_descriptions.parse(changed.service_data_flow_descriptions, FLOWS_FIELD)
    named = flow_descriptions.ue_side(flows, FLOWS_FIELD)
    ue = flow_descriptions.network(policy.ue_address)
    if named is not None and not flow_descriptions.is_same_ue(named, ue):
        caller.check_owner(named)
        raise InvalidArgument.of(
            FLOWS_FIELD, f"the policy is for the UE {policy.ue_address}, the flows name {named.network_address}"
        )
    desired = _desire(transaction, changed, flows)
    if desired.template.state != PolicyTemplate.STATE_READY and changed.qos_specification != policy.qos_specification:
        _require_ready(desired.template)
    if changed.qos_specification != policy.qos_specification:
        dynamic_policies.check_granted(changed.qos_specification, desired.template)
    transaction.update(policy, policy.dynamic_policy_id, due=transaction.clock.now() + LEASE)
    return desired


def _desire(reader: Reader, policy: m5.DynamicPolicy, flows: Sequence[FlowDescription]) -> Desired:
    session = reader.require(ProvisioningSession, policy.provisioning_session_id)
    template = reader.require(PolicyTemplate, policy.policy_template_id)
    known = reader.require(n5.AppSession, policy.dynamic_policy_id).asc_req_data
    if template.state == PolicyTemplate.STATE_READY:
        asked = dynamic_policies.app_session_request(policy, flows, template, session, previous=known)
        # What binds an application session to its PDU session stays as it is; ``displacement`` judges it.
        asked = dynamic_policies.rebound(asked, known)
    else:
        # What a changed template says does not count before it has been validated; flows come and go meanwhile.
        asked = dynamic_policies.with_flows(known, policy, flows, previous=known)
    return Desired(policy, template, session, asked)


def desire_again(reader: Reader, policy_id: str) -> Desired | ProblemDetails:
    """What a running policy comes to by its template as it is now; why it cannot go on where that is so."""
    policy = reader.require(m5.DynamicPolicy, policy_id)
    desired = _desire(reader, policy, flow_descriptions.parse(policy.service_data_flow_descriptions, FLOWS_FIELD))
    return dynamic_policies.displacement(desired.request, desired.template) or desired


def acknowledge(
    transaction: Transaction,
    request: m5.CreateDynamicPolicyRequest,
    desired: Desired,
    answer: n5.AppSessionContextRespData,
) -> m5.DynamicPolicy | None:
    """Stores that the PCF has put a new policy in force; None when the policy has ended meanwhile."""
    stored = transaction.require(m5.DynamicPolicy, desired.policy.dynamic_policy_id)
    if stored.state != m5.DynamicPolicy.STATE_ACTIVATING:
        transaction.forget(request.request_id, CREATE_METHOD)
        return None
    transaction.insert(_record(desired, answer), stored.dynamic_policy_id)
    active = dynamic_policies.enforced(
        stored, answer.enforcement, desired.template.service_description_id, desired.session
    )
    due = _due_after(transaction, desired.template)
    acknowledged = step_policy(transaction, active, DynamicPolicyEvent.AUTHORISED, due=due)
    if acknowledged is not None:
        # From here on a repeat of the request is answered with this policy and no other.
        transaction.answer_otherwise(request.request_id, CREATE_METHOD, acknowledged)
    return acknowledged


def give_up(
    transaction: Transaction, request: m5.CreateDynamicPolicyRequest, policy_id: str, outcome: DynamicPolicyEvent
) -> None:
    """Stores that a new policy was REFUSED, or ABANDONED because nobody knows; a repeat is a new try."""
    transaction.forget(request.request_id, CREATE_METHOD)
    policy = transaction.require(m5.DynamicPolicy, policy_id)
    if policy.state == m5.DynamicPolicy.STATE_ACTIVATING:
        step_policy(transaction, policy, outcome)


def begin_deletion(transaction: Transaction, request: m5.DeleteDynamicPolicyRequest, caller: Caller) -> None:
    """Stores that a policy is to go. Raises NotFound, UeAddressMismatch, EtagMismatch."""
    policy = require_own(transaction, request.dynamic_policy_id, caller)
    check_etag(policy.etag, request.etag, f"DynamicPolicy {policy.dynamic_policy_id!r}")
    step_policy(transaction, policy, DynamicPolicyEvent.DELETED, owed_from=transaction.clock.now() + LEASE)


def released(transaction: Transaction, policy_id: str, final: n5.EventNotification) -> None:
    """Stores that the PCF has let go of a policy, and tells what it has used in all."""
    policy = transaction.get(m5.DynamicPolicy, policy_id)
    if policy is None:
        return
    if final.HasField("usage"):
        transaction.emit(
            "USAGE_REPORT",
            policy_subject(policy_id),
            dynamic_policies.usage(final, compliant=final.compliant),
            source="pcf",
            path="N4>N7>N5",
            audience=audience_of(transaction, policy),
        )
    step_policy(transaction, policy, DynamicPolicyEvent.RELEASED, due=None)


def owe_unfinished(transaction: Transaction, begun: datetime) -> None:
    """Stores that what was under way before ``begun`` is to be settled: nobody may be at it any more."""
    owed = {
        policy.dynamic_policy_id
        for policy in transaction.all(m5.DynamicPolicy)
        if policy.state == m5.DynamicPolicy.STATE_ACTIVATING and policy.create_time.ToDatetime(UTC) <= begun
    }
    leased = transaction.due(m5.DynamicPolicy, begun + LEASE, limit=MAX_INTEGER)
    for policy_id in owed | {each.name for each in leased}:
        owe(transaction, policy_id)


def put_in_force(
    transaction: Transaction, desired: Desired, answer: n5.AppSessionContextRespData
) -> m5.DynamicPolicy | None:
    """Stores what the PCF has put in force; None when the policy has ended meanwhile."""
    policy_id = desired.policy.dynamic_policy_id
    # The state may have changed since: the threshold left, say.
    current = transaction.get(m5.DynamicPolicy, policy_id)
    if current is None or DynamicPolicyState(current.state) not in RUNNING:
        return None
    changed = apply_mask(current, desired.policy, FieldMask(), dynamic_policies.SETTABLE)
    ready = desired.template.state == PolicyTemplate.STATE_READY
    service_description_id = (
        desired.template.service_description_id if ready else current.service_descriptor_filter.service_description_id
    )
    changed = dynamic_policies.enforced(changed, answer.enforcement, service_description_id, desired.session)
    transaction.put(_record(desired, answer), policy_id)
    return _update(transaction, current, changed, due=_due_after(transaction, desired.template))


def _record(desired: Desired, answer: n5.AppSessionContextRespData) -> n5.AppSession:
    """What is kept of what the PCF was asked for and has answered: of the answer its revision, which tells news."""
    return n5.AppSession(
        app_session_id=desired.policy.dynamic_policy_id,
        asc_req_data=desired.request,
        asc_resp_data=n5.AppSessionContextRespData(revision=answer.revision),
    )


def is_known(reader: Reader, notification: n5.EventNotification) -> bool:
    """Whether the PCF's answers have told what an event says is in force, or what came after it."""
    record = reader.get(n5.AppSession, notification.app_session_id)
    return record is not None and notification.revision <= record.asc_resp_data.revision


def refresh(transaction: Transaction, policy: m5.DynamicPolicy, notification: n5.EventNotification) -> None:
    """Stores what the PCF enforces now, unless its answers have told that, or what came after it, already."""
    record = transaction.get(n5.AppSession, policy.dynamic_policy_id)
    if record is None or DynamicPolicyState(policy.state) not in RUNNING or is_known(transaction, notification):
        return
    record.asc_resp_data.revision = notification.revision
    transaction.update(record, policy.dynamic_policy_id)
    session = transaction.require(ProvisioningSession, policy.provisioning_session_id)
    service_description_id = policy.service_descriptor_filter.service_description_id
    changed = dynamic_policies.enforced(policy, notification.enforcement, service_description_id, session)
    if changed != policy:
        _update(transaction, policy, changed, due=KEEP)


def _update(
    transaction: Transaction, current: m5.DynamicPolicy, changed: m5.DynamicPolicy, *, due: datetime | Keep | None
) -> m5.DynamicPolicy | None:
    """Stores a running policy; subscribers are told when what the player goes by has changed."""
    stored = step_policy(transaction, changed, DynamicPolicyEvent.UPDATED, due=due)
    if stored is not None and (
        stored.enforcement_method != current.enforcement_method
        or stored.service_descriptor_filter != current.service_descriptor_filter
    ):
        tell_policy(transaction, stored, DynamicPolicyState(current.state))
    return stored


def take_back(transaction: Transaction, desired: Desired) -> None:
    """Stores that the PCF has refused a change: nothing of it is owed."""
    current = transaction.get(m5.DynamicPolicy, desired.policy.dynamic_policy_id)
    if current is not None and DynamicPolicyState(current.state) in RUNNING:
        transaction.update(current, current.dynamic_policy_id, due=_due_after(transaction, desired.template))


def _due_after(transaction: Transaction, used: PolicyTemplate) -> datetime | None:
    """When the PCF has to be asked again: at once if the template has become another one meanwhile, else never."""
    template = transaction.get(PolicyTemplate, used.policy_template_id)
    changed = template is not None and template.etag != used.etag and template.state == PolicyTemplate.STATE_READY
    return transaction.clock.now() if changed else None


def owe(transaction: Transaction, policy_id: str) -> None:
    """Stores that the PCF is to be asked again, as soon as possible."""
    policy = transaction.get(m5.DynamicPolicy, policy_id)
    if policy is not None:
        transaction.update(policy, policy_id, due=transaction.clock.now())


def end(
    transaction: Transaction, policy_id: str, event: DynamicPolicyEvent, reason: ProblemDetails | None = None
) -> None:
    """Stores that a policy has ended by ``event``; one that is gone stays so."""
    policy = transaction.get(m5.DynamicPolicy, policy_id)
    if policy is not None:
        step_policy(transaction, policy, event, reason=reason)


def forget_failed(transaction: Transaction, request: m5.CreateDynamicPolicyRequest, first: m5.DynamicPolicy) -> None:
    """Takes back that the request made ``first``, unless a repeat has done so and has made another policy since.

    Nobody is at ``first`` any more: what is left of it is settled.
    """
    left = transaction.get(m5.DynamicPolicy, first.dynamic_policy_id)
    if left is not None and left.state == m5.DynamicPolicy.STATE_ACTIVATING:
        owe(transaction, first.dynamic_policy_id)
    known = transaction.once(request.request_id, CREATE_METHOD, request, lambda: first)
    if known.dynamic_policy_id == first.dynamic_policy_id:
        transaction.forget(request.request_id, CREATE_METHOD)


def _require_ready(template: PolicyTemplate) -> None:
    if template.state != PolicyTemplate.STATE_READY:
        state = PolicyTemplate.State.Name(template.state).removeprefix("STATE_")
        detail = f": {template.state_reason.detail}" if template.state_reason.detail else ""
        raise PolicyTemplateNotReady(
            f"policy template {template.policy_template_id!r} is {state}, expected READY{detail}",
            cause=template.state_reason.cause or None,
            metadata={"policy_template_id": template.policy_template_id, "state": state},
        )


def ended(policy_id: str, policy: m5.DynamicPolicy | None = None) -> FailedPrecondition:
    """The error of who asks something of a policy that has ended, before or meanwhile."""
    reason = policy.state_reason if policy is not None else ProblemDetails(detail="it ended during the request")
    return DynamicPolicyTerminated(
        f"DynamicPolicy {policy_id!r} is terminated: {reason.detail or reason.title}", cause=reason.cause
    )
