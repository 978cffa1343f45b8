"""The server name in QUIC Initial packets is found, as RFC 9001 and RFC 9369 protect them."""

from __future__ import annotations

from random import Random

import named_traffic as made
import pytest

from upf.names.answer import Name, No
from upf.names.quic import InitialReader, client_keys

VIDEO = "video.example.com"
DCID = bytes.fromhex("8394c8f03e515708")
# The ClientHello of RFC 9001 appendix A.2.
HELLO = bytes.fromhex(
    "010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c00000413011302010000c000000010000e00"
    "000b6578616d706c652e636f6dff01000100000a00080006001d0017001800100007000504616c706e000500050100000000003300260024"
    "001d00209370b2c9caa47fbabaf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b0003020304000d0010000e04030503060302"
    "03080408050806002d00020101001c00024001003900320408ffffffffffffffff05048000ffff07048000ffff0801100104800075300901"
    "100f088394c8f03e51570806048000ffff"
)


def said(*datagrams: bytes) -> Name | No:
    reader = InitialReader()
    answer: Name | No = No.MORE_NEEDED
    for datagram in datagrams:
        answer = reader.feed(datagram)
    return answer


def test_the_keys_are_those_of_the_appendix() -> None:
    keys = client_keys(made.V1, DCID)
    assert [part.hex() for part in keys] == [
        "1f369613dd76d5467730efcbe3b1a22d", "fa044b2f42a3fd3b46fb255c", "9f50449e04a0e810283a1e9933adedd2",
    ]  # fmt: skip


def test_the_keys_of_version_2_are_those_of_its_appendix() -> None:
    keys = client_keys(made.V2, DCID)
    assert [part.hex() for part in keys] == [
        "8b1a0bc121284290a29e0971b5cd045d", "91f73e2351d8fa91660e909f", "45b95e15235d6f45a6b19cbcb0294ba9",
    ]  # fmt: skip


def test_the_initial_packet_of_the_appendix_is_read() -> None:
    packet = made.quic_initial(made.crypto(0, HELLO), DCID, number=2)
    # The protected header of the appendix, and the sample that its mask follows from.
    assert packet[:22].hex() == "c000000001088394c8f03e5157080000449e7b9aec34"
    assert packet[22:38].hex() == "d1b1c98dd7689fb8ec11d242b123dc9b"
    assert packet[-16:].hex() == "e221af44860018ab0856972e194cd934"
    assert said(packet) == Name("example.com")


@pytest.mark.parametrize("version", [made.V1, made.V2])
@pytest.mark.parametrize("number_bytes", [1, 2, 3, 4])
def test_both_versions_and_every_length_of_packet_number_are_read(version: int, number_bytes: int) -> None:
    hello = made.crypto(0, made.handshake(VIDEO))
    packet = made.quic_initial(hello, DCID, version=version, number_bytes=number_bytes, token=bytes(70))
    assert said(packet) == Name(VIDEO)


def test_a_hello_in_scrambled_crypto_frames_is_put_together() -> None:
    draw, hello = Random(1), made.handshake(VIDEO)
    for _ in range(30):
        pieces = [made.crypto(*piece) for piece in made.in_pieces(hello, draw.sample(range(1, len(hello)), 6))]
        draw.shuffle(pieces)
        frames = b"\x01\0\0".join(pieces) + b"\x02\x05\x00\x01\x00\x00\x00" + b"\x03\0\0\0\0\1\2\3"
        assert said(made.quic_initial(frames, DCID)) == Name(VIDEO)


def test_a_hello_may_be_cut_anywhere_between_two_packets() -> None:
    hello = made.handshake(VIDEO)
    for cut in range(1, len(hello), 7):
        first = made.quic_initial(made.crypto(0, hello[:cut]), DCID)
        second = made.quic_initial(made.crypto(cut, hello[cut:]), DCID, number=1)
        assert isinstance(said(first), Name | No)
        assert said(first, second) == said(second, first) == said(first + second) == Name(VIDEO)
        assert said(second) is No.MORE_NEEDED


