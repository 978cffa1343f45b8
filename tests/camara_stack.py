"""A network API platform with a PCF, an SMF and a recording UPF behind it, and providers at its CAMARA doors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from camara import Walk
from control_plane import GPSI, PATIENCE_S, SUPI, UE, ControlPlane
from control_plane import running as running_plane
from netapi_platform import OPERATOR_TOKEN, Face, Platform

from nf.common.clock import Clock, SystemClock
from nf.netapi.attachments import resolve
from nf.netapi.config import NetapiSection
from nf.netapi.v1.access_pb2 import Device
from nf.netapi.v1.agreement_pb2 import CreateAccessTokenRequest
from nf.netapi.v1.coverage_pb2 import (
    CAPABILITY_QUALITY_ON_DEMAND,
    AreaCapacity,
    CapabilityProfile,
    Circle,
    Geometry,
    Point,
    QosProfile,
    ServiceArea,
)

PHONE = "+491700000001"
OTHER_PHONE = "+491700000002"
OTHER_UE = "10.45.0.3"
MBPS = 1_000_000
EVERYWHERE = ServiceArea(area_id="everywhere", everywhere=True, capacity=AreaCapacity(downlink_bps=3 * MBPS))
VIENNA = ServiceArea(
    area_id="vienna",
    name="Vienna",
    geometry=Geometry(circle=Circle(center=Point(latitude=48.2, longitude=16.37), radius_m=20_000)),
    capacity=AreaCapacity(devices=5),
)
PROFILE = CapabilityProfile(
    profile_id="QOS_L",
    description="Uninterrupted radio",
    capability=CAPABILITY_QUALITY_ON_DEMAND,
    qos=QosProfile(five_qi=3, guaranteed_downlink_bps=MBPS, guaranteed_uplink_bps=100_000, packet_delay_budget_ms=50),
    dnn="internet",
)
SERVER = {"ipv4Address": "198.51.100.0/24"}
__all__ = ["GPSI", "SUPI", "UE", "Camara", "camara"]


@dataclass
class Camara:
    """The stack; ``radio`` and ``rival`` are two providers."""

    platform: Platform
    plane: ControlPlane
    radio: Face
    rival: Face

    @property
    def walk(self) -> Walk:
        """Asks as radio."""
        return Walk(self.platform.http, self.radio.token)

    async def token(self, *scopes: str, phone_number: str = "") -> str:
        """An access token of radio, limited to scopes, of a device's user if one is named."""
        device = Device(phone_number=phone_number) if phone_number else None
        asked = CreateAccessTokenRequest(scopes=scopes, device=device)
        return (await self.radio.tokens.CreateAccessToken(asked)).access_token

    async def known(self, phone_number: str = PHONE) -> None:
        """Returns when the platform knows of the device's attachment."""
        device = Device(phone_number=phone_number)
        async with asyncio.timeout(PATIENCE_S):
            # The SMF's event is dealt with when it comes; what is kept of it tells nobody.
            while await self.platform.store.read(lambda reader: resolve(reader, device)) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def answers(self, path: str, status: int) -> None:
        """Returns when a GET by radio is answered so."""
        async with asyncio.timeout(PATIENCE_S):
            headers = dict(self.radio.bearer)
            while (await self.platform.http.get(path, headers=headers)).status_code != status:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


@asynccontextmanager
async def camara(folder: Path, *, clock: Clock | None = None, **config: object) -> AsyncIterator[Camara]:
    """A stack with one attached UE, whose number is ``PHONE``."""
    section = NetapiSection(operator_token=OPERATOR_TOKEN, **config)  # type: ignore[arg-type]
    async with running_plane(folder) as plane:
        await plane.attach()
        targets = {name: plane.address(name) for name in ("pcf", "smf")}
        async with Platform(folder, clock=clock or SystemClock(), targets=targets, config=section) as platform:
            for area in (EVERYWHERE, VIENNA):
                await platform.area(area)
            await platform.profile(PROFILE)
            stack = Camara(platform, plane, await platform.provider("radio"), await platform.provider("rival"))
            await stack.known()
            yield stack
