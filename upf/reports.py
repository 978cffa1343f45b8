"""The reports of a replay: flow records, compliance, plot, made from what the engine's journal notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from upf.compliance import SLOTS_PER_WINDOW, Compliance, RuleCompliance, TimeSlot, check_window
from upf.counters import AVERAGING_WINDOW_NS
from upf.engine import Engine
from upf.flow_records import FLOW_TIMEOUT_NS, FlowFile
from upf.journal import JournalOptions
from upf.plot import RateSeries, check_plot_path, draw
from upf.rules import Rule

# Records that are ended at a time when the input has: what Python holds of them at once.
ENDED_RECORDS: Final = 1 << 15
# A short capture is drawn in slots so short that there are as many, but never shorter than the least.
PLOT_SLOTS: Final = 300
LEAST_PLOT_SLOT_NS: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """What is wanted.

    ``flow_timeout_ns`` of idleness ends a flow's record; ``window_ns`` is what compliance averages over.
    """

    flows: Path | None = None
    flow_timeout_ns: int = FLOW_TIMEOUT_NS
    compliance: bool = False
    window_ns: int = AVERAGING_WINDOW_NS
    plot: Path | None = None

    @property
    def journal(self) -> bool:
        """Whether any report needs the journal."""
        return self.compliance or self.flows is not None or self.plot is not None


class Reports:
    """Takes what an engine's journal notes, chunk by chunk, and makes reports of it; a context manager.

    Files appear when the context is left without an error. ``span_ns`` is how much time the input covers, 0 where that
    is not known; ``title`` stands above the plot.

    Raises UpfError, one line, where a file cannot be written or what writes it is not installed.
    """

    def __init__(self, options: ReportOptions, rules: Sequence[Rule], *, span_ns: int = 0, title: str = "") -> None:
        check_window(options.window_ns)
        if options.plot is not None:
            check_plot_path(options.plot)
        self._plot = options.plot
        self._rules = rules
        self._title = title
        slot_ns = options.window_ns // SLOTS_PER_WINDOW
        # So many of the journal's slots are one of compliance.
        self._finer = _finer(slot_ns, span_ns) if options.plot is not None else 1
        slotted = options.compliance or options.plot is not None
        self.journal = JournalOptions(
            flow_timeout_ns=options.flow_timeout_ns if options.flows is not None else 0,
            slot_ns=slot_ns // self._finer if slotted else 0,
            window_ns=options.window_ns,
        )
        self._compliance = Compliance(rules, window_ns=options.window_ns) if options.compliance else None
        self._series = RateSeries(slot_ns // self._finer) if options.plot is not None else None
        self._flows = FlowFile(options.flows) if options.flows is not None else None
        self._stack = ExitStack()

    def take(self, engine: Engine) -> None:
        """Takes what has been noted since the last call."""
        if self._flows is not None:
            self._flows.write(engine.take_flow_records())
        slots = engine.take_slots()
        if self._series is not None:
            self._series.add_slots(slots)
        if self._compliance is not None:
            if self._finer > 1:
                slots = [TimeSlot(slot.rule, slot.number // self._finer, *slot[2:]) for slot in slots]
            self._compliance.add_slots(slots)
            self._compliance.add_violations(engine.take_violations())
        else:
            engine.take_violations()

    def end(self, engine: Engine) -> None:
        """The input has ended: everything that is open ends, and the plot is drawn."""
        while not engine.end_journal(max_records=ENDED_RECORDS):
            self.take(engine)
        self.take(engine)
        if self._plot is not None and self._series is not None:
            draw(self._plot, self._series, self._rules, title=self._title)

    def compliance(self) -> Mapping[str, RuleCompliance] | None:
        """The compliance of every rule; None where it was not asked for. Once, at the end."""
        return None if self._compliance is None else self._compliance.report()

    def __enter__(self) -> Self:
        if self._flows is not None:
            self._stack.enter_context(self._flows)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)


def _finer(slot_ns: int, span_ns: int) -> int:
    """By how much a slot is divided, so that a short capture is more than a few of them."""
    if not span_ns:
        return 1
    wanted_ns = max(span_ns // PLOT_SLOTS, LEAST_PLOT_SLOT_NS)
    return next(
        (parts for parts in (100, 50, 20, 10, 5, 2) if slot_ns % parts == 0 and slot_ns // parts >= wanted_ns), 1
    )
