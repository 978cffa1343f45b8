"""Flows of PCC rules at N4: their filters, their directions, and the order in which they are tried."""

from __future__ import annotations

import itertools

import pytest

from nf.pcf.v1.policy_authorization_pb2 import FlowDirection, FlowStatus
from nf.pcf.v1.sm_policy_control_pb2 import FlowInformation
from nf.smf.flows import ACCESS, CORE, concerned, interfaces_of, is_closed, precedence_of, sdf_filter
from upf.n4.v1.n4_pb2 import SdfFilter

ANYTHING = "permit out ip from any to assigned"
BOTH_FAMILIES = [("ipv4", "10.45.0.2"), ("ipv6", "2001:db8:1::/64")]


def test_what_packets_bear_is_asked_for_in_numbers() -> None:
    flow = FlowInformation(
        flow_description=ANYTHING,
        tos_traffic_class="b8fc",
        spi="00001234",
        flow_label="0abcde",
        domain_name="cdn.example.com",
    )
    assert sdf_filter(flow, 5) == SdfFilter(
        flow_description=ANYTHING,
        sdf_filter_id=5,
        tos_traffic_class=0xB8,
        tos_traffic_class_mask=0xFC,
        security_parameter_index=0x1234,
        flow_label=0xABCDE,
        domain_name="cdn.example.com",
    )
    zero = FlowInformation(flow_description=ANYTHING, tos_traffic_class="00ff", flow_label="0", spi="0")
    found = sdf_filter(zero, 5)
    assert (found.tos_traffic_class, found.tos_traffic_class_mask) == (0, 0xFF)
    assert all(found.HasField(name) for name in ("tos_traffic_class", "flow_label", "security_parameter_index"))


@pytest.mark.parametrize(
    ("direction", "interfaces"),
    [("UNSPECIFIED", (CORE, ACCESS)), ("BIDIRECTIONAL", (CORE, ACCESS)), ("DOWNLINK", (CORE,)), ("UPLINK", (ACCESS,))],
)
def test_packets_come_from_where_the_direction_says(direction: str, interfaces: tuple[int, ...]) -> None:
    assert interfaces_of(FlowInformation(flow_direction=FlowDirection.Value(f"FLOW_DIRECTION_{direction}"))) == (
        interfaces
    )


@pytest.mark.parametrize(
    ("status", "closed"),
    [
        ("UNSPECIFIED", []),
        ("ENABLED", []),
        ("ENABLED_UPLINK", [CORE]),
        ("ENABLED_DOWNLINK", [ACCESS]),
        ("DISABLED", [CORE, ACCESS]),
    ],
)
@pytest.mark.clause("TS 29.514 §5.6.3.12")
def test_a_gate_is_closed_for_what_is_not_enabled(status: str, closed: list[int]) -> None:
    flow = FlowInformation(flow_status=FlowStatus.Value(f"FLOW_STATUS_{status}"))
    assert [interface for interface in (CORE, ACCESS) if is_closed(flow, interface)] == closed


def test_a_flow_label_concerns_the_prefix_alone() -> None:
    labelled = FlowInformation(flow_description=ANYTHING, flow_label="1")
    assert concerned(labelled, BOTH_FAMILIES) == BOTH_FAMILIES[1:]
    # Who has no such address hears from the UPF what is wrong.
    assert concerned(labelled, BOTH_FAMILIES[:1]) == BOTH_FAMILIES[:1]


def test_the_specific_goes_before_the_general() -> None:
    ordered = [
        FlowInformation(flow_description="permit out 17 from 198.51.100.7 443 to 10.45.0.2 40000"),
        FlowInformation(flow_description="permit out 17 from 198.51.100.7 443 to 10.45.0.2"),
        FlowInformation(flow_description=ANYTHING, domain_name="a.cdn.example.com"),
        FlowInformation(flow_description=ANYTHING, domain_name="example.com"),
        FlowInformation(flow_description=ANYTHING, domain_name="*.example.com"),
        FlowInformation(flow_description="permit out ip from 198.51.100.7 to 10.45.0.2", tos_traffic_class="b8fc"),
        FlowInformation(flow_description="permit out 17 from 198.51.100.7 to 10.45.0.2"),
        FlowInformation(flow_description="permit out ip from 198.51.100.7 to 10.45.0.2"),
        FlowInformation(flow_description="permit out ip from 198.51.100.0/24 to 10.45.0.2"),
        FlowInformation(flow_description=ANYTHING, flow_label="1"),
        FlowInformation(flow_description=ANYTHING, tos_traffic_class="b8fc"),
        FlowInformation(flow_description=ANYTHING),
    ]
    ranks = [precedence_of(100, flow) for flow in ordered]
    assert all(before < after for before, after in itertools.pairwise(ranks))
    # The broadest flow of a rule comes before the narrowest of a rule that goes after it.
    assert precedence_of(100, ordered[-1]) < precedence_of(101, ordered[0])
    assert precedence_of(255, ordered[-1]) == 255 << 8 | 255
