"""What an MB-UPF counts, for Prometheus: read from the packet path whenever somebody asks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from upf.mbs.delivery import Deliveries

_VOLUMES: Final[Mapping[str, str]] = {
    "received": "Packets of MBS sessions that came out of Nmb9 tunnels.",
    "dropped": "Above the bit rate of their session.",
    "forwarded": "Given to the branches of their session; each counted once.",
    "not_forwarded": "Of sessions that forward nothing or have no branch.",
}


class MbsMetrics(Collector):
    """The families, each counter since the UPF's start."""

    def __init__(self, deliveries: Deliveries) -> None:
        self._deliveries = deliveries

    def collect(self) -> Iterable[Metric]:
        """All families, as of now."""
        totals, ingress = self._deliveries.totals(), self._deliveries.ingress()
        for name, meaning in _VOLUMES.items():
            for unit in ("packets", "bytes"):
                yield _counter(f"{name}_{unit}", meaning, totals.volumes[f"{name}_{unit}"])
        yield _counter("unmatched_packets", "Of a source and group that no session has.", ingress.unmatched_packets)
        yield _counter("unmatched_bytes", "Of a source and group that no session has.", ingress.unmatched_bytes)
        yield _counter("held_off_packets", "Came while nothing was forwarded.", ingress.held_off_packets)
        yield _counter("held_off_bytes", "Came while nothing was forwarded.", ingress.held_off_bytes)
        malformed = CounterMetricFamily(
            "castcore_mbs_malformed_packets", "Datagrams that carried no whole IP packet.", labels=("reason",)
        )
        for reason, number in ingress.malformed.items():
            malformed.add_metric((reason,), number)
        sent = CounterMetricFamily("castcore_mbs_sent_packets", "Copies that left.", labels=("sending",))
        sent_bytes = CounterMetricFamily("castcore_mbs_sent_bytes", "Copies that left.", labels=("sending",))
        for sending, number in totals.sent_packets.items():
            sent.add_metric((sending,), number)
            sent_bytes.add_metric((sending,), totals.sent_bytes[sending])
        errors = CounterMetricFamily(
            "castcore_mbs_error_packets", "Copies that could not be sent.", labels=("sending", "reason")
        )
        for labels, number in totals.errors.items():
            errors.add_metric(labels, number)
        yield from (malformed, sent, sent_bytes, errors)
        yield GaugeMetricFamily("castcore_mbs_sessions", "In force.", value=len(self._deliveries))


def _counter(name: str, meaning: str, value: int) -> CounterMetricFamily:
    return CounterMetricFamily(f"castcore_mbs_{name}", meaning, value=value)
