"""Where callbacks may go: a subscriber must not make castcore send requests to whatever its host can reach.

By default to loopback and private networks, which is where labs are; a list in the configuration takes their place.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Sequence
from typing import Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

from nf.common.errors import InvalidArgument, PermissionDenied

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

# RFC 1122, RFC 1918, RFC 4193. Not link-local: hosts of clouds tell their secrets there.
DEFAULT: Final = ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
ANYWHERE: Final = "*"
MAX_URL: Final = 2048

_NAME: Final = re.compile(
    r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*"
)


class CallbackHostNotAllowed(PermissionDenied):
    """Callbacks may not go to that host: the operator's list of them does not have it."""

    reason = "CALLBACK_HOST_NOT_ALLOWED"


def check_entry(value: str) -> str:
    """An entry of the list, as it is. Raises ValueError."""
    if value != ANYWHERE and _network(value) is None and not _NAME.fullmatch(value):
        raise ValueError('a host name, "*.DOMAIN", an address, a prefix, or "*" for any')
    return value


class CallbackHosts:
    """The hosts that callbacks may go to: names, names below a domain, networks, or any.

    ``setting`` is what the configuration calls the list.
    """

    def __init__(self, entries: Sequence[str] = (), *, setting: str = "af.callback_hosts") -> None:
        self._setting = setting
        chosen = entries or DEFAULT
        self._anywhere = ANYWHERE in chosen
        self._networks = [network for each in chosen if (network := _network(each)) is not None]
        self._names = [each.lower() for each in chosen if each != ANYWHERE and _network(each) is None]

    def check_url(self, field: str, url: str) -> None:
        """Raises InvalidArgument unless it is an absolute http(s) URL, CallbackHostNotAllowed where it must not go.

        A name that only its addresses can tell of is let pass: ``address_for`` looks at them.
        """
        host = split_url(field, url).hostname or ""
        address = _address(host)
        if address is not None and not self._allows(address):
            raise CallbackHostNotAllowed(f"{field}: callbacks may not go to {host}: {self._setting} does not have it")

    async def address_for(self, host: str, port: int) -> str:
        """Where to connect for that host; the name itself where it may have any address.

        Raises CallbackHostNotAllowed when none of its addresses is allowed, OSError when it has none.
        """
        if self._anywhere or self._has_name(host):
            return host
        literal = _address(host)
        if literal is not None:
            found: list[Address] = [literal]
        else:
            known = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found = [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in known]
        allowed = [each for each in found if self._allows(each)]
        if not allowed:
            raise CallbackHostNotAllowed(f"callbacks may not go to {host}: {self._setting} does not have it")
        return str(allowed[0])

    def _allows(self, address: Address) -> bool:
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return self._anywhere or any(address in network for network in self._networks)

    def _has_name(self, host: str) -> bool:
        host = host.lower().rstrip(".")
        return any(host == each or (each.startswith("*.") and host.endswith(each[1:])) for each in self._names)


def split_url(field: str, url: str) -> SplitResult:
    """The parts of an absolute http or https URL. Raises InvalidArgument."""

    def refused(why: str) -> InvalidArgument:
        return InvalidArgument.of(field, f"expected an absolute http or https URL{why}, found {url[:200]!r}")

    if len(url) > MAX_URL:
        raise refused(f" of at most {MAX_URL} characters")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise refused(" of printable characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise refused("") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise refused("")
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise refused(" without a user")
    if "#" in url:
        raise refused(" without a fragment")
    if _address(parts.hostname) is None and not _NAME.fullmatch(parts.hostname.rstrip(".")):
        raise refused(" with a host")
    return parts


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
