"""Channels to the other functions: over sockets, with or without TLS, or within the process; the calls are the same."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final, Self, TypeAlias, TypeVar, cast

import grpc

from nf.common.errors import InvalidArgument
from nf.common.in_process import InProcess
from nf.common.outgoing_calls import Outgoing, StreamUnary, UnaryStream, UnaryUnary
from nf.common.telemetry import Telemetry
from nf.common.tls import Credentials

Request = TypeVar("Request")
Response = TypeVar("Response")
Stub = TypeVar("Stub")
Serializer: TypeAlias = Callable[[Request], bytes]
Deserializer: TypeAlias = Callable[[bytes], Response]

DEFAULT_DEADLINE_S: Final = 5.0
MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024

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


class _Channel(grpc.aio.Channel):
    """A channel whose calls are made as this module says. Methods are made ready once, however many stubs there are."""

    def __init__(self, plain: grpc.aio.Channel, outgoing: Outgoing) -> None:
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
            known = self._methods[method] = UnaryUnary(self._outgoing, method, plain)
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
            plain = self._plain.unary_stream(method, request_serializer, response_deserializer)
            known = self._methods[method] = UnaryStream(self._outgoing, method, plain)
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
    are the peers that speak in clear text all the same. ``token`` is shown with every call (RFC 6750). Calls that would
    go in clear text to one of the servers ``in_process`` go there without a socket.
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
        in_process: InProcess | None = None,
    ) -> None:
        self._targets = targets
        self._in_process = in_process
        self._token = token
        self._tls = tls
        self._plain = plain
        self._function = function
        self._deadline_s = deadline_s
        self._telemetry = telemetry if telemetry is not None else Telemetry()
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._stubs: dict[tuple[str, Callable[..., object]], object] = {}

    def get(self, peer: str) -> grpc.aio.Channel:
        """The channel to ``peer``. Raises InvalidArgument for a peer that has no address."""
        channel = self._channels.get(peer)
        if channel is None:
            channel = self._channels[peer] = self._open(peer)
        return channel

    def stub(self, peer: str, make: Callable[[grpc.aio.Channel], Stub]) -> Stub:
        """The stub of that type for ``peer``, made once: it looks each of its methods up. Raises as ``get`` does."""
        stub = self._stubs.get((peer, make))
        if stub is None:
            stub = self._stubs[peer, make] = make(self.get(peer))
        return cast(Stub, stub)

    async def close(self) -> None:
        """Closes every channel; calls that are under way are cancelled."""
        channels = list(self._channels.values())
        self._channels.clear()
        self._stubs.clear()
        for channel in channels:
            await channel.close()

    def _open(self, peer: str) -> grpc.aio.Channel:
        target = self._targets.get(peer)
        if target is None:
            known = ", ".join(sorted(self._targets)) or "none"
            raise InvalidArgument(f"peer {peer!r} has no address (known: {known})")
        outgoing = Outgoing(self._function, peer, self._deadline_s, self._telemetry, self._token)
        interceptors = [StreamUnary(outgoing)]
        if self._tls is not None and peer not in self._plain:
            tls = self._tls.channel
            return _Channel(grpc.aio.secure_channel(target, tls, options=_OPTIONS, interceptors=interceptors), outgoing)

        def socket() -> grpc.aio.Channel:
            return grpc.aio.insecure_channel(target, options=_OPTIONS, interceptors=interceptors)

        if self._in_process is None or target not in self._in_process:
            return _Channel(socket(), outgoing)
        return _Channel(self._in_process.channel(target, MAX_MESSAGE_BYTES, socket), outgoing)
