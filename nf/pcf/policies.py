"""Operator policies: which are possible, and which one decides a session (castcore's reading of TS 26.512 A.3.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.v1.types_pb2 import EnforcementMethod, Snssai
from nf.pcf.v1.operator_policies_pb2 import ExcessTreatment, OperatorPolicy

MIN_RATE_BPS: Final = 1
MAX_RATE_BPS: Final = 10_000_000_000_000
MIN_BURST_BYTES: Final = 64
MAX_BURST_BYTES: Final = 512 * 1024 * 1024
MAX_DSCP: Final = 63
# Rules of application sessions are all evaluated before the default rule.
SESSION_PRECEDENCE: Final = 100
MAX_SESSION_PRECEDENCE: Final = 254

MONITOR: Final = EnforcementMethod.ENFORCEMENT_METHOD_MONITOR
POLICE: Final = EnforcementMethod.ENFORCEMENT_METHOD_POLICE
MARK: Final = EnforcementMethod.ENFORCEMENT_METHOD_MARK
SHAPE: Final = EnforcementMethod.ENFORCEMENT_METHOD_SHAPE
CHARGE: Final = ExcessTreatment.EXCESS_TREATMENT_CHARGE
DROP: Final = ExcessTreatment.EXCESS_TREATMENT_DROP
ZERO_RATE: Final = ExcessTreatment.EXCESS_TREATMENT_ZERO_RATE

_IDENTIFIER = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_SLICE_DIFFERENTIATOR = re.compile(r"[0-9A-Fa-f]{6}")
# The first is the method's own.
_TREATMENTS: Final = {MONITOR: (CHARGE, ZERO_RATE), POLICE: (DROP,), MARK: (CHARGE, ZERO_RATE), SHAPE: (DROP,)}
_DSCPS: Final = ("dscp_green", "dscp_yellow", "dscp_red")


def method_of(policy: OperatorPolicy) -> EnforcementMethod.ValueType:
    """What the policy does above the threshold; MONITOR unless set."""
    return policy.enforcement_method or MONITOR


def excess_of(policy: OperatorPolicy) -> ExcessTreatment.ValueType:
    """What becomes of traffic above the threshold; the method's own treatment unless set."""
    return policy.excess or _TREATMENTS[method_of(policy)][0]


def is_identifier(text: str) -> bool:
    """Whether a resource may be named so: 1 to 128 unreserved characters of RFC 3986."""
    return _IDENTIFIER.fullmatch(text) is not None


def rate_violation(rate_bps: int, field: str) -> FieldViolation | None:
    """What is wrong with a bit rate, if anything."""
    if MIN_RATE_BPS <= rate_bps <= MAX_RATE_BPS:
        return None
    return FieldViolation(field, f"expected {MIN_RATE_BPS} to {MAX_RATE_BPS} bit/s, got {rate_bps}")


def slice_violations(slice_info: Snssai, field: str) -> Iterator[FieldViolation]:
    """What is wrong with an S-NSSAI (TS 29.571 Snssai)."""
    if slice_info.sst > 255:
        yield FieldViolation(f"{field}.sst", f"expected 0 to 255, got {slice_info.sst}")
    if slice_info.sd and not _SLICE_DIFFERENTIATOR.fullmatch(slice_info.sd):
        yield FieldViolation(f"{field}.sd", f"expected six hexadecimal digits, got {slice_info.sd!r}")


def slice_key(slice_info: Snssai) -> str:
    """The slice in the form of TS 29.571: "1" or "1-00000a"; equal slices have equal keys."""
    return f"{slice_info.sst}-{slice_info.sd.lower()}" if slice_info.sd else str(slice_info.sst)


def dnn_key(dnn: str) -> str:
    """The data network name in the form in which equal ones are equal: case means nothing (TS 23.003 §9A)."""
    return dnn.lower()


