from __future__ import annotations

import itertools

import pytest

from nf.common.errors import InvalidArgument
from nf.common.v1.types_pb2 import EnforcementMethod, Snssai
from nf.pcf.policies import (
    CHARGE,
    DROP,
    MONITOR,
    POLICE,
    ZERO_RATE,
    check_operator_policy,
    deciding_policy,
    excess_of,
    method_of,
    slice_key,
)
from nf.pcf.v1.operator_policies_pb2 import ExcessTreatment, OperatorPolicy

MARK = EnforcementMethod.ENFORCEMENT_METHOD_MARK
SHAPE = EnforcementMethod.ENFORCEMENT_METHOD_SHAPE
UNSET = EnforcementMethod.ENFORCEMENT_METHOD_UNSPECIFIED
NO_EXCESS = ExcessTreatment.EXCESS_TREATMENT_UNSPECIFIED


def refused_fields(policy: OperatorPolicy) -> list[str]:
    with pytest.raises(InvalidArgument) as refusal:
        check_operator_policy(policy)
    return [violation.field for violation in refusal.value.violations]


@pytest.mark.parametrize(
    ("method", "excess", "effective_method", "effective_excess"),
    [
        (UNSET, NO_EXCESS, MONITOR, CHARGE),
        (MONITOR, NO_EXCESS, MONITOR, CHARGE),
        (MONITOR, CHARGE, MONITOR, CHARGE),
        (MONITOR, ZERO_RATE, MONITOR, ZERO_RATE),
        (UNSET, ZERO_RATE, MONITOR, ZERO_RATE),
        (POLICE, NO_EXCESS, POLICE, DROP),
        (POLICE, DROP, POLICE, DROP),
    ],
)
@pytest.mark.clause("TS 26.512 A.3.1")
def test_what_is_consistent_is_taken(
    method: EnforcementMethod.ValueType,
    excess: ExcessTreatment.ValueType,
    effective_method: EnforcementMethod.ValueType,
    effective_excess: ExcessTreatment.ValueType,
) -> None:
    policy = OperatorPolicy(operator_policy_id="p", enforcement_method=method, excess=excess)
    check_operator_policy(policy)
    assert (method_of(policy), excess_of(policy)) == (effective_method, effective_excess)


@pytest.mark.parametrize(("method", "excess"), [(MONITOR, DROP), (UNSET, DROP), (POLICE, CHARGE), (POLICE, ZERO_RATE)])
def test_what_contradicts_itself_is_refused(
    method: EnforcementMethod.ValueType, excess: ExcessTreatment.ValueType
) -> None:
    policy = OperatorPolicy(operator_policy_id="p", enforcement_method=method, excess=excess)
    assert refused_fields(policy) == ["operator_policy.excess"]


@pytest.mark.parametrize(
    ("method", "excess", "effective_excess"),
    [(MARK, NO_EXCESS, CHARGE), (MARK, ZERO_RATE, ZERO_RATE), (SHAPE, NO_EXCESS, DROP), (SHAPE, DROP, DROP)],
)
def test_marking_passes_the_excess_and_a_full_queue_drops_it(
    method: EnforcementMethod.ValueType, excess: ExcessTreatment.ValueType, effective_excess: ExcessTreatment.ValueType
) -> None:
    policy = OperatorPolicy(operator_policy_id="p", enforcement_method=method, excess=excess)
    if method == MARK:
        policy.dscp_red = 10
    check_operator_policy(policy)
    assert excess_of(policy) == effective_excess


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"enforcement_method": MARK}, ["dscp_red"]),
        ({"enforcement_method": MARK, "dscp_red": 64}, ["dscp_red"]),
        ({"enforcement_method": MARK, "dscp_yellow": 1}, ["dscp_yellow"]),
        ({"enforcement_method": MARK, "dscp_red": 1, "excess": DROP}, ["excess"]),
        ({"enforcement_method": POLICE, "dscp_green": 1}, ["dscp_green"]),
        ({"enforcement_method": SHAPE, "excess": CHARGE}, ["excess"]),
        ({"enforcement_method": SHAPE, "queue_bytes": 63}, ["queue_bytes"]),
        ({"queue_bytes": 15_000}, ["queue_bytes"]),
        ({"guaranteed_total_dl_bps": 1}, ["guaranteed_total_dl_bps"]),
        ({"guaranteed": True, "guaranteed_total_ul_bps": 0}, ["guaranteed_total_ul_bps"]),
        ({"precedence": 255}, ["precedence"]),
        ({"enforcement_method": 9}, ["enforcement_method"]),
    ],
)
def test_what_the_method_has_no_use_for_is_refused(changes: dict[str, object], fields: list[str]) -> None:
    found = refused_fields(OperatorPolicy(operator_policy_id="p", **changes))
    assert found == [f"operator_policy.{field}" for field in fields]


