"""Service areas as CAMARA dedicated-network-areas 0.1.0-alpha.1 has them: circles, and polygons of at most 15 points.

A polygon of more points is told without some of them, several polygons as what is around them: approximately. An area
without a geometry (everywhere, or cells alone) cannot be told.
"""

from __future__ import annotations

from typing import Final, cast

from nf.common.errors import InvalidArgument
from nf.netapi import geometry
from nf.netapi.named_uuids import AREA, PROFILE, uuid_of
from nf.netapi.projection import bound_of, distance_m, polygons_of
from nf.netapi.v1.camara_dedicated_network_pb2 import (
    NETWORK_AREA_TYPE_CIRCLE,
    NETWORK_AREA_TYPE_POLYGON,
    NetworkArea,
    NetworkServiceArea,
    RetrieveNetworkServiceAreas,
)
from nf.netapi.v1.coverage_pb2 import CapabilityProfile, Circle, Geometry, Point, Polygon, ServiceArea
from nf.netapi.v1.location_pb2 import DevicePosition

MAX_POINTS: Final = 15
MAX_RADIUS_M: Final = 200_000


def view_of(area: ServiceArea, profiles: list[CapabilityProfile]) -> NetworkServiceArea | None:
    """The area with the profiles that can be had in it; None: it cannot be told."""
    if not area.HasField("geometry") or not profiles:
        return None
    names = [each.profile_id for each in profiles]
    told, is_exact = shape_of(area.geometry)
    view = NetworkServiceArea(
        id=uuid_of(AREA, area.area_id),
        name=area.name or area.area_id,
        area=told,
        network_profiles=[uuid_of(PROFILE, each) for each in names],
        qos_profiles=names,
    )
    if not is_exact:
        view.description = "The area is told approximately."
    return view


def shape_of(where: Geometry) -> tuple[NetworkArea, bool]:
    """The geometry as these APIs have it, and whether that is exact."""
    if where.HasField("circle"):
        # Never more than there is.
        radius_m = min(MAX_RADIUS_M, max(1, int(where.circle.radius_m)))
        told = NetworkArea(area_type=NETWORK_AREA_TYPE_CIRCLE, center=where.circle.center, radius_m=radius_m)
        return told, radius_m == where.circle.radius_m
    polygons = polygons_of(where)
    is_exact = len(polygons) == 1 and len(polygons[0].boundary) <= MAX_POINTS
    points = list(polygons[0].boundary) if is_exact else _outline(where)
    return NetworkArea(area_type=NETWORK_AREA_TYPE_POLYGON, boundary=points), is_exact


def geometry_of(area: NetworkArea, field: str) -> Geometry:
    """The area as a geometry of the platform. Raises InvalidArgument."""
    if area.area_type == NETWORK_AREA_TYPE_CIRCLE:
        if not area.HasField("center") or not area.HasField("radius_m"):
            raise InvalidArgument.of(field, "expected center and radius of a circle, found nothing of them")
        if area.boundary:
            raise InvalidArgument.of(f"{field}.boundary", "expected none with a circle")
        made = Geometry(circle=Circle(center=area.center, radius_m=area.radius_m))
    else:
        if area.HasField("center") or area.HasField("radius_m"):
            raise InvalidArgument.of(field, "expected neither center nor radius with a polygon")
        if len(area.boundary) < 3:
            raise InvalidArgument.of(f"{field}.boundary", f"expected 3 to 15 items, found {len(area.boundary)}")
        made = Geometry(polygon=Polygon(boundary=area.boundary))
    geometry.check(made, field)
    return made


def covers(one: Geometry, other: Geometry) -> bool:
    """Whether all of the other is in the one."""
    if other.HasField("circle"):
        circle = DevicePosition(point=other.circle.center, uncertainty_m=other.circle.radius_m)
        return geometry.fit(one, circle)[0] is geometry.Fit.INSIDE
    if one.HasField("circle"):
        center, radius_m = one.circle.center, one.circle.radius_m
        return all(
            distance_m(center, point) <= radius_m for polygon in polygons_of(other) for point in polygon.boundary
        )
    from shapely import union_all
    from shapely.geometry import Polygon as Shape

    plane = bound_of(one).plane
    first, second = (union_all([Shape(plane.ring(each)) for each in polygons_of(side)]) for side in (one, other))
    return bool(first.covers(second))


class Wanted:
    """What areas a consumer asks for."""

    def __init__(self, asked: RetrieveNetworkServiceAreas) -> None:
        """Raises InvalidArgument for an area that is none."""
        self._asked = asked
        self._at = DevicePosition(point=asked.at_location) if asked.HasField("at_location") else None
        self._overlapping = (
            geometry_of(asked.overlapping_area, "overlappingArea") if asked.HasField("overlapping_area") else None
        )
        self._covering = geometry_of(asked.covering_area, "coveringArea") if asked.HasField("covering_area") else None

    def has(self, area: ServiceArea, view: NetworkServiceArea) -> bool:
        """Whether all of it is true of the area."""
        asked, where = self._asked, area.geometry
        if asked.HasField("by_name") and view.name != asked.by_name:
            return False
        if asked.HasField("by_network_profile_id") and asked.by_network_profile_id not in view.network_profiles:
            return False
        if asked.HasField("by_qos_profile_name") and asked.by_qos_profile_name not in view.qos_profiles:
            return False
        if self._at is not None and geometry.fit(where, self._at)[0] is not geometry.Fit.INSIDE:
            return False
        if self._covering is not None and not covers(where, self._covering):
            return False
        return self._overlapping is None or (
            geometry.touches(where, self._overlapping) and not covers(where, self._overlapping)
        )


def _outline(where: Geometry) -> list[Point]:
    """At most 15 of the points, around the area."""
    from shapely.geometry import MultiPoint
    from shapely.geometry import Polygon as Shape

    plane = bound_of(where).plane
    polygons = polygons_of(where)
    known = {plane.place(each.latitude, each.longitude): each for polygon in polygons for each in polygon.boundary}
    several = len(polygons) > 1
    shape = cast(Shape, MultiPoint(list(known)).convex_hull) if several else Shape(plane.ring(polygons[0]))
    tolerance_m = 1.0
    while len(corners := list(shape.exterior.coords)[:-1]) > MAX_POINTS:
        # Of what is simplified a triangle is left at the least.
        shape = cast(Shape, shape.simplify(tolerance_m))
        tolerance_m *= 2
    return [known[x, y] for x, y in corners]
