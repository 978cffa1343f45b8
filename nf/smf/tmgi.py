"""TMGIs: allocated by number, refreshed, released, expired (TS 29.532 §5.2, TS 23.247 §7.1.1.2 to §7.1.1.4).

Service identifiers are handed out in turn, so that one that was released rests for as long as possible. An expired TMGI
with MBS sessions on it stays taken until they have gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.mbs_session_ids import tmgi_key, tmgi_violations
from nf.common.store import Page, Reader, Store, Transaction
from nf.common.v1.mbs_pb2 import PlmnId, Tmgi
from nf.smf.config import MbsSection
from nf.smf.errors import NoTmgiLeft, TmgiInUse, UnknownTmgi
from nf.smf.v1.mbs_session_pb2 import MbsSession
from nf.smf.v1.tmgi_pb2 import AllocatedTmgi, AllocateTmgiRequest, AllocateTmgiResponse

MAX_TMGIS: Final = 255
# The lookup by which MBS sessions of a TMGI are found.
TMGI: Final = "tmgi"

_NEXT: Final = "next mbs service id"
_COUNT: Final = "allocated tmgis"


class TmgiRange:
    """The TMGIs that are this SMF's to allocate."""

    def __init__(self, config: MbsSection) -> None:
        self.plmn_id: PlmnId = config.plmn_id
        self.lifetime = timedelta(seconds=config.tmgi_lifetime_s)
        self._first = int(config.first_service_id, 16)
        self._last = int(config.last_service_id, 16)

    def __len__(self) -> int:
        return self._last - self._first + 1

    def take(self, transaction: Transaction, count: int) -> list[Tmgi]:
        """So many TMGIs that nobody has, and which come next. Raises NoTmgiLeft."""
        taken: list[Tmgi] = []
        number = transaction.cursor(_NEXT)
        for _ in range(len(self)):
            if len(taken) == count:
                break
            if not self._first <= number <= self._last:
                number = self._first
            tmgi = Tmgi(mbs_service_id=f"{number:06x}", plmn_id=self.plmn_id)
            if transaction.get(AllocatedTmgi, tmgi_key(tmgi)) is None:
                taken.append(tmgi)
            number += 1
        if len(taken) < count:
            raise NoTmgiLeft(f"expected at most {len(taken)} TMGIs, which is what is left of {len(self)}, got {count}")
        transaction.set_cursor(_NEXT, number)
        return taken


def allocate(
    transaction: Transaction, tmgis: TmgiRange, count: int, *, mbs_session_ref: str = ""
) -> list[AllocatedTmgi]:
    """So many new TMGIs, for an MBS session or by themselves. Raises NoTmgiLeft."""
    allocated_count = transaction.cursor(_COUNT)
    if allocated_count + count > len(tmgis):
        left = max(0, len(tmgis) - allocated_count)
        raise NoTmgiLeft(f"expected at most {left} TMGIs, which is what is left of {len(tmgis)}, got {count}")
    now = transaction.clock.now()
    made = []
    for tmgi in tmgis.take(transaction, count):
        allocated = AllocatedTmgi(tmgi=tmgi, mbs_session_ref=mbs_session_ref)
        allocated.create_time.FromDatetime(now)
        allocated.expiration_time.FromDatetime(now + tmgis.lifetime)
        made.append(transaction.insert(allocated, tmgi_key(tmgi), due=now + tmgis.lifetime))
    transaction.set_cursor(_COUNT, allocated_count + count)
    return made


def require(reader: Reader, tmgi: Tmgi) -> AllocatedTmgi:
    """What is allocated under this TMGI, and has not expired. Raises UnknownTmgi."""
    allocated = reader.get(AllocatedTmgi, tmgi_key(tmgi))
    if allocated is None:
        raise UnknownTmgi(f"TMGI {tmgi_key(tmgi)} is not allocated")
    if has_expired(allocated, reader.clock.now()):
        raise UnknownTmgi(f"TMGI {tmgi_key(tmgi)} has expired")
    return allocated


def has_expired(allocated: AllocatedTmgi, now: datetime) -> bool:
    """Whether its time is over, whatever still stands on it."""
    return allocated.expiration_time.ToNanoseconds() <= int(now.timestamp() * 1_000_000) * 1_000


