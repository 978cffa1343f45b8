"""HTTP requests that castcore sends on another's word: bounded in time and size, to allowed hosts, no redirects."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from importlib import import_module
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from nf.common.callback_hosts import CallbackHosts
from nf.common.errors import CastcoreError
from nf.common.tls import Credentials, public_authorities

# httpx is much to load: the first request does it, and who sends none starts sooner.
if TYPE_CHECKING:
    import httpx

# As much of an answer is read as leaves the connection fit for the next request; nobody looks at it.
_READ_BYTES: Final = 65_536
_CONNECTIONS: Final = 100
_PORTS: Final = {"http": 80, "https": 443}


class NotSent(Exception):
    """There was no answer; the text says why."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The status of an answer, and how long it asks to wait before the next try."""

    status: int
    retry_after_s: float | None = None

    @property
    def is_success(self) -> bool:
        """Whether the receiver has taken it."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES


class HttpSender:
    """Sends POST requests, keeping connections; ``close`` it. ``tls`` adds the lab's authority to the known ones."""

    def __init__(self, hosts: CallbackHosts, *, timeout_s: float, tls: Credentials | None = None) -> None:
        self._hosts = hosts
        self._timeout_s = timeout_s
        self._tls = tls
        self._client: httpx.AsyncClient | None = None

    async def post(self, url: str, content: bytes, headers: Mapping[str, str]) -> Answered:
        """The answer of the receiver. Raises NotSent: not allowed, not reached, or no answer in time."""
        if "httpx" not in sys.modules:
            # Many modules: the event loop goes on while another thread loads them.
            await asyncio.to_thread(import_module, "httpx")
        import httpx

        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._post(url, content, headers)
        except TimeoutError:
            raise NotSent(f"no answer within {self._timeout_s:g} s") from None
        except CastcoreError as error:
            raise NotSent(error.message) from error
        except OSError as error:
            raise NotSent(error.strerror or str(error)) from error
        except httpx.HTTPError as error:
            raise NotSent(str(error) or type(error).__name__) from error

    async def close(self) -> None:
        """Ends the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _post(self, url: str, content: bytes, headers: Mapping[str, str]) -> Answered:
        import httpx

        parts = urlsplit(url)
        host = parts.hostname or ""
        # The address that was looked at is the one that is called: a name may be another's the next time.
        address = await self._hosts.address_for(host, parts.port or _PORTS[parts.scheme])
        request = self._opened().build_request(
            "POST",
            httpx.URL(url).copy_with(host=address),
            content=content,
            headers={**headers, "host": parts.netloc},
            extensions={"sni_hostname": host, "timeout": httpx.Timeout(self._timeout_s).as_dict()},
        )
        response = await self._opened().send(request, stream=True)
        try:
            left = _READ_BYTES
            async for chunk in response.aiter_raw():
                left -= len(chunk)
                if left < 0:
                    break
        finally:
            await response.aclose()
        return Answered(response.status_code, _seconds(response.headers.get("retry-after", "")))

    def _opened(self) -> httpx.AsyncClient:
        import httpx

        if self._client is None:
            if self._tls is None:
                context = public_authorities()
            else:
                context = ssl.create_default_context()
                context.load_verify_locations(cadata=self._tls.ca.decode("ascii", "ignore"))
                context.load_cert_chain(self._tls.certificate_file, self._tls.key_file)
            # No proxy of the environment: it would go where the hosts are not looked at.
            self._client = httpx.AsyncClient(
                verify=context,
                trust_env=False,
                follow_redirects=False,
                limits=httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS),
            )
        return self._client


def _seconds(text: str) -> float | None:
    return float(text) if text.isdecimal() and len(text) < 7 else None
