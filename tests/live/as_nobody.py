"""Runs a command as the user that owns nothing: ``python as_nobody.py COMMAND…``, for root to start.

The interpreter and the sources may be where nobody else may look (below /root); in mounts of its own the command finds
them there all the same.
"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from pathlib import Path

from nf.cli.lab.system_calls import CLONE_NEWNS, MS_BIND, MS_REC, MS_SLAVE, mount, unshare

NOBODY = 65534


def main(command: list[str]) -> None:
    unshare(CLONE_NEWNS)
    mount("", "/", flags=MS_REC | MS_SLAVE)
    here = Path.cwd()
    sources = Path(__file__).resolve().parents[2]
    needed = {Path(path).resolve() for path in (*sys.path, sys.prefix, sys.base_prefix, sources, here) if path}
    hidden: dict[Path, set[Path]] = defaultdict(set)
    for path in needed:
        closed = next((each for each in reversed(path.parents) if not each.stat().st_mode & 0o001), None)
        if closed is not None and path.is_dir():
            hidden[closed].add(path)
    for closed, paths in hidden.items():
        _only(closed, paths)
    os.chdir(here)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    os.execvpe(command[0], command, os.environ | {"HOME": "/", "SHELL": "/bin/sh"})


def _only(closed: Path, paths: set[Path]) -> None:
    """Opens a directory, with nothing in it but these."""
    outermost = [path for path in paths if not paths & set(path.parents)]
    kept = [(path, os.open(path, os.O_PATH)) for path in outermost]
    mount("opened", closed, "tmpfs", options="mode=755")
    for path, fd in kept:
        path.mkdir(parents=True)
        mount(f"/proc/self/fd/{fd}", path, flags=MS_BIND | MS_REC)
        os.close(fd)


if __name__ == "__main__":
    main(sys.argv[1:])
