"""Agreements: what a provider may book, where, how much, for what (live media distribution workflow, preconditions)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from nf.common.errors import FieldViolation, InvalidArgument
from nf.common.reader import Page, Reader, not_found
from nf.common.resources import apply_mask, copy_of
from nf.common.transaction import Transaction
from nf.netapi import capacity, credentials
from nf.netapi.callers import Caller
from nf.netapi.errors import (
    AgreementLimitExceeded,
    AgreementNameUsed,
    AgreementSuspended,
    BookingQuotaExceeded,
    NotInAgreement,
    StillBooked,
)
from nf.netapi.names import name_violations, repeated_violations, text_violations
from nf.netapi.v1.agreement_pb2 import (
    Agreement,
    CreateAgreementRequest,
    EndedAgreement,
    ListAgreementsRequest,
    UpdateAgreementRequest,
)
from nf.netapi.v1.booking_pb2 import Booking, BookingRequest
from nf.netapi.v1.coverage_pb2 import CapabilityProfile, ServiceArea

# Called in the transaction that ends an agreement.
AgreementFollower: TypeAlias = Callable[[Transaction, str], None]

# What an operator may change of an agreement.
CHANGEABLE: Final = (
    "provider_name",
    "area_ids",
    "profile_ids",
    "limits",
    "price_percent",
    "offer_validity_s",
    "suspended",
)
_MAX_LIST: Final = 10_000
_MAX_PRICE_PERCENT: Final = 10_000
_MAX_OFFER_VALIDITY_S: Final = 30 * 86_400
_MAX_ADVANCE_DAYS: Final = 3660


def create(transaction: Transaction, request: CreateAgreementRequest, caller: Caller) -> Agreement:
    """A new agreement, as the operator has it. Raises AlreadyExists for a name that is taken."""
    caller.check_operator("make an agreement")
    made = copy_of(request.agreement)
    made.ClearField("etag")
    made.create_time.FromDatetime(transaction.clock.now())
    _check(transaction, made, Agreement())
    if transaction.get(EndedAgreement, made.agreement_id) is not None:
        raise AgreementNameUsed(
            f"agreement {made.agreement_id!r} has ended, and bookings made under it are kept: expected another name"
        )
    return transaction.insert(made, made.agreement_id)


def get(reader: Reader, agreement_id: str, caller: Caller) -> Agreement:
    """An agreement, for the operator and its provider. Raises NotFound."""
    if not caller.may_see(agreement_id):
        raise not_found(Agreement, agreement_id)
    return require(reader, agreement_id)


def page(reader: Reader, request: ListAgreementsRequest, caller: Caller) -> Page[Agreement]:
    """Agreements in the order of their creation: all for the operator, its own for a provider."""
    if caller.sees is not None:
        own = reader.get(Agreement, caller.sees)
        return Page([own] if own is not None else [], "")
    return reader.list(Agreement, page_size=request.page_size, page_token=request.page_token)


def update(transaction: Transaction, request: UpdateAgreementRequest, caller: Caller) -> Agreement:
    """Changes an agreement. Raises NotFound, EtagMismatch, InvalidArgument."""
    caller.check_operator("change an agreement")
    wanted = request.agreement
    current = require(transaction, wanted.agreement_id)
    changed = apply_mask(current, wanted, request.update_mask, CHANGEABLE)
    _check(transaction, changed, current)
    return transaction.update(changed, changed.agreement_id, expect_etag=wanted.etag)


def delete(
    transaction: Transaction, agreement_id: str, caller: Caller, followers: Sequence[AgreementFollower] = ()
) -> None:
    """Ends an agreement with its credentials, and by the ``followers`` what else its provider has.

    Raises NotFound, StillBooked while bookings stand under it.
    """
    caller.check_operator("end an agreement")
    require(transaction, agreement_id)
    standing = capacity.standing(transaction, agreement_id)
    if standing:
        raise StillBooked(f"agreement {agreement_id!r}: {standing} bookings stand under it, release them first")
    for follower in followers:
        follower(transaction, agreement_id)
    credentials.delete_all(transaction, agreement_id)
    transaction.delete(Agreement, agreement_id)
    if transaction.list(Booking, parent=agreement_id, page_size=1).items:
        ended = EndedAgreement(agreement_id=agreement_id)
        ended.end_time.FromDatetime(transaction.clock.now())
        transaction.insert(ended, agreement_id)


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


def _check(reader: Reader, agreement: Agreement, before: Agreement) -> None:
    found = _violations(reader, agreement, before)
    refused = [FieldViolation(f"agreement.{each.field}", each.description) for each in found]
    if refused:
        raise InvalidArgument(_told(refused), violations=refused)


def _violations(reader: Reader, agreement: Agreement, before: Agreement) -> Iterator[FieldViolation]:
    yield from name_violations("agreement_id", agreement.agreement_id)
    yield from text_violations("provider_name", agreement.provider_name)
    for field, names, known, kind in (
        ("area_ids", agreement.area_ids, before.area_ids, ServiceArea),
        ("profile_ids", agreement.profile_ids, before.profile_ids, CapabilityProfile),
    ):
        if len(names) > _MAX_LIST:
            yield FieldViolation(field, f"expected at most {_MAX_LIST}, found {len(names)}")
            continue
        yield from repeated_violations(field, names)
        # What it has already may have gone since.
        for index, each in enumerate(names):
            if each not in known and reader.get(kind, each) is None:
                yield FieldViolation(f"{field}[{index}]", f"expected one that there is, found {each!r}")
    for field, value, most in (
        ("price_percent", agreement.price_percent, _MAX_PRICE_PERCENT),
        ("offer_validity_s", agreement.offer_validity_s, _MAX_OFFER_VALIDITY_S),
        ("limits.advance_days", agreement.limits.advance_days, _MAX_ADVANCE_DAYS),
    ):
        if value > most:
            yield FieldViolation(field, f"expected at most {most}, found {value}")
