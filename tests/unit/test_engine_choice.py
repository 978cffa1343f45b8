"""Which compiled module serves: chosen by the processor's instructions, or by hand; both judge alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from captures import pcap
from known_traffic import at_rate, known_traffic

from upf.engine import BASELINE, X86_64_V3, available, level_of

V3_FLAGS = [
    "fpu", "sse", "sse2", "pni", "ssse3", "sse4_1", "sse4_2", "popcnt", "cx16", "lahf_lm", "avx", "avx2", "bmi1",
    "bmi2", "f16c", "fma", "abm", "movbe", "xsave",
]  # fmt: skip
COMMAND = (
    "import json, upf.engine, nf.cli.main as m, sys; print(upf.engine.INSTRUCTIONS, file=sys.stderr); "
    "sys.argv = ['castcore', *sys.argv[1:]]; m.main()"
)


@pytest.mark.parametrize(
    ("machine", "flags", "level"),
    [
        ("x86_64", V3_FLAGS, X86_64_V3),
        ("AMD64", V3_FLAGS, X86_64_V3),
        ("x86_64", [], BASELINE),
        *[
            ("x86_64", [flag for flag in V3_FLAGS if flag != missing], BASELINE)
            for missing in ("avx2", "bmi2", "movbe")
        ],
        ("aarch64", ["fp", "asimd", "crc32"], BASELINE),
        ("aarch64", V3_FLAGS, BASELINE),
    ],
)
def test_a_machine_gets_the_module_whose_instructions_it_has(machine: str, flags: list[str], level: str) -> None:
    assert level_of(machine, flags) == level


def replay_with(engine: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", COMMAND, "replay", *arguments],
        env={**os.environ, "CASTCORE_ENGINE": engine}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_every_module_that_runs_here_judges_alike(tmp_path: Path) -> None:
    capture = tmp_path / "in.pcap"
    packets = at_rate(known_traffic("vlan", packets=5_000), 200_000_000, nanoseconds=True)
    capture.write_bytes(pcap(packets, nanoseconds=True))
    reports, outputs = [], []
    for engine in available():
        output = tmp_path / f"{engine}.pcap"
        done = replay_with(
            engine, str(capture), "--flow", "permit out ip from any to any", "--rate", "200 Kbps", "--per-flow",
            "-o", str(output), "--json",
        )  # fmt: skip
        assert (done.returncode, done.stderr.splitlines()) == (0, [engine])
        report = json.loads(done.stdout)
        del report["elapsed_s"]
        reports.append(report)
        outputs.append(output.read_bytes())
    assert reports[0]["packets"] == 5_000
    assert 0 < reports[0]["rules"][0]["dropped_packets"] < 5_000
    assert all(report == reports[0] for report in reports)
    assert all(output == outputs[0] for output in outputs)


def test_a_module_that_does_not_exist_is_refused_by_name() -> None:
    done = replay_with("quantum", "in.pcap")
    assert done.returncode != 0
    assert "CASTCORE_ENGINE: found 'quantum', expected one of baseline, x86-64-v3" in done.stderr
