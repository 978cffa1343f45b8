"""Where Nmb9 tunnels end, as text."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from upf.errors import UpfError
from upf.session_keys import parse_endpoint


def parse_ingress(text: str) -> tuple[IPv4Address | IPv6Address, int]:
    """Read ``ADDRESS`` or ``ADDRESS:PORT``, an IPv6 address in brackets where a port follows; none is 0.

    Raises UpfError.
    """
    address, port = parse_endpoint(text)
    if address.is_unspecified or address.is_multicast:
        raise UpfError(f"found {text!r}, expected an address that the MBSTF can send to")
    has_port = (text.startswith("[") and not text.endswith("]")) or text.count(":") == 1
    return address, port if has_port else 0
