"""The composition root of the network API platform: the only place that wires its parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Table

from nf.common.function import Context, Function
from nf.common.server import servicer
from nf.netapi import capacity
from nf.netapi.attachments import Attachments
from nf.netapi.callers import Callers
from nf.netapi.config import NetapiSection
from nf.netapi.geofences import Geofences
from nf.netapi.locating import Locating
from nf.netapi.positions import Positions
from nf.netapi.service_location import GeofencesService, LocationService
from nf.netapi.v1.location_pb2_grpc import (
    add_GeofencesServiceServicer_to_server,
    add_LocationServiceServicer_to_server,
)

# Typed tables that the store has to be opened with.
TABLES: Final[Sequence[Table]] = capacity.TABLES


def build(ctx: Context[NetapiSection]) -> Function:
    """The platform on the context's store (opened with TABLES); its peers are "pcf" and "smf"."""
    config, store = ctx.config, ctx.store
    callers = Callers(store, config)
    geofences = Geofences(store, most=config.geofences_per_agreement)
    positions = Positions(store, (geofences.on_position,))
    attachments = Attachments(
        store, lambda: ctx.channels.get("smf"), (positions.on_attachment, geofences.on_attachment)
    )

    async def start() -> None:
        await attachments.start()
        await geofences.start()

    async def stop() -> None:
        await geofences.stop()
        await attachments.stop()

    return Function(
        name=ctx.name,
        servicers=(
            servicer(add_LocationServiceServicer_to_server, LocationService(callers, positions, Locating(store))),
            servicer(add_GeofencesServiceServicer_to_server, GeofencesService(callers, geofences)),
        ),
        start=start,
        stop=stop,
    )
