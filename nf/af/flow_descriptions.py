"""Service data flow descriptions as IPFilterRules, and whose flows they are (TS 26.512 §6.4.3, TS 29.214 §5.3.8).

One "permit out" rule, written for the downlink, detects both directions of a flow on N5, N7 and N4. So the direction of
an IpPacketFilterSet says here which of its ends is the UE's. What its packets bear (type of service, flow label, SPI)
is another thing in each direction: packets are asked for it in that direction alone.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from nf.af.domain_names import parse_domain_name
from nf.af.v1 import media_session_pb2 as m5
from nf.common.errors import FieldViolation, InvalidArgument

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

# TCP, UDP, DCCP, SCTP, UDP-Lite: the protocols whose ports the user plane reads.
PROTOCOLS_WITH_PORTS = (6, 17, 33, 132, 136)
# ESP, AH: the protocols that have a security parameter index.
PROTOCOLS_WITH_SPI = (50, 51)
# How flows may be described, as the user plane detects them.
SDF_METHODS = (
    m5.SDF_METHOD_FIVE_TUPLE,
    m5.SDF_METHOD_TWO_TUPLE,
    m5.SDF_METHOD_TYPE_OF_SERVICE_MARKING,
    m5.SDF_METHOD_FLOW_LABEL,
    m5.SDF_METHOD_DOMAIN_NAME,
)
# More than any player opens. Every flow costs the user plane two rules, while every UE waits.
MAX_FLOWS = 1000
MAX_FLOW_LABEL = 0xFFFFF
# A UE owns a whole IPv6 prefix of this length (TS 23.501 §5.8.2.2.3), and one IPv4 address.
_UE_PREFIX_LENGTH = {4: 32, 6: 64}
_TOS = re.compile(r"[0-9A-Fa-f]{4}")


@dataclass(frozen=True, slots=True)
class Marks:
    """What packets have to bear in the direction of their description."""

    # Type of service or traffic class and its mask, four hexadecimal digits; empty: any.
    tos_traffic_class: str = ""
    flow_label: int | None = None
    spi: int | None = None

    def __bool__(self) -> bool:
        return bool(self.tos_traffic_class) or self.flow_label is not None or self.spi is not None


@dataclass(frozen=True, slots=True)
class FlowDescription:
    """A checked description, written for the downlink: ``remote`` → ``ue``. None stands for any."""

    remote: IpNetwork | None = None
    ue: IpNetwork | None = None
    protocol: int | None = None
    remote_port: int | None = None
    ue_port: int | None = None
    direction: m5.FlowDirection.ValueType = m5.FLOW_DIRECTION_BIDIRECTIONAL
    marks: Marks = Marks()
    # The server's name, or "*." and what it ends in. With it, nothing else is set.
    domain_name: str = ""

    def ip_filter_rules(self, ue_address: IpNetwork) -> list[str]:
        """The rules: "permit out", or one for each direction whose packets are asked for marks.

        ``ue_address`` stands in where the flow names no UE; one by name is about all addresses of its PDU session.
        Raises InvalidArgument when the two ends are of different IP versions, or a flow label is asked of IPv4.
        """
        if self.domain_name:
            return ["permit out ip from any to assigned"]
        ue = self.ue or ue_address
        if self.remote is not None and self.remote.version != ue.version:
            raise InvalidArgument.of(
                "service_data_flow_descriptions",
                f"the remote end {text_of(self.remote)} and the UE {text_of(ue)} are of different IP versions",
            )
        if self.marks.flow_label is not None and ue.version != 6:
            raise InvalidArgument.of(
                "service_data_flow_descriptions", f"the UE {text_of(ue)} has no flow labels: they are of IPv6"
            )
        protocol = "ip" if self.protocol is None else str(self.protocol)
        remote = "any" if self.remote is None else text_of(self.remote)
        remote_end = remote if self.remote_port is None else f"{remote} {self.remote_port}"
        ue_end = text_of(ue) if self.ue_port is None else f"{text_of(ue)} {self.ue_port}"
        rules = []
        if not self.marks or self.direction != m5.FLOW_DIRECTION_UPLINK:
            rules.append(f"permit out {protocol} from {remote_end} to {ue_end}")
        if self.marks and self.direction != m5.FLOW_DIRECTION_DOWNLINK:
            rules.append(f"permit in {protocol} from {ue_end} to {remote_end}")
        return rules


def parse(
    descriptions: Sequence[m5.ServiceDataFlowDescription], field: str = "service_data_flow_descriptions"
) -> tuple[FlowDescription, ...]:
    """Checks the flows of a request; ``field`` is their path in it.

    Raises InvalidArgument with a violation for every property at fault.
    """
    if len(descriptions) > MAX_FLOWS:
        raise InvalidArgument.of(field, f"expected at most {MAX_FLOWS} flows, found {len(descriptions)}")
    violations: list[FieldViolation] = []
    flows = [_parse_one(f"{field}[{index}]", each, violations) for index, each in enumerate(descriptions)]
    if violations:
        raise InvalidArgument.of_all(violations)
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
                f"names the UE {text_of(other)}, but {field}[{first_index}] names {text_of(first)}: one UE per policy",
            )
    return first if all(ue == first for _, ue in named) else ue_prefix(first)


def is_same_ue(one: IpNetwork, other: IpNetwork) -> bool:
    """Whether two addresses or prefixes are one UE's: it may use any address of its IPv6 prefix, and changes them."""
    return one == other or ue_prefix(one) == ue_prefix(other)


