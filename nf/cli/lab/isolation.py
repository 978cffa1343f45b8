"""A process in namespaces of its own (users, network, mounts, processes), which take all that it starts with them.

Whoever is not root becomes root in a user namespace, and only there: what it may do to networks, it may do to those
that are made inside (Linux's user_namespaces(7), pid_namespaces(7)).
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Final

from nf.cli.lab.system_calls import (
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_REC,
    MS_SLAVE,
    die_with_parent,
    mount,
    unshare,
)
from upf.errors import UpfError

_ISOLATED: Final = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID
_SETTINGS: Final = Path("/proc/sys")
# What forbids user namespaces, the values that do so, and one that does not.
_SYSCTLS: Final = (
    ("kernel.unprivileged_userns_clone", "0", "1"),
    ("user.max_user_namespaces", "0", "10000"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
)
# Directories of a /run that is the lab's own: names of namespaces, and room for what it tells.
_OURS: Final = ("netns", "castcore")


def isolate() -> None:
    """Returns in a child process that is isolated; the calling process waits for it, and ends with its exit code.

    The child is the first process of its namespaces: when it ends, by itself or with the caller (also killed), the
    kernel ends whatever else is there. It has a ``/run`` of its own; SIGTERM and SIGHUP end it by SystemExit.
    Raises UpfError where this is forbidden.
    """
    _enter()
    # Before there are two processes: the first one of a namespace is deaf to signals that it has no handler for.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    sys.stdout.flush()
    sys.stderr.flush()
    ready, go = os.pipe()
    child = os.fork()
    if child:
        os.close(ready)
        _follow(child, go)
    os.close(go)
    die_with_parent()
    # Nothing is read where the parent ended before it could be followed.
    alive = os.read(ready, 1)
    os.close(ready)
    if not alive:
        os._exit(1)
    # A container may hide parts of /proc, and forbids a whole one then: the one that is there does, too.
    with suppress(OSError):
        mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    _own_run()


def _end(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _enter() -> None:
    user, group = os.geteuid(), os.getegid()
    try:
        if user == 0:
            # Root needs no other users, where it is not one without capabilities.
            with suppress(PermissionError):
                unshare(_ISOLATED)
                mount("", "/", flags=MS_REC | MS_SLAVE)
                return
        unshare(_ISOLATED | CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
        mount("", "/", flags=MS_REC | MS_SLAVE)
    except OSError as error:
        raise _forbidden(error) from None


def _forbidden(error: OSError) -> UpfError:
    for name, forbids, allows in _SYSCTLS:
        with suppress(OSError):
            found = _SETTINGS.joinpath(*name.split(".")).read_text().strip()
            if found == forbids:
                return UpfError(
                    f"user namespaces: found {name} = {found}, expected {allows}: 'sudo sysctl -w {name}={allows}' "
                    "allows them; 'sudo castcore lab' does without"
                )
    if error.errno in (errno.ENOSPC, errno.EUSERS):
        return UpfError(
            "user namespaces: found as many as user.max_user_namespaces allows, expected room for one more: 'sudo "
            "sysctl -w user.max_user_namespaces=10000' makes some; 'sudo castcore lab' does without"
        )
    return UpfError(
        f"user namespaces: found that they are refused here ({error.strerror}), expected leave to make one: 'sudo "
        "castcore lab' does without; a container has it with '--cap-add SYS_ADMIN --security-opt seccomp=unconfined'"
    )


def _follow(child: int, go: int) -> None:
    """Waits for the child, passes on what is to end it, and ends as it does."""

    def pass_on(number: int, _: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    # Ctrl-C is for what runs in the foreground inside, which has it from the terminal.
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, lambda *_: None)
    os.write(go, b".")
    _, status = os.waitpid(child, 0)
    sys.exit(exit_code(status))


def exit_code(status: int) -> int:
    """Of a process as a shell has it: 128 and the number of the signal that killed it."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _own_run() -> None:
    """A ``/run`` with all that is in the real one and room for names of namespaces, which ``ip netns`` keeps there."""
    run = Path("/run")
    before = os.open(run, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        mount("castcore-lab", run, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
        for name in os.listdir(before):
            shown, hidden = run / name, Path(f"/proc/self/fd/{before}/{name}")
            if name in _OURS:
                continue
            if hidden.is_symlink():
                shown.symlink_to(os.readlink(hidden))
                continue
            if hidden.is_dir():
                shown.mkdir()
            else:
                shown.touch()
            # What cannot be shown (a directory of another user's) stays empty.
            with suppress(OSError):
                mount(str(hidden), shown, flags=MS_BIND | MS_REC)
        for name in _OURS:
            (run / name).mkdir()
    finally:
        os.close(before)
