"""Random schedules, failures and restarts of an MBSF, with time moved by hand: nothing is leaked, and nothing is lost.

What ought to be is worked out from the windows alone, and compared with what stands at MB-SMF, PCF and MBSTF.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from mbs_peers import MbsPeers
from mbsf_stack import START, Assembled, ingest_session, objects, period, state_of, user_service

from nf.common.clock import ManualClock
from nf.common.errors import CastcoreError, FailedPrecondition, NotFound, PermissionDenied, Unavailable
from nf.common.v1.mbs_pb2 import TunnelAddress
from nf.mbsf.v1 import user_data_ingest_pb2 as ingest
from nf.mbsf.v1 import user_service_pb2 as services
from nf.mbsf.v1.life_cycle_pb2 import DistributionSession
from nf.smf.v1 import mbs_session_pb2 as nmb1

LEAD_S = 30
SECOND = timedelta(seconds=1)
# Longer than any pause between tries.
PATIENCE = timedelta(seconds=31)

RESERVING = (
    "AllocateTmgi",
    "CreateMbsAppSessionContext",
    "CreateMbsSession",
    "UpdateDistSession:ESTABLISHED",
    "UpdateDistSession:ACTIVE",
)
RELEASING = (
    "UpdateDistSession:DEACTIVATING",
    "UpdateDistSession:INACTIVE",
    "ReleaseMbsSession",
    "DeleteMbsAppSessionContext",
    "ReleaseTmgi",
    "DeleteDistSession",
)
RUNNING = ("ESTABLISHED", "ACTIVE")


def ref(record: DistributionSession) -> str:
    return f"{record.mbs_dist_session_id}-{record.run}"


class Schedules(RuleBasedStateMachine):
    """One MBSF, its peers, and what happens to them."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = Path(tempfile.mkdtemp())
        self.clock = ManualClock(START)
        self.peers = MbsPeers(self.clock)
        self.windows: dict[str, list[tuple[datetime, datetime]]] = {}
        self.failed: set[str] = set()

    def run(self, work):
        return self.runner.run(asyncio.wait_for(work, 30))

    @initialize()
    def begin(self) -> None:
        async def begin() -> None:
            self.mbsf = Assembled(self.directory, self.peers, self.clock, lead=LEAD_S * SECOND)
            await self.mbsf.start()
            request = services.CreateMbsUserServiceRequest(mbs_user_service=user_service())
            self.service = await self.mbsf.provisioning.create_service(request)

        self.run(begin())

    def teardown(self) -> None:
        async def end() -> None:
            self.peers.hold.clear()
            self.peers.refuse.clear()
            self.peers.lose.clear()
            await self._restart()
            await self._pass(timedelta(days=2))
            for _ in range(4):
                await self._pass(PATIENCE)
            # Every window has passed, or is taken away: nothing is left of anything.
            for name in self.windows:
                try:
                    await self.mbsf.provisioning.delete_session(name)
                except NotFound:
                    continue
            for _ in range(4):
                await self._pass(PATIENCE)
            assert await self.mbsf.records() == []
            assert self.peers.reserved == (0, 0, 0)
            assert self.peers.replicas == {}
            await self._check_events()
            await self.mbsf.stop()

        if hasattr(self, "mbsf"):
            self.run(end())
        self.runner.close()
        shutil.rmtree(self.directory)

    # --- what happens -------------------------------------------------------------------------------------------------

    @rule(
        starts=st.lists(st.integers(-20, 90), min_size=1, max_size=2),
        lasts=st.integers(1, 200),
        count=st.integers(1, 2),
        daily=st.booleans(),
    )
    def provision(self, starts: list[int], lasts: int, count: int, daily: bool) -> None:
        periods, windows = [], []
        for start in starts:
            begin = self.clock.now().replace(microsecond=0) + start * SECOND
            periods.append(period(begin, begin + lasts * SECOND, "FREQ=DAILY;COUNT=2" if daily else ""))
            windows.append((begin, begin + lasts * SECOND))
            if daily:
                windows.append((begin + timedelta(days=1), begin + timedelta(days=1) + lasts * SECOND))

        async def provision() -> None:
            infos = {f"k{each}": objects() for each in range(count)}
            request = ingest.CreateMbsUserDataIngSessionRequest(
                mbs_user_data_ing_session=ingest_session(self.service, *periods, **infos)
            )
            try:
                made = await self.mbsf.provisioning.create_session(request)
            except CastcoreError:
                return
            self.windows[made.mbs_ing_session_id] = windows
            await self.mbsf.settle()

        self.run(provision())

    @rule(seconds=st.integers(1, 90))
    def time_passes(self, seconds: int) -> None:
        self.run(self._pass(seconds * SECOND))

    @rule(method=st.sampled_from(RESERVING), error=st.sampled_from([PermissionDenied("no"), Unavailable("away")]))
    def a_peer_refuses(self, method: str, error: CastcoreError) -> None:
        self.peers.refuse[method] = error

    @rule(method=st.sampled_from(RELEASING))
    def a_peer_goes_away(self, method: str) -> None:
        self.peers.refuse[method] = Unavailable("away")

    @rule(method=st.sampled_from(RESERVING + RELEASING))
    def answers_are_lost(self, method: str) -> None:
        self.peers.lose[method] = Unavailable("the answer was lost")

    @rule()
    def peers_are_well_again(self) -> None:
        self.peers.refuse.clear()
        self.peers.lose.clear()
        for _ in range(3):
            self.run(self._pass(PATIENCE))

    @rule()
    def it_is_restarted(self) -> None:
        self.run(self._restart())

    @rule(method=st.sampled_from(RESERVING + RELEASING), seconds=st.integers(1, 120))
    def it_is_killed_during_a_call(self, method: str, seconds: int) -> None:
        async def kill() -> None:
            self.peers.hold[method] = asyncio.Event()
            await self._pass(seconds * SECOND)
            await self.mbsf.stop()
            self.peers.hold.clear()
            self.mbsf = Assembled(self.directory, self.peers, self.clock, lead=LEAD_S * SECOND)
            await self.mbsf.start()

        self.run(kill())

    @precondition(lambda self: self.windows)
    @rule(data=st.data())
    def it_is_destroyed(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.windows)))

        async def destroy() -> None:
            with suppress(NotFound):
                await self.mbsf.provisioning.delete_session(name)
            await self.mbsf.settle()

        self.run(destroy())
        self.windows[name] = []

    @precondition(lambda self: self.windows)
    @rule(data=st.data(), start=st.integers(-30, 100), lasts=st.integers(20, 200))
    def it_gets_another_period(self, data: st.DataObject, start: int, lasts: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.windows)))
        begin = self.clock.now().replace(microsecond=0) + start * SECOND

        async def update() -> None:
            changes = ingest.MbsUserDataIngSession(
                mbs_ing_session_id=name, act_periods=[period(begin, begin + lasts * SECOND)]
            )
            request = ingest.UpdateMbsUserDataIngSessionRequest(mbs_user_data_ing_session=changes)
            request.update_mask.paths.append("act_periods")
            try:
                await self.mbsf.provisioning.update_session(request)
            except (NotFound, FailedPrecondition):
                return
            self.windows[name] = [(begin, begin + lasts * SECOND)]
            await self.mbsf.settle()

        self.run(update())

    @precondition(lambda self: self.peers.sessions)
    @rule(data=st.data(), what=st.sampled_from(["tmgi", "policy", "tunnel", "replica"]))
    def something_is_lost(self, data: st.DataObject, what: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.peers.sessions)))
        session = self.peers.sessions[name]
        dist_session_id = name.rpartition("-")[0]

        async def lose() -> None:
            notifications = self.mbsf.notifications
            if what == "tmgi":
                del self.peers.sessions[name]
                self.peers.tmgis.pop(session.mbs_session_id.tmgi.mbs_service_id, None)
                event = await self.peers.tell_smf(nmb1.MBS_SESSION_EVENT_TYPE_MBS_REL_TMGI_EXPIRY, name)
                await notifications.take_smf(event)
            elif what == "policy":
                await notifications.take_pcf(await self.peers.tell_pcf(name, "MBS_POLICY_CONTEXT_DENIED"))
            elif what == "tunnel":
                self.peers.ingress_port += 1
                address = TunnelAddress(ipv4_addr="127.0.0.1", port_number=self.peers.ingress_port)
                session.ingress_tun_addr[0].CopyFrom(address)
                event = await self.peers.tell_smf(
                    nmb1.MBS_SESSION_EVENT_TYPE_INGRESS_TUNNEL_ADD_CHANGE, name, ingress_tun_addr=[address]
                )
                await notifications.take_smf(event)
            elif self.peers.replicas.pop(dist_session_id, None) is not None:
                await notifications.take_mbstf(
                    await self.peers.tell_mbstf("SERVICE_MANAGEMENT_FAILURE", dist_session_id)
                )
            await self.mbsf.settle()

        self.run(lose())

    # --- what always holds --------------------------------------------------------------------------------------------

    @invariant()
    def nothing_is_leaked_and_nothing_is_lost(self) -> None:
        if hasattr(self, "mbsf") and not self.peers.refuse and not self.peers.lose:
            self.run(self._check())

    async def _check(self) -> None:
        records = await self.mbsf.records()
        now = self.clock.now()
        running = [each for each in records if state_of(each.info) in RUNNING]
        assert set(self.peers.contexts) == set(self.peers.sessions) == {ref(each) for each in running}
        own = {each.info.mbs_session_id.tmgi.mbs_service_id for each in running}
        assert (set(self.peers.tmgis), len(own)) == (own, len(running))
        for record in records:
            state, name = state_of(record.info), record.mbs_dist_session_id
            replica = self.peers.replicas.get(name)
            assert replica is None or self.peers.state(name) == state
            if state in RUNNING:
                assert replica is not None
                assert replica.mb_upf_tun_addr == self.peers.sessions[ref(record)].ingress_tun_addr[0]
            assert state == self._ought_to_be(record, now)
            assert record.info.announced == (state in RUNNING)

    def _ought_to_be(self, record: DistributionSession, now: datetime) -> str:
        windows = self.windows[record.mbs_ing_session_id]
        held = record.held_until.ToDatetime(UTC) if record.HasField("held_until") else None
        on = [each for each in windows if each[0] <= now < each[1] and (held is None or each[0] >= held)]
        if on:
            return "ACTIVE"
        # Before the next one, unless it failed in one that is not over.
        coming = [each[0] for each in windows if now < each[0] and (held is None or each[0] >= held)]
        near = bool(coming) and min(coming) - LEAD_S * SECOND <= now
        return "ESTABLISHED" if near and (held is None or held <= now) else "INACTIVE"

    async def _check_events(self) -> None:
        by_session: dict[str, list[str]] = {}
        for event in await self.mbsf.events():
            by_session.setdefault(event.subject, []).append(event.type)
        for subject, names in by_session.items():
            if "/dist-sessions/" not in subject:
                continue
            assert names.count("DIST_SESS_STARTED") == names.count("DIST_SESS_TERMINATED")
            assert names.count("SESSION_STARTED") == names.count("SESSION_RELEASED")
            open_runs = 0
            for each in names:
                open_runs += {"DIST_SESS_STARTED": 1, "DIST_SESS_TERMINATED": -1}.get(each, 0)
                assert open_runs in (0, 1)
                assert each != "DIST_SESS_ACTIVATED" or open_runs == 1

    async def _pass(self, span: timedelta) -> None:
        """Time passes as a clock has it: whoever waits for a moment wakes at it."""
        end = self.clock.now() + span
        while self.clock.now() < end:
            moment = self.mbsf.life_cycle.next_due
            step = end if moment is None else min(end, max(moment, self.clock.now()))
            self.clock.advance(max(step - self.clock.now(), timedelta(0)))
            await self.mbsf.settle()
            if step == self.clock.now() and moment is not None and moment <= step and step < end:
                continue

    async def _restart(self) -> None:
        await self.mbsf.stop()
        self.mbsf = Assembled(self.directory, self.peers, self.clock, lead=LEAD_S * SECOND)
        await self.mbsf.start()


Schedules.TestCase.settings = settings(
    max_examples=12, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.clause("TS 26.502 §4.6.1", "TS 26.502 §4.6.2")
class TestSchedules(Schedules.TestCase):
    """Run by hypothesis."""
