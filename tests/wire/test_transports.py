"""A call over a socket and a call within a process behave alike: streams, cancellation, deadlines, stop, isolation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import pytest

from nf.common import call
from nf.common.channels import MAX_MESSAGE_BYTES, Channels
from nf.common.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from nf.common.in_process import InProcess, InProcessServer
from nf.common.server import GrpcServer
from nf.common.telemetry import Telemetry
from nf.common.v1.types_pb2 import Volume

SERVICE = "test.Transport"
TOTAL, LARGE = 400, bytes(64 * 1024)
# What sockets and the library hold between them, generously.
AHEAD = 160
# Long enough to reach a handler on a busy machine.
DEADLINE_S = 0.4


class Transport:
    """Answers as it is asked to, and knows what it has been through."""

    def __init__(self) -> None:
        self.produced = 0
        self.entered, self.ended, self.gate = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.peers: list[str] = []
        self.kept = Volume()

    async def wait(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        self.peers.append(context.peer())
        self.entered.set()
        try:
            await self.gate.wait()
        finally:
            self.ended.set()
        return request

    async def break_down(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        raise OSError("what the client need not know")

    async def keep(self, request: Volume, context: grpc.aio.ServicerContext) -> Volume:
        call.set_correlation_id("of the handler")
        request.packets += 1
        self.kept = request
        return self.kept

    async def stream(self, request: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        self.entered.set()
        try:
            for _ in range(TOTAL):
                self.produced += 1
                yield LARGE
        finally:
            self.ended.set()

    async def fail(self, request: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        yield b"first"
        yield b"second"
        raise FailedPrecondition("no more", reason="NO_MORE", cause="A_CAUSE")

    async def hold(self, request: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        yield b"first"
        self.entered.set()
        try:
            await self.gate.wait()
        finally:
            self.ended.set()

    async def written(self, request: bytes, context: grpc.aio.ServicerContext) -> None:
        await context.send_initial_metadata((("x-first", "1"),))
        await context.write(b"first")
        await context.write(b"second")

    def register(self, server: grpc.aio.Server) -> None:
        volume = {"request_deserializer": Volume.FromString, "response_serializer": Volume.SerializeToString}
        methods = {
            "Wait": grpc.unary_unary_rpc_method_handler(self.wait),
            "BreakDown": grpc.unary_unary_rpc_method_handler(self.break_down),
            "Keep": grpc.unary_unary_rpc_method_handler(self.keep, **volume),
            "Stream": grpc.unary_stream_rpc_method_handler(self.stream),
            "Fail": grpc.unary_stream_rpc_method_handler(self.fail),
            "Hold": grpc.unary_stream_rpc_method_handler(self.hold),
            "Written": grpc.unary_stream_rpc_method_handler(self.written),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))


class Bench:
    """A server, what it serves, and a channel of ours to it."""

    def __init__(self, in_process: InProcess | None, **options: object) -> None:
        self.transport, self.telemetry, self.in_process = Transport(), Telemetry(), in_process
        self.server = self.another(**options)
        self.address = self.server.bind("127.0.0.1:0")
        self.channels = Channels({"pcf": self.address}, function="af", telemetry=self.telemetry, in_process=in_process)

    def another(self, **options: object) -> GrpcServer:
        server = GrpcServer("pcf", self.telemetry, in_process=self.in_process, **options)
        server.add(self.transport.register)
        return server

    def unary(self, method: str) -> Callable[..., grpc.aio.UnaryUnaryCall[bytes, bytes]]:
        return self.channels.get("pcf").unary_unary(f"/{SERVICE}/{method}")

    def stream(self, method: str) -> Callable[..., grpc.aio.UnaryStreamCall[bytes, bytes]]:
        return self.channels.get("pcf").unary_stream(f"/{SERVICE}/{method}")

    def plain(self) -> grpc.aio.Channel:
        if self.in_process is None:
            return grpc.aio.insecure_channel(self.address)
        return self.in_process.channel(self.address, MAX_MESSAGE_BYTES, lambda: grpc.aio.insecure_channel(self.address))

    def counted(self, name: str, method: str, **labels: str) -> float:
        labels = {"function": "pcf", "method": f"/{SERVICE}/{method}", **labels}
        return self.telemetry.registry.get_sample_value(f"castcore_rpc_{name}", labels) or 0.0

    async def closed(self, method: str, code: str) -> None:
        """Returns when the server has counted one call of the method that ended so, and has none open."""
        async with asyncio.timeout(10):
            # A counter tells nobody that it has moved.
            while self.counted("server_calls_total", method, code=code) != 1:  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert self.counted("server_open_calls", method) == 0


@pytest.fixture(params=["socket", "in process"])
def in_process(request: pytest.FixtureRequest) -> InProcess | None:
    return InProcess() if request.param == "in process" else None


@asynccontextmanager
async def serving(in_process: InProcess | None, **options: object) -> AsyncIterator[Bench]:
    bench = Bench(in_process, **options)
    await bench.server.start()
    yield bench
    await bench.channels.close()
    await bench.server.stop(0)


@pytest.fixture
async def bench(in_process: InProcess | None) -> AsyncIterator[Bench]:
    async with serving(in_process) as made:
        yield made


async def test_a_stream_comes_whole_and_in_order_and_is_counted(bench: Bench) -> None:
    assert [each async for each in bench.stream("Written")(b"")] == [b"first", b"second"]
    async with bench.plain() as channel:
        made = channel.unary_stream(f"/{SERVICE}/Written")(b"")
        assert dict(await made.initial_metadata())["x-first"] == "1"
        assert [await made.read(), await made.read(), await made.read()] == [b"first", b"second", grpc.aio.EOF]
        assert await made.code() is grpc.StatusCode.OK
        assert made.done()
    client = {"function": "af", "peer": "pcf", "code": "OK"}
    assert bench.counted("client_calls_total", "Written", **client) == 1
    assert bench.counted("server_calls_total", "Written", code="OK") == 2


async def test_a_stream_runs_ahead_of_its_reader_by_a_window_only(bench: Bench) -> None:
    read = 0
    async for message in bench.stream("Stream")(b""):
        assert message == LARGE
        read += 1
        assert bench.transport.produced - read <= AHEAD
        if read % 50 == 0:
            # The handler has every chance to run on.
            for _ in range(20):
                await asyncio.sleep(0)
    assert read == bench.transport.produced == TOTAL
    assert bench.counted("server_stream_messages_total", "Stream") == TOTAL


async def test_within_a_process_the_window_is_that_of_http2() -> None:
    async with serving(InProcess()) as bench:
        made = bench.stream("Stream")(b"")
        await made.read()
        await bench.transport.entered.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        # One has been read, one fills the window.
        assert bench.transport.produced == 2
        made.cancel()


async def test_what_came_before_a_failure_is_read_before_it(bench: Bench) -> None:
    failing = bench.stream("Fail")(b"")
    assert [await failing.read(), await failing.read()] == [b"first", b"second"]
    with pytest.raises(FailedPrecondition, match="no more") as caught:
        await failing.read()
    assert (caught.value.reason, caught.value.cause) == ("NO_MORE", "A_CAUSE")
    client = {"function": "af", "peer": "pcf", "code": "FAILED_PRECONDITION"}
    assert bench.counted("client_calls_total", "Fail", **client) == 1


async def test_a_stream_that_its_client_cancels_ends_at_the_server(bench: Bench) -> None:
    made = bench.stream("Hold")(b"")
    assert await made.read() == b"first"
    await bench.transport.entered.wait()
    assert bench.counted("server_open_calls", "Hold") == 1
    made.cancel()
    await bench.transport.ended.wait()
    await bench.closed("Hold", "CANCELLED")
    with pytest.raises(asyncio.CancelledError):
        await made.read()
    assert made.cancelled()
    assert await made.code() is grpc.StatusCode.CANCELLED


async def test_a_stream_that_nobody_reads_any_more_ends_at_the_server(bench: Bench) -> None:
    async for _ in bench.stream("Hold")(b""):
        break
    await bench.transport.ended.wait()
    await bench.closed("Hold", "CANCELLED")


async def test_a_reader_that_is_cancelled_takes_its_call_along(bench: Bench) -> None:
    async def read() -> None:
        async for _ in bench.stream("Hold")(b""):
            pass

    reading = asyncio.create_task(read())
    await bench.transport.entered.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await bench.transport.ended.wait()
    await bench.closed("Hold", "CANCELLED")


async def test_a_stream_ends_with_its_deadline_at_both_ends(bench: Bench) -> None:
    holding = bench.stream("Hold")(b"", timeout=DEADLINE_S)
    assert await holding.read() == b"first"
    with pytest.raises(DeadlineExceeded):
        await holding.read()
    await bench.closed("Hold", "DEADLINE_EXCEEDED")
    assert bench.transport.ended.is_set()


async def test_a_call_ends_with_its_deadline_at_both_ends(bench: Bench) -> None:
    waiting = asyncio.ensure_future(bench.unary("Wait")(b"", timeout=DEADLINE_S))
    await bench.transport.entered.wait()
    with pytest.raises(DeadlineExceeded):
        await waiting
    await bench.closed("Wait", "DEADLINE_EXCEEDED")
    # What may change something goes on all the same.
    assert not bench.transport.ended.is_set()
    bench.transport.gate.set()
    await bench.transport.ended.wait()


async def test_stopping_breaks_off_what_does_not_end_in_time(bench: Bench) -> None:
    waiting = asyncio.ensure_future(bench.unary("Wait")(b""))
    holding = bench.stream("Hold")(b"")
    assert await holding.read() == b"first"
    await bench.transport.entered.wait()
    await bench.server.stop(0.05)
    for each in (waiting, holding.read()):
        with pytest.raises(Unavailable):
            await each
    assert bench.transport.ended.is_set()
    with pytest.raises(Unavailable):
        await bench.unary("Wait")(b"")


async def test_a_channel_that_is_closed_cancels_its_calls_and_makes_no_more(bench: Bench) -> None:
    unary, stream = bench.unary("Wait"), bench.stream("Hold")
    waiting = asyncio.ensure_future(unary(b""))
    await bench.transport.entered.wait()
    await bench.channels.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(Unavailable, match="pcf: the channel is closed"):
        await unary(b"")
    with pytest.raises(Unavailable, match="pcf: the channel is closed"):
        stream(b"")


async def test_a_call_waits_for_a_server_that_is_about_to_start(in_process: InProcess | None) -> None:
    bench = Bench(in_process)
    bench.transport.gate.set()
    waiting = asyncio.ensure_future(bench.unary("Wait")(b"x"))
    await asyncio.sleep(0)
    await bench.server.start()
    assert await waiting == b"x"
    await bench.channels.close()
    await bench.server.stop(0)


async def test_who_waits_for_a_server_that_has_gone_reaches_the_next_one(bench: Bench) -> None:
    await bench.server.stop(0)
    watching = bench.stream("Hold")(b"", wait_for_ready=True)
    reading = asyncio.ensure_future(watching.read())
    next_one = bench.another()
    await next_one.start(bench.address)
    assert await reading == b"first"
    watching.cancel()
    await next_one.stop(0)


async def test_nothing_is_shared_between_the_two_ends(bench: Bench) -> None:
    call.set_correlation_id("of the caller")
    keep = bench.channels.get("pcf").unary_unary(
        f"/{SERVICE}/Keep", request_serializer=Volume.SerializeToString, response_deserializer=Volume.FromString
    )
    sent = Volume(packets=1)
    answered = await keep(sent)
    assert (sent.packets, answered.packets) == (1, 2)
    answered.packets = 9
    assert bench.transport.kept.packets == 2
    assert call.correlation_id() == "of the caller"


async def test_a_message_that_is_too_large_is_refused(bench: Bench) -> None:
    bench.transport.gate.set()
    with pytest.raises(ResourceExhausted):
        await bench.unary("Wait")(bytes(MAX_MESSAGE_BYTES + 1))


async def test_without_tls_nobody_is_among_the_allowed_peers(in_process: InProcess | None) -> None:
    async with serving(in_process, allowed_peers=("af",)) as bench:
        with pytest.raises(PermissionDenied, match="without a certificate"):
            await bench.unary("Wait")(b"")


async def test_a_fault_is_told_as_one_whatever_is_around_the_handler(bench: Bench) -> None:
    with pytest.raises(Internal, match="internal error"):
        await bench.unary("BreakDown")(b"")
    # Where nothing is around it, what is told is what the library tells.
    bare, in_process = Transport(), InProcess()
    methods = {"BreakDown": grpc.unary_unary_rpc_method_handler(bare.break_down)}
    server = InProcessServer(grpc.method_handlers_generic_handler(SERVICE, methods))
    in_process.announce("here:1", server)
    server.start()
    async with in_process.channel("here:1", 16, lambda: grpc.aio.insecure_channel("here:1")) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(f"/{SERVICE}/BreakDown")(b"")
    assert caught.value.code() is grpc.StatusCode.UNKNOWN
    assert caught.value.details() == "Unexpected <class 'OSError'>: what the client need not know"


async def test_a_method_that_nobody_serves_is_unimplemented(bench: Bench) -> None:
    async with bench.plain() as channel:
        made = channel.unary_unary("/test.Transport/Nothing")(b"")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await made
    assert caught.value.code() is await made.code() is grpc.StatusCode.UNIMPLEMENTED
    assert caught.value.details() == "Method not found!"


async def test_the_transport_is_the_one_that_was_asked_for(bench: Bench) -> None:
    bench.transport.gate.set()
    await bench.unary("Wait")(b"")
    (peer,) = bench.transport.peers
    assert peer.startswith("ipv4:127.0.0.1:")
    assert (peer == "ipv4:127.0.0.1:0") is (bench.in_process is not None)


async def test_a_channel_knows_how_its_server_is(in_process: InProcess | None) -> None:
    bench = Bench(in_process)
    channel = bench.channels.get("pcf")
    assert channel.get_state() is not grpc.ChannelConnectivity.READY
    await bench.server.start()
    await asyncio.wait_for(channel.channel_ready(), 10)
    assert channel.get_state() is grpc.ChannelConnectivity.READY
    changing = asyncio.ensure_future(channel.wait_for_state_change(grpc.ChannelConnectivity.READY))
    await bench.server.stop(0)
    await asyncio.wait_for(changing, 10)
    await bench.channels.close()
    assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN


async def test_a_plain_call_tells_all_that_the_library_tells(bench: Bench) -> None:
    bench.transport.gate.set()
    told: list[object] = []
    async with bench.plain() as channel:
        made = channel.unary_unary(f"/{SERVICE}/Wait")(b"x", timeout=5, metadata=(("x-correlation-id", "c"),))
        made.add_done_callback(told.append)
        await made.wait_for_connection()
        assert 4 < (made.time_remaining() or 0) <= 5
        assert await made == await made == b"x"
        assert dict(await made.trailing_metadata())["x-correlation-id"] == "c"
        assert (await made.code(), await made.details(), made.done(), made.cancelled()) == (
            grpc.StatusCode.OK,
            "",
            True,
            False,
        )
        assert told == [made]
        assert not made.cancel()
