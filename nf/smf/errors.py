"""The SMF's refusals, with the application errors of TS 29.502 §6.1.7.3, TS 29.512 §5.7.3 and TS 29.532 §6."""

from __future__ import annotations

from nf.common.errors import (
    AlreadyExists,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)


class PduSessionNotFound(NotFound):
    """No PDU session has this reference."""

    reason = "CONTEXT_NOT_FOUND"
    cause = "CONTEXT_NOT_FOUND"


class PduSessionExists(AlreadyExists):
    """The reference, or the PDU session identity of the subscriber, is taken."""

    reason = "PDU_SESSION_EXISTS"


class UeAddressInUse(AlreadyExists):
    """Another PDU session of the data network has the UE's address."""

    reason = "UE_ADDRESS_IN_USE"


class PolicyContextNotFound(NotFound):
    """No PDU session has this policy association: it was released, or never was."""

    reason = "POLICY_CONTEXT_NOT_FOUND"
    cause = "POLICY_CONTEXT_NOT_FOUND"


class StaleDecision(FailedPrecondition):
    """A later decision is in force."""

    reason = "STALE_DECISION"


class UserPlaneWithoutN3(FailedPrecondition):
    """A PDU session with AN tunnel info needs a UPF that has an end of N3."""

    reason = "UPF_WITHOUT_N3"


class UserPlaneUnavailable(Unavailable):
    """The UPF does not answer, or is being brought back in step."""

    reason = "UPF_NOT_RESPONDING"
    cause = "UPF_NOT_RESPONDING"


class MbsSessionNotFound(NotFound):
    """No MBS session has this reference (TS 29.532)."""

    reason = "UNKNOWN_MBS_SESSION"
    cause = "UNKNOWN_MBS_SESSION"


class MbsSessionExists(AlreadyExists):
    """The reference is taken by an MBS session with other content."""

    reason = "MBS_SESSION_EXISTS"


class MbsSessionAlreadyCreated(PermissionDenied):
    """Another MBS session has this MBS session ID, and they are not both location-dependent (TS 29.532)."""

    reason = "MBS_SESSION_ALREADY_CREATED"
    cause = "MBS_SESSION_ALREADY_CREATED"


class OverlappingMbsServiceArea(PermissionDenied):
    """The service area overlaps with another's of the same MBS session ID (TS 29.532)."""

    reason = "OVERLAPPING_MBS_SERVICE_AREA"
    cause = "OVERLAPPING_MBS_SERVICE_AREA"


class MbsServiceAreaNotSupported(PermissionDenied):
    """Nothing of the service area is served by this SMF (TS 29.580)."""

    reason = "MBS_SERVICE_AREA_NOT_SUPPORTED"
    cause = "MBS_SERVICE_AREA_NOT_SUPPORTED"


class UnknownTmgi(NotFound):
    """The TMGI is not allocated by this SMF, or has expired (TS 29.532)."""

    reason = "UNKNOWN_TMGI"
    cause = "UNKNOWN_TMGI"


class TmgiInUse(FailedPrecondition):
    """An MBS session stands on the TMGI: it is released first."""

    reason = "TMGI_IN_USE"


class NoTmgiLeft(ResourceExhausted):
    """Every TMGI of the range is allocated."""

    reason = "NO_TMGI_LEFT"
    cause = "INSUFFICIENT_RESOURCES"
