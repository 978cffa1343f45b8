"""The earth as a plane around a point: azimuthal equidistant, so that a metre from there is a metre.

On a sphere first, then stretched by the radii of curvature that the ellipsoid of WGS 84 has at the point: 1 km from it
distances are true to the millimetre, 100 km from it to some metres.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from nf.netapi.v1.coverage_pb2 import Geometry, Point, Polygon

# WGS 84: the equatorial radius, and the square of the first eccentricity.
_EQUATOR_M: Final = 6_378_137.0
_ECCENTRICITY2: Final = 6.694379990141e-3


class Plane:
    """The plane that touches the earth at a point; x goes east, y north, in metres."""

    __slots__ = ("_cos", "_longitude", "_sin", "_x_m", "_y_m")

    def __init__(self, latitude: float, longitude: float) -> None:
        phi = math.radians(latitude)
        self._longitude = math.radians(longitude)
        self._sin, self._cos = math.sin(phi), math.cos(phi)
        flattened = 1 - _ECCENTRICITY2 * self._sin * self._sin
        # The radii of curvature, across the meridian and along it.
        self._x_m = _EQUATOR_M / math.sqrt(flattened)
        self._y_m = _EQUATOR_M * (1 - _ECCENTRICITY2) / flattened**1.5

    def place(self, latitude: float, longitude: float) -> tuple[float, float]:
        """Where a point is."""
        phi, delta = math.radians(latitude), math.radians(longitude) - self._longitude
        sin, cos, cos_delta = math.sin(phi), math.cos(phi), math.cos(delta)
        east = cos * math.sin(delta)
        north = self._cos * sin - self._sin * cos * cos_delta
        # By both, as one alone knows nothing of small angles, the other nothing of great ones.
        across = math.hypot(east, north)
        if across == 0.0:
            return 0.0, 0.0
        scale = math.atan2(across, self._sin * sin + self._cos * cos * cos_delta) / across
        return self._x_m * scale * east, self._y_m * scale * north

    def ring(self, polygon: Polygon) -> list[tuple[float, float]]:
        """Where the points of a polygon are."""
        return [self.place(each.latitude, each.longitude) for each in polygon.boundary]


def distance_m(a: Point, b: Point) -> float:
    """How far one point is from another."""
    return math.hypot(*Plane(a.latitude, a.longitude).place(b.latitude, b.longitude))


@dataclass(frozen=True, slots=True)
class Bound:
    """A circle that a geometry is within."""

    latitude: float
    longitude: float
    radius_m: float

    @property
    def plane(self) -> Plane:
        """The plane around its middle."""
        return Plane(self.latitude, self.longitude)

    def is_within(self, latitude: float, longitude: float, radius_m: float) -> bool:
        """Whether it certainly lies in another circle."""
        return math.hypot(*self.plane.place(latitude, longitude)) * 1.01 + self.radius_m < radius_m

    def is_clear_of(self, latitude: float, longitude: float, radius_m: float) -> bool:
        """Whether another circle certainly does not reach it."""
        apart_m = math.hypot(*self.plane.place(latitude, longitude))
        # Far away the plane is not true to the metre, and nothing here has to be.
        return apart_m * 0.99 > self.radius_m + radius_m


def bound_of(geometry: Geometry) -> Bound:
    """A circle that the geometry is within; that of a circle is itself."""
    return _bound(geometry.SerializeToString(deterministic=True))


def polygons_of(geometry: Geometry) -> Sequence[Polygon]:
    """The polygons of a geometry; a circle has none."""
    if geometry.HasField("polygon"):
        return (geometry.polygon,)
    return tuple(geometry.multi_polygon.polygons)


@lru_cache(maxsize=4096)
def _bound(serialized: bytes) -> Bound:
    geometry = Geometry.FromString(serialized)
    if geometry.HasField("circle"):
        center = geometry.circle.center
        return Bound(center.latitude, center.longitude, geometry.circle.radius_m)
    points = [point for polygon in polygons_of(geometry) for point in polygon.boundary]
    x = y = z = 0.0
    for each in points:
        phi, lam = math.radians(each.latitude), math.radians(each.longitude)
        x, y, z = x + math.cos(phi) * math.cos(lam), y + math.cos(phi) * math.sin(lam), z + math.sin(phi)
    latitude, longitude = math.degrees(math.atan2(z, math.hypot(x, y))), math.degrees(math.atan2(y, x))
    plane = Plane(latitude, longitude)
    farthest = max((math.hypot(*plane.place(each.latitude, each.longitude)) for each in points), default=0.0)
    return Bound(latitude, longitude, farthest)
