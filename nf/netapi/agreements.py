"""Agreements: what a provider may book, where, how much, for what (live media distribution workflow, preconditions)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from nf.common.errors import FieldViolation
from nf.common.reader import Reader
from nf.netapi.errors import AgreementLimitExceeded, AgreementSuspended, BookingQuotaExceeded, NotInAgreement
from nf.netapi.v1.agreement_pb2 import Agreement
from nf.netapi.v1.booking_pb2 import BookingRequest
from nf.netapi.v1.coverage_pb2 import CapabilityProfile


def require(reader: Reader, agreement_id: str) -> Agreement:
    """The agreement of that name. Raises NotFound."""
    return reader.require(Agreement, agreement_id)


def allows_area(agreement: Agreement, area_id: str) -> bool:
    """Whether the area may be booked under the agreement."""
    return not agreement.area_ids or area_id in agreement.area_ids


def allows_profile(agreement: Agreement, profile_id: str) -> bool:
    """Whether the capability profile may be booked under the agreement."""
    return not agreement.profile_ids or profile_id in agreement.profile_ids


def latest_stop(agreement: Agreement, now: datetime) -> datetime | None:
    """When the last period of a booking made now has to be over; None: whenever."""
    if not agreement.limits.HasField("advance_days"):
        return None
    return now + timedelta(days=agreement.limits.advance_days)


def check_booking(
    agreement: Agreement,
    request: BookingRequest,
    now: datetime,
    standing: int,
    *,
    profiles: Mapping[str, CapabilityProfile],
) -> None:
    """Whether the agreement allows the booking, beside the ``standing`` ones (neither declined nor over).

    For a reconfiguration ``standing`` is without the booking itself. ``profiles`` are those the request names. Of a
    period that repeats the first occurrence counts here; the others are bounded by ``latest_stop``. Raises
    AgreementSuspended, BookingQuotaExceeded, NotInAgreement and AgreementLimitExceeded, with paths into the request.
    """
    name, limits = agreement.agreement_id, agreement.limits
    if agreement.suspended:
        raise AgreementSuspended(f"agreement {name!r} is suspended: it takes no new bookings")
    if limits.HasField("bookings") and standing >= limits.bookings:
        raise BookingQuotaExceeded(f"agreement {name!r} allows {limits.bookings} bookings, and {standing} stand")
    refused: list[FieldViolation] = []
    for index, each in enumerate(request.area_capabilities):
        where = f"area_capabilities[{index}]"
        if not allows_area(agreement, each.area_id):
            refused.append(FieldViolation(f"{where}.area_id", f"agreement {name!r} does not have {each.area_id!r}"))
        if not allows_profile(agreement, each.profile_id):
            refused.append(
                FieldViolation(f"{where}.profile_id", f"agreement {name!r} does not have {each.profile_id!r}")
            )
    if refused:
        raise NotInAgreement(_told(refused), violations=refused)
    refused += _beyond_limits(agreement, request, profiles)
    latest = latest_stop(agreement, now)
    for index, period in enumerate(request.periods):
        if latest is not None and period.stop_time.ToDatetime(UTC) > latest:
            why = f"expected at most {limits.advance_days} days from now, found {period.stop_time.ToJsonString()}"
            refused.append(FieldViolation(f"periods[{index}].stop_time", why))
    if refused:
        raise AgreementLimitExceeded(_told(refused), violations=refused)


def _beyond_limits(
    agreement: Agreement, request: BookingRequest, profiles: Mapping[str, CapabilityProfile]
) -> list[FieldViolation]:
    """What of the request is more than one booking may have in one area."""
    limits = agreement.limits
    refused: list[FieldViolation] = []
    downlink: dict[str, int] = {}
    uplink: dict[str, int] = {}
    for index, each in enumerate(request.area_capabilities):
        where = f"area_capabilities[{index}]"
        devices = each.devices or request.population.devices
        if limits.HasField("devices") and devices > limits.devices:
            refused.append(FieldViolation(f"{where}.devices", f"expected at most {limits.devices}, found {devices}"))
        profile = profiles.get(each.profile_id)
        if profile is None:
            continue
        for name, taken, rate, bounded, most in (
            (
                "downlink",
                downlink,
                profile.qos.guaranteed_downlink_bps,
                limits.HasField("downlink_bps"),
                limits.downlink_bps,
            ),
            ("uplink", uplink, profile.qos.guaranteed_uplink_bps, limits.HasField("uplink_bps"), limits.uplink_bps),
        ):
            taken[each.area_id] = taken.get(each.area_id, 0) + rate * devices
            if bounded and rate and taken[each.area_id] > most:
                why = f"expected at most {most} bps {name} in {each.area_id!r}, found {taken[each.area_id]}"
                refused.append(FieldViolation(where, why))
    return refused


def _told(refused: Sequence[FieldViolation]) -> str:
    return "; ".join(f"{each.field}: {each.description}" for each in refused)
