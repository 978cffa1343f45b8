"""Functions of one process call each other without a socket: what other gRPC libraries call an in-process transport.

Requests and answers are serialised and parsed as ever, so that nothing is shared, and the handler runs in a task and a
context of its own. What surrounds calls (``channels``, ``interceptors``) is the same as on a socket, and stands above.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from contextvars import Context
from typing import NamedTuple, Self, TypeAlias, TypeVar, cast

import grpc

from nf.common.exchange import Exchange, Metadata, Serializer, Status

Request = TypeVar("Request")
Response = TypeVar("Response")
Deserializer: TypeAlias = Callable[[bytes], object]
State: TypeAlias = grpc.ChannelConnectivity


class InProcess:
    """The servers of one process, and of one event loop, by their addresses."""

    def __init__(self) -> None:
        self._servers: dict[str, InProcessServer] = {}
        self._changed = asyncio.Event()

    def __contains__(self, address: str) -> bool:
        return address in self._servers

    def announce(self, address: str, server: InProcessServer) -> None:
        """Who calls that address reaches this server from its start on; one that was there before has ended."""
        self._servers[address] = server
        server.tell = self._tell
        self._tell()

    def channel(self, address: str, limit_bytes: int, socket: Callable[[], grpc.aio.Channel]) -> grpc.aio.Channel:
        """A channel to an address that has been announced.

        No message is larger than ``limit_bytes``. Methods whose requests are a stream go by ``socket``, which is opened
        for the first of them.
        """
        return _Channel(self, address, limit_bytes, socket)

    async def reach(self, address: str, *, wait_for_ready: bool) -> InProcessServer | None:
        """The server, once it serves; None for one that has ended, unless the call is to wait for the next."""
        while not (server := self._servers[address]).serving:
            if server.ended and not wait_for_ready:
                return None
            await self.change()
        return server

    def state(self, address: str) -> State:
        """What a channel to that address is."""
        server = self._servers[address]
        return State.READY if server.serving else State.TRANSIENT_FAILURE if server.ended else State.CONNECTING

    async def change(self) -> None:
        """Returns when a server has come, started or ended."""
        await self._changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class InProcessServer:
    """What of a server the calls of its own process reach."""

    def __init__(self, services: grpc.GenericRpcHandler) -> None:
        self.serving = self.ended = False
        self.tell: Callable[[], None] = lambda: None
        self._services = services
        self._served: set[Exchange] = set()

    def start(self) -> None:
        """Calls are served from now on; those that have been waiting for it are, too."""
        self.serving = True
        self.tell()

    async def stop(self, grace_s: float) -> None:
        """Refuses new calls, lets the others finish for ``grace_s``, then breaks them off; returns when all ended."""
        self.serving, self.ended = False, True
        self.tell()
        tasks = [each.task for each in self._served]
        if not tasks:
            return
        await asyncio.wait(tasks, timeout=grace_s)
        for each in tuple(self._served):
            each.break_off(Status(grpc.StatusCode.UNAVAILABLE, "Cancelling all calls"))
        await asyncio.wait(tasks)

    async def serve(self, exchange: Exchange, request: bytes) -> None:
        """Has the method's handler answer; returns when it has ended."""
        self._served.add(exchange)
        try:
            await exchange.serve(self._services, request)
        finally:
            self._served.discard(exchange)


class _Call(grpc.aio.Call):
    """What both kinds of calls have. One that nobody holds any more is cancelled, as the library does it."""

    def __init__(self, exchange: Exchange, deserialize: Deserializer | None) -> None:
        self._exchange = exchange
        self._deserialize = deserialize

    def __del__(self) -> None:
        self._exchange.cancel()

    def cancel(self) -> bool:
        return self._exchange.cancel()

    def cancelled(self) -> bool:
        status = self._exchange.status
        return status is not None and status.code is grpc.StatusCode.CANCELLED

    def done(self) -> bool:
        return self._exchange.status is not None

    def time_remaining(self) -> float | None:
        return self._exchange.remaining_s()

    def add_done_callback(self, callback: Callable[[Self], None]) -> None:
        self._exchange.when_ended(lambda: callback(self))

    async def initial_metadata(self) -> grpc.aio.Metadata:
        return grpc.aio.Metadata(*await self._exchange.begun())

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        return grpc.aio.Metadata(*(await self._exchange.ended()).trailing_metadata)

    async def code(self) -> grpc.StatusCode:
        return (await self._exchange.ended()).code

    async def details(self) -> str:
        return (await self._exchange.ended()).details

    async def wait_for_connection(self) -> None:
        await self._exchange.taken_up()
        self._check(self._exchange.status)

    def _check(self, status: Status | None) -> None:
        """Raises what is told of a call that has not ended well."""
        if status is None or status.code is grpc.StatusCode.OK:
            return
        if status.locally:
            raise asyncio.CancelledError
        initial = grpc.aio.Metadata(*(self._exchange.initial_metadata or ()))
        trailing = grpc.aio.Metadata(*status.trailing_metadata)
        raise grpc.aio.AioRpcError(status.code, initial, trailing, details=status.details)

    def _parsed(self, message: bytes) -> object:
        return message if self._deserialize is None else self._deserialize(message)


