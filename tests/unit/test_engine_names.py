"""Filters that ask for a domain name detect both directions of a connection that has it, in engine and oracle."""

from __future__ import annotations

import io
import struct

import captures
import named_traffic as made
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upf.capture import write_header
from upf.engine import CONFORMING, DROPPED, EXCEEDING, UNMATCHED, Engine
from upf.names.inspector import Inspector, InspectorCounters
from upf.reference import Reference, Verdict, What
from upf.rules import Mode, Policer, Rule
from upf.sdf import parse_filter

VIDEO = "video.example.com"
UE, SERVER, OTHER_SERVER, RESOLVER = "10.45.0.2", "198.51.100.7", "198.51.100.8", "192.0.2.53"
Packets = list[tuple[int, bytes]]


def rule(name: str, *flows: str, rate_bps: int = 0, **options: object) -> Rule:
    policer = Policer(rate_bps, 3000) if rate_bps else None
    options = {"precedence": 1, "mode": Mode.POLICE, **options}
    return Rule(name=name, filters=tuple(map(parse_filter, flows)), policer=policer, **options)  # type: ignore[arg-type]


class Sent:
    """What a test sends, on raw IPv4, a millisecond apart."""

    def __init__(self) -> None:
        self.packets: Packets = []

    def send(self, source: str, destination: str, protocol: int, content: bytes) -> None:
        self.packets.append((10**15 + len(self.packets) * 10**6, captures.ipv4(source, destination, protocol, content)))

    def up(self, data: bytes = b"", sequence: int = 1001, *, port: int = 40000, flags: int = made.ACK) -> None:
        self.send(UE, SERVER, captures.TCP, made.tcp(port, 443, sequence, data, flags=flags))

    def down(self, data: bytes = b"", *, port: int = 40000, flags: int = made.ACK) -> None:
        self.send(SERVER, UE, captures.TCP, made.tcp(443, port, 5001, data, flags=flags))

    def resolve(self, name: str, *addresses: str) -> None:
        message = made.dns_answer(name, [(name, "A", 60, address) for address in addresses])
        self.send(RESOLVER, UE, captures.UDP, captures.udp(53, 5353, message))


def counted(engine: Engine) -> dict[str, int]:
    return {name: counters.packets for name, counters in engine.rule_counters().items()}


def run(engine: Engine, packets: Packets) -> bytes:
    """The verdicts of the packets."""
    stream = io.BytesIO()
    capture_format = write_header(stream, link_type=captures.RAW, nanoseconds=True)
    for ts_ns, packet in packets:
        stream.write(struct.pack("=IIII", *divmod(ts_ns, 10**9), len(packet), len(packet)) + packet)
    verdicts = bytearray(len(packets))
    _, processed, over = engine.run(
        stream.getvalue(), capture_format, offset=24, max_packets=len(packets) or 1, verdicts=verdicts
    )
    assert processed == len(packets)
    assert over or packets
    return bytes(verdicts)


def counted_by(rules: list[Rule], packets: Packets) -> dict[str, int]:
    engine = Engine()
    engine.install(rules)
    run(engine, packets)
    return counted(engine)


# --- what is detected ------------------------------------------------------------------------------------------------


def test_both_directions_of_a_connection_have_its_name_from_the_packet_that_completes_it() -> None:
    sent, hello = Sent(), made.client_hello(VIDEO)
    sent.up(b"", 1000, flags=made.SYN)
    sent.down(b"", flags=made.SYN | made.ACK)
    sent.up(hello[:100])
    sent.up(hello[100:], 1101)
    sent.down(bytes(500))
    sent.up(b"", 2000)
    sent.down(bytes(500))
    engine = Engine()
    engine.install([rule("video", f"permit out ip from any to any domain {VIDEO}")])
    assert list(run(engine, sent.packets)) == [UNMATCHED] * 3 + [CONFORMING] * 4
    assert {flow.rule for flow in engine.flows()} == {"video"}


