"""pcapng in: the plain-Python walk against files made block by block, the compiled one against the plain-Python one."""

from __future__ import annotations

import struct
from pathlib import Path
from random import Random

import captures
import pytest
from captures import ETHERNET, RAW, SLL, START_NS
from hypothesis import given, settings
from hypothesis import strategies as st
from pcapng_files import CUSTOM, NAMES, Port, block, enhanced, obsolete, option, section, simple

from upf.capture import CaptureError, CaptureStream, Pieces, Record, in_memory, open_capture
from upf.engine import Engine, Walk, time_span_ns

DATA = bytes(range(60))


def records_and_error(content: bytes) -> tuple[list[Record], str, int | None]:
    """What the walk in plain Python reads, and what it ends with."""
    records: list[Record] = []
    try:
        for record in in_memory(content, name="x").records():
            records.append(record)
    except CaptureError as error:
        return records, str(error), error.offset
    return records, "", None


def engine_walk(content: bytes, *, piece_bytes: int = 1 << 30) -> tuple[Engine, str, int | None]:
    """What the compiled walk does with it, fed in pieces."""
    source = Pieces()
    stream, engine = CaptureStream(source, name="x"), Engine()

    def walk() -> None:
        while stream.more():
            offset, _, over = engine.run(stream.view, stream.format, offset=stream.offset, max_packets=100)
            stream.taken(offset, over=over)

    for at in range(0, len(content), piece_bytes):
        source.feed(content[at : at + piece_bytes])
        walk()
        if stream.error is not None:
            break
    else:
        source.end()
        walk()
    engine.finish()
    error = stream.error
    return engine, str(error or ""), error.offset if error is not None else None


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("offset_s", [None, 1_000_000_000, -5])
@pytest.mark.parametrize(
    ("resolution", "units", "ns"),
    [
        (None, 7_000_001, 7_000_001_000),
        (0, 7, 7_000_000_000),
        (3, 7_001, 7_001_000_000),
        (9, 7_000_000_001, 7_000_000_001),
        (12, 7_000_000_001_999, 7_000_000_001),
        (19, 2**64 - 1, 1_844_674_407),
        (29, 2**64 - 1, 0),
        (127, 2**64 - 1, 0),
        (0x80, 7, 7_000_000_000),
        (0x80 + 10, 7 * 1024 + 1, 7_000_976_562),
        (0x80 + 32, (7 << 32) + 1, 7_000_000_000),
        (0x80 + 63, 2**64 - 1, 1_999_999_999),
        (0x80 + 64, 2**64 - 1, 999_999_999),
        (0x80 + 127, 2**64 - 1, 0),
    ],
)
def test_a_time_is_units_of_the_interface_s_resolution_from_its_offset(
    order: str, offset_s: int | None, resolution: int | None, units: int, ns: int
) -> None:
    port = Port(resolution=resolution, offset_s=offset_s)
    content = section(order) + port.description(order) + enhanced(order, 0, units, DATA, 60)
    expected = ns + (offset_s or 0) * 10**9
    records, error, _ = records_and_error(content)
    if expected < 0:
        assert (records, "outside of the years 1970 to 2116" in error) == ([], True)
        assert engine_walk(content)[0].packets == 0
    else:
        assert [record.ts_ns for record in records] == [expected]
        # A span of (0, 0) is no packet.
        assert time_span_ns(content, Walk(), offset=0) == (expected, expected)


