from __future__ import annotations

import gzip
import io
import os
import struct
import sys
from pathlib import Path

import captures
import pytest

from upf.capture import (
    CaptureError,
    CaptureFormat,
    CaptureWriter,
    OutputFormat,
    Record,
    open_capture,
    parse_header,
    write_header,
)
from upf.engine import Engine

NATIVE = "<" if sys.byteorder == "little" else ">"
MICROSECONDS, NANOSECONDS = 0xA1B2C3D4, 0xA1B23C4D


def header(order: str = "<", magic: int = MICROSECONDS, link_type: int = 1, version: tuple[int, int] = (2, 4)) -> bytes:
    return struct.pack(order + "IHHiIII", magic, *version, 0, 0, 65535, link_type)


def record(
    seconds: int, fraction: int, data: bytes, *, order: str = "<", captured: int | None = None, wire: int = 1500
) -> bytes:
    return struct.pack(order + "IIII", seconds, fraction, len(data) if captured is None else captured, wire) + data


def written(directory: Path, content: bytes) -> Path:
    path = directory / "x.pcap"
    path.write_bytes(content)
    return path


def refusal_of(path: Path) -> str:
    with pytest.raises(CaptureError) as refused:
        open_capture(path)
    message = str(refused.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("magic", "ts_ns"), [(MICROSECONDS, 7_000_000_999_000), (NANOSECONDS, 7_000_000_000_999)])
def test_records_are_read_in_either_resolution_and_byte_order(
    tmp_path: Path, order: str, magic: int, ts_ns: int
) -> None:
    content = header(order, magic) + record(7000, 999, b"abc", order=order) + record(0, 0, b"", order=order, wire=9)
    with open_capture(written(tmp_path, content)) as capture:
        assert capture.format == CaptureFormat(
            swapped=order != NATIVE, nanoseconds=magic == NANOSECONDS, link_type=1, snaplen=65535, header_bytes=24
        )
        assert bytes(capture.view) == content
        assert list(capture.records()) == [Record(ts_ns, b"abc", 1500, 24, 1), Record(0, b"", 9, 43, 1)]


@pytest.mark.parametrize("snaplen", [262_144, 96])
@pytest.mark.parametrize("nanoseconds", [True, False])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_long_capture_is_read_packet_by_packet(tmp_path: Path, order: str, nanoseconds: bool, snaplen: int) -> None:
    packets = captures.generate(captures.Traffic(packets=500))
    content = captures.pcap(packets, order=order, nanoseconds=nanoseconds, snaplen=snaplen)
    ns_per_unit = 1 if nanoseconds else 1000
    with open_capture(written(tmp_path, content)) as capture:
        assert [each[:3] for each in capture.records()] == [
            (ts_ns // ns_per_unit * ns_per_unit, data[:snaplen], wire_length) for ts_ns, data, wire_length in packets
        ]


def test_a_capture_without_packets_has_no_records(tmp_path: Path) -> None:
    with open_capture(written(tmp_path, header())) as capture:
        assert list(capture.records()) == []


def test_only_the_low_16_bits_of_the_link_type_field_are_the_type() -> None:
    assert parse_header(header(link_type=0x5C00_0071), source="x").link_type == 113


@pytest.mark.parametrize("link_type", [0, 1, 12, 14, 101, 108, 113, 228, 229, 276])
def test_the_link_types_of_the_user_plane_are_supported(link_type: int) -> None:
    assert parse_header(header(link_type=link_type), source="x").link_type == link_type


def test_another_link_type_is_refused_with_those_that_are_supported() -> None:
    with pytest.raises(CaptureError) as refused:
        parse_header(header(link_type=127), source="x.pcap")
    assert str(refused.value) == (
        "x.pcap: link type 127 is not supported, expected one of 0 (NULL), 1 (Ethernet), 12 (raw IP), 14 (raw IP), "
        "101 (raw IP), 108 (LOOP), 113 (Linux SLL), 228 (IPv4), 229 (IPv6), 276 (Linux SLL2)"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\xd4\xc3\xb2", "is shorter than the header of a pcap: 3 of 24 bytes"),
        (header()[:23], "is shorter than the header of a pcap: 23 of 24 bytes"),
        (b"hello, world", "is not a pcap or pcapng (it begins with 68 65 6c 6c)"),
        (
            b"\x0a\x0d\x0d\x0a" + bytes(100),
            "the section header block at byte 0 has the byte-order magic 00 00 00 00, expected 1a 2b 3c 4d or "
            "4d 3c 2b 1a",
        ),
        (b"\x1f\x8b\x08\x00", "the gzip data is cut: it ends early, after 4 bytes"),
        (b"\x28\xb5\x2f\xfd", "the zstd data is cut: it ends early, after 4 bytes"),
        (
            gzip.compress(gzip.compress(b"a", mtime=0), mtime=0),
            "is not a pcap or pcapng: it is gzip within another compression; unpack it with 'gunzip' "
            "(it begins with 1f 8b 08 00)",
        ),
        (
            b"\xfd7zXZ\0",
            "is not a pcap or pcapng: it is xz; unpack it with 'unxz' (it begins with fd 37 7a 58)",
        ),
        (header(version=(1, 0)), "is pcap version 1.0, expected 2.4"),
    ],
)
def test_a_file_that_is_no_pcap_is_refused_in_one_line_that_names_it(
    tmp_path: Path, content: bytes, message: str
) -> None:
    assert refusal_of(written(tmp_path, content)) == message


