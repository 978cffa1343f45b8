"""A dynamic policy as the PCF sees it, and the PCF's answer as the Media Session Handler sees it (A.3.2 steps 6 and 7).

Pure: what M5 asks for (TS 26.512 §11.5.3) becomes an N5 application session (TS 29.514 §5.6.2), and back.
"""

from __future__ import annotations

from collections.abc import Sequence

from nf.af.errors import RequestedQosNotAuthorized
from nf.af.flow_descriptions import FlowDescription, IpNetwork, network
from nf.af.policy_templates import MAX_RATE_BPS, snssai_text
from nf.af.v1 import media_session_pb2 as m5
from nf.af.v1.provisioning_pb2 import PROVISIONING_SESSION_TYPE_UPLINK, PolicyTemplate, ProvisioningSession
from nf.common.errors import CastcoreError, FieldViolation, InvalidArgument
from nf.common.resources import copy_of
from nf.common.v1.types_pb2 import (
    ENFORCEMENT_METHOD_MARK,
    ENFORCEMENT_METHOD_POLICE,
    ENFORCEMENT_METHOD_SHAPE,
    InvalidParam,
    MediaType,
    ProblemDetails,
)
from nf.pcf.v1 import policy_authorization_pb2 as n5

# What a Media Session Handler may change.
SETTABLE = ("service_data_flow_descriptions", "media_type", "qos_specification")
# TS 26.512 §6.4.3.5: tenths of a percent.
MAX_LOSS = 1000

_MEDIA_TYPES = frozenset(MediaType.values())
_EVENTS = (
    n5.AF_EVENT_SUCCESSFUL_RESOURCES_ALLOCATION,
    n5.AF_EVENT_FAILED_RESOURCES_ALLOCATION,
    n5.AF_EVENT_QOS_NOTIF,
    n5.AF_EVENT_USAGE_REPORT,
    n5.AF_EVENT_PDU_SESSION_STATUS,
)
# What of a request its flows and its template decide: an update at the PCF replaces all of it.
CHANGEABLE = ("spon_id", "spon_status", "gpsis", "med_components")
EXCEEDED_CAUSE = "POLICY_THRESHOLD_EXCEEDED"

_CONSEQUENCES = {
    ENFORCEMENT_METHOD_POLICE: "the excess is dropped",
    ENFORCEMENT_METHOD_MARK: "the excess is marked, and passes",
    ENFORCEMENT_METHOD_SHAPE: "the queue is full, and packets are dropped",
}
# A dynamic policy is one medium.
_MED_COMP_N = 1


def check(policy: m5.DynamicPolicy) -> None:
    """Raises InvalidArgument, with a violation for every property at fault, when medium or QoS asked for is absurd."""
    qos = policy.qos_specification
    violations = []
    if policy.media_type not in _MEDIA_TYPES:
        why = f"expected a medium of TS 29.514, found {int(policy.media_type)}"
        violations.append(FieldViolation("media_type", why))
    for name in ("mar_bw_dl_bps", "mar_bw_ul_bps", "mir_bw_dl_bps", "mir_bw_ul_bps"):
        rate_bps: int = getattr(qos, name)
        if rate_bps > MAX_RATE_BPS:
            why = f"expected at most {MAX_RATE_BPS} bps, found {rate_bps} bps"
            violations.append(FieldViolation(f"qos_specification.{name}", why))
    for way, wanted_bps, least_bps in (
        ("dl", qos.mar_bw_dl_bps, qos.mir_bw_dl_bps),
        ("ul", qos.mar_bw_ul_bps, qos.mir_bw_ul_bps),
    ):
        if wanted_bps and least_bps > wanted_bps:
            why = f"expected at most mar_bw_{way}_bps ({wanted_bps} bps), found {least_bps} bps"
            violations.append(FieldViolation(f"qos_specification.mir_bw_{way}_bps", why))
    if qos.des_loss > MAX_LOSS:
        why = f"expected 0 to {MAX_LOSS} tenths of a percent, found {qos.des_loss}"
        violations.append(FieldViolation("qos_specification.des_loss", why))
    if violations:
        raise InvalidArgument.of_all(violations)


