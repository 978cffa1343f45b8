"""The composition root of the MBSF: the only place that wires its parts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from sqlalchemy import Table

from nf.common.function import Context, Function
from nf.common.server import servicer
from nf.common.store import Transaction
from nf.common.subscribe import Subscriber
from nf.common.v1.events_pb2 import Event
from nf.mbsf import rest_mbs_5, rest_user_data_ingest, rest_user_services
from nf.mbsf.announcements import session_url
from nf.mbsf.config import MbsfSection
from nf.mbsf.groups import MulticastGroups
from nf.mbsf.life_cycle import LifeCycle, Limits
from nf.mbsf.notifications import FROM_MBSTF, FROM_PCF, FROM_SMF, Notifications, events_of
from nf.mbsf.peers import Peers
from nf.mbsf.provisioning import Provisioning, Settings
from nf.mbsf.service import MbsfEventsService, MbsUserDataIngestSessionsService, MbsUserServicesService
from nf.mbsf.status_subscriptions import StatusSubscriptions
from nf.mbsf.steps import Steps
from nf.mbsf.transitions import Transitions
from nf.mbsf.v1.user_data_ingest_pb2_grpc import (
    add_MbsfEventsServiceServicer_to_server,
    add_MbsUserDataIngestSessionsServiceServicer_to_server,
)
from nf.mbsf.v1.user_service_pb2_grpc import add_MbsUserServicesServiceServicer_to_server
from nf.mbstf.v1.dist_session_pb2_grpc import MbstfEventsServiceStub
from nf.pcf.v1.policy_authorization_pb2_grpc import PcfEventsServiceStub
from nf.smf.v1.pdu_session_pb2_grpc import SmfEventsServiceStub

# Typed tables that the store has to be opened with.
TABLES: Final[Sequence[Table]] = ()


def _nothing_more(_: Transaction, __: Event) -> None:
    return


def build(ctx: Context[MbsfSection]) -> Function:
    """The MBSF on the context's store (opened with TABLES); its peers are "pcf", "smf" and "mbstf"."""
    config, store = ctx.config, ctx.store

    def locate(mbs_dist_session_id: str) -> str:
        return session_url(ctx.http_url, mbs_dist_session_id)

    transitions = Transitions(timedelta(seconds=config.establishment_lead_s), locate)
    peers = Peers(ctx.channels.get, config.call_timeout_s)
    steps = Steps(store, peers, config.establishment_timeout_s, locate)
    limits = Limits(concurrent_calls=config.concurrent_calls, longest_pause_s=config.longest_retry_pause_s)
    life_cycle = LifeCycle(store, transitions, steps, limits)
    settings = Settings(
        groups=MulticastGroups(config.multicast_groups),
        port=config.multicast_port,
        http_url=lambda: ctx.http_url,
        locate=locate,
    )
    provisioning = Provisioning(store, transitions, life_cycle, peers, settings)
    severe_after_s = config.ingest_failure_severe_after_s
    severe_after = None if severe_after_s is None else timedelta(seconds=severe_after_s)
    notifications = Notifications(store, life_cycle, transitions, peers, severe_after)
    subscribers = (
        Subscriber(
            FROM_SMF,
            store,
            lambda after: events_of(SmfEventsServiceStub(ctx.channels.get("smf")), after),
            _nothing_more,
            prepare=notifications.take_smf,
        ),
        Subscriber(
            FROM_PCF,
            store,
            lambda after: events_of(PcfEventsServiceStub(ctx.channels.get("pcf")), after),
            _nothing_more,
            prepare=notifications.take_pcf,
        ),
        Subscriber(
            FROM_MBSTF,
            store,
            lambda after: events_of(MbstfEventsServiceStub(ctx.channels.get("mbstf")), after),
            _nothing_more,
            prepare=notifications.take_mbstf,
        ),
    )

    subscriptions = StatusSubscriptions(store, config, tls=ctx.tls)

    async def start() -> None:
        await life_cycle.start()
        for each in subscribers:
            await each.start()
        await subscriptions.start()

    async def stop() -> None:
        await subscriptions.stop()
        for each in subscribers:
            await each.stop()
        await life_cycle.stop()

    return Function(
        name=ctx.name,
        servicers=(
            servicer(add_MbsUserServicesServiceServicer_to_server, MbsUserServicesService(provisioning)),
            servicer(
                add_MbsUserDataIngestSessionsServiceServicer_to_server, MbsUserDataIngestSessionsService(provisioning)
            ),
            servicer(add_MbsfEventsServiceServicer_to_server, MbsfEventsService(store)),
        ),
        routes=(
            # Clients outnumber providers.
            rest_mbs_5.build_door(store, config.announcement_max_age_s),
            rest_user_data_ingest.build_door(provisioning, subscriptions),
            rest_user_services.build_door(provisioning),
        ),
        start=start,
        stop=stop,
    )