def test_a_large_hello_in_three_datagrams_is_read() -> None:
    hello = made.with_extension(made.handshake(VIDEO), 51, bytes(2000), first=True)
    packets = [
        made.quic_initial(made.crypto(at, hello[at : at + 1000]), DCID, number=at // 1000)
        for at in range(0, len(hello), 1000)
    ]
    assert [said(*packets[: count + 1]) for count in range(3)] == [No.MORE_NEEDED, No.MORE_NEEDED, Name(VIDEO)]


def test_packets_to_the_id_that_the_server_chose_keep_the_keys_of_the_first() -> None:
    hello, chosen = made.handshake(VIDEO), b"\x11" * 20
    first = made.quic_initial(made.crypto(0, hello[:100]), DCID)
    second = made.quic_initial(made.crypto(100, hello[100:]), chosen, keys_of=DCID, number=1)
    assert said(first, second) == Name(VIDEO)
    assert said(second, first) is No.MORE_NEEDED


def test_after_a_retry_the_keys_follow_from_the_new_id() -> None:
    hello, chosen = made.handshake(VIDEO), b"\x22" * 8
    first = made.quic_initial(made.crypto(0, hello[:100]), DCID)
    again = made.quic_initial(made.crypto(0, hello[:100]), chosen, token=bytes(60), number=1)
    rest = made.quic_initial(made.crypto(100, hello[100:]), chosen, token=bytes(60), number=2)
    assert said(first, again, rest) == Name(VIDEO)


def test_what_comes_before_the_name_is_waited_out() -> None:
    hello = made.quic_initial(made.crypto(0, made.handshake(VIDEO)), DCID)
    zero_rtt = b"\xd0" + hello[1:15] + b"\x40\x20" + bytes(32)
    version_negotiation = b"\xc0\0\0\0\0\x08" + DCID + b"\x00" + bytes.fromhex("00000001")
    retry = b"\xf0" + hello[1:15] + bytes(40)
    unknown = b"\xc3\x1a\x2a\x3a\x4a\x08" + DCID + b"\x00" + bytes(1180)
    for datagram in (zero_rtt, version_negotiation, retry, unknown):
        assert said(datagram) is No.MORE_NEEDED
        assert said(datagram, hello) == Name(VIDEO)
    assert said(zero_rtt + hello) == Name(VIDEO)


def test_what_a_server_sends_says_no_name() -> None:
    packet = made.quic_initial(made.crypto(0, made.handshake(VIDEO)), b"", keys_of=DCID, sender="server in")
    assert said(packet) is No.MORE_NEEDED


@pytest.mark.parametrize(
    "datagram", [b"", b"\x40" + bytes(1200), b"\x16\xfe\xfd" + bytes(60), b"\xc0\0\0", bytes(1200)]
)
def test_other_datagrams_are_not_quic(datagram: bytes) -> None:
    assert said(datagram) is No.NAME


def test_a_packet_that_is_cut_or_spoilt_is_not_read() -> None:
    packet = made.quic_initial(made.crypto(0, made.handshake(VIDEO)), DCID)
    for length in range(7, len(packet), 13):
        assert isinstance(said(packet[:length]), No)
    draw = Random(3)
    for _ in range(300):
        spoilt = bytearray(packet)
        # Within the 22 bytes of the header, and anywhere.
        spoilt[draw.choice((draw.randrange(22), draw.randrange(len(packet))))] ^= 1 << draw.randrange(8)
        assert not isinstance(said(bytes(spoilt)), Name)


def test_frames_of_any_bytes_are_read_to_their_end() -> None:
    draw = Random(4)
    for _ in range(300):
        frames = draw.choice((b"\x02", b"\x03", b"\x06", b"")) + draw.randbytes(draw.randint(0, 60))
        assert isinstance(said(made.quic_initial(frames, DCID, padded_to=40)), No)


def test_no_more_is_kept_than_a_hello_may_have() -> None:
    reader = InitialReader()
    for number in range(40):
        for offset in (number * 1000 + 1, 1 << 61):
            reader.feed(made.quic_initial(made.crypto(offset, bytes(1000)), DCID, number=number))
    assert reader.held_bytes <= 16_388
