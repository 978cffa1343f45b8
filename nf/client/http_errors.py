"""Answers of an HTTP peer as CastcoreErrors: application/problem+json (TS 29.500 §5.2.7.2) or the bare status."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

import httpx

from nf.common import errors
from nf.common.errors import CastcoreError, FieldViolation

_SHOWN: Final = 200
_CLASSES: Final[Mapping[int, type[CastcoreError]]] = {
    400: errors.InvalidArgument,
    401: errors.Unauthenticated,
    403: errors.PermissionDenied,
    404: errors.NotFound,
    408: errors.DeadlineExceeded,
    409: errors.FailedPrecondition,
    410: errors.NotFound,
    412: errors.EtagMismatch,
    429: errors.ResourceExhausted,
    501: errors.Unimplemented,
    502: errors.Unavailable,
    503: errors.Unavailable,
    504: errors.DeadlineExceeded,
}


def error_of(response: httpx.Response) -> CastcoreError:
    """What the peer says with a status of 300 and more, with its cause and the properties that it refused."""
    status = response.status_code
    base = _CLASSES.get(status, errors.Internal if status >= 500 else errors.InvalidArgument)
    where = f"{response.request.method} {response.request.url}"
    try:
        said = json.loads(response.content)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        text = response.text[:_SHOWN].strip()
        return base(f"{where}: {status} {response.reason_phrase}{f': {text}' if text else ''}")
    detail = said.get("detail") or said.get("title") or response.reason_phrase
    told = said.get("invalidParams")
    violations = [
        FieldViolation(str(each.get("param", "")), str(each.get("reason", "")))
        for each in (told if isinstance(told, list) else ())
        if isinstance(each, dict)
    ]
    cause = said.get("cause")
    return base(f"{detail} ({where}: {status})", violations=violations, cause=cause if isinstance(cause, str) else None)


def error_from(failure: httpx.HTTPError, request: str) -> CastcoreError:
    """Why there is no answer."""
    if isinstance(failure, httpx.ConnectTimeout):
        return errors.Unavailable(f"{request}: no connection in time")
    if isinstance(failure, httpx.TimeoutException):
        return errors.DeadlineExceeded(f"{request}: no answer in time")
    return errors.Unavailable(f"{request}: {str(failure) or type(failure).__name__}")
