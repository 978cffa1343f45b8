"""Any bytes on any link, packet after packet: the engine reads, judges and counts them as the reference does.

An input is a byte for the link type, one for the rules, and packets: a byte that chooses how much later it comes, one
for its length on the wire, two for how many bytes were captured (little-endian), and these bytes. Each packet is walked
in a block of its own length, or all of them in one, as the topmost bit of the second byte says; the three bits below it
say what is measured, and whether tunnels are looked into. The topmost of the first byte asks for the journal.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from typing import Final

import captures
from captures import SECOND_NS, START_NS, Captured

from fuzz.exact_buffer import exact_buffer
from upf.capture import LINK_TYPES, CaptureFormat, OutputFormat, Record, parse_header, read_records
from upf.counters import FlowCounters, Measure
from upf.engine import CONFORMING, DROPPED, EXCEEDING, HELD, MALFORMED, UNMATCHED, YELLOW, Engine
from upf.journal import JournalOptions
from upf.reference import Reference, Released, Verdict, What
from upf.rules import Aggregate, Colour, Marker, Mode, Policer, Rule
from upf.sdf import parse_filter

LINKS: Final = sorted(LINK_TYPES)
# How much later than the one before it a packet comes: around every time at which the user plane behaves otherwise.
STEPS_NS: Final = (
    0, 1, 1_000, SECOND_NS // 1000, SECOND_NS // 10, SECOND_NS, 9 * SECOND_NS, 60 * SECOND_NS, 60 * SECOND_NS + 1,
    300 * SECOND_NS + 1, 30 * 86_400 * SECOND_NS, -1, -SECOND_NS // 1000, -10 * SECOND_NS, -10 * SECOND_NS - 1,
    -61 * SECOND_NS,
)  # fmt: skip
# The length on the wire, besides that captured and a little more.
WIRE_LENGTHS: Final = {1: 0, 2: 40, 3: 1_514, 4: 65_535, 5: 262_144, 6: (1 << 32) - 1}


# More tell nothing new, and cost time.
MOST_PACKETS: Final = 48


def rule(name: str, precedence: int, flow: str, policer: Policer | None, mode: Mode, per_flow: bool = False) -> Rule:
    return Rule(name, precedence, (parse_filter(flow),), policer, mode, per_flow)


ANY, ANY_TCP, ANY_UDP = ((parse_filter(f"permit out {protocol} from any to any"),) for protocol in ("ip", 6, 17))
RULE_SETS = (
    (
        rule("udp", 1, "permit out 17 from any 80,443,8000-8099 to any", Policer(2_000_000, 3_000), Mode.POLICE),
        rule("each", 2, "permit out ip from any to 10.45.0.0/24", Policer(64_000, 2_000), Mode.MONITOR, True),
        rule("v6", 3, "permit out ip from 2001:db8::/32 to any", None, Mode.MONITOR),
    ),
    (rule("each", 1, "permit out ip from any to any", Policer(8_000, 1_500), Mode.POLICE, True),),
    (rule("all", 1, "permit out ip from any to any", Policer(10**13, 1 << 29), Mode.POLICE),),
    (
        rule("tcp", 1, "permit out 6 from any to any", Policer(1, 64), Mode.MONITOR),
        rule("rest", 2, "permit out ip from any 1-65535 to any", Policer(1_000_000, 15_000), Mode.POLICE),
    ),
    (
        rule("tunnel", 1, "permit out ip from any to any teid 1 qfi 9", Policer(64_000, 1_500), Mode.POLICE, True),
        rule("marked", 2, "permit out ip from any to any tos 0x28/0xfc", Policer(64_000, 1_500), Mode.POLICE),
        rule("label", 3, "permit out ip from ::/0 to any flow-label 5", None, Mode.MONITOR),
        rule("ESP", 4, "permit out 50 from any to any spi 0x12345678", Policer(8_000, 3_000), Mode.POLICE),
        rule("AH", 5, "permit out 51 from any to any spi 7", Policer(8_000, 3_000), Mode.MONITOR, True),
    ),
)
AMBR: Final = Aggregate("session", Policer(100_000, 2_000))
MARKING: Final = {"mode": Mode.MARK, "dscp": (10, 12, 14)}
RULE_SETS += (
    (
        Rule("blue", 1, ANY_UDP, Policer(64_000, 1_500, Marker.SRTCM, 0, 3_000), **MARKING),
        Rule("two", 2, ANY_TCP, Policer(64_000, 1_500, Marker.TRTCM, 128_000, 3_000, True), **MARKING),
        Rule("rest", 3, ANY, Policer(64_000, 1_500, Marker.DIFFSERV_TRTCM, 8_000, 3_000), per_flow=True, **MARKING),
    ),
    (
        Rule("gate", 1, ANY_TCP, Policer(64_000, 1_500), Mode.POLICE, gate_open=False, aggregates=(AMBR,)),
        Rule("flow", 2, ANY_UDP, Policer(64_000, 1_500), Mode.POLICE, True, aggregates=(AMBR,)),
        Rule("rest", 3, ANY, None, Mode.MONITOR, aggregates=(AMBR,)),
    ),
    (
        Rule("shaped", 1, ANY_UDP, Policer(64_000, 1_500), Mode.SHAPE, queue_bytes=4_000),
        Rule("each", 2, ANY, Policer(8_000, 3_000), Mode.SHAPE, True, queue_ns=2 * SECOND_NS),
    ),
    (
        rule("name", 1, "permit out ip from any to any domain www.example.com", Policer(64_000, 1_500), Mode.POLICE),
        rule(
            "names", 2, "permit out 6 from any to any domain *.example.com", Policer(8_000, 1_500), Mode.MONITOR, True
        ),
        rule("rest", 3, "permit out ip from any to 10.45.0.0/24", None, Mode.MONITOR),
    ),
)
MEASURES: Final = (Measure.L3, Measure.L2, Measure.L4)
CODES: Final = {What.MALFORMED: MALFORMED, What.NON_IP: UNMATCHED, What.UNMATCHED: UNMATCHED, What.HELD: HELD}


def check(data: bytes) -> None:
    if len(data) < 2:
        return
    link_type, rules = LINKS[(data[0] & 0x7F) % len(LINKS)], RULE_SETS[(data[1] & 15) % len(RULE_SETS)]
    measure, gtpu = MEASURES[(data[1] >> 5 & 3) % len(MEASURES)], not data[1] & 0x10
    packets = list(read(data[2:]))
    capture = captures.pcap(packets, link_type=link_type, nanoseconds=True)
    capture_format = parse_header(capture[:24], source="")
    journal = JournalOptions(5 * SECOND_NS, SECOND_NS, 2 * SECOND_NS) if data[0] & 0x80 else None
    engine = Engine(max_flows=64, measure=measure, gtpu=gtpu, journal=journal)
    reference, verdicts = Reference(rules, measure=measure, gtpu=gtpu), bytearray(len(packets))
    engine.install(rules)
    engine.begin_output(OutputFormat.of([link_type], nanoseconds=True))
    output, passed = bytearray(), list[Released]()
    offset, one_by_one = 24, data[1] < 0x80
    for number, packet in enumerate(packets):
        end = offset + 16 + len(packet.data) if one_by_one else len(capture)
        with exact_buffer(capture[offset:end]) as records:
            room = memoryview(verdicts)[number:]
            at, walked, _ = engine.run(
                records, capture_format, offset=0, max_packets=len(room), verdicts=room, emit=output.extend
            )
        assert at == end - offset, f"the walk ended at {at} of {end - offset} bytes"
        assert walked == (1 if one_by_one else len(packets))
        offset = end
        if not one_by_one:
            break
    for number, packet in enumerate(packets):
        verdict = reference.process(*packet, link_type)
        assert verdicts[number] == code(verdict), f"packet {number} got {verdicts[number]}, the reference: {verdict}"
        passed += (*verdict.before, Released(packet.data, packet.wire_length, verdict), *verdict.after)
    assert engine.totals() == reference.totals(), f"{engine.totals()} != {reference.totals()}"
    engine.finish(emit=output.extend)
    passed += reference.finish()
    assert engine.totals() == reference.totals(), f"{engine.totals()} != {reference.totals()}"
    if journal is not None:
        is_noted_whole(engine)
    is_what_passed(output, [each for each in passed if each.verdict.passed])
    assert engine.rule_counters() == reference.rule_counters()
    assert counted(engine.flows()) == counted(reference.flows())


def is_noted_whole(engine: Engine) -> None:
    """Every packet stands in one record and, under a rule, in one slot."""
    records, slots = engine.take_flow_records(), engine.take_slots()
    engine.take_violations()
    while not engine.end_journal(max_records=3):
        records += engine.take_flow_records()
    records += engine.take_flow_records()
    slots += engine.take_slots()
    assert sum(record.bytes for record in records) == engine.totals().bytes
    noted = Counter[str]()
    for slot in slots:
        noted[slot.rule] += slot.offered_bytes
    counters = engine.rule_counters()
    assert {rule: noted[rule] for rule in counters} == {rule: each.bytes for rule, each in counters.items()}


def is_what_passed(output: bytearray, passed: list[Released]) -> None:
    """The output capture holds these, in whatever order they left; the DSCP apart, where that was to be written."""
    left = [(record.data, record.wire_length) for record in records_of(output)]
    if any(each.verdict.dscp is not None for each in passed):
        assert Counter((len(data), length) for data, length in left) == Counter(
            (len(each.data), each.wire_length) for each in passed
        )
    else:
        assert Counter(left) == Counter((each.data, each.wire_length) for each in passed)


def records_of(output: bytearray) -> Iterator[Record]:
    view = memoryview(output)
    return read_records(
        view, CaptureFormat(swapped=False, nanoseconds=True, link_type=1, snaplen=0, header_bytes=0), source="output"
    )


def code(verdict: Verdict) -> int:
    if verdict.conforms:
        return CODES.get(verdict.what, YELLOW if verdict.colour is Colour.YELLOW else CONFORMING)
    return CODES.get(verdict.what, EXCEEDING if verdict.passed else DROPPED)


def counted(flows: list[FlowCounters]) -> Counter[tuple[object, ...]]:
    return Counter(
        (
            *(f.source, f.destination, f.protocol, f.source_port, f.destination_port, f.ports_known),
            *(f.spi, f.teid, f.qfi, f.rule),
            *(f.conforming_packets, f.conforming_bytes, f.excess_packets, f.excess_bytes),
        )
        for f in flows
    )


def read(data: bytes) -> Iterator[Captured]:
    """The packets of an input."""
    now_ns, at, count = START_NS, 0, 0
    while at + 4 <= len(data) and count < MOST_PACKETS:
        step, wire, length = struct.unpack_from("<BBH", data, at)
        now_ns = max(0, now_ns + STEPS_NS[step % len(STEPS_NS)])
        packet = data[at + 4 : at + 4 + length]
        yield Captured(now_ns, packet, WIRE_LENGTHS.get(wire, len(packet) + wire))
        at += 4 + length
        count += 1


def written(packets: list[Captured], link_type: int, rules: int) -> bytes:
    """The input that reads as these packets; their times become a step of the table each."""
    pieces = [bytes((LINKS.index(link_type), rules))]
    for number, packet in enumerate(packets):
        pieces += (struct.pack("<BBH", number % 5, 0, len(packet.data)), packet.data)
    return b"".join(pieces)


def seeds() -> Iterator[bytes]:
    for number, link_type in enumerate(LINKS):
        family = {228: 4, 229: 6}.get(link_type, 0)
        for seed in range(4):
            traffic = captures.Traffic(
                seed=100 * number + seed, packets=40, flows=4, link_type=link_type, gtpu=seed % 2 == 1
            )
            packets = [
                packet._replace(data=packet.data[:160])
                for packet in captures.generate(traffic)
                if not family or (packet.data[:1] and packet.data[0] >> 4 == family)
            ]
            yield written(packets[:8], link_type, seed | (seed % 2) << 7)
    for flags in (0x08, 0x88):
        yield written(list(named()), captures.RAW, flags)
    for number in range(8):
        yield written(list(tunnelled(number)), captures.RAW, 4 | number << 4)
        traffic = captures.Traffic(seed=number, packets=30, flows=3, link_type=captures.ETHERNET)
        packets = written(captures.generate(traffic)[:12], captures.ETHERNET, 5 + number % 3 | (number & 1) << 7)
        yield packets
        yield bytes((packets[0] | 0x80,)) + packets[1:]


def named() -> Iterator[Captured]:
    """A name that the DNS gives, a request that says one, and a hello in two segments, there and back."""
    from named_traffic import SYN, client_hello, dns_answer, http_request, tcp, udp

    server, ue, resolver = "198.51.100.1", "10.45.0.2", "198.51.100.9"
    answer = dns_answer("www.example.com", [("www.example.com.", "A", 20, server)])
    hello, request = client_hello("a.example.com")[:600], http_request("www.example.com")
    there = [tcp(5000, 443, 1, flags=SYN), tcp(5000, 443, 2, hello[:90]), tcp(5000, 443, 92, hello[90:])]
    packets = [
        captures.ipv4(resolver, ue, captures.UDP, udp(53, 5000, answer)),
        *(captures.ipv4(ue, server, captures.TCP, segment) for segment in there),
        captures.ipv4(server, ue, captures.TCP, tcp(443, 5000, 1, b"x" * 200)),
        captures.ipv4(ue, "198.51.100.2", captures.TCP, tcp(5001, 80, 9, request)),
        captures.ipv4("198.51.100.2", ue, captures.TCP, tcp(80, 5001, 9, b"y" * 300)),
    ]
    yield from (Captured(START_NS, packet, len(packet)) for packet in packets)


def tunnelled(seed: int) -> Iterator[Captured]:
    """Packets in GTP-U, with every kind of header before them, and GTP-U messages that carry none."""
    inner = captures.generate(captures.Traffic(seed=seed, packets=5, flows=2, link_type=captures.RAW, malformed=False))
    extensions = [
        [],
        [captures.pdu_session(9)],
        [(0x40, bytes(2)), captures.pdu_session(9, pdu_type=1)],
        [(0x20, bytes(10)), (0x85, bytes(10))],
        [],
    ]
    for number, (packet, each) in enumerate(zip(inner, extensions, strict=True)):
        message = captures.gtpu(packet.data[:120], sequence=7 if number % 2 else None, extensions=each)
        if number == 4:
            message = captures.gtpu(b"", kind=(1, 2, 26, 254)[seed % 4])
        datagram = captures.udp(2152, 2152, message)
        yield packet._replace(data=captures.ipv4("192.0.2.1", "192.0.2.2", captures.UDP, datagram))
