"""What both directions of a live wire have counted at a moment, and the rates between two moments."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

from nf.cli.figures import flow_to_json, rule_to_json

if TYPE_CHECKING:
    from upf.active_flow import ActiveFlow
    from upf.counters import RuleCounters, Totals, WireCounters

# Flows that are looked at, and those of them that are told.
WATCHED_FLOWS: Final = 64
TOLD_FLOWS: Final = 10
# Rules that a line for scripts tells of; an SMF may have a hundred thousand.
TOLD_RULES: Final = 1_000


Messages = Mapping[str, Mapping[str, int]]
"""Messages by way and type."""


class CountingEngine(Protocol):
    """What is asked of the engine of a direction."""

    def totals(self) -> Totals:
        """Everything that came in."""

    def rule_counters(self) -> Mapping[str, RuleCounters]:
        """By the rules' names, in the order in which they are tried."""

    def top_flows(self, n: int, since_ns: int) -> Sequence[ActiveFlow]:
        """Those with most bytes among the flows seen since then."""


class CountingWires(Protocol):
    """What is asked of the wires, of both directions at once."""

    def counters(self) -> Mapping[str, WireCounters]:
        """By direction."""


@dataclass(frozen=True, slots=True)
class DirectionSample:
    """What one direction has counted since the start; of flows those with most bytes that were seen of late."""

    wire: WireCounters
    totals: Totals
    rules: Mapping[str, RuleCounters]
    flows: Sequence[ActiveFlow]


@dataclass(frozen=True, slots=True)
class Sample:
    """Both directions at one moment: ``time_ns`` in packet time, ``elapsed_ns`` since the start.

    ``messages``: those of GTP-U on N3, received and sent, by type; None where nothing comes that way.
    """

    time_ns: int
    elapsed_ns: int
    directions: Mapping[str, DirectionSample]
    messages: Messages | None = None


@dataclass(frozen=True, slots=True)
class Rates:
    """Mean bit rates between two samples; None where they are not known."""

    offered_bps: float | None
    passed_bps: float | None


@dataclass(frozen=True, slots=True)
class RuleSample:
    """One rule in one direction."""

    direction: str
    name: str
    counters: RuleCounters
    rates: Rates


@dataclass(frozen=True, slots=True)
class FlowSample:
    """One flow in one direction."""

    direction: str
    flow: ActiveFlow
    rates: Rates


