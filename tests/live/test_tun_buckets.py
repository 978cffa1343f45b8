"""Whose bucket a live packet is charged to: flows share that of their rule, or each has its own; others have none."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from live.live_traffic import FlowArrived, Sent, Traffic, sent
from live.live_tun import SERVER, SERVER6, UE, tun_between
from live.networks import Network

pytestmark = pytest.mark.alone

MBPS = 1_000_000
PORT = 5000
FIRST, SECOND, OTHER = 30_001, 30_002, 30_003
RATE_BPS, OFFERED_BPS = 20 * MBPS, 30 * MBPS
# Deep enough for what a busy machine may hold a packet up.
BURST_BYTES = 200_000
SECONDS = 3
RULE = (
    *("--flow", f"permit out 17 from any to any {FIRST},{SECOND}"),
    *("--rate", f"{RATE_BPS // MBPS} Mbps", "--burst", f"{BURST_BYTES} B"),
)


def offer(
    source: Network, destination: Network, traffic: Traffic, address: str
) -> tuple[Mapping[int, FlowArrived], Mapping[int, Sent]]:
    """Two flows that the rule wants and one that it does not: what arrives of each, and what was sent."""
    with traffic.sink(destination, PORT) as sink:
        flows = [(port, OFFERED_BPS, 500) for port in (FIRST, SECOND, OTHER)]
        offered = traffic.send_side_by_side(source, address, PORT, flows, seconds=SECONDS)
        arrived = sink.arrived()
    assert arrived.intact
    assert arrived.flows[OTHER].datagrams == offered[-1].datagrams, "an unmatched flow is untouched"
    return arrived.flows, dict(zip((FIRST, SECOND, OTHER), offered, strict=True))


@pytest.mark.parametrize("address", [SERVER, SERVER6], ids=["IPv4", "IPv6"])
def test_two_flows_under_one_rule_share_its_bucket(
    hosts: tuple[Network, Network], traffic: Traffic, address: str
) -> None:
    access, core = hosts
    with tun_between(access, core, *RULE) as tun:
        flows, offered = offer(access, core, traffic, address)
        final = tun.final()
    ours = offered[FIRST], offered[SECOND]
    seconds = (max(each.ended_ns for each in ours) - min(each.began_ns for each in ours)) / 1e9
    passed_bps = (flows[FIRST].bytes + flows[SECOND].bytes - BURST_BYTES) * 8 / seconds
    assert passed_bps == pytest.approx(RATE_BPS, rel=0.01)
    assert min(flows[FIRST].bytes, flows[SECOND].bytes) > 0
    (uplink,) = (rule for rule in final["rules"] if rule["direction"] == "uplink")
    assert uplink["passed_bytes"] == flows[FIRST].bytes + flows[SECOND].bytes
    assert final["uplink"]["unmatched_packets"] == flows[OTHER].datagrams


def test_per_flow_each_has_a_bucket_of_its_own(hosts: tuple[Network, Network], traffic: Traffic) -> None:
    access, core = hosts
    with tun_between(access, core, *RULE, "--per-flow"):
        flows, offered = offer(access, core, traffic, SERVER)
    for port in (FIRST, SECOND):
        assert (flows[port].bytes - BURST_BYTES) * 8 / offered[port].seconds == pytest.approx(RATE_BPS, rel=0.01)


def test_each_direction_has_a_bucket_of_its_own(hosts: tuple[Network, Network], traffic: Traffic) -> None:
    access, core = hosts
    sending = {"rate_bps": OFFERED_BPS, "length": 500, "seconds": SECONDS}
    with (
        tun_between(access, core, "--flow", "permit out 17 from any to any", *RULE[2:]),
        traffic.sink(core, PORT) as core_sink,
        traffic.sink(access, PORT) as access_sink,
        traffic.sending(access, SERVER, PORT, **sending) as up,
        traffic.sending(core, UE, PORT, **sending) as down,
    ):
        offered = sent(up), sent(down)
        arrived = core_sink.arrived(), access_sink.arrived()
    for each, came in zip(offered, arrived, strict=True):
        assert (came.bytes - BURST_BYTES) * 8 / each.seconds == pytest.approx(RATE_BPS, rel=0.01)
