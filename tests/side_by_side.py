"""The compiled engine and the plain-Python reference on the same packets: verdicts, counters, bytes that pass."""

from __future__ import annotations

import io
import struct
from collections import Counter
from collections.abc import Sequence

from upf import engine as _engine
from upf.capture import CaptureFormat, OutputFormat, write_header
from upf.counters import FlowCounters, Measure
from upf.engine import Engine
from upf.reference import Reference, Released, Verdict, What
from upf.rules import Rule


def capture_of(link_type: int, packets: Sequence[tuple[int, bytes, int]]) -> tuple[bytes, CaptureFormat]:
    stream = io.BytesIO()
    capture_format = write_header(stream, link_type=link_type, nanoseconds=True)
    for ts_ns, data, wire_length in packets:
        stream.write(struct.pack("=IIII", *divmod(ts_ns, 10**9), len(data), wire_length) + data)
    return stream.getvalue(), capture_format


def verdict_code(verdict: Verdict) -> int:
    if verdict.what is What.MALFORMED:
        return _engine.MALFORMED
    if verdict.what is What.HELD:
        return _engine.HELD
    if verdict.what in (What.NON_IP, What.UNMATCHED):
        return _engine.UNMATCHED
    if verdict.conforms:
        return _engine.CONFORMING
    return _engine.EXCEEDING if verdict.passed else _engine.DROPPED


def compare(engine: Engine, reference: Reference) -> None:
    assert engine.totals() == reference.totals()
    assert engine.rule_counters() == reference.rule_counters()

    def counted(flows: list[FlowCounters]) -> Counter[tuple[object, ...]]:
        return Counter(
            (
                flow.source, flow.destination, flow.protocol, flow.source_port, flow.destination_port,
                flow.ports_known, flow.spi, flow.teid, flow.qfi, flow.rule, flow.conforming_packets,
                flow.conforming_bytes, flow.excess_packets, flow.excess_bytes,
            )
            for flow in flows
        )  # fmt: skip

    assert counted(engine.flows()) == counted(reference.flows())


def judged_alike(
    packets: Sequence[tuple[int, bytes, int]],
    rules: Sequence[Rule],
    link_type: int,
    *,
    measure: Measure = Measure.L3,
    gtpu: bool = True,
    chunk: int = 1 << 30,
) -> Engine:
    """Runs both over packets (time in ns, captured bytes, length on the wire), the engine in chunks; compares all."""
    reference, engine = Reference(rules, measure=measure, gtpu=gtpu), Engine(measure=measure, gtpu=gtpu)
    engine.install(rules)
    engine.begin_output(OutputFormat.of([link_type], nanoseconds=True))
    output = bytearray()
    capture, capture_format = capture_of(link_type, packets)
    verdicts = bytearray()
    offset = 24
    while len(verdicts) < len(packets):
        judged = bytearray(min(chunk, len(packets) - len(verdicts)))
        offset, processed, _ = engine.run(
            capture, capture_format, offset=offset, max_packets=len(judged), verdicts=judged, emit=output.extend
        )
        assert processed == len(judged)
        verdicts += judged
    assert offset == len(capture)
    passed: list[tuple[int, bytes, int]] = []
    for number, ((ts_ns, data, wire_length), code) in enumerate(zip(packets, verdicts, strict=True)):
        verdict = reference.process(ts_ns, data, wire_length, link_type)
        assert code == verdict_code(verdict), f"packet {number}, {data.hex()}: the reference says {verdict}"
        taken = [*verdict.before, Released(data, wire_length, verdict), *verdict.after]
        passed += [(ts_ns, each.data, each.wire_length) for each in taken if each.verdict.passed]
    compare(engine, reference)
    engine.finish(emit=output.extend)
    passed += [(packets[-1][0], each.data, each.wire_length) for each in reference.finish() if each.verdict.passed]
    compare(engine, reference)
    assert output == capture_of(link_type, passed)[0][24:]
    assert engine.totals().packets == len(packets)
    return engine
