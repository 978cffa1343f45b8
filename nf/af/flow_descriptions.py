"""Service data flow descriptions as IPFilterRules, and whose flows they are (TS 26.512 §6.4.3.1, TS 29.214 §5.3.8).

One "permit out" rule, written for the downlink, detects both directions of a flow on N5, N7 and N4. So the direction of
an IpPacketFilterSet says here which of its ends is the UE's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from nf.af.errors import FlowDescriptionUnsupported
from nf.af.v1 import media_session_pb2 as m5
from nf.common.errors import FieldViolation, InvalidArgument

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

# TCP, UDP, DCCP, SCTP, UDP-Lite: the protocols whose ports the user plane reads.
PROTOCOLS_WITH_PORTS = (6, 17, 33, 132, 136)
# How flows may be described, as the user plane detects them today.
SDF_METHODS = (m5.SDF_METHOD_FIVE_TUPLE, m5.SDF_METHOD_TWO_TUPLE)
# More than any player opens. Every flow costs the user plane two rules, while every UE waits.
MAX_FLOWS = 1000
# A UE owns a whole IPv6 prefix of this length (TS 23.501 §5.8.2.2.3), and one IPv4 address.
_UE_PREFIX_LENGTH = {4: 32, 6: 64}


@dataclass(frozen=True, slots=True)
class FlowDescription:
    """A checked 5-tuple, written for the downlink: ``remote`` → ``ue``. None stands for any."""

    remote: IpNetwork | None
    ue: IpNetwork | None
    protocol: int | None
    remote_port: int | None
    ue_port: int | None

    def ip_filter_rule(self, ue_address: IpNetwork) -> str:
        """The "permit out" rule; ``ue_address`` stands in where the flow names no UE.

        Raises InvalidArgument when the two ends are of different IP versions.
        """
        ue = self.ue or ue_address
        if self.remote is not None and self.remote.version != ue.version:
            raise InvalidArgument.of(
                "service_data_flow_descriptions",
                f"the remote end {_text(self.remote)} and the UE {_text(ue)} are of different IP versions",
            )
        protocol = "ip" if self.protocol is None else str(self.protocol)
        remote = "any" if self.remote is None else _text(self.remote)
        remote_port = "" if self.remote_port is None else f" {self.remote_port}"
        ue_port = "" if self.ue_port is None else f" {self.ue_port}"
        return f"permit out {protocol} from {remote}{remote_port} to {_text(ue)}{ue_port}"


def parse(
    descriptions: Sequence[m5.ServiceDataFlowDescription], field: str = "service_data_flow_descriptions"
) -> tuple[FlowDescription, ...]:
    """Checks the flows of a request; ``field`` is their path in it.

    Raises FlowDescriptionUnsupported for what the user plane cannot detect yet, and InvalidArgument with a violation
    for every property at fault.
    """
    if len(descriptions) > MAX_FLOWS:
        raise InvalidArgument.of(field, f"expected at most {MAX_FLOWS} flows, found {len(descriptions)}")
    paths = [f"{field}[{index}]" for index in range(len(descriptions))]
    unsupported = [
        FieldViolation(path, why)
        for prefix, each in zip(paths, descriptions, strict=True)
        for path, why in _unsupported(prefix, each)
    ]
    if unsupported:
        raise FlowDescriptionUnsupported(
            "; ".join(f"{each.field}: {each.description}" for each in unsupported), violations=unsupported
        )
    violations: list[FieldViolation] = []
    flows = [_parse_one(path, each, violations) for path, each in zip(paths, descriptions, strict=True)]
    if violations:
        raise InvalidArgument(
            "; ".join(f"{each.field}: {each.description}" for each in violations), violations=violations
        )
    return tuple(flow for flow in flows if flow is not None)


def ue_side(flows: Sequence[FlowDescription], field: str = "service_data_flow_descriptions") -> IpNetwork | None:
    """The UE that the flows name, by its prefix where they name several addresses of it; None when none of them does.

    Raises InvalidArgument when they name several: a dynamic policy is for the flows of one UE.
    """
    named = [(index, flow.ue) for index, flow in enumerate(flows) if flow.ue is not None]
    if not named:
        return None
    first_index, first = named[0]
    for index, other in named:
        if not is_same_ue(first, other):
            raise InvalidArgument.of(
                f"{field}[{index}].flow_description",
                f"names the UE {_text(other)}, but {field}[{first_index}] names {_text(first)}: one UE per policy",
            )
    return first if all(ue == first for _, ue in named) else _whole(first)


def is_same_ue(one: IpNetwork, other: IpNetwork) -> bool:
    """Whether two addresses or prefixes are one UE's: it may use any address of its IPv6 prefix, and changes them."""
    return _whole(one) == _whole(other)


