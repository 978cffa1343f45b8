"""``castcore book`` beside a running stack: a provider's and an operator's way through the workflow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from command import CASTCORE
from in_process_command import Done, castcore
from running_core import castcore as running

FLOW = "permit out 17 from 198.51.100.7 5004 to assigned"
PROVIDER = "radio-one"


@dataclass(frozen=True)
class Lab:
    """A stack with two areas, three profiles, an agreement and a credential."""

    directory: Path
    grpc: str
    credential: str

    def book(self, *arguments: str, credential: str | None = None) -> Done:
        """As the provider."""
        shown = self.credential if credential is None else credential
        return castcore("book", *arguments, "--dir", self.directory, "--credential", shown)

    def told(self, *arguments: str) -> list[dict]:
        done = self.book(*arguments, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    directory = tmp_path_factory.mktemp("book") / "state"
    with running("up", "--dir", str(directory)) as (_, ready):

        def operator(*arguments: str) -> str:
            done = castcore("book", *arguments, "--dir", directory)
            assert done.returncode == 0, done.stderr
            return done.stdout.strip()

        operator("areas", "put", "--id", "vienna", "--circle", "48.21,16.37,15000", "--downlink", "4 Mbps")
        areas = directory / "areas.geojson"
        ring = [[14.1, 48.2], [14.5, 48.2], [14.5, 48.4], [14.1, 48.2]]
        linz = {
            "type": "Feature",
            "id": "linz",
            "properties": {"name": "Linz"},
            "geometry": {"type": "Polygon", "coordinates": [ring]},
        }
        areas.write_text(json.dumps(linz))
        operator("areas", "put", str(areas))
        qos = ("--5qi", "3", "--guaranteed-downlink", "320 Kbps", "--delay", "50", "--price", "2")
        operator("profiles", "put", "--id", "radio", *qos)
        operator("profiles", "put", "--id", "region", "--geofencing")
        operator("agreement", "put", PROVIDER, "--provider", "Radio One", "--devices", "50", "--price", "80")
        yield Lab(directory, ready["grpc"]["netapi"], operator("credential", "new", PROVIDER))


def reference(lab: Lab, *more: str) -> str:
    """A booking that is offered."""
    arguments = ("--application", "player", "--area", "vienna=radio", "--area", "linz=region", "--flow", FLOW)
    done = lab.book("request", *arguments, "--period", "now/2h", "--quiet", *more)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@pytest.mark.clause("5G-MAG live media distribution Preconditions")
def test_a_provider_finds_what_it_may_book(lab: Lab) -> None:
    assert sorted(each["area_id"] for each in lab.told("areas")) == ["linz", "vienna"]
    (vienna,) = lab.told("areas", "show", "vienna")
    assert vienna["geometry"]["circle"]["radius_m"] == 15_000
    assert vienna["capacity"]["downlink_bps"] == 4_000_000
    assert sorted(each["profile_id"] for each in lab.told("profiles")) == ["radio", "region"]
    (agreement,) = lab.told("agreement", "show", PROVIDER)
    assert agreement["limits"]["devices"] == 50


@pytest.mark.clause("5G-MAG live media distribution Preconditions")
def test_an_agreement_is_changed_as_far_as_is_said_and_credentials_are_revoked(lab: Lab) -> None:
    def operator(*arguments: str) -> list[dict]:
        done = castcore("book", *arguments, "--dir", lab.directory, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        return [json.loads(line) for line in done.stdout.splitlines()]

    terms = ("--provider", "Radio Two", "--area", "linz", "--bookings", "1", "--downlink", "1 Mbps")
    (made,) = operator("agreement", "put", "radio-two", *terms)
    (changed,) = operator("agreement", "put", "radio-two", "--price", "90", "--suspended")
    limits = {"bookings": 1, "downlink_bps": 1_000_000}
    assert {**made, "price_percent": 90, "suspended": True, "limits": limits, "etag": ""} == {**changed, "etag": ""}
    (credential,) = operator("credential", "new", "radio-two", "--expires", "2199-01-01")
    assert [each["area_id"] for each in lab_areas(lab, credential["token"])] == ["linz"]
    refused = lab.book(
        "request", "--application", "p", "--area", "linz=region", "--period", "now/1h", credential=credential["token"]
    )
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "suspended" in refused.stderr
    (listed,) = operator("credential", "ls", "radio-two")
    assert (listed["credential_id"], listed["token"], listed["expire_time"]) == (
        credential["credential_id"], "", "2199-01-01T00:00:00Z",
    )  # fmt: skip
    operator("credential", "rm", credential["credential_id"])
    assert lab.book("areas", credential=credential["token"]).returncode == 1
    operator("agreement", "rm", "radio-two")
    assert [each["agreement_id"] for each in operator("agreement")] == [PROVIDER]


def lab_areas(lab: Lab, token: str) -> list[dict]:
    done = lab.book("areas", "--json", credential=token)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_an_access_token_stands_for_its_credential(lab: Lab) -> None:
    token = lab.book("token", "--lasts", "600").stdout.strip()
    assert token != lab.credential
    assert {each["area_id"] for each in lab_areas(lab, token)} == {"linz", "vienna"}


@pytest.mark.clause(
    "5G-MAG live media distribution B.2", "5G-MAG live media distribution B.3", "5G-MAG live media distribution B.4"
)
def test_a_booking_goes_from_request_to_release_with_the_same_network_access_ids(lab: Lab) -> None:
    booking = reference(lab, "--devices", "10")
    (offered,) = lab.told("show", booking)
    assert offered["state"] == "OFFERED"
    # 10 devices, 2 hours, 2 units, 80 percent.
    assert offered["offer"]["total_price_units"] == 32
    accepted = lab.book("accept", booking)
    assert "ACTIVE" in accepted.stdout
    names = lab.book("ids", booking).stdout.split()
    assert len(set(names)) == 2
    (one,) = lab.told("ids", booking, "--area", "vienna")
    assert (one["capability"], one["devices"], one["qos"]["guaranteed_downlink_bps"]) == (
        "QUALITY_ON_DEMAND", 10, 320_000,
    )  # fmt: skip

    (changed,) = lab.told("reconfigure", booking, "--devices", "12", "--accept")
    assert (changed["request"]["population"]["devices"], changed["request"]["traffic"]["flow_descriptions"]) == (
        12, [FLOW],
    )  # fmt: skip
    assert lab.book("ids", booking).stdout.split() == names
    usages = {each["network_access_id"]: each for each in lab.told("usage", booking)}
    assert usages.keys() == set(names)
    assert usages[names[0]]["booked_devices"] == 12

    (released,) = lab.told("release", booking)
    assert released["state"] == "RELEASED"
    assert lab.book("ids", booking).returncode == 1
    records = lab.told("records", booking)
    assert {each["network_access_id"] for each in records} == set(names)
    assert all(each["final"] for each in records)
    states = [
        each["payload"]["booking"]["state"]
        for each in lab.told("watch", "--subject", f"bookings/{booking}", "--after", "0", "--no-follow")
        if each["type"] == "BOOKING_STATE"
    ]
    assert states == ["REQUESTED", "OFFERED", "BOOKED", "ACTIVE", "RELEASED"]


def test_what_does_not_fit_is_offered_as_far_as_it_does_and_not_accepted_unseen(lab: Lab) -> None:
    booking = reference(lab, "--devices", "20", "--accept")
    (offered,) = lab.told("show", booking)
    assert (offered["state"], offered["offer"]["counter_offer"]) == ("OFFERED", True)
    (line,) = [each for each in offered["offer"]["lines"] if each["area_id"] == "vienna"]
    # 12 times 320 kbit/s are 3.84 of 4 Mbit/s.
    assert (line["requested_devices"], line["offered_devices"], line["limited_by"]) == (20, 12, "CAPACITY_DOWNLINK")
    shown = lab.book("show", booking)
    assert "less than was asked for" in shown.stdout
    assert shown.stderr == f"accept it:   castcore book accept {booking}\n"
    assert lab.told("decline", booking)[0]["state"] == "DECLINED"


def test_an_operator_withholds_a_booking_and_lets_it_go_on(lab: Lab) -> None:
    booking = reference(lab, "--accept")
    refused = lab.book("suspend", booking)
    assert refused.returncode == 1
    suspended = castcore("book", "suspend", booking, "--because", "maintenance", "--dir", lab.directory)
    assert "SUSPENDED" in suspended.stdout
    assert "because      maintenance" in suspended.stdout
    resumed = castcore("book", "resume", booking, "--dir", lab.directory)
    assert "ACTIVE" in resumed.stdout
    lab.told("release", booking)


def test_thresholds_geofences_and_sinks_are_set_listed_and_ended(lab: Lab) -> None:
    booking = reference(lab, "--accept")
    quality = lab.book("ids", booking, "--profile", "radio").stdout.strip()
    region = lab.book("ids", booking, "--profile", "region").stdout.strip()
    (threshold,) = lab.told("thresholds", "new", quality, "loss", "--above", "0.5%", "--for", "2000")
    assert (threshold["metric"], threshold["above"], threshold["for_ms"]) == ("LOSS", 5_000, 2_000)
    (below,) = lab.told("thresholds", "new", quality, "downlink", "--below", "300 Kbps")
    assert below["below"] == 300_000
    assert len(lab.told("thresholds")) == 2
    assert lab.book("thresholds", "rm", threshold["threshold_id"]).returncode == 0
    assert [each["threshold_id"] for each in lab.told("thresholds")] == [below["threshold_id"]]

    (geofence,) = lab.told("geofences", "new", region, "--not-left", "--max-events", "3")
    assert (geofence["entered"], geofence["left"], geofence["max_events"]) == (True, False, 3)
    assert lab.told("geofences") == [geofence]
    assert lab.book("geofences", "rm", geofence["geofence_id"]).returncode == 0
    assert lab.told("geofences") == []

    (sink,) = lab.told("sinks", "new", "http://127.0.0.1:9/events", "--type", "BOOKING_STATE")
    assert (sink["url"], sink["event_types"]) == ("http://127.0.0.1:9/events", ["BOOKING_STATE"])
    assert len(sink["secret"]) >= 16
    (listed,) = lab.told("sinks")
    assert listed["secret"] == ""
    assert lab.book("sinks", "rm", sink["sink_id"]).returncode == 0
    lab.told("release", booking)


@pytest.mark.clause("5G-MAG live media distribution Preconditions")
def test_several_platforms_are_told_apart_by_name(lab: Lab, tmp_path: Path) -> None:
    known = tmp_path / "platforms.toml"
    known.write_text(
        f'default = "here"\n[platform.here]\naddress = "grpc://{lab.grpc}"\ncredential = "{lab.credential}"\n'
        '[platform.away]\naddress = "127.0.0.1:9"\n'
    )
    by_default = castcore("book", "--platforms", known, "areas", "--json")
    assert {json.loads(line)["area_id"] for line in by_default.stdout.splitlines()} == {"linz", "vienna"}
    by_address = castcore("book", "areas", "--platform", f"grpc://{lab.grpc}", "--credential", lab.credential)
    assert by_address.returncode == 0
    away = castcore("book", "ls", "--platforms", known, "--platform", "away")
    assert (away.returncode, away.stdout) == (1, "")
    assert away.stderr.startswith("castcore: netapi: ")


def test_refusals_are_one_line_and_leave_nothing(lab: Lab) -> None:
    many = lab.book("request", "--application", "p", "--area", "vienna=radio", "--devices", "51", "--period", "now/1h")
    assert (many.returncode, many.stdout) == (1, "")
    assert "expected at most 50, found 51" in many.stderr
    unknown = lab.book("request", "--application", "p", "--area", "graz=radio", "--period", "now/1h")
    assert unknown.returncode == 1
    assert "graz" in unknown.stderr
    assert lab.book("ls", credential="wrong").returncode == 1
    assert lab.book("ls", "--state", "OPEN").stderr.startswith("castcore: option '--state': found 'OPEN'")
    assert lab.told("ls", "--state", "OFFERED") == []


def test_the_operator_sees_resources_and_events_as_those_of_any_function(lab: Lab) -> None:
    booking = reference(lab, "--accept")

    def told(*arguments: str) -> list[dict]:
        done = castcore(*arguments, "--dir", lab.directory, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        return [json.loads(line) for line in done.stdout.splitlines()]

    access = lab.told(
        "access", "begin", lab.book("ids", booking, "--area", "vienna").stdout.strip(), "--device", "10.9.9.9"
    )
    assert (access[0]["state"], access[0]["reason"]) == ("WAITING", "NOT_ATTACHED")
    assert booking in {each["booking_id"] for each in told("ls", "bookings")}
    assert told("show", "bookings", booking)[0]["agreement_id"] == PROVIDER
    names = {each["network_access_id"] for each in told("ls", "network-access-ids", "--booking", booking)}
    assert len(names) == 2
    assert {each["access_id"] for each in told("ls", "device-accesses", "--booking", booking)} == {
        access[0]["access_id"]
    }
    assert told("show", "device-accesses", access[0]["access_id"])[0]["device"] == {
        **dict.fromkeys(access[0]["device"], ""), "ipv4_address": "10.9.9.9",
    }  # fmt: skip
    assert len(told("ls", "usage-records", "--booking", booking)) == 2
    events = told("watch", "--from", "netapi", "--subject", f"bookings/{booking}", "--no-follow")
    assert [each["type"] for each in events][-1] == "DEVICE_ACCESS_STATE"
    assert {each["from"] for each in events} == {"netapi"}
    lab.told("release", booking)


def test_watching_ends_at_ctrl_c(lab: Lab) -> None:
    lab.told("release", reference(lab, "--accept"))
    command = [CASTCORE, "book", "watch", "--after", "0", "--dir", str(lab.directory)]
    environment = os.environ | {"CASTCORE_CREDENTIAL": lab.credential}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert "BOOKING_STATE" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "castcore: interrupted\n")
