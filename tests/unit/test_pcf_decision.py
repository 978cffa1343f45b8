from __future__ import annotations

import pytest

from nf.common.v1.types_pb2 import EnforcementMethod, Snssai, SponsoringStatus
from nf.pcf.decision import Decision, check_subscriber, decide, default_rule
from nf.pcf.errors import InvalidServiceInformation, RequestedServiceNotAuthorized
from nf.pcf.policies import MARK, MONITOR, POLICE, SHAPE, ZERO_RATE
from nf.pcf.rating import RATING_GROUP_ORDINARY, RATING_GROUP_ZERO_RATED
from nf.pcf.requests import check_service_information
from nf.pcf.v1.operator_policies_pb2 import OperatorPolicy, QosReference
from nf.pcf.v1.policy_authorization_pb2 import (
    AppSessionContextReqData,
    Enforcement,
    FlowStatus,
    MediaComponent,
    MediaSubComponent,
)
from nf.pcf.v1.sm_policy_control_pb2 import ChargingData, QosData, SmPolicy

MBPS = 1_000_000
FLOW = "permit out 17 from 198.51.100.7 443 to 10.45.0.2"
UNSPECIFIED = EnforcementMethod.ENFORCEMENT_METHOD_UNSPECIFIED


def request(
    *,
    requested: int | None = None,
    authorised: int | None = None,
    least: int | None = None,
    sponsor: str = "",
    status: SponsoringStatus.ValueType = SponsoringStatus.SPONSORING_STATUS_UNSPECIFIED,
) -> AppSessionContextReqData:
    component = MediaComponent(
        med_comp_n=1,
        mar_bw_dl_bps=requested,
        max_auth_bw_dl_bps=authorised,
        mir_bw_dl_bps=least,
        med_sub_comps=[MediaSubComponent(f_num=1, f_descs=[FLOW])],
    )
    return AppSessionContextReqData(spon_id=sponsor, spon_status=status, med_components=[component])


def decided(asked: AppSessionContextReqData, *policies: OperatorPolicy) -> Enforcement:
    return decide(asked, dnn="internet", slice_info=Snssai(sst=1), policies=policies).enforcement


@pytest.mark.parametrize(
    ("operator", "authorised", "requested", "expected"),
    [
        (None, None, None, 0),
        (None, None, 5 * MBPS, 5 * MBPS),
        (None, 4 * MBPS, None, 4 * MBPS),
        (None, 4 * MBPS, 5 * MBPS, 4 * MBPS),
        (None, 5 * MBPS, 4 * MBPS, 4 * MBPS),
        (3 * MBPS, None, None, 3 * MBPS),
        (3 * MBPS, 4 * MBPS, 5 * MBPS, 3 * MBPS),
        (6 * MBPS, 4 * MBPS, 5 * MBPS, 4 * MBPS),
        (6 * MBPS, 5 * MBPS, 4 * MBPS, 4 * MBPS),
    ],
)
@pytest.mark.clause("TS 26.512 A.3.1")
@pytest.mark.clause("TS 26.512 A.3.2 step 6")
def test_the_threshold_is_the_least_of_operator_authorised_and_requested_rate(
    operator: int | None, authorised: int | None, requested: int | None, expected: int
) -> None:
    policies = [OperatorPolicy(operator_policy_id="p", threshold_dl_bps=operator)] if operator else []
    enforcement = decided(request(requested=requested, authorised=authorised), *policies)
    assert enforcement.enforcement_bit_rate_dl_bps == expected
    assert enforcement.enforcement_method == (MONITOR if expected else UNSPECIFIED)
    assert enforcement.operator_policy_id == ("p" if operator else "")


@pytest.mark.clause("TS 26.512 A.3.1")
def test_monitoring_is_the_default_and_the_operator_may_police() -> None:
    police = OperatorPolicy(operator_policy_id="p", enforcement_method=POLICE)
    assert decided(request(requested=MBPS)).enforcement_method == MONITOR
    assert decided(request(requested=MBPS), police).enforcement_method == POLICE


