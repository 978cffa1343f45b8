"""Flows, locations and preferences as options write them."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from nf.af.v1.consumption_reporting_pb2 import CellIdentifierType, TypedLocation
from nf.client.dynamic_policy import Flow
from nf.common.errors import InvalidArgument

_PROTOCOLS: Final = {"tcp": 6, "udp": 17, "sctp": 132, "ip": None}
_FLOW: Final = re.compile(
    r"(?P<protocol>[a-z]+|[0-9]{1,3})/(?P<host>\[[0-9A-Fa-f:.]+\]|[^/\[\]:]+)(:(?P<port>[0-9]{1,5}))?(/(?P<ue>[0-9]{1,5}))?"
)
_EXPECTED: Final = "PROTOCOL/SERVER[:PORT][/UE_PORT] ('tcp/198.51.100.7:443/50000', 'ip/198.51.100.7') or 'domain/NAME'"
_KINDS: Final = ("CGI", "ECGI", "NCGI")


def parse_flow(text: str, ue_address: str = "") -> Flow:
    """A flow of the option ``--flow``. Raises InvalidArgument."""
    kind, _, rest = text.partition("/")
    if kind == "domain" and rest:
        return Flow(domain_name=rest)
    match = _FLOW.fullmatch(text)
    refused = InvalidArgument(f"option '--flow': found {text!r}, expected {_EXPECTED}")
    if match is None:
        raise refused
    name = match["protocol"]
    if name.isdecimal():
        protocol: int | None = int(name)
    elif name in _PROTOCOLS:
        protocol = _PROTOCOLS[name]
    else:
        raise refused
    try:
        host = str(ipaddress.ip_network(match["host"].strip("[]")))
    except ValueError:
        raise refused from None
    ports = [None if each is None else int(each) for each in (match["port"], match["ue"])]
    if any(port is not None and not 0 < port <= 65535 for port in ports) or (protocol or 0) > 255:
        raise refused
    if any(port is not None for port in ports) and protocol is None:
        raise InvalidArgument(f"option '--flow': found {text!r}: a port needs a protocol that has ports")
    return Flow(host.removesuffix("/32").removesuffix("/128"), ports[0], ports[1], protocol, ue_address)


def parse_location(text: str) -> TypedLocation:
    """A cell of the option ``--location`` ("NCGI:001-01-000000001"). Raises InvalidArgument."""
    kind, colon, cell = text.partition(":")
    if kind.upper() not in _KINDS or not colon or not cell:
        raise InvalidArgument(
            f"option '--location': found {text!r}, expected TYPE:CELL with TYPE one of {', '.join(_KINDS)}"
        )
    return TypedLocation(
        location_identifier_type=CellIdentifierType.Value(f"CELL_IDENTIFIER_TYPE_{kind.upper()}"), location=cell
    )
