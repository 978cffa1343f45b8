"""The composition root of the UPF: the only place that wires its parts."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from nf.common.background import Background
from nf.common.clock import Clock
from nf.common.function import Function
from nf.common.server import servicer
from upf.config import TunSection, UpfSection
from upf.live.devices import Place, TunDevice, open_tun
from upf.live.n3_place import DEFAULT_MTU, N3Place
from upf.mbs.delivery import Deliveries
from upf.mbs.ingress import Ingress
from upf.mbs.outlets import Outlets
from upf.mbs.places import parse_ingress
from upf.mbs.service import N4mbService
from upf.mbs.traffic import MbsTraffic
from upf.mbs.user_plane import MbsUserPlane
from upf.n4.engines import engine_under_smf, for_captures, for_live_traffic
from upf.n4.service import N4Service
from upf.n4.user_plane import UserPlane
from upf.n4.v1.n4_pb2 import UserPlaneIpResourceInformation
from upf.n4.v1.n4_pb2_grpc import add_N4ServiceServicer_to_server
from upf.n4.v1.n4mb_pb2 import Branch, MulticastDelivery
from upf.n4.v1.n4mb_pb2_grpc import add_N4mbServiceServicer_to_server
from upf.traffic.captures import Captures
from upf.traffic.service import TrafficService
from upf.traffic.v1.traffic_pb2_grpc import add_TrafficServiceServicer_to_server

if TYPE_CHECKING:
    from upf.live.n3 import N3Socket


def build(config: UpfSection, clock: Clock, registry: CollectorRegistry) -> Function:
    """The UPF. It stands on no store: rules are kept in memory, and the SMF gives them again after a restart."""
    if config.tun is not None:
        return _with_devices(config, config.tun, clock, registry)
    engine = engine_under_smf(config.max_flows)
    user_plane = UserPlane(clock, for_captures(engine))
    return with_mbs(under_n4(config, user_plane, Captures(user_plane, engine)), config, user_plane, registry)


def _with_devices(config: UpfSection, tun: TunSection, clock: Clock, registry: CollectorRegistry) -> Function:
    # Linux only, and of no use to a UPF that takes captures.
    from upf.live.traffic import LiveTraffic

    n3 = N3Place.parse(tun.n3) if tun.n3 is not None else None
    uplink, downlink = engine_under_smf(config.max_flows), engine_under_smf(config.max_flows)
    live = LiveTraffic(partial(open_devices, tun), uplink=uplink, downlink=downlink, registry=registry)
    engines = for_live_traffic(uplink=uplink, downlink=downlink)
    user_plane = UserPlane(clock, engines, gate=live, tunnels=live if n3 is not None else None)
    function = with_mbs(under_n4(config, user_plane, None, n3=n3), config, user_plane, registry)
    prepare_mbs = function.prepare

    async def prepare() -> None:
        await live.start()
        await prepare_mbs()

    async def stop() -> None:
        await function.stop()
        await live.stop()

    # Sessions that come have to find where their tunnels end.
    return replace(function, prepare=prepare, stop=stop, failed=live.failed)


def under_n4(
    config: UpfSection, user_plane: UserPlane, captures: Captures | None, *, n3: N3Place | None = None
) -> Function:
    """A user plane with its services, which is driven by an SMF; without ``captures`` it has live traffic.

    n3: where that comes in tunnels.
    """
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
            servicer(add_N4ServiceServicer_to_server, N4Service(user_plane, config.node_id, n3=_told(n3))),
            servicer(add_TrafficServiceServicer_to_server, TrafficService(captures)),
        ),
        start=start,
        stop=measuring.end,
    )


def with_mbs(function: Function, config: UpfSection, user_plane: UserPlane, registry: CollectorRegistry) -> Function:
    """The UPF as an MB-UPF too, driven by an MB-SMF; both lose their rules together."""
    # Compiled, and Linux only.
    from upf._mbs import Replicator

    section = config.mbs
    replicator = Replicator()
    deliveries = Deliveries(
        replicator,
        Ingress(replicator, [parse_ingress(text) for text in section.ingress]),
        Outlets(
            interface=section.multicast_interface,
            multicast=section.multicast,
            gtp_u=tuple(ip_address(text) for text in section.gtp_u),
        ),
    )
    default_branches = [Branch(branch_id=1, multicast=MulticastDelivery())]
    mbs = MbsUserPlane(
        replicator,
        deliveries,
        user_plane.recovery_time,
        default_branches=tuple(default_branches) if section.default_branches == "multicast" else (),
    )
    traffic = MbsTraffic(replicator, deliveries, registry)

    async def prepare() -> None:
        traffic.start()

    async def stop() -> None:
        await function.stop()
        await asyncio.to_thread(traffic.stop)

    n4mb = servicer(add_N4mbServiceServicer_to_server, N4mbService(mbs, config.node_id))
    return replace(function, servicers=(*function.servicers, n4mb), prepare=prepare, stop=stop)


def _told(n3: N3Place | None) -> UserPlaneIpResourceInformation | None:
    """What an SMF is told of N3."""
    if n3 is None:
        return None
    told = UserPlaneIpResourceInformation(port=n3.port)
    setattr(told, "ipv4_address" if n3.address.version == 4 else "ipv6_address", str(n3.address))
    return told


def open_devices(tun: TunSection) -> tuple[TunDevice | N3Socket, TunDevice]:
    """The access side and the device of the core side. Raises UpfError, and leaves neither behind then."""
    access: TunDevice | N3Socket
    mtu = tun.mtu
    if tun.n3 is not None:
        from upf.live.n3 import open_n3

        access, mtu = open_n3(N3Place.parse(tun.n3)), mtu or DEFAULT_MTU
    else:
        access = open_tun(
            Place.parse(tun.access or ""), addresses=tun.access_addresses, routes=tun.access_routes, mtu=mtu
        )
    try:
        return access, open_tun(Place.parse(tun.core), addresses=tun.core_addresses, routes=tun.core_routes, mtu=mtu)
    except BaseException:
        access.close()
        raise
