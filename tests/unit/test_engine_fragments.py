"""Fragments in any order, and tunnels, through the engine: what is held, released, and counted, as in the reference."""

from __future__ import annotations

from collections.abc import Callable

import captures as make
import pytest
from captures import ETHERNET, RAW, SECOND_NS, START_NS, Captured
from hypothesis import given, settings
from hypothesis import strategies as st
from side_by_side import judged_alike

from upf.capture import CaptureFormat, OutputFormat
from upf.counters import Measure
from upf.engine import CONFORMING, HELD, MALFORMED_REASONS, UNMATCHED, Engine
from upf.fragments import FRAGMENT_HOLD_NS, MAX_HELD, MAX_HELD_BYTES
from upf.malformation import Malformation
from upf.rules import Mode, Policer, Rule
from upf.sdf import parse_filter

SERVER, UE, SERVER6, UE6 = "198.51.100.7", "10.45.0.2", "2001:db8:a::7", "2001:db8:45::2"
RULES = [
    Rule("web", 1, (parse_filter("permit out ip from any 443 to any"),), Policer(8_000, 500), Mode.POLICE, True),
    Rule("rest", 2, (parse_filter("permit out ip from any to any"),), Policer(80_000, 2_000), Mode.MONITOR),
]


def fragment(
    offset: int,
    *,
    more: bool = True,
    identification: int = 1,
    family: int = 4,
    protocol: int = 17,
    port: int = 443,
    length: int = 64,
    teid: int | None = None,
) -> bytes:
    content = make.payload(length) if offset else make.ports(port, 5000, length)
    if family == 4:
        packet = make.ipv4(
            SERVER, UE, protocol, content,
            identification=identification, fragment_offset=offset, more_fragments=more,
        )  # fmt: skip
    else:
        header = make.fragment_header(protocol, identification, offset, more=more)
        packet = make.ipv6(SERVER6, UE6, make.FRAGMENT, header + content)
    if teid is None:
        return packet
    return make.ipv4("192.0.2.1", "192.0.2.2", 17, make.udp(1, 2152, make.gtpu(packet, teid=teid)))


def at(time_ns: int, data: bytes) -> Captured:
    return Captured(START_NS + time_ns, data, len(data))


def run(engine: Engine, *packets: Captured, emit: Callable[[memoryview], object] | None = None) -> list[int]:
    verdicts = bytearray(len(packets))
    capture = make.pcap(packets, nanoseconds=True, link_type=RAW, order="=")
    capture_format = CaptureFormat(swapped=False, nanoseconds=True, link_type=RAW, snaplen=262_144)
    engine.run(capture, capture_format, offset=24, max_packets=len(packets), verdicts=verdicts, emit=emit)
    return list(verdicts)


FRAGMENTS = st.builds(
    fragment,
    st.sampled_from([0, 0, 64, 128, 8]),
    more=st.booleans(),
    identification=st.integers(1, 2),
    family=st.sampled_from([4, 4, 6]),
    protocol=st.sampled_from([17, 17, 6, 50, 51, 1, 60]),
    port=st.sampled_from([443, 80]),
    length=st.sampled_from([64, 8, 200]),
    teid=st.sampled_from([None, None, 7, 8]),
)
STEPS_NS = st.sampled_from(
    [0, 1, 1000, SECOND_NS // 2, SECOND_NS, SECOND_NS + 1, -SECOND_NS, -SECOND_NS - 1, 61 * SECOND_NS]
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(STEPS_NS, FRAGMENTS, st.sampled_from([999, 999, 999, 40, 20])), min_size=1, max_size=80),
    st.sampled_from([1, 7, 1000]),
    st.sampled_from(list(Measure)),
)
def test_any_sequence_of_fragments_is_judged_as_the_reference_does(
    drawn: list[tuple[int, bytes, int]], chunk: int, measure: Measure
) -> None:
    now_ns, packets = START_NS, []
    for step_ns, data, snaplen in drawn:
        now_ns += step_ns
        packets.append((now_ns, data[:snaplen], len(data)))
    judged_alike(packets, RULES, RAW, chunk=chunk, measure=measure)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.builds(
                make.gtpu,
                st.one_of(FRAGMENTS, st.binary(max_size=60)),
                kind=st.sampled_from([255, 255, 255, 254, 1]),
                teid=st.integers(0, 2),
                sequence=st.sampled_from([None, 5]),
                extensions=st.lists(
                    st.tuples(st.sampled_from([0x85, 0x85, 0x40]), st.sampled_from([b"\0\5", b"\x10\7", bytes(6)])),
                    max_size=3,
                ),
            ),
            st.integers(0, 24),
            st.integers(0, 255),
            st.integers(0, 140),
        ),
        min_size=1,
        max_size=30,
    ),
)
def test_any_header_of_gtpu_is_read_as_the_reference_reads_it(drawn: list[tuple[bytes, int, int, int]]) -> None:
    packets = []
    for message, spoilt_at, value, cut in drawn:
        spoilt = bytearray(message)
        if value < 100:
            spoilt[spoilt_at % len(spoilt)] = value
        data = make.ipv4("192.0.2.1", "192.0.2.2", 17, make.udp(1, 2152, bytes(spoilt)))
        packets.append((START_NS, data[: len(data) if cut > 70 else cut], len(data)))
    judged_alike(packets, RULES, RAW)


