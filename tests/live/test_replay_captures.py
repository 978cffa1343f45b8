"""`castcore replay` on captures of every kind that editcap makes, from files, pipes and standard input.

Packet counts are held to capinfos. CI installs wireshark-common and tcpdump for it.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from pathlib import Path

import captures
import pytest
import zstandard
from captures import ETHERNET
from command import CASTCORE, castcore, replayed

WIRESHARK = pytest.mark.skipif(
    not (shutil.which("capinfos") and shutil.which("editcap")),
    reason="capinfos and editcap (wireshark-common) are missing",
)
TCPDUMP = pytest.mark.skipif(not shutil.which("tcpdump"), reason="tcpdump is missing")
RULE = ("--flow", "permit out ip from any to any", "--rate", "5 Mbps")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("captures") / "in.pcap"
    path.write_bytes(
        captures.pcap(captures.generate(captures.Traffic(packets=3_000, steps_back=False)), nanoseconds=True)
    )
    return path


def piped(content: bytes, *arguments: str | Path) -> tuple[int, str, str]:
    done = subprocess.run([CASTCORE, "replay", "-", *arguments], input=content, capture_output=True, timeout=60)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def counted_by_capinfos(path: Path) -> int:
    told = subprocess.run(["capinfos", "-M", "-c", path], capture_output=True, text=True, check=True).stdout
    return int(re.search(r"Number of packets: +(\d+)", told)[1])


@WIRESHARK
@pytest.mark.parametrize(
    ("kind", "pack"),
    [("pcap", zstandard.compress), ("nsecpcap", gzip.compress), ("pcapng", bytes), ("pcapng", zstandard.compress)],
    ids=["pcap, zstd", "nanoseconds, gzip", "pcapng", "pcapng, zstd"],
)
def test_whatever_editcap_writes_is_counted_as_capinfos_does(source: Path, tmp_path: Path, kind: str, pack) -> None:
    made, packed = tmp_path / "made", tmp_path / "packed"
    subprocess.run(["editcap", "-F", kind, source, made], check=True, capture_output=True)
    packed.write_bytes(pack(made.read_bytes()))
    assert counted_by_capinfos(made) == 3_000
    told = replayed(packed, *RULE) | {"elapsed_s": 0}
    if kind == "pcap":
        # Microseconds are other times, so that other packets exceed.
        assert told["packets"] == 3_000
    else:
        assert told == replayed(source, *RULE) | {"elapsed_s": 0}
    status, report, errors = piped(packed.read_bytes(), *RULE, "--json", "--repeat", "2")
    assert (status, errors) == (0, "")
    assert json.loads(report) | {"elapsed_s": 0} == told


@WIRESHARK
@pytest.mark.parametrize("name", ["out.pcap", "out.pcapng", "out.pcap.gz", "out.pcapng.gz"])
def test_what_is_written_is_counted_by_capinfos_too(source: Path, tmp_path: Path, name: str) -> None:
    report = replayed(source, *RULE, "-o", tmp_path / name)
    passed = report["packets"] - report["malformed"] - report["rules"][0]["dropped_packets"]
    assert counted_by_capinfos(tmp_path / name) == passed > 1_000
    assert replayed(tmp_path / name)["packets"] == passed


@TCPDUMP
@pytest.mark.parametrize("link_type", [ETHERNET, captures.RAW, captures.SLL])
def test_an_output_of_one_link_type_is_what_tcpdump_writes(tmp_path: Path, link_type: int) -> None:
    packets = captures.generate(
        captures.Traffic(packets=500, link_type=link_type, malformed=False, fragments=False, steps_back=False)
    )
    source, theirs, ours = tmp_path / "in.pcap", tmp_path / "theirs.pcap", tmp_path / "ours.pcap"
    source.write_bytes(captures.pcap(packets, link_type=link_type))
    subprocess.run(["tcpdump", "-r", source, "-w", theirs], check=True, capture_output=True)
    replayed(source, "-o", ours)
    assert ours.read_bytes()[24:] == theirs.read_bytes()[24:]


def test_a_packed_capture_that_ends_early_is_one_line_and_what_came_before_is_reported(source: Path) -> None:
    content = gzip.compress(source.read_bytes())
    status, report, errors = piped(content[: len(content) // 2], "--json")
    assert (status, errors.count("\n")) == (1, 1)
    assert errors.startswith("castcore: standard input: the gzip data is cut: it ends early, after ")
    assert 500 < json.loads(report)["packets"] < 2_500


def test_standard_output_is_no_place_for_packets(source: Path) -> None:
    done = castcore("replay", source, "-o", "-")
    assert (done.returncode, done.stderr) == (1, "castcore: -: cannot be written: standard output is for the report\n")


def test_noise_and_cut_files_are_one_line_each(tmp_path: Path, source: Path) -> None:
    pcapng = tmp_path / "in.pcapng"
    replayed(source, "-o", pcapng)
    contents = {
        "noise": bytes(range(256)) * 9,
        "empty": b"",
        "half a pcapng": pcapng.read_bytes()[:100_003],
        "a pcapng that goes on as something else": pcapng.read_bytes() + b"abcdefghijklmnop",
        "half a header": pcapng.read_bytes()[:17],
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        done = castcore("replay", tmp_path / name)
        assert done.returncode == 1, name
        assert done.stderr.startswith(f"castcore: {tmp_path / name}: "), name
        assert done.stderr.count("\n") == 1, done.stderr
