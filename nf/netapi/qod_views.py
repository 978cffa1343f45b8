"""CAMARA Quality-On-Demand sessions as consumers read them, from what the platform keeps. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from nf.common.codec import to_json
from nf.common.v1.events_pb2 import Event
from nf.netapi.camara_checks import uuid_text
from nf.netapi.cloud_events import Data
from nf.netapi.v1.booking_pb2 import (
    OUTSIDE_POLICY_BEST_EFFORT,
    AreaCapability,
    BookedTraffic,
    BookingPeriod,
    BookingRequest,
    Population,
)
from nf.netapi.v1.camara_qod_pb2 import (
    QOS_STATUS_REQUESTED,
    QOS_STATUS_UNAVAILABLE,
    QodSession,
    QodSessionInfo,
    QodSessionStatusChanged,
    QosStatusChangedData,
)
from nf.netapi.v1.monitoring_pb2 import EventSink

# Through which door bookings and sinks were made, and how events of sessions are called.
DOOR: Final = "quality-on-demand"
STATUS_EVENT: Final = "QOD_SESSION_STATUS"
_CLOUD_EVENT: Final = "org.camaraproject.quality-on-demand.v1.qos-status-changed"


def subject_of(booking_id: str) -> str:
    """The subject of the events of a session."""
    return f"bookings/{booking_id}/{DOOR}"


def booking_request(
    area_id: str, profile_id: str, flow_descriptions: list[str], start: datetime, duration_s: int
) -> BookingRequest:
    """What a session is at the platform: one device, one area, one period."""
    return BookingRequest(
        population=Population(application_id=DOOR, devices=1),
        traffic=BookedTraffic(flow_descriptions=flow_descriptions),
        periods=[period(start, duration_s)],
        area_capabilities=[AreaCapability(area_id=area_id, profile_id=profile_id)],
        outside=OUTSIDE_POLICY_BEST_EFFORT,
    )


def period(start: datetime, duration_s: int) -> BookingPeriod:
    """So long from a start on."""
    made = BookingPeriod()
    made.start_time.FromDatetime(start)
    made.stop_time.FromDatetime(start + timedelta(seconds=duration_s))
    return made


def info_of(session: QodSession) -> QodSessionInfo:
    """The session for its consumer."""
    asked = session.asked
    info = QodSessionInfo(
        application_server=asked.application_server,
        qos_profile=asked.qos_profile,
        session_id=uuid_text(session.booking_id),
        duration_s=session.duration_s,
        qos_status=session.status,
    )
    if asked.HasField("device"):
        info.device.CopyFrom(asked.device)
    if asked.HasField("device_ports"):
        info.device_ports.CopyFrom(asked.device_ports)
    if asked.HasField("application_server_ports"):
        info.application_server_ports.CopyFrom(asked.application_server_ports)
    if asked.HasField("sink"):
        info.sink = asked.sink
    if session.status == QOS_STATUS_REQUESTED:
        return info
    if session.HasField("start_time"):
        info.started_at.CopyFrom(session.start_time)
    if session.HasField("expire_time"):
        info.expires_at.CopyFrom(session.expire_time)
    if session.status == QOS_STATUS_UNAVAILABLE:
        info.status_info = session.status_info
        info.duration_s = _had_s(session)
    return info


def cloud_event(event: Event, sink: EventSink) -> tuple[str, Data] | None:
    """What a sink of the door is told of an event."""
    del sink
    changed = QodSessionStatusChanged()
    if event.type != STATUS_EVENT or not event.payload.Unpack(changed):
        return None
    session = changed.session
    data = QosStatusChangedData(session_id=uuid_text(session.booking_id), qos_status=session.status)
    if session.status == QOS_STATUS_UNAVAILABLE:
        data.status_info = session.status_info
    return _CLOUD_EVENT, to_json(data)


def _had_s(session: QodSession) -> int:
    """How long it was had; what never began keeps what was granted."""
    if not session.HasField("start_time"):
        return session.duration_s
    seconds = (_moment(session.expire_time) - _moment(session.start_time)) / timedelta(seconds=1)
    return max(1, round(seconds))


def _moment(time: Timestamp) -> datetime:
    return time.ToDatetime(UTC)
