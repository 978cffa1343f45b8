"""A thousand clients report while the AF is killed three times: what it acknowledged is there, and once."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from running_core import castcore

from nf.af.v1 import consumption_reporting_pb2 as messages
from nf.af.v1 import provisioning_pb2 as m1
from nf.af.v1.consumption_reporting_pb2_grpc import ConsumptionReportingServiceStub, ConsumptionReportsServiceStub
from nf.af.v1.provisioning_pb2_grpc import ConsumptionReportingProvisioningServiceStub
from nf.client.provider import Provider
from nf.common.channels import Channels
from nf.common.errors import CastcoreError

CLIENTS, REPORTS, KILLS = 1000, 2, 3
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
MPD = "https://cdn.example.com/title/manifest.mpd"
# (client, which of its reports): what tells its one unit from all others.
Told = tuple[str, int]
Send = Callable[[str, int], Awaitable[None]]


@dataclass
class Outcomes:
    """What the clients know: what they have sent, and what has been acknowledged."""

    sent: set[Told] = field(default_factory=set)
    acknowledged: set[Told] = field(default_factory=set)
    refused: int = 0
    progress: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def reach(self, count: int) -> None:
        """Returns when so many reports have been acknowledged."""
        async with self.progress:
            await self.progress.wait_for(lambda: len(self.acknowledged) >= count)


class Running:
    """The AF that runs now; clients wait here for the next one."""

    def __init__(self, directory: Path) -> None:
        configuration = directory / "castcore.toml"
        # Nobody listens there: reports do not need a PCF.
        configuration.write_text('[pcf]\ngrpc_address = "127.0.0.1:9"\n')
        self._command = ("run", "af", "--dir", str(directory), "--config", str(configuration))
        self.serves = asyncio.Event()
        self._process = ExitStack()
        self._clients = AsyncExitStack()

    async def start(self) -> None:
        self.process, ready = await asyncio.to_thread(self._process.enter_context, castcore(*self._command))
        self.channels = Channels(ready["grpc"])
        self._clients.push_async_callback(self.channels.close)
        self.http = ready["http"].removeprefix("http://")
        self.serves.set()

    async def kill(self) -> None:
        # Calls under way end by themselves: a channel that is closed would cancel them, and who waits for them.
        self.serves.clear()
        self.process.kill()
        await asyncio.to_thread(self._process.close)

    async def stop(self) -> None:
        await self.kill()
        await self._clients.aclose()


class Connections:
    """A few connections that many clients share, and what makes a request on one of them: no more than a test needs."""

    def __init__(self, af: Running, count: int) -> None:
        self._af = af
        self._free: asyncio.Queue[tuple[str, asyncio.StreamReader, asyncio.StreamWriter] | None] = asyncio.Queue()
        for _ in range(count):
            self._free.put_nowait(None)

    async def post(self, path: str, body: bytes) -> bytes:
        """The status line of the answer. Raises OSError where there is none."""
        connection = await self._free.get()
        try:
            # Who had to wait for a connection may have waited for an AF that is no more.
            await self._af.serves.wait()
            if connection is None or connection[0] != self._af.http:
                host, _, port = self._af.http.rpartition(":")
                _close(connection)
                connection = (self._af.http, *await asyncio.open_connection(host, int(port)))
            address, reader, writer = connection
            head = f"POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            status, *fields = (await reader.readuntil(b"\r\n\r\n")).lower().splitlines()
            length = next((field for field in fields if field.startswith(b"content-length:")), b":0")
            await reader.readexactly(int(length.partition(b":")[2]))
        except (OSError, EOFError):
            _close(connection)
            connection = None
            raise
        finally:
            self._free.put_nowait(connection)
        return status

    def close(self) -> None:
        while not self._free.empty():
            _close(self._free.get_nowait())


def _close(connection: tuple[str, asyncio.StreamReader, asyncio.StreamWriter] | None) -> None:
    if connection is not None:
        connection[2].close()


def unit_of(number: int) -> messages.ConsumptionReportingUnit:
    unit = messages.ConsumptionReportingUnit(media_consumed="video-1", duration_s=10)
    unit.start_time.FromDatetime(START + timedelta(seconds=10 * number))
    return unit


async def report(client: str, patient: bool, send: Send, af: Running, outcomes: Outcomes) -> None:
    """Sends the reports of one client, each until it is acknowledged; one that is not patient gives up at a failure."""
    for number in range(REPORTS):
        while True:
            await af.serves.wait()
            outcomes.sent.add((client, number))
            try:
                await send(client, number)
            except (CastcoreError, OSError, EOFError):
                # Refused or cut off.
                outcomes.refused += 1
                if not patient:
                    break
                continue
            outcomes.acknowledged.add((client, number))
            async with outcomes.progress:
                outcomes.progress.notify_all()
            break


@pytest.mark.parametrize("door", ["gRPC", "HTTP"])
async def test_every_acknowledged_report_is_there_once_though_the_af_is_killed_three_times(
    door: str, tmp_path: Path
) -> None:
    af, outcomes = Running(tmp_path), Outcomes()
    await af.start()
    session = await Provider(af.channels.get("af")).provision_session("player", asp_id="asp")
    session_id = session.provisioning_session_id
    await ConsumptionReportingProvisioningServiceStub(af.channels.get("af")).CreateConsumptionReportingConfiguration(
        m1.CreateConsumptionReportingConfigurationRequest(provisioning_session_id=session_id)
    )
    opened = await ConsumptionReportingServiceStub(af.channels.get("af")).CreateConsumptionReportingSession(
        messages.CreateConsumptionReportingSessionRequest(asp_id="asp")
    )
    reporting = opened.consumption_reporting_session.session_id

    async def by_grpc(client: str, number: int) -> None:
        request = messages.ReportConsumptionRequest(
            asp_id="asp",
            session_id=reporting,
            consumption_report=messages.ConsumptionReport(
                media_player_entry=MPD, reporting_client_id=client, consumption_reporting_units=[unit_of(number)]
            ),
        )
        await ConsumptionReportingServiceStub(af.channels.get("af")).ReportConsumption(request)

    async def by_http(client: str, number: int) -> None:
        began = (START + timedelta(seconds=10 * number)).isoformat()
        body = {
            "mediaPlayerEntry": MPD,
            "reportingClientId": client,
            "consumptionReportingUnits": [{"mediaConsumed": "video-1", "startTime": began, "duration": 10}],
        }
        path = f"/3gpp-5gms-consumption-reporting/v1/asp/session/{reporting}"
        assert (await connections.post(path, json.dumps(body).encode())).startswith(b"http/1.1 200")

    connections = Connections(af, 16)
    send = by_grpc if door == "gRPC" else by_http
    chance = random.Random(7)
    async with asyncio.TaskGroup() as clients:
        for number in range(CLIENTS):
            patient = chance.random() < 0.8
            clients.create_task(report(f"client-{number}", patient, send, af, outcomes))
        for kill in range(1, KILLS + 1):
            await outcomes.reach(kill * CLIENTS * REPORTS // (KILLS + 2))
            await af.kill()
            await af.start()

    stub = ConsumptionReportsServiceStub(af.channels.get("af"))
    kept: Counter[Told] = Counter()
    asked = messages.ListConsumptionReportingUnitsRequest(page_size=1000)
    while True:
        page = await stub.ListConsumptionReportingUnits(asked)
        for record in page.consumption_records:
            after = record.consumption_reporting_unit.start_time.ToDatetime(UTC) - START
            kept[record.reporting_client_id, after // timedelta(seconds=10)] += 1
        asked.page_token = page.next_page_token
        if not asked.page_token:
            break
    counted = await stub.GetConsumptionStatistics(
        messages.GetConsumptionStatisticsRequest(provisioning_session_id=session_id)
    )
    connections.close()
    await af.stop()
    assert outcomes.refused > 0
    assert outcomes.acknowledged - kept.keys() == set()
    assert kept.keys() - outcomes.sent == set()
    assert max(kept.values()) == 1
    assert counted.consumption_statistics.report_count == len(kept)