class _UnaryUnaryCall(_Call, grpc.aio.UnaryUnaryCall[Request, Response]):
    def __await__(self) -> Generator[None, None, Response]:
        try:
            status = yield from self._exchange.ended().__await__()
        except asyncio.CancelledError:
            self._exchange.cancel()
            raise
        self._check(status)
        return cast(Response, self._parsed(self._exchange.answer))


class _UnaryStreamCall(_Call, grpc.aio.UnaryStreamCall[Request, Response]):
    async def __aiter__(self) -> AsyncIterator[Response]:
        while (message := await self.read()) is not grpc.aio.EOF:
            yield cast(Response, message)

    async def read(self) -> object:
        try:
            message = await self._exchange.receive()
        except asyncio.CancelledError:
            self._exchange.cancel()
            raise
        if message is not None:
            return self._parsed(message)
        self._check(self._exchange.status)
        return grpc.aio.EOF


class _Method(NamedTuple):
    """What makes the calls of one method."""

    channel: _Channel
    name: str
    serialize: Serializer | None
    deserialize: Deserializer | None
    call: Callable[[Exchange, Deserializer | None], _Call]

    def __call__(
        self,
        request: object,
        *,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> _Call:
        if credentials is not None:
            raise grpc.aio.UsageError("Call credentials are only valid on secure channels")
        serialized = cast(bytes, request) if self.serialize is None else self.serialize(request)
        exchange = self.channel.begin(self.name, serialized, timeout, metadata, wait_for_ready=bool(wait_for_ready))
        return self.call(exchange, self.deserialize)


class _Channel(grpc.aio.Channel):
    def __init__(
        self, in_process: InProcess, address: str, limit_bytes: int, socket: Callable[[], grpc.aio.Channel]
    ) -> None:
        self._in_process = in_process
        self._address = address
        self._limit_bytes = limit_bytes
        self._open_socket = socket
        self._socket: grpc.aio.Channel | None = None
        self._open: set[Exchange] = set()
        self._closed = False

    def begin(
        self, method: str, request: bytes, timeout_s: float | None, metadata: Metadata | None, *, wait_for_ready: bool
    ) -> Exchange:
        """A call that has begun. Raises UsageError when the channel is closed."""
        if self._closed:
            raise grpc.aio.UsageError("Channel is closed.")
        exchange = Exchange(method, metadata, timeout_s, self._limit_bytes)
        self._open.add(exchange)
        exchange.when_ended(lambda: self._open.discard(exchange))
        # Of the caller's context nothing goes along but what the metadata say.
        work = self._serve(exchange, request, wait_for_ready)
        exchange.task = asyncio.get_running_loop().create_task(work, context=Context())
        return exchange

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Request], bytes] | None = None,
        response_deserializer: Callable[[bytes], Response] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.UnaryUnaryMultiCallable[Request, Response]:
        serialize = cast("Serializer | None", request_serializer)
        made = _Method(self, method, serialize, response_deserializer, _UnaryUnaryCall)
        return cast("grpc.aio.UnaryUnaryMultiCallable[Request, Response]", made)

    def unary_stream(
        self,
        method: str,
        request_serializer: Callable[[Request], bytes] | None = None,
        response_deserializer: Callable[[bytes], Response] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.UnaryStreamMultiCallable[Request, Response]:
        serialize = cast("Serializer | None", request_serializer)
        made = _Method(self, method, serialize, response_deserializer, _UnaryStreamCall)
        return cast("grpc.aio.UnaryStreamMultiCallable[Request, Response]", made)

    def stream_unary(
        self,
        method: str,
        request_serializer: Callable[[Request], bytes] | None = None,
        response_deserializer: Callable[[bytes], Response] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.StreamUnaryMultiCallable[Request, Response]:
        return self._by_socket().stream_unary(method, request_serializer, response_deserializer)

    def stream_stream(
        self,
        method: str,
        request_serializer: Callable[[Request], bytes] | None = None,
        response_deserializer: Callable[[bytes], Response] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.StreamStreamMultiCallable[Request, Response]:
        return self._by_socket().stream_stream(method, request_serializer, response_deserializer)

    async def close(self, grace: float | None = None) -> None:
        self._closed = True
        if self._socket is not None:
            await self._socket.close(grace)
        tasks = [each.task for each in self._open]
        if tasks and grace:
            await asyncio.wait(tasks, timeout=grace)
        for each in tuple(self._open):
            each.break_off(Status(grpc.StatusCode.CANCELLED, "Channel is closed.", locally=True))

    def get_state(self, try_to_connect: bool = False) -> State:
        return State.SHUTDOWN if self._closed else self._in_process.state(self._address)

    async def wait_for_state_change(self, last_observed_state: State) -> None:
        while self.get_state() == last_observed_state:
            await self._in_process.change()

    async def channel_ready(self) -> None:
        await self._in_process.reach(self._address, wait_for_ready=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _serve(self, exchange: Exchange, request: bytes, wait_for_ready: bool) -> None:
        server = await self._in_process.reach(self._address, wait_for_ready=wait_for_ready)
        if server is None:
            exchange.end(Status(grpc.StatusCode.UNAVAILABLE, f"{self._address}: the server has stopped"))
        else:
            await server.serve(exchange, request)

    def _by_socket(self) -> grpc.aio.Channel:
        if self._socket is None:
            self._socket = self._open_socket()
        return self._socket
