"""The engine's journal agrees with the plain-Python one: flow records, time slots, violations."""

from __future__ import annotations

import io
import struct
from collections import Counter, defaultdict
from ipaddress import ip_address
from random import Random
from typing import NamedTuple

import captures as make
import pytest
from captures import RAW, START_NS
from hypothesis import given, settings
from hypothesis import strategies as st

from upf.capture import CaptureFormat, write_header
from upf.compliance import FlowName, TimeSlot, Violation
from upf.engine import Engine
from upf.flow_records import Beginning, Ending, FlowRecord
from upf.journal import JournalOptions
from upf.parsing import Packet, parse_packet, transport_of
from upf.reference import Reference, Verdict, What
from upf.reference_journal import FIN, RST, SYN, Noted, ReferenceJournal
from upf.rules import Marker, Mode, Policer, Rule
from upf.sdf import parse_filter

SERVER, UE = "198.51.100.7", "10.45.0.2"
ACK = 16
MS, S = 10**6, 10**9


def rule(name: str, flow: str, rate_bps: int = 0, mode: Mode = Mode.POLICE, **options: object) -> Rule:
    policer = Policer(rate_bps, 1500) if rate_bps else None
    return Rule(name, 1, (parse_filter(flow),), policer, mode, **options)  # type: ignore[arg-type]


RULES = [
    rule("policed", "permit out 6 from 198.51.100.0/24 to any", 40_000),
    rule("watched", "permit out 6 from any to any 443", 8_000, Mode.MONITOR),
    rule("each", "permit out 17 from any to any", 8_000, per_flow=True),
    rule("counted", "permit out 1 from any to any"),
]
TREATED = [
    rule("shaped", "permit out 6 from 198.51.100.0/24 to any", 40_000, Mode.SHAPE, queue_bytes=5_000),
    rule("marked", "permit out 6 from any to any 5000", 8_000, Mode.MARK, dscp=(10, None, 0)),
    rule("closed", "permit out 6 from any to any", gate_open=False),
    Rule(
        "coloured",
        1,
        (parse_filter("permit out 17 from any to any"),),
        Policer(8_000, 1500, Marker.TRTCM, 16_000, 3000),
        Mode.MONITOR,
    ),
]


class Sent(NamedTuple):
    """A packet of a test: time since the start, and its bytes from the IP header on."""

    at_ns: int
    data: bytes


def tcp(at_ns: int, flags: int = ACK, *, length: int = 100, source: str = SERVER, port: int = 5000) -> Sent:
    header = struct.pack("!HHIIBBHHH", 443, port, 0, 0, 5 << 4, flags, 0, 0, 0)
    return Sent(at_ns, make.ipv4(source, UE, 6, header + bytes(length - 40)))


def udp(at_ns: int, *, length: int = 100, port: int = 5000) -> Sent:
    return Sent(at_ns, make.ipv4(SERVER, UE, 17, make.ports(443, port, length - 20)))


def capture_of(packets: list[Sent]) -> tuple[bytes, CaptureFormat]:
    stream = io.BytesIO()
    capture_format = write_header(stream, link_type=RAW, nanoseconds=True)
    for at_ns, data in packets:
        stream.write(struct.pack("=IIII", *divmod(START_NS + at_ns, S), len(data), len(data)) + data)
    return stream.getvalue(), capture_format


class Noting(NamedTuple):
    """What a journal has noted: records and violations in the order in which they ended, slots whole."""

    records: list[FlowRecord]
    slots: dict[tuple[str, int], TimeSlot]
    violations: list[Violation]


