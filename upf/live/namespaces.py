"""Work in a network namespace other than the caller's, as ``ip netns exec`` does for a process.

A namespace belongs to a thread, so the work is done in a thread of its own: the caller's is never changed, also where
the work fails. What is opened there (a socket, a tun device) stays in that namespace, whoever uses it.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from upf.errors import UpfError

# Where `ip netns` keeps the names of namespaces.
NAMED: Final = Path("/run/netns")
_CLONE_NEWNET: Final = 0x40000000

_P = ParamSpec("_P")
_T = TypeVar("_T")


def in_namespace(netns: str | None, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """What ``work`` returns, called in the network namespace, or in the caller's own where that is None.

    netns: a name that ``ip netns`` knows, or the path of a namespace, such as ``/proc/1234/ns/net``. Raises UpfError
    where it cannot be entered, and whatever ``work`` raises. The caller waits.
    """

    def entered() -> _T:
        if netns is not None:
            _enter(netns)
        return work(*args, **kwargs)

    # Also where no namespace is named: the work is then equally free of the caller's event loop.
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="netns") as thread:
        return thread.submit(entered).result()


def _enter(netns: str) -> None:
    """Moves this thread into the namespace."""
    try:
        namespace = os.open(NAMED / netns, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _not_opened(netns, error) from None
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(namespace, _CLONE_NEWNET) == 0:
            return
        number = ctypes.get_errno()
    finally:
        os.close(namespace)
    if number == errno.EPERM:
        raise UpfError(
            f"network namespace {netns!r}: this process has no CAP_SYS_ADMIN, expected it of whoever enters a network "
            "namespace: run it as root (sudo), or inside of the namespace ('ip netns exec'), without naming one; "
            "'castcore lab' needs no root"
        )
    if number == errno.EINVAL:
        raise UpfError(f"network namespace {netns!r}: found something else, expected what 'ip netns add' makes")
    raise UpfError(f"network namespace {netns!r}: cannot be entered: {os.strerror(number)}")


def _not_opened(netns: str, error: OSError) -> UpfError:
    if not isinstance(error, FileNotFoundError):
        return UpfError(f"network namespace {netns!r}: cannot be opened: {error.strerror}")
    if netns.startswith("/"):
        return UpfError(f"network namespace {netns!r}: found no such path, expected one such as /proc/1234/ns/net")
    names = sorted(each.name for each in NAMED.iterdir()) if NAMED.is_dir() else []
    return UpfError(
        f"network namespace {netns!r}: found {', '.join(names) or 'none'}, expected it to exist: "
        f"'ip netns add {netns}' makes it"
    )
