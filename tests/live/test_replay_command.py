"""`castcore replay` as a user runs it: report, options, output, what it refuses, how it ends."""

from __future__ import annotations

import json
import signal
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import captures
import named_traffic
import pytest
from captures import Captured
from command import CASTCORE, castcore, replayed
from known_traffic import UES4, at_rate, known_traffic

NATIVE = "<" if sys.byteorder == "little" else ">"


def small_capture(packets: int = 400, *, seed: int = 0, **options: bool | str) -> tuple[list[Captured], bytes]:
    sent = at_rate(known_traffic("tags", packets=packets, seed=seed), 20_000_000, nanoseconds=True)
    return sent, captures.pcap(sent, nanoseconds=True, **options)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.pcap"
    path.write_bytes(small_capture(2_000)[1])
    return path


RULE = ("--flow", "permit out ip from any to any", "--rate", "5 Mbps", "--burst", "15000 B")
REPORT_KEYS = ["elapsed_s", "packets", "bytes", "malformed", "unmatched", "flows", "rules"]
RULE_KEYS = ["name", "packets", "bytes", "passed_packets", "passed_bytes", "dropped_packets", "dropped_bytes"]


def test_the_report_has_the_keys_that_scripts_rely_on_and_its_packets_add_up(source: Path) -> None:
    report = replayed(source, *RULE)
    assert list(report)[:7] == REPORT_KEYS
    assert list(report["unmatched"]) == ["packets", "bytes"]
    assert [list(rule)[:7] for rule in report["rules"]] == [RULE_KEYS]
    assert isinstance(report["elapsed_s"], float)
    assert report["elapsed_s"] > 0
    rule = report["rules"][0]
    assert report["packets"] == report["malformed"] + report["unmatched"]["packets"] + rule["packets"] == 2_000
    assert report["bytes"] == report["unmatched"]["bytes"] + rule["bytes"]
    assert report["malformed"] == sum(report["malformed_reasons"].values()) > 0
    assert rule["packets"] == rule["passed_packets"] + rule["dropped_packets"]
    assert rule["bytes"] == rule["passed_bytes"] + rule["dropped_bytes"]
    assert 0 < rule["dropped_packets"] < rule["packets"]


def test_without_rules_everything_is_unmatched_and_passes(source: Path, tmp_path: Path) -> None:
    report = replayed(source, "-o", tmp_path / "out.pcap")
    assert report["rules"] == []
    assert report["unmatched"]["packets"] == 2_000 - report["malformed"]


@pytest.mark.parametrize("options", [(), ("--per-flow",)], ids=["shared", "per flow"])
def test_later_passes_leave_the_counters_those_of_the_first(source: Path, options: tuple[str, ...]) -> None:
    once = replayed(source, *RULE, *options)
    thrice = replayed(source, *RULE, *options, "--repeat", "3")
    assert once | {"elapsed_s": 0} == thrice | {"elapsed_s": 0}
    assert thrice["elapsed_s"] > 0


def test_the_ue_narrows_what_assigned_stands_for(source: Path) -> None:
    flow = ("--flow", "permit out ip from any to assigned")
    known = known_traffic("tags", packets=2_000)
    of_ue = [packet for packet in known if packet.flow and packet.flow.destination == UES4 + 2]
    assert replayed(source, *flow)["rules"][0]["packets"] == sum(packet.flow is not None for packet in known)
    narrowed = replayed(source, *flow, "--ue", "10.45.0.2")["rules"][0]
    assert (narrowed["packets"], narrowed["bytes"]) == (len(of_ue), sum(packet.ip_length for packet in of_ue))
    assert replayed(source, *flow, "--ue", "10.45.9.9")["rules"][0]["packets"] == 0


def test_a_domain_detects_both_directions_and_what_was_found_is_told(tmp_path: Path) -> None:
    ue, server = "10.45.0.2", "198.51.100.7"
    hello = named_traffic.client_hello("a.video.example.com")
    packets = [
        captures.ipv4(ue, server, captures.TCP, named_traffic.tcp(40_000, 443, 1, hello)),
        captures.ipv4(server, ue, captures.TCP, named_traffic.tcp(443, 40_000, 1, bytes(100))),
        captures.ipv4(ue, server, captures.UDP, captures.udp(9, 9, bytes(100))),
    ]
    path = tmp_path / "in.pcap"
    captured = [Captured(captures.START_NS + at, packet, len(packet)) for at, packet in enumerate(packets)]
    path.write_bytes(captures.pcap(captured, link_type=captures.RAW))
    report = replayed(path, "--domain", "*.example.com")
    assert [rule["packets"] for rule in report["rules"]] == [2]
    assert report["inspection"]["named"] == 1
    assert replayed(path, "--flow", f"permit out ip from any to {ue} domain *.example.com")["rules"][0]["packets"] == 1
    assert "names: 1 connections that say theirs" in castcore("replay", path, "--domain", "*.example.com").stdout
    assert "inspection" not in replayed(path, *RULE)


