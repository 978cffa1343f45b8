from __future__ import annotations

import pytest

from nf.pcf.errors import FilterRestrictions, InvalidServiceInformation
from nf.pcf.flows import downlink_form, flow_infos_of, pack_filt_id_of
from nf.pcf.v1.policy_authorization_pb2 import FlowStatus, MediaComponent, MediaSubComponent

DOWNLINK = "permit out 17 from 198.51.100.7 443 to 10.45.0.2"
OTHER = "permit out 6 from 198.51.100.7 443 to 10.45.0.2 40001"


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
    assert downlink_form(written, field="f") == expected


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
    assert alone[0].pack_filt_id == second[1].pack_filt_id == pack_filt_id_of(DOWNLINK)
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
def test_a_gate_cannot_be_asked_for(status: str) -> None:
    with pytest.raises(InvalidServiceInformation, match=f"got {status}: the user plane has no gates"):
        flow_infos_of([component(DOWNLINK, f_status=FlowStatus.Value(f"FLOW_STATUS_{status}"))])


def test_a_type_of_service_cannot_be_detected_yet() -> None:
    marked = MediaComponent(med_sub_comps=[MediaSubComponent(f_num=1, tos_tr_cl="b8fc")])
    with pytest.raises(FilterRestrictions, match="b8fc"):
        flow_infos_of([marked])


def test_a_flow_status_that_nobody_knows_is_refused() -> None:
    with pytest.raises(InvalidServiceInformation, match="expected ENABLED or REMOVED, got 99"):
        flow_infos_of([component(DOWNLINK, f_status=FlowStatus.ValueType(99))])
