"""What surrounds every call that a server serves: correlation ID, deadline, log, metrics, error mapping.

Every handler is wrapped once. A call that may change something runs in a task of its own: a client that hangs
up or whose deadline passes does not stop it half-way; ``Calls.finish`` waits for such calls at the end.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Iterable
from functools import cache
from types import CoroutineType
from typing import NamedTuple, TypeAlias, cast

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import MethodDescriptorProto, MethodOptions
from google.protobuf.message import Message

from nf.common import call
from nf.common.calls import Calls
from nf.common.errors import CastcoreError, Internal, PermissionDenied, Unimplemented
from nf.common.rpc_status import to_grpc
from nf.common.telemetry import Telemetry, logger, tells

Context: TypeAlias = "grpc.aio.ServicerContext[Message, Message]"
# What a servicer's method is to gRPC: (request or requests, context) → answer, awaitable or stream.
Behaviour: TypeAlias = Callable[[object, Context], object]
Handler: TypeAlias = "grpc.RpcMethodHandler[Message, Message]"


class PeerNotAllowed(PermissionDenied):
    """The certificate of the peer is of the authority, but its holder may not call this function."""

    reason = "PEER_NOT_ALLOWED"


@cache
def idempotency_of(method: str) -> MethodOptions.IdempotencyLevel.ValueType:
    """The idempotency level that the contract gives "/package.Service/Method"; unknown when no contract knows it."""
    service, _, name = method.lstrip("/").rpartition("/")
    try:
        descriptor = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    except KeyError:
        return MethodOptions.IDEMPOTENCY_UNKNOWN
    options = MethodOptions()
    descriptor.CopyToProto(described := MethodDescriptorProto())
    options.CopyFrom(described.options)
    return options.idempotency_level


class Services(grpc.GenericRpcHandler):
    """Everything that a function's server serves: the handlers that are added, each wrapped when it is first called.

    An interceptor of the library's would be asked anew, in a coroutine of its own, for every call.
    """

    def __init__(
        self,
        function: str,
        telemetry: Telemetry,
        calls: Calls,
        stopping: asyncio.Event,
        allowed_peers: Collection[str] = (),
    ) -> None:
        self._function = function
        self._telemetry = telemetry
        self._calls = calls
        self._stopping = stopping
        self._allowed_peers = frozenset(allowed_peers)
        self._added: list[grpc.GenericRpcHandler] = []
        self._wrapped: dict[str, Handler] = {}

    def add(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Serves these as well."""
        self._added += handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """The method's handler, wrapped; None, as gRPC wants it, for a method that nobody serves."""
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            found = (each.service(handler_call_details) for each in self._added)
            handler = next((each for each in found if each is not None), None)
            if handler is None:
                return None
            wrapped = self._wrapped[method] = self._wrap(cast(Handler, handler), method)
        return wrapped

    def _wrap(self, handler: Handler, method: str) -> Handler:
        behaviour = cast(
            Behaviour, handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        )
        around = _Around(self._function, method, self._telemetry, self._stopping)
        if handler.response_streaming:
            wrapped = self._stream(behaviour, around)
        else:
            changes = idempotency_of(method) != MethodOptions.NO_SIDE_EFFECTS
            wrapped = self._unary(behaviour, around, detach=changes and not handler.request_streaming)
        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[handler.request_streaming, handler.response_streaming]
        return cast(
            Handler,
            cast(Callable[..., object], make)(wrapped, handler.request_deserializer, handler.response_serializer),
        )

    def _admit(self, context: Context) -> None:
        """Raises PeerNotAllowed unless the certificate of the peer has one of the names that may call."""
        if not self._allowed_peers:
            return
        names = [each.decode("utf-8", "replace") for each in context.auth_context().get("x509_common_name", ())]
        if not any(name in self._allowed_peers for name in names):
            told = repr(", ".join(names)) if names else "without a certificate"
            raise PeerNotAllowed(f"the peer {told} may not call here")

    def _unary(self, behaviour: Behaviour, around: _Around, *, detach: bool) -> Behaviour:
        async def serve(request: object, context: Context) -> object:
            served = around(context)
            served.begin()
            try:
                self._admit(context)
                answer = behaviour(request, context)
                if isinstance(answer, CoroutineType) or inspect.isawaitable(answer):
                    if detach:
                        answer = self._calls.detached(answer, around.method, self._function)
                    answer = await answer
            except BaseException as error:
                await served.fail(error)
                raise
            served.end("OK")
            return answer

        return serve

    def _stream(self, behaviour: Behaviour, around: _Around) -> Behaviour:
        method = around.method
        messages = self._telemetry.server_messages.labels(self._function, method)

        async def serve(request: object, context: Context) -> AsyncIterator[object]:
            async with around(context):
                self._admit(context)
                answer = behaviour(request, context)
                if not isinstance(answer, AsyncIterator):
                    raise Internal(f"{method}: expected an asynchronous iterator, got {type(answer).__name__}")
                try:
                    async for message in answer:
                        messages.inc()
                        yield message
                finally:
                    if isinstance(answer, AsyncGenerator):
                        await answer.aclose()

        async def serve_writing(request: object, context: Context) -> None:
            async with around(context):
                self._admit(context)
                await cast(Awaitable[None], behaviour(request, context))

        return serve_writing if inspect.iscoroutinefunction(behaviour) else serve


