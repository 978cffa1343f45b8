"""What benchmarks share: the figures they leave, as a table at the end and as JSON beside the machine's description."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles

import pytest

RESULTS = Path(__file__).parent / "results"


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


_FIGURES = pytest.StashKey[dict[str, Figures]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_FIGURES] = {}


@pytest.fixture(scope="session")
def figures_of(pytestconfig: pytest.Config) -> Callable[..., Figures]:
    """Opens the figures of a question: ``figures_of("replay", baselines=("the floor",))``."""

    def opened(question: str, *, baselines: tuple[str, ...]) -> Figures:
        return pytestconfig.stash[_FIGURES].setdefault(question, Figures(question, baselines))

    return opened


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    for question, figures in config.stash[_FIGURES].items():
        if not figures.seconds_per_packet:
            continue
        terminalreporter.section(f"{question}: speed, per packet")
        for line in figures.table():
            terminalreporter.write_line(line)
        # A part of the benchmarks, or one that failed its check, leaves the committed figures alone.
        if exitstatus == 0 and not config.option.keyword and all(b in figures.packets for b in figures.baselines):
            path = RESULTS / f"{question}.json"
            RESULTS.mkdir(exist_ok=True)
            path.write_text(json.dumps({"machine": machine(), "results": figures.rows()}, indent=2) + "\n")
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
        "load_average": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
