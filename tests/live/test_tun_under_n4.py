"""Live traffic under an SMF: real processes, real packets through a pair of tun devices between two namespaces."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from command import CASTCORE
from live.networks import Network, networks, required
from live.steady_flow import Arrival, SteadyFlow, missing, steady_flow
from running_core import (
    FLOW,
    POLICE,
    RATE_BPS,
    SERVER,
    SERVER_PORT,
    UE,
    UE_PORT,
    activate,
    castcore,
    forwarding,
    one_process_each,
    prepare,
)

from nf.common.channels import Channels
from nf.common.errors import FailedPrecondition
from nf.common.v1.types_pb2 import Usage
from upf.n4.v1 import n4_pb2 as n4
from upf.n4.v1.n4_pb2_grpc import N4ServiceStub
from upf.traffic.v1.traffic_pb2 import ReplayRequest
from upf.traffic.v1.traffic_pb2_grpc import TrafficServiceStub

CORE, ACCESS = n4.SOURCE_INTERFACE_CORE, n4.SOURCE_INTERFACE_ACCESS
# Eight times the rate of the policy.
IP_BYTES, GAP_US = 1_000, 1_000
# A quarter of a second.
BURST_BYTES = RATE_BPS // 32
# Packets that the rate of the policy lets pass.
A_SECOND = RATE_BPS // 8 // IP_BYTES


@dataclass(frozen=True)
class Lab:
    ue: Network
    data_network: Network

    @property
    def devices(self) -> tuple[str, ...]:
        """The options that attach a UPF here."""
        return (
            "--access", f"ue0@{self.ue.name}", "--core", f"dn0@{self.data_network.name}",
            "--address", f"access={UE}/32", "--address", f"core={SERVER}/32",
            "--route", "access=default", "--route", "core=10.45.0.0/16",
        )  # fmt: skip

    def downlink(self, *, gap_us: int = GAP_US) -> AbstractAsyncContextManager[SteadyFlow]:
        """The flow that the policy is about."""
        return steady_flow(self.data_network, SERVER_PORT, self.ue, (UE, UE_PORT), ip_bytes=IP_BYTES, gap_us=gap_us)

    def uplink(self, *, gap_us: int = GAP_US) -> AbstractAsyncContextManager[SteadyFlow]:
        """The flow of the other direction."""
        return steady_flow(self.ue, UE_PORT, self.data_network, (SERVER, SERVER_PORT), ip_bytes=IP_BYTES, gap_us=gap_us)


@pytest.fixture
def lab() -> Iterator[Lab]:
    required()
    with networks("ue", "dn") as (ue, data_network):
        yield Lab(ue, data_network)


@asynccontextmanager
async def live_core(lab: Lab, directory: Path) -> AsyncIterator[tuple[Channels, str]]:
    """The whole core in one process; channels to it, and its HTTP address."""
    with castcore("up", "--dir", str(directory / "state"), *lab.devices) as (_, ready):
        channels = Channels(ready["grpc"])
        try:
            yield channels, ready["http"]
        finally:
            await channels.close()


def metrics_of(http: str) -> dict[str, float]:
    """What the UPF tells of its live traffic, by name and labels, without what all names have in common."""
    with urllib.request.urlopen(f"{http}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    told = (line.removeprefix("castcore_live_").rpartition(" ") for line in lines if line.startswith("castcore_live_"))
    return {name: float(value) for name, _, value in told}


def policed(arrivals: list[Arrival]) -> bool:
    """Whether packets are missing of the flow, as they are as soon as the burst has been used up."""
    return len(arrivals) > 1 and missing(arrivals) > 0


def within_the_rate(arrivals: list[Arrival]) -> bool:
    """Whether a bucket that was full lets so many pass between the first's sending and the last's coming."""
    span_ns = arrivals[-1].received_ns - arrivals[0].sent_ns
    return IP_BYTES * len(arrivals) * 8e9 <= BURST_BYTES * 8e9 + RATE_BPS * span_ns


async def test_a_policy_activated_through_m5_polices_live_packets_a_moment_later(lab: Lab, tmp_path: Path) -> None:
    async with live_core(lab, tmp_path) as (channels, http):
        session = await prepare(channels, method=POLICE)
        async with lab.downlink() as flow:
            before = await flow.more(500)
            assert missing(before) == 0
            await session.activate()
            begun = len(flow.arrivals) - 1
            await flow.until(lambda arrivals: policed(arrivals[begun:]))
            during = await flow.more(A_SECOND)
            assert within_the_rate(during)
            assert missing(during) > 0
            await session.handler.deactivate()
            after = (await flow.more(500))[-400:]
            assert missing(after) == 0
        told = await asyncio.to_thread(metrics_of, http)
        assert told['passed_packets_total{direction="downlink"}'] == len(flow.arrivals)
        assert told['dropped_packets_total{direction="downlink"}'] == flow.sent - len(flow.arrivals)
        assert told['dropped_bytes_total{direction="downlink"}'] == IP_BYTES * (flow.sent - len(flow.arrivals))
        assert told['offered_packets_total{direction="downlink"}'] == flow.sent
        assert told['flows{direction="downlink"}'] == 1


async def test_each_direction_has_its_own_bucket(lab: Lab, tmp_path: Path) -> None:
    async with live_core(lab, tmp_path) as (channels, _):
        session = await prepare(channels, method=POLICE)
        async with lab.downlink() as down, lab.uplink() as up:
            await asyncio.gather(down.more(100), up.more(100))
            await session.activate()
            for flow in (down, up):
                await flow.until(policed)
            both = await asyncio.gather(down.more(A_SECOND), up.more(A_SECOND))
        for arrivals in both:
            assert within_the_rate(arrivals)
        together = sorted((each for arrivals in both for each in arrivals), key=lambda each: each.received_ns)
        assert not within_the_rate(together)


async def test_rules_change_at_run_time_without_losing_a_packet(lab: Lab, tmp_path: Path) -> None:
    """The flow keeps to its rate while its session and others come, change and go."""
    async with live_core(lab, tmp_path) as (channels, http):
        # The rule that detects the flow is one of the session itself: it is policed, at a rate that it keeps to.
        session = await prepare(channels, method=POLICE)
        await session.activate()
        stub = N4ServiceStub(channels.get("upf"))
        (own,) = (await stub.ListSessions(n4.ListSessionsRequest())).sessions
        # 800 kbit/s.
        async with lab.downlink(gap_us=10_000) as down, lab.uplink(gap_us=10_000) as up:
            await asyncio.gather(down.more(10), up.more(10))
            for number in range(50):
                await change_something(stub, own, number)
            for number in range(5):
                other = replace(FLOW, ue_port=UE_PORT + 1 + number)
                await session.handler.open_flow(other)
                await session.handler.close_flow(other)
            await asyncio.gather(down.more(10), up.more(10))
        assert (len(down.arrivals), len(up.arrivals)) == (down.sent, up.sent)
        told = await asyncio.to_thread(metrics_of, http)
        for direction in ("uplink", "downlink"):
            assert told[f'dropped_packets_total{{direction="{direction}"}}'] == 0
            assert told[f'unmatched_packets_total{{direction="{direction}"}}'] == 0


async def change_something(stub: N4ServiceStub, own: n4.Session, number: int) -> None:
    """Another session comes and goes; a PDR, a QER and a URR of the flow's own session do."""
    other = n4.Session(cp_seid=1_000_000 + number, urrs=[n4.Urr(urr_id=1)])
    other.qers.add(qer_id=1, mbr_dl_bps=1_000_000, mbr_ul_bps=1_000_000)
    for pdr_id, interface in ((1, CORE), (2, ACCESS)):
        pdi = n4.Pdi(source_interface=interface, ue_ip_address=f"10.46.{number % 200}.1")
        other.pdrs.add(pdr_id=pdr_id, precedence=10, pdi=pdi, qer_id=1, urr_id=1)
    await stub.EstablishSession(n4.EstablishSessionRequest(session=other))
    request = n4.ModifySessionRequest(cp_seid=own.cp_seid)
    request.create_or_update_qers.add(qer_id=90_000, mbr_dl_bps=64_000 + number)
    request.create_or_update_urrs.add(urr_id=90_000)
    description = n4.SdfFilter(flow_description="permit out 17 from 203.0.113.1 9 to assigned")
    pdi = n4.Pdi(source_interface=CORE, ue_ip_address=UE, sdf_filters=[description])
    request.create_or_update_pdrs.add(pdr_id=90_000, precedence=5, pdi=pdi, qer_id=90_000, urr_id=90_000)
    await stub.ModifySession(request)
    gone = {"remove_pdr_ids": [90_000], "remove_qer_ids": [90_000], "remove_urr_ids": [90_000]}
    await stub.ModifySession(n4.ModifySessionRequest(cp_seid=own.cp_seid, **gone))
    await stub.DeleteSession(n4.DeleteSessionRequest(cp_seid=other.cp_seid))


