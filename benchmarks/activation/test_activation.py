"""How long from a request at M5 to the first live packet that is policed by what it asks for?"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest
from live.networks import networks, required
from live.steady_flow import SteadyFlow, missing, steady_flow
from running_core import (
    POLICE,
    SERVER,
    SERVER_PORT,
    UE,
    UE_PORT,
    Prepared,
    castcore,
    one_process_each,
    prepare,
)

from benchmarks.conftest import Results
from nf.common.channels import Channels

pytestmark = pytest.mark.timeout(600)

ACTIVATIONS = 300
# 16 Mbit/s: the next packet to be policed is never far.
IP_BYTES, GAP_US = 1_000, 500
# Of the policy: a packet and a half, so that the second one is already too much.
BURST_BYTES = 1_500
STACKS = ("castcore up", "a process each")


@dataclass(frozen=True)
class Activation:
    """One policy: when it was asked for and answered, and the first packet that was missing then."""

    asked_ns: int
    answered_ns: int
    first_missing: int


@asynccontextmanager
async def core(stack: str, directory: Path, devices: Sequence[str]) -> AsyncIterator[Channels]:
    """The functions, in one process or in four, on the machine that sends and receives too."""
    with ExitStack() as running:
        if stack == "castcore up":
            _, ready = running.enter_context(castcore("up", "--dir", str(directory), *devices))
            addresses = ready["grpc"]
        else:
            arguments = ("--config", str(one_process_each(directory)))
            addresses = {}
            for function in ("upf", "pcf", "smf", "af"):
                more = devices if function == "upf" else ()
                _, ready = running.enter_context(castcore("run", function, *arguments, *more))
                addresses |= ready["grpc"]
        channels = Channels(addresses)
        try:
            yield channels
        finally:
            await channels.close()


async def activate_once(session: Prepared, flow: SteadyFlow) -> Activation:
    """Activates the policy, awaits that it polices, ends it and awaits that all passes again."""
    begun = len(flow.arrivals) - 1
    asked_ns = time.monotonic_ns()
    await session.activate()
    answered_ns = time.monotonic_ns()
    arrivals = (await flow.until(lambda all_of_it: missing(all_of_it[begun:]) > 0))[begun:]
    at = next(at for at, each in enumerate(arrivals) if each.number != arrivals[0].number + at)
    ended_at = len(flow.arrivals)
    await session.handler.deactivate()
    await flow.until(lambda all_of_it: len(all_of_it) > ended_at + 20 and missing(all_of_it[-20:]) == 0)
    return Activation(asked_ns, answered_ns, arrivals[0].number + at)


@pytest.mark.parametrize("stack", STACKS)
async def test_from_m5_to_the_first_policed_packet(
    stack: str, tmp_path: Path, results_of: Callable[..., Results]
) -> None:
    required()
    results = results_of(
        "activation", about="From a request at M5 to the first live packet policed under it", parts=STACKS
    )
    chance = random.Random(0)
    with networks("ue", "dn") as (ue, data_network):
        devices = (
            "--access", f"ue0@{ue.name}", "--core", f"dn0@{data_network.name}",
            "--address", f"access={UE}/32", "--address", f"core={SERVER}/32",
            "--route", "access=default", "--route", "core=10.45.0.0/16",
        )  # fmt: skip
        async with core(stack, tmp_path, devices) as channels:
            session = await prepare(channels, method=POLICE, burst_bytes=BURST_BYTES)
            ends = (data_network, SERVER_PORT, ue, (UE, UE_PORT))
            async with steady_flow(*ends, ip_bytes=IP_BYTES, gap_us=GAP_US) as flow:
                await flow.more(1_000)
                activations = []
                for _ in range(ACTIVATIONS):
                    activations.append(await activate_once(session, flow))
                    await asyncio.sleep(chance.uniform(0, 0.02))
    # Nothing is missing that was sent before the policy was asked for.
    policed_ms = [(flow.sent_ns[each.first_missing] - each.asked_ns) / 1e6 for each in activations]
    answered_ms = [(each.answered_ns - each.asked_ns) / 1e6 for each in activations]
    assert min(policed_ms) > 0
    results.add(
        stack,
        [
            {"subject": stack, "from the request to": what, "activations": len(times_ms), **percentiles(times_ms)}
            for what, times_ms in (("its answer", answered_ms), ("the first policed packet", policed_ms))
        ],
    )


def percentiles(times_ms: list[float]) -> dict[str, float]:
    ordered = sorted(times_ms)
    return {
        "median_ms": round(median(ordered), 2),
        "p90_ms": round(ordered[round(0.9 * len(ordered)) - 1], 2),
        "p99_ms": round(ordered[round(0.99 * len(ordered)) - 1], 2),
        "longest_ms": round(ordered[-1], 2),
    }
