"""Where the UPF's end of N3 is."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Self

from upf.errors import UpfError
from upf.gtpu import GTPU_PORT
from upf.session_keys import parse_endpoint

# Of the core's device: with IPv6, UDP and GTP-U in front, packets fit into the usual 1,500 bytes.
DEFAULT_MTU: Final = 1400


@dataclass(frozen=True, slots=True)
class N3Place:
    """Where gNBs send: an address of this host, a UDP port, the network namespace (None: that of the process)."""

    address: IPv4Address | IPv6Address
    port: int = GTPU_PORT
    netns: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``ADDRESS[:PORT][@NETNS]``. Raises UpfError."""
        endpoint, at, netns = text.partition("@")
        if at and not netns:
            raise UpfError(f"n3: found {text!r}, expected after @ a network namespace, such as '192.0.2.1@ran'")
        try:
            address, port = parse_endpoint(endpoint)
        except UpfError as error:
            raise UpfError(f"n3: {error}") from None
        if address.is_unspecified or address.is_multicast:
            raise UpfError(f"n3: found {text!r}, expected the address of this host to which gNBs send")
        return cls(address, port, netns or None)

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{host}:{self.port}" if self.netns is None else f"{host}:{self.port}@{self.netns}"