def ue_prefix(ue: IpNetwork) -> IpNetwork:
    """All that the UE of an address owns."""
    length = _UE_PREFIX_LENGTH[ue.version]
    return ue.supernet(new_prefix=length) if ue.prefixlen > length else ue


def host_network(address: IpAddress) -> IpNetwork:
    """The network of one address; an IPv4 address in IPv6 clothes (::ffff:a.b.c.d) is taken as what it is."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return network(str(address))


# The same few addresses come again and again: UEs and servers.
@lru_cache(maxsize=4096)
def network(text: str) -> IpNetwork:
    """The network of an address or prefix, which may have bits beyond its length. Raises ValueError."""
    return ipaddress.ip_network(text, strict=False)


@lru_cache(maxsize=4096)
def text_of(network: IpNetwork) -> str:
    """How a network is written: an address where it is one alone."""
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _parse_one(
    path: str, description: m5.ServiceDataFlowDescription, violations: list[FieldViolation]
) -> FlowDescription | None:
    kind = description.WhichOneof("description")
    if kind is None:
        violations.append(FieldViolation(path, "expected a flow_description or a domain_name, found nothing"))
        return None
    if kind == "domain_name":
        try:
            return FlowDescription(domain_name=parse_domain_name(description.domain_name))
        except ValueError as error:
            violations.append(FieldViolation(f"{path}.domain_name", str(error)))
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
    _check_ports(path, packet_filter, violations)
    marks = _marks(path, packet_filter, source or destination, violations)
    if len(violations) > before:
        return None
    remote = destination if uplink else source
    source_port = packet_filter.src_port if packet_filter.HasField("src_port") else None
    destination_port = packet_filter.dst_port if packet_filter.HasField("dst_port") else None
    ports = (destination_port, source_port) if uplink else (source_port, destination_port)
    return FlowDescription(
        remote=remote,
        ue=ue,
        protocol=packet_filter.protocol if packet_filter.HasField("protocol") else None,
        remote_port=ports[0],
        ue_port=ports[1],
        direction=packet_filter.direction,
        marks=marks,
    )


def _check_ports(path: str, packet_filter: m5.IpPacketFilterSet, violations: list[FieldViolation]) -> None:
    protocol = packet_filter.protocol if packet_filter.HasField("protocol") else None
    if protocol is not None and protocol > 255:
        violations.append(FieldViolation(f"{path}.protocol", f"expected 0 to 255, found {protocol}"))
    for name, present, port in (
        ("src_port", packet_filter.HasField("src_port"), packet_filter.src_port),
        ("dst_port", packet_filter.HasField("dst_port"), packet_filter.dst_port),
    ):
        if not present:
            continue
        if port > 65535:
            violations.append(FieldViolation(f"{path}.{name}", f"expected 0 to 65535, found {port}"))
        if protocol is not None and protocol <= 255 and protocol not in PROTOCOLS_WITH_PORTS:
            known = ", ".join(map(str, PROTOCOLS_WITH_PORTS))
            violations.append(
                FieldViolation(f"{path}.{name}", f"protocol {protocol} has no ports (those that have: {known})")
            )
        if packet_filter.HasField("spi"):
            violations.append(FieldViolation(f"{path}.{name}", "expected none beside spi: ESP and AH have no ports"))


def _marks(
    path: str, packet_filter: m5.IpPacketFilterSet, end: IpNetwork | None, violations: list[FieldViolation]
) -> Marks:
    """What packets are asked to bear; ``end`` is one of the filter's ends, if it names any."""
    tos = packet_filter.to_s_tc.lower()
    if tos and not _TOS.fullmatch(tos):
        why = f"expected value and mask, four hexadecimal digits ('b8fc'), found {packet_filter.to_s_tc!r}"
        violations.append(FieldViolation(f"{path}.to_s_tc", why))
    elif tos.endswith("00"):
        why = f"expected a mask that asks for a bit, found {packet_filter.to_s_tc!r}"
        violations.append(FieldViolation(f"{path}.to_s_tc", why))
    flow_label = packet_filter.flow_label if packet_filter.HasField("flow_label") else None
    if flow_label is not None and flow_label > MAX_FLOW_LABEL:
        why = f"expected 0 to {MAX_FLOW_LABEL}, found {flow_label}"
        violations.append(FieldViolation(f"{path}.flow_label", why))
    if flow_label is not None and end is not None and end.version != 6:
        violations.append(FieldViolation(f"{path}.flow_label", f"expected none with {text_of(end)}: it is of IPv6"))
    spi = packet_filter.spi if packet_filter.HasField("spi") else None
    protocol = packet_filter.protocol if packet_filter.HasField("protocol") else None
    if spi is not None and protocol is not None and protocol not in PROTOCOLS_WITH_SPI:
        known = ", ".join(map(str, PROTOCOLS_WITH_SPI))
        violations.append(FieldViolation(f"{path}.spi", f"protocol {protocol} has none (those that have: {known})"))
    return Marks(tos_traffic_class=tos, flow_label=flow_label, spi=spi)


def _network(path: str, text: str, violations: list[FieldViolation]) -> IpNetwork | None:
    if not text:
        return None
    try:
        # "192.0.2.10/24" stands for the whole network, as in an IPFilterRule (RFC 6733 §4.3.1).
        return network(text)
    except ValueError:
        violations.append(FieldViolation(path, f"expected an IP address or prefix, found {text!r}"))
        return None
