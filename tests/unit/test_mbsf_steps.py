"""Every call of steps 2a to 4d refused, lost or cut off by a death: where the session ends, and what is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from mbs_peers import MbsPeers
from mbsf_stack import MINUTE, START, Assembled, ingest_session, period, state_of, told, user_service

from nf.common.clock import ManualClock
from nf.common.errors import CastcoreError, PermissionDenied, Unavailable
from nf.mbsf.v1 import user_data_ingest_pb2 as ingest
from nf.mbsf.v1 import user_service_pb2 as services

LEAD = timedelta(seconds=30)
PATIENCE = timedelta(seconds=31)
# Each call, with the events by which its failure is told and the reference points that these have crossed.
FAILURES = {
    "AllocateTmgi": (["DIST_SESS_SERV_MNGT_FAILURE"], "Nmb1>Nmb10"),
    "CreateMbsAppSessionContext": (["DIST_SESS_POL_CRTL_FAILURE"], "Nmb12>Nmb10"),
    "CreateMbsSession": (["DIST_SESS_SERV_MNGT_FAILURE"], "Nmb1>Nmb10"),
    "UpdateDistSession:ESTABLISHED": (["DIST_SESS_SERV_MNGT_FAILURE", "DIST_SESS_EST_FAILURE"], "Nmb2>Nmb10"),
    "UpdateDistSession:ACTIVE": (["DIST_SESS_SERV_MNGT_FAILURE"], "Nmb2>Nmb10"),
}
RELEASING = (
    "UpdateDistSession:DEACTIVATING",
    "UpdateDistSession:INACTIVE",
    "ReleaseMbsSession",
    "DeleteMbsAppSessionContext",
    "ReleaseTmgi",
    "DeleteDistSession",
)


class World:
    """An MBSF, its peers, the time, and one ingest session of two periods."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = ManualClock(START)
        self.peers = MbsPeers(self.clock)
        self.mbsf = self._assemble()

    def _assemble(self) -> Assembled:
        return Assembled(self.directory, self.peers, self.clock, lead=LEAD)

    async def provision(self, *periods: ingest.ActivePeriod, **infos) -> ingest.MbsUserDataIngSession:
        await self.mbsf.start()
        service = await self.mbsf.provisioning.create_service(
            services.CreateMbsUserServiceRequest(mbs_user_service=user_service())
        )
        request = ingest.CreateMbsUserDataIngSessionRequest(
            mbs_user_data_ing_session=ingest_session(service, *periods, **infos)
        )
        made = await self.mbsf.provisioning.create_session(request)
        await self.mbsf.settle()
        return made

    async def pass_time(self, span: timedelta) -> None:
        self.clock.advance(span)
        await self.mbsf.settle()

    async def kill(self) -> None:
        """What is under way is cut off, and the MBSF starts again on what it has stored."""
        await self.mbsf.stop()
        self.peers.hold.clear()
        self.mbsf = self._assemble()
        await self.mbsf.start()

    async def state(self) -> str:
        records = await self.mbsf.records()
        return state_of(records[0].info) if records else "ABSENT"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    made.peers.hold.clear()
    await made.mbsf.stop()


TWO = (
    period(START + 1 * MINUTE, START + 3 * MINUTE),
    period(START + 10 * MINUTE, START + 12 * MINUTE),
)


@pytest.mark.parametrize("method", FAILURES)
@pytest.mark.parametrize("error", [PermissionDenied("no", cause="NOT_TODAY"), Unavailable("smf: 10.0.0.1:99 is away")])
@pytest.mark.clause("TS 26.502 §4.6.1 step 2a", "TS 26.502 §4.6.1 step 2b", "TS 26.502 §4.6.2")
async def test_what_fails_is_undone_told_and_left_until_the_next_period(
    world: World, method: str, error: CastcoreError
) -> None:
    await world.provision(*TWO)
    world.peers.refuse[method] = error
    await world.pass_time(MINUTE)
    assert await world.state() == "INACTIVE"
    assert world.peers.reserved == (0, 0, 0)
    (record,) = await world.mbsf.records()
    assert world.peers.state(record.mbs_dist_session_id) == "INACTIVE"
    names, path = FAILURES[method]
    failures = [each for each in await world.mbsf.events() if each.type in names]
    assert [(each.type, each.path) for each in failures] == [(name, path) for name in names]
    problem = record.info.problem
    assert problem.title
    assert "10.0.0.1" not in f"{problem}{failures}"
    if isinstance(error, PermissionDenied):
        assert problem.cause == "NOT_TODAY"

    tried = world.peers.names().count(method)
    await world.pass_time(MINUTE)
    if method != "AllocateTmgi" or isinstance(error, PermissionDenied):
        # Where an allocation was not answered, whether there is something to release is asked until it is.
        assert world.peers.names().count(method) == tried
    world.peers.refuse.clear()
    await world.pass_time(7 * MINUTE + timedelta(seconds=40))
    assert await world.state() == "ESTABLISHED"
    assert world.peers.reserved == (1, 1, 1)
    assert not (await world.mbsf.records())[0].info.HasField("problem")


