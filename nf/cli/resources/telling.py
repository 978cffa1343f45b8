"""What ``castcore ls``, ``show`` and ``watch`` print: tables and lines for eyes, JSON a line for scripts."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterable, Mapping, Sequence
from typing import Final

from nf.af.v1.media_session_pb2_grpc import AfEventsServiceStub
from nf.cli.resources.events import event_json, event_line
from nf.cli.resources.listing import READINGS
from nf.cli.resources.tables import console, first, lines, table
from nf.cli.resources.tree import tree_of
from nf.common.channels import Channels
from nf.common.errors import Unavailable
from nf.common.v1.events_pb2 import WatchEventsRequest, WatchEventsResponse
from nf.mbsf.v1.user_data_ingest_pb2_grpc import MbsfEventsServiceStub
from nf.mbstf.v1.dist_session_pb2_grpc import MbstfEventsServiceStub
from nf.netapi.v1.booking_pb2_grpc import BookingsServiceStub
from nf.pcf.v1.policy_authorization_pb2_grpc import PcfEventsServiceStub
from nf.smf.v1.pdu_session_pb2_grpc import SmfEventsServiceStub

# A function that has gone is looked for as often as that.
_RETRY_S: Final = 0.5


async def tell_list(channels: Channels, kind: str, filters: Mapping[str, str], *, limit: int, as_json: bool) -> None:
    """Prints the resources of a kind, at most ``limit`` of them unless that is 0."""
    reading = READINGS[kind]
    items = first(reading.items(channels, filters), limit)
    if as_json:
        async for each in items:
            print(json.dumps(tree_of(each), ensure_ascii=False))
        return
    resources = [each async for each in items]
    if not resources:
        print(f"no {kind}", file=sys.stderr)
        return
    console().print(table(reading.columns, resources))


async def tell_one(channels: Channels, kind: str, name: str, *, as_json: bool) -> None:
    """Prints one resource, whole. Raises NotFound."""
    tree = tree_of(await READINGS[kind].one(channels, name))
    print(json.dumps(tree, ensure_ascii=False) if as_json else "\n".join(lines(tree)))


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
                print(event_json(source, response.event) if as_json else event_line(source, response.event), flush=True)
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
    if source == "netapi":
        return BookingsServiceStub(channel).WatchEvents(request)
    return SmfEventsServiceStub(channel).WatchEvents(request)
