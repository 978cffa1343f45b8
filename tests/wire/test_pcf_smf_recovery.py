"""Restarts, lost answers, kills: what was acknowledged is enforced again, what was not leaves no trace."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from control_plane import AUDIO, MBPS, PATIENCE_S, UE, VIDEO, ControlPlane, app_session, running, usage

from nf.common.errors import CastcoreError, DeadlineExceeded, InvalidArgument, Unavailable
from nf.pcf.v1 import operator_policies_pb2 as op
from nf.pcf.v1 import policy_authorization_pb2 as n5
from nf.smf.v1 import pdu_session_pb2 as pdu
from upf.n4.v1 import n4_pb2 as n4

CORE = n4.SourceInterface.SOURCE_INTERFACE_CORE


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with running(tmp_path) as plane:
        yield plane


async def in_step_again(plane: ControlPlane, resynchronisations: int) -> None:
    await plane.upf.until(lambda: plane.upf.calls.count("CompleteResynchronisation") >= resynchronisations)


def change_to(*flows: str) -> n5.UpdateAppSessionRequest:
    return n5.UpdateAppSessionRequest(app_session_id="s", asc_req_data=app_session("s", *flows).asc_req_data)


async def cut_off(
    plane: ControlPlane, call: asyncio.Task[object], *functions: str, meanwhile: Callable[[], None] = lambda: None
) -> None:
    """Kills the functions in the midst of a call, and starts them again on their state."""
    for function in functions:
        await plane.lay_down(function)
    meanwhile()
    with contextlib.suppress(CastcoreError):
        await call
    for function in functions:
        await plane.take_up(function)


@pytest.mark.clause("TS 23.527 §4.2")
async def test_a_upf_that_restarts_gets_every_session_back_before_it_forwards(plane: ControlPlane) -> None:
    await plane.attach()
    await plane.attach(sm_context_ref="ue-2", supi="imsi-001010000000002", ue_ipv4_address="10.45.0.3")
    await plane.authorize()
    before = dict(plane.upf.sessions)
    await plane.upf.restart()
    assert not plane.upf.forwarding
    await in_step_again(plane, 2)
    assert plane.upf.sessions == before
    assert plane.upf.forwarding
    assert plane.upf.calls[-4:] == [
        "SetUpAssociation",
        "EstablishSession",
        "EstablishSession",
        "CompleteResynchronisation",
    ]


async def test_usage_of_several_upf_starts_adds_up_and_old_reports_change_nothing(plane: ControlPlane) -> None:
    await plane.attach()
    await plane.authorize()
    old = await plane.upf.count(downlink_conforming_bytes=1000, downlink_exceeding_bytes=100)
    await plane.accounted(zero_rated=1000, charged=100)
    await plane.upf.restart()
    await in_step_again(plane, 2)
    new = await plane.upf.count(downlink_conforming_bytes=10, downlink_exceeding_bytes=1)
    await plane.upf.send(old)
    await plane.upf.send(new)
    await plane.upf.count(downlink_conforming_bytes=5)
    await plane.accounted(zero_rated=1015, charged=101)
    (entry,) = await plane.ledger("s")
    assert (entry.zero_rated_bytes, entry.charged_bytes) == (1015, 101)
    assert entry.usage == usage(downlink_conforming_bytes=1015, downlink_exceeding_bytes=101)


async def test_a_restart_of_the_upf_begins_with_a_full_bucket(plane: ControlPlane) -> None:
    await plane.attach()
    await plane.authorize()
    await plane.upf.comply(False, since_ns=100, interface=CORE)
    _, left = await plane.notification("QOS_NOTIF")
    await plane.upf.restart()
    _, back = await plane.notification("QOS_NOTIF", 2)
    assert (left.compliant, back.compliant) == (False, True)


async def test_a_restart_that_a_change_runs_into_is_no_failure(plane: ControlPlane, tmp_path: Path) -> None:
    await plane.attach()
    await plane.authorize()
    # No heartbeat in between: the change is the first to notice.
    await plane.upf.restart()
    await plane.n5.UpdateAppSession(change_to(AUDIO))
    assert {flow for flow, _ in plane.upf.flows()} == {AUDIO}


async def test_an_answer_that_is_lost_once_costs_no_more_than_a_repeat(plane: ControlPlane) -> None:
    await plane.attach()
    await plane.authorize()
    plane.upf.lose["ModifySession"] = 1
    await plane.n5.UpdateAppSession(change_to(AUDIO))
    assert {flow for flow, _ in plane.upf.flows()} == {AUDIO}
    assert plane.upf.calls.count("SetUpAssociation") == 1


async def test_what_becomes_known_of_the_user_plane_during_a_change_is_kept(plane: ControlPlane) -> None:
    await plane.attach()
    await plane.authorize()
    plane.upf.hold["ModifySession"] = asyncio.Event()
    changing = asyncio.ensure_future(plane.n5.UpdateAppSession(change_to(AUDIO)))
    await plane.upf.until(lambda: plane.upf.calls.count("ModifySession") == 2)
    plane.upf.refuse["Heartbeat"] = Unavailable("the UPF is away")
    await plane.notification("FAILED_RESOURCES_ALLOCATION")
    plane.upf.hold.pop("ModifySession").set()
    assert (await changing).app_session.state == n5.AppSession.STATE_INTERRUPTED
    assert await plane.app_sessions() == {"s": n5.AppSession.STATE_INTERRUPTED}
    del plane.upf.refuse["Heartbeat"]
    await plane.notification("SUCCESSFUL_RESOURCES_ALLOCATION", 2)
    assert await plane.app_sessions() == {"s": n5.AppSession.STATE_ACTIVE}


async def test_an_effect_whose_answers_are_lost_is_taken_back_without_interrupting_traffic(plane: ControlPlane) -> None:
    await plane.attach()
    await plane.authorize()
    plane.upf.lose["ModifySession"] = 1000
    with pytest.raises(Unavailable):
        await plane.n5.UpdateAppSession(change_to(AUDIO))
    session = (await plane.n5.GetAppSession(n5.GetAppSessionRequest(app_session_id="s"))).app_session
    assert session.asc_req_data == app_session().asc_req_data
    await plane.upf.until(lambda: {flow for flow, _ in plane.upf.flows()} == {VIDEO})
    assert plane.upf.forwarding
    assert plane.upf.calls.count("SetUpAssociation") == 1
    plane.upf.lose.clear()
    await plane.n5.UpdateAppSession(change_to(AUDIO))
    assert {flow for flow, _ in plane.upf.flows()} == {AUDIO}


async def test_what_was_acknowledged_survives_kills_of_pcf_and_smf(plane: ControlPlane) -> None:
    await plane.attach()
    await plane.authorize()
    await plane.upf.count(downlink_conforming_bytes=1000)
    await plane.accounted(zero_rated=1000, charged=0)
    enforced = plane.upf.session_of()
    for function in ("smf", "pcf"):
        await plane.lay_down(function)
    await plane.upf.count(downlink_conforming_bytes=500)
    for function in ("pcf", "smf"):
        await plane.take_up(function)
    await plane.accounted(zero_rated=1500, charged=0)
    assert plane.upf.session_of() == enforced
    await plane.upf.count(downlink_conforming_bytes=1)
    await plane.accounted(zero_rated=1501, charged=0)
    assert await plane.app_sessions() == {"s": n5.AppSession.STATE_ACTIVE}
    assert [entry.zero_rated_bytes for entry in await plane.ledger()] == [1501]


async def test_everything_restarts_and_the_upf_enforces_it_again(plane: ControlPlane) -> None:
    await plane.attach()
    await plane.authorize()
    enforced = plane.upf.session_of()
    for function in ("pcf", "smf", "upf"):
        await plane.lay_down(function)
    await plane.upf.restart()
    for function in ("upf", "smf", "pcf"):
        await plane.take_up(function)
    await in_step_again(plane, 2)
    assert plane.upf.session_of() == enforced
    await plane.n5.DeleteAppSession(n5.DeleteAppSessionRequest(app_session_id="s"))
    assert plane.upf.flows() == []


@pytest.mark.parametrize("killed", [("pcf",), ("smf",), ("pcf", "smf")])
async def test_an_activation_that_a_kill_cuts_off_leaves_no_trace(plane: ControlPlane, killed: tuple[str, ...]) -> None:
    await plane.attach()
    plane.upf.hold["ModifySession"] = asyncio.Event()
    call = asyncio.create_task(plane.authorize())
    await plane.upf.until(lambda: plane.upf.flows() != [])
    # Where the SMF lives on, its answer comes too late.
    late = plane.upf.hold.pop("ModifySession")
    await cut_off(plane, call, *killed, meanwhile=late.set if killed == ("pcf",) else lambda: None)
    await plane.upf.until(lambda: plane.upf.flows() == [])
    states = await plane.app_sessions()
    assert states == {}
    assert (await plane.authorize()).state == n5.AppSession.STATE_ACTIVE


async def test_a_deletion_that_a_kill_cuts_off_is_finished(plane: ControlPlane) -> None:
    await plane.attach()
    await plane.authorize()
    await plane.upf.count(report=False, downlink_conforming_bytes=77)
    await plane.lay_down("smf")
    with pytest.raises(Unavailable):
        await plane.n5.DeleteAppSession(n5.DeleteAppSessionRequest(app_session_id="s"))
    assert await plane.app_sessions() == {"s": n5.AppSession.STATE_RELEASING}
    await plane.lay_down("pcf")
    await plane.take_up("smf")
    await plane.take_up("pcf")
    await plane.upf.until(lambda: plane.upf.flows() == [])
    answer = await plane.n5.DeleteAppSession(n5.DeleteAppSessionRequest(app_session_id="s"))
    assert answer.final_usage.zero_rated_bytes == 77
    assert await plane.app_sessions() == {}


async def test_an_smf_that_cannot_be_reached_leaves_the_old_content_and_hears_of_it_later(plane: ControlPlane) -> None:
    await plane.attach()
    await plane.authorize()
    await plane.lay_down("smf")
    with pytest.raises(Unavailable):
        await plane.n5.UpdateAppSession(change_to(AUDIO))
    policy = op.OperatorPolicy(operator_policy_id="p", threshold_dl_bps=2 * MBPS)
    await plane.operator.CreateOperatorPolicy(op.CreateOperatorPolicyRequest(operator_policy=policy))
    await plane.take_up("smf")
    await plane.upf.until(lambda: [qer.mbr_dl_bps for qer in plane.upf.session_of().qers] == [2 * MBPS])
    assert {flow for flow, _ in plane.upf.flows()} == {VIDEO}


async def test_an_attachment_that_a_kill_cuts_off_is_taken_down(plane: ControlPlane) -> None:
    plane.upf.hold["EstablishSession"] = asyncio.Event()
    call = asyncio.create_task(plane.attach())
    await plane.upf.until(lambda: plane.upf.sessions != {})
    plane.upf.hold.clear()
    await cut_off(plane, call, "smf")
    await plane.upf.until(lambda: plane.upf.sessions == {})
    await plane.events("smf", lambda seen: seen[-1].type == "PDU_SESSION_STATUS")
    assert await plane.pdu_sessions() == []
    assert await plane.sm_policies() == []
    assert (await plane.attach()).state == pdu.PduSession.STATE_ACTIVE


async def test_a_release_that_a_kill_cuts_off_is_finished(plane: ControlPlane) -> None:
    await plane.attach()
    await plane.authorize()
    await plane.lay_down("pcf")
    with pytest.raises(Unavailable):
        await plane.detach()
    assert [session.state for session in await plane.pdu_sessions()] == [pdu.PduSession.STATE_RELEASING]
    await plane.lay_down("smf")
    await plane.take_up("pcf")
    await plane.take_up("smf")
    await plane.notification("PDU_SESSION_STATUS")
    await plane.events("smf", lambda seen: [e.type for e in seen].count("PDU_SESSION_STATUS") == 2)
    assert await plane.pdu_sessions() == []
    assert await plane.sm_policies() == []
    assert await plane.app_sessions() == {"s": n5.AppSession.STATE_TERMINATED}


async def test_without_a_upf_nothing_is_attached_and_nothing_left_behind(tmp_path: Path) -> None:
    async with running(tmp_path, upf_wait_s=0.05) as plane:
        await plane.attach()
        await plane.lay_down("upf")
        with pytest.raises(Unavailable) as refusal:
            await plane.attach(sm_context_ref="ue-2", supi="imsi-001010000000002", ue_ipv4_address="10.45.0.3")
        assert refusal.value.cause == "UPF_NOT_RESPONDING"
        with pytest.raises(Unavailable) as refusal:
            await plane.authorize()
        assert refusal.value.cause == "UPF_NOT_RESPONDING"
        assert await plane.app_sessions() == {}
        await plane.upf.restart()
        await plane.take_up("upf")
        await in_step_again(plane, 2)
        await plane.events("smf", lambda seen: [e.type for e in seen].count("PDU_SESSION_STATUS") == 2)
        assert [session.ue_ipv4_address for session in await plane.pdu_sessions()] == [UE]
        assert len(await plane.sm_policies()) == 1


async def test_a_upf_that_forgets_a_session_under_the_same_start_loses_no_count(plane: ControlPlane) -> None:
    await plane.attach()
    await plane.authorize()
    await plane.upf.count(downlink_conforming_bytes=1000)
    await plane.accounted(zero_rated=1000, charged=0)
    forgotten = plane.upf.urr_of()
    plane.upf.sessions.clear()
    plane.upf.usages.clear()
    await plane.n5.UpdateAppSession(change_to(AUDIO, VIDEO))
    assert plane.upf.urr_of() != forgotten
    await plane.upf.count(downlink_conforming_bytes=10)
    await plane.accounted(zero_rated=1010, charged=0)


async def test_a_client_that_hangs_up_does_not_stop_an_activation(plane: ControlPlane) -> None:
    await plane.attach()
    plane.upf.hold["ModifySession"] = asyncio.Event()
    call = asyncio.create_task(plane.authorize())
    await plane.upf.until(lambda: plane.upf.flows() != [])
    call.cancel()
    plane.upf.hold.pop("ModifySession").set()
    async with asyncio.timeout(PATIENCE_S):
        await plane.notification("SUCCESSFUL_RESOURCES_ALLOCATION")
    assert await plane.app_sessions() == {"s": n5.AppSession.STATE_ACTIVE}


async def test_a_session_that_the_upf_takes_no_more_does_not_hold_up_the_others(plane: ControlPlane) -> None:
    await plane.attach()
    plane.upf.refuse["EstablishSession"] = InvalidArgument("no room")
    await plane.upf.restart()
    await in_step_again(plane, 2)
    assert plane.upf.forwarding
    assert plane.upf.sessions == {}


@pytest.mark.parametrize("missed", [1, 5])
@pytest.mark.clause("TS 29.244 §6.2.2")
async def test_missed_heartbeats_of_a_upf_that_lives_interrupt_nothing(plane: ControlPlane, missed: int) -> None:
    await plane.attach()
    await plane.authorize()
    enforced = plane.upf.session_of()
    plane.upf.refuse["Heartbeat"] = DeadlineExceeded("busy")
    until = plane.upf.heartbeats + missed
    await plane.upf.until(lambda: plane.upf.heartbeats >= until)
    plane.upf.refuse.clear()
    await plane.n5.UpdateAppSession(change_to(AUDIO))
    assert {flow for flow, _ in plane.upf.flows()} == {AUDIO}
    assert plane.upf.session_of().qers == enforced.qers
    assert plane.upf.calls.count("SetUpAssociation") == 1


async def test_a_request_whose_time_is_over_before_its_turn_casts_no_doubt_on_the_upf(plane: ControlPlane) -> None:
    await plane.attach()
    await plane.authorize("a", VIDEO)
    plane.upf.hold["ModifySession"] = asyncio.Event()
    first = asyncio.create_task(plane.authorize("b", AUDIO))
    await plane.upf.until(lambda: AUDIO in {flow for flow, _ in plane.upf.flows()})
    request = n5.UpdateAppSessionRequest(app_session_id="a", asc_req_data=app_session("a", AUDIO).asc_req_data)
    with pytest.raises(DeadlineExceeded):
        await plane.n5.UpdateAppSession(request, timeout=0.2)
    plane.upf.hold.pop("ModifySession").set()
    assert (await first).state == n5.AppSession.STATE_ACTIVE
    assert plane.upf.calls.count("SetUpAssociation") == 1
