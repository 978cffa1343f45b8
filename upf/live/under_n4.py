"""A UPF around a bump that somebody else owns: what an SMF needs to drive it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nf.common.clock import SystemClock
from nf.common.hosting import Host
from nf.common.telemetry import Telemetry
from upf.compose import under_n4
from upf.config import UpfSection
from upf.live.n3 import N3Bump
from upf.n4.engines import RuleEngine, for_live_traffic
from upf.n4.user_plane import Gate, UserPlane


@asynccontextmanager
async def served(
    address: str,
    *,
    uplink: RuleEngine,
    downlink: RuleEngine,
    gate: Gate,
    telemetry: Telemetry,
    n3: N3Bump | None = None,
) -> AsyncIterator[str]:
    """Serves N4 at the address ("127.0.0.1:0": a free port) and gives the address with its port.

    uplink, downlink: the engines of the bump (`upf.n4.engines.engine_under_smf`). gate: the bump itself, which forwards
    nothing from here on until an SMF has established its sessions; n3: it again, where it has tunnels. Raises
    FailedPrecondition when the address cannot be taken.
    """
    config = UpfSection(grpc_address=address)
    host = Host("upf", telemetry, grace_s=config.grace_s)
    try:
        bound = host.bind(config.grpc_address)
        engines = for_live_traffic(uplink=uplink, downlink=downlink)
        user_plane = UserPlane(SystemClock(), engines, gate=gate, tunnels=n3)
        await host.start(lambda _: under_n4(config, user_plane, None, n3=n3.place if n3 is not None else None), {})
        yield bound
    finally:
        await host.stop()
