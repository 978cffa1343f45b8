"""``castcore mpd``: what an MPD offers, what of it complies with a bit rate, and service descriptions that say so."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)

InArgument = Annotated[Path, typer.Argument(metavar="IN", help="The MPD: a file, or - for standard input.")]


@app.callback()
def mpd() -> None:
    """MPDs: the combinations of representations that keep to a bit rate (TS 26.512 A.3)."""


@app.command(no_args_is_help=True)
def annotate(
    source: InArgument,
    threshold: Annotated[
        list[str],
        typer.Option("--threshold", metavar="RATE", help="A policy threshold, such as '5 Mbps'. May be repeated."),
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="OUT", help="Where to write it, also IN. [default: standard output]"),
    ] = None,
    identifier: Annotated[
        list[int] | None,
        typer.Option(
            "--id",
            min=0,
            max=(1 << 32) - 1,
            metavar="ID",
            help="ServiceDescription@id of the threshold in the same place. [default: the lowest that is free]",
        ),
    ] = None,
    scope: Annotated[
        str, typer.Option(metavar="URI", help="Scheme of the clients that it is for. [default: all]")
    ] = "",
    replace: Annotated[bool, typer.Option("--replace", help="A description with the same id gives way.")] = False,
) -> None:
    """Write a ServiceDescription with OperatingBandwidth for each threshold (TS 26.512 A.3.2 step 2).

    Everything else of the MPD stays as it is, byte for byte. The target is the best combination of audio and video
    that complies.

    \b
    castcore mpd annotate manifest.mpd -o annotated.mpd --threshold '5 Mbps' --id 1
    """  # noqa: D301
    from nf.client.dash import annotation
    from nf.common.dash.parsing import parse
    from upf.errors import UpfError
    from upf.units import format_bit_rate

    ids = identifier or []
    if len(ids) > len(threshold):
        raise UpfError(f"option '--id': found {len(ids)}, expected at most one for each of {len(threshold)} thresholds")
    if len(set(ids)) != len(ids):
        raise UpfError("option '--id': found the same id twice")
    rates_bps = [_threshold(each) for each in threshold]
    document, name = _read(source)
    plan = annotation.plan(parse(document, name=name), rates_bps, ids, scope=scope or "")
    made = annotation.annotate(document, plan, name=name, replace=replace)
    for each in plan:
        if each.target_bps is None:
            rate = format_bit_rate(each.threshold_bps)
            print(f"castcore: {name}: no combination complies with {rate}: id {each.id} has no target", file=sys.stderr)
    if output is None:
        sys.stdout.buffer.write(made)
        sys.stdout.buffer.flush()
    else:
        _write(output, made)


@app.command(no_args_is_help=True)
def show(
    source: InArgument,
    threshold: Annotated[
        list[str] | None,
        typer.Option("--threshold", metavar="RATE", help="Which combinations comply with it? May be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Show representations, their combinations, and which of these comply.

    \b
    castcore mpd show manifest.mpd --threshold '5 Mbps'
    """  # noqa: D301
    import json

    from nf.cli.mpd import report
    from nf.common.dash.parsing import parse

    rates_bps = [_threshold(each) for each in threshold or ()]
    document, name = _read(source)
    presentation = parse(document, name=name)
    told = report.to_json(presentation, rates_bps)
    print(json.dumps(told) if as_json else report.to_text(presentation, rates_bps))


def _threshold(text: str) -> int:
    from upf.errors import UpfError
    from upf.units import UnitError, parse_bit_rate

    try:
        rate_bps = parse_bit_rate(text)
    except UnitError as error:
        raise UpfError(f"option '--threshold': {error.detail}") from None
    if rate_bps >= 1 << 32:
        raise UpfError(f"option '--threshold': found {text!r}, expected at most 4294967295 bps, as an MPD can say it")
    return rate_bps


def _read(source: Path) -> tuple[bytes, str]:
    from upf.errors import UpfError

    if str(source) == "-":
        return sys.stdin.buffer.read(), "standard input"
    try:
        return source.read_bytes(), str(source)
    except OSError as error:
        raise UpfError(f"{source}: cannot be read: {error.strerror}") from None


def _write(output: Path, document: bytes) -> None:
    """All or nothing: IN may be OUT."""
    from upf.errors import UpfError

    try:
        target = output.resolve()
        if target.exists() and not target.is_file():
            # A device or a pipe is written to, not replaced.
            target.write_bytes(document)
            return
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o666 & ~_umask()
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(document)
            os.chmod(temporary, mode)
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise UpfError(f"{output}: cannot be written: {error.strerror}") from None


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
