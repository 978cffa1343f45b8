"""``castcore up`` and ``castcore run``: the functions, in one process or in one each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nf.cli.stack import Stack

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", metavar="FILE", help="Configuration (TOML). [default: none needed]")
]
DirOption = Annotated[
    Path | None, typer.Option("--dir", metavar="DIR", help="Where state is kept. [default: ./castcore-state]")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Once everything serves, one JSON line with the addresses.")]


def up(config: ConfigOption = None, directory: DirOption = None, as_json: JsonOption = False) -> None:
    """Run every function and the UPF in this process until SIGTERM or Ctrl-C.

    Ports that the configuration does not name are free ones. What was acknowledged survives, also SIGKILL: start it
    again on the same directory.

    \b
    castcore up
    castcore up --dir /tmp/lab --json
    """  # noqa: D301
    from nf.cli.stack import FUNCTIONS

    _serve(FUNCTIONS, config, directory, as_json=as_json)


def run(
    function: Annotated[str, typer.Argument(metavar="NF", help="af, pcf, smf or upf.")],
    config: ConfigOption = None,
    directory: DirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run one function in this process; the configuration file says where the others are.

    \b
    castcore run upf --config lab.toml
    castcore run smf --config lab.toml
    """  # noqa: D301
    from nf.cli.stack import FUNCTIONS

    if function not in FUNCTIONS:
        raise typer.BadParameter(f"found {function!r}, expected one of {', '.join(FUNCTIONS)}", param_hint="NF")
    _serve([function], config, directory, as_json=as_json)


def _serve(functions: Sequence[str], config: Path | None, directory: Path | None, *, as_json: bool) -> None:
    import asyncio

    from nf.cli.configuration import read
    from nf.cli.stack import Stack
    from nf.common.run import run as run_until_stopped
    from nf.common.telemetry import configure_logging

    configuration = read(config)
    if directory is not None:
        state = configuration.state.model_copy(update={"directory": str(directory)})
        configuration = configuration.model_copy(update={"state": state})
    configure_logging(configuration.log.level, configuration.log.format)

    async def serve(stop: asyncio.Event) -> None:
        stack = Stack(configuration, functions=functions)
        await stack.start()
        try:
            _tell(stack, as_json=as_json)
            await stop.wait()
        finally:
            await stack.stop()

    run_until_stopped(serve)


def _tell(stack: Stack, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"ready": True, "http": stack.http, "grpc": stack.grpc}), flush=True)
        return
    for name, address in stack.grpc.items():
        print(f"{name:<5} {address}")
    print(f"http  {stack.http}/metrics\ncastcore serves; Ctrl-C stops it", flush=True)
