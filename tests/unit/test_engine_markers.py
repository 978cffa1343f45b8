"""The compiled engine's markers, aggregates, gates and modes are those of the reference, packet by packet."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random

import captures
import pytest
from captures import ETHERNET, SECOND_NS, START_NS, UDP

from upf import engine as compiled
from upf.capture import CaptureFormat, OutputFormat, write_header
from upf.engine import Engine
from upf.reference import Reference, Verdict, What
from upf.rules import Aggregate, Colour, Marker, Mode, Policer, Rule
from upf.sdf import parse_filter

Packet = tuple[int, bytes, int]
RATES_BPS = [1_000, 64_000, 8_000_000, 1_500_000_000, 400_000_000_000]
SESSION = Aggregate("session", Policer(96_000, 4_000))
SLICE = Aggregate("slice", Policer(64_000_000, 3_000))
ROOMY = Aggregate("roomy", Policer(10**13, 2**29))
DSCPS = [0, 8, 10, 12, 14, 20, 22, 34, 36, 38, 44, 46, 63]
CODES = {Colour.GREEN: compiled.CONFORMING, Colour.YELLOW: compiled.YELLOW}


def policer_of(random: Random, marker: Marker, *, colour_aware: bool = False) -> Policer:
    rate_bps, burst_bytes = random.choice(RATES_BPS), random.choice([64, 1_000, 1_500, 6_000, 2**29])
    excess_bps = 0
    if marker is Marker.TRTCM:
        excess_bps = rate_bps * random.choice([1, 2, 10])
    elif marker is Marker.DIFFSERV_TRTCM:
        excess_bps = random.choice(RATES_BPS)
    excess_bytes = 0 if marker is Marker.TOKEN_BUCKET else random.choice([64, 1_500, 3_000, 2**29])
    return Policer(rate_bps, burst_bytes, marker, excess_bps, excess_bytes, colour_aware)


def rule_of(random: Random, name: str, precedence: int, flow: str) -> Rule:
    mode = random.choice(list(Mode))
    marker = Marker.TOKEN_BUCKET if mode is Mode.SHAPE else random.choice(list(Marker))
    policer: Policer | None = policer_of(random, marker, colour_aware=mode is not Mode.SHAPE and random.random() < 0.5)
    if mode is not Mode.SHAPE and random.random() < 0.1:
        policer = None
    assert policer is not None or mode is not Mode.SHAPE
    queue = {"queue_bytes": random.choice([0, 100, 3_000])} if random.random() < 0.5 else {"queue_ns": 200_000_000}
    if policer is not None and policer.rate_bps * 200_000_000 > 2**29 * 8 * 10**9:
        queue = {"queue_bytes": 2**29}
    return Rule(
        name,
        precedence,
        (parse_filter(flow),),
        policer,
        mode,
        per_flow=random.random() < 0.5,
        aggregates=tuple(random.sample([SESSION, SLICE, ROOMY], random.choice([0, 0, 1, 2, 3]))),
        gate_open=random.random() < 0.9,
        dscp=(random.choice([None, 10, 63]), random.choice([None, 12]), random.choice([None, 0, 14])),
        **queue,  # type: ignore[arg-type]
    )


def rules_of(random: Random) -> list[Rule]:
    first = rule_of(random, "first", 1, "permit out 17 from any 443 to any")
    second = rule_of(random, "second", 2, "permit out 17 from any 444 to any")
    rest = rule_of(random, "rest", 9, "permit out ip from any to any")
    if random.random() < 0.5:
        # Two rules that share what one of them has.
        first = replace(first, bucket_id="both")
        second = replace(first, name="second", precedence=2, filters=second.filters, gate_open=second.gate_open)
    return [first, second, rest] if random.random() < 0.8 else [first, second]


def with_checksum(header: bytes) -> bytes:
    """The IPv4 header with its checksum (RFC 791), computed over all of it."""
    bare = header[:10] + bytes(2) + header[12:]
    total = sum(word for (word,) in struct.iter_unpack(">H", bare))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return header[:10] + struct.pack(">H", ~total & 0xFFFF) + header[12:]


def with_dscp(frame: bytes, dscp: int) -> bytes:
    """An Ethernet frame whose IP header bears the DSCP; ECN as it was."""
    at = 14 + 4 * (frame[12:14] == b"\x81\x00")
    link, ip = frame[:at], frame[at:]
    if ip[0] >> 4 == 4:
        header, rest = ip[: (ip[0] & 15) * 4], ip[(ip[0] & 15) * 4 :]
        return link + with_checksum(header[:1] + bytes([dscp << 2 | header[1] & 3]) + header[2:]) + rest
    (word,) = struct.unpack(">I", ip[:4])
    return link + struct.pack(">I", word & ~(63 << 22) | dscp << 22) + ip[4:]


def frame_of(random: Random, length: int) -> bytes:
    content = captures.ports(random.choice([443, 443, 444, 445]), random.choice([1, 2, 3]), 8)
    ecn = random.randrange(4)
    if random.random() < 0.3:
        packet = captures.ipv6("2001:db8::1", "2001:db8::2", UDP, content, payload_length=max(length - 40, 8))
        if random.random() < 0.02:
            jumbo = bytes([UDP, 0, 0xC2, 4]) + struct.pack(">I", random.choice([2**29 - 40, 2**29 - 39, 2**32 - 1]))
            packet = captures.ipv6("2001:db8::1", "2001:db8::2", 0, jumbo + content, payload_length=0)
        packet = struct.pack(">I", 6 << 28 | ecn << 20 | 0x54321) + packet[4:]
    else:
        options = bytes(random.choice([0, 0, 8]))
        packet = captures.ipv4("10.0.0.1", "10.0.0.2", UDP, content, options=options, total_length=max(length, 64))
        end = 20 + len(options)
        packet = with_checksum(packet[:1] + bytes([ecn]) + packet[2:end]) + packet[end:]
    vlans = [0x8100] if random.random() < 0.2 else []
    return with_dscp(captures.framed(packet, ETHERNET, vlans=vlans), random.choice(DSCPS))


def packets_of(random: Random, rules: Sequence[Rule], count: int) -> list[Packet]:
    """Lengths and times near what the buckets make of them, and far from it."""
    rates = [rule.policer.rate_bps for rule in rules if rule.policer is not None] or [64_000]
    now_ns, packets = START_NS, []
    for _ in range(count):
        length = random.choice([64, 64, 65, 576, 999, 1_000, 1_500, 65_535])
        byte_ns = 8 * SECOND_NS / random.choice(rates)
        gap_ns = random.choice([0, 0, 1, int(byte_ns * length), int(byte_ns * length * random.random() * 2)])
        if random.random() < 0.08:
            gap_ns = random.choice(
                [-5, -SECOND_NS, -10 * SECOND_NS, -10 * SECOND_NS - 1, -(10**12), 10**11, 3 * 86_400 * SECOND_NS]
            )
        now_ns = max(now_ns + gap_ns, 0)
        packets.append((now_ns, frame_of(random, length), 2_000))
    return packets


def capture_of(packets: Sequence[Packet]) -> tuple[bytes, CaptureFormat]:
    stream = io.BytesIO()
    capture_format = write_header(stream, link_type=ETHERNET, nanoseconds=True)
    for ts_ns, data, wire_length in packets:
        stream.write(struct.pack("=IIII", *divmod(ts_ns, SECOND_NS), len(data), wire_length) + data)
    return stream.getvalue(), capture_format


def code_of(verdict: Verdict) -> int:
    if verdict.what in (What.NON_IP, What.UNMATCHED):
        return compiled.UNMATCHED
    if verdict.colour is Colour.RED:
        return compiled.EXCEEDING if verdict.passed else compiled.DROPPED
    return CODES[verdict.colour]


def leaving(judged: Iterator[tuple[Packet, Verdict]]) -> list[tuple[int, bytes]]:
    """What the output capture is to hold: (time, bytes), by a list that is searched where the engine has a heap."""
    left: list[tuple[int, bytes]] = []
    held: list[tuple[int, bytes]] = []
    clock_ns = -1
    for (ts_ns, data, _), verdict in judged:
        if not verdict.passed:
            continue
        back = ts_ns < clock_ns - 10 * SECOND_NS
        clock_ns = ts_ns if back else max(clock_ns, ts_ns)
        due = [packet for packet in held if back or packet[0] <= clock_ns]
        held = [packet for packet in held if packet not in due]
        left += sorted(due, key=lambda packet: packet[0])
        sent = data if verdict.dscp is None else with_dscp(data, verdict.dscp)
        departure_ns = max(verdict.departure_ns or 0, ts_ns)
        (held if departure_ns > max(ts_ns, clock_ns) else left).append((departure_ns, sent))
    return left + sorted(held, key=lambda packet: packet[0])


def records_of(output: bytes) -> list[tuple[int, bytes]]:
    records, at = [], 0
    while at < len(output):
        seconds, fraction, captured, _ = struct.unpack_from("=IIII", output, at)
        records.append((seconds * SECOND_NS + fraction, output[at + 16 : at + 16 + captured]))
        at += 16 + captured
    return records


@pytest.mark.parametrize("seed", range(60))
def test_every_verdict_counter_and_record_is_that_of_the_reference(seed: int) -> None:
    random = Random(seed)
    rules = rules_of(random)
    packets = packets_of(random, rules, 300)
    reference, engine = Reference(rules), Engine()
    engine.install(rules)
    engine.begin_output(OutputFormat.of([ETHERNET], nanoseconds=True))
    output = bytearray()
    capture, capture_format = capture_of(packets)
    verdicts = bytearray(len(packets))
    engine.run(capture, capture_format, offset=24, max_packets=len(packets), verdicts=verdicts, emit=output.extend)
    engine.finish(emit=output.extend)
    judged = []
    for number, (packet, code) in enumerate(zip(packets, verdicts, strict=True)):
        verdict = reference.process(*packet, ETHERNET)
        assert code == code_of(verdict), f"packet {number}: the reference says {verdict}"
        judged.append((packet, verdict))
    assert engine.rule_counters() == reference.rule_counters()
    assert engine.totals() == reference.totals()
    assert records_of(bytes(output)) == leaving(iter(judged))


@pytest.mark.parametrize("seed", range(30))
def test_a_change_of_rules_keeps_the_tokens_that_the_reference_keeps(seed: int) -> None:
    random = Random(seed)
    rules = rules_of(random)
    reference, engine = Reference(rules), Engine()
    packets = packets_of(random, rules, 240)
    for start in range(0, 240, 40):
        engine.install(rules)
        reference.install(rules)
        part = packets[start : start + 40]
        capture, capture_format = capture_of(part)
        verdicts = bytearray(len(part))
        engine.run(capture, capture_format, offset=24, max_packets=len(part), verdicts=verdicts)
        for number, (packet, code) in enumerate(zip(part, verdicts, strict=True)):
            verdict = reference.process(*packet, ETHERNET)
            assert code == code_of(verdict), f"packet {start + number}: the reference says {verdict}"
        assert engine.rule_counters() == reference.rule_counters()
        rules = changed(random, rules)


def changed(random: Random, rules: list[Rule]) -> list[Rule]:
    """The same rules with other rates, depths, gates and queues; now and then other rules altogether."""
    if random.random() < 0.2:
        return rules_of(random)
    policers: dict[str, Policer | None] = {}
    after = []
    for rule in rules:
        policer = rule.policer
        if policer is not None:
            fresh = policer_of(random, policer.marker, colour_aware=policer.colour_aware)
            policer = policers.setdefault(rule.bucket_id or rule.name, fresh)
        queue_bytes = 500 if rule.bucket_id else random.choice([0, 500, 5_000])
        after.append(
            replace(rule, policer=policer, queue_ns=0, queue_bytes=queue_bytes, gate_open=random.random() < 0.9)
        )
    return after


def udp(content: bytes, source: bytes, destination: bytes) -> bytes:
    """A UDP datagram with its checksum (RFC 768), over IPv4."""
    length = 8 + len(content)
    bare = struct.pack(">HHHH", 2152, 2152, length, 0) + content
    covered = source + destination + struct.pack(">HH", 17, length) + bare + bytes(len(bare) % 2)
    total = sum(word for (word,) in struct.iter_unpack(">H", covered))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return bare[:6] + struct.pack(">H", ~total & 0xFFFF or 0xFFFF) + content


def tunnelled(inner: bytes, *, checksum: bool = True) -> bytes:
    """An Ethernet frame with the packet in a G-PDU."""
    source, destination = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])
    datagram = udp(struct.pack(">BBHI", 0x30, 255, len(inner), 7) + inner, source, destination)
    if not checksum:
        datagram = datagram[:6] + bytes(2) + datagram[8:]
    outer = captures.ipv4(int.from_bytes(source, "big"), int.from_bytes(destination, "big"), UDP, datagram)
    return captures.framed(with_checksum(outer[:20]) + outer[20:], ETHERNET)


def marked_with(frame: bytes, dscp: int) -> bytes:
    engine = Engine()
    everything = (parse_filter("permit out ip from any to any"),)
    engine.install([Rule("all", 1, everything, None, Mode.MARK, dscp=(dscp, None, None))])
    engine.begin_output(OutputFormat.of([ETHERNET], nanoseconds=True))
    output = bytearray()
    capture, capture_format = capture_of([(START_NS, frame, len(frame))])
    engine.run(capture, capture_format, offset=24, max_packets=1, emit=output.extend)
    ((_, sent),) = records_of(bytes(output))
    return sent


@pytest.mark.parametrize("dscp", range(0, 64, 7))
@pytest.mark.parametrize("checksum", [True, False])
@pytest.mark.parametrize("family", [4, 6])
def test_the_inner_packet_of_a_tunnel_is_marked_and_every_checksum_stays_right(
    family: int, checksum: bool, dscp: int
) -> None:
    content = captures.ports(443, 5000, 33)
    if family == 4:
        packet = captures.ipv4("10.0.0.1", "10.0.0.2", UDP, content)
        inner = with_checksum(packet[:20]) + packet[20:]
    else:
        inner = captures.ipv6("2001:db8::1", "2001:db8::2", UDP, content)
    expected = with_dscp(bytes(14) + inner, dscp)[14:]
    assert marked_with(tunnelled(inner, checksum=checksum), dscp) == tunnelled(expected, checksum=checksum)


def test_a_wrong_checksum_stays_wrong_by_as_much() -> None:
    packet = captures.ipv4("10.0.0.1", "10.0.0.2", UDP, captures.ports(1, 2))
    wrong = with_checksum(packet[:20])[:10] + b"\x12\x34" + packet[12:]
    sent = marked_with(captures.framed(wrong, ETHERNET), 46)[14:]

    def total(header: bytes) -> int:
        return sum(word for (word,) in struct.iter_unpack(">H", header)) % 0xFFFF

    assert (sent[1], total(sent[:20])) == (46 << 2, total(wrong[:20]))


def test_departures_are_rounded_up_to_the_microseconds_of_the_output() -> None:
    engine = Engine()
    everything = (parse_filter("permit out ip from any to any"),)
    # 100 bytes at 3 Mbit/s take 266.67 µs.
    engine.install([Rule("all", 1, everything, Policer(3_000_000, 100), Mode.SHAPE, queue_bytes=1_000)])
    frame = captures.framed(captures.ipv4("10.0.0.1", "10.0.0.2", UDP, captures.ports(1, 2, 80)), ETHERNET)
    capture, capture_format = capture_of([(START_NS, frame, len(frame))] * 4)
    engine.begin_output(OutputFormat.of([ETHERNET], nanoseconds=False))
    output, times_us = bytearray(), []
    engine.run(capture, capture_format, offset=24, max_packets=4, emit=output.extend)
    assert len(records_of(bytes(output))) == 1
    output.clear()
    engine.finish(emit=output.extend)
    for at in range(0, len(output), 16 + len(frame)):
        seconds, micros = struct.unpack_from("=II", output, at)
        times_us.append(seconds * 10**6 + micros - START_NS // 1_000)
    assert times_us == [267, 534, 800]
    counted = engine.rule_counters()["all"]
    assert (counted.delayed_packets, counted.delay_max_ns) == (3, 800_000)
    assert counted.delay_sum_ns == 266_667 + 533_334 + 800_000
