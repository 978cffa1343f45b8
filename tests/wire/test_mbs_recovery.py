"""MBS sessions through restarts, kills and lost answers: what was acknowledged stands, what was not leaves no trace."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mbs_plane import BROADCAST, MbsPlane, by_tmgi, info, report_of, running, ssm

from nf.common.clock import ManualClock
from nf.common.errors import CastcoreError, NotFound, Unavailable
from nf.common.v1.events_pb2 import Event
from nf.pcf.v1 import mbs_policy_authorization_pb2 as nmb12
from nf.pcf.v1 import operator_policies_pb2 as op
from nf.smf.config import MbsSection
from nf.smf.v1 import mbs_session_pb2 as nmb1
from nf.smf.v1 import tmgi_pb2 as tmgi

MBPS = 1_000_000
STARTED = nmb1.BROADCAST_DELIVERY_STATUS_STARTED
TERMINATED = nmb1.BROADCAST_DELIVERY_STATUS_TERMINATED
EXPIRY = nmb1.MBS_SESSION_EVENT_TYPE_MBS_REL_TMGI_EXPIRY
DELIVERY = nmb1.MBS_SESSION_EVENT_TYPE_BROADCAST_DELIVERY_STATUS
INGRESS = nmb1.MBS_SESSION_EVENT_TYPE_INGRESS_TUNNEL_ADD_CHANGE


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[MbsPlane]:
    async with running(tmp_path) as plane:
        yield plane


async def cut_off(plane: MbsPlane, call: asyncio.Task[object], function: str = "smf") -> None:
    """Kills a function in the midst of a call, and starts it again on its state."""
    await plane.lay_down(function)
    with contextlib.suppress(CastcoreError):
        await call
    await plane.take_up(function)


async def until_clean(plane: MbsPlane) -> None:
    """Returns when nothing is left anywhere; the test's time is the bound."""
    while not await plane.is_clean():  # noqa: ASYNC110 (it is asked of three functions)
        await asyncio.sleep(0.01)


async def held(plane: MbsPlane, name: str, call: asyncio.Task[object]) -> asyncio.Event:
    """The answer of the UPF to such a call is held back: the call has had its effect there."""
    calls = plane.mbs_upf.calls.count(name)
    del call
    await plane.mbs_upf.until(lambda: plane.mbs_upf.calls.count(name) > calls)
    return plane.mbs_upf.hold[name]


@pytest.mark.clause("TS 23.527 §4.2", "TS 29.571 INGRESS_TUNNEL_ADD_CHANGE")
async def test_a_upf_that_restarts_gets_every_session_back_and_a_changed_tunnel_is_told(plane: MbsPlane) -> None:
    await plane.create("a")
    before = await plane.create("b", ssm=ssm("232.1.1.2"))
    enforced = plane.mbs_upf.enforced
    await plane.mbs_upf.restart(first_port=50_000)
    await plane.mbs_upf.until(lambda: plane.mbs_upf.forwarding)
    assert plane.mbs_upf.enforced == enforced
    assert plane.mbs_upf.calls[-4:-1] == ["SetUpAssociation", "EstablishMbsSession", "EstablishMbsSession"]
    reports = await plane.reports(lambda seen: sum(each.event_type == INGRESS for each in seen) == 2)
    moved = {each.mbs_session_ref: each.ingress_tun_addr[0].port_number for each in reports if each.ingress_tun_addr}
    assert moved == {"a": 50_001, "b": 50_002}
    assert before.ingress_tun_addr[0].port_number == 40_002
    assert {each.mbs_session_ref: each.ingress_tun_addr[0].port_number for each in await plane.sessions()} == moved


async def test_a_tunnel_that_stays_is_not_told(plane: MbsPlane) -> None:
    await plane.create()
    await plane.mbs_upf.restart()
    await plane.mbs_upf.until(lambda: plane.mbs_upf.forwarding)
    await plane.release()
    reports = await plane.reports(lambda seen: len(seen) == 2)
    assert [each.event_type for each in reports] == [DELIVERY, DELIVERY]


async def test_a_restart_of_the_smf_keeps_what_stands(plane: MbsPlane) -> None:
    created = await plane.create()
    enforced = plane.mbs_upf.enforced
    await plane.lay_down("smf")
    await plane.take_up("smf")
    await plane.mbs_upf.until(lambda: plane.mbs_upf.calls.count("CompleteResynchronisation") == 2)
    assert await plane.sessions() == [created]
    assert plane.mbs_upf.enforced == enforced
    assert await plane.create() == created