def test_a_downlink_filter_detects_what_the_server_sends_though_the_client_said_the_name() -> None:
    sent = Sent()
    sent.up(made.client_hello(VIDEO))
    for _ in range(5):
        sent.down(bytes(1000))
        sent.up()
    rules = [
        rule("downlink", f"permit out 6 from any 443 to {UE} domain *.example.com"),
        rule("uplink", f"permit out 6 from {UE} to any 443 domain *.example.com", precedence=2),
        rule("rest", "permit out ip from any to any", precedence=3),
    ]
    assert counted_by(rules, sent.packets) == {"downlink": 5, "uplink": 6, "rest": 0}
    del rules[1]
    assert counted_by(rules, sent.packets) == {"downlink": 5, "rest": 6}


def test_until_the_name_is_known_the_other_rules_have_the_flow() -> None:
    sent = Sent()
    sent.up(b"", 1000, flags=made.SYN)
    sent.down(b"", flags=made.SYN | made.ACK)
    sent.up(made.client_hello(VIDEO))
    sent.down(bytes(100))
    rules = [
        rule("video", f"permit out ip from any to any domain {VIDEO}"),
        rule("rest", "permit out ip from any to any", precedence=2),
    ]
    assert counted_by(rules, sent.packets) == {"video": 2, "rest": 2}


def test_a_flow_of_another_name_is_left_to_the_others() -> None:
    sent = Sent()
    sent.up(made.client_hello("other.example.org"))
    sent.down(bytes(100))
    assert counted_by([rule("video", f"permit out ip from any to any domain {VIDEO}")], sent.packets) == {"video": 0}


def test_a_flow_to_an_address_that_an_answer_gave_is_detected_from_its_first_packet() -> None:
    sent = Sent()
    sent.resolve(VIDEO, SERVER)
    sent.up(b"", 1000, flags=made.SYN)
    sent.send(SERVER, UE, captures.UDP, captures.udp(9, 9, bytes(10)))
    sent.send(OTHER_SERVER, UE, captures.UDP, captures.udp(9, 9, bytes(10)))
    assert counted_by([rule("video", f"permit out ip from any to any domain {VIDEO}")], sent.packets) == {"video": 2}


def test_a_name_holds_for_both_directions_whatever_tunnel_each_comes_through() -> None:
    sent = Sent()
    sent.up(made.client_hello(VIDEO))
    for _ in range(3):
        sent.down(bytes(100))
    inner = [packet for _, packet in sent.packets]
    sent.packets.clear()
    for number, packet in enumerate(inner):
        message = captures.gtpu(packet, teid=9 if number else 7)
        sent.send("192.0.2.1", "192.0.2.2", captures.UDP, captures.udp(2152, 2152, message))
    rules = [rule("downlink", f"permit out ip from any to any teid 9 domain {VIDEO}")]
    assert counted_by(rules, sent.packets) == {"downlink": 3}


def test_a_rule_that_is_tried_first_keeps_its_flow_whatever_the_name() -> None:
    sent = Sent()
    sent.up(made.client_hello(VIDEO))
    sent.down(bytes(100))
    rules = [
        rule("web", "permit out 6 from any to any"),
        rule("video", f"permit out ip from any to any domain {VIDEO}", precedence=2),
    ]
    assert counted_by(rules, sent.packets) == {"web": 2, "video": 0}


def test_a_flow_keeps_its_bucket_while_its_name_is_awaited() -> None:
    sent = Sent()
    for _ in range(10):
        sent.down(bytes(960))
    rules = [
        rule("video", f"permit out ip from any to any domain {VIDEO}"),
        rule("each", "permit out ip from any to any", rate_bps=8, per_flow=True, precedence=2),
    ]
    engine = Engine()
    engine.install(rules)
    # 3,000 bytes of burst are three packets of 1,000.
    assert list(run(engine, sent.packets)) == [CONFORMING] * 3 + [DROPPED] * 7


def test_new_rules_reach_flows_whose_names_are_known() -> None:
    sent = Sent()
    sent.up(made.client_hello(VIDEO))
    engine = Engine()
    engine.install([rule("other", "permit out ip from any to any domain other.example.org")])
    run(engine, sent.packets)
    engine.install([rule("video", f"permit out ip from any to any domain {VIDEO}")])
    sent.packets.clear()
    sent.down(bytes(100))
    run(engine, sent.packets)
    assert counted(engine) == {"video": 1}


