"""Service areas as GeoJSON and back."""

from __future__ import annotations

import json
import math

import pytest

from nf.common.errors import InvalidArgument
from nf.netapi.geojson import areas_of, collection_of
from nf.netapi.geometry import Fit, fit
from nf.netapi.v1.coverage_pb2 import Point, ServiceArea
from nf.netapi.v1.location_pb2 import DevicePosition

SQUARE = [[16.0, 48.0], [16.02, 48.0], [16.02, 48.01], [16.0, 48.01], [16.0, 48.0]]


def feature(**more: object) -> dict[str, object]:
    return {
        "type": "Feature",
        "id": "area",
        "properties": {},
        "geometry": {"type": "Polygon", "coordinates": [SQUARE]},
    } | more


def at(latitude: float, longitude: float) -> DevicePosition:
    return DevicePosition(point=Point(latitude=latitude, longitude=longitude))


def test_every_kind_of_area_goes_there_and_back() -> None:
    document = {
        "type": "FeatureCollection",
        "features": [
            feature(properties={"name": "Square", "capacity": {"downlink": "500.000 Mbps", "devices": 100}}),
            feature(
                id="circle",
                properties={"radius": 5000.0, "capacity": {"uplink": "1.500 Gbps"}},
                geometry={"type": "Point", "coordinates": [16.37, 48.21]},
            ),
            feature(
                id="islands",
                geometry={
                    "type": "MultiPolygon",
                    "coordinates": [[SQUARE], [[[17, 48], [17.01, 48], [17.01, 48.01], [17, 48]]]],
                },
            ),
            feature(id="cells", properties={"cells": ["232-01-00000ABCD"]}, geometry=None),
            feature(id="all", properties={"everywhere": True}, geometry=None),
        ],
    }
    areas = areas_of(json.loads(json.dumps(document)))
    assert [each.area_id for each in areas] == ["area", "circle", "islands", "cells", "all"]
    assert areas[0].capacity.downlink_bps == 500_000_000
    assert areas[1].capacity.uplink_bps == 1_500_000_000
    assert not areas[1].capacity.HasField("downlink_bps")
    assert areas_of(collection_of(areas)) == areas
    assert collection_of(areas)["features"][0] == document["features"][0]  # type: ignore[index]


def test_long_sides_stay_straight_lines_of_degrees() -> None:
    """From 10° to 11° east on the 60th parallel the shortest way is 240 m north of it."""
    ring = [[10, 60], [11, 60], [11, 60.5], [10, 60.5], [10, 60]]
    (area,) = areas_of(feature(geometry={"type": "Polygon", "coordinates": [ring]}))
    assert len(area.geometry.polygon.boundary) == 4 + 2 * (math.ceil(math.sqrt(105)) - 1)
    just_inside, just_outside = 60 + 2 / 111_000, 60 - 2 / 111_000
    assert fit(area, at(just_inside, 10.5))[0] is Fit.INSIDE
    assert fit(area, at(just_outside, 10.5))[0] is Fit.OUTSIDE


def test_a_name_of_a_number_and_a_name_among_the_properties_are_names() -> None:
    assert areas_of(feature(id=7))[0].area_id == "7"
    unnamed = feature(properties={"area_id": "inner"})
    del unnamed["id"]
    assert areas_of(unnamed) == [ServiceArea(area_id="inner", geometry=areas_of(feature())[0].geometry)]


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        ([], "document: expected an object, found an array"),
        ({"type": "Polygon"}, "type: expected FeatureCollection or Feature, found 'Polygon'"),
        ({"type": "FeatureCollection"}, "features: expected an array, found null"),
        ({"type": "FeatureCollection", "features": [7]}, "features[0]: expected an object, found the number 7"),
        ({"type": "FeatureCollection", "features": [feature(), feature()]}, "features[1].id: expected each once"),
        (feature(id=None), "id: expected a name of the area, found null"),
        (feature(id="a b"), "feature.area_id: expected 1 to 256 letters"),
        (feature(geometry=None), "feature.geometry: expected a geometry, cells or everywhere"),
        (feature(geometry={"type": "Point", "coordinates": [1, 2]}), "geometry: expected a property radius"),
        (feature(geometry={"type": "LineString"}), "geometry.type: expected Point, Polygon or MultiPolygon"),
        (feature(geometry={"type": "Polygon", "coordinates": [SQUARE, SQUARE]}), "found 2: areas have no holes"),
        (feature(geometry={"type": "Polygon", "coordinates": [SQUARE[:-1]]}), "the last as the first"),
        (
            feature(geometry={"type": "Polygon", "coordinates": [[*SQUARE[:2], [16, 91], *SQUARE[2:]]]}),
            "geometry.coordinates[0][2][1]: expected -90 to 90, found 91",
        ),
        (
            feature(geometry={"type": "Polygon", "coordinates": [[*SQUARE[:2], ["16", 48], *SQUARE[2:]]]}),
            "geometry.coordinates[0][2][0]: expected a number, found the string '16'",
        ),
        (
            feature(geometry={"type": "Polygon", "coordinates": [[*SQUARE[:2], [10**400, 48], *SQUARE[2:]]]}),
            "geometry.coordinates[0][2][0]: expected a number",
        ),
        (
            feature(
                geometry={"type": "Polygon", "coordinates": [[SQUARE[0], SQUARE[2], SQUARE[1], SQUARE[3], SQUARE[0]]]}
            ),
            "feature.geometry.polygon.boundary: expected the outline of an area that does not cross itself",
        ),
        (feature(properties={"capacity": {"downlink": "fast"}}), "properties.capacity.downlink: expected a bit rate"),
        (feature(properties={"capacity": {"down": "1 bps"}}), "properties.capacity.down: expected downlink, uplink"),
        (
            feature(properties={"capacity": {"devices": -1}}),
            "properties.capacity.devices: expected a number of devices",
        ),
        (feature(properties={"cells": ["232-01-ABCD"]}), "properties.cells[0]: expected 'MCC-MNC-NCI'"),
        (feature(properties={"everywhere": 1}), "properties.everywhere: expected true or false"),
        (feature(properties={"everywhere": True}), "feature.everywhere: expected neither geometry nor cells"),
    ],
)
def test_what_is_no_area_is_refused_with_its_place(tree: object, told: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        areas_of(tree)
    assert told in refused.value.message
    assert refused.value.violations
