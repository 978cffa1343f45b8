"""Geometry in metres: distances against the ellipsoid, points in areas, uncertainty, what is no geometry."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nf.common.errors import InvalidArgument
from nf.common.v1.mbs_pb2 import Ncgi, PlmnId
from nf.netapi.geometry import Fit, check, fit, touches
from nf.netapi.projection import Plane, distance_m
from nf.netapi.v1.coverage_pb2 import Circle, Geometry, MultiPolygon, Point, Polygon, ServiceArea
from nf.netapi.v1.location_pb2 import DevicePosition

VIENNA = Point(latitude=48.2082, longitude=16.3738)


def vincenty_m(a: Point, b: Point) -> float:
    """The length of the geodesic on WGS 84, by Vincenty's inverse formula."""
    major, flattening = 6378137.0, 1 / 298.257223563
    minor = (1 - flattening) * major
    u1 = math.atan((1 - flattening) * math.tan(math.radians(a.latitude)))
    u2 = math.atan((1 - flattening) * math.tan(math.radians(b.latitude)))
    difference = math.radians(b.longitude - a.longitude)
    lam = difference
    for _ in range(200):
        sin_sigma = math.hypot(
            math.cos(u2) * math.sin(lam), math.cos(u1) * math.sin(u2) - math.sin(u1) * math.cos(u2) * math.cos(lam)
        )
        if sin_sigma == 0:
            return 0.0
        cos_sigma = math.sin(u1) * math.sin(u2) + math.cos(u1) * math.cos(u2) * math.cos(lam)
        sigma = math.atan2(sin_sigma, cos_sigma)
        sin_alpha = math.cos(u1) * math.cos(u2) * math.sin(lam) / sin_sigma
        cos2_alpha = 1 - sin_alpha**2
        cos_2m = cos_sigma - 2 * math.sin(u1) * math.sin(u2) / cos2_alpha if cos2_alpha else 0.0
        c = flattening / 16 * cos2_alpha * (4 + flattening * (4 - 3 * cos2_alpha))
        before, lam = (
            lam,
            difference
            + (1 - c)
            * flattening
            * sin_alpha
            * (sigma + c * sin_sigma * (cos_2m + c * cos_sigma * (-1 + 2 * cos_2m**2))),
        )
        if abs(lam - before) < 1e-12:
            break
    u_squared = cos2_alpha * (major**2 - minor**2) / minor**2
    big_a = 1 + u_squared / 16384 * (4096 + u_squared * (-768 + u_squared * (320 - 175 * u_squared)))
    big_b = u_squared / 1024 * (256 + u_squared * (-128 + u_squared * (74 - 47 * u_squared)))
    delta = (
        big_b
        * sin_sigma
        * (
            cos_2m
            + big_b
            / 4
            * (cos_sigma * (-1 + 2 * cos_2m**2) - big_b / 6 * cos_2m * (-3 + 4 * sin_sigma**2) * (-3 + 4 * cos_2m**2))
        )
    )
    return minor * big_a * (sigma - delta)


def moved(origin: Point, east_m: float, north_m: float) -> Point:
    """A point so far from another, for distances of some kilometres; by Newton's method on the plane."""
    latitude, longitude = origin.latitude, origin.longitude
    plane = Plane(origin.latitude, origin.longitude)
    for _ in range(5):
        x, y = plane.place(latitude, longitude)
        latitude += (north_m - y) / 111_194
        longitude += (east_m - x) / (111_194 * math.cos(math.radians(latitude)))
    return Point(latitude=latitude, longitude=longitude)


def square(origin: Point, half_m: float, east_m: float = 0.0) -> Polygon:
    corners = ((-half_m, -half_m), (half_m, -half_m), (half_m, half_m), (-half_m, half_m))
    return Polygon(boundary=[moved(origin, east_m + x, y) for x, y in corners])


def circle(center: Point, radius_m: float) -> Geometry:
    return Geometry(circle=Circle(center=center, radius_m=radius_m))


def at(point: Point, uncertainty_m: float = 0.0) -> DevicePosition:
    return DevicePosition(point=point, uncertainty_m=uncertainty_m)


