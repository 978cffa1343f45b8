"""The composition root of the MBSTF: the only place that wires its parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Table

from nf.common.errors import Unimplemented
from nf.common.function import Context, Function
from nf.common.server import servicer
from nf.mbstf.config import MbstfSection
from nf.mbstf.delivery import Delivery, Watch
from nf.mbstf.distribution import DistSessions
from nf.mbstf.rest_dist_sessions import build_door
from nf.mbstf.service import DistSessionService, MbstfEventsService
from nf.mbstf.status_subscriptions import StatusSubscriptions
from nf.mbstf.timers import Timers
from nf.mbstf.v1.dist_session_pb2 import DistSession
from nf.mbstf.v1.dist_session_pb2_grpc import (
    add_DistSessionServiceServicer_to_server,
    add_MbstfEventsServiceServicer_to_server,
)

# Typed tables that the store has to be opened with.
TABLES: Final[Sequence[Table]] = ()


def build(ctx: Context[MbstfSection]) -> Function:
    """The MBSTF on the context's store (opened with TABLES)."""
    timers = Timers(ctx.clock)

    def make(session: DistSession, watch: Watch) -> Delivery:
        raise Unimplemented("distribution is not offered yet")

    sessions = DistSessions(
        ctx.store,
        ctx.clock,
        ctx.config,
        timers,
        make=make,
        check_fec=lambda _: None,
        reserve=lambda session: session,
        give_back=lambda _: None,
        shown=lambda session: session,
    )

    subscriptions = StatusSubscriptions(ctx.store, ctx.config, tls=ctx.tls)

    async def start() -> None:
        timers.start()
        await sessions.start()
        await subscriptions.start()

    async def stop() -> None:
        await subscriptions.stop()
        await sessions.stop()
        await timers.stop()

    return Function(
        name=ctx.name,
        servicers=(
            servicer(add_DistSessionServiceServicer_to_server, DistSessionService(sessions)),
            servicer(add_MbstfEventsServiceServicer_to_server, MbstfEventsService(ctx.store)),
        ),
        routes=(build_door(sessions, subscriptions),),
        start=start,
        stop=stop,
    )
