"""The exception tree and its one translation to google.rpc.Status and back."""

from __future__ import annotations

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo

from nf.common import errors
from nf.common.errors import CastcoreError, FieldViolation, NotFound
from nf.common.rpc_status import from_rpc_error, to_grpc, to_proto


class PduSessionNotAvailable(NotFound):
    """The UE has no PDU session (TS 29.514 §5.7)."""

    reason = "PDU_SESSION_NOT_AVAILABLE"
    cause = "PDU_SESSION_NOT_AVAILABLE"


TREE = [
    (errors.InvalidArgument, "INVALID_ARGUMENT", 400),
    (errors.Unauthenticated, "UNAUTHENTICATED", 401),
    (errors.PermissionDenied, "PERMISSION_DENIED", 403),
    (errors.NotFound, "NOT_FOUND", 404),
    (errors.AlreadyExists, "ALREADY_EXISTS", 409),
    (errors.EtagMismatch, "ABORTED", 412),
    (errors.FailedPrecondition, "FAILED_PRECONDITION", 409),
    (errors.ResourceExhausted, "RESOURCE_EXHAUSTED", 429),
    (errors.Cancelled, "CANCELLED", 499),
    (errors.Unavailable, "UNAVAILABLE", 503),
    (errors.DeadlineExceeded, "DEADLINE_EXCEEDED", 504),
    (errors.Internal, "INTERNAL", 500),
    (errors.Unimplemented, "UNIMPLEMENTED", 501),
]


def over_the_wire(error: CastcoreError) -> grpc.aio.AioRpcError:
    status = to_grpc(error)
    trailing = grpc.aio.Metadata(*status.trailing_metadata)
    return grpc.aio.AioRpcError(status.code, grpc.aio.Metadata(), trailing, details=status.details)


@pytest.mark.parametrize(("kind", "code", "http_status"), TREE)
def test_each_class_has_its_code_and_comes_back_as_itself(
    kind: type[CastcoreError], code: str, http_status: int
) -> None:
    assert (kind.code, kind.http_status) == (code, http_status)
    given = kind("why", violations=[FieldViolation("a.b", "wrong")], metadata={"k": "v"}, cause="C", reason="R")
    failure = over_the_wire(given)
    assert failure.code() is grpc.StatusCode[code]
    back = from_rpc_error(failure)
    assert type(back) is kind
    assert (back.message, back.reason, back.cause, back.metadata) == ("why", "R", "C", {"k": "v"})
    assert back.violations == given.violations


def test_a_functions_own_class_keeps_its_reason_and_cause_over_the_wire() -> None:
    back = from_rpc_error(over_the_wire(PduSessionNotAvailable("no PDU session has 10.45.0.9")))
    assert type(back) is NotFound
    assert (back.reason, back.cause) == ("PDU_SESSION_NOT_AVAILABLE", "PDU_SESSION_NOT_AVAILABLE")
    # And once more, as an AF that relays the PCF's refusal does.
    again = from_rpc_error(over_the_wire(back))
    assert (str(again), again.cause) == ("no PDU session has 10.45.0.9", "PDU_SESSION_NOT_AVAILABLE")


def test_the_status_names_domain_reason_and_cause() -> None:
    status = to_proto(PduSessionNotAvailable("gone", violations=[FieldViolation("ue_ipv4", "unknown")]))
    info, bad_request = ErrorInfo(), BadRequest()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(bad_request)
    assert (status.code, status.message) == (5, "gone")
    assert (info.domain, info.reason) == ("castcore", "PDU_SESSION_NOT_AVAILABLE")
    assert dict(info.metadata) == {"cause": "PDU_SESSION_NOT_AVAILABLE"}
    assert [(each.field, each.description) for each in bad_request.field_violations] == [("ue_ipv4", "unknown")]


def test_a_failure_without_rich_status_names_the_peer() -> None:
    failure = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "refused")
    error = from_rpc_error(failure, peer="pcf")
    assert type(error) is errors.Unavailable
    assert (str(error), error.reason) == ("pcf: refused", "UNAVAILABLE")


def test_codes_without_a_class_become_the_nearest() -> None:
    for code, kind in (("UNKNOWN", errors.Internal), ("OUT_OF_RANGE", errors.InvalidArgument)):
        failure = grpc.aio.AioRpcError(grpc.StatusCode[code], grpc.aio.Metadata(), grpc.aio.Metadata())
        assert type(from_rpc_error(failure)) is kind


def test_an_error_about_one_property_names_it() -> None:
    error = errors.InvalidArgument.of("page_size", "expected 0 or more, got -1")
    assert str(error) == "page_size: expected 0 or more, got -1"
    assert error.violations == (FieldViolation("page_size", "expected 0 or more, got -1"),)


def test_what_a_caller_has_sent_is_cut_so_that_the_refusal_reaches_it() -> None:
    refusal = errors.InvalidArgument(
        "ü" * 100_000,
        violations=[FieldViolation(f"flows[{at}]", "found " + "x" * at) for at in range(1000)],
        metadata={"name": "n" * 100_000},
    )
    back = from_rpc_error(over_the_wire(refusal))
    assert back.message == "ü" * 382 + "…"
    assert back.metadata["name"] == "n" * 125 + "…"
    assert len(back.violations) + int(back.metadata["violations_left_out"]) == 1000
    assert list(back.violations) == list(refusal.violations[: len(back.violations)])
    assert len(back.violations) > 10
