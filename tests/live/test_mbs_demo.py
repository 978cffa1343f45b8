"""``castcore demo mbs``: a folder of files through the whole MBS chain, byte for byte, with the life of its session."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from pathlib import Path

import pytest
from command import CASTCORE
from live.users import as_user

LIFE = ["ESTABLISHED", "ACTIVE", "DEACTIVATING", "INACTIVE"]


def demo(*arguments: str | Path, user: str = "") -> subprocess.CompletedProcess[str]:
    command = [*(as_user(user) if user else ()), CASTCORE, "demo", "mbs", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def contents(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


@pytest.mark.clause("TS 26.502 §4.6.1", "TS 26.502 table 4.6.2-1", "TS 26.517 §5")
def test_twenty_objects_arrive_as_they_were_and_every_state_and_event_is_told_by_its_name() -> None:
    done = demo("--json", user="nobody")
    assert done.returncode == 0, done.stderr
    story = json.loads(done.stdout)
    assert story["identical"] is True
    assert len(story["objects"]) == 20
    assert 0 in {each["bytes"] for each in story["objects"]}
    assert [each["identical"] for each in story["objects"]] == [True] * 20
    assert story["states"] == LIFE
    assert story["reception"]["objects"]["FAILED"] == 0
    told = [(each["told_by"], each["type"]) for each in story["events"]]
    order = [
        "DIST_SESS_STARTING",
        "DIST_SESS_STARTED",
        "DIST_SESS_ACTIVATED",
        "DIST_SESS_TERMINATED",
        "SESSION_TERMINATED",
    ]
    assert [name for source, name in told if source == "mbsf" and name in order] == order
    assert {
        ("mbstf", "DATA_INGEST_SESSION_ESTABLISHED"),
        ("mbstf", "SESSION_ACTIVATED"),
        ("mbstf", "SESSION_DEACTIVATED"),
        ("smf", "BROADCAST_DELIVERY_STATUS"),
    } <= set(told)
    paths = {each["type"]: each["path"] for each in story["events"] if each["told_by"] == "mbsf"}
    assert paths["DIST_SESS_STARTED"] == "Nmb10"
    assert story["elapsed_s"] < 60


@pytest.mark.clause("TS 26.502 §4.6.1", "TS 26.346 §9.3")
def test_files_of_ones_own_come_through_a_bad_radio_path_with_fec_and_repair(tmp_path: Path) -> None:
    draw = random.Random(1)
    source, output = tmp_path / "in", tmp_path / "out"
    (source / "a folder/ünïcode & 100%").mkdir(parents=True)
    (source / "empty").write_bytes(b"")
    (source / "one byte").write_bytes(b"\0")
    (source / "a folder/ünïcode & 100%/#1 + 2?.bin").write_bytes(draw.randbytes(300_000))
    (source / "large.bin").write_bytes(draw.randbytes(2_000_000))
    done = demo("--source", source, "--output", output, "--loss", "30", "--json")
    assert done.returncode == 0, done.stderr
    story = json.loads(done.stdout)
    assert contents(output) == contents(source)
    assert story["states"] == LIFE
    assert story["reception"]["objects"]["REPAIRED"] > 0
    assert story["reception"]["symbols"]["restored"] > 0


def test_the_story_reads_by_reference_points() -> None:
    done = demo("--fec", "0")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    points = {line.split()[0] for line in lines if line.strip()}
    assert {"Nmb10", "Nmb2", "Nmb1", "MBS-5", "MBS-4-MC"} <= points
    assert (
        lines[-3] == "states      INACTIVE → ESTABLISHED → ACTIVE → DEACTIVATING → INACTIVE, then no longer provisioned"
    )
    assert lines[-1].endswith("20 of 20 objects are byte-identical")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_can_be_ended_at_any_time_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    command = [CASTCORE, "demo", "mbs"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert any("ESTABLISHED" in line for line in iter(process.stdout.readline, ""))
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert "Traceback" not in errors
    assert process.returncode != 0
    assert list(tmp_path.iterdir()) == []


def test_a_source_without_files_is_one_line(tmp_path: Path) -> None:
    empty = demo("--source", tmp_path)
    assert (empty.returncode, empty.stdout) == (1, "")
    assert empty.stderr == f"castcore: --source: {tmp_path}: expected files, found none\n"
    missing = demo("--source", tmp_path / "nothing")
    assert missing.stderr == f"castcore: --source: {tmp_path}/nothing: expected a directory, found nothing\n"
