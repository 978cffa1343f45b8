"""The options that make a rule, which packets and how fast they may be: the same for captures and for live traffic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from upf.rules import RuleSet

DETECTION: Final = "Which packets"
POLICING: Final = "How fast they may be"
RESULTS: Final = "What you get"
ENGINE: Final = "How it runs"

DEFAULT_MAX_FLOWS: Final = 1 << 20
# Beyond any machine's memory, and within the integers of the flow table.
MAX_FLOWS: Final = 1 << 40

FlowOption = Annotated[
    list[str] | None,
    typer.Option(
        "--flow",
        metavar="FILTER",
        help="Flow filter (IPFilterRule), e.g. 'permit out 17 from 198.51.100.7 443 to assigned'. May be repeated: "
        "the flows share the rule's bucket.",
        rich_help_panel=DETECTION,
    ),
]
DomainOption = Annotated[
    list[str] | None,
    typer.Option(
        "--domain",
        metavar="NAME",
        help="Domain name that a flow must have (from TLS, QUIC, HTTP or DNS); '*.' before it: any name below it. "
        "May be repeated; needs no --flow.",
        rich_help_panel=DETECTION,
    ),
]
DirectionOption = Annotated[
    str | None,
    typer.Option(
        metavar="down|up|both",
        help="The direction that the rule is for: filters are written for the downlink, for the uplink source and "
        "destination are exchanged. [default: both]",
        rich_help_panel=DETECTION,
    ),
]
UeOption = Annotated[
    str | None,
    typer.Option(
        metavar="ADDR",
        help="What 'assigned' stands for in filters. [default: any address]",
        rich_help_panel=DETECTION,
    ),
]
RulesOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Rules file (TOML): many rules, each with flows, rate and mode. In place of the options for one rule.",
        rich_help_panel=DETECTION,
    ),
]
RateOption = Annotated[
    str | None,
    typer.Option(
        metavar="RATE",
        help="Bit rate, e.g. '5 Mbps'. Without it the flows are only counted.",
        rich_help_panel=POLICING,
    ),
]


def _burst_option(default: str) -> Any:
    return typer.Option(
        "--burst",
        metavar="SIZE|TIME",
        help=f"Depth of the bucket, e.g. '15000 B' or '50 ms'. [default: {default}, at least 15000 B]",
        rich_help_panel=POLICING,
    )


BurstOption = Annotated[str | None, _burst_option("100 ms")]
# Deeper: see `upf.units.LIVE_BURST_MS`.
LiveBurstOption = Annotated[str | None, _burst_option("250 ms")]
ModeOption = Annotated[
    str | None,
    typer.Option(
        metavar="MODE",
        help="police drops the excess, monitor counts it, mark writes --dscp, shape delays it. [default: police]",
        rich_help_panel=POLICING,
    ),
]
DscpOption = Annotated[
    list[str] | None,
    typer.Option(
        "--dscp",
        metavar="COLOUR=DSCP",
        help="With mode mark: the DSCP of green (conforming) or red packets, e.g. 'red=CS1'. May be repeated.",
        rich_help_panel=POLICING,
    ),
]
QueueOption = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE|TIME",
        help="With mode shape: what is held back at the most, e.g. '100 KB'. [default: 200 ms, at least 15000 B]",
        rich_help_panel=POLICING,
    ),
]
PerFlowOption = Annotated[
    bool,
    typer.Option("--per-flow", help="Give every 5-tuple a bucket of its own.", rich_help_panel=POLICING),
]
MaxFlowsOption = Annotated[
    int,
    typer.Option(min=1, max=MAX_FLOWS, metavar="N", help="Bound on the flow table.", rich_help_panel=ENGINE),
]


def rule_set_of(
    flow: Sequence[str] | None,
    domain: Sequence[str] | None,
    rate: str | None,
    burst: str | None,
    mode: str | None,
    per_flow: bool,
    rules: Path | None,
    ue: str | None,
    *,
    dscp: Sequence[str] | None,
    queue: str | None,
    direction: str | None = None,
    live: bool = False,
) -> RuleSet:
    """The one rule of the options, or those of the file; none where nothing is asked for. Raises UpfError.

    live: buckets for which no depth is given have that of live traffic.
    """
    from upf.errors import UpfError
    from upf.rules import RuleSet
    from upf.rules_file import load_rules, parse_ue, rule_from_options
    from upf.units import DEFAULT_BURST_MS, LIVE_BURST_MS

    burst_ms = LIVE_BURST_MS if live else DEFAULT_BURST_MS
    if rules is not None:
        given = {
            "--flow": flow,
            "--domain": domain,
            "--rate": rate,
            "--burst": burst,
            "--mode": mode,
            "--per-flow": per_flow,
            "--dscp": dscp,
            "--queue": queue,
            "--direction": direction,
        }
        clash = [option for option, value in given.items() if value]
        if clash:
            raise UpfError(f"option '--rules': goes without {', '.join(clash)}: the file says it")
        return load_rules(rules, ue=parse_ue(ue) if ue is not None else None, burst_ms=burst_ms)
    if not any((flow, domain, per_flow, dscp)) and rate is burst is mode is queue is direction is None:
        return RuleSet(())
    return rule_from_options(
        flows=flow or [],
        domains=domain or [],
        rate=rate,
        burst=burst,
        mode=mode,
        per_flow=per_flow,
        dscp=dscp or [],
        queue=queue,
        direction=direction,
        burst_ms=burst_ms,
        ue=ue,
    )
