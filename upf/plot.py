"""The plot of a replay: offered and passed rate over time, per rule, with the thresholds (matplotlib, an extra)."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from upf.compliance import TimeSlot, thresholds_bps
from upf.errors import UpfError
from upf.pending import PendingFile
from upf.rules import Rule
from upf.units import format_bit_rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES: Final = (".png", ".svg", ".pdf")
# Bins of a drawn line at the most; with more, two become one.
MAX_BINS: Final = 1000
# Panels of a figure at the most; of more rules those with the most bytes are drawn.
MAX_PANELS: Final = 12
MAX_LABEL: Final = 50

_WITHIN: Final = "#2a6f97"
_EXCEEDING: Final = "#f2a541"
_DROPPED: Final = "#dd8f7d"
_THRESHOLD: Final = "#333333"
_UNITS: Final = ((1e12, "Tbps"), (1e9, "Gbps"), (1e6, "Mbps"), (1e3, "Kbps"), (1.0, "bps"))
_TIMES: Final = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


_NOTHING: Final = (0, 0, 0)


def check_plot_path(path: Path) -> None:
    """Raises UpfError, one line, where the name does not tell a format, or matplotlib is not installed."""
    if path.suffix not in SUFFIXES:
        raise UpfError(f"option '--plot': found {str(path)!r}, expected a name that ends in .png, .svg or .pdf")
    try:
        importlib.import_module("matplotlib")
    except ImportError:
        raise UpfError(
            f"option '--plot': {path}: a plot needs matplotlib, which is not installed: pip install 'castcore[plot]'"
        ) from None


class RateSeries:
    """Bytes over time, in bins that widen as the time they span grows: at most MAX_BINS of them, all of one width."""

    def __init__(self, slot_ns: int) -> None:
        self._slot_ns = slot_ns
        self._slots_per_bin = 1
        self._bins: dict[str, dict[int, list[int]]] = {}
        self._first: int | None = None
        self._last = 0

    def add_slots(self, slots: Iterable[TimeSlot]) -> None:
        """Takes what rules have seen; slots may come in pieces and in any order."""
        for rule, number, *volumes in slots:
            self._reach(number)
            bins = self._bins.setdefault(rule, {})
            _add(bins.setdefault(number // self._slots_per_bin, [0, 0, 0]), volumes)

    def _reach(self, number: int) -> None:
        if self._first is None:
            self._first = self._last = number
            return
        self._first = min(self._first, number)
        self._last = max(self._last, number)
        while self._last // self._slots_per_bin - self._first // self._slots_per_bin >= MAX_BINS:
            self._slots_per_bin *= 2
            for rule, bins in self._bins.items():
                wider: dict[int, list[int]] = {}
                for at, volumes in bins.items():
                    _add(wider.setdefault(at >> 1, [0, 0, 0]), volumes)
                self._bins[rule] = wider

    @property
    def bin_ns(self) -> int:
        """The width of a bin."""
        return self._slot_ns * self._slots_per_bin

    @property
    def start_ns(self) -> int:
        """When the first bin begins; 0 where nothing was seen."""
        return 0 if self._first is None else self._first // self._slots_per_bin * self.bin_ns

    @property
    def bins(self) -> int:
        """How many bins there are, from the first of any rule to the last."""
        if self._first is None:
            return 0
        return self._last // self._slots_per_bin - self._first // self._slots_per_bin + 1

    def rates_bps(self, rule: str) -> tuple[list[float], list[float], list[float]]:
        """In every bin what the rule was offered, what of it passed, and what of that was within the rate."""
        bins = self._bins.get(rule, {})
        first = 0 if self._first is None else self._first // self._slots_per_bin
        scale = 8e9 / self.bin_ns
        counted = [bins.get(first + at, _NOTHING) for at in range(self.bins)]
        return (
            [offered * scale for offered, _, _ in counted],
            [passed * scale for _, passed, _ in counted],
            [(passed - exceeding) * scale for _, passed, exceeding in counted],
        )

    def bytes_of(self, rule: str) -> int:
        """All that the rule was offered."""
        return sum(offered for offered, *_ in self._bins.get(rule, {}).values())


def _add(counted: list[int], volumes: Sequence[int]) -> None:
    for at, volume_bytes in enumerate(volumes):
        counted[at] += volume_bytes


@dataclass(frozen=True, slots=True)
class _Panel:
    """What is drawn of one rule; ``thresholds`` have their meaning."""

    rule: str
    label: str
    thresholds: tuple[tuple[str, int], ...] = ()


def draw(path: Path, series: RateSeries, rules: Sequence[Rule], *, title: str) -> None:
    """Draws one panel a rule, on one time axis; without rules one of all that came in.

    Raises UpfError where the format is not known or not available, or the file cannot be written.
    """
    check_plot_path(path)
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    most = sorted(rules, key=lambda rule: series.bytes_of(rule.name), reverse=True)[:MAX_PANELS]
    panels = [_panel_of(rule) for rule in rules if rule in most] or [_Panel("", "no rules: everything passes")]
    columns = 1 if len(panels) <= 4 else 2
    rows = -(-len(panels) // columns)
    with mpl.rc_context(
        {"font.size": 9, "svg.hashsalt": "castcore", "axes.spines.top": False, "axes.spines.right": False}
    ):
        size = (9.5 if columns == 1 else 13, 1.1 + (3.2 if rows == 1 else 2.2) * rows)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(rows, columns, sharex=True, squeeze=False).flatten().tolist()
        for panel, drawn in zip(axes, panels, strict=False):
            _draw_panel(panel, series, drawn)
        left_out = len(rules) - len(most)
        _draw_surroundings(figure, axes, series, len(panels), columns, title, left_out)
        with PendingFile(path) as pending:
            try:
                figure.savefig(pending.working_path, format=path.suffix[1:], dpi=120)
            except OSError as error:
                raise pending.failed(error) from None


def _panel_of(rule: Rule) -> _Panel:
    name = rule.name if len(rule.name) <= MAX_LABEL else rule.name[: MAX_LABEL - 1] + "…"
    thresholds = thresholds_bps(rule)
    if not thresholds:
        return _Panel(rule.name, f"{name}: counted, no rate")
    told = ", ".join(f"{meaning} {format_bit_rate(rate_bps)}" for meaning, rate_bps in thresholds)
    if rule.per_flow:
        # The sum of the flows has no threshold that it could be held against.
        return _Panel(rule.name, f"{name}: {rule.mode.value}, {told} for each flow")
    return _Panel(rule.name, f"{name}: {rule.mode.value}, {told}", thresholds)


def _draw_panel(axes: Axes, series: RateSeries, panel: _Panel) -> None:
    offered, passed, within = series.rates_bps(panel.rule)
    highest = max(offered, default=0.0)
    # A threshold far above the traffic would press it flat; it is told in the title all the same.
    drawn = [rate_bps for _, rate_bps in panel.thresholds if rate_bps <= 4 * highest or not highest]
    scale, unit = next((pair for pair in _UNITS if pair[0] <= max([highest, *drawn])), _UNITS[-1])
    seconds, _ = _time_unit(series)
    width = series.bin_ns / 1e9 / seconds
    edges = [number * width for number in range(series.bins + 1)]
    for rates, colour in ((offered, _DROPPED), (passed, _EXCEEDING), (within, _WITHIN)):
        axes.stairs([rate / scale for rate in rates], edges, fill=True, color=colour, linewidth=0)
    for rate_bps in drawn:
        axes.axhline(rate_bps / scale, color=_THRESHOLD, linewidth=1.3, linestyle=(0, (5, 2)))
    axes.set_title(panel.label, loc="left", fontsize=9.5, fontweight="bold", parse_math=False)
    axes.set_ylabel(unit)
    axes.set_ylim(0, max([highest, *drawn, 1e-9]) / scale * 1.08)
    axes.set_xlim(0, max(edges[-1], 1e-12))
    axes.grid(visible=True, axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelbottom=True)


def _draw_surroundings(
    figure: Figure, axes: Sequence[Axes], series: RateSeries, panels: int, columns: int, title: str, left_out: int
) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    for panel in axes[panels:]:
        panel.set_visible(False)
    _, unit = _time_unit(series)
    for panel in axes[max(panels - columns, 0) : panels]:
        panel.set_xlabel(f"time ({unit})")
    key = [
        Patch(color=_WITHIN, label="passed, within the rate"),
        Patch(color=_EXCEEDING, label="passed, above it"),
        Patch(color=_DROPPED, label="offered, not passed"),
        Line2D([], [], color=_THRESHOLD, linewidth=1.3, linestyle=(0, (5, 2)), label="threshold"),
    ]
    figure.legend(handles=key, loc="outside upper right", ncols=4, frameon=False)
    start = datetime.fromtimestamp(series.start_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", parse_math=False)
    note = f"mean rate over {_duration(series.bin_ns)}; time 0 is {start}"
    figure.supxlabel(note + (f"; {left_out} more rules are not drawn" if left_out else ""), fontsize=8, color="#555555")


def _time_unit(series: RateSeries) -> tuple[float, str]:
    span_s = series.bin_ns * max(series.bins, 1) / 1e9
    return next((unit for unit in _TIMES if span_s >= 2 * unit[0]), _TIMES[-1])


def _duration(duration_ns: int) -> str:
    seconds, unit = next((each for each in _TIMES if duration_ns / 1e9 >= each[0]), _TIMES[-1])
    return f"{duration_ns / 1e9 / seconds:.6g} {unit}"
