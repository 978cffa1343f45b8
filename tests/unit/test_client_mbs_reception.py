"""What a receiver makes of FLUTE packets: losses, orders, damage, and what castcore and flute-alc send."""

import os
import random
from collections.abc import Iterable

import pytest
from flute import sender
from hypothesis import given, settings
from hypothesis import strategies as st

from nf.client.mbs._erasures import recover
from nf.client.mbs.alc import AlcPacket, MalformedPacket, PacketParser, TransmissionInformation
from nf.client.mbs.fdt import FdtInvalid, parse_fdt
from nf.client.mbs.object_reception import ObjectReception
from nf.client.mbs.reception import ReceivedFile, Reception
from nf.mbstf.flute import FluteSession
from nf.mbstf.flute_fdt import FdtProfile, FdtSettings, fdt_packets
from nf.mbstf.flute_fec import Fec, fec_of
from nf.mbstf.objects import Object

NO_CODE = Fec()
REED_SOLOMON = fec_of("urn:ietf:rmt:fec:encoding:5", 20)
UNDERSPECIFIED = fec_of("urn:ietf:rmt:fec:encoding:129", 20)
SCHEMES = pytest.mark.parametrize("fec", [NO_CODE, REED_SOLOMON, UNDERSPECIFIED], ids=["0", "5", "129"])


def packets_of(session: FluteSession) -> list[bytes]:
    packets = []
    while batch := session.batch(64):
        packets += batch
    return packets


def sent(contents: dict[str, bytes], fec: Fec, **options: object) -> list[bytes]:
    session = FluteSession(7, fec=fec, first_toi=1, first_instance=1, **options)  # type: ignore[arg-type]
    for location, content in contents.items():
        session.add(Object(location, content, "video/mp4", etag="v1"))
    return packets_of(session)


def taken(reception: Reception, packets: Iterable[bytes]) -> dict[str, bytes]:
    return {file.location: file.content for packet in packets for file in reception.push(packet)}


def segments(count: int, rng: random.Random) -> dict[str, bytes]:
    return {f"http://example.com/s/{n}.m4s": rng.randbytes(rng.randrange(80_000, 400_000)) for n in range(count)}


@SCHEMES
@pytest.mark.parametrize("settings", [FdtSettings(), FdtSettings(version=2, profile=FdtProfile.RFC_3926)])
def test_every_object_arrives_with_what_the_table_says_of_it(fec: Fec, settings: FdtSettings) -> None:
    contents = {f"http://example.com/{size}": os.urandom(size) for size in (0, 1, 1339, 1340, 1345, 5000, 300_001)}
    reception = Reception(7)
    files = [file for packet in sent(contents, fec, fdt=settings) for file in reception.push(packet)]
    assert {file.location: file.content for file in files} == contents
    assert {(file.content_type, file.etag, file.repaired) for file in files} == {("video/mp4", "v1", False)}
    assert reception.missing() == []
    assert reception.refused == {}
    assert reception.files_received == 7


@pytest.mark.clause("TS 26.346 §8")
@SCHEMES
def test_five_per_cent_of_loss_are_restored_by_twenty_per_cent_of_parity(fec: Fec) -> None:
    rng = random.Random(26346)
    contents = segments(20, rng)
    packets = [packet for packet in sent(contents, fec) if rng.random() >= 0.05]
    reception = Reception(7)
    received = taken(reception, packets)
    if fec is NO_CODE:
        assert len(received) < 5
        return
    assert received == contents
    assert reception.symbols_restored > 100


@SCHEMES
def test_what_thirty_per_cent_of_loss_leave_missing_is_known_to_the_byte(fec: Fec) -> None:
    rng = random.Random(5)
    contents = segments(6, rng)
    packets = [packet for packet in sent(contents, fec) if rng.random() >= 0.3]
    reception = Reception(7)
    received = taken(reception, packets)
    missing = reception.missing()
    assert len(missing) == 6 - len(received) > 0
    for file in missing:
        assert file.ranges
        fetched = sum(end - start for start, end in file.ranges)
        assert 0 < fetched < 0.4 * (file.information.transfer_length or 0)
        content = contents[file.information.location]
        whole = None
        for start, end in file.ranges:
            assert whole is None
            whole = reception.repair(file.information.toi, start, content[start:end])
        assert whole == ReceivedFile(
            file.information.location, content, "video/mp4", "", "v1", file.information.toi, repaired=True
        )
    assert reception.missing() == []