def test_every_property_out_of_range_is_named() -> None:
    policy = OperatorPolicy(
        operator_policy_id="a/b",
        slice_info=Snssai(sst=256, sd="12"),
        threshold_dl_bps=0,
        threshold_ul_bps=10_000_000_000_001,
        burst_bytes=63,
    )
    assert refused_fields(policy) == [
        "operator_policy.operator_policy_id",
        "operator_policy.slice_info.sst",
        "operator_policy.slice_info.sd",
        "operator_policy.threshold_dl_bps",
        "operator_policy.threshold_ul_bps",
        "operator_policy.burst_bytes",
    ]


def test_the_most_specific_policy_decides_sponsor_before_slice_before_dnn() -> None:
    slice_info = Snssai(sst=1, sd="00000a")
    policies = [
        OperatorPolicy(
            operator_policy_id=f"{sponsor}{sliced}{dnn}",
            sponsor_id="acme" if sponsor else "",
            slice_info=slice_info if sliced else None,
            dnn="internet" if dnn else "",
        )
        for sponsor, sliced, dnn in itertools.product((0, 1), repeat=3)
    ]
    order = []
    while policies:
        chosen = deciding_policy(policies, dnn="internet", slice_info=Snssai(sst=1, sd="00000A"), sponsor_id="acme")
        assert chosen is not None
        order.append(chosen.operator_policy_id)
        policies.remove(chosen)
    assert order == ["111", "110", "101", "100", "011", "010", "001", "000"]


def test_of_equally_specific_policies_the_lowest_identifier_decides() -> None:
    policies = [OperatorPolicy(operator_policy_id=name) for name in ("b", "a", "c")]
    chosen = deciding_policy(policies, dnn="internet", slice_info=Snssai(sst=1), sponsor_id="")
    assert chosen == policies[1]


@pytest.mark.parametrize(
    "policy",
    [
        OperatorPolicy(operator_policy_id="p", dnn="ims"),
        OperatorPolicy(operator_policy_id="p", slice_info=Snssai(sst=2)),
        OperatorPolicy(operator_policy_id="p", slice_info=Snssai(sst=1, sd="000001")),
        OperatorPolicy(operator_policy_id="p", sponsor_id="acme"),
    ],
)
def test_a_policy_for_others_does_not_decide(policy: OperatorPolicy) -> None:
    assert deciding_policy([policy], dnn="internet", slice_info=Snssai(sst=1), sponsor_id="") is None


def test_the_case_of_a_data_network_name_means_nothing() -> None:
    policy = OperatorPolicy(operator_policy_id="p", dnn="Internet")
    assert deciding_policy([policy], dnn="iNTERNET", slice_info=Snssai(sst=1), sponsor_id="") == policy


def test_slices_are_equal_whatever_the_case_of_their_digits() -> None:
    assert slice_key(Snssai(sst=1, sd="00000A")) == slice_key(Snssai(sst=1, sd="00000a")) == "1-00000a"
    assert slice_key(Snssai(sst=1)) == "1"
