"""From the options of ``castcore replay`` to what they ask for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from upf.reports import ReportOptions
    from upf.rules import RuleSet


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
) -> RuleSet:
    """The one rule of the options, or those of the file; none where nothing is asked for. Raises UpfError."""
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
            "--dscp": dscp,
            "--queue": queue,
        }
        clash = [option for option, value in given.items() if value]
        if clash:
            raise UpfError(f"option '--rules': goes without {', '.join(clash)}: the file says it")
        return load_rules(rules, ue=parse_ue(ue) if ue is not None else None)
    if not any((flow, domain, per_flow, dscp)) and rate is burst is mode is queue is None:
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
        ue=ue,
    )


def report_options_of(
    *,
    flows: Path | None,
    flow_timeout: str | None,
    compliance: bool,
    window: str | None,
    plot: Path | None,
) -> ReportOptions | None:
    """The reports that are asked for, None where there are none. Raises UpfError, one line."""
    from upf.errors import UpfError

    if flow_timeout is not None and flows is None:
        raise UpfError("option '--flow-timeout': goes with --flows")
    if window is not None and not compliance:
        raise UpfError("option '--window': goes with --compliance")
    if not compliance and flows is None and plot is None:
        return None
    from upf.compliance import MAX_WINDOW_NS, MIN_WINDOW_NS
    from upf.counters import AVERAGING_WINDOW_NS
    from upf.flow_records import FLOW_TIMEOUT_NS
    from upf.reports import ReportOptions
    from upf.units import UnitError, parse_duration

    window_ns, flow_timeout_ns = AVERAGING_WINDOW_NS, FLOW_TIMEOUT_NS
    try:
        option = "--window"
        if window is not None:
            window_ns = parse_duration(window)
            if not MIN_WINDOW_NS <= window_ns <= MAX_WINDOW_NS or window_ns % 1000:
                raise UnitError("time", window, "1 ms to 3600 s, in whole microseconds")
        option = "--flow-timeout"
        if flow_timeout is not None:
            flow_timeout_ns = parse_duration(flow_timeout)
            if flow_timeout_ns >= 1 << 62:
                raise UnitError("time", flow_timeout, "less than a century")
    except UnitError as error:
        raise UpfError(f"option '{option}': {error.detail}") from None
    return ReportOptions(
        flows=flows, flow_timeout_ns=flow_timeout_ns, compliance=compliance, window_ns=window_ns, plot=plot
    )