def test_the_rule_carries_flows_rates_burst_and_rating_groups() -> None:
    policy = OperatorPolicy(operator_policy_id="p", threshold_ul_bps=2 * MBPS, burst_bytes=15_000)
    decision = decide(
        request(requested=5 * MBPS, sponsor="acme"), dnn="internet", slice_info=Snssai(sst=1), policies=[policy]
    )
    rule = decision.pcc_rule("s.1")
    assert (rule.pcc_rule_id, rule.precedence) == ("s.1", 100)
    assert [flow.flow_description for flow in rule.flow_infos] == [FLOW]
    assert rule.qos == QosData(
        max_br_dl_bps=5 * MBPS, max_br_ul_bps=2 * MBPS, burst_bytes=15_000, enforcement_method=MONITOR
    )
    assert rule.charging == ChargingData(
        rating_group=RATING_GROUP_ZERO_RATED, excess_rating_group=RATING_GROUP_ORDINARY, sponsor_id="acme"
    )


def test_the_operator_may_spare_the_excess_too() -> None:
    policy = OperatorPolicy(operator_policy_id="p", threshold_dl_bps=MBPS, excess=ZERO_RATE)
    charging = decide(request(), dnn="internet", slice_info=Snssai(sst=1), policies=[policy]).charging
    assert (charging.rating_group, charging.excess_rating_group) == (RATING_GROUP_ZERO_RATED, RATING_GROUP_ZERO_RATED)


def test_without_a_threshold_nothing_is_enforced_and_all_is_charged() -> None:
    decision = decide(request(sponsor="acme"), dnn="internet", slice_info=Snssai(sst=1), policies=[])
    assert decision.qos is None
    assert not decision.pcc_rule("s").HasField("qos")
    assert decision.charging == ChargingData(
        rating_group=RATING_GROUP_ORDINARY, excess_rating_group=RATING_GROUP_ORDINARY
    )
    assert decision.enforcement == Enforcement()


def test_a_disabled_sponsor_pays_for_nothing() -> None:
    disabled = SponsoringStatus.SPONSORING_STATUS_SPONSOR_DISABLED
    policy = OperatorPolicy(operator_policy_id="p", threshold_dl_bps=MBPS, enforcement_method=POLICE)
    asked = request(requested=5 * MBPS, sponsor="acme", status=disabled)
    decision = decide(asked, dnn="internet", slice_info=Snssai(sst=1), policies=[policy])
    assert decision.qos is None
    assert decision.enforcement == Enforcement()
    assert decision.charging.rating_group == RATING_GROUP_ORDINARY
    assert len(decision.flow_infos) == 1


@pytest.mark.clause("TS 29.514 §5.7.3")
def test_a_threshold_below_what_is_of_use_is_refused() -> None:
    policy = OperatorPolicy(operator_policy_id="strict", threshold_dl_bps=MBPS)
    with pytest.raises(RequestedServiceNotAuthorized) as refusal:
        decided(request(least=MBPS + 1), policy)
    assert refusal.value.cause == "REQUESTED_SERVICE_NOT_AUTHORIZED"
    assert refusal.value.message == (
        "mir_bw_dl_bps: at least 1000001 bit/s are needed, 1000000 bit/s are authorised by operator policy 'strict'"
    )
    assert decided(request(least=MBPS), policy).enforcement_bit_rate_dl_bps == MBPS


def test_components_share_one_threshold() -> None:
    asked = request(requested=4 * MBPS)
    asked.med_components.add(med_comp_n=2, mar_bw_dl_bps=128_000, mir_bw_dl_bps=64_000)
    assert decided(asked).enforcement_bit_rate_dl_bps == 4_128_000
    policy = OperatorPolicy(operator_policy_id="p", threshold_dl_bps=4 * MBPS)
    assert decided(asked, policy).enforcement_bit_rate_dl_bps == 4 * MBPS


def test_a_component_that_asks_for_no_bound_leaves_the_session_unbound() -> None:
    asked = request(requested=4 * MBPS)
    asked.med_components.add(med_comp_n=2)
    assert decided(asked).enforcement_bit_rate_dl_bps == 0


