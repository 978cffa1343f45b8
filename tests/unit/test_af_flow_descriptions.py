"""Service data flow descriptions: the IPFilterRule that each makes, whose flow it is, and what is refused by name."""

from __future__ import annotations

import ipaddress

import pytest

from nf.af import flow_descriptions
from nf.af.v1 import media_session_pb2 as m5
from nf.common.errors import InvalidArgument

DOWNLINK, UPLINK, BIDIRECTIONAL = (
    m5.FLOW_DIRECTION_DOWNLINK,
    m5.FLOW_DIRECTION_UPLINK,
    m5.FLOW_DIRECTION_BIDIRECTIONAL,
)
UE = ipaddress.ip_network("10.45.0.2")


def flow(**filter_set: object) -> m5.ServiceDataFlowDescription:
    filter_set.setdefault("direction", BIDIRECTIONAL)
    return m5.ServiceDataFlowDescription(flow_description=m5.IpPacketFilterSet(**filter_set))


def rule_of(description: m5.ServiceDataFlowDescription, ue: str = "10.45.0.2") -> str:
    (only,) = rules_of(description, ue)
    return only


def rules_of(description: m5.ServiceDataFlowDescription, ue: str = "10.45.0.2") -> list[str]:
    return flow_descriptions.parse([description])[0].ip_filter_rules(ipaddress.ip_network(ue))


@pytest.mark.clause("TS 26.512 A.3.2 step 6")
@pytest.mark.parametrize(
    ("description", "rule"),
    [
        (
            flow(src_ip="198.51.100.7", dst_ip="10.45.0.2", protocol=6, src_port=443, dst_port=50000),
            "permit out 6 from 198.51.100.7 443 to 10.45.0.2 50000",
        ),
        (
            flow(src_ip="198.51.100.7", dst_ip="10.45.0.2", protocol=17, src_port=443, direction=DOWNLINK),
            "permit out 17 from 198.51.100.7 443 to 10.45.0.2",
        ),
        (
            flow(src_ip="10.45.0.2", dst_ip="198.51.100.7", protocol=6, src_port=50000, dst_port=443, direction=UPLINK),
            "permit out 6 from 198.51.100.7 443 to 10.45.0.2 50000",
        ),
        (flow(src_ip="198.51.100.7", dst_ip="10.45.0.2"), "permit out ip from 198.51.100.7 to 10.45.0.2"),
        (flow(src_ip="198.51.100.7/24"), "permit out ip from 198.51.100.0/24 to 10.45.0.2"),
        (flow(dst_port=0, protocol=17), "permit out 17 from any to 10.45.0.2 0"),
        (flow(), "permit out ip from any to 10.45.0.2"),
        (flow(protocol=0), "permit out 0 from any to 10.45.0.2"),
    ],
    ids=["5-tuple", "downlink", "uplink", "2-tuple", "prefix", "port 0", "everything", "protocol 0"],
)
def test_a_flow_becomes_one_permit_out_rule_with_the_ue_as_destination(description, rule):
    assert rule_of(description) == rule


def test_an_ipv6_flow_may_name_the_prefix_of_its_ue():
    description = flow(src_ip="2001:db8:ff::7", dst_ip="2001:db8:1::/64", protocol=17, src_port=443)
    assert flow_descriptions.ue_side(flow_descriptions.parse([description])) == ipaddress.ip_network("2001:db8:1::/64")
    assert rule_of(description, "2001:db8:1::5") == "permit out 17 from 2001:db8:ff::7 443 to 2001:db8:1::/64"


def test_a_remote_end_of_another_ip_version_than_the_ue_is_refused():
    with pytest.raises(InvalidArgument, match="different IP versions"):
        rule_of(flow(src_ip="2001:db8::1"))


@pytest.mark.clause("TS 26.512 §6.4.3.1")
def test_a_mark_is_asked_of_packets_of_its_direction_alone():
    out = "permit out ip from 198.51.100.7 to 10.45.0.2"
    into = "permit in ip from 10.45.0.2 to 198.51.100.7"
    down = flow(src_ip="198.51.100.7", dst_ip="10.45.0.2", to_s_tc="B8FC", direction=DOWNLINK)
    up = flow(src_ip="10.45.0.2", dst_ip="198.51.100.7", to_s_tc="b8fc", direction=UPLINK)
    both = flow(src_ip="198.51.100.7", dst_ip="10.45.0.2", to_s_tc="b8fc")
    assert [rules_of(each) for each in (down, up, both)] == [[out], [into], [out, into]]
    assert flow_descriptions.parse([down])[0].marks.tos_traffic_class == "b8fc"


def test_a_flow_label_is_of_ipv6():
    labelled = flow(src_ip="2001:db8:ff::7", flow_label=0xABCDE, direction=DOWNLINK)
    assert rule_of(labelled, "2001:db8:1::5") == "permit out ip from 2001:db8:ff::7 to 2001:db8:1::5"
    assert flow_descriptions.parse([labelled])[0].marks.flow_label == 0xABCDE
    with pytest.raises(InvalidArgument, match=r"the UE 10\.45\.0\.2 has no flow labels"):
        rules_of(flow(flow_label=1))


@pytest.mark.clause("TS 26.512 §6.4.3.2")
@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("CDN.Example.com.", "cdn.example.com"),
        ("*.example.com", "*.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("_dash.example.com", "_dash.example.com"),
    ],
)
def test_a_name_becomes_any_packet_of_the_ue_that_has_it(written, name):
    (parsed,) = flow_descriptions.parse([m5.ServiceDataFlowDescription(domain_name=written)])
    assert parsed.domain_name == name
    assert parsed.ip_filter_rules(UE) == ["permit out ip from any to assigned"]


