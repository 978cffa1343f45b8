"""The decision on an application session: threshold, enforcement, charging (TS 26.512 A.3.1, TS 29.514 §4.2.2.2).

The threshold of a direction is the least of what the operator lays down, what the AF authorises and what is asked for.
The components of a session (audio and video, say) share it: their bandwidths add up, and one PCC rule with one bucket
per direction holds all their flows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from nf.common.resources import copy_of
from nf.common.v1.types_pb2 import EnforcementMethod, Snssai, SponsoringStatus
from nf.pcf.errors import RequestedServiceNotAuthorized
from nf.pcf.flows import ANY_PACKET, flow_infos_of, is_removed
from nf.pcf.policies import MONITOR, SESSION_PRECEDENCE, SHAPE, ZERO_RATE, deciding_policy, excess_of, method_of
from nf.pcf.rating import RATING_GROUP_ORDINARY, RATING_GROUP_ZERO_RATED
from nf.pcf.v1.operator_policies_pb2 import OperatorPolicy, QosReference
from nf.pcf.v1.policy_authorization_pb2 import AppSessionContextReqData, Enforcement, MediaComponent
from nf.pcf.v1.sm_policy_control_pb2 import ChargingData, FlowInformation, PccRule, QosData, SmPolicy

DEFAULT_PCC_RULE_ID: Final = "default"
DEFAULT_RULE_PRECEDENCE: Final = 255

_DISABLED: Final = SponsoringStatus.SPONSORING_STATUS_SPONSOR_DISABLED

_Bandwidth = Literal["mar_bw_dl_bps", "mar_bw_ul_bps", "max_auth_bw_dl_bps", "max_auth_bw_ul_bps"]
_LeastBandwidth = Literal["mir_bw_dl_bps", "mir_bw_ul_bps"]


@dataclass(frozen=True, slots=True)
class Threshold:
    """Bit rates that the session may not exceed; None: unbounded."""

    dl_bps: int | None = None
    ul_bps: int | None = None

    @property
    def is_bound(self) -> bool:
        """Whether either direction has a threshold."""
        return self.dl_bps is not None or self.ul_bps is not None


def least(*rates_bps: int | None) -> int | None:
    """The least of the rates that are given; None when none is."""
    return min([rate for rate in rates_bps if rate is not None], default=None)


def _together(components: Sequence[MediaComponent], field: _Bandwidth) -> int | None:
    """The sum over the components; unbounded when one of them is, or when there is none."""
    sum_bps: int | None = None
    for component in components:
        if not component.HasField(field):
            return None
        rate_bps: int = getattr(component, field)
        sum_bps = (sum_bps or 0) + rate_bps
    return sum_bps


def threshold_of(components: Sequence[MediaComponent], policy: OperatorPolicy | None) -> Threshold:
    """The least of operator policy, authorised and requested rate, by direction."""
    policy = policy or OperatorPolicy()
    return Threshold(
        dl_bps=least(
            policy.threshold_dl_bps if policy.HasField("threshold_dl_bps") else None,
            _together(components, "max_auth_bw_dl_bps"),
            _together(components, "mar_bw_dl_bps"),
        ),
        ul_bps=least(
            policy.threshold_ul_bps if policy.HasField("threshold_ul_bps") else None,
            _together(components, "max_auth_bw_ul_bps"),
            _together(components, "mar_bw_ul_bps"),
        ),
    )


def _check_useful(components: Sequence[MediaComponent], threshold: Threshold, policy: OperatorPolicy | None) -> None:
    """Raises RequestedServiceNotAuthorized when the threshold lies below what the media need to be of use."""
    pairs: tuple[tuple[_LeastBandwidth, int | None], ...] = (
        ("mir_bw_dl_bps", threshold.dl_bps),
        ("mir_bw_ul_bps", threshold.ul_bps),
    )
    for field, decided_bps in pairs:
        wanted_bps = sum(getattr(component, field) for component in components)
        if decided_bps is not None and wanted_bps > decided_bps:
            by = f" by operator policy {policy.operator_policy_id!r}" if policy else ""
            raise RequestedServiceNotAuthorized(
                f"{field}: at least {wanted_bps} bit/s are needed, {decided_bps} bit/s are authorised{by}",
                metadata={"field": field, "needed_bps": str(wanted_bps), "authorised_bps": str(decided_bps)},
            )


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one application session. Without a threshold, ``qos`` is None and all is charged ordinarily."""

    enforcement: Enforcement
    flow_infos: tuple[FlowInformation, ...]
    qos: QosData | None
    charging: ChargingData
    precedence: int = SESSION_PRECEDENCE

    def pcc_rule(self, pcc_rule_id: str) -> PccRule:
        """The rule that puts the decision in force."""
        return PccRule(
            pcc_rule_id=pcc_rule_id,
            precedence=self.precedence,
            flow_infos=self.flow_infos,
            qos=self.qos,
            charging=self.charging,
        )


