"""Metrics reporting over gRPC: configurations at M1, what clients are told, and the reports that they hand in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from af_stack import AfStack
from google.protobuf.field_mask_pb2 import FieldMask

from nf.af.config import AfSection
from nf.af.retention import Retention
from nf.af.v1 import media_session_pb2 as m5
from nf.af.v1 import metrics_reporting_pb2 as messages
from nf.af.v1 import provisioning_pb2 as m1
from nf.common.clock import ManualClock
from nf.common.errors import EtagMismatch, InvalidArgument, NotFound

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
QOE = "application/3gpdash-qoe-report+xml"
REPORT = b'<ReceptionReport contentURI="https://cdn.example.com/a.mpd"><QoeReport periodID="1"/></ReceptionReport>'


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[AfStack]:
    config = {"metrics_report_max_bytes": 1000}
    async with AfStack(tmp_path, clock=ManualClock(START), config=config) as started:
        yield started


async def configured(stack: AfStack, session_id: str, **content) -> messages.MetricsReportingConfiguration:
    answer = await stack.metrics_provisioning.CreateMetricsReportingConfiguration(
        messages.CreateMetricsReportingConfigurationRequest(
            provisioning_session_id=session_id,
            metrics_reporting_configuration=messages.MetricsReportingConfiguration(
                **{"sampling_period_s": 2, **content}
            ),
        )
    )
    return answer.metrics_reporting_configuration


async def send(
    stack: AfStack, configuration: messages.MetricsReportingConfiguration, report: bytes = REPORT, kind: str = QOE
) -> None:
    await stack.metrics_reporting.ReportMetrics(
        messages.ReportMetricsRequest(
            provisioning_session_id=configuration.provisioning_session_id,
            metrics_reporting_configuration_id=configuration.metrics_reporting_configuration_id,
            content_type=kind,
            report=report,
        )
    )


async def kept(stack: AfStack, **wanted) -> list[messages.MetricsReport]:
    answer = await stack.metrics_reports.ListMetricsReports(messages.ListMetricsReportsRequest(**wanted))
    return list(answer.metrics_reports)


async def announced(stack: AfStack, session_id: str) -> list[m5.ClientMetricsReportingConfiguration]:
    answer = await stack.access.GetServiceAccessInformation(
        m5.GetServiceAccessInformationRequest(provisioning_session_id=session_id)
    )
    return list(answer.service_access_information.client_metrics_reporting_configurations)


async def ids(stack: AfStack, session_id: str) -> list[str]:
    answer = await stack.sessions.GetProvisioningSession(
        m1.GetProvisioningSessionRequest(provisioning_session_id=session_id)
    )
    return list(answer.provisioning_session.metrics_reporting_configuration_ids)


@pytest.mark.clause("TS 26.512 §7.8", "TS 26.512 §11.2.3")
async def test_configurations_are_created_announced_changed_and_removed(stack: AfStack):
    session_id = (await stack.new_session()).provisioning_session_id
    assert await announced(stack, session_id) == []
    one = await configured(stack, session_id, metrics=["BufferLevel"], reporting_interval_s=30, sample_percentage=12.5)
    two = await configured(stack, session_id, scheme="urn:example:metrics", url_filters=["*.m4s"])
    names = [one.metrics_reporting_configuration_id, two.metrics_reporting_configuration_id]
    assert await ids(stack, session_id) == names

    first, second = await announced(stack, session_id)
    assert (first.scheme, first.reporting_interval_s, first.sample_percentage, list(first.metrics)) == (
        "urn:3GPP:ns:PSS:DASH:QM10",
        30,
        12.5,
        ["BufferLevel"],
    )
    assert (second.scheme, second.HasField("reporting_interval_s"), second.sample_percentage) == (
        "urn:example:metrics",
        False,
        100.0,
    )
    assert [each.metrics_reporting_configuration_id for each in (first, second)] == names
    assert list(second.url_filters) == ["*.m4s"]
    assert list(first.server_addresses) == [f"http://{stack.address}"]

    change = messages.UpdateMetricsReportingConfigurationRequest(
        metrics_reporting_configuration=messages.MetricsReportingConfiguration(
            provisioning_session_id=session_id, metrics_reporting_configuration_id=names[0], etag="stale"
        ),
        update_mask=FieldMask(paths=["metrics"]),
    )
    with pytest.raises(EtagMismatch):
        await stack.metrics_provisioning.UpdateMetricsReportingConfiguration(change)
    change.metrics_reporting_configuration.etag = one.etag
    await stack.metrics_provisioning.UpdateMetricsReportingConfiguration(change)
    got = await stack.metrics_provisioning.GetMetricsReportingConfiguration(
        messages.GetMetricsReportingConfigurationRequest(
            provisioning_session_id=session_id, metrics_reporting_configuration_id=names[0]
        )
    )
    changed = got.metrics_reporting_configuration
    assert (list(changed.metrics), changed.sampling_period_s) == ([], 2)

    await stack.metrics_provisioning.DeleteMetricsReportingConfiguration(
        messages.DeleteMetricsReportingConfigurationRequest(
            provisioning_session_id=session_id, metrics_reporting_configuration_id=names[0]
        )
    )
    assert await ids(stack, session_id) == names[1:]
    listed = await stack.metrics_provisioning.ListMetricsReportingConfigurations(
        messages.ListMetricsReportingConfigurationsRequest(provisioning_session_id=session_id)
    )
    assert list(listed.metrics_reporting_configurations) == [two]

    # A session takes what stands below it along.
    await stack.sessions.DeleteProvisioningSession(
        m1.DeleteProvisioningSessionRequest(provisioning_session_id=session_id)
    )
    with pytest.raises(NotFound):
        await send(stack, two)


@pytest.mark.parametrize(
    ("content", "field", "why"),
    [
        ({"sampling_period_s": None}, "sampling_period_s", "found nothing"),
        ({"sampling_period_s": 0}, "sampling_period_s", "at least 1 second, found 0"),
        ({"reporting_interval_s": 0}, "reporting_interval_s", "at least 1 second, found 0"),
        ({"sample_percentage": 100.5}, "sample_percentage", "0 to 100, found 100.5"),
        ({"scheme": "no uri"}, "scheme", "expected an absolute URI"),
        ({"metrics": ["a", ""]}, "metrics[1]", "found nothing"),
        ({"metrics": ["m" * 70_000]}, "metrics_reporting_configuration", "at most 65536 bytes"),
    ],
)
async def test_a_wrong_configuration_is_refused_by_its_property(
    stack: AfStack, content: dict[str, object], field: str, why: str
):
    session_id = (await stack.new_session()).provisioning_session_id
    with pytest.raises(InvalidArgument) as refused:
        await configured(stack, session_id, **content)
    assert [each.field for each in refused.value.violations] == [field]
    assert why in refused.value.violations[0].description
    assert await ids(stack, session_id) == []


@pytest.mark.clause("TS 26.512 §11.4")
async def test_a_report_is_kept_as_it_came_once_and_for_its_time(stack: AfStack):
    session_id = (await stack.new_session()).provisioning_session_id
    one, two = await configured(stack, session_id), await configured(stack, session_id)
    await send(stack, one)
    await send(stack, one)
    await send(stack, two, b'{"bufferLevel": [1, 2]}', "application/json")
    await send(stack, two, b"\x00\xff anything", "application/octet-stream; version=2")

    listed = await kept(stack, provisioning_session_id=session_id)
    assert [(each.content_type, each.report_bytes, each.report) for each in listed] == [
        (QOE, len(REPORT), b""),
        ("application/json", 23, b""),
        ("application/octet-stream; version=2", 11, b""),
    ]
    named = two.metrics_reporting_configuration_id
    assert await kept(stack, metrics_reporting_configuration_id=named) == listed[1:]
    got = await stack.metrics_reports.GetMetricsReport(
        messages.GetMetricsReportRequest(metrics_report_id=listed[0].metrics_report_id)
    )
    assert got.metrics_report.report == REPORT
    assert got.metrics_report.receive_time.ToDatetime(UTC) == START
    page = await stack.metrics_reports.ListMetricsReports(messages.ListMetricsReportsRequest(page_size=2))
    rest = messages.ListMetricsReportsRequest(page_size=2, page_token=page.next_page_token)
    assert list((await stack.metrics_reports.ListMetricsReports(rest)).metrics_reports) == listed[2:]

    assert isinstance(stack.clock, ManualClock)
    stack.clock.advance(timedelta(hours=2))
    await send(stack, one, REPORT + b"\n")
    await Retention(stack.store, AfSection(metrics_reports_kept_s=3600)).sweep()
    assert [each.report_bytes for each in await kept(stack)] == [len(REPORT) + 1]
    with pytest.raises(NotFound, match="MetricsReport"):
        await stack.metrics_reports.GetMetricsReport(
            messages.GetMetricsReportRequest(metrics_report_id=listed[0].metrics_report_id)
        )


@pytest.mark.parametrize(
    ("report", "kind", "why"),
    [
        (b"", QOE, "expected 1 to 1000 bytes, found nothing"),
        (b" " * 1001, "application/octet-stream", "expected 1 to 1000 bytes, found 1001 bytes"),
        (REPORT[:-1], QOE, "expected well-formed 3gpdash-qoe-report"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', QOE, "a document type declaration"),
        (b"{", "application/json", "expected well-formed json"),
        (REPORT, "text/xml", "expected application/"),
        (REPORT, "", "expected application/"),
    ],
)
async def test_what_is_no_report_is_refused(stack: AfStack, report: bytes, kind: str, why: str):
    configuration = await configured(stack, (await stack.new_session()).provisioning_session_id)
    with pytest.raises(InvalidArgument, match=why):
        await send(stack, configuration, report, kind)
    assert await kept(stack) == []


async def test_a_configuration_is_found_in_its_own_session_only(stack: AfStack):
    configuration = await configured(stack, (await stack.new_session()).provisioning_session_id)
    configuration.provisioning_session_id = (await stack.new_session()).provisioning_session_id
    with pytest.raises(NotFound, match="MetricsReportingConfiguration"):
        await send(stack, configuration)
