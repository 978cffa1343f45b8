"""The MBSTF's refusals, with the application errors of TS 29.581 §6.1.7."""

from __future__ import annotations

from nf.common.errors import (
    AlreadyExists,
    CastcoreError,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)


class DistSessionNotFound(NotFound):
    """No distribution session has this identifier."""

    reason = "DIST_SESSION_NOT_FOUND"
    cause = "CONTEXT_NOT_FOUND"


class DistSessionExists(AlreadyExists):
    """The identifier is taken by a session of other content."""

    reason = "DIST_SESSION_EXISTS"


class StateNotReachable(FailedPrecondition):
    """The life cycle leads from the present state to the wanted one in no way (TS 26.502 §4.6.1)."""

    reason = "DIST_SESSION_STATE_NOT_REACHABLE"


class TunnelUnknown(FailedPrecondition):
    """A session is established and sent only to an MB-UPF whose tunnel address is known."""

    reason = "MB_UPF_TUNNEL_UNKNOWN"


class NoTransportSessionLeft(ResourceExhausted):
    """Every FLUTE transport session identifier of the source is in use."""

    reason = "NO_TSI_LEFT"


class IngestFailed(CastcoreError):
    """Nothing could be ingested: the source was not reached, or refused, or sent what cannot be used."""

    code = "FAILED_PRECONDITION"
    http_status = 502
    reason = "SERVICE_MANAGEMENT_FAILURE"
    cause = "DATA_INGEST_FAILURE"


class IngestTimedOut(DeadlineExceeded):
    """Nothing was ingested in time."""

    reason = "SERVICE_MANAGEMENT_FAILURE"
    cause = "DATA_INGEST_FAILURE"


class EstablishingEnded(FailedPrecondition):
    """While the session was being established it was asked to be INACTIVE, or deleted."""

    reason = "ESTABLISHING_ENDED"


class IngestAddressTaken(FailedPrecondition):
    """Another process has the address at which a session's packets come in."""

    reason = "INGEST_ADDRESS_TAKEN"


class ObjectRefused(CastcoreError):
    """An object cannot be taken: too large, of the wrong name, or more than there is room for."""

    code = "RESOURCE_EXHAUSTED"
    http_status = 413
    reason = "OBJECT_REFUSED"


class NotTheObject(FailedPrecondition):
    """The session has one object, and that is not its name."""

    reason = "NOT_THE_OBJECT"


class ManifestNotTaken(InvalidArgument):
    """An object manifest was sent that cannot be read."""

    reason = "OBJECT_MANIFEST_INVALID"


class NotIngesting(Unavailable):
    """The session takes nothing in: it is not being established, or has ended."""

    reason = "NOT_INGESTING"
