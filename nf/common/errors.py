"""The exception tree: each class carries its gRPC code, HTTP status, machine reason and 3GPP cause (TS 29.500 §5.2.7).

Domain logic raises these and knows no transport; ``rpc_status`` and ``http`` translate them, each in one place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One property that was refused: its path in the words of the request, and what was found and expected."""

    field: str
    description: str


class CastcoreError(Exception):
    """Something that a caller is told: what, why in machine words, and which properties were at fault.

    ``reason`` (UPPER_SNAKE) and ``cause`` (the specification's application error, or empty) come from the class unless
    given; ``metadata`` are further facts for programs.
    """

    code: ClassVar[str] = "INTERNAL"
    http_status: ClassVar[int] = 500
    reason: str = "INTERNAL"
    cause: str = ""

    def __init__(
        self,
        message: str,
        *,
        violations: Sequence[FieldViolation] = (),
        metadata: Mapping[str, str] = MappingProxyType({}),
        cause: str | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.violations = tuple(violations)
        self.metadata = dict(metadata)
        if cause is not None:
            self.cause = cause
        if reason is not None:
            self.reason = reason


class InvalidArgument(CastcoreError):
    """The request is wrong by itself, whatever the state."""

    code = "INVALID_ARGUMENT"
    http_status = 400
    reason = "INVALID_ARGUMENT"
    cause = "INVALID_MSG_FORMAT"

    @classmethod
    def of(cls, field: str, description: str) -> InvalidArgument:
        """The error about one property."""
        return cls(f"{field}: {description}", violations=(FieldViolation(field, description),))

    @classmethod
    def of_all(cls, violations: Sequence[FieldViolation]) -> InvalidArgument:
        """The error about several properties."""
        return cls("; ".join(f"{each.field}: {each.description}" for each in violations), violations=violations)


class Unauthenticated(CastcoreError):
    """The caller has not shown who it is."""

    code = "UNAUTHENTICATED"
    http_status = 401
    reason = "UNAUTHENTICATED"

    @property
    def challenge(self) -> str:
        """The value of WWW-Authenticate (RFC 6750 §3); a credential that was shown, and refused, is told so."""
        return 'Bearer realm="castcore"' + (', error="invalid_token"' if self.reason == "INVALID_TOKEN" else "")


class PermissionDenied(CastcoreError):
    """The caller may not do this."""

    code = "PERMISSION_DENIED"
    http_status = 403
    reason = "PERMISSION_DENIED"


class NotFound(CastcoreError):
    """The resource does not exist."""

    code = "NOT_FOUND"
    http_status = 404
    reason = "NOT_FOUND"


class AlreadyExists(CastcoreError):
    """The resource exists, with other content."""

    code = "ALREADY_EXISTS"
    http_status = 409
    reason = "ALREADY_EXISTS"


class EtagMismatch(CastcoreError):
    """The resource has changed since the caller read it."""

    code = "ABORTED"
    http_status = 412
    reason = "ETAG_MISMATCH"


class FailedPrecondition(CastcoreError):
    """The state does not allow it."""

    code = "FAILED_PRECONDITION"
    http_status = 409
    reason = "FAILED_PRECONDITION"


class ResourceExhausted(CastcoreError):
    """A bound has been reached."""

    code = "RESOURCE_EXHAUSTED"
    http_status = 429
    reason = "RESOURCE_EXHAUSTED"
    cause = "NF_CONGESTION"


class Cancelled(CastcoreError):
    """The caller, or a peer that is stopping, gave the call up."""

    code = "CANCELLED"
    http_status = 499
    reason = "CANCELLED"


class Unavailable(CastcoreError):
    """The function or its peer cannot serve now; a repeat may succeed."""

    code = "UNAVAILABLE"
    http_status = 503
    reason = "UNAVAILABLE"


class DeadlineExceeded(CastcoreError):
    """The answer did not come in time; whether it took effect is unknown."""

    code = "DEADLINE_EXCEEDED"
    http_status = 504
    reason = "DEADLINE_EXCEEDED"
    cause = "TIMED_OUT_REQUEST"


class Internal(CastcoreError):
    """A fault of castcore's own."""

    code = "INTERNAL"
    http_status = 500
    reason = "INTERNAL"
    cause = "SYSTEM_FAILURE"


class Unimplemented(CastcoreError):
    """Known, but not offered here."""

    code = "UNIMPLEMENTED"
    http_status = 501
    reason = "UNIMPLEMENTED"
