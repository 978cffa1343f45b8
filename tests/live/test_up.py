"""``castcore up`` and ``castcore run`` as a lab uses them: ready, reflected, durable, enforced again after a kill."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import captures
import pytest
from command import CASTCORE
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from nf.af.v1.media_session_pb2 import GetDynamicPolicyRequest
from nf.af.v1.media_session_pb2_grpc import DynamicPoliciesServiceStub
from nf.af.v1.provisioning_pb2 import M1QosSpecification, PolicyTemplate
from nf.client.media_session_handler import Flow, MediaSessionHandler
from nf.client.provider import Provider
from nf.common.channels import Channels
from nf.common.clock import SystemClock
from nf.common.v1.types_pb2 import Snssai
from nf.smf.v1.pdu_session_pb2 import CreatePduSessionRequest, PduSession
from nf.smf.v1.pdu_session_pb2_grpc import PduSessionsServiceStub
from upf.n4.v1.n4_pb2 import HeartbeatRequest, ListSessionsRequest
from upf.n4.v1.n4_pb2_grpc import N4ServiceStub
from upf.policing import TokenBucket
from upf.traffic.v1.traffic_pb2 import ReplayRequest
from upf.traffic.v1.traffic_pb2_grpc import TrafficServiceStub

UE, SERVER = "10.45.0.2", "198.51.100.7"
RATE_BPS, BURST_BYTES = 1_000_000, 15_000
SERVICES = {
    "af": {
        "nf.af.v1.AfEventsService",
        "nf.af.v1.ConsumptionReportingProvisioningService",
        "nf.af.v1.DynamicPoliciesService",
        "nf.af.v1.PolicyTemplatesService",
        "nf.af.v1.ProvisioningSessionsService",
        "nf.af.v1.ServiceAccessInformationService",
    },
    "pcf": {
        "nf.pcf.v1.LedgerService",
        "nf.pcf.v1.OperatorPoliciesService",
        "nf.pcf.v1.PcfEventsService",
        "nf.pcf.v1.PolicyAuthorizationService",
        "nf.pcf.v1.SmPolicyControlService",
    },
    "smf": {"nf.smf.v1.PduSessionsService", "nf.smf.v1.SmPolicyNotifyService", "nf.smf.v1.SmfEventsService"},
    "upf": {"upf.n4.v1.N4Service", "upf.traffic.v1.TrafficService"},
}


@contextmanager
def castcore(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict]]:
    """A castcore process that serves, and what it said when it was ready; killed in the end if it still runs."""
    process = subprocess.Popen(
        [CASTCORE, *arguments, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise AssertionError(f"castcore {' '.join(arguments)} ended: {process.communicate()[1]}")
        yield process, json.loads(line)
    finally:
        process.kill()
        process.communicate()


async def activate(channels: Channels) -> str:
    """A provisioned, attached and activated media session of one UDP flow; the identifier of its dynamic policy."""
    provider = Provider(channels.get("af"))
    session = await provider.provision_session("player")
    wanted = PolicyTemplate(
        external_reference="zero-rating", qos_specification=M1QosSpecification(max_btr_dl_bps=RATE_BPS)
    )
    await provider.ready(await provider.create_template(session.provisioning_session_id, wanted))
    attached = PduSession(
        sm_context_ref="ue-1", supi="imsi-001010000000001", pdu_session_id=1, dnn="internet", s_nssai=Snssai(sst=1),
        ue_ipv4_address=UE,
    )  # fmt: skip
    await PduSessionsServiceStub(channels.get("smf")).CreatePduSession(CreatePduSessionRequest(pdu_session=attached))
    handler = MediaSessionHandler(channels.get("af"), SystemClock(), ue_address=UE)
    flow = Flow(remote_ip=SERVER, remote_port=443, ue_port=40_000, protocol=17, ue_ip=UE)
    policy = await handler.activate(session.provisioning_session_id, "zero-rating", [flow])
    assert policy.enforcement_bit_rate_bps == RATE_BPS
    return policy.dynamic_policy_id


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
    ports = free_ports(4)
    config = tmp_path / "lab.toml"
    config.write_text(
        "\n".join(
            f'[{name}]\ngrpc_address = "127.0.0.1:{port}"'
            for name, port in zip(("af", "pcf", "smf", "upf"), ports, strict=True)
        )
        + f'\n[state]\ndirectory = "{tmp_path / "state"}"\n'
    )
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


async def forwarding(channels: Channels) -> None:
    """Returns when the UPF has its sessions again."""
    stub = N4ServiceStub(channels.get("upf"))
    async with asyncio.timeout(20):
        # N4 tells it by heartbeat only.
        while not (await stub.Heartbeat(HeartbeatRequest())).forwarding:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


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
        [CASTCORE, "run", "af", "--dir", str(tmp_path)], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 1
    assert "castcore: peer 'pcf' has no port: set grpc_address in [pcf]" in done.stderr