async def test_policing_outlives_a_killed_control_plane(lab: Lab, tmp_path: Path) -> None:
    arguments = ("--config", str(one_process_each(tmp_path)))
    with (
        castcore("run", "upf", *arguments, *lab.devices) as (_, upf_ready),
        castcore("run", "pcf", *arguments) as (pcf, pcf_ready),
        castcore("run", "smf", *arguments) as (smf, smf_ready),
        castcore("run", "af", *arguments) as (af, af_ready),
    ):
        channels = Channels(upf_ready["grpc"] | pcf_ready["grpc"] | smf_ready["grpc"] | af_ready["grpc"])
        await activate(channels, method=POLICE)
        await channels.close()
        async with lab.downlink() as flow:
            await flow.until(policed)
            for each in (af, pcf, smf):
                each.kill()
                each.wait()
            alone = await flow.more(2 * A_SECOND)
        assert within_the_rate(alone)
        assert missing(alone) > 0


async def test_after_a_killed_upf_nothing_passes_until_every_session_stands_again(lab: Lab, tmp_path: Path) -> None:
    arguments = ("--config", str(one_process_each(tmp_path)))
    with (
        castcore("run", "upf", *arguments, *lab.devices) as (upf, upf_ready),
        castcore("run", "pcf", *arguments) as (_, pcf_ready),
        castcore("run", "smf", *arguments) as (_, smf_ready),
        castcore("run", "af", *arguments) as (_, af_ready),
    ):
        channels = Channels(upf_ready["grpc"] | pcf_ready["grpc"] | smf_ready["grpc"] | af_ready["grpc"])
        await activate(channels, method=POLICE)
        stub = N4ServiceStub(channels.get("upf"))
        (before,) = (await stub.ListSessions(n4.ListSessionsRequest())).sessions
        async with AsyncExitStack() as running, lab.downlink() as flow:
            await flow.until(policed)
            upf.kill()
            upf.wait()
            assert (lab.ue.devices(), lab.data_network.devices()) == ([], [])
            known = len(flow.arrivals)
            _, again = running.enter_context(castcore("run", "upf", *arguments, *lab.devices))
            await forwarding(channels)
            await flow.more(A_SECOND)
            running_on = running.pop_all()
        async with running_on:
            passed = flow.arrivals[known:]
            assert within_the_rate(passed)
            told = await asyncio.to_thread(metrics_of, again["http"])
            assert told['held_off_packets_total{direction="downlink"}'] > 0
            assert told['passed_packets_total{direction="downlink"}'] == len(passed)
            # Each of them as a packet of the policy: none as one of a rule that stood earlier.
            (after,) = (await stub.ListSessions(n4.ListSessionsRequest())).sessions
            (usage,) = await usage_of(stub, after, SERVER_PORT)
            assert usage.downlink.conforming.packets == len(passed)
        assert {pdr.pdr_id for pdr in after.pdrs} == {pdr.pdr_id for pdr in before.pdrs}
        await channels.close()


