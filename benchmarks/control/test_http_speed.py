"""How fast are service access information and reports over HTTP? Beside bare handlers on the same server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx
import pytest
from running_core import castcore

from benchmarks.conftest import Results, interquartile_range
from benchmarks.control.databases import DATABASES, state
from benchmarks.control.http_load import Outcome, drive, get, post
from nf.af.v1.provisioning_pb2 import (
    ConsumptionReportingConfiguration,
    M1QosSpecification,
    MediaEntryPoint,
    PolicyTemplate,
)
from nf.client.provider import Provider
from nf.common.channels import Channels

pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parents[2]
CONNECTIONS = 32
ROUNDS = 7
# In a round.
ACCESSES = {"SQLite": 1_500, "PostgreSQL": 500}
REPORTS = {"SQLite": 1_000, "PostgreSQL": 500}
ACCESS, REPORTING = "service access information", "consumption reports"
PARTS = tuple((what, database) for what in (ACCESS, REPORTING) for database in DATABASES)
ACCESS_PATH = "/3gpp-m5/v2/service-access-information/"
REPORT_PATH = "/3gpp-m5/v2/consumption-reporting/"


@dataclass(frozen=True)
class Servers:
    """castcore and the bare handlers, each in a process of its own; a session with templates and reporting."""

    castcore: str
    bare: str
    processes: dict[str, int]
    session_id: str
    body: bytes


@asynccontextmanager
async def servers(database: str, directory: Path) -> AsyncIterator[Servers]:
    configuration = directory / "castcore.toml"
    with ExitStack() as running:
        configuration.write_text(running.enter_context(state(database)))
        words = ("up", "--config", str(configuration), "--dir", str(directory / "state"))
        process, ready = running.enter_context(castcore(*words))
        url: str = ready["http"]
        channels = Channels(ready["grpc"])
        try:
            session_id = await provisioned(Provider(channels.get("af")))
        finally:
            await channels.close()
        async with httpx.AsyncClient(base_url=url) as client:
            body = (await client.get(f"{ACCESS_PATH}{session_id}")).raise_for_status().content
        told = directory / "body.json"
        told.write_bytes(body)
        with bare_handlers(told) as (floor, pid):
            yield Servers(url, floor, {"castcore": process.pid, "bare handler": pid}, session_id, body)


@contextmanager
def bare_handlers(body: Path) -> Iterator[tuple[str, int]]:
    """A process with the bare handlers: its URL, and its number."""
    command = [sys.executable, "-m", "benchmarks.control.bare_handlers", str(body)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["http"], process.pid
        finally:
            process.terminate()


async def provisioned(provider: Provider) -> str:
    """A session whose service access information has all its parts."""
    entry = MediaEntryPoint(locator="https://cdn.example/title.mpd", content_type="application/dash+xml")
    session = await provider.provision_session("player", entry_points=[entry])
    session_id = session.provisioning_session_id
    for rate_bps in (1_000_000, 2_000_000, 5_000_000):
        wanted = PolicyTemplate(
            external_reference=f"zero-rating-{rate_bps}", qos_specification=M1QosSpecification(max_btr_dl_bps=rate_bps)
        )
        await provider.ready(await provider.create_template(session_id, wanted))
    wanted_reports = ConsumptionReportingConfiguration(reporting_interval_s=30, access_reporting=True)
    await provider.configure_consumption_reporting(session_id, wanted_reports)
    return session_id


def cpu_s(pid: int) -> float:
    """The time that the processors have given to a process."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


class Measured:
    """Requests per second and processor time of the servers, round by round."""

    def __init__(self, running: Servers) -> None:
        self._running = running
        self.rates: dict[str, list[float]] = {subject: [] for subject in running.processes}
        self.cpu_us: dict[str, list[float]] = {subject: [] for subject in running.processes}

    async def round(self, subject: str, url: str, requests: list[bytes], *, counts: bool = True) -> Outcome:
        pid = self._running.processes[subject]
        before_s = cpu_s(pid)
        outcome = await drive(url, requests, CONNECTIONS)
        if counts:
            self.rates[subject].append(len(requests) / outcome.elapsed_s)
            self.cpu_us[subject].append((cpu_s(pid) - before_s) / len(requests) * 1e6)
        return outcome