def _violations(policy: OperatorPolicy) -> Iterator[FieldViolation]:
    if not is_identifier(policy.operator_policy_id):
        found = repr(policy.operator_policy_id)
        yield FieldViolation("operator_policy_id", f"expected 1 to 128 of A-Z a-z 0-9 . _ ~ -, got {found}")
    if policy.HasField("slice_info"):
        yield from slice_violations(policy.slice_info, "slice_info")
    for field in ("threshold_dl_bps", "threshold_ul_bps"):
        if policy.HasField(field) and (violation := rate_violation(getattr(policy, field), field)):
            yield violation
    if policy.HasField("burst_bytes") and not MIN_BURST_BYTES <= policy.burst_bytes <= MAX_BURST_BYTES:
        yield FieldViolation(
            "burst_bytes", f"expected {MIN_BURST_BYTES} to {MAX_BURST_BYTES} bytes, got {policy.burst_bytes}"
        )
    method = method_of(policy)
    if method not in _TREATMENTS:
        yield FieldViolation(
            "enforcement_method",
            f"expected MONITOR, POLICE, MARK or SHAPE, got {_method_name(method)}",
        )
    elif policy.excess and policy.excess not in _TREATMENTS[method]:
        expected = " or ".join(_excess_name(each) for each in _TREATMENTS[method])
        yield FieldViolation(
            "excess", f"{_excess_name(policy.excess)} contradicts {_method_name(method)}, expected {expected}"
        )
    yield from _marking_violations(policy, method)
    yield from _guarantee_violations(policy)
    if policy.precedence > MAX_SESSION_PRECEDENCE:
        yield FieldViolation("precedence", f"expected 0 to {MAX_SESSION_PRECEDENCE}, got {policy.precedence}")
    if policy.HasField("queue_bytes") and method != SHAPE:
        yield FieldViolation("queue_bytes", f"expected none with {_method_name(method)}: SHAPE alone has a queue")
    elif policy.HasField("queue_bytes") and not MIN_BURST_BYTES <= policy.queue_bytes <= MAX_BURST_BYTES:
        yield FieldViolation(
            "queue_bytes", f"expected {MIN_BURST_BYTES} to {MAX_BURST_BYTES} bytes, got {policy.queue_bytes}"
        )


def _marking_violations(policy: OperatorPolicy, method: int) -> Iterator[FieldViolation]:
    marked = [field for field in _DSCPS if policy.HasField(field)]
    for field in marked:
        dscp: int = getattr(policy, field)
        if method != MARK:
            yield FieldViolation(field, f"expected none with {_method_name(method)}: MARK alone marks")
        elif dscp > MAX_DSCP:
            yield FieldViolation(field, f"expected 0 to {MAX_DSCP}, got {dscp}")
    if method == MARK and not marked:
        yield FieldViolation("dscp_red", "expected a DSCP for some colour: MARK without one marks nothing")
    if policy.HasField("dscp_yellow") and not policy.guaranteed:
        yield FieldViolation("dscp_yellow", "expected none unless guaranteed: without a GBR nothing is yellow")


def _guarantee_violations(policy: OperatorPolicy) -> Iterator[FieldViolation]:
    for field in ("guaranteed_total_dl_bps", "guaranteed_total_ul_bps"):
        if not policy.HasField(field):
            continue
        if not policy.guaranteed:
            yield FieldViolation(field, "expected none unless guaranteed")
        elif violation := rate_violation(getattr(policy, field), field):
            yield violation


def _method_name(method: int) -> str:
    known = method in EnforcementMethod.values()
    return (
        EnforcementMethod.Name(EnforcementMethod.ValueType(method))[len("ENFORCEMENT_METHOD_") :]
        if known
        else str(method)
    )


def _excess_name(excess: int) -> str:
    known = excess in ExcessTreatment.values()
    return ExcessTreatment.Name(ExcessTreatment.ValueType(excess))[len("EXCESS_TREATMENT_") :] if known else str(excess)


def check_operator_policy(policy: OperatorPolicy) -> None:
    """Raises InvalidArgument naming every property that is out of range or contradicts another."""
    found = [FieldViolation(f"operator_policy.{each.field}", each.description) for each in _violations(policy)]
    if found:
        raise InvalidArgument.of_all(found)


def _fits(policy: OperatorPolicy, *, dnn: str, slice_info: Snssai, sponsor_id: str) -> bool:
    return (
        dnn_key(policy.dnn) in ("", dnn_key(dnn))
        and policy.sponsor_id in ("", sponsor_id)
        and (not policy.HasField("slice_info") or slice_key(policy.slice_info) == slice_key(slice_info))
    )


def deciding_policy(
    policies: Iterable[OperatorPolicy], *, dnn: str, slice_info: Snssai, sponsor_id: str
) -> OperatorPolicy | None:
    """The most specific policy that fits: sponsor before slice before DNN, then the lowest identifier."""
    fitting = (policy for policy in policies if _fits(policy, dnn=dnn, slice_info=slice_info, sponsor_id=sponsor_id))
    return min(
        fitting,
        key=lambda policy: (
            not policy.sponsor_id,
            not policy.HasField("slice_info"),
            not policy.dnn,
            policy.operator_policy_id,
        ),
        default=None,
    )
