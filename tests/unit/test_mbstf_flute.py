"""FLUTE sessions: their bytes on the wire, and what an independent receiver makes of them."""

import base64
import hashlib
import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flute import receiver, sender
from lxml import etree

from nf.client.mbs.reception import Reception
from nf.common.clock import ManualClock
from nf.common.errors import InvalidArgument
from nf.mbstf.flute import FluteSession
from nf.mbstf.flute_fdt import FdtProfile, FdtSettings, FileEntry, fdt_packets, fdt_xml
from nf.mbstf.flute_fec import SUPPORTED, Blocks, Fec, fec_of
from nf.mbstf.objects import CacheDirective, Object

REED_SOLOMON = fec_of("urn:ietf:rmt:fec:encoding:5", 20)
UNDERSPECIFIED = fec_of("urn:ietf:rmt:fec:encoding:129", 20)
NAMESPACE = "{urn:3GPP:metadata:2022:FLUTE:FDT}"


def all_of(session: FluteSession) -> list[bytes]:
    packets = []
    while batch := session.batch(64):
        packets += batch
    return packets


def is_table(packet: bytes) -> bool:
    return packet[10:12] == b"\0\0"


def toi_of(packet: bytes) -> int:
    return int.from_bytes(packet[10:12], "big")


def received(packets: Iterable[bytes], directory: Path, tsi: int = 7) -> dict[str, bytes]:
    """What flute-alc's receiver makes of them."""
    endpoint = receiver.UDPEndpoint("232.0.0.1", 5000)
    peer = receiver.Receiver(endpoint, tsi, receiver.ObjectWriterBuilder(str(directory)), receiver.Config())
    for packet in packets:
        peer.push(packet)
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def contents(*sizes: int, seed: int = 1) -> dict[str, bytes]:
    return {f"seg/{size}.m4s": random.Random(seed + size).randbytes(size) for size in sizes}


@pytest.mark.clause("RFC 3926 §3.4.1")
def test_the_table_on_the_wire_is_lct_with_16_bit_tsi_and_the_version_of_flute_in_ext_fdt() -> None:
    first, second = fdt_packets(b"<x>" * 300, 0x1234, 0xABCDE, 1, 560)
    assert first[:36].hex() == (
        "10100800" "00000000" "12340000"  # LCT 1, H, 8 words, code point 0; CCI; TSI, TOI
        "c01abcde"  # EXT_FDT: version 1, instance
        "40040000" "00000384" "0000020c" "00000002"  # EXT_FTI: 900 bytes in symbols of 524, a block of two
        "00000000"  # SBN 0, ESI 0
    )  # fmt: skip
    assert len(first) == 560
    assert second[32:36].hex() == "00000001"
    assert first[36:] + second[36:] == b"<x>" * 300


def test_the_table_of_a_session_with_parity_has_parity_too(tmp_path: Path) -> None:
    session = FluteSession(7, fec=REED_SOLOMON, first_instance=0xABCDE, first_toi=9)
    contents = {f"http://example.com/{number}": bytes((number,)) for number in range(16)}
    for location, content in contents.items():
        session.add(Object(location, content))
    packets = all_of(session)
    last = [packet for packet in packets if is_table(packet) and int.from_bytes(packet[13:16], "big") & 0xF == 0xD]
    assert last[0][:16].hex() == "101007050000000000070000c01abced"  # code point 5, seven words
    assert last[0][16:20].hex() == "40030000"
    # After the lengths the symbols of the block, without its parity and with it.
    assert (last[0][26], last[0][27]) == (5, 9)
    # Of each copy any five of the nine are enough.
    reception = Reception(7)
    objects = [packet for packet in packets if not is_table(packet)]
    assert {file.location for packet in [*last[4:9], *objects] for file in reception.push(packet)} == set(contents)
    assert set(received(packets, tmp_path).values()) == set(contents.values())


