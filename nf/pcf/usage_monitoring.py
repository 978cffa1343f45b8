"""Usage thresholds of application sessions: told once when reached (TS 29.514 §4.2.5.6, TS 29.122 UsageThreshold).

What has passed counts, from the moment the threshold was set; time runs whether or not something is used. Works within
the store's transactions.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from nf.common.resources import copy_of
from nf.common.store import Reader, Transaction
from nf.common.usage import usage_of
from nf.common.v1.types_pb2 import PolicedVolume
from nf.pcf.ledger import LedgerRule, account_of, rule_of_session
from nf.pcf.sessions import emit, usage_notification
from nf.pcf.v1.policy_authorization_pb2 import AppSession, UsageMonitoring


def begin(reader: Reader, session: AppSession) -> datetime | None:
    """Counts from now on for the session's threshold, if it has one; when its time will be over, if it has an end."""
    session.ClearField("usage_monitoring")
    if not session.asc_req_data.HasField("usg_thres"):
        return None
    downlink_bytes, uplink_bytes = _passed(reader, rule_of_session(reader, session.app_session_id))
    monitoring = UsageMonitoring(from_downlink_bytes=downlink_bytes, from_uplink_bytes=uplink_bytes)
    session.usage_monitoring.CopyFrom(monitoring)
    duration_s = session.asc_req_data.usg_thres.duration_s
    return reader.clock.now() + timedelta(seconds=duration_s) if duration_s else None


def tell_usage(transaction: Transaction, session: AppSession, rule: LedgerRule, *, path: str) -> None:
    """Tells what a session has used: at every report, or once when its threshold is reached."""
    threshold = session.asc_req_data.usg_thres
    if not session.asc_req_data.HasField("usg_thres"):
        emit(transaction, session, usage_notification(transaction, rule), path=path)
        return
    downlink_bytes, uplink_bytes = _passed(transaction, rule)
    downlink_bytes -= session.usage_monitoring.from_downlink_bytes
    uplink_bytes -= session.usage_monitoring.from_uplink_bytes
    if any(
        0 < limit_bytes <= used_bytes
        for limit_bytes, used_bytes in (
            (threshold.total_volume_bytes, downlink_bytes + uplink_bytes),
            (threshold.downlink_volume_bytes, downlink_bytes),
            (threshold.uplink_volume_bytes, uplink_bytes),
        )
    ):
        _reach(transaction, session, rule, path=path)


def end_of_time(transaction: Transaction, app_session_id: str) -> None:
    """The time of a session's threshold is over."""
    session = transaction.get(AppSession, app_session_id)
    if session is None:
        return
    rule = rule_of_session(transaction, app_session_id)
    if rule is None or session.state == AppSession.STATE_TERMINATED:
        transaction.update(session, app_session_id, due=None)
    else:
        _reach(transaction, session, rule, path="")


def _reach(transaction: Transaction, session: AppSession, rule: LedgerRule, *, path: str) -> None:
    told = session.usage_monitoring.reached
    reached = copy_of(session)
    reached.usage_monitoring.reached = True
    transaction.update(reached, session.app_session_id, due=None)
    if not told:
        notification = usage_notification(transaction, rule)
        notification.usage_threshold_reached = True
        emit(transaction, reached, notification, path=path)


def _passed(reader: Reader, rule: LedgerRule | None) -> tuple[int, int]:
    """Bytes that have passed of a rule, downlink and uplink."""
    if rule is None:
        return 0, 0
    usage = usage_of(account_of(reader, rule).counters)
    return _passed_bytes(usage.downlink), _passed_bytes(usage.uplink)


def _passed_bytes(volume: PolicedVolume) -> int:
    return volume.conforming.bytes + volume.exceeding.bytes
