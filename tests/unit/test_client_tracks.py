"""Tracks from files, where one is on them, and devices that are driven along them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nf.cli.ue.tracking import drive_of
from nf.client.driving import Drive, Step
from nf.client.tracks import Track, read
from nf.common.clock import ManualClock
from nf.common.errors import InvalidArgument, PermissionDenied, Unavailable
from nf.netapi.v1.access_pb2 import Device
from nf.netapi.v1.location_pb2 import DevicePosition

START = datetime(2026, 5, 1, 8, tzinfo=UTC)
CAR = Device(phone_number="+436641234567")

GPX = """<?xml version="1.0" encoding="UTF-8"?>
<gpx version="1.1" creator="test" xmlns="http://www.topografix.com/GPX/1/1">
  <trk><trkseg>
    <trkpt lat="48.0" lon="16.0"><ele>171</ele><time>2026-05-01T08:00:00Z</time></trkpt>
    <trkpt lat="48.1" lon="16.0"><time>2026-05-01T08:01:40Z</time></trkpt>
    <trkpt lat="48.1" lon="16.2"><time>2026-05-01T10:05:00+02:00</time></trkpt>
  </trkseg></trk>
</gpx>
"""


def kept(folder: Path, content: str | bytes, name: str = "track.gpx") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def geojson(folder: Path, *coordinates: Sequence[float], **properties: object) -> Path:
    line = {"type": "LineString", "coordinates": coordinates}
    feature = {"type": "Feature", "properties": properties, "geometry": line}
    return kept(folder, json.dumps({"type": "FeatureCollection", "features": [feature]}), "track.geojson")


def test_a_gpx_track_is_driven_as_its_times_say(tmp_path: Path) -> None:
    track = read(kept(tmp_path, GPX))
    assert track.duration_s == 300
    places = [track.place(at_s) for at_s in (-5, 0, 50, 100, 200, 300, 999)]
    assert [(round(place.latitude, 6), round(place.longitude, 6)) for place in places] == [
        (48.0, 16.0), (48.0, 16.0), (48.05, 16.0), (48.1, 16.0), (48.1, 16.1), (48.1, 16.2), (48.1, 16.2),
    ]  # fmt: skip
    # A tenth of a degree to the north, and a fifth to the east at 48.1 degrees.
    assert places[3].along_m == pytest.approx(11_119.5, abs=1)
    assert track.length_m == pytest.approx(11_119.5 + 14_852, abs=5)


def test_an_even_speed_goes_before_the_times(tmp_path: Path) -> None:
    track = read(kept(tmp_path, GPX), speed_mps=10)
    assert track.duration_s == pytest.approx(track.length_m / 10)
    assert track.place(track.duration_s / 2).along_m == pytest.approx(track.length_m / 2)


def test_a_route_without_times_needs_a_speed(tmp_path: Path) -> None:
    route = kept(tmp_path, '<gpx><rte>\n<rtept lat="48" lon="16"/>\n<rtept lat="48" lon="16.1"/>\n</rte></gpx>')
    with pytest.raises(
        InvalidArgument, match=r"track\.gpx: line 2: found no time, expected one with every point, or --speed"
    ):
        read(route)
    assert read(route, speed_mps=10).duration_s == pytest.approx(744, abs=1)


@pytest.mark.parametrize("place", ["coordTimes", "times", "coordinateProperties"])
def test_a_geojson_line_has_its_times_beside_it(tmp_path: Path, place: str) -> None:
    times: object = ["2026-05-01T08:00:00Z", "2026-05-01T08:00:10Z"]
    properties = {place: {"times": times} if place == "coordinateProperties" else times}
    track = read(geojson(tmp_path, [16.0, 48.0, 171.0], [16.2, 48.1], **properties))
    assert track.duration_s == 10
    middle = track.place(5)
    assert (round(middle.longitude, 9), round(middle.latitude, 9)) == (16.1, 48.05)


def test_lines_of_a_feature_collection_follow_each_other(tmp_path: Path) -> None:
    lines = {
        "type": "MultiLineString",
        "coordinates": [[[16.0, 48.0], [16.1, 48.0]], [[16.1, 48.1], [16.0, 48.1]]],
    }
    point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [0, 0]}}
    feature = {"type": "Feature", "geometry": lines, "properties": None}
    path = kept(tmp_path, json.dumps({"type": "FeatureCollection", "features": [point, feature]}))
    track = read(path, speed_mps=100)
    assert (track.place(0).longitude, track.place(track.duration_s).latitude) == (16.0, 48.1)


def test_a_track_may_cross_the_date_line(tmp_path: Path) -> None:
    track = read(geojson(tmp_path, [179.9, -17.0], [-179.9, -17.0]), speed_mps=100)
    assert track.length_m == pytest.approx(21_267, abs=30)
    assert abs(track.place(track.duration_s / 2).longitude) == pytest.approx(180.0)
    assert track.place(track.duration_s * 0.75).longitude == pytest.approx(-179.95)


def test_who_waits_at_a_point_stays_there(tmp_path: Path) -> None:
    times = ["2026-05-01T08:00:00Z", "2026-05-01T08:00:10Z", "2026-05-01T08:00:20Z", "2026-05-01T08:00:20Z"]
    track = read(geojson(tmp_path, [16.0, 48.0], [16.1, 48.0], [16.1, 48.0], [16.2, 48.0], coordTimes=times))
    assert [round(track.place(at_s).longitude, 6) for at_s in (10, 15, 19.9, 20)] == [16.1, 16.1, 16.1, 16.2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "found neither, expected GPX (XML) or GeoJSON"),
        ("<gpx>\n<trk>\n</gpx>", "line 3: Opening and ending tag mismatch"),
        ("<kml/>", "line 1: found <kml>, expected <gpx>"),
        ("<gpx/>", "found 0 points, expected a track of at least 2"),
        (
            GPX.replace('lat="48.1" lon="16.0"', 'lat="98.1" lon="16.0"'),
            "line 5: lat: found '98.1', expected -90 to 90",
        ),
        (GPX.replace('lon="16.2"', ""), "line 6: lon: found '', expected -180 to 180"),
        (GPX.replace("2026-05-01T08:01:40Z", "noon"), "line 5: time: found 'noon', expected one such as"),
        (GPX.replace("08:01:40Z", "07:01:40Z"), "line 5: found 2026-05-01T07:01:40+00:00, expected no time before"),
        ('{"type": "LineString",\n "coordinates": [}', "line 2 column 18:"),
        ('{"type": "LineString"}', "coordinates: found no list, expected one"),
        ('{"coordinates": []}', "the whole: found no object with a type"),
        ('{"type": "LineString", "coordinates": [[16, 48], [16, 148]]}', "coordinates[1]: latitude: found 148"),
        ('{"type": "LineString", "coordinates": [[16, 48], ["a", 48]]}', "coordinates[1]: longitude: found 'a'"),
        ('{"type": "LineString", "coordinates": [[16, 48], [16]]}', "coordinates[1]: found 1 numbers"),
        ('{"type": "Feature", "geometry": null}', "geometry: found no object with a type"),
        ('{"type": "LineString", "coordinates": [[16, 48], [16, 48.1]]}', "coordinates[0]: found no time"),
        (b'{"type": "\xff"}', "byte 10: found no UTF-8"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_place(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = kept(tmp_path, content)
    with pytest.raises(InvalidArgument) as refusal:
        read(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert message in str(refusal.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="cannot be read: No such file"):
        read(tmp_path / "none.gpx")


def test_an_entity_of_a_file_is_not_resolved(tmp_path: Path) -> None:
    secret = kept(tmp_path, "2026-05-01T08:00:00Z", "secret")
    content = f'<!DOCTYPE gpx [<!ENTITY s SYSTEM "{secret}">]>' + GPX.partition("?>")[2].strip()
    path = kept(tmp_path, content.replace("2026-05-01T08:00:00Z", "&s;"))
    with pytest.raises(InvalidArgument, match="time: found ''"):
        read(path)


def test_times_and_counts_of_a_geojson_line_must_agree(tmp_path: Path) -> None:
    path = geojson(tmp_path, [16, 48], [16, 48.1], coordTimes=["2026-05-01T08:00:00Z"])
    with pytest.raises(InvalidArgument, match=r"features\[0\]\.geometry\.coordinates: found 1 times, expected 2"):
        read(path)


class Network:
    """Takes reports; ``away`` are the numbers of those that it does not answer."""

    def __init__(self, *away: int) -> None:
        self.reports: list[list[DevicePosition]] = []
        self.steps: list[Step] = []
        self._away = away
        self.clock = ManualClock(START)
        self.stop = asyncio.Event()

    async def take(self, positions: Sequence[DevicePosition]) -> int:
        self.reports.append(list(positions))
        if len(self.reports) in self._away:
            raise Unavailable("netapi: not there")
        return len(positions)

    async def drive(self, drive: Drive) -> int:
        return await drive.run(self.take, self.steps.append, self.clock, self.stop)


@pytest.fixture
def track(tmp_path: Path) -> Track:
    times = ["2026-05-01T08:00:00Z", "2026-05-01T08:00:05Z"]
    return read(geojson(tmp_path, [16.0, 48.0], [16.5, 48.0], coordTimes=times))


async def test_devices_are_reported_step_by_step_and_at_the_end(track: Track) -> None:
    network = Network()
    lorry = Device(ipv4_address="10.45.0.3")
    driving = asyncio.create_task(network.drive(Drive(track, [CAR, lorry], 2.0, 15.0)))
    for seconds in (2, 2, 1):
        await network.clock.until_asleep()
        network.clock.advance(timedelta(seconds=seconds))
    assert await driving == 4
    assert [round(report[0].point.longitude, 6) for report in network.reports] == [16.0, 16.2, 16.4, 16.5]
    assert {(each.uncertainty_m, each.HasField("position_time")) for each in network.reports[1]} == {(15.0, False)}
    assert [each.device for each in network.reports[3]] == [CAR, lorry]
    assert [(step.at_s, step.taken) for step in network.steps] == [(0.0, 2), (2.0, 2), (4.0, 2), (5.0, 2)]


async def test_a_track_is_driven_so_often_and_at_once_if_wished(track: Track) -> None:
    network = Network()
    assert await network.drive(Drive(track, [CAR], 5.0, 10.0, rounds=3, at_once=True)) == 6
    assert [(step.round, step.at_s) for step in network.steps] == [(0, 0), (0, 5), (1, 0), (1, 5), (2, 0), (2, 5)]


async def test_a_platform_that_is_away_for_a_while_is_told_again_at_the_next_step(track: Track) -> None:
    network = Network(2)
    await network.drive(Drive(track, [CAR], 2.5, 10.0, at_once=True))
    assert [(step.taken, step.problem) for step in network.steps] == [(1, ""), (0, "netapi: not there"), (1, "")]


async def test_a_refusal_ends_the_drive(track: Track) -> None:
    async def refuse(_: Sequence[DevicePosition]) -> int:
        raise PermissionDenied("only the operator may")

    with pytest.raises(PermissionDenied):
        await Drive(track, [CAR], 1.0, 10.0).run(refuse, lambda _: None, ManualClock(START), asyncio.Event())


async def test_a_drive_without_end_stops_when_it_is_told_to(track: Track) -> None:
    network = Network()
    driving = asyncio.create_task(network.drive(Drive(track, [CAR], 5.0, 10.0, rounds=0)))
    for _ in range(2):
        await network.clock.until_asleep()
        network.clock.advance(timedelta(seconds=5))
    await network.clock.until_asleep()
    network.stop.set()
    assert await driving == len(network.reports) >= 3


@pytest.mark.parametrize(
    ("ue", "options", "message"),
    [
        ("nobody", {}, "option '--ue': found 'nobody', expected a phone number"),
        ("+43664", {"speed": "fast"}, "option '--speed': found 'fast', expected one such as '50 km/h'"),
        ("+43664", {"speed": "0 m/s"}, "option '--speed': found '0 m/s'"),
        ("+43664", {"step": "5ms"}, "option '--step': found '5ms', expected 10ms or more"),
        ("+43664", {"step": "often"}, "option '--step': found 'often', expected a time"),
        ("+43664", {"uncertainty_m": float("inf")}, "option '--uncertainty': found inf, expected metres"),
        ("+43664", {"speed": None}, "coordinates[0]: found no time, expected one with every point, or --speed"),
    ],
)
def test_what_is_wrong_with_the_options_of_a_drive_is_told(
    tmp_path: Path, ue: str, options: dict[str, object], message: str
) -> None:
    path = geojson(tmp_path, [16, 48], [16, 48.1])
    wanted = {"speed": "50 km/h", "step": "1s", "rounds": 1, "at_once": False, "uncertainty_m": 10.0, **options}
    with pytest.raises(InvalidArgument) as refusal:
        drive_of(path, [ue], **wanted)
    assert message in str(refusal.value)


def test_speeds_have_units(tmp_path: Path) -> None:
    path = geojson(tmp_path, [16, 48], [16, 48.1])
    wanted = {"step": "1s", "rounds": 1, "at_once": False, "uncertainty_m": 10.0}
    durations = [drive_of(path, ["+43664"], speed=each, **wanted).track.duration_s for each in ("36 km/h", "10m/s")]
    assert durations[0] == pytest.approx(durations[1])
    assert durations[1] == pytest.approx(1112, abs=1)