def test_several_captures_are_taken_one_after_the_other_by_the_same_buckets(tmp_path: Path) -> None:
    first, second, both, target = (tmp_path / f"{name}.pcap" for name in ("first", "second", "both", "out"))
    packets, _ = small_capture(2_000)
    first.write_bytes(captures.pcap(packets[:700], nanoseconds=True, order=">"))
    second.write_bytes(captures.pcap(packets[700:], nanoseconds=True))
    both.write_bytes(captures.pcap(packets, nanoseconds=True))
    together = replayed(first, second, *RULE, "-o", target)
    output = target.read_bytes()
    assert together | {"elapsed_s": 0} == replayed(both, *RULE, "-o", target) | {"elapsed_s": 0}
    assert output == target.read_bytes()


def test_a_table_and_no_json_for_eyes(source: Path) -> None:
    done = castcore("replay", source, *RULE)
    assert done.returncode == 0
    assert done.stdout.startswith("2,000 packets, ")
    assert "dropped" in done.stdout


# --- what cannot be done ----------------------------------------------------------------------------------------------


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1
    assert done.stderr.startswith("castcore: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def offset_of(packets: Sequence[Captured], number: int) -> int:
    return 24 + sum(16 + len(packet.data) for packet in packets[:number])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("cut_after", "says"), [(7, "7 of the 16 bytes of its header"), (20, "4 of its ")])
def test_what_came_before_a_cut_record_is_reported(tmp_path: Path, order: str, cut_after: int, says: str) -> None:
    packets, content = small_capture(order=order)
    cut_at = offset_of(packets, 250)
    cut, whole, target = (tmp_path / f"{name}.pcap" for name in ("cut", "whole", "out"))
    cut.write_bytes(content[: cut_at + cut_after])
    whole.write_bytes(content[:cut_at])
    done = castcore("replay", cut, *RULE, "--json", "-o", target)
    line = one_line(done)
    assert f"{cut}: the record at byte {cut_at} is cut: {says}" in line
    output = target.read_bytes()
    report = json.loads(done.stdout)
    assert report["packets"] == 250
    assert report | {"elapsed_s": 0} == replayed(whole, *RULE, "-o", target) | {"elapsed_s": 0}
    assert output == target.read_bytes()


def test_an_implausible_record_ends_the_walk_and_the_next_capture_is_still_taken(tmp_path: Path) -> None:
    packets, content = small_capture()
    at = offset_of(packets, 100)
    broken, good = tmp_path / "broken.pcap", tmp_path / "good.pcap"
    broken.write_bytes(content[: at + 8] + struct.pack("<I", 0x7FFF_FFFF) + content[at + 12 :])
    good.write_bytes(content)
    done = castcore("replay", broken, good, *RULE, "--json")
    assert f"{broken}: the record at byte {at} is implausible: it claims 2147483647 captured bytes" in one_line(done)
    assert json.loads(done.stdout)["packets"] == 500