@given(st.floats(-80, 80), st.floats(-180, 180), st.floats(0.001, 100_000), st.floats(0, 2 * math.pi))
def test_distances_from_a_point_are_those_of_the_ellipsoid(
    latitude: float, longitude: float, reach_m: float, direction: float
) -> None:
    origin = Point(latitude=latitude, longitude=longitude)
    there = moved(origin, reach_m * math.sin(direction), reach_m * math.cos(direction))
    assert vincenty_m(origin, there) == pytest.approx(distance_m(origin, there), rel=2e-4, abs=0.001)


def test_a_kilometre_from_a_point_distances_are_true_to_a_few_millimetres() -> None:
    for direction in range(0, 360, 15):
        x, y = 1000 * math.sin(math.radians(direction)), 1000 * math.cos(math.radians(direction))
        assert vincenty_m(VIENNA, moved(VIENNA, x, y)) == pytest.approx(1000, abs=0.02)


def test_a_point_is_inside_a_circle_to_the_metre() -> None:
    area = circle(VIENNA, 5000)
    assert fit(area, at(moved(VIENNA, 4999, 0))) == (Fit.INSIDE, 100)
    assert fit(area, at(moved(VIENNA, 0, -4999))) == (Fit.INSIDE, 100)
    assert fit(area, at(moved(VIENNA, 5001, 0))) == (Fit.OUTSIDE, 0)
    assert fit(area, at(moved(VIENNA, 0, 5001))) == (Fit.OUTSIDE, 0)


def test_a_point_is_inside_a_polygon_to_the_metre() -> None:
    area = Geometry(polygon=square(VIENNA, 2000))
    assert fit(area, at(moved(VIENNA, 1999, 1999))) == (Fit.INSIDE, 100)
    assert fit(area, at(moved(VIENNA, 2001, 0))) == (Fit.OUTSIDE, 0)
    assert fit(area, at(moved(VIENNA, 500_000, 0))) == (Fit.OUTSIDE, 0)


def test_uncertainty_that_reaches_over_the_border_is_partial() -> None:
    by_circle, by_polygon = circle(VIENNA, 1_000_000), Geometry(polygon=square(VIENNA, 20_000))
    on_the_edge = moved(VIENNA, 20_000, 0)
    assert fit(by_polygon, at(on_the_edge, 100)) == (Fit.PARTIAL, 50)
    assert fit(by_polygon, at(moved(VIENNA, 19_850, 0), 100)) == (Fit.INSIDE, 100)
    assert fit(by_polygon, at(moved(VIENNA, 20_150, 0), 100)) == (Fit.OUTSIDE, 0)
    assert fit(by_circle, at(VIENNA, 5000)) == (Fit.INSIDE, 100)


def test_a_circle_in_a_greater_uncertainty_is_its_share_of_it() -> None:
    assert fit(circle(VIENNA, 500), at(VIENNA, 1000)) == (Fit.PARTIAL, 25)
    assert fit(circle(VIENNA, 10), at(VIENNA, 10_000)) == (Fit.PARTIAL, 1)
    assert fit(Geometry(polygon=square(VIENNA, 500)), at(VIENNA, 1000)) == (Fit.PARTIAL, 32)


def test_two_equal_circles_through_each_others_middles_share_what_the_lens_has() -> None:
    # 2/3 - sqrt(3) / (2 pi)
    assert fit(circle(VIENNA, 1000), at(moved(VIENNA, 1000, 0), 1000)) == (Fit.PARTIAL, 39)


@given(st.floats(0, 3000), st.floats(1, 2000), st.floats(0, 2 * math.pi))
def test_a_circle_and_a_polygon_of_very_many_sides_say_the_same(
    apart_m: float, uncertainty_m: float, direction: float
) -> None:
    sides = [2 * math.pi * each / 720 for each in range(720)]
    polygon = Polygon(boundary=[moved(VIENNA, 1000 * math.sin(each), 1000 * math.cos(each)) for each in sides])
    position = at(moved(VIENNA, apart_m * math.sin(direction), apart_m * math.cos(direction)), uncertainty_m)
    exact, near = fit(circle(VIENNA, 1000), position), fit(Geometry(polygon=polygon), position)
    assert abs(exact[1] - near[1]) <= 2


