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


class InvalidMbsServiceInfo(InvalidArgument):
    """The MBS service information is wrong by itself (TS 29.537)."""

    reason = "INVALID_MBS_SERVICE_INFO"
    cause = "INVALID_MBS_SERVICE_INFO"


class MbsFilterRestrictions(InvalidArgument):
    """A flow description of an MBS session that the network does not take (TS 29.537)."""

    reason = "FILTER_RESTRICTIONS_NOT_RESPECTED"
    cause = "FILTER_RESTRICTIONS_NOT_RESPECTED"


class MbsServiceInfoNotAuthorized(PermissionDenied):
    """What an MBS session needs is more, or other, than what the operator grants (TS 29.537).

    The metadata say what would be granted: see AcceptableMbsServInfo of the contract.
    """

    reason = "MBS_SERVICE_INFO_NOT_AUTHORIZED"
    cause = "MBS_SERVICE_INFO_NOT_AUTHORIZED"


class MbsPolicyContextDenied(PermissionDenied):
    """The operator grants such an MBS session nothing, whatever it needs (TS 29.537)."""

    reason = "MBS_POLICY_CONTEXT_DENIED"
    cause = "MBS_POLICY_CONTEXT_DENIED"


class MbsContextNotFound(NotFound):
    """No MBS application session context has this identifier."""

    reason = "MBS_CONTEXT_NOT_FOUND"
    cause = "RESOURCE_CONTEXT_NOT_FOUND"


class MbsContextExists(AlreadyExists):
    """The identifier is taken by an MBS application session context with other content."""

    reason = "MBS_CONTEXT_EXISTS"


class MbsPolicyNotFound(NotFound):
    """No MBS policy has this identifier."""

    reason = "MBS_POLICY_NOT_FOUND"
    cause = "RESOURCE_CONTEXT_NOT_FOUND"


class MbsPolicyExists(AlreadyExists):
    """The identifier is taken by an MBS policy with other content."""

    reason = "MBS_POLICY_EXISTS"
