"""Nmb12 and N7mb at the PCF's store: what is granted, refused with what would be, counted, withdrawn."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from hypothesis import given, settings
from hypothesis import strategies as st

from nf.common.clock import ManualClock
from nf.common.errors import InvalidArgument, PermissionDenied
from nf.common.store import Store, url_for
from nf.common.v1.mbs_pb2 import (
    Arp,
    IpAddr,
    MbsMediaComp,
    MbsMediaInfo,
    MbsQosReq,
    MbsServiceInfo,
    MbsServiceType,
    MbsSessionId,
    PlmnId,
    PreemptionCapability,
    PreemptionVulnerability,
    Ssm,
    Tmgi,
)
from nf.common.v1.types_pb2 import Snssai
from nf.pcf.config import PcfSection
from nf.pcf.errors import (
    InvalidMbsServiceInfo,
    MbsContextExists,
    MbsContextNotFound,
    MbsFilterRestrictions,
    MbsPolicyContextDenied,
    MbsPolicyExists,
    MbsServiceInfoNotAuthorized,
)
from nf.pcf.mbs_authorization import MbsPolicies
from nf.pcf.mbs_requests import check_mbs_limits
from nf.pcf.v1.mbs_policy_authorization_pb2 import MbsAppSessionContext, MbsPolicyControlFailure
from nf.pcf.v1.mbs_policy_control_pb2 import MbsPolicy, MbsPolicyCtxtData
from nf.pcf.v1.operator_policies_pb2 import MbsLimits, OperatorPolicy, QosReference

MBPS = 1_000_000
BROADCAST = MbsServiceType.MBS_SERVICE_TYPE_BROADCAST
MULTICAST = MbsServiceType.MBS_SERVICE_TYPE_MULTICAST
FLOW = "permit out 17 from 198.51.100.7 to 232.1.1.1 5004"
NOT_AUTHORIZED = "MBS_SERVICE_INFO_NOT_AUTHORIZED"
GOLD = {"gold": QosReference(qos_reference="gold", max_br_dl_bps=7 * MBPS, gbr_dl_bps=2 * MBPS)}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    opened = Store.open(url_for(tmp_path, "pcf"), clock=clock)
    try:
        yield opened
    finally:
        await opened.close()


def policies(store: Store, **limits: object) -> MbsPolicies:
    return MbsPolicies(store, MbsLimits(**limits), GOLD)


def session_id(number: int = 1) -> MbsSessionId:
    return MbsSessionId(tmgi=Tmgi(mbs_service_id=f"{number:06x}", plmn_id=PlmnId(mcc="001", mnc="01")))


def info(*rates_bps: int, **changes: object) -> MbsServiceInfo:
    made = MbsServiceInfo(**changes)
    for number, rate_bps in enumerate(rates_bps, 1):
        made.mbs_media_comps[str(number)].CopyFrom(
            MbsMediaComp(
                mbs_med_comp_num=number,
                mbs_flow_descs=[FLOW],
                mbs_media_info=MbsMediaInfo(max_req_mbs_bw_dl_bps=rate_bps),
            )
        )
    return made


def context(name: str = "c", rate_bps: int = 5 * MBPS, **changes: object) -> MbsAppSessionContext:
    asked = {"context_id": name, "mbs_session_id": session_id(), "service_type": BROADCAST}
    if rate_bps:
        asked["mbs_serv_info"] = info(rate_bps)
    return MbsAppSessionContext(**{**asked, **changes})


def policy(name: str = "p", **asked: object) -> MbsPolicy:
    return MbsPolicy(mbs_policy_id=name, mbs_policy_ctxt_data=MbsPolicyCtxtData(mbs_session_id=session_id(), **asked))


async def events(store: Store) -> list[tuple[str, MbsPolicyControlFailure]]:
    found = []
    for event in await store.read(lambda reader: reader.events(0)):
        failure = MbsPolicyControlFailure()
        assert event.type == "MBS_POLICY_CONTROL_FAILURE"
        assert event.payload.Unpack(failure)
        found.append((event.subject, failure))
    return found


async def set_limits(store: Store, mbs: MbsPolicies, name: str, limits: MbsLimits | None, **where: object) -> None:
    changed = OperatorPolicy(operator_policy_id=name, mbs=limits, **where)
    await store.write(lambda tx: tx.put(changed, name) if limits is not None else tx.delete(OperatorPolicy, name))
    await mbs.decide_all_anew()


@pytest.mark.clause("TS 29.537 §4.3.2")
async def test_a_context_is_authorised_at_the_sum_of_its_media_and_a_repeat_is_the_same(store: Store) -> None:
    mbs = policies(store)
    asked = context(mbs_serv_info=info(5 * MBPS, 2 * MBPS))
    created = await mbs.create_context(asked)
    assert created.authorized_bw_bps == 7 * MBPS
    assert created.state == MbsAppSessionContext.STATE_AUTHORIZED
    assert await mbs.create_context(asked) == created
    with pytest.raises(MbsContextExists):
        await mbs.create_context(context())
    await mbs.delete_context("c")
    await mbs.delete_context("c")
    with pytest.raises(MbsContextNotFound):
        await mbs.get_context("c")


@pytest.mark.parametrize(
    ("limits", "asked", "cause", "metadata"),
    [
        (
            {"max_session_bit_rate_bps": 4 * MBPS},
            {},
            NOT_AUTHORIZED,
            {"acc_max_mbs_bw_bps": "4000000"},
        ),
        (
            {"max_total_bit_rate_bps": 3 * MBPS},
            {},
            NOT_AUTHORIZED,
            {"acc_max_mbs_bw_bps": "3000000"},
        ),
        (
            {"max_total_bit_rate_bps": 3 * MBPS},
            {"mbs_serv_info": None},
            NOT_AUTHORIZED,
            {"acc_max_mbs_bw_bps": "3000000"},
        ),
        ({"denied": True}, {}, "MBS_POLICY_CONTEXT_DENIED", {}),
        ({"service_types": [MULTICAST]}, {}, "MBS_POLICY_CONTEXT_DENIED", {}),
    ],
)
@pytest.mark.clause("TS 29.537 §4.3.2")
async def test_what_is_not_granted_is_refused_with_what_would_be(
    store: Store, limits: dict[str, object], asked: dict[str, object], cause: str, metadata: dict[str, str]
) -> None:
    mbs = policies(store, **limits)
    with pytest.raises(PermissionDenied) as refusal:
        await mbs.create_context(context(**asked))
    assert (refusal.value.cause, refusal.value.metadata) == (cause, metadata)
    assert (await mbs.contexts(0, "")).items == []


async def test_a_5qi_and_a_priority_that_are_not_granted_are_refused_with_those_that_are(store: Store) -> None:
    mbs = policies(store, five_qis=[4, 9], highest_arp_priority_level=5)
    arp = Arp(
        priority_level=2,
        preempt_cap=PreemptionCapability.PREEMPTION_CAPABILITY_MAY_PREEMPT,
        preempt_vuln=PreemptionVulnerability.PREEMPTION_VULNERABILITY_PREEMPTABLE,
    )
    asked = info(MBPS)
    asked.mbs_media_comps["1"].mbs_qos_req.CopyFrom(MbsQosReq(five_qi=1, max_bit_rate_bps=MBPS, req_mbs_arp=arp))
    with pytest.raises(MbsServiceInfoNotAuthorized, match=r"five_qi: the operator grants 4, 9, got 1") as refusal:
        await mbs.create_context(context(mbs_serv_info=asked))
    assert refusal.value.metadata == {"acc_mbs_serv_info.1": "5qi=4 arp=5"}
    asked.mbs_media_comps["1"].mbs_qos_req.five_qi = 4
    asked.mbs_media_comps["1"].mbs_qos_req.req_mbs_arp.priority_level = 5
    assert (await mbs.create_context(context(mbs_serv_info=asked))).authorized_bw_bps == MBPS


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (MbsServiceInfo(), "context.mbs_serv_info.mbs_media_comps"),
        (
            MbsServiceInfo(mbs_media_comps={"2": MbsMediaComp(mbs_med_comp_num=1)}),
            "context.mbs_serv_info.mbs_media_comps[2].mbs_med_comp_num",
        ),
        (
            MbsServiceInfo(mbs_media_comps={"1": MbsMediaComp(mbs_med_comp_num=1, qos_ref="tin")}),
            "context.mbs_serv_info.mbs_media_comps[1].qos_ref",
        ),
        (
            MbsServiceInfo(
                mbs_media_comps={
                    "1": MbsMediaComp(
                        mbs_med_comp_num=1, mbs_qos_req=MbsQosReq(five_qi=1, guar_bit_rate_bps=9, max_bit_rate_bps=8)
                    )
                }
            ),
            "context.mbs_serv_info.mbs_media_comps[1].mbs_qos_req.guar_bit_rate_bps",
        ),
    ],
)
async def test_service_information_that_is_wrong_by_itself_is_named(
    store: Store, wrong: MbsServiceInfo, field: str
) -> None:
    with pytest.raises(InvalidMbsServiceInfo) as refusal:
        await policies(store).create_context(context(mbs_serv_info=wrong))
    assert [each.field for each in refusal.value.violations] == [field]
    assert refusal.value.cause == "INVALID_MBS_SERVICE_INFO"


async def test_a_flow_description_that_is_none_and_a_session_id_that_is_none_are_named(store: Store) -> None:
    wrong = info(MBPS)
    wrong.mbs_media_comps["1"].mbs_flow_descs[0] = "everything"
    with pytest.raises(MbsFilterRestrictions, match=r"mbs_media_comps\[1\].mbs_flow_descs\[0\]: expected 'permit"):
        await policies(store).create_context(context(mbs_serv_info=wrong))
    group = IpAddr(ipv4_addr="192.0.2.1")
    found = MbsSessionId(ssm=Ssm(source_ip_addr=IpAddr(ipv4_addr="198.51.100.7"), dest_ip_addr=group))
    with pytest.raises(InvalidArgument, match=r"ssm.dest_ip_addr: expected the address of a multicast group, got"):
        await policies(store).create_context(context(mbs_session_id=found))


@pytest.mark.clause("TS 29.537 §4.2.2", "TS 23.247 §6.10")
async def test_an_mbs_policy_is_decided_by_what_its_context_authorises(store: Store) -> None:
    mbs = policies(store, max_total_bit_rate_bps=10 * MBPS)
    await mbs.create_context(context(mbs_serv_info=info(4 * MBPS, 2 * MBPS)))
    decided = await mbs.create_policy(policy())
    assert decided.context_id == "c"
    assert decided.mbs_policies.auth_mbs_sess_ambr_bps == 6 * MBPS
    rules, qos = decided.mbs_policies.mbs_pcc_rules, decided.mbs_policies.mbs_qos_decs
    assert {key: (list(rule.mbs_dl_ip_flow_info), list(rule.ref_mbs_qos_dec)) for key, rule in rules.items()} == {
        "rule-1": ([FLOW], ["qos-1"]),
        "rule-2": ([FLOW], ["qos-2"]),
    }
    assert {key: (each.mbr_dl_bps, each.five_qi) for key, each in qos.items()} == {
        "qos-1": (4 * MBPS, 9),
        "qos-2": (2 * MBPS, 9),
    }
    assert await mbs.create_policy(policy()) == decided
    with pytest.raises(MbsPolicyExists):
        await mbs.create_policy(policy(mbs_serv_info=info(MBPS)))
    # Counted once: what is left is what the context has left.
    assert (
        await mbs.create_context(context("d", 4 * MBPS, mbs_session_id=session_id(2)))
    ).authorized_bw_bps == 4 * MBPS
    with pytest.raises(MbsServiceInfoNotAuthorized, match="one session is granted at most 6000000 bit/s"):
        await mbs.update_policy("p", MbsPolicyCtxtData(mbs_serv_info=info(7 * MBPS)), FieldMask())
    assert (await mbs.get_policy("p")).mbs_policies.auth_mbs_sess_ambr_bps == 6 * MBPS


async def test_an_mbs_policy_without_a_context_is_decided_by_the_operators_limits(store: Store) -> None:
    mbs = policies(store, max_session_bit_rate_bps=8 * MBPS, max_total_bit_rate_bps=10 * MBPS)
    best = await mbs.create_policy(policy())
    assert best.mbs_policies.auth_mbs_sess_ambr_bps == 8 * MBPS
    assert best.mbs_policies.mbs_qos_decs["qos-1"].mbr_dl_bps == 8 * MBPS
    with pytest.raises(MbsServiceInfoNotAuthorized) as refusal:
        await mbs.create_policy(policy("q", mbs_serv_info=info(3 * MBPS)))
    assert refusal.value.metadata == {"acc_max_mbs_bw_bps": "2000000"}
    await mbs.delete_policy("p")
    await mbs.delete_policy("p")
    gold = MbsServiceInfo(mbs_media_comps={"1": MbsMediaComp(mbs_med_comp_num=1, qos_ref="gold")})
    decided = (await mbs.create_policy(policy("q", mbs_serv_info=gold))).mbs_policies
    assert (decided.mbs_qos_decs["qos-1"].mbr_dl_bps, decided.mbs_qos_decs["qos-1"].gbr_dl_bps) == (7 * MBPS, 2 * MBPS)
    with pytest.raises(MbsPolicyContextDenied, match="MBS context 'nobody' does not exist"):
        await mbs.create_policy(policy("r", mbs_policy_auth_ref="nobody"))


@pytest.mark.clause("TS 26.502 §4.6.2 policy control failure")
async def test_limits_that_fall_below_what_was_authorised_withdraw_it_and_tell_once(store: Store) -> None:
    mbs = policies(store)
    slice_a = Snssai(sst=1, sd="00000a")
    await mbs.create_context(context("a", snssai=slice_a))
    await mbs.create_context(context("b", mbs_session_id=session_id(2)))
    await mbs.create_policy(policy("p", snssai=slice_a))
    await set_limits(store, mbs, "less", MbsLimits(max_session_bit_rate_bps=MBPS), slice_info=slice_a)
    states = {each.context_id: each.state for each in (await mbs.contexts(0, "")).items}
    assert states == {"a": MbsAppSessionContext.STATE_WITHDRAWN, "b": MbsAppSessionContext.STATE_AUTHORIZED}
    assert (await mbs.get_policy("p")).state == MbsPolicy.STATE_WITHDRAWN
    ((subject, failure),) = await events(store)
    assert subject == "mbs-contexts/a"
    assert failure.context_id == "a"
    assert failure.problem.cause == "MBS_SERVICE_INFO_NOT_AUTHORIZED"
    assert failure.acceptable.acc_max_mbs_bw_bps == MBPS
    with pytest.raises(MbsPolicyContextDenied, match="was withdrawn"):
        await mbs.create_policy(policy("q", mbs_policy_auth_ref="a"))
    # A change that concerns nobody tells nobody.
    await set_limits(store, mbs, "other", MbsLimits(denied=True), dnn="elsewhere")
    assert len(await events(store)) == 1
    # Asked for anew, and granted, it is authorised again.
    changed = await mbs.update_context(context("a", MBPS, snssai=slice_a), FieldMask(paths=["mbs_serv_info"]))
    assert (changed.state, changed.authorized_bw_bps) == (MbsAppSessionContext.STATE_AUTHORIZED, MBPS)


async def test_a_policy_without_a_context_is_withdrawn_by_itself(store: Store) -> None:
    mbs = policies(store)
    await mbs.create_policy(policy("p", mbs_serv_info=info(MBPS)))
    await set_limits(store, mbs, "none", MbsLimits(denied=True))
    ((subject, failure),) = await events(store)
    assert (subject, failure.mbs_policy_id, failure.context_id) == ("mbs-policies/p", "p", "")
    await set_limits(store, mbs, "none", None)
    assert (await mbs.get_policy("p")).state == MbsPolicy.STATE_WITHDRAWN
    assert (await mbs.create_policy(policy("p", mbs_serv_info=info(MBPS)))).state == MbsPolicy.STATE_GRANTED


async def test_who_was_first_keeps_what_the_capacity_still_holds(store: Store) -> None:
    mbs = policies(store)
    for number in range(1, 4):
        await mbs.create_context(context(f"c{number}", 4 * MBPS, mbs_session_id=session_id(number)))
    await set_limits(store, mbs, "total", MbsLimits(max_total_bit_rate_bps=9 * MBPS))
    assert [subject for subject, _ in await events(store)] == ["mbs-contexts/c3"]
    with pytest.raises(MbsServiceInfoNotAuthorized) as refusal:
        await mbs.create_context(context("c4", 2 * MBPS, mbs_session_id=session_id(4)))
    assert refusal.value.metadata == {"acc_max_mbs_bw_bps": "1000000"}
    await mbs.delete_context("c1")
    assert (
        await mbs.create_context(context("c4", 5 * MBPS, mbs_session_id=session_id(4)))
    ).operator_policy_id == "total"


async def test_the_slice_is_more_specific_than_the_data_network(store: Store) -> None:
    mbs = policies(store, denied=True)
    await set_limits(store, mbs, "a", MbsLimits(max_session_bit_rate_bps=MBPS), dnn="tv")
    await set_limits(store, mbs, "b", MbsLimits(max_session_bit_rate_bps=2 * MBPS), slice_info=Snssai(sst=2))
    # A policy that says nothing of MBS says nothing.
    await store.write(lambda tx: tx.put(OperatorPolicy(operator_policy_id="c", threshold_dl_bps=1), "c"))
    both = await mbs.create_context(context("x", 0, dnn="TV", snssai=Snssai(sst=2)))
    assert (both.authorized_bw_bps, both.operator_policy_id) == (2 * MBPS, "b")
    one = await mbs.create_context(context("y", 0, dnn="tv", mbs_session_id=session_id(2)))
    assert (one.authorized_bw_bps, one.operator_policy_id) == (MBPS, "a")
    with pytest.raises(MbsPolicyContextDenied):
        await mbs.create_context(context("z", 0, mbs_session_id=session_id(3)))


def test_limits_that_are_none_are_named() -> None:
    limits = MbsLimits(five_qis=[0], highest_arp_priority_level=16, max_total_bit_rate_bps=0)
    with pytest.raises(InvalidArgument) as refusal:
        check_mbs_limits(OperatorPolicy(operator_policy_id="o", sponsor_id="acme", mbs=limits))
    assert sorted(each.field.removeprefix("operator_policy.") for each in refusal.value.violations) == [
        "mbs.five_qis",
        "mbs.highest_arp_priority_level",
        "mbs.max_total_bit_rate_bps",
        "sponsor_id",
    ]


def test_the_configuration_becomes_limits() -> None:
    section = PcfSection.model_validate(
        {"mbs": {"service_types": ("BROADCAST",), "max_session_bps": 5, "max_total_bps": 9, "five_qis": (4,)}}
    )
    assert section.mbs.resource == MbsLimits(
        service_types=[BROADCAST], max_session_bit_rate_bps=5, max_total_bit_rate_bps=9, five_qis=[4]
    )
    assert not PcfSection().mbs.resource.HasField("max_total_bit_rate_bps")


@settings(max_examples=15)
@given(st.lists(st.tuples(st.sampled_from("cud"), st.integers(0, 3), st.integers(1, 6)), max_size=40))
async def test_no_more_than_the_capacity_is_ever_authorised_and_all_of_it_comes_back(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]]
) -> None:
    store = Store.open(
        url_for(tmp_path_factory.mktemp("pcf"), "pcf"), clock=ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    )
    try:
        mbs = policies(store, max_total_bit_rate_bps=10 * MBPS)
        expected: dict[str, int] = {}
        for what, number, rate in steps:
            name, asked = f"c{number}", context(f"c{number}", rate * MBPS, mbs_session_id=session_id(number))
            free = 10 * MBPS - sum(expected.values()) + expected.get(name, 0)
            try:
                if what == "c":
                    expected[name] = (await mbs.create_context(asked)).authorized_bw_bps
                elif what == "u":
                    expected[name] = (await mbs.update_context(asked, FieldMask())).authorized_bw_bps
                else:
                    await mbs.delete_context(name)
                    expected.pop(name, None)
            except MbsServiceInfoNotAuthorized:
                assert rate * MBPS > free
            except (MbsContextExists, MbsContextNotFound):
                assert (name in expected) is (what == "c")
            assert sum(expected.values()) <= 10 * MBPS
        left = 10 * MBPS - sum(expected.values())
        if left:
            last = await mbs.create_context(context("last", left, mbs_session_id=session_id(9)))
            assert last.authorized_bw_bps == left
    finally:
        await store.close()
