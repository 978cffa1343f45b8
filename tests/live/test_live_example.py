"""examples/live-zero-rating.sh as a user runs it: a stream that is zero-rated in mid-stream, between real hosts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from live.users import EITHER, as_user

from upf.units import LIVE_BURST_MS

EXAMPLE = Path(__file__).parents[2] / "examples" / "live-zero-rating.sh"
SEGMENT_BYTES = 1_250_000
BEFORE = 4
# Of IP and TCP before 1,448 bytes of the stream each, and of HTTP before each segment; beyond that a little of what
# TCP has sent twice.
HEADERS = 1.06
# Packets that were kept waiting for a processor are taken to have come meanwhile, over at most this time.
MOST_LATE_S = 0.05

# The folders of the machine that it leaves as they were are those that other labs use too.
pytestmark = pytest.mark.xdist_group("labs")


def played(user: list[str], *options: str) -> dict:
    """The story that the example tells."""
    done = subprocess.run([*user, EXAMPLE, *options, "--json"], capture_output=True, text=True, timeout=110)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.fixture(params=EITHER)
def user(request: pytest.FixtureRequest) -> list[str]:
    """The words that make a command run as one user or the other."""
    return as_user(request.param)


@pytest.mark.clause("TS 26.512 A.3.1", "TS 26.512 A.3.2 step 6", "TS 26.512 A.3.2 step 7")
def test_a_stream_is_policed_and_zero_rated_from_the_middle_on(user: list[str]) -> None:
    story = played(user, "--segments", "7")
    segments = story["segments"]
    assert [each["bytes"] for each in segments] == [SEGMENT_BYTES] * 7
    assert [each["under_policy"] for each in segments] == [False] * BEFORE + [True] * 3
    # Before the policy nothing holds the stream back.
    assert max(each["rate_bps"] for each in segments[:BEFORE]) > 2 * story["rate_bps"]

    # From then on it keeps to the rate: what a bucket lets conform is its burst and the rate in the time.
    rate_bytes_s = story["rate_bps"] / 8
    passed_bytes = story["offered_bytes"] - story["dropped_bytes"]
    assert passed_bytes <= rate_bytes_s * (story["policy_elapsed_s"] + MOST_LATE_S + LIVE_BURST_MS / 1000)
    assert story["dropped_bytes"] > 0

    # What the player has received is what is zero-rated, within headers (and what it acknowledged with).
    assert story["received_bytes"] == 3 * SEGMENT_BYTES
    assert story["received_bytes"] < passed_bytes <= story["zero_rated_bytes"] < story["received_bytes"] * HEADERS
    assert story["charged_bytes"] == 0


@pytest.mark.clause("TS 26.512 A.3.2 step 7")
def test_in_monitor_mode_the_excess_passes_and_is_charged() -> None:
    story = played(as_user("nobody"), "--mode", "monitor", "--rate", "10 Mbps", "--segments", "7")
    assert story["dropped_bytes"] == 0
    rated_bytes = story["zero_rated_bytes"] + story["charged_bytes"]
    assert story["received_bytes"] < story["offered_bytes"] <= rated_bytes < story["received_bytes"] * HEADERS
    assert story["charged_bytes"] > 0


def test_it_tells_each_segment_to_people() -> None:
    done = subprocess.run([*as_user("nobody"), EXAMPLE, "--segments", "5"], capture_output=True, text=True, timeout=110)
    lines = done.stdout.splitlines()
    assert (len(lines), done.stderr, done.returncode) == (8, "", 0)
    assert [line.split()[:2] for line in lines[:4]] == [["segment", str(number)] for number in range(1, 5)]
    assert lines[4] == "the policy is active: 20 Mbps"
    assert lines[5].startswith("segment   5  1,250,000 bytes")
    assert lines[5].endswith("under the policy")
    assert lines[6].startswith("under the policy the player received 1,250,000 bytes; of ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_of_it_stays_wherever_it_is_ended(user: list[str], number: signal.Signals) -> None:
    before = sorted(os.listdir("/run"))
    with subprocess.Popen([*user, EXAMPLE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("segment   1")
        process.send_signal(number)
        # The end comes when the last process that could tell more has ended.
        process.stdout.read()
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    assert sorted(os.listdir("/run")) == before


@pytest.mark.parametrize("count", ["0", "x", "100", ""])
def test_a_number_of_segments_that_cannot_be_is_one_line(count: str) -> None:
    done = subprocess.run([EXAMPLE, "--segments", count], capture_output=True, text=True, timeout=60)
    assert (done.stderr, done.returncode) == (f"option '--segments': found '{count}', expected 1 to 99\n", 1)
