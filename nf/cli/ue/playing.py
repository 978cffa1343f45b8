"""``castcore ue play``: a title from the start to its end or Ctrl-C, step by step."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from nf.cli.ue.connection import Reach
from nf.cli.ue.flows import parse_location
from nf.client import m8
from nf.client.c1 import MediaClient, Playback
from nf.client.dash.player import DashPlayer
from nf.client.dash.settings import Settings
from nf.client.m7 import Preferences
from nf.common import codec
from nf.common.clock import SystemClock
from nf.common.errors import CastcoreError, InvalidArgument


@dataclass(frozen=True, slots=True)
class Wish:
    """What the options say."""

    what: str
    title: str | None
    network_policy: str
    session: str | None
    duration_s: float | None
    client: str
    may_report: bool
    may_share_location: bool
    location: str | None
    keep: Path | None
    ignore_filter: bool


async def playing(wish: Wish, reach: Reach, stop: asyncio.Event, *, as_json: bool) -> None:
    """Plays it; ``stop`` ends it with its final report. Raises what keeps it from playing."""
    document = document_of(wish, reach)
    steps: list[str] = []

    def narrate(step: str) -> None:
        steps.append(step)
        if not as_json:
            print(f"step {step}", flush=True)

    clock = SystemClock()
    location = parse_location(wish.location) if wish.location is not None else None
    client = MediaClient(
        document,
        client_id=wish.client,
        preferences=Preferences(wish.may_report, wish.may_share_location),
        player=lambda: DashPlayer(clock, Settings(ignore_filter=wish.ignore_filter)),
        state_directory=wish.keep,
        connect_m5=reach.connect,
        clock=clock,
        narrate=narrate,
    )
    async with client:
        client.locate(location)
        title = wish.title if wish.title is not None else document.catalogue[0]
        starting = asyncio.ensure_future(client.play(title, network_policy_id=wish.network_policy))
        if not await _done_or_stopped(starting, stop):
            return
        playback = starting.result()
        ending = asyncio.ensure_future(playback.ended())
        await _done_or_stopped(ending, stop, wish.duration_s)
        policy = playback.policy
        await playback.stop()
    _tell(playback, steps, None if policy is None else codec.to_json(policy, internal=True), as_json=as_json)
    if playback.error is not None:
        raise playback.error if isinstance(playback.error, CastcoreError) else CastcoreError(str(playback.error))


def document_of(wish: Wish, reach: Reach) -> m8.M8:
    """The M8 document, or one around the MPD. Raises M8Invalid, InvalidArgument."""
    if not wish.what.startswith(("http://", "https://")):
        return m8.read(Path(wish.what))
    if wish.session is None:
        raise InvalidArgument("option '--session': missing, expected the provisioning session that the MPD belongs to")
    url = reach.url
    path = wish.session if url.startswith("grpc") else f"service-access-information/{wish.session}"
    if not url.startswith("grpc"):
        from nf.client.m5_http import m5_root

        url = m5_root(url)
    access = f"{url.rstrip('/')}/{path}"
    policies = [{"networkPolicyId": wish.network_policy, "serviceAccessInformationUrl": access}]
    tree = {
        "catalogue": [{"titleId": "mpd", "entryPoints": [{"locator": wish.what}]}],
        "policyDescriptions": policies if wish.network_policy else [],
        "serviceAccessInformationUrl": access,
    }
    return m8.parse(json.dumps(tree), source=wish.what)


async def _done_or_stopped(
    work: asyncio.Future[object] | asyncio.Task[Playback] | asyncio.Task[None],
    stop: asyncio.Event,
    timeout_s: float | None = None,
) -> bool:
    """Whether the work has been done; else it is cancelled."""
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((work, stopping), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        return work.done()
    finally:
        stopping.cancel()
        if not work.done():
            work.cancel()
            await asyncio.wait((work,))


def _tell(playback: Playback, steps: list[str], policy: dict[str, object] | None, *, as_json: bool) -> None:
    player = playback.player
    results = player.results.to_json() if isinstance(player, DashPlayer) else {}
    if as_json:
        told = {
            "title": playback.title.title_id,
            "entry": playback.title.entry,
            "policy": policy,
            "policy_error": None if playback.policy_error is None else str(playback.policy_error),
            "steps": steps,
            "player": results,
        }
        print(json.dumps(told))
        return
    if playback.policy_error is not None:
        print(f"castcore: no dynamic policy: {playback.policy_error}", file=sys.stderr)
    segments = results.get("segments")
    count = len(segments) if isinstance(segments, list) else 0
    print(
        f"played {count} segments, {results.get('media_bytes', 0):,} bytes; stalled {results.get('stalled_s', 0):.1f} s"
    )
