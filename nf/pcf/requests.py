"""What an AF's or an SMF's request must be by itself, whatever the state (TS 29.514 §5.6, TS 29.512 §5.6)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Final

from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.v1.types_pb2 import EnforcementMethod
from nf.pcf.errors import InvalidServiceInformation
from nf.pcf.policies import MONITOR, POLICE, SHAPE, is_identifier, rate_violation, slice_violations
from nf.pcf.v1.policy_authorization_pb2 import (
    AppSession,
    AppSessionContextReqData,
    MediaComponent,
    UsageThreshold,
)
from nf.pcf.v1.sm_policy_control_pb2 import SmPolicy

_UE_PREFIX_BITS: Final = 64
# Ten years: what is longer is no threshold.
_MAX_DURATION_S: Final = 10 * 366 * 86_400
_RATES: Final = (
    "mar_bw_dl_bps",
    "mar_bw_ul_bps",
    "mir_bw_dl_bps",
    "mir_bw_ul_bps",
    "max_auth_bw_dl_bps",
    "max_auth_bw_ul_bps",
)
# What is needed at least, and what is wanted at most.
_LEAST_AND_MOST: Final = (("mir_bw_dl_bps", "mar_bw_dl_bps"), ("mir_bw_ul_bps", "mar_bw_ul_bps"))
_MAX_FIVE_QI: Final = 255
# MARK needs the DSCPs of an operator policy.
_METHODS: Final = (MONITOR, POLICE, SHAPE)
_IDENTIFIER: Final = "expected 1 to 128 of A-Z a-z 0-9 . _ ~ -"


def _joined(violations: Iterable[FieldViolation]) -> str:
    return "; ".join(f"{each.field}: {each.description}" for each in violations)


def _component_violations(component: MediaComponent, field: str) -> Iterator[FieldViolation]:
    present = [rate for rate in _RATES if component.HasField(rate)]
    for rate in present:
        if violation := rate_violation(getattr(component, rate), f"{field}.{rate}"):
            yield violation
    for least, most in _LEAST_AND_MOST:
        if least in present and most in present and getattr(component, least) > getattr(component, most):
            found = f"{getattr(component, least)}, more than the {getattr(component, most)} of {most}"
            yield FieldViolation(f"{field}.{least}", f"expected at most {most}, got {found}")
    if component.enforcement_method and component.enforcement_method not in _METHODS:
        found = f"expected MONITOR, POLICE or SHAPE, got {_method_text(component.enforcement_method)}"
        yield FieldViolation(f"{field}.enforcement_method", found)
    if component.five_qi > _MAX_FIVE_QI:
        yield FieldViolation(f"{field}.five_qi", f"expected 1 to {_MAX_FIVE_QI}, or 0 for any, got {component.five_qi}")
    numbers = [flow.f_num for flow in component.med_sub_comps]
    if len(set(numbers)) < len(numbers):
        yield FieldViolation(f"{field}.med_sub_comps", f"expected different f_num, got {numbers}")


def _method_text(method: EnforcementMethod.ValueType) -> str:
    known = method in EnforcementMethod.values()
    return EnforcementMethod.Name(method).removeprefix("ENFORCEMENT_METHOD_") if known else str(int(method))


def _threshold_violations(threshold: UsageThreshold) -> Iterator[FieldViolation]:
    field = "asc_req_data.usg_thres"
    if threshold == UsageThreshold():
        yield FieldViolation(field, "expected a duration or a volume, got neither")
    if threshold.duration_s > _MAX_DURATION_S:
        yield FieldViolation(f"{field}.duration_s", f"expected at most {_MAX_DURATION_S}, got {threshold.duration_s}")


def _address_violations(request: AppSessionContextReqData) -> Iterator[FieldViolation]:
    if bool(request.ue_ipv4) == bool(request.ue_ipv6):
        found = "both" if request.ue_ipv4 else "neither"
        yield FieldViolation("asc_req_data.ue_ipv4", f"expected exactly one of ue_ipv4 and ue_ipv6, got {found}")
    for field, kind in (("ue_ipv4", IPv4Address), ("ue_ipv6", IPv6Address)):
        text = getattr(request, field)
        if text and not _is(kind, text):
            yield FieldViolation(f"asc_req_data.{field}", f"expected an {kind.__name__[:4]} address, got {text!r}")


@lru_cache(maxsize=4096)
def _is(kind: type[IPv4Address] | type[IPv6Address] | type[IPv6Network], text: str) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True


def check_service_information(request: AppSessionContextReqData) -> None:
    """Raises InvalidServiceInformation naming every property that is wrong by itself (flows: ``flow_infos_of``)."""
    found = list(_address_violations(request))
    if request.HasField("slice_info"):
        found += slice_violations(request.slice_info, "asc_req_data.slice_info")
    components = request.med_components
    if not components:
        found.append(FieldViolation("asc_req_data.med_components", "expected at least one, got none"))
    numbers = [component.med_comp_n for component in components]
    if len(set(numbers)) < len(numbers):
        found.append(FieldViolation("asc_req_data.med_components", f"expected different med_comp_n, got {numbers}"))
    for at, component in enumerate(components):
        found += _component_violations(component, f"asc_req_data.med_components[{at}]")
    for field in ("enforcement_method", "five_qi"):
        asked = sorted({int(getattr(component, field)) for component in components} - {0})
        if len(asked) > 1:
            # They share one bit rate, in one PCC rule.
            why = f"expected one {field} for all components, got {asked}"
            found.append(FieldViolation("asc_req_data.med_components", why))
    if request.HasField("usg_thres"):
        found += _threshold_violations(request.usg_thres)
    if found:
        raise InvalidServiceInformation(_joined(found), violations=found)


def check_app_session(session: AppSession) -> None:
    """Raises InvalidArgument naming every property of a new application session that is wrong by itself."""
    if not is_identifier(session.app_session_id):
        raise InvalidArgument.of("app_session.app_session_id", f"{_IDENTIFIER}, got {session.app_session_id!r}")
    check_service_information(session.asc_req_data)


def _policy_violations(policy: SmPolicy) -> Iterator[FieldViolation]:
    if not is_identifier(policy.sm_policy_id):
        yield FieldViolation("sm_policy_id", f"{_IDENTIFIER}, got {policy.sm_policy_id!r}")
    if not policy.supi:
        yield FieldViolation("supi", "expected a SUPI, got none")
    if not policy.dnn:
        yield FieldViolation("dnn", "expected a data network name, got none")
    if not 1 <= policy.pdu_session_id <= 15:
        yield FieldViolation("pdu_session_id", f"expected 1 to 15, got {policy.pdu_session_id}")
    yield from slice_violations(policy.slice_info, "slice_info")
    if not policy.ipv4_address and not policy.ipv6_address_prefix:
        yield FieldViolation("ipv4_address", "expected an address or an ipv6_address_prefix, got neither")
    if policy.ipv4_address and not _is(IPv4Address, policy.ipv4_address):
        yield FieldViolation("ipv4_address", f"expected an IPv4 address, got {policy.ipv4_address!r}")
    prefix = policy.ipv6_address_prefix
    if prefix and (not _is(IPv6Network, prefix) or IPv6Network(prefix).prefixlen != _UE_PREFIX_BITS):
        yield FieldViolation("ipv6_address_prefix", f"expected an IPv6 prefix of /64, got {prefix!r}")


def check_sm_policy(policy: SmPolicy) -> None:
    """Raises InvalidArgument naming every property of a new policy association that is wrong."""
    found = [FieldViolation(f"sm_policy.{each.field}", each.description) for each in _policy_violations(policy)]
    if found:
        raise InvalidArgument(_joined(found), violations=found)


def prefix_of(address: str) -> str:
    """The /64 prefix that a UE's IPv6 address lies in, in canonical form."""
    return str(IPv6Network((address, _UE_PREFIX_BITS), strict=False))
