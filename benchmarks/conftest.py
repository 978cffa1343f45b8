"""What benchmarks share: the figures they leave, as a table at the end and as JSON beside the machine's description."""

from __future__ import annotations

import inspect
import itertools
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles

import pytest
from postgresql import Postgresql, postgresql
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from upf.engine import INSTRUCTIONS

RESULTS = Path(__file__).parent / "results"
_SCHEMAS = itertools.count(1)


@dataclass
class Figures:
    """The figures of one question. A subject is what was timed; ``baselines`` are those others are put against."""

    question: str
    baselines: tuple[str, ...]
    seconds_per_packet: dict[str, list[float]] = field(default_factory=dict)
    packets: dict[str, int] = field(default_factory=dict)

    def add(self, subject: str, packets: int, seconds: list[float]) -> None:
        """``seconds``: of every measurement, each of ``packets`` packets."""
        self.packets[subject] = packets
        self.seconds_per_packet[subject] = [each / packets for each in seconds]

    def rows(self) -> list[dict[str, object]]:
        """One row a subject; the spread is the interquartile range of its times, by their median."""
        medians = {subject: median(times) for subject, times in self.seconds_per_packet.items()}
        return [
            {
                "subject": subject,
                "packets": self.packets[subject],
                "measurements": len(times),
                "packets_per_s": round(1 / medians[subject]),
                "ns_per_packet": round(medians[subject] * 1e9, 3),
                "fastest_ns_per_packet": round(min(times) * 1e9, 3),
                "slowest_ns_per_packet": round(max(times) * 1e9, 3),
                "spread": round(interquartile_range(times) / medians[subject], 4),
                "speed_relative_to": {
                    baseline: float(f"{medians[baseline] / medians[subject]:.4g}")
                    for baseline in self.baselines
                    if baseline in medians
                },
            }
            for subject, times in self.seconds_per_packet.items()
        ]

    def table(self) -> Iterator[str]:
        """The rows for eyes."""
        columns = "".join(f"{'  × ' + baseline:>26}" for baseline in self.baselines)
        yield f"{self.question:<34}{'packets/s':>14}{'ns/packet':>12}{'spread':>9}{columns}"
        for row in self.rows():
            relative = "".join(f"{row['speed_relative_to'].get(baseline, 0):>26,.4g}" for baseline in self.baselines)
            yield (
                f"{row['subject']:<34}{row['packets_per_s']:>14,}{row['ns_per_packet']:>12,.2f}{row['spread']:>9.1%}{relative}"
            )


def interquartile_range(times: list[float]) -> float:
    """What the middle half of the times span."""
    first, _, third = quantiles(times, n=4, method="inclusive")
    return third - first


@dataclass
class Results:
    """The rows of a question that is not one of speeds against baselines alone. Each part of it adds its rows once.

    ``columns``: those of the table for eyes, where not all fit.
    """

    question: str
    about: str
    parts: tuple[object, ...]
    columns: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    rows_of: dict[object, list[dict[str, object]]] = field(default_factory=dict)

    def add(self, part: object, rows: list[dict[str, object]]) -> None:
        assert part in self.parts
        self.rows_of[part] = rows

    def rows(self) -> list[dict[str, object]]:
        return [row for part in self.parts for row in self.rows_of.get(part, [])]

    def table(self) -> Iterator[str]:
        columns = self.columns or tuple(dict.fromkeys(key for row in self.rows() for key in row))
        table = Table(box=SIMPLE_HEAD, title=self.about, title_justify="left", pad_edge=False)
        for column in columns:
            name = column in ("subject", "what", "beside")
            table.add_column(column.replace("_", " "), justify="left" if name else "right", no_wrap=name)
        for part in self.parts:
            for row in self.rows_of.get(part, []):
                table.add_row(*(escape(shown(row.get(column))) for column in columns))
            table.add_section()
        console = Console(width=160, color_system=None)
        with console.capture() as capture:
            console.print(table)
        yield from (line.rstrip() for line in capture.get().splitlines())
        yield from self.notes


def shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return "\n".join(f"{name.replace('_', ' ')} {shown(figure)}" for name, figure in value.items())
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


_FIGURES = pytest.StashKey[dict[str, Figures]]()
_RESULTS = pytest.StashKey[dict[str, Results]]()
_LOAD_AVERAGE = pytest.StashKey[float]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_FIGURES] = {}
    config.stash[_RESULTS] = {}
    # Before the benchmarks themselves are what the machine is busy with.
    config.stash[_LOAD_AVERAGE] = round(os.getloadavg()[0], 2)