def free(transaction: Transaction, allocated: AllocatedTmgi) -> None:
    """Gives a TMGI back."""
    if transaction.delete(AllocatedTmgi, tmgi_key(allocated.tmgi)):
        transaction.set_cursor(_COUNT, transaction.cursor(_COUNT) - 1)


def free_with_session(transaction: Transaction, tmgi: Tmgi) -> None:
    """After an MBS session: its TMGI goes with the last one, where it was allocated with a session or has expired."""
    allocated = transaction.get(AllocatedTmgi, tmgi_key(tmgi))
    if allocated is None or transaction.find(MbsSession, TMGI, tmgi_key(tmgi)):
        return
    if allocated.mbs_session_ref or has_expired(allocated, transaction.clock.now()):
        free(transaction, allocated)


class Tmgis:
    """The TMGIs of one SMF."""

    def __init__(self, store: Store, tmgis: TmgiRange) -> None:
        self._store = store
        self._range = tmgis

    async def allocate(self, request: AllocateTmgiRequest) -> AllocateTmgiResponse:
        """New TMGIs, and new lifetimes for those that are named: all of it, or nothing.

        Raises InvalidArgument, UnknownTmgi, NoTmgiLeft.
        """
        _check_allocation(request)

        def work(transaction: Transaction) -> AllocateTmgiResponse:
            return transaction.once(
                request.request_id, "AllocateTmgi", request, lambda: self._answer(transaction, request)
            )

        return await self._store.write(work)

    async def release(self, tmgis: Sequence[Tmgi]) -> None:
        """Gives TMGIs back, all or none; one that is not allocated was given back before.

        Raises InvalidArgument, and TmgiInUse naming the MBS session that stands on one.
        """
        if not tmgis:
            raise InvalidArgument.of("tmgi_list", "expected one TMGI at least, got none")
        _check_tmgis(tmgis)

        def work(transaction: Transaction) -> None:
            for tmgi in tmgis:
                key = tmgi_key(tmgi)
                allocated = transaction.get(AllocatedTmgi, key)
                if allocated is None:
                    continue
                for session in transaction.find(MbsSession, TMGI, key):
                    raise TmgiInUse(
                        f"TMGI {key} is that of MBS session {session.mbs_session_ref!r}",
                        metadata={"tmgi": key, "mbs_session_ref": session.mbs_session_ref},
                    )
                free(transaction, allocated)

        await self._store.write(work)

    async def page(self, page_size: int, page_token: str) -> Page[AllocatedTmgi]:
        """One page of what is allocated, in the order of allocation."""
        return await self._store.read(
            lambda reader: reader.list(AllocatedTmgi, page_size=page_size, page_token=page_token)
        )

    def _answer(self, transaction: Transaction, request: AllocateTmgiRequest) -> AllocateTmgiResponse:
        until = transaction.clock.now() + self._range.lifetime
        refreshed = [require(transaction, tmgi) for tmgi in request.tmgi_list]
        for allocated in refreshed:
            allocated.expiration_time.FromDatetime(until)
            transaction.update(allocated, tmgi_key(allocated.tmgi), due=until)
        made = allocate(transaction, self._range, request.tmgi_number) if request.tmgi_number else []
        answer = AllocateTmgiResponse(tmgi_list=[each.tmgi for each in (*made, *refreshed)])
        answer.expiration_time.FromDatetime(until)
        return answer


def _check_tmgis(tmgis: Sequence[Tmgi]) -> None:
    found = [each for at, tmgi in enumerate(tmgis) for each in tmgi_violations(tmgi, f"tmgi_list[{at}]")]
    keys = [tmgi_key(tmgi) for tmgi in tmgis]
    if len(set(keys)) < len(keys):
        found.append(FieldViolation("tmgi_list", "expected different TMGIs, got one twice"))
    if found:
        raise InvalidArgument.of_all(found)


def _check_allocation(request: AllocateTmgiRequest) -> None:
    if request.HasField("tmgi_number") and not 1 <= request.tmgi_number <= MAX_TMGIS:
        raise InvalidArgument.of("tmgi_number", f"expected 1 to {MAX_TMGIS}, got {request.tmgi_number}")
    if not request.tmgi_number and not request.tmgi_list:
        raise InvalidArgument.of("tmgi_number", "expected it, or a tmgi_list to refresh, got neither")
    _check_tmgis(request.tmgi_list)
