"""``castcore demo booking``: the live media workflow from agreement to usage record, measured on packets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from command import CASTCORE
from live.users import as_user


@pytest.fixture(scope="module")
def story() -> dict:
    command = [*as_user("nobody"), CASTCORE, "demo", "booking", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    told: dict = json.loads(done.stdout)
    assert told["problems"] == []
    return told


def states(story: dict, kind: str, **where: str) -> list[str]:
    return [
        each["state"]
        for each in story["events"]
        if each["type"] == kind and all(each[key] == value for key, value in where.items())
    ]


def quality_id(story: dict, area: str) -> str:
    (one,) = [
        each["network_access_id"]
        for each in story["network_access"]
        if (each["area_id"], each["capability"]) == (area, "QUALITY_ON_DEMAND")
    ]
    return str(one)


@pytest.mark.clause(
    "5G-MAG live media distribution B.2",
    "5G-MAG live media distribution B.3",
    "5G-MAG live media distribution B.4",
    "5G-MAG live media distribution reconfiguration",
    "5G-MAG live media distribution D.1",
)
def test_a_booking_lives_from_request_to_release_and_its_network_access_ids_outlive_a_change(story: dict) -> None:
    assert states(story, "BOOKING_STATE") == ["REQUESTED", "OFFERED", "BOOKED", "ACTIVE", "RELEASED"]
    assert states(story, "BOOKING_RECONFIGURED") == ["ACTIVE"]
    names = story["network_access_ids"]
    assert len(set(names)) == 4
    assert story["network_access_ids_after_reconfiguration"] == names
    told = {(each["area_id"], each["profile_id"], each["devices"]) for each in story["network_access"]}
    assert told == {("vienna", "radio", 3), ("vienna", "region", 3), ("linz", "radio-hd", 3), ("linz", "region", 3)}


@pytest.mark.clause("5G-MAG live media distribution C", "5G-MAG live media distribution B.1 a QoD")
def test_the_car_has_what_is_booked_in_each_area_and_nowhere_else(story: dict) -> None:
    for area in ("vienna", "linz"):
        went = states(story, "DEVICE_ACCESS_STATE", device="+436640000001", network_access_id=quality_id(story, area))
        in_use = ["IN_USE", "IN_USE"] if area == "linz" else ["IN_USE"]
        assert went == ["WAITING", "INSTALLING", *in_use, "WITHDRAWING", "WAITING", "ENDED"]
    assert story["installed"]["during"]["guaranteed_qers"] == 3
    assert story["installed"]["after"] == story["installed"]["before"]
    assert story["installed"]["after"]["guaranteed_qers"] == 0


@pytest.mark.clause("5G-MAG live media distribution B.1 geographical location")
def test_rates_are_those_of_the_booking_inside_and_those_of_the_session_outside(story: dict) -> None:
    measured = story["measurements"]
    for each in measured:
        assert abs(each["passed_bps"] - each["expected_bps"]) <= each["tolerance_bps"], each
        assert each["tolerance_bps"] <= each["expected_bps"] * 0.02, each
    programme = {
        (each["stretch"], each["expected_bps"], each["passed_bps"])
        for each in measured
        if each["what"] == "programme" and each["device"] == "car" and each["offered_bps"] == each["expected_bps"]
    }
    # As it was sent, to the bit.
    assert programme == {
        ("in vienna", 263_168, 263_168),
        ("in linz", 263_168, 263_168),
        ("in linz, HD", 352_768, 352_768),
    }
    policed = {
        each["expected_bps"] for each in measured if each["offered_bps"] > 1_000_000 and "overload" in each["stretch"]
    }
    assert policed == {320_000, 400_000}
    outside = [each for each in measured if not each["inside"]]
    assert {each["expected_bps"] for each in outside} == {1_000_000}
    assert {each["stretch"] for each in outside if each["device"] == "car"} == {
        "on the road", "after vienna", "after linz", "after the release",
    }  # fmt: skip


@pytest.mark.clause("5G-MAG live media distribution B.1 b geofencing")
def test_inside_the_programme_of_the_region_is_heard_without_interruption(story: dict) -> None:
    heard = {(each["device"], each["stretch"]): each for each in story["listening"]}
    assert {name: heard["car", name]["editions"] for name in ("in vienna", "in linz")} == {
        "in vienna": ["VIE"], "in linz": ["LNZ"],
    }  # fmt: skip
    assert all(each["interruptions"] == 0 for each in heard.values() if each["inside"])
    assert heard["car", "after vienna"]["interruptions"] == 1
    assert heard["car", "after vienna"]["silent_s"] == 6
    crossed = [
        each["type"]
        for each in story["events"]
        if each["subject"].startswith("geofences/") and each["device"] == "+436640000001"
    ]
    # Outside of both at first, then through one and the other.
    assert [each for each in crossed if each != "GEOFENCE_ENDED"] == [
        "AREA_LEFT", "AREA_LEFT", "AREA_ENTERED", "AREA_LEFT", "AREA_ENTERED", "AREA_LEFT",
    ]  # fmt: skip
    places = [(each["area_id"], each["verified"], each["latitude"]) for each in story["locations"]]
    assert places == [
        ("vienna", "TRUE", 48.21), ("linz", "FALSE", 48.21), ("vienna", "FALSE", 48.3), ("linz", "TRUE", 48.3),
    ]  # fmt: skip
    assert story["segments_while_reconfigured"] >= 4
    assert heard["car", "while it is reconfigured"]["silent_s"] == 0


@pytest.mark.clause("5G-MAG live media distribution C", "5G-MAG live media distribution notifications")
def test_one_device_too_many_is_refused_and_thresholds_are_told(story: dict) -> None:
    assert story["refusal"]["reason"] == "NETWORK_ACCESS_DEVICES_EXHAUSTED"
    east = quality_id(story, "vienna")
    for kind in ("THRESHOLD_CROSSED", "THRESHOLD_RESTORED"):
        told = [each for each in story["events"] if each["type"] == kind]
        assert {each["network_access_id"] for each in told} == {east}
        assert {each["detail"].split()[0] for each in told} == {"LOSS", "DEVICES"}


@pytest.mark.clause("5G-MAG live media distribution monitor", "5G-MAG live media distribution D.1")
def test_usage_records_are_final_and_hold_every_byte_that_came_through(story: dict) -> None:
    records = {(each["area_id"], each["profile_id"]): each for each in story["usage_records"]}
    assert all(each["final"] for each in records.values())
    for area, profile in (("vienna", "radio"), ("linz", "radio-hd")):
        record = records[area, profile]
        assert record["passed_bytes"] == record["counted_bytes"] > 500_000
        assert record["dropped_bytes"] > 0
        assert (record["devices"], record["peak_devices"]) == (2, 2)
    usage = {each["network_access_id"]: each for each in story["usage"]}
    assert usage[quality_id(story, "vienna")]["devices_in_use"] == 2


def test_it_can_be_ended_at_any_time_and_leaves_nothing(tmp_path: Path) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    command = [CASTCORE, "demo", "booking"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert any("IN_USE" in line for line in iter(process.stdout.readline, ""))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "castcore: interrupted\n")
    assert list(tmp_path.iterdir()) == []
