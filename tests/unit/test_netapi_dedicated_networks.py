"""CAMARA dedicated networks: views of bookings, profiles, areas and device accesses; what their sinks are told."""

from __future__ import annotations

import math
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nf.common.codec import from_json, to_json
from nf.common.v1.events_pb2 import Event
from nf.netapi import dedicated_network_views, network_access_views
from nf.netapi.dedicated_network_views import info_of, most_devices, network_profile_of, status_of
from nf.netapi.named_uuids import AREA, PROFILE, uuid_of
from nf.netapi.network_access_views import standing_of
from nf.netapi.network_areas import covers, geometry_of, shape_of
from nf.netapi.v1.access_pb2 import DeviceAccess
from nf.netapi.v1.agreement_pb2 import Agreement, AgreementLimits
from nf.netapi.v1.booking_pb2 import Booking, BookingChanged
from nf.netapi.v1.camara_dedicated_network_pb2 import (
    CreateDedicatedNetwork,
    DedicatedNetwork,
    DedicatedNetworkInfo,
    NetworkAccessDevicesChanged,
    NetworkAccessMember,
    NetworkDeviceStatus,
    NetworkStatus,
)
from nf.netapi.v1.camara_types_pb2 import CamaraDevice
from nf.netapi.v1.coverage_pb2 import CapabilityProfile, Circle, Geometry, MultiPolygon, Point, Polygon, QosProfile
from nf.netapi.v1.monitoring_pb2 import EventSink

ID = "3fa85f6457174562b3fc2c963f66afa6"
SHOWN = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
STATUSES = {
    "REQUESTED": "REQUESTED",
    "OFFERED": "REQUESTED",
    "DECLINED": "TERMINATED",
    "LAPSED": "TERMINATED",
    "BOOKED": "RESERVED",
    "ACTIVE": "ACTIVATED",
    "SUSPENDED": "RESERVED",
    "RELEASED": "TERMINATED",
    "EXPIRED": "TERMINATED",
}


@pytest.mark.parametrize("state", [each for each in Booking.State.values() if each])
def test_every_state_of_a_booking_is_a_status_of_a_network(state: Booking.State.ValueType) -> None:
    name = Booking.State.Name(state).removeprefix("STATE_")
    assert NetworkStatus.Name(status_of(state)) == f"NETWORK_STATUS_{STATUSES[name]}"


def test_a_network_is_shown_as_it_was_asked_for() -> None:
    asked = {
        "name": "ski race",
        "qosProfileName": "QOS_L",
        "serviceTime": {"start": "2026-06-01T12:00:00Z", "end": "2026-06-01T13:00:00Z"},
        "serviceAreaId": uuid_of(AREA, "vienna"),
        "sink": "https://example.com/sink",
    }
    network = DedicatedNetwork(booking_id=ID, asked=from_json(CreateDedicatedNetwork, asked, strict=True))
    shown = {**asked, "id": SHOWN, "status": "ACTIVATED"}
    info = info_of(network, Booking.STATE_ACTIVE)
    assert to_json(info) == shown
    assert from_json(DedicatedNetworkInfo, shown, strict=True) == info


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [
        (Booking.STATE_REQUESTED, Booking.STATE_OFFERED, None),
        (Booking.STATE_OFFERED, Booking.STATE_BOOKED, "RESERVED"),
        (Booking.STATE_BOOKED, Booking.STATE_ACTIVE, "ACTIVATED"),
        (Booking.STATE_ACTIVE, Booking.STATE_SUSPENDED, "RESERVED"),
        (Booking.STATE_SUSPENDED, Booking.STATE_BOOKED, None),
        (Booking.STATE_REQUESTED, Booking.STATE_DECLINED, "TERMINATED"),
        (Booking.STATE_ACTIVE, Booking.STATE_EXPIRED, "TERMINATED"),
    ],
)
def test_another_status_of_a_network_is_a_cloud_event(
    before: Booking.State.ValueType, after: Booking.State.ValueType, status: str | None
) -> None:
    event = Event(type="BOOKING_STATE")
    event.payload.Pack(BookingChanged(booking=Booking(booking_id=ID, state=after), previous_state=before))
    told = dedicated_network_views.cloud_event(event, EventSink())
    if status is None:
        assert told is None
    else:
        kind = "org.camaraproject.dedicated-network.v0.network-status-changed"
        assert told == (kind, {"networkId": SHOWN, "status": status})


def test_what_becomes_of_devices_is_a_cloud_event() -> None:
    member = NetworkAccessMember(
        access_id=ID,
        device=CamaraDevice(phone_number="+491700000001"),
        status=NetworkDeviceStatus.NETWORK_DEVICE_STATUS_GRANTED,
    )
    event = Event(type="NETWORK_ACCESS_DEVICES")
    event.payload.Pack(NetworkAccessDevicesChanged(access_id=ID, members=[member]))
    assert network_access_views.cloud_event(event, EventSink()) == (
        "org.camaraproject.dedicated-network.v0.device-status-changed",
        {"accessId": SHOWN, "accessDevices": [{"device": {"phoneNumber": "+491700000001"}, "status": "GRANTED"}]},
    )
    assert network_access_views.cloud_event(Event(type="BOOKING_STATE"), EventSink()) is None


