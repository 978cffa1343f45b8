"""``castcore replay``: captures through the engine. Imports neither gRPC nor a database nor HTTP."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from nf.cli.replay.options import report_options_of
from nf.cli.replay.report import print_table, to_json
from nf.cli.rule_options import (
    DEFAULT_MAX_FLOWS,
    DETECTION,
    ENGINE,
    RESULTS,
    BurstOption,
    DomainOption,
    DscpOption,
    FlowOption,
    MaxFlowsOption,
    ModeOption,
    PerFlowOption,
    QueueOption,
    RateOption,
    RulesOption,
    UeOption,
    rule_set_of,
)
from upf.counters import Measure

# A replay shorter than this is over before a progress bar could be read.
PROGRESS_FROM_BYTES: Final = 256 << 20


def replay(
    captures: Annotated[
        list[Path],
        typer.Argument(
            metavar="IN...",
            help="Captures (pcap or pcapng, also as gzip or zstd), taken one after the other; - is standard input.",
        ),
    ],
    flow: FlowOption = None,
    domain: DomainOption = None,
    ue: UeOption = None,
    rules: RulesOption = None,
    rate: RateOption = None,
    burst: BurstOption = None,
    mode: ModeOption = None,
    dscp: DscpOption = None,
    queue: QueueOption = None,
    per_flow: PerFlowOption = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="OUT", help="Write what passes to this capture.", rich_help_panel=RESULTS
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on standard output.", rich_help_panel=RESULTS)
    ] = False,
    flows: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT",
            help="Write a record of every flow, from its first packet to what ended it: .csv, .json, .jsonl or "
            ".parquet.",
            rich_help_panel=RESULTS,
        ),
    ] = None,
    flow_timeout: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Idle time that ends a flow's record; changes no verdict. [default: 300 s]",
            rich_help_panel=RESULTS,
        ),
    ] = None,
    compliance: Annotated[
        bool,
        typer.Option(
            "--compliance",
            help="Tell for each rule whether its traffic kept to its rate: averaging windows, the worst, violations.",
            rich_help_panel=RESULTS,
        ),
    ] = False,
    window: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Averaging window of --compliance. [default: 2 s]", rich_help_panel=RESULTS),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Draw offered and passed rate over time, with the thresholds: .png, .svg or .pdf.",
            rich_help_panel=RESULTS,
        ),
    ] = None,
    profile: Annotated[
        bool,
        typer.Option(
            "--profile",
            help="Tell where the time goes: read, parse, look-up, police, output, in ns a packet (ten more passes).",
            rich_help_panel=ENGINE,
        ),
    ] = False,
    repeat: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Pass over the captures N times; the time is the later passes' median.",
            rich_help_panel=ENGINE,
        ),
    ] = 1,
    measure: Annotated[
        Measure,
        typer.Option(
            "--bytes",
            metavar="l2|l3|l4",
            help="Bytes counted: frame on the wire, IP total length, or IP payload.",
            rich_help_panel=DETECTION,
        ),
    ] = Measure.L3,
    no_gtpu: Annotated[
        bool,
        typer.Option(
            "--no-gtpu", help="Leave packets in their GTP-U tunnels (UDP port 2152).", rich_help_panel=DETECTION
        ),
    ] = False,
    max_flows: MaxFlowsOption = DEFAULT_MAX_FLOWS,
) -> None:
    """Send captures through the user plane: detect flows, police their bit rate, count.

    A packet is measured by its IP total length, at the time that it bears.

    \b
    What is in a capture, flow by flow:
      castcore replay in.pcap --flows flows.csv
    Keep a server's media to 5 Mbps, and write what passes:
      castcore replay in.pcap --flow "permit out ip from 198.51.100.7 to any" --rate "5 Mbps" -o out.pcap
    Would it have kept to 2 Mbps? Drop nothing, tell when it did not, and show it:
      castcore replay in.pcap --flow "permit out ip from 198.51.100.7 to any" --rate "2 Mbps" --mode monitor \\
        --compliance --plot rate.png
    Many rules, for scripts:
      castcore replay in.pcap --rules rules.toml --json

    Exit code 1 when something cannot be used, or a capture ends in a cut record: what came before the cut has been
    processed and is reported.
    """  # noqa: D301
    from upf.capture import open_capture
    from upf.directions import capture_rules
    from upf.replay import replay as run

    rule_set = rule_set_of(flow, domain, rate, burst, mode, per_flow, rules, ue, dscp=dscp, queue=queue)
    reports = report_options_of(flows=flows, flow_timeout=flow_timeout, compliance=compliance, window=window, plot=plot)
    with ExitStack() as stack:
        stack.enter_context(_termination())
        for warning in rule_set.warnings:
            print(f"castcore: warning: {warning}", file=sys.stderr)
        opened = [stack.enter_context(open_capture(path)) for path in captures]
        if repeat > 1:
            for capture in opened:
                capture.hold()
        total_bytes = repeat * sum(capture.size_bytes or 0 for capture in opened)
        progress = stack.enter_context(_progress(total_bytes))
        report = run(
            opened,
            capture_rules(rule_set.rules),
            output=output,
            repeat=repeat,
            max_flows=max_flows,
            measure=measure,
            gtpu=not no_gtpu,
            progress=progress,
            reports=reports,
            profile=profile,
        )
    if as_json:
        print(json.dumps(to_json(report)))
    else:
        print_table(report)
    for error in report.errors:
        print(f"castcore: {error}", file=sys.stderr)
    if report.errors:
        raise typer.Exit(1)


@contextmanager
def _termination() -> Iterator[None]:
    """SIGTERM ends the command as an error would, so that no file is left half-written."""

    def end(number: int, _: object) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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
