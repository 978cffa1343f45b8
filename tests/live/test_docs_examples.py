"""The reflection client of docs/running.md against a core as that page starts it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

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
