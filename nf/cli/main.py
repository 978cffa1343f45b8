"""The command line: what a command needs is imported when it runs, so that each starts at once."""

from __future__ import annotations

import sys
from typing import Annotated, Final

import typer

from nf.cli.certs import command as certs
from nf.cli.demo import command as demo
from nf.cli.lab.command import lab
from nf.cli.lazy import lazily
from nf.cli.mpd import command as mpd
from nf.cli.panels import PanelCommand
from nf.cli.replay.command import replay
from nf.cli.reports import command as reports
from nf.cli.resources.command import ls, show, watch
from nf.cli.tun.command import tun
from nf.cli.ue import command as ue
from nf.cli.up import run, up

INTERRUPTED: Final = 130

app = typer.Typer(
    name="castcore",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(up)
app.command(no_args_is_help=True)(run)
app.command(cls=PanelCommand, no_args_is_help=True)(replay)
app.command(cls=PanelCommand, no_args_is_help=True)(tun)
app.command(cls=PanelCommand, context_settings={"allow_interspersed_args": False})(lab)
app.command(no_args_is_help=True)(ls)
app.command(no_args_is_help=True)(show)
app.command()(watch)
app.add_typer(demo.app, name="demo")
app.add_typer(ue.app, name="ue")
app.add_typer(
    lazily("nf.cli.book.command", "Network capabilities by area and schedule: book, use, watch, give back."),
    name="book",
)
app.add_typer(mpd.app, name="mpd")
app.add_typer(certs.app, name="certs")
app.add_typer(reports.app, name="reports")


def _tell_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"castcore {version('castcore')}")
        raise typer.Exit


@app.callback()
def castcore(
    _: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_tell_version, is_eager=True)
    ] = False,
) -> None:
    """A 5G media core for labs: network functions over gRPC, and a user plane that polices real packets."""


def main() -> None:
    """Runs the command; an error that a user can mend is one line on standard error and exit code 1."""
    try:
        app()
    except SystemExit as end:
        # Ctrl-C in a command: typer makes this exit code of it, and says nothing.
        if end.code == INTERRUPTED:
            print("castcore: interrupted", file=sys.stderr)
        raise
    except KeyboardInterrupt:
        print("castcore: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has gone (a pager that was quit): nothing to say, and nobody to say it to.
        sys.stdout = None
        sys.exit(1)
    except Exception as error:
        lines = lines_for_users(error)
        if not lines:
            raise
        for line in lines:
            print(f"castcore: {line}", file=sys.stderr)
        sys.exit(1)


def lines_for_users(error: Exception) -> list[str]:
    """What the error says by itself, where it is castcore's own (user plane or network functions); else nothing."""
    from upf.errors import UpfError

    if isinstance(error, UpfError):
        return str(error).splitlines()
    from nf.common.errors import CastcoreError

    if not isinstance(error, CastcoreError):
        return []
    told = str(error)
    missing = [each for each in error.violations if each.description not in told]
    return [*told.splitlines(), *(f"{each.field}: {each.description}" for each in missing)]
