"""Tracks: ways through points, read from GPX 1.0 and 1.1 or GeoJSON (RFC 7946), and where one is on them at a time.

The times of a GPX point are in its ``time``; those of a GeoJSON LineString in ``coordTimes`` or ``times`` of its
feature's properties, or in ``coordinateProperties.times`` there.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nf.common.errors import InvalidArgument

if TYPE_CHECKING:
    from lxml.etree import _Element

# The mean radius of the earth, in metres: what a way is long is known to less than half a percent by it.
_EARTH_M: Final = 6_371_008.8
MAX_BYTES: Final = 64 * 1024 * 1024
_LEAST_POINTS: Final = 2


@dataclass(frozen=True, slots=True)
class Waypoint:
    """A point of a track; ``where`` says where it stands in its file, ``time`` is None where the file has none."""

    latitude: float
    longitude: float
    time: datetime | None
    where: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where one is, and how far that is along the track."""

    latitude: float
    longitude: float
    along_m: float


class Track:
    """Points, each with the seconds from the first one to it."""

    def __init__(self, points: Sequence[Waypoint], at_s: Sequence[float]) -> None:
        self._points = list(points)
        self._at_s = list(at_s)
        self._along_m = _along_m(points)

    @property
    def duration_s(self) -> float:
        """From the first point to the last."""
        return self._at_s[-1]

    @property
    def length_m(self) -> float:
        """Along all points."""
        return self._along_m[-1]

    def place(self, at_s: float) -> Place:
        """Where one is so long after the first point: between two points in a straight line and evenly."""
        at_s = min(max(at_s, 0.0), self.duration_s)
        # The last of several points at the same time is where one is.
        before = min(bisect_right(self._at_s, at_s) - 1, len(self._points) - 1)
        after = min(before + 1, len(self._points) - 1)
        spent = self._at_s[after] - self._at_s[before]
        share = (at_s - self._at_s[before]) / spent if spent else 0.0
        a, b = self._points[before], self._points[after]
        # The shorter way around the earth.
        turn = (b.longitude - a.longitude + 540.0) % 360.0 - 180.0
        longitude = (a.longitude + share * turn + 540.0) % 360.0 - 180.0
        along_m = self._along_m[before] + share * (self._along_m[after] - self._along_m[before])
        return Place(a.latitude + share * (b.latitude - a.latitude), longitude, along_m)


def read(path: Path, *, speed_mps: float | None = None) -> Track:
    """The track of a file, at an even speed or (None) as its times say.

    Raises InvalidArgument, which names the file and what in it is wrong.
    """
    points = _points(path)
    if len(points) < _LEAST_POINTS:
        raise InvalidArgument(f"{path}: found {len(points)} points, expected a track of at least {_LEAST_POINTS}")
    at_s = _times(path, points) if speed_mps is None else [along_m / speed_mps for along_m in _along_m(points)]
    if not at_s[-1]:
        raise InvalidArgument(f"{path}: found a track that takes no time, expected points or times that differ")
    return Track(points, at_s)


def _points(path: Path) -> list[Waypoint]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidArgument(f"{path}: found more than {MAX_BYTES // 1024 // 1024} MiB, expected less")
        content = path.read_bytes()
    except OSError as error:
        raise InvalidArgument(f"{path}: cannot be read: {error.strerror}") from None
    start = content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if start == b"<":
        return _gpx(path, content)
    if start == b"{":
        return _geojson(path, content)
    raise InvalidArgument(f"{path}: found neither, expected GPX (XML) or GeoJSON")


def _times(path: Path, points: Sequence[Waypoint]) -> list[float]:
    first = points[0].time
    at_s: list[float] = []
    for point in points:
        if first is None or point.time is None:
            missing = next(each for each in points if each.time is None)
            raise InvalidArgument(f"{path}: {missing.where}: found no time, expected one with every point, or --speed")
        elapsed_s = (point.time - first).total_seconds()
        if at_s and elapsed_s < at_s[-1]:
            raise InvalidArgument(
                f"{path}: {point.where}: found {point.time.isoformat()}, expected no time before that of the last point"
            )
        at_s.append(elapsed_s)
    return at_s


def _gpx(path: Path, content: bytes) -> list[Waypoint]:
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        raise InvalidArgument(f"{path}: line {error.lineno}: {error.msg}") from None
    name = etree.QName(root).localname
    if name != "gpx":
        raise InvalidArgument(f"{path}: line {root.sourceline}: found <{name}>, expected <gpx>")
    found = list(root.iter("{*}trkpt")) or list(root.iter("{*}rtept"))
    return [_gpx_point(path, each) for each in found]


