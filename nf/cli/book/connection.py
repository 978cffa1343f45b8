"""A platform for a command: by address, by a name of the platforms file, or that of the stack on the state directory.

Where a platform is and what is shown to it may stand at ``castcore book`` or at any command below it; the inner goes
before the outer, both before the environment.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer
from typer.core import TyperGroup, TyperOption

from nf.cli.panels import PanelCommand

if TYPE_CHECKING:
    import grpc

    from nf.cli.book.platforms import Known
    from nf.client.netapi import Platform
    from nf.client.netapi_use import NetworkAccess

PLATFORM_VARIABLE: Final = "CASTCORE_PLATFORM"
CREDENTIAL_VARIABLE: Final = "CASTCORE_CREDENTIAL"
PLATFORMS_VARIABLE: Final = "CASTCORE_PLATFORMS"

_KEY: Final = "nf.cli.book"
_PANEL: Final = "Platform"

# Option, what it takes, what it is for.
_OPTIONS: Final = (
    (
        "--platform",
        "NAME|URL|HOST:PORT",
        f"The platform: one of platforms.toml, grpc://HOST:PORT or HOST:PORT. [env: {PLATFORM_VARIABLE}; default: the "
        "stack of --dir]",
    ),
    ("--credential", "TOKEN", f"Who asks: a credential or an access token. [env: {CREDENTIAL_VARIABLE}]"),
    (
        "--platforms",
        "FILE",
        f"Platforms by name. [env: {PLATFORMS_VARIABLE}; default: ./platforms.toml, else that of ~/.config/castcore]",
    ),
    ("--dir", "DIR", "State directory of a stack on this machine. [default: ./castcore-state]"),
    ("--tls-ca", "FILE", "Speak TLS: the authority to trust (PEM)."),
    ("--tls-certificate", "FILE", "The certificate to show (PEM)."),
    ("--tls-key", "FILE", "Its key (PEM)."),
)


def _keep(name: str) -> Callable[[typer.Context, Any, Any], Any]:
    def keep(ctx: typer.Context, _: Any, value: Any) -> Any:
        # Options of a command are read after those of what it stands in.
        if value:
            ctx.meta.setdefault(_KEY, {})[name] = value
        return value

    return keep


def _options() -> list[Any]:
    made = [
        TyperOption(
            param_decls=[name],
            metavar=metavar,
            help=told,
            expose_value=False,
            callback=_keep(name),
            rich_help_panel=_PANEL,
        )
        for name, metavar, told in _OPTIONS
    ]
    made.append(
        TyperOption(
            param_decls=["--json"],
            is_flag=True,
            default=False,
            help="For scripts: one JSON object a line.",
            expose_value=False,
            callback=_keep("--json"),
        )
    )
    return made


class PlatformCommand(PanelCommand):
    """A command with the options that say which platform it speaks to."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        named["params"] = [*(named.get("params") or ()), *_options()]
        super().__init__(*arguments, **named)


class PlatformGroup(TyperGroup):
    """Commands in common; the same options before their names."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        named["params"] = [*(named.get("params") or ()), *_options()]
        super().__init__(*arguments, **named)

    format_options = PanelCommand.format_options

    # The group's own commands stand below its options.
    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Writes the commands."""
        self.format_commands(ctx, formatter)
        super().format_epilog(ctx, formatter)


def group() -> typer.Typer:
    """A group of commands about one kind of things; its callback does what is done without a command."""
    return typer.Typer(cls=PlatformGroup, invoke_without_command=True, rich_markup_mode=None)


@dataclass(frozen=True, slots=True)
class Reach:
    """What the options say, and the environment where they say nothing."""

    platform: str
    credential: str
    platforms: Path | None
    directory: Path | None
    tls_ca: Path | None
    tls_certificate: Path | None
    tls_key: Path | None
    as_json: bool

    @classmethod
    def of(cls, ctx: typer.Context, environ: Mapping[str, str] = os.environ) -> Reach:
        """Those of the command that runs."""
        told = ctx.meta.get(_KEY, {})

        def path(name: str, variable: str = "") -> Path | None:
            value = told.get(name) or environ.get(variable, "")
            return Path(value) if value else None

        return cls(
            platform=told.get("--platform") or environ.get(PLATFORM_VARIABLE, ""),
            credential=told.get("--credential") or environ.get(CREDENTIAL_VARIABLE, ""),
            platforms=path("--platforms", PLATFORMS_VARIABLE),
            directory=path("--dir"),
            tls_ca=path("--tls-ca"),
            tls_certificate=path("--tls-certificate"),
            tls_key=path("--tls-key"),
            as_json=bool(told.get("--json")),
        )

    def known(self) -> Known:
        """Where the platform is and what is shown to it. Raises InvalidArgument, Unavailable, TlsError."""
        from nf.cli.book.platforms import Known, find, target_of
        from nf.cli.tls_options import credentials_of

        told = credentials_of(self.tls_ca, self.tls_certificate, self.tls_key)
        named = find(self.platform, self.platforms, local=self.directory is not None)
        if named is not None:
            return Known(named.target, self.credential or named.credential, told or named.tls)
        target = target_of(self.platform, "option '--platform'") if self.platform else _running(self.directory)
        return Known(target, self.credential, told)


def _running(directory: Path | None) -> str:
    from nf.cli.resources.whereabouts import addresses
    from nf.common.errors import Unavailable

    try:
        return addresses(["netapi"], (), None, directory)["netapi"]
    except Unavailable as error:
        raise Unavailable(f"{str(error).partition(': expected')[0]}: expected --platform URL or --dir DIR") from None


class Connection:
    """A platform that is connected to, as provider (or operator) and as client application."""

    def __init__(self, channel: grpc.aio.Channel, *, as_json: bool) -> None:
        from nf.client.netapi import Platform
        from nf.client.netapi_use import NetworkAccess

        self.platform: Platform = Platform(channel)
        self.use: NetworkAccess = NetworkAccess(channel)
        self.as_json = as_json


def with_platform(ctx: typer.Context, work: Callable[[Connection], Awaitable[None]]) -> None:
    """Does the work with the platform that the command speaks to; Ctrl-C cancels it."""
    import asyncio

    from nf.cli.ue.connection import until_stopped
    from nf.common.channels import Channels
    from nf.common.errors import Unauthenticated

    reach = Reach.of(ctx)

    async def working(_: asyncio.Event) -> None:
        known = reach.known()
        channels = Channels({"netapi": known.target}, function="command", tls=known.tls, token=known.credential)
        try:
            await work(Connection(channels.get("netapi"), as_json=reach.as_json))
        except Unauthenticated as refused:
            if known.credential:
                raise
            raise Unauthenticated(
                f"the platform asks who calls: expected --credential, or {CREDENTIAL_VARIABLE} in the environment"
            ) from refused
        finally:
            await channels.close()

    until_stopped(working)