def check_granted(qos: m5.M5QosSpecification, template: PolicyTemplate) -> None:
    """Raises RequestedQosNotAuthorized when the media need more than the template is about."""
    limits = template.qos_specification
    for field, needed_bps, limit_bps in (
        ("mir_bw_dl_bps", qos.mir_bw_dl_bps, limits.max_btr_dl_bps),
        ("mir_bw_ul_bps", qos.mir_bw_ul_bps, limits.max_btr_ul_bps),
    ):
        if limit_bps and needed_bps > limit_bps:
            why = f"at least {needed_bps} bps are needed, the policy template is about {limit_bps} bps"
            raise RequestedQosNotAuthorized(
                f"qos_specification.{field}: {why}", violations=(FieldViolation(f"qos_specification.{field}", why),)
            )


def app_session_request(
    policy: m5.DynamicPolicy,
    flows: Sequence[FlowDescription],
    template: PolicyTemplate,
    session: ProvisioningSession,
    *,
    previous: n5.AppSessionContextReqData | None = None,
) -> n5.AppSessionContextReqData:
    """What the PCF is asked for; ``policy.ue_address`` is the UE's.

    ``flows`` are the policy's own. A flow that ``previous`` had keeps its number, so the network goes on counting it.
    Raises InvalidArgument when a flow cannot be one of the UE's IP version.
    """
    qos = policy.qos_specification
    limits = template.qos_specification
    component = n5.MediaComponent(med_comp_n=_MED_COMP_N, qos_reference=limits.qos_reference)
    # What the session asks for is bounded by what the template is about; asking for nothing means all of that.
    if wanted_bps := _least(qos.mar_bw_dl_bps, limits.max_btr_dl_bps):
        component.mar_bw_dl_bps = wanted_bps
    if wanted_bps := _least(qos.mar_bw_ul_bps, limits.max_btr_ul_bps):
        component.mar_bw_ul_bps = wanted_bps
    if qos.mir_bw_dl_bps:
        component.mir_bw_dl_bps = qos.mir_bw_dl_bps
    if qos.mir_bw_ul_bps:
        component.mir_bw_ul_bps = qos.mir_bw_ul_bps
    if limits.max_auth_btr_dl_bps:
        component.max_auth_bw_dl_bps = limits.max_auth_btr_dl_bps
    if limits.max_auth_btr_ul_bps:
        component.max_auth_bw_ul_bps = limits.max_auth_btr_ul_bps
    charging = template.charging_specification
    ue = network(policy.ue_address)
    request = n5.AppSessionContextReqData(
        af_app_id=session.app_id,
        asp_id=session.asp_id,
        dnn=template.application_session_context.dnn,
        spon_id=charging.spon_id,
        spon_status=charging.spon_status,
        gpsis=charging.gpsi,
        ue_ipv4=str(ue.network_address) if ue.version == 4 else "",
        ue_ipv6=str(ue.network_address) if ue.version == 6 else "",
        med_components=[component],
        events=_EVENTS,
    )
    if template.application_session_context.HasField("slice_info"):
        request.slice_info.CopyFrom(template.application_session_context.slice_info)
    _set_flows(request, policy, flows, previous=previous)
    return request


def with_flows(
    request: n5.AppSessionContextReqData,
    policy: m5.DynamicPolicy,
    flows: Sequence[FlowDescription],
    *,
    previous: n5.AppSessionContextReqData | None,
) -> n5.AppSessionContextReqData:
    """The request with these flows and the policy's medium; nothing else is changed. Raises as above."""
    changed = copy_of(request)
    _set_flows(changed, policy, flows, previous=previous)
    return changed


def rebound(request: n5.AppSessionContextReqData, known: n5.AppSessionContextReqData) -> n5.AppSessionContextReqData:
    """The request with the data network and slice of the application session as it is."""
    bound = copy_of(request)
    bound.dnn = known.dnn
    bound.ClearField("slice_info")
    if known.HasField("slice_info"):
        bound.slice_info.CopyFrom(known.slice_info)
    return bound


def displacement(request: n5.AppSessionContextReqData, template: PolicyTemplate) -> ProblemDetails | None:
    """Why an application session cannot go on when its template has moved to another data network or slice."""
    context = template.application_session_context
    # The case of a data network name, and of a slice differentiator's digits, means nothing (TS 23.003 §9A, §28.4).
    moved = bool(context.dnn) and context.dnn.lower() != request.dnn.lower()
    moved = moved or (
        context.HasField("slice_info") and snssai_text(context.slice_info) != snssai_text(request.slice_info)
    )
    if not moved or template.state != PolicyTemplate.STATE_READY:
        return None
    return ProblemDetails(
        title="The policy template may no longer be used here",
        detail=f"policy template {template.external_reference!r} has moved to another data network or slice",
        cause="POLICY_TEMPLATE_MOVED",
    )


