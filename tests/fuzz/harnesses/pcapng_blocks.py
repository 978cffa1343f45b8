"""Any bytes as a pcapng: walked by the engine as by the reader in Python, and what passes is written as it was read."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import captures

from fuzz.exact_buffer import exact_buffer
from upf.capture import CaptureError, OutputFormat, Record
from upf.captures.pcapng import read_records
from upf.engine import HELD, MALFORMED, Engine, Walk

# Beyond these, times have no place in the 64 bits of a block that counts nanoseconds, or in those of the engine.
EARLIEST_NS, LATEST_NS = 0, 1 << 62


def check(data: bytes) -> None:
    expected: list[Record] = []
    end = len(data)
    try:
        for record in read_records(memoryview(data), source="capture"):
            expected.append(record)
    except CaptureError as cut:
        assert cut.offset is not None
        assert str(cut).startswith("capture: "), str(cut)
        end = cut.offset
    if end < len(data) and not expected and not data.startswith(b"\x0a\x0d\x0d\x0a"):
        return
    engine, output, verdicts = Engine(max_flows=64), bytearray(), bytearray(len(expected) + 1)
    link_types = list(dict.fromkeys(record.link_type for record in expected)) or [captures.ETHERNET]
    written = OutputFormat.of(link_types, nanoseconds=True, pcapng=True)
    engine.begin_output(written)
    with exact_buffer(data) as capture:
        walked = engine.run(capture, Walk(), offset=0, max_packets=len(verdicts), emit=output.extend, verdicts=verdicts)
    assert walked[:2] == (end, len(expected)), f"{walked} != {(end, len(expected))}"
    engine.finish(emit=output.extend)
    assert engine.totals().packets == len(expected)
    passed = [record for record, verdict in zip(expected, verdicts, strict=False) if verdict != MALFORMED]
    again = list(read_records(memoryview(written.beginning() + bytes(output)), source="output"))
    assert len(again) == len(passed)
    # What was held is given out later, at the time at which it is judged.
    if HELD not in verdicts and all(EARLIEST_NS <= record.ts_ns < LATEST_NS for record in expected):
        assert [told(record) for record in again] == [told(record) for record in passed]


def told(record: Record) -> tuple[object, ...]:
    return record.ts_ns, record.data, record.wire_length, record.link_type


def block(order: str, kind: int, content: bytes) -> bytes:
    content += bytes(-len(content) % 4)
    length = 12 + len(content)
    return struct.pack(order + "II", kind, length) + content + struct.pack(order + "I", length)


def interface(order: str, link_type: int, *, resolution: int | None = None, offset_s: int | None = None) -> bytes:
    content = struct.pack(order + "HHI", link_type, 0, 96)
    if resolution is not None:
        content += struct.pack(order + "HHB3x", 9, 1, resolution)
    if offset_s is not None:
        content += struct.pack(order + "HHq", 14, 8, offset_s)
    return block(order, 1, content + bytes(4))


def seeds() -> Iterator[bytes]:
    for order in "<>":
        for resolution, offset_s in ((None, None), (9, None), (6, -3_600), (0x8A, 1), (0, None)):
            packets = captures.generate(captures.Traffic(seed=3, packets=5, flows=2, malformed=False))
            content = struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1)
            blocks = [
                block(order, 0x0A0D0D0A, content),
                interface(order, captures.ETHERNET, resolution=resolution, offset_s=offset_s),
                interface(order, captures.RAW),
            ]
            for number, packet in enumerate(packets):
                data = packet.data[:96]
                units = packet.ts_ns // 1000
                if number % 3 == 0:
                    blocks.append(block(order, 3, struct.pack(order + "I", len(packet.data)) + data))
                else:
                    header = struct.pack(
                        order + "IIIII", number % 2, units >> 32, units & 0xFFFFFFFF, len(data), len(packet.data)
                    )
                    blocks.append(block(order, 6, header + data))
            yield b"".join([*blocks, block(order, 4, bytes(4))])
