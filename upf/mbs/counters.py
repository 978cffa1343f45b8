"""What the packet path of an MB-UPF counts. Bytes are IP total lengths of the packets in the tunnels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BranchCounters:
    """One branch: the copies that the kernel has taken, and how many could not be sent, by reason."""

    sent_packets: int
    sent_bytes: int
    errors: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class MbsCounters:
    """One session. received = dropped + forwarded + not_forwarded; each forwarded packet leaves by every branch.

    first_ns, last_ns: when its first and its latest packet came, UTC; 0: none yet.
    """

    received_packets: int
    received_bytes: int
    dropped_packets: int
    dropped_bytes: int
    forwarded_packets: int
    forwarded_bytes: int
    not_forwarded_packets: int
    not_forwarded_bytes: int
    time_steps_back: int
    first_ns: int
    last_ns: int
    branches: tuple[BranchCounters, ...]


@dataclass(frozen=True, slots=True)
class IngressCounters:
    """What came and was no session's: of unknown source or group, while nothing was forwarded, or no whole packet."""

    unmatched_packets: int
    unmatched_bytes: int
    held_off_packets: int
    held_off_bytes: int
    malformed: Mapping[str, int]
