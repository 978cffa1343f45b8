"""The one place where CastcoreError and gRPC's rich status (google.rpc.Status) are turned into each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, cast

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from nf.common import errors
from nf.common.errors import CastcoreError, FieldViolation

DOMAIN: Final = "castcore"
_CAUSE: Final = "cause"
_LEFT_OUT: Final = "violations_left_out"

# gRPC refuses trailers of more than 8 KiB, and the caller would then not even learn the code. The message is in them
# twice, percent-encoded at worst, the rest in base64; what is cut is what the caller has sent.
_MESSAGE_BYTES: Final = 768
_METADATA_BYTES: Final = 128
_VIOLATION_BYTES: Final = 512
_VIOLATIONS_BYTES: Final = 2048

_CLASSES: Final[Mapping[str, type[CastcoreError]]] = {
    each.code: each
    for each in (
        errors.InvalidArgument,
        errors.Unauthenticated,
        errors.PermissionDenied,
        errors.NotFound,
        errors.AlreadyExists,
        errors.EtagMismatch,
        errors.FailedPrecondition,
        errors.ResourceExhausted,
        errors.Cancelled,
        errors.Unavailable,
        errors.DeadlineExceeded,
        errors.Internal,
        errors.Unimplemented,
    )
} | {"OUT_OF_RANGE": errors.InvalidArgument, "UNKNOWN": errors.Internal, "DATA_LOSS": errors.Internal}


def to_proto(error: CastcoreError) -> Status:
    """The error as google.rpc.Status with ErrorInfo and, where properties were refused, BadRequest.

    Long texts are cut; violations that find no room are counted in the metadata "violations_left_out".
    """
    status = Status(code=grpc.StatusCode[error.code].value[0], message=_cut(error.message, _MESSAGE_BYTES))
    violations = _bad_request(error.violations)
    left_out = len(error.violations) - len(violations.field_violations)
    facts = {**error.metadata, _LEFT_OUT: str(left_out) if left_out else "", _CAUSE: error.cause}
    metadata = {key: _cut(value, _METADATA_BYTES) for key, value in facts.items() if value}
    _attach(status, ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata))
    if error.violations:
        _attach(status, violations)
    return status


def to_grpc(error: CastcoreError) -> grpc.Status:
    """What a servicer context's ``abort_with_status`` takes."""
    return cast(grpc.Status, rpc_status.to_status(to_proto(error)))


def from_rpc_error(failure: grpc.aio.AioRpcError, *, peer: str = "") -> CastcoreError:
    """The error that the peer raised, with its reason, cause and violations; ``peer`` names it where it could not."""
    base = _CLASSES.get(failure.code().name, errors.Internal)
    status = _status_of(failure)
    if status is None:
        told = failure.details() or failure.code().name
        return base(f"{peer}: {told}" if peer else told)
    metadata: dict[str, str] = {}
    reason: str | None = None
    violations: list[FieldViolation] = []
    for detail in status.details:
        info, bad_request = ErrorInfo(), BadRequest()
        if detail.Unpack(info):
            metadata, reason = dict(info.metadata), info.reason
        elif detail.Unpack(bad_request):
            violations = [FieldViolation(each.field, each.description) for each in bad_request.field_violations]
    cause = metadata.pop(_CAUSE, "")
    return base(status.message, violations=violations, metadata=metadata, cause=cause, reason=reason)


def _status_of(failure: grpc.aio.AioRpcError) -> Status | None:
    for key, value in failure.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            return Status.FromString(value)
    return None


def _attach(status: Status, detail: ErrorInfo | BadRequest) -> None:
    packed = AnyMessage()
    packed.Pack(detail)
    status.details.append(packed)


def _bad_request(violations: Sequence[FieldViolation]) -> BadRequest:
    found, room = BadRequest(), _VIOLATIONS_BYTES
    for each in violations:
        told = BadRequest.FieldViolation(
            field=_cut(each.field, _VIOLATION_BYTES), description=_cut(each.description, _VIOLATION_BYTES)
        )
        room -= told.ByteSize()
        if room < 0:
            break
        found.field_violations.append(told)
    return found


def _cut(text: str, limit_bytes: int) -> str:
    """The text, or its beginning with "…", in at most so many bytes of UTF-8."""
    encoded = text.encode(errors="replace")
    if len(encoded) <= limit_bytes:
        return text
    return encoded[: limit_bytes - len("…".encode())].decode(errors="ignore") + "…"
