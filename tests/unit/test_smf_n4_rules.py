from __future__ import annotations

from ipaddress import ip_address, ip_network
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nf.common.v1.types_pb2 import EnforcementMethod
from nf.pcf.v1.policy_authorization_pb2 import FlowStatus
from nf.pcf.v1.sm_policy_control_pb2 import FlowInformation, PccRule, QosData, SmPolicyDecision
from nf.smf.n4_rules import (
    ACCESS,
    CORE,
    IdAllocation,
    changes_nothing,
    modification,
    n4_change,
    n4_session,
    qer_key,
    rule_of_qer,
    rule_of_urr,
    urr_key,
)
from nf.smf.v1.pdu_session_pb2 import PduSession, TunnelInfo
from upf.n4.forwarding import tunnel_of
from upf.n4.rules import rules_of
from upf.n4.v1.n4_pb2 import Qer, Session
from upf.tunnels import OuterHeader, Tunnel

MONITOR = EnforcementMethod.ENFORCEMENT_METHOD_MONITOR
UE = PduSession(cp_seid=7, ue_ipv4_address="10.45.0.2")
DUAL_STACK = PduSession(cp_seid=7, ue_ipv4_address="10.45.0.2", ue_ipv6_prefix="2001:db8:1::/64")
ANYTHING = FlowInformation(flow_description="permit out ip from any to assigned", pack_filt_id="any")
VIDEO = FlowInformation(flow_description="permit out 17 from 198.51.100.7 443 to 10.45.0.2", pack_filt_id="video")
AUDIO = FlowInformation(flow_description="permit out 17 from 198.51.100.8 443 to 10.45.0.2", pack_filt_id="audio")
VIDEO6 = FlowInformation(flow_description="permit out 17 from 2001:db8:ff::7 443 to assigned", pack_filt_id="video6")


TUNNELLED = PduSession(
    cp_seid=7, ue_ipv4_address="10.45.0.2", an_tunnel_info=TunnelInfo(ipv4_addr="192.0.2.7", gtp_teid=0x1001), qfi=9
)


def default_rule() -> PccRule:
    return PccRule(pcc_rule_id="default", precedence=255, flow_infos=[ANYTHING])


def session_rule(*flows: FlowInformation, dl_bps: int | None = 5_000_000) -> PccRule:
    qos = QosData(max_br_dl_bps=dl_bps, burst_bytes=15_000, enforcement_method=MONITOR)
    return PccRule(pcc_rule_id="s.2", precedence=100, flow_infos=flows, qos=qos if dl_bps else None)


def decision(*rules: PccRule) -> SmPolicyDecision:
    return SmPolicyDecision(revision=1, pcc_rules=[default_rule(), *rules])


@pytest.mark.clause("TS 29.244 §5.2.1A.2A")
def test_a_flow_becomes_one_pdr_per_source_interface_with_the_downlink_description() -> None:
    session, _ = n4_session(UE, decision(session_rule(VIDEO)), IdAllocation())
    mine = [pdr for pdr in session.pdrs if pdr.precedence >> 8 == 100]
    assert [pdr.pdi.source_interface for pdr in mine] == [CORE, ACCESS]
    assert {pdr.pdi.sdf_filters[0].flow_description for pdr in mine} == {VIDEO.flow_description}
    assert {pdr.pdi.ue_ip_address for pdr in mine} == {"10.45.0.2"}
    assert len({pdr.pdi.sdf_filters[0].sdf_filter_id for pdr in session.pdrs}) == len(session.pdrs)


def test_the_pdrs_of_a_rule_share_its_qer_and_its_urr() -> None:
    session, _ = n4_session(UE, decision(session_rule(VIDEO, AUDIO)), IdAllocation(), measurement_period_ms=250)
    mine = [pdr for pdr in session.pdrs if pdr.precedence >> 8 == 100]
    assert len(mine) == 4
    (qer,) = session.qers
    assert {pdr.qer_id for pdr in mine} == {qer.qer_id}
    assert qer.mbr_dl_bps == 5_000_000
    assert not qer.HasField("mbr_ul_bps")
    assert (qer.burst_dl_bytes, qer.burst_ul_bytes, qer.enforcement_method) == (15_000, 15_000, MONITOR)
    assert len({pdr.urr_id for pdr in mine}) == 1
    assert {urr.measurement_period_ms for urr in session.urrs} == {250}