async def test_what_fails_while_the_next_period_nears_is_tried_once_that_period_is_over(world: World) -> None:
    await world.provision(
        period(START + MINUTE, START + 2 * MINUTE),
        # It would be established before the first one has ended.
        period(START + 2 * MINUTE + LEAD / 2, START + 4 * MINUTE),
    )
    await world.pass_time(MINUTE)
    assert await world.state() == "ACTIVE"
    world.peers.refuse["AllocateTmgi"] = PermissionDenied("no")
    await world.pass_time(LEAD + LEAD / 2)
    (name,) = world.peers.sessions
    event = await world.peers.tell_pcf(name, "MBS_POLICY_CONTEXT_DENIED")
    await world.mbsf.notifications.take_pcf(event)
    await world.mbsf.settle()
    tried = world.peers.names().count("AllocateTmgi")
    assert await world.state() == "INACTIVE"
    world.peers.refuse.clear()
    await world.pass_time(timedelta(seconds=14))
    assert (await world.state(), world.peers.names().count("AllocateTmgi")) == ("INACTIVE", tried)
    await world.pass_time(timedelta(seconds=1))
    assert (await world.state(), world.peers.names().count("AllocateTmgi")) == ("ESTABLISHED", tried + 1)
    await world.pass_time(LEAD / 2)
    assert await world.state() == "ACTIVE"


@pytest.mark.parametrize("method", FAILURES)
async def test_an_answer_that_is_lost_leaves_nothing_behind(world: World, method: str) -> None:
    await world.provision(*TWO)
    world.peers.lose[method] = Unavailable("the answer was lost")
    await world.pass_time(MINUTE)
    world.peers.lose.clear()
    await world.pass_time(PATIENCE)
    assert await world.state() == "INACTIVE"
    assert world.peers.reserved == (0, 0, 0)
    assert [world.peers.state(name) for name in world.peers.replicas] == ["INACTIVE"]


@pytest.mark.parametrize("method", FAILURES)
@pytest.mark.parametrize("how", ["before the end", "after the end"])
async def test_an_mbsf_that_dies_during_a_call_goes_on_where_it_was_or_undoes_it(
    world: World, method: str, how: str
) -> None:
    await world.provision(*TWO)
    world.peers.hold[method] = asyncio.Event()
    await world.pass_time(MINUTE)
    assert world.peers.waiting == 1
    if how == "after the end":
        world.clock.advance(3 * MINUTE)
    await world.kill()
    if how == "before the end":
        assert await world.state() == "ACTIVE"
        assert world.peers.reserved == (1, 1, 1)
        assert [world.peers.state(name) for name in world.peers.replicas] == ["ACTIVE"]
        assert told(await world.mbsf.events())[-1] == "DIST_SESS_ACTIVATED"
    else:
        assert await world.state() == "INACTIVE"
        assert world.peers.reserved == (0, 0, 0)
        assert [world.peers.state(name) for name in world.peers.replicas] == ["INACTIVE"]
        assert "DIST_SESS_ACTIVATED" not in told(await world.mbsf.events())