def _ordinary(flows: Iterable[FlowInformation]) -> Decision:
    charging = ChargingData(rating_group=RATING_GROUP_ORDINARY, excess_rating_group=RATING_GROUP_ORDINARY)
    return Decision(Enforcement(), tuple(flows), None, charging)


def check_subscriber(request: AppSessionContextReqData, sm_policy: SmPolicy) -> None:
    """Raises RequestedServiceNotAuthorized when the session is limited to subscribers of whom the UE is none."""
    if request.gpsis and sm_policy.gpsi not in request.gpsis:
        who = f"subscriber {sm_policy.gpsi!r} is" if sm_policy.gpsi else "the subscriber's GPSI is unknown and so"
        raise RequestedServiceNotAuthorized(f"gpsis: {who} not among the {len(request.gpsis)} that are allowed")


def decide(
    request: AppSessionContextReqData,
    *,
    dnn: str,
    slice_info: Snssai,
    policies: Iterable[OperatorPolicy],
    arranged: Mapping[str, QosReference] = MappingProxyType({}),
) -> Decision:
    """The decision on what an AF asks for, for a PDU session in this data network and slice.

    ``arranged`` are the QoS references by their names: each bounds its component, and needs what it guarantees. A
    sponsor that is disabled pays for nothing: no threshold, no operator policy, everything charged ordinarily.
    Raises RequestedServiceNotAuthorized (an unknown QoS reference, or a threshold that is of no use to the media),
    FilterRestrictions and InvalidServiceInformation (flows).
    """
    components = [component for component in request.med_components if not is_removed(component)]
    flows = flow_infos_of(list(request.med_components))
    references = [_arranged(component, arranged) for component in components]
    if request.spon_status == _DISABLED:
        return _ordinary(flows)
    policy = deciding_policy(policies, dnn=dnn, slice_info=slice_info, sponsor_id=request.spon_id)
    components = [_bounded(*each) for each in zip(components, references, strict=True)]
    threshold = threshold_of(components, policy)
    _check_useful(components, threshold, policy)
    if not threshold.is_bound:
        return _ordinary(flows)
    method = _method(components, policy)
    spared = policy is not None and excess_of(policy) == ZERO_RATE
    guaranteed = _guaranteed(components, references, policy, threshold)
    return Decision(
        enforcement=Enforcement(
            enforcement_method=method,
            enforcement_bit_rate_dl_bps=threshold.dl_bps or 0,
            enforcement_bit_rate_ul_bps=threshold.ul_bps or 0,
            operator_policy_id=policy.operator_policy_id if policy else "",
            guaranteed_bit_rate_dl_bps=guaranteed.dl_bps or 0,
            guaranteed_bit_rate_ul_bps=guaranteed.ul_bps or 0,
        ),
        flow_infos=tuple(flows),
        qos=_qos_data(method, threshold, guaranteed, policy or OperatorPolicy(), _five_qi(components)),
        charging=ChargingData(
            rating_group=RATING_GROUP_ZERO_RATED,
            excess_rating_group=RATING_GROUP_ZERO_RATED if spared else RATING_GROUP_ORDINARY,
            sponsor_id=request.spon_id,
        ),
        precedence=_precedence(references, policy),
    )


def _method(components: Sequence[MediaComponent], policy: OperatorPolicy | None) -> EnforcementMethod.ValueType:
    """What the operator policy names, else what the AF asks for, else MONITOR."""
    asked = next((each.enforcement_method for each in components if each.enforcement_method), MONITOR)
    return method_of(policy) if policy is not None and policy.enforcement_method else asked


def _five_qi(components: Sequence[MediaComponent]) -> int:
    return next((each.five_qi for each in components if each.five_qi), 0)