@pytest.mark.clause("TS 26.346 §L.6")
def test_the_table_follows_the_profile_of_3gpp() -> None:
    entry = FileEntry(
        5, 'http://a/b?x=1&y="', "video/mp4", 3000, hashlib.md5(b"").digest(), Blocks(5, 1340, 3, 4), "v1",
        CacheDirective(expires_s=1000),
    )  # fmt: skip
    root = etree.fromstring(fdt_xml([entry], 2000, FdtProfile.TS_26_346_L6))
    assert root.tag == f"{NAMESPACE}FDT-Instance"
    assert dict(root.attrib) == {"Expires": str(2000 + 2208988800)}
    (file, schema) = root
    assert (schema.tag, schema.text) == (f"{NAMESPACE}schemaVersion", "4")
    assert dict(file.attrib) == {
        "Content-Location": 'http://a/b?x=1&y="',
        "TOI": "5",
        "Content-Length": "3000",
        "Transfer-Length": "3000",
        "Content-Type": "video/mp4",
        "Content-MD5": base64.b64encode(hashlib.md5(b"").digest()).decode(),
        "FEC-OTI-FEC-Encoding-ID": "5",
        "FEC-OTI-FEC-Instance-ID": "0",
        "FEC-OTI-Maximum-Source-Block-Length": "3",
        "FEC-OTI-Encoding-Symbol-Length": "1340",
        "FEC-OTI-Max-Number-of-Encoding-Symbols": "7",
        "File-ETag": "v1",
    }
    assert file.findtext(f"{NAMESPACE}Cache-Control/{NAMESPACE}Expires") == str(1000 + 2208988800)


def test_the_whole_table_of_a_session_is_these_bytes() -> None:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    session = FluteSession(7, clock=clock, first_toi=9)
    session.add(Object("http://example.com/a?b&c", b"abc", "text/plain", "v1", CacheDirective(no_cache=True)))
    assert session.batch(1)[0][36:].decode() == (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<FDT-Instance xmlns="urn:3GPP:metadata:2022:FLUTE:FDT" Expires="3976218000">'
        '<File Content-Location="http://example.com/a?b&amp;c" TOI="9" Content-Length="3" Transfer-Length="3"'
        ' Content-Type="text/plain" Content-MD5="kAFQmDzST7DWlj99KOF/cg==" FEC-OTI-FEC-Encoding-ID="0"'
        ' FEC-OTI-FEC-Instance-ID="0" FEC-OTI-Maximum-Source-Block-Length="1024" FEC-OTI-Encoding-Symbol-Length="1340"'
        ' File-ETag="v1"><Cache-Control><no-cache>true</no-cache></Cache-Control></File>'
        "<schemaVersion>4</schemaVersion></FDT-Instance>"
    )


@pytest.mark.parametrize(
    ("fec", "header"),
    [
        (Fec(), "1011070000000000" "00070009" "40040000" "00000003" "0000053c" "00000400" "00000000"),
        (REED_SOLOMON, "1010060500000000" "00070009" "40030000" "00000003" "05400105" "00000000"),
        (UNDERSPECIFIED, "1010078100000000" "00070009" "40040000" "00000003" "00000538" "00010005" "0000000000010000"),
    ],
    ids=["no code", "5", "129"],
)  # fmt: skip
def test_a_packet_of_an_object_begins_with_lct_ext_fti_and_the_fec_payload_id(fec: Fec, header: str) -> None:
    session = FluteSession(7, fec=fec, first_toi=9)
    session.add(Object("http://example.com/a", b"abc"))
    packet = next(packet for packet in all_of(session) if not is_table(packet))
    length = len(header) // 2
    assert packet[:length].hex() == header
    assert packet[length:].rstrip(b"\0") == b"abc"


def test_the_table_says_what_flute_alc_says_in_the_same_profile() -> None:
    config = sender.Config()
    config.fdt_xml_profile = "ts-126-346-l6"
    peer = sender.Sender(7, sender.Oti.new_reed_solomon_rs28(1344, 3, 4), config)
    peer.add_object_from_buffer(bytes(4000), "video/mp4", "http://example.com/a", None)
    peer.publish()
    theirs = etree.fromstring(peer.read().partition(b"<?xml")[2].rpartition(b">")[0].partition(b"?>")[2] + b">")
    session = FluteSession(7, fec=REED_SOLOMON, first_toi=1)
    session.add(Object("http://example.com/a", bytes(4000), "video/mp4"))
    ours = etree.fromstring(session.batch(1)[0][32:].rstrip(b"\0"))
    assert [child.tag for child in ours] == [child.tag for child in theirs]
    assert (ours.tag, ours[1].text) == (theirs.tag, theirs[1].text)
    # What it says of all files stands with each of ours.
    both = {**theirs.attrib, **theirs[0].attrib}
    del both["Expires"]
    assert dict(ours[0].attrib) == both


