"""The MBSTF client: joins a session, receives its files, repairs what is missing, reports (TS 26.502 §4.2).

Files go to the application as they are complete. What is missing is fetched at the end of the session, or, for an
object that nothing has come for during ``repair_after``, before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final, TypeAlias

import structlog

from nf.client.mbs.multicast import MulticastSocket, PacketSource
from nf.client.mbs.reception import MissingFile, ReceivedFile, Reception
from nf.client.mbs.reception_report import HowReceived, ObjectReport, ReceptionReport
from nf.client.mbs.repair import HttpRepair
from nf.client.mbs.session_description import SessionDescription
from nf.common.clock import Clock, SystemClock
from nf.common.errors import CastcoreError

_log = structlog.get_logger(__name__)

Sink: TypeAlias = Callable[[ReceivedFile], Awaitable[None]]

# Files whose reports are kept.
_REPORTS: Final = 100_000


class MbstfClient:
    """The reception of one session: ``run`` it, ``stop`` it.

    ``sink`` is given each file once it is complete; what it raises (CastcoreError, OSError) is reported, and the
    reception goes on. Without ``repair``, what is missing is only told.
    """

    def __init__(
        self,
        tsi: int,
        packets: PacketSource,
        sink: Sink,
        *,
        repair: HttpRepair | None = None,
        repair_after: timedelta | None = None,
        idle: timedelta | None = None,
        max_object_bytes: int = 256 << 20,
        clock: Clock | None = None,
    ) -> None:
        self.reception = Reception(tsi, max_object_bytes=max_object_bytes)
        self._packets = packets
        self._sink = sink
        self._repair = repair
        self._repair_after = repair_after
        self._idle = idle
        self._clock = clock or SystemClock()
        self._stopping = asyncio.Event()
        self._heard_at = self._clock.now()
        self._objects: dict[tuple[int, str], ObjectReport] = {}

    @classmethod
    def join(
        cls,
        description: SessionDescription,
        sink: Sink,
        *,
        interface: str = "127.0.0.1",
        repair: HttpRepair | None = None,
        repair_after: timedelta | None = None,
        idle: timedelta | None = None,
        clock: Clock | None = None,
    ) -> MbstfClient:
        """A client of the session that is described, joined already. Raises OSError; ValueError: it is not FLUTE."""
        if description.tsi is None:
            raise ValueError(f"session {description.name!r}: expected FLUTE/UDP, found {description.protocol}")
        packets = MulticastSocket(description.source, description.group, description.port, interface=interface)
        return cls(description.tsi, packets, sink, repair=repair, repair_after=repair_after, idle=idle, clock=clock)

    def stop(self) -> None:
        """The session is over for this client: what is missing is repaired, and ``run`` returns."""
        self._stopping.set()

    async def run(self) -> ReceptionReport:
        """Receives until the session ends, repairs what is missing then, and reports.

        It ends when it is complete and all of it there, when its sender closes it, when it was silent for ``idle``, and
        when it is stopped.
        """
        started_at = self._heard_at = self._clock.now()
        receiving = asyncio.create_task(self._receive())
        watching: list[asyncio.Task[object]] = [asyncio.create_task(self._stopping.wait())]
        if self._idle is not None:
            watching.append(asyncio.create_task(self._silence(self._idle)))
        early = None
        if self._repair is not None and self._repair_after is not None:
            early = asyncio.create_task(self._repair_early(self._repair, self._repair_after))
        try:
            await asyncio.wait((receiving, *watching), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._packets.close()
            running = [task for task in (*watching, early) if task is not None]
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            # Whatever had arrived is taken; a source that has been closed ends.
            await receiving
        symbols_missing = await self._finish()
        return self._report(started_at, symbols_missing)

    async def _receive(self) -> None:
        while packets := await self._packets.receive():
            self._heard_at = self._clock.now()
            for packet in packets:
                for file in self.reception.push(packet):
                    await self._deliver(file, HowReceived.MULTICAST)
            if self.reception.closed or (self.reception.complete and not self.reception.missing()):
                return

    async def _silence(self, idle: timedelta) -> None:
        """Returns when nothing has come for so long."""
        while (until := self._heard_at + idle) > self._clock.now():
            await self._clock.sleep_until(until)

    async def _repair_early(self, repair: HttpRepair, after: timedelta) -> None:
        """Repairs, while the session goes on, objects that nothing has come for since the look before."""
        before: dict[int, int] = {}
        while True:
            await self._clock.sleep_until(self._clock.now() + after)
            missing = self.reception.missing()
            quiet = [file for file in missing if before.get(file.information.toi) == file.symbols_received]
            before = {file.information.toi: file.symbols_received for file in missing}
            if quiet:
                await repair.wait()
                for file in quiet:
                    await self._repair_one(repair, file)

    async def _finish(self) -> int:
        """Repairs what is missing; how many symbols were."""
        missing = self.reception.missing()
        if missing and self._repair is not None:
            await self._repair.wait()
        for file in missing:
            if self._repair is not None:
                await self._repair_one(self._repair, file)
            else:
                self._failed(file, "not repaired")
        if self._repair is not None:
            await self._repair.close()
        return sum(file.symbols_missing for file in missing)

    async def _repair_one(self, repair: HttpRepair, missing: MissingFile) -> None:
        # Multicast may have brought it while others were repaired.
        now = next((file for file in self.reception.missing() if file.information == missing.information), None)
        if now is None:
            return
        repaired = await repair.repair(self.reception, now)
        if repaired.file is None:
            self._failed(now, repaired.failure, repaired.requests, repaired.bytes)
            return
        await self._deliver(
            repaired.file,
            HowReceived.REPAIRED,
            symbols_missing=now.symbols_missing,
            requests=repaired.requests,
            fetched=repaired.bytes,
        )

    def _failed(self, missing: MissingFile, why: str, requests: int = 0, fetched: int = 0) -> None:
        information = missing.information
        self._tell(
            information.toi,
            ObjectReport(
                information.location,
                HowReceived.FAILED,
                information.transfer_length or 0,
                missing.symbols_missing,
                requests,
                fetched,
                why,
            ),
        )

    async def _deliver(
        self, file: ReceivedFile, how: HowReceived, *, symbols_missing: int = 0, requests: int = 0, fetched: int = 0
    ) -> None:
        failure = ""
        try:
            await self._sink(file)
        except (CastcoreError, OSError) as error:
            failure = str(error)
            how = HowReceived.NOT_STORED
            _log.warning("a received file could not be stored", location=file.location, reason=failure)
        self._tell(
            file.toi,
            ObjectReport(file.location, how, len(file.content), symbols_missing, requests, fetched, failure),
        )

    def _tell(self, toi: int, report: ObjectReport) -> None:
        self._objects[toi, report.location] = report
        if len(self._objects) > _REPORTS:
            del self._objects[next(iter(self._objects))]

    def _report(self, started_at: datetime, symbols_missing: int) -> ReceptionReport:
        reception = self.reception
        return ReceptionReport(
            started_at=started_at,
            ended_at=self._clock.now(),
            objects=tuple(self._objects.values()),
            packets=reception.packets,
            refused=dict(reception.refused),
            symbols_received=reception.symbols_received,
            symbols_repeated=reception.symbols_repeated,
            symbols_restored=reception.symbols_restored,
            symbols_missing=symbols_missing,
        )
