"""On any captures the engine counts what the reference and capinfos count; what cannot be read is refused in one line.

REAL_CAPTURES names a folder; everything in it and below counts as a capture, whatever it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from upf.capture import CaptureError, open_capture
from upf.counters import FlowCounters
from upf.engine import Engine
from upf.reference import Reference
from upf.rules import Mode, Policer, Rule
from upf.sdf import parse_filter

FOLDER = Path(os.environ.get("REAL_CAPTURES", ""))
CAPTURES = sorted(path for path in FOLDER.rglob("*") if path.is_file()) if FOLDER.name else []

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


def walked(path: Path, engine: Engine) -> str:
    """Sends a capture through the engine; how it ended, empty where it ended well."""
    try:
        with open_capture(path) as capture:
            stream = capture.stream()
            while stream.more():
                offset, _, over = engine.run(stream.view, stream.format, offset=stream.offset, max_packets=1 << 32)
                stream.taken(offset, over=over)
            engine.finish()
            return "" if stream.error is None else str(stream.error)
    except CaptureError as refused:
        return str(refused)


def read(path: Path, reference: Reference) -> str:
    """The same by the walk in plain Python."""
    try:
        with open_capture(path) as capture:
            for record in capture.records():
                reference.process(record.ts_ns, record.data, record.wire_length, record.link_type)
    except CaptureError as refused:
        return str(refused)
    finally:
        reference.finish()
    return ""


PATHS = pytest.mark.parametrize("path", CAPTURES, ids=lambda path: str(path.relative_to(FOLDER)))


@PATHS
def test_the_engine_agrees_with_the_reference(path: Path) -> None:
    engine, reference = Engine(), Reference(rules())
    engine.install(rules())
    ended = walked(path, engine)
    assert ended == read(path, reference)
    assert "\n" not in ended
    assert not ended or ended.startswith(f"{path}: ")
    assert engine.totals() == reference.totals()
    assert engine.rule_counters() == reference.rule_counters()
    assert told(engine.flows()) == told(reference.flows())
    assert engine.inspection() == reference.inspection()


@PATHS
@pytest.mark.skipif(shutil.which("capinfos") is None, reason="capinfos is not installed (wireshark-common)")
def test_as_many_packets_are_read_as_capinfos_counts(path: Path) -> None:
    engine = Engine()
    if ended := walked(path, engine):
        pytest.skip(f"refused: {ended}")
    # A table without its header, and without the units: name, packets.
    command = ["capinfos", "-T", "-r", "-M", "-c", str(path)]
    counted = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\t")
    assert engine.totals().packets == int(counted[1])
