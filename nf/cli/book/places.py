"""Service areas from files and options: TOML, JSON, GeoJSON (RFC 7946), circles, cells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from nf.cli.book import documents
from nf.common.errors import InvalidArgument
from nf.common.v1.mbs_pb2 import Ncgi
from nf.netapi import geojson
from nf.netapi.v1 import coverage_pb2 as coverage


def areas_in(file: Path) -> list[coverage.ServiceArea]:
    """The areas of a file: one, a list, ``[[service_areas]]``, or the features of GeoJSON. Raises InvalidArgument."""
    tree = documents.read(file)
    if isinstance(tree, Mapping) and tree.get("type") in ("FeatureCollection", "Feature"):
        with _found_in(file):
            return geojson.areas_of(tree)
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
    """The geometry of a GeoJSON file: a geometry, or that of its only feature. Raises InvalidArgument."""
    tree = documents.read(file)
    radius_m = None
    if isinstance(tree, Mapping) and tree.get("type") == "FeatureCollection":
        features = tree.get("features")
        if not isinstance(features, list) or len(features) != 1:
            raise InvalidArgument(f"{file}: features: expected one")
        tree = features[0]
    if isinstance(tree, Mapping) and tree.get("type") == "Feature":
        told = tree.get("properties")
        radius_m = told.get("radius") if isinstance(told, Mapping) else None
        tree = tree.get("geometry")
    with _found_in(file):
        return geojson.geometry_of(tree, "geometry", radius_m if isinstance(radius_m, int | float) else None)


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


@contextmanager
def _found_in(file: Path) -> Iterator[None]:
    try:
        yield
    except InvalidArgument as error:
        raise InvalidArgument(f"{file}: {error}") from None