def test_a_file_that_cannot_be_opened_is_refused_in_one_line_that_names_it(tmp_path: Path) -> None:
    assert refusal_of(tmp_path / "none.pcap") == "no such file"
    assert refusal_of(tmp_path) == "is a directory"
    (tmp_path / "loop").symlink_to("loop")
    assert refusal_of(tmp_path / "loop") == "cannot be read: Too many levels of symbolic links"


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        (b"\0" * 15, "the record at byte 43 is cut: 15 of the 16 bytes of its header are there"),
        (record(1, 2, b"abcd", captured=5), "the record at byte 43 is cut: 4 of its 5 captured bytes are there"),
        (
            record(1, 2, b"abcd", captured=262_145),
            "the record at byte 43 is implausible: it claims 262145 captured bytes, expected at most 262144",
        ),
    ],
)
def test_a_cut_is_told_with_its_place_after_all_that_came_before(tmp_path: Path, tail: bytes, message: str) -> None:
    path = written(tmp_path, header() + record(1, 2, b"abc") + tail)
    before = []
    with open_capture(path) as capture, pytest.raises(CaptureError) as refused:  # noqa: PT012 - the order is the point
        for each in capture.records():
            before.append(each)
    assert [each.data for each in before] == [b"abc"]
    assert str(refused.value) == f"{path}: {message}"
    assert refused.value.offset == 43


def test_the_longest_plausible_record_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, header() + record(1, 2, bytes(262_144)))
    with open_capture(path) as capture:
        assert [len(each.data) for each in capture.records()] == [262_144]


def test_a_file_that_another_program_cuts_short_is_cut_and_not_the_end_of_the_process(tmp_path: Path) -> None:
    path = written(tmp_path, header() + record(1, 2, bytes(60_000)) * 20)
    engine = Engine()
    with open_capture(path) as capture:
        stream = capture.stream()
        assert stream.more()
        offset, _, over = engine.run(stream.view, stream.format, offset=stream.offset, max_packets=100)
        stream.taken(offset, over=over)
        os.truncate(path, 500_000)
        while stream.more():
            offset, _, over = engine.run(stream.view, stream.format, offset=stream.offset, max_packets=100)
            stream.taken(offset, over=over)
    at = 24 + 8 * 60_016
    assert str(stream.error) == (
        f"{path}: the record at byte {at} is cut: {500_000 - at - 16} of its 60000 captured bytes are there"
    )
    assert engine.packets == 8


def test_a_header_can_be_written_into_memory() -> None:
    stream = io.BytesIO()
    capture_format = write_header(stream, link_type=101, nanoseconds=True)
    assert parse_header(stream.getvalue(), source="memory") == capture_format


def test_an_output_that_is_an_input_is_refused_before_it_is_touched(tmp_path: Path) -> None:
    path = written(tmp_path, header() + record(1, 2, b"abc"))
    (tmp_path / "link.pcap").symlink_to(path)
    with open_capture(path) as capture, pytest.raises(CaptureError) as refused:
        CaptureWriter(tmp_path / "link.pcap", OutputFormat.of([1], nanoseconds=False), inputs=[capture.identity])
    assert str(refused.value) == f"{tmp_path}/link.pcap: cannot be written: it is an input too"
    assert path.stat().st_size == 43


def test_an_output_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(CaptureError) as refused:
        CaptureWriter(tmp_path / "none" / "out.pcap", OutputFormat.of([1], nanoseconds=False))
    assert str(refused.value) == f"{tmp_path}/none/out.pcap: cannot be written: No such file or directory"
