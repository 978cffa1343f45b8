"""CAMARA QoS profiles: capability profiles of Quality on Demand that an agreement may book (qos-profiles 1.2.0-rc.3).

Which there are, and what they look like to consumers. A rate is told as at most 1024 of a unit; what does not come out
even is rounded down: never more is told than there is.
"""

from __future__ import annotations

import re
from typing import Final

from nf.common.reader import Reader
from nf.netapi import agreements, coverage
from nf.netapi.v1.agreement_pb2 import Agreement
from nf.netapi.v1.camara_qos_profiles_pb2 import (
    CAMARA_RATE_UNIT_BPS,
    CAMARA_RATE_UNIT_GBPS,
    CAMARA_RATE_UNIT_KBPS,
    CAMARA_RATE_UNIT_MBPS,
    CAMARA_RATE_UNIT_TBPS,
    CAMARA_TIME_UNIT_MILLISECONDS,
    CAMARA_TIME_UNIT_SECONDS,
    QOS_PROFILE_STATUS_ACTIVE,
    QOS_PROFILE_STATUS_INACTIVE,
    CamaraDuration,
    CamaraQosProfile,
    CamaraRate,
    QosProfileStatus,
)
from nf.netapi.v1.coverage_pb2 import CAPABILITY_QUALITY_ON_DEMAND, CapabilityProfile

# What can be named at the CAMARA doors.
_NAME: Final = re.compile(r"[a-zA-Z0-9_.-]{3,256}")
_LARGEST: Final = 1024
_UNITS: Final = (
    (CAMARA_RATE_UNIT_BPS, 1),
    (CAMARA_RATE_UNIT_KBPS, 10**3),
    (CAMARA_RATE_UNIT_MBPS, 10**6),
    (CAMARA_RATE_UNIT_GBPS, 10**9),
    (CAMARA_RATE_UNIT_TBPS, 10**12),
)
_DAY_S: Final = 86_400
_MAX_DESCRIPTION: Final = 1024


def offered(reader: Reader, agreement: Agreement) -> list[CapabilityProfile]:
    """The profiles that consumers under the agreement know, in the order of their creation."""
    return [each for each in coverage.profiles(reader) if is_offered(each, agreement)]


def is_offered(profile: CapabilityProfile, agreement: Agreement) -> bool:
    """Whether consumers under the agreement know the profile."""
    return (
        profile.capability == CAPABILITY_QUALITY_ON_DEMAND
        and agreements.allows_profile(agreement, profile.profile_id)
        and _NAME.fullmatch(profile.profile_id) is not None
    )


def find(reader: Reader, agreement: Agreement, name: str) -> CapabilityProfile | None:
    """The profile of that name, if consumers under the agreement know it."""
    found = reader.get(CapabilityProfile, name)
    return found if found is not None and is_offered(found, agreement) else None


def status_under(agreement: Agreement) -> QosProfileStatus.ValueType:
    """Whether anything can be booked under the agreement at present."""
    return QOS_PROFILE_STATUS_INACTIVE if agreement.suspended else QOS_PROFILE_STATUS_ACTIVE


def longest_s(agreement: Agreement, configured_s: int) -> int:
    """How long a session may last under the agreement."""
    if not agreement.limits.HasField("advance_days"):
        return configured_s
    return min(configured_s, agreement.limits.advance_days * _DAY_S)


def view_of(profile: CapabilityProfile, agreement: Agreement, configured_s: int) -> CamaraQosProfile:
    """The profile for consumers under the agreement."""
    qos = profile.qos
    view = CamaraQosProfile(
        name=profile.profile_id,
        status=status_under(agreement),
        min_duration=CamaraDuration(value=1, unit=CAMARA_TIME_UNIT_SECONDS),
        max_duration=CamaraDuration(value=max(1, longest_s(agreement, configured_s)), unit=CAMARA_TIME_UNIT_SECONDS),
    )
    if profile.description:
        view.description = printable(profile.description)
    for target, rate_bps in (
        (view.target_min_upstream_rate, qos.guaranteed_uplink_bps),
        (view.max_upstream_rate, qos.max_uplink_bps or qos.guaranteed_uplink_bps),
        (view.target_min_downstream_rate, qos.guaranteed_downlink_bps),
        (view.max_downstream_rate, qos.max_downlink_bps or qos.guaranteed_downlink_bps),
    ):
        if rate_bps:
            target.CopyFrom(rate_of(rate_bps))
    for span, span_ms in (
        (view.packet_delay_budget, qos.packet_delay_budget_ms),
        (view.jitter, qos.jitter_ms),
    ):
        if span_ms:
            span.CopyFrom(CamaraDuration(value=span_ms, unit=CAMARA_TIME_UNIT_MILLISECONDS))
    if qos.packet_error_loss_ppm:
        view.packet_error_loss_exponent = loss_exponent(qos.packet_error_loss_ppm)
    return view


def rate_of(rate_bps: int) -> CamaraRate:
    """A bit rate as at most 1024 of the greatest unit that it is even in, else of the smallest unit, rounded down."""
    for unit, size_bps in reversed(_UNITS):
        if rate_bps % size_bps == 0 and 0 < rate_bps // size_bps <= _LARGEST:
            return CamaraRate(value=rate_bps // size_bps, unit=unit)
    for unit, size_bps in _UNITS:
        if rate_bps <= _LARGEST * size_bps:
            return CamaraRate(value=rate_bps // size_bps, unit=unit)
    return CamaraRate(value=_LARGEST, unit=CAMARA_RATE_UNIT_TBPS)


def loss_exponent(loss_ppm: int) -> int:
    """The greatest n, 1 to 10, for which at most 10⁻ⁿ of the packets may be lost."""
    exponent = 1
    while exponent < 10 and loss_ppm * 10 ** (exponent + 1) <= 1_000_000:
        exponent += 1
    return exponent


def printable(text: str) -> str:
    """The text as descriptions may be: without control characters, and not too long."""
    kept = "".join(each if each in "\t\n" or (each >= " " and not "\x7f" <= each <= "\x9f") else " " for each in text)
    return kept[:_MAX_DESCRIPTION]
