"""Any text as a rules file: refused with problems that name it, or rules that engine and reference judge by alike."""

from __future__ import annotations

from collections.abc import Iterator

import captures

from fuzz.harnesses.packets import code
from upf.capture import parse_header
from upf.engine import Engine
from upf.reference import Reference
from upf.rules import RulesError
from upf.rules_file import parse_rules

FULL = """
[[rule]]
name = "video"
flows = ["permit out 17 from 198.51.100.0/24 443 to assigned", "permit out ip from 2001:db8:a::/126 to any"]
precedence = 10
rate = "5 Mbps"
burst = "50 ms"
mode = "police"
per_flow = false
[[rule]]
name = "rest"
flows = ["permit out ip from any to 10.45.0.2"]
rate = "1.5 Gbps"
burst = "15 KB"
mode = "monitor"
per_flow = true
"""
SHORT = '[[rule]]\nname="a"\nflows=["permit out 6 from any 80-443 to any"]\nrate="64 Kbps"\n'
TRAFFIC = captures.Traffic(seed=7, packets=48, flows=12)


def check(data: bytes) -> None:
    try:
        rules = parse_rules(data.decode(errors="replace"), source="rules.toml").rules
    except RulesError as refused:
        assert refused.problems, data
        assert all(problem.startswith("rules.toml: ") for problem in refused.problems), str(refused)
        return
    packets = captures.generate(TRAFFIC)
    capture = captures.pcap(packets, nanoseconds=True)
    engine, reference, verdicts = Engine(max_flows=1024), Reference(rules), bytearray(len(packets))
    engine.install(rules)
    engine.run(capture, parse_header(capture[:24], source=""), offset=24, max_packets=len(packets), verdicts=verdicts)
    expected = [code(reference.process(*packet, captures.ETHERNET)) for packet in packets]
    assert list(verdicts) == expected, [n for n, (a, b) in enumerate(zip(verdicts, expected, strict=True)) if a != b]
    assert engine.totals() == reference.totals()
    assert engine.rule_counters() == reference.rule_counters()


def seeds() -> Iterator[bytes]:
    yield FULL.encode()
    yield SHORT.encode()
    yield b'rule = [{name = "x", flows = ["permit out ip from any to any"], precedence = 4294967295}]'
