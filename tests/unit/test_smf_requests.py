from __future__ import annotations

import pytest

from nf.common.errors import InvalidArgument
from nf.common.v1.types_pb2 import Snssai
from nf.pcf.v1.sm_policy_control_pb2 import FlowInformation, PccRule, SmPolicyDecision
from nf.smf.requests import SessionAmbr, check_decision, requested_session
from nf.smf.v1.pdu_session_pb2 import PduSession, TunnelInfo


def pdu_session(**changes: object) -> PduSession:
    asked: dict[str, object] = {
        "sm_context_ref": "ue-1",
        "supi": "imsi-001010000000001",
        "pdu_session_id": 1,
        "dnn": "internet",
        "s_nssai": Snssai(sst=1),
        "ue_ipv4_address": "10.45.0.2",
    }
    return PduSession(**{**asked, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"supi": ""}, "supi"),
        ({"pdu_session_id": 0}, "pdu_session_id"),
        ({"pdu_session_id": 16}, "pdu_session_id"),
        ({"dnn": ""}, "dnn"),
        ({"dnn": "no dnn"}, "dnn"),
        ({"dnn": "a." * 50 + "b"}, "dnn"),
        ({"s_nssai": Snssai(sst=256)}, "s_nssai.sst"),
        ({"s_nssai": Snssai(sst=1, sd="xyz")}, "s_nssai.sd"),
        ({"ue_ipv4_address": ""}, "ue_ipv4_address"),
        ({"ue_ipv4_address": "10.45.0.256"}, "ue_ipv4_address"),
        ({"ue_ipv4_address": "10.45.0.2/32"}, "ue_ipv4_address"),
        ({"ue_ipv4_address": "0.0.0.0"}, "ue_ipv4_address"),
        ({"ue_ipv4_address": "127.0.0.1"}, "ue_ipv4_address"),
        ({"ue_ipv4_address": "224.0.0.1"}, "ue_ipv4_address"),
        ({"ue_ipv4_address": "255.255.255.255"}, "ue_ipv4_address"),
        ({"ue_ipv6_prefix": "2001:db8::/48"}, "ue_ipv6_prefix"),
        ({"ue_ipv6_prefix": "2001:db8::1/64"}, "ue_ipv6_prefix"),
        ({"ue_ipv6_prefix": "ff02::/64"}, "ue_ipv6_prefix"),
        ({"sm_context_ref": "a b"}, "sm_context_ref"),
        ({"qfi": 64}, "qfi"),
        ({"session_ambr_dl_bps": 0}, "session_ambr_dl_bps"),
        ({"session_ambr_ul_bps": 10**13 + 1}, "session_ambr_ul_bps"),
        ({"an_tunnel_info": TunnelInfo(gtp_teid=1)}, "an_tunnel_info.ipv4_addr"),
        (
            {"an_tunnel_info": TunnelInfo(gtp_teid=1, ipv4_addr="192.0.2.7", ipv6_addr="2001:db8::7")},
            "an_tunnel_info.ipv4_addr",
        ),
        ({"an_tunnel_info": TunnelInfo(gtp_teid=1, ipv4_addr="gnb")}, "an_tunnel_info.ipv4_addr"),
        ({"an_tunnel_info": TunnelInfo(gtp_teid=1, ipv6_addr="ff02::1")}, "an_tunnel_info.ipv6_addr"),
        ({"an_tunnel_info": TunnelInfo(ipv4_addr="192.0.2.7")}, "an_tunnel_info.gtp_teid"),
        (
            {"an_tunnel_info": TunnelInfo(gtp_teid=1, ipv4_addr="192.0.2.7", port=65_536)},
            "an_tunnel_info.port",
        ),
    ],
)
@pytest.mark.clause("TS 23.502 §4.3.2")
def test_a_pdu_session_is_refused_by_its_field(changes: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        requested_session(pdu_session(**changes))
    assert [violation.field for violation in refusal.value.violations] == [f"pdu_session.{field}"]


def test_everything_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(InvalidArgument) as refusal:
        requested_session(PduSession())
    assert [violation.field for violation in refusal.value.violations] == [
        "pdu_session.supi",
        "pdu_session.pdu_session_id",
        "pdu_session.dnn",
        "pdu_session.ue_ipv4_address",
    ]


@pytest.mark.parametrize("pdu_session_id", [1, 15])
@pytest.mark.parametrize("dnn", ["internet", "ims.mnc001.mcc001.gprs", "x1"])
def test_what_is_right_is_taken(pdu_session_id: int, dnn: str) -> None:
    asked = pdu_session(pdu_session_id=pdu_session_id, dnn=dnn)
    assert requested_session(asked) == asked


def test_a_slice_need_not_be_named() -> None:
    asked = pdu_session()
    asked.ClearField("s_nssai")
    assert not requested_session(asked).HasField("s_nssai")


def test_what_the_smf_sets_is_ignored_and_a_missing_reference_made() -> None:
    asked = pdu_session(sm_context_ref="", cp_seid=9, sm_policy_id="x", state=PduSession.STATE_ACTIVE, etag="e")
    session = requested_session(asked)
    assert (session.cp_seid, session.sm_policy_id, session.state, session.etag) == (0, "", 0, "")
    assert len(session.sm_context_ref) == 32


def test_a_prefix_is_kept_in_its_canonical_form() -> None:
    session = requested_session(pdu_session(ue_ipv6_prefix="2001:DB8:0:1:0::/64"))
    assert session.ue_ipv6_prefix == "2001:db8:0:1::/64"


@pytest.mark.parametrize(
    ("decision", "field"),
    [
        (SmPolicyDecision(), "decision.revision"),
        # The store could not keep it after the user plane has been told.
        (SmPolicyDecision(revision=2**63), "decision.revision"),
        (SmPolicyDecision(revision=1, pcc_rules=[PccRule()]), "decision.pcc_rules[0].pcc_rule_id"),
        (SmPolicyDecision(revision=1, pcc_rules=[PccRule(pcc_rule_id="a/b")]), "decision.pcc_rules[0].pcc_rule_id"),
        (
            SmPolicyDecision(revision=1, pcc_rules=[PccRule(pcc_rule_id="a"), PccRule(pcc_rule_id="a")]),
            "decision.pcc_rules",
        ),
        (
            SmPolicyDecision(revision=1, pcc_rules=[PccRule(pcc_rule_id="a", precedence=256)]),
            "decision.pcc_rules[0].precedence",
        ),
        (
            SmPolicyDecision(
                revision=1,
                pcc_rules=[
                    PccRule(
                        pcc_rule_id="a",
                        flow_infos=[FlowInformation(pack_filt_id="f"), FlowInformation(pack_filt_id="f")],
                    )
                ],
            ),
            "decision.pcc_rules[0].flow_infos",
        ),
    ],
)
def test_an_impossible_decision_is_refused_by_its_field(decision: SmPolicyDecision, field: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        check_decision(decision)
    assert [violation.field for violation in refusal.value.violations] == [field]


def test_a_session_without_a_session_ambr_gets_the_configured_one() -> None:
    ambr = SessionAmbr(dl_bps=10_000_000, ul_bps=None)
    assert requested_session(pdu_session(), ambr).session_ambr_dl_bps == 10_000_000
    assert not requested_session(pdu_session(), ambr).HasField("session_ambr_ul_bps")
    assert requested_session(pdu_session(session_ambr_dl_bps=5_000_000), ambr).session_ambr_dl_bps == 5_000_000