@pytest.mark.parametrize("fec", [Fec(), REED_SOLOMON, UNDERSPECIFIED], ids=["no code", "5", "129"])
@pytest.mark.parametrize("settings", [FdtSettings(), FdtSettings(version=2, profile=FdtProfile.RFC_3926)])
def test_an_independent_receiver_gets_every_object_byte_for_byte(
    fec: Fec, settings: FdtSettings, tmp_path: Path
) -> None:
    session = FluteSession(7, fec=fec, fdt=settings, first_toi=65534)
    expected = contents(0, 1, 1339, 1340, 1341, 5000, 300_001)
    for name, content in expected.items():
        session.add(Object(f"http://example.com/{name}", content, "video/mp4"))
    packets = all_of(session)
    assert max(map(len, packets)) <= 1400 - 28
    assert received(packets, tmp_path) == expected
    assert session.is_idle()


def test_an_object_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"from a file")
    session = FluteSession(7)
    session.add(Object("http://example.com/a", tmp_path / "source"))
    (tmp_path / "sink").mkdir()
    assert received(all_of(session), tmp_path / "sink") == {"a": b"from a file"}


def test_a_file_that_has_gone_is_told_and_the_next_object_follows(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"from a file")
    session = FluteSession(7)
    gone: list[OSError] = []
    session.add(Object("http://example.com/a", tmp_path / "source"), on_unreadable=gone.append)
    session.add(Object("http://example.com/b", b"b"))
    (tmp_path / "source").unlink()
    (tmp_path / "sink").mkdir()
    assert received(all_of(session), tmp_path / "sink") == {"b": b"b"}
    assert isinstance(gone[0], FileNotFoundError)


def test_the_same_content_at_the_same_place_keeps_its_toi_and_another_gets_another() -> None:
    session = FluteSession(7, first_toi=10)
    tois = []
    for content in (b"one", b"one", b"two", b"one"):
        session.add(Object("http://example.com/a", content))
        tois.append({toi_of(packet) for packet in all_of(session)} - {0})
    assert tois == [{10}, {10}, {11}, {12}]


def test_toi_and_instance_start_over_at_their_limits_and_pass_over_what_is_in_use() -> None:
    session = FluteSession(7, first_toi=65535, first_instance=(1 << 20) - 1)
    packets = []
    for name in "abc":
        session.add(Object(f"http://example.com/{name}", name.encode()))
        packets += all_of(session)
    assert [toi_of(packet) for packet in packets if not is_table(packet)] == [65535, 1, 2]
    instances = [int.from_bytes(packet[13:16], "big") & 0xFFFFF for packet in packets if is_table(packet)]
    assert list(dict.fromkeys(instances)) == [0xFFFFF, 0, 1]
    session._next_toi = 65535
    session.add(Object("http://example.com/d", b"d"))
    assert [toi_of(packet) for packet in all_of(session) if not is_table(packet)] == [3]


def test_the_last_packet_closes_an_object_unless_it_comes_again() -> None:
    session = FluteSession(7)
    session.add(Object("http://example.com/a", bytes(3000)), last=False)
    session.add(Object("http://example.com/b", bytes(3000)))
    data = [packet for packet in all_of(session) if not is_table(packet)]
    assert [packet[1] & 1 for packet in data] == [0, 0, 0, 0, 0, 1]


def test_the_table_comes_first_among_the_packets_and_some_times_at_the_end() -> None:
    session = FluteSession(7)
    session.add(Object("http://example.com/a", bytes(1340 * 120)))
    marks = "".join("T" if is_table(packet) else "." for packet in all_of(session))
    assert marks == "T" + "." * 50 + "T" + "." * 50 + "T" + "." * 20 + "TTTT"


def test_the_end_of_the_session_is_a_complete_table_with_the_close_flag() -> None:
    session = FluteSession(7)
    session.add(Object("http://example.com/a", b"a"))
    all_of(session)
    session.add(Object("http://example.com/never", b"a"))
    session.close_session()
    last = all_of(session)
    assert [packet[1] & 2 for packet in last] == [2] * 4
    assert etree.fromstring(last[0][36:]).get("Complete") == "true"
    assert b"never" not in last[0]
    assert session.batch(10) == []


