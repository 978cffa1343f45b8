"""``castcore ue track``: devices on a track until its end or Ctrl-C, with a line a second."""

from __future__ import annotations

import asyncio
import json
import math
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import typer

from nf.cli.book.connection import Reach
from nf.cli.book.devices import device_of, device_text
from nf.cli.ue.populating import seconds_of
from nf.client import tracks
from nf.client.driving import Drive, Step
from nf.client.netapi_use import NetworkAccess
from nf.common.channels import Channels
from nf.common.clock import SystemClock
from nf.common.errors import InvalidArgument

_SPEED: Final = re.compile(r"(?P<number>[0-9]+(\.[0-9]+)?)\s*(?P<unit>km/h|m/s|mph)")
_METRES_PER_SECOND: Final = {"km/h": 1 / 3.6, "m/s": 1.0, "mph": 0.44704}
_LEAST_STEP_S: Final = 0.01
_EVERY_S: Final = 1.0


def drive_of(
    file: Path,
    ues: Sequence[str],
    *,
    speed: str | None,
    step: str,
    rounds: int,
    at_once: bool,
    uncertainty_m: float,
) -> Drive:
    """What the options say. Raises InvalidArgument."""
    devices = [device_of(each, "--ue") for each in ues]
    step_s = seconds_of("--step", step)
    if step_s < _LEAST_STEP_S:
        raise InvalidArgument(f"option '--step': found {step!r}, expected {_LEAST_STEP_S * 1000:.0f}ms or more")
    if not math.isfinite(uncertainty_m):
        raise InvalidArgument(f"option '--uncertainty': found {uncertainty_m}, expected metres")
    track = tracks.read(file, speed_mps=None if speed is None else _speed(speed))
    return Drive(track, devices, step_s, uncertainty_m, rounds, at_once)


async def tracking(ctx: typer.Context, drive: Drive, stop: asyncio.Event) -> None:
    """Drives, and tells of it."""
    reach = Reach.of(ctx)
    known = reach.known()
    channels = Channels({"netapi": known.target}, function="command", tls=known.tls, token=known.credential)
    told_s = -math.inf

    def tell(step: Step) -> None:
        nonlocal told_s
        if reach.as_json:
            print(json.dumps(_json(drive, step)), flush=True)
        elif step.problem or time.monotonic() - told_s >= _EVERY_S or step.at_s == drive.track.duration_s:
            told_s = time.monotonic()
            print(_line(drive, step), file=sys.stderr, flush=True)

    try:
        use = NetworkAccess(channels.get("netapi"))
        reports = await drive.run(use.report_positions, tell, SystemClock(), stop)
    finally:
        await channels.close()
    if not reach.as_json:
        print(f"{'stopped' if stop.is_set() else 'arrived'} after {reports} reports", file=sys.stderr)


def _line(drive: Drive, step: Step) -> str:
    track = drive.track
    who = ", ".join(device_text(each) for each in drive.devices)
    way = f"{step.place.along_m / 1000:.2f} of {track.length_m / 1000:.2f} km"
    line = f"{_clock(step.at_s)} of {_clock(track.duration_s)}  {way}"
    line += f"  {step.place.latitude:.5f} {step.place.longitude:.5f}  {who}"
    if drive.rounds != 1:
        line += f"  round {step.round + 1}" + (f" of {drive.rounds}" if drive.rounds else "")
    return f"{line}  not reported: {step.problem}" if step.problem else line


def _json(drive: Drive, step: Step) -> dict[str, object]:
    return {
        "devices": [device_text(each) for each in drive.devices],
        "round": step.round + 1,
        "at_s": round(step.at_s, 3),
        "latitude": round(step.place.latitude, 7),
        "longitude": round(step.place.longitude, 7),
        "along_m": round(step.place.along_m, 1),
        "taken": step.taken,
        **({"problem": step.problem} if step.problem else {}),
    }


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def _speed(text: str) -> float:
    found = _SPEED.fullmatch(text.strip())
    speed_mps = float(found["number"]) * _METRES_PER_SECOND[found["unit"]] if found else 0.0
    if not speed_mps:
        raise InvalidArgument(f"option '--speed': found {text!r}, expected one such as '50 km/h', '14 m/s', '30 mph'")
    return speed_mps
