"""Channels to the other functions: deadlines, correlation IDs, retries, and errors as CastcoreError.

Calls that the contract marks NO_SIDE_EFFECTS or IDEMPOTENT are tried up to four times while the peer is unavailable.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from typing import Final, Generic, Self, TypeAlias, TypeVar, cast

import grpc
from google.protobuf.descriptor_pb2 import MethodOptions
from prometheus_client import Counter

from nf.common import call
from nf.common.errors import CastcoreError, DeadlineExceeded, InvalidArgument, Unavailable
from nf.common.interceptors import idempotency_of
from nf.common.rpc_status import from_rpc_error
from nf.common.telemetry import Telemetry
from nf.common.tls import Credentials

Request = TypeVar("Request")
Response = TypeVar("Response")
Serializer: TypeAlias = Callable[[Request], bytes]
Deserializer: TypeAlias = Callable[[bytes], Response]

DEFAULT_DEADLINE_S: Final = 5.0
MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
ATTEMPTS: Final = 4
_FIRST_BACKOFF_S: Final = 0.05
_REPEATABLE: Final = (MethodOptions.NO_SIDE_EFFECTS, MethodOptions.IDEMPOTENT)

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A peer that starts again is found again within the retries of a call.
    ("grpc.initial_reconnect_backoff_ms", 50),
    # Also how long a connection may take to come about: a peer that has just started may be slow.
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # Retries are decided here, by the contract.
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
)


class _Outgoing:
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

    def metadata(self, given: Iterable[tuple[str, str | bytes]] | None) -> grpc.aio.Metadata:
        """What the call has been given, and the correlation ID in force and the token unless they are among it."""
        metadata, keys = grpc.aio.Metadata(), frozenset[str]()
        if given is not None:
            metadata = grpc.aio.Metadata(*given)
            keys = frozenset(key for key, _ in metadata)
        if call.CORRELATION_KEY not in keys and (correlation_id := call.correlation_id()):
            metadata.add(call.CORRELATION_KEY, correlation_id)
        if self._token and call.AUTHORIZATION_KEY not in keys:
            metadata.add(call.AUTHORIZATION_KEY, f"Bearer {self._token}")
        return metadata

    def details(self, given: grpc.aio.ClientCallDetails, deadline: float | None) -> grpc.aio.ClientCallDetails:
        """The call's details with what is left of the deadline, and the correlation ID in force."""
        return grpc.aio.ClientCallDetails(
            given.method, _left_s(deadline), self.metadata(given.metadata), given.credentials, given.wait_for_ready
        )

    def measured(self, method: str) -> _Measured:
        """Where the attempts of a method are counted."""
        return _Measured(self._telemetry, self._function, self.peer, method)

    def translate(self, error: grpc.aio.AioRpcError) -> CastcoreError:
        """The peer's error as ours."""
        return from_rpc_error(error, peer=self.peer)


class _Measured:
    """The metrics of one method; those of its successes are looked up once."""

    def __init__(self, telemetry: Telemetry, function: str, peer: str, method: str) -> None:
        self._calls = telemetry.client_calls
        self._labels = function, peer, method
        self._latency_s = telemetry.client_latency_s.labels(*self._labels)
        self._succeeded: Counter | None = None

    def observe(self, code: str, begun: float, *, latency: bool = True) -> None:
        """Counts one attempt."""
        if code != "OK":
            self._calls.labels(*self._labels, code).inc()
        else:
            if self._succeeded is None:
                self._succeeded = self._calls.labels(*self._labels, code)
            self._succeeded.inc()
        if latency:
            self._latency_s.observe(time.perf_counter() - begun)


class _UnaryUnary(Generic[Request, Response]):
    """One method of a peer. An interceptor of the library's would cost another task and another call object."""

    def __init__(
        self, outgoing: _Outgoing, method: str, plain: grpc.aio.UnaryUnaryMultiCallable[Request, Response]
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


class _UnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, outgoing: _Outgoing) -> None:
        self._outgoing = outgoing

    async def intercept_unary_stream(
        self,
        continuation: Callable[
            [grpc.aio.ClientCallDetails, Request], Awaitable[grpc.aio.UnaryStreamCall[Request, Response]]
        ],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Request,
    ) -> AsyncIterator[Response] | grpc.aio.UnaryStreamCall[Request, Response]:
        deadline = self._outgoing.deadline(client_call_details.timeout, endless=True)
        made = await continuation(self._outgoing.details(client_call_details, deadline), request)
        return self._responses(made, _text(client_call_details.method))

    async def _responses(
        self, made: grpc.aio.UnaryStreamCall[Request, Response], method: str
    ) -> AsyncIterator[Response]:
        code = "CANCELLED"
        try:
            async for response in made:
                yield response
            code = "OK"
        except grpc.aio.AioRpcError as error:
            code = error.code().name
            raise self._outgoing.translate(error) from error
        finally:
            made.cancel()
            self._outgoing.measured(method).observe(code, 0.0, latency=False)