def test_the_table_is_renewed_at_half_of_its_life() -> None:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    session = FluteSession(7, clock=clock, fdt=FdtSettings(lifetime_s=100), first_instance=5)

    def instances() -> set[int]:
        session.add(Object("http://example.com/a", b"a"))
        return {int.from_bytes(packet[13:16], "big") & 0xFFFFF for packet in all_of(session) if is_table(packet)}

    assert instances() == {5}
    assert instances() == {5}
    clock.advance(timedelta(seconds=50))
    assert instances() == {6}


def test_what_is_removed_is_neither_sent_nor_listed() -> None:
    session = FluteSession(7)
    session.add(Object("http://example.com/a", bytes(100_000)))
    session.add(Object("http://example.com/b", b"b"))
    session.batch(10)
    session.remove("http://example.com/a")
    packets = all_of(session)
    assert [len(packet) for packet in packets if not is_table(packet)] == [12 + 16 + 4 + 1]
    assert all(b"example.com/a" not in packet for packet in packets)


def test_whoever_asked_is_told_when_the_last_packet_was_taken() -> None:
    session = FluteSession(7)
    sent: list[str] = []
    session.add(Object("http://example.com/a", bytes(1340 * 3)), on_sent=lambda: sent.append("a"))
    session.add(Object("http://example.com/b", b"b"), on_sent=lambda: sent.append("b"))
    session.batch(3)
    assert sent == []
    session.batch(3)
    assert sent == ["a"]
    all_of(session)
    assert sent == ["a", "b"]


@pytest.mark.clause("TS 29.580 §6.2.6.2 FECConfig")
@pytest.mark.parametrize("scheme", ["urn:ietf:rmt:fec:encoding:6", "urn:ietf:rmt:fec:encoding:1", "raptorq", "", "5"])
def test_a_scheme_that_is_not_supported_is_refused_with_those_that_are(scheme: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        fec_of(scheme, 20)
    assert refusal.value.violations[0].field == "fecInformation.fecScheme"
    assert SUPPORTED in refusal.value.message


@pytest.mark.parametrize(("number", "overhead"), [(0, 20), (5, 0), (5, 101), (129, -1)])
def test_an_overhead_that_the_scheme_cannot_have_is_refused(number: int, overhead: int) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        fec_of(f"urn:ietf:rmt:fec:encoding:{number}", overhead)
    assert refusal.value.violations[0].field == "fecInformation.fecOverHead"


def test_blocks_have_the_overhead_that_was_asked_for_and_small_ones_at_least_four_symbols() -> None:
    assert REED_SOLOMON.blocks(1344 * 200, 1372) == Blocks(5, 1344, 100, 20)
    assert REED_SOLOMON.blocks(1344 * 5, 1372) == Blocks(5, 1344, 5, 4)
    assert fec_of("urn:ietf:rmt:fec:encoding:5", 100).blocks(10**7, 1372) == Blocks(5, 1344, 127, 127)


@pytest.mark.parametrize("overhead", [1, 20, 50, 100])
@pytest.mark.parametrize("number", [5, 129])
def test_a_block_is_never_longer_than_the_field(number: int, overhead: int) -> None:
    fec = fec_of(f"urn:ietf:rmt:fec:encoding:{number}", overhead)
    largest = fec.largest_object_bytes(1372)
    for size in (1, 1000, 10**5, 10**6, 10**7, largest):
        blocks = fec.blocks(size, 1372)
        assert blocks.source_symbols + blocks.parity_symbols <= 255
        assert blocks.parity_symbols >= blocks.source_symbols * overhead / 100


def test_an_object_too_long_for_the_scheme_is_refused_before_anything_is_queued() -> None:
    session = FluteSession(7, fec=REED_SOLOMON)
    with pytest.raises(InvalidArgument, match="takes at most") as refusal:
        session.add(Object("http://example.com/a", bytes(REED_SOLOMON.largest_object_bytes(1372) + 1)))
    assert refusal.value.violations[0].field == "fecInformation.fecScheme"
    assert session.is_idle()


@pytest.mark.parametrize("location", ["", "a\nb", "x" * 3000])
def test_a_location_that_no_table_can_carry_is_refused(location: str) -> None:
    with pytest.raises(InvalidArgument, match="location"):
        Object(location, b"")


@pytest.mark.parametrize("tsi", [-1, 65536])
def test_a_tsi_of_more_than_16_bits_is_refused(tsi: int) -> None:
    with pytest.raises(InvalidArgument, match="fluteTsi"):
        FluteSession(tsi)
