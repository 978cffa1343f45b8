"""Calls to a peer: deadlines, correlation IDs, tokens, metrics, retries, and errors as CastcoreError.

Calls that the contract marks NO_SIDE_EFFECTS or IDEMPOTENT are tried up to four times while the peer is unavailable.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import Final, Generic, TypeVar

import grpc
from google.protobuf.descriptor_pb2 import MethodOptions
from prometheus_client import Counter, Histogram

from nf.common import call
from nf.common.errors import CastcoreError, DeadlineExceeded, Unavailable
from nf.common.interceptors import idempotency_of
from nf.common.rpc_status import from_rpc_error
from nf.common.telemetry import Telemetry

Request = TypeVar("Request")
Response = TypeVar("Response")

ATTEMPTS: Final = 4
_FIRST_BACKOFF_S: Final = 0.05
_REPEATABLE: Final = (MethodOptions.NO_SIDE_EFFECTS, MethodOptions.IDEMPOTENT)


class Outgoing:
    """What the calls of one channel share."""

    def __init__(self, function: str, peer: str, deadline_s: float, telemetry: Telemetry, token: str) -> None:
        self.peer = peer
        self._token = token
        self._function = function
        self._deadline_s = deadline_s
        self._telemetry = telemetry

    def deadline(self, timeout_s: float | None, *, endless: bool) -> float | None:
        """When (monotonic) a call has to be over: as it asked or by default, within the incoming call's deadline.

        Raises DeadlineExceeded when that has passed. ``endless``: the default is none.
        """
        wanted_s = timeout_s if timeout_s is not None else None if endless else self._deadline_s
        remaining_s = None if endless else call.remaining_s()
        if remaining_s is not None:
            if remaining_s <= 0:
                raise DeadlineExceeded(f"{self.peer}: not called, the deadline of the request has passed")
            wanted_s = remaining_s if wanted_s is None else min(wanted_s, remaining_s)
        return None if wanted_s is None else time.monotonic() + wanted_s

    def metadata(self, given: Iterable[tuple[str, str | bytes]] | None) -> tuple[tuple[str, str | bytes], ...]:
        """What the call has been given, and the correlation ID in force and the token unless they are among it."""
        metadata = () if given is None else tuple(given)
        keys = [key for key, _ in metadata]
        if call.CORRELATION_KEY not in keys and (correlation_id := call.correlation_id()):
            metadata += ((call.CORRELATION_KEY, correlation_id),)
        if self._token and call.AUTHORIZATION_KEY not in keys:
            metadata += ((call.AUTHORIZATION_KEY, f"Bearer {self._token}"),)
        return metadata

    def details(self, given: grpc.aio.ClientCallDetails, deadline: float | None) -> grpc.aio.ClientCallDetails:
        """The call's details with what is left of the deadline, and the correlation ID in force."""
        metadata = grpc.aio.Metadata(*self.metadata(given.metadata))
        return grpc.aio.ClientCallDetails(
            given.method, _left_s(deadline), metadata, given.credentials, given.wait_for_ready
        )

    def measured(self, method: str) -> _Measured:
        """Where the attempts of a method are counted."""
        return _Measured(self._telemetry, self._function, self.peer, method)

    def translate(self, error: grpc.aio.AioRpcError) -> CastcoreError:
        """The peer's error as ours."""
        return from_rpc_error(error, peer=self.peer)


class _Measured:
    """The metrics of one method: there from its first call on, and looked up once."""

    def __init__(self, telemetry: Telemetry, function: str, peer: str, method: str) -> None:
        self._telemetry = telemetry
        self._labels = function, peer, method
        self._latency_s: Histogram | None = None
        self._succeeded: Counter | None = None

    def observe(self, code: str, begun: float, *, latency: bool = True) -> None:
        """Counts one attempt."""
        if code != "OK":
            self._telemetry.client_calls.labels(*self._labels, code).inc()
        else:
            if self._succeeded is None:
                self._succeeded = self._telemetry.client_calls.labels(*self._labels, code)
            self._succeeded.inc()
        if latency:
            if self._latency_s is None:
                self._latency_s = self._telemetry.client_latency_s.labels(*self._labels)
            self._latency_s.observe(time.perf_counter() - begun)


