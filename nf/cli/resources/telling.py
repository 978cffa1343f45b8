"""What ``castcore ls``, ``show`` and ``watch`` print: tables and lines for eyes, JSON a line for scripts."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from itertools import islice
from typing import Final

from google.protobuf.message import Message
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nf.af.v1.media_session_pb2_grpc import AfEventsServiceStub
from nf.cli.resources.listing import READINGS
from nf.cli.resources.reading import Reading
from nf.cli.resources.tree import Tree, time_text, tree_of
from nf.common.channels import Channels
from nf.common.errors import Unavailable
from nf.common.v1.events_pb2 import Event, WatchEventsRequest, WatchEventsResponse
from nf.mbsf.v1.user_data_ingest_pb2_grpc import MbsfEventsServiceStub
from nf.mbstf.v1.dist_session_pb2_grpc import MbstfEventsServiceStub
from nf.pcf.v1.policy_authorization_pb2_grpc import PcfEventsServiceStub
from nf.smf.v1.pdu_session_pb2_grpc import SmfEventsServiceStub

# A function that has gone is looked for as often as that.
_RETRY_S: Final = 0.5
_NARROWEST: Final = 100
# So much of a value is shown in a line.
_LONGEST: Final = 120
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
)


async def tell_list(channels: Channels, kind: str, filters: Mapping[str, str], *, limit: int, as_json: bool) -> None:
    """Prints the resources of a kind, at most ``limit`` of them unless that is 0."""
    reading = READINGS[kind]
    items = _first(reading.items(channels, filters), limit)
    if as_json:
        async for each in items:
            print(json.dumps(tree_of(each), ensure_ascii=False))
        return
    resources = [each async for each in items]
    if not resources:
        print(f"no {kind}", file=sys.stderr)
        return
    _console().print(_table(reading, resources))


async def tell_one(channels: Channels, kind: str, name: str, *, as_json: bool) -> None:
    """Prints one resource, whole. Raises NotFound."""
    tree = tree_of(await READINGS[kind].one(channels, name))
    print(json.dumps(tree, ensure_ascii=False) if as_json else "\n".join(_lines(tree)))


async def tell_events(
    channels: Channels, sources: Sequence[str], subject: str, *, after: int | None, follow: bool, as_json: bool
) -> None:
    """Prints events after a sequence, None: after the last there is, each source's in its order."""
    async with asyncio.TaskGroup() as tasks:
        for source in sources:
            tasks.create_task(_tell_source(channels, source, subject, after=after, follow=follow, as_json=as_json))


async def _tell_source(
    channels: Channels, source: str, subject: str, *, after: int | None, follow: bool, as_json: bool
) -> None:
    position = after if after is not None else await _last_sequence(channels, source)
    waiting = False
    while True:
        request = WatchEventsRequest(after_sequence=position, subject=subject, no_follow=not follow)
        try:
            async for response in _stream(channels, source, request):
                position = response.event.sequence
                print(
                    _event_json(source, response.event) if as_json else _event_line(source, response.event), flush=True
                )
                waiting = False
        except Unavailable as gone:
            if not follow:
                raise
            if not waiting:
                print(f"castcore: {source}: {gone}; waiting for it", file=sys.stderr)
            waiting = True
        if not follow:
            return
        await asyncio.sleep(_RETRY_S)


async def _last_sequence(channels: Channels, source: str) -> int:
    position = 0
    async for response in _stream(channels, source, WatchEventsRequest(no_follow=True)):
        position = response.event.sequence
    return position


def _stream(channels: Channels, source: str, request: WatchEventsRequest) -> AsyncIterable[WatchEventsResponse]:
    channel = channels.get(source)
    if source == "af":
        return AfEventsServiceStub(channel).WatchEvents(request)
    if source == "pcf":
        return PcfEventsServiceStub(channel).WatchEvents(request)
    if source == "mbsf":
        return MbsfEventsServiceStub(channel).WatchEvents(request)
    if source == "mbstf":
        return MbstfEventsServiceStub(channel).WatchEvents(request)
    return SmfEventsServiceStub(channel).WatchEvents(request)


def _event_json(source: str, event: Event) -> str:
    return json.dumps({"from": source, **tree_of(event)}, ensure_ascii=False)


def _event_line(source: str, event: Event) -> str:
    told = [
        f"{name} {value[:_LONGEST]}"
        for name, value in _scalars(tree_of(event).get("payload"))
        if name in _TELLING and value != ""
    ]
    path = f"  {event.path}" if event.path else ""
    shown = list(dict.fromkeys(islice(told, 6)))
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
            flat.append((name, _scalar(value)))
    return flat


def _table(reading: Reading, resources: Sequence[Message]) -> Table:
    """A row a resource; columns in which no resource has anything are left out."""
    rows = [[shown(each) for _, shown in reading.columns] for each in resources]
    used = [number for number in range(len(reading.columns)) if any(row[number] for row in rows)]
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for number in used:
        head, _ = reading.columns[number]
        figures = all(_is_figure(row[number]) for row in rows)
        table.add_column(head, justify="right" if figures else "left", overflow="fold", no_wrap=number == 0)
    for row in rows:
        table.add_row(*(Text(row[number]) for number in used))
    return table


def _is_figure(text: str) -> bool:
    return text.replace(",", "").replace(".", "").isdecimal() or not text


def _console() -> Console:
    console = Console(highlight=False)
    # What goes into a pipe is not broken into lines for a terminal that is not there.
    if not console.is_terminal:
        return Console(highlight=False, width=400)
    return console if console.width >= _NARROWEST else Console(highlight=False, width=_NARROWEST)


def _lines(tree: Tree, depth: int = 0) -> list[str]:
    """A tree for eyes: a line a property, indented below what it belongs to; what is empty is left out."""
    pad, lines = "  " * depth, []
    assert isinstance(tree, dict)
    for name, value in tree.items():
        if value in ("", [], {}):
            continue
        if isinstance(value, dict):
            lines += [f"{pad}{name}:", *_lines(value, depth + 1)]
        elif isinstance(value, list):
            lines.append(f"{pad}{name}:")
            for each in value:
                if isinstance(each, dict):
                    first, *more = _lines(each, depth + 2) or [""]
                    lines += [f"{pad}  - {first.strip()}", *more]
                else:
                    lines.append(f"{pad}  - {_scalar(each)}")
        else:
            lines.append(f"{pad}{name}: {_scalar(value)}")
    return lines


def _scalar(value: Tree) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


async def _first(items: AsyncIterator[Message], limit: int) -> AsyncIterator[Message]:
    count = 0
    async for each in items:
        yield each
        count += 1
        if count == limit:
            return
