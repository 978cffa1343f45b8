"""How many consumption reports are stored durably in a second, in gRPC batches? Beside a server that parses them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import grpc
import pytest
from running_core import castcore

from benchmarks.conftest import Results, interquartile_range
from benchmarks.control.databases import DATABASES, state
from benchmarks.processes import serving
from nf.af.v1 import consumption_reporting_pb2 as messages
from nf.af.v1 import provisioning_pb2 as m1
from nf.af.v1.consumption_reporting_pb2_grpc import ConsumptionReportsServiceStub
from nf.af.v1.provisioning_pb2_grpc import ConsumptionReportingProvisioningServiceStub
from nf.client.provider import Provider
from nf.common.channels import Channels

pytestmark = pytest.mark.timeout(300)

FLOOR = Path(__file__).with_name("bare_reports.py")
METHOD = "/nf.af.v1.ConsumptionReportingService/ReportConsumptionBatch"
BATCH, BATCHES, AT_ONCE = 500, 20, 4
ROUNDS, WARM = 9, 2
MPD = "https://cdn.example.com/title/manifest.mpd"

Ask = Callable[[bytes], Awaitable[bytes]]


def cpu_s(process: subprocess.Popen[str]) -> float:
    """The processor time that a process has had."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def batches_of(provisioning_session_id: str, round_: int) -> list[bytes]:
    """Reports of a round, none of which there was before: 1,000 clients, each unit with its cell."""
    made = []
    for batch in range(BATCHES):
        request = messages.ReportConsumptionBatchRequest()
        for number in range(BATCH):
            serial = (round_ * BATCHES + batch) * BATCH + number
            report = messages.ConsumptionReport(
                media_player_entry=MPD,
                reporting_client_id=f"client-{serial % 1000:04}",
                location_type=2,
                location=f"262-01-{serial % 97:09X}",
            )
            unit = report.consumption_reporting_units.add(media_consumed=f"video-{serial % 5}", duration_s=10)
            unit.start_time.FromSeconds(1_790_000_000 + 10 * (serial // 1000))
            request.reports.add(provisioning_session_id=provisioning_session_id, consumption_report=report)
        made.append(request.SerializeToString())
    return made


async def timed(ask: Ask, batches: list[bytes]) -> float:
    """Seconds until all have been answered, some of them at once."""
    waiting = list(batches)

    async def work() -> None:
        while waiting:
            await ask(waiting.pop())

    begun = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return time.perf_counter() - begun


async def configured(channels: Channels) -> str:
    session = await Provider(channels.get("af")).provision_session("player", asp_id="asp")
    await ConsumptionReportingProvisioningServiceStub(channels.get("af")).CreateConsumptionReportingConfiguration(
        m1.CreateConsumptionReportingConfigurationRequest(
            provisioning_session_id=session.provisioning_session_id,
            consumption_reporting_configuration=m1.ConsumptionReportingConfiguration(location_type=2),
        )
    )
    return session.provisioning_session_id


@pytest.mark.parametrize("database", DATABASES)
async def test_reports_stored_durably_beside_reports_parsed(
    database: str, tmp_path: Path, results_of: Callable[..., Results]
) -> None:
    results = results_of(
        "reports",
        about="Consumption reports stored durably in gRPC batches, beside a server that parses them",
        parts=DATABASES,
    )
    with ExitStack() as running:
        configuration = tmp_path / "castcore.toml"
        # Nobody listens there: reports do not need a PCF.
        configuration.write_text(f'{running.enter_context(state(database))}[pcf]\ngrpc_address = "127.0.0.1:9"\n')
        words = ("run", "af", "--dir", str(tmp_path / "state"), "--config", str(configuration))
        process, ready = running.enter_context(castcore(*words))
        bare_address = running.enter_context(serving(FLOOR))
        channels = Channels(ready["grpc"])
        session_id = await configured(channels)
        seconds: dict[str, list[float]] = {"castcore": [], "parses only": []}
        async with (
            grpc.aio.insecure_channel(ready["grpc"]["af"]) as af,
            grpc.aio.insecure_channel(bare_address) as bare,
        ):
            for round_ in range(WARM + ROUNDS):
                if round_ == WARM:
                    before_s = cpu_s(process)
                batches = batches_of(session_id, round_)
                # In turn, so that whatever else the machine does befalls both.
                both = {
                    "parses only": await timed(bare.unary_unary(METHOD), batches),
                    "castcore": await timed(af.unary_unary(METHOD), batches),
                }
                if round_ >= WARM:
                    for subject, taken in both.items():
                        seconds[subject].append(taken)
        worked_s = cpu_s(process) - before_s
        counted = await ConsumptionReportsServiceStub(channels.get("af")).GetConsumptionStatistics(
            messages.GetConsumptionStatisticsRequest(provisioning_session_id=session_id)
        )
        await channels.close()
    reports = BATCH * BATCHES
    statistics = counted.consumption_statistics
    assert statistics.report_count == statistics.unit_count == (WARM + ROUNDS) * reports
    floor_s = median(seconds["parses only"])
    results.add(
        database,
        [
            {
                "subject": f"{subject}, {database}" if subject == "castcore" else subject,
                "what": f"{BATCH} in a batch, {AT_ONCE} batches at once",
                "measurements": len(taken),
                "reports_per_s": round(reports / median(taken)),
                "spread": round(interquartile_range(taken) / median(taken), 3),
                "times_the_floor": round(median(taken) / floor_s, 2),
                # What the process had of the processor: told of a machine that has other work, too.
                "cpu_us_per_report": round(worked_s / ROUNDS / reports * 1e6, 1) if subject == "castcore" else None,
            }
            for subject, taken in seconds.items()
        ],
    )
