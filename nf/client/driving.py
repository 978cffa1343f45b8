"""Devices that are driven along a track: where they are is reported step by step, as the network would see it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from nf.client.tracks import Place, Track
from nf.common.clock import Clock
from nf.common.errors import DeadlineExceeded, Unavailable
from nf.netapi.v1.access_pb2 import Device
from nf.netapi.v1.coverage_pb2 import Point
from nf.netapi.v1.location_pb2 import DevicePosition


@dataclass(frozen=True, slots=True)
class Step:
    """What has been reported: how often the track was driven before, where the devices are, how many were taken.

    ``problem`` says why the platform was not reached; the drive goes on.
    """

    round: int
    at_s: float
    place: Place
    taken: int
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Drive:
    """How a track is driven: ``rounds`` times (0: for ever), a report every ``step_s`` and one at the end.

    In real time, or ``at_once``: each report as soon as the one before is answered.
    """

    track: Track
    devices: Sequence[Device]
    step_s: float
    uncertainty_m: float
    rounds: int = 1
    at_once: bool = False

    async def run(
        self,
        report: Callable[[Sequence[DevicePosition]], Awaitable[int]],
        tell: Callable[[Step], None],
        clock: Clock,
        stop: asyncio.Event,
    ) -> int:
        """Drives until the end or ``stop``: how many reports were made.

        Raises what the platform refuses a report with; while it is away the devices drive on.
        """
        reports = done = 0
        while not stop.is_set() and (self.rounds == 0 or done < self.rounds):
            begun = clock.now()
            for at_s in self._moments():
                if not self.at_once and not await _until(begun + timedelta(seconds=at_s), clock, stop):
                    return reports
                if stop.is_set():
                    return reports
                place = self.track.place(at_s)
                tell(await self._report(report, done, at_s, place))
                reports += 1
            done += 1
        return reports

    def _moments(self) -> list[float]:
        count = int(self.track.duration_s / self.step_s)
        moments = [number * self.step_s for number in range(count + 1)]
        return moments if moments[-1] == self.track.duration_s else [*moments, self.track.duration_s]

    async def _report(
        self, report: Callable[[Sequence[DevicePosition]], Awaitable[int]], done: int, at_s: float, place: Place
    ) -> Step:
        point = Point(latitude=place.latitude, longitude=place.longitude)
        positions = [
            DevicePosition(device=device, point=point, uncertainty_m=self.uncertainty_m) for device in self.devices
        ]
        try:
            return Step(done, at_s, place, await report(positions))
        except (Unavailable, DeadlineExceeded) as error:
            return Step(done, at_s, place, 0, str(error))


async def _until(moment: datetime, clock: Clock, stop: asyncio.Event) -> bool:
    """Whether the moment has come before it was to stop."""
    waits = [asyncio.ensure_future(clock.sleep_until(moment)), asyncio.ensure_future(stop.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    return not stop.is_set()
