"""A user plane under an SMF: sessions, their rules in the engine, what is measured, whether anything is forwarded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Final, TypeVar

from nf.common.clock import Clock
from nf.common.errors import FailedPrecondition, InvalidArgument
from upf.capture import CaptureError, CaptureFormat, CaptureStream, OutputFormat, Pieces
from upf.counters import FlowCounters, Totals
from upf.engine import Engine
from upf.errors import UpfError
from upf.n4.metering import Meter
from upf.n4.reports import ReportLog
from upf.n4.rules import Detection, cp_seid_of, detection_of, rule_names_of, rules_of
from upf.n4.sessions import SessionNotFound, modified
from upf.n4.v1.n4_pb2 import ComplianceReport, ModifySessionRequest, Session, UsageReport
from upf.rules import Rule

T = TypeVar("T")

# Packets between two moments at which rules may change: a few milliseconds at the most.
CHUNK_PACKETS: Final = 1 << 15

_NO_SESSION: Final = Session()


class NoAssociation(FailedPrecondition):
    """No SMF has set up an association with this UPF since it started."""

    reason = "NO_ESTABLISHED_PFCP_ASSOCIATION"
    cause = "NO_ESTABLISHED_PFCP_ASSOCIATION"


class AwaitingResynchronisation(FailedPrecondition):
    """The UPF forwards nothing until its SMF has established the sessions."""

    reason = "AWAITING_RESYNCHRONISATION"


@dataclass(frozen=True, slots=True)
class Treated:
    """What became of a capture: counters of this one alone, flows in the order of their first packets.

    A flow stands beside the PDR that detected it last; None where no rule has wanted it.
    """

    packets: int
    total_bytes: int
    malformed: dict[str, int]
    unmatched_packets: int
    unmatched_bytes: int
    flows: Sequence[tuple[FlowCounters, Detection | None]]
    passed: bytes
    format: OutputFormat


class UserPlane:
    """One UPF. All methods belong to one event loop; packets are processed in a thread meanwhile, in chunks.

    Its recovery time is when it was made: whoever sees that change knows that the sessions have gone.
    """

    def __init__(self, clock: Clock, *, max_flows: int) -> None:
        self.recovery_time = clock.now()
        self.reports = ReportLog(self.recovery_time)
        self._clock = clock
        self.forwarding = False
        self._associated = False
        self._engine = Engine(max_flows=max_flows, flow_times=True, pass_unmatched=False)
        self._sessions: dict[int, Session] = {}
        self._stale: set[int] = set()
        # What rules stood for that have been removed since the capture under way began.
        self._removed: dict[str, Detection] = {}
        self._meter = Meter()
        self._harvested_packets = 0
        # Held while packets are processed or rules are changed.
        self._engine_free = asyncio.Lock()
        # One capture after the other: flow counters are those of a single one.
        self._one_capture = asyncio.Lock()

    # --- N4 -------------------------------------------------------------------------------------------------------

    async def set_up_association(self) -> None:
        """An SMF begins: nothing is forwarded until it has established its sessions anew."""
        async with self._engine_free:
            self.forwarding = False
            self._associated = True
            self._stale = set(self._sessions)

    async def complete_resynchronisation(self) -> None:
        """The SMF has established all its sessions: those that it has not are deleted, and packets pass.

        Raises NoAssociation.
        """
        self._check_associated()
        async with self._engine_free:
            self._change(dict.fromkeys(self._stale))
            self._stale = set()
            self.forwarding = True

    async def establish(self, session: Session) -> None:
        """Establishes the session or replaces the one with its identifier.

        Raises NoAssociation or InvalidArgument, without effect.
        """
        self._check_associated()
        if not session.cp_seid:
            raise InvalidArgument.of("session.cp_seid", "found 0, expected an identifier from 1 on")
        async with self._engine_free:
            self._change({session.cp_seid: session})
            self._stale.discard(session.cp_seid)

    async def modify(self, request: ModifySessionRequest) -> list[UsageReport]:
        """Changes a session; returns the last reports of the URRs removed, and those of the URRs queried.

        Raises NoAssociation, SessionNotFound or InvalidArgument, without effect.
        """
        self._check_associated()
        async with self._engine_free:
            before = self._sessions.get(request.cp_seid)
            if before is None:
                raise SessionNotFound(f"no session {request.cp_seid}")
            after = modified(before, request)
            wanted = [(request.cp_seid, urr) for urr in (*request.remove_urr_ids, *request.query_urr_ids)]
            return self._change({request.cp_seid: after}, wanted)

    async def delete(self, cp_seid: int) -> list[UsageReport]:
        """Deletes the session, if it is there; returns the last reports of its URRs. Raises NoAssociation."""
        self._check_associated()
        async with self._engine_free:
            gone = self._sessions.get(cp_seid)
            if gone is None:
                return []
            self._stale.discard(cp_seid)
            return self._change({cp_seid: None}, [(cp_seid, urr.urr_id) for urr in gone.urrs])

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
        added: list[Rule] = []
        removed: list[str] = []
        for cp_seid, session in sessions.items():
            in_force = self._sessions.get(cp_seid)
            if session is None:
                removed += rule_names_of(in_force) if in_force is not None else ()
                continue
            # Rules are made again when they are needed: to keep them would cost more than the sessions themselves.
            before = {rule.name: rule for rule in rules_of(in_force)} if in_force is not None else {}
            after = {rule.name: rule for rule in rules_of(session)}
            added += (rule for name, rule in after.items() if before.get(name) != rule)
            removed += before.keys() - after.keys()
        self._harvest()
        if self._one_capture.locked():
            self._removed |= {name: found for name in removed if (found := self._detect(name)) is not None}
        try:
            self._engine.update(add=added, remove=removed)
        except UpfError as error:
            numbers = ", ".join(map(str, sessions))
            raise InvalidArgument(f"session {numbers}: the rules cannot be enforced: {error}") from error
        reports = [self._meter.report(key, self._clock.now_ns()) for key in report_on]
        self._meter.forget_rules(removed)
        for cp_seid, session in sessions.items():
            self._meter.change(self._sessions.get(cp_seid, _NO_SESSION), session or _NO_SESSION)
            if session is not None:
                self._sessions[cp_seid] = session
            else:
                self._sessions.pop(cp_seid, None)
        return reports

    def _detect(self, rule: str) -> Detection | None:
        """What a rule in force stands for."""
        session = self._sessions.get(cp_seid_of(rule)) if rule else None
        return detection_of(session, rule) if session is not None else None

    # --- measurement ----------------------------------------------------------------------------------------------

    async def measure(self, *, before_time: bool = False) -> None:
        """Reports the URRs that have counted something since their last report, and every change of compliance.

        ``before_time``: even those whose measurement period is not over.
        """
        async with self._engine_free:
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
        packets = self._engine.packets
        if packets != self._harvested_packets:
            self._meter.harvest(self._engine.harvest(), self._detect)
            self._harvested_packets = packets

    # --- packets --------------------------------------------------------------------------------------------------

    async def treat(self, pieces: AsyncIterator[bytes], *, keep_passed: bool) -> Treated:
        """Takes a capture that arrives in pieces as traffic, and reports what was measured when it has ended.

        Raises AwaitingResynchronisation, and InvalidArgument when the pieces are no capture, or not to their end: what
        stood before that has been treated.
        """
        self._check_forwarding()
        async with self._one_capture:
            self._removed = {}
            self._engine.reset_flow_counters()
            before = self._engine.totals()
            passed = bytearray() if keep_passed else None
            try:
                output_format = await self._treat_pieces(pieces, passed)
            except CaptureError as error:
                raise InvalidArgument.of("capture", str(error)) from error
            finally:
                await self.measure(before_time=True)
            return self._treated(before, self._engine.totals(), output_format, bytes(passed or b""))

    def _check_forwarding(self) -> None:
        if not self.forwarding:
            raise AwaitingResynchronisation("the UPF awaits its SMF's sessions and forwards nothing yet")

    async def _treat_pieces(self, pieces: AsyncIterator[bytes], passed: bytearray | None) -> OutputFormat:
        source = Pieces()
        stream = CaptureStream(source, name="capture")
        begun = False
        try:
            async for piece in pieces:
                source.feed(piece)
                if not begun and stream.begin():
                    begun = True
                    self._engine.begin_output(_output_format(stream))
                await self._walk(stream, passed)
                if stream.error is not None:
                    raise stream.error
            source.end()
            await self._walk(stream, passed)
        finally:
            async with self._engine_free:
                self._engine.finish(emit=passed.extend if passed is not None else None)
        if stream.error is not None:
            raise stream.error
        return _output_format(stream)

    async def _walk(self, stream: CaptureStream, passed: bytearray | None) -> None:
        """Treats what the stream has been fed; rules may change after every so many packets."""
        more = True
        while more:
            async with self._engine_free:
                self._check_forwarding()
                more = await _to_its_end(asyncio.to_thread(self._step, stream, passed))

    def _step(self, stream: CaptureStream, passed: bytearray | None) -> bool:
        if not stream.more():
            return False
        offset, _, over = self._engine.run(
            stream.view,
            stream.format,
            offset=stream.offset,
            max_packets=CHUNK_PACKETS,
            emit=passed.extend if passed is not None else None,
        )
        stream.taken(offset, over=over)
        return True

    def _treated(self, before: Totals, after: Totals, output_format: OutputFormat, passed: bytes) -> Treated:
        flows = [flow for flow in self._engine.flows() if flow.conforming_packets or flow.excess_packets]
        flows.sort(key=lambda flow: (flow.first_ns, str(flow.source), flow.source_port, flow.destination_port))
        return Treated(
            packets=after.packets - before.packets,
            total_bytes=after.bytes - before.bytes,
            malformed={
                reason: packets - before.malformed.get(reason, 0)
                for reason, packets in after.malformed.items()
                if packets > before.malformed.get(reason, 0)
            },
            unmatched_packets=after.unmatched_packets - before.unmatched_packets,
            unmatched_bytes=after.unmatched_bytes - before.unmatched_bytes,
            flows=[(flow, self._detect(flow.rule) or self._removed.get(flow.rule)) for flow in flows],
            passed=passed,
            format=output_format,
        )


def _output_format(stream: CaptureStream) -> OutputFormat:
    """What passes is a capture as the one that came."""
    if isinstance(stream.format, CaptureFormat):
        return OutputFormat.of([stream.format.link_type], nanoseconds=stream.format.nanoseconds)
    return OutputFormat.of([], nanoseconds=True, pcapng=True)


async def _to_its_end(work: Coroutine[object, object, T]) -> T:
    """The result of work that must not be left alone: a caller that is cancelled waits for its end first."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
