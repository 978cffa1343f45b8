"""What happened in the booking demo, and what of it is not as it should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from nf.cli.demo.booking_events import Happening
from nf.cli.demo.booking_media import Programme
from nf.cli.demo.booking_network import NOTHING, Installed, Ue
from nf.common.errors import ResourceExhausted
from nf.netapi.v1.booking_pb2 import NetworkAccessId
from nf.netapi.v1.monitoring_pb2 import NetworkAccessUsage, UsageRecord

CAR: Final = Ue("car", "+436640000001", "imsi-001010000000001", "10.45.0.2")
KITCHEN: Final = Ue("kitchen", "+436640000002", "imsi-001010000000002", "10.45.0.3")
WORKSHOP: Final = Ue("workshop", "+436640000003", "imsi-001010000000003", "10.45.0.4")
UES: Final = (CAR, KITCHEN, WORKSHOP)


@dataclass(frozen=True, slots=True)
class Measurement:
    """A bit rate of IP packets that came through to a UE, over some seconds of packet time."""

    device: str
    stretch: str
    # Whether what is booked is in force for the device.
    inside: bool
    what: str
    offered_bps: int
    expected_bps: int
    passed_bps: int
    # How far a token bucket of whole packets may be off over this time.
    tolerance_bps: int

    @property
    def as_expected(self) -> bool:
        """Whether it is within the exact bound."""
        return abs(self.passed_bps - self.expected_bps) <= self.tolerance_bps


@dataclass(frozen=True, slots=True)
class Listening:
    """What a listener has heard on a stretch."""

    device: str
    stretch: str
    inside: bool
    programme: Programme


@dataclass(frozen=True, slots=True)
class Verified:
    """What the location function has told of a device under a geofencing ID."""

    device: str
    area_id: str
    result: str
    latitude: float
    longitude: float


@dataclass(slots=True)
class Story:
    """All that happened."""

    booking_id: str = ""
    network_access_ids: list[NetworkAccessId] = field(default_factory=list)
    network_access_ids_after: list[NetworkAccessId] = field(default_factory=list)
    happenings: list[Happening] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    listening: list[Listening] = field(default_factory=list)
    verified: list[Verified] = field(default_factory=list)
    refusal: ResourceExhausted | None = None
    segments_while_reconfigured: int = 0
    usages: Sequence[NetworkAccessUsage] = ()
    records: Sequence[UsageRecord] = ()
    # Bytes of the programme that came through while what was booked was in force, by network access ID.
    passed_bytes: dict[str, int] = field(default_factory=dict)
    before: Installed = NOTHING
    during: Installed = NOTHING
    after: Installed = NOTHING
    elapsed_s: float = 0.0

    @property
    def problems(self) -> list[str]:
        """What is not as it should be."""
        found = [
            f"{each.device}, {each.stretch}: {each.what}: {each.passed_bps:,} bit/s, expected {each.expected_bps:,}"
            for each in self.measurements
            if not each.as_expected
        ]
        found += [
            f"{each.device}, {each.stretch}: {each.programme.silent_segments} silent segments"
            for each in self.listening
            if each.inside == bool(each.programme.silent_segments)
        ]
        issued, after = (
            {each.network_access_id for each in ids} for ids in (self.network_access_ids, self.network_access_ids_after)
        )
        if not issued or issued != after:
            found.append(f"network access IDs: {sorted(issued)}, after the reconfiguration {sorted(after)}")
        if self.refusal is None:
            found.append("one device too many was not refused")
        if self.during.guaranteed_qers == self.before.guaranteed_qers:
            found.append(f"nothing was installed in the network: {self.during}")
        if self.after != self.before:
            found.append(f"something is left in the network: {self.after}")
        if {each.network_access_id for each in self.records if each.final} != issued:
            found.append("not every network access ID has a final usage record")
        for each in self.records:
            counted = each.usage.downlink.conforming.bytes + each.usage.downlink.exceeding.bytes
            if counted != self.passed_bytes.get(each.network_access_id, 0):
                found.append(f"usage record of {each.area_id} {each.profile_id}: {counted:,} bytes")
        return found