def test_sections_and_interfaces_each_have_their_own_order_link_type_and_resolution() -> None:
    ip = captures.ipv4(1, 2, 17, captures.ports(1, 2))
    content = b"".join([
        section("<"),
        Port(RAW).description("<"),
        Port(SLL, resolution=9).description("<"),
        enhanced("<", 1, START_NS, captures.framed(ip, SLL), 99),
        block("<", NAMES, bytes(40)),
        enhanced("<", 0, START_NS // 1000, ip, 28),
        section(">"),
        Port(ETHERNET, resolution=3).description(">"),
        block(">", CUSTOM, bytes(8)),
        enhanced(">", 0, START_NS // 10**6 + 5, captures.framed(ip, ETHERNET), 60, options=option(">", 1, b"yes")),
        obsolete(">", 0, START_NS // 10**6 + 6, captures.framed(ip, ETHERNET), 61),
        simple(">", captures.framed(ip, ETHERNET), 42),
    ])  # fmt: skip
    records, error, _ = records_and_error(content)
    assert error == ""
    assert [(record.ts_ns - START_NS, record.wire_length, record.link_type) for record in records] == [
        (0, 99, SLL),
        (0, 28, RAW),
        (5_000_000, 60, ETHERNET),
        (6_000_000, 61, ETHERNET),
        # No time of its own: that of the packet before it.
        (6_000_000, 42, ETHERNET),
    ]
    for piece_bytes in (1 << 20, 7, 1):
        engine, error, _ = engine_walk(content, piece_bytes=piece_bytes)
        assert error == ""
        totals = engine.totals()
        assert (totals.packets, totals.bytes, totals.flows, totals.malformed_packets) == (5, 5 * 28, 1, 0)


def test_a_simple_packet_is_cut_by_the_snaplen_and_filled_up() -> None:
    content = section() + Port(snaplen=33).description() + simple("<", DATA[:33], 1500) + simple("<", DATA[:30], 30)
    records, error, _ = records_and_error(content)
    assert (error, [(record.ts_ns, record.data, record.wire_length) for record in records]) == (
        "",
        [(0, DATA[:33], 1500), (0, DATA[:30], 30)],
    )
    assert engine_walk(content)[0].packets == 2


ORDER = "<"
START = section() + Port().description()
AT = len(START)


@pytest.mark.parametrize(
    ("tail", "says"),
    [
        (enhanced("<", 1, 0, DATA, 60), f"the enhanced packet block at byte {AT} is of interface 1, where 1 are"),
        (
            Port(189).description() + enhanced("<", 1, 0, DATA, 60),
            f"the enhanced packet block at byte {AT + 20} is of interface 1 with link type 189, which is not supported",
        ),
        (
            block("<", 6, struct.pack("<IIIII", 0, 0, 0, 61, 61) + DATA),
            "is implausible: it claims 61 captured bytes, expected at most 60",
        ),
        (
            block("<", 3, struct.pack("<I", 61) + DATA),
            "the simple packet block at byte 48 is implausible: it claims 61 captured bytes, expected at most 60",
        ),
        (
            block("<", 6, struct.pack("<IIIII", 0, 0, 0, 262_145, 262_145) + bytes(262_148)),
            "it claims 262145 captured bytes, expected at most 262144",
        ),
        (block("<", 5, bytes(8), length=21), "the block of type 5 at byte 48 is implausible: it claims 21 bytes"),
        (block("<", 6, bytes(8)), "it claims 20 bytes, expected a multiple of 4 from 32 to 16777216"),
        (block("<", 5, b"", length=(16 << 20) + 4), "expected a multiple of 4 from 12 to 16777216"),
        (block("<", 5, bytes(8))[:-4] + b"\x18\0\0\0", "it claims 20 bytes at its beginning and 24 at its end"),
        (enhanced("<", 0, 2**63, DATA, 60), "bears a time outside of the years 1970 to 2116"),
        (section(version=(2, 0)), "the section header block at byte 48 has version 2.0, expected 1.0"),
        (
            Port(more_options=[(9, b"ab")]).description(),
            "the interface block at byte 48 has an option if_tsresol of length 2, expected 1",
        ),
        (Port(more_options=[(14, b"ab")]).description(), "has an option if_tsoffset of length 2, expected 8"),
        (
            block("<", 1, struct.pack("<HHIHH", 1, 0, 0, 2, 5) + bytes(4)),
            "the interface block at byte 48 has an option 2 of 5 bytes where 4 are left",
        ),
        (section() + simple("<", DATA, 60), "the simple packet block at byte 76 is of interface 0, where 0 are"),
        (bytes(12), "the block of type 0 at byte 48 is implausible: it claims 0 bytes"),
        (b"abc", "the block at byte 48 is cut: 3 of its first 12 bytes are there"),
        (
            enhanced("<", 0, 0, DATA, 60)[:-1],
            "the enhanced packet block at byte 48 is cut: 91 of its 92 bytes are there",
        ),
    ],
)
def test_what_cannot_be_is_told_with_its_place_after_all_that_came_before(tail: bytes, says: str) -> None:
    content = START + tail
    before = enhanced("<", 0, 1, DATA, 60)
    records, error, offset = records_and_error(content)
    assert records == []
    assert "\n" not in error
    assert error.startswith("x: the ")
    assert says in error
    for piece_bytes in (1 << 30, 11):
        engine, told, at = engine_walk(content, piece_bytes=piece_bytes)
        assert (engine.packets, told, at) == (0, error, offset)
    # The same with a packet before it, which moves it.
    assert engine_walk(START + before + tail)[0].packets == 1
    assert len(records_and_error(START + before + tail)[0]) == 1


def test_options_that_end_early_or_never_and_unknown_ones_are_taken_as_they_are() -> None:
    endless = block("<", 1, struct.pack("<HHI", 1, 0, 0) + option("<", 2, b"eth0") + option("<", 9, b"\x09"))
    early = block("<", 1, struct.pack("<HHI", 1, 0, 0) + option("<", 0, b"") + option("<", 9, b"\x09"))
    content = section() + endless + early + enhanced("<", 0, 1, DATA, 60) + enhanced("<", 1, 1, DATA, 60)
    assert [record.ts_ns for record in records_and_error(content)[0]] == [1, 1000]
    assert time_span_ns(content, Walk(), offset=0) == (1, 1000)


def test_thousands_of_interfaces_are_kept_and_one_too_many_is_refused() -> None:
    port = Port(resolution=9).description()
    content = section() + port * 65_536 + enhanced("<", 65_535, 5, DATA, 60)
    assert time_span_ns(content, Walk(), offset=0) == (5, 5)
    _, error, _ = engine_walk(section() + port * 65_537)
    assert "is one too many: 65536 interfaces are before it" in error


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """Sections in any order of bytes, with interfaces and packets, and at times something that is damaged."""
    pieces = []
    for _ in range(draw(st.integers(1, 3))):
        order = draw(st.sampled_from("<>"))
        pieces.append(section(order, length=draw(st.sampled_from([-1, 0, 400]))))
        ports = draw(
            st.lists(
                st.builds(
                    Port,
                    st.sampled_from([0, 1, 12, 101, 108, 113, 228, 229, 276, 1, 1, 147]),
                    st.none() | st.integers(0, 255),
                    st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(0, 10**9),
                    st.sampled_from([0, 0, 0, 40, 96]),
                ),
                max_size=3,
            )
        )
        pieces += [port.description(order) for port in ports]
        for _ in range(draw(st.integers(0, 6))):
            number = draw(st.integers(0, max(0, len(ports) - 1)))
            data = draw(st.binary(max_size=70))
            units = draw(st.integers(0, 2**64 - 1) | st.integers(0, 2 * 10**15))
            match draw(st.integers(0, 5)):
                case 0:
                    pieces.append(simple(order, data, draw(st.sampled_from([len(data), 40, 1500]))))
                case 1:
                    pieces.append(obsolete(order, number, units, data, 100))
                case 2:
                    pieces.append(block(order, draw(st.integers(0, 2**32 - 1)), data))
                case _:
                    pieces.append(enhanced(order, number, units, data, 100))
    content = bytearray(b"".join(pieces))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 4]))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.sampled_from([len(content)] * 3 + [draw(st.integers(0, len(content)))]))])


