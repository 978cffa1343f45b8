"""What ``castcore book`` makes of options and files: requests, areas, devices, platforms."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer.main

from nf.cli.book import documents, places, platforms, requesting
from nf.cli.book.command import app
from nf.cli.book.devices import device_of, device_text
from nf.cli.book.requesting import Wish
from nf.common.errors import InvalidArgument
from nf.netapi.v1 import booking_pb2 as booking
from nf.netapi.v1 import coverage_pb2 as coverage

NOW = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)
BOOKED = """\
outside = "refused"
[population]
application_id = "radio"
devices = 20
[traffic]
domain_names = ["*.example.com"]
[[periods]]
start_time = 2026-12-24T18:00:00Z
stop_time = "2026-12-24T22:00:00Z"
repetition_rule = "FREQ=DAILY;COUNT=2"
[[area_capabilities]]
area_id = "vienna"
profile_id = "radio"
"""


def span(period: booking.BookingPeriod) -> tuple[str, str]:
    return period.start_time.ToJsonString(), period.stop_time.ToJsonString()


def test_a_request_by_options_has_all_that_they_say() -> None:
    wish = Wish(
        "radio", 100, ["vienna=radio", "graz=region:50", "a:1=b"], ["now/2h"], flows=["permit out ip from any to any"],
        outside="refused",
    )  # fmt: skip
    request = requesting.request_of(wish, NOW)
    assert (request.population.application_id, request.population.devices) == ("radio", 100)
    told = [(each.area_id, each.profile_id, each.devices) for each in request.area_capabilities]
    assert told == [("vienna", "radio", 0), ("graz", "region", 50), ("a:1", "b", 0)]
    assert span(request.periods[0]) == ("2026-03-01T12:00:00Z", "2026-03-01T14:00:00Z")
    assert request.outside == booking.OUTSIDE_POLICY_REFUSED
    assert list(request.traffic.flow_descriptions) == ["permit out ip from any to any"]


@pytest.mark.parametrize(
    ("text", "zone", "begin", "end"),
    [
        ("+30m/45s", "", "2026-03-01T12:30:00Z", "2026-03-01T12:30:45Z"),
        ("2026-03-28T20:00/2026-03-29T20:00", "Europe/Vienna", "2026-03-28T19:00:00Z", "2026-03-29T18:00:00Z"),
        ("2026-03-28T20:00+05:00/1d", "Europe/Vienna", "2026-03-28T15:00:00Z", "2026-03-29T15:00:00Z"),
        ("2026-03-02/2026-03-03", "", "2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z"),
    ],
)
def test_a_period_is_two_times_or_a_time_and_how_long(text: str, zone: str, begin: str, end: str) -> None:
    assert span(requesting.period(text, zone, "RRULE:FREQ=DAILY", NOW)) == (begin, end)
    assert requesting.period(text, zone, "RRULE:FREQ=DAILY", NOW).repetition_rule == "FREQ=DAILY"


def test_a_request_from_a_file_is_the_same_in_toml_and_json(tmp_path: Path) -> None:
    toml, told = tmp_path / "booking.toml", tmp_path / "booking.json"
    toml.write_text(BOOKED)
    request = requesting.request_of(Wish(file=toml), NOW)
    assert span(request.periods[0]) == ("2026-12-24T18:00:00Z", "2026-12-24T22:00:00Z")
    assert (request.outside, request.population.devices) == (booking.OUTSIDE_POLICY_REFUSED, 20)
    told.write_text(
        json.dumps(
            {
                "population": {"applicationId": "radio", "devices": 20},
                "traffic": {"domainNames": ["*.example.com"]},
                "periods": [
                    {
                        "startTime": "2026-12-24T18:00:00Z",
                        "stopTime": "2026-12-24T22:00:00Z",
                        "repetitionRule": "FREQ=DAILY;COUNT=2",
                    }
                ],
                "areaCapabilities": [{"areaId": "vienna", "profileId": "radio"}],
                "outside": "REFUSED",
            }
        )
    )
    assert requesting.request_of(Wish(file=told), NOW) == request
    assert requesting.request_of(Wish(file=toml, devices=7), NOW).population.devices == 7


def test_a_change_says_only_what_is_named_and_keeps_the_rest(tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_text(BOOKED)
    present = requesting.request_of(Wish(file=tmp_path / "b.toml"), NOW)
    wanted, said = requesting.changed(present, Wish(devices=30), NOW)
    assert said == ["population"]
    assert (wanted.population.application_id, wanted.population.devices) == ("radio", 30)
    wanted, said = requesting.changed(present, Wish(areas=["graz=hd"], domains=["a.example"]), NOW)
    assert said == ["area_capabilities", "traffic"]
    assert [each.area_id for each in wanted.area_capabilities] == ["graz"]
    assert list(wanted.traffic.domain_names) == ["a.example"]
    assert requesting.changed(present, Wish(), NOW) == (present, [])


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        (Wish(), "--application, --area, --period: missing"),
        (Wish("radio", 1, ["vienna"], ["now/1h"]), "'--area': found 'vienna', expected AREA=PROFILE"),
        (Wish("radio", 1, ["vienna=a"], ["tomorrow/1h"]), "found 'tomorrow', expected a time such as"),
        (Wish("radio", 1, ["vienna=a"], ["now"]), "found 'now', expected START/STOP or START/DURATION"),
        (Wish("radio", 1, ["vienna=a"], ["now/1h"], "Mars/Base"), "'--zone': found 'Mars/Base', expected a time zone"),
        (Wish("radio", 1, ["vienna=a"], ["now/1h"], outside="never"), "expected best-effort or refused"),
        (Wish("radio", repeat="FREQ=DAILY"), "'--zone' and '--repeat': go with '--period'"),
    ],
)
def test_what_is_wrong_with_a_wish_is_said_by_option(wish: Wish, told: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        requesting.request_of(wish, NOW)
    assert told in str(refused.value)


def test_a_name_that_is_unknown_is_refused_with_the_one_that_may_be_meant() -> None:
    with pytest.raises(InvalidArgument, match=r"^x: population\.device: an unknown name, expected 'devices'$"):
        documents.message_of(booking.BookingRequest, {"population": {"device": 1}}, "x")
    with pytest.raises(InvalidArgument, match="expected a table, found list"):
        documents.message_of(booking.BookingRequest, [], "x")


def test_rates_are_texts_or_whole_numbers_and_enums_may_be_written_small() -> None:
    tree = {
        "profile_id": "radio",
        "capability": "quality-on-demand",
        "qos": {"five_qi": 3, "guaranteed_downlink_bps": "320 Kbps", "max_downlink_bps": 320_000},
    }
    profile = documents.message_of(coverage.CapabilityProfile, tree, "x")
    assert profile.capability == coverage.CAPABILITY_QUALITY_ON_DEMAND
    assert profile.qos.guaranteed_downlink_bps == profile.qos.max_downlink_bps == 320_000


def test_geojson_is_a_file_of_areas_or_the_geometry_of_one(tmp_path: Path) -> None:
    ring = [[16.0, 48.0], [16.5, 48.0], [16.5, 48.5], [16.0, 48.0]]
    vienna = {
        "type": "Feature",
        "id": "vienna",
        "properties": {"name": "Vienna", "capacity": {"downlink": "1 Gbps"}},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }
    graz = {
        "type": "Feature",
        "properties": {"area_id": "graz", "radius": 3000},
        "geometry": {"type": "Point", "coordinates": [15.44, 47.07]},
    }
    file = tmp_path / "areas.geojson"
    file.write_text(json.dumps({"type": "FeatureCollection", "features": [vienna, graz]}))
    east, south = places.areas_in(file)
    assert (east.area_id, east.name, east.capacity.downlink_bps) == ("vienna", "Vienna", 10**9)
    circle = south.geometry.circle
    assert (south.area_id, circle.center.latitude, circle.center.longitude, circle.radius_m) == (
        "graz", 47.07, 15.44, 3000,
    )  # fmt: skip
    with pytest.raises(InvalidArgument, match="features: expected one"):
        places.geometry_in(file)
    for one in (graz, {"type": "FeatureCollection", "features": [graz]}):
        file.write_text(json.dumps(one))
        assert places.geometry_in(file) == south.geometry


@pytest.mark.parametrize(
    ("geometry", "told"),
    [
        ({"type": "LineString", "coordinates": []}, "geometry.type: expected Point, Polygon or MultiPolygon"),
        ({"type": "Point", "coordinates": [1, 2]}, "expected a property radius"),
        ({"type": "Polygon", "coordinates": [[], []]}, "areas have no holes"),
        (None, "geometry: expected an object"),
    ],
)
def test_a_geometry_that_is_none_is_refused_with_its_file(tmp_path: Path, geometry: object, told: str) -> None:
    file = tmp_path / "place.geojson"
    file.write_text(json.dumps({"type": "Feature", "geometry": geometry}))
    with pytest.raises(InvalidArgument) as refused:
        places.geometry_in(file)
    assert str(refused.value).startswith(f"{file}: geometry")
    assert told in str(refused.value)


def test_circles_and_cells_are_read_from_options() -> None:
    circle = places.circle_of("48.21,16.37,5000").circle
    assert (circle.center.latitude, circle.center.longitude, circle.radius_m) == (48.21, 16.37, 5000)
    (cell,) = places.cells_of(["001-01-00000001A"])
    assert (cell.plmn_id.mcc, cell.plmn_id.mnc, cell.nr_cell_id) == ("001", "01", "00000001A")
    with pytest.raises(InvalidArgument, match="expected LATITUDE,LONGITUDE,METRES"):
        places.circle_of("48.21,16.37")
    with pytest.raises(InvalidArgument, match="expected MCC-MNC-CELL"):
        places.cells_of(["001"])


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("+436641234567", "phone_number"),
        ("imsi-001010000000001", "supi"),
        ("10.45.0.2", "ipv4_address"),
        ("2001:db8::2", "ipv6_address"),
        ("car@example.com", "network_access_identifier"),
    ],
)
def test_a_device_is_known_by_the_form_of_its_name(text: str, field: str) -> None:
    device = device_of(text)
    assert [each.name for each, _ in device.ListFields()] == [field]
    assert device_text(device) == text


def test_a_device_of_no_form_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="found 'the car', expected a phone number"):
        device_of("the car")


def test_platforms_are_found_by_name_with_what_is_shown_to_them(tmp_path: Path) -> None:
    file = tmp_path / "platforms.toml"
    (tmp_path / "graz.token").write_text("secret-2\n")
    file.write_text(
        'default = "vienna"\n[platform.vienna]\naddress = "grpc://127.0.0.1:7005"\ncredential = "secret-1"\n'
        '[platform.graz]\naddress = "[::1]:7006"\ncredential_file = "graz.token"\n'
    )
    vienna, graz = platforms.find("", file), platforms.find("graz", file)
    assert vienna == platforms.Known("127.0.0.1:7005", "secret-1", None)
    assert graz == platforms.Known("[::1]:7006", "secret-2", None)
    assert platforms.find("127.0.0.1:1", file) is None
    assert platforms.find("", file, local=True) is None
    with pytest.raises(InvalidArgument, match="platform 'linz' is not there, expected one of: graz, vienna"):
        platforms.find("linz", file)


@pytest.mark.parametrize("address", ["http://127.0.0.1:8080", "127.0.0.1", "grpc://host", "host:0", "host:99999"])
def test_an_address_that_is_none_of_grpc_is_refused(address: str) -> None:
    with pytest.raises(InvalidArgument, match="expected grpc://HOST:PORT or HOST:PORT") as refused:
        platforms.target_of(address, "option '--platform'")
    assert ("CAMARA" in str(refused.value)) == address.startswith("http")


def test_the_examples_are_what_they_say() -> None:
    examples = Path(__file__).parents[2] / "examples" / "booking"
    vienna, linz = places.areas_in(examples / "areas.geojson")
    assert (vienna.area_id, vienna.geometry.HasField("polygon"), vienna.capacity.devices) == ("vienna", True, 1000)
    assert (linz.area_id, linz.geometry.circle.radius_m, linz.capacity.downlink_bps) == ("linz", 15_000, 20_000_000)
    file = examples / "profiles.toml"
    listed = places.listed(documents.read(file), "capability_profiles", file)
    radio, region = (documents.message_of(coverage.CapabilityProfile, each, where) for each, where in listed)
    assert (radio.profile_id, radio.qos.max_downlink_bps, radio.qos.five_qi) == ("radio", 320_000, 3)
    assert (region.profile_id, region.geofencing.notify) == ("region", True)
    request = requesting.request_of(Wish(file=examples / "booking.toml"), NOW)
    told = [(each.area_id, each.profile_id, each.devices) for each in request.area_capabilities]
    assert told == [("vienna", "radio", 200), ("vienna", "region", 200), ("linz", "radio", 0)]
    assert request.periods[0].time_zone == "Europe/Vienna"
    known = platforms.load(platforms.PlatformsFile, path=examples / "platforms.toml")
    assert (known.default, set(known.platform)) == ("lab", {"lab", "other"})


def test_every_command_teaches_by_an_example() -> None:
    def walk(command: object, path: str) -> list[str]:
        inner = getattr(command, "commands", {})
        told = getattr(command, "help", "") or ""
        untaught = [] if f"castcore {path}" in told else [path]
        return untaught + [each for name, below in inner.items() for each in walk(below, f"{path} {name}")]

    assert walk(typer.main.get_command(app), "book") == []
