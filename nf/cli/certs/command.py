"""``castcore certs``: makes the lab's authority and certificates for the functions and their clients; shows one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer
from typer.core import TyperGroup

# Those that serve, and those that only call.
SERVERS: Final = ("af", "netapi", "pcf", "smf", "mbsf", "mbstf", "upf", "http")
CLIENTS: Final = ("ue", "provider", "operator")


class _MakingGroup(TyperGroup):
    """A group whose command ``make`` may go unsaid: ``castcore certs af`` is ``castcore certs make af``."""

    def parse_args(self, ctx, args):  # type: ignore[no-untyped-def] # its types have moved between releases
        if not args or (args[0] not in self.commands and args[0] not in ("-h", "--help")):
            args = ["make", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_MakingGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Certificates for a lab: castcore certs makes an authority and what stands below it.",
)


@app.command()
def make(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help=f"Whom certificates are for. [default: {' '.join((*SERVERS, *CLIENTS))}]",
            show_default=False,
        ),
    ] = None,
    directory: Annotated[Path, typer.Option("--dir", metavar="DIR", help="Where the files go.")] = Path(
        "castcore-certs"
    ),
    san: Annotated[
        list[str] | None,
        typer.Option(
            "--san", metavar="HOST", help="Another host name or address at which servers are reached. May be repeated."
        ),
    ] = None,
    days: Annotated[
        int, typer.Option("--days", min=1, max=3650, metavar="N", help="How long the certificates are good.")
    ] = 365,
    client: Annotated[
        bool, typer.Option("--client", help="The NAMEs are clients: their certificates are not good for servers.")
    ] = False,
) -> None:
    """Make the authority (ca.pem, ca.key) unless DIR has one, and NAME.pem and NAME.key for every name.

    Nothing is overwritten. The lines of the configuration that use the files go to standard output.

    \b
    castcore certs
    castcore certs make --dir lab-certs --san 192.0.2.10 --san core.lab
    castcore certs make --dir lab-certs --client player-1 player-2
    """  # noqa: D301
    from nf.cli.certs.making import configuration_lines, make_files

    wanted = tuple(names or (*SERVERS, *CLIENTS))
    only_clients = {*CLIENTS, *(wanted if client else ())}
    made = make_files(directory, wanted, alternatives=tuple(san or ()), days=days, clients=only_clients)
    for file in made:
        typer.echo(f"wrote {file}", err=True)
    print("\n".join(configuration_lines(directory)))


@app.command(no_args_is_help=True)
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A certificate (PEM).", show_default=False)],
) -> None:
    """Tell what a certificate says: for whom, for what, how long, by whom.

    \b
    castcore certs show castcore-certs/af.pem
    """  # noqa: D301
    from nf.cli.certs.making import told_lines

    print("\n".join(told_lines(file)))
