"""``castcore replay``: captures through the engine. Imports neither gRPC nor a database nor HTTP."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from upf.counters import Measure

if TYPE_CHECKING:
    from upf.counters import RuleCounters
    from upf.replay import Report
    from upf.rules import RuleSet

# A replay shorter than this is over before a progress bar could be read.
PROGRESS_FROM_BYTES: Final = 256 << 20
DEFAULT_MAX_FLOWS: Final = 1 << 20
# Beyond any machine's memory, and within the integers of the flow table.
MAX_FLOWS: Final = 1 << 40


def replay(
    captures: Annotated[
        list[Path], typer.Argument(metavar="IN...", help="Captures (pcap), taken one after the other.")
    ],
    flow: Annotated[
        list[str] | None,
        typer.Option(
            "--flow",
            metavar="FILTER",
            help="Flow filter (IPFilterRule), e.g. 'permit out 17 from 198.51.100.7 443 to assigned'. May be repeated: "
            "the flows share the rule's bucket.",
        ),
    ] = None,
    domain: Annotated[
        list[str] | None,
        typer.Option(
            "--domain",
            metavar="NAME",
            help="Domain name that a flow must have (from TLS, QUIC, HTTP or DNS); '*.' before it: any name below it. "
            "May be repeated; needs no --flow.",
        ),
    ] = None,
    rate: Annotated[
        str | None, typer.Option(metavar="RATE", help="Bit rate, e.g. '5 Mbps'. Without it the flows are only counted.")
    ] = None,
    burst: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE|TIME",
            help="Depth of the bucket, e.g. '15000 B' or '50 ms'. [default: 100 ms, at least 15000 B]",
        ),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(metavar="MODE", help="police drops the excess, monitor only counts it. [default: police]"),
    ] = None,
    per_flow: Annotated[bool, typer.Option("--per-flow", help="Give every 5-tuple a bucket of its own.")] = False,
    rules: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Rules file (TOML), instead of the options above.")
    ] = None,
    ue: Annotated[
        str | None, typer.Option(metavar="ADDR", help="What 'assigned' stands for in filters. [default: any address]")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT", help="Write what passes to this capture.")
    ] = None,
    repeat: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Pass over the captures N times; the time is the later passes' median."),
    ] = 1,
    measure: Annotated[
        Measure,
        typer.Option(
            "--bytes", metavar="l2|l3|l4", help="Bytes counted: frame on the wire, IP total length, or IP payload."
        ),
    ] = Measure.L3,
    no_gtpu: Annotated[
        bool, typer.Option("--no-gtpu", help="Leave packets in their GTP-U tunnels (UDP port 2152).")
    ] = False,
    max_flows: Annotated[
        int, typer.Option(min=1, max=MAX_FLOWS, metavar="N", help="Bound on the flow table.")
    ] = DEFAULT_MAX_FLOWS,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Send captures through the user plane: detect flows, police their bit rate, count.

    A packet is measured by its IP total length. Exit code 1 when a capture ends in a cut record: what came before the
    cut has been processed and is reported.

    \b
    castcore replay in.pcap --flow "permit out 17 from any 443 to assigned" --rate "5 Mbps" -o out.pcap
    castcore replay in.pcap --rules rules.toml --json
    """  # noqa: D301
    from upf.capture import open_capture
    from upf.replay import replay as run

    rule_set = _rule_set(flow, domain, rate, burst, mode, per_flow, rules, ue)
    for warning in rule_set.warnings:
        print(f"castcore: warning: {warning}", file=sys.stderr)
    with ExitStack() as stack:
        opened = [stack.enter_context(open_capture(path)) for path in captures]
        total_bytes = repeat * sum(len(capture.view) - capture.format.header_bytes for capture in opened)
        progress = stack.enter_context(_progress(total_bytes))
        report = run(
            opened,
            rule_set.rules,
            output=output,
            repeat=repeat,
            max_flows=max_flows,
            measure=measure,
            gtpu=not no_gtpu,
            progress=progress,
        )
    if as_json:
        print(json.dumps(to_json(report)))
    else:
        print_table(report)
    for error in report.errors:
        print(f"castcore: {error}", file=sys.stderr)
    if report.errors:
        raise typer.Exit(1)


