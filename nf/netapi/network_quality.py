"""What the network can do of what an application needs (CAMARA Connectivity Insights 0.7); pure.

A rate can be had where it is guaranteed, or where so much is measured; loss is what the user plane has dropped. Delay
and jitter are not measured, and nothing is said of them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nf.netapi.usage import Measured
from nf.netapi.v1 import camara_insights_pb2 as v1
from nf.netapi.v1.booking_pb2 import BookedTraffic
from nf.netapi.v1.coverage_pb2 import QosProfile

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Provided:
    """What a device has by one access that is in use: rates that are guaranteed, and what was measured last."""

    guaranteed_downlink_bps: int
    guaranteed_uplink_bps: int
    measured: Measured | None


def assess(needed: QosProfile, provided: Sequence[Provided]) -> v1.NetworkQualityInsight:
    """What can be said of each demand by what a device has now; the best of its accesses counts."""
    found = v1.NetworkQualityInsight()
    if needed.guaranteed_downlink_bps:
        found.target_min_downstream_rate = _confidence(
            max(each.guaranteed_downlink_bps, each.measured.downlink_bps if each.measured is not None else 0)
            >= needed.guaranteed_downlink_bps
            for each in provided
        )
    if needed.guaranteed_uplink_bps:
        found.target_min_upstream_rate = _confidence(
            max(each.guaranteed_uplink_bps, each.measured.uplink_bps if each.measured is not None else 0)
            >= needed.guaranteed_uplink_bps
            for each in provided
        )
    losses = [
        each.measured.loss_ppm for each in provided if each.measured is not None and each.measured.loss_ppm is not None
    ]
    if needed.packet_error_loss_ppm and losses:
        found.packetloss_error_rate = _confidence([min(losses) <= needed.packet_error_loss_ppm])
    return found


def _confidence(met: Sequence[bool] | Iterator[bool]) -> v1.Confidence.ValueType:
    return v1.CONFIDENCE_MEETS if any(met) else v1.CONFIDENCE_UNABLE


def networks_of(server: v1.InsightsApplicationServer) -> list[Network]:
    """The addresses of an application server. Raises ValueError for what is no address and no prefix."""
    found: list[Network] = []
    if server.ipv4_address:
        found.append(ipaddress.IPv4Network(server.ipv4_address, strict=False))
    if server.ipv6_address:
        found.append(ipaddress.IPv6Network(server.ipv6_address, strict=False))
    return found


def port_ranges(ports: v1.InsightsPorts) -> list[tuple[int, int]]:
    """First and last of each range; none: every port."""
    return [(each.first, each.last) for each in ports.ranges] + [(each, each) for each in ports.ports]


def concerns(traffic: BookedTraffic, servers: Sequence[Network], ports: Sequence[tuple[int, int]]) -> bool:
    """Whether booked traffic may be to or from one of these servers: by its flows, or by names that may lead there."""
    if traffic.domain_names or not traffic.flow_descriptions:
        return True
    return any(_is_of(flow, servers, ports) for flow in traffic.flow_descriptions)


def _is_of(flow: str, servers: Sequence[Network], ports: Sequence[tuple[int, int]]) -> bool:
    """Whether a flow ("permit out 17 from 198.51.100.0/24 443 to assigned") may be of one of these servers."""
    words = flow.split()
    source, after = words[4], words[5]
    if after != "to" and ports:
        booked = [_range(each) for each in after.split(",")]
        if not any(first <= end and begin <= last for first, last in booked for begin, end in ports):
            return False
    if source == "any":
        return True
    network = ipaddress.ip_network(source, strict=False)
    return any(each.version == network.version and each.overlaps(network) for each in servers)


def _range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    return int(first), int(last or first)