class UnaryUnary(Generic[Request, Response]):
    """One method of a peer. An interceptor of the library's would cost another task and another call object."""

    def __init__(
        self, outgoing: Outgoing, method: str, plain: grpc.aio.UnaryUnaryMultiCallable[Request, Response]
    ) -> None:
        self._outgoing = outgoing
        self._plain = plain
        self._measured = outgoing.measured(method)
        self._method = method
        self._attempts: int | None = None

    async def __call__(
        self,
        request: Request,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 (the generated stubs call it so)
        metadata: Iterable[tuple[str, str | bytes]] | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Response:
        """The answer. Raises CastcoreError."""
        outgoing = self._outgoing
        deadline = outgoing.deadline(timeout, endless=False)
        if self._attempts is None:
            self._attempts = ATTEMPTS if idempotency_of(self._method) in _REPEATABLE else 1
        for attempt in range(1, self._attempts + 1):
            begun = time.perf_counter()
            try:
                answer = await self._plain(
                    request,
                    timeout=_left_s(deadline),
                    metadata=outgoing.metadata(metadata),
                    credentials=credentials,
                    wait_for_ready=wait_for_ready,
                    compression=compression,
                )
            except grpc.aio.AioRpcError as error:
                self._measured.observe(error.code().name, begun)
                pause_s = _FIRST_BACKOFF_S * 2**attempt * random.uniform(0.5, 1.0)
                late = deadline is not None and time.monotonic() + pause_s >= deadline
                if error.code() is not grpc.StatusCode.UNAVAILABLE or attempt == self._attempts or late:
                    raise outgoing.translate(error) from error
            except grpc.aio.UsageError as error:
                raise Unavailable(f"{outgoing.peer}: the channel is closed") from error
            else:
                self._measured.observe("OK", begun)
                return answer
            await asyncio.sleep(pause_s)
        raise AssertionError("the last attempt returns or raises")


class UnaryStream(Generic[Request, Response]):
    """One method of a peer that answers with a stream."""

    def __init__(
        self, outgoing: Outgoing, method: str, plain: grpc.aio.UnaryStreamMultiCallable[Request, Response]
    ) -> None:
        self._outgoing = outgoing
        self._plain = plain
        self._measured = outgoing.measured(method)

    def __call__(
        self,
        request: Request,
        *,
        timeout: float | None = None,
        metadata: Iterable[tuple[str, str | bytes]] | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> _UnaryStreamCall[Request, Response]:
        """The call; reading from it raises CastcoreError."""
        outgoing = self._outgoing
        try:
            made = self._plain(
                request,
                timeout=_left_s(outgoing.deadline(timeout, endless=True)),
                metadata=outgoing.metadata(metadata),
                credentials=credentials,
                wait_for_ready=wait_for_ready,
                compression=compression,
            )
        except grpc.aio.UsageError as error:
            raise Unavailable(f"{outgoing.peer}: the channel is closed") from error
        return _UnaryStreamCall(outgoing, self._measured, made)


async def _responses(
    outgoing: Outgoing, measured: _Measured, made: grpc.aio.UnaryStreamCall[Request, Response]
) -> AsyncIterator[Response]:
    code = "CANCELLED"
    try:
        async for response in made:
            yield response
        code = "OK"
    except grpc.aio.AioRpcError as error:
        code = error.code().name
        raise outgoing.translate(error) from error
    finally:
        made.cancel()
        measured.observe(code, 0.0, latency=False)


class _UnaryStreamCall(grpc.aio.UnaryStreamCall[Request, Response]):
    """A call that is answered with a stream: counted when it has ended, its failure raised as ours."""

    def __init__(
        self, outgoing: Outgoing, measured: _Measured, plain: grpc.aio.UnaryStreamCall[Request, Response]
    ) -> None:
        self._plain = plain
        # It does not hold this object: a call that nobody holds any more ends.
        self._responses = _responses(outgoing, measured, plain)

    def __aiter__(self) -> AsyncIterator[Response]:
        return self._responses

    async def read(self) -> Response | object:
        return await anext(self._responses, grpc.aio.EOF)

    def cancel(self) -> bool:
        return self._plain.cancel()

    def cancelled(self) -> bool:
        return self._plain.cancelled()

    def done(self) -> bool:
        return self._plain.done()

    def time_remaining(self) -> float | None:
        return self._plain.time_remaining()

    def add_done_callback(self, callback: Callable[[object], None]) -> None:
        self._plain.add_done_callback(callback)

    async def initial_metadata(self) -> grpc.aio.Metadata:
        return await self._plain.initial_metadata()

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        return await self._plain.trailing_metadata()

    async def code(self) -> grpc.StatusCode:
        return await self._plain.code()

    async def details(self) -> str:
        return await self._plain.details()

    async def wait_for_connection(self) -> None:
        await self._plain.wait_for_connection()


class StreamUnary(grpc.aio.StreamUnaryClientInterceptor):
    """Methods of a peer that are asked with a stream."""

    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing

    async def intercept_stream_unary(
        self,
        continuation: Callable[
            [grpc.aio.ClientCallDetails, AsyncIterable[Request] | Iterable[Request]],
            Awaitable[grpc.aio.StreamUnaryCall[Request, Response]],
        ],
        client_call_details: grpc.aio.ClientCallDetails,
        request_iterator: AsyncIterable[Request] | Iterable[Request],
    ) -> Response | grpc.aio.StreamUnaryCall[Request, Response]:
        """The call, which has been answered. Raises CastcoreError."""
        outgoing, method = self._outgoing, _text(client_call_details.method)
        deadline = outgoing.deadline(client_call_details.timeout, endless=True)
        begun = time.perf_counter()
        try:
            made = await continuation(outgoing.details(client_call_details, deadline), request_iterator)
            await made
        except grpc.aio.AioRpcError as error:
            outgoing.measured(method).observe(error.code().name, begun)
            raise outgoing.translate(error) from error
        outgoing.measured(method).observe("OK", begun)
        return made


def _left_s(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.001, deadline - time.monotonic())


def _text(method: str | bytes) -> str:
    return method.decode() if isinstance(method, bytes) else method
