"""Rates, times, rules and flows as they are told: rounded for eyes, whole for scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from upf.compliance import FlowName
    from upf.counters import RuleCounters

_PROTOCOLS: Final = {1: "ICMP", 6: "TCP", 17: "UDP", 50: "ESP", 51: "AH", 58: "ICMPv6", 132: "SCTP", 136: "UDP-Lite"}


def mean_rate(volume_bytes: int, span_ns: int) -> str:
    """Mean bit rate over the time between a rule's first and last packet."""
    if span_ns <= 0:
        return "-"
    return rate(volume_bytes * 8 * 10**9 / span_ns)


def rate(rate_bps: float) -> str:
    """A bit rate in the unit that suits it."""
    for unit in ("bps", "Kbps", "Mbps"):
        # Three digits of it are not a thousand.
        if rate_bps < 999.5:
            return f"{rate_bps:.3g} {unit}"
        rate_bps /= 1000
    return f"{rate_bps:,.3f} Gbps"


def duration(duration_ns: int) -> str:
    """A time in the unit that suits it."""
    for unit, scale in (("s", 10**9), ("ms", 10**6), ("µs", 10**3)):
        if duration_ns >= scale:
            return f"{duration_ns / scale:.6g} {unit}"
    return f"{duration_ns} ns"


def flow_text(flow: FlowName) -> str:
    """A flow in a line: ``UDP 198.51.100.7:443 > 10.45.0.2:5000``."""

    def end(address: object, port: int | None) -> str:
        told = f"[{address}]" if port is not None and ":" in str(address) else str(address)
        return told if port is None else f"{told}:{port}"

    more = [
        f"{name} {value:#x}" if name == "spi" else f"{name} {value}"
        for name, value in (("spi", flow.spi), ("teid", flow.teid), ("qfi", flow.qfi))
        if value is not None
    ]
    ends = f"{end(flow.source, flow.source_port)} > {end(flow.destination, flow.destination_port)}"
    return " ".join([_PROTOCOLS.get(flow.protocol, f"protocol {flow.protocol}"), ends, *more])


def flow_to_json(flow: FlowName) -> dict[str, object]:
    """What tells a flow from others; null what it has not."""
    return {
        "source": str(flow.source),
        "destination": str(flow.destination),
        "protocol": flow.protocol,
        "source_port": flow.source_port,
        "destination_port": flow.destination_port,
        "spi": flow.spi,
        "teid": flow.teid,
        "qfi": flow.qfi,
    }


def rule_to_json(name: str, counters: RuleCounters) -> dict[str, object]:
    """Everything that was counted under a rule."""
    return {
        "name": name,
        "packets": counters.packets,
        "bytes": counters.bytes,
        "passed_packets": counters.passed_packets,
        "passed_bytes": counters.passed_bytes,
        "dropped_packets": counters.dropped_packets,
        "dropped_bytes": counters.dropped_bytes,
        "conforming_packets": counters.conforming_packets,
        "conforming_bytes": counters.conforming_bytes,
        "exceeding_packets": counters.exceeding_packets,
        "exceeding_bytes": counters.exceeding_bytes,
        "yellow_packets": counters.yellow_packets,
        "yellow_bytes": counters.yellow_bytes,
        "gated_packets": counters.gated_packets,
        "delayed_packets": counters.delayed_packets,
        "delay_max_ns": counters.delay_max_ns,
        "delay_sum_ns": counters.delay_sum_ns,
    }