@pytest.mark.parametrize("method", RELEASING)
@pytest.mark.parametrize("how", ["refused", "lost", "killed"])
@pytest.mark.clause("TS 26.502 §4.6.1 step 4", "TS 26.502 §4.6.1 step 5")
async def test_a_release_that_fails_is_tried_until_it_is_done_and_nothing_is_skipped(
    world: World, method: str, how: str
) -> None:
    await world.provision(TWO[0])
    await world.pass_time(MINUTE)
    assert await world.state() == "ACTIVE"
    error = Unavailable("away")
    if how == "killed":
        world.peers.hold[method] = asyncio.Event()
    else:
        (world.peers.refuse if how == "refused" else world.peers.lose)[method] = error
    await world.pass_time(2 * MINUTE)
    expected = "INACTIVE" if method == "DeleteDistSession" else "DEACTIVATING"
    assert await world.state() == expected
    later = RELEASING[RELEASING.index(method) + 1 :]
    assert [each for each in world.peers.names() if each in later] == []
    if how == "killed":
        await world.kill()
    else:
        (world.peers.refuse if how == "refused" else world.peers.lose).clear()
        await world.pass_time(PATIENCE)
    assert await world.state() == "ABSENT"
    assert (world.peers.reserved, world.peers.replicas) == ((0, 0, 0), {})
    names = told(await world.mbsf.events())
    assert names[-4:] == [
        "DIST_SESS_TERMINATED",
        "SESSION_RELEASED",
        "USER_DATA_ING_SESS_TERMINATED",
        "SESSION_TERMINATED",
    ]
    assert names.count("DIST_SESS_TERMINATED") == 1


@pytest.mark.clause("TS 26.502 §4.6.1 step 2", "TS 26.502 §4.6.1 step 3")
async def test_a_start_in_the_past_runs_through_established_at_once(world: World) -> None:
    await world.provision(period(START - MINUTE, START + MINUTE))
    assert await world.state() == "ACTIVE"
    assert told(await world.mbsf.events()) == [
        "USER_DATA_ING_SESS_STARTING",
        "DIST_SESS_STARTING",
        "SESSION_STARTED",
        "DIST_SESS_STARTED",
        "USER_DATA_ING_SESS_STARTED",
        "DIST_SESS_ACTIVATED",
    ]


@pytest.mark.clause("TS 26.502 §4.6.1 step 1")
async def test_an_end_in_the_past_expires_at_once(world: World) -> None:
    made = await world.provision(period(START - 2 * MINUTE, START - MINUTE))
    assert [state_of(each) for each in made.mbs_dis_sess_infos.values()] == ["INACTIVE"]
    assert await world.state() == "ABSENT"
    assert told(await world.mbsf.events()) == ["SESSION_TERMINATED"]
    assert world.peers.replicas == {}


@pytest.mark.clause("TS 26.502 §4.6.1 step 5")
async def test_destroyed_while_established_it_is_withdrawn_and_released_without_having_been_sent(world: World) -> None:
    made = await world.provision(*TWO)
    await world.pass_time(timedelta(seconds=35))
    assert await world.state() == "ESTABLISHED"
    await world.mbsf.provisioning.delete_session(made.mbs_ing_session_id)
    await world.mbsf.settle()
    assert await world.state() == "ABSENT"
    assert (world.peers.reserved, world.peers.replicas) == ((0, 0, 0), {})
    assert "UpdateDistSession:DEACTIVATING" not in world.peers.names()


async def test_destroyed_while_it_waits_for_data_it_waits_no_longer(world: World) -> None:
    made = await world.provision(*TWO)
    world.peers.hold["UpdateDistSession:ESTABLISHED"] = asyncio.Event()
    await world.pass_time(timedelta(seconds=35))
    assert world.peers.waiting == 1
    await world.mbsf.provisioning.delete_session(made.mbs_ing_session_id)
    await world.mbsf.settle()
    assert await world.state() == "ABSENT"
    assert (world.peers.reserved, world.peers.replicas) == ((0, 0, 0), {})
    assert "DIST_SESS_EST_FAILURE" not in told(await world.mbsf.events())


@pytest.mark.clause("TS 26.502 §4.6.1 step 5")
async def test_between_its_periods_it_is_inactive_and_in_the_next_it_runs_under_other_names(world: World) -> None:
    await world.provision(*TWO)
    await world.pass_time(MINUTE)
    first = set(world.peers.sessions)
    await world.pass_time(3 * MINUTE)
    assert (await world.state(), world.peers.reserved) == ("INACTIVE", (0, 0, 0))
    await world.pass_time(7 * MINUTE)
    assert await world.state() == "ACTIVE"
    assert first.isdisjoint(world.peers.sessions)


async def test_a_tmgi_is_refreshed_before_it_expires(world: World) -> None:
    world.peers.tmgi_lifetime = 10 * MINUTE
    await world.provision(period(START, START + timedelta(hours=2)))
    for _ in range(9):
        await world.pass_time(5 * MINUTE)
    assert await world.state() == "ACTIVE"
    assert min(world.peers.tmgis.values()) > world.clock.now()


