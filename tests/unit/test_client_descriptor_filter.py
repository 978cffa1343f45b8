"""The three ways in which the Media Session Handler comes by the service descriptor filter (TS 26.512 A.3.2 step 7)."""

from __future__ import annotations

import pytest

from nf.af.v1.media_session_pb2 import DynamicPolicy, ServiceDescriptorFilter
from nf.client.descriptor_filter import Way, filter_of
from nf.common.v1.types_pb2 import MEDIA_TYPE_VIDEO

GIVEN = ServiceDescriptorFilter(service_description_id="3", operating_bandwidth_max_bps=5)
BY_TEMPLATE = ServiceDescriptorFilter(service_description_id="7")
BY_RATE = ServiceDescriptorFilter(operating_bandwidth_max_bps=6)


@pytest.mark.clause("TS 26.512 A.3.2 step 7")
@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (DynamicPolicy(enforcement_bit_rate_bps=8, service_descriptor_filter=GIVEN), (GIVEN, Way.IN_THE_ANSWER)),
        (DynamicPolicy(policy_template_id="t", enforcement_bit_rate_bps=8), (BY_TEMPLATE, Way.LOOKED_UP)),
        (DynamicPolicy(enforcement_bit_rate_bps=8), (BY_RATE, Way.LOOKED_UP)),
        (
            DynamicPolicy(enforcement_bit_rate_bps=9, media_type=MEDIA_TYPE_VIDEO),
            (ServiceDescriptorFilter(operating_bandwidth_max_bps=9, media_type=MEDIA_TYPE_VIDEO), Way.DERIVED),
        ),
        # A filter that bounds nothing is none.
        (
            DynamicPolicy(enforcement_bit_rate_bps=8, service_descriptor_filter=ServiceDescriptorFilter()),
            (BY_RATE, Way.LOOKED_UP),
        ),
        (DynamicPolicy(), None),
    ],
)
def test_the_filter_is_come_by_in_three_ways(
    policy: DynamicPolicy, expected: tuple[ServiceDescriptorFilter, Way] | None
) -> None:
    assert filter_of(policy, {"t": BY_TEMPLATE, "8": BY_RATE}) == expected
