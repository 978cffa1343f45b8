"""``castcore up`` and ``castcore run``: the functions, in one process or in one each."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

if TYPE_CHECKING:
    from nf.cli.stack import Stack
    from upf.config import TunSection

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", metavar="FILE", help="Configuration (TOML). [default: none needed]")
]
DirOption = Annotated[
    Path | None, typer.Option("--dir", metavar="DIR", help="Where state is kept. [default: ./castcore-state]")
]
AccessOption = Annotated[
    str | None,
    typer.Option("--access", metavar="IFACE[@NETNS]", help="Tun device on the side of the UEs: live traffic."),
]
N3Option = Annotated[
    str | None,
    typer.Option("--n3", metavar="ADDR[:PORT][@NETNS]", help="In place of --access: where gNBs send GTP-U."),
]
CoreOption = Annotated[
    str | None, typer.Option("--core", metavar="IFACE[@NETNS]", help="Tun device on the side of the data network.")
]
AddressOption = Annotated[
    list[str] | None,
    typer.Option("--address", metavar="SIDE=CIDR", help="Address of the device access or core. May be repeated."),
]
RouteOption = Annotated[
    list[str] | None,
    typer.Option(
        "--route", metavar="SIDE=CIDR", help="Network reached through the device access or core. May be repeated."
    ),
]
MtuOption = Annotated[
    int | None, typer.Option("--mtu", min=68, max=65535, metavar="BYTES", help="MTU of both devices. [default: 1500]")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Once everything serves, one JSON line with the addresses.")]


def up(
    config: ConfigOption = None,
    directory: DirOption = None,
    access: AccessOption = None,
    n3: N3Option = None,
    core: CoreOption = None,
    address: AddressOption = None,
    route: RouteOption = None,
    mtu: MtuOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run every function and the UPF in this process until SIGTERM or Ctrl-C.

    Ports that the configuration does not name are free ones. What was acknowledged survives, also SIGKILL: start it
    again on the same directory. With --access and --core the UPF makes these two tun devices, and polices what passes
    between them; with --n3 it comes from gNBs instead.

    \b
    castcore up
    castcore up --dir /tmp/lab --json
    castcore up --access ue0@ue --core dn0@dn --address access=10.45.0.2/24 --address core=198.51.100.7/24
    """  # noqa: D301
    _serve(None, config, directory, _Devices(access, n3, core, address, route, mtu), as_json=as_json)


def run(
    function: Annotated[str, typer.Argument(metavar="NF", help="af, pcf, smf or upf.")],
    config: ConfigOption = None,
    directory: DirOption = None,
    access: AccessOption = None,
    n3: N3Option = None,
    core: CoreOption = None,
    address: AddressOption = None,
    route: RouteOption = None,
    mtu: MtuOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run one function in this process; the configuration file says where the others are.

    --access, --core and what goes with them are for the UPF.

    \b
    castcore run upf --config lab.toml
    castcore run smf --config lab.toml
    """  # noqa: D301
    devices = _Devices(access, n3, core, address, route, mtu)
    if function != "upf" and devices.given:
        raise typer.BadParameter(f"found devices for {function}, expected them for upf", param_hint="NF")
    _serve(function, config, directory, devices, as_json=as_json)


@contextmanager
def _loading() -> Iterator[None]:
    """Modules are many objects that stay: to look for rubbish among them is a sixth of the time that loading takes."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class _Devices(NamedTuple):
    """The options about the devices of the UPF."""

    access: str | None
    n3: str | None
    core: str | None
    addresses: list[str] | None
    routes: list[str] | None
    mtu: int | None

    @property
    def given(self) -> bool:
        return any(each not in (None, []) for each in self)

    def section(self) -> TunSection:
        """The section of the configuration that they stand for. Raises UpfError, ConfigError."""
        from nf.cli.tun.options import DeviceOptions, sides_of
        from upf.config import TunSection
        from upf.errors import UpfError

        if (self.access is None and self.n3 is None) or self.core is None:
            missing = "--core" if self.core is None else "--access"
            raise UpfError(f"option '{missing}': missing, expected both devices of live traffic")
        access, core = sides_of(self.access, self.n3, self.core, self.addresses or (), self.routes or ())
        device = access if isinstance(access, DeviceOptions) else None
        return TunSection(
            access=None if device is None else str(device.place),
            n3=str(access) if device is None else None,
            core=str(core.place),
            access_addresses=() if device is None else device.addresses,
            core_addresses=core.addresses,
            access_routes=() if device is None else device.routes,
            core_routes=core.routes,
            mtu=self.mtu,
        )


def _serve(
    function: str | None, config: Path | None, directory: Path | None, devices: _Devices, *, as_json: bool
) -> None:
    """Serves one function, or all of them, as the configuration says."""
    # What is wrong with the configuration is told before all the rest is loaded.
    with _loading():
        from nf.cli.configuration import PEERS, read

    functions = tuple(PEERS) if function is None else (function,)
    if function is not None and function not in PEERS:
        raise typer.BadParameter(f"found {function!r}, expected one of {', '.join(PEERS)}", param_hint="NF")
    configuration = read(config)
    if directory is not None:
        state = configuration.state.model_copy(update={"directory": str(directory)})
        configuration = configuration.model_copy(update={"state": state})
    if devices.given:
        upf = configuration.upf.model_copy(update={"tun": devices.section()})
        configuration = configuration.model_copy(update={"upf": upf})
    with _loading():
        import asyncio

        from nf.cli.running import announced
        from nf.cli.stack import Stack, load
        from nf.common.run import run as run_until_stopped
        from nf.common.telemetry import configure_logging

        load(functions)

    configure_logging(configuration.log.level, configuration.log.format)

    async def serve(stop: asyncio.Event) -> None:
        stack = Stack(configuration, functions=functions)
        await stack.start()
        # What has been loaded stays: looking through it for rubbish holds every call up for a tenth of a second.
        gc.collect()
        gc.freeze()
        # Each call leaves hundreds of objects behind for a moment, and hardly ever a cycle.
        gc.set_threshold(20_000, 20, 50)
        failed, stopped = asyncio.ensure_future(stack.failed()), asyncio.ensure_future(stop.wait())
        try:
            with announced(Path(configuration.state.directory), stack.http, stack.grpc):
                _tell(stack, as_json=as_json)
                await asyncio.wait((failed, stopped), return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                raise failed.result()
        finally:
            failed.cancel()
            stopped.cancel()
            await stack.stop()

    run_until_stopped(serve)


def _tell(stack: Stack, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"ready": True, "http": stack.http, "grpc": stack.grpc}), flush=True)
        return
    for name, address in stack.grpc.items():
        print(f"{name:<5} {address}")
    print(f"http  {stack.http}/metrics\ncastcore serves; Ctrl-C stops it", flush=True)