HEADER = captures.pcap([])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "is not a pcap"),
        (b"\x0a\x0d\x0d\x0a" + bytes(60), "the section header block at byte 0 has the byte-order magic 00 00 00 00"),
        (HEADER[:10], "is shorter than the header of a pcap: 10 of 24 bytes"),
        (HEADER[:2], "is shorter than the header of a pcap: 2 of 24 bytes"),
        (HEADER[:20] + struct.pack("<I", 147), "link type 147 is not supported"),
        (HEADER[:4] + struct.pack("<H", 1) + HEADER[6:], "is pcap version 1.4"),
    ],
    ids=["empty", "text", "pcapng", "cut header", "cut magic", "link type", "version"],
)
def test_a_file_that_is_no_capture_is_one_line_that_names_it(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "broken.pcap"
    path.write_bytes(content)
    done = castcore("replay", path, *RULE, "--json")
    assert f"{path}: {says}" in one_line(done)
    assert done.stdout == ""


def test_a_capture_that_is_not_there_or_a_directory_is_one_line_that_names_it(tmp_path: Path, source: Path) -> None:
    missing = tmp_path / "missing.pcap"
    assert f"{missing}: no such file" in one_line(castcore("replay", source, missing, "--json"))
    assert f"{tmp_path}: is a directory" in one_line(castcore("replay", tmp_path, "--json"))


def test_an_output_that_cannot_be_written_is_one_line_that_names_it(tmp_path: Path, source: Path) -> None:
    before = source.read_bytes()
    assert f"{source}: cannot be written: it is an input too" in one_line(castcore("replay", source, "-o", source))
    assert source.read_bytes() == before
    nowhere = tmp_path / "no" / "out.pcap"
    assert f"{nowhere}: cannot be written: No such file" in one_line(castcore("replay", source, "-o", nowhere))
    assert "/dev/full: cannot be written: No space left" in one_line(castcore("replay", source, "-o", "/dev/full"))


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        (["--flow", "allow out ip from any to any"], ["option '--flow'", "expected 'permit', got 'allow' at column 1"]),
        (
            ["--flow", "permit out 17 from 10.0.0.1 70000 to any"],
            ["expected a port 0..65535, got '70000' at column 29"],
        ),
        ([*RULE[:2], "--rate", "5 Mb"], ["option '--rate': found '5 Mb', expected "]),
        ([*RULE[:2], "--rate", "0 bps"], ["option '--rate': found '0 bps', expected 1 bps to 10 Tbps"]),
        ([*RULE[:4], "--burst", "63 B"], ["option '--burst': found '63 B', expected at least 64 B"]),
        ([*RULE[:4], "--burst", "2 weeks"], ["option '--burst': found '2 weeks', expected "]),
        (
            [*RULE[:4], "--mode", "drop"],
            ["option '--mode': found 'drop', expected 'monitor', 'police', 'mark' or 'shape'"],
        ),
        ([*RULE, "--ue", "10.45.0"], ["option '--ue': found '10.45.0', expected an IPv4 or IPv6 address"]),
        (["--rate", "5 Mbps"], ["option '--flow': missing"]),
        ([*RULE, "--rules", "rules.toml"], ["option '--rules': goes without --flow, --rate, --burst"]),
        (["--rules", "/no/rules.toml"], ["/no/rules.toml: cannot read the rules file: No such file"]),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_a_rule_that_cannot_be_used_is_one_line(source: Path, options: list[str], lines: list[str]) -> None:
    done = castcore("replay", source, *options, "--json")
    line = one_line(done)
    for says in lines:
        assert says in line
    assert done.stdout == ""


def test_every_problem_of_a_rules_file_is_a_line_with_file_rule_key_and_column(source: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(
        """
        [[rule]]
        name = "video"
        flows = ["permit out 17 from any to any", "permit out udp from any to any"]
        rate = "fast"
        [[rule]]
        name = "audio"
        flows = ["permit out ip from any to any"]
        burst = "15000 B"
        colour = "red"
        """
    )
    done = castcore("replay", source, "--rules", rules, "--json")
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 4
    for line, says in zip(
        sorted(lines),
        [
            "rule 'audio': key 'burst': found '15000 B', expected key 'rate' beside it",
            "rule 'audio': key 'colour': unknown",
            "rule 'video': key 'flows[2]': found 'permit out udp from any to any': sdf filter: expected 'ip' or a "
            "protocol number 0..255, got 'udp' (its number is 17) at column 12",
            "rule 'video': key 'rate': found 'fast', expected ",
        ],
        strict=True,
    ):
        assert line.startswith(f"castcore: {rules}: ")
        assert says in line


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["x.pcap", "--unknown"],
        ["x.pcap", "--repeat", "0"],
        ["x.pcap", "--repeat", "many"],
        ["x.pcap", "--max-flows", "99999999999999999999"],
        ["x.pcap", "--rate"],
    ],
    ids=lambda arguments: " ".join(arguments) or "no arguments",
)
def test_a_usage_error_is_exit_code_2(arguments: list[str]) -> None:
    done = castcore("replay", *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_passes_beyond_the_end_of_packet_time_are_refused(source: Path) -> None:
    slow = (*RULE[:2], "--rate", "1 bps", "--burst", "512 MiB", "--repeat", "3")
    assert "3 passes would take packet time beyond the year 2116" in one_line(castcore("replay", source, *slow))


# --- as a process -----------------------------------------------------------------------------------------------------


def test_it_starts_without_grpc_database_or_http(source: Path) -> None:
    program = """
import sys
from nf.cli.main import app
app(sys.argv[1:], standalone_mode=False)
print(*{name.partition(".")[0] for name in sys.modules}, *{"http.client"} & sys.modules.keys())
"""
    done = subprocess.run(
        [sys.executable, "-c", program, "replay", source, *RULE, "--json"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    report, loaded = done.stdout.splitlines()
    assert json.loads(report)["packets"] == 2_000
    unwanted = {
        "grpc",
        "google",
        "sqlalchemy",
        "sqlite3",
        "httpx",
        "http.client",
        "hypercorn",
        "starlette",
        "h2",
        "h11",
    }
    assert unwanted & set(loaded.split()) == set()
    assert "upf" in loaded.split()


def test_an_interrupt_ends_a_long_replay(source: Path) -> None:
    # A burst below one packet is warned of just before the replay begins, which tells when to interrupt it.
    rule = (*RULE[:4], "--burst", "1000 B", "--repeat", "1000000")
    with subprocess.Popen([CASTCORE, "replay", source, *rule], stderr=subprocess.PIPE, text=True) as process:
        assert "packets longer than that never conform" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
        assert process.stderr.read() == "castcore: interrupted\n"
