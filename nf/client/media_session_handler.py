"""The Media Session Handler of a UE: what its media sessions share, and M6 (TS 26.501 §5.6.1, TS 26.512 A.3.2)."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from nf.af.v1.consumption_reporting_pb2 import TypedLocation
from nf.client.m5 import M5
from nf.client.m7 import MediaPlayer
from nf.client.media_session import FINAL_REPORT_WAIT_S, MediaSession, SessionOptions, Surroundings
from nf.client.outbox import Outbox
from nf.client.report_sender import Attempted, ReportSender
from nf.client.service_access import ServiceAccess
from nf.common.clock import Clock


class MediaSessionHandler:
    """The handler, between ``async with`` its beginning and end: sessions that still play are stopped there.

    ``client_id`` is the reportingClientId of its reports; ``outbox`` keeps reports while the AF is away (in memory
    unless it has a journal); ``narrate`` is told each step; ``attempted`` hears of each report that was tried.
    """

    def __init__(
        self,
        m5: M5,
        clock: Clock,
        *,
        client_id: str,
        outbox: Outbox | None = None,
        access: ServiceAccess | None = None,
        narrate: Callable[[str], None] = lambda _: None,
        attempted: Attempted = lambda _: None,
        final_report_wait_s: float = FINAL_REPORT_WAIT_S,
    ) -> None:
        self.outbox = outbox if outbox is not None else Outbox()
        self.access = access if access is not None else ServiceAccess(m5, clock)
        self._sender = ReportSender(m5, self.outbox, clock, attempted=attempted)
        self._surroundings = Surroundings(
            m5, clock, self.access, self.outbox, self._sender, client_id, narrate, final_report_wait_s
        )
        self._location: TypedLocation | None = None
        self._sessions: list[MediaSession] = []

    async def __aenter__(self) -> MediaSessionHandler:
        # What waits from a former life goes first.
        self._sender.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def sessions(self) -> tuple[MediaSession, ...]:
        """The media sessions that have been started and not been stopped."""
        return tuple(self._sessions)

    async def start(self, player: MediaPlayer, entry: str, options: SessionOptions) -> MediaSession:
        """Starts to play an entry (step 3): the session, once the player has begun.

        Raises NotFound where the service is not provisioned, and what the player raises.
        """
        session = MediaSession(self._surroundings, player, entry, options, self._location)
        self._sessions.append(session)
        try:
            await session.start()
        except BaseException:
            self._sessions.remove(session)
            raise
        return session

    async def stop(self, session: MediaSession) -> None:
        """Stops a session (steps 13 to 17)."""
        await session.stop()
        if session in self._sessions:
            self._sessions.remove(session)

    def locate(self, location: TypedLocation | None) -> None:
        """The UE is in this cell now; None: that is not known."""
        self._location = location
        for session in self._sessions:
            session.locate(location)

    async def flush(self) -> bool:
        """Tries to send what waits, once; returns whether all of it has gone."""
        return await self._sender.flush()

    async def close(self) -> None:
        """Stops what still plays; reports that the AF has not taken stay in the journal, where there is one."""
        for session in list(self._sessions):
            await self.stop(session)
        await self._sender.end()
        self.outbox.close()
