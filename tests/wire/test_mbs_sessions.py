"""Nmb1 end to end: MB-SMF, PCF and MB-UPF on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mbs_plane import (
    MULTICAST,
    MbsPlane,
    area,
    by_tmgi,
    info,
    running,
    ssm,
)

from nf.common.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from nf.common.v1.mbs_pb2 import MbsSessionId
from nf.pcf.v1 import operator_policies_pb2 as op
from nf.smf.config import GnbSection, MbsSection
from nf.smf.v1 import mbs_session_pb2 as nmb1
from nf.smf.v1 import tmgi_pb2 as tmgi
from upf.n4.v1 import n4_pb2 as n4

MBPS = 1_000_000
STARTED = nmb1.BROADCAST_DELIVERY_STATUS_STARTED
TERMINATED = nmb1.BROADCAST_DELIVERY_STATUS_TERMINATED
INACTIVE = nmb1.MBS_SESSION_ACTIVITY_STATUS_INACTIVE


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[MbsPlane]:
    async with running(tmp_path) as plane:
        yield plane


async def allocate(plane: MbsPlane, number: int = 1) -> list[str]:
    answer = await plane.tmgis.AllocateTmgi(tmgi.AllocateTmgiRequest(tmgi_number=number))
    return [each.mbs_service_id for each in answer.tmgi_list]


@pytest.mark.clause("TS 23.247 §7.1.1.2", "TS 29.532 §5.3.2", "TS 26.502 §4.6.1 step 2a")
async def test_a_session_gets_its_tmgi_its_policy_and_its_ingress_tunnel_and_leaves_nothing(plane: MbsPlane) -> None:
    created = await plane.create()
    assert created.state == nmb1.MbsSession.STATE_ACTIVE
    assert (created.tmgi.mbs_service_id, created.tmgi.plmn_id.mcc) == ("000001", "001")
    (allocated,) = (await plane.tmgis.ListTmgis(tmgi.ListTmgisRequest())).tmgis
    assert created.expiration_time == allocated.expiration_time
    assert allocated.expiration_time.ToNanoseconds() - allocated.create_time.ToNanoseconds() == 86_400 * 10**9
    (ingress,) = created.ingress_tun_addr
    assert (ingress.ipv4_addr, ingress.port_number) == ("127.0.0.1", 40_001)
    (enforced,) = plane.mbs_upf.enforced
    assert (enforced.mbr_bps, enforced.ssm, enforced.tmgi) == (5 * MBPS, ssm(), created.tmgi)
    assert enforced.apply_action == n4.APPLY_ACTION_FORW
    (policy,) = await plane.policies()
    assert policy.mbs_policy_id == created.mbs_policy_id
    assert policy.mbs_policy_ctxt_data.mbs_session_id.tmgi == created.tmgi
    assert await plane.create() == created
    with pytest.raises(AlreadyExists):
        await plane.create(mbs_serv_info=info(MBPS))
    await plane.release()
    await plane.release()
    assert await plane.is_clean()
    reports = await plane.reports(lambda seen: len(seen) == 2)
    assert [(each.mbs_session_ref, each.broadcast_del_status) for each in reports] == [
        ("m", STARTED),
        ("m", TERMINATED),
    ]


async def test_a_multicast_session_by_ssm_gets_a_tmgi_and_may_rest(plane: MbsPlane) -> None:
    created = await plane.create(
        service_type=MULTICAST, mbs_session_id=MbsSessionId(ssm=ssm("232.7.7.7")), ssm=None, activity_status=INACTIVE
    )
    assert created.HasField("tmgi")
    (enforced,) = plane.mbs_upf.enforced
    assert (enforced.ssm, enforced.apply_action) == (ssm("232.7.7.7"), n4.APPLY_ACTION_DROP)
    await plane.change("m", "activity_status", activity_status=nmb1.MBS_SESSION_ACTIVITY_STATUS_ACTIVE)
    assert plane.mbs_upf.enforced[0].apply_action == n4.APPLY_ACTION_FORW
    with pytest.raises(PermissionDenied) as refusal:
        await plane.create("n", service_type=MULTICAST, mbs_session_id=MbsSessionId(ssm=ssm("232.7.7.7")))
    assert refusal.value.cause == "MBS_SESSION_ALREADY_CREATED"


@pytest.mark.clause("TS 29.532 §5.2.2.2", "TS 29.532 §5.2.2.3")
async def test_tmgis_are_allocated_refreshed_and_released_all_or_none(plane: MbsPlane) -> None:
    assert await allocate(plane, 3) == ["000001", "000002", "000003"]
    tmgis = [by_tmgi(number).tmgi for number in (1, 2, 3)]
    again = tmgi.AllocateTmgiRequest(tmgi_number=1, tmgi_list=tmgis[:1], request_id="r")
    answer = await plane.tmgis.AllocateTmgi(again)
    assert [each.mbs_service_id for each in answer.tmgi_list] == ["000004", "000001"]
    assert await plane.tmgis.AllocateTmgi(again) == answer
    with pytest.raises(NotFound) as unknown:
        await plane.tmgis.AllocateTmgi(tmgi.AllocateTmgiRequest(tmgi_number=1, tmgi_list=[by_tmgi(9).tmgi]))
    assert unknown.value.cause == "UNKNOWN_TMGI"
    assert await plane.allocated() == ["000001", "000002", "000003", "000004"]
    await plane.create(mbs_session_id=by_tmgi(2))
    with pytest.raises(FailedPrecondition, match="TMGI 001-01-000002 is that of MBS session 'm'") as used:
        await plane.tmgis.ReleaseTmgi(tmgi.ReleaseTmgiRequest(tmgi_list=tmgis))
    assert used.value.reason == "TMGI_IN_USE"
    assert len(await plane.allocated()) == 4
    await plane.release()
    # It was asked for by itself, and stays.
    await plane.tmgis.ReleaseTmgi(tmgi.ReleaseTmgiRequest(tmgi_list=tmgis))
    await plane.tmgis.ReleaseTmgi(tmgi.ReleaseTmgiRequest(tmgi_list=tmgis))
    assert await plane.allocated() == ["000004"]


async def test_a_range_has_an_end_and_what_was_released_is_given_again_last(tmp_path: Path) -> None:
    async with running(tmp_path, mbs=MbsSection(first_service_id="00000a", last_service_id="00000c")) as plane:
        assert await allocate(plane, 2) == ["00000a", "00000b"]
        with pytest.raises(ResourceExhausted, match="expected at most 1 TMGIs, which is what is left of 3, got 2"):
            await allocate(plane, 2)
        await plane.tmgis.ReleaseTmgi(tmgi.ReleaseTmgiRequest(tmgi_list=[by_tmgi("00000a").tmgi]))
        assert await allocate(plane, 2) == ["00000c", "00000a"]
        with pytest.raises(ResourceExhausted):
            await plane.create()
        assert await plane.sessions() == []


@pytest.mark.clause("TS 29.532 OVERLAPPING_MBS_SERVICE_AREA", "TS 23.247 §6.2.3")
async def test_areas_of_one_session_id_may_not_overlap_and_each_has_its_own_number(plane: MbsPlane) -> None:
    await allocate(plane, 2)
    asked = {"mbs_session_id": by_tmgi(1), "location_dependent": True}
    first = await plane.create("a", mbs_service_area=area(1, cells=((16, 5),)), **asked)
    second = await plane.create("b", mbs_service_area=area(2), ssm=ssm("232.1.1.2"), **asked)
    assert (first.area_session_id, second.area_session_id) == (1, 2)
    for overlapping, common in (
        (area(2, 3), "tracking area 001-01-000002"),
        (area(cells=((16, 5),)), "cell 001-01-000000010"),
        (area(cells=((17, 1),)), "cell 001-01-000000011 of tracking area 001-01-000001"),
        (area(5), "cell 001-01-000000010 of tracking area 001-01-000005"),
    ):
        with pytest.raises(PermissionDenied, match=f"got {common} of") as refusal:
            await plane.create("c", mbs_service_area=overlapping, **asked)
        assert refusal.value.cause == "OVERLAPPING_MBS_SERVICE_AREA"
    with pytest.raises(PermissionDenied) as refusal:
        await plane.change("b", "mbs_service_area", mbs_service_area=area(1))
    assert refusal.value.cause == "OVERLAPPING_MBS_SERVICE_AREA"
    # Another MBS session may have the same area, and another area the number that has become free.
    await plane.create("d", mbs_session_id=by_tmgi(2), mbs_service_area=area(1))
    await plane.release("a")
    third = await plane.create("e", mbs_service_area=area(1), **asked)
    assert third.area_session_id == 1
    assert [each.area_session_id for each in plane.mbs_upf.enforced] == [2, 0, 1]


async def test_of_two_that_take_an_area_at_once_the_first_has_it(plane: MbsPlane) -> None:
    await allocate(plane)
    asked = {"mbs_session_id": by_tmgi(1), "location_dependent": True}
    await plane.create("a", mbs_service_area=area(1), **asked)
    plane.mbs_upf.hold["EstablishMbsSession"] = let_go = asyncio.Event()
    change = asyncio.create_task(plane.change("a", "mbs_service_area", mbs_service_area=area(1, 2)))
    await plane.mbs_upf.until(lambda: plane.mbs_upf.calls.count("EstablishMbsSession") == 2)
    creation = asyncio.create_task(plane.create("b", mbs_service_area=area(2), ssm=ssm("232.1.1.2"), **asked))
    await plane.mbs_upf.until(lambda: plane.mbs_upf.calls.count("EstablishMbsSession") == 3)
    let_go.set()
    with pytest.raises(PermissionDenied) as refusal:
        await change
    assert refusal.value.cause == "OVERLAPPING_MBS_SERVICE_AREA"
    assert (await creation).mbs_service_area == area(2)
    (kept,) = (each for each in await plane.sessions() if each.mbs_session_ref == "a")
    assert (kept.state, kept.mbs_service_area) == (nmb1.MbsSession.STATE_ACTIVE, area(1))


async def test_areas_of_a_session_by_ssm_share_its_tmgi_until_the_last_has_gone(plane: MbsPlane) -> None:
    asked = {
        "mbs_session_id": MbsSessionId(ssm=ssm("232.5.5.5")),
        "service_type": MULTICAST,
        "location_dependent": True,
    }
    first = await plane.create("a", mbs_service_area=area(1), **asked)
    second = await plane.create("b", mbs_service_area=area(2), **asked)
    assert first.tmgi == second.tmgi
    await plane.release("a")
    assert await plane.allocated() == [first.tmgi.mbs_service_id]
    await plane.release("b")
    assert await plane.is_clean()


@pytest.mark.clause("TS 23.247 §6.10", "TS 29.537 §4.2.2")
async def test_the_policy_is_decided_by_what_nmb12_authorises(plane: MbsPlane) -> None:
    await allocate(plane)
    await plane.authorise("c", mbs_session_id=by_tmgi(1), mbs_serv_info=info(3 * MBPS))
    with pytest.raises(PermissionDenied) as refusal:
        await plane.create(mbs_session_id=by_tmgi(1), mbs_policy_auth_ref="c")
    assert refusal.value.cause == "MBS_SERVICE_INFO_NOT_AUTHORIZED"
    assert refusal.value.metadata == {"acc_max_mbs_bw_bps": "3000000"}
    assert (await plane.sessions(), plane.mbs_upf.enforced) == ([], [])
    created = await plane.create(mbs_session_id=by_tmgi(1), mbs_policy_auth_ref="c", mbs_serv_info=None)
    assert created.decision.auth_mbs_sess_ambr_bps == 3 * MBPS
    assert plane.mbs_upf.enforced[0].mbr_bps == 3 * MBPS


@pytest.mark.clause("TS 23.247 §7.1.1.5", "TS 29.532 §5.3.2.3")
async def test_a_change_reaches_pcf_and_upf_or_changes_nothing(plane: MbsPlane) -> None:
    created = await plane.create()
    changed = await plane.change("m", "mbs_serv_info", mbs_serv_info=info(2 * MBPS), etag=created.etag)
    assert changed.decision.auth_mbs_sess_ambr_bps == 2 * MBPS
    assert plane.mbs_upf.enforced[0].mbr_bps == 2 * MBPS
    limits = op.OperatorPolicy(operator_policy_id="o", mbs=op.MbsLimits(max_session_bit_rate_bps=4 * MBPS))
    await plane.operator.CreateOperatorPolicy(op.CreateOperatorPolicyRequest(operator_policy=limits))
    with pytest.raises(PermissionDenied):
        await plane.change("m", "mbs_serv_info", mbs_serv_info=info(6 * MBPS))
    plane.mbs_upf.refuse["EstablishMbsSession"] = ResourceExhausted("no room")
    with pytest.raises(ResourceExhausted, match="no room"):
        await plane.change("m", "mbs_serv_info", mbs_serv_info=info(3 * MBPS))
    plane.mbs_upf.refuse.clear()
    # What could not be taken back at once is taken back before the next change.
    again = await plane.change("m", "mbs_fsa_id_list", mbs_fsa_id_list=["00000f"])
    assert again.decision.auth_mbs_sess_ambr_bps == 2 * MBPS
    (policy,) = await plane.policies()
    assert policy.mbs_policies.auth_mbs_sess_ambr_bps == 2 * MBPS
    assert plane.mbs_upf.enforced[0].mbr_bps == 2 * MBPS
    with pytest.raises(InvalidArgument, match="may not be changed"):
        await plane.change("m", "service_type", service_type=MULTICAST)
    with pytest.raises(NotFound) as unknown:
        await plane.change("nobody", "start_time")
    assert unknown.value.cause == "UNKNOWN_MBS_SESSION"


async def test_what_the_upf_refuses_is_undone_at_the_pcf(plane: MbsPlane) -> None:
    plane.mbs_upf.refuse["EstablishMbsSession"] = ResourceExhausted("no room")
    with pytest.raises(ResourceExhausted, match="no room"):
        await plane.create()
    assert await plane.is_clean()
    plane.mbs_upf.refuse.clear()
    assert (await plane.create()).state == nmb1.MbsSession.STATE_ACTIVE
    # Nobody was told of a delivery that never began.
    (report,) = await plane.reports(lambda seen: len(seen) == 1)
    assert report.broadcast_del_status == STARTED


GNBS = (
    GnbSection(name="north", tais=("001-01-000001",), address="192.0.2.10", first_teid=100),
    GnbSection(name="south", cells=("001-01-000000020",), address="192.0.2.11", port=2153, first_teid=200),
    GnbSection(name="east", tais=("001-01-000003",), group="232.9.9.9", first_teid=300, interface="n3"),
    GnbSection(name="far east", tais=("001-01-000004",), group="232.9.9.9", first_teid=300, interface="n3"),
)


@pytest.mark.clause("TS 23.247 §7.2", "TS 29.244 §8.2.207")
async def test_configured_gnbs_get_branches_where_they_serve(tmp_path: Path) -> None:
    async with running(tmp_path, mbs=MbsSection(gnbs=GNBS)) as plane:
        created = await plane.create(mbs_service_area=area(1, 3, 4, 9, cells=((32, 2), (33, 2))))
        assert created.red_mbs_serv_area == area(1, 3, 4, cells=((32, 2),))
        (enforced,) = plane.mbs_upf.enforced
        unicast = [each.unicast for each in enforced.branches if each.HasField("unicast")]
        assert [(each.ipv4_address, each.port, each.teid) for each in unicast] == [
            ("192.0.2.10", 2152, 100),
            ("192.0.2.11", 2153, 200),
        ]
        (shared,) = (each.low_layer_ssm for each in enforced.branches if each.HasField("low_layer_ssm"))
        assert (shared.outer_header_creation.ipv4_address, shared.outer_header_creation.teid, shared.interface) == (
            "232.9.9.9",
            300,
            "n3",
        )
        assert ([each.branch_id for each in enforced.branches], enforced.qfi) == ([1, 2, 3], 1)
        await plane.change("m", "mbs_service_area", mbs_service_area=area(1))
        assert [each.unicast.teid for each in plane.mbs_upf.enforced[0].branches] == [100]
        everywhere = await plane.create("n", ssm=ssm("232.1.1.2"))
        assert [each.WhichOneof("delivery") for each in plane.mbs_upf.enforced[1].branches] == [
            "unicast",
            "unicast",
            "low_layer_ssm",
        ]
        assert plane.mbs_upf.enforced[1].branches[0].unicast.teid == 101
        assert not everywhere.HasField("red_mbs_serv_area")
        with pytest.raises(PermissionDenied) as refusal:
            await plane.create("o", mbs_service_area=area(7))
        assert refusal.value.cause == "MBS_SERVICE_AREA_NOT_SUPPORTED"


async def test_a_upf_without_n4mb_is_told_at_once(tmp_path: Path) -> None:
    plane = MbsPlane(tmp_path)
    plane.mbs_upf = None
    await plane.start()
    try:
        with pytest.raises(Unavailable) as refusal:
            await plane.create()
        assert refusal.value.reason == "UPF_NOT_RESPONDING"
        # It cannot be undone at the UPF before there is one.
        (left,) = await plane.sessions()
        assert left.state == nmb1.MbsSession.STATE_RELEASING
    finally:
        await plane.stop()


async def test_sessions_created_at_once_are_different_ones(plane: MbsPlane) -> None:
    made = await asyncio.gather(*(plane.create(f"m{n}", ssm=ssm(f"232.1.2.{n}")) for n in range(40)))
    assert len({each.tmgi.mbs_service_id for each in made}) == 40
    assert len({each.cp_seid for each in made}) == len(plane.mbs_upf.enforced) == 40
    await asyncio.gather(*(plane.release(f"m{n}") for n in range(40)))
    assert await plane.is_clean()
