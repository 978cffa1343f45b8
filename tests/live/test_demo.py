"""``castcore demo zero-rating``: true to the byte, in both modes, on its own session and on any capture."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path

import captures
import pytest
from command import CASTCORE

UE, SERVER = "10.45.0.2", "198.51.100.7"


def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [CASTCORE, "demo", "zero-rating", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100, **options)  # type: ignore[call-overload, no-any-return]


def story(*arguments: str) -> dict:
    done = run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def within(packets: Iterable[tuple[int, int]], rate_bps: int, burst_bytes: int) -> int:
    """Bytes that a token bucket of whole bit-nanoseconds lets conform, of (time in ns, length) in order."""
    full = tokens = burst_bytes * 8 * 10**9
    latest_ns, conforming = None, 0
    for ts_ns, length in packets:
        if latest_ns is not None and ts_ns > latest_ns:
            tokens = min(full, tokens + rate_bps * (ts_ns - latest_ns))
        latest_ns = ts_ns if latest_ns is None else max(latest_ns, ts_ns)
        if tokens >= length * 8 * 10**9:
            tokens -= length * 8 * 10**9
            conforming += length
    return conforming


def downlink_capture(path: Path) -> list[tuple[int, int]]:
    """A capture of flows that come and go, TCP, UDP and ICMP, among other traffic; the session's (time, length)."""
    packets, session = [], []
    for number in range(3_000):
        ts_ns = captures.START_NS + number * 2_000_000
        port = 443 + number // 600
        protocol = captures.TCP if number % 3 else captures.UDP
        length = 100 + (number * 37) % 1200
        data = captures.ipv4(SERVER, UE, protocol, captures.ports(port, 40_000 + number % 2, length))
        packets.append(captures.Captured(ts_ns, data, len(data)))
        session.append((ts_ns, len(data)))
        back = captures.ipv4(UE, SERVER, protocol, captures.ports(40_000 + number % 2, port, 20))
        packets.append(captures.Captured(ts_ns + 1_000_000, back, len(back)))
        if number % 10 == 0:
            other = captures.ipv4("203.0.113.9", UE, captures.UDP, captures.ports(53, 9_999, 60))
            packets.append(captures.Captured(ts_ns + 1_500_000, other, len(other)))
            ping = captures.ipv4(SERVER, UE, captures.ICMP, captures.payload(56))
            packets.append(captures.Captured(ts_ns + 1_600_000, ping, len(ping)))
            session.append((ts_ns + 1_600_000, len(ping)))
    path.write_bytes(captures.pcap(packets, link_type=captures.RAW, nanoseconds=True))
    return session


@pytest.mark.clause("TS 26.512 A.3.1", "TS 26.512 A.3.2 step 7")
@pytest.mark.parametrize("mode", ["monitor", "police"])
def test_any_capture_is_rated_as_an_independent_bucket_would(tmp_path: Path, mode: str) -> None:
    session = downlink_capture(tmp_path / "in.pcap")
    told = story(
        "--pcap", str(tmp_path / "in.pcap"), "--flow", f"permit out ip from {SERVER} to {UE}", "--rate", "1.5 Mbps",
        "--burst", "20000 B", "--mode", mode,
    )  # fmt: skip
    offered = sum(length for _, length in session)
    conforming = within(session, 1_500_000, 20_000)
    assert 0 < conforming < offered
    assert told["enforcement_method"] == mode.upper()
    assert told["enforcement_bit_rate_bps"] == 1_500_000
    assert told["offered_bytes"] == offered
    assert told["zero_rated_bytes"] == conforming
    if mode == "monitor":
        assert (told["passed_bytes"], told["charged_bytes"]) == (offered, offered - conforming)
        assert told["dropped_bytes"] == 0
    else:
        assert (told["passed_bytes"], told["charged_bytes"]) == (conforming, 0)
        assert told["dropped_bytes"] == offered - conforming
    # Five server ports with two UE ports, each TCP and UDP, and the ICMP flow.
    assert len(told["flows"]) == 21
    for total in ("offered_bytes", "passed_bytes", "zero_rated_bytes", "charged_bytes", "dropped_bytes"):
        assert sum(flow[total] for flow in told["flows"]) == told[total], total
    assert told["uplink"]["offered_bytes"] == 3_000 * 40


@pytest.mark.clause("TS 26.512 A.3.1", "TS 26.512 A.3.2 step 1", "TS 26.512 A.3.2 step 6", "TS 26.512 A.3.2 step 7")
def test_the_generated_session_exceeds_the_threshold_and_keeps_to_it_again() -> None:
    told = story()
    assert told["enforcement_method"] == "MONITOR"
    assert told["enforcement_bit_rate_bps"] == 2_000_000
    assert told["passed_bytes"] == told["offered_bytes"] == told["zero_rated_bytes"] + told["charged_bytes"]
    assert told["charged_bytes"] > 0
    assert {flow["protocol"] for flow in told["flows"]} == {6, 17}
    notifications = [event for event in told["events"] if event["type"] == "QOS_NOTIF"]
    assert [(event["source"], event["path"], event["compliant"]) for event in notifications] == [
        ("pcf", "N4>N7>N5", False),
        ("pcf", "N4>N7>N5", True),
    ]
    states = [event["state"] for event in told["events"] if event["type"] == "DYNAMIC_POLICY_STATE"]
    assert states == ["ACTIVE", "EXCEEDED", "ACTIVE"]
    sequences = [event["sequence"] for event in told["events"]]
    assert sequences == sorted(set(sequences))


def test_eyes_see_both_modes_and_every_flow() -> None:
    done = run()
    assert done.returncode == 0, done.stderr
    for shown in ("MONITOR", "POLICE", "198.51.100.7:5004>40004", "exceeds the threshold", "as rated by the PCF"):
        assert shown in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 100


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--pcap", "in.pcap"), "option '--flow': missing"),
        (("--flow", "permit out ip from any to any"), "go with '--pcap'"),
        (("--pcap", "none.pcap", "--flow", "permit out ip from any to any"), "none.pcap: no such file"),
        (("--pcap", "in.pcap", "--flow", "permit out ip from any to any"), "to 2 addresses"),
        (("--pcap", "in.pcap", "--flow", "permit out 99 from any to any"), "no packet of the capture matches"),
        (("--pcap", "in.pcap", "--flow", "permit ut ip from any to any"), "at column 8"),
        (("--pcap", "cut.pcap", "--flow", "permit out ip from any to any"), "cut.pcap: the record at byte"),
        (("--rate", "fast"), "bit rate: found 'fast'"),
    ],
)
def test_what_cannot_be_played_is_refused_in_one_line(tmp_path: Path, arguments: tuple[str, ...], line: str) -> None:
    downlink_capture(tmp_path / "in.pcap")
    (tmp_path / "cut.pcap").write_bytes((tmp_path / "in.pcap").read_bytes()[:-7])
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert line in done.stderr


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [CASTCORE, "demo", "zero-rating"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    while "step 1" not in (line := process.stdout.readline()):
        assert line, "the demonstration ended before it began"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == "castcore: interrupted\n"
    assert list(tmp_path.iterdir()) == []
