"""The one place where CastcoreError and gRPC's rich status (google.rpc.Status) are turned into each other."""

from __future__ import annotations

from collections.abc import Mapping
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
    """The error as google.rpc.Status with ErrorInfo and, where properties were refused, BadRequest."""
    status = Status(code=grpc.StatusCode[error.code].value[0], message=error.message)
    metadata = {key: value for key, value in {**error.metadata, _CAUSE: error.cause}.items() if value}
    _attach(status, ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata))
    if error.violations:
        violations = [
            BadRequest.FieldViolation(field=each.field, description=each.description) for each in error.violations
        ]
        _attach(status, BadRequest(field_violations=violations))
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
