"""``castcore ls``, ``show`` and ``watch`` beside a running stack."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from command import CASTCORE
from in_process_command import castcore
from running_core import NETWORK_POLICY_ID, RATE_BPS, UE, one_process_each, prepare
from running_core import castcore as running

from nf.af.v1.provisioning_pb2 import M1QosSpecification, PolicyTemplate
from nf.cli.resources.kinds import KINDS
from nf.cli.running import announced, found
from nf.client.provider import Provider
from nf.common.channels import Channels

SUPI = "imsi-001010000000001"


@dataclass(frozen=True)
class Lab:
    """A running stack with one policy at work."""

    directory: Path
    grpc: dict[str, str]
    session_id: str
    policy_id: str


def provision_mbs(url: str) -> None:
    """A broadcast service that is on in a far year, and a TMGI that nobody uses."""
    with httpx.Client(base_url=url, verify=False) as http:
        service = {
            "extServiceIds": ["urn:news"],
            "servType": "BROADCAST",
            "servClass": "urn:class",
            "servAnnModes": ["VIA_MBS_5"],
            "servNameDescs": [{"servName": "News", "language": "en"}],
        }
        made = http.post("/nmbsf-mbs-us/v1/mbs-user-services", json=service).raise_for_status()
        objects = {"operatingMode": "SINGLE", "objAcqMethod": "PULL", "objAcqIds": ["http://127.0.0.1:9/a"]}
        info = {"distrMethod": "OBJECT", "maxContBitRate": "2 Mbps", "objDistrInfo": objects}
        session = {
            "mbsUserServId": made.headers["location"].rpartition("/")[2],
            "mbsDisSessInfos": {"main": info},
            "actPeriods": [{"startTime": "2199-01-01T00:00:00Z", "stopTime": "2199-01-02T00:00:00Z"}],
        }
        http.post("/nmbsf-mbs-ud-ingest/v1/sessions", json=session).raise_for_status()
        http.post("/nmbsmf-tmgi/v1/tmgi", json={"tmgiNumber": 1}).raise_for_status()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    directory = tmp_path_factory.mktemp("lab") / "state"
    with running("up", "--dir", str(directory)) as (_, ready):

        async def activate() -> tuple[str, str]:
            channels = Channels(ready["grpc"])
            try:
                prepared = await prepare(channels)
                return prepared.provisioning_session_id, await prepared.activate()
            finally:
                await channels.close()

        session_id, policy_id = asyncio.run(activate())
        provision_mbs(ready["http"])
        yield Lab(directory, ready["grpc"], session_id, policy_id)


def told(lab: Lab, *arguments: str) -> list[dict]:
    done = castcore(*arguments, "--dir", lab.directory, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_kind_of_a_stack_with_one_policy_has_its_resources(lab: Lab) -> None:
    counts = {
        "provisioning-sessions": 1,
        "policy-templates": 1,
        "consumption-reporting-configurations": 0,
        "dynamic-policies": 1,
        "consumption-reporting-sessions": 0,
        "consumption-reporting-units": 0,
        "metrics-reporting-configurations": 0,
        "metrics-reports": 0,
        "notification-subscriptions": 0,
        "app-sessions": 1,
        "sm-policies": 1,
        "operator-policies": 0,
        "ledger": 1,
        "pdu-sessions": 1,
        "mbs-user-services": 1,
        "mbs-ingest-sessions": 1,
        "mbs-distribution-sessions": 1,
        "dist-sessions": 1,
        "tmgis": 1,
        "mbs-sessions": 0,
        "mbs-contexts": 0,
        "agreements": 0,
        "service-areas": 0,
        "capability-profiles": 0,
        "bookings": 0,
        "network-access-ids": 0,
        "device-accesses": 0,
        "geofences": 0,
        "thresholds": 0,
        "event-sinks": 0,
        "usage-records": 0,
    }
    assert counts.keys() == KINDS.keys()
    assert {kind: len(told(lab, "ls", kind)) for kind in counts} == counts


def test_a_resource_is_told_to_scripts_with_whole_numbers_and_plain_enums(lab: Lab) -> None:
    (policy,) = told(lab, "show", "dynamic-policies", lab.policy_id)
    assert policy["dynamic_policy_id"] == lab.policy_id
    assert (policy["state"], policy["enforcement_method"]) == ("ACTIVE", "MONITOR")
    assert policy["enforcement_bit_rate_bps"] == RATE_BPS
    assert policy["ue_address"] == UE
    (flow,) = policy["service_data_flow_descriptions"]
    assert flow["flow_description"]["direction"] == "BIDIRECTIONAL"


def test_what_is_kept_by_key_is_told_by_key(lab: Lab) -> None:
    (session,) = told(lab, "ls", "mbs-ingest-sessions")
    info = session["mbs_dis_sess_infos"]["main"]
    assert (info["mbs_dist_sess_state"], info["max_cont_bit_rate_bps"]) == ("INACTIVE", 2_000_000)
    name = info["mbs_dist_session_id"]
    assert told(lab, "show", "mbs-distribution-sessions", name) == [info]
    assert told(lab, "ls", "mbs-distribution-sessions", "--service", session["mbs_user_serv_id"]) == [info]
    (replica,) = told(lab, "show", "dist-sessions", name)
    assert (replica["dist_session_state"], replica["mbr_bps"]) == ("INACTIVE", 2_000_000)
    (tmgi,) = told(lab, "ls", "tmgis")
    assert told(lab, "show", "tmgis", tmgi["tmgi"]["mbs_service_id"]) == [tmgi]
    missing = castcore("show", "tmgis", "ffffff", "--dir", lab.directory)
    assert missing.returncode == 1
    assert "does not exist" in missing.stderr


def test_mbs_is_a_table_to_eyes(lab: Lab) -> None:
    done = castcore("ls", "mbs-distribution-sessions", "--dir", lab.directory)
    head, _, row = (line.split() for line in done.stdout.splitlines() if line.strip())
    assert head == ["id", "state", "method", "rate"]
    assert row[1:] == ["INACTIVE", "OBJECT", "2", "Mbps"]


@pytest.mark.parametrize("source", ["mbsf", "mbstf", "smf"])
def test_the_events_of_every_function_of_mbs_are_told(lab: Lab, source: str) -> None:
    for event in told(lab, "watch", "--from", source, "--after", "0", "--no-follow"):
        assert event["from"] == source
    assert castcore("watch", "--from", source, "--no-follow", "--dir", lab.directory).returncode == 0


def test_a_list_is_a_table_to_eyes_without_columns_that_are_empty(lab: Lab) -> None:
    done = castcore("ls", "dynamic-policies", "--dir", lab.directory)
    assert done.returncode == 0
    head, _, row = (line.split() for line in done.stdout.splitlines() if line.strip())
    assert head == ["id", "template", "UE", "state", "flows", "method", "rate"]
    assert (row[0], row[2:]) == (lab.policy_id, [UE, "ACTIVE", "1", "MONITOR", "1", "Mbps"])


def test_a_resource_is_told_to_eyes_whole(lab: Lab) -> None:
    done = castcore("show", "policy-templates", told(lab, "ls", "policy-templates")[0]["policy_template_id"],
                    "--dir", lab.directory)  # fmt: skip
    assert done.returncode == 0
    assert f"external_reference: {NETWORK_POLICY_ID}\n" in done.stdout
    assert f"  max_btr_dl_bps: {RATE_BPS}\n" in done.stdout


def test_a_list_is_narrowed_by_what_fits_its_kind(lab: Lab) -> None:
    assert len(told(lab, "ls", "policy-templates", "--session", lab.session_id)) == 1
    assert told(lab, "ls", "ledger", "--supi", "imsi-001019999999999") == []
    refused = castcore("ls", "pdu-sessions", "--session", lab.session_id, "--dir", lab.directory)
    assert refused.returncode == 2
    assert "--session" in refused.stderr
    assert "pdu-sessions cannot be narrowed by it" in refused.stderr


def test_what_does_not_exist_is_one_line_on_standard_error(lab: Lab) -> None:
    done = castcore("show", "dynamic-policies", "no-such", "--dir", lab.directory)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "castcore: DynamicPolicy 'no-such' does not exist\n"


def test_a_kind_that_is_none_names_those_that_are(lab: Lab) -> None:
    done = castcore("ls", "templates", "--dir", lab.directory)
    assert done.returncode == 2
    assert "found 'templates', expected one of provisioning-sessions, policy-templates" in done.stderr.replace(
        "\n", " "
    )
    assert "operator-policies" in castcore("ls", "--help").stdout


def test_a_stack_may_be_named_by_its_addresses(lab: Lab, tmp_path: Path) -> None:
    done = castcore("ls", "pdu-sessions", "--dir", tmp_path, "--grpc", f"smf={lab.grpc['smf']}", "--json")
    assert json.loads(done.stdout)["supi"] == SUPI
    refused = castcore("ls", "pdu-sessions", "--grpc", "smf=nowhere")
    assert refused.returncode == 1
    assert "found 'smf=nowhere', expected NF=HOST:PORT" in refused.stderr


def test_a_directory_on_which_nothing_runs_says_how_to_tell_where_it_is(tmp_path: Path) -> None:
    done = castcore("ls", "pdu-sessions", "--dir", tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        f"castcore: no smf runs on the state directory '{tmp_path}': expected --dir of a running stack, or"
        " --grpc smf=HOST:PORT\n"
    )


def test_the_events_that_are_kept_are_told_in_sequence(lab: Lab) -> None:
    events = told(lab, "watch", "--no-follow")
    assert [each["sequence"] for each in events] == list(range(1, len(events) + 1))
    assert {each["from"] for each in events} == {"af"}
    (active,) = [each for each in events if each["type"] == "DYNAMIC_POLICY_STATE"]
    assert active["subject"] == f"dynamic-policies/{lab.policy_id}"
    assert active["payload"]["dynamic_policy"]["state"] == "ACTIVE"
    assert told(lab, "watch", "--no-follow", "--after", str(active["sequence"])) == events[active["sequence"] :]
    assert told(lab, "watch", "--no-follow", "--subject", active["subject"]) == [active]


def test_events_of_several_functions_are_told_side_by_side(lab: Lab) -> None:
    events = told(lab, "watch", "--no-follow", "--from", "af", "--from", "smf")
    assert {each["from"] for each in events} == {"af", "smf"}


@contextmanager
def watching(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [CASTCORE, "watch", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_watch_outlives_the_function_that_it_watches_and_is_told_by_the_configuration_where_it_is(
    tmp_path: Path,
) -> None:
    config = one_process_each(tmp_path)

    async def provision(grpc: dict[str, str]) -> None:
        channels = Channels(grpc)
        try:
            await prepare_session(channels)
        finally:
            await channels.close()

    with watching("--config", config, "--after", "0", "--json") as process:
        assert process.stdout is not None
        sequences = []
        for _ in range(2):
            with running("run", "af", "--config", str(config)) as (_, ready):
                asyncio.run(provision(ready["grpc"]))
                sequences.append(json.loads(process.stdout.readline())["sequence"])
                done = castcore("ls", "provisioning-sessions", "--config", config, "--json")
                assert len(done.stdout.splitlines()) == len(sequences)
        process.send_signal(signal.SIGINT)
        process.wait()
    assert sequences == [1, 2]
    assert process.returncode == 0


async def prepare_session(channels: Channels) -> None:
    """A session with a template: one event, of its validation."""
    provider = Provider(channels.get("af"))
    session = await provider.provision_session("player")
    await provider.ready(
        await provider.create_template(
            session.provisioning_session_id,
            PolicyTemplate(
                external_reference=NETWORK_POLICY_ID, qos_specification=M1QosSpecification(max_btr_dl_bps=RATE_BPS)
            ),
        )
    )


def test_a_process_that_is_gone_is_not_found(tmp_path: Path) -> None:
    with announced(tmp_path, "http://127.0.0.1:1", {"af": "127.0.0.1:2"}):
        assert found(tmp_path) == {"af": "127.0.0.1:2"}
        (path,) = (tmp_path / "running").iterdir()
        gone = subprocess.Popen(["true"])
        gone.wait()
        path.with_name("0.json").write_text(json.dumps({"pid": gone.pid, "http": "", "grpc": {"pcf": "127.0.0.1:3"}}))
        assert found(tmp_path) == {"af": "127.0.0.1:2"}
    assert not path.exists()
    assert os.listdir(tmp_path / "running") == ["0.json"]
