"""What Linux has and Python 3.11 has not: namespaces of one's own, mounts, an end that follows the parent's."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path
from typing import Final

# linux/sched.h
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000
# linux/mount.h
MS_NOSUID: Final = 0x02
MS_NODEV: Final = 0x04
MS_NOEXEC: Final = 0x08
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_SLAVE: Final = 0x80000
_PR_SET_PDEATHSIG: Final = 1

_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Moves this thread into namespaces of its own (its children, for CLONE_NEWPID). Raises OSError."""
    _checked(_LIBC.unshare(flags))


def mount(source: str, target: str | Path, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mounts a file system, or part of one elsewhere. Raises OSError, with the target."""
    words = [os.fsencode(word) for word in (source, target, kind)]
    _checked(_LIBC.mount(*words, ctypes.c_ulong(flags), os.fsencode(options)), target)


def die_with_parent() -> None:
    """Has the kernel kill this process when the one that forked it ends, however that ends."""
    _checked(_LIBC.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0))


def _checked(result: int, target: str | Path | None = None) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), *([str(target)] if target is not None else []))
