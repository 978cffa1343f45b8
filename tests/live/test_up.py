"""``castcore up`` and ``castcore run`` as a lab uses them: ready, reflected, durable, enforced again after a kill."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import captures
import pytest
from command import CASTCORE
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from running_core import BURST_BYTES, RATE_BPS, SERVER, UE, activate, castcore, forwarding, one_process_each

from nf.af.v1.media_session_pb2 import GetDynamicPolicyRequest
from nf.af.v1.media_session_pb2_grpc import DynamicPoliciesServiceStub
from nf.common.channels import Channels
from upf.n4.v1.n4_pb2 import ListSessionsRequest
from upf.n4.v1.n4_pb2_grpc import N4ServiceStub
from upf.policing import TokenBucket
from upf.traffic.v1.traffic_pb2 import ReplayRequest
from upf.traffic.v1.traffic_pb2_grpc import TrafficServiceStub

SERVICES = {
    "af": {
        "nf.af.v1.AfEventsService",
        "nf.af.v1.ConsumptionReportingProvisioningService",
        "nf.af.v1.ConsumptionReportingService",
        "nf.af.v1.ConsumptionReportsService",
        "nf.af.v1.DynamicPoliciesService",
        "nf.af.v1.MetricsReportingProvisioningService",
        "nf.af.v1.MetricsReportingService",
        "nf.af.v1.MetricsReportsService",
        "nf.af.v1.NotificationSubscriptionsService",
        "nf.af.v1.PolicyTemplatesService",
        "nf.af.v1.ProvisioningSessionsService",
        "nf.af.v1.ServiceAccessInformationService",
    },
    "netapi": {
        "nf.netapi.v1.AgreementsService",
        "nf.netapi.v1.BookingsService",
        "nf.netapi.v1.CoverageService",
        "nf.netapi.v1.DeviceAccessesService",
        "nf.netapi.v1.EventSinksService",
        "nf.netapi.v1.GeofencesService",
        "nf.netapi.v1.LocationService",
        "nf.netapi.v1.MonitoringService",
        "nf.netapi.v1.TokensService",
    },
    "pcf": {
        "nf.pcf.v1.LedgerService",
        "nf.pcf.v1.MbsPolicyAuthorizationService",
        "nf.pcf.v1.MbsPolicyControlService",
        "nf.pcf.v1.OperatorPoliciesService",
        "nf.pcf.v1.PcfEventsService",
        "nf.pcf.v1.PolicyAuthorizationService",
        "nf.pcf.v1.SmPolicyControlService",
    },
    "smf": {
        "nf.smf.v1.MbsSessionService",
        "nf.smf.v1.PduSessionsService",
        "nf.smf.v1.SmPolicyNotifyService",
        "nf.smf.v1.SmfEventsService",
        "nf.smf.v1.TmgiService",
    },
    "mbsf": {
        "nf.mbsf.v1.MbsUserDataIngestSessionsService",
        "nf.mbsf.v1.MbsUserServicesService",
        "nf.mbsf.v1.MbsfEventsService",
    },
    "mbstf": {"nf.mbstf.v1.DistSessionService", "nf.mbstf.v1.MbstfEventsService"},
    "upf": {"upf.n4.v1.N4Service", "upf.n4.v1.N4mbService", "upf.traffic.v1.TrafficService"},
}


async def conforming_bytes_at_the_upf(channels: Channels) -> tuple[int, int]:
    """What the UPF lets conform of a second at twice the rate, and what an independent bucket lets conform."""
    data = captures.ipv4(SERVER, UE, captures.UDP, captures.ports(443, 40_000, 980))
    packets = [captures.Captured(captures.START_NS + number * 4_000_000, data, len(data)) for number in range(250)]
    bucket = TokenBucket(RATE_BPS, BURST_BYTES)
    expected = sum(1_000 for packet in packets if bucket.take(packet.ts_ns, 1_000))

    async def pieces() -> AsyncIterator[ReplayRequest]:
        yield ReplayRequest(capture=captures.pcap(packets, link_type=captures.RAW, nanoseconds=True))

    answer = await TrafficServiceStub(channels.get("upf")).Replay(pieces())
    (flow,) = answer.flows
    assert flow.pdr_id
    return flow.volume.conforming.bytes, expected


async def services_of(channels: Channels, function: str) -> set[str]:
    stub = reflection_pb2_grpc.ServerReflectionStub(channels.get(function))
    stream = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    return {service.name for service in (await stream.read()).list_services_response.service}


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url) as answer:
        return answer.read()


async def test_it_serves_and_reflection_lists_every_service(tmp_path: Path) -> None:
    with castcore("up", "--dir", str(tmp_path / "state")) as (process, ready):
        assert ready["ready"] is True
        assert ready["grpc"].keys() == SERVICES.keys()
        channels = Channels(ready["grpc"])
        common = {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
        for function, services in SERVICES.items():
            assert await services_of(channels, function) == services | common
        await channels.close()
        assert b"castcore_rpc_server_calls_total" in await asyncio.to_thread(fetch, f"{ready['http']}/metrics")
        assert await asyncio.to_thread(fetch, f"{ready['http']}/healthz") == b"serving\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


async def test_what_was_acknowledged_is_there_after_sigkill_and_enforced_again(tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    with castcore("up", "--dir", state) as (process, ready):
        channels = Channels(ready["grpc"])
        dynamic_policy_id = await activate(channels)
        (before,) = (await N4ServiceStub(channels.get("upf")).ListSessions(ListSessionsRequest())).sessions
        process.kill()
        process.wait()
        await channels.close()
    with castcore("up", "--dir", state) as (process, ready):
        channels = Channels(ready["grpc"])
        request = GetDynamicPolicyRequest(dynamic_policy_id=dynamic_policy_id)
        policy = (await DynamicPoliciesServiceStub(channels.get("af")).GetDynamicPolicy(request)).dynamic_policy
        assert policy.enforcement_bit_rate_bps == RATE_BPS
        (after,) = (await N4ServiceStub(channels.get("upf")).ListSessions(ListSessionsRequest())).sessions
        assert after == before
        conforming, expected = await conforming_bytes_at_the_upf(channels)
        assert conforming == expected
        await channels.close()


async def test_functions_in_processes_of_their_own_find_each_other_and_outlive_a_killed_upf(tmp_path: Path) -> None:
    config = one_process_each(tmp_path)
    arguments = ("--config", str(config))
    with (
        castcore("run", "upf", *arguments) as (upf, upf_ready),
        castcore("run", "pcf", *arguments) as (_, pcf_ready),
        castcore("run", "smf", *arguments) as (_, smf_ready),
        castcore("run", "af", *arguments) as (_, af_ready),
    ):
        addresses = upf_ready["grpc"] | pcf_ready["grpc"] | smf_ready["grpc"] | af_ready["grpc"]
        channels = Channels(addresses)
        await activate(channels)
        assert len(set(await conforming_bytes_at_the_upf(channels))) == 1
        upf.kill()
        upf.wait()
        with castcore("run", "upf", *arguments):
            await forwarding(channels)
            assert len(set(await conforming_bytes_at_the_upf(channels))) == 1
        await channels.close()


@pytest.mark.parametrize(
    ("text", "variable", "line"),
    [
        ("[af]\nservice_acces_max_age_s = 3\n", {}, "lab.toml:2: af.service_acces_max_age_s, found an unknown key"),
        ('[upf]\n\nmax_flows = "many"\n', {}, 'lab.toml:3: upf.max_flows, found "many" (string)'),
        ("", {"CASTCORE_PCF__GRPC_ADDRESS": "here"}, "CASTCORE_PCF__GRPC_ADDRESS: pcf.grpc_address"),
    ],
)
def test_a_configuration_that_is_wrong_is_refused_by_line_and_key(
    tmp_path: Path, text: str, variable: dict[str, str], line: str
) -> None:
    (tmp_path / "lab.toml").write_text(text)
    done = subprocess.run(
        [CASTCORE, "up", "--config", "lab.toml"], cwd=tmp_path, env=os.environ | variable, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert line in done.stderr
    assert not (tmp_path / "castcore-state").exists()


def test_a_state_directory_that_is_in_use_is_refused(tmp_path: Path) -> None:
    with castcore("up", "--dir", str(tmp_path / "state")):
        second = subprocess.run(
            [CASTCORE, "up", "--dir", str(tmp_path / "state")], capture_output=True, text=True, check=False, timeout=30
        )
    assert second.returncode == 1
    assert second.stderr.splitlines()[-1].endswith("is in use by another process")
    assert "Traceback" not in second.stderr


def test_a_function_alone_says_which_peer_it_misses(tmp_path: Path) -> None:
    done = subprocess.run(
        [CASTCORE, "run", "af", "--dir", str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "castcore: peer 'pcf' has no port: set grpc_address in [pcf]" in done.stderr
