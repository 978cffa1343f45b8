"""The objects that the MBSTF has at hand: held in memory, once however many sessions send them, within bounds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from nf.mbstf.errors import ObjectRefused
from nf.mbstf.naming import Names
from nf.mbstf.objects import Object


@dataclass(slots=True)
class _Held:
    data: bytes
    holders: int = 0


class Holdings:
    """The contents of all sessions together, at most ``max_bytes`` of them."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held: dict[bytes, _Held] = {}
        self.bytes = 0

    def hold(self, digest: bytes, data: bytes) -> bytes:
        """The content as it is held, for one more holder. Raises ObjectRefused where there is no room."""
        held = self._held.get(digest)
        if held is None:
            if self.bytes + len(data) > self._max_bytes:
                raise ObjectRefused(
                    f"no room for an object of {len(data)} bytes: {self.bytes} of {self._max_bytes} are held"
                    " (mbstf.held_max_bytes)"
                )
            held = self._held[digest] = _Held(data)
            self.bytes += len(data)
        held.holders += 1
        return held.data

    def drop(self, digest: bytes) -> None:
        """One holder less."""
        held = self._held[digest]
        held.holders -= 1
        if not held.holders:
            del self._held[digest]
            self.bytes -= len(held.data)


@dataclass(slots=True, eq=False)
class HeldObject:
    """An object of a session, and how it is sent.

    ``repeat`` is the time between the beginnings of two sendings; None: it is sent once. ``taken`` is when it came.
    """

    object: Object
    digest: bytes
    size: int
    etag: str
    content_type: str
    data: bytes
    taken: datetime
    repeat: timedelta | None = None
    # Objects that are given are not the session's own.
    carried: bool = False
    sent: int = field(default=0)

    @property
    def location(self) -> str:
        """Its name."""
        return self.object.location


class SessionObjects:
    """The objects of one session by name, in the order in which they came."""

    def __init__(self, holdings: Holdings, names: Names, max_bytes: int) -> None:
        self.names = names
        self._holdings = holdings
        self._max_bytes = max_bytes
        self._objects: dict[str, HeldObject] = {}
        self._paths: dict[str, str] = {}
        self.bytes = 0

    def __iter__(self) -> Iterator[HeldObject]:
        return iter(list(self._objects.values()))

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, location: str) -> HeldObject | None:
        """The object of that name."""
        return self._objects.get(location)

    def at_path(self, path: str) -> HeldObject | None:
        """The object that is repaired at that path."""
        return self._objects.get(self._paths.get(path, path))

    def put(
        self,
        location: str,
        data: bytes,
        content_type: str,
        now: datetime,
        *,
        digest: bytes,
        repeat: timedelta | None,
        carried: bool = False,
    ) -> HeldObject | None:
        """Holds an object; what had its name goes. None: it is there with the very same content.

        ``digest`` is the content's.
        Raises ObjectRefused where there is no room.
        """
        known = self._objects.get(location)
        if known is not None and known.digest == digest and known.content_type == content_type:
            known.repeat = repeat
            return None
        room = self._max_bytes - self.bytes + (known.size if known is not None else 0)
        if len(data) > room:
            raise ObjectRefused(
                f"no room for {location} of {len(data)} bytes: the session holds {self.bytes} of {self._max_bytes}"
                " (mbstf.session_max_bytes)"
            )
        content = self._holdings.hold(digest, data)
        self.remove(location)
        etag = digest.hex()[:32]
        sent_as = Object(location=location, content=content, content_type=content_type, etag=etag)
        held = HeldObject(sent_as, digest, len(content), etag, content_type, content, now, repeat, carried)
        self._objects[location] = held
        self._paths[self.names.repair_path(location)] = location
        self.bytes += held.size
        return held

    def remove(self, location: str) -> HeldObject | None:
        """Lets go of an object; None: there was none."""
        held = self._objects.pop(location, None)
        if held is not None:
            self._paths.pop(self.names.repair_path(location), None)
            self._holdings.drop(held.digest)
            self.bytes -= held.size
        return held

    def clear(self) -> None:
        """Lets go of all."""
        for location in list(self._objects):
            self.remove(location)


def digest_of(data: bytes) -> bytes:
    """By which contents are told apart."""
    return hashlib.sha256(data).digest()
