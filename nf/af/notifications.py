"""What the PCF tells becomes states and events of dynamic policies (TS 29.514 §4.2.5, TS 26.512 A.3.1)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from nf.af import dynamic_policies, intentions
from nf.af.activation import Activation
from nf.af.machine import DynamicPolicyEvent
from nf.af.transitions import policy_subject, step_policy
from nf.af.v1.media_session_pb2 import DynamicPolicy
from nf.af.visibility import audience_of
from nf.common.store import Reader, Store, Transaction
from nf.common.v1.events_pb2 import Event, WatchEventsRequest
from nf.common.v1.types_pb2 import ProblemDetails
from nf.pcf.v1 import policy_authorization_pb2 as n5

if TYPE_CHECKING:
    from nf.pcf.v1.policy_authorization_pb2_grpc import PcfEventsServiceAsyncStub

SUBSCRIPTION = "af from pcf"

_LOST = {
    n5.AF_EVENT_FAILED_RESOURCES_ALLOCATION: ProblemDetails(
        title="The network no longer enforces the policy", cause="FAILED_RESOURCES_ALLOCATION"
    ),
    n5.AF_EVENT_PDU_SESSION_STATUS: ProblemDetails(
        title="The PDU session of the UE has gone", cause="PDU_SESSION_NOT_AVAILABLE"
    ),
}


def beyond_n5(path: str) -> str:
    """The reference points that an event of the PCF has crossed when the AF tells it."""
    return f"{path}>N5" if path else "N5"


async def pcf_events(stub: PcfEventsServiceAsyncStub, after_sequence: int) -> AsyncIterator[Event]:
    """The PCF's events after a sequence."""
    async for response in stub.WatchEvents(WatchEventsRequest(after_sequence=after_sequence)):
        yield response.event


async def prepare(activation: Activation, store: Store, event: Event) -> bool:
    """Before an event takes effect: what is under way for its policy ends, so an activation comes before its news.

    False: the answers of the PCF have told already what is in force.
    """
    notification = n5.EventNotification()
    if not event.payload.Unpack(notification):
        return True
    await activation.settled(notification.app_session_id)
    if notification.event != n5.AF_EVENT_SUCCESSFUL_RESOURCES_ALLOCATION:
        return True
    return await store.read(lambda reader: _is_news(reader, notification))


def _is_news(reader: Reader, notification: n5.EventNotification) -> bool:
    policy = reader.get(DynamicPolicy, notification.app_session_id)
    if policy is None or policy.state == DynamicPolicy.STATE_INTERRUPTED:
        return policy is not None
    return not intentions.is_known(reader, notification)


def handle(transaction: Transaction, event: Event) -> None:
    """The effects of one event of the PCF. Application sessions that are none of this AF's have none."""
    notification = n5.EventNotification()
    if not event.payload.Unpack(notification):
        return
    policy = transaction.get(DynamicPolicy, notification.app_session_id)
    if policy is None:
        return
    path = beyond_n5(event.path)
    if notification.event == n5.AF_EVENT_USAGE_REPORT:
        compliant = policy.state != DynamicPolicy.STATE_EXCEEDED
        _pass_on(transaction, event, policy, notification, compliant=compliant)
    elif notification.event == n5.AF_EVENT_QOS_NOTIF:
        _pass_on(transaction, event, policy, notification, compliant=notification.compliant)
        if notification.compliant:
            step_policy(transaction, policy, DynamicPolicyEvent.KEPT_THRESHOLD, path=path)
        else:
            _leave_threshold(transaction, policy, path)
    elif notification.event == n5.AF_EVENT_SUCCESSFUL_RESOURCES_ALLOCATION:
        _take_enforcement(transaction, policy, notification, path)
    elif notification.state == n5.AppSession.STATE_INTERRUPTED:
        reason = notification.problem
        step_policy(transaction, policy, DynamicPolicyEvent.UNENFORCED, reason=reason, path=path)
    elif notification.event in _LOST:
        reason = notification.problem if notification.HasField("problem") else _LOST[notification.event]
        step_policy(transaction, policy, DynamicPolicyEvent.LOST, reason=reason, path=path)


def _leave_threshold(transaction: Transaction, policy: DynamicPolicy, path: str) -> None:
    reason = dynamic_policies.exceeded_reason(policy)
    step_policy(transaction, policy, DynamicPolicyEvent.LEFT_THRESHOLD, reason=reason, path=path)


def _take_enforcement(
    transaction: Transaction, policy: DynamicPolicy, notification: n5.EventNotification, path: str
) -> None:
    """What is enforced now, which the PCF may have decided by itself; and that it is enforced again."""
    intentions.refresh(transaction, policy, notification)
    current = transaction.get(DynamicPolicy, policy.dynamic_policy_id)
    if current is None or current.state != DynamicPolicy.STATE_INTERRUPTED:
        return
    if notification.state != n5.AppSession.STATE_ACTIVE:
        return
    enforced = step_policy(transaction, current, DynamicPolicyEvent.ENFORCED, path=path)
    if enforced is not None and not notification.compliant:
        _leave_threshold(transaction, enforced, path)


def _pass_on(
    transaction: Transaction,
    event: Event,
    policy: DynamicPolicy,
    notification: n5.EventNotification,
    *,
    compliant: bool,
) -> None:
    """Tells in M5's words what is not of the AF's own finding: it keeps the source that found it."""
    transaction.emit(
        event.type,
        policy_subject(notification.app_session_id),
        dynamic_policies.usage(notification, compliant=compliant),
        source=event.source,
        path=beyond_n5(event.path),
        audience=audience_of(transaction, policy),
    )
