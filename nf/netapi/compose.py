"""The composition root of the network API platform: the only place that wires its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

from sqlalchemy import Table

from nf.common.due import DueDriver
from nf.common.function import Context, Function
from nf.common.server import servicer
from nf.netapi import (
    capacity,
    dedicated_network_views,
    geofencing_subscriptions,
    insights,
    network_access_views,
    network_accesses,
    qod_views,
    rest_dedicated_network,
    rest_dedicated_network_accesses,
    rest_geofencing,
    rest_insights,
    rest_location,
    rest_qos_profiles,
    rest_quality_on_demand,
    rest_token,
)
from nf.netapi.accesses import Accesses
from nf.netapi.attachments import Attachments
from nf.netapi.bookings import Bookings
from nf.netapi.callers import Callers
from nf.netapi.cloud_events import CloudEventOf
from nf.netapi.config import NetapiSection
from nf.netapi.dedicated_networks import DedicatedNetworks
from nf.netapi.geofences import Geofences
from nf.netapi.geofencing_subscriptions import GeofencingSubscriptions
from nf.netapi.life_cycle import LifeCycle
from nf.netapi.locating import Locating
from nf.netapi.monitoring import Monitoring
from nf.netapi.network_accesses import NetworkAccesses
from nf.netapi.pcf_events import subscriber
from nf.netapi.peers import Pcf
from nf.netapi.positions import Positions
from nf.netapi.qod_sessions import QodSessions
from nf.netapi.qod_transitions import QodTransitions
from nf.netapi.service_accesses import DeviceAccessesService
from nf.netapi.service_agreements import AgreementsService, TokensService
from nf.netapi.service_bookings import BookingsService
from nf.netapi.service_coverage import CoverageService
from nf.netapi.service_location import GeofencesService, LocationService
from nf.netapi.service_monitoring import EventSinksService, MonitoringService
from nf.netapi.sinks import Sinks
from nf.netapi.tokens import Tokens
from nf.netapi.transitions import Transitions
from nf.netapi.v1.access_pb2_grpc import add_DeviceAccessesServiceServicer_to_server
from nf.netapi.v1.agreement_pb2 import AccessToken
from nf.netapi.v1.agreement_pb2_grpc import (
    add_AgreementsServiceServicer_to_server,
    add_TokensServiceServicer_to_server,
)
from nf.netapi.v1.booking_pb2_grpc import add_BookingsServiceServicer_to_server
from nf.netapi.v1.coverage_pb2_grpc import add_CoverageServiceServicer_to_server
from nf.netapi.v1.location_pb2_grpc import (
    add_GeofencesServiceServicer_to_server,
    add_LocationServiceServicer_to_server,
)
from nf.netapi.v1.monitoring_pb2_grpc import (
    add_EventSinksServiceServicer_to_server,
    add_MonitoringServiceServicer_to_server,
)

# Typed tables that the store has to be opened with.
TABLES: Final[Sequence[Table]] = capacity.TABLES

# What each door makes of the platform's events for the sinks of its subscriptions.
_CLOUD_EVENTS: Final[Mapping[str, CloudEventOf]] = {
    geofencing_subscriptions.DOOR: geofencing_subscriptions.cloud_event,
    insights.DOOR: insights.cloud_event,
    qod_views.DOOR: qod_views.cloud_event,
    dedicated_network_views.DOOR: dedicated_network_views.cloud_event,
    network_access_views.DOOR: network_access_views.cloud_event,
}


def build(ctx: Context[NetapiSection]) -> Function:
    """The platform on the context's store (opened with TABLES); its peers are "pcf" and "smf"."""
    config, store = ctx.config, ctx.store
    callers, tokens = Callers(store, config), Tokens(store, config)
    expired_tokens = DueDriver(store, AccessToken, tokens.remove)
    geofences = Geofences(store, most=config.geofences_per_agreement)
    monitoring = Monitoring(store, config)
    sink_followers = (geofencing_subscriptions.end_with_sink(geofences), insights.on_sink_end)
    sinks = Sinks(store, config, doors=_CLOUD_EVENTS, followers=sink_followers, tls=ctx.tls)
    qod_transitions = QodTransitions(sinks)
    accesses = Accesses(
        store,
        Pcf(lambda: ctx.channels.get("pcf")),
        config,
        followers=(
            monitoring.on_access,
            geofences.on_access,
            qod_transitions.on_access,
            network_accesses.on_access,
        ),
        usage_followers=(monitoring.on_usage,),
    )
    pcf_events = subscriber(store, lambda: ctx.channels.get("pcf"), accesses.installing)
    positions = Positions(store, (geofences.on_position, accesses.on_position))
    attachments = Attachments(
        store,
        lambda: ctx.channels.get("smf"),
        (positions.on_attachment, geofences.on_attachment, accesses.on_attachment),
    )
    network_quality = insights.Insights(store, sinks, config)
    monitoring.followers.append(network_quality.on_measure)

    least_radius_m = config.least_area_radius_m
    subscriptions = GeofencingSubscriptions(store, geofences, sinks, least_radius_m=least_radius_m)
    locating = Locating(store)

    # Told of every transition of a booking, in its transaction.
    transitions = Transitions(
        (qod_transitions.on_booking, accesses.on_booking, geofences.on_booking, monitoring.on_booking)
    )
    bookings = Bookings(store, transitions, timedelta(seconds=config.offer_validity_s))
    life_cycle = LifeCycle(store, transitions)
    sessions = QodSessions(store, qod_transitions, bookings, accesses, sinks, config)
    device_lists = NetworkAccesses(store, accesses, sinks)
    networks = DedicatedNetworks(store, bookings, device_lists, sinks, config)

    # In the order in which they begin; they end in the other.
    background = (
        attachments,
        accesses,
        pcf_events,
        geofences,
        monitoring,
        network_quality,
        sinks,
        life_cycle,
        sessions,
        expired_tokens,
    )

    async def start() -> None:
        for each in background:
            await each.start()

    async def stop() -> None:
        for each in reversed(background):
            await each.stop()

    return Function(
        name=ctx.name,
        servicers=(
            servicer(add_BookingsServiceServicer_to_server, BookingsService(store, bookings, callers)),
            servicer(
                add_AgreementsServiceServicer_to_server,
                AgreementsService(
                    store,
                    callers,
                    (geofences.on_agreement_end, networks.on_agreement_end, sinks.on_agreement_end),
                ),
            ),
            servicer(add_TokensServiceServicer_to_server, TokensService(tokens, callers)),
            servicer(
                add_CoverageServiceServicer_to_server,
                CoverageService(store, callers, followers=(accesses.on_area, geofences.on_area)),
            ),
            servicer(add_DeviceAccessesServiceServicer_to_server, DeviceAccessesService(store, accesses, callers)),
            servicer(add_LocationServiceServicer_to_server, LocationService(callers, positions, locating)),
            servicer(add_GeofencesServiceServicer_to_server, GeofencesService(callers, geofences)),
            servicer(add_MonitoringServiceServicer_to_server, MonitoringService(store, callers, monitoring)),
            servicer(add_EventSinksServiceServicer_to_server, EventSinksService(store, callers, sinks)),
        ),
        routes=(
            rest_token.build_door(tokens, callers),
            rest_quality_on_demand.build_door(callers, sessions),
            rest_qos_profiles.build_door(callers, store, config),
            rest_geofencing.build_door(callers, subscriptions),
            rest_insights.build_door(callers, network_quality),
            rest_location.build_verification_door(callers, locating, least_radius_m=least_radius_m),
            rest_location.build_retrieval_door(callers, locating),
            rest_dedicated_network.build_networks_door(callers, networks),
            rest_dedicated_network.build_profiles_door(callers, store, config),
            rest_dedicated_network.build_areas_door(callers, store, config),
            rest_dedicated_network_accesses.build_door(callers, device_lists),
        ),
        start=start,
        stop=stop,
    )