def test_without_a_rule_that_asks_for_a_name_nothing_is_inspected() -> None:
    sent = Sent()
    sent.up(made.client_hello(VIDEO))
    engine = Engine()
    assert engine.inspection() is None
    engine.install([rule("web", "permit out 6 from any to any")])
    run(engine, sent.packets)
    assert engine.inspection() is None
    engine.install([rule("video", f"permit out 17 from any to any domain {VIDEO}")])
    run(engine, sent.packets)
    # TCP is none of what the filter asks.
    assert engine.inspection() == InspectorCounters()
    engine.install([rule("video", f"permit out 6 from any to any domain {VIDEO}")])
    run(engine, sent.packets)
    assert engine.inspection() == InspectorCounters(inspected=1, named=1)


def test_what_goes_wrong_in_the_inspection_reaches_whoever_runs_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = Sent()
    sent.up()
    engine = Engine()
    engine.install([rule("video", f"permit out ip from any to any domain {VIDEO}")])
    monkeypatch.setattr(Inspector, "inspect", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(engine, sent.packets)
    monkeypatch.undo()
    assert list(run(engine, sent.packets)) == [UNMATCHED]


# --- engine and oracle -----------------------------------------------------------------------------------------------

RULE_SETS = [
    [rule("video", f"permit out ip from any to any domain {VIDEO}")],
    [
        rule("below", "permit out ip from any to any domain *.example.com", rate_bps=80_000, per_flow=True),
        rule("cdn", "permit out 6 from any 443 to 10.45.0.0/24 domain a.cdn.example.net", precedence=2),
        rule("web", "permit out 6 from any to any", rate_bps=40_000, per_flow=True, precedence=3),
        rule("rest", "permit out ip from any to any", precedence=4, mode=Mode.MONITOR, rate_bps=8_000),
    ],
    [
        rule("udp", "permit out 17 from any to any", precedence=1),
        rule(
            "named",
            "permit out ip from 198.51.100.0/24 to any domain example.com",
            "permit out ip from any to any domain *.net",
            precedence=2,
            rate_bps=100_000,
        ),
        rule("six", "permit out ip from 2001:db8::/32 to any domain *.org", precedence=3),
    ],
    [
        rule("tunnel", "permit out ip from any to any teid 2 domain *.example.com", rate_bps=50_000),
        rule("marked", "permit out ip from any to any tos 0x28 domain *.net", precedence=2, rate_bps=50_000),
        rule("flow", "permit out ip from any to any qfi 2 domain example.com", precedence=3),
        rule("plain", "permit out ip from any to any qfi 1", precedence=4, per_flow=True, rate_bps=8_000),
    ],
]


def verdict_code(verdict: Verdict) -> int:
    if verdict.what is not What.MATCHED:
        return UNMATCHED
    if verdict.conforms:
        return CONFORMING
    return EXCEEDING if verdict.passed else DROPPED


@pytest.mark.parametrize("rules", RULE_SETS, ids=lambda rules: rules[0].name)
@settings(max_examples=12, deadline=None, database=None)
@given(seed=st.integers(0, 1 << 32))
def test_the_engine_agrees_with_the_oracle_on_connections_of_every_kind(rules: list[Rule], seed: int) -> None:
    packets = made.mixture(seed, 40)
    engine, reference = Engine(), Reference(rules)
    engine.install(rules)
    # In the middle the rules change: what is known of names stays.
    changed = [rules[0], *rules[2:]]
    half = len(packets) // 2
    for part, installed in ((packets[:half], rules), (packets[half:], changed)):
        engine.install(installed)
        reference.install(installed)
        codes = run(engine, part)
        for number, ((ts_ns, packet), code) in enumerate(zip(part, codes, strict=True)):
            verdict = reference.process(ts_ns, packet, len(packet), captures.RAW)
            assert code == verdict_code(verdict), f"packet {number} of {len(part)}: the oracle says {verdict}"
    assert engine.rule_counters() == reference.rule_counters()
    assert engine.totals() == reference.totals()
    assert engine.inspection() == reference.inspection()


def test_the_mixture_has_named_connections_in_every_rule() -> None:
    packets = [packet for seed in range(12) for packet in made.mixture(seed, 40)]
    for rules in RULE_SETS:
        assert all(counted_by(rules, packets).values())