def engine_noting(
    packets: list[Sent], rules: list[Rule], options: JournalOptions, *, chunk: int = 1 << 20, max_flows: int = 1 << 20
) -> Noting:
    engine = Engine(journal=options, max_flows=max_flows)
    engine.install(rules)
    capture, capture_format = capture_of(packets)
    records: list[FlowRecord] = []
    slots: dict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0, 0])
    violations: list[Violation] = []

    def take() -> None:
        records.extend(engine.take_flow_records())
        violations.extend(engine.take_violations())
        for name, number, *volumes in engine.take_slots():
            slots[name, number] = [was + more for was, more in zip(slots[name, number], volumes, strict=True)]

    offset, over = 24, False
    while not over:
        offset, _, over = engine.run(capture, capture_format, offset=offset, max_packets=chunk)
        take()
    engine.finish()
    while not engine.end_journal(max_records=3):
        take()
    take()
    return Noting(records, {key: TimeSlot(*key, *volumes) for key, volumes in slots.items()}, violations)


def reference_noting(packets: list[Sent], rules: list[Rule], options: JournalOptions) -> Noting:
    reference, journal = Reference(rules), ReferenceJournal(options)
    closed = {rule.name for rule in rules if not rule.gate_open}

    def note(verdict: Verdict, at_ns: int, tcp_flags: int = 0) -> None:
        if verdict.flow is None or verdict.what is What.HELD:
            return
        journal.note(
            Noted(
                START_NS + at_ns,
                verdict.flow,
                verdict.length,
                verdict.rule,
                verdict.passed,
                not verdict.conforms and verdict.rule not in closed,
                tcp_flags,
                verdict.departure_ns,
            )
        )

    at_ns = 0
    for at_ns, data in packets:
        verdict = reference.process(START_NS + at_ns, data, len(data), RAW)
        for released in verdict.before:
            note(released.verdict, at_ns)
        note(verdict, at_ns, tcp_flags_of(data))
        for released in verdict.after:
            note(released.verdict, at_ns)
    for released in reference.finish():
        note(released.verdict, at_ns)
    journal.end()
    return Noting(journal.records, dict(journal.slots()), journal.violations)


def tcp_flags_of(data: bytes) -> int:
    packet = parse_packet(RAW, data, len(data))
    return transport_of(packet, data).tcp_flags if isinstance(packet, Packet) else 0


def agree(packets: list[Sent], rules: list[Rule], options: JournalOptions, *, chunk: int) -> None:
    engine = engine_noting(packets, rules, options, chunk=chunk)
    reference = reference_noting(packets, rules, options)
    assert Counter(engine.records) == Counter(reference.records)
    assert engine.slots == reference.slots
    assert Counter(engine.violations) == Counter(reference.violations)


def one_record(*packets: Sent, timeout_ns: int = 300 * S) -> FlowRecord:
    (record,) = engine_noting(list(packets), [], JournalOptions(flow_timeout_ns=timeout_ns)).records
    return record


FLAGS = st.sampled_from([ACK, ACK, ACK, SYN, SYN | ACK, FIN | ACK, RST, FIN | RST, FIN | SYN])
STEPS = st.sampled_from(
    [0, 1, MS, 99 * MS, 100 * MS, 101 * MS, S, 2 * S - 1, 2 * S, 5 * S, 5 * S + 1, -1, -MS, -10 * S, -11 * S, 3600 * S]
)
PORTS = st.integers(5000, 5002)
SOURCES = st.sampled_from([SERVER, "203.0.113.9"])
LENGTHS = st.sampled_from([40, 100, 700, 1500, 1501])
PACKETS = st.lists(
    st.one_of(
        st.builds(lambda flags, port, length, source: (flags, port, length, source), FLAGS, PORTS, LENGTHS, SOURCES),
        st.builds(lambda port, length: (None, port, length, SERVER), PORTS, LENGTHS),
    ).flatmap(lambda packet: STEPS.map(lambda step: (*packet, step))),
    max_size=80,
)


