"""What an agreement lets a provider book."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from nf.common.errors import CastcoreError
from nf.netapi.agreements import check_booking, latest_stop
from nf.netapi.callers import OPERATOR, Caller, covers
from nf.netapi.errors import AgreementNeeded
from nf.netapi.v1.agreement_pb2 import Agreement, AgreementLimits
from nf.netapi.v1.booking_pb2 import AreaCapability, BookingPeriod, BookingRequest, Population
from nf.netapi.v1.coverage_pb2 import CapabilityProfile, QosProfile

pytestmark = pytest.mark.clause("5G-MAG live media distribution Preconditions")

NOW = datetime(2026, 6, 1, tzinfo=UTC)
PROFILES = {
    "audio": CapabilityProfile(
        profile_id="audio", qos=QosProfile(guaranteed_downlink_bps=1_000_000, guaranteed_uplink_bps=100_000)
    ),
    "video": CapabilityProfile(profile_id="video", qos=QosProfile(guaranteed_downlink_bps=5_000_000)),
    "fence": CapabilityProfile(profile_id="fence"),
}


def request(*capabilities: tuple[str, str, int], days: float = 1) -> BookingRequest:
    period = BookingPeriod()
    period.start_time.FromDatetime(NOW)
    period.stop_time.FromDatetime(NOW + timedelta(days=days))
    chosen = [AreaCapability(area_id=a, profile_id=p, devices=n) for a, p, n in capabilities]
    return BookingRequest(
        population=Population(application_id="radio", devices=10), area_capabilities=chosen, periods=[period]
    )


def agreement(**terms: object) -> Agreement:
    return Agreement(agreement_id="radio", **terms)  # type: ignore[arg-type]


def test_an_agreement_without_terms_allows_all() -> None:
    check_booking(agreement(), request(("a", "video", 10_000), days=3650), NOW, 10_000, profiles=PROFILES)


def test_what_is_just_within_the_terms_is_allowed() -> None:
    limits = AgreementLimits(bookings=3, devices=10, downlink_bps=60_000_000, uplink_bps=1_000_000, advance_days=7)
    terms = agreement(area_ids=["a", "b"], profile_ids=["audio", "video"], limits=limits)
    # The same rate in each area; the limit is of one.
    wanted = request(("a", "audio", 10), ("a", "video", 0), ("b", "video", 10), days=7)
    check_booking(terms, wanted, NOW, 2, profiles=PROFILES)


@pytest.mark.parametrize(
    ("terms", "wanted", "standing", "reason", "field"),
    [
        ({"suspended": True}, lambda: request(("a", "audio", 1)), 0, "AGREEMENT_SUSPENDED", None),
        ({"limits": AgreementLimits(bookings=3)}, lambda: request(("a", "audio", 1)), 3, "QUOTA_EXCEEDED", None),
        ({"limits": AgreementLimits(bookings=0)}, lambda: request(("a", "audio", 1)), 0, "QUOTA_EXCEEDED", None),
        (
            {"area_ids": ["b"]},
            lambda: request(("b", "audio", 1), ("a", "audio", 1)),
            0,
            "NOT_IN_AGREEMENT",
            "area_capabilities[1].area_id",
        ),
        (
            {"profile_ids": ["video"]},
            lambda: request(("a", "audio", 1)),
            0,
            "NOT_IN_AGREEMENT",
            "area_capabilities[0].profile_id",
        ),
        (
            {"limits": AgreementLimits(devices=9)},
            lambda: request(("a", "audio", 9), ("a", "fence", 0)),
            0,
            "AGREEMENT_LIMIT_EXCEEDED",
            "area_capabilities[1].devices",
        ),
        (
            {"limits": AgreementLimits(downlink_bps=59_999_999)},
            lambda: request(("a", "audio", 10), ("a", "fence", 0), ("a", "video", 10)),
            0,
            "AGREEMENT_LIMIT_EXCEEDED",
            "area_capabilities[2]",
        ),
        (
            {"limits": AgreementLimits(uplink_bps=999_999)},
            lambda: request(("a", "audio", 10)),
            0,
            "AGREEMENT_LIMIT_EXCEEDED",
            "area_capabilities[0]",
        ),
        (
            {"limits": AgreementLimits(advance_days=7)},
            lambda: request(("a", "audio", 1), days=7.01),
            0,
            "AGREEMENT_LIMIT_EXCEEDED",
            "periods[0].stop_time",
        ),
    ],
)
def test_what_is_beyond_the_terms_is_refused_with_its_place(
    terms: dict[str, object], wanted: Callable[[], BookingRequest], standing: int, reason: str, field: str | None
) -> None:
    with pytest.raises(CastcoreError) as refused:
        check_booking(agreement(**terms), wanted(), NOW, standing, profiles=PROFILES)
    assert refused.value.reason == reason
    assert [each.field for each in refused.value.violations] == ([field] if field else [])


def test_the_last_moment_that_may_be_booked_is_counted_from_now() -> None:
    assert latest_stop(agreement(), NOW) is None
    assert latest_stop(agreement(limits=AgreementLimits(advance_days=3)), NOW) == NOW + timedelta(days=3)


@pytest.mark.parametrize(
    ("granted", "scope", "is_covered"),
    [
        ("a", "a", True),
        ("a", "a:b:c", True),
        ("a:b", "a:b:c", True),
        ("a:b:c", "a:b", False),
        ("a", "ab", False),
        ("a:b", "a:bc", False),
    ],
)
def test_a_scope_covers_what_it_begins_with(granted: str, scope: str, is_covered: bool) -> None:
    assert covers(frozenset((granted,)), scope) is is_covered
    assert Caller("x", scopes=frozenset((granted,))).has_scope(scope) is is_covered
    assert Caller("x").has_scope(scope)


def test_the_operator_sees_everything_and_books_nothing() -> None:
    assert OPERATOR.may_see("radio")
    assert OPERATOR.sees is None
    with pytest.raises(AgreementNeeded):
        OPERATOR.require_agreement()
    own = Caller("radio")
    assert (own.may_see("radio"), own.may_see("other"), own.sees, own.audience) == (
        True,
        False,
        "radio",
        "agreement/radio",
    )
    assert own.scoped("RequestBooking") != Caller("other").scoped("RequestBooking")
