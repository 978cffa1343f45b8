"""Where things are, in metres: whether a geometry is one, whether two touch, how much of a position is in an area.

A geometry is laid onto a plane that touches the earth at its middle (azimuthal equidistant: distances and directions
from there are true), so that a metre is a metre. At 100 km from there the scale is wrong by 1 in 24,000. The
earth is a sphere here; against the ellipsoid that is 0.5 % of a distance at the most.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TypeAlias

from nf.netapi.v1.coverage_pb2 import Geometry, ServiceArea
from nf.netapi.v1.location_pb2 import DevicePosition

Placed: TypeAlias = ServiceArea | Geometry


class Fit(Enum):
    """Whether something is in an area."""

    INSIDE = auto()
    OUTSIDE = auto()
    # Part of where it may be is.
    PARTIAL = auto()
    # It is not known where it is, or the area says nothing of where that is.
    UNKNOWN = auto()


def check(geometry: Geometry, field: str) -> None:
    """Raises InvalidArgument, with paths from ``field``, unless exactly one geometry is there and is one."""
    raise NotImplementedError


def fit(area: Placed, position: DevicePosition | None) -> tuple[Fit, int]:
    """Whether a device is in an area, and with PARTIAL how much of where it may be is inside, 1 to 99 percent.

    The percent is 100 with INSIDE, 0 with OUTSIDE and UNKNOWN. An area that is everywhere has every device, known or
    not. A position with a point is compared with the geometry, one with a cell only with the cells.
    """
    raise NotImplementedError


def touches(a: Geometry, b: Geometry) -> bool:
    """Whether two geometries have a point in common."""
    raise NotImplementedError
