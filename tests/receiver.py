"""A subscriber to callbacks: a real HTTP server that keeps what it is sent, and answers as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nf.common.http import HttpServer, application
from nf.common.telemetry import Telemetry
from nf.common.tls import Credentials

PATIENCE_S = 30.0


@dataclass
class Receiver:
    """``answers`` are the statuses of the next requests, then 204; ``hold`` keeps answers back while it is clear.

    ``sequence`` finds the number of an event in a request, its body and header fields. ``bodies`` are those of the
    requests that were taken, byte for byte.
    """

    answers: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    received: list[dict] = field(default_factory=list)
    attempts: list[tuple[int, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    address: str = "127.0.0.1:0"
    tls: Credentials | None = None
    sequence: Callable[[dict, Mapping[str, str]], int] = lambda body, _: int(body["event"]["sequence"])

    def __post_init__(self) -> None:
        self.hold = asyncio.Event()
        self.hold.set()
        self.url = ""
        self._changed = asyncio.Condition()
        self._server: HttpServer | None = None

    @property
    def sequences(self) -> list[int]:
        """Of the events that were taken, in the order in which they came."""
        return [each["event"]["sequence"] for each in self.received]

    async def start(self) -> str:
        """Listens, at the address of before if there was one; the URL for callbacks."""
        app = application(Telemetry(), lambda: True, [Route("/hook", self._take, methods=["POST"])])
        self._server = HttpServer(app, tls=self.tls)
        base = await self._server.start(self.address)
        self.address = base.partition("://")[2]
        self.url = f"{base}/hook"
        return self.url

    async def stop(self) -> None:
        """Nobody listens any more."""
        assert self._server is not None
        self.hold.set()
        await self._server.stop()

    async def until(self, satisfied: Callable[[Receiver], bool]) -> None:
        """Returns when a request has made it true."""
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(lambda: satisfied(self))

    async def _take(self, request: Request) -> Response:
        body = await request.json()
        status = self.answers.pop(0) if self.answers else 204
        async with self._changed:
            self.attempts.append((self.sequence(body, request.headers), request.headers["castcore-attempt"]))
            self._changed.notify_all()
        await self.hold.wait()
        if status == 204:
            async with self._changed:
                self.bodies.append(await request.body())
                self.received.append({**body, "headers": dict(request.headers)})
                self._changed.notify_all()
        return Response(status_code=status, headers=self.headers)