def test_a_rule_without_a_bit_rate_is_counted_but_not_policed() -> None:
    session, _ = n4_session(UE, decision(), IdAllocation())
    assert not session.qers
    assert [(pdr.qer_id, pdr.urr_id) for pdr in session.pdrs] == [(0, session.urrs[0].urr_id)] * 2


def test_a_rule_whose_flows_have_all_closed_keeps_its_bucket_and_counters() -> None:
    opened, ids = n4_session(UE, decision(session_rule(VIDEO)), IdAllocation())
    closed, ids = n4_session(UE, decision(session_rule()), ids)
    assert closed.qers == opened.qers
    assert closed.urrs == opened.urrs
    assert len(closed.pdrs) == 2
    request = modification(opened, closed)
    assert len(request.remove_pdr_ids) == 2
    assert not request.remove_qer_ids
    assert not request.remove_urr_ids


def test_a_ue_with_two_addresses_has_pdrs_for_each_that_the_flow_can_be_about() -> None:
    session, _ = n4_session(DUAL_STACK, decision(session_rule(VIDEO, VIDEO6)), IdAllocation())
    by_filter: dict[str, list[str]] = {}
    for pdr in session.pdrs:
        by_filter.setdefault(pdr.pdi.sdf_filters[0].flow_description, []).append(pdr.pdi.ue_ip_address)
    assert by_filter == {
        ANYTHING.flow_description: ["10.45.0.2", "10.45.0.2", "2001:db8:1::/64", "2001:db8:1::/64"],
        VIDEO.flow_description: ["10.45.0.2", "10.45.0.2"],
        VIDEO6.flow_description: ["2001:db8:1::/64", "2001:db8:1::/64"],
    }


def test_what_stays_keeps_its_identifier_and_none_is_given_twice() -> None:
    first, ids = n4_session(UE, decision(session_rule(VIDEO)), IdAllocation())
    second, ids = n4_session(UE, decision(session_rule(AUDIO, VIDEO)), ids)
    third, ids = n4_session(UE, decision(session_rule(AUDIO)), ids)
    fourth, ids = n4_session(UE, decision(session_rule(AUDIO, VIDEO)), ids)

    def ids_of(session_pdrs: object, description: str) -> list[int]:
        return [
            pdr.pdr_id
            for pdr in session_pdrs  # type: ignore[attr-defined]
            if pdr.pdi.sdf_filters[0].flow_description == description
        ]

    assert ids_of(first.pdrs, VIDEO.flow_description) == ids_of(second.pdrs, VIDEO.flow_description)
    assert ids_of(second.pdrs, AUDIO.flow_description) == ids_of(fourth.pdrs, AUDIO.flow_description)
    assert not set(ids_of(first.pdrs, VIDEO.flow_description)) & set(ids_of(fourth.pdrs, VIDEO.flow_description))
    assert first.qers == second.qers == third.qers == fourth.qers


def test_the_difference_names_what_is_new_changed_and_gone_and_asks_for_the_rest() -> None:
    before, ids = n4_session(UE, decision(session_rule(VIDEO)), IdAllocation())
    after, ids = n4_session(UE, decision(session_rule(AUDIO, dl_bps=3_000_000)), ids)
    request = modification(before, after)
    assert request.cp_seid == 7
    assert [pdr.pdi.sdf_filters[0].flow_description for pdr in request.create_or_update_pdrs] == [
        AUDIO.flow_description
    ] * 2
    assert len(request.remove_pdr_ids) == 2
    assert [qer.mbr_dl_bps for qer in request.create_or_update_qers] == [3_000_000]
    assert not request.remove_qer_ids
    assert not request.create_or_update_urrs
    assert list(request.query_urr_ids) == [ids.ids[urr_key("default")], ids.ids[urr_key("s.2")]]


def test_the_same_decision_changes_nothing() -> None:
    before, ids = n4_session(UE, decision(session_rule(VIDEO)), IdAllocation())
    after, ids_after = n4_session(UE, decision(session_rule(VIDEO)), ids)
    assert ids == ids_after
    assert changes_nothing(modification(before, after))


def test_a_removed_rule_takes_everything_of_it_along() -> None:
    before, ids = n4_session(UE, decision(session_rule(VIDEO)), IdAllocation())
    urr_id, qer_id = ids.ids[urr_key("s.2")], ids.ids[qer_key("s.2")]
    assert (rule_of_urr(ids, urr_id), rule_of_qer(ids, qer_id)) == ("s.2", "s.2")
    after, ids = n4_session(UE, decision(), ids)
    request = modification(before, after)
    assert list(request.remove_urr_ids) == [urr_id]
    assert list(request.remove_qer_ids) == [qer_id]
    assert len(request.remove_pdr_ids) == 2
    assert rule_of_urr(ids, urr_id) is None