def _rule_set(
    flow: Sequence[str] | None,
    domain: Sequence[str] | None,
    rate: str | None,
    burst: str | None,
    mode: str | None,
    per_flow: bool,
    rules: Path | None,
    ue: str | None,
) -> RuleSet:
    from upf.errors import UpfError
    from upf.rules import RuleSet
    from upf.rules_file import load_rules, parse_ue, rule_from_options

    if rules is not None:
        given = {
            "--flow": flow,
            "--domain": domain,
            "--rate": rate,
            "--burst": burst,
            "--mode": mode,
            "--per-flow": per_flow,
        }
        clash = [option for option, value in given.items() if value]
        if clash:
            raise UpfError(f"option '--rules': goes without {', '.join(clash)}: the file says it")
        return load_rules(rules, ue=parse_ue(ue) if ue is not None else None)
    if not flow and not domain and rate is None and burst is None and mode is None and not per_flow:
        return RuleSet(())
    return rule_from_options(
        flows=flow or [], domains=domain or [], rate=rate, burst=burst, mode=mode, per_flow=per_flow, ue=ue
    )


@contextmanager
def _progress(total_bytes: int) -> Iterator[Callable[[int], None] | None]:
    """A bar on standard error for a long replay at a terminal."""
    if total_bytes < PROGRESS_FROM_BYTES or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("replay", total=total_bytes)
        yield lambda advanced_bytes: bar.advance(task, advanced_bytes)


def to_json(report: Report) -> dict[str, object]:
    """What ``--json`` promises to scripts, and beside it what a tester asks next."""
    totals = report.totals
    return {
        "elapsed_s": report.elapsed_s,
        "packets": totals.packets,
        "bytes": totals.bytes,
        "malformed": totals.malformed_packets,
        "unmatched": {"packets": totals.unmatched_packets, "bytes": totals.unmatched_bytes},
        "flows": totals.flows,
        "rules": [_rule_to_json(name, counters) for name, counters in report.rules.items()],
        "malformed_reasons": dict(totals.malformed),
        "aged_flows": totals.aged_flows,
        "evicted_flows": totals.evicted_flows,
        "time_steps_back": totals.time_steps_back,
        "fragments_without_first": totals.fragments_without_first,
        "gtpu": dict(totals.gtpu),
    }


def _rule_to_json(name: str, counters: RuleCounters) -> dict[str, object]:
    return {
        "name": name,
        "packets": counters.packets,
        "bytes": counters.bytes,
        "passed_packets": counters.passed_packets,
        "passed_bytes": counters.passed_bytes,
        "dropped_packets": counters.dropped_packets,
        "dropped_bytes": counters.dropped_bytes,
        "conforming_packets": counters.conforming_packets,
        "conforming_bytes": counters.conforming_bytes,
        "exceeding_packets": counters.exceeding_packets,
        "exceeding_bytes": counters.exceeding_bytes,
    }


def print_table(report: Report) -> None:
    """The report for eyes."""
    from rich.console import Console
    from rich.table import Table

    totals = report.totals
    console = Console(highlight=False)
    speed = f" ({totals.packets / report.elapsed_s / 1e6:,.2f} million/s)" if report.elapsed_s else ""
    console.print(
        f"{totals.packets:,} packets, {totals.bytes:,} bytes, {totals.flows:,} flows"
        f" in {report.elapsed_s:.3f} s{speed}",
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("rule", overflow="fold")
    for heading in ("packets", "bytes", "offered", "passed", "above the rate"):
        table.add_column(heading, justify="right")
    for name, rule in report.rules.items():
        span_ns = rule.last_ns - rule.first_ns
        excess = [
            f"{volume_bytes:,} {fate}"
            for volume_bytes, fate in ((rule.exceeding_bytes, "passed"), (rule.dropped_bytes, "dropped"))
            if volume_bytes
        ]
        table.add_row(
            name,
            f"{rule.packets:,}",
            f"{rule.bytes:,}",
            mean_rate(rule.bytes, span_ns),
            mean_rate(rule.passed_bytes, span_ns),
            ", ".join(excess) or "0",
        )
    if totals.unmatched_packets or not report.rules:
        table.add_row("(unmatched)", f"{totals.unmatched_packets:,}", f"{totals.unmatched_bytes:,}", "", "", "")
    console.print(table)
    for reason, packets in totals.malformed.items():
        console.print(f"malformed: {packets:,} × {reason}")
    for message, packets in totals.gtpu.items():
        console.print(f"GTP-U: {packets:,} × {message}")
    if totals.evicted_flows:
        console.print(f"flow table full: {totals.evicted_flows:,} flows evicted (--max-flows)")
    if totals.time_steps_back:
        console.print(f"clock set back by more than 10 s: {totals.time_steps_back:,} times")


def mean_rate(volume_bytes: int, span_ns: int) -> str:
    """Mean bit rate over the time between a rule's first and last packet, rounded for eyes."""
    if span_ns <= 0:
        return "-"
    rate_bps = volume_bytes * 8 * 10**9 / span_ns
    for unit in ("bps", "Kbps", "Mbps"):
        if rate_bps < 1000:
            return f"{rate_bps:.3g} {unit}"
        rate_bps /= 1000
    return f"{rate_bps:,.3f} Gbps"
