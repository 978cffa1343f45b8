from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import ip_address

import captures as make
import pytest
from captures import ETHERNET, RAW, SECOND_NS

from upf.fragments import FRAGMENT_HOLD_NS, FRAGMENT_LIFETIME_NS, MAX_FRAGMENTS, MAX_HELD, MAX_HELD_BYTES
from upf.malformation import Malformation
from upf.parsing import FlowKey
from upf.reference import Reference, Verdict, What
from upf.rules import Mode, Policer, Rule, RulesError
from upf.rules_file import parse_rules
from upf.sdf import parse_filter

SERVER, UE = "198.51.100.7", "10.45.0.2"
SERVER6, UE6 = "2001:db8:a::7", "2001:db8:45::2"
START_NS = make.START_NS


def rule(
    name: str,
    *flows: str,
    precedence: int = 100,
    rate_bps: int = 0,
    burst_bytes: int = 1500,
    mode: Mode = Mode.POLICE,
    per_flow: bool = False,
    bucket_id: str = "",
) -> Rule:
    filters = tuple(parse_filter(flow) for flow in flows or ("permit out ip from any to any",))
    policer = Policer(rate_bps, burst_bytes) if rate_bps else None
    return Rule(name, precedence, filters, policer, mode, per_flow, bucket_id)


def udp(length: int = 1000, *, source: str = SERVER, source_port: int = 443, destination_port: int = 5000) -> bytes:
    """A UDP packet of ``length`` bytes."""
    return make.ipv4(source, UE, 17, make.ports(source_port, destination_port, length - 20))


def take(reference: Reference, packet: bytes, at_ns: int = 0) -> Verdict:
    return reference.process(START_NS + at_ns, packet, len(packet), RAW)


def fragment(offset: int, *, more: bool, identification: int = 7, protocol: int = 17, length: int = 64) -> bytes:
    content = make.ports(443, 5000, length) if offset == 0 else bytes(length)
    return make.ipv4(
        SERVER, UE, protocol, content, identification=identification, fragment_offset=offset, more_fragments=more
    )


def fragment6(offset: int, *, more: bool, next_header: int = 17, content: bytes | None = None) -> bytes:
    header = make.fragment_header(next_header, 7, offset, more=more)
    return make.ipv6(SERVER6, UE6, 44, header + (make.ports(443, 5000, 64) if content is None else content))


def test_the_first_rule_by_precedence_that_wants_the_flow_gets_it() -> None:
    reference = Reference(
        [
            rule("late", precedence=20),
            rule("other", "permit out 6 from any to any", precedence=1),
            rule("video", "permit out 6 from any to any", "permit out 17 from any 443 to any", precedence=10),
            rule("same precedence", precedence=10),
        ]
    )
    assert take(reference, udp()).rule == "video"
    assert take(reference, udp(source_port=444)).rule == "same precedence"
    assert [(name, counters.packets) for name, counters in reference.rule_counters().items()] == [
        ("late", 0),
        ("other", 0),
        ("video", 1),
        ("same precedence", 1),
    ]


def test_a_packet_that_no_rule_wants_passes_and_is_counted_apart() -> None:
    reference = Reference([rule("tcp", "permit out 6 from any to any")])
    verdict = take(reference, udp(700))
    assert (verdict.what, verdict.passed, verdict.rule, verdict.length) == (What.UNMATCHED, True, "", 700)
    totals = reference.totals()
    assert (totals.packets, totals.bytes, totals.unmatched_packets, totals.unmatched_bytes) == (1, 700, 1, 700)
    (flow,) = reference.flows()
    assert (flow.rule, flow.conforming_packets, flow.conforming_bytes) == ("", 1, 700)


def test_a_packet_of_another_protocol_than_ip_passes_and_counts_no_bytes() -> None:
    reference = Reference([rule("all")])
    frame = make.linked(bytes(46), ETHERNET, 0x0806)
    assert reference.process(START_NS, frame, 60, ETHERNET) == Verdict(What.NON_IP, passed=True)
    totals = reference.totals()
    assert (totals.packets, totals.bytes, totals.unmatched_packets, totals.unmatched_bytes) == (1, 0, 1, 0)
    assert (totals.flows, reference.flows()) == (0, [])