@pytest.mark.parametrize("function", ["smf", "pcf"])
async def test_a_creation_that_is_cut_off_at_the_upf_leaves_nothing_or_what_was_asked(
    plane: MbsPlane, function: str
) -> None:
    plane.mbs_upf.hold["EstablishMbsSession"] = asyncio.Event()
    call = asyncio.create_task(plane.create())
    let_go = await held(plane, "EstablishMbsSession", call)
    if function == "smf":
        await cut_off(plane, call)
        plane.mbs_upf.hold.clear()
        let_go.set()
        await until_clean(plane)
        # The SMF has begun anew; so may the MBSF.
        assert (await plane.create()).state == nmb1.MbsSession.STATE_ACTIVE
    else:
        await plane.lay_down("pcf")
        let_go.set()
        # The PCF has answered before: the session needs it no more.
        assert (await call).state == nmb1.MbsSession.STATE_ACTIVE
        await plane.take_up("pcf")
        assert [each.mbs_policy_id for each in await plane.policies()] == [(await plane.sessions())[0].mbs_policy_id]
    await plane.release()
    assert await plane.is_clean()


async def test_a_creation_without_a_pcf_leaves_nothing_once_that_is_back(plane: MbsPlane) -> None:
    await plane.lay_down("pcf")
    with pytest.raises(Unavailable):
        await plane.create()
    assert plane.mbs_upf.enforced == []
    await plane.take_up("pcf")
    await until_clean(plane)


async def test_a_change_that_is_cut_off_is_taken_back(plane: MbsPlane) -> None:
    await plane.create()
    plane.mbs_upf.hold["EstablishMbsSession"] = asyncio.Event()
    call = asyncio.create_task(plane.change("m", "mbs_serv_info", mbs_serv_info=info(2 * MBPS)))
    let_go = await held(plane, "EstablishMbsSession", call)
    assert plane.mbs_upf.enforced[0].mbr_bps == 2 * MBPS
    await cut_off(plane, call)
    plane.mbs_upf.hold.clear()
    let_go.set()
    await plane.mbs_upf.until(lambda: plane.mbs_upf.enforced[0].mbr_bps == 5 * MBPS)
    # The next change waits until the one before it has been taken back.
    changed = await plane.change("m", "start_time")
    assert (changed.state, changed.mbs_serv_info) == (nmb1.MbsSession.STATE_ACTIVE, info(5 * MBPS))
    (policy,) = await plane.policies()
    assert policy.mbs_policies.auth_mbs_sess_ambr_bps == 5 * MBPS


async def test_a_release_that_is_cut_off_is_finished(plane: MbsPlane) -> None:
    await plane.create()
    plane.mbs_upf.hold["DeleteMbsSession"] = asyncio.Event()
    call = asyncio.create_task(plane.release())
    let_go = await held(plane, "DeleteMbsSession", call)
    await cut_off(plane, call)
    plane.mbs_upf.hold.clear()
    let_go.set()
    await until_clean(plane)
    reports = await plane.reports(lambda seen: len(seen) == 2)
    assert [each.broadcast_del_status for each in reports] == [
        STARTED,
        TERMINATED,
    ]


async def test_a_release_without_a_pcf_is_finished_when_that_is_back(plane: MbsPlane) -> None:
    await plane.create()
    await plane.lay_down("pcf")
    with pytest.raises(Unavailable):
        await plane.release()
    assert plane.mbs_upf.enforced == []
    (left,) = await plane.sessions()
    assert left.state == nmb1.MbsSession.STATE_RELEASING
    await plane.take_up("pcf")
    await until_clean(plane)


async def test_an_answer_that_is_lost_costs_no_more_than_a_repeat(plane: MbsPlane) -> None:
    plane.mbs_upf.lose["EstablishMbsSession"] = 1
    assert (await plane.create()).state == nmb1.MbsSession.STATE_ACTIVE
    assert len(plane.mbs_upf.enforced) == 1
    assert plane.mbs_upf.calls.count("SetUpAssociation") == 1


