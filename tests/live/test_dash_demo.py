"""castcore demo zero-rating --dash as a user runs it: A.3.2 from step 1 to 9, with segments that cross a live UPF."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from command import CASTCORE
from live.users import as_user

from nf.cli.demo import dash_network
from nf.cli.lab import isolation
from upf.errors import UpfError

# Of media: the first segment is of the lowest rate, and any of the others may come while the machine is held up.
SECONDS = 3
THRESHOLD_BPS = 5_000_000
# Of IP and TCP before 1,448 bytes of the stream each, of HTTP before each segment, and what TCP sends twice.
HEADERS = 1.10


def told(user: list[str], *options: str) -> dict:
    """What the demo says with --json."""
    words = [*user, str(CASTCORE), "demo", "zero-rating", "--dash", "--seconds", str(SECONDS), *options, "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=110)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def check_steps(story: dict) -> None:
    """Every step, in its order, in each play."""
    plays = [[each["step"] for each in story["steps"] if each["play"] == play] for play in (0, 1, 2)]
    assert plays == [[1, 2, 3], [4, 5, 6, 7, 7, 7, 8, 9], [4, 5, 6, 7, 7, 7, 8, 9]]


def check_compliant(play: dict) -> None:
    """It was told the filter, kept to it, and all of it crossed the UPF and was zero-rated."""
    assert play["ignore_filter"] is False
    assert play["service_descriptor_filter"] == {
        "service_description_id": "1",
        "operating_bandwidth_max_bps": THRESHOLD_BPS,
    }
    assert play["compliant_representations"] == ["480p", "SD", "HD"]
    # The lowest first; after that the best that complies of what the machine carries.
    assert play["representations"]["video"][0] == "480p"
    assert set(play["representations"]["video"]) <= {"480p", "SD", "HD"}
    assert play["representations"]["audio"] == ["audio"] * SECONDS
    assert all(each["combination_bps"] <= THRESHOLD_BPS for each in play["player"]["segments"])
    assert play["media_bytes"] < play["offered_bytes"] < play["media_bytes"] * HEADERS
    assert play["passed_bytes"] == play["zero_rated_bytes"] == play["offered_bytes"]
    assert (play["charged_bytes"], play["dropped_bytes"], play["exceeded"]) == (0, 0, False)


@pytest.mark.alone
@pytest.mark.clause(
    "TS 26.512 A.3.1",
    *(f"TS 26.512 A.3.2 step {number}" for number in range(1, 10)),
)
def test_in_monitor_mode_what_complies_is_zero_rated_and_a_player_that_ignores_the_filter_is_charged() -> None:
    story = told(as_user("nobody"))
    assert (story["enforcement_method"], story["enforcement_bit_rate_bps"]) == ("MONITOR", THRESHOLD_BPS)
    check_steps(story)
    compliant, greedy = story["plays"]
    check_compliant(compliant)
    # The other one takes the best there is.
    assert "UHD" in greedy["representations"]["video"]
    assert not all(each["compliant"] for each in greedy["player"]["segments"])
    assert greedy["passed_bytes"] == greedy["offered_bytes"] > greedy["media_bytes"]
    assert greedy["zero_rated_bytes"] + greedy["charged_bytes"] == greedy["passed_bytes"]
    assert greedy["charged_bytes"] > greedy["zero_rated_bytes"] > 0
    assert (greedy["dropped_bytes"], greedy["exceeded"]) == (0, True)


@pytest.mark.alone
@pytest.mark.clause("TS 26.512 A.3.1", "TS 26.512 A.3.2 step 9")
def test_in_police_mode_a_player_that_ignores_the_filter_loses_the_excess() -> None:
    story = told(as_user("root"), "--mode", "police")
    assert story["enforcement_method"] == "POLICE"
    compliant, greedy = story["plays"]
    check_compliant(compliant)
    assert greedy["dropped_bytes"] > 0
    assert greedy["passed_bytes"] == greedy["offered_bytes"] - greedy["dropped_bytes"] == greedy["zero_rated_bytes"]
    assert greedy["charged_bytes"] == 0
    assert greedy["media_bytes"] < greedy["passed_bytes"]


def test_nothing_of_it_stays_after_ctrl_c_in_mid_stream() -> None:
    before = sorted(os.listdir("/run"))
    words = [*as_user("root"), str(CASTCORE), "demo", "zero-rating", "--dash", "--seconds", "60"]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if line.startswith("step 9"):
                break
        os.killpg(process.pid, signal.SIGINT)
        # The end comes when the last process that could tell more has ended.
        process.stdout.read()
        complaint = process.stderr.read()
    assert (process.returncode, complaint) == (130, "castcore: interrupted\n")
    assert sorted(os.listdir("/run")) == before
    assert not Path("/run/netns/ue").exists()


def test_without_rights_it_says_in_a_line_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden() -> None:
        raise UpfError("user namespaces: found that they are refused here, expected leave: 'sudo castcore lab' may")

    monkeypatch.setattr(isolation, "isolate", forbidden)
    with pytest.raises(UpfError) as refusal:
        dash_network.enter()
    assert str(refusal.value) == (
        "user namespaces: found that they are refused here, expected leave: 'sudo castcore demo zero-rating --dash' may"
    )


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--seconds", "5"], "option '--seconds': goes with '--dash': a capture has its own length"),
        (
            ["--dash", "--pcap", "a.pcap", "--flow", "permit out ip from any to any"],
            "option '--dash': goes without '--pcap', '--flow' and '--ue': it makes its own traffic",
        ),
    ],
)
def test_options_that_do_not_go_together_are_one_line(options: list[str], problem: str) -> None:
    done = subprocess.run([CASTCORE, "demo", "zero-rating", *options], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"castcore: {problem}\n")
