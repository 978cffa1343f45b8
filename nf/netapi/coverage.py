"""What the platform has to offer: service areas with their capacity, and capability profiles (workflow phase B)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.reader import Page, Reader, not_found
from nf.common.resources import check_etag, copy_of, page_limit
from nf.common.transaction import Transaction
from nf.netapi import agreements, capacity, geometry
from nf.netapi.callers import Caller
from nf.netapi.coverage_checks import area_violations, cell_violations, profile_violations
from nf.netapi.errors import StillBooked
from nf.netapi.v1.agreement_pb2 import Agreement
from nf.netapi.v1.coverage_pb2 import (
    CapabilityProfile,
    ListCapabilityProfilesRequest,
    ListServiceAreasRequest,
    ServiceArea,
)

# Called in the transaction that changes an area, with what it is from then on: who is inside may be others.
AreaFollower: TypeAlias = Callable[[Transaction, ServiceArea], None]


def require_area(reader: Reader, area_id: str) -> ServiceArea:
    """The service area of that name. Raises NotFound."""
    return reader.require(ServiceArea, area_id)


def require_profile(reader: Reader, profile_id: str) -> CapabilityProfile:
    """The capability profile of that name. Raises NotFound."""
    return reader.require(CapabilityProfile, profile_id)


def areas(reader: Reader) -> list[ServiceArea]:
    """All service areas, in the order of their creation."""
    return list(reader.all(ServiceArea))


def profiles(reader: Reader) -> list[CapabilityProfile]:
    """All capability profiles, in the order of their creation."""
    return list(reader.all(CapabilityProfile))


def get_area(reader: Reader, area_id: str, caller: Caller) -> ServiceArea:
    """A service area that the caller may book. Raises NotFound."""
    agreement = _agreement(reader, caller)
    if agreement is not None and not agreements.allows_area(agreement, area_id):
        raise not_found(ServiceArea, area_id)
    return require_area(reader, area_id)


def get_profile(reader: Reader, profile_id: str, caller: Caller) -> CapabilityProfile:
    """A capability profile that the caller may book. Raises NotFound."""
    agreement = _agreement(reader, caller)
    if agreement is not None and not agreements.allows_profile(agreement, profile_id):
        raise not_found(CapabilityProfile, profile_id)
    return require_profile(reader, profile_id)


def put_area(
    transaction: Transaction, wanted: ServiceArea, caller: Caller, followers: Sequence[AreaFollower] = ()
) -> ServiceArea:
    """Makes or replaces a service area. Raises EtagMismatch where an etag is given that is not the present one."""
    caller.check_operator("change service areas")
    _refuse(area_violations(wanted, "service_area"))
    before = transaction.get(ServiceArea, wanted.area_id)
    check_etag(before.etag if before is not None else "", wanted.etag, f"service area {wanted.area_id!r}")
    made = copy_of(wanted)
    made.ClearField("etag")
    if before is not None:
        made.create_time.CopyFrom(before.create_time)
        stored = transaction.update(made, made.area_id)
        for follower in followers:
            follower(transaction, stored)
        return stored
    made.create_time.FromDatetime(transaction.clock.now())
    return transaction.insert(made, made.area_id)


def put_profile(transaction: Transaction, wanted: CapabilityProfile, caller: Caller) -> CapabilityProfile:
    """Makes or replaces a capability profile. Raises EtagMismatch likewise."""
    caller.check_operator("change capability profiles")
    _refuse(profile_violations(wanted, "capability_profile"))
    before = transaction.get(CapabilityProfile, wanted.profile_id)
    check_etag(before.etag if before is not None else "", wanted.etag, f"capability profile {wanted.profile_id!r}")
    made = copy_of(wanted)
    made.ClearField("etag")
    if before is not None:
        made.create_time.CopyFrom(before.create_time)
        return transaction.update(made, made.profile_id)
    made.create_time.FromDatetime(transaction.clock.now())
    return transaction.insert(made, made.profile_id)


def delete_area(transaction: Transaction, area_id: str, caller: Caller) -> None:
    """Removes a service area, if it is there. Raises StillBooked while anything of it is held or booked."""
    caller.check_operator("remove service areas")
    if capacity.area_in_use(transaction, area_id):
        raise StillBooked(f"service area {area_id!r}: bookings stand on it, release them first")
    transaction.delete(ServiceArea, area_id)


def delete_profile(transaction: Transaction, profile_id: str, caller: Caller) -> None:
    """Removes a capability profile, if it is there. Raises StillBooked while it is held or booked anywhere."""
    caller.check_operator("remove capability profiles")
    if capacity.profile_in_use(transaction, profile_id):
        raise StillBooked(f"capability profile {profile_id!r}: bookings stand on it, release them first")
    transaction.delete(CapabilityProfile, profile_id)


def page_of_areas(reader: Reader, request: ListServiceAreasRequest, caller: Caller) -> Page[ServiceArea]:
    """The service areas that the caller may book, that touch a geometry and hold a cell where those are given.

    A page may be shorter than what was asked for though others follow.
    """
    touching = request.touching if request.HasField("touching") else None
    cell = request.cell if request.HasField("cell") else None
    if touching is not None:
        geometry.check(touching, "touching")
    if cell is not None:
        _refuse(list(cell_violations(cell, "cell")))
    agreement = _agreement(reader, caller)

    def is_wanted(area: ServiceArea) -> bool:
        return (
            (agreement is None or agreements.allows_area(agreement, area.area_id))
            and (cell is None or area.everywhere or any(geometry.same_cell(each, cell) for each in area.cells))
            and (
                touching is None
                or area.everywhere
                or (area.HasField("geometry") and geometry.touches(area.geometry, touching))
            )
        )

    token, limit = request.page_token, page_limit(request.page_size)
    while True:
        page = reader.list(ServiceArea, page_size=limit, page_token=token)
        found, token = [each for each in page.items if is_wanted(each)], page.next_page_token
        if found or not token:
            return Page(found, token)


def page_of_profiles(reader: Reader, request: ListCapabilityProfilesRequest, caller: Caller) -> Page[CapabilityProfile]:
    """The capability profiles that the caller may book; a page may be short likewise."""
    agreement = _agreement(reader, caller)
    token, limit = request.page_token, page_limit(request.page_size)
    while True:
        page = reader.list(CapabilityProfile, page_size=limit, page_token=token)
        token = page.next_page_token
        found = [
            each for each in page.items if agreement is None or agreements.allows_profile(agreement, each.profile_id)
        ]
        if found or not token:
            return Page(found, token)


def _agreement(reader: Reader, caller: Caller) -> Agreement | None:
    """What bounds what the caller sees; None: nothing does."""
    return None if caller.operator else agreements.require(reader, caller.agreement_id)


def _refuse(refused: list[FieldViolation]) -> None:
    if refused:
        raise InvalidArgument.of_all(refused)
