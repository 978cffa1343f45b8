"""A core in processes of its own, as a lab runs it, and a media session on it."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from command import CASTCORE

from nf.af.v1.provisioning_pb2 import M1QosSpecification, PolicyTemplate
from nf.client.dynamic_policy import DynamicPolicyHandler, Flow
from nf.client.m5_grpc import GrpcM5
from nf.client.provider import Provider
from nf.common.channels import Channels
from nf.common.clock import SystemClock
from nf.common.v1.types_pb2 import EnforcementMethod, Snssai
from nf.pcf.v1.operator_policies_pb2 import CreateOperatorPolicyRequest, OperatorPolicy
from nf.pcf.v1.operator_policies_pb2_grpc import OperatorPoliciesServiceStub
from nf.smf.v1.pdu_session_pb2 import CreatePduSessionRequest, PduSession
from nf.smf.v1.pdu_session_pb2_grpc import PduSessionsServiceStub
from upf.n4.v1.n4_pb2 import HeartbeatRequest
from upf.n4.v1.n4_pb2_grpc import N4ServiceStub

UE, SERVER = "10.45.0.2", "198.51.100.7"
SERVER_PORT, UE_PORT = 443, 40_000
FLOW = Flow(remote_ip=SERVER, remote_port=SERVER_PORT, ue_port=UE_PORT, protocol=17, ue_ip=UE)
RATE_BPS, BURST_BYTES = 1_000_000, 15_000
NETWORK_POLICY_ID = "zero-rating"
MONITOR, POLICE = EnforcementMethod.ENFORCEMENT_METHOD_MONITOR, EnforcementMethod.ENFORCEMENT_METHOD_POLICE


@contextmanager
def castcore(*arguments: str, log: IO[str] | None = None) -> Iterator[tuple[subprocess.Popen[str], dict]]:
    """A castcore process that serves, and what it said when it was ready; killed in the end if it still runs.

    log: gets its standard error. A pipe that nobody empties would hold it up.
    """
    with TemporaryFile("w+") if log is None else nullcontext(log) as errors:
        command = [CASTCORE, *arguments, "--json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                process.wait()
                errors.seek(0)
                raise AssertionError(f"castcore {' '.join(arguments)} ended: {errors.read()}")
            yield process, json.loads(line)
        finally:
            process.kill()
            process.communicate()


async def prepare(
    channels: Channels, *, method: EnforcementMethod.ValueType = MONITOR, burst_bytes: int | None = None
) -> Prepared:
    """An attached UE, and a provisioned policy that may be activated for it."""
    if method != MONITOR or burst_bytes is not None:
        operator_policy = OperatorPolicy(
            operator_policy_id="lab", dnn="internet", enforcement_method=method, burst_bytes=burst_bytes
        )
        stub = OperatorPoliciesServiceStub(channels.get("pcf"))
        await stub.CreateOperatorPolicy(CreateOperatorPolicyRequest(operator_policy=operator_policy))
    provider = Provider(channels.get("af"))
    session = await provider.provision_session("player")
    wanted = PolicyTemplate(
        external_reference=NETWORK_POLICY_ID,
        qos_specification=M1QosSpecification(max_btr_dl_bps=RATE_BPS, max_btr_ul_bps=RATE_BPS),
    )
    await provider.ready(await provider.create_template(session.provisioning_session_id, wanted))
    attached = PduSession(
        sm_context_ref="ue-1", supi="imsi-001010000000001", pdu_session_id=1, dnn="internet", s_nssai=Snssai(sst=1),
        ue_ipv4_address=UE,
    )  # fmt: skip
    await PduSessionsServiceStub(channels.get("smf")).CreatePduSession(CreatePduSessionRequest(pdu_session=attached))
    handler = DynamicPolicyHandler(GrpcM5(channels.get("af"), ue_address=UE), SystemClock())
    return Prepared(handler, session.provisioning_session_id)


@dataclass(frozen=True)
class Prepared:
    """A media session that has everything but a policy in force."""

    handler: DynamicPolicyHandler
    provisioning_session_id: str

    async def activate(self) -> str:
        """The identifier of the dynamic policy that is in force for FLOW."""
        policy = await self.handler.activate(self.provisioning_session_id, NETWORK_POLICY_ID, [FLOW])
        assert policy.enforcement_bit_rate_bps == RATE_BPS
        return policy.dynamic_policy_id


async def activate(channels: Channels, *, method: EnforcementMethod.ValueType = MONITOR) -> str:
    """A provisioned, attached and activated media session of one UDP flow; the identifier of its dynamic policy."""
    return await (await prepare(channels, method=method)).activate()


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


def one_process_each(directory: Path) -> Path:
    """A configuration for functions in processes of their own."""
    config = directory / "lab.toml"
    config.write_text(
        "\n".join(
            f'[{name}]\ngrpc_address = "127.0.0.1:{port}"'
            for name, port in zip(("af", "netapi", "pcf", "smf", "mbsf", "mbstf", "upf"), free_ports(7), strict=True)
        )
        + f'\n[state]\ndirectory = "{directory / "state"}"\n'
    )
    return config
