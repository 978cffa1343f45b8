"""What HTTP refuses for reasons of its own (RFC 9110 §15.5): methods, media types, lengths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import ClassVar

from nf.common.errors import CastcoreError, FailedPrecondition, FieldViolation


class HttpRefusal(CastcoreError):
    """A refusal with header fields that say how it is done right."""

    code: ClassVar[str] = "INVALID_ARGUMENT"

    def __init__(
        self,
        message: str,
        *,
        headers: Mapping[str, str] = MappingProxyType({}),
        violations: Iterable[FieldViolation] = (),
    ) -> None:
        super().__init__(message, violations=tuple(violations))
        self.headers = dict(headers)


class ResourceUnknown(HttpRefusal):
    """No resource has this path."""

    code = "NOT_FOUND"
    http_status = 404
    reason = "RESOURCE_URI_STRUCTURE_NOT_FOUND"
    cause = "RESOURCE_URI_STRUCTURE_NOT_FOUND"


class MethodNotAllowed(HttpRefusal):
    """The resource has no such method; ``Allow`` names those it has."""

    code = "UNIMPLEMENTED"
    http_status = 405
    reason = "METHOD_NOT_ALLOWED"

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(f"{method}: not supported here, expected {allowed}", headers={"allow": allowed})


class NotAcceptable(HttpRefusal):
    """The client takes nothing that the resource can be represented as."""

    http_status = 406
    reason = "NOT_ACCEPTABLE"


class LengthRequired(HttpRefusal):
    """A body is demanded, and the request neither says how long it is nor sends it in chunks."""

    http_status = 411
    reason = "LENGTH_REQUIRED"
    cause = "INCORRECT_LENGTH"


class ContentTooLarge(HttpRefusal):
    """The body is greater than the door takes."""

    http_status = 413
    reason = "CONTENT_TOO_LARGE"


class UnsupportedMediaType(HttpRefusal):
    """The body is of a type that the resource does not take."""

    http_status = 415
    reason = "UNSUPPORTED_MEDIA_TYPE"


class PatchConflict(FailedPrecondition):
    """The patch does not fit what the resource is now: a test of it failed, or a place of it is not there."""

    reason = "PATCH_CONFLICT"
    cause = "MODIFICATION_NOT_ALLOWED"
