"""What ``castcore tun`` shows: lines for scripts, a view refreshed in place for a terminal, lines for a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self

from nf.cli.figures import duration, flow_text, rate
from nf.cli.tun.samples import Sample, direction_rates, flow_samples, rule_samples, to_json, utc

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.table import Table

    from upf.counters import WireCounters
    from upf.live.devices import Place
    from upf.live.n3_place import N3Place

# Lines of a terminal beside those of the rules: headings, directions, flows.
OTHER_LINES: Final = 20
LEAST_RULES: Final = 3
# Of more rules the summary names those that have seen packets.
SUMMED_UP_RULES: Final = 40


class Ready:
    """Where packets flow now, and what else serves: ``grpc`` and ``metrics`` by address."""

    def __init__(self, access: Place | N3Place, core: Place, served: Mapping[str, str]) -> None:
        self.access = access
        self.core = core
        self.served = served


class Teller(Protocol):
    """Tells what happens; a context manager, at whose end nothing but the summary is to come."""

    def ready(self, ready: Ready) -> None:
        """Packets flow."""

    def sample(self, now: Sample, before: Sample | None) -> None:
        """A second has passed."""

    def final(self, now: Sample) -> None:
        """Nothing more is counted."""

    def __enter__(self) -> Self:
        """Begins to tell."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends what is refreshed in place."""


class _Plain:
    """A teller that has nothing to begin or to end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class JsonLines(_Plain):
    """One object a line on standard output, each as soon as it is known."""

    def ready(self, ready: Ready) -> None:
        """The first line."""
        _print({"ready": True, "access": _place(ready.access), "core": _place(ready.core), **ready.served})

    def sample(self, now: Sample, before: Sample | None) -> None:
        """A line with the rates since the one before."""
        _print(to_json(now, before))

    def final(self, now: Sample) -> None:
        """The last line, with the rates over the whole run."""
        _print({"final": True, **to_json(now, None)})


class TextLines(_Plain):
    """A line a second, for a file or a pipe that somebody reads; nothing while nothing comes."""

    def ready(self, ready: Ready) -> None:
        """The lines before all others."""
        for line in ready_lines(ready):
            print(line, flush=True)

    def sample(self, now: Sample, before: Sample | None) -> None:
        """Both directions in a line."""
        if any(
            sample.wire.packets != (before.directions[direction].wire.packets if before is not None else 0)
            for direction, sample in now.directions.items()
        ):
            print(text_line(now, before), flush=True)

    def final(self, now: Sample) -> None:
        """The summary."""
        print_summary(now)


class LiveView:
    """Tables that are refreshed in place."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(highlight=False, markup=False)
        self._heading = ""
        self._live: Live | None = None
        self._stack = ExitStack()

    def ready(self, ready: Ready) -> None:
        """From here on there is something to see."""
        from rich.live import Live

        self._heading, *more = ready_lines(ready)
        for line in more:
            self._console.print(line, soft_wrap=True)
        self._live = self._stack.enter_context(Live(console=self._console, auto_refresh=False, transient=True))

    def sample(self, now: Sample, before: Sample | None) -> None:
        """The tables, anew."""
        if self._live is not None:
            rules = max(self._console.height - OTHER_LINES, LEAST_RULES)
            self._live.update(view(self._heading, now, before, rules=rules), refresh=True)

    def final(self, now: Sample) -> None:
        """The summary, in place of the tables."""
        self._stack.close()
        print_summary(now, self._console)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def teller_of(*, as_json: bool) -> Teller:
    """What suits whoever reads standard output."""
    if as_json:
        return JsonLines()
    return LiveView() if sys.stdout.isatty() else TextLines()


def ready_lines(ready: Ready) -> list[str]:
    """What there is, for eyes."""
    served = [f"{name} {address}" for name, address in ready.served.items()]
    return [f"castcore tun: {ready.access} (access) <-> {ready.core} (core); Ctrl-C ends it", *served]


def text_line(now: Sample, before: Sample | None) -> str:
    """Both directions in a line."""
    told = [utc(now.time_ns)]
    for direction in now.directions:
        rates = direction_rates(now, before, direction)
        lost = _lost(now.directions[direction].wire) - (
            _lost(before.directions[direction].wire) if before is not None else 0
        )
        told.append(
            f"{direction} {_rate(rates.offered_bps)} offered, {_rate(rates.passed_bps)} passed"
            + (f", {lost:,} packets not passed" if lost else "")
        )
    return "; ".join(told)


