"""Service areas as GeoJSON (RFC 7946) and back.

A feature is an area, by its ``id`` (or the property ``area_id``). Further properties are ``name``; ``radius``, which
makes a Point a circle, in metres; ``capacity`` with ``downlink``, ``uplink`` ("500 Mbps") and ``devices``; ``cells``,
each "MCC-MNC-NCI". A feature without geometry has its cells alone, or is ``everywhere``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

from nf.common.bit_rate import bit_rate_text, parse_bit_rate
from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.json_text import type_name
from nf.common.v1.mbs_pb2 import Ncgi, PlmnId
from nf.netapi.coverage_checks import area_violations
from nf.netapi.v1.coverage_pb2 import AreaCapacity, Circle, Geometry, MultiPolygon, Point, Polygon, ServiceArea

_CELL: Final = re.compile(r"([0-9]{3})-([0-9]{2,3})-([0-9A-Fa-f]{9})")
_EARTH_M: Final = 6_371_000.0
# A side is a straight line of degrees there and the shortest way here: it gets points in between where these are
# farther apart than that.
_TOLERANCE_M: Final = 1.0


def areas_of(tree: object) -> list[ServiceArea]:
    """The areas of a FeatureCollection or of one Feature.

    Raises InvalidArgument, with paths into the document ("features[2].geometry.coordinates[0][4]").
    """
    document = _object(tree, "")
    kind = document.get("type")
    if kind == "FeatureCollection":
        features = _array(document.get("features"), "features")
        found = [_area(each, f"features[{index}]") for index, each in enumerate(features)]
        seen: set[str] = set()
        for index, area in enumerate(found):
            if area.area_id in seen:
                raise InvalidArgument.of(f"features[{index}].id", f"expected each once, found {area.area_id!r} again")
            seen.add(area.area_id)
        return found
    if kind == "Feature":
        return [_area(document, "")]
    raise InvalidArgument.of("type", f"expected FeatureCollection or Feature, found {_shown(kind)}")


def collection_of(areas: Iterable[ServiceArea]) -> dict[str, object]:
    """The areas as a FeatureCollection."""
    return {"type": "FeatureCollection", "features": [_feature(each) for each in areas]}


def geometry_of(tree: object, field: str, radius_m: float | None = None) -> Geometry:
    """The geometry of a GeoJSON Point (with a radius), Polygon or MultiPolygon. Raises InvalidArgument."""
    document = _object(tree, field)
    kind, coordinates, where = document.get("type"), document.get("coordinates"), f"{field}.coordinates"
    if kind == "Point":
        if radius_m is None:
            raise InvalidArgument.of(field, "expected a property radius beside a Point, in metres, found none")
        return Geometry(circle=Circle(center=_point(coordinates, where), radius_m=radius_m))
    if kind == "Polygon":
        return Geometry(polygon=_polygon(coordinates, where))
    if kind == "MultiPolygon":
        polygons = [_polygon(each, f"{where}[{index}]") for index, each in enumerate(_array(coordinates, where))]
        return Geometry(multi_polygon=MultiPolygon(polygons=polygons))
    raise InvalidArgument.of(f"{field}.type", f"expected Point, Polygon or MultiPolygon, found {_shown(kind)}")


def _area(tree: object, field: str) -> ServiceArea:
    prefix = f"{field}." if field else ""
    feature = _object(tree, field)
    if feature.get("type") != "Feature":
        raise InvalidArgument.of(f"{prefix}type", f"expected Feature, found {_shown(feature.get('type'))}")
    told, where = _object(feature.get("properties") or {}, f"{prefix}properties"), f"{prefix}properties"
    name = feature.get("id", told.get("area_id"))
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise InvalidArgument.of(f"{prefix}id", f"expected a name of the area, found {_shown(name)}")
    area = ServiceArea(area_id=str(name), name=_text(told.get("name"), f"{where}.name"))
    if feature.get("geometry") is not None:
        radius = _number(told["radius"], f"{where}.radius") if "radius" in told else None
        area.geometry.CopyFrom(geometry_of(feature["geometry"], f"{prefix}geometry", radius))
    if "everywhere" in told:
        area.everywhere = _flag(told["everywhere"], f"{where}.everywhere")
    if "capacity" in told:
        area.capacity.CopyFrom(_capacity(told["capacity"], f"{where}.capacity"))
    for index, each in enumerate(_array(told.get("cells", []), f"{where}.cells")):
        match = _CELL.fullmatch(each) if isinstance(each, str) else None
        if match is None:
            raise InvalidArgument.of(f"{where}.cells[{index}]", f"expected 'MCC-MNC-NCI', found {_shown(each)}")
        area.cells.append(Ncgi(plmn_id=PlmnId(mcc=match[1], mnc=match[2]), nr_cell_id=match[3].upper()))
    refused = area_violations(area, field or "feature")
    if refused:
        raise InvalidArgument.of_all(refused)
    return area


def _capacity(tree: object, field: str) -> AreaCapacity:
    told, capacity = _object(tree, field), AreaCapacity()
    unknown = [each for each in told if each not in ("downlink", "uplink", "devices")]
    if unknown:
        raise InvalidArgument.of(f"{field}.{unknown[0]}", "expected downlink, uplink or devices")
    if "downlink" in told:
        capacity.downlink_bps = _rate(told["downlink"], f"{field}.downlink")
    if "uplink" in told:
        capacity.uplink_bps = _rate(told["uplink"], f"{field}.uplink")
    if "devices" in told:
        devices = told["devices"]
        if isinstance(devices, bool) or not isinstance(devices, int) or not 0 <= devices < 2**32:
            raise InvalidArgument.of(f"{field}.devices", f"expected a number of devices, found {_shown(devices)}")
        capacity.devices = devices
    return capacity


def _polygon(tree: object, field: str) -> Polygon:
    rings = _array(tree, field)
    if len(rings) != 1:
        found = "none" if not rings else f"{len(rings)}: areas have no holes"
        raise InvalidArgument.of(field, f"expected one ring, found {found}")
    where = f"{field}[0]"
    points = [_point(each, f"{where}[{index}]") for index, each in enumerate(_array(rings[0], where))]
    if len(points) < 4 or points[0] != points[-1]:
        raise InvalidArgument.of(where, "expected at least 4 positions, the last as the first")
    return Polygon(boundary=list(_straight(points)))


def _straight(ring: Sequence[Point]) -> Iterator[Point]:
    """The points of a closed ring but the last, with others between them where a straight line of degrees is none."""
    for start, stop in pairwise(ring):
        yield start
        # The short way, also across the antimeridian.
        across = (stop.longitude - start.longitude + 540) % 360 - 180
        up = stop.latitude - start.latitude
        phi = math.radians((start.latitude + stop.latitude) / 2)
        apart_m = _EARTH_M * math.radians(across) ** 2 * abs(math.sin(phi) * math.cos(phi)) / 8
        parts = math.ceil(math.sqrt(apart_m / _TOLERANCE_M))
        for part in range(1, parts):
            longitude = (start.longitude + across * part / parts + 540) % 360 - 180
            yield Point(latitude=start.latitude + up * part / parts, longitude=longitude)


def _point(tree: object, field: str) -> Point:
    position = _array(tree, field)
    if len(position) < 2:
        raise InvalidArgument.of(field, f"expected longitude and latitude, found {len(position)} numbers")
    longitude, latitude = _number(position[0], f"{field}[0]"), _number(position[1], f"{field}[1]")
    for index, value, most in ((0, longitude, 180), (1, latitude, 90)):
        if abs(value) > most:
            raise InvalidArgument.of(f"{field}[{index}]", f"expected -{most} to {most}, found {value:g}")
    return Point(longitude=longitude, latitude=latitude)


def _feature(area: ServiceArea) -> dict[str, object]:
    told: dict[str, object] = {}
    geometry: dict[str, object] | None = None
    if area.name:
        told["name"] = area.name
    if area.everywhere:
        told["everywhere"] = True
    if area.geometry.HasField("circle"):
        circle = area.geometry.circle
        geometry = {"type": "Point", "coordinates": _position(circle.center)}
        told["radius"] = circle.radius_m
    elif area.geometry.HasField("polygon"):
        geometry = {"type": "Polygon", "coordinates": _rings(area.geometry.polygon)}
    elif area.geometry.HasField("multi_polygon"):
        polygons = [_rings(each) for each in area.geometry.multi_polygon.polygons]
        geometry = {"type": "MultiPolygon", "coordinates": polygons}
    if area.HasField("capacity"):
        capacity: dict[str, object] = {}
        if area.capacity.HasField("downlink_bps"):
            capacity["downlink"] = bit_rate_text(area.capacity.downlink_bps)
        if area.capacity.HasField("uplink_bps"):
            capacity["uplink"] = bit_rate_text(area.capacity.uplink_bps)
        if area.capacity.HasField("devices"):
            capacity["devices"] = area.capacity.devices
        told["capacity"] = capacity
    if area.cells:
        told["cells"] = [f"{each.plmn_id.mcc}-{each.plmn_id.mnc}-{each.nr_cell_id}" for each in area.cells]
    return {"type": "Feature", "id": area.area_id, "properties": told, "geometry": geometry}


def _rings(polygon: Polygon) -> list[list[list[float]]]:
    positions = [_position(each) for each in polygon.boundary]
    return [[*positions, positions[0]]]


def _position(point: Point) -> list[float]:
    return [point.longitude, point.latitude]


def _object(tree: object, field: str) -> dict[str, object]:
    if not isinstance(tree, dict):
        raise _refused(field, "an object", tree)
    return tree


def _array(tree: object, field: str) -> list[object]:
    if not isinstance(tree, list):
        raise _refused(field, "an array", tree)
    return tree


def _text(value: object, field: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _refused(field, "a string", value)
    return value


def _flag(value: object, field: str) -> bool:
    if not isinstance(value, bool):
        raise _refused(field, "true or false", value)
    return value


def _number(value: object, field: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise _refused(field, "a number", value)


def _rate(value: object, field: str) -> int:
    if not isinstance(value, str):
        raise _refused(field, "a bit rate ('500 Mbps')", value)
    try:
        return parse_bit_rate(value)
    except ValueError:
        raise InvalidArgument.of(field, f"expected a bit rate ('500 Mbps'), found {_shown(value)}") from None


def _refused(field: str, expected: str, value: object) -> InvalidArgument:
    where = field or "document"
    told = f"expected {expected}, found {type_name(value)}"
    return InvalidArgument(f"{where}: {told}", violations=(FieldViolation(where, told),))


def _shown(value: object) -> str:
    return repr(value)[:64] if isinstance(value, str) else type_name(value)
