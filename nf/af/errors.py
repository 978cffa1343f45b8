"""What the AF refuses for reasons of its own (TS 26.512 §7.9, §11.5)."""

from __future__ import annotations

from nf.common.errors import AlreadyExists, FailedPrecondition, InvalidArgument, PermissionDenied


class ExternalReferenceInUse(AlreadyExists):
    """Another policy template of the provisioning session has the same external reference."""

    reason = "EXTERNAL_REFERENCE_IN_USE"


class ConsumptionReportingAlreadyActive(AlreadyExists):
    """The provisioning session has a consumption reporting configuration already."""

    reason = "CONSUMPTION_REPORTING_ALREADY_ACTIVE"


class ProvisioningSessionAmbiguous(FailedPrecondition):
    """The provider has several provisioning sessions that it could be about, and none was chosen."""

    reason = "PROVISIONING_SESSION_AMBIGUOUS"


class PolicyTemplateNotReady(FailedPrecondition):
    """The policy template is PENDING, INVALID or SUSPENDED."""

    reason = "POLICY_TEMPLATE_NOT_READY"


class DynamicPolicyTerminated(FailedPrecondition):
    """The dynamic policy ended while the request was under way, or before."""

    reason = "DYNAMIC_POLICY_TERMINATED"


class UeAddressUnknown(InvalidArgument):
    """Neither the flows, nor the peer, nor a trusted proxy says which UE the policy is for."""

    reason = "UE_ADDRESS_UNKNOWN"


class UeAddressMismatch(PermissionDenied):
    """The flows name another UE than the one that asks."""

    reason = "UE_ADDRESS_MISMATCH"


class NotOwnAspId(PermissionDenied):
    """The request names another application provider than the one that asks."""

    reason = "NOT_OWN_ASP_ID"


class OperatorOnly(PermissionDenied):
    """Only the operator of the network may do this."""

    reason = "OPERATOR_ONLY"


class RequestedQosNotAuthorized(PermissionDenied):
    """The media session needs more than its policy template is about."""

    reason = "REQUESTED_SERVICE_NOT_AUTHORIZED"
    cause = "REQUESTED_SERVICE_NOT_AUTHORIZED"


class LocationReportingNotAllowed(PermissionDenied):
    """Only providers that the operator trusts may ask for the UE's location."""

    reason = "LOCATION_REPORTING_NOT_ALLOWED"
