"""A user plane under an SMF: sessions, their rules in the engines, what is measured, whether anything is forwarded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from heapq import nsmallest
from typing import Final, Protocol

from nf.common.clock import Clock
from nf.common.errors import FailedPrecondition, InvalidArgument
from upf.errors import UpfError
from upf.n4.engines import Engines
from upf.n4.forwarding import tunnel_of
from upf.n4.metering import Meter
from upf.n4.reports import ReportLog
from upf.n4.rules import Detection, cp_seid_of, detection_of
from upf.n4.sessions import SessionNotFound, modified
from upf.n4.v1.n4_pb2 import ComplianceReport, ModifySessionRequest, Session, UsageReport
from upf.tunnels import Tunnel

_NO_SESSION: Final = Session()


class NoAssociation(FailedPrecondition):
    """No SMF has set up an association with this UPF since it started."""

    reason = "NO_ESTABLISHED_PFCP_ASSOCIATION"
    cause = "NO_ESTABLISHED_PFCP_ASSOCIATION"


class AwaitingResynchronisation(FailedPrecondition):
    """The UPF forwards nothing until its SMF has established the sessions."""

    reason = "AWAITING_RESYNCHRONISATION"


class Gate(Protocol):
    """Where live traffic passes, or is held off."""

    forwarding: bool


class Tunnels(Protocol):
    """Where the sessions' tunnels on N3 are in force."""

    def change_tunnels(self, add: Iterable[Tunnel], remove: Iterable[str] = ...) -> None:
        """Adds tunnels, in place of those of the same names, and removes others: all or, with UpfError, nothing."""
        ...


