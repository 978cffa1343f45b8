"""TLS between functions and at the HTTP doors: who is let in, and who is not, on real sockets."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import structlog
from command import CASTCORE
from grpc_health.v1 import health_pb2, health_pb2_grpc
from running_core import activate

from nf.af.config import ProviderSection
from nf.af.v1.media_session_pb2 import DynamicPolicy, GetDynamicPolicyRequest
from nf.af.v1.media_session_pb2_grpc import DynamicPoliciesServiceStub
from nf.af.v1.provisioning_pb2 import (
    PROVISIONING_SESSION_TYPE_DOWNLINK,
    CreateProvisioningSessionRequest,
    ProvisioningSession,
)
from nf.af.v1.provisioning_pb2_grpc import ProvisioningSessionsServiceStub
from nf.cli.certs.making import make_files
from nf.cli.configuration import Configuration, HttpSection, StateSection
from nf.cli.stack import FUNCTIONS, Stack
from nf.common.channels import Channels
from nf.common.clock import ManualClock
from nf.common.config import TlsSection
from nf.common.errors import PermissionDenied, Unavailable
from nf.common.http import HttpServer, application
from nf.common.in_process import InProcess
from nf.common.server import GrpcServer
from nf.common.telemetry import Telemetry
from nf.common.tls import Credentials, TlsError

TWO_YEARS_AGO = datetime.now(UTC) - timedelta(days=730)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a lab, with a certificate that has expired."""
    directory = tmp_path_factory.mktemp("lab")
    make_files(directory, ("old",), alternatives=(), days=30, clients=(), clock=ManualClock(TWO_YEARS_AGO))
    functions = ("af", "netapi", "pcf", "smf", "mbsf", "mbstf", "upf")
    make_files(directory, (*functions, "http", "ue"), alternatives=(), days=30, clients=("ue",))
    return directory


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of another lab."""
    directory = tmp_path_factory.mktemp("other")
    make_files(directory, ("af", "ue"), alternatives=(), days=30, clients=("ue",))
    return directory


def section(directory: Path, name: str = "{name}") -> TlsSection:
    return TlsSection(
        ca=str(directory / "ca.pem"), certificate=str(directory / f"{name}.pem"), key=str(directory / f"{name}.key")
    )


def credentials(directory: Path, name: str) -> Credentials:
    return Credentials.load(section(directory), name)


def unchecked(lab: Path, ca: Path, name: str) -> Credentials:
    """Files that would be refused when they are read."""
    ca_file, certificate_file, key_file = ca / "ca.pem", lab / f"{name}.pem", lab / f"{name}.key"
    return Credentials(
        ca_file,
        certificate_file,
        key_file,
        ca_file.read_bytes(),
        certificate_file.read_bytes(),
        key_file.read_bytes(),
    )


async def health(address: str, tls: Credentials | None) -> str:
    channels = Channels({"af": address}, tls=tls, deadline_s=30)
    try:
        answer = await health_pb2_grpc.HealthStub(channels.get("af")).Check(health_pb2.HealthCheckRequest())
        return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    finally:
        await channels.close()


@pytest.fixture
async def server(lab: Path) -> AsyncIterator[str]:
    """The address of a server that shows the certificate of the AF."""
    started = GrpcServer("af", Telemetry(), tls=credentials(lab, "af"))
    address = await started.start("127.0.0.1:0")
    await started.set_serving()
    yield address
    await started.stop(0)


@pytest.mark.clause("TS 33.501 §13.1")
async def test_a_peer_with_a_certificate_of_the_lab_is_answered(server: str, lab: Path):
    assert await health(server, credentials(lab, "ue")) == "SERVING"
    assert await health(server.replace("127.0.0.1", "localhost"), credentials(lab, "pcf")) == "SERVING"


@pytest.mark.clause("TS 33.501 §13.1")
async def test_a_peer_in_clear_text_is_refused(server: str):
    with pytest.raises(Unavailable):
        await health(server, None)


@pytest.mark.clause("TS 33.501 §13.1")
async def test_a_function_with_tls_is_not_reached_around_it(lab: Path):
    in_process = InProcess()
    secured = GrpcServer("af", Telemetry(), tls=credentials(lab, "af"), in_process=in_process)
    address = await secured.start("127.0.0.1:0")
    assert address not in in_process
    channels = Channels({"af": address}, tls=credentials(lab, "pcf"), in_process=in_process)
    await health_pb2_grpc.HealthStub(channels.get("af")).Check(health_pb2.HealthCheckRequest())
    await channels.close()
    await secured.stop(0)


@pytest.mark.clause("TS 33.501 §13.1")
async def test_a_peer_with_a_certificate_of_another_authority_is_refused(server: str, lab: Path, other: Path):
    # It trusts the server; what the server says of it is what counts.
    with pytest.raises(Unavailable):
        await health(server, unchecked(other, lab, "ue"))


async def test_a_peer_whose_certificate_has_expired_is_refused(server: str, lab: Path):
    with pytest.raises(Unavailable):
        await health(server, unchecked(lab, lab, "old"))


async def test_a_server_of_another_authority_is_refused(server: str, lab: Path, other: Path):
    with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
        await health(server, unchecked(lab, other, "ue"))


async def test_a_server_that_shows_a_certificate_of_a_client_is_refused(lab: Path):
    """A UE cannot pass for a function."""
    started = GrpcServer("af", Telemetry(), tls=credentials(lab, "ue"))
    address = await started.start("127.0.0.1:0")
    with pytest.raises(Unavailable):
        await health(address, credentials(lab, "pcf"))
    await started.stop(0)


@pytest.mark.parametrize("http2", [True, False])
async def test_the_http_door_speaks_https_over_both_versions(lab: Path, http2: bool):
    server = HttpServer(application(Telemetry(), lambda: True), tls=credentials(lab, "http"))
    url = await server.start("127.0.0.1:0")
    assert url.startswith("https://127.0.0.1:")
    async with httpx.AsyncClient(verify=credentials(lab, "ue").client_context, http2=http2) as client:
        answer = await client.get(f"{url}/healthz")
    assert (answer.status_code, answer.http_version) == (200, "HTTP/2" if http2 else "HTTP/1.1")
    await server.stop()


@pytest.mark.parametrize(
    ("mode", "shown", "let_in"),
    [
        (ssl.CERT_REQUIRED, "ours", True),
        (ssl.CERT_REQUIRED, "another", False),
        (ssl.CERT_REQUIRED, "none", False),
        (ssl.CERT_OPTIONAL, "ours", True),
        (ssl.CERT_OPTIONAL, "another", False),
        (ssl.CERT_OPTIONAL, "none", True),
        (ssl.CERT_NONE, "none", True),
    ],
)
async def test_what_clients_of_the_http_door_show_is_checked_as_configured(
    lab: Path, other: Path, mode: ssl.VerifyMode, shown: str, let_in: bool
):
    server = HttpServer(application(Telemetry(), lambda: True), tls=credentials(lab, "http"), client_certificates=mode)
    url = await server.start("127.0.0.1:0")
    context = ssl.create_default_context(cafile=lab / "ca.pem")
    if shown != "none":
        place = lab if shown == "ours" else other
        context.load_cert_chain(place / "ue.pem", place / "ue.key")
    async with httpx.AsyncClient(verify=context) as client:
        if let_in:
            assert (await client.get(f"{url}/healthz")).status_code == 200
        else:
            with pytest.raises(httpx.TransportError):
                await client.get(f"{url}/healthz")
    await server.stop()


@pytest.mark.clause("TS 33.501 §13.1")
async def test_a_whole_stack_with_tls_puts_a_dynamic_policy_in_force_and_refuses_strangers(
    lab: Path, other: Path, tmp_path: Path
):
    configuration = Configuration(state=StateSection(directory=str(tmp_path)), tls=section(lab))
    stack = Stack(configuration)
    await stack.start()
    channels = Channels(stack.grpc, tls=credentials(lab, "ue"))
    try:
        dynamic_policy_id = await activate(channels)
        request = GetDynamicPolicyRequest(dynamic_policy_id=dynamic_policy_id)
        got = await DynamicPoliciesServiceStub(channels.get("af")).GetDynamicPolicy(request)
        assert got.dynamic_policy.state == DynamicPolicy.STATE_ACTIVE
        assert stack.http.startswith("https://")
        for name in FUNCTIONS:
            assert await health(stack.grpc[name], credentials(lab, "ue")) == "SERVING"
            for stranger in (None, unchecked(other, lab, "ue")):
                with pytest.raises(Unavailable):
                    await health(stack.grpc[name], stranger)
    finally:
        await channels.close()
        await stack.stop()


async def test_a_function_may_be_for_some_peers_alone(lab: Path):
    """A UE has a certificate of the lab, and is nevertheless not to call the PCF."""
    started = GrpcServer("pcf", Telemetry(), tls=credentials(lab, "pcf"), allowed_peers=("af", "smf"))
    address = await started.start("127.0.0.1:0")
    await started.set_serving()
    assert await health(address, credentials(lab, "af")) == "SERVING"
    with pytest.raises(PermissionDenied, match="the peer 'ue' may not call here") as refused:
        await health(address, credentials(lab, "ue"))
    assert refused.value.reason == "PEER_NOT_ALLOWED"
    await started.stop(0)


async def command(*arguments: str, **environment: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        CASTCORE,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_commands_show_a_certificate_and_a_token(lab: Path, tmp_path: Path):
    token = "studio-0123456789abcdef"
    configuration = Configuration(state=StateSection(directory=str(tmp_path)), tls=section(lab))
    af = configuration.af.model_copy(update={"providers": (ProviderSection(asp_id="studio", token=token),)})
    stack = Stack(configuration.model_copy(update={"af": af}))
    await stack.start()
    shown = ("--tls-ca", f"{lab}/ca.pem", "--tls-certificate", f"{lab}/ue.pem", "--tls-key", f"{lab}/ue.key")
    asked = ("ls", "provisioning-sessions", "--json", "--grpc", f"af={stack.grpc['af']}")
    try:
        channels = Channels(stack.grpc, tls=credentials(lab, "ue"), token=token)
        made = await ProvisioningSessionsServiceStub(channels.get("af")).CreateProvisioningSession(
            CreateProvisioningSessionRequest(
                provisioning_session=ProvisioningSession(
                    provisioning_session_type=PROVISIONING_SESSION_TYPE_DOWNLINK, app_id="app"
                )
            )
        )
        await channels.close()
        code, out, _ = await command(*asked, *shown, CASTCORE_TOKEN=token)
        assert (code, out.count("\n")) == (0, 1)
        assert made.provisioning_session.provisioning_session_id in out
        code, out, err = await command(*asked, *shown, "--token", "wrong-0123456789abcdef")
        assert (code, out) == (1, "")
        assert "the token is none of a configured provider" in err
        code, out, err = await command(*asked, "--token", token)
        assert (code, out) == (1, "")
        code, out, err = await command(*asked, *shown[:4])
        assert (code, err) == (
            1,
            "castcore: option '--tls-key': missing, expected all of --tls-ca, --tls-certificate, --tls-key or none\n",
        )
    finally:
        await stack.stop()


async def test_one_door_may_have_tls_while_the_others_are_in_clear_text(lab: Path, tmp_path: Path):
    configuration = Configuration(state=StateSection(directory=str(tmp_path)))
    af = configuration.af.model_copy(update={"tls": section(lab)})
    stack = Stack(configuration.model_copy(update={"af": af}))
    await stack.start()
    try:
        assert await health(stack.grpc["af"], credentials(lab, "ue")) == "SERVING"
        assert await health(stack.grpc["pcf"], None) == "SERVING"
        assert stack.http.startswith("http://")
    finally:
        await stack.stop()


async def test_a_function_without_a_certificate_is_told_that_its_peer_wants_one(lab: Path, tmp_path: Path):
    configuration = Configuration(state=StateSection(directory=str(tmp_path)))
    pcf = configuration.pcf.model_copy(update={"tls": section(lab)})
    with pytest.raises(
        TlsError, match=r"(af|smf): pcf asks for a certificate: set \[(af|smf)\.tls\], or \[tls\] for all"
    ):
        await Stack(configuration.model_copy(update={"pcf": pcf})).start()


def test_a_stack_whose_certificates_cannot_be_used_does_not_begin(lab: Path):
    with pytest.raises(TlsError, match=r"old\.pem: expired on"):
        Stack(Configuration(tls=section(lab, "old")))


async def test_a_door_in_clear_text_that_others_reach_is_warned_of(lab: Path, tmp_path: Path):
    for tls, expected in ((None, {"upf", "http"}), (section(lab), set())):
        configuration = Configuration(
            state=StateSection(directory=str(tmp_path)), http=HttpSection(address="0.0.0.0:0"), tls=tls
        )
        upf = configuration.upf.model_copy(update={"grpc_address": "0.0.0.0:0"})
        stack = Stack(configuration.model_copy(update={"upf": upf}), functions=("upf",))
        with structlog.testing.capture_logs() as logs:
            await stack.start()
            await stack.stop()
        warned = [each for each in logs if each["event"] == "clear_text"]
        assert {each["function"] for each in warned} == expected
        assert all(each["log_level"] == "warning" for each in warned)
