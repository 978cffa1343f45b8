"""The composition root of the UPF: the only place that wires its parts."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

from prometheus_client import CollectorRegistry

from nf.common.background import Background
from nf.common.clock import Clock
from nf.common.function import Function
from nf.common.server import servicer
from upf.config import TunSection, UpfSection
from upf.live.devices import Place, TunDevice, open_tun
from upf.n4.engines import engine_under_smf, for_captures, for_live_traffic
from upf.n4.service import N4Service
from upf.n4.user_plane import UserPlane
from upf.n4.v1.n4_pb2_grpc import add_N4ServiceServicer_to_server
from upf.traffic.captures import Captures
from upf.traffic.service import TrafficService
from upf.traffic.v1.traffic_pb2_grpc import add_TrafficServiceServicer_to_server


def build(config: UpfSection, clock: Clock, registry: CollectorRegistry) -> Function:
    """The UPF. It stands on no store: rules are kept in memory, and the SMF gives them again after a restart."""
    if config.tun is not None:
        return _with_devices(config, config.tun, clock, registry)
    engine = engine_under_smf(config.max_flows)
    user_plane = UserPlane(clock, for_captures(engine))
    return under_n4(config, user_plane, Captures(user_plane, engine))


def _with_devices(config: UpfSection, tun: TunSection, clock: Clock, registry: CollectorRegistry) -> Function:
    # Linux only, and of no use to a UPF that takes captures.
    from upf.live.traffic import LiveTraffic

    uplink, downlink = engine_under_smf(config.max_flows), engine_under_smf(config.max_flows)
    live = LiveTraffic(partial(open_devices, tun), uplink=uplink, downlink=downlink, registry=registry)
    function = under_n4(config, UserPlane(clock, for_live_traffic(uplink=uplink, downlink=downlink), gate=live), None)

    async def start() -> None:
        await live.start()
        await function.start()

    async def stop() -> None:
        await function.stop()
        await live.stop()

    return replace(function, start=start, stop=stop, failed=live.failed)


def under_n4(config: UpfSection, user_plane: UserPlane, captures: Captures | None) -> Function:
    """A user plane with its services, which is driven by an SMF; without ``captures`` it has live traffic."""
    measuring = Background("upf measuring")

    async def measure() -> None:
        while True:
            await asyncio.sleep(config.measurement_interval_ms / 1000)
            await user_plane.measure()

    async def start() -> None:
        measuring.begin(measure)

    return Function(
        name="upf",
        servicers=(
            servicer(add_N4ServiceServicer_to_server, N4Service(user_plane, config.node_id)),
            servicer(add_TrafficServiceServicer_to_server, TrafficService(captures)),
        ),
        start=start,
        stop=measuring.end,
    )


def open_devices(tun: TunSection) -> tuple[TunDevice, TunDevice]:
    """The device of the access side and that of the core side. Raises UpfError, and leaves neither behind then."""
    access = open_tun(Place.parse(tun.access), addresses=tun.access_addresses, routes=tun.access_routes, mtu=tun.mtu)
    try:
        return access, open_tun(
            Place.parse(tun.core), addresses=tun.core_addresses, routes=tun.core_routes, mtu=tun.mtu
        )
    except BaseException:
        access.close()
        raise