def test_a_removed_component_asks_for_nothing() -> None:
    asked = request(requested=4 * MBPS)
    asked.med_components.add(med_comp_n=2, mar_bw_dl_bps=MBPS, f_status=FlowStatus.FLOW_STATUS_REMOVED)
    assert decided(asked).enforcement_bit_rate_dl_bps == 4 * MBPS


GOLD = QosReference(
    qos_reference="gold", max_br_dl_bps=4 * MBPS, gbr_dl_bps=2 * MBPS, max_br_ul_bps=MBPS, precedence=20
)


def decide_by(asked: AppSessionContextReqData, *policies: OperatorPolicy) -> Decision:
    return decide(
        asked, dnn="internet", slice_info=Snssai(sst=1), policies=policies, arranged={GOLD.qos_reference: GOLD}
    )


def golden(**asked: int) -> AppSessionContextReqData:
    wanted = request(**asked)
    wanted.med_components[0].qos_reference = "gold"
    return wanted


def test_a_qos_reference_bounds_guarantees_and_says_when_its_rule_is_tried() -> None:
    decision = decide_by(golden(requested=6 * MBPS))
    assert decision.enforcement == Enforcement(
        enforcement_method=MONITOR,
        enforcement_bit_rate_dl_bps=4 * MBPS,
        enforcement_bit_rate_ul_bps=MBPS,
        guaranteed_bit_rate_dl_bps=2 * MBPS,
    )
    assert decision.qos is not None
    assert (decision.qos.gbr_dl_bps, decision.qos.HasField("gbr_ul_bps")) == (2 * MBPS, False)
    assert decision.pcc_rule("s").precedence == 20
    assert decide_by(golden()).enforcement.enforcement_bit_rate_dl_bps == 4 * MBPS
    assert decide_by(golden(requested=3 * MBPS)).enforcement.enforcement_bit_rate_dl_bps == 3 * MBPS


def test_what_a_reference_guarantees_has_to_fit_under_the_threshold() -> None:
    policy = OperatorPolicy(operator_policy_id="p", threshold_dl_bps=MBPS)
    with pytest.raises(RequestedServiceNotAuthorized, match="at least 2000000 bit/s are needed, 1000000"):
        decide_by(golden(), policy)


def test_what_media_need_is_guaranteed_where_the_operator_says_so() -> None:
    asked = request(requested=5 * MBPS, least=2 * MBPS)
    assert decide_by(asked).enforcement.guaranteed_bit_rate_dl_bps == 0
    policy = OperatorPolicy(operator_policy_id="p", guaranteed=True, precedence=7)
    decision = decide_by(asked, policy)
    assert decision.enforcement.guaranteed_bit_rate_dl_bps == 2 * MBPS
    assert decision.qos is not None
    assert (decision.qos.gbr_dl_bps, decision.qos.max_br_dl_bps) == (2 * MBPS, 5 * MBPS)
    assert decision.pcc_rule("s").precedence == 7


def booked(method: EnforcementMethod.ValueType = POLICE) -> AppSessionContextReqData:
    """What a trusted AF asks for that wants its bandwidth policed and the least of it guaranteed."""
    asked = request(requested=5 * MBPS, least=2 * MBPS, sponsor="platform")
    asked.med_components[0].MergeFrom(MediaComponent(enforcement_method=method, guaranteed=True, five_qi=3))
    return asked


def test_a_trusted_af_may_ask_for_policing_and_a_guarantee() -> None:
    decision = decide_by(booked())
    assert decision.enforcement == Enforcement(
        enforcement_method=POLICE, enforcement_bit_rate_dl_bps=5 * MBPS, guaranteed_bit_rate_dl_bps=2 * MBPS
    )
    assert decision.qos == QosData(max_br_dl_bps=5 * MBPS, gbr_dl_bps=2 * MBPS, enforcement_method=POLICE, five_qi=3)


