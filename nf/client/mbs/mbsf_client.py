"""The MBSF client: announcements fetched from the MBSF and kept current (TS 26.517 §5.3, reference point MBS-5)."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Final
from urllib.parse import quote, urlsplit

import httpx

from nf.client.cache_control import max_age_s
from nf.client.http_errors import error_from, error_of
from nf.client.mbs.announcement import (
    BUNDLE_TYPE,
    DESCRIPTIONS_TYPE,
    SDP_TYPE,
    AnnouncedService,
    Document,
    parse,
)
from nf.client.mbs.errors import AnnouncementInvalid, AnnouncementWithdrawn
from nf.common.clock import Clock, SystemClock
from nf.common.errors import CastcoreError, InvalidArgument, NotFound
from nf.common.telemetry import logger
from nf.common.tls import public_authorities

MBS_5_PATH: Final = "/3gpp-mbs5/v1"
DEFAULT_DEADLINE_S: Final = 5.0
MAX_BYTES: Final = 4_194_304
# How long what comes without Cache-Control may be kept; and how seldom and how often there is a look at the least.
_DEFAULT_MAX_AGE_S: Final = 60.0
_LONGEST_S: Final = 3600.0
_SHORTEST_S: Final = 1.0
_ACCEPTED: Final = f"{BUNDLE_TYPE}, {DESCRIPTIONS_TYPE};q=0.9, application/json;q=0.8"


@dataclass(frozen=True, slots=True)
class News:
    """A service that is announced, for the first time or changed; or one that is so no more."""

    service_id: str
    service: AnnouncedService | None


@dataclass(slots=True)
class _Kept:
    service: AnnouncedService
    etag: str
    fresh_until: datetime


class MbsfClient:
    """The announcements of the MBSF at ``url``: its root (``http://HOST:PORT``), or all of the path up to the version.

    What was fetched is kept as long as the MBSF permits, and asked for again by its entity tag. ``close`` it.
    """

    def __init__(
        self,
        url: str,
        *,
        http2: bool = False,
        tls: ssl.SSLContext | None = None,
        deadline_s: float = DEFAULT_DEADLINE_S,
        shortest_s: float = _SHORTEST_S,
        clock: Clock | None = None,
    ) -> None:
        self._root = mbs_5_root(url)
        self._clock = clock if clock is not None else SystemClock()
        self._shortest_s = shortest_s
        self._kept: dict[str, _Kept] = {}
        self._log = logger("mbsf-client")
        self._client = httpx.AsyncClient(
            http1=not http2,
            http2=http2,
            timeout=deadline_s,
            verify=tls if tls is not None else public_authorities(),
            trust_env=False,
        )

    async def service(self, service_id: str) -> AnnouncedService:
        """The service by its external identifier, from what is kept where that is fresh still.

        Raises NotFound where it never was announced, AnnouncementWithdrawn where it is so no more, AnnouncementInvalid
        for what cannot be used, Unavailable and DeadlineExceeded where nobody answers.
        """
        kept = self._kept.get(service_id)
        if kept is not None and self._clock.now() < kept.fresh_until:
            return kept.service
        return await self.refresh(service_id)

    async def refresh(self, service_id: str) -> AnnouncedService:
        """The service as it is announced now. Raises like ``service``; what is gone is no longer kept."""
        url = f"{self._root}/user-service-descriptions/{quote(service_id, safe='')}"
        kept = self._kept.get(service_id)
        try:
            response = await self._get(url, _ACCEPTED, {"if-none-match": kept.etag} if kept and kept.etag else {})
        except NotFound:
            self._kept.pop(service_id, None)
            raise
        fresh_until = self._fresh_until(response)
        if response.status_code == HTTPStatus.NOT_MODIFIED:
            if kept is None:
                raise AnnouncementInvalid(f"{url}: expected an announcement, found 304 to an unconditional request")
            kept.fresh_until = fresh_until
            return kept.service
        services = await self._services(url, response)
        found = next((each for each in services if each.service_id == service_id), None)
        if found is None:
            names = ", ".join(each.service_id for each in services) or "none"
            raise AnnouncementInvalid(f"{url}: expected the service {service_id!r}, found {names}")
        self._kept[service_id] = _Kept(found, response.headers.get("etag", ""), fresh_until)
        return found

    async def discover(self, service_class: str) -> tuple[AnnouncedService, ...]:
        """All services of a class that are announced now."""
        url = f"{self._root}/user-service-descriptions?service-class={quote(service_class, safe='')}"
        response = await self._get(url, _ACCEPTED, {})
        if response.status_code == HTTPStatus.NO_CONTENT:
            return ()
        return await self._services(url, response)

    async def watch(self, service_id: str) -> AsyncIterator[News]:
        """News of the service, the first at once where it is announced; there is a look whenever what is kept has aged.

        Nobody answering, or an announcement that cannot be used, is no news: what was known holds until the next look.
        """
        known: AnnouncedService | None = None
        while True:
            pause_s = _LONGEST_S
            try:
                found: AnnouncedService | None = await self.refresh(service_id)
                pause_s = (self._kept[service_id].fresh_until - self._clock.now()).total_seconds()
            except NotFound:
                found, pause_s = None, self._shortest_s
            except CastcoreError as error:
                self._log.warning("announcement.not_had", service=service_id, error=str(error))
                found, pause_s = known, self._shortest_s
            if found != known:
                known = found
                yield News(service_id, found)
            pause_s = min(max(pause_s, self._shortest_s), _LONGEST_S)
            await self._clock.sleep_until(self._clock.now() + timedelta(seconds=pause_s))

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def _services(self, url: str, response: httpx.Response) -> tuple[AnnouncedService, ...]:
        document = parse(response.headers.get("content-type", ""), response.content, url)
        return document.services(url, await self._missing(document, url))

    async def _missing(self, document: Document, url: str) -> dict[str, str]:
        """The session descriptions that did not come along."""
        fetched = {}
        for locator in document.missing(url):
            response = await self._get(locator, SDP_TYPE, {})
            try:
                fetched[locator] = response.content.decode()
            except UnicodeDecodeError as error:
                raise AnnouncementInvalid(f"{locator}: expected UTF-8, found another text") from error
        return fetched

    async def _get(self, url: str, accept: str, headers: Mapping[str, str]) -> httpx.Response:
        try:
            async with self._client.stream("GET", url, headers={"accept": accept, **headers}) as response:
                content = bytearray()
                async for piece in response.aiter_bytes():
                    content += piece
                    if len(content) > MAX_BYTES:
                        raise AnnouncementInvalid(f"{url}: expected at most {MAX_BYTES} bytes, found more")
        except httpx.HTTPError as failure:
            raise error_from(failure, f"GET {url}") from failure
        except httpx.InvalidURL as failure:
            raise InvalidArgument(f"{url!r}: {failure}") from failure
        had = httpx.Response(
            response.status_code,
            headers={name: value for name, value in response.headers.items() if name != "content-encoding"},
            content=bytes(content),
            request=response.request,
        )
        if had.status_code == HTTPStatus.GONE:
            raise AnnouncementWithdrawn(f"GET {url}: the service is announced no more")
        if had.status_code >= HTTPStatus.MULTIPLE_CHOICES and had.status_code != HTTPStatus.NOT_MODIFIED:
            raise error_of(had)
        return had

    def _fresh_until(self, response: httpx.Response) -> datetime:
        kept_s = min(max_age_s(response.headers, _DEFAULT_MAX_AGE_S), _LONGEST_S)
        return self._clock.now() + timedelta(seconds=kept_s)


def mbs_5_root(url: str) -> str:
    """Where MBS-5's resources begin: at ``url`` where it has a path, else at ``MBS_5_PATH``.

    Raises InvalidArgument for what is no absolute http(s) URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidArgument(f"MBS-5 address: expected an absolute http or https URL, found {url!r}")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or MBS_5_PATH}"
