"""``castcore ue population``: a population until its time is over or Ctrl-C, with a line a second."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
import sys
import time
from collections.abc import Mapping
from typing import Final

from nf.cli.ue.connection import Reach
from nf.cli.ue.telling import population_json, population_line, population_table
from nf.client.population import Plan, Population, follow
from nf.common.clock import SystemClock
from nf.common.errors import CastcoreError, InvalidArgument

_TIME: Final = re.compile(r"(?P<number>[0-9]+(\.[0-9]+)?)\s*(?P<unit>ms|s|m|h)?")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
_EVERY_S: Final = 1.0


def plan_of(
    session: str,
    clients: int,
    *,
    seed: int,
    network_policy: str | None,
    ues: str | None,
    client_prefix: str,
    times: Mapping[str, str],
) -> Plan:
    """What the options say. Raises InvalidArgument."""
    try:
        network = None if ues is None else ipaddress.ip_network(ues)
    except ValueError as error:
        raise InvalidArgument(f"option '--ues': found {ues!r}, expected a network: {error}") from None
    if network_policy and network is None:
        raise InvalidArgument("option '--ues': missing, expected the addresses of the UEs that --policy is for")
    spans = {name: seconds_of(name, text) for name, text in times.items()}
    for name in ("--duration", "--session-time", "--switch-time"):
        if not spans[name]:
            raise InvalidArgument(f"option '{name}': expected more than 0, found {times[name]!r}")
    plan = Plan(
        session,
        clients,
        duration_s=spans["--duration"],
        ramp_s=spans["--ramp"],
        session_s=spans["--session-time"],
        switch_s=spans["--switch-time"],
        reconnect_s=spans["--reconnect-time"],
        network_policy_id=network_policy or "",
        ue_network=network,
        client_prefix=client_prefix,
        seed=seed,
    )
    plan.check()
    return plan


async def populating(plan: Plan, reach: Reach, stop: asyncio.Event, *, as_json: bool) -> None:
    """Runs it and tells of it. Raises CastcoreError when not a single session could be started."""
    m5 = reach.connect()
    population = Population(plan, m5, SystemClock())
    begun, before = time.monotonic(), 0

    def tell(told: Population) -> None:
        nonlocal before
        print(population_line(told, time.monotonic() - begun, before), file=sys.stderr, flush=True)
        before = told.reports.sent

    async def stop_it() -> None:
        await stop.wait()
        population.stop()

    stopping = asyncio.create_task(stop_it())
    try:
        await follow(population, _EVERY_S, tell)
    finally:
        stopping.cancel()
        await m5.close()
    told = population_json(population, time.monotonic() - begun)
    if as_json:
        print(json.dumps(told))
    else:
        print("\n".join(population_table(told)))
    if not population.sessions and population.failures:
        raise CastcoreError(f"no session could be started: {', '.join(population.failures)}")


def seconds_of(option: str, text: str) -> float:
    """A span of time. Raises InvalidArgument, which names the option."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise InvalidArgument(f"option '{option}': found {text!r}, expected a time ('500ms', '30s', '5m', '1h')")
    return float(match["number"]) * _UNITS[match["unit"]]
