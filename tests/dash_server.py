"""An HTTP server for players: real sockets, resources by path, and a log of what was asked for over which of them."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Asked:
    """A request: over which connection (the client's port), for what, with which headers."""

    port: int
    path: str
    headers: dict[str, str]


Resource = bytes | Callable[[Asked], bytes]


@dataclass
class DashServer:
    """``resources`` by path: the body, or what answers with head and body together. A context manager."""

    resources: dict[str, Resource] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    before: Callable[[Asked], None] = lambda _: None
    # Ends the connection after so many answers.
    answers_per_connection: int = 1 << 30
    tls: ssl.SSLContext | None = None
    url: str = ""

    async def __aenter__(self) -> DashServer:
        self._serving: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self.tls)
        self.url = f"http{'s' if self.tls else ''}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def paths(self) -> list[str]:
        """What was asked for, in its order."""
        return [each.path for each in self.asked]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(task := asyncio.create_task(self._serve(reader, writer)))
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for _ in range(self.answers_per_connection):
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                asked = Asked(writer.get_extra_info("peername")[1], head[0].split()[1], headers)
                self.asked.append(asked)
                self.before(asked)
                writer.write(self._answer(asked))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self, asked: Asked) -> bytes:
        resource = self.resources.get(asked.path)
        if resource is None:
            return answer(b"", "404 Not Found")
        if callable(resource):
            return resource(asked)
        tag = f'"{hash(resource) & 0xFFFF:x}"'
        if asked.headers.get("if-none-match") == tag:
            return answer(b"", "304 Not Modified", f"ETag: {tag}")
        wanted = re.fullmatch(r"bytes=([0-9]+)-([0-9]*)", asked.headers.get("range", ""))
        if wanted is not None:
            last = int(wanted[2]) if wanted[2] else len(resource) - 1
            return answer(resource[int(wanted[1]) : last + 1], "206 Partial Content")
        return answer(resource, "200 OK", f"ETag: {tag}")


def answer(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """An answer with its length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
