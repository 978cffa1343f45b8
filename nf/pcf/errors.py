"""The PCF's refusals, with the application errors of TS 29.514 §5.7.3 and TS 29.512 §5.7.3."""

from __future__ import annotations

from nf.common.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied


class InvalidServiceInformation(InvalidArgument):
    """The requested service information is wrong by itself."""

    reason = "INVALID_SERVICE_INFORMATION"
    cause = "INVALID_SERVICE_INFORMATION"


class FilterRestrictions(InvalidArgument):
    """A flow description that the network does not take."""

    reason = "FILTER_RESTRICTIONS"
    cause = "FILTER_RESTRICTIONS"


class RequestedServiceNotAuthorized(PermissionDenied):
    """What is asked for is more, or other, than what the operator grants."""

    reason = "REQUESTED_SERVICE_NOT_AUTHORIZED"
    cause = "REQUESTED_SERVICE_NOT_AUTHORIZED"


class RequestedServiceTemporarilyNotAuthorized(PermissionDenied):
    """What is asked for would be granted, if others did not have it already."""

    reason = "REQUESTED_SERVICE_TEMPORARILY_NOT_AUTHORIZED"
    cause = "REQUESTED_SERVICE_TEMPORARILY_NOT_AUTHORIZED"


class PduSessionNotAvailable(NotFound):
    """The UE that the application session names has no PDU session that fits."""

    reason = "PDU_SESSION_NOT_AVAILABLE"
    cause = "PDU_SESSION_NOT_AVAILABLE"


class AmbiguousPduSession(FailedPrecondition):
    """The UE's address occurs in several data networks or slices, and the request names none."""

    reason = "AMBIGUOUS_PDU_SESSION"
    cause = "PDU_SESSION_NOT_AVAILABLE"


class AppSessionNotFound(NotFound):
    """No application session has this identifier."""

    reason = "APPLICATION_SESSION_CONTEXT_NOT_FOUND"
    cause = "APPLICATION_SESSION_CONTEXT_NOT_FOUND"


class AppSessionExists(AlreadyExists):
    """The identifier is taken by an application session with other content."""

    reason = "DUPLICATED_AF_SESSION"
    cause = "DUPLICATED_AF_SESSION"


class PolicyAssociationExists(AlreadyExists):
    """The identifier is taken by a policy association with other content."""

    reason = "POLICY_ASSOCIATION_EXISTS"


class PolicyAssociationNotFound(NotFound):
    """No policy association has this identifier."""

    reason = "POLICY_CONTEXT_NOT_FOUND"
    cause = "POLICY_CONTEXT_NOT_FOUND"


class QosReferenceNotArranged(NotFound):
    """The operator has arranged no QoS under this name."""

    reason = "QOS_REFERENCE_NOT_ARRANGED"
