"""Pieces of super-packets against segments that scapy makes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import TCP, UDP
from super_packets import packet_bytes, segments_of, super_packet

from upf.engine import cut

HOSTS = {4: ("10.45.0.2", "198.51.100.7"), 6: ("2001:db8::2", "2001:db8:ffff::7")}


@st.composite
def pieces(draw: st.DrawFn) -> tuple[bytes, int, int]:
    """A super-packet, and which of its segments: first, count."""
    family = draw(st.sampled_from([4, 6]))
    segment_bytes = draw(st.integers(1, 1448))
    count = draw(st.integers(2, min(40, 60000 // segment_bytes)))
    payload = bytes(at * 7 & 0xFF for at in range((count - 1) * segment_bytes + draw(st.integers(1, segment_bytes))))
    transport = draw(st.sampled_from(["tcp", "udp"]))
    if transport == "udp":
        layer = UDP(sport=draw(st.integers(0, 65535)), dport=443)
    else:
        options = draw(st.sampled_from([[], [("Timestamp", (1, 2))], [("NOP", None)] * 3]))
        layer = TCP(
            sport=443,
            dport=draw(st.integers(0, 65535)),
            seq=draw(st.integers(0, 0xFFFFFFFF)),
            flags=draw(st.integers(0, 0xFF)),
            options=options,
        )
    ip = {"id": draw(st.integers(0, 65535)), "tos": draw(st.integers(0, 255))} if family == 4 else {}
    whole = super_packet(packet_bytes(*HOSTS[family], layer, payload, **ip), segment_bytes)
    first = draw(st.integers(0, count - 1))
    return whole, first, draw(st.integers(1, count - first))


@given(pieces())
def test_a_piece_of_a_super_packet_stands_for_the_segments_that_it_was_cut_from(piece: tuple[bytes, int, int]) -> None:
    whole, first, count = piece
    assert segments_of(cut(whole, first, count)) == segments_of(whole)[first : first + count]


def test_a_single_segment_is_an_ordinary_packet() -> None:
    whole = super_packet(packet_bytes(*HOSTS[4], TCP(sport=1, dport=2), bytes(3000)), 1000)
    assert cut(whole, 1, 1)[1] == 0
    assert cut(whole, 0, 2)[1] == 1


def test_a_marked_piece_differs_in_its_dscp_alone() -> None:
    whole = super_packet(packet_bytes(*HOSTS[6], UDP(sport=1, dport=2), bytes(3000)), 1000)
    plain, marked = segments_of(cut(whole, 1, 2)), segments_of(cut(whole, 1, 2, dscp=46))
    assert [segment[0] << 8 | segment[1] for segment in marked] == [0x6000 | 46 << 6] * 2
    assert [segment[2:] for segment in marked] == [segment[2:] for segment in plain]


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:9],
        lambda whole: whole[:40],
        lambda whole: b"\x00" + whole[1:],
        lambda whole: whole[:1] + b"\x07" + whole[2:],
        lambda whole: whole[:4] + bytes(2) + whole[6:],
        lambda whole: whole[:6] + b"\xff\xff" + whole[8:],
        lambda whole: whole[:8] + b"\xff\xff",
        lambda whole: whole[:42] + b"\xf0" + whole[43:60],
    ],
)
def test_what_says_to_be_a_super_packet_and_cannot_be_one_is_refused(damage) -> None:
    whole = super_packet(packet_bytes(*HOSTS[4], TCP(sport=1, dport=2), bytes(3000)), 1000)
    with pytest.raises(ValueError, match="super-packet"):
        cut(damage(whole), 0, 1)
