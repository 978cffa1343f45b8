"""The HTTP door of a process: Starlette on Hypercorn, HTTP/1.1 and h2c on one port; /metrics and /healthz.

Errors are told as application/problem+json (RFC 9457, TS 29.500 §5.2.7.2).
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Final, cast

from hypercorn.asyncio import serve
from hypercorn.config import Config as HypercornConfig
from hypercorn.typing import ASGIFramework
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nf.common import call
from nf.common.calls import Calls
from nf.common.errors import CastcoreError, FailedPrecondition, Internal, InvalidArgument, Unauthenticated
from nf.common.rest_errors import HttpRefusal, MethodNotAllowed, ResourceUnknown
from nf.common.telemetry import Telemetry, logger
from nf.common.tls import Credentials

_BACKLOG: Final = 100
_GRACE_S: Final = 3.0
# How much of a refused body is read all the same, and for how long.
_DRAINED_BYTES: Final = 4 * 1_048_576
_DRAINED_S: Final = 2.0
# A peer that restarts, a burst that passes: most causes are gone by then.
_RETRY_AFTER_S: Final = "1"


def problem(error: CastcoreError) -> Response:
    """The error as application/problem+json, with what was refused as invalidParams."""
    body: dict[str, object] = {
        "title": error.reason.replace("_", " ").capitalize(),
        "status": error.http_status,
        "detail": error.message,
    }
    if error.cause:
        body["cause"] = error.cause
    if error.violations:
        body["invalidParams"] = [{"param": each.field, "reason": each.description} for each in error.violations]
    return Response(
        json.dumps(body), status_code=error.http_status, headers=told_by(error), media_type="application/problem+json"
    )


def told_by(error: CastcoreError) -> dict[str, str]:
    """The header fields that an error brings with it, whatever its body looks like."""
    headers = {"cache-control": "no-store"}
    if isinstance(error, Unauthenticated):
        headers["www-authenticate"] = error.challenge
    elif isinstance(error, HttpRefusal):
        headers.update(error.headers)
    elif error.http_status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        headers["retry-after"] = _RETRY_AFTER_S
    return headers


class _RequestBody:
    """The body of a request. What an answer leaves unread of it is thrown away before the answer is sent.

    A client that still sends would else find its connection gone, and over HTTP/2 all its other requests with it.
    """

    def __init__(self, scope: Scope, headers: Headers, receive: Receive) -> None:
        self._receive = receive
        length = headers.get("content-length", "")
        known = length.isdecimal() and len(length) < 10
        # Nothing of what is announced beyond that is waited for: the connection is lost then.
        self._left_bytes = 0 if known and int(length) > _DRAINED_BYTES else _DRAINED_BYTES
        may_have = scope["http_version"] != "1.1" or "transfer-encoding" in headers or (length and length != "0")
        self._ended = not may_have

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._ended = True
        return message

    async def drain(self) -> None:
        if self._ended or not self._left_bytes:
            return
        try:
            async with asyncio.timeout(_DRAINED_S):
                while not self._ended and self._left_bytes > 0:
                    self._left_bytes -= len((await self.receive()).get("body", b""))
        except TimeoutError:
            return


class _Surroundings:
    """What surrounds every request: the correlation ID, taken or made and given back, and the answer to a fault."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        correlation_id = call.adopt_correlation_id(headers.get(call.CORRELATION_KEY, ""))
        begun = False
        request = _RequestBody(scope, headers, receive)

        async def send_with_id(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                await request.drain()
                # A door may know the request by another name.
                MutableHeaders(scope=message)[call.CORRELATION_KEY] = call.correlation_id() or correlation_id
            await send(message)

        try:
            await self._app(scope, request.receive, send_with_id)
        except Exception:
            logger("http").exception("http.failed", path=scope["path"])
            if begun:
                raise
            told = Internal(f"internal error; the log knows more under correlation id {correlation_id}")
            await problem(told)(scope, request.receive, send_with_id)


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND:
        return problem(ResourceUnknown(f"{request.url.path}: nothing is here"))
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return problem(MethodNotAllowed(request.method, (error.headers or {}).get("Allow", "other methods")))
    raise error


async def _castcore_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, CastcoreError):
        raise error
    return problem(error)