def view(heading: str, now: Sample, before: Sample | None, *, rules: int) -> RenderableType:
    """The tables of a moment; of more ``rules`` than that those with the highest rates."""
    from rich.console import Group

    parts: list[RenderableType] = [
        f"{heading}  {duration(now.elapsed_ns // 10**9 * 10**9)}",
        directions_table(now, before),
    ]
    found = list(rule_samples(now, before))
    if found:
        shown = sorted(found, key=lambda each: -(each.rates.offered_bps or 0))[:rules] if len(found) > rules else found
        table = _table("rule", "", "offered", "passed", "dropped", "above, passed", "delayed", left=2)
        for each in shown:
            counters = each.counters
            table.add_row(
                each.name,
                _short(each.direction),
                _rate(each.rates.offered_bps),
                _rate(each.rates.passed_bps),
                f"{counters.dropped_packets:,}",
                f"{counters.exceeding_packets + counters.yellow_packets:,}",
                f"{counters.delayed_packets:,}",
            )
        parts += ["", table]
        if len(found) > len(shown):
            parts.append(f"… and {len(found) - len(shown):,} more")
    flows = flow_samples(now, before)
    if flows:
        table = _table("flow", "", "rule", "offered", "passed", left=3)
        for flow in flows:
            table.add_row(
                flow_text(flow.flow.name),
                _short(flow.direction),
                flow.flow.rule,
                _rate(flow.rates.offered_bps),
                _rate(flow.rates.passed_bps),
            )
        parts += ["", table]
    parts += exceptions(now)
    return Group(*parts)


def directions_table(now: Sample, before: Sample | None) -> Table:
    """What came, and what became of it."""
    table = _table("", "offered", "passed", "packets", "dropped", "other", "flows", left=1)
    for direction, sample in now.directions.items():
        rates, wire = direction_rates(now, before, direction), sample.wire
        table.add_row(
            direction,
            _rate(rates.offered_bps),
            _rate(rates.passed_bps),
            f"{wire.packets:,}",
            f"{wire.dropped_packets:,}",
            f"{wire.packets - wire.passed_packets - wire.dropped_packets:,}",
            f"{sample.totals.flows:,}",
        )
    return table


def print_summary(now: Sample, console: Console | None = None) -> None:
    """The whole run, for eyes."""
    from rich.console import Console

    console = console or Console(highlight=False, markup=False)
    console.print(f"{now.elapsed_ns / 10**9:.1f} s; rates are means over all of it", soft_wrap=True)
    console.print(directions_table(now, None))
    rules = list(rule_samples(now, None))
    if len(rules) > SUMMED_UP_RULES:
        rules = [each for each in rules if each.counters.packets]
    if rules:
        table = _table("rule", "", "packets", "bytes", "offered", "passed", "above the rate", left=2)
        for each in rules:
            counters = each.counters
            excess = [
                f"{volume_bytes:,} {fate}"
                for volume_bytes, fate in ((counters.exceeding_bytes, "passed"), (counters.dropped_bytes, "dropped"))
                if volume_bytes
            ]
            table.add_row(
                each.name,
                _short(each.direction),
                f"{counters.packets:,}",
                f"{counters.bytes:,}",
                _rate(each.rates.offered_bps),
                _rate(each.rates.passed_bps),
                ", ".join(excess) or "0",
            )
        console.print(table)
    for line in exceptions(now):
        console.print(line, soft_wrap=True)


def exceptions(now: Sample) -> Sequence[str]:
    """What was neither passed nor dropped by a rule, and why."""
    lines = []
    for direction, sample in now.directions.items():
        lines += [f"{direction}: malformed: {count:,} × {reason}" for reason, count in sample.totals.malformed.items()]
        lines += [f"{direction}: error: {count:,} × {reason}" for reason, count in sample.wire.errors.items() if count]
        if sample.wire.queued_packets:
            lines.append(f"{direction}: {sample.wire.queued_packets:,} packets held back")
        if sample.wire.held_off_packets:
            lines.append(f"{direction}: {sample.wire.held_off_packets:,} packets came while nothing was forwarded")
        if sample.totals.evicted_flows:
            lines.append(f"{direction}: flow table full: {sample.totals.evicted_flows:,} flows evicted (--max-flows)")
    return lines


def _table(*headings: str, left: int) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, heading in enumerate(headings):
        if number < left:
            table.add_column(heading, overflow="fold")
        else:
            table.add_column(heading, justify="right", no_wrap=True)
    return table


def _short(direction: str) -> str:
    return direction.removesuffix("link")


def _rate(rate_bps: float | None) -> str:
    return "-" if rate_bps is None else rate(rate_bps)


def _lost(wire: WireCounters) -> int:
    return wire.dropped_packets + wire.malformed_packets + wire.held_off_packets + sum(wire.errors.values())


def _place(place: Place | N3Place) -> dict[str, str | int | None]:
    # N3Place is not imported to be asked for: who has devices has no use for it.
    if hasattr(place, "interface"):
        return {"interface": place.interface, "netns": place.netns}
    return {"n3": str(place.address), "port": place.port, "netns": place.netns}


def _print(told: Mapping[str, object]) -> None:
    print(json.dumps(told), flush=True)
