"""Measurement: the engine's counters by rule → usage by URR, compliance by QER and direction (TS 29.244 §5.2.2).

The engine counts by PDR. What a PDR has counted since the last harvest is added to the URR that it named in that time,
so nothing is lost or counted twice when PDRs come, change and go. Pure: counters in, reports out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from nf.common.v1.types_pb2 import PolicedVolume, Usage
from upf.counters import AVERAGING_WINDOW_NS, RuleCounters
from upf.n4.rules import ACCESS, CORE, Detection
from upf.n4.v1.n4_pb2 import ComplianceReport, Session, SourceInterface, UsageReport

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
    reports: int = 0
    reported_at_ns: int = 0


@dataclass(slots=True)
class _Bucket:
    window_ns: int = AVERAGING_WINDOW_NS
    last_ns: int = 0
    last_excess_ns: int = 0
    excess_since_ns: int = 0
    compliant: bool = True


class Meter:
    """The counters of all sessions. A harvest or a report costs as much as has counted something since the last one."""

    def __init__(self) -> None:
        self._seen: dict[str, RuleCounters] = {}
        self._urrs: dict[UrrKey, _Urr] = {}
        self._buckets: dict[BucketKey, _Bucket] = {}
        # Other than at once.
        self._periods_ms: dict[UrrKey, int] = {}
        # URRs that have counted something since their last report, QERs since their compliance was last looked at.
        self._moved: set[UrrKey] = set()
        self._observed: set[BucketKey] = set()

    def harvest(self, counters: Mapping[str, RuleCounters], detect: Callable[[str], Detection | None]) -> None:
        """Adds what rules have counted since the last harvest. Called before any change of the rules.

        ``counters``: of the rules that have counted something. ``detect`` says what a rule stands for.
        """
        for name, now in counters.items():
            before = self._seen.get(name, _NOTHING)
            detection = detect(name)
            if detection is None or now.packets == before.packets:
                continue
            self._seen[name] = now
            if detection.urr_id:
                key = (detection.cp_seid, detection.urr_id)
                _add(self._urr(key), now, before, detection.source_interface)
                self._moved.add(key)
            if detection.qer_id:
                self._observe(detection, now)

    def forget_rules(self, names: Iterable[str]) -> None:
        """The rules have been removed: should their names return, they count from 0."""
        for name in names:
            self._seen.pop(name, None)

    def change(self, before: Session, after: Session) -> None:
        """A session's URRs and QERs are those of ``after`` now: what is no more among them is forgotten."""
        cp_seid = before.cp_seid or after.cp_seid
        urr_ids, qer_ids = {urr.urr_id for urr in after.urrs}, {qer.qer_id for qer in after.qers}
        for urr_id in {urr.urr_id for urr in before.urrs} - urr_ids:
            key = (cp_seid, urr_id)
            self._urrs.pop(key, None)
            self._periods_ms.pop(key, None)
            self._moved.discard(key)
        for qer_id in {qer.qer_id for qer in before.qers} - qer_ids:
            for interface in (ACCESS, CORE):
                self._buckets.pop((cp_seid, qer_id, interface), None)
                self._observed.discard((cp_seid, qer_id, interface))
        for urr in after.urrs:
            self._periods_ms.pop((cp_seid, urr.urr_id), None)
            if urr.measurement_period_ms:
                self._periods_ms[cp_seid, urr.urr_id] = urr.measurement_period_ms

    def report(self, key: UrrKey, now_ns: int) -> UsageReport:
        """A report of the URR as of the last harvest; cumulative. ``now_ns`` starts its measurement period anew."""
        urr = self._urr(key)
        urr.reports += 1
        urr.reported_at_ns = now_ns
        self._moved.discard(key)
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
            for key in sorted(self._moved)
            if before_time or now_ns - self._urr(key).reported_at_ns >= self._periods_ms.get(key, 0) * 1_000_000
        ]

    def changes_of_compliance(self) -> list[tuple[int, ComplianceReport]]:
        """(CP-SEID, report) of every QER and direction that left its bit rate, or has kept to it again for a window."""
        changes = []
        for key in sorted(self._observed):
            cp_seid, qer_id, interface = key
            bucket = self._buckets[key]
            compliant = not bucket.last_excess_ns or bucket.last_ns - bucket.last_excess_ns >= bucket.window_ns
            if compliant == bucket.compliant:
                continue
            bucket.compliant = compliant
            since_ns = bucket.last_excess_ns if compliant else bucket.excess_since_ns
            report = ComplianceReport(qer_id=qer_id, compliant=compliant, since_ns=since_ns, source_interface=interface)
            changes.append((cp_seid, report))
        self._observed.clear()
        return changes

    def _urr(self, key: UrrKey) -> _Urr:
        return self._urrs.setdefault(key, _Urr())

    def _observe(self, detection: Detection, now: RuleCounters) -> None:
        key = (detection.cp_seid, detection.qer_id, detection.source_interface)
        bucket = self._buckets.setdefault(key, _Bucket())
        self._observed.add(key)
        bucket.window_ns = detection.averaging_window_ns
        bucket.last_ns = max(bucket.last_ns, now.last_ns)
        if now.last_excess_ns > bucket.last_excess_ns:
            # Rules that share the bucket exceed it together: the earliest since it was last kept to is when it began.
            if now.excess_since_ns - bucket.last_excess_ns >= bucket.window_ns:
                bucket.excess_since_ns = now.excess_since_ns
            elif now.last_excess_ns - bucket.last_excess_ns >= bucket.window_ns:
                # The engine parts excesses by the default window alone: within it, to a harvest's time.
                bucket.excess_since_ns = now.last_excess_ns
            elif now.excess_since_ns < bucket.excess_since_ns:
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