async def test_what_the_upf_has_and_nobody_knows_goes(plane: MbsPlane) -> None:
    await plane.create()
    stray = plane.mbs_upf.sessions[1]
    await plane.release()
    await plane.lay_down("smf")
    plane.mbs_upf.sessions[1] = stray
    await plane.take_up("smf")
    await plane.mbs_upf.until(lambda: plane.mbs_upf.enforced == [])


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.clause("TS 29.532 §5.2.2.2", "TS 29.571 MBS_REL_TMGI_EXPIRY")
@pytest.mark.parametrize("down", [False, True])
async def test_a_tmgi_that_expires_takes_its_sessions_along(tmp_path: Path, clock: ManualClock, *, down: bool) -> None:
    async with running(tmp_path, clock=clock, mbs=MbsSection(tmgi_lifetime_s=100.0)) as plane:
        await plane.tmgis.AllocateTmgi(tmgi.AllocateTmgiRequest(tmgi_number=3))
        await plane.create(mbs_session_id=by_tmgi(1))
        clock.advance(timedelta(seconds=50))
        refresh = tmgi.AllocateTmgiRequest(tmgi_list=[by_tmgi(3).tmgi])
        await plane.tmgis.AllocateTmgi(refresh)
        await plane.create("n", ssm=ssm("232.1.1.2"))
        if down:
            await plane.lay_down("smf")
        clock.advance(timedelta(seconds=50))
        if down:
            await plane.take_up("smf")
        reports = await plane.reports(lambda seen: sum(each.event_type == EXPIRY for each in seen) == 2)
        expired = {each.mbs_session_id.tmgi.mbs_service_id: each for each in reports if each.event_type == EXPIRY}
        assert {key: each.mbs_session_ref for key, each in expired.items()} == {"000001": "m", "000002": ""}
        # Told before the last of it has gone, it has gone soon.
        await plane.mbs_upf.until(lambda: len(plane.mbs_upf.enforced) == 1)
        seen = await plane.reports(
            lambda seen: seen[-1].broadcast_del_status == nmb1.BROADCAST_DELIVERY_STATUS_TERMINATED
        )
        assert seen[-1].mbs_session_ref == "m"
        assert await plane.allocated() == ["000003", "000004"]
        assert [each.mbs_session_ref for each in await plane.sessions()] == ["n"]
        with pytest.raises(NotFound) as unknown:
            await plane.create("o", mbs_session_id=by_tmgi(1))
        assert unknown.value.cause == "UNKNOWN_TMGI"


@pytest.mark.clause("TS 26.502 §4.6.2 policy control failure")
async def test_what_the_operator_withdraws_is_told_to_who_asked_at_nmb12(plane: MbsPlane) -> None:
    created = await plane.create()
    await plane.authorise("c", mbs_session_id={"tmgi": created.tmgi}, mbs_serv_info=info(5 * MBPS))
    limits = op.OperatorPolicy(operator_policy_id="o", mbs=op.MbsLimits(denied=True))
    await plane.operator.CreateOperatorPolicy(op.CreateOperatorPolicyRequest(operator_policy=limits))

    def told(seen: list[Event]) -> bool:
        return [each.type for each in seen].count("MBS_POLICY_CONTROL_FAILURE") == 2

    events = [each for each in await plane.events("pcf", told) if each.type == "MBS_POLICY_CONTROL_FAILURE"]
    assert [each.subject for each in events] == ["mbs-contexts/c", f"mbs-policies/{created.mbs_policy_id}"]
    failure = nmb12.MbsPolicyControlFailure()
    assert events[0].payload.Unpack(failure)
    assert failure.problem.cause == "MBS_POLICY_CONTEXT_DENIED"
    await plane.release()
    assert await plane.is_clean()


async def test_whatever_happens_pcf_smf_and_upf_agree_in_the_end(plane: MbsPlane) -> None:
    chance = random.Random(23)
    for step in range(40):
        name = f"m{chance.randrange(4)}"
        what = chance.choice(("create", "create", "change", "release", "kill", "lose", "restart"))
        calls = []
        if what == "create":
            calls = [asyncio.create_task(plane.create(name, ssm=ssm(f"232.1.3.{name[1]}")))]
        elif what == "change":
            calls = [asyncio.create_task(plane.change(name, "mbs_serv_info", mbs_serv_info=info(step + 1)))]
        elif what == "release":
            calls = [asyncio.create_task(plane.release(name))]
        elif what == "lose":
            plane.mbs_upf.lose[chance.choice(("EstablishMbsSession", "DeleteMbsSession"))] = chance.randrange(1, 4)
        elif what == "restart":
            await plane.mbs_upf.restart(first_port=chance.randrange(40_000, 50_000))
        else:
            calls = [asyncio.create_task(plane.create("k", service_type=BROADCAST, ssm=ssm("232.1.4.1")))]
            for _ in range(chance.randrange(6)):
                await asyncio.sleep(0)
            await plane.lay_down("smf")
            await plane.take_up("smf")
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert outcome is None or isinstance(outcome, nmb1.MbsSession | CastcoreError)
    plane.mbs_upf.lose.clear()
    while True:
        sessions = await plane.sessions()
        if all(each.state == nmb1.MbsSession.STATE_ACTIVE for each in sessions) and plane.mbs_upf.forwarding:
            break
        await asyncio.sleep(0.01)
    assert {each.mbs_policy_id for each in sessions} == {each.mbs_policy_id for each in await plane.policies()}
    assert {each.tmgi.mbs_service_id for each in sessions} == set(await plane.allocated())
    assert {each.cp_seid: each.decision.auth_mbs_sess_ambr_bps for each in sessions} == {
        each.cp_seid: each.mbr_bps for each in plane.mbs_upf.enforced
    }
    for each in sessions:
        assert each.ingress_tun_addr[0] == plane.mbs_upf.sessions[each.cp_seid].ingress_tun_addr
        await plane.release(each.mbs_session_ref)
    assert await plane.is_clean()
    assert report_of(Event()) is None
