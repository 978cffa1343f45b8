"""castcore's engine at the work of meter.c: a line of JSON once it is ready and after each pass of the capture.

engine_passes.py CAPTURE RATE_BPS BURST_BYTES: every 5-tuple has a bucket of its own. A line of standard input asks for
a pass. Each is so much later than the one before that every bucket is full again: as `castcore replay --repeat` does.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from upf.capture import Capture, open_capture
from upf.engine import Engine, time_span_ns
from upf.replay import CHUNK_PACKETS
from upf.rules import Mode, Policer, Rule
from upf.sdf import parse_filter

EVERYTHING = parse_filter("permit out ip from any to any")


def rule(rate_bps: int, burst_bytes: int) -> Rule:
    return Rule("flows", 100, (EVERYTHING,), Policer(rate_bps, burst_bytes), Mode.POLICE, per_flow=True)


def run_pass(engine: Engine, capture: Capture, shift_ns: int) -> None:
    """As replay() does it."""
    stream = capture.stream()
    while stream.more():
        offset, _, over = engine.run(
            stream.view, stream.format, offset=stream.offset, max_packets=CHUNK_PACKETS, time_offset_ns=shift_ns
        )
        stream.taken(offset, over=over)
    assert stream.error is None, stream.error
    engine.finish()


def main(path: str, rate_bps: int, burst_bytes: int) -> None:
    with open_capture(Path(path)) as capture:
        capture.hold()
        stream = capture.stream()
        assert stream.more()
        earliest_ns, latest_ns = time_span_ns(stream.view, stream.format, offset=stream.offset)
        shift_ns = latest_ns - earliest_ns + -(-burst_bytes * 8 * 10**9 // rate_bps) + 1
        engine = Engine(max_flows=1 << 20)
        engine.install([rule(rate_bps, burst_bytes)])
        run_pass(engine, capture, 0)
        before = engine.rule_counters()["flows"]
        print(json.dumps({"packets": before.packets, "flows": engine.totals().flows}), flush=True)
        for number, _ in enumerate(sys.stdin, start=1):
            wall_ns, core_ns = time.perf_counter_ns(), time.thread_time_ns()
            run_pass(engine, capture, shift_ns * number)
            core_ns, wall_ns = time.thread_time_ns() - core_ns, time.perf_counter_ns() - wall_ns
            now = engine.rule_counters()["flows"]
            figures = {
                key: getattr(now, key) - getattr(before, key)
                for key in ("packets", "passed_packets", "passed_bytes", "dropped_packets", "dropped_bytes")
            }
            print(json.dumps(figures | {"wall_ns": wall_ns, "core_ns": core_ns}), flush=True)
            before = now


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
