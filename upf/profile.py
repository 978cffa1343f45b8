"""Where the time of a replay goes, stage by stage: what ``castcore replay --profile`` tells.

Passes with a stop-watch around each stage of each batch take turns with passes that have none. The stages of a pass add
up to it; whether the stop-watch has changed what it measures is seen by comparing their sum with the other passes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from upf.captures.opening import Capture
from upf.engine import Engine

# Passes of each kind.
PASSES: Final = 5
STAGES: Final = ("read", "parse", "look-up", "police", "output")


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage's part of the time that a packet takes."""

    name: str
    ns_per_packet: float


@dataclass(frozen=True, slots=True)
class Profile:
    """The stages in their order, and ``whole_ns_per_packet``: the passes without a stop-watch."""

    stages: tuple[Stage, ...]
    whole_ns_per_packet: float

    @property
    def sum_ns_per_packet(self) -> float:
        """All stages."""
        return sum(stage.ns_per_packet for stage in self.stages)


def profile(
    engine: Engine,
    captures: Sequence[Capture],
    *,
    time_offsets_ns: Callable[[int], int],
    chunk_packets: int,
    output: bool,
) -> Profile | None:
    """Times 2 · PASSES passes over captures that are held in memory; None where they have no packets.

    time_offsets_ns: of each pass by its number, from 0 on. output: whether what passes is written, to nowhere.
    """
    emit = _nowhere if output else None
    plain, stages = [], []
    for number in range(PASSES):
        elapsed_ns, packets, _ = _pass(engine, captures, time_offsets_ns(2 * number), chunk_packets, emit, timed=False)
        if not packets:
            return None
        plain.append(elapsed_ns / packets)
        elapsed_ns, packets, ticks = _pass(
            engine, captures, time_offsets_ns(2 * number + 1), chunk_packets, emit, timed=True
        )
        read, parse, look_up, again, judge, emitted, whole = ticks
        # Judging looks up once more, but in the cache by then: what that takes has been measured by itself.
        parts = (read, parse, look_up, max(judge - again, 0), emitted)
        ns_per_tick = elapsed_ns / whole
        stages.append([part * ns_per_tick / packets for part in parts])
    medians = [median(column) for column in zip(*stages, strict=True)]
    told = tuple(Stage(name, ns) for name, ns in zip(STAGES, medians, strict=True) if output or name != "output")
    return Profile(told, median(plain))


def _pass(
    engine: Engine,
    captures: Sequence[Capture],
    time_offset_ns: int,
    chunk_packets: int,
    emit: Callable[[memoryview], None] | None,
    *,
    timed: bool,
) -> tuple[int, int, list[int]]:
    """Nanoseconds, packets, and the ticks of each stage with those of the whole behind them."""
    ticks = [0] * 7
    elapsed_ns = packets = 0
    for capture in captures:
        stream = capture.stream()
        while stream.more():
            run = engine.run_timed if timed else engine.run
            started_ns = time.perf_counter_ns()
            offset, processed, over, *spent = run(
                stream.view,
                stream.format,
                offset=stream.offset,
                max_packets=chunk_packets,
                time_offset_ns=time_offset_ns,
                emit=emit,
            )
            elapsed_ns += time.perf_counter_ns() - started_ns
            packets += processed
            if spent:
                ticks = [had + more for had, more in zip(ticks, spent[0], strict=True)]
            stream.taken(offset, over=over)
    engine.finish(emit=emit)
    return elapsed_ns, packets, ticks


def _nowhere(_: memoryview) -> None:
    """Takes what passes."""
