"""The reference enforcement: what the rules' gates, policers and aggregates make of each packet (TS 29.244 §5.4).

Every packet of a rule moves the time of all the rule's buckets. Whether it is charged comes after: a closed gate
charges nothing; a packet that its own policer lets pass is charged to that one and to all aggregates together or, where
one of them lacks the tokens, to none.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

from upf.counters import AVERAGING_WINDOW_NS, RuleCounters
from upf.policing import Shaper, TwoColour, colour_of_dscp, marker_of
from upf.rules import Colour, Mode, Policer, Rule


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the rule made of a packet.

    ``departure_ns``: when it leaves; None where no queue holds it back or it does not pass. ``dscp``: what it is marked
    with; None where it stays as it came.
    """

    colour: Colour
    passed: bool
    gated: bool = False
    departure_ns: int | None = None
    dscp: int | None = None


class Enforcement:
    """The buckets of a rule set at work."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._shared: dict[tuple[str, str], TwoColour] = {}
        self._of_flow: dict[Hashable, tuple[str, TwoColour]] = {}
        self._to_be_limited: set[Hashable] = set()
        self._time_steps_back = 0
        self.install(rules)

    @property
    def time_steps_back(self) -> int:
        """How often a bucket's clock was set back by more than 10 s."""
        at_work = [*self._shared.values(), *(bucket for _, bucket in self._of_flow.values())]
        return self._time_steps_back + sum(bucket.time_steps_back for bucket in at_work)

    def install(self, rules: Sequence[Rule]) -> None:
        """Replaces the rules. A bucket that stays keeps its tokens; one whose kind changes begins anew, full.

        New limits reach the bucket of a flow's own with the flow's next packet.
        """
        shared = {}
        for rule in rules:
            for key, policer, queue_bit_ns in _shared_buckets(rule):
                shared[key] = _limited(self._shared.get(key), policer, queue_bit_ns)
        per_flow = {rule.name: rule for rule in rules if rule.per_flow and rule.policer is not None}
        of_flow = {}
        for flow, (name, bucket) in self._of_flow.items():
            own = per_flow.get(name)
            if own is not None and own.policer is not None and _is_of_kind(bucket, own.policer, _queue_of(own)):
                of_flow[flow] = name, bucket
        before = [*self._shared.values(), *(bucket for _, bucket in self._of_flow.values())]
        after = [*shared.values(), *(bucket for _, bucket in of_flow.values())]
        counted = sum(bucket.time_steps_back for bucket in before) - sum(bucket.time_steps_back for bucket in after)
        self._time_steps_back += counted
        self._shared, self._of_flow = shared, of_flow
        self._to_be_limited = set(of_flow)

    def leave(self, flow: Hashable, rule: Rule | None) -> None:
        """The flow is now under ``rule``: a bucket of its own that another gave it is gone."""
        name, bucket = self._of_flow.get(flow, ("", None))
        if bucket is not None and (rule is None or rule.name != name):
            self._time_steps_back += bucket.time_steps_back
            del self._of_flow[flow]

    def judge(self, ts_ns: int, rule: Rule, flow: Hashable, length: int, dscp: int) -> Judgement:
        """A packet of ``length`` bytes with that DSCP, of a flow under the rule."""
        own = self._own_bucket(rule, flow)
        aggregates = [self._shared["shared", aggregate.bucket_id] for aggregate in rule.aggregates]
        for bucket in aggregates if own is None else [own, *aggregates]:
            bucket.advance(ts_ns)
        if not rule.gate_open:
            return Judgement(Colour.RED, passed=False, gated=True)
        colour = Colour.GREEN if own is None else own.colour(length, colour_of_dscp(dscp))
        if any(aggregate.colour(length) is Colour.RED for aggregate in aggregates):
            colour = Colour.RED
        if own is not None:
            own.charge(length, colour)
        for aggregate in aggregates:
            aggregate.charge(length, colour)
        passed = colour is not Colour.RED or rule.mode in (Mode.MONITOR, Mode.MARK)
        return Judgement(
            colour,
            passed,
            departure_ns=own.departure_ns() if passed and isinstance(own, Shaper) else None,
            dscp=rule.dscp[colour] if rule.mode is Mode.MARK else None,
        )

    def _own_bucket(self, rule: Rule, flow: Hashable) -> TwoColour | None:
        if rule.policer is None:
            return None
        if not rule.per_flow:
            return self._shared[_key(rule)]
        if flow not in self._of_flow or flow in self._to_be_limited:
            _, bucket = self._of_flow.get(flow, ("", None))
            self._of_flow[flow] = rule.name, _limited(bucket, rule.policer, _queue_of(rule))
            self._to_be_limited.discard(flow)
        return self._of_flow[flow][1]


