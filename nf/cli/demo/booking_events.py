"""The platform's events as the provider of the demo follows them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from nf.cli.figures import rate
from nf.client.netapi import Platform
from nf.common.clock import Clock
from nf.common.errors import DeadlineExceeded, Unavailable
from nf.common.v1.events_pb2 import Event
from nf.netapi.v1.access_pb2 import Device, DeviceAccess, DeviceAccessChanged
from nf.netapi.v1.booking_pb2 import Booking, BookingChanged
from nf.netapi.v1.location_pb2 import GeofenceCrossed
from nf.netapi.v1.monitoring_pb2 import Metric, ThresholdEvent, UsageRecord, UsageRecorded

_WITHIN_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Happening:
    """An event. ``state`` is that of the booking or the access that it is about, empty where it is about neither."""

    at_s: float
    sequence: int
    type: str
    subject: str
    state: str = ""
    previous_state: str = ""
    device: str = ""
    network_access_id: str = ""
    detail: str = ""


class Events:
    """Follows the events, tells them, and knows what is the latest of every booking and access."""

    def __init__(self, platform: Platform, clock: Clock, tell: Callable[[Happening], None]) -> None:
        self.happenings: list[Happening] = []
        self.bookings: dict[str, Booking] = {}
        self.accesses: dict[str, DeviceAccess] = {}
        # Of the geofences: in whose area (by network access ID) a device is.
        self.inside: dict[str, list[str]] = {}
        self.records: dict[str, list[UsageRecord]] = {}
        self._platform = platform
        self._clock = clock
        self._begun = clock.now()
        self._tell = tell
        self._come = asyncio.Condition()
        self._following: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Events:
        self._following = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    async def until(self, so: Callable[[], bool], what: str) -> None:
        """Returns when it is so by the events that have come. Raises DeadlineExceeded."""
        assert self._following is not None
        try:
            async with asyncio.timeout(_WITHIN_S), self._come:
                while not so():
                    if self._following.done():
                        raise Unavailable("the platform has stopped telling events") from self._following.exception()
                    await self._come.wait()
        except TimeoutError:
            raise DeadlineExceeded(f"{what} did not come within {_WITHIN_S:.0f} s") from None

    async def until_told(self, event_type: str, network_access_id: str, *, times: int = 1) -> None:
        """Returns when there have been so many events of this type about a network access ID."""

        def so() -> bool:
            of_type = [each for each in self.happenings if each.type == event_type]
            return sum(each.network_access_id == network_access_id for each in of_type) >= times

        await self.until(so, f"{event_type} of {network_access_id}")

    async def until_state(self, access_id: str, state: DeviceAccess.State.ValueType, max_bps: int = 0) -> None:
        """Returns when an access is in this state, with this rate enforced."""

        def so() -> bool:
            return self.is_in(access_id, state) and self.accesses[access_id].max_downlink_bps == max_bps

        await self.until(so, f"access {access_id}: {DeviceAccess.State.Name(state)} with {max_bps} bit/s")

    def is_in(self, access_id: str, state: DeviceAccess.State.ValueType) -> bool:
        """Whether an access is known to be in this state."""
        found = self.accesses.get(access_id)
        return found is not None and found.state == state

    async def _follow(self) -> None:
        try:
            async for event in self._platform.watch():
                happening = self._read(event)
                self._tell(happening)
                async with self._come:
                    self.happenings.append(happening)
                    self._come.notify_all()
        finally:
            async with self._come:
                self._come.notify_all()

    def _read(self, event: Event) -> Happening:
        at_s = (self._clock.now() - self._begun).total_seconds()
        changed, used, crossed = BookingChanged(), DeviceAccessChanged(), GeofenceCrossed()
        measured, recorded = ThresholdEvent(), UsageRecorded()
        told: dict[str, str] = {}
        if event.payload.Unpack(changed):
            told = self._booking(changed)
        elif event.payload.Unpack(used):
            told = self._access(used)
        elif event.payload.Unpack(crossed):
            told = self._crossed(crossed, entered=event.type == "AREA_ENTERED")
        elif event.payload.Unpack(measured):
            told = _threshold(measured)
        elif event.payload.Unpack(recorded):
            self.records[recorded.booking_id] = list(recorded.usage_records)
        return Happening(round(at_s, 3), event.sequence, event.type, event.subject, **told)

    def _booking(self, changed: BookingChanged) -> dict[str, str]:
        booking = changed.booking
        self.bookings[booking.booking_id] = booking
        return {
            "state": Booking.State.Name(booking.state).removeprefix("STATE_"),
            "previous_state": _named(Booking.State.Name(changed.previous_state)),
        }

    def _access(self, changed: DeviceAccessChanged) -> dict[str, str]:
        access = changed.device_access
        self.accesses[access.access_id] = access
        detail = DeviceAccess.Reason.Name(access.reason).removeprefix("REASON_") if access.reason else ""
        if access.max_downlink_bps:
            detail = f"at most {rate(access.max_downlink_bps)}"
        return {
            "state": DeviceAccess.State.Name(access.state).removeprefix("STATE_"),
            "previous_state": _named(DeviceAccess.State.Name(changed.previous_state)),
            "device": name_of(access.device),
            "network_access_id": access.network_access_id,
            "detail": detail,
        }

    def _crossed(self, crossed: GeofenceCrossed, *, entered: bool) -> dict[str, str]:
        device, network_access_id = name_of(crossed.device), crossed.geofence.network_access_id
        areas = self.inside.setdefault(device, [])
        if entered and network_access_id not in areas:
            areas.append(network_access_id)
        elif not entered and network_access_id in areas:
            areas.remove(network_access_id)
        return {"device": device, "network_access_id": network_access_id}


def name_of(device: Device) -> str:
    """What the demo calls a device by."""
    return device.phone_number or device.ipv4_address


def _threshold(event: ThresholdEvent) -> dict[str, str]:
    threshold, usage = event.threshold, event.usage
    metric = Metric.Name(threshold.metric).removeprefix("METRIC_")
    beyond = f"above {threshold.above}" if threshold.HasField("above") else f"below {threshold.below}"
    measured = {"LOSS": usage.loss_ppm, "DEVICES": usage.devices_in_use, "DOWNLINK_THROUGHPUT": usage.downlink_bps}
    found = f", measured {measured[metric]}" if metric in measured else ""
    return {"network_access_id": threshold.network_access_id, "detail": f"{metric} {beyond}{found}"}


def _named(state: str) -> str:
    name = state.removeprefix("STATE_")
    return "" if name == "UNSPECIFIED" else name
