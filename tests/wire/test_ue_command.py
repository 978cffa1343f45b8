"""castcore ue against a real AF, as a process of its own."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from af_stack import UE, AfStack, rule
from command import CASTCORE
from dash_documents import title
from dash_server import DashServer

from nf.af.v1 import provisioning_pb2 as m1
from nf.af.v1.consumption_reporting_pb2 import (
    ConsumptionStatistics,
    GetConsumptionStatisticsRequest,
    ListConsumptionReportingUnitsRequest,
)
from nf.af.v1.consumption_reporting_pb2_grpc import ConsumptionReportsServiceStub
from nf.client.provider import Provider

PATIENCE_S = 60.0


@dataclass
class Done:
    code: int
    out: str
    err: str


class Lab:
    """An AF with a provisioned service."""

    def __init__(self, stack: AfStack, session_id: str) -> None:
        self.stack = stack
        self.session_id = session_id

    @property
    def grpc(self) -> str:
        return f"grpc://{self.stack.address}"

    async def begin(self, *arguments: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(CASTCORE, "ue", *arguments, stdout=pipe, stderr=pipe)

    async def run(self, *arguments: str) -> Done:
        process = await self.begin(*arguments)
        async with asyncio.timeout(PATIENCE_S):
            out, err = await process.communicate()
        assert process.returncode is not None
        return Done(process.returncode, out.decode(), err.decode())

    async def statistics(self) -> ConsumptionStatistics:
        request = GetConsumptionStatisticsRequest(provisioning_session_id=self.session_id)
        stub = ConsumptionReportsServiceStub(self.stack.channel)
        return (await stub.GetConsumptionStatistics(request)).consumption_statistics


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with AfStack(tmp_path) as stack:
        provider = Provider(stack.channel)
        session_id = (await provider.provision_session("app", asp_id="asp")).provisioning_session_id
        await provider.configure_consumption_reporting(
            session_id, m1.ConsumptionReportingConfiguration(reporting_interval_s=1)
        )
        template = m1.PolicyTemplate(
            external_reference="zero-rating", qos_specification=m1.M1QosSpecification(max_btr_dl_bps=5_000_000)
        )
        await provider.ready(await provider.create_template(session_id, template))
        yield Lab(stack, session_id)


async def test_access_information_and_policies_from_the_shell(lab: Lab):
    """One story, as each process takes a second to start."""
    told = await lab.run("access-info", lab.session_id, "--m5", lab.stack.http, "--json")
    assert (told.code, told.err) == (0, "")
    bindings = json.loads(told.out)["dynamicPolicyInvocationConfiguration"]["policyTemplateBindings"]
    assert [each["externalReference"] for each in bindings] == ["zero-rating"]

    flow = ("--flow", "tcp/198.51.100.7:443/50000", "--ue", UE)
    created = await lab.run("policy", "create", lab.session_id, "zero-rating", *flow, "--m5", lab.grpc, "--json")
    policy = json.loads(created.out)
    policy_id = policy["dynamicPolicyId"]
    assert (policy["enforcementBitRate"], lab.stack.pcf.rules(policy_id)) == (5_000_000, [rule(50000)])

    other = ("--flow", "tcp/198.51.100.7:443/50001", "--ue", UE, "--m5", lab.stack.http)
    updated = await lab.run("policy", "update", policy_id, *other)
    assert f"dynamic policy  {policy_id}  ACTIVE\n" in updated.out
    assert lab.stack.pcf.rules(policy_id) == [rule(50001)]

    assert (await lab.run("policy", "delete", policy_id, "--m5", lab.stack.http, "--ue", UE)).code == 0
    assert lab.stack.pcf.sessions == {}
    refused = await lab.run("policy", "create", lab.session_id, "premium", *flow, "--m5", lab.grpc)
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == "castcore: network policy id 'premium' is not announced (announced: zero-rating)\n"


async def test_reports_and_their_refusals_from_the_shell(lab: Lab, tmp_path: Path):
    options = ("--media", "v1", "--media", "a1", "--duration", "30", "--client", "me")
    done = await lab.run("report", lab.session_id, *options, "--m5", lab.grpc)
    assert (done.code, done.out) == (0, "taken: 2 units of me\n")
    unit = {"mediaConsumed": "v2", "startTime": "2026-05-01T00:00:00Z", "duration": 4}
    tree = {"mediaPlayerEntry": "mpd", "reportingClientId": "me", "consumptionReportingUnits": [unit]}
    file = tmp_path / "report.json"
    file.write_text(json.dumps(tree))
    done = await lab.run("report", lab.session_id, "--file", str(file), "--m5", lab.stack.http, "--draft", "asp")
    assert (done.code, done.err) == (0, "")
    stub = ConsumptionReportsServiceStub(lab.stack.channel)
    page = await stub.ListConsumptionReportingUnits(ListConsumptionReportingUnitsRequest())
    found = [
        (each.consumption_reporting_unit.media_consumed, each.consumption_reporting_unit.duration_s)
        for each in page.consumption_records
    ]
    assert found == [("v1", 30), ("a1", 30), ("v2", 4)]

    del unit["startTime"]
    file.write_text(json.dumps(tree))
    refused = await lab.run("report", lab.session_id, "--file", str(file), "--m5", lab.grpc)
    assert refused.code == 1
    assert "startTime" in refused.err or "start_time" in refused.err


async def test_a_population_reports_what_the_af_then_has(lab: Lab):
    policies = ("--policy", "zero-rating", "--ues", "10.45.0.0/24", "--reconnect-time", "1s")
    done = await lab.run(
        "population", lab.session_id, "--clients", "10", "--duration", "3s", "--ramp", "0s", "--session-time", "2s",
        "--switch-time", "500ms", *policies, "--m5", lab.grpc, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert (told["clients"], told["errors"], told["failures"], told["policies_refused"]) == (10, [], {}, 0)
    assert told["sessions"] >= 10
    operations = told["operations"]
    assert operations["create_policy"]["count"] == operations["delete_policy"]["count"] == told["sessions"]
    assert told["reports"]["waiting"] == 0
    # At least a first and a final report of each session.
    assert told["reports"]["taken"] == operations["report"]["count"] >= 2 * told["sessions"]
    statistics = await lab.statistics()
    # A final report that says what the one before it said, to the second, counts once.
    assert 0 < statistics.report_count <= told["reports"]["taken"]
    assert statistics.client_count == 10
    assert lab.stack.pcf.sessions == {}
    assert "reports" in done.err.splitlines()[-1]


async def test_ctrl_c_ends_a_population_with_final_reports(lab: Lab):
    process = await lab.begin(
        "population",
        lab.session_id,
        "--clients",
        "5",
        "--duration",
        "1h",
        "--ramp",
        "0s",
        "--m5",
        lab.stack.http,
        "--json",
    )
    assert process.stderr is not None
    while b" 5 playing" not in await process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(PATIENCE_S):
        out, _ = await process.communicate()
    told = json.loads(out)
    assert (process.returncode, told["reports"]["waiting"]) == (0, 0)
    assert told["reports"]["taken"] >= 2 * told["sessions"]
    assert (await lab.statistics()).client_count == 5


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["access-info", "x", "--m5", "af:7001"], "M5 address: expected grpc://HOST:PORT or http(s)://HOST"),
        (["access-info", "x", "--dir", "nowhere"], "no af runs on the state directory 'nowhere': expected --m5 URL"),
        (["report", "x", "--media", "v", "--location", "cell"], "option '--location': found 'cell', expected TYPE:"),
        (["report", "x", "--media", "v", "--start", "noon"], "option '--start': found 'noon', expected a time"),
        (["population", "x", "--duration", "long"], "option '--duration': found 'long', expected a time"),
        (["population", "x", "--policy", "p"], "option '--ues': missing"),
        (["population", "x", "--ues", "10.0.0.0/30"], "ue_network: 10.0.0.0/30 has 3 addresses for 100 clients"),
        (["play", "nothing.json"], "nothing.json: cannot be read: No such file"),
        (["play", "http://m.test/1.mpd"], "option '--session': missing, expected the provisioning session"),
        (["policy", "create", "x", "p", "--flow", "tcp", "--m5", "grpc://127.0.0.1:1"], "option '--flow': found 'tcp'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_options_is_one_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    from nf.cli.main import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["castcore", "ue", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith(f"castcore: {told}")
    assert len(error.splitlines()) == 1


@pytest.mark.clause("TS 26.501 §5.6.1 step 13", "TS 26.501 §5.6.1 step 15", "TS 26.512 A.3.2 step 9")
async def test_a_title_is_played_within_its_policy_and_ctrl_c_stops_it_with_the_final_report(lab: Lab):
    video, audio = {"sd": 1_000_000, "hd": 12_000_000}, {"a": 100_000}
    content = {"/m.mpd": title(video, audio)}
    for name, rate in (video | audio).items():
        content |= {f"/{name}-{number}.m4s": bytes(rate * 2 // 800) for number in range(1, 6)}
    async with DashServer(content) as server:
        playing = await lab.begin(
            "play", f"{server.url}/m.mpd", "--session", lab.session_id, "--policy", "zero-rating", "--ue", UE,
            "--m5", lab.stack.http, "--client", "me",
        )  # fmt: skip
        assert playing.stdout is not None
        lines: list[str] = []
        async with asyncio.timeout(PATIENCE_S):
            while "step 11 media consumed: audio: a" not in lines:
                lines.append((await playing.stdout.readline()).decode().rstrip())
                assert lines[-1], await playing.communicate()
            playing.send_signal(signal.SIGINT)
            out, err = await playing.communicate()
        lines += out.decode().splitlines()
    assert (playing.returncode, err) == (0, b"")
    # The player has its filter before it fetches anything, and keeps to it.
    assert "step 7  service descriptor filter: at most 5,000,000 bit/s, in the answer" in lines
    assert "step 11 media consumed: video: sd" in lines
    assert "/sd-1.m4s" in server.paths
    assert "/hd-1.m4s" not in server.paths
    ends = [lines.index(each) for each in lines if each[:7] in ("step 13", "step 14", "step 15", "step 17")]
    assert ends == sorted(ends)
    assert len(ends) == 4
    assert lines[-1].startswith("played ")
    statistics = await lab.statistics()
    assert (statistics.client_count, statistics.unit_count) == (1, 2)
    assert lab.stack.pcf.sessions == {}
