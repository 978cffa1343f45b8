"""Captures packed by gzip and zstd, in pieces, and what is written."""

from __future__ import annotations

import gzip
import io
import sys
import tracemalloc
import zlib
from pathlib import Path
from random import Random

import captures
import pytest
import zstandard
from captures import ETHERNET, RAW, SLL, Captured

from upf.capture import CaptureError, CaptureStream, OutputFormat, Pieces, in_memory, open_capture
from upf.captures.compression import Unpacked
from upf.engine import Engine
from upf.replay import replay

PACKETS = captures.generate(captures.Traffic(packets=300))
PCAP = captures.pcap(PACKETS, nanoseconds=True)


def zstd(content: bytes) -> bytes:
    """A frame of many blocks, with a checksum."""
    packer = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    pieces = []
    for at in range(0, len(content), 5_000):
        pieces += [packer.compress(content[at : at + 5_000]), packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)]
    return b"".join(pieces) + packer.flush()


def unpacked(content: bytes, *, room: int = 1000) -> bytes:
    reader, pieces, buffer = Unpacked(io.BytesIO(content), name="x"), [], memoryview(bytearray(room))
    while read := reader.readinto(buffer):
        pieces.append(bytes(buffer[:read]))
    return b"".join(pieces)


SKIPPABLE = b"\x53\x2a\x4d\x18\x05\0\0\0hello"


@pytest.mark.parametrize(
    "content",
    [
        PCAP,
        gzip.compress(PCAP),
        gzip.compress(PCAP[:1000]) + gzip.compress(b"") + gzip.compress(PCAP[1000:]),
        gzip.compress(PCAP[:5]) + gzip.compress(PCAP[5:], 0) + bytes(700),
        zstd(PCAP),
        zstd(PCAP[:1000]) + SKIPPABLE + zstd(b"") + zstd(PCAP[1000:]),
        SKIPPABLE + zstd(PCAP),
    ],
    ids=["plain", "gzip", "members", "filled up", "zstd", "frames", "skippable first"],
)
def test_what_is_packed_in_several_parts_is_unpacked_to_its_end(content: bytes) -> None:
    for room in (1, 7, 1000, 1 << 20) if len(content) < 100_000 else (7, 1 << 18):
        assert unpacked(content, room=room) == PCAP


@pytest.mark.parametrize(("pack", "kind"), [(gzip.compress, "gzip"), (zstd, "zstd")])
def test_every_cut_of_packed_bytes_is_told_and_what_came_before_is_treated(pack, kind: str) -> None:
    content = pack(captures.pcap(PACKETS[:40]))
    for cut in [*range(4, len(content), 97), len(content) - 1]:
        engine, source = Engine(), Pieces()
        stream = CaptureStream(source, name="x")
        source.feed(content[:cut])
        source.end()
        while stream.more():
            offset, _, over = engine.run(stream.view, stream.format, offset=stream.offset, max_packets=100)
            stream.taken(offset, over=over)
        assert str(stream.error) == f"x: the {kind} data is cut: it ends early, after {cut} bytes"
        assert engine.packets <= 40
    assert engine.packets > 0


@pytest.mark.parametrize(("pack", "kind"), [(gzip.compress, "gzip"), (zstd, "zstd")])
def test_damaged_packed_bytes_are_one_line_or_do_no_harm(pack, kind: str) -> None:
    random = Random(1)
    content = pack(PCAP)
    told = 0
    for _ in range(100):
        damaged = bytearray(content)
        damaged[random.randrange(4, len(content))] ^= 1 << random.randrange(8)
        source = Pieces()
        stream = CaptureStream(source, name="x")
        source.feed(bytes(damaged))
        source.end()
        while stream.more():
            stream.taken(len(stream.view), over=False)
        if (error := str(stream.error or "")).startswith(f"x: the {kind} data is "):
            told += 1
        assert "\n" not in error
    assert told > 50


def test_what_follows_a_gzip_member_and_is_none_is_damage() -> None:
    with pytest.raises(CaptureError, match=r"x: the gzip data is damaged near byte \d+: incorrect header check"):
        unpacked(gzip.compress(PCAP) + b"garbage")


