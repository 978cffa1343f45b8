"""The MBSTF's HTTP doors for objects: where they are pushed (Nmb8), and where receivers repair them (MBS-4-UC).

``PUT`` or ``POST /mbs-ingest/{dist_session_id}/{path}`` takes an object, ``DELETE`` withdraws it; ``GET
/mbs-as/{dist_session_id}/{path}`` gives it, or a range of its bytes.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Final, TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from nf.common.errors import InvalidArgument
from nf.common.rest_errors import MethodNotAllowed, ResourceUnknown
from nf.mbstf.distribution import DistSessions
from nf.mbstf.errors import NotIngesting, ObjectRefused
from nf.mbstf.holdings import HeldObject
from nf.mbstf.naming import PUSH_PREFIX, REPAIR_PREFIX
from nf.mbstf.object_delivery import ObjectDelivery
from nf.mbstf.push_ingest import PushIngest

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]

_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_MAX_PATH: Final = 1024
_MAX_TYPE: Final = 256


def object_routes(sessions: DistSessions, *, object_max_bytes: int) -> Sequence[BaseRoute]:
    """The routes of both doors."""

    async def take(request: Request) -> Response:
        ingest, path = await _pushed_to(sessions, request), _path(request)
        content_type = request.headers.get("content-type", "")
        if len(content_type) > _MAX_TYPE or not content_type.isprintable():
            raise InvalidArgument.of("Content-Type", f"expected a media type, found {content_type[:80]!r}")
        if "content-range" in request.headers:
            raise InvalidArgument.of("Content-Range", "an object is sent as a whole: expected none")
        data = await _body(request, object_max_bytes)
        new = await ingest.push(path, data, content_type or "application/octet-stream")
        return Response(status_code=HTTPStatus.CREATED if new else HTTPStatus.NO_CONTENT)

    async def withdraw(request: Request) -> Response:
        ingest, path = await _pushed_to(sessions, request), _path(request)
        if not await ingest.withdraw(path):
            raise ResourceUnknown(f"{request.url.path}: nothing was sent to it")
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def give(request: Request) -> Response:
        delivery = sessions.delivery(request.path_params["dist_session_id"])
        held = delivery.objects.at_path(_path(request)) if isinstance(delivery, ObjectDelivery) else None
        if held is None:
            raise ResourceUnknown(f"{request.url.path}: no such object is being distributed")
        return _answer(held, request)

    push = f"{PUSH_PREFIX}/{{dist_session_id}}/{{path:path}}"
    repair = f"{REPAIR_PREFIX}/{{dist_session_id}}/{{path:path}}"
    return (
        Route(push, _by_method({"PUT": take, "POST": take, "DELETE": withdraw}), methods=["PUT", "POST", "DELETE"]),
        Route(repair, give, methods=["GET"]),
    )


def _by_method(handlers: Mapping[str, Handler]) -> Handler:
    async def handle(request: Request) -> Response:
        return await handlers[request.method](request)

    return handle


def _path(request: Request) -> str:
    path: str = request.path_params["path"]
    if not path or len(path) > _MAX_PATH or not path.isprintable():
        raise InvalidArgument.of("path", f"expected 1 to {_MAX_PATH} printable characters, found {path[:80]!r}")
    return path


async def _pushed_to(sessions: DistSessions, request: Request) -> PushIngest:
    """What takes the objects of the session. Raises DistSessionNotFound, MethodNotAllowed, NotIngesting."""
    dist_session_id: str = request.path_params["dist_session_id"]
    delivery = sessions.delivery(dist_session_id)
    if delivery is None:
        await sessions.get(dist_session_id)
        raise NotIngesting(f"distribution session {dist_session_id!r} takes nothing in: it is not being established")
    if not isinstance(delivery, ObjectDelivery) or not isinstance(delivery.ingest, PushIngest):
        raise MethodNotAllowed(request.method, "none: the session's objects are not pushed")
    return delivery.ingest


async def _body(request: Request, max_bytes: int) -> bytes:
    announced = request.headers.get("content-length", "")
    pieces, total = [], int(announced) if announced.isdecimal() and len(announced) < 19 else 0
    if total <= max_bytes:
        total = 0
        async for piece in request.stream():
            total += len(piece)
            if total > max_bytes:
                break
            pieces.append(piece)
    if total > max_bytes:
        raise ObjectRefused(f"expected at most {max_bytes} bytes (mbstf.object_max_bytes), found {total} or more")
    return b"".join(pieces)


def _answer(held: HeldObject, request: Request) -> Response:
    etag = f'"{held.etag}"'
    headers = {
        "etag": etag,
        "accept-ranges": "bytes",
        "cache-control": "max-age=60",
        "content-location": held.location,
        "content-type": held.content_type or "application/octet-stream",
    }
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    wanted = request.headers.get("range", "")
    if request.headers.get("if-range", etag) != etag:
        wanted = ""
    found = _RANGE.fullmatch(wanted)
    if found is None or not (found[1] or found[2]):
        return Response(held.data, headers=headers)
    if found[1]:
        first, last = int(found[1]), min(int(found[2] or held.size - 1), held.size - 1)
    else:
        first, last = max(held.size - int(found[2]), 0), held.size - 1
    if first > last:
        headers["content-range"] = f"bytes */{held.size}"
        return Response(status_code=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers=headers)
    headers["content-range"] = f"bytes {first}-{last}/{held.size}"
    return Response(held.data[first : last + 1], status_code=HTTPStatus.PARTIAL_CONTENT, headers=headers)
