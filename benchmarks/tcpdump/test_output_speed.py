"""How long does `castcore replay IN -o OUT` take beside `tcpdump -r IN -w OUT FILTER`? Whole processes, same file.

The filter wants every packet, so that both write the same capture; it is compared byte for byte first. castcore is also
measured where it polices, which tcpdump cannot.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from filecmp import cmp
from pathlib import Path
from statistics import median

import pytest
from workload import FILTER, Workload, write_capture

pytestmark = pytest.mark.timeout(300)

ROUNDS = 7
WORKLOAD = Workload(10_000, 4_000_000, 1_000, nanoseconds=False)
CASTCORE, TCPDUMP, POLICING = "castcore replay -o", "tcpdump -w", "castcore replay -o, policing"


@pytest.fixture(scope="session")
def results(results_of: Callable):
    about = f"{WORKLOAD.packets:,} packets of 64 bytes read, filtered and written; whole processes, warm cache"
    return results_of("output", about=about, parts=("output",))


def test_a_capture_written(scratch: Path, results) -> None:
    source, written = scratch / "in.pcap", {}
    write_capture(source, WORKLOAD)
    castcore = [str(Path(sys.executable).with_name("castcore")), "replay", str(source), "--flow", FILTER, "--json"]
    commands = {
        CASTCORE: [*castcore, "-o"],
        POLICING: [*castcore, "--rate", "20 Kbps", "--burst", "1500 B", "--per-flow", "-o"],
    }
    tcpdump = shutil.which("tcpdump") or shutil.which("tcpdump", path="/usr/sbin:/sbin")
    if tcpdump is None:
        results.notes = ["tcpdump is left out: install tcpdump to have it beside"]
    else:
        # It would become another user, who may not write here.
        stay = ["-Z", "root"] if os.geteuid() == 0 else []
        wants = "udp and src net 198.51.100.0/24 and src port 443"
        commands[TCPDUMP] = [tcpdump, *stay, "-r", str(source), wants, "-w"]
    seconds: dict[str, list[float]] = {subject: [] for subject in commands}
    for _ in range(ROUNDS):
        for number, (subject, command) in enumerate(commands.items()):
            written[subject] = scratch / f"out{number}.pcap"
            written[subject].unlink(missing_ok=True)
            began_s = time.perf_counter()
            subprocess.run([*command, str(written[subject])], check=True, capture_output=True)
            seconds[subject].append(time.perf_counter() - began_s)
    assert cmp(source, written[CASTCORE], shallow=False), "every packet passes"
    if TCPDUMP in written:
        assert cmp(written[CASTCORE], written[TCPDUMP], shallow=False), "both write the same"
    assert 0.3 < written[POLICING].stat().st_size / source.stat().st_size < 0.7
    results.add("output", rows(seconds))


def rows(seconds: dict[str, list[float]]) -> list[dict[str, object]]:
    made = []
    for subject, took in seconds.items():
        row: dict[str, object] = {
            "subject": subject,
            "seconds": round(median(took), 3),
            "fastest": round(min(took), 3),
            "million_packets_per_s": round(WORKLOAD.packets / median(took) / 1e6, 2),
        }
        if subject == CASTCORE and TCPDUMP in seconds:
            ratios = [theirs / ours for ours, theirs in zip(took, seconds[TCPDUMP], strict=True)]
            row |= {"times_as_fast_as_tcpdump": round(median(ratios), 2), "wanted": "≥ 1.0"}
        made.append(row)
    return made
