"""Two hosts, each a network namespace with a name, and ``castcore tun`` between them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from nf.cli.lab.system_calls import CLONE_NEWNET, MS_BIND, mount, unshare
from upf.live.namespaces import NAMED, in_namespace


@dataclass(frozen=True, slots=True)
class Host:
    """A network namespace, the device that leads out of it, and its addresses with their prefix lengths."""

    name: str
    interface: str
    addresses: tuple[str, str]

    @property
    def ipv4(self) -> str:
        """Its address without the prefix length."""
        return self.addresses[0].partition("/")[0]

    @property
    def ipv6(self) -> str:
        """Its address without the prefix length."""
        return self.addresses[1].partition("/")[0]


UE: Final = Host("ue", "ue0", ("10.45.0.2/24", "fd00:45::2/64"))
DN: Final = Host("dn", "n6", ("10.45.0.1/24", "fd00:45::1/64"))
# What `castcore tun` says, a line a second while packets come.
LOG: Final = Path("/run/castcore/tun.log")
_TUN: Final = (sys.executable, "-P", "-c", "from nf.cli.main import main; main()", "tun")
_END_S: Final = 10


def loopback_up() -> None:
    """A new network namespace has its loopback down."""
    from pyroute2 import IPRoute

    with IPRoute() as kernel:
        kernel.link("set", index=1, state="up")


def make_host(name: str) -> None:
    """Makes a network namespace that ``ip netns`` knows by its name, with loopback up."""

    def made() -> None:
        unshare(CLONE_NEWNET)
        loopback_up()
        place = NAMED / name
        place.touch()
        mount("/proc/thread-self/ns/net", place, flags=MS_BIND)

    # In a thread of its own, which alone has gone there.
    in_namespace(None, made)


class Pair:
    """``castcore tun`` between the two hosts, a process of its own; a context manager.

    ended: called when it has ended without being asked to.
    """

    def __init__(self, options: Sequence[str], ended: Callable[[], None]) -> None:
        self._summary: list[str] = []
        self._ready = threading.Event()
        self._failure = 0
        self._stopping = False
        self._ended = ended
        words = ["--access", f"{UE.interface}@{UE.name}", "--core", f"{DN.interface}@{DN.name}"]
        for side, host in (("access", UE), ("core", DN)):
            words += [word for address in host.addresses for word in ("--address", f"{side}={address}")]
        # Away from the terminal, so that Ctrl-C is not for it; as wide as the terminal all the same.
        self._process = subprocess.Popen(
            [*_TUN, *words, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | {"COLUMNS": str(shutil.get_terminal_size().columns)},
        )
        self._reader = threading.Thread(target=self._read, name="castcore tun", daemon=True)
        self._reader.start()

    def wait(self) -> None:
        """Until packets flow. Raises SystemExit where they never will: it has told why."""
        self._ready.wait()
        if self._failure:
            sys.exit(self._failure)

    def close(self) -> str:
        """Ends it: its summary."""
        self._stopping = True
        self._process.terminate()
        self._reader.join(_END_S)
        return "".join(self._summary)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with LOG.open("w", buffering=1) as log:
            for line in self._process.stdout:
                (self._summary.append if self._stopping else log.write)(line)
                self._ready.set()
        if not self._ready.is_set():
            self._failure = self._process.wait() or 1
            self._ready.set()
        elif not self._stopping:
            self._ended()
