"""The SMF's refusals, with the application errors of TS 29.502 §6.1.7.3 and TS 29.512 §5.7.3."""

from __future__ import annotations

from nf.common.errors import AlreadyExists, FailedPrecondition, NotFound, Unavailable


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
