"""What runs beside castcore: C programs, compiled first, and processes that do a pass when they are asked to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

DPDK = Path(__file__).parent / "dpdk"
HUGE_PAGES = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
HUGE_PAGE_BYTES = 2 << 20
# One core for everything that is timed; the last one, since the first has the interrupts.
CORE = max(os.sched_getaffinity(0))


class Missing(Exception):
    """A peer that is not there; what to install."""


def compiled(source: str, directory: Path) -> Path:
    """The program of one of the C sources in dpdk/, for this very machine.

    Raises Missing where a compiler or DPDK is not installed.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Missing(f"{source}: there is no C compiler: install gcc")
    flags, libraries = [], []
    if source == "meter.c":
        asked = (
            subprocess.run(["pkg-config", "--cflags", "libdpdk"], capture_output=True, text=True, check=False)
            if shutil.which("pkg-config")
            else None
        )
        if asked is None or asked.returncode != 0:
            raise Missing("DPDK is left out: install libdpdk-dev and pkg-config (Debian) to have it beside")
        flags = asked.stdout.split()
        libraries = ["-Wl,--as-needed", "-lrte_hash", "-lrte_meter", "-lrte_eal"]
    program = directory / source.removesuffix(".c")
    # The machine's own flags come last: they stand above what pkg-config says of DPDK's.
    command = [compiler, "-O3", *flags, "-march=native", str(DPDK / source), "-o", str(program), *libraries]
    subprocess.run(command, check=True)
    return program


@contextmanager
def serving(program: Path, *words: str) -> Iterator[str]:
    """A Python program that serves and prints its address as a line of JSON, until its input ends: the address."""
    command = [sys.executable, str(program), *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["address"]
        finally:
            process.communicate(timeout=30)


class OnDemand:
    """A process on the one core that prints a line of JSON when it is ready and one after each pass asked for."""

    def __init__(self, command: Sequence[object]) -> None:
        self._process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {CORE}),
        )
        self.ready = self._answer()

    def run_pass(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args!r} ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Its input ends, and so does it.
        self._process.communicate(timeout=60)


@contextmanager
def huge_pages(wanted_bytes: int) -> Iterator[None]:
    """Has the system keep huge pages ready, where it lets us; as many as before afterwards."""
    pages = HUGE_PAGES / "nr_hugepages"
    if not os.access(pages, os.W_OK):
        yield
        return
    before = int(pages.read_text())
    in_use = before - int((HUGE_PAGES / "free_hugepages").read_text())
    pages.write_text(str(max(before, in_use + wanted_bytes // HUGE_PAGE_BYTES)))
    try:
        yield
    finally:
        pages.write_text(str(before))
