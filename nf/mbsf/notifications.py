"""What the MB-SMF, the PCF and the MBSTF tell becomes states and events of distribution sessions (TS 26.502 §4.6.2).

Each event takes effect in the transaction that advances the cursor: at least once delivered, once told.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Final, TypeAlias

from nf.common.store import Store, Transaction
from nf.common.v1 import mbs_distribution_pb2 as distribution
from nf.common.v1.events_pb2 import Event, WatchEventsRequest
from nf.mbsf import failures
from nf.mbsf.events import tell
from nf.mbsf.life_cycle import LifeCycle
from nf.mbsf.machine import State
from nf.mbsf.peers import Peers, session_and_run
from nf.mbsf.transitions import Transitions
from nf.mbsf.v1 import user_data_ingest_pb2 as ingest
from nf.mbsf.v1.life_cycle_pb2 import DistributionSession
from nf.mbstf.v1 import dist_session_pb2 as nmb2
from nf.pcf.v1 import mbs_policy_authorization_pb2 as nmb12
from nf.smf.v1 import mbs_session_pb2 as nmb1

if TYPE_CHECKING:
    from nf.mbstf.v1.dist_session_pb2_grpc import MbstfEventsServiceAsyncStub
    from nf.pcf.v1.policy_authorization_pb2_grpc import PcfEventsServiceAsyncStub
    from nf.smf.v1.pdu_session_pb2_grpc import SmfEventsServiceAsyncStub

    EventsStub: TypeAlias = SmfEventsServiceAsyncStub | PcfEventsServiceAsyncStub | MbstfEventsServiceAsyncStub

FROM_SMF: Final = "mbsf from smf"
FROM_PCF: Final = "mbsf from pcf"
FROM_MBSTF: Final = "mbsf from mbstf"

_ENDED: Final = frozenset({"SESSION_DEACTIVATED", "SERVICE_MANAGEMENT_FAILURE"})
# What tells of data, and whether it has to have failed before for that to be news.
_INGEST: Final = {"DATA_INGEST_FAILURE": False, "DATA_INGEST_SESSION_ESTABLISHED": True}
_NOTED_EVERY: Final = 256

# What an event does to the store: the session that is to be looked at, or "" for none.
_Effect: TypeAlias = Callable[[Transaction], str]

_EXPECTING_DATA: Final = frozenset({State.ESTABLISHED, State.ACTIVE})
_WITH_TUNNEL: Final = frozenset({State.RESERVING, State.ESTABLISHING, *_EXPECTING_DATA})


async def events_of(stub: EventsStub, after_sequence: int) -> AsyncIterator[Event]:
    """A peer's events after a sequence."""
    async for response in stub.WatchEvents(WatchEventsRequest(after_sequence=after_sequence)):
        yield response.event


