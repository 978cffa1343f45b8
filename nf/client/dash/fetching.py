"""The connections of a player, and what it fetches over them: alternatives, redirections, another try."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from urllib.parse import SplitResult, urlsplit

from nf.client.dash.errors import NothingToPlay, SegmentUnavailable
from nf.client.dash.http_connection import CONNECT_S, Answer, HttpConnection, Opener
from nf.client.dash.pacing import Pacer
from nf.client.m7 import Connection, PlayerListener
from nf.common.clock import Clock
from nf.common.dash.addresses import resolve
from nf.common.dash.mpd import ByteRange
from nf.common.tls import public_authorities

_PORTS: Final = {"http": 80, "https": 443}
_REDIRECTIONS: Final = 5
_REDIRECTED: Final = (301, 302, 303, 307, 308)


@dataclass(slots=True)
class _Slot:
    """A place for one connection to one server; its requests come one after the other."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    open: HttpConnection | None = None


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer, where it came from in the end, and over which connection."""

    answer: Answer
    url: str
    connection: Connection
    elapsed_s: float


class Connections:
    """Connections by server and lane: what goes over another lane need not wait.

    Each is told to the listener before its first request, and when it has closed.
    """

    def __init__(
        self,
        opener: Opener,
        listener: PlayerListener,
        clock: Clock,
        *,
        pacer: Callable[[], Pacer | None] = lambda: None,
        tries: int = 3,
        retry_delay_s: float = 0.5,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.opened = 0
        self._opener = opener
        self._listener = listener
        self._clock = clock
        self._pacer = pacer
        self._tries = tries
        self._retry_delay = timedelta(seconds=retry_delay_s)
        self._tls = tls
        self._slots: dict[tuple[str, int, int], _Slot] = {}

    async def fetch(
        self,
        urls: Sequence[str],
        lane: int,
        *,
        byte_range: ByteRange | None = None,
        headers: dict[str, str] | None = None,
        keep: bool = False,
    ) -> Fetched:
        """The first of the alternatives that the servers give, each tried again. Raises SegmentUnavailable."""
        wanted = dict(headers or {})
        if byte_range is not None:
            wanted["Range"] = byte_range.header
        problem = ""
        for attempt in range(self._tries):
            if attempt:
                await self._clock.sleep_until(self._clock.now() + self._retry_delay)
            for url in urls:
                try:
                    fetched = await self._follow(url, lane, wanted, keep=keep)
                except SegmentUnavailable as error:
                    problem = error.message
                    continue
                status, expected = fetched.answer.status, 200 if byte_range is None else 206
                if status in (expected, 304):
                    return fetched
                problem = f"{fetched.url}: found status {status}, expected {expected}"
        raise SegmentUnavailable(problem or "found no address to fetch from")

    async def prepare(self, url: str, lane: int) -> None:
        """Opens the connection over which an address will be fetched. Raises SegmentUnavailable."""
        parts, host, port = _address(url)
        slot = self._slot(host, port, lane)
        async with slot.lock:
            await self._connection(slot, parts, host, port)

    def close(self) -> None:
        """Ends all of them."""
        for slot in self._slots.values():
            self._drop(slot)

    async def _follow(self, url: str, lane: int, headers: dict[str, str], *, keep: bool) -> Fetched:
        for _ in range(_REDIRECTIONS):
            fetched = await self._get(url, lane, headers, keep=keep)
            location = fetched.answer.headers.get("location", "")
            if fetched.answer.status not in _REDIRECTED or not location:
                return fetched
            url = resolve(url, location)
        raise SegmentUnavailable(f"{url}: found more than {_REDIRECTIONS} redirections")

    async def _get(self, url: str, lane: int, headers: dict[str, str], *, keep: bool) -> Fetched:
        parts, host, port = _address(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        slot = self._slot(host, port, lane)
        async with slot.lock:
            connection = await self._connection(slot, parts, host, port)
            began_ns = self._clock.now_ns()
            try:
                answer = await connection.get(target, parts.netloc, headers=headers, keep=keep, pacer=self._pacer)
            finally:
                if not connection.usable:
                    self._drop(slot)
            elapsed_s = max(0, self._clock.now_ns() - began_ns) / 1e9
        return Fetched(answer, url, connection.connection, elapsed_s)

    def _slot(self, host: str, port: int, lane: int) -> _Slot:
        return self._slots.setdefault((host, port, lane), _Slot())

    async def _connection(self, slot: _Slot, parts: SplitResult, host: str, port: int) -> HttpConnection:
        if slot.open is not None and not slot.open.closed_by_peer():
            return slot.open
        self._drop(slot)
        origin = f"{parts.scheme}://{parts.netloc}"
        try:
            async with asyncio.timeout(CONNECT_S):
                opened = await self._opener(host, port)
        except TimeoutError:
            raise SegmentUnavailable(f"{origin}: no connection within {CONNECT_S:g} s") from None
        except OSError as error:
            raise SegmentUnavailable(f"{origin}: {error.strerror or error}") from None
        slot.open = HttpConnection(opened, host, origin, self._clock)
        self.opened += 1
        await self._listener.connection_opened(slot.open.connection)
        if parts.scheme == "https":
            # After the listener: the handshake is under the policy, too.
            try:
                await slot.open.secure(self._tls if self._tls is not None else public_authorities(), host)
            except SegmentUnavailable:
                self._drop(slot)
                raise
        return slot.open

    def _drop(self, slot: _Slot) -> None:
        if slot.open is not None:
            slot.open.close()
            self._listener.connection_closed(slot.open.connection)
            slot.open = None


def _address(url: str) -> tuple[SplitResult, str, int]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise NothingToPlay(f"address {url!r}: found a port that is none") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise NothingToPlay(f"address {url!r}: expected 'http://HOST…' or 'https://HOST…'")
    return parts, parts.hostname, port or _PORTS[parts.scheme]