def test_what_was_held_is_written_right_after_its_first_and_bears_its_time() -> None:
    engine = Engine()
    engine.begin_output(OutputFormat.of([RAW], nanoseconds=True))
    output = bytearray()
    late, first, end = fragment(64), fragment(0), fragment(128, more=False)
    packets = [at(0, late), at(0, fragment(64, identification=2)), at(500, first), at(700, end)]
    assert run(engine, *packets, emit=output.extend) == [HELD, HELD, UNMATCHED, UNMATCHED]
    assert engine.totals().packets == engine.packets == 3
    expected = [at(500, first), at(500, late), at(700, end)]
    assert output == make.pcap(expected, nanoseconds=True, order="=")[24:]
    output.clear()
    engine.finish(emit=output.extend)
    # At the end of the input, and at the time of the last packet.
    assert output == make.pcap([at(700, packets[1].data)], nanoseconds=True, order="=")[24:]
    totals = engine.totals()
    assert (totals.packets, totals.fragments_without_first) == (4, 1)
    output.clear()
    engine.finish(emit=output.extend)
    assert (output, engine.totals()) == (b"", totals)


def test_what_is_held_is_judged_by_the_rules_of_the_moment_in_which_it_is_released() -> None:
    engine = Engine()
    engine.install([])
    assert run(engine, at(0, fragment(64))) == [HELD]
    engine.install(RULES)
    assert run(engine, at(0, fragment(0))) == [CONFORMING]
    assert engine.rule_counters()["web"].packets == 2


def test_more_fragments_than_are_held_push_out_the_oldest_also_within_one_batch() -> None:
    count = MAX_HELD + 100
    packets = [at(number, fragment(64, identification=number, length=8)) for number in range(count)]
    engine = judged_alike(packets, RULES, RAW)
    assert engine.totals().fragments_without_first == count
    # The firsts of those that are still held find them; those that are pushed out meanwhile are not theirs.
    firsts = [at(count + number, fragment(0, identification=number)) for number in range(count)]
    engine = judged_alike([*packets, *firsts], RULES, RAW)
    assert engine.totals().fragments_without_first == count - MAX_HELD
    # All of a full table are released by one packet, and the table is filled anew by the same batch.
    one = [at(number, fragment(64 + 8 * number, length=8)) for number in range(MAX_HELD)]
    rest = [at(number, fragment(64, identification=9, length=8)) for number in range(MAX_HELD + 40)]
    engine = judged_alike([*one, at(9, fragment(0)), *rest, at(9, fragment(0, identification=9))], RULES, RAW)
    assert engine.totals().fragments_without_first == 40


def test_more_bytes_than_are_held_push_out_the_oldest() -> None:
    large = fragment(64, length=60_000).ljust(1 << 18, b"\0")
    count = (MAX_HELD_BYTES >> 18) + 5
    engine = judged_alike([at(number, large) for number in range(count)], RULES, RAW)
    assert engine.totals().fragments_without_first == count


def test_packets_of_every_kind_let_a_fragment_go_when_its_time_is_over() -> None:
    for last in (b"", b"\x45", fragment(0, identification=5), make.ipv4(SERVER, UE, 17, make.ports(80, 5000, 64))):
        for beyond_ns, held in ((0, 1), (1, 0)):
            engine = Engine()
            run(engine, at(0, fragment(64)), at(FRAGMENT_HOLD_NS + beyond_ns, last))
            assert engine.totals().fragments_without_first == 1 - held
            assert engine.packets == 2 - held


