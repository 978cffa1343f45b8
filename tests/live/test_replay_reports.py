"""The reports of `castcore replay` as a tester gets them: flows, compliance, plot; files are whole or absent."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
from pathlib import Path

import pyarrow.parquet
import pytest
from command import CASTCORE, castcore, replayed

from nf.cli.demo.traffic import media_session

RULE = ("--flow", "permit out ip from 198.51.100.7 to assigned", "--ue", "10.45.0.2", "--rate", "2 Mbps")


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("session") / "session.pcap"
    path.write_bytes(media_session())
    return path


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("castcore: ")
    return line


def test_the_flows_add_up_to_the_report(session: Path, tmp_path: Path) -> None:
    report = replayed(session, *RULE, "--flows", tmp_path / "flows.csv")
    with (tmp_path / "flows.csv").open(newline="") as stream:
        flows = list(csv.DictReader(stream))
    assert len(flows) == report["flows"] == 9
    rule = report["rules"][0]
    for key in ("packets", "bytes", "passed_packets", "passed_bytes", "dropped_packets", "dropped_bytes"):
        assert sum(int(flow[key]) for flow in flows if flow["rule"] == "rule") == rule[key]
    assert sum(int(flow["packets"]) for flow in flows) == report["packets"] == 3_972
    assert list(tmp_path.iterdir()) == [tmp_path / "flows.csv"]


def test_json_and_parquet_hold_the_same_flows_as_csv(session: Path, tmp_path: Path) -> None:
    for name in ("flows.csv", "flows.json", "flows.jsonl", "flows.parquet"):
        replayed(session, *RULE, "--flows", tmp_path / name)
    array = json.loads((tmp_path / "flows.json").read_text())
    assert [json.loads(line) for line in (tmp_path / "flows.jsonl").read_text().splitlines()] == array
    assert pyarrow.parquet.read_table(tmp_path / "flows.parquet").to_pylist() == array
    with (tmp_path / "flows.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["bytes"]) for row in rows] == [flow["bytes"] for flow in array]


def test_a_shorter_timeout_makes_more_records_and_changes_no_verdict(session: Path, tmp_path: Path) -> None:
    longer = replayed(session, *RULE, "--flows", tmp_path / "longer.jsonl")
    shorter = replayed(session, *RULE, "--flows", tmp_path / "shorter.jsonl", "--flow-timeout", "5 ms")
    records = [(tmp_path / f"{name}.jsonl").read_text().splitlines() for name in ("longer", "shorter")]
    assert len(records[0]) == 9
    assert len(records[1]) > 9
    assert longer | {"elapsed_s": 0} == shorter | {"elapsed_s": 0}


def test_compliance_tells_windows_the_worst_of_them_and_violations(session: Path) -> None:
    report = replayed(session, *RULE, "--mode", "monitor", "--compliance")
    (rule,) = report["compliance"]
    assert list(rule) == [
        "rule", "compliant", "threshold_bps", "window_ns", "offered_bytes", "passed_bytes", "excess_packets",
        "excess_bytes", "windows", "windows_above", "worst_window", "violation_count", "violations",
    ]  # fmt: skip
    assert (rule["compliant"], rule["threshold_bps"], rule["window_ns"]) == (False, 2_000_000, 2 * 10**9)
    assert (rule["offered_bytes"], rule["passed_bytes"]) == (2_516_770, 2_516_770)
    assert (rule["excess_packets"], rule["excess_bytes"]) == (586, 659_656)
    assert (rule["windows"], rule["windows_above"]) == (71, 41)
    assert rule["worst_window"]["offered_bps"] == 3_845_396
    (violation,) = rule["violations"]
    assert (violation["excess_packets"], violation["excess_bytes"]) == (586, 659_656)
    assert violation["began_by"]["source"] == "198.51.100.7"
    assert violation["began_by"]["source_port"] == 443


def test_what_a_policer_passes_complies_when_it_is_replayed_again(session: Path, tmp_path: Path) -> None:
    replayed(session, *RULE, "-o", tmp_path / "out.pcap")
    (rule,) = replayed(tmp_path / "out.pcap", *RULE, "--compliance", "--window", "500 ms")["compliance"]
    assert (rule["compliant"], rule["violations"], rule["window_ns"]) == (True, [], 500_000_000)


def test_the_table_says_in_words_what_did_not_comply(session: Path) -> None:
    done = castcore("replay", session, *RULE, "--mode", "monitor", "--compliance")
    assert done.returncode == 0
    assert "compliance, averaging window 2 s" in done.stdout
    assert "659,656 bytes in 586 packets, begun by TCP 198.51.100.7:443 > 10.45.0.2:" in done.stdout


def test_a_plot_is_a_picture(session: Path, tmp_path: Path) -> None:
    replayed(session, *RULE, "--plot", tmp_path / "rates.png")
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")


def test_a_profile_has_the_stages_and_they_add_up(session: Path, tmp_path: Path) -> None:
    plain = replayed(session, *RULE)
    profiled = replayed(session, *RULE, "--profile")
    profile = profiled.pop("profile")
    assert profiled | {"elapsed_s": 0} == plain | {"elapsed_s": 0}
    assert [stage["name"] for stage in profile["stages"]] == ["read", "parse", "look-up", "police"]
    assert sum(stage["ns_per_packet"] for stage in profile["stages"]) == pytest.approx(profile["sum_ns_per_packet"])
    assert sum(stage["percent"] for stage in profile["stages"]) == pytest.approx(100)
    assert profile["whole_ns_per_packet"] > 0
    written = replayed(session, *RULE, "--profile", "-o", tmp_path / "out.pcap", "--flows", tmp_path / "flows.csv")
    assert [stage["name"] for stage in written["profile"]["stages"]][-1] == "output"
    assert replayed(tmp_path / "out.pcap")["packets"] == 3_386


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--flows", "flows.txt"), "option '--flows': found 'flows.txt', expected a name that ends in .csv"),
        (("--flows", "/nowhere/flows.csv"), "/nowhere/flows.csv: cannot be written: No such file or directory"),
        (("--plot", "rates.gif"), "option '--plot': found 'rates.gif', expected a name that ends in .png"),
        (("--window", "1 s"), "option '--window': goes with --compliance"),
        (("--compliance", "--window", "1 h"), "option '--window': found '1 h', expected '<number> s', ms, us or ns"),
        (("--compliance", "--window", "1 us"), "option '--window': found '1 us', expected 1 ms to 3600 s"),
        (("--flow-timeout", "1 s"), "option '--flow-timeout': goes with --flows"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_report_that_cannot_be_made_is_one_line(session: Path, options: tuple[str, ...], says: str) -> None:
    assert says in one_line(castcore("replay", session, *options))


@pytest.mark.parametrize(
    ("option", "name", "module", "extra"),
    [("--plot", "rates.png", "matplotlib", "plot"), ("--flows", "flows.parquet", "pyarrow", "parquet")],
)
def test_an_extra_that_is_not_installed_is_named(
    session: Path, tmp_path: Path, option: str, name: str, module: str, extra: str
) -> None:
    (tmp_path / "absent").mkdir()
    (tmp_path / "absent" / f"{module}.py").write_text("raise ImportError")
    done = subprocess.run(
        [CASTCORE, "replay", session, option, tmp_path / name],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "absent")},
    )
    line = one_line(done)
    assert f"needs {module}, which is not installed: pip install 'castcore[{extra}]'" in line
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_the_files_of_before_and_nothing_half_written(
    session: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    flows, output = tmp_path / "flows.csv", tmp_path / "out.pcap"
    for path in (flows, output):
        path.write_text("of yesterday\n")
    inputs = [session] * 2_000
    # A burst below one packet is warned of just before the replay begins, which tells when to interrupt it.
    arguments = [CASTCORE, "replay", *inputs, *RULE, "--burst", "1000 B", "--flows", flows, "-o", output]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert "packets longer than that never conform" in process.stderr.readline()
        process.send_signal(number)
        assert process.wait(timeout=60) == code
    assert flows.read_text() == output.read_text() == "of yesterday\n"
    assert set(tmp_path.iterdir()) == {flows, output}


def test_help_has_its_options_in_groups_and_examples_that_can_be_pasted() -> None:
    shown = castcore("replay", "--help").stdout
    headings = ["Arguments:", "Which packets:", "How fast they may be:", "What you get:", "How it runs:", "Options:"]
    places = [shown.index(f"\n{heading}\n") for heading in headings]
    assert places == sorted(places)
    assert (
        'castcore replay in.pcap --flow "permit out ip from 198.51.100.7 to any" --rate "5 Mbps" -o out.pcap' in shown
    )