def test_an_identifier_that_was_withdrawn_is_not_given_again() -> None:
    _, ids = n4_session(UE, decision(), IdAllocation())
    first = ids.ids[urr_key("default")]
    _, ids = n4_session(UE, decision(), ids.without([urr_key("default")]))
    assert ids.ids[urr_key("default")] > first


# --- sessions with a tunnel -------------------------------------------------------------------------------------------


@pytest.mark.clause("TS 29.244 §5.2.3")
def test_an_tunnel_info_makes_a_tunnel_of_which_the_smf_chooses_this_end() -> None:
    session, _ = n4_session(TUNNELLED, decision(session_rule(VIDEO)), IdAllocation())
    assert rules_of(session)
    outer_header = OuterHeader(ip_address("192.0.2.7"), 0x1001, qfi=9)
    assert tunnel_of(session) == Tunnel("7", (ip_network("10.45.0.2/32"),), 7, outer_header)
    fars = {far.far_id: far.forwarding_parameters for far in session.fars}
    assert len(fars) == 2
    for pdr in session.pdrs:
        assert fars[pdr.far_id].destination_interface == (2 if pdr.pdi.source_interface == ACCESS else 1)
        assert pdr.pdi.HasField("local_f_teid") == (pdr.pdi.source_interface == ACCESS)


def test_in_a_tunnel_a_rule_without_a_bit_rate_has_a_qer_too_for_its_qos_flow() -> None:
    session, _ = n4_session(TUNNELLED, decision(), IdAllocation())
    (qer,) = session.qers
    assert qer.qfi == 9
    assert not qer.HasField("mbr_dl_bps")
    assert {pdr.qer_id for pdr in session.pdrs} == {qer.qer_id}


def test_another_gnb_changes_the_fars_alone() -> None:
    before, ids = n4_session(TUNNELLED, decision(session_rule(VIDEO)), IdAllocation())
    moved = PduSession()
    moved.CopyFrom(TUNNELLED)
    moved.an_tunnel_info.gtp_teid = 0x1002
    after, _ = n4_session(moved, decision(session_rule(VIDEO)), ids)
    request = modification(before, after)
    assert [far.forwarding_parameters.outer_header_creation.teid for far in request.create_or_update_fars] == [0x1002]
    untouched = [*request.remove_far_ids, *request.create_or_update_pdrs, *request.create_or_update_qers]
    assert untouched == []
    assert not changes_nothing(request)


def test_without_an_tunnel_info_nothing_is_said_of_tunnels() -> None:
    session, _ = n4_session(UE, decision(session_rule(VIDEO)), IdAllocation())
    assert not session.fars
    assert {(pdr.far_id, pdr.pdi.HasField("local_f_teid")) for pdr in session.pdrs} == {(0, False)}


AMBR = PduSession(cp_seid=7, ue_ipv4_address="10.45.0.2", session_ambr_dl_bps=10_000_000, session_ambr_ul_bps=2_000_000)


def ambr_of(session: Session) -> Qer:
    """The QER whose bit rates are those of the session-AMBR."""
    (found,) = [qer for qer in session.qers if (qer.mbr_dl_bps, qer.mbr_ul_bps) == (10_000_000, 2_000_000)]
    return found


@pytest.mark.clause("TS 23.501 §5.7.1.8")
def test_the_session_ambr_bounds_all_flows_without_a_guaranteed_bit_rate_together() -> None:
    policed = session_rule(VIDEO)
    policed.qos.enforcement_method = EnforcementMethod.ENFORCEMENT_METHOD_POLICE
    session, ids = n4_session(AMBR, decision(policed), IdAllocation())
    ambr = ambr_of(session)
    assert ambr.enforcement_method == EnforcementMethod.ENFORCEMENT_METHOD_UNSPECIFIED
    assert [list(pdr.further_qer_ids) for pdr in session.pdrs] == [[ambr.qer_id]] * 4
    assert len(rules_of(session)) > len(session.pdrs)
    again, _ = n4_session(AMBR, decision(policed), ids)
    assert again == session


