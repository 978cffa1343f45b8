"""The packets of a CAMARA Quality-On-Demand session: application server and ports as flow descriptions. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final, TypeAlias

from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.json_text import SHOWN_LENGTH
from nf.netapi.v1.camara_qod_pb2 import CreateQodSession, QodPorts

Network: TypeAlias = IPv4Network | IPv6Network
Range: TypeAlias = tuple[int, int]

_SERVER: Final = "applicationServer"
# The text of a filter is bounded on its way to the user plane.
_MAX_RANGES: Final = 64
_ZONE: Final = re.compile("%")


def check(asked: CreateQodSession) -> None:
    """Raises InvalidArgument where server or ports are none, with a violation for each."""
    violations = [*_server(asked), *_ports("devicePorts", asked.device_ports, present=asked.HasField("device_ports"))]
    ports = asked.application_server_ports
    violations += _ports("applicationServerPorts", ports, present=asked.HasField("application_server_ports"))
    if violations:
        raise InvalidArgument.of_all(violations)


def flow_descriptions(asked: CreateQodSession, versions: Sequence[int] = (4, 6)) -> list[str]:
    """IPFilterRules for the downlink, one for each network of servers of these IP versions.

    "permit out ip from SERVER [PORTS] to assigned [PORTS]": with ports it is TCP and UDP (and what else has ports).
    """
    server_ports = _ports_text(asked.application_server_ports)
    device_ports = _ports_text(asked.device_ports)
    return [
        f"permit out ip from {_text(network)}{server_ports} to assigned{device_ports}"
        for network in servers(asked)
        if network.version in versions
    ]


def servers(asked: CreateQodSession) -> list[Network]:
    """The networks that the application runs in."""
    server = asked.application_server
    texts = [*server.ip_addresses]
    texts += [text for text in (server.ipv4_address, server.ipv6_address) if text]
    return [ip_network(text, strict=False) for text in texts]


def overlap(one: CreateQodSession, other: CreateQodSession) -> bool:
    """Whether a packet of one device could be of both."""
    return (
        any(a.version == b.version and a.overlaps(b) for a in servers(one) for b in servers(other))
        and _share(_ranges(one.application_server_ports), _ranges(other.application_server_ports))
        and _share(_ranges(one.device_ports), _ranges(other.device_ports))
    )


def _server(asked: CreateQodSession) -> Iterator[FieldViolation]:
    server = asked.application_server
    has_subnets = server.HasField("ipv4_address") or server.HasField("ipv6_address")
    if has_subnets and server.ip_addresses:
        yield FieldViolation(_SERVER, "expected ipAddresses or subnets, found both")
    elif not has_subnets and not server.ip_addresses:
        yield FieldViolation(_SERVER, "expected ipAddresses, ipv4Address or ipv6Address, found none of them")
    for index, text in enumerate(server.ip_addresses):
        path = f"{_SERVER}.ipAddresses[{index}]"
        network = _network(text)
        if network is None or "/" in text:
            yield FieldViolation(path, f"expected an IP address, found {text[:SHOWN_LENGTH]!r}")
        elif text in server.ip_addresses[:index]:
            yield FieldViolation(path, f"expected each address once, found {text} again")
    for name, is_set, text, version in (
        ("ipv4Address", server.HasField("ipv4_address"), server.ipv4_address, 4),
        ("ipv6Address", server.HasField("ipv6_address"), server.ipv6_address, 6),
    ):
        if not is_set:
            continue
        network = _network(text)
        if network is None or network.version != version:
            yield FieldViolation(
                f"{_SERVER}.{name}", f"expected an IPv{version} address or subnet, found {text[:SHOWN_LENGTH]!r}"
            )


def _network(text: str) -> Network | None:
    try:
        return None if _ZONE.search(text) else ip_network(text, strict=False)
    except ValueError:
        return None


def _ports(path: str, ports: QodPorts, *, present: bool) -> Iterator[FieldViolation]:
    if not present:
        return
    if not ports.ranges and not ports.ports:
        yield FieldViolation(path, "expected ranges or ports, found neither")
    for index, each in enumerate(ports.ranges):
        if each.first > each.last:
            yield FieldViolation(
                f"{path}.ranges[{index}]", f"expected from at most to, found {each.first} and {each.last}"
            )
    if len(merged := _ranges(ports)) > _MAX_RANGES:
        yield FieldViolation(path, f"expected at most {_MAX_RANGES} ranges of ports, found {len(merged)}")


def _ranges(ports: QodPorts) -> list[Range]:
    """The ports in as few ranges as may be, in their order; none: any port."""
    found: list[Range] = []
    for first, last in sorted([*((each.first, each.last) for each in ports.ranges), *((p, p) for p in ports.ports)]):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def _share(one: list[Range], other: list[Range]) -> bool:
    if not one or not other:
        return True
    return any(a[0] <= b[1] and b[0] <= a[1] for a in one for b in other)


def _ports_text(ports: QodPorts) -> str:
    ranges = _ranges(ports)
    if not ranges:
        return ""
    return " " + ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def _text(network: Network) -> str:
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)