def test_an_operator_policy_that_names_a_method_goes_before_what_an_af_asks_for() -> None:
    monitor = OperatorPolicy(operator_policy_id="p", enforcement_method=MONITOR, sponsor_id="platform")
    assert decided(booked(), monitor).enforcement_method == MONITOR
    silent = OperatorPolicy(operator_policy_id="p", threshold_dl_bps=3 * MBPS)
    assert decided(booked(), silent) == Enforcement(
        enforcement_method=POLICE,
        enforcement_bit_rate_dl_bps=3 * MBPS,
        guaranteed_bit_rate_dl_bps=2 * MBPS,
        operator_policy_id="p",
    )


@pytest.mark.parametrize(
    ("changes", "field", "found"),
    [
        ({"enforcement_method": MARK}, "asc_req_data.med_components[0].enforcement_method", "got MARK"),
        ({"five_qi": 256}, "asc_req_data.med_components[0].five_qi", "got 256"),
    ],
)
def test_what_no_af_may_ask_for_is_refused_by_its_field(changes: dict[str, int], field: str, found: str) -> None:
    asked = booked()
    asked.ue_ipv4 = "10.45.0.2"
    asked.med_components[0].MergeFrom(MediaComponent(**changes))  # type: ignore[arg-type]
    with pytest.raises(InvalidServiceInformation, match=found) as refusal:
        check_service_information(asked)
    assert [each.field for each in refusal.value.violations] == [field]


def test_components_that_share_a_bit_rate_ask_for_one_method() -> None:
    asked = booked()
    asked.ue_ipv4 = "10.45.0.2"
    other = asked.med_components.add(med_comp_n=2, enforcement_method=SHAPE, five_qi=3)
    with pytest.raises(InvalidServiceInformation, match="expected one enforcement_method for all components"):
        check_service_information(asked)
    other.enforcement_method = POLICE
    check_service_information(asked)


def test_marking_and_shaping_come_with_what_the_operator_lays_down_for_them() -> None:
    mark = OperatorPolicy(operator_policy_id="p", enforcement_method=MARK, dscp_green=18, dscp_red=10)
    assert decide_by(request(requested=MBPS), mark).qos == QosData(
        max_br_dl_bps=MBPS, enforcement_method=MARK, dscp_green=18, dscp_red=10
    )
    shape = OperatorPolicy(operator_policy_id="p", enforcement_method=SHAPE, queue_bytes=60_000, guaranteed=True)
    decision = decide_by(request(requested=MBPS, least=MBPS), shape)
    # A queue has one rate.
    assert decision.qos == QosData(max_br_dl_bps=MBPS, enforcement_method=SHAPE, queue_bytes=60_000)
    assert decision.enforcement.guaranteed_bit_rate_dl_bps == MBPS


def test_a_qos_reference_that_nobody_arranged_is_refused() -> None:
    asked = request()
    asked.med_components[0].qos_reference = "gold"
    with pytest.raises(RequestedServiceNotAuthorized, match="'gold' is not arranged"):
        decided(asked)


@pytest.mark.parametrize(
    ("allowed", "gpsi", "refusal"),
    [
        ([], "", None),
        (["msisdn-491700000001"], "msisdn-491700000001", None),
        (["msisdn-491700000001"], "msisdn-491700000002", "'msisdn-491700000002' is not among the 1"),
        (["msisdn-491700000001"], "", "GPSI is unknown"),
    ],
)
def test_a_session_may_be_limited_to_subscribers(allowed: list[str], gpsi: str, refusal: str | None) -> None:
    asked = AppSessionContextReqData(gpsis=allowed)
    if refusal is None:
        check_subscriber(asked, SmPolicy(gpsi=gpsi))
    else:
        with pytest.raises(RequestedServiceNotAuthorized, match=refusal):
            check_subscriber(asked, SmPolicy(gpsi=gpsi))


def test_the_default_rule_comes_last_and_charges_everything() -> None:
    rule = default_rule()
    assert (rule.pcc_rule_id, rule.precedence) == ("default", 255)
    assert [flow.flow_description for flow in rule.flow_infos] == ["permit out ip from any to assigned"]
    assert not rule.HasField("qos")
    assert (rule.charging.rating_group, rule.charging.excess_rating_group) == (RATING_GROUP_ORDINARY,) * 2
