"""The composition root of the SMF: the only place that wires its parts."""

from __future__ import annotations

from typing import Final

from nf.common.function import Context, Function
from nf.common.server import servicer
from nf.common.store import Transaction
from nf.smf import rest_mbs_sessions, rest_tmgi, usage_log
from nf.smf.alignment import Aligner
from nf.smf.attachment import PduSessions
from nf.smf.config import SmfSection
from nf.smf.mbs_control import MbsSessions
from nf.smf.mbs_service import MbsSessionService, TmgiService
from nf.smf.mbs_user_plane import MbsAligner, MbsUserPlane
from nf.smf.reports import ReportConsumer
from nf.smf.service import PduSessionsService, SmfEventsService, SmPolicyNotifyService
from nf.smf.supervision import UserPlane
from nf.smf.tmgi import TmgiRange, Tmgis
from nf.smf.user_plane_status import UserPlaneStatusLog
from nf.smf.v1.mbs_session_pb2_grpc import add_MbsSessionServiceServicer_to_server
from nf.smf.v1.pdu_session_pb2_grpc import (
    add_PduSessionsServiceServicer_to_server,
    add_SmfEventsServiceServicer_to_server,
    add_SmPolicyNotifyServiceServicer_to_server,
)
from nf.smf.v1.tmgi_pb2_grpc import add_TmgiServiceServicer_to_server
from upf.n4.v1.n4_pb2_grpc import N4ServiceStub

# Typed tables that the store has to be opened with.
TABLES: Final = usage_log.TABLES

_RECOVERY: Final = "own recovery"


def _recovery_ns(transaction: Transaction) -> int:
    """The SMF's recovery time stamp: when its store began. Its sessions have survived every restart since then."""
    if transaction.cursor(_RECOVERY) == 0:
        transaction.set_cursor(_RECOVERY, transaction.clock.now_ns())
    return transaction.cursor(_RECOVERY)


def build(ctx: Context[SmfSection]) -> Function:
    """The SMF on the context's store (opened with TABLES); its peers are "pcf" and "upf"."""
    period_ms = ctx.config.measurement_period_ms
    user_plane = UserPlane(
        lambda: ctx.channels.stub("upf", N4ServiceStub),
        ctx.config,
        ctx.clock,
        f"smf-{ctx.store.instance_id}",
        UserPlaneStatusLog(ctx.store),
    )
    sessions = PduSessions(
        ctx.store,
        user_plane,
        lambda: ctx.channels.get("pcf"),
        ctx.clock,
        measurement_period_ms=period_ms,
        session_ambr=ctx.config.session_ambr,
    )
    aligner = Aligner(ctx.store, user_plane, measurement_period_ms=period_ms)
    reports = ReportConsumer(ctx.store, user_plane, sessions.lock)

    mbs_user_plane = MbsUserPlane(
        lambda: ctx.channels.get("upf"), ctx.config, ctx.clock, f"smf-{ctx.store.instance_id}"
    )
    tmgi_range = TmgiRange(ctx.config.mbs)
    mbs_sessions = MbsSessions(
        ctx.store, mbs_user_plane, lambda: ctx.channels.get("pcf"), ctx.clock, tmgi_range, ctx.config.mbs.gnbs
    )
    tmgis = Tmgis(ctx.store, tmgi_range)
    mbs_aligner = MbsAligner(ctx.store, mbs_user_plane, ctx.config.mbs.gnbs)

    async def start() -> None:
        await sessions.start()
        await mbs_sessions.start()
        await reports.start()
        recovery_ns = await ctx.store.write(_recovery_ns)
        mbs_user_plane.begin(mbs_aligner.align, recovery_ns)
        await user_plane.start(aligner.align, recovery_ns)

    async def stop() -> None:
        await mbs_user_plane.stop()
        await mbs_sessions.stop()
        await user_plane.stop()
        await reports.stop()
        await sessions.stop()

    return Function(
        name=ctx.name,
        servicers=(
            servicer(add_PduSessionsServiceServicer_to_server, PduSessionsService(sessions)),
            servicer(add_SmPolicyNotifyServiceServicer_to_server, SmPolicyNotifyService(sessions)),
            servicer(add_SmfEventsServiceServicer_to_server, SmfEventsService(ctx.store)),
            servicer(add_TmgiServiceServicer_to_server, TmgiService(tmgis)),
            servicer(add_MbsSessionServiceServicer_to_server, MbsSessionService(mbs_sessions)),
        ),
        routes=(rest_mbs_sessions.build_door(mbs_sessions), rest_tmgi.build_door(tmgis)),
        start=start,
        stop=stop,
    )
