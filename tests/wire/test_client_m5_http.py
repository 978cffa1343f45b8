"""M5 over HTTP against the doors of a real AF: what gRPC tells, told by HTTP/1.1 and by h2c (TS 26.512 §11)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from af_stack import UE, AfStack, rule
from virtual_player import VirtualPlayer, connection

from nf.af.v1 import media_session_pb2 as m5
from nf.af.v1 import provisioning_pb2 as m1
from nf.af.v1.consumption_reporting_pb2 import (
    CELL_IDENTIFIER_TYPE_NCGI,
    ConsumptionRecord,
    ConsumptionReport,
    ListConsumptionReportingUnitsRequest,
    TypedLocation,
)
from nf.af.v1.consumption_reporting_pb2_grpc import ConsumptionReportsServiceStub
from nf.client.dynamic_policy import DynamicPolicyHandler, Flow
from nf.client.m5_http import HttpM5
from nf.client.m7 import Preferences
from nf.client.media_session import SessionOptions
from nf.client.media_session_handler import MediaSessionHandler
from nf.client.provider import Provider
from nf.client.service_access import ServiceAccess
from nf.common.clock import ManualClock
from nf.common.codec import from_json
from nf.common.errors import InvalidArgument, NotFound, Unavailable

START = datetime(2026, 5, 1, tzinfo=UTC)
HERE = TypedLocation(location_identifier_type=CELL_IDENTIFIER_TYPE_NCGI, location="001-01-000000001")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
async def stack(tmp_path: Path, clock: ManualClock) -> AsyncIterator[AfStack]:
    async with AfStack(tmp_path, clock=clock) as started:
        yield started


@pytest.fixture(params=["HTTP/1.1", "h2c"])
async def http(request: pytest.FixtureRequest, stack: AfStack) -> AsyncIterator[HttpM5]:
    made = HttpM5(stack.http, ue_address=UE, http2=request.param == "h2c", watch_interval_s=0.01)
    yield made
    await made.close()


async def provisioned(stack: AfStack, **configuration: object) -> str:
    provider = Provider(stack.channel)
    session = await provider.provision_session(
        "app", asp_id="asp", entry_points=[m1.MediaEntryPoint(locator="https://m.test/1.mpd", content_type="a/b")]
    )
    session_id = session.provisioning_session_id
    content = {"reporting_interval_s": 10, **configuration}
    await provider.configure_consumption_reporting(session_id, m1.ConsumptionReportingConfiguration(**content))
    template = m1.PolicyTemplate(
        external_reference="zero-rating", qos_specification=m1.M1QosSpecification(max_btr_dl_bps=5_000_000)
    )
    await provider.ready(await provider.create_template(session_id, template))
    return session_id


async def records(stack: AfStack) -> list[ConsumptionRecord]:
    reports = ConsumptionReportsServiceStub(stack.channel)
    return list(
        (await reports.ListConsumptionReportingUnits(ListConsumptionReportingUnitsRequest())).consumption_records
    )


def report(name: str = "client-1") -> ConsumptionReport:
    unit = {"mediaConsumed": "v1", "startTime": "2026-05-01T00:00:00.123456Z", "duration": 7}
    return from_json(
        ConsumptionReport,
        {"mediaPlayerEntry": "https://m.test/1.mpd", "reportingClientId": name, "consumptionReportingUnits": [unit]},
    )


@pytest.mark.clause("TS 26.512 §11.2")
async def test_service_access_information_is_kept_by_the_cache_headers(
    stack: AfStack, http: HttpM5, clock: ManualClock
):
    session_id = await provisioned(stack)
    answer = await http.service_access_information(session_id)
    assert answer.information is not None
    assert (answer.max_age_s, answer.etag.startswith('"')) == (60.0, True)
    configuration = answer.information.client_consumption_reporting_configuration
    assert (configuration.reporting_interval_s, configuration.sample_percentage) == (10, 100.0)
    assert answer.information.streaming_access.entry_points[0].locator == "https://m.test/1.mpd"
    again = await http.service_access_information(session_id, etag=answer.etag)
    assert (again.information, again.etag, again.max_age_s) == (None, answer.etag, 60.0)

    access = ServiceAccess(http, clock)
    first = await access.get(session_id)
    clock.advance(timedelta(seconds=60))
    assert await access.get(session_id) is first
    with pytest.raises(NotFound, match="'nothing'"):
        await http.service_access_information("nothing")


@pytest.mark.clause("TS 26.512 §11.5", "TS 26.512 A.3.2 step 7")
async def test_a_dynamic_policy_is_activated_updated_watched_and_ended(
    stack: AfStack, http: HttpM5, clock: ManualClock
):
    session_id = await provisioned(stack)
    told: list[int | None] = []
    handler = DynamicPolicyHandler(
        http, clock, on_filter=lambda each: told.append(None if each is None else each.operating_bandwidth_max_bps)
    )
    policy = await handler.activate(session_id, "zero-rating", [Flow.of(connection(50000))])
    policy_id = policy.dynamic_policy_id
    assert (policy.enforcement_bit_rate_bps, told) == (5_000_000, [5_000_000])
    assert stack.pcf.rules(policy_id) == [rule(50000)]
    await handler.open_flow(Flow.of(connection(50001)))
    assert stack.pcf.rules(policy_id) == [rule(50000), rule(50001)]
    await handler.set_flows([])
    assert stack.pcf.rules(policy_id) == []
    watching = http.watch_dynamic_policy(policy_id)
    assert (await anext(watching)).dynamic_policy_id == policy_id
    await handler.deactivate()
    assert (stack.pcf.sessions, told) == ({}, [5_000_000, None])
    assert (await anext(watching)).state == m5.DynamicPolicy.STATE_TERMINATED
    with pytest.raises(NotFound):
        await http.get_dynamic_policy(policy_id)


@pytest.mark.clause("TS 26.512 §11.3")
async def test_a_report_is_taken_once_and_a_wrong_one_refused_by_its_property(stack: AfStack, http: HttpM5):
    session_id = await provisioned(stack)
    for _ in range(2):
        await http.report_consumption(session_id, report())
    (found,) = await records(stack)
    assert found.consumption_reporting_unit.duration_s == 7
    assert found.consumption_reporting_unit.start_time.ToNanoseconds() % 1_000_000_000 == 123_456_000
    wrong = report()
    wrong.consumption_reporting_units[0].media_consumed = ""
    with pytest.raises(InvalidArgument) as refused:
        await http.report_consumption(session_id, wrong)
    assert [each.field for each in refused.value.violations] == ["consumptionReportingUnits[0].mediaConsumed"]


async def test_reports_go_to_the_first_server_of_the_configuration_that_is_there(stack: AfStack, clock: ManualClock):
    session_id = await provisioned(stack)
    nobody = HttpM5("http://127.0.0.1:1", deadline_s=1.0, clock=clock)
    await nobody.report_consumption(session_id, report(), ["http://127.0.0.1:1", f"{stack.http}/3gpp-m5/v2/"])
    assert len(await records(stack)) == 1
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
        await nobody.report_consumption(session_id, report())
    await nobody.close()


async def test_a_whole_session_over_http(stack: AfStack, http: HttpM5, clock: ManualClock):
    session_id = await provisioned(stack)
    async with MediaSessionHandler(http, clock, client_id="client-1") as handler:
        player = VirtualPlayer()
        session = await handler.start(player, "https://m.test/1.mpd", SessionOptions(session_id, "zero-rating"))
        assert player.filters == [5_000_000]
        player.tells.media_changed("video", "v1")
        clock.advance(timedelta(seconds=5))
        await handler.stop(session)
    assert [each.consumption_reporting_unit.duration_s for each in await records(stack)] == [5]
    assert stack.pcf.sessions == {}


class TestDraft:
    async def test_reports_take_a_session_which_is_opened_anew_when_it_has_expired(
        self, stack: AfStack, clock: ManualClock
    ):
        session_id = await provisioned(stack, location_type=2)
        draft = HttpM5(stack.http, draft_asp_id="asp", clock=clock)
        async with MediaSessionHandler(draft, clock, client_id="client-1") as handler:
            handler.locate(HERE)
            player = VirtualPlayer()
            options = SessionOptions(session_id, preferences=Preferences(may_share_location=True))
            session = await handler.start(player, "https://m.test/1.mpd", options)
            player.tells.media_changed("video", "v1")
            assert await handler.flush()
            clock.advance(timedelta(days=30))
            assert await handler.flush()
            await handler.stop(session)
            assert (handler.outbox.counts.refused, handler.outbox.counts.sent >= 2) == (0, True)
        found = await records(stack)
        assert {each.consumption_reporting_unit.locations[0].location for each in found} == {"001-01-000000001"}
        assert found[0].session_id
        await draft.close()

    async def test_a_session_in_the_provisioning_session_of_another_is_not_opened(
        self, stack: AfStack, clock: ManualClock
    ):
        session_id = await provisioned(stack)
        draft = HttpM5(stack.http, draft_asp_id="stranger", clock=clock)
        with pytest.raises(NotFound):
            await draft.report_consumption(session_id, report())
        await draft.close()