@SCHEMES
def test_repetitions_complete_what_one_transmission_left_open(fec: Fec) -> None:
    rng = random.Random(9)
    content = rng.randbytes(200_000)
    session = FluteSession(7, fec=fec)
    reception = Reception(7)
    rounds = 0
    while not reception.files_received:
        rounds += 1
        session.add(Object("http://example.com/a", content), last=False)
        taken(reception, (packet for packet in packets_of(session) if rng.random() >= 0.4))
    assert 1 < rounds < 15


def test_another_content_at_the_same_place_is_another_object() -> None:
    session = FluteSession(7)
    reception = Reception(7)
    seen = []
    for content in (b"one", b"one", b"two", b"one"):
        session.add(Object("http://example.com/a", content))
        seen.append(taken(reception, packets_of(session)))
    assert [list(each.values()) for each in seen] == [[b"one"], [], [b"two"], [b"one"]]
    assert reception.missing() == []


def test_a_number_that_is_given_anew_does_not_mix_two_objects() -> None:
    first, second = os.urandom(5000), os.urandom(5000)
    before = sent({"http://example.com/a": first}, NO_CODE)
    after = FluteSession(7, first_toi=1, first_instance=50)
    after.add(Object("http://example.com/b", second))
    reception = Reception(7)
    taken(reception, before[:3])
    assert taken(reception, packets_of(after)) == {"http://example.com/b": second}
    # What had the number before is known no more.
    assert reception.missing() == []


def test_packets_before_their_table_are_not_lost() -> None:
    contents = {"http://example.com/a": os.urandom(20_000)}
    packets = sent(contents, REED_SOLOMON)
    tables = [packet for packet in packets if packet[10:12] == b"\0\0"]
    data = [packet for packet in packets if packet[10:12] != b"\0\0"]
    assert taken(Reception(7), data + tables[:1]) == contents


def test_what_flute_alc_sends_is_received_too() -> None:
    config = sender.Config()
    oti = sender.Oti.new_reed_solomon_rs28(1000, 50, 10)
    peer = sender.Sender(7, oti, config)
    contents = {f"http://example.com/{n}": os.urandom(n) for n in (0, 10, 120_000)}
    for location, content in contents.items():
        peer.add_object_from_buffer(content, "text/plain", location, None)
    peer.publish()
    rng = random.Random(3)
    packets = []
    while (packet := peer.read()) is not None:
        packets.append(packet)
    assert taken(Reception(7), (packet for packet in packets if rng.random() >= 0.05)) == contents


def test_a_content_that_is_not_what_the_table_says_is_not_handed_over() -> None:
    packets = sent({"http://example.com/a": os.urandom(3000)}, NO_CODE)
    damaged = [packet[:-1] + bytes((packet[-1] ^ 1,)) if packet[10:12] != b"\0\0" else packet for packet in packets]
    reception = Reception(7)
    assert taken(reception, damaged) == {}
    assert reception.refused == {"content": 1}
    assert taken(reception, packets) != {}


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_objects_in_any_order_with_any_loss_are_whole_or_missing(data: st.DataObject) -> None:
    fec = data.draw(st.sampled_from([NO_CODE, REED_SOLOMON, UNDERSPECIFIED]))
    sizes = data.draw(st.lists(st.integers(0, 9000), min_size=1, max_size=5))
    rng = random.Random(data.draw(st.integers(0, 2**32)))
    loss = data.draw(st.sampled_from([0.0, 0.05, 0.3, 0.9]))
    contents = {f"http://example.com/{n}": rng.randbytes(size) for n, size in enumerate(sizes)}
    packets = sent(contents, fec, mtu=data.draw(st.sampled_from([400, 576, 1400])))
    packets = [packet for packet in packets if rng.random() >= loss for _ in range(rng.choice((1, 1, 2)))]
    rng.shuffle(packets)
    reception = Reception(7)
    received = taken(reception, packets)
    assert all(contents[location] == content for location, content in received.items())
    missing = reception.missing()
    if loss == 0.0:
        assert received == contents
    assert len({file.information.location for file in missing} | set(received)) == len(missing) + len(received)
    for file in missing:
        content = contents[file.information.location]
        if file.ranges is None:
            assert reception.repair(file.information.toi, 0, content, whole=True) is not None
            continue
        for start, end in file.ranges:
            reception.repair(file.information.toi, start, content[start:end])
    assert reception.missing() == []


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_k_symbols_of_a_block_are_enough(data: st.DataObject) -> None:
    k = data.draw(st.integers(1, 60))
    parity = data.draw(st.integers(1, 40))
    content = random.Random(data.draw(st.integers(0, 2**32))).randbytes(k * 8)
    peer = sender.Sender(7, sender.Oti.new_no_code(8, 64), sender.Config())
    oti = sender.Oti.new_reed_solomon_rs28(8, k, parity)
    peer.add_object_from_buffer(content, "a/b", "file:///", oti)
    symbols = {}
    while (packet := peer.read()) is not None:
        if packet[10:12] != b"\0\0":
            symbols[packet[27]] = packet[28:]
    assert len(symbols) == k + parity
    kept = data.draw(st.permutations(range(k + parity)))[:k]
    missing = [number for number in range(k) if number not in kept]
    assert recover(list(kept), [symbols[number] for number in kept], missing) == [symbols[n] for n in missing]