@settings(max_examples=60, deadline=None)
@given(
    drawn=PACKETS,
    rules=st.sampled_from([RULES, TREATED]),
    chunk=st.sampled_from([1, 7, 1000]),
    slot_ns=st.sampled_from([50 * MS, 100 * MS, 3 * S]),
)
def test_records_slots_and_violations_are_those_of_the_reference(
    drawn: list[tuple[int | None, int, int, str, int]], rules: list[Rule], chunk: int, slot_ns: int
) -> None:
    now_ns, packets = 0, []
    for flags, port, length, source, step_ns in drawn:
        now_ns = max(now_ns + step_ns, 0)
        if flags is None:
            packets.append(udp(now_ns, length=length, port=port))
        else:
            packets.append(tcp(now_ns, flags, length=length, source=source, port=port))
    agree(packets, rules, JournalOptions(flow_timeout_ns=5 * S, slot_ns=slot_ns, window_ns=2 * S), chunk=chunk)


@pytest.mark.parametrize(("seed", "rules"), [(1, RULES), (2, TREATED)], ids=["policed", "treated"])
def test_a_long_mixture_of_good_and_bad_packets_has_the_records_of_the_reference(seed: int, rules: list[Rule]) -> None:
    traffic = make.Traffic(packets=3_000, seed=seed, steps_back=True, link_type=RAW)
    packets = [
        Sent(packet.ts_ns - START_NS, packet.data)
        for packet in make.generate(traffic)
        if packet.wire_length == len(packet.data) and packet.ts_ns >= 0
    ]
    agree(packets, rules, JournalOptions(flow_timeout_ns=S, slot_ns=100 * MS, window_ns=S), chunk=1000)


def test_a_record_tells_who_when_how_much_and_by_which_rule() -> None:
    packets = [tcp(0, SYN), tcp(S, length=1500), tcp(S, length=1500), tcp(3 * S, FIN | ACK, length=60)]
    (record,) = engine_noting(packets, RULES, JournalOptions(flow_timeout_ns=300 * S)).records
    assert record == FlowRecord(
        source=ip_address(SERVER),
        destination=ip_address(UE),
        protocol=6,
        source_port=443,
        destination_port=5000,
        spi=None,
        teid=None,
        qfi=None,
        rule="policed",
        start_ns=START_NS,
        end_ns=START_NS + 3 * S,
        packets=4,
        bytes=3160,
        passed_packets=3,
        passed_bytes=1660,
        excess_packets=1,
        excess_bytes=1500,
        began=Beginning.SYN,
        ended=Ending.FIN,
    )
    assert (record.dropped_packets, record.dropped_bytes, record.conforming_bytes) == (1, 1500, 1660)


def test_acknowledgements_after_a_fin_belong_to_the_record_that_it_ends_and_a_syn_begins_another() -> None:
    packets = [tcp(0, SYN), tcp(1, FIN | ACK), tcp(2), tcp(3), tcp(4, SYN), tcp(5)]
    first, second = engine_noting(packets, [], JournalOptions(flow_timeout_ns=300 * S)).records
    assert (first.packets, first.began, first.ended, first.end_ns) == (4, Beginning.SYN, Ending.FIN, START_NS + 3)
    assert (second.packets, second.began, second.ended) == (2, Beginning.SYN, Ending.END_OF_INPUT)


def test_a_flow_that_is_seen_in_the_middle_begins_with_a_packet_and_may_end_by_rst() -> None:
    record = one_record(tcp(0), tcp(1), tcp(2, RST))
    assert (record.began, record.ended) == (Beginning.PACKET, Ending.RST)


def test_a_syn_without_a_fin_before_it_is_one_that_is_sent_again() -> None:
    assert one_record(tcp(0, SYN), tcp(S, SYN), tcp(2 * S)).packets == 3


@pytest.mark.parametrize(("gap_ns", "records"), [(5 * S, 1), (5 * S + 1, 2)])
def test_an_idle_gap_longer_than_the_timeout_ends_a_record(gap_ns: int, records: int) -> None:
    found = engine_noting([udp(0), udp(gap_ns)], [], JournalOptions(flow_timeout_ns=5 * S)).records
    assert len(found) == records
    assert [record.ended for record in found][:-1] == [Ending.IDLE] * (records - 1)
    assert found[-1].ended is Ending.END_OF_INPUT


