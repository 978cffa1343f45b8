"""Service access information as ready bytes: every client asks for it, and again when its time is over.

What is kept is good until anything is written to the store, by this process or by another on the same database; then it
is read again, once for all who wait for it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from nf.af.config import AfSection
from nf.af.service_access import announced
from nf.common.codec import dumps
from nf.common.store import Store

# Clients reach the AF by few names, so that this is about as many sessions.
_KEPT: Final = 4096

_Key = tuple[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Announcement:
    """The JSON of one session's service access information, and since when it has been what it is."""

    body: bytes
    etag: str
    since: datetime


class AccessCache:
    """Service access information of the sessions that are asked for most."""

    def __init__(self, store: Store, config: AfSection) -> None:
        self._store = store
        self._config = config
        self._kept: OrderedDict[_Key, tuple[int, Announcement]] = OrderedDict()
        self._reads: dict[tuple[_Key, int], asyncio.Task[Announcement]] = {}

    async def get(self, provisioning_session_id: str, server_addresses: Sequence[str]) -> Announcement:
        """What is announced now, with these addresses of the AF at M5. Raises NotFound."""
        key = (provisioning_session_id, tuple(server_addresses))
        generation = self._store.generation
        kept = self._kept.get(key)
        if kept is not None and kept[0] == generation:
            return kept[1]
        reading = self._reads.get((key, generation))
        if reading is None:
            reading = asyncio.create_task(self._read(key, generation), name="service access information")
            self._reads[key, generation] = reading
            reading.add_done_callback(lambda _: self._reads.pop((key, generation)))
        # Whoever leaves does not take it from the others.
        return await asyncio.shield(reading)

    async def _read(self, key: _Key, generation: int) -> Announcement:
        provisioning_session_id, server_addresses = key
        information = await self._store.read(
            lambda reader: announced(reader, provisioning_session_id, self._config, server_addresses)
        )
        kept = self._kept.get(key)
        announcement = kept[1] if kept is not None else None
        if announcement is None or announcement.etag != information.etag:
            since = self._store.clock.now().replace(microsecond=0)
            if announcement is not None:
                # Two contents within a second differ in their times, which have no smaller unit in HTTP.
                since = max(since, announcement.since + timedelta(seconds=1))
            announcement = Announcement(dumps(information), information.etag, since)
        self._kept[key] = (generation, announcement)
        self._kept.move_to_end(key)
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return announcement
