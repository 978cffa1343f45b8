"""A device goes in and out while the platform is killed: each crossing is in the event log, in its order, and once."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from netapi_places import PHONE, circle, north_of
from running_core import castcore

from nf.client.netapi import Platform
from nf.client.netapi_use import NetworkAccess
from nf.common.channels import Channels
from nf.common.errors import CastcoreError
from nf.netapi.v1.access_pb2 import Device
from nf.netapi.v1.coverage_pb2 import CAPABILITY_GEOFENCING, CapabilityProfile, GeofencingProfile, ServiceArea
from nf.netapi.v1.location_pb2 import DevicePosition, Geofence, GeofenceCrossed

POSITIONS, KILLS = 300, 2
CAR = Device(phone_number=PHONE)


class Running:
    """The platform that runs now, and what calls it."""

    def __init__(self, directory: Path) -> None:
        configuration = directory / "castcore.toml"
        # Nobody listens there: what is reported needs neither.
        configuration.write_text('[pcf]\ngrpc_address = "127.0.0.1:9"\n[smf]\ngrpc_address = "127.0.0.1:9"\n')
        self._command = ("run", "netapi", "--dir", str(directory), "--config", str(configuration))
        self.serves = asyncio.Event()
        self._process = ExitStack()
        self._clients = AsyncExitStack()

    async def start(self) -> None:
        self.process, ready = await asyncio.to_thread(self._process.enter_context, castcore(*self._command))
        channels = Channels(ready["grpc"])
        self._clients.push_async_callback(channels.close)
        self.platform, self.use = Platform(channels.get("netapi")), NetworkAccess(channels.get("netapi"))
        self.serves.set()

    async def kill(self) -> None:
        self.serves.clear()
        self.process.kill()
        await asyncio.to_thread(self._process.close)

    async def stop(self) -> None:
        await self.kill()
        await self._clients.aclose()


@pytest.mark.clause("5G-MAG live media distribution B.1 b geofencing")
async def test_each_crossing_is_told_once_though_the_platform_is_killed(tmp_path: Path) -> None:
    netapi = Running(tmp_path)
    await netapi.start()
    await netapi.platform.put_area(ServiceArea(area_id="vienna", geometry=circle()))
    rights = GeofencingProfile(notify=True)
    await netapi.platform.put_profile(
        CapabilityProfile(profile_id="fence", capability=CAPABILITY_GEOFENCING, geofencing=rights)
    )
    await netapi.use.create_geofence(Geofence(device=CAR, area=circle(), entered=True, left=True))
    begun = datetime.now(UTC) - timedelta(hours=1)
    acknowledged = 0
    progress = asyncio.Condition()

    async def drive() -> None:
        nonlocal acknowledged
        for number in range(POSITIONS):
            position = DevicePosition(device=CAR, point=north_of(0 if number % 2 else 5000), uncertainty_m=10)
            position.position_time.FromDatetime(begun + timedelta(seconds=number))
            while True:
                await netapi.serves.wait()
                try:
                    await netapi.use.report_positions([position])
                except CastcoreError:
                    # Cut off: whether it was taken is not known.
                    continue
                break
            async with progress:
                acknowledged += 1
                progress.notify_all()

    driving = asyncio.create_task(drive())
    for kill in range(1, KILLS + 1):
        async with progress:
            await progress.wait_for(lambda so_many=kill * POSITIONS // (KILLS + 1): acknowledged >= so_many)
        await netapi.kill()
        await netapi.start()
    await driving
    crossings = []
    async for event in netapi.platform.watch(follow=False):
        crossed = GeofenceCrossed()
        if event.payload.Unpack(crossed):
            moment = crossed.position.position_time.ToDatetime(UTC)
            crossings.append((event.type, round((moment - begun).total_seconds())))
    await netapi.stop()
    # Where it was seen first is no crossing.
    assert crossings == [("AREA_ENTERED" if number % 2 else "AREA_LEFT", number) for number in range(1, POSITIONS)]
