"""Replaying captures through the engine: every packet parsed, classified, policed and counted, at the time it bears."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from upf.capture import Capture, CaptureError, CaptureWriter, OutputFormat, asks_for_pcapng
from upf.compliance import RuleCompliance
from upf.counters import Measure, RuleCounters, Totals
from upf.engine import Engine, time_span_ns
from upf.errors import OutputError, UpfError
from upf.profile import PASSES as PROFILED_PASSES
from upf.profile import Profile
from upf.profile import profile as time_stages
from upf.reports import ReportOptions, Reports
from upf.rules import Rule

if TYPE_CHECKING:
    from upf.names.inspector import InspectorCounters

# Between two chunks the caller hears of the progress and an interrupt is heard: some ten milliseconds.
CHUNK_PACKETS: Final = 1 << 18
# Shorter where every packet may leave something to be taken.
NOTED_CHUNK_PACKETS: Final = 1 << 15
# A plot of less than this has slots that suit the time it spans.
MOST_HELD_BYTES: Final = 256 << 20
# The engine's packet time ends here, in the year 2116.
_LATEST_NS: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Report:
    """What a replay has counted.

    ``elapsed_s`` is the time from the first to the last packet processed, of the first pass or, with several, the
    median of the later ones. ``rules`` stand in the order in which they are tried. ``errors`` are captures that are cut
    or damaged: what came before has been counted. ``compliance`` is None unless it was asked for. ``inspection`` is
    what looking for domain names has done, None where no rule asks for one.
    """

    elapsed_s: float
    totals: Totals
    rules: Mapping[str, RuleCounters]
    errors: tuple[CaptureError, ...]
    compliance: Mapping[str, RuleCompliance] | None = None
    inspection: InspectorCounters | None = None
    profile: Profile | None = None


def replay(
    captures: Sequence[Capture],
    rules: Sequence[Rule],
    *,
    output: Path | None = None,
    repeat: int = 1,
    max_flows: int = 1 << 20,
    measure: Measure = Measure.L3,
    gtpu: bool = True,
    progress: Callable[[int], None] | None = None,
    reports: ReportOptions | None = None,
    profile: bool = False,
) -> Report:
    """Sends the captures, one after the other, through an engine of their own.

    output: where what passes is written. repeat: passes over all captures, which are held in memory for it; each is
    moved on in time so far that every bucket is full again, and only the first is counted. measure: what counts as a
    packet's bytes. gtpu: whether the packet in a G-PDU counts in place of that which carries it. progress: told the
    bytes processed since the last call. reports: what else is made of the first pass. profile: time the stages, in more
    passes.

    Raises CaptureError where ``output`` cannot be written, UpfError where ``repeat`` or ``reports`` cannot be met.
    """
    passes = repeat + (2 * PROFILED_PASSES if profile else 0)
    earliest_ns, latest_ns = _time_span_ns(captures) if passes > 1 else (0, 0)
    # Later than any packet before it, and by so much that every bucket is full: no pass sees the one before.
    shift_ns = latest_ns - earliest_ns + _longest_filling_ns(rules) + 1
    if latest_ns + shift_ns * (passes - 1) >= _LATEST_NS:
        raise UpfError(
            f"{passes} passes would take packet time beyond the year 2116: the capture spans too much, or a "
            "bucket fills too slowly"
        )
    with ExitStack() as stack:
        reporter = stack.enter_context(_reporter(reports, captures, rules)) if reports is not None else None
        engine = Engine(
            max_flows=max_flows,
            measure=measure,
            gtpu=gtpu,
            journal=reporter.journal if reporter is not None else None,
        )
        engine.install(rules)
        writer = stack.enter_context(_writer(output, captures, engine)) if output is not None else None
        try:
            elapsed_s, errors = _run_pass(engine, captures, writer=writer, progress=progress, reporter=reporter)
        except OutputError as error:
            raise CaptureError(f"{output}: cannot be written: {error}") from None
        if reporter is not None:
            reporter.end(engine)
    compliance = reporter.compliance() if reporter is not None else None
    totals, counters, inspection = engine.totals(), engine.rule_counters(), engine.inspection()
    later_s = [
        _run_pass(engine, captures, time_offset_ns=shift_ns * number, progress=progress)[0]
        for number in range(1, repeat)
    ]
    profiled = None
    if profile:
        profiled = time_stages(
            engine,
            captures,
            time_offsets_ns=lambda number: shift_ns * (repeat + number),
            chunk_packets=CHUNK_PACKETS,
            output=output is not None,
        )
    return Report(
        median(later_s) if later_s else elapsed_s, totals, counters, tuple(errors), compliance, inspection, profiled
    )


def _run_pass(
    engine: Engine,
    captures: Sequence[Capture],
    *,
    time_offset_ns: int = 0,
    writer: CaptureWriter | None = None,
    progress: Callable[[int], None] | None = None,
    reporter: Reports | None = None,
) -> tuple[float, list[CaptureError]]:
    errors = []
    emit = writer.write_records if writer is not None else None
    started_s = time.perf_counter()
    for capture in captures:
        stream = capture.stream()
        told_bytes = 0
        while stream.more():
            offset, _, over = engine.run(
                stream.view,
                stream.format,
                offset=stream.offset,
                max_packets=CHUNK_PACKETS if reporter is None else NOTED_CHUNK_PACKETS,
                time_offset_ns=time_offset_ns,
                emit=emit,
            )
            stream.taken(offset, over=over)
            if reporter is not None:
                reporter.take(engine)
            if progress is not None:
                progress(stream.progress_bytes - told_bytes)
                told_bytes = stream.progress_bytes
        if stream.error is not None:
            errors.append(stream.error)
    engine.finish(emit=emit)
    return time.perf_counter() - started_s, errors


def _writer(output: Path, captures: Sequence[Capture], engine: Engine) -> CaptureWriter:
    output_format = OutputFormat.of(
        [link_type for capture in captures for link_type in capture.link_types],
        nanoseconds=any(capture.nanoseconds for capture in captures),
        pcapng=asks_for_pcapng(output),
    )
    engine.begin_output(output_format)
    return CaptureWriter(
        output, output_format, inputs=[capture.identity for capture in captures if capture.identity is not None]
    )


def _reporter(options: ReportOptions, captures: Sequence[Capture], rules: Sequence[Rule]) -> Reports:
    span_ns = 0
    # To know what time they span, captures are held in memory, as far as that is reasonable.
    held = [capture.size_bytes is not None and capture.size_bytes <= MOST_HELD_BYTES for capture in captures]
    if options.plot is not None and all(held):
        earliest_ns, latest_ns = _time_span_ns(captures)
        span_ns = latest_ns - earliest_ns
    names = [Path(capture.name).name for capture in captures]
    title = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return Reports(options, rules, span_ns=span_ns, title=title)


def _time_span_ns(captures: Sequence[Capture]) -> tuple[int, int]:
    """Of captures that will be walked again and again: they are held in memory from here on."""
    spans = []
    for capture in captures:
        capture.hold()
        stream = capture.stream()
        if stream.more():
            spans.append(time_span_ns(stream.view, stream.format, offset=stream.offset))
    packets = [span for span in spans if span != (0, 0)]
    return (min(packets)[0], max(packets, key=itemgetter(1))[1]) if packets else (0, 0)


def _longest_filling_ns(rules: Sequence[Rule]) -> int:
    return max((rule.filling_ns for rule in rules), default=0)
