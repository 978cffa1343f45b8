"""Objects that are sent to the MBSTF at Nmb8 (push method, TS 26.502 §6.1): kept, and sent as the mode has it.

They are kept in the store, since nobody can be asked for them again; segments of a presentation, which pass, are not.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

from nf.common.errors import CastcoreError
from nf.common.store import Reader, Store, Transaction
from nf.common.v1 import mbs_distribution_pb2 as shared
from nf.mbstf.errors import IngestFailed, ManifestNotTaken, NotTheObject
from nf.mbstf.object_delivery import Ingest, ObjectDelivery
from nf.mbstf.object_manifest import ManifestObject, is_manifest, read_manifest
from nf.mbstf.sessions import pushed_name
from nf.mbstf.v1.dist_session_pb2 import PushedObject

_NUMBER: Final = "pushed objects"
_AT_ONCE: Final = timedelta(0)
# Manifests and initialization segments are small and few; they are repeated, media segments are not.
_MANIFEST_TYPES: Final = ("application/dash+xml", "application/vnd.apple.mpegurl", "application/x-mpegurl")


class PushIngest(Ingest):
    """Takes what is sent for one session."""

    def __init__(self, delivery: ObjectDelivery, store: Store) -> None:
        data = delivery.session.obj_distribution_data
        self._delivery = delivery
        self._store = store
        self._session_id = delivery.session.dist_session_id
        self._repeats = delivery.mode == shared.OBJ_DISTRIBUTION_OPERATING_MODE_CAROUSEL
        self._streams = delivery.mode == shared.OBJ_DISTRIBUTION_OPERATING_MODE_STREAMING
        self._single = delivery.mode == shared.OBJ_DISTRIBUTION_OPERATING_MODE_SINGLE
        self._interval = timedelta(milliseconds=data.repetition_interval_ms)
        self._named = ""
        if data.obj_acquisition_id_push:
            url = delivery.names.absolute(data.obj_acquisition_id_push)
            base = delivery.names.push_base
            self._named = url[len(base) :] if url.startswith(base) else data.obj_acquisition_id_push.rpartition("/")[2]
        self._listed: dict[str, ManifestObject] = {}
        self._came: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def begin(self, *, resumed: bool) -> None:
        """Takes up what was kept by an earlier run."""
        if resumed:
            self._task = asyncio.create_task(self._take_up(), name=f"mbstf-pushed {self._session_id}")

    async def end(self) -> None:
        """Takes nothing any more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def push(self, path: str, data: bytes, content_type: str) -> bool:
        """Takes an object that was sent to ``path`` below the ingest URL; whether there was none before.

        What is acknowledged survives. Raises ObjectRefused, NotTheObject, ManifestNotTaken.
        """
        if self._single and self._named and path != self._named:
            raise NotTheObject(f"{path}: expected {self._named!r}, the one object of the session")
        self._delivery.check(path, data)
        if not self._streams:
            await self._store.write(lambda tx: _keep(tx, self._session_id, path, data, content_type), apart=True)
        new = path not in self._came
        try:
            await self._take(path, data, content_type)
        except CastcoreError:
            if not self._streams:
                await self._store.write(lambda tx: tx.delete(PushedObject, pushed_name(self._session_id, path)))
            raise
        return new

    async def withdraw(self, path: str) -> bool:
        """Lets go of an object that was sent; False: there is none."""
        if path not in self._came:
            return False
        await self._store.write(lambda tx: tx.delete(PushedObject, pushed_name(self._session_id, path)))
        self._came.discard(path)
        self._delivery.drop(self._url(path))
        return True

    def _url(self, path: str) -> str:
        return self._delivery.names.push_base + path

    async def _take_up(self) -> None:
        def kept(reader: Reader) -> list[PushedObject]:
            return sorted(reader.all(PushedObject, parent=self._session_id), key=lambda each: each.number)

        try:
            for each in await self._store.read(kept):
                await self._take(each.path, each.content, each.content_type)
        except CastcoreError as error:
            self._delivery.failed(error.message)

    async def _take(self, path: str, data: bytes, content_type: str) -> None:
        if not self._streams and not self._single and self._is_manifest(path, content_type, data):
            self._list(path, data)
            self._came.add(path)
            return
        repeat = self._repeat(path, content_type)
        passing = self._streams and repeat is None
        await self._delivery.take(self._url(path), data, content_type, repeat=repeat, passing=passing)
        self._came.add(path)
        if self._streams:
            self._delivery.watch.expect(True)
            self._delivery.watch.ingested()
        else:
            self._expect()

    def _is_manifest(self, path: str, content_type: str, data: bytes) -> bool:
        return path == self._named if self._named else is_manifest(content_type, data)

    def _list(self, path: str, data: bytes) -> None:
        """Goes by a manifest from now on: how often what it lists is repeated, and what has still to come."""
        try:
            manifest = read_manifest(data, path)
        except IngestFailed as error:
            raise ManifestNotTaken(error.message) from error
        self._listed = {self._delivery.names.location(each.locator): each for each in manifest.objects}
        for held in self._delivery.objects:
            listed = self._listed.get(held.location)
            if listed is not None and self._repeats:
                held.repeat = listed.repetition_interval or self._interval or _AT_ONCE
        self._expect()

    def _expect(self) -> None:
        missing = [each for each in self._listed if self._delivery.objects.get(each) is None]
        self._delivery.watch.touch()
        self._delivery.watch.expect(bool(missing))

    def _repeat(self, path: str, content_type: str) -> timedelta | None:
        if self._streams:
            kind = content_type.partition(";")[0].strip().lower()
            repeated = path == self._named or kind in _MANIFEST_TYPES or "init" in path.rpartition("/")[2].lower()
            every_s = self._delivery.config.carried_interval_s
            return (self._interval or timedelta(seconds=every_s)) if repeated else None
        if not self._repeats:
            return None
        listed = self._listed.get(self._delivery.names.location(self._url(path)))
        interval = listed.repetition_interval if listed is not None else None
        return interval or self._interval or _AT_ONCE


def _keep(transaction: Transaction, session_id: str, path: str, data: bytes, content_type: str) -> None:
    number = transaction.cursor(_NUMBER) + 1
    transaction.set_cursor(_NUMBER, number)
    kept = PushedObject(dist_session_id=session_id, path=path, content_type=content_type, content=data, number=number)
    transaction.put(kept, pushed_name(session_id, path), parent=session_id)