@settings(max_examples=300, deadline=None)
@given(files(), st.sampled_from([1 << 30, 64, 5]))
def test_any_file_is_walked_alike_in_whatever_pieces_it_comes(content: bytes, piece_bytes: int) -> None:
    try:
        records, error, offset = records_and_error(content)
    except CaptureError as refused:
        records, error, offset = [], str(refused), refused.offset
    engine, told, at = engine_walk(content, piece_bytes=piece_bytes)
    assert (engine.packets, told, at) == (len(records), error, offset)
    if records:
        times_ns = [record.ts_ns for record in records]
        assert time_span_ns(content, Walk(), offset=0) == (min(times_ns), max(times_ns))


def test_every_cut_of_a_small_file_is_told_at_the_block_that_is_cut() -> None:
    blocks = [section(), Port().description(), *[enhanced("<", 0, 5, DATA[:n], 60) for n in (0, 1, 60)]]
    content = b"".join(blocks)
    starts = [sum(map(len, blocks[:number])) for number in range(len(blocks) + 1)]
    for cut in range(1, len(content)):
        engine, error, offset = engine_walk(content[:cut])
        whole = sum(start <= cut for start in starts[1:])
        assert engine.packets == max(0, whole - 2)
        if cut in starts:
            assert error == ""
        elif cut < 4:
            assert error == f"x: is shorter than the header of a pcap: {cut} of 24 bytes"
        else:
            assert offset == starts[whole]
            assert f"at byte {starts[whole]} is cut: {cut - starts[whole]} of its " in error


@pytest.mark.parametrize("link_type", [ETHERNET, RAW, SLL])
def test_a_pcapng_is_judged_as_the_pcap_of_the_same_packets(tmp_path: Path, link_type: int) -> None:
    random = Random(link_type)
    packets = captures.generate(captures.Traffic(packets=600, link_type=link_type, seed=link_type))
    order = random.choice("<>")
    ports = [Port(link_type, resolution=9), Port(link_type, resolution=9, offset_s=1000)]
    content = section(order) + b"".join(port.description(order) for port in ports)
    for ts_ns, data, wire_length in packets:
        number = random.randrange(2)
        content += enhanced(order, number, ports[number].units(ts_ns), data, wire_length)
    (tmp_path / "a.pcapng").write_bytes(content)
    (tmp_path / "a.pcap").write_bytes(captures.pcap(packets, link_type=link_type, nanoseconds=True))
    counted = []
    for name in ("a.pcap", "a.pcapng"):
        engine = Engine()
        with open_capture(tmp_path / name) as capture:
            stream = capture.stream()
            while stream.more():
                offset, _, over = engine.run(stream.view, stream.format, offset=stream.offset, max_packets=77)
                stream.taken(offset, over=over)
            assert stream.error is None
        engine.finish()
        counted.append((engine.totals(), engine.packets))
    assert counted[0] == counted[1]
    assert counted[0][1] == 600
