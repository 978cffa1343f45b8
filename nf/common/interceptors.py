"""What surrounds every call that a server serves: correlation ID, deadline, log, metrics, error mapping.

One interceptor wraps the handler once. A call that may change something runs in a task of its own: a client that hangs
up or whose deadline passes does not stop it half-way; ``Calls.finish`` waits for such calls at the end.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import TypeAlias, TypeVar, cast

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import MethodDescriptorProto, MethodOptions
from google.protobuf.message import Message

from nf.common import call
from nf.common.calls import Calls
from nf.common.errors import CastcoreError, Internal, Unimplemented
from nf.common.rpc_status import to_grpc
from nf.common.telemetry import Telemetry, logger

T = TypeVar("T")
Request = TypeVar("Request")
Response = TypeVar("Response")
Context: TypeAlias = "grpc.aio.ServicerContext[Message, Message]"
# What a servicer's method is to gRPC: (request or requests, context) → answer, awaitable or stream.
Behaviour: TypeAlias = Callable[[object, Context], object]
Handler: TypeAlias = "grpc.RpcMethodHandler[Message, Message]"

_QUIET = MethodOptions.NO_SIDE_EFFECTS


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


class Interceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler of a function's server."""

    def __init__(self, function: str, telemetry: Telemetry, calls: Calls, stopping: asyncio.Event) -> None:
        self._function = function
        self._telemetry = telemetry
        self._calls = calls
        self._stopping = stopping
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Request, Response] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Request, Response] | None:
        """The method's handler, wrapped; None, as gRPC wants it, for a method that nobody serves."""
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            wrapped = self._wrapped[method] = self._wrap(cast(Handler, handler), method)
        return cast("grpc.RpcMethodHandler[Request, Response]", wrapped)

    def _wrap(self, handler: Handler, method: str) -> Handler:
        behaviour = cast(
            Behaviour, handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        )
        quiet = idempotency_of(method) == _QUIET
        if handler.response_streaming:
            wrapped = self._stream(behaviour, method, quiet)
        else:
            detach = not quiet and not handler.request_streaming
            wrapped = self._unary(behaviour, method, quiet, detach)
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

    def _unary(self, behaviour: Behaviour, method: str, quiet: bool, detach: bool) -> Behaviour:
        async def serve(request: object, context: Context) -> object:
            async with self._around(method, context, quiet):
                answer = behaviour(request, context)
                if not inspect.isawaitable(answer):
                    return answer
                if detach:
                    return await self._calls.detached(answer, method, self._function)
                return await answer

        return serve

    def _stream(self, behaviour: Behaviour, method: str, quiet: bool) -> Behaviour:
        messages = self._telemetry.server_messages.labels(self._function, method)

        async def serve(request: object, context: Context) -> AsyncIterator[object]:
            async with self._around(method, context, quiet):
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
            async with self._around(method, context, quiet):
                await cast(Awaitable[None], behaviour(request, context))

        return serve_writing if inspect.iscoroutinefunction(behaviour) else serve

    @asynccontextmanager
    async def _around(self, method: str, context: Context, quiet: bool) -> AsyncIterator[None]:
        correlation_id = call.adopt_correlation_id(_received(context, call.CORRELATION_KEY))
        call.adopt_deadline(cast("float | None", context.time_remaining()))
        call.adopt_stopping(self._stopping)
        log, telemetry = logger(self._function), self._telemetry
        open_calls = telemetry.server_open.labels(self._function, method)
        open_calls.inc()
        begun = time.perf_counter()
        code = "OK"
        try:
            await context.send_initial_metadata(((call.CORRELATION_KEY, correlation_id),))
            yield
        except CastcoreError as error:
            code = error.code
            log.info("rpc.refused", method=method, code=code, reason=error.reason, cause=error.cause, error=str(error))
            await context.abort_with_status(to_grpc(error))
        except grpc.aio.AbortError:
            code = _code_of(context)
            raise
        except (asyncio.CancelledError, GeneratorExit):
            code = "DEADLINE_EXCEEDED" if call.remaining_s() == 0 else "CANCELLED"
            raise
        except NotImplementedError:
            code = "UNIMPLEMENTED"
            await context.abort_with_status(to_grpc(Unimplemented(f"{method} is not offered here")))
        except Exception:
            code = "INTERNAL"
            log.exception("rpc.failed", method=method)
            told = Internal(
                f"internal error; the log knows more under correlation id {correlation_id}",
                metadata={"correlation_id": correlation_id},
            )
            await context.abort_with_status(to_grpc(told))
        finally:
            elapsed_s = time.perf_counter() - begun
            open_calls.dec()
            telemetry.server_calls.labels(self._function, method, code).inc()
            telemetry.server_latency_s.labels(self._function, method).observe(elapsed_s)
            tell = log.debug if quiet else log.info
            tell("rpc", method=method, code=code, elapsed_ms=round(elapsed_s * 1000, 3))


def _received(context: Context, key: str) -> str:
    for name, value in context.invocation_metadata() or ():
        if name == key and isinstance(value, str):
            return value
    return ""


def _code_of(context: Context) -> str:
    code: object = context.code()
    if isinstance(code, grpc.StatusCode):
        return code.name
    return next((each.name for each in grpc.StatusCode if each.value[0] == code), "UNKNOWN")
