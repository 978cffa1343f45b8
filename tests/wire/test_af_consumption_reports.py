"""Consumption reports over gRPC: sessions, reports, what is kept of them and what is read back."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from af_stack import AfStack

from nf.af.config import AfSection, ProviderSection
from nf.af.retention import Retention
from nf.af.v1 import consumption_reporting_pb2 as messages
from nf.af.v1 import provisioning_pb2 as m1
from nf.common.clock import ManualClock
from nf.common.errors import (
    CastcoreError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
MPD = "https://cdn.example.com/title/manifest.mpd"
CELL = "262-01-00000000A"


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[AfStack]:
    config = {"consumption_session_idle_s": 600}
    async with AfStack(tmp_path, clock=ManualClock(START), config=config) as started:
        yield started


async def configured(stack: AfStack, asp_id: str = "asp", **configuration) -> str:
    """A provisioning session with a consumption reporting configuration."""
    session_id = (await stack.new_session(asp_id=asp_id)).provisioning_session_id
    await stack.consumption.CreateConsumptionReportingConfiguration(
        m1.CreateConsumptionReportingConfigurationRequest(
            provisioning_session_id=session_id,
            consumption_reporting_configuration=m1.ConsumptionReportingConfiguration(**configuration),
        )
    )
    return session_id


async def opened(stack: AfStack, asp_id: str = "asp", chosen: str = "") -> messages.ConsumptionReportingSession:
    answer = await stack.reporting.CreateConsumptionReportingSession(
        messages.CreateConsumptionReportingSessionRequest(asp_id=asp_id, provisioning_session_id=chosen)
    )
    return answer.consumption_reporting_session


def unit(
    media: str = "video-1", after_s: float = 0.0, duration_s: int = 10, **more
) -> messages.ConsumptionReportingUnit:
    made = messages.ConsumptionReportingUnit(media_consumed=media, duration_s=duration_s, **more)
    made.start_time.FromDatetime(START + timedelta(seconds=after_s))
    return made


def report_of(
    *units: messages.ConsumptionReportingUnit, client: str = "client-1", **more
) -> messages.ConsumptionReport:
    return messages.ConsumptionReport(
        media_player_entry=MPD, reporting_client_id=client, consumption_reporting_units=units, **more
    )


async def send(stack: AfStack, session_id: str, *reports: messages.ConsumptionReport) -> None:
    for report in reports:
        await stack.reporting.ReportConsumption(
            messages.ReportConsumptionRequest(provisioning_session_id=session_id, consumption_report=report)
        )


async def records(stack: AfStack, **wanted) -> list[messages.ConsumptionRecord]:
    answer = await stack.reports.ListConsumptionReportingUnits(
        messages.ListConsumptionReportingUnitsRequest(filter=messages.ConsumptionFilter(**wanted))
    )
    return list(answer.consumption_records)


async def counted(stack: AfStack, session_id: str) -> messages.ConsumptionStatistics:
    request = messages.GetConsumptionStatisticsRequest(provisioning_session_id=session_id)
    return (await stack.reports.GetConsumptionStatistics(request)).consumption_statistics


async def acquired(
    stack: AfStack, session: messages.ConsumptionReportingSession
) -> m1.ConsumptionReportingConfiguration:
    answer = await stack.reporting.AcquireConsumptionReportingConfiguration(
        messages.AcquireConsumptionReportingConfigurationRequest(asp_id=session.asp_id, session_id=session.session_id)
    )
    return answer.consumption_reporting_configuration


@pytest.mark.clause("TS 26.501 §5.6.1 step 12", "TS 26.512 §11.3.3")
async def test_a_report_is_kept_with_all_that_was_asked_for(stack: AfStack):
    session_id = await configured(stack, location_type=2, access_reporting=True)
    told = unit(
        client_endpoint_address=messages.EndpointAddress(ipv4_addr="10.45.0.2", port_number=50000),
        server_endpoint_address=messages.EndpointAddress(hostname="cdn.example.com", port_number=443),
        locations=[
            messages.TypedLocation(location_identifier_type=messages.CELL_IDENTIFIER_TYPE_NCGI, location="262:01:b")
        ],
    )
    await send(stack, session_id, report_of(told, location_type=2, location="26201" + "00000000A"))

    (kept,) = await records(stack, provisioning_session_id=session_id)
    assert (kept.media_player_entry, kept.reporting_client_id) == (MPD, "client-1")
    assert kept.receive_time.ToDatetime(UTC) == START
    cells = [each.location for each in kept.consumption_reporting_unit.locations]
    assert cells == [CELL, "262-01-00000000B"]
    told.ClearField("locations")
    kept.consumption_reporting_unit.ClearField("locations")
    assert kept.consumption_reporting_unit == told


@pytest.mark.clause("TS 26.512 §11.3.2")
async def test_a_report_needs_a_provisioning_session_with_a_configuration(stack: AfStack):
    bare = (await stack.new_session()).provisioning_session_id
    with pytest.raises(NotFound, match="no consumption reporting configuration"):
        await send(stack, bare, report_of(unit()))
    with pytest.raises(NotFound, match="ProvisioningSession 'nowhere'"):
        await send(stack, "nowhere", report_of(unit()))
    with pytest.raises(InvalidArgument, match="either a provisioning session"):
        await stack.reporting.ReportConsumption(messages.ReportConsumptionRequest(consumption_report=report_of(unit())))
    assert await records(stack) == []


@pytest.mark.clause("TS 26.501 §5.6.3")
async def test_a_repeated_report_counts_once_and_the_longer_duration_wins(stack: AfStack):
    session_id = await configured(stack)
    first, longer = report_of(unit(duration_s=10)), report_of(unit(duration_s=25))
    await send(stack, session_id, first, first, longer, first)
    (kept,) = await records(stack)
    assert kept.consumption_reporting_unit.duration_s == 25
    statistics = await counted(stack, session_id)
    assert (statistics.report_count, statistics.unit_count, statistics.client_count) == (2, 1, 1)

    # Another client, another medium, another start: other units.
    await send(
        stack, session_id, report_of(unit(), client="client-2"), report_of(unit("video-2")), report_of(unit(after_s=1))
    )
    assert (await counted(stack, session_id)).unit_count == 4


async def test_the_same_report_in_two_sessions_is_two_reports_of_one_unit(stack: AfStack):
    session_id = await configured(stack)
    for session in (await opened(stack), await opened(stack)):
        for _ in range(2):
            await stack.reporting.ReportConsumption(
                messages.ReportConsumptionRequest(
                    asp_id="asp", session_id=session.session_id, consumption_report=report_of(unit())
                )
            )
    statistics = await counted(stack, session_id)
    assert (statistics.report_count, statistics.unit_count) == (2, 1)


async def test_a_batch_is_kept_whole_or_not_at_all(stack: AfStack):
    session_id = await configured(stack)
    good = messages.ReportConsumptionRequest(
        provisioning_session_id=session_id, consumption_report=report_of(unit(after_s=1), unit(after_s=1, duration_s=4))
    )
    wrong = messages.ReportConsumptionRequest(provisioning_session_id=session_id, consumption_report=report_of())
    nowhere = messages.ReportConsumptionRequest(
        asp_id="asp", session_id="ended", consumption_report=report_of(unit(after_s=2))
    )
    with pytest.raises(InvalidArgument) as refused:
        await stack.reporting.ReportConsumptionBatch(messages.ReportConsumptionBatchRequest(reports=[good, wrong]))
    assert [each.field for each in refused.value.violations] == ["reports[1].consumption_reporting_units"]
    with pytest.raises(NotFound, match="'ended'"):
        await stack.reporting.ReportConsumptionBatch(messages.ReportConsumptionBatchRequest(reports=[good, nowhere]))
    assert await records(stack) == []
    await stack.reporting.ReportConsumptionBatch(messages.ReportConsumptionBatchRequest(reports=[good, good]))
    (kept,) = await records(stack)
    assert kept.consumption_reporting_unit.duration_s == 10
    assert (await counted(stack, session_id)).report_count == 1


@pytest.mark.clause("TS 26.501 §5.6.2")
@pytest.mark.parametrize(
    ("configuration", "kept_types"),
    [
        ({}, []),
        ({"location_reporting": False}, []),
        ({"location_reporting": True}, [1, 3]),
        ({"location_type": 0}, [1]),
        ({"location_type": 2}, [3]),
    ],
)
async def test_a_location_that_was_not_asked_for_is_never_stored_and_counted(
    stack: AfStack, configuration: dict[str, object], kept_types: list[int]
):
    session_id = await configured(stack, **configuration)
    ncgi = messages.TypedLocation(location_identifier_type=messages.CELL_IDENTIFIER_TYPE_NCGI, location=CELL)
    endpoint = messages.EndpointAddress(ipv4_addr="10.45.0.2", port_number=1)
    told = unit(locations=[ncgi], client_endpoint_address=endpoint)
    await send(stack, session_id, report_of(told, location_type=0, location="262-01-2A3B-1"))
    (kept,) = await records(stack)
    found = [each.location_identifier_type for each in kept.consumption_reporting_unit.locations]
    assert found == kept_types
    assert not kept.consumption_reporting_unit.HasField("client_endpoint_address")
    statistics = await counted(stack, session_id)
    assert statistics.unsolicited_location_count == 2 - len(kept_types)
    assert statistics.unsolicited_endpoint_count == 1


@pytest.mark.clause("TS 26.512 CR consumption reporting APIs §5.4.3.2")
async def test_every_create_opens_a_session_on_the_providers_provisioning_session(stack: AfStack):
    with pytest.raises(NotFound, match="'asp' has no provisioning session"):
        await opened(stack)
    await stack.new_session()
    with pytest.raises(NotFound, match="'asp' has no provisioning session"):
        await opened(stack)

    session_id = await configured(stack, sample_percentage=50.0)
    one, two = await opened(stack), await opened(stack)
    assert one.session_id != two.session_id
    assert {one.provisioning_session_id, two.provisioning_session_id} == {session_id}
    assert one.expire_time.ToDatetime(UTC) == START + timedelta(seconds=600)

    other_id = await configured(stack, reporting_interval_s=600)
    with pytest.raises(FailedPrecondition, match="2 provisioning sessions") as refused:
        await opened(stack)
    assert refused.value.reason == "PROVISIONING_SESSION_AMBIGUOUS"
    chosen = await opened(stack, chosen=other_id)
    assert chosen.provisioning_session_id == other_id
    # It lives for three intervals at least.
    assert chosen.expire_time.ToDatetime(UTC) == START + timedelta(seconds=1800)
    for asp_id, wrong in (("other", session_id), ("asp", "nowhere")):
        with pytest.raises(NotFound):
            await opened(stack, asp_id, wrong)

    listed = await stack.reports.ListConsumptionReportingSessions(
        messages.ListConsumptionReportingSessionsRequest(page_size=2)
    )
    assert list(listed.consumption_reporting_sessions) == [one, two]
    rest = await stack.reports.ListConsumptionReportingSessions(
        messages.ListConsumptionReportingSessionsRequest(page_size=2, page_token=listed.next_page_token)
    )
    assert (list(rest.consumption_reporting_sessions), rest.next_page_token) == ([chosen], "")


@pytest.mark.clause("TS 26.512 CR consumption reporting APIs §5.4.3.3", "TS 26.501 §5.6.1 step 9")
async def test_acquire_tells_the_effective_values_and_every_change_of_them(stack: AfStack):
    session_id = await configured(stack)
    session = await opened(stack)
    got = await acquired(stack, session)
    assert (got.reporting_interval_s, got.sample_percentage, got.location_reporting, got.HasField("location_type")) == (
        60,
        100.0,
        False,
        False,
    )
    assert list(got.consumption_reporting_server_address) == [f"{stack.http}/3gpp-m5/v2/"]
    await stack.consumption.UpdateConsumptionReportingConfiguration(
        m1.UpdateConsumptionReportingConfigurationRequest(
            consumption_reporting_configuration=m1.ConsumptionReportingConfiguration(
                provisioning_session_id=session_id, reporting_interval_s=5, location_type=1
            )
        )
    )
    got = await acquired(stack, session)
    assert (got.reporting_interval_s, got.location_reporting, got.location_type) == (5, True, 1)
    with pytest.raises(NotFound, match="'other' has no consumption reporting session"):
        await acquired(stack, messages.ConsumptionReportingSession(asp_id="other", session_id=session.session_id))


async def report_in(stack: AfStack, session: messages.ConsumptionReportingSession, after_s: float = 0.0) -> None:
    await stack.reporting.ReportConsumption(
        messages.ReportConsumptionRequest(
            asp_id=session.asp_id, session_id=session.session_id, consumption_report=report_of(unit(after_s=after_s))
        )
    )


async def test_a_session_that_is_used_lives_and_an_idle_one_expires(stack: AfStack):
    await configured(stack)
    used, asked, idle = [await opened(stack) for _ in range(3)]
    assert isinstance(stack.clock, ManualClock)
    stack.clock.advance(timedelta(seconds=400))
    await report_in(stack, used)
    await acquired(stack, asked)
    stack.clock.advance(timedelta(seconds=400))
    await report_in(stack, used, 1)
    await report_in(stack, asked, 2)
    with pytest.raises(NotFound, match="it has expired"):
        await report_in(stack, idle)
    with pytest.raises(NotFound, match="it has expired"):
        await acquired(stack, idle)
    assert [each.session_id for each in await records(stack)] == [used.session_id, used.session_id, asked.session_id]


@pytest.mark.clause("TS 26.512 CR consumption reporting APIs §4.2.5.5")
async def test_with_the_configuration_its_sessions_end_and_what_was_reported_stays(stack: AfStack):
    session_id = await configured(stack)
    session = await opened(stack)
    await report_in(stack, session)
    await stack.consumption.DeleteConsumptionReportingConfiguration(
        m1.DeleteConsumptionReportingConfigurationRequest(provisioning_session_id=session_id)
    )
    with pytest.raises(NotFound):
        await report_in(stack, session, 1)
    with pytest.raises(NotFound):
        await acquired(stack, session)
    # Nor does the session come back with another configuration.
    await stack.consumption.CreateConsumptionReportingConfiguration(
        m1.CreateConsumptionReportingConfigurationRequest(provisioning_session_id=session_id)
    )
    with pytest.raises(NotFound):
        await report_in(stack, session, 1)
    assert [each.session_id for each in await records(stack)] == [session.session_id]


async def test_what_has_been_kept_long_enough_goes(stack: AfStack):
    session_id = await configured(stack, location_reporting=True)
    assert isinstance(stack.clock, ManualClock)
    await send(stack, session_id, report_of(unit(), location_type=2, location=CELL))
    stack.clock.advance(timedelta(hours=20))
    await send(stack, session_id, report_of(unit(after_s=72_000)))
    stack.clock.advance(timedelta(hours=5))
    await Retention(stack.store, AfSection(consumption_reports_kept_s=86_400)).sweep()
    (kept,) = await records(stack)
    assert kept.consumption_reporting_unit == unit(after_s=72_000)
    statistics = await counted(stack, session_id)
    assert (statistics.report_count, statistics.unit_count) == (1, 1)
    assert await records(stack, area=CELL) == []


async def history(stack: AfStack) -> str:
    """Three clients, two media, two cells."""
    session_id = await configured(stack, location_reporting=True)
    cells = {"client-1": CELL, "client-2": CELL, "client-3": "262-01-00000000B"}
    for number, (client, cell) in enumerate(cells.items()):
        told = [unit("video-1", 30 * number, 60), unit("audio-1", 0.5, 20 + number)]
        await send(stack, session_id, report_of(*told, client=client, location_type=2, location=cell))
    return session_id


async def test_records_are_found_by_session_client_medium_time_and_area(stack: AfStack):
    session_id = await history(stack)
    await send(stack, await configured(stack, "other"), report_of(unit("elsewhere", 10_000)))
    everything = await records(stack)
    assert len(everything) == 7

    async def media(**wanted) -> list[str]:
        return [
            f"{each.reporting_client_id[-1]}{each.consumption_reporting_unit.media_consumed[0]}"
            for each in await records(stack, **wanted)
        ]

    assert await media(provisioning_session_id=session_id) == ["1v", "1a", "2v", "2a", "3v", "3a"]
    assert await media(reporting_client_id="client-2") == ["2v", "2a"]
    assert await media(media_consumed="audio-1") == ["1a", "2a", "3a"]
    assert await media(media_player_entry="https://elsewhere.example.com/") == []
    assert await media(area=CELL) == ["1v", "1a", "2v", "2a"]
    assert len(await media(area="262-01")) == 6
    assert await media(area="262-02") == []
    bounds = messages.ConsumptionFilter()
    bounds.start_time.FromDatetime(START + timedelta(seconds=90))
    bounds.end_time.FromDatetime(START + timedelta(seconds=9_000))
    assert await media(start_time=bounds.start_time, end_time=bounds.end_time) == ["3v"]
    with pytest.raises(InvalidArgument, match="expected a time after start_time"):
        await records(stack, start_time=bounds.start_time, end_time=bounds.start_time)
    with pytest.raises(InvalidArgument, match="expected a cell or its first parts"):
        await records(stack, area="262_01")

    paged: list[messages.ConsumptionRecord] = []
    token = ""
    while True:
        request = messages.ListConsumptionReportingUnitsRequest(page_size=3, page_token=token)
        answer = await stack.reports.ListConsumptionReportingUnits(request)
        paged += answer.consumption_records
        token = answer.next_page_token
        if not token:
            break
    assert paged == everything


async def aggregated(
    stack: AfStack, bucket_s: int = 0, by_area: bool = False, **wanted
) -> list[tuple[float, str, str, int, float]]:
    request = messages.AggregateConsumptionRequest(
        filter=messages.ConsumptionFilter(**wanted), bucket_s=bucket_s, by_area=by_area
    )
    answer = await stack.reports.AggregateConsumption(request)
    assert all(each.consumed_s == each.consumed_ns / 1e9 for each in answer.consumption_aggregates)
    return [
        (
            (each.start_time.ToDatetime(UTC) - START).total_seconds(),
            each.media_consumed,
            each.area,
            each.client_count,
            each.consumed_s,
        )
        for each in answer.consumption_aggregates
    ]


async def test_aggregates_count_clients_and_split_time_over_periods_exactly(stack: AfStack):
    await history(stack)
    assert await aggregated(stack) == [(0.0, "audio-1", "", 3, 63.0), (0.0, "video-1", "", 3, 180.0)]
    assert await aggregated(stack, 60) == [
        (0.0, "audio-1", "", 3, 63.0),
        (0.0, "video-1", "", 2, 90.0),
        (60.0, "video-1", "", 2, 90.0),
    ]
    assert await aggregated(stack, 10, media_consumed="audio-1") == [
        (0.5, "audio-1", "", 3, 28.5),
        (10.0, "audio-1", "", 3, 30.0),
        (20.0, "audio-1", "", 3, 4.5),
    ]
    assert await aggregated(stack, 0, True, media_consumed="video-1") == [
        (0.0, "video-1", CELL, 2, 120.0),
        (0.0, "video-1", "262-01-00000000B", 1, 60.0),
    ]
    bounds = messages.ConsumptionFilter()
    bounds.start_time.FromDatetime(START + timedelta(seconds=45))
    bounds.end_time.FromDatetime(START + timedelta(seconds=75))
    assert await aggregated(stack, 60, start_time=bounds.start_time, end_time=bounds.end_time) == [
        (45.0, "video-1", "", 2, 30.0),
        (60.0, "video-1", "", 2, 30.0),
    ]
    assert await aggregated(stack, 60, media_consumed="nothing") == []
    bounds.start_time.FromDatetime(START - timedelta(days=1))
    with pytest.raises(InvalidArgument, match="at most 10000 periods"):
        await aggregated(stack, 1, start_time=bounds.start_time)


async def test_a_client_that_has_only_begun_counts_without_time(stack: AfStack):
    session_id = await configured(stack)
    await send(stack, session_id, report_of(unit(after_s=59.5, duration_s=0)), report_of(unit("video-2", 60, 0)))
    assert await aggregated(stack, 60) == [(59.5, "video-1", "", 1, 0.0), (60.0, "video-2", "", 1, 0.0)]


async def exported(stack: AfStack, form: messages.ExportFormat.ValueType, **wanted) -> bytes:
    request = messages.ExportConsumptionRequest(filter=messages.ConsumptionFilter(**wanted), format=form)
    return b"".join([answer.chunk async for answer in stack.reports.ExportConsumption(request)])


async def test_records_are_exported_as_csv_json_lines_and_parquet(stack: AfStack):
    await history(stack)
    table = list(csv.DictReader(io.StringIO((await exported(stack, messages.EXPORT_FORMAT_CSV)).decode())))
    assert len(table) == 6
    assert table[1]["locations"] == f"NCGI:{CELL}"
    assert (table[1]["mediaConsumed"], table[1]["startTime"], table[1]["duration"]) == (
        "audio-1",
        "2026-03-01T12:00:00.500Z",
        "20",
    )

    text = (await exported(stack, messages.EXPORT_FORMAT_JSON_LINES, reporting_client_id="client-3")).decode()
    objects = [json.loads(line) for line in text.splitlines()]
    assert [(each["mediaConsumed"], each["duration"]) for each in objects] == [("video-1", 60), ("audio-1", 22)]
    assert objects[0]["locations"] == [{"locationIdentifierType": "NCGI", "location": "262-01-00000000B"}]

    parquet = pytest.importorskip("pyarrow.parquet")
    read = parquet.read_table(io.BytesIO(await exported(stack, messages.EXPORT_FORMAT_PARQUET))).to_pylist()
    assert [each["duration"] for each in read] == [60, 20, 60, 21, 60, 22]
    assert read[0]["startTime"] == START
    assert read[5]["locations"] == [{"locationIdentifierType": "NCGI", "location": "262-01-00000000B"}]

    assert await exported(stack, messages.EXPORT_FORMAT_JSON_LINES, area="262-09") == b""
    with pytest.raises(CastcoreError, match="expected CSV, JSON_LINES or PARQUET"):
        await exported(stack, messages.EXPORT_FORMAT_UNSPECIFIED)


async def test_a_provider_reads_what_is_reported_to_its_own_sessions(tmp_path: Path):
    tokens = {"asp": "asp-0123456789abcdef", "other": "other-0123456789abcdef", "net": "net-0123456789abcdef"}
    providers = tuple(
        ProviderSection(asp_id=asp_id, token=token, operator=asp_id == "net") for asp_id, token in tokens.items()
    )
    shown = {asp_id: (("authorization", f"Bearer {token}"),) for asp_id, token in tokens.items()}
    async with AfStack(tmp_path, config={"providers": providers}) as stack:
        created = await stack.sessions.CreateProvisioningSession(
            m1.CreateProvisioningSessionRequest(
                provisioning_session=m1.ProvisioningSession(
                    provisioning_session_type=m1.PROVISIONING_SESSION_TYPE_DOWNLINK, app_id="app"
                )
            ),
            metadata=shown["asp"],
        )
        session_id = created.provisioning_session.provisioning_session_id
        await stack.consumption.CreateConsumptionReportingConfiguration(
            m1.CreateConsumptionReportingConfigurationRequest(provisioning_session_id=session_id), metadata=shown["asp"]
        )
        # M5 is open to UEs.
        await send(stack, session_id, report_of(unit()))
        own, everything = messages.ConsumptionFilter(provisioning_session_id=session_id), messages.ConsumptionFilter()
        for who, wanted, outcome in (
            ("asp", own, 1),
            ("net", own, 1),
            ("net", everything, 1),
            ("other", own, NotFound),
            ("asp", everything, PermissionDenied),
            ("", own, Unauthenticated),
        ):
            metadata = shown.get(who, ())
            listing = messages.ListConsumptionReportingUnitsRequest(filter=wanted)
            aggregating = messages.AggregateConsumptionRequest(filter=wanted)
            exporting = messages.ExportConsumptionRequest(filter=wanted, format=messages.EXPORT_FORMAT_JSON_LINES)
            exported = stack.reports.ExportConsumption(exporting, metadata=metadata)
            if isinstance(outcome, int):
                listed = await stack.reports.ListConsumptionReportingUnits(listing, metadata=metadata)
                aggregated = await stack.reports.AggregateConsumption(aggregating, metadata=metadata)
                lines = b"".join([answer.chunk async for answer in exported]).splitlines()
                assert len(listed.consumption_records) == len(aggregated.consumption_aggregates) == outcome
                assert len(lines) == outcome
                continue
            with pytest.raises(outcome):
                await stack.reports.ListConsumptionReportingUnits(listing, metadata=metadata)
            with pytest.raises(outcome):
                await stack.reports.AggregateConsumption(aggregating, metadata=metadata)
            with pytest.raises(outcome):
                _ = [answer async for answer in exported]
