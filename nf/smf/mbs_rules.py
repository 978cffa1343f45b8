"""An MBS session as the UPF is to enforce it (TS 29.244 §5.34, TS 23.247 §7.2). Pure."""

from __future__ import annotations

from collections.abc import Sequence

from nf.common.resources import copy_of
from nf.pcf.v1.mbs_policy_control_pb2 import MbsPolicyDecision
from nf.smf.config import GnbSection
from nf.smf.mbs_areas import branches_of
from nf.smf.mbs_requests import INACTIVE, ssm_of
from nf.smf.v1 import mbs_session_pb2 as nmb1
from upf.n4.v1.n4_pb2 import ApplyAction
from upf.n4.v1.n4mb_pb2 import MbsSession

# All packets of a session are of one QoS flow.
_QFI = 1


def mbr_bps_of(decision: MbsPolicyDecision) -> int:
    """What the session may use at the most; 0: no bound."""
    rates = [each.mbr_dl_bps for each in decision.mbs_qos_decs.values()]
    together = sum(rates) if rates and all(rates) else 0
    ambr = decision.auth_mbs_sess_ambr_bps
    return min(ambr, together) if ambr and together else ambr or together


def n4mb_session(session: nmb1.MbsSession, gnbs: Sequence[GnbSection]) -> MbsSession:
    """The N4mb session of an MBS session with its decision; no branches: the UPF's own."""
    wanted = MbsSession(
        cp_seid=session.cp_seid,
        tmgi=session.tmgi,
        area_session_id=session.area_session_id,
        ssm=ssm_of(session),
        apply_action=(
            ApplyAction.APPLY_ACTION_DROP if session.activity_status == INACTIVE else ApplyAction.APPLY_ACTION_FORW
        ),
        branches=branches_of(
            gnbs, session.mbs_service_area if session.HasField("mbs_service_area") else None, session.cp_seid
        ),
    )
    if any(each.WhichOneof("delivery") in ("unicast", "low_layer_ssm") for each in wanted.branches):
        wanted.qfi = _QFI
    if mbr_bps := mbr_bps_of(session.decision):
        wanted.mbr_bps = mbr_bps
    return wanted


def is_enforced(actual: MbsSession, wanted: MbsSession) -> bool:
    """Whether the UPF has what is wanted, whatever it has chosen itself."""
    compared = copy_of(actual)
    for field in ("burst_bytes", "ingress_ip_version", *(() if wanted.branches else ("branches",))):
        compared.ClearField(field)
    if compared.apply_action == ApplyAction.APPLY_ACTION_UNSPECIFIED:
        compared.apply_action = ApplyAction.APPLY_ACTION_FORW
    return compared == wanted
