"""The service descriptor filter from the answer to an activation, in the three ways of TS 26.512 A.3.2 step 7."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from nf.af.v1.media_session_pb2 import DynamicPolicy, ServiceDescriptorFilter
from nf.client.dash.combinations import DescriptorFilter
from nf.client.dash.service_descriptions import AUDIO, VIDEO
from nf.common.v1.types_pb2 import MEDIA_TYPE_AUDIO, MEDIA_TYPE_VIDEO

_MEDIA: Final = {MEDIA_TYPE_AUDIO: AUDIO, MEDIA_TYPE_VIDEO: VIDEO}


class Way(enum.Enum):
    """How the filter was come by."""

    IN_THE_ANSWER = "in the answer"
    LOOKED_UP = "looked up by a value of the answer"
    DERIVED = "derived from the bit rate of the answer"


def from_message(message: ServiceDescriptorFilter | None) -> DescriptorFilter | None:
    """The filter of a message; None, or a message without a bound: no filter."""
    if message is None or not (message.service_description_id or message.operating_bandwidth_max_bps):
        return None
    return DescriptorFilter(
        service_description_id=message.service_description_id,
        operating_bandwidth_max_bps=message.operating_bandwidth_max_bps or None,
        media_type=_MEDIA.get(message.media_type, ""),
    )


def from_policy(
    policy: DynamicPolicy, known: Mapping[str, DescriptorFilter] = MappingProxyType({})
) -> tuple[DescriptorFilter, Way] | None:
    """The filter that goes with an activated policy, and how it was come by; None: the policy has no bound.

    known: filters that the application has (from M8, say) by a value of the answer: the policy template's identifier,
    or the enforcement bit rate in bit/s.
    """
    given = from_message(policy.service_descriptor_filter)
    if given is not None:
        return given, Way.IN_THE_ANSWER
    for value in (policy.policy_template_id, str(policy.enforcement_bit_rate_bps)):
        if value in known:
            return known[value], Way.LOOKED_UP
    if policy.enforcement_bit_rate_bps:
        return DescriptorFilter(operating_bandwidth_max_bps=policy.enforcement_bit_rate_bps), Way.DERIVED
    return None
