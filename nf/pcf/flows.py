"""Flow descriptions of an application session → the flows of its PCC rule (TS 29.214 §5.3.8, TS 29.512 §5.6.2.14).

Looked at no closer than is needed to write them for the downlink: the grammar of addresses and ports belongs to the
user plane, whose refusal comes back through the SMF with its own words.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from nf.common.errors import FieldViolation
from nf.pcf.errors import FilterRestrictions, InvalidServiceInformation
from nf.pcf.v1.policy_authorization_pb2 import FlowStatus, MediaComponent, MediaSubComponent
from nf.pcf.v1.sm_policy_control_pb2 import FlowInformation

_FORM = re.compile(r"permit (in|out) (\S+) from (\S.*?) to (\S.*)")
_MAX_DESCRIPTIONS = 2


def downlink_form(description: str, *, field: str) -> str:
    """The description as "permit out", source and destination exchanged where it was written for the uplink.

    Raises FilterRestrictions naming ``field``.
    """
    match = _FORM.fullmatch(" ".join(description.split()))
    if match is None:
        raise FilterRestrictions(
            f"{field}: expected 'permit in|out <protocol> from <address> [ports] to <address> [ports]',"
            f" got {description!r}",
            violations=(FieldViolation(field, f"not a flow description: {description!r}"),),
        )
    direction, protocol, source, destination = match.groups()
    if direction == "in":
        source, destination = destination, source
    return f"permit out {protocol} from {source} to {destination}"


def pack_filt_id_of(flow_description: str) -> str:
    """The label of a flow within its rule: the same flow has the same one whatever else the rule holds."""
    return hashlib.sha256(flow_description.encode()).hexdigest()[:16]


def is_removed(component: MediaComponent) -> bool:
    """Whether the AF has taken the whole component out of the session."""
    return component.f_status == FlowStatus.FLOW_STATUS_REMOVED


def _check_status(status: FlowStatus.ValueType, field: str) -> None:
    """Raises unless the user plane can do it: it has no gates, so that a flow is enabled in both directions or gone."""
    possible = (FlowStatus.FLOW_STATUS_UNSPECIFIED, FlowStatus.FLOW_STATUS_ENABLED, FlowStatus.FLOW_STATUS_REMOVED)
    if status not in possible:
        known = status in FlowStatus.values()
        name = FlowStatus.Name(status).removeprefix("FLOW_STATUS_") if known else str(int(status))
        raise InvalidServiceInformation(
            f"{field}: expected ENABLED or REMOVED, got {name}: the user plane has no gates",
            violations=(FieldViolation(field, f"{name} cannot be enforced"),),
        )


def _check_sub_component(flow: MediaSubComponent, field: str) -> None:
    _check_status(flow.f_status, f"{field}.f_status")
    if flow.tos_tr_cl:
        raise FilterRestrictions(
            f"{field}.tos_tr_cl: flows cannot be detected by type of service yet, got {flow.tos_tr_cl!r}",
            violations=(FieldViolation(f"{field}.tos_tr_cl", "cannot be detected"),),
        )
    if len(flow.f_descs) > _MAX_DESCRIPTIONS:
        raise FilterRestrictions(
            f"{field}.f_descs: expected at most {_MAX_DESCRIPTIONS}, got {len(flow.f_descs)}",
            violations=(FieldViolation(f"{field}.f_descs", f"more than {_MAX_DESCRIPTIONS}"),),
        )
    directions = [each.split()[1] for each in flow.f_descs if len(each.split()) > 1]
    if len(set(directions)) < len(directions):
        raise FilterRestrictions(
            f"{field}.f_descs: expected at most one per direction, got two 'permit {directions[0]}'",
            violations=(FieldViolation(f"{field}.f_descs", "two of one direction"),),
        )


def _descriptions(component: MediaComponent, field: str) -> Iterator[str]:
    for at, flow in enumerate(component.med_sub_comps):
        flow_field = f"{field}.med_sub_comps[{at}]"
        _check_sub_component(flow, flow_field)
        if flow.f_status != FlowStatus.FLOW_STATUS_REMOVED:
            for number, description in enumerate(flow.f_descs):
                yield downlink_form(description, field=f"{flow_field}.f_descs[{number}]")


def flow_infos_of(
    components: list[MediaComponent], *, field: str = "asc_req_data.med_components"
) -> list[FlowInformation]:
    """The flows of a session in the order of its request, each once.

    An uplink description that is the mirror image of a downlink one is the same flow. Raises FilterRestrictions and
    InvalidServiceInformation naming the property.
    """
    flows: dict[str, FlowInformation] = {}
    for at, component in enumerate(components):
        _check_status(component.f_status, f"{field}[{at}].f_status")
        for description in _descriptions(component, f"{field}[{at}]"):
            if not is_removed(component):
                label = pack_filt_id_of(description)
                flows[label] = FlowInformation(flow_description=description, pack_filt_id=label)
    return list(flows.values())
