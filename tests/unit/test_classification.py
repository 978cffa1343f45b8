"""Classification: the engine finds the rule that a linear first match finds, whatever the rules are."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from itertools import count

import captures
import pytest
from captures import AUTHENTICATION, ESP, RAW, UDP
from hypothesis import given, settings
from hypothesis import strategies as st
from side_by_side import judged_alike

from upf.capture import CaptureFormat
from upf.counters import RuleCounters
from upf.engine import Engine
from upf.errors import UpfError
from upf.reference import Reference
from upf.rules import Mode, Policer, Rule, RulesError, in_order
from upf.sdf import Direction, SdfFilter, parse_filter

RAW_IP = CaptureFormat(swapped=False, nanoseconds=True, link_type=101, snaplen=262_144)
BITS = {4: 32, 6: 128}
# Few addresses, near one another, so that prefixes nest and rules meet.
BASE = {4: int(ip_address("10.45.0.0")), 6: int(ip_address("2001:db8:45::"))}


@dataclass(frozen=True, slots=True)
class Key:
    """A packet, by what filters can ask of it."""

    family: int
    src: int
    dst: int
    protocol: int
    src_port: int = 0
    dst_port: int = 0
    tos: int = 0
    flow_label: int = 0
    spi: int | None = None
    teid: int | None = None
    qfi: int | None = None

    def packed(self) -> bytes:
        """The packet; in a GTP-U tunnel where it has a TEID."""
        packet = self._packet()
        if self.teid is None:
            return packet
        extensions = () if self.qfi is None else (captures.pdu_session(self.qfi),)
        message = captures.gtpu(packet, teid=self.teid, extensions=extensions)
        return captures.ipv4("192.0.2.1", "192.0.2.2", UDP, captures.udp(1, 2152, message))

    def _packet(self) -> bytes:
        ports = struct.pack(">HHHH", self.src_port, self.dst_port, 8, 0)
        if self.spi is not None:
            # The SPI stands first in ESP, and behind what would be two ports in AH.
            ports = struct.pack(">II", *((self.spi, 1) if self.protocol == ESP else (0x3B020000, self.spi)))
        if self.family == 4:
            head = struct.pack(">BBHHHBBH", 0x45, self.tos, 28, 0, 0, 64, self.protocol, 0)
            return head + self.src.to_bytes(4, "big") + self.dst.to_bytes(4, "big") + ports
        head = struct.pack(">IHBB", 6 << 28 | self.tos << 20 | self.flow_label, 8, self.protocol, 64)
        return head + self.src.to_bytes(16, "big") + self.dst.to_bytes(16, "big") + ports


def first_match(rules: Sequence[Rule], key: Key) -> str:
    """The name of the rule that wants the packet, found as the specification says; empty where none does."""
    has_ports = key.protocol in (6, 17)
    for rule in in_order(rules):
        for sdf_filter in rule.filters:
            if sdf_filter.matches(
                key.family,
                key.src,
                key.dst,
                key.protocol,
                key.src_port if has_ports else 0,
                key.dst_port if has_ports else 0,
                tos=key.tos,
                flow_label=key.flow_label if key.family == 6 else None,
                spi=key.spi,
                teid=key.teid,
                qfi=key.qfi,
            ):
                return rule.name
    return ""


def send(engine: Engine, *keys: Key, at_ns: int = 1) -> None:
    records = b""
    for data in (key.packed() for key in keys):
        records += struct.pack("=IIII", 0, at_ns, len(data), len(data)) + data
    engine.run(records, RAW_IP, offset=0, max_packets=len(keys))


def found(engine: Engine, key: Key) -> str:
    """The name of the rule by which the engine counts the packet."""
    engine.harvest()
    send(engine, key)
    return next(iter(engine.harvest()), "")


def rule(name: str, *flows: str, precedence: int = 100, **options: object) -> Rule:
    options = {"policer": None, "mode": Mode.POLICE, **options}
    return Rule(name=name, precedence=precedence, filters=tuple(map(parse_filter, flows)), **options)  # type: ignore[arg-type]


def engine_with(rules: Iterable[Rule]) -> Engine:
    engine = Engine()
    engine.install(rules)
    return engine


# --- random rules -----------------------------------------------------------------------------------------------------

families = st.sampled_from([4, 6])


@st.composite
def addresses(draw: st.DrawFn, family: int) -> int:
    # The last bits differ, or rarely any.
    return BASE[family] ^ draw(st.integers(0, 7) | st.integers(0, 7).map(lambda bit: 1 << (BITS[family] - 1 - bit)))


@st.composite
def filters(draw: st.DrawFn) -> SdfFilter:
    family = draw(families)
    bits = BITS[family]

    def side() -> tuple[int, int]:
        length = draw(st.sampled_from([0, 0, 1, bits - 3, bits - 2, bits - 1, bits, bits]))
        return draw(addresses(family)) >> (bits - length) << (bits - length), length

    def ports() -> tuple[tuple[int, int], ...]:
        if not draw(st.booleans()):
            return ()
        pairs = draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=3))
        return tuple((min(pair), max(pair)) for pair in pairs)

    protocol = draw(st.sampled_from([-1, -1, 6, 17, 1, ESP]))
    has_ports = protocol in (-1, 6, 17)
    src, dst = side(), side()
    if not src[1] and not dst[1]:
        family = draw(st.sampled_from([0, family]))
    tos_mask = draw(st.sampled_from([0, 0, 0, 0xFC, 0x03, 0xFF]))
    return SdfFilter(
        Direction.OUT, family, protocol, *src, ports() if has_ports else (), *dst, ports() if has_ports else (),
        tos=draw(st.sampled_from([0, 0x28, 0x29, 0xB8])) & tos_mask,
        tos_mask=tos_mask,
        flow_label=draw(st.sampled_from([None, None, None, 0, 12])) if family != 4 else None,
        spi=draw(st.sampled_from([None, None, 0, 7])) if protocol in (-1, ESP) else None,
        teid=draw(st.sampled_from([None, None, None, 0, 2**32 - 1])),
        qfi=draw(st.sampled_from([None, None, None, 0, 63])),
    )  # fmt: skip


@st.composite
def rules_of_some_names(draw: st.DrawFn, names: Sequence[str]) -> list[Rule]:
    return [
        Rule(
            name=name,
            precedence=draw(st.sampled_from([0, 1, 1, 2, 2**32 - 1])),
            filters=tuple(draw(st.lists(filters(), max_size=4))),
            policer=None,
            mode=Mode.POLICE,
        )
        for name in names
    ]


@st.composite
def keys(draw: st.DrawFn) -> Key:
    family = draw(families)
    protocol = draw(st.sampled_from([6, 17, 1, ESP, AUTHENTICATION]))
    teid = draw(st.sampled_from([None, None, 0, 1, 2**32 - 1]))
    return Key(
        family,
        draw(addresses(family)),
        draw(addresses(family)),
        protocol,
        draw(st.integers(0, 5)),
        draw(st.integers(0, 5)),
        draw(st.sampled_from([0, 0, 0x28, 0x29, 0xB8])),
        draw(st.sampled_from([0, 12, 0xFFFFF])) if family == 6 else 0,
        spi=draw(st.sampled_from([0, 7, 8])) if protocol in (ESP, AUTHENTICATION) else None,
        teid=teid,
        qfi=draw(st.sampled_from([None, 0, 1, 63])) if teid is not None else None,
    )


@given(st.integers(0, 12).flatmap(lambda n: rules_of_some_names([f"r{i}" for i in range(n)])), st.lists(keys()))
@settings(max_examples=60, deadline=None)
def test_the_engine_finds_what_a_linear_first_match_finds(rules: list[Rule], packets: list[Key]) -> None:
    engine = engine_with(rules)
    assert [found(engine, key) for key in packets] == [first_match(rules, key) for key in packets]


@given(rules_of_some_names("abcd"), st.lists(keys(), max_size=20))
@settings(max_examples=60, deadline=None)
def test_flows_are_told_apart_as_the_oracle_tells_them_apart(rules: list[Rule], packets: list[Key]) -> None:
    # A bucket for every flow shows which packets are of the same one.
    each = [replace(rule, policer=Policer(8_000, 100), per_flow=True) for rule in rules]
    judged_alike([(at, key.packed(), len(key.packed())) for at, key in enumerate(packets)], each, RAW)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_changes_in_any_order_are_worth_a_fresh_install(data: st.DataObject) -> None:
    engine = Engine()
    # A rule that replaces another keeps its turn, as in a dict.
    installed: dict[str, Rule] = {}
    for _ in range(data.draw(st.integers(1, 6))):
        if data.draw(st.integers(0, 9)) == 0:
            names = data.draw(st.lists(st.sampled_from("abcdefgh"), unique=True))
            installed = {each.name: each for each in data.draw(rules_of_some_names(names))}
            engine.install(installed.values())
        else:
            removed = data.draw(st.lists(st.sampled_from(sorted(installed)), unique=True)) if installed else []
            names = [
                name for name in data.draw(st.lists(st.sampled_from("abcdefgh"), unique=True)) if name not in removed
            ]
            added = data.draw(rules_of_some_names(names))
            engine.update(add=added, remove=removed)
            for name in removed:
                del installed[name]
            installed |= {each.name: each for each in added}
        packets = data.draw(st.lists(keys(), max_size=5))
        expected = [first_match(tuple(installed.values()), key) for key in packets]
        assert [found(engine, key) for key in packets] == expected
        assert [found(engine_with(installed.values()), key) for key in packets] == expected
        assert list(engine.rule_counters()) == [each.name for each in in_order(tuple(installed.values()))]


# --- what it costs ----------------------------------------------------------------------------------------------------


FLOWS = [parse_filter(f"permit out 17 from 198.51.100.7 {port} to 10.0.0.0/32") for port in (443, 5004)]


def session_rules(number: int) -> list[Rule]:
    """Four PDRs of a session: two flows of the server that all sessions have, both ways."""
    downlinks = [replace(flow, dst_network=(10 << 24) + number) for flow in FLOWS]
    return [
        Rule(f"{number}/{at}", 10, (sdf_filter,), None, Mode.POLICE)
        for at, sdf_filter in enumerate(each for flow in downlinks for each in (flow.swapped(), flow))
    ]


def downlink(number: int, port: int = 443) -> Key:
    return Key(4, int(ip_address("198.51.100.7")), (10 << 24) + number, 17, port, 9)


@pytest.mark.parametrize("sessions", [10, 1_000, 10_000])
def test_a_lookup_compares_as_few_filters_whatever_the_number_of_sessions(sessions: int) -> None:
    engine = engine_with([each for number in range(sessions) for each in session_rules(number)])
    before = engine.lookups()
    for number in range(0, sessions, sessions // 10):
        assert found(engine, downlink(number, 5004)) == f"{number}/3"
    lookups, probes, comparisons = (now - was for now, was in zip(engine.lookups(), before, strict=True))
    assert lookups == 10
    # One prefix length on either side: two chains, none longer than what one UE or a few of its peers have.
    assert probes <= 2 * lookups
    assert comparisons <= 12 * lookups


def test_a_prefix_that_many_filters_share_does_not_make_one_chain() -> None:
    # The server's address is more specific than the UE's prefix.
    flows = [f"permit out 17 from 2001:db8:a::7 443 to 2001:db8:45:{number:x}::/64" for number in range(2_000)]
    engine = engine_with([rule(f"{number}", flow) for number, flow in enumerate(flows)])
    server, prefix = int(ip_address("2001:db8:a::7")), int(ip_address("2001:db8:45::"))
    before = engine.lookups()[2]
    assert found(engine, Key(6, server, prefix + (1999 << 64) + 5, 17, 443, 9)) == "1999"
    assert engine.lookups()[2] - before <= 9


def test_lookups_probe_only_the_prefix_lengths_that_are_in_use() -> None:
    engine = engine_with([rule(f"{bits}", f"permit out ip from any to 10.0.0.0/{bits}") for bits in range(1, 33)])
    assert found(engine, Key(4, 1, 10 << 24, 17)) == "1"
    assert engine.lookups()[:2] == (1, 32)
    engine.update(remove=[f"{bits}" for bits in range(1, 31)])
    assert found(engine, Key(4, 1, 10 << 24, 17)) == "31"
    assert engine.lookups()[:2] == (2, 34)


# --- changes: buckets, counters, errors -------------------------------------------------------------------------------


def policed(name: str, flow: str = "permit out ip from any to any", **options: object) -> Rule:
    return replace(rule(name, flow), **{"policer": Policer(8_000, 100), **options})  # type: ignore[arg-type]


def counters(engine: Engine, name: str) -> tuple[int, int]:
    counted = engine.rule_counters()[name]
    return counted.conforming_packets, counted.dropped_packets


PACKET = Key(4, 1, 2, 17, 443, 9)


def test_a_rule_that_is_replaced_keeps_its_counters_and_its_bucket() -> None:
    engine = engine_with([policed("a"), rule("other", "permit out 6 from any to any")])
    send(engine, *[PACKET] * 4)
    assert counters(engine, "a") == (3, 1)
    engine.update(add=[policed("a", "permit out 17 from any to any")])
    send(engine, PACKET)
    assert counters(engine, "a") == (3, 2)
    assert list(engine.rule_counters()) == ["a", "other"]


def test_a_bucket_goes_with_the_last_rule_that_uses_it() -> None:
    engine = engine_with([policed("a", bucket_id="x"), policed("b", bucket_id="x")])
    send(engine, *[PACKET] * 4)
    engine.update(remove=["a"])
    send(engine, PACKET)
    assert counters(engine, "b") == (0, 1)
    engine.update(add=[policed("c", bucket_id="x")], remove=["b"])
    send(engine, PACKET)
    assert counters(engine, "c") == (0, 1)
    engine.update(remove=["c"])
    engine.update(add=[policed("c", bucket_id="x")])
    send(engine, PACKET)
    assert counters(engine, "c") == (1, 0)


def test_a_removed_rule_that_returns_counts_from_0_and_the_total_forgets_nothing() -> None:
    engine = engine_with([rule("a", "permit out ip from any to any")])
    send(engine, PACKET, PACKET)
    engine.update(remove=["a"])
    send(engine, PACKET)
    engine.update(add=[rule("a", "permit out ip from any to any")])
    send(engine, PACKET, at_ns=7)
    counted = engine.rule_counters()["a"]
    assert (counted.packets, counted.first_ns) == (1, 7)
    totals = engine.totals()
    assert (totals.packets, totals.bytes, totals.unmatched_packets) == (4, 4 * 28, 1)


def test_a_harvest_has_only_the_rules_that_have_counted_since_the_last_one() -> None:
    engine = engine_with([*session_rules(1), *session_rules(2)])
    send(engine, downlink(1), downlink(2), downlink(2))
    assert {name: counted.packets for name, counted in engine.harvest().items()} == {"1/1": 1, "2/1": 2}
    assert engine.harvest() == {}
    send(engine, downlink(2), Key(4, 5, 5, 17))
    assert {name: counted.packets for name, counted in engine.harvest().items()} == {"2/1": 3}


def test_a_harvest_is_not_confused_by_rules_that_go_and_come() -> None:
    engine = engine_with(session_rules(1))
    send(engine, downlink(1))
    engine.update(add=session_rules(2), remove=[each.name for each in session_rules(1)])
    send(engine, downlink(2))
    assert {name: counted.packets for name, counted in engine.harvest().items() if counted.packets} == {"2/1": 1}
    send(engine, downlink(2))
    assert {name: counted.packets for name, counted in engine.harvest().items()} == {"2/1": 2}


@pytest.mark.parametrize(
    ("added", "removed", "problem"),
    [
        ([], ["nobody"], "rule 'nobody': cannot be removed, it is not installed"),
        ([policed("b")], ["b"], "rule 'b': cannot be removed, it is not installed"),
        ([policed("a")], ["a"], "rule 'a': cannot be both added and removed"),
        ([], ["a", "a"], "rules to remove: found a name twice, expected each once"),
        ([policed("b"), policed("b")], [], "rule 'b': the name is taken by another rule"),
        (
            [policed("b", bucket_id="x", policer=Policer(9_000, 100))],
            [],
            "rule 'b': bucket 'x' has other parameters in a rule that stays",
        ),
        (
            [policed("a", bucket_id="x", policer=Policer(9_000, 100))],
            [],
            "rule 'a': bucket 'x' has other parameters in a rule that stays",
        ),
    ],
)
def test_a_change_that_cannot_be_made_changes_nothing(added: list[Rule], removed: list[str], problem: str) -> None:
    engine = engine_with([policed("a", bucket_id="x"), policed("stays", bucket_id="x", precedence=200)])
    with pytest.raises(RulesError) as refused:
        engine.update(add=added, remove=removed)
    assert problem in refused.value.problems
    assert list(engine.rule_counters()) == ["a", "stays"]
    send(engine, *[PACKET] * 4)
    assert counters(engine, "a") == (3, 1)


def test_parameters_of_a_bucket_change_when_all_its_rules_change() -> None:
    both = [policed("a", bucket_id="x"), policed("b", bucket_id="x")]
    engine = engine_with([*both, policed("other", bucket_id="y")])
    engine.update(add=[replace(each, policer=Policer(16_000, 64)) for each in both])
    send(engine, *[PACKET] * 4)
    assert counters(engine, "a") == (2, 2)


@pytest.mark.parametrize(
    "impossible",
    [
        SdfFilter(Direction.OUT, 4, 17, 0, 33, (), 0, 0, ()),
        SdfFilter(Direction.OUT, 5, 17, 0, 0, (), 0, 0, ()),
        SdfFilter(Direction.OUT, 0, 17, 0, 1, (), 0, 0, ()),
        SdfFilter(Direction.OUT, 0, 17, 0, 0, ((0, 70_000),), 0, 0, ()),
        SdfFilter(Direction.OUT, 4, 17, 1 << 32, 32, (), 0, 0, ()),
        SdfFilter(Direction.OUT, 0, 17, 0, 0, (), 0, 0, (), tos_mask=256),
        SdfFilter(Direction.OUT, 0, 17, 0, 0, (), 0, 0, (), tos_mask=255, flow_label=1 << 70),
    ],
)
def test_a_filter_that_is_none_changes_nothing(impossible: SdfFilter) -> None:
    everything = "permit out ip from any to any"
    engine = engine_with([rule("a", everything, "permit out ip from any to any tos 0x28")])
    for _ in range(3):
        with pytest.raises((UpfError, OverflowError)):
            engine.update(add=[rule("b", everything, precedence=0), replace(rule("a"), filters=(impossible,))])
        with pytest.raises((UpfError, OverflowError)):
            engine.install([rule("b", everything, precedence=0), replace(rule("a"), filters=(impossible,))])
    assert list(engine.rule_counters()) == ["a"]
    assert found(engine, PACKET) == "a"


def test_what_no_filter_asks_any_more_does_not_part_flows() -> None:
    marked = [replace(PACKET, tos=tos) for tos in (0x00, 0x28, 0xB8)]
    asks = rule("af11", "permit out ip from any to any tos 0x28/0xfc", precedence=1)
    everything = rule("all", "permit out ip from any to any")
    for rules, flows in (([everything], 1), ([asks, everything], 3)):
        engine = engine_with(rules)
        send(engine, *marked)
        assert engine.totals().flows == flows
    engine = engine_with([asks, everything])
    engine.update(remove=["af11"])
    send(engine, *marked)
    assert engine.totals().flows == 1


def test_the_oracle_and_the_engine_count_sessions_alike() -> None:
    rules = [each for number in range(50) for each in session_rules(number)]
    engine, reference = engine_with(rules), Reference(rules)
    times = count(1)
    for number in (0, 7, 49, 7):
        at_ns, key = next(times), downlink(number)
        send(engine, key, at_ns=at_ns)
        reference.process(at_ns, key.packed(), 28, 101)
    counted: dict[str, RuleCounters] = engine.rule_counters()
    assert counted == reference.rule_counters()
    assert counted["7/1"].packets == 2
