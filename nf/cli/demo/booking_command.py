"""``castcore demo booking``: options in, the story or JSON out."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import asyncio

    from nf.cli.demo.booking_story import Story

_USAGE_INTERVAL_S = 0.25


def booking(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Network capabilities by area and schedule for live audio: the 5G-MAG workflow, phases A to D.

    Starts the functions on real sockets. A radio station books Quality on Demand and geofencing in two areas and plays
    to three listeners, one of whom drives through both: what is booked is installed on entry and withdrawn on leaving,
    rates are measured on packets, interruptions counted, the edition is that of the region, and one device too many is
    refused. In mid-session the booking is changed, with the same network access IDs; at the end it is released, and
    nothing is left of it. The exit status is 1 when anything was not as it should be.

    \b
    castcore demo booking
    castcore demo booking --json
    """  # noqa: D301
    from nf.cli.demo import booking_report
    from nf.cli.demo.stopping import unless_stopped
    from nf.common.run import run
    from nf.common.telemetry import configure_logging

    configure_logging("error")

    def tell(line: str) -> None:
        if not as_json:
            print(line, flush=True)

    with tempfile.TemporaryDirectory(prefix="castcore-demo-") as directory:

        async def play(stop: asyncio.Event) -> Story:
            return await unless_stopped(stop, _play(Path(directory), tell))

        story = run(play)
    print(json.dumps(booking_report.to_json(story)) if as_json else booking_report.to_text(story), flush=True)
    if story.problems:
        raise typer.Exit(1)


async def _play(directory: Path, tell: Callable[[str], None]) -> Story:
    from nf.cli.configuration import Configuration, StateSection
    from nf.cli.demo.booking import tell_story
    from nf.cli.stack import Stack
    from nf.common.channels import Channels
    from nf.common.clock import SystemClock
    from nf.netapi.config import NetapiSection

    # Packets run faster than the clock: what is measured is told at once.
    netapi = NetapiSection(usage_interval_s=_USAGE_INTERVAL_S)
    configuration = Configuration(state=StateSection(directory=str(directory)), netapi=netapi)
    stack = Stack(configuration, functions=("netapi", "pcf", "smf", "upf"))
    await stack.start()
    channels = Channels(stack.grpc, function="demo")

    def credentialed(credential: str) -> Channels:
        return Channels(stack.grpc, function="demo", token=credential)

    try:
        tell(f"            {', '.join(f'{name} {address}' for name, address in stack.grpc.items())}")
        return await tell_story(channels, credentialed, SystemClock(), tell)
    finally:
        await channels.close()
        await stack.stop()
