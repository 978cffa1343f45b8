"""What multicast did not bring, fetched by HTTP from an MBS AS (MBS-4-UC; TS 26.346 §9.3).

A client waits for the offset time and a random part of the random time period, so that not all ask at once, then asks
one of the servers, by byte ranges where a part is there already.
"""

from __future__ import annotations

import random
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from nf.client.mbs.announcement import RepairServers
from nf.client.mbs.object_reception import ByteRange
from nf.client.mbs.reception import MissingFile, ReceivedFile, Reception
from nf.common.clock import Clock, SystemClock
from nf.common.tls import Credentials, public_authorities

# httpx is much to load, and most sessions need no repair.
if TYPE_CHECKING:
    import httpx

# Ranges that lie closer together are asked for as one: a request costs more than these bytes.
_GAP_BYTES: Final = 8192
# More of them, and the whole object is asked for.
_MOST_RANGES: Final = 16
_TRIES: Final = 3
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(?:\d{1,15}|\*)")


@dataclass(frozen=True, slots=True)
class Repaired:
    """How the repair of a file went: the file, or why there is none; what it took."""

    file: ReceivedFile | None
    requests: int
    bytes: int
    failure: str = ""


def back_off(servers: RepairServers, rng: random.Random) -> timedelta:
    """How long to wait before the first request (TS 26.346 §9.3.4)."""
    return servers.offset + servers.random_period * rng.random()


def repair_url(locator: str, location: str, bases: Sequence[str]) -> str:
    """Where a repair server has an object: after ``locator``, what follows the base of its location (else its path)."""
    for base in bases:
        if location.startswith(base):
            rest = location[len(base) :]
            break
    else:
        parts = urlsplit(location)
        rest = parts.path + (f"?{parts.query}" if parts.query else "")
    return f"{locator.rstrip('/')}/{rest.lstrip('/')}"


def ranges_to_ask(ranges: Sequence[ByteRange], length: int) -> list[ByteRange] | None:
    """The byte ranges to ask for, neighbours joined; None: the whole object is less trouble."""
    joined: list[ByteRange] = []
    for start, end in ranges:
        if joined and start - joined[-1][1] < _GAP_BYTES:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    if len(joined) > _MOST_RANGES or sum(end - start for start, end in joined) > length * 3 // 4:
        return None
    return joined


class HttpRepair:
    """Repairs what a reception misses, from one of ``servers`` chosen at random; ``close`` it."""

    def __init__(
        self,
        servers: RepairServers,
        *,
        bases: Sequence[str] = (),
        rng: random.Random | None = None,
        clock: Clock | None = None,
        timeout_s: float = 10.0,
        max_object_bytes: int = 256 << 20,
        tls: Credentials | None = None,
    ) -> None:
        if not servers.locators:
            raise ValueError("expected at least one repair server")
        self._servers = servers
        self._bases = tuple(bases)
        self._rng = rng or random.Random()
        self._clock = clock or SystemClock()
        self._timeout_s = timeout_s
        self._max_object_bytes = max_object_bytes
        self._tls = tls
        self._client: httpx.AsyncClient | None = None

    async def wait(self) -> None:
        """Returns when this client may ask: its back-off is over."""
        await self._clock.sleep_until(self._clock.now() + back_off(self._servers, self._rng))

    async def repair(self, reception: Reception, missing: MissingFile) -> Repaired:
        """Fetches what a file misses; one after another of the servers is tried."""
        attempt = _Attempt(self, reception, missing)
        locators = list(self._servers.locators)
        self._rng.shuffle(locators)
        for number in range(_TRIES):
            file = await attempt.run(locators[number % len(locators)])
            if file is not None:
                return Repaired(file, attempt.requests, attempt.bytes)
        return Repaired(None, attempt.requests, attempt.bytes, attempt.failure)

    async def close(self) -> None:
        """Ends the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def opened(self) -> httpx.AsyncClient:
        """The client, with the connections that it keeps."""
        import httpx

        if self._client is None:
            if self._tls is None:
                context = public_authorities()
            else:
                context = ssl.create_default_context()
                context.load_verify_locations(cadata=self._tls.ca.decode("ascii", "ignore"))
            self._client = httpx.AsyncClient(
                verify=context, trust_env=False, follow_redirects=True, timeout=self._timeout_s
            )
        return self._client

    def url(self, locator: str, location: str) -> str:
        """Where the object is at this server."""
        return repair_url(locator, location, self._bases)

    @property
    def max_object_bytes(self) -> int:
        """More is not taken."""
        return self._max_object_bytes


class _Attempt:
    """The repair of one file."""

    def __init__(self, by: HttpRepair, reception: Reception, missing: MissingFile) -> None:
        self._by = by
        self._reception = reception
        self._file = missing.information
        self._ranges = missing.ranges
        self.requests = 0
        self.bytes = 0
        self.failure = ""

    async def run(self, locator: str) -> ReceivedFile | None:
        import httpx

        url = self._by.url(locator, self._file.location)
        self.failure = ""
        length = self._file.transfer_length
        try:
            if self._ranges is not None and length is not None:
                asked = ranges_to_ask(self._ranges, length)
                # What comes in parts and does not fit together is asked for whole the next time.
                self._ranges = None
                for start, end in asked or ():
                    file = await self._part(url, start, end)
                    if file is not None:
                        return file
                    if self.failure:
                        return None
            return await self._whole(url)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            self.failure = f"{url}: {error or type(error).__name__}"
            return None

    async def _part(self, url: str, start: int, end: int) -> ReceivedFile | None:
        headers = {"range": f"bytes={start}-{end - 1}", "accept-encoding": "identity"}
        if self._file.etag:
            headers["if-range"] = f'"{self._file.etag}"'
        status, content_range, data = await self._get(url, headers)
        if status == HTTPStatus.OK:
            return self._take_whole(url, data)
        match = _CONTENT_RANGE.fullmatch(content_range)
        if status != HTTPStatus.PARTIAL_CONTENT or match is None or len(data) != int(match[2]) + 1 - int(match[1]):
            self.failure = f"{url}: {status} {content_range}"
            return None
        return self._reception.repair(self._file.toi, int(match[1]), data)

    async def _whole(self, url: str) -> ReceivedFile | None:
        status, _, data = await self._get(url, {"accept-encoding": "identity"})
        if status != HTTPStatus.OK:
            self.failure = f"{url}: {status}"
            return None
        return self._take_whole(url, data)

    def _take_whole(self, url: str, data: bytes) -> ReceivedFile | None:
        file = self._reception.repair(self._file.toi, 0, data, whole=True)
        if file is None:
            self.failure = f"{url}: not the object that was announced"
        return file

    async def _get(self, url: str, headers: dict[str, str]) -> tuple[int, str, bytes]:
        """Status, Content-Range and content, of which no more is read than the object may have."""
        most = self._by.max_object_bytes if self._file.transfer_length is None else self._file.transfer_length
        self.requests += 1
        data = bytearray()
        async with self._by.opened().stream("GET", url, headers=headers) as response:
            async for chunk in response.aiter_raw():
                data += chunk
                if len(data) > most:
                    break
        self.bytes += len(data)
        return response.status_code, response.headers.get("content-range", ""), bytes(data)
