"""Tells, once each time, that the user plane no longer or again enforces what it was told (TS 29.512 §4.2.4.15 shaped).

What was told last is kept with the event: a restart of the SMF forgets neither that the UPF is away nor that it was.
"""

from __future__ import annotations

from typing import Final

from nf.common.errors import CastcoreError
from nf.common.store import Store, Transaction
from nf.common.telemetry import logger
from nf.common.v1.types_pb2 import ProblemDetails
from nf.smf.usage_log import PATH, SOURCE
from nf.smf.v1.pdu_session_pb2 import UserPlaneStatus

NOT_RESPONDING: Final = "UPF_NOT_RESPONDING"
RESTARTED: Final = "UPF_RESTARTED"

_AWAY: Final = "user plane away"

_log = logger(SOURCE)


class UserPlaneStatusLog:
    """What the SMF has told of its user plane."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._away: bool | None = None

    async def lost(self, cause: str, detail: str) -> None:
        """The rules are not enforced."""
        title = "The user plane does not enforce the rules at present"
        await self._tell(UserPlaneStatus(problem=ProblemDetails(title=title, detail=detail, cause=cause)))

    async def restored(self) -> None:
        """The rules are enforced."""
        await self._tell(UserPlaneStatus(enforced=True))

    async def _tell(self, status: UserPlaneStatus) -> None:
        away = not status.enforced
        if self._away is away:
            return

        def work(transaction: Transaction) -> None:
            if bool(transaction.cursor(_AWAY)) is not away:
                transaction.set_cursor(_AWAY, int(away))
                transaction.emit("USER_PLANE_STATUS", "user-plane", status, source=SOURCE, path=PATH)

        try:
            await self._store.write(work)
        except CastcoreError as error:
            # It is told with the next change, or after the next start.
            _log.error("upf.status_not_told", away=away, error=str(error))
            return
        self._away = away