@pytest.mark.parametrize(
    ("numbers", "symbols", "missing"),
    [
        ([], [], []),
        ([0], [], [1]),
        ([0, 0], [b"a", b"b"], [1]),
        ([0, 1], [b"a", b"bb"], [2]),
        ([255], [b"a"], [0]),
        ([0], [b"a"], [0]),
        ([0], [b"a"], [255]),
    ],
)
def test_what_makes_no_block_is_refused(numbers: list[int], symbols: list[bytes], missing: list[int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        recover(numbers, symbols, missing)


HEAD = "1010{words}{cp} 00000000 0007 0001"


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        ("", "too short"),
        ("10100300000000", "too short"),
        ("2010030000000000 00070001", "LCT version"),
        ("1010020000000000 00070001", "header length"),
        ("1010ff0000000000 00070001", "header length"),
        ("1000020000000000", "no TSI or TOI"),
        ("1010030600000000 00070001 00000000", "FEC encoding ID"),
        ("1010040000000000 00070001 02000000", "header extension"),
        ("1010040000000000 00070001 40040000", "header extension"),
        ("1010040000000000 00070001 40010000", "EXT_FTI"),
        ("1010070000000000 00070001 40040000 00000003 00000000 00000040 00000000", "EXT_FTI"),
        ("1010060500000000 00070001 40030000 00000003 05783c3b 00000000", "EXT_FTI"),
        ("1010040000000000 00070001 c0100001 00000000", "EXT_FDT"),
        ("1010030000000000 00070000 00000000", "EXT_FDT"),
        ("1010030000000000 00070001 0000", "FEC payload ID"),
        ("1010030000000000 00080001 00000000", "another session"),
        ("1010040000000000 00070000 c0100001 00000000 3c", "a table without EXT_FTI"),
    ],
)
def test_what_is_no_packet_of_the_session_is_counted_by_its_reason(packet: str, reason: str) -> None:
    reception = Reception(7)
    assert reception.push(bytes.fromhex(packet)) == []
    assert reception.refused == {reason: 1}


@pytest.mark.clause("RFC 5651 §5.1")
def test_the_fields_of_a_header_may_have_any_length() -> None:
    # C = 1, S = 1, O = 1, H = 0: 8 bytes of CCI, 4 of TSI, 4 of TOI; EXT_NOP is passed over.
    packet = bytes.fromhex("14a00600 0000000000000000 00000007 00000009 00010000 0001 0002 616263")
    parsed = PacketParser().parse(packet)
    assert parsed == AlcPacket(parsed.header, 1, 2, b"abc")
    assert (parsed.header.tsi, parsed.header.toi) == (7, 9)


def test_the_header_of_a_close_packet_is_all_of_it() -> None:
    parsed = PacketParser().parse(bytes.fromhex("10130300 00000000 00070001"))
    assert (parsed.header.close_session, parsed.header.close_object, parsed.symbol) == (True, True, b"")
    with pytest.raises(MalformedPacket):
        PacketParser().parse(bytes.fromhex("10130300 00000000 00070001 00"))


