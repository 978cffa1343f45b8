"""CAMARA dedicated networks as consumers read them: networks, and profiles for as many devices as may be booked. Pure.

A network profile is a capability profile of Quality on Demand for several devices; a network by a QoS profile is one
for a single device.
"""

from __future__ import annotations

from typing import Final

from nf.common.codec import to_json
from nf.common.v1.events_pb2 import Event
from nf.netapi.camara_checks import uuid_text
from nf.netapi.cloud_events import Data
from nf.netapi.named_uuids import AREA, PROFILE, uuid_of
from nf.netapi.qos_profiles import rate_of
from nf.netapi.v1.agreement_pb2 import Agreement
from nf.netapi.v1.booking_pb2 import (
    OUTSIDE_POLICY_BEST_EFFORT,
    AreaCapability,
    Booking,
    BookingChanged,
    BookingPeriod,
    BookingRequest,
    Population,
)
from nf.netapi.v1.camara_dedicated_network_pb2 import (
    NETWORK_STATUS_ACTIVATED,
    NETWORK_STATUS_REQUESTED,
    NETWORK_STATUS_RESERVED,
    NETWORK_STATUS_TERMINATED,
    CamaraNetworkProfile,
    DedicatedNetwork,
    DedicatedNetworkInfo,
    NetworkServiceTime,
    NetworkStatus,
    NetworkStatusChangedData,
)
from nf.netapi.v1.camara_qos_profiles_pb2 import CAMARA_RATE_UNIT_TBPS, CamaraRate
from nf.netapi.v1.coverage_pb2 import CapabilityProfile
from nf.netapi.v1.monitoring_pb2 import EventSink

# Through which door bookings and sinks were made, and the events that its sinks are told.
DOOR: Final = "dedicated-network"
EVENTS: Final = ("BOOKING_STATE",)
_CLOUD_EVENT: Final = "org.camaraproject.dedicated-network.v0.network-status-changed"
_STATUSES: Final = {
    Booking.STATE_REQUESTED: NETWORK_STATUS_REQUESTED,
    Booking.STATE_OFFERED: NETWORK_STATUS_REQUESTED,
    Booking.STATE_DECLINED: NETWORK_STATUS_TERMINATED,
    Booking.STATE_LAPSED: NETWORK_STATUS_TERMINATED,
    Booking.STATE_BOOKED: NETWORK_STATUS_RESERVED,
    Booking.STATE_ACTIVE: NETWORK_STATUS_ACTIVATED,
    # What is booked is withheld: committed, and not to be used.
    Booking.STATE_SUSPENDED: NETWORK_STATUS_RESERVED,
    Booking.STATE_RELEASED: NETWORK_STATUS_TERMINATED,
    Booking.STATE_EXPIRED: NETWORK_STATUS_TERMINATED,
}


def status_of(state: Booking.State.ValueType) -> NetworkStatus.ValueType:
    """What a booking's state is to a network."""
    return _STATUSES[state]


def subject_of(booking_id: str) -> str:
    """The subject of the events of a network."""
    return f"bookings/{booking_id}"


def booking_request(area_id: str, profile_id: str, devices: int, time: NetworkServiceTime) -> BookingRequest:
    """What a network is at the platform: all traffic of so many devices in one area and period."""
    return BookingRequest(
        population=Population(application_id=DOOR, devices=devices),
        periods=[BookingPeriod(start_time=time.start, stop_time=time.end)],
        area_capabilities=[AreaCapability(area_id=area_id, profile_id=profile_id)],
        outside=OUTSIDE_POLICY_BEST_EFFORT,
    )


def info_of(network: DedicatedNetwork, state: Booking.State.ValueType) -> DedicatedNetworkInfo:
    """The network for its consumer; ``state`` is that of its booking."""
    asked = network.asked
    info = DedicatedNetworkInfo(
        id=uuid_text(network.booking_id),
        status=status_of(state),
        service_time=asked.service_time,
        service_area_id=asked.service_area_id,
    )
    if asked.HasField("name"):
        info.name = asked.name
    if asked.HasField("network_profile_id"):
        info.network_profile_id = asked.network_profile_id
    if asked.HasField("qos_profile_name"):
        info.qos_profile_name = asked.qos_profile_name
    if asked.HasField("sink"):
        info.sink = asked.sink
    return info


def cloud_event(event: Event, sink: EventSink) -> tuple[str, Data] | None:
    """What a sink of the door is told of an event: a booking's state, where that is another status of the network."""
    del sink
    changed = BookingChanged()
    if event.type not in EVENTS or not event.payload.Unpack(changed):
        return None
    status = status_of(changed.booking.state)
    before = changed.previous_state
    if status == NETWORK_STATUS_REQUESTED or (before in _STATUSES and status_of(before) == status):
        return None
    data = NetworkStatusChangedData(network_id=uuid_text(changed.booking.booking_id), status=status)
    return _CLOUD_EVENT, to_json(data)


def most_devices(profile: CapabilityProfile, agreement: Agreement, configured: int) -> int:
    """How many devices a network of the profile is for: what the agreement allows one booking in one area."""
    limits, qos = agreement.limits, profile.qos
    most = limits.devices if limits.HasField("devices") else configured
    for is_bounded, bound_bps, rate_bps in (
        (limits.HasField("downlink_bps"), limits.downlink_bps, qos.guaranteed_downlink_bps),
        (limits.HasField("uplink_bps"), limits.uplink_bps, qos.guaranteed_uplink_bps),
    ):
        if is_bounded and rate_bps:
            most = min(most, bound_bps // rate_bps)
    return most


def network_profile_of(profile: CapabilityProfile, devices: int) -> CamaraNetworkProfile:
    """The profile for so many devices."""
    qos, name = profile.qos, profile.profile_id
    return CamaraNetworkProfile(
        id=uuid_of(PROFILE, name),
        name=name,
        max_number_of_devices=devices,
        aggregated_ul_throughput=_aggregated(qos.guaranteed_uplink_bps or qos.max_uplink_bps, devices),
        aggregated_dl_throughput=_aggregated(qos.guaranteed_downlink_bps or qos.max_downlink_bps, devices),
        qos_profiles=[name],
        default_qos_profile=name,
    )


def area_uuid(area_id: str) -> str:
    """By what consumers know an area."""
    return uuid_of(AREA, area_id)


def _aggregated(rate_bps: int, devices: int) -> CamaraRate:
    # What is not bounded is the most that can be said.
    return rate_of(rate_bps * devices) if rate_bps else CamaraRate(value=1024, unit=CAMARA_RATE_UNIT_TBPS)
