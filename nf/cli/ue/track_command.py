"""``castcore ue track``: what its options are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nf.cli.ue.connection import until_stopped


def track(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The track: GPX, or GeoJSON with a LineString.")],
    ue: Annotated[
        list[str],
        typer.Option("--ue", metavar="DEVICE", help="Who drives: +43…, imsi-…, USER@REALM or IP. May be repeated."),
    ],
    speed: Annotated[
        str | None,
        typer.Option("--speed", metavar="SPEED", help="Even, as 50 km/h or 14 m/s. [default: by the track's times]"),
    ] = None,
    realtime: Annotated[
        bool, typer.Option("--realtime/--at-once", help="As time goes on, or one report right after the other.")
    ] = True,
    step: Annotated[str, typer.Option("--step", metavar="TIME", help="Report so often on the way.")] = "1s",
    repeat: Annotated[int, typer.Option("--repeat", min=0, metavar="N", help="Drive N times; 0: until Ctrl-C.")] = 1,
    uncertainty: Annotated[
        float, typer.Option("--uncertainty", min=0, metavar="M", help="How far from there it may be, in metres.")
    ] = 10.0,
) -> None:
    """Drive devices along a track: their positions are reported to the network API platform, as its operator.

    \b
    castcore ue track vienna-linz.gpx --ue +43664123456
    castcore ue track ring.geojson --ue 10.45.0.2 --ue 10.45.0.3 --speed "50 km/h" --repeat 0
    """  # noqa: D301
    from nf.cli.ue.tracking import drive_of, tracking

    drive = drive_of(file, ue, speed=speed, step=step, rounds=repeat, at_once=not realtime, uncertainty_m=uncertainty)
    until_stopped(lambda stop: tracking(ctx, drive, stop), polite=True)
