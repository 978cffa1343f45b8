"""What a request about an MBS session must be by itself, whatever the state (TS 29.537 §6, TS 29.571 §5.9)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.mbs_session_ids import session_id_violations
from nf.common.v1.mbs_pb2 import (
    Arp,
    MbsMediaComp,
    MbsServiceInfo,
    MbsServiceType,
    PreemptionCapability,
    PreemptionVulnerability,
)
from nf.pcf.errors import FilterRestrictions, InvalidMbsServiceInfo, MbsFilterRestrictions
from nf.pcf.flows import downlink_form
from nf.pcf.policies import is_identifier, rate_violation, slice_violations
from nf.pcf.v1.mbs_policy_authorization_pb2 import MbsAppSessionContext
from nf.pcf.v1.mbs_policy_control_pb2 import MbsPolicy
from nf.pcf.v1.operator_policies_pb2 import MbsLimits, OperatorPolicy, QosReference

MAX_ARP_PRIORITY_LEVEL: Final = 15
MAX_FIVE_QI: Final = 255
_MAX_AREA_SESSION: Final = 65_535
_MAX_AVERAGING_WINDOW_MS: Final = 4_095
_IDENTIFIER: Final = "expected 1 to 128 of A-Z a-z 0-9 . _ ~ -"
_PRIORITY: Final = re.compile(r"PRIO_([1-9]|1[0-6])")


def _joined(violations: Iterable[FieldViolation]) -> str:
    return "; ".join(f"{each.field}: {each.description}" for each in violations)


def _arp_violations(arp: Arp, field: str) -> Iterator[FieldViolation]:
    if not 1 <= arp.priority_level <= MAX_ARP_PRIORITY_LEVEL:
        found = arp.priority_level
        yield FieldViolation(f"{field}.priority_level", f"expected 1 to {MAX_ARP_PRIORITY_LEVEL}, got {found}")
    if arp.preempt_cap not in PreemptionCapability.values()[1:]:
        yield FieldViolation(f"{field}.preempt_cap", f"expected NOT_PREEMPT or MAY_PREEMPT, got {arp.preempt_cap}")
    if arp.preempt_vuln not in PreemptionVulnerability.values()[1:]:
        yield FieldViolation(
            f"{field}.preempt_vuln", f"expected NOT_PREEMPTABLE or PREEMPTABLE, got {arp.preempt_vuln}"
        )


def _component_violations(
    component: MbsMediaComp, field: str, arranged: Mapping[str, QosReference]
) -> Iterator[FieldViolation]:
    if component.mbs_sdf_res_prio and not _PRIORITY.fullmatch(component.mbs_sdf_res_prio):
        yield FieldViolation(
            f"{field}.mbs_sdf_res_prio", f"expected PRIO_1 to PRIO_16, got {component.mbs_sdf_res_prio!r}"
        )
    if component.qos_ref and component.HasField("mbs_qos_req"):
        yield FieldViolation(f"{field}.qos_ref", "expected it or mbs_qos_req, got both")
    if component.qos_ref and component.qos_ref not in arranged:
        yield FieldViolation(f"{field}.qos_ref", f"expected a QoS that is arranged, got {component.qos_ref!r}")
    if component.HasField("mbs_qos_req"):
        needed, of = component.mbs_qos_req, f"{field}.mbs_qos_req"
        if not 1 <= needed.five_qi <= MAX_FIVE_QI:
            yield FieldViolation(f"{of}.five_qi", f"expected 1 to {MAX_FIVE_QI}, got {needed.five_qi}")
        for rate in ("guar_bit_rate_bps", "max_bit_rate_bps"):
            if getattr(needed, rate) and (violation := rate_violation(getattr(needed, rate), f"{of}.{rate}")):
                yield violation
        if needed.guar_bit_rate_bps > needed.max_bit_rate_bps:
            found = f"{needed.guar_bit_rate_bps}, more than the {needed.max_bit_rate_bps} of max_bit_rate_bps"
            yield FieldViolation(f"{of}.guar_bit_rate_bps", f"expected at most max_bit_rate_bps, got {found}")
        if needed.aver_window_ms > _MAX_AVERAGING_WINDOW_MS:
            found = str(needed.aver_window_ms)
            yield FieldViolation(f"{of}.aver_window_ms", f"expected 1 to {_MAX_AVERAGING_WINDOW_MS}, got {found}")
        if needed.HasField("req_mbs_arp"):
            yield from _arp_violations(needed.req_mbs_arp, f"{of}.req_mbs_arp")
    media, of = component.mbs_media_info, f"{field}.mbs_media_info"
    for rate in ("max_req_mbs_bw_dl_bps", "min_req_mbs_bw_dl_bps"):
        if getattr(media, rate) and (violation := rate_violation(getattr(media, rate), f"{of}.{rate}")):
            yield violation
    if media.max_req_mbs_bw_dl_bps and media.min_req_mbs_bw_dl_bps > media.max_req_mbs_bw_dl_bps:
        found = f"{media.min_req_mbs_bw_dl_bps}, more than the {media.max_req_mbs_bw_dl_bps} of max_req_mbs_bw_dl_bps"
        yield FieldViolation(f"{of}.min_req_mbs_bw_dl_bps", f"expected at most max_req_mbs_bw_dl_bps, got {found}")


def check_service_info(info: MbsServiceInfo, field: str, arranged: Mapping[str, QosReference]) -> None:
    """Raises InvalidMbsServiceInfo naming every property that is wrong by itself, MbsFilterRestrictions for a flow."""
    found: list[FieldViolation] = []
    if not info.mbs_media_comps:
        found.append(FieldViolation(f"{field}.mbs_media_comps", "expected one at least, got none"))
    if info.mbs_sdf_res_prio and not _PRIORITY.fullmatch(info.mbs_sdf_res_prio):
        why = f"expected PRIO_1 to PRIO_16, got {info.mbs_sdf_res_prio!r}"
        found.append(FieldViolation(f"{field}.mbs_sdf_res_prio", why))
    ambr = info.mbs_session_ambr_bps
    if ambr and (violation := rate_violation(ambr, f"{field}.mbs_session_ambr_bps")):
        found.append(violation)
    guaranteed_bps = sum(each.mbs_qos_req.guar_bit_rate_bps for each in info.mbs_media_comps.values())
    if ambr and guaranteed_bps > ambr:
        why = f"expected at least the {guaranteed_bps} that its media are guaranteed, got {ambr}"
        found.append(FieldViolation(f"{field}.mbs_session_ambr_bps", why))
    for key, component in sorted(info.mbs_media_comps.items()):
        of = f"{field}.mbs_media_comps[{key}]"
        if key != str(component.mbs_med_comp_num):
            found.append(
                FieldViolation(f"{of}.mbs_med_comp_num", f"expected its key, got {component.mbs_med_comp_num}")
            )
        found += _component_violations(component, of, arranged)
    if found:
        raise InvalidMbsServiceInfo(_joined(found), violations=found)
    for key, component in sorted(info.mbs_media_comps.items()):
        for at, description in enumerate(component.mbs_flow_descs):
            try:
                downlink_form(description, field=f"{field}.mbs_media_comps[{key}].mbs_flow_descs[{at}]")
            except FilterRestrictions as error:
                raise MbsFilterRestrictions(error.message, violations=error.violations) from None


def _area_violation(message: MbsAppSessionContext | MbsPolicy, field: str) -> FieldViolation | None:
    number = (
        message.area_sess_pol_id
        if isinstance(message, MbsAppSessionContext)
        else message.mbs_policy_ctxt_data.area_sess_pol_id
    )
    if number <= _MAX_AREA_SESSION:
        return None
    return FieldViolation(f"{field}.area_sess_pol_id", f"expected 0 to {_MAX_AREA_SESSION}, got {number}")


def check_context(context: MbsAppSessionContext, arranged: Mapping[str, QosReference]) -> None:
    """Raises InvalidArgument, InvalidMbsServiceInfo or MbsFilterRestrictions for what is wrong with a new context."""
    found: list[FieldViolation] = []
    if not is_identifier(context.context_id):
        found.append(FieldViolation("context.context_id", f"{_IDENTIFIER}, got {context.context_id!r}"))
    found += session_id_violations(context.mbs_session_id, "context.mbs_session_id")
    found += slice_violations(context.snssai, "context.snssai")
    if violation := _area_violation(context, "context"):
        found.append(violation)
    if context.service_type not in MbsServiceType.values():
        why = f"expected MULTICAST or BROADCAST, got {context.service_type}"
        found.append(FieldViolation("context.service_type", why))
    if found:
        raise InvalidArgument(_joined(found), violations=found)
    if context.HasField("mbs_serv_info"):
        check_service_info(context.mbs_serv_info, "context.mbs_serv_info", arranged)


def check_policy(policy: MbsPolicy, arranged: Mapping[str, QosReference]) -> None:
    """Raises InvalidArgument, InvalidMbsServiceInfo or MbsFilterRestrictions for what is wrong with a new policy."""
    asked, field = policy.mbs_policy_ctxt_data, "mbs_policy.mbs_policy_ctxt_data"
    found: list[FieldViolation] = []
    if not is_identifier(policy.mbs_policy_id):
        found.append(FieldViolation("mbs_policy.mbs_policy_id", f"{_IDENTIFIER}, got {policy.mbs_policy_id!r}"))
    found += session_id_violations(asked.mbs_session_id, f"{field}.mbs_session_id")
    found += slice_violations(asked.snssai, f"{field}.snssai")
    if violation := _area_violation(policy, field):
        found.append(violation)
    if asked.service_type not in MbsServiceType.values():
        why = f"expected MULTICAST or BROADCAST, got {asked.service_type}"
        found.append(FieldViolation(f"{field}.service_type", why))
    if found:
        raise InvalidArgument(_joined(found), violations=found)
    if asked.HasField("mbs_serv_info"):
        check_service_info(asked.mbs_serv_info, f"{field}.mbs_serv_info", arranged)


def _limit_violations(policy: OperatorPolicy) -> Iterator[FieldViolation]:
    limits: MbsLimits = policy.mbs
    if policy.sponsor_id:
        yield FieldViolation("sponsor_id", f"expected none beside mbs: MBS has no sponsors, got {policy.sponsor_id!r}")
    for service_type in limits.service_types:
        if service_type not in MbsServiceType.values()[1:]:
            yield FieldViolation("mbs.service_types", f"expected MULTICAST or BROADCAST, got {service_type}")
    for field in ("max_session_bit_rate_bps", "max_total_bit_rate_bps"):
        if limits.HasField(field) and (violation := rate_violation(getattr(limits, field), f"mbs.{field}")):
            yield violation
    for five_qi in limits.five_qis:
        if not 1 <= five_qi <= MAX_FIVE_QI:
            yield FieldViolation("mbs.five_qis", f"expected 1 to {MAX_FIVE_QI}, got {five_qi}")
    if limits.highest_arp_priority_level > MAX_ARP_PRIORITY_LEVEL:
        found = limits.highest_arp_priority_level
        yield FieldViolation("mbs.highest_arp_priority_level", f"expected 0 to {MAX_ARP_PRIORITY_LEVEL}, got {found}")


def check_mbs_limits(policy: OperatorPolicy) -> None:
    """Raises InvalidArgument naming every property of an operator policy's ``mbs`` that is wrong."""
    if not policy.HasField("mbs"):
        return
    found = [FieldViolation(f"operator_policy.{each.field}", each.description) for each in _limit_violations(policy)]
    if found:
        raise InvalidArgument(_joined(found), violations=found)