@pytest.mark.clause("TS 26.502 §4.6.1 step 4")
async def test_a_changed_ingress_tunnel_is_passed_on_to_the_mbstf(world: World) -> None:
    from nf.common.v1.mbs_pb2 import TunnelAddress
    from nf.smf.v1 import mbs_session_pb2 as nmb1

    await world.provision(period(START, START + 5 * MINUTE))
    (ref,) = world.peers.sessions
    elsewhere = TunnelAddress(ipv4_addr="127.0.0.1", port_number=30_000)
    event = await world.peers.tell_smf(
        nmb1.MBS_SESSION_EVENT_TYPE_INGRESS_TUNNEL_ADD_CHANGE, ref, ingress_tun_addr=[elsewhere]
    )
    await world.mbsf.notifications.take_smf(event)
    await world.mbsf.settle()
    assert [each.mb_upf_tun_addr for each in world.peers.replicas.values()] == [elsewhere]
    assert await world.state() == "ACTIVE"


@pytest.mark.clause("TS 26.502 §4.6.1 step 4", "TS 26.502 §4.6.2")
async def test_a_policy_that_is_revoked_deactivates_what_stays_provisioned(world: World) -> None:
    await world.provision(*TWO)
    await world.pass_time(MINUTE)
    (ref,) = world.peers.contexts
    event = await world.peers.tell_pcf(ref, "MBS_POLICY_CONTEXT_DENIED")
    await world.mbsf.notifications.take_pcf(event)
    await world.mbsf.notifications.take_pcf(event)
    await world.mbsf.settle()
    assert (await world.state(), world.peers.reserved) == ("INACTIVE", (0, 0, 0))
    names = told(await world.mbsf.events())
    assert names.count("DIST_SESS_POL_CRTL_FAILURE") == 1
    assert names[names.index("DIST_SESS_POL_CRTL_FAILURE") + 1] == "DIST_SESS_TERMINATED"
    await world.pass_time(9 * MINUTE)
    assert await world.state() == "ACTIVE"


@pytest.mark.clause("TS 26.502 §4.6.1 step 4", "TS 26.502 §4.6.2")
async def test_ingest_that_dries_up_is_told_and_its_recovery_seen(world: World) -> None:
    await world.provision(period(START, START + 5 * MINUTE))
    (name,) = world.peers.replicas
    take = world.mbsf.notifications.take_mbstf
    for event_type in ("DATA_INGEST_FAILURE", "DATA_INGEST_FAILURE", "DATA_INGEST_SESSION_ESTABLISHED"):
        await take(await world.peers.tell_mbstf(event_type, name))
        (record,) = await world.mbsf.records()
        assert record.info.HasField("ingest_failing_since") == (event_type == "DATA_INGEST_FAILURE")
    await world.mbsf.settle()
    assert await world.state() == "ACTIVE"
    names = told(await world.mbsf.events())
    assert names[-2:] == ["DATA_INGEST_FAILURE", "DATA_INGEST_RECOVERED"]


async def test_news_of_an_earlier_run_ends_nothing(world: World) -> None:
    await world.provision(period(START, START + 5 * MINUTE))
    (name,) = world.peers.replicas
    await world.mbsf.notifications.take_mbstf(await world.peers.tell_mbstf("SESSION_DEACTIVATED", name))
    await world.mbsf.settle()
    assert await world.state() == "ACTIVE"
    del world.peers.replicas[name]
    await world.mbsf.notifications.take_mbstf(await world.peers.tell_mbstf("SESSION_DEACTIVATED", name))
    await world.mbsf.settle()
    assert (await world.state(), world.peers.reserved) == ("INACTIVE", (0, 0, 0))
    assert "DIST_SESS_SERV_MNGT_FAILURE" in told(await world.mbsf.events())


async def test_a_refused_replica_leaves_nothing_of_the_session(world: World) -> None:
    world.peers.refuse["CreateDistSession"] = PermissionDenied("unknown FEC scheme")
    with pytest.raises(PermissionDenied, match="unknown FEC scheme"):
        await world.provision(*TWO)
    await world.mbsf.settle()
    assert await world.mbsf.records() == []
    page = await world.mbsf.provisioning.list_sessions()
    assert page.items == []
    assert await world.mbsf.events() == []
