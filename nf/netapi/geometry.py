"""Where things are, in metres: whether a geometry is one, whether two touch, how much of a position is in an area.

The points of a polygon are joined by the shortest way on the earth, as in TS 23.032. Everything is laid onto the plane
around the point that matters: that of the device, or the middle of what is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.v1.mbs_pb2 import Ncgi
from nf.netapi.projection import Plane, bound_of, distance_m, polygons_of
from nf.netapi.v1.coverage_pb2 import Circle, Geometry, Point, Polygon, ServiceArea
from nf.netapi.v1.location_pb2 import DevicePosition

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

Placed: TypeAlias = ServiceArea | Geometry

# What is greater is everywhere, or several areas.
MAX_RADIUS_M: Final = 1_000_000
MAX_POINTS: Final = 10_000
_KINDS: Final[tuple[Literal["circle", "polygon", "multi_polygon"], ...]] = ("circle", "polygon", "multi_polygon")
# So much of its radius is more than a distance on the plane of a geometry is wrong by: who is farther than that from
# the boundary is looked at no closer.
_UNTRUE: Final = 0.02
# The circle in which a device may be is laid on polygons as one of four times so many sides.
_QUARTER_SIDES: Final = 64


class Fit(Enum):
    """Whether something is in an area."""

    INSIDE = auto()
    OUTSIDE = auto()
    # Part of where it may be is.
    PARTIAL = auto()
    # It is not known where it is, or the area says nothing of where that is.
    UNKNOWN = auto()


def fit(area: Placed, position: DevicePosition | None) -> tuple[Fit, int]:
    """Whether a device is in an area, and with PARTIAL how much of where it may be is inside, 1 to 99 percent.

    The percent is 100 with INSIDE, 0 with OUTSIDE and UNKNOWN. An area that is everywhere has every device, be its
    position known (None) or not. A point is compared with the geometry, a cell with the cells where the one or the
    other has no more than that.
    """
    if isinstance(area, ServiceArea):
        if area.everywhere:
            return Fit.INSIDE, 100
        geometry = area.geometry if area.HasField("geometry") else None
        cells: Sequence[Ncgi] = area.cells
    else:
        geometry, cells = area, ()
    if position is None:
        return Fit.UNKNOWN, 0
    if geometry is not None and position.HasField("point"):
        return _fit_point(geometry, position.point, position.uncertainty_m)
    if cells and position.HasField("cell"):
        return (Fit.INSIDE, 100) if any(same_cell(each, position.cell) for each in cells) else (Fit.OUTSIDE, 0)
    return Fit.UNKNOWN, 0


def touches(a: Geometry, b: Geometry) -> bool:
    """Whether two geometries have a point in common."""
    if b.HasField("circle"):
        a, b = b, a
    if a.HasField("circle"):
        center = a.circle.center
        if b.HasField("circle"):
            return distance_m(center, b.circle.center) <= a.circle.radius_m + b.circle.radius_m
        bound = bound_of(b)
        if bound.is_clear_of(center.latitude, center.longitude, a.circle.radius_m):
            return False
        if bound.is_within(center.latitude, center.longitude, a.circle.radius_m):
            return True
        return _reach_m(b, Plane(center.latitude, center.longitude)) <= a.circle.radius_m
    first, second = bound_of(a), bound_of(b)
    if first.is_clear_of(second.latitude, second.longitude, second.radius_m):
        return False
    plane = first.plane
    return _laid(a, plane).intersects(_laid(b, plane))


def same_cell(a: Ncgi, b: Ncgi) -> bool:
    """Whether two names mean one cell; hexadecimal digits are the same in small and capital letters."""
    return a.plmn_id == b.plmn_id and a.nr_cell_id.upper() == b.nr_cell_id.upper() and a.nid.upper() == b.nid.upper()


def check(geometry: Geometry, field: str) -> None:
    """Raises InvalidArgument, with paths from ``field``, unless exactly one geometry is there and is one."""
    refused = list(violations(geometry, field))
    if refused:
        raise InvalidArgument.of_all(refused)


def violations(geometry: Geometry, field: str) -> list[FieldViolation]:
    """What is wrong with a geometry, with paths from ``field``."""
    present = [each for each in _KINDS if geometry.HasField(each)]
    if len(present) != 1:
        found = " and ".join(present) if present else "nothing"
        return [FieldViolation(field, f"expected one of {', '.join(_KINDS)}, found {found}")]
    if geometry.HasField("circle"):
        return _circle_violations(geometry.circle, f"{field}.circle")
    if geometry.HasField("polygon"):
        return _polygon_violations(geometry.polygon, f"{field}.polygon") or _size_violations(geometry, field)
    polygons = geometry.multi_polygon.polygons
    if not polygons:
        return [FieldViolation(f"{field}.multi_polygon.polygons", "expected at least 1, found none")]
    refused = []
    for index, each in enumerate(polygons):
        refused += _polygon_violations(each, f"{field}.multi_polygon.polygons[{index}]")
    return refused or _size_violations(geometry, field)


def point_violations(point: Point, field: str) -> list[FieldViolation]:
    """What is wrong with a point."""
    refused = []
    for name, value, most in (("latitude", point.latitude, 90), ("longitude", point.longitude, 180)):
        # Not a number is neither.
        if not -most <= value <= most:
            refused.append(FieldViolation(f"{field}.{name}", f"expected -{most} to {most}, found {value:g}"))
    return refused


def _circle_violations(circle: Circle, field: str) -> list[FieldViolation]:
    if not circle.HasField("center"):
        return [FieldViolation(f"{field}.center", "expected, found nothing")]
    refused = point_violations(circle.center, f"{field}.center")
    if not 1 <= circle.radius_m <= MAX_RADIUS_M:
        refused.append(FieldViolation(f"{field}.radius_m", f"expected 1 to {MAX_RADIUS_M}, found {circle.radius_m:g}"))
    return refused


def _polygon_violations(polygon: Polygon, field: str) -> list[FieldViolation]:
    where = f"{field}.boundary"
    if not 3 <= len(polygon.boundary) <= MAX_POINTS:
        return [FieldViolation(where, f"expected 3 to {MAX_POINTS} points, found {len(polygon.boundary)}")]
    refused = []
    for index, each in enumerate(polygon.boundary):
        refused += point_violations(each, f"{where}[{index}]")
    if refused:
        return refused
    if bound_of(Geometry(polygon=polygon)).radius_m > MAX_RADIUS_M:
        return [FieldViolation(where, f"expected points within {MAX_RADIUS_M // 1000} km of their middle")]
    from shapely import is_valid_reason

    shape = _shape_of(polygon, bound_of(Geometry(polygon=polygon)).plane)
    if not shape.is_valid:
        reason = is_valid_reason(shape).partition("[")[0].lower()
        return [FieldViolation(where, f"expected the outline of an area that does not cross itself, found {reason}")]
    return [] if shape.area > 0 else [FieldViolation(where, "expected the outline of an area, found a line")]


def _size_violations(geometry: Geometry, field: str) -> list[FieldViolation]:
    points = sum(len(each.boundary) for each in polygons_of(geometry))
    if points > MAX_POINTS:
        return [FieldViolation(field, f"expected at most {MAX_POINTS} points, found {points}")]
    if bound_of(geometry).radius_m > MAX_RADIUS_M:
        return [FieldViolation(field, f"expected points within {MAX_RADIUS_M // 1000} km of their middle")]
    return []


def _fit_point(geometry: Geometry, point: Point, uncertainty_m: float) -> tuple[Fit, int]:
    if geometry.HasField("circle"):
        apart_m = distance_m(geometry.circle.center, point)
        return _told(*_circles(apart_m, geometry.circle.radius_m, uncertainty_m))
    bound = bound_of(geometry)
    if bound.is_clear_of(point.latitude, point.longitude, uncertainty_m):
        return Fit.OUTSIDE, 0
    from shapely.geometry import Point as Place

    home = _at_home(geometry.SerializeToString(deterministic=True))
    there = Place(*bound.plane.place(point.latitude, point.longitude))
    if home.boundary.distance(there) > uncertainty_m + _UNTRUE * bound.radius_m:
        is_within = home.shape.covers(there)
        return _told(is_within, not is_within, 0.0)
    laid = _laid(geometry, Plane(point.latitude, point.longitude))
    here = Place(0.0, 0.0)
    to_boundary_m, is_within = laid.boundary.distance(here), laid.covers(here)
    if to_boundary_m >= uncertainty_m:
        return _told(is_within, not is_within, 0.0)
    around = here.buffer(uncertainty_m, quad_segs=_QUARTER_SIDES)
    return _told(False, False, laid.intersection(around).area / around.area)


def _circles(apart_m: float, radius_m: float, uncertainty_m: float) -> tuple[bool, bool, float]:
    """Whether a circle of uncertainty is inside another circle, outside of it, or else which share of it is inside."""
    if apart_m + uncertainty_m <= radius_m:
        return True, False, 1.0
    if apart_m > radius_m + uncertainty_m or uncertainty_m == 0.0:
        return False, True, 0.0
    if apart_m + radius_m <= uncertainty_m:
        return False, False, (radius_m / uncertainty_m) ** 2
    # Two segments of circles, on both sides of the line through the points where they cross.
    along_m = (apart_m**2 + uncertainty_m**2 - radius_m**2) / (2 * apart_m)
    lens_m2 = _segment_m2(uncertainty_m, along_m) + _segment_m2(radius_m, apart_m - along_m)
    return False, False, lens_m2 / (math.pi * uncertainty_m**2)


def _segment_m2(radius_m: float, distance_from_center_m: float) -> float:
    """The part of a circle beyond a straight line."""
    ratio = max(-1.0, min(1.0, distance_from_center_m / radius_m))
    return radius_m**2 * (math.acos(ratio) - ratio * math.sqrt(1 - ratio * ratio))


def _told(is_inside: bool, is_outside: bool, share: float) -> tuple[Fit, int]:
    if is_inside:
        return Fit.INSIDE, 100
    if is_outside:
        return Fit.OUTSIDE, 0
    return Fit.PARTIAL, min(99, max(1, round(share * 100)))


@dataclass(frozen=True, slots=True)
class _Home:
    """The polygons of a geometry on the plane around their own middle."""

    shape: BaseGeometry
    boundary: BaseGeometry


@lru_cache(maxsize=512)
def _at_home(serialized: bytes) -> _Home:
    from shapely import prepare

    geometry = Geometry.FromString(serialized)
    shape = _laid(geometry, bound_of(geometry).plane)
    prepare(shape)
    return _Home(shape, shape.boundary)


def _reach_m(geometry: Geometry, plane: Plane) -> float:
    """How far polygons are from the middle of a plane."""
    from shapely.geometry import Point as Place

    return float(_laid(geometry, plane).distance(Place(0.0, 0.0)))


def _laid(geometry: Geometry, plane: Plane) -> BaseGeometry:
    """The polygons of a geometry on a plane."""
    from shapely import union_all

    shapes = [_shape_of(each, plane) for each in polygons_of(geometry)]
    return shapes[0] if len(shapes) == 1 else union_all(shapes)


def _shape_of(polygon: Polygon, plane: Plane) -> BaseGeometry:
    from shapely.geometry import Polygon as Shape

    return Shape(plane.ring(polygon))
