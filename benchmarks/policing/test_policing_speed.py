"""How fast are packets policed, a bucket for each flow? castcore beside DPDK's libraries, a floor, dpkt and scapy.

Castcore's verdicts are those of the plain-Python reference, on packets of every part of the capture; so are those of
the Python peers. DPDK passes as many bytes within 0.1 %: it rounds rates to whole cycles.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from policing.engine_passes import rule
from policing.python_peers import PEERS
from processes import Missing, OnDemand, compiled, huge_pages
from workload import Workload, write_capture

from upf.capture import Capture, open_capture
from upf.engine import CONFORMING, DROPPED, Engine
from upf.reference import Reference

pytestmark = pytest.mark.timeout(600)

ROUNDS = 15
CASTCORE, DPDK, FLOOR = "castcore", "DPDK rte_hash + rte_meter", "read-only floor"
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """Each flow has a bucket of this rate and depth. About half of what is offered is dropped."""

    flows: int
    gap_ns: int
    rate_bps: int
    burst_bytes: int
    wanted: float  # castcore's packets per second by DPDK's

    @property
    def workload(self) -> Workload:
        return Workload(self.flows, 4_000_000, self.gap_ns)


# At a million flows each comes four times: its burst is two packets, and what the rate adds meanwhile is less than one.
CASES = {
    case.flows: case
    for case in (
        Case(100, 250, 8_000_000, 15_000, wanted=1.3),
        Case(10_000, 100, 200_000, 1_500, wanted=1.3),
        Case(1_000_000, 10, 8_000, 100, wanted=1.1),
    )
}
# Where the Python peers are measured, and how many of its first packets they take.
PYTHON_AT = 10_000
CHECKED = 10_000


@pytest.fixture(scope="session")
def results(results_of: Callable):
    about = "64-byte packets, a bucket per flow, about half dropped; ns of one core per packet, steady state"
    return results_of("policing", about=about, parts=(*CASES, "Python"))


@pytest.fixture(params=CASES.values(), ids=lambda case: f"{case.flows}-flows")
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture
def path(case: Case, scratch: Path) -> Iterator[Path]:
    """The capture, its verdicts checked: castcore's are those of the reference."""
    path = scratch / "packets.pcap"
    flows = write_capture(path, case.workload)
    with open_capture(path) as capture:
        verdicts = judged_by_engine(capture, case)
        # The first packets, and all the packets of some flows, which have buckets of their own.
        step = max(1, case.workload.packets // CHECKED)
        check(capture, case, verdicts, np.arange(CHECKED))
        check(capture, case, verdicts, np.nonzero(flows % step == step // 2 % case.flows)[0][:CHECKED])
    yield path
    path.unlink()


def judged_by_engine(capture: Capture, case: Case) -> bytearray:
    engine = Engine()
    engine.install([rule(case.rate_bps, case.burst_bytes)])
    verdicts = bytearray(case.workload.packets)
    engine.run(
        capture.view,
        capture.format,
        offset=capture.format.header_bytes,
        max_packets=case.workload.packets,
        verdicts=verdicts,
    )
    assert engine.totals().flows == case.flows
    assert case.workload.packets * 0.35 < verdicts.count(DROPPED) < case.workload.packets * 0.65
    return verdicts


def check(capture: Capture, case: Case, verdicts: bytearray, places: np.ndarray) -> None:
    """The reference judges the packets at these places of the capture as the engine did."""
    wanted = set(places.tolist())
    assert wanted
    reference = Reference([rule(case.rate_bps, case.burst_bytes)])
    for place, record in enumerate(islice(capture.records(), max(wanted) + 1)):
        if place in wanted:
            said = reference.process(record.ts_ns, record.data, record.wire_length, capture.format.link_type)
            assert verdicts[place] == (CONFORMING if said.conforms else DROPPED), f"packet {place}: {said}"


def test_policing(case: Case, path: Path, scratch: Path, results) -> None:
    limits = (case.rate_bps, case.burst_bytes)
    with ExitStack() as stack:
        stack.enter_context(huge_pages((512 if case.flows > 100_000 else 128) << 20))
        subjects = {CASTCORE: [sys.executable, HERE / "engine_passes.py", path, *limits]}
        try:
            subjects[DPDK] = [compiled("meter.c", scratch), path, case.flows, *limits]
        except Missing as missing:
            results.notes = [str(missing)]
        try:
            subjects[FLOOR] = [compiled("floor.c", scratch), path, case.flows]
        except Missing as missing:
            results.notes = [str(missing)]
        running = {subject: stack.enter_context(OnDemand(command)) for subject, command in subjects.items()}
        # One after the other, again and again: what else the machine does, it does to all of them.
        passes = {subject: [] for subject in subjects}
        for _ in range(ROUNDS):
            for subject, process in running.items():
                passes[subject].append(process.run_pass())
        ready = {subject: process.ready for subject, process in running.items()}
    same_work(case, passes, ready)
    results.add(case.flows, rows(case, passes, ready))


def same_work(case: Case, passes: dict[str, list[dict]], ready: dict[str, dict]) -> None:
    """All treated every packet, in every pass, and passed as much."""
    for subject, said in ready.items():
        assert said["packets"] == case.workload.packets, subject
        assert said.get("flows", case.flows) == case.flows, subject
        assert not said.get("other", 0) + said.get("unknown", 0), subject
    passed = {each["passed_bytes"] for each in passes[CASTCORE]}
    assert len(passed) == 1, "every pass begins with full buckets"
    for each in passes.get(DPDK, []):
        assert each["packets"] == case.workload.packets
        assert each["passed_bytes"] == pytest.approx(passed.copy().pop(), rel=0.001)


def rows(case: Case, passes: dict[str, list[dict]], ready: dict[str, dict]) -> list[dict[str, object]]:
    ns = {subject: [each["core_ns"] / case.workload.packets for each in took] for subject, took in passes.items()}
    floor = median(ns[FLOOR]) if FLOOR in ns else None
    made = []
    for subject, times in ns.items():
        row: dict[str, object] = {
            "flows": case.flows,
            "subject": subject,
            "ns_per_packet": round(median(times), 2),
            "fastest": round(min(times), 2),
            "million_packets_per_s": round(1000 / median(times), 2),
            "times_the_floor": round(median(times) / floor, 2) if floor else None,
        }
        if subject == CASTCORE and DPDK in ns:
            # Of passes that follow each other: what slows the machine for a while slows both.
            ratios = sorted(theirs / ours for ours, theirs in zip(times, ns[DPDK], strict=True))
            row |= {
                "times_as_fast_as_dpdk": round(median(ratios), 2),
                "middle_half": f"{ratios[len(ratios) // 4]:.2f}–{ratios[-1 - len(ratios) // 4]:.2f}",
                "wanted": f"≥ {case.wanted}",
            }
        if subject == DPDK:
            row["pages"] = ready[subject]["pages"]
        row["busy_elsewhere"] = round(median(each["wall_ns"] / each["core_ns"] for each in passes[subject]) - 1, 2)
        made.append(row)
    return made


def test_the_same_in_python(scratch: Path, results) -> None:
    case = CASES[PYTHON_AT]
    path = scratch / "packets.pcap"
    write_capture(path, Workload(case.flows, CHECKED, case.gap_ns))
    reference = Reference([rule(case.rate_bps, case.burst_bytes)])
    with open_capture(path) as capture:
        expected = [
            reference.process(record.ts_ns, record.data, record.wire_length, capture.format.link_type).conforms
            for record in capture.records()
        ]
    made: list[dict[str, object]] = []
    for subject, (judge, packets) in PEERS.items():
        ns = []
        for _ in range(3):
            verdicts, took_ns = judge(path, packets, case.rate_bps, case.burst_bytes)
            assert verdicts == expected[:packets]
            ns.append(took_ns / packets)
        made.append(
            {
                "flows": case.flows,
                "subject": f"{subject}, dict and bucket",
                "ns_per_packet": round(median(ns), 2),
                "fastest": round(min(ns), 2),
                "million_packets_per_s": round(1000 / median(ns), 4),
            }
        )
    results.add("Python", made)
