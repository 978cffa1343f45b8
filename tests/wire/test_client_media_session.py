"""Whole media sessions against a real AF: TS 26.501 §5.6.1 from step 3 to step 17, TS 26.512 A.3.2 from step 4 to 9."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from af_stack import PATIENCE_S, UE, AfStack, rule
from virtual_player import VirtualPlayer, connection

from nf.af.v1 import provisioning_pb2 as m1
from nf.af.v1.consumption_reporting_pb2 import (
    CELL_IDENTIFIER_TYPE_NCGI,
    ConsumptionRecord,
    GetConsumptionStatisticsRequest,
    ListConsumptionReportingUnitsRequest,
    TypedLocation,
)
from nf.af.v1.consumption_reporting_pb2_grpc import ConsumptionReportsServiceStub
from nf.client.journal import Journal
from nf.client.m5_grpc import GrpcM5
from nf.client.m7 import Preferences
from nf.client.machine import Reporting
from nf.client.media_session import MediaSession, SessionOptions
from nf.client.media_session_handler import MediaSessionHandler
from nf.client.outbox import Outbox
from nf.client.provider import Provider
from nf.common.channels import Channels
from nf.common.clock import ManualClock
from nf.common.errors import CastcoreError, NotFound, Unavailable
from nf.pcf.v1 import policy_authorization_pb2 as n5

START = datetime(2026, 5, 1, tzinfo=UTC)
MPD = "https://media.example.com/title1.mpd"
BOTH = Preferences(may_report=True, may_share_location=True)
HERE = TypedLocation(location_identifier_type=CELL_IDENTIFIER_TYPE_NCGI, location="001-01-000000001")
THERE = TypedLocation(location_identifier_type=CELL_IDENTIFIER_TYPE_NCGI, location="001-01-000000002")


class Ue:
    """A handler with what was told on the way: its steps, and what became of its reports."""

    def __init__(self, stack: AfStack, clock: ManualClock, **more: object) -> None:
        self.clock = clock
        self.steps: list[str] = []
        self.attempts: list[CastcoreError | None] = []
        self._told = asyncio.Event()
        self.handler = MediaSessionHandler(
            GrpcM5(stack.channel, ue_address=UE),
            clock,
            client_id="client-1",
            narrate=self._narrated,
            attempted=self._attempted,
            **more,  # type: ignore[arg-type]
        )

    def _attempted(self, error: CastcoreError | None) -> None:
        self.attempts.append(error)
        self._told.set()

    def _narrated(self, step: str) -> None:
        self.steps.append(step)
        self._told.set()

    async def until(self, satisfied: Callable[[], bool]) -> None:
        """Returns when a step, or an attempt to report, has made it true."""
        async with asyncio.timeout(PATIENCE_S):
            while not satisfied():
                self._told.clear()
                await self._told.wait()

    async def reported(self, count: int) -> None:
        """Returns when so many reports have been taken in all."""
        await self.until(lambda: self.handler.outbox.counts.sent >= count)

    def step_numbers(self) -> list[str]:
        """The numbers of the steps so far; repeats of one are told once."""
        numbers = [step.split()[0] for step in self.steps if step[0].isdigit()]
        return [each for at, each in enumerate(numbers) if at == 0 or numbers[at - 1] != each]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
async def stack(tmp_path: Path, clock: ManualClock) -> AsyncIterator[AfStack]:
    async with AfStack(tmp_path, clock=clock) as started:
        yield started


@pytest.fixture
async def ue(stack: AfStack, clock: ManualClock) -> AsyncIterator[Ue]:
    made = Ue(stack, clock)
    async with made.handler:
        yield made


async def provisioned(stack: AfStack, *, policy: bool = False, **configuration: object) -> str:
    provider = Provider(stack.channel)
    session = await provider.provision_session("app", asp_id="asp")
    content = {"reporting_interval_s": 10, **configuration}
    await provider.configure_consumption_reporting(
        session.provisioning_session_id, m1.ConsumptionReportingConfiguration(**content)
    )
    if policy:
        created = await provider.create_template(
            session.provisioning_session_id,
            m1.PolicyTemplate(
                external_reference="zero-rating", qos_specification=m1.M1QosSpecification(max_btr_dl_bps=5_000_000)
            ),
        )
        await provider.ready(created)
    return session.provisioning_session_id


async def records(stack: AfStack, session_id: str) -> list[ConsumptionRecord]:
    request = ListConsumptionReportingUnitsRequest()
    request.filter.provisioning_session_id = session_id
    reports = ConsumptionReportsServiceStub(stack.channel)
    return list((await reports.ListConsumptionReportingUnits(request)).consumption_records)


async def consumed(stack: AfStack, session_id: str) -> list[tuple[str, float, int]]:
    """What the AF knows: medium, when after the start, seconds."""
    units = [each.consumption_reporting_unit for each in await records(stack, session_id)]
    return [
        (unit.media_consumed, (unit.start_time.ToDatetime(UTC) - START).total_seconds(), unit.duration_s)
        for unit in units
    ]


async def report_count(stack: AfStack, session_id: str) -> int:
    reports = ConsumptionReportsServiceStub(stack.channel)
    request = GetConsumptionStatisticsRequest(provisioning_session_id=session_id)
    return (await reports.GetConsumptionStatistics(request)).consumption_statistics.report_count


@pytest.mark.clause(*(f"TS 26.501 §5.6.1 step {step}" for step in (3, 4, 5, 6, 10, 11, 12, 13, 14, 15, 17)))
async def test_a_media_session_from_start_to_stop_is_reported_step_by_step(stack: AfStack, ue: Ue, clock: ManualClock):
    session_id = await provisioned(stack)
    player = VirtualPlayer()
    session = await ue.handler.start(player, MPD, SessionOptions(session_id))
    assert (player.log, session.reporting) == ([f"fetch {MPD}"], Reporting.READY)

    player.tells.media_changed("video", "v1", connection(50000))
    player.tells.media_changed("audio", "a1")
    await ue.reported(1)
    assert await consumed(stack, session_id) == [("v1", 0, 0)]

    clock.advance(timedelta(seconds=6))
    player.tells.media_changed("video", "v2")
    clock.advance(timedelta(seconds=4))
    await ue.reported(2)
    assert await consumed(stack, session_id) == [("v1", 0, 6), ("a1", 0, 10), ("v2", 6, 4)]

    clock.advance(timedelta(seconds=5))
    await ue.handler.stop(session)
    assert await consumed(stack, session_id) == [("v1", 0, 6), ("a1", 0, 15), ("v2", 6, 9)]
    assert await report_count(stack, session_id) == 3
    assert player.log[-1] == "stop"
    assert ue.step_numbers() == ["3", "4", "5", "6", "8", "11", "12", "11", "12", "13", "14", "12", "15", "17"]
    clock.advance(timedelta(seconds=100))
    assert ue.handler.outbox.counts.sent == 3


@pytest.mark.clause(*(f"TS 26.512 A.3.2 step {step}" for step in (4, 5, 6, 7, 8, 9)))
async def test_the_policy_is_active_and_the_player_has_its_filter_before_it_fetches_the_mpd(stack: AfStack, ue: Ue):
    session_id = await provisioned(stack, policy=True)
    player = VirtualPlayer()
    session = await ue.handler.start(player, MPD, SessionOptions(session_id, "zero-rating"))
    assert player.log == ["filter 5000000", f"fetch {MPD}"]
    assert session.policy is not None
    policy_id = session.policy.dynamic_policy_id
    assert (session.policy.ue_address, stack.pcf.rules(policy_id)) == (UE, [rule(50000)])

    await asyncio.gather(*(player.tells.connection_opened(connection(port)) for port in (50001, 50002)))
    assert sorted(stack.pcf.rules(policy_id)) == [rule(50000), rule(50001), rule(50002)]
    player.tells.connection_closed(connection(50001))
    await stack.pcf.until(lambda: sorted(stack.pcf.rules(policy_id)) == [rule(50000), rule(50002)])

    await ue.handler.stop(session)
    assert (stack.pcf.sessions, session.policy, player.filters) == ({}, None, [5_000_000, None])


@pytest.mark.clause("TS 26.512 A.3.2 step 7")
async def test_a_refused_policy_keeps_nobody_from_playing(stack: AfStack, ue: Ue):
    session_id = await provisioned(stack, policy=True)
    stack.pcf.refuse["CreateAppSession"] = NotFound("no PDU session", cause="PDU_SESSION_NOT_AVAILABLE")
    player = VirtualPlayer()
    session = await ue.handler.start(player, MPD, SessionOptions(session_id, "zero-rating"))
    assert player.log == ["filter None", f"fetch {MPD}"]
    assert session.policy_error is not None
    assert session.policy_error.cause == "PDU_SESSION_NOT_AVAILABLE"
    # The network may have changed its mind when the next connection opens.
    del stack.pcf.refuse["CreateAppSession"]
    await player.tells.connection_opened(connection(50001))
    assert (player.filters, session.policy_error) == ([None, 5_000_000], None)
    await ue.handler.stop(session)


async def test_a_policy_that_the_network_ended_is_activated_anew_for_the_next_connection(stack: AfStack, ue: Ue):
    session_id = await provisioned(stack, policy=True)
    player = VirtualPlayer()
    session = await ue.handler.start(player, MPD, SessionOptions(session_id, "zero-rating"))
    assert session.policy is not None
    first = session.policy.dynamic_policy_id
    await stack.pcf.tell(first, n5.AF_EVENT_PDU_SESSION_STATUS)
    await ue.until(lambda: ue.steps[-1].startswith("7  service descriptor filter: none"))
    assert player.filters == [5_000_000, None]
    await player.tells.connection_opened(connection(50001))
    assert session.policy is not None
    assert session.policy.dynamic_policy_id != first
    assert player.filters == [5_000_000, None, 5_000_000]
    await ue.handler.stop(session)


@pytest.mark.clause("TS 26.501 §5.6.3", "TS 26.501 §5.6.1 step 7", "TS 26.501 §5.6.1 step 8")
async def test_locations_reach_the_af_where_they_are_wanted_and_only_while_the_user_agrees(
    stack: AfStack, ue: Ue, clock: ManualClock
):
    session_id = await provisioned(stack, location_type=2)
    player = VirtualPlayer()
    ue.handler.locate(HERE)
    session = await ue.handler.start(player, MPD, SessionOptions(session_id, preferences=BOTH))
    player.tells.media_changed("video", "v1")
    clock.advance(timedelta(seconds=3))
    ue.handler.locate(THERE)
    await ue.reported(2)
    clock.advance(timedelta(seconds=2))
    session.set_preferences(Preferences(may_report=True, may_share_location=False))
    assert ue.step_numbers()[-2:] == ["7", "8"]
    clock.advance(timedelta(seconds=2))
    ue.handler.locate(HERE)
    await ue.handler.stop(session)
    found = [each.consumption_reporting_unit for each in await records(stack, session_id)]
    assert [([each.location for each in unit.locations], unit.duration_s) for unit in found] == [
        ([HERE.location], 3),
        # Told when the UE came there; how long it stayed may no longer be said with the place.
        ([THERE.location], 2),
        ([], 2),
    ]


@pytest.mark.clause("TS 26.501 §5.6.1 step 9")
async def test_a_configuration_that_changes_in_mid_session_is_in_force_when_what_is_known_has_aged(
    stack: AfStack, ue: Ue, clock: ManualClock
):
    session_id = await provisioned(stack, reporting_interval_s=1000)
    player = VirtualPlayer()
    session = await ue.handler.start(player, MPD, SessionOptions(session_id))
    player.tells.media_changed("video", "v1")
    await ue.reported(1)
    await stack.consumption.UpdateConsumptionReportingConfiguration(
        m1.UpdateConsumptionReportingConfigurationRequest(
            consumption_reporting_configuration=m1.ConsumptionReportingConfiguration(
                provisioning_session_id=session_id, reporting_interval_s=70
            )
        )
    )
    clock.advance(timedelta(seconds=60))
    await ue.until(lambda: ue.steps[-1] == "9  consumption reporting configuration: present")
    clock.advance(timedelta(seconds=10))
    await ue.reported(2)
    assert await consumed(stack, session_id) == [("v1", 0, 70)]
    await stack.consumption.DeleteConsumptionReportingConfiguration(
        m1.DeleteConsumptionReportingConfigurationRequest(provisioning_session_id=session_id)
    )
    clock.advance(timedelta(seconds=60))
    await ue.until(lambda: ue.steps[-1] == "9  consumption reporting configuration: absent")
    assert session.reporting is Reporting.SILENT
    await ue.handler.stop(session)
    assert ue.handler.outbox.counts.sent == 2


class TestWithoutTheAf:
    async def test_reports_wait_while_the_af_is_away_and_count_once(
        self, stack: AfStack, clock: ManualClock, tmp_path: Path
    ):
        session_id = await provisioned(stack)
        journal = tmp_path / "waiting.jsonl"
        first = Ue(stack, clock, outbox=Outbox(journal=Journal(journal)), final_report_wait_s=0.2)
        await first.handler.__aenter__()
        player = VirtualPlayer()
        session = await first.handler.start(player, MPD, SessionOptions(session_id))
        player.tells.media_changed("video", "v1")
        await first.reported(1)
        await stack.stop()
        clock.advance(timedelta(seconds=10))
        await first.until(lambda: any(each is not None for each in first.attempts))
        clock.advance(timedelta(seconds=5))
        await first.handler.stop(session)
        assert player.log[-1] == "stop"
        await first.handler.close()
        assert len(first.handler.outbox) == 2

        await stack.start()
        second = Ue(stack, clock, outbox=Outbox(journal=Journal(journal)))
        async with second.handler:
            await second.reported(2)
        assert await consumed(stack, session_id) == [("v1", 0, 15)]
        assert await report_count(stack, session_id) == 3

    async def test_a_session_starts_without_the_af_and_reports_when_it_is_there(
        self, stack: AfStack, clock: ManualClock
    ):
        session_id = await provisioned(stack, policy=True)
        address = stack.address
        await stack.stop()
        channels = Channels({"af": address}, deadline_s=0.3)
        ue = Ue(stack, clock)
        handler = MediaSessionHandler(
            GrpcM5(channels.get("af"), ue_address=UE), clock, client_id="client-1", narrate=ue.steps.append
        )
        player = VirtualPlayer()
        session = await handler.start(player, MPD, SessionOptions(session_id, "zero-rating"))
        assert player.log == ["filter None", f"fetch {MPD}"]
        assert isinstance(session.policy_error, CastcoreError)
        player.tells.media_changed("video", "v1")
        assert session.reporting is Reporting.SILENT
        await handler.close()
        await channels.close()
        await stack.start()


async def test_a_service_that_is_not_provisioned_is_an_error_and_nothing_plays(ue: Ue):
    player = VirtualPlayer()
    with pytest.raises(NotFound, match="'nothing'"):
        await ue.handler.start(player, MPD, SessionOptions("nothing"))
    assert (player.log, ue.handler.sessions) == ([], ())


async def test_a_player_that_cannot_start_leaves_nothing_behind(stack: AfStack, ue: Ue):
    session_id = await provisioned(stack, policy=True)
    player = VirtualPlayer(fails=True)
    with pytest.raises(Unavailable, match="the MPD is not there"):
        await ue.handler.start(player, MPD, SessionOptions(session_id, "zero-rating"))
    assert (ue.handler.sessions, stack.pcf.sessions) == ((), {})


@pytest.mark.parametrize("why", ["end", "failure"])
async def test_a_presentation_that_ends_by_itself_is_reported_at_once(
    stack: AfStack, ue: Ue, clock: ManualClock, why: str
):
    session_id = await provisioned(stack)
    player = VirtualPlayer()
    session = await ue.handler.start(player, MPD, SessionOptions(session_id))
    player.tells.media_changed("video", "v1")
    clock.advance(timedelta(seconds=3))
    if why == "end":
        player.tells.stopped()
    else:
        player.tells.failed(Unavailable("no more segments"))
    await session.ended()
    await ue.reported(2)
    assert await consumed(stack, session_id) == [("v1", 0, 3)]
    assert (session.player_error is not None) == (why == "failure")
    await ue.handler.stop(session)
    assert ue.handler.outbox.counts.sent == 2


async def test_several_sessions_of_one_handler_report_for_themselves(stack: AfStack, ue: Ue, clock: ManualClock):
    session_id = await provisioned(stack)
    sessions: list[MediaSession] = []
    for title in ("one", "two"):
        player = VirtualPlayer()
        sessions.append(
            await ue.handler.start(player, f"https://media.example.com/{title}", SessionOptions(session_id))
        )
        player.tells.media_changed("video", f"{title}-video")
    clock.advance(timedelta(seconds=4))
    await ue.handler.stop(sessions[0])
    clock.advance(timedelta(seconds=3))
    await ue.handler.close()
    assert sorted(await consumed(stack, session_id)) == [("one-video", 0, 4), ("two-video", 0, 7)]
    assert {each.reporting_client_id for each in await records(stack, session_id)} == {"client-1"}