def report(number: int) -> bytes:
    """One of a client: two units, with the ends of the connection that they came over."""
    units = [
        {
            "mediaConsumed": f"video-{number % 4}",
            "clientEndpointAddress": {"ipv4Addr": "10.45.0.2", "portNumber": 40_000},
            "serverEndpointAddress": {"hostname": "cdn.example", "portNumber": 443},
            "startTime": f"2026-05-01T12:{number // 60 % 60:02d}:{number % 60:02d}Z",
            "duration": 10,
        },
        {"mediaConsumed": "audio-0", "startTime": "2026-05-01T12:00:00Z", "duration": 10},
    ]
    content = {
        "mediaPlayerEntry": "https://cdn.example/title.mpd",
        "reportingClientId": f"client-{number}",
        "consumptionReportingUnits": units,
    }
    return json.dumps(content).encode()


@pytest.mark.parametrize("database", DATABASES)
async def test_service_access_information(database: str, tmp_path: Path, results_of: Callable[..., Results]) -> None:
    async with servers(database, tmp_path) as running:
        urls = {
            "castcore": f"{running.castcore}{ACCESS_PATH}{running.session_id}",
            "bare handler": f"{running.bare}{ACCESS_PATH}{running.session_id}",
        }

        measured = Measured(running)
        for number in range(ROUNDS + 1):
            for subject, url in urls.items():
                # The first round warms up.
                outcome = await measured.round(subject, url, [get(url)] * ACCESSES[database], counts=number > 0)
                assert outcome.statuses == {200: ACCESSES[database]}
                assert outcome.body == running.body
    tell(results_of, ACCESS, database, measured)


@pytest.mark.parametrize("database", DATABASES)
async def test_consumption_reports(database: str, tmp_path: Path, results_of: Callable[..., Results]) -> None:
    async with servers(database, tmp_path) as running:
        urls = {
            "castcore": f"{running.castcore}{REPORT_PATH}{running.session_id}",
            "bare handler": f"{running.bare}{REPORT_PATH}{running.session_id}",
        }
        measured, sent = Measured(running), 0
        for number in range(ROUNDS + 1):
            bodies = [report(sent + each) for each in range(REPORTS[database])]
            sent += REPORTS[database]
            for subject, url in urls.items():
                outcome = await measured.round(subject, url, [post(url, body) for body in bodies], counts=number > 0)
                assert outcome.statuses == {204: REPORTS[database]}
        async with httpx.AsyncClient(base_url=running.castcore) as client:
            counted = (await client.get(f"/castcore/v1/consumption-statistics/{running.session_id}")).json()
    assert (counted["reportCount"], counted["unitCount"]) == (sent, 2 * sent)
    tell(results_of, REPORTING, database, measured)


def tell(results_of: Callable[..., Results], what: str, database: str, measured: Measured) -> None:
    results = results_of(
        "http", about="Over HTTP/1.1, 32 kept connections, beside bare handlers on the same server", parts=PARTS
    )
    rates = measured.rates
    ratios = [own / floor for own, floor in zip(rates["castcore"], rates["bare handler"], strict=True)]
    rows = [
        {
            "what": what,
            "subject": subject if subject != "castcore" else f"castcore, {database}",
            "requests_per_s": round(median(found)),
            "spread": round(interquartile_range(found) / median(found), 3),
            "cpu_us_per_request": round(median(measured.cpu_us[subject])),
        }
        for subject, found in rates.items()
    ]
    rows[0] |= {
        "times_the_bare_handler": round(median(ratios), 3),
        "middle_half": round(interquartile_range(ratios), 3),
    }
    results.add((what, database), rows)
    # A commit of PostgreSQL's waits for the disk.
    assert database != "SQLite" or median(ratios) >= 0.5
