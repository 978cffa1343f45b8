"""Application sessions in the store: their transitions, and the events that an AF hears (TS 29.514 §4.2.5).

Works within the store's transactions; what has to be said to the SMF is said by ``nf.pcf.enforcement``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from nf.common.errors import CastcoreError
from nf.common.resources import copy_of
from nf.common.store import KEEP, Keep, Reader, Transaction
from nf.common.usage import usage_of
from nf.common.v1.types_pb2 import ProblemDetails
from nf.pcf.ledger import LedgerRule, account_of, rule_of_session
from nf.pcf.machine import APP_SESSION, Effect, Event, State
from nf.pcf.v1.policy_authorization_pb2 import AfEvent, AppSession, EventNotification

SOURCE: Final = "pcf"

_USAGE_REPORT: Final = AfEvent.AF_EVENT_USAGE_REPORT
_NOTIFICATIONS: Final = {
    Effect.NOTIFY_SUCCESSFUL_RESOURCES_ALLOCATION: AfEvent.AF_EVENT_SUCCESSFUL_RESOURCES_ALLOCATION,
    Effect.NOTIFY_FAILED_RESOURCES_ALLOCATION: AfEvent.AF_EVENT_FAILED_RESOURCES_ALLOCATION,
    Effect.NOTIFY_PDU_SESSION_STATUS: AfEvent.AF_EVENT_PDU_SESSION_STATUS,
}


def problem_of(error: CastcoreError) -> ProblemDetails:
    """What an event tells about a refusal."""
    return ProblemDetails(title=error.reason, detail=error.message, cause=error.cause)


def emit(transaction: Transaction, session: AppSession, notification: EventNotification, *, path: str = "") -> None:
    """Tells the AF, unless it has asked for other events only."""
    wanted = session.asc_req_data.events
    if wanted and notification.event not in wanted:
        return
    event_type = AfEvent.Name(notification.event).removeprefix("AF_EVENT_")
    transaction.emit(event_type, f"app-sessions/{session.app_session_id}", notification, source=SOURCE, path=path)


def step(
    transaction: Transaction,
    session: AppSession,
    event: Event,
    *,
    problem: ProblemDetails | None = None,
    path: str = "",
    due: datetime | Keep | None = KEEP,
) -> AppSession:
    """Does in the store what ``event`` brings about, and returns the session as it is then.

    ``problem`` is told with the event that goes out, ``path`` is what the news has crossed. ``due`` is when
    the time of a usage threshold is over. Raises InvalidTransition.
    """
    transition = APP_SESSION.step(State(session.state), event)
    changed = copy_of(session)
    changed.state = AppSession.State.ValueType(transition.state.value)
    if event is Event.INSTALLED:
        changed.asc_resp_data.revision += 1
    if Effect.FORGET in transition.effects:
        transaction.delete(AppSession, session.app_session_id)
    else:
        changed = transaction.update(changed, session.app_session_id, due=due)
    for effect in transition.effects:
        if effect in _NOTIFICATIONS:
            notification = EventNotification(
                app_session_id=session.app_session_id,
                event=_NOTIFICATIONS[effect],
                problem=problem,
                state=changed.state,
            )
            if effect is Effect.NOTIFY_SUCCESSFUL_RESOURCES_ALLOCATION:
                notification.enforcement.CopyFrom(changed.asc_resp_data.enforcement)
                notification.revision = changed.asc_resp_data.revision
                if event is Event.USER_PLANE_RESTORED:
                    rule = rule_of_session(transaction, session.app_session_id)
                    notification.compliant = rule is None or rule.compliant
            emit(transaction, changed, notification, path=path)
    return changed


def usage_notification(reader: Reader, rule: LedgerRule) -> EventNotification:
    """The USAGE_REPORT on all that a session has used so far."""
    account = account_of(reader, rule)
    return EventNotification(
        app_session_id=rule.app_session_id,
        event=_USAGE_REPORT,
        usage=usage_of(account.counters),
        zero_rated_bytes=account.rated.zero_rated_bytes,
        charged_bytes=account.rated.charged_bytes,
        compliant=rule.compliant,
    )


def final_usage(reader: Reader, app_session_id: str) -> EventNotification:
    """What a session has used in all, as far as it was reported; nothing for a session that never was."""
    rule = rule_of_session(reader, app_session_id)
    if rule is None:
        return EventNotification(app_session_id=app_session_id, event=_USAGE_REPORT)
    return usage_notification(reader, rule)
