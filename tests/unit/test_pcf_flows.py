from __future__ import annotations

import pytest

from nf.pcf.errors import FilterRestrictions, InvalidServiceInformation
from nf.pcf.flows import downlink_form, flow_infos_of, pack_filt_id_of
from nf.pcf.v1.policy_authorization_pb2 import (
    AddFlowDescriptionInfo,
    FlowDirection,
    FlowStatus,
    MediaComponent,
    MediaSubComponent,
)
from nf.pcf.v1.sm_policy_control_pb2 import FlowInformation

DOWNLINK = "permit out 17 from 198.51.100.7 443 to 10.45.0.2"
OTHER = "permit out 6 from 198.51.100.7 443 to 10.45.0.2 40001"


def plain(description: str) -> FlowInformation:
    return FlowInformation(flow_description=description)


def component(*f_descs: str, f_status: FlowStatus.ValueType = FlowStatus.FLOW_STATUS_UNSPECIFIED) -> MediaComponent:
    return MediaComponent(med_sub_comps=[MediaSubComponent(f_num=1, f_descs=f_descs, f_status=f_status)])


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (DOWNLINK, DOWNLINK),
        ("  permit  out 17 from 198.51.100.7 443   to 10.45.0.2", DOWNLINK),
        ("permit in 17 from 10.45.0.2 to 198.51.100.7 443", DOWNLINK),
        ("permit in ip from assigned to any", "permit out ip from any to assigned"),
        (
            "permit in 6 from assigned 1,2-3 to 2001:db8::/32 443",
            "permit out 6 from 2001:db8::/32 443 to assigned 1,2-3",
        ),
    ],
)
def test_a_description_is_written_for_the_downlink(written: str, expected: str) -> None:
    assert downlink_form(written, field="f")[0] == expected


@pytest.mark.parametrize(
    "written",
    ["", "allow out 17 from any to any", "deny out 17 from any to any", "permit out 17 from any", "permit both"],
)
def test_what_is_no_description_is_refused_by_its_place(written: str) -> None:
    with pytest.raises(FilterRestrictions) as refusal:
        flow_infos_of([component(DOWNLINK), component(written)])
    assert refusal.value.violations[0].field == "asc_req_data.med_components[1].med_sub_comps[0].f_descs[0]"
    assert refusal.value.cause == "FILTER_RESTRICTIONS"


def test_a_flow_keeps_its_label_whatever_else_the_session_holds() -> None:
    alone = flow_infos_of([component(DOWNLINK)])
    second = flow_infos_of([component(OTHER), component(DOWNLINK)])
    assert alone[0].pack_filt_id == second[1].pack_filt_id == pack_filt_id_of(plain(DOWNLINK))
    assert second[0].pack_filt_id != second[1].pack_filt_id


def test_both_directions_of_one_flow_are_one_flow() -> None:
    flows = flow_infos_of([component(DOWNLINK, "permit in 17 from 10.45.0.2 to 198.51.100.7 443")])
    assert [flow.flow_description for flow in flows] == [DOWNLINK]


def test_two_descriptions_of_one_direction_are_refused() -> None:
    with pytest.raises(FilterRestrictions, match="at most one per direction"):
        flow_infos_of([component(DOWNLINK, OTHER)])


def test_three_descriptions_are_refused() -> None:
    with pytest.raises(FilterRestrictions, match="expected at most 2, got 3"):
        flow_infos_of([component(DOWNLINK, OTHER, DOWNLINK)])


def test_a_removed_flow_is_not_in_the_rule() -> None:
    removed = component(DOWNLINK, f_status=FlowStatus.FLOW_STATUS_REMOVED)
    assert [flow.flow_description for flow in flow_infos_of([removed, component(OTHER)])] == [OTHER]


def test_a_removed_component_takes_its_flows_along() -> None:
    removed = component(DOWNLINK)
    removed.f_status = FlowStatus.FLOW_STATUS_REMOVED
    assert flow_infos_of([removed]) == []


@pytest.mark.parametrize("status", ["DISABLED", "ENABLED_UPLINK", "ENABLED_DOWNLINK"])
def test_a_gate_is_the_flows_own_or_else_its_components(status: str) -> None:
    wanted = FlowStatus.Value(f"FLOW_STATUS_{status}")
    shut = component(DOWNLINK, f_status=wanted)
    (flow,) = flow_infos_of([shut])
    assert flow.flow_status == wanted
    inherited = component(DOWNLINK)
    inherited.f_status = wanted
    assert flow_infos_of([inherited]) == [flow]
    inherited.med_sub_comps[0].f_status = FlowStatus.FLOW_STATUS_ENABLED
    (opened,) = flow_infos_of([inherited])
    assert opened.flow_status == FlowStatus.FLOW_STATUS_UNSPECIFIED
    # Whether it passes or not, it is the same flow.
    assert opened.pack_filt_id == flow.pack_filt_id