@pytest.fixture(scope="session")
def figures_of(pytestconfig: pytest.Config) -> Callable[..., Figures]:
    """Opens the figures of a question: ``figures_of("replay", baselines=("the floor",))``."""

    def opened(question: str, *, baselines: tuple[str, ...]) -> Figures:
        return pytestconfig.stash[_FIGURES].setdefault(question, Figures(question, baselines))

    return opened


@pytest.fixture(scope="session")
def results_of(pytestconfig: pytest.Config) -> Callable[..., Results]:
    """Opens the results of a question: ``results_of("policing", about="…", parts=(100, 10_000))``."""

    def opened(question: str, *, about: str, parts: tuple[object, ...], columns: tuple[str, ...] = ()) -> Results:
        return pytestconfig.stash[_RESULTS].setdefault(question, Results(question, about, parts, columns))

    return opened


@pytest.fixture(autouse=True)
def kept(request: pytest.FixtureRequest, results_of: Callable[..., Results]) -> Iterator[None]:
    """What pytest-benchmark timed, where the question has no figures of its own: kept, and shown, as the others are."""
    if "benchmark" not in request.fixturenames or "figures" in request.fixturenames:
        yield
        return
    benchmark = request.getfixturevalue("benchmark")
    question = request.path.parent.name
    asked = [item for item in request.session.items if item.path.parent.name == question]
    about = inspect.getdoc(request.module) or question
    results = results_of(question, about=about.splitlines()[0], parts=tuple(item.nodeid for item in asked))
    yield
    if benchmark.stats is not None:
        times = benchmark.stats.stats
        timed: dict[str, object] = {
            "what": request.node.name.removeprefix("test_").replace("_", " "),
            "rounds": times.rounds,
            "median_ms": round(times.median * 1e3, 3),
            "fastest_ms": round(times.min * 1e3, 3),
            "beside": dict(benchmark.extra_info),
        }
        results.add(request.node.nodeid, [timed])


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Postgresql]:
    """A PostgreSQL that keeps what it commits, as it is configured when it is installed."""
    with postgresql() as server:
        yield server


@pytest.fixture
def postgresql_url(postgresql_server: Postgresql) -> str:
    """For ``[state] url``: schemas in it that are not there yet."""
    return f"{postgresql_server.url}&schema=bench_{next(_SCHEMAS)}"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory for large captures: in memory where there is room, so that no disk is at work meanwhile."""
    memory = Path("/dev/shm")
    if memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 3 << 30:
        with tempfile.TemporaryDirectory(prefix="castcore-bench-", dir=memory) as directory:
            yield Path(directory)
    else:
        yield tmp_path_factory.mktemp("scratch")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    # A part of the benchmarks that was asked for by name or by place is not all of a question.
    whole = exitstatus == 0 and not config.option.keyword and not any("::" in each for each in config.args)
    for question, figures in config.stash[_FIGURES].items():
        if figures.seconds_per_packet:
            terminalreporter.section(f"{question}: speed, per packet")
            for line in figures.table():
                terminalreporter.write_line(line)
            complete = all(baseline in figures.packets for baseline in figures.baselines)
            leave(terminalreporter, config, question, figures.rows(), keep=whole and complete)
    for question, results in config.stash[_RESULTS].items():
        if results.rows_of:
            terminalreporter.section(question)
            for line in results.table():
                terminalreporter.write_line(line)
            leave(
                terminalreporter,
                config,
                question,
                results.rows(),
                keep=whole and len(results.rows_of) == len(results.parts),
            )


def leave(
    terminalreporter: pytest.TerminalReporter,
    config: pytest.Config,
    question: str,
    rows: list[dict[str, object]],
    *,
    keep: bool,
) -> None:
    """A part of a benchmark, or one that failed its check, leaves the committed figures alone."""
    if keep:
        path = RESULTS / f"{question}.json"
        RESULTS.mkdir(exist_ok=True)
        described = machine() | {"load_average": config.stash[_LOAD_AVERAGE]}
        path.write_text(json.dumps({"machine": described, "results": rows}, indent=2) + "\n")
        terminalreporter.write_line(f"written to {path.relative_to(config.rootpath)}")


def machine() -> dict[str, object]:
    """What the figures were taken on."""
    cpuinfo = Path("/proc/cpuinfo")
    models = [
        line.partition(":")[2].strip()
        for line in (cpuinfo.read_text().splitlines() if cpuinfo.exists() else [])
        if line.startswith("model name")
    ]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "castcore": version("castcore"),
        "cpu": models[0] if models else platform.processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "instructions": INSTRUCTIONS,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
