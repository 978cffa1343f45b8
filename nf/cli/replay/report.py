"""What ``castcore replay`` prints: one JSON object for scripts, or tables for eyes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from nf.cli.figures import duration, flow_text, flow_to_json, mean_rate, rate, rule_to_json

if TYPE_CHECKING:
    from rich.console import Console

    from upf.compliance import RuleCompliance, Violation, Window
    from upf.names.inspector import InspectorCounters
    from upf.profile import Profile
    from upf.replay import Report

# Violations that the table shows of each rule; the JSON object has more.
SHOWN_VIOLATIONS: Final = 5


def to_json(report: Report) -> dict[str, object]:
    """What ``--json`` promises to scripts, and beside it what a tester asks next."""
    totals = report.totals
    told: dict[str, object] = {
        "elapsed_s": report.elapsed_s,
        "packets": totals.packets,
        "bytes": totals.bytes,
        "malformed": totals.malformed_packets,
        "unmatched": {"packets": totals.unmatched_packets, "bytes": totals.unmatched_bytes},
        "flows": totals.flows,
        "rules": [rule_to_json(name, counters) for name, counters in report.rules.items()],
        "malformed_reasons": dict(totals.malformed),
        "aged_flows": totals.aged_flows,
        "evicted_flows": totals.evicted_flows,
        "time_steps_back": totals.time_steps_back,
        "fragments_without_first": totals.fragments_without_first,
        "gtpu": dict(totals.gtpu),
    }
    if report.inspection is not None:
        told["inspection"] = asdict(report.inspection)
    if report.compliance is not None:
        told["compliance"] = [_compliance_to_json(rule) for rule in report.compliance.values()]
    if report.profile is not None:
        told["profile"] = _profile_to_json(report.profile)
    return told


def _profile_to_json(profile: Profile) -> dict[str, object]:
    whole = profile.sum_ns_per_packet
    return {
        "stages": [
            {"name": stage.name, "ns_per_packet": stage.ns_per_packet, "percent": 100 * stage.ns_per_packet / whole}
            for stage in profile.stages
        ],
        "sum_ns_per_packet": whole,
        "whole_ns_per_packet": profile.whole_ns_per_packet,
    }


def _compliance_to_json(rule: RuleCompliance) -> dict[str, object]:
    return {
        "rule": rule.rule,
        "compliant": rule.compliant,
        "threshold_bps": rule.threshold_bps,
        "window_ns": rule.window_ns,
        "offered_bytes": rule.offered_bytes,
        "passed_bytes": rule.passed_bytes,
        "excess_packets": rule.excess_packets,
        "excess_bytes": rule.excess_bytes,
        "windows": rule.windows,
        "windows_above": rule.windows_above,
        "worst_window": None if rule.worst is None else _window_to_json(rule.worst),
        "violation_count": rule.violation_count,
        "violations": [_violation_to_json(violation) for violation in rule.violations],
    }


def _window_to_json(window: Window) -> dict[str, object]:
    return {
        "start_ns": window.start_ns,
        "offered_bytes": window.offered_bytes,
        "passed_bytes": window.passed_bytes,
        "offered_bps": window.offered_bps,
        "passed_bps": window.passed_bps,
    }


def _violation_to_json(violation: Violation) -> dict[str, object]:
    return {
        "start_ns": violation.start_ns,
        "duration_ns": violation.duration_ns,
        "excess_packets": violation.excess_packets,
        "excess_bytes": violation.excess_bytes,
        "began_by": flow_to_json(violation.began_by),
    }


def print_table(report: Report) -> None:
    """The report for eyes."""
    from rich.console import Console
    from rich.table import Table

    totals = report.totals
    console = Console(highlight=False, markup=False)
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
    for name, rule in report.rules.items():
        if rule.yellow_packets:
            console.print(f"{name}: {rule.yellow_bytes:,} bytes in {rule.yellow_packets:,} packets yellow")
        if rule.gated_packets:
            console.print(f"{name}: {rule.gated_packets:,} packets stopped by the closed gate")
        if rule.delayed_packets:
            mean_ns = rule.delay_sum_ns // rule.delayed_packets
            console.print(
                f"{name}: {rule.delayed_packets:,} packets delayed, by {duration(mean_ns)} on average, "
                f"{duration(rule.delay_max_ns)} at the most",
                soft_wrap=True,
            )
    for reason, packets in totals.malformed.items():
        console.print(f"malformed: {packets:,} × {reason}")
    for message, packets in totals.gtpu.items():
        console.print(f"GTP-U: {packets:,} × {message}")
    if totals.evicted_flows:
        console.print(f"flow table full: {totals.evicted_flows:,} flows evicted (--max-flows)")
    if totals.time_steps_back:
        console.print(f"clock set back by more than 10 s: {totals.time_steps_back:,} times")
    if report.inspection is not None:
        _print_inspection(console, report.inspection)
    if report.compliance is not None:
        _print_compliance(console, report.compliance)
    if report.profile is not None:
        _print_profile(console, report.profile)


def _print_inspection(console: Console, inspection: InspectorCounters) -> None:
    """Where names come from, and whether a bound stood in the way."""
    named = f"{inspection.named:,} connections that say theirs, {inspection.learned:,} addresses in DNS answers"
    console.print(f"names: {named}", soft_wrap=True)
    for count, what in (
        (inspection.given_up, "connections given up"),
        (inspection.forgotten, "connections forgotten"),
        (inspection.forgotten_addresses, "addresses forgotten"),
    ):
        if count:
            console.print(f"names: {count:,} {what}")


def _print_profile(console: Console, profile: Profile) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stage")
    table.add_column("ns a packet", justify="right")
    table.add_column("%", justify="right")
    for stage in profile.stages:
        percent = 100 * stage.ns_per_packet / profile.sum_ns_per_packet
        table.add_row(stage.name, f"{stage.ns_per_packet:,.1f}", f"{percent:.0f}")
    console.print()
    console.print(table)
    console.print(
        f"all stages {profile.sum_ns_per_packet:,.1f} ns a packet; without a stop-watch "
        f"{profile.whole_ns_per_packet:,.1f}",
        soft_wrap=True,
    )


def _print_compliance(console: Console, compliance: Mapping[str, RuleCompliance]) -> None:
    from rich.table import Table

    rules = list(compliance.values())
    console.print()
    if not rules:
        console.print("compliance: there is no rule to comply with")
        return
    console.print(f"compliance, averaging window {duration(rules[0].window_ns)}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("rule", overflow="fold")
    for heading in ("threshold", "complies", "windows", "above", "violations", "excess bytes"):
        table.add_column(heading, justify="right")
    for rule in rules:
        table.add_row(
            rule.rule,
            "-" if rule.threshold_bps is None else rate(rule.threshold_bps) + (" a flow" if rule.per_flow else ""),
            {None: "-", True: "yes", False: "no"}[rule.compliant],
            f"{rule.windows:,}",
            "-" if rule.windows_above is None else f"{rule.windows_above:,}",
            f"{rule.violation_count:,}",
            f"{rule.excess_bytes:,}",
        )
    console.print(table)
    for rule in rules:
        if rule.worst is not None:
            console.print(
                f"worst window of {rule.rule}: {_time(rule.worst.start_ns)}, {rate(rule.worst.offered_bps)} offered, "
                f"{rate(rule.worst.passed_bps)} passed",
                soft_wrap=True,
            )
        for violation in rule.violations[:SHOWN_VIOLATIONS]:
            console.print(
                f"violation of {rule.rule}: {_time(violation.start_ns)}, for {duration(violation.duration_ns)}, "
                f"{violation.excess_bytes:,} bytes in {violation.excess_packets:,} packets, "
                f"begun by {flow_text(violation.began_by)}",
                soft_wrap=True,
            )
        if rule.violation_count > SHOWN_VIOLATIONS:
            console.print(f"violations of {rule.rule}: {rule.violation_count - SHOWN_VIOLATIONS:,} more (--json)")


def _time(ts_ns: int) -> str:
    seconds, fraction_ns = divmod(ts_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{fraction_ns // 10**6:03d} UTC"
