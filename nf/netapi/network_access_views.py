"""CAMARA accesses to dedicated networks as consumers read them, from what the platform keeps. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from nf.common.codec import to_json
from nf.common.v1.events_pb2 import Event
from nf.netapi.camara_checks import uuid_text
from nf.netapi.cloud_events import Data
from nf.netapi.v1.access_pb2 import DeviceAccess
from nf.netapi.v1.camara_dedicated_network_pb2 import (
    NETWORK_DEVICE_STATUS_DENIED,
    NETWORK_DEVICE_STATUS_GRANTED,
    NetworkAccess,
    NetworkAccessDevice,
    NetworkAccessDevicesChanged,
    NetworkAccessInfo,
    NetworkAccessMember,
    NetworkAccessStats,
    NetworkDeviceReason,
    NetworkDeviceResult,
    NetworkDeviceStatus,
    NetworkDeviceStatusChangedData,
    NetworkDeviceStatusInfo,
)
from nf.netapi.v1.monitoring_pb2 import EventSink

# Through which door sinks were made, and the event that they are told.
DOOR: Final = "dedicated-network-accesses"
EVENT: Final = "NETWORK_ACCESS_DEVICES"
MAX_DEVICES: Final = 100
_CLOUD_EVENT: Final = "org.camaraproject.dedicated-network.v0.device-status-changed"


def subject_of(access_id: str) -> str:
    """The subject of the events of an access."""
    return f"network-accesses/{access_id}"


def standing_of(access: DeviceAccess) -> tuple[NetworkDeviceStatus.ValueType, NetworkDeviceReason]:
    """Whether a device may use the network, and why.

    It may wherever it is and whenever it is, also while the network does not get it what is booked.
    """
    if access.state == DeviceAccess.STATE_ENDED:
        why = "The access is over: the network has ended, or the device has."
    elif access.reason == DeviceAccess.REASON_NO_LONGER_BOOKED:
        why = "The network has no room for the device any more."
    else:
        message = "The device may use the network."
        return NETWORK_DEVICE_STATUS_GRANTED, NetworkDeviceReason(code="REQUEST_APPROVED", message=message)
    return NETWORK_DEVICE_STATUS_DENIED, NetworkDeviceReason(code="ACCESS_REVOKED", message=why)


def device_of(member: NetworkAccessMember) -> NetworkAccessDevice:
    """A device of an access."""
    view = NetworkAccessDevice(device=member.device, status=member.status)
    if member.HasField("reason"):
        view.status_info.CopyFrom(NetworkDeviceStatusInfo(reason=member.reason))
    return view


def info_of(
    access: NetworkAccess, members: Sequence[NetworkAccessMember], results: Sequence[NetworkDeviceResult] = ()
) -> NetworkAccessInfo:
    """The access with its devices, the latest first."""
    asked = access.asked
    info = NetworkAccessInfo(
        id=uuid_text(access.access_id),
        network_id=uuid_text(access.booking_id),
        qos_profiles=asked.qos_profiles,
        stats=NetworkAccessStats(
            total_devices=len(members),
            total_granted=_count(members, NETWORK_DEVICE_STATUS_GRANTED),
            total_denied=_count(members, NETWORK_DEVICE_STATUS_DENIED),
        ),
        recent_access_devices=[device_of(each) for each in reversed(members[-MAX_DEVICES:])],
        results=results,
    )
    if asked.HasField("default_qos_profile"):
        info.default_qos_profile = asked.default_qos_profile
    if asked.HasField("sink"):
        info.sink = asked.sink
    return info


def cloud_event(event: Event, sink: EventSink) -> tuple[str, Data] | None:
    """What a sink of the door is told of an event."""
    del sink
    changed = NetworkAccessDevicesChanged()
    if event.type != EVENT or not event.payload.Unpack(changed):
        return None
    data = NetworkDeviceStatusChangedData(
        access_id=uuid_text(changed.access_id), access_devices=[device_of(each) for each in changed.members]
    )
    return _CLOUD_EVENT, to_json(data)


def _count(members: Sequence[NetworkAccessMember], status: NetworkDeviceStatus.ValueType) -> int:
    return sum(each.status == status for each in members)