def test_few_packed_bytes_that_unpack_to_very_many_are_not_held_as_a_whole() -> None:
    zeros = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = zeros.compress(PCAP) + b"".join(zeros.compress(bytes(1 << 20)) for _ in range(200)) + zeros.flush()
    engine, source = Engine(), Pieces()
    stream = CaptureStream(source, name="x")
    tracemalloc.start()
    try:
        source.feed(packed)
        source.end()
        while stream.more():
            offset, _, over = engine.run(stream.view, stream.format, offset=stream.offset, max_packets=1 << 20)
            stream.taken(offset, over=over)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    # Zeros are records without a byte.
    assert (engine.packets, stream.error) == (300 + (200 << 20) // 16, None)


def test_without_the_package_for_zstd_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    advice = "the Python package 'zstandard' is missing: install it with pip install 'castcore[zstd]'"
    (tmp_path / "in.pcap").write_bytes(zstd(PCAP))
    with pytest.raises(CaptureError) as refused:
        open_capture(tmp_path / "in.pcap")
    assert str(refused.value) == f"{tmp_path}/in.pcap: is compressed with zstd, for which {advice}"
    with pytest.raises(CaptureError) as refused:
        replay([in_memory(PCAP, name="x")], [], output=tmp_path / "out.pcap.zst")
    assert str(refused.value) == (
        f"{tmp_path}/out.pcap.zst: cannot be written: its name asks for zstd, for which {advice}"
    )


# --- what is written --------------------------------------------------------------------------------------------------


def passed(path: Path) -> list[tuple[int, bytes, int, int]]:
    with open_capture(path) as capture:
        return [(record.ts_ns, record.data, record.wire_length, record.link_type) for record in capture.records()]


def well_formed(link_type: int, packets: int = 200) -> list[Captured]:
    return captures.generate(
        captures.Traffic(packets=packets, link_type=link_type, seed=link_type, malformed=False, fragments=False)
    )


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nanoseconds", [True, False])
@pytest.mark.parametrize(
    "name", ["out.pcap", "out.pcapng", "out.pcap.gz", "out.pcapng.gz", "out.pcap.zst", "out.pcapng.zst"]
)
def test_what_passes_is_written_as_the_name_says(tmp_path: Path, name: str, nanoseconds: bool, order: str) -> None:
    packets = well_formed(SLL)
    content = captures.pcap(packets, link_type=SLL, nanoseconds=nanoseconds, order=order)
    report = replay([in_memory(content, name="x")], [], output=tmp_path / name)
    assert report.totals.packets == 200
    assert passed(tmp_path / name) == [
        (ts_ns if nanoseconds else ts_ns // 1000 * 1000, data, wire_length, SLL) for ts_ns, data, wire_length in packets
    ]
    begins = {"gz": b"\x1f\x8b", "zst": b"\x28\xb5", "pcapng": b"\x0a\x0d", "pcap": captures.pcap([])[:0]}
    assert (tmp_path / name).read_bytes().startswith(begins[name.rpartition(".")[2]])


def test_several_link_types_make_a_pcapng_with_an_interface_each(tmp_path: Path) -> None:
    inputs = [
        in_memory(captures.pcap(well_formed(link_type), link_type=link_type, nanoseconds=True), name=str(link_type))
        for link_type in (ETHERNET, RAW, SLL)
    ]
    replay(inputs, [], output=tmp_path / "all.pcap")
    expected = [(*packet, link_type) for link_type in (ETHERNET, RAW, SLL) for packet in well_formed(link_type)]
    assert passed(tmp_path / "all.pcap") == expected
    assert (tmp_path / "all.pcap").read_bytes().startswith(b"\x0a\x0d\x0d\x0a")
    # And again, through the pcapng: interfaces are described once.
    with open_capture(tmp_path / "all.pcap") as capture:
        assert capture.link_types == [ETHERNET, RAW, SLL]
        replay([capture], [], output=tmp_path / "again.pcapng")
    assert passed(tmp_path / "again.pcapng") == expected
    assert (tmp_path / "again.pcapng").read_bytes() == (tmp_path / "all.pcap").read_bytes()


def test_a_link_type_that_comes_unannounced_has_no_place_in_a_pcap(tmp_path: Path) -> None:
    ethernet = captures.pcap(well_formed(ETHERNET), nanoseconds=True)
    raw = captures.pcap(well_formed(RAW), link_type=RAW, nanoseconds=True)
    for name, content in (("e", ethernet), ("r", raw)):
        replay([in_memory(content, name=name)], [], output=tmp_path / f"{name}.pcapng")
    both = (tmp_path / "e.pcapng").read_bytes() + (tmp_path / "r.pcapng").read_bytes()
    with pytest.raises(CaptureError) as refused:
        replay([in_memory(both, name="both")], [], output=tmp_path / "out.pcap")
    assert str(refused.value) == (
        f"{tmp_path}/out.pcap: cannot be written: a packet of link type 101 has no place in a pcap of link type 1, "
        "but has in a pcapng"
    )
    replay([in_memory(both, name="both")], [], output=tmp_path / "out.pcapng")
    assert [each[3] for each in passed(tmp_path / "out.pcapng")] == [ETHERNET] * 200 + [RAW] * 200


def test_runs_of_the_input_and_packets_one_by_one_make_the_same_output(tmp_path: Path) -> None:
    packets = captures.generate(captures.Traffic(packets=2_000, offered_bps=50_000_000))
    outputs = []
    for order in "<>":
        emitted, engine = bytearray(), Engine()
        engine.begin_output(OutputFormat.of([ETHERNET], nanoseconds=True))
        capture = in_memory(captures.pcap(packets, nanoseconds=True, order=order), name="x")
        engine.run(capture.view, capture.format, offset=24, max_packets=10_000, emit=emitted.extend)
        engine.finish(emit=emitted.extend)
        outputs.append(bytes(emitted))
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) > 500_000


def test_later_passes_over_packed_captures_count_nothing_anew() -> None:
    once = replay([in_memory(PCAP, name="x")], [])
    for content in (gzip.compress(PCAP), zstd(PCAP)):
        thrice = replay([in_memory(content, name="x")], [], repeat=3)
        assert thrice.totals == once.totals
    cut = replay([in_memory(gzip.compress(PCAP)[:-1], name="x")], [], repeat=3)
    assert (cut.totals, len(cut.errors)) == (once.totals, 1)
