"""Any rules, changed in any way between packets: engine and reference detect, police and count alike.

An input is steps of nine bytes: a rule that is added or takes another's place, the rules that go, a packet, or, for all
rules at once, that those that stand are installed anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Final

import captures
from captures import SECOND_NS, START_NS, Captured

from fuzz.exact_buffer import exact_buffer
from fuzz.harnesses.packets import code, counted
from upf.capture import parse_header
from upf.engine import Engine
from upf.reference import Reference
from upf.rules import Mode, Policer, Rule, RulesError
from upf.sdf import Direction, SdfFilter, parse_filter

STEP_BYTES: Final = 9
MOST_STEPS: Final = 64
ADD, REMOVE, PACKET, INSTALL = range(4)
# Addresses that differ in the first, some middle and the last bit, and prefixes that end beside these.
BASES: Final = {4: 0x0A2D0000, 6: 0x20010DB8 << 96}
BITS: Final = {4: (31, 8, 0), 6: (127, 64, 0)}
PREFIXES: Final = {4: (0, 1, 23, 24, 31, 32), 6: (0, 1, 63, 64, 127, 128)}
PROTOCOLS: Final = (-1, 6, 17, 1, 50, 51, 132, 58)
PORTS: Final = (0, 80, 443, 8000, 65_535)
RANGES: Final = ((), (), ((443, 443),), ((0, 65_535),), ((80, 80), (8000, 8099)), ((1, 65_535),))
POLICERS: Final = (
    None, Policer(8_000, 1_500), Policer(1_000_000, 64), Policer(10**13, 1 << 29), Policer(64_000, 3_000),
)  # fmt: skip
STEPS_NS: Final = (0, 1, 1_000_000, SECOND_NS, -1_000, -11 * SECOND_NS)


def check(data: bytes) -> None:
    engine, reference, rules = Engine(max_flows=64), Reference([]), dict[str, Rule]()
    capture_format = parse_header(captures.pcap([], link_type=captures.RAW, nanoseconds=True), source="")
    verdict_code, now_ns, gone = bytearray(1), START_NS, set[str]()
    for at in range(0, min(len(data), MOST_STEPS * STEP_BYTES) - STEP_BYTES + 1, STEP_BYTES):
        step = data[at : at + STEP_BYTES]
        match step[0] % 4:
            case 0:
                changed(engine, reference, rules, add=[rule_of(step)], remove=[])
            case 1:
                changed(engine, reference, rules, add=[], remove=[name_of(step[1])] * (step[2] & 1))
                gone.update([name_of(step[1])] * (step[2] & 1))
            case 2:
                now_ns = max(0, now_ns + STEPS_NS[step[7] % len(STEPS_NS)])
                packet = Captured(now_ns, packet_of(step), 0)
                record = captures.pcap([packet], link_type=captures.RAW, nanoseconds=True)[24:]
                with exact_buffer(record) as view:
                    engine.run(view, capture_format, offset=0, max_packets=1, verdicts=verdict_code)
                verdict = reference.process(*packet, captures.RAW)
                assert verdict_code[0] == code(verdict), f"step {at // STEP_BYTES}: {verdict_code[0]}, not {verdict}"
            case _:
                engine.install(list(rules.values()))
                reference.install(list(rules.values()))
    engine.finish()
    reference.finish()
    assert engine.totals() == reference.totals(), f"{engine.totals()} != {reference.totals()}"
    assert engine.rule_counters() == reference.rule_counters()
    assert flows_of(engine, gone) == flows_of(reference, gone)


def flows_of(judge: Engine | Reference, gone: set[str]) -> Counter[tuple[object, ...]]:
    """A flow that was under a rule which has gone may have forgotten its name."""
    return counted([replace(flow, rule="") if flow.rule in gone else flow for flow in judge.flows()])


def changed(
    engine: Engine, reference: Reference, rules: dict[str, Rule], *, add: Sequence[Rule], remove: Sequence[str]
) -> None:
    """The same change to both; what one refuses, the other refuses too, and nothing has changed."""
    afterwards = {name: rule for name, rule in rules.items() if name not in remove} | {rule.name: rule for rule in add}
    try:
        engine.update(add=add, remove=remove)
    except RulesError as refused:
        unknown = [name for name in remove if name not in rules]
        if not unknown:
            try:
                reference.install(list(afterwards.values()))
            except RulesError:
                return
            raise AssertionError(f"only the engine refuses: {refused}") from refused
        return
    reference.install(list(afterwards.values()))
    rules.clear()
    rules.update(afterwards)


def name_of(byte: int) -> str:
    return f"rule {byte % 7}"


def rule_of(step: bytes) -> Rule:
    _, name, precedence, kind, source, destination, ports, attributes, policing = step
    return Rule(
        name_of(name),
        precedence % 4,
        (filter_of(kind, source, destination, ports, attributes),),
        POLICERS[policing % len(POLICERS)],
        Mode.POLICE if policing & 0x40 else Mode.MONITOR,
        per_flow=bool(policing & 0x80),
        bucket_id="shared" if policing & 0x20 else "",
    )


def filter_of(kind: int, source: int, destination: int, ports: int, attributes: int) -> SdfFilter:
    family = 6 if kind & 0x80 else 4
    protocol = PROTOCOLS[kind % len(PROTOCOLS)]
    has_ports = protocol in (-1, 6, 17, 132)
    found = SdfFilter(
        Direction.OUT,
        family,
        protocol,
        *network(family, source),
        RANGES[ports % len(RANGES)] if has_ports else (),
        *network(family, destination),
        RANGES[(ports >> 4) % len(RANGES)] if has_ports else (),
        tos=0x28 if attributes & 1 else 0,
        tos_mask=(0, 0xFF, 0, 0xFC)[attributes & 3],
        flow_label=5 if attributes & 4 and family == 6 else None,
        spi=7 if attributes & 8 and protocol in (50, 51) else None,
        teid=9 if attributes & 16 else None,
        qfi=3 if attributes & 32 else None,
    )
    if not found.src_prefix_length and not found.dst_prefix_length:
        # Without an address it is of either family.
        found = replace(found, family=0, flow_label=None)
    # What the grammar cannot say need not work.
    return parse_filter(str(found))


def network(family: int, byte: int) -> tuple[int, int]:
    bits = 32 if family == 4 else 128
    prefix_length = PREFIXES[family][byte % 6]
    return address(family, byte >> 4) >> (bits - prefix_length) << (bits - prefix_length), prefix_length


def address(family: int, byte: int) -> int:
    return BASES[family] ^ sum(1 << bit for place, bit in enumerate(BITS[family]) if byte >> place & 1)


def packet_of(step: bytes) -> bytes:
    _, kind, addresses, source_port, destination_port, attributes, length, _, tunnelled = step
    family, protocol = (6 if kind & 0x80 else 4), (abs(PROTOCOLS[kind % len(PROTOCOLS)]))
    if protocol in (50, 51):
        content = (7 if attributes & 8 else 8).to_bytes(4, "big") * 3
    else:
        ports = PORTS[source_port % len(PORTS)], PORTS[destination_port % len(PORTS)]
        content = captures.ports(*ports, 8)
    content += bytes(4 * length)
    source, destination = address(family, addresses), address(family, addresses >> 4)
    if family == 4:
        packet = bytearray(captures.ipv4(source, destination, protocol, content))
        packet[1] = attributes & 0xFF
    else:
        packet = bytearray(captures.ipv6(source, destination, protocol, content))
        packet[0:4] = (6 << 28 | (attributes & 0xFF) << 20 | (5 if attributes & 4 else 0)).to_bytes(4, "big")
    if not tunnelled & 1:
        return bytes(packet)
    extensions = [captures.pdu_session(3 if tunnelled & 2 else 4)] if tunnelled & 4 else []
    message = captures.gtpu(bytes(packet), teid=9 if tunnelled & 8 else 10, extensions=extensions)
    return captures.ipv4("192.0.2.1", "192.0.2.2", captures.UDP, captures.udp(2152, 2152, message))


def seeds() -> Iterator[bytes]:
    for seed in range(12):
        random = Random(seed)
        steps = []
        for _ in range(24):
            what = random.choices((ADD, REMOVE, PACKET, INSTALL), (8, 2, 20, 1))[0]
            steps.append(bytes((what,)) + random.randbytes(STEP_BYTES - 1))
        yield b"".join(steps)
