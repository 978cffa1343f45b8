"""MBS-5 over HTTP: where clients fetch announcements (TS 26.517 §5.3, §7, /3gpp-mbs5/v1).

A description alone, its session descriptions by their URLs; or both in one piece, for clients that accept it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Final
from urllib.parse import quote

from nf.common.codec import to_json
from nf.common.errors import InvalidArgument, NotFound
from nf.common.json_text import encode
from nf.common.rest import Answer, Door, Media, Query, RestCall
from nf.common.rest_body import JSON, preferred
from nf.common.store import Reader, Store
from nf.mbsf.announcement import DESCRIPTIONS_TYPE, Announcement, announce, bundle
from nf.mbsf.announcements import (
    ServiceAnnounced,
    announced,
    announced_session,
    was_announced,
    was_service_announced,
)
from nf.mbsf.session_description import MEDIA_TYPE as SDP_TYPE

PREFIX: Final = "/3gpp-mbs5/v1"
DESCRIPTIONS: Final = "/user-service-descriptions"
DESCRIPTION: Final = f"{DESCRIPTIONS}/{{externalServiceId}}"
SESSION: Final = "/session-descriptions/{mbsDistSessionId}"

_BUNDLE: Final = "multipart/related"
_OFFERED: Final = (JSON, DESCRIPTIONS_TYPE, _BUNDLE)
_ONE: Final = Media(_OFFERED, {"type": "object", "required": ["serviceId"]})
_LIST: Final = Media(_OFFERED, {"type": "array", "minItems": 1, "items": {"type": "object", "required": ["serviceId"]}})
_SDP: Final = Media((SDP_TYPE,))
_CLASS: Final = "service-class"

Call = RestCall[None]


class AnnouncementWithdrawn(NotFound):
    """What was asked for was announced, and is so no more (TS 26.502 §4.6.1 step 4a)."""

    http_status: ClassVar[int] = 410
    reason = "ANNOUNCEMENT_WITHDRAWN"


def build_door(store: Store, max_age_s: int) -> Door[None]:
    """The door at ``PREFIX``. It is open to UEs, who may keep what they get for ``max_age_s``."""
    door: Door[None] = Door(
        PREFIX,
        title="MBS-5: service announcements",
        version="1.2.0",
        description="What clients are told of MBS user services (TS 26.517). 410 says that a service was announced and "
        "is so no more.",
        function="mbsf",
        identify=_anyone,
        max_age_s=max_age_s,
    )
    announcements = _Announcements(store)
    door.operation(
        "GET",
        DESCRIPTIONS,
        announcements.discover,
        operation_id="discoverUserServiceDescriptions",
        summary="The services of a class that are announced",
        answers={200: _LIST, 204: None},
        query=(Query(_CLASS, "The class, as a URI.", {"type": "string", "minLength": 1}, required=True),),
    )
    door.operation(
        "GET",
        DESCRIPTION,
        announcements.read,
        operation_id="retrieveUserServiceDescription",
        summary="The announcement of a service, by its external identifier",
        answers={200: _ONE},
        errors=(410,),
    )
    door.operation(
        "GET",
        SESSION,
        announcements.session,
        operation_id="retrieveSessionDescription",
        summary="How a distribution session is received",
        answers={200: _SDP},
        errors=(410,),
    )
    return door


def _anyone(_: Mapping[str, str]) -> None:
    return


class _Announcements:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def discover(self, call: Call) -> Answer:
        wanted = call.query(_CLASS)
        if not wanted:
            raise InvalidArgument.of(_CLASS, "expected the URI of a service class, found nothing")
        found = await self._store.read(lambda reader: announced(reader, service_class=wanted))
        if not found:
            return Answer(204)
        return _answer(call, [_announcement(call, each) for each in found], lambda each: encode(list(each)))

    async def read(self, call: Call) -> Answer:
        name = call.path["externalServiceId"]

        def look(reader: Reader) -> ServiceAnnounced:
            found = announced(reader, external_service_id=name)
            if found:
                return found[0]
            if was_service_announced(reader, name):
                raise AnnouncementWithdrawn(f"service {name!r} is announced no more")
            raise NotFound(f"no service {name!r} is announced")

        found = await self._store.read(look)
        return _answer(call, [_announcement(call, found, name)], lambda each: encode(each[0]))

    async def session(self, call: Call) -> Answer:
        name = call.path["mbsDistSessionId"]

        def look(reader: Reader) -> ServiceAnnounced:
            found = announced_session(reader, name)
            if found is not None:
                return ServiceAnnounced(found[0], (found[1],))
            if was_announced(reader, name):
                raise AnnouncementWithdrawn(f"distribution session {name!r} is announced no more")
            raise NotFound(f"no distribution session {name!r} is announced")

        announcement = _announcement(call, await self._store.read(look))
        content = announcement.session_descriptions[0][1].encode()
        return Answer(200, content, etag=_etag(content), media_type=SDP_TYPE)


def _announcement(call: Call, found: ServiceAnnounced, service_id: str = "") -> Announcement:
    # As this client reaches the door, so will it reach what is there.
    def locate(name: str) -> str:
        return call.url_of(f"{PREFIX}/session-descriptions/{quote(name, safe='')}")

    return announce(found.service, found.sessions, locate=locate, service_id=service_id)


def _answer(
    call: Call, told: Sequence[Announcement], document: Callable[[Sequence[Mapping[str, object]]], bytes]
) -> Answer:
    media_type = preferred(call.header("accept"), _OFFERED)
    if media_type == _BUNDLE:
        whole = bundle(told)
        return Answer(200, whole.content, etag=whole.etag, media_type=whole.content_type)
    content = document([to_json(each.description) for each in told])
    return Answer(200, content, etag=_etag(content), media_type=media_type)


def _etag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
