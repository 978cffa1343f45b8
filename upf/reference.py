"""The reference user plane: what the compiled engine does, packet by packet, in plain Python with exact integers.

It is the oracle of the property tests and shares no code with the engine but the rules. Slow, short, and meant to be
read: a packet is parsed (`upf.parsing`), a fragment is given the ports of its first or held until that comes
(`upf.fragments`), the first rule that wants the flow is found, its buckets (`upf.enforcement`) are asked, and
everything is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address

from upf.classification import Classifier, Headers
from upf.counters import FlowCounters, Measure, RuleCounters, Totals
from upf.enforcement import Enforcement, counted
from upf.fragments import MAX_HELD_BYTES, Fragments, Held
from upf.malformation import Malformation
from upf.names.inspector import InspectorCounters
from upf.parsing import FlowKey, Packet, parse_packet, segment_of
from upf.rules import Colour, Rule, in_order


class What(StrEnum):
    """What a packet turned out to be."""

    MALFORMED = "malformed"
    NON_IP = "non_ip"
    UNMATCHED = "unmatched"
    MATCHED = "matched"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one packet.

    ``rule`` is empty unless ``what`` is MATCHED; ``conforms`` is true of green and yellow packets and where nothing is
    policed; ``passed`` packets go into the output capture, at ``departure_ns`` where a queue held them and with
    ``dscp`` where they were marked. ``length`` is what the packet was measured by. What was held until now and is
    judged with this packet, at its time, stands in ``before`` or ``after`` it; a packet that is HELD itself is judged
    later.
    """

    what: What
    passed: bool
    conforms: bool = True
    colour: Colour = Colour.GREEN
    departure_ns: int | None = None
    dscp: int | None = None
    rule: str = ""
    malformation: Malformation | None = None
    flow: FlowKey | None = None
    length: int = 0
    before: tuple[Released, ...] = ()
    after: tuple[Released, ...] = ()


@dataclass(frozen=True, slots=True)
class Released:
    """A fragment that was held, and what became of it."""

    data: bytes
    wire_length: int
    verdict: Verdict


