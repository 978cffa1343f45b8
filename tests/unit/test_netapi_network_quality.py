"""What the network can do of what an application needs, by what a device has and what is measured."""

from __future__ import annotations

import pytest

from nf.netapi.network_quality import Provided, assess, concerns, networks_of, port_ranges
from nf.netapi.usage import Measured
from nf.netapi.v1 import camara_insights_pb2 as v1
from nf.netapi.v1.booking_pb2 import BookedTraffic
from nf.netapi.v1.coverage_pb2 import QosProfile

MEETS, UNABLE, NOTHING = v1.CONFIDENCE_MEETS, v1.CONFIDENCE_UNABLE, v1.CONFIDENCE_UNSPECIFIED
NEEDED = QosProfile(
    guaranteed_downlink_bps=1000, guaranteed_uplink_bps=100, packet_error_loss_ppm=1000, packet_delay_budget_ms=50,
    jitter_ms=5,
)  # fmt: skip


def measured(downlink_bps: int = 0, uplink_bps: int = 0, loss_ppm: int | None = None) -> Measured:
    return Measured(downlink_bps, uplink_bps, loss_ppm, 1, 1)


@pytest.mark.parametrize(
    ("provided", "downlink", "uplink", "loss"),
    [
        ([], UNABLE, UNABLE, NOTHING),
        ([Provided(1000, 100, None)], MEETS, MEETS, NOTHING),
        ([Provided(999, 99, None)], UNABLE, UNABLE, NOTHING),
        ([Provided(0, 0, measured(1000, 99, 1000))], MEETS, UNABLE, MEETS),
        ([Provided(0, 0, measured(999, 100, 1001))], UNABLE, MEETS, UNABLE),
        ([Provided(1000, 0, measured(0, 0, 5000)), Provided(0, 100, measured(0, 0, 10))], MEETS, MEETS, MEETS),
    ],
)
def test_a_rate_is_met_by_guarantee_or_measure_and_loss_by_measure_alone(
    provided: list[Provided], downlink: int, uplink: int, loss: int
):
    found = assess(NEEDED, provided)
    assert (found.target_min_downstream_rate, found.target_min_upstream_rate) == (downlink, uplink)
    assert found.packetloss_error_rate == loss
    # They are not measured.
    assert (found.packet_delay_budget, found.jitter) == (NOTHING, NOTHING)


def test_of_what_is_not_demanded_nothing_is_said():
    assert assess(QosProfile(), [Provided(1000, 1000, measured(5, 5, 5))]) == v1.NetworkQualityInsight()


@pytest.mark.parametrize(
    ("flows", "names", "is_meant"),
    [
        ([], [], True),
        (["permit out ip from any to assigned"], [], True),
        (["permit out 17 from 198.51.100.0/24 443 to assigned"], [], True),
        (["permit out 17 from 198.51.100.7 400-500,8000 to assigned 9000"], [], True),
        (["permit out 17 from 198.51.100.7 80,8000-8099 to assigned"], [], False),
        (["permit out 17 from 198.51.101.0/24 443 to assigned"], [], False),
        (["permit out 17 from 2001:db8::/32 443 to assigned"], [], False),
        (["permit out 17 from 198.51.101.0/24 to assigned"], ["radio.example.com"], True),
    ],
)
def test_booked_traffic_is_of_a_server_by_its_flows_or_by_names_that_may_lead_there(
    flows: list[str], names: list[str], is_meant: bool
):
    servers = networks_of(v1.InsightsApplicationServer(ipv4_address="198.51.100.7/32"))
    ports = port_ranges(v1.InsightsPorts(ports=[443], ranges=[v1.InsightsPortRange(first=9100, last=9200)]))
    assert concerns(BookedTraffic(flow_descriptions=flows, domain_names=names), servers, ports) is is_meant
    assert concerns(BookedTraffic(flow_descriptions=flows[:1]), servers, []) or "198.51.100" not in flows[0]
