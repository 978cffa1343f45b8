"""The reflection client of docs/running.md against a core as that page starts it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import CASTCORE

ROOT = Path(__file__).parents[2]


def test_the_client_of_the_running_page_provisions_a_session_without_any_contract(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "running.md").read_text()
    (program,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    request = re.search(r"CreateProvisioningSession \\\n\s+'(.*)'", page)
    assert request is not None
    client = tmp_path / "ask.py"
    client.write_text(program)
    core = subprocess.Popen(
        [CASTCORE, "up", "--json", "--dir", tmp_path / "state"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert core.stdout is not None
        ready = json.loads(core.stdout.readline())
        assert list(ready) == ["ready", "http", "grpc"]
        service = "nf.af.v1.ProvisioningSessionsService"
        asked = [sys.executable, client, ready["grpc"]["af"], service, "CreateProvisioningSession", request[1]]
        answer = json.loads(subprocess.run(asked, capture_output=True, check=True, text=True).stdout)
        session = answer["provisioningSession"]
        assert session["appId"] == "player"
        assert re.fullmatch("[0-9a-f]{32}", session["provisioningSessionId"])
    finally:
        core.terminate()
        core.communicate(timeout=30)
    assert core.returncode == 0


def test_the_requests_of_the_http_page_lead_to_service_access_information(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "http.md").read_text()
    (script,) = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    core = subprocess.Popen(
        [CASTCORE, "up", "--json", "--dir", tmp_path / "state"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert core.stdout is not None
        http = json.loads(core.stdout.readline())["http"]
        assert script.startswith("AF=http://127.0.0.1:9090\n")
        script = script.replace("http://127.0.0.1:9090", http, 1)
        ran = subprocess.run(["bash", "-euo", "pipefail", "-c", script], capture_output=True, check=True, text=True)
        decoder, rest, answers = json.JSONDecoder(), ran.stdout, []
        while rest:
            answer, end = decoder.raw_decode(rest)
            answers.append(answer)
            rest = rest[end:]
        template, created, patched, access = answers
        assert (template["state"], template["qoSSpecification"]) == ("PENDING", {"maxBtrDl": "5.000 Mbps"})
        assert created == {"reportingInterval": 60}
        assert patched == {"reportingInterval": 60, "samplePercentage": 10.0}
        assert access["clientConsumptionReportingConfiguration"]["samplePercentage"] == 10.0
    finally:
        core.terminate()
        core.communicate(timeout=30)
    assert core.returncode == 0


def test_the_requests_of_the_announcements_page_provision_and_subscribe(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "mbs-announcements.md").read_text()
    (script,) = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    core = subprocess.Popen(
        [CASTCORE, "up", "--json", "--dir", tmp_path / "state"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert core.stdout is not None
        http = json.loads(core.stdout.readline())["http"]
        assert script.startswith("MBSF=http://127.0.0.1:9090\n")
        script = script.replace("http://127.0.0.1:9090", http, 1)
        ran = subprocess.run(["bash", "-euo", "pipefail", "-c", script], capture_output=True, check=True, text=True)
        decoder, rest, answers = json.JSONDecoder(), ran.stdout, []
        while rest:
            answer, end = decoder.raw_decode(rest)
            answers.append(answer)
            rest = rest[end:]
        subscription, session, announcement = answers
        assert [each["statusEvent"] for each in subscription["eventSubscs"]] == [
            "DIST_SESS_STARTED",
            "DATA_INGEST_FAILURE",
        ]
        info = session["mbsDisSessInfos"]["main"]
        assert (info["mbsDistSessState"], info["maxContBitRate"]) == ("INACTIVE", "4.000 Mbps")
        assert announcement["status"] == 404
    finally:
        core.terminate()
        core.communicate(timeout=30)
    assert core.returncode == 0


@pytest.mark.clause("5G-MAG live media distribution Preconditions")
def test_the_tour_of_the_camara_page_gives_a_device_quality_and_plans_a_network(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "camara.md").read_text()
    (script,) = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    core = subprocess.Popen(
        [CASTCORE, "up", "--json", "--dir", "castcore-state"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert core.stdout is not None
        http = json.loads(core.stdout.readline())["http"]
        assert script.startswith("HTTP=http://127.0.0.1:9090\n")
        script = script.replace("http://127.0.0.1:9090", http, 1)
        scripts = f"{Path(CASTCORE).parent}{os.pathsep}{os.environ['PATH']}"
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env={**os.environ, "PATH": scripts},
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stderr
        answers = list(_json_values(ran.stdout))
        profiles, session, longer, networks, access, network = answers
        assert [each["name"] for each in profiles] == ["radio"]
        assert (session["qosStatus"], session["duration"], longer["duration"]) == ("AVAILABLE", 600, 900)
        assert [(each["name"], each["maxNumberOfDevices"]) for each in networks] == [("radio", 20)]
        assert [each["status"] for each in access["recentAccessDevices"]] == ["GRANTED", "GRANTED"]
        assert network["status"] == "RESERVED"
    finally:
        core.terminate()
        core.communicate(timeout=30)
    assert core.returncode == 0


def _json_values(text: str) -> Iterator[Any]:
    """The objects and arrays that stand in a text, between whatever else commands print."""
    decoder, position = json.JSONDecoder(), 0
    while (found := re.compile(r"^[\[{]|(?<=[\]}])[\[{]", re.MULTILINE).search(text, position)) is not None:
        value, position = decoder.raw_decode(text, found.start())
        yield value