def counted(was: RuleCounters, ts_ns: int, length: int, judgement: Judgement) -> RuleCounters:
    """The rule's counters after one more packet. What a closed gate stops says nothing about the rate."""
    seen = replace(was, first_ns=was.first_ns if was.packets else ts_ns, last_ns=max(was.last_ns, ts_ns))
    if judgement.gated:
        return _dropped(replace(seen, gated_packets=was.gated_packets + 1), length)
    if judgement.colour is Colour.GREEN:
        seen = replace(
            seen, conforming_packets=was.conforming_packets + 1, conforming_bytes=was.conforming_bytes + length
        )
    elif judgement.colour is Colour.YELLOW:
        seen = replace(seen, yellow_packets=was.yellow_packets + 1, yellow_bytes=was.yellow_bytes + length)
    else:
        anew = not was.last_excess_ns or ts_ns - was.last_excess_ns >= AVERAGING_WINDOW_NS
        seen = replace(
            seen,
            excess_since_ns=ts_ns if anew else was.excess_since_ns,
            last_excess_ns=max(was.last_excess_ns, ts_ns),
        )
        if not judgement.passed:
            return _dropped(seen, length)
        seen = replace(seen, exceeding_packets=was.exceeding_packets + 1, exceeding_bytes=was.exceeding_bytes + length)
    delay_ns = 0 if judgement.departure_ns is None else judgement.departure_ns - ts_ns
    return replace(
        seen,
        delayed_packets=was.delayed_packets + (delay_ns > 0),
        delay_max_ns=max(was.delay_max_ns, delay_ns),
        delay_sum_ns=was.delay_sum_ns + delay_ns,
    )


def _dropped(counters: RuleCounters, length: int) -> RuleCounters:
    return replace(
        counters, dropped_packets=counters.dropped_packets + 1, dropped_bytes=counters.dropped_bytes + length
    )


def _key(rule: Rule) -> tuple[str, str]:
    return ("shared", rule.bucket_id) if rule.bucket_id else ("own", rule.name)


def _queue_of(rule: Rule) -> int | None:
    return rule.queue_bit_ns if rule.mode is Mode.SHAPE else None


def _shared_buckets(rule: Rule) -> Iterator[tuple[tuple[str, str], Policer, int | None]]:
    if rule.policer is not None and not rule.per_flow:
        yield _key(rule), rule.policer, _queue_of(rule)
    for aggregate in rule.aggregates:
        yield ("shared", aggregate.bucket_id), aggregate.policer, None


def _limited(bucket: TwoColour | None, policer: Policer, queue_bit_ns: int | None) -> TwoColour:
    """The bucket under new limits; a new one where there was none, or one of another kind."""
    if bucket is None or not _is_of_kind(bucket, policer, queue_bit_ns):
        return marker_of(policer) if queue_bit_ns is None else Shaper(policer, queue_bit_ns)
    if isinstance(bucket, Shaper) and queue_bit_ns is not None:
        bucket.limit_queue(queue_bit_ns)
    bucket.limit(policer)
    return bucket


def _is_of_kind(bucket: TwoColour, policer: Policer, queue_bit_ns: int | None) -> bool:
    return bucket.policer.marker is policer.marker and isinstance(bucket, Shaper) is (queue_bit_ns is not None)
