"""A run of ``castcore tun``, from the devices to the last line."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nf.cli.tun.samples import Sample, Sampler
from nf.cli.tun.view import Ready, Teller
from upf.directions import downlink_rules, uplink_rules
from upf.engine import Engine
from upf.live.bump import DOWNLINK, UPLINK, Bump
from upf.live.devices import TunDevice, open_tun
from upf.live.n3 import N3Bump, N3Socket, open_n3
from upf.live.n3_place import DEFAULT_MTU, N3Place
from upf.rules import Rule
from upf.tunnels import Tunnel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nf.cli.tun.options import DeviceOptions

INTERVAL_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """What is to run. ``tunnels``: sessions on N3, where that is the access side.

    ``grpc_address``: where an SMF finds the UPF's gRPC server, whose rules are then those in force; None: ``rules``
    are. ``metrics_address``: where Prometheus finds the counters; None: nowhere. ``duration_s`` of None:
    until it is ended.
    """

    access: DeviceOptions | N3Place
    core: DeviceOptions
    mtu: int | None
    rules: Sequence[Rule]
    tunnels: Sequence[Tunnel]
    max_flows: int
    grpc_address: str | None
    metrics_address: str | None
    duration_s: float | None


async def run_live(options: LiveOptions, teller: Teller, stop: asyncio.Event) -> None:
    """Forwards until ``stop`` is set, the time is over, or a device has gone (which raises UpfError)."""
    loop = asyncio.get_running_loop()
    under_smf = options.grpc_address is not None
    engines = {
        direction: Engine(max_flows=options.max_flows, flow_times=True, pass_unmatched=not under_smf)
        for direction in (UPLINK, DOWNLINK)
    }
    engines[UPLINK].install(uplink_rules(options.rules))
    engines[DOWNLINK].install(downlink_rules(options.rules))
    async with AsyncExitStack() as stack:
        access = _opened(options.access, options)
        stack.enter_context(access)
        core = _opened(options.core, options)
        stack.enter_context(core)
        kind = N3Bump if isinstance(access, N3Socket) else Bump
        bump = kind(
            access,
            core,
            uplink=engines[UPLINK],
            downlink=engines[DOWNLINK],
            forwarding=not under_smf,
            on_failure=lambda: loop.call_soon_threadsafe(stop.set),
        )
        if isinstance(bump, N3Bump):
            bump.change_tunnels(options.tunnels)
        served: dict[str, str] = {}
        if under_smf or options.metrics_address is not None:
            from nf.cli.tun.serving import served as serve

            served = await stack.enter_async_context(
                serve(bump, engines, grpc_address=options.grpc_address, metrics_address=options.metrics_address)
            )
        messages = bump.messages if isinstance(bump, N3Bump) else None
        sampler = Sampler(bump, engines, idle_rules=not under_smf, messages=messages)
        stack.enter_context(teller)
        bump.start()
        try:
            teller.ready(Ready(access.place, options.core.place, served))
            await _tell(sampler, teller, stop, options.duration_s)
        finally:
            bump.stop()
        teller.final(sampler.take())
    if bump.failure is not None:
        raise bump.failure


def _opened(side: DeviceOptions | N3Place, options: LiveOptions) -> TunDevice | N3Socket:
    """One side. Raises UpfError."""
    if isinstance(side, N3Place):
        return open_n3(side)
    mtu = options.mtu
    if mtu is None and isinstance(options.access, N3Place):
        mtu = DEFAULT_MTU
    return open_tun(side.place, addresses=side.addresses, routes=side.routes, mtu=mtu)


async def _tell(sampler: Sampler, teller: Teller, stop: asyncio.Event, duration_s: float | None) -> None:
    """A sample every second, until it is over."""
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    ends_s = None if duration_s is None else started_s + duration_s
    before: Sample | None = None
    next_s = started_s
    while True:
        next_s = max(next_s + INTERVAL_S, loop.time())
        if await _stopped_by(stop, next_s if ends_s is None else min(next_s, ends_s)):
            return
        if ends_s is not None and loop.time() >= ends_s:
            return
        # The engines may let us wait; others of this loop need not.
        now = await asyncio.to_thread(sampler.take, since=before)
        teller.sample(now, before)
        before = now


async def _stopped_by(stop: asyncio.Event, at_s: float) -> bool:
    """Waits until then at the longest; whether it is to stop."""
    try:
        async with asyncio.timeout_at(at_s):
            await stop.wait()
    except TimeoutError:
        return False
    return True
