"""What the MBSF tells at Nmb10 (TS 26.502 §4.6.2, TS 29.580 Event): one envelope for events of every source."""

from __future__ import annotations

from nf.common.store import Transaction
from nf.mbsf.v1 import user_data_ingest_pb2 as ingest
from nf.mbsf.v1.life_cycle_pb2 import DistributionSession

SOURCE = "mbsf"


def session_subject(mbs_ing_session_id: str) -> str:
    """The subject of the events about an ingest session."""
    return f"mbs-ing-sessions/{mbs_ing_session_id}"


def distribution_subject(record: DistributionSession) -> str:
    """The subject of the events about a distribution session, which stands below that of its ingest session."""
    return f"{session_subject(record.mbs_ing_session_id)}/dist-sessions/{record.mbs_dist_session_id}"


def type_of(event: ingest.StatusEvent.ValueType) -> str:
    """The event's name in TS 29.580."""
    return ingest.StatusEvent.Name(event).removeprefix("STATUS_EVENT_")


def tell_session(transaction: Transaction, mbs_ing_session_id: str, event: ingest.StatusEvent.ValueType) -> None:
    """Tells of an ingest session."""
    notification = ingest.EventNotification(status_event=event, mbs_ing_session_id=mbs_ing_session_id)
    notification.time_stamp.FromNanoseconds(transaction.clock.now_ns())
    transaction.emit(type_of(event), session_subject(mbs_ing_session_id), notification, source=SOURCE, path="Nmb10")


def tell(
    transaction: Transaction,
    record: DistributionSession,
    event: ingest.StatusEvent.ValueType,
    *,
    source: str = SOURCE,
    path: str = "Nmb10",
    info: str = "",
    previous: DistributionSession | None = None,
) -> None:
    """Tells of a distribution session as ``record`` has it; ``previous``: as it was before."""
    notification = ingest.EventNotification(
        status_event=event,
        mbs_ing_session_id=record.mbs_ing_session_id,
        mbs_dis_session_id=record.mbs_dist_session_id,
        key=record.key,
        status_add_info=info,
        mbs_dist_sess_state=record.info.mbs_dist_sess_state,
    )
    if record.info.HasField("mbs_session_id"):
        notification.mbs_session_id.CopyFrom(record.info.mbs_session_id)
    if previous is not None:
        notification.previous_state = previous.info.mbs_dist_sess_state
    notification.time_stamp.FromNanoseconds(transaction.clock.now_ns())
    transaction.emit(type_of(event), distribution_subject(record), notification, source=source, path=path)
