"""Every refusal of PCF and SMF, with its gRPC code, reason and cause; nothing is left behind by any."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from control_plane import AUDIO, GPSI, MBPS, SUPI, UE, VIDEO, ControlPlane, app_session, running
from google.protobuf.field_mask_pb2 import FieldMask

from nf.common.errors import AlreadyExists, CastcoreError, FieldViolation, InvalidArgument, NotFound
from nf.common.v1.types_pb2 import EnforcementMethod, Snssai
from nf.pcf.v1 import operator_policies_pb2 as op
from nf.pcf.v1 import policy_authorization_pb2 as n5
from nf.pcf.v1 import sm_policy_control_pb2 as n7
from nf.smf.v1 import pdu_session_pb2 as pdu

OTHER_UE = {"sm_context_ref": "ue-2", "supi": "imsi-001010000000002"}


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with running(tmp_path) as plane:
        yield plane


async def refused(plane: ControlPlane, session: n5.AppSession) -> CastcoreError:
    with pytest.raises(CastcoreError) as refusal:
        await plane.n5.CreateAppSession(n5.CreateAppSessionRequest(app_session=session))
    return refusal.value


def with_component(**component: object) -> n5.AppSession:
    session = app_session()
    session.asc_req_data.med_components[0].MergeFrom(n5.MediaComponent(**component))
    return session


REFUSALS = [
    (app_session("a/b"), "INVALID_ARGUMENT", "INVALID_MSG_FORMAT", "app_session.app_session_id"),
    (app_session(ue_ipv4=""), "INVALID_ARGUMENT", "INVALID_SERVICE_INFORMATION", "asc_req_data.ue_ipv4"),
    (app_session(ue_ipv6="2001:db8::1"), "INVALID_ARGUMENT", "INVALID_SERVICE_INFORMATION", "asc_req_data.ue_ipv4"),
    (app_session(ue_ipv4="10.45.0"), "INVALID_ARGUMENT", "INVALID_SERVICE_INFORMATION", "asc_req_data.ue_ipv4"),
    (
        app_session(med_components=[]),
        "INVALID_ARGUMENT",
        "INVALID_SERVICE_INFORMATION",
        "asc_req_data.med_components",
    ),
    (
        with_component(mir_bw_dl_bps=6 * MBPS),
        "INVALID_ARGUMENT",
        "INVALID_SERVICE_INFORMATION",
        "asc_req_data.med_components[0].mir_bw_dl_bps",
    ),
    (
        with_component(mar_bw_ul_bps=0),
        "INVALID_ARGUMENT",
        "INVALID_SERVICE_INFORMATION",
        "asc_req_data.med_components[0].mar_bw_ul_bps",
    ),
    (
        app_session("s", "allow everything"),
        "INVALID_ARGUMENT",
        "FILTER_RESTRICTIONS",
        "asc_req_data.med_components[0].med_sub_comps[0].f_descs[0]",
    ),
    (app_session(ue_ipv4="10.45.0.99"), "NOT_FOUND", "PDU_SESSION_NOT_AVAILABLE", None),
    (app_session(dnn="ims"), "NOT_FOUND", "PDU_SESSION_NOT_AVAILABLE", None),
    (app_session(slice_info=Snssai(sst=2)), "NOT_FOUND", "PDU_SESSION_NOT_AVAILABLE", None),
    (app_session(supi="imsi-001010000000009"), "NOT_FOUND", "PDU_SESSION_NOT_AVAILABLE", None),
    (
        app_session(gpsis=["msisdn-491700000009"]),
        "PERMISSION_DENIED",
        "REQUESTED_SERVICE_NOT_AUTHORIZED",
        None,
    ),
    (
        with_component(max_auth_bw_dl_bps=3 * MBPS, mir_bw_dl_bps=4 * MBPS),
        "PERMISSION_DENIED",
        "REQUESTED_SERVICE_NOT_AUTHORIZED",
        None,
    ),
    (with_component(qos_reference="gold"), "PERMISSION_DENIED", "REQUESTED_SERVICE_NOT_AUTHORIZED", None),
]


@pytest.mark.clause("TS 29.514 §5.7.3")
async def test_an_app_session_is_refused_with_its_cause_and_leaves_nothing(plane: ControlPlane) -> None:
    await plane.attach()
    for session, code, cause, field in REFUSALS:
        refusal = await refused(plane, session)
        assert (refusal.code, refusal.cause) == (code, cause)
        assert field is None or field in [violation.field for violation in refusal.violations]
    assert await plane.app_sessions() == {}
    assert plane.upf.flows() == []
    assert await plane.ledger() == []


async def test_an_address_in_two_data_networks_needs_a_dnn(plane: ControlPlane) -> None:
    await plane.attach()
    await plane.attach(**OTHER_UE, dnn="ims")
    refusal = await refused(plane, app_session())
    assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "AMBIGUOUS_PDU_SESSION")
    assert "ims (slice 1)" in refusal.message
    assert "internet (slice 1)" in refusal.message
    session = await plane.authorize("s", dnn="ims")
    policies = {policy.sm_policy_id: policy.dnn for policy in await plane.sm_policies()}
    assert policies[session.sm_policy_id] == "ims"


async def test_the_case_of_a_data_network_name_means_nothing(plane: ControlPlane) -> None:
    await plane.attach()
    session = await plane.authorize("s", dnn="Internet")
    assert session.state == n5.AppSession.STATE_ACTIVE
    with pytest.raises(AlreadyExists, match="in use in 'INTERNET'"):
        await plane.attach(**OTHER_UE, dnn="INTERNET")


async def test_a_name_that_is_taken_by_other_content_is_refused(plane: ControlPlane) -> None:
    await plane.attach()
    await plane.authorize()
    refusal = await refused(plane, app_session("s", AUDIO))
    assert (refusal.code, refusal.cause) == ("ALREADY_EXISTS", "DUPLICATED_AF_SESSION")


async def test_what_the_upf_refuses_comes_back_with_its_words_and_leaves_nothing(plane: ControlPlane) -> None:
    await plane.attach()
    why = FieldViolation("pdrs[2].pdi", "found port 70000, expected 0 to 65535")
    plane.upf.refuse["ModifySession"] = InvalidArgument("the rules cannot be enforced", violations=[why])
    refusal = await refused(plane, app_session())
    assert (refusal.code, refusal.message, refusal.violations) == (
        "INVALID_ARGUMENT",
        "the rules cannot be enforced",
        (why,),
    )
    assert await plane.app_sessions() == {}
    assert await plane.ledger() == []
    (session,) = await plane.pdu_sessions()
    assert [rule.pcc_rule_id for rule in session.decision.pcc_rules] == ["default"]
    plane.upf.refuse.clear()
    assert (await plane.authorize()).state == n5.AppSession.STATE_ACTIVE


async def test_a_refused_change_leaves_the_content_before_in_force(plane: ControlPlane) -> None:
    await plane.attach()
    before = await plane.authorize()
    plane.upf.refuse["ModifySession"] = InvalidArgument("no")
    with pytest.raises(InvalidArgument, match="no"):
        await plane.n5.UpdateAppSession(
            n5.UpdateAppSessionRequest(app_session_id="s", asc_req_data=app_session("s", AUDIO).asc_req_data)
        )
    plane.upf.refuse.clear()
    after = (await plane.n5.GetAppSession(n5.GetAppSessionRequest(app_session_id="s"))).app_session
    assert after == before
    assert {flow for flow, _ in plane.upf.flows()} == {VIDEO}


async def test_what_binds_a_session_to_its_ue_cannot_be_changed(plane: ControlPlane) -> None:
    await plane.attach()
    await plane.authorize()
    request = n5.UpdateAppSessionRequest(app_session_id="s", update_mask=FieldMask(paths=["ue_ipv4"]))
    with pytest.raises(InvalidArgument, match="'ue_ipv4': may not be changed"):
        await plane.n5.UpdateAppSession(request)


async def test_a_session_that_does_not_exist_cannot_be_read_or_changed(plane: ControlPlane) -> None:
    for call in (
        plane.n5.GetAppSession(n5.GetAppSessionRequest(app_session_id="none")),
        plane.n5.UpdateAppSession(n5.UpdateAppSessionRequest(app_session_id="none")),
    ):
        with pytest.raises(CastcoreError, match="app session 'none' does not exist") as refusal:
            await call
        assert (refusal.value.code, refusal.value.cause) == ("NOT_FOUND", "APPLICATION_SESSION_CONTEXT_NOT_FOUND")


async def test_a_terminated_session_cannot_be_changed(plane: ControlPlane) -> None:
    await plane.attach()
    await plane.authorize()
    await plane.detach()
    request = n5.UpdateAppSessionRequest(app_session_id="s", asc_req_data=app_session("s", AUDIO).asc_req_data)
    with pytest.raises(CastcoreError) as refusal:
        await plane.n5.UpdateAppSession(request)
    assert refusal.value.cause == "PDU_SESSION_NOT_AVAILABLE"


async def test_operator_policies_are_kept_by_name_and_etag(plane: ControlPlane) -> None:
    policy = op.OperatorPolicy(operator_policy_id="p", dnn="internet")
    create = op.CreateOperatorPolicyRequest(operator_policy=policy)
    created = (await plane.operator.CreateOperatorPolicy(create)).operator_policy
    with pytest.raises(CastcoreError) as refusal:
        await plane.operator.CreateOperatorPolicy(create)
    assert refusal.value.code == "ALREADY_EXISTS"
    stale = op.OperatorPolicy(operator_policy_id="p", etag="0000")
    with pytest.raises(CastcoreError) as refusal:
        await plane.operator.UpdateOperatorPolicy(op.UpdateOperatorPolicyRequest(operator_policy=stale))
    assert refusal.value.code == "ABORTED"
    with pytest.raises(CastcoreError) as refusal:
        await plane.operator.DeleteOperatorPolicy(op.DeleteOperatorPolicyRequest(operator_policy_id="p", etag="0000"))
    assert refusal.value.code == "ABORTED"
    listed = await plane.operator.ListOperatorPolicies(op.ListOperatorPoliciesRequest())
    assert list(listed.operator_policies) == [created]
    await plane.operator.DeleteOperatorPolicy(op.DeleteOperatorPolicyRequest(operator_policy_id="p"))
    for call in (
        plane.operator.GetOperatorPolicy(op.GetOperatorPolicyRequest(operator_policy_id="p")),
        plane.operator.DeleteOperatorPolicy(op.DeleteOperatorPolicyRequest(operator_policy_id="p")),
        plane.operator.UpdateOperatorPolicy(op.UpdateOperatorPolicyRequest(operator_policy=policy)),
    ):
        with pytest.raises(CastcoreError) as refusal:
            await call
        assert refusal.value.code == "NOT_FOUND"


async def test_an_impossible_operator_policy_is_refused_by_its_field(plane: ControlPlane) -> None:
    mark = op.OperatorPolicy(
        operator_policy_id="p", enforcement_method=EnforcementMethod.ENFORCEMENT_METHOD_MARK, threshold_dl_bps=0
    )
    with pytest.raises(InvalidArgument) as refusal:
        await plane.operator.CreateOperatorPolicy(op.CreateOperatorPolicyRequest(operator_policy=mark))
    assert [violation.field for violation in refusal.value.violations] == [
        "operator_policy.threshold_dl_bps",
        "operator_policy.dscp_red",
    ]


async def test_an_impossible_pdu_session_is_refused_by_its_fields(plane: ControlPlane) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        await plane.attach(pdu_session_id=16, ue_ipv4_address="224.0.0.1")
    assert [violation.field for violation in refusal.value.violations] == [
        "pdu_session.pdu_session_id",
        "pdu_session.ue_ipv4_address",
    ]
    assert await plane.pdu_sessions() == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"gpsi": "msisdn-491700000002"}, "PDU_SESSION_EXISTS"),
        ({"sm_context_ref": "ue-2", "ue_ipv4_address": "10.45.0.3"}, "PDU_SESSION_EXISTS"),
        (OTHER_UE, "UE_ADDRESS_IN_USE"),
    ],
)
async def test_a_second_pdu_session_may_not_take_what_the_first_has(
    plane: ControlPlane, changes: dict[str, object], reason: str
) -> None:
    first = await plane.attach()
    with pytest.raises(CastcoreError) as refusal:
        await plane.attach(**changes)
    assert (refusal.value.code, refusal.value.reason) == ("ALREADY_EXISTS", reason)
    assert await plane.pdu_sessions() == [first]


async def test_what_the_upf_refuses_at_the_attachment_leaves_nothing_anywhere(plane: ControlPlane) -> None:
    plane.upf.refuse["EstablishSession"] = InvalidArgument("not this UE")
    with pytest.raises(InvalidArgument, match="not this UE"):
        await plane.attach()
    assert await plane.pdu_sessions() == []
    assert await plane.sm_policies() == []
    assert plane.upf.sessions == {}


async def test_a_session_in_a_tunnel_needs_a_upf_with_n3(plane: ControlPlane) -> None:
    plane.upf.n3 = None
    await plane.upf.restart()
    await plane.upf.until(lambda: plane.upf.forwarding)
    with pytest.raises(CastcoreError) as refusal:
        await plane.attach(an_tunnel_info=pdu.TunnelInfo(ipv4_addr="192.0.2.7", gtp_teid=1))
    assert (refusal.value.code, refusal.value.reason) == ("FAILED_PRECONDITION", "UPF_WITHOUT_N3")
    assert await plane.pdu_sessions() == []
    assert plane.upf.sessions == {}


async def test_a_decision_for_an_unknown_association_is_refused(plane: ControlPlane) -> None:
    request = pdu.UpdateNotifyRequest(sm_policy_id="none", decision=n7.SmPolicyDecision(revision=1))
    with pytest.raises(CastcoreError) as refusal:
        await plane.update_notify(request)
    assert (refusal.value.code, refusal.value.cause) == ("NOT_FOUND", "POLICY_CONTEXT_NOT_FOUND")


async def test_an_older_decision_is_ignored_and_the_same_again_is_harmless(plane: ControlPlane) -> None:
    await plane.attach()
    await plane.authorize()
    (session,) = await plane.pdu_sessions()
    repeat = pdu.UpdateNotifyRequest(sm_policy_id=session.sm_policy_id, decision=session.decision)
    assert session.decision.revision == 2
    assert await plane.update_notify(repeat) == []
    older = pdu.UpdateNotifyRequest(sm_policy_id=session.sm_policy_id, decision=n7.SmPolicyDecision(revision=1))
    with pytest.raises(CastcoreError) as refusal:
        await plane.update_notify(older)
    assert (refusal.value.code, refusal.value.reason) == ("FAILED_PRECONDITION", "STALE_DECISION")
    other = pdu.UpdateNotifyRequest(sm_policy_id=session.sm_policy_id, decision=n7.SmPolicyDecision(revision=2))
    with pytest.raises(InvalidArgument):
        await plane.update_notify(other)
    assert {flow for flow, _ in plane.upf.flows()} == {VIDEO}


async def test_a_policy_association_is_checked_and_kept_by_its_name(plane: ControlPlane) -> None:
    policy = n7.SmPolicy(sm_policy_id="p", supi=SUPI, gpsi=GPSI, pdu_session_id=1, dnn="internet", ipv4_address=UE)
    first = (await plane.n7.CreateSmPolicy(n7.CreateSmPolicyRequest(sm_policy=policy))).sm_policy
    assert (await plane.n7.CreateSmPolicy(n7.CreateSmPolicyRequest(sm_policy=policy))).sm_policy == first
    policy.pdu_session_id = 2
    with pytest.raises(CastcoreError) as refusal:
        await plane.n7.CreateSmPolicy(n7.CreateSmPolicyRequest(sm_policy=policy))
    assert refusal.value.code == "ALREADY_EXISTS"
    wrong = n7.SmPolicy(sm_policy_id="q", pdu_session_id=16, ipv4_address="x", ipv6_address_prefix="2001:db8::/48")
    with pytest.raises(InvalidArgument) as refusal:
        await plane.n7.CreateSmPolicy(n7.CreateSmPolicyRequest(sm_policy=wrong))
    assert [violation.field for violation in refusal.value.violations] == [
        "sm_policy.supi",
        "sm_policy.dnn",
        "sm_policy.pdu_session_id",
        "sm_policy.ipv4_address",
        "sm_policy.ipv6_address_prefix",
    ]


async def test_an_association_that_the_smf_does_not_know_is_no_pdu_session(plane: ControlPlane) -> None:
    orphan = n7.SmPolicy(sm_policy_id="orphan", supi=SUPI, pdu_session_id=1, dnn="internet", ipv4_address=UE)
    await plane.n7.CreateSmPolicy(n7.CreateSmPolicyRequest(sm_policy=orphan))
    refusal = await refused(plane, app_session())
    assert (refusal.code, refusal.cause) == ("NOT_FOUND", "PDU_SESSION_NOT_AVAILABLE")
    assert await plane.sm_policies() == []
    assert await plane.app_sessions() == {}


async def test_a_session_whose_end_has_been_asked_for_is_not_changed_any_more(plane: ControlPlane) -> None:
    await plane.attach()
    await plane.authorize()
    plane.upf.refuse["ModifySession"] = InvalidArgument("not now")
    with pytest.raises(InvalidArgument):
        await plane.n5.DeleteAppSession(n5.DeleteAppSessionRequest(app_session_id="s"))
    del plane.upf.refuse["ModifySession"]
    changes = app_session("s", AUDIO).asc_req_data
    with pytest.raises(NotFound) as refusal:
        await plane.n5.UpdateAppSession(n5.UpdateAppSessionRequest(app_session_id="s", asc_req_data=changes))
    assert refusal.value.cause == "APPLICATION_SESSION_CONTEXT_NOT_FOUND"
    await plane.upf.until(lambda: plane.upf.flows() == [])
