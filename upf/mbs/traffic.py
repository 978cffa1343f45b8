"""The thread of an MB-UPF, between its start and its end."""

from __future__ import annotations

import threading
from contextlib import ExitStack

from prometheus_client import CollectorRegistry

from upf._mbs import Replicator
from upf.mbs.delivery import Deliveries
from upf.mbs.metrics import MbsMetrics


class MbsTraffic:
    """Between ``start`` and ``stop`` packets are taken and delivered."""

    def __init__(self, replicator: Replicator, deliveries: Deliveries, registry: CollectorRegistry) -> None:
        self._replicator = replicator
        self._deliveries = deliveries
        self._registry = registry
        self._undo = ExitStack()

    def start(self) -> None:
        """Begins."""
        self._undo.callback(self._deliveries.close)
        thread = threading.Thread(target=self._replicator.run, name="castcore mbs", daemon=True)
        thread.start()
        self._undo.callback(thread.join)
        self._undo.callback(self._replicator.stop)
        metrics = MbsMetrics(self._deliveries)
        self._registry.register(metrics)
        self._undo.callback(self._registry.unregister, metrics)

    def stop(self) -> None:
        """Ends the thread; tunnels, sockets and devices go."""
        self._undo.close()
