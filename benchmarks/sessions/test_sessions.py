"""What do 100,000 sessions with four PDRs each cost: to install, to change, to look up, to measure, in memory?

Look-ups are checked first: every packet is counted by the rule of its own session.
"""

from __future__ import annotations

import asyncio
import random
import struct
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from nf.common.clock import SystemClock
from upf.capture import CaptureFormat
from upf.engine import Engine
from upf.n4.engines import engine_under_smf, for_captures
from upf.n4.user_plane import UserPlane
from upf.n4.v1 import n4_pb2 as n4
from upf.rules import Mode, Policer, Rule
from upf.sdf import parse_filter

pytestmark = pytest.mark.timeout(600)

SESSIONS, FEW, PACKETS = 100_000, 100, 100_000
SERVER = "198.51.100.7"
FLOWS = [parse_filter(f"permit out 17 from {SERVER} {port} to 10.0.0.0/32") for port in (443, 5004)]
POLICER = Policer(5_000_000, 62_500)
RAW_IP = CaptureFormat(swapped=False, nanoseconds=True, link_type=101, snaplen=262_144)


def rules_of(session: int) -> list[Rule]:
    downlinks = [replace(flow, dst_network=(10 << 24) + session) for flow in FLOWS]
    return [
        Rule(f"{session}/{at}", 10, (sdf_filter,), POLICER, Mode.POLICE, bucket_id=f"{session}/{at % 2}")
        for at, sdf_filter in enumerate(each for flow in downlinks for each in (flow, flow.swapped()))
    ]


def records_to(sessions: list[int]) -> bytes:
    head = struct.pack(">BBHHHBBH4s", 0x45, 0, 28, 0, 0, 64, 17, 0, bytes(map(int, SERVER.split("."))))
    tail = struct.pack(">HHHH", 443, 9, 8, 0)
    return b"".join(
        struct.pack("=IIII", 0, 1, 28, 28) + head + struct.pack(">I", (10 << 24) + session) + tail
        for session in sessions
    )


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.benchmark(group="400,000 rules")
def test_install(benchmark: BenchmarkFixture) -> None:
    rules = [rule for session in range(SESSIONS) for rule in rules_of(session)]
    before = resident_bytes()
    engine = Engine()
    benchmark.pedantic(engine.install, args=(rules,), rounds=3)
    benchmark.extra_info["resident_bytes_per_rule"] = (resident_bytes() - before) // len(rules)


@pytest.mark.benchmark(group="classification of a new flow")
@pytest.mark.parametrize("sessions", [FEW, SESSIONS])
def test_lookup(benchmark: BenchmarkFixture, sessions: int) -> None:
    """The same packets in number and flows: what differs is how many other sessions there are."""
    chosen = random.Random(0).sample(range(sessions), FEW)
    engine = Engine()
    engine.install([rule for session in range(sessions) for rule in rules_of(session)])
    records = records_to([chosen[at % FEW] for at in range(PACKETS)])
    engine.run(records, RAW_IP, offset=0, max_packets=PACKETS)
    counted = {name: rule.packets for name, rule in engine.harvest().items()}
    assert counted == {f"{session}/0": PACKETS // FEW for session in chosen}
    changed = rules_of(sessions)
    few_records = records_to(chosen)
    elapsed_ns = []
    before = engine.lookups()

    def classify_all_anew() -> None:
        engine.update(add=changed)
        start_ns = time.perf_counter_ns()
        engine.run(few_records, RAW_IP, offset=0, max_packets=FEW)
        elapsed_ns.append(time.perf_counter_ns() - start_ns)

    benchmark.pedantic(classify_all_anew, rounds=200, warmup_rounds=5)
    lookups, probes, comparisons = (now - was for now, was in zip(engine.lookups(), before, strict=True))
    benchmark.extra_info |= {
        "ns_per_packet": round(median(elapsed_ns) / FEW),
        "probes_per_lookup": probes / lookups,
        "comparisons_per_lookup": comparisons / lookups,
    }
    assert comparisons <= 12 * lookups


def n4_session(number: int) -> n4.Session:
    session = n4.Session(cp_seid=number + 1, urrs=[n4.Urr(urr_id=1)])
    session.qers.add(qer_id=1, mbr_dl_bps=5_000_000, mbr_ul_bps=5_000_000)
    ue = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
    for flow, port in enumerate((443, 5004)):
        for offset, interface in ((1, n4.SOURCE_INTERFACE_CORE), (2, n4.SOURCE_INTERFACE_ACCESS)):
            pdi = n4.Pdi(source_interface=interface, ue_ip_address=ue)
            pdi.sdf_filters.add(flow_description=f"permit out 17 from {SERVER} {port} to assigned")
            session.pdrs.add(pdr_id=2 * flow + offset, precedence=10, pdi=pdi, qer_id=1, urr_id=1)
    return session


@pytest.mark.benchmark(group="N4")
def test_one_session_beside_100_000(benchmark: BenchmarkFixture) -> None:
    """Established and deleted, in the UPF itself: without the gRPC call around it."""

    async def run() -> list[int]:
        user_plane = UserPlane(SystemClock(), for_captures(engine_under_smf(1 << 20)))
        await user_plane.set_up_association()
        before, start_ns = resident_bytes(), time.perf_counter_ns()
        for number in range(SESSIONS):
            await user_plane.establish(n4_session(number))
        benchmark.extra_info["establishing_all_s"] = round((time.perf_counter_ns() - start_ns) / 1e9, 1)
        benchmark.extra_info["resident_bytes_per_session"] = (resident_bytes() - before) // SESSIONS
        start_ns = time.perf_counter_ns()
        await user_plane.complete_resynchronisation()
        await user_plane.measure()
        benchmark.extra_info["idle_measurement_us"] = (time.perf_counter_ns() - start_ns) // 1000
        one = n4_session(SESSIONS)
        elapsed_ns = []
        for _ in range(500):
            start_ns = time.perf_counter_ns()
            await user_plane.establish(one)
            await user_plane.delete(one.cp_seid)
            elapsed_ns.append(time.perf_counter_ns() - start_ns)
        return elapsed_ns

    elapsed_ns = benchmark.pedantic(lambda: asyncio.run(run()), rounds=1)
    benchmark.extra_info["establish_and_delete_us"] = median(elapsed_ns) // 1000
    benchmark.extra_info["worst_us"] = max(elapsed_ns) // 1000