def test_a_receiver_keeps_no_more_than_it_was_allowed() -> None:
    huge = bytes.fromhex("1010070000000000 00070001 4004ffffffffffff 0000 0578 00000040 00000000 61")
    tiny = bytes.fromhex("1010070000000000 00070002 4004000005000000 0000 0001 00000040 00000000 61")
    reception = Reception(7, max_object_bytes=100 << 20, max_bytes=150_000)
    assert reception.push(huge) == reception.push(tiny) == []
    assert reception.refused == {"an object that is too long": 2}
    packets = sent({"http://example.com/a": bytes(100_000), "http://example.com/b": bytes(100_001)}, NO_CODE)
    first = [packet for packet in packets if packet[10:12] == b"\0\1"][:5]
    second = [packet for packet in packets if packet[10:12] == b"\0\2"][:5]
    taken(reception, first + second)
    assert reception.refused["too much at once"] == 5
    table = fdt_packets(bytes(2 << 20), 7, 1, 1, 1372)[0]
    reception.push(table)
    assert reception.refused["a table that is too long"] == 1


def test_symbols_that_an_object_cannot_have_are_refused() -> None:
    reception = ObjectReception(TransmissionInformation(5, 10, 4, 3, 5))
    assert not reception.push(1, 0, bytes(4))
    assert not reception.push(0, 5, bytes(4))
    assert not reception.push(0, 3, bytes(3))
    assert not reception.push(0, 0, bytes(3))
    assert reception.push(0, 0, b"abcd")
    assert reception.push(0, 0, b"xxxx")
    assert reception.push(0, 2, b"ij")
    assert (reception.symbols_received, reception.symbols_repeated) == (2, 1)
    assert reception.missing_ranges() == [(4, 8)]
    reception.fill(3, b"DEFGHI")
    assert (reception.is_whole, reception.content()) == (True, b"abcdEFGHij")


def test_an_empty_object_is_whole_from_the_beginning() -> None:
    reception = ObjectReception(TransmissionInformation(0, 0, 1340, 1024, 1024))
    assert (reception.is_whole, reception.content(), reception.missing_ranges()) == (True, b"", [])


@pytest.mark.parametrize(
    "xml",
    [
        b"",
        b"<a",
        b"<FDT-Instance/>",
        b'<FDT-Instance Expires="x"/>',
        b'<FDT-Instance Expires="-1"/>',
        b"<Other/>",
        b'<!DOCTYPE a [<!ENTITY e "x">]><Other>&e;</Other>',
    ],
)
def test_what_is_no_table_is_refused(xml: bytes) -> None:
    with pytest.raises(FdtInvalid):
        parse_fdt(xml)
    reception = Reception(7)
    if xml:
        for packet in fdt_packets(xml, 7, 1, 1, 1372):
            reception.push(packet)
        assert reception.refused == {"table": 1}


def test_lines_that_cannot_be_used_are_left_out_of_a_table() -> None:
    lines = [
        '<File TOI="1" Content-Location="a" Content-Length="3"/>',
        '<File TOI="0" Content-Location="a"/>',
        '<File TOI="2"/>',
        '<File TOI="3" Content-Location="a" Content-MD5="?"/>',
        '<File TOI="4" Content-Location="a" Content-MD5="AAAA"/>',
        '<File TOI="5" Content-Location="a" Transfer-Length="999999999999999"/>',
        '<File TOI="6" Content-Location="a" Transfer-Length="9" FEC-OTI-FEC-Encoding-ID="6"'
        ' FEC-OTI-Encoding-Symbol-Length="1" FEC-OTI-Maximum-Source-Block-Length="1"/>',
    ]
    table = parse_fdt(f'<FDT-Instance Expires="2208988801" Complete="true">{"".join(lines)}</FDT-Instance>'.encode())
    assert ([file.toi for file in table.files], table.refused, table.expires_s, table.complete) == ([1], 6, 1, True)
    assert table.files[0].transfer_length == 3


def test_what_holds_for_all_files_may_stand_once() -> None:
    table = parse_fdt(
        b'<FDT-Instance xmlns="urn:IETF:metadata:2005:FLUTE:FDT" Expires="2208988801" Content-Type="video/mp4"'
        b' FEC-OTI-FEC-Encoding-ID="5" FEC-OTI-Maximum-Source-Block-Length="10" FEC-OTI-Encoding-Symbol-Length="8"'
        b' FEC-OTI-Max-Number-of-Encoding-Symbols="12"><File TOI="1" Content-Location="a" Content-Length="80"/>'
        b"</FDT-Instance>"
    )
    assert table.files[0].content_type == "video/mp4"
    assert table.files[0].information == TransmissionInformation(5, 80, 8, 10, 12)
