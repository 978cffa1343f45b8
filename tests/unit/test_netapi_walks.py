"""Random walks over random areas: what geofences tell is what a computation of its own by shapely says."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from netapi_places import START, VIENNA, circle
from shapely.geometry import Point as Place
from shapely.geometry import Polygon as Shape

from nf.common.clock import ManualClock
from nf.common.store import Store, url_for
from nf.netapi.callers import OPERATOR
from nf.netapi.geofences import Geofences
from nf.netapi.positions import Positions
from nf.netapi.v1.access_pb2 import Device
from nf.netapi.v1.coverage_pb2 import (
    CAPABILITY_GEOFENCING,
    CapabilityProfile,
    GeofencingProfile,
    Geometry,
    Point,
    Polygon,
    ServiceArea,
)
from nf.netapi.v1.location_pb2 import DevicePosition, Geofence, GeofenceCrossed

# So near to where the answer changes, two computations may differ.
_DOUBTFUL_M = 0.5
_NUMBERS = count(1)

# Radii of curvature of WGS 84 at Vienna, east and north: within some kilometres a map is flat.
_SIN2 = math.sin(math.radians(VIENNA[0])) ** 2
_FLAT = 1 - 6.694379990141e-3 * _SIN2
_EAST_M = math.radians(1) * 6_378_137.0 / math.sqrt(_FLAT) * math.cos(math.radians(VIENNA[0]))
_NORTH_M = math.radians(1) * 6_378_137.0 * (1 - 6.694379990141e-3) / _FLAT**1.5


def point(x_m: float, y_m: float) -> Point:
    return Point(latitude=VIENNA[0] + y_m / _NORTH_M, longitude=VIENNA[1] + x_m / _EAST_M)


class Stand:
    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(START)
        self.store = Store.open(url_for(folder, "netapi"), clock=self.clock)
        self.geofences = Geofences(self.store, most=100_000)
        self.positions = Positions(self.store, [self.geofences.on_position])

    async def told(self, area: Geometry, walk: list[tuple[float, float, float]]) -> list[tuple[int, str]]:
        """Which events a walk has brought about, each with the number of its step."""
        device = Device(phone_number=f"+43{next(_NUMBERS):08d}")
        await self.geofences.create(OPERATOR, Geofence(device=device, area=area, entered=True, left=True))
        positions = []
        begin = self.clock.now()
        self.clock.advance(timedelta(seconds=len(walk)))
        for at, (x_m, y_m, uncertainty_m) in enumerate(walk):
            position = DevicePosition(device=device, point=point(x_m, y_m), uncertainty_m=uncertainty_m)
            position.position_time.FromDatetime(begin + timedelta(seconds=at + 1))
            positions.append(position)
        before = self.store.sequence
        assert await self.positions.report(positions) == len(walk)
        events = []
        for event in await self.store.read(lambda reader: reader.events(before)):
            crossed = GeofenceCrossed()
            event.payload.Unpack(crossed)
            moment = crossed.position.position_time.ToDatetime(START.tzinfo)
            events.append((round((moment - begin).total_seconds()) - 1, event.type))
        return events


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory, runner: asyncio.Runner) -> Iterator[Stand]:
    async def make() -> Stand:
        made = Stand(tmp_path_factory.mktemp("walks"))
        rights = GeofencingProfile(notify=True)
        profile = CapabilityProfile(profile_id="fence", capability=CAPABILITY_GEOFENCING, geofencing=rights)
        await made.store.write(lambda tx: tx.put(profile, "fence"))
        await made.store.write(lambda tx: tx.put(ServiceArea(area_id="all", everywhere=True), "all"))
        return made

    made = runner.run(make())
    yield made
    runner.run(made.store.close())


def crossings(shape: Shape, walk: list[tuple[float, float, float]]) -> list[tuple[int, str]]:
    """The oracle: a device is inside where all of its circle is, outside where none of it is; else it is as before."""
    found, inside = [], None
    for at, (x_m, y_m, uncertainty_m) in enumerate(walk):
        here = Place(x_m, y_m)
        to_edge_m, within = shape.exterior.distance(here), shape.contains(here)
        assume(abs(to_edge_m - uncertainty_m) > _DOUBTFUL_M)
        if to_edge_m < uncertainty_m:
            continue
        if inside is not None and within != inside:
            found.append((at, "AREA_ENTERED" if within else "AREA_LEFT"))
        inside = within
    return found


_STEPS = st.lists(
    st.tuples(st.floats(-2500, 2500), st.floats(-2500, 2500), st.floats(0.0, 600.0)), min_size=2, max_size=25
)
# A star around the middle does not cross itself.
_STARS = st.lists(st.floats(300, 2000), min_size=3, max_size=12)


@given(radii=_STARS, walk=_STEPS, turn=st.floats(0, 1))
@pytest.mark.clause("5G-MAG live media distribution B.1 b geofencing")
def test_crossings_of_a_polygon_are_those_of_an_independent_computation(
    stand: Stand, runner: asyncio.Runner, radii: list[float], walk: list[tuple[float, float, float]], turn: float
) -> None:
    corners = [
        (
            radius * math.cos(2 * math.pi * (at + turn) / len(radii)),
            radius * math.sin(2 * math.pi * (at + turn) / len(radii)),
        )
        for at, radius in enumerate(radii)
    ]
    shape = Shape(corners)
    assume(shape.is_valid)
    expected = crossings(shape, walk)
    area = Geometry(polygon=Polygon(boundary=[point(*corner) for corner in corners]))
    assert runner.run(stand.told(area, walk)) == expected


@given(radius_m=st.floats(200, 2000), walk=_STEPS)
@pytest.mark.clause("5G-MAG live media distribution B.1 b geofencing")
def test_crossings_of_a_circle_are_those_of_an_independent_computation(
    stand: Stand, runner: asyncio.Runner, radius_m: float, walk: list[tuple[float, float, float]]
) -> None:
    # A polygon of 2,048 sides is a circle to less than 3 mm.
    shape = Place(0, 0).buffer(radius_m, quad_segs=512)
    assert runner.run(stand.told(circle(radius_m), walk)) == crossings(shape, walk)