def test_an_area_across_the_antimeridian_is_one() -> None:
    fiji = Point(latitude=-17, longitude=179.999)
    area = Geometry(polygon=square(fiji, 5000))
    assert {each.longitude > 0 for each in area.polygon.boundary} == {True}
    wrapped = Geometry(
        polygon=Polygon(
            boundary=[
                Point(latitude=each.latitude, longitude=(each.longitude + 180) % 360 - 180)
                for each in area.polygon.boundary
            ]
        )
    )
    assert {each.longitude > 0 for each in wrapped.polygon.boundary} == {True, False}
    check(wrapped, "area")
    assert fit(wrapped, at(Point(latitude=-17, longitude=-179.97))) == (Fit.INSIDE, 100)
    assert fit(wrapped, at(Point(latitude=-17, longitude=-179.90))) == (Fit.OUTSIDE, 0)


def test_an_area_around_a_pole_has_the_pole_in_it() -> None:
    cap = Polygon(boundary=[Point(latitude=85, longitude=each) for each in range(-180, 180, 20)])
    area = Geometry(polygon=cap)
    check(area, "area")
    assert fit(area, at(Point(latitude=90, longitude=0))) == (Fit.INSIDE, 100)
    assert fit(area, at(Point(latitude=86, longitude=123))) == (Fit.INSIDE, 100)
    assert fit(area, at(Point(latitude=84.9, longitude=123))) == (Fit.OUTSIDE, 0)


def test_the_parts_of_several_polygons_count_once_where_they_overlap() -> None:
    area = Geometry(multi_polygon=MultiPolygon(polygons=[square(VIENNA, 1000), square(VIENNA, 1000, east_m=500)]))
    check(area, "area")
    assert fit(area, at(moved(VIENNA, 1400, 0))) == (Fit.INSIDE, 100)
    assert fit(area, at(moved(VIENNA, 1500, 0), 100)) == (Fit.PARTIAL, 50)
    # Inside of the one and across an edge of the other.
    assert fit(area, at(moved(VIENNA, -500, 0), 100)) == (Fit.INSIDE, 100)


def test_everywhere_has_every_device_and_nothing_is_known_without_a_position() -> None:
    everywhere = ServiceArea(area_id="all", everywhere=True)
    assert fit(everywhere, None) == (Fit.INSIDE, 100)
    assert fit(everywhere, DevicePosition()) == (Fit.INSIDE, 100)
    assert fit(circle(VIENNA, 1000), None) == (Fit.UNKNOWN, 0)
    assert fit(ServiceArea(geometry=circle(VIENNA, 1000)), DevicePosition()) == (Fit.UNKNOWN, 0)


def test_a_cell_is_compared_where_there_is_no_point() -> None:
    cell = Ncgi(plmn_id=PlmnId(mcc="232", mnc="01"), nr_cell_id="00000ABCD")
    small = Ncgi(plmn_id=PlmnId(mcc="232", mnc="01"), nr_cell_id="00000abcd")
    other = Ncgi(plmn_id=PlmnId(mcc="232", mnc="01"), nr_cell_id="00000ABCE")
    area = ServiceArea(area_id="a", geometry=circle(VIENNA, 1000), cells=[cell])
    assert fit(area, DevicePosition(cell=small)) == (Fit.INSIDE, 100)
    assert fit(area, DevicePosition(cell=other)) == (Fit.OUTSIDE, 0)
    far = moved(VIENNA, 2000, 0)
    assert fit(area, DevicePosition(cell=cell, point=far)) == (Fit.OUTSIDE, 0)
    assert fit(ServiceArea(area_id="b", cells=[cell]), at(VIENNA)) == (Fit.UNKNOWN, 0)


