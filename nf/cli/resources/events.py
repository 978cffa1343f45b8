"""Events of functions as lines: for eyes, or one JSON object each."""

from __future__ import annotations

import json
from itertools import islice
from typing import Final

from nf.cli.resources.tables import scalar
from nf.cli.resources.tree import Tree, time_text, tree_of
from nf.common.v1.events_pb2 import Event

# So much of a value is shown in a line, and so many values.
_LONGEST: Final = 120
_MOST: Final = 6
# Of an event's payload, what tells most in a line: the first of these that it has, however deep.
_TELLING: Final = (
    "state",
    "previous_state",
    "mbs_dist_sess_state",
    "dist_session_state",
    "status_add_info",
    "enforcement_method",
    "zero_rated_bytes",
    "charged_bytes",
    "compliant",
    # Of the network API platform.
    "reason",
    "phone_number",
    "ipv4_address",
    "supi",
    "metric",
    "above",
    "below",
    "cause",
    "max_downlink_bps",
)


def event_json(source: str, event: Event) -> str:
    """The event as ``source`` told it."""
    return json.dumps({"from": source, **tree_of(event)}, ensure_ascii=False)


def event_line(source: str, event: Event) -> str:
    """The same, what matters most."""
    told = [
        f"{name} {value[:_LONGEST]}"
        for name, value in _scalars(tree_of(event).get("payload"))
        if name in _TELLING and value != ""
    ]
    path = f"  {event.path}" if event.path else ""
    shown = list(dict.fromkeys(islice(told, _MOST)))
    return f"{time_text(event.event_time)}  {source} {event.sequence}  {event.type}  {event.subject}{path}" + (
        f"  {', '.join(shown)}" if shown else ""
    )


def _scalars(tree: Tree) -> list[tuple[str, str]]:
    if not isinstance(tree, dict):
        return []
    flat = []
    for name, value in tree.items():
        if isinstance(value, dict):
            flat += _scalars(value)
        elif not isinstance(value, list):
            flat.append((name, scalar(value)))
    return flat
