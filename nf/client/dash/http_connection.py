"""HTTP/1.1 over a connection whose addresses are known, for a player that describes its flows (RFC 9112).

The Media Session Handler describes 5-tuples, so the player opens its sockets itself. GET alone, with or without TLS.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from nf.client.dash.errors import SegmentUnavailable
from nf.client.dash.pacing import Pacer
from nf.client.m7 import Connection, Endpoint
from nf.common.clock import Clock, from_ns

Opener = Callable[[str, int], Awaitable[socket.socket]]
"""Connects to (host, port): a connected, non-blocking TCP socket. Raises OSError."""

_MAX_HEAD_BYTES: Final = 65_536
_PIECE_BYTES: Final = 65_536
# What is decrypted ahead of a reader: little, since it has been taken from the network already.
_TLS_AHEAD_BYTES: Final = 8_192
# Nothing comes for so long: given up.
SILENCE_S: Final = 20.0
CONNECT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server has answered; ``body`` is empty where it was not wanted. ``busy_s``: waiting for the network."""

    status: int
    headers: dict[str, str]
    body: bytes
    body_bytes: int
    busy_s: float


async def connect(host: str, port: int, *, receive_buffer_bytes: int | None = None) -> socket.socket:
    """A connection to the first address of a host that takes it. Raises OSError."""
    loop = asyncio.get_running_loop()
    failure: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        opened = socket.socket(family, kind, protocol)
        try:
            prepare(opened, receive_buffer_bytes)
            await loop.sock_connect(opened, address)
            return opened
        except OSError as error:
            opened.close()
            failure = error
        except BaseException:
            opened.close()
            raise
    raise failure


def prepare(opened: socket.socket, receive_buffer_bytes: int | None) -> None:
    """A socket, before it is connected: what TCP may send ahead is bounded by the buffer."""
    opened.setblocking(False)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if receive_buffer_bytes is not None:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)