@pytest.mark.parametrize("state", [each for each in DeviceAccess.State.values() if each])
def test_a_device_may_use_the_network_until_its_access_has_ended(state: DeviceAccess.State.ValueType) -> None:
    status, reason = standing_of(DeviceAccess(state=state))
    granted = state != DeviceAccess.STATE_ENDED
    assert NetworkDeviceStatus.Name(status).endswith("GRANTED" if granted else "DENIED")
    assert reason.code == ("REQUEST_APPROVED" if granted else "ACCESS_REVOKED")


def test_a_device_that_there_is_no_room_for_any_more_is_denied() -> None:
    access = DeviceAccess(state=DeviceAccess.STATE_WAITING, reason=DeviceAccess.REASON_NO_LONGER_BOOKED)
    status, reason = standing_of(access)
    assert (NetworkDeviceStatus.Name(status), reason.code) == ("NETWORK_DEVICE_STATUS_DENIED", "ACCESS_REVOKED")


@pytest.mark.parametrize(
    ("limits", "devices"),
    [
        (AgreementLimits(), 100),
        (AgreementLimits(devices=7), 7),
        (AgreementLimits(devices=7, downlink_bps=4_500_000), 4),
        (AgreementLimits(uplink_bps=50_000), 0),
    ],
)
def test_a_network_profile_is_for_what_one_booking_may_have(limits: AgreementLimits, devices: int) -> None:
    qos = QosProfile(guaranteed_downlink_bps=1_000_000, guaranteed_uplink_bps=100_000)
    profile = CapabilityProfile(profile_id="QOS_L", qos=qos)
    assert most_devices(profile, Agreement(limits=limits), 100) == devices


def test_a_rate_that_is_not_bounded_is_told_as_the_most_that_can_be_told() -> None:
    view = network_profile_of(CapabilityProfile(profile_id="QOS_L", qos=QosProfile(max_downlink_bps=2_000_000)), 3)
    assert to_json(view)["aggregatedDlThroughput"] == {"value": 6, "unit": "Mbps"}
    assert to_json(view)["aggregatedUlThroughput"] == {"value": 1024, "unit": "Tbps"}


def test_names_are_uuids_that_stay_and_are_apart_by_kind() -> None:
    own = "123e4567-e89b-12d3-a456-426614174000"
    assert uuid_of(AREA, own) == own
    assert uuid_of(AREA, "vienna") == uuid_of(AREA, "vienna") != uuid_of(PROFILE, "vienna")
    # Written otherwise it is a name like others.
    assert uuid.UUID(uuid_of(AREA, own.upper())) != uuid.UUID(own)


def circle(latitude: float, longitude: float, radius_m: float) -> Geometry:
    return Geometry(circle=Circle(center=Point(latitude=latitude, longitude=longitude), radius_m=radius_m))


def ring(corners: int, radius: float, latitude: float = 48.0, longitude: float = 16.0) -> Polygon:
    angles = [2 * math.pi * n / corners for n in range(corners)]
    return Polygon(
        boundary=[
            Point(latitude=latitude + radius * math.sin(a), longitude=longitude + radius * math.cos(a)) for a in angles
        ]
    )


@pytest.mark.parametrize(
    ("one", "other", "covered"),
    [
        (circle(48, 16, 2000), circle(48, 16, 1000), True),
        (circle(48, 16, 2000), circle(48.02, 16, 1000), False),
        (circle(48, 16, 20_000), Geometry(polygon=ring(5, 0.05)), True),
        (circle(48, 16, 2000), Geometry(polygon=ring(5, 0.05)), False),
        (Geometry(polygon=ring(4, 0.1)), Geometry(polygon=ring(4, 0.05)), True),
        (Geometry(polygon=ring(4, 0.05)), Geometry(polygon=ring(4, 0.1)), False),
        (Geometry(multi_polygon=MultiPolygon(polygons=[ring(4, 0.1), ring(4, 0.1, 50)])), circle(50, 16, 500), True),
    ],
)
def test_an_area_covers_what_is_wholly_in_it(one: Geometry, other: Geometry, covered: bool) -> None:
    assert covers(one, other) is covered


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 60), st.floats(0.01, 1.0), st.integers(1, 3))
def test_every_area_is_told_as_a_polygon_of_few_of_its_points(corners: int, radius: float, rings: int) -> None:
    polygons = [ring(corners, radius, 40 + 3 * n) for n in range(rings)]
    where = Geometry(polygon=polygons[0]) if rings == 1 else Geometry(multi_polygon=MultiPolygon(polygons=polygons))
    told, is_exact = shape_of(where)
    assert 3 <= len(told.boundary) <= 15
    assert is_exact is (rings == 1 and corners <= 15)
    known = {(each.latitude, each.longitude) for polygon in polygons for each in polygon.boundary}
    assert {(each.latitude, each.longitude) for each in told.boundary} <= known
    if is_exact:
        assert geometry_of(told, "area") == where


def test_a_circle_is_told_in_whole_metres_and_not_as_more_than_it_is() -> None:
    told, is_exact = shape_of(circle(48, 16, 1500.7))
    assert (told.radius_m, is_exact) == (1500, False)
    told, is_exact = shape_of(circle(48, 16, 900_000))
    assert (told.radius_m, is_exact) == (200_000, False)
    told, is_exact = shape_of(circle(48, 16, 250))
    assert is_exact
    assert geometry_of(told, "area") == circle(48, 16, 250)
