"""What the platform has to offer: service areas with their capacity, and capability profiles (workflow phase B)."""

from __future__ import annotations

from nf.common.reader import Reader
from nf.netapi.v1.coverage_pb2 import CapabilityProfile, ServiceArea


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
