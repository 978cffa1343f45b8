"""What a caller may know of where devices are: by a geofencing ID of its own, or by its agreement (phase B step 1b)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from nf.common.errors import InvalidArgument, NotFound
from nf.common.reader import Reader
from nf.netapi import agreements, coverage, geometry
from nf.netapi.callers import Caller
from nf.netapi.errors import AreaNotCovered, LocationNotBooked, NotWithinPeriod
from nf.netapi.v1.booking_pb2 import Booking, NetworkAccessId
from nf.netapi.v1.coverage_pb2 import Capability, GeofencingProfile, Geometry, ServiceArea

_OVER = (Booking.STATE_DECLINED, Booking.STATE_LAPSED, Booking.STATE_RELEASED, Booking.STATE_EXPIRED)


class Right(Enum):
    """What a geofencing profile lets be known."""

    VERIFY = "verify"
    RETRIEVE = "retrieve"
    NOTIFY = "notify"

    def of(self, profile: GeofencingProfile) -> bool:
        """Whether the profile has it."""
        return {Right.VERIFY: profile.verify, Right.RETRIEVE: profile.retrieve, Right.NOTIFY: profile.notify}[self]


@dataclass(frozen=True, slots=True)
class Access:
    """A geofencing ID with its booking and its area."""

    network_access_id: NetworkAccessId
    booking: Booking
    area: ServiceArea

    @property
    def is_in_force(self) -> bool:
        """Whether its booking is within a period, and still has it."""
        return self.network_access_id.active and self.booking.state == Booking.STATE_ACTIVE

    @property
    def is_over(self) -> bool:
        """Whether it will never be in force again."""
        return self.booking.state in _OVER


def access_of(reader: Reader, network_access_id: str) -> Access | None:
    """A network access ID with what it belongs to; None: it is not there."""
    found = reader.get(NetworkAccessId, network_access_id)
    booking = reader.get(Booking, found.booking_id) if found is not None else None
    area = reader.get(ServiceArea, found.area_id) if found is not None else None
    if found is None or booking is None or area is None:
        return None
    return Access(found, booking, area)


def require_access(reader: Reader, caller: Caller, network_access_id: str, right: Right, field: str) -> Access:
    """The caller's geofencing ID, which has this right.

    Raises NotFound for what is not there or another's, InvalidArgument for an ID that is not for geofencing,
    LocationNotBooked without the right.
    """
    access = access_of(reader, network_access_id)
    if access is None or not caller.may_see(access.booking.agreement_id):
        raise NotFound(f"{field}: network access ID {network_access_id!r} does not exist")
    if access.network_access_id.capability != Capability.CAPABILITY_GEOFENCING:
        raise InvalidArgument.of(
            field, f"expected a geofencing ID, found one of another capability: {network_access_id!r}"
        )
    if not right.of(access.network_access_id.geofencing):
        raise LocationNotBooked(
            f"{field}: what is booked by {network_access_id!r} does not include {right.value}",
            metadata={"right": right.value},
        )
    return access


def check_in_force(access: Access) -> None:
    """Raises NotWithinPeriod unless the ID's booking is within a period."""
    if not access.is_in_force:
        state = Booking.State.Name(access.booking.state).removeprefix("STATE_")
        why = f"its booking is {state}" if access.network_access_id.active else "its booking has it no longer"
        raise NotWithinPeriod(f"network access ID {access.network_access_id.network_access_id!r}: {why}")


def check_agreement(reader: Reader, caller: Caller, right: Right) -> None:
    """Raises LocationNotBooked unless a geofencing profile of the caller's agreement has the right."""
    if caller.operator:
        return
    agreement = agreements.require(reader, caller.agreement_id)
    if agreement.suspended or not any(
        profile.capability == Capability.CAPABILITY_GEOFENCING
        and right.of(profile.geofencing)
        and agreements.allows_profile(agreement, profile.profile_id)
        for profile in coverage.profiles(reader)
    ):
        raise LocationNotBooked(
            f"agreement {agreement.agreement_id!r} has no geofencing profile with {right.value}",
            metadata={"right": right.value},
        )


def check_covered(reader: Reader, caller: Caller, wanted: Geometry) -> None:
    """Raises AreaNotCovered unless a service area that the caller may book touches the area."""
    agreement = None if caller.operator else agreements.require(reader, caller.agreement_id)
    for area in coverage.areas(reader):
        if agreement is not None and not agreements.allows_area(agreement, area.area_id):
            continue
        if area.everywhere or (area.HasField("geometry") and geometry.touches(area.geometry, wanted)):
            return
    raise AreaNotCovered("area: no service area covers any of it")


def check_part_of(access: Access, wanted: Geometry, field: str) -> None:
    """Raises AreaNotCovered unless the area that is booked touches the area."""
    area = access.area
    if area.everywhere or (area.HasField("geometry") and geometry.touches(area.geometry, wanted)):
        return
    raise AreaNotCovered(f"{field}: expected an area that touches the booked one, {area.area_id!r}, found another")