def _gpx_point(path: Path, element: _Element) -> Waypoint:
    where = f"line {element.sourceline}"
    latitude = _degrees(path, where, "lat", element.get("lat", ""), 90)
    longitude = _degrees(path, where, "lon", element.get("lon", ""), 180)
    text = next((each.text or "" for each in element.iterchildren("{*}time")), None)
    moment = None if text is None else _moment(path, where, text.strip())
    return Waypoint(latitude, longitude, moment, where)


def _degrees(path: Path, where: str, name: str, value: object, most: int) -> float:
    try:
        found = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        found = math.nan
    if not -most <= found <= most:
        raise InvalidArgument(f"{path}: {where}: {name}: found {value!r}, expected -{most} to {most}")
    return found


def _moment(path: Path, where: str, text: object) -> datetime:
    try:
        if not isinstance(text, str):
            raise ValueError
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidArgument(
            f"{path}: {where}: time: found {text!r}, expected one such as 2026-05-01T08:00:00Z"
        ) from None
    # GPX: a time without a zone is UTC.
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _geojson(path: Path, content: bytes) -> list[Waypoint]:
    try:
        tree = json.loads(content)
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{path}: byte {error.start}: found no UTF-8, expected that") from None
    except json.JSONDecodeError as error:
        raise InvalidArgument(f"{path}: line {error.lineno} column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise InvalidArgument(f"{path}: found too many levels, expected GeoJSON") from None
    return _in_object(path, tree, "", {})


def _in_object(path: Path, tree: object, where: str, properties: dict[str, object]) -> list[Waypoint]:
    """The points of all lines in a GeoJSON object."""
    kind = tree.get("type") if isinstance(tree, dict) else None
    inner = f"{where}." if where else ""
    if not isinstance(tree, dict) or not isinstance(kind, str):
        raise InvalidArgument(f"{path}: {where or 'the whole'}: found no object with a type, expected GeoJSON")
    if kind == "FeatureCollection":
        features = _list(path, tree.get("features"), f"{inner}features")
        return [
            point
            for index, each in enumerate(features)
            for point in _in_object(path, each, f"{inner}features[{index}]", {})
        ]
    if kind == "Feature":
        told = tree.get("properties")
        return _in_object(path, tree.get("geometry"), f"{inner}geometry", told if isinstance(told, dict) else {})
    if kind in ("LineString", "MultiLineString"):
        lines = _list(path, tree.get("coordinates"), f"{inner}coordinates")
        several = kind == "MultiLineString"
        times = _times_of(properties)
        if not several:
            return _line(path, lines, f"{inner}coordinates", times)
        found = []
        for index, line in enumerate(lines):
            at = f"{inner}coordinates[{index}]"
            own = times[index] if isinstance(times, list) and index < len(times) else None
            found += _line(path, _list(path, line, at), at, own)
        return found
    # Places on the way are no track.
    return []


def _times_of(properties: dict[str, object]) -> object:
    of_coordinates = properties.get("coordinateProperties")
    nested = of_coordinates.get("times") if isinstance(of_coordinates, dict) else None
    return properties.get("coordTimes") or properties.get("times") or nested


def _line(path: Path, coordinates: list[object], where: str, times: object) -> list[Waypoint]:
    if times is not None and (not isinstance(times, list) or len(times) != len(coordinates)):
        found = len(times) if isinstance(times, list) else repr(times)
        raise InvalidArgument(f"{path}: {where}: found {found} times, expected {len(coordinates)}, one for each point")
    points = []
    for index, each in enumerate(coordinates):
        at = f"{where}[{index}]"
        values = _list(path, each, at)
        if len(values) < _LEAST_POINTS:
            raise InvalidArgument(f"{path}: {at}: found {len(values)} numbers, expected longitude and latitude")
        longitude = _degrees(path, at, "longitude", values[0], 180)
        latitude = _degrees(path, at, "latitude", values[1], 90)
        moment = _moment(path, at, times[index]) if isinstance(times, list) else None
        points.append(Waypoint(latitude, longitude, moment, at))
    return points


def _list(path: Path, value: object, where: str) -> list[object]:
    if not isinstance(value, list):
        raise InvalidArgument(f"{path}: {where}: found no list, expected one")
    return value


def _along_m(points: Sequence[Waypoint]) -> list[float]:
    along = [0.0]
    for a, b in pairwise(points):
        along.append(along[-1] + _apart_m(a, b))
    return along


def _apart_m(a: Waypoint, b: Waypoint) -> float:
    """The great-circle distance (haversine)."""
    phi_a, phi_b = math.radians(a.latitude), math.radians(b.latitude)
    half_lat, half_lon = (phi_b - phi_a) / 2, math.radians(b.longitude - a.longitude) / 2
    chord = math.sin(half_lat) ** 2 + math.cos(phi_a) * math.cos(phi_b) * math.sin(half_lon) ** 2
    return 2 * _EARTH_M * math.asin(min(1.0, math.sqrt(chord)))
