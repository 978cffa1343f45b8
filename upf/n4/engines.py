"""Where the rules of sessions are in force: in one engine for captures, in one for each direction of live traffic.

What no rule wants is not passed. Engines of live traffic share nothing: a rule is installed where its packets come from
(TS 29.244 §8.2.2).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from upf.counters import RuleCounters
from upf.engine import Engine
from upf.n4.rules import ACCESS, CORE, Interface, Made, rules_of
from upf.n4.v1.n4_pb2 import Session
from upf.rules import Mode, Rule
from upf.units import DEFAULT_BURST_MS, LIVE_BURST_MS

Change = tuple[Session | None, Session | None]
"""A session as it is in force and as it is to be; None: not at all."""

Rules = Sequence[tuple[Interface, Rule]]
MAX_RECENT: Final = 1000


class RuleEngine(Protocol):
    """What sessions need of an engine."""

    @property
    def packets(self) -> int:
        """All packets that have come."""
        ...

    def update(self, *, add: Iterable[Rule] = ..., remove: Iterable[str] = ...) -> None:
        """Adds and removes rules: all of it or, on an error, nothing. One that keeps its name keeps its counters."""
        ...

    def harvest(self) -> dict[str, RuleCounters]:
        """The counters of the rules that have counted something since the last harvest."""
        ...


class _RulesOf:
    """The rules of sessions: made when they are needed, and kept for those that were changed last.

    To keep those of all would cost more than the sessions themselves.
    """

    def __init__(self, burst_ms: int) -> None:
        self._burst_ms = burst_ms
        self._recent: dict[int, tuple[Session, Rules, Made]] = {}

    def __call__(self, session: Session | None) -> Rules:
        if session is None:
            return ()
        known = self._recent.get(session.cp_seid)
        if known is None or known[0] is not session:
            # A session that cannot be enforced leaves what is known of it as it was.
            made = known[2] if known is not None else Made()
            known = session, rules_of(session, burst_ms=self._burst_ms, made=made), made
        self._recent.pop(session.cp_seid, None)
        self._recent[session.cp_seid] = known
        if len(self._recent) > MAX_RECENT:
            del self._recent[next(iter(self._recent))]
        return known[1]


@dataclass(frozen=True, slots=True)
class _RuleChange:
    """What a session's change is to its rules."""

    before: Rules
    after: Rules


@dataclass(slots=True)
class _Lane:
    """One engine, and where the packets come from that it treats."""

    engine: RuleEngine
    interfaces: Collection[Interface]
    harvested_packets: int = 0

    def own(self, rules: Rules) -> dict[str, Rule]:
        return {rule.name: rule for interface, rule in rules if interface in self.interfaces}

    def harvest(self) -> dict[str, RuleCounters]:
        packets = self.engine.packets
        if packets == self.harvested_packets:
            return {}
        self.harvested_packets = packets
        return self.engine.harvest()


@dataclass(slots=True)
class _Difference:
    """What a change of sessions is to one engine."""

    lane: _Lane
    changes: Sequence[_RuleChange]
    added: list[Rule] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for change in self.changes:
            old, new = self.lane.own(change.before), self.lane.own(change.after)
            self.added += (rule for name, rule in new.items() if (known := old.get(name)) is not rule and known != rule)
            self.removed += old.keys() - new.keys()

    def make(self) -> None:
        """Puts it in force. What is removed detects nothing from now on, but still has its counters."""
        if self.added or self.removed:
            self.lane.engine.update(add=[*self.added, *map(_emptied, self.removed)])

    def forget(self) -> None:
        """Takes what is removed out of the engine."""
        if self.removed:
            self.lane.engine.update(remove=self.removed)

    def undo(self) -> None:
        """Puts what was before in force again."""
        touched = {rule.name for rule in self.added}.union(self.removed)
        old = {name: rule for change in self.changes for name, rule in self.lane.own(change.before).items()}
        self.lane.engine.update(
            add=[rule for name, rule in old.items() if name in touched],
            remove=[name for name in touched if name not in old],
        )


class Engines:
    """The engines of one UPF. They may be at work meanwhile: a call waits until one of them can be changed.

    burst_ms: how deep a bucket is whose QER does not say, as time at its rate.
    """

    def __init__(self, *lanes: tuple[RuleEngine, Collection[Interface]], burst_ms: int = DEFAULT_BURST_MS) -> None:
        self._lanes = [_Lane(engine, interfaces) for engine, interfaces in lanes]
        self._rules_of = _RulesOf(burst_ms)

    def change(self, changes: Sequence[Change]) -> PendingChange:
        """Puts sessions in force, or out of it: in all engines or, on an error, in none.

        Raises InvalidArgument where a session cannot be enforced, UpfError where an engine refuses its rules.
        """
        rules = [_RuleChange(self._rules_of(before), self._rules_of(after)) for before, after in changes]
        differences = [_Difference(lane, rules) for lane in self._lanes]
        made: list[_Difference] = []
        try:
            for difference in differences:
                difference.make()
                made.append(difference)
        except BaseException:
            for difference in made:
                difference.undo()
            raise
        return PendingChange(differences)

    def harvest(self) -> dict[str, RuleCounters]:
        """The counters, by rule, of those that have counted something since the last harvest."""
        counters: dict[str, RuleCounters] = {}
        for lane in self._lanes:
            counters |= lane.harvest()
        return counters


class PendingChange:
    """A change that is in force, but for the counters of the rules that it removes: those stay until ``finish``."""

    def __init__(self, differences: Sequence[_Difference]) -> None:
        self._differences = differences
        self.removed = [name for difference in differences for name in difference.removed]

    def harvest(self) -> tuple[dict[str, RuleCounters], dict[str, RuleCounters]]:
        """The last harvest of the rules removed, and a harvest of the others.

        A name may be in both: of a PDR that has another source interface now.
        """
        gone: dict[str, RuleCounters] = {}
        others: dict[str, RuleCounters] = {}
        for difference in self._differences:
            removed = set(difference.removed)
            for name, counters in difference.lane.harvest().items():
                (gone if name in removed else others)[name] = counters
        return gone, others

    def undo(self) -> None:
        """Puts what was before in force again, in place of ``finish``."""
        for difference in self._differences:
            difference.undo()

    def finish(self) -> None:
        """Forgets the rules removed."""
        for difference in self._differences:
            difference.forget()


def for_captures(engine: RuleEngine) -> Engines:
    """One engine for the packets of all interfaces, as a capture has them."""
    return Engines((engine, (ACCESS, CORE)))


def for_live_traffic(*, uplink: RuleEngine, downlink: RuleEngine) -> Engines:
    """One engine for what comes from the access, and one for what comes from the core."""
    return Engines((uplink, (ACCESS,)), (downlink, (CORE,)), burst_ms=LIVE_BURST_MS)


def engine_under_smf(max_flows: int) -> Engine:
    """An engine that lets pass only what rules want."""
    return Engine(max_flows=max_flows, flow_times=True, pass_unmatched=False)


def _emptied(rule: str) -> Rule:
    """The rule of that name without anything that it detects."""
    return Rule(rule, 0, (), None, Mode.MONITOR)