def enforced(
    policy: m5.DynamicPolicy,
    enforcement: n5.Enforcement,
    service_description_id: str,
    session: ProvisioningSession,
) -> m5.DynamicPolicy:
    """The policy with what the network enforces, and from which the player's filter is made (A.3.2 step 7)."""
    uplink = session.provisioning_session_type == PROVISIONING_SESSION_TYPE_UPLINK
    threshold_bps = enforcement.enforcement_bit_rate_ul_bps if uplink else enforcement.enforcement_bit_rate_dl_bps
    answered = copy_of(policy)
    answered.enforcement_method = enforcement.enforcement_method
    answered.enforcement_bit_rate_bps = threshold_bps
    answered.service_descriptor_filter.CopyFrom(
        m5.ServiceDescriptorFilter(
            service_description_id=service_description_id,
            operating_bandwidth_max_bps=threshold_bps,
            media_type=policy.media_type,
        )
    )
    return answered


def exceeded_reason(policy: m5.DynamicPolicy) -> ProblemDetails:
    """Why a policy is EXCEEDED, and what becomes of the excess."""
    consequence = _CONSEQUENCES.get(policy.enforcement_method, "the excess passes")
    return ProblemDetails(
        title="The media session exceeds the policy threshold",
        detail=f"its flows together exceed {policy.enforcement_bit_rate_bps} bps: {consequence}",
        cause=EXCEEDED_CAUSE,
    )


def refusal(error: CastcoreError) -> ProblemDetails:
    """Why a policy is TERMINATED when the PCF no longer authorises it."""
    return ProblemDetails(
        title="The policy is no longer authorised",
        status=error.http_status,
        detail=error.message,
        cause=error.cause or error.reason,
        invalid_params=[InvalidParam(param=each.field, reason=each.description) for each in error.violations],
    )


def usage(notification: n5.EventNotification, *, compliant: bool) -> m5.DynamicPolicyUsage:
    """What a policy has used, from the PCF's notification."""
    return m5.DynamicPolicyUsage(
        dynamic_policy_id=notification.app_session_id,
        usage=notification.usage,
        zero_rated_bytes=notification.zero_rated_bytes,
        charged_bytes=notification.charged_bytes,
        compliant=compliant,
    )


def _set_flows(
    request: n5.AppSessionContextReqData,
    policy: m5.DynamicPolicy,
    flows: Sequence[FlowDescription],
    *,
    previous: n5.AppSessionContextReqData | None,
) -> None:
    ue = network(policy.ue_address)
    subs = _numbered([_sub_component(flow, ue) for flow in flows], previous)
    component = request.med_components[0]
    component.med_type = policy.media_type
    del component.med_sub_comps[:]
    component.med_sub_comps.extend(subs)


def _sub_component(flow: FlowDescription, ue: IpNetwork) -> n5.MediaSubComponent:
    """The flow at N5, without a number."""
    sub = n5.MediaSubComponent(
        f_descs=flow.ip_filter_rules(ue), tos_tr_cl=flow.marks.tos_traffic_class, domain_name=flow.domain_name
    )
    if flow.marks.flow_label is not None or flow.marks.spi is not None:
        # The rules say in which directions.
        sub.add_info_flow_descs.add(
            flow_label="" if flow.marks.flow_label is None else f"{flow.marks.flow_label:06x}",
            spi="" if flow.marks.spi is None else f"{flow.marks.spi:08x}",
        )
    return sub


def _numbered(
    flows: Sequence[n5.MediaSubComponent], previous: n5.AppSessionContextReqData | None
) -> list[n5.MediaSubComponent]:
    """The flows with their numbers: those that ``previous`` had keep theirs."""
    known = {
        _identity(sub): sub.f_num
        for component in (previous.med_components if previous is not None else ())
        for sub in component.med_sub_comps
    }
    following = max(known.values(), default=0) + 1
    # A flow named twice is one flow.
    numbered: dict[bytes, n5.MediaSubComponent] = {}
    for flow in flows:
        identity = _identity(flow)
        if identity in numbered:
            continue
        numbered[identity] = copy_of(flow)
        numbered[identity].f_num = known.get(identity) or following
        following += identity not in known
    return list(numbered.values())


def _identity(sub: n5.MediaSubComponent) -> bytes:
    """What makes a flow the same as another: everything but its number."""
    plain = copy_of(sub)
    plain.ClearField("f_num")
    return plain.SerializeToString(deterministic=True)


def _least(*rates_bps: int) -> int:
    return min((rate for rate in rates_bps if rate), default=0)
