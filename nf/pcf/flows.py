"""Flow descriptions of an application session → the flows of its PCC rule (TS 29.214 §5.3.8, TS 29.512 §5.6.2.14).

Looked at no closer than is needed to write them for the downlink: the grammar of addresses and ports belongs to the
user plane, whose refusal comes back through the SMF with its own words.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Final

from nf.common.errors import FieldViolation
from nf.common.resources import copy_of
from nf.pcf.errors import FilterRestrictions, InvalidServiceInformation
from nf.pcf.v1.policy_authorization_pb2 import (
    AddFlowDescriptionInfo,
    FlowDirection,
    FlowStatus,
    MediaComponent,
    MediaSubComponent,
)
from nf.pcf.v1.sm_policy_control_pb2 import FlowInformation

ANY_PACKET: Final = "permit out ip from any to assigned"

_DOWNLINK: Final = FlowDirection.FLOW_DIRECTION_DOWNLINK
_UPLINK: Final = FlowDirection.FLOW_DIRECTION_UPLINK
_BOTH: Final = FlowDirection.FLOW_DIRECTION_BIDIRECTIONAL
_NO_WAY: Final = FlowDirection.FLOW_DIRECTION_UNSPECIFIED
_ENABLED: Final = FlowStatus.FLOW_STATUS_ENABLED
_REMOVED: Final = FlowStatus.FLOW_STATUS_REMOVED
_STATUSES: Final = frozenset(FlowStatus.values())
_WAYS: Final = frozenset(FlowDirection.values())
_FORM: Final = re.compile(r"permit (in|out) (\S+) from (\S.*?) to (\S.*)")
_TOS: Final = re.compile(r"[0-9A-Fa-f]{4}")
_SPI: Final = re.compile(r"[0-9A-Fa-f]{1,8}")
_FLOW_LABEL: Final = re.compile(r"0*[0-9A-Fa-f]{1,5}")
# One per direction, of whatever there is.
_MOST: Final = 2


def _restricted(field: str, expected: str, found: object) -> FilterRestrictions:
    why = f"expected {expected}, got {found!r}"
    return FilterRestrictions(f"{field}: {why}", violations=(FieldViolation(field, why),))


def downlink_form(description: str, *, field: str) -> tuple[str, FlowDirection.ValueType]:
    """The description as "permit out", source and destination exchanged where it was written for the uplink.

    The direction is that for which it was written. Raises FilterRestrictions naming ``field``.
    """
    match = _FORM.fullmatch(" ".join(description.split()))
    if match is None:
        expected = "'permit in|out <protocol> from <address> [ports] to <address> [ports]'"
        raise _restricted(field, expected, description)
    direction, protocol, source, destination = match.groups()
    if direction == "in":
        source, destination = destination, source
    return f"permit out {protocol} from {source} to {destination}", _UPLINK if direction == "in" else _DOWNLINK


def pack_filt_id_of(flow: FlowInformation) -> str:
    """The label of a flow within its rule: the same flow has the same one whatever else the rule holds."""
    identity = copy_of(flow)
    identity.ClearField("pack_filt_id")
    # A gate that opens or closes is no other flow.
    identity.ClearField("flow_status")
    plain = identity == FlowInformation(flow_description=flow.flow_description)
    content = flow.flow_description.encode() if plain else identity.SerializeToString(deterministic=True)
    return hashlib.sha256(content).hexdigest()[:16]


def is_removed(component: MediaComponent) -> bool:
    """Whether the AF has taken the whole component out of the session."""
    return component.f_status == _REMOVED


def _check_status(status: FlowStatus.ValueType, field: str) -> None:
    if status not in _STATUSES:
        expected = ", ".join(name.removeprefix("FLOW_STATUS_") for name in FlowStatus.keys()[1:])
        raise InvalidServiceInformation(
            f"{field}: expected one of {expected}, got {int(status)}",
            violations=(FieldViolation(field, f"{int(status)} is no flow status"),),
        )


def _check_sub_component(flow: MediaSubComponent, field: str) -> None:
    _check_status(flow.f_status, f"{field}.f_status")
    if flow.tos_tr_cl and (not _TOS.fullmatch(flow.tos_tr_cl) or flow.tos_tr_cl.endswith("00")):
        expected = "four hexadecimal digits, value and mask, the mask not 00"
        raise _restricted(f"{field}.tos_tr_cl", expected, flow.tos_tr_cl)
    if len(flow.f_descs) > _MOST:
        raise _restricted(f"{field}.f_descs", f"at most {_MOST}", len(flow.f_descs))
    directions = [words[1] for words in (each.split(maxsplit=2) for each in flow.f_descs) if len(words) > 1]
    if len(set(directions)) < len(directions):
        raise _restricted(f"{field}.f_descs", "at most one per direction", f"two 'permit {directions[0]}'")
    for at, info in enumerate(flow.add_info_flow_descs):
        _check_info(info, f"{field}.add_info_flow_descs[{at}]")
    covered = [way for info in flow.add_info_flow_descs for way in _ways(info.flow_dir or _BOTH)]
    if len(set(covered)) < len(covered):
        raise _restricted(
            f"{field}.add_info_flow_descs", "at most one per direction", f"{len(flow.add_info_flow_descs)}"
        )


def _check_info(info: AddFlowDescriptionInfo, field: str) -> None:
    if info.spi and not _SPI.fullmatch(info.spi):
        raise _restricted(f"{field}.spi", "1 to 8 hexadecimal digits", info.spi)
    if info.flow_label and not _FLOW_LABEL.fullmatch(info.flow_label):
        raise _restricted(f"{field}.flow_label", "a hexadecimal number up to fffff", info.flow_label)
    if not info.spi and not info.flow_label:
        raise _restricted(field, "an spi or a flow_label", "neither")
    if info.flow_dir not in _WAYS:
        raise _restricted(f"{field}.flow_dir", "DOWNLINK, UPLINK or BIDIRECTIONAL", int(info.flow_dir))


def _ways(direction: FlowDirection.ValueType) -> tuple[FlowDirection.ValueType, ...]:
    return (_DOWNLINK, _UPLINK) if direction == _BOTH else (direction,)


def _flows_of(sub: MediaSubComponent, field: str) -> Iterator[FlowInformation]:
    """The flows of a sub-component that passes the checks, without label and status."""
    written: dict[str, FlowDirection.ValueType] = {}
    for number, description in enumerate(sub.f_descs):
        form, direction = downlink_form(description, field=f"{field}.f_descs[{number}]")
        written[form] = _BOTH if form in written else direction
    marked = bool(sub.tos_tr_cl or sub.add_info_flow_descs)
    if not written and (marked or sub.domain_name):
        written[ANY_PACKET] = _BOTH
    for form, direction in written.items():
        for info in sub.add_info_flow_descs or [AddFlowDescriptionInfo()]:
            yield FlowInformation(
                flow_description=form,
                tos_traffic_class=sub.tos_tr_cl.lower(),
                spi=info.spi.lower(),
                flow_label=info.flow_label.lower(),
                flow_direction=(info.flow_dir or direction) if marked else _NO_WAY,
                domain_name=sub.domain_name,
            )


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
        for number, sub in enumerate(component.med_sub_comps):
            sub_field = f"{field}[{at}].med_sub_comps[{number}]"
            _check_sub_component(sub, sub_field)
            status = sub.f_status or component.f_status or _ENABLED
            for flow in _flows_of(sub, sub_field):
                if is_removed(component) or status == _REMOVED:
                    continue
                flow.pack_filt_id = pack_filt_id_of(flow)
                if status != _ENABLED:
                    flow.flow_status = status
                flows[flow.pack_filt_id] = flow
    return list(flows.values())
