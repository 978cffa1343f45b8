"""The composition root of the UPF: the only place that wires its parts."""

from __future__ import annotations

import asyncio

from nf.common.background import Background
from nf.common.clock import Clock
from nf.common.function import Function
from nf.common.server import servicer
from upf.config import UpfSection
from upf.n4.engines import for_captures
from upf.n4.service import N4Service
from upf.n4.user_plane import UserPlane
from upf.n4.v1.n4_pb2_grpc import add_N4ServiceServicer_to_server
from upf.traffic.captures import Captures
from upf.traffic.service import TrafficService
from upf.traffic.v1.traffic_pb2_grpc import add_TrafficServiceServicer_to_server


def build(config: UpfSection, clock: Clock) -> Function:
    """The UPF. It stands on no store: rules are kept in memory, and the SMF gives them again after a restart."""
    engines, engine = for_captures(config.max_flows)
    user_plane = UserPlane(clock, engines)
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
            servicer(add_TrafficServiceServicer_to_server, TrafficService(Captures(user_plane, engine))),
        ),
        start=start,
        stop=measuring.end,
    )
