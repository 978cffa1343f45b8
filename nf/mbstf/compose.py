"""The composition root of the MBSTF: the only place that wires its parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Table

from nf.common.callback_hosts import CallbackHosts
from nf.common.errors import InvalidArgument
from nf.common.function import Context, Function
from nf.common.resources import copy_of
from nf.common.server import servicer
from nf.common.v1 import mbs_distribution_pb2 as shared
from nf.common.v1.mbs_pb2 import IpAddr
from nf.mbstf.config import MbstfSection
from nf.mbstf.delivery import Delivery, Watch
from nf.mbstf.distribution import DistSessions
from nf.mbstf.fetching import Fetcher
from nf.mbstf.flute_fec import fec_of
from nf.mbstf.holdings import Holdings
from nf.mbstf.naming import Names
from nf.mbstf.object_delivery import Ingest, ObjectDelivery, Surroundings
from nf.mbstf.object_doors import object_routes
from nf.mbstf.packet_delivery import PacketDelivery
from nf.mbstf.packet_ingest import IngestAddresses
from nf.mbstf.pull_ingest import PullIngest
from nf.mbstf.push_ingest import PushIngest
from nf.mbstf.rest_dist_sessions import build_door
from nf.mbstf.sending import Senders
from nf.mbstf.service import DistSessionService, MbstfEventsService
from nf.mbstf.status_subscriptions import StatusSubscriptions
from nf.mbstf.stream_ingest import StreamIngest
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
    config = ctx.config
    timers, senders = Timers(ctx.clock), Senders()
    addresses = IngestAddresses(config.packet_ingest_address)
    surroundings = Surroundings(config, senders, timers, Holdings(config.held_max_bytes), ctx.http_url)
    fetcher = Fetcher(
        CallbackHosts(config.origin_hosts, setting="mbstf.origin_hosts"),
        ctx.clock,
        timeout_s=config.fetch_timeout_s,
        attempts=config.fetch_attempts,
        concurrent=config.concurrent_fetches,
        max_bytes=config.object_max_bytes,
    )

    def make(session: DistSession, watch: Watch) -> Delivery:
        if session.HasField("pkt_distribution_data"):
            required = config.packet_ingest_required
            return PacketDelivery(session, watch, addresses, senders, ingest_required=required)
        delivery = ObjectDelivery(session, watch, surroundings)
        delivery.ingest = ingest_of(delivery)
        return delivery

    def ingest_of(delivery: ObjectDelivery) -> Ingest:
        data = delivery.session.obj_distribution_data
        if data.obj_acquisition_method == shared.OBJ_ACQUISITION_METHOD_PUSH:
            return PushIngest(delivery, ctx.store)
        if data.obj_distribution_operating_mode == shared.OBJ_DISTRIBUTION_OPERATING_MODE_STREAMING:
            return StreamIngest(delivery, fetcher)
        return PullIngest(delivery, fetcher)

    def reserve(session: DistSession) -> DistSession:
        return addresses.reserve(_with_source(session, config))

    def shown(session: DistSession) -> DistSession:
        return _shown(session, ctx.http_url)

    sessions = DistSessions(
        ctx.store,
        ctx.clock,
        config,
        timers,
        make=make,
        check_fec=_check_fec,
        reserve=reserve,
        give_back=addresses.give_back,
        shown=shown,
    )

    subscriptions = StatusSubscriptions(ctx.store, config, tls=ctx.tls)

    async def prepare() -> None:
        timers.start()
        senders.start()

    async def start() -> None:
        await sessions.start()
        await subscriptions.start()

    async def stop() -> None:
        await subscriptions.stop()
        await sessions.stop()
        await fetcher.close()
        await timers.stop()
        senders.stop()
        addresses.close()

    return Function(
        name=ctx.name,
        servicers=(
            servicer(add_DistSessionServiceServicer_to_server, DistSessionService(sessions)),
            servicer(add_MbstfEventsServiceServicer_to_server, MbstfEventsService(ctx.store)),
        ),
        routes=(
            build_door(sessions, subscriptions),
            *object_routes(sessions, object_max_bytes=config.object_max_bytes),
        ),
        prepare=prepare,
        start=start,
        stop=stop,
    )


def _check_fec(config: shared.FecConfig) -> None:
    """Raises InvalidArgument for a scheme or an overhead that is not offered."""
    fec_of(config.fec_scheme, config.fec_over_head)
    if config.additional_params:
        names = ", ".join(each.param_name for each in config.additional_params)
        raise InvalidArgument.of("additional_params", f"expected none for {config.fec_scheme}, found {names}")


def _with_source(session: DistSession, config: MbstfSection) -> DistSession:
    """The session with who sends its packets: the MBSTF, where it does not say."""
    if session.HasField("source_ip_addr") or not session.HasField("up_traffic_flow_info"):
        return session
    chosen = copy_of(session)
    if session.up_traffic_flow_info.dest_ip_addr.ipv6_addr:
        chosen.source_ip_addr.CopyFrom(IpAddr(ipv6_addr=config.source_ipv6_address))
    else:
        chosen.source_ip_addr.CopyFrom(IpAddr(ipv4_addr=config.source_ipv4_address))
    return chosen


def _shown(session: DistSession, http_url: str) -> DistSession:
    """The session as answers show it: with the URLs that follow from where the MBSTF's doors are now."""
    if not session.HasField("obj_distribution_data"):
        return session
    shown, names = copy_of(session), Names(session, http_url)
    data = shown.obj_distribution_data
    if data.obj_acquisition_method == shared.OBJ_ACQUISITION_METHOD_PUSH:
        data.obj_ingest_base_url = names.push_base
    data.obj_distribution_base_url = names.distribution_base
    data.obj_repair_base_url = names.repair_base
    return shown
