"""How long reports are kept, and the sweeper that removes them: what is older, and reporting sessions that expired."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from nf.af import consumption_records, consumption_sessions, metrics_reports
from nf.af.config import AfSection
from nf.common.background import Background
from nf.common.errors import CastcoreError
from nf.common.store import Store
from nf.common.telemetry import logger

_NS: Final = 1_000_000_000


class Retention:
    """Sweeps at its start and at intervals; several processes on one database may sweep at the same time."""

    def __init__(self, store: Store, config: AfSection) -> None:
        self._store = store
        self._config = config
        self._background = Background("report retention")

    async def start(self) -> None:
        """Begins to sweep."""
        self._background.begin(self._sweep_for_ever)

    async def stop(self) -> None:
        """Ends."""
        await self._background.end()

    async def sweep(self) -> None:
        """Removes what has been kept long enough, a little at a time: requests are served between."""
        now_ns = self._store.clock.now_ns()
        consumed_before_ns = now_ns - self._config.consumption_reports_kept_s * _NS
        measured_before_ns = now_ns - self._config.metrics_reports_kept_s * _NS
        await self._store.write(consumption_sessions.sweep)
        while await self._store.write(lambda tx: consumption_records.sweep(tx, consumed_before_ns)):
            pass
        while await self._store.write(lambda tx: metrics_reports.sweep(tx, measured_before_ns)):
            pass

    async def _sweep_for_ever(self) -> None:
        log, clock = logger("af"), self._store.clock
        every = timedelta(seconds=self._config.report_sweep_interval_s)
        while True:
            try:
                await self.sweep()
            except CastcoreError as error:
                log.warning("retention.postponed", error=str(error))
            await clock.sleep_until(clock.now() + every)
