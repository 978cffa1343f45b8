"""Changes of one policy association that come while a decision is on its way make the next one together (N7)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from pathlib import Path

import pytest
from control_plane import PATIENCE_S, UE, ControlPlane, running
from google.protobuf.field_mask_pb2 import FieldMask

from nf.common import call
from nf.common.errors import InvalidArgument, PermissionDenied, Unavailable
from nf.pcf.v1 import policy_authorization_pb2 as n5

ACTIVE = n5.AppSession.STATE_ACTIVE


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with running(tmp_path) as plane:
        await plane.attach()
        yield plane


def flow(number: int) -> str:
    return f"permit out 17 from 198.51.100.{number} 443 to {UE}"


async def behind_one(
    plane: ControlPlane, waiting: Sequence[Awaitable[object]], *, lost_answers: int = 0
) -> list[object]:
    """What becomes of these, which reach the PCF while a decision on another session is on its way.

    lost_answers: so many of the UPF's next answers do not arrive.
    """
    held = plane.upf.hold["ModifySession"] = asyncio.Event()
    first = asyncio.create_task(plane.authorize("first", flow(1)))
    await plane.upf.until(lambda: flow(1) in {description for description, _ in plane.upf.flows()})
    tasks = [asyncio.ensure_future(each) for each in waiting]
    async with asyncio.timeout(PATIENCE_S):
        # Nothing tells that they wait but how many calls are being served.
        while plane.open_calls("pcf", "PolicyAuthorizationService") < 1 + len(tasks):  # noqa: ASYNC110
            await asyncio.sleep(0)
    await plane.app_sessions()
    # The answer that is held is past being lost.
    plane.upf.lose["ModifySession"] = lost_answers
    del plane.upf.hold["ModifySession"]
    plane.upf.calls.clear()
    held.set()
    assert (await first).state == ACTIVE
    return await asyncio.gather(*tasks, return_exceptions=True)


async def authorize(plane: ControlPlane, app_session_id: str, description: str, **changes: object) -> n5.AppSession:
    call.set_correlation_id(f"asked-for-{app_session_id}")
    return await plane.authorize(app_session_id, description, **changes)


async def test_sessions_that_wait_are_put_in_force_by_one_decision(plane: ControlPlane) -> None:
    (before,) = await plane.sm_policies()
    done = await behind_one(plane, [authorize(plane, f"s{n}", flow(n)) for n in range(2, 7)])
    assert [each.state for each in done if isinstance(each, n5.AppSession)] == [ACTIVE] * 5
    assert plane.upf.calls.count("ModifySession") == 1
    (after,) = await plane.sm_policies()
    assert after.decision.revision == before.decision.revision + 2
    assert len({rule.pcc_rule_id for rule in after.decision.pcc_rules}) == 7
    assert {description for description, _ in plane.upf.flows()} == {flow(n) for n in range(1, 7)}
    # Each is told of by itself, under the correlation ID of its own request.
    events = await plane.events("pcf", lambda seen: len(seen) == 6)
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5, 6]
    assert {event.subject: event.correlation_id for event in events[1:]} == {
        f"app-sessions/s{n}": f"asked-for-s{n}" for n in range(2, 7)
    }


async def test_one_that_is_not_granted_leaves_the_others_alone(plane: ControlPlane) -> None:
    done = await behind_one(
        plane,
        [
            authorize(plane, "good", flow(2)),
            authorize(plane, "bad", flow(3), gpsis=["msisdn-49000"]),
            authorize(plane, "fine", flow(4)),
        ],
    )
    assert isinstance(done[1], PermissionDenied)
    assert "not among" in done[1].message
    assert await plane.app_sessions() == {"first": ACTIVE, "good": ACTIVE, "fine": ACTIVE}
    assert plane.upf.calls.count("ModifySession") == 1
    assert {entry.app_session_id for entry in await plane.ledger()} == {"first", "good", "fine"}


async def test_one_that_the_user_plane_refuses_is_found_out_among_the_others(plane: ControlPlane) -> None:
    plane.upf.no_flows = {flow(3)}
    done = await behind_one(plane, [authorize(plane, f"s{n}", flow(n)) for n in range(2, 5)])
    assert isinstance(done[1], InvalidArgument)
    assert flow(3) in done[1].message
    assert [each.app_session_id for each in (done[0], done[2]) if isinstance(each, n5.AppSession)] == ["s2", "s4"]
    assert await plane.app_sessions() == {"first": ACTIVE, "s2": ACTIVE, "s4": ACTIVE}
    assert {description for description, _ in plane.upf.flows()} == {flow(1), flow(2), flow(4)}
    assert {entry.app_session_id for entry in await plane.ledger()} == {"first", "s2", "s4"}
    # Together, then each alone; nobody hears of the try that came to nothing.
    assert plane.upf.calls.count("ModifySession") == 4
    events = await plane.events("pcf", lambda seen: len(seen) == 3)
    assert [(event.subject, event.type) for event in events] == [
        (f"app-sessions/{name}", "SUCCESSFUL_RESOURCES_ALLOCATION") for name in ("first", "s2", "s4")
    ]


async def test_changes_and_ends_wait_together_with_new_sessions(plane: ControlPlane) -> None:
    await plane.authorize("old", flow(2))
    await plane.authorize("going", flow(3))
    component = n5.MediaComponent(med_comp_n=1, mar_bw_dl_bps=5_000_000)
    component.med_sub_comps.add(f_num=1, f_descs=[flow(4)])
    change = n5.UpdateAppSessionRequest(
        app_session_id="old",
        asc_req_data=n5.AppSessionContextReqData(med_components=[component]),
        update_mask=FieldMask(paths=["med_components"]),
    )
    updated, ended, made = await behind_one(
        plane,
        [
            plane.n5.UpdateAppSession(change),
            plane.n5.DeleteAppSession(n5.DeleteAppSessionRequest(app_session_id="going")),
            plane.authorize("new", flow(5)),
        ],
    )
    assert isinstance(updated, n5.UpdateAppSessionResponse)
    assert isinstance(ended, n5.DeleteAppSessionResponse)
    assert isinstance(made, n5.AppSession)
    assert await plane.app_sessions() == {"first": ACTIVE, "old": ACTIVE, "new": ACTIVE}
    assert {description for description, _ in plane.upf.flows()} == {flow(1), flow(4), flow(5)}
    # An end looks first at what became of its session, so it comes with the decision after.
    assert plane.upf.calls.count("ModifySession") == 2


async def test_without_an_answer_none_of_those_that_waited_is_left_behind(plane: ControlPlane) -> None:
    await plane.authorize("kept", flow(9))
    done = await behind_one(plane, [authorize(plane, f"s{n}", flow(n)) for n in (2, 3)], lost_answers=1000)
    assert [type(each) for each in done] == [Unavailable, Unavailable]
    # The PCF settles what the SMF may have got.
    await plane.upf.until(lambda: {description for description, _ in plane.upf.flows()} == {flow(1), flow(9)})
    assert await plane.app_sessions() == {"first": ACTIVE, "kept": ACTIVE}
