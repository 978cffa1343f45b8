"""Objects fetched from their origin at Nmb8: bounded in time, size and number, from allowed hosts, no redirects.

Sessions that want the same object at the same moment fetch it once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from nf.common.callback_hosts import CallbackHostNotAllowed, CallbackHosts
from nf.common.clock import Clock
from nf.common.tls import public_authorities
from nf.mbstf.errors import IngestFailed

if TYPE_CHECKING:
    import httpx

_PORTS: Final = {"http": 80, "https": 443}
_FIRST_PAUSE: Final = timedelta(milliseconds=100)


class FetchFailed(IngestFailed):
    """The origin was not reached, refused, or sent too much; ``status`` is 0 where it did not answer."""

    def __init__(self, message: str, *, status: int = 0, final: bool = False) -> None:
        super().__init__(message)
        self.status = status
        # A repeat will not do better.
        self.final = final


@dataclass(frozen=True, slots=True)
class Validators:
    """By what an origin tells whether an object has changed (RFC 9110 §8.8)."""

    etag: str = ""
    last_modified: str = ""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What an origin has answered; ``data`` None: what was fetched before is still current."""

    url: str
    data: bytes | None
    content_type: str
    validators: Validators


class Fetcher:
    """Fetches objects; ``close`` it."""

    def __init__(
        self,
        hosts: CallbackHosts,
        clock: Clock,
        *,
        timeout_s: float,
        attempts: int,
        concurrent: int,
        max_bytes: int,
    ) -> None:
        self._hosts = hosts
        self._clock = clock
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._concurrent = concurrent
        self._max_bytes = max_bytes
        self._room = asyncio.Semaphore(concurrent)
        self._client: httpx.AsyncClient | None = None
        self._under_way: dict[tuple[str, Validators], asyncio.Task[Fetched]] = {}

    async def close(self) -> None:
        """Ends what is under way, and the connections."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def fetch(self, url: str, known: Validators | None = None) -> Fetched:
        """The object at a URL, tried several times; with ``known``, only if it has changed. Raises FetchFailed."""
        key = (url, known or Validators())
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(self._persist(*key), name=f"mbstf-fetch {url}")
            task.add_done_callback(lambda done: self._forget(key, done))
        # Whoever gives up does not take it from the others.
        return await asyncio.shield(task)

    def _forget(self, key: tuple[str, Validators], done: asyncio.Task[Fetched]) -> None:
        del self._under_way[key]
        if not done.cancelled():
            # All who wanted it may have gone.
            done.exception()

    async def _persist(self, url: str, known: Validators) -> Fetched:
        pause, left = _FIRST_PAUSE, self._attempts
        while True:
            left -= 1
            try:
                async with self._room:
                    return await self._once(url, known)
            except FetchFailed as error:
                if error.final or not left:
                    raise
            await self._clock.sleep_until(self._clock.now() + pause)
            pause *= 2

    async def _once(self, url: str, known: Validators) -> Fetched:
        import httpx

        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._get(url, known)
        except TimeoutError:
            raise FetchFailed(f"{url}: no answer within {self._timeout_s:g} s") from None
        except CallbackHostNotAllowed:
            host = urlsplit(url).hostname
            raise FetchFailed(f"{url}: {host} is no origin: mbstf.origin_hosts does not have it", final=True) from None
        except OSError as error:
            raise FetchFailed(f"{url}: {error.strerror or error}") from error
        except httpx.HTTPError as error:
            raise FetchFailed(f"{url}: {str(error) or type(error).__name__}") from error
        except httpx.InvalidURL as error:
            raise FetchFailed(f"{url[:200]}: {error}", final=True) from error

    async def _get(self, url: str, known: Validators) -> Fetched:
        import httpx

        parts = urlsplit(url)
        host = parts.hostname or ""
        # The address that was looked at is the one that is asked: a name may be another's the next time.
        address = await self._hosts.address_for(host, parts.port or _PORTS[parts.scheme])
        headers = {"host": parts.netloc, "accept-encoding": "identity"}
        if known.etag:
            headers["if-none-match"] = known.etag
        if known.last_modified:
            headers["if-modified-since"] = known.last_modified
        client = self._opened()
        request = client.build_request(
            "GET",
            httpx.URL(url).copy_with(host=address),
            headers=headers,
            extensions={"sni_hostname": host, "timeout": httpx.Timeout(self._timeout_s).as_dict()},
        )
        response = await client.send(request, stream=True)
        try:
            status = response.status_code
            if status == HTTPStatus.NOT_MODIFIED:
                return Fetched(url, None, "", known)
            if status != HTTPStatus.OK:
                final = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
                busy = status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
                raise FetchFailed(
                    f"{url}: expected 200, found {status} {response.reason_phrase}".rstrip(),
                    status=status,
                    final=(final and not busy) or response.is_redirect,
                )
            data = await self._read(url, response)
            return Fetched(
                url,
                data,
                response.headers.get("content-type", ""),
                Validators(response.headers.get("etag", ""), response.headers.get("last-modified", "")),
            )
        finally:
            await response.aclose()

    async def _read(self, url: str, response: httpx.Response) -> bytes:
        announced = response.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self._max_bytes:
            raise self._too_large(url, int(announced))
        pieces, total = [], 0
        async for piece in response.aiter_raw():
            total += len(piece)
            if total > self._max_bytes:
                raise self._too_large(url, total)
            pieces.append(piece)
        return b"".join(pieces)

    def _too_large(self, url: str, found: int) -> FetchFailed:
        expected = f"expected at most {self._max_bytes} bytes (mbstf.object_max_bytes)"
        return FetchFailed(f"{url}: {expected}, found {found} or more", status=int(HTTPStatus.OK), final=True)

    def _opened(self) -> httpx.AsyncClient:
        if self._client is None:
            import httpx

            # No proxy of the environment: it would go where the hosts are not looked at.
            self._client = httpx.AsyncClient(
                verify=public_authorities(),
                trust_env=False,
                follow_redirects=False,
                limits=httpx.Limits(
                    max_connections=self._concurrent, max_keepalive_connections=self._concurrent, keepalive_expiry=30.0
                ),
            )
        return self._client
