"""What ``castcore tun`` serves where it is asked to: N4 for an SMF, counters for Prometheus."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from nf.common.telemetry import Telemetry, configure_logging
from upf.counters import RuleCounters
from upf.live.bump import DOWNLINK, UPLINK, Bump
from upf.live.metrics import LiveMetrics

if TYPE_CHECKING:
    from upf.engine import Engine

_LABELS: Final = ("direction", "rule", "fate")


class RuleMetrics(Collector):
    """A collector of what each rule has made of its packets, in each direction."""

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        self._engines = engines

    def collect(self) -> Iterable[Metric]:
        """Both families, as of now."""
        packets = CounterMetricFamily(
            "castcore_live_rule_packets", "Detected by a rule, by their fate.", labels=_LABELS
        )
        volume = CounterMetricFamily("castcore_live_rule_bytes", "Detected by a rule, by their fate.", labels=_LABELS)
        for direction, engine in self._engines.items():
            for rule, counters in engine.rule_counters().items():
                for fate, found in _fates(counters).items():
                    packets.add_metric((direction, rule, fate), found[0])
                    volume.add_metric((direction, rule, fate), found[1])
        return packets, volume


def _fates(counters: RuleCounters) -> dict[str, tuple[int, int]]:
    """Packets and bytes; conforming, yellow and exceeding ones have passed."""
    return {
        "conforming": (counters.conforming_packets, counters.conforming_bytes),
        "yellow": (counters.yellow_packets, counters.yellow_bytes),
        "exceeding": (counters.exceeding_packets, counters.exceeding_bytes),
        "dropped": (counters.dropped_packets, counters.dropped_bytes),
    }


@asynccontextmanager
async def served(
    bump: Bump, engines: Mapping[str, Engine], *, grpc_address: str | None, metrics_address: str | None
) -> AsyncIterator[dict[str, str]]:
    """Serves what has an address, and gives by name where: ``grpc``, ``metrics``.

    With ``grpc_address`` nothing is forwarded until an SMF has established its sessions. Raises CastcoreError where an
    address cannot be taken.
    """
    # Standard output is what the command prints, and a terminal is the view's.
    configure_logging("warning")
    telemetry = Telemetry()
    telemetry.registry.register(LiveMetrics(bump, engines))
    if grpc_address is None:
        # Those of an SMF are told by their sessions, and may be a hundred thousand.
        telemetry.registry.register(RuleMetrics(engines))
    async with AsyncExitStack() as stack:
        found = {}
        if grpc_address is not None:
            found["grpc"] = await stack.enter_async_context(_n4(bump, engines, grpc_address, telemetry))
        if metrics_address is not None:
            found["metrics"] = await stack.enter_async_context(_metrics(bump, metrics_address, telemetry))
        yield found


def _n4(
    bump: Bump, engines: Mapping[str, Engine], address: str, telemetry: Telemetry
) -> AbstractAsyncContextManager[str]:
    # gRPC: only for who asks for it.
    from upf.live.n3 import N3Bump
    from upf.live.under_n4 import served as under_n4

    n3 = bump if isinstance(bump, N3Bump) else None
    return under_n4(address, uplink=engines[UPLINK], downlink=engines[DOWNLINK], gate=bump, telemetry=telemetry, n3=n3)


@asynccontextmanager
async def _metrics(bump: Bump, address: str, telemetry: Telemetry) -> AsyncIterator[str]:
    from nf.common.http import HttpServer, application

    server = HttpServer(application(telemetry, lambda: bump.failure is None))
    url = await server.start(address)
    try:
        yield f"{url}/metrics"
    finally:
        await server.stop()
