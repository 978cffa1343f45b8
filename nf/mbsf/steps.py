"""Which call each step of the life cycle makes (TS 26.502 §4.6.1 steps 2a to 5)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Final, TypeAlias

from nf.common.errors import NotFound, Unavailable
from nf.common.store import Store
from nf.common.v1.mbs_pb2 import MbsServiceType
from nf.mbsf.announcement import Bundle
from nf.mbsf.announcements import bundle_of, service_of
from nf.mbsf.machine import Effect, State
from nf.mbsf.peers import Change, Peers
from nf.mbsf.planning import Plan
from nf.mbsf.v1.life_cycle_pb2 import DistributionSession

# The name of the object in which a session carries its own announcement.
CARRIED_AS: Final = "user-service-announcement"

_Call: TypeAlias = Callable[[DistributionSession], Awaitable[Change]]


class ReplicaLost(Unavailable):
    """The MBSTF does not know a session that it had established."""

    reason = "REPLICA_LOST"


class Steps:
    """The calls, by the effects that ask for them. ``establishment_timeout_s``: 2b may take so long at least."""

    def __init__(
        self, store: Store, peers: Peers, establishment_timeout_s: float, locate: Callable[[str], str]
    ) -> None:
        self._store = store
        self._peers = peers
        self._establishment_timeout_s = establishment_timeout_s
        self._locate = locate
        self._calls: Final[Mapping[Effect, _Call]] = {
            Effect.ALLOCATE_TMGI: self._allocate,
            Effect.AUTHORISE: self._authorise,
            Effect.RESERVE: self._reserve,
            Effect.ACTIVATE: peers.activate,
            Effect.CEASE: peers.cease,
            Effect.RELEASE: peers.release,
            Effect.FREE_SESSION: peers.free_session,
            Effect.FREE_AUTHORISATION: peers.free_authorisation,
            Effect.FREE_TMGI: peers.free_tmgi,
            Effect.DELETE_REPLICA: peers.delete_replica,
        }

    async def do(self, record: DistributionSession, plan: Plan) -> Change:
        """Makes the call of the plan: what its answer changes in the record. Raises what the peer refuses with."""
        if plan.work is None:
            raise AssertionError("there is a call to make")
        if plan.work is Effect.ESTABLISH:
            return await self._establish(record, plan)
        return await self._calls[plan.work](record)

    async def aside(self, record: DistributionSession, plan: Plan) -> Change:
        """Refreshes the TMGI, or tells the MBSTF what it does not know yet. Raises ReplicaLost, and what is refused."""
        if plan.refresh_tmgi:
            return self._stamped(await self._peers.refresh_tmgi(record))
        if State(record.stage) is State.INACTIVE:
            return await self._peers.update_replica(record)
        try:
            if record.tunnel_stale:
                return await self._peers.retarget(record)
            bundle = await self._bundle(record)
            return await self._peers.carry(record, CARRIED_AS, bundle.content_type, bundle.content)
        except NotFound as lost:
            raise ReplicaLost(lost.message) from lost

    async def _allocate(self, record: DistributionSession) -> Change:
        return self._stamped(await self._peers.allocate_tmgi(record))

    async def _authorise(self, record: DistributionSession) -> Change:
        return await self._peers.authorise(record, await self._service_type(record))

    async def _reserve(self, record: DistributionSession) -> Change:
        return await self._peers.reserve(record, await self._service_type(record))

    async def _establish(self, record: DistributionSession, plan: Plan) -> Change:
        """Nothing ingested by the start time is a failure; what begins late has a time of its own."""
        timeout_s = self._establishment_timeout_s
        if plan.window is not None:
            timeout_s = max(timeout_s, (plan.window.start - self._store.clock.now()) / timedelta(seconds=1))
        try:
            return await self._peers.establish(record, timeout_s)
        except NotFound:
            # The MBSTF has lost it while it was INACTIVE: it is made again.
            await self._peers.create_replica(record)
            return await self._peers.establish(record, timeout_s)

    async def _bundle(self, record: DistributionSession) -> Bundle:
        return await self._store.read(
            lambda reader: bundle_of(reader, service_of(reader, record), record, self._locate)
        )

    async def _service_type(self, record: DistributionSession) -> MbsServiceType.ValueType:
        return (await self._store.read(lambda reader: service_of(reader, record))).serv_type

    def _stamped(self, change: Change) -> Change:
        now = self._store.clock.now()

        def stamped(record: DistributionSession) -> None:
            change(record)
            record.tmgi_refreshed.FromDatetime(now)

        return stamped