def _whole(ue: IpNetwork) -> IpNetwork:
    """All that the UE of an address owns."""
    length = _UE_PREFIX_LENGTH[ue.version]
    return ue.supernet(new_prefix=length) if ue.prefixlen > length else ue


def host_network(address: IpAddress) -> IpNetwork:
    """The network of one address; an IPv4 address in IPv6 clothes (::ffff:a.b.c.d) is taken as what it is."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return ipaddress.ip_network(address)


def _text(network: IpNetwork) -> str:
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _unsupported(path: str, description: m5.ServiceDataFlowDescription) -> list[tuple[str, str]]:
    how = "the user plane detects flows by addresses, ports and protocol (5_TUPLE, 2_TUPLE)"
    if description.WhichOneof("description") == "domain_name":
        return [(f"{path}.domain_name", f"detection by the name of the server is not offered: {how}")]
    packet_filter = description.flow_description
    found = []
    if packet_filter.to_s_tc:
        found.append((f"{path}.flow_description.to_s_tc", f"detection by type of service is not offered: {how}"))
    if packet_filter.HasField("flow_label"):
        found.append((f"{path}.flow_description.flow_label", f"detection by flow label is not offered: {how}"))
    if packet_filter.HasField("spi"):
        found.append((f"{path}.flow_description.spi", f"detection by security parameter index is not offered: {how}"))
    return found


def _parse_one(
    path: str, description: m5.ServiceDataFlowDescription, violations: list[FieldViolation]
) -> FlowDescription | None:
    if description.WhichOneof("description") is None:
        violations.append(FieldViolation(path, "expected a flow_description, found nothing"))
        return None
    packet_filter = description.flow_description
    path += ".flow_description"
    before = len(violations)
    source = _network(f"{path}.src_ip", packet_filter.src_ip, violations)
    destination = _network(f"{path}.dst_ip", packet_filter.dst_ip, violations)
    if source is not None and destination is not None and source.version != destination.version:
        violations.append(
            FieldViolation(path, f"src_ip {source} and dst_ip {destination} are of different IP versions")
        )
    uplink = packet_filter.direction == m5.FLOW_DIRECTION_UPLINK
    if packet_filter.direction not in (
        m5.FLOW_DIRECTION_DOWNLINK,
        m5.FLOW_DIRECTION_UPLINK,
        m5.FLOW_DIRECTION_BIDIRECTIONAL,
    ):
        violations.append(
            FieldViolation(
                f"{path}.direction", "expected DOWNLINK, UPLINK or BIDIRECTIONAL: it says which end is the UE"
            )
        )
    ue, ue_name = (source, "src_ip") if uplink else (destination, "dst_ip")
    if ue is not None and ue.prefixlen < _UE_PREFIX_LENGTH[ue.version]:
        violations.append(
            FieldViolation(
                f"{path}.{ue_name}", f"expected the address of one UE (or its IPv6 /64 prefix), found the network {ue}"
            )
        )
    source_port = packet_filter.src_port if packet_filter.HasField("src_port") else None
    destination_port = packet_filter.dst_port if packet_filter.HasField("dst_port") else None
    protocol = packet_filter.protocol if packet_filter.HasField("protocol") else None
    if protocol is not None and protocol > 255:
        violations.append(FieldViolation(f"{path}.protocol", f"expected 0 to 255, found {protocol}"))
    for name, port in (("src_port", source_port), ("dst_port", destination_port)):
        if port is None:
            continue
        if port > 65535:
            violations.append(FieldViolation(f"{path}.{name}", f"expected 0 to 65535, found {port}"))
        if protocol is not None and protocol <= 255 and protocol not in PROTOCOLS_WITH_PORTS:
            known = ", ".join(map(str, PROTOCOLS_WITH_PORTS))
            violations.append(
                FieldViolation(f"{path}.{name}", f"protocol {protocol} has no ports (those that have: {known})")
            )
    if len(violations) > before:
        return None
    remote = destination if uplink else source
    ports = (destination_port, source_port) if uplink else (source_port, destination_port)
    return FlowDescription(remote=remote, ue=ue, protocol=protocol, remote_port=ports[0], ue_port=ports[1])


def _network(path: str, text: str, violations: list[FieldViolation]) -> IpNetwork | None:
    if not text:
        return None
    try:
        # "192.0.2.10/24" stands for the whole network, as in an IPFilterRule (RFC 6733 §4.3.1).
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        violations.append(FieldViolation(path, f"expected an IP address or prefix, found {text!r}"))
        return None