class Notifications:
    """The effects of the peers' events. ``severe_after``: data that has not come for so long is a severe error."""

    def __init__(
        self,
        store: Store,
        life_cycle: LifeCycle,
        transitions: Transitions,
        peers: Peers,
        severe_after: timedelta | None,
    ) -> None:
        self._store = store
        self._life_cycle = life_cycle
        self._transitions = transitions
        self._peers = peers
        self._severe_after = severe_after

    async def take_smf(self, event: Event) -> bool:
        """An event of the MB-SMF. It has had its effect: always False, for a subscriber not to write anything."""
        report = nmb1.MbsSessionEventReport()
        if event.payload.Unpack(report):
            await self._take(FROM_SMF, event, lambda tx: self._smf(tx, report))
        return False

    async def take_pcf(self, event: Event) -> bool:
        """An event of the PCF; likewise."""
        revoked = nmb12.MbsPolicyControlFailure()
        if event.payload.Unpack(revoked):
            await self._take(FROM_PCF, event, lambda tx: self._pcf(tx, revoked))
        return False

    async def take_mbstf(self, event: Event) -> bool:
        """An event of the MBSTF; likewise. What says that a session has ended is taken for it only if it has."""
        report = nmb2.DistSessionEventReport()
        if not event.payload.Unpack(report):
            return False
        if event.type in _ENDED:
            effect = self._ended(report)
            concerns = not await self._still_stands(report.dist_session_id)
        else:
            effect = self._data(event.type, report)
            concerns = await self._changes_ingest(event.type, report.dist_session_id)
        if concerns:
            await self._take(FROM_MBSTF, event, effect)
        elif event.sequence % _NOTED_EVERY == 0:
            # Most of what the MBSTF tells is known from its answers; the cursor follows now and then.
            await self._take(FROM_MBSTF, event, lambda _: "")
        return False

    async def _changes_ingest(self, event_type: str, mbs_dist_session_id: str) -> bool:
        if event_type not in _INGEST:
            return False
        record = await self._store.read(lambda reader: reader.get(DistributionSession, mbs_dist_session_id))
        if record is None:
            return False
        return record.info.HasField("ingest_failing_since") is _INGEST[event_type]

    async def _take(self, cursor: str, event: Event, effect: _Effect) -> None:
        def work(transaction: Transaction) -> str:
            # A write of a run before may have been committed after this one read the cursor.
            if transaction.cursor(cursor) >= event.sequence:
                return ""
            concerned = effect(transaction)
            transaction.set_cursor(cursor, event.sequence)
            return concerned

        concerned = await self._store.write(work)
        if concerned:
            self._life_cycle.wake(concerned)

    def _smf(self, transaction: Transaction, report: nmb1.MbsSessionEventReport) -> str:
        name, run = session_and_run(report.mbs_session_ref)
        record = transaction.get(DistributionSession, name) if name else None
        if record is None or record.run != run:
            return ""
        if report.event_type == nmb1.MBS_SESSION_EVENT_TYPE_MBS_REL_TMGI_EXPIRY:
            failure = failures.of_news(
                failures.SERVICE_MANAGEMENT,
                failures.NMB1,
                "The MBS session was released, since its TMGI has expired",
                cause="MBS_REL_TMGI_EXPIRY",
            )
            self._life_cycle.severe(transaction, name, failure, run=run)
            return name
        if report.event_type == nmb1.MBS_SESSION_EVENT_TYPE_INGRESS_TUNNEL_ADD_CHANGE and report.ingress_tun_addr:
            return self._retarget(transaction, record, report)
        if report.broadcast_del_status == nmb1.BROADCAST_DELIVERY_STATUS_STARTED:
            tell(transaction, record, ingest.STATUS_EVENT_DELIVERY_STARTED, source="smf", path=failures.NMB1)
        return ""

    def _retarget(
        self, transaction: Transaction, record: DistributionSession, report: nmb1.MbsSessionEventReport
    ) -> str:
        if State(record.stage) not in _WITH_TUNNEL or record.ingress_tun_addr == report.ingress_tun_addr[0]:
            return ""
        record.ingress_tun_addr.CopyFrom(report.ingress_tun_addr[0])
        record.tunnel_stale = True
        self._transitions.keep(transaction, record)
        return record.mbs_dist_session_id

    def _pcf(self, transaction: Transaction, revoked: nmb12.MbsPolicyControlFailure) -> str:
        name, run = session_and_run(revoked.context_id)
        if not name:
            return ""
        failure = failures.of_news(
            failures.POLICY_CONTROL,
            failures.NMB12,
            "The network's policy no longer permits the distribution session",
            cause=revoked.problem.cause,
        )
        return name if self._life_cycle.severe(transaction, name, failure, run=run) is not None else ""

    async def _still_stands(self, mbs_dist_session_id: str) -> bool:
        """Whether the MBSTF has what the record says: the news may be of an earlier run, or of what was asked for."""
        record = await self._store.read(lambda reader: reader.get(DistributionSession, mbs_dist_session_id))
        if record is None or State(record.stage) not in _EXPECTING_DATA:
            return True
        replica = await self._peers.replica(mbs_dist_session_id)
        current = await self._store.read(lambda reader: reader.get(DistributionSession, mbs_dist_session_id))
        if current is None or (current.stage, current.run) != (record.stage, record.run):
            return True
        return replica is not None and replica.dist_session_state in (
            distribution.DIST_SESSION_STATE_ESTABLISHED,
            distribution.DIST_SESSION_STATE_ACTIVE,
        )

    def _ended(self, report: nmb2.DistSessionEventReport) -> _Effect:
        def effect(transaction: Transaction) -> str:
            name = report.dist_session_id
            record = transaction.get(DistributionSession, name)
            if record is None or State(record.stage) not in _EXPECTING_DATA:
                return ""
            failure = failures.of_news(
                failures.SERVICE_MANAGEMENT,
                failures.NMB2,
                "The distribution session has ended where it is sent from",
                cause=report.problem.cause,
                detail=report.problem.detail,
            )
            self._life_cycle.severe(transaction, name, failure, run=record.run)
            return name

        return effect

    def _data(self, event_type: str, report: nmb2.DistSessionEventReport) -> _Effect:
        def effect(transaction: Transaction) -> str:
            record = transaction.get(DistributionSession, report.dist_session_id)
            if record is None or State(record.stage) not in _EXPECTING_DATA:
                return ""
            failing = record.info.HasField("ingest_failing_since")
            if event_type == "DATA_INGEST_FAILURE" and not failing:
                return self._dry(transaction, record, report)
            if event_type == "DATA_INGEST_SESSION_ESTABLISHED" and failing:
                return self._recovered(transaction, record)
            return ""

        return effect

    def _dry(self, transaction: Transaction, record: DistributionSession, report: nmb2.DistSessionEventReport) -> str:
        since = report.time_stamp.ToDatetime(UTC) if report.HasField("time_stamp") else transaction.clock.now()
        record.info.ingest_failing_since.FromDatetime(since)
        if self._severe_after is not None:
            record.ingest_severe_at.FromDatetime(since + self._severe_after)
        detail = failures.text(report.problem) if report.problem.title else report.problem.detail
        tell(
            transaction,
            record,
            ingest.STATUS_EVENT_DATA_INGEST_FAILURE,
            source="mbstf",
            path=failures.NMB2,
            info=detail,
        )
        self._transitions.keep(transaction, record)
        return record.mbs_dist_session_id

    def _recovered(self, transaction: Transaction, record: DistributionSession) -> str:
        record.info.ClearField("ingest_failing_since")
        record.ClearField("ingest_severe_at")
        tell(transaction, record, ingest.STATUS_EVENT_DATA_INGEST_RECOVERED, source="mbstf", path=failures.NMB2)
        self._transitions.keep(transaction, record)
        return record.mbs_dist_session_id
