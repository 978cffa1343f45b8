"""``castcore lab`` as root and as nobody: two hosts that reach each other, and nothing that stays."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from command import CASTCORE
from live.users import USERS, as_user

# Labs of one machine share a few of its folders.
pytestmark = pytest.mark.xdist_group("labs")

TIMEOUT_S = 60

# What talks to the other host: sockets in both, in one process.
TALK = """
import socket
from upf.live.namespaces import in_namespace

def inside(host, family, kind):
    return in_namespace(host, socket.socket, family, kind)

"""
ECHO = f"""{TALK}
for family, server in ((socket.AF_INET, "10.45.0.1"), (socket.AF_INET6, "fd00:45::1")):
    with inside("dn", family, socket.SOCK_STREAM) as listening, inside("ue", family, socket.SOCK_STREAM) as calling:
        listening.bind((server, 80))
        listening.listen()
        calling.settimeout(20)
        calling.connect((server, 80))
        answering, peer = listening.accept()
        with answering:
            calling.sendall(b"hello")
            print(peer[0], answering.recv(5, socket.MSG_WAITALL).decode())
"""
# Twenty packets of 1,028 bytes to a port that is policed, and one to a port that is not, which is judged after them.
FLOOD = f"""{TALK}
with inside("dn", socket.AF_INET, socket.SOCK_DGRAM) as sending:
    policed, other = (inside("ue", socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with policed, other:
        policed.bind(("10.45.0.2", 5000))
        other.bind(("10.45.0.2", 5001))
        for _ in range(20):
            sending.sendto(bytes(1000), ("10.45.0.2", 5000))
        sending.sendto(b"last", ("10.45.0.2", 5001))
        other.settimeout(20)
        other.recv(2000)
        policed.setblocking(False)
        received = 0
        try:
            while policed.recv(2000):
                received += 1
        except BlockingIOError:
            print(received)
"""
# What can be seen from within, told as JSON; its exit code is its own.
LOOK = """
import json, os, subprocess, sys

def first_words(*words):
    return [line.split()[0] for line in subprocess.run(words, capture_output=True, text=True).stdout.splitlines()]

print(json.dumps({
    "tun": open("/run/castcore/tun.log").read(),
    "links": [line.split(":")[1].strip() for line in os.popen("ip -o link")],
    "hosts": sorted(first_words("ip", "netns")),
    "first process": open("/proc/1/comm").read().strip(),
    "run": sorted(os.listdir("/run")),
}))
sys.exit(7)
"""


@pytest.fixture(params=USERS)
def user(request: pytest.FixtureRequest) -> list[str]:
    """The words that make a command run as one user or the other."""
    return as_user(request.param)


def lab(user: Sequence[str], *words: object, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """A lab that ends by itself."""
    return subprocess.run(
        [*user, CASTCORE, "lab", *map(str, words)], input=text, capture_output=True, text=True, timeout=TIMEOUT_S
    )


@contextmanager
def running(user: Sequence[str], *words: object) -> Iterator[subprocess.Popen[str]]:
    """A lab that goes on, in a session of its own, once its command has told that it runs."""
    with subprocess.Popen(
        [*user, CASTCORE, "lab", *map(str, words)], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            yield process
        finally:
            process.kill()


@dataclass(frozen=True)
class Look:
    """What a command has seen in a lab, how it ended, and the interfaces that there were before, outside."""

    seen: dict[str, Any]
    returncode: int
    interfaces_before: list[tuple[int, str]]


@pytest.fixture(scope="module", params=USERS)
def look(request: pytest.FixtureRequest) -> Look:
    """One lab for all that only looks around."""
    before = socket.if_nameindex()
    done = lab(as_user(request.param), "--", sys.executable, "-c", LOOK)
    assert done.stderr == ""
    return Look(json.loads(done.stdout), done.returncode, before)


def test_two_hosts_reach_each_other(user: list[str]) -> None:
    done = lab(user, "--", sys.executable, "-c", ECHO)
    assert (done.stdout, done.stderr, done.returncode) == ("10.45.0.2 hello\nfd00:45::2 hello\n", "", 0)


def test_the_exit_code_is_that_of_the_command(user: list[str], look: Look) -> None:
    assert look.returncode == 7
    assert lab(user, "--", "sh", "-c", "kill -KILL $$").returncode == 137


def test_rule_options_hold_between_the_hosts(user: list[str]) -> None:
    rule = ["--flow", "permit out 17 from any to assigned 5000", "--rate", "1 bps", "--burst", "5000 B"]
    done = lab(user, *rule, "--mode", "police", "--", sys.executable, "-c", FLOOD)
    # Four packets are what the burst has room for.
    assert (done.stdout, done.stderr, done.returncode) == ("4\n", "", 0)


def test_a_rules_file_is_found_where_the_user_stands(user: list[str], tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "lab.toml").write_text(
        '[[rule]]\nname = "video"\nflows = ["permit out 17 from any to assigned 5000"]\nrate = "1 bps"\n'
        'burst = "5000 B"\n'
    )
    done = subprocess.run(
        [*user, CASTCORE, "lab", "--rules", "lab.toml", sys.executable, "-c", FLOOD],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=tmp_path,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("4\n", "", 0)


def test_a_shell_is_told_what_is_there_and_ends_the_lab(user: list[str]) -> None:
    environment = os.environ | {"SHELL": "/bin/sh"}
    done = subprocess.run(
        [*user, CASTCORE, "lab", "--rate", "10 Mbps", "--flow", "permit out ip from any to any"],
        input="ip netns; exit 3\n",
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=environment,
    )
    assert (done.stderr, done.returncode) == ("", 3)
    assert "ue  10.45.0.2  fd00:45::2  device ue0, the access side" in done.stdout
    assert "dn  10.45.0.1  fd00:45::1  device n6, the core side" in done.stdout
    assert "rules: --flow 'permit out ip from any to any' --rate '10 Mbps'" in done.stdout
    # What castcore tun has counted is told at the end.
    assert re.search("^uplink .*^downlink .*^rule  up .*^rule  down ", done.stdout, re.MULTILINE | re.DOTALL)


def test_a_shell_on_a_terminal_has_its_jobs_and_ctrl_c(user: list[str]) -> None:
    ours, its = pty.openpty()
    bash = ["setsid", "--ctty", *user, "env", "SHELL=/bin/bash", CASTCORE, "lab"]
    with subprocess.Popen(bash, stdin=its, stdout=its, stderr=its) as process:
        try:
            said = Conversation(ours)
            said.until("tail -f")
            # What is typed is echoed, too, and must not be taken for what comes of it.
            said.type("sh -c 'printf sleep%s ing; exec sleep 600'")
            said.until("sleeping")
            said.type("\x03", end="")
            said.type("printf 'code=%s jobs=%s.\\n' $? $-")
            code, jobs = said.until(r"code=(\d+) jobs=(\w+)\.").groups()
            assert (code, "m" in jobs) == ("130", True)
            said.type("exit 9")
            assert process.wait(timeout=TIMEOUT_S) == 9
        finally:
            process.kill()
            os.close(its)
            os.close(ours)


class Conversation:
    """What is said on a terminal."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def type(self, text: str, *, end: str = "\n") -> None:
        os.write(self._fd, (text + end).encode())

    def until(self, awaited: str) -> re.Match[str]:
        """What a pattern has matched, once it has."""
        said = ""
        while (found := re.search(awaited, said)) is None:
            assert select.select([self._fd], [], [], TIMEOUT_S)[0], said
            said += os.read(self._fd, 4096).decode()
        return found


def test_what_castcore_tun_says_can_be_followed(look: Look) -> None:
    assert look.seen["tun"] == "castcore tun: ue0@ue (access) <-> n6@dn (core); Ctrl-C ends it\n"


def test_a_bare_lab_has_two_hosts_for_devices_of_ones_own(user: list[str]) -> None:
    places = ["--access", "a@ue", "--address", "access=10.45.0.2/24", "--address", "access=fd00:45::2/64"]
    places += ["--core", "b@dn", "--address", "core=10.45.0.1/24", "--address", "core=fd00:45::1/64"]
    script = """
        tun=$1 python=$2 echo=$3
        shift 3
        ip -n ue -o link | cut -d' ' -f2
        mkfifo /run/castcore/ready
        "$tun" tun "$@" --json >/run/castcore/ready &
        read -r ready </run/castcore/ready && "$python" -c "$echo"
    """
    done = lab(user, "--bare", "--", "sh", "-c", script, "sh", CASTCORE, sys.executable, ECHO, *places)
    assert (done.stdout, done.returncode) == ("lo:\n10.45.0.2 hello\nfd00:45::2 hello\n", 0)
    refusal = lab(user, "--bare", "--rate", "5 Mbps", "--flow", "permit out ip from any to any")
    assert (refusal.stderr, refusal.returncode) == (
        "castcore: option '--bare': goes without --flow: there is nothing yet that could police\n",
        1,
    )


def test_it_has_a_network_of_its_own_and_processes_of_its_own(look: Look) -> None:
    assert (look.seen["links"], look.seen["hosts"]) == (["lo"], ["dn", "ue"])
    # The first process in there is castcore, not that of this machine.
    assert look.seen["first process"] in (CASTCORE.name, "python", Path(sys.executable).resolve().name)
    assert socket.if_nameindex() == look.interfaces_before
    assert not {"ue", "dn"} & set(os.listdir("/run/netns") if os.path.isdir("/run/netns") else [])


def test_what_is_in_run_can_still_be_seen(look: Look) -> None:
    mine = sorted(name for name in os.listdir("/run") if name not in ("netns", "castcore"))
    assert set(mine) <= set(look.seen["run"])


def test_whoever_is_root_in_there_is_not_outside() -> None:
    done = lab(as_user("nobody"), "--", "sh", "-c", "id -u; touch /etc/castcore-was-here")
    assert (done.stdout, done.returncode) == ("0\n", 1)
    assert not Path("/etc/castcore-was-here").exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_everything_ends_with_the_lab(user: list[str], number: signal.Signals) -> None:
    with running(user, "--", "sh", "-c", "sleep 600 & echo up; sleep 600") as process:
        process.send_signal(number)
        # The end of what is written comes when the last process that could write has ended.
        assert process.stdout is not None
        assert process.stdout.read() == ""
        expected = -number if number == signal.SIGKILL else 128 + number
        assert process.wait(timeout=TIMEOUT_S) == expected


def test_what_runs_in_the_background_ends_with_the_command(user: list[str]) -> None:
    with running(user, "--", "sh", "-c", "setsid sleep 600 & echo up; exit 4") as process:
        assert process.stdout is not None
        assert process.stdout.read() == ""
        assert process.wait(timeout=TIMEOUT_S) == 4


def test_ctrl_c_is_for_the_command(user: list[str]) -> None:
    script = "trap 'exit 5' INT; echo up; while :; do sleep 0.1; done"
    with running(user, "--", "sh", "-c", script) as process:
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=TIMEOUT_S) == 5


def test_a_command_that_does_not_exist_is_one_line(user: list[str]) -> None:
    done = lab(user, "--", "no-such-command")
    assert (done.stderr, done.returncode) == (
        "castcore: command 'no-such-command': cannot be run: No such file or directory\n",
        1,
    )


def test_a_bad_rule_is_told_before_anything_is_made() -> None:
    done = lab([], "--flow", "permit out ip from any to any", "--rate", "fast", "--", "true")
    assert done.returncode == 1
    assert done.stderr.startswith("castcore: option '--rate': found 'fast'")
    assert len(done.stderr.splitlines()) == 1


def test_where_the_kernel_forbids_namespaces_one_line_tells_what_does() -> None:
    # In a user namespace of its own, whose root has lost what root can do.
    script = 'echo 0 >/proc/sys/user/max_user_namespaces; exec setpriv --bounding-set=-all "$@"'
    forbidden = [*as_user("nobody"), "unshare", "--user", "--map-root-user", "sh", "-c", script, "sh"]
    done = lab(forbidden, "--", "true")
    assert (done.stdout, done.returncode) == ("", 1)
    assert done.stderr == (
        "castcore: user namespaces: found user.max_user_namespaces = 0, expected 10000: 'sudo sysctl -w "
        "user.max_user_namespaces=10000' allows them; 'sudo castcore lab' does without\n"
    )
