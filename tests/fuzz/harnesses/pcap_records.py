"""Any bytes as a pcap: refused in words, or walked by the engine as by the reader in Python, never beyond the end."""

from __future__ import annotations

from collections.abc import Iterator

import captures

from fuzz.exact_buffer import exact_buffer
from upf.capture import CaptureError, parse_header, read_records
from upf.engine import Engine, time_span_ns


def check(data: bytes) -> None:
    try:
        capture_format = parse_header(data[:24], source="capture")
    except CaptureError as refused:
        assert str(refused).startswith("capture: "), str(refused)
        return
    walked, end, times = 0, len(data), []
    try:
        for record in read_records(memoryview(data), capture_format, source="capture"):
            walked += 1
            times.append(record.ts_ns)
    except CaptureError as cut:
        assert cut.offset is not None
        end = cut.offset
    engine = Engine(max_flows=64)
    with exact_buffer(data) as capture:
        found = engine.run(capture, capture_format, offset=24, max_packets=1 << 20)
        assert found[:2] == (end, walked), f"{found} != {(end, walked)}"
        span = time_span_ns(capture, capture_format, offset=24)
    assert span == ((min(times), max(times)) if times else (0, 0)), span
    engine.finish()
    assert engine.totals().packets == walked


def seeds() -> Iterator[bytes]:
    for number, order in enumerate("<>"):
        for nanoseconds in (False, True):
            traffic = captures.Traffic(seed=number, packets=6, flows=2, malformed=False)
            yield captures.pcap(captures.generate(traffic), nanoseconds=nanoseconds, order=order, snaplen=96)