class UserPlane:
    """One UPF. All methods belong to one event loop; packets are processed in other threads meanwhile.

    Its recovery time is when it was made: whoever sees that change knows that the sessions have gone. ``gate``: that of
    live traffic, if there is any; ``tunnels``: where that comes from N3.
    """

    def __init__(
        self, clock: Clock, engines: Engines, *, gate: Gate | None = None, tunnels: Tunnels | None = None
    ) -> None:
        self.recovery_time = clock.now()
        self.reports = ReportLog(self.recovery_time)
        self._clock = clock
        self._engines = engines
        self._gate = gate
        self._tunnels = tunnels
        self._associated = False
        self._sessions: dict[int, Session] = {}
        self._stale: set[int] = set()
        # What rules stood for that have been removed, while somebody keeps that in mind.
        self._removed: dict[str, Detection] | None = None
        self._meter = Meter()
        self._forward(False)
        # Held while rules are changed, and while a capture has its engine.
        self._engines_free = asyncio.Lock()

    # --- N4 -------------------------------------------------------------------------------------------------------

    async def set_up_association(self) -> None:
        """An SMF begins: nothing is forwarded until it has established its sessions anew."""
        async with self._engines_free:
            self._forward(False)
            self._associated = True
            self._stale = set(self._sessions)

    async def complete_resynchronisation(self) -> None:
        """The SMF has established all its sessions: those that it has not are deleted, and packets pass.

        Raises NoAssociation.
        """
        self._check_associated()
        async with self._engines_free:
            self._change(dict.fromkeys(self._stale))
            self._stale = set()
            self._forward(True)

    async def establish(self, session: Session) -> None:
        """Establishes the session or replaces the one with its identifier.

        Raises NoAssociation or InvalidArgument, without effect.
        """
        self._check_associated()
        if not session.cp_seid:
            raise InvalidArgument.of("session.cp_seid", "found 0, expected an identifier from 1 on")
        async with self._engines_free:
            self._change({session.cp_seid: session})
            self._stale.discard(session.cp_seid)

    async def modify(self, request: ModifySessionRequest) -> list[UsageReport]:
        """Changes a session; returns the last reports of the URRs removed, and those of the URRs queried.

        Raises NoAssociation, SessionNotFound or InvalidArgument, without effect.
        """
        self._check_associated()
        async with self._engines_free:
            before = self._sessions.get(request.cp_seid)
            if before is None:
                raise SessionNotFound(f"no session {request.cp_seid}")
            after = modified(before, request)
            wanted = [(request.cp_seid, urr) for urr in (*request.remove_urr_ids, *request.query_urr_ids)]
            return self._change({request.cp_seid: after}, wanted)

    async def delete(self, cp_seid: int) -> list[UsageReport]:
        """Deletes the session, if it is there; returns the last reports of its URRs. Raises NoAssociation."""
        self._check_associated()
        async with self._engines_free:
            gone = self._sessions.get(cp_seid)
            if gone is None:
                return []
            self._stale.discard(cp_seid)
            return self._change({cp_seid: None}, [(cp_seid, urr.urr_id) for urr in gone.urrs])

    @property
    def forwarding(self) -> bool:
        """Whether packets pass; not while the SMF has yet to establish its sessions."""
        return self._forwarding

    def _forward(self, forwarding: bool) -> None:
        self._forwarding = forwarding
        if self._gate is not None:
            self._gate.forwarding = forwarding

    def _check_associated(self) -> None:
        if not self._associated:
            raise NoAssociation("no SMF has set up an association since this UPF started")

    def sessions(self, *, after: int = 0, limit: int | None = None) -> list[Session]:
        """The sessions as they are enforced, by identifier: those above ``after``, at most ``limit`` of them."""
        later = (number for number in self._sessions if number > after)
        numbers = sorted(later) if limit is None else nsmallest(limit, later)
        return [self._sessions[number] for number in numbers]

    def _change(
        self, sessions: Mapping[int, Session | None], report_on: Iterable[tuple[int, int]] = ()
    ) -> list[UsageReport]:
        """Puts these sessions in force or, where there is none, out of it: all or none, whatever others there are.

        Returns reports as of the moment of the change.
        """
        self._harvest()
        changes = [(self._sessions.get(cp_seid), session) for cp_seid, session in sessions.items()]
        try:
            change = self._engines.change(changes)
            try:
                self._change_tunnels(sessions)
            except UpfError:
                change.undo()
                raise
        except UpfError as error:
            numbers = ", ".join(map(str, sessions))
            raise InvalidArgument(f"session {numbers}: the rules cannot be enforced: {error}") from error
        if self._removed is not None:
            self._removed |= {name: found for name in change.removed if (found := self.detect(name)) is not None}
        gone, others = change.harvest()
        self._meter.harvest(gone, self.detect)
        self._meter.forget_rules(change.removed)
        self._meter.harvest(others, partial(self.detect, after=sessions))
        reports = [self._meter.report(key, self._clock.now_ns()) for key in report_on]
        change.finish()
        for cp_seid, session in sessions.items():
            self._meter.change(self._sessions.get(cp_seid, _NO_SESSION), session or _NO_SESSION)
            if session is not None:
                self._sessions[cp_seid] = session
            else:
                self._sessions.pop(cp_seid, None)
        return reports

    def _change_tunnels(self, sessions: Mapping[int, Session | None]) -> None:
        """Those of the sessions, as they are to be. Raises UpfError, without effect."""
        if self._tunnels is None:
            return
        found = {str(cp_seid): tunnel_of(session) if session else None for cp_seid, session in sessions.items()}
        self._tunnels.change_tunnels(
            [tunnel for tunnel in found.values() if tunnel is not None],
            [name for name, tunnel in found.items() if tunnel is None],
        )

    def detect(self, rule: str, *, after: Mapping[int, Session | None] | None = None) -> Detection | None:
        """What a rule in force stands for; ``after``: once these sessions are."""
        if not rule:
            return None
        cp_seid = cp_seid_of(rule)
        session = self._sessions.get(cp_seid)
        if after is not None:
            session = after.get(cp_seid, session)
        return detection_of(session, rule) if session is not None else None

    # --- measurement ----------------------------------------------------------------------------------------------

    async def measure(self, *, before_time: bool = False) -> None:
        """Reports the URRs that have counted something since their last report, and every change of compliance.

        ``before_time``: even those whose measurement period is not over.
        """
        async with self._engines_free:
            self._harvest()
        now_ns = self._clock.now_ns()
        usage: dict[int, list[UsageReport]] = {}
        for key in self._meter.moved(now_ns, before_time=before_time):
            usage.setdefault(key[0], []).append(self._meter.report(key, now_ns))
        compliance: dict[int, list[ComplianceReport]] = {}
        for cp_seid, report in self._meter.changes_of_compliance():
            compliance.setdefault(cp_seid, []).append(report)
        for cp_seid in sorted(usage.keys() | compliance.keys()):
            self.reports.append(
                cp_seid, usage_reports=usage.get(cp_seid, ()), compliance_reports=compliance.get(cp_seid, ())
            )

    def _harvest(self) -> None:
        self._meter.harvest(self._engines.harvest(), self.detect)

    # --- captures -------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def at_rest(self) -> AsyncIterator[None]:
        """Within, no rule changes and nothing is harvested."""
        async with self._engines_free:
            yield

    @contextmanager
    def keeping_removed(self) -> Iterator[Mapping[str, Detection]]:
        """Within, what the rules stood for that are removed meanwhile is kept: one at a time may ask for that."""
        self._removed = {}
        try:
            yield self._removed
        finally:
            self._removed = None

    def check_forwarding(self) -> None:
        """Raises AwaitingResynchronisation."""
        if not self._forwarding:
            raise AwaitingResynchronisation("the UPF awaits its SMF's sessions and forwards nothing yet")
