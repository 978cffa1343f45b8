"""From the options of ``castcore replay`` to the reports that they ask for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from upf.reports import ReportOptions


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
