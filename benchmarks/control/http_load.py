"""HTTP/1.1 load over kept connections, one request at a time on each, with as little of a client as there can be."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

_END_OF_HEAD = b"\r\n\r\n"


@dataclass(frozen=True)
class Outcome:
    """What came of the requests: how long all took, how many answers of each status, and the last body."""

    elapsed_s: float
    statuses: Counter[int]
    body: bytes


def get(url: str) -> bytes:
    """A request as it goes over the wire."""
    return _head("GET", url) + b"\r\n"


def post(url: str, body: bytes) -> bytes:
    """A request with a JSON body as it goes over the wire."""
    described = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return _head("POST", url) + described.encode() + body


def _head(method: str, url: str) -> bytes:
    parts = urlsplit(url)
    return f"{method} {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\naccept: application/json\r\n".encode()


async def drive(url: str, requests: Sequence[bytes], connections: int) -> Outcome:
    """Sends every request once, over so many connections, the next when the one before is answered."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    loop = asyncio.get_running_loop()
    work, statuses, bodies = iter(requests), Counter[int](), [b""]
    lines = [_Connection(loop.create_future(), work, statuses, bodies) for _ in range(connections)]

    async def run(line: _Connection) -> None:
        # A server closes a connection after so many requests.
        while not line.done.done():
            line.closed = loop.create_future()
            await loop.create_connection(lambda: line, parts.hostname, parts.port)
            await asyncio.wait((line.done, line.closed), return_when=asyncio.FIRST_COMPLETED)
        line.done.result()

    begun = time.perf_counter()
    await asyncio.gather(*(run(line) for line in lines))
    elapsed_s = time.perf_counter() - begun
    for line in lines:
        line.transport.close()
    return Outcome(elapsed_s, statuses, bodies[0])


class _Connection(asyncio.Protocol):
    """Sends the next request as soon as the answer to the one before is whole."""

    transport: asyncio.Transport
    closed: asyncio.Future[None]

    def __init__(
        self, done: asyncio.Future[None], work: Iterator[bytes], statuses: Counter[int], bodies: list[bytes]
    ) -> None:
        self.done = done
        self._work, self._statuses, self._bodies = work, statuses, bodies
        self._waiting = False
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is one, and no subclass of it.
        self.transport = cast(asyncio.Transport, transport)
        self._received = b""
        self._next()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, rest = self._received.partition(_END_OF_HEAD)
        if not found:
            return
        lowered = head.lower()
        length = 0
        if b"content-length:" in lowered:
            length = int(lowered.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        if len(rest) < length:
            return
        self._statuses[int(head[9:12])] += 1
        self._bodies[0] = rest
        self._received, self._waiting = b"", False
        if b"connection: close" in lowered:
            self.transport.close()
        else:
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting and not self.done.done():
            self.done.set_exception(ConnectionError("closed before it answered"))
        if not self.closed.done():
            self.closed.set_result(None)

    def _next(self) -> None:
        request = next(self._work, None)
        if request is None:
            if not self.done.done():
                self.done.set_result(None)
            return
        self._waiting = True
        self.transport.write(request)
