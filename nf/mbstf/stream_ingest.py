"""STREAMING with the pull method (TS 26.502 §6.1): a DASH or HLS presentation is followed, its segments sent in order.

A live presentation begins two segments before its live edge. Manifests and initialization segments are repeated, for
receivers that come later.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from datetime import datetime, timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from nf.common.errors import CastcoreError
from nf.mbstf.errors import IngestFailed, ObjectRefused
from nf.mbstf.fetching import Fetched, Fetcher, FetchFailed, Validators
from nf.mbstf.hls_playlist import Playlist, PlaylistSegment, is_playlist, read_playlist
from nf.mbstf.object_delivery import Ingest, ObjectDelivery

if TYPE_CHECKING:
    from nf.common.dash.mpd import Presentation

# So many segments are fetched ahead of the one that is taken next.
_WINDOW: Final = 4
_PAUSE: Final = timedelta(milliseconds=500)
_LONGEST_PAUSE: Final = timedelta(seconds=5)
# A segment that a manifest has named may come so many pauses later; then it is given up.
_TRIES: Final = 8
# The first of all decides whether the session is established.
_FIRST_TRIES: Final = 4
_SOONEST_UPDATE: Final = timedelta(milliseconds=500)
# Live segments of an HLS playlist to begin with.
_BEHIND: Final = 2


class StreamIngest(Ingest):
    """Follows the manifest that the session's acquisition identifier names."""

    def __init__(self, delivery: ObjectDelivery, fetcher: Fetcher) -> None:
        self._delivery = delivery
        self._fetcher = fetcher
        self._timers = delivery.timers
        self._url = delivery.names.absolute(delivery.session.obj_distribution_data.obj_acquisition_ids_pull[0])
        self._repeat = timedelta(
            milliseconds=delivery.session.obj_distribution_data.repetition_interval_ms
            or delivery.config.carried_interval_s * 1000
        )
        self._resumed = False
        self._task: asyncio.Task[None] | None = None
        # What was taken and is not taken again: initializations by address.
        self._taken: set[str] = set()
        # Playlists that have more to come.
        self._going: set[str] = set()
        self._manifests: set[str] = {self._url}

    def begin(self, *, resumed: bool) -> None:
        """Begins to follow."""
        self._resumed = resumed
        self._delivery.watch.expect(True)
        self._task = asyncio.create_task(self._run(), name=f"mbstf-stream {self._url}")

    async def end(self) -> None:
        """Follows no longer."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            fetched = await self._manifest(self._url, Validators())
            assert fetched.data is not None
            if is_playlist(fetched.data):
                await self._follow_hls(self._url, fetched)
            else:
                await self._follow_dash(fetched)
        except CastcoreError as error:
            self._fail(error)
        except Exception as error:
            self._fail(IngestFailed(f"{self._url}: {error!r}"))
            raise

    def _fail(self, error: CastcoreError) -> None:
        self._delivery.failed(error.message)
        if not self._resumed:
            self._delivery.fail_first(error)

    async def _follow_dash(self, fetched: Fetched) -> None:
        # Here: only those who follow DASH load what reads XML.
        from nf.common.dash.parsing import parse
        from nf.mbstf.live_segments import Positions, due_segments

        positions, presentation = Positions(), None
        validators, url, at = fetched.validators, self._url, self._timers.clock.now()
        while True:
            if fetched.data is not None:
                try:
                    presentation = parse(fetched.data, fetched.url)
                except CastcoreError as error:
                    if presentation is None:
                        raise IngestFailed(error.message) from error
                    self._delivery.failed(error.message)
                else:
                    validators = fetched.validators
                    url = presentation.locations[0] if presentation.locations else url
                    await self._hold(self._url, fetched, repeat=self._repeat)
            assert presentation is not None
            due = due_segments(presentation, positions, self._timers.clock.now())
            self._delivery.watch.expect(True, _seconds(due.longest_s))
            await self._initialize(due.initializations)
            await self._take_in_order([each.urls[0] for each in due.media])
            update = _update_time(presentation, at, due.longest_s)
            moments = [each for each in (due.upcoming, update) if each is not None]
            if not moments:
                self._delivery.watch.expect(False)
                return
            await self._timers.sleep_until(min(moments))
            fetched = Fetched(url, None, "", validators)
            if update is not None and self._timers.clock.now() >= update:
                fetched, at = await self._manifest(url, validators), self._timers.clock.now()

    async def _follow_hls(self, url: str, fetched: Fetched) -> None:
        assert fetched.data is not None
        playlist = read_playlist(fetched.data, url)
        if not playlist.playlists:
            await self._follow_playlist(url, fetched)
            return
        await self._hold(url, fetched, repeat=self._repeat)
        async with asyncio.TaskGroup() as tasks:
            for each in playlist.playlists:
                self._going.add(each)
                tasks.create_task(self._follow_variant(each))

    async def _follow_variant(self, url: str) -> None:
        try:
            await self._follow_playlist(url, await self._manifest(url, Validators()))
        except CastcoreError as error:
            self._fail(error)

    async def _follow_playlist(self, url: str, fetched: Fetched) -> None:
        self._going.add(url)
        self._manifests.add(url)
        following, validators, target = 0, fetched.validators, _PAUSE
        while True:
            if fetched.data is not None:
                playlist, validators = read_playlist(fetched.data, url), fetched.validators
                target = max(timedelta(seconds=playlist.target_duration_s), _PAUSE)
                new = _new_segments(playlist, following)
                following = max([following, *(each.number + 1 for each in new)])
                self._delivery.watch.expect(True, target)
                await self._hold(url, fetched, repeat=self._repeat)
                await self._initialize(playlist.initializations)
                await self._take_in_order(list(dict.fromkeys(each.url for each in new)))
                if playlist.ended:
                    break
                pause = target if new else target / 2
            else:
                pause = target / 2
            await self._timers.sleep_until(self._timers.clock.now() + pause)
            fetched = await self._manifest(url, validators)
        self._going.discard(url)
        if not self._going:
            self._delivery.watch.expect(False)

    async def _manifest(self, url: str, known: Validators) -> Fetched:
        """The manifest, however often it takes; before the session is established, what fails is raised."""
        pause = _PAUSE
        while True:
            try:
                return await self._fetcher.fetch(url, known)
            except FetchFailed as error:
                if not self._resumed and not self._delivery.is_established:
                    raise
                self._delivery.failed(error.message)
            await self._timers.sleep_until(self._timers.clock.now() + pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _initialize(self, urls: Iterable[str]) -> None:
        for url in urls:
            if url in self._taken:
                continue
            fetched = await self._segment(url)
            if fetched is not None:
                self._taken.add(url)
                await self._hold(url, fetched, repeat=self._repeat)

    async def _take_in_order(self, urls: list[str]) -> None:
        """Fetches segments, some at a time, and takes each after the one before it."""
        ahead: deque[asyncio.Task[Fetched | None]] = deque()
        waiting = deque(urls)
        try:
            while waiting or ahead:
                while waiting and len(ahead) < _WINDOW:
                    ahead.append(asyncio.create_task(self._segment(waiting.popleft())))
                fetched = await ahead[0]
                ahead.popleft()
                if fetched is not None and await self._hold(fetched.url, fetched, passing=True):
                    self._delivery.watch.ingested()
        finally:
            for each in ahead:
                each.cancel()

    async def _segment(self, url: str) -> Fetched | None:
        """A segment that is said to be there, tried for some time; None: it is not."""
        for tries in range(1, _TRIES + 1):
            try:
                return await self._fetcher.fetch(url)
            except FetchFailed as error:
                self._delivery.failed(error.message)
                if not self._resumed and tries == _FIRST_TRIES:
                    self._delivery.fail_first(error)
            await self._timers.sleep_until(self._timers.clock.now() + _PAUSE)
        return None

    async def _hold(
        self, url: str, fetched: Fetched, *, repeat: timedelta | None = None, passing: bool = False
    ) -> bool:
        """Whether it could be held. Of a presentation's objects the manifest is none that establishes a session."""
        assert fetched.data is not None
        try:
            await self._delivery.take(
                url,
                fetched.data,
                fetched.content_type,
                repeat=repeat,
                passing=passing,
                establishes=url not in self._manifests,
            )
        except ObjectRefused as error:
            self._fail(error)
            return False
        return True


def _new_segments(playlist: Playlist, following: int) -> list[PlaylistSegment]:
    """Those that were not there before; of a live playlist at the beginning, the last ones."""
    if following == 0 and not playlist.ended:
        return list(playlist.segments[-_BEHIND:])
    return [each for each in playlist.segments if each.number >= following]


def _update_time(presentation: Presentation, fetched_at: datetime, longest_s: Fraction) -> datetime | None:
    """When the MPD is fetched again; None: never."""
    if not presentation.dynamic or presentation.minimum_update_period_s is None:
        return None
    period = _seconds(presentation.minimum_update_period_s or longest_s / 2)
    return fetched_at + max(period, _SOONEST_UPDATE)


def _seconds(value: Fraction) -> timedelta:
    return timedelta(seconds=float(min(value, Fraction(86_400))))
