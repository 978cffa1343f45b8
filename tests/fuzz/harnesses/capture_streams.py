"""Any bytes as a capture that arrives in pieces, packed or not: it holds, and ends, as it does where it stands whole.

An input is a byte that says how the rest is packed here, one for the sizes of the pieces, and the rest.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from random import Random
from typing import Final

from fuzz.exact_buffer import exact_buffer
from fuzz.harnesses import pcap_records, pcapng_blocks
from upf.capture import CaptureError, in_memory
from upf.captures.stream import CaptureStream, Pieces
from upf.engine import Engine


def zstd(data: bytes) -> bytes:
    if find_spec("zstandard") is None:
        return data
    from zstandard import ZstdCompressor

    return ZstdCompressor(level=1).compress(data)


DAMAGED: Final = " data is damaged near byte "
PACKINGS: Final[tuple[Callable[[bytes], bytes], ...]] = (
    bytes,
    lambda data: gzip.compress(data, 1, mtime=0),
    zstd,
    lambda data: gzip.compress(data[:100], 1, mtime=0) + gzip.compress(data[100:], 1, mtime=0),
)


def check(data: bytes) -> None:
    if len(data) < 2:
        return
    content = PACKINGS[data[0] % len(PACKINGS)](data[2:])
    if data[0] & 0x80:
        content = content[: len(content) * 3 // 4]
    whole, whole_error = walked_whole(content)
    engine = Engine(max_flows=64)
    pieces, random = Pieces(), Random(data[1])
    stream, at = CaptureStream(pieces, name="capture"), 0
    while at < len(content) and stream.error is None:
        size = random.choice((1, 7, 24, 100, 4096))
        pieces.feed(content[at : at + size])
        at += size
        walk(engine, stream)
    pieces.end()
    walk(engine, stream)
    engine.finish()
    error = None if stream.error is None else str(stream.error)
    if DAMAGED in (whole_error or "") or DAMAGED in (error or ""):
        # How much could be unpacked before that depends on the pieces.
        assert error is not None
        assert whole_error is not None
        return
    assert error == whole_error, f"in pieces: {error}; whole: {whole_error}"
    assert engine.totals() == whole.totals()


def walked_whole(content: bytes) -> tuple[Engine, str | None]:
    engine = Engine(max_flows=64)
    try:
        capture = in_memory(content, name="capture")
    except CaptureError as refused:
        assert str(refused).startswith("capture: "), str(refused)
        return engine, str(refused)
    stream = capture.stream()
    walk(engine, stream)
    engine.finish()
    return engine, None if stream.error is None else str(stream.error)


def walk(engine: Engine, stream: CaptureStream) -> None:
    # As whoever opens a capture does, before the first packet is asked for.
    stream.begin()
    while stream.more():
        with exact_buffer(bytes(stream.view[stream.offset :])) as view:
            at, _, over = engine.run(view, stream.format, offset=0, max_packets=1 << 20)
        stream.taken(stream.offset + at, over=over)


def seeds() -> Iterator[bytes]:
    for number, content in enumerate((*pcap_records.seeds(), *pcapng_blocks.seeds())):
        yield bytes((number, number)) + content
    # A section and nothing in it.
    section = next(pcapng_blocks.seeds())[:28]
    yield from (bytes((0, 0)) + section, bytes((0, 0)) + section * 2, bytes((1, 0)) + section[:27])
    yield bytes((0x81, 1)) + next(pcap_records.seeds())
    yield bytes((0x82, 2)) + next(pcapng_blocks.seeds())
