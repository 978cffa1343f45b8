"""What an operator guarantees in all is never promised twice, also while the user plane has not answered yet."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from control_plane import MBPS, ControlPlane, app_session, running

from nf.common.errors import PermissionDenied
from nf.common.v1.types_pb2 import ENFORCEMENT_METHOD_MARK
from nf.pcf.v1 import operator_policies_pb2 as op
from nf.pcf.v1 import policy_authorization_pb2 as n5

SECOND_UE = "10.45.0.77"


def guaranteed(name: str, rate_bps: int, **changes: object) -> n5.AppSession:
    session = app_session(name, **changes)
    session.asc_req_data.med_components[0].mir_bw_dl_bps = rate_bps
    return session


def update_to(name: str, rate_bps: int, **changes: object) -> n5.UpdateAppSessionRequest:
    return n5.UpdateAppSessionRequest(
        app_session_id=name, asc_req_data=guaranteed(name, rate_bps, **changes).asc_req_data
    )


async def granted_bps(plane: ControlPlane, name: str) -> int:
    session = (await plane.n5.GetAppSession(n5.GetAppSessionRequest(app_session_id=name))).app_session
    return session.asc_resp_data.enforcement.guaranteed_bit_rate_dl_bps


@pytest.mark.clause("TS 29.514 §4.2.3.2")
async def test_of_two_updates_at_once_the_second_finds_what_the_first_has_asked_for_taken(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        policy = op.OperatorPolicy(
            operator_policy_id="p",
            threshold_dl_bps=5 * MBPS,
            enforcement_method=ENFORCEMENT_METHOD_MARK,
            dscp_green=18,
            dscp_yellow=20,
            dscp_red=10,
            guaranteed=True,
            guaranteed_total_dl_bps=5 * MBPS,
        )
        await plane.operator.CreateOperatorPolicy(op.CreateOperatorPolicyRequest(operator_policy=policy))
        await plane.attach()
        await plane.attach(
            sm_context_ref="ue-2", supi="imsi-001010000000077", gpsi="msisdn-77", ue_ipv4_address=SECOND_UE
        )
        other = {"ue_ipv4": SECOND_UE}
        await plane.n5.CreateAppSession(n5.CreateAppSessionRequest(app_session=guaranteed("s", MBPS)))
        await plane.n5.CreateAppSession(n5.CreateAppSessionRequest(app_session=guaranteed("t", MBPS, **other)))

        plane.upf.hold["ModifySession"] = asyncio.Event()
        calls = plane.upf.calls.count("ModifySession")
        first = asyncio.ensure_future(plane.n5.UpdateAppSession(update_to("s", 3 * MBPS)))
        await plane.upf.until(lambda: plane.upf.calls.count("ModifySession") > calls)
        with pytest.raises(PermissionDenied) as refusal:
            await plane.n5.UpdateAppSession(update_to("t", 3 * MBPS, **other))
        assert refusal.value.metadata["free_bps"] == str(2 * MBPS)
        plane.upf.hold.pop("ModifySession").set()
        await first
        assert (await granted_bps(plane, "s"), await granted_bps(plane, "t")) == (3 * MBPS, MBPS)

        # One that is refused by the user plane takes nothing with it.
        plane.upf.refuse["ModifySession"] = PermissionDenied("no")
        with pytest.raises(PermissionDenied):
            await plane.n5.UpdateAppSession(update_to("s", 4 * MBPS))
        plane.upf.refuse.clear()
        await plane.n5.UpdateAppSession(update_to("t", 2 * MBPS, **other))
        assert (await granted_bps(plane, "s"), await granted_bps(plane, "t")) == (3 * MBPS, 2 * MBPS)