@pytest.mark.clause("TS 23.501 §5.7.1.8")
def test_guaranteed_flows_and_those_whose_excess_is_let_pass_do_not_count_to_the_session_ambr() -> None:
    guaranteed, monitored = session_rule(VIDEO), session_rule(VIDEO)
    guaranteed.qos.gbr_dl_bps = 1_000_000
    guaranteed.qos.enforcement_method = EnforcementMethod.ENFORCEMENT_METHOD_POLICE
    monitored.pcc_rule_id = "monitored"
    monitored.qos.enforcement_method = EnforcementMethod.ENFORCEMENT_METHOD_MONITOR
    session, _ = n4_session(AMBR, decision(guaranteed, monitored), IdAllocation())
    ambr = ambr_of(session)
    bounded = [pdr.precedence >> 8 for pdr in session.pdrs if ambr.qer_id in pdr.further_qer_ids]
    assert bounded == [255, 255]


@pytest.mark.parametrize("method", ["POLICE", "SHAPE", "MONITOR"])
def test_the_upf_takes_a_session_ambr_beside_every_method_in_a_tunnel_and_with_closed_gates(method: str) -> None:
    tunnelled = PduSession(an_tunnel_info=TUNNELLED.an_tunnel_info, qfi=9)
    tunnelled.MergeFrom(AMBR)
    closed = FlowInformation(flow_status=FlowStatus.FLOW_STATUS_DISABLED)
    closed.MergeFrom(VIDEO)
    rule = session_rule(closed)
    rule.qos.enforcement_method = EnforcementMethod.Value(f"ENFORCEMENT_METHOD_{method}")
    session, _ = n4_session(tunnelled, decision(rule), IdAllocation())
    made = [each for _, each in rules_of(session) if each.filters]
    assert [each.gate_open for each in made] == [True, True, False, False]
    assert [len(each.aggregates) for each in made] == [1, 1, *([0, 0] if method == "MONITOR" else [1, 1])]


def test_without_a_session_ambr_there_is_no_qer_for_it() -> None:
    plain, _ = n4_session(UE, decision(), IdAllocation())
    assert not plain.qers
    assert all(not pdr.further_qer_ids for pdr in plain.pdrs)


# --- from decision to decision ----------------------------------------------------------------------------------------


def in_tunnel_with_ambr() -> PduSession:
    both = PduSession()
    both.CopyFrom(DUAL_STACK)
    both.MergeFrom(TUNNELLED)
    both.session_ambr_dl_bps = 10_000_000
    return both


def flow(known: FlowInformation, status: FlowStatus.ValueType) -> FlowInformation:
    made = FlowInformation(flow_status=status)
    made.MergeFrom(known)
    return made


FLOWS = st.builds(flow, st.sampled_from((VIDEO, AUDIO, VIDEO6)), st.sampled_from(FlowStatus.values()))
RULES = st.builds(
    PccRule,
    pcc_rule_id=st.sampled_from(("default", "s.1", "s.2", "s.3")),
    precedence=st.sampled_from((100, 200)),
    flow_infos=st.lists(FLOWS, max_size=2, unique_by=lambda each: each.pack_filt_id),
    qos=st.builds(
        QosData,
        max_br_dl_bps=st.sampled_from((None, 5_000_000)),
        gbr_dl_bps=st.sampled_from((None, None, 1_000_000)),
        enforcement_method=st.sampled_from(EnforcementMethod.values()),
    ),
)
DECISIONS = st.builds(SmPolicyDecision, pcc_rules=st.lists(RULES, max_size=4, unique_by=lambda each: each.pcc_rule_id))


@given(st.sampled_from((UE, DUAL_STACK, TUNNELLED, in_tunnel_with_ambr())), st.lists(DECISIONS, min_size=2, max_size=5))
def test_a_change_of_decision_is_what_lies_between_the_two_sessions(
    ue: PduSession, decisions: list[SmPolicyDecision]
) -> None:
    before, ids = n4_session(ue, decisions[0], IdAllocation())
    for earlier, later in pairwise(decisions):
        decided = PduSession(decision=earlier)
        decided.MergeFrom(ue)
        request, ids_after = n4_change(decided, later, ids, measurement_period_ms=0)
        after, expected_ids = n4_session(ue, later, ids)
        expected = modification(before, after)
        for removed in (expected.remove_pdr_ids, expected.remove_qer_ids, expected.remove_urr_ids):
            removed.sort()
        assert request == expected
        assert ids_after == expected_ids
        before, ids = after, ids_after
