"""What live traffic counts, for Prometheus: read from the wires and their engines whenever somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from upf.counters import Totals, WireCounters

_DIRECTION: Final = ("direction",)
_REASON: Final = ("direction", "reason")

_Volume = Callable[[WireCounters], tuple[int, int]]

# What is told in packets and bytes: name, meaning, where it is found.
_VOLUMES: Final[tuple[tuple[str, str, _Volume], ...]] = (
    ("offered", "Came to the device.", lambda wire: (wire.packets, wire.bytes)),
    ("passed", "Left by the other device.", lambda wire: (wire.passed_packets, wire.passed_bytes)),
    (
        "dropped",
        "Dropped by a rule, or because no rule wanted it.",
        lambda wire: (wire.dropped_packets, wire.dropped_bytes),
    ),
    (
        "held_off",
        "Came while nothing was forwarded: the SMF had yet to establish its sessions.",
        lambda wire: (wire.held_off_packets, wire.held_off_bytes),
    ),
)


class Wires(Protocol):
    """Both directions of live traffic, by name."""

    def counters(self) -> Mapping[str, WireCounters]:
        """What each direction has counted since its start."""
        ...


class Counting(Protocol):
    """The engine of a direction."""

    def totals(self) -> Totals:
        """What it has counted since it was made."""
        ...


class LiveMetrics(Collector):
    """A collector to be registered; packets are those of a wire, bytes from the IP header on."""

    def __init__(self, wires: Wires, engines: Mapping[str, Counting]) -> None:
        self._wires = wires
        self._engines = engines

    def collect(self) -> Iterable[Metric]:
        """All families, as of now."""
        wires = self._wires.counters()
        totals = {direction: engine.totals() for direction, engine in self._engines.items()}
        for name, meaning, volume in _VOLUMES:
            packets, volume_bytes = _counter(f"{name}_packets", meaning), _counter(f"{name}_bytes", meaning)
            for direction, wire in wires.items():
                found = volume(wire)
                packets.add_metric((direction,), found[0])
                volume_bytes.add_metric((direction,), found[1])
            yield from (packets, volume_bytes)
        malformed = _counter("malformed_packets", "Not to be read as IP packets, and dropped.", _REASON)
        errors = _counter("error_packets", "Should have passed and could not.", _REASON)
        unmatched = _counter("unmatched_packets", "No rule wanted them; dropped under an SMF.")
        queued = GaugeMetricFamily("castcore_live_queued_packets", "Held back now.", labels=_DIRECTION)
        queued_bytes = GaugeMetricFamily("castcore_live_queued_bytes", "Held back now.", labels=_DIRECTION)
        flows = GaugeMetricFamily("castcore_live_flows", "In the flow table.", labels=_DIRECTION)
        for direction, wire in wires.items():
            for reason, number in wire.errors.items():
                errors.add_metric((direction, reason), number)
            queued.add_metric((direction,), wire.queued_packets)
            queued_bytes.add_metric((direction,), wire.queued_bytes)
        for direction, total in totals.items():
            for reason, number in total.malformed.items():
                malformed.add_metric((direction, reason), number)
            unmatched.add_metric((direction,), total.unmatched_packets)
            flows.add_metric((direction,), total.flows - total.aged_flows - total.evicted_flows)
        yield from (malformed, errors, unmatched, queued, queued_bytes, flows)


def _counter(name: str, meaning: str, labels: tuple[str, ...] = _DIRECTION) -> CounterMetricFamily:
    return CounterMetricFamily(f"castcore_live_{name}", meaning, labels=labels)
