"""Does traffic keep to its rate? Averaging windows and violations, per rule (conditional zero rating, TS 26.512 A.3).

The engine's journal hands over what it has seen in time slots, SLOTS_PER_WINDOW to an averaging window, and every
violation: a time in which packets exceeded the rate, over when none has for a whole window. From the slots the windows
are made, one beginning with every slot, so that a burst is found wherever it stands. They are looked at as time goes
on: what is kept is one window and REORDER_NS, however long a capture is.

A window may hold more than rate times window and still comply: a token bucket lets a burst pass on top of the rate.
Whether the threshold was kept to is what the violations say.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

from upf.counters import AVERAGING_WINDOW_NS
from upf.errors import UpfError
from upf.rules import Marker, Rule

SLOTS_PER_WINDOW: Final = 20
# Packets may be out of order by as much; one still earlier begins a new stretch of time, as it re-anchors a bucket.
REORDER_NS: Final = 10_000_000_000
# Violations that a report keeps of each rule; more are counted.
KEPT_VIOLATIONS: Final = 100
MIN_WINDOW_NS: Final = 1_000_000
MAX_WINDOW_NS: Final = 3_600_000_000_000


class TimeSlot(NamedTuple):
    """What one rule has seen in the slot ``number``: packet times from number · slot to before (number + 1) · slot.

    ``rule`` is empty for what no rule wants. ``exceeding`` is what passed though it was above the rate.
    """

    rule: str
    number: int
    offered_bytes: int
    passed_bytes: int
    exceeding_bytes: int


class FlowName(NamedTuple):
    """A flow: its 5-tuple, and what else tells it from others; None where it has none, or none that is known."""

    source: IPv4Address | IPv6Address
    destination: IPv4Address | IPv6Address
    protocol: int
    source_port: int | None = None
    destination_port: int | None = None
    spi: int | None = None
    teid: int | None = None
    qfi: int | None = None


@dataclass(frozen=True, slots=True)
class Violation:
    """A time in which packets of one rule exceeded its rate.

    ``start_ns`` is the time of the first of them, whose flow ``began_by`` is; ``end_ns`` that of the latest. Excess is
    what was above the rate: charged in mode monitor, dropped in mode police.
    """

    rule: str
    began_by: FlowName
    start_ns: int
    end_ns: int
    excess_packets: int
    excess_bytes: int

    @property
    def duration_ns(self) -> int:
        """From the first packet above the rate to the latest; 0 where it is one packet."""
        return self.end_ns - self.start_ns


@dataclass(frozen=True, slots=True)
class Window:
    """One averaging window, from ``start_ns`` on."""

    start_ns: int
    length_ns: int
    offered_bytes: int
    passed_bytes: int

    @property
    def offered_bps(self) -> int:
        """Mean offered rate, rounded down."""
        return self.offered_bytes * 8_000_000_000 // self.length_ns

    @property
    def passed_bps(self) -> int:
        """Mean passed rate, rounded down."""
        return self.passed_bytes * 8_000_000_000 // self.length_ns


@dataclass(frozen=True, slots=True)
class RuleCompliance:
    """How one rule's traffic kept to its threshold.

    ``threshold_bps`` is the rate above which packets are excess; None where the rule has none. ``windows_above``: those
    whose mean offered rate is above the threshold; None without one, and where every flow has a bucket of its own, so
    that their sum says nothing. ``worst``: the first window with the highest offered rate. ``violations``: the first
    KEPT_VIOLATIONS of ``violation_count``.
    """

    rule: str
    window_ns: int
    threshold_bps: int | None
    per_flow: bool
    offered_bytes: int
    passed_bytes: int
    excess_packets: int
    excess_bytes: int
    windows: int
    windows_above: int | None
    worst: Window | None
    violations: tuple[Violation, ...]
    violation_count: int

    @property
    def compliant(self) -> bool | None:
        """Whether nothing exceeded the threshold; None where there is none."""
        return None if self.threshold_bps is None else self.violation_count == 0


def check_window(window_ns: int) -> int:
    """The window itself. Raises UpfError unless it is 1 ms to 1 hour, in whole microseconds."""
    if not MIN_WINDOW_NS <= window_ns <= MAX_WINDOW_NS or window_ns % 1000:
        raise UpfError(f"averaging window: found {window_ns} ns, expected 1 ms to 3600 s in whole microseconds")
    return window_ns


class Compliance:
    """Takes slots and violations as they come, makes the report.

    Slots may come in pieces, and in any order within REORDER_NS. Rules that are not among ``rules`` are left out.
    """

    def __init__(self, rules: Sequence[Rule], *, window_ns: int = AVERAGING_WINDOW_NS) -> None:
        self.window_ns = check_window(window_ns)
        self._rules = {rule.name: rule for rule in rules}
        self._sliding = {rule.name: SlidingWindows(self.window_ns, _window_threshold(rule)) for rule in rules}
        self._violations: dict[str, list[Violation]] = {rule.name: [] for rule in rules}
        self._counts = dict.fromkeys(self._rules, 0)
        self._excess_packets = dict.fromkeys(self._rules, 0)
        self._excess_bytes = dict.fromkeys(self._rules, 0)

    def add_slots(self, slots: Iterable[TimeSlot]) -> None:
        """Takes slots."""
        for rule, number, offered_bytes, passed_bytes, _ in slots:
            sliding = self._sliding.get(rule)
            if sliding is not None:
                sliding.add(number, offered_bytes, passed_bytes)

    def add_violations(self, violations: Iterable[Violation]) -> None:
        """Takes violations that are over."""
        for violation in violations:
            kept = self._violations.get(violation.rule)
            if kept is None:
                continue
            self._counts[violation.rule] += 1
            self._excess_packets[violation.rule] += violation.excess_packets
            self._excess_bytes[violation.rule] += violation.excess_bytes
            if len(kept) < KEPT_VIOLATIONS:
                kept.append(violation)

    def report(self) -> Mapping[str, RuleCompliance]:
        """Of every rule, by name, in the order in which the rules were given; nothing may be added after it."""
        return {name: self._of(rule) for name, rule in self._rules.items()}

    def _of(self, rule: Rule) -> RuleCompliance:
        sliding = self._sliding[rule.name]
        sliding.finish()
        return RuleCompliance(
            rule=rule.name,
            window_ns=self.window_ns,
            threshold_bps=threshold_bps(rule),
            per_flow=rule.per_flow,
            offered_bytes=sliding.offered_bytes,
            passed_bytes=sliding.passed_bytes,
            excess_packets=self._excess_packets[rule.name],
            excess_bytes=self._excess_bytes[rule.name],
            windows=sliding.windows,
            windows_above=None if _window_threshold(rule) is None else sliding.above,
            worst=sliding.worst,
            violations=tuple(self._violations[rule.name]),
            violation_count=self._counts[rule.name],
        )


def thresholds_bps(rule: Rule) -> tuple[tuple[str, int], ...]:
    """The rates that the rule is held to, each with what it is called; above the last a packet is excess."""
    policer = rule.policer
    if policer is None:
        return ()
    if policer.marker is Marker.TRTCM:
        return (("committed", policer.rate_bps), ("peak", policer.excess_rate_bps))
    if policer.marker is Marker.DIFFSERV_TRTCM:
        return (("committed", policer.rate_bps), ("with excess", policer.rate_bps + policer.excess_rate_bps))
    return (("threshold", policer.rate_bps),)


def threshold_bps(rule: Rule) -> int | None:
    """The rate above which a packet of the rule is excess; None where it has none."""
    thresholds = thresholds_bps(rule)
    return thresholds[-1][1] if thresholds else None


def _window_threshold(rule: Rule) -> int | None:
    return None if rule.per_flow else threshold_bps(rule)


class SlidingWindows:
    """The windows of one rule, as its slots come in.

    A window begins with every slot from the first that saw a packet, and ends with or before the last; traffic that is
    shorter than a window has one.
    """

    def __init__(self, window_ns: int, threshold_bps: int | None) -> None:
        self.offered_bytes = 0
        self.passed_bytes = 0
        self.windows = 0
        self.above = 0
        self.worst: Window | None = None
        self._window_ns = window_ns
        self._slot_ns = window_ns // SLOTS_PER_WINDOW
        # offered · 8 · 10⁹ > threshold · window, as a bound on the offered bytes.
        self._bound_bytes = None if threshold_bps is None else threshold_bps * window_ns // 8_000_000_000
        self._lag = -(-REORDER_NS // self._slot_ns)
        self._slots: dict[int, tuple[int, int]] = {}
        self._order: deque[int] = deque()
        self._latest: int | None = None
        # The next window to be looked at begins here once one has been; its sums are of the slots before its last.
        self._start: int | None = None
        self._offered = 0
        self._passed = 0
        self._worst_bytes = -1

    def add(self, number: int, offered_bytes: int, passed_bytes: int) -> None:
        """Takes what one slot saw, or a part of it."""
        latest = self._latest
        if latest is not None and number < latest - self._lag:
            self.finish()
            latest = None
        self.offered_bytes += offered_bytes
        self.passed_bytes += passed_bytes
        known = self._slots.get(number)
        if known is not None:
            self._slots[number] = (known[0] + offered_bytes, known[1] + passed_bytes)
            return
        self._slots[number] = (offered_bytes, passed_bytes)
        if latest is None or number > latest:
            self._order.append(number)
        else:
            self._order.insert(bisect_left(self._order, number), number)
        if latest is None or number > latest:
            self._latest = number
            # Nothing earlier than this can come any more without ending the stretch.
            self._look_until(number - self._lag)

    def finish(self) -> None:
        """Looks at the windows that are left; what comes after it is another stretch of time."""
        if self._latest is None:
            return
        self._look_until(self._latest + 1)
        if self._start is None:
            # Less than a window: the one that begins with its first slot.
            self._judge(
                self._order[0],
                sum(offered for offered, _ in self._slots.values()),
                sum(passed for _, passed in self._slots.values()),
            )
        self._slots.clear()
        self._order.clear()
        self._latest = self._start = None
        self._offered = self._passed = 0

    def _look_until(self, end: int) -> None:
        """Looks at every window whose last slot is before ``end``."""
        if self._start is None:
            first = self._order[0]
            if first + SLOTS_PER_WINDOW > end:
                return
            self._start = first
            for number in range(first, first + SLOTS_PER_WINDOW - 1):
                self._enter(number)
        while self._start + SLOTS_PER_WINDOW <= end:
            if not self._offered and not self._passed:
                # Nothing for at least a window less a slot: the windows up to the next slot that saw any are empty.
                following = self._order[0] if self._order else end
                empty = min(following, end) - SLOTS_PER_WINDOW + 1 - self._start
                if empty > 0:
                    self.windows += empty
                    if self._worst_bytes < 0:
                        self._keep(self._start, 0, 0)
                    self._start += empty
                    continue
            self._enter(self._start + SLOTS_PER_WINDOW - 1)
            self._judge(self._start, self._offered, self._passed)
            if self._order and self._order[0] == self._start:
                offered, passed = self._slots.pop(self._order.popleft())
                self._offered -= offered
                self._passed -= passed
            self._start += 1

    def _enter(self, number: int) -> None:
        offered, passed = self._slots.get(number, (0, 0))
        self._offered += offered
        self._passed += passed

    def _judge(self, start: int, offered_bytes: int, passed_bytes: int) -> None:
        self.windows += 1
        if self._bound_bytes is not None and offered_bytes > self._bound_bytes:
            self.above += 1
        if offered_bytes > self._worst_bytes:
            self._keep(start, offered_bytes, passed_bytes)

    def _keep(self, start: int, offered_bytes: int, passed_bytes: int) -> None:
        self._worst_bytes = offered_bytes
        self.worst = Window(start * self._slot_ns, self._window_ns, offered_bytes, passed_bytes)