def application(telemetry: Telemetry, healthy: Callable[[], bool], routes: Sequence[BaseRoute] = ()) -> Starlette:
    """The ASGI application: /metrics, /healthz (200 or 503), and the functions' ``routes``."""

    async def metrics(_: Request) -> Response:
        body, content_type = telemetry.exposition()
        return Response(body, headers={"content-type": content_type})

    async def healthz(_: Request) -> Response:
        serving = healthy()
        return Response("serving\n" if serving else "not serving\n", 200 if serving else 503, media_type="text/plain")

    async def openapi(request: Request) -> Response:
        # Here: the doors stand on this module.
        from nf.common.openapi import document
        from nf.common.rest import Door

        doors = [each for each in request.app.router.routes if isinstance(each, Door)]
        return Response(
            json.dumps(document(doors)), headers={"cache-control": "max-age=60"}, media_type="application/json"
        )

    app = Starlette(
        routes=[Route("/metrics", metrics), Route("/healthz", healthz), Route("/openapi.json", openapi), *routes],
        exception_handlers={CastcoreError: _castcore_error, HTTPException: _http_exception},
        middleware=[Middleware(_Surroundings)],
    )
    # A slash at the end is tolerated or not by each door, never answered by a redirection.
    app.router.redirect_slashes = False
    app.state.telemetry = telemetry
    app.state.calls = Calls()
    app.state.stopping = asyncio.Event()
    return app


class HttpServer:
    """Serves an application; ``start(address)`` returns the URL, ``stop`` lets requests finish.

    With ``tls`` it speaks https (ALPN h2 and http/1.1). A certificate that a client shows has to be of the same
    authority; ``client_certificates`` says whether it has to show one.
    """

    def __init__(
        self,
        app: Starlette,
        *,
        tls: Credentials | None = None,
        client_certificates: ssl.VerifyMode = ssl.CERT_OPTIONAL,
    ) -> None:
        self._app = app
        self._tls = tls
        self._client_certificates = client_certificates
        self._stop: asyncio.Event = app.state.stopping
        self._task: asyncio.Task[None] | None = None

    async def start(self, address: str) -> str:
        """Takes the port ("127.0.0.1:0": a free one) and begins to answer.

        Raises InvalidArgument for an address that is none, FailedPrecondition when it cannot be taken.
        """
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            raise InvalidArgument(f"http address: expected 'HOST:PORT', got {address!r}")
        bound = _bind(host.strip("[]"), int(port))
        config = HypercornConfig()
        config.accesslog = None
        config.errorlog = None
        config.graceful_timeout = _GRACE_S
        # The socket is ours, so that the address is known and taken before anything runs.
        port = bound.getsockname()[1]
        config.bind = [f"fd://{bound.detach()}"]
        if self._tls is not None:
            config.certfile, config.keyfile = str(self._tls.certificate_file), str(self._tls.key_file)
            config.ca_certs, config.verify_mode = str(self._tls.ca_file), self._client_certificates
        self._task = asyncio.create_task(self._serve(config), name="http")
        return f"{'http' if self._tls is None else 'https'}://{host}:{port}"

    async def stop(self) -> None:
        """Returns when the server has ended."""
        self._stop.set()
        if self._task is not None:
            await self._task
        await cast(Calls, self._app.state.calls).finish(_GRACE_S)

    async def _serve(self, config: HypercornConfig) -> None:
        await serve(cast(ASGIFramework, self._app), config, shutdown_trigger=self._stop.wait, mode="asgi")


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        # From here on clients can connect; they are answered when the server has started.
        bound.listen(_BACKLOG)
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        raise FailedPrecondition(f"http: cannot listen on {host}:{port}: {error.strerror}") from error
    return bound
