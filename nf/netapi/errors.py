"""The network API platform's refusals."""

from __future__ import annotations

from nf.common.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
)


class DeviceMismatch(InvalidArgument):
    """The names that are given for one device mean different ones."""

    reason = "DEVICE_MISMATCH"


class AmbiguousDevice(FailedPrecondition):
    """Several devices have the name that is given."""

    reason = "AMBIGUOUS_DEVICE"


class OperatorOnly(PermissionDenied):
    """Only the operator of the platform may do this."""

    reason = "OPERATOR_ONLY"


class AgreementNeeded(PermissionDenied):
    """Only a provider may do this: it is done under an agreement."""

    reason = "AGREEMENT_NEEDED"


class ScopeMissing(PermissionDenied):
    """The credential or access token was not issued for this."""

    reason = "SCOPE_MISSING"


class AgreementNameUsed(AlreadyExists):
    """An agreement of that name has ended, and what was booked under it is kept."""

    reason = "AGREEMENT_NAME_USED"


class AgreementSuspended(PermissionDenied):
    """The operator refuses new bookings under the agreement."""

    reason = "AGREEMENT_SUSPENDED"


class NotInAgreement(PermissionDenied):
    """The agreement does not have this service area or capability profile."""

    reason = "NOT_IN_AGREEMENT"


class AgreementLimitExceeded(PermissionDenied):
    """The agreement does not allow so much, or so far ahead."""

    reason = "AGREEMENT_LIMIT_EXCEEDED"


class BookingQuotaExceeded(ResourceExhausted):
    """As many bookings stand under the agreement as it allows."""

    reason = "QUOTA_EXCEEDED"
    cause = ""


class StillBooked(FailedPrecondition):
    """Bookings stand on it."""

    reason = "STILL_BOOKED"


class Unprocessable(FailedPrecondition):
    """The request is understood, and cannot be done for what it names (HTTP 422)."""

    http_status = 422
    reason = "SERVICE_NOT_APPLICABLE"


class MissingIdentifier(Unprocessable):
    """Neither the request nor the access token says which device is meant."""

    reason = "MISSING_IDENTIFIER"


class UnnecessaryIdentifier(Unprocessable):
    """Both the request and the access token say which device is meant."""

    reason = "UNNECESSARY_IDENTIFIER"


class UnsupportedIdentifier(Unprocessable):
    """The request names a device in ways that the platform does not know it by."""

    reason = "UNSUPPORTED_IDENTIFIER"


class IdentifierNotFound(NotFound):
    """The device that the request names is not known."""

    reason = "IDENTIFIER_NOT_FOUND"


class InvalidSink(InvalidArgument):
    """Events may not be sent to that URL: CAMARA's APIs want https."""

    reason = "INVALID_SINK"


class LocationNotBooked(PermissionDenied):
    """What is booked, or agreed on, does not include this knowledge of where devices are."""

    reason = "LOCATION_NOT_BOOKED"


class NotWithinPeriod(FailedPrecondition):
    """The booking is not within one of its periods, or has lost this capability."""

    reason = "NOT_WITHIN_PERIOD"


class AreaNotCovered(FailedPrecondition):
    """Nothing of the area is where the platform, or the booking, has capabilities."""

    reason = "AREA_NOT_COVERED"


class InvalidArea(InvalidArgument):
    """The area is too small, or is none."""

    reason = "INVALID_AREA"


class PositionUnknown(FailedPrecondition):
    """Nothing is known of where the device is."""

    reason = "POSITION_UNKNOWN"


class PositionTooOld(FailedPrecondition):
    """What is known of where the device is, is older than the caller wants it."""

    reason = "POSITION_TOO_OLD"


class TooManyGeofences(ResourceExhausted):
    """As many geofences stand under the agreement as the platform keeps for one."""

    reason = "QUOTA_EXCEEDED"
    cause = ""


class GeofencedDevicesExhausted(ResourceExhausted):
    """As many devices use the geofencing ID, or are watched under it, as are booked."""

    reason = "GEOFENCED_DEVICES_EXHAUSTED"
    cause = ""


class BookingOver(FailedPrecondition):
    """The booking has ended, or never began."""

    reason = "BOOKING_OVER"


class NotMeasured(FailedPrecondition):
    """Nothing measures what is asked for."""

    reason = "NOT_MEASURED"


class OfferLapsed(FailedPrecondition):
    """The offer's validity is over."""

    reason = "OFFER_LAPSED"


class OfferSuperseded(FailedPrecondition):
    """Another offer stands than the one that is meant, or none does."""

    reason = "OFFER_SUPERSEDED"


class NothingToOffer(FailedPrecondition):
    """No device of what is asked for fits into the areas and periods; the booking that is to change stays as it is."""

    reason = "NOTHING_TO_OFFER"


class BookingUnchangeable(FailedPrecondition):
    """The booking's state does not allow a reconfiguration."""

    reason = "BOOKING_UNCHANGEABLE"


class CredentialNeeded(PermissionDenied):
    """Access tokens are made from a credential, not from what is none."""

    reason = "CREDENTIAL_NEEDED"


class TooManyAccessTokens(ResourceExhausted):
    """As many access tokens of the credential are in force as may be."""

    reason = "TOO_MANY_ACCESS_TOKENS"


class NetworkAccessIdUnknown(NotFound):
    """No booking has this network access ID."""

    reason = "NETWORK_ACCESS_ID_UNKNOWN"


class NetworkAccessIdInactive(FailedPrecondition):
    """What the network access ID stands for is not booked any more."""

    reason = "NETWORK_ACCESS_ID_INACTIVE"


class NetworkAccessDevicesExhausted(ResourceExhausted):
    """As many devices use the network access ID as are booked."""

    reason = "NETWORK_ACCESS_DEVICES_EXHAUSTED"
    cause = ""


class PrivateKeyJwtNotConfigured(Unprocessable):
    """A sink wants tokens that are had with a private key, and none is configured."""

    reason = "PRIVATE_KEY_JWT_NOT_CONFIGURED"


class QosProfileNotApplicable(Unprocessable):
    """The QoS profile is there, and no session can be made with it at present."""

    reason = "QUALITY_ON_DEMAND.QOS_PROFILE_NOT_APPLICABLE"


class SessionDurationOutOfRange(InvalidArgument):
    """A session of the QoS profile may not last so long."""

    reason = "QUALITY_ON_DEMAND.DURATION_OUT_OF_RANGE"


class SessionExtensionNotAllowed(FailedPrecondition):
    """The session is not AVAILABLE, or there is no room for it to last longer."""

    reason = "QUALITY_ON_DEMAND.SESSION_EXTENSION_NOT_ALLOWED"


class SessionConflict(FailedPrecondition):
    """The device has a session for some of the same traffic."""

    reason = "CONFLICT"


class DeviceListedAlready(FailedPrecondition):
    """The device has access to the dedicated network already."""

    reason = "CONFLICT"


class IncompatibleNetworkState(FailedPrecondition):
    """The dedicated network is over."""

    reason = "INCOMPATIBLE_STATE"


class InvalidTokenContext(PermissionDenied):
    """The access token stands for another device than the request is about."""

    reason = "INVALID_TOKEN_CONTEXT"


class MultipleEventTypes(Unprocessable):
    """A subscription names several types of events, and may name one."""

    reason = "MULTIEVENT_SUBSCRIPTION_NOT_SUPPORTED"
