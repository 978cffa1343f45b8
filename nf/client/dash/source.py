"""Where a player's media comes from: the MPD, fetched again as it says, indexes and initializations."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Final

from nf.client.dash.fetching import Connections
from nf.client.dash.results import Results
from nf.client.dash.segment_index import listed
from nf.common.clock import Clock
from nf.common.dash.mpd import Presentation, Representation, SegmentBase, SegmentList
from nf.common.dash.parsing import parse
from nf.common.dash.segments import Initialization, initialization_of

# A live MPD that says nothing new is not fetched more often.
_REFRESH_S: Final = 1.0


class Source:
    """The presentation at ``entry``; what is fetched is counted in ``results``. Fetching raises SegmentUnavailable."""

    def __init__(self, entry: str, connections: Connections, clock: Clock, results: Results) -> None:
        self.presentation: Presentation | None = None
        self._url = entry
        self._connections = connections
        self._clock = clock
        self._results = results
        self._etag = ""
        self._fetched_ns = 0
        self._initialized: set[Initialization] = set()
        self._indexes: dict[tuple[tuple[str, ...], SegmentBase], SegmentList] = {}

    async def load(self) -> Presentation:
        """Fetches the MPD, from where it said last that it would be. Raises MpdError."""
        headers = {"If-None-Match": self._etag} if self._etag else {}
        fetched = await self._connections.fetch([self._url], 0, headers=headers, keep=True)
        self._results.mpd_fetches += 1
        self._results.other_bytes += fetched.answer.body_bytes
        self._fetched_ns = self._clock.now_ns()
        if fetched.answer.status != 304 or self.presentation is None:
            self.presentation = parse(fetched.answer.body, fetched.url)
            self._etag = fetched.answer.headers.get("etag", "")
            if self.presentation.locations:
                self._url = self.presentation.locations[0]
        return self.presentation

    async def refresh(self) -> Presentation:
        """The MPD, fetched again where it is older than it says it may be."""
        presentation = self.presentation
        if presentation is None:
            return await self.load()
        period_s = presentation.minimum_update_period_s
        if presentation.dynamic and period_s is not None and self._age_s() >= float(period_s):
            return await self.load()
        return presentation

    async def await_more(self) -> bool:
        """Waits for a live MPD to say what comes next. False: nothing does."""
        presentation = await self.refresh()
        period_s = presentation.minimum_update_period_s
        ended = presentation.availability_end_time
        if not presentation.dynamic or period_s is None or (ended is not None and ended <= self._clock.now()):
            return False
        wait_s = max(float(period_s), _REFRESH_S) - self._age_s()
        await self._clock.sleep_until(self._clock.now() + timedelta(seconds=max(0.0, wait_s)))
        await self.load()
        return True

    async def indexed(self, representation: Representation, lane: int) -> Representation:
        """The representation with its segments listed, where they are in an index that must be fetched first."""
        addressing = representation.addressing
        if not isinstance(addressing, SegmentBase) or addressing.index_range is None:
            return representation
        key = (representation.base_urls, addressing)
        if key not in self._indexes:
            fetched = await self._connections.fetch(
                representation.base_urls, lane, byte_range=addressing.index_range, keep=True
            )
            self._results.other_bytes += fetched.answer.body_bytes
            self._indexes[key] = listed(addressing, fetched.answer.body, fetched.url)
        return replace(representation, addressing=self._indexes[key])

    async def initialize(self, representation: Representation, lane: int) -> None:
        """Fetches the initialization of a representation, once."""
        initialization = initialization_of(representation)
        if initialization is None or initialization in self._initialized:
            return
        fetched = await self._connections.fetch(initialization.urls, lane, byte_range=initialization.byte_range)
        self._initialized.add(initialization)
        self._results.other_bytes += fetched.answer.body_bytes

    def _age_s(self) -> float:
        return (self._clock.now_ns() - self._fetched_ns) / 1e9
