"""Damaged input against every parser: the engine agrees with the reference, the others read or refuse in their words.

Each test works for ``--fuzz-seconds`` (0.5 by default, ``make fuzz`` asks for more); a failure tells the seed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from random import Random

import captures
import pytest

from upf.capture import LINK_TYPES, CaptureError, parse_header, read_records
from upf.engine import CONFORMING, DROPPED, EXCEEDING, HELD, MALFORMED, UNMATCHED, Engine
from upf.reference import Reference, What
from upf.rules import Mode, Policer, Rule, RulesError
from upf.rules_file import parse_rules
from upf.sdf import FilterError, parse_filter
from upf.units import UnitError, parse_bit_rate, parse_burst

Seeds = Callable[[], Iterator[int]]

RULES = [
    Rule(
        "udp",
        1,
        (parse_filter("permit out 17 from any 80,443,8000-8099 to any"),),
        Policer(2_000_000, 3_000),
        Mode.POLICE,
    ),
    Rule(
        "each", 2, (parse_filter("permit out ip from any to 10.45.0.0/24"),), Policer(64_000, 2_000), Mode.MONITOR, True
    ),
    Rule("v6", 3, (parse_filter("permit out ip from 2001:db8::/32 to any"),), None, Mode.MONITOR),
]
FILTERS = [
    "permit out 17 from 198.51.100.0/24 443,8000-8099 to assigned",
    "permit in ip from any to 2001:db8::1/64 80",
    "permit out 6 from 10.0.0.1 1-65535 to any",
]
RULES_FILE = """
[[rule]]
name = "video"
flows = ["permit out 17 from 198.51.100.0/24 443 to assigned"]
precedence = 10
rate = "5 Mbps"
burst = "50 ms"
mode = "police"
per_flow = false
"""


@pytest.fixture
def seeds(request: pytest.FixtureRequest) -> Seeds:
    seconds = request.config.getoption("--fuzz-seconds")
    first = Random().randrange(1 << 32) if request.config.getoption("--fuzz-random") else 1

    def going() -> Iterator[int]:
        end = time.monotonic() + seconds
        seed = first
        while seed == first or time.monotonic() < end:
            yield seed
            seed += 1

    return going


def damaged(random: Random, data: bytes, *, most: int = 4) -> bytes:
    """The bytes with some of them flipped, set, cut out, doubled, or the end missing."""
    spoilt = bytearray(data)
    for _ in range(random.randint(0, most)):
        if not spoilt:
            break
        at = random.randrange(len(spoilt))
        match random.randrange(6):
            case 0:
                spoilt[at] ^= 1 << random.randrange(8)
            case 1:
                spoilt[at] = random.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                del spoilt[at : at + random.randint(1, 8)]
            case 3:
                spoilt[at:at] = random.randbytes(random.randint(1, 8))
            case 4:
                spoilt[at:at] = spoilt[at : at + random.randint(1, 40)]
            case 5:
                del spoilt[at:]
    return bytes(spoilt)


def test_the_engine_judges_damaged_packets_as_the_reference_does(seeds: Seeds) -> None:
    codes = {What.MALFORMED: MALFORMED, What.NON_IP: UNMATCHED, What.UNMATCHED: UNMATCHED, What.HELD: HELD}
    for seed in seeds():
        random = Random(seed)
        link_type = random.choice(sorted(LINK_TYPES))
        family = {228: 4, 229: 6}.get(link_type, 0)
        traffic = captures.Traffic(
            seed=seed, packets=300, link_type=link_type, malformed=True, fragments=True, gtpu=seed % 2 == 0
        )
        packets = [
            packet._replace(data=data, wire_length=random.choice((len(data), packet.wire_length, 40)))
            for packet in captures.generate(traffic)
            if not family or (packet.data[:1] and packet.data[0] >> 4 == family)
            for data in [damaged(random, packet.data) if random.random() < 0.7 else packet.data]
        ]
        capture = captures.pcap(packets, link_type=link_type, nanoseconds=True)
        engine, reference, verdicts = Engine(), Reference(RULES), bytearray(len(packets))
        engine.install(RULES)
        engine.run(
            capture, parse_header(capture[:24], source=""), offset=24, max_packets=len(packets), verdicts=verdicts
        )
        for number, (packet, code) in enumerate(zip(packets, verdicts, strict=True)):
            verdict = reference.process(*packet, link_type)
            expected = codes.get(
                verdict.what, CONFORMING if verdict.conforms else EXCEEDING if verdict.passed else DROPPED
            )
            assert code == expected, f"seed {seed}, packet {number}, link {link_type}: {packet.data.hex()}: {verdict}"
        assert engine.totals() == reference.totals(), f"seed {seed}"


def test_a_damaged_capture_is_walked_alike_and_never_beyond_its_end(seeds: Seeds) -> None:
    for seed in seeds():
        random = Random(seed)
        order, nanoseconds = random.choice("<>"), random.random() < 0.5
        packets = captures.generate(captures.Traffic(seed=seed, packets=40))
        capture = damaged(random, captures.pcap(packets, nanoseconds=nanoseconds, order=order), most=6)
        try:
            capture_format = parse_header(capture[:24], source="capture")
        except CaptureError as refused:
            assert str(refused).startswith("capture: "), f"seed {seed}"
            continue
        walked, end = 0, len(capture)
        try:
            for _ in read_records(memoryview(capture), capture_format, source="capture"):
                walked += 1
        except CaptureError as cut:
            assert cut.offset is not None
            end = cut.offset
        engine = Engine()
        assert engine.run(capture, capture_format, offset=24, max_packets=1 << 20)[:2] == (end, walked), f"seed {seed}"


def test_a_damaged_filter_is_read_or_refused_at_a_column(seeds: Seeds) -> None:
    for seed in seeds():
        random = Random(seed)
        text = damaged(random, random.choice(FILTERS).encode(), most=3).decode(errors="replace")
        try:
            read = parse_filter(text)
        except FilterError as refused:
            assert 1 <= refused.column <= len(text) + 1, f"seed {seed}: {text!r}"
        else:
            assert parse_filter(str(read)) == read, f"seed {seed}: {text!r}"


def test_a_damaged_rules_file_is_read_or_refused_by_name(seeds: Seeds) -> None:
    for seed in seeds():
        text = damaged(Random(seed), RULES_FILE.encode(), most=3).decode(errors="replace")
        try:
            assert parse_rules(text, source="rules.toml").rules, f"seed {seed}"
        except RulesError as refused:
            assert all(problem.startswith("rules.toml: ") for problem in refused.problems), f"seed {seed}: {refused}"


def test_a_damaged_rate_or_burst_is_read_or_refused(seeds: Seeds) -> None:
    for seed in seeds():
        random = Random(seed)
        text = damaged(random, random.choice((b"5 Mbps", b"1.5 Gbps", b"64 Kbps")), most=2).decode(errors="replace")
        burst = damaged(random, random.choice((b"15000 B", b"50 ms", b"1.5 MiB")), most=2).decode(errors="replace")
        try:
            assert 1 <= parse_bit_rate(text) <= 10**13, f"seed {seed}: {text!r}"
        except UnitError as refused:
            assert repr(text) in str(refused)
        try:
            assert 64 <= parse_burst(burst, 5_000_000) <= 1 << 29, f"seed {seed}: {burst!r}"
        except UnitError as refused:
            assert burst in str(refused) or repr(burst) in str(refused)
