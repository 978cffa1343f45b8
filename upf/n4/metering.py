"""Measurement: the engine's counters by rule → usage by URR, compliance by QER and direction (TS 29.244 §5.2.2).

The engine counts by PDR. What a PDR has counted since the last harvest is added to the URR that it named in that time,
so nothing is lost or counted twice when PDRs come, change and go. Pure: counters in, reports out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from nf.common.v1.types_pb2 import PolicedVolume, Usage
from upf.counters import AVERAGING_WINDOW_NS, RuleCounters
from upf.n4.rules import CORE, Detection
from upf.n4.v1.n4_pb2 import ComplianceReport, SourceInterface, UsageReport

UrrKey = tuple[int, int]
"""(CP-SEID, URR ID)."""
BucketKey = tuple[int, int, SourceInterface.ValueType]
"""(CP-SEID, QER ID, source interface)."""

_NOTHING: Final = RuleCounters()


@dataclass(slots=True)
class _Urr:
    usage: Usage = field(default_factory=Usage)
    first_ns: int = 0
    last_ns: int = 0
    period_ms: int = 0
    reports: int = 0
    reported_packets: int = 0
    reported_at_ns: int = 0

    @property
    def packets(self) -> int:
        return self.usage.downlink.offered.packets + self.usage.uplink.offered.packets


@dataclass(slots=True)
class _Bucket:
    last_ns: int = 0
    last_excess_ns: int = 0
    excess_since_ns: int = 0
    compliant: bool = True


class Meter:
    """The counters of all sessions."""

    def __init__(self) -> None:
        self._seen: dict[str, RuleCounters] = {}
        self._urrs: dict[UrrKey, _Urr] = {}
        self._buckets: dict[BucketKey, _Bucket] = {}

    def harvest(self, counters: Mapping[str, RuleCounters], detections: Mapping[str, Detection]) -> None:
        """Adds what the rules have counted since the last harvest. Called before any change of the rules."""
        for name, detection in detections.items():
            now, before = counters.get(name, _NOTHING), self._seen.get(name, _NOTHING)
            if now.packets == before.packets:
                continue
            self._seen[name] = now
            if detection.urr_id:
                _add(self._urr((detection.cp_seid, detection.urr_id)), now, before, detection.source_interface)
            if detection.qer_id:
                self._observe((detection.cp_seid, detection.qer_id, detection.source_interface), now)

    def forget_rules(self, names: Iterable[str]) -> None:
        """The rules have been removed: should their names return, they count from 0."""
        for name in names:
            self._seen.pop(name, None)

    def keep(self, urrs: Mapping[UrrKey, int], qers: Collection[tuple[int, int]]) -> None:
        """Forgets the URRs and QERs that are not among these. ``urrs`` gives measurement periods in ms."""
        self._urrs = {key: urr for key, urr in self._urrs.items() if key in urrs}
        for key, period_ms in urrs.items():
            self._urr(key).period_ms = period_ms
        self._buckets = {key: bucket for key, bucket in self._buckets.items() if key[:2] in qers}

    def report(self, key: UrrKey, now_ns: int) -> UsageReport:
        """A report of the URR as of the last harvest; cumulative. ``now_ns`` starts its measurement period anew."""
        urr = self._urr(key)
        urr.reports += 1
        urr.reported_packets = urr.packets
        urr.reported_at_ns = now_ns
        return UsageReport(
            urr_id=key[1],
            ur_seqn=urr.reports,
            time_of_first_packet_ns=urr.first_ns,
            time_of_last_packet_ns=urr.last_ns,
            usage=urr.usage,
        )

    def moved(self, now_ns: int, *, before_time: bool = False) -> list[UrrKey]:
        """The URRs that have counted something since their last report, once their measurement period is over.

        ``before_time``: or even before it is.
        """
        return [
            key
            for key, urr in self._urrs.items()
            if urr.packets != urr.reported_packets
            and (before_time or now_ns - urr.reported_at_ns >= urr.period_ms * 1_000_000)
        ]

    def changes_of_compliance(self) -> list[tuple[int, ComplianceReport]]:
        """(CP-SEID, report) of every QER and direction that left its bit rate, or has kept to it again for a window."""
        changes = []
        for (cp_seid, qer_id, interface), bucket in self._buckets.items():
            compliant = not bucket.last_excess_ns or bucket.last_ns - bucket.last_excess_ns >= AVERAGING_WINDOW_NS
            if compliant == bucket.compliant:
                continue
            bucket.compliant = compliant
            since_ns = bucket.last_excess_ns if compliant else bucket.excess_since_ns
            report = ComplianceReport(qer_id=qer_id, compliant=compliant, since_ns=since_ns, source_interface=interface)
            changes.append((cp_seid, report))
        return changes

    def _urr(self, key: UrrKey) -> _Urr:
        return self._urrs.setdefault(key, _Urr())

    def _observe(self, key: BucketKey, now: RuleCounters) -> None:
        bucket = self._buckets.setdefault(key, _Bucket())
        bucket.last_ns = max(bucket.last_ns, now.last_ns)
        if now.last_excess_ns > bucket.last_excess_ns:
            # Rules that share the bucket exceed it together: the earliest since it was last kept to is when it began.
            anew = now.excess_since_ns - bucket.last_excess_ns >= AVERAGING_WINDOW_NS
            if anew or now.excess_since_ns < bucket.excess_since_ns:
                bucket.excess_since_ns = now.excess_since_ns
            bucket.last_excess_ns = now.last_excess_ns


def _add(urr: _Urr, now: RuleCounters, before: RuleCounters, interface: SourceInterface.ValueType) -> None:
    volume = urr.usage.downlink if interface == CORE else urr.usage.uplink
    add_counters(volume, now)
    _subtract_counters(volume, before)
    urr.first_ns = min(urr.first_ns, now.first_ns) if urr.first_ns else now.first_ns
    urr.last_ns = max(urr.last_ns, now.last_ns)


def add_counters(volume: PolicedVolume, counters: RuleCounters) -> None:
    """Adds what a rule has counted."""
    _change(volume, counters, 1)


def _subtract_counters(volume: PolicedVolume, counters: RuleCounters) -> None:
    _change(volume, counters, -1)


def _change(volume: PolicedVolume, counters: RuleCounters, sign: int) -> None:
    for part, packets, volume_bytes in (
        (volume.offered, counters.packets, counters.bytes),
        # Yellow is above the guaranteed rate but within the maximum one: it conforms.
        (
            volume.conforming,
            counters.conforming_packets + counters.yellow_packets,
            counters.conforming_bytes + counters.yellow_bytes,
        ),
        (volume.exceeding, counters.exceeding_packets, counters.exceeding_bytes),
        (volume.dropped, counters.dropped_packets, counters.dropped_bytes),
    ):
        part.packets += sign * packets
        part.bytes += sign * volume_bytes
