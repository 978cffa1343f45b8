"""N5 → N7 → N4 and back, over real sockets: what is asked for is enforced, what is measured is rated and told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from control_plane import AUDIO, GPSI, MBPS, UE, VIDEO, ControlPlane, app_session, running
from google.protobuf.field_mask_pb2 import FieldMask

from nf.common.v1.types_pb2 import EnforcementMethod, SponsoringStatus
from nf.pcf.v1 import operator_policies_pb2 as op
from nf.pcf.v1 import policy_authorization_pb2 as n5
from nf.smf.v1 import pdu_session_pb2 as pdu
from upf.n4.forwarding import tunnel_of
from upf.n4.v1.n4_pb2 import SourceInterface

MONITOR = EnforcementMethod.ENFORCEMENT_METHOD_MONITOR
POLICE = EnforcementMethod.ENFORCEMENT_METHOD_POLICE
ACCESS = SourceInterface.SOURCE_INTERFACE_ACCESS
CORE = SourceInterface.SOURCE_INTERFACE_CORE
DISABLED = SponsoringStatus.SPONSORING_STATUS_SPONSOR_DISABLED


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with running(tmp_path) as plane:
        yield plane


def components(*flows: str, **changes: object) -> n5.AppSessionContextReqData:
    return n5.AppSessionContextReqData(med_components=app_session("s", *flows).asc_req_data.med_components, **changes)


async def update(plane: ControlPlane, *flows: str) -> n5.AppSession:
    request = n5.UpdateAppSessionRequest(app_session_id="s", asc_req_data=components(*flows))
    return (await plane.n5.UpdateAppSession(request)).app_session


async def test_an_attached_ue_has_a_policy_association_and_passes_by_the_default_rule(plane: ControlPlane) -> None:
    session = await plane.attach()
    assert session.state == pdu.PduSession.STATE_ACTIVE
    (policy,) = await plane.sm_policies()
    assert (policy.sm_policy_id, policy.ipv4_address, policy.gpsi) == (session.sm_policy_id, UE, GPSI)
    assert [rule.pcc_rule_id for rule in policy.decision.pcc_rules] == ["default"]
    enforced = plane.upf.session_of()
    assert enforced.cp_seid == session.cp_seid
    assert [(pdr.precedence >> 8, pdr.pdi.source_interface, pdr.qer_id) for pdr in enforced.pdrs] == [
        (255, CORE, 0),
        (255, ACCESS, 0),
    ]
    assert plane.upf.forwarding


@pytest.mark.clause("TS 26.512 A.3.2 step 7")
async def test_an_authorised_session_is_enforced_when_it_is_answered(plane: ControlPlane) -> None:
    await plane.attach()
    session = await plane.authorize()
    assert session.state == n5.AppSession.STATE_ACTIVE
    assert session.asc_resp_data.gpsi == GPSI
    assert session.asc_resp_data.enforcement == n5.Enforcement(
        enforcement_method=MONITOR, enforcement_bit_rate_dl_bps=5 * MBPS
    )
    assert plane.upf.flows() == [(VIDEO, CORE), (VIDEO, ACCESS)]
    (qer,) = plane.upf.session_of().qers
    assert (qer.mbr_dl_bps, qer.HasField("mbr_ul_bps"), qer.enforcement_method) == (5 * MBPS, False, MONITOR)
    event, notification = await plane.notification("SUCCESSFUL_RESOURCES_ALLOCATION")
    assert (event.source, event.subject, event.path) == ("pcf", "app-sessions/s", "")
    assert notification.app_session_id == "s"


@pytest.mark.clause("TS 26.512 A.3.2 step 7")
async def test_flows_open_and_close_while_bucket_and_counters_stay(plane: ControlPlane) -> None:
    await plane.attach()
    await plane.authorize()
    before = plane.upf.session_of()
    session = await update(plane, AUDIO, VIDEO)
    assert session.state == n5.AppSession.STATE_ACTIVE
    opened = plane.upf.session_of()
    assert (opened.qers, opened.urrs) == (before.qers, before.urrs)
    assert sorted(plane.upf.flows()) == sorted([(VIDEO, CORE), (VIDEO, ACCESS), (AUDIO, CORE), (AUDIO, ACCESS)])
    assert {pdr.pdr_id for pdr in before.pdrs} < {pdr.pdr_id for pdr in opened.pdrs}
    await update(plane, AUDIO)
    assert plane.upf.flows() == [(AUDIO, CORE), (AUDIO, ACCESS)]
    assert plane.upf.session_of().qers == before.qers


async def test_the_same_content_again_asks_nobody(plane: ControlPlane) -> None:
    await plane.attach()
    first = await plane.authorize()
    asked = len(plane.upf.calls)
    assert await plane.authorize() == first
    assert (await update(plane, VIDEO)).asc_req_data == first.asc_req_data
    assert len(plane.upf.calls) == asked


async def test_a_deleted_session_leaves_the_default_rule_and_tells_what_it_used(plane: ControlPlane) -> None:
    await plane.attach()
    await plane.authorize()
    await plane.upf.count(
        report=False,
        downlink_conforming_bytes=3000,
        downlink_conforming_packets=2,
        downlink_exceeding_bytes=500,
        downlink_offered_bytes=3500,
    )
    answer = await plane.n5.DeleteAppSession(n5.DeleteAppSessionRequest(app_session_id="s"))
    assert (answer.final_usage.zero_rated_bytes, answer.final_usage.charged_bytes) == (3000, 500)
    assert answer.final_usage.usage.downlink.offered.bytes == 3500
    assert plane.upf.flows() == []
    assert not plane.upf.session_of().qers
    assert await plane.app_sessions() == {}
    again = await plane.n5.DeleteAppSession(n5.DeleteAppSessionRequest(app_session_id="s"))
    assert again == answer
    (entry,) = await plane.ledger("s")
    assert (entry.zero_rated_bytes, entry.charged_bytes, entry.sponsor_id) == (3000, 500, "acme")


async def test_a_session_made_again_under_its_old_name_counts_from_zero(plane: ControlPlane) -> None:
    await plane.attach()
    for _ in range(2):
        await plane.authorize()
        await plane.upf.count(report=False, downlink_conforming_bytes=1000)
        answer = await plane.n5.DeleteAppSession(n5.DeleteAppSessionRequest(app_session_id="s"))
        assert answer.final_usage.zero_rated_bytes == 1000
    entries = await plane.ledger("s")
    assert [entry.zero_rated_bytes for entry in entries] == [1000, 1000]
    assert len({entry.pcc_rule_id for entry in entries}) == 2


@pytest.mark.clause("TS 26.512 A.3.1")
async def test_what_is_measured_is_rated_and_comes_back_over_n4_n7(plane: ControlPlane) -> None:
    await plane.attach()
    await plane.authorize()
    await plane.upf.count(downlink_conforming_bytes=1000, downlink_exceeding_bytes=300, uplink_conforming_bytes=40)
    notification = await plane.accounted(zero_rated=1040, charged=300)
    assert notification.usage.downlink.exceeding.bytes == 300
    event, _ = await plane.notification("USAGE_REPORT")
    assert (event.path, event.subject) == ("N4>N7", "app-sessions/s")
    (entry,) = await plane.ledger()
    assert (entry.zero_rated_bytes, entry.charged_bytes, entry.dropped_bytes) == (1040, 300, 0)


async def test_reports_that_come_twice_or_late_change_nothing(plane: ControlPlane) -> None:
    await plane.attach()
    await plane.authorize()
    early = await plane.upf.count(downlink_conforming_bytes=1000)
    late = await plane.upf.count(downlink_conforming_bytes=500)
    for report in (late, early, late, early):
        await plane.upf.send(report)
    await plane.upf.count(downlink_conforming_bytes=1)
    await plane.accounted(zero_rated=1501, charged=0)
    events = await plane.events("smf", lambda seen: [each.type for each in seen].count("USAGE_REPORT") == 3)
    assert [event.path for event in events if event.type == "USAGE_REPORT"] == ["N4"] * 3
    assert [entry.zero_rated_bytes for entry in await plane.ledger()] == [1501]


async def test_traffic_of_the_default_rule_is_in_nobodys_account(plane: ControlPlane) -> None:
    await plane.attach()
    await plane.authorize()
    await plane.upf.count(precedence=255, downlink_conforming_bytes=9000)
    await plane.upf.count(downlink_conforming_bytes=10)
    await plane.accounted(zero_rated=10, charged=0)
    assert [entry.zero_rated_bytes + entry.charged_bytes for entry in await plane.ledger()] == [10]


@pytest.mark.clause("TS 26.512 A.3.1")
async def test_leaving_the_threshold_is_told_once_and_so_is_the_return(plane: ControlPlane) -> None:
    await plane.attach()
    await plane.authorize()
    await plane.upf.comply(False, since_ns=100, interface=CORE)
    await plane.upf.comply(False, since_ns=110, interface=ACCESS)
    await plane.upf.comply(True, since_ns=120, interface=CORE)
    await plane.upf.comply(True, since_ns=130, interface=ACCESS)
    event, back = await plane.notification("QOS_NOTIF", 2)
    _, left = await plane.notification("QOS_NOTIF")
    assert event.path == "N4>N7"
    assert [(each.compliant, each.since_ns) for each in (left, back)] == [(False, 100), (True, 130)]


async def test_only_the_events_that_were_asked_for_are_told(plane: ControlPlane) -> None:
    await plane.attach()
    await plane.authorize("s", events=[n5.AfEvent.AF_EVENT_USAGE_REPORT])
    await plane.upf.comply(False, since_ns=1, interface=CORE)
    await plane.upf.count(downlink_conforming_bytes=7)
    await plane.accounted(zero_rated=7, charged=0)
    events = await plane.events("pcf", lambda seen: seen[-1].type == "USAGE_REPORT")
    assert [event.type for event in events] == ["USAGE_REPORT"]


async def test_a_changed_operator_policy_reaches_running_sessions_without_a_gap(plane: ControlPlane) -> None:
    await plane.attach()
    await plane.authorize()
    before = plane.upf.session_of()
    await plane.upf.count(report=False, downlink_conforming_bytes=1000, downlink_exceeding_bytes=100)
    policy = op.OperatorPolicy(
        operator_policy_id="p", sponsor_id="acme", threshold_dl_bps=3 * MBPS, enforcement_method=POLICE
    )
    created = (
        await plane.operator.CreateOperatorPolicy(op.CreateOperatorPolicyRequest(operator_policy=policy))
    ).operator_policy
    (qer,) = plane.upf.session_of().qers
    assert (qer.qer_id, qer.mbr_dl_bps, qer.enforcement_method) == (before.qers[0].qer_id, 3 * MBPS, POLICE)
    assert plane.upf.session_of().pdrs == before.pdrs
    session = (await plane.n5.GetAppSession(n5.GetAppSessionRequest(app_session_id="s"))).app_session
    assert session.asc_resp_data.enforcement.operator_policy_id == "p"
    created.enforcement_method = MONITOR
    created.excess = op.ExcessTreatment.EXCESS_TREATMENT_ZERO_RATE
    await plane.operator.UpdateOperatorPolicy(op.UpdateOperatorPolicyRequest(operator_policy=created))
    # What had exceeded before stays charged; what exceeds from now on is spared.
    await plane.upf.count(downlink_exceeding_bytes=50)
    await plane.accounted(zero_rated=1050, charged=100)
    await plane.operator.DeleteOperatorPolicy(op.DeleteOperatorPolicyRequest(operator_policy_id="p"))
    assert [qer.mbr_dl_bps for qer in plane.upf.session_of().qers] == [5 * MBPS]


async def test_a_session_that_the_operator_no_longer_grants_ends(plane: ControlPlane) -> None:
    await plane.attach()
    session = app_session()
    session.asc_req_data.med_components[0].mir_bw_dl_bps = 4 * MBPS
    await plane.n5.CreateAppSession(n5.CreateAppSessionRequest(app_session=session))
    policy = op.OperatorPolicy(operator_policy_id="strict", threshold_dl_bps=3 * MBPS)
    await plane.operator.CreateOperatorPolicy(op.CreateOperatorPolicyRequest(operator_policy=policy))
    assert await plane.app_sessions() == {"s": n5.AppSession.STATE_TERMINATED}
    assert plane.upf.flows() == []
    _, notification = await plane.notification("FAILED_RESOURCES_ALLOCATION")
    assert notification.problem.cause == "REQUESTED_SERVICE_NOT_AUTHORIZED"
    assert "'strict'" in notification.problem.detail


async def test_a_disabled_sponsor_leaves_everything_charged(plane: ControlPlane) -> None:
    await plane.attach()
    session = await plane.authorize("s", spon_status=DISABLED)
    assert session.asc_resp_data.enforcement == n5.Enforcement()
    assert not plane.upf.session_of().qers
    await plane.upf.count(downlink_conforming_bytes=100)
    await plane.accounted(zero_rated=0, charged=100)
    request = n5.UpdateAppSessionRequest(
        app_session_id="s",
        asc_req_data=n5.AppSessionContextReqData(spon_id="acme"),
        update_mask=FieldMask(paths=["spon_status"]),
    )
    await plane.n5.UpdateAppSession(request)
    await plane.upf.count(downlink_conforming_bytes=11)
    await plane.accounted(zero_rated=11, charged=100)


@pytest.mark.clause("TS 29.514 §4.2.5")
async def test_a_released_pdu_session_ends_its_app_sessions_with_their_last_counts(plane: ControlPlane) -> None:
    session = await plane.attach()
    await plane.authorize()
    await plane.upf.count(report=False, downlink_conforming_bytes=123)
    await plane.detach()
    assert plane.upf.sessions == {}
    assert await plane.pdu_sessions() == []
    assert await plane.sm_policies() == []
    assert await plane.app_sessions() == {"s": n5.AppSession.STATE_TERMINATED}
    event, notification = await plane.notification("PDU_SESSION_STATUS")
    assert event.subject == "app-sessions/s"
    assert notification.problem.cause == "PDU_SESSION_NOT_AVAILABLE"
    await plane.accounted(zero_rated=123, charged=0)
    answer = await plane.n5.DeleteAppSession(n5.DeleteAppSessionRequest(app_session_id="s"))
    assert answer.final_usage.zero_rated_bytes == 123
    assert await plane.app_sessions() == {}
    await plane.detach()
    status = pdu.PduSessionStatus()
    events = await plane.events("smf", lambda seen: [e.type for e in seen].count("PDU_SESSION_STATUS") == 2)
    events[-1].payload.Unpack(status)
    assert (status.sm_policy_id, status.state) == (session.sm_policy_id, pdu.PduSession.STATE_RELEASING)


async def test_a_ue_with_an_ipv6_prefix_is_found_by_an_address_within_it(plane: ControlPlane) -> None:
    await plane.attach(ue_ipv4_address="", ue_ipv6_prefix="2001:DB8:1::/64")
    flow = "permit out 17 from 2001:db8:ff::7 443 to assigned"
    session = await plane.authorize("s", flow, ue_ipv4="", ue_ipv6="2001:db8:1::abcd")
    assert session.state == n5.AppSession.STATE_ACTIVE
    assert plane.upf.flows("2001:db8:1::/64") == [(flow, CORE), (flow, ACCESS)]


async def test_sessions_of_one_ue_have_buckets_of_their_own(plane: ControlPlane) -> None:
    await plane.attach()
    await asyncio.gather(plane.authorize("a", VIDEO), plane.authorize("b", AUDIO))
    enforced = plane.upf.session_of()
    assert len(enforced.qers) == 2
    assert len({pdr.qer_id for pdr in enforced.pdrs if pdr.precedence >> 8 == 100}) == 2
    await plane.n5.DeleteAppSession(n5.DeleteAppSessionRequest(app_session_id="a"))
    assert plane.upf.flows() == [(AUDIO, CORE), (AUDIO, ACCESS)]


async def test_a_pdu_session_attached_again_with_the_same_content_is_the_same(plane: ControlPlane) -> None:
    first = await plane.attach()
    assert await plane.attach() == first
    assert plane.upf.calls.count("EstablishSession") == 1


@pytest.mark.clause("TS 23.502 §4.3.2.2.1")
async def test_a_pdu_session_with_an_tunnel_info_is_told_the_upf_s_end(plane: ControlPlane) -> None:
    gnb = pdu.TunnelInfo(ipv4_addr="192.0.2.7", gtp_teid=0x1001)
    attached = await plane.attach(an_tunnel_info=gnb, qfi=9)
    assert attached.cn_tunnel_info == pdu.TunnelInfo(ipv4_addr="192.0.2.1", gtp_teid=attached.cp_seid, port=2152)
    assert await plane.attach(an_tunnel_info=gnb, qfi=9) == attached
    await plane.authorize("s", VIDEO)
    enforced = plane.upf.session_of()
    assert {qer.qfi for qer in enforced.qers} == {9}
    assert {pdr.far_id for pdr in enforced.pdrs} == {far.far_id for far in enforced.fars}


async def test_after_a_restart_of_the_upf_the_tunnel_is_the_same(plane: ControlPlane) -> None:
    attached = await plane.attach(an_tunnel_info=pdu.TunnelInfo(ipv4_addr="192.0.2.7", gtp_teid=0x1001))
    before = tunnel_of(plane.upf.session_of())
    await plane.upf.restart()
    await plane.upf.until(lambda: plane.upf.forwarding)
    assert tunnel_of(plane.upf.session_of()) == before
    assert before is not None
    assert before.teid == attached.cn_tunnel_info.gtp_teid
