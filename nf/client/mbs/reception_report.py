"""What a client received of a session, as data: its reception report (TS 26.346 §9.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class HowReceived(Enum):
    """How a file came."""

    MULTICAST = "MULTICAST"
    REPAIRED = "REPAIRED"
    # Complete, and the application could not take it.
    NOT_STORED = "NOT_STORED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class ObjectReport:
    """One file: how it came; what it missed of multicast, and what its repair took."""

    location: str
    how: HowReceived
    bytes: int
    symbols_missing: int = 0
    repair_requests: int = 0
    repair_bytes: int = 0
    failure: str = ""


@dataclass(frozen=True, slots=True)
class ReceptionReport:
    """A session: its files, and the packets that brought them."""

    started_at: datetime
    ended_at: datetime
    objects: tuple[ObjectReport, ...]
    packets: int
    # Packets, tables and contents that could not be used, by reason.
    refused: Mapping[str, int]
    symbols_received: int
    symbols_repeated: int
    # Source symbols that did not come by multicast: restored by parity, and those that parity did not suffice for.
    symbols_restored: int
    symbols_missing: int

    def count(self, how: HowReceived) -> int:
        """How many files came so."""
        return sum(each.how is how for each in self.objects)

    def as_json(self) -> dict[str, object]:
        """The report as JSON has it."""
        return {
            "startTime": self.started_at.isoformat(),
            "stopTime": self.ended_at.isoformat(),
            "objects": {how.value: self.count(how) for how in HowReceived},
            "packets": self.packets,
            "refused": dict(self.refused),
            "symbols": {
                "received": self.symbols_received,
                "repeated": self.symbols_repeated,
                "restored": self.symbols_restored,
                "missing": self.symbols_missing,
            },
            "files": [
                {
                    "location": each.location,
                    "received": each.how.value,
                    "bytes": each.bytes,
                    "symbolsMissing": each.symbols_missing,
                    "repairRequests": each.repair_requests,
                    "repairBytes": each.repair_bytes,
                    **({"failure": each.failure} if each.failure else {}),
                }
                for each in self.objects
            ],
        }
