"""The service descriptor filter that goes with an activated policy, in the three ways of TS 26.512 A.3.2 step 7."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from nf.af.v1.media_session_pb2 import DynamicPolicy, ServiceDescriptorFilter

# Filters by a value of the answer: the policy template's identifier, or the enforcement bit rate in bit/s.
KnownFilters = Mapping[str, ServiceDescriptorFilter]

NONE_KNOWN: Final[KnownFilters] = MappingProxyType({})


class Way(enum.Enum):
    """How the filter was come by."""

    IN_THE_ANSWER = "in the answer"
    LOOKED_UP = "looked up by a value of the answer"
    DERIVED = "derived from the bit rate of the answer"


def filter_of(policy: DynamicPolicy, known: KnownFilters = NONE_KNOWN) -> tuple[ServiceDescriptorFilter, Way] | None:
    """The filter of a policy, and how it was come by; None: the policy bounds nothing."""
    given = policy.service_descriptor_filter
    if given.service_description_id or given.operating_bandwidth_max_bps:
        return given, Way.IN_THE_ANSWER
    for value in (policy.policy_template_id, str(policy.enforcement_bit_rate_bps)):
        if value in known:
            return known[value], Way.LOOKED_UP
    if policy.enforcement_bit_rate_bps:
        derived = ServiceDescriptorFilter(
            operating_bandwidth_max_bps=policy.enforcement_bit_rate_bps, media_type=policy.media_type
        )
        return derived, Way.DERIVED
    return None
