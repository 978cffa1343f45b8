"""The MB-SMF and the real MB-UPF: what the one asks for is what the other enforces, across a restart of either."""

from __future__ import annotations

from pathlib import Path

import pytest
from mbs_plane import MbsPlane, info, ssm

from nf.smf.v1 import mbs_session_pb2 as nmb1
from upf.n4.v1 import n4mb_pb2 as n4mb
from upf.n4.v1.n4mb_pb2_grpc import N4mbServiceStub

MBPS = 1_000_000


async def enforced(plane: MbsPlane) -> dict[int, n4mb.EstablishedMbsSession]:
    stub = N4mbServiceStub(plane.channel("upf"))
    listed = await stub.ListMbsSessions(n4mb.ListMbsSessionsRequest(), wait_for_ready=True)
    return {each.mbs_session.cp_seid: each for each in listed.mbs_sessions}


@pytest.mark.clause("TS 23.247 §7.1.1.2", "TS 23.527 §4.2", "TS 29.244 §5.34")
async def test_sessions_stand_at_the_real_upf_and_again_after_its_restart(tmp_path: Path) -> None:
    plane = MbsPlane(tmp_path, real_upf=True)
    await plane.start()
    try:
        first = await plane.create("a")
        second = await plane.create("b", ssm=ssm("232.1.1.2"), mbs_serv_info=info(2 * MBPS))
        at_upf = await enforced(plane)
        assert {key: each.mbs_session.mbr_bps for key, each in at_upf.items()} == {1: 5 * MBPS, 2: 2 * MBPS}
        assert [at_upf[1].ingress_tun_addr] == list(first.ingress_tun_addr)
        assert [each.WhichOneof("delivery") for each in at_upf[1].mbs_session.branches] == ["multicast"]
        await plane.change("b", "mbs_serv_info", mbs_serv_info=info(3 * MBPS))
        assert (await enforced(plane))[2].mbs_session.mbr_bps == 3 * MBPS
        await plane.lay_down("smf")
        await plane.take_up("smf")
        assert (await plane.create("a")).cp_seid == first.cp_seid
        await plane.lay_down("upf")
        await plane.take_up("upf")
        await plane.create("c", ssm=ssm("232.1.1.3"))
        again = await enforced(plane)
        assert {key: each.mbs_session.mbr_bps for key, each in again.items()} == {1: 5 * MBPS, 2: 3 * MBPS, 3: 5 * MBPS}
        assert again[2].mbs_session.ssm == second.ssm
        for session in await plane.sessions():
            assert session.state == nmb1.MbsSession.STATE_ACTIVE
            assert list(session.ingress_tun_addr) == [again[session.cp_seid].ingress_tun_addr]
            await plane.release(session.mbs_session_ref)
        assert await enforced(plane) == {}
        assert (await plane.policies(), await plane.allocated()) == ([], [])
    finally:
        await plane.stop()