class Reference:
    """The rules at work on a sequence of packets: buckets, fragments, flows, counters.

    measure: what counts as a packet's bytes. gtpu: whether the packet in a G-PDU counts in place of that which carries
    it.

    Raises RulesError where the rules contradict each other.
    """

    def __init__(self, rules: Sequence[Rule], *, measure: Measure = Measure.L3, gtpu: bool = True) -> None:
        self._rules = in_order(rules)
        self._measure = measure
        self._gtpu = gtpu
        self._classifier = Classifier(self._rules)
        self._enforcement = Enforcement(self._rules)
        self._fragments = Fragments()
        self._latest_ns = 0
        self._rule_counters = {rule.name: RuleCounters() for rule in rules}
        self._flows: dict[Headers, FlowCounters] = {}
        self._malformed: dict[str, int] = {}
        self._unmatched_packets = 0
        self._unmatched_bytes = 0
        # Of rules that are no longer installed.
        self._gone_packets = 0
        self._gone_bytes = 0
        self._fragments_without_first = 0
        self._messages: dict[str, int] = {}

    def process(self, ts_ns: int, data: bytes, wire_length: int, link_type: int) -> Verdict:
        """Take the next packet: its time, the bytes captured, its length on the wire, the capture's link type."""
        self._latest_ns = ts_ns
        before = self._release(self._fragments.expired(ts_ns))
        packet = parse_packet(link_type, data, wire_length, measure=self._measure, gtpu=self._gtpu)
        if isinstance(packet, Malformation):
            self._malformed[packet] = self._malformed.get(packet, 0) + 1
            return Verdict(What.MALFORMED, passed=False, malformation=packet, before=before)
        if packet is None:
            self._unmatched_packets += 1
            return Verdict(What.NON_IP, passed=True, before=before)
        if packet.gtpu:
            self._messages[packet.gtpu] = self._messages.get(packet.gtpu, 0) + 1
        flow, fragment, followers = packet.flow, packet.fragment, []
        if fragment is not None and fragment.first and flow.ports_known:
            followers = self._fragments.remember(ts_ns, fragment, flow)
        elif fragment is not None and not fragment.first:
            known = self._fragments.flow_of(ts_ns, fragment, flow)
            if known is not None:
                flow = known
            elif len(data) <= MAX_HELD_BYTES:
                before += self._release(self._fragments.hold(Held(ts_ns, packet, data, wire_length)))
                return Verdict(What.HELD, passed=False, before=before)
            else:
                self._fragments_without_first += 1
        verdict = self._judge(ts_ns, flow, packet, data)
        after = tuple(
            Released(held.data, held.wire_length, self._judge(ts_ns, known, held.packet, held.data))
            for held, known in followers
        )
        return replace(verdict, before=before, after=after)

    def finish(self) -> tuple[Released, ...]:
        """The input is over: what is still held is judged without its first, at the time of the last packet."""
        return self._release(self._fragments.drain())

    def _release(self, fragments: Iterable[Held]) -> tuple[Released, ...]:
        """Judges fragments whose first has not come: without ports, and now."""
        released = []
        for held in fragments:
            self._fragments_without_first += 1
            verdict = self._judge(self._latest_ns, held.packet.flow, held.packet, held.data)
            released.append(Released(held.data, held.wire_length, verdict))
        return tuple(released)

    def _judge(self, ts_ns: int, flow: FlowKey, packet: Packet, data: bytes) -> Verdict:
        segment = segment_of(packet, data) if flow.ports_known else None
        headers = Headers(flow, packet.tos, packet.flow_label)
        rule = self._classifier.rule_of(ts_ns, headers, segment)
        key = self._classifier.key_of(headers)
        self._enforcement.leave(key, rule)
        if rule is None:
            self._unmatched_packets += 1
            self._unmatched_bytes += packet.length
            self._count_flow(ts_ns, key, "", packet.length, conforms=True)
            return Verdict(What.UNMATCHED, passed=True, flow=flow, length=packet.length)
        judgement = self._enforcement.judge(ts_ns, rule, key, packet.length, packet.tos >> 2)
        was = self._rule_counters[rule.name]
        self._rule_counters[rule.name] = counted(was, ts_ns, packet.length, judgement)
        conforms = judgement.colour is not Colour.RED
        self._count_flow(ts_ns, key, rule.name, packet.length, conforms=conforms)
        return Verdict(
            What.MATCHED,
            passed=judgement.passed,
            conforms=conforms,
            colour=judgement.colour,
            departure_ns=judgement.departure_ns,
            dscp=judgement.dscp,
            rule=rule.name,
            flow=flow,
            length=packet.length,
        )

    def install(self, rules: Sequence[Rule]) -> None:
        """Replaces the rules. Those that keep their names keep their counters, buckets their tokens.

        Raises RulesError where the rules contradict each other.
        """
        self._rules = in_order(rules)
        self._classifier.install(self._rules)
        self._enforcement.install(self._rules)
        before, self._rule_counters = self._rule_counters, {}
        for rule in rules:
            self._rule_counters[rule.name] = before.pop(rule.name, RuleCounters())
        self._gone_packets += sum(gone.packets for gone in before.values())
        self._gone_bytes += sum(gone.bytes for gone in before.values())

    def totals(self) -> Totals:
        """Everything that came in so far."""
        rules = self._rule_counters.values()
        unmatched_packets = sum(self._malformed.values()) + self._unmatched_packets
        return Totals(
            packets=unmatched_packets + self._gone_packets + sum(rule.packets for rule in rules),
            bytes=self._unmatched_bytes + self._gone_bytes + sum(rule.bytes for rule in rules),
            malformed=dict(self._malformed),
            unmatched_packets=self._unmatched_packets,
            unmatched_bytes=self._unmatched_bytes,
            flows=len(self._flows),
            aged_flows=0,
            evicted_flows=0,
            time_steps_back=self._enforcement.time_steps_back,
            fragments_without_first=self._fragments_without_first,
            gtpu=dict(self._messages),
        )

    def rule_counters(self) -> dict[str, RuleCounters]:
        """Counters by rule name, in the order in which the rules were given."""
        return dict(self._rule_counters)

    def inspection(self) -> InspectorCounters | None:
        """What looking into packets for names has done; None where no rule has asked for a name."""
        return self._classifier.inspection()

    def flows(self) -> list[FlowCounters]:
        """Counters of every flow, in the order of their first packets."""
        return list(self._flows.values())

    def _count_flow(self, ts_ns: int, key: Headers, rule: str, length: int, *, conforms: bool) -> None:
        was, flow = self._flows.get(key), key.flow
        if was is None:
            address = IPv4Address if flow.family == 4 else IPv6Address
            was = FlowCounters(
                source=address(flow.src),
                destination=address(flow.dst),
                protocol=flow.protocol,
                source_port=flow.src_port,
                destination_port=flow.dst_port,
                ports_known=flow.ports_known,
                rule=rule,
                conforming_packets=0,
                conforming_bytes=0,
                excess_packets=0,
                excess_bytes=0,
                first_ns=ts_ns,
                last_ns=ts_ns,
                spi=flow.spi,
                teid=flow.teid,
                qfi=flow.qfi,
            )
        self._flows[key] = replace(
            was,
            rule=rule,
            conforming_packets=was.conforming_packets + conforms,
            conforming_bytes=was.conforming_bytes + length * conforms,
            excess_packets=was.excess_packets + (not conforms),
            excess_bytes=was.excess_bytes + length * (not conforms),
            last_ns=max(was.last_ns, ts_ns),
        )
