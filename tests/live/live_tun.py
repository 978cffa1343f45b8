"""``castcore tun`` between two networks, as live tests run it: the command itself, read line by line."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from command import CASTCORE
from live.networks import Network, started

ACCESS, CORE = "access0", "core0"
UE, SERVER = "10.45.0.2", "198.51.100.2"
UE6, SERVER6 = "2001:db8:45::2", "2001:db8:a::2"
FROM_UES = ("10.45.0.0/16", "2001:db8:45::/48")
FROM_SERVERS = ("198.51.100.0/24", "2001:db8:a::/48")


class Tun:
    """A running ``castcore tun``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.ready: dict[str, Any] = {}
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def line(self, timeout_s: float = 30) -> dict[str, Any]:
        """The next line; AssertionError when there is none any more."""
        line = self._lines.get(timeout=timeout_s)
        assert line is not None, f"castcore tun ended with {self.process.wait()}"
        read: dict[str, Any] = json.loads(line)
        return read

    def seen(self) -> list[dict[str, Any]]:
        """The lines that are there already."""
        lines = []
        while not self._lines.empty():
            lines.append(self.line())
        return lines

    def final(self) -> dict[str, Any]:
        """Ends it: its last line, with the counters of the whole run."""
        self.process.send_signal(signal.SIGTERM)
        line = self.line()
        while not line.get("final"):
            line = self.line()
        assert self.process.wait(timeout=30) == 0
        return line


@contextmanager
def tun_between(access: Network, core: Network, *options: object) -> Iterator[Tun]:
    """``castcore tun`` with a device in each network and the addresses above; the hosts reach each other through it."""
    addresses = [
        *("--address", f"access={UE}/32", "--address", f"access={UE6}/128"),
        *("--address", f"core={SERVER}/32", "--address", f"core={SERVER6}/128"),
    ]
    routes = [word for each in FROM_SERVERS for word in ("--route", f"access={each}")]
    routes += [word for each in FROM_UES for word in ("--route", f"core={each}")]
    devices = ("--access", f"{ACCESS}@{access.name}", "--core", f"{CORE}@{core.name}")
    with started(CASTCORE, "tun", *devices, *addresses, *routes, *options, "--json") as process:
        tun = Tun(process)
        tun.ready = tun.line()
        assert tun.ready["ready"] is True
        yield tun


def rules_file(directory: Path, *rules: str) -> Path:
    """A rules file of tables, each given by its lines."""
    path = directory / "rules.toml"
    path.write_text("\n".join(f"[[rule]]\n{rule}" for rule in rules))
    return path