def test_a_malformed_packet_does_not_pass_and_is_counted_by_its_reason() -> None:
    reference = Reference([rule("all")])
    verdict = take(reference, udp()[:19])
    assert verdict == Verdict(What.MALFORMED, passed=False, malformation=Malformation.IP_HEADER)
    take(reference, b"\x41" + udp()[1:])
    take(reference, udp()[:10])
    totals = reference.totals()
    assert totals.malformed == {"ip_header": 2, "ip_header_length": 1}
    assert (totals.packets, totals.bytes, totals.malformed_packets) == (3, 0, 3)


def test_without_a_rate_everything_conforms() -> None:
    reference = Reference([rule("all")])
    assert all(take(reference, udp(1500)).conforms for _ in range(100))
    assert reference.rule_counters()["all"].conforming_bytes == 150_000


def test_police_drops_what_exceeds_and_monitor_passes_it_and_counts_it() -> None:
    for mode in (Mode.MONITOR, Mode.POLICE):
        reference = Reference([rule("video", rate_bps=8_000, burst_bytes=1_500, mode=mode)])
        # One second makes 1,000 bytes.
        verdicts = [take(reference, udp(1000), at_ns) for at_ns in (0, 0, SECOND_NS // 2, SECOND_NS, 3 * SECOND_NS)]
        assert [verdict.conforms for verdict in verdicts] == [True, False, True, False, True]
        assert [verdict.passed for verdict in verdicts] == [each.conforms or mode is Mode.MONITOR for each in verdicts]
        counters = reference.rule_counters()["video"]
        assert (counters.packets, counters.bytes) == (5, 5_000)
        assert (counters.conforming_packets, counters.conforming_bytes) == (3, 3_000)
        exceeding, dropped = (2, 0) if mode is Mode.MONITOR else (0, 2)
        assert (counters.exceeding_packets, counters.exceeding_bytes) == (exceeding, exceeding * 1000)
        assert (counters.dropped_packets, counters.dropped_bytes) == (dropped, dropped * 1000)
        assert (counters.passed_packets, counters.passed_bytes) == (3 + exceeding, (3 + exceeding) * 1000)
        assert (counters.first_ns, counters.last_ns) == (START_NS, START_NS + 3 * SECOND_NS)
        (flow,) = reference.flows()
        assert (flow.conforming_packets, flow.excess_packets, flow.excess_bytes) == (3, 2, 2_000)


def test_the_flows_of_a_rule_share_one_bucket() -> None:
    reference = Reference([rule("video", rate_bps=8_000, burst_bytes=1_500)])
    assert take(reference, udp(1000)).conforms
    assert not take(reference, udp(1000, destination_port=5001)).conforms


def test_with_per_flow_every_flow_has_a_bucket() -> None:
    reference = Reference([rule("video", rate_bps=8_000, burst_bytes=1_500, per_flow=True)])
    assert take(reference, udp(1000)).conforms
    assert take(reference, udp(1000, destination_port=5001)).conforms
    assert not take(reference, udp(1000, destination_port=5001)).conforms


def test_rules_with_one_bucket_id_share_its_tokens_but_no_counters() -> None:
    shared = rule("a", "permit out 17 from any 443 to any", rate_bps=8_000, burst_bytes=1_500, bucket_id="qer-1")
    other = replace(shared, name="b", filters=(parse_filter("permit out 17 from any 444 to any"),), mode=Mode.MONITOR)
    # A rule of that name has its own bucket all the same.
    named = rule("qer-1", rate_bps=8_000, burst_bytes=1_500)
    reference = Reference([shared, other, named])
    assert take(reference, udp(1000, source_port=443)).conforms
    assert not take(reference, udp(1000, source_port=444)).conforms
    assert take(reference, udp(1000, source_port=445)).conforms
    assert [each.packets for each in reference.rule_counters().values()] == [1, 1, 1]


def test_rules_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(RulesError, match=r"^rule 'a': the name is taken by another rule$"):
        Reference([rule("a"), rule("a")])


def test_steps_back_in_time_are_counted_over_all_buckets() -> None:
    reference = Reference([rule("video", rate_bps=8_000, per_flow=True)])
    for port in (1, 2):
        take(reference, udp(destination_port=port), 60 * SECOND_NS)
        take(reference, udp(destination_port=port), 50 * SECOND_NS)
        take(reference, udp(destination_port=port), 50 * SECOND_NS - 1)
    assert reference.totals().time_steps_back == 2


def test_later_fragments_take_the_flow_of_their_first() -> None:
    reference = Reference([rule("video", "permit out 17 from any 443 to any 5000")])
    verdicts = [
        take(reference, fragment(0, more=True)),
        take(reference, fragment(64, more=True)),
        take(reference, fragment(128, more=False)),
    ]
    assert [verdict.rule for verdict in verdicts] == ["video"] * 3
    assert reference.totals().flows == 1
    assert reference.totals().fragments_without_first == 0


def test_a_fragment_whose_first_does_not_come_in_time_has_its_protocol_and_no_ports() -> None:
    reference = Reference(
        [rule("port", "permit out 17 from any 0-65535 to any"), rule("udp", "permit out 17 from any to any")]
    )
    assert take(reference, fragment(64, more=False)).what is What.HELD
    assert (reference.totals().packets, reference.totals().fragments_without_first) == (0, 0)
    first = take(reference, fragment(0, more=True), FRAGMENT_HOLD_NS + 1)
    (released,) = first.before
    assert released.verdict.rule == "udp"
    assert released.verdict.flow == FlowKey(4, int(ip_address(SERVER)), int(ip_address(UE)), 17, 0, 0, False)
    assert reference.totals().fragments_without_first == 1
    # Too late for those before it, and in time for those after it.
    assert (first.rule, first.after) == ("port", ())
    assert take(reference, fragment(64, more=False), FRAGMENT_HOLD_NS + 1).rule == "port"


def test_fragments_that_come_before_their_first_are_judged_right_after_it_and_at_its_time() -> None:
    # A second earns 125 bytes: as if all had come with the first, the last of them finds no tokens.
    reference = Reference([rule("video", "permit out 17 from any 443 to any", rate_bps=1_000, burst_bytes=200)])
    for offset in (128, 64):
        assert take(reference, fragment(offset, more=offset == 64)).what is What.HELD
    verdict = take(reference, fragment(0, more=True), FRAGMENT_HOLD_NS)
    assert [each.data for each in verdict.after] == [fragment(128, more=False), fragment(64, more=True)]
    assert [verdict.conforms, *(each.verdict.conforms for each in verdict.after)] == [True, True, False]
    assert {each.verdict.flow for each in verdict.after} == {verdict.flow}
    counters = reference.rule_counters()["video"]
    assert (counters.packets, counters.first_ns) == (3, START_NS + FRAGMENT_HOLD_NS)
    assert reference.totals().fragments_without_first == 0


def test_a_datagram_s_fragments_are_held_for_a_second_in_either_direction_of_time() -> None:
    for direction in (1, -1):
        for excess_ns in (0, 1):
            reference = Reference([])
            take(reference, fragment(64, more=False))
            verdict = take(reference, fragment(0, more=True), direction * (FRAGMENT_HOLD_NS + excess_ns))
            assert (len(verdict.before), len(verdict.after)) == (excess_ns, 1 - excess_ns)


def test_what_is_held_is_bounded_in_number_and_the_oldest_goes_first() -> None:
    reference = Reference([])
    for number in range(MAX_HELD + 1):
        verdict = take(reference, fragment(64, more=False, identification=number, length=8))
        assert (verdict.what, len(verdict.before)) == (What.HELD, number == MAX_HELD)
    assert verdict.before[0].data == fragment(64, more=False, identification=0, length=8)
    assert reference.totals().fragments_without_first == 1
    assert len(reference.finish()) == MAX_HELD
    assert reference.totals().packets == reference.totals().fragments_without_first == MAX_HELD + 1


def test_what_is_held_is_bounded_in_bytes() -> None:
    reference = Reference([])
    large = fragment(64, more=False, length=60_000).ljust(1 << 18, b"\0")
    released = [len(take(reference, large).before) for _ in range(18)]
    assert released == [0] * (MAX_HELD_BYTES >> 18) + [1, 1]
    # One that is larger than all the room is judged at once.
    assert take(reference, large.ljust(MAX_HELD_BYTES + 1, b"\0")).what is What.UNMATCHED
    assert reference.totals().fragments_without_first == 3


def test_at_the_end_of_the_input_what_is_held_is_judged_without_ports_at_the_time_of_the_last_packet() -> None:
    reference = Reference([rule("all", rate_bps=1_000)])
    take(reference, fragment(64, more=False))
    take(reference, udp(), SECOND_NS)
    (released,) = reference.finish()
    assert (released.verdict.what, released.verdict.rule) == (What.MATCHED, "all")
    assert [flow.first_ns - START_NS for flow in reference.flows()] == [SECOND_NS, SECOND_NS]
    assert reference.finish() == ()


def test_the_first_that_comes_twice_releases_what_is_held_once() -> None:
    reference = Reference([rule("port", "permit out 17 from any 443 to any")])
    take(reference, fragment(64, more=True))
    verdicts = [take(reference, fragment(0, more=True)) for _ in range(2)]
    assert [len(verdict.after) for verdict in verdicts] == [1, 0]
    assert reference.rule_counters()["port"].packets == 3


def test_a_datagram_is_known_by_addresses_identification_and_in_ipv4_protocol() -> None:
    reference = Reference([rule("port", "permit out ip from any 443 to any")])
    take(reference, fragment(0, more=True))
    assert take(reference, fragment(64, more=False)).what is What.MATCHED
    assert take(reference, fragment(64, more=False, identification=8)).what is What.HELD
    assert take(reference, fragment(64, more=False, protocol=6)).what is What.HELD
    elsewhere = make.ipv4(SERVER, "10.45.0.3", 17, bytes(8), identification=7, fragment_offset=64)
    assert take(reference, elsewhere).what is What.HELD


def test_a_first_fragment_is_remembered_for_60_s_of_packet_time_in_either_direction() -> None:
    reference = Reference([rule("port", "permit out ip from any 443 to any")])
    take(reference, fragment(0, more=True))
    for at_ns, known in (
        (FRAGMENT_LIFETIME_NS + 1, False),
        (FRAGMENT_LIFETIME_NS, True),
        (-FRAGMENT_LIFETIME_NS, True),
        (-FRAGMENT_LIFETIME_NS - 1, False),
    ):
        assert (take(reference, fragment(64, more=True), at_ns).what is What.MATCHED) is known


def test_a_new_first_fragment_takes_the_place_of_an_old_one() -> None:
    reference = Reference([rule("port", "permit out ip from any 443 to any"), rule("rest")])
    other = make.ipv4(SERVER, UE, 17, make.ports(80, 5000, 64), identification=7, more_fragments=True)
    take(reference, fragment(0, more=True))
    take(reference, other)
    assert take(reference, fragment(64, more=False)).rule == "rest"
    # One without its ports is no first fragment to remember.
    first = fragment(0, more=True)
    reference.process(START_NS, first[:22], len(first), RAW)
    assert take(reference, fragment(64, more=False)).flow == take(reference, other).flow


def test_the_oldest_first_fragments_are_forgotten_beyond_the_bound() -> None:
    reference = Reference([rule("port", "permit out ip from any 443 to any")])
    for identification in range(MAX_FRAGMENTS + 1):
        take(reference, fragment(0, more=True, identification=identification, length=8))
    assert take(reference, fragment(64, more=False, identification=0)).what is What.HELD
    assert take(reference, fragment(64, more=False, identification=1)).what is What.MATCHED


def test_fragments_of_a_protocol_without_ports_are_one_flow_without_memory() -> None:
    reference = Reference([rule("icmp", "permit out 1 from any to any")])
    take(reference, fragment(64, more=False, protocol=1))
    take(reference, fragment(0, more=True, protocol=1))
    totals = reference.totals()
    assert (totals.flows, totals.fragments_without_first) == (1, 0)
    assert reference.flows()[0].ports_known


def test_later_ipv6_fragments_take_protocol_and_ports_of_their_first() -> None:
    reference = Reference([rule("video", "permit out 17 from any 443 to any 5000"), rule("rest")])
    options = make.extension(60, 17)
    first = fragment6(0, more=True, next_header=60, content=options + make.ports(443, 5000, 64))
    later = fragment6(72, more=False, next_header=60, content=bytes(8))
    take(reference, later)
    (unknown,) = reference.finish()
    assert (unknown.verdict.rule, unknown.verdict.flow and unknown.verdict.flow.protocol) == ("rest", 60)
    assert take(reference, first).rule == "video"
    assert take(reference, later).rule == "video"
    assert reference.totals().flows == 2


def test_a_first_ipv6_fragment_without_ports_is_remembered_for_its_protocol() -> None:
    reference = Reference([rule("icmp", "permit out 58 from any to any"), rule("rest")])
    options = make.extension(60, 58)
    assert take(reference, fragment6(0, more=True, next_header=60, content=options + bytes(8))).rule == "icmp"
    assert take(reference, fragment6(16, more=False, next_header=60, content=bytes(8))).rule == "icmp"


def test_a_fragment_is_policed_by_its_own_length() -> None:
    reference = Reference([rule("video", "permit out 17 from any 443 to any", rate_bps=1, burst_bytes=108)])
    packets = [fragment(0, more=True), fragment(64, more=True, length=8), fragment(72, more=False, length=4)]
    verdicts = [take(reference, packet) for packet in packets]
    assert [(verdict.length, verdict.conforms) for verdict in verdicts] == [(84, True), (28, False), (24, True)]


@pytest.mark.parametrize("snaplen", [262_144, 96])
def test_over_a_long_mixture_every_packet_is_counted_once(snaplen: int) -> None:
    rules = parse_rules(
        f"""
        [[rule]]
        name = "video"
        precedence = 10
        flows = ["permit out 17 from {make.IPV4_SERVERS} 443 to any", "permit out 6 from {make.IPV6_SERVERS} to any"]
        rate = "300 Kbps"
        [[rule]]
        name = "each"
        precedence = 20
        flows = ["permit out ip from any 8000-8099 to {make.IPV4_UES}"]
        rate = "64 Kbps"
        burst = "4000 B"
        mode = "monitor"
        per_flow = true
        [[rule]]
        name = "esp"
        flows = ["permit out 50 from any to any"]
        """,
        source="rules",
    ).rules
    packets = make.generate(make.Traffic(packets=5_000, seed=8, offered_bps=4_000_000))
    reference = Reference(rules)
    verdicts = [reference.process(ts_ns, data[:snaplen], wire, ETHERNET) for ts_ns, data, wire in packets]
    judged = [each for verdict in verdicts for each in (*verdict.before, *verdict.after)] + [*reference.finish()]
    assert len(judged) == sum(verdict.what is What.HELD for verdict in verdicts) > 10
    verdicts = [verdict for verdict in verdicts if verdict.what is not What.HELD] + [each.verdict for each in judged]
    totals, counters, flows = reference.totals(), reference.rule_counters(), reference.flows()
    by_what = Counter(verdict.what for verdict in verdicts)
    assert set(by_what) == {*What} - {What.HELD}
    assert totals.packets == len(packets)
    assert totals.malformed_packets == by_what[What.MALFORMED]
    assert set(totals.malformed) == {*Malformation} - {Malformation.GTPU_HEADER}
    assert totals.unmatched_packets == by_what[What.UNMATCHED] + by_what[What.NON_IP]
    assert totals.bytes == sum(verdict.length for verdict in verdicts)
    assert totals.flows == len(flows) == len({verdict.flow for verdict in verdicts if verdict.flow})
    for each in rules:
        of_rule = [verdict for verdict in verdicts if verdict.rule == each.name]
        counted = counters[each.name]
        assert (counted.packets, counted.bytes) == (len(of_rule), sum(verdict.length for verdict in of_rule))
        assert counted.passed_packets == sum(verdict.passed for verdict in of_rule)
        of_flows = [flow for flow in flows if flow.rule == each.name]
        assert counted.conforming_bytes == sum(flow.conforming_bytes for flow in of_flows)
        assert counted.exceeding_bytes + counted.dropped_bytes == sum(flow.excess_bytes for flow in of_flows)
    assert min(counters["video"].dropped_packets, counters["each"].exceeding_packets) > 50