def test_a_flow_that_had_fallen_silent_before_the_end_of_the_input_ended_by_that() -> None:
    ended = {
        record.destination_port: record.ended
        for record in engine_noting(
            [udp(0, port=1), udp(6 * S, port=2)], [], JournalOptions(flow_timeout_ns=5 * S)
        ).records
    }
    assert ended == {1: Ending.IDLE, 2: Ending.END_OF_INPUT}


def test_flows_that_a_full_table_evicts_have_their_records_and_nothing_is_lost() -> None:
    random = Random(5)
    packets = [udp(number * MS, port=random.randrange(1, 500)) for number in range(5_000)]
    noting = engine_noting(packets, [], JournalOptions(flow_timeout_ns=300 * S), max_flows=64, chunk=512)
    assert {record.ended for record in noting.records} == {Ending.EVICTED, Ending.END_OF_INPUT}
    assert sum(record.ended is Ending.END_OF_INPUT for record in noting.records) == 64
    assert sum(record.packets for record in noting.records) == 5_000
    assert sum(record.bytes for record in noting.records) == 500_000


def test_a_violation_says_when_it_was_who_began_it_and_how_much_was_above_the_rate() -> None:
    # 40 kbit/s and 1,500 bytes: 100 bytes take 20 ms.
    packets = [
        *(tcp(0, length=500) for _ in range(3)),
        tcp(MS, length=700, port=5001),
        tcp(500 * MS, length=1501),
        tcp(2500 * MS - 1, length=1501),
        tcp(4500 * MS - 1, length=1501),
    ]
    violations = engine_noting(packets, RULES, JournalOptions(slot_ns=100 * MS, window_ns=2 * S)).violations
    assert violations == [
        Violation(
            "policed",
            FlowName(ip_address(SERVER), ip_address(UE), 6, 443, 5001),
            START_NS + MS,
            START_NS + 2500 * MS - 1,
            3,
            700 + 1501 + 1501,
        ),
        Violation(
            "policed",
            FlowName(ip_address(SERVER), ip_address(UE), 6, 443, 5000),
            START_NS + 4500 * MS - 1,
            START_NS + 4500 * MS - 1,
            1,
            1501,
        ),
    ]


def test_slots_hold_what_was_offered_what_passed_and_what_passed_above_the_rate() -> None:
    watched = rule("watched", "permit out 17 from any to any", 8_000, Mode.MONITOR)
    noting = engine_noting(
        [udp(0, length=1000), udp(99 * MS, length=1000), udp(100 * MS, length=400)],
        [watched],
        JournalOptions(slot_ns=100 * MS),
    )
    first = START_NS // (100 * MS)
    assert noting.slots == {
        ("watched", first): TimeSlot("watched", first, 2000, 2000, 1000),
        ("watched", first + 1): TimeSlot("watched", first + 1, 400, 400, 0),
    }


def test_a_journal_that_has_ended_notes_nothing_more() -> None:
    engine = Engine(journal=JournalOptions(flow_timeout_ns=S, slot_ns=MS))
    capture, capture_format = capture_of([udp(0)])
    engine.run(capture, capture_format, offset=24, max_packets=1)
    assert engine.end_journal(max_records=10) is True
    assert len(engine.take_flow_records()) == len(engine.take_slots()) == 1
    engine.run(capture, capture_format, offset=24, max_packets=1)
    assert engine.take_flow_records() == engine.take_slots() == engine.take_violations() == []
    assert engine.totals().packets == 2


def test_without_a_journal_there_is_nothing_to_take() -> None:
    engine = Engine()
    assert engine.take_flow_records() == engine.take_slots() == engine.take_violations() == []
    assert engine.end_journal(max_records=1) is True


def test_a_journal_has_the_times_of_flows_already() -> None:
    with pytest.raises(ValueError, match="flow_times: the journal's records have them"):
        Engine(journal=JournalOptions(), flow_times=True)