async def usage_of(stub: N4ServiceStub, session: n4.Session, port: int) -> list[Usage]:
    """What the URR has counted that the flow from this port is counted by."""
    urr_ids = {
        pdr.urr_id for pdr in session.pdrs if any(f" {port} " in each.flow_description for each in pdr.pdi.sdf_filters)
    }
    request = n4.ModifySessionRequest(cp_seid=session.cp_seid, query_urr_ids=urr_ids)
    return [report.usage for report in (await stub.ModifySession(request)).usage_reports]


async def test_a_upf_with_live_traffic_takes_no_captures(lab: Lab, tmp_path: Path) -> None:
    async with live_core(lab, tmp_path) as (channels, _):
        with pytest.raises(FailedPrecondition, match="this UPF polices live traffic") as refused:
            await TrafficServiceStub(channels.get("upf")).Replay(iter([ReplayRequest(capture=b"x")]))
        assert refused.value.reason == "LIVE_TRAFFIC"


def test_a_stopped_core_takes_its_devices_with_it(lab: Lab, tmp_path: Path) -> None:
    with castcore("up", "--dir", str(tmp_path / "state"), *lab.devices) as (process, _):
        assert (lab.ue.devices(), lab.data_network.devices()) == (["ue0"], ["dn0"])
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
        assert (lab.ue.devices(), lab.data_network.devices()) == ([], [])


def test_a_core_whose_device_is_taken_away_says_so_and_ends(lab: Lab, tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    with (tmp_path / "log").open("w+") as log, castcore("up", "--dir", state, *lab.devices, log=log) as (process, _):
        lab.ue.ip("link del ue0")
        assert process.wait(timeout=20) == 1
        assert lab.data_network.devices() == []
        log.seek(0)
        said = log.read()
    assert said.splitlines()[-1].startswith(f"castcore: device ue0@{lab.ue.name}: ")
    assert "Traceback" not in said


def test_devices_that_cannot_be_made_are_one_line_and_leave_nothing(lab: Lab, tmp_path: Path) -> None:
    done = subprocess.run(
        [CASTCORE, "up", "--dir", str(tmp_path / "state"), *lab.devices[:3], "dn0@castcore-none"],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("castcore: network namespace 'castcore-none': found ")
    assert "Traceback" not in done.stderr
    assert lab.ue.devices() == []
