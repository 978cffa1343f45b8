"""On captures of real applications the engine counts what the reference counts, and every capture ends in an answer."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from upf.capture import open_capture
from upf.counters import FlowCounters
from upf.engine import Engine
from upf.reference import Reference
from upf.rules import Mode, Policer, Rule
from upf.sdf import parse_filter

FOLDER = Path(os.environ.get("REAL_CAPTURES", ""))
CAPTURES = sorted(path for path in FOLDER.iterdir() if path.suffix in (".pcap", ".pcapng")) if FOLDER.name else []

pytestmark = pytest.mark.skipif(not CAPTURES, reason="REAL_CAPTURES names no folder with captures")


def rules() -> list[Rule]:
    named = [f"permit out ip from any to any domain *.{name}" for name in ("com", "org", "net", "de", "site")]
    return [
        Rule("named", 5, tuple(map(parse_filter, named)), Policer(500_000, 10_000), Mode.MONITOR, True),
        Rule("web", 10, (parse_filter("permit out 6 from any 80,443 to any"),), Policer(300_000, 15_000), Mode.POLICE),
        Rule("udp", 20, (parse_filter("permit out 17 from any to any"),), Policer(100_000, 5_000), Mode.MONITOR, True),
        Rule("rest", 30, (parse_filter("permit out ip from any to any"),), None, Mode.MONITOR),
    ]


def told(flows: list[FlowCounters]) -> Counter[tuple[object, ...]]:
    return Counter(
        (
            f.source,
            f.destination,
            f.protocol,
            f.source_port,
            f.destination_port,
            f.rule,
            f.conforming_bytes,
            f.excess_bytes,
        )
        for f in flows
    )


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.name)
def test_the_engine_agrees_with_the_reference(path: Path) -> None:
    engine, reference = Engine(), Reference(rules())
    engine.install(rules())
    with open_capture(path) as capture:
        stream = capture.stream()
        while stream.more():
            offset, _, over = engine.run(stream.view, stream.format, offset=stream.offset, max_packets=1 << 32)
            stream.taken(offset, over=over)
        assert stream.error is None
    with open_capture(path) as capture:
        for record in capture.records():
            reference.process(record.ts_ns, record.data, record.wire_length, record.link_type)
    engine.finish()
    reference.finish()
    assert engine.totals() == reference.totals()
    assert engine.rule_counters() == reference.rule_counters()
    assert told(engine.flows()) == told(reference.flows())
    assert engine.inspection() == reference.inspection()
