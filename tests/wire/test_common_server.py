"""The server and the channels: errors, correlation, deadlines, retries, metrics, health, reflection, stop.

What a client is promised holds for calls over a socket and for calls within a process alike.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import structlog
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from policy_service import Policies, open_store, registrations

from nf.common import call
from nf.common.channels import MAX_MESSAGE_BYTES, Channels
from nf.common.errors import (
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    FieldViolation,
    Internal,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unimplemented,
)
from nf.common.in_process import InProcess
from nf.common.outgoing_calls import ATTEMPTS
from nf.common.server import GrpcServer
from nf.common.store import Store
from nf.common.telemetry import Telemetry, configure_logging
from nf.pcf.v1.operator_policies_pb2 import (
    CreateOperatorPolicyRequest,
    GetOperatorPolicyRequest,
    ListOperatorPoliciesRequest,
    OperatorPolicy,
)
from nf.pcf.v1.operator_policies_pb2_grpc import OperatorPoliciesServiceStub

SERVICE = "nf.pcf.v1.OperatorPoliciesService"
GET = f"/{SERVICE}/GetOperatorPolicy"
CREATE = f"/{SERVICE}/CreateOperatorPolicy"


@dataclass
class Bench:
    store: Store
    policies: Policies
    server: GrpcServer
    telemetry: Telemetry
    channels: Channels
    address: str
    in_process: InProcess | None

    def plain(self) -> grpc.aio.Channel:
        """A channel as any client has one: it knows nothing of ours."""
        if self.in_process is None:
            return grpc.aio.insecure_channel(self.address)
        return self.in_process.channel(self.address, MAX_MESSAGE_BYTES, lambda: grpc.aio.insecure_channel(self.address))

    @property
    def stub(self) -> OperatorPoliciesServiceStub:
        return OperatorPoliciesServiceStub(self.channels.get("pcf"))

    def served(self, method: str, code: str) -> float:
        labels = {"function": "pcf", "method": method, "code": code}
        return self.telemetry.registry.get_sample_value("castcore_rpc_server_calls_total", labels) or 0.0

    def tried(self, method: str, code: str) -> float:
        labels = {"function": "af", "peer": "pcf", "method": method, "code": code}
        return self.telemetry.registry.get_sample_value("castcore_rpc_client_calls_total", labels) or 0.0


@asynccontextmanager
async def serving(
    store: Store, address: str = "127.0.0.1:0", in_process: InProcess | None = None
) -> AsyncIterator[Bench]:
    telemetry, policies = Telemetry(), Policies(store)
    server = GrpcServer("pcf", telemetry, in_process=in_process)
    server.add(*registrations(policies, store))
    bound = await server.start(address)
    await server.set_serving()
    channels = Channels({"pcf": bound}, function="af", telemetry=telemetry, in_process=in_process)
    yield Bench(store, policies, server, telemetry, channels, bound, in_process)
    await channels.close()
    await server.stop(0.2)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = open_store(tmp_path)
    yield opened
    await opened.close()


@pytest.fixture(params=["socket", "in process"])
def in_process(request: pytest.FixtureRequest) -> InProcess | None:
    return InProcess() if request.param == "in process" else None


@pytest.fixture
async def bench(store: Store, in_process: InProcess | None) -> AsyncIterator[Bench]:
    async with serving(store, in_process=in_process) as made:
        yield made


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    configure_logging("debug", "json", stream)
    yield stream
    structlog.reset_defaults()


def create(name: str) -> CreateOperatorPolicyRequest:
    return CreateOperatorPolicyRequest(operator_policy=OperatorPolicy(operator_policy_id=name))


async def test_a_call_is_answered_and_counted(bench: Bench) -> None:
    made = await bench.stub.CreateOperatorPolicy(create("a"))
    read = await bench.stub.GetOperatorPolicy(GetOperatorPolicyRequest(operator_policy_id="a"))
    assert read.operator_policy == made.operator_policy
    assert (bench.served(CREATE, "OK"), bench.served(GET, "OK"), bench.tried(GET, "OK")) == (1, 1, 1)
    labels = {"function": "pcf", "method": GET}
    assert bench.telemetry.registry.get_sample_value("castcore_rpc_server_latency_seconds_count", labels) == 1


async def test_messages_may_be_larger_than_grpc_allows_by_itself(bench: Bench) -> None:
    large = OperatorPolicy(operator_policy_id="a", dnn="x" * 8 * 1024 * 1024)
    await bench.stub.CreateOperatorPolicy(CreateOperatorPolicyRequest(operator_policy=large))
    read = await bench.stub.GetOperatorPolicy(GetOperatorPolicyRequest(operator_policy_id="a"))
    assert len(read.operator_policy.dnn) == 8 * 1024 * 1024


async def test_an_error_reaches_the_caller_as_the_same_class(bench: Bench) -> None:
    with pytest.raises(NotFound, match="OperatorPolicy 'x' does not exist") as caught:
        await bench.stub.GetOperatorPolicy(GetOperatorPolicyRequest(operator_policy_id="x"))
    assert caught.value.reason == "NOT_FOUND"
    assert caught.value.metadata == {"kind": "nf.pcf.v1.OperatorPolicy", "name": "x"}
    await bench.stub.CreateOperatorPolicy(create("a"))
    with pytest.raises(AlreadyExists):
        await bench.stub.CreateOperatorPolicy(create("a"))
    assert (bench.served(GET, "NOT_FOUND"), bench.served(CREATE, "ALREADY_EXISTS")) == (1, 1)


async def test_a_refusal_reaches_the_caller_whatever_was_sent(bench: Bench) -> None:
    with pytest.raises(NotFound, match=r"OperatorPolicy 'üü.*…") as caught:
        await bench.stub.GetOperatorPolicy(GetOperatorPolicyRequest(operator_policy_id="ü" * 100_000))
    assert caught.value.reason == "NOT_FOUND"


async def test_cause_and_violations_reach_the_caller(bench: Bench) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await bench.stub.CreateOperatorPolicy(create(""))
    assert caught.value.cause == "MANDATORY_IE_MISSING"
    assert caught.value.violations == (
        FieldViolation("operator_policy.operator_policy_id", "expected an identifier, found nothing"),
    )


async def test_any_client_reads_the_error_from_the_rich_status(bench: Bench) -> None:
    async with bench.plain() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await OperatorPoliciesServiceStub(channel).CreateOperatorPolicy(create(""))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    trailing = dict(caught.value.trailing_metadata())
    status = Status.FromString(trailing["grpc-status-details-bin"])
    info, bad_request = ErrorInfo(), BadRequest()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(bad_request)
    assert (info.domain, info.reason, info.metadata["cause"]) == (
        "castcore",
        "INVALID_ARGUMENT",
        "MANDATORY_IE_MISSING",
    )
    assert [each.field for each in bad_request.field_violations] == ["operator_policy.operator_policy_id"]


async def test_a_fault_of_ours_tells_a_correlation_id_and_nothing_else(bench: Bench, log: io.StringIO) -> None:
    def fail(_: str) -> None:
        raise ZeroDivisionError("a secret")

    bench.policies.before_get = fail
    with pytest.raises(Internal) as caught:
        await bench.stub.GetOperatorPolicy(GetOperatorPolicyRequest(operator_policy_id="a"))
    correlation_id = caught.value.metadata["correlation_id"]
    assert "secret" not in str(caught.value)
    assert correlation_id in str(caught.value)
    (line,) = [each for each in map(json.loads, log.getvalue().splitlines()) if each["event"] == "rpc.failed"]
    assert line["correlation_id"] == correlation_id
    assert line["exception"][0]["exc_value"] == "a secret"
    assert bench.served(GET, "INTERNAL") == 1


async def test_a_method_that_is_not_offered_is_unimplemented(bench: Bench) -> None:
    with pytest.raises(Unimplemented, match="ListOperatorPolicies is not offered here"):
        await bench.stub.ListOperatorPolicies(ListOperatorPoliciesRequest())


async def test_the_correlation_id_goes_in_comes_back_and_reaches_log_and_events(bench: Bench, log: io.StringIO) -> None:
    async with bench.plain() as channel:
        stub = OperatorPoliciesServiceStub(channel)
        made = stub.CreateOperatorPolicy(create("a"), metadata=(("x-correlation-id", "corr-7"),))
        await made
        assert dict(await made.trailing_metadata())["x-correlation-id"] == "corr-7"
        invented = stub.CreateOperatorPolicy(create("b"))
        await invented
        assert len(dict(await invented.trailing_metadata())["x-correlation-id"]) == 32
    first, second = await bench.store.read(lambda reader: reader.events(0))
    assert first.correlation_id == "corr-7"
    assert second.correlation_id == dict(await invented.trailing_metadata())["x-correlation-id"]
    lines = [each for each in map(json.loads, log.getvalue().splitlines()) if each["event"] == "rpc"]
    assert [(each["correlation_id"], each["method"], each["code"]) for each in lines] == [
        ("corr-7", CREATE, "OK"),
        (second.correlation_id, CREATE, "OK"),
    ]


async def test_a_channel_passes_the_correlation_id_on(bench: Bench) -> None:
    call.adopt_correlation_id("corr-8")
    await bench.stub.CreateOperatorPolicy(create("a"))
    (event,) = await bench.store.read(lambda reader: reader.events(0))
    assert event.correlation_id == "corr-8"


async def test_a_call_has_the_default_deadline_and_never_more_than_is_left(bench: Bench) -> None:
    await bench.stub.CreateOperatorPolicy(create("a"))
    request = GetOperatorPolicyRequest(operator_policy_id="a")
    await bench.stub.GetOperatorPolicy(request)
    with call.own_deadline(2.0):
        await bench.stub.GetOperatorPolicy(request)
        await bench.stub.GetOperatorPolicy(request, timeout=1.0)
        await bench.stub.GetOperatorPolicy(request, timeout=60.0)
    default, left, own, capped = (each or 0.0 for each in bench.policies.remaining_s)
    assert 4.0 < default < 5.2  # on the wire a deadline is rounded up
    assert 1.2 < left < 2.1
    assert 0.0 < own < 1.1
    assert 1.2 < capped < 2.1


async def test_a_deadline_that_has_passed_is_told_without_a_call(bench: Bench) -> None:
    with call.own_deadline(0.0), pytest.raises(DeadlineExceeded, match="pcf: not called"):
        await bench.stub.GetOperatorPolicy(GetOperatorPolicyRequest(operator_policy_id="a"))
    assert bench.policies.remaining_s == []


async def test_a_read_that_takes_too_long_ends_with_its_deadline(bench: Bench) -> None:
    with pytest.raises(DeadlineExceeded):
        await bench.stub.GetOperatorPolicy(GetOperatorPolicyRequest(operator_policy_id="gated"), timeout=0.05)


async def test_a_change_goes_on_when_its_client_has_left(bench: Bench) -> None:
    creating = asyncio.ensure_future(bench.stub.CreateOperatorPolicy(create("gated")))
    await bench.policies.entered.wait()
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    bench.policies.gate.set()
    await bench.store.wait_sequence(0)
    assert await bench.store.read(lambda reader: reader.require(OperatorPolicy, "gated"))


async def test_a_read_is_tried_again_while_the_peer_is_unavailable(bench: Bench) -> None:
    await bench.stub.CreateOperatorPolicy(create("a"))
    failures = iter([True, True, False])

    def fail_twice(_: str) -> None:
        if next(failures):
            raise Unavailable("starting")

    bench.policies.before_get = fail_twice
    await bench.stub.GetOperatorPolicy(GetOperatorPolicyRequest(operator_policy_id="a"))
    assert (bench.tried(GET, "UNAVAILABLE"), bench.tried(GET, "OK")) == (2, 1)


async def test_a_read_is_given_up_after_four_tries(bench: Bench) -> None:
    def fail(_: str) -> None:
        raise Unavailable("starting", reason="STARTING")

    bench.policies.before_get = fail
    with pytest.raises(Unavailable, match="starting") as caught:
        await bench.stub.GetOperatorPolicy(GetOperatorPolicyRequest(operator_policy_id="a"))
    assert caught.value.reason == "STARTING"
    assert bench.tried(GET, "UNAVAILABLE") == ATTEMPTS == 4


async def test_a_change_that_is_not_idempotent_is_tried_once(in_process: InProcess | None) -> None:
    server = GrpcServer("pcf", Telemetry(), in_process=in_process)
    address = server.bind("127.0.0.1:0")
    telemetry = Telemetry()
    channels = Channels({"pcf": address}, function="af", telemetry=telemetry, in_process=in_process)
    await server.start()
    await server.stop(0)
    with pytest.raises(Unavailable, match="pcf: "):
        await OperatorPoliciesServiceStub(channels.get("pcf")).CreateOperatorPolicy(create("a"))
    labels = {"function": "af", "peer": "pcf", "method": CREATE, "code": "UNAVAILABLE"}
    assert telemetry.registry.get_sample_value("castcore_rpc_client_calls_total", labels) == 1
    await channels.close()


async def test_a_peer_that_starts_again_is_found_within_a_call(store: Store, in_process: InProcess | None) -> None:
    async with serving(store, in_process=in_process) as first:
        await first.stub.CreateOperatorPolicy(create("a"))
        channels = Channels({"pcf": first.address}, in_process=in_process)
        stub = OperatorPoliciesServiceStub(channels.get("pcf"))
        request = GetOperatorPolicyRequest(operator_policy_id="a")
        await stub.GetOperatorPolicy(request)
    reading = asyncio.ensure_future(stub.GetOperatorPolicy(request))
    async with serving(store, first.address, in_process):
        assert (await reading).operator_policy.operator_policy_id == "a"
    await channels.close()


async def test_a_stub_is_made_once_until_the_channels_are_closed(bench: Bench) -> None:
    request = GetOperatorPolicyRequest(operator_policy_id="a")
    await bench.stub.CreateOperatorPolicy(create("a"))
    stub = bench.channels.stub("pcf", OperatorPoliciesServiceStub)
    assert bench.channels.stub("pcf", OperatorPoliciesServiceStub) is stub
    assert (await stub.GetOperatorPolicy(request)).operator_policy.operator_policy_id == "a"
    await bench.channels.close()
    again = bench.channels.stub("pcf", OperatorPoliciesServiceStub)
    assert (await again.GetOperatorPolicy(request)).operator_policy.operator_policy_id == "a"


async def test_an_unknown_peer_is_named() -> None:
    with pytest.raises(InvalidArgument, match=r"peer 'smf' has no address \(known: pcf, upf\)"):
        Channels({"upf": "x:1", "pcf": "y:2"}).get("smf")


async def test_two_servers_do_not_share_a_port(bench: Bench) -> None:
    with pytest.raises(FailedPrecondition, match=f"af: cannot listen on {bench.address}"):
        await GrpcServer("af", Telemetry()).start(bench.address)


async def test_health_follows_the_function(store: Store) -> None:
    server = GrpcServer("pcf", Telemetry())
    server.add(*registrations(Policies(store), store))
    address = await server.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)

        async def status(service: str) -> int:
            return int((await health.Check(health_pb2.HealthCheckRequest(service=service))).status)

        assert [await status(name) for name in ("", SERVICE)] == [health_pb2.HealthCheckResponse.NOT_SERVING] * 2
        await server.set_serving()
        assert [await status(name) for name in ("", SERVICE)] == [health_pb2.HealthCheckResponse.SERVING] * 2
        watching = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
        stopping = asyncio.create_task(server.stop(1.0))
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watching.cancel()
        await stopping


async def test_reflection_lists_every_service(bench: Bench) -> None:
    async with bench.plain() as channel:
        stream = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        await stream.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        answer = await stream.read()
        await stream.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE))
        described = await stream.read()
        await stream.done_writing()
    assert [each.name for each in answer.list_services_response.service] == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        SERVICE,
        "nf.pcf.v1.PcfEventsService",
    ]
    assert len(described.file_descriptor_response.file_descriptor_proto) >= 1


async def test_stopping_lets_calls_finish_and_refuses_new_ones(bench: Bench) -> None:
    creating = asyncio.ensure_future(bench.stub.CreateOperatorPolicy(create("gated")))
    await bench.policies.entered.wait()
    stopping = asyncio.create_task(bench.server.stop(5.0))
    await bench.server.stopping.wait()
    bench.policies.gate.set()
    assert (await creating).operator_policy.operator_policy_id == "gated"
    await stopping
    with pytest.raises(Unavailable):
        await bench.stub.CreateOperatorPolicy(create("b"))
