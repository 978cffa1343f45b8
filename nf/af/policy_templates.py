"""What makes a policy template valid, and what it says about its state (TS 26.512 §7.9.3, A.3.2 step 1)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from nf.af.machine import TemplateState
from nf.af.v1.provisioning_pb2 import PolicyTemplate
from nf.common.v1 import types_pb2 as types
from nf.pcf.v1.operator_policies_pb2 import QosReference

# What a provider may set, and so change.
SETTABLE = (
    "external_reference",
    "qos_specification",
    "application_session_context",
    "charging_specification",
    "service_description_id",
)
# TS 29.571 PacketLossRate: tenths of a percent.
MAX_PACKET_LOSS_RATE = 1000
# The user plane's bounds for a bit rate.
MIN_RATE_BPS, MAX_RATE_BPS = 1, 10_000_000_000_000
MAX_EXTERNAL_REFERENCE_LENGTH = 255

_DNN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*")
_MAX_DNN_LENGTH = 100
_SD = re.compile(r"[0-9A-Fa-f]{6}")
_GPSI = re.compile(r"msisdn-[0-9]{5,15}|extid-[^@\s]+@[^@\s]+")


@dataclass(frozen=True, slots=True)
class TemplateLimits:
    """What the operator lets templates name; an empty list allows all. Slices are "SST" or "SST-SD"."""

    dnns: tuple[str, ...] = ()
    snssais: tuple[str, ...] = ()
    sponsors: tuple[str, ...] = ()


def validate(
    template: PolicyTemplate, limits: TemplateLimits, arranged: QosReference | None = None
) -> tuple[types.InvalidParam, ...]:
    """Everything that is wrong with a template, in the words of the M1 API; empty when it may be READY.

    ``arranged`` is what the operator has arranged under its QoS reference; its name alone: nothing.
    """
    found = (
        *_external_reference(template),
        *_qos(template),
        *_qos_reference(template, arranged),
        *_context(template, limits),
        *_charging(template, limits),
    )
    return tuple(types.InvalidParam(param=param, reason=reason) for param, reason in found)


def state_reason(
    state: TemplateState, *, detail: str = "", invalid_params: tuple[types.InvalidParam, ...] = ()
) -> types.ProblemDetails:
    """The stateReason that goes with a state; the M1 API demands one in every state."""
    if state is TemplateState.INVALID:
        return types.ProblemDetails(
            title="The policy template is invalid",
            detail="; ".join(f"{each.param}: {each.reason}" for each in invalid_params),
            cause="POLICY_TEMPLATE_INVALID",
            invalid_params=invalid_params,
        )
    if state is TemplateState.SUSPENDED:
        return types.ProblemDetails(
            title="The operator has suspended the policy template", detail=detail, cause="POLICY_TEMPLATE_SUSPENDED"
        )
    title = (
        "The policy template may be used" if state is TemplateState.READY else "The policy template awaits validation"
    )
    return types.ProblemDetails(title=title, detail=detail)


def snssai_text(snssai: types.Snssai) -> str:
    """A slice as the configuration writes it: "1" or "1-00ABCD"."""
    return f"{snssai.sst}-{snssai.sd.upper()}" if snssai.sd else str(snssai.sst)


def _external_reference(template: PolicyTemplate) -> Iterator[tuple[str, str]]:
    reference = template.external_reference
    if not reference:
        yield "externalReference", "expected the network policy id that applications know, found nothing"
    elif len(reference) > MAX_EXTERNAL_REFERENCE_LENGTH:
        yield (
            "externalReference",
            f"expected at most {MAX_EXTERNAL_REFERENCE_LENGTH} characters, found {len(reference)}",
        )
    elif reference != reference.strip() or not reference.isprintable():
        yield "externalReference", f"expected printable text without spaces around it, found {reference!r}"


def _qos(template: PolicyTemplate) -> Iterator[tuple[str, str]]:
    qos = template.qos_specification
    rates = {
        "maxBtrUl": qos.max_btr_ul_bps,
        "maxBtrDl": qos.max_btr_dl_bps,
        "maxAuthBtrUl": qos.max_auth_btr_ul_bps,
        "maxAuthBtrDl": qos.max_auth_btr_dl_bps,
    }
    if not any(rates.values()) and not qos.qos_reference:
        yield "qoSSpecification", "expected a bit rate (maxBtrDl, maxBtrUl) or a qosReference: the policy says nothing"
    for name, rate_bps in rates.items():
        if rate_bps and not MIN_RATE_BPS <= rate_bps <= MAX_RATE_BPS:
            yield f"qoSSpecification.{name}", f"expected {MIN_RATE_BPS} bps to {MAX_RATE_BPS} bps, found {rate_bps} bps"
    for way in ("Ul", "Dl"):
        wanted_bps, authorised_bps = rates[f"maxBtr{way}"], rates[f"maxAuthBtr{way}"]
        if wanted_bps and authorised_bps and wanted_bps > authorised_bps:
            yield (
                f"qoSSpecification.maxBtr{way}",
                f"expected at most maxAuthBtr{way} ({authorised_bps} bps), found {wanted_bps} bps",
            )
    for name, rate in (
        ("defPacketLossRateDl", qos.def_packet_loss_rate_dl),
        ("defPacketLossRateUl", qos.def_packet_loss_rate_ul),
    ):
        if rate > MAX_PACKET_LOSS_RATE:
            yield f"qoSSpecification.{name}", f"expected 0 to {MAX_PACKET_LOSS_RATE} tenths of a percent, found {rate}"


def _qos_reference(template: PolicyTemplate, arranged: QosReference | None) -> Iterator[tuple[str, str]]:
    name = template.qos_specification.qos_reference
    if not name or arranged is None:
        return
    if arranged == QosReference(qos_reference=name):
        yield "qoSSpecification.qosReference", f"expected a QoS that is arranged with the operator, found {name!r}"


def _context(template: PolicyTemplate, limits: TemplateLimits) -> Iterator[tuple[str, str]]:
    context = template.application_session_context
    path = "applicationSessionContext.dnn"
    if context.dnn and (len(context.dnn) > _MAX_DNN_LENGTH or not _DNN.fullmatch(context.dnn)):
        yield path, f"expected a DNN (TS 23.003 §9A: labels of letters, digits and hyphens), found {context.dnn!r}"
    # No DNN means any, which is more than a list allows; the same holds for slices.
    elif limits.dnns and context.dnn.lower() not in {each.lower() for each in limits.dnns}:
        yield path, f"expected one of {', '.join(limits.dnns)}, found {context.dnn or 'none (any)'}"
    path = "applicationSessionContext.sliceInfo"
    if not context.HasField("slice_info"):
        if limits.snssais:
            yield path, f"expected one of {', '.join(limits.snssais)}, found none (any)"
        return
    if context.slice_info.sst > 255:
        yield f"{path}.sst", f"expected 0 to 255, found {context.slice_info.sst}"
    elif context.slice_info.sd and not _SD.fullmatch(context.slice_info.sd):
        yield f"{path}.sd", f"expected six hexadecimal digits, found {context.slice_info.sd!r}"
    elif limits.snssais and snssai_text(context.slice_info) not in {each.upper() for each in limits.snssais}:
        yield path, f"expected one of {', '.join(limits.snssais)}, found {snssai_text(context.slice_info)}"


def _charging(template: PolicyTemplate, limits: TemplateLimits) -> Iterator[tuple[str, str]]:
    charging = template.charging_specification
    path = "chargingSpecification"
    if charging.spon_status not in types.SponsoringStatus.values():
        yield f"{path}.sponStatus", f"expected SPONSOR_ENABLED or SPONSOR_DISABLED, found {int(charging.spon_status)}"
    if charging.spon_status == types.SPONSORING_STATUS_SPONSOR_ENABLED and not charging.spon_id:
        yield f"{path}.sponId", "expected the sponsor who pays, found nothing though sponStatus is SPONSOR_ENABLED"
    if charging.spon_id and limits.sponsors and charging.spon_id not in limits.sponsors:
        yield f"{path}.sponId", f"expected one of {', '.join(limits.sponsors)}, found {charging.spon_id}"
    for index, gpsi in enumerate(charging.gpsi):
        if not _GPSI.fullmatch(gpsi):
            yield f"{path}.gpsi[{index}]", f"expected msisdn-DIGITS or extid-NAME@DOMAIN, found {gpsi!r}"