class Sampler:
    """Takes samples of wires and engines that are at work; may be called in any thread, one call at a time.

    idle_rules: whether rules are told that have detected nothing yet; an SMF has many, some for its own use alone.
    messages: counts those of GTP-U on N3.
    """

    def __init__(
        self,
        wires: CountingWires,
        engines: Mapping[str, CountingEngine],
        *,
        idle_rules: bool = True,
        messages: Callable[[], Messages] | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._wires = wires
        self._engines = engines
        self._idle_rules = idle_rules
        self._messages = messages
        self._clock_ns = clock_ns
        self._started_ns = clock_ns()
        # As packet time does: steps of the clock on the wall are not followed.
        self._offset_ns = utc_ns() - self._started_ns

    def take(self, *, since: Sample | None = None) -> Sample:
        """A sample; its flows are those seen since another one, or since the start."""
        now_ns = self._clock_ns()
        wires = self._wires.counters()
        since_ns = 0 if since is None else since.time_ns
        return Sample(
            time_ns=now_ns + self._offset_ns,
            elapsed_ns=now_ns - self._started_ns,
            directions={
                direction: DirectionSample(
                    wires[direction],
                    engine.totals(),
                    {
                        name: counters
                        for name, counters in engine.rule_counters().items()
                        if self._idle_rules or counters.packets
                    },
                    engine.top_flows(WATCHED_FLOWS, since_ns),
                )
                for direction, engine in self._engines.items()
            },
            messages=None if self._messages is None else self._messages(),
        )


def direction_rates(now: Sample, before: Sample | None, direction: str) -> Rates:
    """Of everything that has gone that way, malformed packets included."""
    wire = now.directions[direction].wire
    was = before.directions[direction].wire if before is not None else None
    return Rates(
        _rate(wire.bytes, was.bytes if was is not None else 0, _span_ns(now, before)),
        _rate(wire.passed_bytes, was.passed_bytes if was is not None else 0, _span_ns(now, before)),
    )


def rule_samples(now: Sample, before: Sample | None) -> Iterator[RuleSample]:
    """Every rule of either direction, in the order in which they are tried."""
    span_ns = _span_ns(now, before)
    for direction, sample in now.directions.items():
        for name, counters in sample.rules.items():
            was = before.directions[direction].rules.get(name) if before is not None else None
            offered_bytes, passed_bytes = (was.bytes, was.passed_bytes) if was is not None else (0, 0)
            rates = Rates(
                _rate(counters.bytes, offered_bytes, span_ns), _rate(counters.passed_bytes, passed_bytes, span_ns)
            )
            yield RuleSample(direction, name, counters, rates)


def flow_samples(now: Sample, before: Sample | None) -> list[FlowSample]:
    """The flows that have offered most since the sample before, the highest rate first."""
    span_ns = _span_ns(now, before)
    found = []
    for direction, sample in now.directions.items():
        known = {flow.name: flow for flow in before.directions[direction].flows} if before is not None else {}
        for flow in sample.flows:
            was = known.get(flow.name)
            if was is not None:
                rates = Rates(
                    _rate(flow.bytes, was.bytes, span_ns), _rate(flow.passed_bytes, was.passed_bytes, span_ns)
                )
            elif before is None or flow.first_ns >= before.time_ns:
                rates = Rates(_rate(flow.bytes, 0, span_ns), _rate(flow.passed_bytes, 0, span_ns))
            else:
                # It was there before, but not among the greatest.
                rates = Rates(None, None)
            found.append(FlowSample(direction, flow, rates))
    found.sort(key=lambda each: (-(each.rates.offered_bps or 0), -each.flow.bytes))
    return found[:TOLD_FLOWS]


def to_json(now: Sample, before: Sample | None) -> dict[str, object]:
    """A line of ``--json``: cumulative counters, with rates since ``before`` (None: over the whole run)."""
    told: dict[str, object] = {"time": utc(now.time_ns), "elapsed_s": now.elapsed_ns / 10**9}
    for direction, sample in now.directions.items():
        rates = direction_rates(now, before, direction)
        told[direction] = {
            **{field.name: getattr(sample.wire, field.name) for field in fields(sample.wire)},
            "errors": dict(sample.wire.errors),
            "offered_bps": rates.offered_bps,
            "passed_bps": rates.passed_bps,
            "unmatched_packets": sample.totals.unmatched_packets,
            "unmatched_bytes": sample.totals.unmatched_bytes,
            "malformed_reasons": dict(sample.totals.malformed),
            "flows": sample.totals.flows,
            "aged_flows": sample.totals.aged_flows,
            "evicted_flows": sample.totals.evicted_flows,
        }
    rules = list(rule_samples(now, before))
    if len(rules) > TOLD_RULES:
        told["rules_left_out"] = len(rules) - TOLD_RULES
        rules.sort(key=lambda each: (-(each.rates.offered_bps or 0), -each.counters.bytes))
        del rules[TOLD_RULES:]
    if now.messages is not None:
        told["n3"] = {way: dict(counted) for way, counted in now.messages.items()}
    told["rules"] = [
        {
            "name": each.name,
            "direction": each.direction,
            "offered_bps": each.rates.offered_bps,
            "passed_bps": each.rates.passed_bps,
            **rule_to_json(each.name, each.counters),
        }
        for each in rules
    ]
    told["flows"] = [_flow_to_json(each) for each in flow_samples(now, before)]
    return told


def utc(time_ns: int) -> str:
    """A time as ISO 8601 has it, to the millisecond."""
    seconds, rest_ns = divmod(time_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest_ns // 10**6:03d}Z"


def _flow_to_json(sample: FlowSample) -> dict[str, object]:
    flow = sample.flow
    return {
        "direction": sample.direction,
        **flow_to_json(flow.name),
        "rule": flow.rule,
        "offered_bps": sample.rates.offered_bps,
        "passed_bps": sample.rates.passed_bps,
        "packets": flow.packets,
        "bytes": flow.bytes,
        "passed_packets": flow.passed_packets,
        "passed_bytes": flow.passed_bytes,
    }


def _span_ns(now: Sample, before: Sample | None) -> int:
    return now.elapsed_ns - (before.elapsed_ns if before is not None else 0)


def _rate(now_bytes: int, before_bytes: int, span_ns: int) -> float | None:
    """None where no time has passed. What counts less than before has begun anew."""
    if span_ns <= 0:
        return None
    return (now_bytes - before_bytes if now_bytes >= before_bytes else now_bytes) * 8 * 10**9 / span_ns
