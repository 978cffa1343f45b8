"""A distribution session as its provider wants it, and as it is (TS 29.580 MBSDistributionSessionInfo). Pure."""

from __future__ import annotations

from typing import Final

from nf.common.errors import FieldViolation
from nf.common.resources import copy_of
from nf.common.v1 import mbs_distribution_pb2 as distribution
from nf.mbsf.errors import DistributionSessionRunning
from nf.mbsf.machine import STARTING, State
from nf.mbsf.v1.life_cycle_pb2 import DistributionSession
from nf.mbsf.v1.user_data_ingest_pb2 import MbsDistributionSessionInfo

_READ_ONLY: Final = (
    "mbs_dist_session_id",
    "mbs_dist_sess_state",
    "problem",
    "announced",
    "ingest_failing_since",
)


def settable(wanted: MbsDistributionSessionInfo) -> MbsDistributionSessionInfo:
    """What a provider may say of a distribution session."""
    info = copy_of(wanted)
    for field in _READ_ONLY:
        info.ClearField(field)
    if info.obj_distr_info.obj_acq_method == distribution.OBJ_ACQUISITION_METHOD_PUSH:
        info.obj_distr_info.ClearField("obj_ing_uri")
    if info.pck_distr_info.HasField("ing_endpoint_addrs"):
        info.pck_distr_info.ing_endpoint_addrs.ClearField("mb_stf_ingress_tun_addr")
        info.pck_distr_info.ing_endpoint_addrs.ClearField("mb_stf_listen_addr")
    return info


def desired(record: DistributionSession, wanted: MbsDistributionSessionInfo) -> MbsDistributionSessionInfo:
    """What a session is to be: what the provider leaves out, and the network had chosen, stays as it is."""
    known, info = record.info, settable(wanted)
    flow, known_flow = info.up_traffic_flow_info, known.up_traffic_flow_info
    if not flow.dest_ip_addr.ByteSize():
        ssm = info.mbs_session_id.ssm
        flow.dest_ip_addr.CopyFrom(ssm.dest_ip_addr if info.mbs_session_id.HasField("ssm") else known_flow.dest_ip_addr)
    if not flow.port_number:
        flow.port_number = known_flow.port_number
    if record.tmgi_allocated and not info.mbs_session_id.HasField("tmgi"):
        info.mbs_session_id.tmgi.CopyFrom(known.mbs_session_id.tmgi)
        info.mbs_session_id.nid = known.mbs_session_id.nid
    if record.repair_assigned and not info.obj_distr_info.obj_repair_uri:
        info.obj_distr_info.obj_repair_uri = known.obj_distr_info.obj_repair_uri
    return info


def is_changed(record: DistributionSession, wanted: MbsDistributionSessionInfo) -> bool:
    """Whether ``wanted``, made by ``desired``, is another content than the record's."""
    return settable(record.info) != wanted


def with_info(record: DistributionSession, wanted: MbsDistributionSessionInfo) -> DistributionSession:
    """The record with another content; what is not the provider's to say stays."""
    changed = copy_of(record)
    changed.info.CopyFrom(wanted)
    changed.info.mbs_dist_session_id = record.mbs_dist_session_id
    changed.info.mbs_dist_sess_state = record.info.mbs_dist_sess_state
    known = record.info.obj_distr_info.obj_repair_uri
    changed.repair_assigned = record.repair_assigned and wanted.obj_distr_info.obj_repair_uri == known
    group = wanted.up_traffic_flow_info.dest_ip_addr
    changed.group_allocated = record.group_allocated and group == record.info.up_traffic_flow_info.dest_ip_addr
    return changed


def group_of(record: DistributionSession) -> str:
    """The multicast group that clients listen to."""
    group = record.info.up_traffic_flow_info.dest_ip_addr
    return group.ipv4_addr or group.ipv6_addr


def require_inactive(record: DistributionSession) -> None:
    """Raises DistributionSessionRunning for a session that may not be changed now."""
    if record.stage == DistributionSession.STAGE_INACTIVE:
        return
    shown = distribution.DistSessionState.Name(record.info.mbs_dist_sess_state).removeprefix("DIST_SESSION_STATE_")
    field = f"mbs_user_data_ing_session.mbs_dis_sess_infos[{record.key}]"
    doing = "being established" if State(record.stage) in STARTING else shown
    raise DistributionSessionRunning(
        f"{field}: expected no change, since it is {doing}; it may be changed while INACTIVE",
        violations=(FieldViolation(field, f"expected no change, since it is {doing}"),),
        metadata={"state": shown},
    )