@pytest.mark.parametrize(
    ("description", "field", "why"),
    [
        (m5.ServiceDataFlowDescription(), "flows[0]", "found nothing"),
        (flow(src_ip="198.51.100"), "flows[0].flow_description.src_ip", "found '198.51.100'"),
        (flow(dst_ip="10.45.0.0/24"), "flows[0].flow_description.dst_ip", "the network 10.45.0.0/24"),
        (flow(src_ip="10.45.0.0/24", direction=UPLINK), "flows[0].flow_description.src_ip", "the network 10.45.0.0/24"),
        (flow(dst_ip="2001:db8::/56"), "flows[0].flow_description.dst_ip", "the network 2001:db8::/56"),
        (flow(src_ip="2001:db8::1", dst_ip="10.45.0.2"), "flows[0].flow_description", "different IP versions"),
        (flow(protocol=256), "flows[0].flow_description.protocol", "0 to 255, found 256"),
        (flow(src_port=65536), "flows[0].flow_description.src_port", "0 to 65535, found 65536"),
        (flow(protocol=1, dst_port=80), "flows[0].flow_description.dst_port", "protocol 1 has no ports"),
        (flow(to_s_tc="b8"), "flows[0].flow_description.to_s_tc", "four hexadecimal digits ('b8fc'), found 'b8'"),
        (flow(to_s_tc="b800"), "flows[0].flow_description.to_s_tc", "a mask that asks for a bit"),
        (flow(flow_label=0x100000), "flows[0].flow_description.flow_label", "0 to 1048575, found 1048576"),
        (flow(flow_label=1, src_ip="192.0.2.1"), "flows[0].flow_description.flow_label", "none with 192.0.2.1"),
        (flow(spi=7, protocol=17), "flows[0].flow_description.spi", "protocol 17 has none"),
        (flow(spi=7, dst_port=443), "flows[0].flow_description.dst_port", "none beside spi"),
        (m5.ServiceDataFlowDescription(domain_name=""), "flows[0].domain_name", "found the label ''"),
        (m5.ServiceDataFlowDescription(domain_name="a*.example"), "flows[0].domain_name", "found the label 'a*'"),
        (m5.ServiceDataFlowDescription(domain_name="192.0.2.1"), "flows[0].domain_name", "found the address"),
        (m5.ServiceDataFlowDescription(domain_name="a." * 130 + "b"), "flows[0].domain_name", "at most 253"),
        (
            m5.ServiceDataFlowDescription(flow_description=m5.IpPacketFilterSet(src_ip="198.51.100.7")),
            "flows[0].flow_description.direction",
            "DOWNLINK, UPLINK or BIDIRECTIONAL",
        ),
    ],
)
def test_a_wrong_flow_is_refused_with_its_property_and_what_was_expected(description, field, why):
    with pytest.raises(InvalidArgument) as refused:
        flow_descriptions.parse([description], "flows")
    assert [each.field for each in refused.value.violations] == [field]
    assert why in refused.value.violations[0].description


def test_every_wrong_property_of_every_flow_is_named_at_once():
    with pytest.raises(InvalidArgument) as refused:
        flow_descriptions.parse([flow(src_ip="x", protocol=300), flow(), flow(dst_port=70000)], "flows")
    assert [each.field for each in refused.value.violations] == [
        "flows[0].flow_description.src_ip",
        "flows[0].flow_description.protocol",
        "flows[2].flow_description.dst_port",
    ]


def test_the_flows_of_one_policy_name_one_ue():
    flows = flow_descriptions.parse(
        [flow(), flow(dst_ip="10.45.0.2"), flow(src_ip="10.45.0.2", direction=UPLINK), flow(src_ip="198.51.100.7")]
    )
    assert flow_descriptions.ue_side(flows) == UE
    assert flow_descriptions.ue_side(flow_descriptions.parse([flow(src_ip="198.51.100.7")])) is None
    with pytest.raises(InvalidArgument, match="one UE per policy") as refused:
        flow_descriptions.ue_side(flow_descriptions.parse([flow(dst_ip="10.45.0.2"), flow(dst_ip="10.45.0.3")]))
    assert refused.value.violations[0].field == "service_data_flow_descriptions[1].flow_description"


def test_addresses_of_one_ipv6_prefix_are_one_ue():
    named = [flow(src_ip="2001:db8:ff::1", dst_ip=ue, direction=3) for ue in ("2001:db8:1::a", "2001:db8:1::b")]
    flows = flow_descriptions.parse(named)
    assert flow_descriptions.ue_side(flows) == ipaddress.ip_network("2001:db8:1::/64")
    assert flow_descriptions.ue_side(flows[:1]) == ipaddress.ip_network("2001:db8:1::a")


def test_more_flows_than_any_player_opens_are_refused():
    one = flow(src_ip="198.51.100.7", dst_ip="10.45.0.2", direction=3)
    assert len(flow_descriptions.parse([one] * flow_descriptions.MAX_FLOWS)) == 1000
    with pytest.raises(InvalidArgument, match="expected at most 1000 flows, found 1001") as refused:
        flow_descriptions.parse([one] * 1001, "flows")
    assert [each.field for each in refused.value.violations] == ["flows"]
