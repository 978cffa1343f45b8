"""Service areas from files and options: TOML, JSON, GeoJSON (RFC 7946), circles, cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from nf.cli.book import documents
from nf.common.errors import InvalidArgument
from nf.common.v1.mbs_pb2 import Ncgi
from nf.netapi.v1 import coverage_pb2 as coverage

_FEATURES = ("FeatureCollection", "Feature")
_GEOMETRIES = ("Polygon", "MultiPolygon", "Point")


def areas_in(file: Path) -> list[coverage.ServiceArea]:
    """The areas of a file: one, a list, ``[[service_areas]]``, or the features of GeoJSON. Raises InvalidArgument."""
    tree = documents.read(file)
    if isinstance(tree, Mapping) and tree.get("type") in _FEATURES:
        features = tree.get("features") if tree["type"] == "FeatureCollection" else [tree]
        if not isinstance(features, list) or not features:
            raise InvalidArgument(f"{file}: features: expected a list of features, found none")
        return [_area_of(each, f"{file}: features[{at}]") for at, each in enumerate(features)]
    return [
        documents.message_of(coverage.ServiceArea, each, where) for each, where in listed(tree, "service_areas", file)
    ]


def listed(tree: object, name: str, file: Path) -> list[tuple[object, str]]:
    """What a file has of one kind, each with where it stands."""
    if isinstance(tree, Mapping) and isinstance(tree.get(name), list):
        tree = tree[name]
    if isinstance(tree, list):
        return [(each, f"{file}: [{at}]") for at, each in enumerate(tree)]
    return [(tree, str(file))]


def geometry_in(file: Path) -> coverage.Geometry:
    """The geometry of a GeoJSON file: a geometry, or its only feature's. Raises InvalidArgument."""
    tree = documents.read(file)
    if isinstance(tree, Mapping) and tree.get("type") == "FeatureCollection":
        features = tree.get("features")
        if not isinstance(features, list) or len(features) != 1:
            raise InvalidArgument(f"{file}: expected one feature")
        tree = features[0]
    if isinstance(tree, Mapping) and tree.get("type") == "Feature":
        tree = tree.get("geometry")
    return geojson_geometry(tree, None, str(file))


def circle_of(text: str) -> coverage.Geometry:
    """``LATITUDE,LONGITUDE,RADIUS_M``. Raises InvalidArgument."""
    parts = text.split(",")
    try:
        latitude, longitude, radius_m = map(float, parts)
    except ValueError:
        raise InvalidArgument(
            f"option '--circle': found {text!r}, expected LATITUDE,LONGITUDE,METRES such as 48.21,16.37,5000"
        ) from None
    point = coverage.Point(latitude=latitude, longitude=longitude)
    return coverage.Geometry(circle=coverage.Circle(center=point, radius_m=radius_m))


def cells_of(texts: Iterable[str]) -> list[Ncgi]:
    """Cells of ``MCC-MNC-CELL`` (NCGI, nine hexadecimal digits). Raises InvalidArgument."""
    cells = []
    for text in texts:
        mcc, mnc, cell = [*text.split("-"), "", ""][:3]
        if not (mcc.isdecimal() and mnc.isdecimal() and cell) or text.count("-") != 2:
            raise InvalidArgument(f"option '--cell': found {text!r}, expected MCC-MNC-CELL such as 001-01-00000001A")
        cells.append(documents.message_of(Ncgi, {"plmnId": {"mcc": mcc, "mnc": mnc}, "nrCellId": cell}, "--cell"))
    return cells


def _area_of(feature: object, where: str) -> coverage.ServiceArea:
    """An area of a GeoJSON feature: its id (or property area_id), and its properties as the area's fields."""
    if not isinstance(feature, Mapping) or feature.get("type") != "Feature":
        raise InvalidArgument(f"{where}: expected a Feature")
    given = feature.get("properties") or {}
    if not isinstance(given, Mapping):
        raise InvalidArgument(f"{where}: properties: expected an object, found {type(given).__name__}")
    known = {name: value for name, value in given.items() if name in coverage.ServiceArea.DESCRIPTOR.fields_by_name}
    known.setdefault("area_id", feature.get("id"))
    area = documents.message_of(coverage.ServiceArea, known, where)
    area.geometry.CopyFrom(geojson_geometry(feature.get("geometry"), given.get("radius_m"), where))
    return area


def geojson_geometry(tree: object, radius_m: object, where: str) -> coverage.Geometry:
    """A Polygon, a MultiPolygon, or a Point with a radius. Raises InvalidArgument, also for polygons with holes."""
    kind = tree.get("type") if isinstance(tree, Mapping) else None
    if not isinstance(tree, Mapping) or kind not in _GEOMETRIES:
        raise InvalidArgument(f"{where}: geometry: found {kind!r}, expected one of {', '.join(_GEOMETRIES)}")
    try:
        coordinates = tree["coordinates"]
        if kind == "Polygon":
            return coverage.Geometry(polygon=_polygon(coordinates, where))
        if kind == "MultiPolygon":
            polygons = [_polygon(each, where) for each in coordinates]
            return coverage.Geometry(multi_polygon=coverage.MultiPolygon(polygons=polygons))
        if not isinstance(radius_m, int | float):
            raise InvalidArgument(f"{where}: a Point needs the property radius_m, in metres")
        return coverage.Geometry(circle=coverage.Circle(center=_point(coordinates), radius_m=radius_m))
    except (KeyError, TypeError, ValueError, IndexError):
        raise InvalidArgument(f"{where}: geometry: coordinates: expected those of a {kind} (RFC 7946)") from None


def _polygon(rings: list[list[list[float]]], where: str) -> coverage.Polygon:
    if len(rings) != 1:
        raise InvalidArgument(f"{where}: geometry: found {len(rings) - 1} holes, expected a polygon without")
    ring = rings[0]
    # GeoJSON repeats the first point at the end.
    closed = len(ring) > 1 and ring[0] == ring[-1]
    return coverage.Polygon(boundary=[_point(each) for each in (ring[:-1] if closed else ring)])


def _point(position: list[float]) -> coverage.Point:
    return coverage.Point(longitude=float(position[0]), latitude=float(position[1]))
