"""The plot of consumption: clients and time per medium, period by period (matplotlib, an extra)."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from nf.af.v1.consumption_reporting_pb2 import ConsumptionAggregate
from nf.common.errors import FailedPrecondition, InvalidArgument

SUFFIXES: Final = (".png", ".svg", ".pdf")


def check_plot(path: Path) -> None:
    """Raises InvalidArgument where the name tells no format, FailedPrecondition without matplotlib."""
    if path.suffix.lower() not in SUFFIXES:
        raise InvalidArgument(f"option '--plot': {path}: expected a name that ends in {', '.join(SUFFIXES)}")
    try:
        importlib.import_module("matplotlib")
    except ModuleNotFoundError:
        raise FailedPrecondition(
            f"option '--plot': {path}: a plot needs matplotlib, which is not installed: pip install 'castcore[plot]'"
        ) from None


def draw(path: Path, found: Sequence[ConsumptionAggregate]) -> None:
    """Draws a panel of clients and one of seconds over time, a step per period and a line per medium.

    Raises InvalidArgument where the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), layout="constrained")
    clients, seconds = figure.subplots(2, 1, sharex=True)
    lines: dict[str, list[ConsumptionAggregate]] = {}
    for each in found:
        name = f"{each.media_consumed} in {each.area}" if each.area else each.media_consumed
        lines.setdefault(name, []).append(each)
    for name, periods in sorted(lines.items()):
        times: list[datetime] = []
        counts: list[float] = []
        lasted: list[float] = []
        for each in periods:
            begin, end = each.start_time.ToDatetime(UTC), each.end_time.ToDatetime(UTC)
            if times and times[-1] != begin:
                # Nothing was consumed between.
                times += [times[-1], begin]
                counts += [0.0, 0.0]
                lasted += [0.0, 0.0]
            times += [begin, end]
            counts += [each.client_count] * 2
            lasted += [each.consumed_s] * 2
        clients.plot(times, counts, label=name)
        seconds.plot(times, lasted, label=name)
    clients.set_ylabel("clients")
    seconds.set_ylabel("seconds consumed")
    seconds.set_xlabel("time (UTC)")
    if lines:
        clients.legend()
    try:
        figure.savefig(path)
    except OSError as error:
        raise InvalidArgument(f"option '--plot': {path}: {error.strerror}") from None
