"""Objects fetched at Nmb8: one, those of a list or of an object manifest, looked at again as the manifest says.

SINGLE, COLLECTION and CAROUSEL of TS 26.502 §6.1 with the pull method; manifests are those of TS 26.517 §6.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Final

from nf.common.errors import CastcoreError
from nf.common.telemetry import logger
from nf.common.v1 import mbs_distribution_pb2 as shared
from nf.mbstf.errors import IngestFailed, ObjectRefused
from nf.mbstf.fetching import Fetched, Fetcher, FetchFailed, Validators
from nf.mbstf.object_delivery import Ingest, ObjectDelivery
from nf.mbstf.object_manifest import ManifestObject, ObjectManifest, is_manifest, read_manifest

_log = logger("mbstf")

_FIRST_PAUSE: Final = timedelta(seconds=1)
_LONGEST_PAUSE: Final = timedelta(seconds=10)
# An object of a carousel that nothing says an interval of comes again as soon as it may.
_AT_ONCE: Final = timedelta(0)


class Wanted:
    """What is still missing: ingest is expected until it is there; establishing has failed when all of it has."""

    def __init__(self, delivery: ObjectDelivery) -> None:
        self._delivery = delivery
        self._missing: set[str] = set()
        self._failed: dict[str, CastcoreError] = {}
        self.resumed = False

    def is_missing(self, url: str) -> bool:
        """Whether it is expected."""
        return url in self._missing

    def want(self, url: str) -> None:
        """From now on it is expected."""
        self._missing.add(url)
        self._delivery.watch.expect(True)

    def settle(self, url: str) -> None:
        """It has come, or is wanted no longer."""
        self._missing.discard(url)
        self._failed.pop(url, None)
        self._delivery.watch.touch()
        if not self._missing:
            self._delivery.watch.expect(False)
        self._look()

    def fail(self, url: str, error: CastcoreError) -> None:
        """It has not come, and is tried again."""
        self._delivery.failed(error.message)
        self._failed[url] = error
        self._look()

    def _look(self) -> None:
        if self.resumed or self._delivery.is_established or not self._missing:
            return
        if self._missing <= self._failed.keys():
            self._delivery.fail_first(self._failed[min(self._missing)])


class PullIngest(Ingest):
    """Fetches the objects of a session's acquisition identifiers."""

    def __init__(self, delivery: ObjectDelivery, fetcher: Fetcher) -> None:
        data = delivery.session.obj_distribution_data
        self._delivery = delivery
        self._fetcher = fetcher
        self._timers = delivery.timers
        self._wanted = Wanted(delivery)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._repeats = delivery.mode == shared.OBJ_DISTRIBUTION_OPERATING_MODE_CAROUSEL
        self._may_be_manifest = delivery.mode != shared.OBJ_DISTRIBUTION_OPERATING_MODE_SINGLE
        self._interval = timedelta(milliseconds=data.repetition_interval_ms)
        self._keep_updated = (
            timedelta(seconds=data.keep_updated_interval_s) if data.keep_updated_interval_s and self._repeats else None
        )
        self._urls = [delivery.names.absolute(each) for each in data.obj_acquisition_ids_pull]

    def begin(self, *, resumed: bool) -> None:
        """Fetches every identifier."""
        self._wanted.resumed = resumed
        for url in self._urls:
            self._wanted.want(url)
        for url in self._urls:
            self._spawn(url, self._follow(url))

    async def end(self) -> None:
        """Fetches nothing any more."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()

    def _spawn(self, url: str, work: Coroutine[object, object, None]) -> None:
        self._tasks[url] = task = asyncio.create_task(work, name=f"mbstf-ingest {url}")
        task.add_done_callback(lambda done: self._done(url, done))

    def _done(self, url: str, done: asyncio.Task[None]) -> None:
        if self._tasks.get(url) is done:
            del self._tasks[url]
        error = None if done.cancelled() else done.exception()
        if error is not None:
            _log.error("ingest.ended", url=url, error=repr(error), exc_info=error)
            self._delivery.fail_first(IngestFailed(f"{url}: {error!r}"))

    async def _follow(self, url: str) -> None:
        """An acquisition identifier: an object, or a manifest of objects."""
        fetched = await self._obtain(url, Validators())
        if fetched is None or fetched.data is None:
            return
        if self._may_be_manifest and is_manifest(fetched.content_type, fetched.data):
            await self._follow_manifest(url, fetched)
            return
        await self._hold(url, fetched, self._repeat(None))
        if self._keep_updated is not None:
            await self._keep(ManifestObject(url, keep_updated_interval=self._keep_updated), fetched.validators)

    async def _follow_manifest(self, url: str, fetched: Fetched) -> None:
        known: dict[str, ManifestObject] = {}
        validators, manifest = fetched.validators, ObjectManifest(())
        while True:
            if fetched.data is not None:
                try:
                    manifest = read_manifest(fetched.data, url)
                except IngestFailed as error:
                    self._wanted.fail(url, error)
                else:
                    validators = fetched.validators
                    self._take_up(known, manifest)
                    self._wanted.settle(url)
                    if not any(self._wanted.is_missing(each) for each in known):
                        # It lists nothing that could be fetched by now: it is itself what was ingested.
                        self._delivery.note_first()
            if manifest.update_interval is None:
                if known:
                    return
                await self._sleep(_LONGEST_PAUSE)
            else:
                await self._sleep(manifest.update_interval)
            again = await self._obtain(url, validators)
            if again is None:
                return
            fetched = again

    def _take_up(self, known: dict[str, ManifestObject], manifest: ObjectManifest) -> None:
        """Begins with what the manifest lists anew or otherwise, and ends what it lists no longer."""
        listed = {each.locator: each for each in manifest.objects}
        for url in [each for each in known if listed.get(each) != known[each]]:
            task = self._tasks.pop(url, None)
            if task is not None:
                task.cancel()
            self._wanted.settle(url)
            if url not in listed:
                self._delivery.drop(url)
            del known[url]
        now = self._timers.clock.now()
        for url, each in listed.items():
            if url in known:
                continue
            known[url] = each
            if each.earliest_fetch_time is None or each.earliest_fetch_time <= now:
                self._wanted.want(url)
            self._spawn(url, self._follow_object(each))

    async def _follow_object(self, wanted: ManifestObject) -> None:
        if wanted.earliest_fetch_time is not None:
            await self._timers.sleep_until(wanted.earliest_fetch_time)
        fetched = await self._obtain(wanted.locator, Validators(), wanted.latest_fetch_time)
        if fetched is None:
            return
        await self._hold(wanted.locator, fetched, self._repeat(wanted.repetition_interval))
        if self._repeats and wanted.keep_updated_interval is not None:
            await self._keep(wanted, fetched.validators)

    async def _keep(self, wanted: ManifestObject, validators: Validators) -> None:
        """Looks for changes of an object for ever."""
        assert wanted.keep_updated_interval is not None
        while True:
            await self._sleep(wanted.keep_updated_interval)
            fetched = await self._obtain(wanted.locator, validators)
            if fetched is not None and fetched.data is not None:
                validators = fetched.validators
                await self._hold(wanted.locator, fetched, self._repeat(wanted.repetition_interval))

    async def _obtain(self, url: str, known: Validators, latest: datetime | None = None) -> Fetched | None:
        """What is at a URL, however often it takes; None: until ``latest`` it could not be had."""
        self._wanted.want(url)
        pause = _FIRST_PAUSE
        while True:
            try:
                fetched = await self._fetcher.fetch(url, known)
            except FetchFailed as error:
                self._wanted.fail(url, error)
            else:
                if fetched.data is None:
                    self._wanted.settle(url)
                return fetched
            if latest is not None and self._timers.clock.now() + pause > latest:
                self._wanted.settle(url)
                return None
            await self._sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _hold(self, url: str, fetched: Fetched, repeat: timedelta | None) -> None:
        if fetched.data is None:
            return
        try:
            await self._delivery.take(url, fetched.data, fetched.content_type, repeat=repeat)
        except ObjectRefused as error:
            self._wanted.fail(url, error)
            return
        self._wanted.settle(url)

    def _repeat(self, interval: timedelta | None) -> timedelta | None:
        if not self._repeats:
            return None
        return interval if interval is not None else self._interval or _AT_ONCE

    async def _sleep(self, pause: timedelta) -> None:
        await self._timers.sleep_until(self._timers.clock.now() + pause)
