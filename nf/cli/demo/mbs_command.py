"""``castcore demo mbs``: options in, the story or JSON out."""

from __future__ import annotations

import json
import random
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import asyncio

    from nf.cli.demo.mbs import Story, Terms

_LEAST_BPS = 20_000_000
_MOST_BPS = 400_000_000
# What a distribution takes at the most where no rate is given, if _MOST_BPS allow it.
_SECONDS = 10.0
_FEC_PERCENT = 20


def mbs(
    source: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Files to distribute, with those in its directories. [default: 20 made up]"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where what the client received stays. [default: nowhere]")
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(
            metavar="RATE", help="Bit rate of the session. [default: 20 Mbps, more where that takes over 10 s]"
        ),
    ] = None,
    fec: Annotated[
        int, typer.Option(metavar="PERCENT", min=0, max=100, help="Reed–Solomon repair symbols; 0: no code.")
    ] = _FEC_PERCENT,
    loss: Annotated[
        float, typer.Option(metavar="PERCENT", min=0, max=90, help="Packets that the client does not get to see.")
    ] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """A folder of files by multicast, from a provider's web server to what a client received (TS 26.502 §4.6).

    Starts the functions on real sockets, provisions a service and a distribution session whose period begins in some
    seconds, and follows its life: INACTIVE, ESTABLISHED, ACTIVE, DEACTIVATING, INACTIVE, no longer provisioned. The
    MBSTF fetches the files and sends them by FLUTE to the MB-UPF, which polices them once and sends them to a group on
    the loopback interface. A client reads the announcement, joins, receives, and repairs by HTTP what it has missed.

    \b
    castcore demo mbs
    castcore demo mbs --source recordings --output received
    castcore demo mbs --loss 5
    castcore demo mbs --loss 30 --json
    """  # noqa: D301
    from nf.cli.demo import mbs_content, mbs_report
    from nf.cli.demo.mbs import Terms
    from nf.cli.demo.stopping import unless_stopped
    from nf.common.run import run
    from nf.common.telemetry import configure_logging
    from upf.units import parse_bit_rate

    configure_logging("error")
    with tempfile.TemporaryDirectory(prefix="castcore-demo-") as directory:
        made = Path(directory) / "source"
        if source is None:
            mbs_content.make(made)
        pieces = mbs_content.pieces(source or made)
        terms = Terms(
            (source or made).resolve(),
            (output or Path(directory) / "output").resolve(),
            pieces,
            parse_bit_rate(rate) if rate is not None else _rate_bps(sum(each.size_bytes for each in pieces)),
            fec,
            loss / 100,
        )

        def tell(line: str) -> None:
            if not as_json:
                print(line, flush=True)

        async def play(stop: asyncio.Event) -> Story:
            return await unless_stopped(stop, _play(terms, Path(directory), tell))

        story = run(play)
        print(json.dumps(mbs_report.to_json(story)) if as_json else mbs_report.to_text(story), flush=True)
    if not story.identical:
        raise typer.Exit(1)


def _rate_bps(size_bytes: int) -> int:
    return min(max(_LEAST_BPS, int(size_bytes * 8 * 1.5 / _SECONDS)), _MOST_BPS)


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _play(terms: Terms, directory: Path, tell: Callable[[str], None]) -> Story:
    from nf.cli.configuration import Configuration, StateSection
    from nf.cli.demo.mbs import LEAD_S, tell_story
    from nf.cli.stack import Stack
    from nf.common.channels import Channels
    from nf.common.clock import SystemClock
    from nf.mbsf.config import MbsfSection

    # Of its own, whoever else multicasts on this host.
    groups = f"232.{random.randrange(64, 80)}.{random.randrange(256)}.0/24"
    mbsf = MbsfSection(establishment_lead_s=LEAD_S, multicast_groups=groups, multicast_port=_free_port())
    stack = Stack(Configuration(state=StateSection(directory=str(directory / "state")), mbsf=mbsf))
    await stack.start()
    channels = Channels(stack.grpc, function="demo")
    try:
        tell(f"            {', '.join(f'{name} {address}' for name, address in stack.grpc.items())}")
        return await tell_story(channels, stack.http, SystemClock(), terms, tell)
    finally:
        await channels.close()
        await stack.stop()