def _arranged(component: MediaComponent, arranged: Mapping[str, QosReference]) -> QosReference:
    """The QoS that a component refers to; one without bounds where it refers to none."""
    if not component.qos_reference:
        return QosReference()
    if component.qos_reference not in arranged:
        raise RequestedServiceNotAuthorized(f"qos_reference: {component.qos_reference!r} is not arranged")
    return arranged[component.qos_reference]


def _bounded(component: MediaComponent, reference: QosReference) -> MediaComponent:
    """The component that wants no more than its reference allows, and needs what that guarantees."""
    if not component.qos_reference:
        return component
    bounded = copy_of(component)
    if reference.HasField("max_br_dl_bps"):
        asked_bps = component.mar_bw_dl_bps if component.HasField("mar_bw_dl_bps") else None
        bounded.mar_bw_dl_bps = least(asked_bps, reference.max_br_dl_bps) or 0
    if reference.HasField("max_br_ul_bps"):
        asked_bps = component.mar_bw_ul_bps if component.HasField("mar_bw_ul_bps") else None
        bounded.mar_bw_ul_bps = least(asked_bps, reference.max_br_ul_bps) or 0
    if reference.HasField("gbr_dl_bps"):
        bounded.mir_bw_dl_bps = max(component.mir_bw_dl_bps, reference.gbr_dl_bps)
    if reference.HasField("gbr_ul_bps"):
        bounded.mir_bw_ul_bps = max(component.mir_bw_ul_bps, reference.gbr_ul_bps)
    return bounded


def _guaranteed(
    components: Sequence[MediaComponent],
    references: Sequence[QosReference],
    policy: OperatorPolicy | None,
    threshold: Threshold,
) -> Threshold:
    """The bit rates that are guaranteed, where there is a threshold above them; None: nothing is."""
    by_policy = policy is not None and policy.guaranteed
    dl_bps = sum(component.mir_bw_dl_bps for component in components) if by_policy else 0
    ul_bps = sum(component.mir_bw_ul_bps for component in components) if by_policy else 0
    if not by_policy:
        # Where a component asks for a guarantee, its least bandwidth holds what its reference guarantees.
        for component, reference in zip(components, references, strict=True):
            dl_bps += component.mir_bw_dl_bps if component.guaranteed else reference.gbr_dl_bps
            ul_bps += component.mir_bw_ul_bps if component.guaranteed else reference.gbr_ul_bps
    return Threshold(
        dl_bps=dl_bps if dl_bps and threshold.dl_bps is not None else None,
        ul_bps=ul_bps if ul_bps and threshold.ul_bps is not None else None,
    )


def _qos_data(
    method: EnforcementMethod.ValueType,
    threshold: Threshold,
    guaranteed: Threshold,
    policy: OperatorPolicy,
    five_qi: int,
) -> QosData:
    queued = method == SHAPE
    qos = QosData(
        max_br_dl_bps=threshold.dl_bps,
        max_br_ul_bps=threshold.ul_bps,
        # A queue has one rate: what is guaranteed under SHAPE is admitted, and within it.
        gbr_dl_bps=None if queued else guaranteed.dl_bps,
        gbr_ul_bps=None if queued else guaranteed.ul_bps,
        burst_bytes=policy.burst_bytes if policy.HasField("burst_bytes") else None,
        enforcement_method=method,
        five_qi=five_qi,
    )
    if queued and policy.HasField("queue_bytes"):
        qos.queue_bytes = policy.queue_bytes
    for field in ("dscp_green", "dscp_yellow", "dscp_red"):
        if policy.HasField(field):
            setattr(qos, field, getattr(policy, field))
    return qos


def _precedence(references: Sequence[QosReference], policy: OperatorPolicy | None) -> int:
    """That of the references, else that of the policy, else the ordinary one."""
    own = min((reference.precedence for reference in references if reference.precedence), default=0)
    return own or (policy.precedence if policy is not None else 0) or SESSION_PRECEDENCE


def default_rule() -> PccRule:
    """The rule of every association that lets pass, and charges, what no application session is about."""
    flow = flow_infos_of([_ANYTHING])
    ordinary = _ordinary(flow)
    return PccRule(
        pcc_rule_id=DEFAULT_PCC_RULE_ID,
        precedence=DEFAULT_RULE_PRECEDENCE,
        flow_infos=ordinary.flow_infos,
        charging=ordinary.charging,
    )


_ANYTHING: Final = MediaComponent()
_ANYTHING.med_sub_comps.add(f_descs=[ANY_PACKET])