def test_a_type_of_service_is_asked_for_in_the_directions_that_are_described() -> None:
    sub = MediaSubComponent(f_num=1, f_descs=[DOWNLINK], tos_tr_cl="B8FC")
    (down,) = flow_infos_of([MediaComponent(med_sub_comps=[sub])])
    assert (down.flow_description, down.tos_traffic_class) == (DOWNLINK, "b8fc")
    assert down.flow_direction == FlowDirection.FLOW_DIRECTION_DOWNLINK
    sub.f_descs.append("permit in 17 from 10.45.0.2 to 198.51.100.7 443")
    (both,) = flow_infos_of([MediaComponent(med_sub_comps=[sub])])
    assert both.flow_direction == FlowDirection.FLOW_DIRECTION_BIDIRECTIONAL
    assert len({down.pack_filt_id, both.pack_filt_id, pack_filt_id_of(plain(DOWNLINK))}) == 3


def test_each_direction_may_have_its_flow_label_or_spi() -> None:
    sub = MediaSubComponent(f_num=1, f_descs=[DOWNLINK])
    sub.add_info_flow_descs.add(flow_label="0ABCDE", flow_dir=FlowDirection.FLOW_DIRECTION_DOWNLINK)
    sub.add_info_flow_descs.add(spi="12", flow_dir=FlowDirection.FLOW_DIRECTION_UPLINK)
    down, up = flow_infos_of([MediaComponent(med_sub_comps=[sub])])
    assert (down.flow_label, down.spi, down.flow_direction) == ("0abcde", "", FlowDirection.FLOW_DIRECTION_DOWNLINK)
    assert (up.flow_label, up.spi, up.flow_direction) == ("", "12", FlowDirection.FLOW_DIRECTION_UPLINK)


def test_a_name_alone_is_about_any_packet_of_the_ue() -> None:
    named = MediaComponent(med_sub_comps=[MediaSubComponent(f_num=1, domain_name="cdn.example.com")])
    (flow,) = flow_infos_of([named])
    assert (flow.flow_description, flow.domain_name) == ("permit out ip from any to assigned", "cdn.example.com")
    assert flow.flow_direction == FlowDirection.FLOW_DIRECTION_UNSPECIFIED
    assert flow_infos_of([MediaComponent(med_sub_comps=[MediaSubComponent(f_num=1)])]) == []


@pytest.mark.parametrize(
    ("sub", "field", "why"),
    [
        ({"tos_tr_cl": "b8"}, "tos_tr_cl", "four hexadecimal digits"),
        ({"tos_tr_cl": "b800"}, "tos_tr_cl", "the mask not 00"),
        ({"add_info_flow_descs": [AddFlowDescriptionInfo()]}, "add_info_flow_descs[0]", "an spi or a flow_label"),
        ({"add_info_flow_descs": [AddFlowDescriptionInfo(spi="g")]}, "add_info_flow_descs[0].spi", "'g'"),
        (
            {"add_info_flow_descs": [AddFlowDescriptionInfo(flow_label="100000")]},
            "add_info_flow_descs[0].flow_label",
            "up to fffff",
        ),
        (
            {"add_info_flow_descs": [AddFlowDescriptionInfo(spi="1"), AddFlowDescriptionInfo(spi="2")]},
            "add_info_flow_descs",
            "at most one per direction",
        ),
    ],
)
def test_what_packets_cannot_bear_is_refused_by_its_place(sub: dict[str, object], field: str, why: str) -> None:
    with pytest.raises(FilterRestrictions, match=why) as refusal:
        flow_infos_of([MediaComponent(med_sub_comps=[MediaSubComponent(f_num=1, f_descs=[DOWNLINK], **sub)])])
    assert refusal.value.violations[0].field == f"asc_req_data.med_components[0].med_sub_comps[0].{field}"


def test_a_flow_status_that_nobody_knows_is_refused() -> None:
    with pytest.raises(InvalidServiceInformation, match="ENABLED, DISABLED, REMOVED, got 99"):
        flow_infos_of([component(DOWNLINK, f_status=FlowStatus.ValueType(99))])
