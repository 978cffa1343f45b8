"""Areas as CAMARA's location APIs write them, and the platform's geometries (CAMARA Device Location)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from nf.common.errors import InvalidArgument
from nf.common.json_text import SHOWN_LENGTH
from nf.netapi.errors import InvalidArea
from nf.netapi.geometry import MAX_RADIUS_M, Fit, fit, touches
from nf.netapi.projection import Plane, bound_of, distance_m
from nf.netapi.v1.camara_location_pb2 import CamaraArea
from nf.netapi.v1.coverage_pb2 import Circle, Geometry, Point, Polygon, ServiceArea
from nf.netapi.v1.location_pb2 import DevicePosition

CIRCLE: Final = "CIRCLE"
POLYGON: Final = "POLYGON"
_LEAST_RADIUS_M: Final = 1.0
_LEAST_POINTS: Final = 3
_MOST_POINTS: Final = 15
# A circle is laid on polygons as one of four times so many sides.
_QUARTER_SIDES: Final = 64


def circle_of(area: CamaraArea, path: str, least_radius_m: float) -> Geometry:
    """The circle that a request names, checked before by the contract's options.

    Raises InvalidArgument for what is none, InvalidArea for one that is smaller or larger than the platform serves.
    """
    if area.area_type != CIRCLE:
        raise InvalidArgument.of(f"{path}.areaType", f"expected {CIRCLE}, found {area.area_type[:SHOWN_LENGTH]!r}")
    for name, is_set in (("center", area.HasField("center")), ("radius", area.HasField("radius"))):
        if not is_set:
            raise InvalidArgument.of(f"{path}.{name}", f"expected with {CIRCLE}, found nothing")
    if not least_radius_m <= area.radius <= MAX_RADIUS_M:
        raise InvalidArea.of(
            f"{path}.radius", f"expected {least_radius_m:g} to {MAX_RADIUS_M} metres here, found {area.radius:g}"
        )
    return Geometry(circle=Circle(center=area.center, radius_m=area.radius))


def area_of(geometry: Geometry) -> CamaraArea:
    """A geometry as the APIs write it: what is neither a circle nor a polygon of 15 points, by a circle around it."""
    if geometry.HasField("circle"):
        return _circle(geometry.circle.center, geometry.circle.radius_m)
    if geometry.HasField("polygon") and _LEAST_POINTS <= len(geometry.polygon.boundary) <= _MOST_POINTS:
        return CamaraArea(area_type=POLYGON, boundary=geometry.polygon.boundary)
    bound = bound_of(geometry)
    return _circle(Point(latitude=bound.latitude, longitude=bound.longitude), bound.radius_m)


def place_of(position: DevicePosition, covered: Sequence[ServiceArea]) -> CamaraArea | None:
    """Where a device is: around its point, or the least of the areas that its cell covers; None: it cannot be said."""
    if position.HasField("point"):
        return _circle(position.point, position.uncertainty_m)
    placed = [area.geometry for area in covered if area.HasField("geometry")]
    return min((area_of(each) for each in placed), key=surface_m2, default=None)


def fit_within(circle: Geometry, position: DevicePosition, covered: Sequence[ServiceArea]) -> tuple[Fit, int]:
    """Whether a device is in a circle, and by how much, as ``geometry.fit`` says it; by its cell if need be."""
    place = place_of(position, covered)
    if place is None:
        return Fit.UNKNOWN, 0
    if place.area_type == CIRCLE:
        return fit(circle, DevicePosition(point=place.center, uncertainty_m=place.radius))
    polygon = Geometry(polygon=Polygon(boundary=place.boundary))
    if not touches(circle, polygon):
        return Fit.OUTSIDE, 0
    center, radius_m = circle.circle.center, circle.circle.radius_m
    if all(distance_m(center, corner) <= radius_m for corner in place.boundary):
        return Fit.INSIDE, 100
    from shapely.geometry import Point as Place
    from shapely.geometry import Polygon as Shape

    shape = Shape(Plane(center.latitude, center.longitude).ring(polygon.polygon))
    inside = shape.intersection(Place(0.0, 0.0).buffer(radius_m, quad_segs=_QUARTER_SIDES)).area
    return Fit.PARTIAL, min(99, max(1, round(100 * inside / shape.area)))


def surface_m2(area: CamaraArea) -> float:
    """How large an area is."""
    if area.area_type == CIRCLE:
        return math.pi * area.radius**2
    from shapely.geometry import Polygon as Shape

    polygon = Polygon(boundary=area.boundary)
    return float(Shape(bound_of(Geometry(polygon=polygon)).plane.ring(polygon)).area)


def _circle(center: Point, radius_m: float) -> CamaraArea:
    return CamaraArea(area_type=CIRCLE, center=center, radius=max(_LEAST_RADIUS_M, radius_m))