class _StreamUnary(grpc.aio.StreamUnaryClientInterceptor):
    def __init__(self, outgoing: _Outgoing) -> None:
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


class _Channel(grpc.aio.Channel):
    """A channel whose calls are made as this module says. Methods are made ready once, however many stubs there are."""

    def __init__(self, plain: grpc.aio.Channel, outgoing: _Outgoing) -> None:
        self._plain = plain
        self._outgoing = outgoing
        self._methods: dict[str, object] = {}

    def unary_unary(
        self,
        method: str,
        request_serializer: Serializer[Request] | None = None,
        response_deserializer: Deserializer[Response] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.UnaryUnaryMultiCallable[Request, Response]:
        known = self._methods.get(method)
        if known is None:
            plain = self._plain.unary_unary(method, request_serializer, response_deserializer)
            known = self._methods[method] = _UnaryUnary(self._outgoing, method, plain)
        return cast("grpc.aio.UnaryUnaryMultiCallable[Request, Response]", known)

    def unary_stream(
        self,
        method: str,
        request_serializer: Serializer[Request] | None = None,
        response_deserializer: Deserializer[Response] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.UnaryStreamMultiCallable[Request, Response]:
        known = self._methods.get(method)
        if known is None:
            known = self._plain.unary_stream(method, request_serializer, response_deserializer)
            self._methods[method] = known
        return cast("grpc.aio.UnaryStreamMultiCallable[Request, Response]", known)

    def stream_unary(
        self,
        method: str,
        request_serializer: Serializer[Request] | None = None,
        response_deserializer: Deserializer[Response] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.StreamUnaryMultiCallable[Request, Response]:
        known = self._methods.get(method)
        if known is None:
            known = self._plain.stream_unary(method, request_serializer, response_deserializer)
            self._methods[method] = known
        return cast("grpc.aio.StreamUnaryMultiCallable[Request, Response]", known)

    def stream_stream(
        self,
        method: str,
        request_serializer: Serializer[Request] | None = None,
        response_deserializer: Deserializer[Response] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.StreamStreamMultiCallable[Request, Response]:
        return self._plain.stream_stream(method, request_serializer, response_deserializer)

    async def close(self, grace: float | None = None) -> None:
        await self._plain.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._plain.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._plain.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._plain.channel_ready()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class Channels:
    """The channels of one function, by the name of the peer ("pcf"); made when first asked for.

    Unary calls have ``deadline_s`` unless they name their own, and never more than is left of the request being served
    (``nf.common.call``). Every failure is raised as CastcoreError. With ``tls`` both ends show certificates; ``plain``
    are the peers that speak in clear text all the same. ``token`` is shown with every call (RFC 6750).
    """

    def __init__(
        self,
        targets: Mapping[str, str],
        *,
        function: str = "client",
        deadline_s: float = DEFAULT_DEADLINE_S,
        telemetry: Telemetry | None = None,
        tls: Credentials | None = None,
        plain: Collection[str] = (),
        token: str = "",
    ) -> None:
        self._targets = targets
        self._token = token
        self._tls = tls
        self._plain = plain
        self._function = function
        self._deadline_s = deadline_s
        self._telemetry = telemetry if telemetry is not None else Telemetry()
        self._channels: dict[str, grpc.aio.Channel] = {}

    def get(self, peer: str) -> grpc.aio.Channel:
        """The channel to ``peer``. Raises InvalidArgument for a peer that has no address."""
        channel = self._channels.get(peer)
        if channel is None:
            channel = self._channels[peer] = self._open(peer)
        return channel

    async def close(self) -> None:
        """Closes every channel; calls that are under way are cancelled."""
        channels = list(self._channels.values())
        self._channels.clear()
        for channel in channels:
            await channel.close()

    def _open(self, peer: str) -> grpc.aio.Channel:
        target = self._targets.get(peer)
        if target is None:
            known = ", ".join(sorted(self._targets)) or "none"
            raise InvalidArgument(f"peer {peer!r} has no address (known: {known})")
        outgoing = _Outgoing(self._function, peer, self._deadline_s, self._telemetry, self._token)
        interceptors = [_UnaryStream(outgoing), _StreamUnary(outgoing)]
        if self._tls is None or peer in self._plain:
            plain = grpc.aio.insecure_channel(target, options=_OPTIONS, interceptors=interceptors)
        else:
            plain = grpc.aio.secure_channel(target, self._tls.channel, options=_OPTIONS, interceptors=interceptors)
        return _Channel(plain, outgoing)


def _left_s(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.001, deadline - time.monotonic())


def _text(method: str | bytes) -> str:
    return method.decode() if isinstance(method, bytes) else method
