"""N4 of a UPF whose wires somebody else owns: when they forward, and what it refuses. No packets, no root."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from nf.common.channels import Channels
from nf.common.errors import FailedPrecondition
from nf.common.telemetry import Telemetry
from upf.counters import Totals, WireCounters
from upf.live.metrics import LiveMetrics
from upf.live.under_n4 import served
from upf.n4.engines import engine_under_smf
from upf.n4.v1 import n4_pb2 as n4
from upf.n4.v1.n4_pb2_grpc import N4ServiceStub
from upf.traffic.v1.traffic_pb2 import ReplayRequest
from upf.traffic.v1.traffic_pb2_grpc import TrafficServiceStub


@dataclass
class Gate:
    forwarding: bool = True


@asynccontextmanager
async def live_upf(gate: Gate) -> AsyncIterator[tuple[Channels, str]]:
    telemetry = Telemetry()
    uplink, downlink = engine_under_smf(1000), engine_under_smf(1000)
    async with served("127.0.0.1:0", uplink=uplink, downlink=downlink, gate=gate, telemetry=telemetry) as address:
        channels = Channels({"upf": address}, function="test", telemetry=telemetry)
        try:
            yield channels, address
        finally:
            await channels.close()


@pytest.mark.clause("TS 23.527 §4.2 restoration after a UPF restart")
async def test_packets_are_held_off_until_every_association_has_its_sessions() -> None:
    gate = Gate()
    async with live_upf(gate) as (channels, _):
        stub = N4ServiceStub(channels.get("upf"))
        assert not gate.forwarding
        for _ in range(2):
            await stub.SetUpAssociation(n4.SetUpAssociationRequest(node_id="smf"))
            assert not gate.forwarding
            assert not (await stub.Heartbeat(n4.HeartbeatRequest())).forwarding
            await stub.CompleteResynchronisation(n4.CompleteResynchronisationRequest(node_id="smf"))
            assert gate.forwarding
    # The end of its control is not the end of its policing.
    assert gate.forwarding


async def test_a_upf_with_live_traffic_takes_no_captures() -> None:
    async with live_upf(Gate()) as (channels, _):
        with pytest.raises(FailedPrecondition, match="this UPF polices live traffic") as refused:
            await TrafficServiceStub(channels.get("upf")).Replay(iter([ReplayRequest(capture=b"x")]))
        assert refused.value.reason == "LIVE_TRAFFIC"


async def test_an_address_that_is_taken_is_refused() -> None:
    async with live_upf(Gate()) as (_, address):
        engines = {"uplink": engine_under_smf(1), "downlink": engine_under_smf(1)}
        with pytest.raises(FailedPrecondition, match=address):
            async with served(address, **engines, gate=Gate(), telemetry=Telemetry()):
                raise AssertionError


class Wires:
    def counters(self) -> dict[str, WireCounters]:
        uplink = WireCounters(
            packets=45, bytes=4500, passed_packets=20, passed_bytes=2000, dropped_packets=10, dropped_bytes=1000,
            malformed_packets=5, malformed_bytes=500, held_off_packets=4, held_off_bytes=400, queued_packets=3,
            queued_bytes=300, errors={"no_room": 3}, error_bytes=300, reads=9, writes=8,
        )  # fmt: skip
        return {"uplink": uplink}


def test_prometheus_is_told_what_the_wires_have_counted() -> None:
    registry = CollectorRegistry()
    engine = engine_under_smf(1000)
    registry.register(LiveMetrics(Wires(), {"uplink": engine}))
    told = generate_latest(registry).decode().splitlines()
    samples = {line for line in told if not line.startswith("#")}
    assert samples == {
        f'castcore_live_{name}{{direction="uplink"{more}}} {value}.0'
        for name, more, value in (
            ("offered_packets_total", "", 45),
            ("offered_bytes_total", "", 4500),
            ("passed_packets_total", "", 20),
            ("passed_bytes_total", "", 2000),
            ("dropped_packets_total", "", 10),
            ("dropped_bytes_total", "", 1000),
            ("held_off_packets_total", "", 4),
            ("held_off_bytes_total", "", 400),
            ("error_packets_total", ',reason="no_room"', 3),
            ("unmatched_packets_total", "", 0),
            ("queued_packets", "", 3),
            ("queued_bytes", "", 300),
            ("flows", "", 0),
        )
    }


class Full:
    def totals(self) -> Totals:
        return Totals(
            packets=9, bytes=900, malformed={}, unmatched_packets=0, unmatched_bytes=0, flows=8, aged_flows=2,
            evicted_flows=1, time_steps_back=0, fragments_without_first=0,
        )  # fmt: skip


def test_flows_that_had_to_leave_the_table_are_not_in_it() -> None:
    registry = CollectorRegistry()
    registry.register(LiveMetrics(Wires(), {"uplink": Full()}))
    assert registry.get_sample_value("castcore_live_flows", {"direction": "uplink"}) == 5
