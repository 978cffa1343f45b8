"""The story of the DASH demo as it is told at its end: a table, or one JSON object."""

from __future__ import annotations

from itertools import groupby

from nf.cli.demo import dash_network
from nf.cli.demo.dash_client import method_of
from nf.cli.demo.dash_zero_rating import Play, Story


def to_json(story: Story) -> dict[str, object]:
    """What ``castcore demo zero-rating --dash --json`` promises. Bytes are those of IP packets of the downlink."""
    policy = story.plays[0].policy
    return {
        "enforcement_method": method_of(policy),
        "enforcement_bit_rate_bps": policy.enforcement_bit_rate_bps,
        "ue_address": dash_network.UE,
        "steps": [{"step": each.number, "play": each.play, "text": each.text} for each in story.steps],
        "plays": [_play(each) for each in story.plays],
    }


def _play(play: Play) -> dict[str, object]:
    usage, results = play.usage, play.results
    downlink, uplink = usage.usage.downlink, usage.usage.uplink
    return {
        "ignore_filter": play.ignore_filter,
        "service_descriptor_filter": {
            "service_description_id": play.descriptor_filter.service_description_id,
            "operating_bandwidth_max_bps": play.descriptor_filter.operating_bandwidth_max_bps,
        },
        "compliant_representations": list(dict.fromkeys(play.compliant)),
        "representations": {medium: results.representations(medium) for medium in ("video", "audio")},
        "media_bytes": results.media_bytes,
        "offered_bytes": downlink.offered.bytes,
        "passed_bytes": downlink.conforming.bytes + downlink.exceeding.bytes,
        "zero_rated_bytes": usage.zero_rated_bytes - uplink.conforming.bytes,
        "charged_bytes": usage.charged_bytes,
        "dropped_bytes": downlink.dropped.bytes,
        "exceeded": play.exceeded,
        "player": results.to_json(),
    }


def to_text(story: Story) -> str:
    """The same for eyes."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("player", no_wrap=True)
    table.add_column("video", no_wrap=True)
    for heading in ("offered", "passed", "zero-rated", "charged", "dropped", "stalls"):
        table.add_column(heading, justify="right", no_wrap=True)
    for play in story.plays:
        told = _play(play)
        table.add_row(
            "ignores the filter" if play.ignore_filter else "keeps to the filter",
            " ".join(f"{len(list(run))}×{name}" for name, run in groupby(play.results.representations("video"))),
            *(f"{told[f'{key}_bytes']:,}" for key in ("offered", "passed", "zero_rated", "charged", "dropped")),
            f"{len(play.results.stalls)} ({play.results.stalled_s:.1f} s)" if play.results.stalls else "0",
        )
    # As wide as its figures: a table that is cut says nothing.
    console = Console(highlight=False, width=160)
    with console.capture() as text:
        console.print(table)
    return "\n" + text.get().rstrip("\n")
