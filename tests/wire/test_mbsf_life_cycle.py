"""Distribution sessions at an MBSF, from provisioning to their end, on peers that count (TS 26.502 §4.6.1)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from mbs_peers import MbsPeers
from mbsf_stack import MINUTE, START, ingest_session, mbsf, period, state_of, told

from nf.common.clock import ManualClock


@pytest.mark.clause("TS 26.502 §4.6.1 step 1", "TS 26.502 §4.6.1 step 2", "TS 26.502 §4.6.1 step 3")
async def test_a_session_is_established_before_its_start_active_at_it_and_gone_after_its_end(tmp_path: Path) -> None:
    clock = ManualClock(START)
    peers = MbsPeers(clock)
    async with mbsf(tmp_path, peers, clock=clock, establishment_lead_s=30.0) as stack:
        service = await stack.provision_service()
        made = await stack.provision(ingest_session(service, period(START + 2 * MINUTE, START + 5 * MINUTE)))
        info = made.mbs_dis_sess_infos["main"]
        name = info.mbs_dist_session_id
        assert state_of(info) == "INACTIVE"
        assert peers.state(name) == "INACTIVE"
        assert peers.reserved == (0, 0, 0)

        clock.advance(timedelta(seconds=90))
        await stack.until_told("DIST_SESS_STARTED")
        assert peers.state(name) == "ESTABLISHED"
        assert peers.reserved == (1, 1, 1)
        clock.advance(timedelta(seconds=30))
        await stack.until_told("DIST_SESS_ACTIVATED")
        assert peers.state(name) == "ACTIVE"
        shown = await stack.get(made.mbs_ing_session_id)
        assert state_of(shown.mbs_dis_sess_infos["main"]) == "ACTIVE"
        assert shown.mbs_user_service_anmt.service_id == service.ext_service_ids[0]
        clock.advance(3 * MINUTE)
        events = await stack.until_told("SESSION_TERMINATED")
        assert told(events) == [
            "USER_DATA_ING_SESS_STARTING",
            "DIST_SESS_STARTING",
            "SESSION_STARTED",
            "DIST_SESS_STARTED",
            "USER_DATA_ING_SESS_STARTED",
            "DIST_SESS_ACTIVATED",
            "DIST_SESS_TERMINATED",
            "SESSION_RELEASED",
            "USER_DATA_ING_SESS_TERMINATED",
            "SESSION_TERMINATED",
        ]
        assert peers.reserved == (0, 0, 0)
        assert peers.replicas == {}
        assert peers.names() == [
            "CreateDistSession",
            "AllocateTmgi",
            "CreateMbsAppSessionContext",
            "CreateMbsSession",
            "UpdateDistSession:ESTABLISHED",
            "UpdateDistSession:ACTIVE",
            "UpdateDistSession:DEACTIVATING",
            "UpdateDistSession:INACTIVE",
            "ReleaseMbsSession",
            "DeleteMbsAppSessionContext",
            "ReleaseTmgi",
            "DeleteDistSession",
        ]