class HttpConnection:
    """One connection, one request at a time; ``usable`` until either end closes it."""

    def __init__(self, opened: socket.socket, host: str, origin: str, clock: Clock) -> None:
        client, server = opened.getsockname(), opened.getpeername()
        self.connection = Connection(_endpoint(client), _endpoint(server), server_name=host)
        self.usable = True
        self._origin = origin
        self._socket = opened
        self._tls: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._clock = clock
        self._received = bytearray()
        self._eof = False
        self._busy_s = 0.0

    async def secure(self, context: ssl.SSLContext, host: str) -> None:
        """TLS from here on. Raises SegmentUnavailable."""
        try:
            async with asyncio.timeout(CONNECT_S):
                self._tls = await asyncio.open_connection(
                    sock=self._socket, ssl=context, server_hostname=host, limit=_TLS_AHEAD_BYTES
                )
        except (OSError, TimeoutError) as error:
            self.close()
            raise SegmentUnavailable(f"{self._origin}: {_told(error)}") from None

    async def get(
        self,
        target: str,
        authority: str,
        *,
        headers: dict[str, str] | None = None,
        keep: bool = False,
        pacer: Callable[[], Pacer | None] = lambda: None,
    ) -> Answer:
        """The answer to a GET; with ``keep`` its body, too. Raises SegmentUnavailable when the connection fails."""
        request = [f"GET {target} HTTP/1.1", f"Host: {authority}", "User-Agent: castcore", "Accept-Encoding: identity"]
        request += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self._busy_s = 0.0
        try:
            async with asyncio.timeout(SILENCE_S):
                await self._send(("\r\n".join(request) + "\r\n\r\n").encode("ascii"))
            status, answered = await self._head(pacer)
            body, length = await self._body(status, answered, keep, pacer)
        except (OSError, TimeoutError, ValueError) as error:
            self.close()
            raise SegmentUnavailable(f"{self._origin}{target}: {_told(error)}") from None
        except BaseException:
            # The rest of an answer that nobody waits for would be taken for the next one.
            self.close()
            raise
        if answered.get("connection", "").lower() == "close":
            self.close()
        return Answer(status, answered, body, length, self._busy_s)

    def close(self) -> None:
        """Ends the connection; may be called again."""
        self.usable = False
        if self._tls is not None:
            self._tls[1].transport.abort()
        self._socket.close()

    def closed_by_peer(self) -> bool:
        """Whether the server has ended it while it was idle."""
        if not self.usable:
            return True
        if self._tls is not None:
            return self._tls[0].at_eof() or self._tls[1].is_closing()
        try:
            return not self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    async def _send(self, data: bytes) -> None:
        if self._tls is None:
            await asyncio.get_running_loop().sock_sendall(self._socket, data)
        else:
            self._tls[1].write(data)
            await self._tls[1].drain()

    async def _receive(self, most: int) -> bytes:
        if self._tls is None:
            return await asyncio.get_running_loop().sock_recv(self._socket, most)
        return await self._tls[0].read(most)

    async def _head(self, pacer: Callable[[], Pacer | None]) -> tuple[int, dict[str, str]]:
        while True:
            while (end := self._received.find(b"\r\n\r\n")) < 0:
                if len(self._received) > _MAX_HEAD_BYTES:
                    raise ValueError("found an answer whose header has no end")
                await self._more(pacer)
            lines = bytes(self._received[:end]).decode("latin-1").split("\r\n")
            del self._received[: end + 4]
            version, _, rest = lines[0].partition(" ")
            if not version.startswith("HTTP/1.") or not rest[:3].isdecimal():
                raise ValueError(f"found the answer {lines[0][:80]!r}, expected HTTP/1.1 with a status")
            status = int(rest[:3])
            pairs = (line.partition(":") for line in lines[1:])
            answered = {name.strip().lower(): value.strip() for name, _, value in pairs}
            if version == "HTTP/1.0" and "connection" not in answered:
                answered["connection"] = "close"
            # What is only on the way (100, 103) comes before the answer.
            if status >= 200:
                return status, answered

    async def _body(
        self, status: int, answered: dict[str, str], keep: bool, pacer: Callable[[], Pacer | None]
    ) -> tuple[bytes, int]:
        kept = bytearray() if keep else None
        if status in (204, 304):
            return b"", 0
        if "chunked" in answered.get("transfer-encoding", "").lower():
            length = await self._chunks(kept, pacer)
        elif "content-length" in answered:
            length = int(answered["content-length"])
            await self._take(length, kept, pacer)
        else:
            length = 0
            answered["connection"] = "close"
            while not self._eof:
                length += self._drain(len(self._received), kept)
                await self._more(pacer, may_end=True)
        return bytes(kept or b""), length

    async def _chunks(self, kept: bytearray | None, pacer: Callable[[], Pacer | None]) -> int:
        length = 0
        while True:
            size = int((await self._line(pacer)).partition(b";")[0], 16)
            if not size:
                while await self._line(pacer):
                    pass
                return length
            await self._take(size, kept, pacer)
            await self._line(pacer)
            length += size

    async def _line(self, pacer: Callable[[], Pacer | None]) -> bytes:
        while (end := self._received.find(b"\r\n")) < 0:
            if len(self._received) > _MAX_HEAD_BYTES:
                raise ValueError("found a line without end")
            await self._more(pacer)
        line = bytes(self._received[:end])
        del self._received[: end + 2]
        return line

    async def _take(self, length: int, kept: bytearray | None, pacer: Callable[[], Pacer | None]) -> None:
        left = length - self._drain(length, kept)
        while left:
            await self._more(pacer, most=left)
            left -= self._drain(left, kept)

    def _drain(self, most: int, kept: bytearray | None) -> int:
        taken = min(most, len(self._received))
        if kept is not None:
            kept += self._received[:taken]
        del self._received[:taken]
        return taken

    async def _more(
        self, pacer: Callable[[], Pacer | None], *, most: int = _PIECE_BYTES, may_end: bool = False
    ) -> None:
        """Reads what has come, as much as the pacer lets."""
        paced = pacer()
        size = min(most, _PIECE_BYTES)
        if paced is not None:
            while not (granted := paced.grant_bytes(self._clock.now_ns())):
                await self._clock.sleep_until(from_ns(self._clock.now_ns() + paced.wait_ns()))
            size = min(size, granted)
        began_ns = self._clock.now_ns()
        async with asyncio.timeout(SILENCE_S):
            received = await self._receive(size)
        self._busy_s += max(0, self._clock.now_ns() - began_ns) / 1e9
        if paced is not None:
            paced.take(len(received))
        if not received:
            self._eof = True
            if not may_end:
                raise ValueError("the server closed the connection before its answer was complete")
        self._received += received


def _endpoint(address: tuple[str, int]) -> Endpoint:
    return Endpoint(ip_address(address[0].partition("%")[0]), address[1])


def _told(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing came for {SILENCE_S:g} s"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)
