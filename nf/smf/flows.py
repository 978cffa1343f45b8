"""The flows of PCC rules at N4: what detects them, for which UE address, and which goes first (TS 29.244 §5.2.1A).

Pure. What the UPF cannot detect it refuses in its own words.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import ip_network
from itertools import pairwise
from typing import Final

from nf.pcf.v1.policy_authorization_pb2 import FlowDirection, FlowStatus
from nf.pcf.v1.sm_policy_control_pb2 import FlowInformation
from upf.n4.v1.n4_pb2 import SdfFilter, SourceInterface

ACCESS: Final = SourceInterface.SOURCE_INTERFACE_ACCESS
CORE: Final = SourceInterface.SOURCE_INTERFACE_CORE

_DOWNLINK: Final = FlowDirection.FLOW_DIRECTION_DOWNLINK
_UPLINK: Final = FlowDirection.FLOW_DIRECTION_UPLINK
_DISABLED: Final = FlowStatus.FLOW_STATUS_DISABLED
_ENABLED_UPLINK: Final = FlowStatus.FLOW_STATUS_ENABLED_UPLINK
_ENABLED_DOWNLINK: Final = FlowStatus.FLOW_STATUS_ENABLED_DOWNLINK
_ANY: Final = ("any", "assigned")
# Bits below the precedence of the rule, by which its flows and those of its equals are put in order.
_BREADTH_BITS: Final = 8
_BROADEST: Final = 2**_BREADTH_BITS - 1


def sdf_filter(flow: FlowInformation, sdf_filter_id: int) -> SdfFilter:
    """The filter that detects the flow; ``flow`` has passed ``check_decision``."""
    found = SdfFilter(flow_description=flow.flow_description, sdf_filter_id=sdf_filter_id, domain_name=flow.domain_name)
    if flow.tos_traffic_class:
        found.tos_traffic_class = int(flow.tos_traffic_class[:2], 16)
        found.tos_traffic_class_mask = int(flow.tos_traffic_class[2:], 16)
    if flow.spi:
        found.security_parameter_index = int(flow.spi, 16)
    if flow.flow_label:
        found.flow_label = int(flow.flow_label, 16)
    return found


def interfaces_of(flow: FlowInformation) -> tuple[SourceInterface.ValueType, ...]:
    """Where packets of the flow come from."""
    if flow.flow_direction == _DOWNLINK:
        return (CORE,)
    if flow.flow_direction == _UPLINK:
        return (ACCESS,)
    return (CORE, ACCESS)


def is_closed(flow: FlowInformation, interface: SourceInterface.ValueType) -> bool:
    """Whether packets of the flow that come from there are to be dropped (TS 29.514 FlowStatus)."""
    only = _ENABLED_UPLINK if interface == CORE else _ENABLED_DOWNLINK
    return flow.flow_status in (_DISABLED, only)


def concerned(flow: FlowInformation, addresses: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of the UE's addresses, each with its family, that the flow can be about.

    All of them where it can be about none: the UPF says what is wrong with it.
    """
    return [each for each in addresses if _concerns(flow, each[0])] or list(addresses)


def _concerns(flow: FlowInformation, family: str) -> bool:
    words = flow.flow_description.split()
    mentioned = {
        "ipv6" if ":" in word else "ipv4"
        for previous, word in pairwise(words)
        if previous in ("from", "to") and word not in _ANY
    }
    if flow.flow_label:
        return family == "ipv6" and mentioned <= {"ipv6"}
    return not mentioned or family in mentioned


def precedence_of(rule_precedence: int, flow: FlowInformation) -> int:
    """The precedence of the flow's PDRs, lower first: that of its rule, then specific before general.

    Ports say more than a name, a name more than an address, an address more than a protocol or a mark.
    """
    return rule_precedence << _BREADTH_BITS | max(0, _BROADEST - _narrowness(flow))


def _narrowness(flow: FlowInformation) -> int:
    """How much the flow asks for, as far as that can be read."""
    words = flow.flow_description.split()
    narrowness = 0
    if "from" in words and "to" in words:
        at, to = words.index("from"), words.index("to")
        narrowness += 64 * (to - at > 2) + 64 * (len(words) - to > 2)
        narrowness += _narrowness_of_address(words[at + 1])
        narrowness += 4 * (words[at - 1] != "ip")
    if flow.domain_name:
        narrowness += 46 - 4 * flow.domain_name.startswith("*.") + min(3, flow.domain_name.count("."))
    if flow.tos_traffic_class:
        narrowness += int(flow.tos_traffic_class[2:], 16).bit_count()
    return narrowness + 16 * bool(flow.flow_label) + 16 * bool(flow.spi)


@lru_cache(maxsize=4096)
def _narrowness_of_address(word: str) -> int:
    try:
        network = ip_network(word, strict=False)
    except ValueError:
        return 0
    return 32 * network.prefixlen // network.max_prefixlen
