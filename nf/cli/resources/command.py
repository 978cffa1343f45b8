"""``castcore ls``, ``castcore show`` and ``castcore watch``: options in; tables, or JSON a line, out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from nf.cli.resources.kinds import KINDS, SOURCES, Kind
from nf.cli.tls_options import TlsCaOption, TlsCertificateOption, TlsKeyOption, TokenOption

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from nf.common.channels import Channels
    from nf.common.tls import Credentials

KindArgument = Annotated[str, typer.Argument(metavar="KIND", help="A kind of resource, as listed below.")]
GrpcOption = Annotated[
    list[str] | None,
    typer.Option(
        "--grpc", metavar="NF=HOST:PORT", help="Where a function is, e.g. 'af=127.0.0.1:7001'. May be repeated."
    ),
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", metavar="FILE", help="The stack's configuration (TOML).")
]
DirOption = Annotated[
    Path | None,
    typer.Option(
        "--dir", metavar="DIR", help="State directory of a stack on this machine. [default: ./castcore-state]"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="For scripts: one JSON object a line.")]

_KINDS_HELP = "\b\n" + "\n".join(f"  {name:<38}{kind.about}" for name, kind in KINDS.items())


def ls(
    kind: KindArgument,
    session: Annotated[
        str | None, typer.Option("--session", metavar="ID", help="Only what belongs to this provisioning session.")
    ] = None,
    app_session: Annotated[
        str | None, typer.Option("--app-session", metavar="ID", help="Only what belongs to this application session.")
    ] = None,
    supi: Annotated[str | None, typer.Option("--supi", metavar="SUPI", help="Only what is this subscriber's.")] = None,
    service: Annotated[
        str | None, typer.Option("--service", metavar="ID", help="Only what belongs to this MBS user service.")
    ] = None,
    booking: Annotated[str | None, typer.Option("--booking", metavar="ID", help="Only what belongs to it.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, metavar="N", help="At most so many; 0: all.")] = 0,
    grpc: GrpcOption = None,
    config: ConfigOption = None,
    directory: DirOption = None,
    tls_ca: TlsCaOption = None,
    tls_certificate: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List resources of a running stack, those of one kind.

    The stack is found by its state directory, or by --config or --grpc.
    """
    asked = {"session": session, "app-session": app_session, "supi": supi, "service": service, "booking": booking}
    filters = {name: value for name, value in asked.items() if value is not None}
    wanted = _kind(kind)
    for name in filters:
        if name not in wanted.filters:
            expected = " and ".join(f"--{each}" for each in wanted.filters) or "no such option"
            raise typer.BadParameter(f"{kind} cannot be narrowed by it, expected {expected}", param_hint=f"--{name}")

    async def tell(channels: Channels) -> None:
        from nf.cli.resources.telling import tell_list

        await tell_list(channels, kind, filters, limit=limit, as_json=as_json)

    _with_channels(tell, [wanted.function], grpc, config, directory, _Shown(tls_ca, tls_certificate, tls_key, token))


def show(
    kind: KindArgument,
    name: Annotated[str, typer.Argument(metavar="ID", help="Its identifier, as ls shows it.")],
    grpc: GrpcOption = None,
    config: ConfigOption = None,
    directory: DirOption = None,
    tls_ca: TlsCaOption = None,
    tls_certificate: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one resource of a running stack, whole.

    The stack is found by its state directory, or by --config or --grpc.
    """
    wanted = _kind(kind)

    async def tell(channels: Channels) -> None:
        from nf.cli.resources.telling import tell_one

        await tell_one(channels, kind, name, as_json=as_json)

    _with_channels(tell, [wanted.function], grpc, config, directory, _Shown(tls_ca, tls_certificate, tls_key, token))


def watch(
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="NF",
            help="af, netapi, pcf, smf, mbsf or mbstf: whose events. May be repeated. [default: af]",
        ),
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option(
            "--subject",
            metavar="SUBJECT",
            help="Only events about it or what stands below it: 'dynamic-policies/7c2f'.",
        ),
    ] = None,
    after: Annotated[
        int | None,
        typer.Option(
            "--after",
            min=0,
            metavar="N",
            help="Only events of a higher sequence; 0: all that are kept. [default: new ones]",
        ),
    ] = None,
    no_follow: Annotated[
        bool, typer.Option("--no-follow", help="End after what is kept, instead of waiting for more.")
    ] = False,
    grpc: GrpcOption = None,
    config: ConfigOption = None,
    directory: DirOption = None,
    tls_ca: TlsCaOption = None,
    tls_certificate: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell the events of a running stack as they happen, until Ctrl-C.

    Without --after it begins now; with --no-follow and without --after, with the first event that is kept. A function
    that is restarted is waited for, and nothing is missed. Sequences are each function's own.

    \b
    castcore watch
    castcore watch --from af --from pcf --after 0 --json
    castcore watch --subject dynamic-policies --no-follow
    """  # noqa: D301
    sources = list(dict.fromkeys(source or ["af"]))
    for each in sources:
        if each not in SOURCES:
            raise typer.BadParameter(f"found {each!r}, expected one of {', '.join(SOURCES)}", param_hint="--from")

    async def tell(channels: Channels) -> None:
        from nf.cli.resources.telling import tell_events

        begin = 0 if after is None and no_follow else after
        await tell_events(channels, sources, subject or "", after=begin, follow=not no_follow, as_json=as_json)

    _with_channels(tell, sources, grpc, config, directory, _Shown(tls_ca, tls_certificate, tls_key, token))


class _Shown(NamedTuple):
    """What the command shows: a certificate and a token."""

    ca: Path | None
    certificate: Path | None
    key: Path | None
    token: str | None

    def credentials(self, config: Path | None) -> Credentials | None:
        """As the options say, else as the configuration does, for the name "operator".

        Raises InvalidArgument, TlsError.
        """
        from nf.cli.configuration import read
        from nf.cli.tls_options import credentials_of
        from nf.common.tls import Credentials

        told = credentials_of(self.ca, self.certificate, self.key)
        section = read(config).tls
        if told is not None or section is None:
            return told
        return Credentials.load(section, "operator")


for _command in (ls, show):
    _command.__doc__ = f"{_command.__doc__}\n\n{_KINDS_HELP}\n"


def _kind(name: str) -> Kind:
    if name not in KINDS:
        raise typer.BadParameter(f"found {name!r}, expected one of {', '.join(KINDS)}", param_hint="KIND")
    return KINDS[name]


def _with_channels(
    work: Callable[[Channels], Awaitable[None]],
    functions: list[str],
    grpc: list[str] | None,
    config: Path | None,
    directory: Path | None,
    shown: _Shown,
) -> None:
    """Does the work, with channels to the functions; Ctrl-C ends it."""
    import asyncio

    from nf.cli.resources.whereabouts import addresses
    from nf.common.channels import Channels
    from nf.common.run import run

    targets = addresses(functions, grpc or (), config, directory)
    tls = shown.credentials(config)

    async def until_stopped(stop: asyncio.Event) -> None:
        channels = Channels(targets, function="command", tls=tls, token=shown.token or "")
        working = asyncio.ensure_future(work(channels))
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            stopping.cancel()
            working.cancel()
            await asyncio.wait((working,))
            await channels.close()

    run(until_stopped)
