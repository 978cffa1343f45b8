"""``castcore reports`` beside a running AF."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from running_core import castcore as running

from nf.af.v1 import consumption_reporting_pb2 as messages
from nf.af.v1 import provisioning_pb2 as m1
from nf.af.v1.consumption_reporting_pb2_grpc import ConsumptionReportingServiceStub
from nf.af.v1.provisioning_pb2_grpc import ConsumptionReportingProvisioningServiceStub
from nf.cli.main import main
from nf.client.provider import Provider
from nf.common.channels import Channels

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The state directory of an AF that two clients have reported to."""
    directory = tmp_path_factory.mktemp("af")
    # Nobody listens there: reports do not need a PCF.
    (directory / "castcore.toml").write_text('[pcf]\ngrpc_address = "127.0.0.1:9"\n')
    with running("run", "af", "--dir", str(directory), "--config", str(directory / "castcore.toml")) as (_, ready):
        asyncio.run(report(ready["grpc"]))
        (directory / "af").write_text(ready["grpc"]["af"])
        yield directory


async def report(grpc: dict[str, str]) -> None:
    channels = Channels(grpc)
    session = await Provider(channels.get("af")).provision_session("player", asp_id="asp")
    session_id = session.provisioning_session_id
    await ConsumptionReportingProvisioningServiceStub(channels.get("af")).CreateConsumptionReportingConfiguration(
        m1.CreateConsumptionReportingConfigurationRequest(
            provisioning_session_id=session_id,
            consumption_reporting_configuration=m1.ConsumptionReportingConfiguration(location_type=2),
        )
    )
    batch = messages.ReportConsumptionBatchRequest()
    for client in range(2):
        told = messages.ConsumptionReport(
            media_player_entry="https://cdn.example.com/a.mpd",
            reporting_client_id=f"client-{client}",
            location_type=2,
            location=f"262-01-00000000{client}",
        )
        for number in range(2):
            unit = told.consumption_reporting_units.add(media_consumed=f"video-{number}", duration_s=90)
            unit.start_time.FromDatetime(START + timedelta(seconds=90 * number))
        batch.reports.add(provisioning_session_id=session_id, consumption_report=told)
    await ConsumptionReportingServiceStub(channels.get("af")).ReportConsumptionBatch(batch)
    await channels.close()


def reports(lab: Path, *arguments: str | Path) -> tuple[int, str, str]:
    """The command, in this process: how it ended, and what it told."""
    buffer, errors = io.BytesIO(), io.StringIO()
    told = io.TextIOWrapper(buffer, encoding="utf-8", write_through=True)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(told), redirect_stderr(errors):
        where = f"af={(lab / 'af').read_text()}"
        patch.setattr(sys, "argv", ["castcore", "reports", *map(str, arguments), "--grpc", where])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
    return code, buffer.getvalue().decode(), errors.getvalue()


def test_what_was_consumed_is_listed_for_eyes_and_for_scripts(lab: Path):
    code, table, _ = reports(lab, "list", "--client", "client-1")
    assert code == 0
    assert table.count("client-1") == 2
    assert "client-0" not in table
    assert "262-01-000000001" in table

    _, text, _ = reports(lab, "list", "--media", "video-1", "--from", "2026-03-01T12:01:00Z", "--json")
    found = [json.loads(line) for line in text.splitlines()]
    assert [each["reportingClientId"] for each in found] == ["client-0", "client-1"]
    assert found[0]["consumptionReportingUnit"]["duration"] == 90
    _, text, _ = reports(lab, "list", "--limit", "3", "--json")
    assert len(text.splitlines()) == 3
    assert reports(lab, "list", "--area", "262-02") == (0, "", "no consumption\n")


def test_what_was_consumed_is_counted_and_drawn(lab: Path, tmp_path: Path):
    pytest.importorskip("matplotlib")
    plot = tmp_path / "consumption.svg"
    code, text, errors = reports(lab, "aggregate", "--bucket", "60", "--json", "--plot", plot)
    assert (code, errors) == (0, "")
    found = [json.loads(line) for line in text.splitlines()]
    assert [(each["mediaConsumed"], each["clientCount"], each["consumedSeconds"]) for each in found] == [
        ("video-0", 2, 120),
        ("video-0", 2, 60),
        ("video-1", 2, 60),
        ("video-1", 2, 120),
    ]
    assert plot.read_bytes().startswith(b"<?xml")
    _, table, _ = reports(lab, "aggregate", "--by-area", "--area", "262-01-000000001")
    assert "262-01-000000001" in table
    assert "262-01-000000000" not in table


def test_what_was_consumed_is_written_to_files(lab: Path, tmp_path: Path):
    _, text, _ = reports(lab, "export")
    assert [row["mediaConsumed"] for row in csv.DictReader(io.StringIO(text))] == ["video-0", "video-1"] * 2
    lines, table = tmp_path / "consumption.jsonl", tmp_path / "consumption.parquet"
    assert reports(lab, "export", "-o", lines, "--client", "client-0") == (0, "", "")
    assert [json.loads(line)["duration"] for line in lines.read_text().splitlines()] == [90, 90]
    parquet = pytest.importorskip("pyarrow.parquet")
    assert reports(lab, "export", "-o", table) == (0, "", "")
    assert parquet.read_table(table).num_rows == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["consumption.jsonl", "consumption.parquet"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("list", "--from", "yesterday"), "expected a time such as"),
        (("list", "--area", "lisbon"), "expected a cell or its first parts"),
        (("export", "--format", "xlsx"), "expected csv, jsonl or parquet"),
        (("export", "-o", "/nowhere/at/all.csv"), "No such file or directory"),
        (("aggregate", "--plot", "plot.gif"), "expected a name that ends in .png"),
        (("list", "--from", "2026-03-02", "--to", "2026-03-01"), "expected a time after start_time"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(lab: Path, arguments: tuple[str, ...], why: str):
    code, text, errors = reports(lab, *arguments)
    assert (code != 0, text) == (True, "")
    assert why in " ".join(errors.split())
