"""The packets of the booking demo, and the player that listens to them."""

from __future__ import annotations

from collections import Counter

from nf.cli.demo import booking_media as media
from nf.cli.demo.booking_media import Encoding, Heard, Listener, Player
from nf.cli.demo.booking_places import HIGH, RADIO_BPS, RADIO_HD_BPS, STANDARD
from upf.capture import in_memory
from upf.replay import replay
from upf.rules import Mode, Rule
from upf.sdf import parse_filter

UE = "10.45.0.2"
BEGIN_NS = 1_790_000_000 * 10**9
FIRST = BEGIN_NS // media.SEGMENT_NS


def packets(segment: int, *, without: tuple[int, ...] = (), edition: str = "VIE", late_ns: int = 0) -> list[Heard]:
    return [
        Heard(UE, segment * media.SEGMENT_NS + late_ns, 1028, edition, segment, number)
        for number in range(media.PACKETS_PER_SEGMENT)
        if number not in without
    ]


def played(*segments: list[Heard]) -> tuple[int, int, list[str]]:
    player = Player()
    for each in segments:
        for packet in each:
            player.receive(packet)
    told = player.play(1, len(segments))
    return told.silent_segments, told.interruptions, told.editions


def test_every_packet_is_sound_and_the_rates_are_those_that_are_said() -> None:
    listener = Listener(UE, "VIE", STANDARD, copies=1, other_bps=2_400_000)
    capture = media.capture_of([listener], BEGIN_NS, 8)
    station = parse_filter(f"permit out 17 from {media.STATION} {media.STATION_PORT} to {UE}")
    rules = [Rule(name="station", precedence=1, filters=(station,), policer=None, mode=Mode.MONITOR)]
    told = replay([in_memory(capture, name="live")], rules)
    assert told.totals.malformed == {}
    assert told.rules["station"].bytes * 8 / 4 == STANDARD.rate_bps == 263_168
    assert abs(told.totals.unmatched_bytes * 8 / 4 - 2_400_000) < 1_400 * 8


def test_what_is_booked_is_enough_for_one_encoding_and_too_little_for_the_other() -> None:
    assert STANDARD.rate_bps < RADIO_BPS < HIGH.rate_bps < RADIO_HD_BPS


def test_packets_come_back_as_they_were_sent_in_the_order_of_time() -> None:
    listener = Listener(UE, "LNZ", Encoding(100), copies=3, other_bps=100_000)
    heard = list(media.packets_in(media.capture_of([listener], BEGIN_NS, 2)))
    assert [each.ts_ns for each in heard] == sorted(each.ts_ns for each in heard)
    programme = [each for each in heard if each.edition]
    assert {each.edition for each in programme} == {"LNZ"}
    assert {each.ue for each in heard} == {UE}
    assert {each.ip_bytes for each in programme} == {128}
    counts = Counter((each.segment, each.number) for each in programme)
    assert set(counts.values()) == {3}
    assert set(counts) == {(FIRST + segment, number) for segment in (0, 1) for number in range(16)}


def test_a_segment_of_which_a_packet_is_missing_is_silence_and_a_run_of_them_one_interruption() -> None:
    assert played(packets(1), packets(2), packets(3)) == (0, 0, ["VIE"])
    assert played(packets(1), packets(2, without=(7,)), packets(3), packets(4)) == (1, 1, ["VIE"])
    assert played(packets(1, without=(0,)), [], packets(3), packets(4, without=(15,))) == (3, 2, ["VIE"])


def test_a_packet_is_in_time_while_the_buffer_lasts() -> None:
    in_time = media.SEGMENT_NS + media.BUFFER_NS
    assert played(packets(1, late_ns=in_time)) == (0, 0, ["VIE"])
    assert played(packets(1, late_ns=in_time + 1)) == (1, 1, [])


def test_an_interruption_that_goes_on_is_not_counted_again() -> None:
    player = Player()
    assert player.play(1, 2).interruptions == 1
    assert player.play(3, 2).interruptions == 0
    for packet in packets(5):
        player.receive(packet)
    assert player.play(5, 2).interruptions == 1


def test_the_edition_changes_with_the_region() -> None:
    told = played(packets(1, edition="NAT"), packets(2, edition="VIE"), packets(3, edition="VIE"))
    assert told == (0, 0, ["NAT", "VIE"])