class _Status(NamedTuple):
    """A grpc.Status with metadata of its own."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]


class _Around:
    """What surrounds the calls of one method; what does not change from call to call is looked up once."""

    def __init__(self, function: str, method: str, telemetry: Telemetry, stopping: asyncio.Event) -> None:
        self.function = function
        self.method = method
        self.stopping = stopping
        self.server_calls = telemetry.server_calls
        self.open_calls = telemetry.server_open.labels(function, method)
        self.latency_s = telemetry.server_latency_s.labels(function, method)
        self.served = telemetry.server_calls.labels(function, method, "OK")

    def __call__(self, context: Context) -> _Call:
        return _Call(self, context)


class _Call:
    """What surrounds one call."""

    __slots__ = ("_around", "_begun", "_context")

    def __init__(self, around: _Around, context: Context) -> None:
        self._around = around
        self._context = context
        self._begun = 0.0

    async def __aenter__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """What comes before the handler."""
        context, around = self._context, self._around
        correlation_id = call.adopt_correlation_id(_received(context, call.CORRELATION_KEY))
        call.adopt_deadline(cast("float | None", context.time_remaining()))
        call.adopt_stopping(around.stopping)
        around.open_calls.inc()
        self._begun = time.perf_counter()
        # It goes with the answer: metadata of its own before that would be one more message.
        context.set_trailing_metadata(((call.CORRELATION_KEY, correlation_id),))

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None:
            self.end("OK")
        else:
            await self.fail(error)

    async def fail(self, error: BaseException) -> None:
        """What comes after a handler that has raised."""
        code = self._code(error)
        try:
            await self._answer(error)
        finally:
            self.end(code)

    def end(self, code: str) -> None:
        """Counts the call, once the handler has ended."""
        around = self._around
        elapsed_s = time.perf_counter() - self._begun
        around.open_calls.dec()
        around.latency_s.observe(elapsed_s)
        if code == "OK":
            around.served.inc()
        else:
            around.server_calls.labels(around.function, around.method, code).inc()
        if tells("debug"):
            told = logger(around.function)
            told.debug("rpc", method=around.method, code=code, elapsed_ms=round(elapsed_s * 1000, 3))

    def _code(self, error: BaseException) -> str:
        if isinstance(error, CastcoreError):
            return error.code
        if isinstance(error, grpc.aio.AbortError):
            return _code_of(self._context)
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            return "DEADLINE_EXCEEDED" if call.remaining_s() == 0 else "CANCELLED"
        return "UNIMPLEMENTED" if isinstance(error, NotImplementedError) else "INTERNAL"

    async def _answer(self, error: BaseException) -> None:
        """Has the client told what it can be told; what gRPC has ended by itself goes on as it is."""
        log, method = logger(self._around.function), self._around.method
        if isinstance(error, CastcoreError):
            log.info(
                "rpc.refused", method=method, code=error.code, reason=error.reason, cause=error.cause, error=str(error)
            )
            await self._abort(error)
        elif isinstance(error, NotImplementedError):
            await self._abort(Unimplemented(f"{method} is not offered here"))
        elif isinstance(error, Exception) and not isinstance(error, grpc.aio.AbortError):
            log.error("rpc.failed", method=method, exc_info=error)
            correlation_id = call.correlation_id()
            told = Internal(
                f"internal error; the log knows more under correlation id {correlation_id}",
                metadata={"correlation_id": correlation_id},
            )
            await self._abort(told)

    async def _abort(self, error: CastcoreError) -> None:
        status = to_grpc(error)
        metadata = (*(status.trailing_metadata or ()), (call.CORRELATION_KEY, call.correlation_id()))
        await self._context.abort_with_status(cast(grpc.Status, _Status(status.code, status.details, metadata)))


def _received(context: Context, key: str) -> str:
    metadata = context.invocation_metadata()
    if metadata is not None:
        for name, value in metadata:
            if name == key and isinstance(value, str):
                return value
    return ""


def _code_of(context: Context) -> str:
    code: object = context.code()
    if isinstance(code, grpc.StatusCode):
        return code.name
    return next((each.name for each in grpc.StatusCode if each.value[0] == code), "UNKNOWN")
