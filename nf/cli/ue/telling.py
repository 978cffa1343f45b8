"""Service access information, policies and populations, for eyes and for scripts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from nf.af.v1.media_session_pb2 import DynamicPolicy, SdfMethod, ServiceAccessInformation
from nf.common import codec
from nf.common.v1.types_pb2 import EnforcementMethod

if TYPE_CHECKING:
    from nf.client.population import Population


def access_lines(information: ServiceAccessInformation, max_age_s: float) -> Iterable[str]:
    """Service access information, a fact a line."""
    yield f"provisioning session  {information.provisioning_session_id}"
    for each in information.streaming_access.entry_points:
        yield f"entry point           {each.locator} ({each.content_type})"
    if information.HasField("client_consumption_reporting_configuration"):
        told = information.client_consumption_reporting_configuration
        interval = f"every {told.reporting_interval_s} s" if told.HasField("reporting_interval_s") else "no interval"
        location = "with location" if told.location_reporting else "no location"
        yield f"consumption reports   {interval}, {told.sample_percentage:g} % of sessions, {location}"
        yield f"                      to {', '.join(told.server_addresses)}"
    else:
        yield "consumption reports   not wanted"
    policies = information.dynamic_policy_invocation_configuration
    for binding in policies.policy_template_bindings:
        yield f"network policy        {binding.external_reference} (template {binding.policy_template_id})"
    if policies.sdf_methods:
        methods = (SdfMethod.Name(each).removeprefix("SDF_METHOD_") for each in policies.sdf_methods)
        yield f"flow descriptions     {', '.join(methods)}"
    yield f"may be kept for       {max_age_s:g} s"


def policy_lines(policy: DynamicPolicy) -> Iterable[str]:
    """A dynamic policy, a fact a line."""
    state = DynamicPolicy.State.Name(policy.state).removeprefix("STATE_")
    yield f"dynamic policy  {policy.dynamic_policy_id}  {state}"
    if policy.HasField("state_reason"):
        yield f"because         {policy.state_reason.detail or policy.state_reason.cause}"
    method = EnforcementMethod.Name(policy.enforcement_method).removeprefix("ENFORCEMENT_METHOD_")
    yield f"enforced        {method} at {policy.enforcement_bit_rate_bps:,} bit/s"
    if policy.ue_address:
        yield f"UE              {policy.ue_address}"
    yield f"flows           {len(policy.service_data_flow_descriptions)}"


def policy_json(policy: DynamicPolicy) -> str:
    """A dynamic policy as a JSON line, with castcore's own properties."""
    return json.dumps(codec.to_json(policy, internal=True))


def population_line(population: Population, elapsed_s: float, before: int) -> str:
    """How a population is doing."""
    measured = population.measurements
    reports = population.reports
    taken = measured.latencies["report"]
    rate = reports.sent - before
    errors = sum(measured.errors.values())
    return (
        f"{elapsed_s:7.1f} s  {population.playing:>6,} playing  {population.sessions:>7,} sessions  "
        f"{reports.sent:>8,} reports ({rate:,}/s)  p50 {taken.quantile_s(0.5) * 1000:.1f} ms  "
        f"p99 {taken.quantile_s(0.99) * 1000:.1f} ms  {population.reports_waiting:,} waiting  {errors:,} errors"
    )


def population_json(population: Population, elapsed_s: float) -> dict[str, object]:
    """What a population has done."""
    measured, reports = population.measurements, population.reports
    return {
        "clients": population.plan.clients,
        "elapsed_s": round(elapsed_s, 3),
        "sessions": population.sessions,
        "playing_max": population.playing_max,
        "reports": {
            "taken": reports.sent,
            "per_s": round(reports.sent / elapsed_s, 3) if elapsed_s else 0.0,
            "retried": reports.retried,
            "refused": reports.refused,
            "overflowed": reports.overflowed,
            "waiting": population.reports_waiting,
        },
        "policies_refused": population.policies_refused,
        "operations": {
            name: {"count": latencies.count, "per_s": round(latencies.count / elapsed_s, 3), **latencies.to_json()}
            for name, latencies in sorted(measured.latencies.items())
            if latencies.count
        },
        "errors": [
            {"operation": operation, "reason": reason, "count": count}
            for (operation, reason), count in sorted(measured.errors.items())
        ],
        "failures": population.failures,
    }


def population_table(told: dict[str, object]) -> Iterable[str]:
    """The same for eyes."""
    reports, operations, errors = told["reports"], told["operations"], told["errors"]
    assert isinstance(reports, dict)
    assert isinstance(operations, dict)
    assert isinstance(errors, list)
    yield f"{told['clients']:,} clients, {told['sessions']:,} sessions, at most {told['playing_max']:,} playing at once"
    yield (
        f"{reports['taken']:,} reports taken ({reports['per_s']:,.1f}/s), {reports['waiting']:,} waiting, "
        f"{reports['refused']:,} refused, {reports['overflowed']:,} given up, {reports['retried']:,} retries"
    )
    yield f"{'operation':<20}{'count':>10}{'per s':>10}{'p50 ms':>10}{'p90 ms':>10}{'p99 ms':>10}{'max ms':>10}"
    for name, each in operations.items():
        columns = "".join(f"{each[key]:>10,.1f}" for key in ("per_s", "p50_ms", "p90_ms", "p99_ms", "max_ms"))
        yield f"{name:<20}{each['count']:>10,}{columns}"
    for each in errors:
        yield f"error     {each['operation']}: {each['reason']} × {each['count']:,}"