def test_geometries_touch_to_the_metre() -> None:
    polygon = Geometry(polygon=square(VIENNA, 1000))
    east = moved(VIENNA, 3000, 0)
    assert touches(circle(VIENNA, 1000), circle(east, 2001))
    assert not touches(circle(VIENNA, 1000), circle(east, 1999))
    assert touches(polygon, circle(east, 2001))
    assert touches(circle(east, 2001), polygon)
    assert not touches(polygon, circle(east, 1999))
    assert touches(polygon, Geometry(polygon=square(VIENNA, 1000, east_m=1999)))
    assert not touches(polygon, Geometry(polygon=square(VIENNA, 1000, east_m=2001)))
    assert not touches(polygon, Geometry(polygon=square(Point(latitude=-33, longitude=151), 1000)))
    # One within the other touches it.
    assert touches(polygon, circle(VIENNA, 10))
    assert touches(circle(VIENNA, 10), polygon)


@pytest.mark.parametrize(
    ("geometry", "field", "told"),
    [
        (Geometry(), "area", "expected one of circle, polygon, multi_polygon, found nothing"),
        (
            Geometry(circle=Circle(center=VIENNA, radius_m=1), polygon=Polygon()),
            "area",
            "found circle and polygon",
        ),
        (Geometry(circle=Circle(radius_m=1)), "area.circle.center", "expected, found nothing"),
        (circle(Point(latitude=91, longitude=0), 1), "area.circle.center.latitude", "-90 to 90, found 91"),
        (circle(Point(latitude=0, longitude=math.nan), 1), "area.circle.center.longitude", "found nan"),
        (circle(VIENNA, 0.5), "area.circle.radius_m", "expected 1 to 1000000, found 0.5"),
        (Geometry(polygon=Polygon(boundary=[VIENNA, VIENNA])), "area.polygon.boundary", "found 2"),
        (
            Geometry(polygon=Polygon(boundary=[VIENNA, Point(latitude=-1e9), VIENNA])),
            "area.polygon.boundary[1].latitude",
            "found -1e+09",
        ),
        (
            Geometry(polygon=Polygon(boundary=[moved(VIENNA, x, y) for x, y in ((0, 0), (9, 9), (9, 0), (0, 9))])),
            "area.polygon.boundary",
            "does not cross itself, found self-intersection",
        ),
        (Geometry(polygon=Polygon(boundary=[VIENNA] * 3)), "area.polygon.boundary", "expected the outline"),
        (
            Geometry(polygon=square(VIENNA, 900_000)),
            "area.polygon.boundary",
            "expected points within 1000 km",
        ),
        (Geometry(multi_polygon=MultiPolygon()), "area.multi_polygon.polygons", "found none"),
        (
            Geometry(multi_polygon=MultiPolygon(polygons=[square(VIENNA, 10), Polygon(boundary=[VIENNA])])),
            "area.multi_polygon.polygons[1].boundary",
            "expected 3 to 10000 points, found 1",
        ),
    ],
)
def test_what_is_no_geometry_is_refused_with_its_path(geometry: Geometry, field: str, told: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check(geometry, "area")
    assert refused.value.violations[0].field == field
    assert told in refused.value.violations[0].description


@given(st.floats(-2500, 2500), st.floats(-2500, 2500), st.floats(0, 400))
def test_who_is_far_from_the_boundary_is_told_the_same_without_a_closer_look(
    east_m: float, north_m: float, uncertainty_m: float
) -> None:
    area = Geometry(polygon=square(VIENNA, 1500))
    result = fit(area, at(moved(VIENNA, east_m, north_m), uncertainty_m))
    inner = 1500 - max(abs(east_m), abs(north_m))
    if abs(inner) > uncertainty_m * math.sqrt(2) + 0.5:
        assert result == ((Fit.INSIDE, 100) if inner > 0 else (Fit.OUTSIDE, 0))
    elif inner > uncertainty_m + 0.5:
        assert result == (Fit.INSIDE, 100)
    elif abs(inner) < uncertainty_m - 0.5 and min(abs(east_m), abs(north_m)) < 1000:
        assert result[0] is Fit.PARTIAL
