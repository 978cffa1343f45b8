"""What the SMF tells becomes ledger entries and events towards AFs (TS 29.514 §4.2.5, TS 26.512 A.3.1)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import grpc

from nf.common.store import Transaction
from nf.common.telemetry import logger
from nf.common.usage import usage_of
from nf.common.v1.events_pb2 import Event, WatchEventsRequest
from nf.pcf.associations import close_association
from nf.pcf.enforcement import Enforcer, take_usage
from nf.pcf.ledger import account_of, find_rule, record_compliance
from nf.pcf.machine import APP_SESSION, State
from nf.pcf.machine import Event as PcfEvent
from nf.pcf.sessions import SOURCE, emit, step
from nf.pcf.v1.policy_authorization_pb2 import AfEvent, AppSession, EventNotification
from nf.smf.v1.mbs_session_pb2 import MbsSessionEventReport
from nf.smf.v1.pdu_session_pb2 import (
    PccRuleCompliance,
    PccRuleUsage,
    PduSession,
    PduSessionStatus,
    UserPlaneStatus,
)
from nf.smf.v1.pdu_session_pb2_grpc import SmfEventsServiceStub

SUBSCRIPTION: Final = "pcf from smf"

_log = logger(SOURCE)


def beyond_n7(path: str) -> str:
    """The reference points that an event of the SMF has crossed when the PCF tells it."""
    return f"{path}>N7" if path else "N7"


async def smf_events(channel: grpc.aio.Channel, after_sequence: int) -> AsyncIterator[Event]:
    """The SMF's events after a sequence."""
    async for response in SmfEventsServiceStub(channel).WatchEvents(WatchEventsRequest(after_sequence=after_sequence)):
        yield response.event


async def await_decision(enforcer: Enforcer, event: Event) -> bool:
    """Returns when no decision on the event's association is on its way: whether the event has effects here.

    The answer to a decision brings what was measured before it, which is rated by the terms before it: it goes first.
    """
    if event.payload.Is(MbsSessionEventReport.DESCRIPTOR):
        # For the MBSF.
        return False
    usage = PccRuleUsage()
    if event.payload.Unpack(usage):
        async with enforcer.lock(usage.sm_policy_id):
            return True
    return True


def handle(transaction: Transaction, event: Event) -> None:
    """The effects of one event of the SMF; what is not about an application session has none."""
    usage, compliance, status = PccRuleUsage(), PccRuleCompliance(), PduSessionStatus()
    user_plane = UserPlaneStatus()
    path = beyond_n7(event.path)
    if event.payload.Unpack(usage):
        take_usage(transaction, usage, path=path)
    elif event.payload.Unpack(compliance):
        _take_compliance(transaction, compliance, path=path)
    elif event.payload.Unpack(status):
        if status.state == PduSession.STATE_RELEASING:
            close_association(transaction, status.sm_policy_id)
    elif event.payload.Unpack(user_plane):
        news = PcfEvent.USER_PLANE_RESTORED if user_plane.enforced else PcfEvent.USER_PLANE_LOST
        problem = user_plane.problem if user_plane.HasField("problem") else None
        for session in transaction.all(AppSession):
            if APP_SESSION.step(State(session.state), news).state is not State(session.state):
                step(transaction, session, news, problem=problem, path=path)
    else:
        _log.warning("smf.event_ignored", type=event.type, payload=event.payload.type_url)


def _take_compliance(transaction: Transaction, compliance: PccRuleCompliance, *, path: str) -> None:
    rule = find_rule(transaction, sm_policy_id=compliance.sm_policy_id, pcc_rule_id=compliance.pcc_rule_id)
    if rule is None or not record_compliance(transaction, rule, compliance.compliant):
        return
    session = transaction.get(AppSession, rule.app_session_id)
    if session is None or session.state == AppSession.STATE_TERMINATED:
        return
    account = account_of(transaction, rule)
    notification = EventNotification(
        app_session_id=rule.app_session_id,
        event=AfEvent.AF_EVENT_QOS_NOTIF,
        usage=usage_of(account.counters),
        zero_rated_bytes=account.rated.zero_rated_bytes,
        charged_bytes=account.rated.charged_bytes,
        compliant=compliance.compliant,
        since_ns=compliance.since_ns,
    )
    emit(transaction, session, notification, path=path)