def test_fragments_in_tunnels_follow_the_first_of_their_own_tunnel() -> None:
    packets = [
        at(0, fragment(64, teid=1)),
        at(0, fragment(0, teid=2, port=80)),
        at(0, fragment(64)),
        at(0, fragment(0, teid=1, port=443)),
        at(0, fragment(64, teid=2)),
    ]
    engine = judged_alike(packets, RULES, RAW)
    flows = {(flow.teid, flow.source_port): flow.conforming_packets + flow.excess_packets for flow in engine.flows()}
    assert flows == {(1, 443): 2, (2, 80): 2, (None, 0): 1}


@pytest.mark.parametrize("reason", list(Malformation))
def test_every_reason_for_which_a_packet_is_malformed_is_counted_by_its_name(reason: Malformation) -> None:
    packet = {
        Malformation.LINK_HEADER: b"\0" * 13,
        Malformation.IP_HEADER: make.framed(fragment(0), ETHERNET)[:33],
        Malformation.IP_VERSION: make.framed(fragment(0), ETHERNET, family=6).ljust(60, b"\0"),
        Malformation.IP_HEADER_LENGTH: make.framed(b"\x44" + fragment(0)[1:], ETHERNET),
        Malformation.IP_TOTAL_LENGTH: make.framed(make.ipv4(SERVER, UE, 17, b"", total_length=19), ETHERNET),
        Malformation.IP_EXTENSION_HEADER: make.framed(
            make.ipv6(SERVER6, UE6, 60, make.extension(60, 17), payload_length=7), ETHERNET
        ),
        Malformation.TRANSPORT_HEADER: make.framed(make.ipv4(SERVER, UE, 6, b"abc"), ETHERNET),
        Malformation.GTPU_HEADER: make.framed(
            make.ipv4(SERVER, UE, 17, make.udp(1, 2152, b"\x30" + bytes(6))), ETHERNET
        ),
    }[reason]
    engine = judged_alike([at(0, packet)] * 3, RULES, ETHERNET)
    assert engine.totals().malformed == {reason: 3}
    assert tuple(Malformation) == MALFORMED_REASONS


def test_tunnels_are_reported_with_teid_and_qfi_and_security_associations_with_their_spi() -> None:
    inner = make.ipv4(SERVER, UE, 17, make.ports(443, 5000, 100))

    def tunnelled(teid: int, *extensions: tuple[int, bytes]) -> Captured:
        message = make.gtpu(inner, teid=teid, extensions=extensions)
        return at(0, make.ipv4("192.0.2.1", "192.0.2.2", 17, make.udp(2152, 2152, message)))

    packets = [
        tunnelled(1, make.pdu_session(5)), tunnelled(1, make.pdu_session(6)), tunnelled(2), tunnelled(0), at(0, inner),
        at(0, make.ipv4(SERVER, UE, 50, b"\x80\0\0\1" + bytes(20))), at(0, make.ipv6(SERVER6, UE6, 51, bytes(16))),
        at(0, make.ipv4(SERVER, UE, 50, b"\x80\0\0\1" + bytes(20))[:23]),
    ]  # fmt: skip
    engine = judged_alike(packets, RULES, RAW)
    flows = {(flow.protocol, flow.ports_known, flow.spi, flow.teid, flow.qfi) for flow in engine.flows()}
    assert flows == {
        *((17, True, None, 1, 5), (17, True, None, 1, 6), (17, True, None, 2, None), (17, True, None, 0, None)),
        *((17, True, None, None, None), (50, True, 0x80000001, None, None), (51, True, 0, None, None)),
        (50, False, None, None, None),
    }
    assert {(flow.source_port, flow.destination_port) for flow in engine.flows() if flow.protocol != 17} == {(0, 0)}
    assert engine.totals().gtpu == {"g_pdu": 4}
    assert engine.totals().bytes == 5 * 120 + 44 + 56 + 44


def test_with_gtpu_off_only_the_packets_that_carry_are_seen() -> None:
    message = make.gtpu(make.ipv4(SERVER, UE, 17, make.ports(443, 5000, 100)))
    packets = [at(0, make.ipv4("192.0.2.1", "192.0.2.2", 17, make.udp(1, 2152, each))) for each in (message, b"")]
    engine = judged_alike(packets, RULES, RAW, gtpu=False)
    assert (engine.totals().malformed, engine.totals().gtpu, engine.totals().bytes) == ({}, {}, 156 + 28)
