"""Areas, UEs, bookings of geofencing and positions, as tests of the platform's location function need them."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from nf.common.store import Transaction
from nf.common.v1.mbs_pb2 import Ncgi, PlmnId
from nf.netapi import devices
from nf.netapi.callers import Caller
from nf.netapi.v1.access_pb2 import Device, DeviceAccess
from nf.netapi.v1.agreement_pb2 import Agreement
from nf.netapi.v1.booking_pb2 import Booking, NetworkAccessId
from nf.netapi.v1.coverage_pb2 import (
    Capability,
    CapabilityProfile,
    Circle,
    GeofencingProfile,
    Geometry,
    Point,
    ServiceArea,
)
from nf.netapi.v1.location_pb2 import AttachedUe, DevicePosition, SubscriberNames

START = datetime(2026, 5, 1, 8, tzinfo=UTC)
VIENNA = (48.2082, 16.3738)
METRES_PER_DEGREE = math.pi / 180 * 6_371_008.8
RADIO = Caller("radio")
OTHER = Caller("other")
PHONE = "+436641234567"
SUPI = "imsi-232010000000001"
UE_ADDRESS = "10.45.0.2"
NAI = "nai-geofencing"


def cell(identity: str = "0000000A1") -> Ncgi:
    """A cell of a network in Austria."""
    return Ncgi(plmn_id=PlmnId(mcc="232", mnc="01"), nr_cell_id=identity)


def north_of(metres: float) -> Point:
    """So far to the north of the middle of Vienna."""
    return Point(latitude=VIENNA[0] + metres / METRES_PER_DEGREE, longitude=VIENNA[1])


def circle(radius_m: float = 1000.0, at_m: float = 0.0) -> Geometry:
    """A circle around a place so far to the north of Vienna."""
    return Geometry(circle=Circle(center=north_of(at_m), radius_m=radius_m))


def seen(metres: float, at: datetime, *, uncertainty_m: float = 10.0, device: Device | None = None) -> DevicePosition:
    """A device so far to the north of Vienna."""
    position = DevicePosition(
        device=device if device is not None else Device(phone_number=PHONE),
        point=north_of(metres),
        uncertainty_m=uncertainty_m,
    )
    position.position_time.FromDatetime(at)
    return position


def after(seconds: float) -> datetime:
    """So long after the start."""
    return START + timedelta(seconds=seconds)


def ue(ref: str = "ue1", **changes: object) -> AttachedUe:
    """The UE of the tests."""
    made = AttachedUe(
        sm_context_ref=ref, supi=SUPI, gpsi=devices.gpsi_of(PHONE), ipv4_address=UE_ADDRESS, dnn="internet"
    )
    made.MergeFrom(AttachedUe(**changes))
    return made


def keep_ue(transaction: Transaction, attached: AttachedUe) -> None:
    """A UE is attached, as the SMF's events would have it."""
    lookups = {
        devices.SUPI: attached.supi,
        devices.GPSI: attached.gpsi,
        devices.IPV4: attached.ipv4_address,
        devices.IPV6: attached.ipv6_prefix,
    }
    transaction.put(attached, attached.sm_context_ref, lookups=lookups)
    names = SubscriberNames(supi=attached.supi, gpsi=attached.gpsi)
    transaction.put(names, names.supi, lookups={devices.SUPI: names.supi, devices.GPSI: names.gpsi})


def book(
    transaction: Transaction,
    *,
    state: Booking.State.ValueType = Booking.STATE_ACTIVE,
    rights: GeofencingProfile | None = None,
    devices_booked: int = 5,
    capability: Capability.ValueType = Capability.CAPABILITY_GEOFENCING,
    active: bool = True,
) -> Booking:
    """A booking of geofencing in a circle of a kilometre, under the agreement "radio", with one network access ID."""
    granted = rights if rights is not None else GeofencingProfile(verify=True, retrieve=True, notify=True)
    transaction.put(Agreement(agreement_id="radio"), "radio")
    transaction.put(Agreement(agreement_id="other"), "other")
    transaction.put(ServiceArea(area_id="vienna", geometry=circle()), "vienna")
    profile = CapabilityProfile(profile_id="fence", capability=capability, geofencing=granted)
    transaction.put(profile, "fence")
    booking = Booking(booking_id="booking", agreement_id="radio", state=state)
    transaction.put(booking, "booking", parent="radio")
    issued = NetworkAccessId(
        network_access_id=NAI,
        booking_id="booking",
        area_id="vienna",
        profile_id="fence",
        active=active,
        devices=devices_booked,
        capability=capability,
        geofencing=granted,
    )
    transaction.put(issued, NAI, parent="booking")
    return booking


def access(device: Device, *, access_id: str = "access", ended: bool = False) -> DeviceAccess:
    """A device that uses the network access ID, or does so no longer."""
    return DeviceAccess(
        access_id=access_id,
        network_access_id=NAI,
        booking_id="booking",
        agreement_id="radio",
        device=device,
        state=DeviceAccess.STATE_ENDED if ended else DeviceAccess.STATE_WAITING,
    )


def keep_access(transaction: Transaction, made: DeviceAccess) -> None:
    """The access as the platform keeps it."""
    lookups = {"network_access_id": made.network_access_id}
    transaction.put(made, made.access_id, parent=made.booking_id, lookups=lookups)
