"""What an MBS session is granted, and the policy that follows (TS 29.537 §4.2.2, §4.3.2; TS 23.247 §6.10). Pure.

The bit rates of the media components add up; the session's own maximum (AMBR) stands for the sum where it is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from nf.common.resources import copy_of
from nf.common.v1.mbs_pb2 import (
    Arp,
    MbsMediaComp,
    MbsServiceInfo,
    MbsServiceType,
    PreemptionCapability,
    PreemptionVulnerability,
)
from nf.common.v1.types_pb2 import Snssai
from nf.pcf.errors import MbsPolicyContextDenied, MbsServiceInfoNotAuthorized
from nf.pcf.flows import downlink_form
from nf.pcf.policies import deciding_policy
from nf.pcf.v1.mbs_policy_control_pb2 import MbsPccRule, MbsPolicyDecision, MbsQosDec
from nf.pcf.v1.operator_policies_pb2 import MbsLimits, OperatorPolicy, QosReference

# 5QIs of what names none: streamed video, with and without a guaranteed bit rate (TS 23.501 table 5.7.4-1).
DEFAULT_FIVE_QI: Final = 9
DEFAULT_GBR_FIVE_QI: Final = 4
_DEFAULT_ARP: Final = Arp(
    priority_level=8,
    preempt_cap=PreemptionCapability.PREEMPTION_CAPABILITY_NOT_PREEMPT,
    preempt_vuln=PreemptionVulnerability.PREEMPTION_VULNERABILITY_PREEMPTABLE,
)
_PRECEDENCE: Final = 100


@dataclass(frozen=True, slots=True)
class Terms:
    """The limits that hold for a session, and the operator policy that they come from; empty: the configuration."""

    limits: MbsLimits
    operator_policy_id: str


@dataclass(frozen=True, slots=True)
class Grant:
    """What a session may use at the most; 0: no bound. ``qos`` is by media component."""

    bit_rate_bps: int
    qos: Mapping[str, MbsQosDec]


def terms_of(policies: Iterable[OperatorPolicy], default: MbsLimits, *, dnn: str, s_nssai: Snssai) -> Terms:
    """The limits of the most specific operator policy that has any, slice before DNN; without one, the default."""
    speaking = (policy for policy in policies if policy.HasField("mbs"))
    found = deciding_policy(speaking, dnn=dnn, slice_info=s_nssai, sponsor_id="")
    return Terms(default, "") if found is None else Terms(found.mbs, found.operator_policy_id)


def grant(
    info: MbsServiceInfo | None,
    service_type: MbsServiceType.ValueType,
    limits: MbsLimits,
    *,
    used_bps: int,
    arranged: Mapping[str, QosReference],
) -> Grant:
    """What is granted of what is needed (None: the best there is), while others under the limits use ``used_bps``.

    Raises MbsPolicyContextDenied where such a session is granted nothing, MbsServiceInfoNotAuthorized where it is
    granted less; its metadata say what it would be granted.
    """
    _check_admitted(service_type, limits)
    qos = (
        {key: _qos_of(key, component, limits, arranged) for key, component in sorted(info.mbs_media_comps.items())}
        if info is not None
        else {"1": _qos_dec("1", limits, five_qi=0, mbr_bps=0, gbr_bps=0, arp=None)}
    )
    if info is not None:
        _check_qos(info, limits)
    wanted_bps = _wanted_bps(info, qos)
    most_bps = limits.max_session_bit_rate_bps if limits.HasField("max_session_bit_rate_bps") else 0
    if most_bps and wanted_bps > most_bps:
        raise _too_much(wanted_bps, most_bps, "one session is granted at most")
    granted_bps = wanted_bps or most_bps
    if limits.HasField("max_total_bit_rate_bps"):
        free_bps = max(0, limits.max_total_bit_rate_bps - used_bps)
        if granted_bps == 0:
            raise _too_much(0, free_bps, "it names no bit rate, and all sessions together have what is left of")
        if granted_bps > free_bps:
            raise _too_much(granted_bps, min(free_bps, most_bps or free_bps), "all sessions together leave")
    return Grant(granted_bps, qos)


def decision_of(info: MbsServiceInfo | None, granted: Grant) -> MbsPolicyDecision:
    """The decision of N7mb: a rule and its QoS for each media component; one rule for all where none is named."""
    decision = MbsPolicyDecision(auth_mbs_sess_ambr_bps=granted.bit_rate_bps)
    for key, qos in granted.qos.items():
        decided = copy_of(qos)
        # A component has at most what the session has.
        decided.mbr_dl_bps = (
            min(qos.mbr_dl_bps, granted.bit_rate_bps or qos.mbr_dl_bps) if qos.mbr_dl_bps else granted.bit_rate_bps
        )
        rule = MbsPccRule(mbs_pcc_rule_id=f"rule-{key}", precedence=_PRECEDENCE, ref_mbs_qos_dec=[qos.mbs_qos_id])
        if info is not None:
            descriptions = info.mbs_media_comps[key].mbs_flow_descs
            rule.mbs_dl_ip_flow_info.extend(downlink_form(each, field="mbs_flow_descs")[0] for each in descriptions)
        decision.mbs_pcc_rules[rule.mbs_pcc_rule_id].CopyFrom(rule)
        decision.mbs_qos_decs[decided.mbs_qos_id].CopyFrom(decided)
    return decision


def _check_admitted(service_type: MbsServiceType.ValueType, limits: MbsLimits) -> None:
    if limits.denied:
        raise MbsPolicyContextDenied("the operator grants no MBS session here")
    if service_type and limits.service_types and service_type not in limits.service_types:
        names = ", ".join(_service_name(each) for each in limits.service_types)
        raise MbsPolicyContextDenied(
            f"service_type: the operator grants {names} sessions only, got {_service_name(service_type)}"
        )


def _service_name(service_type: MbsServiceType.ValueType) -> str:
    return MbsServiceType.Name(service_type).removeprefix("MBS_SERVICE_TYPE_")


def _qos_of(key: str, component: MbsMediaComp, limits: MbsLimits, arranged: Mapping[str, QosReference]) -> MbsQosDec:
    if component.qos_ref:
        reference = arranged[component.qos_ref]
        return _qos_dec(key, limits, five_qi=0, mbr_bps=reference.max_br_dl_bps, gbr_bps=reference.gbr_dl_bps, arp=None)
    needed = component.mbs_qos_req
    qos = _qos_dec(
        key,
        limits,
        five_qi=needed.five_qi,
        mbr_bps=needed.max_bit_rate_bps or component.mbs_media_info.max_req_mbs_bw_dl_bps,
        gbr_bps=needed.guar_bit_rate_bps,
        arp=needed.req_mbs_arp if needed.HasField("req_mbs_arp") else None,
    )
    qos.aver_window_ms = needed.aver_window_ms
    return qos


def _qos_dec(key: str, limits: MbsLimits, *, five_qi: int, mbr_bps: int, gbr_bps: int, arp: Arp | None) -> MbsQosDec:
    own = DEFAULT_GBR_FIVE_QI if gbr_bps else DEFAULT_FIVE_QI
    chosen = own if not limits.five_qis or own in limits.five_qis else limits.five_qis[0]
    qos = MbsQosDec(mbs_qos_id=f"qos-{key}", five_qi=five_qi or chosen, mbr_dl_bps=mbr_bps, gbr_dl_bps=gbr_bps)
    qos.arp.CopyFrom(arp or _DEFAULT_ARP)
    if arp is None:
        qos.arp.priority_level = max(qos.arp.priority_level, limits.highest_arp_priority_level)
    return qos


def _check_qos(info: MbsServiceInfo, limits: MbsLimits) -> None:
    """The 5QIs and ARPs that are asked for by name; what castcore chooses itself is always among what is granted."""
    refused: list[str] = []
    acceptable: dict[str, str] = {}
    for key, component in sorted(info.mbs_media_comps.items()):
        if not component.HasField("mbs_qos_req"):
            continue
        five_qi, arp = component.mbs_qos_req.five_qi, component.mbs_qos_req.req_mbs_arp
        other_qi = limits.five_qis[0] if limits.five_qis and five_qi not in limits.five_qis else five_qi
        asked_level = arp.priority_level if component.mbs_qos_req.HasField("req_mbs_arp") else 0
        other_level = max(asked_level, limits.highest_arp_priority_level) if asked_level else 0
        field = f"mbs_serv_info.mbs_media_comps[{key}].mbs_qos_req"
        if other_qi != five_qi:
            granted = ", ".join(str(each) for each in limits.five_qis)
            refused.append(f"{field}.five_qi: the operator grants {granted}, got {five_qi}")
        if other_level != asked_level:
            refused.append(
                f"{field}.req_mbs_arp.priority_level: the operator grants"
                f" {limits.highest_arp_priority_level} and lower (greater numbers), got {asked_level}"
            )
        if other_qi != five_qi or other_level != asked_level:
            level = f" arp={other_level}" if other_level else ""
            acceptable[f"acc_mbs_serv_info.{key}"] = f"5qi={other_qi}{level}"
    if refused:
        raise MbsServiceInfoNotAuthorized("; ".join(refused), metadata=acceptable)


def _wanted_bps(info: MbsServiceInfo | None, qos: Mapping[str, MbsQosDec]) -> int:
    """What all components are to have together; 0: one of them names no bit rate, and nothing bounds their sum."""
    if info is None:
        return 0
    if info.mbs_session_ambr_bps:
        return info.mbs_session_ambr_bps
    rates = [each.mbr_dl_bps for each in qos.values()]
    return sum(rates) if all(rates) else 0


def _too_much(wanted_bps: int, acceptable_bps: int, why: str) -> MbsServiceInfoNotAuthorized:
    wanted = f"{wanted_bps} bit/s" if wanted_bps else "any bit rate"
    return MbsServiceInfoNotAuthorized(
        f"the MBS session asks for {wanted}: {why} {acceptable_bps} bit/s",
        metadata={"acc_max_mbs_bw_bps": str(acceptable_bps)},
    )
